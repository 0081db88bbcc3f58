use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Timestamp};

/// Which peers have been heard recently. [PROTO-2.7]
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    peers: BTreeMap<DeviceId, Peer>,
    heartbeat_at: Option<Timestamp>,
    heartbeats: u32,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    heard: Timestamp,
    state: Reach,
}

/// The state of a linked peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Heard within 3.5 s.
    Reachable,
    /// Silent. It is sent no voice.
    Unreachable,
    /// Silent for as long as a link may be. It loses our key.
    Lost,
}

impl Liveness {
    /// A link to `device` is up. Returns the peer's state on an earlier link, if there was one.
    pub(crate) fn link_up(&mut self, now: Timestamp, device: DeviceId) -> Option<Reach> {
        self.heartbeat_at.get_or_insert(now);
        let peer = Peer { heard: now, state: Reach::Reachable };
        Some(self.peers.insert(device, peer)?.state)
    }

    /// The link to `device` has ended.
    pub(crate) fn link_down(&mut self, device: DeviceId) {
        self.peers.remove(&device);
        if self.peers.is_empty() {
            self.heartbeat_at = None;
        }
    }

    /// A datagram came from `device`. Returns its state before, if it has a link.
    pub(crate) fn heard(&mut self, now: Timestamp, device: DeviceId) -> Option<Reach> {
        let peer = self.peers.get_mut(&device)?;
        peer.heard = peer.heard.max(now);
        Some(std::mem::replace(&mut peer.state, Reach::Reachable))
    }

    /// Returns the number of the heartbeat to all linked peers, if one is due.
    pub(crate) fn heartbeat(&mut self, now: Timestamp) -> Option<u32> {
        self.heartbeat_at.filter(|at| *at <= now)?;
        self.heartbeat_at = Some(now + HEARTBEAT_INTERVAL);
        self.heartbeats = self.heartbeats.wrapping_add(1);
        Some(self.heartbeats)
    }

    /// Returns the peers whose state has become worse, with their new state.
    pub(crate) fn fallen_silent(&mut self, now: Timestamp) -> Vec<(DeviceId, Reach)> {
        let mut fallen = Vec::new();
        for (device, peer) in &mut self.peers {
            let state = match now.saturating_duration_since(peer.heard) {
                silence if silence >= LOST_AFTER => Reach::Lost,
                silence if silence >= UNREACHABLE_AFTER => Reach::Unreachable,
                _ => Reach::Reachable,
            };
            if state > peer.state {
                peer.state = state;
                fallen.push((*device, state));
            }
        }
        fallen
    }

    /// How long nothing has come from `device`; `None` if there is no link.
    pub(crate) fn silence(&self, now: Timestamp, device: DeviceId) -> Option<Duration> {
        self.peers.get(&device).map(|peer| now.saturating_duration_since(peer.heard))
    }

    /// Whether voice can be sent to `device`.
    pub(crate) fn is_reachable(&self, device: DeviceId) -> bool {
        self.peers.get(&device).is_some_and(|peer| peer.state == Reach::Reachable)
    }

    /// Whether `device` has been silent for so long that it counts as gone, although its link is
    /// still up.
    pub(crate) fn is_lost(&self, device: DeviceId) -> bool {
        self.peers.get(&device).is_some_and(|peer| peer.state == Reach::Lost)
    }

    /// When a heartbeat is due or a peer falls silent.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let silence = self.peers.values().filter_map(|peer| match peer.state {
            Reach::Reachable => Some(peer.heard + UNREACHABLE_AFTER),
            Reach::Unreachable => Some(peer.heard + LOST_AFTER),
            Reach::Lost => None,
        });
        silence.chain(self.heartbeat_at).min()
    }
}

/// How often we send each peer a heartbeat. [PROTO-2.7]
///
/// A peer misses three before it shows us as unreachable.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Silence after which a peer is unreachable. [PROTO-2.7]
const UNREACHABLE_AFTER: Duration = Duration::from_millis(3_500);

/// Silence after which a peer loses our key: the idle timeout of its link. [PROTO-2.7]
const LOST_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    /// [PROTO-2.7]
    #[test]
    fn silence_makes_a_peer_unreachable_and_a_datagram_reachable_again() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let at = Timestamp::from_millis;
        let mut liveness = Liveness::default();
        assert_eq!(liveness.heard(at(0), device), None);
        liveness.link_up(at(0), device);
        assert_eq!(liveness.heartbeat(at(0)), Some(1));
        assert_eq!(liveness.heartbeat(at(999)), None);
        assert_eq!(liveness.timeout(), Some(at(1_000)));
        assert_eq!(liveness.heartbeat(at(3_000)), Some(2));
        assert_eq!(liveness.fallen_silent(at(3_499)), []);
        assert_eq!(liveness.timeout(), Some(at(3_500)));
        assert_eq!(liveness.fallen_silent(at(3_500)), [(device, Reach::Unreachable)]);
        assert_eq!(liveness.fallen_silent(at(3_600)), []);
        assert!(!liveness.is_reachable(device));
        assert_eq!(liveness.heard(at(4_000), device), Some(Reach::Unreachable));
        assert!(liveness.is_reachable(device));
        assert_eq!(liveness.fallen_silent(at(34_000)), [(device, Reach::Lost)]);
        assert_eq!(liveness.heard(at(40_000), device), Some(Reach::Lost));
        liveness.link_down(device);
        assert_eq!(liveness.timeout(), None);
        assert_eq!(liveness.heartbeat(at(60_000)), None);
    }
}
