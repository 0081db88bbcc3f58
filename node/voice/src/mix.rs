//! Sounds that are added to those of the talkers, and a limiter for the sum. Both sides are
//! interleaved.

use std::f32::consts::TAU;

use super::{SAMPLE_RATE, SIDES};

/// Both sides of `stereo` as one channel. A sound in the centre stays the same, bit for bit.
pub fn mean(stereo: &[f32]) -> impl Iterator<Item = f32> {
    stereo.as_chunks::<SIDES>().0.iter().map(|[left, right]| (left + right) / 2.0)
}

/// Keeps peaks below full scale: it turns down at once, and up again slowly.
pub struct Limiter {
    peak: f32,
}

impl Default for Limiter {
    /// A limiter that does not turn anything down yet.
    fn default() -> Self {
        Self { peak: 0.0 }
    }
}

impl Limiter {
    /// Limits `stereo` to [`CEILING`]. Sound that never exceeds it stays unchanged. The louder side
    /// turns both down; otherwise talkers would move sideways while they are limited.
    pub fn process(&mut self, stereo: &mut [f32]) {
        for sides in stereo.as_chunks_mut::<SIDES>().0 {
            self.peak = (self.peak * RELEASE).max(sides[0].abs()).max(sides[1].abs());
            if self.peak > CEILING {
                sides.iter_mut().for_each(|sample| *sample *= CEILING / self.peak);
            }
        }
    }
}

/// Short tones that mark the start and end of our own talkspurts.
pub struct Cues {
    enabled: bool,
    frequency: f32,
    /// Number of samples of the tone already played.
    position: usize,
}

impl Cues {
    /// Creates cues that are silent until needed, or always if not `enabled`.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, frequency: 0.0, position: CUE_SAMPLES }
    }

    /// Plays the tone for the start of our talkspurt.
    pub fn start_of_talk(&mut self) {
        self.play(START_HZ);
    }

    /// Plays the tone for its end.
    pub fn end_of_talk(&mut self) {
        self.play(END_HZ);
    }

    /// Adds the tone to both sides of `out`.
    pub fn mix_into(&mut self, out: &mut [f32]) {
        let frames = out.as_chunks_mut::<SIDES>().0;
        for sides in frames.iter_mut().take(CUE_SAMPLES - self.position) {
            let n = self.position as f32;
            let swell = (TAU / 2.0 * n / CUE_SAMPLES as f32).sin();
            let tone =
                CUE_AMPLITUDE * swell * (TAU * self.frequency * n / SAMPLE_RATE as f32).sin();
            sides.iter_mut().for_each(|sample| *sample += tone);
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

/// The loudest sample that leaves the mix.
pub const CEILING: f32 = 0.98;

/// How fast the limiter recovers: to a third in 50 ms.
const RELEASE: f32 = 0.999_58;

/// Number of samples in a cue: 50 ms.
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
        let mut samples = [0.5, -0.97, 0.1, 0.0];
        limiter.process(&mut samples);
        assert_eq!(samples, [0.5, -0.97, 0.1, 0.0]);
        let mut samples = [3.0, -2.0, 0.5, 0.1];
        limiter.process(&mut samples);
        assert!(samples.iter().all(|sample| sample.abs() <= CEILING + 1e-6));
        let mut later = [0.5; 48_000];
        limiter.process(&mut later);
        assert_eq!(later[47_999], 0.5);
    }

    /// A shout on one side does not pull a quiet voice to the other side.
    #[test]
    fn the_limiter_keeps_each_voice_in_its_place() {
        let mut limiter = Limiter::default();
        let mut samples = [2.0, 0.5, 0.4, 0.4];
        limiter.process(&mut samples);
        assert!((samples[0] / samples[1] - 4.0).abs() < 1e-6);
        assert_eq!(samples[2], samples[3]);
    }

    #[test]
    fn a_voice_in_the_centre_is_the_same_in_one_channel() {
        let said = [0.123_456_7, -1.0, 1e-20, f32::MIN_POSITIVE];
        let stereo: Vec<f32> = said.iter().flat_map(|sample| [*sample; 2]).collect();
        assert_eq!(mean(&stereo).collect::<Vec<f32>>(), said);
    }

    #[test]
    fn cues_are_short_and_off_unless_wanted() {
        let mut out = [0.0; 9_600];
        let mut cues = Cues::new(false);
        cues.start_of_talk();
        cues.mix_into(&mut out);
        assert_eq!(out, [0.0; 9_600]);
        let mut cues = Cues::new(true);
        cues.start_of_talk();
        cues.mix_into(&mut out[..1_000]);
        cues.mix_into(&mut out[1_000..]);
        assert!(out[..2 * CUE_SAMPLES].iter().any(|sample| *sample > 0.04));
        assert!(out[2 * CUE_SAMPLES..].iter().all(|sample| *sample == 0.0));
        assert!(out.as_chunks::<SIDES>().0.iter().all(|[left, right]| left == right));
    }
}
