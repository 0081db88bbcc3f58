//! What is sent on one link: sealed and handed to the socket at once.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hark_keys::{
    Timestamp,
    fast::{Kind, OVERHEAD, PACKET_MAX, PAYLOAD_MAX, Sealer, Token},
};
use quinn::{AsyncUdpSocket, Connection, SendDatagramError, udp::Transmit};
use socket2::SockAddr;

use super::super::socket::PlainSocket;

/// Sends datagrams on one link: by the fast path where it works, and else by QUIC.
///
/// Lives as long as its link does; what is sent after that is dropped and counted. Whoever keeps
/// one asks [`Links::outlet`](crate::link::Links::outlet) for another when the device's link is
/// replaced.
pub struct DatagramSender {
    connection: Connection,
    socket: Arc<dyn AsyncUdpSocket>,
    plain: Option<Arc<dyn PlainSocket>>,
    way: Mutex<Way>,
    /// How many of the next datagrams are QUIC's: none, a few, or [`ALL`] while nothing else works.
    by_quic: AtomicU32,
    ended: AtomicBool,
    /// Longest datagram that the path takes.
    longest: AtomicUsize,
    dropped: Arc<AtomicU64>,
}

/// What each packet needs.
struct Way {
    sealer: Sealer,
    /// Where packets go: an address that QUIC has validated.
    address: SocketAddr,
    /// The same as the system wants it, where no more need be said than that.
    plain: Option<SockAddr>,
    /// From where, where the machine has several addresses.
    source: Option<IpAddr>,
    /// Elsewhere, from where an authentic packet has come.
    visit: Option<Visit>,
    /// When the last visit began that QUIC has not validated.
    visited: Option<Timestamp>,
}

/// An address that the peer may have moved to, which QUIC has not validated.
#[derive(Clone, Copy)]
struct Visit {
    address: SocketAddr,
    /// Bytes that may go there now.
    left: usize,
    /// Bytes that packets from there may still add to that.
    room: usize,
}

impl Visit {
    fn earn(&mut self, bytes: usize) {
        let earned = bytes.min(self.room);
        self.left += earned;
        self.room -= earned;
    }
}

impl DatagramSender {
    pub(super) fn new(
        connection: Connection,
        socket: Arc<dyn AsyncUdpSocket>,
        plain: Option<Arc<dyn PlainSocket>>,
        sealer: Sealer,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let address = connection.remote_address();
        let (plain_to, source, visit, visited) = (None, None, None, None);
        let way = Way { sealer, address, plain: plain_to, source, visit, visited };
        let outlet = Self {
            connection,
            socket,
            plain,
            way: Mutex::new(way),
            by_quic: AtomicU32::new(ALL),
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

    /// Bytes of the longest datagram that is known to get through: 1,240 or more while the fast
    /// path works, and what QUIC takes else.
    pub fn longest(&self) -> usize {
        if self.is_fast() {
            self.longest.load(Ordering::Relaxed)
        } else {
            self.connection.max_datagram_size().unwrap_or(0)
        }
    }

    /// Whether datagrams now go by the fast path.
    pub fn is_fast(&self) -> bool {
        self.by_quic.load(Ordering::Relaxed) != ALL
    }

    /// Has the processor fetch what sending needs, for whoever sends to one after the other: of
    /// hundreds of outlets, none is in its nearer caches when its turn comes.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for offset in (0..size_of::<Self>()).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = std::ptr::from_ref(self).cast::<i8>().wrapping_add(offset);
            // SAFETY: a hint, by which nothing is read; the address lies within `self` besides.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
    }

    /// Sends `datagram` where the fast path works and takes it; false where it is left to QUIC.
    #[inline]
    pub(in super::super) fn send_fast(&self, datagram: &[u8]) -> bool {
        if self.by_quic.load(Ordering::Relaxed) != 0 && self.is_follower(datagram) {
            return false;
        }
        if datagram.len() > self.longest.load(Ordering::Relaxed) {
            return false;
        }
        self.send_packet(Kind::Datagram, datagram);
        true
    }

    /// Something was written to a stream: QUIC sees that it is lost when the packets after it
    /// arrive, so the next datagrams are QUIC's. [PROTO-8.10]
    pub(in super::super) fn follow(&self) {
        self.change(|left| (left != ALL).then_some(FOLLOWERS));
    }

    /// Sends `datagram` as QUIC's, whether the fast path works or not. When QUIC's buffer is full
    /// the oldest one goes and is counted. [PROTO-2.8]
    pub fn send_by_quic(&self, datagram: Bytes) {
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

    /// Tells the other end which number is expected of it next, and gives the one after this
    /// packet's own.
    pub(super) fn heartbeat(&self, next: u32) -> u64 {
        self.send_packet(Kind::Heartbeat, &next.to_be_bytes());
        self.way().sealer.sealed()
    }

    /// Tells the other end that it is seen at `address`. Whoever is there can do nothing with it.
    pub(super) fn notice(&self, address: SocketAddr) {
        let mut buffer = [0; OVERHEAD];
        let mut way = self.way();
        let length = way.sealer.seal(Kind::Notice, &[], &mut buffer);
        let sent = self.socket.try_send(&Transmit {
            destination: address,
            ecn: None,
            contents: &buffer[..length],
            segment_size: None,
            src_ip: way.source,
        });
        if let Err(error) = sent {
            tracing::trace!(%error, "notice not sent");
        }
    }

    /// Erases the key that packets were sealed with, and goes on with the next.
    pub(super) fn renew_key(&self) {
        self.way().sealer.renew();
    }

    /// Nothing more is sent.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.by_quic.store(ALL, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn set_works(&self, works: bool) {
        if !works {
            self.by_quic.store(ALL, Ordering::Relaxed);
        } else if !self.has_ended() {
            self.change(|left| (left == ALL).then_some(0));
        }
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
        (way.visit, way.visited) = (None, None);
    }

    /// An authentic packet of `length` bytes has come from `from`; says whether that is elsewhere
    /// than where packets go. Where the peer may have moved there, datagrams go after it, three
    /// bytes for one, as QUIC does, and a few only: who passes on packets faster than the peer's
    /// own come could have all of them else. [PROTO-8.6]
    pub(super) fn handle_source(
        &self,
        now: Timestamp,
        from: SocketAddr,
        length: usize,
        may_move: bool,
    ) -> bool {
        let mut way = self.way();
        let way = &mut *way;
        if from == way.address {
            way.visit = None;
            return false;
        }
        let recent = |at| now.saturating_duration_since(at) < BETWEEN_VISITS;
        if !may_move {
            return true;
        }
        match &mut way.visit {
            Some(visit) if visit.address == from => visit.earn(3 * length),
            _ if way.visited.is_some_and(recent) => {}
            _ => {
                let mut visit = Visit { address: from, left: 0, room: ALLOWANCE_MAX };
                visit.earn(3 * length);
                (way.visit, way.visited) = (Some(visit), Some(now));
            }
        }
        true
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.way().address
    }

    /// Whether `datagram` is to be QUIC's.
    #[cold]
    fn is_follower(&self, datagram: &[u8]) -> bool {
        // Longer ones might not fit.
        let fits = datagram.len() <= FOLLOWER_MAX;
        !self.is_fast() || fits && self.change(|left| (left != ALL).then(|| left.checked_sub(1))?)
    }

    fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> bool {
        self.by_quic.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
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
        let length = way.sealer.seal(kind, payload, buffer);
        let contents = &buffer[..length];
        let visit = way.visit.as_mut().filter(|_| kind == Kind::Datagram);
        let elsewhere = visit.and_then(|visit| {
            visit.left = visit.left.checked_sub(length)?;
            Some(visit.address)
        });
        let sent = match (&self.plain, &way.plain) {
            (Some(socket), Some(address)) if elsewhere.is_none() => {
                socket.send_to(contents, address)
            }
            _ => self.socket.try_send(&Transmit {
                destination: elsewhere.unwrap_or(way.address),
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

impl fmt::Debug for DatagramSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSender")
            .field("address", &self.address())
            .field("is_fast", &self.is_fast())
            .finish_non_exhaustive()
    }
}

/// Bytes of a datagram that is sent whatever QUIC knows of the path: a packet of a link inside
/// another one, with what stands before it. [PROTO-8.1]
const PAYLOAD_ALWAYS: usize = 1_240;

/// Bytes that go to an address at most before QUIC has validated it; further ones go to the old
/// one.
const ALLOWANCE_MAX: usize = 8 * 1024;

/// How long after one address that QUIC has not validated another may be tried, or the same again.
/// Lower lets more packets go astray where somebody passes them on; a peer that moves waits for
/// QUIC.
const BETWEEN_VISITS: Duration = Duration::from_secs(10);

/// What stands for more datagrams than there will be.
const ALL: u32 = u32::MAX;

/// Datagrams by QUIC after something was written to a stream: a lost packet is found when three
/// after it have arrived (RFC 9002 section 6.1.1), and the first of these may share its packet.
const FOLLOWERS: u32 = 4;

/// Bytes of a datagram that fits into a packet of QUIC on any path.
const FOLLOWER_MAX: usize = 1_000;

/// Bytes that the processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Bytes of a packet that counts as short.
const SHORT: usize = 256;
