//! What this device does for others as a relay: which devices are attached, and which of them want
//! to reach which.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{DeviceId, List, TargetId, Timestamp};

use super::announcement::Announcement;
use crate::message::{Roster, Route, WANTED_MAX, Wanted};

/// The relay's side. The forwarder gives out the slots.
#[derive(Default)]
pub(super) struct Serving {
    draining: bool,
    /// When relaying ends.
    ends_at: Option<Timestamp>,
    slots: BTreeMap<DeviceId, u16>,
    peers: BTreeMap<DeviceId, Peer>,
    /// Peers whose rosters may have changed.
    stale: BTreeSet<DeviceId>,
    /// When this device's offer is next repeated, and the number of the last one.
    offer_at: Option<Timestamp>,
    offers: u64,
    rate_kbps: u32,
}

/// A linked peer that may use us as a relay.
#[derive(Default)]
struct Peer {
    /// The newest number that it has sent.
    wanted_number: u64,
    wanted: BTreeSet<DeviceId>,
    routes: BTreeMap<TargetId, u64>,
    /// The newest number of a route that was closed.
    closed: u64,
    /// Until when its requests so far use up its rate.
    paid_until: Timestamp,
    roster: Announcement<Vec<(DeviceId, u16)>>,
    draining: Announcement<bool>,
    /// The announcement that we relay.
    offer: Announcement<()>,
}

/// Something to tell a peer.
pub(super) enum Notice {
    Roster(Roster),
    Draining(u64, bool),
    /// Sent directly, since gossip comes only every 10 s and does not reach a peer that the swarm
    /// hardly knows yet.
    Offer {
        told: u64,
        number: u64,
        lease: Duration,
        rate: u32,
    },
}

impl Serving {
    /// An infrastructure relay. It makes no offer, since the charter names it.
    pub(super) fn infrastructure() -> Self {
        Self::default()
    }

    /// A volunteer that can send `rate_kbps`, 0 meaning any rate. Its first offer has a number
    /// above `after`.
    pub(super) fn volunteer(now: Timestamp, after: u64, rate_kbps: u32) -> Self {
        Self { offer_at: Some(now), offers: after, rate_kbps, ..Self::default() }
    }

    /// There is a new link to `device`. Its requests stay valid unless it has restarted. It is told
    /// everything again.
    pub(super) fn link_up(&mut self, device: DeviceId, restarted: bool) {
        let peer = self.peers.entry(device).or_default();
        if restarted {
            *peer = Peer::default();
        }
        peer.roster.link_up();
        peer.draining.link_up();
        peer.offer.link_up();
        self.stale.insert(device);
    }

    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.peers.remove(&device);
        self.stale.remove(&device);
        self.slots.remove(&device);
        self.mark(device);
    }

    /// `device` has this slot.
    pub(super) fn attached(&mut self, device: DeviceId, slot: u16) {
        if self.peers.contains_key(&device) {
            self.slots.insert(device, slot);
            self.mark(device);
        }
    }

    /// Relaying will end soon.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.ends_at = Some(now + END_AFTER);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ends_at.is_some()
    }

    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|at| at <= now)
    }

    pub(super) fn set_draining(&mut self, draining: bool) {
        if self.draining != draining {
            self.draining = draining;
            self.stale.extend(self.peers.keys().copied());
        }
    }

    /// A peer says which devices it wants to reach. Returns false if it sends too much.
    pub(super) fn take_wanted(&mut self, now: Timestamp, from: DeviceId, wanted: &Wanted) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if !peer.may_say(now) {
            return false;
        }
        if wanted.number > peer.wanted_number {
            peer.wanted_number = wanted.number;
            peer.wanted = wanted.devices.iter().copied().collect();
            self.stale.insert(from);
        }
        true
    }

    /// A peer says where its frames are to be forwarded. Returns false if it must say so again: a
    /// later message has overtaken this one, it has too many targets, or it sends too much.
    pub(super) fn take_route(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        id: TargetId,
        route: &Route,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if !peer.may_say(now) {
            return false;
        }
        let newest = peer.routes.get(&id).copied().unwrap_or(peer.closed);
        if route.number <= newest {
            return false;
        }
        if route.only.as_ref().is_some_and(|only| only.is_empty()) {
            peer.routes.remove(&id);
            peer.closed = peer.closed.max(route.number);
        } else if peer.routes.len() < ROUTES_MAX || peer.routes.contains_key(&id) {
            peer.routes.insert(id, route.number);
        } else {
            return false;
        }
        true
    }

    /// The next notice for a peer.
    pub(super) fn poll(&mut self, now: Timestamp, numbers: &mut u64) -> Option<(DeviceId, Notice)> {
        while let Some(device) = self.stale.first().copied() {
            let Some(peer) = self.peers.get_mut(&device) else {
                self.stale.remove(&device);
                continue;
            };
            // A peer is not told that draining ended if it was never told that it began.
            let draining = self.draining || peer.draining.told().is_some();
            if draining && let Some(number) = peer.draining.poll(now, &self.draining, numbers) {
                return Some((device, Notice::Draining(number, self.draining)));
            }
            let offers = self.offer_at.is_some() && !self.draining;
            if offers && let Some(told) = peer.offer.poll(now, &(), numbers) {
                let (number, rate) = (self.offers, self.rate_kbps);
                return Some((device, Notice::Offer { told, number, lease: LEASE, rate }));
            }
            let slots: Vec<_> = peer
                .wanted
                .iter()
                .filter_map(|device| Some((*device, *self.slots.get(device)?)))
                .collect();
            self.stale.remove(&device);
            if (peer.wanted_number > 0 || peer.roster.told().is_some())
                && let Some(number) = peer.roster.poll(now, &slots, numbers)
            {
                let slots = List::<_, WANTED_MAX>::truncated(slots);
                return Some((device, Notice::Roster(Roster { number, slots })));
            }
        }
        None
    }

    /// A peer has accepted, or not, what it was told under `number`.
    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(peer) = self.peers.get_mut(&device) {
            let _ = peer.roster.handle_answer(now, number, taken)
                || peer.draining.handle_answer(now, number, taken)
                || peer.offer.handle_answer(now, number, taken);
        }
    }

    /// The number, lease and rate of the offer that is due.
    pub(super) fn offer_due(&mut self, now: Timestamp) -> Option<(u64, Duration, u32)> {
        self.offer_at.filter(|at| *at <= now)?;
        self.offer_at = Some(now + OFFER_INTERVAL);
        self.offers += 1;
        let lease = if self.draining { Duration::ZERO } else { LEASE };
        Some((self.offers, lease, self.rate_kbps))
    }

    /// The content of the offer has changed, so it is sent soon.
    pub(super) fn renew_offer(&mut self, now: Timestamp) {
        self.offer_at = self.offer_at.map(|at| at.min(now));
    }

    /// The number of the last offer.
    pub(super) fn offers(&self) -> u64 {
        self.offers
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let again = self.peers.iter().filter(|(_, peer)| peer.timeouts().any(due));
        self.stale.extend(again.map(|(device, _)| *device));
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let peers = self.peers.values();
        peers
            .flat_map(|peer| peer.timeouts().flatten())
            .chain(self.offer_at)
            .chain(self.ends_at)
            .min()
    }

    /// Peers that want to reach `device` are told its slot again.
    fn mark(&mut self, device: DeviceId) {
        let wants = self.peers.iter().filter(|(_, peer)| peer.wanted.contains(&device));
        self.stale.extend(wants.map(|(peer, _)| *peer));
    }
}

impl Peer {
    /// Whether it may send one more request now. [PROTO-10.11]
    fn may_say(&mut self, now: Timestamp) -> bool {
        let after = self.paid_until.max(now) + SAYING_COSTS;
        let within = after.saturating_duration_since(now) <= SAYING_BURST;
        if within {
            self.paid_until = after;
        }
        within
    }

    /// When each thing is to be announced to it again.
    fn timeouts(&self) -> impl Iterator<Item = Option<Timestamp>> {
        [self.roster.timeout(), self.draining.timeout(), self.offer.timeout()].into_iter()
    }
}

/// Requests that one peer may send about its routes and the devices it wants to reach. The rate is
/// 32 per second, since each request makes lists of listeners again. As many are allowed at once as
/// a talker sends when it changes the way of all its targets. Further ones are refused.
const SAYING_COSTS: Duration = Duration::from_micros(31_250);
const SAYING_BURST: Duration = Duration::from_secs(6);

/// Most targets of one peer that are forwarded.
const ROUTES_MAX: usize = 64;

/// How long a volunteer that stops still forwards. Talkers are told at once, but the messages may
/// have to be repeated.
const END_AFTER: Duration = Duration::from_secs(2);

/// How often an offer is repeated.
const OFFER_INTERVAL: Duration = Duration::from_secs(10);

/// How long an offer counts. Gossip may lose one.
const LEASE: Duration = Duration::from_secs(30);
