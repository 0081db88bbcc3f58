//! What a frame costs on its way: coding, sealing, holding, mixing.

use std::time::Duration;

use divan::{Bencher, counter::ItemsCount};
use hark_keys::{
    ChannelId, DeviceKey, KeySecret, SeededRandom, SenderKey, SenderKeyring, Timestamp,
};
use hark_mesh::datagram::FrameHeader;
use hark_node::voice::{
    Pipeline, PipelineConfig, Transmit, VoiceCommand,
    codec::{Decoder, Encoder},
    jitter::JitterBuffer,
    mix::Limiter,
};

fn main() {
    divan::main();
}

/// A tone that wavers, so that the encoder has something to do.
fn sound(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| {
            let time = n as f32 / 48_000.0;
            0.2 * (time * 900.0 + 3.0 * (time * 30.0).sin()).sin() + 0.1 * (time * 4_000.0).sin()
        })
        .collect()
}

#[divan::bench(args = [false, true])]
fn encode(bencher: Bencher, low_delay: bool) {
    let mut encoder = Encoder::new(low_delay, 48_000).expect("a valid rate");
    let (sound, frame) = (sound(48_000), encoder.frame_samples());
    let (mut packet, mut at) = (Vec::with_capacity(200), 0);
    bencher.bench_local(|| {
        packet.clear();
        encoder.encode(&sound[at..at + frame], &mut packet).expect("a whole frame");
        at = (at + frame) % 48_000;
    });
}

#[divan::bench(args = [false, true])]
fn decode(bencher: Bencher, lost: bool) {
    let mut encoder = Encoder::new(false, 48_000).expect("a valid rate");
    let mut decoder = Decoder::new().expect("memory");
    let mut packet = Vec::new();
    encoder.encode(&sound(480), &mut packet).expect("a whole frame");
    let mut out = [0.0; 480];
    bencher.bench_local(|| {
        if lost {
            decoder.conceal(&mut out).expect("a whole frame");
        } else {
            decoder.decode(&packet, &mut out).expect("a packet of ours");
        }
    });
}

#[divan::bench]
fn seal_and_open(bencher: Bencher) {
    let random = SeededRandom::new(1);
    let (device, channel) = (DeviceKey::generate(&random).id(), ChannelId::from_bytes([1; 16]));
    let (mut sealed, mut opened) = (Vec::with_capacity(200), Vec::with_capacity(200));
    // A step has counters for 65,280 frames, so each sample gets its own.
    bencher
        .with_inputs(|| {
            let secret = KeySecret::generate(1, &random);
            let mut keyring = SenderKeyring::new(channel, device);
            keyring.install(Timestamp::ZERO, &secret);
            (SenderKey::new(channel, device, &secret), keyring)
        })
        .input_counter(|_| ItemsCount::new(100u32))
        .bench_local_refs(|(key, keyring)| {
            for _ in 0..100 {
                key.seal(&[7; 65], &mut sealed).expect("counters are left");
                keyring.open(Timestamp::ZERO, &sealed, &mut opened).expect("our own frame");
            }
        });
}

/// A thousand frames of a trace: steady, uniform jitter, or stalls of 80 ms.
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
                    let header =
                        FrameHeader { first: *n == 0, last: false, spurt: 1, media_time: n * 4 };
                    buffer.insert(Timestamp::from_micros(*at), header, &[1; 60], 480, 0, false);
                }
                divan::black_box(buffer.next(now, 480));
            }
        });
}

#[divan::bench]
fn limit_a_block(bencher: Bencher) {
    let mut limiter = Limiter::default();
    let mut block = sound(240);
    bencher.bench_local(|| limiter.process(&mut block));
}

/// 10 ms of a talker with seven listeners, and of one of them.
#[divan::bench(args = [1, 7])]
fn talk(bencher: Bencher, listeners: u64) {
    let random = SeededRandom::new(1);
    let device = || DeviceKey::generate(&random).id();
    let config = PipelineConfig {
        transmit: Transmit::Open,
        ..PipelineConfig::new(device(), ChannelId::from_bytes([1; 16]), [0; 4], false)
    };
    let mut pipeline = Pipeline::new(config).expect("a valid rate");
    let listeners = (0..listeners).map(|_| device()).collect();
    pipeline.handle_command(Timestamp::ZERO, VoiceCommand::SetListeners(listeners));
    let block = sound(480);
    let (mut now, mut frames) = (Timestamp::ZERO, 0u32);
    bencher.bench_local(|| {
        if frames % 60_000 == 0 {
            let secret = KeySecret::generate(1, &random);
            pipeline.handle_command(now, VoiceCommand::UseKey(secret));
        }
        frames += 1;
        now = now + Duration::from_millis(10);
        pipeline.handle_capture(now, &block);
        while let Some(datagram) = pipeline.poll_transmit() {
            divan::black_box(datagram);
        }
    });
}
