//! The local API: a WebSocket on the loopback interface, for overlays, stream decks and `hark ctl`.
//!
//! The running node writes `control.json` into its organisation's folder: `{"version": 2,
//! "address": "127.0.0.1:PORT", "token": "…"}`. A client connects to `ws://ADDRESS/`. Then both
//! prove to each other that they have the token, the node first. If the node has ended, another
//! program may listen at its address; that program learns nothing that opens the next node.
//!
//! ```text
//! client                                         node
//! {"nonce": "NC"}                           ─>
//!                                           <─   {"nonce": "NN", "proof": HMAC(token, "node NC NN")}
//! {"proof": HMAC(token, "client NC NN")}    ─>
//!                                           <─   {"ok": true}
//! ```
//!
//! NC and NN are 32 random bytes in hexadecimal digits. The proofs are HMAC-SHA256 (RFC 2104) in
//! hexadecimal digits, with the text of the token as the key. A client waits for each answer. From
//! then on, each message is one JSON request, and its answer repeats its `id`:
//!
//! ```text
//! {"id": 1, "command": "status"}                                   {"id": 1, "ok": true, "status": {…}}
//! {"id": 2, "command": "mute", "on": true}                         {"id": 2, "ok": true}
//! {"id": 3, "command": "invite", "uses": 0, "expires_secs": 3600}  {"id": 3, "ok": true, "ticket": "…", …}
//! {"id": 4, "command": "charter", "request": "show"}               {"id": 4, "ok": true, "answer": {…}}
//! {"id": 5, "command": "profile", "action": "use", "name": "pilot"}   {"id": 5, "ok": true}
//! {"id": 6, "command": "subscribe"}                                {"id": 6, "ok": true}, then events
//! {"id": 6, "command": "subscribe", "snapshots": true}             {"id": 6, "ok": true}, then also snapshots
//! {"id": 7, "command": "dance"}                                    {"id": 7, "ok": false, "error": "…"}
//! ```
//!
//! Every [`Command`] can be requested. Events are those of [`crate::event`], distinguished by their
//! field `event`. Web pages are kept out: the node refuses a connection whose headers name an
//! origin or another host.

mod client;
mod server;
mod service;

use std::{sync::Arc, sync::mpsc};

use hark_commands::{Outcome, Request};
use hark_keys::Ticket;
use serde::{Deserialize, Serialize};

pub use client::{Client, ControlError};
pub use server::{ControlServer, Subscription, answer};
pub use service::{ControlService, ServiceError};

use crate::{
    event::StampedEvent,
    request::{CommandOutcome, RequestError},
    snapshot::{Changes, Command, Snapshot, TicketRequest},
};

/// The running node that the local API controls.
pub trait Controlled: Send + Sync + 'static {
    /// The newest state. `None` in the first moments.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;

    /// Carries out a command. Fails with one line if it cannot be done.
    fn command(&self, command: Command) -> Result<CommandOutcome, RequestError>;

    /// A receiver of events from now on. The channel is bounded; a slow reader loses events.
    fn subscribe(&self) -> mpsc::Receiver<StampedEvent>;

    /// Tells when what a person sees of the node has changed from now on.
    fn changes(&self) -> Changes;

    /// Carries out a request to the charter. Fails with one line if it cannot be done.
    fn charter(&self, request: Request) -> Result<Outcome, RequestError>;

    /// Issues a new ticket. Fails with one line if it cannot.
    fn ticket(&self, request: TicketRequest) -> Result<Ticket, RequestError>;
}

#[cfg(feature = "device")]
impl Controlled for crate::node::NodeHandle {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        Self::snapshot(self)
    }

    fn command(&self, command: Command) -> Result<CommandOutcome, RequestError> {
        Self::command(self, command)
    }

    fn subscribe(&self) -> mpsc::Receiver<StampedEvent> {
        Self::subscribe(self)
    }

    fn changes(&self) -> Changes {
        Self::changes(self)
    }

    fn charter(&self, request: Request) -> Result<Outcome, RequestError> {
        Self::charter(self, request)
    }

    fn ticket(&self, request: TicketRequest) -> Result<Ticket, RequestError> {
        Self::ticket(self, request)
    }
}

/// The contents of `control.json`: the address of the API, and the secret that opens it.
#[derive(Clone, Serialize, Deserialize)]
struct Description {
    version: u32,
    address: std::net::SocketAddr,
    token: String,
}

/// Version of the API. It is raised when old clients would misunderstand.
const VERSION: u32 = 2;

/// Longest message in bytes, in either direction. A connection that sends a longer one is closed.
/// An exported charter is the longest message.
const MESSAGE_LIMIT: usize = 16 << 20;

#[cfg(test)]
mod tests;
