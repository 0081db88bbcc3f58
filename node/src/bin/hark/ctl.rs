//! Steering a running node through its local API.

use std::time::Duration;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use hark_keys::UnixTime;
use hark_node::{
    admission::WaitingView,
    clock::utc,
    control::{Client, ControlError},
    duration,
    reach::ports::Report,
    snapshot::{CheckedView, Command, NetChange, TalkTo},
};
use serde_json::{Value, json};

use crate::{
    HomeArguments,
    person::{open_home, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct CtlArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where several run [default: the one in front]
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    request: Request,
}

#[derive(Subcommand)]
enum Request {
    /// Who is here, and how they are heard
    Status,
    /// Close the microphone
    Mute,
    /// Open the microphone
    Unmute,
    /// Press or release a push-to-talk key: the plain one, one of the loaded preset by its number, one
    /// that is bound, or a net's name
    Ptt {
        #[arg(value_enum)]
        state: Key,
        /// The key, or the net
        #[arg(value_name = "KEY-OR-NET")]
        key: Option<String>,
        /// It goes up by itself after this time, 1s to 1h
        #[arg(long = "for", value_name = "DURATION", value_parser = held, default_value = "60s")]
        lasting: Duration,
    },
    /// Hear a net, until a preset is loaded
    Listen {
        /// Its name or path
        net: String,
        /// Hear it besides whatever presets say, too
        #[arg(long)]
        keep: bool,
    },
    /// Hear a net no longer
    Unlisten { net: String },
    /// How a net is heard
    Net {
        net: String,
        #[command(flatten)]
        change: NetChange,
    },
    /// What the voice or the plain key talks to, until a preset is loaded
    TalkTo {
        #[command(flatten)]
        to: TalkTo,
        /// Keep it when a preset is loaded
        #[arg(long)]
        keep: bool,
    },
    /// Hear and talk to what the charter says: forget the nets that you chose, how loud they are, and
    /// keys that you bound in place of the preset's
    Follow,
    /// Bind a key to talk to nets, persons or roles of its own; with none, it is free again
    Key {
        /// What the key is called
        key: String,
        #[command(flatten)]
        to: TalkTo,
    },
    /// How far lower nets are turned down while a higher one talks
    Ducking {
        /// 0 to 60 dB; 0 is not at all, 18 is usual
        #[arg(allow_hyphen_values = true, value_parser = number)]
        decibels: f32,
    },
    /// Have a member hear and talk to another net; needs the right to move
    Move {
        /// The member's name or device
        person: String,
        /// The net to hear and to talk to
        net: String,
        /// The net to leave for it
        #[arg(long, value_name = "NET")]
        from: Option<String>,
    },
    /// Be heard by this organisation, of those that the node is in
    Front,
    /// Silence the loudspeaker
    Deafen,
    /// Open the loudspeaker
    Undeafen,
    /// Tell the others that you are away
    Away,
    /// Tell the others that you are back
    Back,
    /// Make one member louder or softer
    Volume {
        /// The member's name or device
        #[arg(value_name = "DEVICE-OR-NAME")]
        who: String,
        /// 0 to 4, 1 being unchanged
        #[arg(allow_hyphen_values = true, value_parser = number)]
        gain: f32,
    },
    /// How the microphone opens
    Transmit {
        #[arg(value_enum)]
        mode: Mode,
    },
    /// Profiles of what is heard and talked to, each with its own volumes and keys
    Profile {
        #[command(subcommand)]
        request: Option<ProfileRequest>,
    },
    /// Newcomers who wait to be let in at this device, by tickets of `hark invite --ask`
    Waiting,
    /// Let one of them in, whose words you have compared
    Admit {
        /// A name, name#id or a device
        person: String,
    },
    /// Turn one of them away
    Refuse {
        /// A name, name#id or a device
        person: String,
    },
    /// Print an invite ticket
    Invite,
    /// Print events as they happen, as JSON lines
    Events,
    /// End the node
    Quit,
}

#[derive(Subcommand)]
enum ProfileRequest {
    /// All, with a mark at the one in use
    List,
    /// Go over to one; keys that are held are let go
    Use { name: String },
    /// Make another, like the one in use
    Copy { name: String },
    /// Forget one
    Remove { name: String },
}

impl ProfileRequest {
    fn json(&self) -> Value {
        let (action, name) = match self {
            Self::List => return json!({"command": "status"}),
            Self::Use { name } => ("use", name),
            Self::Copy { name } => ("copy", name),
            Self::Remove { name } => ("remove", name),
        };
        json!({"command": "profile", "action": action, "name": name})
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    Down,
    Up,
}

/// How the microphone opens.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Always
    Open,
    /// By voice
    Vad,
    /// While the push-to-talk key is down
    Ptt,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Vad => "vad",
            Self::Ptt => "ptt",
        }
    }
}

pub(crate) fn run(arguments: CtlArguments) -> anyhow::Result<()> {
    let mut client = connect(&arguments.home, arguments.org.as_deref())?;
    let request = match arguments.request {
        Request::Status | Request::Waiting => json!({"command": "status"}),
        Request::Admit { ref person } => json!({"command": "admit", "person": person}),
        Request::Refuse { ref person } => json!({"command": "refuse", "person": person}),
        Request::Mute => json!({"command": "mute", "on": true}),
        Request::Unmute => json!({"command": "mute", "on": false}),
        Request::Deafen => json!({"command": "deafen", "on": true}),
        Request::Undeafen => json!({"command": "deafen", "on": false}),
        Request::Away => json!({"command": "away", "on": true}),
        Request::Back => json!({"command": "away", "on": false}),
        Request::Ptt { state, ref key, lasting } => {
            let down = matches!(state, Key::Down);
            // This connection ends at once, and would take the key with it.
            let for_secs = down.then_some(lasting.as_secs());
            json!({"command": "ptt", "down": down, "key": key, "for_secs": for_secs})
        }
        Request::Listen { ref net, keep } => {
            json!({"command": "listen", "net": net, "on": true, "keep": keep})
        }
        Request::Unlisten { ref net } => json!({"command": "listen", "net": net, "on": false}),
        Request::Net { ref net, change } => {
            // JSON has no word for what is not a number.
            change.check().map_err(anyhow::Error::msg)?;
            json!(Command::Net { net: net.clone(), change })
        }
        Request::TalkTo { ref to, .. } if to.is_empty() => {
            bail!("name a net, or a person with --whisper, or a role with --role");
        }
        Request::TalkTo { ref to, keep } => json!(Command::TalkTo { to: to.clone(), keep }),
        Request::Follow => json!({"command": "follow"}),
        Request::Key { ref key, ref to } => {
            let to = (!to.is_empty()).then(|| to.clone());
            json!(Command::Key { key: key.clone(), to })
        }
        Request::Ducking { decibels } => json!({"command": "ducking", "decibels": decibels}),
        Request::Transmit { mode } => json!({"command": "transmit", "mode": mode.as_str()}),
        Request::Profile { ref request } => {
            request.as_ref().unwrap_or(&ProfileRequest::List).json()
        }
        Request::Invite => json!({"command": "invite"}),
        Request::Move { ref person, ref net, ref from } => {
            json!({"command": "move", "person": person, "to": net, "from": from})
        }
        Request::Front => json!({"command": "front"}),
        Request::Quit => json!({"command": "quit"}),
        Request::Volume { ref who, gain } => {
            json!({"command": "volume", "device": who, "gain": gain})
        }
        Request::Events => {
            client.request(json!({"command": "subscribe"}))?;
            return print_events(&mut client);
        }
    };
    let answer = client.request(request)?;
    match arguments.request {
        Request::Profile { request: None | Some(ProfileRequest::List) } => {
            let status = &answer["status"];
            if arguments.json {
                say_json(&json!({"profile": status["profile"], "profiles": status["profiles"]}));
            } else {
                say(&describe_profiles(status));
            }
        }
        Request::Waiting if arguments.json => say_json(&answer["status"]["waiting"]),
        Request::Waiting => match describe_waiting(&answer["status"]["waiting"]).as_slice() {
            [] => say("nobody waits to be let in here"),
            lines => lines.iter().for_each(|line| say(line)),
        },
        _ if arguments.json => say_json(&answer),
        Request::Status => say(&describe(&answer["status"])),
        Request::Invite => say(answer["ticket"].as_str().unwrap_or_default()),
        _ => answer["note"].as_str().into_iter().for_each(say),
    }
    Ok(())
}

/// The running node of this home, in the organisation of this name or the one in front.
pub(crate) fn connect(home: &HomeArguments, org: Option<&str>) -> anyhow::Result<Client> {
    let home = open_home(home)?;
    let stores = match org {
        Some(name) => home.choose(Some(name))?.into_iter().collect(),
        None => home.organisations()?,
    };
    let mut running = Vec::new();
    for store in stores {
        let Some(description) = store.control()? else { continue };
        match Client::connect(&description) {
            Ok(client) => running.push((store.charter().name().to_owned(), client)),
            Err(ControlError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if running.len() > 1 {
        let names: Vec<_> = running.iter().map(|(name, _)| name.clone()).collect();
        // Of one node one is in front; of several nodes there is no telling which is meant.
        let in_front = |(_, client): &mut (String, Client)| {
            let answer = client.request(json!({"command": "status"}));
            answer.is_ok_and(|answer| answer["status"]["front"] == true)
        };
        running =
            running.into_iter().filter_map(|mut it| in_front(&mut it).then_some(it)).collect();
        if running.len() != 1 {
            bail!("several organisations run: choose one with --org ({})", names.join(", "));
        }
    }
    match running.pop() {
        Some((_, client)) => Ok(client),
        None => Err(ControlError::NotRunning.into()),
    }
}

/// A finite number: others mean nothing to a radio.
fn number(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|it: &f32| it.is_finite());
    number.ok_or_else(|| format!("`{text}` is no number"))
}

/// How long a key is held.
fn held(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(3600);
    let lasting = duration::parse(text)?;
    if (Duration::from_secs(1)..=longest).contains(&lasting) {
        Ok(lasting)
    } else {
        Err("a key is held for 1s to 1h".to_owned())
    }
}

fn describe(status: &Value) -> String {
    let text = |name: &str| status[name].as_str().unwrap_or_default();
    let is = |name: &str| status[name] == true;
    let mut own = vec![format!("transmit {}", text("transmit"))];
    own.push(format!("profile {}", text("profile")));
    own.extend(is("muted").then(|| "muted".to_owned()));
    own.extend(is("deafened").then(|| "deafened".to_owned()));
    own.extend(is("away").then(|| "away".to_owned()));
    own.extend(is("transmitting").then(|| "talking".to_owned()));
    own.push(match &*names(status, "talk_to") {
        "" => "talks to nobody".to_owned(),
        to if is("unheard") => format!("talks to {to}, where nobody hears it"),
        to => format!("talks to {to}"),
    });
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
    for peer in status["peers"].as_array().unwrap_or(&Vec::new()) {
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

/// What keeps somebody from hearing or answering, if anything.
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

/// All profiles, a line each.
fn describe_profiles(status: &Value) -> String {
    let names = status["profiles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mark = |name| if status["profile"] == name { '*' } else { ' ' };
    names.map(|name| format!("{} {name}", mark(name))).collect::<Vec<_>>().join("\n")
}

/// The port that the router gives, if it does.
fn describe_router(router: &Value) -> Option<String> {
    let report: Report = serde_json::from_value(router.clone()).ok()?;
    let (by, external) = report.mapped()?;
    let worth = if report.is_double_nat() { ", but is behind another NAT" } else { "" };
    Some(format!("router gives {external} by {by}{worth}"))
}

/// Whether strangers reach this device, as others have found: a line for each address.
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

/// Who waits to be let in: a line for each.
fn describe_waiting(waiting: &Value) -> Vec<String> {
    let waiting: Vec<WaitingView> = serde_json::from_value(waiting.clone()).unwrap_or_default();
    let line = |it: &WaitingView| {
        let since = utc(UnixTime::from_secs(it.since));
        let (name, words) = (&it.name, it.words.join(" "));
        let device = &it.device[it.device.len().saturating_sub(6)..];
        format!("{name}#{device} waits to be let in, with the words {words}, since {since}")
    };
    waiting.iter().map(line).collect()
}

/// A list of texts, in one.
fn names(of: &Value, list: &str) -> String {
    let names = of[list].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// A key that talks to something of its own.
fn describe_key(key: &Value) -> String {
    let to = ["nets", "members", "roles"].map(|of| names(key, of));
    let to: Vec<_> = to.into_iter().filter(|to| !to.is_empty()).collect();
    let held = if key["down"] == true { ", held" } else { "" };
    format!("key {}: {}{held}", key["key"].as_str().unwrap_or_default(), to.join(", "))
}

/// A net that is heard.
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

fn print_events(client: &mut Client) -> anyhow::Result<()> {
    loop {
        match client.next_event() {
            Ok(event) => {
                say_json(&event);
                if event["event"] == "stopped" {
                    return Ok(());
                }
            }
            // That is how it looks when the node has been told to quit.
            Err(ControlError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
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
             2027-01-15 08:00:00 UTC\n  \
             Bob: direct, round trip 1.2 ms, loss 0.0 %, delay 21 ms, volume 1, whispers to you, \
             deafened, away\n  \
             Cat: not reachable\n  cat: not reachable"
        );
    }

    #[test]
    fn the_profile_in_use_is_marked() {
        assert_eq!(describe_profiles(&status()), "  default\n* pilot");
    }
}
