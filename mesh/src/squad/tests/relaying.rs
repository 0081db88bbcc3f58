use std::time::Duration;

use super::rights::World;
use crate::squad::{Event, Service};

/// A volunteer who stopped cut off what was being said through it.
#[test]
fn whoever_volunteers_no_more_forwards_until_talkers_have_heard_of_it() {
    let mut world = World::new(3);
    let now = world.now;
    let squad = &mut world.nodes[0].squad;
    while squad.poll_event().is_some() {}
    squad.volunteer(now, Some(9_000));
    let served = |squad: &mut crate::squad::Squad| {
        let events = std::iter::from_fn(|| squad.poll_event());
        let served = events.filter_map(|event| match event {
            Event::Serve(service) => Some(service),
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
    // Whoever changes its mind meanwhile begins anew.
    squad.volunteer(now, Some(0));
    squad.volunteer(now, None);
    squad.volunteer(now, Some(0));
    let services = served(squad);
    assert_eq!(services.iter().filter(|it| **it == Service::Stop).count(), 1);
    squad.handle_timeout(now + Duration::from_secs(9));
    assert!(!served(squad).contains(&Service::Stop));
}
