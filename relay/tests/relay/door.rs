//! Who is let in, and what is refused at the door.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    http::{ask, send},
    world::{World, device, named},
};

const PATHS: [(&str, &str); 12] = [
    ("GET", "/metrics"),
    ("GET", "/api/v1/version"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/audit"),
    ("POST", "/api/v1/drain"),
    ("GET", "/api/v1/organisations"),
    ("POST", "/api/v1/organisations"),
    ("DELETE", "/api/v1/organisations/Kestrel"),
    ("GET", "/api/v1/organisations/Kestrel/sessions"),
    ("POST", "/api/v1/organisations/Kestrel/bans"),
    ("GET", "/"),
    ("GET", "/api/v1/nowhere"),
];

#[test]
fn nothing_but_health_is_told_without_the_token() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let healthy = ask(world.address, None, "GET", "/healthz", "");
    assert_eq!((healthy.status, &healthy.json()["status"]), (200, &"ok".into()));
    let same_length = "0".repeat(world.token.len());
    for (number, (method, path)) in PATHS.into_iter().enumerate() {
        let wrong = (number % 2 == 1).then_some(same_length.as_str());
        let refused = ask(world.address, wrong, method, path, "{}");
        let expected = if number < 10 { 401 } else { 429 };
        assert_eq!(refused.status, expected, "{method} {path}: {refused:?}");
        assert!(!refused.text.contains("Kestrel"), "{refused:?}");
    }
    assert_eq!(world.get("/api/v1/audit").as_array().map(Vec::len), Some(0));
    assert_eq!(world.get("/api/v1/organisations")[0]["name"], "Kestrel");
    assert!(world.commands(crate::world::organisation(1)).is_empty());
}

/// Anybody who reaches the port can connect, as often as they like.
#[test]
fn idle_connections_stop_neither_health_nor_the_owner() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let idle = || TcpStream::connect(world.address).expect("connected");
    let begun = Instant::now();
    let crowd: Vec<_> = (0..200).map(|_| idle()).collect();
    assert_eq!(ask(world.address, None, "GET", "/healthz", "").status, 200);
    assert_eq!(world.get("/api/v1/organisations")[0]["name"], "Kestrel");
    // The connections would have been closed by themselves, but only later.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop(crowd);
}

/// A connection that has sent the token stays open, however many others arrive after it.
#[test]
fn who_has_shown_the_token_is_not_ended_by_those_who_have_not() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[]);
    let mut owner = BufReader::new(TcpStream::connect(world.address).expect("connected"));
    let mut ask = || {
        let request = format!(
            "GET /api/v1/version HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {}\r\n\r\n",
            world.token
        );
        owner.get_mut().write_all(request.as_bytes()).expect("it stands");
        let mut status = String::new();
        owner.read_line(&mut status).expect("answered");
        assert_eq!(status, "HTTP/1.1 200 OK\r\n");
        let length = owner
            .by_ref()
            .lines()
            .map(|line| line.expect("text"))
            .take_while(|line| !line.is_empty());
        let length = length.filter_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.last().expect("a length")];
        owner.read_exact(&mut body).expect("a body");
    };
    ask();
    let crowd: Vec<_> =
        (0..200).map(|_| TcpStream::connect(world.address).expect("connected")).collect();
    // A connection that is opened after all of them is still accepted.
    assert_eq!(crate::http::ask(world.address, None, "GET", "/healthz", "").status, 200);
    ask();
    drop(crowd);
}

#[test]
fn who_guesses_is_told_to_wait_and_the_operator_is_not() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[]);
    let guess = || ask(world.address, Some("guess"), "GET", "/metrics", "");
    for _ in 0..10 {
        assert_eq!(guess().status, 401);
    }
    let late = guess();
    assert_eq!(late.status, 429);
    assert!(late.head.contains("retry-after: 60"), "{late:?}");
    assert_eq!(world.ask("GET", "/metrics", "").status, 200);
    let text = world.ask("GET", "/metrics", "").text;
    assert!(text.contains("\nhark_relay_admin_refused_total 11\n"), "{text}");
}

#[test]
fn the_token_is_shown_in_one_way() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[]);
    let token = &world.token;
    for shown in [
        format!("Authorization: {token}"),
        format!("Authorization: Basic {token}"),
        format!("Authorization: Bearer  {token}"),
        format!("Cookie: token={token}"),
    ] {
        let request = format!(
            "GET /metrics?token={token} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{shown}\r\n\r\n"
        );
        assert_eq!(send(world.address, request.as_bytes()).status, 401, "{shown}");
    }
}

#[test]
fn bodies_that_are_too_long_are_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let path = "/api/v1/organisations/Kestrel/quotas";
    let long = format!("{{\"members\": 1{}}}", " ".repeat(64 * 1024));
    assert_eq!(world.ask("PUT", path, &long).status, 413);
    let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let chunked = format!(
        "PUT {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Authorization: Bearer {}\r\n\r\n{chunk}",
        world.token
    );
    assert_eq!(send(world.address, chunked.as_bytes()).status, 413);
    let announced = format!(
        "PUT {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: 99999999999\r\n\
         Authorization: Bearer {}\r\n\r\n",
        world.token
    );
    assert_eq!(send(world.address, announced.as_bytes()).status, 413);
    let fits = format!("{{\"members\": 1{}}}", " ".repeat(64 * 1024 - 14));
    assert_eq!(fits.len(), 64 * 1024);
    assert_eq!(world.ask("PUT", path, &fits).status, 200);
    let head = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    assert!((400..500).contains(&send(world.address, head.as_bytes()).status));
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let before = world.get("/api/v1/organisations");
    let nested = "[".repeat(5_000);
    let id = crate::world::organisation(2);
    let device = device(1);
    for (method, path, body) in [
        ("POST", "/organisations", "no JSON"),
        ("POST", "/organisations", ""),
        ("POST", "/organisations", nested.as_str()),
        ("POST", "/organisations", r#"{"id": "short"}"#),
        ("POST", "/organisations", r#"{"id": 7}"#),
        ("POST", "/organisations", &format!(r#"{{"id": "{id}", "rank": 1}}"#)),
        ("POST", "/organisations", &format!(r#"{{"id": "{id}", "name": "\u0007"}}"#)),
        ("POST", "/organisations", &format!(r#"{{"id": "{id}", "port": 65536}}"#)),
        ("PUT", "/organisations/Kestrel/quotas", r#"{"members": -1}"#),
        ("PUT", "/organisations/Kestrel/quotas", r#"{"people": 1}"#),
        ("PUT", "/organisations/Kestrel/quotas", "null"),
        ("POST", "/organisations/Kestrel/bans", r#"{"device": "somebody"}"#),
        (
            "POST",
            "/organisations/Kestrel/bans",
            &format!(r#"{{"device": "{device}", "seconds": 0}}"#),
        ),
        ("DELETE", "/organisations/Kestrel/bans/somebody", ""),
        ("DELETE", "/organisations/Kestrel/sessions/somebody", ""),
        ("POST", "/organisations/Kestrel/drain", "now"),
        ("DELETE", "/organisations/Kestrel", r#"{"really": true}"#),
        ("GET", "/audit?last=0", ""),
        ("GET", "/audit?first=1", ""),
    ] {
        let answer = world.ask(method, &format!("/api/v1{path}"), body);
        assert_eq!(answer.status, 400, "{method} {path} {body}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    for (method, path) in [
        ("GET", "/organisations/Falcon"),
        ("GET", "/organisations/Kestrel/secrets"),
        ("PATCH", "/organisations/Kestrel"),
        ("DELETE", "/audit"),
    ] {
        let answer = world.ask(method, &format!("/api/v1{path}"), "");
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    assert_eq!(world.get("/api/v1/organisations"), before);
    assert!(world.commands(crate::world::organisation(1)).is_empty());
}
