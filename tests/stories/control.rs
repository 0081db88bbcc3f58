//! A running member is controlled by `hark ctl`, and ends properly.

use std::fs;

use hark_node::wav::{WavError, load};
use hark_tests::{Member, Scene};
use hark_voice::level_dbfs;
use serde_json::Value;

/// What `hark ctl` asks for is done and displayed.
#[test]
fn commands_are_done() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let mut wren =
        scene.talk("Wren").ticket(&kestrel.ticket()).transmit("ptt").speaking("english").start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    let (mut started, mut ended) = (0, 0);
    let mut talks = |command: &[&str], on: bool| {
        wren.ctl(command);
        let (event, count) =
            if on { ("talk_started", &mut started) } else { ("talk_ended", &mut ended) };
        let device = wren.device();
        kestrel.wait(&format!("{event} by {command:?}"), |events| {
            let told = |one: &&hark_tests::Event| one.is(event) && one.is_about(&device);
            events.iter().filter(told).nth(*count).map(|_| ())
        });
        *count += 1;
        shows(&wren, |status| status["transmitting"] == on);
    };
    talks(&["ptt", "down"], true);
    talks(&["ptt", "up"], false);
    talks(&["transmit", "open"], true);
    talks(&["mute"], false);
    talks(&["unmute"], true);
    assert_eq!((started, ended), (3, 2));

    let shown = status(&kestrel);
    assert_eq!((&shown["name"], &shown["peers"][0]["name"]), (&"Kestrel".into(), &"Wren".into()));
    assert_eq!(shown["peers"][0]["reachable"], true);
    assert!(kestrel.ctl(&["status"]).contains("Wren: direct"));
    assert!(kestrel.ctl(&["invite"]).starts_with("hark1"));

    let told: Value = serde_json::from_str(&wren.ctl(&["away", "--json"])).expect("JSON");
    assert_eq!((&told["ok"], &told["away"]), (&true.into(), &true.into()));
    assert_eq!(wren.ctl(&["back"]), "the others see that you are here");
    assert_eq!(wren.ctl(&["quit"]), "the node ends");
    assert_eq!(wren.ended(), "quit");
    assert!(wren.try_ctl(&["status"]).complaint().contains("no node runs here"));
}

/// An officer moves a member to another net. A member without that right is informed that it may
/// not.
#[test]
fn a_member_is_moved_to_another_net() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    scene.run("Kestrel", &["charter", "channel", "add", "Flight"]).success();
    shows(&wren, |status| status["nets"].as_array().is_some_and(|nets| nets.len() == 2));
    let refused = wren.try_ctl(&["move", "Kestrel", "Flight"]);
    assert!(refused.complaint().contains("you may not move members there"));
    assert!(kestrel.try_ctl(&["move", "Dodo", "Flight"]).complaint().contains("\"Dodo\""));
    kestrel.ctl(&["move", "wren", "Flight", "--from", "squad"]);
    let moved = wren.wait_after(0, "a move", |event| event.is("moved"));
    assert_eq!(
        (moved.text("name"), moved.text("from"), moved.text("to")),
        ("Kestrel", "squad", "Flight")
    );
    shows(&wren, |status| {
        let heard = |name: &str| {
            let nets = status["nets"].as_array().expect("a list");
            let net = nets.iter().find(|net| net["name"] == name).expect("within reach");
            net["listening"] == true
        };
        !heard("squad") && heard("Flight") && status["talk_to"][0] == "Flight"
    });
    kestrel.ctl(&["listen", "Flight"]);
    kestrel.hears(&wren, 50);
}

/// A member whose volume is zero is not heard, and is heard again once the volume is raised.
#[test]
fn volume_of_one_member() {
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let wren = scene.talk("Wren").ticket(&ticket).transmit("ptt").speaking("english").start();
    kestrel.is_among(&[&wren]);
    wren.is_among(&[&kestrel]);
    kestrel.ctl(&["volume", "wren", "0"]);
    shows(&kestrel, |status| status["peers"][0]["volume"] == 0.0);
    wren.ctl(&["ptt", "down"]);
    kestrel.hears(&wren, 200);
    let silent = load(kestrel.output()).expect("a WAV file");
    assert_eq!(level_dbfs(&silent), -120.0);
    kestrel.ctl(&["volume", &wren.device(), "1"]);
    kestrel.hears(&wren, 300);
    kestrel.leave();
    kestrel.has_heard(&wren, 2);
    let nobody = scene.talk("Heron").start();
    let unknown = nobody.try_ctl(&["volume", "wren", "1"]);
    assert!(unknown.complaint().contains("nobody here is called \"wren\""));
}

/// Only a process that can read the member's home can control the member.
#[test]
fn wrong_token() {
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").start();
    kestrel.ctl(&["status"]);
    let organisations = scene.home("Kestrel").join("organisations");
    let folder = fs::read_dir(organisations).expect("there").next().expect("one").expect("read");
    let path = folder.path().join("control.json");
    let text = fs::read_to_string(&path).expect("a running node has it");
    let mut description: Value = serde_json::from_str(&text).expect("JSON");
    let token = description["token"].as_str().expect("a token");
    assert_eq!(token.len(), 64);
    description["token"] = token.chars().rev().collect::<String>().into();
    fs::write(&path, description.to_string()).expect("written");
    kestrel.try_ctl(&["quit"]).complaint();
    fs::write(&path, text).expect("written");
    assert_eq!(status(&kestrel)["name"], "Kestrel");
    kestrel.leave();
    assert!(!path.exists());
}

/// However the member is asked to end, it reports the reason and leaves complete files.
#[test]
fn ends_in_good_order() {
    let scene = Scene::default();
    let journal = scene.path("events");
    let talk = scene.talk("Kestrel").with(&["--for", "1s"]).events(&journal);
    let outcome = talk.output(&format!("file:{}", scene.path("out.wav").display())).outcome();
    let told = outcome.success();
    assert!(told.ends_with("stopped (time)"), "{told}");
    let events = fs::read_to_string(&journal).expect("the journal");
    assert!(!events.contains("hark1"), "a ticket is for nobody but the person: {events}");
    assert!(told.contains("\nhark1"), "who founds is given a ticket: {told}");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(&journal).expect("the journal").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "others of this machine do not read it");
    }
    let last: Value = serde_json::from_str(events.lines().last().expect("lines")).expect("JSON");
    assert_eq!((&last["event"], &last["reason"]), (&"stopped".into(), &"time".into()));
    let seconds = load(&scene.path("out.wav")).expect("a WAV file").len() as f64 / 48_000.0;
    assert!((0.5..1.5).contains(&seconds), "{seconds}");

    for signal in ["TERM", "INT", "HUP"] {
        let mut member = scene.talk("Kestrel").start();
        member.signal(signal);
        assert_eq!(member.ended(), "signal", "{signal}");
        load(member.output()).expect("a WAV file");
    }
}

/// What was heard before a crash is in a complete file.
#[test]
fn crash_leaves_a_whole_recording() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").speaking("english").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    wren.hears(&kestrel, 300);
    wren.kill();
    assert!(!matches!(load(wren.output()), Err(WavError::CutOff { .. })));
    wren.has_heard(&kestrel, 2);
}

/// Waits until the status, which is updated ten times a second, satisfies `like`.
#[track_caller]
fn shows(member: &Member, like: impl Fn(&Value) -> bool) {
    let mut asked = (0..100).map(|_| status(member));
    assert!(asked.any(|status| like(&status)), "{}", status(member));
}

fn status(member: &Member) -> Value {
    let status = member.ctl(&["status", "--json"]);
    let mut answer: Value = serde_json::from_str(&status).expect("JSON");
    answer["status"].take()
}
