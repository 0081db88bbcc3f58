//! Many members who have links to relays alone, with 20 ms on each way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{
    ChannelId, DeviceId, DeviceKey, EpochDealer, EpochSecret, List, SeededRandom, SenderKey,
    SenderKeyring, TargetId, Timestamp,
};

use crate::{
    Directory,
    charter::{
        Charter, Piece,
        content::{Change, Relay, Rule, Subject},
    },
    hello::{PeerHello, Presence},
    squad::{DownReason, Persist, SquadConfig, Transmit, world::outcome},
};

use super::*;

struct Room {
    now: Timestamp,
    /// Relays first, then members.
    nodes: Vec<Node>,
    relays: usize,
    channel: ChannelId,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    happened: u64,
    links: BTreeSet<(usize, usize)>,
    /// Whose messages get lost.
    mute: Option<usize>,
    /// Where each device has said that it takes what is sealed to it.
    prekeys: BTreeMap<DeviceId, Prekey>,
}

struct Node {
    key: Arc<DeviceKey>,
    squad: Squad,
    /// What it seals with.
    seals: Option<(EpochSecret, u8)>,
    sealed: BTreeSet<([u8; 32], u8)>,
    own_key: bool,
    roster: Vec<DeviceId>,
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
            };
            Node {
                squad: Squad::new(now, config, Arc::clone(&random) as _),
                key,
                seals: None,
                sealed: BTreeSet::new(),
                own_key: false,
                roster: Vec::new(),
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
        Self { now, nodes, relays, channel, queue, happened: 0, links, mute: None, prekeys }
    }

    /// The first `count` members are linked with all relays.
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
                    // Records are of no use to those who have no links to each other.
                    if bytes.first() == Some(&RECORDS) {
                        return true;
                    }
                    match Message::decode(&bytes) {
                        Ok(Message::Epoch(_)) if index >= self.relays => node.dealt += bytes.len(),
                        Ok(Message::Prekey(prekey)) => {
                            self.prekeys.insert(node.key.id(), prekey.unverified().clone());
                        }
                        _ => {}
                    }
                    let to = self.nodes.iter().position(|node| node.key.id() == to).unwrap();
                    if self.mute != Some(index) {
                        let bytes = bytes.to_vec();
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

    /// Has a member deal an epoch of this number for others by the first relay, whoever is the
    /// steward. Gives its id, where the relay takes it.
    fn deal(&mut self, member: usize, number: u64, others: &[usize]) -> Option<[u8; 32]> {
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
        let taken = self.nodes[0].squad.handle_message(now, from, &bytes).is_ok();
        self.pump();
        taken.then_some(id)
    }

    /// A frame of a member to the channel, and who opens it.
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
            let known = node.talkers.contains(&device);
            known && ring.open(self.now, &sealed, &mut Vec::new()).is_ok()
        };
        let all = self.members().iter().enumerate();
        all.filter(|(_, node)| opens(node)).map(|(number, _)| number).collect()
    }

    /// The epoch that all of `members` seal with, held by exactly these.
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

    /// Which member has dealt last: all that it sends now is lost.
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
            Event::EpochRoster { devices, number, .. } => {
                (self.roster, self.number) = (devices, number);
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

/// The first byte of records.
const RECORDS: u8 = 1;

const DELAY: Duration = Duration::from_millis(20);

/// [PROTO-11.9] More than links could be made to: all hear each other through one relay.
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

/// [PROTO-11.7] [PROTO-6.9] The bar: a second, and 40 KB of the steward for three hundred.
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
    room.nodes[founder].squad.edit(room.now, vec![remove]).unwrap();
    room.pump();
    // Who knows says nothing until nobody else would hear it.
    assert!(room.node(0).seals.is_none());
    room.run_for(1_000);
    let after = room.epoch_of(0..299);
    assert_ne!(before, after);
    assert!(!room.node(kicked).ever.contains(&after));
    assert_eq!(room.speak(1), (0..299).filter(|it| *it != 1).collect::<Vec<_>>());
    let uplink = room.members().iter().zip(dealt).map(|(node, dealt)| node.dealt - dealt);
    let uplink = uplink.max().unwrap();
    assert!((14_000..17_000).contains(&uplink), "{uplink} bytes");
}

/// [PROTO-11.4] Comings and goings.
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
    // What it holds is of no use ten seconds later.
    room.run_for(11_000);
    let other = (leaver + 1) % 39;
    assert!(room.node(other).opens.iter().all(|secret| *secret.id() == without));
}

/// [PROTO-11.2]
#[test]
fn a_steward_that_deals_nothing_is_replaced() {
    let mut room = Room::new(1, 40);
    room.fill(39);
    room.run_for(5_000);
    let steward = room.steward();
    room.mute = Some(room.relays + steward);
    room.link(0, room.relays + 39);
    room.run_for(3_000);
    // It is still there, but hears of nothing that it does not deal.
    let epoch = room.epoch_held_by((0..40).filter(|member| *member != steward), 0..40);
    assert_eq!(room.node(39).seals.as_ref().map(|(secret, _)| *secret.id()), Some(epoch));
}

/// Who may not hear the channel any more loses it as one who is removed does.
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

/// [PROTO-11.8] However often a talker's key is replaced within an epoch, none comes twice.
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
    // And each ten minutes all have another epoch.
    room.run_for(10 * 60 * 1_000);
    assert_ne!(room.epoch_of(0..40), *before.0.id());
}

/// [PROTO-11.9] Without a relay there is nobody to tell who is there.
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

/// A member that dealt an epoch with the highest number had the last word: no steward could deal a
/// higher one, and its own numbers were used up by trying. [PROTO-11.11]
#[test]
fn one_who_deals_the_highest_number_has_not_the_last_word() {
    let mut room = Room::new(1, 40);
    room.fill(39);
    room.run_for(5_000);
    let before = room.epoch_of(0..39);
    let steward = room.steward();
    let liar = (1..39).find(|member| *member != steward).unwrap();
    let others: Vec<_> = (0..39).filter(|member| ![steward, liar].contains(member)).collect();
    let number = room.node(0).number;
    for far in [u64::MAX, number + (1 << 24) + 1] {
        assert_eq!(room.deal(liar, far, &others), None);
    }
    // By a number that could be the next it has its way, until it is removed.
    let own = room.deal(liar, number + (1 << 24), &others).expect("a number that could be");
    room.run_for(11_000);
    assert_eq!(room.epoch_held_by(others.iter().copied(), others.iter().copied()), own);
    assert_eq!(room.node(steward).seals.as_ref().map(|(it, _)| *it.id()), Some(before));
    let (founder, member) = (room.relays, room.node(liar).squad.member().unwrap());
    let remove = Change::Remove { member, admission: 1 };
    room.nodes[founder].squad.edit(room.now, vec![remove]).unwrap();
    room.pump();
    room.run_for(1_000);
    let rest = (0..39).filter(|member| *member != liar);
    let after = room.epoch_of(rest.clone());
    assert!(![before, own].contains(&after));
    // It stays so, and who comes now hears the others.
    room.run_for(11_000);
    assert_eq!(room.epoch_of(rest.clone()), after);
    room.link(0, room.relays + 39);
    room.run_for(1_000);
    assert_ne!(room.epoch_of(rest.chain([39])), after);
}

/// Who lost the right to speak may have dealt the last epoch, and left the steward out.
/// [PROTO-11.11]
#[test]
fn an_epoch_ends_with_the_right_of_who_dealt_it() {
    let mut room = Room::new(1, 40);
    room.fill(40);
    room.run_for(5_000);
    let steward = room.steward();
    let liar = (1..40).find(|member| *member != steward).unwrap();
    let others: Vec<_> = (0..40).filter(|member| ![steward, liar].contains(member)).collect();
    let own = room.deal(liar, room.node(0).number + 1, &others).expect("the next");
    room.run_for(11_000);
    assert_eq!(room.epoch_held_by(others.iter().copied(), others.iter().copied()), own);
    let rule = Rule {
        at: Place::Channel(room.channel),
        subject: Subject::Member(room.node(liar).squad.member().unwrap()),
        allow: Capabilities::NONE,
        deny: Capabilities::SPEAK,
    };
    room.nodes[room.relays].squad.edit(room.now, vec![Change::Rule(rule)]).unwrap();
    room.pump();
    room.run_for(1_000);
    let after = room.epoch_held_by((0..40).filter(|it| *it != liar), 0..40);
    assert_ne!(after, own);
    assert_eq!(room.speak(steward), (0..40).filter(|it| *it != steward).collect::<Vec<_>>());
}

/// A relay that told its steward of the highest number had it use up its own: what it dealt after that
/// was taken by nobody. [PROTO-11.11]
#[test]
fn a_steward_takes_no_relays_word_for_the_highest_number() {
    let mut room = Room::new(2, 40);
    room.fill(40);
    room.run_for(5_000);
    let steward = room.steward();
    // The relay that lies has nothing else to tell.
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
