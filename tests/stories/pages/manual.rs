//! The manual.

use std::fs;

use hark_tests::speech;
use serde_json::Value;

use super::{block::Block, stage::Stage};

pub(super) fn machines([invite, recover]: [Block; 2]) {
    let stage = Stage::default();
    let kestrel = stage.scene.talk("Kestrel").start();
    let said = stage.plays_all("Kestrel", &invite);
    let ticket = said.split_whitespace().find(|it| it.starts_with("hark1"));
    let ticket = ticket.unwrap_or_else(|| panic!("no ticket: {said}"));
    stage.scene.run("second", &["join", ticket]).success();
    let listed = stage.plays("Kestrel", "hark charter device list");
    let second = device(&stage, "second");
    assert!(listed.contains(&device(&stage, "Kestrel")) && listed.contains(&second), "{listed}");

    let joined = stage.scene.run("Heron", &["join", &kestrel.ticket(), "--json"]);
    let joined: Value = serde_json::from_str(joined.success()).expect("JSON");
    let words = joined["recovery"].as_str().expect("24 words").to_owned();
    stage.stands_for("hark1…", &kestrel.ticket());
    let [line] = &recover.commands()[..] else { panic!("{recover:?}") };
    let said = stage.plays_with("Heron anew", line, &words);
    assert!(said.contains("you are yourself again"), "{said}");
}

/// The device of a person in the only organisation.
fn device(stage: &Stage, who: &str) -> String {
    stage.answer(who, &["id"])["organisations"][0]["device"].as_str().expect("an id").to_owned()
}

pub(super) fn nets([commands]: [Block; 1]) {
    let stage = Stage::default();
    stage.scene.found("Sable", "Meridian Watch");
    stage.plays("Sable", "hark charter apply examples/organisation/meridian-watch.toml");
    let [talk, steer @ ..] = &commands.commands()[..] else { panic!("{commands:?}") };
    let sable = stage.talk("Sable", talk).start();
    let heron = stage.scene.talk("Heron").ticket(&sable.ticket()).start();
    sable.wait_after(0, "Heron", |event| event.is("peer_up"));
    for line in steer {
        if line.contains("down 2") {
            // The layout of this role has a second key.
            stage.plays("Sable", "hark charter grant 'flight lead' Sable");
            stage.plays("Sable", "hark charter preset load patrol");
        }
        if line.contains("move") {
            stage.plays("Sable", "hark charter grant officer Heron");
            heron.ctl(&["listen", "Flight"]);
        }
        stage.plays("Sable", line);
        if line.contains("profile copy") {
            assert!(sable.ctl(&["profile"]).contains("pilot"));
        }
    }
    let moved = heron.wait_after(0, "a move", |event| event.is("moved"));
    assert_eq!((moved.text("from"), moved.text("to")), ("Flight", "Command"));
}

pub(super) fn sound([commands]: [Block; 1]) {
    let stage = Stage::default();
    let sable = stage.scene.talk("Sable").start();
    for line in &commands.commands()[..] {
        stage.plays("Sable", line);
    }
    let status: Value = serde_json::from_str(&sable.ctl(&["status", "--json"])).expect("JSON");
    let status = &status["status"];
    assert_eq!(status["processing"]["noise"]["mode"], "on");
    assert_eq!(
        (&status["cues"]["people"], &status["side_tone"]["on"]),
        (&true.into(), &true.into())
    );
}

pub(super) fn organisations([commands]: [Block; 1]) {
    let stage = Stage::default();
    stage.scene.found("Sable", "Meridian Watch");
    stage.plays("Sable", "hark charter apply examples/organisation/meridian-watch.toml");
    stage.scene.found("Osprey", "Escort");
    stage.plays("Osprey", "hark charter channel add Command");
    let leaders = ["Sable", "Osprey"].map(|name| {
        let leader = stage.scene.talk(name).start();
        stage.joins("Heron", &leader.ticket());
        leader
    });
    let [talk, steer @ ..] = &commands.commands()[..] else { panic!("{commands:?}") };
    let heron = stage.talk("Heron", talk).start();
    for leader in &leaders {
        leader.wait_after(0, "Heron", |event| event.is("peer_up"));
    }
    for line in steer {
        stage.plays("Heron", line);
    }
    let front = |name: &str| {
        let shown = heron.ctl(&["--org", name, "status", "--json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["status"]["front"] == true
    };
    assert!(front("Escort") && !front("Meridian Watch"));
}

pub(super) fn scripts([commands]: [Block; 1]) {
    let stage = Stage::default();
    let home = stage.scene.path("kestrel");
    stage.stands_for("/tmp/kestrel", &home.display().to_string());
    // It stays on this machine, and runs for a shorter time.
    stage.stands_for("--for 30s", "--for 2s --listen 127.0.0.1:0 --no-mdns --no-port-mapping");
    fs::copy(speech("english"), stage.scene.path("here").join("speech.wav")).expect("copied");
    let said = stage.plays_all("Kestrel", &commands);
    let events: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(events.iter().all(|it| it["event"].is_string() && it["at_us"].is_u64()), "{said}");
    for name in ["ready", "audio_started", "self_changed", "stats", "stopped"] {
        assert!(events.iter().any(|it| it["event"] == name), "{name}: {said}");
    }
}

pub(super) fn relay([start, volunteer]: [Block; 2]) {
    let stage = Stage::default();
    let lines = start.commands();
    // What the page builds has been built already.
    let [line] = &lines[1..] else { panic!("{lines:?}") };
    let line = line.split(" #").next().unwrap_or(line).trim();
    let home = stage.scene.path("hub");
    let line = format!(
        "{line} --home {} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --for 1ms",
        home.display()
    );
    let said = stage.plays("operator", &line);
    assert!(said.contains("an officer names it: hark charter relay add"), "{said}");

    let kestrel = stage.scene.talk("Kestrel").start();
    stage.plays_all("Kestrel", &volunteer);
    kestrel.ctl(&["status"]);
}
