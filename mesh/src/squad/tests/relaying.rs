use std::time::Duration;

use crate::squad::{DownReason, Service, Squad, SquadEvent, SquadTransmit};
use crate::testing::World;

/// Regression: a volunteer that stopped cut off what was being said through it. [PROTO-10.6]
#[test]
fn whoever_volunteers_no_more_forwards_until_talkers_have_heard_of_it() {
    let mut world = World::together(3);
    let now = world.now;
    let squad = &mut world.nodes[0].squad;
    while squad.poll_event().is_some() {}
    squad.volunteer(now, Some(9_000));
    let served = |squad: &mut Squad| {
        let events = std::iter::from_fn(|| squad.poll_event());
        let served = events.filter_map(|event| match event {
            SquadEvent::Serve(service) => Some(service),
            _ => None,
        });
        served.collect::<Vec<_>>()
    };
    let attached = |service: &&Service| matches!(service, Service::Attach { .. });
    assert_eq!(served(squad).iter().filter(attached).count(), 3);
    squad.volunteer(now, None);
    squad.handle_timeout(now + Duration::from_millis(1_999));
    assert!(!served(squad).contains(&Service::Stop));
    squad.handle_timeout(now + Duration::from_secs(2));
    assert_eq!(served(squad), [Service::Stop]);
    // A device that changes its mind meanwhile starts again.
    squad.volunteer(now, Some(0));
    squad.volunteer(now, None);
    squad.volunteer(now, Some(0));
    let services = served(squad);
    assert_eq!(services.iter().filter(|it| **it == Service::Stop).count(), 1);
    squad.handle_timeout(now + Duration::from_secs(9));
    assert!(!served(squad).contains(&Service::Stop));
}

/// Regression: a device that learnt of a volunteer's end before its talkers did accepted nothing
/// more from it. So it missed what they still said through the volunteer. [PROTO-10.5]
#[test]
fn what_a_volunteer_still_brings_is_taken() {
    let mut world = World::together(2);
    let (now, volunteer) = (world.now, world.id(1));
    let tell = |world: &mut World, rate| {
        world.nodes[1].squad.volunteer(now, rate);
        world.nodes[1].squad.handle_timeout(now);
        let transmits = std::iter::from_fn(|| world.nodes[1].squad.poll_transmit());
        let gossip = transmits.filter_map(|it| match it {
            SquadTransmit::Gossip(bytes) => Some(bytes),
            _ => None,
        });
        for bytes in gossip.collect::<Vec<_>>() {
            world.nodes[0].squad.handle_gossip(now, Some(volunteer), &bytes).expect("an offer");
        }
    };
    // Whether the slots of a relay are known, at each report of them.
    let told = |squad: &mut Squad| {
        let events = std::iter::from_fn(|| squad.poll_event());
        let told = events.filter_map(|event| match event {
            SquadEvent::Slots { relay, slots } if relay == volunteer => Some(slots.is_some()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    tell(&mut world, Some(0));
    assert_eq!(told(&mut world.nodes[0].squad), [true]);
    tell(&mut world, None);
    let squad = &mut world.nodes[0].squad;
    squad.handle_timeout(now + Duration::from_millis(2_999));
    assert_eq!(told(squad), []);
    squad.handle_timeout(now + Duration::from_secs(3));
    assert_eq!(told(squad), [false]);
    // A device that volunteers again at once is told everything again.
    tell(&mut world, Some(0));
    tell(&mut world, None);
    tell(&mut world, Some(0));
    let squad = &mut world.nodes[0].squad;
    assert_eq!(told(squad), [true, true]);
    squad.handle_timeout(now + Duration::from_secs(4));
    assert_eq!(told(squad), []);
}

/// [PROTO-10.10] [PROTO-10.23] Without a link nobody could have answered.
#[test]
fn a_relay_is_left_for_a_talker_who_could_have_answered_only() {
    let mut world = World::together(3);
    let (now, talker, relay) = (world.now, world.id(1), world.id(2));
    let squad = &mut world.nodes[0].squad;
    squad.handle_heard(now, talker);
    let left = |squad: &mut Squad, after| {
        squad.handle_relay_unproven(now + Duration::from_millis(after), relay, talker);
        let leaves = SquadEvent::LeaveRelay { relay, talker };
        std::iter::from_fn(|| squad.poll_event()).any(|event| event == leaves)
    };
    assert!(left(squad, 1_499));
    assert!(!left(squad, 1_500));
    squad.handle_link_down(now, talker, DownReason::Left);
    assert!(!left(squad, 0));
}
