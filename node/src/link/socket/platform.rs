//! A UDP socket that waits on the readiness that each operating system reports.

#[cfg(any(unix, windows))]
mod room;

/// A socket on the readiness of epoll or kqueue.
///
/// tokio's own socket also waits for room to send. The kernel then wakes us whenever a packet has
/// left, which for a talker doubles the wake-ups. This socket only waits for packets. If there is
/// no room to send, which is rare, it tries again after a moment.
#[cfg(unix)]
mod system {
    use std::{
        io::{self, IoSliceMut},
        net::{IpAddr, SocketAddr, UdpSocket},
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, ready},
    };

    use quinn::{
        AsyncUdpSocket, UdpPoller,
        udp::{RecvMeta, Transmit, UdpSocketState},
    };
    use socket2::{SockAddr, SockRef};
    use tokio::io::{Interest, unix::AsyncFd};

    use super::{
        super::{BoundSocket, PlainSocket, source_towards},
        room::{Full, Room},
    };

    pub(crate) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // SAFETY: a std socket owns its descriptor, always returns the same one, and closes it only
        // when the `AsyncFd` that it is moved into is dropped. Nothing here takes it out again.
        let io = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        let socket = Arc::new(ReadableSocket { io, state, full: Full::default() });
        Ok((Arc::clone(&socket) as Arc<_>, Some(socket as Arc<_>)))
    }

    #[derive(Debug)]
    struct ReadableSocket {
        io: AsyncFd<UdpSocket>,
        state: UdpSocketState,
        /// Whether the last packet found no room to leave.
        full: Full,
    }

    impl AsyncUdpSocket for ReadableSocket {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Room::of(&self.full))
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            self.full.note(self.state.send(self.io.get_ref().into(), transmit))
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
            source_towards(self.local_addr().ok()?.ip(), address)
        }
    }
}

/// A socket that asks the system for as little as it can: one packet a call, no segments, no
/// congestion marks. quinn's own asks for more and fails where that is not there, as on some
/// versions of Windows.
#[cfg(windows)]
mod system {
    use std::{
        io::{self, ErrorKind, IoSliceMut},
        net::{IpAddr, SocketAddr, UdpSocket},
        os::windows::io::AsRawSocket,
        pin::Pin,
        ptr,
        sync::Arc,
        task::{Context, Poll, ready},
    };

    use quinn::{
        AsyncUdpSocket, UdpPoller,
        udp::{RecvMeta, Transmit},
    };
    use socket2::{SockAddr, SockRef};
    use tokio::{io::ReadBuf, net::UdpSocket as TokioSocket};
    use windows_sys::Win32::Networking::WinSock::{
        IP_DONTFRAGMENT, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, SIO_UDP_CONNRESET, SOCKET,
        WSAEMSGSIZE, WSAENETRESET, WSAIoctl, setsockopt,
    };

    use super::{
        super::{BoundSocket, PlainSocket, source_towards},
        room::{Full, Room},
    };

    pub(crate) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        socket.set_nonblocking(true)?;
        ignore_unreachable(&socket);
        let fragments = !forbid_fragments(&socket);
        let io = TokioSocket::from_std(socket)?;
        let socket = Arc::new(SimpleSocket { io, fragments, full: Full::default() });
        Ok((Arc::clone(&socket) as Arc<_>, Some(socket as Arc<_>)))
    }

    /// Has an answer that a port is closed not end the next call for packets, which are mostly from
    /// others. Without effect where the system does not know it: such errors are passed over too.
    fn ignore_unreachable(socket: &UdpSocket) {
        let (off, mut told) = (0_u32, 0_u32);
        // SAFETY: the socket is open, and the four bytes of the input and the place for the count
        // live until the call returns. There is no output and no overlapped operation.
        let outcome = unsafe {
            WSAIoctl(
                raw(socket),
                SIO_UDP_CONNRESET,
                ptr::from_ref(&off).cast(),
                size_of::<u32>() as u32,
                ptr::null_mut(),
                0,
                &raw mut told,
                ptr::null_mut(),
                None,
            )
        };
        if outcome != 0 {
            tracing::debug!("closed ports of others are reported by the socket");
        }
    }

    /// Has no packet taken apart on its way, which the search for the largest packet relies on.
    fn forbid_fragments(socket: &UdpSocket) -> bool {
        let (level, option) = match socket.local_addr() {
            Ok(SocketAddr::V6(_)) => (IPPROTO_IPV6, IPV6_DONTFRAG),
            _ => (IPPROTO_IP, IP_DONTFRAGMENT),
        };
        let on = 1_u32;
        // SAFETY: the socket is open, and the four bytes of the value live until the call returns.
        let outcome = unsafe {
            let value = ptr::from_ref(&on).cast();
            setsockopt(raw(socket), level, option, value, size_of::<u32>() as i32)
        };
        outcome == 0
    }

    fn raw(socket: &UdpSocket) -> SOCKET {
        socket.as_raw_socket() as SOCKET
    }

    #[derive(Debug)]
    struct SimpleSocket {
        io: TokioSocket,
        /// Whether packets may be taken apart on their way.
        fragments: bool,
        full: Full,
    }

    impl AsyncUdpSocket for SimpleSocket {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Room::of(&self.full))
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            let socket = SockRef::from(&self.io);
            let sent = socket.send_to(transmit.contents, &transmit.destination.into());
            self.full.note(sent.map(|_| ()))
        }

        fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            buffers: &mut [IoSliceMut<'_>],
            meta: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let (Some(buffer), Some(first)) = (buffers.first_mut(), meta.first_mut()) else {
                return Poll::Ready(Ok(0));
            };
            loop {
                let mut buffer = ReadBuf::new(buffer);
                match ready!(self.io.poll_recv_from(cx, &mut buffer)) {
                    Ok(source) => {
                        *first = whole(source, buffer.filled().len());
                        break;
                    }
                    Err(error) if is_about_another(&error) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let mut count = 1;
            while count < buffers.len().min(meta.len()) {
                match self.io.try_recv_from(&mut buffers[count]) {
                    Ok((length, source)) => {
                        meta[count] = whole(source, length);
                        count += 1;
                    }
                    Err(error) if is_about_another(&error) => {}
                    // It is empty, or the next call brings the error.
                    Err(_) => break,
                }
            }
            Poll::Ready(Ok(count))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.io.local_addr()
        }

        fn may_fragment(&self) -> bool {
            self.fragments
        }
    }

    impl PlainSocket for SimpleSocket {
        fn send_to(&self, packet: &[u8], address: &SockAddr) -> io::Result<()> {
            SockRef::from(&self.io).send_to(packet, address).map(|_| ())
        }

        fn source_towards(&self, address: SocketAddr) -> Option<IpAddr> {
            source_towards(self.local_addr().ok()?.ip(), address)
        }
    }

    /// One packet that fills no more than its own part of a buffer.
    fn whole(addr: SocketAddr, len: usize) -> RecvMeta {
        RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None }
    }

    /// Whether an error tells of one packet only: a port that is closed, a way that has ended, or a
    /// packet longer than any of ours.
    fn is_about_another(error: &io::Error) -> bool {
        error.kind() == ErrorKind::ConnectionReset
            || matches!(error.raw_os_error(), Some(WSAENETRESET | WSAEMSGSIZE))
    }
}

/// On other systems, tokio's own socket is as good as any.
#[cfg(not(any(unix, windows)))]
mod system {
    use std::{io, net::UdpSocket};

    use quinn::{Runtime, TokioRuntime};

    use super::super::BoundSocket;

    pub(crate) fn wrap(socket: UdpSocket) -> io::Result<BoundSocket> {
        Ok((TokioRuntime.wrap_udp_socket(socket)?, None))
    }
}

pub(super) use system::wrap;
