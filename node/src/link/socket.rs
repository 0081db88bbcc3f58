//! Where sockets come from: the operating system here, a simulated network elsewhere.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt};
use if_watch::IfEvent;
use quinn::AsyncUdpSocket;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The addresses of this machine as they come (true) and go (false).
pub type Interfaces = Pin<Box<dyn Stream<Item = (IpAddr, bool)> + Send>>;

/// The seam between the transport and the network beneath it.
pub trait Binder: Send {
    /// A socket bound to `address`, port 0 being any.
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// The same, and with it a shorter way for single packets, where the system has one.
    fn bind_plain(&mut self, address: SocketAddr) -> io::Result<BoundSocket> {
        Ok((self.bind(address)?, None))
    }

    /// The machine's addresses, for sockets bound to all of them.
    fn interfaces(&mut self) -> io::Result<Interfaces>;
}

/// One binder in several hands.
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

/// A socket as quinn wants it, and the same one for single packets.
pub type BoundSocket = (Arc<dyn AsyncUdpSocket>, Option<Arc<dyn PlainSocket>>);

/// A UDP socket that sends one packet with nothing said of it but where to: the cheapest call that
/// the system has.
pub trait PlainSocket: Send + Sync + fmt::Debug {
    /// Sends `packet` to `address`; never waits.
    fn send_to(&self, packet: &[u8], address: &SockAddr) -> io::Result<()>;

    /// The address of ours that packets to `address` come from, where the system chooses it.
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
        // A flood of rubbish must not push voice out of the kernel's queue before we have looked.
        // Systems cap this; what they grant is enough to start with.
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

impl fmt::Debug for dyn Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binder")
    }
}

/// Bytes asked of the kernel for datagrams that we have not read yet: 2 s of eight talkers.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket on the readiness of epoll or kqueue.
///
/// tokio's own socket also waits for room to send. The kernel then wakes us whenever a packet has
/// left, which for a talker is as often as all that it does. This one only waits for packets; where
/// there is no room to send, which is rare, it looks again after a moment.
#[cfg(unix)]
mod platform {
    use std::{
        future::Future,
        io::{self, ErrorKind, IoSliceMut},
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Poll, ready},
        time::Duration,
    };

    use quinn::{
        AsyncUdpSocket, UdpPoller,
        udp::{RecvMeta, Transmit, UdpSocketState},
    };
    use socket2::{SockAddr, SockRef};
    use tokio::{
        io::{Interest, unix::AsyncFd},
        time::{Instant, Sleep, sleep},
    };

    use super::{BoundSocket, PlainSocket};

    pub(super) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // SAFETY: a std socket owns its descriptor, gives always the same one, and closes it only
        // when the `AsyncFd` that it is moved into is dropped; nothing here takes it out again.
        let io = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        let socket = Arc::new(ReadableSocket { io, state, full: AtomicBool::new(false) });
        Ok((Arc::clone(&socket) as Arc<_>, Some(socket as Arc<_>)))
    }

    #[derive(Debug)]
    struct ReadableSocket {
        io: AsyncFd<UdpSocket>,
        state: UdpSocketState,
        /// Whether the last packet found no room.
        full: AtomicBool,
    }

    impl AsyncUdpSocket for ReadableSocket {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Room { socket: self, pause: Box::pin(sleep(Duration::ZERO)), waits: false })
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let sent = self.state.send(self.io.get_ref().into(), transmit);
            if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                self.full.store(true, Ordering::Relaxed);
            }
            sent
        }

        fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            buffers: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            loop {
                let mut ready = ready!(self.io.poll_read_ready(cx))?;
                let received = ready.try_io(|io| self.state.recv(io.into(), buffers, meta));
                if let Ok(received) = received {
                    // One that comes after this is told anew.
                    if received.as_ref().is_ok_and(|count| *count < buffers.len()) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(received);
                }
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.io.get_ref().local_addr()
        }

        fn may_fragment(&self) -> bool {
            self.state.may_fragment()
        }

        fn max_transmit_segments(&self) -> usize {
            self.state.max_gso_segments()
        }

        fn max_receive_segments(&self) -> usize {
            self.state.gro_segments()
        }
    }

    impl PlainSocket for ReadableSocket {
        fn send_to(&self, packet: &[u8], address: &SockAddr) -> io::Result<()> {
            SockRef::from(self.io.get_ref()).send_to(packet, address).map(|_| ())
        }

        fn source_towards(&self, address: SocketAddr) -> Option<IpAddr> {
            let bound = self.local_addr().ok()?.ip();
            if !bound.is_unspecified() {
                return Some(bound);
            }
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            // Connecting sends nothing; it only asks for the route.
            let asking = UdpSocket::bind((any, 0)).ok()?;
            asking.connect(address).ok()?;
            Some(asking.local_addr().ok()?.ip())
        }
    }

    /// Waits for room to send.
    #[derive(Debug)]
    struct Room {
        socket: Arc<ReadableSocket>,
        pause: Pin<Box<Sleep>>,
        waits: bool,
    }

    impl UdpPoller for Room {
        fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let this = &mut *self;
            if !this.waits && this.socket.full.load(Ordering::Relaxed) {
                this.pause.as_mut().reset(Instant::now() + LOOK_AGAIN);
                this.waits = true;
            }
            if this.waits {
                ready!(this.pause.as_mut().poll(cx));
                this.waits = false;
                this.socket.full.store(false, Ordering::Relaxed);
            }
            Poll::Ready(Ok(()))
        }
    }

    /// How long a full socket is left alone: a network card sends some hundred packets meanwhile.
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
}

/// Elsewhere tokio's own socket is as good as any.
#[cfg(not(unix))]
mod platform {
    use std::{io, net::UdpSocket};

    use quinn::{Runtime, TokioRuntime};

    use super::BoundSocket;

    pub(super) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        Ok((TokioRuntime.wrap_udp_socket(socket)?, None))
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// What a packet to a neighbour or to ourselves comes from, without having been sent.
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
