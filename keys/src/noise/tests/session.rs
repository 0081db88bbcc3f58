//! Two sessions without packets between them.

use proptest::prelude::*;
use quinn_proto::{Side, crypto::Session};

use super::{
    super::{
        QUIC_VERSION, client_config,
        handshake::{IDENTITY_LENGTH, LONGEST_OVERHEAD},
        server_config,
    },
    assert_refused, encoded, key, parameters, peer, random, sessions, written,
};

/// [NOISE-11] [NOISE-13]
#[test]
fn both_learn_who_the_other_is() {
    let (mut client, mut server) = sessions(None);
    // [NOISE-20]
    assert!(client.early_crypto().is_none() && client.early_data_accepted().is_none());
    assert_eq!(exchange(&mut *client, &mut *server, |_, _| ()), Ok(()));
    assert_eq!(peer(&*client), Some(key(2).id()));
    assert_eq!(peer(&*server), Some(key(1).id()));
    assert_eq!(server.transport_parameters().unwrap(), Some(parameters(Side::Server)));
    let mut exported = [[0; 32]; 2];
    client.export_keying_material(&mut exported[0], b"label", b"context").unwrap();
    server.export_keying_material(&mut exported[1], b"label", b"context").unwrap();
    assert_eq!(exported[0], exported[1]);
    server.export_keying_material(&mut exported[1], b"label", b"other").unwrap();
    assert_ne!(exported[0], exported[1]);
}

/// The keys of each update fit the other side's, and no other keys. [NOISE-24]
#[test]
fn key_updates_stay_in_step() {
    let (mut client, mut server) = sessions(None);
    exchange(&mut *client, &mut *server, |_, _| ()).unwrap();
    let mut earlier: Option<Vec<u8>> = None;
    for _ in 0..5 {
        let [from, to] = [&mut client, &mut server].map(|s| s.next_1rtt_keys().unwrap());
        let mut packet = b"header and payload and place for it".to_vec();
        from.local.encrypt(7, &mut packet, 6);
        let open = |packet: &[u8]| {
            let mut payload = packet[6..].into();
            to.remote.decrypt(7, &packet[..6], &mut payload).map(|()| payload)
        };
        assert_eq!(&open(&packet).unwrap()[..], b" and payload ");
        assert!(earlier.replace(packet).is_none_or(|earlier| open(&earlier).is_err()));
    }
}

/// [NOISE-15]
#[test]
fn another_peer_than_expected_is_refused() {
    let (mut client, mut server) = sessions(Some(key(2).id()));
    assert_eq!(exchange(&mut *client, &mut *server, |_, _| ()), Ok(()));
    let (mut client, mut server) = sessions(Some(key(3).id()));
    assert_eq!(exchange(&mut *client, &mut *server, |_, _| ()), Err(0x100 + 46));
    assert_refused(&*client);
}

/// A message that is changed on its way, in any bit, is never accepted. [NOISE-19]
#[test]
fn changed_bytes_end_the_handshake() {
    let mut lengths = Vec::new();
    let (mut client, mut server) = sessions(None);
    exchange(&mut *client, &mut *server, |_, message| lengths.push(message.len())).unwrap();
    assert_eq!(lengths.len(), 4);
    for (changed, length) in lengths.into_iter().enumerate() {
        for index in 0..length {
            let (mut client, mut server) = sessions(None);
            let change = |number, message: &mut Vec<u8>| {
                if number == changed {
                    message[index] ^= 1 << (index % 8);
                }
            };
            let result = exchange(&mut *client, &mut *server, change);
            assert_refused(&*server);
            // A longer length leaves its reader waiting. Every other change is detected.
            assert!(result.is_err() || index < 2, "message {changed}, byte {index}");
            if changed < 3 {
                assert!(client.is_handshaking(), "message {changed}, byte {index}");
            }
        }
    }
}

/// [NOISE-17] [NOISE-18]
#[test]
fn lengths_that_no_message_has_are_refused() {
    let refused = |session: &mut dyn Session, bytes: &[u8]| {
        let error = session.read_handshake(bytes).unwrap_err();
        assert_refused(session);
        u64::from(error.code) - 0x100
    };
    for length in [0_u16, 31, 1025, u16::MAX] {
        let (mut client, mut server) = sessions(None);
        written(&mut *client);
        assert_eq!(refused(&mut *server, &length.to_be_bytes()), 50);
        assert_eq!(refused(&mut *client, &length.to_be_bytes()), 50);
    }
    let (mut client, mut server) = sessions(None);
    written(&mut *client);
    // The length is allowed, but there are more bytes than any message has: they are not even
    // stored.
    assert_eq!(refused(&mut *server, &[[4, 0].as_slice(), &[0; 1025]].concat()), 50);
    let shortest = u16::try_from(LONGEST_OVERHEAD + IDENTITY_LENGTH - 1).unwrap();
    assert_eq!(refused(&mut *client, &shortest.to_be_bytes()), 50);

    // More bytes than the message, in the same piece or after it.
    let (mut client, mut server) = sessions(None);
    let (mut first, _) = written(&mut *client);
    first.push(0);
    assert_eq!(refused(&mut *server, &first), 10);
    let (_, mut server) = sessions(None);
    first.pop();
    server.read_handshake(&first).unwrap();
    assert_eq!(refused(&mut *server, &[0]), 10);

    // Handshake bytes after the handshake is over.
    let (mut client, mut server) = sessions(None);
    exchange(&mut *client, &mut *server, |_, _| ()).unwrap();
    assert!(client.read_handshake(&[0]).is_err());
    assert!(server.read_handshake(&[0]).is_err());
}

/// [NOISE-18] The longest message, which begins with its length and an ephemeral key, arrives
/// whole.
#[test]
fn the_longest_message_is_read() {
    let (_, mut server) = sessions(None);
    let known = encoded(&parameters(Side::Server));
    // A parameter that nobody knows fills the message.
    let [high, low] = u16::try_from(1024 - 32 - known.len() - 4).unwrap().to_be_bytes();
    let mut first = [&[4, 0][..], &[9; 32], &known, &[0x7f, 0xff, 0x40 | high, low]].concat();
    first.resize(2 + 1024, 0);
    assert_eq!(server.read_handshake(&first), Ok(false));
    assert_eq!(server.transport_parameters().unwrap(), Some(parameters(Side::Server)));
}

#[test]
fn other_versions_are_not_spoken() {
    let parameters = parameters(Side::Client);
    let config = client_config(&key(1), random(1), None);
    assert!(config.start_session(1, "", &parameters).is_err());
    let config = server_config(&key(1), random(1));
    let id = quinn_proto::ConnectionId::new(&[1; 8]);
    assert!(config.initial_keys(1, &id).is_err());
    assert!(config.initial_keys(QUIC_VERSION, &id).is_ok());
}

proptest! {
    /// Arbitrary bytes, in arbitrary pieces, neither panic nor are accepted.
    #[test]
    fn arbitrary_bytes_get_nowhere(pieces in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..400), 0..8,
    )) {
        let (mut client, mut server) = sessions(None);
        written(&mut *client);
        for session in [&mut *client, &mut *server] {
            for piece in &pieces {
                let _result = session.read_handshake(piece);
                written(session);
            }
            assert_refused(session);
        }
    }

    /// The right bytes are accepted in whatever pieces they come. With a byte changed, left out or
    /// inserted they are not. [NOISE-3] [NOISE-7]
    #[test]
    fn pieces_do_not_matter_but_bytes_do(
        piece in 1..300_usize,
        target in 0..4_usize,
        position in any::<prop::sample::Index>(),
        change in 0..4_u8,
        value in 1..=u8::MAX,
    ) {
        let (mut client, mut server) = sessions(None);
        let result = exchange_in_pieces(&mut *client, &mut *server, piece, |number, message| {
            if number != target { return; }
            let index = position.index(message.len());
            match change {
                0 => (),
                1 => message[index] ^= value,
                2 => { message.remove(index); }
                _ => message.insert(index, value),
            }
        });
        if change == 0 {
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(peer(&*server), Some(key(1).id()));
        } else {
            assert_refused(&*server);
        }
    }
}

/// The whole handshake, with each message passed through `change`; returns the code of the first
/// error.
fn exchange(
    client: &mut dyn Session,
    server: &mut dyn Session,
    change: impl FnMut(usize, &mut Vec<u8>),
) -> Result<(), u64> {
    exchange_in_pieces(client, server, usize::MAX, change)
}

fn exchange_in_pieces(
    client: &mut dyn Session,
    server: &mut dyn Session,
    piece: usize,
    mut change: impl FnMut(usize, &mut Vec<u8>),
) -> Result<(), u64> {
    let mut number = 0;
    let mut sides = [client, server];
    for turn in 0..6 {
        let from = turn % 2;
        loop {
            let (mut message, keys) = written(sides[from]);
            if message.is_empty() && keys.is_none() {
                break;
            }
            if message.is_empty() {
                continue;
            }
            change(number, &mut message);
            number += 1;
            let to = &mut sides[1 - from];
            for piece in message.chunks(piece) {
                to.read_handshake(piece).map_err(|error| u64::from(error.code))?;
            }
            // The client sends the third message in answer to the tail, not to the second message.
            if number == 2 {
                let (message, keys) = written(*to);
                assert!(message.is_empty(), "the third message waits for the tail");
                assert_eq!(keys.is_some(), peer(*to).is_some());
            }
        }
    }
    Ok(())
}
