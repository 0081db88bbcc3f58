//! Relays by which some talkers are no longer heard. [PROTO-10.10] [PROTO-10.22]

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Timestamp};

/// Keyed by talker and relay. All other talkers are still heard by the relay. What it brought shows
/// only that this talker did not seal it, not whether the relay or the talker is to blame.
#[derive(Default)]
pub(super) struct Shunned {
    pairs: BTreeMap<(DeviceId, DeviceId), Shun>,
}

struct Shun {
    /// When the pair is heard again; `None` if not while this node runs.
    until: Option<Timestamp>,
    /// Length of the pause. The next one is twice as long.
    pause: Duration,
    /// When the talker was last told.
    told: Option<Timestamp>,
}

/// What happens to a frame that a relay brings of a talker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The frame is played.
    Played,
    /// The frame is dropped.
    Dropped,
    /// The frame is dropped, and the talker is told that this many frames were spoilt.
    Told(u16),
}

impl Shunned {
    /// The relay has brought what the talker never sealed.
    pub(super) fn handle_forged(&mut self, talker: DeviceId, relay: DeviceId) {
        self.insert((talker, relay), Shun { until: None, pause: Duration::ZERO, told: None });
    }

    /// Nobody has shown in time that what the relay has brought is the talker's.
    pub(super) fn handle_unproven(&mut self, now: Timestamp, talker: DeviceId, relay: DeviceId) {
        let pair = (talker, relay);
        let before = self.pairs.get(&pair);
        if before.is_some_and(|before| before.until.is_none_or(|until| until > now)) {
            return;
        }
        let pause = before.map_or(PAUSE, |before| (before.pause * 2).min(PAUSE_MAX));
        self.insert(pair, Shun { until: Some(now + pause), pause, told: None });
    }

    /// The relay brings a frame of the talker.
    pub(super) fn handle_frame(
        &mut self,
        now: Timestamp,
        talker: DeviceId,
        relay: DeviceId,
    ) -> Heard {
        let Some(shun) = self.pairs.get_mut(&(talker, relay)) else { return Heard::Played };
        if shun.until.is_some_and(|until| until <= now) {
            return Heard::Played;
        }
        if shun.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_AGAIN) {
            return Heard::Dropped;
        }
        shun.told = Some(now);
        Heard::Told(if shun.until.is_none() { FORGED } else { UNPROVEN })
    }

    fn insert(&mut self, pair: (DeviceId, DeviceId), shun: Shun) {
        if self.pairs.len() >= SHUNNED_MAX && !self.pairs.contains_key(&pair) {
            let ends = self.pairs.iter().min_by_key(|(_, it)| (it.until.is_none(), it.until));
            let first = ends.map(|(pair, _)| *pair);
            first.and_then(|first| self.pairs.remove(&first));
        }
        self.pairs.insert(pair, shun);
    }
}

/// This number of spoilt frames tells a talker that a relay has brought what the talker never
/// sealed.
pub(super) const FORGED: u16 = u16::MAX;

/// Number of spoilt frames to report for frames that were not shown to be the talker's. It is just
/// enough for the talker to choose another way. [PROTO-10.8]
const UNPROVEN: u16 = 3;

/// How long a talker is not heard by a relay whose frames nobody has proven: the first pause and
/// the longest one. The talker does not use the relay for just as long.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How often a talker that keeps sending by such a relay is told.
const TOLD_AGAIN: Duration = Duration::from_millis(500);

/// Pairs that are remembered. If there are more, the pair whose pause ends first is dropped, and
/// its frames are judged again.
const SHUNNED_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    #[test]
    fn a_relay_is_shunned_for_one_talker_and_for_longer_each_time() {
        let [ann, bob, relay] = [1, 2, 3].map(|n| DeviceKey::generate(&SeededRandom::new(n)).id());
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut shunned = Shunned::default();
        assert_eq!(shunned.handle_frame(at(0), ann, relay), Heard::Played);
        shunned.handle_unproven(at(0), ann, relay);
        assert_eq!(shunned.handle_frame(at(1), ann, relay), Heard::Told(UNPROVEN));
        assert_eq!(shunned.handle_frame(at(1), ann, relay), Heard::Dropped);
        assert_eq!(shunned.handle_frame(at(2), ann, relay), Heard::Told(UNPROVEN));
        assert_eq!(shunned.handle_frame(at(2), bob, relay), Heard::Played);
        assert_eq!(shunned.handle_frame(at(2), ann, bob), Heard::Played);
        assert_eq!(shunned.handle_frame(at(10), ann, relay), Heard::Played);
        shunned.handle_unproven(at(20), ann, relay);
        assert_eq!(shunned.handle_frame(at(39), ann, relay), Heard::Told(UNPROVEN));
        assert_eq!(shunned.handle_frame(at(40), ann, relay), Heard::Played);
        shunned.handle_forged(ann, relay);
        shunned.handle_unproven(at(50), ann, relay);
        assert_eq!(shunned.handle_frame(at(9_000), ann, relay), Heard::Told(FORGED));
        assert_eq!(shunned.handle_frame(at(9_000), bob, relay), Heard::Played);
    }

    /// What comes while a relay is shunned was sent before the talker knew.
    #[test]
    fn a_pause_is_not_made_longer_while_it_lasts() {
        let [ann, relay] = [1, 2].map(|n| DeviceKey::generate(&SeededRandom::new(n)).id());
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut shunned = Shunned::default();
        shunned.handle_unproven(at(0), ann, relay);
        shunned.handle_unproven(at(9), ann, relay);
        assert_eq!(shunned.handle_frame(at(10), ann, relay), Heard::Played);
    }

    #[test]
    fn a_full_list_forgets_the_pause_that_ends_first() {
        let relay = DeviceKey::generate(&SeededRandom::new(0)).id();
        let talkers: Vec<_> = (1..=SHUNNED_MAX as u64 + 1)
            .map(|n| DeviceKey::generate(&SeededRandom::new(n)).id())
            .collect();
        let mut shunned = Shunned::default();
        shunned.handle_forged(talkers[0], relay);
        for (n, talker) in talkers.iter().enumerate().skip(1) {
            shunned.handle_unproven(Timestamp::from_millis(n as u64), *talker, relay);
        }
        assert_eq!(shunned.pairs.len(), SHUNNED_MAX);
        let now = Timestamp::from_millis(5_000);
        assert_eq!(shunned.handle_frame(now, talkers[0], relay), Heard::Told(FORGED));
        assert_eq!(shunned.handle_frame(now, talkers[1], relay), Heard::Played);
        assert_eq!(shunned.handle_frame(now, talkers[2], relay), Heard::Told(UNPROVEN));
    }
}
