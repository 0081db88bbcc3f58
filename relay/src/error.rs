//! Why a relay, or the carrier of one organisation, does not start or has ended.

use std::{io, net::SocketAddr, path::PathBuf};

use hark_node::{store::StoreError, swarm::SwarmError};

use crate::tenants::TenantRefusal;

/// Why a relay, or the carrier of one organisation, does not start or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A file in the relay's folder cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay's state cannot be changed.
    #[error(transparent)]
    Refused(#[from] TenantRefusal),
    /// The swarm cannot be made.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// A socket for members cannot listen.
    #[error("cannot listen on {address}: {reason}: choose another port")]
    Listen {
        /// The address on which it should listen.
        address: SocketAddr,
        /// The error of the operating system.
        reason: SwarmError,
    },
    /// The admin API cannot listen.
    #[error("the admin API cannot listen on {address}: choose another --admin: {error}")]
    Admin {
        /// The address on which it should listen.
        address: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file of events cannot be opened.
    #[error("{}: {error}", path.display())]
    Journal {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file of events could not be written completely.
    #[error("events: {0}")]
    Events(io::Error),
    /// The system provides no thread, no runtime or no signals.
    #[error("the system gives no thread or no signals: {0}")]
    System(#[from] io::Error),
    /// A thread of the relay has panicked. Its message is in the log.
    #[error("the organisation's carrier has failed: its message stands above")]
    Failed,
}
