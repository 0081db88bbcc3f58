//! Measures the mouth-to-ear delay between what was spoken and what was heard.
//!
//! It needs both recordings and their starts on one clock, and nothing from the program in between.
//! So everything that makes a listener wait counts, the codec's look-ahead included.

use std::{path::Path, time::Duration};

use hark_voice::{SAMPLE_RATE, level_dbfs};

use crate::wav::{self, WavError};

/// A sequence of samples, with the time at which the first one was spoken or heard.
#[derive(Clone, Debug)]
pub struct Recording {
    /// One channel at 48 kHz.
    pub samples: Vec<f32>,
    /// CLOCK_MONOTONIC at sample 0, in nanoseconds.
    pub start_ns: u64,
}

impl Recording {
    /// Reads a WAV file of any rate, whose first sample was spoken or heard at `start_ns`.
    pub fn read(path: &Path, start_ns: u64) -> Result<Self, WavError> {
        Ok(Self { samples: wav::load(path)?, start_ns })
    }

    /// The sound of a looped input: this recording repeated until `length` is full.
    pub fn looped(&self, length: Duration) -> Self {
        let length = (length.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize;
        let samples = self.samples.iter().copied().cycle().take(length).collect();
        Self { samples, start_ns: self.start_ns }
    }
}

/// The delays in milliseconds of all windows of `spoken` that are found in `heard`, in order.
///
/// A window lasts 1 s and begins 0.5 s after the one before. Windows with little speech are left
/// out, and so are windows that nothing in `heard` resembles enough: they were lost, or somebody
/// else spoke over them.
pub fn delays(spoken: &Recording, heard: &Recording) -> Vec<f64> {
    let (spoken, heard) = (Bands::new(spoken), Bands::new(heard));
    timed_delays(&spoken, &heard).into_iter().map(|(_, delay_ms)| delay_ms).collect()
}

/// The same, with the time in `spoken` at which each window begins, in seconds.
pub fn timed_delays(spoken: &Bands, heard: &Bands) -> Vec<(f64, f64)> {
    let pair = Pair { spoken, heard };
    (0..)
        .map(|index| index * HOP)
        .take_while(|start| start + WINDOW <= spoken.samples)
        .filter(|start| {
            let blocks = &spoken.speech[start / BLOCK..(start + WINDOW) / BLOCK];
            blocks.iter().filter(|active| **active).count() >= SPEECH_BLOCKS
        })
        .filter_map(|start| {
            let at_s = start as f64 / f64::from(SAMPLE_RATE);
            Some((at_s, pair.delay_ms(start)?))
        })
        .collect()
}

/// The smallest value of `sorted` that at least `percent` of 100 of the values do not exceed.
/// `None` if there are no values.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// A recording at two lower rates, without rumble, to be compared with others. All recordings pass
/// through the same filters, so the filters' delays cancel.
pub struct Bands {
    start_ns: u64,
    /// The length of the recording in samples of 48 kHz.
    samples: usize,
    /// Which of its blocks are loud enough for speech.
    speech: Vec<bool>,
    coarse: Vec<f32>,
    fine: Vec<f32>,
}

impl Bands {
    /// Filters `recording`, which costs most of a comparison.
    pub fn new(recording: &Recording) -> Self {
        let Recording { samples, start_ns } = recording;
        let fine = decimate(&without_rumble(samples), FINE);
        Self {
            start_ns: *start_ns,
            samples: samples.len(),
            speech: samples.chunks(BLOCK).map(|block| level_dbfs(block) >= SPEECH_DBFS).collect(),
            coarse: decimate(&fine, COARSE / FINE),
            fine,
        }
    }
}

struct Pair<'a> {
    spoken: &'a Bands,
    heard: &'a Bands,
}

impl Pair<'_> {
    /// How much later `spoken` begins than `heard`, in nanoseconds.
    fn ahead_ns(&self) -> i128 {
        i128::from(self.spoken.start_ns) - i128::from(self.heard.start_ns)
    }

    /// The delay of the window of `spoken` that begins at sample `start` of 48 kHz.
    ///
    /// The first search is cheap and finds the millisecond. The second one uses the whole band of
    /// speech: it decides whether the sound is the same, and finds the microseconds.
    fn delay_ms(&self, start: usize) -> Option<f64> {
        let coarse = Search::new(&self.spoken.coarse, &self.heard.coarse, COARSE, start, self);
        let (guess_ms, _) = coarse.best(SEARCH_MS.0, SEARCH_MS.1)?;
        let fine = Search::new(&self.spoken.fine, &self.heard.fine, FINE, start, self);
        let (delay_ms, correlation) = fine.best(guess_ms - REFINE_MS, guess_ms + REFINE_MS)?;
        (correlation >= MIN_CORRELATION).then_some(delay_ms)
    }
}

/// One window and the sound in which it is sought, at a rate of 48 kHz / `factor`.
struct Search<'a> {
    window: &'a [f32],
    heard: &'a [f32],
    /// Position in `heard` of the moment at which the window begins.
    origin: f64,
    samples_per_ms: f64,
}

impl<'a> Search<'a> {
    fn new(
        spoken: &'a [f32],
        heard: &'a [f32],
        factor: usize,
        start: usize,
        pair: &Pair<'_>,
    ) -> Self {
        let samples_per_ms = f64::from(SAMPLE_RATE) / 1_000.0 / factor as f64;
        let ahead = pair.ahead_ns() as f64 / 1e6 * samples_per_ms;
        Self {
            window: &spoken[start / factor..(start + WINDOW) / factor],
            heard,
            origin: ahead + (start / factor) as f64,
            samples_per_ms,
        }
    }

    /// The delay at which `heard` resembles the window most, and the correlation there.
    fn best(&self, from_ms: f64, to_ms: f64) -> Option<(f64, f64)> {
        let place = |ms: f64| (self.origin + ms * self.samples_per_ms).round() as i64;
        let (first, last) = (place(from_ms), place(to_ms));
        let length = self.window.len();
        let span = usize::try_from(last - first).ok()? + length;
        // Before the recording of `heard` began and after it ended, silence is assumed.
        let mut part = vec![0.0; span];
        let from = usize::try_from(first.max(0)).ok()?;
        let skipped = usize::try_from((-first).max(0)).ok()?.min(span);
        let there = self.heard.get(from..)?;
        let copied = there.len().min(span - skipped);
        part[skipped..skipped + copied].copy_from_slice(&there[..copied]);

        let own = f64::from(dot(self.window, self.window));
        let mut energy = f64::from(dot(&part[..length], &part[..length]));
        let mut correlations = Vec::with_capacity(span - length + 1);
        for lag in 0..=span - length {
            let product = f64::from(dot(self.window, &part[lag..lag + length]));
            let norm = (own * energy).sqrt();
            correlations.push(if energy > SILENT_ENERGY { product / norm } else { 0.0 });
            if let Some(next) = part.get(lag + length) {
                energy += f64::from(*next).powi(2) - f64::from(part[lag]).powi(2);
            }
        }
        let (peak, correlation) =
            correlations.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let lag = first as f64 + peak as f64 + summit(&correlations, peak);
        Some(((lag - self.origin) / self.samples_per_ms, correlation))
    }
}

/// The position of a curve's peak between its samples: the top of the parabola through three of
/// them.
fn summit(curve: &[f64], peak: usize) -> f64 {
    let Some([left, top, right]) = peak.checked_sub(1).and_then(|at| curve.get(at..at + 3)) else {
        return 0.0;
    };
    let bend = left - 2.0 * top + right;
    if bend < 0.0 { 0.5 * (left - right) / bend } else { 0.0 }
}

/// Removes the frequencies below speech. Codecs do so, too, and with a phase of their own.
fn without_rumble(samples: &[f32]) -> Vec<f32> {
    let (mut before, mut out) = (0.0, 0.0);
    let keep = 1.0 - std::f32::consts::TAU * RUMBLE_HZ / SAMPLE_RATE as f32;
    let next = |sample: &f32| {
        out = sample - before + keep * out;
        before = *sample;
        out
    };
    samples.iter().map(next).collect()
}

/// Keeps every `factor`-th sample, after removing the frequencies that the lower rate cannot hold.
fn decimate(samples: &[f32], factor: usize) -> Vec<f32> {
    let reach = FILTER_REACH * factor;
    // A sinc that ends at 0.8 of the new band, under a Hann window.
    let tap = |index: usize| {
        let x = index as f64 - reach as f64;
        let cut = 0.8 / factor as f64;
        let angle = std::f64::consts::PI * cut * x;
        let sinc = if angle == 0.0 { 1.0 } else { angle.sin() / angle };
        let window = 0.5 + 0.5 * (std::f64::consts::PI * x / (reach + 1) as f64).cos();
        (cut * sinc * window) as f32
    };
    let taps: Vec<f32> = (0..=2 * reach).map(tap).collect();
    let mut padded = vec![0.0; samples.len() + 2 * reach];
    padded[reach..reach + samples.len()].copy_from_slice(samples);
    let kept = (0..samples.len() / factor).map(|index| index * factor);
    kept.map(|at| dot(&taps, &padded[at..at + taps.len()])).collect()
}

/// The sum of products. Eight separate sums are fast even in a debug build, and more exact.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (l, r) in left.iter().zip(right) {
        sums[0] += l[0] * r[0];
        sums[1] += l[1] * r[1];
        sums[2] += l[2] * r[2];
        sums[3] += l[3] * r[3];
        sums[4] += l[4] * r[4];
        sums[5] += l[5] * r[5];
        sums[6] += l[6] * r[6];
        sums[7] += l[7] * r[7];
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(l, r)| l * r).sum();
    sums.iter().sum::<f32>() + rest
}

/// Samples of a window: 1 s.
const WINDOW: usize = SAMPLE_RATE as usize;
/// Samples from one window to the next: 0.5 s.
const HOP: usize = WINDOW / 2;
/// Samples of a block, whose level decides whether it is speech: 20 ms.
const BLOCK: usize = WINDOW / 50;
/// Least level of speech, in dB below full scale. Pauses of clean recordings lie far below.
const SPEECH_DBFS: f32 = -45.0;
/// Blocks of speech that a window needs, of its 50. With fewer, its position is uncertain.
const SPEECH_BLOCKS: usize = 20;
/// Delays that are sought, in milliseconds. A negative delay is possible only if a clock is wrong,
/// and then must not look like a small delay.
const SEARCH_MS: (f64, f64) = (-20.0, 500.0);
/// The greatest error of the first search, in milliseconds.
const REFINE_MS: f64 = 1.0;
/// The least correlation; below it, the sound is another one. If another voice of the same level
/// speaks over the speech, 0.54 and more remains in our recordings. Other speech stays below 0.25.
const MIN_CORRELATION: f64 = 0.5;
/// Sum of squares of a window below which it counts as silent. Otherwise rounding errors would
/// resemble anything.
const SILENT_ENERGY: f64 = 1e-4;
/// The rate of the first search is 48 kHz / 24, which carries the melody of speech.
const COARSE: usize = 24;
/// The rate of the second search is 48 kHz / 4, which carries nearly all of speech.
const FINE: usize = 4;
/// Frequencies below this are not speech.
const RUMBLE_HZ: f32 = 100.0;
/// Samples of the lower rate by which the filter before decimation extends to each side.
const FILTER_REACH: usize = 8;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use hark_voice::codec::{Decoder, Encoder};

    const START: u64 = 7_000_000_000_000;
    const NOTHING: [f64; 0] = [];

    fn speech(name: &str) -> Recording {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/speech");
        Recording::read(&folder.join(name), START).unwrap()
    }

    /// `spoken` as it is heard `delay` samples later, by a recorder that started `early` samples
    /// before it.
    fn heard(spoken: &Recording, early: usize, delay: usize) -> Recording {
        let mut samples = vec![0.0; early + delay];
        samples.extend(&spoken.samples);
        let early_ns = early as u64 * 1_000_000_000 / u64::from(SAMPLE_RATE);
        Recording { samples, start_ns: spoken.start_ns - early_ns }
    }

    fn add(to: &mut Recording, at: usize, what: impl IntoIterator<Item = f32>) {
        to.samples[at..].iter_mut().zip(what).for_each(|(sample, other)| *sample += other);
    }

    /// White noise of the given level. It is the same every time.
    fn noise(dbfs: f32) -> impl Iterator<Item = f32> {
        let amplitude = 10_f32.powf(dbfs / 20.0) * 3_f32.sqrt();
        let mut state = 1_u32;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            amplitude * (state as f32 / 2_f32.powi(31) - 1.0)
        })
    }

    fn assert_all_near(delays: &[f64], expected: f64, within: f64) {
        for delay in delays {
            assert!((delay - expected).abs() <= within, "{delay} instead of {expected}");
        }
    }

    #[test]
    fn every_recording_is_found_where_it_was_put() {
        let names = ["english.wav", "english-2.wav", "french.wav", "italian.wav", "russian.wav"];
        for (name, delay) in names.into_iter().zip([0, 1, 1_603, 2_160, 23_990]) {
            let spoken = speech(name);
            let found = delays(&spoken, &heard(&spoken, 0, delay));
            let windows = (spoken.samples.len() - WINDOW) / HOP + 1;
            assert!(found.len() * 10 >= windows * 8, "{name}: {} of {windows}", found.len());
            assert_all_near(&found, delay as f64 / 48.0, 0.02);
        }
    }

    #[test]
    fn both_starts_count() {
        let spoken = speech("french.wav");
        // Heard from 100 ms before the speech began, and from 2 s after it began.
        let before = heard(&spoken, 4_800, 2_000);
        assert_all_near(&delays(&spoken, &before), 2_000.0 / 48.0, 0.02);
        let mut after = heard(&spoken, 0, 2_000);
        after.samples.drain(..96_000);
        after.start_ns += 2_000_000_000;
        let found = delays(&spoken, &after);
        assert!((2..delays(&spoken, &before).len()).contains(&found.len()), "{found:?}");
        assert_all_near(&found, 2_000.0 / 48.0, 0.02);
    }

    #[test]
    fn a_fraction_of_a_sample_is_seen() {
        let spoken = speech("italian.wav");
        let mut late = heard(&spoken, 0, 1_440);
        late.start_ns += 7_000;
        assert_all_near(&delays(&spoken, &late), 30.007, 0.01);
        late.start_ns -= 40_000_000;
        assert_all_near(&delays(&spoken, &late), -9.993, 0.01);
    }

    #[test]
    fn noise_beneath_the_speech_moves_nothing() {
        let spoken = speech("english.wav");
        let clean = delays(&spoken, &heard(&spoken, 0, 2_000)).len();
        let mut noisy = heard(&spoken, 0, 2_000);
        add(&mut noisy, 0, noise(-35.0));
        let found = delays(&spoken, &noisy);
        assert_eq!(found.len(), clean);
        assert_all_near(&found, 2_000.0 / 48.0, 0.2);
    }

    /// The encoder's look-ahead is time that a listener waits.
    #[test]
    fn the_codecs_lookahead_counts() {
        let spoken = speech("russian.wav");
        let mut encoder = Encoder::new(false, 64_000).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut samples = Vec::new();
        for frame in spoken.samples.chunks_exact(encoder.frame_samples()) {
            let (mut packet, mut sound) = (Vec::new(), [0.0; 480]);
            encoder.encode(frame, &mut packet).unwrap();
            decoder.decode(&packet, &mut sound).unwrap();
            samples.extend(sound);
        }
        let found = delays(&spoken, &Recording { samples, start_ns: START });
        assert!(found.len() >= 6, "{found:?}");
        assert_all_near(&found, encoder.lookahead() as f64 / 48.0, 0.2);
    }

    #[test]
    fn windows_under_another_talker_are_right_or_left_out() {
        let spoken = speech("english.wav");
        let other = speech("russian.wav");
        let mut both = heard(&spoken, 0, 2_000);
        add(&mut both, 0, other.samples.iter().copied());
        let found = delays(&spoken, &both);
        assert!(found.len() >= 3, "{found:?}");
        assert_all_near(&found, 2_000.0 / 48.0, 0.3);
        // Much louder than the voice that is sought.
        let mut drowned = heard(&spoken, 0, 2_000);
        add(&mut drowned, 0, other.samples.iter().map(|sample| 4.0 * sample));
        assert_all_near(&delays(&spoken, &drowned), 2_000.0 / 48.0, 0.3);
        assert_eq!(delays(&spoken, &heard(&other, 0, 2_000)), NOTHING);
    }

    #[test]
    fn lost_windows_and_pauses_are_left_out() {
        let spoken = speech("english-2.wav").looped(Duration::from_secs(12));
        let whole = heard(&spoken, 0, 2_000);
        let all = delays(&spoken, &whole).len();
        let mut lost = whole.clone();
        // Four seconds of silence affect the windows that begin within five seconds.
        lost.samples[4 * WINDOW..8 * WINDOW].fill(0.0);
        let found = delays(&spoken, &lost);
        assert_all_near(&found, 2_000.0 / 48.0, 0.1);
        assert!((all - 11..=all - 6).contains(&found.len()), "{} of {all}", found.len());
        assert_eq!(
            delays(&spoken, &Recording { samples: vec![0.0; 48_000], start_ns: START }),
            NOTHING
        );
        assert_eq!(delays(&spoken, &Recording { samples: Vec::new(), start_ns: 0 }), NOTHING);
        let silence = Recording { samples: vec![0.0; 96_000], start_ns: START };
        assert_eq!(delays(&silence, &whole), NOTHING);
    }

    #[test]
    fn a_loop_starts_again_at_its_end() {
        let recording = Recording { samples: vec![0.1, 0.2, 0.3], start_ns: 5 };
        let looped = recording.looped(Duration::from_nanos(150_000));
        assert_eq!(looped.samples, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1]);
        assert_eq!(looped.start_ns, 5);
    }

    #[test]
    fn percentiles_are_of_the_values_themselves() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50.0), Some(100.0));
        assert_eq!(percentile(&sorted, 99.0), Some(198.0));
        assert_eq!(percentile(&sorted, 100.0), Some(200.0));
        assert_eq!(percentile(&sorted[..1], 0.0), Some(1.0));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
