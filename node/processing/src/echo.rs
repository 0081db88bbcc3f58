//! Finds out whether what is played comes back by the microphone.
//!
//! The level of what is played is compared with the level of what is captured some time later, for
//! each such time up to 300 ms. With headphones the two have nothing to do with each other. An echo
//! rises and falls with what is played.

/// Compares what is played with what is captured, in frames of 10 ms.
pub(super) struct EchoFinder {
    /// Levels of the last played frames in dB, newest first.
    played: [f32; LAGS],
    lags: [Lag; LAGS],
    /// Number of frames in a row in which the best lag looked like an echo, or did not.
    frames: u32,
    found: bool,
}

/// Moments of the two levels at one lag. Older frames count less and less.
#[derive(Clone, Copy, Default)]
struct Lag {
    weight: f32,
    played: f32,
    captured: f32,
    played_squared: f32,
    captured_squared: f32,
    product: f32,
}

impl Default for EchoFinder {
    fn default() -> Self {
        Self { played: [SILENT_DB; LAGS], lags: [Lag::default(); LAGS], frames: 0, found: false }
    }
}

impl EchoFinder {
    /// Takes the levels of a captured frame and of the frame that is played meanwhile.
    pub(super) fn handle_frame(&mut self, played_db: f32, captured_db: f32) {
        self.played.rotate_right(1);
        self.played[0] = played_db.max(SILENT_DB);
        let audible = self.played.iter().any(|level| *level > AUDIBLE_DB);
        if !audible {
            return;
        }
        let captured_db = captured_db.max(SILENT_DB);
        let mut best = 0.0_f32;
        for (lag, played_db) in self.lags.iter_mut().zip(self.played) {
            lag.add(played_db, captured_db);
            best = best.max(lag.correlation());
        }
        let looks_so = if self.found { best > RELEASE } else { best > ATTACK };
        self.frames = if looks_so == self.found { 0 } else { self.frames + 1 };
        if self.frames >= if self.found { RELEASE_FRAMES } else { ATTACK_FRAMES } {
            (self.found, self.frames) = (!self.found, 0);
        }
    }

    /// Whether there is an echo.
    pub(super) fn found(&self) -> bool {
        self.found
    }
}

impl Lag {
    fn add(&mut self, played: f32, captured: f32) {
        let mix = |mean: &mut f32, value: f32| *mean += (value - *mean) * FORGET;
        mix(&mut self.weight, 1.0);
        mix(&mut self.played, played);
        mix(&mut self.captured, captured);
        mix(&mut self.played_squared, played * played);
        mix(&mut self.captured_squared, captured * captured);
        mix(&mut self.product, played * captured);
    }

    /// Pearson's correlation of the two levels, -1 to 1; 0 before there is enough of both.
    fn correlation(&self) -> f32 {
        if self.weight < ENOUGH {
            return 0.0;
        }
        let mean = |moment: f32| moment / self.weight;
        let (played, captured) = (mean(self.played), mean(self.captured));
        let played_variance = mean(self.played_squared) - played * played;
        let captured_variance = mean(self.captured_squared) - captured * captured;
        // Without ups and downs of both there is nothing to compare.
        if played_variance < VARIANCE_MIN || captured_variance < VARIANCE_MIN {
            return 0.0;
        }
        (mean(self.product) - played * captured) / (played_variance * captured_variance).sqrt()
    }
}

/// Number of lags, 10 ms each: echoes up to 300 ms late are found.
const LAGS: usize = 30;

/// Lower levels count as this one: the pauses of two people are not alike because both are silent.
const SILENT_DB: f32 = -60.0;

/// Nothing is learnt while less than this is played.
const AUDIBLE_DB: f32 = -50.0;

/// Weight of each frame in the moments: they reach back some 3 s.
const FORGET: f32 = 0.003;

/// Weight of all frames before a correlation counts: after 1.2 s.
const ENOUGH: f32 = 0.3;

/// Variance in dB² below which a level counts as constant.
const VARIANCE_MIN: f32 = 4.0;

/// A correlation above this looks like an echo. Two people who talk at once do not stay there.
const ATTACK: f32 = 0.85;

/// A correlation below this does not look like an echo any more.
const RELEASE: f32 = 0.3;

/// An echo is there once it looked so for 0.3 s,
const ATTACK_FRAMES: u32 = 30;

/// and gone once it did not look so for 30 s of played sound.
const RELEASE_FRAMES: u32 = 3_000;
