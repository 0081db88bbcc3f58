use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hark_keys::{DeviceId, Timestamp};

/// Where to dial, all addresses side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Who must answer; nobody in particular where only an address is known.
    pub device: Option<DeviceId>,
    /// Where. Never empty; some may be under way already, by an earlier dial.
    pub addresses: Vec<SocketAddr>,
}

/// When to dial whom. [PROTO-5.4]
#[derive(Debug, Default)]
pub(crate) struct Dialling {
    targets: BTreeMap<Target, Attempts>,
}

/// What a dial is meant to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Device(DeviceId),
    Address(SocketAddr),
}

#[derive(Debug, Default)]
struct Attempts {
    /// Newest last.
    addresses: Vec<SocketAddr>,
    failures: u32,
    /// Not while connected.
    next: Option<Timestamp>,
    connected: bool,
    dialled: bool,
}

impl Dialling {
    /// `device`, if it is known who, can perhaps be reached at `addresses`.
    pub(crate) fn discovered(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
    ) {
        let addresses = addresses.iter().copied().filter(|address| can_be_dialled(*address));
        match device {
            Some(device) => self.add(now, Target::Device(device), addresses),
            None => {
                for address in addresses {
                    self.add(now, Target::Address(address), [address]);
                }
            }
        }
    }

    /// `device` is connected, and was found at `address`.
    pub(crate) fn connected(&mut self, device: DeviceId, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.targets.remove(&Target::Address(address));
        }
        // A member without an address counts, too, so that later ones are not dialled meanwhile.
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        attempts.connected = true;
        attempts.failures = 0;
        attempts.next = None;
        attempts.dialled = false;
    }

    /// `device` is not connected any more; `left` if it said so itself, which is no reason to
    /// hurry.
    pub(crate) fn disconnected(&mut self, now: Timestamp, device: DeviceId, left: bool) {
        if let Some(attempts) = self.targets.get_mut(&Target::Device(device)) {
            attempts.connected = false;
            attempts.failures = if left { u32::MAX } else { 0 };
            attempts.next = Some(now + attempts.wait());
            if attempts.addresses.is_empty() {
                self.targets.remove(&Target::Device(device));
            }
        }
    }

    /// `device` does not belong any more.
    pub(crate) fn forget(&mut self, device: DeviceId) {
        self.targets.remove(&Target::Device(device));
    }

    /// A dial came to nothing.
    pub(crate) fn failed(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
    ) {
        let targets: Vec<Target> = match device {
            Some(device) => vec![Target::Device(device)],
            None => addresses.iter().copied().map(Target::Address).collect(),
        };
        for target in targets {
            if let Some(attempts) = self.targets.get_mut(&target)
                && attempts.dialled
            {
                attempts.dialled = false;
                attempts.next = Some(now + attempts.wait());
                attempts.failures = attempts.failures.saturating_add(1);
            }
        }
    }

    /// The next dial that is due.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<Dial> {
        if self.dials_under_way() >= DIALS_MAX {
            return None;
        }
        let (target, attempts) = self
            .targets
            .iter_mut()
            .filter(|(_, attempts)| attempts.next.is_some_and(|next| next <= now))
            .min_by_key(|(target, attempts)| (attempts.next, **target))?;
        attempts.dialled = true;
        attempts.next = Some(now + DIAL_TIMEOUT);
        let device = match target {
            Target::Device(device) => Some(*device),
            Target::Address(_) => None,
        };
        let newest_first = attempts.addresses.iter().rev().copied().collect();
        Some(Dial { device, addresses: newest_first })
    }

    /// When [`Self::handle_timeout`] or [`Self::poll`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let full = self.dials_under_way() >= DIALS_MAX;
        let waits = |attempts: &&Attempts| !full || attempts.dialled;
        self.targets.values().filter(waits).filter_map(|attempts| attempts.next).min()
    }

    /// Gives up dials that were never answered for.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for attempts in self.targets.values_mut() {
            if attempts.dialled && attempts.next.is_some_and(|next| next <= now) {
                attempts.dialled = false;
                attempts.next = Some(now + attempts.wait());
                attempts.failures = attempts.failures.saturating_add(1);
            }
        }
    }

    fn add(
        &mut self,
        now: Timestamp,
        target: Target,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() {
            return;
        }
        if !self.targets.contains_key(&target) && self.targets.len() >= TARGETS_MAX {
            let idle = |attempts: &Attempts| !attempts.connected && !attempts.dialled;
            let hopeless = self.targets.iter().filter(|(_, attempts)| idle(attempts));
            let hopeless = hopeless.max_by_key(|(_, attempts)| attempts.failures);
            let Some(hopeless) = hopeless.map(|(target, _)| *target) else { return };
            self.targets.remove(&hopeless);
        }
        let attempts = self.targets.entry(target).or_default();
        let mut news = false;
        for address in addresses {
            news |= !attempts.addresses.contains(&address);
            attempts.addresses.retain(|known| *known != address);
            attempts.addresses.push(address);
        }
        let excess = attempts.addresses.len().saturating_sub(TARGET_ADDRESSES_MAX);
        attempts.addresses.drain(..excess);
        // An address that nobody has tried is tried at once, whatever becomes of the others.
        if news && !attempts.connected {
            attempts.dialled = false;
            attempts.failures = 0;
            attempts.next = Some(now);
        }
    }

    fn dials_under_way(&self) -> usize {
        self.targets.values().filter(|attempts| attempts.dialled).count()
    }
}

impl Attempts {
    /// How long to wait after as many failures: 1 s, 2 s, 4 s … 30 s.
    fn wait(&self) -> Duration {
        FIRST_WAIT.saturating_mul(1 << self.failures.min(5)).min(LONGEST_WAIT)
    }
}

/// Whether an address can be one device's: what a peer tells must not make us send to groups.
fn can_be_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Wait after the first failure, doubled each time. [PROTO-5.4]
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two attempts. [PROTO-5.4]
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A dial that nobody has called failed by then counts as failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Dials under way at a time; others wait for their turn.
const DIALS_MAX: usize = 16;

/// Devices and addresses that are remembered; then the one that failed most often goes.
const TARGETS_MAX: usize = 2048;

/// Addresses of one device: what it announces and what has been seen. The oldest goes.
const TARGET_ADDRESSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_millis(milliseconds)
    }

    /// [PROTO-5.4]
    /// A dial of an address where nobody answers takes half a minute.
    #[test]
    fn a_new_address_does_not_wait_for_a_dial_under_way() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let [old, new] = ["192.0.2.1:7000", "192.0.2.2:7000"].map(|text| text.parse().unwrap());
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), Some(device), &[old]);
        assert!(dialling.poll(at(0)).is_some());
        dialling.discovered(at(500), Some(device), &[old]);
        assert_eq!(dialling.poll(at(500)), None);
        dialling.discovered(at(700), Some(device), &[new]);
        dialling.handle_timeout(at(700));
        let both = Dial { device: Some(device), addresses: vec![new, old] };
        assert_eq!(dialling.poll(at(700)), Some(both));
        assert_eq!(dialling.poll(at(800)), None);
    }

    #[test]
    fn a_member_is_dialled_at_all_addresses_with_growing_waits() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let addresses: [SocketAddr; 2] =
            ["192.0.2.1:7000", "[2001:db8::1]:7000"].map(|text| text.parse().unwrap());
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), Some(device), &addresses);
        let mut now = Timestamp::ZERO;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let dial = dialling.poll(now).unwrap();
            assert_eq!(dial.device, Some(device));
            assert_eq!(dial.addresses, [addresses[1], addresses[0]]);
            assert_eq!(dialling.poll(now), None);
            dialling.failed(now, Some(device), &addresses);
            now = now + Duration::from_secs(seconds);
            assert_eq!(dialling.timeout(), Some(now));
        }
        dialling.connected(device, None);
        assert_eq!((dialling.timeout(), dialling.poll(now)), (None, None));
        dialling.discovered(now, Some(device), &["192.0.2.2:7000".parse().unwrap()]);
        assert_eq!(dialling.poll(now), None);
        dialling.disconnected(now, device, false);
        assert_eq!(dialling.timeout(), Some(now + FIRST_WAIT));
        dialling.disconnected(now, device, true);
        assert_eq!(dialling.timeout(), Some(now + LONGEST_WAIT));
    }

    #[test]
    fn an_address_that_turns_out_to_be_a_member_is_that_member() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let address: SocketAddr = "192.0.2.1:7000".parse().unwrap();
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), None, &[address]);
        assert_eq!(dialling.poll(at(0)), Some(Dial { device: None, addresses: vec![address] }));
        dialling.connected(device, Some(address));
        assert_eq!(dialling.timeout(), None);
        // Never answered for: counts as failed in the end.
        dialling.discovered(at(0), None, &[address]);
        assert!(dialling.poll(at(0)).is_some());
        dialling.handle_timeout(at(30_000));
        assert_eq!(dialling.timeout(), Some(at(31_000)));
    }

    #[test]
    fn what_peers_tell_makes_us_dial_no_groups_and_no_crowds() {
        let random = SeededRandom::new(1);
        let mut dialling = Dialling::default();
        let groups =
            ["224.0.0.1:1", "255.255.255.255:1", "0.0.0.0:1", "[ff02::1]:1", "192.0.2.1:0"];
        dialling.discovered(at(0), None, &groups.map(|text| text.parse().unwrap()));
        assert_eq!(dialling.poll(at(0)), None);
        for port in 1..=3_000 {
            let device = DeviceKey::generate(&random).id();
            dialling.discovered(at(0), Some(device), &[SocketAddr::from(([192, 0, 2, 1], port))]);
        }
        assert_eq!(dialling.targets.len(), TARGETS_MAX);
        assert_eq!(std::iter::from_fn(|| dialling.poll(at(0))).count(), DIALS_MAX);
    }
}
