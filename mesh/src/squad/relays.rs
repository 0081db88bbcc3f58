//! The relays that this device can use: whom each reaches, what it is to forward, who comes first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{DeviceId, List, Signed, TargetId, Timestamp};

use super::telling::Telling;
use crate::{
    Target,
    charter::State,
    message::{Offer, RECIPIENTS_MAX, Roster, Route, WANTED_MAX, Wanted},
    topology::{Candidate, Hop, Plan, rendezvous},
};

/// Relays that are linked, and offers to be one.
#[derive(Default)]
pub(super) struct Relays {
    attached: BTreeMap<DeviceId, Attachment>,
    offers: BTreeMap<DeviceId, Offered>,
}

/// What this device knows of, and has told, a relay that it has a link to.
#[derive(Default)]
struct Attachment {
    wanted: Telling<BTreeSet<DeviceId>>,
    /// The newest roster, and who is on it.
    roster: u64,
    slots: BTreeMap<DeviceId, u16>,
    serves: BTreeSet<DeviceId>,
    /// It is about to leave, and takes nothing more on.
    draining: bool,
    /// It did not answer a talker; not used until then.
    silent_until: Option<Timestamp>,
    routes: BTreeMap<TargetId, Routed>,
}

/// A target that a relay forwards.
struct Routed {
    target: Target,
    /// Whom it is to be forwarded to; the route goes once that is nobody.
    wanted: BTreeSet<DeviceId>,
    telling: Telling<BTreeSet<DeviceId>>,
    /// Whom the relay has agreed to forward it to.
    taken: BTreeSet<DeviceId>,
}

/// A member's offer, and until when it counts.
struct Offered {
    number: u64,
    until: Timestamp,
    rate_kbps: u32,
}

/// Something to tell a relay.
pub(super) enum RelayOrder {
    Wanted(Wanted),
    Route(Route),
}

impl Relays {
    /// There is a link to a relay, or a new one: it may know nothing of what was told before.
    pub(super) fn link_up(&mut self, relay: DeviceId, restarted: bool) {
        let attached = self.attached.entry(relay).or_default();
        if restarted {
            *attached = Attachment::default();
        }
        // One that drains says so again.
        attached.draining = false;
        attached.wanted.link_up();
        for routed in attached.routes.values_mut() {
            routed.telling.link_up();
            routed.taken.clear();
        }
    }

    pub(super) fn link_down(&mut self, relay: DeviceId) -> bool {
        self.attached.remove(&relay).is_some()
    }

    /// Whether there is none that is linked.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Whether `device` is a relay that is linked.
    pub(super) fn contains(&self, device: DeviceId) -> bool {
        self.attached.contains_key(&device)
    }

    /// Takes an offer whose signature is good; says whether it is news.
    pub(super) fn take_offer(&mut self, now: Timestamp, offer: &Offer) -> bool {
        let known = self.offers.get(&offer.device);
        if known.is_some_and(|known| known.number >= offer.number) {
            return false;
        }
        let lease = Duration::from_secs(offer.lease_seconds.into()).min(LEASE_MAX);
        let until = now + lease;
        let offered = Offered { number: offer.number, until, rate_kbps: offer.rate_kbps };
        if known.is_none() && self.offers.len() >= OFFERS_MAX {
            let first = self.offers.iter().min_by_key(|(_, offered)| offered.until);
            if let Some(device) = first.map(|(device, _)| *device) {
                self.offers.remove(&device);
            }
        }
        self.offers.insert(offer.device, offered);
        true
    }

    /// Whether the offer of `device` counts.
    pub(super) fn offers(&self, now: Timestamp, device: DeviceId) -> bool {
        self.offers.get(&device).is_some_and(|offered| offered.until > now)
    }

    /// Relays in use that the charter does not name.
    pub(super) fn volunteers(&self, state: &State) -> Vec<DeviceId> {
        self.attached.keys().copied().filter(|device| state.relay(*device).is_none()).collect()
    }

    /// Volunteers whose lease has ended.
    pub(super) fn lapsed(&self, now: Timestamp, state: &State) -> Vec<DeviceId> {
        let mut volunteers = self.volunteers(state);
        volunteers.retain(|device| !self.offers(now, *device));
        volunteers
    }

    /// A relay says whose slots are which.
    pub(super) fn take_roster(&mut self, relay: DeviceId, roster: &Roster) -> bool {
        let Some(attached) = self.attached.get_mut(&relay) else { return false };
        if roster.number <= attached.roster {
            return false;
        }
        attached.roster = roster.number;
        let slots: BTreeMap<_, _> = roster.slots.iter().copied().collect();
        attached.serves = slots.keys().copied().collect();
        let changed = slots != attached.slots;
        attached.slots = slots;
        changed
    }

    /// A relay takes nothing more on, or does so again.
    pub(super) fn set_draining(&mut self, relay: DeviceId, draining: bool) {
        if let Some(attached) = self.attached.get_mut(&relay) {
            attached.draining = draining;
        }
    }

    /// A relay did not answer while we talked.
    pub(super) fn silent(&mut self, now: Timestamp, relay: DeviceId) {
        if let Some(attached) = self.attached.get_mut(&relay) {
            attached.silent_until = Some(now + SILENT_FOR);
        }
    }

    /// The slots of those attached to a relay, as far as they are wanted.
    pub(super) fn slots(&self, relay: DeviceId) -> impl Iterator<Item = (u16, DeviceId)> {
        let slots = self.attached.get(&relay).into_iter().flat_map(|attached| &attached.slots);
        slots.map(|(device, slot)| (*slot, *device))
    }

    /// The relays that are linked.
    pub(super) fn all(&self) -> impl Iterator<Item = DeviceId> {
        self.attached.keys().copied()
    }

    /// Relays for `target`, the best first, as all see it: those of the charter, then volunteers by
    /// what they can carry; equals by rendezvous hash.
    pub(super) fn ranking<'a>(
        &'a self,
        now: Timestamp,
        state: &State,
        target: TargetId,
        reachable: impl Fn(DeviceId) -> bool,
    ) -> Vec<Candidate<'a>> {
        let usable = |(relay, attached): &(&DeviceId, &Attachment)| {
            let silent = attached.silent_until.is_some_and(|until| until > now);
            !attached.draining && !silent && reachable(**relay)
        };
        let mut usable: Vec<_> = self.attached.iter().filter(usable).collect();
        usable.sort_by_key(|(relay, _)| {
            let named = state.relay(**relay).is_some();
            let rate = self.offers.get(*relay).filter(|_| !named);
            // 0 is any rate.
            let rate = rate.map_or(0, |offered| offered.rate_kbps.wrapping_sub(1));
            Reverse((named, rate, rendezvous(target, **relay)))
        });
        let candidate = |(relay, attached): (&DeviceId, &'a Attachment)| Candidate {
            relay: *relay,
            serves: &attached.serves,
        };
        usable.into_iter().map(candidate).collect()
    }

    /// What of a wanted plan the relays have agreed to: whoever they do not forward to yet gets its
    /// copy on its own link.
    pub(super) fn agreed(&self, target: TargetId, wanted: &Plan) -> Plan {
        let taken = |relay: DeviceId| {
            let routed = self.attached.get(&relay)?.routes.get(&target)?;
            Some(&routed.taken)
        };
        let mut direct: BTreeSet<_> = wanted.direct.iter().copied().collect();
        let mut hops = Vec::new();
        let all = |relay: &DeviceId, devices: &[DeviceId]| {
            taken(*relay).is_some_and(|taken| devices.iter().all(|it| taken.contains(it)))
        };
        for hop in &wanted.hops {
            let ready = hop.standby.filter(|standby| all(standby, &hop.devices));
            // What takes the relay's place is better than many copies of our own until it agrees.
            let relay = ready.filter(|_| !all(&hop.relay, &hop.devices)).unwrap_or(hop.relay);
            let serves =
                |device: &DeviceId| taken(relay).is_some_and(|taken| taken.contains(device));
            let (served, others): (Vec<_>, Vec<_>) =
                hop.devices.iter().copied().partition(|device| serves(device));
            direct.extend(others);
            if !served.is_empty() {
                let other = hop.standby.filter(|standby| *standby != relay);
                let standby = other.filter(|standby| all(standby, &served));
                hops.push(Hop { relay, standby, devices: served });
            }
        }
        Plan { direct: direct.into_iter().collect(), hops }
    }

    /// The routes that the plans of all targets want.
    pub(super) fn want_routes(&mut self, plans: &BTreeMap<TargetId, (Target, Plan)>) {
        for (relay, attached) in &mut self.attached {
            for (id, (target, plan)) in plans {
                let hops = plan.hops.iter();
                let hops = hops.filter(|hop| hop.relay == *relay || hop.standby == Some(*relay));
                let devices: BTreeSet<_> =
                    hops.flat_map(|hop| hop.devices.iter().copied()).collect();
                if devices.is_empty() && !attached.routes.contains_key(id) {
                    continue;
                }
                let routed = attached.routes.entry(*id).or_insert_with(|| Routed {
                    target: target.clone(),
                    wanted: BTreeSet::new(),
                    telling: Telling::default(),
                    taken: BTreeSet::new(),
                });
                routed.wanted = devices;
            }
            for (id, routed) in &mut attached.routes {
                if !plans.contains_key(id) {
                    routed.wanted.clear();
                }
            }
        }
    }

    /// The next thing to tell a relay; `wanted` are those whom this device would reach.
    pub(super) fn poll(
        &mut self,
        now: Timestamp,
        wanted: &BTreeSet<DeviceId>,
        numbers: &mut u64,
    ) -> Option<(DeviceId, RelayOrder)> {
        for (relay, attached) in &mut self.attached {
            if let Some(number) = attached.wanted.poll(now, wanted, numbers) {
                let devices = List::<_, WANTED_MAX>::truncated(wanted.iter().copied());
                return Some((*relay, RelayOrder::Wanted(Wanted { number, devices })));
            }
            for routed in attached.routes.values_mut() {
                if let Some(number) = routed.telling.poll(now, &routed.wanted, numbers) {
                    let only = List::<_, RECIPIENTS_MAX>::truncated(routed.wanted.iter().copied());
                    let target = routed.target.clone();
                    let route = Route { number, target, only: Some(only) };
                    return Some((*relay, RelayOrder::Route(route)));
                }
            }
        }
        None
    }

    /// A relay has taken, or not, what it was told under `number`.
    pub(super) fn handle_answer(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        number: u64,
        taken: bool,
    ) {
        let Some(attached) = self.attached.get_mut(&relay) else { return };
        if attached.wanted.handle_answer(now, number, taken) {
            return;
        }
        let mut routes = attached.routes.iter_mut();
        let Some((target, routed)) = routes.find_map(|(target, routed)| {
            routed.telling.handle_answer(now, number, taken).then_some((*target, routed))
        }) else {
            return;
        };
        if routed.telling.is_taken() {
            routed.taken = routed.telling.told().cloned().unwrap_or_default();
            if routed.taken.is_empty() && routed.wanted.is_empty() {
                attached.routes.remove(&target);
            }
        }
    }

    pub(super) fn timeout(&self) -> Option<Timestamp> {
        let attached = self.attached.values().flat_map(|attached| {
            let routes = attached.routes.values().filter_map(|routed| routed.telling.timeout());
            routes.chain(attached.wanted.timeout()).chain(attached.silent_until)
        });
        let offers = self.offers.iter().filter(|(device, _)| self.attached.contains_key(device));
        attached.chain(offers.map(|(_, offered)| offered.until)).min()
    }

    /// Forgets what time has ended.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        for attached in self.attached.values_mut() {
            attached.silent_until.take_if(|until| *until <= now);
        }
    }
}

/// A signed offer of a device, to be gossiped.
pub(super) fn offer(
    key: &hark_keys::DeviceKey,
    number: u64,
    lease: Duration,
    rate_kbps: u32,
) -> Signed<Offer> {
    let lease_seconds = u16::try_from(lease.as_secs()).unwrap_or(u16::MAX);
    Signed::sign(Offer { device: key.id(), number, lease_seconds, rate_kbps }, key)
}

/// Offers that are remembered; the one that ends first goes.
const OFFERS_MAX: usize = 64;

/// The longest that an offer counts for without being made again.
const LEASE_MAX: Duration = Duration::from_secs(120);

/// How long a relay is not used that did not answer a talker.
const SILENT_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use hark_keys::{ChannelId, DeviceKey, SeededRandom};

    use super::*;
    use crate::{squad::serving::Serving, topology::Hop};

    fn device(number: u64) -> DeviceId {
        DeviceKey::generate(&SeededRandom::new(number)).id()
    }

    /// A talker and a relay that serves `listeners`, told of each other without a network.
    struct Pair {
        now: Timestamp,
        numbers: u64,
        talker: Relays,
        relay: Serving,
    }

    const TALKER: u64 = 1;
    const RELAY: u64 = 2;

    impl Pair {
        fn new() -> Self {
            let mut relay = Serving::infrastructure();
            relay.link_up(device(TALKER), false);
            let mut talker = Relays::default();
            talker.link_up(device(RELAY), false);
            Self { now: Timestamp::from_millis(1_000), numbers: 0, talker, relay }
        }

        /// Wants one target forwarded to these, and says to whom of them the relay does.
        fn want(&mut self, channel: u8, listeners: &[DeviceId]) -> Vec<DeviceId> {
            let target = Target::of_channel(ChannelId::from_bytes([channel; 16]));
            let hop = Hop { relay: device(RELAY), standby: None, devices: listeners.to_vec() };
            let hops = if listeners.is_empty() { Vec::new() } else { vec![hop] };
            let plan = Plan { direct: Vec::new(), hops };
            let id = target.id();
            self.talker.want_routes(&[(id, (target, plan.clone()))].into());
            while let Some((_, order)) =
                self.talker.poll(self.now, &BTreeSet::new(), &mut self.numbers)
            {
                let (number, taken) = match order {
                    RelayOrder::Wanted(wanted) => {
                        self.relay.take_wanted(device(TALKER), &wanted);
                        (wanted.number, true)
                    }
                    RelayOrder::Route(route) => {
                        let id = route.target.id();
                        (route.number, self.relay.take_route(device(TALKER), id, &route))
                    }
                };
                self.talker.handle_answer(self.now, device(RELAY), number, taken);
            }
            let agreed = self.talker.agreed(id, &plan);
            agreed.hops.into_iter().flat_map(|hop| hop.devices).collect()
        }
    }

    /// A relay once took the second declaration of a route for an old one, and dropped all that came.
    #[test]
    fn a_route_that_was_closed_is_opened_again() {
        let mut pair = Pair::new();
        let listeners = [device(3)];
        assert_eq!(pair.want(1, &listeners), listeners);
        assert_eq!(pair.want(1, &[]), []);
        assert_eq!(pair.want(1, &listeners), listeners);
        let target = Target::of_channel(ChannelId::from_bytes([1; 16]));
        let route = |number, only: &[DeviceId]| Route {
            number,
            target: target.clone(),
            only: Some(List::truncated(only.iter().copied())),
        };
        let mut take =
            |number, only| pair.relay.take_route(device(TALKER), target.id(), &route(number, only));
        // What was sent before comes late, and opens or closes nothing.
        assert!(!take(1, &listeners[..]) && !take(3, &[]));
        assert!(take(20, &[]) && !take(19, &listeners) && take(21, &listeners));
    }

    /// The relay had replaced the link, the talker had lost it: what it declared anew counted as old.
    #[test]
    fn a_route_is_declared_again_to_a_relay_that_keeps_what_the_talker_has_lost() {
        let mut pair = Pair::new();
        let listeners = [device(3)];
        assert_eq!(pair.want(1, &listeners), listeners);
        pair.talker.link_down(device(RELAY));
        pair.talker.link_up(device(RELAY), false);
        pair.relay.link_up(device(TALKER), false);
        assert_eq!(pair.want(1, &listeners), listeners);
        // And the other way round.
        pair.relay.link_down(device(TALKER));
        pair.relay.link_up(device(TALKER), false);
        pair.talker.link_up(device(RELAY), false);
        assert_eq!(pair.want(1, &listeners), listeners);
    }

    /// Each change of the first relay sent everybody a copy for a round trip.
    #[test]
    fn the_standby_goes_on_until_the_first_has_agreed() {
        let now = Timestamp::from_millis(1_000);
        let (first, second, ears) = (device(1), device(2), vec![device(3), device(4)]);
        let target = Target::of_channel(ChannelId::from_bytes([7; 16]));
        let mut relays = Relays::default();
        [first, second].into_iter().for_each(|relay| relays.link_up(relay, false));
        let mut numbers = 0;
        let mut tell = |relays: &mut Relays| {
            let mut routes = 0;
            while let Some((relay, order)) = relays.poll(now, &BTreeSet::new(), &mut numbers) {
                if let RelayOrder::Route(route) = order {
                    relays.handle_answer(now, relay, route.number, true);
                    routes += 1;
                }
            }
            routes
        };
        let hop = |relay, standby| Hop { relay, standby, devices: ears.clone() };
        let plan = |hop| Plan { direct: Vec::new(), hops: vec![hop] };
        let want = |relays: &mut Relays, plan: &Plan| {
            relays.want_routes(&[(target.id(), (target.clone(), plan.clone()))].into());
        };
        want(&mut relays, &plan(hop(second, None)));
        assert_eq!(tell(&mut relays), 1);
        let wanted = plan(hop(first, Some(second)));
        want(&mut relays, &wanted);
        assert_eq!(relays.agreed(target.id(), &wanted), plan(hop(second, None)));
        tell(&mut relays);
        assert_eq!(relays.agreed(target.id(), &wanted), wanted);
    }

    #[test]
    fn a_relay_forwards_64_targets_of_one_peer() {
        let mut pair = Pair::new();
        let listeners = [device(3)];
        let target = |number: u8| Target::of_channel(ChannelId::from_bytes([number; 16]));
        let mut take = |number: u64, channel, only: &[DeviceId]| {
            let only = Some(List::truncated(only.iter().copied()));
            let target = target(channel);
            let id = target.id();
            pair.relay.take_route(device(TALKER), id, &Route { number, target, only })
        };
        for channel in 1..=64 {
            assert!(take(channel.into(), channel, &listeners));
        }
        assert!(!take(65, 65, &listeners));
        assert!(take(66, 7, &[]) && take(67, 65, &listeners));
    }

    /// [PROTO-10.4]
    #[test]
    fn relays_of_the_charter_come_before_volunteers_and_these_by_what_they_carry() {
        let random = SeededRandom::new(9);
        let founder = DeviceKey::generate(&random);
        let charter = crate::charter::Charter::found("Squad", "Voice", &founder, None, &random);
        let now = Timestamp::from_millis(1_000);
        let mut relays = Relays::default();
        let offer =
            |device, number, rate_kbps| Offer { device, number, lease_seconds: 30, rate_kbps };
        for (number, rate) in [(1, 500), (2, 0), (3, 9_000)] {
            relays.link_up(device(number), false);
            assert!(relays.take_offer(now, &offer(device(number), 1, rate)));
        }
        assert!(!relays.take_offer(now, &offer(device(1), 1, 7_000)), "said before");
        let target = Target::of_channel(ChannelId::from_bytes([1; 16])).id();
        let ranked = |relays: &Relays, now| -> Vec<DeviceId> {
            let ranking = relays.ranking(now, charter.state(), target, |_| true);
            ranking.iter().map(|candidate| candidate.relay).collect()
        };
        assert_eq!(ranked(&relays, now), [2, 3, 1].map(device));
        // One that does not answer rests for five seconds, one that drains for as long as it says so.
        relays.silent(now, device(2));
        relays.set_draining(device(3), true);
        assert_eq!(ranked(&relays, now), [device(1)]);
        relays.set_draining(device(3), false);
        let later = now + SILENT_FOR;
        assert_eq!(ranked(&relays, later), [2, 3, 1].map(device));
        // Their leases end.
        let end = now + Duration::from_secs(30);
        assert!(relays.lapsed(later, charter.state()).is_empty());
        assert_eq!(relays.lapsed(end, charter.state()).len(), 3);
    }
}
