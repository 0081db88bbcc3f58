//! What many nets at once cost a listener, as a share of a core.

use std::time::{Duration, Instant};

use hark_keys::{ChannelId, DeviceId, DeviceKey, KeySecret, SeededRandom, TargetId, Timestamp};
use hark_voice::{Net, NetSettings, Pipeline, PipelineConfig, SIDES, Transmit, VoiceCommand};

use crate::{speech, table::Table};

/// Listens to talk on many nets for this many seconds, and reports how much of a core that took.
pub(crate) fn measure(seconds: usize) -> anyhow::Result<Table> {
    let speech = speech::samples(20.0)?;
    let mut table = Table::default();
    let mut reference = f64::NAN;
    for (talkers, muted) in [(1, false), (TALKERS, false), (TALKERS, true)] {
        let share = Party::new(talkers, muted)?.listen(&speech, seconds)?;
        match (talkers, muted) {
            (1, _) => {
                reference = share;
                table.shown("one talker on two nets", share, "% of a core", "beside");
            }
            (_, false) => {
                table.held("six talkers on twelve nets", share, "% of a core", BAR_PERCENT);
                table.shown("the same, beside one talker", share / reference, "", "times");
            }
            (_, true) => {
                let beside = "opened and held, not decoded";
                table.shown("six talkers on twelve muted nets", share, "% of a core", beside);
            }
        }
    }
    Ok(table)
}

/// A listener to twelve nets, and talkers that each talk to two of them.
struct Party {
    talkers: Vec<(DeviceId, Pipeline)>,
    listener: Pipeline,
}

impl Party {
    fn new(talkers: u8, muted: bool) -> anyhow::Result<Self> {
        let random = SeededRandom::new(1);
        let device = || DeviceKey::generate(&random).id();
        let pipeline = |device| {
            let usual = PipelineConfig::new(device, false);
            Pipeline::new(PipelineConfig { transmit: Transmit::Open, ..usual })
        };
        let (own, now) = (device(), Timestamp::ZERO);
        let mut listener = pipeline(own)?;
        for n in 0..2 * TALKERS {
            let (volume, pan) = (0.5 + 0.1 * f32::from(n), f32::from(n) / 6.0 - 1.0);
            let settings = NetSettings { volume, pan, muted, priority: n / 2, radio: false };
            listener.handle_command(now, VoiceCommand::SetNet { net: net(n), settings });
        }
        let mut others = Vec::new();
        for n in 0..talkers {
            let (target, tag) = (TargetId::from_bytes([n; 16]), [n; 4]);
            let (device, secret) = (device(), KeySecret::generate(1, &random));
            let mut talker = pipeline(device)?;
            for command in [
                VoiceCommand::UseKey { target, tag, secret: secret.clone() },
                VoiceCommand::SetListeners { target, plan: vec![own].into() },
                VoiceCommand::SelectTarget { target: Some(target), keyed: false },
            ] {
                talker.handle_command(now, command);
            }
            let (heard, priority) = (vec![net(2 * n), net(2 * n + 1)], false);
            for command in [
                VoiceCommand::InstallKey { device, target, tag, heard, priority, secret },
                VoiceCommand::Volume { device, gain: 0.9 },
            ] {
                listener.handle_command(now, command);
            }
            others.push((device, talker));
        }
        Ok(Self { talkers: others, listener })
    }

    /// All talkers speak for this many seconds, each starting at another place of `speech`. Returns
    /// the share of a core that the listener used, in percent.
    fn listen(mut self, speech: &[f32], seconds: usize) -> anyhow::Result<f64> {
        let mut out = [0.0; SIDES * BLOCK];
        let mut taken = Duration::ZERO;
        let mut loudest = 0.0_f32;
        let blocks = speech.len() / BLOCK;
        for slot in 0..100 * seconds {
            let now = Timestamp::from_millis(slot as u64 * 10);
            let mut said = Vec::new();
            for (n, (device, talker)) in self.talkers.iter_mut().enumerate() {
                let at = (slot + n * 190) % blocks * BLOCK;
                talker.handle_capture(now, &speech[at..at + BLOCK]);
                while let Some((_, datagram)) = talker.poll_transmit() {
                    said.push((*device, datagram.to_vec()));
                }
            }
            let start = Instant::now();
            for (device, datagram) in &said {
                self.listener.handle_datagram(now, *device, datagram);
            }
            self.listener.playout(now + Duration::from_millis(1), &mut out);
            self.listener.handle_timeout(now);
            while self.listener.poll_event().is_some() || self.listener.poll_transmit().is_some() {}
            taken += start.elapsed();
            loudest = out.iter().fold(loudest, |loudest, sample| loudest.max(sample.abs()));
        }
        let statistics = self.listener.statistics();
        let played: u64 = statistics.talkers.values().map(|talker| talker.frames_played).sum();
        let due = (100 * seconds - 10) * self.talkers.len();
        anyhow::ensure!(played >= due as u64, "{played} of {due} frames were played");
        divan::black_box(loudest);
        Ok(100.0 * taken.as_secs_f64() / seconds as f64)
    }
}

fn net(n: u8) -> Net {
    Net::Channel(ChannelId::from_bytes([n; 16]))
}

/// How many talkers talk at once, each on two nets of its own.
const TALKERS: u8 = 6;

/// How much of a core listening to them may use, in percent.
const BAR_PERCENT: f64 = 8.0;

/// Samples in 10 ms.
const BLOCK: usize = 480;
