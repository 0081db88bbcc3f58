//! Newcomers whose ticket says that somebody lets them in by hand. [PROTO-4.10] [PROTO-4.22]
//!
//! Nothing of a stranger is kept: who waits has shown a ticket that would let it in but for that.
//! It knocks again and again; who does not any more has gone.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp, UnixTime, device_words};
use serde::{Deserialize, Serialize};

/// Somebody who knocks, as people and programs see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// Which device, as text.
    pub device: String,
    /// What its person wants to be called. Nothing proves it.
    pub name: String,
    /// The words of the device, to compare with those that the newcomer sees.
    pub words: Vec<String>,
    /// The number of the ticket that it shows.
    pub ticket: String,
    /// Unix time in seconds at which it knocked first.
    pub since: u64,
}

/// What became of somebody who knocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingState {
    /// It knocks.
    Waiting,
    /// Somebody here lets it in: it comes when it knocks next.
    Admitted,
    /// Somebody here does not.
    Refused,
    /// It does not knock any more, or has come in elsewhere.
    Gone,
}

/// What a door says to a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knocked {
    Admitted,
    Refused,
    Waiting,
    /// There is no place for it.
    Full,
}

/// Who waits at this door.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    /// In the order of their ids.
    waiting: BTreeMap<DeviceId, Waiter>,
    /// What was decided, until the newcomer has heard of it; the oldest goes.
    decided: VecDeque<(DeviceId, DeviceId, bool)>,
    /// What happened, until it is told.
    news: Vec<(WaitingView, WaitingState)>,
    /// Counts the knocks of those who are new.
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    name: String,
    invite: DeviceId,
    since: UnixTime,
    heard: Timestamp,
    arrival: u64,
}

impl WaitingRoom {
    /// `device` knocks by an invite that is good.
    pub(super) fn knock(
        &mut self,
        (now, date): (Timestamp, UnixTime),
        device: DeviceId,
        name: &str,
        invite: DeviceId,
    ) -> Knocked {
        self.forget_silent(now);
        let decided = self.decided.iter().find(|it| (it.0, it.1) == (device, invite));
        match decided {
            Some((.., true)) => return Knocked::Admitted,
            Some((.., false)) => return Knocked::Refused,
            None => {}
        }
        if let Some(waiter) = self.waiting.get_mut(&device) {
            waiter.heard = now;
            return Knocked::Waiting;
        }
        if !self.has_room(invite) {
            return Knocked::Full;
        }
        self.arrivals += 1;
        let name = name.to_owned();
        let waiter = Waiter { name, invite, since: date, heard: now, arrival: self.arrivals };
        self.news.push((waiter.view(device), WaitingState::Waiting));
        self.waiting.insert(device, waiter);
        Knocked::Waiting
    }

    /// Lets somebody who waits in, or not; false where nobody of this device waits.
    pub(super) fn decide(&mut self, device: DeviceId, admit: bool) -> bool {
        let Some(waiter) = self.waiting.remove(&device) else { return false };
        if self.decided.len() >= DECIDED_MAX {
            self.decided.pop_front();
        }
        self.decided.push_back((device, waiter.invite, admit));
        let state = if admit { WaitingState::Admitted } else { WaitingState::Refused };
        self.news.push((waiter.view(device), state));
        true
    }

    /// `device` has come in, here or elsewhere.
    pub(super) fn forget(&mut self, device: DeviceId) {
        if let Some(waiter) = self.waiting.remove(&device) {
            self.news.push((waiter.view(device), WaitingState::Gone));
        }
    }

    /// Forgets those who do not knock any more.
    pub(super) fn forget_silent(&mut self, now: Timestamp) {
        let silent = |it: &Waiter| now.saturating_duration_since(it.heard) >= SILENT_AFTER;
        let gone: Vec<_> =
            self.waiting.iter().filter(|(_, it)| silent(it)).map(|(device, _)| *device).collect();
        gone.into_iter().for_each(|device| self.forget(device));
    }

    /// What happened since it was asked last.
    pub(super) fn take_news(&mut self) -> Vec<(WaitingView, WaitingState)> {
        std::mem::take(&mut self.news)
    }

    /// Who waits, the longest first.
    pub(super) fn list(&self) -> Vec<(DeviceId, WaitingView)> {
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|(_, it)| it.arrival);
        waiting.into_iter().map(|(device, it)| (*device, it.view(*device))).collect()
    }

    /// Whether there is a place for one more with this invite, which may be made: one invite holds
    /// half of all at most, and never more than are free; of who holds none the first always finds
    /// one.
    fn has_room(&mut self, invite: DeviceId) -> bool {
        let free = PLACES - self.waiting.len();
        let held = |of: DeviceId| self.waiting.values().filter(|it| it.invite == of).count();
        let own = held(invite);
        if own > 0 || free > 0 {
            return own < (PLACES / 2).min(free);
        }
        // The newest of the invite that holds the most makes room.
        let last = self.waiting.iter().max_by_key(|(_, it)| (held(it.invite), it.arrival));
        let Some((device, _)) = last.filter(|(_, it)| held(it.invite) > 1) else { return false };
        let device = *device;
        self.forget(device);
        true
    }
}

impl Waiter {
    fn view(&self, device: DeviceId) -> WaitingView {
        WaitingView {
            device: device.to_string(),
            name: self.name.clone(),
            words: device_words(device).map(str::to_owned).to_vec(),
            ticket: self.invite.short(),
            since: self.since.as_secs(),
        }
    }
}

/// Newcomers who wait at a door; one more is told that it has no room.
const PLACES: usize = 32;

/// Decisions that are remembered; who was decided about before knocks as if for the first time.
const DECIDED_MAX: usize = 256;

/// Who has not knocked for so long has gone. A newcomer knocks each second, by relays more seldom.
const SILENT_AFTER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use hark_keys::DeviceKey;
    use proptest::prelude::*;

    use super::*;

    fn device(number: u16) -> DeviceId {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        DeviceKey::from_secret(&seed).id()
    }

    fn at(seconds: u64) -> (Timestamp, UnixTime) {
        (Timestamp::default() + Duration::from_secs(seconds), UnixTime::from_secs(1_000 + seconds))
    }

    /// [PROTO-4.10] [PROTO-4.22]
    #[test]
    fn who_knocks_waits_until_somebody_says_so() {
        let mut room = WaitingRoom::default();
        let (wren, heron, invite) = (device(1), device(2), device(100));
        assert_eq!(room.knock(at(0), wren, "Wren", invite), Knocked::Waiting);
        assert_eq!(room.knock(at(1), heron, "Heron", invite), Knocked::Waiting);
        assert_eq!(room.knock(at(9), wren, "Wren", invite), Knocked::Waiting);
        let names: Vec<_> = room.list().into_iter().map(|(_, it)| (it.name, it.since)).collect();
        assert_eq!(names, [("Wren".to_owned(), 1_000), ("Heron".to_owned(), 1_001)]);
        assert!(room.decide(wren, true) && !room.decide(wren, true));
        assert_eq!(room.knock(at(10), wren, "Wren", invite), Knocked::Admitted);
        // What was said of one ticket is not said of another.
        assert_eq!(room.knock(at(10), wren, "Wren", device(101)), Knocked::Waiting);
        assert!(room.decide(heron, false));
        assert_eq!(room.knock(at(11), heron, "Heron", invite), Knocked::Refused);
        room.forget_silent(at(24).0);
        assert_eq!(room.list().len(), 1);
        room.forget_silent(at(25).0);
        assert_eq!(room.list(), []);
        let states: Vec<_> = room.take_news().into_iter().map(|(_, state)| state).collect();
        use WaitingState::{Admitted, Gone, Refused, Waiting};
        assert_eq!(states, [Waiting, Waiting, Admitted, Waiting, Refused, Gone]);
        assert_eq!(room.take_news(), []);
    }

    proptest! {
        /// Whoever floods it with devices by one ticket keeps nobody out who comes by another.
        #[test]
        fn one_ticket_does_not_fill_the_waiting_room(
            knocks in proptest::collection::vec((0..200_u16, 0..4_u16), 0..300),
        ) {
            let mut room = WaitingRoom::default();
            for (number, invite) in knocks {
                room.knock(at(0), device(number), "Magpie", device(1_000 + invite));
                let (waiting, mut held) = (room.waiting.len(), BTreeMap::<_, usize>::new());
                room.waiting.values().for_each(|it| *held.entry(it.invite).or_default() += 1);
                prop_assert!(waiting <= PLACES);
                prop_assert!(held.values().all(|held| *held <= PLACES / 2));
            }
            prop_assert_eq!(room.knock(at(1), device(999), "Wren", device(2_000)), Knocked::Waiting);
        }
    }
}
