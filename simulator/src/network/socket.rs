//! The sockets of a simulated machine, in place of the real ones that quinn expects.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use hark_node::{
    link::{Binder, Interfaces},
    reach::ports::{Gateway, Surroundings},
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::fabric::Fabric;

/// Opens the sockets of one machine on the simulated network.
#[derive(Debug)]
pub struct SimBinder {
    pub(super) fabric: Fabric,
    pub(super) host: usize,
}

impl Binder for SimBinder {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let SocketAddr::V4(address) = address else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let (local, inbox) = self.fabric.open(self.host, address)?;
        let fabric = self.fabric.clone();
        Ok(Arc::new(SimSocket { fabric, host: self.host, local, inbox }))
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        let changes: UnboundedReceiver<_> = self.fabric.interfaces(self.host);
        Ok(changes.map(|(address, up)| (IpAddr::V4(address), up)).boxed())
    }
}

impl Surroundings for SimBinder {
    fn gateway(&mut self) -> io::Result<Option<Gateway>> {
        let router = self.fabric.router(self.host);
        Ok(router.map(|router| Gateway::new(router, self.fabric.address(self.host))))
    }

    fn socket(&mut self, own: Ipv4Addr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.bind(SocketAddr::new(own.into(), 0))
    }
}

/// Packets that have arrived at a socket and have not been read yet.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    packets: VecDeque<(SocketAddrV4, Bytes)>,
    bytes: usize,
    reader: Option<Waker>,
}

impl Inbox {
    /// Takes a packet; returns `false` if the queue is full and the packet is lost.
    pub(super) fn push(&self, source: SocketAddrV4, payload: Bytes) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes + payload.len() > hark_node::link::RECEIVE_BUFFER {
            return false;
        }
        waiting.bytes += payload.len();
        waiting.packets.push_back((source, payload));
        true
    }

    /// Wakes the task that reads from this socket.
    pub(super) fn wake(&self) {
        let reader = self.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().packets.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("packets", &self.lock().packets.len()).finish()
    }
}

#[derive(Debug)]
struct SimSocket {
    fabric: Fabric,
    host: usize,
    local: SocketAddrV4,
    inbox: Inbox,
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysRoom)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let SocketAddr::V4(destination) = transmit.destination else {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        };
        self.fabric.send(self.host, self.local, destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let paused = self.fabric.is_paused(self.host);
        let mut waiting = self.inbox.lock();
        let mut count = 0;
        while !paused && count < buffers.len().min(meta.len()) {
            let Some((source, payload)) = waiting.packets.pop_front() else { break };
            waiting.bytes -= payload.len();
            // As with a real socket, what does not fit into the buffer is cut off.
            let length = payload.len().min(buffers[count].len());
            buffers[count][..length].copy_from_slice(&payload[..length]);
            meta[count] = RecvMeta {
                addr: SocketAddr::V4(source),
                len: length,
                stride: length,
                ecn: None,
                dst_ip: Some(IpAddr::V4(self.fabric.address(self.host))),
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::V4(self.local))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.fabric.close(self.host, self.local.port());
    }
}

/// A simulated network card takes everything at once. Packets queue at its link.
#[derive(Debug)]
struct AlwaysRoom;

impl UdpPoller for AlwaysRoom {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The open sockets of a machine, by port.
pub(super) type Sockets = BTreeMap<u16, Inbox>;
