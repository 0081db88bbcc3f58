//! The cost of forwarding for a relay, without sealing and sending: one delivery of an 80-byte
//! frame, and a join among a thousand.
//!
//! Run it with `cargo bench -p hark-mesh --bench forwarding`. Times are per round, in which each
//! talker's frame is sent to everyone. Rates are of deliveries.

use std::time::Duration;

use divan::{Bencher, counter::ItemsCount};
use hark_charter::Charter;
use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, SeededRandom, Timestamp};
use hark_mesh::{
    Target,
    datagram::{Forward, ForwardedReport, Report, Slot},
    forwarding::{ForwardRoute, Forwarder, Limits, Rate},
};

fn main() {
    divan::main();
}

struct Relay {
    forwarder: Forwarder,
    now: Timestamp,
    channel: ChannelId,
    slots: Vec<Slot>,
    sequence: u16,
    datagram: Vec<u8>,
}

impl Relay {
    /// Everyone listens to the first channel, and has declared a route to it.
    fn new(members: usize, limits: Limits) -> Self {
        let charter = charter("Lobby");
        let mut forwarder = Forwarder::new(limits);
        forwarder.set_state(charter.state());
        let channel = charter.state().channels().next().expect("it begins with one").id;
        let now = Timestamp::from_millis(1_000);
        let mut relay =
            Self { forwarder, now, channel, slots: Vec::new(), sequence: 0, datagram: Vec::new() };
        for number in 0..members {
            let slot = relay.join(device(number as u16), number as u16);
            relay.slots.push(slot);
        }
        relay
    }

    fn join(&mut self, device: DeviceId, number: u16) -> Slot {
        let slot = self.forwarder.attach(self.now, device, Some(member(number)));
        let slot = slot.expect("there is room");
        self.forwarder.set_listening(slot, [self.channel]);
        let target = Target::of_channel(self.channel);
        let route = ForwardRoute { tag: [1; 4], target, only: None };
        self.forwarder.set_route(slot, route).expect("a first route is taken");
        slot
    }

    /// Sends a frame of each of `talkers`, with `copies` copies, to everyone. Returns the number of
    /// deliveries.
    fn round(&mut self, talkers: usize, copies: u16) -> u64 {
        self.now = self.now + Duration::from_millis(20);
        self.sequence = self.sequence.wrapping_add(1);
        let frame = [7; 80];
        let mut bytes = 0;
        for talker in 0..talkers {
            self.datagram.clear();
            let frames = (0..=copies).map(|_| &frame[..]);
            Forward::encode(30, [1; 4], self.sequence, frames, &mut self.datagram);
            let slot = self.slots[talker];
            self.forwarder.handle_datagram(self.now, slot, &self.datagram).expect("it is taken");
            while let Some(transmit) = self.forwarder.poll_transmit(self.now) {
                bytes += divan::black_box(transmit.bytes).len() as u64;
            }
        }
        bytes
    }
}

/// A charter that always has the same ids, with the given name of its channel.
fn charter(channel: &str) -> Charter {
    let random = SeededRandom::new(1);
    let founder = DeviceKey::generate(&random);
    Charter::found("Large", channel, &founder, None, &random)
}

fn device(number: u16) -> DeviceId {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    DeviceKey::from_secret(&secret).id()
}

fn member(number: u16) -> MemberId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    MemberId::from_bytes(bytes)
}

fn limits() -> Limits {
    Limits {
        sessions: 4_096,
        voice: Rate::UNLIMITED,
        voice_of_member: Rate::UNLIMITED,
        bundle_hold: Duration::ZERO,
        ..Limits::default()
    }
}

/// Five talkers. Each delivery is a datagram of its own.
#[divan::bench(args = [100, 1_000])]
fn delivery(bencher: Bencher<'_, '_>, members: usize) {
    let mut relay = Relay::new(members, limits());
    let deliveries = ItemsCount::new(5 * (members - 1));
    bencher.counter(deliveries).bench_local(|| relay.round(5, 0));
}

/// Five talkers that send two copies. Every listener wants one.
#[divan::bench(args = [100, 1_000])]
fn delivery_with_copies(bencher: Bencher<'_, '_>, members: usize) {
    let mut relay = Relay::new(members, limits());
    let mut since = relay.now;
    let deliveries = ItemsCount::new(5 * (members - 1));
    bencher.counter(deliveries).bench_local(|| {
        if relay.now >= since {
            since = relay.now + Duration::from_secs(1);
            for listener in relay.slots.clone() {
                for talker in 0..5 {
                    let report = Report { wanted_copies: 1, ..Report::default() };
                    let report = ForwardedReport { slot: relay.slots[talker], report };
                    let mut out = Vec::new();
                    report.encode(&mut out);
                    let _ = relay.forwarder.handle_datagram(relay.now, listener, &out);
                }
            }
        }
        relay.round(5, 2)
    });
}

/// Twenty talkers, bundled.
#[divan::bench(args = [100, 1_000])]
fn delivery_in_bundles(bencher: Bencher<'_, '_>, members: usize) {
    let limits = Limits { bundle_hold: Duration::from_millis(5), ..limits() };
    let mut relay = Relay::new(members, limits);
    let deliveries = ItemsCount::new(20 * (members - 1));
    bencher.counter(deliveries).bench_local(|| relay.round(20, 0));
}

/// A device joins while five talk and everyone has a route. From then on it is heard and hears.
/// Includes the cost of the five frames after it, to a thousand listeners each.
#[divan::bench]
fn frames_after_a_join_among_1000(bencher: Bencher<'_, '_>) {
    let mut relay = Relay::new(1_000, limits());
    relay.round(5, 0);
    let devices = [999, 1_000].map(device);
    let mut number = 0;
    bencher.bench_local(|| {
        // One device leaves for each that comes, so there are always a thousand.
        relay.forwarder.detach(relay.now, devices[number % 2]);
        number += 1;
        relay.join(devices[number % 2], 999 + number as u16 % 2);
        relay.round(5, 0)
    });
}

/// The same without the join.
#[divan::bench]
fn frames_without_a_join_among_1000(bencher: Bencher<'_, '_>) {
    let mut relay = Relay::new(1_000, limits());
    relay.round(5, 0);
    bencher.bench_local(|| relay.round(5, 0));
}

/// The first frame after a change of the charter, for which a thousand rights are looked up.
#[divan::bench]
fn first_frame_after_a_change_of_the_charter(bencher: Bencher<'_, '_>) {
    let mut relay = Relay::new(1_000, limits());
    let charters = ["Lobby", "Foyer"].map(charter);
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        relay.forwarder.set_state(charters[number % 2].state());
        relay.round(1, 0)
    });
}
