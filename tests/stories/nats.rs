//! Members behind the kernel's own NATs, each in a home of its own.
#![cfg(target_os = "linux")]

use std::{fs, path::Path};

use hark_tests::{Event, Hub, Internet, Member, Nat, Scene};

/// Two members whose NATs keep ports meet through the relay of their charter, and then talk without
/// it.
#[test]
fn neighbours_open_their_nats() {
    let Some((_internet, _scene, _hub, kestrel, wren)) = by_a_relay([Nat::KeepsPorts; 2]) else {
        return;
    };
    for (here, there) in [(&kestrel, &wren), (&wren, &kestrel)] {
        waits_for_path(here, there, |path| path != "relay");
        here.hears(there, 200);
    }
    let paths = [(&kestrel, &wren), (&wren, &kestrel)]
        .map(|(here, there)| newest_path(&here.events(), &there.device()));
    assert!(paths.contains(&"punched".to_owned()), "{paths:?}");
    kestrel.has_heard(&wren, 2);
}

/// With ports that nobody can predict, the members stay on the relay.
#[test]
fn a_nat_with_random_ports() {
    by_relay_alone([Nat::RandomPorts, Nat::KeepsPorts], |_| ());
}

#[test]
fn both_nats_with_random_ports() {
    by_relay_alone([Nat::RandomPorts; 2], |_| ());
}

/// NATs that could be punched do not help if nothing passes between them.
#[test]
fn a_provider_that_keeps_its_customers_apart() {
    by_relay_alone([Nat::KeepsPorts; 2], Internet::part_neighbours);
}

/// A member that all can reach relays for those whose NATs cannot be punched.
#[test]
fn a_volunteer_between_nats_with_random_ports() {
    let Some(internet) = Internet::lay(&[Nat::RandomPorts; 2]) else { return };
    let scene = Scene::default();
    scene.found("Osprey", "Falconry");
    acquaint(&internet, &scene, &["Osprey", "Kestrel", "Wren"]);
    scene.run("Osprey", &["relay", "volunteer", "on"]).success();
    let osprey = internet.talk_outside(scene.talk("Osprey")).start();
    let [kestrel, wren] = ["Kestrel", "Wren"].map(|name| scene.talk(name));
    let [kestrel, wren] =
        [(0, kestrel, "english"), (1, wren, "french")].map(|(home, it, sound)| {
            internet.talk(home, it.speaking(sound)).with(&["--peer", "192.0.2.1:7400"]).start()
        });
    for (here, there) in [(&kestrel, &wren), (&wren, &kestrel)] {
        waits_for_path(here, there, |path| path == "relay");
        here.hears(there, 200);
        assert_eq!(newest_path(&here.events(), &osprey.device()), "direct");
    }
}

/// A newcomer and the only door of its ticket are behind NATs that cannot be punched. The relay
/// that the ticket names leads the newcomer to the door. [PROTO-3.10] [PROTO-3.21]
#[test]
fn a_newcomer_is_led_to_a_door_behind_a_nat() {
    let Some(internet) = Internet::lay(&[Nat::RandomPorts; 2]) else { return };
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let _hub = Hub::outside(&internet, &scene, "Kestrel");
    let kestrel = internet.talk(0, scene.talk("Kestrel").speaking("english")).start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("french");
    let wren = internet.talk(1, wren).start();
    for (here, there) in [(&kestrel, &wren), (&wren, &kestrel)] {
        here.is_among(&[there]);
        here.hears(there, 200);
        assert_eq!(newest_path(&here.events(), &there.device()), "relay");
        assert_eq!(here.count("peer_down", there), 0);
    }
}

/// A port that a person has forwarded is found through peers that were met elsewhere, and then
/// appears in tickets. [PROTO-5.9]
#[test]
fn a_newcomer_comes_by_a_port_forwarded_by_hand() {
    let Some(internet) = Internet::lay(&[Nat::KeepsPorts; 2]) else { return };
    internet.forward(0, 7_500);
    let scene = Scene::default();
    scene.found("Osprey", "Falconry");
    acquaint(&internet, &scene, &["Osprey", "Kestrel"]);
    let mut osprey = internet.talk_outside(scene.talk("Osprey")).start();
    let listen = ["--listen", "0.0.0.0:7500", "--peer", "192.0.2.1:7400"];
    let kestrel = internet.talk(0, scene.talk("Kestrel").speaking("english")).with(&listen).start();
    let outside = "192.0.2.11:7500";
    kestrel.wait("that it is reached", |events| {
        let newest = events.iter().rev().find(|event| event.is("reachability"))?;
        (newest.texts("reachable") == [outside]).then_some(())
    });
    let folder = scene.home("Kestrel");
    let ask = |command: &[&str]| internet.run(0, &folder, command);
    let status = ask(&["ctl", "status"]).success().to_owned();
    assert!(status.contains(&format!("reachable from outside at {outside}, found ")), "{status}");
    // Something else may be wrong with this machine.
    let doctor = ask(&["doctor", "--json"]).stdout;
    assert!(
        doctor.contains(&format!("others elsewhere reach this device at {outside}")),
        "{doctor}"
    );
    let ticket = ask(&["ctl", "invite"]).success().to_owned();
    osprey.leave();
    let wren = internet.talk(1, scene.talk("Wren").ticket(&ticket)).start();
    wren.is_among(&[&kestrel]);
    wren.hears(&kestrel, 200);
    assert_eq!(newest_path(&wren.events(), &kestrel.device()), "direct");
}

/// A member that hides its address exchanges packets only with the relay, and no other member
/// learns its address. [PROTO-2.11]
#[test]
fn relay_only_hides_the_address() {
    let Some(internet) = Internet::lay(&[Nat::KeepsPorts; 3]) else { return };
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let _hub = Hub::outside(&internet, &scene, "Kestrel");
    acquaint(&internet, &scene, &["Kestrel", "Wren", "Heron"]);
    internet.count_neighbours();
    let kestrel = scene.talk("Kestrel").speaking("english");
    let kestrel = internet.talk(0, kestrel).with(&["--relay-only"]).start();
    let wren = internet.talk(1, scene.talk("Wren").speaking("french")).start();
    let heron = internet.talk(2, scene.talk("Heron")).start();
    for other in [&wren, &heron] {
        waits_for_path(&kestrel, other, |path| path == "relay");
        other.hears(&kestrel, 200);
    }
    kestrel.hears(&wren, 200);
    // These two have a punched path to each other, and would make one to Kestrel.
    waits_for_path(&heron, &wren, |path| path != "relay");
    heron.hears(&wren, 200);
    assert!(internet.counted(1) > 200);
    assert_eq!(internet.counted(0), 0);
    for (member, other) in [(&wren, 2), (&heron, 1)] {
        assert_eq!(newest_path(&member.events(), &kestrel.device()), "relay");
        assert!(!knows(&scene, member, 0), "{} knows where Kestrel is", member.name());
        assert!(knows(&scene, member, other), "it would be found");
    }
}

/// A newcomer that hides its address comes in by the relay that its ticket names. No packet goes
/// anywhere else, and no other member learns its address. [PROTO-3.10]
#[test]
fn a_newcomer_who_hides_comes_in_by_the_relay() {
    let Some(internet) = Internet::lay(&[Nat::KeepsPorts; 3]) else { return };
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let _hub = Hub::outside(&internet, &scene, "Kestrel");
    internet.count_elsewhere();
    let kestrel = internet.talk(0, scene.talk("Kestrel").speaking("english")).start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("french");
    let wren = internet.talk(1, wren).with(&["--relay-only"]).start();
    let heron = scene.talk("Heron").ticket(&kestrel.ticket());
    let heron = internet.talk(2, heron).start();
    for other in [&kestrel, &heron] {
        waits_for_path(&wren, other, |path| path == "relay");
        other.hears(&wren, 200);
    }
    wren.hears(&kestrel, 200);
    // These two have a punched path to each other, and would make one to Wren.
    waits_for_path(&heron, &kestrel, |path| path != "relay");
    heron.hears(&kestrel, 200);
    assert_eq!(internet.counted_elsewhere(1), 0);
    assert!(internet.counted_elsewhere(2) > 200);
    for (member, other) in [(&kestrel, 2), (&heron, 0)] {
        assert_eq!(newest_path(&member.events(), &wren.device()), "relay");
        assert!(!knows(&scene, member, 1), "{} knows where Wren is", member.name());
        assert!(knows(&scene, member, other), "it would be found");
    }
}

/// Two members talk, each in a home of its own. Their charter names a relay on the street.
fn by_a_relay(nats: [Nat; 2]) -> Option<(Internet, Scene, Hub, Member, Member)> {
    by_a_relay_where(nats, |_| ())
}

fn by_a_relay_where(
    nats: [Nat; 2],
    prepare: impl FnOnce(&Internet),
) -> Option<(Internet, Scene, Hub, Member, Member)> {
    let internet = Internet::lay(&nats)?;
    prepare(&internet);
    let scene = Scene::default();
    scene.found("Kestrel", "Falconry");
    let hub = Hub::outside(&internet, &scene, "Kestrel");
    acquaint(&internet, &scene, &["Kestrel", "Wren"]);
    let kestrel = internet.talk(0, scene.talk("Kestrel").speaking("english")).start();
    let wren = internet.talk(1, scene.talk("Wren").speaking("french")).start();
    Some((internet, scene, hub, kestrel, wren))
}

/// The two members hear each other, and only through the relay.
fn by_relay_alone(nats: [Nat; 2], prepare: impl FnOnce(&Internet)) {
    let Some((_internet, _scene, _hub, kestrel, wren)) = by_a_relay_where(nats, prepare) else {
        return;
    };
    for (here, there) in [(&kestrel, &wren), (&wren, &kestrel)] {
        waits_for_path(here, there, |path| path == "relay");
        // By then they have tried to punch their NATs more than once.
        here.hears(there, 400);
        let device = there.device();
        let paths = here.events();
        let mut paths = paths.iter().filter_map(|event| path_of(event, &device));
        assert!(paths.all(|path| path == "relay"), "{:?}", here.events());
    }
    kestrel.has_heard(&wren, 2);
    wren.has_heard(&kestrel, 2);
}

/// Has the others join the first member's squad on one machine. The addresses that they have there
/// are of no use later.
fn acquaint(internet: &Internet, scene: &Scene, names: &[&str]) {
    let (first, others) = names.split_first().expect("somebody has founded it");
    let talk = |name| scene.talk(name).through(&internet.outside());
    let mut founder = talk(first).start();
    for name in others {
        let mut joined = talk(name).ticket(&founder.ticket()).start();
        joined.is_among(&[&founder]);
        joined.leave();
    }
    founder.leave();
}

#[track_caller]
fn waits_for_path(here: &Member, there: &Member, is: impl Fn(&str) -> bool) {
    let device = there.device();
    here.wait(&format!("path to {}", there.name()), |events| {
        is(&newest_path(events, &device)).then_some(())
    });
}

/// The path to a device, as it was reported last.
fn newest_path(events: &[Event], device: &str) -> String {
    let newest = events.iter().rev().find_map(|event| path_of(event, device));
    newest.unwrap_or_default().to_owned()
}

/// The path to a device that this event reports.
fn path_of<'a>(event: &'a Event, device: &str) -> Option<&'a str> {
    if !event.is_about(device) {
        return None;
    }
    match (event.is("peer_up"), event.is("path_changed")) {
        (true, _) => Some(event.text("path")),
        (_, true) => Some(event.text("to")),
        _ => None,
    }
}

/// Whether a member has reported or stored an address of this home.
fn knows(scene: &Scene, member: &Member, home: usize) -> bool {
    let told = format!("{:?}{}", member.events(), member.stderr());
    let kept = kept(&scene.home(member.name()));
    let known = Internet::addresses_of(home).map(|address| {
        let [a, b, c, d] = address;
        told.contains(&format!("{a}.{b}.{c}.{d}"))
            || kept.windows(address.len()).any(|bytes| bytes == address)
    });
    known.contains(&true)
}

/// Everything that a member stores, one file after the other.
fn kept(folder: &Path) -> Vec<u8> {
    let entries =
        fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is read"));
    let parts = entries.map(|entry| match entry.path() {
        path if path.is_dir() => kept(&path),
        // The socket of a local API is not a file that can be read.
        path => fs::read(path).unwrap_or_default(),
    });
    parts.collect::<Vec<_>>().concat()
}
