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
