//! Finds addresses that are worth trying, by name. [PROTO-5.8]
//!
//! A result is not trusted: the device that answers at such an address must prove its identity.

mod dns;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use hark_keys::DeviceId;
use libp2p::{Multiaddr, multiaddr::Protocol};

pub use self::dns::Dns;
use crate::link::{address_of, multiaddr_of};

/// A place at which a peer may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPlace {
    /// `203.0.113.9:4000`, or `/ip4/203.0.113.9/udp/4000/quic-v1`.
    Address(Found),
    /// `voice.example.org:4000`, or `/dns/voice.example.org/udp/4000/quic-v1`.
    Host {
        /// The name of the host.
        name: String,
        /// The version of IP to use, if only one is meant.
        family: Option<Family>,
        /// The UDP port of the host.
        port: u16,
        /// The device there, if the text names it.
        device: Option<DeviceId>,
    },
    /// `squad.example.org`, or `/dnsaddr/squad.example.org`: the name's records list the places.
    List {
        /// The name, without `_dnsaddr.`.
        name: String,
        /// The device that is sought. `None` stands for any device.
        device: Option<DeviceId>,
    },
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An address that is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The device there, as the record states. `None` if the record names none.
    pub device: Option<DeviceId>,
    /// The address of that device.
    pub address: SocketAddr,
}

/// The text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an address such as 192.0.2.7:4000 or [2001:db8::7]:4000, a host with its port such as \
     voice.example.org:4000, nor a name such as squad.example.org"
)]
pub struct NoPlace;

impl FromStr for PeerPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        if text.starts_with('/') {
            let address: Multiaddr = text.parse().map_err(|_| NoPlace)?;
            return Self::of_multiaddr(&address).ok_or(NoPlace);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(Found { device: None, address }));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| NoPlace)?)),
            None => (text, None),
        };
        let name = host_name(name).ok_or(NoPlace)?;
        match port {
            Some(0) => Err(NoPlace),
            Some(port) => Ok(Self::Host { name, family: None, port, device: None }),
            // An IP address without its port is not meant as a name.
            None if name.parse::<IpAddr>().is_ok() => Err(NoPlace),
            None => Ok(Self::List { name, device: None }),
        }
    }
}

impl fmt::Display for PeerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(found) => write!(f, "{}", found.address),
            Self::Host { name, port, .. } => write!(f, "{name}:{port}"),
            Self::List { name, .. } => f.write_str(name),
        }
    }
}

impl PeerPlace {
    fn of_multiaddr(address: &Multiaddr) -> Option<Self> {
        if let Some((address, device)) = address_of(address) {
            return Some(Self::Address(Found { device, address }));
        }
        let mut parts = address.iter();
        let first = parts.next()?;
        let port = match first {
            Protocol::Dnsaddr(_) => 0,
            _ => match (parts.next()?, parts.next()?) {
                (Protocol::Udp(port), Protocol::QuicV1) if port != 0 => port,
                _ => return None,
            },
        };
        let device = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(DeviceId::from_peer_id(&peer)?),
            Some(_) => return None,
        };
        if parts.next().is_some() {
            return None;
        }
        let host =
            |name: &str, family| Some(Self::Host { name: host_name(name)?, family, port, device });
        match first {
            Protocol::Dnsaddr(name) => Some(Self::List { name: host_name(&name)?, device }),
            Protocol::Dns(name) => host(&name, None),
            Protocol::Dns4(name) => host(&name, Some(Family::V4)),
            Protocol::Dns6(name) => host(&name, Some(Family::V6)),
            _ => None,
        }
    }
}

/// Returns `text` in lower case if it can be a DNS name.
fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    (text.len() <= NAME_MAX && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

/// The seam for the lookup of names.
pub trait NameSource: Send + Sync {
    /// The TXT records of a name, each joined from its parts.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, NameError>>;

    /// The IP addresses of a host.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, NameError>>;
}

/// The reason why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No name server is known, or none answers.
    #[error("{0}")]
    Server(String),
    /// The name has no records of the wanted kind.
    #[error("it has no address")]
    Nothing,
    /// The lookup took more than 5 s.
    #[error("no answer within 5 s")]
    Timeout,
}

/// Returns the addresses that `place` leads to, at most 16, in order. Fails if there are none.
/// Follows names that lead to names to a depth of 4, and takes at most 5 s.
pub async fn resolve(source: &dyn NameSource, place: &PeerPlace) -> Result<Vec<Found>, NameError> {
    let mut search = Search { source, found: Vec::new(), lookups: 0, error: NameError::Nothing };
    let in_time = tokio::time::timeout(PATIENCE, search.follow(place.clone(), None, 0)).await;
    match (search.found, in_time) {
        (found, _) if !found.is_empty() => Ok(found),
        (_, Ok(())) => Err(search.error),
        (_, Err(_)) => Err(NameError::Timeout),
    }
}

struct Search<'a> {
    source: &'a dyn NameSource,
    found: Vec<Found>,
    lookups: usize,
    error: NameError,
}

impl Search<'_> {
    /// Adds the addresses that `place` leads to. With a device `wanted`, only addresses of that
    /// device count.
    fn follow(
        &mut self,
        place: PeerPlace,
        wanted: Option<DeviceId>,
        depth: usize,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let stays = |device: Option<DeviceId>| match (wanted, device) {
                (Some(wanted), Some(device)) => wanted == device,
                // A record that names no device does not name the wanted one.
                (Some(_), None) => false,
                (None, _) => true,
            };
            match place {
                PeerPlace::Address(found) => {
                    if stays(found.device) {
                        self.add(found);
                    }
                }
                PeerPlace::Host { name, family, port, device } => {
                    if !stays(device) || !self.may_look_up() {
                        return;
                    }
                    match self.source.addresses(&name).await {
                        Ok(addresses) => {
                            let meant = |ip: &IpAddr| {
                                family.is_none_or(|family| (family == Family::V4) == ip.is_ipv4())
                            };
                            for ip in addresses.into_iter().filter(meant) {
                                self.add(Found { device, address: SocketAddr::new(ip, port) });
                            }
                        }
                        Err(error) => self.error = error,
                    }
                }
                PeerPlace::List { name, device } => {
                    // A list that is meant for one device cannot lead to another.
                    if device.is_some() && !stays(device) || depth == DEPTH_MAX {
                        return;
                    }
                    if !self.may_look_up() {
                        return;
                    }
                    let wanted = wanted.or(device);
                    match self.source.texts(&format!("_dnsaddr.{name}")).await {
                        Ok(texts) => {
                            for text in texts.iter().take(TEXTS_MAX) {
                                let Some(text) = text.strip_prefix("dnsaddr=") else { continue };
                                // Records of other programs under this name are skipped.
                                let Ok(address) = text.parse() else { continue };
                                if let Some(place) = PeerPlace::of_multiaddr(&address) {
                                    self.follow(place, wanted, depth + 1).await;
                                }
                            }
                        }
                        Err(error) => self.error = error,
                    }
                }
            }
        })
    }

    fn add(&mut self, found: Found) {
        if self.found.len() < FOUND_MAX && !self.found.contains(&found) {
            self.found.push(found);
        }
    }

    fn may_look_up(&mut self) -> bool {
        self.lookups += 1;
        self.lookups <= LOOKUPS_MAX && self.found.len() < FOUND_MAX
    }
}

/// The places to look up, and the source that looks them up.
pub struct PeerNames {
    /// The places at which members may be found.
    pub places: Vec<PeerPlace>,
    /// The source that knows the names.
    pub source: Arc<dyn NameSource>,
}

impl PeerNames {
    /// Looks up all places from time to time and reports new addresses. If a place leads nowhere,
    /// that is reported once, until it has led somewhere again. Never returns.
    pub async fn run(self, tell: impl Fn(&PeerPlace, Result<Vec<Found>, NameError>)) {
        let Self { places, source } = self;
        let (source, tell) = (&*source, &tell);
        futures::future::join_all(places.iter().map(async |place| {
            let mut known = Known::default();
            loop {
                let outcome = resolve(source, place).await;
                if let Err(error) = &outcome
                    && known.failures == 0
                {
                    tell(place, Err(error.clone()));
                }
                let (news, pause) = known.learn(outcome);
                if !news.is_empty() {
                    tell(place, Ok(news));
                }
                tokio::time::sleep(pause).await;
            }
        }))
        .await;
    }
}

/// The last result for one place.
#[derive(Debug, Default)]
struct Known {
    told: BTreeSet<Found>,
    /// Failed lookups since it last led somewhere.
    failures: u32,
}

impl Known {
    /// Returns the new addresses, and how long to wait until the place is looked up again.
    fn learn(&mut self, outcome: Result<Vec<Found>, NameError>) -> (Vec<Found>, Duration) {
        match outcome {
            Ok(found) => {
                let news = found.iter().copied().filter(|found| !self.told.contains(found));
                let news = news.collect();
                self.told = found.into_iter().collect();
                self.failures = 0;
                (news, LOOK_AGAIN)
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                (Vec::new(), LOOK_AGAIN.min(FIRST_WAIT * (1 << self.failures.min(8))))
            }
        }
    }
}

/// The multiaddr form of a record, as other programs would write it.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = multiaddr_of(self.address);
        match self.device {
            Some(device) => write!(f, "{address}/p2p/{}", device.peer_id()),
            None => write!(f, "{address}"),
        }
    }
}

/// Longest name in bytes.
const NAME_MAX: usize = 243;

/// Names that lead to names are followed to this depth.
const DEPTH_MAX: usize = 4;

/// Addresses that a place may lead to. Further ones are left out.
const FOUND_MAX: usize = 16;

/// Records of a name that are read. Further ones are left out.
const TEXTS_MAX: usize = 16;

/// Lookups for one place. What further ones would give is left out.
const LOOKUPS_MAX: usize = 16;

/// How long the lookup of a place may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a place is looked up, to find members that have moved.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Half of the wait after the first failure. The wait doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
