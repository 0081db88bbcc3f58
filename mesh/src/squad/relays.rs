//! The relays that this device can use: which devices each one reaches, what it is to forward, and
//! which one comes first.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_charter::State;
use hark_keys::{DeviceId, List, TargetId, Timestamp};

use super::announcement::Announcement;
use crate::{
    Target,
    message::{Offer, RECIPIENTS_MAX, Roster, Route, WANTED_MAX, Wanted},
    topology::{Hop, Plan, rendezvous},
};

/// The linked relays, and the offers of members to be one.
#[derive(Default)]
pub(super) struct Relays {
    attached: BTreeMap<DeviceId, Attachment>,
    offers: BTreeMap<DeviceId, Offered>,
    /// Relays by which our voice did not reach a listener as it should, with the listener.
    failed: BTreeMap<(DeviceId, DeviceId), Failed>,
    /// When expired entries were last looked for.
    looked: Timestamp,
}

/// For how long a relay is not used for a listener.
#[derive(Clone, Copy)]
struct Failed {
    /// When the failure is over; `None` if it is for good.
    until: Option<Timestamp>,
    /// Length of the pause. The next one is twice as long.
    pause: Duration,
}

impl Failed {
    fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What this device knows about a linked relay, and has told it.
#[derive(Default)]
struct Attachment {
    wanted: Announcement<BTreeSet<DeviceId>>,
    /// The number of the newest roster, and its devices.
    roster: u64,
    slots: BTreeMap<DeviceId, u16>,
    serves: BTreeSet<DeviceId>,
    /// Whether it is about to leave and accepts nothing new.
    draining: bool,
    /// Until when it is not used, since it did not answer while we talked.
    silent_until: Option<Timestamp>,
    routes: BTreeMap<TargetId, Routed>,
}

/// A target that a relay forwards.
struct Routed {
    target: Target,
    /// The wanted listeners. When there are none left, the route ends.
    wanted: Whom,
    telling: Announcement<Whom>,
    /// The listeners to which the relay has agreed to forward.
    taken: Whom,
}

/// The listeners to which a relay forwards something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    /// All attached devices that hear it.
    All,
    /// Only these of them.
    These(BTreeSet<DeviceId>),
}

impl Whom {
    const NOBODY: Self = Self::These(BTreeSet::new());

    /// If there are more than can be named, all of them.
    fn of(devices: BTreeSet<DeviceId>) -> Self {
        if devices.len() > RECIPIENTS_MAX { Self::All } else { Self::These(devices) }
    }

    fn is_nobody(&self) -> bool {
        *self == Self::NOBODY
    }

    fn contains(&self, device: &DeviceId) -> bool {
        match self {
            Self::All => true,
            Self::These(devices) => devices.contains(device),
        }
    }

    fn named(&self) -> Option<List<DeviceId, RECIPIENTS_MAX>> {
        match self {
            Self::All => None,
            Self::These(devices) => Some(List::truncated(devices.iter().copied())),
        }
    }
}

/// A member's offer, and until when it counts.
struct Offered {
    number: u64,
    until: Timestamp,
    rate_kbps: u32,
    reachable: bool,
}

/// Something to tell a relay.
pub(super) enum RelayOrder {
    Wanted(Wanted),
    Route(Route),
}

impl Relays {
    /// There is a new link to a relay. It may know nothing of what it was told before.
    pub(super) fn link_up(&mut self, relay: DeviceId, restarted: bool) {
        let attached = self.attached.entry(relay).or_default();
        if restarted {
            *attached = Attachment::default();
        }
        // A relay that drains says so again.
        attached.draining = false;
        attached.wanted.link_up();
        for routed in attached.routes.values_mut() {
            routed.telling.link_up();
            routed.taken = Whom::NOBODY;
        }
    }

    pub(super) fn link_down(&mut self, relay: DeviceId) -> bool {
        self.attached.remove(&relay).is_some()
    }

    /// Whether no relay is linked.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Whether `device` is a linked relay.
    pub(super) fn contains(&self, device: DeviceId) -> bool {
        self.attached.contains_key(&device)
    }

    /// Takes an offer with a valid signature. Returns whether it is new.
    pub(super) fn take_offer(&mut self, now: Timestamp, offer: &Offer) -> bool {
        let known = self.offers.get(&offer.device);
        if known.is_some_and(|known| known.number >= offer.number) {
            return false;
        }
        let lease = Duration::from_secs(offer.lease_seconds.into()).min(LEASE_MAX);
        let until = now + lease;
        let Offer { number, rate_kbps, reachable, .. } = *offer;
        let offered = Offered { number, until, rate_kbps, reachable };
        if known.is_none() && self.offers.len() >= OFFERS_MAX {
            let first = self.offers.iter().min_by_key(|(_, offered)| offered.until);
            if let Some(device) = first.map(|(device, _)| *device) {
                self.offers.remove(&device);
            }
        }
        self.offers.insert(offer.device, offered);
        true
    }

    /// Whether the offer of `device` counts now.
    pub(super) fn offers(&self, now: Timestamp, device: DeviceId) -> bool {
        self.offers.get(&device).is_some_and(|offered| offered.until > now)
    }

    /// The relays in use that the charter does not name.
    pub(super) fn volunteers(&self, state: &State) -> Vec<DeviceId> {
        self.attached.keys().copied().filter(|device| state.relay(*device).is_none()).collect()
    }

    /// Volunteers whose lease has ended and that no longer forward anything.
    pub(super) fn lapsed(&self, now: Timestamp, state: &State) -> Vec<DeviceId> {
        let mut volunteers = self.volunteers(state);
        let brings =
            |device: &DeviceId| self.offers.get(device).is_some_and(|it| it.until + LINGERS > now);
        volunteers.retain(|device| !brings(device));
        volunteers
    }

    /// A relay reports which devices have which slots.
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

    /// A relay accepts nothing new, or accepts it again.
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

    /// A relay does not bring our voice to a listener. It is not used for that listener for a
    /// while, for twice as long each time, or never again if `for_good`. Returns whether this is
    /// news. [PROTO-10.8] [PROTO-10.24]
    pub(super) fn fails(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        listener: DeviceId,
        for_good: bool,
    ) -> bool {
        let before = self.failed.get(&(relay, listener)).copied();
        let known = before.is_some_and(|before| !before.is_over(now));
        if known && (!for_good || before.is_some_and(|before| before.until.is_none())) {
            return false;
        }
        let pause = before.map_or(FAILED_FOR, |before| (before.pause * 2).min(FAILED_FOR_MAX));
        if before.is_none() && self.failed.len() >= FAILED_MAX {
            let ends = |failed: &Failed| (failed.until.is_none(), failed.until);
            let first = self.failed.iter().min_by_key(|(_, failed)| ends(failed));
            if let Some(first) = first.map(|(pair, _)| *pair) {
                self.failed.remove(&first);
            }
        }
        let until = (!for_good).then_some(now + pause);
        self.failed.insert((relay, listener), Failed { until, pause });
        true
    }

    /// Whether a relay is not used for a listener now, since it has failed it.
    pub(super) fn has_failed(&self, now: Timestamp, relay: DeviceId, listener: DeviceId) -> bool {
        self.failed.get(&(relay, listener)).is_some_and(|failed| !failed.is_over(now))
    }

    /// The attached devices that our voice may reach by a relay.
    fn serves<'a>(
        &'a self,
        now: Timestamp,
        relay: DeviceId,
        attached: &'a Attachment,
    ) -> Cow<'a, BTreeSet<DeviceId>> {
        let failed = |device: &DeviceId| self.has_failed(now, relay, *device);
        if attached.serves.iter().any(failed) {
            Cow::Owned(attached.serves.iter().copied().filter(|it| !failed(it)).collect())
        } else {
            Cow::Borrowed(&attached.serves)
        }
    }

    /// The slots of the wanted devices that are attached to a relay.
    pub(super) fn slots(&self, relay: DeviceId) -> impl Iterator<Item = (u16, DeviceId)> {
        let slots = self.attached.get(&relay).into_iter().flat_map(|attached| &attached.slots);
        slots.map(|(device, slot)| (*slot, *device))
    }

    /// The linked relays.
    pub(super) fn all(&self) -> impl Iterator<Item = DeviceId> {
        self.attached.keys().copied()
    }

    /// The relays for `target`, best first, each with the devices that it can serve. All devices
    /// rank them alike: relays of the charter, then volunteers that strangers can reach, then by
    /// rate, then by rendezvous hash.
    pub(super) fn ranking<'a>(
        &'a self,
        now: Timestamp,
        state: &State,
        target: TargetId,
        reachable: impl Fn(DeviceId) -> bool,
    ) -> Vec<(DeviceId, Cow<'a, BTreeSet<DeviceId>>)> {
        let usable = |(relay, attached): &(&DeviceId, &Attachment)| {
            let offer = self.offers.get(*relay).filter(|_| state.relay(**relay).is_none());
            let over = offer.is_some_and(|offered| offered.until <= now);
            let silent = attached.silent_until.is_some_and(|until| until > now);
            !over && !attached.draining && !silent && reachable(**relay)
        };
        let mut usable: Vec<_> = self.attached.iter().filter(usable).collect();
        usable.sort_by_key(|(relay, _)| {
            let named = state.relay(**relay).is_some();
            let offered = self.offers.get(*relay).filter(|_| !named);
            let reachable = offered.is_some_and(|offered| offered.reachable);
            // 0 means any rate.
            let rate = offered.map_or(0, |offered| offered.rate_kbps.wrapping_sub(1));
            Reverse((named, reachable, rate, rendezvous(target, **relay)))
        });
        let serves = |(relay, attached): (&DeviceId, &'a Attachment)| {
            (*relay, self.serves(now, *relay, attached))
        };
        usable.into_iter().map(serves).collect()
    }

    /// The part of a wanted plan that the relays have agreed to. A device to which they do not
    /// forward yet gets its datagram on its own link.
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
            // The standby is better than sending to each device ourselves until the relay agrees.
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

    /// Sets the routes that the plans of all targets need.
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
                    wanted: Whom::NOBODY,
                    telling: Announcement::default(),
                    taken: Whom::NOBODY,
                });
                routed.wanted = Whom::of(devices);
            }
            for (id, routed) in &mut attached.routes {
                if !plans.contains_key(id) {
                    routed.wanted = Whom::NOBODY;
                }
            }
        }
    }

    /// The next thing to tell a relay; `wanted` are the devices that we want to reach.
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
                    let only = routed.wanted.named();
                    let target = routed.target.clone();
                    let route = Route { number, target, only };
                    return Some((*relay, RelayOrder::Route(route)));
                }
            }
        }
        None
    }

    /// A relay has accepted, or not, what it was told under `number`.
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
            routed.taken = routed.telling.told().cloned().unwrap_or(Whom::NOBODY);
            if routed.taken.is_nobody() && routed.wanted.is_nobody() {
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
        let failed = self.failed.values().filter_map(|failed| failed.until);
        let offers = offers.flat_map(|(_, offered)| [offered.until, offered.until + LINGERS]);
        attached.chain(offers.chain(failed).filter(|until| *until > self.looked)).min()
    }

    /// Forgets what has expired.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        for attached in self.attached.values_mut() {
            attached.silent_until.take_if(|until| *until <= now);
        }
        self.looked = now;
        let counts = |until: Timestamp| now < until + FAILED_FOR_MAX;
        self.failed.retain(|_, failed| failed.until.is_none_or(counts));
    }
}

/// Offers that are remembered. If there are more, the one that ends first is dropped.
const OFFERS_MAX: usize = 64;

/// The longest time that an offer counts without being repeated.
const LEASE_MAX: Duration = Duration::from_secs(120);

/// How long speech from a volunteer is still accepted after its lease has ended or it has
/// withdrawn. It goes on forwarding for 2 s, until the last talker has learnt of its end.
const LINGERS: Duration = Duration::from_secs(3);

/// How long a relay is not used for a listener that it has failed: at first, and at most.
const FAILED_FOR: Duration = Duration::from_secs(10);
const FAILED_FOR_MAX: Duration = Duration::from_secs(600);

/// Failures that are remembered. If there are more, the one that ends first is dropped.
const FAILED_MAX: usize = 1_024;

/// How long a relay that did not answer a talker is not used.
const SILENT_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
