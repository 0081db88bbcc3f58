use std::{net::SocketAddr, sync::Mutex};

use futures::{SinkExt, StreamExt};
use hark_keys::{DeviceId, DeviceKey, OrganisationId, SeededRandom, Terms, UnixTime};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::*;
use crate::{
    event::{DeviceText, Event, Path, PeerStats},
    snapshot::{PeerView, TransmitMode},
};

struct Fake {
    commands: Mutex<Vec<Command>>,
    subscribers: Mutex<Vec<mpsc::SyncSender<StampedEvent>>>,
}

fn device(number: u8) -> DeviceId {
    DeviceKey::from_secret(&[number; 32]).id()
}

impl Controlled for Fake {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
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
        };
        let bob = PeerView {
            name: "Bob".to_owned(),
            address: String::new(),
            reachable: true,
            why_relayed: None,
            talking: false,
            talking_on: Vec::new(),
            level_dbfs: -90.0,
            volume: 1.0,
            stats,
        };
        Some(Arc::new(Snapshot {
            device: DeviceText(device(1)),
            name: "Ann".to_owned(),
            organisation: "Kestrel".to_owned(),
            organisation_id: String::new(),
            front: true,
            nets: Vec::new(),
            profile: "default".to_owned(),
            profiles: vec!["default".to_owned(), "pilot".to_owned()],
            talk_to: vec!["squad".to_owned()],
            keys: Vec::new(),
            ticket: String::new(),
            transmit: TransmitMode::Vad,
            muted: false,
            deafened: false,
            transmitting: false,
            level_dbfs: -90.0,
            copies: 0,
            cpu_percent: 0.0,
            peers: vec![bob],
            roster: Vec::new(),
            router: None,
            checked: Vec::new(),
            trouble: None,
        }))
    }

    fn charter(&self, _: Request) -> Result<Answer, String> {
        Err("this node has no charter".to_owned())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        if matches!(command, Command::Move { .. }) {
            return Err("nobody here is called \"Cat\"".to_owned());
        }
        self.commands.lock().expect("no test panics within").push(command);
        Ok(())
    }

    fn subscribe(&self) -> mpsc::Receiver<StampedEvent> {
        let (sender, receiver) = mpsc::sync_channel(8);
        let event = Event::Stopped { reason: "quit".to_owned() };
        sender.send(StampedEvent { at_us: 7, event, org: None }).expect("room");
        self.subscribers.lock().expect("no test panics within").push(sender);
        receiver
    }

    fn ticket(&self, request: TicketRequest) -> Result<Ticket, String> {
        let TicketRequest { uses, lasting, role } = request;
        if role.is_some_and(|role| role != "Pilot") {
            return Err("there is no role called so".to_owned());
        }
        let door = hark_keys::Door { device: device(1), addresses: Vec::new() };
        let expires = UnixTime::from_secs(lasting.as_secs());
        Ok(Ticket::issue(
            &DeviceKey::from_secret(&[1; 32]),
            OrganisationId::from_bytes([9; 32]),
            "Kestrel",
            Terms { expires, uses, role: None },
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
    /// The server ends when it is dropped, and its thread with it.
    running: Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl World {
    fn new() -> Self {
        let node = Arc::new(Fake { commands: Mutex::default(), subscribers: Mutex::default() });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (sender, description) = mpsc::channel();
        let controlled: Arc<dyn Controlled> = Arc::clone(&node) as _;
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let server =
                    Server::start(controlled, &SeededRandom::new(1)).await.expect("a free port");
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

    /// Connects with the headers given; the status where it is refused.
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

    /// What comes back when these are the first messages.
    fn say(&self, messages: &[String], answers: usize) -> Vec<Value> {
        runtime().block_on(async {
            let (mut socket, _) =
                tokio_tungstenite::connect_async(format!("ws://{}/", self.address()))
                    .await
                    .expect("connected");
            for message in messages {
                // A refused one may find the door closed.
                let _ = socket.send(Message::Text(message.clone().into())).await;
            }
            let mut heard = Vec::new();
            while heard.len() < answers {
                let Some(Ok(Message::Text(text))) = socket.next().await else { break };
                heard.push(serde_json::from_str(&text).expect("JSON"));
            }
            heard
        })
    }
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
        json!({"command": "volume", "device": device(3).to_string(), "gain": 1.0}),
        json!({"command": "volume", "device": "Bob", "gain": 1.0}),
        json!({"command": "volume", "device": device(2).to_string(), "gain": 4.5}),
        json!({"command": "invite", "uses": 256}),
        json!({"command": "invite", "expires_secs": 0}),
        json!({"command": "invite", "role": 7}),
        json!({"command": "invite", "role": "Admiral"}),
        json!({"command": "profile", "action": "use", "name": "medic"}),
        json!({"command": "profile", "action": "remove", "name": "default"}),
        json!({"command": "profile", "action": "copy", "name": "Pilot"}),
        json!({"command": "profile", "action": "lose", "name": "pilot"}),
        json!({}),
    ];
    for request in nonsense {
        let answer = client.request(request.clone());
        assert!(matches!(answer, Err(ControlError::Refused(_))), "{request}: {answer:?}");
    }
    assert_eq!(*world.node.commands.lock().expect("unpoisoned"), []);
    client.request(json!({"command": "status"})).expect("still answered");
    let token = world.description()["token"].clone();
    let heard = world.say(&[json!({"token": token}).to_string(), "no JSON".to_owned()], 1);
    assert_eq!(heard[0]["error"], "a request is one JSON object");
}

#[test]
fn the_token_opens_and_nothing_else() {
    let world = World::new();
    let status = json!({"id": 1, "command": "status"}).to_string();
    let token = world.description()["token"].clone();
    let right = world.say(&[json!({"token": token}).to_string(), status.clone()], 1);
    // The right token has no answer of its own.
    assert_eq!((right.len(), &right[0]["ok"]), (1, &json!(true)));
    let wrong = world.say(&[json!({"token": "00"}).to_string(), status.clone()], 1);
    assert_eq!(wrong, [json!({"id": null, "ok": false, "error": "wrong token"})]);
    assert_eq!(world.say(&[status], 1)[0]["ok"], false);
    assert_eq!(world.knock(&[("authorization", "Bearer 00")]), Err(401));
}

#[test]
fn web_pages_are_kept_out() {
    let world = World::new();
    let token = world.description()["token"].as_str().expect("text").to_owned();
    let bearer = format!("Bearer {token}");
    let rebound = format!("evil.example:{}", world.address().port());
    let named = format!("localhost:{}", world.address().port());
    assert_eq!(world.knock(&[("authorization", &bearer)]), Ok(()));
    assert_eq!(world.knock(&[("authorization", &bearer), ("host", &named)]), Ok(()));
    assert_eq!(world.knock(&[("authorization", &bearer), ("host", &rebound)]), Err(403));
    assert_eq!(
        world.knock(&[("authorization", &bearer), ("origin", "http://127.0.0.1")]),
        Err(403)
    );
}

#[test]
fn a_node_that_is_gone_is_named_so() {
    let mut world = World::new();
    Client::connect(&world.description).expect("it runs");
    world.stop();
    let description = world.description;
    assert!(matches!(Client::connect(&description), Err(ControlError::NotRunning)));
    assert!(matches!(Client::connect("{}"), Err(ControlError::OtherVersion)));
    let later = description.replace("\"version\":1", "\"version\":2");
    assert!(matches!(Client::connect(&later), Err(ControlError::OtherVersion)));
}
