//! Sound into sealed frames and back.
//!
//! ```text
//! captured samples -> gate -> Opus -> seal -> a datagram for each listener, copies included
//! datagrams -> open -> jitter buffer -> Opus, concealment -> mix -> samples to play, both sides
//! ```
//!
//! This crate decides everything and does no I/O itself: it has no clock, thread, socket or file.
//! Each organisation has a [`Pipeline`], and one [`Console`] holds them all. The owner of the sound
//! device drives it with blocks of any length.

mod accounts;
mod binaural;
pub mod codec;
mod command;
mod console;
mod cues;
pub mod delays;
mod fade;
pub mod gate;
mod hearing;
pub mod jitter;
pub mod keyrings;
mod leveling;
pub mod mix;
pub mod nets;
mod pcm;
pub mod pipeline;
mod proofs;
mod radio;
pub mod rate;
pub mod receive;
pub mod redundancy;
pub mod report;
pub mod send;
mod shunned;
mod side_tone;
mod slots;
mod statistics;
mod stereo;
pub mod stretch;
mod uplinks;
mod window;

use std::{collections::VecDeque, time::Duration};

use hark_keys::{DeviceId, Timestamp};
use window::WindowMinimum;

pub use codec::CodecError;
pub use command::{Transmit, VoiceCommand, VoiceEvent};
pub use console::{Console, Line};
pub use cues::{CUE_VOLUME_MAX, Cue, CueSettings};
pub use delays::{WaitError, WaitLimits};
pub use gate::RELEASE_TAIL;
pub use hark_processing::{ProcessingState, StageMode, StageModeError, Stages};
pub use nets::{Net, NetSettings};
pub use pipeline::{Pipeline, PipelineConfig};
pub use rate::{Coding, CodingReason, CodingSettings, CodingState, Music};
pub use side_tone::{SIDE_TONE_MAX_DB, SIDE_TONE_MIN_DB};
pub use statistics::{OwnStatistics, TalkerStatistics, VoiceStatistics};

use command::Events;

/// Samples per second, everywhere in Hark.
pub const SAMPLE_RATE: u32 = 48_000;

/// Channels of the output, interleaved: left, right.
pub const SIDES: usize = 2;

/// Samples in one unit of media time. [PROTO-7.5]
pub const UNIT_SAMPLES: usize = 120;

/// Root mean square of `samples` in decibels below full scale; -120 for silence.
pub fn level_dbfs(samples: &[f32]) -> f32 {
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    let mean = energy / samples.len().max(1) as f32;
    (10.0 * mean.max(1e-12).log10()).min(0.0)
}

/// Datagrams to send. Their buffers are reused.
struct Outbox {
    ready: VecDeque<(DeviceId, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    /// The datagram that was polled last.
    polled: Vec<u8>,
    dropped: u64,
}

impl Outbox {
    fn new() -> Self {
        let ready = VecDeque::with_capacity(OUTBOX_MAX);
        Self { ready, spare: Vec::with_capacity(OUTBOX_MAX), polled: Vec::new(), dropped: 0 }
    }

    /// Makes room for a datagram to `device`. The caller writes it.
    fn push(&mut self, device: DeviceId) -> &mut Vec<u8> {
        let buffer = if self.ready.len() == OUTBOX_MAX {
            self.dropped += 1;
            self.ready.pop_front().map(|(_, buffer)| buffer)
        } else {
            self.spare.pop()
        };
        let mut buffer = buffer.unwrap_or_default();
        buffer.clear();
        self.ready.push_back((device, buffer));
        &mut self.ready.back_mut().expect("a buffer was just queued").1
    }

    fn poll(&mut self) -> Option<(DeviceId, &[u8])> {
        let (device, buffer) = self.ready.pop_front()?;
        self.spare.push(std::mem::replace(&mut self.polled, buffer));
        Some((device, &self.polled))
    }
}

/// The time at which samples are asked for, without the jitter of the thread that asks.
///
/// A device that once asks late catches up afterwards. A plan made with that late time would then
/// be off for good. So the earliest time at which the device asked for samples counts.
struct PlayoutClock {
    samples: u64,
    /// Time of asking minus the playing time of all samples before, in microseconds.
    earliest: WindowMinimum,
}

impl PlayoutClock {
    fn new() -> Self {
        Self { samples: 0, earliest: WindowMinimum::new(PLAYOUT_WINDOW) }
    }

    /// The device asks for the next `samples` at `now`. Returns the smoothed time.
    fn tick(&mut self, now: Timestamp, samples: usize) -> Timestamp {
        let played = (self.samples * 1_000_000 / u64::from(SAMPLE_RATE)) as i64;
        let asked = i64::try_from(now.as_duration().as_micros()).unwrap_or(i64::MAX);
        let earliest = self.earliest.update(now, asked - played);
        self.samples += samples as u64;
        Timestamp::from_micros(u64::try_from(earliest + played).unwrap_or(0))
    }
}

/// Most datagrams that wait to be polled. If there are more, the oldest is dropped and counted.
const OUTBOX_MAX: usize = 256;

/// Half of the span in which the earliest time is looked for. A longer span adapts slowly to a
/// device that has stalled for good. A shorter one mistakes a stall that is caught up for such a
/// device.
const PLAYOUT_WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
