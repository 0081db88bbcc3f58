//! The cost of a large organisation's charter: 10,000 members, 200 channels, and 2,000 operations
//! of 30 officers, who often work without knowing of each other.
//!
//! `cargo bench -p hark-mesh` prints sizes first, then times.

use hark_charter::{
    Charter, MemberCertificate, Operation, Piece, Verdict,
    content::{Capabilities, Change, Channel, Grant, Place, Rank, Role, Rule, Subject},
};
use hark_mesh::{
    Directory, MemberRecord,
    hello::{PeerHello, Presence},
    message::Message,
    pack::{pack, unpack},
    squad::{Persist, Squad, SquadConfig},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use divan::Bencher;
use hark_keys::{
    ChannelId, Cosigned, DeviceId, DeviceKey, List, MemberId, ObjectHash, RoleId, SeededRandom,
    Signed, Timestamp, UnixTime,
};

const MEMBERS: usize = 10_000;
const CHANNELS: usize = 200;
const OPERATIONS: usize = 2_000;
const OFFICERS: usize = 30;

fn main() {
    let organisation = organisation();
    let size = |pieces: &dyn Fn(&&Piece) -> bool| -> (usize, usize) {
        let bytes = organisation.pieces.iter().filter(pieces).map(|piece| piece.encode().len());
        (bytes.clone().count(), bytes.sum())
    };
    let (pieces, all) = size(&|_| true);
    let (certificates, of_certificates) = size(&|it| matches!(it, Piece::Certificate(_)));
    let (operations, of_operations) = size(&|it| matches!(it, Piece::Operation(_)));
    println!(
        "{pieces} pieces of {all} bytes: {certificates} certificates of {of_certificates}, \
         {operations} operations of {of_operations}"
    );
    let messages = &organisation.messages;
    println!(
        "cold sync: {} bytes in {} messages, 3 MB at most",
        messages.iter().map(|message| message.encode().len()).sum::<usize>(),
        messages.len()
    );
    let void = organisation.charter.log().filter(|(_, it)| matches!(it, Verdict::Void(_))).count();
    let apart = organisation.charter.log().filter(|(it, _)| it.unverified().parents.len() > 1);
    println!(
        "{} operations stand, {} join several, {} members",
        operations - void,
        apart.count(),
        organisation.charter.members().count()
    );
    let snapshot = organisation.charter.snapshot();
    println!("snapshot: {} bytes", snapshot.len());
    let before = resident();
    let copies: Vec<_> = (0..4).map(|_| Charter::restore(&snapshot)).collect();
    println!("memory of a charter: {} KiB", (resident() - before) / 4);
    drop(copies);
    merges();
    burdens();
    divan::main();
}

/// KiB of memory that this process holds.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

struct Organisation {
    charter: Charter,
    pieces: Vec<Piece>,
    /// The messages for a newcomer that has only the root documents.
    messages: Vec<Message>,
    founder: (DeviceKey, MemberId),
    officers: Vec<(DeviceKey, MemberId)>,
    /// An operation that comes last in order, one in the middle, and one before nearly all others.
    renames: [Piece; 3],
    /// Like `renames`, but each operation removes a member who has issued no operations. Each comes
    /// with the cut that a removal needs.
    removals: [Piece; 3],
    members: Vec<MemberId>,
}

fn organisation() -> &'static Organisation {
    static ORGANISATION: OnceLock<Organisation> = OnceLock::new();
    ORGANISATION.get_or_init(build)
}

fn build() -> Organisation {
    let random = SeededRandom::new(1);
    let founder = DeviceKey::generate(&random);
    let mut charter = Charter::found("Large", "Lobby", &founder, None, &random);
    let own = charter.member_of(founder.id());
    let mut members = Vec::new();
    let mut certificates = Vec::new();
    let mut officers = Vec::new();
    for number in 0..OFFICERS {
        let key = DeviceKey::generate(&random);
        certificates
            .push(charter.issue(&founder, own, key.id(), None).expect("the founder admits"));
        members.push(charter.member_of(key.id()));
        officers.push((key, members[number]));
    }
    charter.take_all(certificates.drain(..).map(Piece::Certificate));
    let ranks = [5, 10, 10, 10, 20, 20];
    let roles = (0..6_u8).map(|number| Role {
        id: RoleId::from_bytes([number + 1; 16]),
        name: format!("role {number}"),
        rank: Rank(ranks[usize::from(number)]),
        capabilities: Capabilities::ALL,
    });
    let mut changes: Vec<_> = roles.map(Change::Role).collect();
    changes.extend((0..20).map(|number| Change::Role(plain(number))));
    take(&mut charter, &founder, own, changes);
    for (number, (_, member)) in officers.iter().enumerate() {
        let role = RoleId::from_bytes([(number % 6) as u8 + 1; 16]);
        let grant = Grant { role, at: Place::Organisation, members: List::truncated([*member]) };
        take(&mut charter, &founder, own, vec![Change::Grant(grant)]);
    }
    // Each officer but the last admits its share, and lists it bit by bit: a device keeps only so
    // many certificates that nobody has listed.
    let mut unlisted = vec![Vec::new(); OFFICERS];
    for number in OFFICERS..MEMBERS {
        let officer = number % (OFFICERS - 1);
        let (key, member) = &officers[officer];
        let issuer = charter.certificate_of(*member).expect("it belongs");
        let device = DeviceKey::generate(&random);
        let certificate = MemberCertificate {
            organisation: charter.organisation(),
            device: device.id(),
            recovery: None,
            admission: 0,
            issuer: key.id(),
            issuer_certificate: ObjectHash::from_bytes(issuer.hash()),
        };
        members.push(certificate.member());
        unlisted[officer].push(Signed::sign(certificate, key));
    }
    let mut dice = 7_u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let mut channels = 0;
    let mut pending: Vec<Cosigned<Operation>> = Vec::new();
    while charter.operations() + pending.len() < OPERATIONS {
        // The last officer has been away all the time.
        let officer = roll(OFFICERS - 1);
        let (key, member) = &officers[officer];
        // Officers that are away at the same time do not know of each other's operations.
        if pending.iter().any(|it| it.unverified().author == key.id()) || pending.len() > roll(5) {
            charter.take_all(pending.drain(..).map(Piece::Operation));
        }
        let left = unlisted[officer].len().saturating_sub(60);
        let listed = unlisted[officer].split_off(left);
        let whom = members[roll(MEMBERS)];
        let at = if channels == 0 {
            Place::Organisation
        } else {
            Place::Channel(channel_id(roll(channels)))
        };
        let role = RoleId::from_bytes([100 + roll(20) as u8; 16]);
        let grant = |at| Grant { role, at, members: List::truncated([whom]) };
        let change = match roll(10) {
            _ if !listed.is_empty() => {
                let hashes = listed.iter().map(|it| ObjectHash::from_bytes(it.hash()));
                let hashes = List::truncated(hashes);
                charter.take_all(listed.into_iter().map(Piece::Certificate));
                Change::Admitted(hashes)
            }
            _ if channels < CHANNELS => {
                channels += 1;
                let parent = if channels % 10 == 1 {
                    Place::Organisation
                } else {
                    Place::Channel(channel_id(channels - 1 - (channels - 1) % 10))
                };
                let channel =
                    Channel::open(channel_id(channels - 1), &format!("channel {channels}"));
                // Channels below another are created when that one is known.
                charter.take_all(pending.drain(..).map(Piece::Operation));
                Change::Channel(Channel { parent, ..channel })
            }
            0..=3 => Change::Grant(grant(Place::Organisation)),
            4 => Change::Ungrant(grant(Place::Organisation)),
            5 | 6 => Change::Grant(grant(at)),
            7 => Change::Rule(Rule {
                at,
                subject: Subject::Role(role),
                allow: Capabilities::SPEAK,
                deny: Capabilities::NONE,
            }),
            8 => Change::Rule(Rule {
                at,
                subject: Subject::Member(whom),
                allow: Capabilities::NONE,
                deny: Capabilities::SPEAK,
            }),
            _ => Change::Remove { member: whom, admission: charter.state().removals(whom) + 1 },
        };
        let Ok(draft) = charter.draft(key.id(), *member, Vec::new(), vec![change]) else {
            continue;
        };
        pending.push(Cosigned::unsigned(draft).signed(key));
    }
    charter.take_all(pending.into_iter().map(Piece::Operation));
    assert!(charter.certificates() > MEMBERS * 9 / 10, "{} are listed", charter.certificates());
    // The last officer has been away all the time.
    let apart = &officers[OFFICERS - 1];
    let whom = members[MEMBERS - 1];
    let removal = Change::Remove { member: whom, admission: charter.state().removals(whom) + 1 };
    let made = |change: &Change| {
        [None, Some(OPERATIONS / 2), Some(OFFICERS + 2)]
            .map(|after| late(&charter, apart, after, change.clone()))
    };
    let (renames, removals) = (made(&rename(&charter)), made(&removal));
    let pieces: Vec<_> = charter.pieces_in_order().collect();
    let newcomer = Charter::of_roots(charter.roots().cloned()).expect("sound");
    let messages = pack(charter.lacking(&newcomer.have()));
    let founder = (founder, own);
    Organisation { charter, pieces, messages, founder, officers, renames, removals, members }
}

/// An operation of an officer that knew nothing after this place of the log.
fn late(
    charter: &Charter,
    (key, member): &(DeviceKey, MemberId),
    after: Option<usize>,
    change: Change,
) -> Piece {
    let draft = charter.draft(key.id(), *member, Vec::new(), vec![change]);
    let mut draft = draft.expect("it belongs");
    if let Some(after) = after {
        let (known, _) = charter.log().nth(after).expect("so many");
        draft.parents = List::truncated([known.hash()]);
        draft.lamport = known.unverified().lamport + 1;
    }
    Piece::Operation(Cosigned::unsigned(draft).signed(key))
}

fn rename(charter: &Charter) -> Change {
    let channel = charter.state().channels().next().expect("the lobby").clone();
    Change::Channel(Channel { order: channel.order + 1, ..channel })
}

fn plain(number: u8) -> Role {
    Role {
        id: RoleId::from_bytes([100 + number; 16]),
        name: format!("plain {number}"),
        rank: Rank(100 + number),
        capabilities: Capabilities::SPEAK | Capabilities::LISTEN,
    }
}

fn channel_id(number: usize) -> ChannelId {
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    ChannelId::from_bytes(bytes)
}

fn take(charter: &mut Charter, key: &DeviceKey, member: MemberId, changes: Vec<Change>) {
    let draft = charter.draft(key.id(), member, Vec::new(), changes).expect("it belongs");
    let signed = Cosigned::unsigned(draft).signed(key);
    charter.take(Piece::Operation(signed)).expect("it is in order");
}

/// A newcomer takes what it is sent, message by message, with all signatures checked. 1.5 s at
/// most.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn cold_sync(bencher: Bencher<'_, '_>) {
    bencher.bench_local(sync);
}

fn sync() -> Charter {
    let Organisation { charter, messages, .. } = organisation();
    let mut newcomer = Charter::of_roots(charter.roots().cloned()).expect("sound");
    for message in messages {
        let Message::Pieces(packed) = message else { unreachable!("pieces are packed") };
        let pieces = unpack(packed).expect("they were packed just so");
        assert!(newcomer.take_all(pieces).iter().all(Result::is_ok));
    }
    assert_eq!(newcomer, *charter);
    newcomer
}

/// The processor time of taking one operation, which other work on the machine changes less than
/// the time on the clock. It is compared with that of a cold sync, since machines differ.
fn merges() {
    let Organisation { charter, renames, removals, .. } = organisation();
    let sync = processor_time(5, sync);
    println!("cold sync: {sync:?} of the processor");
    for (what, pieces) in [("one more", renames), ("one removal", removals)] {
        for (at, piece) in PLACES.iter().zip(pieces) {
            let time = processor_time(40, || {
                let mut charter = charter.clone();
                assert_eq!(charter.take_all([piece.clone()]), [Ok(true)]);
                charter
            });
            let part = time.as_secs_f64() / sync.as_secs_f64();
            println!(
                "{what} at {at}: {time:?}, {:.2} % of a cold sync; 0.91 % at most",
                part * 100.0
            );
        }
    }
}

/// The mean processor time of `work`. The system counts in steps of up to 4 ms, which is why it is
/// done so many `times`.
fn processor_time<T>(times: u32, work: impl Fn() -> T) -> Duration {
    let spent = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let spent = text.split_whitespace().next().and_then(|spent| spent.parse().ok());
        Duration::from_nanos(spent.unwrap_or(0))
    };
    let before = spent();
    // What is made is dropped later, as in the other benches.
    let made: Vec<_> = (0..times).map(|_| work()).collect();
    let spent = spent() - before;
    drop(made);
    spent / times
}

const PLACES: [&str; 3] = ["the_end", "the_middle", "the_start"];

/// Takes one operation, at the given place of the order. 5 ms at most.
#[divan::bench(args = PLACES, sample_count = 40, sample_size = 1)]
fn one_more(bencher: Bencher<'_, '_>, at: &str) {
    merge(bencher, &organisation().renames[place(at)]);
}

/// Takes one that removes a member and cuts what the member might have done. 5 ms at most.
#[divan::bench(args = PLACES, sample_count = 40, sample_size = 1)]
fn one_removal(bencher: Bencher<'_, '_>, at: &str) {
    merge(bencher, &organisation().removals[place(at)]);
}

fn place(at: &str) -> usize {
    PLACES.iter().position(|it| *it == at).expect("one of them")
}

fn merge(bencher: Bencher<'_, '_>, piece: &Piece) {
    bencher.with_inputs(|| (organisation().charter.clone(), piece.clone())).bench_local_values(
        |(mut charter, piece)| {
            assert_eq!(charter.take_all([piece]), [Ok(true)]);
            charter
        },
    );
}

/// What the founder's device does to create an operation.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn edit(bencher: Bencher<'_, '_>) {
    let organisation = organisation();
    let (key, member) = &organisation.founder;
    bencher.bench_local(|| {
        organisation.charter.edit(key, *member, vec![rename(&organisation.charter)])
    });
}

/// Looks up one right of one member at a channel. 5 µs at most.
#[divan::bench]
fn decide(bencher: Bencher<'_, '_>) {
    let organisation = organisation();
    let at = Place::Channel(channel_id(57));
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % organisation.members.len();
        organisation.charter.state().decide(organisation.members[turn], Capabilities::SPEAK, at)
    });
}

/// Looks up whether somebody is a member. At times this is done for everybody.
#[divan::bench]
fn is_member(bencher: Bencher<'_, '_>) {
    let organisation = organisation();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % organisation.members.len();
        organisation.charter.is_member(organisation.members[turn])
    });
}

/// A member of the organisation, linked with another one, that measures its work on messages.
struct Burdened {
    squad: Squad,
    peer: DeviceId,
    now: Timestamp,
}

impl Burdened {
    fn new() -> Self {
        let Organisation { charter, founder: (key, member), officers, .. } = organisation();
        let random = Arc::new(SeededRandom::new(2));
        let (_, peer_member) = &officers[0];
        let peer = officers[0].0.id();
        let mut directory = Directory::default();
        for (key, member) in officers {
            let record = MemberRecord {
                device: key.id(),
                name: "Kestrel".to_owned(),
                addresses: List::default(),
                chain: charter.chain_of(*member),
                sequence_number: 1,
            };
            let _ =
                directory.insert(Timestamp::ZERO, charter, Signed::sign(record, key), |_| false);
        }
        let presence = Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: Vec::new(),
            listening: Vec::new(),
        };
        let config = SquadConfig {
            relay_only: false,
            charter: Arc::new(charter.clone()),
            key: Arc::new(DeviceKey::from_secret(&key.secret())),
            member: Some(*member),
            presence,
            directory,
            generations: BTreeMap::new(),
            names: BTreeMap::new(),
            calendar: UnixTime::from_secs(1_800_000_000),
        };
        let mut squad = Squad::new(Timestamp::ZERO, config, random);
        let hello = PeerHello {
            device: peer,
            member: Some(*peer_member),
            chain: charter.chain_of(*peer_member),
            added: Vec::new(),
            name: "Kite".to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: charter.digest(),
            listening: Vec::new(),
        };
        squad.handle_link_up(Timestamp::ZERO, hello, None);
        let mut it = Self { squad, peer, now: Timestamp::ZERO };
        it.rest();
        it
    }

    /// Does everything except jobs. Returns how long the longest step took.
    fn rest(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        loop {
            let squad = &mut self.squad;
            while squad.poll_event().is_some() || squad.poll_transmit().is_some() {}
            while squad.poll_verdict().is_some() {}
            let Some(persist) = squad.poll_persist() else { return longest };
            let began = Instant::now();
            match persist {
                Persist::Generation(target, number) => {
                    squad.handle_persisted(self.now, target, number);
                }
                Persist::Charter(number, _) => squad.handle_charter_persisted(self.now, number),
            }
            longest = longest.max(began.elapsed());
        }
    }

    /// The longest time for which a message and its consequences keep the thread busy without a
    /// break, and the total time for which they keep a worker busy.
    fn burden(&mut self, message: &Message) -> (Duration, Duration) {
        let bytes = message.encode();
        self.now = self.now + Duration::from_secs(60);
        let began = Instant::now();
        let result = self.squad.handle_message(self.now, self.peer, &bytes);
        let mut thread = began.elapsed();
        assert!(result.is_ok(), "{result:?}");
        let mut worker = Duration::ZERO;
        loop {
            let began = Instant::now();
            let Some(job) = self.squad.poll_job(self.now) else { break };
            thread = thread.max(began.elapsed());
            let began = Instant::now();
            let done = job.run();
            worker += began.elapsed();
            let began = Instant::now();
            self.squad.handle_job(self.now, done);
            thread = thread.max(began.elapsed());
        }
        (thread.max(self.rest()), worker)
    }
}

/// The cost of the most expensive messages, each the worst of five runs.
fn burdens() {
    let Organisation { renames, removals, messages, officers, charter, .. } = organisation();
    let piece = |piece: &Piece| pack([piece.clone()]).remove(0);
    let records = officers.iter().map(|(key, member)| {
        let record = MemberRecord {
            device: key.id(),
            name: "Kestrel".to_owned(),
            addresses: List::default(),
            chain: charter.chain_of(*member),
            sequence_number: 2,
        };
        Signed::sign(record, key)
    });
    let newcomer = Charter::of_roots(charter.roots().cloned()).expect("sound");
    let dear = [
        ("an operation before nearly all", piece(&renames[2])),
        ("a removal before nearly all", piece(&removals[2])),
        ("thirty records", Message::Records(List::truncated(records))),
        ("what a newcomer has", Message::Have(newcomer.have())),
        ("what one has who has all", Message::Have(charter.have())),
        ("44 KiB of certificates that are known", messages[9].clone()),
        ("another digest", Message::Digest(ObjectHash::from_bytes([1; 32]))),
    ];
    for (what, message) in dear {
        let mut worst = (Duration::ZERO, Duration::ZERO);
        for _ in 0..5 {
            let (thread, worker) = Burdened::new().burden(&message);
            worst = (worst.0.max(thread), worst.1.max(worker));
        }
        println!(
            "{what}: the thread {:?} at a stretch, 5 ms at most; a worker {:?}",
            worst.0, worst.1
        );
    }
}
