//! One QUIC link per pair of nodes: libp2p's streams and Hark's datagrams on one connection.
//!
//! ```text
//!  libp2p swarm (gossipsub, messages)         voice, heartbeats
//!         | streams                                  | datagrams by device
//!      Muxer <───────────── quinn::Connection ─────> Link, in Links
//!                    Noise handshake, then Hello        | fast packets: datagrams beside QUIC
//!                  Endpoint per address family          |
//!                       FastSocket <────────────────────┘
//!                       Binder: the socket seam
//! ```
//!
//! [`LinkTransport`] is a libp2p transport. A connection becomes a [`Link`] only after its Hello
//! was accepted ([PROTO-2.2]) and the swarm, too, has taken it.
//!
//! One more endpoint has no socket: its packets travel inside datagrams of the links with relays
//! ([`Tunnels`]). So two peers that cannot connect directly still have a link like any other. If a
//! direct link comes about later, it is used at once. The relayed link ends once the direct one has
//! carried a datagram.

mod checks;
mod congestion;
mod fast;
mod greeter;
mod links;
mod lobby;
mod muxer;
mod places;
mod socket;
mod transport;
mod tunnel;
mod visits;

pub use checks::send_check;
pub use fast::DatagramSender;
pub use greeter::{Admission, HelloDenial};
pub use links::{CloseCode, DatagramHandler, Link, LinkDown, LinkEvent, Links};
pub use muxer::{Muxer, Stream};
pub use socket::{
    Binder, BoundSocket, Interfaces, PlainSocket, RECEIVE_BUFFER, SharedBinder, UdpBinder,
};
pub use transport::{LinkError, LinkTransport, address_of, multiaddr_of, relayed_address};
pub use tunnel::Tunnels;

#[cfg(test)]
mod tests;
