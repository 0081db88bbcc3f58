//! Decides how voice travels: the talker sends to each listener itself, or a relay forwards.

use std::collections::BTreeSet;

use hark_keys::{DeviceId, TargetId};

/// How voice to one target travels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The devices that get a datagram on their own link, in ascending order.
    pub direct: Vec<DeviceId>,
    /// The relays that forward to the others.
    pub hops: Vec<Hop>,
}

/// One relay of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The relay itself.
    pub relay: DeviceId,
    /// The relay that takes its place when it falls silent.
    pub standby: Option<DeviceId>,
    /// The devices that it forwards to, in ascending order.
    pub devices: Vec<DeviceId>,
}

impl From<Vec<DeviceId>> for Plan {
    /// A plan that sends directly to each of these devices.
    fn from(devices: Vec<DeviceId>) -> Self {
        let direct: BTreeSet<_> = devices.into_iter().collect();
        Self { direct: direct.into_iter().collect(), hops: Vec::new() }
    }
}

impl Plan {
    /// Whether the plan reaches nobody.
    pub fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.hops.is_empty()
    }

    /// All devices that the plan reaches, in ascending order.
    pub fn listeners(&self) -> Vec<DeviceId> {
        let relayed = self.hops.iter().flat_map(|hop| &hop.devices);
        let listeners: BTreeSet<_> = self.direct.iter().chain(relayed).copied().collect();
        listeners.into_iter().collect()
    }
}

/// A relay that can be used, and the devices that it can reach.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The relay itself.
    pub relay: DeviceId,
    /// The devices attached to it.
    pub serves: &'a BTreeSet<DeviceId>,
}

/// Makes the plan for the `hearers` of a target. Each is given with whether its link is direct.
///
/// With more than `fanout_max` listeners all are reached through relays: the first of `candidates`
/// that serve them. With fewer, only those are that cannot be reached directly. A listener that no
/// relay serves gets a datagram on its own link. A target that was `relayed` before goes back to
/// direct sending only two listeners below the limit. So a single listener that comes and goes does
/// not change the way of all others. [PROTO-10.4]
pub fn plan(
    hearers: &[(DeviceId, bool)],
    candidates: &[Candidate<'_>],
    fanout_max: usize,
    relayed: bool,
) -> Plan {
    let limit = if relayed { fanout_max.saturating_sub(BACK_BELOW) } else { fanout_max };
    let is_large = hearers.len() > limit;
    let mut left: BTreeSet<DeviceId> = hearers
        .iter()
        .filter(|(_, direct)| is_large || !direct)
        .map(|(device, _)| *device)
        .collect();
    let is_direct = |device: &DeviceId| hearers.contains(&(*device, true));
    let mut hops = Vec::new();
    for candidate in candidates {
        if hops.len() == HOPS_MAX {
            break;
        }
        let devices: Vec<_> = left.intersection(candidate.serves).copied().collect();
        // Replacing a single direct datagram by another saves nothing.
        let saves = devices.len() > 1 || devices.iter().any(|device| !is_direct(device));
        if !saves {
            continue;
        }
        for device in &devices {
            left.remove(device);
        }
        hops.push(Hop { relay: candidate.relay, standby: None, devices });
    }
    // A relay that already forwards to some would also forward every frame to those for which it
    // stands by.
    let is_used = |relay| hops.iter().any(|hop: &Hop| hop.relay == relay);
    let idle: Vec<_> = candidates.iter().filter(|it| !is_used(it.relay)).collect();
    for hop in &mut hops {
        let serves =
            |it: &&&Candidate<'_>| hop.devices.iter().all(|device| it.serves.contains(device));
        hop.standby = idle.iter().find(serves).map(|it| it.relay);
    }
    let relayed: BTreeSet<_> = hops.iter().flat_map(|hop| hop.devices.iter().copied()).collect();
    let direct: BTreeSet<_> =
        hearers.iter().map(|(device, _)| *device).filter(|it| !relayed.contains(it)).collect();
    Plan { direct: direct.into_iter().collect(), hops }
}

/// A number by which all devices rank relays alike for a target, and differently for another
/// target: rendezvous hashing (Thaler and Ravishankar, 1998). The higher number comes first.
/// [PROTO-10.27]
pub fn rendezvous(target: TargetId, relay: DeviceId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(target.as_bytes()).update(relay.as_bytes());
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("8 of 32 bytes"))
}

/// Listeners to which a talker sends directly. For more it uses a relay, if there is one.
pub const DIRECT_FANOUT_MAX: usize = 8;

/// Most relays that one talker sends a talkspurt to.
const HOPS_MAX: usize = 3;

/// How many listeners below the limit a relayed target must be before it is direct again.
const BACK_BELOW: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        use hark_keys::{DeviceKey, SeededRandom};
        DeviceKey::generate(&SeededRandom::new(number.into())).id()
    }

    fn set(devices: &[DeviceId]) -> BTreeSet<DeviceId> {
        devices.iter().copied().collect()
    }

    fn sorted(devices: &[DeviceId]) -> Vec<DeviceId> {
        set(devices).into_iter().collect()
    }

    #[test]
    fn few_who_can_be_reached_get_a_copy_each() {
        let [a, b, r] = [1, 2, 9].map(device);
        let serves = set(&[a, b]);
        let candidates = [Candidate { relay: r, serves: &serves }];
        let all = plan(&[(a, true), (b, true)], &candidates, 8, false);
        assert_eq!(all, Plan { direct: sorted(&[a, b]), hops: Vec::new() });
        let one = plan(&[(a, true), (b, false)], &candidates, 8, false);
        let hop = Hop { relay: r, standby: None, devices: vec![b] };
        assert_eq!(one, Plan { direct: vec![a], hops: vec![hop] });
        // Without a relay that serves it, a listener gets its datagram on the link that it has.
        let none = plan(&[(a, true), (b, false)], &[], 8, false);
        assert_eq!(none, Plan { direct: sorted(&[a, b]), hops: Vec::new() });
    }

    #[test]
    fn many_go_through_relays_that_serve_them_and_the_rest_direct() {
        let hearers: Vec<_> = (1..=12).map(|number| (device(number), true)).collect();
        let ids: Vec<_> = hearers.iter().map(|(device, _)| *device).collect();
        let [r, s] = [101, 102].map(device);
        let (first, second) = (set(&ids[..6]), set(&ids[..11]));
        let candidates =
            [Candidate { relay: r, serves: &first }, Candidate { relay: s, serves: &second }];
        let plan = plan(&hearers, &candidates, 8, false);
        assert_eq!(plan.direct, vec![ids[11]]);
        let hop =
            |relay, standby, devices: &[DeviceId]| Hop { relay, standby, devices: sorted(devices) };
        assert_eq!(plan.hops, vec![hop(r, None, &ids[..6]), hop(s, None, &ids[6..11])]);
        assert_eq!(plan.listeners(), sorted(&ids));
    }

    /// Regression: a relay that stood by for another one's listeners sent them everything that it
    /// sent its own.
    #[test]
    fn who_forwards_to_some_stands_by_for_no_others() {
        let hearers: Vec<_> = (1..=12).map(|number| (device(number), true)).collect();
        let ids: Vec<_> = hearers.iter().map(|(device, _)| *device).collect();
        let [first, all] = [set(&ids[..6]), set(&ids)];
        let candidates = [(101, &first), (102, &all), (103, &all)];
        let candidates =
            candidates.map(|(relay, serves)| Candidate { relay: device(relay), serves });
        let plan = plan(&hearers, &candidates, 8, false);
        let hops = plan.hops.iter().map(|hop| (hop.relay, hop.standby, hop.devices.len()));
        let [one, two, idle] = [101, 102, 103].map(device);
        assert_eq!(hops.collect::<Vec<_>>(), [(one, Some(idle), 6), (two, Some(idle), 6)]);
    }

    #[test]
    fn a_relayed_target_goes_back_to_direct_two_listeners_later() {
        let serves: BTreeSet<_> = (1..=9).map(device).collect();
        let candidates = [Candidate { relay: device(100), serves: &serves }];
        let hops = |count, relayed| {
            let hearers: Vec<_> = (1..=count).map(|number| (device(number), true)).collect();
            plan(&hearers, &candidates, 8, relayed).hops.len()
        };
        assert_eq!([hops(8, false), hops(9, false), hops(8, true), hops(7, true)], [0, 1, 1, 1]);
        assert_eq!(hops(6, true), 0);
    }
}
