use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, DeviceKey, KeySecret, SeededRandom, Signed, Timestamp};
use hark_mesh::{
    Directory, List, clean_name,
    hello::PeerHello,
    message::{KeyMessage, MESSAGE_MAX_BYTES, Message},
    squad::{DownReason, Event, Squad, SquadConfig, Transmit},
};

use crate::{
    input::{Input, piece},
    message::record,
    world::{Member, WORLD},
};

/// One member's view of an organisation whose other members do and send anything, in any order.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut run = Run::new();
    run.settle();
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.next() else { break };
        run.step(operation, &mut input);
        run.settle();
    }
    run.own_key.is_some()
}

struct Run {
    squad: Squad,
    now: Timestamp,
    random: SeededRandom,
    linked: BTreeSet<DeviceId>,
    met: BTreeSet<DeviceId>,
    /// The generation that the disk is asked for, and the one that it has.
    asked: Option<u16>,
    on_disk: u16,
    /// Generation and step of our newest key, and of each talker's.
    own_key: Option<(u16, u8)>,
    talker_keys: BTreeMap<DeviceId, (u16, u8)>,
    last_id: u64,
}

impl Run {
    fn new() -> Self {
        let own = &WORLD.bob;
        let config = SquadConfig {
            charter: WORLD.charter.clone(),
            key: Arc::new(DeviceKey::from_secret(&own.key.secret())),
            chain: own.chain.clone(),
            presence: own.presence.clone(),
            directory: Directory::default(),
            last_generation: 5,
        };
        Self {
            squad: Squad::new(Timestamp::ZERO, config, Arc::new(SeededRandom::new(1))),
            now: Timestamp::ZERO,
            random: SeededRandom::new(2),
            linked: BTreeSet::new(),
            met: BTreeSet::new(),
            asked: None,
            on_disk: 5,
            own_key: None,
            talker_keys: BTreeMap::new(),
            last_id: 0,
        }
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        let now = self.now;
        let peer = member(input.byte());
        let device = peer.key.id();
        match operation % OPERATIONS {
            LINK_UP => {
                self.squad.handle_link_up(now, hello(peer, input.byte()), None);
                self.linked.insert(device);
                self.met.insert(device);
            }
            LINK_DOWN => {
                let left = input.byte().is_multiple_of(2);
                let reason = if left { DownReason::Left } else { DownReason::Unreachable };
                self.linked.remove(&device);
                self.squad.handle_link_down(now, device, reason);
            }
            HEARD => self.squad.handle_heard(now, device),
            MESSAGE => {
                let result = self.squad.handle_message(now, device, input.piece());
                assert!(result.is_err() || self.linked.contains(&device));
            }
            GOSSIP => {
                let _result = self.squad.handle_gossip(now, input.piece());
            }
            KEY => self.key(peer, input),
            RECORD => {
                let mut record = record(peer, u64::from(input.byte()));
                record.name = String::from_utf8_lossy(input.piece()).into_owned();
                let record = Signed::sign(record, &peer.key);
                let bytes = Message::Records(List::truncated([record])).encode();
                let _result = self.squad.handle_gossip(now, &bytes);
            }
            ANSWER => {
                let id = self.last_id.saturating_sub(u64::from(input.byte()));
                self.squad.handle_delivered(now, device, id);
            }
            FAIL => {
                let id = self.last_id.saturating_sub(u64::from(input.byte()));
                self.squad.handle_failed(now, device, id);
            }
            DISK => {
                if let Some(generation) = self.asked.take() {
                    self.on_disk = generation;
                    self.squad.handle_persisted(now, generation);
                }
            }
            TALK => self.squad.handle_talked(now),
            DISCOVER => {
                let addresses = &peer.presence.addresses;
                let device = (input.byte().is_multiple_of(2)).then_some(device);
                self.squad.handle_discovered(now, device, addresses);
                self.squad.handle_dial_failed(now, device, &addresses[..1]);
            }
            RENAME => {
                self.squad.set_name(now, &String::from_utf8_lossy(input.piece()));
                assert_eq!(clean_name(&self.squad.presence().name), self.squad.presence().name);
            }
            _ => self.wait(input.byte()),
        }
    }

    /// A key as only its sender can make it.
    fn key(&mut self, peer: &Member, input: &mut Input<'_>) {
        let mut secret = KeySecret::generate(u16::from(input.byte()), &self.random);
        secret.step = input.byte();
        let chosen = input.byte();
        let mut recipients: Vec<_> = (0..3)
            .filter(|number| chosen & 1 << number != 0)
            .map(|number| member(number).key.id())
            .collect();
        recipients.sort();
        let message = KeyMessage {
            channel: WORLD.charter.channel().id,
            sender: peer.key.id(),
            secret,
            recipients: List::truncated(recipients),
        };
        let bytes = Message::Key(Signed::sign(message, &peer.key)).encode();
        assert!(self.squad.handle_gossip(self.now, &bytes).is_err(), "keys do not gossip");
        let _result = self.squad.handle_message(self.now, peer.key.id(), &bytes);
    }

    fn wait(&mut self, steps: u8) {
        self.now = self.now + Duration::from_millis(100) * u32::from(steps);
        self.squad.handle_timeout(self.now);
        self.settle();
        let next = self.squad.poll_timeout();
        assert!(next.is_none_or(|at| at > self.now), "time that has come is dealt with");
    }

    /// Takes all that there is to do, and looks at each.
    fn settle(&mut self) {
        while let Some(transmit) = self.squad.poll_transmit() {
            self.check_transmit(&transmit);
        }
        let mut dials = 0;
        while self.squad.poll_dial(self.now).is_some() {
            dials += 1;
            assert!(dials < 100, "a dial that was given is under way");
        }
        if let Some(generation) = self.squad.poll_persist() {
            assert!(generation > self.on_disk && self.asked.is_none());
            self.asked = Some(generation);
        }
        while let Some(event) = self.squad.poll_event() {
            self.check_event(event);
        }
    }

    fn check_transmit(&mut self, transmit: &Transmit) {
        match transmit {
            Transmit::Message { to, id, bytes } => {
                assert!(self.linked.contains(to) && bytes.len() <= MESSAGE_MAX_BYTES);
                self.last_id = self.last_id.max(*id);
                if let Ok(Message::Key(message)) = Message::decode(bytes) {
                    let key = message.verify().expect("signed by us");
                    assert!(key.recipients.contains(to), "a key goes to those it names");
                }
            }
            Transmit::Gossip(bytes) => {
                assert!(matches!(Message::decode(bytes), Ok(Message::Records(_))));
            }
            Transmit::Datagram { to, .. } => assert!(self.linked.contains(to)),
        }
    }

    fn check_event(&mut self, event: Event) {
        match event {
            // [PROTO-6.3]
            Event::OwnKey(secret) => {
                let number = Some((secret.generation, secret.step));
                assert!(secret.is_valid() && secret.generation <= self.on_disk);
                assert!(number > self.own_key, "no key comes twice");
                self.own_key = number;
            }
            Event::RosterChanged { generation, step, devices, .. } => {
                assert_eq!(Some((generation, step)), self.own_key);
                assert!(devices.is_sorted_by(|a, b| a < b));
                assert!(devices.iter().all(|device| self.met.contains(device)));
            }
            Event::TalkerKey { device, secret } => {
                assert!(secret.is_valid() && self.linked.contains(&device));
                let number = (secret.generation, secret.step);
                let before = self.talker_keys.insert(device, number);
                assert!(before.is_none_or(|before| before < number));
            }
            Event::TalkerRoster { devices, .. } => {
                assert!(devices.contains(&WORLD.bob.key.id()));
                assert!(devices.is_sorted_by(|a, b| a < b));
            }
            Event::TalkerGone { device } => assert!(self.talker_keys.remove(&device).is_some()),
            Event::Listeners(devices) => {
                assert!(devices.iter().all(|device| self.linked.contains(device)));
            }
            Event::PeerUp { name, .. } | Event::PeerRenamed { name, .. } => {
                assert_eq!(clean_name(&name), name);
            }
            Event::PeerUnreachable { device } | Event::PeerReachable { device } => {
                assert!(self.linked.contains(&device));
            }
            Event::PeerDown { device, .. } => assert!(!self.linked.contains(&device)),
            Event::RecordsChanged => {}
        }
    }
}

/// What an accepted Hello of `peer` says.
fn hello(peer: &Member, incarnation: u8) -> PeerHello {
    PeerHello {
        device: peer.key.id(),
        member: WORLD.charter.member_of(peer.key.id()),
        chain: peer.chain.clone(),
        name: peer.presence.name.clone(),
        incarnation: u64::from(incarnation),
        addresses: peer.presence.addresses.clone(),
        heads: WORLD.charter.heads(),
    }
}

/// The two peers are 0 and 1; 2 is this device itself, which is no peer of its own.
fn member(number: u8) -> &'static Member {
    match number % 3 {
        0 => &WORLD.founder,
        1 => &WORLD.cid,
        _ => &WORLD.bob,
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let up = |peer| [LINK_UP, peer, 1];
    let wait = |steps| [WAIT, 0, steps];
    let disk = [DISK, 0];
    let name = piece("Ann\u{202e}".as_bytes());
    let name = [&[RENAME, 0][..], &name].concat();
    let record = [&[RECORD, 1, 9][..], &piece(b"Cid")].concat();
    vec![
        ("join", [&disk[..], &disk, &up(0), &up(1), &[ANSWER, 0, 0, ANSWER, 1, 1]].concat()),
        (
            "leave",
            [&disk[..], &disk, &up(0), &up(1), &[LINK_DOWN, 1, 0], &wait(3), &disk, &wait(20)]
                .concat(),
        ),
        (
            "silence",
            [&disk[..], &up(0), &wait(40), &[HEARD, 0], &wait(255), &wait(60), &[HEARD, 0]]
                .concat(),
        ),
        ("talk", [&disk[..], &up(0), &[TALK, 0], &wait(255), &wait(255), &wait(255)].concat()),
        ("keys", [&disk[..], &up(0), &[KEY, 0, 9, 0, 7, KEY, 0, 9, 1, 7, LINK_UP, 0, 2]].concat()),
        ("records", [&disk[..], &up(1), &record, &name, &wait(20), &wait(101)].concat()),
        ("dial", [&disk[..], &[DISCOVER, 0, 0, DISCOVER, 1, 1], &wait(20), &wait(40)].concat()),
        ("retry", [&disk[..], &up(0), &[FAIL, 0, 0], &wait(4), &wait(60)].concat()),
    ]
}

const LINK_UP: u8 = 0;
const LINK_DOWN: u8 = 1;
const HEARD: u8 = 2;
const MESSAGE: u8 = 3;
const GOSSIP: u8 = 4;
const KEY: u8 = 5;
const RECORD: u8 = 6;
const ANSWER: u8 = 7;
const FAIL: u8 = 8;
const DISK: u8 = 9;
const TALK: u8 = 10;
const DISCOVER: u8 = 11;
const RENAME: u8 = 12;
const WAIT: u8 = 13;
const OPERATIONS: u8 = 14;

/// More than that make a run slow and find nothing more.
const OPERATIONS_MAX: usize = 64;
