use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

/// Bytes 0 to 71 in place of what a link exports.
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

/// [PROTO-8.1] [PROTO-8.2] [PROTO-8.4] The values of docs/protocol.md, which were computed by
/// another program.
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
    dialler.counter = GENERATION;
    assert_eq!(
        hex(sealed(&mut dialler, Kind::Datagram, b"hark")),
        "204041424300400000bf89de76659e5460f2a855c17d7aa372eb9ec734"
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
        // What is sent back to its sender is for nobody.
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

/// [PROTO-8.5] A forgery moves neither the window nor the keys.
#[test]
fn forgeries_move_nothing() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    let first = sealed(&mut dialler, Kind::Datagram, b"first");
    let second = sealed(&mut dialler, Kind::Datagram, b"second");
    for counter in [0_u32, 1, 2, 5_000, 1 << 22, (1 << 22) + 9, 1 << 23, u32::MAX] {
        let mut forged = first.clone();
        forged[5..9].copy_from_slice(&counter.to_be_bytes());
        forged[12] ^= 1;
        assert_eq!(opened(&mut opener, &forged), Err(Refused::Forged), "{counter}");
    }
    for place in 0..first.len() {
        let mut forged = first.clone();
        forged[place] ^= 0x80;
        assert!(opened(&mut opener, &forged).is_err(), "byte {place}");
        // Only ours may call itself something else.
        let mut forged = first.clone();
        forged[0] ^= 1;
        assert_eq!(opened(&mut opener, &forged), Err(Refused::Forged));
    }
    assert_eq!(opened(&mut opener, &second), Ok((Kind::Datagram, b"second".to_vec())));
    assert_eq!(opened(&mut opener, &first), Ok((Kind::Datagram, b"first".to_vec())));
}

/// [PROTO-8.4]
#[test]
fn keys_go_on_with_both_ends_and_old_ones_are_forgotten() {
    let ((mut dialler, _), (_, mut opener)) = (ends(true), ends(false));
    dialler.counter = GENERATION - 3;
    let packets: Vec<_> = (0..3_000).map(|_| sealed(&mut dialler, Kind::Datagram, b"x")).collect();
    assert!(opened(&mut opener, &packets[0]).is_ok());
    // The first one of the new generation overtakes the last two of the old.
    assert!(opened(&mut opener, &packets[3]).is_ok());
    assert!(opened(&mut opener, &packets[2]).is_ok());
    assert_eq!(opened(&mut opener, &packets[2]), Err(Refused::Replayed));
    assert!(opener.previous.is_some());
    assert!(opened(&mut opener, &packets[2_999]).is_ok());
    assert!(opener.previous.is_none(), "nothing of the old generation would be taken");
    assert_eq!(opened(&mut opener, &packets[1]), Err(Refused::Replayed));

    // A whole lifetime later, with the wire's 32 bits gone round.
    for generation in 2..1_030 {
        dialler.counter = generation * GENERATION;
        let packet = sealed(&mut dialler, Kind::Datagram, b"late");
        assert!(opened(&mut opener, &packet).is_ok(), "generation {generation}");
        assert_eq!(opener.generation, generation);
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
    for kind in (0..=u8::MAX).filter(|kind| !(0x20..=0x24).contains(kind)) {
        assert_eq!(index_of(&[kind; 60]), None);
    }
    assert_eq!(index_of(&[0x22; PACKET_MAX]), Some(0x2222_2222));
}

/// [PROTO-8.1] QUIC packets of ours never look like ours of this kind.
#[test]
fn kinds_leave_out_the_bits_of_quic() {
    for kind in KINDS {
        assert!((kind as u8) < 0x40);
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
