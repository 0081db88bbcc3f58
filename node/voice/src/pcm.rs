//! The decoded sound of one talker on its way into the mix.

use super::{SIDES, codec::FRAME_SAMPLES_MAX, fade::Fader};

/// Samples that are decoded but not yet played.
pub(super) struct Pcm {
    buffer: Box<[f32; 2 * FRAME_SAMPLES_MAX]>,
    played: usize,
    length: usize,
}

impl Pcm {
    /// Creates an empty buffer.
    pub(super) fn new() -> Self {
        Self { buffer: Box::new([0.0; 2 * FRAME_SAMPLES_MAX]), played: 0, length: 0 }
    }

    /// Whether everything has been played.
    pub(super) fn is_empty(&self) -> bool {
        self.played == self.length
    }

    /// All samples of the last decoded frame.
    pub(super) fn samples(&self) -> &[f32] {
        &self.buffer[..self.length]
    }

    /// Empties the buffer and returns the room for a frame.
    pub(super) fn clear(&mut self) -> &mut [f32] {
        (self.played, self.length) = (0, 0);
        &mut self.buffer[..FRAME_SAMPLES_MAX]
    }

    /// Sets the number of samples that were decoded.
    pub(super) fn set_length(&mut self, length: usize) {
        self.length = length;
    }

    /// Adds what fits to `out`, with the gains of `fader`. Returns the number of samples.
    pub(super) fn mix_into(&mut self, out: &mut [[f32; SIDES]], fader: &mut Fader) -> usize {
        let count = out.len().min(self.length - self.played);
        fader.mix(&self.buffer[self.played..self.played + count], &mut out[..count]);
        self.played += count;
        count
    }

    /// Cuts `-by` samples out of a whole frame, or repeats `by` of them, behind a crossfade.
    pub(super) fn adjust(&mut self, by: isize) {
        let length = self.length;
        let by_samples = by.unsigned_abs().min(length.saturating_sub(CROSSFADE_SAMPLES));
        if by_samples == 0 {
            return;
        }
        let fade = |n: usize| (n as f32 + 0.5) / CROSSFADE_SAMPLES as f32;
        // The loop runs backwards, so that nothing is read after it has been written.
        if by < 0 {
            for n in (0..CROSSFADE_SAMPLES).rev() {
                let (old, new) = (self.buffer[n], self.buffer[n + by_samples]);
                self.buffer[n + by_samples] = old + (new - old) * fade(n);
            }
            self.buffer.copy_within(by_samples..length, 0);
            self.length -= by_samples;
        } else {
            let from = length - CROSSFADE_SAMPLES - by_samples;
            self.buffer.copy_within(from + CROSSFADE_SAMPLES..length, length);
            for n in (0..CROSSFADE_SAMPLES).rev() {
                let at = length - CROSSFADE_SAMPLES + n;
                let (old, new) = (self.buffer[at], self.buffer[from + n]);
                self.buffer[at] = old + (new - old) * fade(n);
            }
            self.length += by_samples;
        }
    }
}

/// Number of samples in a crossfade: 2.5 ms.
const CROSSFADE_SAMPLES: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm() -> Pcm {
        let mut pcm = Pcm::new();
        for (n, sample) in pcm.clear()[..480].iter_mut().enumerate() {
            *sample = n as f32;
        }
        pcm.set_length(480);
        pcm
    }

    /// A ramp has no period: only the ends show that nothing else was touched.
    #[test]
    fn cutting_and_repeating_keep_the_ends() {
        for by in [-360, -100, -1, 1, 100, 360] {
            let mut pcm = pcm();
            pcm.adjust(by);
            let samples = pcm.samples();
            assert_eq!(samples.len() as isize, 480 + by);
            assert!(samples[0] < 2.0);
            assert!((samples[samples.len() - 1] - 479.0).abs() < 2.0);
            assert!(samples.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 5.0), "{by}");
        }
    }
}
