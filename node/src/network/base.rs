//! What a node has in every phase: its network, its settings and the ways in and out of its thread.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hark_keys::{DeviceKey, Timestamp};
use hark_mesh::{hello::Presence, squad::Squad};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{Flags, Input, Publisher, RunnerConfig, Start, StartVoice, router::Router};
use crate::{
    admission::Doorkeeper,
    driver::{Driver, Network, NetworkConfig},
    error::NodeError,
    event::{Event, Notice},
    reach::ports,
    snapshot::TransmitMode,
    sound::Sound,
    store::OrganisationStore,
};

/// The network and the settings of a node, joining or working.
pub(super) struct Base {
    pub(super) network: Network,
    pub(super) key: Arc<DeviceKey>,
    pub(super) presence: Presence,
    pub(super) doorkeeper: Arc<Doorkeeper>,
    pub(super) relay_only: bool,
    /// Addresses worth trying.
    pub(super) peers: Vec<SocketAddr>,
    pub(super) transmit: Option<TransmitMode>,
    pub(super) profile: Option<String>,
    pub(super) flags: Flags,
    pub(super) sound: Arc<Sound>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) inputs: UnboundedReceiver<Input>,
    pub(super) input_sender: UnboundedSender<Input>,
    pub(super) router: Option<Router>,
    pub(super) ticker: Ticker,
}

/// What a node does ten times a second, from its start.
pub(super) struct Ticker {
    next: Timestamp,
    ticks: u64,
}

impl Ticker {
    /// When the next tick is due.
    pub(super) fn next(&self) -> Timestamp {
        self.next
    }

    /// If a tick is due: whether it is the first of a second.
    pub(super) fn tick(&mut self, now: Timestamp) -> Option<bool> {
        if now < self.next {
            return None;
        }
        self.next = now + TICK;
        self.ticks += 1;
        Some(self.ticks.is_multiple_of(TICKS_A_SECOND))
    }
}

impl Base {
    /// Opens the sockets, and begins to ask the router and to look names up.
    pub(super) fn new(
        config: RunnerConfig,
        inputs: UnboundedReceiver<Input>,
        input_sender: UnboundedSender<Input>,
    ) -> Result<(Self, Start, StartVoice), NodeError> {
        let mut network = Network::new(NetworkConfig {
            key: Arc::clone(&config.key),
            organisation: config.organisation,
            mdns: config.mdns,
            links_max: LINKS_MAX,
            is_hub: false,
            binder: config.binder,
            admission: Arc::clone(&config.doorkeeper) as _,
            links: config.links,
            link_events: config.link_events,
            relay: config.relay,
            worker: config.worker,
            overhear: config.overhear,
            clock: config.clock,
        })?;
        let last_port = match &config.start {
            Start::Member(store) => OrganisationStore::port(store),
            Start::Newcomer { .. } => None,
        };
        for address in config.listen {
            let taken = network.swarm.listen(address, last_port);
            let taken = taken.map_err(|reason| NodeError::Listen { address, reason })?;
            if let Some(port) = taken {
                config.publisher.publish(Event::PortTaken { port });
            }
        }
        for address in config.listen_if_possible {
            if let Err(error) = network.swarm.listen(address, last_port) {
                tracing::info!(%address, %error, "not listening there");
            }
        }
        let router = config
            .port_mapping
            .map(|surroundings| Router::ask(surroundings, config.clock, input_sender.clone()));
        if let Some(names) = config.names {
            let inputs = input_sender.clone();
            tokio::spawn(names.run(move |place, found| {
                let input = found.map_or_else(
                    |error| {
                        let (place, error) = (place.to_string(), error.to_string());
                        Input::Publish(Notice::PeerUnknown { place, error }.into())
                    },
                    Input::Found,
                );
                // The node may have ended meanwhile.
                let _ = inputs.send(input);
            }));
        }
        config.publisher.set_organisation(config.organisation);
        let base = Self {
            network,
            key: config.key,
            presence: config.presence,
            doorkeeper: config.doorkeeper,
            relay_only: config.relay_only,
            peers: config.peers,
            transmit: config.transmit,
            profile: config.profile,
            flags: config.flags,
            sound: config.sound,
            publisher: config.publisher,
            inputs,
            input_sender,
            router,
            ticker: Ticker { next: config.clock.now(), ticks: 0 },
        };
        Ok((base, config.start, config.start_voice))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.network.clock.now()
    }

    /// The device listens on other addresses than before.
    pub(super) fn handle_addresses(&self) {
        if let Some(router) = &self.router {
            router.set_listening(self.network.swarm.listen_addresses());
        }
        self.doorkeeper.set_addresses(self.network.swarm.own_addresses());
    }

    /// The router has answered.
    pub(super) fn handle_router(&mut self, report: ports::PortReport, squad: Option<&mut Squad>) {
        let now = self.now();
        let Some(router) = &mut self.router else { return };
        if router.set_report(report) {
            self.network.swarm.set_mapped(now, report.reachable(), squad);
            self.doorkeeper.set_addresses(self.network.swarm.own_addresses());
        }
    }

    /// Says goodbye to all links, and gives the router its port back.
    pub(super) async fn leave(&mut self, driver: Option<Driver>) {
        let router = self.router.take();
        let router = async {
            if let Some(router) = router {
                router.leave().await;
            }
        };
        let network = &mut self.network;
        let links = async {
            match driver {
                Some(driver) => driver.leave(network).await,
                None => network.swarm.leave().await,
            }
        };
        futures::future::join(links, router).await;
    }
}

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u64 = 10;

/// The most links; more are refused.
const LINKS_MAX: u32 = 512;
