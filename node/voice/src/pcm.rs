//! The decoded sound of one talker on its way into the mix.

use super::{
    codec::FRAME_SAMPLES_MAX,
    stretch::{self, CONTEXT, FADE_MIN, Junction, LAG_MAX, LAG_MIN},
};

/// Samples that are decoded but not yet played, and the last ones before them.
///
/// Playout moves in here: whole pitch periods are removed or repeated where the sound allows it.
pub(super) struct Pcm {
    buffer: Box<[f32; CAPACITY]>,
    /// Half the difference of both sides, once the talker has sent both. All that is done to the
    /// sound in `buffer` is done here, too.
    difference: Option<Box<[f32; CAPACITY]>>,
    played: usize,
    length: usize,
    /// Number of samples played since a pitch period was last removed or repeated.
    unmoved: usize,
}

impl Pcm {
    /// Creates an empty buffer, before which all was silent.
    pub(super) fn new() -> Self {
        let buffer = Box::new([0.0; CAPACITY]);
        Self { buffer, difference: None, played: HISTORY, length: HISTORY, unmoved: MOVE_INTERVAL }
    }

    /// Keeps both sides from now on.
    pub(super) fn keep_both(&mut self) {
        self.difference.get_or_insert_with(|| Box::new([0.0; CAPACITY]));
    }

    fn tracks(&mut self) -> impl Iterator<Item = &mut [f32; CAPACITY]> {
        [Some(&mut *self.buffer), self.difference.as_deref_mut()].into_iter().flatten()
    }

    /// Whether everything has been played.
    pub(super) fn is_empty(&self) -> bool {
        self.played == self.length
    }

    /// Number of samples that wait to be played.
    pub(super) fn waiting(&self) -> usize {
        self.length - self.played
    }

    /// A talkspurt begins: what was played before has nothing to do with it.
    pub(super) fn begin(&mut self) {
        let waiting = self.played..self.length;
        for track in self.tracks() {
            track[..HISTORY].fill(0.0);
            track.copy_within(waiting.clone(), HISTORY);
        }
        self.length = HISTORY + self.waiting();
        self.played = HISTORY;
    }

    /// Returns the room for a frame behind all that waits, and that for half the difference of
    /// both sides, which is silent at first. At most two frames may wait.
    pub(super) fn room(&mut self) -> (&mut [f32], Option<&mut [f32]>) {
        if self.length + FRAME_SAMPLES_MAX + LAG_MAX > CAPACITY {
            let kept = self.played - HISTORY..self.length;
            self.tracks().for_each(|track| track.copy_within(kept.clone(), 0));
            self.length = kept.len();
            self.played = HISTORY;
        }
        let room = self.length..self.length + FRAME_SAMPLES_MAX;
        let mut difference = self.difference.as_mut().map(|track| &mut track[room.clone()]);
        if let Some(room) = &mut difference {
            room.fill(0.0);
        }
        (&mut self.buffer[room], difference)
    }

    /// Appends `samples` samples that are in the room now.
    pub(super) fn push(&mut self, samples: usize) {
        self.length += samples;
    }

    /// Plays the next samples, at most this many, and half the difference of both sides, which is
    /// empty if the talker has never sent both.
    pub(super) fn play(&mut self, most: usize) -> (&[f32], &[f32]) {
        let count = most.min(self.waiting());
        self.played += count;
        self.unmoved = self.unmoved.saturating_add(count);
        let now = self.played - count..self.played;
        let difference = self.difference.as_ref().map(|track| &track[now.clone()]);
        (&self.buffer[now], difference.unwrap_or_default())
    }

    /// Removes or repeats one pitch period of the sound that waits: at most `-by` samples are
    /// removed, or up to some more than `by` repeated. Sound without a period gives what is wanted.
    /// Returns by how many samples it has become longer.
    pub(super) fn stretch(&mut self, by: isize, quiet: bool) -> isize {
        let wanted = by.unsigned_abs().min(LAG_MAX);
        let sound = &self.buffer[..self.length];
        let at = self.played;
        if wanted < LAG_MIN || self.waiting() < FADE_MIN {
            return 0;
        }
        let free = quiet || stretch::is_unvoiced(&sound[at - CONTEXT..]);
        if !free && self.unmoved < MOVE_INTERVAL {
            return 0;
        }
        if free {
            // Nothing but the waiting sound itself is known to have no period.
            let lag = wanted.min(self.waiting() - FADE_MIN);
            let at = if by < 0 { at } else { at + lag };
            let other = if by < 0 { at + lag } else { at - lag };
            let similarity = stretch::similarity(sound, at, other);
            return if lag < LAG_MIN {
                0
            } else {
                self.apply(by, at, Junction { lag, similarity })
            };
        }
        let urgent = (wanted.saturating_sub(URGENT) as f32 / LAG_MAX as f32).min(1.0);
        let similar = SIMILAR - (SIMILAR - SIMILAR_URGENT) * urgent;
        let found = if by < 0 {
            stretch::find_cut(sound, at, wanted)
        } else {
            stretch::find_repeat(sound, at, LAG_MAX)
        };
        let Some(found) = found.filter(|found| found.similarity >= similar) else { return 0 };
        self.unmoved = 0;
        self.apply(by, at, found)
    }

    /// The sound that waits follows made-up sound: removes what does not continue it. Returns the
    /// number of removed samples.
    pub(super) fn merge(&mut self) -> usize {
        if self.unmoved < MOVE_INTERVAL {
            return 0;
        }
        let Some(found) = stretch::find_merge(&self.buffer[..self.length], self.played) else {
            return 0;
        };
        self.unmoved = 0;
        self.apply(-1, self.played, found).unsigned_abs()
    }

    fn apply(&mut self, by: isize, at: usize, junction: Junction) -> isize {
        let before = self.length;
        let mut length = before;
        for track in self.tracks() {
            length = if by < 0 {
                stretch::cut(&mut track[..before], at, junction)
            } else {
                stretch::repeat(&mut track[..], before, at, junction)
            };
        }
        self.length = length;
        length as isize - before as isize
    }
}

/// Number of played samples that are kept, for comparing and repeating.
const HISTORY: usize = CONTEXT + LAG_MAX;

/// Room for the history, three frames, and what is repeated.
const CAPACITY: usize = HISTORY + 3 * FRAME_SAMPLES_MAX + 2 * LAG_MAX;

/// At most one pitch period is removed or repeated in this number of samples: 50 ms.
const MOVE_INTERVAL: usize = 2_400;

/// How alike the two sides of a junction must be in a voice.
const SIMILAR: f32 = 0.9;

/// How alike they must be at least, if much is to be moved.
const SIMILAR_URGENT: f32 = 0.6;

/// Number of samples from which on a change is urgent.
const URGENT: usize = 360;

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// Plays `sound` in frames of 10 ms and asks for `by` samples in each. Returns what was heard
    /// and where it was moved.
    fn play(sound: &[f32], by: isize, quiet: bool) -> (Vec<f32>, Vec<usize>) {
        let mut pcm = Pcm::new();
        let (mut heard, mut moves) = (Vec::new(), Vec::new());
        // Two frames at a time, as when there are too many.
        for frames in sound.chunks_exact(960) {
            for frame in frames.chunks_exact(480) {
                pcm.room().0[..480].copy_from_slice(frame);
                pcm.push(480);
            }
            let waiting = pcm.waiting() as isize;
            let moved = pcm.stretch(by, quiet);
            assert_eq!(pcm.waiting() as isize, waiting + moved);
            if moved != 0 {
                moves.push(heard.len());
            }
            while !pcm.is_empty() {
                heard.extend(pcm.play(120).0);
            }
        }
        (heard, moves)
    }

    fn voice(pitch: impl Fn(f32) -> f32) -> Vec<f32> {
        let mut phase = 0.0;
        (0..96_000)
            .map(|n| {
                phase = (phase + pitch(n as f32 / 48_000.0) / 48_000.0) % 1.0;
                (1..8).map(|k| 0.2 / k as f32 * (TAU * k as f32 * phase).sin()).sum()
            })
            .collect()
    }

    fn largest_step(sound: &[f32]) -> f32 {
        sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    /// The median number of samples between upward zero crossings of the fundamental.
    fn median_period(sound: &[f32]) -> f32 {
        let mut low = 0.0;
        let mut crossings = Vec::new();
        for (n, pair) in sound.windows(2).enumerate() {
            let before = low;
            low += 0.01 * (pair[1] - low);
            if before < 0.0 && low >= 0.0 {
                crossings.push(n as f32 + before / (before - low));
            }
        }
        let mut periods: Vec<f32> = crossings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        periods.sort_by(f32::total_cmp);
        periods[periods.len() / 2]
    }

    #[test]
    fn sound_that_need_not_move_is_the_same_to_the_last_bit() {
        let sound = voice(|time| 120.0 + 20.0 * time);
        assert!(play(&sound, 0, false).0 == sound);
        assert!(play(&sound, LAG_MIN as isize - 1, true).0 == sound);
    }

    /// Pitch stays, nothing clicks, and never are two periods moved within 50 ms.
    #[test]
    fn a_voice_becomes_shorter_and_longer_without_being_noticed() {
        for pitch in [90.0, 150.0, 240.0] {
            let sound = voice(|time| pitch * (1.0 + 0.05 * (TAU * 2.0 * time).sin()));
            for by in [-720, 720] {
                let (heard, moves) = play(&sound, by, false);
                let change = heard.len() as f32 / sound.len() as f32 - 1.0;
                assert!(change * by as f32 > 0.0 && change.abs() > 0.05, "{pitch}: {change}");
                assert!(moves.windows(2).all(|pair| pair[1] - pair[0] >= MOVE_INTERVAL - LAG_MAX));
                let pitches = median_period(&heard) / median_period(&sound);
                assert!((pitches - 1.0).abs() < 0.01, "{pitch}: {pitches}");
                assert!(largest_step(&heard) < 1.2 * largest_step(&sound), "{pitch}");
            }
        }
    }

    #[test]
    fn a_sweep_and_silence_do_not_click() {
        let mut phase = 0.0;
        let sweep: Vec<f32> = (0..96_000)
            .map(|n| {
                phase = (phase + 100.0 * 40_f32.powf(n as f32 / 96_000.0) / 48_000.0) % 1.0;
                0.5 * (TAU * phase).sin()
            })
            .collect();
        for by in [-480, 480] {
            let (heard, moves) = play(&sweep, by, false);
            assert!(!moves.is_empty());
            assert!(largest_step(&heard) < 1.1 * largest_step(&sweep));
            let (heard, moves) = play(&[0.0; 48_000], by, true);
            assert!(moves.len() > 40, "silence moves freely");
            assert!(heard.iter().all(|sample| *sample == 0.0));
        }
    }
}
