//! WAV files as ends of a conversation: any rate in, 48 kHz out. Needs no sound card.

mod reader;
mod recorder;
mod writer;

pub use reader::{MAX_FRAMES, WavError, load, read};
pub use recorder::WavRecorder;
pub use writer::{FLUSH_SAMPLES, MAX_SAMPLES, WavWriter};

#[cfg(test)]
mod tests;
