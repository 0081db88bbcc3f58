//! The socket of an endpoint, from which quinn receives only the packets that are QUIC's.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::super::links::Links;

/// Gives QUIC's packets to quinn and all other packets to the links. [PROTO-8.1]
pub(in super::super) struct FastSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    links: Weak<Links>,
    /// Whether other devices may dial this socket.
    listens: bool,
}

impl FastSocket {
    pub(in super::super) fn new(
        socket: Arc<dyn AsyncUdpSocket>,
        links: &Arc<Links>,
        listens: bool,
    ) -> Self {
        Self { socket, links: Arc::downgrade(links), listens }
    }
}

impl AsyncUdpSocket for FastSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    /// A buffer may be empty after the other packets are taken out. quinn then continues with the
    /// next buffer, and counts the empty one towards the work it does before others get a turn.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.socket.poll_recv(cx, buffers, meta))?;
        let mut links = None;
        for (buffer, meta) in buffers.iter_mut().zip(meta).take(count) {
            let from = meta.addr;
            take_out(buffer, meta, |packet| {
                let links = links.get_or_insert_with(|| self.links.upgrade());
                if let Some(links) = links {
                    links.handle_fast(packet, from, self.listens);
                }
            });
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// One at a time: each connection reserves room for as many packets as may be sent at once, and
    /// QUIC sends little.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for FastSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FastSocket").field(&self.socket).finish()
    }
}

/// Hands each packet of `buffer` that is not QUIC's to `ours`, and moves the other packets
/// together. A buffer may hold several packets of the same length, of which the last may be
/// shorter.
fn take_out(buffer: &mut [u8], meta: &mut RecvMeta, mut ours: impl FnMut(&mut [u8])) {
    let length = meta.len.min(buffer.len());
    let (mut start, mut kept) = (0, 0);
    while start < length {
        let end = start.saturating_add(meta.stride.max(1)).min(length);
        if buffer[start] < QUIC_FROM {
            ours(&mut buffer[start..end]);
        } else {
            if kept < start {
                buffer.copy_within(start..end, kept);
            }
            kept += end - start;
        }
        start = end;
    }
    meta.len = kept;
}

/// The least first byte of a QUIC packet. Ours all have bit 0x40 set (RFC 9000 section 17; RFC 9287
/// lets others grease it). Version negotiation may lack it, but has bit 0x80 set.
const QUIC_FROM: u8 = 0x40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(packets: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut buffer = packets.concat();
        buffer.extend([0xee; 7]);
        let stride = packets.first().map_or(0, |packet| packet.len());
        let mut meta = RecvMeta { len: buffer.len() - 7, stride, ..RecvMeta::default() };
        let mut ours = Vec::new();
        take_out(&mut buffer, &mut meta, |packet| ours.push(packet.to_vec()));
        // Splits the buffer in the same way as quinn.
        let mut rest = &buffer[..meta.len];
        let mut quic = Vec::new();
        while !rest.is_empty() {
            let (packet, after) = rest.split_at(meta.stride.min(rest.len()));
            quic.push(packet.to_vec());
            rest = after;
        }
        (ours, quic)
    }

    /// [PROTO-8.1]
    #[test]
    fn each_gets_its_own_of_a_buffer_of_several() {
        let (quic, long, fast) = (&[0x41, 1, 2], &[0xc0, 3, 4], &[0x20, 5, 6]);
        let owned = |packets: &[&[u8]]| packets.iter().map(|it| it.to_vec()).collect::<Vec<_>>();
        assert_eq!(split(&[]), (owned(&[]), owned(&[])));
        assert_eq!(split(&[quic, long, quic]), (owned(&[]), owned(&[quic, long, quic])));
        assert_eq!(split(&[fast, fast]), (owned(&[fast, fast]), owned(&[])));
        assert_eq!(split(&[fast, long, fast, quic, &[0x7f]]), {
            (owned(&[fast, fast]), owned(&[long, quic, &[0x7f]]))
        });
        assert_eq!(split(&[quic, fast, long, &[0x3f, 9]]), {
            (owned(&[fast, &[0x3f, 9]]), owned(&[quic, long]))
        });
        assert_eq!(split(&[&[0x80, 0, 0]]).1.len(), 1, "version negotiation is QUIC's");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_changed(
            stride in 1_usize..20,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let packets: Vec<_> = bytes.chunks(stride).collect();
            let (ours, quic) = split(&packets);
            let is_ours = |packet: &&&[u8]| packet[0] < 0x40;
            prop_assert_eq!(ours, packets.iter().filter(is_ours).map(|it| it.to_vec()).collect::<Vec<_>>());
            prop_assert_eq!(
                quic,
                packets.iter().filter(|it| !is_ours(it)).map(|it| it.to_vec()).collect::<Vec<_>>()
            );
        }
    }
}
