//! Two machines on one cable, made of network namespaces.
#![cfg(target_os = "linux")]

use std::time::Duration;

use hark_tests::{Lan, Member, Scene};

/// Members who know each other, but not each other's present address, find each other on the LAN.
#[test]
fn mdns_alone() {
    let Some(lan) = Lan::lay(&["192.0.2."]) else { return };
    let scene = Scene::default();
    // They meet on loopback, so the addresses that they remember are useless on the cable.
    let mut kestrel = scene.talk("Kestrel").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    kestrel.leave();
    wren.leave();
    let kestrel = lan.talk(0, scene.talk("Kestrel")).start();
    let wren = lan.talk(1, scene.talk("Wren").speaking("english")).start();
    kestrel.is_among(&[&wren]);
    let up = kestrel.wait_after(0, "Wren", |event| event.is("peer_up"));
    assert!(up.text("address").starts_with("/ip4/192.0.2."), "{up:?}");
    let ready = wren.wait_after(0, "ready", |event| event.is("ready"));
    assert!(up.at().saturating_sub(ready.at()) <= FOUND, "{:?}", up.at() - ready.at());
    kestrel.hears(&wren, 200);
    kestrel.has_heard(&wren, 2);
}

/// A regression: a member reported every stranger on the LAN that did not let it in. Now it reports
/// only a peer that the person has asked for.
#[test]
fn strangers_on_the_lan_were_said_to_let_nobody_in() {
    let Some(lan) = Lan::lay(&["192.0.2."]) else { return };
    let scene = Scene::default();
    let kestrel = lan.talk(0, scene.talk("Kestrel")).start();
    let magpie = lan.talk(1, scene.talk("Magpie")).start();
    let address = magpie.address().to_string();
    let refused = |member: &Member| {
        let events = member.events();
        events.iter().filter(|event| event.is("refused")).count()
    };
    // The peer that was asked for comes after those that were found on the LAN.
    let wren = lan.talk(0, scene.talk("Wren").with(&["--peer", &address])).start();
    wren.wait_after(0, "word of it", |event| event.is("refused"));
    assert_eq!([refused(&kestrel), refused(&magpie), refused(&wren)], [0, 0, 1]);
}

/// A ticket admits on the LAN even if its addresses are out of date.
#[test]
fn newcomer_by_mdns() {
    let Some(lan) = Lan::lay(&["192.0.2."]) else { return };
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    kestrel.leave();
    let kestrel = lan.talk(0, scene.talk("Kestrel")).start();
    let wren = lan.talk(1, scene.talk("Wren").ticket(&ticket)).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
}

/// A tenth of all packets is lost each way, and their frames arrive as copies.
#[test]
fn random_loss() {
    let Some((lan, _scene, kestrel, wren)) = two_on_a_lan(&["192.0.2."]) else { return };
    lan.lose(10);
    // Until reports have requested copies, frames are missing.
    kestrel.hears(&wren, 300);
    let count = |name| kestrel.counter(name, &wren);
    let (received, concealed) = (count("frames_received"), count("frames_concealed"));
    let (recovered, late) = (count("frames_recovered"), count("frames_late"));
    kestrel.hears(&wren, 800);
    let received = count("frames_received") - received;
    let concealed = count("frames_concealed") - concealed;
    let recovered = count("frames_recovered") - recovered;
    let late = count("frames_late") - late;
    println!("{received} received, {recovered} recovered, {concealed} concealed, {late} late");
    assert!(recovered * 20 >= received, "{recovered} of {received} recovered");
    // Frames that a busy machine delivers late were not lost.
    let missing = concealed.saturating_sub(late);
    assert!(missing * 50 <= received, "{missing} missing, {received} received, {late} late");
    assert_eq!(kestrel.count("peer_down", &wren), 0);
}

/// A LAN without IPv4 is enough.
#[test]
fn ipv6_alone() {
    let Some((_lan, _scene, kestrel, wren)) = two_on_a_lan(&["2001:db8::"]) else { return };
    let up = kestrel.wait_after(0, "Wren", |event| event.is("peer_up"));
    assert!(up.text("address").starts_with("/ip6/2001:db8::"), "{up:?}");
    kestrel.hears(&wren, 200);
    kestrel.has_heard(&wren, 2);
}

/// A cable is unplugged and plugged in again.
#[test]
fn cable_is_pulled() {
    let Some((lan, _scene, kestrel, wren)) = two_on_a_lan(&["192.0.2."]) else { return };
    lan.plug(0, false);
    let gone = kestrel.wait_after(0, "end of Wren", |event| event.is("peer_down"));
    assert_eq!(gone.text("reason"), "unreachable");
    wren.wait_after(0, "end of Kestrel", |event| event.is("peer_down"));
    lan.plug(0, true);
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    kestrel.hears(&wren, 100);
}

/// A silent member and one that talks, connected by ticket over a cable.
fn two_on_a_lan(prefixes: &[&str]) -> Option<(Lan, Scene, Member, Member)> {
    let lan = Lan::lay(prefixes)?;
    let scene = Scene::default();
    let kestrel = lan.talk(0, scene.talk("Kestrel")).with(&["--no-mdns"]).start();
    let talk = scene.talk("Wren").ticket(&kestrel.ticket()).speaking("english");
    let wren = lan.talk(1, talk).with(&["--no-mdns"]).start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    kestrel.hears(&wren, 100);
    Some((lan, scene, kestrel, wren))
}

/// mDNS takes up to 3 s; the rest is for a busy machine.
const FOUND: Duration = Duration::from_secs(10);
