//! A UDP socket that waits on the readiness that each operating system reports.

/// A socket on the readiness of epoll or kqueue.
///
/// tokio's own socket also waits for room to send. The kernel then wakes us whenever a packet has
/// left, which for a talker doubles the wake-ups. This socket only waits for packets. If there is
/// no room to send, which is rare, it tries again after a moment.
#[cfg(unix)]
mod system {
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

    use super::super::{BoundSocket, PlainSocket};

    pub(crate) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // SAFETY: a std socket owns its descriptor, always returns the same one, and closes it only
        // when the `AsyncFd` that it is moved into is dropped. Nothing here takes it out again.
        let io = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        let socket = Arc::new(ReadableSocket { io, state, full: AtomicBool::new(false) });
        Ok((Arc::clone(&socket) as Arc<_>, Some(socket as Arc<_>)))
    }

    #[derive(Debug)]
    struct ReadableSocket {
        io: AsyncFd<UdpSocket>,
        state: UdpSocketState,
        /// Whether the last packet found no room to leave.
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
                    // The system reports readiness again for a packet that comes after this.
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
            // `connect` sends nothing on a UDP socket; it only asks for the route.
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

    /// How long a full socket is left alone. A network card sends some hundred packets in that
    /// time.
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
}

/// On other systems, tokio's own socket is as good as any.
#[cfg(not(unix))]
mod system {
    use std::{io, net::UdpSocket};

    use quinn::{Runtime, TokioRuntime};

    use super::super::BoundSocket;

    pub(crate) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        Ok((TokioRuntime.wrap_udp_socket(socket)?, None))
    }
}

pub(super) use system::wrap;
