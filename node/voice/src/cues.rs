//! Short tones that tell the person what has happened. They are generated, and nobody else hears
//! them.

use std::{collections::VecDeque, f32::consts::TAU};

use super::{SAMPLE_RATE, SIDES};

/// What a tone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// Our voice begins to be sent.
    KeyDown,
    /// Our voice is no longer sent.
    KeyUp,
    /// The own microphone or loudspeaker was closed.
    Muted,
    /// The own microphone or loudspeaker was opened.
    Unmuted,
    /// A member's device has come.
    Joined,
    /// A member's device has gone.
    Left,
    /// Somebody has moved this member to another net.
    Moved,
}

/// Which tones are played, and how loud.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CueSettings {
    /// [`Cue::KeyDown`] and [`Cue::KeyUp`].
    pub key: bool,
    /// [`Cue::Muted`] and [`Cue::Unmuted`].
    pub mute: bool,
    /// [`Cue::Joined`] and [`Cue::Left`].
    pub people: bool,
    /// [`Cue::Moved`].
    pub moved: bool,
    /// Factor of the amplitude, 0 to [`CUE_VOLUME_MAX`].
    pub volume: f32,
}

impl CueSettings {
    /// No tones at all.
    pub const NONE: Self =
        Self { key: false, mute: false, people: false, moved: false, volume: 1.0 };

    fn allow(&self, cue: Cue) -> bool {
        match cue {
            Cue::KeyDown | Cue::KeyUp => self.key,
            Cue::Muted | Cue::Unmuted => self.mute,
            Cue::Joined | Cue::Left => self.people,
            Cue::Moved => self.moved,
        }
    }
}

impl Cue {
    /// The notes in Hz, one after the other. What begins rises, and what ends falls.
    fn notes(self) -> &'static [f32] {
        match self {
            Self::KeyDown => &[880.0],
            Self::KeyUp => &[587.0],
            Self::Muted => &[587.0, 440.0],
            Self::Unmuted => &[440.0, 587.0],
            Self::Joined => &[659.0, 988.0],
            Self::Left => &[988.0, 659.0],
            Self::Moved => &[587.0, 784.0, 587.0],
        }
    }
}

/// Plays one tone after the other.
pub(super) struct Cues {
    settings: CueSettings,
    /// The tone that is being played, and those that wait.
    queue: VecDeque<Cue>,
    /// Number of samples of the first one already played.
    position: usize,
}

impl Default for Cues {
    /// Plays no tones before the first [`Cues::set`].
    fn default() -> Self {
        let queue = VecDeque::with_capacity(QUEUE_MAX);
        Self { settings: CueSettings::NONE, queue, position: 0 }
    }
}

impl Cues {
    /// Sets which tones are played from now on.
    pub(super) fn set(&mut self, settings: CueSettings) {
        let sane = settings.volume.is_finite();
        let volume = if sane { settings.volume.clamp(0.0, CUE_VOLUME_MAX) } else { 1.0 };
        self.settings = CueSettings { volume, ..settings };
    }

    /// Plays a tone. That of a key is played at once, in place of all others: it tells when to
    /// speak. A tone that waits already is not played twice: many people may come at once.
    pub(super) fn play(&mut self, cue: Cue) {
        if !self.settings.allow(cue) {
            return;
        }
        if matches!(cue, Cue::KeyDown | Cue::KeyUp) {
            self.queue.clear();
            self.position = 0;
        }
        if !self.queue.contains(&cue) && self.queue.len() < QUEUE_MAX {
            self.queue.push_back(cue);
        }
    }

    /// Adds the tones to both sides of `out`.
    pub(super) fn mix_into(&mut self, out: &mut [f32]) {
        let amplitude = AMPLITUDE * self.settings.volume;
        for sides in out.as_chunks_mut::<SIDES>().0 {
            let Some(cue) = self.queue.front() else { return };
            let (note, n) = (self.position / NOTE_SAMPLES, (self.position % NOTE_SAMPLES) as f32);
            let swell = (TAU / 2.0 * n / NOTE_SAMPLES as f32).sin();
            let wave = (TAU * cue.notes()[note] * n / SAMPLE_RATE as f32).sin();
            sides.iter_mut().for_each(|sample| *sample += amplitude * swell * wave);
            self.position += 1;
            if self.position == cue.notes().len() * NOTE_SAMPLES {
                self.queue.pop_front();
                self.position = 0;
            }
        }
    }
}

/// The loudest that tones can be set to.
pub const CUE_VOLUME_MAX: f32 = 4.0;

/// Tones that are played or wait. Further ones are not played: they would come too late.
const QUEUE_MAX: usize = 4;

/// Number of samples in a note: 50 ms.
const NOTE_SAMPLES: usize = 2_400;

/// Amplitude at a volume of 1: 20 dB below loud speech.
const AMPLITUDE: f32 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CueSettings =
        CueSettings { key: true, mute: true, people: true, moved: true, volume: 1.0 };

    /// Number of notes until nothing is heard any more.
    fn notes(cues: &mut Cues) -> usize {
        let mut out = [0.0; SIDES * 48_000];
        let (first, second) = out.split_at_mut(1_000);
        cues.mix_into(first);
        cues.mix_into(second);
        assert!(out.as_chunks::<SIDES>().0.iter().all(|[left, right]| left == right));
        assert!(out.iter().all(|sample| sample.abs() <= AMPLITUDE));
        out.as_chunks::<SIDES>()
            .0
            .iter()
            .rposition(|it| it[0] != 0.0)
            .map_or(0, |last| last / NOTE_SAMPLES + 1)
    }

    #[test]
    fn each_tone_is_off_unless_it_is_wanted() {
        let groups: [(&[Cue], CueSettings); 4] = [
            (&[Cue::KeyDown, Cue::KeyUp], CueSettings { key: true, ..CueSettings::NONE }),
            (&[Cue::Muted, Cue::Unmuted], CueSettings { mute: true, ..CueSettings::NONE }),
            (&[Cue::Joined, Cue::Left], CueSettings { people: true, ..CueSettings::NONE }),
            (&[Cue::Moved], CueSettings { moved: true, ..CueSettings::NONE }),
        ];
        for (own, settings) in groups {
            for (cues_of, _) in groups {
                for cue in cues_of {
                    let mut cues = Cues::default();
                    cues.play(*cue);
                    assert_eq!(notes(&mut cues), 0, "{cue:?} at first");
                    cues.set(settings);
                    cues.play(*cue);
                    assert_eq!(notes(&mut cues) > 0, own.contains(cue), "{cue:?}, {settings:?}");
                }
            }
        }
    }

    #[test]
    fn tones_follow_each_other_and_that_of_a_key_waits_for_none() {
        let mut cues = Cues::default();
        cues.set(ALL);
        for _ in 0..100 {
            cues.play(Cue::Joined);
            cues.play(Cue::Left);
        }
        assert_eq!(notes(&mut cues), 4, "each once, two notes");
        cues.play(Cue::Moved);
        cues.play(Cue::Muted);
        cues.play(Cue::KeyDown);
        assert_eq!(notes(&mut cues), 1);
    }

    #[test]
    fn the_volume_is_that_of_all_tones() {
        let loudest = |volume| {
            let mut cues = Cues::default();
            cues.set(CueSettings { volume, ..ALL });
            cues.play(Cue::Moved);
            let mut out = [0.0; SIDES * 9_600];
            cues.mix_into(&mut out);
            out.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()))
        };
        let usual = loudest(1.0);
        assert!((loudest(0.5) - usual / 2.0).abs() < 1e-6 && loudest(0.0) == 0.0);
        assert_eq!((loudest(f32::NAN), loudest(99.0)), (usual, loudest(CUE_VOLUME_MAX)));
    }
}
