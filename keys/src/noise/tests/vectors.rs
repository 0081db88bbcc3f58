//! Published vectors: Noise (cacophony) and RFC 9001 appendix A.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use quinn_proto::{
    ConnectionId,
    crypto::{HeaderKey as _, PacketKey as _},
};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::super::{
    handshake::PATTERN,
    packet::{HeaderKey, NOISE, PacketKey},
    resolver::Resolver,
    schedule::{Retry, expand_label, initial_secrets},
};
use crate::Random;

/// Returns the bytes that it was made from, once.
struct Fixed(Mutex<Vec<u8>>);

impl Random for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rest = self.0.lock().unwrap();
        let tail = rest.split_off(bytes.len());
        bytes.copy_from_slice(&rest);
        *rest = tail;
    }
}

struct Vector(serde_json::Value);

impl Vector {
    fn load() -> Self {
        let text = include_str!("../../../tests/data/noise_xx_25519_chachapoly_sha256.json");
        Self(serde_json::from_str(text).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        hex(self.0[name].as_str().unwrap())
    }

    fn side(&self, side: &str) -> HandshakeState {
        let ephemeral = Fixed(Mutex::new(self.bytes(&format!("{side}_ephemeral"))));
        let secret = self.bytes(&format!("{side}_static"));
        let prologue = self.bytes(&format!("{side}_prologue"));
        let resolver = Resolver(Arc::new(ephemeral));
        let builder = Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(resolver))
            .local_private_key(&secret)
            .unwrap()
            .prologue(&prologue)
            .unwrap();
        if side == "init" { builder.build_initiator() } else { builder.build_responder() }.unwrap()
    }

    fn messages(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let messages = self.0["messages"].as_array().unwrap();
        let field = |message: &serde_json::Value, name: &str| hex(message[name].as_str().unwrap());
        messages.iter().map(|m| (field(m, "payload"), field(m, "ciphertext"))).collect()
    }
}

#[test]
fn noise_messages_are_the_published_ones() {
    let vector = Vector::load();
    let mut sides = [vector.side("init"), vector.side("resp")];
    let messages = vector.messages();
    let mut buffer = [0; 256];
    for (index, (payload, ciphertext)) in messages[..3].iter().enumerate() {
        let length = sides[index % 2].write_message(payload, &mut buffer).unwrap();
        assert_eq!(buffer[..length], ciphertext[..]);
        let length = sides[(index + 1) % 2].read_message(ciphertext, &mut buffer).unwrap();
        assert_eq!(buffer[..length], payload[..]);
    }
    let sides = sides.map(|side| {
        assert_eq!(side.get_handshake_hash(), vector.bytes("handshake_hash"));
        side.into_transport_mode().unwrap()
    });
    let [mut first, mut second] = sides;
    for (index, (payload, ciphertext)) in messages.iter().enumerate().skip(3) {
        let (from, to) =
            if index % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let length = from.write_message(payload, &mut buffer).unwrap();
        assert_eq!(buffer[..length], ciphertext[..]);
        let length = to.read_message(ciphertext, &mut buffer).unwrap();
        assert_eq!(buffer[..length], payload[..]);
    }
}

/// snow gives the split of the chaining key after the second message, and goes on unchanged.
/// Another program has computed the values. [NOISE-22]
#[test]
fn split_between_messages_is_that_of_the_chaining_key() {
    let vector = Vector::load();
    let mut sides = [vector.side("init"), vector.side("resp")];
    let mut buffer = [0; 256];
    for (index, (payload, ciphertext)) in vector.messages()[..3].iter().enumerate() {
        sides[index % 2].write_message(payload, &mut buffer).unwrap();
        sides[(index + 1) % 2].read_message(ciphertext, &mut buffer).unwrap();
        let expected = match index {
            0 => continue,
            1 => [
                "9bc827ec509a9afaff57c8db052f36171390f39d597fc09a15cb87670a7bb0ba",
                "963e6c48205dc055f8e42ced675dd565d2606111ab1bd6c53db1d2c48ae762d1",
            ],
            _ => [
                "3062fff068d0abd171b4b4603c5b7633bf5ee4e79da311370c2eba7f1ed6c69a",
                "cbabb3f5e4529fc0e93efda9b4b70169270c04b05c5be25f71e9c55f7955c86a",
            ],
        };
        for side in &mut sides {
            let (client, server) = side.dangerously_get_raw_split();
            assert_eq!([client, server].map(|secret| HEXLOWER.encode(&secret)), expected);
        }
    }
    assert_eq!(sides[0].get_handshake_hash(), vector.bytes("handshake_hash"));
}

/// RFC 9001 appendix A.1, with the salt of version 1. [NOISE-4]
#[test]
fn initial_keys_are_made_as_in_the_rfc() {
    let salt = hex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a");
    let destination = ConnectionId::new(&hex("8394c8f03e515708"));
    let [client, server] = initial_secrets(&salt, &destination);
    let expand = |secret: &[u8; 32], label: &str, length| {
        let mut out = vec![0; length];
        expand_label(secret, label.as_bytes(), &[], &mut out);
        HEXLOWER.encode(&out)
    };
    assert_eq!(expand(&client, "tls13 quic key", 16), "1f369613dd76d5467730efcbe3b1a22d");
    assert_eq!(expand(&client, "tls13 quic iv", 12), "fa044b2f42a3fd3b46fb255c");
    assert_eq!(expand(&client, "tls13 quic hp", 16), "9f50449e04a0e810283a1e9933adedd2");
    assert_eq!(expand(&server, "tls13 quic key", 16), "cf3a5331653c364c88f0f379b6067e37");
    assert_eq!(expand(&server, "tls13 quic iv", 12), "0ac1493ca1905853b0bba03e");
    assert_eq!(expand(&server, "tls13 quic hp", 16), "c206b8d9b9f0f37644430b490eeaa314");
}

/// RFC 9001 appendix A.4, with the key of version 1.
#[test]
fn retry_tag_is_made_as_in_the_rfc() {
    let retry = Retry::new(
        hex("be0c690b9f66575a1d766b54e368c84e").try_into().unwrap(),
        hex("461599d35d632bf2239825bb").try_into().unwrap(),
    );
    let original = ConnectionId::new(&hex("8394c8f03e515708"));
    let packet = hex("ff000000010008f067a5502a4262b5746f6b656e");
    let tag = hex("04a265ba2eff4d829058fb3f0f2496ba");
    assert_eq!(retry.tag(&original, &packet)[..], tag[..]);

    let (header, token) = packet.split_at(15);
    let payload = [token, &tag].concat();
    assert!(retry.is_valid(&original, header, &payload));
    for index in 0..payload.len() {
        let mut forged = payload.clone();
        forged[index] ^= 1;
        assert!(!retry.is_valid(&original, header, &forged));
    }
    for length in 0..16 {
        assert!(!retry.is_valid(&original, header, &payload[..length]));
    }
}

/// RFC 9001 appendix A.5. [NOISE-2] [NOISE-21]
#[test]
fn short_header_packet_is_the_published_one() {
    let key = hex("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8");
    let iv = Zeroizing::new(hex("e0459b3474bdd0e44a41c144").try_into().unwrap());
    let packet_key = PacketKey::new(&NOISE, &key, iv);
    let hp = hex("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4");
    let header_key = HeaderKey::new(&NOISE, &hp);
    let plain = hex("4200bff401");
    let sealed = hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb");

    let mut packet = plain.clone();
    packet.resize(plain.len() + packet_key.tag_len(), 0);
    packet_key.encrypt(654_360_564, &mut packet, 4);
    header_key.encrypt(1, &mut packet);
    assert_eq!(packet, sealed);

    header_key.decrypt(1, &mut packet);
    assert_eq!(packet[..4], plain[..4]);
    let mut payload = BytesMut::from(&packet[4..]);
    packet_key.decrypt(654_360_564, &packet[..4], &mut payload).unwrap();
    assert_eq!(&payload[..], [1]);
    assert!(
        packet_key.decrypt(654_360_565, &packet[..4], &mut BytesMut::from(&packet[4..])).is_err()
    );
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}
