use hark_keys::{DeviceKey, FrameNumber, SeededRandom};
use hark_mesh::datagram::{
    Account, Bundle, Datagram, FRAMES_MAX, Forward, Forwarded, ForwardedReport, FrameHash,
    FrameHeader, FromMember, FromRelay, HASHES_MAX, Heartbeat, Knock, Proof, Pulse, Question,
    Report, Seen, Slot, Tunnel, Voice,
};
use hark_mesh::message::CheckNonce;

/// A datagram that parses encodes to the same bytes.
pub(crate) fn run(bytes: &[u8]) -> bool {
    if let Ok((header, packet)) = FrameHeader::parse(bytes) {
        assert!(!packet.is_empty() && header.talkspurt < 16);
        assert_eq!([&header.to_bytes()[..], packet].concat(), bytes);
    }
    if let Some(nonce) = CheckNonce::of_packet(bytes) {
        assert_eq!(nonce.packet(), bytes);
        return true;
    }
    let mut out = Vec::new();
    match Datagram::parse(bytes) {
        Ok(Datagram::Voice(voice)) => {
            assert!((1..=FRAMES_MAX).contains(&voice.frames.len()));
            let frames = voice.frames.iter().copied();
            Voice::encode(voice.target_tag, voice.sequence, frames, &mut out);
        }
        Ok(Datagram::Report(report)) => report.encode(&mut out),
        Ok(Datagram::Heartbeat(heartbeat)) => heartbeat.encode(&mut out),
        Ok(Datagram::Account(account)) => account.encode(&mut out),
        Ok(Datagram::Question(question)) => question.encode(&mut out),
        Ok(Datagram::Proof(proof)) => {
            let frames: usize = proof.groups().map(|(_, count, _)| usize::from(count)).sum();
            assert!(frames == usize::from(proof.count) && proof.groups().count() <= HASHES_MAX);
            // Only its talker can write this one.
            out.extend_from_slice(bytes);
        }
        Err(_) => {}
    }
    match FromMember::parse(bytes) {
        Ok(FromMember::Forward(Forward { level, voice })) => {
            let frames = voice.frames.iter().copied();
            Forward::encode(level, voice.target_tag, voice.sequence, frames, &mut out);
        }
        Ok(FromMember::Tunnel(tunnel)) => tunnel.encode(&mut out),
        Ok(FromMember::Report(report)) => report.encode(&mut out),
        Ok(FromMember::Knock(knock)) => knock.encode(&mut out),
        Err(_) => from_relay(bytes, &mut out),
    }
    if out.is_empty() {
        return false;
    }
    assert_eq!(out, bytes);
    true
}

fn from_relay(bytes: &[u8], out: &mut Vec<u8>) {
    let forwarded = |Forwarded { slot, voice }: Forwarded<'_>, out: &mut Vec<u8>| {
        let frames = voice.frames.iter().copied();
        Forwarded::encode(slot, voice.target_tag, voice.sequence, frames, out);
    };
    match FromRelay::parse(bytes) {
        Ok(FromRelay::Forwarded(part)) => forwarded(part, out),
        Ok(FromRelay::Tunnel(tunnel)) => tunnel.encode(out),
        Ok(FromRelay::Bundle(bundle)) => {
            Bundle::begin(out);
            for part in bundle.iter() {
                let mut datagram = Vec::new();
                forwarded(part, &mut datagram);
                Bundle::put(&datagram, out);
            }
        }
        Ok(FromRelay::Seen(seen)) => seen.encode(out),
        Ok(FromRelay::Pulse(pulse)) => Pulse::encode(pulse.iter(), out),
        Ok(FromRelay::Introduction(introduction)) => introduction.encode(out),
        Ok(FromRelay::Knock(knock)) => knock.encode(out),
        Err(_) => {}
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        bytes
    };
    let voice = |frames: &[&[u8]]| {
        encoded(&|out| Voice::encode([1, 2, 3, 4], 513, frames.iter().copied(), out))
    };
    let slot = Slot::new(258).expect("not zero");
    let frames = || [&b"newest"[..], b"older"];
    let forwarded = encoded(&|out| Forwarded::encode(slot, [1, 2, 3, 4], 513, frames(), out));
    let bundle = encoded(&|out| {
        Bundle::begin(out);
        Bundle::put(&forwarded, out);
        Bundle::put(&forwarded, out);
    });
    let report = ForwardedReport { slot, report: Report { wanted_copies: 3, ..Report::default() } };
    let door = DeviceKey::generate(&SeededRandom::new(7)).id();
    let header = FrameHeader { first: true, last: false, talkspurt: 9, media_time: 7 };
    let key = DeviceKey::from_secret(&[1; 32]);
    let account = Account {
        relay: key.id(),
        target_tag: [1, 2, 3, 4],
        highest_sequence: 513,
        received: 50,
        lost: 2,
        spoilt: 1,
    };
    let frame = FrameNumber { key: 0x8001_0000, counter: 256 };
    let hashes = [&b"one"[..], b"two", b"three"].map(FrameHash::of);
    vec![
        ("voice", voice(&[b"newest frame"])),
        ("copies", voice(&[b"f", b"ed", b"dcb", b"c", b"b", b"a"])),
        ("opened", [&voice(&[b"frame"])[..0], &[1, 0, 0, 0, 7, 0, 0, 0, 0, 1, 9]].concat()),
        ("report", encoded(&|out| Report { wanted_copies: 5, ..Report::default() }.encode(out))),
        ("heartbeat", encoded(&|out| Heartbeat { number: 3 }.encode(out))),
        ("account", encoded(&|out| account.encode(out))),
        ("question", encoded(&|out| Question { target_tag: [1, 2, 3, 4], frame }.encode(out))),
        ("proof", encoded(&|out| Proof::encode(&key, [1, 2, 3, 4], frame, 2, &hashes, out))),
        ("forward", encoded(&|out| Forward::encode(30, [1, 2, 3, 4], 513, frames(), out))),
        ("forwarded", forwarded.clone()),
        ("tunnel", encoded(&|out| Tunnel { slot, packet: b"QUIC" }.encode(out))),
        ("knock", encoded(&|out| Knock { slot: Some(slot), device: door }.encode(out))),
        ("check", CheckNonce::generate(&SeededRandom::new(5)).packet().to_vec()),
        ("bundle", bundle),
        ("seen", encoded(&|out| Seen { wanted_copies: 5, ..Seen::default() }.encode(out))),
        ("pulse", encoded(&|out| Pulse::encode([(slot, 513), (slot, 3)], out))),
        ("forwarded_report", encoded(&|out| report.encode(out))),
        ("header", voice(&[&[&header.to_bytes()[..], b"opus"].concat()])),
    ]
}
