//! A tapped socket that records its packets. It can lose packets that are not QUIC's, and move to
//! another port.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use crate::link::{Binder, Interfaces, UdpBinder};

/// Creates sockets; the newest one is tapped.
#[derive(Clone, Debug, Default)]
pub(super) struct Tap(Arc<Mutex<Tapped>>);

#[derive(Debug, Default)]
struct Tapped {
    socket: Option<Arc<dyn AsyncUdpSocket>>,
    blocks: bool,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl Tap {
    /// If `blocks`, packets that are not QUIC's get lost on the way out from now on.
    pub(super) fn block_fast(&self, blocks: bool) {
        self.0.lock().unwrap().blocks = blocks;
    }

    /// Continues from another port, as behind a router that has forgotten its mapping.
    pub(super) fn rebind(&self) {
        let socket = UdpBinder.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut tapped = self.0.lock().unwrap();
        tapped.socket = Some(socket);
        if let Some(reader) = tapped.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        let port = self.socket().local_addr().unwrap().port();
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// How many packets that match `such` were sent, lost ones included.
    pub(super) fn sent(&self, such: impl Fn(&[u8]) -> bool) -> usize {
        self.0.lock().unwrap().sent.iter().filter(|(_, packet)| such(packet)).count()
    }

    /// The same for packets to one address.
    pub(super) fn sent_to(&self, to: SocketAddr, such: impl Fn(&[u8]) -> bool) -> usize {
        let tapped = self.0.lock().unwrap();
        tapped.sent.iter().filter(|(address, packet)| *address == to && such(packet)).count()
    }

    /// The last `count` packets that were sent.
    pub(super) fn last(&self, count: usize) -> Vec<Vec<u8>> {
        let tapped = self.0.lock().unwrap();
        let first = tapped.sent.len() - count;
        tapped.sent[first..].iter().map(|(_, packet)| packet.clone()).collect()
    }

    fn socket(&self) -> Arc<dyn AsyncUdpSocket> {
        Arc::clone(self.0.lock().unwrap().socket.as_ref().unwrap())
    }
}

impl Binder for Tap {
    fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.0.lock().unwrap().socket = Some(UdpBinder.bind(address)?);
        Ok(Arc::new(self.clone()))
    }

    fn interfaces(&mut self) -> io::Result<Interfaces> {
        UdpBinder.interfaces()
    }
}

impl AsyncUdpSocket for Tap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut tapped = self.0.lock().unwrap();
        tapped.sent.push((transmit.destination, transmit.contents.to_vec()));
        if tapped.blocks && transmit.contents[0] < 0x40 {
            return Ok(());
        }
        drop(tapped);
        self.socket().try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().reader = Some(cx.waker().clone());
        self.socket().poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }
}
