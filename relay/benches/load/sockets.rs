//! The sockets of all members, read by one thread.
//!
//! A thousand sockets that each wake a reader would cost the relay most of what is measured, since
//! on loopback the sender wakes the receiver. So no thread waits on them. One thread reads all of
//! them every two milliseconds, counts what the relay has forwarded, by its length, and passes the
//! rest on to the links. The kernel says when each packet arrived.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hark_mesh::datagram::FromRelay;
use hark_node::link::{Binder, Interfaces};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use crate::clock::{age_of, stamp};

/// Counts of what a member's socket has received.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The frames that a relay has forwarded, and the packets in which they arrived.
    pub(crate) frames: AtomicU64,
    pub(crate) packets: AtomicU64,
    /// The packets of the bare loop.
    pub(crate) bare: AtomicU64,
}

impl Tally {
    /// Counts a datagram that has arrived on a link.
    pub(crate) fn count(&self, datagram: &[u8]) {
        let frames = match FromRelay::parse(datagram) {
            Ok(FromRelay::Forwarded(_)) => 1,
            Ok(FromRelay::Bundle(bundle)) => bundle.iter().count() as u64,
            _ => return,
        };
        self.add(frames);
    }

    fn add(&self, frames: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.packets.fetch_add(1, Ordering::Relaxed);
    }
}

/// One member's socket.
#[derive(Debug)]
pub(crate) struct MemberSocket {
    socket: UdpSocket,
    /// Whether the member's link receives what was forwarded, rather than only the count of it.
    sampled: bool,
    pub(crate) tally: Tally,
    inbox: Mutex<Inbox>,
    /// The time at which the newest packet that was passed on arrived, in nanoseconds since 1970.
    pub(crate) came: AtomicU64,
}

#[derive(Debug, Default)]
struct Inbox {
    packets: VecDeque<(Vec<u8>, SocketAddr, u64)>,
    reader: Option<Waker>,
}

impl MemberSocket {
    pub(crate) fn new(sampled: bool) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        let option = |name: libc::c_int, value: &libc::c_int| {
            // SAFETY: `value` is an int, of which the kernel reads `size` bytes during the call.
            let status = unsafe {
                let value = std::ptr::from_ref(value).cast();
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, size)
            };
            if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        option(libc::SO_TIMESTAMPNS, &on)?;
        option(libc::SO_RCVBUF, &RECEIVE_BUFFER)?;
        Ok(Arc::new(Self {
            socket,
            sampled,
            tally: Tally::default(),
            inbox: Mutex::default(),
            came: AtomicU64::new(0),
        }))
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads all packets that have arrived; adds the ages of the bare loop's packets to `ages`.
    fn sweep(&self, batch: &mut Batch, ages: &mut Vec<u32>) {
        loop {
            let count = batch.receive(&self.socket);
            for number in 0..count {
                let (packet, from, came) = batch.packet(number);
                self.take(packet, from, came, ages);
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn take(&self, packet: &[u8], from: SocketAddr, came: u64, ages: &mut Vec<u32>) {
        if let [first, a, b, c, d, stamp @ ..] = packet
            && first & !PHASE == FAST
        {
            if [*a, *b, *c, *d] == BARE_INDEX {
                self.tally.bare.fetch_add(1, Ordering::Relaxed);
                if self.sampled
                    && let Some(sent) = stamp.first_chunk()
                {
                    ages.push(age_of(u32::from_be_bytes(*sent), came));
                }
                return;
            }
            // Other packets, such as those that the relay sends by QUIC, are passed on to the link
            // and counted there.
            let frames = frames_in(packet.len());
            if frames > 0 && !self.sampled {
                self.tally.add(frames);
                return;
            }
        }
        let mut inbox = self.inbox();
        if inbox.packets.len() < INBOX_MAX {
            inbox.packets.push_back((packet.to_vec(), from, came));
        }
        if let Some(reader) = inbox.reader.take() {
            drop(inbox);
            reader.wake();
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many frames a fast packet of this length contains: one forwarded alone, or several in a
/// bundle.
fn frames_in(length: usize) -> u64 {
    let datagram = length.saturating_sub(OVERHEAD);
    if datagram == 1 + FORWARDED {
        return 1;
    }
    let parts = datagram.saturating_sub(1);
    if parts > 0 && parts.is_multiple_of(2 + FORWARDED) {
        return (parts / (2 + FORWARDED)) as u64;
    }
    0
}

impl AsyncUdpSocket for MemberSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.send_to(transmit.contents, transmit.destination).map(|_| ())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox();
        let Some((packet, addr, came)) = inbox.packets.pop_front() else {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.came.store(came, Ordering::Relaxed);
        let len = packet.len().min(buffers[0].len());
        buffers[0][..len].copy_from_slice(&packet[..len]);
        meta[0] = RecvMeta { addr, len, stride: len, ..RecvMeta::default() };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address()
    }
}

/// There is always room to send.
#[derive(Debug)]
struct Room;

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Gives a transport the one socket that was made for it.
pub(crate) struct OneSocket(pub(crate) Arc<MemberSocket>);

impl Binder for OneSocket {
    fn bind(&mut self, _: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::clone(&self.0) as _)
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        Ok(Box::pin(futures::stream::pending()))
    }
}

/// The thread that reads all sockets.
pub(crate) struct Sweeper {
    sockets: Arc<Mutex<Vec<Arc<MemberSocket>>>>,
    ages: Arc<Mutex<Vec<u32>>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sweeper {
    pub(crate) fn start() -> Self {
        let (sockets, ages, ended) = <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>, Arc<_>)>::default();
        let (all, told, until) = (Arc::clone(&sockets), Arc::clone(&ages), Arc::clone(&ended));
        let thread = std::thread::spawn(move || sweep(&all, &told, &until));
        Self { sockets, ages, ended, thread: Some(thread) }
    }

    pub(crate) fn add(&self, socket: Arc<MemberSocket>) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }

    /// The ages, in microseconds, of the bare loop's packets that have arrived since the last call.
    pub(crate) fn take_ages(&self) -> Vec<u32> {
        std::mem::take(&mut *self.ages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sweep(all: &Mutex<Vec<Arc<MemberSocket>>>, told: &Mutex<Vec<u32>>, ended: &AtomicBool) {
    let mut batch = Batch::default();
    let mut ages = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let begun = Instant::now();
        // Only members that are joining wait for this lock.
        for socket in all.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            socket.sweep(&mut batch, &mut ages);
        }
        if !ages.is_empty() {
            told.lock().unwrap_or_else(PoisonError::into_inner).append(&mut ages);
        }
        std::thread::sleep(SWEEP_EVERY.saturating_sub(begun.elapsed()));
    }
}

/// Room for the packets of one system call.
struct Batch {
    packets: Box<[[u8; 1_500]; BATCH]>,
    addresses: [libc::sockaddr_in; BATCH],
    control: [Control; BATCH],
    lengths: [u32; BATCH],
}

/// Room for one timestamp of the kernel.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Default for Batch {
    fn default() -> Self {
        let nowhere = libc::sockaddr_in {
            sin_family: 0,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        Self {
            packets: Box::new([[0; 1_500]; BATCH]),
            addresses: [nowhere; BATCH],
            control: [Control([0; 64]); BATCH],
            lengths: [0; BATCH],
        }
    }
}

impl Batch {
    /// Receives up to [`BATCH`] packets and returns how many there were.
    fn receive(&mut self, socket: &UdpSocket) -> usize {
        // SAFETY: all of these structures are plain data for which zeros are valid.
        let mut slices: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: all of these structures are plain data for which zeros are valid.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for number in 0..BATCH {
            slices[number].iov_base = self.packets[number].as_mut_ptr().cast();
            slices[number].iov_len = self.packets[number].len();
            let header = &mut headers[number].msg_hdr;
            header.msg_iov = &raw mut slices[number];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.addresses[number]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_control = self.control[number].0.as_mut_ptr().cast();
            header.msg_controllen = self.control[number].0.len() as _;
        }
        // SAFETY: each header names buffers of `self` with their lengths, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = header.msg_len;
        }
        count
    }

    /// A packet of the last call, its source, and when it arrived in nanoseconds since 1970.
    fn packet(&self, number: usize) -> (&[u8], SocketAddr, u64) {
        let address = &self.addresses[number];
        let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
        let from = SocketAddr::from((ip, u16::from_be(address.sin_port)));
        let Control(control) = &self.control[number];
        // One control message: its header of 16 bytes, then the time as two numbers.
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| control[at + byte]));
        let came = word(16) * 1_000_000_000 + word(24);
        let came = if came == 0 { stamp() } else { came };
        (&self.packets[number][..self.lengths[number] as usize], from, came)
    }
}

/// First byte of a fast packet with a datagram. [PROTO-8.1]
pub(crate) const FAST: u8 = 0x20;

/// The bit of the first byte that changes with the keys. [PROTO-8.4]
const PHASE: u8 = 0x08;

/// What the bare loop writes in place of a link's index.
pub(crate) const BARE_INDEX: [u8; 4] = [0xff; 4];

/// The length of a sealed frame in bytes.
pub(crate) const FRAME: usize = 80;

/// Bytes of a forwarded datagram after its kind: slot, tag, sequence number, copies, length, frame.
pub(crate) const FORWARDED: usize = 2 + 4 + 2 + 1 + 2 + FRAME;

/// The bytes that the fast path adds.
pub(crate) const OVERHEAD: usize = hark_keys::fast::OVERHEAD;

/// How many packets one system call receives.
const BATCH: usize = 16;

/// How often the sockets are read.
const SWEEP_EVERY: Duration = Duration::from_millis(2);

/// How many bytes of packets the kernel buffers for one socket.
const RECEIVE_BUFFER: libc::c_int = 1 << 20;

/// How many packets may wait for a link. Further ones are lost, as a network would lose them.
const INBOX_MAX: usize = 4_096;
