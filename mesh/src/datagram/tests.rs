use proptest::{collection::vec, prelude::*};

use super::*;
use hark_keys::{DeviceKey, FrameNumber};

#[test]
fn layouts_are_those_of_the_protocol() {
    let mut out = Vec::new();
    Voice::encode([1, 2, 3, 4], 0x0506, [&[7u8, 8][..], &[9]], &mut out);
    assert_eq!(out, [1, 1, 2, 3, 4, 5, 6, 1, 0, 2, 7, 8, 0, 1, 9]);
    let report = Report {
        target_tag: [1, 2, 3, 4],
        highest_sequence: 0x0506,
        received: 0x0708,
        lost: 0x090a,
        longest_burst: 11,
        jitter: 0x0c0d,
        wanted_copies: 5,
    };
    out.clear();
    report.encode(&mut out);
    assert_eq!(out, [2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 5]);
    out.clear();
    Heartbeat { number: 0x0102_0304 }.encode(&mut out);
    assert_eq!(out, [3, 1, 2, 3, 4]);
    out.clear();
    let relay = DeviceKey::from_secret(&[1; 32]).id();
    let account = Account {
        relay,
        target_tag: [1, 2, 3, 4],
        highest_sequence: 0x0506,
        received: 0x0708,
        lost: 0x090a,
        spoilt: 0x0b0c,
    };
    account.encode(&mut out);
    assert_eq!(out[..33], [&[13], &relay.as_bytes()[..]].concat());
    assert_eq!(out[33..], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(Datagram::parse(&out), Ok(Datagram::Account(account)));
    assert_eq!(Datagram::parse(&[&out[..], &[0]].concat()), Err(DropReason::TooLong));
    assert_eq!(Datagram::parse(&out[..44]), Err(DropReason::TooShort));
    out.clear();
    let frame = FrameNumber { key: 0x05_0607_0809, counter: 0x0a0b };
    let question = Question { target_tag: [1, 2, 3, 4], frame };
    question.encode(&mut out);
    assert_eq!(out, [14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(Datagram::parse(&out), Ok(Datagram::Question(question)));
    let header = FrameHeader { first: true, last: false, talkspurt: 9, media_time: 0x0102_0304 };
    assert_eq!(header.to_bytes(), [0x91, 1, 2, 3, 4]);
}

#[test]
fn what_breaks_the_layout_is_dropped_with_its_reason() {
    let parse = |bytes: &[u8]| Datagram::parse(bytes).unwrap_err();
    assert_eq!(parse(&[]), DropReason::TooShort);
    assert_eq!(parse(&[9, 1]), DropReason::UnknownKind);
    assert_eq!(DropReason::UnknownKind.fault(), Fault::Version);
    assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 6]), DropReason::TooManyCopies);
    assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), DropReason::EmptyFrame);
    assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]), DropReason::TooShort);
    assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]), DropReason::TooLong);
    assert_eq!(parse(&[3, 0, 0, 0, 0, 0]), DropReason::TooLong);
    assert_eq!(parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]), DropReason::TooManyCopies);
    assert_eq!(FrameHeader::parse(&[4, 0, 0, 0, 0, 1]), Err(DropReason::UnknownFlags));
    assert_eq!(FrameHeader::parse(&[1, 0, 0, 0, 0]), Err(DropReason::EmptyFrame));
}

proptest! {
    #[test]
    fn voice_comes_back(
        tag in any::<[u8; 4]>(),
        sequence in any::<u16>(),
        frames in vec(vec(any::<u8>(), 1..200), 1..=FRAMES_MAX),
    ) {
        let mut out = Vec::new();
        Voice::encode(tag, sequence, frames.iter().map(Vec::as_slice), &mut out);
        let Ok(Datagram::Voice(voice)) = Datagram::parse(&out) else {
            return Err(TestCaseError::fail("voice parses as voice"));
        };
        prop_assert_eq!((voice.target_tag, voice.sequence), (tag, sequence));
        prop_assert_eq!(voice.frames.to_vec(), frames);
    }

    /// [PROTO-7.5]
    #[test]
    fn headers_come_back(
        first in any::<bool>(),
        last in any::<bool>(),
        talkspurt in 0..16u8,
        media_time in any::<u32>(),
        packet in vec(any::<u8>(), 1..100),
    ) {
        let header = FrameHeader { first, last, talkspurt, media_time };
        let plaintext = [&header.to_bytes()[..], &packet].concat();
        prop_assert_eq!(FrameHeader::parse(&plaintext), Ok((header, &packet[..])));
    }

    /// [PROTO-1.4]
    #[test]
    fn any_bytes_parse_to_what_encodes_to_them(
        kind in 0..5u8,
        rest in vec(prop_oneof![0..4u8, any::<u8>()], 0..40),
    ) {
        let bytes = [&[kind], &rest[..]].concat();
        let mut out = Vec::new();
        match Datagram::parse(&bytes) {
            Ok(Datagram::Voice(voice)) => Voice::encode(
                voice.target_tag,
                voice.sequence,
                voice.frames.iter().copied(),
                &mut out,
            ),
            Ok(Datagram::Report(report)) => report.encode(&mut out),
            Ok(Datagram::Heartbeat(heartbeat)) => heartbeat.encode(&mut out),
            Ok(Datagram::Account(account)) => account.encode(&mut out),
            Ok(Datagram::Question(question)) => question.encode(&mut out),
            // Only its talker can write it.
            Ok(Datagram::Proof(_)) => return Ok(()),
            Err(_) => return Ok(()),
        }
        prop_assert_eq!(out, bytes);
    }
}

#[test]
fn layouts_of_relays_are_those_of_the_protocol() {
    let slot = Slot::new(0x0102).unwrap();
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let frames = || [&[7u8, 8][..], &[9]];
    let forward = encoded(&|out| Forward::encode(77, [1, 2, 3, 4], 0x0506, frames(), out));
    assert_eq!(forward, [4, 77, 1, 2, 3, 4, 5, 6, 1, 0, 2, 7, 8, 0, 1, 9]);
    let forwarded = encoded(&|out| Forwarded::encode(slot, [1, 2, 3, 4], 0x0506, frames(), out));
    assert_eq!(forwarded, [5, 1, 2, 1, 2, 3, 4, 5, 6, 1, 0, 2, 7, 8, 0, 1, 9]);
    // How a relay turns one into the other.
    let mut made = Vec::new();
    Forwarded::begin(slot, &forward[Forward::BODY_AT..], &mut made);
    assert_eq!(made, forwarded);
    assert_eq!(forwarded[Forwarded::HEADER..], [0, 2, 7, 8, 0, 1, 9]);
    assert_eq!(forwarded[Forwarded::COPIES_AT], 1);
    let tunnel = encoded(&|out| Tunnel { slot, packet: &[64, 3] }.encode(out));
    assert_eq!(tunnel, [6, 1, 2, 64, 3]);
    let bundle = encoded(&|out| {
        Bundle::begin(out);
        Bundle::put(&[5, 0, 1, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9], out);
        Bundle::put(&forwarded, out);
    });
    let parts = [&[7, 0, 12, 0, 1, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9, 0, 16][..], &forwarded[1..]];
    assert_eq!(bundle, parts.concat());
    let Ok(FromRelay::Bundle(parsed)) = FromRelay::parse(&bundle) else { panic!("a bundle") };
    let slots: Vec<_> = parsed.iter().map(|it| (it.slot.number(), it.voice.frames.len())).collect();
    assert_eq!(slots, [(1, 1), (0x0102, 2)]);
    let seen = Seen {
        target_tag: [1, 2, 3, 4],
        highest_sequence: 0x0506,
        received: 0x0708,
        lost: 0x090a,
        wanted_copies: 5,
    };
    let seen = encoded(&|out| seen.encode(out));
    assert_eq!(seen, [8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5]);
    let pulse = encoded(&|out| Pulse::encode([(slot, 3), (Slot::new(4).unwrap(), 0x0506)], out));
    assert_eq!(pulse, [9, 2, 1, 2, 0, 3, 0, 4, 5, 6]);
    let report = Report { jitter: 0x0304, wanted_copies: 2, ..Report::default() };
    let report = encoded(&|out| ForwardedReport { slot, report }.encode(out));
    assert_eq!(report, [10, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 2]);
}

#[test]
fn what_breaks_the_layout_of_a_relay_is_dropped_with_its_reason() {
    let up = |bytes: &[u8]| FromMember::parse(bytes).unwrap_err();
    let down = |bytes: &[u8]| FromRelay::parse(bytes).unwrap_err();
    assert_eq!((up(&[]), down(&[])), (DropReason::TooShort, DropReason::TooShort));
    // Each end accepts only its own part; kind 6 is used in both directions.
    for kind in [1, 2, 3, 5, 7, 8, 9, 11, 13] {
        assert_eq!(up(&[kind, 0, 1, 9]), DropReason::UnknownKind);
    }
    for kind in [1, 2, 3, 4, 10, 13] {
        assert_eq!(down(&[kind, 0, 1, 9]), DropReason::UnknownKind);
    }
    assert_eq!(up(&[4, 128, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9]), DropReason::UnknownFlags);
    assert_eq!(up(&[4, 127, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9, 9]), DropReason::TooLong);
    let forward = |bytes: usize| {
        let mut out = Vec::new();
        Forward::encode(1, [1; 4], 1, [&vec![9; bytes - 11][..]], &mut out);
        out
    };
    assert!(FromMember::parse(&forward(FORWARD_MAX_BYTES)).is_ok());
    assert_eq!(up(&forward(FORWARD_MAX_BYTES + 1)), DropReason::TooMuch);
    assert_eq!(up(&[6, 0, 0, 9]), DropReason::UnknownSlot);
    assert_eq!(up(&[6, 0, 1]), DropReason::TooShort);
    let tunnel = |bytes: usize| [&[6, 0, 1][..], &vec![9; bytes]].concat();
    assert!(FromMember::parse(&tunnel(TUNNEL_MAX_BYTES)).is_ok());
    assert_eq!(up(&tunnel(TUNNEL_MAX_BYTES + 1)), DropReason::TooMuch);
    assert_eq!(up(&[&[10, 0, 1][..], &[0; 13], &[6]].concat()), DropReason::TooManyCopies);
    assert_eq!(down(&[5, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9]), DropReason::UnknownSlot);
    assert_eq!(down(&[7]), DropReason::TooShort);
    assert_eq!(down(&[7, 0, 2, 0, 1]), DropReason::TooShort);
    let part = [0, 12, 0, 1, 1, 2, 3, 4, 5, 6, 0, 0, 1, 9];
    let bundle = |parts: usize| [&[7][..], &part.repeat(parts)].concat();
    assert!(FromRelay::parse(&bundle(BUNDLE_FRAMES_MAX)).is_ok());
    assert_eq!(down(&bundle(BUNDLE_FRAMES_MAX + 1)), DropReason::TooMuch);
    assert_eq!(down(&[&bundle(2)[..], &[0]].concat()), DropReason::TooShort);
    assert_eq!(down(&[8, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 6]), DropReason::TooManyCopies);
    assert_eq!(down(&[9, 33]), DropReason::TooMuch);
    assert_eq!(down(&[9, 1, 0, 0, 0, 1]), DropReason::UnknownSlot);
    assert_eq!(down(&[9, 1, 0, 1, 0, 1, 0]), DropReason::TooLong);
}

proptest! {
    #[test]
    fn any_bytes_between_member_and_relay_parse_to_what_encodes_to_them(
        kind in 4..13u8,
        rest in vec(prop_oneof![3 => 0..4u8, 1 => any::<u8>()], 0..60),
    ) {
        let bytes = [&[kind], &rest[..]].concat();
        if let Some(out) = encoded_again(&bytes) {
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn bundles_come_back(
        parts in vec((1..=u16::MAX, any::<u16>(), vec(vec(any::<u8>(), 1..60), 1..=6)), 1..33),
    ) {
        let mut bundle = Vec::new();
        Bundle::begin(&mut bundle);
        for (slot, sequence, frames) in &parts {
            let mut part = Vec::new();
            let frames = frames.iter().map(Vec::as_slice);
            Forwarded::encode(Slot::new(*slot).unwrap(), [7; 4], *sequence, frames, &mut part);
            Bundle::put(&part, &mut bundle);
        }
        let parsed = Bundle::parse(&bundle).unwrap();
        let parsed: Vec<_> = parsed
            .iter()
            .map(|it| (it.slot.number(), it.voice.sequence, it.voice.frames.iter().map(|it| it.to_vec()).collect()))
            .collect();
        prop_assert_eq!(parsed, parts);
        prop_assert_eq!(encoded_again(&bundle), Some(bundle));
    }
}

fn encoded_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match FromMember::parse(bytes) {
        Ok(FromMember::Forward(Forward { level, voice })) => {
            let frames = voice.frames.iter().copied();
            Forward::encode(level, voice.target_tag, voice.sequence, frames, &mut out);
        }
        Ok(FromMember::Tunnel(tunnel)) => tunnel.encode(&mut out),
        Ok(FromMember::Report(report)) => report.encode(&mut out),
        Ok(FromMember::Knock(knock)) => knock.encode(&mut out),
        Err(_) => {}
    }
    if !out.is_empty() {
        return Some(out);
    }
    let forwarded = |Forwarded { slot, voice }: Forwarded<'_>, out: &mut Vec<u8>| {
        let frames = voice.frames.iter().copied();
        Forwarded::encode(slot, voice.target_tag, voice.sequence, frames, out);
    };
    match FromRelay::parse(bytes).ok()? {
        FromRelay::Forwarded(it) => forwarded(it, &mut out),
        FromRelay::Tunnel(tunnel) => tunnel.encode(&mut out),
        FromRelay::Bundle(bundle) => {
            Bundle::begin(&mut out);
            for part in bundle.iter() {
                let mut datagram = Vec::new();
                forwarded(part, &mut datagram);
                Bundle::put(&datagram, &mut out);
            }
        }
        FromRelay::Seen(seen) => seen.encode(&mut out),
        FromRelay::Pulse(pulse) => Pulse::encode(pulse.iter(), &mut out),
        FromRelay::Introduction(introduction) => introduction.encode(&mut out),
        FromRelay::Knock(knock) => knock.encode(&mut out),
    }
    Some(out)
}

/// [PROTO-10.9] [PROTO-10.25]
#[test]
fn talk_proofs_are_those_of_the_protocol() {
    let key = DeviceKey::from_secret(&[1; 32]);
    let first = FrameNumber { key: 0x05_0607_0809, counter: 0x0a0b };
    let frames = [&b"one"[..], b"two", b"three"].map(FrameHash::of);
    let mut out = Vec::new();
    Proof::encode(&key, [1, 2, 3, 4], first, 2, &frames, &mut out);
    assert_eq!(out[..14], [15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 3, 2]);
    let hash = |frames: &[&[u8]]| {
        let short: Vec<u8> =
            frames.iter().flat_map(|it| blake3::hash(it).as_bytes()[..16].to_vec()).collect();
        blake3::hash(&short).as_bytes()[..8].to_vec()
    };
    assert_eq!(out[14..22], hash(&[b"one", b"two"]));
    assert_eq!(out[22..30], hash(&[b"three"]));
    assert_eq!(out.len(), 30 + 64);
    let Ok(Datagram::Proof(proof)) = Datagram::parse(&out) else { panic!("a proof") };
    assert!(proof.is_of(key.id()) && !proof.is_of(DeviceKey::from_secret(&[2; 32]).id()));
    let groups: Vec<_> = proof.groups().map(|(it, count, _)| (it.counter, count)).collect();
    assert_eq!(groups, [(0x0a0b, 2), (0x0a0d, 1)]);
    // No bit of it may differ, and no proof may be too long.
    for bit in 0..out.len() * 8 {
        let mut changed = out.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let good = |it: &[u8]| matches!(Datagram::parse(it), Ok(Datagram::Proof(proof)) if proof.is_of(key.id()));
        assert!(!good(&changed), "bit {bit}");
    }
    let parse = |bytes: &[u8]| Datagram::parse(bytes).unwrap_err();
    assert_eq!(parse(&[&out[..], &[0]].concat()), DropReason::TooLong);
    assert_eq!(parse(&out[..out.len() - 1]), DropReason::TooShort);
    assert_eq!(parse(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), DropReason::TooMuch);
    assert_eq!(parse(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 33, 1]), DropReason::TooMuch);
}
