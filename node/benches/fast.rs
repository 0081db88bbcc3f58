//! The fast path: what a packet costs its sender, compared with a loop that only seals and sends,
//! and with QUIC's datagrams.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::poll_fn;
use hark_charter::CertificateChain;
use hark_keys::{DeviceId, DeviceKey, MemberId, ObjectHash};
use hark_mesh::hello::{HelloError, PeerHello};
use hark_node::{
    clock::Clock,
    link::{
        Admission, DatagramSender, HelloDenial, LinkEvent, LinkTransport, Links, Muxer, UdpBinder,
        address_of, multiaddr_of,
    },
    random::SystemRandom,
};
use libp2p::core::{
    Endpoint as Role,
    muxing::StreamMuxer,
    transport::{DialOpts, ListenerId, PortUse, Transport, TransportEvent},
};
use ring::aead;
use socket2::{SockAddr, SockRef};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc::UnboundedReceiver, oneshot},
};

#[path = "shared/quantile.rs"]
mod quantile;
#[path = "shared/table.rs"]
mod table;

use quantile::median;
use table::Table;

fn main() -> anyhow::Result<()> {
    // Without `--bench`, cargo only checks that the benchmark builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut table = Table::default();
    for receivers in RECEIVERS {
        measure(receivers, &mut table)?;
    }
    table.print("A packet to one of many, on one thread", "beside");
    Ok(())
}

/// Sends to each of `receivers` in turn. Three ways of sending alternate.
fn measure(receivers: u64, table: &mut Table) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut hub = Hub::open(&runtime)?;
    let (stop, stopped) = oneshot::channel();
    let heard = Arc::new(AtomicU64::new(0));
    let (address, counted) = (hub.address, Arc::clone(&heard));
    let guests = thread::spawn(move || listen(receivers, address, &counted, stopped));
    runtime.block_on(hub.fill(receivers))?;
    let outlets: Vec<_> = hub.end.links.devices().into_iter().collect();
    let outlets: Vec<_> =
        outlets.into_iter().filter_map(|device| hub.end.links.outlet(device)).collect();
    let links = hub.end.links.all();
    let mut bare = Bare::new(links.iter().filter_map(|link| link.address()))?;

    let [mut loops, mut fast, mut quic] = [const { Vec::new() }; 3];
    let (mut sent, mut arrived) = (0, 0);
    for round in 0..=ROUNDS {
        let [mut by_loop, mut by_outlet, mut by_quic] = [Duration::ZERO; 3];
        for _ in 0..TURNS {
            by_loop += cpu_of(|| bare.send(PACKETS))?;
            runtime.block_on(settle(receivers));
            let before = heard.load(Ordering::Relaxed);
            by_outlet += cpu_of(|| send(&outlets, PACKETS))?;
            runtime.block_on(settle(receivers));
            arrived += heard.load(Ordering::Relaxed) - before;
            sent += PACKETS * receivers;
        }
        for _ in 0..QUIC_TURNS {
            // quinn sends in tasks of its own, and handles acknowledgements there.
            by_quic += cpu_of(|| runtime.block_on(send_by_quic(&hub.end.links, PACKETS)))?;
        }
        let each = |spent: Duration, turns| {
            spent.as_secs_f64() * 1e6 / (turns * PACKETS * receivers) as f64
        };
        // The first round warms up.
        if round > 0 {
            loops.push(each(by_loop, TURNS));
            fast.push(each(by_outlet, TURNS));
            quic.push(each(by_quic, QUIC_TURNS));
        }
    }
    anyhow::ensure!(outlets.iter().all(|outlet| outlet.is_fast()), "a fast path broke");
    let _ = stop.send(());
    guests.join().map_err(|_| anyhow::anyhow!("the receivers failed"))??;

    let name = |what: &str| format!("{receivers} receivers: {what}");
    let [bare, fast, quic] = [&loops, &fast, &quic].map(|it| median(it));
    table.shown(&name("AES-128-GCM and sendto alone"), bare, "µs of CPU", "the machine's limit");
    table.shown(&name("DatagramSender::send"), fast, "µs of CPU", "");
    table.held(&name("the same, times the limit"), fast / bare, "", 1.1);
    let beside = format!("{:.2} times the limit", quic / bare);
    table.shown(&name("QUIC datagrams, acknowledged"), quic, "µs of CPU", &beside);
    let lost = 100.0 * (1.0 - arrived as f64 / sent as f64);
    table.shown(&name("fast packets not heard yet"), lost, "%", "receivers share one thread");
    Ok(())
}

fn send(outlets: &[Arc<DatagramSender>], packets: u64) {
    for _ in 0..packets {
        for outlet in outlets {
            outlet.send(&PAYLOAD);
        }
    }
}

async fn send_by_quic(links: &Links, packets: u64) {
    let devices = links.devices();
    for _ in 0..packets {
        for device in &devices {
            if let Some(outlet) = links.outlet(*device) {
                outlet.send_by_quic(Bytes::from_static(&PAYLOAD));
            }
        }
        // Each connection's task should send what it has before this one goes on. The runtime
        // returns here after running only some of them, so this task yields several times.
        for _ in 0..2 + devices.len() / 30 {
            tokio::task::yield_now().await;
        }
    }
    settle(devices.len() as u64).await;
}

/// Gives the receivers time to receive what is under way to them.
async fn settle(receivers: u64) {
    let took = Duration::from_micros(8) * u32::try_from(receivers * PACKETS).unwrap_or(u32::MAX);
    tokio::time::sleep(took).await;
}

/// The least work that a sender of sealed packets can do.
struct Bare {
    socket: UdpSocket,
    receivers: Vec<(aead::LessSafeKey, SockAddr)>,
    counter: u64,
}

impl Bare {
    fn new(receivers: impl Iterator<Item = SocketAddr>) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(LOOPBACK)?;
        socket.set_nonblocking(true)?;
        let receivers = receivers.zip(0_u128..).map(|(address, number)| {
            let key = aead::UnboundKey::new(&aead::AES_128_GCM, &number.to_be_bytes());
            let key = key.map_err(|_| anyhow::anyhow!("no key"))?;
            Ok((aead::LessSafeKey::new(key), SockAddr::from(address)))
        });
        Ok(Self { socket, receivers: receivers.collect::<anyhow::Result<_>>()?, counter: 0 })
    }

    fn send(&mut self, packets: u64) {
        let mut buffer = [0; PAYLOAD.len() + 16];
        for _ in 0..packets {
            for (key, address) in &self.receivers {
                self.counter += 1;
                let mut nonce = [0; aead::NONCE_LEN];
                nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
                let nonce = aead::Nonce::assume_unique_for_key(nonce);
                let (payload, rest) = buffer.split_at_mut(PAYLOAD.len());
                payload.copy_from_slice(&PAYLOAD);
                let tag = key
                    .seal_in_place_separate_tag(nonce, aead::Aad::empty(), payload)
                    .expect("it is short");
                rest.copy_from_slice(tag.as_ref());
                // A first byte with which the receivers' sockets take the packet for their own and
                // drop it.
                buffer[0] = 0;
                let _ = SockRef::from(&self.socket).send_to(&buffer, address);
            }
        }
    }
}

/// The node that sends.
struct Hub {
    end: End,
    address: SocketAddr,
    muxers: Vec<Muxer>,
}

impl Hub {
    fn open(runtime: &Runtime) -> anyhow::Result<Self> {
        runtime.block_on(async {
            let mut end = End::new(|| {});
            end.transport.listen_on(ListenerId::next(), multiaddr_of(LOOPBACK))?;
            loop {
                let event = poll_fn(|cx| Pin::new(&mut end.transport).poll(cx)).await;
                if let TransportEvent::NewAddress { listen_addr, .. } = event {
                    let (address, _) = address_of(&listen_addr).context("an address")?;
                    return Ok(Self { end, address, muxers: Vec::new() });
                }
            }
        })
    }

    /// Accepts `count` links, and waits until all of them use the fast path.
    async fn fill(&mut self, count: u64) -> anyhow::Result<()> {
        while (self.muxers.len() as u64) < count {
            let event = poll_fn(|cx| Pin::new(&mut self.end.transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                self.muxers.push(taken(upgrade.await?.1).await);
            }
        }
        let start = Instant::now();
        let links = &self.end.links;
        let fast = |device: DeviceId| links.outlet(device).is_some_and(|outlet| outlet.is_fast());
        while !links.devices().into_iter().all(fast) {
            anyhow::ensure!(start.elapsed() < PATIENCE, "some links have no fast path");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Runs all receivers on this thread, each with a socket of its own.
fn listen(
    count: u64,
    hub: SocketAddr,
    heard: &Arc<AtomicU64>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut guests = Vec::new();
        for _ in 0..count {
            let counted = Arc::clone(heard);
            let mut end = End::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let options = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
            let (_, muxer) = end.transport.dial(multiaddr_of(hub), options)?.await?;
            guests.push((taken(muxer).await, end));
        }
        let _ = stopped.await;
        Ok(())
    })
}

/// One node's transport, without a swarm.
struct End {
    transport: LinkTransport,
    links: Arc<Links>,
    _events: UnboundedReceiver<LinkEvent>,
}

impl End {
    fn new(heard: impl Fn() + Send + Sync + 'static) -> Self {
        let key = DeviceKey::generate(&SystemRandom);
        let (events, kept) = tokio::sync::mpsc::unbounded_channel();
        let handler = Arc::new(move |_, _, _| heard());
        let links = Links::new(key.id(), Clock, events, handler);
        let (binder, admission) = (Box::new(UdpBinder), Arc::new(Everybody));
        let (random, shared) = (Arc::new(SystemRandom), Arc::clone(&links));
        let transport = LinkTransport::new(Arc::new(key), random, binder, admission, shared);
        Self { transport, links, _events: kept }
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

/// Admits everybody: membership is not measured here.
struct Everybody;

impl Admission for Everybody {
    fn greeting(&self, _: DeviceId, _: &[u8; 32]) -> Vec<u8> {
        b"let me in".to_vec()
    }

    fn answer(
        &self,
        peer: DeviceId,
        _: &[u8; 32],
        _: &[u8],
    ) -> (Vec<u8>, Result<PeerHello, HelloDenial>) {
        (b"come in".to_vec(), Ok(hello(peer)))
    }

    fn conclude(&self, peer: DeviceId, _: &[u8; 32], _: &[u8]) -> Result<PeerHello, HelloError> {
        Ok(hello(peer))
    }
}

fn hello(device: DeviceId) -> PeerHello {
    PeerHello {
        device,
        member: Some(MemberId::from_bytes([1; 32])),
        chain: CertificateChain::default(),
        added: Vec::new(),
        name: "Kestrel".to_owned(),
        incarnation: 1,
        addresses: Vec::new(),
        digest: ObjectHash::from_bytes([1; 32]),
        listening: Vec::new(),
    }
}

/// The processor time that this thread spends on `run`.
fn cpu_of(run: impl FnOnce()) -> anyhow::Result<Duration> {
    let before = cpu()?;
    run();
    Ok(cpu()?.saturating_sub(before))
}

#[cfg(unix)]
fn cpu() -> anyhow::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, and the call keeps no pointer to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    anyhow::ensure!(status == 0, "the thread's processor time is not told");
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec)?))
}

#[cfg(not(unix))]
fn cpu() -> anyhow::Result<Duration> {
    anyhow::bail!("the thread's processor time is told on Unix alone")
}

const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The numbers of receivers that are measured.
const RECEIVERS: [u64; 2] = [100, 1_000];

/// A frame of voice with its header and seal: 136 bytes with the link's tag.
const PAYLOAD: [u8; 120] = [5; 120];

/// Packets to each receiver before the receivers get time. With more, their sockets would overflow.
const PACKETS: u64 = 20;

/// How often each way of sending is measured in a round.
const TURNS: u64 = 10;
const QUIC_TURNS: u64 = 2;

/// How many rounds there are. The result is their median.
const ROUNDS: u32 = 5;

const PATIENCE: Duration = Duration::from_secs(30);
