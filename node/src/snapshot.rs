//! The state of a running node as people and programs see it, and what they may ask of it.

use hark_keys::DeviceId;
use serde::{Deserialize, Serialize};

use crate::event::{DeviceText, PeerStats};

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
    /// The channel that is listened to and spoken to.
    pub channel: String,
    /// An invite that admits others.
    pub ticket: String,
    /// How the microphone opens.
    pub transmit: TransmitMode,
    /// Whether the own microphone is muted.
    pub muted: bool,
    /// Whether the own loudspeaker is muted.
    pub deafened: bool,
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
    /// Devices that hold the own key, this one included.
    pub roster: Vec<DeviceText>,
    /// A sound device that is lost, or another lasting trouble, for a person.
    pub trouble: Option<String>,
}

/// One member's device.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// Its member's name.
    pub name: String,
    /// Where packets go; empty when not connected.
    pub address: String,
    /// Whether it is connected and not silent.
    pub reachable: bool,
    /// Whether it speaks now.
    pub talking: bool,
    /// Level of its speech, in dB below full scale.
    pub level_dbfs: f32,
    /// Own volume for it, 1 being unchanged.
    pub volume: f32,
    /// Path, round trip, loss and the rest.
    #[serde(flatten)]
    pub stats: PeerStats,
}

/// How the microphone opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransmitMode {
    /// Always.
    Open,
    /// By voice.
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
    /// The push-to-talk key.
    Ptt {
        /// Whether it is down.
        down: bool,
    },
    /// How the microphone opens.
    Transmit {
        /// The mode.
        mode: TransmitMode,
    },
    /// The volume of one member, 0 to 4.
    Volume {
        /// The member's device, as text.
        device: String,
        /// Factor.
        gain: f32,
    },
    /// Leave and end.
    Quit,
}

impl Command {
    /// The device that a volume command names, if its text is one.
    pub fn parse_device(text: &str) -> Option<DeviceId> {
        text.parse().ok()
    }
}
