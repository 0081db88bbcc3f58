//! Controls a running node through its local API.

use std::{path::Path, time::Duration};

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use hark_command_line::{NetArguments, duration};
use hark_commands::TalkTo;
use hark_keys::UnixTime;
use hark_node::{
    admission::WaitingView,
    clock::utc,
    control::{Client, ControlError},
    reach::ports::PortReport,
    snapshot::{
        CheckedView, Choice, Command, CuesChange, MasterChange, NetChange, ProcessingChange,
        VoiceChange,
    },
    store::{Home, OrganisationStore},
};
use serde_json::{Value, json};

use crate::{
    HomeArguments,
    person::{home_path, open_home, say, say_json, span},
    talk::processing,
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
    /// Press or release a push-to-talk key: the plain one, one of the loaded preset by its number,
    /// one that is bound, or a net's name
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
        change: NetArguments,
    },
    /// What the voice or the plain key talks to, until a preset is loaded
    TalkTo {
        #[command(flatten)]
        to: TalkTo,
        /// Keep it when a preset is loaded
        #[arg(long)]
        keep: bool,
    },
    /// Hear and talk to what the charter says: forget the nets that you chose, how loud they are,
    /// and keys that you bound in place of the preset's
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
    /// Bit rate, frame length and copies of your voice, for this run
    Voice {
        /// auto, or 24 to 96 kbit/s
        #[arg(long, value_name = "KBPS", allow_hyphen_values = true)]
        bitrate: Option<String>,
        /// auto, or 2.5, 5, 10 or 20 ms
        #[arg(long, value_name = "MS", allow_hyphen_values = true)]
        frame: Option<String>,
        /// auto, or 0 to 5 copies of earlier frames in each datagram
        #[arg(long, value_name = "COPIES", allow_hyphen_values = true)]
        redundancy: Option<String>,
    },
    /// How loud all nets are together: those you talk to, and the others
    Master {
        /// The nets you talk to and whispers, 0 to 4, 1 being unchanged
        #[arg(long, value_name = "VOLUME", value_parser = number)]
        talked_to: Option<f32>,
        /// The other nets, 0 to 4
        #[arg(long, value_name = "VOLUME", value_parser = number)]
        others: Option<f32>,
        /// Turn the others down by 18 dB for now, or up again
        #[arg(long, value_name = "on|off")]
        others_down: Option<Switch>,
        /// Turn up who is far too quiet and turn down who is far too loud, or leave all as they are
        #[arg(long, value_name = "on|off")]
        leveling: Option<Switch>,
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
    /// What is done to your voice before it is sent; kept for the microphone that is used now
    Processing {
        /// echo=on|off|auto,noise=on|off|auto,gain=on|off|auto, or some of these
        #[arg(value_name = "LIST", value_parser = processing)]
        change: ProcessingChange,
    },
    /// Short tones that tell you what happens; nobody else hears them
    Cues {
        /// Your voice begins to be sent, or ends
        #[arg(long, value_name = "on|off")]
        key: Option<Switch>,
        /// Your microphone or loudspeaker is closed, or opened
        #[arg(long, value_name = "on|off")]
        mute: Option<Switch>,
        /// Somebody comes or goes
        #[arg(long, value_name = "on|off")]
        people: Option<Switch>,
        /// Somebody moves you to another net
        #[arg(long, value_name = "on|off")]
        moved: Option<Switch>,
        /// How loud they are, 0 to 4, 1 being as usual
        #[arg(long, value_name = "VOLUME", allow_hyphen_values = true, value_parser = number)]
        volume: Option<f32>,
    },
    /// Hear your own voice while it is sent
    SideTone {
        #[arg(value_enum, value_name = "on|off")]
        on: Switch,
        /// How loud, -40 to 0 dB, 0 being as the microphone hears you
        #[arg(long, value_name = "DB", allow_hyphen_values = true, value_parser = number)]
        level: Option<f32>,
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
enum Switch {
    On,
    Off,
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        matches!(switch, Switch::On)
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
            // This connection ends right after the answer, and the node would then release the key.
            let for_secs = down.then_some(lasting.as_secs());
            json!({"command": "ptt", "down": down, "key": key, "for_secs": for_secs})
        }
        Request::Listen { ref net, keep } => {
            json!({"command": "listen", "net": net, "on": true, "keep": keep})
        }
        Request::Unlisten { ref net } => json!({"command": "listen", "net": net, "on": false}),
        Request::Net { ref net, change } => {
            let change = NetChange::from(change);
            // JSON cannot express infinity or NaN.
            change.check()?;
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
        Request::Master { talked_to, others, others_down, leveling } => {
            let (others_down, leveling) = (others_down.map(bool::from), leveling.map(bool::from));
            let change = MasterChange { talked_to, others, others_down, leveling };
            json!(Command::Master { change })
        }
        Request::Voice { ref bitrate, ref frame, ref redundancy } => {
            let word = |it: &Option<String>| it.clone().map(Choice::Word);
            let (bitrate, frame) = (word(bitrate), word(frame));
            let change = VoiceChange { bitrate, frame, redundancy: word(redundancy) };
            json!(Command::Voice { change })
        }
        Request::Ducking { decibels } => json!({"command": "ducking", "decibels": decibels}),
        Request::Processing { change } => json!(Command::Processing { change }),
        Request::Cues { key, mute, people, moved, volume } => {
            let [key, mute, people, moved] =
                [key, mute, people, moved].map(|it| it.map(bool::from));
            json!(Command::Cues { change: CuesChange { key, mute, people, moved, volume } })
        }
        Request::SideTone { on, level } => {
            json!(Command::SideTone { on: Some(on.into()), decibels: level })
        }
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
    let mut answer = client.request(request)?;
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
        Request::Status | Request::Invite if arguments.json => say_json(&answer),
        Request::Status => say(&describe(&answer["status"])),
        Request::Invite => say(answer["ticket"].as_str().unwrap_or_default()),
        ref request => {
            let status = match request {
                Request::Quit => Value::Null,
                _ => client.request(json!({"command": "status"}))?["status"].take(),
            };
            let (fields, line) = now_so(request, &status);
            if arguments.json {
                let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                answer.as_object_mut().into_iter().for_each(|it| it.extend(fields.clone()));
                say_json(&answer);
            } else {
                say(&line);
                answer["note"].as_str().into_iter().for_each(say);
            }
        }
    }
    Ok(())
}

/// The state after a request was carried out: fields for scripts, and a line for people.
fn now_so(request: &Request, status: &Value) -> (Vec<(&'static str, Value)>, String) {
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
        Request::Master { .. } => {
            let master = &status["master"];
            let volume = |name: &str| master[name].as_f64().unwrap_or_default();
            let down = if master["others_down"] == true { ", turned down for now" } else { "" };
            let (talked_to, others) = (volume("talked_to"), volume("others"));
            let mut line = format!("nets you talk to: {talked_to:.2}, others: {others:.2}{down}");
            if master["leveling"] == false {
                line += "; talkers stay as loud as they are sent";
            }
            (own(&["master"]), line)
        }
        Request::Voice { bitrate, frame, redundancy } => {
            let named = [("bit rate", bitrate), ("frame", frame), ("redundancy", redundancy)];
            let set = named.iter().filter_map(|(name, it)| Some(format!("{name} {}", it.as_ref()?)));
            let line = format!("your voice, from what you say next: {}", set.collect::<Vec<_>>().join(", "));
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

/// The net with this path, or else the only net with this name.
fn net_called<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let nets = || status["nets"].as_array().into_iter().flatten();
    let mut named = nets().filter(|net| net["name"] == *name);
    let alone = named.next().filter(|_| named.next().is_none());
    nets().find(|net| net["path"] == *name).or(alone)
}

/// How a net is heard, in words.
fn describe_settings(net: &Value) -> String {
    let number = |name: &str| net[name].as_f64().unwrap_or_default();
    let path = net["path"].as_str().unwrap_or_default();
    let muted = if net["muted"] == true { ", muted" } else { "" };
    let (volume, pan, priority) = (number("volume"), number("pan"), number("priority"));
    format!("{path}: volume {volume:.2}, pan {pan:.2}, priority {priority}{muted}")
}

/// Connects to the running node of this home: in the organisation named `org`, or in the one in
/// front.
pub(crate) fn connect(home: &HomeArguments, org: Option<&str>) -> anyhow::Result<Client> {
    let path = home_path(home)?;
    let home = open_home(home)?;
    let mut running = match org {
        Some(name) => running(home.choose(Some(name))?.into_iter().collect())?,
        None => running(home.organisations()?)?,
    };
    if running.len() > 1 {
        let names: Vec<_> = running.iter().map(|(name, _)| name.clone()).collect();
        // One node has one organisation in front. If several nodes run, it is unknown which one is
        // meant.
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
        None => match elsewhere(&path, &home, org) {
            Some(line) => Err(ControlError::RunsElsewhere(line).into()),
            None => Err(ControlError::NotRunning.into()),
        },
    }
}

/// The organisations among `stores` for which a node runs, each by its name.
fn running(stores: Vec<OrganisationStore>) -> anyhow::Result<Vec<(String, Client)>> {
    let mut running = Vec::new();
    for store in stores {
        let Some(description) = store.control()? else { continue };
        match Client::connect(&description) {
            Ok(client) => running.push((store.charter().name().to_owned(), client)),
            Err(ControlError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(running)
}

/// What runs instead if the requested node does not: nodes for other organisations of this home, or
/// for those of the default home.
fn elsewhere(path: &Path, home: &Home, org: Option<&str>) -> Option<String> {
    let names = |home: &Home| {
        let running = running(home.organisations().ok()?).ok()?;
        let names: Vec<_> = running.into_iter().map(|(name, _)| format!("{name:?}")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let none = match org {
        Some(org) => format!("no node runs for {org:?}"),
        None => format!("no node runs for the home {}", path.display()),
    };
    if let Some(names) = names(home) {
        return Some(format!("{none}, only for {names}: leave --org out, or start one"));
    }
    let usual = Home::default_path().filter(|it| it != path && it.exists())?;
    let names = names(&Home::open(&usual, Box::new(|| None)).ok()?)?;
    let usual = usual.display();
    Some(format!("{none}; one runs for {names} in {usual}: leave --home and HARK_HOME out"))
}

/// Parses a finite number: infinity and NaN make no sense here.
fn number(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|it: &f32| it.is_finite());
    number.ok_or_else(|| format!("`{text}` is no number"))
}

/// Parses how long a key is held.
fn held(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(3600);
    let lasting = duration::parse(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=longest).contains(&lasting) {
        Ok(lasting)
    } else {
        Err("a key is held for 1s to 1h".to_owned())
    }
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
    let words = [("echo", "no echo"), ("noise", "no noise"), ("gain", "even level")];
    let running: Vec<_> = words
        .iter()
        .filter(|(stage, _)| processing[stage]["running"] == true)
        .map(|(_, word)| *word)
        .collect();
    let delay = processing["delay_ms"].as_f64().unwrap_or_default();
    (!running.is_empty()).then(|| format!("sends {} (+{delay:.0} ms)", running.join(", ")))
}

/// How the own voice is coded, unless it is as usual.
fn describe_coding(coding: &Value) -> Option<String> {
    let why = match coding["reason"].as_str()? {
        "many_listeners" => "many listeners",
        "queue" => "the way carries no more",
        _ => return None,
    };
    let number = |name: &str| coding[name].as_f64().unwrap_or_default();
    let (bitrate, frame) = (number("bitrate_kbps"), number("frame_ms"));
    Some(format!("sends {bitrate} kbit/s in frames of {frame} ms ({why})"))
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
    own.push(format!("talks to {}", talks_to(status)));
    own.extend(describe_processing(&status["processing"]));
    own.extend(describe_coding(&status["coding"]));
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
fn describe_profiles(status: &Value) -> String {
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

fn print_events(client: &mut Client) -> anyhow::Result<()> {
    loop {
        match client.next_event() {
            Ok(event) => {
                say_json(&event);
                if event["event"] == "stopped" {
                    return Ok(());
                }
            }
            // A node that was told to quit closes the connection.
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
             "pan": -0.3, "priority": 5, "muted": true},
            {"name": "Command", "path": "Command", "listening": false},
        ]);
        status["processing"] = json!({"microphone": "Desk", "echo": {"mode": "auto", "running": true},
            "noise": {"mode": "on", "running": true}, "gain": {"mode": "off", "running": false},
            "delay_ms": 17.5});
        status["cues"] =
            json!({"key": true, "mute": false, "people": false, "moved": true, "volume": 0.5});
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
            ("net alpha --mute true", hears),
            ("net Alpha --mute true", "Flight/Alpha: volume 1.50, pan -0.30, priority 5, muted"),
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
