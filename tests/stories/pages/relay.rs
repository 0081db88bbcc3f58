//! The page for people who run a relay.

use std::net::UdpSocket;

use hark_tests::Hub;
use serde_json::Value;

use super::{block::Block, stage::Stage};

pub(super) fn server([journal, name, serve, look]: [Block; 4]) {
    let stage = Stage::default();
    stage.scene.found("Kestrel", "Falconry");
    let home = stage.scene.path("hub").display().to_string();
    stage.stands_for("/var/lib/hark-relay", &home);

    let said = stage.plays(
        "operator",
        "hark-relay --home /var/lib/hark-relay --config relay/packaging/relay.toml \
         --listen 127.0.0.1:0 --admin 127.0.0.1:0 --for 1ms",
    );
    journal.is_what_was_said(&stage.meant(&journal.text), &said);
    let device = said.split_whitespace().find(|word| word.starts_with("12D3Koo"));
    stage.stands_for("12D3KooWMGrX9J6f…", device.expect("its device").trim_end_matches(','));

    // A port that is free now.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let hub = Hub::start_at(&stage.scene, address);
    stage.stands_for("192.0.2.7:7300", &address.to_string());
    stage.stands_for("127.0.0.1:7301", &hub.admin().to_string());
    let shown = stage.plays_all("Kestrel", &name);
    let id =
        stage.answer("Kestrel", &["charter", "show"])["id"].as_str().expect("an id").to_owned();
    let second = shown.lines().nth(1).expect("a second line");
    assert!(second.contains(&id), "its second line is the id: {shown}");

    let example = serve.text.split('"').find(|it| it.len() == 52).expect("an id of 52 letters");
    stage.stands_for(example, &id);
    let answer: Value = serde_json::from_str(&stage.plays("operator", &serve.text)).expect("JSON");
    assert_eq!(answer["id"], id.as_str());

    let kestrel = stage.scene.talk("Kestrel").start();
    let is_up =
        |event: &hark_tests::Event| event.is("session_up") && event.is_about(&kestrel.device());
    hub.wait_after(0, "Kestrel", is_up);
    hub.wait_after(0, "its name in the charter", |event| event.is("named"));
    // This is the shell in which the organisation was added.
    let shell: Vec<_> =
        serve.commands().into_iter().filter(|line| !line.starts_with("api -d")).collect();
    let said = stage.plays("operator", &format!("{}\n{}", shell.join("\n"), look.text));
    let (health, organisations) = said.split_once('\n').expect("two answers");
    assert_eq!(health, r#"{"status":"ok"}"#);
    let organisations: Value = serde_json::from_str(organisations).expect("JSON");
    let served = &organisations[0];
    assert_eq!((&served["named"], &served["sessions"]), (&true.into(), &1.into()), "{said}");
}
