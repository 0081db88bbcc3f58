//! Rights as an officer expects them: a muted member is silent and is informed, a banned member
//! stays out.

use hark_tests::{Member, Scene};
use serde_json::Value;

/// A regression: a member who was muted everywhere still talked in every net with a rule of its
/// own, and was not informed. An officer who muted somebody for a while had to remember to lift it.
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

/// A regression: a member who was kicked came back with the next ticket, since there was no ban.
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
    wren.is_among(&[&kestrel]);
    // Wren's own charter still contains the ban when Wren starts, but Wren is not greeted with it.
    let greeted = wren.events().iter().filter(|event| event.is("sanction")).count();
    assert_eq!(greeted, 0, "{:?}", wren.events());
    // Members that Wren lets in learn of Wren's ban first. They must not take it for the end of
    // their own membership.
    for name in ["Heron", "Magpie"] {
        scene.run(name, &["join", &wren.ticket()]).success();
        let mut newcomer = scene.talk(name).start();
        kestrel.is_among(&[&wren, &newcomer]);
        newcomer.is_among(&[&kestrel, &wren]);
        newcomer.leave();
    }
}

/// A regression: a member who was banned and pardoned while away was stopped at the first start, by
/// a ban that was over.
#[test]
fn a_pardoned_member_was_stopped_at_the_first_start() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    wren.leave();
    scene.run("Kestrel", &["charter", "ban", "Wren"]).success();
    // While the ban lasts, the member is told who has issued it, even with a new ticket.
    let outcome = scene.talk("Wren").ticket(&kestrel.ticket()).outcome();
    let line = outcome.complaint();
    assert!(line.contains("Kestrel has banned you everywhere until it is lifted"), "{line}");
    assert!(line.contains("by the ticket: "), "{line}");
    scene.run("Kestrel", &["charter", "unban", "Wren"]).success();
    let mut heron = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&heron]);
    heron.leave();
    for command in ["ban", "unban"] {
        scene.run("Kestrel", &["charter", command, "Heron"]).success();
    }
    let heron = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&heron]);
}

/// A regression: others were not informed of changes of roles, and of a kick only that somebody "is
/// gone (closed)".
#[test]
fn others_were_not_told_who_was_kicked_nor_by_whom() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    // This ticket was made before Wren came, so it names no other door. A newcomer whom a member
    // lets in falls with that member until the newcomer is listed.
    let ticket = kestrel.ticket();
    let wren = scene.talk("Wren").ticket(&ticket).start();
    let heron = scene.talk("Heron").ticket(&ticket).start();
    for (one, others) in [(&kestrel, [&wren, &heron]), (&heron, [&kestrel, &wren])] {
        one.is_among(&others);
    }
    scene.run("Kestrel", &["charter", "role", "add", "pilot", "--rank", "99"]).success();
    for (command, given) in [("grant", true), ("revoke", false)] {
        scene.run("Kestrel", &["charter", command, "pilot", "Wren"]).success();
        let told = wren.wait(command, |events| {
            let change = if given { "role_given" } else { "role_taken" };
            let mut told = events.iter().filter(|event| event.is("standing"));
            told.find(|event| event["own"] == true && event.text("change") == change).cloned()
        });
        assert_eq!((told.text("role"), told.text("by")), ("pilot", "Kestrel"));
        assert!(told["channel"].is_null());
    }
    scene.run("Kestrel", &["charter", "mute", "Wren"]).success();
    scene.run("Kestrel", &["charter", "unmute", "Wren"]).success();
    let lifted = wren.wait("the end of the mute", |events| {
        events.iter().find(|event| event.is("sanction") && event["in_force"] == false).cloned()
    });
    assert_eq!(lifted.text("lifted_by"), "Kestrel");

    let wrens = wren.device();
    scene.run("Kestrel", &["charter", "kick", "Wren"]).success();
    for other in [&kestrel, &heron] {
        let told = other.wait("word of the kick", |events| {
            let mut told = events.iter().filter(|event| event.is("standing"));
            told.find(|event| event.text("change") == "removed").cloned()
        });
        assert_eq!((told.text("name"), told.text("by")), ("Wren", "Kestrel"));
        assert_eq!(told["own"], false);
    }
    let down = kestrel
        .wait_after(0, "Wren to go", |event| event.is("peer_down") && event.is_about(&wrens));
    assert_eq!(down.text("reason"), "removed");
    // The kicked member is informed as well, and ends.
    wren.wait("its end", |events| events.iter().find(|it| it.is("stopped")).map(|_| ()));
    drop(wren);
    scene.run("Wren", &["join", &kestrel.ticket()]).success();
    // Heron may have let it in.
    kestrel.wait("Wren's name", |_| {
        let shown = scene.run("Kestrel", &["charter", "show", "--json"]);
        let shown: Value = serde_json::from_str(shown.success()).expect("JSON");
        let members = shown["members"].as_array().expect("a list");
        members.iter().any(|it| it["name"] == "Wren").then_some(())
    });
    scene.run("Kestrel", &["charter", "ban", "Wren", "--for", "1h"]).success();
    let told = heron.wait("word of the ban", |events| {
        let mut told = events.iter().filter(|event| event.is("standing"));
        told.find(|event| event.text("change") == "banned").cloned()
    });
    assert!(told["until"].is_u64() && told.text("by") == "Kestrel", "{told:?}");
}

/// A regression: a member who had left stayed in the list of members, as a number without a name.
#[test]
fn who_has_left_was_listed_still() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    scene.run("Wren", &["join", &kestrel.ticket(), "--name", "Wren"]).success();
    scene.run("Wren", &["leave", "--yes"]).success();
    let shown = scene.run("Kestrel", &["charter", "show", "--json"]);
    let shown: Value = serde_json::from_str(shown.success()).expect("JSON");
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(1), "{shown}");
    let left = shown["left"][0]["name"].as_str().expect("a name");
    assert!(left.starts_with("Wren#"), "{left}");
    kestrel.wait("the count of others", |_| (status(&kestrel)["other_members"] == 0).then_some(()));
}

/// A regression: a founder who followed the README could neither hear nor speak in the end.
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
