//! Writes simulated datagrams as a packet capture that Wireshark opens.
//!
//! The format is the classic libpcap format, version 2.4 (draft-ietf-opsawg-pcap), with nanosecond
//! times and `LINKTYPE_RAW`: each record is an IP packet with nothing before it. The start of the
//! run is written as the start of 1970. The file is little-endian on every machine, so that equal
//! runs produce equal files.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
};

use hark_keys::Timestamp;

/// Writes a capture of UDP datagrams, one record each.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    output: W,
    snap_length: usize,
}

impl<W: Write> PcapWriter<W> {
    /// Begins a capture that keeps at most `snap_length` bytes of each packet, headers included.
    pub fn new(mut output: W, snap_length: usize) -> io::Result<Self> {
        let snap_length = snap_length.clamp(1, SNAP_LENGTH);
        output.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
        output.write_all(&VERSION_MAJOR.to_le_bytes())?;
        output.write_all(&VERSION_MINOR.to_le_bytes())?;
        output.write_all(&[0; 8])?; // Two fields that no program uses.
        output.write_all(&(snap_length as u32).to_le_bytes())?;
        output.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        Ok(Self { output, snap_length })
    }

    /// Adds a datagram that was seen at `at`.
    ///
    /// Fails with [`io::ErrorKind::InvalidInput`] and writes nothing if one address is an IPv4 and
    /// the other an IPv6 address, or if the payload is too long for one datagram.
    pub fn write(
        &mut self,
        at: Timestamp,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> io::Result<()> {
        let headers = headers(source, destination, payload)?;
        let length = headers.len() + payload.len();
        let kept = length.min(self.snap_length);
        let since_start = at.as_duration();
        let seconds = u32::try_from(since_start.as_secs()).unwrap_or(u32::MAX);
        for field in [seconds, since_start.subsec_nanos(), kept as u32, length as u32] {
            self.output.write_all(&field.to_le_bytes())?;
        }
        let from_headers = kept.min(headers.len());
        self.output.write_all(&headers[..from_headers])?;
        self.output.write_all(&payload[..kept - from_headers])
    }

    /// Ends the capture and returns the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}

/// The IP and UDP headers of a datagram, with checksums.
fn headers(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let udp_length = u16::try_from(UDP_HEADER + payload.len())
        .map_err(|_| invalid("payload too long for a datagram"))?;
    // An IPv4 address from a dual-stack socket is written as an IPv4 address.
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = udp_length
                .checked_add(IPV4_HEADER)
                .ok_or_else(|| invalid("payload too long for a datagram"))?;
            let mut ip = vec![0x45, 0]; // Version 4, five words; no service class.
            ip.extend(length.to_be_bytes());
            ip.extend([0, 0, 0x40, 0]); // No identification, never fragmented (RFC 6864).
            ip.extend([HOP_LIMIT, PROTOCOL_UDP, 0, 0]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            let addresses = [from.octets(), to.octets()].concat();
            ip.extend(udp_header(source, destination, udp_length, &addresses, payload));
            Ok(ip)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut ip = vec![0x60, 0, 0, 0]; // Version 6; no service class, no flow label.
            ip.extend(udp_length.to_be_bytes());
            ip.extend([PROTOCOL_UDP, HOP_LIMIT]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            let addresses = [from.octets(), to.octets()].concat();
            ip.extend(udp_header(source, destination, udp_length, &addresses, payload));
            Ok(ip)
        }
        _ => Err(invalid("source and destination are not of one address family")),
    }
}

/// The UDP header (RFC 768); its checksum covers a pseudo header of `addresses` (RFC 8200, 8.1).
fn udp_header(
    source: SocketAddr,
    destination: SocketAddr,
    length: u16,
    addresses: &[u8],
    payload: &[u8],
) -> [u8; UDP_HEADER] {
    let mut header = [0; UDP_HEADER];
    header[0..2].copy_from_slice(&source.port().to_be_bytes());
    header[2..4].copy_from_slice(&destination.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    // The pseudo headers of both families have the same sum, since their fields differ only in
    // width.
    let [high, low] = length.to_be_bytes();
    let sum = checksum(&[addresses, &[0, PROTOCOL_UDP, high, low], &header, payload]);
    // Zero would mean that there is no checksum.
    let sum = if sum == 0 { u16::MAX } else { sum };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071) over `parts`, of which all but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| (*low).into()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// States that times are in seconds and nanoseconds. Its byte order states how to read the rest.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const VERSION_MAJOR: u16 = 2;
const VERSION_MINOR: u16 = 4;
const LINKTYPE_RAW: u32 = 101;

/// A snap length that keeps every packet whole: the longest one over IPv6.
pub const SNAP_LENGTH: usize = 65_575;

const HOP_LIMIT: u8 = 64;
const PROTOCOL_UDP: u8 = 17;
const IPV4_HEADER: u16 = 20;
const UDP_HEADER: usize = 8;

#[cfg(test)]
mod tests;
