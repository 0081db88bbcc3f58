//! From captured samples to a datagram for each listener.

use hark_keys::{DeviceId, KeySecret, SenderKey, TargetId, Timestamp};
use hark_mesh::datagram::{FrameHeader, Report};

use super::{
    CodecError, Outbox, PipelineConfig, Transmit, UNIT_SAMPLES, VoiceEvent,
    codec::Encoder,
    copies::{Listener, SealedFrames},
    gate::{Decision, Gate},
    pipeline::Events,
};

/// What a device does with its own voice.
pub struct Sender {
    device: DeviceId,
    target: TargetId,
    target_tag: [u8; 4],
    gate: Gate,
    encoder: Encoder,
    key: Option<SenderKey>,
    /// The key was put in and has sealed nothing yet.
    key_is_new: bool,
    listeners: Vec<Listener>,
    /// The frame that is being captured.
    block: Vec<f32>,
    silence: Vec<f32>,
    plaintext: Vec<u8>,
    frames: SealedFrames,
    /// Media time of the frame that is being captured, in units.
    media_time: u32,
    spurt: u8,
    in_spurt: bool,
    copies: u8,
    frames_sent: u64,
    frames_failed: u64,
}

impl Sender {
    /// A sender without key and listeners.
    pub fn new(config: &PipelineConfig) -> Result<Self, CodecError> {
        let encoder = Encoder::new(config.low_delay, config.bitrate_bps)?;
        let frame_samples = encoder.frame_samples();
        Ok(Self {
            device: config.device,
            target: config.target,
            target_tag: config.target_tag,
            gate: Gate::new(config.transmit),
            encoder,
            key: None,
            key_is_new: false,
            listeners: Vec::new(),
            block: Vec::with_capacity(frame_samples),
            silence: vec![0.0; frame_samples],
            plaintext: Vec::new(),
            frames: SealedFrames::default(),
            media_time: 0,
            spurt: 0,
            in_spurt: false,
            copies: 0,
            frames_sent: 0,
            frames_failed: 0,
        })
    }

    /// Seals with this key from the next frame on.
    pub fn use_key(&mut self, secret: &KeySecret) {
        self.key = Some(SenderKey::new(self.target, self.device, secret));
        self.key_is_new = true;
    }

    /// Who hears us; those who did go on with their sequence and copies. At most
    /// [`LISTENERS_MAX`], further ones are left out.
    pub fn set_listeners(&mut self, mut devices: Vec<DeviceId>) {
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(LISTENERS_MAX);
        let mut known = std::mem::take(&mut self.listeners);
        for device in devices {
            let place = known.iter().position(|listener| listener.device == device);
            self.listeners.push(match place {
                Some(place) => known.swap_remove(place),
                None => Listener::new(device),
            });
        }
    }

    /// Changes what opens the gate.
    pub fn set_transmit(&mut self, transmit: Transmit) {
        self.gate.set_transmit(transmit);
    }

    /// The key to talk goes down or up. Pressed, it sends the frame that is being captured.
    pub fn set_key(&mut self, now: Timestamp, down: bool) {
        self.gate.set_key(now, down);
    }

    /// Sends nothing of our voice, or does so again.
    pub fn set_muted(&mut self, muted: bool) {
        self.gate.set_muted(muted);
    }

    /// What a listener says of our datagrams. Those of others are not asked for.
    pub fn handle_report(&mut self, now: Timestamp, from: DeviceId, report: &Report) {
        if let Some(listener) = self.listeners.iter_mut().find(|it| it.device == from) {
            listener.handle_report(now, report);
        }
    }

    /// Takes captured samples; each frame that they complete goes at once.
    pub(super) fn handle_capture(
        &mut self,
        now: Timestamp,
        mut samples: &[f32],
        outbox: &mut Outbox,
        events: &mut Events,
    ) {
        while !samples.is_empty() {
            let missing = self.encoder.frame_samples() - self.block.len();
            let (taken, rest) = samples.split_at(missing.min(samples.len()));
            // A sound device may give nonsense, which would stay in the codec's state.
            self.block.extend(
                taken.iter().map(
                    |sample| {
                        if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
                    },
                ),
            );
            samples = rest;
            if self.block.len() == self.encoder.frame_samples() {
                self.on_frame(now, outbox, events);
                self.block.clear();
                let units = self.encoder.frame_samples() / UNIT_SAMPLES;
                self.media_time = self.media_time.wrapping_add(units as u32);
            }
        }
    }

    /// Samples by which what listeners decode lags behind what was captured.
    pub fn lookahead(&self) -> usize {
        self.encoder.lookahead()
    }

    /// Level of the newest frame.
    pub fn level_dbfs(&self) -> f32 {
        self.gate.level_dbfs()
    }

    /// Whether a spurt of ours is going out.
    pub fn is_transmitting(&self) -> bool {
        self.in_spurt
    }

    /// Frames that were sealed, and those that could not be: no counters left, or a codec error.
    pub fn frames(&self) -> (u64, u64) {
        (self.frames_sent, self.frames_failed)
    }

    /// The largest number of copies that any listener got with the newest frame.
    pub fn copies(&self) -> u8 {
        self.copies
    }

    fn on_frame(&mut self, now: Timestamp, outbox: &mut Outbox, events: &mut Events) {
        let decision = self.gate.handle_frame(now, &self.block);
        let heard = self.key.is_some() && !self.listeners.is_empty();
        match decision {
            Decision::Send { last } if heard && (self.in_spurt || !last) => {
                let first = !self.in_spurt;
                if first {
                    self.in_spurt = true;
                    self.start_spurt();
                    events.push(VoiceEvent::OwnTalkStarted);
                }
                self.send(now, first, last, false, outbox, events);
                if last {
                    self.end_spurt(now, events);
                }
            }
            // What is said from now on is nobody's business, not even in the last frame.
            _ if self.in_spurt => {
                self.send(now, false, true, true, outbox, events);
                self.end_spurt(now, events);
            }
            _ => {
                for listener in &mut self.listeners {
                    if listener.take_repeat() {
                        let out = outbox.push(listener.device);
                        listener.encode(now, self.target_tag, &self.frames, out);
                    }
                }
            }
        }
    }

    fn start_spurt(&mut self) {
        self.spurt = (self.spurt + 1) % 16;
        self.frames.clear();
        self.encoder.reset();
        self.listeners.iter_mut().for_each(Listener::start_spurt);
    }

    fn end_spurt(&mut self, now: Timestamp, events: &mut Events) {
        self.in_spurt = false;
        self.copies = 0;
        self.listeners.iter_mut().for_each(|listener| listener.end_spurt(now));
        events.push(VoiceEvent::OwnTalkEnded);
    }

    fn send(
        &mut self,
        now: Timestamp,
        first: bool,
        last: bool,
        silent: bool,
        outbox: &mut Outbox,
        events: &mut Events,
    ) {
        let Some(key) = &mut self.key else { return };
        let header = FrameHeader { first, last, spurt: self.spurt, media_time: self.media_time };
        self.plaintext.clear();
        self.plaintext.extend_from_slice(&header.to_bytes());
        let samples = if silent { &self.silence } else { &self.block };
        let coded = self.encoder.encode(samples, &mut self.plaintext);
        if coded.is_err() || key.seal(&self.plaintext, self.frames.push()).is_err() {
            if coded.is_ok() {
                self.frames.pop();
            }
            self.frames_failed += 1;
            return;
        }
        self.frames_sent += 1;
        self.copies = self.listeners.iter().map(|it| it.copies(now)).max().unwrap_or(0);
        if std::mem::take(&mut self.key_is_new) {
            events.push(VoiceEvent::KeyUsed);
        }
        for listener in &mut self.listeners {
            let out = outbox.push(listener.device);
            listener.encode(now, self.target_tag, &self.frames, out);
        }
    }
}

/// Devices that one voice is sent to; further ones do not hear it.
pub const LISTENERS_MAX: usize = 64;
