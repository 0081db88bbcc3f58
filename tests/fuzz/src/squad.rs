mod checks;

use hark_charter::{Charter, NameKey, Piece, clean_name};
use hark_mesh::{
    Availability, AvailabilityMessage, Dial, List, Target, Way,
    hello::PeerHello,
    message::{Candidates, Check, CheckNonce, KeyMessage, Listening, Message, Move},
    pack::pack,
    squad::{DownReason, PathSeen, Persist, Squad, SquadConfig},
    target::Hearing,
    testing::{self, Output},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hark_keys::{
    ChannelId, DeviceId, KeySecret, MemberId, SeededRandom, Signed, TargetId, Timestamp,
};

use crate::{
    charter::change,
    input::{Input, piece},
    message::record,
    world::{GHOST, Member, OFFICER, PILOT, WORLD},
};

/// One member's view of an organisation whose other members do and send anything, in any order,
/// while its own disk is slow.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut run = Run::new();
    run.settle();
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = input.next() else { break };
        run.step(operation, &mut input);
        run.settle();
        if run.removed {
            break;
        }
    }
    !run.own_keys.is_empty()
}

struct Run {
    squad: Squad,
    now: Timestamp,
    random: SeededRandom,
    linked: BTreeMap<DeviceId, MemberId>,
    /// What the disk was asked to write, and the charter that it has written.
    asked: Vec<Persist>,
    in_force: Arc<Charter>,
    generations: BTreeMap<TargetId, u16>,
    /// The charter of the other members.
    theirs: Charter,
    /// Generation and step of our newest keys, and below of each talker's keys, with their targets.
    own_keys: BTreeMap<TargetId, (u16, u8)>,
    /// The targets that can be talked to at present.
    keyed: BTreeSet<TargetId>,
    talker_keys: BTreeMap<(DeviceId, TargetId), (u16, u8, Hearing)>,
    talker_targets: BTreeMap<(DeviceId, TargetId), Target>,
    /// The devices that were given a key of a generation while they were allowed to hear.
    holders: BTreeMap<(TargetId, u16), BTreeSet<DeviceId>>,
    last_id: u64,
    /// The addresses where peers are or were seen.
    hosts: BTreeSet<IpAddr>,
    /// The check that a listening socket waits for.
    awaited: Option<CheckNonce>,
    /// Whether this device no longer belongs to the organisation. The driver then ends.
    removed: bool,
}

impl Run {
    fn new() -> Self {
        let own = &WORLD.bob;
        let generations = BTreeMap::from([(TargetId::of_channel(WORLD.voice), 5)]);
        let config = SquadConfig {
            presence: own.presence.clone(),
            generations: generations.clone(),
            ..testing::config(&WORLD.charter, &own.key, Some(own.member))
        };
        Self {
            squad: Squad::new(Timestamp::ZERO, config, Arc::new(SeededRandom::new(1))),
            now: Timestamp::ZERO,
            random: SeededRandom::new(2),
            linked: BTreeMap::new(),
            asked: Vec::new(),
            in_force: Arc::clone(&WORLD.charter),
            generations,
            theirs: (*WORLD.charter).clone(),
            own_keys: BTreeMap::new(),
            keyed: BTreeSet::new(),
            talker_keys: BTreeMap::new(),
            talker_targets: BTreeMap::new(),
            holders: BTreeMap::new(),
            last_id: 0,
            hosts: BTreeSet::new(),
            awaited: None,
            removed: false,
        }
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        let now = self.now;
        let peer = WORLD.member(input.byte());
        let device = peer.key.id();
        match operation % OPERATIONS {
            LINK_UP => {
                let (incarnation, heard) = (input.byte(), input.byte());
                // Its Hello may have been accepted before it was removed.
                self.squad.handle_link_up(now, self.hello(peer, incarnation, heard), None);
                if self.squad.member_of(device).is_some() {
                    self.linked.insert(device, peer.member);
                }
            }
            LINK_DOWN => {
                let left = input.byte().is_multiple_of(2);
                let reason = if left { DownReason::Left } else { DownReason::Unreachable };
                self.linked.remove(&device);
                self.squad.handle_link_down(now, device, reason);
            }
            HEARD => self.squad.handle_heard(now, device),
            MESSAGE => self.message(device, input.piece()),
            GOSSIP => {
                let _result = self.squad.handle_gossip(now, Some(device), input.piece());
            }
            KEY => self.key(peer, input),
            RECORD => {
                let mut record = record(peer, u64::from(input.byte()));
                record.name = String::from_utf8_lossy(input.piece()).into_owned();
                let record = Signed::sign(record, &peer.key);
                let bytes = Message::Records(List::truncated([record])).encode();
                let _result = self.squad.handle_gossip(now, None, &bytes);
            }
            ANSWER => {
                let id = self.last_id.saturating_sub(u64::from(input.byte()));
                self.squad.handle_delivered(now, device, id);
            }
            FAIL => {
                let id = self.last_id.saturating_sub(u64::from(input.byte()));
                self.squad.handle_failed(now, device, id);
            }
            DISK => self.disk(input.byte()),
            TALK => {
                let keyed = self.own_keys.keys().copied().nth(usize::from(input.byte() % 4));
                let target = keyed.unwrap_or(TargetId::of_channel(WORLD.voice));
                self.squad.handle_talked(now, target);
            }
            DISCOVER => {
                let addresses = &peer.presence.addresses;
                let device = (input.byte().is_multiple_of(2)).then_some(device);
                self.squad.handle_discovered(now, device, addresses);
                let addresses = addresses[..1].to_vec();
                self.squad.handle_dial_failed(now, &Dial { device, addresses, way: Way::Direct });
            }
            RENAME => {
                self.squad.set_name(now, &String::from_utf8_lossy(input.piece()));
                assert_eq!(clean_name(&self.squad.presence().name), self.squad.presence().name);
            }
            LISTENING => {
                let number = u64::from(input.byte());
                let channels = List::truncated(channels(input.byte()));
                let message = Message::Listening(Listening { number, channels });
                self.message(device, &message.encode());
            }
            NAMES => {
                let other = NameKey::generate(&self.random);
                let name = if input.byte() == 0 { WORLD.name_key.clone() } else { other };
                let names = List::truncated([(WORLD.channel(input.byte()), name)]);
                self.message(device, &Message::Names(names).encode());
            }
            COMPARE => {
                let message = match input.byte() % 3 {
                    0 => Message::Digest(self.theirs.digest()),
                    1 => Message::Have(self.theirs.have()),
                    _ => Message::Have(WORLD.charter.have()),
                };
                self.message(device, &message.encode());
            }
            PIECES => {
                for message in pack(self.theirs.lacking(&self.squad.charter_taken().have())) {
                    self.message(device, &message.encode());
                }
            }
            CHANGE => self.change(peer, input),
            EDIT => {
                let taken = self.squad.charter_taken();
                let change = change(input.byte(), input.byte(), taken, WORLD.bob.member);
                let _result = self.squad.edit(now, vec![change]);
            }
            LISTEN_TO => self.squad.set_listening(now, channels(input.byte())),
            TALK_TO => {
                let count = input.byte() % 4;
                let targets = (0..count).map(|_| target(input)).collect();
                self.squad.set_targets(now, targets);
            }
            KEEP_NAME => self.squad.keep_name(now, GHOST, WORLD.name_key.clone()),
            MOVE => {
                let from = input.byte().is_multiple_of(2).then(|| WORLD.channel(input.byte()));
                let to = WORLD.channel(input.byte());
                let _result = self.squad.move_member(now, peer.member, from, to);
            }
            MOVED => {
                let from = input.byte().is_multiple_of(2).then(|| WORLD.channel(input.byte()));
                let to = WORLD.channel(input.byte());
                self.message(device, &Message::Move(Move { from, to }).encode());
            }
            AVAILABILITY => {
                let (number, bits) = (u64::from(input.byte()), input.byte());
                let bit = |bit: u8| bits & 1 << bit != 0;
                let availability = Availability { muted: bit(0), deafened: bit(1), away: bit(2) };
                if bit(3) {
                    let said = AvailabilityMessage { device, number, availability };
                    let said = Signed::sign(said, &peer.key);
                    self.message(device, &Message::Availability(said).encode());
                } else {
                    self.squad.set_availability(now, availability);
                }
            }
            BRING => {
                let pieces = self.theirs.lacking(&self.squad.charter_taken().have());
                let _result = self.squad.bring(now, pieces);
            }
            PATH => {
                let address = SocketAddr::from(([203, 0, 113, input.byte()], 7));
                let addresses = List::truncated([address]);
                let how = input.byte() % 6;
                if how < 2 {
                    self.hosts.insert(address.ip());
                }
                match how {
                    0 => self.squad.handle_path(now, device, PathSeen::Direct(address)),
                    1 => self.squad.handle_path(now, device, PathSeen::Punched(address)),
                    2 => self.squad.handle_path(now, device, PathSeen::Relayed),
                    3 => self.message(device, &Message::Observed(address).encode()),
                    4 => {
                        let nonce = CheckNonce::generate(&self.random);
                        self.message(device, &Message::Check(Check { nonce, address }).encode());
                    }
                    _ => {
                        let answer = input.byte().is_multiple_of(2);
                        let candidates = Message::Candidates(Candidates { answer, addresses });
                        self.message(device, &candidates.encode());
                    }
                }
            }
            CHECKED => {
                let guess = CheckNonce::generate(&self.random);
                self.squad.handle_checked(now, self.awaited.unwrap_or(guess));
            }
            _ => self.wait(input.byte()),
        }
    }

    /// Handles a message that `device` sends on its link.
    fn message(&mut self, device: DeviceId, bytes: &[u8]) {
        if let Ok(Message::Key(message)) = Message::decode(bytes) {
            let target = message.unverified().target.clone();
            self.talker_targets.insert((device, target.id()), target);
        }
        let result = self.squad.handle_message(self.now, device, bytes);
        assert!(result.is_err() || self.linked.contains_key(&device));
    }

    /// Sends a key message, which only the key's sender can make.
    fn key(&mut self, peer: &Member, input: &mut Input<'_>) {
        let mut secret = KeySecret::generate(u16::from(input.byte()), &self.random);
        secret.step = input.byte();
        let chosen = input.byte();
        let target = target(input);
        let mut recipients: Vec<_> = (0..4)
            .filter(|number| chosen & 1 << number != 0)
            .map(|number| WORLD.member(number).key.id())
            .collect();
        recipients.sort();
        let sender = peer.key.id();
        let recipients = List::truncated(recipients);
        let message = KeyMessage { target, sender, secret, recipients };
        let bytes = Message::Key(Signed::sign(message, &peer.key)).encode();
        let gossiped = self.squad.handle_gossip(self.now, None, &bytes);
        assert!(gossiped.is_err(), "keys do not gossip");
        self.message(sender, &bytes);
    }

    /// `peer` changes the charter, and tells nobody, everybody, or only us.
    fn change(&mut self, peer: &Member, input: &mut Input<'_>) {
        let how = input.byte();
        let count = 1 + how / 64;
        let changes = (0..count)
            .map(|_| change(input.byte(), input.byte(), &self.theirs, peer.member))
            .collect();
        let Ok(operation) = self.theirs.edit(&peer.key, peer.member, changes) else { return };
        let piece = Piece::Operation(operation);
        assert_eq!(self.theirs.take(piece.clone()), Ok(true));
        for message in pack([piece]) {
            match how % 3 {
                0 => {}
                1 => {
                    let from = Some(peer.key.id());
                    let _result = self.squad.handle_gossip(self.now, from, &message.encode());
                }
                _ => self.message(peer.key.id(), &message.encode()),
            }
        }
    }

    /// The disk has finished something that it was asked to write.
    fn disk(&mut self, which: u8) {
        let Some(which) = usize::from(which).checked_rem(self.asked.len()) else { return };
        let persist = self.asked.remove(which);
        match &persist {
            Persist::Generation(target, generation) => {
                let newest = self.generations.entry(*target).or_default();
                *newest = (*newest).max(*generation);
            }
            Persist::Charter(_, charter) => self.in_force = Arc::clone(charter),
        }
        testing::persisted(self.now, &mut self.squad, &persist);
    }

    fn wait(&mut self, steps: u8) {
        self.now = self.now + Duration::from_millis(100) * u32::from(steps);
        self.squad.handle_timeout(self.now);
        self.settle();
        let next = self.squad.poll_timeout();
        assert!(next.is_none_or(|at| at > self.now), "time that has come is dealt with");
    }

    /// Takes everything that the squad wants done, and checks each item.
    fn settle(&mut self) {
        // No charter takes effect before it is on disk. [CHARTER-8.1]
        assert!(Arc::ptr_eq(self.squad.charter(), &self.in_force), "nothing before it is kept");
        let mut dials = 0;
        loop {
            match testing::poll(self.now, &mut self.squad) {
                Some(Output::Event(event)) => self.check_event(event),
                Some(Output::Transmit(transmit)) => self.check_transmit(&transmit),
                Some(Output::Persist(persist)) => {
                    self.check_persist(&persist);
                    self.asked.push(persist);
                    assert!(self.asked.len() < 100, "what was asked for is not asked for again");
                }
                Some(Output::Job(job)) => self.squad.handle_job(self.now, job.run()),
                Some(Output::Verdict(..)) => {}
                None if self.squad.poll_dial(self.now).is_none() => break,
                None => {
                    dials += 1;
                    assert!(dials < 100, "a dial that was given is under way");
                }
            }
        }
        self.check_all();
    }

    /// The content of an accepted Hello of `peer`.
    fn hello(&self, peer: &Member, incarnation: u8, heard: u8) -> PeerHello {
        PeerHello {
            device: peer.key.id(),
            member: Some(peer.member),
            chain: peer.chain.clone(),
            added: Vec::new(),
            name: peer.presence.name.clone(),
            incarnation: u64::from(incarnation),
            addresses: peer.presence.addresses.clone(),
            digest: self.theirs.digest(),
            listening: channels(heard).collect(),
        }
    }
}

/// The channels whose bits are set.
fn channels(chosen: u8) -> impl Iterator<Item = ChannelId> {
    let mut channels: Vec<_> = (0..6)
        .filter(|number| chosen & 1 << number != 0)
        .map(|number| WORLD.channel(number))
        .collect();
    channels.sort();
    channels.into_iter()
}

/// The target that two bytes choose: channels, and people, roles and priority.
fn target(input: &mut Input<'_>) -> Target {
    let (chosen, others) = (input.byte(), input.byte());
    let members = (0..4).filter(|number| others & 1 << number != 0);
    let members = members.map(|number| WORLD.member(number).member);
    let roles = [(4, OFFICER), (5, PILOT)].into_iter();
    let roles = roles.filter(|(bit, _)| others & 1 << bit != 0).map(|(_, role)| role);
    let mut target = Target::new(channels(chosen), members, roles);
    target.priority = others & 0x80 != 0;
    target
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let [founder, cid, dora] = [0, 1, 3];
    let up = |peer| [LINK_UP, peer, 1, 0xff];
    let wait = |steps| [WAIT, 0, steps];
    let disk = [DISK, 0, 0];
    let name = piece("Ann\u{202e}".as_bytes());
    let name = [&[RENAME, 0][..], &name].concat();
    let record = [&[RECORD, cid, 9][..], &piece(b"Cid")].concat();
    let key = |generation, step| [KEY, founder, generation, step, 0xf, 0b1001, 0];
    let change = |by, how, what: [u8; 2]| [&[CHANGE, by, how][..], &what].concat();
    let answers: Vec<u8> = (0..6).flat_map(|id| [ANSWER, founder, id, ANSWER, cid, id]).collect();
    let targets = [TALK_TO, 0, 3, 0b1001, 0, 0, 0b100010, 0b1, 0x80];
    let mute = [19, 0x26];
    vec![
        ("join", [&disk[..], &disk, &up(founder), &up(cid), &answers].concat()),
        (
            "leave",
            [&disk[..], &disk, &up(founder), &up(cid), &[LINK_DOWN, cid, 0], &wait(3), &disk]
                .concat(),
        ),
        (
            "silence",
            [&disk[..], &up(founder), &wait(40), &[HEARD, 0], &wait(255), &wait(60), &[HEARD, 0]]
                .concat(),
        ),
        (
            "talk",
            [&disk[..], &up(founder), &[TALK, 0, 0], &wait(255), &wait(255), &wait(255)].concat(),
        ),
        (
            "keys",
            [&disk[..], &up(founder), &key(9, 0), &key(9, 1), &[LISTEN_TO, 0, 0], &up(founder)]
                .concat(),
        ),
        ("records", [&disk[..], &up(cid), &record, &name, &wait(20), &wait(101)].concat()),
        (
            "dial",
            [&disk[..], &[DISCOVER, founder, 0, DISCOVER, cid, 1], &wait(20), &wait(40)].concat(),
        ),
        (
            "availability",
            [
                &disk[..],
                &up(cid),
                &[AVAILABILITY, cid, 7, 0b1010, AVAILABILITY, 0, 0, 1],
                &wait(30),
            ]
            .concat(),
        ),
        ("retry", [&disk[..], &up(founder), &[FAIL, founder, 0], &wait(4), &wait(60)].concat()),
        (
            "targets",
            [&disk[..], &up(founder), &up(dora), &targets, &disk, &disk, &disk, &[TALK_TO, 0, 0]]
                .concat(),
        ),
        (
            "listening",
            [&disk[..], &up(cid), &[LISTENING, cid, 1, 0b10, LISTENING, cid, 2, 1], &wait(9)]
                .concat(),
        ),
        (
            "names",
            [&disk[..], &up(cid), &up(dora), &[NAMES, cid, 0, 4, KEEP_NAME, 0], &wait(60)].concat(),
        ),
        (
            "compare",
            [
                &disk[..],
                &up(cid),
                &change(founder, 0, [5, 5]),
                &[COMPARE, cid, 0, COMPARE, cid, 1, COMPARE, cid, 2, PIECES, cid],
                &disk,
                &wait(60),
            ]
            .concat(),
        ),
        (
            "muted",
            [
                &disk[..],
                &up(cid),
                &up(dora),
                &key(1, 0),
                &change(founder, 1, mute),
                &disk,
                &disk,
                &wait(3),
                &disk,
            ]
            .concat(),
        ),
        (
            "two_removed",
            [
                &disk[..],
                &disk,
                &up(cid),
                &up(dora),
                &change(founder, 64, [15, cid << 2])[..],
                &[15, dora << 2],
                &disk,
                &disk,
                &wait(3),
            ]
            .concat(),
        ),
        (
            "removed_before_its_link",
            [
                &disk[..],
                &change(founder, 1, [15, cid << 2]),
                &disk,
                &disk,
                &up(cid),
                &disk,
                &wait(3),
            ]
            .concat(),
        ),
        (
            "edit",
            [
                &disk[..],
                &up(cid),
                &[EDIT, 0, 5, 5],
                &disk,
                &disk,
                &[EDIT, 0, 7, 0, LISTEN_TO, 0, 0xff],
                &disk,
                &wait(30),
                &disk,
                &wait(60),
            ]
            .concat(),
        ),
        (
            "moved",
            [
                &disk[..],
                &up(founder),
                &[MOVED, founder, 0, 0, 1, MOVED, founder, 1, 1, MOVE, founder, 1, 1],
            ]
            .concat(),
        ),
        (
            "checked",
            [
                &disk[..],
                &up(cid),
                &[PATH, cid, 7, 0, PATH, cid, 9, 3],
                &wait(70),
                &[CHECKED, 0, PATH, cid, 7, 4, PATH, cid, 8, 4],
                &wait(255),
            ]
            .concat(),
        ),
        (
            "brought",
            [&disk[..], &change(founder, 0, [15, dora << 2]), &[BRING, 0], &disk, &disk].concat(),
        ),
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
/// A peer reports what it listens to.
const LISTENING: u8 = 14;
/// A peer gives keys of hidden names.
const NAMES: u8 = 15;
/// A peer reports what it has of the charter.
const COMPARE: u8 = 16;
/// A peer sends what we lack of the charter.
const PIECES: u8 = 17;
/// A peer changes the charter.
const CHANGE: u8 = 18;
const EDIT: u8 = 19;
const LISTEN_TO: u8 = 20;
const TALK_TO: u8 = 21;
const KEEP_NAME: u8 = 22;
const BRING: u8 = 23;
/// We move a peer.
const MOVE: u8 = 24;
/// A peer moves us.
const MOVED: u8 = 25;
/// The address where a peer is seen, the address that it sees, and where it would be dialled.
const PATH: u8 = 26;
/// A packet arrives that shows that strangers reach us.
const CHECKED: u8 = 27;
/// A person is deaf, muted or away: ours, or a peer's.
const AVAILABILITY: u8 = 28;
const OPERATIONS: u8 = 29;

/// How many operations are run at most. More would make a run slow and find nothing more.
const OPERATIONS_MAX: usize = 64;
