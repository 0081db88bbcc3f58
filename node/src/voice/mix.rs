//! What is added to the talkers, and how the sum is kept within bounds.

use std::f32::consts::TAU;

use super::SAMPLE_RATE;

/// Keeps peaks below full scale: turns down at once, and up again slowly.
pub struct Limiter {
    peak: f32,
}

impl Default for Limiter {
    /// A limiter that turns nothing down.
    fn default() -> Self {
        Self { peak: 0.0 }
    }
}

impl Limiter {
    /// Limits `samples` to [`CEILING`]. What never passes it is not touched.
    pub fn process(&mut self, samples: &mut [f32]) {
        for sample in samples {
            self.peak = (self.peak * RELEASE).max(sample.abs());
            if self.peak > CEILING {
                *sample *= CEILING / self.peak;
            }
        }
    }
}

/// Short tones that tell when our own voice goes out.
pub struct Cues {
    enabled: bool,
    frequency: f32,
    /// Samples played of the tone.
    position: usize,
}

impl Cues {
    /// Silent until asked for, or for good.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, frequency: 0.0, position: CUE_SAMPLES }
    }

    /// Our voice begins to go out.
    pub fn start_of_talk(&mut self) {
        self.play(START_HZ);
    }

    /// It has ended.
    pub fn end_of_talk(&mut self) {
        self.play(END_HZ);
    }

    /// Adds the tone to `out`.
    pub fn mix_into(&mut self, out: &mut [f32]) {
        for sample in out.iter_mut().take(CUE_SAMPLES - self.position) {
            let n = self.position as f32;
            let swell = (TAU / 2.0 * n / CUE_SAMPLES as f32).sin();
            *sample +=
                CUE_AMPLITUDE * swell * (TAU * self.frequency * n / SAMPLE_RATE as f32).sin();
            self.position += 1;
        }
    }

    fn play(&mut self, frequency: f32) {
        if self.enabled {
            self.frequency = frequency;
            self.position = 0;
        }
    }
}

/// Loudest sample that leaves the mix.
pub const CEILING: f32 = 0.98;

/// How fast the limiter lets go: 50 ms to a third.
const RELEASE: f32 = 0.999_58;

/// 50 ms.
const CUE_SAMPLES: usize = 2_400;
const CUE_AMPLITUDE: f32 = 0.05;
const START_HZ: f32 = 880.0;
const END_HZ: f32 = 587.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_leaves_speech_alone_and_stops_peaks() {
        let mut limiter = Limiter::default();
        let mut samples = [0.5, -0.97, 0.1];
        limiter.process(&mut samples);
        assert_eq!(samples, [0.5, -0.97, 0.1]);
        let mut samples = [3.0, -2.0, 0.5];
        limiter.process(&mut samples);
        assert!(samples.iter().all(|sample| sample.abs() <= CEILING + 1e-6));
        let mut later = [0.5; 24_000];
        limiter.process(&mut later);
        assert_eq!(later[23_999], 0.5);
    }

    #[test]
    fn cues_are_short_and_off_unless_wanted() {
        let mut out = [0.0; 4_800];
        let mut cues = Cues::new(false);
        cues.start_of_talk();
        cues.mix_into(&mut out);
        assert_eq!(out, [0.0; 4_800]);
        let mut cues = Cues::new(true);
        cues.start_of_talk();
        cues.mix_into(&mut out[..1_000]);
        cues.mix_into(&mut out[1_000..]);
        assert!(out[..CUE_SAMPLES].iter().any(|sample| *sample > 0.04));
        assert!(out[CUE_SAMPLES..].iter().all(|sample| *sample == 0.0));
    }
}
