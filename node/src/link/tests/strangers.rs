//! Tests with strangers that begin handshakes or Hellos and finish none.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::future::poll_fn;
use hark_keys::{DeviceKey, noise};
use libp2p::{
    PeerId,
    core::transport::{Transport, TransportEvent},
};
use quinn::{
    AsyncUdpSocket, ClientConfig, Connecting, Endpoint, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{super::multiaddr_of, End, PATIENCE, Squad, timeout};
use crate::{
    link::{Binder, Muxer, UdpBinder},
    random::SystemRandom,
};

/// No address gets more than three bytes for each byte that came from it before it has shown that
/// it is there, however many handshakes begin there. Members come in at the same time.
#[tokio::test]
async fn ten_thousand_handshakes_bring_little_back_and_keep_no_member_out() {
    let squad = Squad::found();
    let (mut door, mut member) = (squad.end(), squad.end());
    let address = door.listen().await;
    member.listen().await;
    let mut links = entering(door);
    let mut strangers: Vec<_> = (0..ADDRESSES).map(|_| Stranger::new()).collect();
    for round in 0..HANDSHAKES / ADDRESSES {
        for stranger in &mut strangers {
            stranger.knock(address).await;
        }
        if round == HANDSHAKES / ADDRESSES / 2 {
            let dialled = timeout(PATIENCE, member.dial(multiaddr_of(address))).await.unwrap();
            let (peer, _muxer) = timeout(PATIENCE, links.recv()).await.unwrap().unwrap();
            assert_eq!(peer, member.device.peer_id());
            assert_eq!(dialled.unwrap().address(), Some(address));
        }
    }
    for stranger in &strangers {
        let (sent, most) = (stranger.socket.sent(), stranger.socket.most.load(Ordering::Relaxed));
        assert!(sent >= 1_200 * HANDSHAKES / ADDRESSES, "{sent} bytes");
        assert!(most <= 3_000, "{most} thousandths of what was sent have come back");
    }
    let back: usize = strangers.iter().map(|it| it.socket.received.load(Ordering::Relaxed)).sum();
    assert!(back > 0, "somebody is answered");
}

/// Regression: strangers that showed their addresses and ended their handshakes, but sent no Hello,
/// kept everybody out for as long as they liked. [PROTO-2.2]
#[cfg(target_os = "linux")]
#[tokio::test]
async fn strangers_who_stall_at_the_hello_keep_no_member_out() {
    let squad = Squad::found();
    let (mut door, mut member) = (squad.end(), squad.end());
    let address = door.listen().await;
    member.listen().await;
    let mut links = entering(door);
    let mut stalling = Vec::new();
    for (third, last) in (1..=STALLING).flat_map(|third| (1..=200).map(move |it| (third, it))) {
        let key = DeviceKey::generate(&SystemRandom);
        let socket = UdpBinder.bind(([127, 0, third, last], 0).into()).unwrap();
        let (endpoint, config) = client(&key, socket);
        let connecting = endpoint.connect_with(config, address, "hark").unwrap();
        stalling.push((timeout(PATIENCE, connecting).await.unwrap().unwrap(), endpoint));
    }
    let dialled = timeout(PATIENCE, member.dial(multiaddr_of(address))).await.unwrap();
    let (peer, _muxer) = timeout(PATIENCE, links.recv()).await.unwrap().unwrap();
    assert_eq!(peer, member.device.peer_id());
    assert_eq!(dialled.unwrap().address(), Some(address));
    // There are more strangers than places, so the first ones were turned out.
    let turned_out = stalling.iter().filter(|(it, _)| it.close_reason().is_some()).count();
    assert!(turned_out > 0, "of {}", stalling.len());
}

/// Returns the connections that come in at this door.
fn entering(mut door: End) -> UnboundedReceiver<(PeerId, Muxer)> {
    let (entered, links) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut door.transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                let entered = entered.clone();
                tokio::spawn(async move {
                    if let Ok(link) = upgrade.await {
                        let _ = entered.send(link);
                    }
                });
            }
        }
    });
    links
}

/// An endpoint that begins handshakes at `socket`.
fn client(key: &DeviceKey, socket: Arc<dyn AsyncUdpSocket>) -> (Endpoint, ClientConfig) {
    let config = noise::endpoint_config(key, Arc::new(SystemRandom), noise::EndpointKind::Dialler);
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(config, None, socket, runtime).unwrap();
    let mut config = ClientConfig::new(noise::client_config(key, Arc::new(SystemRandom), None));
    config.version(noise::QUIC_VERSION);
    (endpoint, config)
}

/// Networks of 200 addresses each, from which strangers complete handshakes.
#[cfg(target_os = "linux")]
const STALLING: u8 = 3;

/// Addresses of strangers, and the handshakes from all of them together.
const ADDRESSES: usize = 20;
const HANDSHAKES: usize = 10_000;

/// Handshakes of one address that are under way at once.
const BEGUN_MAX: usize = 32;

/// An address from which handshakes are begun.
struct Stranger {
    endpoint: Endpoint,
    socket: Arc<Deaf>,
    config: ClientConfig,
    begun: VecDeque<Connecting>,
}

impl Stranger {
    fn new() -> Self {
        let key = DeviceKey::generate(&SystemRandom);
        let socket = UdpBinder.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let [sent, received, most] = [(); 3].map(|()| AtomicUsize::new(0));
        let socket = Arc::new(Deaf { socket, sent, received, most });
        let (endpoint, config) = client(&key, Arc::clone(&socket) as _);
        Self { endpoint, socket, config, begun: VecDeque::new() }
    }

    /// Sends the first packet of a handshake.
    async fn knock(&mut self, address: SocketAddr) {
        let before = self.socket.sent();
        let connecting = self.endpoint.connect_with(self.config.clone(), address, "hark").unwrap();
        while self.socket.sent() == before {
            tokio::task::yield_now().await;
        }
        // Both sides give up the oldest handshakes.
        self.begun.push_back(connecting);
        if self.begun.len() > BEGUN_MAX {
            self.begun.pop_front();
        }
    }
}

/// A socket that counts what it receives and passes nothing on.
#[derive(Debug)]
struct Deaf {
    socket: Arc<dyn AsyncUdpSocket>,
    sent: AtomicUsize,
    received: AtomicUsize,
    /// The most that had been received at any time, in thousandths of what had been sent up to
    /// then.
    most: AtomicUsize,
}

impl Deaf {
    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)?;
        self.sent.fetch_add(transmit.contents.len(), Ordering::Relaxed);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let count = ready!(self.socket.poll_recv(cx, buffers, meta))?;
            let bytes: usize = meta[..count].iter().map(|meta| meta.len).sum();
            let received = self.received.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.most.fetch_max(received * 1_000 / self.sent().max(1), Ordering::Relaxed);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
