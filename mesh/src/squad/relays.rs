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
    /// The highest number of a route that is closed and forgotten: the relay remembers it.
    closed: u64,
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
    Route(TargetId, Route),
}

impl Relays {
    /// There is a link to a relay, or a new one: it knows nothing of what was told before.
    pub(super) fn link_up(&mut self, relay: DeviceId) {
        self.attached.insert(relay, Attachment::default());
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
            let closed = attached.closed;
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
                    telling: Telling::after(closed),
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
    ) -> Option<(DeviceId, RelayOrder)> {
        for (relay, attached) in &mut self.attached {
            if let Some(number) = attached.wanted.poll(now, wanted) {
                let devices = List::<_, WANTED_MAX>::truncated(wanted.iter().copied());
                return Some((*relay, RelayOrder::Wanted(Wanted { number, devices })));
            }
            for (id, routed) in &mut attached.routes {
                if let Some(number) = routed.telling.poll(now, &routed.wanted) {
                    let only = List::<_, RECIPIENTS_MAX>::truncated(routed.wanted.iter().copied());
                    let target = routed.target.clone();
                    let route = Route { number, target, only: Some(only) };
                    return Some((*relay, RelayOrder::Route(*id, route)));
                }
            }
        }
        None
    }

    /// A relay has taken, or not, whom we want to reach.
    pub(super) fn handle_wanted(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        number: u64,
        taken: bool,
    ) {
        if let Some(attached) = self.attached.get_mut(&relay) {
            attached.wanted.handle_answer(now, number, taken);
        }
    }

    /// A relay has taken, or not, a route; says whether that changes what it does for us.
    pub(super) fn handle_route(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        (target, number): (TargetId, u64),
        taken: bool,
    ) -> bool {
        let Some(attached) = self.attached.get_mut(&relay) else { return false };
        let Some(routed) = attached.routes.get_mut(&target) else { return false };
        routed.telling.handle_answer(now, number, taken);
        if !routed.telling.is_taken() {
            return false;
        }
        routed.taken = routed.telling.told().cloned().unwrap_or_default();
        if routed.taken.is_empty() && routed.wanted.is_empty() {
            attached.closed = attached.closed.max(routed.telling.number());
            attached.routes.remove(&target);
        }
        true
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
    use crate::squad::serving::Serving;

    const NOW: Timestamp = Timestamp::from_millis(0);

    fn device(number: u64) -> DeviceId {
        DeviceKey::generate(&SeededRandom::new(number)).id()
    }

    fn target() -> Target {
        Target::new([ChannelId::from_bytes([7; 16])], [], [])
    }

    fn plans(hops: Vec<Hop>) -> BTreeMap<TargetId, (Target, Plan)> {
        [(target().id(), (target(), Plan { direct: Vec::new(), hops }))].into()
    }

    /// All that is to be told of routes now, taken by whom it is for.
    fn tell(relays: &mut Relays) -> Vec<(DeviceId, Route)> {
        let mut told = Vec::new();
        while let Some((relay, order)) = relays.poll(NOW, &BTreeSet::new()) {
            match order {
                RelayOrder::Wanted(wanted) => {
                    relays.handle_wanted(NOW, relay, wanted.number, true);
                }
                RelayOrder::Route(id, route) => {
                    relays.handle_route(NOW, relay, (id, route.number), true);
                    told.push((relay, route));
                }
            }
        }
        told
    }

    /// A relay that was drained and used again took the new route for an old one, and forwarded
    /// nothing.
    #[test]
    fn a_route_that_was_closed_opens_again() {
        let (relay, talker) = (device(1), device(2));
        let mut relays = Relays::default();
        relays.link_up(relay);
        let mut serving = Serving::infrastructure();
        serving.link_up(talker);
        let hop = Hop { relay, standby: None, devices: vec![device(3)] };
        for hops in [vec![hop.clone()], Vec::new(), vec![hop]] {
            relays.want_routes(&plans(hops));
            let told = tell(&mut relays);
            assert_eq!(told.len(), 1);
            let (_, route) = &told[0];
            assert_eq!(serving.take_route(talker, target().id(), route), Some(true), "news");
        }
    }

    /// Each change of the first relay sent everybody a copy for a round trip.
    #[test]
    fn the_standby_goes_on_until_the_first_has_agreed() {
        let (first, second, ears) = (device(1), device(2), vec![device(3), device(4)]);
        let mut relays = Relays::default();
        [first, second].into_iter().for_each(|relay| relays.link_up(relay));
        let hop = |relay, standby| Hop { relay, standby, devices: ears.clone() };
        relays.want_routes(&plans(vec![hop(second, None)]));
        assert_eq!(tell(&mut relays).len(), 1);
        let back = plans(vec![hop(first, Some(second))]);
        let wanted = &back[&target().id()].1;
        relays.want_routes(&back);
        let agreed = relays.agreed(target().id(), wanted);
        assert_eq!(agreed, Plan { direct: Vec::new(), hops: vec![hop(second, None)] });
        tell(&mut relays);
        assert_eq!(relays.agreed(target().id(), wanted), *wanted);
    }
}
