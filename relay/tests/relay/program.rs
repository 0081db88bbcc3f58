//! The program itself: how it starts, serves and stops, and what it says when it cannot.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use hark_keys::OrganisationId;
use serde_json::{Value, json};

use crate::http::ask;

fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hark-relay"));
    for variable in ["HARK_RELAY_HOME", "HARK_LOG", "HARK_PASSPHRASE"] {
        command.env_remove(variable);
    }
    command.arg("--home").arg(home).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A relay that prints its events, on ports that the system has chosen.
struct Relay {
    child: Child,
    events: BufReader<ChildStdout>,
    token: String,
    admin: SocketAddr,
}

impl Relay {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let usual = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--events", "-"];
        let mut child = program(home, &[&usual, arguments].concat()).spawn().expect("it starts");
        let mut events = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let started = until(&mut events, "started");
        let admin = started["admin"].as_str().expect("text").parse().expect("an address");
        let token = std::fs::read_to_string(home.join("token")).expect("it is there");
        Self { child, events, token: token.trim().to_owned(), admin }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = ask(self.admin, Some(&self.token), method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    /// Asks the relay to end; returns its last events and its exit status.
    fn end(mut self) -> (Vec<Value>, Option<i32>) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().expect("there is kill");
        assert!(asked.success());
        let mut said = Vec::new();
        for line in self.events.by_ref().lines() {
            said.push(serde_json::from_str(&line.expect("text")).expect("JSON"));
        }
        (said, self.child.wait().expect("it ends").code())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The relay still runs if a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads events up to the next one of this name, and returns it.
fn until(events: &mut impl BufRead, name: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        let read = events.read_line(&mut line).expect("a pipe");
        assert!(read > 0, "it ended before {name}");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert!(event["at_us"].is_u64(), "{line}");
        if event["event"] == name {
            return event;
        }
    }
}

#[track_caller]
fn complaint(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line = text.trim_end().strip_prefix("hark-relay: ").unwrap_or_else(|| panic!("{text}"));
    assert!(!line.contains('\n') && !line.contains("internal error"), "{line}");
    line.to_owned()
}

/// From an empty folder to an organisation that is served, and to the end.
#[test]
fn a_relay_starts_without_configuration_and_stops_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("relay");
    let mut relay = Relay::start(&home, &[]);
    assert_eq!(ask(relay.admin, None, "GET", "/healthz", "").status, 200);
    assert_eq!(relay.ask("GET", "/api/v1/organisations", ""), json!([]));
    let id = OrganisationId::from_bytes([7; 32]).to_string();
    let added = relay.ask("POST", "/api/v1/organisations", &json!({"id": id}).to_string());
    let ready = until(&mut relay.events, "ready");
    assert_eq!((&ready["org"], &ready["device"]), (&json!(id), &added["device"]));
    assert_eq!(ready["listen"], added["listen"]);
    let listen: SocketAddr =
        ready["listen"][0].as_str().expect("text").parse().expect("an address");
    assert!(UdpSocket::bind(listen).is_err(), "nobody listens on {listen}");
    let metrics = ask(relay.admin, Some(&relay.token), "GET", "/metrics", "").text;
    assert!(metrics.contains(&format!("hark_relay_running{{organisation=\"{id}\"")), "{metrics}");

    let (said, status) = relay.end();
    assert_eq!(status, Some(0));
    let said: Vec<_> = said.iter().map(|it| (&it["event"], &it["org"], &it["reason"])).collect();
    let (stopped, signal) = (json!("stopped"), json!("signal"));
    assert_eq!(
        said[said.len() - 2..],
        [(&stopped, &json!(id), &signal), (&stopped, &Value::Null, &signal)]
    );
    UdpSocket::bind(listen).expect("the port is free again");

    let mut relay = Relay::start(&home, &[]);
    let shown = relay.ask("GET", &format!("/api/v1/organisations/{id}"), "");
    assert_eq!(shown["device"], added["device"]);
    assert_eq!(relay.ask("GET", "/api/v1/audit", "")[0]["outcome"], "done");
    let running = complaint(program(&home, &["--admin", "127.0.0.1:0"]));
    assert!(running.contains("runs here already"), "{running}");
    let _ = relay.child.kill();
}

#[test]
fn a_first_start_says_what_is_to_be_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--for", "1ms"];
    let output = program(folder.path(), &ports).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("text");
    let token = std::fs::read_to_string(folder.path().join("token")).expect("it is there");
    for needed in [
        folder.path().join("token").to_str().expect("text"),
        "hark charter relay add NAME 12D3KooW",
        "--address 127.0.0.1:",
        "/api/v1/organisations",
    ] {
        assert!(told.contains(needed), "{needed}: {told}");
    }
    assert!(!told.contains(token.trim()), "journals and logs are read by others: {told}");
}

/// Events show who comes from where.
#[cfg(unix)]
#[test]
fn a_file_of_events_is_for_its_owner_alone() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).expect("made");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).expect("set");
    let home = folder.path().join("relay");
    let run = |events: &Path| {
        let events = events.to_str().expect("text");
        program(
            &home,
            &[
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--for",
                "1ms",
                "--events",
                events,
            ],
        )
    };
    let path = shared.join("events");
    assert!(run(&path).status().expect("it starts").success());
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let planted = shared.join("planted");
    symlink(folder.path().join("precious"), &planted).expect("planted");
    let refused = complaint(run(&planted));
    assert!(refused.contains("another account may have put it there"), "{refused}");
}

#[test]
fn what_cannot_be_used_is_named_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "\n[[organisation]]\nid = \"Kestrel\"\n").expect("written");
    let path = config.to_str().expect("text");
    let wrong = complaint(program(folder.path(), &["--config", path]));
    assert!(wrong.starts_with(&format!("{path}, line 3: \"Kestrel\" is no")), "{wrong}");
    let absent = complaint(program(folder.path(), &["--config", "no/such.toml"]));
    assert!(absent.starts_with("no/such.toml: "), "{absent}");

    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let id = OrganisationId::from_bytes([7; 32]);
    let text = format!("[[organisation]]\nid = \"{id}\"\nport = {port}\n");
    std::fs::write(&config, text).expect("written");
    let ports = ["--config", path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let busy = complaint(program(folder.path(), &ports));
    assert!(busy.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{busy}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let admin = listener.local_addr().expect("bound").to_string();
    let busy = complaint(program(folder.path(), &["--admin", &admin]));
    assert!(busy.contains("choose another --admin"), "{busy}");
}
