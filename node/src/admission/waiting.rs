//! The waiting room of a door, for newcomers whose ticket requires that somebody lets them in by
//! hand. [PROTO-4.10] [PROTO-4.22]
//!
//! Nothing is kept for a stranger: a newcomer that waits has shown a ticket that would otherwise
//! let it in. It knocks repeatedly. When it stops knocking, it counts as gone.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp, UnixTime, device_words};
use serde::{Deserialize, Serialize};

/// A newcomer that knocks, as people and programs see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// The device of the newcomer, as text.
    pub device: String,
    /// The name that its person wants to have. Nothing proves it.
    pub name: String,
    /// The verification words of the device, to compare with those that the newcomer sees.
    pub words: Vec<String>,
    /// The number of the ticket that it shows.
    pub ticket: String,
    /// Unix time in seconds of its first knock.
    pub since: u64,
}

/// The state of a newcomer that knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingState {
    /// The newcomer knocks and waits.
    Waiting,
    /// Somebody here has admitted it. It joins with its next knock.
    Admitted,
    /// Somebody here has turned it away.
    Refused,
    /// It no longer knocks, or has joined elsewhere.
    Gone,
}

/// The answer of a door to a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knocked {
    Admitted,
    Refused,
    Waiting,
    /// There is no room for the newcomer.
    Full,
}

/// The newcomers that wait at this door.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    /// The newcomers that wait, by device id.
    waiting: BTreeMap<DeviceId, Waiter>,
    /// Decisions for a device and an invite. The oldest is forgotten first.
    decided: VecDeque<(DeviceId, DeviceId, bool)>,
    /// Events that are not reported yet.
    news: Vec<(WaitingView, WaitingState)>,
    /// Counts the newcomers, to put them in order.
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
    /// `device` knocks with a valid invite.
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

    /// Lets in a newcomer that waits, or turns it away. Returns `false` if this device does not
    /// wait.
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

    /// `device` waits no longer, because it has joined here or elsewhere, or has gone.
    pub(super) fn forget(&mut self, device: DeviceId) {
        if let Some(waiter) = self.waiting.remove(&device) {
            self.news.push((waiter.view(device), WaitingState::Gone));
        }
    }

    /// Forgets the newcomers that no longer knock.
    pub(super) fn forget_silent(&mut self, now: Timestamp) {
        let silent = |it: &Waiter| now.saturating_duration_since(it.heard) >= SILENT_AFTER;
        let gone: Vec<_> =
            self.waiting.iter().filter(|(_, it)| silent(it)).map(|(device, _)| *device).collect();
        gone.into_iter().for_each(|device| self.forget(device));
    }

    /// The events since the last call.
    pub(super) fn take_news(&mut self) -> Vec<(WaitingView, WaitingState)> {
        std::mem::take(&mut self.news)
    }

    /// The newcomers that wait. Those that have waited the longest come first.
    pub(super) fn list(&self) -> Vec<(DeviceId, WaitingView)> {
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|(_, it)| it.arrival);
        waiting.into_iter().map(|(device, it)| (*device, it.view(*device))).collect()
    }

    /// Makes room for one more newcomer with this invite, if possible, and returns whether there is
    /// room. One invite holds at most half of all places, and never more than are free. The first
    /// newcomer of an invite that holds none finds room as long as another invite holds more than
    /// one place.
    fn has_room(&mut self, invite: DeviceId) -> bool {
        let free = PLACES - self.waiting.len();
        let held = |of: DeviceId| self.waiting.values().filter(|it| it.invite == of).count();
        let own = held(invite);
        if own > 0 || free > 0 {
            return own < (PLACES / 2).min(free);
        }
        // The newest newcomer of the invite that holds the most must leave.
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

/// Newcomers that may wait at a door. A further one is answered that there is no room.
const PLACES: usize = 32;

/// Decisions that are remembered. A device whose decision was forgotten knocks as if for the first
/// time.
const DECIDED_MAX: usize = 256;

/// A newcomer that has not knocked for this long has gone. It knocks each second, through relays
/// less often.
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
        // A decision about one ticket does not apply to another.
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
        /// Somebody who floods the room with devices of one ticket keeps out nobody who has another
        /// one.
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
