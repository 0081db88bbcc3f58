//! What the swarm tells, handed to the squad.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use hark_keys::{DeviceId, Timestamp};
use hark_mesh::{Dial, message::Acknowledgement};
use libp2p::{gossipsub, mdns, request_response, swarm::SwarmEvent};

use super::{Runner, behaviour::BehaviourEvent, router::Router};
use crate::{link::address_of, reach::names::Found};

impl Runner {
    pub(super) fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) -> anyhow::Result<()> {
        let now = self.config.clock.now();
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(now, event),
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.insert(address);
                    self.ready_at = self.ready_at.map(|at| at.min(now + ADDRESSES_SETTLE));
                    self.handle_addresses(now);
                    if std::mem::take(&mut self.moved) {
                        self.redial_accepted();
                    }
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.remove(&address);
                    self.handle_addresses(now);
                    self.moved = true;
                    if !self.listen_addresses.is_empty() {
                        self.redial_accepted();
                    }
                }
            }
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.dials.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                if let Some(dial) = self.dials.remove(&connection_id)
                    && let Some(squad) = &mut self.squad
                {
                    squad.handle_dial_failed(now, dial.device, &dial.addresses);
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "connection refused");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
        Ok(())
    }

    fn handle_behaviour(&mut self, now: Timestamp, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                let mut by_device: BTreeMap<DeviceId, Vec<SocketAddr>> = BTreeMap::new();
                for (peer, address) in found {
                    if let (Some(device), Some((address, _))) =
                        (DeviceId::from_peer_id(&peer), address_of(&address))
                    {
                        by_device.entry(device).or_default().push(address);
                    }
                }
                for (device, addresses) in by_device {
                    match (&mut self.squad, &mut self.joining) {
                        (Some(squad), _) => {
                            squad.handle_discovered(now, Some(device), &addresses);
                        }
                        (None, Some(joining)) if joining.discovered.len() < DISCOVERED_LIMIT => {
                            joining.discovered.insert(device, addresses);
                            joining.next_dial = now;
                        }
                        _ => {}
                    }
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let Some(squad) = &mut self.squad else { return };
                let from = DeviceId::from_peer_id(&propagation_source);
                let acceptance = match squad.handle_gossip(now, from, &message.data) {
                    Ok(()) => gossipsub::MessageAcceptance::Accept,
                    Err(error) => {
                        tracing::debug!(%error, "gossip refused");
                        gossipsub::MessageAcceptance::Reject
                    }
                };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            BehaviourEvent::Messages(event) => self.handle_message(now, event),
            _ => {}
        }
    }

    /// Names lead to these addresses. [PROTO-5.6]
    pub(super) fn handle_found(&mut self, now: Timestamp, found: Vec<Found>) {
        for Found { device, address } in found {
            match (&mut self.squad, &mut self.joining) {
                (Some(squad), _) => squad.handle_discovered(now, device, &[address]),
                (None, Some(joining)) if !self.config.peers.contains(&address) => {
                    // Whoever is there, and the ticket says who may answer.
                    self.config.peers.push(address);
                    joining.next_dial = now;
                }
                _ => {}
            }
        }
    }

    fn handle_message(&mut self, now: Timestamp, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        let Some(squad) = &mut self.squad else { return };
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(device) = DeviceId::from_peer_id(&peer) else { return };
                    let result = squad.handle_message(now, device, &request);
                    if let Err(error) = &result {
                        tracing::debug!(?device, %error, "message refused");
                    }
                    let answer = Acknowledgement::from(&result).encode().to_vec();
                    // The stream may have ended meanwhile; the sender then sends again.
                    let _ = self.swarm.behaviour_mut().messages.send_response(channel, answer);
                }
                request_response::Message::Response { request_id, response } => {
                    let Some((device, id)) = self.requests.remove(&request_id) else { return };
                    if Acknowledgement::decode(&response) == Some(Acknowledgement::Taken) {
                        squad.handle_delivered(now, device, id);
                    } else {
                        squad.handle_failed(now, device, id);
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "message not delivered");
                if let Some((device, id)) = self.requests.remove(&request_id) {
                    squad.handle_failed(now, device, id);
                }
            }
            request_response::Event::InboundFailure { .. }
            | request_response::Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn handle_addresses(&mut self, now: Timestamp) {
        if let Some(router) = &self.router {
            router.set_listening(&self.listen_addresses);
        }
        let addresses = self.own_addresses();
        self.config.doorkeeper.set_addresses(addresses.clone());
        if let Some(squad) = &mut self.squad {
            squad.handle_addresses(now, addresses);
        }
    }

    /// Dials those who have dialled us, from another address than the one that is gone. [PROTO-2.10]
    fn redial_accepted(&mut self) {
        for (device, address) in self.links.forsake_accepted() {
            self.dial(Dial { device: Some(device), addresses: vec![address] });
        }
    }

    /// Where others can reach us, where the router has opened a port first: not by loopback, unless
    /// there is nothing else. [PROTO-5.5]
    pub(super) fn own_addresses(&self) -> Vec<SocketAddr> {
        let useful = |address: &&SocketAddr| match address {
            SocketAddr::V4(address) => !address.ip().is_loopback(),
            SocketAddr::V6(address) => {
                !address.ip().is_loopback() && !address.ip().is_unicast_link_local()
            }
        };
        let mapped = self.router.as_ref().and_then(Router::reachable);
        let listening = self.listen_addresses.iter().filter(useful).copied();
        let outside: Vec<_> = mapped.into_iter().chain(listening).collect();
        if outside.is_empty() { self.listen_addresses.iter().copied().collect() } else { outside }
    }
}

/// Addresses of several interfaces come one by one; `ready` waits this long after one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// Devices on the LAN that a newcomer tries; further ones are left out.
const DISCOVERED_LIMIT: usize = 64;
