//! The state of a running node as people and programs see it, and the commands that they can give.

mod sound;
mod visible;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::{
    sound::{
        CuesChange, CuesView, ProcessingChange, ProcessingMode, ProcessingView, SideToneView,
        StageView,
    },
    visible::Changes,
};
pub use hark_commands::{TalkTo, TicketRequest};

#[cfg(feature = "voice")]
use crate::request::RequestError;
use crate::{
    admission::WaitingView,
    event::{DeviceText, PeerStats, SanctionView},
    profile::ProfileAction,
    reach::ports::PortReport,
};

/// Everything that a screen or the local API shows. A snapshot is made ten times a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// This device.
    pub device: DeviceText,
    /// The name shown to others.
    pub name: String,
    /// The organisation's name.
    pub organisation: String,
    /// The organisation's id.
    pub organisation_id: String,
    /// Whether this organisation is in front: of all organisations of the node, it hears speech
    /// without a key of its own.
    pub front: bool,
    /// The nets of `talk_to` in which this member may not speak.
    pub silenced: Vec<String>,
    /// Whether none of the peers within reach listens to `talk_to`.
    pub unheard: bool,
    /// Names of the loaded presets.
    pub presets: Vec<String>,
    /// Names of all presets, loaded or not.
    pub all_presets: Vec<String>,
    /// Channels within reach, in the order that officers gave them, and how they are heard.
    pub nets: Vec<NetView>,
    /// The volumes of all nets together.
    pub master: MasterVolumes,
    /// The profile in use. It keeps the settings of nets, keys and volumes.
    pub profile: String,
    /// The names of all profiles.
    pub profiles: Vec<String>,
    /// The nets that are talked to now, or would be.
    pub talk_to: Vec<String>,
    /// Talk keys that are bound to a target of their own.
    pub keys: Vec<KeyView>,
    /// What opens the microphone.
    pub transmit: TransmitMode,
    /// Whether the own microphone is muted.
    pub muted: bool,
    /// Whether the own loudspeaker is muted.
    pub deafened: bool,
    /// Whether the person is marked as away.
    pub away: bool,
    /// Whether speech is being sent.
    pub transmitting: bool,
    /// What is done to the microphone's sound before it is encoded.
    pub processing: ProcessingView,
    /// Which short tones the person hears.
    pub cues: CuesView,
    /// How the person hears the own voice.
    pub side_tone: SideToneView,
    /// Level of the microphone, in dB below full scale.
    pub level_dbfs: f32,
    /// Copies of earlier frames in each datagram: the most that any listener needs.
    pub copies: u8,
    /// How the own voice is coded.
    pub coding: CodingView,
    /// Processor time of this process, in percent of one core.
    pub cpu_percent: f64,
    /// Devices of members that were seen since the start. Those that are connected come first.
    pub peers: Vec<PeerView>,
    /// How many others belong to the organisation. Counted while none of them is here.
    pub other_members: usize,
    /// Devices that were given this device's sender key, this device included.
    pub roster: Vec<DeviceText>,
    /// Those of them that have not confirmed the key, and may not hear.
    pub unconfirmed: Vec<DeviceText>,
    /// The results of asking the router for a port. `None` if the router is not to be asked.
    pub router: Option<PortReport>,
    /// The addresses of this device, and whether strangers reach it there, as other members have
    /// found.
    pub checked: Vec<CheckedView>,
    /// Mutes and bans of this device's member that are in force now.
    pub sanctions: Vec<SanctionView>,
    /// Newcomers who wait to be let in at this device, the longest first.
    pub waiting: Vec<WaitingView>,
    /// A lost sound device or another lasting problem, in words for a person.
    pub trouble: Option<String>,
}

/// What other members have found about an address of this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedView {
    /// The address at which they see this device, or could see it.
    pub address: SocketAddr,
    /// Whether strangers reach this device there.
    pub reachable: bool,
    /// Seconds since that was found.
    pub seconds_ago: u64,
}

/// A channel within reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetView {
    /// The name of the channel.
    pub name: String,
    /// The names of all channels above it and its own, with `/` between them.
    pub path: String,
    /// The id of the channel.
    pub id: String,
    /// The id of the channel above it, if that one is within reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether the channel is heard.
    pub listening: bool,
    /// Whether speech without a key of its own is sent there.
    pub talked_to: bool,
    /// Whether the channel is heard whatever presets say.
    pub kept: bool,
    /// Whether this member may speak there.
    pub may_speak: bool,
    /// The volume; 1 leaves it unchanged.
    pub volume: f32,
    /// The place between left (-1) and right (1).
    pub pan: f32,
    /// Whether the channel is silenced, so that the screen alone shows who talks.
    pub muted: bool,
    /// Nets with a higher priority turn down those with a lower one.
    pub priority: u8,
    /// Whether talkers there sound as by a radio.
    pub radio: bool,
    /// Names of the members that hear it, without this device's own.
    pub members: Vec<String>,
    /// Names of the members that talk on it now.
    pub talking: Vec<String>,
}

/// A key to talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// The name of the key.
    pub key: String,
    /// The target of the key.
    #[serde(flatten)]
    pub to: TalkTo,
    /// Whether a loaded preset has bound the key, and not this person.
    pub planned: bool,
    /// Whether the key is held.
    pub down: bool,
}

/// A change of how a net is heard. Settings that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetChange {
    /// The volume, from 0 to 4; 1 leaves it unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f32>,
    /// The place between left (-1) and right (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pan: Option<f32>,
    /// Whether the net is silenced, while the screen still shows who talks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    /// The priority. Nets with a higher priority turn down those with a lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Whether talkers there sound as by a radio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<bool>,
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
        self.radio = later.radio.or(self.radio);
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
    /// Applies the change to `settings`.
    pub fn apply(self, settings: &mut hark_voice::NetSettings) {
        settings.volume = self.volume.unwrap_or(settings.volume);
        settings.pan = self.pan.unwrap_or(settings.pan);
        settings.muted = self.muted.unwrap_or(settings.muted);
        settings.priority = self.priority.unwrap_or(settings.priority);
        settings.radio = self.radio.unwrap_or(settings.radio);
    }
}

/// How the own voice is coded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CodingView {
    /// Bit rate of Opus.
    pub bitrate_kbps: f32,
    /// Length of a frame.
    pub frame_ms: f32,
    /// The most copies of earlier frames in a datagram.
    pub copies_max: u8,
    /// Whether packets describe the sound before them (deep redundancy, DRED).
    pub deep: bool,
    /// Why: `usual`, `music`, `set`, `many_listeners` or `queue`.
    pub reason: String,
    /// Whether both sides are sent.
    pub stereo: bool,
    /// Whether it was started with low delay.
    pub low_delay: bool,
    /// What the person has set of it, and of the wait for others.
    pub set: VoiceChange,
}

#[cfg(feature = "voice")]
impl From<&hark_voice::OwnStatistics> for CodingView {
    fn from(own: &hark_voice::OwnStatistics) -> Self {
        let hark_voice::CodingState { coding, copies_max, reason } = own.coding;
        let reason = match reason {
            hark_voice::CodingReason::Usual => "usual",
            hark_voice::CodingReason::Music => "music",
            hark_voice::CodingReason::Set => "set",
            hark_voice::CodingReason::ManyListeners => "many_listeners",
            hark_voice::CodingReason::Queue => "queue",
        };
        Self {
            bitrate_kbps: coding.bitrate_bps as f32 / 1e3,
            frame_ms: coding.frame_samples as f32 / 48.0,
            copies_max,
            deep: coding.deep,
            reason: reason.to_owned(),
            stereo: coding.stereo,
            low_delay: own.low_delay,
            set: VoiceChange::of(own.set, own.wait),
        }
    }
}

/// What is to change of how the own voice is coded. Each is `auto` or a number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VoiceChange {
    /// Bit rate of Opus, 24 to 96 kbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<SettingText>,
    /// Length of a frame: 2.5, 5, 10 or 20 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<SettingText>,
    /// Copies of earlier frames in each datagram, 0 to 5, or `deep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<SettingText>,
    /// How long others' voices are waited for, at least and at most: `20..120`, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<SettingText>,
}

/// A number or a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingText {
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
}

#[cfg(feature = "voice")]
impl VoiceChange {
    /// The changes for the voice side: of the coding and of the wait.
    pub fn parse(
        &self,
    ) -> Result<(hark_voice::rate::CodingChange, Option<hark_voice::WaitLimits>), RequestError>
    {
        use hark_voice::rate;
        let text = |choice: &SettingText| match choice {
            SettingText::Number(number) => number.to_string(),
            SettingText::Word(word) => word.clone(),
        };
        let Self { bitrate, frame, redundancy, wait } = self;
        if *self == Self::default() {
            return Err(RequestError::NoCodingToChange);
        }
        let wait = wait.as_ref().map(|it| text(it).parse()).transpose()?;
        let coding = rate::CodingChange {
            bitrate_bps: bitrate.as_ref().map(|it| rate::parse_bitrate(&text(it))).transpose()?,
            frame_samples: frame.as_ref().map(|it| rate::parse_frame(&text(it))).transpose()?,
            redundancy: redundancy
                .as_ref()
                .map(|it| rate::parse_redundancy(&text(it)))
                .transpose()?,
        };
        Ok((coding, wait))
    }

    /// What is in force, in full.
    pub(crate) fn of(set: hark_voice::CodingSettings, wait: hark_voice::WaitLimits) -> Self {
        use hark_voice::rate::Redundancy;
        let or_auto = |number: Option<f64>| {
            Some(number.map_or(SettingText::Word("auto".to_owned()), SettingText::Number))
        };
        let redundancy = match set.redundancy {
            Some(Redundancy::Deep) => Some(SettingText::Word("deep".to_owned())),
            Some(Redundancy::Copies(copies)) => Some(SettingText::Number(copies.into())),
            None => or_auto(None),
        };
        Self {
            bitrate: or_auto(set.bitrate_bps.map(|bps| f64::from(bps) / 1e3)),
            frame: or_auto(set.frame_samples.map(|samples| samples as f64 / 48.0)),
            redundancy,
            wait: Some(SettingText::Word(wait.to_string())),
        }
    }
}

/// Volumes that apply to all nets, besides that of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterVolumes {
    /// The volume of the nets that are talked to without a key of their own, and of whispers, from
    /// 0 to 4; 1 leaves it unchanged.
    pub talked_to: f32,
    /// The volume of the other nets, from 0 to 4.
    pub others: f32,
    /// Whether the other nets are turned down by 18 dB for now.
    pub others_down: bool,
    /// Whether talkers who are far too quiet or too loud are turned up or down.
    pub leveling: bool,
    /// Whether talkers are placed around the head of someone with headphones.
    pub headphones: bool,
    /// By how much talkers on nets of lower priority are turned down, 0 to 60 dB.
    pub ducking_db: f32,
}

impl Default for MasterVolumes {
    fn default() -> Self {
        Self {
            talked_to: 1.0,
            others: 1.0,
            others_down: false,
            leveling: true,
            headphones: false,
            ducking_db: 18.0,
        }
    }
}

/// A change of the volumes of all nets. Settings that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MasterChange {
    /// The volume of the nets that are talked to, from 0 to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talked_to: Option<f32>,
    /// The volume of the other nets, from 0 to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<f32>,
    /// Whether the other nets are turned down for now. It is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_down: Option<bool>,
    /// Whether talkers who are far too quiet or too loud are turned up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leveling: Option<bool>,
    /// Whether talkers are placed around the head of someone with headphones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headphones: Option<bool>,
}

/// A device of a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// The member's name. If another member's name is the same or almost the same, `#` and the
    /// beginning of the member's id follow.
    pub name: String,
    /// The id of the member.
    pub member: String,
    /// The roles that the member has, at any place.
    pub roles: Vec<String>,
    /// Whether the member has no right to speak on any channel that the device listens to.
    pub silenced: bool,
    /// Whether the person there has closed the microphone.
    pub muted: bool,
    /// Whether the person there has silenced the loudspeaker, and so hears nobody.
    pub deafened: bool,
    /// Whether the person there is marked as away.
    pub away: bool,
    /// Whether the device is whispering to this person or to a role of this person, and speaks to
    /// no channel.
    pub whispers: bool,
    /// Whether this person has compared the device's verification words with its owner.
    pub verification: Verification,
    /// For how many seconds the device has been out of reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_secs: Option<u64>,
    /// Whether the device no longer belongs to the organisation.
    #[serde(skip)]
    pub former: bool,
    /// The address to which packets are sent. Empty if the device is not connected.
    pub address: String,
    /// Whether the device is connected and not silent.
    pub reachable: bool,
    /// The reason why a relay passes its packets on, in words for a person. `None` if they come
    /// directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_relayed: Option<String>,
    /// Whether the device speaks now.
    pub talking: bool,
    /// The channels on which its voice arrives.
    pub talking_on: Vec<String>,
    /// Level of its speech, in dB below full scale.
    pub level_dbfs: f32,
    /// This person's volume for the device; 1 leaves it unchanged.
    pub volume: f32,
    /// The path, round trip, loss and other measurements.
    #[serde(flatten)]
    pub stats: PeerStats,
}

/// Whether the person has verified that a device is its owner's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// The device's words have not been compared here.
    #[default]
    Unverified,
    /// The device's words were compared and are its owner's.
    Verified,
    /// The words of another device of the member were compared, but not those of this device yet.
    NewDevice,
}

/// What opens the microphone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransmitMode {
    /// The microphone is always open.
    Open,
    /// Voice opens the microphone.
    #[default]
    Vad,
    /// The microphone is open while the key is held.
    Ptt,
}

/// A command of a person or a program to a running node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Mutes or opens the own microphone.
    Mute {
        /// Whether to mute it.
        on: bool,
    },
    /// Silences or opens the own loudspeaker.
    Deafen {
        /// Whether to silence it.
        on: bool,
    },
    /// Announces that the person is away, or is back.
    Away {
        /// Whether the person is away.
        on: bool,
    },
    /// Presses or releases a push-to-talk key: the plain one, a bound one, or the key of a net.
    Ptt {
        /// Whether the key is pressed.
        down: bool,
        /// The name of the key. `None` stands for the plain one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Whom to talk to while the key is down, for which no key needs to be bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TalkTo>,
        /// The longest time that the key stays down, in seconds: 1 to 3600. If it is given, a key
        /// that was pressed over a connection to the local API stays down after that connection has
        /// ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_secs: Option<u32>,
        /// How long the microphone stays open after the release, in ms: 0 to 1000. 150 if it is not
        /// given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tail_ms: Option<u16>,
    },
    /// Starts or stops listening to a net.
    Listen {
        /// The name or path of the net.
        net: String,
        /// Whether to hear it.
        on: bool,
        /// Whether to hear it whatever presets say.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Changes how a net is heard.
    Net {
        /// The name of the net.
        net: String,
        /// The settings that change.
        #[serde(flatten)]
        change: NetChange,
    },
    /// Changes the volumes of all nets together.
    Master {
        /// The settings that change.
        #[serde(flatten)]
        change: MasterChange,
    },
    /// Sets the target of the plain key, or of the voice. Its organisation comes to the front.
    TalkTo {
        /// The target.
        #[serde(flatten)]
        to: TalkTo,
        /// Whether the choice stays when a preset is loaded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Hears and talks to what the charter says, and forgets what the person chose instead.
    Follow,
    /// Binds a talk key to a target, or unbinds it if no target is given.
    Key {
        /// The name of the key.
        key: String,
        /// The target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TalkTo>,
    },
    /// Sets by how many dB lower nets are turned down while a higher one talks.
    Ducking {
        /// 0 to 60, with or without a minus sign. 0 turns nothing down; 18 is usual.
        decibels: f32,
    },
    /// Changes bit rate, frame length and copies of the own voice.
    Voice {
        /// What changes.
        #[serde(flatten)]
        change: VoiceChange,
    },
    /// Sets what opens the microphone.
    Transmit {
        /// The mode.
        mode: TransmitMode,
    },
    /// Changes what is done to the sound of the microphone that is open.
    Processing {
        /// The stages that change.
        #[serde(flatten)]
        change: ProcessingChange,
    },
    /// Changes which short tones the person hears.
    Cues {
        /// The settings that change.
        #[serde(flatten)]
        change: CuesChange,
    },
    /// Changes how the person hears the own voice while it is sent.
    SideTone {
        /// Whether it is heard. `None` leaves it as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<bool>,
        /// How loud it is, from -40 to 0 dB. `None` leaves it as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decibels: Option<f32>,
    },
    /// Becomes a relay for others, or stops being one.
    Volunteer {
        /// Whether to be a relay.
        on: bool,
        /// The rate that may be sent for others, in kbit/s; 0 stands for any rate.
        #[serde(default)]
        kbps: u32,
    },
    /// Sets the volume of one member, from 0 to 4.
    Volume {
        /// The member's device or name.
        device: String,
        /// The factor.
        gain: f32,
    },
    /// Has a member hear and talk to another net. The caller needs the right to move.
    Move {
        /// The member's name or device.
        person: String,
        /// The net to leave. `None` leaves no net.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The net to hear and to talk to.
        to: String,
    },
    /// Lets in a newcomer who waits at this device.
    Admit {
        /// The newcomer: a name, name#id or a device.
        person: String,
    },
    /// Turns away a newcomer who waits at this device.
    Refuse {
        /// The newcomer: a name, name#id or a device.
        person: String,
    },
    /// Brings this organisation to the front: it hears speech without a key of its own.
    Front,
    /// Uses, copies or removes a profile.
    Profile {
        /// What is done with the profile.
        action: ProfileAction,
        /// The name of the profile.
        name: String,
    },
    /// Stores whether a device is verified to be its owner's.
    Verify {
        /// The device, as text.
        device: String,
        /// Whether it is verified.
        on: bool,
    },
    /// Says goodbye and ends the node.
    Quit,
}
