//! Strangers, who begin handshakes and complete none of them.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use hark_keys::{DeviceKey, noise};
use hark_node::{link::Binder, random::SystemRandom};
use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use crate::{context, network::SimBinder};

/// Begins a handshake with each of `addresses` every so often, on the machine of this name. If it
/// `answers`, it proves that it is at its address when it is asked to.
pub(crate) async fn knock(
    name: String,
    mut binder: SimBinder,
    addresses: Vec<SocketAddr>,
    (every, lasting): (Duration, Duration),
    answers: bool,
) -> io::Result<()> {
    context::enter_host(&name);
    let key = DeviceKey::generate(&SystemRandom);
    let socket = binder.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let socket = Arc::new(FirstPackets { socket, answers, sent: Mutex::default() });
    let config = noise::endpoint_config(&key, Arc::new(SystemRandom), noise::EndpointKind::Dialler);
    let (sends, runtime) = (Arc::clone(&socket) as _, Arc::new(TokioRuntime));
    let endpoint = Endpoint::new_with_abstract_socket(config, None, sends, runtime)?;
    let mut config = ClientConfig::new(noise::client_config(&key, Arc::new(SystemRandom), None));
    config.version(noise::QUIC_VERSION);
    let mut begun = VecDeque::new();
    let end = tokio::time::Instant::now() + lasting;
    while tokio::time::Instant::now() < end {
        for address in &addresses {
            begun.extend(endpoint.connect_with(config.clone(), *address, "hark").ok());
        }
        while begun.len() > BEGUN_MAX {
            begun.pop_front();
        }
        tokio::time::sleep(every).await;
    }
    Ok(())
}

/// A socket that sends only the first packet to each connection id, so that the other side is not
/// informed when a handshake is abandoned. It receives nothing, except Retry packets if it answers
/// them.
#[derive(Debug)]
struct FirstPackets {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Whether it receives Retry packets, which bring another connection id (RFC 9000, 17.2.5).
    answers: bool,
    /// The connection ids to which a packet was sent.
    sent: Mutex<BTreeSet<Vec<u8>>>,
}

impl FirstPackets {
    fn is_first(&self, packet: &[u8]) -> bool {
        // RFC 9000, 17.2: one byte, the version, then the id with its length.
        let id = packet.get(5).and_then(|length| packet.get(6..6 + usize::from(*length)));
        let Some(id) = id.filter(|_| packet[0] & LONG_HEADER != 0) else { return false };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= SENT_MAX {
            sent.clear();
        }
        sent.insert(id.to_vec())
    }
}

impl AsyncUdpSocket for FirstPackets {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_first(transmit.contents) { self.socket.try_send(transmit) } else { Ok(()) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if !self.answers {
            return Poll::Pending;
        }
        loop {
            let count = ready!(self.socket.poll_recv(cx, &mut buffers[..1], &mut meta[..1]))?;
            if count > 0 && buffers[0][0] & (LONG_HEADER | TYPE) == LONG_HEADER | TYPE {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// The largest number of handshakes whose state is kept. The oldest is dropped, since nothing more
/// comes of it.
const BEGUN_MAX: usize = 1_024;

/// The largest number of connection ids that are remembered. Then all are forgotten, and packets to
/// them may be sent again.
const SENT_MAX: usize = 65_536;

/// The bit that marks a packet with a long header, and the bits of its type. A Retry packet has all
/// of these set (RFC 9000, 17.2).
const LONG_HEADER: u8 = 0x80;
const TYPE: u8 = 0x30;
