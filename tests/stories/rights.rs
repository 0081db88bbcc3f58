//! Rights as an officer expects them: who is muted is silent and told, who is banned stays out.

use hark_tests::{Member, Scene};
use serde_json::Value;

/// A member who was muted everywhere talked on in every net with a rule of its own, and nobody told
/// him; and who muted him for a while had to remember to lift it.
#[test]
fn a_muted_member_talked_on_and_was_not_told() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).transmit("open").start();
    kestrel.is_among(&[&wren]);
    let net = status(&kestrel)["nets"][0]["name"].as_str().expect("a name").to_owned();
    let rule = ["charter", "rule", "everyone", "--at", &net, "--allow", "speak"];
    scene.run("Kestrel", &rule).success();
    kestrel.hears(&wren, 20);
    let upwards = scene.run("Wren", &["charter", "mute", "Kestrel"]);
    assert!(upwards.complaint().contains("the right mute everywhere; no member could alone"));

    let (at_kestrel, at_wren) = (kestrel.events().len(), wren.events().len());
    let muted = scene.run("Kestrel", &["charter", "mute", "Wren", "--for", "8s"]);
    assert!(muted.success().starts_with("muted Wren everywhere until "), "{}", muted.success());
    let told = |member: &Member, in_force: bool| {
        member.wait(&format!("word of the mute, {in_force}"), |events| {
            let mut told = events[at_wren..].iter().filter(|event| event.is("sanction"));
            told.find(|event| event["in_force"] == in_force).cloned()
        })
    };
    let begun = told(&wren, true);
    assert_eq!((begun.text("kind"), begun.text("by")), ("mute", "Kestrel"));
    assert!(begun["until"].is_u64() && begun["channel"].is_null(), "{begun:?}");
    let device = wren.device();
    kestrel.wait_after(at_kestrel, "the end of Wren's talk", |event| {
        event.is("talk_ended") && event.is_about(&device)
    });
    let why = scene.run("Wren", &["charter", "why", "me", "speak", &net]);
    let why = why.success();
    assert!(
        why.starts_with(&format!("Wren may not speak in {net}: muted everywhere until ")),
        "{why}"
    );
    told(&wren, false);
    kestrel.hears(&wren, 20);
}

/// Whoever was kicked came back by the next ticket: there was no ban.
#[test]
fn a_banned_member_came_back_by_the_next_ticket() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    let banned = scene.run("Kestrel", &["charter", "ban", "Wren"]);
    assert!(banned.success().starts_with("banned Wren everywhere until it is lifted"));
    let end = wren.wait("the end", |events| {
        events.iter().find(|event| event.is("stopped")).map(|it| it.text("reason").to_owned())
    });
    assert!(end.ends_with("Kestrel has banned you everywhere until it is lifted"), "{end}");
    drop(wren);
    let refused = scene.run("Wren", &["join", &kestrel.ticket()]);
    assert!(refused.complaint().contains("an officer has banned you"), "{}", refused.complaint());
    assert!(scene.run("Kestrel", &["charter", "unban", "Wren"]).success().starts_with("unbanned"));
    scene.run("Wren", &["join", &kestrel.ticket()]).success();
    let wren = scene.talk("Wren").start();
    kestrel.is_among(&[&wren]);
    // Whom she let in heard of her ban first, and took it for the end of their own membership.
    for name in ["Heron", "Magpie"] {
        scene.run(name, &["join", &wren.ticket()]).success();
        kestrel.is_among(&[&wren, &scene.talk(name).start()]);
    }
}

/// Who followed the README's way to an organisation could neither hear nor speak at its end.
#[test]
fn the_founder_of_an_organisation_was_deaf_and_mute() {
    let scene = Scene::default();
    scene.found("Kestrel", "Meridian Watch");
    let kestrel = scene.talk("Kestrel").transmit("open").start();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/organisation/meridian-watch.toml");
    scene.run("Kestrel", &["charter", "apply", file]).success();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).transmit("open").start();
    kestrel.hears(&wren, 20);
    wren.hears(&kestrel, 20);
    assert_eq!(status(&kestrel)["talk_to"], serde_json::json!(["Lounge"]));
    scene.run("Kestrel", &["charter", "grant", "pilot", "Wren"]).success();
    scene.run("Kestrel", &["charter", "preset", "load", "patrol"]).success();
}

fn status(member: &Member) -> Value {
    let status = member.ctl(&["status", "--json"]);
    let mut answer: Value = serde_json::from_str(&status).expect("JSON");
    answer["status"].take()
}
