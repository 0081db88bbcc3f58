//! Decides when to send: always, while someone speaks, or while a key is held.
//!
//! The voice gate delays nothing and holds nothing back. If sound waited for a decision, each
//! talkspurt would start late. Instead the gate opens early: the loudest 2.5 ms of a frame need to
//! be only a little above the noise. The frame that opened the gate is sent whole. The noise floor
//! is the quietest frame of the last 1.5 to 3 s.

use std::time::Duration;

use hark_keys::Timestamp;

use super::{Transmit, level_dbfs, window::WindowMinimum};

/// Decides for each captured frame whether it is sent.
pub struct Gate {
    transmit: Transmit,
    muted: bool,
    key: Key,
    /// How long it stays open after the key.
    tail: Duration,
    voice: Voice,
}

impl Gate {
    /// Creates a gate that has heard nothing yet, with the key up and not muted.
    pub fn new(transmit: Transmit) -> Self {
        Self {
            transmit,
            muted: false,
            key: Key::Up { released: None },
            tail: RELEASE_TAIL,
            voice: Voice::new(),
        }
    }

    /// Changes what opens the gate.
    pub fn set_transmit(&mut self, transmit: Transmit) {
        self.transmit = transmit;
    }

    /// Sets whether it is music that is captured, whose quiet passages are part of it.
    pub fn set_music(&mut self, music: bool) {
        self.voice.music = music;
    }

    /// Closes the gate completely, or lifts this again.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Sets how long the gate stays open after the key.
    pub fn set_tail(&mut self, tail: Duration) {
        self.tail = tail;
    }

    /// The user has pressed or released the key to talk.
    pub fn set_key(&mut self, now: Timestamp, down: bool) {
        self.key = match (self.key, down) {
            (_, true) => Key::Down,
            (Key::Down, false) => Key::Up { released: Some(now) },
            (up @ Key::Up { .. }, false) => up,
        };
    }

    /// Ends the time after the key. What is said in it is meant for the old target, and not for any
    /// other.
    pub fn end_tail(&mut self) {
        if let Key::Up { released } = &mut self.key {
            *released = None;
        }
    }

    /// Whether the gate is completely closed.
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// Takes a frame that is complete at `now`, and returns whether it is part of a talkspurt.
    pub fn handle_frame(&mut self, now: Timestamp, samples: &[f32]) -> GateDecision {
        let voice = self.voice.handle_frame(now, samples);
        if self.muted {
            return GateDecision::Closed;
        }
        match self.transmit {
            Transmit::Open => GateDecision::Send { last: false },
            Transmit::Voice => voice,
            Transmit::PushToTalk => match self.key {
                Key::Down => GateDecision::Send { last: false },
                Key::Up { released: Some(released) } => {
                    let last = now.saturating_duration_since(released) >= self.tail;
                    if last {
                        self.key = Key::Up { released: None };
                    }
                    GateDecision::Send { last }
                }
                Key::Up { released: None } => GateDecision::Closed,
            },
        }
    }

    /// Whether a key opens the gate, and not sound.
    pub fn is_keyed(&self) -> bool {
        self.transmit == Transmit::PushToTalk
    }

    /// Level of the newest frame.
    pub fn level_dbfs(&self) -> f32 {
        self.voice.level_dbfs
    }
}

/// What happens to a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateDecision {
    /// The frame is sent. The last one of its talkspurt is marked.
    Send {
        /// Whether the talkspurt ends with this frame.
        last: bool,
    },
    /// Nothing of it may be sent, not even to end a talkspurt.
    Closed,
}

#[derive(Clone, Copy)]
enum Key {
    Down,
    Up { released: Option<Timestamp> },
}

struct Voice {
    level_dbfs: f32,
    floor: WindowMinimum,
    /// When the last frame arrived that was loud enough; `None` while closed.
    heard: Option<Timestamp>,
    music: bool,
}

impl Voice {
    fn new() -> Self {
        let floor = WindowMinimum::new(FLOOR_WINDOW);
        Self { level_dbfs: SILENCE_DBFS, floor, heard: None, music: false }
    }

    fn handle_frame(&mut self, now: Timestamp, samples: &[f32]) -> GateDecision {
        self.level_dbfs = level_dbfs(samples);
        // The floor is kept in hundredths of a decibel.
        let level = (self.level_dbfs.max(SILENCE_DBFS) * 100.0) as i64;
        let quietest = self.floor.update(now, level) as f32 / 100.0;
        let floor = quietest.min(FLOOR_MAX_DBFS);
        let peak = samples.chunks(ONSET_SAMPLES).map(level_dbfs).fold(SILENCE_DBFS, f32::max);
        let threshold = match self.heard {
            _ if self.music => MUSIC_DBFS,
            None => (floor + OPEN_ABOVE_DB).max(OPEN_DBFS),
            Some(_) => (floor + KEEP_ABOVE_DB).max(KEEP_DBFS),
        };
        if peak >= threshold {
            self.heard = Some(now);
        }
        let hold = if self.music { MUSIC_HOLD } else { HOLD };
        match self.heard {
            Some(heard) if now.saturating_duration_since(heard) >= hold => {
                self.heard = None;
                GateDecision::Send { last: true }
            }
            Some(_) => GateDecision::Send { last: false },
            None => GateDecision::Closed,
        }
    }
}

/// How long the gate stays open after the voice, to bridge the gaps between words. A shorter time
/// cuts them.
const HOLD: Duration = Duration::from_millis(200);

/// How long it stays open after music, and the level in dBFS above which all counts as music.
const MUSIC_HOLD: Duration = Duration::from_secs(2);
const MUSIC_DBFS: f32 = -60.0;

/// How long push-to-talk stays open after the key is released, since people release it before they
/// have finished.
pub const RELEASE_TAIL: Duration = Duration::from_millis(150);

/// How far above the noise floor the voice opens the gate. A lower value opens on breath, a higher
/// one cuts onsets.
const OPEN_ABOVE_DB: f32 = 8.0;

/// How far above the noise floor it stays open.
const KEEP_ABOVE_DB: f32 = 5.0;

/// The gate never opens below this level, however quiet the room is.
const OPEN_DBFS: f32 = -55.0;

/// The gate never stays open below this level.
const KEEP_DBFS: f32 = -60.0;

/// The noise floor never counts as louder than this. Sound far above it is not noise, however
/// steady it is.
const FLOOR_MAX_DBFS: f32 = -40.0;

/// The level of silence, for microphones that give exact zeros.
const SILENCE_DBFS: f32 = -100.0;

/// Half of the span that the noise floor remembers.
const FLOOR_WINDOW: Duration = Duration::from_millis(1_500);

/// Samples in each part of a frame that is measured separately, so that an onset in its last part
/// opens the gate.
const ONSET_SAMPLES: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `milliseconds` of noise at `amplitude` and returns how many frames were sent.
    fn feed(gate: &mut Gate, clock: &mut u64, milliseconds: u64, amplitude: f32) -> usize {
        let mut state = 1u32;
        (0..milliseconds / 10)
            .filter(|_| {
                let frame: Vec<f32> = (0..480)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        amplitude * (state as f32 / u32::MAX as f32 * 2.0 - 1.0)
                    })
                    .collect();
                *clock += 10;
                let now = Timestamp::from_millis(*clock);
                matches!(gate.handle_frame(now, &frame), GateDecision::Send { .. })
            })
            .count()
    }

    #[test]
    fn voice_opens_at_once_and_closes_after_the_hold() {
        let (mut gate, mut clock) = (Gate::new(Transmit::Voice), 0);
        assert_eq!(feed(&mut gate, &mut clock, 1_000, 0.0), 0);
        assert_eq!(feed(&mut gate, &mut clock, 500, 0.1), 50, "the first frame is sent, too");
        assert_eq!(feed(&mut gate, &mut clock, 1_000, 0.0), 20);
    }

    #[test]
    fn steady_noise_closes_and_a_voice_above_it_opens() {
        let (mut gate, mut clock) = (Gate::new(Transmit::Voice), 0);
        feed(&mut gate, &mut clock, 5_000, 0.01);
        assert_eq!(feed(&mut gate, &mut clock, 2_000, 0.01), 0);
        assert_eq!(feed(&mut gate, &mut clock, 300, 0.05), 30);
        assert_eq!(feed(&mut gate, &mut clock, 2_000, 0.01), 20);
    }

    #[test]
    fn a_key_opens_for_the_next_frame_and_leaves_a_tail() {
        let (mut gate, mut clock) = (Gate::new(Transmit::PushToTalk), 0);
        assert_eq!(feed(&mut gate, &mut clock, 100, 0.1), 0);
        gate.set_key(Timestamp::from_millis(clock), true);
        assert_eq!(feed(&mut gate, &mut clock, 100, 0.0), 10);
        gate.set_key(Timestamp::from_millis(clock), false);
        assert_eq!(feed(&mut gate, &mut clock, 1_000, 0.1), 15);
        gate.set_tail(Duration::ZERO);
        gate.set_key(Timestamp::from_millis(clock), true);
        assert_eq!(feed(&mut gate, &mut clock, 100, 0.0), 10);
        gate.set_key(Timestamp::from_millis(clock), false);
        assert_eq!(feed(&mut gate, &mut clock, 1_000, 0.1), 1, "the last one is marked");
    }

    #[test]
    fn mute_shuts_every_mode() {
        for transmit in [Transmit::Open, Transmit::Voice, Transmit::PushToTalk] {
            let (mut gate, mut clock) = (Gate::new(transmit), 0);
            gate.set_key(Timestamp::ZERO, true);
            gate.set_muted(true);
            assert_eq!(feed(&mut gate, &mut clock, 100, 0.3), 0);
            gate.set_muted(false);
            assert_eq!(feed(&mut gate, &mut clock, 100, 0.3), 10);
        }
    }
}
