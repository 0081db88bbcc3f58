use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use hark_charter::State;
use hark_keys::{DeviceId, List, MemberId};

use super::sessions::{Place, Session, Sessions};
use crate::{Target, datagram::Slot};

/// What a talker wants to reach through a relay, declared before it talks. [PROTO-9.9]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRoute {
    /// The tag by which its datagrams name it.
    pub tag: [u8; 4],
    /// The target of its datagrams, as far as the charter permits.
    pub target: Target,
    /// If `Some`, the only devices that it reaches.
    pub only: Option<List<DeviceId, ONLY_MAX>>,
}

/// A route as its session stores it.
pub(super) struct Declared {
    pub(super) route: ForwardRoute,
    fan_out: Option<usize>,
    /// The state of the charter that `fan_out` is based on; `None` if it was not needed yet.
    state: Option<u64>,
}

impl Declared {
    pub(super) fn new(route: ForwardRoute) -> Self {
        Self { route, fan_out: None, state: None }
    }
}

/// The listeners of each target. A list is made when it is first needed after a change, and kept
/// from then on.
///
/// Talkers that reach the same listeners share one list. It takes in the sessions that have changed
/// since it was last used, one by one. So a device that arrives costs each list in use one check.
#[derive(Default)]
pub(super) struct FanOuts {
    lists: Vec<FanOut>,
    free: Vec<usize>,
    index: BTreeMap<(Target, Option<List<DeviceId, ONLY_MAX>>), usize>,
    state: State,
    /// Counts the states of the charter.
    number: u64,
    /// Slots of sessions that have changed, and how many changes came before the first of them.
    changes: VecDeque<Slot>,
    forgotten: u64,
}

struct FanOut {
    /// Every part of it is permitted.
    target: Target,
    only: Option<List<DeviceId, ONLY_MAX>>,
    /// In ascending order. Shared with the frames that are on their way.
    hearers: Arc<Vec<Place>>,
    /// The state of the charter and the number of changes that it is based on; `None` before its
    /// first use.
    as_of: Option<(u64, u64)>,
    routes: u32,
}

impl FanOuts {
    /// Sets the state of the charter.
    pub(super) fn set_state(&mut self, state: State) {
        if !self.state.permits_like(&state) {
            self.number += 1;
        }
        self.state = state;
    }

    /// A session has begun, ended, or changed what it listens to.
    pub(super) fn note(&mut self, slot: Slot) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
            self.forgotten += 1;
        }
        self.changes.push_back(slot);
    }

    /// Releases what a route refers to.
    pub(super) fn release(&mut self, declared: &Declared) {
        let Some(number) = declared.fan_out else { return };
        let list = &mut self.lists[number];
        list.routes -= 1;
        if list.routes == 0 {
            list.hearers = Arc::default();
            list.as_of = None;
            self.index.remove(&(list.target.clone(), list.only.take()));
            self.free.push(number);
        }
    }

    /// The listeners of the permitted part of a route; `None` if no part is permitted.
    pub(super) fn hearers(
        &mut self,
        sessions: &Sessions,
        speaker: MemberId,
        declared: &mut Declared,
    ) -> Option<(&Target, &Arc<Vec<Place>>)> {
        if declared.state != Some(self.number) {
            self.release(declared);
            declared.fan_out = self.find(speaker, &declared.route);
            declared.state = Some(self.number);
        }
        let number = declared.fan_out?;
        self.refresh(sessions, number);
        let list = &self.lists[number];
        Some((&list.target, &list.hearers))
    }

    fn find(&mut self, speaker: MemberId, route: &ForwardRoute) -> Option<usize> {
        let target = route.target.permitted(&self.state, speaker);
        if target.is_empty() {
            return None;
        }
        let key = (target, route.only.clone());
        let number = match self.index.get(&key) {
            Some(number) => *number,
            None => {
                let list = FanOut {
                    target: key.0.clone(),
                    only: key.1.clone(),
                    hearers: Arc::default(),
                    as_of: None,
                    routes: 0,
                };
                let number = self.free.pop().unwrap_or(self.lists.len());
                if number == self.lists.len() {
                    self.lists.push(list);
                } else {
                    self.lists[number] = list;
                }
                self.index.insert(key, number);
                number
            }
        };
        self.lists[number].routes += 1;
        Some(number)
    }

    fn is_current(&self, list: &FanOut) -> bool {
        list.as_of == Some((self.number, self.forgotten + self.changes.len() as u64))
    }

    fn refresh(&mut self, sessions: &Sessions, number: usize) {
        if self.is_current(&self.lists[number]) {
            return;
        }
        let changes = self.forgotten + self.changes.len() as u64;
        let list = &mut self.lists[number];
        let missed = match list.as_of {
            Some((state, seen)) if state == self.number && seen >= self.forgotten => {
                (seen - self.forgotten) as usize..self.changes.len()
            }
            _ => 0..usize::MAX,
        };
        if missed.len() < sessions.len() {
            for slot in self.changes.range(missed) {
                let session = sessions.get(*slot).filter(|it| list.is_heard_by(&self.state, it));
                let at = list.hearers.binary_search_by_key(slot, |it| it.slot);
                match (session, at) {
                    (Some(session), Ok(at)) => {
                        if list.hearers[at] != session.place {
                            Arc::make_mut(&mut list.hearers)[at] = session.place;
                        }
                    }
                    (Some(session), Err(at)) => {
                        Arc::make_mut(&mut list.hearers).insert(at, session.place);
                    }
                    (None, Ok(at)) => {
                        Arc::make_mut(&mut list.hearers).remove(at);
                    }
                    (None, Err(_)) => {}
                }
            }
        } else {
            let heard = sessions.iter().filter(|it| list.is_heard_by(&self.state, it));
            let mut hearers: Vec<_> = heard.map(|it| it.place).collect();
            hearers.sort_unstable();
            list.hearers = Arc::new(hearers);
        }
        list.as_of = Some((self.number, changes));
    }
}

impl FanOut {
    fn is_heard_by(&self, state: &State, session: &Session) -> bool {
        let named = self.only.as_ref().is_none_or(|only| only.contains(&session.device));
        let Some((member, _)) = session.member else { return false };
        named && self.target.reaches(state, member, &session.listening)
    }
}

/// Most devices that a route names.
pub const ONLY_MAX: usize = 64;

/// Most routes of one device. A further one is refused.
pub const ROUTES_MAX: usize = 64;

/// Changes that a list of listeners takes in one by one. After more changes it is made again.
const CHANGES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::super::{
        Limits, Rate,
        tests::{World, device, member, net, state},
    };
    use super::*;

    /// The numbers of lists that are in use, and that were ever made.
    fn lists(world: &World) -> (usize, usize) {
        let fan_outs = &world.forwarder.fan_outs;
        (fan_outs.index.len(), fan_outs.lists.len())
    }

    /// Otherwise a talker that keeps declaring other routes would fill the relay's memory.
    #[test]
    fn a_list_is_kept_as_long_as_a_route_uses_it() {
        let mut world = World::new(Limits::default());
        let [ann, bob] = [1, 2].map(|number| world.talker(number));
        for talker in [ann, bob] {
            assert_eq!(world.say(talker, 1), Ok(()));
        }
        assert_eq!(lists(&world), (1, 1), "both talk to the same listeners");
        for number in 3..30 {
            world.route(ann, 2, Target::new([net(1)], [member(number)], []));
            assert_eq!(world.say(ann, 2), Ok(()));
            world.got();
        }
        assert_eq!(lists(&world), (2, 2));
        world.forwarder.set_state(&state(&[(9, 1, hark_charter::content::Capabilities::SPEAK)]));
        for tag in [1, 2] {
            assert_eq!(world.say(ann, tag), Ok(()));
        }
        assert_eq!(lists(&world), (2, 2));
        world.forwarder.remove_route(ann, [2; 4]);
        assert_eq!(lists(&world), (1, 2));
        world.forwarder.detach(world.now, device(1));
        assert_eq!(lists(&world), (1, 2), "the other still talks to them");
        assert_eq!(world.say(bob, 1), Ok(()));
        world.forwarder.detach(world.now, device(2));
        assert_eq!(lists(&world), (0, 2));
        let cid = world.talker(3);
        assert_eq!(world.say(cid, 1), Ok(()));
        assert_eq!(lists(&world), (1, 2));
    }

    #[test]
    fn a_list_follows_however_many_changes() {
        let unlimited = Limits { voice: Rate::UNLIMITED, ..Limits::default() };
        let mut world = World::new(Limits { voice_of_member: Rate::UNLIMITED, ..unlimited });
        let ann = world.talker(1);
        let bob = world.attach(2);
        let mut listens = true;
        let mut follows = |changes: usize| {
            for _ in 0..changes {
                listens = !listens;
                world.forwarder.set_listening(bob, listens.then_some(net(1)));
            }
            world.wait(20);
            assert_eq!(world.say(ann, 1), Ok(()));
            assert_eq!(world.heard(), if listens { vec![(1, 2)] } else { vec![] });
        };
        // One by one, until the first ones are no longer remembered.
        for _ in 0..CHANGES_MAX + 2 {
            follows(1);
        }
        for changes in [CHANGES_MAX - 1, CHANGES_MAX, CHANGES_MAX + 1, CHANGES_MAX + 2, 1] {
            follows(changes);
        }
    }

    /// The session that has the slot then has another index.
    #[test]
    fn who_gets_the_slot_of_another_hears_what_that_one_heard() {
        let mut world = World::new(Limits::default());
        let ann = world.talker(1);
        let slots: Vec<_> = (2..12).map(|number| world.attach(number)).collect();
        assert_eq!(world.say(ann, 1), Ok(()));
        assert_eq!(world.heard().len(), 10);
        for number in [2, 3] {
            world.forwarder.detach(world.now, device(number));
        }
        world.wait(60_000);
        assert_eq!([12, 13].map(|number| world.attach(number)), slots[..2]);
        assert_eq!(world.say(ann, 1), Ok(()));
        let to: Vec<_> = world.heard().into_iter().map(|(_, to)| to).collect();
        assert_eq!(to, slots.iter().map(|slot| slot.number()).collect::<Vec<_>>());
    }
}
