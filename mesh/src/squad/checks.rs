//! Finds out whether strangers reach this device where others see it. [PROTO-5.9] [PROTO-5.21]
//! [PROTO-5.20]
//!
//! ```text
//!  Observed ─> checkers, addresses ── Check ──> a peer that sees us there
//!                                                 │ one packet, from a port that is new to our NAT
//!  checked  <── handle_checked <── the socket that listens
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, Random, Timestamp};
use zeroize::Zeroizing;

use super::{MessageError, Purpose, Squad, SquadEvent, SquadTransmit, reconcile::Dirty};
use crate::{
    AddressKind,
    dialling::can_be_dialled,
    message::{Check, CheckNonce, Message},
};

/// The result for one address of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The address at which others see this device, or could see it.
    pub address: SocketAddr,
    /// Whether a stranger's packet has arrived.
    pub reachable: bool,
    /// When this was found.
    pub at: Timestamp,
}

/// The checks that this device has others make.
pub(super) struct Checks {
    random: Arc<dyn Random>,
    /// Peers, or what they say, have changed since they were last evaluated.
    stale: bool,
    /// The peers that can be asked, best first.
    checkers: Vec<Checker>,
    addresses: BTreeMap<SocketAddr, Address>,
    attempt: Option<Attempt>,
    /// Whether the results have changed since they were last reported.
    changed: bool,
    /// The nonce that the driver was last told to await.
    awaited: Option<CheckNonce>,
    asked: u64,
    /// No peer is asked before this time.
    rests_until: Timestamp,
}

/// A peer that sees this device from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Checker {
    /// False for a relay that the charter names; these come first.
    pub(super) is_member: bool,
    pub(super) device: DeviceId,
    /// The address at which it sees this device's listening socket.
    pub(super) sees: SocketAddr,
}

/// An address at which this device might be reached.
struct Address {
    result: Option<(bool, Timestamp)>,
    /// Whether a relay has found the result, or was at least asked.
    by_relay: bool,
    ask_at: Timestamp,
    /// The peers that declined to check it this time.
    declined: BTreeSet<DeviceId>,
}

/// A check under way.
struct Attempt {
    address: SocketAddr,
    checker: Checker,
    nonce: CheckNonce,
    /// How often it was requested, and the number of the last request.
    tries: u8,
    number: u64,
    /// Whether the checker has agreed to the last request.
    taken: bool,
    until: Timestamp,
}

impl Checks {
    pub(super) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            stale: false,
            checkers: Vec::new(),
            addresses: BTreeMap::new(),
            attempt: None,
            changed: false,
            awaited: None,
            asked: 0,
            rests_until: Timestamp::ZERO,
        }
    }

    /// Notes that peers, or what they say, have changed.
    pub(super) fn mark(&mut self) {
        self.stale = true;
    }

    /// Updates the peers that can be asked. `own` are addresses at which this device listens.
    pub(super) fn weigh(
        &mut self,
        now: Timestamp,
        checkers: impl Iterator<Item = Checker>,
        own: &[SocketAddr],
    ) {
        self.checkers = checkers.collect();
        self.checkers.sort_unstable();
        let candidates = self.candidates(own);
        let checkers = &self.checkers;
        // If nobody is left who could report another address, earlier results hold for a while.
        let seen = |address: &SocketAddr| checkers.iter().any(|it| it.is_of_family(address));
        let keeps = |address: &SocketAddr, known: &Address| {
            candidates.contains(address) || known.result.is_some() && !seen(address)
        };
        for (_, known) in self.addresses.extract_if(.., |address, known| !keeps(address, known)) {
            self.changed |= known.result.is_some();
        }
        for address in candidates {
            let soon = || now + FIRST_AFTER + spread(&*self.random, FIRST_SPREAD);
            let known = self.addresses.entry(address).or_insert_with(|| Address {
                result: None,
                by_relay: false,
                ask_at: soon(),
                declined: BTreeSet::new(),
            });
            let relays = checkers.iter().any(|it| !it.is_member && it.can_check(address));
            if relays && known.result.is_some() && !known.by_relay {
                known.by_relay = true;
                known.ask_at = known.ask_at.min(soon());
            }
        }
        let addresses = &self.addresses;
        self.attempt.take_if(|attempt| {
            !addresses.contains_key(&attempt.address) || !checkers.contains(&attempt.checker)
        });
    }

    /// Returns the next peer to ask, the number of the request, and the request.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<(DeviceId, u64, Check)> {
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.until <= now) {
            if !attempt.taken {
                self.decline(&attempt);
            } else if attempt.tries < TRIES {
                let Attempt { address, checker, nonce, tries, .. } = attempt;
                return Some(self.ask(now, address, checker, nonce, tries + 1));
            } else {
                self.conclude(now, attempt.address, false);
            }
        }
        if self.attempt.is_some() || now < self.rests_until {
            return None;
        }
        loop {
            let mut due = self.addresses.iter().filter(|(_, known)| known.ask_at <= now);
            let (address, known) = due.next().map(|(address, known)| (*address, known))?;
            let may = known.declined.len() < CHECKERS_MAX;
            let willing = |it: &&Checker| {
                may && it.can_check(address) && !known.declined.contains(&it.device)
            };
            if let Some(checker) = self.checkers.iter().find(willing).copied() {
                let nonce = CheckNonce::generate(&*self.random);
                return Some(self.ask(now, address, checker, nonce, 1));
            }
            self.put_off(now, address);
        }
    }

    fn ask(
        &mut self,
        now: Timestamp,
        address: SocketAddr,
        checker: Checker,
        nonce: CheckNonce,
        tries: u8,
    ) -> (DeviceId, u64, Check) {
        self.asked += 1;
        let (number, until) = (self.asked, now + TRY_LASTS);
        self.rests_until = until;
        self.attempt =
            Some(Attempt { address, checker, nonce, tries, number, taken: false, until });
        (checker.device, number, Check { nonce, address })
    }

    /// The peer that was asked under `number` has agreed, or not.
    pub(super) fn handle_answer(&mut self, number: u64, taken: bool) {
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.number == number) {
            attempt.taken = taken;
            if !taken && let Some(attempt) = self.attempt.take() {
                self.decline(&attempt);
                // Another peer has not been asked yet.
                self.rests_until = Timestamp::ZERO;
            }
        }
    }

    /// A nonce has arrived at a listening socket.
    pub(super) fn handle_arrived(&mut self, now: Timestamp, nonce: CheckNonce) {
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.nonce == nonce) {
            self.conclude(now, attempt.address, true);
        }
    }

    /// Returns the nonce to await, if it has changed.
    pub(super) fn poll_awaited(&mut self) -> Option<Option<CheckNonce>> {
        let awaited = self.attempt.as_ref().map(|attempt| attempt.nonce);
        (std::mem::replace(&mut self.awaited, awaited) != awaited).then_some(awaited)
    }

    /// Whether the results have changed since the last call.
    pub(super) fn poll_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        match &self.attempt {
            Some(attempt) => Some(attempt.until),
            None => {
                let due = self.addresses.values().map(|known| known.ask_at).min();
                due.map(|at| at.max(self.rests_until))
            }
        }
    }

    /// The results, in the order of addresses.
    pub(super) fn results(&self) -> impl Iterator<Item = Checked> {
        self.addresses.iter().filter_map(|(address, known)| {
            let (reachable, at) = known.result?;
            Some(Checked { address: *address, reachable, at })
        })
    }

    fn decline(&mut self, attempt: &Attempt) {
        if let Some(known) = self.addresses.get_mut(&attempt.address) {
            known.declined.insert(attempt.checker.device);
            known.by_relay |= !attempt.checker.is_member;
        }
    }

    fn conclude(&mut self, now: Timestamp, address: SocketAddr, reachable: bool) {
        let again_at = now + AGAIN_AFTER + spread(&*self.random, AGAIN_SPREAD);
        let best = self.checkers.iter().find(|it| it.can_check(address));
        let Some(known) = self.addresses.get_mut(&address) else { return };
        self.changed |= known.result.map(|it| it.0) != Some(reachable);
        known.result = Some((reachable, now));
        known.by_relay |= best.is_some_and(|it| !it.is_member);
        known.ask_at = again_at;
        known.declined.clear();
    }

    /// Asks again later, since nobody agrees or nobody is there.
    fn put_off(&mut self, now: Timestamp, address: SocketAddr) {
        let later = now + LATER_AFTER + spread(&*self.random, LATER_SPREAD);
        let Some(known) = self.addresses.get_mut(&address) else { return };
        known.declined.clear();
        known.ask_at = later;
        if known.result.is_some_and(|(_, at)| now >= at + HOLDS_FOR) {
            known.result = None;
            self.changed = true;
            if !self.checkers.iter().any(|it| it.can_check(address)) {
                self.addresses.remove(&address);
            }
        }
    }

    /// The addresses at which this device can perhaps be reached. For each address family it takes
    /// the one at which most of the peers that can be asked see it; relays count twice. It adds the
    /// listening port on that host, since a router that forwards this port may send from another
    /// one.
    fn candidates(&self, own: &[SocketAddr]) -> BTreeSet<SocketAddr> {
        let mut candidates = BTreeSet::new();
        for family in [true, false] {
            let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
            for checker in self.checkers.iter().filter(|it| it.sees.is_ipv4() == family) {
                *votes.entry(checker.sees).or_default() += if checker.is_member { 1 } else { 2 };
            }
            // Of equals, the known one wins. Otherwise each peer that comes would cause all to be
            // asked again.
            let best = votes
                .into_iter()
                .max_by_key(|(address, votes)| (*votes, self.addresses.contains_key(address)));
            let Some((seen, _)) = best else { continue };
            candidates.insert(seen);
            let listening = own.iter().find(|own| {
                own.is_ipv4() == family && AddressKind::of(own.ip()) != AddressKind::Public
            });
            candidates
                .extend(listening.map(|listening| SocketAddr::new(seen.ip(), listening.port())));
        }
        candidates
    }
}

impl Checker {
    /// Whether the peer would send to `address`.
    fn can_check(&self, address: SocketAddr) -> bool {
        self.sees.ip() == address.ip()
    }

    fn is_of_family(&self, address: &SocketAddr) -> bool {
        self.sees.is_ipv4() == address.is_ipv4()
    }
}

/// The checks that this device makes for others.
#[derive(Default)]
pub(super) struct ChecksMade {
    /// Peers that were recently served, and when.
    recent: BTreeMap<DeviceId, Timestamp>,
    /// Until when the checks made so far use up the rate of all peers together.
    paid_until: Timestamp,
}

impl ChecksMade {
    /// Whether one more check is made for `peer` now.
    pub(super) fn may(&mut self, now: Timestamp, peer: DeviceId) -> bool {
        self.recent.retain(|_, at| now < *at + PEER_INTERVAL);
        let after = self.paid_until.max(now) + COSTS;
        let within = after.saturating_duration_since(now) <= BURST;
        let may = within && !self.recent.contains_key(&peer);
        if may {
            self.paid_until = after;
            self.recent.insert(peer, now);
        }
        may
    }
}

impl Squad {
    /// The results of asking others whether strangers reach this device, in the order of addresses.
    pub fn checked(&self) -> impl Iterator<Item = Checked> {
        self.checks.results()
    }

    /// The nonce of [`SquadEvent::AwaitCheck`] has arrived at a listening socket.
    pub fn handle_checked(&mut self, now: Timestamp, nonce: CheckNonce) {
        self.checks.handle_arrived(now, nonce);
        self.mark(now, Dirty::PATHS);
    }

    /// Sends a check for `from` to its own host, and nowhere else.
    pub(super) fn take_check(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        check: Check,
    ) -> Result<(), MessageError> {
        let Check { nonce, address } = check;
        let is_there = self.paths.address_of(from).is_some_and(|it| it.ip() == address.ip());
        if self.relay_only || !is_there || !can_be_dialled(address) {
            return Err(MessageError::NotThere);
        }
        if !self.checks_made.may(now, from) {
            return Err(MessageError::Busy);
        }
        self.push(SquadTransmit::Check { to: address, nonce });
        Ok(())
    }

    /// Asks peers that see this device from outside whether strangers reach it.
    pub(super) fn settle_checks(&mut self, now: Timestamp) {
        if self.member.is_none() || self.relay_only {
            return;
        }
        if std::mem::take(&mut self.checks.stale) {
            let links = &self.links;
            let is_member = |device| links.get(&device).is_some_and(|link| link.member.is_some());
            let checkers = self.paths.outsiders().map(|(device, sees)| Checker {
                is_member: is_member(device),
                device,
                sees,
            });
            self.checks.weigh(now, checkers, &self.presence.addresses);
        }
        if let Some((to, number, check)) = self.checks.poll(now) {
            let message = Message::Check(check).encode();
            self.send(to, Purpose::Check(number), Zeroizing::new(message));
        }
        let awaited = self.checks.poll_awaited().map(SquadEvent::AwaitCheck);
        let changed = self.checks.poll_changed().then_some(SquadEvent::Checked);
        if changed.is_some()
            && let Some(serving) = &mut self.serving
        {
            serving.renew_offer(now);
        }
        self.events.extend(awaited.into_iter().chain(changed));
    }
}

fn spread(random: &dyn Random, over: Duration) -> Duration {
    let mut bytes = [0; 2];
    random.fill(&mut bytes);
    over * u32::from(u16::from_be_bytes(bytes)) / u32::from(u16::MAX)
}

/// A new address is asked about after this delay, plus a random part. So a thousand devices that
/// start together do not ask one relay at the same time. [PROTO-5.30]
const FIRST_AFTER: Duration = Duration::from_secs(2);
const FIRST_SPREAD: Duration = Duration::from_secs(4);

/// How long a packet is awaited before it is requested again.
const TRY_LASTS: Duration = Duration::from_secs(3);

/// Number of requests after which an address counts as unreachable for strangers.
const TRIES: u8 = 3;

/// Peers that are asked one after another until one agrees.
const CHECKERS_MAX: usize = 4;

/// Delay before asking again if none agrees.
const LATER_AFTER: Duration = Duration::from_secs(20);
const LATER_SPREAD: Duration = Duration::from_secs(40);

/// Delay before an existing result is checked again.
///
/// A shorter delay notices sooner what a person has changed at the router, but costs a relay more:
/// each member's check is a packet.
const AGAIN_AFTER: Duration = Duration::from_secs(570);
const AGAIN_SPREAD: Duration = Duration::from_secs(60);

/// How long a result holds while nobody can say otherwise.
const HOLDS_FOR: Duration = Duration::from_secs(900);

/// A peer gets one check in this time, which is shorter than [`TRY_LASTS`].
const PEER_INTERVAL: Duration = Duration::from_secs(2);

/// Together all peers get 16 checks per second, and 32 at once. A peer beyond that is refused, and
/// asks another peer or asks later.
const COSTS: Duration = Duration::from_micros(62_500);
const BURST: Duration = Duration::from_secs(2);
