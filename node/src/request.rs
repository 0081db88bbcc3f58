//! What comes of asking a running node for something.

use hark_mesh::squad::MoveError;

use hark_commands::{CommandError, names::listed};

use crate::{event::Deafness, profile::ProfileError, store::StoreError};

/// What there is to know of a command that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Nets that are talked to now and whose answers are not heard.
    pub deaf: Option<Deafness>,
}

impl From<()> for CommandOutcome {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// Why a running node does not do what it is asked. Nothing is changed then.
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
    /// A name means nothing here, or the charter does not allow it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The profile does not take it.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk has not taken the charter for a long time.
    #[error("this is not on disk yet and has no effect until it is; Hark tries again")]
    Unwritten,
    /// A key is to be held for a time out of its range, in seconds.
    #[error("a key is held for 1 to {max} seconds, not {secs}")]
    HeldFor {
        /// The seconds that were asked for.
        secs: u32,
        /// The most.
        max: u32,
    },
    /// The key of this name reaches nobody.
    #[error("key {0}: there is nobody whom it reaches and you may speak to")]
    ReachesNobody(String),
    /// Nothing of a net was to be changed.
    #[error("say what changes: volume, pan, mute or priority")]
    NothingToChange,
    /// Nobody was named to talk to.
    #[error("say whom to talk to: a net, a person or a role")]
    NobodyToTalkTo,
    /// Nobody was named whom the key of this name talks to.
    #[error("say whom key {0:?} talks to")]
    KeyWithoutTarget(String),
    /// A preset has bound the key of this name.
    #[error("key {0} is as the loaded preset says: bind it to others")]
    PresetKey(String),
    /// No device was seen since the start that has this id.
    #[error("nobody here has that device")]
    UnseenDevice,
    /// Nobody was seen since the start who is called so.
    #[error("nobody here is called {name:?}: {}", meant(near))]
    Unseen {
        /// What was asked for.
        name: String,
        /// What is called nearly so.
        near: Vec<String>,
    },
    /// Several devices are called so.
    #[error("several devices are called {name:?}: name {}", listed(devices, "or"))]
    SeveralDevices {
        /// What was asked for.
        name: String,
        /// Their ids.
        devices: Vec<String>,
    },
    /// The text is no device's id.
    #[error("{0:?} is no device's id")]
    NoDevice(String),
    /// No member is known who has the device.
    #[error("no member is known here who has that device")]
    NobodysDevice,
    /// The device is not verified.
    #[error("that device is not verified")]
    NotVerified,
    /// As many devices are verified as can be.
    #[error("{0} devices are verified already")]
    TooManyVerified(usize),
    /// The newcomer of this name does not wait at this device any more.
    #[error("{0} does not wait any more")]
    NotWaiting(String),
    /// This device hides, so it cannot relay for others.
    #[error("--relay-only hides this device, which cannot relay for others then")]
    Hidden,
    /// A member cannot be moved.
    #[error("{person}: {error}")]
    Move {
        /// Who was to be moved.
        person: String,
        /// Why not.
        error: MoveError,
    },
}

/// A flag of this run that has no meaning for this member.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {value}: {error}")]
pub struct FlagError {
    /// The flag, such as `--channel`.
    pub flag: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub error: CommandError,
}

fn meant(near: &[String]) -> String {
    match near {
        [] => "see `hark ctl status`".to_owned(),
        near => format!("did you mean {}?", listed(near, "or")),
    }
}
