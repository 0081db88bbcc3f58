use std::{net::SocketAddr, time::Duration};

use hark_keys::{DeviceKey, SeededRandom, Timestamp};

use crate::testing::World;
use crate::{
    message::{CHECK_PACKET_BYTES, Check, CheckNonce, Message},
    squad::{Checked, Handled, MessageError, PathSeen, SquadTransmit, checks::ChecksMade},
};

/// The address at which a device is seen, from its host number and port.
fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, host], port))
}

/// Member `a` sees `b` in the given way.
fn see(world: &mut World, a: usize, b: usize, seen: PathSeen) {
    let (now, peer) = (world.now, world.id(b));
    world.nodes[a].squad.handle_path(now, peer, seen);
    world.settle();
}

/// A founder and `others` more members, linked without relays. The founder listens in a LAN, and is
/// seen at port 7000 of host 10.
fn world(others: usize) -> World {
    let mut world = World::together(others);
    let own = SocketAddr::from(([192, 168, 1, 5], 7_000));
    let now = world.now;
    world.nodes[0].squad.handle_addresses(now, vec![own]);
    for other in 1..=others {
        let host = u8::try_from(other).unwrap();
        see(&mut world, 0, other, PathSeen::Direct(at(host, 4_000)));
        see(&mut world, other, 0, PathSeen::Direct(at(10, 7_000)));
    }
    world
}

/// The check packets sent within this time: after how many milliseconds, by which member, and to
/// which address.
fn sent(world: &mut World, milliseconds: u64) -> Vec<(u128, usize, SocketAddr)> {
    let start = world.now;
    let mut sent = Vec::new();
    for _ in 0..milliseconds / 50 {
        world.wait(50);
        let after = world.now.saturating_duration_since(start).as_millis();
        sent.extend(world.checks.drain(..).map(|(by, to, _)| (after, by, to)));
    }
    sent
}

/// Like [`sent`], where each `open` address lets in every packet.
fn arrive(world: &mut World, milliseconds: u64, open: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut sent = Vec::new();
    for _ in 0..milliseconds / 50 {
        world.wait(50);
        for (_, to, nonce) in std::mem::take(&mut world.checks) {
            sent.push(to);
            if open.contains(&to) {
                let now = world.now;
                world.nodes[0].squad.handle_checked(now, nonce);
                world.settle();
            }
        }
    }
    sent
}

fn found(world: &World) -> Vec<(SocketAddr, bool)> {
    let checked = world.nodes[0].squad.checked();
    checked.map(|Checked { address, reachable, .. }| (address, reachable)).collect()
}

/// [PROTO-5.9] [PROTO-5.20] [PROTO-5.30] One packet that arrives is enough. The next check comes
/// ten minutes later.
#[test]
fn an_address_counts_that_a_strangers_packet_has_come_by() {
    let mut world = world(1);
    assert_eq!(arrive(&mut world, 1_950, &[at(10, 7_000)]), []);
    assert_eq!(arrive(&mut world, 4_100, &[at(10, 7_000)]), [at(10, 7_000)]);
    assert_eq!(found(&world), [(at(10, 7_000), true)]);
    assert_eq!(arrive(&mut world, 560_000, &[at(10, 7_000)]), []);
    assert_eq!(arrive(&mut world, 75_000, &[at(10, 7_000)]), [at(10, 7_000)]);
}

/// [PROTO-5.9] Three packets, three seconds apart, that do not arrive; and a router that lets in
/// nobody any more.
#[test]
fn an_address_does_not_count_by_which_nothing_comes() {
    let mut world = world(1);
    let sent = sent(&mut world, 20_000);
    let first = sent[0].0;
    assert!((2_000..=6_050).contains(&first), "{first}");
    let times: Vec<_> = sent.iter().map(|(after, ..)| after - first).collect();
    assert_eq!(times, [0, 3_000, 6_000]);
    assert!(sent.iter().all(|(_, by, to)| (*by, *to) == (1, at(10, 7_000))));
    assert_eq!(found(&world), [(at(10, 7_000), false)]);
    arrive(&mut world, 640_000, &[at(10, 7_000)]);
    assert_eq!(found(&world), [(at(10, 7_000), true)], "a port was forwarded meanwhile");
    arrive(&mut world, 650_000, &[]);
    assert_eq!(found(&world), [(at(10, 7_000), false)], "and is not any more");
}

/// A router that forwards one of its ports to ours may send from another one.
#[test]
fn the_port_that_is_listened_on_is_tried_as_well() {
    let mut world = world(1);
    see(&mut world, 1, 0, PathSeen::Direct(at(10, 61_000)));
    let forwarded = at(10, 7_000);
    arrive(&mut world, 30_000, &[forwarded]);
    assert_eq!(found(&world), [(forwarded, true), (at(10, 61_000), false)]);
}

/// [PROTO-5.9] [PROTO-5.21] When others see the device elsewhere, the old result is dropped. While
/// nobody sees it, the result holds for 15 minutes.
#[test]
fn what_was_found_goes_with_what_is_seen() {
    let mut world = world(2);
    arrive(&mut world, 7_000, &[at(10, 7_000)]);
    for other in [1, 2] {
        see(&mut world, other, 0, PathSeen::Direct(at(11, 7_000)));
    }
    assert_eq!(found(&world), []);
    arrive(&mut world, 7_000, &[at(11, 7_000)]);
    assert_eq!(found(&world), [(at(11, 7_000), true)]);
    for other in [1, 2] {
        let (now, peer) = (world.now, world.id(other));
        let reason = crate::squad::DownReason::Unreachable;
        world.nodes[0].squad.handle_link_down(now, peer, reason);
    }
    world.wait(890_000);
    assert_eq!(found(&world), [(at(11, 7_000), true)]);
    world.wait(80_000);
    assert_eq!(found(&world), []);
}

/// [PROTO-5.9] [PROTO-5.22] A packet from a device that was not asked proves nothing, and a
/// repeated one proves nothing more.
#[test]
fn only_what_was_asked_for_counts() {
    let mut world = world(1);
    let now = world.now;
    let guess = CheckNonce::generate(&SeededRandom::new(77));
    world.nodes[0].squad.handle_checked(now, guess);
    world.wait(6_100);
    let (_, _, nonce) = world.checks[0];
    world.wait(30_000);
    let now = world.now;
    world.nodes[0].squad.handle_checked(now, guess);
    world.nodes[0].squad.handle_checked(now, nonce);
    assert_eq!(found(&world), [(at(10, 7_000), false)], "it came too late");
}

/// [PROTO-10.5] A volunteer says so in its offer as soon as this is found.
#[test]
fn a_volunteer_offers_what_strangers_reach() {
    let mut world = world(1);
    let now = world.now;
    world.nodes[0].squad.volunteer(now, Some(0));
    let mut offers = Vec::new();
    for _ in 0..160 {
        world.wait(50);
        for (_, _, nonce) in std::mem::take(&mut world.checks) {
            let now = world.now;
            world.nodes[0].squad.handle_checked(now, nonce);
            // The next offer says so.
            world.nodes[0].squad.handle_timeout(now);
            let squad = &mut world.nodes[0].squad;
            let sent = std::iter::from_fn(|| squad.poll_transmit());
            offers.extend(sent.filter_map(|transmit| match transmit {
                SquadTransmit::Gossip(bytes) => match Message::decode(&bytes) {
                    Ok(Message::Offer(offer)) => Some(offer.unverified().reachable),
                    _ => None,
                },
                _ => None,
            }));
        }
    }
    assert_eq!(offers, [true]);
}

/// A device in the same LAN, or behind the same router, cannot find out what strangers can reach.
#[test]
fn nobody_inside_is_asked() {
    for (peer, own) in [
        (at(10, 4_000), at(10, 7_000)),
        (SocketAddr::from(([192, 168, 1, 9], 4_000)), at(10, 7_000)),
        (at(1, 4_000), SocketAddr::from(([100, 64, 0, 9], 7_000))),
    ] {
        let mut world = World::together(1);
        see(&mut world, 0, 1, PathSeen::Direct(peer));
        see(&mut world, 1, 0, PathSeen::Direct(own));
        assert_eq!(sent(&mut world, 60_000), []);
    }
    // Nor is a device asked that was not met by the listening socket.
    let mut world = World::together(1);
    see(&mut world, 0, 1, PathSeen::Punched(at(1, 4_000)));
    see(&mut world, 1, 0, PathSeen::Punched(at(10, 7_000)));
    assert_eq!(sent(&mut world, 60_000), []);
}

/// [PROTO-5.9] Nobody can be made to send to anybody but the asking peer, nor more than a little.
#[test]
fn a_peer_has_nothing_sent_but_to_itself_and_not_often() {
    let mut world = world(2);
    let (now, peer) = (world.now, world.id(0));
    let nonce = CheckNonce::generate(&SeededRandom::new(5));
    let ask = |world: &mut World, now, address| {
        let bytes = Message::Check(Check { nonce, address }).encode();
        assert!(CHECK_PACKET_BYTES < bytes.len(), "less is sent than was asked with");
        world.nodes[1].squad.handle_message(now, peer, &bytes)
    };
    let nothing = |world: &mut World| {
        let squad = &mut world.nodes[1].squad;
        let mut transmits = std::iter::from_fn(|| squad.poll_transmit());
        !transmits.any(|transmit| matches!(transmit, SquadTransmit::Check { .. }))
    };
    // Two other hosts, and no port; below them no host and groups of hosts.
    for wild in [at(11, 7_000), at(1, 22), at(10, 0)] {
        assert_eq!(ask(&mut world, now, wild), Err(MessageError::NotThere), "{wild}");
    }
    for wild in ["0.0.0.0:7", "255.255.255.255:7", "224.0.0.1:7", "[::ffff:203.0.113.10]:7000"] {
        let wild = wild.parse().unwrap();
        assert_eq!(ask(&mut world, now, wild), Err(MessageError::NotThere), "{wild}");
    }
    assert!(nothing(&mut world));
    // Another port of the host at which it is seen. Only its router knows whose port that is.
    assert_eq!(ask(&mut world, now, at(10, 5_000)), Ok(Handled::Done));
    let refused = (0..1_000).filter(|_| ask(&mut world, now, at(10, 7_000)).is_err()).count();
    assert_eq!(refused, 1_000);
    let soon = now + Duration::from_millis(1_999);
    assert_eq!(ask(&mut world, soon, at(10, 7_000)), Err(MessageError::Busy));
    let later = now + Duration::from_secs(2);
    assert_eq!(ask(&mut world, later, at(10, 7_000)), Ok(Handled::Done));
    // A peer that is reached through a relay has no address.
    see(&mut world, 1, 0, PathSeen::Relayed);
    let later = now + Duration::from_secs(60);
    assert_eq!(ask(&mut world, later, at(10, 7_000)), Err(MessageError::NotThere));
}

/// [PROTO-5.9] All peers together get 32 checks at once and 16 per second.
#[test]
fn many_who_ask_at_once_are_told_no() {
    let mut made = ChecksMade::default();
    let ids: Vec<_> =
        (0..1_000).map(|seed| DeviceKey::generate(&SeededRandom::new(seed)).id()).collect();
    let mut ask = |after: u64| {
        let now = Timestamp::from_millis(10_000 + after);
        ids.iter().filter(|device| made.may(now, **device)).count()
    };
    assert_eq!([ask(0), ask(1), ask(1_000), ask(2_999)], [32, 0, 16, 31]);
    assert_eq!(ask(60_000), 32);
}

/// A peer that declines is not asked again for a while, and others are asked.
#[test]
fn who_says_no_is_not_asked_again_at_once() {
    let mut world = world(3);
    // Each sees the founder, but is not seen at an address itself, so it would not send.
    let spoilt = |world: &mut World, other: usize, host| {
        let (now, peer) = (world.now, world.id(0));
        world.nodes[other].squad.handle_path(now, peer, PathSeen::Direct(at(host, 7_000)));
    };
    let order = sent(&mut world, 20_000)[0].1;
    let mut world = self::world(3);
    // From now on it sees the founder elsewhere, and its report of that is lost.
    spoilt(&mut world, order, 99);
    while world.nodes[order].squad.poll_transmit().is_some() {}
    let by: Vec<_> = sent(&mut world, 20_000).into_iter().map(|(_, by, _)| by).collect();
    assert_eq!(by.len(), 3, "another was asked at once, and thrice");
    assert!(!by.contains(&order));
}

/// A hidden device asks nobody and checks nothing, so that nobody learns its address. A relay of
/// the charter need not ask, since the charter gives its addresses.
#[test]
fn who_hides_asks_nobody_and_checks_nothing() {
    let mut world = world(1);
    world.nodes[0].squad.relay_only = true;
    assert_eq!(sent(&mut world, 60_000), []);
    world.nodes[1].squad.relay_only = true;
    let (now, peer) = (world.now, world.id(0));
    let nonce = CheckNonce::generate(&SeededRandom::new(5));
    let bytes = Message::Check(Check { nonce, address: at(10, 7_000) }).encode();
    let result = world.nodes[1].squad.handle_message(now, peer, &bytes);
    assert_eq!(result, Err(MessageError::NotThere));
    assert_eq!(world.nodes[1].squad.handle_gossip(now, None, &bytes), Err(MessageError::ByGossip));
}

/// The packet cannot be confused with one of QUIC or of the fast path.
#[test]
fn a_packet_brings_its_nonce() {
    let nonce = CheckNonce::generate(&SeededRandom::new(5));
    let packet = nonce.packet();
    assert_eq!((packet.len(), packet[0]), (17, 0x25));
    assert_eq!(CheckNonce::of_packet(&packet), Some(nonce));
    assert_eq!(CheckNonce::of_packet(&packet[..16]), None);
    assert_eq!(CheckNonce::of_packet(&[&packet[..], &[0]].concat()), None);
    assert_eq!(CheckNonce::of_packet(&[]), None);
    for kind in (0..=u8::MAX).filter(|kind| *kind != 0x25) {
        let mut other = packet;
        other[0] = kind;
        assert_eq!(CheckNonce::of_packet(&other), None);
    }
}
