//! What is sent on one link: sealed and handed to the socket at once.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hark_keys::fast::{Kind, OVERHEAD, PACKET_MAX, PAYLOAD_MAX, Sealer, Token};
use quinn::{AsyncUdpSocket, Connection, SendDatagramError, udp::Transmit};
use socket2::SockAddr;

use super::super::socket::PlainSocket;

/// Sends datagrams on one link: by the fast path where it works, and else by QUIC.
///
/// Lives as long as its link does; what is sent after that is dropped and counted. Whoever keeps one
/// asks [`Links::outlet`](crate::link::Links::outlet) for another when the device's link is replaced.
pub struct Outlet {
    connection: Connection,
    socket: Arc<dyn AsyncUdpSocket>,
    plain: Option<Arc<dyn PlainSocket>>,
    way: Mutex<Way>,
    works: AtomicBool,
    ended: AtomicBool,
    /// Longest datagram that the path takes.
    longest: AtomicUsize,
    dropped: Arc<AtomicU64>,
}

/// What each packet needs.
struct Way {
    sealer: Sealer,
    /// How many of the sealed packets were no datagrams.
    others: u64,
    /// Where packets go: an address that QUIC has validated.
    address: SocketAddr,
    /// The same as the system wants it, where no more need be said than that.
    plain: Option<SockAddr>,
    /// From where, where the machine has several addresses.
    source: Option<IpAddr>,
}

impl Outlet {
    pub(super) fn new(
        connection: Connection,
        socket: Arc<dyn AsyncUdpSocket>,
        plain: Option<Arc<dyn PlainSocket>>,
        sealer: Sealer,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let address = connection.remote_address();
        let way = Way { sealer, others: 0, address, plain: None, source: None };
        let outlet = Self {
            connection,
            socket,
            plain,
            way: Mutex::new(way),
            works: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            longest: AtomicUsize::new(PAYLOAD_ALWAYS),
            dropped,
        };
        outlet.turn_to(address);
        outlet
    }

    /// Sends `datagram`, at most [`longest`](Self::longest) bytes. Never waits: where the socket or
    /// QUIC has no room it is dropped and counted.
    #[inline]
    pub fn send(&self, datagram: &[u8]) {
        if !self.send_fast(datagram) {
            self.send_by_quic(Bytes::copy_from_slice(datagram));
        }
    }

    /// Bytes of the longest datagram that is known to get through: 1,240 or more while the fast path
    /// works, and what QUIC takes else.
    pub fn longest(&self) -> usize {
        if self.is_fast() {
            self.longest.load(Ordering::Relaxed)
        } else {
            self.connection.max_datagram_size().unwrap_or(0)
        }
    }

    /// Whether datagrams now go by the fast path.
    pub fn is_fast(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Sends `datagram` where the fast path works and takes it; false where it is left to QUIC.
    #[inline]
    pub(in super::super) fn send_fast(&self, datagram: &[u8]) -> bool {
        let fits = datagram.len() <= self.longest.load(Ordering::Relaxed);
        if !fits || !self.is_fast() {
            return false;
        }
        self.send_packet(Kind::Datagram, datagram);
        true
    }

    /// Sends `datagram` as QUIC's. When its buffer is full the oldest one goes and is counted.
    /// [PROTO-2.8]
    pub(in super::super) fn send_by_quic(&self, datagram: Bytes) {
        if self.connection.datagram_send_buffer_space() < datagram.len() {
            self.count_dropped();
        }
        match self.connection.send_datagram(datagram) {
            Ok(()) => {}
            Err(SendDatagramError::ConnectionLost(_)) => self.count_dropped(),
            Err(error) => {
                self.count_dropped();
                tracing::debug!(%error, "datagram not sent");
            }
        }
    }

    /// Asks the other end.
    pub(super) fn probe(&self, token: Token) {
        self.send_packet(Kind::Probe, &token);
    }

    /// Answers the other end.
    pub(super) fn answer(&self, token: Token) {
        self.send_packet(Kind::Answer, &token);
    }

    /// Nothing more is sent.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.works.store(false, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn set_works(&self, works: bool) {
        self.works.store(works && !self.has_ended(), Ordering::Relaxed);
    }

    /// Takes over what QUIC has found out about the path: a datagram that it would send fits here.
    pub(super) fn set_longest(&self, longest: usize) {
        self.longest.store(longest.clamp(PAYLOAD_ALWAYS, PAYLOAD_MAX), Ordering::Relaxed);
    }

    /// Sends to `address` from now on, which QUIC has validated. [PROTO-8.6]
    pub(super) fn turn_to(&self, address: SocketAddr) {
        let source = self.connection.local_ip();
        let plain = self.plain.as_ref().filter(|plain| {
            // Otherwise the system might choose another of our addresses than the peer knows.
            source.is_none() || plain.source_towards(address) == source
        });
        let plain = plain.map(|_| SockAddr::from(address));
        let mut way = self.way();
        (way.address, way.plain, way.source) = (address, plain, source);
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.way().address
    }

    /// How many datagrams were sent by the fast path.
    pub(super) fn sent(&self) -> u64 {
        let way = self.way();
        way.sealer.sealed() - way.others
    }

    #[inline]
    fn send_packet(&self, kind: Kind, payload: &[u8]) {
        // Most packets are short, and less need be cleared for them.
        if payload.len() <= SHORT - OVERHEAD {
            self.seal_and_send(kind, payload, &mut [0; SHORT]);
        } else {
            self.send_long(kind, payload);
        }
    }

    #[inline(never)]
    fn send_long(&self, kind: Kind, payload: &[u8]) {
        self.seal_and_send(kind, payload, &mut [0; PACKET_MAX]);
    }

    #[inline]
    fn seal_and_send(&self, kind: Kind, payload: &[u8], buffer: &mut [u8]) {
        let mut way = self.way();
        if kind != Kind::Datagram {
            way.others += 1;
        }
        let length = way.sealer.seal(kind, payload, buffer);
        let contents = &buffer[..length];
        let sent = match (&self.plain, &way.plain) {
            (Some(socket), Some(address)) => socket.send_to(contents, address),
            _ => self.socket.try_send(&Transmit {
                destination: way.address,
                ecn: None,
                contents,
                segment_size: None,
                src_ip: way.source,
            }),
        };
        if let Err(error) = sent {
            drop(way);
            self.on_not_sent(&error);
        }
    }

    #[cold]
    fn on_not_sent(&self, error: &io::Error) {
        self.count_dropped();
        tracing::trace!(%error, "fast packet not sent");
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        // What is behind it is whole between any two statements that could panic.
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("address", &self.address())
            .field("is_fast", &self.is_fast())
            .finish_non_exhaustive()
    }
}

/// Bytes of a datagram that is sent whatever QUIC knows of the path: a packet of a link inside
/// another one, with what stands before it. [PROTO-8.1]
const PAYLOAD_ALWAYS: usize = 1_240;

/// Bytes of a packet that counts as short.
const SHORT: usize = 256;
