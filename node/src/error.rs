//! Why a node does not start, or has ended though nobody asked it to.

use std::net::SocketAddr;

use crate::{
    event::SanctionView, network::JoinError, profile::ProfileError, request::FlagError,
    store::StoreError, swarm::SwarmError,
};

/// Why a node does not start, or has ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Something in the home folder cannot be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kept profiles have no such choice.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The swarm cannot be made.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// A socket that has to listen cannot.
    #[error("cannot listen on {address}: {reason}: choose another --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        reason: SwarmError,
    },
    /// A ticket has led nowhere.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A flag of this run names something that is not there, or not for this member.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// The voice side cannot be started.
    #[error(transparent)]
    Voice(Box<dyn std::error::Error + Send + Sync>),
    /// The system gives no thread, or no runtime.
    #[error("cannot start the network: {0}")]
    System(#[from] std::io::Error),
    /// The number of a key's generation cannot be written: without it no new key may be used, and
    /// the old ones would open to those who left.
    #[error("cannot keep the key's number: {0}")]
    KeyNumber(StoreError),
    /// This device does not belong any more.
    #[error(transparent)]
    Removed(#[from] Farewell),
    /// A thread has panicked; its message went to the log.
    #[error("the node stopped by an internal error")]
    Panicked,
    /// It was stopped before it had started.
    #[error("the node did not start")]
    NotStarted,
}

/// The end of a device's membership, as its owner is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this device does not belong to {organisation} any more{}", because(.why.as_ref()))]
pub struct Farewell {
    /// What the organisation is called.
    pub organisation: String,
    /// What has ended it, as far as the charter says.
    pub why: Option<FarewellReason>,
}

/// What has ended a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarewellReason {
    /// A ban from the organisation.
    Banned(SanctionView),
    /// An officer has ended the membership; the name, if it is known.
    RemovedBy(Option<String>),
    /// The membership was ended; the charter does not say any more by whom.
    Removed,
    /// The device has retired itself.
    RetiredItself,
    /// Another key of its member has retired it.
    Retired,
}

impl std::fmt::Display for FarewellReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Banned(ban) => f.write_str(&ban.describe()),
            Self::RemovedBy(name) => {
                let name = name.as_deref().unwrap_or("an officer");
                write!(f, "{name} has ended the membership")
            }
            Self::Removed => f.write_str("the membership was ended"),
            Self::RetiredItself => f.write_str("it has retired itself"),
            Self::Retired => f.write_str("another key of its member has retired it"),
        }
    }
}

fn because(why: Option<&FarewellReason>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}
