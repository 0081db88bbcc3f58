use std::time::Duration;

use hark_keys::{KeySecret, SeededRandom, Signed};
use proptest::prelude::*;

use super::{world::World, *};
use crate::{List, message::KeyMessage};

const SECOND: Duration = Duration::from_secs(1);

fn room(seed: u64, count: usize, loss: u64) -> World {
    let mut world = World::new(seed, count, loss);
    for index in 1..count {
        world.start(index);
        world.run_for(SECOND / 5);
    }
    world.run_for(15 * SECOND);
    world
}

#[test]
fn four_friends_hear_each_other_within_a_second() {
    let mut world = World::new(1, 4, 0);
    for index in 1..4 {
        world.start(index);
    }
    world.run_for(SECOND);
    world.assert_all_hear_each_other();
}

#[test]
fn all_hear_each_other_where_a_third_is_lost() {
    let mut world = room(2, 8, 30);
    world.loss = 0;
    world.run_for(5 * SECOND);
    world.assert_all_hear_each_other();
}

/// [PROTO-6.5]
#[test]
fn who_leaves_opens_nothing_of_what_follows() {
    let mut world = room(3, 4, 0);
    let generations: Vec<_> =
        world.nodes.iter().map(|node| node.own.as_ref().unwrap().generation).collect();
    world.leave(2);
    let gone = world.id(2);
    world.run_for(SECOND / 10);
    assert!(!world.nodes[1].listeners.contains(&gone), "nothing is sent to it at once");
    world.run_for(SECOND * 3 / 2);
    for index in [0, 1, 3] {
        let own = world.nodes[index].own.as_ref().unwrap();
        assert!(own.generation > generations[index]);
        let newest = world.nodes[2].ever[&world.id(index)].last().unwrap();
        assert!(newest.0 < own.generation);
    }
    world.assert_all_hear_each_other();
}

#[test]
fn the_founder_leaves_and_the_others_go_on() {
    let mut world = room(4, 5, 10);
    world.leave(0);
    world.run_for(5 * SECOND);
    world.assert_all_hear_each_other();
    // Somebody new comes by way of those who stayed.
    world.leave(4);
    world.run_for(5 * SECOND);
    world.start(4);
    world.run_for(15 * SECOND);
    world.assert_all_hear_each_other();
}

#[test]
fn a_crashed_node_comes_back_with_a_generation_never_used_before() {
    let mut world = room(5, 3, 0);
    let before = world.nodes[1].own.as_ref().unwrap().generation;
    world.crash(1);
    world.run_for(5 * SECOND);
    let crashed = world.id(1);
    assert!(world.nodes[0].unreachable.contains(&crashed));
    assert!(world.nodes[0].roster.contains(&crashed), "it may still hold the key");
    assert!(!world.nodes[0].listeners.contains(&crashed));
    world.start(1);
    world.run_for(10 * SECOND);
    assert!(world.nodes[1].own.as_ref().unwrap().generation > before);
    world.assert_all_hear_each_other();
}

/// [PROTO-2.5] A talker that starts anew may count its generations from the beginning.
#[test]
fn the_key_of_an_earlier_run_counts_no_more() {
    let mut world = room(17, 2, 0);
    let (now, talker) = (world.now, world.id(1));
    let again = world.hello(1);
    let restarted = PeerHello { incarnation: again.incarnation ^ 1, ..again.clone() };
    let squad = world.squad(0);
    let gone = Event::TalkerGone { device: talker };
    squad.handle_link_up(now, again, None);
    assert!(!std::iter::from_fn(|| squad.poll_event()).any(|event| event == gone));
    squad.handle_link_up(now, restarted, None);
    assert!(std::iter::from_fn(|| squad.poll_event()).any(|event| event == gone));
}

/// [PROTO-2.7]
#[test]
fn a_silent_peer_keeps_the_key_for_as_long_as_its_link() {
    let mut world = room(6, 3, 0);
    let (own, silent) = (world.nodes[0].own.clone(), world.id(1));
    world.block(0, 1);
    world.run_for(4 * SECOND + SECOND / 2);
    assert!(world.nodes[0].unreachable.contains(&silent));
    assert_eq!(world.nodes[0].own, own);
    world.run_for(20 * SECOND);
    assert_eq!(world.nodes[0].own, own);
    world.unblock_all();
    world.run_for(2 * SECOND);
    assert_eq!(world.nodes[0].own, own, "nothing had to change");
    world.assert_all_hear_each_other();
    world.block(0, 1);
    world.run_for(40 * SECOND);
    assert!(world.nodes[0].own.as_ref().unwrap().generation > own.unwrap().generation);
    assert!(!world.nodes[0].roster.contains(&silent));
    world.unblock_all();
    world.run_for(45 * SECOND);
    world.assert_all_hear_each_other();
}

/// [PROTO-6.6]
#[test]
fn a_step_ends_after_sixty_seconds_of_use_and_a_generation_after_eight_steps() {
    let mut world = room(7, 2, 0);
    let number = |world: &World| {
        let own = world.nodes[0].own.as_ref().unwrap();
        (own.generation, own.step)
    };
    let unused = number(&world);
    world.run_for(120 * SECOND);
    assert_eq!(number(&world), unused, "what seals nothing stays");
    for _ in 0..10 {
        let before = number(&world);
        world.talk(0);
        world.run_for(59 * SECOND);
        assert_eq!(number(&world), before);
        world.run_for(2 * SECOND);
        let (generation, step) = before;
        let next = if step == 7 { (generation + 1, 0) } else { (generation, step + 1) };
        assert_eq!(number(&world), next);
        world.assert_all_hear_each_other();
    }
}

#[test]
fn leaves_at_the_same_time_make_one_new_generation() {
    let mut world = room(8, 5, 0);
    let before = world.nodes[0].own.as_ref().unwrap().generation;
    world.leave(2);
    world.leave(3);
    world.run_for(3 * SECOND);
    assert_eq!(world.nodes[0].own.as_ref().unwrap().generation, before + 1);
    world.assert_all_hear_each_other();
}

#[test]
fn a_new_name_reaches_all() {
    let mut world = room(9, 3, 20);
    let now = world.now;
    world.squad(1).set_name(now, "Ann\u{0}");
    world.run_for(30 * SECOND);
    let ann = world.id(1);
    for index in 0..3 {
        assert_eq!(world.squad(index).directory().record(ann).unwrap().name, "Ann\u{fffd}");
    }
}

/// A node whose disk was lost starts with record number 1 again, which nobody would take.
#[test]
fn a_lost_disk_does_not_silence_a_member() {
    let mut world = room(10, 3, 0);
    let now = world.now;
    world.squad(1).set_name(now, "before");
    world.run_for(3 * SECOND);
    world.leave(1);
    world.lose_directory(1);
    world.run_for(3 * SECOND);
    world.start(1);
    world.run_for(15 * SECOND);
    world.assert_all_hear_each_other();
}

/// Of two links that were made at once only one survives, perhaps not the one the records took.
#[test]
fn records_that_did_not_arrive_come_again_soon() {
    let mut world = World::new(12, 2, 0);
    world.start(1);
    world.run_for(3 * SECOND);
    let (now, peer) = (world.now, world.id(1));
    let squad = world.squad(0);
    let sends_records = |squad: &mut Squad, now| {
        squad.handle_timeout(now);
        let mut sent = std::iter::from_fn(|| squad.poll_transmit());
        sent.any(|one| matches!(one, Transmit::Message { to, id: 0, .. } if to == peer))
    };
    assert!(!sends_records(squad, now + SECOND));
    squad.handle_failed(now + SECOND, peer, 0);
    assert!(!sends_records(squad, now + SECOND));
    assert!(sends_records(squad, now + 2 * SECOND));
    assert!(!sends_records(squad, now + 4 * SECOND));
}

#[test]
fn keys_that_are_not_the_peers_own_are_refused() {
    let mut world = room(11, 3, 0);
    let (now, own, peer, other) = (world.now, world.id(0), world.id(1), world.id(2));
    let channel = world.squad(0).charter().channel().id;
    let key = Arc::clone(&world.nodes[1].key);
    let random = SeededRandom::new(12);
    let good = KeyMessage {
        channel,
        sender: peer,
        secret: KeySecret::generate(9_000, &random),
        recipients: {
            let mut recipients = vec![own, other];
            recipients.sort();
            List::truncated(recipients)
        },
    };
    let mut take = |from, message: &KeyMessage| {
        let message = Message::Key(Signed::sign(message.clone(), &key)).encode();
        world.squad(0).handle_message(now, from, &message)
    };
    let mut unordered = good.recipients.to_vec();
    unordered.reverse();
    let unordered = KeyMessage { recipients: List::truncated(unordered), ..good.clone() };
    let twice = KeyMessage { recipients: List::truncated([own, own]), ..good.clone() };
    let not_ours = KeyMessage { recipients: List::truncated([other]), ..good.clone() };
    let elsewhere =
        KeyMessage { channel: hark_keys::ChannelId::from_bytes([0; 16]), ..good.clone() };
    let mut secret = good.secret.clone();
    secret.step = 16;
    let unnameable = KeyMessage { secret, ..good.clone() };
    assert_eq!(take(other, &good), Err(MessageError::OtherSender));
    assert_eq!(take(own, &good), Err(MessageError::NotLinked));
    assert_eq!(take(peer, &unordered), Err(MessageError::Unordered));
    assert_eq!(take(peer, &twice), Err(MessageError::Unordered));
    assert_eq!(take(peer, &not_ours), Err(MessageError::NotRecipient));
    assert_eq!(take(peer, &elsewhere), Err(MessageError::OtherChannel));
    assert_eq!(take(peer, &unnameable), Err(MessageError::Unnameable));
    assert_eq!(take(peer, &good), Ok(()));
    let mut forged = Message::Key(Signed::sign(good.clone(), &key)).encode();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        world.squad(0).handle_message(now, peer, &forged),
        Err(MessageError::Signature(_))
    ));
    let gossip = Message::Key(Signed::sign(good, &key)).encode();
    assert_eq!(world.squad(0).handle_gossip(now, &gossip), Err(MessageError::KeyByGossip));
}

/// Somebody on a talker's list of whom we know nothing is reported rather than hidden.
#[test]
fn an_unknown_recipient_is_reported() {
    let mut world = room(13, 2, 0);
    let (now, own, peer) = (world.now, world.id(0), world.id(1));
    let random = SeededRandom::new(14);
    let stranger = DeviceKey::generate(&random).id();
    let mut recipients = vec![own, stranger];
    recipients.sort();
    let message = KeyMessage {
        channel: world.squad(0).charter().channel().id,
        sender: peer,
        secret: KeySecret::generate(9_000, &random),
        recipients: List::truncated(recipients.clone()),
    };
    let message = Message::Key(Signed::sign(message, &world.nodes[1].key)).encode();
    let squad = world.squad(0);
    squad.handle_message(now, peer, &message).unwrap();
    let roster = Event::TalkerRoster { device: peer, devices: recipients, unknown: vec![stranger] };
    assert!(std::iter::from_fn(|| squad.poll_event()).any(|event| event == roster));
}

/// A squad of 64 others is full: one more is not served, and nobody else is dialled.
#[test]
fn a_full_squad_takes_no_more() {
    let random = SeededRandom::new(16);
    let mut world = World::new(15, 1, 0);
    let now = world.now;
    let hello = |device| PeerHello {
        device,
        member: hark_keys::MemberId::from_bytes([0; 32]),
        chain: CertificateChain::default(),
        name: "somebody".to_owned(),
        incarnation: 1,
        addresses: Vec::new(),
        heads: Vec::new(),
    };
    let squad = world.squad(0);
    squad.handle_discovered(now, None, &["192.0.2.9:9".parse().unwrap()]);
    for _ in 0..LINKS_MAX {
        assert!(!squad.is_full());
        squad.handle_link_up(now, hello(DeviceKey::generate(&random).id()), None);
    }
    assert!(squad.is_full());
    assert_eq!(squad.poll_dial(now), None);
    let late = DeviceKey::generate(&random).id();
    squad.handle_link_up(now, hello(late), None);
    assert!(!squad.is_member(late));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens, nobody hears what it should not, and in the end all hear each other.
    #[test]
    fn any_history_ends_well(seed in any::<u64>(), count in 2..6usize, loss in 0..35u64) {
        let mut world = World::new(seed, count, loss);
        for _ in 0..25 {
            let (chance, index) = (world.below(10), world.below(count as u64) as usize);
            let other = world.below(count as u64) as usize;
            let others_up = (0..count).any(|other| other != index && world.is_up(other));
            match chance {
                0..4 => world.start(index),
                4 if others_up => world.leave(index),
                5 if others_up => world.crash(index),
                6 => world.block(index, other),
                7 => world.unblock_all(),
                _ => world.talk(index),
            }
            let pause = [30, 300, 3_000, 10_000][world.below(4) as usize];
            world.run_for(Duration::from_millis(world.below(pause)));
        }
        world.unblock_all();
        for index in 0..count {
            world.start(index);
        }
        world.run_for(150 * SECOND);
        // Four heartbeats in a row can be lost at any time.
        world.loss = 0;
        world.run_for(5 * SECOND);
        world.assert_all_hear_each_other();
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut world = World::new(1, 1, 0);
        prop_assert!(world.squad(0).handle_gossip(Timestamp::ZERO, &bytes).is_err() || bytes == [1, 0]);
    }
}
