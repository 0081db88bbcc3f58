//! Limits, bundles, and load beyond what can be sent.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::datagram::{BUNDLE_MAX_BYTES, KIND_BUNDLE, KIND_FORWARDED, KIND_INTRODUCTION};

/// A sender beyond its limit loses its own frames, and nobody else loses any.
#[test]
fn a_flood_costs_only_who_makes_it() {
    let mut world = World::new(Limits { bundle_hold: Duration::ZERO, ..Limits::default() });
    let flooder = world.talker(1);
    let talkers = [2, 3, 4].map(|number| world.talker(number));
    let listener = world.attach(5);
    let mut sequence = 0;
    let mut by_talker = BTreeMap::<u16, u32>::new();
    let mut taken = 0;
    for round in 0..500_u16 {
        world.wait(10);
        // 10,000 datagrams per second.
        for _ in 0..100 {
            sequence += 1;
            taken += u32::from(world.send(flooder, 1, sequence, 0).is_ok());
        }
        for talker in talkers {
            assert_eq!(world.send(talker, 1, round, 0), Ok(()));
        }
        for got in world.got() {
            if got.to == listener.number() {
                *by_talker.entry(got.from).or_default() += 1;
            }
        }
    }
    for talker in talkers {
        assert_eq!(by_talker[&talker.number()], 500);
    }
    // 240 per second for 5 s, and half a second's worth more. Its own queue also drops some.
    assert!((1_300..=1_321).contains(&taken), "{taken} taken");
    let lost = world.drops(DropReason::QueueFull) as u32;
    assert_eq!(by_talker[&flooder.number()] + lost, taken);
    assert_eq!(world.drops(DropReason::RateLimited) as u32, 50_000 - taken);
    let statistics = world.forwarder.statistics();
    let blamed: Vec<_> =
        statistics.members.iter().filter(|it| !it.1.dropped.is_empty()).map(|it| *it.0).collect();
    assert_eq!(blamed, [member(1)]);
}

#[test]
fn rates_hold_by_bytes_and_over_all_devices_of_a_member() {
    let voice_of_member = Rate { packets_per_second: 100, kbps: 0 };
    let mut world = World::new(Limits { voice_of_member, ..Limits::default() });
    let devices = [1, 2, 3].map(|number| world.attach_to(number, 1, &[]));
    for device in devices {
        world.route(device, 1, Target::of_channel(net(1)));
    }
    let mut taken = [0; 3];
    for sequence in 0..200 {
        world.wait(10);
        for (device, taken) in devices.into_iter().zip(&mut taken) {
            *taken += u32::from(world.send(device, 1, sequence, 0).is_ok());
        }
    }
    let all: u32 = taken.iter().sum();
    assert!((245..=252).contains(&all), "{taken:?}");

    // A device that leaves and comes back gains nothing by it.
    world.forwarder.detach(world.now, device(1));
    let again = world.attach_to(1, 1, &[]);
    world.route(again, 1, Target::of_channel(net(1)));
    assert_eq!(world.say(again, 1), Err(DropReason::RateLimited));

    let voice = Rate { packets_per_second: 0, kbps: 80 };
    let mut world = World::new(Limits { voice, ..Limits::default() });
    let ann = world.talker(1);
    let length = super::voice(1, 6, 5, 30).len();
    let taken = (2..1_000).filter(|it| world.send(ann, 1, 3 * it, 5).is_ok()).count();
    // Half a second at 10,000 bytes per second.
    assert_eq!(taken, 5_000 / length);
}

/// What exceeds the organisation's rate waits, and is dropped when it is late. All talkers lose
/// equally, and the relay's own reports to them are sent in any case.
#[test]
fn an_organisation_sends_no_more_than_it_may() {
    let out = Rate { packets_per_second: 500, kbps: 0 };
    let mut world = World::new(Limits { out, ..unlimited() });
    let talkers = [1, 2, 3, 4].map(|number| world.talker(number));
    for number in 5..15 {
        world.attach(number);
    }
    let mut from = BTreeMap::<u16, u32>::new();
    let (mut seen, mut introductions) = (0, 0);
    // 4 talkers, 50 frames per second, 13 listeners: 2,600 per second.
    for millisecond in 0..4_000_u16 {
        world.wait(1);
        if millisecond % 20 == 0 {
            for talker in talkers {
                assert_eq!(world.send(talker, 1, millisecond / 20, 0), Ok(()));
            }
        }
        while let Some(transmit) = world.forwarder.poll_transmit(world.now) {
            match FromRelay::parse(transmit.bytes) {
                Ok(FromRelay::Seen(_)) => seen += 1,
                Ok(FromRelay::Introduction(_)) => introductions += 1,
                _ => {}
            }
            for got in read(transmit) {
                *from.entry(got.from).or_default() += 1;
            }
        }
    }
    let sent: u32 = from.values().sum();
    assert_eq!(seen, 4 * 80 - 4);
    // The relay's own datagrams are charged, too. 200 ms' worth may be sent in advance.
    assert_eq!(introductions, 4 * 13 * 3);
    let all = sent + seen + introductions;
    assert!((2_095..=2_101).contains(&all), "{sent}, {seen} and {introductions}");
    let most = from.values().max().unwrap() - from.values().min().unwrap();
    assert!(most <= 2 * 13, "{from:?}");
    let over = world.drops(DropReason::OverQuota) as u32;
    // A talker has its turn every 104 ms.
    let waiting = 4 * 6 * 13;
    assert!((4 * 200 * 13 - waiting..=4 * 200 * 13).contains(&(sent + over)));
    assert_eq!(world.drops(DropReason::Late), 0);
    // The time when it may send again is known.
    let wake_at = world.forwarder.poll_timeout().unwrap();
    assert!(wake_at > world.now && wake_at <= world.now + Duration::from_millis(3));
}

/// A driver that needs `cost` for each datagram, in virtual time.
struct Overload {
    world: World,
    talkers: Vec<Slot>,
    cost: Duration,
    /// When the next frame of each talker is due, and its number.
    next: Vec<(Timestamp, u16)>,
    /// When each frame arrived at the relay's socket, by talker and number.
    arrivals: BTreeMap<(u16, u16), Timestamp>,
    /// Number of deliveries, by talker and by listener.
    from: BTreeMap<u16, u32>,
    to: BTreeMap<u16, u32>,
    latest: Duration,
}

impl Overload {
    fn new(talkers: u16, listeners: u16, cost: Duration) -> Self {
        let mut world = World::new(unlimited());
        let slots: Vec<_> = (1..=talkers).map(|number| world.talker(number)).collect();
        for number in 0..listeners {
            world.attach(1_000 + number);
        }
        let start = world.now;
        let phase = |index: usize| start + Duration::from_micros(20_000 * index as u64 / 7);
        Self {
            next: (0..slots.len()).map(|index| (phase(index), 0)).collect(),
            world,
            talkers: slots,
            cost,
            arrivals: BTreeMap::new(),
            from: BTreeMap::new(),
            to: BTreeMap::new(),
            latest: Duration::ZERO,
        }
    }

    /// The first `talking` talkers talk for this many seconds, 50 frames per second.
    fn run(&mut self, talking: usize, seconds: u64) {
        (self.from, self.to, self.latest) = Default::default();
        let end = self.world.now + Duration::from_secs(seconds);
        for next in &mut self.next {
            next.0 = next.0.max(self.world.now);
        }
        while self.world.now < end {
            for (talker, next) in self.talkers.iter().zip(&mut self.next).take(talking) {
                while next.0 <= self.world.now {
                    self.arrivals.insert((talker.number(), next.1), next.0);
                    let datagram = voice(1, next.1, 0, 30);
                    let taken = self.world.forwarder.handle_datagram(next.0, *talker, &datagram);
                    assert_eq!(taken, Ok(()));
                    *next = (next.0 + Duration::from_millis(20), next.1 + 1);
                }
            }
            for _ in 0..32 {
                let Some(transmit) = self.world.forwarder.poll_transmit(self.world.now) else {
                    self.world.now = self.world.now + Duration::from_micros(100);
                    break;
                };
                self.world.now = self.world.now + self.cost;
                for got in read(transmit) {
                    let came = self.arrivals[&(got.from, got.sequence)];
                    let after = self.world.now.saturating_duration_since(came);
                    self.latest = self.latest.max(after);
                    *self.from.entry(got.from).or_default() += 1;
                    *self.to.entry(got.to).or_default() += 1;
                }
            }
        }
    }
}

/// [PROTO-9.13] Under twice the load nothing is late, everybody loses equally, and the delay ends
/// with the load.
#[test]
fn overload_loses_frames_and_is_never_late() {
    // 10 talkers to 209 others: 104,500 per second, while 50,000 can be sent.
    let mut relay = Overload::new(10, 200, Duration::from_micros(20));
    // At first 836 listeners are told whose voice it is, three times each.
    relay.run(4, 1);
    assert!(relay.latest < Duration::from_millis(60), "{:?}", relay.latest);
    relay.latest = Duration::ZERO;
    relay.run(4, 2);
    assert!(relay.latest < Duration::from_millis(20), "{:?}", relay.latest);
    assert_eq!(relay.world.drops(DropReason::Late), 0);
    relay.run(10, 5);
    // A frame that is not late yet takes 209 turns, half of them while six are introduced.
    assert!(relay.latest <= Duration::from_millis(69), "{:?}", relay.latest);
    let sent: u32 = relay.from.values().sum();
    assert!(sent > 240_000, "{sent} sent");
    let spread = |of: &BTreeMap<u16, u32>| {
        f64::from(*of.values().max().unwrap()) / f64::from(*of.values().min().unwrap())
    };
    assert!(spread(&relay.from) < 1.1, "{:?}", relay.from);
    let listeners: BTreeMap<_, _> =
        relay.to.iter().filter(|it| *it.0 > 10).map(|it| (*it.0, *it.1)).collect();
    assert_eq!(listeners.len(), 200);
    assert!(spread(&listeners) < 1.15, "{:?}", listeners);
    // At most 60 ms of what has arrived wait.
    relay.run(4, 1);
    let late = relay.world.drops(DropReason::Late);
    assert!(late > 200_000);
    relay.run(4, 1);
    assert!(relay.latest < Duration::from_millis(20), "{:?}", relay.latest);
    assert_eq!(relay.world.drops(DropReason::Late), late);
    assert_eq!(relay.from.values().sum::<u32>(), 4 * 50 * 209);
}

/// With few talkers nothing is held back. With many, a listener gets several frames in one
/// datagram.
#[test]
fn many_talkers_are_bundled_and_few_are_not() {
    let mut world = World::new(Limits::default());
    let talkers: Vec<_> = (1..=20).map(|number| world.talker(number)).collect();
    let listener = world.attach(30);
    let run = |world: &mut World, talking: usize, first: u16| {
        let mut datagrams = Vec::new();
        let mut longest = Duration::ZERO;
        let mut came = BTreeMap::new();
        // One second. Each talker has its own millisecond out of twenty.
        for millisecond in 0..1_000_u16 {
            world.wait(1);
            let turn = usize::from(millisecond % 20);
            if turn < talking {
                let sequence = first + millisecond / 20;
                assert_eq!(world.send(talkers[turn], 1, sequence, 0), Ok(()));
                came.insert((talkers[turn].number(), sequence), world.now);
            }
            while let Some(transmit) = world.forwarder.poll_transmit(world.now) {
                if transmit.to != listener {
                    continue;
                }
                assert!(transmit.bytes.len() <= BUNDLE_MAX_BYTES);
                let kind = transmit.bytes[0];
                let parts = read(transmit);
                for part in &parts {
                    let came = came.remove(&(part.from, part.sequence)).expect("once");
                    longest = longest.max(world.now.saturating_duration_since(came));
                }
                if !parts.is_empty() {
                    datagrams.push((kind, parts.len()));
                }
            }
        }
        (datagrams, longest, came.len())
    };
    let (datagrams, longest, left) = run(&mut world, 7, 0);
    assert!(datagrams.iter().all(|it| *it == (KIND_FORWARDED, 1)));
    assert_eq!((datagrams.len(), longest, left), (7 * 50, Duration::ZERO, 0));

    world.wait(300);
    let (datagrams, longest, left) = run(&mut world, 20, 100);
    assert_eq!(longest, Duration::from_millis(5));
    let deliveries: usize = datagrams.iter().map(|it| it.1).sum();
    assert_eq!(deliveries + left, 1_000);
    // After 40 datagrams in a tenth of a second the relay knows that many talk.
    assert!(datagrams[..40].iter().all(|it| *it == (KIND_FORWARDED, 1)));
    assert!(datagrams[40..].iter().all(|it| *it == (KIND_BUNDLE, 5)));
    assert!(left <= 5);

    // When they have stopped, the rest comes without a new frame.
    let wake_at = world.forwarder.poll_timeout().expect("a bundle waits");
    assert!(wake_at <= world.now + Duration::from_millis(5));
    world.wait(5);
    assert!(world.got().iter().any(|it| it.to == listener.number()));

    world.wait(300);
    let (datagrams, longest, _) = run(&mut world, 7, 200);
    assert!(datagrams.iter().all(|it| *it == (KIND_FORWARDED, 1)));
    assert_eq!(longest, Duration::ZERO);
    let statistics = world.forwarder.statistics();
    let to_listener = &statistics.members[&member(30)];
    assert_eq!(to_listener.deliveries, 350 + 1_000 + 350);
}

/// [PROTO-9.5] Frames that waited, since more was to be sent than could be, are sent together,
/// however few talk. So a relay that is behind catches up.
#[test]
fn what_has_waited_is_bundled() {
    let mut world = World::new(Limits::default());
    let talkers: Vec<_> = (1..=6).map(|number| world.talker(number)).collect();
    let listener = world.attach(30);
    for (talker, sequence) in talkers.iter().zip(1..) {
        assert_eq!(world.send(*talker, 1, sequence, 0), Ok(()));
    }
    // Meanwhile the driver has not polled.
    world.wait(5);
    let mut datagrams = Vec::new();
    for _ in 0..2 {
        while let Some(transmit) = world.forwarder.poll_transmit(world.now) {
            if transmit.to == listener {
                let kind = transmit.bytes[0];
                datagrams.push((kind, read(transmit).len()));
            }
        }
        world.wait(5);
    }
    datagrams.retain(|(kind, _)| [KIND_FORWARDED, KIND_BUNDLE].contains(kind));
    assert_eq!(datagrams, [(KIND_BUNDLE, 6)]);
}

/// A full bundle is sent at once. A frame that is too large for any bundle is sent by itself.
#[test]
fn a_full_bundle_does_not_wait() {
    let limits = Limits { bundle_above: 0, ..unlimited() };
    let mut world = World::new(Limits { bundle_hold: Duration::from_millis(5), ..limits });
    let ann = world.talker(1);
    world.attach(2);
    let poll = |world: &mut World| {
        loop {
            let transmit = world.forwarder.poll_transmit(world.now)?;
            if transmit.bytes[0] != KIND_INTRODUCTION {
                break Some((transmit.bytes.len(), read(transmit).len()));
            }
        }
    };
    // Each frame takes 10 + 2 + 60 bytes, plus 2 for its length in the bundle, less 1 for its kind.
    for number in 0..17 {
        assert_eq!(world.send(ann, 1, 2 + 3 * number, 0), Ok(()));
    }
    assert_eq!(poll(&mut world), Some((1 + 16 * 73, 16)));
    assert_eq!(poll(&mut world), None);
    world.wait(5);
    assert_eq!(poll(&mut world), Some((72, 1)));
    // With short frames: 32 at most.
    let mut out = Vec::new();
    for number in 100..140 {
        out.clear();
        Forward::encode(30, [1; 4], number, [&b"x"[..]], &mut out);
        assert_eq!(world.forwarder.handle_datagram(world.now, ann, &out), Ok(()));
        if let Some(full) = poll(&mut world) {
            assert_eq!((number, full), (132, (1 + 32 * 14, 32)));
        }
    }
    let large = [1; 1_190];
    out.clear();
    Forward::encode(30, [1; 4], 150, [&large[..]], &mut out);
    assert_eq!(world.forwarder.handle_datagram(world.now, ann, &out), Ok(()));
    assert_eq!(poll(&mut world), Some((1_202, 1)));
    // Frames that have waited too long are not sent any more.
    world.wait(61);
    // The talker is told what arrived, and the listener that there is a talker.
    assert_eq!([poll(&mut world), poll(&mut world)], [Some((12, 0)), Some((6, 0))]);
    assert_eq!(poll(&mut world), None);
    assert_eq!(world.drops(DropReason::Late), 8);
}

/// A bundle takes a frame that just fits.
#[test]
fn a_bundle_is_filled_to_the_last_byte() {
    let limits = Limits { bundle_above: 0, ..unlimited() };
    // The lengths and numbers of frames of the datagrams, with the milliseconds after which they
    // are sent.
    let sent = |lengths: &[usize]| {
        let mut world = World::new(Limits { bundle_hold: Duration::from_millis(5), ..limits });
        let ann = world.talker(1);
        world.attach(2);
        for (number, length) in (0..).zip(lengths) {
            let mut out = Vec::new();
            Forward::encode(30, [1; 4], number, [&*vec![1; *length]], &mut out);
            assert_eq!(world.forwarder.handle_datagram(world.now, ann, &out), Ok(()));
        }
        let mut sent = Vec::new();
        for after in [0, 5] {
            world.wait(after);
            while let Some(transmit) = world.forwarder.poll_transmit(world.now) {
                if transmit.bytes[0] != KIND_INTRODUCTION {
                    sent.push((after, transmit.bytes.len(), read(transmit).len()));
                }
            }
        }
        sent
    };
    // A bundle takes a byte for its kind, and 13 bytes besides each frame.
    let longest = BUNDLE_MAX_BYTES - 1 - 13;
    assert_eq!(sent(&[longest]), [(5, 12 + longest, 1)]);
    assert_eq!(sent(&[longest + 1]), [(0, 12 + longest + 1, 1)]);
    assert_eq!(sent(&[500, longest - 513]), [(5, BUNDLE_MAX_BYTES, 2)]);
    assert_eq!(sent(&[500, longest - 512]), [(0, 512, 1), (5, 12 + longest - 512, 1)]);
}

/// [PROTO-9.13] A frame waits for its turn for up to 60 ms. One that is being sent goes on until it
/// is 75 ms old.
#[test]
fn a_frame_is_sent_until_it_is_late() {
    let mut world = World::new(unlimited());
    let ann = world.talker(1);
    for number in 2..6 {
        world.attach(number);
    }
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.got().len(), 4);
    let next = |world: &mut World| {
        loop {
            let got = read(world.forwarder.poll_transmit(world.now)?);
            if !got.is_empty() {
                break Some(got.len());
            }
        }
    };
    assert_eq!(world.say(ann, 1), Ok(()));
    world.wait(60);
    assert_eq!(next(&mut world), Some(1));
    world.wait(15);
    assert_eq!(next(&mut world), Some(1));
    world.wait(1);
    assert_eq!(next(&mut world), None);
    assert_eq!(world.drops(DropReason::Late), 2);
    assert_eq!(world.say(ann, 1), Ok(()));
    world.wait(61);
    assert_eq!(next(&mut world), None);
    assert_eq!(world.drops(DropReason::Late), 2 + 4);
}

proptest! {
    /// However much arrives, and however rarely the driver has time: each delivery is made once, or
    /// counted as dropped.
    #[test]
    fn no_delivery_is_lost_from_the_books(
        steps in vec((0..8_u64, 0..6_usize, 0..40_usize), 1..150),
        bundles in any::<bool>(),
        packets_per_second in prop_oneof![Just(0_u32), 50..2_000_u32],
    ) {
        let out = Rate { packets_per_second, kbps: 0 };
        let hold = if bundles { Duration::from_millis(5) } else { Duration::ZERO };
        let mut world =
            World::new(Limits { out, bundle_above: 100, bundle_hold: hold, ..unlimited() });
        let talkers = [1, 2, 3].map(|number| world.talker(number));
        for number in 4..12 {
            world.attach(number);
        }
        let mut got = BTreeMap::<(u16, u16, u16), u32>::new();
        let mut taken = 0;
        for (wait, frames, polls) in steps.into_iter().chain([(200, 0, usize::MAX)]) {
            world.wait(wait * wait);
            for number in 0..frames {
                taken += u64::from(world.say(talkers[number % 3], 1).is_ok());
            }
            for _ in 0..polls {
                let Some(transmit) = world.forwarder.poll_transmit(world.now) else { break };
                for it in read(transmit) {
                    *got.entry((it.from, it.to, it.sequence)).or_default() += 1;
                }
            }
        }
        prop_assert!(got.values().all(|times| *times == 1));
        let dropped = world.drops(DropReason::Late) + world.drops(DropReason::OverQuota);
        let whole = world.drops(DropReason::QueueFull);
        prop_assert_eq!((taken - whole) * 10, got.len() as u64 + dropped);
        let deliveries = world.forwarder.statistics().total.deliveries;
        prop_assert_eq!(deliveries, got.len() as u64);
    }
}
