//! What is kept across a restart.

use std::collections::BTreeSet;

use hark_relay::{config::OrganisationConfig, state::Quotas};
use serde_json::json;

use crate::world::{World, busy, device, named, organisation, traffic};

const KESTREL: &str = "/api/v1/organisations/Kestrel";

#[test]
fn changes_survive_a_restart() {
    let home = tempfile::tempdir().expect("a folder");
    let organisations = [named(1, "Kestrel"), named(2, "Falcon")];
    let world = World::start(home.path(), &organisations);
    world.done("PUT", &format!("{KESTREL}/quotas"), r#"{"packets": 500}"#);
    let lasting = json!({"device": device(1).to_string()}).to_string();
    let hour = json!({"device": device(2).to_string(), "seconds": 3600}).to_string();
    world.done("POST", &format!("{KESTREL}/bans"), &lasting);
    world.done("POST", &format!("{KESTREL}/bans"), &hour);
    world.done("POST", &format!("{KESTREL}/drain"), "");
    world.done("DELETE", "/api/v1/organisations/Falcon", "");
    let addition = json!({"id": organisation(3).to_string(), "name": "Merlin", "port": 9300});
    world.done("POST", "/api/v1/organisations", &addition.to_string());
    let (before, bans) =
        (world.get("/api/v1/organisations"), world.get(&format!("{KESTREL}/bans")));
    let log = world.get("/api/v1/audit");
    world.stop();

    let world = World::start(home.path(), &organisations);
    assert_eq!(world.get("/api/v1/organisations"), before);
    assert_eq!(world.get(&format!("{KESTREL}/bans")), bans);
    assert_eq!(world.get("/api/v1/audit"), log);
    let fake = world.fake(organisation(1));
    let begun = &fake.assignment;
    assert_eq!(begun.quotas, Quotas { packets: 500, ..Quotas::default() });
    assert_eq!(begun.banned, BTreeSet::from([device(1), device(2)]));
    assert!(begun.draining);
    assert_eq!(world.ask("GET", "/api/v1/organisations/Falcon", "").status, 404);
    let listen = &world.fake(organisation(3)).assignment.listen;
    assert_eq!(listen[0].port(), 9_300);
    drop(fake);
    world.stop();
}

#[test]
fn an_organisation_that_comes_back_is_the_same_device_at_the_same_port() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kestrel"), named(2, "Falcon")]);
    let before = world.get("/api/v1/organisations/Falcon");
    world.done("DELETE", "/api/v1/organisations/Falcon", "");
    let addition = json!({"id": organisation(2).to_string(), "name": "Falcon"}).to_string();
    assert_eq!(world.done("POST", "/api/v1/organisations", &addition), before);
    world.stop();
}

/// The quotas of the file apply until the API changes them.
#[test]
fn quotas_of_the_file_hold_until_they_are_changed() {
    let home = tempfile::tempdir().expect("a folder");
    let with = |members| {
        let quotas = Quotas { members, ..Quotas::default() };
        let name = Some("Kestrel".to_owned());
        [(organisation(1), OrganisationConfig { name, quotas, port: None })]
    };
    let world = World::start(home.path(), &with(10));
    assert_eq!(world.get(KESTREL)["quotas"]["members"], 10);
    world.stop();
    let world = World::start(home.path(), &with(20));
    assert_eq!(world.get(KESTREL)["quotas"]["members"], 20);
    world.done("PUT", &format!("{KESTREL}/quotas"), r#"{"members": 30}"#);
    world.stop();
    let world = World::start(home.path(), &with(40));
    assert_eq!(world.get(KESTREL)["quotas"]["members"], 30);
    world.stop();
}

#[test]
fn what_was_carried_is_kept() {
    let home = tempfile::tempdir().expect("a folder");
    let organisations = [named(1, "Kestrel")];
    let total = |world: &World| {
        let bill = world.get(&format!("{KESTREL}/metering"));
        let days = bill["days"].as_object().expect("days").values();
        days.map(|day| day["packets_out"].as_u64().expect("a number")).sum::<u64>()
    };
    let world = World::start(home.path(), &organisations);
    assert_eq!(total(&world), 0);
    busy(&mut world.fake(organisation(1)).snapshot.lock().expect("unpoisoned"));
    world.tenants.tick();
    assert_eq!(total(&world), 9);
    world.fake(organisation(1)).snapshot.lock().expect("unpoisoned").traffic = traffic(10);
    world.stop();
    let world = World::start(home.path(), &organisations);
    assert_eq!(total(&world), 30);
    world.fake(organisation(1)).snapshot.lock().expect("unpoisoned").traffic = traffic(2);
    assert_eq!(total(&world), 36);
    world.stop();
}
