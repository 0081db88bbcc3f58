//! The Noise session under quinn's state machine: the properties of a connection that docs/noise.md
//! promises.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod noise_network;

use std::time::Duration;

use hark_keys::{DeviceKey, noise::KeyPhase};
use quinn_proto::{ConnectionError, Dir, ReadError, StreamId, TransportErrorCode, VarInt};

use noise_network::{Link, Network, Node};

#[test]
fn both_ends_know_each_other() {
    let mut network = connected(1, false);
    let [first, second] = [network.nodes[0].id(), network.nodes[1].id()];
    assert_eq!(network.nodes[0].link().peer(), Some(second));
    assert_eq!(network.nodes[1].link().peer(), Some(first));
    let secret = network.nodes[0].link().export(b"hark hello");
    assert_eq!(network.nodes[1].link().export(b"hark hello"), secret);
    assert_ne!(network.nodes[1].link().export(b"other"), secret);
    // One round trip and a half.
    assert!(network.elapsed() < Duration::from_millis(130), "{:?}", network.elapsed());
}

#[test]
fn retry_proves_the_address_first() {
    let mut network = connected(2, true);
    assert!(network.elapsed() >= Duration::from_millis(200), "{:?}", network.elapsed());
    let first = network.nodes[0].id();
    assert_eq!(network.nodes[1].link().peer(), Some(first));
}

/// [NOISE-12] All handshakes end within 30 s, even if every third packet is lost.
#[test]
fn handshakes_outlive_heavy_loss() {
    let mut slowest = Duration::ZERO;
    for seed in 0..100 {
        let mut network = Network::new(2, seed, 30);
        network.connect(0, 1, None);
        let limit = Duration::from_secs(30);
        let done = network.run(limit, both_connected);
        assert!(done, "handshake with seed {seed}");
        slowest = slowest.max(network.elapsed());
    }
    println!("slowest handshake: {slowest:?}");
}

#[test]
fn streams_pass() {
    for loss_percent in [0, 10] {
        let mut network = Network::new(2, 3, loss_percent);
        network.connect(0, 1, None);
        assert!(network.run(Duration::from_secs(30), both_connected));
        let data: Vec<u8> = (0..300_000_u32).map(|index| index.to_le_bytes()[0] ^ 7).collect();
        let id = network.nodes[0].link().connection.streams().open(Dir::Bi).unwrap();
        let (mut written, mut read) = (0, Vec::new());
        let done = network.run(Duration::from_secs(60), |network| {
            let sender = &mut network.nodes[0].link().connection;
            written += sender.send_stream(id).write(&data[written..]).unwrap_or(0);
            read_into(network.nodes[1].link(), id, &mut read);
            read.len() == data.len()
        });
        assert!(done, "{} bytes", read.len());
        assert_eq!(read, data);
    }
}

/// [NOISE-24] After a second the keys before are gone, so that each update counts.
#[test]
fn datagrams_pass_through_key_updates_from_both_sides() {
    let mut network = connected(9, false);
    for update in 0..6 {
        network.nodes[update % 2].link().connection.force_key_update();
        for node in &mut network.nodes {
            node.link().connection.datagrams().send("voice".into(), true).unwrap();
        }
        network.run(Duration::from_secs(1), |_| false);
        for node in &mut network.nodes {
            let received = node.link().connection.datagrams().recv();
            assert_eq!(received.as_deref(), Some(&b"voice"[..]), "after update {update}");
        }
    }
}

/// [NOISE-24] With a packet each way each second the keys of a phase are gone long before the
/// update after the next, even if every fifth packet is lost.
#[test]
fn keys_of_a_phase_are_erased_soon_after_it_has_ended() {
    for loss_percent in [0, 20] {
        let mut network = Network::new(2, 10, loss_percent);
        network.connect(0, 1, None);
        assert!(network.run(Duration::from_secs(30), both_connected));
        for update in 1..20 {
            let before = phase(&mut network.nodes[0]);
            network.nodes[0].link().connection.force_key_update();
            assert_eq!(phase(&mut network.nodes[0]), KeyPhase(before.0 + 1));
            for _ in 0..20 {
                for node in &mut network.nodes {
                    node.link().connection.datagrams().send("heartbeat".into(), true).unwrap();
                }
                network.run(Duration::from_secs(1), |_| false);
            }
            for node in &mut network.nodes {
                assert_eq!(phase(node), KeyPhase(before.0 + 1), "update {update}");
                // The keys of this phase and of the next are needed.
                let mut alive = node.watch.alive();
                assert_eq!(alive.split_off(alive.len() - 2), [true, true]);
                assert!(!alive.contains(&true), "{loss_percent} %, update {update}: {alive:?}");
            }
        }
    }
}

fn phase(node: &mut Node) -> KeyPhase {
    let data = node.link().connection.crypto_session().handshake_data().unwrap();
    *data.downcast().unwrap()
}

/// [NOISE-15] Both ends learn that the peer was the wrong one.
#[test]
fn wrong_peer_is_refused() {
    let mut network = Network::new(2, 4, 0);
    let other = DeviceKey::from_secret(&[9; 32]).id();
    network.connect(0, 1, Some(other));
    let ended = network.run(Duration::from_secs(5), |network| {
        network.nodes.iter_mut().all(|node| node.connections.values().any(|l| l.lost.is_some()))
    });
    assert!(ended);
    let code = TransportErrorCode::crypto(46);
    let Some(ConnectionError::TransportError(error)) = &network.nodes[0].link().lost else {
        panic!("{:?}", network.nodes[0].link().lost);
    };
    assert_eq!(error.code, code);
    let Some(ConnectionError::ConnectionClosed(close)) = &network.nodes[1].link().lost else {
        panic!("{:?}", network.nodes[1].link().lost);
    };
    assert_eq!(close.error_code, code);
    assert!(network.nodes.iter_mut().all(|node| !node.link().connected));
}

#[test]
fn right_peer_is_accepted() {
    let mut network = Network::new(2, 5, 0);
    let expected = network.nodes[1].id();
    network.connect(0, 1, Some(expected));
    assert!(network.run(Duration::from_secs(1), both_connected));
}

/// [NOISE-26] [PROTO-2.6] A restarted node ends the connection that it has forgotten at its first
/// packet.
#[test]
fn restarted_node_resets_its_old_connection() {
    let mut network = connected(6, false);
    network.run(Duration::from_secs(1), |_| false);
    network.restart(1);
    network.nodes[0].link().connection.ping();
    let ended =
        network.run(Duration::from_secs(1), |network| network.nodes[0].link().lost.is_some());
    assert!(ended);
    assert!(matches!(network.nodes[0].link().lost, Some(ConnectionError::Reset)));
    assert!(network.nodes[1].connections.is_empty());
}

/// [NOISE-1] [PROTO-2.1] A client of another version is told Hark's version.
#[test]
fn other_versions_are_negotiated() {
    let mut network = Network::new(1, 7, 0);
    let mut initial = vec![0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    initial.resize(1200, 0);
    let answer = network.inject(0, &initial).unwrap();
    assert_eq!(answer[1..5], [0; 4], "version negotiation has version 0");
    let versions = &answer[7 + 8..];
    assert_eq!(versions.len(), 8, "one to keep clients honest, and ours");
    assert_eq!(versions[4..], *b"HARK");
}

#[test]
fn close_is_told() {
    let mut network = connected(8, false);
    let now = network.now();
    network.nodes[0].link().connection.close(now, VarInt::from_u32(1), "left".into());
    let ended =
        network.run(Duration::from_secs(1), |network| network.nodes[1].link().lost.is_some());
    assert!(ended);
    let Some(ConnectionError::ApplicationClosed(close)) = &network.nodes[1].link().lost else {
        panic!("{:?}", network.nodes[1].link().lost);
    };
    assert_eq!((close.error_code, &close.reason[..]), (VarInt::from_u32(1), &b"left"[..]));
}

fn connected(seed: u64, retry: bool) -> Network {
    let mut network = Network::new(2, seed, 0);
    network.nodes[1].retry = retry;
    network.connect(0, 1, None);
    assert!(network.run(Duration::from_secs(5), both_connected));
    network
}

fn both_connected(network: &mut Network) -> bool {
    network.nodes.iter().all(|node| node.connections.values().any(|link| link.connected))
}

fn read_into(link: &mut Link, id: StreamId, data: &mut Vec<u8>) {
    let mut stream = link.connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return };
    loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => data.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(ReadError::Blocked) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _transmit = chunks.finalize();
}
