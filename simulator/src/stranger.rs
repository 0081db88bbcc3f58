//! Strangers: they begin handshakes and go on with none.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hark_keys::{DeviceKey, noise};
use hark_node::{link::Binder, random::SystemRandom};
use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use crate::{context, network::SimBinder};

/// Begins a handshake with each of `addresses` every so often, on the machine of this name.
pub(crate) async fn knock(
    name: String,
    mut binder: SimBinder,
    addresses: Vec<SocketAddr>,
    every: Duration,
    lasting: Duration,
) -> io::Result<()> {
    context::enter_host(&name);
    let key = DeviceKey::generate(&SystemRandom);
    let socket = binder.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    let socket = Arc::new(FirstPackets { socket, begun: AtomicUsize::new(0) });
    let config = noise::endpoint_config(&key);
    let (sends, runtime) = (Arc::clone(&socket) as _, Arc::new(TokioRuntime));
    let endpoint = Endpoint::new_with_abstract_socket(config, None, sends, runtime)?;
    let mut config = ClientConfig::new(noise::client_config(&key, Arc::new(SystemRandom), None));
    config.version(noise::QUIC_VERSION);
    let mut begun = VecDeque::new();
    let end = tokio::time::Instant::now() + lasting;
    while tokio::time::Instant::now() < end {
        for address in &addresses {
            socket.begun.fetch_add(1, Ordering::Relaxed);
            begun.extend(endpoint.connect_with(config.clone(), *address, "hark").ok());
        }
        while begun.len() > BEGUN_MAX {
            begun.pop_front();
        }
        tokio::time::sleep(every).await;
    }
    Ok(())
}

/// A socket that lets out the first packet of each handshake, and hears nothing: the other side is not
/// told that a handshake is given up.
#[derive(Debug)]
struct FirstPackets {
    socket: Arc<dyn AsyncUdpSocket>,
    begun: AtomicUsize,
}

impl AsyncUdpSocket for FirstPackets {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let left = self
            .begun
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { self.socket.try_send(transmit) } else { Ok(()) }
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Handshakes whose state is kept; the oldest is forgotten, as nothing more comes of it.
const BEGUN_MAX: usize = 32;
