//! What a person chooses to hear and to talk to is kept for the next time.

use std::{fs, path::PathBuf};

use hark_tests::{Member, Scene};
use serde_json::{Value, json};

/// Nets, volumes, keys, ducking and the microphone mode survive a crash of the node.
#[test]
fn choices_outlive_a_crash() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    let device = wren.device();
    kestrel.wait_after(0, "Wren", |event| event.is("peer_up") && event.is_about(&device));
    for command in [
        &["listen", "Flight"][..],
        &["net", "flight", "--volume", "0.5", "--pan", "-1", "--priority", "7"],
        &["talk-to", "Flight", "--priority"],
        &["key", "mouse4", "Command", "--whisper", "Wren"],
        &["ducking", "-6"],
        &["transmit", "ptt"],
        &["volume", "Wren", "0.25"],
        // A key that is pressed only by its name is not bound to anything permanently.
        &["ptt", "down", "squad"],
    ] {
        kestrel.ctl(command);
    }
    let chosen = choices(&kestrel);
    let key = |name: &str, to: &[&str]| json!({"key": name, "nets": to, "planned": false, "down": name == "squad"});
    let mut mouse4 = key("mouse4", &["Command"]);
    // A member who joins later under the same name is not meant.
    let members = &chosen["keys"][0]["members"];
    assert!(members[0].as_str().is_some_and(|it| it.starts_with("Wren#")), "{members}");
    mouse4["members"] = members.clone();
    assert_eq!(chosen["keys"], json!([mouse4, key("squad", &["squad"])]));
    assert_eq!(
        chosen["heard"],
        json!([["Flight", 0.5, -1.0, false, 7], ["squad", 1.0, 0.0, false, 0]])
    );
    is_kept(&scene, "\nducking_db = -6");
    is_kept(&scene, &format!("{device} = 0.25"));
    kestrel.kill();

    let peer = ["--peer", &wren.address().to_string()];
    let kestrel = scene.talk("Kestrel").transmit_as_kept().with(&peer).start();
    let kept = choices(&kestrel);
    assert_eq!(kept["keys"], json!([mouse4]));
    for what in ["heard", "transmit", "profile"] {
        assert_eq!(kept[what], chosen[what], "{what}");
    }
    assert_eq!((&kept["transmit"], &kept["talk_to"]), (&json!("ptt"), &json!(["Flight"])));
    kestrel.wait_after(0, "Wren", |event| event.is("peer_up") && event.is_about(&device));
    assert_eq!(status(&kestrel)["peers"][0]["volume"], 0.25);
}

/// What is given for one run applies to that run, until the person chooses something.
#[test]
fn a_run_of_its_own_changes_nothing_that_is_kept() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    kestrel.ctl(&["listen", "Flight"]);
    kestrel.ctl(&["talk-to", "Flight"]);
    kestrel.leave();
    let nets = |member: &Member| {
        let choices = choices(member);
        let heard = choices["heard"].as_array().expect("a list").iter().map(|net| net[0].clone());
        (heard.collect::<Vec<_>>(), choices["talk_to"].clone(), choices["transmit"].clone())
    };
    let once = |with: &[&str], chosen: &[&str]| {
        let mut kestrel = scene.talk("Kestrel").with(with).start();
        if !chosen.is_empty() {
            kestrel.ctl(chosen);
        }
        let nets = nets(&kestrel);
        kestrel.leave();
        nets
    };
    let (flight, command) = (json!("Flight"), json!("Command"));
    let both = vec![flight.clone(), json!("squad")];
    let for_this_run = ["--channel", "Command", "--talk-to", "Command"];
    let run = once(&for_this_run, &["mute"]);
    assert_eq!(run, (vec![command.clone()], json!(["Command"]), json!("open")));
    let kestrel = scene.talk("Kestrel").transmit_as_kept().start();
    assert_eq!(nets(&kestrel), (both, json!(["Flight"]), json!("vad")));
    drop(kestrel);
    // Only what is chosen is kept: the nets, and not what is talked to.
    once(&for_this_run, &["listen", "Flight"]);
    let kept = once(&[], &[]);
    assert_eq!(kept, (vec![command, flight], json!(["Flight"]), json!("open")));
}

/// Each profile has its own choices, and the profile that was used last is used again.
#[test]
fn profiles_are_changed_as_a_whole() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    kestrel.ctl(&["net", "squad", "--volume", "0.5"]);
    kestrel.ctl(&["profile", "copy", "pilot"]);
    kestrel.ctl(&["profile", "use", "PILOT"]);
    kestrel.ctl(&["listen", "Flight"]);
    kestrel.ctl(&["ptt", "down", "Flight"]);
    kestrel.ctl(&["net", "squad", "--volume", "2"]);
    assert_eq!(kestrel.ctl(&["profile"]), "  default\n* pilot");
    let heard = |member: &Member| choices(member)["heard"].clone();
    let flight = json!(["Flight", 1.0, 0.0, false, 0]);
    let squad = |volume: f64| json!(["squad", volume, 0.0, false, 0]);
    assert_eq!(heard(&kestrel), json!([flight, squad(2.0)]));
    kestrel.ctl(&["profile", "use", "default"]);
    assert_eq!(heard(&kestrel), json!([squad(0.5)]));
    // A key that was held is not held in the other profile.
    assert_eq!(choices(&kestrel)["keys"], json!([]));
    for (wrong, words) in [
        (["use", "medic"], "no profile is called \"medic\": there are default, pilot"),
        (["copy", "Pilot"], "there is a profile \"pilot\" already"),
        (["remove", "default"], "the profile \"default\" is in use"),
        (["copy", "a b"], "1 to 32 letters"),
    ] {
        let outcome = kestrel.try_ctl(&["profile", wrong[0], wrong[1]]);
        assert!(outcome.complaint().contains(words), "{}", outcome.complaint());
    }
    kestrel.ctl(&["profile", "use", "pilot"]);
    kestrel.leave();

    let mut kestrel = scene.talk("Kestrel").start();
    assert_eq!(heard(&kestrel), json!([flight, squad(2.0)]));
    kestrel.leave();
    let mut kestrel = scene.talk("Kestrel").with(&["--profile", "medic"]).start();
    assert_eq!(heard(&kestrel), json!([squad(1.0)]));
    kestrel.ctl(&["profile", "remove", "pilot"]);
    kestrel.leave();
    let kestrel = scene.talk("Kestrel").start();
    let listed = kestrel.ctl(&["profile", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed, json!({"profile": "medic", "profiles": ["default", "medic"]}));
}

/// If the file cannot be parsed, Hark says so and does not touch it. The node works without it.
#[test]
fn a_file_that_cannot_be_read_is_left_alone() {
    let scene = Scene::default();
    organisation(&scene).leave();
    let long = vec![b'#'; (16 << 20) + 1];
    for (content, words) in [
        (&b"version = 1\nused = 7\n"[..], "profiles.toml, line 2: invalid type: integer `7`"),
        (b"version = 9\n[moods]\n", "profiles.toml was written by a newer version of Hark"),
        (b"\xff", "profiles.toml is no text"),
        (&long, "profiles.toml: file too large"),
    ] {
        fs::write(file(&scene), content).expect("written");
        let mut kestrel = scene.talk("Kestrel").with(&["--profile", "pilot"]).start();
        kestrel.ctl(&["listen", "Flight"]);
        let shown = status(&kestrel);
        assert_eq!(
            (&shown["profile"], &shown["nets"][0]["listening"]),
            (&json!("pilot"), &json!(true))
        );
        let trouble = shown["trouble"].as_str().expect("told").to_owned();
        assert!(trouble.contains(words), "{trouble}");
        assert!(trouble.ends_with("until then nothing that you choose is kept"), "{trouble}");
        kestrel.ctl(&["quit"]);
        kestrel.wait("end", |events| events.iter().find(|event| event.is("stopped")).map(drop));
        assert_eq!(kestrel.stderr().lines().count(), 1, "{}", kestrel.stderr());
        kestrel.kill();
        assert!(fs::read(file(&scene)).expect("there") == content, "{words}");
    }
}

/// The file contains names of hidden nets.
#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    kestrel.ctl(&["listen", "Flight"]);
    kestrel.leave();
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(file(&scene)), 0o600);
    let folders = [file(&scene).parent().map(PathBuf::from), Some(scene.home("Kestrel"))];
    for folder in folders.into_iter().flatten() {
        assert_eq!(mode(folder.clone()), 0o700, "{}", folder.display());
    }
}

/// Kestrel's organisation, with the nets Flight and Command besides the first one.
fn organisation(scene: &Scene) -> Member {
    scene.found("Kestrel", "Meridian Watch");
    for net in ["Flight", "Command"] {
        scene.run("Kestrel", &["charter", "channel", "add", net]).success();
    }
    // The lowest order comes first; that channel is heard if nobody has chosen.
    scene.run("Kestrel", &["charter", "channel", "edit", "Flight", "--order", "1"]).success();
    scene.run("Kestrel", &["charter", "channel", "edit", "Command", "--order", "2"]).success();
    scene.talk("Kestrel").start()
}

fn file(scene: &Scene) -> PathBuf {
    let organisations = scene.home("Kestrel").join("organisations");
    let folder = fs::read_dir(organisations).expect("there").next().expect("one").expect("read");
    folder.path().join("profiles.toml")
}

/// Waits until this text is in the file, which the node writes a moment after it was changed.
#[track_caller]
fn is_kept(scene: &Scene, text: &str) {
    let mut looked = (0..1000).map(|_| {
        // Each attempt takes as long as starting and ending a program.
        scene.run("Kestrel", &["ctl", "status"]).success();
        fs::read_to_string(file(scene)).unwrap_or_default()
    });
    assert!(looked.any(|kept| kept.contains(text)), "{text:?} is not kept");
}

/// The part of the status that a profile decides.
fn choices(member: &Member) -> Value {
    let status = status(member);
    let nets = status["nets"].as_array().expect("a list").iter();
    let mut heard: Vec<_> = nets
        .filter(|net| net["listening"] == true)
        .map(|net| json!([net["name"], net["volume"], net["pan"], net["muted"], net["priority"]]))
        .collect();
    heard.sort_by_key(ToString::to_string);
    json!({
        "heard": heard,
        "keys": status["keys"],
        "talk_to": status["talk_to"],
        "transmit": status["transmit"],
        "profile": status["profile"],
    })
}

fn status(member: &Member) -> Value {
    let status = member.ctl(&["status", "--json"]);
    let mut answer: Value = serde_json::from_str(&status).expect("JSON");
    answer["status"].take()
}
