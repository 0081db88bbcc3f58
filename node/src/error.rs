//! The reasons why a node does not start, or has ended although nobody asked it to.

use std::net::SocketAddr;

use crate::{
    event::SanctionView, network::JoinError, profile::ProfileError, request::FlagError,
    store::StoreError, swarm::SwarmError,
};

/// The reason why a node does not start, or has ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Something in the home folder cannot be read or kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The choice does not fit into the stored profiles.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The swarm cannot be created.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// The node cannot listen on an address on which it must.
    #[error("cannot listen on {address}: {reason}: choose another --listen")]
    Listen {
        /// The address that it was to listen on.
        address: SocketAddr,
        /// The reason that the system gives.
        reason: SwarmError,
    },
    /// Joining by a ticket has failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A flag of this run names something that does not exist, or not for this member.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// The voice side cannot be started.
    #[error(transparent)]
    Voice(Box<dyn std::error::Error + Send + Sync>),
    /// The system provides no thread or no runtime.
    #[error("cannot start the network: {0}")]
    System(#[from] std::io::Error),
    /// The number of a key's generation cannot be written. Without it no new key may be used, and
    /// former members could open speech under the old keys.
    #[error("cannot keep the key's number: {0}")]
    KeyNumber(StoreError),
    /// This device no longer belongs to the organisation.
    #[error(transparent)]
    Removed(#[from] Farewell),
    /// A thread has panicked; its message went to the log.
    #[error("the node stopped by an internal error")]
    Panicked,
    /// The node was stopped before it had started.
    #[error("the node did not start")]
    NotStarted,
}

/// The end of a device's membership, as its owner is informed of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this device does not belong to {organisation} any more{}", because(.why.as_ref()))]
pub struct Farewell {
    /// The name of the organisation.
    pub organisation: String,
    /// The reason, if the charter states it.
    pub why: Option<FarewellReason>,
}

/// The reason why a membership has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarewellReason {
    /// A ban from the organisation.
    Banned(SanctionView),
    /// An officer has ended the membership. Contains the officer's name, if known.
    RemovedBy(Option<String>),
    /// The membership was ended. The charter no longer states by whom.
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
