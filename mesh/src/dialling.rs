use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hark_keys::{DeviceId, Timestamp};

/// What to dial, all addresses side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Who must answer; nobody in particular where only an address is known.
    pub device: Option<DeviceId>,
    /// Where; none by a relay. Some may be under way already, by an earlier dial.
    pub addresses: Vec<SocketAddr>,
    /// From where.
    pub way: Way,
}

/// How a dial sets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the socket that listens.
    Direct,
    /// From another socket, so that what NATs remember of the one that listens is not touched.
    Aside,
    /// By a relay that leads to the device.
    Relay,
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
    linked: Linked,
    /// Whether a relay leads there.
    led: bool,
    direct: Series,
    relayed: Series,
    /// Direct dials since the last direct link.
    tried: u32,
}

/// What stands already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Linked {
    #[default]
    Not,
    /// By a relay alone.
    Relayed,
    Direct,
}

/// Dials of one kind, one after the other.
#[derive(Debug, Default)]
struct Series {
    failures: u32,
    /// When the next one is due, or the one under way counts as failed.
    next: Option<Timestamp>,
    /// When the one under way set out.
    dialled: Option<Timestamp>,
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

    /// Relays lead to `device`, or no longer.
    pub(crate) fn set_led(&mut self, now: Timestamp, device: DeviceId, led: bool) {
        let target = Target::Device(device);
        if led && self.make_room(target) {
            let attempts = self.targets.entry(target).or_default();
            if !attempts.led {
                attempts.led = true;
                attempts.race(now);
            }
        } else if !led && let Some(attempts) = self.targets.get_mut(&target) {
            attempts.led = false;
            attempts.relayed = Series::default();
            if attempts.is_pointless() {
                self.targets.remove(&target);
            }
        }
    }

    /// `device` has a direct link, and was found at `address`.
    pub(crate) fn connected(&mut self, device: DeviceId, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.targets.remove(&Target::Address(address));
        }
        // A member without an address counts, too, so that later ones are not dialled meanwhile.
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        attempts.linked = Linked::Direct;
        attempts.direct = Series::default();
        attempts.relayed = Series::default();
        attempts.tried = 0;
    }

    /// `device` has a link by a relay alone: direct ones are tried further.
    pub(crate) fn relayed(&mut self, now: Timestamp, device: DeviceId) {
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        if attempts.linked != Linked::Relayed {
            attempts.linked = Linked::Relayed;
            attempts.relayed = Series::default();
            attempts.hurry(now);
        }
    }

    /// `device` has a link, but is silent: whatever answers is better.
    pub(crate) fn silent(&mut self, now: Timestamp, device: DeviceId) {
        if let Some(attempts) = self.targets.get_mut(&Target::Device(device)) {
            attempts.linked = Linked::Not;
            attempts.hurry(now);
            attempts.race(now);
        }
    }

    /// Tries again at once to reach those directly whom a relay leads to.
    pub(crate) fn upgrade(&mut self, now: Timestamp) {
        let relayed = self.targets.values_mut().filter(|it| it.linked == Linked::Relayed);
        relayed.for_each(|attempts| attempts.hurry(now));
    }

    /// `device` is not connected any more; `left` if it said so itself, which is no reason to
    /// hurry.
    pub(crate) fn disconnected(&mut self, now: Timestamp, device: DeviceId, left: bool) {
        let target = Target::Device(device);
        if let Some(attempts) = self.targets.get_mut(&target) {
            let failures = if left { u32::MAX } else { 0 };
            attempts.linked = Linked::Not;
            attempts.direct = Series::failing(now, failures);
            attempts.relayed = Series::default();
            if attempts.led && left {
                attempts.relayed = Series::failing(now, failures);
            } else if attempts.led {
                attempts.relayed.next = Some(now);
            }
            if attempts.is_pointless() {
                self.targets.remove(&target);
            }
        }
    }

    /// `device` does not belong any more.
    pub(crate) fn forget(&mut self, device: DeviceId) {
        self.targets.remove(&Target::Device(device));
    }

    /// A dial came to nothing.
    pub(crate) fn failed(&mut self, now: Timestamp, dial: &Dial) {
        let targets: Vec<Target> = match dial.device {
            Some(device) => vec![Target::Device(device)],
            None => dial.addresses.iter().copied().map(Target::Address).collect(),
        };
        for target in targets {
            if let Some(attempts) = self.targets.get_mut(&target)
                && let Some(series) = attempts.series(dial.way)
                && series.dialled.is_some()
            {
                series.fail(now);
            }
        }
    }

    /// The next dial that is due.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<Dial> {
        let room = self.room();
        let due = |(target, attempts): (&Target, &Attempts)| {
            let (at, way) = attempts.next(room).min()?;
            (at <= now).then_some((at, *target, way))
        };
        let (_, target, way) = self.targets.iter().filter_map(due).min()?;
        let attempts = self.targets.get_mut(&target)?;
        let upgrade = attempts.linked == Linked::Relayed;
        attempts.tried = attempts.tried.saturating_add(u32::from(way == Way::Direct));
        let series = attempts.series(way)?;
        if upgrade {
            series.next = Some(now + series.upgrade_wait());
            series.failures = series.failures.saturating_add(1);
        } else {
            series.next = Some(now + DIAL_TIMEOUT);
            series.dialled = Some(now);
        }
        let device = match target {
            Target::Device(device) => Some(device),
            Target::Address(_) => None,
        };
        let newest_first = attempts.addresses.iter().rev().copied();
        let addresses = newest_first.filter(|_| way == Way::Direct).collect();
        Some(Dial { device, addresses, way })
    }

    /// When [`Self::handle_timeout`] or [`Self::poll`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let room = self.room();
        let ends = |series: &Series| series.next.filter(|_| series.dialled.is_some());
        let timeouts = self.targets.values().flat_map(|attempts| {
            let dials = attempts.next(room).map(|(at, _)| at);
            dials.chain(ends(&attempts.direct)).chain(ends(&attempts.relayed))
        });
        timeouts.min()
    }

    /// Gives up dials that were never answered for.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for attempts in self.targets.values_mut() {
            for series in [&mut attempts.direct, &mut attempts.relayed] {
                if series.dialled.is_some() && series.next.is_some_and(|next| next <= now) {
                    series.fail(now);
                }
            }
        }
    }

    /// How many addresses of `device` are known, and how often they were dialled since the last
    /// direct link.
    pub(crate) fn direct_attempts(&self, device: DeviceId) -> (usize, u32) {
        let attempts = self.targets.get(&Target::Device(device));
        attempts.map_or((0, 0), |attempts| (attempts.addresses.len(), attempts.tried))
    }

    fn add(
        &mut self,
        now: Timestamp,
        target: Target,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() || !self.make_room(target) {
            return;
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
        if news && attempts.linked != Linked::Direct {
            attempts.hurry(now);
            attempts.race(now);
        }
    }

    /// Whether there is room for `target`, perhaps by forgetting another one.
    fn make_room(&mut self, target: Target) -> bool {
        if self.targets.contains_key(&target) || self.targets.len() < TARGETS_MAX {
            return true;
        }
        let idle = |attempts: &Attempts| {
            let dialled = attempts.direct.dialled.or(attempts.relayed.dialled);
            attempts.linked == Linked::Not && dialled.is_none()
        };
        let hopeless = self.targets.iter().filter(|(_, attempts)| idle(attempts));
        let hopeless = hopeless.max_by_key(|(_, attempts)| attempts.direct.failures);
        let hopeless = hopeless.map(|(target, _)| *target);
        hopeless.is_some_and(|hopeless| self.targets.remove(&hopeless).is_some())
    }

    /// Whether there is room for another dial of each kind.
    fn room(&self) -> Room {
        let count = |series: fn(&Attempts) -> &Series| {
            let dialled = |attempts: &&Attempts| series(attempts).dialled.is_some();
            self.targets.values().filter(dialled).count()
        };
        Room {
            direct: count(|attempts| &attempts.direct) < DIALS_MAX,
            relayed: count(|attempts| &attempts.relayed) < DIALS_MAX,
        }
    }
}

/// Whether another dial of each kind may set out.
#[derive(Clone, Copy)]
struct Room {
    direct: bool,
    relayed: bool,
}

impl Attempts {
    /// The dials to come, and when.
    fn next(&self, room: Room) -> impl Iterator<Item = (Timestamp, Way)> {
        let series = [
            (&self.direct, Way::Direct, room.direct || self.linked == Linked::Relayed),
            (&self.relayed, Way::Relay, room.relayed),
        ];
        let waiting = |(series, _, room): &(&Series, Way, bool)| *room && series.dialled.is_none();
        series.into_iter().filter(waiting).filter_map(|(series, way, _)| Some((series.next?, way)))
    }

    fn series(&mut self, way: Way) -> Option<&mut Series> {
        match way {
            Way::Direct => Some(&mut self.direct),
            Way::Relay => Some(&mut self.relayed),
            Way::Aside => None,
        }
    }

    /// Dials the addresses now.
    fn hurry(&mut self, now: Timestamp) {
        self.direct = Series { failures: 0, next: Some(now), dialled: None };
    }

    /// Lets a relay lead there, too, if none does yet and the addresses have had a chance.
    fn race(&mut self, now: Timestamp) {
        if !self.led || self.linked != Linked::Not || self.relayed.next.is_some() {
            return;
        }
        let due = self.direct.next.is_some_and(|next| next <= now).then_some(now);
        let began = self.direct.dialled.or(due).filter(|_| !self.addresses.is_empty());
        self.relayed.next = Some(began.map_or(now, |began| now.max(began + HEAD_START)));
    }

    fn is_pointless(&self) -> bool {
        self.addresses.is_empty() && !self.led && self.linked == Linked::Not
    }
}

impl Series {
    /// One that has failed so often, just now.
    fn failing(now: Timestamp, failures: u32) -> Self {
        let mut series = Self { failures, ..Self::default() };
        series.next = Some(now + series.wait());
        series
    }

    fn fail(&mut self, now: Timestamp) {
        self.dialled = None;
        self.next = Some(now + self.wait());
        self.failures = self.failures.saturating_add(1);
    }

    /// How long to wait after as many failures: 1 s, 2 s, 4 s … 30 s.
    fn wait(&self) -> Duration {
        FIRST_WAIT.saturating_mul(1 << self.failures.min(5)).min(LONGEST_WAIT)
    }

    /// How long a relayed link is put up with after as many attempts.
    fn upgrade_wait(&self) -> Duration {
        let attempt = usize::try_from(self.failures).unwrap_or(usize::MAX);
        UPGRADE_WAITS[attempt.min(UPGRADE_WAITS.len() - 1)]
    }
}

/// Whether an address can be one device's: what a peer tells must not make us send to groups.
pub(crate) fn can_be_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Wait after the first failure, doubled each time. [PROTO-5.4]
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two attempts. [PROTO-5.4]
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long the addresses are tried alone before a relay leads the way. [PROTO-5.6]
const HEAD_START: Duration = Duration::from_millis(300);

/// Waits between attempts to do without a relay, the last one again and again. [PROTO-5.6]
const UPGRADE_WAITS: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// A dial that nobody has called failed by then counts as failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Dials of one kind under way at a time; others wait for their turn.
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
        let both = Dial { device: Some(device), addresses: vec![new, old], way: Way::Direct };
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
            dialling.failed(now, &dial);
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
        let dial = Dial { device: None, addresses: vec![address], way: Way::Direct };
        assert_eq!(dialling.poll(at(0)), Some(dial));
        dialling.connected(device, Some(address));
        assert_eq!(dialling.timeout(), None);
        // Never answered for: counts as failed in the end.
        dialling.discovered(at(0), None, &[address]);
        assert!(dialling.poll(at(0)).is_some());
        dialling.handle_timeout(at(30_000));
        assert_eq!(dialling.timeout(), Some(at(31_000)));
    }

    /// [PROTO-5.6]
    #[test]
    fn a_relay_leads_the_way_where_no_address_has_answered_for_a_moment() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let address: SocketAddr = "192.0.2.1:7000".parse().unwrap();
        let direct = Dial { device: Some(device), addresses: vec![address], way: Way::Direct };
        let relayed = Dial { device: Some(device), addresses: Vec::new(), way: Way::Relay };
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), Some(device), &[address]);
        assert_eq!(dialling.poll(at(0)), Some(direct.clone()));
        dialling.set_led(at(100), device, true);
        assert_eq!((dialling.poll(at(100)), dialling.timeout()), (None, Some(at(300))));
        assert_eq!(dialling.poll(at(300)), Some(relayed.clone()));
        assert_eq!(dialling.poll(at(300)), None);
        // By the relay alone: the addresses are tried further, whatever becomes of the first dial.
        dialling.relayed(at(500), device);
        let mut now = 500;
        for wait in [2, 5, 15, 60, 60] {
            assert_eq!(dialling.poll(at(now)), Some(direct.clone()));
            assert_eq!(dialling.poll(at(now)), None);
            dialling.failed(at(now + 1), &direct);
            now += wait * 1_000;
            assert_eq!(dialling.timeout(), Some(at(now)));
        }
        assert_eq!(dialling.direct_attempts(device), (1, 6));
        dialling.discovered(at(now - 9), Some(device), &["192.0.2.2:7000".parse().unwrap()]);
        assert_eq!(dialling.poll(at(now - 9)).unwrap().addresses.len(), 2);
        dialling.connected(device, None);
        assert_eq!((dialling.timeout(), dialling.direct_attempts(device)), (None, (2, 0)));
        // Silent: both ways are tried again, and a relay of no use any more is not.
        dialling.silent(at(now), device);
        assert_eq!(dialling.poll(at(now)).unwrap().way, Way::Direct);
        assert_eq!(dialling.timeout(), Some(at(now + 300)));
        dialling.set_led(at(now), device, false);
        assert_eq!(dialling.poll(at(now + 300)), None);
    }

    #[test]
    fn a_member_without_an_address_is_reached_by_a_relay_at_once() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let mut dialling = Dialling::default();
        dialling.set_led(at(0), device, true);
        let relayed = Dial { device: Some(device), addresses: Vec::new(), way: Way::Relay };
        assert_eq!(dialling.poll(at(0)), Some(relayed.clone()));
        dialling.failed(at(50), &relayed);
        assert_eq!(dialling.timeout(), Some(at(1_050)));
        dialling.set_led(at(60), device, false);
        assert_eq!((dialling.timeout(), dialling.targets.len()), (None, 0));
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
