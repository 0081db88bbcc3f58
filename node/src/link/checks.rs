//! Checks whether strangers reach an address. A check is a packet of its own, sent from a new port.
//! [PROTO-5.9] [PROTO-5.22]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use hark_mesh::message::CheckNonce;
use quinn::udp::Transmit;

use super::{links::Links, socket::Binder};

/// The check that is awaited at a listening socket, and what to call when it arrives.
#[derive(Default)]
pub(super) struct AwaitedCheck(Mutex<Option<(CheckNonce, Arrived)>>);

type Arrived = Box<dyn FnOnce() + Send>;

impl AwaitedCheck {
    fn set(&self, awaited: Option<(CheckNonce, Arrived)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = awaited;
    }

    fn take(&self, nonce: CheckNonce) -> Option<Arrived> {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.take_if(|(known, _)| *known == nonce).map(|(_, arrived)| arrived)
    }
}

impl Links {
    /// Awaits the check with this nonce. `arrived` is called at most once, on the network thread,
    /// when the check comes to a listening socket. A check that was awaited before is awaited no
    /// longer.
    pub fn await_check(&self, nonce: CheckNonce, arrived: impl FnOnce() + Send + 'static) {
        self.awaited_check().set(Some((nonce, Box::new(arrived))));
    }

    /// Stops awaiting a check.
    pub fn await_no_check(&self) {
        self.awaited_check().set(None);
    }

    /// Takes a packet that belongs neither to QUIC nor to the fast path, from a listening socket.
    pub(super) fn handle_check(&self, packet: &[u8]) {
        let nonce = CheckNonce::of_packet(packet);
        if let Some(arrived) = nonce.and_then(|nonce| self.awaited_check().take(nonce)) {
            arrived();
        }
    }
}

/// Sends a check to `to` from a new port. The source address is `own`, or the one that the system
/// chooses for that destination if `own` is `None`. No NAT on the way knows the new port.
pub fn send_check(
    binder: &mut dyn Binder,
    own: Option<IpAddr>,
    to: SocketAddr,
    nonce: CheckNonce,
) -> io::Result<()> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = binder.bind(SocketAddr::new(own.unwrap_or(any), 0))?;
    let contents = &nonce.packet();
    let (ecn, segment_size, src_ip) = (None, None, None);
    socket.try_send(&Transmit { destination: to, ecn, contents, segment_size, src_ip })
}
