mod hosts;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hark_keys::{DeviceId, Timestamp};

use hosts::{Host, NewHosts, is_in_range, is_local};

/// What to dial. All addresses are dialled side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The device that must answer; `None` if only an address is known.
    pub device: Option<DeviceId>,
    /// The addresses to dial; empty by a relay. Some may already be under way from an earlier dial.
    pub addresses: Vec<SocketAddr>,
    /// The way on which the dial sets out.
    pub way: Way,
}

/// The way on which a dial sets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the socket that listens.
    Direct,
    /// From another socket, so that the NAT mappings of the listening one stay unchanged.
    Aside,
    /// By a relay that leads to the device.
    Relay,
}

/// Decides when to dial which device. [PROTO-5.4]
#[derive(Debug, Default)]
pub(crate) struct Dialling {
    targets: BTreeMap<Target, Attempts>,
    /// The addresses of this device.
    own: Vec<IpAddr>,
}

/// Where the knowledge comes from that a device is at an address. [PROTO-5.10]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// From the device, in its announcements. It may be somebody else's address.
    Announced,
    /// The same, from an earlier run.
    Remembered,
    /// From a person, a ticket, the charter or the LAN; or the device was met there.
    Known,
}

/// What a dial is meant to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Device(DeviceId),
    Address(SocketAddr),
}

#[derive(Debug, Default)]
struct Attempts {
    /// Possible addresses, newest last.
    places: Vec<Place>,
    /// Hosts that were dialled because the device announced them.
    announced: NewHosts<ANNOUNCED_HOSTS>,
    /// Hosts that were dialled to open NATs.
    punched: NewHosts<PUNCHED_HOSTS>,
    linked: Linked,
    /// Whether a relay leads to the device.
    led: bool,
    direct: Series,
    relayed: Series,
    /// Number of direct dials since the last direct link.
    tried: u32,
}

/// An address at which a device may be.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    source: Source,
    /// How often it was dialled.
    tries: u32,
}

/// The link that is already up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Linked {
    #[default]
    Not,
    /// A link by a relay alone.
    Relayed,
    Direct,
}

/// Consecutive dials of one kind.
#[derive(Debug, Default)]
struct Series {
    failures: u32,
    /// When the next dial is due. If one is under way, the time when it counts as failed.
    next: Option<Timestamp>,
    /// When the dial under way set out.
    dialled: Option<Timestamp>,
}

impl Dialling {
    /// Sets the addresses of this device.
    pub(crate) fn set_own(&mut self, own: &[SocketAddr]) {
        self.own = own.iter().map(SocketAddr::ip).collect();
    }

    /// `source` says that `device` can perhaps be reached at `addresses`. The device may be
    /// unknown.
    pub(crate) fn discovered(
        &mut self,
        now: Timestamp,
        device: Option<DeviceId>,
        addresses: &[SocketAddr],
        source: Source,
    ) {
        let addresses = addresses.iter().copied().filter(|address| can_be_dialled(*address));
        match device {
            Some(device) => self.add(now, Target::Device(device), addresses, source),
            None => {
                for address in addresses {
                    self.add(now, Target::Address(address), [address], source);
                }
            }
        }
    }

    /// `device` was met at `address`, which is therefore its own.
    pub(crate) fn met(&mut self, device: DeviceId, address: SocketAddr) {
        if let Some(attempts) = self.targets.get_mut(&Target::Device(device))
            && let Some(place) = attempts.places.iter_mut().find(|it| it.address == address)
        {
            place.source = Source::Known;
        }
    }

    /// `device` says that its NAT can be opened at these addresses. Returns those that may be
    /// dialled now. [PROTO-5.10] [PROTO-5.24]
    pub(crate) fn punched(
        &mut self,
        now: Timestamp,
        device: DeviceId,
        addresses: &[SocketAddr],
    ) -> Vec<SocketAddr> {
        let own = &self.own;
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        let mut may = |address: &SocketAddr| {
            can_be_dialled(*address)
                && is_in_range(*address, own)
                && attempts.punched.admit(now, Host::of(*address))
        };
        addresses.iter().copied().filter(|address| may(address)).collect()
    }

    /// Sets whether relays lead to `device`.
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

    /// `device` has a direct link, and was met at `address`.
    pub(crate) fn connected(&mut self, device: DeviceId, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.targets.remove(&Target::Address(address));
        }
        // A member without a known address counts, too, so that later addresses are not dialled
        // meanwhile.
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        attempts.linked = Linked::Direct;
        attempts.direct = Series::default();
        attempts.relayed = Series::default();
        attempts.tried = 0;
    }

    /// `device` has a link by a relay alone. Direct dials continue.
    pub(crate) fn relayed(&mut self, now: Timestamp, device: DeviceId) {
        let attempts = self.targets.entry(Target::Device(device)).or_default();
        if attempts.linked != Linked::Relayed {
            attempts.linked = Linked::Relayed;
            attempts.relayed = Series::default();
            attempts.hurry(now);
        }
    }

    /// `device` has a link, but is silent. Any link that answers is better.
    pub(crate) fn silent(&mut self, now: Timestamp, device: DeviceId) {
        if let Some(attempts) = self.targets.get_mut(&Target::Device(device)) {
            attempts.linked = Linked::Not;
            attempts.hurry(now);
            attempts.race(now);
        }
    }

    /// Tries at once again to reach directly the devices that have a link by a relay.
    pub(crate) fn upgrade(&mut self, now: Timestamp) {
        let relayed = self.targets.values_mut().filter(|it| it.linked == Linked::Relayed);
        relayed.for_each(|attempts| attempts.hurry(now));
    }

    /// `device` is no longer connected. `left` says that it announced this itself, so there is no
    /// need to hurry.
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

    /// `device` no longer belongs to the organisation.
    pub(crate) fn forget(&mut self, device: DeviceId) {
        self.targets.remove(&Target::Device(device));
    }

    /// A dial has failed.
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

    /// Returns the next dial that is due.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<Dial> {
        let room = self.room();
        let own = &self.own;
        let due = |(target, attempts): (&Target, &Attempts)| {
            let (at, way) = attempts.next(room, own).min()?;
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
        let addresses = match way {
            Way::Direct => attempts.choose(now, own),
            Way::Aside | Way::Relay => Vec::new(),
        };
        Some(Dial { device, addresses, way })
    }

    /// When [`Self::handle_timeout`] or [`Self::poll`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let room = self.room();
        let ends = |series: &Series| series.next.filter(|_| series.dialled.is_some());
        let timeouts = self.targets.values().flat_map(|attempts| {
            let dials = attempts.next(room, &self.own).map(|(at, _)| at);
            dials.chain(ends(&attempts.direct)).chain(ends(&attempts.relayed))
        });
        timeouts.min()
    }

    /// Gives up dials that were never answered.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for attempts in self.targets.values_mut() {
            for series in [&mut attempts.direct, &mut attempts.relayed] {
                if series.dialled.is_some() && series.next.is_some_and(|next| next <= now) {
                    series.fail(now);
                }
            }
        }
    }

    /// Number of known addresses of `device`, and of dials since the last direct link.
    pub(crate) fn direct_attempts(&self, device: DeviceId) -> (usize, u32) {
        let attempts = self.targets.get(&Target::Device(device));
        attempts.map_or((0, 0), |attempts| (attempts.places.len(), attempts.tried))
    }

    fn add(
        &mut self,
        now: Timestamp,
        target: Target,
        addresses: impl IntoIterator<Item = SocketAddr>,
        source: Source,
    ) {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() || !self.make_room(target) {
            return;
        }
        let own = &self.own;
        let attempts = self.targets.entry(target).or_default();
        let (mut news, mut hosts) = (false, false);
        for address in addresses {
            let known = attempts.places.iter().position(|place| place.address == address);
            let mut place = match known {
                Some(known) => attempts.places.remove(known),
                None => Place { address, source, tries: 0 },
            };
            news |= known.is_none() || (place.source < source && source == Source::Known);
            place.source = place.source.max(source);
            attempts.places.push(place);
            let host = Host::of(address);
            hosts |= known.is_none()
                && is_in_range(address, own)
                && !attempts.announced.contains(host)
                && attempts.announced.admits(now, host);
        }
        while attempts.places.len() > TARGET_ADDRESSES_MAX {
            let announced = attempts.places.iter().position(|it| it.source == Source::Announced);
            attempts.places.remove(announced.unwrap_or(0));
        }
        if !news || attempts.linked == Linked::Direct {
            return;
        }
        // An address that nobody has tried is tried at once, whatever happens with the others. An
        // address that was only announced is tried at once only if its host is new and may be
        // dialled at all.
        if source > Source::Announced {
            attempts.hurry(now);
        } else if hosts || attempts.direct.next.is_none() {
            attempts.direct.dialled = None;
            attempts.direct.next = Some(now);
        }
        attempts.race(now);
    }

    /// Whether there is room for `target`. Another one may be forgotten to make room.
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
    /// The next dials, and when they are due.
    fn next(&self, room: Room, own: &[IpAddr]) -> impl Iterator<Item = (Timestamp, Way)> {
        let due = |series: &Series, room| series.next.filter(|_| room && series.dialled.is_none());
        let direct = due(&self.direct, room.direct || self.linked == Linked::Relayed);
        let direct = direct.and_then(|at| Some((at.max(self.open_at(own)?), Way::Direct)));
        let relayed = due(&self.relayed, room.relayed).map(|at| (at, Way::Relay));
        direct.into_iter().chain(relayed)
    }

    /// The time from which there is something to dial; `None` if no address may be dialled.
    fn open_at(&self, own: &[IpAddr]) -> Option<Timestamp> {
        // If a relay leads there, a dial also opens NATs, whatever is announced.
        if self.linked == Linked::Relayed || self.places.iter().any(Place::is_trusted) {
            return Some(Timestamp::ZERO);
        }
        let announced = self.places.iter().map(|place| place.address);
        let mut hosts = announced.filter(|it| is_in_range(*it, own)).map(Host::of).peekable();
        hosts.peek()?;
        let known = hosts.any(|host| self.announced.contains(host));
        let room_at = self.announced.room_at().filter(|_| !known);
        Some(room_at.unwrap_or(Timestamp::ZERO))
    }

    /// The addresses to dial now, side by side. These are all trusted ones, newest first, and one
    /// for each announced host that may be dialled now. Of a host's addresses, the one that was
    /// dialled least comes first.
    fn choose(&mut self, now: Timestamp, own: &[IpAddr]) -> Vec<SocketAddr> {
        let mut chosen = Vec::new();
        for place in self.places.iter_mut().rev().filter(|place| place.is_trusted()) {
            place.tries = place.tries.saturating_add(1);
            chosen.push(place.address);
        }
        let mut announced: Vec<_> = self.places.iter_mut().collect();
        announced.retain(|it| is_in_range(it.address, own) && !chosen.contains(&it.address));
        announced.sort_by_key(|place| (place.tries, !is_local(place.address)));
        let mut hosts = Vec::new();
        for place in announced {
            let host = Host::of(place.address);
            if hosts.len() < ANNOUNCED_HOSTS
                && !hosts.contains(&host)
                && self.announced.admit(now, host)
            {
                hosts.push(host);
                place.tries = place.tries.saturating_add(1);
                chosen.push(place.address);
            }
        }
        chosen
    }

    fn series(&mut self, way: Way) -> Option<&mut Series> {
        match way {
            Way::Direct => Some(&mut self.direct),
            Way::Relay => Some(&mut self.relayed),
            Way::Aside => None,
        }
    }

    /// Makes a direct dial due now.
    fn hurry(&mut self, now: Timestamp) {
        self.direct = Series { failures: 0, next: Some(now), dialled: None };
    }

    /// Makes a dial by a relay due as well, after the head start of the addresses, if none is due
    /// yet.
    fn race(&mut self, now: Timestamp) {
        if !self.led || self.linked != Linked::Not || self.relayed.next.is_some() {
            return;
        }
        let due = self.direct.next.is_some_and(|next| next <= now).then_some(now);
        let began = self.direct.dialled.or(due).filter(|_| !self.places.is_empty());
        self.relayed.next = Some(began.map_or(now, |began| now.max(began + HEAD_START)));
    }

    fn is_pointless(&self) -> bool {
        self.places.is_empty() && !self.led && self.linked == Linked::Not
    }
}

impl Place {
    /// Whether it is dialled whenever its device is dialled.
    fn is_trusted(&self) -> bool {
        match self.source {
            Source::Announced => false,
            Source::Remembered => self.tries < REMEMBERED_TRIES,
            Source::Known => true,
        }
    }
}

impl Series {
    /// A series that has just failed, and has failed this often.
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

    /// How long to wait after this number of failures: 1 s, 2 s, 4 s … 30 s.
    fn wait(&self) -> Duration {
        FIRST_WAIT.saturating_mul(1 << self.failures.min(5)).min(LONGEST_WAIT)
    }

    /// How long to wait for the next attempt to replace a relayed link, after this number of
    /// attempts.
    fn upgrade_wait(&self) -> Duration {
        let attempt = usize::try_from(self.failures).unwrap_or(usize::MAX);
        UPGRADE_WAITS[attempt.min(UPGRADE_WAITS.len() - 1)]
    }
}

/// Whether an address can be that of one device. What a peer announces must not make us send to
/// groups.
pub(crate) fn can_be_dialled(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Wait after the first failure. It doubles each time. [PROTO-5.4]
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two attempts. [PROTO-5.4]
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long only the addresses are tried before a relay is tried as well. [PROTO-5.6]
const HEAD_START: Duration = Duration::from_millis(300);

/// Waits between attempts to replace a relayed link. The last one repeats. [PROTO-5.6]
const UPGRADE_WAITS: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// A dial without a result counts as failed after this time.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Dials of one kind that are under way at once. Others wait for their turn.
const DIALS_MAX: usize = 16;

/// Devices and addresses that are remembered. If there are more, the one that has failed most often
/// is dropped.
const TARGETS_MAX: usize = 2048;

/// Addresses of one device: those that it announces and those that have been seen. If there are
/// more, the oldest announced one is dropped.
const TARGET_ADDRESSES_MAX: usize = 32;

/// New hosts per minute that are dialled because a device announces addresses there. Further ones
/// wait for their turn. [PROTO-5.10]
const ANNOUNCED_HOSTS: usize = 2;

/// New hosts per minute that are dialled because a device wants NATs opened there. A NAT may have
/// several hosts. Addresses at further ones are left out. [PROTO-5.10]
const PUNCHED_HOSTS: usize = 4;

/// How often all addresses that a device announced in an earlier run are dialled. After that they
/// count as announced.
const REMEMBERED_TRIES: u32 = 2;

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
        dialling.discovered(at(0), Some(device), &[old], Source::Known);
        assert!(dialling.poll(at(0)).is_some());
        dialling.discovered(at(500), Some(device), &[old], Source::Known);
        assert_eq!(dialling.poll(at(500)), None);
        dialling.discovered(at(700), Some(device), &[new], Source::Known);
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
        dialling.discovered(at(0), Some(device), &addresses, Source::Known);
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
        dialling.discovered(now, Some(device), &["192.0.2.2:7000".parse().unwrap()], Source::Known);
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
        dialling.discovered(at(0), None, &[address], Source::Known);
        let dial = Dial { device: None, addresses: vec![address], way: Way::Direct };
        assert_eq!(dialling.poll(at(0)), Some(dial));
        dialling.connected(device, Some(address));
        assert_eq!(dialling.timeout(), None);
        // It is never answered, so it counts as failed in the end.
        dialling.discovered(at(0), None, &[address], Source::Known);
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
        dialling.discovered(at(0), Some(device), &[address], Source::Known);
        assert_eq!(dialling.poll(at(0)), Some(direct.clone()));
        dialling.set_led(at(100), device, true);
        assert_eq!((dialling.poll(at(100)), dialling.timeout()), (None, Some(at(300))));
        assert_eq!(dialling.poll(at(300)), Some(relayed.clone()));
        assert_eq!(dialling.poll(at(300)), None);
        // By the relay alone: direct dials continue, whatever happens to the first one.
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
        dialling.discovered(
            at(now - 9),
            Some(device),
            &["192.0.2.2:7000".parse().unwrap()],
            Source::Known,
        );
        assert_eq!(dialling.poll(at(now - 9)).unwrap().addresses.len(), 2);
        dialling.connected(device, None);
        assert_eq!((dialling.timeout(), dialling.direct_attempts(device)), (None, (2, 0)));
        // Silent: both ways are tried again. A relay that is of no use any more is not.
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
        dialling.discovered(at(0), None, &groups.map(|text| text.parse().unwrap()), Source::Known);
        assert_eq!(dialling.poll(at(0)), None);
        for port in 1..=3_000 {
            let device = DeviceKey::generate(&random).id();
            dialling.discovered(
                at(0),
                Some(device),
                &[SocketAddr::from(([192, 0, 2, 1], port))],
                Source::Known,
            );
        }
        assert_eq!(dialling.targets.len(), TARGETS_MAX);
        assert_eq!(std::iter::from_fn(|| dialling.poll(at(0))).count(), DIALS_MAX);
    }

    fn dials(dialling: &mut Dialling, now: Timestamp) -> Vec<SocketAddr> {
        let dials = std::iter::from_fn(|| dialling.poll(now));
        dials.flat_map(|dial| dial.addresses).collect()
    }

    /// [PROTO-5.10] Regression: a record of 600 bytes, sent to all members of an organisation, made
    /// each of them send handshakes to sixteen hosts.
    #[test]
    fn whom_a_record_names_is_dialled_by_two_new_hosts_a_minute() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let mut dialling = Dialling::default();
        let mut hosts: BTreeMap<Host, u64> = BTreeMap::new();
        let mut all = 0;
        for second in 0..600_u64 {
            let now = at(1_000 * second);
            dialling.handle_timeout(now);
            let announced: Vec<_> = (0..16)
                .map(|number| {
                    let number = u16::try_from(16 * second + number).unwrap();
                    let [high, low] = number.to_be_bytes();
                    SocketAddr::from(([198, 51, high, low], 7_000))
                })
                .collect();
            dialling.discovered(now, Some(device), &announced, Source::Announced);
            for address in dials(&mut dialling, now) {
                hosts.entry(Host::of(address)).or_insert(second);
                all += 1;
            }
        }
        for second in 0..600 {
            let minute = hosts.values().filter(|it| (second..second + 60).contains(*it));
            assert!(minute.count() <= 2, "at {second} s");
        }
        assert!((10..=20).contains(&hosts.len()), "{} hosts", hosts.len());
        assert!(all <= 60, "{all} dials");
        assert!(dialling.timeout().is_some_and(|next| next < at(700_000)));
    }

    /// [PROTO-5.10] Regression: a member could make others send to machines of their own networks.
    #[test]
    fn private_ranges_are_dialled_only_by_those_within() {
        let random = SeededRandom::new(1);
        let all = [
            "127.0.0.1:1",
            "10.7.0.1:1",
            "192.168.1.1:1",
            "172.16.0.9:1",
            "169.254.0.1:1",
            "100.64.0.1:1",
            "[::1]:1",
            "[fe80::1]:1",
            "[fd00::1]:1",
            "[::ffff:10.0.0.9]:1",
        ]
        .map(|text| text.parse::<SocketAddr>().unwrap());
        for (own, dialled) in [
            ("203.0.113.5:1", &[][..]),
            ("192.168.7.7:1", &["192.168.1.1:1"][..]),
            ("[fd00::2]:1", &["[fd00::1]:1"]),
            ("127.0.0.1:9", &["127.0.0.1:1"]),
        ] {
            let device = DeviceKey::generate(&random).id();
            let mut dialling = Dialling::default();
            dialling.set_own(&[own.parse().unwrap()]);
            dialling.discovered(at(0), Some(device), &all, Source::Announced);
            let expected: Vec<SocketAddr> =
                dialled.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(dials(&mut dialling, at(0)), expected, "from {own}");
            assert!(dialling.timeout().is_none_or(|next| next > at(0)));
            assert!(dialling.punched(at(0), device, &all).iter().all(|it| is_local(*it)));
        }
    }

    /// [PROTO-5.10] If a device announces several ports of one host and was met at none, one is
    /// dialled at a time.
    #[test]
    fn an_announced_host_is_dialled_at_one_port_at_a_time() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let places = ["192.0.2.1:1", "192.0.2.1:2", "[2001:db8::1]:1", "[2001:db8::2]:1"]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), Some(device), &places, Source::Announced);
        assert_eq!(dials(&mut dialling, at(0)), [places[0], places[2]]);
        // Another port of the same host is no reason to hurry.
        let other = "192.0.2.1:3".parse().unwrap();
        dialling.discovered(at(9), Some(device), &[other], Source::Announced);
        assert_eq!(dials(&mut dialling, at(9)), []);
        dialling.handle_timeout(at(30_000));
        assert_eq!(dials(&mut dialling, at(31_000)), [places[1], places[3]]);
        // The address where the device was met is dialled like one that a person has given.
        dialling.connected(device, None);
        dialling.met(device, places[0]);
        dialling.disconnected(at(40_000), device, false);
        assert_eq!(dials(&mut dialling, at(41_000))[0], places[0]);
    }

    /// [PROTO-5.10] [PROTO-5.24] The first dials of a run do not wait.
    #[test]
    fn what_is_remembered_is_dialled_at_all_addresses_at_first() {
        let device = DeviceKey::generate(&SeededRandom::new(1)).id();
        let places = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "10.0.0.1:1"]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let mut dialling = Dialling::default();
        dialling.discovered(at(0), Some(device), &places, Source::Remembered);
        let mut counts = Vec::new();
        for second in 0..100 {
            dialling.handle_timeout(at(1_000 * second));
            let count = dials(&mut dialling, at(1_000 * second)).len();
            counts.extend((count > 0).then_some(count));
        }
        assert_eq!(counts, [4, 4, 2, 2]);
    }
}
