//! Others learn who has muted the microphone, silenced the loudspeaker or gone away.

use super::{records::Crowd, *};
use crate::{Availability, AvailabilityMessage};

const DEAF: Availability = Availability { muted: false, deafened: true, away: false };

/// The availability message that a squad gossips now.
fn gossiped(squad: &mut Squad) -> Option<Vec<u8>> {
    let mut found = None;
    while let Some(transmit) = squad.poll_transmit() {
        if let SquadTransmit::Gossip(bytes) = transmit
            && matches!(Message::decode(&bytes), Ok(Message::Availability(_)))
        {
            found = Some(bytes);
        }
    }
    found
}

fn told(squad: &mut Squad) -> usize {
    let mut count = 0;
    while let Some(event) = squad.poll_event() {
        count += usize::from(matches!(event, SquadEvent::AvailabilityChanged { .. }));
    }
    count
}

/// [PROTO-5.12] [PROTO-5.27] Three relays pass it on. The member at their end has no link to the
/// device that it is from.
#[test]
fn a_member_three_relays_away_is_seen_to_be_deaf() {
    let crowd = Crowd::new(2, 3);
    let keys = &crowd.members;
    let member = |index: usize| Some(crowd.charter.member_of(keys[index].id()));
    let mut near = crowd.squad(&keys[0], member(0));
    let mut relays: Vec<_> = crowd.relays.iter().map(|key| crowd.squad(key, None)).collect();
    let mut far = crowd.squad(&keys[1], member(1));
    near.handle_link_up(Timestamp::ZERO, crowd.hello_of_relay(0), None);
    let mut now = Timestamp::ZERO + Duration::from_secs(5);
    let mut from = crowd.relays[0].id();
    for (sets, wants) in [(DEAF, DEAF), (Availability::default(), Availability::default())] {
        now = now + Duration::from_secs(5);
        near.set_availability(now, sets);
        let bytes = gossiped(&mut near).expect("said at once");
        for (relay, key) in relays.iter_mut().zip(&crowd.relays) {
            assert_eq!(relay.handle_gossip(now, Some(from), &bytes), Ok(Handled::Done));
            from = key.id();
        }
        assert_eq!(far.handle_gossip(now, Some(from), &bytes), Ok(Handled::Done));
        assert_eq!(far.availability_of(keys[0].id()), wants);
        assert_eq!(told(&mut far), 1);
    }
}

/// [PROTO-5.12] [PROTO-5.28] A report is repeated while there is anything to report. It expires if
/// no more reports come.
#[test]
fn what_a_device_without_a_link_has_said_lapses() {
    let crowd = Crowd::new(2, 1);
    let keys = &crowd.members;
    let member = |index: usize| Some(crowd.charter.member_of(keys[index].id()));
    let mut near = crowd.squad(&keys[0], member(0));
    let mut far = crowd.squad(&keys[1], member(1));
    near.handle_link_up(Timestamp::ZERO, crowd.hello_of_relay(0), None);
    near.set_availability(Timestamp::ZERO, DEAF);
    let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
    let first = gossiped(&mut near).expect("said at once");
    for seconds in 1..60 {
        near.handle_timeout(at(seconds));
        assert_eq!(gossiped(&mut near), None, "{seconds}");
    }
    near.handle_timeout(at(60));
    let again = gossiped(&mut near).expect("said again");
    let relay = crowd.relays[0].id();
    assert_eq!(far.handle_gossip(at(60), Some(relay), &again), Ok(Handled::Done));
    // The older message is recognised as older.
    assert_eq!(far.handle_gossip(at(61), Some(relay), &first), Ok(Handled::Done));
    far.handle_timeout(at(209));
    assert_eq!(far.availability_of(keys[0].id()), DEAF);
    assert!(far.poll_timeout().is_some_and(|timeout| timeout <= at(210)));
    told(&mut far);
    far.handle_timeout(at(210));
    assert_eq!(far.availability_of(keys[0].id()), Availability::default());
    assert_eq!(told(&mut far), 1);
    // An old report that somebody repeats is ignored, and is not passed on.
    far.set_calendar(at(211), UnixTime::from_secs(1_800_000_000 + 3 * 3_600));
    far.handle_timeout(at(3 * 3_600));
    let mut later = crowd.squad(&keys[1], member(1));
    later.set_calendar(at(211), UnixTime::from_secs(1_800_000_000 + 3 * 3_600));
    for squad in [&mut far, &mut later] {
        let handled = squad.handle_gossip(at(3 * 3_600), Some(relay), &again);
        assert!(handled == Err(MessageError::Stale) || handled == Ok(Handled::Done));
        assert_eq!(squad.availability_of(keys[0].id()), Availability::default());
    }
}

/// [PROTO-5.12] The mute of an earlier run ended with that run, though the link had ended before.
#[test]
fn a_member_who_came_back_was_still_shown_as_muted() {
    let crowd = Crowd::new(2, 1);
    let keys = &crowd.members;
    let member = |index: usize| Some(crowd.charter.member_of(keys[index].id()));
    let mut near = crowd.squad(&keys[0], member(0));
    let mut far = crowd.squad(&keys[1], member(1));
    let hello = |incarnation| PeerHello {
        device: keys[0].id(),
        member: member(0),
        name: "Kestrel".to_owned(),
        incarnation,
        ..crowd.hello_of_relay(0)
    };
    let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
    near.handle_link_up(at(0), crowd.hello_of_relay(0), None);
    far.handle_link_up(at(0), hello(1), None);
    near.set_availability(at(1), DEAF);
    let report = gossiped(&mut near).expect("said at once");
    assert_eq!(far.handle_gossip(at(1), None, &report), Ok(Handled::Done));
    // The link is lost, and another one opens in the same run.
    far.handle_link_down(at(2), keys[0].id(), DownReason::Unreachable);
    far.handle_link_up(at(3), hello(1), None);
    assert_eq!(far.availability_of(keys[0].id()), DEAF);
    far.handle_link_down(at(4), keys[0].id(), DownReason::Left);
    told(&mut far);
    far.handle_link_up(at(5), hello(2), None);
    assert_eq!(far.availability_of(keys[0].id()), Availability::default());
    assert_eq!(told(&mut far), 1);
    // Nobody brings the old report back.
    assert_eq!(far.handle_gossip(at(6), None, &report), Ok(Handled::Done));
    assert_eq!(far.availability_of(keys[0].id()), Availability::default());
}

/// [PROTO-5.12]
#[test]
fn who_changes_all_the_time_is_told_of_as_often_as_others_pass_it_on() {
    let crowd = Crowd::new(2, 1);
    let keys = &crowd.members;
    let member = |index: usize| Some(crowd.charter.member_of(keys[index].id()));
    let mut near = crowd.squad(&keys[0], member(0));
    let mut far = crowd.squad(&keys[1], member(1));
    near.handle_link_up(Timestamp::ZERO, crowd.hello_of_relay(0), None);
    let mut said = 0;
    let mut last = Availability::default();
    for step in 0..600_u64 {
        let now = Timestamp::from_millis(step * 100);
        last = Availability { muted: step.is_multiple_of(2), ..Availability::default() };
        near.set_availability(now, last);
        near.handle_timeout(now);
        if let Some(bytes) = gossiped(&mut near) {
            said += 1;
            assert_eq!(far.handle_gossip(now, None, &bytes), Ok(Handled::Done));
        }
    }
    assert_eq!(said, 30, "once in two seconds");
    let now = Timestamp::from_millis(62_000);
    near.handle_timeout(now);
    if let Some(bytes) = gossiped(&mut near) {
        assert_eq!(far.handle_gossip(now, None, &bytes), Ok(Handled::Done));
    }
    assert_eq!(far.availability_of(keys[0].id()), last, "the last one is told in any case");
    // A device that sends more than it may is not passed on.
    let rude = |number: u64| {
        let availability =
            Availability { away: number.is_multiple_of(2), ..Availability::default() };
        let number = (1_800_000_000 + 100) * 1_000 + number;
        let said = AvailabilityMessage { device: keys[0].id(), number, availability };
        Message::Availability(Signed::sign(said, &keys[0])).encode()
    };
    let results: Vec<_> = (0..20).map(|it| far.handle_gossip(now, None, &rude(it))).collect();
    assert!(results[0].is_ok() && results[9] != Err(MessageError::Stale));
    assert_eq!(results[19], Err(MessageError::OverBudget));
    // Nobody can report for another device, and a stranger cannot report at all.
    let mut forged = rude(100);
    *forged.last_mut().unwrap() ^= 1;
    let later = now + Duration::from_secs(60);
    assert!(matches!(far.handle_gossip(later, None, &forged), Err(MessageError::Signature(_))));
    let stranger = DeviceKey::generate(&SeededRandom::new(77));
    let number = 1_800_000_100_000;
    let said = AvailabilityMessage { device: stranger.id(), number, availability: DEAF };
    let bytes = Message::Availability(Signed::sign(said, &stranger)).encode();
    assert_eq!(far.handle_gossip(later, None, &bytes), Err(MessageError::Stale));
    assert_eq!(far.availability_of(stranger.id()), Availability::default());
}

/// [PROTO-5.12] Over links the report arrives whatever gossip loses, and nothing remains of an
/// earlier run.
#[test]
fn all_who_are_linked_know_who_is_deaf() {
    let mut world = room(7, 4, 30);
    world.run_for(Duration::from_secs(10));
    let (now, deaf) = (world.now, world.id(1));
    world.squad(1).set_availability(now, DEAF);
    world.run_for(Duration::from_secs(10));
    for index in [0, 2, 3] {
        assert_eq!(world.squad(index).availability_of(deaf), DEAF, "{index}");
    }
    // A newcomer is told. A device that has restarted has reported nothing.
    world.crash(3);
    world.run_for(Duration::from_secs(2));
    world.start(3);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.squad(3).availability_of(deaf), DEAF);
    world.crash(1);
    world.run_for(Duration::from_millis(500));
    world.start(1);
    world.run_for(Duration::from_secs(200));
    for index in [0, 2, 3] {
        assert_eq!(world.squad(index).availability_of(deaf), Availability::default(), "{index}");
    }
}

proptest! {
    /// [PROTO-5.12] [PROTO-5.29]
    #[test]
    fn every_availability_comes_back(
        number in any::<u64>(), muted in any::<bool>(), deafened in any::<bool>(), away in any::<bool>(),
    ) {
        let key = DeviceKey::from_secret(&[9; 32]);
        let availability = Availability { muted, deafened, away };
        let said = AvailabilityMessage { device: key.id(), number, availability };
        let message = Message::Availability(Signed::sign(said.clone(), &key));
        let bytes = message.encode();
        prop_assert!(bytes.len() <= 128, "{}", bytes.len());
        let Ok(Message::Availability(again)) = Message::decode(&bytes) else {
            panic!("another message")
        };
        prop_assert_eq!(again.verify(), Ok(&said));
        prop_assert_eq!(Topic::of(&bytes), Topic::Presence);
    }
}
