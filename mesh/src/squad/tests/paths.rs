use std::{net::SocketAddr, time::Duration};

use crate::testing::World;
use crate::{
    Dial, List, Way,
    message::{Candidates, Message},
    squad::{DownReason, MessageError, PathSeen, SquadTransmit},
};

/// The address at which a device is seen, from its host number and port.
fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, host], port))
}

/// A founder and three more members, all linked: the first two through a relay, all others
/// directly.
fn world() -> World {
    let mut world = World::together(3);
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            let seen = match (a, b) {
                (0 | 1, 0 | 1) => PathSeen::Relayed,
                _ => PathSeen::Direct(at(b, 7_000)),
            };
            see(&mut world, a, b, seen);
        }
    }
    world.settle();
    world
}

fn see(world: &mut World, a: u8, b: u8, seen: PathSeen) {
    let (now, peer) = (world.now, world.id(b.into()));
    world.nodes[usize::from(a)].squad.handle_path(now, peer, seen);
}

/// What `index` dials now, after all its messages have arrived.
fn dials(world: &mut World, index: usize) -> Vec<Dial> {
    let now = world.now;
    let dials = std::iter::from_fn(|| world.nodes[index].squad.poll_dial(now)).collect();
    world.settle();
    dials
}

/// [PROTO-5.7] [PROTO-5.23] Each dials the other where two others see it: at once from another
/// socket, and a moment later from the listening one.
#[test]
fn two_behind_nats_dial_each_other_at_one_time() {
    let mut world = world();
    let ids = [world.id(0), world.id(1)];
    assert!(world.nodes[0].squad.is_relayed(ids[1]));
    dials(&mut world, 0);
    // The candidate of each is the address at which 2 and 3 see it.
    for (index, peer) in [(1, 0), (0, 1)] {
        let other = at(u8::try_from(peer).unwrap(), 7_000);
        let dial = |way| Dial { device: Some(ids[peer]), addresses: vec![other], way };
        assert_eq!(dials(&mut world, index)[..1], [dial(Way::Aside)]);
    }
    world.wait(450);
    assert!([0, 1].iter().all(|index| dials(&mut world, *index).is_empty()));
    world.wait(50);
    for (index, peer) in [(1, 0), (0, 1)] {
        let other = at(u8::try_from(peer).unwrap(), 7_000);
        let dial = Dial { device: Some(ids[peer]), addresses: vec![other], way: Way::Direct };
        assert_eq!(dials(&mut world, index), [dial]);
    }
    // Once the paths are direct, nothing more is tried.
    see(&mut world, 0, 1, PathSeen::Punched(at(1, 7_000)));
    see(&mut world, 1, 0, PathSeen::Punched(at(0, 7_000)));
    world.settle();
    world.wait(3_000);
    assert!([0, 1].iter().all(|index| dials(&mut world, *index).is_empty()));
}

/// [PROTO-5.7] A single peer could make us report any address to others. What a punched link sees
/// is of no use to anybody else.
#[test]
fn an_address_counts_that_two_others_have_seen() {
    let mut world = world();
    dials(&mut world, 0);
    dials(&mut world, 1);
    world.wait(2_000);
    for index in [0, 1] {
        dials(&mut world, index);
    }
    let candidates = |world: &mut World| {
        world.wait(16_000);
        dials(world, 0);
        let dials = dials(world, 1);
        let aside = dials.into_iter().find(|dial| dial.way == Way::Aside);
        aside.map(|dial| dial.addresses)
    };
    see(&mut world, 2, 0, PathSeen::Direct(at(0, 7_001)));
    world.settle();
    assert_eq!(candidates(&mut world), None, "2 and 3 see different addresses");
    see(&mut world, 3, 0, PathSeen::Direct(at(0, 7_001)));
    world.settle();
    assert_eq!(candidates(&mut world), Some(vec![at(0, 7_001)]));
    see(&mut world, 0, 2, PathSeen::Punched(at(2, 7_000)));
    see(&mut world, 2, 0, PathSeen::Direct(at(0, 7_002)));
    see(&mut world, 3, 0, PathSeen::Direct(at(0, 7_002)));
    world.settle();
    assert_eq!(candidates(&mut world), None);
}

/// A peer that asks again and again does not make us dial more often, nor at impossible addresses.
#[test]
fn a_peer_makes_us_dial_no_crowds() {
    let mut world = World::together(3);
    let (now, peer) = (world.now, world.id(0));
    see(&mut world, 1, 0, PathSeen::Relayed);
    for witness in [2, 3] {
        see(&mut world, 1, witness, PathSeen::Direct(at(witness, 7_000)));
        see(&mut world, witness, 1, PathSeen::Direct(at(1, 7_000)));
    }
    world.settle();
    let wild = ["0.0.0.0:1", "224.0.0.1:7", "255.255.255.255:7", "203.0.113.9:0"];
    let ask = |world: &mut World, addresses: &[SocketAddr]| {
        let addresses = List::truncated(addresses.iter().copied());
        let bytes = Message::Candidates(Candidates { answer: true, addresses }).encode();
        let now = world.now;
        world.nodes[1].squad.handle_message(now, peer, &bytes).unwrap();
        let squad = &mut world.nodes[1].squad;
        std::iter::from_fn(|| squad.poll_dial(now)).filter(|it| it.way == Way::Aside).count()
    };
    assert_eq!(ask(&mut world, &wild.map(|text| text.parse().unwrap())), 0);
    assert_eq!(ask(&mut world, &[at(9, 7)]), 1);
    assert_eq!(ask(&mut world, &[at(9, 8)]), 0);
    world.wait(1_500);
    assert_eq!(ask(&mut world, &[at(9, 8)]), 1);
    let bytes = Message::Observed(at(9, 9)).encode();
    let gossiped = world.nodes[1].squad.handle_gossip(now, Some(peer), &bytes);
    assert_eq!(gossiped, Err(MessageError::ByGossip));
}

/// [PROTO-5.6] A device attached to the same relay is dialled through it. [PROTO-10.2]
#[test]
fn a_relay_leads_to_whom_it_has_a_slot_for() {
    let mut world = World::together(2);
    let (now, ids) = (world.now, [0, 1, 2].map(|index| world.id(index)));
    world.nodes[2].squad.volunteer(now, Some(0));
    world.wait(50);
    for (slot, device) in [(1, ids[0]), (2, ids[1])] {
        world.nodes[2].squad.handle_attached(world.now, device, slot);
    }
    world.settle();
    assert_eq!(dials(&mut world, 0), [], "there are links");
    world.nodes[0].squad.handle_link_down(world.now, ids[1], DownReason::Unreachable);
    world.settle();
    let relayed = Dial { device: Some(ids[1]), addresses: Vec::new(), way: Way::Relay };
    assert_eq!(dials(&mut world, 0), [relayed]);
}

/// [PROTO-10.5] Regression: a device that came between two rounds of gossip did not learn of a
/// volunteer for 10 s.
#[test]
fn a_newcomer_hears_of_a_volunteer_at_once() {
    let mut world = World::friends(1, 3, 0);
    world.start(1);
    world.run_for(Duration::from_secs(2));
    let (now, volunteer) = (world.now, world.id(1));
    world.squad(1).volunteer(now, Some(0));
    world.run_for(Duration::from_secs(3));
    world.start(2);
    world.run_for(Duration::from_secs(1));
    assert!([0, 2].map(|index| world.squad(index).relays.contains(volunteer)) == [true, true]);
}

/// Regression: a device that had relayed itself heard nothing that came by the remaining
/// volunteers.
#[test]
fn who_relays_no_more_uses_the_volunteers_that_are_left() {
    let mut world = World::friends(1, 3, 0);
    [1, 2].into_iter().for_each(|index| world.start(index));
    world.run_for(Duration::from_secs(3));
    for index in [1, 2] {
        let now = world.now;
        world.squad(index).volunteer(now, Some(0));
    }
    world.run_for(Duration::from_secs(2));
    let (now, other) = (world.now, world.id(2));
    assert!(!world.squad(1).relays.contains(other), "it relays itself");
    world.squad(1).volunteer(now, None);
    assert!(world.squad(1).relays.contains(other));
}

/// Regression: a peer that once failed to accept its observed address never learnt it, and opened
/// no NAT.
#[test]
fn where_a_peer_is_seen_is_told_until_it_is_taken() {
    let mut world = world();
    let now = world.now;
    for witness in [2, 3] {
        see(&mut world, witness, 0, PathSeen::Direct(at(0, 7_001)));
        let squad = &mut world.nodes[usize::from(witness)].squad;
        while let Some(transmit) = squad.poll_transmit() {
            if let SquadTransmit::Message { to, id, .. } = transmit {
                squad.handle_failed(now, to, id);
            }
        }
    }
    world.wait(300);
    dials(&mut world, 0);
    let aside = dials(&mut world, 1).into_iter().find(|dial| dial.way == Way::Aside);
    assert_eq!(aside.map(|dial| dial.addresses), Some(vec![at(0, 7_001)]));
}
