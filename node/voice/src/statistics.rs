//! How voice is doing, in numbers.

use std::collections::BTreeMap;

use hark_keys::{DeviceId, TargetId};
use hark_mesh::datagram::DropReason;

use super::nets::Net;

/// How voice is doing.
#[derive(Clone, Debug, Default)]
pub struct VoiceStatistics {
    /// Our own voice.
    pub own: OwnStatistics,
    /// Each talker's.
    pub talkers: BTreeMap<DeviceId, TalkerStatistics>,
    /// Datagrams and frames that were not used, and why.
    pub drops: BTreeMap<DropReason, u64>,
}

/// How our own voice goes out.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnStatistics {
    /// Level of the newest captured frame, whether or not it is sent.
    pub level_dbfs: f32,
    /// Whether a talkspurt is going out.
    pub transmitting: bool,
    /// Where it goes.
    pub target: Option<TargetId>,
    /// The largest number of copies that any listener got with the newest frame.
    pub copies: u8,
    /// Frames sealed and sent.
    pub frames_sent: u64,
    /// Frames that could not be: the key has no counters left, or the codec failed.
    pub frames_failed: u64,
}

/// How one talker's voice comes in. Frames are counted since the talker is known.
#[derive(Clone, Debug, Default)]
pub struct TalkerStatistics {
    /// The relay by which it is heard; none where it sends to us itself.
    pub via: Option<DeviceId>,
    /// Frames that came for the first time, copies included.
    pub frames_received: u64,
    /// Frames whose turn came: decoded and played, or left silent where nobody was to hear them.
    pub frames_played: u64,
    /// Frames that were due within a talkspurt, but not there.
    pub frames_concealed: u64,
    /// Frames that came after their turn.
    pub frames_late: u64,
    /// Frames that came in time, but only as a copy.
    pub frames_recovered: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f32,
    /// How long frames are held beyond the fastest arrival.
    pub playout_delay_ms: f32,
    /// Share of the last hundred datagrams that did not come.
    pub loss_percent: f32,
    /// Level of the frame that is being played, as sent; -120 where nobody is to hear it.
    pub level_dbfs: f32,
    /// Whether the talker speaks on a net that is listened to, be it muted.
    pub talking: bool,
    /// Those nets.
    pub nets: Vec<Net>,
}
