//! Controls a running node through its local API.

mod told;

use std::{path::Path, time::Duration};

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use hark_command_line::{NetArguments, duration};
use hark_commands::TalkTo;
use hark_node::{
    control::{Client, ControlError},
    snapshot::{
        Command, CuesChange, MasterChange, NetChange, ProcessingChange, SettingText, VoiceChange,
    },
    store::{Home, OrganisationStore},
};
use serde_json::{Value, json};

use self::told::{describe, describe_profiles, describe_waiting, now_so};
use crate::{
    HomeArguments,
    person::{home_path, open_home, say, say_json},
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
        /// auto, 0 to 5 copies of earlier frames in each datagram, or deep
        #[arg(long, value_name = "COPIES", allow_hyphen_values = true)]
        redundancy: Option<String>,
        /// auto, or the least and the most in ms to wait for the voices of others
        #[arg(long, value_name = "LEAST..MOST", allow_hyphen_values = true)]
        wait: Option<String>,
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
        /// Place the nets around your head, as both ears hear what is on one side: for headphones
        #[arg(long, value_name = "on|off")]
        headphones: Option<Switch>,
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
        Request::Master { talked_to, others, others_down, leveling, headphones } => {
            let (others_down, leveling) = (others_down.map(bool::from), leveling.map(bool::from));
            let headphones = headphones.map(bool::from);
            let change = MasterChange { talked_to, others, others_down, leveling, headphones };
            json!(Command::Master { change })
        }
        Request::Voice { ref bitrate, ref frame, ref redundancy, ref wait } => {
            let word = |it: &Option<String>| it.clone().map(SettingText::Word);
            let (bitrate, frame) = (word(bitrate), word(frame));
            let (redundancy, wait) = (word(redundancy), word(wait));
            let change = VoiceChange { bitrate, frame, redundancy, wait };
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
