//! Connections of newcomers with relays: they carry packets to doors, and nothing else.
//! [PROTO-3.10]
//!
//! ```text
//!  newcomer ── knock, tunnel ──> relay ── the same ──> door     the Hello that counts is in there
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hark_keys::DeviceId;
use hark_mesh::datagram::{KIND_KNOCK, KIND_TUNNEL};
use quinn::Connection;

use super::{
    fast::{FastPath, Outlet},
    links::{CloseCode, LinkEvent, Links},
};

/// Those that stand, by the device at the other end.
#[derive(Default)]
pub(super) struct Visits(Mutex<BTreeMap<DeviceId, Arc<Visit>>>);

/// A connection whose Hello the relay has refused so that it leads on.
pub(super) struct Visit {
    device: DeviceId,
    connection: Connection,
    fast: FastPath,
    /// Whether this device is the newcomer.
    dialled: bool,
}

impl Visit {
    pub(super) fn new(
        device: DeviceId,
        connection: Connection,
        fast: FastPath,
        dialled: bool,
    ) -> Self {
        Self { device, connection, fast, dialled }
    }
}

impl Visits {
    pub(super) fn outlet(&self, device: DeviceId) -> Option<Arc<Outlet>> {
        self.lock().get(&device).map(|visit| Arc::clone(visit.fast.outlet()))
    }

    /// The relays that this device visits.
    fn relays(&self) -> Vec<DeviceId> {
        let visits = self.lock();
        visits.values().filter(|visit| visit.dialled).map(|visit| visit.device).collect()
    }

    /// There is a link now: it does all that the visit did.
    pub(super) fn end(&self, device: DeviceId) {
        if let Some(visit) = self.lock().get(&device) {
            CloseCode::Normal.close(&visit.connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Arc<Visit>>> {
        // The map is whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    /// The relays that lead this newcomer to doors.
    pub fn visited(&self) -> Vec<DeviceId> {
        self.visits().relays()
    }

    /// Takes a connection that the relay serves as a visit. At the relay the newest of a newcomer
    /// counts, and one too many is closed.
    pub(super) fn admit_visit(self: &Arc<Self>, visit: Visit) {
        let visit = Arc::new(visit);
        {
            let mut standing = self.visits().lock();
            let known = standing.get(&visit.device);
            if known.is_none() && standing.len() >= VISITS_MAX {
                CloseCode::Refused.close(&visit.connection);
                return;
            }
            if let Some(known) = known {
                CloseCode::Duplicate.close(&known.connection);
            }
            standing.insert(visit.device, Arc::clone(&visit));
        }
        if visit.dialled {
            self.tunnels().set_relay(visit.device, usize::MAX, BTreeMap::new());
        } else {
            self.tell(LinkEvent::Visit(visit.device));
        }
        tokio::spawn(Arc::clone(self).read_visit(visit));
    }

    async fn read_visit(self: Arc<Self>, visit: Arc<Visit>) {
        let device = visit.device;
        let served = async {
            while let Ok(datagram) = visit.connection.read_datagram().await {
                if matches!(datagram.first(), Some(&(KIND_KNOCK | KIND_TUNNEL))) {
                    self.handle_visit(&visit, datagram);
                }
            }
        };
        // Whether it came to its end, or was at it.
        let _ = tokio::time::timeout(VISIT_LASTS, served).await;
        CloseCode::Normal.close(&visit.connection);
        visit.fast.end();
        if let Entry::Occupied(place) = self.visits().lock().entry(device)
            && Arc::ptr_eq(place.get(), &visit)
        {
            place.remove();
        } else {
            return;
        }
        if !visit.dialled {
            self.tell(LinkEvent::VisitEnded(device));
        } else if self.best(device).is_none() {
            self.tunnels().remove_relay(device);
        }
    }

    fn handle_visit(&self, visit: &Visit, datagram: Bytes) {
        let now = self.clock().now();
        if visit.dialled {
            self.tunnels().receive(now, visit.device, &datagram);
        } else {
            self.handle(now, visit.device, datagram);
        }
    }
}

/// Newcomers that a relay serves at once; further ones try again.
const VISITS_MAX: usize = 64;

/// A newcomer that has found no door by then must come again.
const VISIT_LASTS: Duration = Duration::from_secs(60);
