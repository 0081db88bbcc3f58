//! Names are checked when people use them, every key of a preset can be pressed, and no microphone
//! stays open by accident.

use std::{fs, path::PathBuf, time::Duration};

use hark_node::{
    control::Client,
    wav::{WavWriter, load_both},
};
use hark_tests::{Event, Member, Scene};
use serde_json::{Value, json};

/// A regression: a user who mistyped a net in a flag or a command talked to nobody, with exit
/// status 0.
#[test]
fn a_net_that_does_not_exist_was_talked_to() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    for (command, words) in [
        (&["talk-to", "Nope"][..], "there is no channel called \"Nope\""),
        (&["key", "k1", "Comand"], "did you mean Command?"),
        (&["key", "k3", "--role", "pilto"], "there is no role called \"pilto\""),
        (&["talk-to", "--whisper", "Nobody"], "there is no member called \"Nobody\""),
        (&["ptt", "down", "nosuchkey"], "there is no key or channel called \"nosuchkey\""),
        (
            &["listen", "Alpha"],
            "several channels are called \"Alpha\": Flight/Alpha or Ground/Alpha",
        ),
        (&["ducking", "300"], "ducking is 0 to 60 dB, not 300"),
        (&["voice", "--bitrate", "300"], "the bit rate is auto or 24 to 96 kbit/s, not 300"),
        (&["voice", "--frame", "40"], "the frame is auto, 2.5, 5, 10 or 20 ms, not 40"),
        (
            &["voice", "--wait", "90..30"],
            "the wait is auto, or the least and the most in ms: 20..120, from 0 to 200, the most at \
             least 10; not 90..30",
        ),
        (&["voice"], "say what changes: bitrate, frame, redundancy or wait"),
    ] {
        let outcome = kestrel.try_ctl(command);
        assert!(outcome.complaint().contains(words), "{command:?}: {}", outcome.complaint());
    }
    kestrel.ctl(&["talk-to", "flight/alpha"]);
    shows(&kestrel, |status| status["talk_to"] == json!(["Flight/Alpha"]));
    kestrel.leave();
    for (flags, words) in [
        (
            ["--channel", "Comand"],
            "--channel Comand: there is no channel called \"Comand\"; did you mean Command?",
        ),
        (["--talk-to", "Alpha"], "--talk-to Alpha: several channels are called \"Alpha\""),
    ] {
        let outcome = scene.talk("Kestrel").with(&flags).outcome();
        assert!(outcome.complaint().contains(words), "{}", outcome.complaint());
    }
    let peer = ["--peer", "nosuch.invalid:4000"];
    let mut kestrel = scene.talk("Kestrel").with(&peer).start();
    let notice = kestrel.wait_after(0, "notice", |event| event.is("notice"));
    assert!(notice.text("text").starts_with("--peer nosuch.invalid:4000 leads to nobody"));
    // A newcomer's flags cannot be checked before it has joined.
    let ticket = kestrel.ticket();
    let wren = scene.talk("Wren").ticket(&ticket).with(&["--talk-to", "Flihgt"]).start();
    let notice = wren.wait_after(0, "notice", |event| event.is("notice"));
    assert!(notice.text("text").contains("did you mean Flight?"), "{}", notice.text("text"));
    // The member still hears, and what it says is sent to nobody but those who were meant.
    shows(&wren, |status| heard(status) == ["squad"] && status["talk_to"] == json!([]));
    assert!(wren.ctl(&["status"]).contains("talks to nobody"));
    kestrel.leave();
}

/// An officer makes a channel for music, and talkers there send more at once.
#[test]
fn a_channel_for_music_is_sent_as_music() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    scene.run("Kestrel", &["charter", "channel", "add", "Hangar", "--music", "160"]).success();
    let list = scene.run("Kestrel", &["charter", "channel", "list"]);
    assert!(list.success().contains("music at 160 kbit/s"));
    kestrel.ctl(&["talk-to", "Hangar"]);
    let coding = |status: &Value| {
        (status["coding"]["bitrate_kbps"].clone(), status["coding"]["reason"].clone())
    };
    shows(&kestrel, |status| coding(status) == (json!(160.0), json!("music")));
    assert!(kestrel.ctl(&["status"]).contains("sends 160 kbit/s in frames of 10 ms (music)"));
    kestrel.ctl(&["talk-to", "Ground"]);
    shows(&kestrel, |status| coding(status) == (json!(48.0), json!("usual")));
    kestrel.ctl(&["talk-to", "Hangar"]);
    scene.run("Kestrel", &["charter", "channel", "edit", "Hangar", "--speech"]).success();
    shows(&kestrel, |status| coding(status) == (json!(48.0), json!("usual")));
}

/// A file with another sound on each side is played to a channel for music in stereo. To a channel
/// for speech it is one voice.
#[test]
fn both_sides_of_a_file_are_heard_where_music_is_in_stereo() {
    let scene = Scene::default();
    let file = scene.path("both.wav");
    let mut writer = WavWriter::create(&file, 2).expect("a file");
    let sound = (0..48_000).flat_map(|n| {
        [440.0, 1_760.0]
            .map(|hertz| 0.2 * (std::f32::consts::TAU * hertz * n as f32 / 48_000.0).sin())
    });
    writer.push(&sound.collect::<Vec<_>>()).and_then(|()| writer.flush()).expect("written");
    scene.found("Kestrel", "Meridian Watch");
    let add = |more: &[&str]| {
        let command = [&["charter", "channel", "add", "Hangar"], more].concat();
        scene.run("Kestrel", &command).success();
    };
    add(&["--music", "160", "--stereo"]);
    let input = format!("file:{}?loop", file.display());
    let on = ["--channel", "Hangar", "--talk-to", "Hangar"];
    let kestrel = scene.talk("Kestrel").input(&input).with(&on).start();
    let heard = scene.path("heard.wav");
    let output = format!("file:{}?stereo", heard.display());
    let mut wren = scene.talk("Wren").ticket(&kestrel.ticket()).output(&output).with(&on).start();
    wren.wait_after(0, "talk_started", |event| event.is("talk_started"));
    shows(&kestrel, |status| status["coding"]["stereo"] == true);
    assert!(kestrel.ctl(&["status"]).contains("sends 160 kbit/s in stereo in frames of 10 ms"));
    // A second of it.
    let frames = |status: &Value| status["peers"][0]["frames_received"].as_u64().unwrap_or(0);
    let before = frames(&status(&wren));
    shows(&wren, |status| frames(status) >= before + 100);
    wren.leave();
    let (mean, difference) = load_both(&heard).expect("it was recorded");
    let power = |samples: &[f32]| samples.iter().map(|it| it * it).sum::<f32>();
    assert!(power(&mean) > 0.0);
    let ratio = power(&difference) / power(&mean);
    assert!((0.7..1.3).contains(&ratio), "{ratio}: the tones are on sides of their own");
}

/// A regression: only the first key of a preset could be pressed, and a choice of one's own kept
/// presets away permanently.
#[test]
fn the_second_key_of_a_preset_could_not_be_pressed() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    kestrel.ctl(&["listen", "Ground"]);
    kestrel.ctl(&["listen", "Command", "--keep"]);
    kestrel.ctl(&["talk-to", "Ground"]);
    scene.run("Kestrel", &["charter", "preset", "load", "patrol"]).success();
    let notice = kestrel.wait_after(0, "notice", |event| event.is("notice"));
    assert!(notice.text("text").starts_with("patrol is loaded"), "{}", notice.text("text"));
    let is_as_planned = |status: &Value| {
        heard(status) == ["Command", "Flight", "Flight/Alpha"]
            && status["talk_to"] == json!(["Flight"])
    };
    shows(&kestrel, is_as_planned);
    let keys = status(&kestrel)["keys"].clone();
    let key = |name: &str, nets: &[&str], down: bool| json!({"key": name, "nets": nets, "planned": true, "down": down});
    let second = ["Flight/Alpha", "Ground/Alpha"];
    assert_eq!(keys, json!([key("1", &["Flight"], false), key("2", &second, false)]));
    kestrel.ctl(&["ptt", "down", "2"]);
    let on = |status: &Value, nets: &[&str]| {
        let mut names: Vec<_> = status["talk_to"].as_array().expect("a list").iter().collect();
        names.sort_by_key(ToString::to_string);
        names == nets.iter().collect::<Vec<_>>()
    };
    shows(&kestrel, |status| on(status, &second));
    kestrel.ctl(&["ptt", "up", "2"]);
    shows(&kestrel, |status| status["talk_to"] == json!(["Flight"]));
    // The person chooses by hand, which lasts until the next preset, and goes back with one
    // command.
    kestrel.ctl(&["talk-to", "Ground"]);
    kestrel.ctl(&["listen", "Ground"]);
    shows(&kestrel, |status| status["talk_to"] == json!(["Ground"]));
    kestrel.ctl(&["follow"]);
    shows(&kestrel, |status| heard(status) == ["Flight", "Flight/Alpha"]);
    shows(&kestrel, |status| status["talk_to"] == json!(["Flight"]));
}

/// A regression: the microphone stayed open after a program had died with a key down, or after a
/// script had forgotten to release it.
#[test]
fn a_key_that_nobody_held_any_more_stayed_down() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    kestrel.ctl(&["transmit", "ptt"]);
    let mut plugin = Client::connect(&description(&scene)).expect("connected");
    let press = json!({"command": "ptt", "down": true, "key": "Flight"});
    plugin.request(press).expect("pressed");
    let is_held = |status: &Value| status["keys"].to_string().contains("\"down\":true");
    assert!(is_held(&status(&kestrel)));
    let pressed = kestrel.wait_after(0, "a key that is held", |event| {
        event.is("self_changed") && event.texts("keys") == ["Flight"]
    });
    drop(plugin);
    let released = kestrel.wait_after(0, "a key that goes up", |event| {
        event.is("self_changed") && event.at() > pressed.at() && event.texts("keys").is_empty()
    });
    assert!(released.at() > pressed.at());
    // A script's key stays down for its time after the script has ended.
    kestrel.ctl(&["ptt", "down", "Flight"]);
    assert!(is_held(&status(&kestrel)));
    kestrel.ctl(&["ptt", "up", "Flight"]);
    assert!(!is_held(&status(&kestrel)));
    kestrel.ctl(&["ptt", "down", "Flight", "--for", "1s"]);
    shows(&kestrel, |status| !is_held(status));
}

/// Several nets that no key is bound to are talked to at once, and let go of by the same names.
#[test]
fn a_target_is_pressed_without_a_key_of_its_own() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    kestrel.ctl(&["transmit", "ptt"]);
    let mut window = Client::connect(&description(&scene)).expect("connected");
    let mut press = |down: bool, to: Value| {
        let asked = json!({"command": "ptt", "down": down, "to": to});
        window.request(asked).map(drop).map_err(|error| error.to_string())
    };
    let both = json!({"nets": ["flight", "Ground"]});
    press(true, both.clone()).expect("pressed");
    shows(&kestrel, |status| status["talk_to"].as_array().is_some_and(|nets| nets.len() == 2));
    // What was pressed is let go of even if its channel has gone meanwhile.
    scene.run("Kestrel", &["charter", "channel", "remove", "Flight/Alpha"]).success();
    scene.run("Kestrel", &["charter", "channel", "remove", "Flight"]).success();
    press(false, both).expect("let go");
    shows(&kestrel, |status| !status["keys"].to_string().contains("\"down\":true"));
    let refused = press(true, json!({"nets": ["Flihgt"]})).expect_err("no such net");
    assert!(refused.contains("there is no channel called \"Flihgt\""), "{refused}");
    let refused = press(true, json!({})).expect_err("nobody");
    assert!(refused.contains("say whom to talk to"), "{refused}");
}

/// The volumes of all nets together are kept, but not that others are turned down for now; those
/// of single nets stay as they were.
#[test]
fn master_volumes_are_kept_beside_those_of_nets() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    kestrel.ctl(&["listen", "Flight"]);
    kestrel.ctl(&["net", "Flight", "--volume", "0.5"]);
    let told = kestrel.ctl(&["master", "--talked-to", "1.25", "--others", "0.5"]);
    assert_eq!(told.trim(), "nets you talk to: 1.25, others: 0.50");
    let told = kestrel.ctl(&["master", "--others-down", "on"]);
    assert_eq!(told.trim(), "nets you talk to: 1.25, others: 0.50, turned down for now");
    let flight = |status: &Value| {
        let nets = status["nets"].as_array().cloned().unwrap_or_default();
        nets.iter().find(|net| net["path"] == "Flight").cloned().unwrap_or_default()
    };
    assert_eq!(flight(&status(&kestrel))["volume"], 0.5, "its own, as it was set");
    assert_eq!(status(&kestrel)["master"]["leveling"], true);
    let set = ["master", "--leveling", "off", "--others-down", "off", "--headphones", "on"];
    let told = kestrel.ctl(&set);
    let said = "nets you talk to: 1.25, others: 0.50; talkers stay as loud as they are sent; \
                talkers stand around your head";
    assert_eq!(told.trim(), said);
    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
    let kestrel = scene.talk("Kestrel").start();
    let master = &status(&kestrel)["master"];
    let set = json!({
        "talked_to": 1.25, "others": 0.5, "others_down": false, "leveling": false, "headphones": true,
        "ducking_db": 18.0
    });
    assert_eq!(*master, set);
}

/// A regression: what had been set of the voice was shown a second later, and deep redundancy was
/// taken beside frames that have no room for it, if they had been set before.
#[test]
fn what_was_set_of_the_voice_was_not_known_at_once() {
    let scene = Scene::default();
    let kestrel = organisation(&scene);
    let set = |kestrel: &Member| status(kestrel)["coding"]["set"].clone();
    kestrel.ctl(&["voice", "--frame", "5"]);
    assert_eq!(set(&kestrel)["frame"], 5.0);
    let refused = kestrel.try_ctl(&["voice", "--redundancy", "deep"]);
    let why = "deep redundancy needs frames of 10 or 20 ms, not 5 ms";
    assert!(refused.complaint().contains(why), "{}", refused.complaint());
    kestrel.ctl(&["voice", "--redundancy", "2", "--wait", "10..90"]);
    let expected = json!({"bitrate": "auto", "frame": 5.0, "redundancy": 2.0, "wait": "10..90"});
    assert_eq!(set(&kestrel), expected);
    kestrel.ctl(&["voice", "--frame", "auto", "--redundancy", "deep"]);
    assert_eq!(set(&kestrel)["redundancy"], "deep");
    assert_eq!(status(&kestrel)["coding"]["low_delay"], false);
    kestrel.ctl(&["ducking", "12"]);
    assert_eq!(status(&kestrel)["master"]["ducking_db"], 12.0);
}

/// Stages are set while the node runs; with a file as the microphone, for that run alone.
#[test]
fn own_sound_is_set_while_the_node_runs() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    let told = kestrel.ctl(&["processing", "noise=on,gain=auto"]);
    assert_eq!(told.trim(), "echo off, noise on, gain auto; for this run");
    let told = kestrel.ctl(&["cues", "--people", "on", "--volume", "0.5"]);
    assert_eq!(told.trim(), "you hear cues of people, at volume 0.50");
    let told = kestrel.ctl(&["side-tone", "on", "--level", "-20"]);
    assert_eq!(told.trim(), "you hear yourself while you are sent, at -20 dB");
    // The stage starts with the next block of sound.
    let runs = |told: &Value| told["processing"]["noise"]["running"] == true;
    let told = (0..500).map(|_| status(&kestrel)).find(runs).expect("it starts");
    assert_eq!(told["processing"]["noise"], json!({"mode": "on", "running": true}));
    assert_eq!(told["processing"]["delay_ms"], 10.0);
    assert_eq!(told["side_tone"], json!({"on": true, "decibels": -20.0}));
    for (asked, told) in [
        (&["ctl", "side-tone", "on", "--level", "3"][..], "-40 to 0 dB, not 3"),
        (&["ctl", "cues", "--volume", "9"], "the volume of the cues is 0 to 4, not 9"),
        (&["ctl", "cues"], "say what changes: key, mute, people, moved or volume"),
    ] {
        let refused = scene.run("Kestrel", asked);
        assert!(refused.complaint().contains(told), "{refused:?}");
    }
    kestrel.ctl(&["quit"]);
    assert_eq!(kestrel.ended(), "quit");
    let kestrel = scene.talk("Kestrel").start();
    assert_eq!(status(&kestrel)["processing"]["noise"]["mode"], "off");
}

/// A regression: when a channel was removed in the middle of a sentence, the rest was heard by
/// everybody on the open channel.
#[test]
fn speech_for_a_channel_that_went_was_heard_by_all() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    scene.run("Kestrel", &["charter", "channel", "add", "Command"]).success();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    let talks_to = |status: &Value| status["talk_to"].to_string();
    wren.ctl(&["talk-to", "Command"]);
    shows(&wren, |status| talks_to(status).contains("Command"));
    scene.run("Kestrel", &["charter", "channel", "remove", "Command"]).success();
    wren.wait_after(0, "a line about it", |event| {
        event.is("notice") && event.text("text").contains("goes to nobody")
    });
    shows(&wren, |status| !talks_to(status).contains("squad") && status["talk_to"] == json!([]));
}

/// A regression: if the chosen channel was removed while its member was away, the choice silently
/// became the open channel.
#[test]
fn a_choice_that_was_gone_at_the_start_was_exchanged_for_the_open_channel() {
    let scene = Scene::default();
    scene.found("Kestrel", "Night shift");
    scene.run("Kestrel", &["charter", "channel", "add", "Command"]).success();
    let mut kestrel = scene.talk("Kestrel").start();
    kestrel.ctl(&["talk-to", "Command"]);
    shows(&kestrel, |status| status["talk_to"].to_string().contains("Command"));
    kestrel.leave();
    scene.run("Kestrel", &["charter", "channel", "remove", "Command"]).success();
    let kestrel = scene.talk("Kestrel").start();
    kestrel.wait_after(0, "a line about it", |event| {
        event.is("notice") && event.text("text").contains("goes to nobody")
    });
    shows(&kestrel, |status| status["talk_to"] == json!([]));
}

/// A regression: a member who talked to a channel without hearing it waited for answers, and was
/// not informed.
#[test]
fn a_talker_who_hears_no_answers_was_not_told() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    for command in
        ["channel add Command", "channel add Orders", "rule everyone --at Orders --deny listen"]
    {
        let words: Vec<_> = std::iter::once("charter").chain(command.split(' ')).collect();
        scene.run("Kestrel", &words).success();
    }
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    let answer = wren.ctl(&["talk-to", "Orders"]);
    assert_eq!(
        answer.trim(),
        "you hear squad; your voice goes to Orders, where nobody hears it\n\
         you will not hear answers on Orders: you may speak there, and not listen"
    );
    let answer = wren.ctl(&["talk-to", "Command"]);
    assert!(answer.contains("you do not listen to it"), "{answer}");
    wren.ctl(&["listen", "Command"]);
    let answer = wren.ctl(&["talk-to", "Command"]);
    assert!(!answer.contains("answers"), "{answer}");
}

/// A regression: an officer whose role was taken while talking in a hidden channel was heard by
/// all.
#[test]
fn speech_for_a_hidden_channel_was_heard_by_all() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let wren = scene.talk("Wren").ticket(&kestrel.ticket()).start();
    kestrel.is_among(&[&wren]);
    for command in [
        "role add commander --rank 50 --can join,listen,speak",
        "channel add HQ",
        "channel add Command --under HQ --hidden",
        "rule everyone --at HQ --deny join,listen,speak",
        "rule role:commander --at HQ/Command --allow join,listen,speak",
        "grant commander Wren",
    ] {
        let words: Vec<_> = std::iter::once("charter").chain(command.split(' ')).collect();
        scene.run("Kestrel", &words).success();
    }
    let talks = || wren.try_ctl(&["talk-to", "HQ/Command"]).status == Some(0);
    assert!((0..1_000).any(|_| talks()), "the channel's name comes");
    shows(&wren, |status| status["talk_to"].to_string().contains("Command"));
    scene.run("Kestrel", &["charter", "revoke", "commander", "Wren"]).success();
    wren.wait_after(0, "a line about it", |event| {
        event.is("notice") && event.text("text").contains("goes to nobody")
    });
    shows(&wren, |status| status["talk_to"] == json!([]));
    wren.ctl(&["talk-to", "squad"]);
    shows(&wren, |status| status["talk_to"].to_string().contains("squad"));
}

/// A regression: nobody saw which members had closed the microphone, heard nothing or were away.
#[test]
fn a_deaf_member_looked_like_one_who_hears() {
    let scene = Scene::default();
    let kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let wren = scene.talk("Wren").ticket(&ticket).start();
    wren.is_among(&[&kestrel]);
    let seen = |field: &'static str, on: bool| {
        shows(&kestrel, move |status| status["peers"][0][field] == on);
    };
    for (command, back, field) in
        [("mute", "unmute", "muted"), ("deafen", "undeafen", "deafened"), ("away", "back", "away")]
    {
        wren.ctl(&[command]);
        seen(field, true);
        wren.ctl(&[back]);
        seen(field, false);
    }
    wren.ctl(&["deafen"]);
    wren.ctl(&["away"]);
    let told = kestrel.wait_after(0, "presence", |event| {
        event.is("presence") && event["deafened"] == true && event["away"] == true
    });
    assert_eq!((told.text("name"), &told["muted"]), ("Wren", &json!(false)));
    // The status is updated a tick after the event.
    let mut texts = (0..1_000).map(|_| kestrel.ctl(&["status"]));
    assert!(texts.any(|it| it.contains("Wren: ") && it.contains(", deafened, away")));
    // A member who comes later sees it as well.
    let heron = scene.talk("Heron").ticket(&ticket).start();
    heron.is_among(&[&kestrel, &wren]);
    shows(&heron, |status| {
        let peers = status["peers"].as_array().expect("a list").iter();
        let mut wren = peers.filter(|peer| peer["name"] == "Wren");
        wren.any(|peer| peer["deafened"] == true && peer["away"] == true)
    });
}

/// A regression: nobody could find out afterwards who had been there and talked, and who had muted
/// whom.
#[test]
fn what_had_happened_was_kept_nowhere() {
    let scene = Scene::default();
    scene.found("Kestrel", "Meridian Watch");
    let mut kestrel = scene.talk("Kestrel").start();
    let ticket = kestrel.ticket();
    let mut wren = scene.talk("Wren").ticket(&ticket).speaking("english").start();
    wren.is_among(&[&kestrel]);
    let is_wrens = |event: &Event, name| event.is(name) && event.text("name") == "Wren";
    let began = kestrel.wait_after(0, "speech", |event| is_wrens(event, "talk_started"));
    kestrel.wait_after(0, "some of it", |event| {
        event.is("stats") && event.at() > began.at() + Duration::from_millis(200)
    });
    wren.ctl(&["mute"]);
    kestrel.wait_after(0, "its end", |event| is_wrens(event, "talk_ended"));
    scene.run("Kestrel", &["charter", "mute", "Wren", "--for", "10m"]).success();
    kestrel
        .wait_after(0, "standing", |event| event.is("standing") && event.text("change") == "muted");
    scene.run("Kestrel", &["charter", "role", "add", "pilot", "--rank", "99"]).success();
    scene.run("Kestrel", &["charter", "grant", "pilot", "Wren"]).success();
    scene.run("Kestrel", &["ticket", "revoke", &ticket]).success();
    kestrel
        .wait_after(0, "its end", |event| event.is("ticket") && event.text("change") == "revoked");
    wren.leave();
    kestrel.wait_after(0, "a goodbye", |event| event.is("peer_down"));
    kestrel.leave();
    let log = |arguments: &[&str]| {
        scene.run("Kestrel", &[&["log"], arguments].concat()).success().to_owned()
    };
    let text = log(&[]);
    let of = log(&["--of", "wren"]);
    for words in ["Wren came", "Wren talked on ", "Wren was muted by Kestrel until ", "Wren left"] {
        assert!(text.contains(words) && of.contains(words), "{words}: {text}");
    }
    let revoked = text.lines().find(|line| line.contains("Kestrel revoked ticket "));
    assert!(revoked.is_some_and(|line| line.ends_with(" of Kestrel")), "{text}");
    assert!(text.contains("  Wren was given the role pilot by Kestrel"), "{text}");
    // The log also contains the first ticket, which `new` has printed before anything ran.
    let issued = text.lines().filter(|line| line.contains(" issued ticket ")).count();
    assert_eq!(issued, 2, "{text}");
    assert!(text.contains("this device started") && !of.contains("this device"), "{of}");
    let entries: Value = serde_json::from_str(&log(&["--json", "--since", "1h"])).expect("JSON");
    let talked = entries.as_array().expect("a list").iter().find(|it| it["what"] == "talked");
    let talked = talked.expect("a talkspurt");
    assert!(talked["ms"].as_u64().is_some_and(|ms| (100..60_000).contains(&ms)), "{talked}");
    let net = talked["nets"][0].as_str().expect("a net");
    assert!(log(&["--net", net]).contains("Wren talked on"));
    for (flag, words) in
        [("--net", "no net is called \"Nowhere\": there are "), ("--of", "there are Kestrel, Wren")]
    {
        let refused = scene.run("Kestrel", &["log", flag, "Nowhere"]);
        assert!(refused.complaint().contains(words), "{}", refused.complaint());
    }
    let file = folder(&scene).join("log.jsonl");
    let mode = fs::metadata(&file).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    // The log can be removed and turned off.
    assert!(log(&["off"]).starts_with("no log of Meridian Watch is kept"));
    log(&["clear"]);
    let mut kestrel = scene.talk("Kestrel").start();
    kestrel.leave();
    assert!(!file.exists());
    assert!(log(&[]).contains("`hark log on` begins one"));
}

/// Kestrel's organisation, with two channels that are called Alpha, and a preset for everyone.
fn organisation(scene: &Scene) -> Member {
    scene.found("Kestrel", "Meridian Watch");
    for (net, above) in
        [("Flight", None), ("Ground", None), ("Alpha", Some("Flight")), ("Alpha", Some("Ground"))]
    {
        let mut command = vec!["charter", "channel", "add", net];
        command.extend(above.into_iter().flat_map(|above| ["--under", above]));
        scene.run("Kestrel", &command).success();
    }
    scene.run("Kestrel", &["charter", "channel", "add", "Command"]).success();
    // The lowest order comes first; that channel is heard if nobody has chosen.
    for net in ["Flight", "Ground", "Command"] {
        scene.run("Kestrel", &["charter", "channel", "edit", net, "--order", "7"]).success();
    }
    let preset = scene.path("patrol.toml");
    fs::write(&preset, PATROL).expect("written");
    let preset = preset.display().to_string();
    scene.run("Kestrel", &["charter", "apply", &preset]).success();
    scene.talk("Kestrel").start()
}

const PATROL: &str = r#"
[[preset]]
name = "patrol"

[[preset.layout]]
for = "everyone"
keys = [["Flight"], ["Flight/Alpha", "Ground/Alpha"]]

[[preset.layout.net]]
channel = "Flight"

[[preset.layout.net]]
channel = "Flight/Alpha"
"#;

/// The text of `control.json` of Kestrel's node.
fn description(scene: &Scene) -> String {
    fs::read_to_string(folder(scene).join("control.json")).expect("a running node has it")
}

/// The folder of Kestrel's organisation.
fn folder(scene: &Scene) -> PathBuf {
    let organisations = scene.home("Kestrel").join("organisations");
    fs::read_dir(organisations).expect("there").next().expect("one").expect("read").path()
}

/// Paths of the nets that are heard, in ascending order.
fn heard(status: &Value) -> Vec<&str> {
    let nets = status["nets"].as_array().expect("a list").iter();
    let heard = nets.filter(|net| net["listening"] == true);
    let mut heard: Vec<_> = heard.filter_map(|net| net["path"].as_str()).collect();
    heard.sort_unstable();
    heard
}

/// Waits until the status, which is updated ten times a second, satisfies `like`.
#[track_caller]
fn shows(member: &Member, like: impl Fn(&Value) -> bool) {
    let mut asked = (0..1_000).map(|_| status(member));
    assert!(asked.any(|status| like(&status)), "{}", status(member));
}

fn status(member: &Member) -> Value {
    let status = member.ctl(&["status", "--json"]);
    let mut answer: Value = serde_json::from_str(&status).expect("JSON");
    answer["status"].take()
}

/// A regression: what was set for a net that is not heard was kept, but answered as if nothing had
/// changed.
#[test]
fn a_net_that_is_not_heard_showed_nothing_of_what_was_set() {
    let scene = Scene::default();
    let mut kestrel = organisation(&scene);
    let answer = kestrel.ctl(&["net", "ground", "--volume", "2", "--radio", "on"]);
    let told = "Ground: volume 2.00, pan 0.00, priority 0, as by a radio";
    assert_eq!(answer.trim(), told);
    kestrel.leave();
}
