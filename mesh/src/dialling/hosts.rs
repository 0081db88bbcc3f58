//! Limits the hosts that a device can make others dial by announcing addresses. [PROTO-5.10]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hark_keys::Timestamp;

use crate::AddressKind;

/// A machine, as far as an address shows. It is an IPv4 address, or the first 64 bits of an IPv6
/// address, since many machines have several of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Host {
    pub(crate) fn of(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let octets = ip.octets();
                Self::V6(*octets.first_chunk().expect("8 of 16 bytes"))
            }
        }
    }
}

/// The hosts that were dialled because a device announced them: at most `N` new ones per minute.
#[derive(Debug)]
pub(crate) struct NewHosts<const N: usize>(Vec<(Host, Timestamp)>);

impl<const N: usize> Default for NewHosts<N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<const N: usize> NewHosts<N> {
    pub(crate) fn contains(&self, host: Host) -> bool {
        self.0.iter().any(|(known, _)| *known == host)
    }

    /// When there is room for a new host; `None` if there is room now.
    pub(crate) fn room_at(&self) -> Option<Timestamp> {
        let oldest = self.0.first().filter(|_| self.0.len() >= N);
        oldest.map(|(_, since)| *since + NEW_HOSTS_INTERVAL)
    }

    /// Whether `host` may be dialled now.
    pub(crate) fn admits(&self, now: Timestamp, host: Host) -> bool {
        self.contains(host) || self.room_at().is_none_or(|at| at <= now)
    }

    /// Records a dial of `host` if it may be dialled now. Returns whether it may.
    pub(crate) fn admit(&mut self, now: Timestamp, host: Host) -> bool {
        let admits = self.admits(now, host);
        if admits && !self.contains(host) {
            if self.0.len() >= N {
                self.0.remove(0);
            }
            self.0.push((host, now));
        }
        admits
    }
}

/// Whether a device with the addresses `own` may dial an `address` that somebody else has
/// announced. If the address is in a private range, the device must be in that range itself.
pub(crate) fn is_in_range(address: SocketAddr, own: &[IpAddr]) -> bool {
    let ip = address.ip().to_canonical();
    AddressKind::of(ip) == AddressKind::Public
        || own.iter().any(|own| range_of(own.to_canonical()) == range_of(ip))
}

/// Whether an address belongs to a local network rather than to the internet.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    AddressKind::of(address.ip().to_canonical()) != AddressKind::Public
}

/// The private range of an address. Each range of RFC 1918 counts separately, and those of RFC 4193
/// by the first 48 bits.
fn range_of(ip: IpAddr) -> (u8, [u8; 6]) {
    let kind = AddressKind::of(ip);
    let number = match kind {
        AddressKind::Loopback => 0,
        AddressKind::LinkLocal => 1,
        AddressKind::Private => 2,
        AddressKind::Shared => 3,
        AddressKind::Public => 4,
    };
    let mut prefix = [0; 6];
    match ip {
        IpAddr::V4(ip) => {
            prefix[0] = 4;
            if kind == AddressKind::Private {
                prefix[1] = ip.octets()[0];
            }
        }
        IpAddr::V6(ip) if kind == AddressKind::Private => {
            prefix.copy_from_slice(&ip.octets()[..6]);
        }
        IpAddr::V6(_) => {}
    }
    (number, prefix)
}

/// How long a host that was dialled because of an announcement counts against the limit. With a
/// shorter time, announcements reach more hosts. With a longer time, a member that moves often
/// waits for a direct link.
const NEW_HOSTS_INTERVAL: Duration = Duration::from_secs(60);
