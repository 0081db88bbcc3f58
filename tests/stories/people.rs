//! Who is who: members of the same name, words that are compared, and members who have left.

use hark_tests::{Member, Scene};
use serde_json::Value;

/// A regression: anybody could join as Sable and had an equal row on everyone's screen.
#[test]
fn two_members_of_one_name_are_told_apart_and_verified() {
    let scene = Scene::default();
    scene.found("Kestrel", "Nightingale");
    let kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let sable = scene.talk("Sable").ticket(&ticket).start();
    let device = sable.device();
    let first = kestrel.wait_after(0, "Sable", |it| it.is("peer_up") && it.is_about(&device));
    assert_eq!(first.text("name"), "Sable");
    let other = scene.talk("s\u{430}ble").ticket(&ticket).start();
    let second = other.device();
    let came = kestrel.wait_after(0, "the other", |it| it.is("peer_up") && it.is_about(&second));
    assert!(came.text("name").starts_with("s\u{430}ble#"), "{came:?}");
    assert!(came.text("looks_like").starts_with("Sable#"), "{came:?}");

    let names = names_of(&kestrel);
    assert!(names.iter().all(|name| name.contains('#')), "{names:?}");
    let complaint = scene.run("Kestrel", &["verify", "Sable"]);
    assert!(complaint.complaint().contains("Sable#"), "{complaint:?}");
    let marked = names.iter().find(|name| name.starts_with('S')).expect("one is");
    let shown = scene.run("Kestrel", &["verify", marked]).success().to_owned();
    let words = scene.run("Sable", &["id"]).success().to_owned();
    let words = words.lines().find(|line| line.contains("words")).expect("six words");
    let words: Vec<_> = words.split_whitespace().skip(1).collect();
    assert!(shown.contains(&words.join(" ")) && shown.contains(&device), "{shown}\n{words:?}");
    assert!(shown.contains("not verified"), "{shown}");
    let confirmed = scene.run("Kestrel", &["verify", marked, "--confirm"]);
    assert!(confirmed.success().contains("verified: you have compared"), "{confirmed:?}");
    assert!(kestrel.ctl(&["status"]).contains("(verified)"));

    // The verification is stored.
    drop(kestrel);
    let peer = ["--peer", &sable.address().to_string()];
    let kestrel = scene.talk("Kestrel").with(&peer).start();
    kestrel.wait_after(0, "Sable", |it| it.is("peer_up") && it.is_about(&device));
    assert!(!names_of(&kestrel).is_empty());
    assert!(kestrel.ctl(&["status"]).contains("(verified)"));
    let nobody = scene.run("Kestrel", &["verify", "Wren"]);
    assert!(nobody.complaint().contains("nobody here is called"), "{nobody:?}");
}

/// A regression: a removed member stayed on screens as `away`.
#[test]
fn a_removed_member_stayed_on_screens() {
    let scene = Scene::default();
    scene.found("Kestrel", "Nightingale");
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    let device = wren.device();
    kestrel.wait_after(0, "Wren", |it| it.is("peer_up") && it.is_about(&device));
    assert_eq!(names_of(&kestrel), ["Wren"]);
    scene.run("Kestrel", &["charter", "kick", "Wren"]).success();
    kestrel.wait_after(0, "its end", |it| it.is("peer_down") && it.is_about(&device));
    assert_eq!(names_of(&kestrel), Vec::<String>::new());
}

/// The names that the screen and the status show now.
fn names_of(member: &Member) -> Vec<String> {
    // The answer to a command reflects everything that came before it.
    member.ctl(&["mute"]);
    let answer: Value = serde_json::from_str(&member.ctl(&["status", "--json"])).expect("JSON");
    let peers = answer["status"]["peers"].as_array().expect("a list");
    peers.iter().map(|peer| peer["name"].as_str().expect("a name").to_owned()).collect()
}

/// A regression: a founder was named after the system's account, without a word about it.
#[test]
fn nobody_was_asked_for_a_name() {
    let scene = Scene::default();
    let (folder, home) = (scene.folder(), scene.home("Sable").display().to_string());
    let founds = |name: &str| format!("script -qec \"hark new {name} --home {home}\" /dev/null");
    let asked = scene.shell(&format!("printf 'Sable\\n' | {}", founds("Escort")), &folder);
    assert!(asked.success().contains("Your name, as the others will see it ["), "{asked:?}");
    let ticket = scene.run("Sable", &["invite"]).success().to_owned();
    let shown = scene.run("Sable", &["ticket", "show", &ticket]);
    assert!(shown.success().contains("from    Sable, by the device"), "{shown:?}");
    let again = scene.shell(&format!("printf 'Snipe\\n' | {}", founds("Nightjar")), &folder);
    assert!(!again.success().contains("Your name"), "it is kept: {again:?}");

    let named = scene.run("Heron", &["new", "Meridian", "--name", "Heron", "--json"]);
    let founded: Value = serde_json::from_str(named.success()).expect("JSON");
    let ticket = founded["ticket"].as_str().expect("one");
    let shown = scene.run("Heron", &["ticket", "show", ticket]);
    assert!(shown.success().contains("from    Heron, by the device"), "{shown:?}");
}
