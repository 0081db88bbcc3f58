//! What each operating system has of its own for sound.

#[cfg(target_os = "linux")]
mod pulse;

/// PulseAudio and PipeWire come before ALSA, which prints about each card that is not there.
#[cfg(target_os = "linux")]
mod system {
    use std::{cell::RefCell, rc::Rc};

    use super::{super::SoundSystem, pulse};

    pub(crate) fn preferred() -> Option<Box<dyn SoundSystem>> {
        pulse::Pulse::connect().map(|pulse| Box::new(pulse) as _)
    }

    /// Takes what ALSA would print on the terminal, until it is dropped.
    pub(crate) struct Quiet {
        _complaints: Option<Rc<RefCell<alsa::Output>>>,
    }

    impl Quiet {
        pub(crate) fn new() -> Self {
            Self { _complaints: alsa::Output::local_error_handler().ok() }
        }
    }
}

/// cpal alone.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::super::SoundSystem;

    pub(crate) fn preferred() -> Option<Box<dyn SoundSystem>> {
        None
    }

    pub(crate) struct Quiet;

    impl Quiet {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}

/// The sound system that is better here than what cpal prefers, if it is there.
pub(super) use system::preferred;

/// Keeps what the system's sound library would print off the terminal.
pub(super) use system::Quiet;
