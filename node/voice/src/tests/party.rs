//! Talkers and a listener in virtual time, and measurements of what is heard.

use std::time::Duration;

use hark_keys::{ChannelId, DeviceId, DeviceKey, KeySecret, SeededRandom, TargetId, Timestamp};

use crate::{
    Net, NetSettings, Pipeline, PipelineConfig, SIDES, Transmit, VoiceCommand, VoiceEvent,
};

/// Some talkers, each with its own tone, and one listener, a millisecond away.
pub(super) struct Party {
    pub(super) talkers: Vec<Talker>,
    pub(super) listener: Pipeline,
    pub(super) own: DeviceId,
    pub(super) random: SeededRandom,
    /// Samples in a played block.
    pub(super) block: usize,
    pub(super) captured: u64,
    pub(super) played: u64,
    /// Selects the datagrams that arrive.
    pub(super) delivers: fn(u64) -> bool,
    pub(super) sent: u64,
    pub(super) heard: Vec<[f32; SIDES]>,
    pub(super) events: Vec<VoiceEvent>,
}

pub(super) struct Talker {
    pub(super) device: DeviceId,
    pub(super) pipeline: Pipeline,
    pub(super) hertz: f32,
    /// Amplitude of the tone.
    pub(super) loudness: f32,
    /// The datagrams that were sent to the listener.
    pub(super) datagrams: Vec<Vec<u8>>,
}

impl Party {
    pub(super) fn new(hertz: &[f32], block: usize) -> Self {
        let random = SeededRandom::new(5);
        let own = DeviceKey::generate(&random).id();
        let pipeline = |device, transmit| {
            Pipeline::new(PipelineConfig { transmit, ..PipelineConfig::new(device, false) })
                .unwrap()
        };
        let talker = |hertz: &f32| {
            let device = DeviceKey::generate(&random).id();
            let pipeline = pipeline(device, Transmit::PushToTalk);
            Talker { device, pipeline, hertz: *hertz, loudness: 0.1, datagrams: Vec::new() }
        };
        let talkers = hertz.iter().map(talker).collect();
        let listener = pipeline(own, Transmit::PushToTalk);
        Self {
            talkers,
            listener,
            own,
            random,
            block,
            captured: 0,
            played: 0,
            delivers: |_| true,
            sent: 0,
            heard: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000 + self.captured * 10_000)
    }

    pub(super) fn listen(&mut self, net: Net, volume: f32, pan: f32, priority: u8) {
        let settings = NetSettings { volume, pan, muted: false, priority, radio: false };
        self.command(VoiceCommand::SetNet { net, settings });
    }

    pub(super) fn command(&mut self, command: VoiceCommand) {
        let now = self.now();
        self.listener.handle_command(now, command);
    }

    /// Lets talker `k` talk to target `n`, which the listener hears on `heard`.
    pub(super) fn key(&mut self, k: usize, n: u8, heard: &[Net], priority: bool) {
        let (now, target, tag) = (self.now(), target(n), [n; 4]);
        let secret = KeySecret::generate(1, &self.random);
        let talker = &mut self.talkers[k];
        let key = VoiceCommand::UseKey { target, tag, secret: secret.clone() };
        talker.pipeline.handle_command(now, key);
        let devices = vec![self.own];
        talker
            .pipeline
            .handle_command(now, VoiceCommand::SetListeners { target, plan: devices.into() });
        let (device, heard) = (talker.device, heard.to_vec());
        let key = VoiceCommand::InstallKey { device, target, tag, heard, priority, secret };
        self.command(key);
    }

    /// Talker `k` turns to target `n` and speaks; with `None` it turns to no target.
    pub(super) fn talk(&mut self, k: usize, n: Option<u8>) {
        let now = self.now();
        let pipeline = &mut self.talkers[k].pipeline;
        pipeline.handle_command(
            now,
            VoiceCommand::SelectTarget { target: n.map(target), keyed: false },
        );
        pipeline.handle_command(now, VoiceCommand::PushToTalk(n.is_some()));
    }

    pub(super) fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            for talker in &mut self.talkers {
                let sound: Vec<f32> = (0..480)
                    .map(|n| {
                        let time = (self.captured * 480 + n) as f32 / 48_000.0;
                        talker.loudness * (time * talker.hertz * std::f32::consts::TAU).sin()
                    })
                    .collect();
                let now = Timestamp::from_micros(1_000_000 + self.captured * 10_000);
                talker.pipeline.handle_capture(now, &sound);
                while let Some((to, bytes)) = talker.pipeline.poll_transmit() {
                    assert_eq!(to, self.own);
                    talker.datagrams.push(bytes.to_vec());
                    self.sent += 1;
                    if (self.delivers)(self.sent) {
                        let arrived = now + Duration::from_millis(1);
                        self.listener.handle_datagram(arrived, talker.device, bytes);
                    }
                }
            }
            self.captured += 1;
            while self.played + self.block as u64 <= self.captured * 480 {
                self.played += self.block as u64;
                let now = Timestamp::from_micros(1_002_000 + self.played * 1_000 / 48);
                let mut out = vec![0.0; SIDES * self.block];
                self.listener.playout(now, &mut out);
                self.heard.extend_from_slice(out.as_chunks().0);
            }
            while let Some(event) = self.listener.poll_event() {
                self.events.push(event);
            }
        }
    }

    /// Amplitude of a tone on both sides in the last `milliseconds`.
    pub(super) fn amplitude(&self, hertz: f32, milliseconds: usize) -> [f32; SIDES] {
        let from = self.heard.len() - milliseconds * 48;
        amplitude(&self.heard[from..], hertz)
    }

    pub(super) fn received(&self, k: usize) -> u64 {
        self.listener.statistics().talkers[&self.talkers[k].device].frames_received
    }
}

pub(super) fn amplitude(heard: &[[f32; SIDES]], hertz: f32) -> [f32; SIDES] {
    [0, 1].map(|side| {
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, sides) in heard.iter().enumerate() {
            let phase = f64::from(hertz) * n as f64 / 48_000.0 * std::f64::consts::TAU;
            sine += f64::from(sides[side]) * phase.sin();
            cosine += f64::from(sides[side]) * phase.cos();
        }
        (2.0 * sine.hypot(cosine) / heard.len() as f64) as f32
    })
}

pub(super) fn target(n: u8) -> TargetId {
    TargetId::from_bytes([n; 16])
}

pub(super) fn net(n: u8) -> Net {
    Net::Channel(ChannelId::from_bytes([n; 16]))
}

pub(super) fn near(found: [f32; SIDES], wanted: [f32; SIDES]) -> bool {
    // Allows for what the codec makes of a tone.
    found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 0.04 * wanted + 1e-3)
}

pub(super) fn decibels(ratio: f32) -> f32 {
    20.0 * ratio.log10()
}
