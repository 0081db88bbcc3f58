//! The events that a running node reports to scripts: one JSON object a line.

mod notice;

use std::net::SocketAddr;

use hark_charter::content::SanctionKind;
use hark_keys::{DeviceId, Invite, UnixTime};
use hark_mesh::Target;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::notice::{Deafness, Notice};
use crate::{
    admission::{WaitingState, WaitingView},
    clock::{local, utc},
    snapshot::TransmitMode,
};

/// An event, in the words that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Sample 0 was taken from the file or sound device, or placed into it.
    AudioStarted {
        /// The end of sound that has started.
        direction: Direction,
        /// CLOCK_MONOTONIC at that moment, in nanoseconds.
        monotonic_ns: u64,
    },
    /// A sound device was lost, or found again: it is silent in the meantime. Or one was opened
    /// whose sound is poor.
    AudioDevice {
        /// The end of sound that the device serves.
        direction: Direction,
        /// Whether the device works now.
        available: bool,
        /// What has happened, in words for a person.
        detail: String,
    },
    /// A member can be heard and spoken to.
    PeerUp {
        /// The device of the member.
        device: DeviceText,
        /// The member's name.
        name: String,
        /// Another member whose name is the same, or almost the same, so that one may pass for the
        /// other.
        #[serde(skip_serializing_if = "Option::is_none")]
        looks_like: Option<String>,
        /// How packets reach the device.
        path: Path,
        /// The address to which they are sent.
        address: String,
    },
    /// A member cannot be reached any more.
    PeerDown {
        /// The device of the member.
        device: DeviceText,
        /// The member's name.
        name: String,
        /// How packets reached the device.
        path: Path,
        /// The address to which they were sent.
        address: String,
        /// `left`, `unreachable`, or what else ended the link.
        reason: String,
    },
    /// A device that this device dialled does not let it in. Reported once for each reason.
    Refused {
        /// The device that was dialled.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The reason, in words for a person.
        reason: String,
    },
    /// A member's packets take another path from now on.
    PathChanged {
        /// The device of the member.
        device: DeviceText,
        /// The old path.
        from: Path,
        /// The new path.
        to: Path,
    },
    /// A member began to speak.
    TalkStarted {
        /// The device that speaks.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channels to which it speaks.
        channels: Vec<String>,
    },
    /// A member has closed or opened the microphone, silenced or opened the loudspeaker, gone away
    /// or come back. The event contains the whole availability as it is now.
    Presence {
        /// The device whose availability has changed.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// Whether its microphone is closed.
        muted: bool,
        /// Whether its loudspeaker is silenced, so that it hears nobody.
        deafened: bool,
        /// Whether its person is away.
        away: bool,
    },
    /// A member stopped speaking.
    TalkEnded {
        /// The device that spoke.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channels to which it spoke.
        channels: Vec<String>,
    },
    /// Sent each second: how every connected member is heard.
    Stats {
        /// One entry for each connected member.
        peers: Vec<PeerStats>,
        /// Processor time of this process over the last second, in percent of one core.
        cpu_percent: f64,
    },
    /// The devices that hold this device's sender key for a target have changed.
    RosterChanged {
        /// The name of the target: a channel, or several parts with `+` between them.
        channel: String,
        /// The target by its ids.
        target: TargetText,
        /// The generation of the key.
        epoch: u64,
        /// Exactly the devices that were given the key, this device included. No other device
        /// hears.
        devices: Vec<DeviceText>,
        /// Those of them that have not confirmed the key in time, so that they may not hear.
        unconfirmed: Vec<DeviceText>,
    },
    /// This device's speech to a target now takes another relay, or none.
    RelayChanged {
        /// The name of the target: a channel, or several parts with `+` between them.
        channel: String,
        /// The target by its ids.
        target: TargetText,
        /// The relay. `None` if each listener is sent a delivery directly.
        relay: Option<DeviceText>,
        /// The reason for the change.
        reason: String,
    },
    /// A member that relays has delivered frames as a talker's that the talker has not signed.
    /// Either the relay has forged them, or the talker has signed something else than it has sent;
    /// the two cannot be told apart. The talker is not heard through this relay for as long as this
    /// node runs.
    RelayForges {
        /// The relay.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The device as whose the frames were delivered.
        talker: DeviceText,
        /// The name of that device's member.
        talker_name: String,
    },
    /// Another program uses the port of the last run, or of the first ticket. This device listens
    /// on another port.
    PortTaken {
        /// The port that is in use.
        port: u16,
    },
    /// A member with the right to move has moved this device's member to another channel.
    Moved {
        /// The device that did so.
        device: DeviceText,
        /// Its member's name.
        name: String,
        /// The channel that is no longer heard, if one was named.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The channel that is now heard and talked to.
        to: String,
    },
    /// This device's member was muted or banned, or the mute or ban has ended.
    Sanction {
        /// The kind of sanction, its place, who has set it, and when it ends.
        #[serde(flatten)]
        sanction: SanctionView,
        /// Whether the sanction is in force from now on. If not, it was lifted or has expired.
        in_force: bool,
        /// The member that lifted the sanction before its time, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        lifted_by: Option<String>,
    },
    /// A member was given a role or has lost one; was muted or banned, or is so no longer; or has
    /// joined or left the organisation.
    Standing {
        /// Whether the member is this device's own.
        own: bool,
        /// The member and the change.
        #[serde(flatten)]
        standing: StandingView,
    },
    /// A ticket was issued at this device, or tickets were revoked anywhere.
    Ticket {
        /// The tickets, and who has issued or revoked them.
        #[serde(flatten)]
        ticket: TicketView,
    },
    /// A newcomer waits to be let in at this device, as its ticket requires, or waits no longer.
    Waiting {
        /// The newcomer.
        #[serde(flatten)]
        newcomer: WaitingView,
        /// `waiting`, `admitted`, `refused` or `gone`.
        state: WaitingState,
    },
    /// This device no longer speaks to a target, and its key for the target is forgotten.
    TargetGone {
        /// The id that the target had in `roster_changed`.
        target: String,
    },
    /// Other members have checked whether strangers reach this device. If no address is listed,
    /// none of them could tell.
    Reachability {
        /// The addresses at which this device is reached.
        reachable: Vec<SocketAddr>,
        /// The addresses at which this device is seen but not reached.
        unreachable: Vec<SocketAddr>,
    },
    /// This device's own state has changed. The event contains all of it as it is now.
    SelfChanged {
        /// Whether the own microphone is muted.
        muted: bool,
        /// Whether the own loudspeaker is muted.
        deafened: bool,
        /// Whether the person is marked as away.
        away: bool,
        /// Whether speech is being sent.
        transmitting: bool,
        /// What opens the microphone.
        transmit: TransmitMode,
        /// Whether speech without a key of its own is sent to this organisation.
        front: bool,
        /// The profile in use.
        profile: String,
        /// The names of the keys that are held.
        keys: Vec<String>,
        /// The nets that are talked to now, or would be.
        talk_to: Vec<String>,
        /// Those nets in which this member may not speak.
        silenced: Vec<String>,
        /// Whether none of the peers within reach listens to those nets.
        unheard: bool,
        /// The paths of the nets that are heard.
        nets: Vec<String>,
    },
    /// Something that the person at this device should know. Programs read it as a kind and a text.
    #[serde(skip_deserializing)]
    Notice(Notice),
    /// The organisation's charter has changed to this state.
    CharterChanged {
        /// Version of the root document.
        version: u32,
        /// Newest operations, in hexadecimal.
        heads: Vec<String>,
    },
    /// The node ends. This is the last event.
    Stopped {
        /// The reason: `quit`, `signal`, `time`, or what failed.
        reason: String,
    },
}

impl From<Notice> for Event {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

/// A mute or ban of this device's member by an officer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanctionView {
    /// `mute` or `ban`.
    #[serde(with = "kind_text")]
    pub kind: SanctionKind,
    /// The channel in which, and below which, it holds. `None` if it holds everywhere.
    pub channel: Option<String>,
    /// The name of the member that has set it. `None` if that is no longer known.
    pub by: Option<String>,
    /// Unix time in seconds at which it ends. `None` if it lasts until it is lifted.
    pub until: Option<u64>,
}

/// The words of a kind of sanction, as scripts read them.
mod kind_text {
    use super::{Deserialize, Deserializer, SanctionKind, Serializer};

    pub(super) fn of(kind: SanctionKind) -> &'static str {
        match kind {
            SanctionKind::Mute => "mute",
            SanctionKind::Ban => "ban",
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references.
    pub(super) fn serialize<S: Serializer>(kind: &SanctionKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(of(*kind))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SanctionKind, D::Error> {
        let text = String::deserialize(from)?;
        let kinds = [SanctionKind::Mute, SanctionKind::Ban];
        let kind = kinds.into_iter().find(|kind| of(*kind) == text);
        kind.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no sanction")))
    }
}

impl SanctionView {
    /// A line for the member which says that the sanction is over, and that `lifted_by` has lifted
    /// it if given.
    pub fn describe_end(&self, lifted_by: Option<&str>) -> String {
        let may = if self.kind == SanctionKind::Ban { "be there" } else { "speak" };
        let place = place_of(self.channel.as_deref());
        match lifted_by {
            Some(name) => {
                format!(
                    "{name} has lifted the {} {place}: you may {may} again",
                    kind_text::of(self.kind)
                )
            }
            None => {
                format!("the {} {place} is over: you may {may} again", kind_text::of(self.kind))
            }
        }
    }

    /// A line for the member which describes the sanction.
    pub fn describe(&self) -> String {
        let by = self.by.as_deref().unwrap_or("an officer");
        let done = if self.kind == SanctionKind::Ban { "banned" } else { "muted" };
        let place = place_of(self.channel.as_deref());
        let until = match self.until {
            Some(until) => format!("until {}", utc(UnixTime::from_secs(until))),
            None => "until it is lifted".to_owned(),
        };
        format!("{by} has {done} you {place} {until}")
    }
}

/// A change of the charter that concerns a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingView {
    /// The member's id.
    pub member: String,
    /// The member's name.
    pub name: String,
    /// `role_given`, `role_taken`, `muted`, `unmuted`, `banned`, `unbanned`, `joined`, `removed`
    /// (by an officer) or `left`.
    pub change: String,
    /// The role that was given or taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The channel in which, and below which, it holds. `None` if it holds everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The name of the member that did it, if known. A preset gives and takes roles by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Unix time in seconds at which a mute or a ban ends; `None` if it lasts until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl StandingView {
    /// A line for a person which describes the change.
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
    /// The number of the ticket. `None` if all tickets so far were revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The member whose tickets were revoked. `None` if everybody's were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The name of the member that did it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl TicketView {
    /// A ticket that was issued.
    pub fn issued(invite: &Invite, by: Option<String>) -> Self {
        Self { change: "issued".to_owned(), number: Some(invite.number()), of: None, by }
    }

    /// A line for a person which describes the change.
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

/// Names the place: `in Flight`, or `everywhere`.
pub fn place_of(channel: Option<&str>) -> String {
    channel.map_or_else(|| "everywhere".to_owned(), |channel| format!("in {channel}"))
}

/// The target of a sender key, by ids in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetText {
    /// The id of the target.
    pub id: String,
    /// The ids of its channels.
    pub channels: Vec<String>,
    /// The ids of its members.
    pub members: Vec<String>,
    /// The ids of its roles.
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

/// How one member's device is heard. The frame counters run from the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStats {
    /// The device.
    pub device: DeviceText,
    /// How packets reach the device.
    pub path: Path,
    /// Round trip time in milliseconds.
    pub rtt_ms: f64,
    /// Voice datagrams lost in the last seconds, in percent of those sent to this device.
    pub loss_percent: f64,
    /// Interarrival jitter in milliseconds (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// How long the jitter buffer holds frames, in milliseconds.
    pub playout_delay_ms: f64,
    /// Frames received, each counted once.
    pub frames_received: u64,
    /// Frames of speech that were missing when they were due, so that the decoder made up sound for
    /// them.
    pub frames_concealed: u64,
    /// Frames that came after they were due.
    pub frames_late: u64,
    /// Frames that came in time, but only as a copy.
    pub frames_recovered: u64,
    /// Samples of 48 kHz by which sound was made longer, so that late frames are in time.
    #[serde(default)]
    pub samples_inserted: u64,
    /// Samples of 48 kHz by which it was made shorter, to be heard sooner again.
    #[serde(default)]
    pub samples_removed: u64,
}

/// The direction of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the microphone.
    Input,
    /// To the loudspeaker.
    Output,
}

/// How packets reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Directly, at an address of the peer.
    Direct,
    /// Directly, through NATs that both sides have opened at the same time.
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

impl<'de> Deserialize<'de> for DeviceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// An event with the Unix time in microseconds at which it was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StampedEvent {
    /// Unix time in microseconds.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The id of the organisation in which it happened. `None` if the organisation was never found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
}
