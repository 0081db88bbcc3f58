//! quinn endpoints in virtual time, over links that lose packets: no socket, no sleep.

mod watched;

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use hark_keys::{
    DeviceId, DeviceKey, Random, SeededRandom,
    noise::{EndpointKind, QUIC_VERSION, client_config, endpoint_config, server_config},
};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, Event,
    ServerConfig, Transmit, TransportConfig,
};

pub(crate) use self::watched::Watch;

pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    now: Instant,
    start: Instant,
    /// Packets by their time of arrival and their number.
    in_flight: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    random: Arc<dyn Random>,
    loss_percent: u8,
}

pub(crate) struct Node {
    pub(crate) connections: BTreeMap<usize, Link>,
    /// Whether newcomers must first prove their address.
    pub(crate) retry: bool,
    /// The keys of its connections.
    pub(crate) watch: Watch,
    endpoint: Endpoint,
    key: DeviceKey,
}

pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) connected: bool,
    pub(crate) lost: Option<ConnectionError>,
}

struct Packet {
    from: usize,
    to: usize,
    bytes: BytesMut,
}

impl Network {
    /// Nodes with the keys 1, 2, … that lose `loss_percent` of the packets that they send.
    pub(crate) fn new(nodes: u8, seed: u64, loss_percent: u8) -> Self {
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
        let nodes = (1..=nodes).map(|number| Node::new(number, &random)).collect();
        let start = Instant::now();
        let in_flight = BTreeMap::new();
        Self { nodes, now: start, start, in_flight, sent: 0, random, loss_percent }
    }

    /// Dials node `to`; returns the number of the connection at `from`.
    pub(crate) fn connect(&mut self, from: usize, to: usize, expected: Option<DeviceId>) -> usize {
        let node = &mut self.nodes[from];
        let crypto = client_config(&node.key, self.random.clone(), expected);
        let mut config = ClientConfig::new(node.watch.client(crypto));
        config.version(QUIC_VERSION).transport_config(transport());
        let (handle, connection) =
            node.endpoint.connect(self.now, config, address(to), "hark").unwrap();
        node.connections.insert(handle.0, Link { connection, connected: false, lost: None });
        handle.0
    }

    /// Restarts the node, with the same key and nothing else.
    pub(crate) fn restart(&mut self, node: usize) {
        let number = u8::try_from(node + 1).unwrap();
        self.nodes[node] = Node::new(number, &self.random);
    }

    /// Runs until `done` holds or `limit` has passed; returns whether it held.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.flush();
            if done(self) {
                return true;
            }
            let timers = self.nodes.iter_mut().flat_map(|node| node.connections.values_mut());
            let timer = timers.filter_map(|link| link.connection.poll_timeout()).min();
            let arrival = self.in_flight.keys().next().map(|(time, _)| *time);
            match timer.into_iter().chain(arrival).min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return false;
                }
            }
            self.advance();
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Delivers a datagram of no node to `to`; returns the answer.
    pub(crate) fn inject(&mut self, to: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        let event = self.nodes[to].endpoint.handle(
            self.now,
            address(99),
            None,
            None,
            bytes.into(),
            &mut buffer,
        );
        matches!(event, Some(DatagramEvent::Response(_))).then_some(buffer)
    }

    fn advance(&mut self) {
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let packet = entry.remove();
            if let Some((transmit, bytes)) =
                self.nodes[packet.to].receive(self.now, packet.from, packet.bytes)
            {
                self.send(packet.to, &transmit, &bytes);
            }
        }
        for link in self.nodes.iter_mut().flat_map(|node| node.connections.values_mut()) {
            if link.connection.poll_timeout().is_some_and(|timer| timer <= self.now) {
                link.connection.handle_timeout(self.now);
            }
        }
    }

    fn flush(&mut self) {
        for index in 0..self.nodes.len() {
            for (transmit, bytes) in self.nodes[index].flush(self.now) {
                self.send(index, &transmit, &bytes);
            }
        }
    }

    fn send(&mut self, from: usize, transmit: &Transmit, bytes: &[u8]) {
        let mut chance = [0; 2];
        self.random.fill(&mut chance);
        if u32::from(u16::from_be_bytes(chance)) * 100 < u32::from(self.loss_percent) << 16 {
            return;
        }
        let to = usize::from(transmit.destination.port()) - 1;
        let packet = Packet { from, to, bytes: bytes[..transmit.size].into() };
        self.in_flight.insert((self.now + DELAY, self.sent), packet);
        self.sent += 1;
    }
}

impl Node {
    fn new(number: u8, random: &Arc<dyn Random>) -> Self {
        let key = DeviceKey::from_secret(&[number; 32]);
        let mut seed = [0; 32];
        random.fill(&mut seed);
        let mut config = endpoint_config(
            &key,
            random.clone(),
            EndpointKind::Socket(address(usize::from(number) - 1)),
        );
        config.rng_seed(Some(seed));
        let watch = Watch::default();
        let crypto = watch.server(server_config(&key, random.clone()));
        let mut server = ServerConfig::with_crypto(crypto);
        server.transport_config(transport());
        let endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server)), true, None);
        Self { connections: BTreeMap::new(), retry: false, watch, endpoint, key }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.key.id()
    }

    /// The only connection.
    pub(crate) fn link(&mut self) -> &mut Link {
        assert_eq!(self.connections.len(), 1);
        self.connections.values_mut().next().unwrap()
    }

    fn receive(
        &mut self,
        now: Instant,
        from: usize,
        bytes: BytesMut,
    ) -> Option<(Transmit, Vec<u8>)> {
        let mut buffer = Vec::new();
        match self.endpoint.handle(now, address(from), None, None, bytes, &mut buffer)? {
            DatagramEvent::ConnectionEvent(handle, event) => {
                self.connections.get_mut(&handle.0).unwrap().connection.handle_event(event);
                None
            }
            DatagramEvent::NewConnection(incoming) => {
                if self.retry && !incoming.remote_address_validated() {
                    let transmit = self.endpoint.retry(incoming, &mut buffer).ok().unwrap();
                    return Some((transmit, buffer));
                }
                match self.endpoint.accept(incoming, now, &mut buffer, None) {
                    Ok((handle, connection)) => {
                        let link = Link { connection, connected: false, lost: None };
                        self.connections.insert(handle.0, link);
                        None
                    }
                    Err(error) => Some((error.response?, buffer)),
                }
            }
            DatagramEvent::Response(transmit) => Some((transmit, buffer)),
        }
    }

    fn flush(&mut self, now: Instant) -> Vec<(Transmit, Vec<u8>)> {
        let mut sent = Vec::new();
        for (&handle, link) in &mut self.connections {
            while let Some(event) = link.connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(ConnectionHandle(handle), event) {
                    link.connection.handle_event(event);
                }
            }
            while let Some(event) = link.connection.poll() {
                match event {
                    Event::Connected => link.connected = true,
                    Event::ConnectionLost { reason } => link.lost = Some(reason),
                    _ => (),
                }
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = link.connection.poll_transmit(now, 1, &mut buffer) {
                sent.push((transmit, std::mem::take(&mut buffer)));
            }
        }
        sent
    }
}

impl Link {
    pub(crate) fn peer(&self) -> Option<DeviceId> {
        let identity = self.connection.crypto_session().peer_identity()?;
        Some(*identity.downcast::<DeviceId>().unwrap())
    }

    pub(crate) fn export(&self, label: &[u8]) -> [u8; 32] {
        let mut secret = [0; 32];
        let session = self.connection.crypto_session();
        session.export_keying_material(&mut secret, label, b"").unwrap();
        secret
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.initial_rtt(Duration::from_millis(100));
    config.max_idle_timeout(Some(Duration::from_secs(30).try_into().unwrap()));
    Arc::new(config)
}

/// The address of a node; its port identifies the node.
fn address(node: usize) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, u16::try_from(node + 1).unwrap()).into()
}

/// One way, from any node to any other.
const DELAY: Duration = Duration::from_millis(40);
