//! Makes a voice sound as by a radio: for those who want to hear at once on which net somebody
//! speaks, or simply like it. Only the listener's own choice switches it on.
//!
//! A band of 300 to 3,000 Hz, compression, a click where the talker's key goes down, and a tail of
//! noise where it goes up. The worse the signal, the louder is the noise behind the voice.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use super::{SAMPLE_RATE, codec::FRAME_SAMPLES_MAX};

/// The effect on the sound of one talker.
pub(super) struct Radio {
    /// 0 leaves the sound as it is, 1 is the whole effect. It moves, so that nothing clicks.
    wet: f32,
    is_on: bool,
    /// Amplitude of the noise behind the voice.
    hiss: f32,
    /// How loud the noise of a key is now.
    squelch: f32,
    /// How many samples of the tail have yet to be played.
    tail: usize,
    /// The loudness that the compressor follows.
    envelope: f32,
    bands: [Biquad; 4],
    random: u32,
}

impl Default for Radio {
    /// Switched off.
    fn default() -> Self {
        let (low, high) = (Biquad::low_pass(BAND_TO_HZ), Biquad::high_pass(BAND_FROM_HZ));
        Self {
            wet: 0.0,
            is_on: false,
            hiss: HISS_MIN,
            squelch: 0.0,
            tail: 0,
            envelope: 0.0,
            bands: [low, low, high, high],
            random: 1,
        }
    }
}

impl Radio {
    /// Switches the effect on or off.
    pub(super) fn set(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// A talkspurt begins. There is no sound before it, so the whole effect applies at once.
    pub(super) fn begin(&mut self) {
        self.wet = if self.is_on { 1.0 } else { 0.0 };
        self.squelch = CLICK;
        self.tail = if self.is_on { TAIL_SAMPLES } else { 0 };
    }

    /// Sets the share of what was sent that is lost, 0 to 1.
    pub(super) fn set_loss(&mut self, share: f32) {
        self.hiss = HISS_MIN + (HISS_MAX - HISS_MIN) * (share / LOSS_MAX).clamp(0.0, 1.0);
    }

    /// Whether the sound is left as it is, to the last bit.
    pub(super) fn is_silent(&self) -> bool {
        !self.is_on && self.wet == 0.0
    }

    /// The talkspurt has ended: returns how many samples of silence are to follow, for the tail to
    /// be heard in, at most a frame at a time. Zero when the tail is over.
    pub(super) fn end(&mut self) -> usize {
        if self.tail == TAIL_SAMPLES {
            self.squelch = TAIL;
        }
        let next = self.tail.min(FRAME_SAMPLES_MAX);
        self.tail -= next;
        next
    }

    /// Whether some of the tail has yet to be played.
    pub(super) fn has_tail(&self) -> bool {
        self.tail > 0
    }

    /// Applies the effect to the next samples.
    pub(super) fn process(&mut self, samples: &mut [f32]) {
        for sample in samples {
            let to = if self.is_on { 1.0 } else { 0.0 };
            self.wet += (to - self.wet).clamp(-WET_STEP, WET_STEP);
            let loudness = sample.abs();
            let speed = if loudness > self.envelope { ATTACK } else { RELEASE };
            self.envelope += speed * (loudness - self.envelope);
            // Half of what is missing to the usual loudness, in decibels.
            let gain = (LOUD / self.envelope.max(LOUD / GAIN_MAX / GAIN_MAX)).sqrt();
            // The noise of an open receiver is behind the voice only.
            let opened = (self.envelope * OPENS).min(1.0);
            let noise = self.noise() * (self.hiss * opened + self.squelch);
            self.squelch *= SQUELCH_FALL;
            let mut wet = *sample * gain + noise;
            for band in &mut self.bands {
                wet = band.process(wet);
            }
            *sample += self.wet * (saturate(wet) - *sample);
        }
    }

    /// White noise between -1 and 1.
    fn noise(&mut self) -> f32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Bends what is too loud, as a small amplifier does: near to the hyperbolic tangent.
fn saturate(sample: f32) -> f32 {
    let bent = sample.clamp(-3.0, 3.0);
    bent * (27.0 + bent * bent) / (27.0 + 9.0 * bent * bent)
}

/// A filter of the second order, of Butterworth's form (R. Bristow-Johnson, "Cookbook formulae for
/// audio EQ biquad filter coefficients").
#[derive(Clone, Copy)]
struct Biquad {
    forward: [f32; 3],
    back: [f32; 2],
    state: [f32; 2],
}

impl Biquad {
    fn low_pass(hertz: f32) -> Self {
        let cos = (TAU * hertz / SAMPLE_RATE as f32).cos();
        Self::new(hertz, [(1.0 - cos) / 2.0, 1.0 - cos, (1.0 - cos) / 2.0])
    }

    fn high_pass(hertz: f32) -> Self {
        let cos = (TAU * hertz / SAMPLE_RATE as f32).cos();
        Self::new(hertz, [(1.0 + cos) / 2.0, -1.0 - cos, (1.0 + cos) / 2.0])
    }

    fn new(hertz: f32, forward: [f32; 3]) -> Self {
        let (sin, cos) = (TAU * hertz / SAMPLE_RATE as f32).sin_cos();
        let alpha = sin * FRAC_1_SQRT_2;
        let by = (1.0 + alpha).recip();
        let back = [-2.0 * cos * by, (1.0 - alpha) * by];
        Self { forward: forward.map(|it| it * by), back, state: [0.0; 2] }
    }

    fn process(&mut self, sample: f32) -> f32 {
        let [b0, b1, b2] = self.forward;
        let [a1, a2] = self.back;
        let out = b0 * sample + self.state[0];
        self.state = [b1 * sample - a1 * out + self.state[1], b2 * sample - a2 * out];
        out
    }
}

/// The band that is left.
const BAND_FROM_HZ: f32 = 300.0;
const BAND_TO_HZ: f32 = 3_000.0;

/// The loudness that a voice is brought nearer to, and by how much at most.
const LOUD: f32 = 0.3;
const GAIN_MAX: f32 = 4.0;

/// How fast the compressor follows a voice that becomes louder, in 2 ms, and quieter, in 100 ms.
const ATTACK: f32 = 0.01;
const RELEASE: f32 = 0.000_2;

/// The noise behind a voice of which nothing is lost, and where a fifth is lost.
const HISS_MIN: f32 = 0.004;
const HISS_MAX: f32 = 0.06;
const LOSS_MAX: f32 = 0.2;

/// How soon a voice opens the receiver for its noise: at -40 dB.
const OPENS: f32 = 100.0;

/// The noise of a key that goes down, and of one that goes up.
const CLICK: f32 = 0.1;
const TAIL: f32 = 0.15;

/// The factor by which it falls with each sample: by half in 10 ms.
const SQUELCH_FALL: f32 = 0.998_56;

/// Length of the tail: 60 ms.
const TAIL_SAMPLES: usize = SAMPLE_RATE as usize * 60 / 1_000;

/// By how much the effect comes and goes with each sample: in 10 ms.
const WET_STEP: f32 = 1.0 / 480.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f32, amplitude: f32) -> Vec<f32> {
        let step = TAU * hertz / SAMPLE_RATE as f32;
        (0..48_000).map(|n| amplitude * (step * n as f32).sin()).collect()
    }

    fn on() -> Radio {
        let mut radio = Radio::default();
        radio.set(true);
        radio.begin();
        radio
    }

    /// Decibels of the second half.
    fn level(mut sound: Vec<f32>, radio: &mut Radio) -> f32 {
        radio.process(&mut sound);
        let half = &sound[24_000..];
        10.0 * (half.iter().map(|it| it * it).sum::<f32>() / half.len() as f32).log10()
    }

    #[test]
    fn the_band_of_a_radio_is_left() {
        let [rumble, voice, hiss] =
            [80.0, 1_000.0, 9_000.0].map(|hertz| level(tone(hertz, 0.3), &mut on()));
        assert!(rumble < voice - 20.0 && hiss < voice - 20.0, "{rumble} {voice} {hiss}");
    }

    #[test]
    fn quiet_and_loud_are_brought_nearer_and_nothing_overflows() {
        let [quiet, loud] = [0.03, 0.9].map(|amplitude| level(tone(1_000.0, amplitude), &mut on()));
        assert!((8.0..22.0).contains(&(loud - quiet)), "{quiet} {loud}, 30 dB before");
        let mut square: Vec<f32> = tone(500.0, 1.0).iter().map(|it| it.signum()).collect();
        on().process(&mut square);
        assert!(square.iter().all(|it| it.abs() <= 1.0));
    }

    #[test]
    fn a_bad_signal_hisses() {
        let mut radio = on();
        let clean = level(tone(9_000.0, 0.1), &mut radio);
        radio.set_loss(0.1);
        let bad = level(tone(9_000.0, 0.1), &mut radio);
        assert!(bad > clean + 6.0, "{clean} {bad}");
    }

    #[test]
    fn a_talkspurt_has_a_tail_once_and_then_it_is_still() {
        let mut radio = on();
        assert_eq!([0; 4].map(|_: i32| radio.end()), [960, 960, 960, 0]);
        let mut tail = vec![0.0; TAIL_SAMPLES + 48_000];
        radio.process(&mut tail);
        assert!(tail[..480].iter().any(|it| it.abs() > 0.01));
        assert!(tail[TAIL_SAMPLES..].iter().all(|it| it.abs() < 0.005));
    }

    /// Switching it on and off while somebody speaks makes no click.
    #[test]
    fn off_is_exact_and_switching_is_smooth() {
        let mut radio = Radio::default();
        radio.begin();
        assert!(radio.is_silent());
        assert_eq!(radio.end(), 0);
        let sound = tone(400.0, 0.3);
        let mut heard = sound.clone();
        for (number, block) in heard.chunks_mut(4_800).enumerate() {
            radio.set(number % 2 == 0);
            radio.process(block);
        }
        let step = |sound: &[f32]| {
            sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
        };
        assert!(step(&heard) < 3.0 * step(&sound), "{} {}", step(&heard), step(&sound));
        radio.set(false);
        radio.process(&mut [0.0; 480]);
        assert!(radio.is_silent());
    }
}
