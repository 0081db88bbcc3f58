//! What is settled stays settled.

use hark_keys::{Cosigned, List, ObjectHash};
use hark_mesh::charter::{Charter, Checkpoint, Piece, PieceError, content::Change};

use crate::world::{ANN, BOB, CHIEF, DAN, EVERYWHERE, FOUNDER, World, assert_same, channel};

fn hidden(number: u8) -> Vec<Change> {
    vec![Change::Channel(channel(number, EVERYWHERE))]
}

fn signed(world: &World, checkpoint: Checkpoint, keys: &[usize]) -> Piece {
    let unsigned = Cosigned::unsigned(checkpoint);
    let keys = keys.iter().map(|key| &world.people[FOUNDER].keys[*key]);
    Piece::Checkpoint(keys.fold(unsigned, Cosigned::signed))
}

fn settle(world: &mut World) -> Piece {
    let checkpoint = world.charter.draft_checkpoint().unwrap();
    let piece = signed(world, checkpoint, &[0]);
    assert_eq!(world.charter.take(piece.clone()), Ok(true));
    piece
}

/// [CHARTER-7.1] [CHARTER-7.4] The first settles, the second forgets, and neither changes what holds.
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
    // Numbers go on where they were.
    let last = world.by(BOB, hidden(12));
    assert_eq!(last.unverified().sequence, 3);
}

/// [CHARTER-7.3] What hangs on what is settled comes too late, and so does what hangs on that.
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
    // One checkpoint later it is in time.
    let mut in_time = world.charter.clone();
    assert_eq!(in_time.take(Piece::Operation(late.clone())), Ok(true));
    world.by(ANN, hidden(12));
    let second = settle(&mut world);
    assert_eq!(world.charter.take(Piece::Operation(late.clone())), Err(PieceError::Late));
    assert_eq!(world.charter.take(Piece::Operation(after.clone())), Err(PieceError::Late));
    // Who holds them lets go of them when it learns of the checkpoints.
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
    // The second device is no root key.
    assert_eq!(take(&|_| (), &[0, 1]), Err(PieceError::Signatures));
    let wrong = |it: &mut Checkpoint| {
        let mut covered = it.covered.to_vec();
        covered[0].sequence += 1;
        it.covered = List::truncated(covered);
    };
    assert_eq!(take(&wrong, &[0]), Err(PieceError::Malformed));
    assert_eq!(take(&|_| (), &[0]), Ok(true));
}

/// [CHARTER-7.2] Of two of one number all come to the same.
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

/// [CHARTER-7.1] A proof of equivocation that the root keys did not know makes nobody refuse what
/// they have settled.
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

/// [CHARTER-7.4] A newcomer who starts from a snapshot with a settled past agrees with one who saw
/// everything.
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
