//! The parts of sound that are specific to an operating system.

#[cfg(target_os = "linux")]
mod pulse;
#[cfg(windows)]
mod wasapi;

/// PulseAudio and PipeWire are tried before ALSA, which prints a line about each card that is
/// missing.
#[cfg(target_os = "linux")]
mod system {
    use std::{cell::RefCell, rc::Rc};

    use super::{super::SoundSystem, pulse};

    pub(crate) fn preferred() -> Option<Box<dyn SoundSystem>> {
        pulse::Pulse::connect().map(|pulse| Box::new(pulse) as _)
    }

    /// Keeps ALSA's messages off the terminal until it is dropped.
    pub(crate) struct Quiet {
        _complaints: Option<Rc<RefCell<alsa::Output>>>,
    }

    impl Quiet {
        pub(crate) fn new() -> Self {
            Self { _complaints: alsa::Output::local_error_handler().ok() }
        }
    }
}

#[cfg(windows)]
mod system {
    use super::{super::SoundSystem, wasapi};

    pub(crate) fn preferred() -> Option<Box<dyn SoundSystem>> {
        wasapi::Wasapi::connect().map(|wasapi| Box::new(wasapi) as _)
    }
}

/// On other systems, cpal alone is used.
#[cfg(not(any(target_os = "linux", windows)))]
mod system {
    use super::super::SoundSystem;

    pub(crate) fn preferred() -> Option<Box<dyn SoundSystem>> {
        None
    }
}

/// Sound libraries of other systems are quiet.
#[cfg(not(target_os = "linux"))]
mod library {
    pub(crate) struct Quiet;

    impl Quiet {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}

/// A sound system that is better on this system than the one that cpal prefers, if it is there.
pub(super) use system::preferred;

/// Keeps the messages of the system's sound library off the terminal.
#[cfg(not(target_os = "linux"))]
pub(super) use library::Quiet;
#[cfg(target_os = "linux")]
pub(super) use system::Quiet;
