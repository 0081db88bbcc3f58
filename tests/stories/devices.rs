//! One person with several machines.

use hark_tests::Scene;

/// Two commands make a second machine another device of the same person, with the same roles.
/// Members that were away meanwhile meet the new machine first, and a newcomer joins through it.
#[test]
fn a_second_machine() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let mut heron = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&heron, &wren]);
    wren.leave();
    let kestrel_does = |command: &[&str]| {
        scene.run("Kestrel", &[&["charter"], command].concat()).success().to_owned()
    };
    kestrel_does(&["role", "add", "pilot", "--rank", "50", "--can", "mute"]);
    kestrel_does(&["grant", "pilot", "Heron"]);

    let printed = scene.run("Heron", &["device", "invite"]);
    let command = printed.success().lines().last().expect("it prints a command").to_owned();
    let ticket = command.strip_prefix("hark join ").expect("the command is `hark join`");
    let joined = scene.run("Heron's phone", &["join", ticket, "--name", "Heron on the road"]);
    assert!(joined.success().contains("as a further device of yours"), "{}", joined.success());
    let used = scene.run("Cuckoo", &["join", ticket]);
    assert!(used.complaint().contains("used as often as it may be"), "{}", used.complaint());

    // When Wren comes back, only the second machine is there, and Wren knows nothing of it.
    let phone = scene.talk("Heron's phone").start();
    kestrel.is_among(&[&heron, &phone]);
    heron.leave();
    let (mut kestrel, address) = (kestrel, phone.address().to_string());
    kestrel.leave();
    let wren = scene.talk("Wren").with(&["--peer", &address]).start();
    wren.is_among(&[&phone]);
    phone.is_among(&[&wren]);
    let shown = scene.run("Heron's phone", &["charter", "show", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(shown.success()).expect("JSON");
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(3), "{shown:#}");
    let why = scene.run("Wren", &["charter", "why", phone.device().as_str(), "mute", "everywhere"]);
    assert!(why.success().contains("pilot"), "{}", why.success());

    let magpie = scene.talk("Magpie").ticket(&phone.ticket()).start();
    magpie.is_among(&[&phone, &wren]);
}

/// A member that was removed while it was away is informed once, and of who removed it, and ends.
#[test]
fn a_member_that_was_removed_while_away() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let mut heron = scene.talk("Heron").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&heron]);
    heron.leave();
    scene.run("Kestrel", &["charter", "kick", "Heron"]).success();
    let peer = kestrel.address().to_string();
    for _ in 0..2 {
        let outcome = scene.talk("Heron").with(&["--peer", &peer]).outcome();
        let line = outcome.complaint();
        let ends = "does not belong to squad any more: Kestrel has ended the membership";
        assert!(line.contains(ends), "{line}");
    }

    // A new ticket readmits the device, with the rights of a new member.
    let device = heron.device();
    let joined = scene.run("Heron", &["join", &kestrel.ticket(), "--json"]);
    let joined: serde_json::Value = serde_json::from_str(joined.success()).expect("JSON");
    assert_eq!(joined["device"].as_str(), Some(device.as_str()));
    let heron = scene.talk("Heron").start();
    kestrel.is_among(&[&heron]);
    heron.is_among(&[&kestrel]);
}

/// A person who has lost every machine becomes the same member again with one command, any member's
/// ticket and the printed words. The member keeps its roles, and the lost machine is informed that
/// it was retired.
#[test]
fn all_machines_lost() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let kestrel_does = |command: &[&str]| {
        scene.run("Kestrel", &[&["charter"], command].concat()).success().to_owned()
    };
    let joined = scene.run("Heron", &["join", &kestrel.ticket(), "--name", "Heron", "--json"]);
    let joined: serde_json::Value = serde_json::from_str(joined.success()).expect("JSON");
    let words = joined["recovery"].as_str().expect("24 words");
    kestrel_does(&["role", "add", "pilot", "--rank", "50", "--can", "mute"]);
    kestrel_does(&["grant", "pilot", "Heron"]);

    // Other members come first, and one of them has no recovery words.
    let magpie = scene.talk("Magpie").ticket(&kestrel.ticket()).start();
    let ticket = magpie.ticket();
    let wrong = words.replacen(words.split(' ').next().expect("a word"), "zoo", 1);
    for (input, reason) in [("swordfish", "these are not the 24 words"), (wrong.as_str(), "words")]
    {
        let outcome = scene.run_with("Heron anew", &["recover", &ticket], input);
        assert!(outcome.complaint().contains(reason), "{}", outcome.complaint());
    }
    let outcome = scene.run_with("Heron anew", &["recover", &ticket, "--json"], words);
    let recovered: serde_json::Value = serde_json::from_str(outcome.success()).expect("JSON");
    assert_eq!(recovered["retired"], serde_json::json!([joined["device"]]));

    let heron = scene.talk("Heron anew").start();
    kestrel.is_among(&[&magpie, &heron]);
    heron.is_among(&[&kestrel, &magpie]);
    let device = heron.device();
    assert!(kestrel_does(&["why", &device, "mute", "everywhere"]).contains("pilot"));
    let shown: serde_json::Value =
        serde_json::from_str(&kestrel_does(&["show", "--json"])).expect("JSON");
    let members = shown["members"].as_array().expect("members");
    assert_eq!(members.len(), 3, "{shown:#}");

    let lost = scene.talk("Heron").outcome();
    let line = lost.complaint();
    assert!(line.ends_with("any more: another key of its member has retired it"), "{line}");
}
