//! Both sides as one channel, and a limiter for the sum of all talkers. Both sides are interleaved.

use super::SIDES;

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

/// The loudest sample that leaves the mix.
pub const CEILING: f32 = 0.98;

/// How fast the limiter recovers: to a third in 50 ms.
const RELEASE: f32 = 0.999_58;

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
}
