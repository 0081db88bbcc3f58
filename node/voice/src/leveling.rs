//! Brings talkers to one loudness: who is far too quiet or too loud is turned up or down slowly.
//!
//! Only speech is measured, never its pauses, so that nobody's room grows loud. Talkers within
//! [`QUIETEST_DBFS`] and [`LOUDEST_DBFS`] stay as they are sent.

use std::time::Duration;

use super::SAMPLE_RATE;

/// How loud one talker speaks, and what is done about it. It is kept from one talkspurt to the
/// next.
#[derive(Default)]
pub(super) struct Leveler {
    /// Mean power of the speech of the last seconds; 1 is full scale.
    power: f32,
    /// How much speech the mean is made of, up to [`MEMORY`].
    measured: Duration,
    gain_db: f32,
}

impl Leveler {
    /// Takes a frame of `samples` samples. `loudest_dbfs` is the loudest level of the talker lately.
    pub(super) fn handle_frame(&mut self, level_dbfs: f32, loudest_dbfs: f32, samples: usize) {
        if level_dbfs < SPEECH_DBFS.max(loudest_dbfs - SPEECH_BELOW_DB) {
            return;
        }
        let length = Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE));
        self.measured = (self.measured + length).min(MEMORY);
        let share = length.as_secs_f32() / self.measured.as_secs_f32();
        self.power += (10_f32.powf(level_dbfs / 10.0) - self.power) * share;
        let step_db = STEP_DB_PER_SECOND * length.as_secs_f32();
        self.gain_db += (self.wanted_db() - self.gain_db).clamp(-step_db, step_db);
    }

    /// A talkspurt begins. Nothing is heard before it, so the gain need not move slowly.
    pub(super) fn begin(&mut self) {
        self.gain_db = self.wanted_db();
    }

    /// Factor of the amplitude. It is exactly 1 for a talker whose loudness is right.
    pub(super) fn gain(&self) -> f32 {
        if self.gain_db == 0.0 { 1.0 } else { 10_f32.powf(self.gain_db / 20.0) }
    }

    /// The gain that brings the talker just within the bounds.
    fn wanted_db(&self) -> f32 {
        if self.measured < MEASURED_MIN {
            return 0.0;
        }
        let level_dbfs = 10.0 * self.power.log10();
        let wanted_db = level_dbfs.clamp(QUIETEST_DBFS, LOUDEST_DBFS) - level_dbfs;
        wanted_db.clamp(GAIN_MIN_DB, GAIN_MAX_DB)
    }
}

/// Below this level, in dBFS, nothing counts as speech: fans and breath are not turned up.
const SPEECH_DBFS: f32 = -50.0;

/// A frame this far below the loudest of the last seconds is a pause.
const SPEECH_BELOW_DB: f32 = 20.0;

/// Speech quieter than this is turned up to it. The mean level of speech is some 20 dB below its
/// peaks (ITU-T P.56 measures -26 dBov as usual).
const QUIETEST_DBFS: f32 = -27.0;

/// Speech louder than this is turned down to it.
const LOUDEST_DBFS: f32 = -24.0;

/// The most that anybody is turned down and up.
const GAIN_MIN_DB: f32 = -18.0;
const GAIN_MAX_DB: f32 = 15.0;

/// How fast the gain moves while a person speaks. At twice this speed it is heard to move.
const STEP_DB_PER_SECOND: f32 = 8.0;

/// Nothing is done before this much speech has been heard.
const MEASURED_MIN: Duration = Duration::from_millis(200);

/// Speech that was spoken this long ago hardly counts any more.
const MEMORY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a person speak for some seconds: words of 400 ms and pauses of 200 ms between them.
    fn speak(leveler: &mut Leveler, level_dbfs: f32, seconds: usize) -> f32 {
        for n in 0..seconds * 100 {
            let level = if n % 60 < 40 { level_dbfs } else { -90.0 };
            leveler.handle_frame(level, level_dbfs, 480);
        }
        level_dbfs + 20.0 * leveler.gain().log10()
    }

    #[test]
    fn a_quiet_and_a_loud_talker_are_as_loud_after_three_seconds() {
        let [quiet, loud] = [-38.0, -14.0].map(|level| speak(&mut Leveler::default(), level, 3));
        assert!((quiet - loud).abs() < 4.0, "{quiet} and {loud} dBFS");
        assert!((quiet - QUIETEST_DBFS).abs() < 0.1 && (loud - LOUDEST_DBFS).abs() < 0.1);
    }

    #[test]
    fn who_speaks_as_usual_is_left_alone() {
        for level in [-27.0, -25.5, -24.0] {
            let mut leveler = Leveler::default();
            speak(&mut leveler, level, 20);
            assert!((leveler.gain() - 1.0).abs() < 1e-4, "{level}");
        }
    }

    #[test]
    fn the_noise_of_a_room_is_not_turned_up() {
        let mut leveler = Leveler::default();
        speak(&mut leveler, -51.0, 30);
        assert_eq!(leveler.gain(), 1.0);
        speak(&mut leveler, -47.0, 30);
        assert!(leveler.gain() < 10_f32.powf(GAIN_MAX_DB / 20.0) + 1e-4);
    }

    #[test]
    fn the_gain_moves_slowly_within_a_talkspurt_and_is_kept_for_the_next() {
        let mut leveler = Leveler::default();
        let mut before = leveler.gain();
        for _ in 0..300 {
            leveler.handle_frame(-40.0, -40.0, 480);
            let step_db = 20.0 * (leveler.gain() / before).log10();
            assert!((0.0..=0.081).contains(&step_db), "{step_db} dB in 10 ms");
            before = leveler.gain();
        }
        leveler.begin();
        assert!((20.0 * leveler.gain().log10() - 13.0).abs() < 0.01);
    }
}
