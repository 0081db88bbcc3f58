//! WAV files as ends of a conversation: any rate in, 48 kHz out. Needs no sound card.

mod reader;
mod writer;

pub use reader::{MAX_FRAMES, WavError, load};
pub use writer::{FLUSH_SAMPLES, MAX_SAMPLES, WavWriter};

/// Samples a second of all sound inside Hark.
pub const SAMPLE_RATE: u32 = 48_000;

#[cfg(test)]
mod tests;
