//! The state of a running node as people and programs see it, and what they may ask of it.

mod visible;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use hark_commands::{TalkTo, TicketRequest};

use crate::{
    admission::WaitingView,
    event::{DeviceText, PeerStats, SanctionView},
    profile::ProfileAction,
    reach::ports::PortReport,
};

/// Everything that a screen or the local API shows. Made ten times a second.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// This device.
    pub device: DeviceText,
    /// The name shown to others.
    pub name: String,
    /// The organisation's name.
    pub organisation: String,
    /// Its id.
    pub organisation_id: String,
    /// Whether what is said without a key of its own goes here, of the organisations that the node
    /// is in.
    pub front: bool,
    /// Nets that are to be talked to now, or would be, where this member may not speak.
    pub silenced: Vec<String>,
    /// Whether nobody who is reached listens to what is talked to now, or would be.
    pub unheard: bool,
    /// Names of the presets that are loaded.
    pub presets: Vec<String>,
    /// Channels within reach, in the order that officers gave them, and how they are heard.
    pub nets: Vec<NetView>,
    /// The profile in use: its settings of nets, keys and volumes are kept.
    pub profile: String,
    /// All profiles.
    pub profiles: Vec<String>,
    /// What is spoken to now, or would be.
    pub talk_to: Vec<String>,
    /// Keys to talk that are bound to a target of their own.
    pub keys: Vec<KeyView>,
    /// How the microphone opens.
    pub transmit: TransmitMode,
    /// Whether the own microphone is muted.
    pub muted: bool,
    /// Whether the own loudspeaker is muted.
    pub deafened: bool,
    /// Whether the person has said to be away.
    pub away: bool,
    /// Whether speech is being sent.
    pub transmitting: bool,
    /// Level of the microphone, in dB below full scale.
    pub level_dbfs: f32,
    /// Copies of earlier frames in each datagram, the most for any listener.
    pub copies: u8,
    /// This process, in percent of one core.
    pub cpu_percent: f64,
    /// Members that were seen since the start, those connected first.
    pub peers: Vec<PeerView>,
    /// How many others belong to the organisation, counted while none of them is here.
    pub other_members: usize,
    /// Devices that were given the own key, this one included.
    pub roster: Vec<DeviceText>,
    /// Those of them who have not shown that they hold it, and may not hear.
    pub unconfirmed: Vec<DeviceText>,
    /// What has come of asking the router for a port; none where it is not to be asked.
    pub router: Option<PortReport>,
    /// Whether strangers reach this device, as others have found, by address.
    pub checked: Vec<CheckedView>,
    /// Mutes and bans of this device's member that hold now.
    pub sanctions: Vec<SanctionView>,
    /// Newcomers who wait to be let in at this device, the longest first.
    pub waiting: Vec<WaitingView>,
    /// A sound device that is lost, or another lasting trouble, for a person.
    pub trouble: Option<String>,
}

/// What others have found of an address of this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedView {
    /// Where they see this device, or could.
    pub address: SocketAddr,
    /// Whether strangers reach it there.
    pub reachable: bool,
    /// How long ago that was found.
    pub seconds_ago: u64,
}

/// One channel within reach.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetView {
    /// Its name.
    pub name: String,
    /// Its name after the names of all above it, with `/` between them.
    pub path: String,
    /// Its id.
    pub id: String,
    /// The id of the channel that it is below, if it is below one within reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether it is heard.
    pub listening: bool,
    /// Whether what is said without a key of its own goes there.
    pub talked_to: bool,
    /// Whether it is heard besides whatever presets say.
    pub kept: bool,
    /// Whether this member may speak there.
    pub may_speak: bool,
    /// How loud, 1 being as sent.
    pub volume: f32,
    /// -1 left to 1 right.
    pub pan: f32,
    /// Whether it is heard by nobody but the screen.
    pub muted: bool,
    /// Higher ones turn lower ones down.
    pub priority: u8,
    /// Names of those who hear it, others than this device.
    pub members: Vec<String>,
    /// Names of those who talk on it now.
    pub talking: Vec<String>,
}

/// A key to talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// What it is called.
    pub key: String,
    /// What it talks to.
    #[serde(flatten)]
    pub to: TalkTo,
    /// Whether the loaded presets say so, and not this person.
    pub planned: bool,
    /// Whether it is held.
    pub down: bool,
}

/// A change of how a net is heard; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetChange {
    /// 0 to 4, 1 being as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f32>,
    /// -1 left to 1 right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pan: Option<f32>,
    /// Silences it, but shows who talks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// Higher nets turn lower ones down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

impl NetChange {
    /// Checks that each number is within its range.
    pub fn check(&self) -> Result<(), NetChangeError> {
        let within = |value: Option<f32>, low: f32, high| {
            value.is_none_or(|value| (low..=high).contains(&value))
        };
        if !within(self.volume, 0.0, 4.0) {
            return Err(NetChangeError::Volume(self.volume.unwrap_or_default()));
        }
        if !within(self.pan, -1.0, 1.0) {
            return Err(NetChangeError::Pan(self.pan.unwrap_or_default()));
        }
        Ok(())
    }

    /// Adds a later change to this one.
    pub fn merge(&mut self, later: Self) {
        self.volume = later.volume.or(self.volume);
        self.pan = later.pan.or(self.pan);
        self.muted = later.muted.or(self.muted);
        self.priority = later.priority.or(self.priority);
    }
}

/// Why a net cannot be heard so.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NetChangeError {
    /// The volume is out of its range.
    #[error("volume is 0 to 4, not {0}")]
    Volume(f32),
    /// The pan is out of its range.
    #[error("pan is -1 to 1, not {0}")]
    Pan(f32),
}

#[cfg(feature = "voice")]
impl NetChange {
    /// Changes `settings`.
    pub fn apply(self, settings: &mut hark_voice::NetSettings) {
        settings.volume = self.volume.unwrap_or(settings.volume);
        settings.pan = self.pan.unwrap_or(settings.pan);
        settings.muted = self.muted.unwrap_or(settings.muted);
        settings.priority = self.priority.unwrap_or(settings.priority);
    }
}

/// One member's device.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// Its member's name; with `#` and the beginning of the member's id where another member is
    /// called so, or almost so.
    pub name: String,
    /// Its member's id.
    pub member: String,
    /// Roles that its member has anywhere.
    pub roles: Vec<String>,
    /// Whether its member may speak on none of the channels that the device listens to.
    pub silenced: bool,
    /// Whether its person has closed the microphone.
    pub muted: bool,
    /// Whether its person has silenced the loudspeaker, and hears nobody.
    pub deafened: bool,
    /// Whether its person has said to be away.
    pub away: bool,
    /// Whether it speaks to this person or a role of this person's just now, and to no channel.
    pub whispers: bool,
    /// Whether this person has compared its words with its owner.
    pub verification: Verification,
    /// For how long it could not be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_secs: Option<u64>,
    /// Whether it belongs to the organisation no more.
    #[serde(skip)]
    pub former: bool,
    /// Where packets go; empty when not connected.
    pub address: String,
    /// Whether it is connected and not silent.
    pub reachable: bool,
    /// Why a relay passes its packets on, for a person; none where they come straight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_relayed: Option<String>,
    /// Whether it speaks now.
    pub talking: bool,
    /// The channels that its voice comes in on.
    pub talking_on: Vec<String>,
    /// Level of its speech, in dB below full scale.
    pub level_dbfs: f32,
    /// Own volume for it, 1 being unchanged.
    pub volume: f32,
    /// Path, round trip, loss and the rest.
    #[serde(flatten)]
    pub stats: PeerStats,
}

/// Whether a device is known to be its owner's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Nobody has compared its words here.
    #[default]
    Unverified,
    /// Its words were compared, and are its owner's.
    Verified,
    /// Words of another device of its member were compared, and these were not yet.
    NewDevice,
}

/// How the microphone opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransmitMode {
    /// Always.
    Open,
    /// By voice.
    #[default]
    Vad,
    /// While the key is down.
    Ptt,
}

/// What a person or a program may ask of a running node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Mutes or opens the own microphone.
    Mute {
        /// Whether to mute.
        on: bool,
    },
    /// Silences or opens the own loudspeaker.
    Deafen {
        /// Whether to silence.
        on: bool,
    },
    /// Says to all that the person is away, or back.
    Away {
        /// Whether away.
        on: bool,
    },
    /// A push-to-talk key: the plain one, one that is bound, or the name of a net.
    Ptt {
        /// Whether it is down.
        down: bool,
        /// Which; the plain one where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// For how many seconds it is down at most, 1 to 3600. Of a connection to the local API:
        /// where it is given, the key stays down after the connection has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_secs: Option<u32>,
    },
    /// Hears a net, or no longer.
    Listen {
        /// Its name or path.
        net: String,
        /// Whether to hear it.
        on: bool,
        /// Whether to hear it besides whatever presets say.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Changes how a net is heard.
    Net {
        /// Its name.
        net: String,
        /// What changes.
        #[serde(flatten)]
        change: NetChange,
    },
    /// What the plain key, or the voice, talks to; its organisation comes to the front.
    TalkTo {
        /// What.
        #[serde(flatten)]
        to: TalkTo,
        /// Whether it stays when a preset is loaded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Hears and talks to what the charter says, and forgets what was chosen instead.
    Follow,
    /// Gives a key to talk a target, or takes it away where none is given.
    Key {
        /// What the key is called.
        key: String,
        /// What it talks to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TalkTo>,
    },
    /// How far lower nets are turned down while a higher one talks, in dB.
    Ducking {
        /// 0 to 60, with or without a minus sign: 0 is not at all, 18 is usual.
        decibels: f32,
    },
    /// How the microphone opens.
    Transmit {
        /// The mode.
        mode: TransmitMode,
    },
    /// Be a relay for others, or none any more.
    Volunteer {
        /// Whether to be one.
        on: bool,
        /// What may be sent for others, in kbit/s; 0 is any rate.
        #[serde(default)]
        kbps: u32,
    },
    /// The volume of one member, 0 to 4.
    Volume {
        /// The member's device or name.
        device: String,
        /// Factor.
        gain: f32,
    },
    /// Has a member hear and talk to another net; whoever asks needs the right to move.
    Move {
        /// The member's name or device.
        person: String,
        /// The net to leave; none to leave none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The net to hear and to talk to.
        to: String,
    },
    /// Lets somebody in who waits at this device.
    Admit {
        /// A name, name#id or a device.
        person: String,
    },
    /// Turns somebody away who waits at this device.
    Refuse {
        /// The same.
        person: String,
    },
    /// What is said without a key of its own goes to this organisation.
    Front,
    /// Uses, copies or removes a profile.
    Profile {
        /// What is done with it.
        action: ProfileAction,
        /// Its name.
        name: String,
    },
    /// Remembers that a device is known to be its owner's, or no longer.
    Verify {
        /// The device, as text.
        device: String,
        /// Whether it is.
        on: bool,
    },
    /// Leave and end.
    Quit,
}
