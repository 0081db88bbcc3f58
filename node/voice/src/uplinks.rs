//! The relays that we send to: whether they confirm what arrives, and which standby takes over.
//! [PROTO-9.6]

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::topology::{Hop, Plan};

use super::redundancy::NextHop;

/// All relays that a talkspurt may go to.
#[derive(Default)]
pub(super) struct Uplinks {
    relays: BTreeMap<DeviceId, Uplink>,
}

/// One relay.
#[derive(Default)]
struct Uplink {
    /// When the first frame of this talkspurt was sent to it.
    since: Option<Timestamp>,
    /// When it last reported what has arrived of this talkspurt.
    seen: Option<Timestamp>,
    /// How long its first report in a talkspurt took; `None` before the first one.
    answer: Option<Duration>,
    /// Whether it fell silent in the middle of a talkspurt.
    silent: bool,
}

impl Uplinks {
    /// A talkspurt begins.
    pub(super) fn begin(&mut self) {
        for uplink in self.relays.values_mut() {
            (uplink.since, uplink.seen) = (None, None);
        }
    }

    /// The plan of a target has changed. Relays that are in none of `plans` are forgotten. A relay
    /// that was silent is tried again.
    pub(super) fn retain<'p>(&mut self, plans: impl Iterator<Item = &'p Plan> + Clone) {
        let used = |relay: &DeviceId| {
            let mut hops = plans.clone().flat_map(|plan| &plan.hops);
            hops.any(|hop| hop.relay == *relay || hop.standby == Some(*relay))
        };
        self.relays.retain(|relay, _| used(relay));
        for uplink in self.relays.values_mut() {
            uplink.silent = false;
        }
    }

    /// A relay reports what has arrived.
    pub(super) fn handle_seen(&mut self, now: Timestamp, relay: DeviceId) {
        if let Some(uplink) = self.relays.get_mut(&relay)
            && let Some(since) = uplink.since
        {
            if uplink.seen.is_none() {
                uplink.answer = Some(now.saturating_duration_since(since));
            }
            uplink.seen = Some(now);
        }
    }

    /// Returns where the next frame of a hop is sent, and the relay that has just fallen silent, if
    /// one has.
    pub(super) fn way(&mut self, now: Timestamp, hop: &Hop) -> (NextHop, Option<DeviceId>) {
        let uplink = self.relays.entry(hop.relay).or_default();
        let since = *uplink.since.get_or_insert(now);
        let heard = uplink.seen.map_or(since, |seen| seen.max(since));
        let falls = !uplink.silent && now.saturating_duration_since(heard) > uplink.patience();
        uplink.silent |= falls;
        let way = match hop.standby.filter(|_| uplink.silent) {
            Some(standby) => {
                self.relays.entry(standby).or_default().since.get_or_insert(now);
                standby
            }
            None => hop.relay,
        };
        (NextHop::Relay(way), falls.then_some(hop.relay))
    }
}

impl Uplink {
    /// How long a relay may be silent. It reports every 50 ms, and its first report has shown how
    /// long the path is.
    fn patience(&self) -> Duration {
        self.answer.map_or(FIRST_PATIENCE, |answer| (answer + SEEN_MISSED).max(PATIENCE))
    }
}

/// The least time that a relay may be silent before its standby takes over.
const PATIENCE: Duration = Duration::from_millis(150);

/// Allows for two lost reports.
const SEEN_MISSED: Duration = Duration::from_millis(100);

/// The patience while the distance to the relay is unknown.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    /// [PROTO-9.6]
    #[test]
    fn a_relay_that_says_nothing_is_left_for_its_standby() {
        let [relay, other] = [1, 2].map(|n| DeviceKey::generate(&SeededRandom::new(n)).id());
        let hop = Hop { relay, standby: Some(other), devices: Vec::new() };
        let mut uplinks = Uplinks::default();
        let way = |uplinks: &mut Uplinks, now| uplinks.way(at(now), &hop);
        assert_eq!(way(&mut uplinks, 0), (NextHop::Relay(relay), None));
        uplinks.handle_seen(at(90), relay);
        uplinks.handle_seen(at(140), relay);
        // The first report took 90 ms, and two more may be lost.
        assert_eq!(way(&mut uplinks, 330), (NextHop::Relay(relay), None));
        assert_eq!(way(&mut uplinks, 331), (NextHop::Relay(other), Some(relay)));
        assert_eq!(way(&mut uplinks, 341), (NextHop::Relay(other), None), "it is told once");
        // A nearby relay is left after 150 ms.
        uplinks.handle_seen(at(383), other);
        let back = Hop { relay: other, standby: Some(relay), devices: Vec::new() };
        uplinks.retain([&Plan { direct: Vec::new(), hops: vec![back.clone()] }].into_iter());
        assert_eq!(uplinks.way(at(536), &back), (NextHop::Relay(relay), Some(other)));
        // The next talkspurt starts fresh, however long ago the last one was.
        uplinks.retain([&Plan { direct: Vec::new(), hops: vec![back.clone()] }].into_iter());
        uplinks.begin();
        assert_eq!(uplinks.way(at(9_000), &back), (NextHop::Relay(other), None));
    }

    #[test]
    fn without_a_standby_the_relay_is_kept() {
        let relay = DeviceKey::generate(&SeededRandom::new(1)).id();
        let hop = Hop { relay, standby: None, devices: Vec::new() };
        let mut uplinks = Uplinks::default();
        uplinks.way(at(0), &hop);
        assert_eq!(uplinks.way(at(1_001), &hop), (NextHop::Relay(relay), Some(relay)));
        assert_eq!(uplinks.way(at(1_002), &hop), (NextHop::Relay(relay), None));
    }
}
