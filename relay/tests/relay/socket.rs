//! Events over the WebSocket.

use futures::{SinkExt, StreamExt};
use hark_relay::{event::RelayEvent, text::Text};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use crate::world::{World, device, named, organisation};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn request(world: &World, token: &str) -> tungstenite::handshake::client::Request {
    let url = format!("ws://{}/api/v1/events", world.address);
    let mut request = url.into_client_request().expect("a request");
    let shown = format!("Bearer {token}").parse().expect("a header");
    request.headers_mut().insert("authorization", shown);
    request
}

#[test]
fn events_come_as_they_happen() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let heard: Vec<Value> = runtime().block_on(async {
        let asked = request(&world, &world.token);
        let (mut socket, _) = tokio_tungstenite::connect_async(asked).await.expect("let in");
        // The first ping arrives when the socket listens.
        let ping = socket.next().await.expect("a message").expect("well formed");
        assert!(ping.is_ping(), "{ping:?}");
        let address = "192.0.2.1:4000".to_owned();
        let up = RelayEvent::SessionUp { device: Text(device(1)), member: None, address };
        world.publish(organisation(1), &up);
        world.publish(organisation(1), &RelayEvent::QuotaReached { quota: "members".to_owned() });
        let mut heard = Vec::new();
        while heard.len() < 2 {
            if let Message::Text(text) = socket.next().await.expect("open").expect("well formed") {
                heard.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        socket.send(Message::Text("hello".into())).await.expect("sent, and not looked at");
        heard
    });
    let mut first = heard[0].clone();
    assert!(first["at_us"].take().as_u64().expect("a time") > 1_700_000_000_000_000);
    let expected = json!({
        "at_us": null,
        "org": organisation(1).to_string(),
        "event": "session_up",
        "device": device(1).to_string(),
        "member": null,
        "address": "192.0.2.1:4000",
    });
    assert_eq!(first, expected);
    assert_eq!(
        (&heard[1]["event"], &heard[1]["quota"]),
        (&json!("quota_reached"), &json!("members"))
    );
}

#[test]
fn the_socket_needs_the_token_and_an_upgrade() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[]);
    let refused = runtime().block_on(async {
        tokio_tungstenite::connect_async(request(&world, "wrong")).await.expect_err("refused")
    });
    let tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status(), 401);
    let plain = world.ask("GET", "/api/v1/events", "");
    assert!((400..500).contains(&plain.status), "{plain:?}");
    assert!(!plain.error().is_empty());
}
