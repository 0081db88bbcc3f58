//! libp2p's swarm as a squad needs it: links, messages and gossip.

pub mod behaviour;
pub mod compact;
mod dials;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use hark_keys::{DeviceId, DeviceKey, OrganisationId, Timestamp};
use hark_mesh::{
    Dial, Way,
    hello::{HelloError, Refusal},
    message::{Acknowledgement, Message, Topic},
    squad::{Handled, MessageError, Squad, SquadTransmit},
};
use libp2p::{
    PeerId, Swarm, TransportError, gossipsub, mdns,
    request_response::{self, OutboundRequestId, ResponseChannel},
    swarm::{ConnectionId, DialError, SwarmEvent},
};

use self::{
    behaviour::{Behaviour, BehaviourEvent},
    compact::Compact,
};
use crate::{
    clock::Clock,
    link::{
        Admission, Binder, LinkError, LinkTransport, Links, SharedBinder, address_of, multiaddr_of,
        send_check,
    },
    random::SystemRandom,
};

/// The reason why a swarm cannot be created or cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// mDNS gets no socket to search the LAN with.
    #[error("cannot look on this network: {0}")]
    Mdns(#[from] std::io::Error),
    /// gossipsub refuses its settings.
    #[error("gossip does not start: {0}")]
    Gossip(String),
    /// An address cannot be listened on, for this reason of the system.
    #[error("{0}")]
    Listen(String),
}

/// The settings with which a swarm starts.
pub struct SwarmDriverConfig {
    /// The key of this device.
    pub key: Arc<DeviceKey>,
    /// The organisation that the links are for.
    pub organisation: OrganisationId,
    /// Whether to look for members on the LAN.
    pub mdns: bool,
    /// The most links in all. Further ones are refused.
    pub links_max: u32,
    /// Whether members meet here that have no links to each other. Gossip is then sent to all of
    /// them at once.
    pub is_hub: bool,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Decides who is admitted by the Hello.
    pub admission: Arc<dyn Admission>,
    /// All links.
    pub links: Arc<Links>,
    /// The clock.
    pub clock: Clock,
}

/// The swarm of one device in one organisation. It must stay on the tokio runtime on which it was
/// created.
pub struct SwarmDriver {
    swarm: Swarm<Compact<Behaviour>>,
    links: Arc<Links>,
    binder: SharedBinder,
    clock: Clock,
    organisation: OrganisationId,
    requests: BTreeMap<OutboundRequestId, Sent>,
    /// Messages that a worker verifies, by the squad's numbers. The squad limits how many wait.
    pending: BTreeMap<u64, Pending>,
    dials: BTreeMap<ConnectionId, Dial>,
    listen_addresses: BTreeSet<SocketAddr>,
    /// The external address that the router has given.
    mapped: Option<SocketAddr>,
    /// The addresses at which strangers reach this device, as other members have found.
    confirmed: Vec<SocketAddr>,
    /// Whether an address has gone and none has come since.
    moved: bool,
}

/// A message whose answer has not come.
struct Sent {
    to: DeviceId,
    id: u64,
    holds_key: bool,
}

/// A message whose sender is informed of the result later.
enum Pending {
    Request(ResponseChannel<Vec<u8>>),
    Gossip(gossipsub::MessageId, PeerId),
}

/// News of the swarm for its owner.
#[derive(Debug)]
pub enum News {
    /// An address that this device listens on has come or gone. The squad has been informed.
    Addresses {
        /// Whether the address has come.
        new: bool,
    },
    /// Devices found on the LAN while there is no squad.
    Discovered(BTreeMap<DeviceId, Vec<SocketAddr>>),
    /// A device at an address that was dialled without a device id, as a person gives it, does not
    /// let this device in.
    Refused(Refusal),
    /// Nothing is left to do.
    Nothing,
}

impl SwarmDriver {
    /// Creates a swarm that listens nowhere yet. Fails if mDNS gets no socket.
    pub fn new(config: SwarmDriverConfig) -> Result<Self, SwarmError> {
        let SwarmDriverConfig { key, organisation, mdns, links_max, is_hub, .. } = config;
        let SwarmDriverConfig { binder, admission, links, clock, .. } = config;
        let behaviour = Compact(Behaviour::new(&key, organisation, mdns, links_max, is_hub)?);
        let peer = key.id().peer_id();
        let binder = SharedBinder::new(binder);
        let (shared, random) = (Box::new(binder.clone()), Arc::new(SystemRandom));
        let transport = LinkTransport::new(key, random, shared, admission, Arc::clone(&links));
        let transport = libp2p::Transport::map(transport, |(peer, muxer), _| {
            (peer, libp2p::core::muxing::StreamMuxerBox::new(muxer))
        });
        let swarm_config =
            libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(FOREVER);
        let transport = libp2p::Transport::boxed(transport);
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, peer, swarm_config),
            links,
            binder,
            clock,
            organisation,
            requests: BTreeMap::new(),
            pending: BTreeMap::new(),
            dials: BTreeMap::new(),
            listen_addresses: BTreeSet::new(),
            mapped: None,
            confirmed: Vec::new(),
            moved: false,
        })
    }

    /// Listens on `address`. If its port is 0, `last_port` is tried first; if that port is not
    /// free, another one is used and `last_port` is returned. Fails with the reason of the system.
    pub fn listen(
        &mut self,
        address: SocketAddr,
        last_port: Option<u16>,
    ) -> Result<Option<u16>, SwarmError> {
        // Other devices remember the port of the last run, and routers may be configured for it.
        let last_port = last_port.filter(|_| address.port() == 0);
        if let Some(port) = last_port
            && self.swarm.listen_on(multiaddr_of(SocketAddr::new(address.ip(), port))).is_ok()
        {
            return Ok(None);
        }
        match self.swarm.listen_on(multiaddr_of(address)) {
            Ok(_) => Ok(last_port),
            Err(error) => Err(SwarmError::Listen(deepest(&error))),
        }
    }

    /// Waits for the next event and informs the squad. It is safe to cancel.
    pub async fn next(&mut self, squad: Option<&mut Squad>) -> News {
        let event = self.swarm.select_next_some().await;
        self.handle(self.clock.now(), event, squad)
    }

    /// Carries out a transmission of the squad.
    pub fn transmit(&mut self, now: Timestamp, transmit: SquadTransmit, squad: &mut Squad) {
        match transmit {
            SquadTransmit::Message { to, id, bytes } => {
                let messages = &mut self.swarm.behaviour_mut().messages;
                let holds_key = Message::holds_key(&bytes);
                let request = messages.send_request(&to.peer_id(), bytes.to_vec());
                self.requests.insert(request, Sent { to, id, holds_key });
                if self.requests.len() > REQUEST_LIMIT
                    && let Some((_, sent)) = self.requests.pop_first()
                {
                    squad.handle_failed(now, sent.to, sent.id);
                }
            }
            SquadTransmit::Gossip(bytes) => {
                let topic = behaviour::topic(self.organisation, Topic::of(&bytes));
                if let Err(error) = self.swarm.behaviour_mut().gossip.publish(topic, bytes) {
                    // Nobody is there yet, or it was published before. Records are exchanged on
                    // each new link anyway.
                    tracing::debug!(%error, "not gossiped");
                }
            }
            // This is a heartbeat: the squad sends no other datagrams.
            SquadTransmit::Datagram { to, bytes } => self.links.send_heartbeat(to, &bytes.into()),
            SquadTransmit::Check { to, nonce } => {
                // If this device listens at one address only, nothing may be sent from another one.
                let mut own = self.useful_addresses().filter(|own| own.is_ipv4() == to.is_ipv4());
                let only = own.next().filter(|_| own.next().is_none()).map(|own| own.ip());
                if let Err(error) = send_check(&mut self.binder.clone(), only, to, nonce) {
                    tracing::debug!(%to, %error, "an address was not checked");
                }
            }
        }
    }

    /// Informs a peer, or gossip, of the result for a message that was verified later.
    pub fn conclude(&mut self, number: u64, result: &Result<(), MessageError>) {
        match self.pending.remove(&number) {
            Some(Pending::Request(channel)) => self.answer(channel, result),
            Some(Pending::Gossip(id, source)) => self.validate(&id, &source, result),
            // Nobody waits for the result.
            None => {}
        }
    }

    fn answer<T>(&mut self, channel: ResponseChannel<Vec<u8>>, result: &Result<T, MessageError>) {
        if let Err(error) = result {
            tracing::debug!(%error, "message refused");
        }
        let answer = Acknowledgement::from(result).encode().to_vec();
        // If the stream has ended in the meantime, the sender sends the message again.
        let _ = self.swarm.behaviour_mut().messages.send_response(channel, answer);
    }

    fn validate<T>(
        &mut self,
        id: &gossipsub::MessageId,
        source: &PeerId,
        result: &Result<T, MessageError>,
    ) {
        let acceptance = match result {
            Ok(_) => gossipsub::MessageAcceptance::Accept,
            // The peer that passed the message on is not at fault.
            Err(MessageError::OverBudget | MessageError::Stale) => {
                gossipsub::MessageAcceptance::Ignore
            }
            Err(error) => {
                tracing::debug!(%error, "gossip refused");
                gossipsub::MessageAcceptance::Reject
            }
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, source, acceptance);
    }

    /// Says goodbye and ends all links. Nothing can be sent after that.
    pub async fn leave(&mut self) {
        self.links.leave();
        // What is still queued leaves with the next turns of the sockets.
        self.turn(GOODBYE).await;
    }

    /// Waits until other devices have received what was just sent, before this node leaves.
    pub async fn finish(&mut self) {
        self.turn(LAST_WORDS).await;
    }

    /// Runs the swarm for this long. What it receives is discarded.
    async fn turn(&mut self, span: Duration) {
        let turning = async {
            loop {
                let _ = self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(span, turning).await;
    }

    /// All addresses that this device listens on.
    pub fn listen_addresses(&self) -> &BTreeSet<SocketAddr> {
        &self.listen_addresses
    }

    /// Sets the external address that the router has given, so that others can use it. `None` if
    /// there is none any more. [PROTO-5.5]
    pub fn set_mapped(
        &mut self,
        now: Timestamp,
        mapped: Option<SocketAddr>,
        squad: Option<&mut Squad>,
    ) {
        self.mapped = mapped;
        self.handle_addresses(now, squad, false);
    }

    /// Sets the addresses at which strangers reach this device, so that others can use them.
    /// [PROTO-5.9]
    pub fn set_confirmed(
        &mut self,
        now: Timestamp,
        confirmed: Vec<SocketAddr>,
        squad: Option<&mut Squad>,
    ) {
        self.confirmed = confirmed;
        self.handle_addresses(now, squad, false);
    }

    /// The addresses at which others can reach this device: first the one that the router has
    /// opened, then those at which strangers have reached it, then those it listens on. Loopback
    /// addresses are included only if there is nothing else.
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        let outside = self.mapped.into_iter().chain(self.confirmed.iter().copied());
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in outside.chain(self.useful_addresses()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            self.listen_addresses.iter().copied().collect()
        } else {
            addresses
        }
    }

    /// The addresses on which this device listens for other machines.
    fn useful_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let useful = |address: &&SocketAddr| match address {
            SocketAddr::V4(address) => !address.ip().is_loopback(),
            SocketAddr::V6(address) => {
                !address.ip().is_loopback() && !address.ip().is_unicast_link_local()
            }
        };
        self.listen_addresses.iter().filter(useful).copied()
    }

    fn handle(
        &mut self,
        now: Timestamp,
        event: SwarmEvent<BehaviourEvent>,
        squad: Option<&mut Squad>,
    ) -> News {
        match event {
            SwarmEvent::Behaviour(event) => return self.handle_behaviour(now, event, squad),
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.insert(address);
                    let moved = std::mem::take(&mut self.moved);
                    self.handle_addresses(now, squad, moved);
                    return News::Addresses { new: true };
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.remove(&address);
                    self.moved = true;
                    let elsewhere = !self.listen_addresses.is_empty();
                    self.handle_addresses(now, squad, elsewhere);
                    return News::Addresses { new: false };
                }
            }
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.dials.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                if let Some(dial) = self.dials.remove(&connection_id) {
                    if let Some(squad) = squad {
                        squad.handle_dial_failed(now, &dial);
                    }
                    if let (None, Some(refusal)) = (dial.device, refusal_in(&error)) {
                        return News::Refused(refusal);
                    }
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "connection refused");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
        News::Nothing
    }

    fn handle_behaviour(
        &mut self,
        now: Timestamp,
        event: BehaviourEvent,
        squad: Option<&mut Squad>,
    ) -> News {
        match (event, squad) {
            (BehaviourEvent::Mdns(mdns::Event::Discovered(found)), squad) => {
                let mut by_device: BTreeMap<DeviceId, Vec<SocketAddr>> = BTreeMap::new();
                for (peer, address) in found {
                    if let (Some(device), Some((address, _))) =
                        (DeviceId::from_peer_id(&peer), address_of(&address))
                    {
                        by_device.entry(device).or_default().push(address);
                    }
                }
                let Some(squad) = squad else { return News::Discovered(by_device) };
                for (device, addresses) in by_device {
                    squad.handle_discovered(now, Some(device), &addresses);
                }
            }
            (
                BehaviourEvent::Gossip(gossipsub::Event::Message {
                    propagation_source,
                    message_id,
                    message,
                }),
                Some(squad),
            ) => {
                let from = DeviceId::from_peer_id(&propagation_source);
                let topic = behaviour::topic(self.organisation, Topic::of(&message.data)).hash();
                // Frequent messages must not use the topic that a hub passes on to all at once.
                let taken = if message.topic == topic {
                    squad.handle_gossip(now, from, &message.data)
                } else {
                    Err(MessageError::ByGossip)
                };
                if let Ok(Handled::Later(number)) = taken {
                    let pending = Pending::Gossip(message_id, propagation_source);
                    self.pending.insert(number, pending);
                } else {
                    self.validate(&message_id, &propagation_source, &taken);
                }
            }
            (BehaviourEvent::Messages(event), Some(squad)) => {
                self.handle_message(now, event, squad);
            }
            _ => {}
        }
        News::Nothing
    }

    fn handle_message(
        &mut self,
        now: Timestamp,
        event: request_response::Event<Vec<u8>, Vec<u8>>,
        squad: &mut Squad,
    ) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(device) = DeviceId::from_peer_id(&peer) else { return };
                    match squad.handle_message(now, device, &request) {
                        Ok(Handled::Later(number)) => {
                            self.pending.insert(number, Pending::Request(channel));
                        }
                        result => self.answer(channel, &result),
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    let Some(Sent { to, id, .. }) = self.take_sent(request_id) else { return };
                    if Acknowledgement::decode(&response) == Some(Acknowledgement::Taken) {
                        squad.handle_delivered(now, to, id);
                    } else {
                        squad.handle_failed(now, to, id);
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "message not delivered");
                if let Some(Sent { to, id, .. }) = self.take_sent(request_id) {
                    squad.handle_failed(now, to, id);
                }
            }
            request_response::Event::InboundFailure { .. }
            | request_response::Event::ResponseSent { .. } => {}
        }
    }

    /// The result for a message is known. Packets that carried a key must not be opened any more.
    fn take_sent(&mut self, request: OutboundRequestId) -> Option<Sent> {
        let sent = self.requests.remove(&request)?;
        if sent.holds_key {
            self.links.handle_key_passed(sent.to);
        }
        Some(sent)
    }

    /// Informs the squad of this device's addresses. With `redial`, an address has gone: the
    /// devices that had dialled us are dialled from another address. [PROTO-2.10]
    fn handle_addresses(&mut self, now: Timestamp, mut squad: Option<&mut Squad>, redial: bool) {
        if let Some(squad) = &mut squad {
            squad.handle_addresses(now, self.own_addresses());
        }
        if redial {
            for (device, address) in self.links.forsake_accepted() {
                let addresses = vec![address];
                let dial = Dial { device: Some(device), addresses, way: Way::Direct };
                self.dial(now, dial, squad.as_deref_mut());
            }
        }
    }
}

/// The refusal that the other side sent when it was dialled, if it sent one.
fn refusal_in(error: &DialError) -> Option<Refusal> {
    let DialError::Transport(failures) = error else { return None };
    failures.iter().find_map(|(_, failure)| {
        let TransportError::Other(error) = failure else { return None };
        match error.get_ref()?.downcast_ref()? {
            LinkError::Hello(HelloError::Refused(refusal) | HelloError::Unsealed(refusal)) => {
                Some(*refusal)
            }
            _ => None,
        }
    })
}

/// The underlying error: the last of a chain of causes.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Links end by Hark's rules, not by libp2p's idle timeout.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the last messages may take: some round trips to the other side of the earth.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(100);

/// Messages whose answers have not come. If there are more, the oldest counts as lost.
const REQUEST_LIMIT: usize = 4096;
