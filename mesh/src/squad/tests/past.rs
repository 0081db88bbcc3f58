//! Who was not there when checkpoints settled what others have forgotten since.

use hark_keys::{DecodeError, ObjectHash};

use super::*;
use crate::charter::content::{Change, Channel};

/// A channel behind the first, which all are on, with a name that does not shrink.
fn channel(number: usize) -> Channel {
    let hash = ObjectHash::from_bytes(blake3::hash(&number.to_be_bytes()).into());
    let id = ChannelId::from_bytes(*hash.as_bytes().first_chunk().unwrap());
    Channel { order: 1, ..Channel::open(id, &hash.to_string()[..32]) }
}

/// The founder makes `count` channels, and settles them with all that was before.
fn settle(world: &mut World, count: usize) {
    let (now, founder) = (world.now, Arc::clone(&world.nodes[0].key));
    let squad = world.squad(0);
    for number in 0..count {
        let number = 1000 * count + number;
        squad
            .edit(
                now,
                vec![Change::Channel(channel(number)), Change::Channel(channel(number + 500))],
            )
            .unwrap();
    }
    let checkpoint = squad.charter_taken().draft_checkpoint().unwrap();
    let signed = Cosigned::unsigned(checkpoint).signed(&founder);
    assert_eq!(squad.bring(now, vec![Piece::Checkpoint(signed)]), Ok(1));
    world.run_for(SECOND);
}

fn assert_one_charter(world: &mut World) {
    let expected = Arc::clone(world.squad(0).charter());
    for index in 0..world.nodes.len() {
        let charter = world.squad(index).charter();
        assert_eq!(charter.state(), expected.state(), "node {index}");
        assert_eq!(charter.digest(), expected.digest(), "node {index}");
    }
}

/// [CHARTER-7.5] One has never had any operation, the other had some, and was away for two
/// checkpoints. What they are told is longer than a message.
#[test]
fn who_was_not_there_is_told_what_is_settled() {
    for (seed, loss) in [(31, 0), (32, 10), (33, 10)] {
        let mut world = World::new(seed, 4, loss);
        world.start(1);
        world.start(2);
        world.run_for(10 * SECOND);
        settle(&mut world, 1);
        world.run_for(10 * SECOND);
        world.leave(2);
        settle(&mut world, 2);
        settle(&mut world, 250);
        let now = world.now;
        world.squad(0).edit(now, vec![Change::Channel(channel(99))]).unwrap();
        world.run_for(10 * SECOND);
        assert!(world.squad(1).charter().past().unwrap().len() > PAST_PART_BYTES);
        assert_eq!(world.squad(1).charter().checkpoint(), 3);
        world.start(2);
        world.start(3);
        world.run_for(10 * SECOND);
        // What was lost is asked for again by the comparisons.
        world.loss = 0;
        world.run_for(15 * SECOND);
        assert_one_charter(&mut world);
        // They are members like others: one edits, all have it.
        let now = world.now;
        world.squad(0).edit(now, vec![Change::Channel(channel(98))]).unwrap();
        // The founder has made more today than is taken from gossip: comparisons bring it.
        world.run_for(12 * SECOND);
        assert_one_charter(&mut world);
    }
}

/// [CHARTER-7.5] Parts that cannot be are refused, and many of them do not fill the memory.
#[test]
fn parts_of_a_past_are_bounded_and_one_peers_at_a_time() {
    let mut world = room(34, 3, 0);
    let (now, one, other) = (world.now, world.id(1), world.id(2));
    let part = |id: u8, part, parts, bytes: usize| {
        let bytes = List::truncated(std::iter::repeat_n(7, bytes));
        let id = ObjectHash::from_bytes([id; 32]);
        Message::Past(PastPart { id, part, parts, bytes }).encode()
    };
    assert!(part(1, 0, 2, PAST_PART_BYTES).len() <= crate::message::MESSAGE_MAX_BYTES);
    let squad = world.squad(0);
    let malformed = Err(MessageError::Encoding(DecodeError::Malformed));
    for (number, parts) in [(0, 0), (2, 2), (0, PAST_PARTS_MAX + 1)] {
        assert_eq!(squad.handle_message(now, one, &part(1, number, parts, 9)), malformed);
    }
    assert_eq!(squad.handle_message(now, one, &part(1, 0, 2, 9)), Ok(()));
    // Meanwhile another's are not kept, so that this one alone does not make a whole.
    assert_eq!(squad.handle_message(now, other, &part(1, 1, 2, 9)), Ok(()));
    let is_none = Err(MessageError::Piece(PieceError::Encoding(DecodeError::Malformed)));
    assert_eq!(squad.handle_message(now, one, &part(1, 1, 2, 9)), is_none);
    assert_eq!(squad.handle_message(now, one, &part(2, 0, 2, 9)), Ok(()));
    let later = now + 6 * SECOND;
    assert_eq!(squad.handle_message(later, other, &part(3, 0, 1, 9)), is_none);
    assert!(matches!(
        squad.handle_gossip(now, None, &part(3, 0, 1, 9)),
        Err(MessageError::ByGossip)
    ));
}
