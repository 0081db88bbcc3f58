//! WAV files as ends of a conversation: input at any rate, output at 48 kHz. No sound card is
//! needed.

mod reader;
mod recorder;
mod writer;

pub use reader::{MAX_FRAMES, WavError, load, load_both, read};
pub use recorder::WavRecorder;
pub use writer::{FLUSH_SAMPLES, MAX_SAMPLES, WavWriter};

#[cfg(test)]
mod tests;
