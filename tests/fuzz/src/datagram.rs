use hark_mesh::datagram::{Datagram, FRAMES_MAX, FrameHeader, Heartbeat, Report, Voice};

/// What parses encodes to the same bytes.
pub(crate) fn run(bytes: &[u8]) -> bool {
    if let Ok((header, packet)) = FrameHeader::parse(bytes) {
        assert!(!packet.is_empty() && header.spurt < 16);
        assert_eq!([&header.to_bytes()[..], packet].concat(), bytes);
    }
    let Ok(datagram) = Datagram::parse(bytes) else { return false };
    let mut out = Vec::new();
    match datagram {
        Datagram::Voice(voice) => {
            assert!((1..=FRAMES_MAX).contains(&voice.frames.len()));
            let frames = voice.frames.iter().copied();
            Voice::encode(voice.target_tag, voice.sequence, frames, &mut out);
        }
        Datagram::Report(report) => report.encode(&mut out),
        Datagram::Heartbeat(heartbeat) => heartbeat.encode(&mut out),
    }
    assert_eq!(out, bytes);
    true
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
    let header = FrameHeader { first: true, last: false, spurt: 9, media_time: 7 };
    vec![
        ("voice", voice(&[b"newest frame"])),
        ("copies", voice(&[b"f", b"ed", b"dcb", b"c", b"b", b"a"])),
        ("opened", [&voice(&[b"frame"])[..0], &[1, 0, 0, 0, 7, 0, 0, 0, 0, 1, 9]].concat()),
        ("report", encoded(&|out| Report { wanted_copies: 5, ..Report::default() }.encode(out))),
        ("heartbeat", encoded(&|out| Heartbeat { number: 3 }.encode(out))),
        ("header", voice(&[&[&header.to_bytes()[..], b"opus"].concat()])),
    ]
}
