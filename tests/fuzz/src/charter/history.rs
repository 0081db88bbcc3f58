use std::sync::{Arc, LazyLock};

use hark_charter::{
    Charter, Cut, MemberCertificate, Operation, Piece, RootDocument, RootKeys,
    content::{
        Capabilities, Change, Channel, ChannelMode, Grant, MEMBER_ROLE, Place, Policy, Preset,
        Rank, Relay, RevokedTicket, Role, Rule, Sanction, SanctionKind, Subject,
    },
    device_consent,
};
use hark_keys::{
    ChannelId, Cosigned, DeviceId, DeviceKey, List, MemberId, ObjectHash, PresetId, RoleId, Signed,
    UnixTime,
};

use super::check;
use crate::{
    input::Input,
    world::{OFFICER, PILOT, WORLD, key},
};

/// Members make pieces, by the rules or with any fields at all. Others take them in any order, one
/// by one or many at once. Replicas with the same pieces compute the same state.
pub(super) fn run(mut input: Input<'_>) -> bool {
    let mut run = Run {
        start: Arc::clone(&WORLD.charter),
        pieces: Vec::new(),
        replicas: [(*WORLD.charter).clone(), (*WORLD.charter).clone()],
    };
    for _ in 0..STEPS_MAX {
        let Some(step) = input.next() else { break };
        run.step(step, &mut input);
    }
    run.compare();
    !run.pieces.is_empty() || run.start.checkpoint() > 0
}

struct Run {
    /// The charter with which all replicas begin.
    start: Arc<Charter>,
    /// All pieces that were made since.
    pieces: Vec<Piece>,
    /// The charters of two members, each of whom knows some of the pieces.
    replicas: [Charter; 2],
}

impl Run {
    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let replica = usize::from(step & 0x80 != 0);
        match step % STEPS {
            EDIT => self.edit(replica, input),
            FORGE => self.forge(replica, input),
            ADMIT => self.admit(replica, input),
            DOCUMENT => self.document(replica, input),
            TAKE => {
                let Some(piece) = self.piece(input.byte()) else { return };
                let before = self.replicas[replica].clone();
                let taken = self.replicas[replica].take(piece.clone());
                if taken != Ok(true) {
                    assert_eq!(self.replicas[replica], before, "what is refused changes nothing");
                }
                assert_ne!(self.replicas[replica].take(piece), Ok(true));
            }
            TAKE_ALL => {
                let (first, count) = (input.byte(), input.byte() % 8);
                let pieces = (0..count).filter_map(|more| self.piece(first.wrapping_add(more)));
                let pieces: Vec<_> = pieces.collect();
                self.replicas[replica].take_all(pieces);
            }
            _ => self.settle(input),
        }
    }

    /// A member makes a change according to the rules.
    fn edit(&mut self, replica: usize, input: &mut Input<'_>) {
        let charter = &self.replicas[replica];
        let (author, member) = author(input.byte(), charter);
        let changes = changes(input, charter, member);
        if self.pieces.len() == PIECES_MAX {
            return;
        }
        if let Ok(operation) = charter.edit(&author, member, changes) {
            let piece = Piece::Operation(operation);
            let taken = self.replicas[replica].take(piece.clone());
            assert_eq!(taken, Ok(true), "what was tried out is taken");
            self.push(piece);
        }
    }

    /// A member makes an operation with any fields.
    fn forge(&mut self, replica: usize, input: &mut Input<'_>) {
        let charter = &self.replicas[replica];
        let (author, member) = author(input.byte(), charter);
        let changes = changes(input, charter, member);
        let by = input.byte();
        let (second, _) = self::author(by, charter);
        let cosigners = if by & 0x80 != 0 { vec![second.id()] } else { Vec::new() };
        let Ok(draft) = charter.draft(author.id(), member, cosigners, changes) else { return };
        let Some(operation) = self.bend(replica, draft, input) else { return };
        let mut signed = Cosigned::unsigned(operation).signed(&author);
        if by & 0x80 != 0 {
            signed = signed.signed(&second);
        }
        self.push(Piece::Operation(signed));
    }

    /// Changes the fields of an operation to wrong values.
    fn bend(
        &self,
        replica: usize,
        mut operation: Operation,
        input: &mut Input<'_>,
    ) -> Option<Operation> {
        let charter = &self.replicas[replica];
        let bent = input.byte();
        if bent & 1 != 0 {
            let chosen = input.byte();
            let parents = self.pieces.iter().rev().filter_map(as_operation).enumerate();
            let parents = parents.filter(|(number, _)| *number < 8 && chosen & 1 << number != 0);
            let parents: Vec<_> = parents.map(|(_, signed)| signed).collect();
            let largest = parents.iter().map(|it| it.unverified().lamport).max();
            let mut parents: Vec<_> = parents.iter().map(|it| it.hash()).collect();
            parents.sort_unstable();
            operation.parents = List::truncated(parents);
            operation.lamport = largest.unwrap_or(0).checked_add(1)?;
        }
        if bent & 2 != 0 {
            // Another operation with the number of the last one, or one that skips some numbers.
            let last = self.pieces.iter().rev().filter_map(as_operation).find(|signed| {
                let it = signed.unverified();
                (it.author, it.term) == (operation.author, operation.term)
            })?;
            let last = last.unverified();
            (operation.sequence, operation.previous) = (last.sequence, last.previous);
        }
        if bent & 4 != 0 {
            operation.sequence = operation.sequence.wrapping_add(u64::from(input.byte()) * STRIDE);
        }
        if bent & 8 != 0 {
            operation.lamport = operation.lamport.wrapping_add(u64::from(input.byte()) * STRIDE);
        }
        if bent & 16 != 0 {
            operation.term = u32::from(input.byte() % 3);
            operation.sequence = 1;
            operation.previous = NOTHING;
        }
        if bent & 32 != 0 {
            operation.root = u32::from(input.byte() % 4);
        }
        if bent & 64 != 0 {
            let (whose, last) = (input.byte(), input.byte());
            let member = WORLD.member(whose);
            let cut = match whose & 0x80 {
                0 => charter.cut(member.member),
                _ => Cut {
                    member: member.member,
                    term: u32::from(last >> 6),
                    last: List::truncated([(member.key.id(), u64::from(last % 8))]),
                },
            };
            operation.cuts = List::truncated([cut]);
        }
        if bent & 128 != 0 {
            match input.byte() % 3 {
                0 => operation.base = NOTHING,
                1 => operation.certificate = NOTHING,
                _ => operation.previous = NOTHING,
            }
        }
        Some(operation)
    }

    /// Somebody issues a certificate, whether or not they may.
    fn admit(&mut self, replica: usize, input: &mut Input<'_>) {
        let charter = &self.replicas[replica];
        let (issuer, member) = author(input.byte(), charter);
        let number = input.byte();
        let device = match number {
            0..4 => WORLD.member(number).key.id(),
            _ => key(10 + number % 4).id(),
        };
        let certificate = if number & 0x80 == 0 {
            let Ok(issued) = charter.issue(&issuer, member, device, None) else { return };
            issued
        } else {
            let certificate = MemberCertificate {
                organisation: charter.organisation(),
                device,
                recovery: None,
                admission: u32::from(input.byte() % 3),
                issuer: issuer.id(),
                issuer_certificate: certificate(charter, WORLD.member(input.byte()).member),
            };
            Signed::sign(certificate, &issuer)
        };
        self.push(Piece::Certificate(certificate));
    }

    /// The root keys sign another document, or somebody else tries to.
    fn document(&mut self, replica: usize, input: &mut Input<'_>) {
        let charter = &self.replicas[replica];
        let documents: Vec<_> = charter.roots().collect();
        let before = documents[usize::from(input.byte()) % documents.len()];
        let (chosen, signers) = (input.byte(), input.byte());
        let keys = (0..4).filter(|number| chosen & 1 << number != 0);
        let keys: Vec<_> = keys.map(|number| WORLD.member(number).key.id()).collect();
        let Ok(keys) = RootKeys::try_from(List::truncated(keys)) else { return };
        let cuts = if chosen & 0x80 == 0 {
            List::default()
        } else {
            List::truncated([charter.cut(WORLD.member(input.byte()).member)])
        };
        let document = RootDocument {
            version: before.unverified().version + 1,
            previous: before.hash(),
            name: "Squad".to_owned(),
            keys,
            threshold: 1 + (chosen >> 4) % 3,
            merges: List::default(),
            cuts,
            content: List::default(),
        };
        let mut document = Cosigned::unsigned(document);
        for number in (0..4).filter(|number| signers & 1 << number != 0) {
            document = document.signed(&WORLD.member(number).key);
        }
        self.push(Piece::Root(document));
    }

    /// All replicas get all pieces, and the root keys settle them in a checkpoint.
    fn settle(&mut self, input: &mut Input<'_>) {
        let mut charter = self.compare();
        let Some(mut checkpoint) = charter.draft_checkpoint() else { return };
        match input.byte() {
            0..250 => {}
            250 => checkpoint.lamport = u64::MAX,
            251 => checkpoint.number = u32::MAX,
            252 => checkpoint.state = NOTHING,
            253 => checkpoint.root = 2,
            254 => checkpoint.previous = NOTHING,
            255 => checkpoint.covered = List::truncated(checkpoint.covered.iter().skip(1).copied()),
        }
        let mut checkpoint = Cosigned::unsigned(checkpoint);
        for number in 0..4 {
            if charter.is_root(WORLD.member(number).key.id()) {
                checkpoint = checkpoint.signed(&WORLD.member(number).key);
            }
        }
        let before = charter.clone();
        if charter.take(Piece::Checkpoint(checkpoint)) != Ok(true) {
            assert_eq!(charter, before, "what is refused changes nothing");
            return;
        }
        check(&charter);
        // A replica that had the same pieces before reaches the same state.
        let mut other = before;
        exchange(&mut other, &charter);
        self.replicas = [charter.clone(), other];
        self.start = Arc::new(charter);
        self.pieces.clear();
    }

    /// Gives all pieces to several replicas, each of which takes them in its own way, and lets the
    /// replicas exchange what they lack. All must end with the same charter, which is returned.
    fn compare(&mut self) -> Charter {
        let mut forth = (*self.start).clone();
        take_until_nothing_is_new(&mut forth, &self.pieces);
        let mut back = (*self.start).clone();
        let reversed: Vec<_> = self.pieces.iter().rev().cloned().collect();
        for _ in 0..=reversed.len() {
            let single = reversed.iter().map(|piece| back.take_all([piece.clone()]).remove(0));
            if !single.collect::<Vec<_>>().contains(&Ok(true)) {
                break;
            }
        }
        assert_same(&forth, &back);
        let [mut first, mut second] = self.replicas.clone();
        exchange(&mut first, &second);
        exchange(&mut second, &first);
        exchange(&mut first, &second);
        assert_same(&first, &second);
        for replica in [&mut first, &mut second] {
            take_until_nothing_is_new(replica, &self.pieces);
            exchange(replica, &forth);
            assert_same(&forth, replica);
        }
        check(&forth);
        self.replicas = [first, second];
        forth
    }

    fn push(&mut self, piece: Piece) {
        let encoded = piece.encode();
        assert_eq!(Piece::decode(&encoded).as_ref(), Ok(&piece));
        if self.pieces.len() < PIECES_MAX && !self.pieces.contains(&piece) {
            self.pieces.push(piece);
        }
    }

    fn piece(&self, number: u8) -> Option<Piece> {
        let number = usize::from(number).checked_rem(self.pieces.len())?;
        Some(self.pieces[number].clone())
    }
}

fn as_operation(piece: &Piece) -> Option<&Cosigned<Operation>> {
    match piece {
        Piece::Operation(operation) => Some(operation),
        Piece::Root(_) | Piece::Certificate(_) | Piece::Checkpoint(_) => None,
    }
}

fn take_until_nothing_is_new(charter: &mut Charter, pieces: &[Piece]) {
    while charter.take_all(pieces.iter().cloned()).contains(&Ok(true)) {}
}

/// `charter` asks another for what it lacks until nothing new arrives. [CHARTER-8.2]
fn exchange(charter: &mut Charter, other: &Charter) {
    for _ in 0..ROUNDS_MAX {
        let lacking = other.lacking(&charter.have());
        if !charter.take_all(lacking).contains(&Ok(true)) {
            return;
        }
    }
    panic!("what is lacking does not come in {ROUNDS_MAX} rounds");
}

fn assert_same(a: &Charter, b: &Charter) {
    assert_eq!(a.digest(), b.digest(), "they hold other pieces");
    assert_eq!(a.state(), b.state(), "the same pieces say something else");
    assert!(a.log().eq(b.log()));
    assert!(!a.lacks_of(&b.have()) && !b.lacks_of(&a.have()));
}

/// The device that acts and its member. The device is that of one of the four members, or one that
/// was added or admitted later.
fn author(number: u8, charter: &Charter) -> (Arc<DeviceKey>, MemberId) {
    let number = number & 0x7f;
    if number % 8 < 4 {
        let member = WORLD.member(number);
        (Arc::clone(&member.key), member.member)
    } else {
        let key = Arc::clone(&KEYS[usize::from(number % 4)]);
        let member = charter.owner(key.id()).unwrap_or_else(|| charter.member_of(key.id()));
        (key, member)
    }
}

fn certificate(charter: &Charter, member: MemberId) -> ObjectHash {
    let certificate = charter.certificate_of(member);
    certificate.map_or(NOTHING, |certificate| ObjectHash::from_bytes(certificate.hash()))
}

fn changes(input: &mut Input<'_>, charter: &Charter, member: MemberId) -> Vec<Change> {
    let count = 1 + input.byte() % 3;
    (0..count).map(|_| change(input.byte(), input.byte(), charter, member)).collect()
}

/// A change of kind `kind`; the bits of `about` determine its fields.
pub(crate) fn change(kind: u8, about: u8, charter: &Charter, member: MemberId) -> Change {
    let channel = WORLD.channel(about);
    let other = WORLD.channel(about >> 4);
    let at = if about & 0x80 == 0 { Place::Organisation } else { Place::Channel(other) };
    let whose = WORLD.member(about >> 2).member;
    let role = [OFFICER, PILOT, RoleId::from_bytes([3; 16]), MEMBER_ROLE][usize::from(about % 4)];
    let grant = Grant { role, at, members: List::truncated([whose]) };
    let preset = PresetId::from_bytes([about % 2; 16]);
    let rights = [
        Capabilities::NONE,
        Capabilities::SPEAK,
        Capabilities::LISTEN,
        Capabilities::ALL,
        Capabilities::MANAGE_ROLES | Capabilities::ADMIT | Capabilities::BAN,
        Capabilities::MANAGE_CHANNELS,
        Capabilities::ALL_OF_SPEECH,
        Capabilities::MUTE,
    ][usize::from(about >> 4 & 7)];
    let subject = match about % 3 {
        0 => Subject::Everyone,
        1 => Subject::Role(role),
        _ => Subject::Member(whose),
    };
    let place = if about & 8 == 0 { Place::Channel(other) } else { Place::Organisation };
    match kind % 24 {
        0 => Change::Role(Role {
            id: role,
            name: "role".to_owned(),
            rank: if role == MEMBER_ROLE { Rank::LOWEST } else { Rank(1 + about % 100) },
            capabilities: rights,
        }),
        1 => Change::RemoveRole(role),
        2 => Change::Grant(grant),
        3 => Change::Ungrant(grant),
        4 => Change::Rule(Rule { at, subject, allow: rights, deny: Capabilities::NONE }),
        5 => Change::Channel(Channel { parent: place, ..Channel::open(channel, "Net") }),
        6 => Change::MoveChannel { channel, parent: place },
        7 => Change::RemoveChannel(channel),
        8 => Change::Link { a: channel.min(other), b: channel.max(other), linked: about & 8 == 0 },
        9 => Change::Preset(Box::new(self::preset(preset, about, grant))),
        10 => Change::LoadPreset(preset),
        11 => Change::UnloadPreset(preset),
        12 => Change::RemovePreset(preset),
        13 => Change::Relay(Relay {
            device: KEYS[usize::from(about % 4)].id(),
            name: "relay".to_owned(),
            addresses: List::truncated(WORLD.bob.presence.addresses.iter().copied()),
            members_max: u16::from(about),
            rate_kbps: 0,
        }),
        14 => Change::Policy(match about % 2 {
            0 => Policy::OperationsPerDay(1 + u32::from(about)),
            _ => Policy::InviteHoursMax(u32::from(about)),
        }),
        15 => Change::Remove { member: whose, admission: charter.state().removals(whose) + 1 },
        16 => Change::Admitted(List::truncated(charter.unlisted(member))),
        17 => {
            let key = &KEYS[usize::from(about % 4)];
            let consent = device_consent(charter.organisation(), member, key);
            Change::AddDevice { device: key.id(), consent }
        }
        18 => Change::RetireDevice {
            device: retired(about, charter, member),
            term: u32::from(about >> 6 & 1),
            last: u64::from(about >> 4 & 3),
        },
        19 => Change::Sanction(Sanction {
            member: whose,
            kind: if about & 1 == 0 { SanctionKind::Mute } else { SanctionKind::Ban },
            at,
            until: (about & 2 == 0).then(|| UnixTime::from_secs(about.into())),
            name: String::new(),
        }),
        20 => Change::Lift {
            member: whose,
            kind: if about & 1 == 0 { SanctionKind::Mute } else { SanctionKind::Ban },
            at,
        },
        22 => Change::RevokeTicket(RevokedTicket {
            issuer: whose,
            key: KEYS[usize::from(about % 4)].id(),
            expires: UnixTime::from_secs(about.into()),
        }),
        23 => Change::RevokeTickets((about > 7).then_some(whose)),
        _ => Change::Rule(Rule { at, subject, allow: Capabilities::NONE, deny: rights }),
    }
}

fn retired(about: u8, charter: &Charter, member: MemberId) -> DeviceId {
    let devices = charter.devices_of(member);
    let number = usize::from(about).checked_rem(devices.len());
    number.map_or_else(|| KEYS[0].id(), |number| devices[number])
}

/// A preset with a channel of its own. It may also contain a channel that exists without it, in a
/// ring.
fn preset(id: PresetId, about: u8, grant: Grant) -> Preset {
    let own = ChannelId::from_bytes([8 + about % 2; 16]);
    let other = WORLD.channel(about >> 4);
    let ring = Channel { parent: Place::Channel(own), ..Channel::open(other, "Ring") };
    let parent = if about & 8 == 0 { Place::Channel(other) } else { Place::Organisation };
    let most = 1 + about % 3;
    let mode = if about & 1 == 0 { ChannelMode::Floor(most) } else { ChannelMode::Loudest(most) };
    let mut channels = vec![ring, Channel { parent, mode, ..Channel::open(own, "Own") }];
    channels.sort_by_key(|channel| channel.id);
    let deny = Capabilities::LISTEN;
    let rule = |at| Rule { at, subject: Subject::Everyone, allow: Capabilities::NONE, deny };
    Preset {
        channels: List::truncated(channels),
        rules: List::truncated([rule(Place::Channel(own)), rule(Place::Channel(other))]),
        grants: List::truncated([grant].into_iter().filter(|grant| grant.role != MEMBER_ROLE)),
        ..Preset::empty(id, "Raid")
    }
}

pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let [founder, cid, bob, dora] = [0, 1, 2, 3];
    let new = [5, 5 | 8];
    let edit = |by, change: [u8; 2]| [&[EDIT, by, 0][..], &change].concat();
    let other = |by, change: [u8; 2]| [&[EDIT | 0x80, by, 0][..], &change].concat();
    let forge =
        |by, change: [u8; 2], bent: &[u8]| [&[FORGE, by, 0][..], &change, &[0], bent].concat();
    let all = [TAKE_ALL | 0x80, 0, 7];
    vec![
        ("edits", [&edit(bob, new)[..], &all, &other(founder, [6, 5])].concat()),
        ("apart", [edit(bob, [19, 0x90]), other(founder, [19, 0xa0]), edit(bob, new)].concat()),
        ("equivocation", [edit(bob, new), other(bob, [5, 13 | 0x10])].concat()),
        (
            "equivocation_goes_on",
            [edit(bob, new), other(bob, [5, 13 | 0x10]), other(bob, [6, 2 | 8])].concat(),
        ),
        ("cut", [edit(bob, new), forge(founder, [14, 0], &[64, bob]), edit(bob, [7, 5])].concat()),
        ("backdated", [edit(bob, new), forge(bob, [7, 5], &[1, 0])].concat()),
        ("removed", [edit(founder, [15, cid << 2]), other(cid, [2, 1])].concat()),
        (
            "admitted",
            [&[ADMIT, bob, 4][..], &edit(bob, [16, 0]), &[TAKE | 0x80, 0, ADMIT, dora, 5]].concat(),
        ),
        ("devices", [edit(dora, [17, 1]), edit(5, [18, 0x10]), other(dora, [18, 0])].concat()),
        (
            "presets",
            [edit(bob, [9, 8]), edit(bob, [10, 0]), edit(founder, [11, 0]), other(bob, [9, 1])]
                .concat(),
        ),
        ("roots", [&[DOCUMENT, 0, 0b1_0101, 0b101, TAKE, 0][..], &edit(bob, [14, 0])].concat()),
        ("forked", [DOCUMENT, 0, 0b101, 0b101, DOCUMENT, 0, 0b11, 0b11, TAKE, 0].to_vec()),
        (
            "settled",
            [
                &edit(bob, new)[..],
                &[SETTLE, 0],
                &edit(bob, [6, 5]),
                &[SETTLE, 0],
                &edit(bob, [7, 5]),
            ]
            .concat(),
        ),
    ]
}

/// Devices that belong to nobody at first.
static KEYS: LazyLock<[Arc<DeviceKey>; 4]> =
    LazyLock::new(|| [10, 11, 12, 13].map(|number| Arc::new(key(number))));

const NOTHING: ObjectHash = ObjectHash::from_bytes([0; 32]);

/// A member makes an operation according to the rules.
const EDIT: u8 = 0;
/// A member makes an operation with any fields.
const FORGE: u8 = 1;
/// A certificate is issued.
const ADMIT: u8 = 2;
/// A root document is made.
const DOCUMENT: u8 = 3;
/// A replica takes one piece.
const TAKE: u8 = 4;
/// A replica takes several pieces at once.
const TAKE_ALL: u8 = 5;
/// A checkpoint is made.
const SETTLE: u8 = 6;
const STEPS: u8 = 7;

/// 255 steps of this size go once around all values of a `u64`.
const STRIDE: u64 = 1 << 56 | 1;

/// How many steps are taken at most. More would make a run slow and find nothing more.
const STEPS_MAX: usize = 24;

/// How many pieces are made at most between two checkpoints.
const PIECES_MAX: usize = 16;

/// How many rounds of exchange are enough for everything to arrive.
const ROUNDS_MAX: usize = 12;
