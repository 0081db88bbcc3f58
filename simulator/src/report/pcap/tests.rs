use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn capture(snap_length: usize, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut pcap = PcapWriter::new(Vec::new(), snap_length).unwrap();
    let at = Timestamp::ZERO + Duration::new(3, 250_000_001);
    pcap.write(at, source.parse().unwrap(), destination.parse().unwrap(), payload).unwrap();
    pcap.finish().unwrap()
}

#[test]
fn an_ipv4_capture_byte_by_byte() {
    let expected: &[&[u8]] = &[
        // The file header: magic, version 2.4, two unused fields, snap length 1500, raw IP.
        &[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xdc, 0x05, 0, 0, 101, 0, 0, 0],
        // The record header: 3 s, 250,000,001 ns, 31 bytes kept of 31.
        &[3, 0, 0, 0, 0x81, 0xb2, 0xe6, 0x0e, 31, 0, 0, 0, 31, 0, 0, 0],
        // The IPv4 header: its words sum to 0xd933.
        &[0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x26, 0xcc, 10, 0, 0, 1, 10, 0, 0, 2],
        // The UDP header: its words, with those of the pseudo header and the payload, sum to
        // 0xc0bb.
        &[0x0f, 0xa0, 0x13, 0x88, 0, 11, 0x3f, 0x44],
        b"hi!",
    ];
    assert_eq!(capture(1500, "10.0.0.1:4000", "10.0.0.2:5000", b"hi!"), expected.concat());
}

#[test]
fn an_ipv6_record_byte_by_byte() {
    let mut expected = vec![49, 0, 0, 0, 49, 0, 0, 0, 0x60, 0, 0, 0, 0, 9, 17, 64];
    expected.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    // The words sum to 0x1fb29, which is 0xfb2a when folded.
    expected.extend([0, 1, 0, 2, 0, 9, 0x04, 0xd5, 1]);
    let file = capture(1500, "[fd00::1]:1", "[fd00::2]:2", &[1]);
    assert_eq!(file[FILE_HEADER + 8..], expected);
}

#[test]
fn a_checksum_of_zero_is_written_as_all_ones() {
    // The other words sum to 0x3750, and 0x3750 + 0xc8af is 0xffff.
    let file = capture(1500, "10.0.0.1:4000", "10.0.0.2:5000", &[0xc8, 0xaf]);
    let udp = FILE_HEADER + RECORD_HEADER + 20;
    assert_eq!(file[udp + 6..udp + 8], [0xff, 0xff]);
}

#[test]
fn mapped_addresses_are_written_as_ipv4() {
    let mapped = capture(1500, "[::ffff:10.0.0.1]:4000", "10.0.0.2:5000", b"hi!");
    assert_eq!(mapped, capture(1500, "10.0.0.1:4000", "10.0.0.2:5000", b"hi!"));
}

#[test]
fn what_cannot_be_written_leaves_no_trace() {
    let mut pcap = PcapWriter::new(Vec::new(), SNAP_LENGTH).unwrap();
    let [v4, v6] = ["10.0.0.1:1", "[fd00::1]:1"].map(|address| address.parse().unwrap());
    let mut kind = |source, destination, length| {
        let result = pcap.write(Timestamp::ZERO, source, destination, &vec![0; length]);
        result.map_err(|error| error.kind())
    };
    assert_eq!(kind(v4, v6, 1), Err(io::ErrorKind::InvalidInput));
    assert_eq!(kind(v4, v4, 65_508), Err(io::ErrorKind::InvalidInput));
    assert_eq!(kind(v6, v6, 65_528), Err(io::ErrorKind::InvalidInput));
    assert_eq!(kind(v4, v4, 65_507), Ok(()));
    assert_eq!(kind(v6, v6, 65_527), Ok(()));
    let expected = FILE_HEADER + 2 * RECORD_HEADER + 65_535 + 65_575;
    assert_eq!(pcap.finish().unwrap().len(), expected);
}

proptest! {
    /// A reader finds what was written, cut off at the snap length, with correct checksums.
    #[test]
    fn reads_back(
        packets in prop::collection::vec(
            (any::<bool>(), any::<[u8; 32]>(), any::<[u16; 2]>(), any::<u32>(),
             prop::collection::vec(any::<u8>(), 0..200)),
            0..6,
        ),
        snap_length in 1_usize..260,
    ) {
        let mut pcap = PcapWriter::new(Vec::new(), snap_length).unwrap();
        let mut whole = PcapWriter::new(Vec::new(), SNAP_LENGTH).unwrap();
        for (v6, bytes, ports, micros, payload) in &packets {
            let [from, to] = [0, 16].map(|at| -> IpAddr {
                // The first bytes must not make the addresses look like those of the other family.
                let mut address: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
                address[0] = 0xfd;
                if *v6 { address.into() } else { [10, address[1], address[2], address[3]].into() }
            });
            let [from, to] = [SocketAddr::new(from, ports[0]), SocketAddr::new(to, ports[1])];
            let at = Timestamp::from_micros((*micros).into());
            pcap.write(at, from, to, payload).unwrap();
            whole.write(at, from, to, payload).unwrap();
        }
        let (file, whole) = (pcap.finish().unwrap(), whole.finish().unwrap());
        let (mut file, mut whole) = (&file[FILE_HEADER..], &whole[FILE_HEADER..]);
        for (v6, _, ports, micros, payload) in packets {
            let ip_header = if v6 { 40 } else { 20 };
            let length = ip_header + UDP_HEADER + payload.len();
            let kept = length.min(snap_length);
            let fields = [micros / 1_000_000, micros % 1_000_000 * 1000];
            let fields = [fields, [kept as u32, length as u32]].concat();
            let fields = fields.iter().flat_map(|field| field.to_le_bytes()).collect::<Vec<_>>();
            prop_assert_eq!(&file[..RECORD_HEADER], &fields);
            let packet = &whole[RECORD_HEADER..RECORD_HEADER + length];
            prop_assert_eq!(&file[RECORD_HEADER..RECORD_HEADER + kept], &packet[..kept]);

            let (ip, udp) = packet.split_at(ip_header);
            prop_assert_eq!(&udp[8..], &payload);
            prop_assert_eq!(&udp[..4], ports.map(u16::to_be_bytes).concat());
            prop_assert!(v6 || sum(ip) == 0xffff);
            let addresses = if v6 { &ip[8..] } else { &ip[12..] };
            let pseudo = [addresses, &[0, 17], &udp[4..6]].concat();
            prop_assert_eq!(sum(&[&pseudo, udp].concat()), 0xffff);

            file = &file[RECORD_HEADER + kept..];
            whole = &whole[RECORD_HEADER + length..];
        }
        prop_assert!(file.is_empty());
    }
}

/// The one's complement sum, carried at each step as RFC 1071 defines it.
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
        let (sum, carry) = word.overflowing_add(sum);
        sum + u16::from(carry)
    })
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
