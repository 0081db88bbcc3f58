//! Playout delay against concealment: real speech through two pipelines and a network that is a
//! list of delays, in virtual time.
//!
//! `cargo bench --bench replay -- FILE` replays recorded delays. Each line of the file stands for
//! 10 ms: it has the delay of the datagram in milliseconds, or `lost`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use hark_keys::{ChannelId, DeviceId, DeviceKey, KeySecret, SeededRandom, TargetId, Timestamp};
use hark_voice::{
    Net, NetSettings, Pipeline, PipelineConfig, SIDES, TalkerStatistics, Transmit, VoiceCommand,
};

#[path = "shared/quantile.rs"]
mod quantile;
#[path = "shared/speech.rs"]
mod speech;

use quantile::{median, quantile};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without `--bench`, cargo only checks that the benchmark builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let speech = speech::samples(SECONDS as f64)?;
    println!(
        "| network | delay median / 95th / 99th | lost | held | that is the | concealed | limit | stretched |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let recorded = arguments.iter().find(|argument| !argument.starts_with('-'));
    if let Some(path) = recorded {
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        let delays: Vec<Option<f64>> = text.lines().map(|line| line.trim().parse().ok()).collect();
        return replay(path, &delays, &speech);
    }
    let mut dice = Dice(1);
    for (name, delay) in networks() {
        let mut network = delay;
        let delays: Vec<Option<f64>> =
            (0..SECONDS * 100).map(|slot| network(slot, &mut dice)).collect();
        replay(name, &delays, &speech)?;
    }
    Ok(())
}

type Network = Box<dyn FnMut(u64, &mut Dice) -> Option<f64>>;

/// Networks with delays like those measured on real ones. The first argument is the number of the
/// 10 ms slot.
fn networks() -> Vec<(&'static str, Network)> {
    let wired = |dice: &mut Dice| dice.exponential(2.0) + dice.exponential(2.0);
    let wifi = move |dice: &mut Dice| {
        // One datagram in 300 meets a busy receiver, and all behind it wait.
        let busy = if dice.roll() < 0.003 { 20.0 / dice.roll().max(0.02).sqrt() } else { 0.0 };
        wired(dice) + busy
    };
    let mut swell = 0.0;
    let mobile = move |_, dice: &mut Dice| {
        swell = 0.98 * swell + 0.18 * dice.normal();
        Some(16.0 * f64::exp(swell))
    };
    let full_buffer = move |slot: u64, dice: &mut Dice| {
        let at = slot % 1_000;
        let queue = if at < 200 { at } else { 200_u64.saturating_sub((at - 200) * 2) };
        Some(wired(dice) + 0.75 * queue as f64)
    };
    let mut bad = false;
    let bursts = move |_, dice: &mut Dice| {
        // Gilbert's model: 5 % are lost, on average two in a row.
        bad = dice.roll() < if bad { 0.5 } else { 0.026 };
        (!bad).then(|| wired(dice))
    };
    vec![
        ("steady", Box::new(|_, dice| Some(0.2 * dice.roll()))),
        ("wired", Box::new(move |_, dice| Some(wired(dice)))),
        ("Wi-Fi with busy moments", Box::new(move |_, dice| Some(wifi(dice)))),
        ("mobile", Box::new(mobile)),
        ("a buffer that fills and empties", Box::new(full_buffer)),
        (
            "all stands still for 80 ms, every 2 s",
            Box::new(|slot, _| Some(8_u64.saturating_sub(slot % 200) as f64 * 10.0)),
        ),
        (
            "wired, 10 % lost at random",
            Box::new(move |_, dice| (dice.roll() >= 0.1).then(|| wired(dice))),
        ),
        ("wired, 5 % lost in bursts", Box::new(bursts)),
    ]
}

/// Talks through a network and prints a row with the results.
fn replay(name: &str, delays: &[Option<f64>], speech: &[f32]) -> anyhow::Result<()> {
    let mut world = World::new()?;
    let mut arrivals = Vec::new();
    let mut last_arrival: f64 = 0.0;
    let mut held = Vec::new();
    for (slot, delay) in delays.iter().enumerate() {
        let sent_ms = slot as f64 * 10.0;
        // Networks keep the order of datagrams in one direction.
        let arrival = delay.map(|delay| (sent_ms + delay).max(last_arrival));
        last_arrival = arrival.unwrap_or(last_arrival);
        arrivals.extend(arrival.map(|arrival| arrival - sent_ms));
        let block: Vec<f32> =
            speech.iter().copied().cycle().skip(slot * 480 % speech.len()).take(480).collect();
        world.step(slot as u64, &block, arrival);
        if slot >= SETTLED && slot % 10 == 0 {
            held.push(f64::from(world.heard().playout_delay_ms));
        }
    }
    let fastest = quantile(&arrivals, 0.0);
    let above: Vec<f64> = arrivals.iter().map(|delay| delay - fastest).collect();
    let held = held.iter().sum::<f64>() / held.len() as f64;
    let covered = above.iter().filter(|delay| **delay <= held).count() as f64;
    let heard = world.heard();
    let concealed = heard.frames_concealed as f64;
    let stretched = (heard.samples_inserted + heard.samples_removed) as f64;
    // With lost datagrams there is no such limit: waiting does not bring them.
    let limit = if arrivals.len() == delays.len() {
        let share = concealed / delays.len() as f64;
        format!("{:.1} ms", quantile(&above, 1.0 - share))
    } else {
        String::new()
    };
    println!(
        "| {name} | {:.1} / {:.1} / {:.1} ms | {:.1} % | {held:.1} ms | {:.1}th | {:.2} % | {limit} | {:.2} % |",
        median(&above),
        quantile(&above, 0.95),
        quantile(&above, 0.99),
        100.0 * (delays.len() - arrivals.len()) as f64 / delays.len() as f64,
        100.0 * covered / above.len() as f64,
        100.0 * concealed / (heard.frames_received as f64 + concealed),
        100.0 * stretched / (480.0 * delays.len() as f64),
    );
    Ok(())
}

/// A talker, a listener, and the datagrams under way between them.
struct World {
    talker: Pipeline,
    listener: Pipeline,
    talker_id: DeviceId,
    listener_id: DeviceId,
    underway: BTreeMap<(Timestamp, u64), Vec<u8>>,
    sent: u64,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let random = SeededRandom::new(7);
        let [talker_id, listener_id] = [0, 1].map(|_| DeviceKey::generate(&random).id());
        let pipeline = |device| {
            Pipeline::new(PipelineConfig {
                transmit: Transmit::Open,
                ..PipelineConfig::new(device, false)
            })
        };
        let (mut talker, mut listener) = (pipeline(talker_id)?, pipeline(listener_id)?);
        let secret = KeySecret::generate(1, &random);
        let now = Timestamp::ZERO;
        let channel = ChannelId::from_bytes([3; 16]);
        let (target, tag, net) = (TargetId::of_channel(channel), [4; 4], Net::Channel(channel));
        for command in [
            VoiceCommand::UseKey { target, tag, secret: secret.clone() },
            VoiceCommand::SetListeners { target, plan: vec![listener_id].into() },
            VoiceCommand::SelectTarget { target: Some(target), keyed: false },
        ] {
            talker.handle_command(now, command);
        }
        let (device, heard, priority) = (talker_id, vec![net], false);
        for command in [
            VoiceCommand::InstallKey { device, target, tag, heard, priority, secret },
            VoiceCommand::SetNet { net, settings: NetSettings::default() },
        ] {
            listener.handle_command(now, command);
        }
        Ok(Self { talker, listener, talker_id, listener_id, underway: BTreeMap::new(), sent: 0 })
    }

    /// Runs 10 ms. The talker says `block`, and its datagram arrives at `arrival`, in milliseconds,
    /// or never. The listener's reports reach the talker at once.
    fn step(&mut self, slot: u64, block: &[f32], arrival: Option<f64>) {
        let start = Timestamp::from_millis(slot * 10);
        self.talker.handle_capture(start, block);
        while let Some((_, datagram)) = self.talker.poll_transmit() {
            self.sent += 1;
            if let Some(arrival) = arrival {
                let at = Timestamp::from_micros((arrival * 1_000.0) as u64);
                self.underway.insert((at, self.sent), datagram.to_vec());
            }
        }
        let mut out = [0.0; SIDES * 240];
        for half in [5, 10] {
            let now = start + Duration::from_millis(half);
            while let Some(entry) = self.underway.first_entry().filter(|next| next.key().0 <= now) {
                let ((at, _), datagram) = entry.remove_entry();
                self.listener.handle_datagram(at, self.talker_id, &datagram);
            }
            self.listener.playout(now, &mut out);
            self.listener.handle_timeout(now);
            while let Some((_, report)) = self.listener.poll_transmit() {
                self.talker.handle_datagram(now, self.listener_id, report);
            }
        }
    }

    fn heard(&self) -> TalkerStatistics {
        self.listener.statistics().talkers.remove(&self.talker_id).unwrap_or_default()
    }
}

/// A small random generator with a fixed seed, so that every run is the same.
struct Dice(u64);

impl Dice {
    /// An even distribution between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.roll()).ln()
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.roll()).sum::<f64>() - 6.0
    }
}

/// How long the talk through each network lasts, in seconds. Nobody renews the key here, and it
/// opens speech for 100 s.
const SECONDS: u64 = 90;

/// How many slots of 10 ms the jitter buffer gets to adapt to the network.
const SETTLED: usize = 500;
