//! What passes over the wire reveals nothing, and what arrives from it does no harm.

use std::{collections::BTreeMap, fs, net::UdpSocket};

use hark_keys::{Random, keystore};
use hark_node::random::SystemRandom;
use hark_tests::{Direction, Member, Relay, Scene};

/// Two members whose datagrams all pass through a relay.
struct Wired {
    kestrel: Member,
    wren: Member,
    relay: Relay,
    ticket: String,
}

impl Wired {
    fn lay(scene: &Scene) -> Self {
        let ticket = scene.found("Kestrel", "Nightingale watch");
        let kestrel = scene.talk("Kestrel").start();
        let relay = Relay::before(kestrel.address());
        let peer = relay.address().to_string();
        let talk = scene.talk("Wren").ticket(&ticket).transmit("ptt").speaking("english");
        let wren = talk.with(&["--peer", &peer]).start();
        kestrel.is_among(&[&wren]);
        wren.is_among(&[&kestrel]);
        Self { kestrel, wren, relay, ticket }
    }
}

/// Neither names nor secrets nor tickets can be read on the wire, and the sizes of voice datagrams
/// do not depend on the speech.
#[test]
fn nothing_is_given_away() {
    let scene = Scene::default();
    let Wired { kestrel, wren, relay, ticket } = Wired::lay(&scene);
    let quiet = relay.seen().len();
    wren.ctl(&["ptt", "down"]);
    kestrel.hears(&wren, 300);
    wren.ctl(&["ptt", "up"]);
    let seen = relay.seen();

    let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in ["Kestrel", "Wren", "Nightingale", "squad"] {
        secrets.push((name, name.as_bytes().to_vec()));
    }
    for member in ["Kestrel", "Wren"] {
        let organisations = scene.home(member).join("organisations");
        let folder = fs::read_dir(organisations).expect("there").next().expect("one");
        let path = folder.expect("it can be read").path().join("device.key");
        let text = fs::read_to_string(path).expect("a key file");
        let key = keystore::decode(&text, None).expect("a key");
        secrets.push(("a secret key", key.secret().as_ref().to_vec()));
        secrets.push(("a device", key.id().as_bytes().to_vec()));
    }
    for ticket in [&ticket, &kestrel.ticket()] {
        secrets.push(("a ticket", ticket.as_bytes()[..40].to_vec()));
        let text = ticket.strip_prefix("hark1").expect("a ticket").to_uppercase();
        let bits = data_of(&text);
        for part in bits.chunks_exact(16) {
            secrets.push(("a part of a ticket", part.to_vec()));
        }
    }
    assert!(seen.len() > quiet + 300, "the relay sees the speech");
    for (_, datagram) in &seen {
        for (name, secret) in &secrets {
            let shown = datagram.windows(secret.len()).any(|window| window == secret);
            assert!(!shown, "{name} in {datagram:x?}");
        }
    }

    // QUIC's packet numbers and acknowledgements add or remove some bytes.
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for (direction, datagram) in &seen[quiet..] {
        if *direction == Direction::In {
            *sizes.entry(datagram.len()).or_default() += 1;
        }
    }
    let (usual, _) = sizes.iter().max_by_key(|(_, count)| **count).expect("the relay sees speech");
    let near = sizes.range(usual - BOOKKEEPING..=usual + BOOKKEEPING);
    let voice: usize = near.map(|(_, count)| *count).sum();
    assert!(voice >= 300, "{sizes:?}");
    let larger: usize = sizes.range(usual + BOOKKEEPING + 1..).map(|(_, count)| *count).sum();
    assert!(larger * 20 <= voice, "{sizes:?}");
}

/// The bytes of a datagram that belong to QUIC and whose number varies.
const BOOKKEEPING: usize = 8;

/// Strangers send garbage, and datagrams that were cut, changed and repeated, also as if they came
/// from the talker. No member crashes, and the talker is still heard.
#[test]
fn garbage_does_no_harm() {
    let scene = Scene::default();
    let Wired { mut kestrel, mut wren, relay, .. } = Wired::lay(&scene);
    wren.ctl(&["ptt", "down"]);
    kestrel.hears(&wren, 100);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let target = kestrel.address();
    let received = kestrel.received(&wren);
    for round in 0..ROUNDS {
        // One round for each datagram of speech, which is no more than the port can handle.
        let seen = relay.wait_beyond(relay.seen().len());
        let (_, real) = &seen[round * seen.len() / ROUNDS];
        let mut garbage = vec![0; round * 1_500 / ROUNDS];
        SystemRandom.fill(&mut garbage);
        let mut changed = real.clone();
        changed[round % real.len()] ^= 1 << (round % 8);
        let mut like_quic = garbage.clone();
        let start = real.len().min(garbage.len()).min(12);
        like_quic[..start].copy_from_slice(&real[..start]);
        for datagram in [real, &changed, &real[..round % real.len()], &garbage[..], &like_quic] {
            relay.inject(datagram);
            stranger.send_to(datagram, target).expect("loopback takes it");
        }
    }
    kestrel.receives(&wren, received + ROUNDS as u64 + 200);
    kestrel.has_concealed_little(&wren);
    for (one, other) in [(&kestrel, &wren), (&wren, &kestrel)] {
        assert_eq!((one.count("peer_up", other), one.count("peer_down", other)), (1, 0));
    }
    wren.leave();
    kestrel.leave();
    kestrel.has_heard(&wren, 4);
}

/// How many datagrams of speech are followed by garbage.
const ROUNDS: usize = 300;

fn data_of(text: &str) -> Vec<u8> {
    let mut bits = (0_u32, 0);
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter);
        bits = (bits.0 << 5 | value.expect("tickets are base32") as u32, bits.1 + 5);
        if bits.1 >= 8 {
            bits.1 -= 8;
            bytes.push((bits.0 >> bits.1) as u8);
        }
    }
    bytes
}
