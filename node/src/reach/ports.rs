//! Asks the router of this machine's network for a port that can be reached from outside.
//! [PROTO-5.5]
//!
//! PCP and NAT-PMP use a client of our own, UPnP a library. The router is asked through all of them
//! side by side. If PCP or NAT-PMP gives a port, UPnP is not asked for another one.
//!
//! ```text
//!  Runner ── where it listens ──> run ──> PortClient ── PCP, NAT-PMP ──> router
//!    ^                             │  └─> igd ───────── UPnP ──────────> router
//!    └────────── Report ───────────┘
//! ```

pub mod client;
mod igd;
pub mod nat_pmp;
pub mod pcp;

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use hark_keys::Random;
use hark_mesh::AddressKind;
use quinn::{AsyncUdpSocket, udp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::{client::PortClient, igd::Igd};
use crate::{
    clock::Clock,
    link::{Binder, UdpBinder},
    platform,
};

/// The router through which this machine reaches the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The address at which the router takes requests of PCP and NAT-PMP.
    pub router: SocketAddrV4,
    /// This machine's address, as the router sees it.
    pub own: Ipv4Addr,
    /// The address to which the search for UPnP routers is sent.
    pub search: SocketAddr,
}

impl Gateway {
    /// A router at the ports that the protocols define.
    pub fn new(router: Ipv4Addr, own: Ipv4Addr) -> Self {
        let router = SocketAddrV4::new(router, MAPPING_PORT);
        Self { router, own, search: SEARCH_GROUP.into() }
    }
}

/// The seam for the machine and its network.
pub trait Surroundings: Send {
    /// The router of the way to most of the internet, if there is one.
    fn gateway(&mut self) -> io::Result<Option<Gateway>>;

    /// A socket for requests to the router.
    fn socket(&mut self, own: Ipv4Addr) -> io::Result<Arc<dyn AsyncUdpSocket>>;
}

/// The machine's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Surroundings for System {
    fn gateway(&mut self) -> io::Result<Option<Gateway>> {
        let gateway = platform::default_gateway()?;
        Ok(gateway.map(|(router, own)| Gateway::new(router, own)))
    }

    fn socket(&mut self, own: Ipv4Addr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        UdpBinder.bind(SocketAddr::new(own.into(), 0))
    }
}

/// The result of asking by one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "detail")]
pub enum PortAnswer {
    /// The answer is still awaited.
    #[default]
    Awaited,
    /// The router did not answer.
    Silent,
    /// The router does not speak the protocol.
    Unsupported,
    /// The router speaks the protocol, but another protocol has given a port already.
    Spare,
    /// The router refuses to give a port.
    Refused(PortRefusal),
    /// Others can reach this device at this external address.
    Mapped(SocketAddrV4),
}

/// The reason why a router gives no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortRefusal {
    /// The router's owner has switched it off, or does not permit it for this device.
    NotAllowed,
    /// The router has no external address.
    NoNetwork,
    /// The router has given out all ports that it has.
    Full,
    /// The router sees another address than this device's own, so another NAT lies between them.
    AnotherNat,
    /// Another reason, as numbered by the protocol.
    Code(u16),
}

impl PortRefusal {
    fn of_pcp(result: u8) -> Self {
        match result {
            2 => Self::NotAllowed,
            7 | 11 => Self::NoNetwork,
            8 | 10 => Self::Full,
            12 => Self::AnotherNat,
            other => Self::Code(other.into()),
        }
    }

    fn of_nat_pmp(result: u16) -> Self {
        match result {
            2 => Self::NotAllowed,
            3 => Self::NoNetwork,
            4 => Self::Full,
            other => Self::Code(other),
        }
    }
}

impl fmt::Display for PortRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("it does not allow it"),
            Self::NoNetwork => f.write_str("it has no address outside"),
            Self::Full => f.write_str("it has no port left"),
            Self::AnotherNat => f.write_str("another NAT is between"),
            Self::Code(code) => write!(f, "it says no (code {code})"),
        }
    }
}

/// The results of asking the router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// The router. `None` if no router is known.
    pub gateway: Option<Ipv4Addr>,
    /// The result of asking by PCP.
    pub pcp: PortAnswer,
    /// The result of asking by NAT-PMP.
    pub nat_pmp: PortAnswer,
    /// The result of asking by UPnP.
    pub upnp: PortAnswer,
}

impl PortReport {
    /// The external address that the router has given, and the protocol that gave it.
    pub fn mapped(&self) -> Option<(&'static str, SocketAddrV4)> {
        let answers = [("PCP", self.pcp), ("NAT-PMP", self.nat_pmp), ("UPnP", self.upnp)];
        answers.into_iter().find_map(|(by, answer)| match answer {
            PortAnswer::Mapped(external) => Some((by, external)),
            _ => None,
        })
    }

    /// The external address, if others can reach it. `None` if the router is behind another NAT.
    pub fn reachable(&self) -> Option<SocketAddr> {
        let (_, external) = self.mapped()?;
        is_public(external).then_some(external.into())
    }

    /// Whether there is another NAT: between this device and the router, or beyond the router that
    /// gives a port.
    pub fn is_double_nat(&self) -> bool {
        let between = PortAnswer::Refused(PortRefusal::AnotherNat);
        self.pcp == between || self.mapped().is_some_and(|(_, external)| !is_public(external))
    }

    /// Whether no further result is expected soon.
    pub fn is_complete(&self) -> bool {
        let answers = [self.pcp, self.nat_pmp];
        let given = answers.iter().any(|answer| matches!(answer, PortAnswer::Mapped(_)));
        self.upnp != PortAnswer::Awaited && (given || !answers.contains(&PortAnswer::Awaited))
    }
}

fn is_public(address: SocketAddrV4) -> bool {
    AddressKind::of(IpAddr::V4(*address.ip())) == AddressKind::Public
}

/// Keeps a port for the node that listens at the addresses in `listening`, and reports the results.
/// Gives the port back and returns when the other end of `listening` is dropped.
pub async fn run(
    mut surroundings: Box<dyn Surroundings>,
    mut listening: watch::Receiver<Vec<SocketAddr>>,
    random: Arc<dyn Random>,
    clock: Clock,
    tell: impl Fn(PortReport),
) {
    loop {
        let gateway = surroundings.gateway().unwrap_or_else(|error| {
            tracing::info!(%error, "the router is not known");
            None
        });
        let own = gateway.and_then(|gateway| {
            let addresses = listening.borrow_and_update();
            let ports = addresses.iter().filter(|it| it.ip() == gateway.own).map(SocketAddr::port);
            ports.min().map(|port| (gateway, SocketAddrV4::new(gateway.own, port)))
        });
        tell(PortReport { gateway: gateway.map(|it| *it.router.ip()), ..PortReport::default() });
        let Some((gateway, own)) = own else {
            // A router may appear while our own addresses stay the same.
            match tokio::time::timeout(LOOK_AGAIN, listening.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) | Err(_) => continue,
            }
        };
        let stays = |addresses: &Vec<SocketAddr>| addresses.contains(&SocketAddr::V4(own));
        let goes = listening.wait_for(|addresses| !stays(addresses));
        let session = match surroundings.socket(gateway.own) {
            Ok(socket) => Session { gateway, own, socket, clock },
            Err(error) => {
                tracing::info!(%error, "the router cannot be asked");
                match tokio::time::timeout(LOOK_AGAIN, goes).await {
                    Ok(Err(_)) => return,
                    Ok(Ok(_)) | Err(_) => continue,
                }
            }
        };
        let goes = async { goes.await.is_ok() };
        if !session.run(&random, &tell, goes).await {
            return;
        }
    }
}

/// The requests to one router for one port.
struct Session {
    gateway: Gateway,
    own: SocketAddrV4,
    socket: Arc<dyn AsyncUdpSocket>,
    clock: Clock,
}

impl Session {
    /// Keeps the port until `goes` completes, and then gives it back. Returns the result of `goes`.
    async fn run(
        &self,
        random: &Arc<dyn Random>,
        tell: impl Fn(PortReport),
        goes: impl Future<Output = bool>,
    ) -> bool {
        let mut client = PortClient::new(self.clock.now(), self.own, random);
        let upnp = Igd::new(self.gateway, self.own);
        let (needed, is_needed) = watch::channel(false);
        let (upnp_tells, mut upnp_says) = watch::channel(PortAnswer::Awaited);
        let mut goes = std::pin::pin!(goes);
        let mut keep = std::pin::pin!(upnp.keep(is_needed, upnp_tells));
        let grace = self.clock.now() + UPNP_AFTER;
        let (mut told, mut buffer) = (PortReport::default(), [0; DATAGRAM_MAX]);
        let on = loop {
            while let Some(datagram) = client.poll_transmit() {
                self.send(&datagram);
            }
            let now = self.clock.now();
            let answers = [client.pcp(), client.nat_pmp()];
            let given = answers.iter().any(|answer| matches!(answer, PortAnswer::Mapped(_)));
            let awaited = answers.contains(&PortAnswer::Awaited) && now < grace;
            needed.send_if_modified(|needed| {
                let before = std::mem::replace(needed, !given && !awaited);
                before != *needed
            });
            let gateway = Some(*self.gateway.router.ip());
            let upnp = *upnp_says.borrow_and_update();
            let report = PortReport { gateway, pcp: answers[0], nat_pmp: answers[1], upnp };
            if told != report {
                told = report;
                tell(report);
            }
            let wake_at = client.poll_timeout().into_iter().chain((now < grace).then_some(grace));
            let sleep = wake_at.min().map(|at| at.saturating_duration_since(now));
            tokio::select! {
                biased;
                on = &mut goes => break on,
                datagram = self.receive(&mut buffer) => match datagram {
                    Ok(length) => client.handle_input(self.clock.now(), &buffer[..length]),
                    // A router that refuses by ICMP is asked again as if it were silent. A socket
                    // that fails without end must not keep us busy.
                    Err(error) => {
                        tracing::debug!(%error, "from the router");
                        tokio::time::sleep(AFTER_AN_ERROR).await;
                    }
                },
                Ok(()) = upnp_says.changed() => {}
                never = &mut keep => match never {},
                () = tokio::time::sleep(sleep.unwrap_or(UPNP_AFTER)), if sleep.is_some() => {
                    client.handle_timeout(self.clock.now());
                }
            }
        };
        client.release();
        while let Some(datagram) = client.poll_transmit() {
            self.send(&datagram);
        }
        upnp.release().await;
        on
    }

    fn send(&self, datagram: &[u8]) {
        let sent = self.socket.try_send(&udp::Transmit {
            destination: self.gateway.router.into(),
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: None,
        });
        if let Err(error) = sent {
            tracing::debug!(%error, "to the router");
        }
    }

    /// Returns the length of the next datagram from the router. Datagrams from other addresses are
    /// skipped.
    async fn receive(&self, buffer: &mut [u8; DATAGRAM_MAX]) -> io::Result<usize> {
        loop {
            let mut meta = [udp::RecvMeta::default()];
            poll_fn(|cx| self.socket.poll_recv(cx, &mut [IoSliceMut::new(buffer)], &mut meta))
                .await?;
            if meta[0].addr == SocketAddr::V4(self.gateway.router) {
                return Ok(meta[0].len.min(meta[0].stride));
            }
        }
    }
}

/// The port at which routers take requests of PCP and NAT-PMP.
const MAPPING_PORT: u16 = 5351;

/// The multicast address at which UPnP routers listen.
const SEARCH_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// How often to look for a router if there is none.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long PCP and NAT-PMP may take before UPnP is asked for a port.
const UPNP_AFTER: Duration = Duration::from_secs(2);

/// How long to wait after a socket has failed.
const AFTER_AN_ERROR: Duration = Duration::from_millis(100);

/// Longer datagrams are cut off, and therefore refused (RFC 6887, 7).
const DATAGRAM_MAX: usize = 1101;

#[cfg(test)]
mod tests;
