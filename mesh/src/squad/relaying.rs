//! Relays in a squad: those that this device uses, and what it does as a relay itself.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, List, MemberId, Signed, Timestamp};
use zeroize::Zeroizing;

use super::{
    MessageError, Purpose, Service, Squad, SquadEvent, SquadTransmit,
    budget::AUTHORED,
    reconcile::Dirty,
    relays::RelayOrder,
    serving::{Notice, Serving},
};
use crate::{
    message::{Message, Offer, RECIPIENTS_MAX, Roster, Route, WANTED_MAX, Wanted},
    topology::{self, Candidate, DIRECT_FANOUT_MAX},
};

impl Squad {
    /// Offers to relay for others with `rate_kbps`, 0 meaning any rate; `None` ends this. An
    /// infrastructure relay always relays.
    pub fn volunteer(&mut self, now: Timestamp, rate_kbps: Option<u32>) {
        if self.member.is_none() || self.relay_only {
            return;
        }
        match (rate_kbps, self.serving.as_ref().filter(|serving| !serving.is_ending())) {
            (Some(rate), None) => {
                self.stop_serving();
                // A device that knows an earlier offer, or one of an earlier run, accepts only
                // higher numbers.
                let after = self.offered.max(self.presence.incarnation >> 1);
                let serving = Serving::volunteer(now, after, rate);
                self.serving = Some(serving);
                self.leave_volunteers();
                for (device, link) in self
                    .links
                    .iter()
                    .map(|(device, link)| (*device, link.member))
                    .collect::<Vec<_>>()
                {
                    self.serve(device, link, false);
                }
            }
            (None, Some(_)) => {
                self.set_draining(now, true);
                // We still forward current speech until its talkers have learnt of the end.
                self.serving.iter_mut().for_each(|serving| serving.end(now));
                // From now on we use volunteers ourselves, like any other device.
                for device in self.links.keys().copied().collect::<Vec<_>>() {
                    if self.uses_volunteer(now, device) && !self.relays.contains(device) {
                        self.use_relay(device, false);
                    }
                }
            }
            _ => {}
        }
        self.mark(now, Dirty::RELAYS);
    }

    /// Stops forwarding for everybody.
    fn stop_serving(&mut self) {
        if let Some(serving) = self.serving.take() {
            // The last offer, which withdrew the relaying, has the next number.
            self.offered = serving.offers() + 1;
            self.epochs.stop_serving();
            self.events.push_back(SquadEvent::Serve(Service::Stop));
        }
    }

    /// Accepts nothing new as a relay, and makes its users go elsewhere, or ends this.
    pub fn set_draining(&mut self, now: Timestamp, draining: bool) {
        let Some(serving) = &mut self.serving else { return };
        serving.set_draining(draining);
        if self.member.is_some() && draining {
            let number = serving.offers() + 1;
            let offer = self.offer(number, Duration::ZERO, 0);
            self.push(SquadTransmit::Gossip(Message::Offer(offer).encode()));
        }
        self.mark(now, Dirty::RELAYS);
    }

    /// As a relay: `device` has this slot.
    pub fn handle_attached(&mut self, now: Timestamp, device: DeviceId, slot: u16) {
        if let Some(serving) = &mut self.serving {
            serving.attached(device, slot);
        }
        self.mark(now, Dirty::RELAYS);
    }

    /// A relay that we send to does not report that anything arrives. Others are used for a while.
    pub fn handle_relay_silent(&mut self, now: Timestamp, relay: DeviceId) {
        self.relays.silent(now, relay);
        self.mark(now, Dirty::RELAYS);
    }

    /// What we say by a relay does not reach a listener as it should. That listener is reached
    /// otherwise for a while, or for the whole run if `for_good`.
    pub fn handle_relay_fails(
        &mut self,
        now: Timestamp,
        relay: DeviceId,
        listener: DeviceId,
        for_good: bool,
    ) {
        // A device without a link to us cannot report what arrives.
        let known = self.links.contains_key(&listener) && self.relays.contains(relay);
        if known && self.relays.fails(now, relay, listener, for_good) {
            self.mark(now, Dirty::RELAYS);
        }
    }

    /// A member's relay has brought what neither a proof nor `talker` has shown to be the talker's.
    /// If the link with the talker is up, its answers are kept from us, or it has none. Then the
    /// talker is not heard by this relay for a while. Without the link nobody could have answered.
    /// [PROTO-10.10] [PROTO-10.23]
    pub fn handle_relay_unproven(&mut self, now: Timestamp, relay: DeviceId, talker: DeviceId) {
        let heard = self.liveness.silence(now, talker);
        if heard.is_some_and(|silence| silence < ANSWERS_WITHIN) {
            self.events.push_back(SquadEvent::LeaveRelay { relay, talker });
        }
    }

    pub(super) fn link_up_relaying(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        member: Option<MemberId>,
        restarted: bool,
    ) {
        if self.serving.is_some() {
            self.serve(device, member, restarted);
        }
        if member.is_none() && self.member.is_some() || self.uses_volunteer(now, device) {
            self.use_relay(device, restarted);
        }
    }

    pub(super) fn link_down_relaying(&mut self, device: DeviceId) {
        if self.relays.link_down(device) {
            self.paths.relays_changed();
            self.events.push_back(SquadEvent::Slots { relay: device, slots: None });
        }
        if let Some(serving) = &mut self.serving {
            serving.link_down(device);
            self.events.push_back(SquadEvent::Serve(Service::Detach(device)));
        }
    }

    /// Attaches each linked device.
    fn serve(&mut self, device: DeviceId, member: Option<MemberId>, restarted: bool) {
        let Some(serving) = &mut self.serving else { return };
        serving.link_up(device, restarted);
        if restarted {
            self.events.push_back(SquadEvent::Serve(Service::Detach(device)));
        }
        self.events.push_back(SquadEvent::Serve(Service::Attach { device, member }));
        self.tell_listening(device);
    }

    /// As a relay: tells the forwarder what a peer listens to.
    pub(super) fn tell_listening(&mut self, device: DeviceId) {
        if self.serving.is_some() {
            let channels = self.nets.of(device).iter().copied().collect();
            self.events.push_back(SquadEvent::Serve(Service::Listening { device, channels }));
        }
    }

    pub(super) fn take_wanted(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        wanted: &Wanted,
    ) -> Result<(), MessageError> {
        let serving = self.serving.as_mut().ok_or(MessageError::NotRelaying)?;
        if !serving.take_wanted(now, from, wanted) {
            return Err(MessageError::TooMuch);
        }
        self.mark(now, Dirty::RELAYS);
        Ok(())
    }

    pub(super) fn take_route(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        route: Route,
    ) -> Result<(), MessageError> {
        if !route.target.is_sound() {
            return Err(MessageError::Unordered);
        }
        let serving = self.serving.as_mut().ok_or(MessageError::NotRelaying)?;
        if !serving.take_route(now, device, route.target.id(), &route) {
            return Err(MessageError::Route);
        }
        let Route { target, only, .. } = route;
        let only = only.map(List::into_vec);
        self.events.push_back(SquadEvent::Serve(Service::Route { device, target, only }));
        Ok(())
    }

    pub(super) fn take_roster(&mut self, now: Timestamp, relay: DeviceId, roster: &Roster) {
        if self.relays.take_roster(relay, roster) {
            self.tell_slots(relay);
            self.mark(now, Dirty::RELAYS);
        }
    }

    fn leave_volunteers(&mut self) {
        let state = Arc::clone(self.charter());
        for relay in self.relays.volunteers(state.state()) {
            self.relays.link_down(relay);
            self.paths.relays_changed();
            self.events.push_back(SquadEvent::Slots { relay, slots: None });
        }
    }

    /// Whether a member's offer is useful. A device that relays for others needs no volunteer, and
    /// what a volunteer sent it would look like something to forward.
    fn uses_volunteer(&self, now: Timestamp, device: DeviceId) -> bool {
        let may = self.member.is_some() && !self.relay_only;
        let may = may && self.serving.as_ref().is_none_or(Serving::is_ending);
        may && self.relays.offers(now, device)
    }

    fn use_relay(&mut self, relay: DeviceId, restarted: bool) {
        self.relays.link_up(relay, restarted);
        self.tell_slots(relay);
    }

    fn tell_slots(&mut self, relay: DeviceId) {
        self.paths.relays_changed();
        let slots = Some(self.relays.slots(relay).collect());
        self.events.push_back(SquadEvent::Slots { relay, slots });
    }

    /// Takes an offer, which counts if it is a member's.
    pub(super) fn take_offer(
        &mut self,
        now: Timestamp,
        offer: &Signed<Offer>,
    ) -> Result<(), MessageError> {
        let device = offer.unverified().device;
        if device == self.key.id() || self.charter().owner(device).is_none() {
            return Ok(());
        }
        if !self.authors.is_open(now, device) {
            return Err(MessageError::OverBudget);
        }
        let offer = offer.verify()?;
        // A volunteer that had withdrawn knows nothing of what it was told before.
        let is_new = !self.relays.contains(device) || !self.relays.offers(now, device);
        if !self.relays.take_offer(now, offer) {
            return Ok(());
        }
        self.authors.spend(now, device, AUTHORED);
        self.mark(now, Dirty::RELAYS);
        if self.links.contains_key(&device) && self.uses_volunteer(now, device) && is_new {
            self.use_relay(device, true);
        }
        Ok(())
    }

    pub(super) fn handle_relaying_timeout(&mut self, now: Timestamp) {
        self.relays.handle_timeout(now);
        for device in self.relays.lapsed(now, self.charter().clone().state()) {
            self.relays.link_down(device);
            self.paths.relays_changed();
            self.events.push_back(SquadEvent::Slots { relay: device, slots: None });
        }
        if self.serving.as_ref().is_some_and(|serving| serving.has_ended(now)) {
            self.stop_serving();
        }
        if let Some(serving) = &mut self.serving {
            serving.handle_timeout(now);
            if let Some((number, lease, rate)) = serving.offer_due(now) {
                let offer = self.offer(number, lease, rate);
                self.push(SquadTransmit::Gossip(Message::Offer(offer).encode()));
            }
        }
    }

    /// A signed offer of what this device would carry for others.
    fn offer(&self, number: u64, lease: Duration, rate_kbps: u32) -> Signed<Offer> {
        let lease_seconds = u16::try_from(lease.as_secs()).unwrap_or(u16::MAX);
        let reachable = self.checked().any(|checked| checked.reachable);
        let device = self.key.id();
        Signed::sign(Offer { device, number, lease_seconds, rate_kbps, reachable }, &self.key)
    }

    /// As a relay: tells the devices that use us which device has which slot, and whether we
    /// continue.
    pub(super) fn tell_clients(&mut self, now: Timestamp) {
        let Some(serving) = &mut self.serving else { return };
        let notices = std::iter::from_fn(|| serving.poll(now, &mut self.numbers));
        for (to, notice) in notices.collect::<Vec<_>>() {
            let (told, message) = match notice {
                Notice::Roster(roster) => (roster.number, Message::Roster(roster)),
                Notice::Offer { told, number, lease, rate } => {
                    let offer = self.offer(number, lease, rate);
                    (told, Message::Offer(offer))
                }
                Notice::Draining(told, draining) => (told, Message::Draining(draining)),
            };
            self.send(to, Purpose::Notice(told), Zeroizing::new(message.encode()));
        }
    }

    /// Updates the plans of all targets, and the routes at relays.
    pub(super) fn plan(&mut self, now: Timestamp) {
        if self.member.is_none() {
            return;
        }
        let charter = Arc::clone(self.charter());
        let mut plans = BTreeMap::new();
        for (id, target, hearers, by_epoch) in self.targets.hearers(self.key.id()) {
            let reachable = |device: DeviceId| self.liveness.is_reachable(device);
            let linked = |device: &DeviceId| self.links.contains_key(device);
            let hearers: Vec<_> = hearers
                .into_iter()
                .filter(|device| reachable(*device) || by_epoch && !linked(device))
                .map(|device| (device, linked(&device) && !self.paths.is_relayed(device)))
                .collect();
            // A relay behind a relay would carry everything twice.
            let usable = |device| reachable(device) && !self.paths.is_relayed(device);
            let mut ranking = self.relays.ranking(now, charter.state(), id, usable);
            // [PROTO-10.1] All devices are attached to the charter's relays. With this many, the
            // relays are not asked.
            let all: BTreeSet<_> = hearers.iter().map(|(device, _)| *device).collect();
            if all.len() > RECIPIENTS_MAX {
                let told = hearers.iter().filter(|(device, _)| linked(device)).count();
                for (relay, serves) in &mut ranking {
                    let failed = all.iter().filter(|it| self.relays.has_failed(now, *relay, **it));
                    if charter.state().relay(*relay).is_some() && failed.count() * 2 <= told {
                        *serves = Cow::Borrowed(&all);
                    }
                }
            }
            let relayed = self.targets.is_relayed(id);
            let candidates: Vec<_> = ranking
                .iter()
                .map(|(relay, serves)| Candidate { relay: *relay, serves: serves.as_ref() })
                .collect();
            let mut plan = topology::plan(&hearers, &candidates, DIRECT_FANOUT_MAX, relayed);
            plan.direct.retain(linked);
            plans.insert(id, (target.clone(), plan));
        }
        self.relays.want_routes(&plans);
        if !self.relays.is_empty() {
            self.tell_relays(now);
        }
        for (target, (_, wanted)) in plans {
            let mut plan = self.relays.agreed(target, &wanted);
            plan.direct.retain(|device| self.links.contains_key(device));
            if self.targets.set_plan(target, &plan) {
                self.events.push_back(SquadEvent::Listeners { target, plan });
            }
        }
    }

    fn tell_relays(&mut self, now: Timestamp) {
        let wanted = self.wanted_through_relays();
        while let Some((relay, order)) = self.relays.poll(now, &wanted, &mut self.numbers) {
            let (told, message) = match order {
                RelayOrder::Wanted(wanted) => (wanted.number, Message::Wanted(wanted)),
                RelayOrder::Route(route) => (route.number, Message::Route(route)),
            };
            self.send(relay, Purpose::Order(told), Zeroizing::new(message.encode()));
        }
    }

    /// The devices that we want to reach through relays. These are the linked ones and, as far as
    /// they can be asked for, those with a known record that are not linked.
    fn wanted_through_relays(&self) -> BTreeSet<DeviceId> {
        let linked = self.links.keys().copied();
        // With more hearers than this, the relay is not asked.
        let hearers = self.targets.hearers(self.key.id()).map(|(_, _, hearers, _)| hearers);
        let hearers = hearers.filter(|hearers| hearers.len() <= RECIPIENTS_MAX).flatten();
        let known = self.records.directory().records().map(|record| record.unverified().device);
        let own = self.key.id();
        linked
            .chain(hearers)
            .chain(known.filter(|device| !self.links.contains_key(device)))
            .filter(|device| *device != own && !self.relays.contains(*device))
            .take(WANTED_MAX)
            .collect()
    }
}

/// A talker that was heard this recently could have answered. A peer is heard each second.
/// [PROTO-2.7]
const ANSWERS_WITHIN: Duration = Duration::from_millis(1_500);
