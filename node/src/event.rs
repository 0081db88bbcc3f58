//! What a running node tells scripts: one JSON object a line.

mod notice;

use std::net::SocketAddr;

use hark_keys::{DeviceId, Invite, UnixTime};
use hark_mesh::Target;
use serde::{Deserialize, Serialize, Serializer};

pub use self::notice::{Deafness, Notice};
use crate::{
    admission::{WaitingState, WaitingView},
    clock::{local, utc},
    snapshot::TransmitMode,
};

/// Something that happened, in the words that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The node listens and can be joined.
    Ready {
        /// This device.
        device: DeviceText,
        /// Addresses that others can try, as multiaddrs.
        listen: Vec<String>,
    },
    /// Sample 0 was taken from, or placed into, the file or device.
    AudioStarted {
        /// Which end.
        direction: Direction,
        /// CLOCK_MONOTONIC at that moment, in nanoseconds.
        monotonic_ns: u64,
    },
    /// A sound device was lost or found again; silence meanwhile.
    AudioDevice {
        /// Which end.
        direction: Direction,
        /// Whether it works.
        available: bool,
        /// What happened, for a person.
        detail: String,
    },
    /// A member can be heard and spoken to.
    PeerUp {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// Another member who is called the same, or almost: one may pass for the other.
        #[serde(skip_serializing_if = "Option::is_none")]
        looks_like: Option<String>,
        /// How packets travel.
        path: Path,
        /// Where they go.
        address: String,
    },
    /// A member cannot be reached any more.
    PeerDown {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// How packets travelled.
        path: Path,
        /// Where they went.
        address: String,
        /// `left`, `unreachable`, or what else ended the link.
        reason: String,
    },
    /// Somebody who was dialled does not let this device in; told once for each reason.
    Refused {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// Why, for a person.
        reason: String,
    },
    /// A member's packets take another path from now on.
    PathChanged {
        /// Which device.
        device: DeviceText,
        /// The old path.
        from: Path,
        /// The new path.
        to: Path,
    },
    /// A member began to speak.
    TalkStarted {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channels that it speaks to.
        channels: Vec<String>,
    },
    /// Somebody has closed the microphone, silenced the loudspeaker or gone away, or not any more:
    /// all of it as it is now.
    Presence {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// Whether its microphone is closed.
        muted: bool,
        /// Whether its loudspeaker is silenced: it hears nobody.
        deafened: bool,
        /// Whether its person is away.
        away: bool,
    },
    /// A member stopped speaking.
    TalkEnded {
        /// Which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channels that it spoke to.
        channels: Vec<String>,
    },
    /// Each second: how every connected member is heard.
    Stats {
        /// One entry a member.
        peers: Vec<PeerStats>,
        /// This process, in percent of one core over the last second.
        cpu_percent: f64,
    },
    /// The devices that hold this device's key of what it talks to.
    RosterChanged {
        /// What that is called: a channel, or several things with `+` between them.
        channel: String,
        /// The same by ids.
        target: TargetText,
        /// The generation of the key.
        epoch: u64,
        /// Exactly those who were given the key, this device included: nobody else hears.
        devices: Vec<DeviceText>,
        /// Those of them who have not shown in time that they hold it: they may not hear.
        unconfirmed: Vec<DeviceText>,
    },
    /// What this device says to a target goes through another relay now, or through none.
    RelayChanged {
        /// What that is called: a channel, or several things with `+` between them.
        channel: String,
        /// The same by ids.
        target: TargetText,
        /// The relay; none where each listener is sent a copy.
        relay: Option<DeviceText>,
        /// Why.
        reason: String,
    },
    /// A member who relays has brought, as a talker's, what that talker has not signed. The relay
    /// has put words into the talker's mouth, or the talker has signed something else than it has
    /// sent: there is no telling which. The talker is not heard by this relay as long as this node
    /// runs.
    RelayForges {
        /// The relay.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// As whose the words came.
        talker: DeviceText,
        /// That one's name.
        talker_name: String,
    },
    /// The port of the last run, or of the first ticket, is another program's: this device listens
    /// on another one.
    PortTaken {
        /// That port.
        port: u16,
    },
    /// A member who may has moved this device's member to another channel.
    Moved {
        /// By which device.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channel that is not heard any more, if one was named.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The channel that is heard and talked to.
        to: String,
    },
    /// This device's member is muted or banned somewhere, or is not any more.
    Sanction {
        /// What, where, by whom and until when.
        #[serde(flatten)]
        sanction: SanctionView,
        /// Whether it holds from now on; else it was lifted, or has ended.
        in_force: bool,
        /// Who has lifted it before its time, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        lifted_by: Option<String>,
    },
    /// Somebody was given a role, muted or banned, or not any more; or belongs, or does not any
    /// more.
    Standing {
        /// Whether it is this device's own member.
        own: bool,
        /// Who, and what.
        #[serde(flatten)]
        standing: StandingView,
    },
    /// Tickets were issued at this device, or revoked anywhere.
    Ticket {
        /// Which, and by whom.
        #[serde(flatten)]
        ticket: TicketView,
    },
    /// A newcomer whose ticket asks for it waits to be let in at this device, or does not any more.
    Waiting {
        /// Who.
        #[serde(flatten)]
        newcomer: WaitingView,
        /// `waiting`, `admitted`, `refused` or `gone`.
        state: WaitingState,
    },
    /// Nothing is said to a target any more, and its key is forgotten.
    TargetGone {
        /// The id that the target had in `roster_changed`.
        target: String,
    },
    /// Others have found whether strangers reach this device; where none is listed, nobody could
    /// say.
    Reachability {
        /// Where this device is reached.
        reachable: Vec<SocketAddr>,
        /// Where it is seen and not reached.
        unreachable: Vec<SocketAddr>,
    },
    /// Something of this device's own state has changed: all of it as it is now.
    SelfChanged {
        /// Whether the own microphone is muted.
        muted: bool,
        /// Whether the own loudspeaker is muted.
        deafened: bool,
        /// Whether the person has said to be away.
        away: bool,
        /// Whether speech is being sent.
        transmitting: bool,
        /// How the microphone opens.
        transmit: TransmitMode,
        /// Whether what is said without a key of its own goes to this organisation.
        front: bool,
        /// The profile in use.
        profile: String,
        /// Keys with a name that are held.
        keys: Vec<String>,
        /// What is talked to now, or would be.
        talk_to: Vec<String>,
        /// Nets of it where this member may not speak.
        silenced: Vec<String>,
        /// Whether nobody who is reached listens to it.
        unheard: bool,
        /// Paths of the nets that are heard.
        nets: Vec<String>,
    },
    /// Something that the person at this device should know.
    Notice(Notice),
    /// The organisation's charter is now this.
    CharterChanged {
        /// Version of the root document.
        version: u32,
        /// Newest operations, in hexadecimal.
        heads: Vec<String>,
    },
    /// The last event.
    Stopped {
        /// `quit`, `signal`, `time`, or what failed.
        reason: String,
    },
}

impl From<Notice> for Event {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

/// What an officer has taken from this device's member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SanctionView {
    /// `mute` or `ban`.
    pub kind: &'static str,
    /// In which channel and below; none where it holds everywhere.
    pub channel: Option<String>,
    /// Who has set it; none where that is not known any more.
    pub by: Option<String>,
    /// Unix time in seconds at which it ends; none where it lasts until it is lifted.
    pub until: Option<u64>,
}

impl SanctionView {
    /// In a line, for the member: it is over, by `lifted_by` where somebody has lifted it.
    pub fn describe_end(&self, lifted_by: Option<&str>) -> String {
        let may = if self.kind == "ban" { "be there" } else { "speak" };
        let place = place_of(self.channel.as_deref());
        match lifted_by {
            Some(name) => {
                format!("{name} has lifted the {} {place}: you may {may} again", self.kind)
            }
            None => format!("the {} {place} is over: you may {may} again", self.kind),
        }
    }

    /// In a line, for the member.
    pub fn describe(&self) -> String {
        let by = self.by.as_deref().unwrap_or("an officer");
        let done = if self.kind == "ban" { "banned" } else { "muted" };
        let place = place_of(self.channel.as_deref());
        let until = match self.until {
            Some(until) => format!("until {}", utc(UnixTime::from_secs(until))),
            None => "until it is lifted".to_owned(),
        };
        format!("{by} has {done} you {place} {until}")
    }
}

/// What the charter has changed for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingView {
    /// The member's id.
    pub member: String,
    /// The member's name.
    pub name: String,
    /// `role_given`, `role_taken`, `muted`, `unmuted`, `banned`, `unbanned`, `joined`, `removed`
    /// (by an officer) or `left`.
    pub change: String,
    /// Which role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// In which channel and below; `None` if it holds everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Who has done it, if that is known; a preset gives and takes roles by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Unix time in seconds at which a mute or a ban ends; `None` if it lasts until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl StandingView {
    /// In a line, for a person.
    pub fn describe(&self) -> String {
        let name = &self.name;
        let at = self.channel.as_ref().map(|it| format!(" in {it}")).unwrap_or_default();
        let role = self.role.as_deref().unwrap_or_default();
        let done = match &*self.change {
            "role_given" => format!("{name} was given the role {role}{at}"),
            "role_taken" => format!("{name} has lost the role {role}{at}"),
            "muted" => format!("{name} was muted{at}"),
            "unmuted" => format!("{name} is muted{at} no longer"),
            "banned" => format!("{name} was banned{at}"),
            "unbanned" => format!("{name} is banned{at} no longer"),
            "joined" => format!("{name} has joined"),
            "removed" => format!("{name} was kicked"),
            "left" => format!("{name} does not belong any more"),
            other => format!("{name}: {other}{at}"),
        };
        let by = self.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let until = self.until.map(|until| {
            let until = local(UnixTime::from_secs(until));
            format!(" until {}", until.get(..16).unwrap_or(&until))
        });
        format!("{done}{by}{}", until.unwrap_or_default())
    }
}

/// Tickets that were issued or revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketView {
    /// `issued` or `revoked`.
    pub change: String,
    /// The number of the ticket; `None` if all so far were revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Whose tickets were revoked; `None` if everybody's were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Who has done it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl TicketView {
    /// One that is issued.
    pub fn issued(invite: &Invite, by: Option<String>) -> Self {
        Self { change: "issued".to_owned(), number: Some(invite.number()), of: None, by }
    }

    /// In a line, for a person.
    pub fn describe(&self) -> String {
        let by = |usual: &str| self.by.clone().unwrap_or_else(|| usual.to_owned());
        let of = self.of.as_deref().unwrap_or("everybody");
        match (&self.number, self.change == "issued") {
            (Some(number), true) => format!("{} issued ticket {number}", by("this device")),
            (Some(number), false) => {
                format!("{} revoked ticket {number} of {of}", by("an officer"))
            }
            (None, _) => format!("{} revoked all tickets of {of} so far", by("an officer")),
        }
    }
}

/// `in Flight`, or `everywhere`.
pub fn place_of(channel: Option<&str>) -> String {
    channel.map_or_else(|| "everywhere".to_owned(), |channel| format!("in {channel}"))
}

/// What a key to talk is for, by ids in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TargetText {
    /// Its own id.
    pub id: String,
    /// Channels.
    pub channels: Vec<String>,
    /// Persons.
    pub members: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
}

impl From<&Target> for TargetText {
    fn from(target: &Target) -> Self {
        fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
            ids.iter().map(ToString::to_string).collect()
        }
        Self {
            id: target.id().to_string(),
            channels: texts(target.channels()),
            members: texts(target.members()),
            roles: texts(target.roles()),
        }
    }
}

/// How one member is heard: counters since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerStats {
    /// Which device.
    pub device: DeviceText,
    /// How packets travel.
    pub path: Path,
    /// Round trip.
    pub rtt_ms: f64,
    /// Voice datagrams lost, of those sent to us over the last seconds.
    pub loss_percent: f64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// How long the jitter buffer holds frames.
    pub playout_delay_ms: f64,
    /// Frames received, each counted once.
    pub frames_received: u64,
    /// Frames of speech made up because they were missing at their time.
    pub frames_concealed: u64,
    /// Frames that came after their time.
    pub frames_late: u64,
    /// Frames that came only as a copy.
    pub frames_recovered: u64,
}

/// Which way sound goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Microphone.
    Input,
    /// Loudspeaker.
    Output,
}

/// How packets reach a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Straight to an address of the member.
    Direct,
    /// Straight, through NATs that both sides have opened at the same time.
    Punched,
    /// Through a relay.
    Relay,
}

impl Path {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Punched => "punched",
            Self::Relay => "relay",
        }
    }
}

/// A device id that serialises as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceText(pub DeviceId);

impl Serialize for DeviceText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An event with the Unix time in microseconds at which it was published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StampedEvent {
    /// Unix time in microseconds.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The id of the organisation in which it happened; none where that was never found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
}
