//! What a person sees of the sound of this device, and can change. It is the same in all
//! organisations.

use serde::{Deserialize, Serialize};

/// What is done to the microphone's sound before it is encoded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessingView {
    /// The microphone for which this is chosen. `None` for a file or silence: what is chosen then
    /// holds for this run.
    pub microphone: Option<String>,
    /// Echo cancellation.
    pub echo: StageView,
    /// Noise suppression.
    pub noise: StageView,
    /// Gain control.
    pub gain: StageView,
    /// By how much the stages that run delay the sound, in ms.
    pub delay_ms: f32,
}

/// A stage of the processing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// When it runs.
    pub mode: ProcessingMode,
    /// Whether it runs now.
    pub running: bool,
}

/// When a stage runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessingMode {
    /// Never.
    #[default]
    Off,
    /// Always.
    On,
    /// While there is a need for it.
    Auto,
}

/// A change of when stages run. Those that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessingChange {
    /// Echo cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<ProcessingMode>,
    /// Noise suppression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<ProcessingMode>,
    /// Gain control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<ProcessingMode>,
}

impl ProcessingChange {
    /// Adds a later change to this one.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            echo: later.echo.or(self.echo),
            noise: later.noise.or(self.noise),
            gain: later.gain.or(self.gain),
        }
    }

    /// The same, without stages in this mode.
    #[must_use]
    pub fn without(self, mode: ProcessingMode) -> Self {
        let other = |it: Option<ProcessingMode>| it.filter(|it| *it != mode);
        Self { echo: other(self.echo), noise: other(self.noise), gain: other(self.gain) }
    }
}

/// Which short tones tell the person what happens. Nobody else hears them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CuesView {
    /// The own voice begins to be sent, or ends.
    pub key: bool,
    /// The own microphone or loudspeaker was closed or opened.
    pub mute: bool,
    /// A member's device has come or gone.
    pub people: bool,
    /// Somebody has moved this member to another net.
    pub moved: bool,
    /// The volume of all of them, from 0 to 4; 1 is as usual.
    pub volume: f32,
}

impl Default for CuesView {
    /// What concerns the person alone.
    fn default() -> Self {
        Self { key: true, mute: true, people: false, moved: true, volume: 1.0 }
    }
}

impl CuesView {
    /// No tones at all.
    pub const NONE: Self =
        Self { key: false, mute: false, people: false, moved: false, volume: 1.0 };

    /// These after a change.
    #[must_use]
    pub fn changed(self, change: CuesChange) -> Self {
        Self {
            key: change.key.unwrap_or(self.key),
            mute: change.mute.unwrap_or(self.mute),
            people: change.people.unwrap_or(self.people),
            moved: change.moved.unwrap_or(self.moved),
            volume: change.volume.unwrap_or(self.volume),
        }
    }
}

/// A change of the tones. Settings that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CuesChange {
    /// The own voice begins to be sent, or ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<bool>,
    /// The own microphone or loudspeaker was closed or opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute: Option<bool>,
    /// A member's device has come or gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<bool>,
    /// Somebody has moved this member to another net.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<bool>,
    /// The volume of all of them, from 0 to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<f32>,
}

/// The own voice in the own ear, while it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SideToneView {
    /// Whether it is heard.
    pub on: bool,
    /// How loud it is compared with what the microphone captures, from -40 to 0 dB.
    pub decibels: f32,
}

impl Default for SideToneView {
    /// Off, and quiet once it is on.
    fn default() -> Self {
        Self { on: false, decibels: -12.0 }
    }
}

#[cfg(feature = "voice")]
mod voice {
    use hark_voice::{CueSettings, ProcessingState, StageMode, Stages};

    use super::{
        CuesView, ProcessingChange, ProcessingMode, ProcessingView, SideToneView, StageView,
    };

    impl From<StageMode> for ProcessingMode {
        fn from(mode: StageMode) -> Self {
            match mode {
                StageMode::Off => Self::Off,
                StageMode::On => Self::On,
                StageMode::Auto => Self::Auto,
            }
        }
    }

    impl From<ProcessingMode> for StageMode {
        fn from(mode: ProcessingMode) -> Self {
            match mode {
                ProcessingMode::Off => Self::Off,
                ProcessingMode::On => Self::On,
                ProcessingMode::Auto => Self::Auto,
            }
        }
    }

    impl From<Stages<Option<StageMode>>> for ProcessingChange {
        fn from(stages: Stages<Option<StageMode>>) -> Self {
            let mode = |it: Option<StageMode>| it.map(ProcessingMode::from);
            Self { echo: mode(stages.echo), noise: mode(stages.noise), gain: mode(stages.gain) }
        }
    }

    impl ProcessingChange {
        /// When each stage runs, if those that are not set run in the `usual` mode.
        pub fn modes(self, usual: ProcessingMode) -> Stages<StageMode> {
            let mode = |it: Option<ProcessingMode>| it.unwrap_or(usual).into();
            Stages { echo: mode(self.echo), noise: mode(self.noise), gain: mode(self.gain) }
        }
    }

    impl From<ProcessingState> for ProcessingView {
        fn from(state: ProcessingState) -> Self {
            let ProcessingState { modes, running, delay_ms } = state;
            let stage = |mode: StageMode, running| StageView { mode: mode.into(), running };
            Self {
                microphone: None,
                echo: stage(modes.echo, running.echo),
                noise: stage(modes.noise, running.noise),
                gain: stage(modes.gain, running.gain),
                delay_ms,
            }
        }
    }

    impl From<CuesView> for CueSettings {
        fn from(view: CuesView) -> Self {
            let CuesView { key, mute, people, moved, volume } = view;
            Self { key, mute, people, moved, volume }
        }
    }

    impl SideToneView {
        /// The level in dB; `None` if it is not heard.
        pub fn level(self) -> Option<f32> {
            self.on.then_some(self.decibels)
        }
    }
}
