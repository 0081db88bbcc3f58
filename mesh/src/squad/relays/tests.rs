use hark_keys::{ChannelId, DeviceKey, SeededRandom};

use super::*;
use crate::{squad::serving::Serving, topology::Hop};

fn device(number: u64) -> DeviceId {
    DeviceKey::generate(&SeededRandom::new(number)).id()
}

/// A talker and a relay that serves `listeners`. They exchange messages without a network.
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

    /// Wants one target forwarded to these listeners. Returns those to which the relay forwards.
    fn want(&mut self, channel: u8, listeners: &[DeviceId]) -> Vec<DeviceId> {
        let target = Target::of_channel(ChannelId::from_bytes([channel; 16]));
        let hop = Hop { relay: device(RELAY), standby: None, devices: listeners.to_vec() };
        let hops = if listeners.is_empty() { Vec::new() } else { vec![hop] };
        let plan = Plan { direct: Vec::new(), hops };
        let id = target.id();
        self.talker.want_routes(&[(id, (target, plan.clone()))].into());
        while let Some((_, order)) = self.talker.poll(self.now, &BTreeSet::new(), &mut self.numbers)
        {
            let (number, taken) = match order {
                RelayOrder::Wanted(wanted) => {
                    let taken = self.relay.take_wanted(self.now, device(TALKER), &wanted);
                    (wanted.number, taken)
                }
                RelayOrder::Route(route) => {
                    let id = route.target.id();
                    let taken = self.relay.take_route(self.now, device(TALKER), id, &route);
                    (route.number, taken)
                }
            };
            self.talker.handle_answer(self.now, device(RELAY), number, taken);
        }
        let agreed = self.talker.agreed(id, &plan);
        agreed.hops.into_iter().flat_map(|hop| hop.devices).collect()
    }
}

/// Regression: a relay took the second declaration of a route for an old one, and dropped all its
/// frames.
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
    let mut take = |number, only| {
        pair.relay.take_route(pair.now, device(TALKER), target.id(), &route(number, only))
    };
    // What was sent before arrives late, and opens or closes nothing.
    assert!(!take(1, &listeners[..]) && !take(3, &[]));
    assert!(take(20, &[]) && !take(19, &listeners) && take(21, &listeners));
}

/// [PROTO-10.11]
#[test]
fn a_peer_that_says_too_much_is_refused_and_costs_nothing() {
    let mut pair = Pair::new();
    let target = Target::of_channel(ChannelId::from_bytes([1; 16]));
    let mut taken = |from_ms: u64, number: u64| {
        let only = Some(List::truncated([device(3)]));
        let route = Route { number, target: target.clone(), only };
        let now = Timestamp::from_millis(from_ms);
        pair.relay.take_route(now, device(TALKER), target.id(), &route)
    };
    // All 64 routes twice are no flood.
    let at_once = (1..=1_000).filter(|number| taken(5_000, *number)).count();
    assert_eq!(at_once, 192);
    // 1,000 more in a second, one each millisecond.
    let later = (1_001..=2_000_u64).filter(|number| taken(4_000 + number, *number)).count();
    assert_eq!(later, 32);
    let wanted = Wanted { number: 1, devices: List::truncated([device(3)]) };
    let now = Timestamp::from_millis(6_010);
    assert!(!pair.relay.take_wanted(now, device(TALKER), &wanted));
    // Other linked devices are served as before.
    pair.relay.link_up(device(7), false);
    assert!(pair.relay.take_wanted(now, device(7), &wanted));
}

/// Regression: the relay had replaced the link, and the talker had lost it. What the talker
/// declared again counted as old. [PROTO-10.26]
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

/// Regression: at each change of the first relay, the talker sent to every listener itself for one
/// round trip.
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

/// [PROTO-10.8] [PROTO-10.24]
#[test]
fn a_relay_that_fails_one_listener_serves_the_others() {
    let founder = DeviceKey::generate(&SeededRandom::new(9));
    let random = SeededRandom::new(9);
    let charter = hark_charter::Charter::found("Squad", "Voice", &founder, None, &random);
    let (relay, one, other) = (device(1), device(2), device(3));
    let mut relays = Relays::default();
    relays.link_up(relay, false);
    let slots = List::truncated([(one, 1), (other, 2)]);
    assert!(relays.take_roster(relay, &Roster { number: 1, slots }));
    let served = |relays: &Relays, ms| -> Vec<DeviceId> {
        let now = Timestamp::from_millis(ms);
        let target = Target::of_channel(ChannelId::from_bytes([1; 16])).id();
        let ranking = relays.ranking(now, charter.state(), target, |_| true);
        ranking[0].1.iter().copied().collect()
    };
    let both: Vec<_> = BTreeSet::from([one, other]).into_iter().collect();
    let at = Timestamp::from_millis;
    assert!(relays.fails(at(1_000), relay, one, false));
    assert!(!relays.fails(at(1_500), relay, one, false), "known");
    assert_eq!(served(&relays, 10_999), [other]);
    assert_eq!(relays.timeout(), Some(at(11_000)));
    relays.handle_timeout(at(11_000));
    assert_eq!((served(&relays, 11_000), relays.timeout()), (both.clone(), None));
    // The second pause is twice as long, even if the relay was linked again.
    relays.link_up(relay, true);
    let slots = List::truncated([(one, 1), (other, 2)]);
    assert!(relays.take_roster(relay, &Roster { number: 1, slots }));
    assert!(relays.fails(at(12_000), relay, one, false));
    assert_eq!((served(&relays, 31_999), served(&relays, 32_000)), (vec![other], both));
    // A listener that the relay fails for good is not served by it again.
    assert!(relays.fails(at(40_000), relay, one, true));
    assert!(!relays.fails(at(40_001), relay, one, true), "known");
    relays.handle_timeout(at(9_000_000));
    assert_eq!((served(&relays, 9_000_000), relays.timeout()), (vec![other], None));
}

/// [PROTO-10.1]
#[test]
fn a_relay_forwards_64_targets_of_one_peer() {
    let mut pair = Pair::new();
    let listeners = [device(3)];
    let target = |number: u8| Target::of_channel(ChannelId::from_bytes([number; 16]));
    let mut take = |number: u64, channel, only: &[DeviceId]| {
        let only = Some(List::truncated(only.iter().copied()));
        let target = target(channel);
        let id = target.id();
        pair.relay.take_route(pair.now, device(TALKER), id, &Route { number, target, only })
    };
    for channel in 1..=64 {
        assert!(take(channel.into(), channel, &listeners));
    }
    assert!(!take(65, 65, &listeners));
    assert!(take(66, 7, &[]) && take(67, 65, &listeners));
}

/// [PROTO-10.4] [PROTO-10.27]
#[test]
fn volunteers_are_ranked_by_who_reaches_them_and_then_by_what_they_carry() {
    let random = SeededRandom::new(9);
    let founder = DeviceKey::generate(&random);
    let charter = hark_charter::Charter::found("Squad", "Voice", &founder, None, &random);
    let now = Timestamp::from_millis(1_000);
    let mut relays = Relays::default();
    let reached = |device, number, rate_kbps, reachable| Offer {
        device,
        number,
        lease_seconds: 30,
        rate_kbps,
        reachable,
    };
    let offer = |device, number, rate_kbps| reached(device, number, rate_kbps, false);
    for (number, rate) in [(1, 500), (2, 0), (3, 9_000)] {
        relays.link_up(device(number), false);
        assert!(relays.take_offer(now, &offer(device(number), 1, rate)));
    }
    assert!(!relays.take_offer(now, &offer(device(1), 1, 7_000)), "said before");
    let target = Target::of_channel(ChannelId::from_bytes([1; 16])).id();
    let ranked = |relays: &Relays, now| -> Vec<DeviceId> {
        let ranking = relays.ranking(now, charter.state(), target, |_| true);
        ranking.iter().map(|(relay, _)| *relay).collect()
    };
    assert_eq!(ranked(&relays, now), [2, 3, 1].map(device));
    // A volunteer that strangers can reach can serve devices that come later.
    assert!(relays.take_offer(now, &reached(device(1), 2, 500, true)));
    assert_eq!(ranked(&relays, now), [1, 2, 3].map(device));
    assert!(relays.take_offer(now, &reached(device(3), 2, 9_000, true)));
    assert_eq!(ranked(&relays, now), [3, 1, 2].map(device));
    for (number, rate) in [(1, 500), (3, 9_000)] {
        assert!(relays.take_offer(now, &offer(device(number), 3, rate)));
    }
    assert_eq!(ranked(&relays, now), [2, 3, 1].map(device));
    // A relay that does not answer is not used for five seconds, and one that drains is not used
    // while it says so.
    relays.silent(now, device(2));
    relays.set_draining(device(3), true);
    assert_eq!(ranked(&relays, now), [device(1)]);
    relays.set_draining(device(3), false);
    let later = now + SILENT_FOR;
    assert_eq!(ranked(&relays, later), [2, 3, 1].map(device));
    // Their leases end, but what they still forward is accepted.
    let end = now + Duration::from_secs(30);
    assert_eq!(ranked(&relays, end), []);
    let lapsed = |at| relays.lapsed(at, charter.state()).len();
    assert_eq!((lapsed(end), lapsed(end + LINGERS)), (0, 3));
}
