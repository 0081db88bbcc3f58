//! A person who joins with a ticket that has a role gets that role.

use hark_tests::{Member, Scene};
use serde_json::Value;

/// The door gives the role to everybody who joins with the ticket, and all members know of it.
#[test]
fn a_ticket_with_a_role() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    let ticket = kestrel.invite(&["--role", "pilot", "--uses", "2"]);
    let joined = scene.run("Wren", &["join", &ticket, "--name", "Wren"]);
    assert!(joined.success().contains("joined Meridian Watch with the role Pilot"));
    let shown = scene.run("Wren", &["charter", "show"]);
    let (shown, pilots) = (shown.success(), "Pilot: rank 30, may edit-presets; held by Wren");
    assert!(shown.contains(pilots), "{shown}");
    let heron = scene.talk("Heron").ticket(&ticket).start();
    let peer = ["--peer", &kestrel.address().to_string()];
    let wren = scene.talk("Wren").with(&peer).start();
    for member in [&kestrel, &wren, &heron] {
        has(&scene, member, &["Heron", "Wren"]);
    }
    let more = scene.talk("Owl").ticket(&ticket).outcome();
    assert!(more.complaint().contains("used as often as it may be"), "{}", more.complaint());

    // The door's own stored charter contains the role as well.
    kestrel.leave();
    let shown = scene.run("Kestrel", &["charter", "show"]);
    let shown = shown.success();
    assert!(shown.contains(pilots) || shown.contains("held by Heron and Wren"), "{shown}");
}

/// A role that an issuer may not give is refused before there is a ticket, whether the issuer runs
/// or not.
#[test]
fn a_role_that_cannot_be_given() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    let mut wren = scene.talk("Wren").ticket(&kestrel.invite(&["--role", "Pilot"])).start();
    has(&scene, &wren, &["Wren"]);
    let refused = |role: &str| {
        let outcome = scene.run("Wren", &["invite", "--role", role]);
        outcome.complaint().to_owned()
    };
    let lacking = "to invite with the role Pilot, you need the right manage-roles everywhere";
    assert!(refused("Pilot").contains(lacking), "{}", refused("Pilot"));
    assert!(refused("Pilot").contains("Kestrel could"), "{}", refused("Pilot"));
    let unknown = "there is no role called \"Pilto\"; did you mean Pilot?";
    assert!(refused("Pilto").contains(unknown), "{}", refused("Pilto"));
    assert!(refused("member").contains("every member has this role anyway"));
    wren.leave();
    assert!(refused("Pilot").contains(lacking), "{}", refused("Pilot"));
    assert!(refused("Pilto").contains(unknown), "{}", refused("Pilto"));
}

/// A role that was removed meanwhile is not given, and the newcomer is informed why it stays
/// outside.
#[test]
fn a_role_that_was_removed() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    let ticket = kestrel.invite(&["--role", "Pilot"]);
    scene.run("Kestrel", &["charter", "role", "remove", "Pilot"]).success();
    let outcome = scene.talk("Wren").ticket(&ticket).outcome();
    let line = outcome.complaint();
    assert!(line.contains("the ticket's role cannot be given any more"), "{line}");
}

/// A regression: a member who was kicked and came back with a ticket for a role did not get the
/// role, and nobody was informed.
#[test]
fn a_ticket_gave_no_role_to_who_came_back() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    let first = kestrel.invite(&["--role", "Pilot"]);
    let mut wren = scene.talk("Wren").ticket(&first).start();
    has(&scene, &kestrel, &["Wren"]);
    wren.leave();
    scene.run("Kestrel", &["charter", "kick", "Wren"]).success();
    let wren = scene.talk("Wren").ticket(&first).start();
    let notice = |member: &Member, words: &str| {
        let of =
            |event: &hark_tests::Event| event.is("notice") && event.text("text").contains(words);
        member.wait_after(0, words, of);
    };
    notice(&kestrel, "Wren has come in without the role Pilot of the ticket");
    notice(&wren, "it was issued before your membership ended");
    has(&scene, &kestrel, &[]);
    scene.run("Kestrel", &["charter", "kick", "Wren"]).success();
    let ends = |events: &[hark_tests::Event]| {
        // The first `stopped` event was from before it was away.
        (events.iter().filter(|event| event.is("stopped")).count() == 2).then_some(())
    };
    wren.wait("its end", ends);
    drop(wren);
    let _wren = scene.talk("Wren").ticket(&kestrel.invite(&["--role", "Pilot"])).start();
    has(&scene, &kestrel, &["Wren"]);
}

/// Kestrel's organisation, in which pilots may edit presets but otherwise have no more rights than
/// others.
fn organisation(scene: &Scene) -> Member {
    scene.found("Kestrel", "Meridian Watch");
    let role = ["charter", "role", "add", "Pilot", "--rank", "30", "--can", "edit-presets"];
    scene.run("Kestrel", &role).success();
    scene.talk("Kestrel").start()
}

/// Waits until the member's charter says that exactly these members hold the role.
#[track_caller]
fn has(scene: &Scene, member: &Member, holders: &[&str]) {
    let name = member.name();
    let list = || {
        let list = scene.run(name, &["charter", "role", "list", "--json"]);
        let list: Value = serde_json::from_str(list.success()).expect("JSON");
        let mut roles = list.as_array().expect("a list").iter();
        let pilot = roles.find(|role| role["name"] == "Pilot");
        pilot.map(|role| role["held"].clone()).unwrap_or_default()
    };
    let is_so = |held: &Value| {
        let held = held.as_array().cloned().unwrap_or_default();
        let mut names: Vec<_> = held.iter().filter_map(|it| it["name"].as_str()).collect();
        names.sort_unstable();
        names == holders
    };
    // Each attempt takes as long as starting and ending a program.
    assert!((0..500).any(|_| is_so(&list())), "{name}: {}", list());
}
