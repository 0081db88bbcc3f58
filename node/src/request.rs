//! The results of requests to a running node.

use hark_mesh::squad::MoveError;

use hark_commands::{CommandError, names::listed};

#[cfg(feature = "voice")]
use crate::sound::SoundSettingError;
use crate::{event::Deafness, profile::ProfileError, store::StoreError};

/// What else there is to know about a command that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Nets that are now talked to and whose answers are not heard.
    pub deaf: Option<Deafness>,
}

impl From<()> for CommandOutcome {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// The reason why a running node refuses a request. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The node does not know its organisation yet.
    #[error("the node is starting: ask again in a moment")]
    Starting,
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
    /// The node has ended in this organisation.
    #[error("the node has ended in this organisation")]
    EndedHere,
    /// A name does not exist here, or the charter does not permit the request.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The profile does not accept the choice.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Sound cannot be set so.
    #[cfg(feature = "voice")]
    #[error(transparent)]
    Sound(#[from] SoundSettingError),
    /// The choice cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The charter could not be written to disk for a long time.
    #[error("this is not on disk yet and has no effect until it is; Hark tries again")]
    Unwritten,
    /// The time for which a key is to be held is out of its range, in seconds.
    #[error("a key is held for 1 to {max} seconds, not {secs}")]
    HeldFor {
        /// The seconds that were requested.
        secs: u32,
        /// The most seconds.
        max: u32,
    },
    /// The time after a release is out of its range, in ms.
    #[error("a microphone stays open for 0 to {max} ms after a key, not {tail_ms}")]
    Tail {
        /// The time that was requested.
        tail_ms: u16,
        /// The longest time.
        max: u16,
    },
    /// The target of the key with this name reaches nobody.
    #[error("key {0}: there is nobody whom it reaches and you may speak to")]
    ReachesNobody(String),
    /// The request names no setting of a net to change.
    #[error("say what changes: volume, pan, mute, priority or radio")]
    NothingToChange,
    /// The request names nothing of the voices to change.
    #[error("say what changes: bitrate, frame, redundancy or wait")]
    NoCodingToChange,
    /// Not a bit rate, frame length or number of copies.
    #[cfg(feature = "voice")]
    #[error(transparent)]
    Coding(#[from] hark_voice::rate::CodingError),
    /// Not limits of a wait.
    #[cfg(feature = "voice")]
    #[error(transparent)]
    Wait(#[from] hark_voice::WaitError),
    /// The request names no volume of all nets to change.
    #[error("say what changes: talked-to, others, others-down, leveling or headphones")]
    NoVolumeToChange,
    /// The key of this name has its own target, and the request names another.
    #[error("key {0:?} talks to what it is bound to: give a key or whom to talk to, not both")]
    KeyAndTarget(String),
    /// The request names no target to talk to.
    #[error("say whom to talk to: a net, a person or a role")]
    NobodyToTalkTo,
    /// The request names no target for the key with this name.
    #[error("say whom key {0:?} talks to")]
    KeyWithoutTarget(String),
    /// A preset has bound the key of this name.
    #[error("key {0} is as the loaded preset says: bind it to others")]
    PresetKey(String),
    /// No device with this id was seen since the start.
    #[error("nobody here has that device")]
    UnseenDevice,
    /// No device whose member has this name was seen since the start.
    #[error("nobody here is called {name:?}: {}", meant(near))]
    Unseen {
        /// The name that was given.
        name: String,
        /// Similar names.
        near: Vec<String>,
    },
    /// Several devices have this name.
    #[error("several devices are called {name:?}: name {}", listed(devices, "or"))]
    SeveralDevices {
        /// The name that was given.
        name: String,
        /// The ids of the devices.
        devices: Vec<String>,
    },
    /// The text is no device id.
    #[error("{0:?} is no device's id")]
    NoDevice(String),
    /// No known member has the device.
    #[error("no member is known here who has that device")]
    NobodysDevice,
    /// The device is not verified.
    #[error("that device is not verified")]
    NotVerified,
    /// The greatest number of verified devices is reached.
    #[error("{0} devices are verified already")]
    TooManyVerified(usize),
    /// The newcomer with this name no longer waits at this device.
    #[error("{0} does not wait any more")]
    NotWaiting(String),
    /// This device hides its address, so it cannot relay for others.
    #[error("--relay-only hides this device, which cannot relay for others then")]
    Hidden,
    /// A member cannot be moved.
    #[error("{person}: {error}")]
    Move {
        /// The member that was to be moved.
        person: String,
        /// The reason why it cannot be moved.
        error: MoveError,
    },
}

/// A flag of this run that is not valid for this member.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {value}: {error}")]
pub struct FlagError {
    /// The flag, such as `--channel`.
    pub flag: &'static str,
    /// The value of the flag.
    pub value: String,
    /// The reason why it is not valid.
    pub error: CommandError,
}

fn meant(near: &[String]) -> String {
    match near {
        [] => "see `hark ctl status`".to_owned(),
        near => format!("did you mean {}?", listed(near, "or")),
    }
}
