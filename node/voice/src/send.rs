//! From captured samples to a datagram for each listener.
//!
//! A talkspurt is sent to the target that is selected when it begins, and to no other. If another
//! target is selected meanwhile, the talkspurt ends with a frame of silence. What is said from then
//! on belongs to a new talkspurt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hark_keys::{DeviceId, DeviceKey, EpochSecret, KeySecret, SenderKey, TargetId, Timestamp};
use hark_mesh::{
    datagram::{
        Account, Datagram, DropReason, FRAMES_MAX, FrameHeader, Question, Report, SILENCE, Seen,
    },
    topology::Plan,
};

use super::{
    CodecError, Events, Outbox, PipelineConfig, SIDES, Transmit, UNIT_SAMPLES, VoiceEvent,
    accounts::Accounts,
    codec::{Encoder, FRAME_SAMPLES_MAX},
    gate::{Gate, GateDecision},
    proofs::Prover,
    rate::{CodingChange, CodingSettings, CodingState, CopiesRule, Music, Rate},
    redundancy::{EndedTalkspurts, ListenerRedundancy, NextHop, SealedFrames},
    shunned::FORGED,
    stereo::interleave,
    uplinks::Uplinks,
};

/// The sending side of a device's own voice.
pub struct Sender {
    device: DeviceId,
    gate: Gate,
    encoder: Encoder,
    /// The encoder of both sides, once a channel carries music in stereo.
    stereo: Option<Encoder>,
    rate: Rate,
    /// What is in force.
    coding: CodingState,
    targets: BTreeMap<TargetId, Target>,
    /// The target of the next talkspurt.
    selected: Option<TargetId>,
    /// The targets that are channels for music.
    music: BTreeMap<TargetId, Music>,
    low_delay: bool,
    /// Whether both sides are captured.
    captures_both: bool,
    /// The ways to all targets, and those on which the end of a talkspurt is still to be repeated.
    listeners: BTreeMap<NextHop, ListenerRedundancy>,
    /// The next sequence numbers of ways that are no longer used.
    left: BTreeMap<NextHop, u16>,
    uplinks: Uplinks,
    accounts: Accounts,
    prover: Prover,
    /// The relays that are members' nodes.
    member_relays: BTreeSet<DeviceId>,
    /// The ways that the current frame takes.
    ways: Vec<NextHop>,
    /// The frame that is being captured.
    block: Vec<f32>,
    /// Half the difference of both sides of that frame; shorter where there is none.
    difference: Vec<f32>,
    both: Vec<f32>,
    silence: Vec<f32>,
    plaintext: Vec<u8>,
    /// The frames of the current talkspurt.
    frames: SealedFrames,
    ended: EndedTalkspurts,
    /// Media time of the frame that is being captured, in units.
    media_time: u32,
    talkspurt_number: u8,
    talkspurt: Option<Talkspurt>,
    /// Whether a talkspurt ended only because another target was selected. The next frame goes to
    /// that target.
    turning: bool,
    copies: u8,
    frames_sent: u64,
    samples_sent: u64,
    frames_failed: u64,
}

/// A target that a talkspurt can be sent to.
#[derive(Default)]
struct Target {
    tag: [u8; 4],
    key: Option<SenderKey>,
    /// The key was installed and has sealed nothing yet.
    key_is_new: bool,
    plan: Plan,
    /// The target is kept only for the last frame of its talkspurt.
    removed: bool,
}

impl Target {
    /// Whether anybody would hear a frame.
    fn is_heard(&self) -> bool {
        self.key.is_some() && !self.plan.is_empty() && !self.removed
    }

    /// Seals nothing more with the key. Listeners may still ask about what it has sealed.
    fn end_key(&mut self, prover: &mut Prover) {
        if let Some(key) = self.key.take() {
            prover.handle_key_ended(self.tag, key.sealed());
        }
    }
}

/// The talkspurt that is being sent.
#[derive(Clone, Copy)]
struct Talkspurt {
    target: TargetId,
    since: Timestamp,
    /// Nothing of it has been sent yet.
    first: bool,
    /// It ends with the frame that is being captured, and none of that frame's sound is sent.
    over: bool,
}

impl Talkspurt {
    fn new(now: Timestamp, target: TargetId) -> Self {
        Self { target, since: now, first: true, over: false }
    }
}

impl Sender {
    /// Creates a sender without targets.
    pub fn new(config: &PipelineConfig) -> Result<Self, CodecError> {
        let rate = Rate::new(config.low_delay, config.coding);
        let coding = rate.wanted();
        let mut encoder = Encoder::new(config.low_delay, coding.coding.bitrate_bps)?;
        encoder.set_coding(coding.coding)?;
        Ok(Self {
            device: config.device,
            gate: Gate::new(config.transmit),
            encoder,
            stereo: None,
            low_delay: config.low_delay,
            rate,
            coding,
            targets: BTreeMap::new(),
            selected: None,
            music: BTreeMap::new(),
            captures_both: false,
            listeners: BTreeMap::new(),
            left: BTreeMap::new(),
            uplinks: Uplinks::default(),
            accounts: Accounts::default(),
            prover: Prover::new(),
            member_relays: BTreeSet::new(),
            ways: Vec::new(),
            block: Vec::with_capacity(FRAME_SAMPLES_MAX),
            difference: Vec::with_capacity(FRAME_SAMPLES_MAX),
            both: Vec::with_capacity(SIDES * FRAME_SAMPLES_MAX),
            silence: vec![0.0; FRAME_SAMPLES_MAX],
            plaintext: Vec::new(),
            frames: SealedFrames::default(),
            ended: EndedTalkspurts::default(),
            media_time: 0,
            talkspurt_number: 0,
            talkspurt: None,
            turning: false,
            copies: 0,
            frames_sent: 0,
            samples_sent: 0,
            frames_failed: 0,
        })
    }

    /// Seals speech to `target` with this key from the next frame on, and marks it with `tag`.
    pub fn use_key(&mut self, target: TargetId, tag: [u8; 4], secret: &KeySecret) {
        self.seal_with(target, tag, SenderKey::new(target, self.device, secret));
    }

    /// Like [`Self::use_key`], with a key of ours in an epoch.
    pub fn use_epoch(
        &mut self,
        target: TargetId,
        tag: [u8; 4],
        epoch: &EpochSecret,
        generation: u8,
    ) {
        let key = SenderKey::of_epoch(target, self.device, epoch, generation);
        self.seal_with(target, tag, key);
    }

    /// Seals nothing for `target` until it has another key.
    pub fn drop_key(&mut self, target: TargetId) {
        if let Some(place) = self.targets.get_mut(&target) {
            place.end_key(&mut self.prover);
        }
    }

    fn seal_with(&mut self, target: TargetId, tag: [u8; 4], key: SenderKey) {
        if let Some(place) = self.target(target) {
            let before = place.key.replace(key);
            place.tag = tag;
            place.key_is_new = true;
            if let Some(before) = before {
                self.prover.handle_key_ended(tag, before.sealed());
            }
        }
        // Somebody may get this key who did not have the one before. [PROTO-7.11]
        let talkspurt = self.talkspurt.filter(|it| it.target == target && !it.first);
        if let Some(talkspurt) = talkspurt.filter(|_| self.coding.coding.deep) {
            self.begin_frames(Talkspurt { first: true, ..talkspurt });
        }
    }

    /// Signs with `key` what is sent by members' relays.
    pub fn sign_with(&mut self, key: Arc<DeviceKey>) {
        self.prover.sign_with(key);
    }

    /// Sets whether a relay is a member's node, which may hold our keys.
    pub fn set_member_relay(&mut self, relay: DeviceId, is_members: bool) {
        if is_members {
            self.member_relays.insert(relay);
        } else {
            self.member_relays.remove(&relay);
        }
    }

    /// A listener asks whether a frame is ours.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    pub(super) fn handle_question(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        question: &Question,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        let tag = question.target_tag;
        let keys = self.targets.values().filter(|target| target.tag == tag);
        let sealed = keys.filter_map(|target| Some(target.key.as_ref()?.sealed()));
        let answer = self.prover.answer(now, from, question, sealed)?;
        outbox.push(from).extend_from_slice(&answer);
        Ok(())
    }

    /// Sets how speech to `target` travels. Ways that are known keep their sequence and copies. We
    /// send at most [`LISTENERS_MAX`] direct datagrams per frame; further listeners are left out.
    pub fn set_listeners(&mut self, target: TargetId, mut plan: Plan) {
        plan.direct.truncate(LISTENERS_MAX);
        let Some(place) = self.target(target) else { return };
        place.plan.clone_from(&plan);
        for way in ways_of(&plan) {
            let left = &mut self.left;
            let fresh = || ListenerRedundancy::going_on(left.remove(&way).unwrap_or(0));
            self.listeners.entry(way).or_insert_with(fresh);
        }
        self.uplinks.retain(self.targets.values().map(|place| &place.plan));
        let plans = || self.targets.values().flat_map(|place| &place.plan.hops);
        self.accounts
            .retain(|relay| plans().any(|hop| hop.relay == relay || hop.standby == Some(relay)));
        self.forget_listeners();
    }

    /// Sends nothing to `target` any more. A talkspurt to it ends.
    pub fn remove_target(&mut self, target: TargetId) {
        match (&mut self.talkspurt, self.targets.get_mut(&target)) {
            (Some(talkspurt), Some(place)) if talkspurt.target == target => {
                talkspurt.over = true;
                place.removed = true;
            }
            _ => {
                if let Some(mut place) = self.targets.remove(&target) {
                    place.end_key(&mut self.prover);
                }
                self.forget_listeners();
            }
        }
    }

    /// Sets the target of the next talkspurt. A talkspurt that is being sent ends. [PROTO-7.7]
    pub fn select(&mut self, target: Option<TargetId>) {
        if self.selected == target {
            return;
        }
        self.selected = target;
        self.gate.end_tail();
        match &mut self.talkspurt {
            Some(talkspurt) => talkspurt.over = true,
            // This was said before, so it is not for the target that is selected now.
            None => self.silence_block(),
        }
        self.follow_rate();
    }

    /// Changes what opens the gate.
    pub fn set_transmit(&mut self, transmit: Transmit) {
        self.gate.set_transmit(transmit);
    }

    /// The user has pressed or released the key to talk. When pressed, it also sends the frame that
    /// is being captured.
    pub fn set_key(&mut self, now: Timestamp, down: bool) {
        self.gate.set_key(now, down);
    }

    /// Sets how long the microphone stays open after the key.
    pub fn set_tail(&mut self, tail: Duration) {
        self.gate.set_tail(tail);
    }

    /// Sends nothing of our voice, or sends it again.
    pub fn set_muted(&mut self, muted: bool) {
        if self.gate.is_muted() && !muted {
            // The frame that may be sent next holds what was said while muted.
            self.silence_block();
        }
        self.gate.set_muted(muted);
    }

    /// A listener reports on our datagrams. Only listeners in use count. The report is about the
    /// link, whichever target its tag names.
    ///
    /// # Errors
    ///
    /// The tag is none of ours.
    pub fn handle_report(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        report: &Report,
    ) -> Result<(), DropReason> {
        let tag = report.target_tag;
        let ours = |target: &Target| target.key.is_some() && target.tag == tag;
        if !self.targets.values().any(ours) && !self.ended.has_tag(tag) {
            return Err(DropReason::UnknownTarget);
        }
        if let Some(listener) = self.listeners.get_mut(&NextHop::Link(from)) {
            listener.handle_report(now, report.wanted_copies);
            listener.handle_arrivals(now, report.highest_sequence, report.received);
        }
        Ok(())
    }

    /// A relay reports on our datagrams, and on the copies that its listeners want.
    pub fn handle_seen(&mut self, now: Timestamp, relay: DeviceId, seen: &Seen) {
        self.uplinks.handle_seen(now, relay);
        self.accounts.handle_seen(now, relay, seen.lost);
        if let Some(listener) = self.listeners.get_mut(&NextHop::Relay(relay)) {
            listener.handle_report(now, seen.wanted_copies);
            listener.handle_arrivals(now, seen.highest_sequence, seen.received);
        }
    }

    /// A listener sends an account of the relay by which it hears us.
    ///
    /// # Errors
    ///
    /// The listener does not hear us by that relay.
    pub(super) fn handle_account(
        &mut self,
        now: Timestamp,
        from: DeviceId,
        account: &Account,
        events: &mut Events,
    ) -> Result<(), DropReason> {
        let relay = account.relay;
        if account.spoilt == FORGED && self.listeners.contains_key(&NextHop::Relay(relay)) {
            events.push(VoiceEvent::RelayFails { relay, listener: from, for_good: true });
        } else if self.accounts.handle_account(now, from, account)? {
            events.push(VoiceEvent::RelayFails { relay, listener: from, for_good: false });
        }
        Ok(())
    }

    /// Forgets what the frame that is being captured holds.
    fn silence_block(&mut self) {
        self.block.fill(0.0);
        self.difference.clear();
    }

    /// Takes captured samples: the mean of both sides, and half their difference, which is empty
    /// where only one side is captured. Each frame that they complete is sent at once.
    pub(super) fn handle_capture(
        &mut self,
        now: Timestamp,
        (mut samples, mut difference): (&[f32], &[f32]),
        outbox: &mut Outbox,
        events: &mut Events,
    ) {
        self.captures_both = !difference.is_empty();
        while !samples.is_empty() {
            let frame = self.coding.coding.frame_samples;
            let missing = (frame - self.block.len()).min(samples.len());
            if self.coding.coding.stereo && !difference.is_empty() {
                self.difference.resize(self.block.len(), 0.0);
                let taken = difference.get(..missing).unwrap_or_default();
                self.difference.extend(taken.iter().map(sound));
            }
            difference = difference.get(missing..).unwrap_or_default();
            let (taken, rest) = samples.split_at(missing);
            self.block.extend(taken.iter().map(sound));
            samples = rest;
            if self.block.len() == frame {
                self.on_frame(now, outbox, events);
                self.block.clear();
                self.difference.clear();
                let units = frame / UNIT_SAMPLES;
                self.media_time = self.media_time.wrapping_add(units as u32);
                self.follow_rate();
            }
        }
    }

    /// Sets which targets are channels for music.
    pub fn set_music(&mut self, music: BTreeMap<TargetId, Music>) {
        if self.stereo.is_none() && music.values().any(|it| it.stereo) {
            // Without memory for it, music is sent in mono.
            self.stereo = Encoder::stereo(self.low_delay, STEREO_BPS).ok();
        }
        self.music = music;
        self.follow_rate();
    }

    /// Whether what is said next is music.
    pub fn is_music(&self) -> bool {
        self.selected.is_some_and(|target| self.music.contains_key(&target))
    }

    /// Changes what of the coding the person has chosen, from the next talkspurt on.
    pub fn change_coding(&mut self, change: CodingChange) {
        self.rate.change(change);
        self.follow_rate();
    }

    /// What of the coding the person has chosen.
    pub fn coding_settings(&self) -> CodingSettings {
        self.rate.settings()
    }

    /// Whether it was started with low delay.
    pub fn is_low_delay(&self) -> bool {
        self.low_delay
    }

    /// How our voice is coded, and why.
    pub fn coding(&self) -> CodingState {
        self.coding
    }

    /// Number of samples by which the sound that listeners decode lags behind the captured sound.
    pub fn lookahead(&self) -> usize {
        self.encoder.lookahead()
    }

    /// Level of the newest frame.
    pub fn level_dbfs(&self) -> f32 {
        self.gate.level_dbfs()
    }

    /// The target of our current talkspurt, if there is one.
    pub fn transmitting_to(&self) -> Option<TargetId> {
        self.talkspurt.map(|talkspurt| talkspurt.target)
    }

    /// Whether a key begins and ends our talkspurts, and not sound.
    pub fn is_keyed(&self) -> bool {
        self.gate.is_keyed()
    }

    /// Whether one talkspurt has just ended and the next frame begins another.
    pub fn is_turning(&self) -> bool {
        self.turning
    }

    /// Number of frames that were sealed, and of frames that could not be: no counters left, or a
    /// codec error.
    pub fn frames(&self) -> (u64, u64, u64) {
        (self.frames_sent, self.samples_sent, self.frames_failed)
    }

    /// The largest number of copies that any listener got with the newest frame.
    pub fn copies(&self) -> u8 {
        self.copies
    }

    fn on_frame(&mut self, now: Timestamp, outbox: &mut Outbox, events: &mut Events) {
        self.gate.set_music(self.is_music());
        let decision = self.gate.handle_frame(now, &self.block);
        if self.talkspurt.is_none() && decision == (GateDecision::Send { last: false }) {
            self.start_talkspurt(now, events);
        }
        let rule = self.rate.copies(&self.coding);
        self.ended.repeat(|way, tag, frames| {
            if let Some(listener) = self.listeners.get_mut(&way) {
                listener.encode(now, way, (tag, SILENCE), rule, frames, outbox.push(way.device()));
            }
        });
        self.turning = false;
        let Some(talkspurt) = self.talkspurt else { return };
        let is_heard = |target| self.targets.get(&target).is_some_and(Target::is_heard);
        let heard = is_heard(talkspurt.target);
        match decision {
            GateDecision::Send { last } if heard && !talkspurt.over => {
                let over = last || self.reaches_seam(now);
                self.send(now, over, false, outbox, events);
                if last {
                    self.end_talkspurt(now, events);
                } else if over {
                    self.begin_frames(Talkspurt::new(now, talkspurt.target));
                }
            }
            // What is said from now on is for nobody, not even in the last frame.
            GateDecision::Send { .. } | GateDecision::Closed => {
                let goes_on = decision == GateDecision::Send { last: false };
                self.turning = goes_on && self.selected.is_some_and(is_heard);
                self.send(now, true, true, outbox, events);
                self.end_talkspurt(now, events);
            }
        }
    }

    fn start_talkspurt(&mut self, now: Timestamp, events: &mut Events) {
        let Some(target) = self.selected else { return };
        let Some(place) = self.targets.get(&target).filter(|place| place.is_heard()) else {
            return;
        };
        ways_of(&place.plan).for_each(|way| self.ended.cancel(way));
        self.uplinks.begin();
        for way in ways_of(&place.plan) {
            if let Some(listener) = self.listeners.get_mut(&way) {
                listener.begin();
            }
        }
        self.begin_frames(Talkspurt::new(now, target));
        events.push(VoiceEvent::OwnTalkStarted { target });
    }

    /// The next frame is the first of this talkspurt.
    fn begin_frames(&mut self, talkspurt: Talkspurt) {
        self.talkspurt = Some(talkspurt);
        self.talkspurt_number = (self.talkspurt_number + 1) % 16;
        self.frames.clear();
        self.encoder.reset();
        if let Some(stereo) = &mut self.stereo {
            stereo.reset();
        }
    }

    /// Judges the ways of the talkspurt. Returns whether it is to go on as a new one, since the
    /// coding changes: at once if we are to send less or to protect more, and after [`SEAM_AFTER`]
    /// otherwise.
    fn reaches_seam(&mut self, now: Timestamp) -> bool {
        self.follow_target(self.talkspurt.map(|it| it.target));
        let ways = self.ways.iter().filter_map(|way| self.listeners.get(way));
        self.rate.judge(now, ways.map(|way| (way.queueing(), way.copies(now, CopiesRule::ASKED))));
        let (Some(talkspurt), wanted) = (self.talkspurt, self.rate.wanted()) else { return false };
        self.coding = self.rate.state(self.coding.coding);
        let (wanted, now_used) = (wanted.coding, self.coding.coding);
        let less = wanted.bitrate_bps < now_used.bitrate_bps
            || wanted.frame_samples > now_used.frame_samples;
        let protects = wanted.deep && !now_used.deep;
        let other = wanted.music != now_used.music || wanted.stereo != now_used.stereo;
        let long = now.saturating_duration_since(talkspurt.since) >= SEAM_AFTER;
        wanted != now_used && !talkspurt.first && (less || protects || other || long)
    }

    /// Between two talkspurts, puts into force what the network allows.
    fn follow_rate(&mut self) {
        let begins = self.talkspurt.is_none_or(|talkspurt| talkspurt.first);
        if !begins || !self.block.is_empty() {
            return;
        }
        self.follow_target(self.selected);
        let wanted = self.rate.wanted();
        let encoder = match &mut self.stereo {
            Some(stereo) if wanted.coding.stereo => stereo,
            _ => &mut self.encoder,
        };
        // Whatever is set was checked, and all that we choose is valid.
        if encoder.set_coding(wanted.coding).is_ok() {
            self.coding = wanted;
        }
    }

    /// What is said next goes to `target`.
    fn follow_target(&mut self, target: Option<TargetId>) {
        let Some(target) = target else { return };
        if let Some(place) = self.targets.get(&target) {
            let both = self.captures_both && self.stereo.is_some();
            let music = self.music.get(&target);
            let music = music.map(|music| Music { stereo: music.stereo && both, ..*music });
            self.rate.follow(&place.plan, music);
        }
    }

    fn end_talkspurt(&mut self, now: Timestamp, events: &mut Events) {
        let Some(Talkspurt { target, .. }) = self.talkspurt.take() else { return };
        self.copies = 0;
        let rule = self.rate.copies(&self.coding);
        if let Some(place) = self.targets.get(&target) {
            let listeners = &self.listeners;
            let repeats = self.ways.iter().filter_map(|way| {
                let listener = listeners.get(way)?;
                Some((*way, listener.repeats(now, rule)))
            });
            if !self.frames.is_empty() {
                self.ended.push(place.tag, &mut self.frames, repeats);
            }
            if place.removed
                && let Some(mut place) = self.targets.remove(&target)
            {
                place.end_key(&mut self.prover);
            }
        }
        self.forget_listeners();
        events.push(VoiceEvent::OwnTalkEnded);
    }

    fn send(
        &mut self,
        now: Timestamp,
        last: bool,
        silent: bool,
        outbox: &mut Outbox,
        events: &mut Events,
    ) {
        let Some(talkspurt) = &mut self.talkspurt else { return };
        let Some(place) = self.targets.get_mut(&talkspurt.target) else { return };
        let Some(key) = &mut place.key else { return };
        let first = std::mem::take(&mut talkspurt.first);
        let header = FrameHeader {
            first,
            last,
            talkspurt: self.talkspurt_number,
            media_time: self.media_time,
        };
        self.plaintext.clear();
        self.plaintext.extend_from_slice(&header.to_bytes());
        let silence = &self.silence[..self.block.len()];
        let samples = if silent { silence } else { self.block.as_slice() };
        let coded = match &mut self.stereo {
            Some(stereo) if self.coding.coding.stereo => {
                let difference = if silent { &[] } else { self.difference.as_slice() };
                interleave(samples, difference, &mut self.both);
                stereo.encode(&self.both, &mut self.plaintext)
            }
            _ => self.encoder.encode(samples, &mut self.plaintext),
        };
        if coded.is_err() || key.seal(&self.plaintext, self.frames.push()).is_err() {
            if coded.is_ok() {
                self.frames.pop();
            }
            self.frames_failed += 1;
            return;
        }
        self.frames_sent += 1;
        self.samples_sent += self.block.len() as u64;
        let (talkspurt_target, tag) = (talkspurt.target, place.tag);
        self.prover.handle_sealed(tag, self.frames.latest());
        if std::mem::take(&mut place.key_is_new) {
            events.push(VoiceEvent::KeyUsed { target: talkspurt.target });
        }
        self.copies = 0;
        let rule = self.rate.copies(&self.coding);
        self.ways.clear();
        // [PROTO-7.8] Each listener gets one datagram, however many nets of the target reach it.
        self.ways.extend(place.plan.direct.iter().copied().map(NextHop::Link));
        for hop in &place.plan.hops {
            let (way, silent) = self.uplinks.way(now, hop);
            if let Some(relay) = silent {
                events.push(VoiceEvent::RelaySilent { relay });
                // The last frames sent to the silent relay are sent again to its standby.
                if let Some(standby) = self.listeners.get_mut(&way) {
                    standby.handle_report(now, COPIES_MAX);
                }
            }
            self.ways.push(way);
        }
        let level = if silent { SILENCE } else { level_of(self.gate.level_dbfs()) };
        for way in &self.ways {
            if let Some(listener) = self.listeners.get_mut(way) {
                self.copies = self.copies.max(listener.copies(now, rule));
                let out = outbox.push(way.device());
                if let NextHop::Relay(relay) = way {
                    if self.member_relays.contains(relay) {
                        self.prover.handle_relayed(now, *relay);
                    }
                    self.accounts.handle_sent(now, *relay, listener.sequence());
                }
                listener.encode(now, *way, (place.tag, level), rule, &self.frames, out);
            }
        }
        self.prove(now, last, outbox);
        let Some(place) = self.targets.get(&talkspurt_target) else { return };
        let relays = self.ways.iter().filter_map(|way| way.relay());
        self.accounts.judge(now, relays.zip(&place.plan.hops), |relay, listener| {
            events.push(VoiceEvent::RelayFails { relay, listener, for_good: false });
        });
    }

    /// Sends the talk proofs that are due, or all of them if the talkspurt is `over`.
    fn prove(&mut self, now: Timestamp, over: bool, outbox: &mut Outbox) {
        let Some((proofs, relays)) = self.prover.poll(now, over) else { return };
        let level = level_of(self.gate.level_dbfs());
        for relay in relays {
            let way = NextHop::Relay(relay);
            let Some(listener) = self.listeners.get_mut(&way) else { continue };
            for proof in &proofs {
                let Ok(Datagram::Proof(it)) = Datagram::parse(proof) else { continue };
                self.accounts.handle_sent(now, relay, listener.sequence());
                listener.encode_alone((it.target_tag, level), proof, outbox.push(relay));
            }
        }
    }

    /// Returns the target with this id, created if there is room; `None` if there are
    /// [`TARGETS_MAX`].
    fn target(&mut self, target: TargetId) -> Option<&mut Target> {
        if !self.targets.contains_key(&target) && self.targets.len() == TARGETS_MAX {
            return None;
        }
        let place = self.targets.entry(target).or_insert_with(|| {
            if self.selected == Some(target) {
                // This was said before the target existed, so it is not for it.
                self.block.fill(0.0);
                self.difference.clear();
            }
            Target::default()
        });
        if place.removed {
            // The target is a new one now, and the listeners of the old one do not hear it. The old
            // talkspurt is over, and with it what was said until now.
            place.end_key(&mut self.prover);
            *place = Target::default();
        }
        Some(place)
    }

    /// Forgets the listeners that hear nothing of us any more.
    fn forget_listeners(&mut self) {
        let (targets, ended, left) = (&self.targets, &self.ended, &mut self.left);
        self.listeners.retain(|way, listener| {
            let takes = |target: &Target| match way {
                NextHop::Link(device) => target.plan.direct.binary_search(device).is_ok(),
                NextHop::Relay(_) => ways_of(&target.plan).any(|it| it == *way),
            };
            let stays = targets.values().any(takes) || ended.tells(*way);
            if !stays {
                left.insert(*way, listener.sequence());
            }
            stays
        });
        while left.len() > LEFT_MAX {
            left.pop_first();
        }
    }
}

/// A captured sample. A sound device may give invalid numbers, which would stay in the codec's
/// state.
fn sound(sample: &f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

/// All ways that a plan may use.
fn ways_of(plan: &Plan) -> impl Iterator<Item = NextHop> {
    let relays = plan.hops.iter().flat_map(|hop| [Some(hop.relay), hop.standby]);
    plan.direct.iter().copied().map(NextHop::Link).chain(relays.flatten().map(NextHop::Relay))
}

/// A level in the form that relays read: -dBov (RFC 6464).
fn level_of(dbfs: f32) -> u8 {
    // The cast turns even NaN into a number within the bounds.
    (-dbfs).clamp(0.0, SILENCE.into()) as u8
}

/// The largest number of copies in a datagram.
const COPIES_MAX: u8 = FRAMES_MAX as u8 - 1;

/// A talkspurt of this length is divided so that we send more again.
const SEAM_AFTER: Duration = Duration::from_secs(5);

/// What the encoder of both sides begins with, in bits per second.
const STEREO_BPS: u32 = 96_000;

/// Unused ways whose sequence numbers are remembered. If there are more, the first one in order is
/// dropped and would start again at zero.
const LEFT_MAX: usize = 256;

/// Most targets that can be talked to; further ones are refused.
pub const TARGETS_MAX: usize = 64;

/// Most devices that we send to directly for one target; further ones do not hear it.
pub const LISTENERS_MAX: usize = 64;
