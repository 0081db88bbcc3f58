//! A limited number of places, shared among those that ask for them.
//!
//! Each place is asked for under one key or more, the narrowest first, such as an address and an
//! invite. A request under a key that holds no place yet is never turned away. If all places are
//! taken, the key that holds the most loses one. So one key can take at most half of the places
//! while nobody else asks, and fewer the more others ask.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::Timestamp;

/// A limited set of places of one kind.
pub(super) struct Places<K> {
    standing: BTreeMap<u64, Occupied<K>>,
    /// The places that each key holds. A key without places has no entry.
    held: BTreeMap<K, BTreeSet<u64>>,
    /// For each key: how many places it holds, and the oldest of them. The key that holds the most
    /// comes first.
    heaviest: BTreeSet<(Reverse<usize>, u64, K)>,
    next: u64,
    limit: usize,
    /// How many places one key may hold.
    most: usize,
    /// A place must be this old before it is given to another request of its own key.
    spared: Duration,
}

struct Occupied<K> {
    keys: Vec<K>,
    since: Timestamp,
}

/// There is no place at present: the key already holds as many places as are free, and none of them
/// is old enough to be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K: Ord + Copy> Places<K> {
    /// Creates `limit` places. One key may hold `most` of them. Each place is safe from its own key
    /// for the time `spared`.
    pub(super) fn new(limit: usize, most: usize, spared: Duration) -> Self {
        let (standing, held, heaviest) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { standing, held, heaviest, next: 0, limit, most, spared }
    }

    /// Takes a place under `keys`, the narrowest first. Returns it with the place that was freed
    /// for it, if one was.
    pub(super) fn take(&mut self, now: Timestamp, keys: &[K]) -> Result<(u64, Option<u64>), Full> {
        let free = self.limit.saturating_sub(self.standing.len());
        let exceeds = |key: &&K| self.held(**key) > 0 && self.held(**key) >= free.min(self.most);
        let exceeded = keys.iter().find(exceeds).copied();
        let goes = if exceeded.is_none() && free > 0 {
            None
        } else {
            Some(self.gives_way(now, keys, exceeded).ok_or(Full)?)
        };
        if let Some(goes) = goes {
            self.leave(goes);
        }
        let place = self.next;
        self.next += 1;
        for key in keys {
            self.change(*key, |held| held.insert(place));
        }
        self.standing.insert(place, Occupied { keys: keys.to_vec(), since: now });
        Ok((place, goes))
    }

    /// Counts `place` for `key` as well, unless `key` holds `most` already. Returns whether it now
    /// counts.
    pub(super) fn claim(&mut self, place: u64, key: K, most: usize) -> bool {
        let may = self.held(key) < most;
        let Some(standing) = self.standing.get_mut(&place).filter(|_| may) else { return false };
        standing.keys.push(key);
        self.change(key, |held| held.insert(place));
        true
    }

    /// Frees `place`. Does nothing if it is free already.
    pub(super) fn leave(&mut self, place: u64) {
        let Some(Occupied { keys, .. }) = self.standing.remove(&place) else { return };
        for key in keys {
            self.change(key, |held| held.remove(&place));
        }
    }

    /// The place that has been taken for the longest time, and since when.
    pub(super) fn oldest(&self) -> Option<(u64, Timestamp)> {
        self.standing.first_key_value().map(|(place, it)| (*place, it.since))
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.standing.len()
    }

    /// Whether at least half of the places are taken, so that the next requests may have to wait.
    pub(super) fn is_crowded(&self) -> bool {
        2 * self.len() >= self.limit
    }

    /// How many places `key` holds.
    pub(super) fn held(&self, key: K) -> usize {
        self.held.get(&key).map_or(0, BTreeSet::len)
    }

    fn change(&mut self, key: K, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let weight = |held: &BTreeSet<u64>| Some((Reverse(held.len()), *held.first()?, key));
        let held = self.held.entry(key).or_default();
        if let Some(weight) = weight(held) {
            self.heaviest.remove(&weight);
        }
        change(held);
        if let Some(weight) = weight(held) {
            self.heaviest.insert(weight);
        } else {
            self.held.remove(&key);
        }
    }

    /// The place to free for a request under `keys`. It is a place of the `exceeded` key, or,
    /// without one, of the key that holds the most. Among those, it is a place whose narrowest key
    /// holds the most, and then the oldest. With an `exceeded` key, `None` if that place is too
    /// young, unless its narrowest key holds more than the request's would.
    fn gives_way(&self, now: Timestamp, keys: &[K], exceeded: Option<K>) -> Option<u64> {
        let own = keys.first().map_or(0, |key| self.held(*key));
        let key = exceeded.or_else(|| self.heaviest.first().map(|(_, _, key)| *key))?;
        let narrowest =
            |it: u64| self.standing[&it].keys.first().map_or(0, |narrowest| self.held(*narrowest));
        let held = self.held.get(&key)?;
        let goes = *held.iter().max_by_key(|place| (narrowest(**place), Reverse(**place)))?;
        let old = now.saturating_duration_since(self.standing[&goes].since) >= self.spared;
        let unfair = exceeded.is_none() || narrowest(goes) > own + 1;
        (old || unfair).then_some(goes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn places() -> Places<u8> {
        Places::new(16, 8, Duration::from_secs(1))
    }

    /// Regression: one key that asked for all places got them all.
    #[test]
    fn one_key_takes_half_of_the_places_and_many_take_few_each() {
        let mut places = places();
        let taken = |places: &mut Places<u8>, key| {
            (0..100).filter(|_| places.take(at(0), &[key]).is_ok()).count()
        };
        assert_eq!(taken(&mut places, 1), 8);
        assert_eq!(taken(&mut places, 2), 4);
        assert_eq!(taken(&mut places, 3), 2);
        assert_eq!(taken(&mut places, 4), 1);
        // A key that holds none yet gets a place, which is taken from the key that holds the most.
        assert_eq!(places.take(at(0), &[5]), Ok((15, None)));
        assert_eq!(places.take(at(0), &[6]), Ok((16, Some(0))));
        assert_eq!(places.take(at(0), &[7]), Ok((17, Some(1))));
        assert_eq!(places.take(at(0), &[7]), Err(Full));
        assert_eq!(places.len(), 16);
    }

    /// Regression: each place of a key that was flooded was taken again after an instant, so nobody
    /// else of that key could come in.
    #[test]
    fn a_key_waits_a_second_for_its_own_places() {
        let mut places = places();
        for _ in 0..8 {
            places.take(at(0), &[1]).unwrap();
        }
        assert_eq!(places.take(at(999), &[1]), Err(Full));
        assert_eq!(places.take(at(1_000), &[1]), Ok((8, Some(0))));
    }

    /// Regression: one holder of a ticket kept all others with the same ticket out.
    #[test]
    fn within_a_wider_key_the_narrower_one_that_holds_the_most_gives_way() {
        const TICKET: u8 = 100;
        let mut places = places();
        for _ in 0..8 {
            places.take(at(0), &[1, TICKET]).unwrap();
        }
        assert_eq!(places.take(at(0), &[1, TICKET]), Err(Full));
        assert_eq!(places.take(at(0), &[2, TICKET]), Ok((8, Some(0))));
        assert_eq!(places.take(at(0), &[3, TICKET]), Ok((9, Some(1))));
        // A request with another ticket is not affected.
        assert_eq!(places.take(at(0), &[1, 101]), Ok((10, None)));
    }

    #[test]
    fn a_claim_counts_until_its_place_is_left() {
        let mut places = places();
        let [one, two] = [1, 2].map(|key| places.take(at(0), &[key]).unwrap().0);
        assert!(places.claim(one, 9, 1));
        assert!(!places.claim(two, 9, 1));
        places.leave(one);
        assert!(places.claim(two, 9, 1));
        assert!(!places.claim(one, 9, 2), "it has left");
    }

    proptest! {
        /// Whatever is asked for: there are never more places than the limit, a key that holds none
        /// is never turned away, and the counts are right.
        #[test]
        fn nobody_who_holds_none_is_turned_away(
            asks in proptest::collection::vec((0_u8..40, 0_u64..400, any::<u8>()), 1..400),
        ) {
            let mut places = places();
            let mut now = 0;
            let mut standing: BTreeMap<u64, u8> = BTreeMap::new();
            for (key, later, leaves) in asks {
                now += later;
                let holds = standing.values().filter(|it| **it == key).count();
                match places.take(at(now), &[key]) {
                    Ok((place, goes)) => {
                        let gone = goes.map(|goes| standing.remove(&goes).unwrap());
                        let fair = gone.is_none_or(|gone| {
                            let of_gone = standing.values().filter(|it| **it == gone).count() + 1;
                            gone == key || of_gone >= holds
                        });
                        prop_assert!(fair);
                        standing.insert(place, key);
                    }
                    Err(Full) => prop_assert!(holds > 0),
                }
                if leaves < 64 && let Some((place, _)) = places.oldest() {
                    places.leave(place);
                    standing.remove(&place);
                }
                prop_assert!(places.len() == standing.len() && standing.len() <= 16);
                let mut counted: BTreeMap<u8, usize> = BTreeMap::new();
                standing.values().for_each(|key| *counted.entry(*key).or_default() += 1);
                let held = places.held.iter().map(|(key, held)| (*key, held.len()));
                prop_assert!(held.eq(counted.iter().map(|(key, count)| (*key, *count))));
                prop_assert_eq!(places.heaviest.len(), places.held.len());
                prop_assert!(counted.values().all(|held| *held <= 8));
            }
        }
    }
}
