//! Many members that have links to relays only, with a delay of 20 ms on each way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_charter::{
    Charter, Piece,
    content::{Change, Relay, Rule, Subject},
};
use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochDealer, EpochKey, EpochSecret, List, PrekeySecret,
    SeededRandom, SenderKey, SenderKeyring, TargetId, Timestamp, UnixTime,
};

use crate::{
    Directory,
    hello::{PeerHello, Presence},
    squad::{DownReason, Persist, SquadConfig, Transmit, world::outcome},
};

use super::*;

struct Room {
    now: Timestamp,
    /// The relays first, then the members.
    nodes: Vec<Node>,
    relays: usize,
    channel: ChannelId,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    happened: u64,
    links: BTreeSet<(usize, usize)>,
    /// The node whose messages get lost.
    mute: Option<usize>,
    /// The prekey that each device has sent.
    prekeys: BTreeMap<DeviceId, Prekey>,
    /// What relays have reported about holders of epochs: number of messages, and bytes.
    said: (usize, usize),
    /// Changes or drops a message from one node to another.
    tamper: Option<Tamper>,
}

type Tamper = Box<dyn Fn(usize, usize, Message) -> Option<Message>>;

struct Node {
    key: Arc<DeviceKey>,
    squad: Squad,
    /// The epoch and generation that it seals with.
    seals: Option<(EpochSecret, u8)>,
    sealed: BTreeSet<([u8; 32], u8)>,
    own_key: bool,
    roster: Vec<DeviceId>,
    unconfirmed: Vec<DeviceId>,
    /// Keys in epochs that others have given it.
    given: BTreeMap<DeviceId, EpochKey>,
    /// The number of the epoch that it seals with.
    number: u64,
    opens: Vec<EpochSecret>,
    talkers: Vec<DeviceId>,
    ever: BTreeSet<[u8; 32]>,
    plan: crate::topology::Plan,
    /// Bytes of epochs that it has sent.
    dealt: usize,
}

enum Happening {
    Message { from: usize, to: usize, id: u64, bytes: Vec<u8> },
    Answer { from: usize, to: usize, id: u64, taken: bool },
    Gossip { from: usize, to: usize, bytes: Vec<u8> },
}

impl Room {
    fn new(relays: usize, members: usize) -> Self {
        let random = Arc::new(SeededRandom::new(1));
        let keys: Vec<_> =
            (0..relays + members).map(|_| Arc::new(DeviceKey::generate(&*random))).collect();
        let founder = &keys[relays];
        let mut charter = Charter::found("Squad", "Voice", founder, None, &*random);
        let founding = charter.member_of(founder.id());
        for (number, relay) in keys[..relays].iter().enumerate() {
            let named = Change::Relay(Relay {
                device: relay.id(),
                name: format!("Eyrie {number}"),
                addresses: List::truncated(["192.0.2.1:7300".parse().unwrap()]),
                members_max: 0,
                rate_kbps: 0,
            });
            let named = charter.edit(founder, founding, vec![named]).unwrap();
            charter.take(Piece::Operation(named)).unwrap();
        }
        for key in &keys[relays + 1..] {
            let certificate = charter.issue(founder, founding, key.id(), None).unwrap();
            charter.take(Piece::Certificate(certificate)).unwrap();
        }
        let channel = charter.first_channel(founding).unwrap().id;
        let charter = Arc::new(charter);
        let now = Timestamp::from_millis(1_000);
        let nodes = keys.into_iter().enumerate().map(|(index, key)| {
            let config = SquadConfig {
                charter: Arc::clone(&charter),
                member: (index >= relays).then(|| charter.member_of(key.id())),
                key: Arc::clone(&key),
                relay_only: false,
                presence: Presence {
                    incarnation: 1,
                    name: "Kestrel".to_owned(),
                    addresses: Vec::new(),
                    listening: Vec::new(),
                },
                directory: Directory::default(),
                generations: BTreeMap::new(),
                names: BTreeMap::new(),
                calendar: UnixTime::from_secs(1_800_000_000),
            };
            Node {
                squad: Squad::new(now, config, Arc::clone(&random) as _),
                key,
                seals: None,
                sealed: BTreeSet::new(),
                own_key: false,
                roster: Vec::new(),
                unconfirmed: Vec::new(),
                given: BTreeMap::new(),
                number: 0,
                opens: Vec::new(),
                talkers: Vec::new(),
                ever: BTreeSet::new(),
                plan: Default::default(),
                dealt: 0,
            }
        });
        let nodes = nodes.collect();
        let (queue, links) = (BTreeMap::new(), BTreeSet::new());
        let prekeys = BTreeMap::new();
        let (mute, tamper) = (None, None);
        let (happened, said) = (0, (0, 0));
        Self { now, nodes, relays, channel, queue, happened, links, mute, prekeys, said, tamper }
    }

    /// Links the first `count` members with all relays.
    fn fill(&mut self, count: usize) {
        for member in self.relays..self.relays + count {
            for relay in 0..self.relays {
                self.link(relay, member);
            }
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        if self.links.insert((a, b)) {
            for (at, peer) in [(a, b), (b, a)] {
                let hello = self.hello(peer);
                self.nodes[at].squad.handle_link_up(self.now, hello, None);
            }
            self.pump();
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        self.links.remove(&(a, b));
        for (at, peer) in [(a, b), (b, a)] {
            let device = self.nodes[peer].key.id();
            self.nodes[at].squad.handle_link_down(self.now, device, DownReason::Left);
        }
        self.pump();
    }

    fn hello(&self, index: usize) -> PeerHello {
        let node = &self.nodes[index];
        let charter = node.squad.charter();
        PeerHello {
            device: node.key.id(),
            member: node.squad.member(),
            chain: node.squad.member().map(|it| charter.chain_of(it)).unwrap_or_default(),
            added: Vec::new(),
            name: "Kestrel".to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: charter.digest(),
            listening: node.squad.presence().listening.clone(),
        }
    }

    fn run_for(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        loop {
            let wake = self.nodes.iter().filter_map(|node| node.squad.poll_timeout());
            let next = wake.chain(self.queue.keys().map(|(at, _)| *at).take(1)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
            }
            for node in &mut self.nodes {
                if node.squad.poll_timeout().is_some_and(|at| at <= self.now) {
                    node.squad.handle_timeout(self.now);
                }
            }
            self.pump();
        }
        self.now = end;
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Message { from, to, id, bytes } if self.linked(from, to) => {
                let device = self.nodes[from].key.id();
                let squad = &mut self.nodes[to].squad;
                let handled = squad.handle_message(now, device, &bytes);
                let taken = outcome(now, squad, handled).is_ok();
                self.nodes[to].squad.handle_heard(now, device);
                self.push(Happening::Answer { from: to, to: from, id, taken });
            }
            Happening::Answer { from, to, id, taken } if self.linked(from, to) => {
                let (device, squad) = (self.nodes[from].key.id(), &mut self.nodes[to].squad);
                squad.handle_heard(now, device);
                if taken {
                    squad.handle_delivered(now, device, id);
                } else {
                    squad.handle_failed(now, device, id);
                }
            }
            Happening::Gossip { from, to, bytes } if self.linked(from, to) => {
                let device = self.nodes[from].key.id();
                let squad = &mut self.nodes[to].squad;
                let handled = squad.handle_gossip(now, Some(device), &bytes);
                let taken = outcome(now, squad, handled);
                if taken.is_ok() && to < self.relays {
                    self.gossip(to, Some(from), &bytes);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, happening: Happening) {
        self.happened += 1;
        self.queue.insert((self.now + DELAY, self.happened), happening);
    }

    fn gossip(&mut self, from: usize, but: Option<usize>, bytes: &[u8]) {
        for to in 0..self.nodes.len() {
            if Some(to) != but && to != from && self.linked(from, to) {
                self.push(Happening::Gossip { from, to, bytes: bytes.to_vec() });
            }
        }
    }

    fn pump(&mut self) {
        for index in 0..self.nodes.len() {
            while self.pump_one(index) {}
        }
    }

    fn pump_one(&mut self, index: usize) -> bool {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(transmit) = node.squad.poll_transmit() {
            match transmit {
                Transmit::Message { to, id, bytes } => {
                    // Records are of no use to devices that have no links to each other.
                    if bytes.first() == Some(&RECORDS) {
                        return true;
                    }
                    match Message::decode(&bytes) {
                        Ok(Message::Confirmed(_)) => {
                            self.said = (self.said.0 + 1, self.said.1 + bytes.len());
                        }
                        Ok(Message::Epoch(_)) if index >= self.relays => node.dealt += bytes.len(),
                        Ok(Message::Prekey(prekey)) => {
                            self.prekeys.insert(node.key.id(), prekey.unverified().clone());
                        }
                        _ => {}
                    }
                    let to = self.nodes.iter().position(|node| node.key.id() == to).unwrap();
                    let mut bytes = Some(bytes.to_vec());
                    if let Some(tamper) = &self.tamper
                        && let Some(message) = bytes.as_deref().map(Message::decode)
                    {
                        bytes = tamper(index, to, message.unwrap()).map(|message| message.encode());
                    }
                    if self.mute != Some(index)
                        && let Some(bytes) = bytes
                    {
                        self.push(Happening::Message { from: index, to, id, bytes });
                    }
                }
                Transmit::Gossip(bytes) if bytes.first() == Some(&RECORDS) => {}
                Transmit::Gossip(bytes) => self.gossip(index, None, &bytes),
                Transmit::Check { .. } => panic!("nobody here is seen from anywhere"),
                Transmit::Datagram { to, .. } => {
                    let to = self.nodes.iter().position(|node| node.key.id() == to).unwrap();
                    let device = self.nodes[index].key.id();
                    self.nodes[to].squad.handle_heard(now, device);
                }
            }
        } else if let Some(dial) = node.squad.poll_dial(now) {
            node.squad.handle_dial_failed(now, &dial);
        } else if let Some(job) = node.squad.poll_job(now) {
            node.squad.handle_job(now, job.run());
        } else if let Some(persist) = node.squad.poll_persist() {
            match persist {
                Persist::Generation(target, number) => {
                    node.squad.handle_persisted(now, target, number);
                }
                Persist::Charter(number, _) => node.squad.handle_charter_persisted(now, number),
            }
        } else if let Some(event) = node.squad.poll_event() {
            node.observe(event);
        } else {
            return false;
        }
        true
    }

    fn id(&self, member: usize) -> DeviceId {
        self.node(member).key.id()
    }

    fn node(&self, member: usize) -> &Node {
        &self.nodes[self.relays + member]
    }

    fn members(&self) -> &[Node] {
        &self.nodes[self.relays..]
    }

    /// Makes a member deal an epoch with this number for others, by the first relay or directly to
    /// a linked device, whoever is the steward. Returns its id if the receiver accepts it.
    fn deal(
        &mut self,
        (member, to): (usize, usize),
        number: u64,
        others: &[usize],
    ) -> Option<[u8; 32]> {
        let dealer = EpochDealer::generate(&SeededRandom::new(number));
        let holders = Holders::new(others.iter().map(|other| self.id(*other)));
        let header = EpochHeader {
            channel: self.channel,
            issuer: self.id(member),
            number,
            dealer: dealer.public(),
            commitment: dealer.commitment(),
            holders: holders.hash(),
        };
        let header = Signed::sign(header, &self.node(member).key);
        let id = header.hash();
        let seal = |device: &DeviceId| {
            Some((holders.place(*device)?, dealer.seal(&id, self.prekeys.get(device)?)?))
        };
        let seals: Vec<_> = holders.devices().iter().map(|it| seal(it).expect("a seal")).collect();
        let (message, _) = EpochMessage::first_of(&header, &holders, None, &seals);
        let bytes = Message::Epoch(Box::new(message)).encode();
        let (now, from) = (self.now, self.id(member));
        let taken = self.nodes[to].squad.handle_message(now, from, &bytes).is_ok();
        self.pump();
        taken.then_some(id)
    }

    /// Sends a frame of a member to the channel. Returns the members that open it.
    fn speak(&mut self, talker: usize) -> Vec<usize> {
        let target = TargetId::of_channel(self.channel);
        let device = self.id(talker);
        let (secret, generation) = self.node(talker).seals.clone().expect("it may speak");
        let mut sealed = Vec::new();
        let mut key = SenderKey::of_epoch(target, device, &secret, generation);
        key.seal(b"hello", &mut sealed).unwrap();
        let opens = |node: &Node| {
            let mut ring = SenderKeyring::new(target, device);
            ring.set_epochs(&node.opens);
            let given = node.given.get(&device);
            given.into_iter().for_each(|key| ring.install_epoch_key(self.now, key));
            let known = node.talkers.contains(&device) || given.is_some();
            known && ring.open(self.now, &sealed, &mut Vec::new()).is_ok()
        };
        let all = self.members().iter().enumerate();
        all.filter(|(_, node)| opens(node)).map(|(number, _)| number).collect()
    }

    /// The epoch that all `members` seal with, held by exactly these.
    fn epoch_of(&self, members: impl Iterator<Item = usize> + Clone) -> [u8; 32] {
        self.epoch_held_by(members.clone(), members)
    }

    /// The epoch that `members` seal with, held by exactly these `holders`.
    fn epoch_held_by(
        &self,
        members: impl Iterator<Item = usize>,
        holders: impl Iterator<Item = usize>,
    ) -> [u8; 32] {
        let mut all: Vec<_> = holders.map(|member| self.id(member)).collect();
        all.sort();
        let mut used = BTreeSet::new();
        for member in members {
            let node = self.node(member);
            let (secret, _) = node.seals.as_ref().expect("it seals with an epoch");
            used.insert(*secret.id());
            let others = all.iter().filter(|device| **device != node.key.id());
            assert!(node.roster.iter().eq(others), "the roster is who holds the key");
        }
        assert_eq!(used.len(), 1, "all seal with the same epoch");
        used.pop_first().unwrap()
    }

    /// The member that has dealt most, which is the steward.
    fn steward(&self) -> usize {
        let dealt = |member: &usize| self.node(*member).dealt;
        (0..self.members().len()).max_by_key(dealt).unwrap()
    }
}

impl Node {
    fn observe(&mut self, event: Event) {
        match event {
            Event::OwnEpoch { secret, generation, .. } => {
                assert!(self.sealed.insert((*secret.id(), generation)), "no key twice");
                (self.seals, self.own_key) = (Some((secret, generation)), false);
            }
            Event::NoKey(_) => self.seals = None,
            Event::OwnKey { .. } => (self.seals, self.own_key) = (None, true),
            Event::EpochRoster { devices, number, unconfirmed, .. } => {
                (self.roster, self.number, self.unconfirmed) = (devices, number, unconfirmed);
            }
            Event::TalkerEpochKey { device, key, .. } => {
                self.given.insert(device, key);
            }
            Event::TalkerGone { device } | Event::TalkerKeyGone { device, .. } => {
                self.given.remove(&device);
            }
            Event::Epochs { secrets, talkers, .. } => {
                self.ever.extend(secrets.iter().map(|secret| *secret.id()));
                (self.opens, self.talkers) = (secrets, talkers);
            }
            Event::Listeners { plan, .. } => self.plan = plan,
            _ => {}
        }
    }
}

/// The first byte of a records message.
const RECORDS: u8 = 1;

const DELAY: Duration = Duration::from_millis(20);

/// [PROTO-11.9] There are more members than could be linked. All hear each other through one relay.
/// [PROTO-11.3]
#[test]
fn a_hundred_without_links_to_each_other_share_an_epoch() {
    let mut room = Room::new(1, 100);
    room.fill(100);
    room.run_for(4_000);
    room.epoch_of(0..100);
    for talker in [0, 57] {
        let others: Vec<_> = (0..100).filter(|member| *member != talker).collect();
        assert_eq!(room.speak(talker), others);
        let plan = &room.node(talker).plan;
        let relay = room.nodes[0].key.id();
        assert_eq!(plan.hops.iter().map(|hop| hop.relay).collect::<Vec<_>>(), [relay]);
        assert_eq!((plan.listeners().len(), plan.direct.len()), (99, 0));
    }
}

/// [PROTO-11.7] [PROTO-11.22] [PROTO-6.9] The limit is one second, and 40 KB from the steward for
/// three hundred members.
#[test]
fn a_kick_among_many_leaves_nothing_for_who_was_kicked() {
    let mut room = Room::new(1, 300);
    room.fill(300);
    room.run_for(6_000);
    let before = room.epoch_of(0..300);
    let dealt: Vec<_> = room.members().iter().map(|node| node.dealt).collect();
    let kicked = 299;
    let (founder, member) = (room.relays, room.node(kicked).squad.member().unwrap());
    assert_ne!(room.steward(), kicked);
    let remove = Change::Remove { member, admission: 1 };
    let said = room.said;
    room.nodes[founder].squad.edit(room.now, vec![remove]).unwrap();
    room.pump();
    // A member that knows of it says nothing until nobody else would hear it.
    assert!(room.node(0).seals.is_none());
    room.run_for(1_000);
    let after = room.epoch_of(0..299);
    assert_ne!(before, after);
    assert!(!room.node(kicked).ever.contains(&after));
    assert_eq!(room.speak(1), (0..299).filter(|it| *it != 1).collect::<Vec<_>>());
    // [PROTO-11.12] [PROTO-11.20] The cost of telling all holders who holds the epoch grows with
    // their number, not with its square.
    room.run_for(2_000);
    assert!(room.node(0).unconfirmed.is_empty() && room.said.0 > said.0);
    assert!(room.said.0 - said.0 <= 2 * 299 && room.said.1 - said.1 <= 2 * 299 * 120);
    let uplink = room.members().iter().zip(dealt).map(|(node, dealt)| node.dealt - dealt);
    let uplink = uplink.max().unwrap();
    assert!((16_000..19_500).contains(&uplink), "{uplink} bytes");
}

/// [PROTO-11.4] Devices that come and go.
#[test]
fn who_comes_opens_nothing_of_before_and_who_goes_nothing_of_after() {
    let mut room = Room::new(1, 40);
    room.fill(39);
    room.run_for(5_000);
    let before = room.epoch_of(0..39);
    room.link(0, room.relays + 39);
    room.run_for(1_000);
    let with = room.epoch_of(0..40);
    assert!(!room.node(39).ever.contains(&before), "the past");
    let leaver = (room.steward() + 1) % 39;
    room.unlink(0, room.relays + leaver);
    room.run_for(1_000);
    let without = room.epoch_of((0..40).filter(|member| *member != leaver));
    assert_ne!(with, without);
    assert!(!room.node(leaver).ever.contains(&without), "the future");
    // Ten seconds later the epoch that it holds is useless.
    room.run_for(11_000);
    let other = (leaver + 1) % 39;
    assert!(room.node(other).opens.iter().all(|secret| *secret.id() == without));
}

/// [PROTO-11.2] [PROTO-11.23]
#[test]
fn a_steward_that_deals_nothing_is_replaced() {
    let mut room = Room::new(1, 40);
    room.fill(39);
    room.run_for(5_000);
    let steward = room.steward();
    room.mute = Some(room.relays + steward);
    room.link(0, room.relays + 39);
    room.run_for(3_000);
    // It is still there, but its epochs reach nobody.
    let epoch = room.epoch_held_by((0..40).filter(|member| *member != steward), 0..40);
    assert_eq!(room.node(39).seals.as_ref().map(|(secret, _)| *secret.id()), Some(epoch));
}

/// A member that may no longer hear the channel loses it like one that is removed.
#[test]
fn whoever_loses_the_right_gets_no_other_epoch() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let member = room.node(20).squad.member().unwrap();
    let rule = Rule {
        at: Place::Channel(room.channel),
        subject: Subject::Member(member),
        allow: Capabilities::NONE,
        deny: Capabilities::LISTEN,
    };
    room.nodes[room.relays].squad.edit(room.now, vec![Change::Rule(rule)]).unwrap();
    room.pump();
    room.run_for(1_000);
    let after = room.epoch_of((0..40).filter(|it| *it != 20));
    assert!(!room.node(20).ever.contains(&after));
}

/// [PROTO-11.8] However often a talker's key is replaced within an epoch, none is used twice.
#[test]
fn a_talker_renews_its_key_while_it_talks() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let target = TargetId::of_channel(room.channel);
    let before = room.node(3).seals.clone().unwrap();
    room.nodes[room.relays + 3].squad.handle_talked(room.now, target);
    room.run_for(61_000);
    let after = room.node(3).seals.clone().unwrap();
    assert_eq!((before.0.id(), before.1 + 1), (after.0.id(), after.1));
    assert_eq!(room.speak(3).len(), 39);
    // Every ten minutes all get another epoch.
    room.run_for(10 * 60 * 1_000);
    assert_ne!(room.epoch_of(0..40), *before.0.id());
}

/// [PROTO-11.9] Without a relay nobody can be told who is there.
#[test]
fn without_a_relay_everybody_seals_with_a_key_of_its_own() {
    let mut room = Room::new(1, 34);
    room.fill(34);
    room.link(room.relays, room.relays + 1);
    room.run_for(5_000);
    room.epoch_of(0..34);
    for member in 0..2 {
        room.unlink(0, room.relays + member);
    }
    assert!(room.node(0).own_key && room.node(1).own_key);
    let other = room.id(1);
    assert_eq!(room.node(0).plan.direct, [other]);
}

/// Regression: anybody who may speak could deal an epoch of its own. Talkers accepted it from any
/// device, and the highest number won. [PROTO-11.5] [PROTO-11.21] [PROTO-11.11]
#[test]
fn an_epoch_that_nobody_has_asked_for_changes_nothing() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let before = room.epoch_of(0..40);
    let steward = room.steward();
    let [liar, talker, ..] = *(0..40).filter(|it| *it != steward).collect::<Vec<_>>() else {
        panic!("there are forty");
    };
    let (relays, number) = (room.relays, room.node(0).number);
    room.link(relays + liar, relays + talker);
    for to in [0, relays + talker] {
        for number in [number + 1, number + (1 << 24), number + (1 << 24) + 1, u64::MAX] {
            assert_eq!(room.deal((liar, to), number, &[liar, talker]), None);
        }
    }
    room.run_for(12_000);
    assert_eq!(room.epoch_of(0..40), before);
    assert_eq!(room.steward(), steward);
}

/// Regression: an epoch of an issuer that may no longer speak continued to open for devices from
/// which their relay withheld the next one. A kicked member could so speak in the name of any other
/// holder. [PROTO-11.10] [PROTO-11.28]
#[test]
fn an_epoch_opens_nothing_two_seconds_after_it_is_void_or_tainted() {
    for rights in [Capabilities::SPEAK, Capabilities::LISTEN] {
        let mut room = Room::new(1, 40);
        room.fill(40);
        room.run_for(5_000);
        let before = room.epoch_of(0..40);
        let steward = room.steward();
        let whose = if rights == Capabilities::SPEAK { steward } else { (steward + 1) % 40 };
        let deaf = room.relays + (steward + 2) % 40;
        room.tamper = Some(Box::new(move |_, to, message| {
            (to != deaf || !matches!(message, Message::Epoch(_))).then_some(message)
        }));
        let rule = Rule {
            at: Place::Channel(room.channel),
            subject: Subject::Member(room.node(whose).squad.member().unwrap()),
            allow: Capabilities::NONE,
            deny: rights,
        };
        room.nodes[room.relays].squad.edit(room.now, vec![Change::Rule(rule)]).unwrap();
        room.pump();
        let opens = |room: &Room| room.nodes[deaf].opens.iter().any(|it| *it.id() == before);
        room.run_for(1_000);
        assert!(opens(&room), "others may not know of it yet");
        room.run_for(1_200);
        assert!(!opens(&room), "{rights:?}");
    }
}

/// Regression: a steward could withhold a seal, or send one that does not open. The device left out
/// was on everyone's roster, and its own relay took no notice. [PROTO-11.12]
#[test]
fn who_cannot_open_its_seal_is_shown_and_hears_again_by_another_steward() {
    for withheld in [true, false] {
        let mut room = Room::new(1, 40);
        room.fill(39);
        room.run_for(5_000);
        let steward = room.steward();
        let victim = (steward + 1) % 39;
        let mut all: Vec<_> = (0..40).map(|member| room.id(member)).collect();
        all.sort();
        let place = all.iter().position(|device| *device == room.id(victim)).unwrap() as u16;
        let liar = room.relays + steward;
        room.tamper = Some(Box::new(move |from, _, message| match message {
            Message::Epoch(mut epoch) if from == liar => {
                let mut seals = epoch.seals.into_vec();
                // The seal of another device does not open, and neither does one to a prekey of
                // last week.
                let other = seals.iter().find(|(it, _)| *it != place).map(|(_, seal)| *seal);
                if withheld {
                    seals.retain(|(it, _)| *it != place);
                } else if let Some((mine, other)) =
                    seals.iter_mut().find(|(it, _)| *it == place).zip(other)
                {
                    mine.1 = other;
                }
                epoch.seals = List::truncated(seals);
                Some(Message::Epoch(epoch))
            }
            message => Some(message),
        }));
        room.link(0, room.relays + 39);
        // Until the next epoch is dealt.
        room.run_for(600);
        let talker = (steward + 2) % 39;
        room.run_for(1_950);
        assert_eq!(room.node(talker).unconfirmed, [room.id(victim)]);
        room.run_for(1_050);
        room.epoch_of(0..40);
        for member in [talker, victim] {
            let others: Vec<_> = (0..40).filter(|other| *other != member).collect();
            assert_eq!(room.speak(member), others, "{withheld}");
            assert_eq!(room.node(member).unconfirmed, []);
        }
        // This remains so.
        room.run_for(60_000);
        assert_eq!(room.node(talker).unconfirmed, []);
    }
}

/// A device that claims that it can open nothing makes stewards be replaced, but not for ever.
/// [PROTO-11.12] [PROTO-11.26]
#[test]
fn one_who_never_confirms_has_three_stewards_replaced_and_no_more() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    let mute = room.relays + 7;
    room.tamper = Some(Box::new(move |from, _, message| {
        (from != mute || !matches!(message, Message::Confirming(_))).then_some(message)
    }));
    room.run_for(15_000);
    let (number, after) = (room.node(0).number, room.epoch_of(0..40));
    assert_eq!(room.node(0).unconfirmed, [room.id(7)]);
    room.run_for(9 * 60 * 1_000);
    assert_eq!((room.node(0).number, room.epoch_of(0..40)), (number, after));
}

/// Regression: a relay that kept a prekey of last week, and a thief of its secret, could have had
/// all epochs sealed to it. [PROTO-11.1] [PROTO-11.25]
#[test]
fn a_relay_that_hands_on_an_old_prekey_achieves_nothing() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let steward = room.steward();
    let victim = (steward + 1) % 40;
    let current = room.prekeys[&room.id(victim)].issued.as_secs();
    let secret = PrekeySecret::generate(&SeededRandom::new(9));
    let (device, key) = (room.id(victim), Arc::clone(&room.node(victim).key));
    let old =
        |issued| Signed::sign(Prekey::new(device, UnixTime::from_secs(issued), &secret), &key);
    let relay = room.nodes[0].key.id();
    let steward_at = room.relays + steward;
    let tell = |room: &mut Room, number, whole, here: Vec<Signed<Prekey>>| {
        let (channel, after) = (room.channel, 0);
        let (here, gone) = (List::truncated(here), List::default());
        let said = Attendance { number, channel, whole, after, here, gone };
        let bytes = Message::Attendance(said).encode();
        assert!(room.nodes[steward_at].squad.handle_message(room.now, relay, &bytes).is_ok());
        room.pump();
        room.run_for(1_000);
    };
    // The second prekey is not too old, but the steward knows a later one.
    let here = [current - 7 * 86_400, current - 1].map(old);
    let own = room.prekeys[&room.id(steward)].clone();
    let own = Signed::sign(own, &room.node(steward).key);
    let before = room.epoch_of(0..40);
    for (number, prekey) in (1 << 40..).zip(here.clone()) {
        tell(&mut room, number, false, vec![prekey]);
    }
    assert_ne!(room.epoch_of(0..40), before);
    assert_eq!(room.speak(3), (0..40).filter(|it| *it != 3).collect::<Vec<_>>());
    // If the relay reports no other prekey, nobody gets anything by the old one.
    let [week, second] = here;
    tell(&mut room, 1 << 41, true, vec![own, week, second]);
    let dealt = room.node(steward).opens.last().unwrap().id().to_owned();
    let held = &room.nodes[steward_at].squad.epochs.held;
    let holders = &held.by_id(room.channel, &dealt).unwrap().holders;
    assert!(holders.place(room.id(steward)).is_some());
    assert_eq!(holders.place(room.id(victim)), None);
}

/// A new prekey replaces that of a device that has restarted, even if it made fewer of them in this
/// run than in the previous one. [PROTO-11.1]
#[test]
fn prekeys_go_up_with_the_calendar() {
    let room = |calendar: u64| {
        let mut room = Room::new(1, 34);
        for node in &mut room.nodes {
            node.squad.set_calendar(room.now, UnixTime::from_secs(calendar));
        }
        room.fill(34);
        room.run_for(1_000);
        room
    };
    let first = room(1_800_000_000);
    let mut again = room(1_800_000_030);
    let issued = |room: &Room| room.prekeys[&room.id(3)].issued;
    assert!(issued(&first) < issued(&again));
    // While the machine sleeps the calendar advances, and the clock does not.
    let now = again.now;
    for node in &mut again.nodes {
        node.squad.set_calendar(now, UnixTime::from_secs(1_800_000_030 + 40 * 3_600));
    }
    again.run_for(3_000);
    assert_eq!(issued(&again).as_secs(), 1_800_000_030 + 40 * 3_600);
    again.epoch_of(0..34);
}

/// Regression: a device with a link to a talker, but without a seal, did not hear the talker while
/// it sealed with the epoch. [PROTO-11.13] [PROTO-11.29]
#[test]
fn who_is_no_holder_hears_those_whom_it_is_linked_to() {
    let mut room = Room::new(1, 40);
    room.fill(39);
    room.run_for(5_000);
    let (relays, target) = (room.relays, TargetId::of_channel(room.channel));
    let before = room.node(3).seals.clone().unwrap();
    room.link(relays + 3, relays + 39);
    room.run_for(500);
    assert_eq!(room.speak(3), (0..40).filter(|it| *it != 3).collect::<Vec<_>>());
    assert!(room.node(3).roster.contains(&room.id(39)));
    assert!(!room.node(39).given.contains_key(&room.id(4)), "only of those who give it");
    // When it has gone, it opens nothing more.
    room.unlink(relays + 3, relays + 39);
    room.run_for(3_500);
    let after = room.node(3).seals.clone().unwrap();
    assert_eq!((before.0.id(), before.1 + 1), (after.0.id(), after.1));
    assert!(!room.node(3).roster.contains(&room.id(39)));
    // The relay brings no seal and no confirmation to a device on the list.
    room.run_for(1_000);
    let deaf = relays + 9;
    room.tamper = Some(Box::new(move |from, to, message| {
        let kept = from == 0 && to == deaf && matches!(message, Message::Epoch(_));
        (!kept && !matches!(message, Message::Confirmed(_))).then_some(message)
    }));
    room.link(relays + 3, deaf);
    room.link(0, relays + 39);
    // Until no further steward is tried for its sake.
    room.run_for(12_000);
    let now = room.now;
    room.nodes[relays + 3].squad.handle_talked(now, target);
    room.pump();
    room.run_for(100);
    assert!(room.speak(3).contains(&9));
    // In turn it is heard by devices that do not hold what it seals with.
    assert!(room.node(3).given.contains_key(&room.id(9)));
    assert!(room.speak(9).contains(&3));
}

/// [PROTO-11.9] Nobody has to wait for a steward that deals nothing.
#[test]
fn a_talker_is_silent_for_a_second_at_most() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let steward = room.steward();
    room.mute = Some(room.relays + steward);
    let kicked = (1..40).find(|member| *member != steward).unwrap();
    let talker = (1..40).find(|member| ![steward, kicked].contains(member)).unwrap();
    room.link(room.relays + talker, room.relays);
    let (founder, member) = (room.relays, room.node(kicked).squad.member().unwrap());
    let remove = Change::Remove { member, admission: 1 };
    room.nodes[founder].squad.edit(room.now, vec![remove]).unwrap();
    room.pump();
    room.run_for(1_000);
    assert!(room.node(talker).own_key || room.node(talker).seals.is_some());
}

/// Regression: a relay that reported the highest number to its steward made it use up its numbers.
/// Nobody accepted what it dealt after that. [PROTO-11.11]
#[test]
fn a_steward_takes_no_relays_word_for_the_highest_number() {
    let mut room = Room::new(2, 40);
    room.fill(40);
    room.run_for(5_000);
    let steward = room.steward();
    // The lying relay has nothing else to report.
    let leavers: Vec<_> = (0..40).filter(|member| *member != steward).take(3).collect();
    for leaver in &leavers {
        room.unlink(1, room.relays + leaver);
    }
    room.run_for(2_000);
    let mut before = room.epoch_of(0..40);
    let number = room.node(steward).number;
    let said = Attendance {
        number: 1 << 40,
        channel: room.channel,
        whole: false,
        after: u64::MAX,
        here: List::default(),
        gone: List::default(),
    };
    let (now, relay) = (room.now, room.nodes[1].key.id());
    let bytes = Message::Attendance(said).encode();
    let index = room.relays + steward;
    assert!(room.nodes[index].squad.handle_message(now, relay, &bytes).is_ok());
    for (count, leaver) in leavers.iter().enumerate() {
        room.unlink(0, room.relays + leaver);
        room.run_for(12_000);
        let gone = &leavers[..=count];
        let after = room.epoch_of((0..40).filter(|member| !gone.contains(member)));
        assert_ne!(after, before);
        assert_eq!(room.steward(), steward);
        before = after;
    }
    assert!(room.node(steward).number <= number + 3 * ((1 << 16) + 1));
}
