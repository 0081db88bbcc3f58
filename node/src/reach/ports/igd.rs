//! Asks a router for a port through UPnP.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use igd_next::{
    AddAnyPortError, AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions,
    aio::{
        Gateway as Router,
        tokio::{Tokio, search_gateway},
    },
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Gateway, PortAnswer, PortRefusal};

/// One port through UPnP, which [`Igd::release`] gives back.
pub(super) struct Igd {
    gateway: Gateway,
    own: SocketAddrV4,
    open: Mutex<Option<(Router<Tokio>, u16)>>,
}

impl Igd {
    /// Creates the client for the UDP port of `own`.
    pub(super) fn new(gateway: Gateway, own: SocketAddrV4) -> Self {
        Self { gateway, own, open: Mutex::default() }
    }

    /// Looks for the router at once, and keeps a port from the moment when one is needed. Never
    /// returns.
    pub(super) async fn keep(
        &self,
        mut needed: watch::Receiver<bool>,
        tell: watch::Sender<PortAnswer>,
    ) -> Infallible {
        loop {
            let pause = match self.find().await {
                None => {
                    tell.send_replace(PortAnswer::Silent);
                    PAUSE
                }
                Some(router) => {
                    if !*needed.borrow() {
                        tell.send_replace(PortAnswer::Spare);
                    }
                    // The driver holds the sender for as long as this runs.
                    let _ = needed.wait_for(|needed| *needed).await;
                    loop {
                        let answer = self.open(&router).await;
                        tell.send_replace(answer);
                        if !matches!(answer, PortAnswer::Mapped(_)) {
                            break;
                        }
                        sleep(RENEW_AFTER).await;
                    }
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// Gives the port back, if the router answers within 0.5 s.
    pub(super) async fn release(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((router, port)) = open else { return };
        let removed = timeout(RELEASE, router.remove_port(PortMappingProtocol::UDP, port)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::debug!(port, "the router was not told that the port is free again");
        }
    }

    async fn find(&self) -> Option<Router<Tokio>> {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::new((*self.own.ip()).into(), 0);
        options.broadcast_address = self.gateway.search;
        options.timeout = Some(SEARCH);
        options.single_search_timeout = Some(SEARCH);
        options.gateway_ip_version = GatewayIpVersion::V4;
        options.allowed_gateway_ips = vec![(*self.gateway.router.ip()).into()];
        match search_gateway(options).await {
            // Another device of the LAN would lead nowhere, or may be hostile.
            Ok(router) if router.addr.ip() == *self.gateway.router.ip() => Some(router),
            Ok(router) => {
                tracing::debug!(address = %router.addr, "speaks UPnP and is not the router");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "no router by UPnP");
                None
            }
        }
    }

    /// Opens the port, or renews its lease.
    async fn open(&self, router: &Router<Tokio>) -> PortAnswer {
        let external = match router.get_external_ip().await {
            Ok(IpAddr::V4(ip)) if !ip.is_unspecified() => ip,
            outcome => {
                tracing::debug!(?outcome, "no external address by UPnP");
                return PortAnswer::Refused(PortRefusal::NoNetwork);
            }
        };
        let wish = {
            let had = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            had.as_ref().map_or(self.own.port(), |(_, port)| *port)
        };
        match self.add(router, wish).await {
            Ok(port) => {
                let open = Some((router.clone(), port));
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
                PortAnswer::Mapped(SocketAddrV4::new(external, port))
            }
            Err(refusal) => PortAnswer::Refused(refusal),
        }
    }

    /// Returns the external port, which is `wish` if that is free.
    async fn add(&self, router: &Router<Tokio>, wish: u16) -> Result<u16, PortRefusal> {
        let own = self.own.into();
        let mut lease = LEASE;
        for _ in 0..2 {
            let udp = PortMappingProtocol::UDP;
            match router.add_port(udp, wish, own, lease, DESCRIPTION).await {
                Ok(()) => return Ok(wish),
                // Old routers support only permanent leases: a port that we do not give back stays
                // open.
                Err(AddPortError::OnlyPermanentLeasesSupported) => lease = 0,
                Err(AddPortError::PortInUse | AddPortError::SamePortValuesRequired) => {
                    let any = router.add_any_port(udp, own, lease, DESCRIPTION).await;
                    return any.map_err(|error| {
                        tracing::debug!(%error, "no port by UPnP");
                        match error {
                            AddAnyPortError::ActionNotAuthorized => PortRefusal::NotAllowed,
                            _ => PortRefusal::Full,
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "no port by UPnP");
                    return Err(match error {
                        AddPortError::ActionNotAuthorized => PortRefusal::NotAllowed,
                        _ => PortRefusal::Code(ACTION_FAILED),
                    });
                }
            }
        }
        Err(PortRefusal::Code(ACTION_FAILED))
    }
}

/// Seconds that a port stays open without a renewal.
const LEASE: u32 = 3600;

/// The lease is renewed long before it ends; a shorter interval would be a burden on small routers.
/// A router that restarts forgets the port until the next renewal.
const RENEW_AFTER: Duration = Duration::from_secs(600);

/// How long the search for routers may take. Routers are asked to answer within 3 s.
const SEARCH: Duration = Duration::from_secs(4);

/// How long a router is left alone that is silent or refuses.
const PAUSE: Duration = Duration::from_secs(300);

/// How long it may take to give the port back.
const RELEASE: Duration = Duration::from_millis(500);

/// The name under which routers list the port.
const DESCRIPTION: &str = "Hark";

/// UPnP's error code for a failure without a stated reason.
const ACTION_FAILED: u16 = 501;
