use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

/// Both halves of one end, from bytes 0 to 71 instead of what a link exports.
fn ends(dialled: bool) -> (Sealer, Opener) {
    keys(&std::array::from_fn(|byte| u8::try_from(byte).unwrap()), dialled)
}

fn sealed(sealer: &mut Sealer, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xee; payload.len() + OVERHEAD + 3];
    let length = sealer.seal(kind, payload, &mut packet);
    packet.truncate(length);
    packet
}

fn opened(opener: &mut Opener, packet: &[u8]) -> Result<(Kind, Vec<u8>), Refused> {
    let mut packet = packet.to_vec();
    opener.open(&mut packet).map(|(kind, payload)| (kind, payload.to_vec()))
}

/// [PROTO-8.1] [PROTO-8.2] [PROTO-8.4] The values of docs/protocol.md, which another program has
/// computed.
#[test]
fn packets_are_the_published_ones() {
    let (mut dialler, _) = ends(true);
    let hex = |packet: Vec<u8>| HEXLOWER.encode(&packet);
    assert_eq!(
        hex(sealed(&mut dialler, Kind::Datagram, b"hark")),
        "20404142430000000005e1cae01cb91ce8d9690a3eab60409240d785b8"
    );
    assert_eq!(
        hex(sealed(&mut dialler, Kind::Probe, b"tokentok")),
        "214041424300000001b2fd712a002e036a0755c86b7ff0991726da327c0364a45b"
    );
    dialler.renew();
    assert_eq!(
        hex(sealed(&mut dialler, Kind::Datagram, b"hark")),
        "284041424300000002516303b23a0117eda46d12eb7e128e100109170f"
    );
    let (mut listener, _) = ends(false);
    assert_eq!(
        hex(sealed(&mut listener, Kind::Answer, b"tokentok")),
        "2244454647000000007e99feb740191d3670987dae30d9e8e607d14f1321c30cb0"
    );
}

#[test]
fn each_side_opens_what_the_other_seals() {
    let ((mut dialler, mut from_listener), (mut listener, mut from_dialler)) =
        (ends(true), ends(false));
    for kind in KINDS {
        let packet = sealed(&mut dialler, kind, b"to the listener");
        assert_eq!(index_of(&packet), Some(from_dialler.index()));
        assert_eq!(opened(&mut from_dialler, &packet), Ok((kind, b"to the listener".to_vec())));
        let packet = sealed(&mut listener, kind, b"");
        assert_eq!(opened(&mut from_listener, &packet), Ok((kind, Vec::new())));
        // A packet that is sent back to its sender is not for that end.
        assert_eq!(opened(&mut from_dialler, &packet), Err(Refused::Malformed));
    }
    assert_eq!((dialler.sealed(), listener.sealed()), (5, 5));
    assert_eq!((from_dialler.next(), from_listener.next()), (5, 5));
}

/// [PROTO-8.5]
#[test]
fn a_packet_opens_once_in_any_order() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    let packets: Vec<_> =
        (0_u16..3_000).map(|it| sealed(&mut dialler, Kind::Datagram, &it.to_be_bytes())).collect();
    for number in (0..1_024).rev().chain(1_024..2_990) {
        assert!(opened(&mut opener, &packets[number]).is_ok(), "{number}");
    }
    for packet in &packets[..2_990] {
        assert_eq!(opened(&mut opener, packet), Err(Refused::Replayed));
    }
    assert!(opened(&mut opener, &packets[2_999]).is_ok());
    assert!(opened(&mut opener, &packets[2_995]).is_ok());
}

/// [PROTO-8.5] A forgery changes neither the window nor the keys.
#[test]
fn forgeries_move_nothing() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    let first = sealed(&mut dialler, Kind::Datagram, b"first");
    let second = sealed(&mut dialler, Kind::Datagram, b"second");
    for counter in [0_u32, 1, 2, 5_000, 1 << 22, (1 << 22) + 9, 1 << 23, u32::MAX] {
        for phase in [0, PHASE] {
            let mut forged = first.clone();
            forged[0] ^= phase;
            forged[5..9].copy_from_slice(&counter.to_be_bytes());
            forged[12] ^= 1;
            assert_eq!(opened(&mut opener, &forged), Err(Refused::Forged), "{counter}");
        }
    }
    for place in 0..first.len() {
        let mut forged = first.clone();
        forged[place] ^= 0x80;
        assert!(opened(&mut opener, &forged).is_err(), "byte {place}");
        // Only a packet of the other end can be of another kind.
        let mut forged = first.clone();
        forged[0] ^= 1;
        assert_eq!(opened(&mut opener, &forged), Err(Refused::Forged));
    }
    assert_eq!(opened(&mut opener, &second), Ok((Kind::Datagram, b"second".to_vec())));
    assert_eq!(opened(&mut opener, &first), Ok((Kind::Datagram, b"first".to_vec())));
}

/// [PROTO-8.4] The limit holds however many packets are lost.
#[test]
fn a_key_seals_no_more_than_its_share() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    for generation in 1..1_030_u64 {
        dialler.counter = dialler.end - 1;
        let last = sealed(&mut dialler, Kind::Datagram, b"last");
        assert_eq!(dialler.counter, generation * GENERATION);
        let first = sealed(&mut dialler, Kind::Datagram, b"first");
        assert_eq!((last[0] ^ first[0], dialler.phase == 0), (PHASE, generation % 2 == 0));
        for packet in [last, first] {
            assert!(opened(&mut opener, &packet).is_ok(), "generation {generation}");
        }
        assert_eq!(opener.phase, dialler.phase);
    }
}

/// [PROTO-8.4] [PROTO-8.20] A packet sealed before a change of keys, and overtaken by one sealed
/// after it, is not lost.
#[test]
fn no_packet_is_lost_where_keys_change() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    for _ in 0..20 {
        let mut packets: Vec<_> =
            (0..100).map(|_| sealed(&mut dialler, Kind::Datagram, b"before")).collect();
        dialler.renew();
        packets.extend((0..100).map(|_| sealed(&mut dialler, Kind::Datagram, b"after")));
        // Each packet of the former generation is overtaken by each of the new one.
        packets.rotate_left(50);
        for packet in &packets {
            assert!(opened(&mut opener, packet).is_ok());
        }
        for packet in &packets {
            assert_eq!(opened(&mut opener, packet), Err(Refused::Replayed));
        }
        opener.pass_second();
    }
}

/// [PROTO-8.4] No key that is left a minute later opens a recorded packet that never arrived,
/// whether packets go on or not.
#[test]
fn recorded_packets_do_not_open_a_minute_later() {
    for goes_on in [true, false] {
        let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
        assert!(opened(&mut opener, &sealed(&mut dialler, Kind::Heartbeat, b"1234")).is_ok());
        let recorded = sealed(&mut dialler, Kind::Datagram, b"a sentence");
        for second in 0..60 {
            opener.pass_second();
            if second % 20 == 10 {
                dialler.renew();
            }
            let heartbeat = sealed(&mut dialler, Kind::Heartbeat, b"1234");
            if goes_on || second == 0 {
                assert!(opened(&mut opener, &heartbeat).is_ok(), "second {second}");
            }
        }
        assert!(opened(&mut opener, &recorded).is_err());
        // The packet is not refused only by its number: no key is left that opens it.
        for key in opener.keys.iter().flatten() {
            let (header, sealed) = recorded.split_at(HEADER_LENGTH);
            let nonce = key.nonce(1);
            let (aad, mut sealed) = (aead::Aad::from(header), sealed.to_vec());
            assert!(key.cipher.open_in_place(nonce, aad, &mut sealed).is_err());
        }
    }
}

/// [PROTO-8.4] If the path fails, both ends go to the next generation by their own clocks and stay
/// in step. If the path has not been used yet, neither does.
#[test]
fn both_ends_are_in_step_after_a_silence() {
    for (used, silence) in [(true, 35), (true, 70), (true, 10_000), (false, 10_000)] {
        for offset in 0..20 {
            let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
            let first = if used { Kind::Heartbeat } else { Kind::Probe };
            assert!(opened(&mut opener, &sealed(&mut dialler, first, b"tokentok")).is_ok());
            for second in 0..silence {
                opener.pass_second();
                if second % 20 == offset {
                    dialler.renew();
                }
                // The sender notices only later that nothing arrives. From then on it sends only
                // probes.
                let kind = if used && second < 5 { Kind::Datagram } else { Kind::Probe };
                let _lost = sealed(&mut dialler, kind, b"tokentok");
            }
            let probe = sealed(&mut dialler, Kind::Probe, b"tokentok");
            assert!(opened(&mut opener, &probe).is_ok(), "{silence} s, {offset}");
            for _ in 0..100 {
                dialler.renew();
                let packet = sealed(&mut dialler, Kind::Datagram, b"again");
                assert!(opened(&mut opener, &packet).is_ok());
            }
        }
    }
}

#[test]
fn what_is_too_short_or_too_long_or_of_no_kind_is_refused() {
    let (_, mut opener) = ends(false);
    for length in [0, 1, 8, 9, 24, PACKET_MAX + 1, 65_000] {
        let packet = vec![Kind::Datagram as u8; length];
        assert_eq!(index_of(&packet), None);
        assert_eq!(opened(&mut opener, &packet), Err(Refused::Malformed));
    }
    for first in (0..=u8::MAX).filter(|first| !(0x20..=0x24).contains(&(first & !PHASE))) {
        assert_eq!(index_of(&[first; 60]), None);
    }
    assert_eq!(index_of(&[0x22; PACKET_MAX]), Some(0x2222_2222));
}

/// [PROTO-8.1] QUIC packets of Hark never look like fast packets.
#[test]
fn kinds_leave_out_the_bits_of_quic() {
    for kind in KINDS {
        assert!((kind as u8) < 0x40 && PHASE < 0x40);
        assert_eq!(kind as u8 & PHASE, 0);
    }
}

const KINDS: [Kind; 5] = [Kind::Datagram, Kind::Probe, Kind::Answer, Kind::Notice, Kind::Heartbeat];

proptest! {
    #[test]
    fn any_payload_comes_back(payload in prop::collection::vec(any::<u8>(), 0..PAYLOAD_MAX)) {
        let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
        let packet = sealed(&mut dialler, Kind::Datagram, &payload);
        prop_assert_eq!(packet.len(), payload.len() + OVERHEAD);
        prop_assert_eq!(opened(&mut opener, &packet), Ok((Kind::Datagram, payload)));
    }

    #[test]
    fn any_bytes_are_refused(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut opener) = ends(false);
        prop_assert!(opened(&mut opener, &packet).is_err());
    }
}
