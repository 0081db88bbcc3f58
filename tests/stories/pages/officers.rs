//! The page for officers.

use std::thread;

use hark_tests::{Event, Member, run};

use super::{block::Block, stage::Stage};

/// The organisation of the page, with Sable, who has founded it and whose node runs, members whose
/// nodes do not run, and the founder's 24 words.
fn watch(members: &[&str]) -> (Stage, Member, String) {
    let stage = Stage::default();
    let founded = stage.answer("Sable", &["new", "Meridian Watch"]);
    let words = format!("{}\n", founded["recovery"].as_str().expect("24 words"));
    let sable = stage.scene.talk("Sable").start();
    stage.plays("Sable", "hark charter apply examples/organisation/meridian-watch.toml");
    for name in members {
        stage.joins(name, &sable.ticket());
    }
    (stage, sable, words)
}

pub(super) fn evening([people, evening @ ..]: [Block; 12]) {
    // A regression: the reader had to create the people of the page, but was not told how.
    let stage = Stage::default();
    let start = people.text.replace("/tmp/watch/sable", "/tmp/watch/Sable");
    let start = start.replace("/tmp/watch", &stage.scene.folder());
    // The node ends by itself, whatever happens to the test.
    let start = start.replace("hark talk", "hark talk --for 3m --no-port-mapping");
    stage.scene.shell(&start, super::ROOT).success();
    let asks = stage.plays("Sable", "hark invite --ask --expires 5m");
    let mut waiting = ["Teal", "Snipe"].map(|name| {
        let (home, asks) = (stage.scene.home(name), asks.trim().to_owned());
        let waits = thread::spawn(move || run(&home, &["join", &asks, "--name", name]).status);
        let seen = || stage.plays("Sable", "hark ctl waiting").contains(name);
        assert!((0..500).any(|_| seen()), "{name} waits");
        Some(waits)
    });
    for block in &evening {
        for line in block.commands() {
            if line.contains("NUMBER") {
                let tickets = stage.answer("Sable", &["ticket", "list"]);
                stage.stands_for("NUMBER", tickets[0]["number"].as_str().expect("a ticket"));
            }
            let said = stage.plays("Sable", &line);
            if line.contains("why Heron") {
                assert!(said.starts_with("Heron may not speak in Lounge: muted"), "{said}");
            }
            if line.contains("why Osprey") {
                let why = "Osprey may join in Briefing: the rule for role officer";
                assert!(said.starts_with(why), "{said}");
            }
            for (waits, (decision, status)) in
                waiting.iter_mut().zip([("admit Teal", 0), ("refuse Snipe", 1)])
            {
                if line.contains(decision) {
                    let waits = waits.take().expect("it is decided once");
                    assert_eq!(waits.join().expect("it ends"), Some(status), "{line}");
                }
            }
        }
    }
    assert!(waiting.iter().all(Option::is_none), "both were decided");
    let status = stage.plays("Sable", "hark ctl status");
    assert!(!status.contains("Patrol"), "the plan has ended");
    stage.plays("Sable", "hark ctl quit");
}

pub(super) fn trouble([lost, rogue, alone]: [Block; 3]) {
    let (stage, sable, words) = watch(&["Heron", "Osprey"]);
    stage.plays("Sable", "hark charter grant officer Osprey");
    let ticket = stage.answer("Sable", &["device", "invite"]);
    let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
    stage.scene.run("stolen", &["join", &ticket]).success();
    let device = |who: &str| {
        let id = stage.answer(who, &["id"]);
        id["organisations"][0]["device"].as_str().expect("an id").to_owned()
    };
    stage.stands_for("DEVICE", &device("stolen"));
    stage.plays_all("Sable", &lost);
    let said = stage.plays_all("Sable", &rogue);
    assert!(said.contains("ban") && said.contains("Osprey"), "{said}");

    // Osprey learns of it, and is then pardoned, since the next part needs an officer.
    let told = stage.scene.talk("Osprey").outcome();
    assert!(told.complaint().contains("banned you everywhere"), "{told:?}");
    stage.plays("Sable", "hark charter unban Osprey");
    let osprey = stage.scene.talk("Osprey").ticket(&sable.ticket()).start();
    let is_osprey = |event: &Event| event.is("peer_up") && event.is_about(&osprey.device());
    sable.wait_after(0, "Osprey", is_osprey);
    stage.stands_for("DEVICE", &device("Osprey"));
    for line in alone.commands() {
        match line.split_once(" #").map(|(_, remark)| remark.trim()) {
            Some(remark) if remark.contains("FOUNDER'S WORDS") => {
                stage.plays_at_a_terminal("Sable", &line, &words);
            }
            Some("Osprey") => drop(stage.plays("Osprey", &line)),
            _ => drop(stage.plays("Sable", &line)),
        }
    }
    let policies = stage.answer("Sable", &["charter", "show"]);
    assert!(policies.to_string().contains("48"), "{policies:#}");
}

pub(super) fn why([shown]: [Block; 1]) {
    let (stage, _sable, _) = watch(&["Heron"]);
    stage.plays("Sable", "hark charter mute Heron --for 10m");
    let (line, rest) = shown.text.split_once('\n').expect("lines");
    let said = stage.plays("Sable", line.strip_prefix("$ ").expect("what is typed"));
    shown.is_what_was_said(rest, &said);
}
