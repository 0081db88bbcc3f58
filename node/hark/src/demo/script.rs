//! Who says what, and when.

use hark_demo::MEMBERS;
use hark_voice::{SAMPLE_RATE, level_dbfs};
use std::time::Duration;

/// The members who speak in each turn, by index. The last member to join speaks first. By the time
/// the first to join speaks, all have been there for a while, however long joining takes on a busy
/// machine. In the last turn two speak at once.
const TURNS: [&[usize]; MEMBERS + 1] = [&[4], &[3], &[2], &[1], &[0], &[0, 1]];

/// The conversation, from its first word.
pub(super) struct Script {
    voices: [Vec<f32>; MEMBERS],
    /// Samples from the start of one turn to the start of the next.
    turn: usize,
}

impl Script {
    pub(super) fn new(voices: [Vec<f32>; MEMBERS], talking: Duration) -> Self {
        Self { voices, turn: samples(talking) / TURNS.len() }
    }

    /// The time from the first word to the last.
    pub(super) fn talking(&self) -> Duration {
        Duration::from_secs_f64((self.turn * TURNS.len()) as f64 / f64::from(SAMPLE_RATE))
    }

    /// The members who speak at this time. Empty after the end.
    pub(super) fn speakers(&self, elapsed: Duration) -> &'static [usize] {
        TURNS.get(samples(elapsed) / self.turn).copied().unwrap_or_default()
    }

    /// What `member` says, after `lead` of silence. In each turn its recording goes on where it
    /// stopped, and starts again at its end.
    pub(super) fn track(&self, member: usize, lead: Duration) -> Vec<f32> {
        let lead = samples(lead);
        let mut track = vec![0.0; lead + self.turn * TURNS.len()];
        let mut said = 0;
        for (index, _) in TURNS.iter().enumerate().filter(|(_, turn)| turn.contains(&member)) {
            let rest = self.voices[member].iter().copied().cycle().skip(said);
            let mut words: Vec<f32> = rest.take(self.turn * 9 / 10).collect();
            words.truncate(pause(&words));
            said += words.len();
            fade(&mut words);
            let at = lead + index * self.turn;
            track[at..at + words.len()].copy_from_slice(&words);
        }
        track
    }
}

/// Where to stop within the last quarter of `words`: in the middle of its quietest moment.
fn pause(words: &[f32]) -> usize {
    let from = words.len() * 3 / 4;
    let level = |at: usize| level_dbfs(&words[at..at + MOMENT]);
    let starts = (from..words.len().saturating_sub(MOMENT)).step_by(MOMENT / 4);
    starts.min_by(|a, b| level(*a).total_cmp(&level(*b))).map_or(words.len(), |at| at + MOMENT / 2)
}

/// Fades out the end, so that there is no click.
fn fade(words: &mut [f32]) {
    let from = words.len().saturating_sub(FADE);
    for (index, sample) in words[from..].iter_mut().rev().enumerate() {
        *sample *= index as f32 / FADE as f32;
    }
}

fn samples(time: Duration) -> usize {
    (time.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize
}

/// Length of a moment whose loudness is measured, in samples: 60 ms.
const MOMENT: usize = 2_880;
/// Length of the fade, in samples: 10 ms.
const FADE: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    /// Each member's recording is one constant value, different for each member.
    fn script(seconds: u64) -> Script {
        let voices = [0.1, 0.2, 0.3, 0.4, 0.5].map(|level| vec![level; 48_000]);
        Script::new(voices, Duration::from_secs(seconds))
    }

    #[test]
    fn everybody_has_a_turn_and_two_speak_in_the_end() {
        let script = script(12);
        let at = |ms| script.speakers(Duration::from_millis(ms));
        let turns = [1, 2_001, 4_001, 6_001, 8_001, 10_001].map(at);
        assert_eq!(turns, [&[4][..], &[3], &[2], &[1], &[0], &[0, 1]]);
        assert_eq!(at(12_001), [0_usize; 0]);
    }

    #[test]
    fn a_track_has_words_in_its_own_turns_only() {
        let script = script(6);
        let lead = Duration::from_millis(500);
        for member in 0..MEMBERS {
            let track = script.track(member, lead);
            assert_eq!(track.len(), 24_000 + 6 * 48_000);
            assert_eq!(track[..24_000], [0.0; 24_000]);
            for (index, second) in track[24_000..].chunks(48_000).enumerate() {
                let spoken = second.iter().filter(|sample| **sample != 0.0).count();
                let expected = if TURNS[index].contains(&member) { 32_000..=43_200 } else { 0..=0 };
                assert!(expected.contains(&spoken), "{member} says {spoken} in turn {index}");
            }
        }
    }

    #[test]
    fn a_turn_ends_where_it_is_quiet_and_without_a_click() {
        let mut script = script(12);
        script.voices[4] = vec![0.5; 5 * 48_000];
        // 0.2 s of quiet in the last quarter of a turn's 1.8 s of words.
        script.voices[4][72_000..81_600].fill(0.001);
        let words = script.track(4, Duration::ZERO);
        let end = words.iter().rposition(|sample| *sample != 0.0).expect("words");
        assert!((72_000..81_600).contains(&end), "{end}");
        assert!(words[end].abs() < 0.01);
    }
}
