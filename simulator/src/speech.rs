//! What members say: recordings of speech, tones and files, by the time of the scenario.

use std::{
    collections::BTreeMap,
    f32::consts::TAU,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hark_node::wav::{self, WavError};
use hark_voice::SAMPLE_RATE;

/// Everything that one member says.
#[derive(Clone, Debug, Default)]
pub struct Script {
    utterances: Vec<Utterance>,
}

/// A sound that is repeated from one sample to another.
#[derive(Clone, Debug)]
struct Utterance {
    from: u64,
    until: u64,
    sound: Arc<Vec<f32>>,
}

/// Sounds by name. Each is read only once.
#[derive(Debug)]
pub struct Sounds {
    folder: PathBuf,
    known: BTreeMap<String, Arc<Vec<f32>>>,
}

/// Why a sound is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoundError {
    /// The name is not that of a recording, a tone or a file.
    #[error("no sound is called {0:?}: there is {names}, \"tone 440\" and \"file:PATH\"", names = names())]
    Unknown(String),
    /// The file is not sound that can be played.
    #[error("{} {error}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        error: WavError,
    },
}

impl Sounds {
    /// No sounds yet. Files are looked for relative to `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: BTreeMap::new() }
    }

    /// The sound of this name: a recording, `tone HERTZ`, or `file:PATH`.
    pub fn get(&mut self, name: &str) -> Result<Arc<Vec<f32>>, SoundError> {
        if let Some(known) = self.known.get(name) {
            return Ok(Arc::clone(known));
        }
        let sound = Arc::new(self.make(name)?);
        self.known.insert(name.to_owned(), Arc::clone(&sound));
        Ok(sound)
    }

    fn make(&self, name: &str) -> Result<Vec<f32>, SoundError> {
        let unknown = || SoundError::Unknown(name.to_owned());
        if let Some(path) = name.strip_prefix("file:") {
            let path = self.folder.join(path);
            return wav::load(&path).map_err(|error| SoundError::File { path, error });
        }
        if let Some(hertz) = name.strip_prefix("tone ") {
            let hertz: f32 = hertz.trim().parse().map_err(|_| unknown())?;
            let samples = 0..SAMPLE_RATE;
            return Ok(samples
                .map(|n| 0.3 * (TAU * hertz.round() * n as f32 / SAMPLE_RATE as f32).sin())
                .collect());
        }
        let (_, bytes) = RECORDINGS.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        let sound = wav::read(*bytes);
        sound.map_err(|error| SoundError::File { path: name.into(), error })
    }
}

impl Script {
    /// Adds `sound`, from its beginning and repeated, from `from` until `until`.
    pub fn say(&mut self, from: Duration, until: Duration, sound: Arc<Vec<f32>>) {
        let utterance = Utterance { from: position(from), until: position(until), sound };
        self.utterances.push(utterance);
    }

    /// Whether the member never says anything.
    pub fn is_empty(&self) -> bool {
        self.utterances.is_empty()
    }

    /// Fills `out` with what the member says from virtual time `at` on.
    pub fn fill(&self, at: Duration, out: &mut [f32]) {
        out.fill(0.0);
        let first = position(at);
        for utterance in &self.utterances {
            if first >= utterance.until || first + out.len() as u64 <= utterance.from {
                continue;
            }
            for (n, out) in (first..utterance.until).zip(out.iter_mut()) {
                if n >= utterance.from {
                    let place = (n - utterance.from) % utterance.sound.len() as u64;
                    *out += utterance.sound[place as usize];
                }
            }
        }
    }
}

fn position(at: Duration) -> u64 {
    u64::try_from(at.as_nanos() * 3 / 62_500).unwrap_or(u64::MAX)
}

fn names() -> String {
    RECORDINGS.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// Short recordings of people. node/assets/speech/ATTRIBUTION.md names the sources.
const RECORDINGS: [(&str, &[u8]); 5] = [
    ("english", include_bytes!("../../node/assets/speech/english.wav")),
    ("english-2", include_bytes!("../../node/assets/speech/english-2.wav")),
    ("french", include_bytes!("../../node/assets/speech/french.wav")),
    ("italian", include_bytes!("../../node/assets/speech/italian.wav")),
    ("russian", include_bytes!("../../node/assets/speech/russian.wav")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_said_from_its_beginning_and_again_until_the_end() {
        let mut script = Script::default();
        let sound: Arc<Vec<f32>> = Arc::new((0..480).map(|n| n as f32).collect());
        script.say(Duration::from_millis(15), Duration::from_millis(30), sound);
        let mut heard = vec![0.0; 1_920];
        for (block, out) in heard.chunks_mut(480).enumerate() {
            script.fill(Duration::from_millis(10 * block as u64), out);
        }
        assert!(heard[..720].iter().all(|sample| *sample == 0.0));
        assert_eq!([heard[720], heard[721], heard[1_199], heard[1_200]], [0.0, 1.0, 479.0, 0.0]);
        assert_eq!([heard[1_201], heard[1_439], heard[1_440]], [1.0, 239.0, 0.0]);
    }

    #[test]
    fn a_name_that_is_no_sound_is_answered_with_those_that_are() {
        let mut sounds = Sounds::new(Path::new("."));
        let error = sounds.get("klingon").expect_err("not a sound").to_string();
        assert!(error.contains("\"english\"") && error.contains("klingon"), "{error}");
        assert_eq!(sounds.get("tone 440").expect("a tone").len(), 48_000);
        assert!(sounds.get("italian").expect("a recording").len() > 48_000);
    }
}
