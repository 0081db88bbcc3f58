//! Sends the datagrams of one link: each is sealed and handed to the socket at once.

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

/// Sends datagrams on one link: by the fast path if it works, otherwise by QUIC.
///
/// It lives as long as its link does; a datagram that is sent after that is dropped and counted.
/// When the device's link is replaced, a caller that keeps one asks
/// [`Links::outlet`](crate::link::Links::outlet) for another.
pub struct DatagramSender {
    connection: Connection,
    socket: Arc<dyn AsyncUdpSocket>,
    plain: Option<Arc<dyn PlainSocket>>,
    way: Mutex<Way>,
    /// How many of the next datagrams are sent by QUIC: none, a few, or [`ALL`] while the fast path
    /// does not work.
    by_quic: AtomicU32,
    ended: AtomicBool,
    /// Longest datagram in bytes that the fast path takes.
    longest: AtomicUsize,
    dropped: Arc<AtomicU64>,
}

/// What is needed to send a packet.
struct Way {
    sealer: Sealer,
    /// Where packets go: an address that QUIC has validated.
    address: SocketAddr,
    /// The same address in the system's form, if it is enough to tell the system the destination.
    plain: Option<SockAddr>,
    /// The source address, if the machine has several.
    source: Option<IpAddr>,
    /// An address other than `address` from which an authentic packet has come.
    visit: Option<Visit>,
    /// When the last visit to an address began that QUIC has not validated.
    visited: Option<Timestamp>,
}

/// An address that the peer may have moved to, which QUIC has not validated.
#[derive(Clone, Copy)]
struct Visit {
    address: SocketAddr,
    /// Bytes that may be sent there now.
    left: usize,
    /// Bytes by which packets from there may still increase `left`.
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

    /// Sends `datagram`, of at most [`longest`](Self::longest) bytes. Never waits: if the socket or
    /// QUIC has no room, the datagram is dropped and counted.
    #[inline]
    pub fn send(&self, datagram: &[u8]) {
        if !self.send_fast(datagram) {
            self.send_by_quic(Bytes::copy_from_slice(datagram));
        }
    }

    /// Length in bytes of the longest datagram that is known to get through: 1,240 or more while
    /// the fast path works, otherwise what QUIC takes.
    pub fn longest(&self) -> usize {
        if self.is_fast() {
            self.longest.load(Ordering::Relaxed)
        } else {
            self.connection.max_datagram_size().unwrap_or(0)
        }
    }

    /// Whether datagrams are now sent by the fast path.
    pub fn is_fast(&self) -> bool {
        self.by_quic.load(Ordering::Relaxed) != ALL
    }

    /// Has the processor fetch what sending needs. For a caller that sends on many links in turn:
    /// if there are hundreds, none is in the nearer caches when its turn comes.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for offset in (0..size_of::<Self>()).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = std::ptr::from_ref(self).cast::<i8>().wrapping_add(offset);
            // SAFETY: a prefetch is a hint and reads nothing; besides, the address lies within
            // `self`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
    }

    /// Sends `datagram` by the fast path if that works and takes it. Returns `false` if it is left
    /// to QUIC.
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

    /// Something was written to a stream. QUIC notices the loss of a stream's packet when later
    /// packets arrive, so the next datagrams are sent by QUIC. [PROTO-8.10]
    pub(in super::super) fn follow(&self) {
        self.change(|left| (left != ALL).then_some(FOLLOWERS));
    }

    /// Sends `datagram` by QUIC, whether the fast path works or not. If QUIC's buffer is full, the
    /// oldest datagram in it is dropped and counted. [PROTO-2.8]
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

    /// Sends a probe with `token` to the other end.
    pub(super) fn probe(&self, token: Token) {
        self.send_packet(Kind::Probe, &token);
    }

    /// Answers the other end's probe by repeating its `token`.
    pub(super) fn answer(&self, token: Token) {
        self.send_packet(Kind::Answer, &token);
    }

    /// Sends a heartbeat, which informs the other end of the number `next` that this end expects
    /// next. Returns the number after that of the packet sent.
    pub(super) fn heartbeat(&self, next: u32) -> u64 {
        self.send_packet(Kind::Heartbeat, &next.to_be_bytes());
        self.way().sealer.sealed()
    }

    /// Notifies the other end that its packets come from `address`. The notice is sealed, so
    /// anybody else at that address can do nothing with it.
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

    /// Erases the key with which packets were sealed and continues with the next key.
    pub(super) fn renew_key(&self) {
        self.way().sealer.renew();
    }

    /// Ends the sender: nothing more is sent.
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

    /// Takes over QUIC's result about the path: a datagram that QUIC would send fits here too.
    pub(super) fn set_longest(&self, longest: usize) {
        self.longest.store(longest.clamp(PAYLOAD_ALWAYS, PAYLOAD_MAX), Ordering::Relaxed);
    }

    /// Sends to `address` from now on. QUIC has validated it. [PROTO-8.6]
    pub(super) fn turn_to(&self, address: SocketAddr) {
        let source = self.connection.local_ip();
        let plain = self.plain.as_ref().filter(|plain| {
            // Otherwise the system might choose another source address than the one that the peer
            // knows.
            source.is_none() || plain.source_towards(address) == source
        });
        let plain = plain.map(|_| SockAddr::from(address));
        let mut way = self.way();
        (way.address, way.plain, way.source) = (address, plain, source);
        (way.visit, way.visited) = (None, None);
    }

    /// An authentic packet of `length` bytes has come from `from`. Returns whether that is another
    /// address than the one that packets are sent to. If the peer may have moved there, datagrams
    /// follow it: three bytes for each byte received, as in QUIC, and only a few in all. Otherwise
    /// an attacker that passes on packets faster than the peer's own arrive could get all
    /// datagrams. [PROTO-8.6]
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

    /// Whether `datagram` is to be sent by QUIC.
    #[cold]
    fn is_follower(&self, datagram: &[u8]) -> bool {
        // Longer datagrams might not fit into QUIC's packets.
        let fits = datagram.len() <= FOLLOWER_MAX;
        !self.is_fast() || fits && self.change(|left| (left != ALL).then(|| left.checked_sub(1))?)
    }

    fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> bool {
        self.by_quic.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }

    #[inline]
    fn send_packet(&self, kind: Kind, payload: &[u8]) {
        // Most packets are short, so that only a small buffer is cleared for them.
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
        // The data behind this lock is consistent between any two statements that could panic.
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

/// Length in bytes up to which a datagram is sent by the fast path whatever QUIC knows about the
/// path: a packet of an inner link with its header. [PROTO-8.1]
const PAYLOAD_ALWAYS: usize = 1_240;

/// Most bytes that are sent to an address before QUIC has validated it. Further packets are sent to
/// the old address.
const ALLOWANCE_MAX: usize = 8 * 1024;

/// How long after one unvalidated address another may be tried, or the same again. With a lower
/// value, more packets go astray if an attacker passes them on. A peer that moves again within this
/// time waits for QUIC.
const BETWEEN_VISITS: Duration = Duration::from_secs(10);

/// Stands for more datagrams than there will ever be.
const ALL: u32 = u32::MAX;

/// Datagrams sent by QUIC after something was written to a stream. A lost packet is noticed when
/// three after it have arrived (RFC 9002 section 6.1.1), and the first of these four may share its
/// packet.
const FOLLOWERS: u32 = 4;

/// Length in bytes of a datagram that fits into one of QUIC's packets on any path.
const FOLLOWER_MAX: usize = 1_000;

/// Bytes that the processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Longest packet in bytes that counts as short.
const SHORT: usize = 256;
