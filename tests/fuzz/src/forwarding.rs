use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use hark_charter::{
    Charter, Piece, State,
    content::{Change, Channel, ChannelMode},
};
use hark_keys::{ChannelId, DeviceId, DeviceKey, MemberId, SeededRandom, Timestamp};
use hark_mesh::{
    List, Target,
    datagram::{
        BUNDLE_MAX_BYTES, Forward, ForwardedReport, FromMember, FromRelay, Knock, Report, Slot,
        Tunnel,
    },
    forwarding::{ForwardRoute, Forwarder, Limits, Rate},
};

use crate::{
    input::{Input, piece},
    world::{OFFICER, WORLD},
};

/// A relay to which members do and send anything, in any order.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut run = Run::new(input.byte());
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.next() else { break };
        run.step(operation, &mut input);
        run.settle();
    }
    run.delivered
}

struct Run {
    forwarder: Forwarder,
    now: Timestamp,
    state: State,
    bundles: bool,
    /// Whether nothing waits, so that every delivery can be checked against the rights of the same
    /// moment.
    at_once: bool,
    attached: BTreeMap<Slot, Attached>,
    delivered: bool,
}

struct Attached {
    device: DeviceId,
    newcomer: bool,
    member: MemberId,
    listening: BTreeSet<ChannelId>,
    routes: BTreeMap<[u8; 4], ForwardRoute>,
}

impl Run {
    fn new(mode: u8) -> Self {
        let bundles = mode & 1 != 0;
        let rate = |on: bool| {
            if on { Rate { packets_per_second: 20, kbps: 64 } } else { Rate::UNLIMITED }
        };
        let limits = Limits {
            sessions: 3,
            voice: rate(mode & 2 != 0),
            out: rate(mode & 4 != 0),
            bundle_above: 10,
            bundle_hold: Duration::from_millis(if bundles { 5 } else { 0 }),
            ..Limits::default()
        };
        let state = WORLD.charter.state().clone();
        let mut forwarder = Forwarder::new(limits);
        forwarder.set_state(&state);
        let now = Timestamp::from_millis(1_000);
        Self {
            forwarder,
            now,
            state,
            bundles,
            at_once: mode & 5 == 0,
            attached: BTreeMap::new(),
            delivered: false,
        }
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        let who = WORLD.member(input.byte());
        let device = who.key.id();
        let slot = self.forwarder.slot_of(device);
        match operation % OPERATIONS {
            ATTACH => {
                let taken = self.forwarder.attach(self.now, device, Some(who.member));
                assert_eq!(taken.is_ok(), slot.is_some() || self.attached.len() < 3);
                let Ok(taken) = taken else { return };
                assert!(slot.is_none_or(|slot| slot == taken));
                assert_eq!(self.forwarder.device_of(taken), Some(device));
                let attached = self.attached.entry(taken).or_insert_with(|| Attached {
                    device,
                    newcomer: false,
                    member: who.member,
                    listening: BTreeSet::new(),
                    routes: BTreeMap::new(),
                });
                attached.listening = channels(input.byte());
                self.forwarder.set_listening(taken, attached.listening.clone());
            }
            NEWCOMER => {
                let device = NEWCOMERS[usize::from(input.byte() % 2)];
                let slot = self.forwarder.slot_of(device);
                let taken = self.forwarder.attach_newcomer(self.now, device);
                assert_eq!(taken.is_ok(), slot.is_some() || self.attached.len() < 3);
                let Ok(taken) = taken else { return };
                assert!(self.forwarder.is_newcomer(device));
                self.attached.entry(taken).or_insert_with(|| Attached {
                    device,
                    newcomer: true,
                    member: who.member,
                    listening: BTreeSet::new(),
                    routes: BTreeMap::new(),
                });
            }
            DETACH => {
                self.forwarder.detach(self.now, device);
                self.attached.retain(|_, it| it.device != device);
            }
            ROUTE => {
                let tag = [input.byte() % 4; 4];
                let members = [WORLD.bob.member, WORLD.dora.member];
                let (nets, whispers) = (input.byte(), input.byte());
                let members = members.into_iter().take(usize::from(whispers & 3));
                let roles = [OFFICER].into_iter().filter(|_| whispers & 4 != 0);
                let target = Target::new(channels(nets), members, roles);
                let only = (whispers & 8 != 0)
                    .then(|| List::truncated([WORLD.bob.key.id(), WORLD.cid.key.id()]));
                let route = ForwardRoute { tag, target, only };
                let Some(slot) = slot else { return };
                if self.forwarder.set_route(slot, route.clone()).is_ok() {
                    let attached = self.attached.get_mut(&slot).expect("it has a slot");
                    attached.routes.insert(tag, route);
                }
            }
            UNROUTE => {
                let (Some(slot), tag) = (slot, [input.byte() % 4; 4]) else { return };
                self.forwarder.remove_route(slot, tag);
                self.attached.get_mut(&slot).expect("it has a slot").routes.remove(&tag);
            }
            // Sets a state without the rules that exclude most members, or the one with them.
            CHARTER => {
                let charter = WORLD.charter.state();
                self.state = if input.byte() & 1 == 0 { State::default() } else { charter.clone() };
                self.forwarder.set_state(&self.state);
            }
            LOUDEST => {
                self.state = LOUDEST_STATES[usize::from(input.byte() % 2)].clone();
                self.forwarder.set_state(&self.state);
            }
            WAIT => {
                let milliseconds = u64::from(input.byte()).pow(2);
                self.now = self.now + Duration::from_millis(milliseconds);
            }
            _ => {
                let slot = slot.or_else(|| Slot::new(input.byte().into()));
                let bytes = input.piece();
                let Some(slot) = slot else { return };
                let parsed = FromMember::parse(bytes);
                let taken = self.forwarder.handle_datagram(self.now, slot, bytes);
                assert!(parsed.is_ok() || taken == Err(parsed.expect_err("it is not ok")));
                assert!(taken.is_err() || self.attached.contains_key(&slot));
            }
        }
    }

    /// Checks that everything that is to be sent goes to a device that may have it.
    fn settle(&mut self) {
        let mut looks = 0;
        loop {
            while let Some(transmit) = self.forwarder.poll_transmit(self.now) {
                looks += 1;
                assert!(looks < 1_000, "polls come to an end");
                let to = self.attached.get(&transmit.to).expect("who is gone gets nothing");
                let from = |slot| self.attached.get(&slot);
                match FromRelay::parse(transmit.bytes).expect("a relay sends what parses") {
                    FromRelay::Forwarded(part) => {
                        assert!(part.slot != transmit.to && !to.newcomer);
                        let tag = part.voice.target_tag;
                        if self.at_once {
                            let talker = from(part.slot).expect("it has just talked");
                            let route = &talker.routes[&tag];
                            let (speaker, hears) = (talker.member, &to.listening);
                            let hearing =
                                route.target.hearing(&self.state, speaker, to.member, hears);
                            assert!(hearing.is_reached());
                            assert!(route.only.as_ref().is_none_or(|it| it.contains(&to.device)));
                        }
                        self.delivered = true;
                    }
                    FromRelay::Bundle(bundle) => {
                        assert!(self.bundles && transmit.bytes.len() <= BUNDLE_MAX_BYTES);
                        assert!(bundle.iter().count() > 1);
                        assert!(bundle.iter().all(|part| part.slot != transmit.to));
                        self.delivered = true;
                    }
                    FromRelay::Tunnel(tunnel) => {
                        assert_ne!(tunnel.slot, transmit.to);
                        // Newcomers may not reach each other.
                        let from = from(tunnel.slot);
                        assert!(!to.newcomer || from.is_none_or(|from| !from.newcomer));
                    }
                    FromRelay::Knock(it) => {
                        let slot = it.slot.expect("a relay names it");
                        assert_ne!(slot, transmit.to);
                        assert_eq!(from(slot).expect("it is here").device, it.device);
                    }
                    FromRelay::Seen(seen) => assert!(seen.wanted_copies <= 5),
                    FromRelay::Introduction(it) => {
                        assert_ne!(it.slot, transmit.to);
                        assert_eq!(from(it.slot).expect("it is here").device, it.device);
                    }
                    FromRelay::Pulse(pulse) => {
                        assert!(pulse.iter().count() > 0);
                        assert!(pulse.iter().all(|it| it.0 != transmit.to));
                        assert!(pulse.iter().all(|it| from(it.0).is_some()));
                    }
                }
            }
            looks += 1;
            assert!(looks < 1_000, "polls come to an end");
            // Only what waits for the organisation's rate may be left.
            if self.forwarder.poll_timeout().is_none_or(|at| at > self.now) {
                break;
            }
        }
        let statistics = self.forwarder.statistics();
        assert_eq!(statistics.sessions, self.attached.len());
        assert!(statistics.talkers <= statistics.sessions);
    }
}

/// The channels whose bits are set.
fn channels(bits: u8) -> BTreeSet<ChannelId> {
    (0..6).filter(|bit| bits & (1 << bit) != 0).map(|bit| WORLD.channel(bit)).collect()
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let voice = |tag: u8, sequence, copies: usize| {
        let mut out = Vec::new();
        let frames = (0..=copies).map(|_| &b"frame"[..]);
        Forward::encode(30, [tag; 4], sequence, frames, &mut out);
        out
    };
    let send = |who: u8, datagram: &[u8]| [&[SEND, who][..], &piece(datagram)].concat();
    let slot = Slot::new(1).expect("not zero");
    let mut report = Vec::new();
    ForwardedReport { slot, report: Report { wanted_copies: 2, ..Report::default() } }
        .encode(&mut report);
    let mut tunnel = Vec::new();
    Tunnel { slot, packet: b"QUIC" }.encode(&mut tunnel);
    let mut knock = Vec::new();
    Knock { slot: None, device: WORLD.bob.key.id() }.encode(&mut knock);
    let newcomer = [&[NEWCOMER, 0, 0, SEND, 1, 3][..], &piece(&knock)].concat();
    // Ann and Bob are on the first channel, and Ann has a route to it.
    let begin = |mode: u8| vec![mode, ATTACH, 0, 1, ATTACH, 2, 1, ROUTE, 0, 1, 1, 0];
    let many = |mode: u8| {
        let frames = (0..20).flat_map(|number| send(0, &voice(1, number, 0)));
        [begin(mode), frames.collect(), vec![WAIT, 0, 3, WAIT, 0, 10]].concat()
    };
    let tick = [WAIT, 0, 8];
    let leave = [DETACH, 0, ATTACH, 1, 1, DETACH, 2];
    let whisper = [ROUTE, 0, 2, 0, 12, UNROUTE, 0, 1, CHARTER, 0, 1];
    let loudest = [LOUDEST, 0, 0];
    vec![
        ("voice", [begin(0), send(0, &voice(1, 1, 0)), tick.to_vec(), tick.to_vec()].concat()),
        ("copies", [begin(0), send(2, &report), send(0, &voice(1, 1, 3)), tick.to_vec()].concat()),
        ("tunnel", [begin(0), send(2, &tunnel), send(0, &voice(1, 1, 0))].concat()),
        ("newcomer", [begin(0), newcomer, send(2, &tunnel), send(0, &voice(1, 1, 0))].concat()),
        ("bundles", many(1)),
        ("limits", many(2)),
        ("quota", many(4)),
        ("leave", [begin(0), send(0, &voice(1, 1, 0)), leave.to_vec()].concat()),
        ("whisper", [&begin(0)[..], &whisper, &send(0, &voice(2, 1, 0))].concat()),
        ("loudest", [&begin(0)[..], &loudest, &send(0, &voice(1, 1, 0))].concat()),
    ]
}

/// Two devices that do not belong to anybody yet.
static NEWCOMERS: LazyLock<[DeviceId; 2]> =
    LazyLock::new(|| [61, 62].map(|seed| DeviceKey::generate(&SeededRandom::new(seed)).id()));

/// The charter with channels on which only the loudest talker, or the two loudest, are forwarded.
static LOUDEST_STATES: LazyLock<[State; 2]> = LazyLock::new(|| {
    [1, 2].map(|places| {
        let mut charter = Charter::clone(&WORLD.charter);
        let channels = charter.state().channels().cloned();
        let mode = ChannelMode::Loudest(places);
        let changes =
            channels.map(|channel| Change::Channel(Channel { mode, ..channel })).collect();
        let founder = &WORLD.founder;
        let edit = charter.edit(&founder.key, founder.member, changes);
        let edit = edit.expect("the founder may do everything");
        assert_eq!(charter.take(Piece::Operation(edit)), Ok(true));
        charter.state().clone()
    })
});

const ATTACH: u8 = 0;
const DETACH: u8 = 1;
const ROUTE: u8 = 2;
const UNROUTE: u8 = 3;
const CHARTER: u8 = 4;
const LOUDEST: u8 = 5;
const WAIT: u8 = 6;
const SEND: u8 = 7;
const NEWCOMER: u8 = 9;
const OPERATIONS: u8 = 10;

/// How many operations of one input are run at most; further ones are ignored.
const OPERATIONS_MAX: usize = 400;
