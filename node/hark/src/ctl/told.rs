//! Words for people: a node's status, and what a request has changed.

use hark_keys::UnixTime;
use hark_node::{
    admission::WaitingView, clock::utc, reach::ports::PortReport, snapshot::CheckedView,
};
use serde_json::{Value, json};

use super::{Key, ProfileRequest, Request};
use crate::person::span;

/// The state after a request was carried out: fields for scripts, and a line for people.
pub(super) fn now_so(request: &Request, status: &Value) -> (Vec<(&'static str, Value)>, String) {
    let is = |name: &str| status[name] == true;
    let own = |names: &[&'static str]| -> Vec<_> {
        names.iter().map(|name| (*name, status[name].clone())).collect()
    };
    match request {
        Request::Mute | Request::Unmute => {
            let line = if is("muted") { "is closed".to_owned() } else { opens(status) };
            (own(&["muted", "transmit"]), format!("your microphone {line}"))
        }
        Request::Transmit { .. } => {
            let muted = if is("muted") { ", once it is not muted any more" } else { "" };
            (own(&["muted", "transmit"]), format!("your microphone {}{muted}", opens(status)))
        }
        Request::Processing { .. } => {
            (own(&["processing"]), describe_modes(&status["processing"]))
        }
        Request::Cues { .. } => (own(&["cues"]), describe_cues(&status["cues"])),
        Request::SideTone { .. } => {
            (own(&["side_tone"]), describe_side_tone(&status["side_tone"]))
        }
        Request::Deafen | Request::Undeafen => {
            let state = if is("deafened") { "silenced: you hear nobody" } else { "open" };
            (own(&["deafened"]), format!("your loudspeaker is {state}"))
        }
        Request::Away | Request::Back => {
            let state = if is("away") { "away" } else { "here" };
            (own(&["away"]), format!("the others see that you are {state}"))
        }
        Request::Ptt { state, key, lasting } => {
            let named = key.as_ref().map_or("the key".to_owned(), |key| format!("key {key}"));
            let down = matches!(state, Key::Down);
            let held = status["keys"].as_array().into_iter().flatten();
            let held = held.filter(|it| it["down"] == true && !down);
            let held: Vec<_> = held.filter_map(|it| it["key"].as_str()).collect();
            let still = match &*held {
                [] => String::new(),
                held => format!("; still down: {}", held.join(", ")),
            };
            let line = match down {
                true => format!("{named} is down, for {} at most", span(*lasting)),
                false => format!("{named} is up{still}"),
            };
            (vec![("key", json!(key)), ("down", json!(down))], line)
        }
        Request::Net { net, .. } => match net_called(status, net) {
            Some(net) => (vec![("net", net.clone())], describe_settings(net)),
            None => heard_and_talked_to(status),
        },
        Request::Key { key, .. } => {
            let mut keys = status["keys"].as_array().into_iter().flatten();
            match keys.find(|known| known["key"] == **key) {
                Some(known) => (vec![("key", known.clone())], describe_key(known)),
                None => (vec![("key", Value::Null)], format!("key {key} is free")),
            }
        }
        Request::Master { leveling, headphones, .. } => {
            let master = &status["master"];
            let volume = |name: &str| master[name].as_f64().unwrap_or_default();
            let down = if master["others_down"] == true { ", turned down for now" } else { "" };
            let (talked_to, others) = (volume("talked_to"), volume("others"));
            let mut line = format!("nets you talk to: {talked_to:.2}, others: {others:.2}{down}");
            match master["leveling"] == false {
                true => line += "; talkers stay as loud as they are sent",
                false if leveling.is_some() => line += "; talkers are leveled",
                false => {}
            }
            match master["headphones"] == true {
                true => line += "; talkers stand around your head",
                false if headphones.is_some() => line += "; talkers stand between left and right",
                false => {}
            }
            (own(&["master"]), line)
        }
        Request::Voice { bitrate, frame, redundancy, wait } => {
            let named = [("bit rate", bitrate), ("frame", frame), ("redundancy", redundancy)];
            let set = named.iter().filter_map(|(name, it)| Some(format!("{name} {}", it.as_ref()?)));
            let mut set: Vec<_> = set.collect();
            // Shorter frames have no room for it.
            let deep = redundancy.as_deref() == Some("deep");
            set.extend(deep.then(|| "in frames of 10 or 20 ms".to_owned()));
            let own_voice = (!set.is_empty())
                .then(|| format!("your voice, from what you say next: {}", set.join(", ")));
            let wait = wait.as_ref().map(|wait| describe_wait(wait));
            let line = own_voice.into_iter().chain(wait).collect::<Vec<_>>().join("; ");
            (own(&["coding"]), line)
        }
        Request::Ducking { decibels } => {
            let decibels = decibels.abs();
            let line = match decibels {
                0.0 => "lower nets are not turned down".to_owned(),
                _ => {
                    format!("lower nets are turned down by {decibels} dB while a higher one talks")
                }
            };
            (vec![("decibels", json!(decibels))], line)
        }
        Request::Move { person, net, from } => {
            let left = from.as_ref().map(|from| format!(", and leaves {from}"));
            let fields = vec![("person", json!(person)), ("to", json!(net)), ("from", json!(from))];
            let left = left.unwrap_or_default();
            (fields, format!("{person} is told to hear and to talk to {net}{left}"))
        }
        Request::Front => {
            let name = status["organisation"].as_str().unwrap_or_default();
            (own(&["front", "organisation"]), format!("{name} hears you"))
        }
        Request::Volume { who, gain } => {
            (vec![("device", json!(who)), ("gain", json!(gain))], format!("{who} has volume {gain}"))
        }
        Request::Admit { person } => (
            vec![("person", json!(person)), ("admitted", json!(true))],
            format!("{person} is let in, and comes in a moment"),
        ),
        Request::Refuse { person } => (
            vec![("person", json!(person)), ("admitted", json!(false))],
            format!("{person} is turned away, and comes in by another ticket alone"),
        ),
        Request::Quit => (Vec::new(), "the node ends".to_owned()),
        Request::Profile { request: Some(request) } => {
            let fields = own(&["profile", "profiles"]);
            let line = match request {
                ProfileRequest::List => describe_profiles(status),
                ProfileRequest::Use { name } => {
                    format!("profile {name} is in use: {}", heard_and_talked_to(status).1)
                }
                ProfileRequest::Copy { .. } | ProfileRequest::Remove { .. } => {
                    let in_use = status["profile"].as_str().unwrap_or_default();
                    format!("there are the profiles {}; {in_use} is in use", names(status, "profiles"))
                }
            };
            (fields, line)
        }
        Request::Listen { .. } | Request::Unlisten { .. } | Request::TalkTo { .. } | Request::Follow
        // The answer to these requests is printed elsewhere.
        | Request::Status | Request::Waiting | Request::Invite | Request::Events
        | Request::Profile { request: None } => heard_and_talked_to(status),
    }
}

/// How the microphone opens, in words.
fn opens(status: &Value) -> String {
    let how = match status["transmit"].as_str() {
        Some("open") => "is open all the time",
        Some("ptt") => "opens while a key is held",
        _ => "opens by voice",
    };
    how.to_owned()
}

/// What is heard and talked to: fields for scripts, and a line for people.
fn heard_and_talked_to(status: &Value) -> (Vec<(&'static str, Value)>, String) {
    let nets = status["nets"].as_array().into_iter().flatten();
    let heard = nets.filter(|net| net["listening"] == true).filter_map(|net| net["path"].as_str());
    let heard: Vec<_> = heard.collect();
    let hears = if heard.is_empty() { "no net".to_owned() } else { heard.join(", ") };
    let line = format!("you hear {hears}; your voice goes to {}", talks_to(status));
    let mut fields = vec![("nets", json!(heard))];
    let own = ["talk_to", "silenced", "unheard"];
    fields.extend(own.map(|name| (name, status[name].clone())));
    (fields, line)
}

/// Whom the voice reaches, in words.
fn talks_to(status: &Value) -> String {
    match &*names(status, "talk_to") {
        "" => "nobody".to_owned(),
        to if status["unheard"] == true => format!("{to}, where nobody hears it"),
        to => to.to_owned(),
    }
}

/// The net with this path, or else the only net with this name, capitals or not.
fn net_called<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let nets = || status["nets"].as_array().into_iter().flatten();
    let lower = name.to_lowercase();
    let is_called = |text: &Value| text.as_str().is_some_and(|it| it.to_lowercase() == lower);
    let mut named = nets().filter(|net| is_called(&net["name"]));
    let alone = named.next().filter(|_| named.next().is_none());
    let exact = nets().find(|net| net["path"] == *name);
    exact.or_else(|| nets().find(|net| is_called(&net["path"]))).or(alone)
}

/// How a net is heard, in words.
fn describe_settings(net: &Value) -> String {
    let number = |name: &str| net[name].as_f64().unwrap_or_default();
    let path = net["path"].as_str().unwrap_or_default();
    let muted = if net["muted"] == true { ", muted" } else { "" };
    let (volume, pan, priority) = (number("volume"), number("pan"), number("priority"));
    let radio = if net["radio"] == true { ", as by a radio" } else { "" };
    format!("{path}: volume {volume:.2}, pan {pan:.2}, priority {priority}{radio}{muted}")
}

/// When each stage runs, and for which microphone.
fn describe_modes(processing: &Value) -> String {
    let stages = ["echo", "noise", "gain"];
    let modes = stages
        .map(|stage| format!("{stage} {}", processing[stage]["mode"].as_str().unwrap_or_default()));
    let kept = match processing["microphone"].as_str() {
        Some(name) => format!("kept for {name}"),
        None => "for this run".to_owned(),
    };
    format!("{}; {kept}", modes.join(", "))
}

/// The tones that are heard.
fn describe_cues(cues: &Value) -> String {
    let names = ["key", "mute", "people", "moved"];
    let on: Vec<_> = names.into_iter().filter(|name| cues[name] == true).collect();
    match &*on {
        [] => "you hear no cues".to_owned(),
        on => {
            let volume = cues["volume"].as_f64().unwrap_or_default();
            format!("you hear cues of {}, at volume {volume:.2}", on.join(", "))
        }
    }
}

/// Whether and how loud the own voice is heard.
fn describe_side_tone(side_tone: &Value) -> String {
    let decibels = side_tone["decibels"].as_f64().unwrap_or_default();
    match side_tone["on"] == true {
        true => format!("you hear yourself while you are sent, at {decibels} dB"),
        false => "you do not hear yourself".to_owned(),
    }
}

/// The stages that run, and how much later the voice is for them.
fn describe_processing(processing: &Value) -> Option<String> {
    let words =
        [("echo", "echo cancellation"), ("noise", "noise suppression"), ("gain", "gain control")];
    let running: Vec<_> = words
        .iter()
        .filter(|(stage, _)| processing[stage]["running"] == true)
        .map(|(_, word)| *word)
        .collect();
    let delay = processing["delay_ms"].as_f64().unwrap_or_default();
    (!running.is_empty()).then(|| format!("{} at work (+{delay:.0} ms)", running.join(", ")))
}

/// How long the voices of others are waited for.
fn describe_wait(wait: &str) -> String {
    match wait.split_once("..") {
        Some((least, most)) => format!("waits {least} to {most} ms for the voices of others"),
        None => "waits for the voices of others as long as each line needs".to_owned(),
    }
}

/// How the own voice is coded, unless it is as usual.
fn describe_coding(coding: &Value) -> Option<String> {
    let why = match coding["reason"].as_str()? {
        "set" => "as you have set",
        "music" => "music",
        "many_listeners" => "many listeners",
        "queue" => "the way carries no more",
        _ => return None,
    };
    let number = |name: &str| coding[name].as_f64().unwrap_or_default();
    let (bitrate, frame) = (number("bitrate_kbps"), number("frame_ms"));
    let sides = if coding["stereo"] == true { " in stereo" } else { "" };
    Some(format!("sends {bitrate} kbit/s{sides} in frames of {frame} ms ({why})"))
}

pub(super) fn describe(status: &Value) -> String {
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let is = |name: &str| status[name] == true;
    let mut own = vec![format!("transmit {}", text("transmit"))];
    own.push(format!("profile {}", text("profile")));
    own.extend(is("muted").then(|| "muted".to_owned()));
    own.extend(is("deafened").then(|| "deafened".to_owned()));
    own.extend(is("away").then(|| "away".to_owned()));
    own.extend(is("transmitting").then(|| "talking".to_owned()));
    own.push(format!("talks to {}", talks_to(status)));
    own.extend(describe_processing(&status["processing"]));
    own.extend(describe_coding(&status["coding"]));
    let wait = status["coding"]["set"]["wait"].as_str().filter(|wait| *wait != "auto");
    own.extend(wait.map(describe_wait));
    let silenced = names(status, "silenced");
    own.extend((!silenced.is_empty()).then(|| format!("may not speak in {silenced}")));
    own.extend((status["front"] == false).then(|| "another organisation is in front".to_owned()));
    let mut lines =
        vec![format!("{} in {}: {}", text("name"), text("organisation"), own.join(", "))];
    for net in status["nets"].as_array().unwrap_or(&Vec::new()) {
        lines.extend(describe_net(net));
    }
    lines.extend(status["keys"].as_array().into_iter().flatten().map(describe_key));
    lines.extend(describe_router(&status["router"]));
    lines.extend(describe_checked(&status["checked"]));
    lines.extend(describe_waiting(&status["waiting"]));
    lines.extend(status["trouble"].as_str().map(|trouble| format!("trouble: {trouble}")));
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend((!peers.is_empty()).then(|| "people:".to_owned()));
    for peer in peers {
        let number = |name: &str| peer[name].as_f64().unwrap_or_default();
        let verified = match peer["verification"].as_str() {
            Some("verified") => " (verified)",
            Some("new_device") => " (a new device, not verified)",
            _ => "",
        };
        let name = format!("{}{verified}", peer["name"].as_str().unwrap_or_default());
        if peer["reachable"] != true {
            lines.push(format!("  {name}: not reachable"));
            continue;
        }
        lines.push(format!(
            "  {name}: {}{}, round trip {:.1} ms, loss {:.1} %, delay {:.0} ms, volume {}{}{}",
            peer["path"].as_str().unwrap_or_default(),
            peer["why_relayed"].as_str().map(|why| format!(" ({why})")).unwrap_or_default(),
            number("rtt_ms"),
            number("loss_percent"),
            number("playout_delay_ms"),
            number("volume"),
            match (peer["whispers"] == true, peer["talking"] == true) {
                (true, _) => ", whispers to you",
                (false, true) => ", talking",
                (false, false) => "",
            },
            describe_person(peer),
        ));
    }
    lines.join("\n")
}

/// What keeps a member from hearing or answering, or an empty text.
fn describe_person(peer: &Value) -> String {
    let words = [
        ("silenced", "may not speak"),
        ("muted", "microphone off"),
        ("deafened", "deafened"),
        ("away", "away"),
    ];
    let words = words.iter().filter(|(field, _)| peer[field] == true);
    words.map(|(_, words)| format!(", {words}")).collect()
}

/// All profiles, one a line.
pub(super) fn describe_profiles(status: &Value) -> String {
    let names = status["profiles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mark = |name| if status["profile"] == name { '*' } else { ' ' };
    names.map(|name| format!("{} {name}", mark(name))).collect::<Vec<_>>().join("\n")
}

/// The port that the router maps to this device, or `None` if it maps none.
fn describe_router(router: &Value) -> Option<String> {
    let report: PortReport = serde_json::from_value(router.clone()).ok()?;
    let (by, external) = report.mapped()?;
    let worth = if report.is_double_nat() { ", but is behind another NAT" } else { "" };
    Some(format!("router gives {external} by {by}{worth}"))
}

/// Whether strangers reach this device, as others have found out: one line for each address.
fn describe_checked(checked: &Value) -> Vec<String> {
    let checked: Vec<CheckedView> = serde_json::from_value(checked.clone()).unwrap_or_default();
    let line = |CheckedView { address, reachable, seconds_ago }: &CheckedView| {
        let found = if *reachable { "reachable" } else { "not reachable" };
        let ago = match seconds_ago {
            0..60 => format!("{seconds_ago} s"),
            _ => format!("{} min", seconds_ago / 60),
        };
        format!("{found} from outside at {address}, found {ago} ago")
    };
    checked.iter().map(line).collect()
}

/// The newcomers who wait to be let in, one a line.
pub(super) fn describe_waiting(waiting: &Value) -> Vec<String> {
    let waiting: Vec<WaitingView> = serde_json::from_value(waiting.clone()).unwrap_or_default();
    let line = |it: &WaitingView| {
        let since = utc(UnixTime::from_secs(it.since));
        let (name, words) = (&it.name, it.words.join(" "));
        let device = &it.device[it.device.len().saturating_sub(6)..];
        format!("{name}#{device} waits to be let in, with the words {words}, since {since}")
    };
    waiting.iter().map(line).collect()
}

/// The texts of a list, joined by commas.
fn names(of: &Value, list: &str) -> String {
    let names = of[list].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// A key that is bound to a target of its own.
fn describe_key(key: &Value) -> String {
    let to = ["nets", "members", "roles"].map(|of| names(key, of));
    let to: Vec<_> = to.into_iter().filter(|to| !to.is_empty()).collect();
    let held = if key["down"] == true { ", held" } else { "" };
    format!("key {}: {}{held}", key["key"].as_str().unwrap_or_default(), to.join(", "))
}

/// A net that is heard, or `None` if this one is not.
fn describe_net(net: &Value) -> Option<String> {
    if net["listening"] != true {
        return None;
    }
    let mut line = format!("net {}", net["path"].as_str().unwrap_or_default());
    for (mark, words) in [("muted", ", muted"), ("kept", ", kept")] {
        if net[mark] == true {
            line.push_str(words);
        }
    }
    let (members, talking) = (names(net, "members"), names(net, "talking"));
    if !members.is_empty() {
        line.push_str(&format!(": {members}"));
    }
    if !talking.is_empty() {
        line.push_str(&format!("; {talking} talking"));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "name": "Ann", "organisation": "Kestrel", "transmit": "vad", "muted": true,
            "profile": "pilot", "profiles": ["default", "pilot"],
            "deafened": false, "transmitting": false, "trouble": null,
            "talk_to": ["Flight/Alpha"], "unheard": true, "silenced": ["Command"],
            "keys": [{"key": "2", "nets": ["Patrol/Lark", "Patrol/Heron"], "planned": true, "down": true}],
            "router": {"gateway": "192.168.1.1", "pcp": {"answer": "unsupported"},
                "nat_pmp": {"answer": "mapped", "detail": "203.0.113.9:4000"},
                "upnp": {"answer": "spare"}},
            "checked": [
                {"address": "203.0.113.9:4000", "reachable": true, "seconds_ago": 59},
                {"address": "203.0.113.9:6001", "reachable": false, "seconds_ago": 605}],
            "waiting": [{"device": "12D3KooWickswr", "name": "Wren", "ticket": "abcdef",
                "words": ["crane", "river", "owl", "tide", "fern", "dusk"], "since": 1_800_000_000}],
            "peers": [
                {"device": "12D3a", "name": "Bob", "reachable": true, "path": "direct",
                 "rtt_ms": 1.25, "loss_percent": 0.0, "playout_delay_ms": 21.4, "volume": 1.0,
                 "talking": true, "whispers": true, "deafened": true, "away": true},
                {"device": "12D3b", "name": "Cat", "reachable": false},
                {"device": "12D3c", "name": "cat", "reachable": false},
            ],
        })
    }

    #[test]
    fn the_status_is_told_in_a_few_lines() {
        assert_eq!(
            describe(&status()),
            "Ann in Kestrel: transmit vad, profile pilot, muted, talks to Flight/Alpha, where nobody \
             hears it, may not speak in Command\n\
             key 2: Patrol/Lark, Patrol/Heron, held\n\
             router gives 203.0.113.9:4000 by NAT-PMP\n\
             reachable from outside at 203.0.113.9:4000, found 59 s ago\n\
             not reachable from outside at 203.0.113.9:6001, found 10 min ago\n\
             Wren#ickswr waits to be let in, with the words crane river owl tide fern dusk, since \
             2027-01-15 08:00:00 UTC\n\
             people:\n  \
             Bob: direct, round trip 1.2 ms, loss 0.0 %, delay 21 ms, volume 1, whispers to you, \
             deafened, away\n  \
             Cat: not reachable\n  cat: not reachable"
        );
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        request: Request,
    }

    /// `--pan=left` was answered with "invalid float literal".
    #[test]
    fn a_side_that_is_no_number_was_not_told_how_to_be_said() {
        for (option, told) in [("--pan=left", "-1 (left) to 1"), ("--volume=loud", "1 is as sent")]
        {
            let line = ["ctl", "net", "Alpha", option];
            let error = <Line as clap::Parser>::try_parse_from(line).err().expect("no number");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    /// Commands printed nothing, so nobody knew whether they had worked.
    #[test]
    fn commands_were_done_in_silence() {
        let mut status = status();
        status["nets"] = json!([
            {"name": "Alpha", "path": "Flight/Alpha", "listening": true, "volume": 1.5,
             "pan": -0.3, "priority": 5, "muted": true, "radio": true},
            {"name": "Command", "path": "Command", "listening": false},
        ]);
        status["processing"] = json!({"microphone": "Desk", "echo": {"mode": "auto", "running": true},
            "noise": {"mode": "on", "running": true}, "gain": {"mode": "off", "running": false},
            "delay_ms": 17.5});
        status["cues"] =
            json!({"key": true, "mute": false, "people": false, "moved": true, "volume": 0.5});
        status["master"] = json!({"talked_to": 1.0, "others": 0.5, "leveling": true});
        status["side_tone"] = json!({"on": true, "decibels": -12.0});
        let request = |line: &str| {
            let words = std::iter::once("ctl").chain(line.split(' '));
            <Line as clap::Parser>::parse_from(words).request
        };
        let hears = "you hear Flight/Alpha; your voice goes to Flight/Alpha, where nobody hears it";
        for (line, told) in [
            ("mute", "your microphone is closed"),
            ("transmit vad", "your microphone opens by voice, once it is not muted any more"),
            ("undeafen", "your loudspeaker is open"),
            ("processing noise=on", "echo auto, noise on, gain off; kept for Desk"),
            ("cues --people off", "you hear cues of key, moved, at volume 0.50"),
            ("side-tone on", "you hear yourself while you are sent, at -12 dB"),
            ("back", "the others see that you are here"),
            ("ptt down 2 --for 90s", "key 2 is down, for 90 s at most"),
            ("ptt up", "the key is up; still down: 2"),
            ("listen Alpha", hears),
            ("talk-to Alpha", hears),
            ("follow", hears),
            ("net Bravo --mute on", hears),
            (
                "net alpha --mute on",
                "Flight/Alpha: volume 1.50, pan -0.30, priority 5, as by a radio, muted",
            ),
            ("master --leveling on", "nets you talk to: 1.00, others: 0.50; talkers are leveled"),
            (
                "master --headphones off",
                "nets you talk to: 1.00, others: 0.50; talkers stand between left and right",
            ),
            (
                "voice --redundancy deep",
                "your voice, from what you say next: redundancy deep, in \
                frames of 10 or 20 ms",
            ),
            ("key 2 Lark", "key 2: Patrol/Lark, Patrol/Heron, held"),
            ("key 3", "key 3 is free"),
            ("ducking -18", "lower nets are turned down by 18 dB while a higher one talks"),
            ("move Wren Flight", "Wren is told to hear and to talk to Flight"),
            ("front", "Kestrel hears you"),
            ("volume Bob 0.5", "Bob has volume 0.5"),
            ("admit Wren", "Wren is let in, and comes in a moment"),
            ("profile copy scout", "there are the profiles default, pilot; pilot is in use"),
            ("quit", "the node ends"),
        ] {
            assert_eq!(now_so(&request(line), &status).1, told, "{line}");
        }
        let (fields, _) = now_so(&request("listen Alpha"), &status);
        let nets = ("nets", json!(["Flight/Alpha"]));
        assert!(fields.contains(&nets) && fields.contains(&("unheard", json!(true))), "{fields:?}");
    }

    #[test]
    fn the_profile_in_use_is_marked() {
        assert_eq!(describe_profiles(&status()), "  default\n* pilot");
    }
}
