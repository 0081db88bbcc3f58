//! The side tone: the person's own voice in the person's own ear, while it is sent.
//!
//! The microphone fills a short queue and the loudspeaker empties it. Their clocks are not the
//! same, and each comes in blocks of its own. The queue keeps only what the loudspeaker has needed
//! in the last half second, so the voice comes back as soon as both allow.

use std::collections::VecDeque;

use super::SIDES;

/// The own voice on its way to the own ear.
pub(super) struct SideTone {
    /// Factor of the amplitude; `None` while there is no side tone.
    gain: Option<f32>,
    /// Whether the voice is being sent.
    open: bool,
    /// How far the side tone is faded in, 0 to 1.
    level: f32,
    queue: VecDeque<f32>,
    /// The fewest samples that a block has left in the queue lately.
    spare: usize,
    /// Number of samples played since the queue was last shortened.
    played: usize,
}

impl Default for SideTone {
    /// No side tone.
    fn default() -> Self {
        let queue = VecDeque::with_capacity(QUEUE_MAX);
        Self { gain: None, open: false, level: 0.0, queue, spare: usize::MAX, played: 0 }
    }
}

impl SideTone {
    /// Sets the level in decibels, at most [`SIDE_TONE_MAX_DB`]; `None` switches it off.
    pub(super) fn set(&mut self, decibels: Option<f32>) {
        let gain = |it: f32| 10_f32.powf(it.clamp(SIDE_TONE_MIN_DB, SIDE_TONE_MAX_DB) / 20.0);
        self.gain = decibels.filter(|it| it.is_finite()).map(gain);
        if self.gain.is_none() {
            self.queue.clear();
            self.level = 0.0;
        }
    }

    /// Takes captured samples; `open` says whether they are sent.
    pub(super) fn handle_capture(&mut self, samples: &[f32], open: bool) {
        self.open = open;
        if self.gain.is_none() {
            return;
        }
        for sample in samples {
            if self.queue.len() == QUEUE_MAX {
                self.queue.pop_front();
            }
            self.queue.push_back(if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 });
        }
    }

    /// Adds the next samples to both sides of `out`. Returns whether there is a side tone.
    pub(super) fn mix_into(&mut self, out: &mut [f32]) -> bool {
        let Some(gain) = self.gain else { return false };
        let out = out.as_chunks_mut::<SIDES>().0;
        let count = out.len().min(self.queue.len());
        let runs_dry = count < out.len();
        for (n, (sides, sample)) in out.iter_mut().zip(self.queue.drain(..count)).enumerate() {
            // A queue that runs dry ends softly.
            let fades_in = self.open && !(runs_dry && count - n <= FADE_SAMPLES);
            let step = 1.0 / FADE_SAMPLES as f32;
            self.level = (self.level + if fades_in { step } else { -step }).clamp(0.0, 1.0);
            let tone = gain * self.level * sample;
            sides.iter_mut().for_each(|side| *side += tone);
        }
        self.spare = self.spare.min(self.queue.len());
        self.played += out.len();
        if self.played >= WINDOW_SAMPLES {
            self.shorten();
            (self.spare, self.played) = (usize::MAX, 0);
        }
        true
    }

    /// Takes out what was not needed, behind a crossfade.
    fn shorten(&mut self) {
        let room = self.queue.len().saturating_sub(FADE_SAMPLES);
        let cut = self.spare.saturating_sub(MARGIN_SAMPLES).min(room);
        if cut == 0 {
            return;
        }
        for n in (0..FADE_SAMPLES).rev() {
            let part = (n as f32 + 0.5) / FADE_SAMPLES as f32;
            let (old, new) = (self.queue[n], self.queue[n + cut]);
            self.queue[n + cut] = old + (new - old) * part;
        }
        self.queue.drain(..cut);
    }
}

/// The loudest side tone: as loud as it was captured.
pub const SIDE_TONE_MAX_DB: f32 = 0.0;

/// The quietest one.
pub const SIDE_TONE_MIN_DB: f32 = -40.0;

/// Most samples that wait: 100 ms. If there are more, the oldest are dropped.
const QUEUE_MAX: usize = 4_800;

/// Number of samples in a fade: 2.5 ms.
const FADE_SAMPLES: usize = 120;

/// What stays in the queue beyond what was needed lately: 1 ms.
const MARGIN_SAMPLES: usize = 48;

/// How often the queue is shortened: each half second.
const WINDOW_SAMPLES: usize = 24_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `blocks` blocks of 10 ms; the microphone delivers `captured` samples for each, of a
    /// sine. Returns the left side.
    fn run(tone: &mut SideTone, from: usize, blocks: usize, captured: usize) -> Vec<f32> {
        let mut heard = Vec::new();
        for block in 0..blocks {
            let samples: Vec<f32> = (0..captured)
                .map(|n| (0.05 * (from + block * captured + n) as f32).sin())
                .collect();
            tone.handle_capture(&samples, true);
            let mut out = [0.0; SIDES * 480];
            tone.mix_into(&mut out);
            heard.extend(out.as_chunks::<SIDES>().0.iter().map(|it| it[0]));
        }
        heard
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).fold(0.0, |most, pair| most.max((pair[1] - pair[0]).abs()))
    }

    #[test]
    fn there_is_none_unless_it_is_wanted_and_the_voice_is_sent() {
        let mut tone = SideTone::default();
        assert!(run(&mut tone, 0, 5, 480).iter().all(|it| *it == 0.0), "off at first");
        tone.set(Some(-20.0));
        tone.handle_capture(&[0.5; 480], false);
        let mut out = [0.0; SIDES * 480];
        assert!(tone.mix_into(&mut out));
        assert_eq!(out, [0.0; SIDES * 480], "nothing is sent");
        let heard = run(&mut tone, 0, 5, 480);
        let loudest = heard.iter().fold(0.0_f32, |most, it| most.max(it.abs()));
        assert!((loudest - 0.1).abs() < 1e-3, "{loudest}");
        tone.set(None);
        assert!(run(&mut tone, 0, 5, 480).iter().all(|it| *it == 0.0));
    }

    #[test]
    fn a_queue_that_has_grown_is_shortened_without_a_click() {
        let mut tone = SideTone::default();
        tone.set(Some(0.0));
        tone.handle_capture(&[0.0; 2_400], true);
        let heard = run(&mut tone, 0, 300, 480);
        assert!(tone.queue.len() <= MARGIN_SAMPLES + FADE_SAMPLES, "{} wait", tone.queue.len());
        // The sine moves by 0.05 at most, and the crossfade adds to that a little.
        assert!(largest_step(&heard) < 0.08, "{}", largest_step(&heard));
    }

    /// 300 ppm either way: a microphone that is faster or slower than the loudspeaker.
    #[test]
    fn two_clocks_that_differ_make_no_click() {
        for captured in [479, 480, 481] {
            let mut tone = SideTone::default();
            tone.set(Some(0.0));
            let heard = run(&mut tone, 0, 1_000, captured);
            assert!(largest_step(&heard) < 0.08, "{captured}: {}", largest_step(&heard));
            assert!(tone.queue.len() < 480, "{captured}: {} wait", tone.queue.len());
        }
    }

    #[test]
    fn nonsense_is_silence() {
        let mut tone = SideTone::default();
        tone.set(Some(f32::NAN));
        assert!(!tone.mix_into(&mut [0.0; 4]));
        tone.set(Some(90.0));
        tone.handle_capture(&[f32::INFINITY, f32::NAN, 7.0], true);
        let mut out = [0.0; 6];
        tone.mix_into(&mut out);
        assert!(out.iter().all(|it| it.abs() <= 1.0));
    }
}
