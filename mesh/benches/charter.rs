//! What a large organisation's charter costs: 10,000 members, 200 channels, 2,000 operations of 30
//! officers, who often work without knowing of each other.
//!
//! `cargo bench -p hark-mesh` prints sizes first, then times.

use std::sync::OnceLock;

use divan::Bencher;
use hark_keys::{
    ChannelId, Cosigned, DeviceKey, List, MemberId, ObjectHash, RoleId, SeededRandom, Signed,
};
use hark_mesh::charter::{
    Charter, MemberCertificate, Operation, Piece, Verdict,
    content::{Capabilities, Change, Channel, Grant, Place, Rank, Role, Rule, Subject},
};

const MEMBERS: usize = 10_000;
const CHANNELS: usize = 200;
const OPERATIONS: usize = 2_000;
const OFFICERS: usize = 30;

fn main() {
    let organisation = organisation();
    let bytes = |piece: &Piece| piece.encode().len();
    let all: usize = organisation.pieces.iter().map(bytes).sum();
    let operations = organisation.pieces.iter().filter(|it| matches!(it, Piece::Operation(_)));
    let count = operations.clone().count();
    println!(
        "{} pieces: {all} bytes, {count} operations of {}",
        organisation.pieces.len(),
        operations.map(bytes).sum::<usize>()
    );
    let void = organisation.charter.log().filter(|(_, it)| matches!(it, Verdict::Void(_))).count();
    let apart = organisation.charter.log().filter(|(it, _)| it.unverified().parents.len() > 1);
    println!(
        "{} operations stand, {} join several, {} members",
        count - void,
        apart.count(),
        organisation.charter.members().count()
    );
    println!("snapshot: {} bytes", organisation.charter.snapshot().len());
    let before = resident();
    let copies: Vec<_> = (0..4).map(|_| organisation.charter.clone()).collect();
    println!("memory of a charter: {} KiB", (resident() - before) / 4);
    drop(copies);
    divan::main();
}

/// KiB that this process holds.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

struct Organisation {
    charter: Charter,
    pieces: Vec<Piece>,
    founder: (DeviceKey, MemberId),
    /// An operation that comes last in order, and one that comes in the middle.
    last: Piece,
    middle: Piece,
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
    // Each officer admits its share, and lists it.
    for number in OFFICERS..MEMBERS {
        let (key, _) = &officers[number % OFFICERS];
        let issuer = charter.certificate_of(officers[number % OFFICERS].1).expect("it belongs");
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
        certificates.push(Signed::sign(certificate, key));
    }
    charter.take_all(certificates.into_iter().map(Piece::Certificate));
    let mut dice = 7_u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let mut unlisted: Vec<_> =
        officers.iter().map(|(_, member)| charter.unlisted(*member)).collect();
    let mut channels = 0;
    let mut pending: Vec<Cosigned<Operation>> = Vec::new();
    while charter.operations() + pending.len() < OPERATIONS {
        // The last of them has been out all the time.
        let officer = roll(OFFICERS - 1);
        let (key, member) = &officers[officer];
        let left = unlisted[officer].len().saturating_sub(100);
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
            _ if !listed.is_empty() => Change::Admitted(List::truncated(listed)),
            _ if channels < CHANNELS => {
                channels += 1;
                let parent = if channels % 10 == 1 {
                    Place::Organisation
                } else {
                    Place::Channel(channel_id(channels - 1 - (channels - 1) % 10))
                };
                let channel =
                    Channel::open(channel_id(channels - 1), &format!("channel {channels}"));
                // Those below are made when the one above is known.
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
        // Those who are out at once do not know of each other.
        if pending.iter().any(|it| it.unverified().author == key.id()) || pending.len() > roll(5) {
            charter.take_all(pending.drain(..).map(Piece::Operation));
        }
        let Ok(draft) = charter.draft(key.id(), *member, Vec::new(), vec![change]) else {
            continue;
        };
        pending.push(Cosigned::unsigned(draft).signed(key));
    }
    charter.take_all(pending.into_iter().map(Piece::Operation));
    let last =
        charter.draft(founder.id(), own, Vec::new(), vec![rename(&charter)]).expect("it belongs");
    let last = Piece::Operation(Cosigned::unsigned(last).signed(&founder));
    let (middle, _) = charter.log().nth(OPERATIONS / 2).expect("so many");
    let (key, member) = &officers[OFFICERS - 1];
    let mut draft =
        charter.draft(key.id(), *member, Vec::new(), vec![rename(&charter)]).expect("it belongs");
    draft.parents = List::truncated([middle.hash()]);
    draft.lamport = middle.unverified().lamport + 1;
    let middle = Piece::Operation(Cosigned::unsigned(draft).signed(key));
    let pieces = charter.pieces_in_order().collect();
    Organisation { charter, pieces, founder: (founder, own), last, middle, members }
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

/// All pieces from scratch, all signatures checked. 1.5 s at most.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn everything_from_scratch(bencher: Bencher<'_, '_>) {
    let pieces = &organisation().pieces;
    let Piece::Root(founding) = &pieces[0] else { unreachable!("roots come first") };
    bencher.with_inputs(|| pieces.clone()).bench_local_values(|pieces| {
        let mut charter = Charter::of(founding.clone()).expect("sound");
        charter.take_all(pieces);
        charter
    });
}

/// One operation that is the last in order. 5 ms at most.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn one_more_at_the_end(bencher: Bencher<'_, '_>) {
    merge(bencher, &organisation().last);
}

/// One operation in the middle of the others. 5 ms at most.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn one_more_in_the_middle(bencher: Bencher<'_, '_>) {
    merge(bencher, &organisation().middle);
}

fn merge(bencher: Bencher<'_, '_>, piece: &Piece) {
    bencher.with_inputs(|| (organisation().charter.clone(), piece.clone())).bench_local_values(
        |(mut charter, piece)| {
            assert_eq!(charter.take_all([piece]), [Ok(true)]);
            charter
        },
    );
}

/// What the founder's device does to make an operation.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn edit(bencher: Bencher<'_, '_>) {
    let organisation = organisation();
    let (key, member) = &organisation.founder;
    bencher.bench_local(|| {
        organisation.charter.edit(key, *member, vec![rename(&organisation.charter)])
    });
}

/// One right of one member at a channel. 5 µs at most.
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

/// Whether somebody belongs. Asked for everybody at times.
#[divan::bench]
fn is_member(bencher: Bencher<'_, '_>) {
    let organisation = organisation();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % organisation.members.len();
        organisation.charter.is_member(organisation.members[turn])
    });
}
