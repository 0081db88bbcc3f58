use hark_charter::content::{Capabilities, Subject};

use super::rights::rule;
use crate::testing::{World, net};
use crate::{
    message::{Message, Move},
    squad::{MessageError, MoveError},
};

/// The founder and two more members. The first of them may move others at nets 1 and 2.
fn world() -> World {
    let mut world = World::together(2);
    let mover = Subject::Member(world.member(1));
    let may = Capabilities::MOVE;
    let changes = [1, 2].map(|at| rule(at, mover, may, Capabilities::NONE));
    world.edit(0, changes.into()).unwrap();
    world
}

fn order(
    world: &mut World,
    by: usize,
    who: usize,
    from: Option<u8>,
    to: u8,
) -> Result<(), MoveError> {
    let (now, member) = (world.now, world.member(who));
    let result = world.nodes[by].squad.move_member(now, member, from.map(net), net(to));
    world.settle();
    result
}

/// [PROTO-6.14]
#[test]
fn whoever_may_moves_a_member_who_is_there() {
    let mut world = world();
    world.listen(2, &[1]);
    assert_eq!(order(&mut world, 1, 2, Some(1), 2), Ok(()));
    let by = world.id(1);
    assert_eq!(world.nodes[2].voice.moved, [(by, Some(net(1)), net(2))]);
    // The driver would now listen elsewhere. Until then the member may be moved again.
    world.listen(2, &[2]);
    assert_eq!(order(&mut world, 1, 2, Some(1), 2), Ok(()));
    assert_eq!(world.nodes[2].voice.moved.len(), 1, "it is not on net 1 any more");
    assert_eq!(order(&mut world, 1, 2, None, 1), Ok(()));
    assert_eq!(world.nodes[2].voice.moved[1], (by, None, net(1)));
    assert!(world.nodes[0].voice.moved.is_empty() && world.nodes[1].voice.moved.is_empty());
}

/// [PROTO-6.14]
#[test]
fn a_move_needs_the_right_at_both_ends_and_gives_none() {
    let mut world = world();
    world.listen(2, &[1, 3]);
    assert_eq!(order(&mut world, 1, 2, Some(1), 3), Err(MoveError::MayNot));
    assert_eq!(order(&mut world, 1, 2, Some(3), 2), Err(MoveError::MayNot));
    assert_eq!(order(&mut world, 2, 1, None, 2), Err(MoveError::MayNot));
    let moved = Subject::Member(world.member(2));
    world.edit(0, vec![rule(2, moved, Capabilities::NONE, Capabilities::LISTEN)]).unwrap();
    assert_eq!(order(&mut world, 1, 2, Some(1), 2), Err(MoveError::MayNotHear));
    let away = world.id(2);
    world.nodes[1].squad.handle_link_down(world.now, away, crate::squad::DownReason::Left);
    assert_eq!(order(&mut world, 1, 2, None, 1), Err(MoveError::NotHere));
    assert!(world.nodes[2].voice.moved.is_empty());
}

/// A mover's claim to the right is not believed: the moved device checks its own charter.
#[test]
fn a_move_of_a_member_without_the_right_is_refused_by_the_one_who_is_moved() {
    let mut world = world();
    world.listen(1, &[1]);
    let (now, liar) = (world.now, world.id(2));
    let bytes = Message::Move(Move { from: Some(net(1)), to: net(2) }).encode();
    assert_eq!(
        world.nodes[1].squad.handle_message(now, liar, &bytes),
        Err(MessageError::Move(MoveError::MayNot))
    );
    assert_eq!(
        world.nodes[1].squad.handle_gossip(now, Some(liar), &bytes),
        Err(MessageError::ByGossip)
    );
    world.settle();
    assert!(world.nodes[1].voice.moved.is_empty());
}
