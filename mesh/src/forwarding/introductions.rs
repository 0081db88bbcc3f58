use std::{sync::Arc, time::Duration};

use hark_keys::Timestamp;

use super::sessions::Place;
use crate::datagram::Slot;

/// Which listeners of a talker were told whose slot it is. [PROTO-9.9]
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
    /// A frame of `talker` for `hearers` has come: those of them who are to be told first.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        talker: Slot,
        hearers: &Arc<Vec<Place>>,
    ) -> Vec<Place> {
        let due = self.all_at.is_none_or(|at| now.saturating_duration_since(at) >= ALL_EVERY);
        if !due && Arc::ptr_eq(&self.known, hearers) {
            return Vec::new();
        }
        let is_new = |place: &&Place| {
            place.slot != talker && (due || self.known.binary_search(place).is_err())
        };
        let newcomers: Vec<_> = hearers.iter().filter(is_new).copied().collect();
        if due {
            self.all_at = Some(now);
            self.newcomers.clear();
        }
        if !newcomers.is_empty() {
            self.newcomers.extend(&newcomers);
            self.rounds = ROUNDS;
        }
        self.known = Arc::clone(hearers);
        newcomers
    }

    /// Those who are to be told once more.
    pub(super) fn again(&mut self) -> impl Iterator<Item = Place> {
        self.rounds = self.rounds.saturating_sub(1);
        let again = if self.rounds == 0 {
            Vec::new()
        } else if self.rounds == 1 {
            std::mem::take(&mut self.newcomers)
        } else {
            self.newcomers.clone()
        };
        again.into_iter()
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

    /// [PROTO-9.9]
    #[test]
    fn whoever_is_new_is_told_three_times_and_the_others_every_ten_seconds() {
        let at = Timestamp::from_millis;
        let told = |places: Vec<Place>| -> Vec<u16> { places.iter().map(|it| it.index).collect() };
        let mut introductions = Introductions::default();
        let own = Slot::new(9).unwrap();
        let (few, more) = (places(&[1, 2, 9]), places(&[1, 2, 5, 9]));
        assert_eq!(told(introductions.begin(at(0), own, &few)), [1, 2]);
        assert_eq!(told(introductions.begin(at(10), own, &few)), []);
        assert_eq!(told(introductions.again().collect()), [1, 2]);
        assert_eq!(told(introductions.again().collect()), [1, 2]);
        assert_eq!(told(introductions.again().collect()), []);
        assert_eq!(told(introductions.begin(at(20), own, &more)), [5]);
        assert_eq!(told(introductions.again().collect()), [5]);
        assert_eq!(told(introductions.begin(at(10_000), own, &more)), [1, 2, 5]);
    }
}
