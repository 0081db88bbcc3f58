//! The ends of sound: sound cards, WAV files, silence, or nothing at all.
//!
//! ```text
//! sound card -> callback -> ring ─┐                         ┌─> ring -> callback -> sound card
//!                                 ├─> VoiceThread, Console ────┤
//! WAV file, silence, by the clock ┘                         └─> WAV file, nothing, by the clock
//! ```
//!
//! [`VoiceThread`] owns the console and both ends. The callbacks copy samples, count them and wake
//! the thread, and do nothing else. A supervisor thread opens sound cards, and opens them again if
//! they are lost.

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

pub use card::{
    DeviceInfo, DeviceList, SelfTest, TELEPHONE_ADVICE, has_telephone_quality, list_devices,
    self_test,
};
pub use shared::{EndStatistics, VoiceHandle, VoiceThreadStatistics};
pub use spec::{InputSpec, OutputSpec, SpecError};
pub use thread::VoiceThread;

use crate::{event::Direction, wav::WavError};

/// Takes the datagrams that voice produces. The voice thread calls it, so it must never wait.
pub trait DatagramSink: Send {
    /// Sends `datagram` over the line's link to `to`, at once or with the next flush. Drops it if
    /// there is no link.
    fn push(&self, line: Line, to: DeviceId, datagram: &[u8]);
    /// Sends the datagrams that were not sent at once.
    fn flush(&self);
}

/// The pipeline that the voice thread drives. See [`Console`] for the meaning of each call.
pub trait VoicePath: Send + 'static {
    /// Carries out a command of the node or its user.
    fn handle_command(&mut self, now: Timestamp, line: Line, command: VoiceCommand);
    /// Takes a datagram from the network.
    fn handle_datagram(&mut self, arrived: Timestamp, line: Line, from: DeviceId, bytes: &[u8]);
    /// Takes captured samples, and half of what both sides differ, which is empty if there is one.
    fn handle_capture(&mut self, now: Timestamp, samples: &[f32], difference: &[f32]);
    /// Writes the next samples to play into `out`, both sides interleaved.
    fn playout(&mut self, now: Timestamp, out: &mut [f32]);
    /// Does what has become due by `now`.
    fn handle_timeout(&mut self, now: Timestamp);
    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<(Line, DeviceId, &[u8])>;
    /// The next event.
    fn poll_event(&mut self) -> Option<(Line, VoiceEvent)>;
    /// When to call `handle_timeout`, if at all.
    fn poll_timeout(&self) -> Option<Timestamp>;
    /// The present counters of each line.
    fn statistics(&self) -> Vec<VoiceStatistics>;
}

impl VoicePath for Console {
    fn handle_command(&mut self, now: Timestamp, line: Line, command: VoiceCommand) {
        self.handle_command(now, line, command);
    }

    fn handle_datagram(&mut self, arrived: Timestamp, line: Line, from: DeviceId, bytes: &[u8]) {
        self.handle_datagram(arrived, line, from, bytes);
    }

    fn handle_capture(&mut self, now: Timestamp, samples: &[f32], difference: &[f32]) {
        self.handle_stereo_capture(now, samples, difference);
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
    /// The source of the sound that others hear.
    pub input: InputSpec,
    /// The destination of the sound of others.
    pub output: OutputSpec,
    /// Whether blocks have half the size, for less delay and more work.
    pub low_delay: bool,
}

/// An event that the voice thread reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum VoiceThreadEvent {
    /// An event of the pipeline of a line.
    Voice(Line, VoiceEvent),
    /// Sample 0 was taken from the file or sound card, or placed into it.
    AudioStarted {
        /// The end that has started.
        direction: Direction,
        /// The clock at that moment, in nanoseconds.
        monotonic_ns: u64,
    },
    /// A microphone was opened.
    Microphone {
        /// Its name.
        name: String,
    },
    /// An end has stopped working, or works again. It is silent in the meantime.
    Device {
        /// The end that has changed.
        direction: Direction,
        /// Whether the end works now.
        available: bool,
        /// What has happened, in words for a person.
        detail: String,
    },
}

/// The reason why an end cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The input file cannot be played.
    #[error("{} {error}", path.display())]
    Input {
        /// The path of the input file.
        path: PathBuf,
        /// The reason why it cannot be played.
        error: WavError,
    },
    /// The output file cannot be created.
    #[error("{} cannot be written: {error}", path.display())]
    Output {
        /// The path of the output file.
        path: PathBuf,
        /// The error of the operating system.
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
        /// The end that the name was given for.
        direction: Direction,
        /// The name that was asked for.
        name: String,
        /// The names of the sound cards that exist.
        known: Vec<String>,
    },
    /// The sound card exists but cannot be opened or used.
    #[error("the {} `{name}` cannot be used: {reason}", kind(*direction))]
    Unusable {
        /// The end that it was to serve.
        direction: Direction,
        /// The name of the sound card.
        name: String,
        /// The reason that the sound system gives.
        reason: String,
    },
    /// The operating system refuses to start a thread.
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
