//! The traffic of a network interface, as a packet socket sees it.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::Socket;
#[cfg(target_os = "linux")]
use socket2::{Domain, Protocol, Type};

use crate::node::unix_us;

/// A UDP datagram that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Unix time in microseconds.
    pub(crate) at_us: u64,
    #[allow(dead_code, reason = "not every bench looks at it")]
    pub(crate) from_port: u16,
    pub(crate) payload: Vec<u8>,
}

/// Records IPv4 UDP on all interfaces of this process's network namespace, until it is stopped.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Capture {
    /// Starts to record. Fails without the right to see the traffic (CAP_NET_RAW).
    pub(crate) fn start() -> io::Result<Self> {
        let mut socket = packet_socket()?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut packet = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(length) = socket.read(&mut packet) {
                    seen.extend(udp_of(&packet[..length]));
                }
            }
            seen
        });
        Ok(Self { stop, thread })
    }

    /// Stops, and returns all datagrams. Those on the loopback interface appear twice.
    pub(crate) fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(target_os = "linux")]
fn packet_socket() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from((libc::ETH_P_IP as u16).to_be()));
    Socket::new(Domain::from(libc::AF_PACKET), Type::DGRAM, Some(protocol))
}

#[cfg(not(target_os = "linux"))]
fn packet_socket() -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

fn udp_of(packet: &[u8]) -> Option<Seen> {
    let at_us = unix_us();
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if *packet.get(9)? != UDP {
        return None;
    }
    let udp = packet.get(header..)?;
    let from_port = u16::from_be_bytes([*udp.first()?, *udp.get(1)?]);
    Some(Seen { at_us, from_port, payload: udp.get(8..)?.to_vec() })
}

/// The protocol number of UDP in an IP header.
const UDP: u8 = 17;
