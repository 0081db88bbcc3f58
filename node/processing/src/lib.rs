//! What is done to the microphone's sound before it is encoded: echo cancellation, noise
//! suppression and gain control.
//!
//! ```text
//! played sound ──────────┐
//!                        v
//! microphone ──> echo canceller ──> noise suppressor ──> gain control ──> encoder
//!        └─────> listener: is there an echo, is there noise, is the speech too quiet?
//! ```
//!
//! Each stage is off, on, or automatic. An automatic stage runs while the listener finds a need for
//! it, so a quiet room with headphones costs neither delay nor much time. The echo canceller (AEC3)
//! and the gain control (AGC2) are those of WebRTC, the noise suppressor is RNNoise. All work in
//! frames of 10 ms at 48 kHz. Nothing here does I/O or reads a clock.

#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

use nnnoiseless::DenoiseState;
use sonora::{
    AudioProcessing, Config, StreamConfig,
    config::{
        AdaptiveDigital, EchoCanceller, GainController2, MaxProcessingRate, Pipeline as SonoraRate,
    },
};

mod echo;
mod listener;

use listener::Listener;

/// When a stage runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageMode {
    /// Never.
    #[default]
    Off,
    /// Always.
    On,
    /// While there is a need for it.
    Auto,
}

/// Something for each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages<T> {
    /// Echo cancellation.
    pub echo: T,
    /// Noise suppression.
    pub noise: T,
    /// Gain control.
    pub gain: T,
}

impl<T: Copy> Stages<T> {
    /// The same for each stage.
    pub fn all(one: T) -> Self {
        Self { echo: one, noise: one, gain: one }
    }
}

/// The stages as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessingState {
    /// When each stage runs.
    pub modes: Stages<StageMode>,
    /// Whether each stage runs now.
    pub running: Stages<bool>,
    /// By how much the running stages delay the microphone's sound, in ms.
    pub delay_ms: f32,
}

/// A word is not one of those that a mode has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mode of a stage: use on, off or auto")]
pub struct StageModeError(String);

impl FromStr for StageMode {
    type Err = StageModeError;

    fn from_str(text: &str) -> Result<Self, StageModeError> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "auto" => Ok(Self::Auto),
            _ => Err(StageModeError(text.to_owned())),
        }
    }
}

impl fmt::Display for StageMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Auto => "auto",
        })
    }
}

impl StageMode {
    fn runs(self, needed: bool) -> bool {
        self == Self::On || self == Self::Auto && needed
    }
}

/// The stages between one microphone and its encoders.
#[derive(Default)]
pub struct Processing {
    modes: Stages<StageMode>,
    running: Stages<bool>,
    canceller: Option<AudioProcessing>,
    suppressor: Option<Box<DenoiseState<'static>>>,
    gain_control: Option<AudioProcessing>,
    listener: Listener,
    /// Whether it is music that is captured.
    is_music: bool,
    /// Whether the modes were set during the frame that is being filled.
    is_set_anew: bool,
    /// Played samples that do not fill a frame yet, both sides as one.
    played: Vec<f32>,
    /// Captured samples that do not fill a frame yet.
    captured: Vec<f32>,
    processed: Vec<f32>,
}

impl Processing {
    /// Sets when each stage runs. A stage that starts or stops does so with the next frame; what
    /// an automatic stage does is decided by what is heard.
    pub fn set_modes(&mut self, modes: Stages<StageMode>) {
        self.modes = modes;
        self.is_set_anew = true;
        if self.captured.is_empty() {
            self.decide();
        }
    }

    /// Sets whether it is music that is captured. Automatic stages do not run for music: they are
    /// made for speech, and take the rest for noise.
    pub fn set_music(&mut self, is_music: bool) {
        if self.is_music != is_music {
            self.is_music = is_music;
            self.set_modes(self.modes);
        }
    }

    /// What the stages do now.
    pub fn state(&self) -> ProcessingState {
        let part = |runs: bool, delay_ms: f32| if runs { delay_ms } else { 0.0 };
        let delay_ms = part(self.running.echo, ECHO_DELAY_MS) + part(self.running.noise, 10.0);
        ProcessingState { modes: self.modes, running: self.running, delay_ms }
    }

    /// Takes what is played at the same time: 48 kHz, both sides interleaved, in any number.
    pub fn handle_playout(&mut self, played: &[f32]) {
        if self.modes.echo == StageMode::Off {
            self.played.clear();
            return;
        }
        for [left, right] in played.as_chunks().0 {
            self.played.push(0.5 * (left + right));
            if self.played.len() == FRAME {
                self.listener.handle_playout(&self.played);
                if let Some(canceller) = &mut self.canceller {
                    let mut unused = [0.0; FRAME];
                    // The format is the one that it was made for, so it cannot refuse.
                    let _ = canceller.process_render_f32(&[&self.played], &mut [&mut unused]);
                }
                self.played.clear();
            }
        }
    }

    /// Takes captured samples (48 kHz, mono, in any number) and returns those that are ready to be
    /// encoded. While no stage runs, these are the same samples. Otherwise they come in whole
    /// frames, later by the delay of the running stages.
    pub fn handle_capture<'a>(&'a mut self, mut samples: &'a [f32]) -> &'a [f32] {
        if self.modes == Stages::default() && self.running == Stages::default() {
            // What is left of a frame has been passed on.
            self.captured.clear();
            return samples;
        }
        self.processed.clear();
        while !samples.is_empty() {
            let (next, rest) = samples.split_at(samples.len().min(FRAME - self.captured.len()));
            samples = rest;
            self.captured.extend_from_slice(next);
            let passes = self.running == Stages::default();
            if passes {
                self.processed.extend_from_slice(next);
            }
            if self.captured.len() == FRAME {
                self.handle_frame(passes);
                self.captured.clear();
            }
        }
        &self.processed
    }

    /// Handles a whole frame, which has been passed on already if it `passes` unchanged.
    fn handle_frame(&mut self, passes: bool) {
        self.listener.handle_capture(&self.captured);
        if !passes {
            let mut frame = [0.0; FRAME];
            frame.copy_from_slice(&self.captured);
            if let Some(canceller) = &mut self.canceller {
                filter(canceller, &mut frame);
            }
            if let Some(suppressor) = &mut self.suppressor {
                let scaled = frame.map(|sample| sample * I16_SCALE);
                suppressor.process_frame(&mut frame, &scaled);
                frame.iter_mut().for_each(|sample| *sample /= I16_SCALE);
            }
            if let Some(gain_control) = &mut self.gain_control {
                filter(gain_control, &mut frame);
            }
            self.processed.extend(frame.map(|sample| sample.clamp(-1.0, 1.0)));
        }
        self.decide();
    }

    /// Starts and stops stages, between two frames.
    fn decide(&mut self) {
        let needs = self.listener.needs();
        let wanted = Stages {
            echo: self.modes.echo.runs(needs.echo && !self.is_music),
            noise: self.modes.noise.runs(needs.noise && !self.is_music),
            gain: self.modes.gain.runs(needs.gain && !self.is_music),
        };
        // A change of the delay is not heard between words. What a person sets is done at once.
        let is_set_anew = std::mem::take(&mut self.is_set_anew);
        if wanted != self.running && (is_set_anew || self.listener.is_between_words()) {
            self.run(wanted);
        }
    }

    fn run(&mut self, stages: Stages<bool>) {
        self.running = stages;
        let Stages { echo, noise, gain } = stages;
        set(&mut self.canceller, echo, || {
            stage(Config { echo_canceller: Some(EchoCanceller::default()), ..Config::default() })
        });
        set(&mut self.suppressor, noise, DenoiseState::new);
        set(&mut self.gain_control, gain, || {
            let adaptive = AdaptiveDigital { initial_gain_db: 0.0, ..AdaptiveDigital::default() };
            let control =
                GainController2 { adaptive_digital: Some(adaptive), ..GainController2::default() };
            stage(Config { gain_controller2: Some(control), ..Config::default() })
        });
    }
}

/// Creates the stage if it is to run, and drops it otherwise. A stage that runs already goes on.
fn set<T>(stage: &mut Option<T>, runs: bool, create: impl FnOnce() -> T) {
    if !runs {
        *stage = None;
    } else if stage.is_none() {
        *stage = Some(create());
    }
}

fn stage(config: Config) -> AudioProcessing {
    let pipeline = SonoraRate {
        maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
        multi_channel_render: false,
        multi_channel_capture: false,
        ..SonoraRate::default()
    };
    let format = StreamConfig::new(SAMPLE_RATE, 1);
    AudioProcessing::builder()
        .config(Config { pipeline, ..config })
        .capture_config(format)
        .render_config(format)
        .build()
}

fn filter(stage: &mut AudioProcessing, frame: &mut [f32; FRAME]) {
    let before = *frame;
    // The format is the one that the stage was made for, so it cannot refuse.
    let _ = stage.process_capture_f32(&[&before], &mut [frame]);
}

/// Samples per second.
const SAMPLE_RATE: u32 = 48_000;

/// Samples in a frame: 10 ms.
pub const FRAME: usize = 480;

/// RNNoise works with samples in the range of 16-bit integers.
const I16_SCALE: f32 = 32_768.0;

/// By how much AEC3 delays: it splits the sound into three bands and joins them again.
const ECHO_DELAY_MS: f32 = 7.5;

#[cfg(test)]
mod tests;
