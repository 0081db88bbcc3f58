//! Many squads in one loop of virtual time, for tests of this crate and of others.
//!
//! A [`World`] carries the outputs of squads. It does so with random delay, order and loss, through
//! relays or over direct links, and on a network that can be cut. [`poll`], [`config`], [`hello`]
//! and [`outcome`] are for tests that drive a single squad by hand.

mod checks;
mod drive;
mod network;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use hark_charter::{
    Charter, EditError, Piece,
    content::{Change, Channel, Relay},
};
use hark_keys::{
    ChannelId, DeviceId, DeviceKey, List, MemberId, Random, SeededRandom, TargetId, Timestamp,
};

use self::network::{Happening, Waiting};
pub use self::{
    drive::{Output, config, hello, outcome, persisted, poll, work},
    node::{Node, Talker, Voice},
};
use crate::{
    Directory, Target,
    hello::PeerHello,
    message::{CheckNonce, Message},
    squad::{DownReason, Squad},
};

/// Several devices of one organisation, and the network between them.
pub struct World {
    /// The time at all nodes.
    pub now: Timestamp,
    /// All devices; relays come first.
    pub nodes: Vec<Node>,
    /// Percentage of messages, datagrams, gossip and dials that are lost.
    pub loss: u64,
    /// The checks to be sent: by which node, to which address, with which nonce.
    pub checks: Vec<(usize, SocketAddr, CheckNonce)>,
    /// Changes or drops a message from one node to another.
    pub tamper: Option<Tamper>,
    /// What each node has sent of each kind of message. The first byte is the kind.
    pub sent: BTreeMap<(usize, u8), Sent>,
    /// How many of the nodes are relays.
    pub relays: usize,
    kind: Kind,
    random: Arc<SeededRandom>,
    places: BTreeMap<DeviceId, usize>,
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    happened: u64,
    links: BTreeMap<(usize, usize), LinkState>,
    blocked: BTreeSet<(usize, usize)>,
    /// Which gossip has been at which node.
    passed: BTreeSet<(usize, Vec<u8>)>,
    /// What a node's worker is to look at, by node, incarnation and number.
    waiting: BTreeMap<(usize, u64, u64), Waiting>,
    /// Nodes that had an input since they were last polled.
    touched: BTreeSet<usize>,
}

/// Returns what a message from one node to another becomes, or `None` if it is dropped.
pub type Tamper = Box<dyn Fn(usize, usize, Message) -> Option<Message>>;

/// What a node has sent of one kind of message.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Number of messages.
    pub messages: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The last message.
    pub last: Vec<u8>,
}

/// The kind of world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Members that find each other over a network with all its faults. Nobody is removed, and
    /// every message is valid.
    Friends,
    /// Members with direct links, over which everything arrives at once. Dials wait for the test.
    Together,
    /// Members with links to relays only, and a delay of 20 ms on each way. No dial succeeds. No
    /// records are sent, since members without links to each other have no use for them.
    Crowd,
}

#[derive(Clone, Copy)]
struct LinkState {
    number: u64,
    blocked_since: Option<Timestamp>,
}

impl World {
    /// `count` members that know each other's addresses. The first one is the founder, and is up.
    pub fn friends(seed: u64, count: usize, loss: u64) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let keys = keys(&random, count);
        let mut charter = Charter::found("Squad", "Voice", &keys[0], None, &*random);
        let mut known = vec![Arc::new(charter.clone())];
        for index in 1..count {
            let issuer = if index < 5 { index - 1 } else { 0 };
            admit(&mut charter, &keys[issuer], &keys[index]);
            known.push(Arc::new(charter.clone()));
        }
        let mut world = Self::new(Kind::Friends, random, keys, 0, known);
        world.loss = loss;
        world.start_with(0);
        world.settle();
        world
    }

    /// A founder and `others`, all up and linked, with a charter that has channels 1 to 3.
    pub fn together(others: usize) -> Self {
        let random = Arc::new(SeededRandom::new(3));
        let keys = keys(&random, others + 1);
        let mut charter = Charter::found("Squad", "Lobby", &keys[0], None, &*random);
        keys[1..].iter().for_each(|key| admit(&mut charter, &keys[0], key));
        let channels = (1..=3).map(|n| Change::Channel(Channel::open(net(n), &format!("Net {n}"))));
        edit(&mut charter, &keys[0], channels.collect());
        let mut world = Self::new(Kind::Together, random, keys, 0, vec![Arc::new(charter)]);
        (0..=others).for_each(|index| world.start_with(index));
        world.meet_again();
        world
    }

    /// Relays that the charter names, and `members`, all up and without links.
    pub fn crowd(relays: usize, members: usize) -> Self {
        let random = Arc::new(SeededRandom::new(1));
        let keys = keys(&random, relays + members);
        let mut charter = Charter::found("Squad", "Voice", &keys[relays], None, &*random);
        for (number, relay) in keys[..relays].iter().enumerate() {
            let named = Change::Relay(Relay {
                device: relay.id(),
                name: format!("Eyrie {number}"),
                addresses: List::truncated([address(number)]),
                members_max: 0,
                rate_kbps: 0,
            });
            edit(&mut charter, &keys[relays], vec![named]);
        }
        keys[relays + 1..].iter().for_each(|key| admit(&mut charter, &keys[relays], key));
        let mut world = Self::new(Kind::Crowd, random, keys, relays, vec![Arc::new(charter)]);
        (0..relays + members).for_each(|index| world.start_with(index));
        world.settle();
        world
    }

    /// Creates the nodes, all of them down. Each knows the charter at its index, or the last one.
    fn new(
        kind: Kind,
        random: Arc<SeededRandom>,
        keys: Vec<Arc<DeviceKey>>,
        relays: usize,
        charters: Vec<Arc<Charter>>,
    ) -> Self {
        let now = Timestamp::from_millis(1_000);
        let last = charters.last().expect("there is a charter");
        let places = keys.iter().enumerate().map(|(place, key)| (key.id(), place)).collect();
        let nodes = keys.into_iter().enumerate().map(|(index, key)| {
            let charter = Arc::clone(charters.get(index).unwrap_or(last));
            let member = (index >= relays).then(|| charter.member_of(key.id()));
            let config = config(&charter, &key, member);
            Node::new(key, charter, Squad::new(now, config, Arc::clone(&random) as _))
        });
        Self {
            now,
            nodes: nodes.collect(),
            loss: 0,
            checks: Vec::new(),
            tamper: None,
            sent: BTreeMap::new(),
            relays,
            kind,
            random,
            places,
            happenings: BTreeMap::new(),
            happened: 0,
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            passed: BTreeSet::new(),
            waiting: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Starts a node, which knows the address of another one.
    pub fn start(&mut self, index: usize) {
        let door = self.nodes.iter().position(|node| node.is_up);
        let Some(door) = door.filter(|_| !self.is_up(index)) else { return };
        self.start_with(index);
        let now = self.now;
        self.touch(index).handle_discovered(now, None, &[address(door)]);
        self.settle();
    }

    fn start_with(&mut self, index: usize) {
        let friends = self.kind == Kind::Friends;
        let incarnation = if friends { self.below(u64::MAX) } else { 1 };
        let random: Arc<dyn Random> = Arc::clone(&self.random) as _;
        let node = &mut self.nodes[index];
        let charter = Arc::clone(&node.disk_charter);
        let mut config = config(&charter, &node.key, node.squad.member());
        config.directory = Directory::restore(&charter, &node.disk_directory);
        config.generations.clone_from(&node.disk_generations);
        config.presence.incarnation = incarnation;
        if friends {
            config.presence.name = format!("node {index}");
            config.presence.addresses = vec![address(index)];
        }
        node.squad = Squad::new(self.now, config, random);
        (node.incarnation, node.is_up) = (incarnation, true);
        self.touched.insert(index);
    }

    /// Stops a node that says so to all its peers.
    pub fn leave(&mut self, index: usize) {
        self.stop(index, DownReason::Left, 0..100);
    }

    /// Stops a node that sends nothing any more.
    pub fn crash(&mut self, index: usize) {
        self.stop(index, DownReason::Unreachable, 30_000..31_000);
    }

    fn stop(&mut self, index: usize, reason: DownReason, after: Range<u64>) {
        let node = &mut self.nodes[index];
        if node.is_up {
            node.disk_directory = node.squad.directory().snapshot();
        }
        node.is_up = false;
        node.voice = Voice::default();
        let pairs = self.links.keys().copied().filter(|(a, b)| *a == index || *b == index);
        for pair in pairs.collect::<Vec<_>>() {
            let Some(LinkState { number: link, .. }) = self.links.remove(&pair) else { continue };
            let at = if pair.0 == index { pair.1 } else { pair.0 };
            self.after(after.clone(), Happening::Ended { link, at, peer: index, reason });
        }
    }

    /// Makes a stopped node know no member at its next start.
    pub fn lose_directory(&mut self, index: usize) {
        self.nodes[index].disk_directory.clear();
    }

    /// Links two nodes, unless they are already linked.
    pub fn link(&mut self, a: usize, b: usize) {
        if a != b && self.link_of(a, b).is_none() {
            self.connect(a, b, None);
            self.settle();
        }
    }

    /// A new link is up; `address` is where `from` has found `to`.
    fn connect(&mut self, from: usize, to: usize, address: Option<SocketAddr>) {
        self.happened += 1;
        let link = LinkState { number: self.happened, blocked_since: None };
        self.links.insert(ordered(from, to), link);
        for (at, peer, address) in [(from, to, address), (to, from, None)] {
            self.expect_later_keys(at, peer);
            let (now, hello) = (self.now, self.hello(peer));
            self.touch(at).handle_link_up(now, hello, address);
        }
    }

    /// Ends the link of two nodes, which both say goodbye.
    pub fn unlink(&mut self, a: usize, b: usize) {
        self.end_link(a, b, DownReason::Left);
        self.settle();
    }

    fn end_link(&mut self, a: usize, b: usize, reason: DownReason) {
        if self.links.remove(&ordered(a, b)).is_some() {
            for (at, peer) in [(a, b), (b, a)] {
                let (now, device) = (self.now, self.id(peer));
                self.touch(at).handle_link_down(now, device, reason);
            }
        }
    }

    /// Ends all links of a node.
    pub fn cut_off(&mut self, index: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.end_link(index, other, DownReason::Unreachable);
        }
        self.settle();
    }

    /// Links all nodes that are not linked.
    pub fn meet_again(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                if self.link_of(a, b).is_none() {
                    self.connect(a, b, None);
                }
            }
        }
        self.settle();
    }

    /// Blocks everything between two nodes until [`Self::unblock_all`].
    pub fn block(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        self.blocked.insert(ordered(a, b));
        if let Some(link) = self.links.get_mut(&ordered(a, b)) {
            link.blocked_since.get_or_insert(self.now);
        }
    }

    /// Ends all blocks.
    pub fn unblock_all(&mut self) {
        self.blocked.clear();
        self.links.values_mut().for_each(|link| link.blocked_since = None);
    }

    /// Makes a member speak to the first channel.
    pub fn talk(&mut self, index: usize) {
        if self.is_up(index) {
            let (now, member) = (self.now, self.member(index));
            let squad = self.touch(index);
            let first = squad.charter().first_channel(member).expect("there is a channel").id;
            squad.handle_talked(now, TargetId::of_channel(first));
        }
        self.settle();
    }

    /// Makes a member change the charter.
    ///
    /// # Errors
    ///
    /// The member may not make the change.
    pub fn edit(&mut self, by: usize, changes: Vec<Change>) -> Result<(), EditError> {
        let now = self.now;
        let result = self.touch(by).edit(now, changes).map(drop);
        self.settle();
        result
    }

    /// Makes a member hear these of the channels 1 to 255.
    pub fn listen(&mut self, index: usize, nets: &[u8]) {
        let now = self.now;
        self.touch(index).set_listening(now, nets.iter().map(|n| net(*n)));
        self.settle();
    }

    /// Makes a member talk to these channels. Returns the target.
    pub fn talk_to(&mut self, index: usize, nets: &[u8]) -> TargetId {
        let target = Target::new(nets.iter().map(|n| net(*n)), [], []);
        let (now, id) = (self.now, target.id());
        self.touch(index).set_targets(now, vec![target]);
        self.settle();
        id
    }

    /// The channels through which a listener hears what a talker says to a target.
    pub fn hears(&self, listener: usize, talker: usize, target: TargetId) -> Vec<ChannelId> {
        if !self.nodes[talker].voice.listeners(target).contains(&self.id(listener)) {
            return Vec::new();
        }
        let hearing = self.nodes[listener].voice.hears.get(&(self.id(talker), target));
        hearing.map(|hearing| hearing.channels.clone()).unwrap_or_default()
    }

    /// Lets time pass.
    pub fn wait(&mut self, milliseconds: u64) {
        self.run_for(Duration::from_millis(milliseconds));
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        loop {
            let wake = self.nodes.iter().filter(|node| node.is_up);
            let wake = wake.filter_map(|node| node.squad.poll_timeout());
            let next = self.happenings.keys().next().map(|(at, _)| *at);
            let Some(next) = wake.chain(next).chain(self.link_timeout()).min() else { break };
            // Otherwise dials that wait for the test would be due all the time.
            let next = next.max(self.now + self.kind.step());
            if next > end {
                break;
            }
            self.now = next;
            let now = self.now;
            self.end_idle_links();
            self.arrive();
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                if node.is_up && node.squad.poll_timeout().is_some_and(|at| at <= now) {
                    self.touch(index).handle_timeout(now);
                    self.pump(index);
                    let next = self.nodes[index].squad.poll_timeout();
                    let waits = self.kind == Kind::Together;
                    assert!(waits || next.is_none_or(|at| at > now), "timers are in the future");
                }
            }
            self.arrive();
        }
        self.now = end;
        self.check();
    }

    /// Carries all outputs of squads, and what arrives at once.
    pub fn settle(&mut self) {
        self.touched.extend(0..self.nodes.len());
        self.arrive();
        self.check();
    }

    /// The device of a node.
    pub fn id(&self, index: usize) -> DeviceId {
        self.nodes[index].key.id()
    }

    /// The member of a node.
    pub fn member(&self, index: usize) -> MemberId {
        self.nodes[index].squad.member().expect("a member's node")
    }

    /// A random number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_be_bytes(bytes) % limit
    }

    /// Whether a node runs.
    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].is_up
    }

    /// The squad of a running node.
    pub fn squad(&mut self, index: usize) -> &mut Squad {
        assert!(self.is_up(index), "it runs");
        self.touch(index)
    }

    /// The Hello of a node.
    pub fn hello(&self, index: usize) -> PeerHello {
        hello(self.id(index), &self.nodes[index].squad)
    }

    fn touch(&mut self, index: usize) -> &mut Squad {
        self.touched.insert(index);
        &mut self.nodes[index].squad
    }

    fn link_timeout(&self) -> Option<Timestamp> {
        self.links.values().filter_map(|link| Some(link.blocked_since? + IDLE_TIMEOUT)).min()
    }

    fn end_idle_links(&mut self) {
        let now = self.now;
        let idle = |link: &LinkState| link.blocked_since.is_some_and(|at| at + IDLE_TIMEOUT <= now);
        let dead = self.links.extract_if(.., |_, link| idle(link)).collect::<Vec<_>>();
        for ((a, b), LinkState { number: link, .. }) in dead {
            for (at, peer) in [(a, b), (b, a)] {
                let reason = DownReason::Unreachable;
                self.after(0..500, Happening::Ended { link, at, peer, reason });
            }
        }
    }
}

/// The channel with this number.
pub fn net(number: u8) -> ChannelId {
    ChannelId::from_bytes([number; 16])
}

/// The address at which a node listens.
pub fn address(index: usize) -> SocketAddr {
    let port = FIRST_PORT + u16::try_from(index).expect("not so many");
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn keys(random: &Arc<SeededRandom>, count: usize) -> Vec<Arc<DeviceKey>> {
    (0..count).map(|_| Arc::new(DeviceKey::generate(&**random))).collect()
}

fn admit(charter: &mut Charter, issuer: &DeviceKey, device: &DeviceKey) {
    let member = charter.member_of(issuer.id());
    let certificate = charter.issue(issuer, member, device.id(), None).expect("it may");
    charter.take(Piece::Certificate(certificate)).expect("it is good");
}

fn edit(charter: &mut Charter, by: &DeviceKey, changes: Vec<Change>) {
    let operation = charter.edit(by, charter.member_of(by.id()), changes).expect("it may");
    charter.take(Piece::Operation(operation)).expect("it is good");
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

const FIRST_PORT: u16 = 7000;

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The first byte of a records message.
const RECORDS: u8 = 1;

/// Things that happen at one time. More than this are an endless loop.
const AT_ONCE_MAX: usize = 1_000_000;
