//! Decides which automatic stages are needed, from what is played and captured.

use earshot::Detector;

use super::{FRAME, Stages, echo::EchoFinder};

/// Listens to captured frames before they are processed.
#[derive(Default)]
pub(super) struct Listener {
    voice: VoiceDetector,
    echo: EchoFinder,
    /// Level of the frames that were played since the last captured one, in dBFS.
    played_db: Option<f32>,
    /// Mean power of the frames with and without speech.
    speech: MeanPower,
    noise: MeanPower,
    /// Power of the last frames, newest first.
    powers: [f32; AFTER_SPEECH as usize],
    /// Number of frames since somebody spoke, and since that was last seen to be otherwise.
    quiet_frames: u32,
    waiting_frames: u32,
    noise_needed: Held,
    gain_needed: Held,
}

impl Listener {
    /// Takes a frame that is played.
    pub(super) fn handle_playout(&mut self, frame: &[f32]) {
        let level = decibels(power(frame));
        self.played_db = Some(self.played_db.map_or(level, |other| other.max(level)));
    }

    /// Takes a captured frame.
    pub(super) fn handle_capture(&mut self, frame: &[f32]) {
        let power = power(frame);
        let speech = self.voice.handle_frame(frame);
        self.quiet_frames = if speech > QUIET_BELOW { 0 } else { self.quiet_frames + 1 };
        self.waiting_frames = if self.is_quiet() { 0 } else { self.waiting_frames + 1 };
        let played_db = self.played_db.take().unwrap_or(f32::MIN);
        self.echo.handle_frame(played_db, decibels(power));
        // The detector is late by the length of its window, and an echo is speech of others.
        let alone = played_db < -50.0 || !self.echo.found();
        if speech > SPEECH_ABOVE && alone {
            self.speech.add(power);
        } else if self.quiet_frames > 2 * AFTER_SPEECH && alone {
            // The detector may find only later that a word has begun.
            self.noise.add(self.powers[AFTER_SPEECH as usize - 1]);
        }
        self.powers.rotate_right(1);
        self.powers[0] = power;
        let (speech_db, noise_db) = (self.speech.level(), self.noise.level());
        let distance = |otherwise: f32| match (speech_db, noise_db) {
            (Some(speech), Some(noise)) => speech - noise,
            _ => otherwise,
        };
        let loud = noise_db.unwrap_or(f32::MIN);
        self.noise_needed.update(
            loud > NOISE_LOUD_DB && distance(0.0) < NOISE_NEAR_DB,
            loud < NOISE_LOUD_DB - 6.0 || distance(0.0) > NOISE_NEAR_DB + 6.0,
        );
        let level = speech_db.unwrap_or(WELL_DB);
        self.gain_needed.update(
            !(TOO_QUIET_DB..=TOO_LOUD_DB).contains(&level),
            (TOO_QUIET_DB + 3.0..=TOO_LOUD_DB - 3.0).contains(&level),
        );
    }

    /// Which stages are needed.
    pub(super) fn needs(&self) -> Stages<bool> {
        Stages { echo: self.echo.found(), noise: self.noise_needed.on, gain: self.gain_needed.on }
    }

    /// Whether a change of the delay is not heard now. After some seconds of speech without a pause
    /// it is not waited for any longer.
    pub(super) fn is_between_words(&self) -> bool {
        self.is_quiet() || self.waiting_frames > WAITING_MAX
    }

    fn is_quiet(&self) -> bool {
        self.quiet_frames > AFTER_SPEECH
    }
}

/// The mean power of some seconds of sound.
#[derive(Default)]
struct MeanPower {
    mean: f32,
    frames: u32,
}

impl MeanPower {
    fn add(&mut self, power: f32) {
        self.frames = (self.frames + 1).min(POWER_FRAMES);
        self.mean += (power - self.mean) / self.frames as f32;
    }

    /// In dBFS; `None` before there was enough.
    fn level(&self) -> Option<f32> {
        (self.frames >= POWER_ENOUGH).then(|| decibels(self.mean))
    }
}

/// A need that is there at once, and gone after it was not there for ten seconds.
#[derive(Default)]
struct Held {
    on: bool,
    without: u32,
}

impl Held {
    fn update(&mut self, begins: bool, ends: bool) {
        self.without = if self.on && ends { self.without + 1 } else { 0 };
        self.on = begins || self.on && self.without < HELD_FRAMES;
    }
}

/// Whether somebody speaks, by a small neural network at 16 kHz.
struct VoiceDetector {
    detector: Box<Detector>,
    /// The last samples at 48 kHz, for the filter.
    tail: [f32; TAPS - 1],
    window: Vec<f32>,
    speech: f32,
}

impl Default for VoiceDetector {
    fn default() -> Self {
        let window = Vec::with_capacity(WINDOW);
        Self { detector: Detector::default_boxed(), tail: [0.0; TAPS - 1], window, speech: 0.0 }
    }
}

impl VoiceDetector {
    /// Returns the probability that the newest whole window of 16 ms is speech, 0 to 1.
    fn handle_frame(&mut self, frame: &[f32]) -> f32 {
        let mut sound = [0.0; TAPS - 1 + FRAME];
        sound[..TAPS - 1].copy_from_slice(&self.tail);
        sound[TAPS - 1..].copy_from_slice(frame);
        self.tail.copy_from_slice(&sound[FRAME..]);
        for samples in sound.windows(TAPS).step_by(3) {
            let sum: f32 = samples.iter().zip(LOW_PASS).map(|(sample, tap)| sample * tap).sum();
            // The filter overshoots what clips, and the detector takes nothing beyond full scale.
            self.window.push(sum.clamp(-1.0, 1.0));
            if self.window.len() == WINDOW {
                self.speech = self.detector.predict_f32(&self.window);
                self.window.clear();
            }
        }
        self.speech
    }
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
}

fn decibels(power: f32) -> f32 {
    10.0 * (power + 1e-12).log10()
}

/// Number of taps of the filter that leaves what 16 kHz can carry.
const TAPS: usize = 15;

/// A low pass of 6.5 kHz at 48 kHz: a sinc under Hamming's window.
const LOW_PASS: [f32; TAPS] = [
    -0.001_166, -0.006_137, -0.014_417, -0.008_989, 0.037_762, 0.130_108, 0.227_792, 0.270_094,
    0.227_792, 0.130_108, 0.037_762, -0.008_989, -0.014_417, -0.006_137, -0.001_166,
];

/// Samples that the detector takes at once, 16 ms at 16 kHz.
const WINDOW: usize = 256;

/// The detector is sure that it hears speech.
const SPEECH_ABOVE: f32 = 0.7;

/// The detector is sure that it hears none.
const QUIET_BELOW: f32 = 0.25;

/// Number of frames after speech that still belong to it.
const AFTER_SPEECH: u32 = 8;

/// After 3 s without a pause a change waits no longer.
const WAITING_MAX: u32 = 300;

/// Number of frames in a mean, 3 s.
const POWER_FRAMES: u32 = 300;

/// Number of frames before a mean counts, 0.4 s.
const POWER_ENOUGH: u32 = 40;

/// A need is held for 10 s.
const HELD_FRAMES: u32 = 1_000;

/// Quieter noise disturbs nobody, whatever the distance of the speech from it.
const NOISE_LOUD_DB: f32 = -58.0;

/// Noise that is nearer than this to the speech disturbs.
const NOISE_NEAR_DB: f32 = 24.0;

/// Speech as loud as it should be.
const WELL_DB: f32 = -24.0;

/// Speech below and above needs gain control.
const TOO_QUIET_DB: f32 = -36.0;
const TOO_LOUD_DB: f32 = -12.0;
