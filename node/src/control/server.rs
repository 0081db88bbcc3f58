use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use hark_keys::Random;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, StatusCode, header},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Controlled, Description, MESSAGE_LIMIT, VERSION};
use crate::{
    event::StampedEvent,
    places::{HeldPlace, Places},
    random::SystemRandom,
    request::CommandOutcome,
    snapshot::{Command, TicketRequest},
    token::{ApiToken, Nonces, Prover, is_nonce, nonce},
};

/// The running local API; ends when dropped.
pub struct ControlServer {
    description: Description,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Listens on a free port of the loopback interface. To be called within a tokio runtime.
    pub async fn start(node: Arc<dyn Controlled>, random: &dyn Random) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token = ApiToken::generate(random);
        let address = listener.local_addr()?;
        let description = Description { version: VERSION, address, token: token.text().to_owned() };
        let door = Arc::new(Door { node, address, token });
        Ok(Self { description, task: tokio::spawn(listen(listener, door)) })
    }

    /// The text of `control.json`. It holds the token: for the owner's eyes only.
    pub fn description(&self) -> String {
        serde_json::to_string(&self.description).expect("text and numbers are JSON")
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Door {
    node: Arc<dyn Controlled>,
    address: SocketAddr,
    token: ApiToken,
}

impl Door {
    /// Whether a program on this machine asks, not a web page in its browser: pages cannot leave
    /// out their origin, and one that reaches us through a name of its own shows it as the host.
    fn is_local(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let port = self.address.port();
        let host = text(header::HOST).is_some_and(|host| {
            host == format!("127.0.0.1:{port}") || host == format!("localhost:{port}")
        });
        host && !headers.contains_key(header::ORIGIN)
    }
}

async fn listen(listener: TcpListener, door: Arc<Door>) {
    let places = Places::new(UNPROVEN_MAX, CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => places.serve(|place| serve(Arc::clone(&door), stream, place)),
            Err(error) => {
                // Such as too many open files: it passes.
                tracing::warn!(%error, "no connection to the local API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The keys to talk that a connection holds: they go up when it ends, however it ends.
struct Held {
    node: Arc<dyn Controlled>,
    keys: BTreeSet<Option<String>>,
}

impl Held {
    /// Remembers what the request of this text, which was done, has pressed or let go.
    fn note(&mut self, text: &str) {
        let Ok(Command::Ptt { down, key, for_secs }) = serde_json::from_str(text) else { return };
        // One that is held for some time goes up by itself.
        if down && for_secs.is_none() && self.keys.len() < HELD_MAX {
            self.keys.insert(key);
        } else {
            self.keys.remove(&key);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for key in std::mem::take(&mut self.keys) {
            // A node that has ended holds nothing.
            let _ = self.node.command(Command::Ptt { down: false, key, for_secs: None });
        }
    }
}

async fn serve(door: Arc<Door>, stream: TcpStream, place: HeldPlace) {
    let Ok(Some(mut socket)) = timeout(PROOF_PATIENCE, enter(&door, stream, &place)).await else {
        return;
    };
    let mut events: Option<mpsc::Receiver<StampedEvent>> = None;
    let mut held = Held { node: Arc::clone(&door.node), keys: BTreeSet::new() };
    loop {
        let text = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let (answer, subscribes) = answer(&*door.node, &text);
                    if answer["ok"] == true {
                        held.note(&text);
                    }
                    if subscribes && events.is_none() {
                        events = Some(subscribe(&*door.node));
                    }
                    Some(answer.to_string())
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => None,
            },
            Some(event) = next(&mut events) => serde_json::to_string(&event).ok(),
        };
        let Some(text) = text else { continue };
        if socket.send(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
}

/// The connection of a program that has proven to have the token.
async fn enter(
    door: &Door,
    stream: TcpStream,
    place: &HeldPlace,
) -> Option<WebSocketStream<TcpStream>> {
    // The library wants this very error.
    #[expect(clippy::result_large_err)]
    let judge = |request: &Request, response: Response| {
        if door.is_local(request.headers()) {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(Some("not for web pages\n".to_owned()));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        Err(refusal)
    };
    let accepted = accept_hdr_async_with_config(stream, judge, Some(limits(PROOF_LIMIT)));
    let mut socket = accepted.await.ok()?;
    let refusal = match shows_proof(&door.token, &mut socket).await {
        false => "no proof of the token",
        true if !place.prove() => "too many programs are connected to this node",
        true => {
            // It may send longer messages from here on, and sends none before it has this answer.
            let (stream, limits) = (socket.into_inner(), limits(MESSAGE_LIMIT));
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits));
            let mut socket = socket.await;
            let welcome = json!({"ok": true}).to_string();
            return socket.send(Message::Text(welcome.into())).await.is_ok().then_some(socket);
        }
    };
    let refusal = failure(Value::Null, refusal).to_string();
    // Whoever does not wait for the refusal knows it anyway.
    let _ = socket.send(Message::Text(refusal.into())).await;
    None
}

fn limits(message: usize) -> WebSocketConfig {
    let config = WebSocketConfig::default().read_buffer_size(READ_AT_ONCE);
    config.max_message_size(Some(message)).max_frame_size(Some(message))
}

/// Both ends prove that they have the token, the node first: what listens where a node has ended
/// learns nothing of the programs that come there.
async fn shows_proof(token: &ApiToken, socket: &mut WebSocketStream<TcpStream>) -> bool {
    let Some(hello) = receive(socket).await else { return false };
    let Some(client) = hello["nonce"].as_str().filter(|text| is_nonce(text)) else { return false };
    let node = nonce(&SystemRandom);
    let nonces = Nonces { client, node: &node };
    let proof = json!({"nonce": node, "proof": token.prove(Prover::Node, nonces)});
    if socket.send(Message::Text(proof.to_string().into())).await.is_err() {
        return false;
    }
    let Some(answer) = receive(socket).await else { return false };
    let shown = answer["proof"].as_str().unwrap_or_default();
    token.is_proof(shown, Prover::Client, nonces)
}

/// The next message, if it is JSON.
async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    match socket.next().await? {
        Ok(Message::Text(text)) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

/// Events of the node, taken by a thread of their own, as the node's channel is a blocking one. The
/// thread ends with the node or, at the next event, after the client.
fn subscribe(node: &dyn Controlled) -> mpsc::Receiver<StampedEvent> {
    let events = node.subscribe();
    let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    std::thread::spawn(move || {
        for event in events {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

async fn next(events: &mut Option<mpsc::Receiver<StampedEvent>>) -> Option<StampedEvent> {
    match events {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// The answer to a request, the text of a message, and whether it asks for events.
pub fn answer(node: &dyn Controlled, text: &str) -> (Value, bool) {
    let Ok(request) = serde_json::from_str::<Value>(text) else {
        return (failure(Value::Null, "a request is one JSON object"), false);
    };
    let id = request["id"].clone();
    match request["command"].as_str() {
        Some("status") => match node.snapshot() {
            Some(snapshot) => (json!({"id": id, "ok": true, "status": &*snapshot}), false),
            None => (failure(id, STARTING), false),
        },
        Some("subscribe") => (json!({"id": id, "ok": true}), true),
        Some("invite") => (invite(node, id, &request), false),
        Some("charter") => (charter(node, id, request), false),
        _ => (command(node, id, request), false),
    }
}

fn invite(node: &dyn Controlled, id: Value, request: &Value) -> Value {
    let number = |name: &str, default: u64| match &request[name] {
        Value::Null => Some(default),
        value => value.as_u64(),
    };
    let uses = number("uses", 0).and_then(|uses| u8::try_from(uses).ok());
    let expires = match &request["expires_secs"] {
        Value::Null => Some(None),
        value => value.as_u64().filter(|it| (1..=LONGEST_EXPIRY_SECS).contains(it)).map(Some),
    };
    let (Some(uses), Some(expires)) = (uses, expires) else {
        return failure(id, "uses are 0 to 255, expires_secs 1 to a year's");
    };
    let role = match &request["role"] {
        Value::Null => None,
        Value::String(role) => Some(role.clone()),
        _ => return failure(id, "a role is called by its name"),
    };
    let flag = |name: &str| match &request[name] {
        Value::Null => Some(false),
        value => value.as_bool(),
    };
    let (Some(device), Some(ask)) = (flag("device"), flag("ask")) else {
        return failure(id, "device and ask are true or false");
    };
    let lasting = expires.map(Duration::from_secs);
    let ticket = match node.ticket(TicketRequest { uses, lasting, role, device, ask }) {
        Ok(ticket) => ticket,
        Err(error) => return failure(id, &error.to_string()),
    };
    json!({
        "id": id,
        "ok": true,
        "ticket": ticket.to_string(),
        "expires": ticket.invite().expires.as_secs(),
        "uses": ticket.invite().uses,
        "role": ticket.invite().role.map(|role| role.to_string()),
        "ask": ticket.invite().asks,
    })
}

fn charter(node: &dyn Controlled, id: Value, mut request: Value) -> Value {
    match serde_json::from_value(request["request"].take()) {
        Ok(request) => match node.charter(request) {
            Ok(answer) => json!({"id": id, "ok": true, "answer": answer}),
            Err(error) => failure(id, &error.to_string()),
        },
        Err(error) => failure(id, &format!("no such request: {error}")),
    }
}

fn command(node: &dyn Controlled, id: Value, request: Value) -> Value {
    let name = request["command"].as_str().unwrap_or_default().to_owned();
    let command: Command = match serde_json::from_value(request) {
        Ok(command) => command,
        Err(error) if COMMANDS.contains(&&*name) => {
            return failure(id, &format!("{name}: {error}"));
        }
        Err(_) => {
            let known = COMMANDS.join(", ");
            return failure(id, &format!("no such command: {name:?}: there are {known}"));
        }
    };
    match node.command(command) {
        Ok(CommandOutcome { deaf: None }) => json!({"id": id, "ok": true}),
        Ok(CommandOutcome { deaf: Some(deaf) }) => {
            json!({"id": id, "ok": true, "note": deaf.to_string(), "deaf": deaf})
        }
        Err(error) => failure(id, &error.to_string()),
    }
}

fn failure(id: Value, error: &str) -> Value {
    json!({"id": id, "ok": false, "error": error})
}

/// What is asked of a node that does not know its organisation yet.
const STARTING: &str = "the node is starting: ask again in a moment";

/// Clients at once; one more is refused until another has gone.
const CONNECTIONS_MAX: usize = 16;

/// Connections that have not proven yet that they have the token; the oldest ends when one more
/// comes. Other accounts of the machine can make any number of them: a client needs a few
/// milliseconds, and tries again where it was ended.
const UNPROVEN_MAX: usize = 64;

/// Bytes of a message before the token is proven; a connection that sends a longer one is closed.
const PROOF_LIMIT: usize = 1024;

/// Bytes that are read from a connection at once.
const READ_AT_ONCE: usize = 8 * 1024;

/// How long a client may take to prove that it has the token before it is let go.
const PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// Before another connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Events on their way to a client that reads slowly; then they wait in the node's own channel,
/// which loses and counts what it cannot hold.
const EVENTS_WAITING_MAX: usize = 64;

/// Keys that go up with a connection: more than a node has. A further one is not remembered.
const HELD_MAX: usize = 64;

/// All that can be asked for.
pub(super) const COMMANDS: [&str; 23] = [
    "status",
    "subscribe",
    "invite",
    "charter",
    "mute",
    "deafen",
    "away",
    "ptt",
    "listen",
    "net",
    "talk_to",
    "follow",
    "key",
    "ducking",
    "transmit",
    "volunteer",
    "volume",
    "move",
    "front",
    "admit",
    "refuse",
    "profile",
    "quit",
];

const LONGEST_EXPIRY_SECS: u64 = 366 * 24 * 3600;
