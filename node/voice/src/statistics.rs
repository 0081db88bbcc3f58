//! Counters and measurements of voice.

use std::collections::BTreeMap;

use hark_keys::{DeviceId, TargetId};
use hark_mesh::datagram::DropReason;
use hark_processing::ProcessingState;

use super::{
    delays::WaitLimits,
    nets::Net,
    rate::{CodingSettings, CodingState},
};

/// Counters and measurements of all voice on the device.
#[derive(Clone, Debug, Default)]
pub struct VoiceStatistics {
    /// Our own voice.
    pub own: OwnStatistics,
    /// The voice of each talker.
    pub talkers: BTreeMap<DeviceId, TalkerStatistics>,
    /// Number of datagrams and frames that were not used, by reason.
    pub drops: BTreeMap<DropReason, u64>,
}

/// Counters and measurements of our own voice.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnStatistics {
    /// Level of the newest captured frame, whether or not it is sent.
    pub level_dbfs: f32,
    /// Whether a talkspurt is going out.
    pub transmitting: bool,
    /// What is done to captured sound before it is encoded.
    pub processing: ProcessingState,
    /// The target of that talkspurt.
    pub target: Option<TargetId>,
    /// The largest number of copies that any listener got with the newest frame.
    pub copies: u8,
    /// How our voice is coded, and why.
    pub coding: CodingState,
    /// What of it is set instead of chosen by the network.
    pub set: CodingSettings,
    /// Whether it was started with low delay.
    pub low_delay: bool,
    /// How long we wait for what others say.
    pub wait: WaitLimits,
    /// Frames sealed and sent.
    pub frames_sent: u64,
    /// Their samples.
    pub samples_sent: u64,
    /// Frames that could not be sealed: the key has no counters left, or the codec failed.
    pub frames_failed: u64,
}

/// Counters and measurements of one talker's voice. Frames are counted since the talker became
/// known.
#[derive(Clone, Debug, Default)]
pub struct TalkerStatistics {
    /// The relay by which it is heard; `None` if it sends to us directly.
    pub via: Option<DeviceId>,
    /// Frames that arrived for the first time, including those that arrived as copies.
    pub frames_received: u64,
    /// Frames that were due and present. They were decoded and played, or left silent if nobody was
    /// to hear them.
    pub frames_played: u64,
    /// Their samples as sent, before the talker's sound was made longer or shorter.
    pub samples_played: u64,
    /// Frames that were due within a talkspurt, but missing. The time until a frame came late counts
    /// as a part of one.
    pub frames_concealed: u64,
    /// Frames that arrived after they were due.
    pub frames_late: u64,
    /// Frames that arrived in time, but only as a copy.
    pub frames_recovered: u64,
    /// Samples by which the talker's sound was made longer, without a change of its pitch, so that
    /// frames have more time to arrive.
    pub samples_inserted: u64,
    /// Samples by which it was made shorter, so that it is heard sooner.
    pub samples_removed: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f32,
    /// How long frames are held beyond the fastest arrival.
    pub playout_delay_ms: f32,
    /// Share of the last hundred datagrams that did not arrive.
    pub loss_percent: f32,
    /// Level of the frame that is being played, as sent; -120 if nobody is to hear it.
    pub level_dbfs: f32,
    /// Whether the talker speaks on a net that we listen to, even if the net is muted.
    pub talking: bool,
    /// The nets that it speaks on and that we listen to.
    pub nets: Vec<Net>,
}
