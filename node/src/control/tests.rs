use std::{net::SocketAddr, sync::Mutex};

use futures::{SinkExt, StreamExt};
use hark_keys::{DeviceId, DeviceKey, OrganisationId, SeededRandom, Terms, UnixTime};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, handshake::server};

use super::*;
use crate::{
    clock::Clock,
    event::{DeviceText, Event, Path, PeerStats},
    network::Publisher,
    request::{CommandOutcome, RequestError},
    snapshot::{MasterVolumes, PeerView, TransmitMode, Verification},
    token::{ApiToken, Nonces, Prover},
};

struct Fake {
    commands: Mutex<Vec<Command>>,
    subscribers: Mutex<Vec<mpsc::SyncSender<StampedEvent>>>,
    publisher: Arc<Publisher>,
}

fn device(number: u8) -> DeviceId {
    DeviceKey::from_secret(&[number; 32]).id()
}

/// What the node of Ann shows, who is with Bob.
fn picture() -> Snapshot {
    let stats = PeerStats {
        device: DeviceText(device(2)),
        path: Path::Direct,
        rtt_ms: 1.0,
        loss_percent: 0.0,
        jitter_ms: 0.0,
        playout_delay_ms: 20.0,
        frames_received: 0,
        frames_concealed: 0,
        frames_late: 0,
        frames_recovered: 0,
        samples_inserted: 0,
        samples_removed: 0,
    };
    let bob = PeerView {
        name: "Bob".to_owned(),
        member: String::new(),
        roles: Vec::new(),
        silenced: false,
        muted: false,
        deafened: false,
        away: false,
        whispers: false,
        verification: Verification::Unverified,
        away_secs: None,
        former: false,
        address: String::new(),
        reachable: true,
        why_relayed: None,
        talking: false,
        talking_on: Vec::new(),
        level_dbfs: -90.0,
        volume: 1.0,
        stats,
    };
    Snapshot {
        device: DeviceText(device(1)),
        name: "Ann".to_owned(),
        organisation: "Kestrel".to_owned(),
        organisation_id: String::new(),
        all_presets: Vec::new(),
        master: MasterVolumes::default(),
        front: true,
        silenced: Vec::new(),
        unheard: false,
        presets: Vec::new(),
        nets: Vec::new(),
        profile: "default".to_owned(),
        profiles: vec!["default".to_owned(), "pilot".to_owned()],
        talk_to: vec!["squad".to_owned()],
        keys: Vec::new(),
        transmit: TransmitMode::Vad,
        muted: false,
        deafened: false,
        away: false,
        transmitting: false,
        level_dbfs: -90.0,
        copies: 0,
        processing: Default::default(),
        coding: Default::default(),
        cues: Default::default(),
        side_tone: Default::default(),
        cpu_percent: 0.0,
        peers: vec![bob],
        other_members: 0,
        roster: Vec::new(),
        unconfirmed: Vec::new(),
        router: None,
        checked: Vec::new(),
        sanctions: Vec::new(),
        waiting: Vec::new(),
        trouble: None,
    }
}

impl Controlled for Fake {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.publisher.snapshot()
    }

    fn changes(&self) -> Changes {
        self.publisher.changes()
    }

    fn charter(&self, _: Request) -> Result<Outcome, RequestError> {
        Err(RequestError::Starting)
    }

    fn command(&self, command: Command) -> Result<CommandOutcome, RequestError> {
        if matches!(command, Command::Move { .. }) {
            return Err(RequestError::Unseen { name: "Cat".to_owned(), near: Vec::new() });
        }
        self.commands.lock().expect("no test panics within").push(command);
        Ok(CommandOutcome::default())
    }

    fn subscribe(&self) -> mpsc::Receiver<StampedEvent> {
        let (sender, receiver) = mpsc::sync_channel(8);
        let event = Event::Stopped { reason: "quit".to_owned() };
        sender.send(StampedEvent { at_us: 7, event, org: None }).expect("room");
        self.subscribers.lock().expect("no test panics within").push(sender);
        receiver
    }

    fn ticket(&self, request: TicketRequest) -> Result<Ticket, RequestError> {
        let TicketRequest { uses, lasting, role, .. } = request;
        if role.is_some_and(|role| role != "Pilot") {
            return Err(RequestError::Hidden);
        }
        let door = hark_keys::Door { device: device(1), addresses: Vec::new() };
        let expires = UnixTime::from_secs(lasting.map_or(24 * 60 * 60, |it| it.as_secs()));
        Ok(Ticket::issue(
            &DeviceKey::from_secret(&[1; 32]),
            OrganisationId::from_bytes([9; 32]),
            "Kestrel",
            Terms { uses, ..Terms::until(expires) },
            vec![door],
            &SeededRandom::new(3),
        ))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

struct World {
    description: String,
    node: Arc<Fake>,
    /// The server, which ends with its thread when this is dropped.
    running: Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl World {
    fn new() -> Self {
        let publisher = Publisher::new(Clock);
        publisher.set_snapshot(picture());
        let node = Fake { commands: Mutex::default(), subscribers: Mutex::default(), publisher };
        let node = Arc::new(node);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (sender, description) = mpsc::channel();
        let controlled: Arc<dyn Controlled> = Arc::clone(&node) as _;
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let server = ControlServer::start(controlled, &SeededRandom::new(1))
                    .await
                    .expect("a free port");
                sender.send(server.description()).expect("awaited");
                let _ = stopped.await;
            });
        });
        let description = description.recv().expect("started");
        Self { description, node, running: Some((stop, thread)) }
    }

    fn stop(&mut self) {
        let (stop, thread) = self.running.take().expect("stopped once");
        drop(stop);
        thread.join().expect("ends well");
    }

    fn description(&self) -> Value {
        serde_json::from_str(&self.description).expect("JSON")
    }

    fn address(&self) -> SocketAddr {
        self.description()["address"].as_str().expect("text").parse().expect("an address")
    }

    fn token(&self) -> ApiToken {
        ApiToken::read(self.description()["token"].as_str().expect("text")).expect("a token")
    }

    /// Connects with the given headers. Fails with the status if the connection is refused.
    fn knock(&self, headers: &[(&'static str, &str)]) -> Result<(), u16> {
        runtime().block_on(async {
            let mut request =
                format!("ws://{}/", self.address()).into_client_request().expect("a request");
            for (name, value) in headers {
                request.headers_mut().insert(*name, value.parse().expect("a header"));
            }
            match tokio_tungstenite::connect_async(request).await {
                Ok(_) => Ok(()),
                Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                    Err(response.status().as_u16())
                }
                Err(error) => panic!("{error}"),
            }
        })
    }

    /// The answers to a program that proves itself by `token` and sends `message`.
    fn say(&self, token: &ApiToken, message: &str) -> Vec<Value> {
        runtime().block_on(async {
            let address = format!("ws://{}/", self.address());
            let (mut socket, _) =
                tokio_tungstenite::connect_async(address).await.expect("connected");
            let client = "c".repeat(64);
            send(&mut socket, json!({"nonce": client}).to_string()).await;
            let node = hear(&mut socket).await.expect("a proof");
            let nonces = Nonces { client: &client, node: node["nonce"].as_str().expect("text") };
            let proof = token.prove(Prover::Client, nonces);
            send(&mut socket, json!({"proof": proof}).to_string()).await;
            let mut heard = vec![hear(&mut socket).await.expect("an answer")];
            send(&mut socket, message.to_owned()).await;
            heard.extend(hear(&mut socket).await);
            heard
        })
    }
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn send(socket: &mut Socket, text: String) {
    // If the program is refused, the connection may be closed already.
    let _ = socket.send(Message::Text(text.into())).await;
}

/// The next message. `None` if the connection has ended.
async fn hear(socket: &mut Socket) -> Option<Value> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).expect("JSON")),
        _ => None,
    }
}

/// A window that is attached polled the node ten times a second, though nothing had changed.
#[test]
fn a_program_is_sent_what_looks_different_and_nothing_else() {
    let world = World::new();
    let mut client = Client::connect(&world.description).expect("connected");
    client.request(json!({"command": "subscribe", "snapshots": true})).expect("subscribed");
    // The fake tells of its end at once.
    let told = [client.next_event().expect("an event"), client.next_event().expect("an event")];
    let first = told.iter().find(|it| it["event"] == "snapshot").expect("the state of now");
    let shown: Snapshot = serde_json::from_value(first["snapshot"].clone()).expect("read back");
    assert!(shown.looks_like(&picture()));

    // A counter is no difference; the name is.
    world.node.publisher.set_snapshot(Snapshot { cpu_percent: 9.0, ..picture() });
    world.node.publisher.set_snapshot(Snapshot { muted: true, ..picture() });
    let second = client.next_event().expect("an event");
    assert_eq!(
        (&second["event"], &second["snapshot"]["muted"]),
        (&json!("snapshot"), &json!(true))
    );
    let refused = client.request(json!({"command": "subscribe", "snapshots": 1})).unwrap_err();
    assert_eq!(refused.to_string(), "snapshots is true or false");
}

#[test]
fn requests_are_answered_by_their_id() {
    let world = World::new();
    let mut client = Client::connect(&world.description).expect("connected");
    let status = client.request(json!({"command": "status"})).expect("answered");
    assert_eq!(status["status"]["peers"][0]["name"], "Bob");
    assert_eq!(status["id"], 1);
    client.request(json!({"command": "mute", "on": true})).expect("done");
    client
        .request(json!({"command": "volume", "device": device(2).to_string(), "gain": 0.5}))
        .expect("done");
    let volume = Command::Volume { device: device(2).to_string(), gain: 0.5 };
    let commands = world.node.commands.lock().expect("unpoisoned").clone();
    assert_eq!(commands, [Command::Mute { on: true }, volume]);

    let ticket = client
        .request(json!({"command": "invite", "uses": 3, "expires_secs": 60}))
        .expect("issued");
    assert_eq!((&ticket["uses"], &ticket["expires"]), (&json!(3), &json!(60)));
    assert!(ticket["ticket"].as_str().expect("text").parse::<Ticket>().is_ok());

    client.request(json!({"command": "subscribe"})).expect("subscribed");
    let event = client.next_event().expect("an event");
    assert_eq!((&event["event"], &event["at_us"]), (&json!("stopped"), &json!(7)));
}

#[test]
fn nonsense_is_refused_and_ends_nothing() {
    let world = World::new();
    let mut client = Client::connect(&world.description).expect("connected");
    let nonsense = [
        json!({"command": "dance"}),
        json!({"command": "mute", "on": "perhaps"}),
        json!({"command": "invite", "uses": 256}),
        json!({"command": "invite", "expires_secs": 0}),
        json!({"command": "invite", "role": 7}),
        json!({"command": "invite", "role": "Admiral"}),
        json!({"command": "profile", "action": "lose", "name": "pilot"}),
        json!({}),
    ];
    for request in nonsense {
        let answer = client.request(request.clone());
        assert!(matches!(answer, Err(ControlError::Refused(_))), "{request}: {answer:?}");
    }
    assert_eq!(*world.node.commands.lock().expect("unpoisoned"), []);
    client.request(json!({"command": "status"})).expect("still answered");
    let heard = world.say(&world.token(), "no JSON");
    assert_eq!(heard[1]["error"], "a request is one JSON object");
}

/// Regression: `{"command": "mute"}` was reported to be no command, and the list omitted the
/// commands that the server itself handles.
#[test]
fn a_refused_request_names_what_is_wrong() {
    let world = World::new();
    let mut client = Client::connect(&world.description).expect("connected");
    let mut refusal = |request: Value| client.request(request).expect_err("refused").to_string();
    assert_eq!(refusal(json!({"command": "mute"})), "mute: missing field `on`");
    let unknown = refusal(json!({"command": "dance"}));
    assert!(unknown.starts_with("no such command: \"dance\": there are status, "), "{unknown}");
    for command in super::server::COMMANDS {
        assert!(unknown.contains(command), "{command}");
        let answer = client.request(json!({"command": command, "on": 7, "uses": 7.5}));
        let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!refused.contains("no such command"), "{command}: {refused}");
    }
}

/// Regression: a wrong value of `cues` was reported to be no command.
#[test]
fn every_command_is_known_by_its_name() {
    let unknown = serde_json::from_value::<Command>(json!({"command": "dance"}));
    let told = unknown.expect_err("no command").to_string();
    let (_, names) = told.split_once("expected one of ").expect("it lists them");
    for name in names.split(", ") {
        let name = name.trim_matches('`');
        assert!(super::server::COMMANDS.contains(&name), "{name}");
    }
}

/// Regression: if a program died with a key pressed, the microphone stayed open for good.
#[test]
fn a_dead_program_left_a_hot_microphone() {
    let world = World::new();
    let mut dying = Client::connect(&world.description).expect("connected");
    let press = |key: Option<&str>, for_secs: Option<u32>| json!({"command": "ptt", "down": true, "key": key, "for_secs": for_secs});
    for request in [press(None, None), press(Some("lead"), None), press(Some("medic"), Some(60))] {
        dying.request(request).expect("pressed");
    }
    dying.request(press(Some("2"), None)).expect("pressed");
    dying.request(json!({"command": "ptt", "down": false, "key": "2"})).expect("let go");
    drop(dying);
    let mut other = Client::connect(&world.description).expect("connected");
    let up = |key: Option<&str>| Command::Ptt {
        down: false,
        key: key.map(str::to_owned),
        to: None,
        for_secs: None,
        tail_ms: None,
    };
    let mut looks = (0..1000).map(|_| {
        other.request(json!({"command": "status"})).expect("answered");
        world.node.commands.lock().expect("unpoisoned").split_off(5)
    });
    let released = looks.find(|commands| !commands.is_empty()).expect("they go up");
    // A key that was released before is not released again, and neither is one with a time limit.
    assert_eq!(released, [up(None), up(Some("lead"))]);
}

#[test]
fn the_token_opens_and_nothing_else() {
    let world = World::new();
    let status = json!({"id": 1, "command": "status"}).to_string();
    let heard = world.say(&world.token(), &status);
    assert_eq!((&heard[0], &heard[1]["ok"]), (&json!({"ok": true}), &json!(true)));
    let other = ApiToken::generate(&SeededRandom::new(2));
    let refused = json!({"id": null, "ok": false, "error": "no proof of the token"});
    assert_eq!(world.say(&other, &status), [refused]);
}

/// A proof of one connection is not valid in another connection.
#[test]
fn who_has_listened_to_a_program_cannot_steer_the_node() {
    let world = World::new();
    runtime().block_on(async {
        let address = format!("ws://{}/", world.address());
        let client = "c".repeat(64);
        let mut said = Vec::new();
        for _ in 0..2 {
            let (mut socket, _) =
                tokio_tungstenite::connect_async(&address).await.expect("connected");
            send(&mut socket, json!({"nonce": client}).to_string()).await;
            let node = hear(&mut socket).await.expect("a proof");
            if said.is_empty() {
                let text = node["nonce"].as_str().expect("text");
                let nonces = Nonces { client: &client, node: text };
                let proof = json!({"proof": world.token().prove(Prover::Client, nonces)});
                said.push(proof.to_string());
                // The node's own proof is not valid as the client's either.
                said.push(json!({"proof": node["proof"]}).to_string());
                send(&mut socket, said[0].clone()).await;
                assert_eq!(hear(&mut socket).await, Some(json!({"ok": true})));
            } else {
                send(&mut socket, said[0].clone()).await;
                assert_eq!(hear(&mut socket).await.expect("refused")["ok"], false);
            }
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(&address).await.expect("connected");
        send(&mut socket, json!({"nonce": client}).to_string()).await;
        let node = hear(&mut socket).await.expect("a proof");
        send(&mut socket, json!({"proof": node["proof"]}).to_string()).await;
        assert_eq!(hear(&mut socket).await.expect("refused")["ok"], false);
    });
}

#[test]
fn web_pages_are_kept_out() {
    let world = World::new();
    let rebound = format!("evil.example:{}", world.address().port());
    let named = format!("localhost:{}", world.address().port());
    assert_eq!(world.knock(&[]), Ok(()));
    assert_eq!(world.knock(&[("host", &named)]), Ok(()));
    assert_eq!(world.knock(&[("host", &rebound)]), Err(403));
    assert_eq!(world.knock(&[("origin", "http://127.0.0.1")]), Err(403));
}

/// Accounts that cannot read the token can connect, as often as they like.
#[test]
fn another_account_cannot_keep_the_owner_out() {
    let world = World::new();
    runtime().block_on(async {
        let address = format!("ws://{}/", world.address());
        let mut idle = Vec::new();
        for _ in 0..100 {
            idle.push(tokio::net::TcpStream::connect(world.address()).await.expect("connected"));
            // Some connections are ended before they are answered.
            let _ = tokio_tungstenite::connect_async(&address).await;
        }
        let held: Vec<_> =
            futures::future::join_all((0..40).map(|_| tokio_tungstenite::connect_async(&address)))
                .await;
        let description = world.description.clone();
        let owner = tokio::task::spawn_blocking(move || {
            let mut client = Client::connect(&description).expect("the owner is let in");
            client.request(json!({"command": "status"})).expect("and answered");
            client
        });
        let mut client = owner.await.expect("no panic");
        // A client that has proven itself stays connected.
        for _ in 0..100 {
            idle.push(tokio::net::TcpStream::connect(world.address()).await.expect("connected"));
        }
        let again = tokio::task::spawn_blocking(move || {
            client.request(json!({"command": "status"})).expect("still answered");
        });
        again.await.expect("no panic");
        drop((held, idle));
    });
}

#[test]
fn more_programs_than_there_is_room_for_are_told_so() {
    let world = World::new();
    let connect = || Client::connect(&world.description);
    let mut all: Vec<_> = (0..16).map(|_| connect().expect("there is room")).collect();
    let Err(ControlError::Refused(reason)) = connect() else { panic!("one too many") };
    assert!(reason.contains("too many programs"), "{reason}");
    all.pop();
    // The node notices a moment later that a client has gone.
    assert!((0..1000).any(|_| connect().is_ok()));
}

/// Another account may listen at the port of a node that has died.
#[test]
fn a_program_at_a_dead_nodes_port_learns_nothing() {
    let mut world = World::new();
    let (address, token) = (world.address(), world.token());
    world.stop();
    let listener = std::net::TcpListener::bind(address).expect("the port is free again");
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            listener.set_nonblocking(true).expect("set");
            let listener = tokio::net::TcpListener::from_std(listener).expect("listens");
            let (stream, _) = listener.accept().await.expect("somebody comes");
            let mut head = Vec::new();
            #[expect(clippy::result_large_err, reason = "the type is the library's")]
            let note = |request: &server::Request, response: server::Response| {
                head = format!("{:?}", request.headers()).into_bytes();
                Ok(response)
            };
            let mut socket =
                tokio_tungstenite::accept_hdr_async(stream, note).await.expect("accepted");
            let mut heard = vec![String::from_utf8(head).expect("text")];
            // Whatever the program answers, it has no proof.
            let proof = json!({"nonce": "a".repeat(64), "proof": "b".repeat(64), "ok": true});
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                heard.push(text.to_string());
                let _ = socket.send(Message::Text(proof.to_string().into())).await;
            }
            heard
        })
    });
    assert!(matches!(Client::connect(&world.description), Err(ControlError::NotRunning)));
    let heard = thread.join().expect("no panic");
    assert_eq!(heard.len(), 2, "the head, and a nonce: {heard:?}");
    assert!(!heard.concat().contains(token.text()), "{heard:?}");
    assert!(!heard[1].contains("proof"), "{heard:?}");
}

#[test]
fn no_status_and_no_event_holds_a_ticket() {
    let world = World::new();
    let mut client = Client::connect(&world.description).expect("connected");
    let status = client.request(json!({"command": "status"})).expect("answered");
    let ready = Event::Ready { device: DeviceText(device(1)), listen: Vec::new() };
    let ready = serde_json::to_value(&ready).expect("JSON");
    for told in [&status["status"], &ready] {
        assert!(told.is_object() && told.get("ticket").is_none(), "{told}");
        assert!(!told.to_string().contains("hark1"), "{told}");
    }
}

#[test]
fn a_node_that_is_gone_is_named_so() {
    let mut world = World::new();
    Client::connect(&world.description).expect("it runs");
    world.stop();
    let description = world.description;
    assert!(matches!(Client::connect(&description), Err(ControlError::NotRunning)));
    assert!(matches!(Client::connect("{}"), Err(ControlError::OtherVersion)));
    let later = description.replace("\"version\":2", "\"version\":3");
    assert!(matches!(Client::connect(&later), Err(ControlError::OtherVersion)));
}
