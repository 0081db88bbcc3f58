use std::{
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
    snapshot::{Changes, Command, Snapshot, TalkTo, TicketRequest},
    token::{ApiToken, Nonces, Prover, is_nonce, nonce},
};

/// The running local API. It ends when it is dropped.
pub struct ControlServer {
    description: Description,
    task: JoinHandle<()>,
}

impl ControlServer {
    /// Listens on a free port of the loopback interface. Call it on a tokio runtime.
    pub async fn start(node: Arc<dyn Controlled>, random: &dyn Random) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token = ApiToken::generate(random);
        let address = listener.local_addr()?;
        let description = Description { version: VERSION, address, token: token.text().to_owned() };
        let door = Arc::new(Door { node, address, token });
        Ok(Self { description, task: tokio::spawn(listen(listener, door)) })
    }

    /// The text of `control.json`. It contains the token, so only the owner may read it.
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
    /// Whether a program of this machine asks, and not a web page in its browser. A page cannot
    /// omit its origin. A page that reaches us through a name of its own shows that name as the
    /// host.
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
                // The reason may be that too many files are open, which passes.
                tracing::warn!(%error, "no connection to the local API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The talk keys that a connection has pressed. They are released when it ends, however it ends.
struct Held {
    node: Arc<dyn Controlled>,
    /// The name of each key, or the target that was pressed without one, in the order of presses.
    keys: Vec<(Option<String>, Option<TalkTo>)>,
}

impl Held {
    /// Notes the key that a successful request has pressed or released.
    fn note(&mut self, text: &str) {
        let Ok(Command::Ptt { down, key, to, for_secs, .. }) = serde_json::from_str(text) else {
            return;
        };
        // A key that is pressed for a limited time is released by itself.
        let pressed = (key, to);
        if !down || for_secs.is_some() {
            self.keys.retain(|it| *it != pressed);
        } else if self.keys.len() < HELD_MAX && !self.keys.contains(&pressed) {
            self.keys.push(pressed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (key, to) in std::mem::take(&mut self.keys) {
            // If the node has ended, there is no key to release.
            let _ = self.node.command(Command::Ptt {
                down: false,
                key,
                to,
                for_secs: None,
                tail_ms: None,
            });
        }
    }
}

async fn serve(door: Arc<Door>, stream: TcpStream, place: HeldPlace) {
    let Ok(Some(mut socket)) = timeout(PROOF_PATIENCE, enter(&door, stream, &place)).await else {
        return;
    };
    let mut events: Option<mpsc::Receiver<StampedEvent>> = None;
    let mut pictures: Option<Pictures> = None;
    let mut held = Held { node: Arc::clone(&door.node), keys: Vec::new() };
    loop {
        let text = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let (answer, subscribes) = answer(&*door.node, &text);
                    if answer["ok"] == true {
                        held.note(&text);
                    }
                    if let Some(wanted) = subscribes {
                        events.get_or_insert_with(|| subscribe(&*door.node));
                        if wanted.snapshots {
                            pictures.get_or_insert_with(|| Pictures::new(&*door.node));
                        }
                    }
                    Some(answer.to_string())
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => None,
            },
            Some(event) = next(&mut events) => serde_json::to_string(&event).ok(),
            () = changed(&mut pictures) => {
                pictures.as_mut().and_then(|it| it.take(&*door.node))
            }
        };
        let Some(text) = text else { continue };
        if socket.send(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
}

/// The connection of a program that has proven that it has the token.
async fn enter(
    door: &Door,
    stream: TcpStream,
    place: &HeldPlace,
) -> Option<WebSocketStream<TcpStream>> {
    // The library requires this error type.
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
            // From here on the program may send longer messages. It sends none before it has this
            // answer.
            let (stream, limits) = (socket.into_inner(), limits(MESSAGE_LIMIT));
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits));
            let mut socket = socket.await;
            let welcome = json!({"ok": true}).to_string();
            return socket.send(Message::Text(welcome.into())).await.is_ok().then_some(socket);
        }
    };
    let refusal = failure(Value::Null, refusal).to_string();
    // A program that does not wait for the refusal needs no answer.
    let _ = socket.send(Message::Text(refusal.into())).await;
    None
}

fn limits(message: usize) -> WebSocketConfig {
    let config = WebSocketConfig::default().read_buffer_size(READ_AT_ONCE);
    config.max_message_size(Some(message)).max_frame_size(Some(message))
}

/// Both ends prove that they have the token, the node first. So a program that listens where a node
/// has ended learns nothing about the programs that connect there.
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

/// The events of the node. A thread takes them, since the node's channel is a blocking one. The
/// thread ends with the node or, at the next event, after the client has ended.
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

/// The snapshots that a program is sent. One that reads too slowly misses those in between.
struct Pictures {
    changes: Changes,
    /// Whether none was sent yet.
    first: bool,
    shown: Option<Arc<Snapshot>>,
}

impl Pictures {
    fn new(node: &dyn Controlled) -> Self {
        Self { changes: node.changes(), first: true, shown: None }
    }

    /// The newest snapshot as a message, unless a person sees no difference from the last one.
    fn take(&mut self, node: &dyn Controlled) -> Option<String> {
        self.first = false;
        let newest = node.snapshot()?;
        if self.shown.as_ref().is_some_and(|shown| newest.looks_like(shown)) {
            return None;
        }
        let message = json!({"event": "snapshot", "snapshot": &*newest});
        self.shown = Some(newest);
        Some(message.to_string())
    }
}

async fn changed(pictures: &mut Option<Pictures>) {
    match pictures {
        Some(Pictures { first: true, .. }) => {}
        Some(Pictures { changes, .. }) => {
            // A node that is gone ends its connections.
            if !changes.changed().await {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn next(events: &mut Option<mpsc::Receiver<StampedEvent>>) -> Option<StampedEvent> {
    match events {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// What a program has asked to be sent from now on, besides events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whether each state that looks different is sent as well.
    pub snapshots: bool,
}

/// Returns the answer to a request, and what the request asks to be sent from now on.
pub fn answer(node: &dyn Controlled, text: &str) -> (Value, Option<Subscription>) {
    let Ok(request) = serde_json::from_str::<Value>(text) else {
        return (failure(Value::Null, "a request is one JSON object"), None);
    };
    let id = request["id"].clone();
    match request["command"].as_str() {
        Some("status") => match node.snapshot() {
            Some(snapshot) => (json!({"id": id, "ok": true, "status": &*snapshot}), None),
            None => (failure(id, STARTING), None),
        },
        Some("subscribe") => match &request["snapshots"] {
            Value::Null => (json!({"id": id, "ok": true}), Some(Subscription { snapshots: false })),
            Value::Bool(snapshots) => {
                (json!({"id": id, "ok": true}), Some(Subscription { snapshots: *snapshots }))
            }
            _ => (failure(id, "snapshots is true or false"), None),
        },
        Some("invite") => (invite(node, id, &request), None),
        Some("charter") => (charter(node, id, request), None),
        _ => (command(node, id, request), None),
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

/// The answer of a node that does not know its organisation yet.
const STARTING: &str = "the node is starting: ask again in a moment";

/// Clients at one time. A further one is refused until another has gone.
const CONNECTIONS_MAX: usize = 16;

/// Connections that have not proven yet that they have the token. If one more comes, the oldest
/// ends. Other accounts of the machine can make any number of connections. A client needs only a
/// few milliseconds, and tries again if its connection was ended.
const UNPROVEN_MAX: usize = 64;

/// Longest message in bytes before the token is proven. A connection that sends a longer one is
/// closed.
const PROOF_LIMIT: usize = 1024;

/// Bytes that are read from a connection at once.
const READ_AT_ONCE: usize = 8 * 1024;

/// How long a client may take to prove that it has the token, before its connection is ended.
const PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Events that wait for a client that reads slowly. Further ones wait in the node's own channel,
/// which drops and counts what it cannot hold.
const EVENTS_WAITING_MAX: usize = 64;

/// Keys that are released with a connection: more than a node has. A further one is not noted.
const HELD_MAX: usize = 64;

/// The commands of the API.
pub(super) const COMMANDS: [&str; 29] = [
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
    "master",
    "voice",
    "processing",
    "cues",
    "side_tone",
    "verify",
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
