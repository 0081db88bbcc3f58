use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

#[cfg(target_os = "linux")]
use crate::{Internet, binary::through};
use crate::{
    Scene,
    binary::hark_relay,
    events::{Event, Events},
};

/// A running `hark-relay`. It is killed when this is dropped.
pub struct Hub {
    child: Child,
    events: Events,
    admin: SocketAddr,
    token: String,
}

impl Hub {
    /// Starts a relay on loopback that serves no organisation yet.
    pub fn start(scene: &Scene) -> Self {
        Self::start_at(scene, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts a relay that serves its first organisation at this address.
    pub fn start_at(scene: &Scene, address: SocketAddr) -> Self {
        let mut command = hark_relay();
        command.args(["--listen", &address.to_string()]);
        Self::run(scene, command)
    }

    /// Starts a relay on the street that serves the organisation that this member has founded.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn outside(internet: &Internet, scene: &Scene, founder: &str) -> Self {
        let config = scene.path("relay.toml");
        let organisation = format!("[[organisation]]\nid = {}\n", organisation_of(scene, founder));
        fs::write(&config, organisation).expect("a file for its configuration");
        let mut command = through(&internet.outside(), &hark_relay());
        command.args(["--listen", "192.0.2.1:7300"]).arg("--config").arg(config);
        let hub = Self::run(scene, command);
        let ready = hub.wait_after(0, "organisation", |event| event.is("ready"));
        name(scene, founder, ready.text("device"), "192.0.2.1:7300");
        hub
    }

    fn run(scene: &Scene, mut command: Command) -> Self {
        let home = scene.path("hub");
        command.arg("--home").arg(&home).args(["--admin", "127.0.0.1:0", "--events", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let events = Events::follow(child.stdout.take().expect("its output is a pipe"));
        let started = events.wait(|events| events.iter().find(|it| it.is("started")).cloned());
        let started = started.expect("it tells that it has started");
        let token = fs::read_to_string(home.join("token")).expect("it has a token");
        let admin = started.text("admin").parse().expect("an address");
        Self { child, events, admin, token: token.trim().to_owned() }
    }

    /// Makes the relay serve the organisation that this member has founded, and names the relay in
    /// its charter.
    #[track_caller]
    pub fn serve(&self, scene: &Scene, founder: &str) {
        let id = organisation_of(scene, founder);
        let served = self.ask("POST", "organisations", &json!({"id": id}));
        let device = served["device"].as_str().expect("text");
        name(scene, founder, device, served["listen"][0].as_str().expect("text"));
    }

    /// Makes a request under `/api/v1/` of the admin API, which must succeed, and returns the
    /// answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.admin).expect("it answers");
        write!(
            stream,
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len(),
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
        let (_, text) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(text).expect("JSON")
    }

    /// Waits for an event after the first `from` events.
    #[track_caller]
    pub fn wait_after(&self, from: usize, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let found = self.events.wait(|events| events[from..].iter().find(|it| is(it)).cloned());
        found.unwrap_or_else(|events| panic!("no {what} after the first {from} of {events:#?}"))
    }

    /// How many such events the relay has reported.
    pub fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.all().iter().filter(|event| is(event)).count()
    }

    /// The address of the relay's admin API.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// How many events the relay has reported.
    pub fn told(&self) -> usize {
        self.events.all().len()
    }

    /// Asks the relay to end, and waits until it has.
    pub fn end(&mut self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The relay may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The id of the organisation that this member belongs to.
fn organisation_of(scene: &Scene, member: &str) -> Value {
    let shown = scene.run(member, &["charter", "show", "--json"]);
    let mut shown: Value = serde_json::from_str(shown.success()).expect("JSON");
    shown["id"].take()
}

/// Has an officer name a relay in the charter.
#[track_caller]
fn name(scene: &Scene, officer: &str, device: &str, address: &str) {
    let add = ["charter", "relay", "add", "Hub", device, "--address", address];
    let named = scene.run(officer, &add);
    assert!(named.success().contains("named relay Hub"), "{named:?}");
}
