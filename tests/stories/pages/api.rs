//! The page of the local API, in JSON and over a WebSocket, as any program would use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    time::Duration,
};

use hark_tests::{Member, Scene};
use ring::hmac;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::{ROOT, block::Block, stage::Stage};

/// The text of `control.json` of a member, and the name of its folder.
fn description(scene: &Scene, name: &str) -> (String, Value) {
    let organisations = scene.home(name).join("organisations");
    let folder = fs::read_dir(organisations).expect("there").flatten().next().expect("one");
    let text = fs::read_to_string(folder.path().join("control.json")).expect("it runs");
    let id = folder.file_name().to_string_lossy().into_owned();
    (id, serde_json::from_str(&text).expect("JSON"))
}

/// `{"version": 2, …}` as shown, with values that differ from run to run replaced.
pub(super) fn place([shown]: [Block; 1]) {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let (id, node) = description(&scene, "Kestrel");
    let [path, object] = shown.text.lines().collect::<Vec<_>>()[..] else { panic!("{shown:?}") };
    let path = path.split_whitespace().next().expect("a path");
    let home = scene.home("Kestrel").display().to_string();
    let path = path.replace("HOME", &home).replace("ID", &id);
    assert!(fs::exists(&path).unwrap_or(false), "{path}");
    let object: Value = serde_json::from_str(object).expect("JSON");
    assert_eq!(keys(&object), keys(&node));
    assert_eq!(object["version"], node["version"]);
    let token = node["token"].as_str().expect("text");
    assert!(token.len() == 64 && token.chars().all(|it| it.is_ascii_hexdigit()), "{token}");
    assert_eq!(id, kestrel.ready().text("org"));
}

fn keys(object: &Value) -> BTreeSet<&String> {
    object.as_object().expect("an object").keys().collect()
}

/// A connection that is made as the page describes.
struct Socket(WebSocket<TcpStream>);

impl Socket {
    fn open(node: &Value) -> Self {
        let address = node["address"].as_str().expect("an address");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let (socket, _) = client(format!("ws://{address}/"), stream).expect("a WebSocket");
        Self(socket)
    }

    fn say(&mut self, line: &Value) {
        self.0.send(Message::text(line.to_string())).expect("sent");
    }

    fn hear(&mut self) -> Value {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                _ => continue,
            }
        }
    }

    /// Sends a request and returns the answer with its id, passing over events.
    fn ask(&mut self, line: &Value) -> Value {
        self.say(line);
        loop {
            let heard = self.hear();
            if heard.get("id") == line.get("id") {
                return heard;
            }
        }
    }

    /// Authenticates with the lines of the page's drawing.
    fn enter(node: &Value, nonce: &str, shown: [&str; 4]) -> Self {
        let prove = |text: &str| {
            let token = node["token"].as_str().expect("text");
            let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
            let proof = hmac::sign(&key, text.as_bytes());
            proof.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let mut socket = Self::open(node);
        let filled = |line: &str, node_nonce: &str| {
            let line = line.replace("NC", nonce).replace("NN", node_nonce);
            // Replaces `HMAC(token, "…")` by its value.
            let line = match line.split_once("HMAC(token, \"") {
                Some((before, rest)) => {
                    let (text, after) = rest.split_once("\")").expect("an end");
                    format!("{before}\"{}\"{after}", prove(text))
                }
                None => line,
            };
            serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
        };
        socket.say(&filled(shown[0], ""));
        let answer = socket.hear();
        let theirs = answer["nonce"].as_str().expect("a nonce").to_owned();
        assert_eq!(answer, filled(shown[1], &theirs));
        socket.say(&filled(shown[2], &theirs));
        assert_eq!(socket.hear(), filled(shown[3], &theirs));
        socket
    }
}

/// The four lines of the drawing under "Coming in".
fn drawing(text: &str) -> [&str; 4] {
    let lines = text.lines().skip(1).map(|line| line.trim_matches([' ', '─', '>', '<']));
    let lines: Vec<_> = lines.collect();
    lines.try_into().expect("four lines")
}

pub(super) fn door([shown]: [Block; 1]) {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").transmit("ptt").start();
    scene.run("Kestrel", &["charter", "channel", "add", "Flight"]).success();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).transmit("ptt").start();
    kestrel.is_among(&[&wren]);
    let (_, node) = description(&scene, "Kestrel");
    let nonce = "5a".repeat(32);
    let mut socket = Socket::enter(&node, &nonce, drawing(&shown.text));

    // A wrong proof is answered as the page says.
    let page = fs::read_to_string(format!("{ROOT}/docs/api.md")).expect("the page");
    let refused = page.split('`').find(|it| it.contains("no proof of the token"));
    let refused: Value = serde_json::from_str(refused.expect("shown")).expect("JSON");
    let mut stranger = Socket::open(&node);
    stranger.say(&json!({"nonce": nonce}));
    stranger.hear();
    stranger.say(&json!({"proof": "00".repeat(32)}));
    assert_eq!(stranger.hear(), refused);

    every_command_of_the_table(&page, &mut socket, &wren);
    let mut kestrel = kestrel;
    assert_eq!(kestrel.ended(), "quit");
}

/// Sends each command of the page's table, with each of its fields at least once.
fn every_command_of_the_table(page: &str, socket: &mut Socket, wren: &Member) {
    let wren = wren.device();
    let asked = [
        json!({"command": "status"}),
        json!({"command": "subscribe", "snapshots": false}),
        json!({"command": "mute", "on": true}),
        json!({"command": "mute", "on": false}),
        json!({"command": "deafen", "on": false}),
        json!({"command": "away", "on": true}),
        json!({"command": "away", "on": false}),
        json!({"command": "ptt", "down": true, "for_secs": 1}),
        json!({"command": "ptt", "down": false, "tail_ms": 0}),
        json!({"command": "listen", "net": "Flight", "on": true, "keep": true}),
        json!({"command": "ptt", "down": true, "key": "Flight"}),
        json!({"command": "ptt", "down": false, "key": "Flight"}),
        json!({"command": "ptt", "down": true, "to": {"nets": ["Flight", "squad"]}}),
        json!({"command": "ptt", "down": false, "to": {"nets": ["Flight", "squad"]}}),
        json!({"command": "master", "talked_to": 1.5, "others": 0.5, "others_down": true, "leveling": false, "headphones": true}),
        json!({"command": "net", "net": "Flight", "volume": 4, "pan": -1, "muted": false, "priority": 255, "radio": true}),
        json!({"command": "talk_to", "nets": ["Flight"], "keep": true}),
        json!({"command": "talk_to", "members": ["Wren"], "priority": false}),
        json!({"command": "talk_to", "roles": ["founder"]}),
        json!({"command": "key", "key": "k", "to": {"nets": ["Flight"]}}),
        json!({"command": "key", "key": "k"}),
        json!({"command": "ducking", "decibels": 60}),
        json!({"command": "voice", "bitrate": 32, "frame": 2.5, "redundancy": "auto", "wait": "20..120"}),
        json!({"command": "voice", "bitrate": "auto", "frame": "auto"}),
        json!({"command": "processing", "echo": "off", "noise": "on", "gain": "auto"}),
        json!({"command": "cues", "key": true, "mute": false, "people": true, "moved": false, "volume": 0.5}),
        json!({"command": "side_tone", "on": true, "decibels": -12}),
        json!({"command": "transmit", "mode": "vad"}),
        json!({"command": "volume", "device": wren, "gain": 4}),
        json!({"command": "volume", "device": "Wren", "gain": 0}),
        json!({"command": "move", "person": "Wren", "to": "Flight", "from": "squad"}),
        json!({"command": "front"}),
        json!({"command": "profile", "action": "copy", "name": "other"}),
        json!({"command": "profile", "action": "use", "name": "default"}),
        json!({"command": "profile", "action": "remove", "name": "other"}),
        json!({"command": "follow"}),
        json!({"command": "volunteer", "on": true, "kbps": 1000}),
        json!({"command": "invite", "uses": 1, "expires_secs": 600, "role": null, "ask": true}),
        json!({"command": "admit", "person": "Teal"}),
        json!({"command": "refuse", "person": "Snipe"}),
        json!({"command": "charter", "request": "verify"}),
        json!({"command": "quit"}),
    ];
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, mut request) in asked.into_iter().enumerate() {
        let name = request["command"].as_str().expect("text").to_owned();
        let fields = keys(&request).into_iter().filter(|it| *it != "command").cloned();
        sent.entry(name.clone()).or_default().extend(fields);
        request["id"] = id.into();
        let answer = socket.ask(&request);
        // Nobody waits here; the page for officers has people who do.
        let is_done = !["admit", "refuse"].contains(&&*name);
        assert_eq!(answer["ok"], is_done, "{request}: {answer}");
        assert!(
            is_done || answer["error"].to_string().contains("who waits"),
            "{request}: {answer}"
        );
        let promised = match &*name {
            "status" => Some("status"),
            "invite" => Some("ticket"),
            "charter" => Some("answer"),
            _ => None,
        };
        assert!(promised.is_none_or(|field| !answer[field].is_null()), "{request}: {answer}");
    }
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let table = page.split("| command | fields |").nth(1).expect("the table");
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').collect();
        let names = cells[1].split('`').skip(1).step_by(2);
        let fields = fields(cells[2]);
        shown.extend(names.map(|name| (name.to_owned(), fields.clone())));
    }
    assert_eq!(sent, shown, "sent here, and shown on the page");
}

/// The names of fields in a cell. Their values stand between parentheses.
fn fields(cell: &str) -> BTreeSet<String> {
    let outside = cell.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

pub(super) fn events([shown]: [Block; 1]) {
    let shown: Value = serde_json::from_str(&shown.text).expect("JSON");
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let told = kestrel.wait_after(0, "itself", |event| event.is("self_changed"));
    for (name, value) in shown.as_object().expect("an object") {
        let kind = |value: &Value| std::mem::discriminant(value);
        assert_eq!(kind(&told[name.as_str()]), kind(value), "{name}: {told:?}");
    }
    for name in ["at_us", "org"] {
        assert!(!told[name].is_null(), "{told:?}");
    }
    // Each field has a row, and each row a field.
    let page = fs::read_to_string(format!("{ROOT}/docs/api.md")).expect("the page");
    let table = page.split("| field | meaning |\n| --- | --- |").nth(1).expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let named: BTreeSet<&str> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2))
        .collect();
    let fields = shown.as_object().expect("an object").keys().map(String::as_str);
    assert_eq!(named, fields.filter(|it| *it != "event").collect());
}

/// Checks each line with `$`, and the object below it.
pub(super) fn errors([shown]: [Block; 1]) {
    let stage = Stage::default();
    stage.scene.found("Kestrel", "Falconry");
    stage.plays("Kestrel", "hark charter channel add Flight");
    let lines: Vec<_> = shown.text.lines().collect();
    for pair in lines.chunks(2) {
        let [typed, answer] = pair else { panic!("{pair:?}") };
        let typed = typed.strip_prefix("$ ").expect("what is typed");
        let said = stage.plays("Kestrel", &format!("{typed} 2>&1 || true"));
        let [said, answer] = [&said, *answer].map(|it| {
            serde_json::from_str::<Value>(it).unwrap_or_else(|_| panic!("no JSON: {it}"))
        });
        assert_eq!(said, answer, "{typed}");
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
