//! Checks the implementation in `tests/second`, which knows only the documents, against the vectors
//! and against what a node leaves on its disk. Skipped, with a line that says so, if Python or a
//! library is missing; `ci/install.sh` installs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hark_tests::Scene;
use serde_json::Value;

/// Runs `check.py` with these arguments and returns what it prints; `None` if it cannot run here.
fn check(arguments: &[&str]) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("second");
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.arg("-B").args(arguments).current_dir(&folder).output()
    };
    let needs = "import blake3, cryptography.hazmat.primitives.kdf.argon2, zstandard";
    if !python(&["-c", needs]).is_ok_and(|output| output.status.success()) {
        println!("skipped: needs python3 with blake3, cryptography 44 or later, and zstandard");
        return None;
    }
    let output = python(&[&["check.py"], arguments].concat()).unwrap();
    let [told, errors] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(output.status.success(), "check.py {arguments:?}:\n{told}{errors}");
    Some(told)
}

/// [PROTO-12.1] [PROTO-12.2] [PROTO-12.9]
#[test]
fn second_implementation_agrees_with_all_vectors() {
    let Some(told) = check(&["vectors"]) else { return };
    assert_eq!(told.lines().filter(|line| line.ends_with(" agree")).count(), 11, "{told}");
}

/// A squad whose founder forbids Heron to speak on one channel, read from its ticket and folders.
/// [PROTO-13.1] [CHARTER-10.1]
#[test]
fn second_implementation_reads_what_a_node_leaves() {
    let scene = Scene::default();
    let first = scene.found("Kestrel", "Meridian");
    if check(&["ticket", &first]).is_none() {
        return;
    }
    let kestrel = scene.talk("Kestrel").start();
    let text = kestrel.ticket();
    let heron = scene.talk("Heron").ticket(&text).start();
    heron.is_among(&[&kestrel]);
    // Names come with records, which the founder may get later than the newcomer does.
    kestrel.is_among(&[&heron]);
    for command in [
        &["charter", "channel", "add", "Bridge"][..],
        &["charter", "rule", "Heron", "--at", "Bridge", "--deny", "speak"],
    ] {
        scene.run("Kestrel", command).success();
    }

    let ticket = told(&["ticket", &text]);
    assert_eq!((&ticket["name"], &ticket["issued_by"]), (&"Meridian".into(), &"Kestrel".into()));
    let folder = organisation(&scene.home("Kestrel"));
    let charter = told(&["charter", folder.join("charter").to_str().unwrap(), "0"]);
    assert_eq!(charter["name"], "Meridian");
    assert_eq!(charter["organisation"], folder.file_name().unwrap().to_str().unwrap());
    assert_eq!(charter["members"].as_object().unwrap().len(), 2, "{charter}");
    // Join, listen and speak are the lowest bits.
    for (member, rights) in [(&kestrel, 0b111), (&heron, 0b011)] {
        let folder = organisation(&scene.home(member.name()));
        let key = folder.join("device.key");
        assert_eq!(check(&["key", key.to_str().unwrap()]).unwrap().trim(), member.device());
        let id = fs::read_to_string(folder.join("member")).unwrap();
        let there = charter["members"][id.trim()]["Bridge"].as_u64().unwrap();
        assert_eq!(there & 0b111, rights, "{}: {charter}", member.name());
    }
}

fn told(arguments: &[&str]) -> Value {
    serde_json::from_str(&check(arguments).unwrap()).unwrap()
}

/// The folder of the only organisation in a home.
fn organisation(home: &Path) -> PathBuf {
    let mut folders = fs::read_dir(home.join("organisations")).unwrap();
    folders.next().unwrap().unwrap().path()
}
