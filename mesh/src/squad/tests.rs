use std::time::Duration;

use hark_charter::{
    PROOF_PIECES_MAX,
    content::{Capabilities, Channel, Place, Rule, Subject},
};
use hark_keys::{EpochDealer, KeySecret, SeededRandom, Signed};
use proptest::prelude::*;

use super::*;
use crate::{
    List,
    epoch::TalkersKey,
    hello::PeerHello,
    message::{KeyMessage, Message, PAST_PART_BYTES, PAST_PARTS_MAX, PastPart, Topic},
    testing::{World, outcome, work},
};

mod availabilities;
mod budgets;
mod checks;
mod flood;
mod moves;
mod past;
mod paths;
mod records;
mod relaying;
mod rights;

const SECOND: Duration = Duration::from_secs(1);

fn room(seed: u64, count: usize, loss: u64) -> World {
    let mut world = World::friends(seed, count, loss);
    for index in 1..count {
        world.start(index);
        world.run_for(SECOND / 5);
    }
    world.run_for(15 * SECOND);
    world
}

/// With paths of up to 150 ms each way, for any seed.
#[test]
fn four_friends_hear_each_other_within_two_seconds() {
    for seed in 0..40 {
        let mut world = World::friends(seed, 4, 0);
        for index in 1..4 {
            world.start(index);
        }
        world.run_for(2 * SECOND);
        world.assert_all_hear_each_other();
    }
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
        world.nodes.iter().map(|node| node.voice.own_key().unwrap().generation).collect();
    world.leave(2);
    let gone = world.id(2);
    world.run_for(SECOND / 10);
    assert!(
        !world.nodes[1].voice.plan().listeners().contains(&gone),
        "nothing is sent to it at once"
    );
    world.run_for(SECOND * 3 / 2);
    for index in [0, 1, 3] {
        let own = world.nodes[index].voice.own_key().unwrap();
        assert!(own.generation > generations[index]);
        let target = *world.nodes[index].voice.own.keys().next().unwrap();
        let newest = world.nodes[2].ever[&(world.id(index), target)].last().unwrap();
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
    // A new member comes in through those that have stayed.
    world.leave(4);
    world.run_for(5 * SECOND);
    world.start(4);
    world.run_for(15 * SECOND);
    world.assert_all_hear_each_other();
}

#[test]
fn a_crashed_node_comes_back_with_a_generation_never_used_before() {
    let mut world = room(5, 3, 0);
    let before = world.nodes[1].voice.own_key().unwrap().generation;
    world.crash(1);
    world.run_for(5 * SECOND);
    let crashed = world.id(1);
    assert!(world.nodes[0].voice.unreachable.contains(&crashed));
    assert!(world.nodes[0].voice.roster().contains(&crashed), "it may still hold the key");
    assert!(!world.nodes[0].voice.plan().listeners().contains(&crashed));
    world.start(1);
    world.run_for(10 * SECOND);
    assert!(world.nodes[1].voice.own_key().unwrap().generation > before);
    world.assert_all_hear_each_other();
}

/// [PROTO-2.5] A talker that has restarted may count its generations from the beginning.
#[test]
fn the_key_of_an_earlier_run_counts_no_more() {
    let mut world = room(17, 2, 0);
    let (now, talker) = (world.now, world.id(1));
    let again = world.hello(1);
    let restarted = PeerHello { incarnation: again.incarnation ^ 1, ..again.clone() };
    let squad = world.squad(0);
    let gone = SquadEvent::TalkerGone { device: talker };
    squad.handle_link_up(now, again, None);
    assert!(!std::iter::from_fn(|| squad.poll_event()).any(|event| event == gone));
    squad.handle_link_up(now, restarted, None);
    assert!(std::iter::from_fn(|| squad.poll_event()).any(|event| event == gone));
}

/// [PROTO-2.7]
#[test]
fn a_silent_peer_keeps_the_key_for_as_long_as_its_link() {
    let mut world = room(6, 3, 0);
    let (own, silent) = (world.nodes[0].voice.own_key().cloned(), world.id(1));
    world.block(0, 1);
    world.run_for(4 * SECOND + SECOND / 2);
    assert!(world.nodes[0].voice.unreachable.contains(&silent));
    assert_eq!(world.nodes[0].voice.own_key().cloned(), own);
    world.run_for(20 * SECOND);
    assert_eq!(world.nodes[0].voice.own_key().cloned(), own);
    world.unblock_all();
    world.run_for(2 * SECOND);
    assert_eq!(world.nodes[0].voice.own_key().cloned(), own, "nothing had to change");
    world.assert_all_hear_each_other();
    world.block(0, 1);
    world.run_for(40 * SECOND);
    assert!(world.nodes[0].voice.own_key().unwrap().generation > own.unwrap().generation);
    assert!(!world.nodes[0].voice.roster().contains(&silent));
    world.unblock_all();
    world.run_for(45 * SECOND);
    world.assert_all_hear_each_other();
}

/// [PROTO-6.6]
#[test]
fn a_step_ends_after_sixty_seconds_of_use_and_a_generation_after_eight_steps() {
    let mut world = room(7, 2, 0);
    let number = |world: &World| {
        let own = world.nodes[0].voice.own_key().unwrap();
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
    let before = world.nodes[0].voice.own_key().unwrap().generation;
    world.leave(2);
    world.leave(3);
    world.run_for(3 * SECOND);
    assert_eq!(world.nodes[0].voice.own_key().unwrap().generation, before + 1);
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

/// A node that has lost its disk starts with record number 1 again, which nobody would accept.
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

/// If two links are made at once, only one survives. It may not be the one that the records took.
#[test]
fn records_that_did_not_arrive_come_again_soon() {
    let mut world = World::friends(12, 2, 0);
    world.start(1);
    world.run_for(3 * SECOND);
    let (now, peer) = (world.now, world.id(1));
    let squad = world.squad(0);
    let records_sent = |squad: &mut Squad, now| {
        squad.handle_timeout(now);
        let sent = std::iter::from_fn(|| squad.poll_transmit());
        let ids = sent.filter_map(|one| match one {
            SquadTransmit::Message { to, id, bytes } if to == peer => {
                matches!(Message::decode(&bytes), Ok(Message::Records(_))).then_some(id)
            }
            _ => None,
        });
        ids.last()
    };
    let id = records_sent(squad, now + 10 * SECOND).expect("all records, now and then");
    assert_eq!(records_sent(squad, now + 11 * SECOND), None);
    squad.handle_failed(now + 11 * SECOND, peer, id);
    assert_eq!(records_sent(squad, now + 11 * SECOND), None);
    assert!(records_sent(squad, now + 12 * SECOND).is_some());
    assert_eq!(records_sent(squad, now + 14 * SECOND), None);
}

/// [PROTO-6.4] [PROTO-6.8]
#[test]
fn keys_that_are_not_the_peers_own_are_refused() {
    let mut world = room(11, 3, 0);
    let (now, own, peer, other) = (world.now, world.id(0), world.id(1), world.id(2));
    let member = world.squad(0).member();
    let channel = world.squad(0).charter().first_channel(member.unwrap()).unwrap().id;
    let target = Target::of_channel(channel);
    let key = Arc::clone(&world.nodes[1].key);
    let random = SeededRandom::new(12);
    let good = KeyMessage {
        target,
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
    let nowhere = KeyMessage { target: Target::default(), ..good.clone() };
    let mut secret = good.secret.clone();
    secret.step = 16;
    let unnameable = KeyMessage { secret, ..good.clone() };
    assert_eq!(take(other, &good), Err(MessageError::OtherSender));
    assert_eq!(take(own, &good), Err(MessageError::NotLinked));
    assert_eq!(take(peer, &unordered), Err(MessageError::Unordered));
    assert_eq!(take(peer, &twice), Err(MessageError::Unordered));
    assert_eq!(take(peer, &not_ours), Err(MessageError::NotRecipient));
    assert_eq!(take(peer, &nowhere), Err(MessageError::Unordered));
    assert_eq!(take(peer, &unnameable), Err(MessageError::Unnameable));
    assert_eq!(take(peer, &good), Ok(Handled::Done));
    let mut forged = Message::Key(Signed::sign(good.clone(), &key)).encode();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        world.squad(0).handle_message(now, peer, &forged),
        Err(MessageError::Signature(_))
    ));
    let gossip = Message::Key(Signed::sign(good, &key)).encode();
    let by_gossip = world.squad(0).handle_gossip(now, Some(peer), &gossip);
    assert_eq!(by_gossip, Err(MessageError::ByGossip));
}

/// [PROTO-5.2]
#[test]
fn pieces_of_the_charter_have_a_topic_of_their_own() {
    let pieces = Message::Pieces(List::truncated([1, 2, 3]));
    let records = Message::Records(List::truncated([]));
    assert_eq!(Topic::of(&pieces.encode()), Topic::Charter);
    assert_eq!(Topic::of(&records.encode()), Topic::Presence);
    assert_eq!(Topic::of(&[]), Topic::Presence);
}

/// [PROTO-2.13] For all other messages sent in tests, this is asserted where they are encoded.
#[test]
fn messages_with_keys_are_told_by_their_first_byte() {
    let key = DeviceKey::generate(&SeededRandom::new(14));
    let message = KeyMessage {
        target: Target::of_channel(ChannelId::from_bytes([1; 16])),
        sender: key.id(),
        secret: KeySecret::generate(1, &SeededRandom::new(15)),
        recipients: List::truncated([key.id()]),
    };
    assert!(Message::holds_key(&Message::Key(Signed::sign(message, &key)).encode()));
    // Regression: a talker's key in an epoch stayed in the buffer that opens a recorded link for
    // twenty seconds.
    let target = Target::of_channel(ChannelId::from_bytes([1; 16]));
    let epoch = EpochDealer::generate(&SeededRandom::new(16)).secret([1; 32]);
    let given = TalkersKey { target: target.clone(), key: epoch.key_of(target.id(), key.id(), 0) };
    assert!(Message::holds_key(&Message::TalkersKey(Box::new(given)).encode()));
    assert!(!Message::holds_key(&Message::Draining(true).encode()));
    assert!(!Message::holds_key(&[]));
}

/// A device on a talker's list that we know nothing about is reported, not hidden.
#[test]
fn an_unknown_recipient_is_reported() {
    let mut world = room(13, 2, 0);
    let (now, own, peer) = (world.now, world.id(0), world.id(1));
    let random = SeededRandom::new(14);
    let stranger = DeviceKey::generate(&random).id();
    let mut recipients = vec![own, stranger];
    recipients.sort();
    let member = world.squad(0).member();
    let channel = world.squad(0).charter().first_channel(member.unwrap()).unwrap().id;
    let message = KeyMessage {
        target: Target::of_channel(channel),
        sender: peer,
        secret: KeySecret::generate(9_000, &random),
        recipients: List::truncated(recipients.clone()),
    };
    let message = Message::Key(Signed::sign(message, &world.nodes[1].key)).encode();
    let squad = world.squad(0);
    squad.handle_message(now, peer, &message).unwrap();
    let roster =
        SquadEvent::TalkerRoster { device: peer, devices: recipients, unknown: vec![stranger] };
    assert!(std::iter::from_fn(|| squad.poll_event()).any(|event| event == roster));
}

/// A squad with 64 others is full. One more is not served, and nobody else is dialled.
#[test]
fn a_full_squad_takes_no_more() {
    let random = SeededRandom::new(16);
    let mut world = World::friends(15, 1, 0);
    let now = world.now;
    let key = Arc::clone(&world.nodes[0].key);
    let squad = world.squad(0);
    let charter = Arc::clone(squad.charter());
    let hello = || {
        let device = DeviceKey::generate(&random).id();
        let issued = charter.issue(&key, charter.member_of(key.id()), device, None);
        PeerHello {
            device,
            member: Some(charter.member_of(device)),
            chain: charter.chain_with(issued.unwrap()),
            added: Vec::new(),
            name: "somebody".to_owned(),
            incarnation: 1,
            addresses: Vec::new(),
            digest: charter.digest(),
            listening: Vec::new(),
        }
    };
    squad.handle_discovered(now, None, &["192.0.2.9:9".parse().unwrap()]);
    for _ in 0..LINKS_MAX {
        assert!(!squad.is_full());
        squad.handle_link_up(now, hello(), None);
    }
    assert!(squad.is_full());
    assert_eq!(squad.poll_dial(now), None);
    let late = hello();
    let device = late.device;
    squad.handle_link_up(now, late, None);
    assert_eq!(squad.member_of(device), None);
}

/// Removes members on the founder's device, whose disk is quick. Returns the devices that were then
/// sent a key.
fn remove(world: &mut World, indices: &[usize]) -> Vec<DeviceId> {
    let members: Vec<_> = indices.iter().map(|index| world.member(*index)).collect();
    let remove = |member| Change::Remove { member, admission: 1 };
    change(world, members.into_iter().map(remove).collect())
}

/// The same for any changes.
fn change(world: &mut World, changes: Vec<Change>) -> Vec<DeviceId> {
    let now = world.now;
    let squad = world.squad(0);
    squad.edit(now, changes).unwrap();
    let mut keyed = Vec::new();
    while let Some(persist) = squad.poll_persist() {
        match persist {
            Persist::Charter(number, _) => squad.handle_charter_persisted(now, number),
            Persist::Generation(target, generation) => {
                squad.handle_persisted(now, target, generation);
            }
        }
        keyed.extend(std::iter::from_fn(|| squad.poll_transmit()).filter_map(|sent| match sent {
            SquadTransmit::Message { to, bytes, .. } => {
                matches!(Message::decode(&bytes), Ok(Message::Key(_))).then_some(to)
            }
            SquadTransmit::Gossip(_)
            | SquadTransmit::Datagram { .. }
            | SquadTransmit::Check { .. } => None,
        }));
    }
    keyed
}

/// Regression: the key that replaced the key of one removed member was given to the other.
/// [PROTO-6.9]
#[test]
fn two_who_are_removed_at_once_are_given_no_further_key() {
    let mut world = room(18, 4, 0);
    assert_eq!(remove(&mut world, &[1, 2]), [world.id(3)]);
    let (removed, squad) = ([world.id(1), world.id(2)], world.squad(0));
    assert!(removed.iter().all(|device| squad.member_of(*device).is_none()));
}

/// The same if the other one remains a member, without a right. [PROTO-6.9]
#[test]
fn who_is_silenced_as_another_is_removed_is_given_no_further_key() {
    let mut world = room(22, 4, 0);
    let (removed, silenced) = (world.member(1), world.member(2));
    let silence = Rule {
        at: Place::Organisation,
        subject: Subject::Member(silenced),
        allow: Capabilities::NONE,
        deny: Capabilities::LISTEN,
    };
    let changes = vec![Change::Remove { member: removed, admission: 1 }, Change::Rule(silence)];
    assert_eq!(change(&mut world, changes), [world.id(3)]);
}

/// Its Hello was accepted by the charter of a moment before.
#[test]
fn who_was_removed_before_its_link_stood_is_evicted() {
    let mut world = room(19, 2, 0);
    let (now, device, hello) = (world.now, world.id(1), world.hello(1));
    world.squad(0).handle_link_down(now, device, DownReason::Left);
    remove(&mut world, &[1]);
    let squad = world.squad(0);
    while squad.poll_event().is_some() {}
    squad.handle_link_up(now, hello, None);
    assert_eq!(squad.member_of(device), None);
    assert_eq!(squad.poll_event(), Some(SquadEvent::Evicted { device }));
    assert_eq!(squad.poll_transmit(), None);
}

/// Regression: everybody went on dialling it, every half minute, without end.
#[test]
fn who_was_evicted_is_not_dialled() {
    let mut world = room(23, 3, 0);
    let (now, device) = (world.now, world.id(1));
    let address = "192.0.2.7:40001".parse().unwrap();
    world.squad(0).handle_discovered(now, Some(device), &[address]);
    remove(&mut world, &[1]);
    let squad = world.squad(0);
    squad.handle_timeout(now + Duration::from_secs(40));
    assert_eq!(squad.poll_dial(now + Duration::from_secs(40)), None);
}

/// Regression: a member whose nets came from a preset heard nothing any more after the preset was
/// unloaded.
#[test]
fn who_has_chosen_and_chooses_no_more_hears_the_first_channel() {
    let mut world = room(29, 2, 0);
    let now = world.now;
    let squad = world.squad(0);
    let first = squad.listening().clone();
    assert_eq!(first.len(), 1);
    squad.set_listening(now, []);
    assert!(squad.listening().is_empty());
    squad.listen_to_first(now);
    assert_eq!(*squad.listening(), first);
}

/// Regression: anybody could block an officer's operations by sending others in his name.
#[test]
fn what_an_author_has_not_signed_does_not_count_against_it() {
    let mut world = World::friends(20, 1, 0);
    let (now, founder) = (world.now, Arc::clone(&world.nodes[0].key));
    let squad = world.squad(0);
    let channel = |number| Channel::open(ChannelId::from_bytes([number; 16]), "Alpha");
    let charter = Arc::clone(squad.charter());
    let good =
        charter.edit(&founder, squad.member().unwrap(), vec![Change::Channel(channel(1))]).unwrap();
    let gossip = |squad: &mut Squad, operation| {
        let [message] = &crate::pack::pack([Piece::Operation(operation)])[..] else {
            panic!("one piece fits one message");
        };
        let handled = squad.handle_gossip(now, None, &message.encode());
        outcome(now, squad, handled)
    };
    let other = DeviceKey::generate(&SeededRandom::new(21));
    for number in 0..250 {
        let mut operation = good.unverified().clone();
        operation.changes = List::truncated([Change::Channel(channel(number))]);
        let forged = Cosigned::unsigned(operation).signed(&other);
        assert!(matches!(gossip(squad, forged), Err(MessageError::Piece(_))));
    }
    assert_eq!(gossip(squad, good), Ok(()));
    assert_eq!(squad.charter_taken().operations(), charter.operations() + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens, nobody hears what it should not, and in the end all hear each other.
    #[test]
    fn any_history_ends_well(seed in any::<u64>(), count in 2..6usize, loss in 0..35u64) {
        let mut world = World::friends(seed, count, loss);
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
        // With loss, four heartbeats in a row could be lost at any time.
        world.loss = 0;
        world.run_for(5 * SECOND);
        world.assert_all_hear_each_other();
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut world = World::friends(1, 1, 0);
        let result = world.squad(0).handle_gossip(Timestamp::ZERO, None, &bytes);
        // No worker has looked at the pieces yet.
        let pieces = matches!(result, Ok(Handled::Later(_))) && Topic::of(&bytes) == Topic::Charter;
        prop_assert!(result.is_err() || bytes == [1, 0] || pieces);
    }
}
