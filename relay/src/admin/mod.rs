//! The operator's access to a relay: HTTP, and a WebSocket of events.
//!
//! ```text
//! GET  /healthz                                     open to all
//! GET  /metrics                                     Prometheus
//! GET  /api/v1/version
//! GET  /api/v1/events                               WebSocket: what happens, a JSON object each
//! GET  /api/v1/audit?last=N                         who changed what
//! POST /api/v1/drain, /api/v1/undrain               all organisations
//! GET, POST    /api/v1/organisations                POST {"id", "name", "port", "quotas"}
//! GET, DELETE  /api/v1/organisations/ORG            ORG: id, its beginning, or name
//! GET, PUT     /api/v1/organisations/ORG/quotas     {"members", "channels", "kbps", "packets"}
//! GET          /api/v1/organisations/ORG/sessions
//! DELETE       /api/v1/organisations/ORG/sessions/DEVICE
//! GET          /api/v1/organisations/ORG/channels
//! GET, POST    /api/v1/organisations/ORG/bans       POST {"device", "seconds"}
//! DELETE       /api/v1/organisations/ORG/bans/DEVICE
//! GET          /api/v1/organisations/ORG/metering
//! POST         /api/v1/organisations/ORG/drain, …/undrain
//! ```
//!
//! All but `/healthz` need `Authorization: Bearer TOKEN`. Failures are answered with
//! `{"error": "…"}`.

mod api;
mod door;
mod metrics;
mod server;
mod socket;

use std::sync::{Arc, atomic::AtomicU64};

use hark_keys::Timestamp;
use hark_node::{clock::Clock, token::ApiToken};
use tokio::sync::Semaphore;

pub use server::AdminServer;

use crate::{audit::Audit, event::Events, tenants::Tenants};

/// The parts on which the API works.
pub struct Admin {
    tenants: Arc<Tenants>,
    events: Arc<Events>,
    audit: Audit,
    token: ApiToken,
    clock: Clock,
    started: Timestamp,
    failures: door::Failures,
    refused: AtomicU64,
    sockets: Arc<Semaphore>,
}

impl Admin {
    /// An API that is open to clients with `token`.
    pub fn new(
        tenants: Arc<Tenants>,
        events: Arc<Events>,
        audit: Audit,
        token: ApiToken,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            tenants,
            events,
            audit,
            token,
            clock,
            started: clock.now(),
            failures: door::Failures::default(),
            refused: AtomicU64::new(0),
            sockets: Arc::new(Semaphore::new(socket::SOCKETS_MAX)),
        })
    }
}
