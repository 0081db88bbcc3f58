//! Limits on what one peer can make another do. [PROTO-5.11] [PROTO-5.25]

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use hark_charter::{Piece, content::Change};
use hark_keys::{Cosigned, DeviceKey, KeySecret, List, SeededRandom, Signed};

use crate::{
    MemberRecord, Target,
    message::{KeyMessage, Message},
    pack::pack,
    squad::{Handled, MessageError, Squad},
    testing::{World, outcome, work},
};

/// A record of a member, with sixteen addresses of others.
fn record(world: &World, member: usize, number: u64) -> Vec<u8> {
    let (charter, key) = (world.nodes[0].squad.charter(), &world.nodes[member].key);
    let addresses = (0..16_u64).map(|place| {
        let [.., high, low] = (16 * number + place).to_be_bytes();
        SocketAddr::from(([198, 51, high, low], 7_000))
    });
    let record = MemberRecord {
        device: key.id(),
        name: "Kestrel".to_owned(),
        addresses: List::truncated(addresses),
        chain: charter.chain_of(charter.member_of(key.id())),
        sequence_number: 1_000 + number,
    };
    Message::Records(List::truncated([Signed::sign(record, key)])).encode()
}

/// A message with an operation of the founder that somebody else has signed.
fn forged(world: &World, number: u8) -> Vec<u8> {
    let squad = &world.nodes[0].squad;
    let mut channel = squad.charter().state().channels().next().unwrap().clone();
    channel.order = number.into();
    let founder = &world.nodes[0].key;
    let member = squad.member().unwrap();
    let good = squad.charter().edit(founder, member, vec![Change::Channel(channel)]).unwrap();
    let other = DeviceKey::generate(&SeededRandom::new(1_000 + u64::from(number)));
    let forged = Cosigned::unsigned(good.unverified().clone()).signed(&other);
    let [message] = &pack([Piece::Operation(forged)])[..] else { panic!("one piece") };
    message.encode()
}

/// Regression: with messages that are cheap to send, a member used up the thread that moves voice.
#[test]
fn one_peer_has_the_thread_work_for_a_twentieth_of_the_time() {
    let mut world = World::together(2);
    let (start, own, peer, other) = (world.now, world.id(0), world.id(1), world.id(2));
    let random = SeededRandom::new(1);
    let charter = world.nodes[0].squad.charter();
    let channel = charter.first_channel(charter.member_of(own)).unwrap().id;
    let key = |sender: usize| {
        let message = KeyMessage {
            target: Target::of_channel(channel),
            sender: world.id(sender),
            secret: KeySecret::generate(9_000, &random),
            recipients: List::truncated([own]),
        };
        Message::Key(Signed::sign(message, &world.nodes[sender].key)).encode()
    };
    let (dear, honest) = (key(1), key(2));
    let squad = &mut world.nodes[0].squad;
    let mut taken = 0;
    for milliseconds in 0..10_000 {
        let now = start + Duration::from_millis(milliseconds);
        for _ in 0..10 {
            match squad.handle_message(now, peer, &dear) {
                Ok(_) => taken += 1,
                Err(error) => assert_eq!(error, MessageError::OverBudget),
            }
        }
        if milliseconds % 1_000 == 0 {
            assert_eq!(squad.handle_message(now, other, &honest), Ok(Handled::Done));
        }
    }
    // A signature and its overhead cost 110 µs. At first there is half a second's worth, then 50 ms
    // per second.
    assert!((9_000..=9_100).contains(&taken), "{taken}");
    assert_eq!(
        world.nodes[0].squad.handle_message(start, peer, &[1, 2]),
        Err(MessageError::OverBudget)
    );
}

/// Each operation that comes early in order makes a large charter be computed again, which takes 12
/// ms. What a peer cannot pay for waits, a little of it, and others do not wait for it.
#[test]
fn what_one_peer_sends_of_the_charter_waits_for_its_turn_and_holds_up_nobody() {
    let mut world = World::together(2);
    let (start, peer, other) = (world.now, world.id(1), world.id(2));
    let messages: Vec<_> = (0..=255).map(|number| forged(&world, number)).collect();
    let squad: &mut Squad = &mut world.nodes[0].squad;
    work(start, squad);
    while squad.poll_verdict().is_some() {}
    let cost = Duration::from_millis(12);
    let (mut replays, mut taken, mut refused) = (0_u64, 0_u64, 0);
    for milliseconds in 0..20_000 {
        let now = start + Duration::from_millis(milliseconds);
        let number = usize::try_from(milliseconds % 256).unwrap();
        match squad.handle_message(now, peer, &messages[number]) {
            Ok(handled) => assert!(matches!(handled, Handled::Later(_))),
            Err(error) => {
                assert_eq!(error, MessageError::OverBudget);
                refused += 1;
            }
        }
        work(now, squad);
        let before = taken;
        while let Some((_, verdict)) = squad.poll_verdict() {
            assert!(matches!(verdict, Err(MessageError::Piece(_))), "{verdict:?}");
            taken += 1;
        }
        // Acts as if the charter were large: what waited together is computed at once.
        if taken > before {
            squad.replication.purses.spend(now, peer, cost);
            replays += 1;
        }
        if milliseconds % 500 == 0 {
            let handled = squad.handle_gossip(now, Some(other), &messages[1]);
            assert!(matches!(outcome(now, squad, handled), Err(MessageError::Piece(_))));
        }
        assert!(squad.poll_timeout().is_some());
    }
    // At first three seconds' worth, then 100 ms per second: eight in a second.
    assert!((300..=430).contains(&replays), "{replays} for {taken} of 20,000");
    assert!(refused > 0, "{refused}");
}

/// [PROTO-5.10] Regression: everybody passed on what one member announced again and again, and
/// dialled the hosts that it named.
#[test]
fn who_announces_itself_each_second_is_passed_on_seldom_and_dialled_less() {
    let mut world = World::together(2);
    let (start, peer, passer) = (world.now, world.id(1), world.id(2));
    let records: Vec<_> = (0..600).map(|second| record(&world, 1, second)).collect();
    let link_down = crate::squad::DownReason::Unreachable;
    let squad = &mut world.nodes[0].squad;
    squad.handle_link_down(start, peer, link_down);
    while squad.poll_dial(start).is_some() {}
    let (mut passed, mut hosts) = (0, BTreeSet::new());
    for (second, bytes) in (0..).zip(&records) {
        let now = start + Duration::from_secs(second);
        squad.handle_timeout(now);
        let handled = squad.handle_gossip(now, Some(passer), bytes);
        passed += u32::from(outcome(now, squad, handled).is_ok());
        while let Some(dial) = squad.poll_dial(now) {
            if dial.device == Some(peer) {
                hosts.extend(dial.addresses.iter().map(SocketAddr::ip));
            }
        }
        assert!(squad.poll_timeout().is_none_or(|at| at > now));
    }
    assert!((150..=165).contains(&passed), "{passed} of 600");
    assert!((2..=21).contains(&hosts.len()), "{} hosts in ten minutes", hosts.len());
}
