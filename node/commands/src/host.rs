//! Whoever holds the charter: a stored one, or a running node.

use std::error::Error;

use hark_charter::{
    Charter, Piece, PieceError,
    content::{Channel, SealedName},
};
use hark_keys::{ChannelId, DeviceId, DeviceKey, Invite, MemberId, ObjectHash, Random, UnixTime};
use serde::{Deserialize, Serialize};

/// What commands need of whoever holds the charter.
pub trait Host {
    /// The charter as it is.
    fn charter(&self) -> &Charter;

    /// Who acts.
    fn member(&self) -> MemberId;

    /// The key of this device, which signs.
    fn key(&self) -> &DeviceKey;

    /// What the calendar says, by which mutes and bans end.
    fn now(&self) -> UnixTime;

    /// Where ids of new things come from.
    fn random(&self) -> &dyn Random;

    /// The name that a member chose, as far as it is known.
    fn name_of(&self, member: MemberId) -> Option<String>;

    /// The name of a channel. A hidden one has a name if its key is known here.
    fn channel_name(&self, channel: &Channel) -> Option<String>;

    /// Tickets that this device has issued or let somebody in by.
    fn tickets(&self) -> Result<Vec<KnownTicket>, HostError>;

    /// Seals the name of a channel for those who may join it, now and later.
    fn seal_name(&mut self, channel: ChannelId, name: &str) -> Result<SealedName, HostError>;

    /// Writes own pieces to disk, takes them all, in this order, and passes them on.
    fn commit(&mut self, pieces: Vec<Piece>) -> Result<(), HostError>;

    /// The root document of this version that this device has signed, whatever became of it.
    /// [CHARTER-2.4]
    fn root_signed(&self, version: u32) -> Result<Option<ObjectHash>, HostError>;

    /// Remembers for good, before it is signed, that this device signs a root document. A host that
    /// must not wait for its disk fails with [`HostError::Unkept`], and is asked again.
    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> Result<(), HostError>;
}

/// Why a host could not do what a command needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The disk could not be read or written.
    #[error(transparent)]
    Disk(Box<dyn Error + Send + Sync>),
    /// The disk has to remember first that this device signs this root document. The command has
    /// changed nothing; it is carried out again once that is on disk.
    #[error("the disk does not know yet that this device signs version {version}")]
    Unkept {
        /// The document's version.
        version: u32,
        /// The document.
        document: ObjectHash,
    },
    /// The charter did not take a piece.
    #[error(transparent)]
    Charter(#[from] PieceError),
}

impl HostError {
    /// What went wrong with the disk.
    pub fn disk(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Disk(Box::new(error))
    }
}

/// A ticket that this device has issued or let somebody in by, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTicket {
    /// What was signed.
    pub invite: Invite,
    /// Devices that came in by it here; of one with any number of uses, the first 64.
    pub devices: Vec<DeviceId>,
}
