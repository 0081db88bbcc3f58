//! Tests of the lobby with ten thousand strangers at their true addresses, and members and
//! newcomers among them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr},
};

use hark_keys::{DeviceKey, SeededRandom};
use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn address(number: u32) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0000 + number), 7_000).into()
}

/// An event in a world of handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A stranger knocks that has shown its address.
    Stranger,
    /// The guest sends its first packet; the number counts the attempts.
    Packet(usize),
    /// The guest's Hello arrives at this seat.
    Hello(Seat),
}

/// A world with strangers at this many addresses. Each stranger holds its seat for as long as it
/// can and knocks again as soon as it has lost it. One of them knocks each `STRANGERS_EVERY`.
struct World {
    lobby: Lobby,
    now: Timestamp,
    happenings: BinaryHeap<Reverse<(Timestamp, u64, Happening)>>,
    number: u64,
    /// The stranger that holds each seat.
    seats: BTreeMap<Seat, u32>,
    /// The strangers that hold no seat, in the order in which they knock.
    waiting: VecDeque<u32>,
    addresses: u32,
    most: usize,
}

impl World {
    fn new(addresses: u32) -> Self {
        let mut world = Self {
            lobby: Lobby::new(),
            now: at(1_000),
            happenings: BinaryHeap::new(),
            number: 0,
            seats: BTreeMap::new(),
            waiting: (0..STRANGERS).collect(),
            addresses,
            most: 0,
        };
        world.plan(Duration::ZERO, Happening::Stranger);
        world
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.number += 1;
        self.happenings.push(Reverse((self.now + after, self.number, happening)));
    }

    fn lost(&mut self, seat: Seat) {
        if let Some(stranger) = self.seats.remove(&seat) {
            self.waiting.push_back(stranger);
        }
    }

    fn knock(&mut self, from: SocketAddr, is_known: bool) -> Option<Seat> {
        while let Some(late) = self.lobby.poll_late(self.now) {
            self.lost(late);
        }
        assert!(self.lobby.poll_timeout().is_none_or(|at| at > self.now));
        let verdict = self.lobby.handle_knock(self.now, from, is_known, true);
        self.most = self.most.max(self.lobby.rooms.iter().map(Places::len).sum());
        let Verdict::Enter { seat, instead } = verdict else { return None };
        if let Some(instead) = instead {
            self.lost(instead);
        }
        Some(seat)
    }

    /// Runs until the Hello of a guest arrives whose handshake begins now. It takes a round trip
    /// more if the guest's address must be validated. Returns how long that took.
    fn connects(&mut self, guest: SocketAddr, is_known: bool) -> Option<Duration> {
        let began = self.now;
        // The first packet has travelled half of a round trip, was answered by a Retry, and has
        // arrived again.
        self.plan(ROUND_TRIP * 3 / 2, Happening::Packet(0));
        let mut seat = None;
        while self.now < began + Duration::from_secs(20) {
            match self.step() {
                Happening::Packet(times) if seat.is_none() => {
                    seat = self.knock(guest, is_known);
                    match seat {
                        Some(seat) => self.plan(ROUND_TRIP, Happening::Hello(seat)),
                        // As QUIC does, which assumes a round trip of 100 ms (RFC 9002, 6.2).
                        None => {
                            let after = Duration::from_millis(300 << times);
                            self.plan(after, Happening::Packet(times + 1));
                        }
                    }
                }
                Happening::Hello(held) => {
                    let proven = self.lobby.handle_proven(held, device());
                    if proven {
                        self.lobby.leave(held);
                        return Some(self.now.saturating_duration_since(began) + ROUND_TRIP / 2);
                    }
                    // The guest has lost its seat, and dials again a second later.
                    seat = None;
                    self.plan(Duration::from_secs(1), Happening::Packet(0));
                }
                _ => {}
            }
        }
        None
    }

    fn run(&mut self, lasting: Duration) {
        let end = self.now + lasting;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) -> Happening {
        let Reverse((now, _, happening)) = self.happenings.pop().unwrap();
        self.now = now;
        if happening == Happening::Stranger {
            if let Some(stranger) = self.waiting.pop_front() {
                match self.knock(address(stranger % self.addresses), false) {
                    Some(seat) => drop(self.seats.insert(seat, stranger)),
                    None => self.waiting.push_back(stranger),
                }
            }
            self.plan(STRANGERS_EVERY, Happening::Stranger);
        }
        happening
    }
}

fn device() -> DeviceId {
    DeviceKey::generate(&SeededRandom::new(1)).id()
}

/// Regression: 256 handshakes that never continued kept everybody out for as long as they liked.
/// [PROTO-2.12] [PROTO-2.20]
#[test]
fn ten_thousand_strangers_who_stall_keep_nobody_out() {
    for addresses in [1, 100, 10_000] {
        let mut world = World::new(addresses);
        world.run(Duration::from_secs(5));
        for turn in 0..20 {
            let [member, guest] = [turn, turn + 100].map(|it| address(1_000_000 + it));
            let returned = world.connects(member, true).unwrap();
            assert!(returned <= Duration::from_secs(2), "{addresses}: {returned:?}");
            // Also a member at an address where no member has been.
            let came = world.connects(guest, false).unwrap();
            assert!(came <= Duration::from_secs(2), "{addresses}: {came:?}");
            world.run(Duration::from_millis(700));
        }
        assert!(world.most <= KNOWN_MAX + STRANGERS_MAX + RELAYED_MAX);
        if addresses == 1 {
            assert!(world.seats.len() <= ORIGIN_MAX, "one address holds a few");
        }
    }
}

/// Strangers at a member's address fill half of the members' places, but not those of other
/// members.
#[test]
fn a_flood_from_a_members_address_leaves_other_members_room() {
    let mut lobby = Lobby::new();
    let entered = (0..10_000).filter(|_| {
        matches!(lobby.handle_knock(at(1), address(1), true, true), Verdict::Enter { .. })
    });
    assert_eq!(entered.count(), KNOWN_MAX / 2 + ORIGIN_MAX);
    let member = lobby.handle_knock(at(2), address(2), true, true);
    assert!(matches!(
        member,
        Verdict::Enter { seat: Seat { room: Room::Known, .. }, instead: None }
    ));
}

/// Regression: a newcomer, or a member that used a relay, could fill all places through it.
#[test]
fn who_comes_by_a_relay_takes_no_place_of_those_who_do_not() {
    let mut lobby = Lobby::new();
    let relayed = |number: u16| {
        let ip = Ipv6Addr::new(0x100, 0, 0, 0, number, 2, 3, 4);
        SocketAddr::new(ip.into(), 1)
    };
    let entered = (0..1_000).filter(|_| {
        matches!(lobby.handle_knock(at(1), relayed(1), false, false), Verdict::Enter { .. })
    });
    assert_eq!(entered.count(), ORIGIN_MAX);
    for number in 2..2_000 {
        let verdict = lobby.handle_knock(at(1), relayed(number), false, false);
        assert!(matches!(verdict, Verdict::Enter { .. }), "{verdict:?}");
    }
    assert_eq!(lobby.rooms.each_ref().map(Places::len), [0, 0, RELAYED_MAX]);
    let direct = lobby.handle_knock(at(1), address(1), false, false);
    assert!(matches!(direct, Verdict::Enter { instead: None, .. }));
}

/// [PROTO-2.3] Regression: a device that never ended its handshake kept its place with a packet
/// each 25 s.
#[test]
fn who_does_not_end_its_hello_loses_its_place() {
    let mut lobby = Lobby::new();
    let knock = |lobby: &mut Lobby, number| match lobby.handle_knock(
        at(10),
        address(number),
        false,
        true,
    ) {
        Verdict::Enter { seat, .. } => seat,
        other => panic!("{other:?}"),
    };
    let first = knock(&mut lobby, 0);
    assert_eq!(lobby.poll_timeout(), Some(at(5_010)));
    assert_eq!(lobby.poll_late(at(5_009)), None);
    assert_eq!(lobby.poll_late(at(5_010)), Some(first));
    assert_eq!(lobby.poll_timeout(), None);
    assert!(!lobby.handle_proven(first, device()), "it has no place any more");
    for number in 0..u32::try_from(STRANGERS_MAX / 2).unwrap() {
        knock(&mut lobby, number);
    }
    assert_eq!(lobby.poll_timeout(), Some(at(3_010)), "others wait");
    assert!(lobby.poll_late(at(3_010)).is_some());
    assert_eq!(lobby.poll_timeout(), Some(at(5_010)));
}

/// [PROTO-2.21]
#[test]
fn a_device_has_eight_hellos_at_a_time() {
    let mut lobby = Lobby::new();
    let proven = (0..20).filter(|number| {
        let Verdict::Enter { seat, .. } = lobby.handle_knock(at(1), address(*number), false, true)
        else {
            panic!("there is room");
        };
        lobby.handle_proven(seat, device())
    });
    assert_eq!(proven.count(), DEVICE_MAX);
}

#[test]
fn from_thirty_two_on_newcomers_show_their_address_first() {
    let mut lobby = Lobby::new();
    let verdicts = (0..40).map(|number| lobby.handle_knock(at(1), address(number), false, false));
    assert_eq!(verdicts.filter(|it| *it == Verdict::Retry).count(), 8);
    let shown = lobby.handle_knock(at(1), address(99), false, true);
    assert!(matches!(shown, Verdict::Enter { .. }));
}

/// Regression: packets with a member's address forged as their source took that member's places.
#[test]
fn who_sends_in_anothers_name_keeps_that_one_out_of_nothing() {
    for is_known in [false, true] {
        let mut lobby = Lobby::new();
        for _ in 0..1_000 {
            lobby.handle_knock(at(1), address(1), is_known, false);
        }
        assert_eq!(lobby.rooms.iter().map(Places::len).sum::<usize>(), ORIGIN_MAX / 2);
        let member = lobby.handle_knock(at(1), address(1), is_known, true);
        assert!(matches!(member, Verdict::Enter { instead: None, .. }), "{member:?}");
    }
}

/// However many strangers come, handshakes with them take only a part of the processor's time.
#[test]
fn a_faster_flood_is_ignored_before_it_costs_a_handshake() {
    let mut lobby = Lobby::new();
    let mut entered = 0;
    for microsecond in (0..1_000_000).step_by(100) {
        let now = Timestamp::from_micros(10_000_000 + microsecond);
        let from = address(u32::try_from(microsecond).unwrap());
        let verdict = lobby.handle_knock(now, from, false, true);
        entered += usize::from(matches!(verdict, Verdict::Enter { .. }));
    }
    assert!((1_600..1_700).contains(&entered), "{entered}");
}

#[test]
fn an_address_counts_as_what_one_household_has() {
    let origin = |text: &str| Origin::of(text.parse().unwrap());
    assert_eq!(origin("192.0.2.1:1"), origin("192.0.2.1:2"));
    assert_ne!(origin("192.0.2.1:1"), origin("192.0.2.2:1"));
    assert_eq!(origin("192.0.2.1:1"), origin("[::ffff:192.0.2.1]:1"));
    assert_eq!(origin("[2001:db8:0:1200::1]:1"), origin("[2001:db8:0:12ff:9::9]:1"));
    assert_ne!(origin("[2001:db8:0:1200::1]:1"), origin("[2001:db8:0:1300::1]:1"));
}

#[test]
fn the_addresses_seen_last_are_known_and_those_told_now() {
    let mut known = Known::default();
    for number in 0..=u32::try_from(SEEN_MAX).unwrap() {
        known.see(at(number.into()), address(number));
    }
    assert_eq!([0, 1, 1_024, 1_025].map(|it| known.has(address(it))), [false, true, true, false]);
    known.tell([address(5_000), address(5_001)]);
    known.tell((0..10_000).map(|it| address(5_001 + it)));
    assert_eq!(
        [5_000, 5_001, 9_096, 9_097].map(|it| known.has(address(it))),
        [false, true, true, false]
    );
}

proptest! {
    /// Whatever comes: there are never more places than the limit, no origin that is new to a room
    /// is turned away for want of a place, and every connection loses its place in time.
    #[test]
    fn the_lobby_keeps_its_bounds(
        knocks in proptest::collection::vec((0_u32..2_000, any::<bool>(), 0_u64..50), 1..1_000),
    ) {
        let mut lobby = Lobby::new();
        let mut now = at(10_000);
        for (number, is_known, later) in knocks {
            now = now + Duration::from_millis(later);
            while lobby.poll_late(now).is_some() {}
            prop_assert!(lobby.poll_timeout().is_none_or(|at| at > now && at <= now + HELLO_WITHIN));
            lobby.handle_knock(now, address(number), is_known, true);
            let taken = lobby.rooms.each_ref().map(Places::len);
            prop_assert!(taken[0] <= KNOWN_MAX && taken[1] <= STRANGERS_MAX);
        }
        now = now + HELLO_WITHIN;
        while lobby.poll_late(now).is_some() {}
        prop_assert_eq!(lobby.rooms.each_ref().map(Places::len), [0; 3]);
    }
}

const STRANGERS: u32 = 10_000;
const STRANGERS_EVERY: Duration = Duration::from_millis(1);
const ROUND_TRIP: Duration = Duration::from_millis(200);
