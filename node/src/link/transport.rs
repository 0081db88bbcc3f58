//! The libp2p transport: Noise-encrypted QUIC on the sockets of a [`Binder`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
};
use hark_keys::{DeviceId, DeviceKey, Random, Timestamp, noise, scrub_stack};
use hark_mesh::hello::{HelloError, PeerHello, Refusal};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        multiaddr::Protocol,
        transport::{DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent},
    },
};
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ConnectError, Connection, ConnectionError, Endpoint,
    EndpointConfig, Incoming, ReadExactError, TokioRuntime, TransportConfig, VarInt, WriteError,
};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Sleep, sleep},
};

use super::{
    congestion::VoiceFloor,
    fast::{FastPath, FastSocket},
    greeter::{Admission, Greeter, device_of},
    links::{CloseCode, Link, Links},
    lobby::{Lobby, Seat, Verdict},
    muxer::Muxer,
    socket::{Binder, BoundSocket, Interfaces},
    tunnel::{INNER_MTU, TunnelSocket, is_virtual, virtual_address},
    visits::Visit,
};

/// The reason why a link did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The socket could not be opened.
    #[error("cannot open {address}: {error}")]
    Bind {
        /// The address that the socket was to be bound to.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        error: io::Error,
    },
    /// QUIC cannot dial the address.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer ended the Hello.
    #[error("the Hello was cut off")]
    CutOff,
    /// The Hello took too long.
    #[error("no Hello within 10 s")]
    Timeout,
    /// The peer sent bytes that are no Hello.
    #[error("not a Hello")]
    Malformed,
    /// The handshake has not proven the identity of a device.
    #[error("the handshake proved no identity")]
    NoIdentity,
    /// One side's Hello was refused by the other.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A relay leads the dialler, a newcomer, to the doors of its ticket.
    #[error("a newcomer who is led to doors")]
    Led {
        /// The key of the invite that the newcomer has shown.
        invite: DeviceId,
    },
    /// The device already has as many connections at their Hello as it may have.
    #[error("too many connections of one device")]
    TooMany,
    /// Another address of the same device was faster.
    #[error("linked by another address")]
    AlreadyLinked,
    /// The endpoint has ended.
    #[error("not listening any more")]
    Closed,
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            _ => Self::CutOff,
        }
    }
}

impl From<ReadExactError> for LinkError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => {
                Self::Connection(error)
            }
            _ => Self::CutOff,
        }
    }
}

type Upgrade = BoxFuture<'static, Result<(PeerId, Muxer), LinkError>>;
type Event = TransportEvent<Upgrade, LinkError>;

/// QUIC with a Noise handshake and a Hello, as a libp2p transport.
pub struct LinkTransport {
    key: Arc<DeviceKey>,
    random: Arc<dyn Random>,
    binder: Box<dyn Binder>,
    greeter: Arc<Greeter>,
    links: Arc<Links>,
    listeners: BTreeMap<u64, Listener>,
    next_listener: u64,
    /// The endpoint of connections whose packets relays pass on.
    tunnel: Listener,
    /// Endpoints that only dial, one for each address family. They are used if no socket listens,
    /// or if the listening port must not be used.
    diallers: BTreeMap<bool, Port>,
    interfaces: Option<Interfaces>,
    addresses: BTreeSet<IpAddr>,
    pending: VecDeque<Event>,
    reception: Reception,
    waker: Option<Waker>,
}

/// An endpoint and the socket that it is on.
#[derive(Clone)]
struct Port {
    endpoint: Endpoint,
    socket: BoundSocket,
}

struct Listener {
    id: ListenerId,
    port: Port,
    bound: SocketAddr,
    accept: BoxFuture<'static, Option<Incoming>>,
}

impl LinkTransport {
    /// Creates a transport that listens nowhere yet except at the relays of `links`. It must be
    /// created on the runtime that drives it.
    pub fn new(
        key: Arc<DeviceKey>,
        random: Arc<dyn Random>,
        binder: Box<dyn Binder>,
        admission: Arc<dyn Admission>,
        links: Arc<Links>,
    ) -> Self {
        let tunnel = inner_endpoint(&key, &random, &links);
        Self {
            tunnel,
            key,
            random,
            binder,
            greeter: Arc::new(Greeter::new(admission)),
            links,
            listeners: BTreeMap::new(),
            next_listener: 0,
            diallers: BTreeMap::new(),
            interfaces: None,
            addresses: BTreeSet::new(),
            pending: VecDeque::new(),
            reception: Reception::new(),
            waker: None,
        }
    }

    fn bind(&mut self, address: SocketAddr, serve: bool) -> Result<Port, LinkError> {
        let bind = |binder: &mut dyn Binder| {
            let socket = binder.bind_plain(address)?;
            let shared = FastSocket::new(Arc::clone(&socket.0), &self.links, serve);
            let server = serve.then(|| server_config(&self.key, &self.random, outer_config()));
            // [PROTO-2.6] If `address` leaves the port open, the system chooses it.
            let place = match serve {
                true => noise::EndpointKind::Socket(shared.local_addr()?),
                false => noise::EndpointKind::Dialler,
            };
            let config = noise::endpoint_config(&self.key, Arc::clone(&self.random), place);
            Ok(Port { endpoint: endpoint(config, server, Arc::new(shared))?, socket })
        };
        bind(&mut *self.binder).map_err(|error| LinkError::Bind { address, error })
    }

    /// Returns an endpoint that can reach `address`. It is the listening one if there is one, so
    /// that the peer sees the address at which it could reach us. With `aside` it is another one,
    /// to whose port NATs have opened no way from outside.
    fn dialler(&mut self, address: SocketAddr, aside: bool) -> Result<Port, LinkError> {
        let listening = self.listeners.values().find(|listener| {
            let bound = listener.bound;
            bound.is_ipv4() == address.is_ipv4()
                && (!bound.ip().is_loopback() || address.ip().is_loopback())
        });
        if let Some(listener) = listening.filter(|_| !aside) {
            return Ok(listener.port.clone());
        }
        if let Some(port) = self.diallers.get(&address.is_ipv4()) {
            return Ok(port.clone());
        }
        let any: IpAddr = if address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let port = self.bind(SocketAddr::new(any, 0), false)?;
        self.diallers.insert(address.is_ipv4(), port.clone());
        Ok(port)
    }

    fn announce(&mut self, listener: u64) {
        let Some(listener) = self.listeners.get(&listener) else { return };
        let (id, bound) = (listener.id, listener.bound);
        let addresses = if bound.ip().is_unspecified() {
            self.addresses.iter().copied().filter(|ip| ip.is_ipv4() == bound.is_ipv4()).collect()
        } else {
            vec![bound.ip()]
        };
        for ip in addresses {
            let listen_addr = multiaddr_of(SocketAddr::new(ip, bound.port()));
            self.pending.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr });
        }
    }

    fn handle_interface(&mut self, ip: IpAddr, up: bool) {
        let changed = if up { self.addresses.insert(ip) } else { self.addresses.remove(&ip) };
        if !changed {
            return;
        }
        for listener in self.listeners.values() {
            let bound = listener.bound;
            if !bound.ip().is_unspecified() || bound.is_ipv4() != ip.is_ipv4() {
                continue;
            }
            let listener_id = listener.id;
            let listen_addr = multiaddr_of(SocketAddr::new(ip, bound.port()));
            self.pending.push_back(if up {
                TransportEvent::NewAddress { listener_id, listen_addr }
            } else {
                TransportEvent::AddressExpired { listener_id, listen_addr }
            });
        }
    }

    /// Handles the first packet of a handshake, which has come to the listener `id` bound to
    /// `bound`.
    fn receive(
        &mut self,
        (id, bound, socket): (ListenerId, SocketAddr, BoundSocket),
        incoming: Incoming,
    ) {
        let (now, from) = (self.links.clock().now(), incoming.remote_address());
        let validated = !incoming.may_retry();
        let is_known = self.links.has_known(from);
        let verdict = lock(&self.reception.lobby).handle_knock(now, from, is_known, validated);
        let (seat, instead) = match verdict {
            Verdict::Enter { seat, instead } => (seat, instead),
            Verdict::Retry => {
                // `retry` fails only for a packet that was retried already, and for those the lobby
                // asks for none.
                let _ = incoming.retry();
                return;
            }
            Verdict::Ignore => return incoming.ignore(),
        };
        if let Some(instead) = instead {
            self.reception.turn_out(instead);
        }
        // The tunnel's listener has announced no address, since no address would lead here.
        let multiaddr = |address| match is_virtual(address) {
            true => Multiaddr::empty().with(Protocol::P2pCircuit),
            false => multiaddr_of(address),
        };
        let (local, remote) = (multiaddr(bound), multiaddr(from));
        let greeter = Arc::clone(&self.greeter);
        let ends = self.ends(socket);
        let lobby = Arc::clone(&self.reception.lobby);
        let guest = self.reception.guests.spawn(async move {
            let greeted = async {
                let connection = incoming.accept()?.await?;
                if !lock(&lobby).handle_proven(seat, device_of(&connection)?) {
                    CloseCode::Refused.close(&connection);
                    return Err(LinkError::TooMany);
                }
                let hello = greeter.welcome(&connection).await;
                ends.finish_cleanly(connection, hello, false)
            };
            Guest { seat, listener: id, local, remote, greeted: greeted.await }
        });
        self.reception.seats.insert(seat, guest);
    }

    fn ends(&self, socket: BoundSocket) -> Ends {
        let (links, random) = (Arc::clone(&self.links), Arc::clone(&self.random));
        Ends { socket, links, random }
    }
}

impl Transport for LinkTransport {
    type Output = (PeerId, Muxer);
    type Error = LinkError;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<LinkError>> {
        let Some((socket_address, _)) = address_of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let port = self.bind(socket_address, true).map_err(TransportError::Other)?;
        let bound = port
            .endpoint
            .local_addr()
            .map_err(|error| LinkError::Bind { address: socket_address, error })
            .map_err(TransportError::Other)?;
        if bound.ip().is_unspecified() && self.interfaces.is_none() {
            let interfaces = self
                .binder
                .interfaces()
                .map_err(|error| LinkError::Bind { address: bound, error })
                .map_err(TransportError::Other)?;
            self.interfaces = Some(interfaces);
        }
        let accept = accept(port.endpoint.clone());
        let listener = self.next_listener;
        self.next_listener += 1;
        self.listeners.insert(listener, Listener { id, port, bound, accept });
        self.announce(listener);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|_, listener| listener.id != id);
        let removed = self.listeners.len() < before;
        if removed {
            let closed = TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) };
            self.pending.push_back(closed);
        }
        removed
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Upgrade, TransportError<LinkError>> {
        let relayed = relayed_device(&address);
        let target = match relayed {
            Some(device) => Some((virtual_address(device), Some(device))),
            None => address_of(&address),
        };
        let Some((socket_address, expected)) = target else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        if socket_address.port() == 0 || socket_address.ip().is_unspecified() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let relayed = relayed.is_some();
        let port = if relayed {
            self.tunnel.port.clone()
        } else {
            let aside = options.port_use == PortUse::New;
            self.dialler(socket_address, aside).map_err(TransportError::Other)?
        };
        let crypto = noise::client_config(&self.key, Arc::clone(&self.random), expected);
        let mut config = quinn::ClientConfig::new(crypto);
        config.version(noise::QUIC_VERSION);
        let mut transport = if relayed { inner_config() } else { outer_config() };
        if expected.is_some_and(|device| !relayed && self.links.is_punching(device)) {
            transport.initial_rtt(PUNCHING_RTT);
        }
        config.transport_config(Arc::new(transport));
        let connecting = port
            .endpoint
            .connect_with(config, socket_address, SERVER_NAME)
            .map_err(|error| TransportError::Other(error.into()))?;
        let greeter = Arc::clone(&self.greeter);
        let ends = self.ends(port.socket);
        Ok(async move {
            let connection = connecting.await?;
            let needless = |device| ends.links.has_fresh(device, relayed);
            let hello = greeter.greet(&connection, relayed, needless).await;
            ends.finish_cleanly(connection, hello, true)
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.pending.pop_front() {
                return Poll::Ready(event);
            }
            if let Some(interfaces) = &mut this.interfaces
                && let Poll::Ready(Some((ip, up))) = interfaces.poll_next_unpin(cx)
            {
                this.handle_interface(ip, up);
                continue;
            }
            if let Some(guest) = this.reception.poll_guest(cx, this.links.clock().now()) {
                let Guest { listener, local, remote, greeted, .. } = guest;
                match greeted {
                    Ok(link) => {
                        return Poll::Ready(TransportEvent::Incoming {
                            listener_id: listener,
                            upgrade: ready(Ok(link)).boxed(),
                            local_addr: local,
                            send_back_addr: remote,
                        });
                    }
                    Err(error) => tracing::debug!(%remote, %error, "connection refused"),
                }
                continue;
            }
            let mut arrived = None;
            for listener in this.listeners.values_mut().chain([&mut this.tunnel]) {
                if let Poll::Ready(incoming) = listener.accept.poll_unpin(cx) {
                    listener.accept = accept(listener.port.endpoint.clone());
                    let (id, bound) = (listener.id, listener.bound);
                    let socket = &listener.port.socket;
                    arrived = incoming.map(|incoming| ((id, bound, socket.clone()), incoming));
                    break;
                }
            }
            let Some((listener, incoming)) = arrived else { break };
            this.receive(listener, incoming);
        }
        this.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Parses `/ip4|ip6/…/udp/P/quic-v1[/p2p/ID]`: the socket address, and the device if it is named.
pub fn address_of(address: &Multiaddr) -> Option<(SocketAddr, Option<DeviceId>)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    let device = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(DeviceId::from_peer_id(&peer)?),
        Some(_) => return None,
    };
    parts.next().is_none().then_some((SocketAddr::new(ip, port), device))
}

/// The device of `/p2p-circuit/p2p/ID`, which is reached through whichever relay leads there.
fn relayed_device(address: &Multiaddr) -> Option<DeviceId> {
    let mut parts = address.iter();
    let (Protocol::P2pCircuit, Protocol::P2p(peer)) = (parts.next()?, parts.next()?) else {
        return None;
    };
    DeviceId::from_peer_id(&peer).filter(|_| parts.next().is_none())
}

/// The multiaddr at which to dial `device` through whichever relay leads there.
pub fn relayed_address(device: DeviceId) -> Multiaddr {
    Multiaddr::empty().with(Protocol::P2pCircuit).with(Protocol::P2p(device.peer_id()))
}

/// The multiaddr of a Hark node at `address`.
pub fn multiaddr_of(address: SocketAddr) -> Multiaddr {
    Multiaddr::empty()
        .with(address.ip().into())
        .with(Protocol::Udp(address.port()))
        .with(Protocol::QuicV1)
}

/// The connections that others have dialled, up to the end of their Hellos. The swarm learns only
/// of those that are admitted, so strangers cost it nothing and fill none of its limits.
struct Reception {
    lobby: Arc<Mutex<Lobby>>,
    guests: JoinSet<Guest>,
    /// Aborts the task of each connection.
    seats: BTreeMap<Seat, AbortHandle>,
    /// Fires at `due`, when the time of the next connection is up.
    timer: Pin<Box<Sleep>>,
    due: Timestamp,
}

/// A connection that another device has dialled, and the result of its Hello.
struct Guest {
    seat: Seat,
    listener: ListenerId,
    local: Multiaddr,
    remote: Multiaddr,
    greeted: Result<(PeerId, Muxer), LinkError>,
}

impl Reception {
    fn new() -> Self {
        Self {
            lobby: Arc::new(Mutex::new(Lobby::new())),
            guests: JoinSet::new(),
            seats: BTreeMap::new(),
            timer: Box::pin(sleep(Duration::ZERO)),
            due: Timestamp::ZERO,
        }
    }

    /// Returns the next connection whose Hello is over, and ends the connections whose time is up.
    fn poll_guest(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Option<Guest> {
        while let Poll::Ready(Some(guest)) = self.guests.poll_join_next(cx) {
            // The task of a connection that was turned out was aborted, and its seat is free
            // already.
            let Ok(guest) = guest else { continue };
            lock(&self.lobby).leave(guest.seat);
            self.seats.remove(&guest.seat);
            return Some(guest);
        }
        loop {
            let late = lock(&self.lobby).poll_late(now);
            let Some(late) = late else { break };
            tracing::debug!("no Hello in time");
            self.turn_out(late);
        }
        let due = lock(&self.lobby).poll_timeout()?;
        if self.due != due {
            self.due = due;
            self.timer.set(sleep(due.saturating_duration_since(now)));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // Time has passed since `now` was read, so the timer must be set again.
            self.due = Timestamp::ZERO;
            cx.waker().wake_by_ref();
        }
        None
    }

    /// Ends the connection that had this seat.
    fn turn_out(&mut self, seat: Seat) {
        if let Some(guest) = self.seats.remove(&seat) {
            guest.abort();
        }
    }
}

fn lock(lobby: &Mutex<Lobby>) -> MutexGuard<'_, Lobby> {
    // The lobby is consistent between any two statements that could panic.
    lobby.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is needed to turn a new connection into a link or a visit.
struct Ends {
    socket: BoundSocket,
    links: Arc<Links>,
    random: Arc<dyn Random>,
}

impl Ends {
    /// Runs [`finish`](Self::finish), through which keys move, and leaves none of them on the
    /// stack.
    fn finish_cleanly(
        self,
        connection: Connection,
        hello: Result<PeerHello, LinkError>,
        dialled: bool,
    ) -> Result<(PeerId, Muxer), LinkError> {
        let finished = self.finish(connection, hello, dialled);
        scrub_stack();
        finished
    }

    #[inline(never)]
    fn finish(
        self,
        connection: Connection,
        hello: Result<PeerHello, LinkError>,
        dialled: bool,
    ) -> Result<(PeerId, Muxer), LinkError> {
        let now = self.links.clock().now();
        let visit = match &hello {
            Err(LinkError::Led { invite }) => Some(Some(*invite)),
            Err(LinkError::Hello(HelloError::Refused(Refusal::Leads))) if dialled => Some(None),
            _ => None,
        };
        let fast = if hello.is_ok() || visit.is_some() {
            let (random, drops) = (self.random, self.links.drops());
            FastPath::new(connection.clone(), dialled, self.socket, random, drops, now).map(Some)
        } else {
            Ok(None)
        };
        let ready = match (hello, fast) {
            (Ok(hello), Ok(Some(fast))) => Ok((hello, fast)),
            // [PROTO-3.10] A visit is not given to the swarm.
            (Err(error), Ok(Some(fast))) => {
                let device = device_of(&connection)?;
                self.links.admit_visit(now, Visit::new(device, connection, fast, visit.flatten()));
                return Err(error);
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(None)) => unreachable!("a link has its fast path"),
        };
        match ready {
            Ok((hello, fast)) => {
                let peer = hello.device.peer_id();
                let path = self.links.path_of(hello.device, &connection);
                let link = Link::new(connection, fast, hello, dialled, path, now);
                Ok((peer, Muxer::new(Arc::new(link), self.links)))
            }
            Err(error) => {
                CloseCode::Refused.close(&connection);
                Err(error)
            }
        }
    }
}

fn accept(endpoint: Endpoint) -> BoxFuture<'static, Option<Incoming>> {
    async move { endpoint.accept().await }.boxed()
}

/// The endpoint of connections whose packets relays pass on.
fn inner_endpoint(key: &Arc<DeviceKey>, random: &Arc<dyn Random>, links: &Arc<Links>) -> Listener {
    let mut config = noise::endpoint_config(key, Arc::clone(random), noise::EndpointKind::Tunnel);
    config.max_udp_payload_size(INNER_MTU).expect("QUIC allows 1,200 bytes");
    let server = server_config(key, random, inner_config());
    let socket = TunnelSocket::new(Arc::clone(links));
    let endpoint = endpoint(config, Some(server), Arc::clone(&socket) as _);
    let endpoint = endpoint.expect("it has an address");
    let accept = accept(endpoint.clone());
    let (bound, port) = (virtual_address(links.me()), Port { endpoint, socket: (socket, None) });
    Listener { id: ListenerId::next(), port, bound, accept }
}

fn endpoint(
    config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
    socket: Arc<dyn AsyncUdpSocket>,
) -> io::Result<Endpoint> {
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

fn server_config(
    key: &DeviceKey,
    random: &Arc<dyn Random>,
    transport: TransportConfig,
) -> quinn::ServerConfig {
    let crypto = noise::server_config(key, Arc::clone(random));
    let mut token_key = [0; 32];
    random.fill(&mut token_key);
    let token_key =
        ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"hark retry").extract(&token_key);
    let mut config = quinn::ServerConfig::new(crypto, Arc::new(token_key));
    config.transport_config(Arc::new(transport));
    config
}

/// The settings of connections that have sockets of their own. A tunnel's packet fits into their
/// packets from the start.
fn outer_config() -> TransportConfig {
    let mut config = transport_config();
    config.initial_mtu(OUTER_MTU).congestion_controller_factory(Arc::new(VoiceFloor::default()));
    config
}

/// The settings of connections through relays. They carry no voice, and leave room for it.
fn inner_config() -> TransportConfig {
    let mut config = transport_config();
    config.initial_mtu(INNER_MTU).mtu_discovery_config(None);
    config
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAM_LIMIT))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(4 * STREAM_WINDOW))
        .send_window(u64::from(4 * STREAM_WINDOW))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("30 s fit a QUIC idle timeout")))
        .initial_rtt(INITIAL_RTT)
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .ack_frequency_config(Some(acknowledgements()));
    config
}

/// The frequency of acknowledgements. Voice needs none, and QUIC's default of one for two packets
/// would cost as much as the voice itself.
fn acknowledgements() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY));
    config
}

/// Number of packets after which the peer acknowledges (draft-ietf-quic-ack-frequency). The peer
/// wakes for the third voice packet anyway, and the talker is still awake from sending it. A
/// greater number would save nothing, since [`ACK_DELAY`] is in truth 25 ms on short paths and
/// needs a wake-up of its own.
const ACK_THRESHOLD: u32 = 2;

/// Longest delay of an acknowledgement, or a round trip if that is shorter; quinn never asks for
/// less than 25 ms. Lost packets of streams are found that much later.
const ACK_DELAY: Duration = Duration::from_millis(250);

/// UDP payload in bytes that a path is assumed to carry until more is measured: what IPv4 leaves of
/// 1,280 bytes. If the path carries less, quinn falls back to 1,200.
const OUTER_MTU: u16 = 1_252;

/// QUIC requires a server name; the Noise handshake does not use it.
const SERVER_NAME: &str = "hark";

/// Handshakes that take long, as with 30 % loss, must not be cut off. [PROTO-2.7]
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The assumed round trip before it is measured. With a higher value, lost handshake packets are
/// repeated late; with a lower one, they are sent twice on long paths.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The same for a punched connection, whose first packets only open our own NAT unless the other
/// side was first. They are repeated after 100, 300 and 700 ms. [PROTO-5.7] [PROTO-5.26]
const PUNCHING_RTT: Duration = Duration::from_millis(33);

/// [PROTO-2.8] Bytes of datagrams that wait for the network: 100 ms of voice. The oldest is dropped
/// first.
const DATAGRAM_SEND_BUFFER: usize = 8 * 1024;

/// Bytes of datagrams that wait for this program: a second of voice. The oldest is dropped first.
const DATAGRAM_RECEIVE_BUFFER: usize = 64 * 1024;

/// Streams that a peer may have open at once. Further ones wait at the peer. quinn keeps a place
/// for each, on every link.
const STREAM_LIMIT: u32 = 24;

/// Bytes that a peer may have under way in one stream. Further ones wait at the peer.
const STREAM_WINDOW: u32 = 256 * 1024;
