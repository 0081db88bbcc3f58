//! The addresses at which a node will be found before it has run for the first time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hark_keys::Random;
use hark_mesh::AddressKind;
use hark_node::{random::SystemRandom, store::OrganisationStore};

/// The addresses at which others find a node of this organisation before its first run. They are
/// this machine's addresses with a port that is chosen now, stored, and listened on when the node
/// runs.
pub(crate) fn settle_addresses(store: &OrganisationStore) -> anyhow::Result<Vec<SocketAddr>> {
    let port = match store.port() {
        Some(port) => port,
        None => {
            let port = free_port()?;
            store.keep_port(Some(port))?;
            port
        }
    };
    let outward = |own: IpAddr, other: IpAddr| {
        // Connecting a UDP socket sends nothing. The system only picks the address that it would
        // send from.
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((other, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let four = outward(Ipv4Addr::UNSPECIFIED.into(), SOMEWHERE_4.into());
    let six = outward(Ipv6Addr::UNSPECIFIED.into(), SOMEWHERE_6.into());
    let useful = |ip: &IpAddr| {
        !matches!(AddressKind::of(*ip), AddressKind::Loopback | AddressKind::LinkLocal)
    };
    let mut found: Vec<_> = [four, six].into_iter().flatten().filter(useful).collect();
    if found.is_empty() {
        // A machine without a network can still talk to itself.
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Finds a UDP port that is free now and that the system does not assign by itself.
fn free_port() -> std::io::Result<u16> {
    let mut tried = Err(std::io::ErrorKind::AddrInUse.into());
    for _ in 0..PORT_TRIES {
        let mut bytes = [0; 2];
        SystemRandom.fill(&mut bytes);
        let port = FIRST_PORT + u16::from_be_bytes(bytes) % PORTS;
        tried = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map(|_| port);
        if tried.is_ok() {
            break;
        }
    }
    tried
}

/// The range of ports for nodes that have not run yet. It lies below the ports that systems assign
/// by themselves.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
const PORT_TRIES: usize = 16;

/// Documentation addresses (RFC 5737, RFC 3849). A system with any route to the internet has one to
/// them.
const SOMEWHERE_4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOMEWHERE_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
