//! Two pipelines and a network between them, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{ChannelId, DeviceId, DeviceKey, KeySecret, SeededRandom, TargetId, Timestamp};

use crate::{
    Net, NetSettings, Pipeline, PipelineConfig, SIDES, TalkerStatistics, Transmit, VoiceCommand,
    VoiceEvent, mix,
};

pub(super) const CHANNEL: ChannelId = ChannelId::from_bytes([3; 16]);
pub(super) const NET: Net = Net::Channel(CHANNEL);
pub(super) const TARGET: TargetId = TargetId::of_channel(CHANNEL);
pub(super) const TAG: [u8; 4] = *b"targ";

pub(super) fn use_key(secret: &KeySecret) -> VoiceCommand {
    VoiceCommand::UseKey { target: TARGET, tag: TAG, secret: secret.clone() }
}

pub(super) fn install_key(device: DeviceId, secret: &KeySecret) -> VoiceCommand {
    VoiceCommand::InstallKey {
        device,
        target: TARGET,
        tag: TAG,
        heard: vec![NET],
        priority: false,
        secret: secret.clone(),
    }
}

/// A small random generator, so that every run is the same.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

/// Maps the number of each datagram to its arrival times, in milliseconds after it was sent. Two
/// entries mean that it arrives twice, and no entry that it is lost.
pub(super) type Network = Box<dyn FnMut(u64) -> Vec<f64>>;

pub(super) struct World {
    pub(super) talker: Pipeline,
    pub(super) listener: Pipeline,
    pub(super) talker_id: DeviceId,
    pub(super) listener_id: DeviceId,
    pub(super) network: Network,
    /// By arrival: whether it is for the listener, and its bytes.
    pub(super) underway: BTreeMap<(Timestamp, u64), (bool, Vec<u8>)>,
    pub(super) sent: u64,
    /// Samples in a block.
    pub(super) block: usize,
    pub(super) blocks: u64,
    pub(super) captured: Vec<f32>,
    pub(super) heard: Vec<f32>,
    /// The sizes of voice datagrams, by number of copies.
    pub(super) sizes: BTreeMap<usize, Vec<usize>>,
    pub(super) events: Vec<(u64, VoiceEvent)>,
    pub(super) first_voice_at: Option<Timestamp>,
}

impl World {
    pub(super) fn new(transmit: Transmit, low_delay: bool, network: Network) -> Self {
        let random = SeededRandom::new(7);
        let (talker_id, listener_id) =
            (DeviceKey::generate(&random).id(), DeviceKey::generate(&random).id());
        let config = |device| PipelineConfig { transmit, ..PipelineConfig::new(device, low_delay) };
        let mut talker = Pipeline::new(config(talker_id)).unwrap();
        let mut listener = Pipeline::new(config(listener_id)).unwrap();
        let secret = KeySecret::generate(1, &random);
        let now = Timestamp::ZERO;
        talker.handle_command(now, use_key(&secret));
        let devices = vec![listener_id];
        talker.handle_command(
            now,
            VoiceCommand::SetListeners { target: TARGET, plan: devices.into() },
        );
        talker
            .handle_command(now, VoiceCommand::SelectTarget { target: Some(TARGET), keyed: false });
        listener.handle_command(now, install_key(talker_id, &secret));
        let settings = NetSettings::default();
        listener.handle_command(now, VoiceCommand::SetNet { net: NET, settings });
        Self {
            talker,
            listener,
            talker_id,
            listener_id,
            network,
            underway: BTreeMap::new(),
            sent: 0,
            block: if low_delay { 120 } else { 240 },
            blocks: 0,
            captured: Vec::new(),
            heard: Vec::new(),
            sizes: BTreeMap::new(),
            events: Vec::new(),
            first_voice_at: None,
        }
    }

    pub(super) fn block_us(&self) -> u64 {
        self.block as u64 * 1_000_000 / 48_000
    }

    /// Captures `sound`. Half a block after each of its blocks, one is played.
    pub(super) fn run(&mut self, sound: &[f32]) {
        for block in sound.chunks_exact(self.block) {
            self.run_both(block, &[]);
        }
    }

    /// Captures a block of both sides: their mean, and half their difference. Returns what is
    /// played half a block later.
    pub(super) fn run_both(&mut self, block: &[f32], difference: &[f32]) -> Vec<f32> {
        self.blocks += 1;
        let at_us = 1_000_000 + self.blocks * self.block_us();
        self.deliver(Timestamp::from_micros(at_us));
        let now = Timestamp::from_micros(at_us);
        self.talker.handle_stereo_capture(now, block, difference);
        self.captured.extend_from_slice(block);
        self.post(now);
        let now = Timestamp::from_micros(at_us + self.block_us() / 2);
        self.deliver(now);
        let mut out = vec![0.0; SIDES * self.block];
        self.listener.playout(now, &mut out);
        self.heard.extend(mix::mean(&out));
        for pipeline in [&mut self.talker, &mut self.listener] {
            while let Some(event) = pipeline.poll_event() {
                self.events.push((self.blocks * self.block as u64 / 48, event));
            }
        }
        out
    }

    fn deliver(&mut self, until: Timestamp) {
        while let Some(entry) = self.underway.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((arrived, _), (to_listener, bytes)) = entry.remove_entry();
            if to_listener {
                self.listener.handle_datagram(arrived, self.talker_id, &bytes);
            } else {
                self.talker.handle_datagram(arrived, self.listener_id, &bytes);
            }
            self.post(arrived);
        }
        self.post(until);
    }

    fn post(&mut self, now: Timestamp) {
        while self.listener.poll_timeout().is_some_and(|due| due <= now) {
            self.listener.handle_timeout(now);
        }
        for to_listener in [true, false] {
            let pipeline = if to_listener { &mut self.talker } else { &mut self.listener };
            while let Some((_, bytes)) = pipeline.poll_transmit() {
                if to_listener {
                    self.first_voice_at.get_or_insert(now);
                    let sizes = self.sizes.entry(usize::from(bytes[7])).or_default();
                    sizes.push(bytes.len());
                }
                for delay_ms in (self.network)(self.sent) {
                    let at = now + Duration::from_secs_f64(delay_ms / 1e3);
                    self.sent += 1;
                    self.underway.insert((at, self.sent), (to_listener, bytes.to_vec()));
                }
            }
        }
    }

    pub(super) fn talker_statistics(&self) -> TalkerStatistics {
        self.listener.statistics().talkers[&self.talker_id].clone()
    }

    /// By how many milliseconds playing lags behind capturing, where the two match best.
    pub(super) fn mouth_to_ear_ms(&self, from: usize, length: usize) -> f64 {
        let said = &self.captured[from..from + length];
        let fit = |lag: usize| -> f32 {
            let heard = &self.heard[from + lag..from + lag + length];
            said.iter().zip(heard).map(|(said, heard)| said * heard).sum()
        };
        let lag = (0..4_800).max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap();
        // A block is captured when it is complete, and played from half a block later on.
        lag as f64 / 48.0 + self.block_us() as f64 * 1.5 / 1e3
    }
}

pub(super) fn lossless(delay_ms: f64) -> Network {
    Box::new(move |_| vec![delay_ms])
}

pub(super) fn lossy(loss: f64) -> Network {
    let mut dice = Dice(99);
    Box::new(move |_| {
        let delay = 1.0 + dice.roll();
        if dice.roll() < loss { Vec::new() } else { vec![delay] }
    })
}

/// Voiced sound with syllables and pauses, over a little noise.
pub(super) fn speech(seconds: f64) -> Vec<f32> {
    let mut dice = Dice(5);
    let mut phase = 0.0;
    (0..(seconds * 48_000.0) as usize)
        .map(|n| {
            let time = n as f64 / 48_000.0;
            let pitch = 130.0 + 25.0 * (time * 1.7).sin() + 10.0 * (time * 11.0).sin();
            phase += pitch / 48_000.0;
            let harmonics: f64 = (1..14)
                .map(|k| {
                    let k = f64::from(k);
                    let formant =
                        |center: f64, width: f64| (-((k * pitch - center) / width).powi(2)).exp();
                    let shape = formant(500.0 + 200.0 * (time * 5.0).sin(), 250.0)
                        + 0.5 * formant(1_500.0 + 400.0 * (time * 3.0).sin(), 400.0)
                        + 0.02;
                    shape * (std::f64::consts::TAU * phase * k).sin()
                })
                .sum();
            let syllable = (time * 4.0 * std::f64::consts::PI).sin().max(0.0).sqrt();
            let phrase = if time % 3.7 < 2.9 { 1.0 } else { 0.0 };
            let noise = 0.000_3 * (dice.roll() * 2.0 - 1.0);
            (0.12 * harmonics * syllable * phrase + noise) as f32
        })
        .collect()
}

pub(super) fn noise(samples: usize) -> Vec<f32> {
    let mut dice = Dice(3);
    let mut low = 0.0;
    (0..samples)
        .map(|_| {
            low += 0.2 * ((dice.roll() * 2.0 - 1.0) * 0.3 - low);
            low as f32
        })
        .collect()
}
