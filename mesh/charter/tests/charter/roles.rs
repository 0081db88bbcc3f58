//! What becomes of roles.

use hark_charter::{
    Denial, Operation, Piece, Verdict,
    content::{Capabilities, Change},
};

use crate::world::{ANN, BOB, CHIEF, DAN, FOUNDER, World, assert_as_model, role, role_id};

/// [CHARTER-5.7] An officer who did not know of the removal brings a removed role back, if it
/// stands as high as the officer who removed it. Nobody else does.
#[test]
fn a_removed_role_comes_back_only_by_who_did_not_know_and_stands_as_high() {
    let mut world = World::new(false);
    let made = || vec![Change::Role(role(4, 100, Capabilities::NONE))];
    world.by(FOUNDER, made());
    // Each makes the role again, after an operation with which that comes after the removal.
    let unaware = [CHIEF, BOB, DAN].map(|who| {
        let mut apart = world.charter.clone();
        let first = world.sign(world.draft_from(&apart, who, vec![]));
        apart.take(Piece::Operation(first.clone())).unwrap();
        [first, world.sign(world.draft_from(&apart, who, made()))]
    });
    world.by(ANN, vec![Change::RemoveRole(role_id(4))]);
    let judged = |world: &mut World, made: Operation| {
        let made = world.sign(made);
        world.charter.take(Piece::Operation(made.clone())).unwrap();
        let Verdict::Judged(_, judged) = world.verdict(&made) else { panic!("it stands") };
        assert_as_model(&world.charter);
        let there = world.charter.state().role(role_id(4)).is_some();
        (judged[0], there)
    };
    let removed = world.charter.clone();
    let expected = [(Ok(()), true), (Ok(()), true), (Err(Denial::Absent), false)];
    for ([first, again], expected) in unaware.into_iter().zip(expected) {
        world.charter = removed.clone();
        world.charter.take(Piece::Operation(first)).unwrap();
        assert_eq!(judged(&mut world, again.unverified().clone()), expected);
    }
    for who in [CHIEF, ANN] {
        world.charter = removed.clone();
        let knows = world.draft(who, made());
        assert_eq!(judged(&mut world, knows), (Err(Denial::Absent), false));
    }
}
