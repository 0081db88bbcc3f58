//! Where sound enters and leaves: sound cards, WAV files, or nothing at all.
//!
//! ```text
//! sound card -> callback -> ring ─┐                         ┌─> ring -> callback -> sound card
//!                                 ├─> VoiceThread, Console ────┤
//! WAV file, silence, by the clock ┘                         └─> WAV file, nothing, by the clock
//! ```
//!
//! [`VoiceThread`] owns the desk and both ends. The callbacks copy, count and wake it, and
//! nothing else; a supervisor thread opens sound cards, and opens them again when they are lost.

pub mod callback;
mod capture;
mod card;
mod convert;
mod playout;
mod shared;
mod spec;
mod supervisor;
mod thread;
mod timeline;

use std::{io, path::PathBuf};

use hark_keys::{DeviceId, Timestamp};
use hark_voice::{Console, Line, VoiceCommand, VoiceEvent, VoiceStatistics};

pub use card::{DeviceInfo, DeviceList, SelfTest, list_devices, self_test};
pub use shared::{EndStatistics, VoiceHandle, VoiceThreadStatistics};
pub use spec::{InputSpec, OutputSpec, SpecError};
pub use thread::VoiceThread;

use crate::{event::Direction, wav::WavError};

/// Takes the datagrams that voice makes. Called from the voice thread: never waits.
pub trait DatagramSink: Send {
    /// Sends `datagram` over the line's link to `to`, at once or with the next flush, or drops it
    /// if there is none.
    fn push(&self, line: Line, to: DeviceId, datagram: &[u8]);
    /// Sends what was not sent at once.
    fn flush(&self);
}

/// What the voice thread drives; see [`Console`] for what each call means.
pub trait VoicePath: Send + 'static {
    /// Does what the node or its user wants.
    fn handle_command(&mut self, now: Timestamp, line: Line, command: VoiceCommand);
    /// Takes a datagram from the network.
    fn handle_datagram(&mut self, arrived: Timestamp, line: Line, from: DeviceId, bytes: &[u8]);
    /// Takes captured samples.
    fn handle_capture(&mut self, now: Timestamp, samples: &[f32]);
    /// Gives the next samples to play, both sides interleaved.
    fn playout(&mut self, now: Timestamp, out: &mut [f32]);
    /// Does what has become due.
    fn handle_timeout(&mut self, now: Timestamp);
    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<(Line, DeviceId, &[u8])>;
    /// The next event.
    fn poll_event(&mut self) -> Option<(Line, VoiceEvent)>;
    /// When `handle_timeout` is wanted.
    fn poll_timeout(&self) -> Option<Timestamp>;
    /// All counters of each line as they stand.
    fn statistics(&self) -> Vec<VoiceStatistics>;
}

impl VoicePath for Console {
    fn handle_command(&mut self, now: Timestamp, line: Line, command: VoiceCommand) {
        self.handle_command(now, line, command);
    }

    fn handle_datagram(&mut self, arrived: Timestamp, line: Line, from: DeviceId, bytes: &[u8]) {
        self.handle_datagram(arrived, line, from, bytes);
    }

    fn handle_capture(&mut self, now: Timestamp, samples: &[f32]) {
        self.handle_capture(now, samples);
    }

    fn playout(&mut self, now: Timestamp, out: &mut [f32]) {
        self.playout(now, out);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        self.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(Line, DeviceId, &[u8])> {
        self.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<(Line, VoiceEvent)> {
        self.poll_event()
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.poll_timeout()
    }

    fn statistics(&self) -> Vec<VoiceStatistics> {
        self.statistics()
    }
}

/// Both ends of a voice thread.
#[derive(Clone, Debug)]
pub struct VoiceEnds {
    /// Where the sound that others hear comes from.
    pub input: InputSpec,
    /// Where the sound of others goes.
    pub output: OutputSpec,
    /// Blocks of half the size, for less delay and more work.
    pub low_delay: bool,
}

/// What the voice thread tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VoiceThreadEvent {
    /// The pipeline of a line said so.
    Voice(Line, VoiceEvent),
    /// Sample 0 was taken from, or placed into, the file or sound card.
    AudioStarted {
        /// Which end.
        direction: Direction,
        /// The clock at that moment.
        monotonic_ns: u64,
    },
    /// An end stopped working, or works again. Meanwhile there is silence.
    Device {
        /// Which end.
        direction: Direction,
        /// Whether it works.
        available: bool,
        /// What happened, for a person.
        detail: String,
    },
}

/// Why an end cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The input file cannot be played.
    #[error("{} {error}", path.display())]
    Input {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: WavError,
    },
    /// The output file cannot be made.
    #[error("{} cannot be written: {error}", path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The machine has no microphone, or no sound system that answers.
    #[error("there is no microphone: connect one, or use --input silence or --input file:PATH")]
    NoMicrophone,
    /// The machine has no speaker, or no sound system that answers.
    #[error("there is no speaker: connect one, or use --output null or --output file:PATH")]
    NoSpeaker,
    /// No sound card has the name that was asked for.
    #[error("no {} is called `{name}`: there is {}", kind(*direction), list(known))]
    Unknown {
        /// Which end.
        direction: Direction,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The sound card is there but does not play along.
    #[error("the {} `{name}` cannot be used: {reason}", kind(*direction))]
    Unusable {
        /// Which end.
        direction: Direction,
        /// Its name.
        name: String,
        /// What the sound system says.
        reason: String,
    },
    /// The operating system refuses a thread.
    #[error("cannot start the voice thread: {0}")]
    Thread(io::Error),
}

fn kind(direction: Direction) -> &'static str {
    match direction {
        Direction::Input => "microphone",
        Direction::Output => "speaker",
    }
}

fn list(known: &[String]) -> String {
    match known {
        [] => "none".to_owned(),
        known => known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests;
