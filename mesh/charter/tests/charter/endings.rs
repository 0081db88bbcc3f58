//! What shows somebody who was away that a membership or a device has ended.

use hark_charter::{Charter, Ending, Piece, content::Change};
use hark_keys::{DeviceKey, ObjectHash};

use crate::checkpoints::settle;
use crate::world::{ANN, BOB, CHIEF, DAN, EVE, EVERYWHERE, World, blank, channel};

fn hidden(number: u8) -> Vec<Change> {
    vec![Change::Channel(channel(number, EVERYWHERE))]
}

fn heads(charter: &Charter) -> Vec<ObjectHash> {
    charter.heads().collect()
}

fn proof(world: &World, who: usize, known: &[ObjectHash], room: usize) -> Option<Vec<Piece>> {
    let device = world.people[who].key().id();
    world.charter.proof_of_ending(world.member(who), device, known, room)
}

fn length(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.encode().len()).sum()
}

/// [PROTO-3.8] [PROTO-3.26]
#[test]
fn a_removal_is_proved_by_what_leads_to_it_and_nothing_later() {
    let mut world = World::new(false);
    let mut away = world.charter.clone();
    let before = world.by(BOB, hidden(9));
    let removal = world.by(CHIEF, vec![world.remove(DAN)]);
    let after = world.by(ANN, hidden(10));
    let [dan, eve] = [DAN, EVE].map(|who| world.people[who].key().id());
    let by = Some(world.member(CHIEF));
    assert_eq!(world.charter.ending(world.member(DAN), dan), Some(Ending::Removed(by)));
    assert_eq!(world.charter.ending(world.member(EVE), eve), None);
    assert_eq!(world.charter.ending(world.member(DAN), eve), None);
    assert_eq!(proof(&world, EVE, &heads(&away), usize::MAX), None);

    let pieces = proof(&world, DAN, &heads(&away), usize::MAX).unwrap();
    let operations: Vec<_> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Operation(operation) => Some(operation.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(operations, [before.clone(), removal.clone()]);
    let results = away.take_all(pieces.clone());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(!away.is_member(world.member(DAN)));
    assert!(!away.contains(&after.hash()));
    // To who knows what the removal is built upon, only the removal is told.
    let news = proof(&world, DAN, &[before.hash()], usize::MAX).unwrap();
    assert_eq!(news.last(), Some(&Piece::Operation(removal)));
    assert!(!news.contains(&Piece::Operation(before)));
    // What does not fit is left out, with all that comes after it.
    assert_eq!(proof(&world, DAN, &[], 0), Some(vec![]));
    let whole = proof(&world, DAN, &[], usize::MAX).unwrap();
    assert_eq!(proof(&world, DAN, &[], length(&whole)), Some(whole.clone()));
    let part = proof(&world, DAN, &[], length(&whole) - 1).unwrap();
    assert!(!part.is_empty() && part.len() < whole.len() && whole.starts_with(&part));
    // It is enough for who knows nothing.
    let mut newcomer = blank(&world.charter);
    let results = newcomer.take_all(whole);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(newcomer.ending(world.member(DAN), dan), Some(Ending::Removed(by)));
}

#[test]
fn a_proof_contains_the_checkpoint_before_the_ending_and_ends_with_the_next() {
    let mut world = World::new(false);
    let mut away = world.charter.clone();
    let known = heads(&away);
    world.by(BOB, hidden(9));
    let covered = heads(&world.charter);
    let newest = settle(&mut world);
    world.by(ANN, hidden(10));
    world.by(CHIEF, vec![world.remove(DAN)]);
    let pieces = proof(&world, DAN, &known, usize::MAX).unwrap();
    let kinds: Vec<_> = pieces.iter().filter(|it| !matches!(it, Piece::Certificate(_))).collect();
    assert!(matches!(kinds[..], [Piece::Checkpoint(_), Piece::Operation(_), Piece::Operation(_)]));
    assert_eq!(*kinds[0], newest);
    // What the checkpoint covers comes from elsewhere.
    let lacking = world.charter.lacking(&away.have());
    away.take_all(lacking.into_iter().filter(|piece| match piece {
        Piece::Operation(operation) => covered.contains(&operation.hash()),
        _ => false,
    }));
    let results = away.take_all(pieces);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(!away.is_member(world.member(DAN)));

    settle(&mut world);
    world.by(ANN, hidden(11));
    settle(&mut world);
    let dan = world.people[DAN].key().id();
    assert_eq!(world.charter.ending(world.member(DAN), dan), Some(Ending::Removed(None)));
    assert_eq!(proof(&world, DAN, &[], usize::MAX), None);
}

#[test]
fn a_retirement_is_proved_by_the_key_that_made_it() {
    let mut world = World::new(false);
    let second = DeviceKey::from_secret(&world.people[BOB].keys[1].secret());
    let (bob, device) = (world.member(BOB), second.id());
    world.by(BOB, vec![world.add_device(BOB, &second)]);
    assert_eq!(world.charter.ending(bob, device), None);
    let known = heads(&world.charter);
    let retired = world.by(BOB, vec![Change::RetireDevice { device, term: 0, last: 0 }]);
    let by = Some(world.people[BOB].key().id());
    assert_eq!(world.charter.ending(bob, device), Some(Ending::Retired(by)));
    let pieces = world.charter.proof_of_ending(bob, device, &known, usize::MAX).unwrap();
    assert_eq!(pieces.last(), Some(&Piece::Operation(retired)));
    assert_eq!(proof(&world, BOB, &known, usize::MAX), None, "the first device is there");
}
