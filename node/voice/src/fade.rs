//! Gains that move and never jump, and how ducking makes them move.

use std::time::Duration;

use super::{SAMPLE_RATE, SIDES};

/// The gains of both sides. Within a talkspurt they move over a whole block. At the start of a
/// talkspurt they are set at once, since there is no sound before it that could click.
#[derive(Default)]
pub(super) struct Fader {
    from: [f32; SIDES],
    to: [f32; SIDES],
    /// Number of samples in the block, and of those already mixed.
    length: usize,
    passed: usize,
}

impl Fader {
    /// A block of `length` samples begins. At its end the gains are `to`.
    pub(super) fn begin(&mut self, length: usize, to: [f32; SIDES]) {
        *self = Self { from: self.to, to, length: length.max(1), passed: 0 };
    }

    /// Sets the gains to `to` at once.
    pub(super) fn set(&mut self, to: [f32; SIDES]) {
        (self.from, self.to) = (to, to);
    }

    /// Adds `samples`, the next ones of the block, to `out`: on the left with half the `difference`
    /// of both sides, on the right without it. An empty one is none.
    pub(super) fn mix(&mut self, samples: &[f32], difference: &[f32], out: &mut [[f32; SIDES]]) {
        if difference.is_empty() {
            self.mix_sides(samples.iter().map(|sample| [*sample; SIDES]), out);
        } else {
            let both = samples.iter().zip(difference);
            self.mix_sides(both.map(|(mean, it)| [mean + it, mean - it]), out);
        }
    }

    /// The same of a sound with sides of its own.
    pub(super) fn mix_sides(
        &mut self,
        sound: impl Iterator<Item = [f32; SIDES]>,
        out: &mut [[f32; SIDES]],
    ) {
        for (out, samples) in out.iter_mut().zip(sound) {
            self.passed += 1;
            let part = self.passed as f32 / self.length as f32;
            let gains = self.from.iter().zip(self.to);
            for ((side, sample), (from, to)) in out.iter_mut().zip(samples).zip(gains) {
                // If the gain does not change, this is the gain itself, to the last bit.
                *side += (from + (to - from) * part) * sample;
            }
        }
    }

    /// Whether anything of this block is audible.
    pub(super) fn is_open(&self) -> bool {
        self.from.iter().chain(&self.to).any(|gain| *gain > 0.0)
    }
}

/// How far one talker is turned down for another.
#[derive(Default)]
pub(super) struct Duck {
    /// 0 is not at all, 1 is fully.
    depth: f32,
}

impl Duck {
    /// A block of `samples` passes. `ducked` says whether a higher rank is heard.
    pub(super) fn pass(&mut self, samples: usize, ducked: bool) {
        let span = if ducked { ATTACK } else { RELEASE };
        let step = samples as f32 / (span.as_secs_f32() * SAMPLE_RATE as f32);
        self.depth = (self.depth + if ducked { step } else { -step }).clamp(0.0, 1.0);
    }

    /// A talkspurt begins. It was never louder, so it need not be turned down slowly.
    pub(super) fn begin(&mut self, ducked: bool) {
        if ducked {
            self.depth = 1.0;
        }
    }

    /// Factor of the amplitude; `decibels` is the attenuation at full depth.
    pub(super) fn gain(&self, decibels: f32) -> f32 {
        // Loudness follows decibels, so the change is linear in decibels.
        if self.depth == 0.0 { 1.0 } else { 10_f32.powf(decibels * self.depth / 20.0) }
    }
}

/// Time to turn a talker down. A shorter time pumps; a longer one covers the first word of the
/// other talker.
const ATTACK: Duration = Duration::from_millis(50);

/// Time to turn it up again. A shorter time lets it swell in the pauses of the talker who is heard.
const RELEASE: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_move_in_even_steps_and_arrive() {
        let mut fader = Fader::default();
        fader.set([1.0, 0.5]);
        fader.begin(4, [0.0, 0.5]);
        let mut out = [[0.0; SIDES]; 4];
        let (first, second) = out.split_at_mut(1);
        fader.mix(&[1.0], &[], first);
        fader.mix(&[1.0; 3], &[], second);
        assert_eq!(out, [[0.75, 0.5], [0.5, 0.5], [0.25, 0.5], [0.0, 0.5]]);
        assert!(fader.is_open());
        fader.begin(4, [0.0; SIDES]);
        fader.begin(4, [0.0; SIDES]);
        assert!(!fader.is_open());
    }

    #[test]
    fn gains_that_rest_are_exact() {
        let mut fader = Fader::default();
        let gain = 0.123_456_79;
        fader.set([gain; SIDES]);
        fader.begin(441, [gain; SIDES]);
        let mut out = [[0.0; SIDES]; 441];
        fader.mix(&[1.0; 441], &[], &mut out);
        assert!(out.iter().flatten().all(|sample| *sample == gain));
    }

    #[test]
    fn ducking_takes_its_time_both_ways() {
        let mut duck = Duck::default();
        let time = |duck: &mut Duck, ducked: bool, until: f32| {
            (1..).find(|_| {
                duck.pass(48, ducked);
                (duck.gain(-18.0) - until).abs() < 1e-4
            })
        };
        let full = 10_f32.powf(-18.0 / 20.0);
        let near = |found: Option<i32>, wanted: i32| (found.unwrap() - wanted).abs() <= 1;
        assert!(near(time(&mut duck, true, full), 50), "attack in ms");
        assert!(near(time(&mut duck, false, 1.0), 400), "release in ms");
        duck.begin(true);
        assert_eq!(duck.gain(-18.0), full);
        assert_eq!(duck.gain(0.0), 1.0);
    }
}
