//! Members that were absent when checkpoints settled what others have forgotten since.

use hark_charter::content::{Change, Channel};
use hark_keys::{DecodeError, ObjectHash};

use super::*;

/// A channel after the first one, which all are on, with a name that does not shrink.
fn channel(number: usize) -> Channel {
    let hash = ObjectHash::from_bytes(blake3::hash(&number.to_be_bytes()).into());
    let id = ChannelId::from_bytes(*hash.as_bytes().first_chunk().unwrap());
    Channel { order: 1, ..Channel::open(id, &hash.to_string()[..32]) }
}

/// The founder creates four times `count` channels, by fewer operations than are taken from gossip
/// in a day. Then it settles them, with everything before.
fn settle(world: &mut World, count: usize) {
    let (now, founder) = (world.now, Arc::clone(&world.nodes[0].key));
    let squad = world.squad(0);
    for number in 0..count {
        let four = (0..4).map(|part| Change::Channel(channel(1000 * count + number + 250 * part)));
        squad.edit(now, four.collect()).unwrap();
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

/// [CHARTER-7.5] One member has never had any operation. The other had some, and was absent for two
/// checkpoints. What they are sent is longer than a message.
#[test]
fn who_was_not_there_is_told_what_is_settled() {
    for (seed, loss) in [(31, 0), (32, 10), (33, 10)] {
        let mut world = World::friends(seed, 4, loss);
        world.start(1);
        world.start(2);
        world.run_for(10 * SECOND);
        settle(&mut world, 1);
        world.run_for(10 * SECOND);
        world.leave(2);
        settle(&mut world, 2);
        settle(&mut world, 120);
        let now = world.now;
        world.squad(0).edit(now, vec![Change::Channel(channel(99))]).unwrap();
        world.run_for(10 * SECOND);
        assert!(world.squad(1).charter().past().unwrap().len() > PAST_PART_BYTES);
        assert_eq!(world.squad(1).charter().checkpoint(), 3);
        world.start(2);
        world.start(3);
        world.run_for(10 * SECOND);
        // What was lost is requested again by the comparisons.
        world.loss = 0;
        world.run_for(15 * SECOND);
        assert_one_charter(&mut world);
        // They are members like any others: one edits, and all get it.
        let now = world.now;
        world.squad(0).edit(now, vec![Change::Channel(channel(98))]).unwrap();
        // The founder has made more operations today than are taken from gossip. Comparisons bring
        // the rest.
        world.run_for(12 * SECOND);
        assert_one_charter(&mut world);
    }
}

/// [CHARTER-7.5] Regression: a peer, which may have been removed without our knowledge, kept a
/// newcomer from the settled past. It sent the first part of one again and again.
#[test]
fn a_newcomer_is_told_what_is_settled_while_a_peer_repeats_its_first_part() {
    let mut world = World::friends(35, 3, 0);
    world.start(1);
    world.run_for(10 * SECOND);
    settle(&mut world, 1);
    settle(&mut world, 2);
    settle(&mut world, 120);
    assert!(world.squad(0).charter().past().unwrap().len() > PAST_PART_BYTES);
    let (evil, junk) = (world.id(1), [7; PAST_PART_BYTES]);
    let id = ObjectHash::from_bytes([1; 32]);
    let part = PastPart { id, part: 0, parts: 2, bytes: List::truncated(junk) };
    let part = Message::Past(part).encode();
    // The peer itself does not say what it has.
    world.start(2);
    for _ in 0..8 {
        let now = world.now;
        let _ = world.squad(2).handle_message(now, evil, &part);
        world.run_for(2 * SECOND);
    }
    assert_one_charter(&mut world);
}

/// [CHARTER-7.5] Bytes that are not a settled past, or not a part of one, are refused, and are not
/// gossiped.
#[test]
fn what_is_no_past_is_refused() {
    let mut world = room(34, 3, 0);
    let (now, peer) = (world.now, world.id(1));
    let junk = b"no past";
    let part = |parts| {
        let id = ObjectHash::from_bytes(blake3::hash(junk).into());
        let bytes = List::truncated(junk.iter().copied());
        Message::Past(PastPart { id, part: 0, parts, bytes }).encode()
    };
    let squad = world.squad(0);
    for parts in [0, 2, PAST_PARTS_MAX + 1] {
        let handled = squad.handle_message(now, peer, &part(parts));
        assert_eq!(handled, Err(MessageError::Encoding(DecodeError::Malformed)));
    }
    let handled = squad.handle_message(now, peer, &part(1));
    let malformed = MessageError::Piece(PieceError::Encoding(DecodeError::Malformed));
    assert_eq!(outcome(now, squad, handled), Err(malformed));
    assert_eq!(squad.handle_gossip(now, None, &part(1)), Err(MessageError::ByGossip));
}
