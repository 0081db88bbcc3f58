//! Whoever opens handshakes and goes on with none.

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
use libp2p::core::transport::{Transport, TransportEvent};
use quinn::{
    AsyncUdpSocket, ClientConfig, Connecting, Endpoint, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::{super::multiaddr_of, PATIENCE, Squad, timeout};
use crate::{
    link::{Binder, UdpBinder},
    random::SystemRandom,
};

/// No address gets more than three bytes for each that came from it before it has shown that it is
/// there, however many handshakes begin there; and members come in meanwhile.
#[tokio::test]
async fn ten_thousand_handshakes_bring_little_back_and_keep_no_member_out() {
    let squad = Squad::found();
    let (mut door, mut member) = (squad.end(), squad.end());
    let address = door.listen().await;
    member.listen().await;
    let (entered, mut links) = tokio::sync::mpsc::unbounded_channel();
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

/// Addresses of strangers, and handshakes from all of them.
const ADDRESSES: usize = 20;
const HANDSHAKES: usize = 10_000;

/// Handshakes of one address that are under way.
const BEGUN_MAX: usize = 32;

/// One address, from which handshakes are begun.
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
        let config = noise::endpoint_config(&key);
        let runtime = Arc::new(TokioRuntime);
        let endpoint =
            Endpoint::new_with_abstract_socket(config, None, Arc::clone(&socket) as _, runtime);
        let mut config =
            ClientConfig::new(noise::client_config(&key, Arc::new(SystemRandom), None));
        config.version(noise::QUIC_VERSION);
        Self { endpoint: endpoint.unwrap(), socket, config, begun: VecDeque::new() }
    }

    /// Sends the first packet of a handshake.
    async fn knock(&mut self, address: SocketAddr) {
        let before = self.socket.sent();
        let connecting = self.endpoint.connect_with(self.config.clone(), address, "hark").unwrap();
        while self.socket.sent() == before {
            tokio::task::yield_now().await;
        }
        // The rest is given up by both sides.
        self.begun.push_back(connecting);
        if self.begun.len() > BEGUN_MAX {
            self.begun.pop_front();
        }
    }
}

/// A socket that counts what comes, and passes on none of it.
#[derive(Debug)]
struct Deaf {
    socket: Arc<dyn AsyncUdpSocket>,
    sent: AtomicUsize,
    received: AtomicUsize,
    /// The most that had come at any time, in thousandths of what was sent up to then.
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
