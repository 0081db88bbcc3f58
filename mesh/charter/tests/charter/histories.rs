//! Random histories of officers who work apart, some of whom cheat. Whatever the order in which
//! their pieces arrive, all devices come to the same state, and to that of the naive model.

use hark_charter::{
    Charter, Cut, Operation, Piece, PieceError,
    content::{
        Capabilities, Change, Channel, MEMBER_ROLE, Place, Policy, Relay, RevokedTicket, Rule,
        Sanction, SanctionKind, Subject,
    },
};
use hark_keys::{Cosigned, List, ObjectHash, UnixTime};
use proptest::prelude::*;

use crate::checkpoints::catch_up;
use crate::world::{
    ANN, BOB, CHIEF, CID, DAN, EVE, EVERYWHERE, FAY, FOUNDER, NONE, World, assert_as_model,
    assert_same, blank, certificate, channel, channel_id, preset, preset_id, role, rule,
    take_until_done,
};

/// One turn: somebody makes an operation by what one of several copies says, or two copies meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    copy: usize,
    who: usize,
    what: u8,
    whom: usize,
    number: u8,
    other: u8,
    how: How,
}

/// How an operation is made, honestly or not.
#[derive(Clone, Copy, Debug)]
enum How {
    /// With the cuts that it needs, if it is allowed at all.
    Honest,
    /// As drafted, whether allowed or not.
    Rash,
    /// Cosigned by others.
    Together(usize, usize),
    /// By the author's second device.
    Second,
    /// By the author's recovery key.
    Recovery,
    /// As root, by this version of the root document.
    Root(u32),
    /// As if it knew only what an early operation knew.
    Backdated(usize),
    /// With the number of the operation before it.
    Equivocating,
    /// Of another term than the present one.
    Term(u32),
    /// With a cut at an arbitrary number.
    Cutting(usize, u32, u64),
}

pub(crate) fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let who = prop_oneof![
        2 => Just(FOUNDER),
        4 => Just(CHIEF),
        4 => Just(ANN),
        4 => Just(BOB),
        2 => Just(CID),
        2 => Just(DAN),
        1 => Just(EVE),
    ];
    let how = prop_oneof![
        12 => Just(How::Honest),
        4 => Just(How::Rash),
        3 => (CHIEF..=DAN, CHIEF..=DAN).prop_map(|(one, other)| How::Together(one, other)),
        2 => Just(How::Second),
        1 => Just(How::Recovery),
        1 => (0..4_u32).prop_map(How::Root),
        3 => (0..40_usize).prop_map(How::Backdated),
        1 => Just(How::Equivocating),
        1 => (0..3_u32).prop_map(How::Term),
        3 => (FOUNDER..=EVE, 0..3_u32, 0..4_u64).prop_map(|(who, term, last)| How::Cutting(who, term, last)),
    ];
    let turn = (0..COPIES, who, 0..28_u8, FOUNDER..=FAY, 1..6_u8, 0..8_u8, how);
    let turn = turn.prop_map(|(copy, who, what, whom, number, other, how)| Turn {
        copy,
        who,
        what,
        whom,
        number,
        other,
        how,
    });
    proptest::collection::vec(turn, 1..45)
}

const COPIES: usize = 3;

/// A world, and copies of its charter that develop apart.
pub(crate) struct History {
    world: World,
    copies: Vec<Charter>,
    /// All pieces that anybody has made.
    pieces: Vec<Piece>,
}

impl History {
    pub(crate) fn of(quorum: bool, turns: &[Turn]) -> Self {
        let world = World::new(quorum);
        let copies = vec![world.charter.clone(); COPIES];
        let pieces = world.charter.pieces_in_order().collect();
        let mut history = Self { world, copies, pieces };
        for turn in turns {
            history.turn(*turn);
        }
        history
    }

    fn turn(&mut self, turn: Turn) {
        match turn.what {
            0 | 1 => {
                let from: Vec<_> = self.copies[turn.whom % COPIES].pieces_in_order().collect();
                take_until_done(&mut self.copies[turn.copy], from);
            }
            2 => self.admit(turn),
            _ => self.operation(turn),
        }
    }

    /// Admits a member, perhaps a second time.
    fn admit(&mut self, turn: Turn) {
        let issuer = &self.world.people[turn.who];
        let device = &self.world.people[turn.whom].keys[usize::from(turn.other) % 2];
        let copy = &self.copies[turn.copy];
        if copy.certificate_of(issuer.member).is_none() {
            return;
        }
        let made = certificate(copy, issuer, device, u32::from(turn.number) % 3);
        let piece = Piece::Certificate(hark_keys::Signed::sign(made, issuer.key()));
        self.offer(turn.copy, piece);
    }

    fn offer(&mut self, copy: usize, piece: Piece) {
        match self.copies[copy].take_all([piece.clone()]).remove(0) {
            Ok(true) => self.pieces.push(piece),
            Ok(false) => {}
            // Everybody refuses nonsense, and pieces of somebody without the right to make them;
            // see the end.
            Err(PieceError::Malformed | PieceError::Rootless | PieceError::Stranger) => {}
            Err(error) => panic!("{error:?}: {piece:?}"),
        }
    }

    fn operation(&mut self, turn: Turn) {
        let changes = vec![self.change(turn)];
        let copy = &self.copies[turn.copy];
        let person = &self.world.people[turn.who];
        if let How::Honest = turn.how {
            if let Ok(operation) = copy.edit(person.key(), person.member, changes) {
                self.offer(turn.copy, Piece::Operation(operation));
            }
            return;
        }
        let cosigners = match turn.how {
            How::Together(one, other) => [one, other]
                .into_iter()
                .filter(|it| *it != turn.who)
                .map(|it| self.world.people[it].key().id())
                .collect::<std::collections::BTreeSet<_>>(),
            _ => Default::default(),
        };
        let key = match turn.how {
            How::Second => &person.keys[1],
            How::Recovery => &person.keys[2],
            _ => person.key(),
        };
        let cosigners = cosigners.into_iter().collect();
        let Ok(mut draft) = copy.draft(key.id(), person.member, cosigners, changes) else { return };
        self.distort(turn, &mut draft);
        let signed = self.world.sign(draft);
        self.offer(turn.copy, Piece::Operation(signed));
    }

    fn distort(&self, turn: Turn, draft: &mut Operation) {
        let copy = &self.copies[turn.copy];
        let held: Vec<&Cosigned<Operation>> = copy.log().map(|(it, _)| it).collect();
        match turn.how {
            How::Root(version) => {
                draft.certificate = NONE;
                draft.root = version;
            }
            How::Backdated(at) => {
                let parent = held[at % held.len()];
                draft.parents = List::truncated([parent.hash()]);
                draft.lamport = parent.unverified().lamport + 1;
            }
            How::Equivocating => {
                let own = held
                    .iter()
                    .map(|it| it.unverified())
                    .filter(|it| (it.author, it.term) == (draft.author, draft.term));
                if let Some(last) = own.max_by_key(|it| it.sequence) {
                    draft.sequence = last.sequence;
                    draft.previous = last.previous;
                }
            }
            How::Term(term) if term != draft.term => {
                draft.term = term;
                let own = held.iter().filter(|it| {
                    let it = it.unverified();
                    (it.author, it.term) == (draft.author, term)
                });
                let last = own.max_by_key(|it| it.unverified().sequence);
                draft.sequence = last.map_or(1, |it| it.unverified().sequence + 1);
                draft.previous = last.map_or(NONE, |it| it.hash());
            }
            How::Cutting(who, term, last) => {
                let person = &self.world.people[who];
                let mut keys: Vec<_> =
                    person.keys.iter().map(|key| (key.id(), last)).filter(|it| it.1 > 0).collect();
                keys.sort_unstable();
                let cut = Cut { member: person.member, term, last: List::truncated(keys) };
                draft.cuts = List::truncated([cut]);
            }
            _ => {}
        }
    }

    fn change(&self, turn: Turn) -> Change {
        let world = &self.world;
        let rights = [
            Capabilities::NONE,
            Capabilities::SPEAK,
            Capabilities::ADMIT | Capabilities::BAN,
            Capabilities::MANAGE_ROLES,
            Capabilities::MUTE | Capabilities::BAN,
            Capabilities::APPOINT_RELAYS,
            Capabilities::MANAGE_CHANNELS | Capabilities::EDIT_PRESETS,
            Capabilities::ALL,
        ];
        let right = rights[usize::from(turn.other)];
        let at = |number: u8| match number % 5 {
            0 => EVERYWHERE,
            number => Place::Channel(channel_id(number)),
        };
        let subject = match turn.number % 3 {
            0 => Subject::Everyone,
            1 => Subject::Member(world.member(turn.whom)),
            _ => Subject::Role(world.grant_of(turn.number, EVERYWHERE, &[]).role),
        };
        let ranks = [5, 10, 11, 50, 51, 100, 200, 250];
        let kinds = [SanctionKind::Mute, SanctionKind::Ban];
        let member = world.member(turn.whom);
        match turn.what {
            3 => Change::Role(role(
                turn.number,
                ranks[usize::from(turn.other)],
                rights[usize::from(turn.other ^ turn.number)],
            )),
            4 => Change::RemoveRole(world.grant_of(turn.number, EVERYWHERE, &[]).role),
            5 | 6 => world.grant(turn.number, &[turn.whom]),
            7 | 8 => world.ungrant(turn.number, &[turn.whom]),
            9 => Change::Grant(world.grant_of(turn.number, at(turn.other), &[turn.whom, EVE])),
            10 => Change::Ungrant(world.grant_of(turn.number, at(turn.other), &[turn.whom])),
            11 => rule(at(turn.other), subject, Capabilities::NONE, right),
            12 => rule(at(turn.other), subject, right, Capabilities::NONE),
            13 => Change::Channel(Channel {
                order: turn.other.into(),
                ..channel(turn.number, at(turn.other))
            }),
            14 => Change::MoveChannel { channel: channel_id(turn.number), parent: at(turn.other) },
            15 if turn.other > 4 => Change::RemoveChannel(channel_id(turn.number)),
            15 => Change::Link {
                a: channel_id(turn.number),
                b: channel_id(turn.number + 1 + turn.other % 2),
                linked: turn.other > 1,
            },
            16 | 17 => {
                let rule =
                    Rule { at: at(turn.other), subject, allow: right, deny: Capabilities::SPEAK };
                let grant = world.grant_of(turn.number, at(turn.whom as u8), &[turn.whom]);
                let mut made = preset(turn.number % 2, &[rule], vec![grant]);
                let channels =
                    [channel(3, at(turn.other)), channel(4, Place::Channel(channel_id(3)))];
                made.channels = List::truncated(channels);
                Change::Preset(Box::new(made))
            }
            18 => Change::LoadPreset(preset_id(turn.number % 2)),
            19 if turn.other == 0 => Change::RemovePreset(preset_id(turn.number % 2)),
            19 => Change::UnloadPreset(preset_id(turn.number % 2)),
            20 => Change::Relay(Relay {
                device: world.people[turn.whom].key().id(),
                name: "relay".to_owned(),
                addresses: List::truncated(["[2001:db8::1]:7".parse().unwrap()]),
                members_max: u16::from(turn.other),
                rate_kbps: 0,
            }),
            21 => match turn.other {
                0 => Change::RemoveRelay(world.people[turn.whom].key().id()),
                1 => Change::Policy(Policy::OperationsPerDay(turn.number.max(1).into())),
                2 => Change::Role(role(0, 251, rights[usize::from(turn.number)])),
                _ => Change::Policy(Policy::InviteHoursMax(turn.number.into())),
            },
            22 => {
                let removals = self.copies[turn.copy].state().removals(member);
                Change::Remove { member, admission: removals + 1 }
            }
            23 => {
                let hashes = self.copies[turn.copy].unlisted(world.member(turn.who));
                Change::Admitted(List::truncated(hashes))
            }
            24 if turn.other > 3 => Change::Sanction(Sanction {
                member,
                kind: kinds[usize::from(turn.number) % 2],
                at: at(turn.number),
                until: (turn.other > 4).then(|| UnixTime::from_secs(100 * u64::from(turn.other))),
                name: String::new(),
            }),
            24 if turn.other > 1 => Change::Lift {
                member,
                kind: kinds[usize::from(turn.number) % 2],
                at: at(turn.number),
            },
            27 if turn.other > 4 => Change::RevokeTickets((turn.other > 5).then_some(member)),
            27 => Change::RevokeTicket(RevokedTicket {
                issuer: member,
                key: world.people[turn.whom].keys[usize::from(turn.number) % 3].id(),
                expires: UnixTime::from_secs(u64::MAX),
            }),
            25 => world.add_device(turn.who, &world.people[turn.who].keys[1]),
            _ => Change::RetireDevice {
                device: world.people[turn.who].keys[usize::from(turn.other) % 3].id(),
                term: u32::from(turn.number) % 2,
                last: turn.other.into(),
            },
        }
    }

    /// A charter of all pieces, in the order in which they were made.
    pub(crate) fn whole(&self) -> Charter {
        let mut whole = blank(&self.world.charter);
        take_until_done(&mut whole, self.pieces.clone());
        whole
    }
}

/// Offers pieces in any order, as gossip does, and the rest as a comparison does.
fn by_gossip(charter: &mut Charter, mut pieces: Vec<Piece>) {
    for _ in 0..3 {
        pieces.retain(|piece| match charter.take(piece.clone()) {
            Ok(_) => false,
            Err(PieceError::Missing(_) | PieceError::Stranger | PieceError::Rootless) => true,
            Err(error) => panic!("{error:?}"),
        });
    }
    take_until_done(charter, pieces);
}

fn shuffled(pieces: &[Piece], seed: u64) -> Vec<Piece> {
    let mut keyed: Vec<_> = pieces
        .iter()
        .map(|piece| (blake3::hash(&[&piece.encode()[..], &seed.to_be_bytes()].concat()), piece))
        .collect();
    keyed.sort_by_key(|(key, _)| *key.as_bytes());
    keyed.into_iter().map(|(_, piece)| piece.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// [CHARTER-5.4] [CHARTER-5.5] The state is a function of the set of pieces, and the one that
    /// the specification defines.
    #[test]
    fn any_order_says_the_same_and_what_the_model_says(
        turns in turns(),
        quorum in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let history = History::of(quorum, &turns);
        let whole = history.whole();
        assert_as_model(&whole);

        // In any order, everything twice.
        let mut other = blank(&whole);
        let mut pieces = shuffled(&history.pieces, seed);
        pieces.extend(shuffled(&history.pieces, !seed));
        take_until_done(&mut other, pieces);
        assert_same(&whole, &other);

        // One by one, as gossip brings them.
        let mut gossip = blank(&whole);
        by_gossip(&mut gossip, shuffled(&history.pieces, seed ^ 1));
        assert_same(&whole, &gossip);

        // Halves that have developed apart.
        let mut copies = history.copies.clone();
        for at in 0..copies.len() {
            assert_as_model(&copies[at]);
            let next: Vec<_> = copies[(at + 1) % COPIES].pieces_in_order().collect();
            take_until_done(&mut copies[at], next);
        }
        for copy in &mut copies {
            take_until_done(copy, history.pieces.clone());
            assert_same(&whole, copy);
        }

        // [CHARTER-8.1] The charter on the disk says the same.
        assert_same(&whole, &Charter::restore(&whole.snapshot()).unwrap());
    }

    /// After every single piece, wherever in the order it falls, the state computed from the one
    /// before is the state computed from all pieces.
    #[test]
    fn every_step_says_what_all_anew_says(
        turns in turns(),
        quorum in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let history = History::of(quorum, &turns);
        let mut step = blank(&history.world.charter);
        let mut waiting = shuffled(&history.pieces, seed);
        loop {
            let before = waiting.len();
            waiting.retain(|piece| {
                if step.take_all([piece.clone()]).remove(0).is_err() {
                    return true;
                }
                let mut anew = blank(&step);
                anew.take_all(step.pieces_in_order());
                assert_same(&step, &anew);
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        waiting.retain(|piece| !matches!(piece, Piece::Certificate(_)));
        prop_assert!(waiting.is_empty());
    }

    /// [CHARTER-7.5] A newcomer that gets the settled past comes to the same state as a device that
    /// was there.
    #[test]
    fn a_settled_past_says_the_same(turns in turns(), quorum in any::<bool>(), seed in any::<u64>()) {
        assert_settled_past_says_the_same(&turns, quorum, seed);
    }

    /// Operations that come one after the other, each applied at once if that is possible, lead to
    /// the same state as all of them together.
    #[test]
    fn step_by_step_is_as_all_at_once(turns in turns(), quorum in any::<bool>()) {
        let history = History::of(quorum, &turns);
        let mut step = blank(&history.world.charter);
        let mut pieces: Vec<_> = history.whole().pieces_in_order().collect();
        // Operations are in the order of their lamports: each is the last when it comes.
        pieces.sort_by_key(|piece| match piece {
            Piece::Root(document) => (0, u64::from(document.unverified().version), NONE),
            Piece::Certificate(_) => (1, 0, NONE),
            Piece::Operation(operation) => (2, operation.unverified().lamport, operation.hash()),
            Piece::Checkpoint(_) => (3, 0, NONE),
        });
        let mut taken = Vec::new();
        let mut waiting = pieces;
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|piece| {
                let took = step.take_all([piece.clone()]).remove(0) == Ok(true);
                if took {
                    taken.push(piece.clone());
                }
                !took && !step.contains(&hash_of(piece))
            });
            assert!(waiting.len() < before);
        }
        let mut anew = blank(&step);
        anew.take_all(taken);
        assert_same(&step, &anew);
        assert_as_model(&step);
    }
}

fn hash_of(piece: &Piece) -> ObjectHash {
    match piece {
        Piece::Root(it) => it.hash(),
        Piece::Certificate(it) => ObjectHash::from_bytes(it.hash()),
        Piece::Operation(it) => it.hash(),
        Piece::Checkpoint(it) => it.hash(),
    }
}

/// How many cases to try: `PROPTEST_CASES` if it is set.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(usual)
}

/// The role `member` cannot be granted, and so cannot be taken, either.
#[test]
fn the_role_of_all_is_no_bodys_gift() {
    let world = World::new(false);
    let mut grant = world.grant_of(1, EVERYWHERE, &[EVE]);
    grant.role = MEMBER_ROLE;
    let draft = world.draft(FOUNDER, vec![Change::Ungrant(grant)]);
    let mut charter = world.charter.clone();
    let piece = Piece::Operation(world.sign(draft));
    assert_eq!(charter.take(piece), Err(PieceError::Malformed));
}

fn assert_settled_past_says_the_same(turns: &[Turn], quorum: bool, seed: u64) {
    let history = History::of(quorum, turns);
    let people = &history.world.people;
    let settle = |charter: &mut Charter| {
        if let Some(checkpoint) = charter.draft_checkpoint() {
            let unsigned = Cosigned::unsigned(checkpoint);
            let roots = [FOUNDER, CHIEF].map(|who| people[who].key());
            let roots = roots.into_iter().filter(|key| charter.is_root(key.id()));
            let signed = Piece::Checkpoint(roots.fold(unsigned, Cosigned::signed));
            assert_eq!(charter.take(signed), Ok(true));
        }
    };
    let mut there = blank(&history.world.charter);
    let pieces = shuffled(&history.pieces, seed);
    let (first, second) = pieces.split_at(pieces.len() / 2);
    // A piece that comes too early waits, and comes again with the rest.
    let waiting: Vec<_> = first
        .iter()
        .filter(|piece| there.take_all([(*piece).clone()]).remove(0).is_err())
        .cloned()
        .collect();
    settle(&mut there);
    take_until_done(&mut there, [&waiting[..], second].concat());
    settle(&mut there);
    let change = || vec![Change::Channel(channel(5, EVERYWHERE))];
    // By an author whose operations others take, if there is any.
    let last: Vec<_> =
        people.iter().filter_map(|it| there.edit(it.key(), it.member, change()).ok()).collect();
    let _ = last.into_iter().any(|it| there.take(Piece::Operation(it)) == Ok(true));
    let mut newcomer = blank(&there);
    catch_up(&mut newcomer, &there);
    assert_same(&newcomer, &there);
    assert_same(&Charter::restore(&newcomer.snapshot()).unwrap(), &newcomer);
}

/// [CHARTER-7.5] The first checkpoint covers one of them, which is forgotten, and the next
/// checkpoint covers the other.
#[test]
fn a_settled_past_with_two_of_one_number_is_told() {
    let turns = [
        turn(2, 2, 16, 4, 5, 7, How::Backdated(6)),
        turn(0, 2, 3, 0, 1, 0, How::Cutting(0, 0, 0)),
        turn(0, 0, 0, 0, 1, 0, How::Honest),
    ];
    assert_settled_past_says_the_same(&turns, false, 18371278988159757032);
}

/// The operation came after the checkpoint that settles the removal, with which the newcomer forgot
/// the author's certificate. [CHARTER-7.6] [CHARTER-8.2]
#[test]
fn an_operation_of_one_who_was_removed_was_told_in_vain() {
    let turns = [
        turn(0, 1, 0, 0, 1, 0, How::Honest),
        turn(2, 0, 22, 2, 1, 0, How::Honest),
        turn(0, 2, 3, 0, 1, 0, How::Backdated(0)),
        turn(2, 0, 0, 0, 1, 0, How::Honest),
    ];
    assert_settled_past_says_the_same(&turns, true, 19157102038449411);
}

fn turn(copy: usize, who: usize, what: u8, whom: usize, number: u8, other: u8, how: How) -> Turn {
    Turn { copy, who, what, whom, number, other, how }
}

/// [CHARTER-5.5] Ann has removed Dan. Somebody who did not know that then raised Dan's role, and
/// Dan has removed Ann. Either operation would make the other void. This is settled from above, not
/// by who came first.
#[test]
fn two_who_would_void_each_other_do_not_depend_on_the_order_of_arrival() {
    let world = World::new(false);
    let edit = |charter: &mut Charter, who: usize, changes| {
        let person = &world.people[who];
        let operation = charter.edit(person.key(), person.member, changes).unwrap();
        let piece = Piece::Operation(operation);
        assert_eq!(charter.take(piece.clone()), Ok(true));
        piece
    };
    let removal = edit(&mut world.charter.clone(), ANN, vec![world.remove(DAN)]);
    let mut raised = world.charter.clone();
    let higher = vec![
        edit(&mut raised, FOUNDER, vec![Change::Channel(channel(7, EVERYWHERE))]),
        edit(&mut raised, FOUNDER, vec![Change::Role(role(3, 4, Capabilities::ALL))]),
        edit(&mut raised, DAN, vec![world.remove(ANN)]),
    ];
    let later = [&higher[..], std::slice::from_ref(&removal)].concat();
    let earlier = [&[removal][..], &higher].concat();
    let orders = [later, earlier].map(|pieces| {
        let mut step = world.charter.clone();
        for piece in pieces {
            assert_eq!(step.take_all([piece]), [Ok(true)]);
        }
        step
    });
    assert_same(&orders[0], &orders[1]);
    assert_same(&orders[0], &Charter::restore(&orders[0].snapshot()).unwrap());
    assert_as_model(&orders[0]);
}
