//! Two voice pipelines and a network that loses packets, in virtual time. Shows how late a sentence
//! is heard, and how much of it is missing.
//!
//! ```sh
//! cargo run --release -p hark-examples --bin mouth-to-ear -- 20
//! ```
//!
//! The argument is the share of packets that are lost, in percent; 10 if it is absent.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use hark_keys::{ChannelId, DeviceKey, KeySecret, SeededRandom, TargetId, Timestamp};
use hark_voice::{Net, NetSettings, Pipeline, PipelineConfig, SIDES, Transmit, VoiceCommand};

/// The number of samples in the 5 ms that are captured or played at a time.
const BLOCK: usize = 240;

/// The delay of each packet from one to the other in milliseconds, without up to 5 ms of jitter.
const DELAY_MS: f64 = 20.0;

fn main() -> anyhow::Result<()> {
    let percent = std::env::args().nth(1).map_or(Ok(10.0), |it| it.parse::<f64>());
    let loss = percent.context("the loss is a number of percent")? / 100.0;
    anyhow::ensure!((0.0..1.0).contains(&loss), "the loss is at least 0 and below 100 percent");
    let random = SeededRandom::new(1);
    let [kestrel, heron] = [0, 1].map(|_| DeviceKey::generate(&random).id());
    let pipeline = |device| {
        let transmit = Transmit::Open;
        Pipeline::new(PipelineConfig { transmit, ..PipelineConfig::new(device, false) })
    };
    let (mut talker, mut listener) = (pipeline(kestrel)?, pipeline(heron)?);

    // What a squad would command them: one key for one channel, and who listens.
    let channel = ChannelId::from_bytes([3; 16]);
    let (target, net) = (TargetId::of_channel(channel), Net::Channel(channel));
    let (tag, secret) = ([4; 4], KeySecret::generate(1, &random));
    for command in [
        VoiceCommand::UseKey { target, tag, secret: secret.clone() },
        VoiceCommand::SetListeners { target, plan: vec![heron].into() },
        VoiceCommand::SelectTarget { target: Some(target), keyed: false },
    ] {
        talker.handle_command(Timestamp::ZERO, command);
    }
    let (device, heard, priority) = (kestrel, vec![net], false);
    for command in [
        VoiceCommand::InstallKey { device, target, tag, heard, priority, secret },
        VoiceCommand::SetNet { net, settings: NetSettings::default() },
    ] {
        listener.handle_command(Timestamp::ZERO, command);
    }

    // Packets by arrival: whether the packet is for the listener, and the datagram.
    let mut network: BTreeMap<(Timestamp, u64), (bool, Vec<u8>)> = BTreeMap::new();
    let (mut dice, mut sent, mut lost) = (7_u64, 0_u64, 0_u64);
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let (mut said, mut played) = (Vec::new(), Vec::new());
    for block in 0..2_000_u64 {
        let now = Timestamp::from_millis(block * 5);
        let samples: Vec<f32> = (0..BLOCK).map(|n| tone(block as usize * BLOCK + n)).collect();
        talker.handle_capture(now, &samples);
        said.extend(samples);
        while let Some(next) = network.first_entry().filter(|next| next.key().0 <= now) {
            let ((arrived, _), (to_listener, datagram)) = next.remove_entry();
            if to_listener {
                listener.handle_datagram(arrived, kestrel, &datagram);
            } else {
                // The listener's reports make the talker send copies of earlier frames.
                talker.handle_datagram(arrived, heron, &datagram);
            }
        }
        let mut out = [0.0; SIDES * BLOCK];
        listener.playout(now, &mut out);
        listener.handle_timeout(now);
        played.extend(out.chunks_exact(SIDES).map(|sides| (sides[0] + sides[1]) / 2.0));
        for to_listener in [true, false] {
            let pipeline = if to_listener { &mut talker } else { &mut listener };
            while let Some((_, datagram)) = pipeline.poll_transmit() {
                sent += 1;
                if roll() < loss {
                    lost += 1;
                    continue;
                }
                let delay = Duration::from_secs_f64((DELAY_MS + 5.0 * roll()) / 1e3);
                network.insert((now + delay, sent), (to_listener, datagram.to_vec()));
            }
        }
    }

    let heard = &listener.statistics().talkers[&kestrel];
    println!("{lost} of {sent} packets were lost.");
    println!("{} frames were heard.", heard.frames_received);
    println!("{} of those came by a copy in a later packet.", heard.frames_recovered);
    println!("{} frames were missing, and were concealed.", heard.frames_concealed);
    println!("A sound is heard {:.1} ms after it was made.", lag_ms(&said, &played));
    Ok(())
}

/// A voice-like tone whose pitch wanders, so that it matches itself only at one place.
fn tone(sample: usize) -> f32 {
    let time = sample as f64 / 48_000.0;
    let phase = 150.0 * time - 8.0 * (1.3 * time).cos() - 2.0 * (7.1 * time).cos();
    let harmonics = 1..8;
    let sum: f64 = harmonics.map(|k| (std::f64::consts::TAU * phase * f64::from(k)).sin()).sum();
    (0.06 * sum) as f32
}

/// By how much `played` lags behind `said` in their last four seconds: the shift at which they fit
/// best. A block is captured when it is complete, 5 ms after its first sample.
fn lag_ms(said: &[f32], played: &[f32]) -> f64 {
    let (from, length) = (said.len() - 4 * 48_000, 3 * 48_000);
    let fit = |lag: &usize| -> f32 {
        let (said, played) = (&said[from..from + length], &played[from + lag..from + lag + length]);
        said.iter().zip(played).step_by(16).map(|(said, played)| said * played).sum()
    };
    let lag = (0..12_000).step_by(2).max_by(|a, b| fit(a).total_cmp(&fit(b))).unwrap_or(0);
    lag as f64 / 48.0 + 5.0
}
