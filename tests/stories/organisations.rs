//! A member of two organisations at once.

use hark_tests::{Member, Scene};

/// Heron is in two organisations at once, with an identity in each. Each organisation hears Heron
/// only while it is in front, or while a key of it is held; Heron hears both. Removal from one does
/// not affect the other.
#[test]
fn two_organisations_at_once() {
    let scene = Scene::default();
    let lead = |name, organisation| {
        scene.found(name, organisation);
        let input = if name == "Kestrel" { "english" } else { "french" };
        scene.talk(name).transmit("ptt").speaking(input).start()
    };
    let (kestrel, wren) = (lead("Kestrel", "Meridian"), lead("Wren", "Escort"));
    for leader in [&kestrel, &wren] {
        let mut heron = scene.talk("Heron").transmit("ptt").ticket(&leader.ticket()).start();
        heron.is_among(&[leader]);
        heron.leave();
    }
    let choose = scene.talk("Heron").outcome();
    let line = choose.complaint();
    assert!(line.contains("several organisations: choose with --org (Escort"), "{line}");

    let both = ["--org", "Meridian", "--org", "Escort"];
    let heron = scene.talk("Heron").speaking("italian").with(&both).start();
    let [in_meridian, in_escort] =
        [&kestrel, &wren].map(|leader| device_in(&heron, leader.ready().text("org")));
    assert_ne!(in_meridian, in_escort, "an identity for each");
    hears(&kestrel, &in_meridian, 50);
    assert_eq!(talks(&wren, &in_escort), 0, "Meridian is in front");

    heron.ctl(&["--org", "Escort", "front"]);
    hears(&wren, &in_escort, 50);
    heron.ctl(&["mute"]);
    kestrel.wait("silence of Heron", |events| {
        let ended =
            |event: &&hark_tests::Event| event.is("talk_ended") && event.is_about(&in_meridian);
        events.iter().any(|event| ended(&event)).then_some(())
    });
    // The statistics of the second in which it fell silent may still be from before.
    let told = kestrel.events().len();
    kestrel.wait_after(told, "numbers of the next second", |event| event.is("stats"));
    let before = received(&kestrel, &in_meridian);
    heron.ctl(&["unmute"]);
    hears(&wren, &in_escort, 50);
    assert_eq!(received(&kestrel, &in_meridian), before, "what is said goes to Escort alone");
    assert!(heron.ctl(&["status"]).contains("Heron in Escort"), "the one in front answers");

    // A key of the organisation that is not in front.
    let nets = heron.ctl(&["--org", "Meridian", "status"]);
    assert!(nets.contains("another organisation is in front"), "{nets}");
    heron.ctl(&["--org", "Meridian", "key", "left", "squad"]);
    let turns = talks(&wren, &in_escort);
    heron.ctl(&["--org", "Meridian", "ptt", "down", "left"]);
    hears(&kestrel, &in_meridian, 50);
    heron.ctl(&["--org", "Meridian", "ptt", "up", "left"]);
    wren.wait("the voice is back", |events| {
        let started =
            |event: &&hark_tests::Event| event.is("talk_started") && event.is_about(&in_escort);
        (events.iter().filter(started).count() > turns).then_some(())
    });

    for leader in [&kestrel, &wren] {
        leader.ctl(&["ptt", "down"]);
        hears(&heron, &leader.device(), 50);
    }

    let kicked = scene.run("Kestrel", &["charter", "kick", "Heron"]);
    kicked.success();
    let meridian = kestrel.ready().text("org").to_owned();
    let reason = heron.wait("end in Meridian", |events| {
        let stopped = |event: &&hark_tests::Event| event.is("stopped") && event["org"] == meridian;
        Some(events.iter().find(stopped)?.text("reason").to_owned())
    });
    assert!(reason.contains("does not belong to Meridian any more"), "{reason}");
    hears(&wren, &in_escort, 50);
    hears(&heron, &wren.device(), 50);
}

/// The device of `member` in an organisation.
fn device_in(member: &Member, organisation: &str) -> String {
    member.wait("ready in the organisation", |events| {
        let ready = events.iter().find(|event| event.is("ready") && event["org"] == organisation);
        Some(ready?.text("device").to_owned())
    })
}

/// How many turns of a device the member was informed of.
fn talks(member: &Member, device: &str) -> usize {
    let events = member.events();
    events.iter().filter(|event| event.is("talk_started") && event.is_about(device)).count()
}

fn received(member: &Member, device: &str) -> u64 {
    let events = member.events();
    let mut stats = events.iter().rev().filter(|event| event.is("stats"));
    let peer = stats.find_map(|event| event.peer(device));
    peer.and_then(|peer| peer["frames_received"].as_u64()).unwrap_or(0)
}

/// Waits until the member has received this many more frames of a device.
fn hears(member: &Member, device: &str, count: u64) {
    let before = received(member, device);
    member.wait("more frames", |events| {
        let mut stats = events.iter().rev().filter(|event| event.is("stats"));
        let frames = stats.find_map(|event| event.peer(device)?["frames_received"].as_u64())?;
        (frames >= before + count).then_some(())
    });
}

/// A regression: `hark ctl` said `no node runs here` although one ran for another organisation, or
/// in another home.
#[test]
fn a_node_that_runs_elsewhere_was_said_to_be_none() {
    let scene = Scene::default();
    // The home that is used if none is named.
    scene.found("hark", "Escort");
    scene.found("hark", "Nightjar");
    let node = scene.talk("hark").with(&["--org", "Escort"]).start();
    let other = node.try_ctl(&["--org", "Nightjar", "status"]);
    let line = "no node runs for \"Nightjar\", only for \"Escort\": leave --org out, or start one";
    assert_eq!(other.complaint(), line);
    scene.found("Wren", "Meridian");
    let (folder, wren) = (scene.folder(), scene.home("Wren").display().to_string());
    let status = format!("XDG_DATA_HOME={folder} hark ctl --home {wren} status");
    if cfg!(target_os = "linux") {
        let elsewhere = scene.shell(&status, &folder);
        let line = format!(
            "no node runs for the home {wren}; one runs for \"Escort\" in {folder}/hark: leave \
             --home and HARK_HOME out"
        );
        assert_eq!(elsewhere.complaint(), line);
    }
}
