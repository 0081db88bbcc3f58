//! Whatever is wrong, one line says so, and nothing that is stored is lost.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
};

use hark_keys::keystore;
use hark_node::random::SystemRandom;
use hark_tests::{Scene, Talk, is_root};

/// Sounds that are invalid, devices that do not exist, files that cannot be written.
#[test]
fn sounds_and_files() {
    let scene = Scene::default();
    scene.found("Kestrel", "Nightingale");
    let text = scene.path("text.wav");
    fs::write(&text, "This is no sound.").expect("written");
    let cut = scene.path("cut.wav");
    let speech = fs::read(hark_tests::speech("english")).expect("speech");
    fs::write(&cut, &speech[..speech.len() / 2]).expect("written");
    let file = |path: &Path| format!("file:{}", path.display());
    let talk = || scene.talk("Kestrel");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").to_string();
    let nowhere = scene.path("nowhere/at/all");
    for (talk, reason) in [
        (talk().input(&file(&text)), "text.wav is no WAV file"),
        (talk().input(&file(&cut)), "cut.wav is cut off"),
        (talk().input(&file(&nowhere)), "nowhere/at/all cannot be read: No such file"),
        (talk().input("mic:nosuch"), "no microphone is called `nosuch`"),
        (talk().output("speaker:nosuch"), "no speaker is called `nosuch`"),
        (talk().output(&file(&nowhere)), "nowhere/at/all cannot be written: No such file"),
        (talk().output("file:/dev/full"), "/dev/full cannot be written: No space left"),
        (talk().events(&nowhere), "nowhere/at/all: No such file"),
        (talk().events(Path::new("/dev/full")), "events cannot be written: /dev/full: No space"),
        (talk().listen(&["--listen", &port, "--no-mdns"]), "already in use"),
        (talk().with(&["--org", "Elsewhere"]), "no organisation is called \"Elsewhere\""),
    ] {
        is_told(&scene, talk, reason);
    }
}

/// A regression: `hark talk &` in a shell drew on a terminal that was not its own, and the kernel
/// stopped it permanently.
#[test]
#[cfg(target_os = "linux")]
fn a_start_in_the_background_was_stopped_by_the_terminal() {
    let scene = Scene::default();
    scene.found("Sable", "Nightingale");
    // A terminal of its own, with a shell that has job control.
    let at_terminal =
        "printf -v line '%q ' \"$@\"; exec script -qec \"set -m; $line & wait\" /dev/null";
    let talk = scene.talk("Sable").events(&scene.path("events")).with(&["--for", "2s"]);
    let talk = talk.through(&["bash", "-c", at_terminal, "shell"]);
    let outcome = talk.environment("SHELL", "/bin/bash").outcome();
    assert!(outcome.stdout.contains("hark ctl quit"), "{outcome:?}");
    assert!(outcome.stdout.contains("stopped (time)"), "{outcome:?}");
    assert!(!outcome.stdout.contains("\u{1b}[?1049h"), "no screen: {outcome:?}");
}

/// In the foreground of its shell the program has a screen, unless `--headless` is given. The last
/// line says who else was there.
#[test]
#[cfg(target_os = "linux")]
fn a_service_has_no_screen() {
    let scene = Scene::default();
    scene.found("Sable", "Nightingale");
    let at_terminal = "printf -v line '%q ' \"$@\"; exec script -qec \"$line\" /dev/null";
    for headless in [true, false] {
        let talk = scene.talk("Sable").events(&scene.path("events")).with(&["--for", "2s"]);
        let talk = if headless { talk.with(&["--headless"]) } else { talk };
        let talk = talk.through(&["bash", "-c", at_terminal, "shell"]);
        let outcome = talk.environment("SHELL", "/bin/bash").outcome();
        assert_eq!(outcome.stdout.contains("\u{1b}[?1049h"), !headless, "{outcome:?}");
        let summary = "nobody else was here.";
        assert_eq!(outcome.stdout.trim_end().ends_with(summary), !headless, "{outcome:?}");
    }
}

/// A home that cannot be used is left unchanged.
#[test]
fn homes() {
    let scene = Scene::default();
    let home = scene.home("Kestrel");
    scene.found("Kestrel", "Nightingale");
    let organisation = only_entry(&home.join("organisations"));

    let version = home.join("version");
    with(
        &version,
        |_| b"hark home 3\n".to_vec(),
        || {
            is_told(&scene, scene.talk("Kestrel"), "newer version of Hark");
            assert!(scene.run("Kestrel", &["id"]).complaint().contains("newer version"));
        },
    );
    let charter = organisation.join("charter");
    with(&charter, flip_middle, || {
        is_told(&scene, scene.talk("Kestrel"), "charter is damaged");
    });
    with(&organisation.join("member"), flip_middle, || {
        is_told(&scene, scene.talk("Kestrel"), "member is damaged");
    });
    let key = organisation.join("device.key");
    with(
        &key,
        |text| text[..text.len() / 2].to_vec(),
        || {
            is_told(&scene, scene.talk("Kestrel"), "the key file is damaged");
        },
    );
    let other =
        keystore::encode(&hark_keys::DeviceKey::generate(&SystemRandom), None, &SystemRandom);
    with(
        &key,
        |_| other.as_bytes().to_vec(),
        || {
            is_told(&scene, scene.talk("Kestrel"), "device.key is damaged");
        },
    );
    let protect = |text: &[u8]| {
        let text = std::str::from_utf8(text).expect("a key file is text");
        let key = keystore::decode(text, None).expect("it is not protected");
        keystore::encode(&key, Some("Brambling"), &SystemRandom).as_bytes().to_vec()
    };
    with(&key, protect, || {
        let talk = || scene.talk("Kestrel");
        is_told(&scene, talk(), "needs its passphrase");
        is_told(&scene, talk().environment("HARK_PASSPHRASE", "Chaffinch"), "wrong passphrase");
        talk().environment("HARK_PASSPHRASE", "Brambling").start().leave();
    });

    let below_a_file = scene.path("file");
    fs::write(&below_a_file, "").expect("written");
    let outcome = scene.run("file/home", &["talk", "--input", "silence", "--output", "null"]);
    assert!(outcome.complaint().contains("Not a directory"));
}

/// Only one process may use a home.
#[test]
fn second_process() {
    let scene = Scene::default();
    let mut kestrel = scene.talk("Kestrel").start();
    let line = scene.talk("Kestrel").outcome();
    assert!(line.complaint().contains("hark runs here already (process "), "{line:?}");
    kestrel.ctl(&["status"]);
    kestrel.leave();
    scene.talk("Kestrel").start().leave();
}

/// The home is on a full disk, or on a disk that is read-only.
#[test]
fn disks() {
    if !is_root() {
        println!("skipped: only root can make a disk that is full");
        return;
    }
    let scene = Scene::default();
    scene.found("Kestrel", "Nightingale");
    scene.talk("Kestrel").start().leave();
    let home = scene.home("Kestrel");
    // Mounted only for this process, so that nothing is left to clean up.
    let mounted = |script: &str| {
        let script = format!("cd \"$0\" && {script} && cd / && exec \"$@\"");
        let home = home.display().to_string();
        scene.talk("Kestrel").through(&["unshare", "-m", "sh", "-ec", &script, &home])
    };
    let read_only = "mount --bind . . && mount -o remount,ro,bind \"$PWD\"";
    is_told(&scene, mounted(read_only), "Read-only file system");
    // A small disk with a copy of the home, filled to the last byte.
    let full = "cp -r . ../copy && mount -t tmpfs -o size=64k,mode=700 full . && cd \"$PWD\" \
                && cp -r ../copy/. . && { cat /dev/zero > fill || :; } 2>/dev/null";
    is_told(&scene, mounted(full), "No space left");
    scene.talk("Kestrel").start().leave();
}

/// Wrong usage has its own exit status.
#[test]
fn wrong_usage() {
    let scene = Scene::default();
    for talk in [
        scene.talk("Kestrel").with(&["--for", "ever"]),
        scene.talk("Kestrel").with(&["--loudly"]),
        scene.talk("Kestrel").input("tape:1"),
        scene.talk("Kestrel").output("file:"),
        scene.talk("Kestrel").listen(&["--listen", "nowhere"]),
    ] {
        let outcome = talk.outcome();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""), "{outcome:?}");
        assert!(outcome.stderr.starts_with("error: "), "{outcome:?}");
    }
    assert!(!scene.home("Kestrel").exists());
}

/// Checks that `talk` ends with one line that contains `reason`, and leaves the home unchanged.
#[track_caller]
fn is_told(scene: &Scene, talk: Talk, reason: &str) {
    let before = contents(&scene.home("Kestrel"));
    let outcome = talk.outcome();
    let line = outcome.complaint();
    assert!(line.contains(reason), "{reason}: {line}");
    assert_eq!(line.matches(reason).count(), 1, "said twice: {line}");
    let after = contents(&scene.home("Kestrel"));
    let changed: Vec<_> =
        before.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes)).collect();
    assert!(changed.is_empty(), "{reason} has changed {changed:?}");
}

/// Everything in a home that is worth keeping, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !MOMENTARY.contains(&entry.file_name().to_str().unwrap_or_default()) {
                found.insert(path.clone(), fs::read(&path).expect("it can be read"));
            }
        }
    }
    found
}

/// Runs `act` while the file at `path` is changed by `change`.
fn with(path: &Path, change: impl Fn(&[u8]) -> Vec<u8>, act: impl FnOnce()) {
    let bytes = fs::read(path).expect("it is there");
    fs::write(path, change(&bytes)).expect("written");
    act();
    fs::write(path, bytes).expect("written");
}

fn flip_middle(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn only_entry(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).expect("a folder");
    let entry = entries.next().expect("it holds one").expect("it can be read");
    assert!(entries.next().is_none(), "it holds more than one");
    entry.path()
}

/// Files that describe what runs now, and numbers that only grow.
const MOMENTARY: [&str; 3] = ["lock", "control.json", "generation"];

/// A regression: plain `hark talk` on a machine that is in no squad founded one without saying so,
/// and complained about the microphone first.
#[test]
fn a_squad_was_founded_without_saying_so() {
    let scene = Scene::default();
    let talk = || scene.talk("Kestrel").events(&scene.path("events")).with(&["--for", "1s"]);
    let said = talk().outcome().stdout;
    assert!(said.starts_with("This device is in no squad yet, so this founds one"), "{said}");
    let again = talk().outcome().stdout;
    assert!(!again.contains("in no squad yet"), "{again}");
}

/// A regression: a second `hark new` with the same name founded a second organisation that nobody
/// had asked for.
#[test]
fn a_second_organisation_of_one_name_was_founded_without_a_word() {
    let scene = Scene::default();
    scene.found("Kestrel", "Meridian Watch");
    for name in ["Meridian Watch", "meridian watch"] {
        let twin = scene.run("Kestrel", &["new", name]);
        assert_eq!(twin.status, Some(1));
        let complaint = twin.complaint();
        assert!(complaint.contains("this device is in Meridian Watch ("), "{complaint}");
        assert!(complaint.contains("--another"), "{complaint}");
    }
    scene.run("Kestrel", &["new", "Meridian Watch", "--another"]).success();
    let id = scene.run("Kestrel", &["id", "--json"]);
    let id: serde_json::Value = serde_json::from_str(id.success()).expect("JSON");
    assert_eq!(id["organisations"].as_array().map(Vec::len), Some(2));
}

/// A regression: recovery words of founders and of members looked alike, and the wrong ones were
/// not recognised.
#[test]
fn words_of_founders_and_members_looked_alike() {
    let scene = Scene::default();
    let founded = scene.run("Kestrel", &["new", "Meridian Watch"]);
    assert!(founded.success().contains("\nFOUNDER'S WORDS of Meridian Watch\n"));
    let kestrel = scene.talk("Kestrel").start();
    let joined = scene.run("Wren", &["join", &kestrel.ticket()]);
    let joined = joined.success();
    assert!(joined.contains("\nMEMBER'S WORDS for Meridian Watch\n"), "{joined}");
    assert!(!joined.contains("sign for the organisation"), "{joined}");
}
