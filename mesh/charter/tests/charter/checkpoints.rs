//! What a checkpoint has settled stays settled.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter, Checkpoint, Cut, EditError, MemberCertificate, Operation, Piece, PieceError, State,
    content::{Change, Place},
};
use hark_keys::{
    Cosigned, DeviceId, DeviceKey, List, ObjectHash, SeededRandom, Signed, decode, encode,
};

use crate::world::{
    ANN, BOB, CHIEF, DAN, EVERYWHERE, FOUNDER, World, assert_same, blank, channel, channel_id,
    preset, preset_id,
};

fn hidden(number: u8) -> Vec<Change> {
    vec![Change::Channel(channel(number, EVERYWHERE))]
}

fn signed(world: &World, checkpoint: Checkpoint, keys: &[usize]) -> Piece {
    let unsigned = Cosigned::unsigned(checkpoint);
    let keys = keys.iter().map(|key| &world.people[FOUNDER].keys[*key]);
    Piece::Checkpoint(keys.fold(unsigned, Cosigned::signed))
}

pub(crate) fn settle(world: &mut World) -> Piece {
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    let piece = signed(world, checkpoint, &[0]);
    assert_eq!(world.charter.take(piece.clone()), Ok(true));
    piece
}

/// [CHARTER-7.1] [CHARTER-7.4] The first checkpoint settles, the second forgets, and neither
/// changes the state.
#[test]
fn checkpoints_settle_and_forget() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    let channels = |world: &World| world.charter.state().channels().count();
    let (before, held) = (world.charter.state().clone(), world.charter.operations());
    settle(&mut world);
    assert_eq!((world.charter.checkpoint(), world.charter.operations()), (1, held));
    assert_eq!(*world.charter.state(), before);
    assert_eq!(world.charter.draft_checkpoint(), None);
    let next = world.by(ANN, hidden(10));
    assert_eq!(next.unverified().base, {
        let newest = world.charter.pieces_in_order().find_map(|piece| match piece {
            Piece::Checkpoint(newest) => Some(newest.hash()),
            _ => None,
        });
        newest.unwrap()
    });
    let there = channels(&world);
    settle(&mut world);
    assert_eq!((world.charter.checkpoint(), world.charter.operations()), (2, 1));
    world.by(BOB, hidden(11));
    assert_eq!(channels(&world), there + 1);
    settle(&mut world);
    assert_eq!((world.charter.checkpoint(), world.charter.operations()), (3, 1));
    assert_eq!(channels(&world), there + 1);
    // Numbers continue where they were.
    let last = world.by(BOB, hidden(12));
    assert_eq!(last.unverified().sequence, 3);
}

/// [CHARTER-7.3] An operation based on what is settled comes too late, and so does one that builds
/// upon it.
#[test]
fn late_operations_are_refused() {
    let mut world = World::new(false);
    let early = world.charter.clone();
    let late = world.sign(world.draft_from(&early, BOB, hidden(9)));
    let mut other = early.clone();
    other.take(Piece::Operation(late.clone())).unwrap();
    let after = world.sign(world.draft_from(&other, CHIEF, hidden(10)));
    world.by(ANN, hidden(11));
    let first = settle(&mut world);
    let mut behind = other.clone();
    // After one checkpoint it is still in time.
    let mut in_time = world.charter.clone();
    assert_eq!(in_time.take(Piece::Operation(late.clone())), Ok(true));
    world.by(ANN, hidden(12));
    let second = settle(&mut world);
    assert_eq!(world.charter.take(Piece::Operation(late.clone())), Err(PieceError::Late));
    assert_eq!(world.charter.take(Piece::Operation(after.clone())), Err(PieceError::Late));
    // A device that holds them drops them when it learns of the checkpoints.
    behind.take(Piece::Operation(after)).unwrap();
    let operations = early_pieces(&in_time);
    behind.take_all(operations);
    assert_eq!(behind.take(first), Ok(true));
    let newest: Vec<_> = world.charter.pieces_in_order().collect();
    behind.take_all(newest);
    assert_eq!(behind.take(second), Ok(false));
    assert_same(&behind, &world.charter);
    // Made again, it counts.
    world.by(BOB, hidden(9));
}

fn early_pieces(charter: &Charter) -> Vec<Piece> {
    charter.pieces_in_order().filter(|it| !matches!(it, Piece::Checkpoint(_))).collect()
}

/// [CHARTER-4.4] [CHARTER-7.6] A checkpoint covered only one of the two operations that froze a
/// device. So two checkpoints later the device acted again, and both operations counted.
#[test]
fn a_freeze_outlasts_checkpoints() {
    let mut world = World::new(false);
    let twins =
        [9, 10].map(|number| Piece::Operation(world.sign(world.draft(DAN, hidden(number)))));
    assert_eq!(world.charter.take_all(twins), [Ok(true), Ok(true)]);
    for number in 11..14 {
        settle(&mut world);
        let dan = &world.people[DAN];
        let edit = world.charter.edit(dan.key(), dan.member, vec![]).map(drop);
        assert_eq!(edit, Err(EditError::Frozen));
        let there = |number| world.charter.state().channel(channel_id(number)).is_some();
        assert!(!there(9) && !there(10));
        let mut newcomer = blank(&world.charter);
        catch_up(&mut newcomer, &world.charter);
        assert_same(&newcomer, &world.charter);
        world.by(ANN, hidden(number));
    }
}

/// [CHARTER-7.6] [CHARTER-7.25] Nobody holds what could never count.
#[test]
fn what_a_checkpoint_says_is_void_comes_too_late() {
    let mut world = World::new(false);
    let second = DeviceKey::from_secret(&world.people[BOB].keys[1].secret());
    world.by(BOB, vec![world.add_device(BOB, &second)]);
    world.by(DAN, vec![]);
    let start = world.charter.clone();
    let by_second = start.draft(second.id(), world.member(BOB), vec![], vec![]).unwrap();
    let [of_ann, of_dan] = [ANN, DAN].map(|who| world.draft(who, vec![]));
    let late = |world: &mut World, made: &[Operation], late: &Operation| {
        world.charter = start.clone();
        for made in made {
            assert_eq!(world.take(made.clone()), Ok(true));
        }
        let mut in_time = world.charter.clone();
        assert_eq!(in_time.take_all([Piece::Operation(world.sign(late.clone()))]), [Ok(true)]);
        settle(world);
        assert_eq!(world.take(of_ann.clone()), Ok(true));
        world.take(late.clone())
    };
    // Its author has used a number twice, and somebody builds upon both.
    let other = world.draft(DAN, hidden(9));
    let [one, two] = [&of_dan, &other].map(|it| Cosigned::unsigned(it.clone()).hash());
    let mut proof = Operation { lamport: of_dan.lamport + 1, ..world.draft(BOB, vec![]) };
    proof.parents = List::truncated(BTreeSet::from([one, two, proof.previous]));
    let (sequence, lamport) = (of_dan.sequence + 1, of_dan.lamport + 1);
    let mut third = Operation { sequence, lamport, ..of_dan.clone() };
    third.previous = one;
    third.parents = List::truncated([one]);
    let twice = [of_dan.clone(), other, proof];
    assert_eq!(late(&mut world, &twice, &third), Err(PieceError::Late));
    // Its author is no longer a device of its member.
    let device = second.id();
    let retire = vec![Change::RetireDevice { device, term: 0, last: 0 }];
    let retires = world.draft_from(&start, BOB, retire);
    assert_eq!(late(&mut world, &[retires], &by_second), Err(PieceError::Late));
    // Its author's term has ended, and the membership.
    let mut cuts = world.draft_from(&start, CHIEF, vec![]);
    cuts.cuts = List::truncated([start.cut(world.member(DAN))]);
    assert_eq!(late(&mut world, &[cuts], &of_dan), Err(PieceError::Late));
    let removes = world.draft_from(&start, CHIEF, vec![world.remove(DAN)]);
    assert_eq!(late(&mut world, &[removes], &of_dan), Err(PieceError::Late));
}

/// [CHARTER-7.2]
#[test]
fn a_wrong_outcome_is_refused() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    let good = world.charter.draft_checkpoint().unwrap();
    let charter = &mut world.charter.clone();
    let mut take = |change: &dyn Fn(&mut Checkpoint), keys: &[usize]| {
        let mut checkpoint = good.clone();
        change(&mut checkpoint);
        charter.take(signed(&world, checkpoint, keys))
    };
    assert_eq!(
        take(&|it| it.state = ObjectHash::from_bytes([1; 32]), &[0]),
        Err(PieceError::OtherOutcome)
    );
    assert_eq!(take(&|it| it.lamport += 1, &[0]), Err(PieceError::OtherOutcome));
    assert_eq!(take(&|it| it.number = 2, &[0]), Err(PieceError::Late));
    assert_eq!(
        take(&|it| it.previous = ObjectHash::from_bytes([1; 32]), &[0]),
        Err(PieceError::Late)
    );
    assert_eq!(take(&|it| it.root = 2, &[0]), Err(PieceError::Signatures));
    assert_eq!(take(&|_| (), &[]), Err(PieceError::Signatures));
    // The second device is not a root key.
    assert_eq!(take(&|_| (), &[0, 1]), Err(PieceError::Signatures));
    let wrong = |it: &mut Checkpoint| {
        let mut covered = it.covered.to_vec();
        covered[0].sequence += 1;
        it.covered = List::truncated(covered);
    };
    assert_eq!(take(&wrong, &[0]), Err(PieceError::Malformed));
    assert_eq!(take(&|_| (), &[0]), Ok(true));
}

/// [CHARTER-7.2] All choose the same one of two checkpoints with one number.
#[test]
fn of_competing_checkpoints_all_choose_one() {
    let mut world = World::new(false);
    let mut other = world.charter.clone();
    world.by(BOB, hidden(9));
    let apart = world.sign(world.draft_from(&other, DAN, vec![]));
    other.take(Piece::Operation(apart)).unwrap();
    let one = signed(&world, world.charter.draft_checkpoint().unwrap(), &[0]);
    let two = signed(&world, other.draft_checkpoint().unwrap(), &[0, 2]);
    world.charter.take(one.clone()).unwrap();
    other.take(two.clone()).unwrap();
    let (mine, theirs): (Vec<_>, Vec<_>) = (early_pieces(&world.charter), early_pieces(&other));
    world.charter.take_all(theirs);
    other.take_all(mine);
    assert_eq!(world.charter.take(two), Ok(true));
    assert_eq!(other.take(one), Ok(false));
    assert_same(&world.charter, &other);
    settle(&mut world);
}

/// [CHARTER-7.1] [CHARTER-7.26] A proof of equivocation that the root keys did not know makes
/// nobody refuse what they have settled.
#[test]
fn a_checkpoint_covers_what_its_makers_knew() {
    let mut world = World::new(false);
    let early = world.charter.clone();
    let hidden_one = world.sign(world.draft_from(&early, BOB, hidden(10)));
    world.by(BOB, hidden(9));
    let checkpoint = signed(&world, world.charter.draft_checkpoint().unwrap(), &[0]);
    let mut knows = world.charter.clone();
    knows.take(Piece::Operation(hidden_one.clone())).unwrap();
    assert_eq!(knows.take(checkpoint.clone()), Ok(true));
    world.charter.take(checkpoint).unwrap();
    world.charter.take(Piece::Operation(hidden_one)).unwrap();
    assert_same(&world.charter, &knows);
}

/// [PROTO-12.6] Of several operations of one number, what is stated is the lowest hash, also if a
/// checkpoint has settled one of them.
#[test]
fn the_lowest_of_several_operations_of_one_number_is_stated() {
    let mut world = World::new(false);
    let start = world.charter.clone();
    let [one, other] = [9, 10].map(|number| world.sign(world.draft(BOB, hidden(number))));
    let lowest = one.hash().min(other.hash());
    let tip: [u8; 8] = *lowest.as_bytes().first_chunk().unwrap();
    let stated = encode(&(world.people[BOB].key().id(), 0_u32, 1_u64, tip));
    let states = |world: &World| {
        encode(&world.charter.have()).windows(stated.len()).any(|bytes| bytes == stated)
    };
    for [first, second] in [[&one, &other], [&other, &one]] {
        world.charter = start.clone();
        world.charter.take(Piece::Operation(first.clone())).unwrap();
        settle(&mut world);
        world.charter.take(Piece::Operation(second.clone())).unwrap();
        assert!(states(&world), "both are here");
        settle(&mut world);
        assert_eq!(world.charter.operations(), 1, "the first is forgotten");
        assert!(states(&world), "it is still stated");
    }
}

/// [CHARTER-7.4] A newcomer that starts from a snapshot with a settled past agrees with a device
/// that saw everything.
#[test]
fn a_newcomer_with_a_settled_past_agrees() {
    let mut world = World::new(false);
    for number in 9..12 {
        world.by(BOB, hidden(number));
        settle(&mut world);
    }
    let newcomer = Charter::restore(&world.charter.snapshot()).unwrap();
    assert_same(&newcomer, &world.charter);
}

/// A member admitted by a second machine was written before the operation that lists them, so a
/// charter with a first checkpoint could not be read again. A device of the founder's that had come
/// by the recovery words could settle nothing. [CHARTER-7.5]
#[test]
fn whom_a_second_machine_let_in_is_read_again_after_a_checkpoint() {
    let mut world = World::new(false);
    let second = DeviceKey::from_secret(&world.people[CHIEF].keys[1].secret());
    let added = world.add_device(CHIEF, &second);
    world.by(CHIEF, vec![added]);
    let newcomer = DeviceKey::generate(&SeededRandom::new(77));
    let member = world.member(CHIEF);
    let certificate = world.charter.issue(&second, member, newcomer.id(), None).unwrap();
    assert_eq!(world.charter.take(Piece::Certificate(certificate)), Ok(true));
    let listed = world.charter.unlisted(member);
    assert_eq!(listed.len(), 1);
    world.by(CHIEF, vec![Change::Admitted(List::truncated(listed))]);
    for number in 9..11 {
        settle(&mut world);
        assert!(world.charter.owner(newcomer.id()).is_some());
        assert_same(&Charter::restore(&world.charter.snapshot()).unwrap(), &world.charter);
        world.by(BOB, hidden(number));
    }
}

/// The fields of an encoded settled past.
type Past = (
    Cosigned<Checkpoint>,
    State,
    BTreeMap<(DeviceId, u32), (u64, ObjectHash)>,
    Cosigned<Checkpoint>,
    Vec<Signed<MemberCertificate>>,
    Vec<Cosigned<Operation>>,
);

fn unpacked(past: &[u8]) -> Past {
    decode(&zstd::bulk::decompress(past, 1 << 20).unwrap(), 1 << 20).unwrap()
}

fn packed(past: &Past) -> Vec<u8> {
    zstd::bulk::compress(&encode(past), 3).unwrap()
}

/// Takes what `other` has, as a comparison brings it.
pub(crate) fn catch_up(charter: &mut Charter, other: &Charter) {
    for _ in 0..3 {
        let have = charter.have();
        let lacking = other.lacking(&have);
        for (result, piece) in charter.take_all(lacking.clone()).into_iter().zip(lacking) {
            assert!(result.is_ok(), "{result:?} {piece:?}");
        }
        if other.tells_past(&have) {
            assert_eq!(charter.take_past(&other.past().unwrap()), Ok(true));
        }
    }
}

/// A world in which the first operations are forgotten, the next ones are covered, and the last are
/// not.
fn with_a_past() -> World {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    settle(&mut world);
    world.by(BOB, hidden(10));
    world.by(ANN, hidden(11));
    world.by(BOB, hidden(12));
    settle(&mut world);
    world.by(CHIEF, hidden(13));
    world
}

/// [CHARTER-7.5] Others have forgotten the operations from which the newcomer would have to compute
/// it.
#[test]
fn a_newcomer_is_told_the_settled_past() {
    let world = with_a_past();
    let mut newcomer = blank(&world.charter);
    assert!(
        world
            .charter
            .lacking(&newcomer.have())
            .iter()
            .all(|piece| { matches!(piece, Piece::Root(_) | Piece::Certificate(_)) })
    );
    catch_up(&mut newcomer, &world.charter);
    assert_same(&newcomer, &world.charter);
    assert!(!world.charter.lacks_of(&newcomer.have()) && !newcomer.lacks_of(&world.charter.have()));
    // The newcomer sends it to others in turn, and continues like everybody.
    let mut second = blank(&newcomer);
    catch_up(&mut second, &newcomer);
    assert_same(&second, &world.charter);
    let mut later = World { charter: second, ..world };
    later.by(BOB, hidden(14));
    let next = settle(&mut later);
    newcomer.take_all(later.charter.lacking(&newcomer.have()));
    assert!(newcomer.contains(&match next {
        Piece::Checkpoint(next) => next.hash(),
        _ => unreachable!(),
    }));
    assert_same(&newcomer, &later.charter);
    assert_same(&Charter::restore(&newcomer.snapshot()).unwrap(), &newcomer);
    // A device that has it does not take it a second time.
    assert_eq!(newcomer.take_past(&later.charter.past().unwrap()), Ok(false));
}

/// [CHARTER-7.5] What the device made meanwhile, and nobody knew, comes too late.
#[test]
fn who_was_away_for_two_checkpoints_is_told_what_it_missed() {
    let mut world = World::new(false);
    let mut away = world.charter.clone();
    away.take(Piece::Operation(world.sign(world.draft_from(&away, DAN, hidden(15))))).unwrap();
    for number in 9..12 {
        world.by(BOB, hidden(number));
        settle(&mut world);
    }
    world.by(ANN, hidden(12));
    assert!(!away.tells_past(&world.charter.have()));
    catch_up(&mut away, &world.charter);
    assert_same(&away, &world.charter);
}

/// [CHARTER-7.5] [CHARTER-7.22] A newcomer takes only what the root keys have signed.
#[test]
fn a_past_that_was_changed_is_refused() {
    let world = with_a_past();
    let good = world.charter.past().unwrap();
    let mut newcomer = blank(&world.charter);
    newcomer.take_all(world.charter.lacking(&newcomer.have()));
    let before = newcomer.clone();
    let mut take = |change: &dyn Fn(&mut Past)| {
        let mut past = unpacked(&good);
        change(&mut past);
        newcomer.take_past(&packed(&past)).unwrap_err()
    };
    assert_eq!(take(&|it| it.1 = world.charter.state().clone()), PieceError::OtherOutcome);
    assert_eq!(take(&|it| it.2.clear()), PieceError::OtherOutcome);
    assert_eq!(take(&|it| it.3 = it.0.clone()), PieceError::Malformed);
    assert_eq!(take(&|it| it.0 = it.3.clone()), PieceError::Malformed);
    let unsigned = |it: &Cosigned<Checkpoint>| Cosigned::unsigned(it.unverified().clone());
    assert_eq!(take(&|it| it.0 = unsigned(&it.0)), PieceError::Signatures);
    assert_eq!(take(&|it| it.3 = unsigned(&it.3)), PieceError::Signatures);
    // Each operation that is left out is missed, by its author's chain or by the checkpoint.
    let count = unpacked(&good).5.len();
    assert_eq!(count, 3);
    for at in 0..count {
        let error = take(&|it| drop(it.5.remove(at)));
        assert!(matches!(error, PieceError::Malformed | PieceError::Missing(_)), "{at}: {error:?}");
    }
    // An operation that the checkpoint does not cover is one too many.
    let (last, _) = world.charter.log().last().unwrap();
    assert_eq!(take(&|it| it.5.push(last.clone())), PieceError::Malformed);
    let stranger = &world.people[DAN];
    let forged = |it: &mut Past| {
        let mut operation = it.5[0].unverified().clone();
        operation.author = stranger.key().id();
        it.5[0] = Cosigned::unsigned(operation).signed(stranger.key());
    };
    take(&forged);
    assert_eq!(
        take(&|it| it.5[0] = Cosigned::unsigned(it.5[0].unverified().clone())),
        PieceError::Malformed
    );
    assert_eq!(newcomer, before, "nothing of it was kept");
    assert_eq!(
        newcomer.take_past(&good[1..]),
        Err(PieceError::Encoding(hark_keys::DecodeError::Malformed))
    );
    assert_eq!(newcomer.take_past(&good), Ok(true));
}

/// [CHARTER-7.1] Otherwise two devices could come to different ends of one key's chain.
#[test]
fn a_checkpoint_that_leaves_out_a_key_is_refused() {
    let mut world = World::new(false);
    world.by(BOB, hidden(9));
    world.by(ANN, hidden(10));
    let mut checkpoint = world.charter.draft_checkpoint().unwrap();
    let bob = world.people[BOB].key().id();
    let covered = checkpoint.covered.iter().copied().filter(|covered| covered.key != bob);
    checkpoint.covered = List::truncated(covered.collect::<Vec<_>>());
    let piece = signed(&world, checkpoint, &[0]);
    assert_eq!(world.charter.take(piece), Err(PieceError::Malformed));
}

/// The settled past of `world`, in whose state something was replaced. Root keys have signed all of
/// it.
fn with_replaced(world: &World, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut past = unpacked(&world.charter.past().unwrap());
    let mut bytes = encode(&past.1);
    let place = bytes.windows(old.len()).position(|it| it == old).unwrap();
    bytes.splice(place..place + old.len(), new.iter().copied());
    past.1 = decode(&bytes, bytes.len()).unwrap();
    let keys = world.people[FOUNDER].key();
    let sign = |checkpoint: Checkpoint| Cosigned::unsigned(checkpoint).signed(keys);
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 settled");
    hasher.update(&encode(&(&past.1, &past.2)));
    let state = ObjectHash::from_bytes(hasher.finalize().into());
    past.0 = sign(Checkpoint { state, ..past.0.unverified().clone() });
    past.3 = sign(Checkpoint { previous: past.0.hash(), ..past.3.unverified().clone() });
    packed(&past)
}

/// What a newcomer answers to such a past.
fn answer_of_a_newcomer(world: &World, old: &[u8], new: &[u8]) -> Result<bool, PieceError> {
    let mut newcomer = blank(&world.charter);
    newcomer.take_all(world.charter.lacking(&newcomer.have()));
    newcomer.take_past(&with_replaced(world, old, new))
}

/// [CHARTER-7.5] Even root keys cannot send a newcomer into an endless loop.
#[test]
fn a_past_with_channels_in_a_ring_is_refused() {
    let world = with_a_past();
    // Channel 2 lies below channel 1, and then below itself.
    let [below, ring] = [1, 2].map(|at| encode(&(channel_id(2), Place::Channel(channel_id(at)))));
    assert_eq!(answer_of_a_newcomer(&world, &below, &ring), Err(PieceError::Malformed));
}

/// [CHARTER-7.5] Nor can they send it a preset of which there is no version, or a count of removals
/// that would overflow.
#[test]
fn a_past_that_no_operations_lead_to_is_refused() {
    let mut world = World::new(false);
    let nothing = preset(1, &[], vec![]);
    let made = world.by(BOB, vec![Change::Preset(Box::new(nothing.clone())), world.remove(DAN)]);
    settle(&mut world);
    world.by(ANN, hidden(9));
    settle(&mut world);
    let one = encode(&(preset_id(1), vec![(&nothing, made.hash())]));
    let none = encode(&(preset_id(1), Vec::<()>::new()));
    assert_eq!(answer_of_a_newcomer(&world, &one, &none), Err(PieceError::Malformed));
    // Everybody's removals follow those of each member: how many there were of the member, and how
    // many of anybody up to the last of them.
    let counted = |ever: u32| encode(&(world.member(DAN), 1_u32, 1_u32, ever));
    let many = counted(u32::MAX / 2);
    assert_eq!(answer_of_a_newcomer(&world, &counted(1), &many), Err(PieceError::Malformed));
    assert_eq!(answer_of_a_newcomer(&world, &counted(1), &counted(1)), Ok(true));
}

/// [CHARTER-7.5] With a lost key nobody can send newcomers anything.
#[test]
fn a_past_is_told_by_the_newest_root_alone() {
    let mut world = with_a_past();
    let before = world.charter.past().unwrap();
    let document = world.next_root(&[world.people[CHIEF].key().id()], 1);
    let document = Cosigned::unsigned(document)
        .signed(&world.people[FOUNDER].keys[2])
        .signed(world.people[CHIEF].key());
    assert_eq!(world.charter.take(Piece::Root(document)), Ok(true));
    let mut newcomer = blank(&world.charter);
    assert!(!world.charter.tells_past(&newcomer.have()));
    newcomer.take_all(world.charter.lacking(&newcomer.have()));
    assert_eq!(newcomer.take_past(&before), Err(PieceError::Signatures));
}

/// [CHARTER-7.1] The first operations are covered, and the rest by the next checkpoint.
#[test]
fn more_keys_than_a_checkpoint_covers_take_two() {
    let mut world = World::new(false);
    let random = SeededRandom::new(5);
    let mut made = Vec::new();
    for _ in 0..530 {
        let who = world.join(&random);
        made.push(world.sign(world.draft(who, vec![])));
    }
    // Each author knows nothing of the others; the last operation knows them all.
    let results = world.charter.take_all(made.into_iter().map(Piece::Operation));
    assert!(results.iter().all(|result| *result == Ok(true)));
    world.by(BOB, hidden(9));
    let (before, held) = (world.charter.state().clone(), world.charter.operations());
    settle(&mut world);
    assert_eq!((world.charter.checkpoint(), world.charter.operations()), (1, held));
    settle(&mut world);
    assert_eq!(world.charter.checkpoint(), 2);
    assert!((1..=20).contains(&world.charter.operations()), "{}", world.charter.operations());
    assert_eq!(*world.charter.state(), before);
    assert_eq!(world.charter.draft_checkpoint(), None);
    let mut newcomer = blank(&world.charter);
    catch_up(&mut newcomer, &world.charter);
    assert_same(&newcomer, &world.charter);
}

/// [CHARTER-7.4] What the newest checkpoint covers can be cut until there is the next one, which
/// continues from what the newest says. Whoever makes the next one is informed.
#[test]
fn the_next_checkpoint_goes_on_from_what_the_newest_says() {
    let mut world = World::new(false);
    let before = world.draft(ANN, vec![]);
    world.by(ANN, hidden(9));
    settle(&mut world);
    let draft = |world: &World| world.charter.draft_checkpoint().unwrap();
    world.by(BOB, hidden(10));
    assert!(!world.charter.brings_back(&draft(&world)));
    let mut cut = world.draft(CHIEF, hidden(11));
    let member = world.member(ANN);
    let last = List::truncated([(before.author, before.sequence - 1)]);
    cut.cuts = List::truncated([Cut { member, term: 0, last }]);
    assert_eq!(world.take(cut), Ok(true));
    let has = |world: &World, number| world.charter.state().channel(channel_id(number)).is_some();
    assert!(!has(&world, 9) && has(&world, 11), "the cut reaches behind the newest");
    assert!(world.charter.brings_back(&draft(&world)));
    settle(&mut world);
    assert!(has(&world, 9) && has(&world, 11), "and no more");
    let mut newcomer = blank(&world.charter);
    catch_up(&mut newcomer, &world.charter);
    assert_same(&newcomer, &world.charter);
}
