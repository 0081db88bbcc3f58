//! Small cases of who gets which datagram.

mod load;
mod model;
mod signals;

use hark_charter::{
    Charter, Piece,
    content::{
        Capabilities, Change, Channel, ChannelMode, Grant, Place as At, Rank, Role, Rule, Subject,
    },
};
use hark_keys::{DeviceKey, List, RoleId, SeededRandom};

use super::*;
use crate::{
    Target,
    datagram::{Forward, Forwarded, FromRelay, Knock, Report, SILENCE, Tunnel},
};

/// A forwarder, and the devices that a test has attached.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) forwarder: Forwarder,
    sequence: u16,
}

/// A datagram that a listener got, with its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Got {
    pub(super) to: u16,
    pub(super) from: u16,
    pub(super) sequence: u16,
    pub(super) frames: Vec<Vec<u8>>,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let mut forwarder = Forwarder::new(limits);
        forwarder.set_state(&state(&[]));
        Self { now: Timestamp::from_millis(5_000), forwarder, sequence: 0 }
    }

    /// Attaches a device of the member `number` that listens to net 1.
    pub(super) fn attach(&mut self, number: u16) -> Slot {
        self.attach_to(number, number, &[1])
    }

    pub(super) fn attach_to(&mut self, number: u16, of: u16, nets: &[u8]) -> Slot {
        let slot = self.forwarder.attach(self.now, device(number), Some(member(of))).unwrap();
        self.forwarder.set_listening(slot, nets.iter().map(|it| net(*it)));
        slot
    }

    /// Attaches a talker with a route of tag `[1; 4]` to net 1.
    pub(super) fn talker(&mut self, number: u16) -> Slot {
        let slot = self.attach(number);
        self.route(slot, 1, Target::of_channel(net(1)));
        slot
    }

    pub(super) fn route(&mut self, slot: Slot, tag: u8, target: Target) {
        let route = ForwardRoute { tag: [tag; 4], target, only: None };
        self.forwarder.set_route(slot, route).unwrap();
    }

    pub(super) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }

    /// Sends one frame by the route with this tag, with the next sequence number.
    pub(super) fn say(&mut self, slot: Slot, tag: u8) -> Result<(), DropReason> {
        self.sequence += 1;
        self.send(slot, tag, self.sequence, 0)
    }

    pub(super) fn send(
        &mut self,
        slot: Slot,
        tag: u8,
        sequence: u16,
        copies: u16,
    ) -> Result<(), DropReason> {
        let datagram = voice(tag, sequence, copies, 30);
        self.forwarder.handle_datagram(self.now, slot, &datagram)
    }

    /// Everything that is sent now, without signals.
    pub(super) fn got(&mut self) -> Vec<Got> {
        let mut got = Vec::new();
        while let Some(transmit) = self.forwarder.poll_transmit(self.now) {
            got.extend(read(transmit));
        }
        got
    }

    /// The pairs of talker and listener of everything that is sent now.
    pub(super) fn heard(&mut self) -> Vec<(u16, u16)> {
        let mut heard: Vec<_> = self.got().into_iter().map(|it| (it.from, it.to)).collect();
        heard.sort_unstable();
        heard
    }

    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        self.forwarder.statistics().total.dropped.get(&reason).copied().unwrap_or(0)
    }
}

pub(super) fn read(transmit: ForwardTransmit<'_>) -> Vec<Got> {
    let got = |Forwarded { slot, voice }: Forwarded<'_>| Got {
        to: transmit.to.number(),
        from: slot.number(),
        sequence: voice.sequence,
        frames: voice.frames.iter().map(|it| it.to_vec()).collect(),
    };
    match FromRelay::parse(transmit.bytes).expect("a relay sends what parses") {
        FromRelay::Forwarded(part) => vec![got(part)],
        FromRelay::Bundle(bundle) => bundle.iter().map(got).collect(),
        FromRelay::Tunnel(_)
        | FromRelay::Seen(_)
        | FromRelay::Pulse(_)
        | FromRelay::Introduction(_)
        | FromRelay::Knock(_) => Vec::new(),
    }
}

/// A datagram of kind 4 whose frames contain their numbers.
pub(super) fn voice(tag: u8, sequence: u16, copies: u16, level: u8) -> Vec<u8> {
    let frames: Vec<_> = (0..=copies).map(|age| frame(sequence.wrapping_sub(age))).collect();
    let mut out = Vec::new();
    Forward::encode(level, [tag; 4], sequence, frames.iter().map(Vec::as_slice), &mut out);
    out
}

pub(super) fn frame(number: u16) -> Vec<u8> {
    number.to_be_bytes().repeat(usize::from(1 + number % 3) * 10)
}

pub(super) fn device(number: u16) -> DeviceId {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    DeviceKey::from_secret(&secret).id()
}

pub(super) fn member(number: u16) -> MemberId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    MemberId::from_bytes(bytes)
}

pub(super) fn net(number: u8) -> ChannelId {
    ChannelId::from_bytes([number; 16])
}

/// Nets 1 to 3, of which 2 and 3 are linked. `denied` lists rights that members do not have on a
/// net.
pub(super) fn state(denied: &[(u16, u8, Capabilities)]) -> State {
    state_of(ChannelMode::Open, denied)
}

/// Like [`state`], with another mode of the nets.
fn state_of(mode: ChannelMode, denied: &[(u16, u8, Capabilities)]) -> State {
    let random = SeededRandom::new(3);
    let founder = DeviceKey::generate(&random);
    let mut charter = Charter::found("Squad", "Lobby", &founder, None, &random);
    let own = charter.member_of(founder.id());
    let channel = |n| Channel { mode, ..Channel::open(net(n), &format!("Net {n}")) };
    let mut changes: Vec<_> = (1..=3).map(|n| Change::Channel(channel(n))).collect();
    changes.push(Change::Link { a: net(2), b: net(3), linked: true });
    changes.push(Change::Rule(Rule {
        at: At::Organisation,
        subject: Subject::Everyone,
        allow: Capabilities::PRIORITY,
        deny: Capabilities::NONE,
    }));
    changes.push(Change::Role(Role {
        id: CREW,
        name: "crew".to_owned(),
        rank: Rank(100),
        capabilities: Capabilities::NONE,
    }));
    let members = List::truncated([member(2), member(5)]);
    changes.push(Change::Grant(Grant { role: CREW, at: At::Organisation, members }));
    changes.extend(denied.iter().map(|(whose, at, deny)| {
        Change::Rule(Rule {
            at: At::Channel(net(*at)),
            subject: Subject::Member(member(*whose)),
            allow: Capabilities::NONE,
            deny: *deny,
        })
    }));
    let operation = charter.edit(&founder, own, changes).unwrap();
    charter.take(Piece::Operation(operation)).unwrap();
    charter.state().clone()
}

/// The role that members 2 and 5 have.
pub(super) const CREW: RoleId = RoleId::from_bytes([9; 16]);

fn unlimited() -> Limits {
    Limits {
        voice: Rate::UNLIMITED,
        voice_of_member: Rate::UNLIMITED,
        tunnels: Rate::UNLIMITED,
        bundle_hold: Duration::ZERO,
        ..Limits::default()
    }
}

/// [PROTO-9.3]
#[test]
fn one_delivery_goes_to_each_who_listens_and_none_to_who_speaks() {
    let mut world = World::new(Limits::default());
    let ann = world.talker(1);
    let bob = world.attach(2);
    let cid = world.attach_to(3, 3, &[1, 2, 3]);
    world.attach_to(4, 4, &[2]);
    // A second device of the talker's own member hears it; the talking device itself does not.
    let second = world.attach_to(5, 1, &[1]);
    world.route(ann, 2, Target::new([net(1), net(2)], [member(2)], []));
    assert_eq!(world.send(ann, 1, 7, 1), Ok(()));
    let got = world.got();
    let to: Vec<_> = got.iter().map(|it| it.to).collect();
    assert_eq!(to.len(), 3);
    for listener in [bob, cid, second] {
        assert!(to.contains(&listener.number()));
    }
    for it in got {
        // No listener has asked for the copy.
        assert_eq!((it.from, it.sequence, it.frames), (ann.number(), 7, vec![frame(7)]));
    }
    // Listeners that are reached in several ways still get it once.
    assert_eq!(world.send(ann, 2, 8, 0), Ok(()));
    assert_eq!(world.heard(), [(1, 2), (1, 3), (1, 4), (1, 5)]);
    let statistics = world.forwarder.statistics();
    assert_eq!((statistics.sessions, statistics.talkers), (5, 1));
    assert_eq!((statistics.total.datagrams_in, statistics.total.deliveries), (2, 7));
    assert_eq!(statistics.members[&member(1)].deliveries, 2);
    assert_eq!(statistics.members[&member(3)].deliveries, 2);
    assert_eq!(statistics.members[&member(4)].deliveries, 1);
    let bytes: usize = [voice(1, 7, 1, 30), voice(2, 8, 0, 30)].iter().map(Vec::len).sum();
    assert_eq!(statistics.members[&member(1)].bytes_in, bytes as u64);
    let body = |number| (Forwarded::HEADER + 2 + frame(number).len()) as u64;
    // Each listener is told once whose voice it is, in 35 bytes.
    assert_eq!(statistics.total.bytes_out, 3 * body(7) + 4 * body(8) + 4 * 35);
}

/// [PROTO-9.9] Speech that the charter does not permit is neither forwarded nor delivered.
#[test]
fn rights_decide_who_is_heard_and_who_hears() {
    const MAY_NOT_SPEAK: u16 = 2;
    const MAY_NOT_LISTEN: u16 = 3;
    let mut world = World::new(Limits::default());
    let denied = [
        (MAY_NOT_SPEAK, 1, Capabilities::SPEAK),
        (MAY_NOT_LISTEN, 1, Capabilities::LISTEN),
        (4, 3, Capabilities::LISTEN),
    ];
    world.forwarder.set_state(&state(&denied));
    let talkers: Vec<_> = (1..=4).map(|number| world.talker(number)).collect();
    let stranger = world.forwarder.attach(world.now, device(9), None).unwrap();
    world.forwarder.set_listening(stranger, [net(1)]);
    world.route(stranger, 1, Target::of_channel(net(1)));
    let outcomes: Vec<_> = talkers.iter().map(|slot| world.say(*slot, 1)).collect();
    assert_eq!(outcomes, [Ok(()), Err(DropReason::NotPermitted), Ok(()), Ok(())]);
    assert_eq!(world.say(stranger, 1), Err(DropReason::NotPermitted));
    assert_eq!(world.heard(), [(1, 2), (1, 4), (3, 1), (3, 2), (3, 4), (4, 1), (4, 2)]);
    // Without a route there is no speech.
    assert_eq!(world.say(talkers[0], 5), Err(DropReason::UnknownTarget));
    assert_eq!(world.say(Slot::new(99).unwrap(), 1), Err(DropReason::UnknownSlot));
    assert_eq!(world.heard(), []);
    // A link reaches those who may listen at its other end.
    world.route(talkers[0], 2, Target::of_channel(net(2)));
    world.forwarder.set_listening(talkers[3], [net(3)]);
    world.forwarder.set_listening(talkers[1], [net(3)]);
    assert_eq!(world.say(talkers[0], 2), Ok(()));
    assert_eq!(world.heard(), [(1, 2)]);
    // A member that gets or loses a right is heard, or not, from the next frame on.
    world.forwarder.set_state(&state(&[(1, 2, Capabilities::SPEAK)]));
    assert_eq!(world.say(talkers[0], 2), Err(DropReason::NotPermitted));
    assert_eq!(world.say(talkers[2], 1), Ok(()));
    assert_eq!(world.heard(), [(3, 1)]);
    assert_eq!(world.say(talkers[1], 1), Ok(()));
    assert_eq!(world.heard(), [(2, 1), (2, 3)]);
    assert_eq!(world.drops(DropReason::NotPermitted), 3);
    let of = |number| world.forwarder.statistics().members[&member(number)].dropped.clone();
    assert_eq!(of(2), BTreeMap::from([(DropReason::NotPermitted, 1)]));
}

#[test]
fn a_whisper_reaches_members_whatever_they_listen_to() {
    let mut world = World::new(Limits::default());
    let ann = world.talker(1);
    world.attach_to(2, 2, &[]);
    world.attach_to(3, 2, &[3]);
    world.attach(4);
    world.route(ann, 2, Target::new([], [member(2)], []));
    assert_eq!(world.say(ann, 2), Ok(()));
    assert_eq!(world.heard(), [(1, 2), (1, 3)]);
}

#[test]
fn a_route_is_for_those_it_names_only() {
    let mut world = World::new(Limits::default());
    let ann = world.talker(1);
    for number in 2..=5 {
        world.attach(number);
    }
    world.attach_to(6, 6, &[2]);
    let only = Some(List::truncated([3, 5, 6, 7].map(device)));
    let route = ForwardRoute { tag: [2; 4], target: Target::of_channel(net(1)), only };
    world.forwarder.set_route(ann, route).unwrap();
    assert_eq!(world.say(ann, 2), Ok(()));
    assert_eq!(world.heard(), [(1, 3), (1, 5)]);
    // A device that comes later is considered, too. The other route is unchanged.
    let late = world.attach(7);
    world.attach(8);
    assert_eq!(world.say(ann, 2), Ok(()));
    assert_eq!(world.heard(), [(1, 3), (1, 5), (1, late.number())]);
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.heard().len(), 6);
}

#[test]
fn who_comes_and_goes_is_heard_and_hears_at_once() {
    let mut world = World::new(Limits::default());
    let ann = world.talker(1);
    let bob = world.talker(2);
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.heard(), [(1, 2)]);
    let cid = world.attach(3);
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.heard(), [(1, 2), (1, 3)]);
    world.forwarder.set_listening(bob, [net(3)]);
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.heard(), [(1, 3)]);
    world.forwarder.detach(world.now, device(3));
    assert_eq!(world.say(ann, 1), Ok(()));
    assert_eq!(world.heard(), []);
    assert_eq!(world.say(cid, 1), Err(DropReason::UnknownSlot));
    // The index of a device that has left is given to the next one. Frames on their way are not.
    world.forwarder.set_listening(bob, [net(1)]);
    assert_eq!(world.say(ann, 1), Ok(()));
    world.forwarder.detach(world.now, device(2));
    let dora = world.attach(4);
    assert_ne!(dora, bob);
    assert_eq!(world.heard(), []);
    // What a talker has said is dropped when it leaves.
    assert_eq!(world.say(ann, 1), Ok(()));
    world.forwarder.detach(world.now, device(1));
    assert_eq!(world.heard(), []);
    assert_eq!(world.forwarder.statistics().talkers, 0);
}

/// A talker that leaves while its frame is being sent costs the next one nothing.
#[test]
fn a_frame_ends_with_its_talker() {
    let mut world = World::new(Limits::default());
    let ann = world.talker(1);
    let bob = world.talker(2);
    world.attach(3);
    assert_eq!(world.say(ann, 1), Ok(()));
    assert!(world.forwarder.poll_transmit(world.now).is_some());
    assert_eq!(world.say(bob, 1), Ok(()));
    world.forwarder.detach(world.now, device(1));
    assert_eq!(world.heard(), [(2, 3)]);
    assert_eq!(world.say(bob, 1), Ok(()));
    assert_eq!(world.heard(), [(2, 3)]);
}

/// [PROTO-9.1] A slot is unused for a minute after its device has left.
#[test]
fn slots_rest_before_they_are_given_again() {
    let mut world = World::new(Limits { sessions: 3, ..Limits::default() });
    let slots: Vec<_> = (1..=3).map(|number| world.attach(number).number()).collect();
    assert_eq!(slots, [1, 2, 3]);
    assert_eq!(world.forwarder.attach(world.now, device(4), None), Err(AttachError::Full));
    // A device that is already attached keeps its slot.
    assert_eq!(world.attach(2).number(), 2);
    assert_eq!(world.forwarder.slot_of(device(2)), Slot::new(2));
    assert_eq!(world.forwarder.device_of(Slot::new(2).unwrap()), Some(device(2)));
    assert_eq!(world.forwarder.member_of(Slot::new(2).unwrap()), Some(member(2)));
    world.forwarder.detach(world.now, device(2));
    assert_eq!(world.forwarder.slot_of(device(2)), None);
    assert_eq!(world.forwarder.device_of(Slot::new(2).unwrap()), None);
    assert_eq!(world.attach(2).number(), 4);
    world.forwarder.detach(world.now, device(2));
    world.wait(59_999);
    assert_eq!(world.attach(2).number(), 5);
    world.forwarder.detach(world.now, device(2));
    world.wait(1);
    assert_eq!(world.attach(2).number(), 2);
    world.forwarder.detach(world.now, device(1));
    assert_eq!(world.attach(1).number(), 4);
    // A device that turns out to be another member's gets a new slot.
    assert_eq!(world.attach_to(1, 7, &[1]).number(), 6);
    assert_eq!(world.forwarder.statistics().sessions, 3);
}

/// A device that comes and goes all the time uses up the slots, and takes nobody else's.
#[test]
fn slots_that_rest_are_not_taken_when_all_are_used_up() {
    let mut world = World::new(Limits::default());
    let ann = world.attach(1);
    let bob = device(2);
    let mut attached = 0;
    while world.forwarder.attach(world.now, bob, Some(member(2))).is_ok() {
        attached += 1;
        world.forwarder.detach(world.now, bob);
    }
    assert_eq!(attached, usize::from(u16::MAX) - 1);
    assert_eq!(world.forwarder.slot_of(device(1)), Some(ann));
    world.wait(60_000);
    assert_eq!(world.forwarder.attach(world.now, bob, Some(member(2))), Ok(Slot::new(2).unwrap()));
}

/// A member without a device here is forgotten once 4,096 others have left after it.
#[test]
fn the_member_that_left_longest_ago_is_forgotten() {
    let mut world = World::new(Limits { sessions: 2, ..Limits::default() });
    world.attach(0);
    let come_and_go = |world: &mut World, number| {
        world.attach(number);
        world.forwarder.detach(world.now, device(number));
    };
    // As many as can be attached, and 4,096 more.
    for number in 1..=4_097 {
        come_and_go(&mut world, number);
    }
    // The first one was here once more.
    come_and_go(&mut world, 1);
    let known = |world: &World| {
        let members = world.forwarder.statistics().members;
        (members.len(), [0, 1, 2, 3].map(|number| members.contains_key(&member(number))))
    };
    assert_eq!(known(&world), (4_098, [true; 4]));
    come_and_go(&mut world, 4_098);
    assert_eq!(known(&world), (4_098, [true, true, false, true]));
}

#[test]
fn routes_are_limited_replaced_and_removed() {
    let mut world = World::new(Limits::default());
    let ann = world.attach(1);
    world.attach(2);
    world.attach_to(3, 3, &[2]);
    for tag in 0..64 {
        world.route(ann, tag, Target::of_channel(net(1)));
    }
    let route = |tag, target| ForwardRoute { tag: [tag; 4], target, only: None };
    let more = route(64, Target::of_channel(net(1)));
    assert_eq!(world.forwarder.set_route(ann, more.clone()), Err(RouteError::TooMany));
    let nothing = route(1, Target::default());
    assert_eq!(world.forwarder.set_route(ann, nothing), Err(RouteError::Unsound));
    let nobody = Slot::new(9).unwrap();
    assert_eq!(world.forwarder.set_route(nobody, more.clone()), Err(RouteError::NotAttached));
    assert_eq!(world.say(ann, 63), Ok(()));
    assert_eq!(world.heard(), [(1, 2)]);
    world.route(ann, 63, Target::of_channel(net(2)));
    assert_eq!(world.say(ann, 63), Ok(()));
    assert_eq!(world.heard(), [(1, 3)]);
    world.forwarder.remove_route(ann, [63; 4]);
    assert_eq!(world.say(ann, 63), Err(DropReason::UnknownTarget));
    assert_eq!(world.forwarder.set_route(ann, more), Ok(()));
    assert_eq!(world.say(ann, 64), Ok(()));
    assert_eq!(world.heard(), [(1, 2)]);
}

/// [PROTO-9.10]
#[test]
fn what_came_before_is_not_forwarded_again() {
    let mut world = World::new(unlimited());
    let ann = world.talker(1);
    world.route(ann, 2, Target::of_channel(net(2)));
    world.attach(2);
    let mut send = |sequence| world.send(ann, 1, sequence, 0);
    assert_eq!(send(65_534), Ok(()));
    assert_eq!(send(65_534), Err(DropReason::Repeated));
    assert_eq!(send(1), Ok(()));
    assert_eq!(send(65_535), Ok(()));
    assert_eq!(send(0), Ok(()));
    for repeated in [65_534, 65_535, 0, 1] {
        assert_eq!(send(repeated), Err(DropReason::Repeated));
    }
    assert_eq!(send(300), Ok(()));
    assert_eq!(send(173), Ok(()));
    assert_eq!(send(172), Err(DropReason::TooOld));
    // Two talkers are counted separately; two routes of one talker are not.
    assert_eq!(world.send(ann, 2, 300, 0), Err(DropReason::Repeated));
    let bob = world.talker(3);
    assert_eq!(world.send(bob, 1, 300, 0), Ok(()));
    let from_ann = world.heard().iter().filter(|it| **it == (1, 2)).count();
    assert_eq!(from_ann, 6);
    // A talker that has started again is heard: after a pause, or with a very different number.
    assert_eq!(world.send(ann, 1, 20_000, 0), Ok(()));
    assert_eq!(world.send(ann, 1, 1, 0), Ok(()));
    assert_eq!(world.send(ann, 1, 500, 0), Ok(()));
    assert_eq!(world.send(ann, 1, 1, 0), Err(DropReason::TooOld));
    world.wait(1_000);
    assert_eq!(world.send(ann, 1, 1, 0), Ok(()));
}

/// [PROTO-9.11] Each listener gets the copies that it has recently requested of this talker.
#[test]
fn copies_are_for_those_who_ask() {
    let mut world = World::new(unlimited());
    let ann = world.talker(1);
    let dora = world.talker(2);
    let listeners = [3, 4, 5].map(|number| world.attach(number));
    for (listener, wanted_copies) in listeners.into_iter().zip([0, 2, 5]) {
        ask(&mut world, listener, ann, wanted_copies);
    }
    let copies = |world: &mut World, slot, sequence| {
        world.send(slot, 1, sequence, 3).unwrap();
        let mut got = world.got();
        got.sort_unstable();
        for it in &got {
            for (age, frame_of_age) in (0..).zip(&it.frames) {
                assert_eq!(*frame_of_age, frame(sequence - age), "copies are the newest");
            }
        }
        got.iter().map(|it| it.frames.len() - 1).collect::<Vec<_>>()
    };
    // In order of slots: the other talker, and the three listeners.
    assert_eq!(copies(&mut world, ann, 10), [0, 0, 2, 3]);
    assert_eq!(copies(&mut world, dora, 10), [0, 0, 0, 0]);
    // A request for fewer copies does not end the earlier one. A repeated request prolongs it.
    world.wait(1_000);
    ask(&mut world, listeners[1], ann, 0);
    ask(&mut world, listeners[2], ann, 5);
    world.wait(999);
    assert_eq!(copies(&mut world, ann, 11), [0, 0, 2, 3]);
    world.wait(1);
    assert_eq!(copies(&mut world, ann, 12), [0, 0, 0, 3]);
    world.wait(1_000);
    assert_eq!(copies(&mut world, ann, 13), [0, 0, 0, 0]);
    // A device that takes the place of one that has left has requested nothing.
    ask(&mut world, listeners[2], ann, 5);
    world.forwarder.detach(world.now, device(5));
    world.attach(6);
    assert_eq!(copies(&mut world, ann, 14), [0, 0, 0, 0]);
}

pub(super) fn ask(world: &mut World, listener: Slot, talker: Slot, wanted_copies: u8) {
    let report = Report { wanted_copies, ..Report::default() };
    let mut out = Vec::new();
    crate::datagram::ForwardedReport { slot: talker, report }.encode(&mut out);
    assert_eq!(world.forwarder.handle_datagram(world.now, listener, &out), Ok(()));
}

/// [PROTO-9.4]
#[test]
fn tunnels_go_to_one_and_say_whose_they_are() {
    let mut world = World::new(Limits::default());
    let [ann, bob] = [1, 2].map(|number| world.attach(number));
    let stranger = world.forwarder.attach(world.now, device(3), None).unwrap();
    let send = |world: &mut World, from: Slot, slot: Slot, packet: &[u8]| {
        let mut out = Vec::new();
        Tunnel { slot, packet }.encode(&mut out);
        world.forwarder.handle_datagram(world.now, from, &out)
    };
    assert_eq!(send(&mut world, ann, bob, b"packet"), Ok(()));
    // Bob may not know which device has the slot.
    let transmit = world.forwarder.poll_transmit(world.now).unwrap();
    let whose = Knock { slot: Some(ann), device: device(1) };
    assert_eq!(FromRelay::parse(transmit.bytes), Ok(FromRelay::Knock(whose)));
    assert_eq!(transmit.to, bob);
    let transmit = world.forwarder.poll_transmit(world.now).unwrap();
    assert_eq!((transmit.to, transmit.bytes), (bob, &b"\x06\0\x01packet"[..]));
    assert_eq!(world.forwarder.poll_transmit(world.now), None);
    assert_eq!(send(&mut world, ann, ann, b"packet"), Err(DropReason::UnknownSlot));
    assert_eq!(send(&mut world, ann, Slot::new(9).unwrap(), b"x"), Err(DropReason::UnknownSlot));
    assert_eq!(send(&mut world, ann, stranger, b"packet"), Err(DropReason::NotPermitted));
    assert_eq!(send(&mut world, stranger, ann, b"packet"), Err(DropReason::NotPermitted));
    // 512 kB per second, and twice as much at once.
    let packet = [64; 1_000];
    let taken = (0..1_200).filter(|_| send(&mut world, ann, bob, &packet).is_ok()).count();
    assert_eq!(taken, 1_020);
    assert_eq!(world.drops(DropReason::RateLimited), 180);
    world.wait(1_000);
    let taken = (0..1_200).filter(|_| send(&mut world, ann, bob, &packet).is_ok()).count();
    assert_eq!(taken, 511);
    // This holds nobody else back.
    assert_eq!(send(&mut world, bob, ann, &packet), Ok(()));
}

/// [PROTO-9.17] Some datagrams are lost, so the notice is repeated, but not with each packet.
#[test]
fn whose_the_packets_of_a_tunnel_are_is_said_three_times_and_then_now_and_then() {
    let mut world = World::new(Limits::default());
    let [ann, bob] = [1, 2].map(|number| world.attach(number));
    let mut told = Vec::new();
    for tenth in 0..320 {
        let mut datagram = Vec::new();
        Tunnel { slot: bob, packet: b"packet" }.encode(&mut datagram);
        world.forwarder.handle_datagram(world.now, ann, &datagram).unwrap();
        told.extend(knocks(&mut world).into_iter().map(|knock| (tenth, knock)));
        world.wait(100);
    }
    let whose = (bob.number(), ann.number(), device(1));
    assert_eq!(told, [0, 1, 2, 302].map(|tenth| (tenth, whose)));
}

/// [PROTO-9.14]
#[test]
fn only_the_loudest_are_forwarded_where_the_channel_says_so() {
    let mut world = World::new(unlimited());
    world.attach(9);
    world.forwarder.set_state(&state_of(ChannelMode::Loudest(2), &[]));
    let talkers = [1, 2, 3].map(|number| world.talker(number));
    let mut sequence = 0;
    let mut round = |world: &mut World, levels: [Option<u8>; 3]| {
        sequence += 1;
        world.wait(20);
        let passed = talkers.into_iter().zip(levels).map(|(slot, level)| {
            let datagram = voice(1, sequence, 0, level?);
            Some(world.forwarder.handle_datagram(world.now, slot, &datagram).is_ok())
        });
        let passed: Vec<_> = passed.map(|it| it == Some(true)).collect();
        world.got();
        passed
    };
    let mut rounds = |world: &mut World, count: usize, levels: [u8; 3]| {
        (0..count).map(|_| round(world, levels.map(Some))).collect::<Vec<_>>()
    };
    // The first to talk have a place; the third is not louder.
    assert_eq!(rounds(&mut world, 1, [30, 40, 50]), [[true, true, false]]);
    // Now it is louder than the second, which keeps its place for half a second after it was
    // louder.
    let passed = rounds(&mut world, 60, [30, 40, 20]);
    let third_from = passed.iter().position(|it| it[2]).expect("the louder comes in");
    assert!((25..=35).contains(&third_from), "after {third_from} frames of 20 ms");
    assert!(passed[..third_from].iter().all(|it| *it == [true, true, false]));
    assert!(passed[third_from + 1..].iter().all(|it| *it == [true, false, true]));
    // A talker as loud as one with a place is not louder.
    let passed = rounds(&mut world, 60, [30, 30, 20]);
    assert!(passed[20..].iter().all(|it| *it == [true, false, true]));
    // A talker that falls silent makes room after 200 ms.
    let passed: Vec<_> = (0..12).map(|_| round(&mut world, [Some(30), Some(50), None])).collect();
    assert!(passed[..8].iter().all(|it| !it[1]) && passed[11][1]);
    assert!(world.drops(DropReason::NotLoudest) > 60);
    // A whisper and speech with priority pass.
    world.route(talkers[2], 2, Target::new([net(1)], [member(9)], []));
    let mut priority = Target::of_channel(net(1));
    priority.priority = true;
    world.route(talkers[2], 3, priority);
    sequence = 1_000;
    for tag in [1, 2, 3] {
        sequence += 1;
        let datagram = voice(tag, sequence, 0, SILENCE);
        let passed = world.forwarder.handle_datagram(world.now, talkers[2], &datagram);
        assert_eq!(passed.is_ok(), tag != 1, "by route {tag}");
    }
    // Now all are forwarded again.
    world.forwarder.set_state(&state(&[]));
    let datagram = voice(1, 2_000, 0, SILENCE);
    assert_eq!(world.forwarder.handle_datagram(world.now, talkers[2], &datagram), Ok(()));
}

/// What a newcomer or a door was told, in order: the receiver, the slot, and the device in it.
fn knocks(world: &mut World) -> Vec<(u16, u16, DeviceId)> {
    let mut knocks = Vec::new();
    while let Some(transmit) = world.forwarder.poll_transmit(world.now) {
        if let Ok(FromRelay::Knock(Knock { slot: Some(slot), device })) =
            FromRelay::parse(transmit.bytes)
        {
            knocks.push((transmit.to.number(), slot.number(), device));
        }
    }
    knocks
}

/// [PROTO-9.16] A newcomer reaches the members at which it has knocked, and nobody else. They reach
/// it.
#[test]
fn a_newcomer_is_led_to_doors_and_nowhere_else() {
    let mut world = World::new(Limits::default());
    let [door, other] = [1, 2].map(|number| world.attach(number));
    let guest = world.forwarder.attach_newcomer(world.now, device(9)).unwrap();
    let second = world.forwarder.attach_newcomer(world.now, device(8)).unwrap();
    let send = |world: &mut World, from: Slot, to: Slot| {
        let mut datagram = Vec::new();
        Tunnel { slot: to, packet: b"packet" }.encode(&mut datagram);
        let sent = world.forwarder.handle_datagram(world.now, from, &datagram);
        let went = std::iter::from_fn(|| {
            world.forwarder.poll_transmit(world.now).map(|transmit| transmit.to)
        });
        sent.map(|()| went.last())
    };
    let knock = |world: &mut World, from: Slot, at: u16| {
        let mut datagram = Vec::new();
        Knock { slot: None, device: device(at) }.encode(&mut datagram);
        world.forwarder.handle_datagram(world.now, from, &datagram)
    };
    assert_eq!(send(&mut world, guest, door), Err(DropReason::NotPermitted));
    assert_eq!(send(&mut world, door, guest), Err(DropReason::NotPermitted));
    assert_eq!(knock(&mut world, guest, 1), Ok(()));
    assert!(world.forwarder.poll_timeout().is_some());
    let told =
        [(door.number(), guest.number(), device(9)), (guest.number(), door.number(), device(1))];
    assert_eq!(knocks(&mut world), told);
    assert_eq!(send(&mut world, guest, door), Ok(Some(door)));
    assert_eq!(send(&mut world, door, guest), Ok(Some(guest)));
    assert_eq!(send(&mut world, guest, other), Err(DropReason::NotPermitted));
    assert_eq!(send(&mut world, second, door), Err(DropReason::NotPermitted));
    // Nor at a device that is not here, at another newcomer, or as a member.
    assert_eq!(knock(&mut world, guest, 7), Err(DropReason::UnknownSlot));
    assert_eq!(knock(&mut world, guest, 8), Err(DropReason::UnknownSlot));
    assert_eq!(knock(&mut world, other, 1), Err(DropReason::NotPermitted));
    // A newcomer neither speaks nor hears.
    world.route(guest, 1, Target::of_channel(net(1)));
    assert_eq!(world.say(guest, 1), Err(DropReason::NotPermitted));
    let talker = world.talker(3);
    assert_eq!(world.say(talker, 1), Ok(()));
    assert!(world.heard().iter().all(|(_, to)| *to != guest.number()));
    // The device is a member now, and no longer a newcomer.
    assert!(world.forwarder.attach_newcomer(world.now, device(1)).is_err());
    world.forwarder.detach(world.now, device(9));
    let member = world.attach(9);
    assert!(!world.forwarder.is_newcomer(device(9)));
    assert_eq!(send(&mut world, member, other), Ok(Some(other)));
}

/// A newcomer that knocks at everybody is led to four doors.
#[test]
fn a_newcomer_knocks_at_four_doors() {
    let mut world = World::new(Limits::default());
    for number in 1..=6 {
        world.attach(number);
    }
    let guest = world.forwarder.attach_newcomer(world.now, device(9)).unwrap();
    let results: Vec<_> = (1..=6)
        .map(|number| {
            let mut datagram = Vec::new();
            Knock { slot: None, device: device(number) }.encode(&mut datagram);
            world.forwarder.handle_datagram(world.now, guest, &datagram).is_ok()
        })
        .collect();
    assert_eq!(results, [true, true, true, true, false, false]);
    assert_eq!(knocks(&mut world).len(), 8);
}
