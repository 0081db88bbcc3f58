use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, error::ProtocolError, protocol::WebSocketConfig},
};

use super::{Description, MESSAGE_LIMIT, VERSION};
use crate::{
    random::SystemRandom,
    token::{ApiToken, Nonces, Prover, is_nonce, nonce},
};

/// A connection to a running node, for programs that wait for each answer.
pub struct Client {
    runtime: Runtime,
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Client {
    /// Connects to the node that has written `description` to `control.json`.
    pub fn connect(description: &str) -> Result<Self, ControlError> {
        let description: Description =
            serde_json::from_str(description).map_err(|_| ControlError::OtherVersion)?;
        if description.version != VERSION {
            return Err(ControlError::OtherVersion);
        }
        let token = ApiToken::read(&description.token).ok_or(ControlError::OtherVersion)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ControlError::System)?;
        let socket = runtime.block_on(async {
            let open = open(description.address, &token);
            timeout(PATIENCE, open).await.map_err(|_| ControlError::Silent)?
        })?;
        Ok(Self { runtime, socket, last_id: 0 })
    }

    /// Sends `request`, an object with a `command`, and waits for its answer. Events that arrive in
    /// the meantime are skipped.
    pub fn request(&mut self, mut request: Value) -> Result<Value, ControlError> {
        self.last_id += 1;
        let id = Value::from(self.last_id);
        request["id"] = id.clone();
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            let exchange = async {
                send(socket, &request).await?;
                loop {
                    let answer = receive(socket).await?;
                    if answer["id"] == id {
                        return Ok(answer);
                    }
                }
            };
            let answer = timeout(PATIENCE, exchange).await.map_err(|_| ControlError::Silent)??;
            match answer["error"].as_str() {
                Some(error) => Err(ControlError::Refused(error.to_owned())),
                None => Ok(answer),
            }
        })
    }

    /// Waits for the next event, without a time limit. `subscribe` must have been requested before.
    pub fn next_event(&mut self) -> Result<Value, ControlError> {
        self.runtime.block_on(receive(&mut self.socket))
    }
}

/// Tries until the node lets this client in. If many others connect at the same time, the node may
/// end a new connection without an answer.
async fn open(
    address: SocketAddr,
    token: &ApiToken,
) -> Result<WebSocketStream<TcpStream>, ControlError> {
    loop {
        match enter(address, token).await {
            Err(ControlError::Ended) => tokio::time::sleep(AGAIN).await,
            outcome => return outcome,
        }
    }
}

/// Connects. The client reveals nothing about the token before the other end has proven that it has
/// it: if the node has ended, another program may listen at its address.
async fn enter(
    address: SocketAddr,
    token: &ApiToken,
) -> Result<WebSocketStream<TcpStream>, ControlError> {
    let stream = TcpStream::connect(address).await.map_err(|_| ControlError::NotRunning)?;
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT));
    let connected = client_async_with_config(format!("ws://{address}/"), stream, Some(config));
    let (mut socket, _) = connected.await.map_err(|error| match error {
        tungstenite::Error::Io(_)
        | tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => ControlError::Ended,
        // Another program uses the port by now.
        _ => ControlError::NotRunning,
    })?;
    let client = nonce(&SystemRandom);
    send(&mut socket, &json!({"nonce": client})).await?;
    let answer = receive(&mut socket).await?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    let nonces = Nonces { client: &client, node: text("nonce") };
    if !is_nonce(nonces.node) || !token.is_proof(text("proof"), Prover::Node, nonces) {
        // Another program or another node uses the port by now.
        return Err(ControlError::NotRunning);
    }
    send(&mut socket, &json!({"proof": token.prove(Prover::Client, nonces)})).await?;
    let welcome = receive(&mut socket).await?;
    match welcome["error"].as_str() {
        Some(error) => Err(ControlError::Refused(error.to_owned())),
        None => Ok(socket),
    }
}

async fn send(
    socket: &mut WebSocketStream<TcpStream>,
    message: &Value,
) -> Result<(), ControlError> {
    let text = Message::Text(message.to_string().into());
    socket.send(text).await.map_err(|_| ControlError::Ended)
}

async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Result<Value, ControlError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map_err(|_| ControlError::OtherVersion);
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(ControlError::Ended),
            Some(Ok(_)) => {}
        }
    }
}

/// The reason why a running node could not be asked, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No node of this organisation listens at the address in the file.
    #[error("no node runs here: start one with `hark talk`")]
    NotRunning,
    /// No node runs for what was asked for, but others do. The line names them.
    #[error("{0}")]
    RunsElsewhere(String),
    /// The file or the node's answer is not of this version of Hark.
    #[error("the running node is of another version of Hark: restart it")]
    OtherVersion,
    /// The node took longer than a node ever takes.
    #[error("the running node does not answer: restart it")]
    Silent,
    /// The node ended before it answered.
    #[error("the node has ended")]
    Ended,
    /// The node refused the request.
    #[error("{0}")]
    Refused(String),
    /// The system failed to provide a means to connect.
    #[error("cannot connect to the running node: {0}")]
    System(std::io::Error),
}

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before the next try, after the node has ended a connection without an answer.
const AGAIN: Duration = Duration::from_millis(20);
