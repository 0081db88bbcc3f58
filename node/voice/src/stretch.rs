//! Makes sound a little shorter or longer without changing its pitch.
//!
//! One pitch period is removed or repeated behind a crossfade, where the sound resembles itself one
//! period later: waveform similarity overlap-add (WSOLA; Verhelst and Roelands 1993). The period is
//! the lag with the highest normalised cross-correlation. Silence and hisses have no period, so any
//! lag will do for them.
//!
//! The functions are pure and compute in a fixed order, so every processor gets the same samples.
//! Samples outside the crossfade stay the same, bit for bit.

/// The shortest lag, in samples: 2.5 ms.
pub const LAG_MIN: usize = 120;

/// The longest lag, in samples: 15 ms, a period of the deepest voices.
pub const LAG_MAX: usize = 720;

/// Number of samples before a junction that are compared: 5 ms.
pub const CONTEXT: usize = 240;

/// The shortest crossfade, in samples. At least so many samples must follow a junction.
pub const FADE_MIN: usize = 120;

/// Where sound can be shortened or made longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Junction {
    /// Number of samples to remove or to repeat.
    pub lag: usize,
    /// Normalised cross-correlation of the two sides, -1 to 1.
    pub similarity: f32,
}

/// Finds how many samples, from [`LAG_MIN`] to `longest`, are best removed from `sound` at index
/// `at`. Returns `None` if there are too few before or after it.
pub fn find_cut(sound: &[f32], at: usize, longest: usize) -> Option<Junction> {
    let longest = longest.min(LAG_MAX).min(sound.len().saturating_sub(at + FADE_MIN));
    (longest >= LAG_MIN && at >= CONTEXT).then(|| best_lag(sound, at, longest, false))
}

/// Finds how many samples, from [`LAG_MIN`] to `longest`, are best repeated at index `at` of
/// `sound`. They are those before `at`. Returns `None` if there are too few before or after it.
pub fn find_repeat(sound: &[f32], at: usize, longest: usize) -> Option<Junction> {
    let longest = longest.min(LAG_MAX).min(at.saturating_sub(CONTEXT));
    let follows = sound.len() >= at + FADE_MIN;
    (longest >= LAG_MIN && follows).then(|| best_lag(sound, at, longest, true))
}

/// Finds how many samples to remove at index `at`, such that the sound after it continues the
/// made-up sound before it. Returns `None` if it does so as it is, or nowhere.
pub fn find_merge(sound: &[f32], at: usize) -> Option<Junction> {
    let room = sound.len().checked_sub(at + MERGE_LENGTH)?;
    let back = find_repeat(&sound[..at], at.checked_sub(FADE_MIN)?, LAG_MAX)
        .filter(|it| it.similarity >= MERGE_SIMILARITY)?;
    // Made-up sound would go on as it was one period before.
    let wanted: [f32; MERGE_LENGTH] = std::array::from_fn(|n| sound[at - back.lag + n % back.lag]);
    let at_lag = |lag: usize| Junction {
        lag,
        similarity: correlation(&wanted, &sound[at + lag..][..MERGE_LENGTH]),
    };
    let found = most_similar((0..=room.min(back.lag)).map(at_lag))?;
    let moves = found.similarity >= MERGE_SIMILARITY
        && found.similarity >= at_lag(0).similarity + MERGE_GAIN_MIN;
    moves.then_some(found)
}

/// Removes the samples of `junction` from `sound` at index `at`. Returns the new length.
///
/// At least [`FADE_MIN`] samples must follow those that are removed.
pub fn cut(sound: &mut [f32], at: usize, junction: Junction) -> usize {
    let Junction { lag, similarity } = junction;
    let length = sound.len();
    let fade = (length - at - lag).min(FADE_MAX);
    for n in 0..fade {
        let part = (n as f32 + 0.5) / fade as f32;
        sound[at + n] = blend(sound[at + n], sound[at + lag + n], part, similarity);
    }
    sound.copy_within(at + lag + fade.., at + fade);
    length - lag
}

/// Repeats the samples of `junction` at index `at`. The first `length` of `sound` are in use.
/// Returns the new length.
///
/// At least [`FADE_MIN`] samples must follow `at`, and behind `length` there must be room.
pub fn repeat(sound: &mut [f32], length: usize, at: usize, junction: Junction) -> usize {
    let Junction { lag, similarity } = junction;
    let fade = (length - at).min(lag).min(FADE_MAX);
    sound.copy_within(at..length, at + lag);
    for n in 0..lag {
        let again = sound[at - lag + n];
        let part = (n as f32 + 0.5) / fade as f32;
        sound[at + n] =
            if n < fade { blend(sound[at + lag + n], again, part, similarity) } else { again };
    }
    length + lag
}

/// How similar two sides of a junction are that is made at any lag.
pub fn similarity(sound: &[f32], at: usize, other: usize) -> f32 {
    correlation(&sound[at..][..FADE_MIN], &sound[other..][..FADE_MIN])
}

/// Whether `sound` hisses like an `s`, so that it has no period.
pub fn is_unvoiced(sound: &[f32]) -> bool {
    let (mut energy, mut product) = (0.0, 0.0);
    for (a, b) in sound.iter().zip(sound.iter().skip(HISS_STEP)) {
        energy += a * a;
        product += a * b;
    }
    product < HISS_SHARE * energy
}

/// The shortest lag that is about as good as the best one, since two periods are no better than
/// one. Every fourth sample is compared first, then all around the lag that was found.
fn best_lag(sound: &[f32], at: usize, longest: usize, back: bool) -> Junction {
    let longest = longest / COARSE * COARSE;
    let (from, length) = (at - CONTEXT, CONTEXT + FADE_MIN);
    let span = if back { from - longest..from + length } else { from..from + length + longest };
    let mut small = [0.0; (CONTEXT + FADE_MIN + LAG_MAX) / COARSE];
    let groups = sound[span].as_chunks::<COARSE>().0;
    for (sum, group) in small.iter_mut().zip(groups) {
        *sum = group.iter().sum();
    }
    let mut scores = [0.0; LAG_MAX / COARSE + 1];
    let here = if back { longest / COARSE } else { 0 };
    let mut top = f32::MIN;
    let lags = LAG_MIN / COARSE..=longest / COARSE;
    for (lag, score) in scores.iter_mut().enumerate().take(*lags.end() + 1).skip(*lags.start()) {
        let there = if back { here - lag } else { here + lag };
        let (a, b) = (&small[here..][..length / COARSE], &small[there..][..length / COARSE]);
        *score = correlation(a, b);
        top = top.max(*score);
    }
    let good = lags.clone().find(|lag| {
        let next = if lag < lags.end() { scores[*lag + 1] } else { f32::MIN };
        scores[*lag] >= top - MULTIPLE_GAIN_MIN && scores[*lag] >= next
    });
    let near = good.unwrap_or(*lags.start()) * COARSE;
    let around = near.saturating_sub(COARSE).max(LAG_MIN)..=(near + COARSE).min(longest);
    let found = most_similar(around.map(|lag| {
        let there = if back { from - lag } else { from + lag };
        let similarity = correlation(&sound[from..][..length], &sound[there..][..length]);
        Junction { lag, similarity }
    }));
    found.unwrap_or(Junction { lag: LAG_MIN, similarity: 0.0 })
}

fn most_similar(junctions: impl Iterator<Item = Junction>) -> Option<Junction> {
    junctions.reduce(|best, it| if it.similarity > best.similarity { it } else { best })
}

/// Normalised cross-correlation, -1 to 1; 0 if one side is silent.
fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let (mut product, mut energy_a, mut energy_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        product += a * b;
        energy_a += a * a;
        energy_b += b * b;
    }
    let energy: f32 = energy_a * energy_b;
    if energy > 0.0 { product / energy.sqrt() } else { 0.0 }
}

/// A crossfade that keeps the power, whether or not the two sides are alike.
fn blend(from: f32, to: f32, part: f32, similarity: f32) -> f32 {
    let rest = 1.0 - part;
    let power = rest * rest + part * part + 2.0 * rest * part * similarity.max(0.0);
    (rest * from + part * to) / power.sqrt()
}

/// The longest crossfade, in samples: 5 ms.
const FADE_MAX: usize = 240;

/// The search begins with sums of so many samples.
const COARSE: usize = 4;

/// A longer lag must be better than a shorter one by this much.
const MULTIPLE_GAIN_MIN: f32 = 0.04;

/// Number of samples that are compared after concealment.
const MERGE_LENGTH: usize = 240;

/// Below this similarity, made-up sound has no period, or what follows does not fit it.
const MERGE_SIMILARITY: f32 = 0.6;

/// A smaller gain is not worth moving the sound.
const MERGE_GAIN_MIN: f32 = 0.2;

/// Samples this far apart, 83 µs, are alike unless most of the sound is above 3 kHz.
const HISS_STEP: usize = 4;

/// A sound whose samples that far apart are less alike is a hiss.
const HISS_SHARE: f32 = 0.3;

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// A voice at `pitch` Hz: the first harmonics, each weaker than the one before.
    fn voice(pitch: f32, samples: usize) -> Vec<f32> {
        let at = |n: usize, k: u32| (TAU * pitch * k as f32 * n as f32 / 48_000.0).sin();
        (0..samples).map(|n| (1..8).map(|k| 0.2 / k as f32 * at(n, k)).sum()).collect()
    }

    fn largest_step(sound: &[f32]) -> f32 {
        sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn one_period_of_a_voice_is_found_and_not_two() {
        for pitch in [75.0, 110.0, 180.0, 250.0, 390.0] {
            let sound = voice(pitch, 3_000);
            let period = 48_000.0 / pitch;
            for found in [find_cut(&sound, 1_000, LAG_MAX), find_repeat(&sound, 1_000, LAG_MAX)] {
                let found = found.unwrap();
                assert!((found.lag as f32 - period).abs() <= 1.5, "{pitch} Hz: {found:?}");
                assert!(found.similarity > 0.95, "{found:?}");
            }
        }
    }

    /// Whatever is changed, the rest is the same to the last bit, and no step is larger than those
    /// of the sound itself.
    #[test]
    fn a_period_goes_and_comes_without_a_click() {
        for pitch in [80.0, 133.3, 210.0, 350.0] {
            let sound = voice(pitch, 3_000);
            let junction = find_cut(&sound, 1_000, LAG_MAX).unwrap();
            let mut shorter = sound.clone();
            let length = cut(&mut shorter, 1_000, junction);
            shorter.truncate(length);
            assert_eq!(length, 3_000 - junction.lag);
            assert_eq!(shorter[..1_000], sound[..1_000]);
            assert_eq!(shorter[1_000 + FADE_MAX..], sound[1_000 + FADE_MAX + junction.lag..]);
            assert!(largest_step(&shorter) < 1.1 * largest_step(&sound), "{pitch} Hz");

            let junction = find_repeat(&sound, 1_000, LAG_MAX).unwrap();
            let mut longer = sound.clone();
            longer.resize(4_000, 0.0);
            let length = repeat(&mut longer, 3_000, 1_000, junction);
            longer.truncate(length);
            assert_eq!(length, 3_000 + junction.lag);
            assert_eq!(longer[..1_000], sound[..1_000]);
            assert_eq!(longer[1_000 + junction.lag..], sound[1_000..]);
            assert!(largest_step(&longer) < 1.1 * largest_step(&sound), "{pitch} Hz");
        }
    }

    #[test]
    fn what_follows_made_up_sound_is_moved_to_continue_it() {
        let sound = voice(150.0, 4_000);
        for off in [100, 160, 200] {
            let mut broken = sound[..1_500].to_vec();
            broken.extend(&sound[1_500 + off..]);
            let found = find_merge(&broken, 1_500).unwrap();
            // Together with what is removed, whole periods of 320 samples are gone.
            assert!(((off + found.lag) as i32 - 320).abs() <= 2, "{off}: {found:?}");
        }
        assert_eq!(find_merge(&sound, 1_500), None);
    }

    #[test]
    fn voices_and_hisses_are_told_apart() {
        let mut state = 1_u32;
        let mut roll = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 32_768.0 - 1.0
        };
        let hiss: Vec<f32> = (0..960).map(|_| 0.1 * roll()).collect();
        assert!(is_unvoiced(&hiss));
        assert!(!is_unvoiced(&voice(120.0, 960)));
        assert!(!is_unvoiced(&[0.0; 960]));
    }

    #[test]
    fn too_little_sound_is_refused() {
        let sound = voice(100.0, 1_000);
        assert_eq!(find_cut(&sound, CONTEXT - 1, LAG_MAX), None);
        assert_eq!(find_cut(&sound, 900, LAG_MAX), None);
        assert_eq!(find_cut(&sound, 500, LAG_MIN - 1), None);
        assert_eq!(find_repeat(&sound, CONTEXT + LAG_MIN - 1, LAG_MAX), None);
        assert_eq!(find_repeat(&sound, 950, LAG_MAX), None);
        assert_eq!(find_merge(&sound, 900), None);
    }
}
