use hark_voice::codec::{Decoder, Encoder, FRAME_SAMPLES_MAX, packet_samples};

use crate::input::{Input, piece};

/// The holder of a key may seal any bytes as a packet. libopus decodes sound of the length that the
/// packet states, or refuses the packet, and continues to work either way.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let decoders = [(1, Decoder::new()), (2, Decoder::stereo())];
    let heard = decoders
        .map(|(channels, decoder)| decode(bytes, channels, decoder.expect("libopus has memory")));
    heard.contains(&true)
}

fn decode(bytes: &[u8], channels: usize, mut decoder: Decoder) -> bool {
    let mut input = Input::new(bytes);
    let mut out = [0.0; 2 * FRAME_SAMPLES_MAX];
    let out = &mut out[..channels * FRAME_SAMPLES_MAX];
    let mut heard = false;
    for _ in 0..OPERATIONS_MAX {
        match input.next().map(|operation| operation % 8) {
            None => break,
            Some(0) => decoder.reset(),
            // As in the jitter buffer: a frame as long as the one before is concealed.
            Some(1) => {
                let frame = &mut out[..480 * channels];
                decoder.conceal(frame).expect("10 ms can be made up at any time");
                assert!(frame.iter().all(|sample| sample.is_finite()));
            }
            Some(2) => {
                let room = usize::from(input.byte()) * 4;
                let packet = input.piece();
                let room = room.min(out.len());
                let decoded = decoder.decode(packet, &mut out[..room]);
                let fits = |samples| samples * channels <= room;
                assert!(decoded.is_ok_and(fits) || decoded.is_err());
            }
            Some(_) => {
                let packet = input.piece();
                let expected = packet_samples(packet);
                let decoded = decoder.decode(packet, out);
                if let (Ok(expected), Ok(samples)) = (expected, decoded) {
                    assert_eq!(samples, expected);
                    heard = true;
                }
                let samples = decoded.unwrap_or_default();
                assert!(out[..samples * channels].iter().all(|sample| sample.is_finite()));
            }
        }
    }
    heard
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let packets = |low_delay, rate| {
        let mut encoder = Encoder::new(low_delay, rate).expect("a rate that is used");
        let frame = encoder.frame_samples();
        (0..4).map(move |number| {
            let tone = |n: usize| 0.3 * ((number * frame + n) as f32 * 0.0576).sin();
            let mut packet = Vec::new();
            let samples: Vec<_> = (0..frame).map(tone).collect();
            encoder.encode(&samples, &mut packet).expect("a frame of the right length");
            piece(&packet)
        })
    };
    let sequence = |low_delay, rate, between: &[u8]| {
        packets(low_delay, rate).flat_map(|it| [&[4][..], &it, between].concat()).collect()
    };
    vec![
        ("speech", sequence(false, 48_000, &[])),
        ("low_delay", sequence(true, 64_000, &[])),
        ("lost", sequence(false, 24_000, &[1])),
        // SILK in 20 ms, from another encoder than ours.
        ("silk", [&[4][..], &piece(&[0x08, 0x0b, 0xe4, 0xc1, 0x36, 0xec, 0xc5, 0x80])].concat()),
    ]
}

/// How many operations are run at most. More would make a run slow and find nothing more.
const OPERATIONS_MAX: usize = 8;
