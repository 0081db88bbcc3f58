use std::{sync::Arc, time::Duration};

use hark_keys::Timestamp;

use super::sessions::Place;
use crate::datagram::Slot;

/// Which listeners of a talker were told whose slot it is. [PROTO-9.15]
#[derive(Default)]
pub(super) struct Introductions {
    /// Whom the talker's last frame was for.
    known: Arc<Vec<Place>>,
    /// Those who are told some times more, as datagrams are lost.
    newcomers: Vec<Place>,
    rounds: u8,
    /// When all were told last.
    all_at: Option<Timestamp>,
}

impl Introductions {
    /// A frame of `talker` for `hearers` has come: tells those of them who are to be told first.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        talker: Slot,
        hearers: &Arc<Vec<Place>>,
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
        for place in hearers.iter().filter(|place| place.slot != talker) {
            if due || self.known.binary_search(place).is_err() {
                tell(*place);
                self.newcomers.push(*place);
                self.rounds = ROUNDS;
            }
        }
        self.known = Arc::clone(hearers);
    }

    /// Tells those who are to be told once more.
    pub(super) fn again(&mut self, tell: impl FnMut(Place)) {
        self.rounds = self.rounds.saturating_sub(1);
        if self.rounds > 0 {
            self.newcomers.iter().copied().for_each(tell);
        } else {
            self.newcomers.clear();
        }
    }
}

/// How often somebody is told at first: one loss in ten leaves one in a thousand without.
const ROUNDS: u8 = 3;

/// How often all are told again.
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
            introductions.begin(at(now), own, hearers, |place| told.push(place.index));
            told
        };
        let again = |introductions: &mut Introductions| {
            let mut told = Vec::new();
            introductions.again(|place| told.push(place.index));
            told
        };
        assert_eq!(begin(&mut introductions, 0, &few), [1, 2]);
        assert_eq!(begin(&mut introductions, 10, &few), []);
        assert_eq!(again(&mut introductions), [1, 2]);
        assert_eq!(again(&mut introductions), [1, 2]);
        assert_eq!(again(&mut introductions), []);
        assert_eq!(begin(&mut introductions, 20, &more), [5]);
        assert_eq!(again(&mut introductions), [5]);
        assert_eq!(begin(&mut introductions, 10_000, &more), [1, 2, 5]);
    }
}
