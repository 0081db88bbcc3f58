//! Compares the forwarder with one that is as simple as possible.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

/// An event of the test. Numbers name members, nets, tags and charters.
#[derive(Clone, Debug)]
enum Step {
    Attach(u8),
    Detach(u8),
    Listen(u8, Vec<u8>),
    Charter(usize),
    Route {
        of: u8,
        tag: u8,
        target: Target,
        only: Option<Vec<u8>>,
    },
    Unroute(u8, u8),
    /// A frame with `copies` copies. It has an earlier number if it is not the next one.
    Say {
        of: u8,
        tag: u8,
        copies: u8,
        again: Option<u8>,
    },
    Ask {
        of: u8,
        about: u8,
        copies: u8,
    },
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 1..7_u8;
    let nets = || vec(1..4_u8, 0..3);
    let target = (nets(), vec(who(), 0..2), proptest::option::weighted(0.2, Just(CREW)));
    let target = target.prop_map(|(nets, members, role)| {
        let members = members.into_iter().map(|it| member(it.into()));
        Target::new(nets.into_iter().map(net), members, role)
    });
    let only = proptest::option::weighted(0.3, vec(who(), 0..4));
    let say = (who(), 0..3_u8, 0..6_u8, proptest::option::weighted(0.2, 1..200_u8));
    let step = prop_oneof![
        2 => who().prop_map(Step::Attach),
        1 => who().prop_map(Step::Detach),
        3 => (who(), nets()).prop_map(|(of, nets)| Step::Listen(of, nets)),
        1 => (0..CHARTERS).prop_map(Step::Charter),
        4 => (who(), 0..3_u8, target, only)
            .prop_map(|(of, tag, target, only)| Step::Route { of, tag, target, only }),
        1 => (who(), 0..3_u8).prop_map(|(of, tag)| Step::Unroute(of, tag)),
        12 => say.prop_map(|(of, tag, copies, again)| Step::Say { of, tag, copies, again }),
        3 => (who(), who(), 0..6_u8).prop_map(|(of, about, copies)| Step::Ask { of, about, copies }),
        1 => (0..900_u16).prop_map(Step::Wait),
    ];
    vec(step, 1..120)
}

const CHARTERS: usize = 4;

fn charters() -> &'static [State; CHARTERS] {
    static STATES: std::sync::OnceLock<[State; CHARTERS]> = std::sync::OnceLock::new();
    STATES.get_or_init(|| {
        [
            state(&[]),
            state(&[(1, 1, Capabilities::SPEAK), (2, 2, Capabilities::LISTEN)]),
            state(&[(3, 1, Capabilities::JOIN), (4, 3, Capabilities::SPEAK)]),
            state(&[(1, 2, Capabilities::LISTEN), (1, 3, Capabilities::LISTEN)]),
        ]
    })
}

/// Decides who should get what, from the current settings alone and again for each frame.
#[derive(Default)]
struct Naive {
    charter: usize,
    attached: BTreeMap<u8, Attached>,
}

struct Attached {
    slot: Slot,
    listening: BTreeSet<ChannelId>,
    routes: BTreeMap<u8, (Target, Option<Vec<u8>>)>,
    sequence: u16,
    said: BTreeSet<u16>,
    said_at: Timestamp,
    /// By slot of the listener: copies, and until when.
    wants: BTreeMap<Slot, (u8, Timestamp)>,
}

impl Naive {
    /// The listeners that get a frame, with their number of copies; `None` if it is not forwarded.
    fn hearers(&self, now: Timestamp, of: u8, tag: u8) -> Option<BTreeMap<Slot, u8>> {
        let state = &charters()[self.charter];
        let talker = self.attached.get(&of)?;
        let (target, only) = talker.routes.get(&tag)?;
        if target.permitted(state, member(of.into())).is_empty() {
            return None;
        }
        let others = self.attached.iter().filter(|(number, _)| **number != of);
        let heard = others.filter(|(number, other)| {
            let whom = member(u16::from(**number));
            only.as_ref().is_none_or(|only| only.contains(number))
                && target.hearing(state, member(of.into()), whom, &other.listening).is_reached()
        });
        let wanted = |slot: &Slot| match talker.wants.get(slot) {
            Some((copies, until)) if *until > now => *copies,
            _ => 0,
        };
        Some(heard.map(|(_, other)| (other.slot, wanted(&other.slot))).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_frame_goes_to_whom_a_naive_forwarder_sends_it(steps in steps()) {
        let mut world = World::new(unlimited());
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Attach(number) => {
                    let of = Some(member(number.into()));
                    let slot = world.forwarder.attach(world.now, device(number.into()), of).unwrap();
                    let attached = naive.attached.entry(number).or_insert_with(|| Attached {
                        slot,
                        listening: BTreeSet::new(),
                        routes: BTreeMap::new(),
                        sequence: 0,
                        said: BTreeSet::new(),
                        said_at: Timestamp::ZERO,
                        wants: BTreeMap::new(),
                    });
                    prop_assert_eq!(attached.slot, slot);
                }
                Step::Detach(number) => {
                    world.forwarder.detach(world.now, device(number.into()));
                    naive.attached.remove(&number);
                }
                Step::Listen(number, nets) => {
                    let Some(attached) = naive.attached.get_mut(&number) else { continue };
                    attached.listening = nets.into_iter().map(net).collect();
                    world.forwarder.set_listening(attached.slot, attached.listening.clone());
                }
                Step::Charter(number) => {
                    naive.charter = number;
                    world.forwarder.set_state(&charters()[number]);
                }
                Step::Route { of, tag, target, only } => {
                    let Some(attached) = naive.attached.get_mut(&of) else { continue };
                    let devices = only.clone().map(|only| {
                        List::truncated(only.into_iter().map(|it| device(it.into())))
                    });
                    let route = ForwardRoute { tag: [tag; 4], target: target.clone(), only: devices };
                    let taken = world.forwarder.set_route(attached.slot, route);
                    prop_assert_eq!(taken.is_ok(), !target.is_empty());
                    if taken.is_ok() {
                        attached.routes.insert(tag, (target, only));
                    }
                }
                Step::Unroute(of, tag) => {
                    let Some(attached) = naive.attached.get_mut(&of) else { continue };
                    attached.routes.remove(&tag);
                    world.forwarder.remove_route(attached.slot, [tag; 4]);
                }
                Step::Say { of, tag, copies, again } => {
                    let hearers = naive.hearers(world.now, of, tag);
                    let Some(talker) = naive.attached.get_mut(&of) else { continue };
                    let sequence = match again {
                        Some(back) if talker.sequence > u16::from(back) => {
                            talker.sequence - u16::from(back)
                        }
                        _ => talker.sequence + 1,
                    };
                    let slot = talker.slot;
                    if world.now.saturating_duration_since(talker.said_at).as_secs() > 0 {
                        talker.said.clear();
                    }
                    let taken = world.send(slot, tag, sequence, copies.into());
                    let mut got = world.got();
                    got.sort_unstable();
                    let mut expected = Vec::new();
                    match hearers {
                        Some(_) if talker.said.contains(&sequence) => {
                            prop_assert!(matches!(
                                taken,
                                Err(DropReason::Repeated | DropReason::TooOld)
                            ));
                        }
                        Some(_) if taken == Err(DropReason::TooOld) => {
                            prop_assert!(talker.said.iter().any(|it| *it >= sequence + 128));
                        }
                        Some(hearers) => {
                            prop_assert_eq!(taken, Ok(()));
                            talker.said.insert(sequence);
                            talker.said_at = world.now;
                            for (to, wanted) in hearers {
                                let ages = 0..=u16::from(copies.min(wanted));
                                let frames = ages.map(|age| frame(sequence.wrapping_sub(age)));
                                expected.push(Got {
                                    to: to.number(),
                                    from: slot.number(),
                                    sequence,
                                    frames: frames.collect(),
                                });
                            }
                        }
                        None => prop_assert!(matches!(
                            taken,
                            Err(DropReason::NotPermitted | DropReason::UnknownTarget)
                        )),
                    }
                    prop_assert_eq!(got, expected);
                    talker.sequence = talker.sequence.max(sequence);
                }
                Step::Ask { of, about, copies } => {
                    let Some(listener) = naive.attached.get(&of).map(|it| it.slot) else {
                        continue;
                    };
                    let Some(talker) = naive.attached.get_mut(&about) else { continue };
                    ask(&mut world, listener, talker.slot, copies);
                    let want = talker.wants.entry(listener).or_insert((0, world.now));
                    if want.1 <= world.now || copies >= want.0 {
                        *want = (copies, world.now + Duration::from_secs(2));
                    }
                }
                Step::Wait(milliseconds) => {
                    world.wait(milliseconds.into());
                    prop_assert_eq!(world.got(), []);
                }
            }
        }
        let statistics = world.forwarder.statistics();
        prop_assert_eq!(statistics.sessions, naive.attached.len());
        let of_members: u64 = statistics.members.values().map(|it| it.deliveries).sum();
        prop_assert_eq!(of_members, statistics.total.deliveries);
    }
}
