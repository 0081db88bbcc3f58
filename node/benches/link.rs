//! The link: what a handshake and a datagram cost, compared with the cryptography and the sockets
//! alone.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use hark_charter::{Charter, Piece};
use hark_keys::{DeviceId, DeviceKey, Invite, Random, noise};
use hark_mesh::hello::Presence;
use hark_node::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    link::{Binder, Interfaces, LinkEvent, LinkTransport, Links, Muxer, UdpBinder, multiaddr_of},
    random::SystemRandom,
};
use libp2p::core::{
    Endpoint as Role,
    muxing::StreamMuxer,
    transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent},
};
use quinn::{
    AsyncUdpSocket, Endpoint, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use quinn_proto::{Side, crypto::Session, transport_parameters::TransportParameters};
use ring::{agreement, rand::SystemRandom as RingRandom, signature};
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc::UnboundedReceiver},
};

#[path = "shared/quantile.rs"]
mod quantile;
#[path = "shared/table.rs"]
mod table;

use quantile::{median, quantile};
use table::Table;

fn main() -> anyhow::Result<()> {
    // Without `--bench`, cargo only checks that the benchmark builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    // Everything runs on this thread, so that its processor time is the cost of both ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::default();
    runtime.block_on(async {
        handshakes(&mut table).await?;
        datagrams(&mut table).await?;
        lossy_handshakes(&mut table).await
    })?;
    table.print("The link, both ends on one thread", "beside");
    Ok(())
}

/// Measures the handshake in four forms: its arithmetic, its messages in memory, with QUIC, and
/// with the Hello.
async fn handshakes(table: &mut Table) -> anyhow::Result<()> {
    let signer = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32])
        .map_err(|_| anyhow::anyhow!("no key"))?;
    let alone = timed(HANDSHAKES, || {
        arithmetic(&signer).map_err(|_| anyhow::anyhow!("the arithmetic failed"))
    })?;
    table.shown("handshake: arithmetic alone", alone, "µs of CPU", "the machine's limit, by ring");

    let keys = [0, 1].map(|_| DeviceKey::generate(&SystemRandom));
    let in_memory = timed(HANDSHAKES, || exchange(&keys))?;
    let beside = format!("{:.1} times the limit", in_memory / alone);
    table.shown("handshake: Noise sessions in memory", in_memory, "µs of CPU", &beside);

    let server = endpoint(&keys[0])?;
    let client = endpoint(&keys[1])?;
    let mut latencies = Vec::new();
    let before = cpu();
    for _ in 0..HANDSHAKES {
        let start = Instant::now();
        let accepted = async { anyhow::Ok(server.accept().await.context("closed")?.await?) };
        let (accepted, dialled) = tokio::join!(accepted, connect(&client, &keys[1], &server));
        latencies.push(start.elapsed().as_secs_f64() * 1_000.0);
        accepted?.close(0_u32.into(), b"");
        dialled?.close(0_u32.into(), b"");
    }
    let quic = micros_each(before, HANDSHAKES);
    let beside = format!("{:.1} times the limit", quic / alone);
    table.shown("handshake: with QUIC over loopback", quic, "µs of CPU", &beside);
    table.shown("the same, a second of CPU", 1e6 / quic, "handshakes", "");
    table.shown("the same, latency, median", median(&latencies), "ms", "");

    let squad = Squad::found()?;
    let mut door = squad.end(UdpBinder)?;
    let address = door.listen().await?;
    let mut guests = Vec::new();
    for _ in 0..LINKS {
        guests.push(squad.end(UdpBinder)?);
    }
    let mut latencies = Vec::new();
    let before = cpu();
    for guest in &mut guests {
        let start = Instant::now();
        let (accepted, dialled) = tokio::join!(door.accept(), guest.dial(address));
        latencies.push(start.elapsed().as_secs_f64() * 1_000.0);
        drop((accepted?, dialled?));
    }
    let link = micros_each(before, LINKS);
    let beside = format!("{:.1} times the limit", link / alone);
    table.shown("link: socket, handshake and Hello", link, "µs of CPU", &beside);
    table.shown("the same, latency, median", median(&latencies), "ms", "");
    Ok(())
}

/// Sends datagrams as long as voice through a link, and through two bare sockets.
async fn datagrams(table: &mut Table) -> anyhow::Result<()> {
    let squad = Squad::found()?;
    let (mut door, mut guest) = (squad.end(UdpBinder)?, squad.end(UdpBinder)?);
    let address = door.listen().await?;
    let (accepted, dialled) = tokio::join!(door.accept(), guest.dial(address));
    let _muxers = (accepted?, dialled?);
    let outlet = guest.links.outlet(door.device).context("no link")?;
    let datagram = Bytes::from_static(&[1; DATAGRAM_BYTES]);

    let mut delays = Vec::new();
    let before = cpu();
    for number in 1..=SINGLES {
        let sent = Clock.now();
        outlet.send_by_quic(datagram.clone());
        door.received.reach(number).await?;
        let arrived = Duration::from_micros(door.received.last_us.load(Ordering::Relaxed));
        delays.push(arrived.saturating_sub(sent.as_duration()).as_secs_f64() * 1e6);
    }
    let alone = micros_each(before, SINGLES);
    let (start, before) = (Instant::now(), cpu());
    for batch in 1..=BATCHES {
        for _ in 0..BATCH {
            outlet.send_by_quic(datagram.clone());
        }
        door.received.reach(SINGLES + batch * BATCH).await?;
    }
    let link_rate = (BATCHES * BATCH) as f64 / start.elapsed().as_secs_f64();
    let link = micros_each(before, BATCHES * BATCH);

    let [one, other] = [UdpSocket::bind(LOOPBACK).await?, UdpSocket::bind(LOOPBACK).await?];
    one.connect(other.local_addr()?).await?;
    let mut buffer = [0; 2_048];
    let mut bare_delays = Vec::new();
    let before = cpu();
    for _ in 0..SINGLES {
        let sent = Instant::now();
        one.send(&datagram).await?;
        other.recv(&mut buffer).await?;
        bare_delays.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    let bare_alone = micros_each(before, SINGLES);
    let (start, before) = (Instant::now(), cpu());
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            one.send(&datagram).await?;
        }
        for _ in 0..BATCH {
            other.recv(&mut buffer).await?;
        }
    }
    let bare_rate = (BATCHES * BATCH) as f64 / start.elapsed().as_secs_f64();
    let bare = micros_each(before, BATCHES * BATCH);

    let beside = |bare: f64, unit: &str| format!("bare UDP sockets: {bare:.1} {unit}");
    let limit = beside(bare_alone, "µs");
    table.shown("QUIC datagram alone, sent and received", alone, "µs of CPU", &limit);
    let limit = beside(median(&bare_delays), "µs");
    table.shown("the same, until it is there, median", median(&delays), "µs", &limit);
    let limit = beside(bare, "µs");
    table.shown("QUIC datagrams in turns of 16, each", link, "µs of CPU", &limit);
    table.shown("the same, rate", link_rate, "a second", &beside(bare_rate, "a second"));
    Ok(())
}

/// Measures handshake and Hello when three of ten packets are lost in each direction.
async fn lossy_handshakes(table: &mut Table) -> anyhow::Result<()> {
    let squad = Squad::found()?;
    let mut pairs = Vec::new();
    for number in 0..LOSSY_PAIRS {
        let mut door = squad.end(LossyBinder(2 * number))?;
        let address = door.listen().await?;
        pairs.push((door, squad.end(LossyBinder(2 * number + 1))?, address));
    }
    let meetings = pairs.iter_mut().map(|(door, guest, address)| async {
        let start = Instant::now();
        // If only one side completes, the other one gives up after its own timeout.
        let both = async { tokio::join!(door.accept(), guest.dial(*address)) };
        let outcome = tokio::time::timeout(LOSSY_PATIENCE, both).await;
        let complete = matches!(outcome, Ok((Ok(_), Ok(_))));
        complete.then(|| start.elapsed().as_secs_f64())
    });
    let took: Vec<f64> = join_all(meetings).await.into_iter().flatten().collect();
    let failed = LOSSY_PAIRS as f64 - took.len() as f64;
    table.held("30 % lost each way: links of 100 that failed", failed, "", 0.0);
    table.held("30 % lost each way: slowest", quantile(&took, 1.0), "s", 30.0);
    table.shown("30 % lost each way: median", median(&took), "s", "");
    Ok(())
}

/// What both sides of the handshake compute, with the fastest code available: key pairs, shared
/// secrets and signatures.
fn arithmetic(signer: &signature::Ed25519KeyPair) -> Result<(), ring::error::Unspecified> {
    let random = RingRandom::new();
    let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, BASE_POINT);
    for number in 0..AGREEMENTS {
        let private = agreement::EphemeralPrivateKey::generate(&agreement::X25519, &random)?;
        if number < KEY_PAIRS {
            std::hint::black_box(private.compute_public_key()?);
        }
        agreement::agree_ephemeral(private, &peer, |shared| {
            std::hint::black_box(shared);
        })?;
    }
    let public = signature::KeyPair::public_key(signer);
    let public = signature::UnparsedPublicKey::new(&signature::ED25519, public);
    for _ in 0..SIGNATURES {
        public.verify(b"who I am", signer.sign(b"who I am").as_ref())?;
    }
    Ok(())
}

/// The Noise exchange between two sessions, without packets.
fn exchange(keys: &[DeviceKey; 2]) -> anyhow::Result<()> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let parameters = TransportParameters::read(Side::Client, &mut &[4, 2, 0x44, 0][..])?;
    let version = noise::QUIC_VERSION;
    let mut client = noise::client_config(&keys[1], Arc::clone(&random), Some(keys[0].id()))
        .start_session(version, "hark", &parameters)?;
    let mut server = noise::server_config(&keys[0], random).start_session(version, &parameters);
    // Piece by piece, as quinn does it: new keys are installed between the pieces.
    for _ in 0..PIECES_MAX {
        deliver(&mut *client, &mut *server)?;
        deliver(&mut *server, &mut *client)?;
    }
    anyhow::ensure!(!client.is_handshaking() && !server.is_handshaking(), "not done");
    Ok(())
}

fn deliver(from: &mut dyn Session, to: &mut dyn Session) -> anyhow::Result<()> {
    let mut piece = Vec::new();
    std::hint::black_box(from.write_handshake(&mut piece));
    if !piece.is_empty() {
        to.read_handshake(&piece)?;
    }
    Ok(())
}

fn endpoint(key: &DeviceKey) -> anyhow::Result<Endpoint> {
    let crypto = noise::server_config(key, Arc::new(SystemRandom));
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"salt").extract(&[7; 32]);
    let server = quinn::ServerConfig::new(crypto, Arc::new(token_key));
    let socket = UdpBinder.bind(LOOPBACK)?;
    let config = noise::endpoint_config(key, Arc::new(SystemRandom), noise::EndpointKind::Dialler);
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?)
}

async fn connect(
    client: &Endpoint,
    key: &DeviceKey,
    server: &Endpoint,
) -> anyhow::Result<quinn::Connection> {
    let crypto = noise::client_config(key, Arc::new(SystemRandom), None);
    let mut config = quinn::ClientConfig::new(crypto);
    config.version(noise::QUIC_VERSION);
    Ok(client.connect_with(config, server.local_addr()?, "hark")?.await?)
}

/// An organisation to which any number of members can be added.
struct Squad {
    founder: DeviceKey,
    charter: Charter,
}

impl Squad {
    fn found() -> anyhow::Result<Self> {
        let founder = DeviceKey::generate(&SystemRandom);
        let charter = Charter::found("Aerie", "Main", &founder, None, &SystemRandom);
        Ok(Self { founder, charter })
    }

    /// The end of a new member.
    fn end(&self, binder: impl Binder + 'static) -> anyhow::Result<End> {
        let key = DeviceKey::generate(&SystemRandom);
        let mut charter = self.charter.clone();
        let founder = charter.member_of(self.founder.id());
        let certificate = charter.issue(&self.founder, founder, key.id(), None)?;
        charter.take(Piece::Certificate(certificate))?;
        let presence = Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: Vec::new(),
            listening: Vec::new(),
        };
        let device = key.id();
        let shared = DeviceKey::from_secret(&key.secret());
        let (member, charter) = (charter.member_of(device), Arc::new(charter));
        let door = Doorkeeper::member(key, charter, member, presence, Clock, Box::new(NoTickets));
        let (events, kept) = tokio::sync::mpsc::unbounded_channel();
        let received = Arc::new(Received::default());
        let counted = Arc::clone(&received);
        let links = Links::new(
            device,
            Clock,
            events,
            Arc::new(move |arrived, _, _| {
                let at = u64::try_from(arrived.as_duration().as_micros()).unwrap_or(u64::MAX);
                counted.last_us.store(at, Ordering::Relaxed);
                counted.count.fetch_add(1, Ordering::Relaxed);
                counted.news.notify_one();
            }),
        );
        let transport = LinkTransport::new(
            Arc::new(shared),
            Arc::new(SystemRandom),
            Box::new(binder),
            Arc::new(door),
            Arc::clone(&links),
        );
        Ok(End { device, transport, links, received, _events: kept })
    }
}

/// One node's transport, without a swarm.
struct End {
    device: DeviceId,
    transport: LinkTransport,
    links: Arc<Links>,
    received: Arc<Received>,
    _events: UnboundedReceiver<LinkEvent>,
}

impl End {
    async fn listen(&mut self) -> anyhow::Result<SocketAddr> {
        self.transport.listen_on(ListenerId::next(), multiaddr_of(LOOPBACK))?;
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::NewAddress { listen_addr, .. } = event {
                let (address, _) =
                    hark_node::link::address_of(&listen_addr).context("an address")?;
                return Ok(address);
            }
        }
    }

    /// Accepts the next link that is dialled to this end. Fails if its handshake fails.
    async fn accept(&mut self) -> anyhow::Result<Muxer> {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                let (_, muxer) = upgrade.await?;
                return Ok(taken(muxer).await);
            }
        }
    }

    async fn dial(&mut self, address: SocketAddr) -> anyhow::Result<Muxer> {
        let options = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
        let (_, muxer) = self.transport.dial(multiaddr_of(address), options)?.await?;
        Ok(taken(muxer).await)
    }
}

/// Polls `muxer` once, as a swarm does when it takes a connection.
async fn taken(mut muxer: Muxer) -> Muxer {
    poll_fn(|cx| {
        let _ = Pin::new(&mut muxer).poll(cx);
        Poll::Ready(())
    })
    .await;
    muxer
}

/// Counts the datagrams that have arrived.
#[derive(Default)]
struct Received {
    count: AtomicU64,
    last_us: AtomicU64,
    news: Notify,
}

impl Received {
    async fn reach(&self, count: u64) -> anyhow::Result<()> {
        let waiting = async {
            while self.count.load(Ordering::Relaxed) < count {
                self.news.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), waiting).await.context("datagrams got lost")
    }
}

struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> io::Result<bool> {
        Ok(false)
    }
}

/// Sockets that lose three of ten packets. The number is the seed of the loss.
struct LossyBinder(u64);

impl Binder for LossyBinder {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = UdpBinder.bind(address)?;
        Ok(Arc::new(LossySocket { socket, dice: Mutex::new(self.0) }))
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        UdpBinder.interfaces()
    }
}

#[derive(Debug)]
struct LossySocket {
    socket: Arc<dyn AsyncUdpSocket>,
    dice: Mutex<u64>,
}

impl AsyncUdpSocket for LossySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        *dice =
            dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (*dice >> 33) % 10 < 3 { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Processor time in microseconds of one of `count` runs.
fn timed(count: u64, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let before = cpu();
    for _ in 0..count {
        run()?;
    }
    Ok(micros_each(before, count))
}

/// Processor time of this thread, or `None` on systems other than Linux.
fn cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn micros_each(before: Option<Duration>, count: u64) -> f64 {
    let spent = cpu().zip(before).map(|(now, before)| now.saturating_sub(before));
    spent.map_or(f64::NAN, |spent| spent.as_secs_f64() * 1e6 / count as f64)
}

const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// How many handshakes of each kind are made, and how many links.
const HANDSHAKES: u64 = 500;
const LINKS: u64 = 200;

/// The work of both sides of Noise XX: each computes three shared secrets and two key pairs.
const AGREEMENTS: usize = 6;
const KEY_PAIRS: usize = 4;

/// Each side signs once and verifies once.
const SIGNATURES: usize = 2;

/// After this many rounds a handshake in memory is complete.
const PIECES_MAX: usize = 6;

/// Any public key of a peer would do. This one is always valid.
const BASE_POINT: [u8; 32] = {
    let mut point = [0; 32];
    point[0] = 9;
    point
};

/// A frame of voice with its seal.
const DATAGRAM_BYTES: usize = 100;

/// How many datagrams are sent one by one, and how many batches of `BATCH` datagrams.
const SINGLES: u64 = 2_000;
const BATCHES: u64 = 5_000;
const BATCH: u64 = 16;

/// How many links are made at the same time under loss, and how long each may take.
const LOSSY_PAIRS: u64 = 100;
const LOSSY_PATIENCE: Duration = Duration::from_secs(60);
