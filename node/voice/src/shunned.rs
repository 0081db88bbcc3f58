//! Relays by which some talkers are not heard. [PROTO-10.10] [PROTO-10.22]

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Timestamp};

/// By talker and relay. A relay is heard of all other talkers: what it brings of one shows what
/// that talker did not seal, and not whether the relay or the talker is to blame.
#[derive(Default)]
pub(super) struct Shunned {
    pairs: BTreeMap<(DeviceId, DeviceId), Shun>,
}

struct Shun {
    /// None where it is for as long as this node runs.
    until: Option<Timestamp>,
    /// For how long it was; twice as long the next time.
    pause: Duration,
    /// When the talker was told last.
    told: Option<Timestamp>,
}

/// What becomes of what a relay brings of a talker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is played.
    Played,
    /// It is dropped.
    Dropped,
    /// It is dropped, and the talker to be told that so many frames were spoilt.
    Told(u16),
}

impl Shunned {
    /// The relay has brought what the talker never sealed.
    pub(super) fn handle_forged(&mut self, talker: DeviceId, relay: DeviceId) {
        self.insert((talker, relay), Shun { until: None, pause: Duration::ZERO, told: None });
    }

    /// What the relay has brought was not shown to be the talker's.
    pub(super) fn handle_unproven(&mut self, now: Timestamp, talker: DeviceId, relay: DeviceId) {
        let pair = (talker, relay);
        let before = self.pairs.get(&pair);
        if before.is_some_and(|before| before.until.is_none_or(|until| until > now)) {
            return;
        }
        let pause = before.map_or(PAUSE, |before| (before.pause * 2).min(PAUSE_MAX));
        self.insert(pair, Shun { until: Some(now + pause), pause, told: None });
    }

    /// The relay brings something of the talker.
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

/// So many spoilt frames tell a talker that a relay has brought what the talker never sealed.
pub(super) const FORGED: u16 = u16::MAX;

/// So many are told of frames that were not shown to be the talker's: as many as it takes to be
/// served otherwise. [PROTO-10.8]
const UNPROVEN: u16 = 3;

/// How long a talker is not heard by a relay whose frames nobody has proven, at first and at most:
/// as long as the talker does not use it.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How often a talker is told that goes on sending by such a relay.
const TOLD_AGAIN: Duration = Duration::from_millis(500);

/// Pairs that are remembered; of more the one that ends first goes, and what it brings is judged
/// anew.
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
}
