//! Several squads with one charter, whose messages arrive at once: who hears whom, and by what
//! means.

use std::collections::BTreeSet;

use hark_charter::content::{
    Capabilities, Channel, ChannelName, Grant, Place, Rank, Role, Rule, Subject,
};
use hark_keys::{List, RoleId, SeededRandom};
use proptest::prelude::*;

use super::super::*;
use crate::{
    message::{Listening, Message},
    testing::{World, net, persisted},
};

pub(super) fn rule(at: u8, subject: Subject, allow: Capabilities, deny: Capabilities) -> Change {
    Change::Rule(Rule { at: Place::Channel(net(at)), subject, allow, deny })
}

/// [PROTO-6.12]
#[test]
fn a_listener_of_two_nets_of_one_target_is_reached_once_and_told_both() {
    let mut world = World::together(2);
    world.listen(1, &[1, 2]);
    world.listen(2, &[3]);
    let target = world.talk_to(0, &[1, 2]);
    assert_eq!(world.nodes[0].voice.listeners(target), [world.id(1)]);
    assert_eq!(world.hears(1, 0, target), [net(1), net(2)]);
    world.listen(1, &[2, 3]);
    assert_eq!(world.hears(1, 0, target), [net(2)]);
    world.edit(0, vec![Change::Link { a: net(1), b: net(3), linked: true }]).unwrap();
    assert_eq!(world.hears(1, 0, target), [net(2), net(3)], "linked nets hear each other");
    assert_eq!(world.hears(2, 0, target), [net(3)]);
}

/// Regression: a second link replaced the first one at one end. The other end lost the first link
/// before it had the second. It was not given keys and nets again, and what it said counted as old.
/// [PROTO-2.23]
#[test]
fn who_lost_the_link_that_the_other_end_replaced_is_told_everything_again() {
    let mut world = World::together(1);
    let [one, other] = [0, 1].map(|index| world.id(index));
    for index in [0, 1] {
        world.listen(index, &[1]);
        world.listen(index, &[1, 2]);
    }
    let target = world.talk_to(0, &[1]);
    assert_eq!(world.talk_to(1, &[1]), target);
    let hellos = [0, 1].map(|index| world.hello(index));
    let [hello_of_one, hello_of_other] = hellos;
    let now = world.now;
    world.nodes[0].squad.handle_link_down(now, other, DownReason::Refused);
    world.nodes[0].squad.handle_link_up(now, hello_of_other, None);
    world.nodes[1].squad.handle_link_up(now, hello_of_one, None);
    world.settle();
    assert_eq!(world.hears(0, 1, target), [net(1)]);
    assert_eq!(world.hears(1, 0, target), [net(1)]);
    world.listen(0, &[3]);
    assert_eq!(world.nodes[1].squad.listening_of(one), &BTreeSet::from([net(3)]));
    assert_eq!(world.hears(0, 1, target), []);
}

/// [PROTO-6.9]
#[test]
fn who_loses_the_right_to_listen_is_sent_nothing_and_the_key_is_replaced_at_once() {
    let mut world = World::together(2);
    for index in [1, 2] {
        world.listen(index, &[1]);
    }
    let target = world.talk_to(0, &[1]);
    let before = world.nodes[0].voice.own[&target].generation;
    let deny = Capabilities::LISTEN;
    let subject = Subject::Member(world.member(1));
    world.edit(0, vec![rule(1, subject, Capabilities::NONE, deny)]).unwrap();
    assert_eq!(world.nodes[0].voice.listeners(target), [world.id(2)]);
    assert!(world.nodes[0].voice.own[&target].generation > before, "no time has passed");
    assert!(world.nodes[1].squad.listening().is_empty());
    world.edit(0, vec![rule(1, subject, Capabilities::NONE, Capabilities::NONE)]).unwrap();
    assert_eq!(world.hears(1, 0, target), [net(1)], "and back again, as it still wants to");
}

/// [PROTO-6.10]
#[test]
fn who_may_not_speak_is_neither_sent_nor_played() {
    let mut world = World::together(2);
    for index in [0, 2] {
        world.listen(index, &[1]);
    }
    let target = world.talk_to(1, &[1]);
    assert_eq!(world.hears(0, 1, target), [net(1)]);
    world.cut_off(1);
    let subject = Subject::Member(world.member(1));
    let deny = Capabilities::SPEAK;
    world.edit(0, vec![rule(1, subject, Capabilities::NONE, deny)]).unwrap();
    // The muted member does not know it yet, but the others do not play it.
    world.link(1, 2);
    assert_eq!(world.hears(2, 1, target), []);
    world.meet_again();
    world.wait(1_000);
    assert!(!world.nodes[1].voice.plans.contains_key(&target), "it knows by now");
    assert_eq!(world.nodes[1].squad.target(&Target::of_channel(net(1))), None);
}

#[test]
fn a_kicked_member_loses_links_and_keys_and_is_told() {
    let mut world = World::together(3);
    world.listen(0, &[]);
    for index in 1..4 {
        world.listen(index, &[1]);
    }
    let target = world.talk_to(2, &[1]);
    let before = world.nodes[2].voice.own[&target].generation;
    let member = world.member(1);
    world.edit(0, vec![Change::Remove { member, admission: 1 }]).unwrap();
    let (kicked, stays) = (world.id(1), world.id(3));
    assert_eq!(world.nodes[2].voice.listeners(target), [stays]);
    assert!(world.nodes[2].voice.own[&target].generation > before);
    assert!(world.nodes[1].voice.removed, "it is told");
    world.wait(500);
    for index in [0, 2, 3] {
        assert_eq!(world.nodes[index].voice.evicted, [kicked], "and then its links are closed");
    }
}

/// A driver may report many things before it asks for their consequences. [PROTO-6.9]
#[test]
fn who_is_removed_is_sent_nothing_whatever_else_is_told_before_the_first_poll() {
    let mut world = World::together(3);
    (1..4).for_each(|index| world.listen(index, &[1]));
    world.talk_to(0, &[1]);
    let (now, member) = (world.now, world.member(1));
    let [kicked, leaver, stays] = [1, 2, 3].map(|index| world.id(index));
    let squad = &mut world.nodes[0].squad;
    squad.edit(now, vec![Change::Remove { member, admission: 1 }]).unwrap();
    let written: Vec<_> = std::iter::from_fn(|| squad.poll_persist()).collect();
    let listening = Message::Listening(Listening { number: 99, channels: List::default() });
    written.iter().for_each(|persist| persisted(now, squad, persist));
    assert_eq!(
        squad.handle_message(now, kicked, &listening.encode()),
        Err(MessageError::NotLinked)
    );
    squad.handle_link_down(now, leaver, DownReason::Left);
    squad.handle_heard(now, stays);
    let sent = std::iter::from_fn(|| squad.poll_transmit());
    let sent = sent.filter_map(|transmit| match transmit {
        SquadTransmit::Message { to, bytes, .. } => Some((to, Message::holds_key(&bytes))),
        SquadTransmit::Gossip(_) | SquadTransmit::Datagram { .. } | SquadTransmit::Check { .. } => {
            None
        }
    });
    let sent: Vec<_> = sent.collect();
    assert!(sent.iter().all(|(to, _)| *to == stays) && sent.contains(&(stays, true)));
}

#[test]
fn two_halves_that_edited_apart_agree_when_they_meet() {
    let mut world = World::together(3);
    let officer = RoleId::from_bytes([9; 16]);
    let role = Role {
        id: officer,
        name: "officer".to_owned(),
        rank: Rank(10),
        capabilities: Capabilities::ALL,
    };
    let grant = Grant {
        role: officer,
        at: Place::Organisation,
        members: List::truncated([world.member(1)]),
    };
    world.edit(0, vec![Change::Role(role), Change::Grant(grant)]).unwrap();
    world.cut_off(1);
    world.edit(1, vec![Change::Channel(Channel::open(net(8), "Eight"))]).unwrap();
    world.edit(0, vec![Change::Channel(Channel::open(net(9), "Nine"))]).unwrap();
    assert_ne!(world.nodes[0].squad.charter(), world.nodes[1].squad.charter());
    world.meet_again();
    world.wait(2_000);
    for node in &world.nodes {
        assert_eq!(node.squad.charter(), world.nodes[0].squad.charter());
        assert_eq!(node.squad.charter().state().channels().count(), 6);
    }
}

/// [PROTO-6.13] [CHARTER-4.8]
#[test]
fn a_hidden_channel_is_known_to_those_who_may_join_it_and_to_nobody_else() {
    let mut world = World::together(2);
    let (hidden, random) = (net(7), SeededRandom::new(1));
    let key = NameKey::generate(&random);
    let channel = Channel {
        name: ChannelName::Hidden(key.seal(hidden, "Black ops")),
        ..Channel::open(hidden, "-")
    };
    let speech = Capabilities::ALL_OF_SPEECH;
    let (everyone, ann) = (Subject::Everyone, Subject::Member(world.member(1)));
    let changes = vec![Change::Channel(channel), rule(7, everyone, Capabilities::NONE, speech)];
    world.nodes[0].squad.keep_name(world.now, hidden, key);
    assert_eq!(world.edit(0, changes), Ok(()));
    let name = |world: &World, index: usize| {
        let squad = &world.nodes[index].squad;
        squad.channel_name(squad.charter().state().channel(hidden).unwrap())
    };
    assert_eq!(name(&world, 0).as_deref(), Some("Black ops"));
    assert_eq!([name(&world, 1), name(&world, 2)], [None, None]);
    world.edit(0, vec![rule(7, ann, speech, Capabilities::NONE)]).unwrap();
    assert_eq!(name(&world, 1).as_deref(), Some("Black ops"));
    assert_eq!(name(&world, 2), None);
    world.listen(1, &[7]);
    world.listen(0, &[7]);
    let of_ann = world.id(1);
    assert!(world.nodes[0].squad.listening_of(of_ann).contains(&hidden));
    assert!(!world.nodes[2].squad.listening_of(of_ann).contains(&hidden), "nor who is on it");
}

/// [PROTO-6.13] Regression: the key of a new channel's name was taken and forgotten if it came
/// before the charter.
#[test]
fn a_name_stayed_closed_whose_key_came_before_its_channel() {
    let mut world = World::together(1);
    let hidden = net(7);
    let key = NameKey::generate(&SeededRandom::new(1));
    let channel = Channel {
        name: ChannelName::Hidden(key.seal(hidden, "Black ops")),
        ..Channel::open(hidden, "-")
    };
    let given = Message::Names(List::truncated([(hidden, key.clone())])).encode();
    let (now, founder) = (world.now, world.id(0));
    let give = |world: &mut World| world.nodes[1].squad.handle_message(now, founder, &given);
    assert!(matches!(give(&mut world), Err(MessageError::NoSuchName)));
    assert_eq!(world.edit(0, vec![Change::Channel(channel)]), Ok(()));
    assert!(matches!(give(&mut world), Ok(Handled::Done)));
    let squad = &world.nodes[1].squad;
    let channel = squad.charter().state().channel(hidden).unwrap();
    assert_eq!(squad.channel_name(channel).as_deref(), Some("Black ops"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever officers and listeners do, in whatever order, [`World::check`] holds after each
    /// step. In the end everybody hears exactly what the charter permits.
    #[test]
    fn nobody_hears_what_it_may_not(
        steps in proptest::collection::vec((0..6u8, 0..4usize, 1..4u8, any::<u16>()), 1..40),
    ) {
        let mut world = World::together(3);
        for (what, who, which, bits) in steps {
            match what {
                0 => world.listen(who, &[which, 1 + which % 3]),
                1 => {
                    world.talk_to(who, &[which]);
                }
                2 => {
                    world.talk_to(who, &[which, 1 + which % 3]);
                }
                3 | 4 => {
                    let bits = [Capabilities::LISTEN, Capabilities::SPEAK, Capabilities::JOIN]
                        [usize::from(bits % 3)];
                    let subject = Subject::Member(world.member(who));
                    let deny = if what == 3 { bits } else { Capabilities::NONE };
                    let _ = world.edit(0, vec![rule(which, subject, Capabilities::NONE, deny)]);
                }
                _ => world.wait(300),
            }
        }
        world.wait(3_000);
        for talker in &world.nodes {
            for (id, plan) in &talker.voice.plans {
                let listeners = plan.listeners();
                let Some(target) = talker.squad.target_of(*id) else { continue };
                let state = talker.squad.charter().state();
                for listener in &world.nodes {
                    let device = listener.key.id();
                    if device == talker.key.id() {
                        continue;
                    }
                    let own = listener.squad.listening();
                    let [from, to] = [talker, listener].map(|node| node.squad.member().expect("a member"));
                    let expected = target.hearing(state, from, to, own);
                    prop_assert_eq!(listeners.contains(&device), expected.is_reached());
                    let heard = listener.voice.hears.get(&(talker.key.id(), *id));
                    let heard = heard.cloned().unwrap_or_default();
                    if expected.is_reached() {
                        prop_assert_eq!(heard, expected);
                    }
                }
            }
        }
    }
}
