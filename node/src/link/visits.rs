//! Visits: connections of newcomers with relays, which carry packets to doors and nothing else.
//! [PROTO-3.10] [PROTO-3.20]
//!
//! ```text
//!  newcomer ── knock, tunnel ──> relay ── the same ──> door     the Hello that counts is in there
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hark_keys::{DeviceId, Timestamp};
use hark_mesh::datagram::{KIND_KNOCK, KIND_TUNNEL};
use quinn::Connection;

use super::{
    fast::{DatagramSender, FastPath},
    links::{CloseCode, LinkEvent, Links},
    lobby::Origin,
    places::{Full, Places},
};

/// The visits that stand, at a relay or at a newcomer.
pub(super) struct Visits(Mutex<Standing>);

struct Standing {
    /// The visits, by the device at the other end.
    visits: BTreeMap<DeviceId, Arc<Visit>>,
    /// At a relay: the newcomers' places, shared by origin and invite.
    places: Places<Share>,
    taken: BTreeMap<u64, DeviceId>,
}

/// The keys by which the places of newcomers are shared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    Origin(Origin),
    Invite(DeviceId),
}

/// A connection whose Hello the relay has refused because it leads the newcomer to doors instead.
pub(super) struct Visit {
    device: DeviceId,
    connection: Connection,
    fast: FastPath,
    /// The key of the invite that the newcomer has shown. `None` if this device is the newcomer.
    invite: Option<DeviceId>,
}

impl Visit {
    pub(super) fn new(
        device: DeviceId,
        connection: Connection,
        fast: FastPath,
        invite: Option<DeviceId>,
    ) -> Self {
        Self { device, connection, fast, invite }
    }

    /// Whether this device is the newcomer.
    fn is_ours(&self) -> bool {
        self.invite.is_none()
    }
}

impl Default for Visits {
    fn default() -> Self {
        let places = Places::new(VISITS_MAX, VISITS_MAX / 2, VISIT_SPARED);
        Self(Mutex::new(Standing { visits: BTreeMap::new(), places, taken: BTreeMap::new() }))
    }
}

impl Standing {
    /// Takes a visit of a device that has no other one. Returns the visit that ends for it, if one
    /// does.
    fn admit(&mut self, now: Timestamp, visit: &Arc<Visit>) -> Result<Option<Arc<Visit>>, Full> {
        let mut ended = None;
        if let Some(invite) = visit.invite {
            let origin = Origin::of(visit.connection.remote_address());
            let shares = [Share::Origin(origin), Share::Invite(invite)];
            let (place, instead) = self.places.take(now, &shares)?;
            let instead = instead.and_then(|instead| self.taken.remove(&instead));
            ended = instead.and_then(|instead| self.visits.remove(&instead));
            self.taken.insert(place, visit.device);
        } else if self.visits.len() >= VISITED_MAX {
            return Err(Full);
        }
        self.visits.insert(visit.device, Arc::clone(visit));
        Ok(ended)
    }

    fn remove(&mut self, device: DeviceId) -> Option<Arc<Visit>> {
        let visit = self.visits.remove(&device)?;
        let place = self.taken.iter().find(|(_, it)| **it == device).map(|(place, _)| *place);
        if let Some(place) = place {
            self.taken.remove(&place);
            self.places.leave(place);
        }
        Some(visit)
    }
}

impl Visits {
    pub(super) fn outlet(&self, device: DeviceId) -> Option<Arc<DatagramSender>> {
        self.lock().visits.get(&device).map(|visit| Arc::clone(visit.fast.outlet()))
    }

    /// The relays that this device visits as a newcomer.
    fn relays(&self) -> Vec<DeviceId> {
        let standing = self.lock();
        standing.visits.values().filter(|visit| visit.is_ours()).map(|visit| visit.device).collect()
    }

    /// Ends the visit of `device`, because there is a link now that does everything the visit did.
    pub(super) fn end(&self, device: DeviceId) {
        if let Some(visit) = self.lock().visits.get(&device) {
            CloseCode::Normal.close(&visit.connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // The visits are consistent between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    /// The relays that lead this device, a newcomer, to doors.
    pub fn visited(&self) -> Vec<DeviceId> {
        self.visits().relays()
    }

    /// Takes a visit, at the relay or at the newcomer. A newcomer's new visit replaces its former
    /// one. If all places are taken, a visit of the origin or invite with the most places ends.
    pub(super) fn admit_visit(self: &Arc<Self>, now: Timestamp, visit: Visit) {
        let visit = Arc::new(visit);
        let (before, admitted) = {
            let mut standing = self.visits().lock();
            (standing.remove(visit.device), standing.admit(now, &visit))
        };
        if let Some(before) = &before {
            CloseCode::Duplicate.close(&before.connection);
        }
        let instead = match (admitted, before) {
            (Ok(instead), _) => instead,
            (Err(Full), before) => {
                CloseCode::Refused.close(&visit.connection);
                before.iter().for_each(|before| self.visit_ended(before));
                return;
            }
        };
        if let Some(instead) = instead {
            CloseCode::Normal.close(&instead.connection);
            self.visit_ended(&instead);
        }
        if visit.is_ours() {
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
        // The visit ends in the same way whether the connection closed or the time is up.
        let _ = tokio::time::timeout(VISIT_LASTS, served).await;
        CloseCode::Normal.close(&visit.connection);
        visit.fast.end();
        {
            let mut standing = self.visits().lock();
            if !standing.visits.get(&device).is_some_and(|it| Arc::ptr_eq(it, &visit)) {
                return;
            }
            standing.remove(device);
        }
        self.visit_ended(&visit);
    }

    fn visit_ended(&self, visit: &Visit) {
        if !visit.is_ours() {
            self.tell(LinkEvent::VisitEnded(visit.device));
        } else if self.best(visit.device).is_none() {
            self.tunnels().remove_relay(visit.device);
        }
    }

    fn handle_visit(&self, visit: &Visit, datagram: Bytes) {
        let now = self.clock().now();
        if visit.is_ours() {
            self.tunnels().receive(now, visit.device, &datagram);
        } else {
            self.handle(now, visit.device, datagram);
        }
    }
}

/// Newcomers that a relay serves at once. One invite may have half of these places, and fewer the
/// more invites there are; within an invite, addresses share the places in the same way. If there
/// is no place, a visit of the largest share ends. If there is none that may end, the newcomer is
/// refused and tries again.
const VISITS_MAX: usize = 64;

/// How long a newcomer's place is safe from others of its invite whose share is as large: as long
/// as it takes to join through a door.
const VISIT_SPARED: Duration = Duration::from_secs(5);

/// Relays that a newcomer visits at once. It leaves further ones alone.
const VISITED_MAX: usize = 64;

/// How long a visit lasts. A newcomer that has found no door by then must visit again.
const VISIT_LASTS: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Regression: one valid ticket filled all places of a relay with made-up devices, and nobody
    /// else was led to a door. [PROTO-3.10] [PROTO-3.20]
    #[test]
    fn one_ticket_leaves_room_for_others() {
        let mut places = Places::new(VISITS_MAX, VISITS_MAX / 2, VISIT_SPARED);
        let invite = |number| Share::Invite(DeviceId::from_bytes([number; 32]).unwrap());
        let origin = |number: u16| {
            let [a, b] = number.to_be_bytes();
            Share::Origin(Origin::of(([192, 0, a, b], 7_000).into()))
        };
        let now = Timestamp::from_millis(1);
        for number in 0..10_000 {
            let _ = places.take(now, &[origin(number % 100), invite(1)]);
        }
        assert_eq!(places.len(), VISITS_MAX / 2);
        // Holders of another ticket come in, also from an address that the first ticket's holders
        // use.
        for number in 0..8 {
            assert!(matches!(places.take(now, &[origin(number), invite(2)]), Ok((_, None))));
        }
        // Further holders of the first ticket can only take places from each other.
        let others = VISITS_MAX / 2..VISITS_MAX / 2 + 8;
        for number in 0..100 {
            if let Ok((_, gone)) = places.take(now, &[origin(200 + number), invite(1)]) {
                let gone = usize::try_from(gone.unwrap()).unwrap();
                assert!(!others.contains(&gone), "{gone}");
            }
        }
        // Holders of the first ticket come in again as time passes.
        assert!(places.take(now + VISIT_SPARED, &[origin(200), invite(1)]).is_ok());
        assert!(places.len() <= VISITS_MAX);
    }
}
