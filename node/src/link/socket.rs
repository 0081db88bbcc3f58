//! The seam for sockets: real ones come from the operating system, others from a simulated network.

mod platform;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt};
use if_watch::IfEvent;
use quinn::AsyncUdpSocket;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The addresses of this machine: `true` when one appears, `false` when it disappears.
pub type Interfaces = Pin<Box<dyn Stream<Item = (IpAddr, bool)> + Send>>;

/// The seam between the transport and the network beneath it.
pub trait Binder: Send {
    /// Returns a socket bound to `address`. Port 0 stands for any port.
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Like [`bind`](Self::bind), with a cheaper way to send single packets if the system has one.
    fn bind_plain(&mut self, address: SocketAddr) -> io::Result<BoundSocket> {
        Ok((self.bind(address)?, None))
    }

    /// Reports the machine's addresses, for sockets that are bound to all of them.
    fn interfaces(&mut self) -> io::Result<Interfaces>;
}

/// One binder with several owners.
#[derive(Clone)]
pub struct SharedBinder(Arc<Mutex<Box<dyn Binder>>>);

impl SharedBinder {
    /// Shares `binder`.
    pub fn new(binder: Box<dyn Binder>) -> Self {
        Self(Arc::new(Mutex::new(binder)))
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Binder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Binder for SharedBinder {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.lock().bind(address)
    }

    fn bind_plain(&mut self, address: SocketAddr) -> io::Result<BoundSocket> {
        self.lock().bind_plain(address)
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        self.lock().interfaces()
    }
}

/// A socket in the form that quinn needs, and the same one for single packets.
pub type BoundSocket = (Arc<dyn AsyncUdpSocket>, Option<Arc<dyn PlainSocket>>);

/// A UDP socket that sends one packet with a destination and nothing else: the cheapest call that
/// the system has.
pub trait PlainSocket: Send + Sync + fmt::Debug {
    /// Sends `packet` to `address`. Never waits.
    fn send_to(&self, packet: &[u8], address: &SockAddr) -> io::Result<()>;

    /// The own address from which packets to `address` are sent, if the system chooses it.
    fn source_towards(&self, address: SocketAddr) -> Option<IpAddr>;
}

/// Real UDP sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpBinder;

impl Binder for UdpBinder {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(self.bind_plain(address)?.0)
    }

    fn bind_plain(&mut self, address: SocketAddr) -> io::Result<BoundSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A flood of useless packets must not push voice out of the kernel's queue before we have
        // read it. Systems limit this size; whatever they grant is enough to start with.
        if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "receive buffer stays small");
        }
        socket.bind(&address.into())?;
        platform::wrap(socket.into())
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

/// The own address from which packets to `address` are sent by a socket that is bound to `bound`.
fn source_towards(bound: IpAddr, address: SocketAddr) -> Option<IpAddr> {
    if !bound.is_unspecified() {
        return Some(bound);
    }
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // `connect` sends nothing on a UDP socket; it only asks for the route.
    let asking = UdpSocket::bind((any, 0)).ok()?;
    asking.connect(address).ok()?;
    Some(asking.local_addr().ok()?.ip())
}

impl fmt::Debug for dyn Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binder")
    }
}

/// Size in bytes of the kernel's buffer that we ask for, for datagrams not read yet: 2 s of eight
/// talkers.
pub const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Reports the source address of packets to a neighbour or to ourselves without sending one.
    #[tokio::test]
    async fn the_system_says_which_address_it_would_choose() {
        let loopback = Some(IpAddr::from(Ipv4Addr::LOCALHOST));
        for bound in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
            let (_, plain) = UdpBinder.bind_plain((bound, 0).into()).unwrap();
            let towards = (Ipv4Addr::new(127, 1, 2, 3), 9).into();
            assert_eq!(plain.unwrap().source_towards(towards), loopback);
        }
    }
}
