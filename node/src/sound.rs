//! What a person has chosen for the sound of this device, whichever organisation hears it.
//!
//! It is one TOML file in the home, which a person may read and edit:
//!
//! ```toml
//! version = 1
//!
//! [cues]
//! people = true
//! volume = 0.5
//!
//! [side_tone]
//! on = true
//! decibels = -18.0
//!
//! [microphones."USB Headset"]
//! noise = "on"
//! ```
//!
//! A stage that is not named runs when it is needed. Recorded sound is left as it is: with a file
//! or silence as the microphone no stage runs unless this run says so, and what is chosen for it is
//! not kept. The same holds for cues and the side tone, which would be recorded.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_voice::{
    CUE_VOLUME_MAX, SIDE_TONE_MAX_DB, SIDE_TONE_MIN_DB, StageMode, Stages, VoiceCommand,
};
use serde::{Deserialize, Serialize};

use crate::{
    snapshot::{
        CuesChange, CuesView, ProcessingChange, ProcessingMode, ProcessingView, SideToneView,
    },
    store::{Home, StoreError},
};

/// The sound settings of a running node. All its organisations share them.
pub struct Sound {
    home: Option<Arc<Home>>,
    state: Mutex<State>,
}

/// The devices that sound comes from and goes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDevices {
    /// Whether the input is a microphone.
    pub microphone: bool,
    /// Whether the output is a loudspeaker.
    pub loudspeaker: bool,
}

struct State {
    real: RealDevices,
    kept: KeptSound,
    /// Whether the file cannot be read, and so must not be replaced.
    barred: bool,
    /// Why it cannot be read or written.
    trouble: Option<String>,
    /// The name of the microphone that is open.
    microphone: Option<String>,
    /// What this run says of the stages, before what is kept.
    run: ProcessingChange,
    cues: CuesView,
    side_tone: SideToneView,
    changed: bool,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct KeptSound {
    version: u32,
    cues: CuesView,
    side_tone: SideToneView,
    /// The stages of each microphone that do not run as usual.
    microphones: BTreeMap<String, KeptStages>,
}

/// [`ProcessingChange`] as it is written in the file, where an unknown word is a mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct KeptStages {
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<ProcessingMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<ProcessingMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gain: Option<ProcessingMode>,
}

/// Why sound cannot be set so. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SoundSettingError {
    /// The request names no stage.
    #[error("say which stage: echo, noise or gain, each on, off or auto")]
    NoStage,
    /// The request names no cue.
    #[error("say what changes: key, mute, people, moved or volume")]
    NoCue,
    /// The volume of the cues is out of its range.
    #[error("the volume of the cues is 0 to {CUE_VOLUME_MAX}, not {0}")]
    CueVolume(f32),
    /// The request says nothing of the side tone.
    #[error("say what changes: on or decibels")]
    NoSideTone,
    /// The level of the side tone is out of its range.
    #[error("the side tone has {SIDE_TONE_MIN_DB} to {SIDE_TONE_MAX_DB} dB, not {0}")]
    SideTone(f32),
    /// There are too many microphones in the file.
    #[error("{MICROPHONES_MAX} microphones have settings already: set one back to auto first")]
    TooMany,
}

impl Sound {
    /// Reads what is kept in this home. If the file cannot be read, it is left alone, and nothing
    /// that is chosen is kept.
    pub fn open(home: Arc<Home>, real: RealDevices, run: ProcessingChange) -> Self {
        let (kept, trouble) = match home.sound() {
            Ok(Some((path, text))) => match KeptSound::read(&path, &text) {
                Ok(kept) => (kept, None),
                Err(line) => (KeptSound::default(), Some(line)),
            },
            Ok(None) => (KeptSound::default(), None),
            Err(error) => (KeptSound::default(), Some(error.to_string())),
        };
        let trouble = trouble.map(|line| {
            let advice = "repair or remove it; until then nothing that you choose there is kept";
            format!("{line}: {advice}")
        });
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        let heard = real.microphone && real.loudspeaker;
        let (cues, side_tone) = match heard {
            true => (kept.cues, kept.side_tone),
            false => (CuesView::NONE, SideToneView::default()),
        };
        let state = State {
            real,
            barred: trouble.is_some(),
            trouble,
            microphone: None,
            run,
            cues,
            side_tone,
            changed: false,
            kept,
        };
        Self { home: Some(home), state: Mutex::new(state) }
    }

    /// No stage, no cue and no side tone; what is chosen is not kept.
    pub fn recorded() -> Self {
        let state = State {
            real: RealDevices::default(),
            kept: KeptSound::default(),
            barred: true,
            trouble: None,
            microphone: None,
            run: ProcessingChange::default(),
            cues: CuesView::NONE,
            side_tone: SideToneView::default(),
            changed: false,
        };
        Self { home: None, state: Mutex::new(state) }
    }

    /// A microphone was opened. Returns what the voice side is to do.
    pub fn set_microphone(&self, name: &str) -> VoiceCommand {
        let mut state = self.lock();
        state.microphone = Some(name.to_owned());
        state.processing()
    }

    /// Changes when stages run, for the microphone that is open. Returns what the voice side is to
    /// do.
    pub fn change_processing(
        &self,
        change: ProcessingChange,
    ) -> Result<VoiceCommand, SoundSettingError> {
        if change == ProcessingChange::default() {
            return Err(SoundSettingError::NoStage);
        }
        let mut state = self.lock();
        match state.microphone.clone() {
            Some(name) => {
                let known = state.kept.microphones.contains_key(&name);
                if !known && state.kept.microphones.len() >= MICROPHONES_MAX {
                    return Err(SoundSettingError::TooMany);
                }
                let before = state.kept_stages();
                let after = before.merged(change).without(ProcessingMode::Auto);
                if after == ProcessingChange::default() {
                    state.kept.microphones.remove(&name);
                } else {
                    state.kept.microphones.insert(name, after.into());
                }
                // What this run began with gives way to what was chosen since.
                let run = state.run;
                let unless = |run: Option<_>, set: Option<_>| run.filter(|_| set.is_none());
                state.run = ProcessingChange {
                    echo: unless(run.echo, change.echo),
                    noise: unless(run.noise, change.noise),
                    gain: unless(run.gain, change.gain),
                };
                state.changed = true;
            }
            None => state.run = state.run.merged(change),
        }
        Ok(state.processing())
    }

    /// Changes which cues are heard. Returns what the voice side is to do.
    pub fn change_cues(&self, change: CuesChange) -> Result<VoiceCommand, SoundSettingError> {
        if change == CuesChange::default() {
            return Err(SoundSettingError::NoCue);
        }
        if let Some(volume) = change.volume
            && !(0.0..=CUE_VOLUME_MAX).contains(&volume)
        {
            return Err(SoundSettingError::CueVolume(volume));
        }
        let mut state = self.lock();
        state.cues = state.cues.changed(change);
        if state.keeps_heard() {
            state.kept.cues = state.cues;
            state.changed = true;
        }
        Ok(VoiceCommand::SetCues(state.cues.into()))
    }

    /// Changes whether and how loud the person hears the own voice. Returns what the voice side is
    /// to do.
    pub fn change_side_tone(
        &self,
        on: Option<bool>,
        decibels: Option<f32>,
    ) -> Result<VoiceCommand, SoundSettingError> {
        if on.is_none() && decibels.is_none() {
            return Err(SoundSettingError::NoSideTone);
        }
        let mut state = self.lock();
        let decibels = decibels.unwrap_or(state.side_tone.decibels);
        if !(SIDE_TONE_MIN_DB..=SIDE_TONE_MAX_DB).contains(&decibels) {
            return Err(SoundSettingError::SideTone(decibels));
        }
        state.side_tone = SideToneView { on: on.unwrap_or(state.side_tone.on), decibels };
        if state.keeps_heard() {
            state.kept.side_tone = state.side_tone;
            state.changed = true;
        }
        Ok(VoiceCommand::SetSideTone(state.side_tone.level()))
    }

    /// What is to be written to disk, if anything has changed since the last call.
    pub fn take_unkept(&self) -> Option<impl FnOnce() -> Result<(), StoreError> + Send + 'static> {
        let home = self.home.clone()?;
        let mut state = self.lock();
        let changed = std::mem::take(&mut state.changed) && !state.barred;
        let text = changed.then(|| state.kept.to_text())?;
        Some(move || home.keep_sound(&text))
    }

    /// What was to be kept is on disk, or is not for this reason.
    pub fn handle_kept(&self, kept: Result<(), StoreError>) {
        let mut state = self.lock();
        state.changed |= kept.is_err();
        state.trouble = kept.err().map(|error| {
            tracing::warn!(%error, "the settings of sound are not kept, and tried again");
            format!("the settings of sound are not kept: {error}")
        });
    }

    /// What the voice side is to do at its start.
    pub fn commands(&self) -> [VoiceCommand; 3] {
        let state = self.lock();
        let cues = VoiceCommand::SetCues(state.cues.into());
        [state.processing(), cues, VoiceCommand::SetSideTone(state.side_tone.level())]
    }

    /// Puts into `view` what is chosen for the stages. Whether they run, the voice side says a
    /// moment later.
    pub fn show(&self, view: &mut ProcessingView) {
        let state = self.lock();
        let modes = state.modes();
        view.microphone.clone_from(&state.microphone);
        view.echo.mode = modes.echo.into();
        view.noise.mode = modes.noise.into();
        view.gain.mode = modes.gain.into();
    }

    /// Which cues are heard.
    pub fn cues(&self) -> CuesView {
        self.lock().cues
    }

    /// How the person hears the own voice.
    pub fn side_tone(&self) -> SideToneView {
        self.lock().side_tone
    }

    /// Why settings are not kept, in words for a person.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn processing(&self) -> VoiceCommand {
        VoiceCommand::SetProcessing(self.modes())
    }

    /// When each stage runs: what this run says, else what is kept, else as usual.
    fn modes(&self) -> Stages<StageMode> {
        let usual = match self.real.microphone {
            true => ProcessingMode::Auto,
            false => ProcessingMode::Off,
        };
        self.kept_stages().merged(self.run).modes(usual)
    }

    /// What is kept of the microphone that is open.
    fn kept_stages(&self) -> ProcessingChange {
        let kept = self.microphone.as_ref().and_then(|name| self.kept.microphones.get(name));
        kept.copied().unwrap_or_default().into()
    }

    /// Whether cues and the side tone are kept.
    fn keeps_heard(&self) -> bool {
        self.real.microphone && self.real.loudspeaker
    }
}

impl KeptSound {
    /// Parses the file, or says in a line what is wrong with it.
    fn read(path: &Path, text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = path.display();
        let unreadable = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("{path}, line {line}: {}", error.message().trim().replace('\n', ", "))
        };
        let Versioned { version } = toml::from_str(text).map_err(unreadable)?;
        if version > VERSION {
            return Err(format!("{path} was written by a newer version of Hark"));
        }
        let kept: Self = toml::from_str(text).map_err(unreadable)?;
        if !(0.0..=CUE_VOLUME_MAX).contains(&kept.cues.volume) {
            return Err(format!("{path}: {}", SoundSettingError::CueVolume(kept.cues.volume)));
        }
        let decibels = kept.side_tone.decibels;
        if !(SIDE_TONE_MIN_DB..=SIDE_TONE_MAX_DB).contains(&decibels) {
            return Err(format!("{path}: {}", SoundSettingError::SideTone(decibels)));
        }
        if kept.microphones.len() > MICROPHONES_MAX {
            return Err(format!("{path} has more than {MICROPHONES_MAX} microphones"));
        }
        Ok(kept)
    }

    fn to_text(&self) -> String {
        let contents = Self { version: VERSION, ..self.clone() };
        let text = toml::to_string(&contents).expect("names and numbers are TOML");
        format!("{HEADING}{text}")
    }
}

impl From<KeptStages> for ProcessingChange {
    fn from(KeptStages { echo, noise, gain }: KeptStages) -> Self {
        Self { echo, noise, gain }
    }
}

impl From<ProcessingChange> for KeptStages {
    fn from(ProcessingChange { echo, noise, gain }: ProcessingChange) -> Self {
        Self { echo, noise, gain }
    }
}

/// Version of the file. It is raised when older files can no longer be read.
const VERSION: u32 = 1;

/// Microphones with settings of their own. Further ones are refused.
const MICROPHONES_MAX: usize = 64;

/// The first lines of the file, for a person who opens it.
const HEADING: &str = "\
# The sound of this device, kept by hark. Edit it while hark does not run.
";

#[cfg(test)]
mod tests;
