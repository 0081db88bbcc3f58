//! What an operator can see and change.

use std::collections::BTreeSet;

use hark_relay::{carrier::CarrierCommand, state::Quotas};
use serde_json::{Value, json};

use crate::world::{TAKEN, World, busy, device, named, organisation, traffic};

const KESTREL: &str = "/api/v1/organisations/Kestrel";

#[test]
fn every_change_reaches_the_carrier_and_the_audit_log() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let (kestrel, other) = (organisation(1), organisation(2));
    busy(&mut world.fake(kestrel).snapshot.lock().expect("unpoisoned"));
    let (one, two) = (device(1), device(2));

    let quotas = json!({"members": 40, "kbps": 9000});
    let now = world.done("PUT", &format!("{KESTREL}/quotas"), &quotas.to_string());
    assert_eq!(now, json!({"members": 40, "channels": 0, "kbps": 9000, "packets": 0}));
    assert_eq!(world.get(&format!("{KESTREL}/quotas")), now);
    let quotas_now = Quotas { members: 40, kbps: 9_000, ..Quotas::default() };
    assert_eq!(world.commands(kestrel), [CarrierCommand::SetQuotas(quotas_now)]);

    world.done("DELETE", &format!("{KESTREL}/sessions/{one}"), "");
    assert_eq!(world.commands(kestrel), [CarrierCommand::Disconnect(one)]);

    let ban = json!({"device": two.to_string()}).to_string();
    world.done("POST", &format!("{KESTREL}/bans"), &ban);
    assert_eq!(world.commands(kestrel), [CarrierCommand::SetBans(BTreeSet::from([two]))]);
    let kept_out = json!([{"device": two.to_string(), "until": null}]);
    assert_eq!(world.get(&format!("{KESTREL}/bans")), kept_out);
    world.done("DELETE", &format!("{KESTREL}/bans/{two}"), "");
    assert_eq!(world.commands(kestrel), [CarrierCommand::SetBans(BTreeSet::new())]);
    assert_eq!(world.get(&format!("{KESTREL}/bans")), json!([]));

    world.done("POST", &format!("{KESTREL}/drain"), "");
    assert_eq!(world.commands(kestrel), [CarrierCommand::Drain(true)]);
    assert_eq!(world.get(KESTREL)["status"], "draining");
    world.fake(kestrel).snapshot.lock().expect("unpoisoned").drained = true;
    assert_eq!(world.get(KESTREL)["status"], "drained");
    world.done("POST", &format!("{KESTREL}/undrain"), "{}");
    assert_eq!(world.commands(kestrel), [CarrierCommand::Drain(false)]);

    let addition = json!({"id": other.to_string(), "name": "Falcon", "quotas": {"members": 5}});
    let added = world.done("POST", "/api/v1/organisations", &addition.to_string());
    assert_eq!((&added["name"], &added["quotas"]["members"]), (&json!("Falcon"), &json!(5)));
    let key = &world.fake(other).assignment.key;
    assert_eq!(added["device"], key.id().to_string());
    world.done("POST", "/api/v1/drain", "");
    for id in [kestrel, other] {
        assert_eq!(world.commands(id), [CarrierCommand::Drain(true)]);
    }
    world.done("POST", "/api/v1/undrain", "");
    world.done("DELETE", "/api/v1/organisations/Falcon", "");
    let stopped = world.fake(other).stopped.lock().expect("unpoisoned").clone();
    assert_eq!(stopped.as_deref(), Some("removed"));
    assert_eq!(world.ask("DELETE", "/api/v1/organisations/Falcon", "").status, 404);

    let log = world.get("/api/v1/audit");
    let log = log.as_array().expect("a list");
    let told: Vec<_> = log.iter().map(|it| (&it["action"], &it["outcome"])).collect();
    let expected = [
        format!("PUT {KESTREL}/quotas"),
        format!("DELETE {KESTREL}/sessions/{one}"),
        format!("POST {KESTREL}/bans"),
        format!("DELETE {KESTREL}/bans/{two}"),
        format!("POST {KESTREL}/drain"),
        format!("POST {KESTREL}/undrain"),
        "POST /api/v1/organisations".to_owned(),
        "POST /api/v1/drain".to_owned(),
        "POST /api/v1/undrain".to_owned(),
        "DELETE /api/v1/organisations/Falcon".to_owned(),
    ]
    .map(Value::from);
    let expected: Vec<_> = expected.iter().collect();
    let done = json!("done");
    assert_eq!(told[..10], expected.iter().map(|it| (*it, &done)).collect::<Vec<_>>());
    assert_eq!(told.len(), 11);
    assert_eq!(told[10].1, "no organisation \"Falcon\" is served here");
    assert_eq!((&log[0]["body"], &log[0]["remote"]), (&quotas, &json!("127.0.0.1")));
    let times: Vec<_> = log.iter().map(|it| it["at_us"].as_u64().expect("a time")).collect();
    assert!(times.is_sorted() && times[0] > 1_700_000_000_000_000, "{times:?}");
    assert_eq!(world.get("/api/v1/audit?last=1")[0], log[10]);
}

#[test]
fn an_operator_sees_who_is_there_and_what_is_carried() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[(organisation(1), Default::default())]);
    let id = organisation(1).to_string();
    let nameless = world.get(&format!("/api/v1/organisations/{id}"));
    assert_eq!((&nameless["name"], &nameless["named"]), (&Value::Null, &json!(false)));
    busy(&mut world.fake(organisation(1)).snapshot.lock().expect("unpoisoned"));

    let shown = world.get("/api/v1/organisations/Falcon");
    assert_eq!(shown, world.get(&format!("/api/v1/organisations/{}", &id[..6])));
    let expected = json!({
        "id": id,
        "name": "Falcon",
        "device": world.fake(organisation(1)).assignment.key.id().to_string(),
        "listen": ["192.0.2.1:7300"],
        "named": true,
        "status": "running",
        "quotas": {"members": 0, "channels": 0, "kbps": 0, "packets": 0},
        "sessions": 2,
        "channels": 1,
        "bans": 0,
        "traffic": traffic(3),
        "dropped": {"late": 14},
    });
    assert_eq!(shown, expected);
    let sessions = world.get("/api/v1/organisations/Falcon/sessions");
    assert_eq!(sessions[0]["device"], device(1).to_string());
    assert_eq!(sessions[1]["address"], "192.0.2.2:40000");
    assert_eq!((&sessions[1]["packets_in"], &sessions[1]["dropped"]), (&json!(2), &json!(7)));
    assert_eq!(sessions[1]["since"], 1_795_219_200);
    let channels = world.get("/api/v1/organisations/Falcon/channels");
    assert_eq!((&channels[0]["name"], &channels[0]["listeners"]), (&json!("Alpha"), &json!(2)));
    let bill = world.get("/api/v1/organisations/Falcon/metering");
    let months: Vec<_> = bill["months"].as_object().expect("months").values().collect();
    assert_eq!(months, [&json!(traffic(3))]);
    assert_eq!(world.get("/api/v1/version")["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn health_tells_that_a_carrier_has_ended() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let failed = Some("the disk is full".to_owned());
    world.fake(organisation(1)).snapshot.lock().expect("unpoisoned").ended = failed;
    let health = crate::http::ask(world.address, None, "GET", "/healthz", "");
    assert_eq!(health.status, 503);
    assert!(!health.text.contains("disk"), "{health:?}");
    assert_eq!(world.get(KESTREL)["status"], "the disk is full");
}

#[test]
fn each_organisation_has_a_port_of_its_own() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel")]);
    let add = |number: u8, port: Option<u16>| {
        let id = organisation(number).to_string();
        world.ask("POST", "/api/v1/organisations", &json!({"id": id, "port": port}).to_string())
    };
    assert_eq!(world.get(KESTREL)["listen"], json!(["192.0.2.1:7300"]));
    assert_eq!(add(2, None).json()["listen"], json!(["192.0.2.1:7301"]));
    assert_eq!(add(3, Some(8_000)).json()["listen"], json!(["192.0.2.1:8000"]));
    let taken = add(4, Some(7_301));
    assert_eq!(taken.status, 409);
    assert!(taken.error().contains("choose another"), "{taken:?}");
    let unusable = add(5, Some(TAKEN));
    let why = "cannot listen on 192.0.2.1:9: it is taken: choose another port";
    assert_eq!((unusable.status, unusable.error()), (409, why.to_owned()));
    assert_eq!(add(2, None).status, 409);
    assert_eq!(add(5, None).json()["listen"], json!(["192.0.2.1:7302"]));
}
