//! Places a voice around the head of someone with headphones.
//!
//! Sound from the left reaches the right ear later, and less of its high frequencies. So it seems
//! to come from outside the head, and several talkers are told apart more easily than by loudness
//! alone. The head is a sphere: delay by Woodworth and Schlosberg (1954), shadow by Brown and Duda,
//! "A Structural Model for Binaural Sound Synthesis" (1998), equations 3 to 6.

use std::f32::consts::{FRAC_PI_2, PI};

use super::{SAMPLE_RATE, SIDES};

/// Both ears, for the sound of one talker.
pub(super) struct Ears {
    is_on: bool,
    /// 0 leaves both sides as they are, 1 is the whole effect. It moves, so that nothing clicks.
    wet: f32,
    /// Where the talker is: -1 is left, 1 is right. It moves as well.
    position: f32,
    wanted: f32,
    /// The last samples, in a ring.
    past: [f32; PAST],
    next: usize,
    ears: [Ear; SIDES],
}

/// One ear, as it was at the end of the last step.
#[derive(Clone, Copy)]
struct Ear {
    place: Place,
    before: f32,
    out: f32,
}

/// What the place of a talker means for an ear.
#[derive(Clone, Copy)]
struct Place {
    /// By how many samples the sound comes later.
    delay: f32,
    /// The coefficients of a shelf of the first order, whose high frequencies are louder on the
    /// talker's side of the head.
    forward: [f32; 2],
}

impl Default for Ears {
    /// Switched off.
    fn default() -> Self {
        Self {
            is_on: false,
            wet: 0.0,
            position: 0.0,
            wanted: 0.0,
            past: [0.0; PAST],
            next: 0,
            ears: [Ear { place: Place::at(FRAC_PI_2), before: 0.0, out: 0.0 }; SIDES],
        }
    }
}

impl Ears {
    /// Places the talker at a position from -1, left, to 1, right; `None` switches the effect off.
    pub(super) fn set(&mut self, position: Option<f32>) {
        self.is_on = position.is_some();
        self.wanted = position.unwrap_or(self.wanted);
    }

    /// A talkspurt begins. There is no sound before it, so all applies at once.
    pub(super) fn begin(&mut self) {
        self.wet = if self.is_on { 1.0 } else { 0.0 };
        self.position = self.wanted;
        self.past.fill(0.0);
        self.ears = self.places().map(|place| Ear { place, before: 0.0, out: 0.0 });
    }

    /// Whether the sound is left as it is, to the last bit.
    pub(super) fn is_silent(&self) -> bool {
        !self.is_on && self.wet == 0.0
    }

    /// What both ears hear of the next samples, at most [`STEP`].
    pub(super) fn process(&mut self, samples: &[f32]) -> [[f32; SIDES]; STEP] {
        let way = samples.len() as f32 / MOVE;
        self.position += (self.wanted - self.position).clamp(-way, way);
        let to = if self.is_on { 1.0 } else { 0.0 };
        let places = self.places();
        let mut out = [[0.0; SIDES]; STEP];
        for (n, (sample, out)) in samples.iter().zip(&mut out).enumerate() {
            self.past[self.next] = *sample;
            self.wet += (to - self.wet).clamp(-WET_STEP, WET_STEP);
            let part = (n + 1) as f32 / samples.len() as f32;
            for ((ear, to), out) in self.ears.iter_mut().zip(&places).zip(out) {
                let place = ear.place.towards(to, part);
                let heard = ear.hear(&place, delayed(&self.past, self.next, place.delay));
                *out = sample + self.wet * (heard - sample);
            }
            self.next = (self.next + 1) % PAST;
        }
        self.ears.iter_mut().zip(places).for_each(|(ear, place)| ear.place = place);
        out
    }

    /// What the position means for the left and the right ear.
    fn places(&self) -> [Place; SIDES] {
        [-1.0, 1.0].map(|side| Place::at(FRAC_PI_2 * (1.0 - side * self.position)))
    }
}

impl Place {
    /// The place of a talker in front, or at most beside the head. `angle` is that between it and
    /// the ear, in radians from 0 to pi.
    fn at(angle: f32) -> Self {
        // Later than at the nearer ear.
        let azimuth = angle - FRAC_PI_2;
        let delay = if azimuth <= 0.0 { 0.0 } else { (azimuth + azimuth.sin()) * RADIUS_SAMPLES };
        let alpha = |angle: f32| {
            (1.0 + ALPHA_MIN / 2.0) + (1.0 - ALPHA_MIN / 2.0) * (angle / ANGLE_MIN * PI).cos()
        };
        // In front both ears hear the sound as it is sent.
        let alpha = alpha(angle) / alpha(FRAC_PI_2);
        // The bilinear transform of (1 + alpha s / 2w) / (1 + s / 2w), with w = c / radius.
        let scale = (1.0 + RADIUS_SAMPLES).recip();
        let forward = [1.0, -1.0].map(|sign| (1.0 + sign * alpha * RADIUS_SAMPLES) * scale);
        Self { delay, forward }
    }

    /// What is this `part` of the way to another place.
    fn towards(&self, to: &Self, part: f32) -> Self {
        let between = |from: f32, to: f32| from + (to - from) * part;
        let forward = [0, 1].map(|n| between(self.forward[n], to.forward[n]));
        Self { delay: between(self.delay, to.delay), forward }
    }
}

impl Ear {
    fn hear(&mut self, place: &Place, sample: f32) -> f32 {
        let [now, before] = place.forward;
        self.out = now * sample + before * self.before - BACK * self.out;
        self.before = sample;
        self.out
    }
}

/// The sound of `delay` samples before the newest.
fn delayed(past: &[f32; PAST], newest: usize, delay: f32) -> f32 {
    let whole = delay as usize;
    let at = |back: usize| past[(newest + PAST - back) % PAST];
    let part = delay - whole as f32;
    at(whole) * (1.0 - part) + at(whole + 1) * part
}

/// Samples that are placed at once, at one position.
pub(super) const STEP: usize = 24;

/// How long sound takes along the radius of a head of 8.75 cm, in samples.
const RADIUS_SAMPLES: f32 = 0.0875 / 343.0 * SAMPLE_RATE as f32;

/// The coefficient of the shelf for what was heard before.
const BACK: f32 = (1.0 - RADIUS_SAMPLES) / (1.0 + RADIUS_SAMPLES);

/// The least of the high frequencies that is left, where the shadow is deepest, and where that is.
const ALPHA_MIN: f32 = 0.1;
const ANGLE_MIN: f32 = 150.0 / 180.0 * PI;

/// More samples than the longest delay, of 32.
const PAST: usize = 40;

/// In how many samples a talker moves from the middle to one side: 50 ms.
const MOVE: f32 = 2_400.0;

/// By how much the effect comes and goes with each sample: in 10 ms.
const WET_STEP: f32 = 1.0 / 480.0;

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    fn tone(hertz: f32) -> Vec<f32> {
        (0..9_600).map(|n| 0.3 * (TAU * hertz * n as f32 / 48_000.0).sin()).collect()
    }

    fn hear(ears: &mut Ears, sound: &[f32]) -> [Vec<f32>; SIDES] {
        let mut heard = [Vec::new(), Vec::new()];
        for samples in sound.chunks(STEP) {
            for sides in &ears.process(samples)[..samples.len()] {
                heard.iter_mut().zip(sides).for_each(|(heard, side)| heard.push(*side));
            }
        }
        heard
    }

    fn at(position: f32) -> Ears {
        let mut ears = Ears::default();
        ears.set(Some(position));
        ears.begin();
        ears
    }

    fn level_db(heard: &[f32]) -> f32 {
        let half = &heard[heard.len() / 2..];
        10.0 * (half.iter().map(|it| it * it).sum::<f32>() / half.len() as f32 / 0.045).log10()
    }

    #[test]
    fn the_far_ear_hears_later_and_duller() {
        let clicks = [1.0].into_iter().chain([0.0; 99]).collect::<Vec<f32>>();
        let peak =
            |heard: &[f32]| (0..99).max_by(|a, b| heard[*a].abs().total_cmp(&heard[*b].abs()));
        for (position, samples) in [(0.0, 0), (0.5, 18), (1.0, 31), (-1.0, -31)] {
            let heard = hear(&mut at(position), &clicks);
            let [left, right] = heard.map(|it| peak(&it).unwrap() as i32);
            assert!((left - right - samples).abs() <= 1, "{position}: {left} {right}");
        }
        let levels = |hertz| hear(&mut at(1.0), &tone(hertz)).map(|it| level_db(&it));
        let ([far_low, near_low], [far_high, near_high]) = (levels(200.0), levels(6_000.0));
        assert!((far_low - near_low).abs() < 3.0, "{far_low} {near_low}");
        assert!(near_high - far_high > 15.0, "{near_high} {far_high}");
    }

    #[test]
    fn who_is_in_front_sounds_as_sent() {
        let sound = tone(1_500.0);
        for heard in hear(&mut at(0.0), &sound) {
            assert!(heard.iter().zip(&sound).all(|(heard, sent)| (heard - sent).abs() < 1e-5));
        }
        assert!(Ears::default().is_silent());
    }

    /// Neither a move from side to side nor the switch makes a click.
    #[test]
    fn moves_and_switches_are_smooth() {
        let mut ears = at(-1.0);
        let sound = tone(300.0);
        let mut heard = Vec::new();
        for (n, part) in sound.chunks(2_400).enumerate() {
            ears.set([Some(1.0), Some(-1.0), None, Some(0.5)][n]);
            heard.extend(hear(&mut ears, part).into_iter().next().unwrap());
        }
        let step = |it: &[f32]| it.windows(2).map(|it| (it[1] - it[0]).abs()).fold(0.0, f32::max);
        // The tone itself begins with a bend, which is sharper at the nearer ear.
        let (before, after) = (step(&sound), step(&heard[100..]));
        assert!(after < 1.3 * before, "{after} where {before} was sent");
    }
}
