use std::{collections::VecDeque, sync::Arc, time::Duration};

use hark_keys::{DeviceId, Timestamp};

use super::sessions::Place;
use crate::datagram::Slot;

/// Which listeners of a talker were told which device has its slot. [PROTO-9.15]
#[derive(Default)]
pub(super) struct Introductions {
    /// The listeners of the talker's last frame.
    known: Arc<Vec<Place>>,
    /// Listeners that are told a few more times, since datagrams are lost.
    newcomers: Vec<Place>,
    rounds: u8,
    /// When all listeners were last told.
    all_at: Option<Timestamp>,
}

impl Introductions {
    /// A frame of `talker` for `hearers` has arrived. It is sent to them in their order from
    /// `first` on. Calls `tell`, in the same order, for those that must be told before the frame.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        talker: Slot,
        (hearers, first): (&Arc<Vec<Place>>, usize),
        mut tell: impl FnMut(Place),
    ) {
        let due = self.all_at.is_none_or(|at| now.saturating_duration_since(at) >= ALL_EVERY);
        if !due && Arc::ptr_eq(&self.known, hearers) {
            return;
        }
        if due {
            self.all_at = Some(now);
            self.newcomers.clear();
        }
        let (last, begun) = hearers.split_at(first);
        for place in begun.iter().chain(last).filter(|place| place.slot != talker) {
            if due || self.known.binary_search(place).is_err() {
                tell(*place);
                self.newcomers.push(*place);
                self.rounds = ROUNDS;
            }
        }
        self.known = Arc::clone(hearers);
    }

    /// Calls `tell` for those that are to be told once more.
    pub(super) fn again(&mut self, tell: impl FnMut(Place)) {
        self.rounds = self.rounds.saturating_sub(1);
        if self.rounds > 0 {
            self.newcomers.iter().copied().for_each(tell);
        } else {
            self.newcomers.clear();
        }
    }
}

/// Introductions that wait to be sent: the receiver, the slot, and the device in it.
#[derive(Default)]
pub(super) struct Waiting {
    first: VecDeque<(Place, Slot, DeviceId)>,
    again: VecDeque<(Place, Slot, DeviceId)>,
}

impl Waiting {
    /// Adds an introduction that must be sent before a waiting frame. It is left out if too many
    /// wait, since all listeners are told again later.
    pub(super) fn push(&mut self, to: Place, slot: Slot, device: DeviceId) {
        push(&mut self.first, (to, slot, device));
    }

    /// Adds a repeated introduction.
    pub(super) fn push_again(&mut self, to: Place, slot: Slot, device: DeviceId) {
        push(&mut self.again, (to, slot, device));
    }

    /// The next introduction to send.
    pub(super) fn pop(&mut self) -> Option<(Place, Slot, DeviceId)> {
        self.first.pop_front().or_else(|| self.again.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.again.is_empty()
    }
}

fn push(queue: &mut VecDeque<(Place, Slot, DeviceId)>, told: (Place, Slot, DeviceId)) {
    if queue.len() < WAITING_MAX {
        queue.push_back(told);
    }
}

/// Introductions of each sort that wait. Further ones are left out.
const WAITING_MAX: usize = 4_096;

/// How often a listener is told at first. With one loss in ten, one listener in a thousand misses
/// all.
const ROUNDS: u8 = 3;

/// How often all listeners are told again.
const ALL_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn places(numbers: &[u16]) -> Arc<Vec<Place>> {
        let place = |number: &u16| Place { slot: Slot::new(*number).unwrap(), index: *number };
        Arc::new(numbers.iter().map(place).collect())
    }

    /// [PROTO-9.15]
    #[test]
    fn whoever_is_new_is_told_three_times_and_the_others_every_ten_seconds() {
        let at = Timestamp::from_millis;
        let mut introductions = Introductions::default();
        let own = Slot::new(9).unwrap();
        let (few, more) = (places(&[1, 2, 9]), places(&[1, 2, 5, 9]));
        let begin = |introductions: &mut Introductions, now, hearers| {
            let mut told = Vec::new();
            introductions.begin(at(now), own, (hearers, 1), |place| told.push(place.index));
            told
        };
        let again = |introductions: &mut Introductions| {
            let mut told = Vec::new();
            introductions.again(|place| told.push(place.index));
            told
        };
        assert_eq!(begin(&mut introductions, 0, &few), [2, 1]);
        assert_eq!(begin(&mut introductions, 10, &few), []);
        assert_eq!(again(&mut introductions), [2, 1]);
        assert_eq!(again(&mut introductions), [2, 1]);
        assert_eq!(again(&mut introductions), []);
        assert_eq!(begin(&mut introductions, 20, &more), [5]);
        assert_eq!(again(&mut introductions), [5]);
        assert_eq!(begin(&mut introductions, 10_000, &more), [2, 5, 1]);
    }
}
