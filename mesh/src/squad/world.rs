//! Several squads that exchange their outputs over links with random delay, order and loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use hark_keys::{
    DeviceId, DeviceKey, KeySecret, Random, SeededRandom, TargetId, Timestamp, UnixTime,
};

use super::*;

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) nodes: Vec<Node>,
    random: Arc<SeededRandom>,
    /// Percentage of messages, datagrams and gossip that are lost.
    pub(super) loss: u64,
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    happened: u64,
    links: BTreeMap<(usize, usize), LinkState>,
    blocked: BTreeSet<(usize, usize)>,
    /// Which gossip has been at which node.
    passed: BTreeSet<(usize, Vec<u8>)>,
    /// What a node's worker is to look at, by node, incarnation and number.
    waiting: BTreeMap<(usize, u64, u64), Waiting>,
}

/// What follows once a node has accepted something.
enum Waiting {
    Answer { link: u64, from: usize, to: usize, id: u64 },
    Gossip(Vec<u8>),
}

/// A person's device, through all its runs.
pub(super) struct Node {
    pub(super) key: Arc<DeviceKey>,
    disk_charter: Arc<Charter>,
    pub(super) squad: Option<Squad>,
    incarnation: u64,
    disk_generations: BTreeMap<TargetId, u16>,
    disk_directory: Vec<u8>,
    pub(super) own: Option<KeySecret>,
    /// Each key that it was ever told to seal with.
    sealed_with: BTreeSet<(u16, u8)>,
    pub(super) roster: Vec<DeviceId>,
    pub(super) listeners: Vec<DeviceId>,
    /// The keys with which it can open each other node's speech now.
    pub(super) opens: BTreeMap<DeviceId, KeySecret>,
    /// All keys that it was ever given.
    pub(super) ever: BTreeMap<DeviceId, BTreeSet<(u16, u8)>>,
    /// The keys of each other node that were in use when it came.
    forbidden: BTreeMap<DeviceId, BTreeSet<(u16, u8)>>,
    pub(super) unreachable: BTreeSet<DeviceId>,
}

#[derive(Clone, Copy)]
struct LinkState {
    number: u64,
    blocked_since: Option<Timestamp>,
}

enum Happening {
    Message { link: u64, from: usize, to: usize, id: u64, bytes: Vec<u8> },
    Answer { link: u64, from: usize, to: usize, id: u64, taken: bool },
    Datagram { link: u64, from: usize, to: usize },
    Gossip { link: u64, from: usize, to: usize, bytes: Vec<u8> },
    Dialled { from: usize, incarnation: u64, dial: Dial },
    Ended { link: u64, at: usize, peer: usize, reason: DownReason },
    Persisted { node: usize, incarnation: u64, persist: Persist },
    Worked { node: usize, incarnation: u64, job: Box<Job> },
}

/// Does at once what a worker would do for the squad.
pub(super) fn work(now: Timestamp, squad: &mut Squad) {
    while let Some(job) = squad.poll_job(now) {
        squad.handle_job(now, job.run());
    }
}

/// The result of a message, once a worker has looked at it.
pub(super) fn outcome(
    now: Timestamp,
    squad: &mut Squad,
    handled: Result<Handled, MessageError>,
) -> Result<(), MessageError> {
    let Handled::Later(number) = handled? else { return Ok(()) };
    work(now, squad);
    let mut verdicts = std::iter::from_fn(|| squad.poll_verdict());
    let told = verdicts.find(|(told, _)| *told == number);
    told.map_or(Err(MessageError::OverBudget), |(_, result)| result)
}

impl World {
    /// Creates `count` members, none of them started. The first is the founder.
    pub(super) fn new(seed: u64, count: usize, loss: u64) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let keys: Vec<_> = (0..count).map(|_| Arc::new(DeviceKey::generate(&*random))).collect();
        let mut charter = Charter::found("Squad", "Voice", &keys[0], None, &*random);
        let mut nodes: Vec<Node> = Vec::new();
        for key in keys {
            let issuer = match nodes.last() {
                Some(last) if nodes.len() < 5 => Some(&last.key),
                Some(_) => Some(&nodes[0].key),
                None => None,
            };
            if let Some(issuer) = issuer {
                let member = charter.member_of(issuer.id());
                let certificate = charter.issue(issuer, member, key.id(), None).unwrap();
                charter.take(Piece::Certificate(certificate)).unwrap();
            }
            nodes.push(Node {
                key,
                disk_charter: Arc::new(charter.clone()),
                squad: None,
                incarnation: 0,
                disk_generations: BTreeMap::new(),
                disk_directory: Vec::new(),
                own: None,
                sealed_with: BTreeSet::new(),
                roster: Vec::new(),
                listeners: Vec::new(),
                opens: BTreeMap::new(),
                ever: BTreeMap::new(),
                forbidden: BTreeMap::new(),
                unreachable: BTreeSet::new(),
            });
        }
        let mut world = Self {
            now: Timestamp::from_millis(1_000),
            nodes,
            random,
            loss,
            happenings: BTreeMap::new(),
            happened: 0,
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            passed: BTreeSet::new(),
            waiting: BTreeMap::new(),
        };
        world.start_with(0);
        world
    }

    /// Starts a node, which knows the address of another one.
    pub(super) fn start(&mut self, index: usize) {
        if self.nodes[index].squad.is_some() {
            return;
        }
        let door = self.nodes.iter().position(|node| node.squad.is_some());
        let Some(door) = door else { return };
        self.start_with(index);
        let now = self.now;
        let squad = self.nodes[index].squad.as_mut().unwrap();
        squad.handle_discovered(now, None, &[address(door)]);
        self.pump();
    }

    fn start_with(&mut self, index: usize) {
        let incarnation = self.below(u64::MAX);
        let random: Arc<dyn Random> = Arc::clone(&self.random) as _;
        let node = &mut self.nodes[index];
        node.incarnation = incarnation;
        let charter = Arc::clone(&node.disk_charter);
        let config = SquadConfig {
            relay_only: false,
            directory: Directory::restore(&charter, &node.disk_directory),
            member: Some(charter.member_of(node.key.id())),
            charter,
            key: Arc::clone(&node.key),
            presence: Presence {
                incarnation,
                name: format!("node {index}"),
                addresses: vec![address(index)],
                listening: Vec::new(),
            },
            generations: node.disk_generations.clone(),
            names: BTreeMap::new(),
            calendar: UnixTime::from_secs(1_800_000_000),
        };
        node.squad = Some(Squad::new(self.now, config, random));
        self.pump();
    }

    /// Stops a node that says so to all its peers.
    pub(super) fn leave(&mut self, index: usize) {
        self.stop(index);
        for (link, peer) in self.cut(index) {
            let reason = DownReason::Left;
            self.after(0..100, Happening::Ended { link, at: peer, peer: index, reason });
        }
    }

    /// Stops a node that sends nothing any more.
    pub(super) fn crash(&mut self, index: usize) {
        self.stop(index);
        for (link, peer) in self.cut(index) {
            let reason = DownReason::Unreachable;
            self.after(30_000..31_000, Happening::Ended { link, at: peer, peer: index, reason });
        }
    }

    /// Makes a stopped node know no member at its next start.
    pub(super) fn lose_directory(&mut self, index: usize) {
        self.nodes[index].disk_directory.clear();
    }

    /// Blocks everything between two nodes until [`Self::unblock_all`].
    pub(super) fn block(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        self.blocked.insert(ordered(a, b));
        if let Some(link) = self.links.get_mut(&ordered(a, b)) {
            link.blocked_since.get_or_insert(self.now);
        }
    }

    pub(super) fn unblock_all(&mut self) {
        self.blocked.clear();
        for link in self.links.values_mut() {
            link.blocked_since = None;
        }
    }

    pub(super) fn talk(&mut self, index: usize) {
        let now = self.now;
        if let Some(squad) = &mut self.nodes[index].squad {
            let first = squad.charter().first_channel(squad.member().unwrap()).unwrap().id;
            squad.handle_talked(now, TargetId::of_channel(first));
        }
        self.pump();
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let wake = self.nodes.iter().filter_map(|node| node.squad.as_ref()?.poll_timeout());
            let next = self.happenings.keys().next().map(|(at, _)| *at).into_iter();
            let next = wake.chain(next).chain(self.link_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.end_idle_links();
            let now = self.now;
            while let Some(entry) = self.happenings.first_entry()
                && entry.key().0 <= now
            {
                let happening = entry.remove();
                self.happen(happening);
                self.pump();
            }
            for node in &mut self.nodes {
                if let Some(squad) = &mut node.squad {
                    squad.handle_timeout(now);
                }
            }
            self.pump();
            for node in &self.nodes {
                let timeout = node.squad.as_ref().and_then(Squad::poll_timeout);
                assert!(timeout.is_none_or(|at| at > now), "timers are in the future");
            }
        }
        self.now = end;
    }

    pub(super) fn id(&self, index: usize) -> DeviceId {
        self.nodes[index].key.id()
    }

    pub(super) fn member(&mut self, index: usize) -> MemberId {
        self.squad(index).member().expect("a member's node")
    }

    /// A random number below `limit`.
    pub(super) fn below(&self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_be_bytes(bytes) % limit
    }

    pub(super) fn is_up(&self, index: usize) -> bool {
        self.nodes[index].squad.is_some()
    }

    pub(super) fn squad(&mut self, index: usize) -> &mut Squad {
        self.nodes[index].squad.as_mut().unwrap()
    }

    /// Asserts that each running node has the keys of all others, and that all rosters are true.
    pub(super) fn assert_all_hear_each_other(&self) {
        let up: BTreeSet<_> = self
            .nodes
            .iter()
            .filter(|node| node.squad.is_some())
            .map(|node| node.key.id())
            .collect();
        for node in self.nodes.iter().filter(|node| node.squad.is_some()) {
            let others: Vec<_> = up.iter().copied().filter(|id| *id != node.key.id()).collect();
            assert_eq!(node.roster, others, "the roster is who is there");
            assert_eq!(node.listeners, others, "voice goes to who is there");
            assert!(node.unreachable.is_empty());
            let own = node.own.as_ref().expect("everybody has a key");
            for other in self.nodes.iter().filter(|other| up.contains(&other.key.id())) {
                if other.key.id() != node.key.id() {
                    assert_eq!(other.opens.get(&node.key.id()), Some(own), "all have all keys");
                }
                let known = other.squad.as_ref().unwrap().directory().record(node.key.id());
                let own = node.squad.as_ref().unwrap().directory().record(node.key.id());
                assert_eq!(known, own, "records converge");
            }
        }
    }

    fn stop(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if let Some(squad) = node.squad.take() {
            node.disk_directory = squad.directory().snapshot();
        }
        node.own = None;
        node.roster.clear();
        node.listeners.clear();
        node.opens.clear();
        node.unreachable.clear();
    }

    /// Ends the links of a node on its own side.
    fn cut(&mut self, index: usize) -> Vec<(u64, usize)> {
        let pairs: Vec<_> =
            self.links.keys().copied().filter(|(a, b)| *a == index || *b == index).collect();
        let ends = pairs.into_iter().filter_map(|pair| {
            let link = self.links.remove(&pair)?;
            Some((link.number, if pair.0 == index { pair.1 } else { pair.0 }))
        });
        ends.collect()
    }

    fn link_timeout(&self) -> Option<Timestamp> {
        self.links.values().filter_map(|link| Some(link.blocked_since? + IDLE_TIMEOUT)).min()
    }

    fn end_idle_links(&mut self) {
        let now = self.now;
        let idle = |link: &LinkState| link.blocked_since.is_some_and(|at| at + IDLE_TIMEOUT <= now);
        let dead: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| idle(link))
            .map(|(pair, link)| (*pair, *link))
            .collect();
        for ((a, b), link) in dead {
            self.links.remove(&(a, b));
            for (at, peer) in [(a, b), (b, a)] {
                let reason = DownReason::Unreachable;
                self.after(0..500, Happening::Ended { link: link.number, at, peer, reason });
            }
        }
    }

    fn after(&mut self, milliseconds: std::ops::Range<u64>, happening: Happening) {
        let delay = milliseconds.start + self.below(milliseconds.end - milliseconds.start);
        self.happened += 1;
        self.happenings.insert((self.now + Duration::from_millis(delay), self.happened), happening);
    }

    fn index(&self, device: DeviceId) -> usize {
        self.nodes.iter().position(|node| node.key.id() == device).unwrap()
    }

    fn link(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&ordered(a, b)).map(|link| link.number)
    }

    fn passes(&self, a: usize, b: usize) -> bool {
        !self.blocked.contains(&ordered(a, b)) && self.below(100) >= self.loss
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Message { link, from, to, id, bytes } => {
                if self.link(from, to) != Some(link) {
                    return;
                }
                if !self.passes(from, to) {
                    let answer = Happening::Answer { link, from: to, to: from, id, taken: false };
                    return self.after(1..80, answer);
                }
                let from_id = self.id(from);
                let result = self.squad(to).handle_message(now, from_id, &bytes);
                let waiting = Waiting::Answer { link, from, to, id };
                match result.expect("honest messages are taken") {
                    Handled::Done => self.taken(waiting, to),
                    Handled::Later(number) => {
                        let incarnation = self.nodes[to].incarnation;
                        self.waiting.insert((to, incarnation, number), waiting);
                    }
                }
            }
            Happening::Answer { link, from, to, id, taken } => {
                if self.link(from, to) == Some(link) {
                    let device = self.id(from);
                    if taken {
                        self.squad(to).handle_delivered(now, device, id);
                    } else {
                        self.squad(to).handle_failed(now, device, id);
                    }
                }
            }
            Happening::Datagram { link, from, to } => {
                if self.link(from, to) == Some(link) && self.passes(from, to) {
                    let device = self.id(from);
                    self.squad(to).handle_heard(now, device);
                }
            }
            Happening::Gossip { link, from, to, bytes } => {
                let current = self.links.values().any(|state| state.number == link);
                if current
                    && self.below(100) >= self.loss
                    && self.is_up(to)
                    && self.passed.insert((to, bytes.clone()))
                {
                    let from = Some(self.id(from));
                    let incarnation = self.nodes[to].incarnation;
                    match self.squad(to).handle_gossip(now, from, &bytes) {
                        Ok(Handled::Done) => self.gossip(to, &bytes),
                        Ok(Handled::Later(number)) => {
                            let waiting = Waiting::Gossip(bytes);
                            self.waiting.insert((to, incarnation, number), waiting);
                        }
                        // This happens with a node that restarts again and again.
                        Err(error) => assert_eq!(error, MessageError::OverBudget),
                    }
                }
            }
            Happening::Worked { node, incarnation, job } => {
                let done = job.run();
                if self.is_up(node) && self.nodes[node].incarnation == incarnation {
                    self.squad(node).handle_job(now, done);
                }
            }
            Happening::Dialled { from, incarnation, dial } => {
                self.dialled(from, incarnation, &dial);
            }
            Happening::Ended { link, at, peer, reason } => {
                // Unless a newer link has replaced it.
                let replaced = self.link(at, peer).is_some_and(|number| number > link);
                if self.is_up(at) && !replaced {
                    let device = self.id(peer);
                    self.squad(at).handle_link_down(now, device, reason);
                }
            }
            Happening::Persisted { node, incarnation, persist } => {
                let node = &mut self.nodes[node];
                // A write that the crash overtook may still have happened.
                match &persist {
                    Persist::Generation(target, generation) => {
                        let newest = node.disk_generations.entry(*target).or_default();
                        *newest = (*newest).max(*generation);
                    }
                    Persist::Charter(_, charter) => node.disk_charter = Arc::clone(charter),
                }
                if let Some(squad) = &mut node.squad
                    && node.incarnation == incarnation
                {
                    match persist {
                        Persist::Generation(target, generation) => {
                            squad.handle_persisted(now, target, generation);
                        }
                        Persist::Charter(number, _) => squad.handle_charter_persisted(now, number),
                    }
                }
            }
        }
    }

    /// `node` has accepted something.
    fn taken(&mut self, waiting: Waiting, node: usize) {
        match waiting {
            Waiting::Gossip(bytes) => self.gossip(node, &bytes),
            Waiting::Answer { link, from, to, id } => {
                // The answer can be lost, too.
                let taken = self.passes(from, to);
                self.after(1..80, Happening::Answer { link, from: to, to: from, id, taken });
            }
        }
    }

    fn dialled(&mut self, from: usize, incarnation: u64, dial: &Dial) {
        let now = self.now;
        if !self.is_up(from) || self.nodes[from].incarnation != incarnation {
            return;
        }
        let found = dial.addresses.iter().find_map(|address| {
            let to = usize::from(address.port() - FIRST_PORT);
            let expected = dial.device.is_none_or(|device| device == self.id(to));
            let open = self.is_up(to) && to != from && !self.blocked.contains(&ordered(from, to));
            (expected && open).then_some((to, *address))
        });
        let Some((to, address)) = found.filter(|_| self.below(100) >= self.loss) else {
            self.squad(from).handle_dial_failed(now, dial);
            return;
        };
        self.happened += 1;
        let link = LinkState { number: self.happened, blocked_since: None };
        self.links.insert(ordered(from, to), link);
        for (at, peer, address) in [(from, to, Some(address)), (to, from, None)] {
            self.expect_later_keys(at, peer);
            let hello = self.hello(peer);
            self.squad(at).handle_link_up(now, hello, address);
        }
    }

    pub(super) fn hello(&mut self, index: usize) -> PeerHello {
        let device = self.id(index);
        let squad = self.squad(index);
        let charter = squad.charter();
        PeerHello {
            device,
            member: Some(charter.member_of(device)),
            chain: charter.chain_of(charter.member_of(device)),
            added: Vec::new(),
            name: squad.presence().name.clone(),
            incarnation: squad.presence().incarnation,
            addresses: squad.presence().addresses.clone(),
            digest: charter.digest(),
            listening: squad.presence().listening.clone(),
        }
    }

    /// [PROTO-6.5] Keys that `at` has in use must never be given to `peer`, unless it already holds
    /// them.
    fn expect_later_keys(&mut self, at: usize, peer: usize) {
        let (owner, newcomer) = (self.id(at), self.id(peer));
        if self.nodes[at].roster.contains(&newcomer) {
            return;
        }
        if let Some(own) = &self.nodes[at].own {
            let ever = self.nodes[peer].ever.get(&owner);
            let number = (own.generation, own.step);
            assert!(!ever.is_some_and(|ever| ever.contains(&number)), "not on the roster, no key");
            self.nodes[peer].forbidden.entry(owner).or_default().insert(number);
        }
    }

    /// Carries all outputs.
    fn pump(&mut self) {
        for index in 0..self.nodes.len() {
            while self.pump_one(index) {}
        }
        self.assert_rosters_are_true();
    }

    fn pump_one(&mut self, index: usize) -> bool {
        let now = self.now;
        let incarnation = self.nodes[index].incarnation;
        let Some(squad) = &mut self.nodes[index].squad else { return false };
        if let Some(transmit) = squad.poll_transmit() {
            self.transmit(index, transmit);
        } else if let Some(dial) = squad.poll_dial(now) {
            self.after(5..200, Happening::Dialled { from: index, incarnation, dial });
        } else if let Some(persist) = squad.poll_persist() {
            self.after(1..30, Happening::Persisted { node: index, incarnation, persist });
        } else if let Some(job) = squad.poll_job(now) {
            let job = Box::new(job);
            self.after(1..30, Happening::Worked { node: index, incarnation, job });
        } else if let Some((number, result)) = squad.poll_verdict() {
            let Some(waiting) = self.waiting.remove(&(index, incarnation, number)) else {
                return true;
            };
            match (result, waiting) {
                (Ok(()), waiting) => self.taken(waiting, index),
                // More from an author than is taken from gossip in a day.
                (Err(MessageError::OverBudget), Waiting::Gossip(_)) => {}
                // The link has ended meanwhile.
                (Err(error), _) => assert_eq!(error, MessageError::NotLinked),
            }
        } else if let Some(event) = squad.poll_event() {
            self.nodes[index].observe(event);
        } else {
            return false;
        }
        true
    }

    fn transmit(&mut self, from: usize, transmit: Transmit) {
        match transmit {
            Transmit::Message { to, id, bytes } => {
                let to = self.index(to);
                if let Some(link) = self.link(from, to) {
                    let bytes = bytes.to_vec();
                    self.after(1..150, Happening::Message { link, from, to, id, bytes });
                }
            }
            Transmit::Datagram { to, bytes } => {
                assert!(Heartbeat::parse(&bytes).is_ok());
                let to = self.index(to);
                if let Some(link) = self.link(from, to) {
                    self.after(1..80, Happening::Datagram { link, from, to });
                }
            }
            Transmit::Check { .. } => panic!("nobody here is seen from anywhere"),
            Transmit::Gossip(bytes) => {
                self.passed.insert((from, bytes.clone()));
                self.gossip(from, &bytes);
            }
        }
    }

    /// Passes gossip on to all peers.
    fn gossip(&mut self, from: usize, bytes: &[u8]) {
        for to in 0..self.nodes.len() {
            if let Some(link) = self.link(from, to) {
                let bytes = bytes.to_vec();
                self.after(1..300, Happening::Gossip { link, from, to, bytes });
            }
        }
    }

    /// Every node that can open what is sealed now is on the sealing node's roster.
    fn assert_rosters_are_true(&self) {
        for node in self.nodes.iter().filter(|node| node.squad.is_some()) {
            let Some(own) = &node.own else { continue };
            let range = (own.generation, 0)..=(own.generation, own.step);
            for other in &self.nodes {
                let ever = other.ever.get(&node.key.id());
                if ever.is_some_and(|ever| ever.range(range.clone()).next().is_some()) {
                    assert!(node.roster.contains(&other.key.id()), "a hidden listener");
                }
            }
        }
    }
}

impl Node {
    fn observe(&mut self, event: Event) {
        match event {
            Event::OwnKey { target, secret } => {
                let number = (secret.generation, secret.step);
                let on_disk = self.disk_generations.get(&target).copied().unwrap_or(0);
                assert!(secret.generation <= on_disk, "verify, persist, then act");
                assert!(self.sealed_with.last().is_none_or(|last| *last < number), "no key twice");
                self.sealed_with.insert(number);
                self.own = Some(secret);
            }
            Event::RosterChanged { generation, step, devices, .. } => {
                let own = self.own.as_ref().unwrap();
                assert_eq!((own.generation, own.step), (generation, step));
                self.roster = devices;
            }
            Event::TalkerKey { device, secret, .. } => {
                let number = (secret.generation, secret.step);
                let forbidden = self.forbidden.get(&device);
                assert!(!forbidden.is_some_and(|list| list.contains(&number)), "key of the past");
                self.ever.entry(device).or_default().insert(number);
                self.opens.insert(device, secret);
            }
            Event::TalkerRoster { devices, .. } => assert!(devices.contains(&self.key.id())),
            Event::TalkerGone { device } => {
                self.opens.remove(&device).expect("only talkers go");
            }
            Event::Listeners { plan, .. } => self.listeners = plan.listeners(),
            Event::PeerUnreachable { device } => {
                self.unreachable.insert(device);
            }
            Event::PeerReachable { device } | Event::PeerDown { device, .. } => {
                self.unreachable.remove(&device);
            }
            Event::TalkerHeard { .. }
            | Event::TalkerKeyGone { .. }
            | Event::Removed
            | Event::Evicted { .. }
            | Event::Moved { .. }
            | Event::TargetGone(_) => panic!("nobody was removed here"),
            Event::TalkerEpochKey { .. }
            | Event::OwnEpoch { .. }
            | Event::EpochRoster { .. }
            | Event::NoKey(_)
            | Event::Epochs { .. }
            | Event::LeaveRelay { .. } => panic!("there is no relay here"),
            Event::PeerUp { .. }
            | Event::RelayUp { .. }
            | Event::RelayDown { .. }
            | Event::Serve(_)
            | Event::Slots { .. }
            | Event::PeerRenamed { .. }
            | Event::RecordsChanged
            | Event::NetsChanged
            | Event::AvailabilityChanged { .. }
            | Event::NamesChanged
            | Event::CharterChanged => {}
            Event::AwaitCheck(_) | Event::Checked => panic!("nobody here is seen from anywhere"),
        }
    }
}

pub(super) fn address(index: usize) -> SocketAddr {
    let port = FIRST_PORT + u16::try_from(index).unwrap();
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

const FIRST_PORT: u16 = 7000;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
