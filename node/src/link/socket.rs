//! Where sockets come from: the operating system here, a simulated network elsewhere.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, StreamExt};
use if_watch::IfEvent;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

/// The addresses of this machine as they come (true) and go (false).
pub type Interfaces = Pin<Box<dyn Stream<Item = (IpAddr, bool)> + Send>>;

/// The seam between the transport and the network beneath it.
pub trait Binder: Send {
    /// A socket bound to `address`, port 0 being any.
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// The machine's addresses, for sockets bound to all of them.
    fn interfaces(&mut self) -> io::Result<Interfaces>;
}

/// Real UDP sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpBinder;

impl Binder for UdpBinder {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A flood of rubbish must not push voice out of the kernel's queue before we have looked.
        // Systems cap this; what they grant is enough to start with.
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "receive buffer stays small");
        }
        socket.bind(&address.into())?;
        TokioRuntime.wrap_udp_socket(socket.into())
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        let watcher = if_watch::tokio::IfWatcher::new()?;
        Ok(Box::pin(watcher.filter_map(|event| async move {
            match event {
                Ok(IfEvent::Up(net)) => Some((net.addr(), true)),
                Ok(IfEvent::Down(net)) => Some((net.addr(), false)),
                Err(error) => {
                    tracing::warn!(%error, "cannot watch network interfaces");
                    None
                }
            }
        })))
    }
}

impl fmt::Debug for dyn Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binder")
    }
}

/// Bytes asked of the kernel for datagrams that we have not read yet: 2 s of eight talkers.
pub const RECEIVE_BUFFER: usize = 4 << 20;
