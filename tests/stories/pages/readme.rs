//! The README.

use std::{fs, path::Path};

use serde_json::Value;

use super::{block::Block, stage::Stage};

/// What `./run` alone prints in the end. It runs for 20 s there.
pub(super) fn demo([shown]: [Block; 1]) {
    let stage = Stage::default();
    let said = stage.plays("Kestrel", "hark demo --seconds 5");
    shown.is_what_was_said(&shown.text, &said);
    for line in shown.text.lines().filter(|line| line.ends_with(".wav")) {
        assert!(stage.scene.path("here").join(line.trim()).exists(), "{line}");
    }
}

pub(super) fn friends([found, join, verify]: [Block; 3]) {
    let stage = Stage::default();
    let [found] = &found.commands()[..] else { panic!("{found:?}") };
    let kestrel = stage.talk("Kestrel", found).start();
    stage.stands_for("hark1…", &kestrel.ticket());
    let [join] = &join.commands()[..] else { panic!("{join:?}") };
    let magpie = stage.talk("Magpie", join).start();
    kestrel.is_among(&[&magpie]);
    magpie.is_among(&[&kestrel]);

    let words = stage.answer("Magpie", &["id"]);
    let words = words["organisations"][0]["words"].as_array().expect("words").iter();
    let words: Vec<_> = words.filter_map(Value::as_str).collect();
    assert_eq!(words.len(), 6);
    let [show, confirm] = &verify.commands()[..] else { panic!("{verify:?}") };
    let shown = stage.plays("Kestrel", show);
    assert!(shown.contains(&magpie.device()) && shown.contains(&words.join(" ")), "{shown}");
    stage.plays("Kestrel", confirm);
    assert!(stage.plays("Kestrel", "hark ctl status").contains("verified"));
}

pub(super) fn organisation([commands]: [Block; 1]) {
    let stage = Stage::default();
    let mut sable = None;
    for line in commands.commands() {
        if line.starts_with("hark talk") {
            let node = stage.talk("Sable", &line).start();
            let ticket = node.ticket();
            stage.joins("Heron", &ticket);
            sable = Some(node);
            continue;
        }
        let said = stage.plays("Sable", &line);
        if line.starts_with("hark new") {
            let words = said.lines().filter(|line| line.starts_with("  "));
            assert_eq!(words.flat_map(str::split_whitespace).count(), 24, "{said}");
        }
        if line.contains("why") {
            assert!(said.starts_with("Heron may"), "{said}");
        }
    }
    let sable = sable.expect("it talks");
    assert!(sable.ctl(&["status"]).contains("Meridian Watch"));
    let shown = stage.answer("Sable", &["charter", "show"]);
    let members = shown["members"].as_array().expect("a list");
    assert!(members.iter().all(|it| it["name"] != "Heron"), "kicked: {shown:#}");
}

pub(super) fn replay([commands]: [Block; 1]) {
    let stage = Stage::default();
    let here = stage.scene.path("here");
    fs::write(here.join("failing.toml"), FAILING).expect("written");
    // In debug builds each seed takes seconds.
    stage.stands_for("--seeds 200", "--seeds 1");
    for line in commands.commands() {
        // What the page builds has been built already.
        if line.starts_with("cargo build") {
            continue;
        }
        let said = stage.plays("Kestrel", &line);
        let name = line.split_whitespace().nth(1);
        match name {
            Some("list") => assert!(said.contains("\nkilled-mid-sentence "), "{said}"),
            Some("run") => assert!(here.join("out/report.html").exists(), "{said}"),
            Some("explore") => assert!(said.contains("all expectations met"), "{said}"),
            Some("minimize") => {
                assert!(Path::new(&here).join("failing.min.toml").exists(), "{said}");
            }
            _ => panic!("{line}"),
        }
    }
}

/// A scenario that fails.
const FAILING: &str = r#"
purpose = "Wren expects not to hear Kestrel, and does."
duration = "2s"
[[members]]
name = "Kestrel"
says = [{ at = "1s", for = "1s", sound = "english" }]
[[members]]
name = "Wren"
[[expect]]
hears = false
"#;
