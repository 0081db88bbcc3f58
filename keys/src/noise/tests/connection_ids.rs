//! What observers, and peers who ask, learn from connection ids and reset tokens.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, DatagramEvent, Endpoint, HashedConnectionIdGenerator,
};

use super::{
    super::{EndpointKind, connection_ids::ConnectionIds, endpoint_config},
    key, random,
};
use crate::DeviceKey;

/// A value by which ids of quinn's generator can be grouped by their keys: its tag is the sum of a
/// part that depends only on the key and a part that depends only on the random bytes. Here it is
/// computed from any eight bytes of an id.
fn fingerprint(id: &[u8]) -> (u64, u64) {
    const K: u64 = 0xf135_7aea_2e62_a9c5;
    let [n0, n1, n2, ..] = *id else { panic!("an id is longer") };
    let s0 = 0x243f_6a88_85a3_08d3_u64 ^ u64::from(n0);
    let s1 = 0x1319_8a2e_0370_7344_u64 ^ u64::from(u16::from_be_bytes([n2, n1]));
    let product = u128::from(s0) * u128::from(s1);
    let folded = u64::try_from(product & u128::from(u64::MAX)).unwrap()
        ^ u64::try_from(product >> 64).unwrap();
    let mut tag = [0; 8];
    tag[..5].copy_from_slice(&id[3..8]);
    let tag = u64::from_le_bytes(tag);
    let (high, low) = (tag & 0x3ff_ffff, tag >> 26);
    let offset = (folded ^ 3).wrapping_mul(K);
    ((high << 38).wrapping_sub(offset) >> 38, low.wrapping_sub(offset) & 0x3fff)
}

/// Whether two ids look as if they were of one device, by the eight bytes from `place` on.
fn told_alike(one: &ConnectionId, other: &ConnectionId, place: usize) -> bool {
    let [one, other] = [one, other].map(|id| fingerprint(&id[place..place + 8]));
    let apart = one.0.wrapping_sub(other.0) & 0x3ff_ffff;
    one.1 == other.1 && apart.min((1 << 26) - apart) <= 1
}

fn generator(key: &DeviceKey, seed: u64) -> ConnectionIds {
    ConnectionIds::new(key.derive("quic connection id at [::]:4711"), random(seed))
}

/// [NOISE-27] Each of 1,000 devices starts twice. With quinn's generator the fingerprint recognised
/// all of them by one id of each start. Here it links ids of one device no more often than ids of
/// different ones.
#[test]
fn connection_ids_of_a_device_have_nothing_in_common() {
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let key = DeviceKey::from_secret(&random_secret(number));
        ids.push([1, 2].map(|start| generator(&key, 2 * number + start).generate_cid()));
    }
    for place in 0..=ids[0][0].len() - 8 {
        let (mut linked, mut confused) = (0, 0);
        for (number, [seen, again]) in ids.iter().enumerate() {
            let [_, stranger] = ids[(number + 1) % ids.len()];
            linked += u32::from(told_alike(seen, again, place));
            confused += u32::from(told_alike(seen, &stranger, place));
        }
        // By chance it links two in a million pairs.
        assert_eq!((linked, confused), (0, 0), "bytes from {place} on");
    }
    // The fingerprint does work on quinn's ids.
    let quinns = |key| HashedConnectionIdGenerator::from_key(key).generate_cid();
    assert!((1..1_000_u64).all(|key| told_alike(&quinns(key), &quinns(key), 0)));
    // No bits keep their value over the ids of one device, either.
    let mut generator = generator(&key(1), 1);
    let mut set = [[0_u32; 8]; 16];
    for _ in 0..1_000 {
        for (bits, byte) in set.iter_mut().zip(&generator.generate_cid()[..]) {
            for (bit, count) in bits.iter_mut().enumerate() {
                *count += u32::from(byte >> bit & 1);
            }
        }
    }
    assert!(set.as_flattened().iter().all(|count| (400..600).contains(count)), "{set:?}");
}

fn random_secret(seed: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    random(0x1000_0000 + seed).fill(&mut secret);
    secret
}

/// [NOISE-27] Even somebody who has seen an id cannot make one.
#[test]
fn only_the_endpoint_makes_its_ids() {
    let mut first = generator(&key(1), 1);
    let (again, other) = (generator(&key(1), 2), generator(&key(2), 1));
    for _ in 0..100 {
        let id = first.generate_cid();
        assert_eq!(id.len(), first.cid_len());
        assert!(first.validate(&id).is_ok() && again.validate(&id).is_ok());
        assert!(other.validate(&id).is_err());
        for bit in 0..8 * id.len() {
            let mut forged = id.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(first.validate(&ConnectionId::new(&forged)).is_err(), "bit {bit}");
        }
        for length in 0..id.len() {
            assert!(first.validate(&ConnectionId::new(&id[..length])).is_err());
        }
    }
}

fn endpoint(key: &DeviceKey, seed: u64, place: EndpointKind) -> Endpoint {
    Endpoint::new(Arc::new(endpoint_config(key, random(seed), place)), None, true, None)
}

fn socket(address: &str) -> EndpointKind {
    EndpointKind::Socket(address.parse().unwrap())
}

/// The endpoint's answer to a packet for the connection `id`.
fn answer(endpoint: &mut Endpoint, first: &[u8], id: &[u8]) -> Option<[u8; 16]> {
    let from: SocketAddr = "192.0.2.66:6666".parse().unwrap();
    // For a long header: no source id, no token, and a length.
    let datagram = [first, id, &[0, 0, 0x44, 0x00], &[0x55; 1_200]].concat();
    let mut out = Vec::new();
    let datagram = BytesMut::from(&datagram[..]);
    match endpoint.handle(Instant::now(), from, None, None, datagram, &mut out)? {
        DatagramEvent::Response(_) => out.last_chunk().copied(),
        _ => None,
    }
}

const SHORT: [u8; 1] = [0x41];

/// [NOISE-26] An endpoint answers for the ids that it made before its restart, with one token. It
/// does not answer for those of another endpoint: neither of the device's other sockets, nor of its
/// tunnels.
#[test]
fn an_endpoint_resets_its_own_connections_alone() {
    let places = [
        socket("0.0.0.0:4711"),
        socket("[::]:4711"),
        socket("0.0.0.0:4712"),
        socket("192.0.2.1:4711"),
        EndpointKind::Tunnel,
        EndpointKind::Dialler,
    ];
    for (made, place) in places.into_iter().enumerate() {
        let config = endpoint_config(&key(1), random(1), place);
        let mut ids = Endpoint::new(Arc::new(config), None, true, None);
        let id = issued(&mut ids);
        let mut tokens = Vec::new();
        for (asked, other) in places.into_iter().enumerate() {
            let token = answer(&mut endpoint(&key(1), 2, other), &SHORT, &id);
            assert_eq!(
                token.is_some(),
                made == asked && place != EndpointKind::Dialler,
                "{place:?}"
            );
            tokens.extend(token);
            assert_eq!(answer(&mut endpoint(&key(2), 3, other), &SHORT, &id), None);
        }
        let again = answer(&mut endpoint(&key(1), 4, place), &SHORT, &id);
        assert_eq!(again, tokens.first().copied(), "after another restart");
    }
}

/// [NOISE-26] [NOISE-28] An endpoint that only dials answers an Initial packet for any id: quinn
/// does not check whether it is one of its own. The token is worth nothing at another endpoint, nor
/// after a restart.
#[test]
fn tokens_of_one_endpoint_end_no_connection_of_another() {
    let id = [7; 16];
    let initial = [0xc0, b'H', b'A', b'R', b'K', 16];
    let ask = |seed, place| answer(&mut endpoint(&key(1), seed, place), &initial, &id);
    let places =
        [socket("0.0.0.0:4711"), socket("[::]:4711"), EndpointKind::Tunnel, EndpointKind::Dialler];
    let mut tokens: Vec<_> = places.map(|place| ask(1, place).unwrap()).into();
    tokens.push(ask(2, EndpointKind::Dialler).unwrap());
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 5);
}

/// An id of a connection that the endpoint begins, taken from its first packet.
fn issued(endpoint: &mut Endpoint) -> Vec<u8> {
    let crypto = super::super::client_config(&key(3), random(9), None);
    let mut config = quinn_proto::ClientConfig::new(crypto);
    config.version(super::super::QUIC_VERSION);
    let to = "192.0.2.1:9".parse().unwrap();
    let now = Instant::now();
    let (_, mut connection) = endpoint.connect(now, config, to, "hark").unwrap();
    let mut packet = Vec::new();
    let _ = connection.poll_transmit(now, 1, &mut packet).unwrap();
    // First byte and version, the other side's id with its length, and this side's.
    let (length, rest) = packet[5..].split_first().unwrap();
    let (length, rest) = rest[usize::from(*length)..].split_first().unwrap();
    rest[..usize::from(*length)].to_vec()
}
