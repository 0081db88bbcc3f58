use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message, client::IntoClientRequest, http::header, protocol::WebSocketConfig,
    },
};

use super::{Description, MESSAGE_LIMIT, VERSION};

/// A connection to a running node, for programs that wait for each answer.
pub struct Client {
    runtime: Runtime,
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Client {
    /// Connects to the node that has written `control.json` with this text.
    pub fn connect(description: &str) -> Result<Self, ControlError> {
        let description: Description =
            serde_json::from_str(description).map_err(|_| ControlError::OtherVersion)?;
        if description.version != VERSION {
            return Err(ControlError::OtherVersion);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ControlError::System)?;
        let socket = runtime.block_on(async {
            timeout(PATIENCE, open(&description)).await.map_err(|_| ControlError::Silent)?
        })?;
        Ok(Self { runtime, socket, last_id: 0 })
    }

    /// Asks for `request`, an object with a `command`, and waits for its answer. Events that come
    /// meanwhile are passed over.
    pub fn request(&mut self, mut request: Value) -> Result<Value, ControlError> {
        self.last_id += 1;
        let id = Value::from(self.last_id);
        request["id"] = id.clone();
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            let text = Message::Text(request.to_string().into());
            let exchange = async {
                socket.send(text).await.map_err(|_| ControlError::Ended)?;
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

    /// The next event, however long it takes; after `subscribe` was asked for.
    pub fn next_event(&mut self) -> Result<Value, ControlError> {
        self.runtime.block_on(receive(&mut self.socket))
    }
}

async fn open(description: &Description) -> Result<WebSocketStream<TcpStream>, ControlError> {
    let stream =
        TcpStream::connect(description.address).await.map_err(|_| ControlError::NotRunning)?;
    let mut request = format!("ws://{}/", description.address)
        .into_client_request()
        .map_err(|_| ControlError::OtherVersion)?;
    let bearer = format!("Bearer {}", description.token);
    let bearer = bearer.parse().map_err(|_| ControlError::OtherVersion)?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) if response.status() == 503 => {
            Err(ControlError::Refused("too many programs are connected to this node".to_owned()))
        }
        // The port is another program's by now, or another node's.
        Err(_) => Err(ControlError::NotRunning),
    }
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

/// Why a running node could not be asked, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody listens where the file says.
    #[error("no node runs here: start one with `hark talk`")]
    NotRunning,
    /// Something else listens there.
    #[error("the running node is of another version of Hark: restart it")]
    OtherVersion,
    /// It took longer than a node ever takes.
    #[error("the running node does not answer: restart it")]
    Silent,
    /// It ended before it answered.
    #[error("the node has ended")]
    Ended,
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// The system gave no means to connect.
    #[error("cannot connect to the running node: {0}")]
    System(std::io::Error),
}

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
