use std::sync::Arc;

use hark_keys::{
    fast::{self, Kind},
    noise::{QUIC_VERSION, client_config, server_config},
};
use quinn_proto::{
    ConnectionId, Side,
    crypto::{HeaderKey, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};
use serde_json::{Value, json};

use crate::{Noted, hex, hold_to, key};

/// Transport parameters as a peer sends them: `initial_max_data` and nothing else.
fn parameters(limit: u8) -> TransportParameters {
    TransportParameters::read(Side::Client, &mut &[0x04, 0x01, limit][..]).unwrap()
}

fn written(session: &mut dyn Session) -> (Vec<u8>, Option<Keys>) {
    let mut bytes = Vec::new();
    let keys = session.write_handshake(&mut bytes);
    (bytes, keys)
}

/// A packet with a short or a long header, and with a packet number of two bytes.
fn packet(
    header: &[u8],
    number: u16,
    key: &dyn PacketKey,
    header_key: &dyn HeaderKey,
) -> (Vec<u8>, usize) {
    let at = header.len();
    let payload = b"twenty bytes or more of payload";
    let mut packet = [header, &number.to_be_bytes(), payload].concat();
    packet.resize(packet.len() + key.tag_len(), 0);
    key.encrypt(number.into(), &mut packet, at + 2);
    header_key.encrypt(at, &mut packet);
    (packet, at)
}

fn described(
    name: &str,
    header: &[u8],
    number: u16,
    key: &dyn PacketKey,
    hp: &dyn HeaderKey,
) -> Value {
    let (packet, at) = packet(header, number, key, hp);
    json!({
        "keys": name,
        "number": number,
        "number at": at,
        "packet": hex(packet),
        "payload": hex(b"twenty bytes or more of payload"),
    })
}

fn both(name: &str, header: &[u8], client: &Keys) -> [Value; 2] {
    let KeyPair { local, remote } = &client.packet;
    [
        described(&format!("client {name}"), header, 513, &**local, &*client.header.local),
        described(&format!("server {name}"), header, 514, &**remote, &*client.header.remote),
    ]
}

/// A handshake, the exporter secrets of both ends, and packets under all keys. [NOISE-5] [NOISE-6]
/// [NOISE-8] [NOISE-22] [NOISE-23] [NOISE-24] [NOISE-25]
#[test]
fn noise() {
    let (client_draws, server_draws) = (Arc::new(Noted::new(1)), Arc::new(Noted::new(2)));
    let (client_key, server_key) = (key(1), key(2));
    let client = client_config(&client_key, client_draws.clone(), Some(server_key.id()));
    let mut client = client.start_session(QUIC_VERSION, "", &parameters(33)).unwrap();
    let server_end = server_config(&server_key, server_draws.clone());
    let mut server = server_end.clone().start_session(QUIC_VERSION, &parameters(44));

    let (first, _) = written(&mut *client);
    server.read_handshake(&first).unwrap();
    let (second, handshake) = written(&mut *server);
    let (tail, _) = written(&mut *server);
    client.read_handshake(&second).unwrap();
    let (_, clients) = written(&mut *client);
    client.read_handshake(&tail).unwrap();
    let (third, one_rtt) = written(&mut *client);
    server.read_handshake(&third).unwrap();
    assert!(handshake.is_some() && !client.is_handshaking() && !server.is_handshaking());

    let long = [0xe1, 0x48, 0x41, 0x52, 0x4b, 0, 0];
    let short = [0x41, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut packets = Vec::new();
    let destination = ConnectionId::new(&[8, 7, 6, 5, 4, 3, 2, 1]);
    let initial = client.initial_keys(&destination, Side::Client);
    packets.extend(both("initial", &long, &initial));
    packets.extend(both("handshake", &long, &clients.unwrap()));
    let one_rtt = one_rtt.unwrap();
    packets.extend(both("traffic", &short, &one_rtt));
    let mut exports = Vec::new();
    for (label, context, length) in
        [(&b"hark hello"[..], &b""[..], 32), (b"label", b"context", 40), (b"hark fast", b"", 72)]
    {
        let mut exported = [vec![0; length], vec![0; length]];
        client.export_keying_material(&mut exported[0], label, context).unwrap();
        server.export_keying_material(&mut exported[1], label, context).unwrap();
        assert_eq!(exported[0], exported[1]);
        exports.push(json!({
            "label": str::from_utf8(label).unwrap(),
            "context": hex(context),
            "bytes": hex(&exported[0]),
        }));
    }
    let next = client.next_1rtt_keys().unwrap();
    packets.push(described("client next", &short, 515, &*next.local, &*one_rtt.header.local));
    packets.push(described("server next", &short, 516, &*next.remote, &*one_rtt.header.remote));

    let messages = [first, second, tail, third].map(hex);
    let retry = [&long[..], b"token"].concat();
    let tag = server_end.retry_tag(QUIC_VERSION, &destination, &retry);
    hold_to(
        "noise",
        &[json!({
            "client device": hex(client_key.id().as_bytes()),
            "server device": hex(server_key.id().as_bytes()),
            "client drawn": client_draws.drawn().iter().map(hex).collect::<Vec<_>>(),
            "server drawn": server_draws.drawn().iter().map(hex).collect::<Vec<_>>(),
            "messages": messages,
            "destination": hex(&destination[..]),
            "exports": exports,
            "packets": packets,
            "retry": { "packet": hex(&retry), "tag": hex(tag) },
        })],
    );
}

/// Packets in both directions, under three generations of keys. [PROTO-8.2] [PROTO-8.3] [PROTO-8.4]
#[test]
fn fast_path() {
    let exported: [u8; 72] = std::array::from_fn(|place| place as u8);
    let (mut dialler, _) = fast::keys(&exported, true);
    let (mut listener, _) = fast::keys(&exported, false);
    let mut packets = Vec::new();
    for generation in 0..3 {
        for (end, sealer) in [("dialler", &mut dialler), ("listener", &mut listener)] {
            for (kind, payload) in [
                (Kind::Datagram, &b"a datagram"[..]),
                (Kind::Probe, b"tokentok"),
                (Kind::Answer, b"tokentok"),
                (Kind::Notice, b""),
                (Kind::Heartbeat, &[0, 0, 0, 9]),
            ] {
                let mut packet = vec![0; payload.len() + fast::OVERHEAD];
                let number = sealer.sealed();
                let length = sealer.seal(kind, payload, &mut packet);
                packets.push(json!({
                    "from": end,
                    "generation": generation,
                    "kind": kind as u8,
                    "number": number,
                    "payload": hex(payload),
                    "packet": hex(&packet[..length]),
                }));
            }
            sealer.renew();
        }
    }
    hold_to("fast_path", &[json!({ "exported": hex(exported), "packets": packets })]);
}
