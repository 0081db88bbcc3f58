//! Everything between the sound device and the links.

use std::collections::{BTreeMap, VecDeque};

use hark_keys::{DeviceId, KeySecret, TargetId, Timestamp};
use hark_mesh::datagram::{Datagram, DropReason, Voice};

use super::{
    CodecError, Outbox, PlayoutClock, SIDES,
    mix::{Cues, Limiter},
    receive::Talker,
    send::Sender,
};

/// The voice of one device in one channel: what it says, and all that it hears.
///
/// Commands, datagrams and captured samples go in; datagrams, events and samples to play come out.
/// Any call is legal at any time.
pub struct Pipeline {
    config: PipelineConfig,
    sender: Sender,
    talkers: BTreeMap<DeviceId, Talker>,
    clock: PlayoutClock,
    cues: Cues,
    limiter: Limiter,
    deafened: bool,
    outbox: Outbox,
    events: Events,
    drops: BTreeMap<DropReason, u64>,
}

/// What is settled for the life of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// This device.
    pub device: DeviceId,
    /// What is spoken to.
    pub target: TargetId,
    /// What its datagrams are marked with. [PROTO-7.1]
    pub target_tag: [u8; 4],
    /// What opens the gate at first.
    pub transmit: Transmit,
    /// Frames of 5 ms instead of 10 ms, and less lookahead.
    pub low_delay: bool,
    /// Bits of Opus a second, 16,000 to 256,000.
    pub bitrate_bps: u32,
    /// Whether short tones tell when our voice goes out.
    pub cues: bool,
}

impl PipelineConfig {
    /// The usual settings for `device` speaking to `target`: voice opens, 48 kbit/s, or 64 kbit/s with
    /// `low_delay`.
    pub fn new(device: DeviceId, target: TargetId, target_tag: [u8; 4], low_delay: bool) -> Self {
        let bitrate_bps = if low_delay { 64_000 } else { 48_000 };
        let transmit = Transmit::Voice;
        Self { device, target, target_tag, transmit, low_delay, bitrate_bps, cues: false }
    }
}

/// What opens the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transmit {
    /// It is always open.
    Open,
    /// Somebody speaks.
    #[default]
    Voice,
    /// A key is held.
    PushToTalk,
}

/// What the node and its user want.
pub enum VoiceCommand {
    /// Seal our frames with this key from now on.
    UseKey(KeySecret),
    /// A talker's key came.
    InstallKey {
        /// Whose key.
        device: DeviceId,
        /// The key.
        secret: KeySecret,
    },
    /// Forget a talker, keys and all.
    RemoveTalker(DeviceId),
    /// Who hears us.
    SetListeners(Vec<DeviceId>),
    /// Change what opens the gate.
    SetTransmit(Transmit),
    /// The key to talk goes down (true) or up.
    PushToTalk(bool),
    /// Send nothing of our microphone, or do so again.
    Mute(bool),
    /// Hear nobody, or everybody again.
    Deafen(bool),
    /// How loud a talker is, 0 to 4, 1 being as sent.
    Volume {
        /// Which talker.
        device: DeviceId,
        /// Factor of the amplitude.
        gain: f32,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VoiceEvent {
    /// A talker is heard.
    TalkStarted {
        /// Who.
        device: DeviceId,
    },
    /// A talker is heard no more.
    TalkEnded {
        /// Who.
        device: DeviceId,
    },
    /// Our voice goes out.
    OwnTalkStarted,
    /// It does so no more.
    OwnTalkEnded,
    /// The first frame was sealed with the key last given by [`VoiceCommand::UseKey`].
    KeyUsed,
}

impl Pipeline {
    /// A pipeline without keys, listeners and talkers. Fails where the bit rate makes no sense.
    pub fn new(config: PipelineConfig) -> Result<Self, CodecError> {
        Ok(Self {
            sender: Sender::new(&config)?,
            talkers: BTreeMap::new(),
            clock: PlayoutClock::new(),
            cues: Cues::new(config.cues),
            limiter: Limiter::default(),
            deafened: false,
            outbox: Outbox::new(),
            events: Events::default(),
            drops: BTreeMap::new(),
            config,
        })
    }

    /// Does what the node or its user wants.
    pub fn handle_command(&mut self, now: Timestamp, command: VoiceCommand) {
        match command {
            VoiceCommand::UseKey(secret) => self.sender.use_key(&secret),
            VoiceCommand::InstallKey { device, secret } => {
                if let Some(talker) = self.talker(device) {
                    talker.install_key(now, &secret);
                }
            }
            VoiceCommand::RemoveTalker(device) => {
                if self.talkers.remove(&device).is_some_and(|talker| talker.is_talking()) {
                    self.events.push(VoiceEvent::TalkEnded { device });
                }
            }
            VoiceCommand::SetListeners(devices) => self.sender.set_listeners(devices),
            VoiceCommand::SetTransmit(transmit) => self.sender.set_transmit(transmit),
            VoiceCommand::PushToTalk(down) => self.sender.set_key(now, down),
            VoiceCommand::Mute(muted) => self.sender.set_muted(muted),
            VoiceCommand::Deafen(deafened) => self.deafened = deafened,
            VoiceCommand::Volume { device, gain } => {
                if let Some(talker) = self.talker(device) {
                    talker.set_gain(gain);
                }
            }
        }
    }

    /// A datagram of kind 1 or 2 came over the link that ends at `from`. One that is of no use is
    /// dropped and counted. [PROTO-1.4]
    pub fn handle_datagram(&mut self, arrived: Timestamp, from: DeviceId, bytes: &[u8]) {
        match Datagram::parse(bytes) {
            Ok(Datagram::Voice(voice)) if voice.target_tag == self.config.target_tag => {
                self.handle_voice(arrived, from, &voice);
            }
            Ok(Datagram::Report(report)) if report.target_tag == self.config.target_tag => {
                self.sender.handle_report(arrived, from, &report);
            }
            Ok(Datagram::Voice(_) | Datagram::Report(_)) => self.drop(DropReason::UnknownTarget),
            Ok(Datagram::Heartbeat(_)) => self.drop(DropReason::UnknownKind),
            Err(reason) => self.drop(reason),
        }
    }

    /// Takes captured samples: 48 kHz, mono, -1 to 1, any number of them.
    pub fn handle_capture(&mut self, now: Timestamp, samples: &[f32]) {
        let was_transmitting = self.sender.is_transmitting();
        self.sender.handle_capture(now, samples, &mut self.outbox, &mut self.events);
        match (was_transmitting, self.sender.is_transmitting()) {
            (false, true) => self.cues.start_of_talk(),
            (true, false) => self.cues.end_of_talk(),
            _ => {}
        }
    }

    /// Fills `out` with the next samples to play, both sides interleaved, which are asked for at
    /// `now`.
    pub fn playout(&mut self, now: Timestamp, out: &mut [f32]) {
        let now = self.clock.tick(now, out.len() / SIDES);
        out.fill(0.0);
        for (device, talker) in &mut self.talkers {
            let was_talking = talker.is_talking();
            talker.mix_into(now, out);
            match (was_talking, talker.is_talking()) {
                (false, true) => self.events.push(VoiceEvent::TalkStarted { device: *device }),
                (true, false) => self.events.push(VoiceEvent::TalkEnded { device: *device }),
                _ => {}
            }
        }
        if self.deafened {
            out.fill(0.0);
        }
        self.cues.mix_into(out);
        self.limiter.process(out);
    }

    /// Makes the reports that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for (device, talker) in &mut self.talkers {
            if talker.report_due().is_some_and(|due| due <= now) {
                let jitter = talker.jitter();
                let report = talker.reception().report(now, self.config.target_tag, jitter);
                report.encode(self.outbox.push(*device));
            }
        }
    }

    /// The next datagram to send, and to whom; polled until there is none.
    pub fn poll_transmit(&mut self) -> Option<(DeviceId, &[u8])> {
        self.outbox.poll()
    }

    /// The next event; polled until there is none.
    pub fn poll_event(&mut self) -> Option<VoiceEvent> {
        self.events.0.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.talkers.values().filter_map(Talker::report_due).min()
    }

    /// Samples by which what listeners hear lags behind what was captured, besides the frame that
    /// must be complete and the time on the way.
    pub fn lookahead(&self) -> usize {
        self.sender.lookahead()
    }

    /// All counters as they stand.
    pub fn statistics(&self) -> VoiceStatistics {
        let (frames_sent, frames_failed) = self.sender.frames();
        let own = OwnStatistics {
            level_dbfs: self.sender.level_dbfs(),
            transmitting: self.sender.is_transmitting(),
            copies: self.sender.copies(),
            frames_sent,
            frames_failed,
        };
        let talkers =
            self.talkers.iter().map(|(device, talker)| (*device, talker.statistics())).collect();
        let mut drops = self.drops.clone();
        if self.outbox.dropped > 0 {
            *drops.entry(DropReason::QueueFull).or_default() += self.outbox.dropped;
        }
        VoiceStatistics { own, talkers, drops }
    }

    fn handle_voice(&mut self, arrived: Timestamp, from: DeviceId, voice: &Voice<'_>) {
        if self.talker(from).is_none() {
            return self.drop(DropReason::QueueFull);
        }
        if let Some(talker) = self.talkers.get_mut(&from) {
            talker.handle_voice(arrived, voice, |reason| {
                *self.drops.entry(reason).or_default() += 1;
            });
        }
    }

    /// The talker with this device, made if there is room.
    fn talker(&mut self, device: DeviceId) -> Option<&mut Talker> {
        if !self.talkers.contains_key(&device) {
            if self.talkers.len() == TALKERS_MAX {
                return None;
            }
            let talker = Talker::new(self.config.target, device).ok()?;
            self.talkers.insert(device, talker);
        }
        self.talkers.get_mut(&device)
    }

    fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }
}

/// Events that wait to be polled.
#[derive(Default)]
pub(super) struct Events(VecDeque<VoiceEvent>);

impl Events {
    pub(super) fn push(&mut self, event: VoiceEvent) {
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }
}

/// How voice is doing.
#[derive(Clone, Debug, Default)]
pub struct VoiceStatistics {
    /// Our own voice.
    pub own: OwnStatistics,
    /// Each talker's.
    pub talkers: BTreeMap<DeviceId, TalkerStatistics>,
    /// Datagrams and frames that were not used, and why.
    pub drops: BTreeMap<DropReason, u64>,
}

/// How our own voice goes out.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnStatistics {
    /// Level of the newest captured frame, whether or not it is sent.
    pub level_dbfs: f32,
    /// Whether a spurt is going out.
    pub transmitting: bool,
    /// The largest number of copies that any listener got with the newest frame.
    pub copies: u8,
    /// Frames sealed and sent.
    pub frames_sent: u64,
    /// Frames that could not be: the key has no counters left, or the codec failed.
    pub frames_failed: u64,
}

/// How one talker's voice comes in. Frames are counted since the talker is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct TalkerStatistics {
    /// Frames that came for the first time, copies included.
    pub frames_received: u64,
    /// Frames that were decoded and played.
    pub frames_played: u64,
    /// Frames that were due within a spurt, but not there.
    pub frames_concealed: u64,
    /// Frames that came after their turn.
    pub frames_late: u64,
    /// Frames that came in time, but only as a copy.
    pub frames_recovered: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f32,
    /// How long frames are held beyond the fastest arrival.
    pub playout_delay_ms: f32,
    /// Share of the last hundred datagrams that did not come.
    pub loss_percent: f32,
    /// Level of the frame that is being played.
    pub level_dbfs: f32,
    /// Whether the talker is heard right now.
    pub talking: bool,
}

/// Devices that are listened to; voice of further ones is dropped and counted.
pub const TALKERS_MAX: usize = 64;

/// Events that wait; the oldest goes.
const EVENTS_MAX: usize = 1_024;
