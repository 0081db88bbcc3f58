//! What a frame costs on its way: coding, sealing, holding and mixing. Also what many nets cost a
//! listener.

use std::time::{Duration, Instant};

use divan::{Bencher, counter::ItemsCount};
use hark_keys::{
    ChannelId, DeviceKey, KeySecret, SeededRandom, SenderKey, SenderKeyring, TargetId, Timestamp,
};
use hark_mesh::datagram::FrameHeader;
use hark_voice::{
    Net, NetSettings, Pipeline, PipelineConfig, SIDES, Transmit, VoiceCommand,
    codec::{Decoder, Encoder},
    jitter::{Frame, JitterBuffer},
    mix::Limiter,
};
use ring::aead;
use table::Table;

mod nets;
#[path = "../shared/speech.rs"]
mod speech;
#[path = "../shared/table.rs"]
mod table;

fn main() -> anyhow::Result<()> {
    divan::main();
    // Without `--bench`, cargo only checks that the benchmark runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        nets::measure(1)?;
        return Ok(());
    }
    let mut table = Table::default();
    seal_beside_its_limit(&mut table)?;
    table.print("Sealing, 65 bytes", "beside");
    nets::measure(60)?.print("Listening to many nets", "bar");
    Ok(())
}

/// Seals and opens frames, and seals the same bytes with the machine's fastest cipher alone. The
/// three alternate, so that whatever slows the machine slows all of them.
fn seal_beside_its_limit(table: &mut Table) -> anyhow::Result<()> {
    let random = SeededRandom::new(1);
    let (device, target) = (DeviceKey::generate(&random).id(), TargetId::from_bytes([1; 16]));
    let secret = KeySecret::generate(1, &random);
    let mut key = SenderKey::new(target, device, &secret);
    let mut keyring = SenderKeyring::new(target, device);
    keyring.install(Timestamp::ZERO, &secret);
    let bare = aead::UnboundKey::new(&aead::AES_128_GCM, &[7; 16]);
    let bare = aead::LessSafeKey::new(bare.map_err(|_| anyhow::anyhow!("no key"))?);

    let (mut sealed, mut opened) = (vec![Vec::new(); TURN], Vec::new());
    let (mut seal, mut open, mut limit) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for _ in 0..TURNS {
        let start = Instant::now();
        for frame in &mut sealed {
            key.seal(&FRAME, frame)?;
        }
        seal += start.elapsed();
        let start = Instant::now();
        for frame in &sealed {
            keyring.open(Timestamp::ZERO, frame, &mut opened)?;
        }
        open += start.elapsed();
        let start = Instant::now();
        for number in 0..TURN {
            opened.clear();
            opened.extend_from_slice(&FRAME);
            let mut nonce = [0; aead::NONCE_LEN];
            nonce[..8].copy_from_slice(&number.to_be_bytes());
            let nonce = aead::Nonce::assume_unique_for_key(nonce);
            bare.seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut opened)
                .map_err(|_| anyhow::anyhow!("not sealed"))?;
            divan::black_box(&opened);
        }
        limit += start.elapsed();
    }
    let each = |all: Duration| all.as_secs_f64() * 1e9 / (TURN * TURNS) as f64;
    let beside = |all: Duration| format!("{:.1} times the limit", each(all) / each(limit));
    table.shown("AES-128-GCM alone, by ring", each(limit), "ns", "the machine's limit");
    table.shown("seal a frame (SFrame, AES-128-CTR, HMAC)", each(seal), "ns", &beside(seal));
    table.shown("open a frame, with its replay window", each(open), "ns", &beside(open));
    Ok(())
}

/// Real speech, as many samples.
fn sound(samples: usize) -> Vec<f32> {
    let seconds = samples as f64 / 48_000.0;
    // The first half second of the recording is softer than the rest.
    speech::samples(seconds + 0.5).expect("shipped speech").split_off(24_000)
}

#[divan::bench(args = [false, true])]
fn encode(bencher: Bencher, low_delay: bool) {
    let rate = if low_delay { 64_000 } else { 48_000 };
    let mut encoder = Encoder::new(low_delay, rate).expect("a valid rate");
    let (sound, frame) = (sound(48_000), encoder.frame_samples());
    let (mut packet, mut at) = (Vec::with_capacity(200), 0);
    bencher.bench_local(|| {
        packet.clear();
        encoder.encode(&sound[at..at + frame], &mut packet).expect("a whole frame");
        at = (at + frame) % 48_000;
    });
}

/// Decodes one frame, or one frame and then conceals another. Only one is concealed, since the
/// later ones of many in a row cost next to nothing.
#[divan::bench(args = [false, true])]
fn decode(bencher: Bencher, conceal: bool) {
    let mut encoder = Encoder::new(false, 48_000).expect("a valid rate");
    let mut decoder = Decoder::new().expect("memory");
    let mut packet = Vec::new();
    encoder.encode(&sound(48_000)[24_000..24_480], &mut packet).expect("a whole frame");
    let mut out = [0.0; 480];
    bencher.bench_local(|| {
        decoder.decode(&packet, &mut out).expect("a packet of ours");
        if conceal {
            decoder.conceal(&mut out).expect("a whole frame");
        }
    });
}

#[divan::bench]
fn seal_and_open(bencher: Bencher) {
    let random = SeededRandom::new(1);
    let (device, target) = (DeviceKey::generate(&random).id(), TargetId::from_bytes([1; 16]));
    let (mut sealed, mut opened) = (Vec::with_capacity(200), Vec::with_capacity(200));
    // A step has counters for 65,280 frames, so each sample gets a key of its own.
    bencher
        .with_inputs(|| {
            let secret = KeySecret::generate(1, &random);
            let mut keyring = SenderKeyring::new(target, device);
            keyring.install(Timestamp::ZERO, &secret);
            (SenderKey::new(target, device, &secret), keyring)
        })
        .input_counter(|_| ItemsCount::new(100u32))
        .bench_local_refs(|(key, keyring)| {
            for _ in 0..100 {
                key.seal(&[7; 65], &mut sealed).expect("counters are left");
                keyring.open(Timestamp::ZERO, &sealed, &mut opened).expect("our own frame");
            }
        });
}

/// A thousand frames whose arrivals are steady, have uniform jitter, or stall for 80 ms.
#[divan::bench(args = ["steady", "uniform", "stalls"])]
fn jitter_buffer(bencher: Bencher, trace: &str) {
    let mut arrivals: Vec<(u64, u32)> = (0..1_000u32)
        .map(|n| {
            let delay_us = match trace {
                "uniform" => u64::from(n.wrapping_mul(2_654_435_761) >> 16) % 20_000,
                "stalls" => u64::from(8u32.saturating_sub(n % 200)) * 10_000,
                _ => 0,
            };
            (u64::from(n) * 10_000 + delay_us, n)
        })
        .collect();
    arrivals.sort_unstable();
    bencher
        .with_inputs(JitterBuffer::default)
        .input_counter(|_| ItemsCount::new(1_000u32))
        .bench_local_refs(|buffer| {
            let mut coming = arrivals.iter().peekable();
            for block in 0..1_000u64 {
                let now = Timestamp::from_micros(block * 10_000 + 500);
                while let Some((at, n)) =
                    coming.next_if(|(at, _)| Timestamp::from_micros(*at) <= now)
                {
                    let header = FrameHeader {
                        first: *n == 0,
                        last: false,
                        talkspurt: 1,
                        media_time: n * 4,
                    };
                    let frame = Frame {
                        header,
                        packet: &[1; 60],
                        samples: 480,
                        key: 1,
                        target: TargetId::from_bytes([1; 16]),
                        reach: 0,
                        described: 0,
                        recovered: false,
                    };
                    buffer.insert(Timestamp::from_micros(*at), &frame);
                }
                divan::black_box(buffer.next(now, 0, 480));
            }
        });
}

#[divan::bench]
fn limit_a_block(bencher: Bencher) {
    let mut limiter = Limiter::default();
    let mut block = sound(SIDES * 240);
    bencher.bench_local(|| limiter.process(&mut block));
}

/// 10 ms of a talker with this many listeners: coding, sealing, and a datagram for each listener.
#[divan::bench(args = [1, 7, 31])]
fn talk(bencher: Bencher, listeners: u64) {
    let random = SeededRandom::new(1);
    let device = || DeviceKey::generate(&random).id();
    let config =
        PipelineConfig { transmit: Transmit::Open, ..PipelineConfig::new(device(), false) };
    let mut pipeline = Pipeline::new(config).expect("a valid rate");
    let devices: Vec<_> = (0..listeners).map(|_| device()).collect();
    let (target, tag) = (TargetId::from_bytes([1; 16]), [0; 4]);
    pipeline.handle_command(
        Timestamp::ZERO,
        VoiceCommand::SetListeners { target, plan: devices.into() },
    );
    pipeline.handle_command(
        Timestamp::ZERO,
        VoiceCommand::SelectTarget { target: Some(target), keyed: false },
    );
    let block = sound(48_000).split_off(47_520);
    let (mut now, mut frames) = (Timestamp::ZERO, 0u32);
    bencher.bench_local(|| {
        if frames % 60_000 == 0 {
            let secret = KeySecret::generate(1, &random);
            pipeline.handle_command(now, VoiceCommand::UseKey { target, tag, secret });
        }
        frames += 1;
        now = now + Duration::from_millis(10);
        pipeline.handle_capture(now, &block);
        while let Some(datagram) = pipeline.poll_transmit() {
            divan::black_box(datagram);
        }
    });
}

/// 10 ms of a listener of this many talkers: opening, holding, decoding and mixing.
#[divan::bench(args = [1, 3, 7], sample_count = 100, sample_size = 100)]
fn listen(bencher: Bencher, talkers: usize) {
    let random = SeededRandom::new(1);
    let channel = ChannelId::from_bytes([1; 16]);
    let (target, tag, net) = (TargetId::of_channel(channel), [0; 4], Net::Channel(channel));
    let device = || DeviceKey::generate(&random).id();
    let pipeline = |device| {
        Pipeline::new(PipelineConfig {
            transmit: Transmit::Open,
            ..PipelineConfig::new(device, false)
        })
        .expect("a valid rate")
    };
    let own = device();
    let mut listener = pipeline(own);
    let settings = NetSettings::default();
    listener.handle_command(Timestamp::ZERO, VoiceCommand::SetNet { net, settings });
    let mut others: Vec<_> = (0..talkers)
        .map(|_| {
            let (device, secret) = (device(), KeySecret::generate(1, &random));
            let mut talker = pipeline(device);
            for command in [
                VoiceCommand::UseKey { target, tag, secret: secret.clone() },
                VoiceCommand::SetListeners { target, plan: vec![own].into() },
                VoiceCommand::SelectTarget { target: Some(target), keyed: false },
            ] {
                talker.handle_command(Timestamp::ZERO, command);
            }
            let (heard, priority) = (vec![net], false);
            let install = VoiceCommand::InstallKey { device, target, tag, heard, priority, secret };
            listener.handle_command(Timestamp::ZERO, install);
            (device, talker)
        })
        .collect();
    let block = sound(48_000).split_off(47_520);
    let (mut spoken, mut out) = (Timestamp::ZERO, [0.0; SIDES * 240]);
    bencher
        .with_inputs(|| {
            spoken = spoken + Duration::from_millis(10);
            let mut said = Vec::new();
            for (device, talker) in &mut others {
                talker.handle_capture(spoken, &block);
                while let Some((_, datagram)) = talker.poll_transmit() {
                    said.push((*device, datagram.to_vec()));
                }
            }
            (spoken, said)
        })
        .bench_local_refs(|(now, said)| {
            for (device, datagram) in said.iter() {
                listener.handle_datagram(*now, *device, datagram);
            }
            for half in [1, 6] {
                listener.playout(*now + Duration::from_millis(half), &mut out);
            }
            while listener.poll_event().is_some() || listener.poll_transmit().is_some() {}
            divan::black_box(out[0]);
        });
}

/// A frame of 10 ms at 48 kbit/s with its header.
const FRAME: [u8; 65] = [7; 65];

/// Frames in a turn, and the number of turns. Their product is smaller than the number of counters
/// in one step of a key.
const TURN: usize = 500;
const TURNS: usize = 100;
