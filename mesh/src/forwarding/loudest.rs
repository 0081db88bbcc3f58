use std::time::Duration;

use hark_keys::Timestamp;

use crate::datagram::{SILENCE, Slot};

/// Decides which talkers of a channel are forwarded, if only the loudest are. [PROTO-9.14]
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) places: u8,
    /// The talkers that have talked within [`PLACE_KEPT`].
    talkers: Vec<Contender>,
}

#[derive(Debug)]
struct Contender {
    slot: Slot,
    /// The loudest level of the current [`STRETCH`] and of the one before. A smaller value is
    /// louder.
    levels: [u8; 2],
    since: Timestamp,
    heard: Timestamp,
    /// Until when the talker keeps its place; `None` if it has none.
    place_until: Option<Timestamp>,
}

impl Contest {
    pub(super) fn new(places: u8) -> Self {
        Self { places, talkers: Vec::new() }
    }

    /// A talker's datagram of this level has arrived. Returns whether the talker has a place.
    pub(super) fn admit(&mut self, now: Timestamp, slot: Slot, level: u8) -> bool {
        self.talkers.retain(|it| it.slot == slot || it.age(now) < PLACE_KEPT);
        let own = match self.talkers.iter().position(|it| it.slot == slot) {
            Some(own) => own,
            None if self.talkers.len() == CONTENDERS_MAX => return false,
            None => {
                let levels = [level, SILENCE];
                self.talkers.push(Contender {
                    slot,
                    levels,
                    since: now,
                    heard: now,
                    place_until: None,
                });
                self.talkers.len() - 1
            }
        };
        self.talkers[own].hear(now, level);
        let loudness = self.talkers[own].loudness();
        let holds = self.talkers[own].place_until.is_some();
        // Of two equally loud talkers, the one that has a place counts as the louder.
        let is_louder = |it: &&Contender| {
            it.loudness() < loudness
                || (it.loudness() == loudness && it.place_until.is_some() && !holds)
        };
        let others = self.talkers.iter().filter(|it| it.slot != slot && it.age(now) < RECENT);
        let louder = others.filter(is_louder).count();
        let among = louder < usize::from(self.places);
        if holds {
            if among {
                self.talkers[own].place_until = Some(now + PLACE_KEPT);
            }
            return true;
        }
        if !among {
            return false;
        }
        let taken = self.talkers.iter().filter(|it| it.place_until.is_some());
        if taken.clone().count() >= usize::from(self.places) {
            let free = |it: &Contender| {
                it.age(now) >= RECENT || it.place_until.is_some_and(|until| until <= now)
            };
            let quietest = taken.filter(|it| free(it)).map(|it| (it.loudness(), it.slot)).max();
            let Some((_, quietest)) = quietest else { return false };
            for talker in self.talkers.iter_mut().filter(|it| it.slot == quietest) {
                talker.place_until = None;
            }
        }
        self.talkers[own].place_until = Some(now + PLACE_KEPT);
        true
    }
}

impl Contender {
    fn hear(&mut self, now: Timestamp, level: u8) {
        let stretch = now.saturating_duration_since(self.since);
        if stretch >= STRETCH {
            let before = if stretch < 2 * STRETCH { self.levels[0] } else { SILENCE };
            self.levels = [level, before];
            self.since = now;
        }
        self.levels[0] = self.levels[0].min(level);
        self.heard = now;
    }

    fn loudness(&self) -> u8 {
        self.levels[0].min(self.levels[1])
    }

    fn age(&self, now: Timestamp) -> Duration {
        now.saturating_duration_since(self.heard)
    }
}

/// A talker that has sent nothing for this long counts as silent.
const RECENT: Duration = Duration::from_millis(200);

/// Half of the span over which a talker's loudest level is taken.
const STRETCH: Duration = Duration::from_millis(100);

/// How long a talker keeps its place after it was among the loudest. With a shorter time, two
/// talkers of similar loudness would cut each other off.
const PLACE_KEPT: Duration = Duration::from_millis(500);

/// Talkers of one channel that are compared. Further ones are not forwarded meanwhile.
const CONTENDERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a talker would be quiet between any two syllables.
    #[test]
    fn the_loudest_of_the_last_tenths_of_a_second_counts() {
        let mut talker = Contender {
            slot: Slot::new(1).unwrap(),
            levels: [20, SILENCE],
            since: Timestamp::ZERO,
            heard: Timestamp::ZERO,
            place_until: None,
        };
        let frames = [
            (20, 60, 20),
            (80, 60, 20),
            (100, 60, 20),
            (199, 50, 20),
            (200, 60, 50),
            // After a pause nothing is left of what came before.
            (400, 70, 70),
            (599, 80, 70),
            (699, 90, 80),
        ];
        for (at, level, loudness) in frames {
            talker.hear(Timestamp::from_millis(at), level);
            assert_eq!(talker.loudness(), loudness, "at {at} ms");
        }
    }
}
