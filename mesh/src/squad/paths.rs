use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};
use zeroize::Zeroizing;

use super::{Purpose, Squad, announcement::Announcement, reconcile::Dirty};
use crate::{
    AddressKind, Dial, List, Way,
    dialling::can_be_dialled,
    message::{CANDIDATES_MAX, Candidates, Message},
};

/// How the packets of a linked peer arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSeen {
    /// Directly from this address.
    Direct(SocketAddr),
    /// Directly from this address, through NATs that were opened on purpose.
    Punched(SocketAddr),
    /// Through a relay.
    Relayed,
}

/// Paths to peers: through relays that lead there, or without them if NATs can be opened.
/// [PROTO-5.6]
#[derive(Default)]
pub(super) struct Paths {
    /// The devices that relays lead to.
    led: BTreeSet<DeviceId>,
    /// Whether the set of these devices may have changed.
    stale: bool,
    /// How linked peers are seen.
    seen: BTreeMap<DeviceId, Sight>,
    /// The address at which each linked peer sees this device's listening socket.
    observed: BTreeMap<DeviceId, SocketAddr>,
    /// The last attempt with each peer to open the NATs in between.
    rounds: BTreeMap<DeviceId, Round>,
    dials: VecDeque<Dial>,
}

/// How a linked peer is seen, and what it was told about it.
struct Sight {
    seen: PathSeen,
    told: Announcement<SocketAddr>,
}

/// An attempt to open the NATs between this device and a peer.
struct Round {
    began: Timestamp,
    /// Addresses at which others see the peer.
    candidates: Vec<SocketAddr>,
    /// Whether the second half is still to come.
    first_half: bool,
}

impl Paths {
    /// There is a new link. How the peer is seen is not known yet. The addresses that the peer has
    /// reported stay valid, since the peer may not notice a new link.
    pub(super) fn link_up(&mut self, device: DeviceId) {
        self.seen.remove(&device);
        self.rounds.remove(&device);
    }

    pub(super) fn link_down(&mut self, device: DeviceId) {
        self.link_up(device);
        self.observed.remove(&device);
    }

    pub(super) fn relays_changed(&mut self) {
        self.stale = true;
    }

    pub(super) fn poll_dial(&mut self) -> Option<Dial> {
        self.dials.pop_front()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        for (device, round) in &mut self.rounds {
            if round.first_half && now >= round.began + FIRST_HALF {
                round.first_half = false;
                let sight = self.seen.get(device);
                if sight.is_some_and(|sight| sight.seen == PathSeen::Relayed) {
                    let addresses = std::mem::take(&mut round.candidates);
                    self.dials.push_back(Dial {
                        device: Some(*device),
                        addresses,
                        way: Way::Direct,
                    });
                }
            }
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let open = self.rounds.values().filter(|round| round.first_half);
        let halves = open.map(|round| round.began + FIRST_HALF);
        // A peer that is meanwhile reached only through a relay is told nothing.
        let told = self.seen.values().filter(|sight| sight.seen != PathSeen::Relayed);
        halves.chain(told.filter_map(|sight| sight.told.timeout())).min()
    }

    /// The next peer to tell where this device sees it, with the number of the announcement.
    /// [PROTO-5.7]
    fn poll_observed(
        &mut self,
        now: Timestamp,
        numbers: &mut u64,
    ) -> Option<(DeviceId, u64, SocketAddr)> {
        self.seen.iter_mut().find_map(|(device, sight)| {
            let (PathSeen::Direct(address) | PathSeen::Punched(address)) = sight.seen else {
                return None;
            };
            let number = sight.told.poll(now, &address, numbers)?;
            Some((*device, number, address))
        })
    }

    /// A peer has accepted, or not, what it was told under `number`.
    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(sight) = self.seen.get_mut(&device) {
            sight.told.handle_answer(now, number, taken);
        }
    }

    /// Addresses at which this device's socket is seen from outside: those that a relay reports, or
    /// that two other peers report.
    fn candidates(&self, is_relay: impl Fn(DeviceId) -> bool) -> List<SocketAddr, CANDIDATES_MAX> {
        let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (device, address) in &self.observed {
            let weight = if is_relay(*device) { 2 } else { 1 };
            *votes.entry(*address).or_default() += weight;
        }
        let confirmed =
            votes.into_iter().filter(|(address, votes)| *votes >= 2 && can_be_dialled(*address));
        List::truncated(confirmed.map(|(address, _)| address))
    }

    /// The address from which a linked peer's packets arrive, unless a relay passes them on.
    pub(super) fn address_of(&self, device: DeviceId) -> Option<SocketAddr> {
        match self.seen.get(&device)?.seen {
            PathSeen::Direct(address) | PathSeen::Punched(address) => Some(address),
            PathSeen::Relayed => None,
        }
    }

    /// Peers with public addresses, and the public address at which each sees this device's
    /// listening socket. Peers on the same host as that address are excluded.
    pub(super) fn outsiders(&self) -> impl Iterator<Item = (DeviceId, SocketAddr)> {
        let is_public = |address: SocketAddr| AddressKind::of(address.ip()) == AddressKind::Public;
        self.observed.iter().filter_map(move |(device, sees)| {
            let PathSeen::Direct(address) = self.seen.get(device)?.seen else { return None };
            let outside = is_public(address) && is_public(*sees) && address.ip() != sees.ip();
            outside.then_some((*device, *sees))
        })
    }

    pub(super) fn is_relayed(&self, device: DeviceId) -> bool {
        self.seen.get(&device).is_some_and(|sight| sight.seen == PathSeen::Relayed)
    }
}

impl Squad {
    /// Has the devices dialled through relays that relays lead to.
    pub(super) fn settle_paths(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.paths.stale) {
            return;
        }
        // A packet that already goes through a relay does not fit into a tunnel.
        let relays = self.relays.all().filter(|relay| !self.paths.is_relayed(*relay));
        let slots = relays.flat_map(|relay| self.relays.slots(relay));
        let led: BTreeSet<_> = slots.map(|(_, device)| device).collect();
        let before = std::mem::replace(&mut self.paths.led, led.clone());
        for device in before.difference(&led) {
            self.dialling.set_led(now, *device, false);
        }
        for device in led.difference(&before).filter(|device| **device != self.key.id()) {
            self.dialling.set_led(now, *device, true);
        }
    }

    /// The packets of the linked peer `device` arrive in this way from now on.
    pub fn handle_path(&mut self, now: Timestamp, device: DeviceId, seen: PathSeen) {
        if !self.links.contains_key(&device) {
            return;
        }
        match self.paths.seen.get_mut(&device) {
            Some(sight) if sight.seen == seen => return,
            Some(sight) => sight.seen = seen,
            None => {
                let told = Announcement::default();
                self.paths.seen.insert(device, Sight { seen, told });
            }
        }
        self.paths.stale |= self.relays.contains(device);
        if let PathSeen::Direct(address) = seen {
            self.dialling.met(device, address);
        }
        self.checks.mark();
        self.settle_dialling(now, device);
        self.mark(now, Dirty::PATHS);
    }

    /// Tells peers at which address they are seen, until they have accepted it.
    pub(super) fn tell_observed(&mut self, now: Timestamp) {
        while let Some((to, number, address)) = self.paths.poll_observed(now, &mut self.numbers) {
            let message = Message::Observed(address).encode();
            self.send(to, Purpose::Observed(number), Zeroizing::new(message));
        }
    }

    /// A linked peer that has been heard is dialled only if its link goes through a relay.
    pub(super) fn settle_dialling(&mut self, now: Timestamp, device: DeviceId) {
        if self.paths.is_relayed(device) {
            self.dialling.relayed(now, device);
        } else {
            self.dialling.connected(device, None);
        }
    }

    /// Whether a relay passes on the packets of a linked peer.
    pub fn is_relayed(&self, device: DeviceId) -> bool {
        self.paths.is_relayed(device)
    }

    /// Number of known addresses of `device`, and of dials since the last direct link.
    pub fn direct_attempts(&self, device: DeviceId) -> (usize, u32) {
        self.dialling.direct_attempts(device)
    }

    /// A direct dial begins. If the peer's link goes through a relay, both sides dial.
    pub(super) fn begin_upgrade(&mut self, dial: &Dial) {
        if let Some(device) = dial.device
            && self.paths.is_relayed(device)
        {
            self.send_candidates(device, false);
        }
    }

    /// `from` says at which address it sees this device. This is used only as an address to be
    /// dialled at.
    pub(super) fn take_observed(&mut self, now: Timestamp, from: DeviceId, address: SocketAddr) {
        // A peer that is reached from another socket sees that socket, not the listening one.
        let sight = self.paths.seen.get(&from);
        let listens = sight.is_some_and(|sight| matches!(sight.seen, PathSeen::Direct(_)));
        if !listens || !can_be_dialled(address) {
            return;
        }
        let before = self.candidates();
        if self.paths.observed.insert(from, address) != Some(address) {
            self.checks.mark();
            self.mark(now, Dirty::PATHS);
        }
        if self.candidates() != before {
            self.dialling.upgrade(now);
        }
    }

    /// `from`, whose link goes through a relay, says where others see it, so that both dial at one
    /// time.
    pub(super) fn take_candidates(&mut self, now: Timestamp, from: DeviceId, theirs: Candidates) {
        if !self.paths.is_relayed(from) {
            return;
        }
        if !theirs.answer {
            self.send_candidates(from, true);
        }
        let last = self.paths.rounds.get(&from);
        if last.is_some_and(|last| now < last.began + ROUND_INTERVAL) {
            return;
        }
        let candidates = self.dialling.punched(now, from, &theirs.addresses);
        // A device that dials alone opens nothing, and may spoil what both could open later.
        if candidates.is_empty() || self.candidates().is_empty() {
            return;
        }
        let aside = Dial { device: Some(from), addresses: candidates.clone(), way: Way::Aside };
        self.paths.dials.push_back(aside);
        self.paths.rounds.insert(from, Round { began: now, candidates, first_half: true });
    }

    fn candidates(&self) -> List<SocketAddr, CANDIDATES_MAX> {
        if self.relay_only {
            return List::default();
        }
        self.paths.candidates(|device| self.relays.contains(device))
    }

    fn send_candidates(&mut self, to: DeviceId, answer: bool) {
        let addresses = self.candidates();
        let message = Message::Candidates(Candidates { answer, addresses }).encode();
        self.send(to, Purpose::Candidates, Zeroizing::new(message));
    }
}

/// How long a round dials from another socket before it dials from the listening one.
///
/// If the peer's NAT lets in anybody, the first half is answered. That peer must not have sent
/// packets itself by then, since some NATs would then answer from another port. Less than a round
/// trip would be too short for that.
const FIRST_HALF: Duration = Duration::from_millis(500);

/// The shortest time between two rounds with a peer.
const ROUND_INTERVAL: Duration = Duration::from_millis(1_500);
