//! Everything between the sound device and the links.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{DeviceId, EpochSecret, TargetId, Timestamp};
use hark_mesh::datagram::{
    Account, Datagram, DropReason, Forwarded, ForwardedReport, FromRelay, Introduction, Proof,
    Slot, Voice,
};

use super::{
    CodecError, CodingSettings, Events, Outbox, OwnStatistics, PlayoutClock, SIDES, Transmit,
    VoiceCommand, VoiceEvent, VoiceStatistics, WaitLimits,
    cues::Cue,
    keyrings::Keyrings,
    mix::Limiter,
    nets::{Net, Nets},
    receive::Talker,
    send::Sender,
    shunned::{Heard, Shunned},
    slots::Slots,
};

/// The voice of one device: what it says, to one target at a time, and all that it hears on many
/// nets at once.
///
/// Commands, datagrams and captured samples go in. Datagrams, events and samples to play come out.
/// Every method may be called at any time.
pub struct Pipeline {
    sender: Sender,
    talkers: BTreeMap<DeviceId, Talker>,
    wait: WaitLimits,
    /// The keys of talkers that have been silent for long.
    rested: BTreeMap<DeviceId, Keyrings>,
    /// The epochs that open speech, besides the keys that talkers have given us.
    epochs: BTreeMap<TargetId, Epochs>,
    /// The devices in the slots of the relays that we use.
    slots: Slots,
    shunned: Shunned,
    nets: Nets,
    clock: PlayoutClock,
    /// The target of our voice when a cue was last considered, and the cue that is due.
    cued: Option<TargetId>,
    cue: Option<Cue>,
    limiter: Limiter,
    deafened: bool,
    /// When expired keys are next looked for.
    erases: Timestamp,
    outbox: Outbox,
    events: Events,
    drops: BTreeMap<DropReason, u64>,
}

/// Settings that stay fixed for the life of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// This device.
    pub device: DeviceId,
    /// What opens the gate at the start.
    pub transmit: Transmit,
    /// Frames of 2.5 or 5 ms instead of 10 ms, and less lookahead.
    pub low_delay: bool,
    /// What of the coding is set instead of chosen by the network.
    pub coding: CodingSettings,
    /// How long we wait for what others say.
    pub wait: WaitLimits,
}

impl PipelineConfig {
    /// The usual settings for `device`: the gate opens by voice.
    pub fn new(device: DeviceId, low_delay: bool) -> Self {
        let coding = CodingSettings::default();
        let wait = WaitLimits::default();
        Self { device, transmit: Transmit::Voice, low_delay, coding, wait }
    }
}

/// The epochs that all members of a channel share.
struct Epochs {
    tag: [u8; 4],
    heard: Vec<Net>,
    secrets: Vec<EpochSecret>,
    talkers: BTreeSet<DeviceId>,
}

impl Epochs {
    /// The epochs that open the speech of `device`.
    fn of(&self, device: DeviceId) -> &[EpochSecret] {
        if self.talkers.contains(&device) { &self.secrets } else { &[] }
    }
}

impl Pipeline {
    /// Creates a pipeline without targets, talkers and nets. Fails if the codec refuses the bit
    /// rate.
    pub fn new(config: PipelineConfig) -> Result<Self, CodecError> {
        Ok(Self {
            sender: Sender::new(&config)?,
            talkers: BTreeMap::new(),
            wait: config.wait,
            rested: BTreeMap::new(),
            epochs: BTreeMap::new(),
            slots: Slots::default(),
            shunned: Shunned::default(),
            nets: Nets::default(),
            clock: PlayoutClock::new(),
            cued: None,
            cue: None,
            limiter: Limiter::default(),
            deafened: false,
            erases: Timestamp::ZERO,
            outbox: Outbox::new(),
            events: Events::default(),
            drops: BTreeMap::new(),
        })
    }

    /// Carries out a command of the node or its user.
    pub fn handle_command(&mut self, now: Timestamp, command: VoiceCommand) {
        match command {
            VoiceCommand::UseKey { target, tag, secret } => {
                self.sender.use_key(target, tag, &secret);
            }
            VoiceCommand::UseEpoch { target, tag, secret, generation } => {
                self.sender.use_epoch(target, tag, &secret, generation);
            }
            VoiceCommand::DropKey(target) => self.sender.drop_key(target),
            VoiceCommand::SetEpochs { target, tag, heard, secrets, talkers } => {
                let epochs = Epochs { tag, heard, secrets, talkers };
                for (device, talker) in &mut self.talkers {
                    let (heard, secrets) = (&epochs.heard, epochs.of(*device));
                    talker.set_epochs(now, target, (tag, heard), secrets);
                }
                self.rested.retain(|device, keyrings| {
                    let (heard, secrets) = (&epochs.heard, epochs.of(*device));
                    keyrings.set_epochs(now, target, (tag, heard), secrets);
                    !keyrings.is_forgettable()
                });
                if epochs.secrets.is_empty() {
                    self.epochs.remove(&target);
                } else {
                    self.epochs.insert(target, epochs);
                }
            }
            VoiceCommand::SetListeners { target, plan } => self.sender.set_listeners(target, plan),
            VoiceCommand::LeaveRelay { relay, talker } => {
                if let Some(heard) = self.talkers.get_mut(&talker) {
                    heard.claims().forget(relay);
                }
                self.shunned.handle_unproven(now, talker, relay);
            }
            VoiceCommand::SignWith(key) => self.sender.sign_with(key),
            VoiceCommand::SetSlots { relay, slots, is_members } => {
                self.sender.set_member_relay(relay, is_members && slots.is_some());
                self.slots.set(relay, slots, is_members);
            }
            VoiceCommand::RemoveTarget(target) => self.sender.remove_target(target),
            VoiceCommand::SelectTarget { target, .. } => self.sender.select(target),
            // That concerns an owner of several pipelines.
            VoiceCommand::ComeToFront => {}
            // These concern the microphone and the loudspeaker, which several pipelines may share.
            VoiceCommand::SetProcessing(_)
            | VoiceCommand::SetCues(_)
            | VoiceCommand::PlayCue(_)
            | VoiceCommand::SetSideTone(_) => {}
            VoiceCommand::InstallKey { device, target, tag, heard, priority, secret } => {
                if let Some(talker) = self.talker(now, device) {
                    talker.install_key(now, target, tag, heard, priority, &secret);
                }
            }
            VoiceCommand::SetHeard { device, target, heard, priority } => {
                if let Some(talker) = self.talkers.get_mut(&device) {
                    talker.set_heard(target, heard, priority);
                }
            }
            VoiceCommand::InstallEpochKey { device, target, tag, heard, key } => {
                if let Some(talker) = self.talker(now, device) {
                    talker.install_epoch_key(now, target, (tag, heard), &key);
                }
            }
            VoiceCommand::RemoveKey { device, target } => {
                if let Some(talker) = self.talkers.get_mut(&device) {
                    talker.remove_key(target);
                }
            }
            VoiceCommand::RemoveTalker(device) => {
                if let Some(talker) = self.talkers.remove(&device) {
                    if !talker.nets().is_empty() {
                        self.events.push(VoiceEvent::TalkEnded { device });
                    }
                    let mut keyrings = talker.into_keyrings();
                    keyrings.handle_link_end();
                    self.rest(device, keyrings);
                }
            }
            VoiceCommand::SetNet { net, settings } => self.nets.set(net, settings),
            VoiceCommand::RemoveNet(net) => self.nets.remove(net),
            VoiceCommand::SetDucking(decibels) => self.nets.set_ducking(decibels),
            VoiceCommand::SetLeveling(on) => self.nets.set_leveling(on),
            VoiceCommand::SetHeadphones(on) => self.nets.set_headphones(on),
            VoiceCommand::SetMusic(music) => {
                self.nets.set_music(music.keys().copied().collect());
                self.sender.set_music(music);
            }
            VoiceCommand::ChangeCoding(change) => self.sender.change_coding(change),
            VoiceCommand::SetWait(limits) => {
                self.wait = limits;
                self.talkers.values_mut().for_each(|talker| talker.set_wait(limits));
            }
            VoiceCommand::SetTransmit(transmit) => self.sender.set_transmit(transmit),
            VoiceCommand::PushToTalk(down) => self.sender.set_key(now, down),
            VoiceCommand::SetTail(tail) => self.sender.set_tail(tail),
            VoiceCommand::Mute(muted) => self.sender.set_muted(muted),
            VoiceCommand::Deafen(deafened) => self.deafened = deafened,
            VoiceCommand::Volume { device, gain } => {
                if let Some(talker) = self.talker(now, device) {
                    talker.set_gain(gain);
                }
            }
        }
    }

    /// A voice datagram arrived over the link with `from`. A datagram that is of no use is dropped
    /// and counted. [PROTO-1.4]
    pub fn handle_datagram(&mut self, arrived: Timestamp, from: DeviceId, bytes: &[u8]) {
        let taken = match Datagram::parse(bytes) {
            Err(DropReason::UnknownKind) => return self.handle_relayed(arrived, from, bytes),
            Ok(Datagram::Voice(voice)) => return self.handle_voice(arrived, from, None, &voice),
            Ok(Datagram::Report(report)) => self.sender.handle_report(arrived, from, &report),
            Ok(Datagram::Account(account)) => {
                self.sender.handle_account(arrived, from, &account, &mut self.events)
            }
            Ok(Datagram::Question(question)) => {
                self.sender.handle_question(arrived, from, &question, &mut self.outbox)
            }
            Ok(Datagram::Proof(proof)) => self.handle_proof(arrived, from, &proof),
            Ok(Datagram::Heartbeat(_)) => Err(DropReason::UnknownKind),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            self.drop(reason);
        }
    }

    /// Takes captured samples: 48 kHz, mono, -1 to 1, in any number.
    pub fn handle_capture(&mut self, now: Timestamp, samples: &[f32]) {
        self.handle_stereo_capture(now, samples, &[]);
    }

    /// The same with both sides: their mean, and half of what the left differs from the right. The
    /// difference is as long as the mean, or empty.
    pub fn handle_stereo_capture(&mut self, now: Timestamp, mean: &[f32], difference: &[f32]) {
        self.sender.handle_capture(now, (mean, difference), &mut self.outbox, &mut self.events);
        // A person who opens the microphone by speaking needs no tone for it.
        let target = self.sender.transmitting_to().filter(|_| self.sender.is_keyed());
        if target != self.cued && !self.sender.is_turning() {
            self.cued = target;
            self.cue = Some(if target.is_some() { Cue::KeyDown } else { Cue::KeyUp });
        }
    }

    /// Fills `out` with the next samples to play, both sides interleaved. `now` is when the device
    /// asks for them.
    pub fn playout(&mut self, now: Timestamp, out: &mut [f32]) {
        let now = self.clock.tick(now, out.len() / SIDES);
        out.fill(0.0);
        let mut highest = None;
        for (device, talker) in &mut self.talkers {
            let device = *device;
            let was_heard = !talker.nets().is_empty();
            if talker.mix_into(now, &self.nets, out) {
                if was_heard {
                    self.events.push(VoiceEvent::TalkEnded { device });
                }
                if !talker.nets().is_empty() {
                    let nets = talker.nets().to_vec();
                    self.events.push(VoiceEvent::TalkStarted { device, nets });
                }
            }
            highest = highest.max(talker.rank_heard());
        }
        self.nets.set_highest(highest);
        if self.deafened {
            out.fill(0.0);
        }
        self.limiter.process(out);
    }

    /// Creates the reports that are due, and erases expired keys.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.erases <= now {
            self.erases = now + ERASE_INTERVAL;
            self.talkers.values_mut().for_each(|talker| talker.erase_keys(now));
            self.rested.retain(|_, keyrings| {
                keyrings.handle_timeout(now);
                !keyrings.is_forgettable()
            });
        }
        for (device, talker) in &mut self.talkers {
            if let Some(relay) = talker.claims().poll_unproven(now) {
                self.events.push(VoiceEvent::RelayUnproven { relay, talker: *device });
            }
            if let Some(question) = talker.claims().poll(now) {
                question.encode(self.outbox.push(*device));
            }
            if talker.report_due().is_some_and(|due| due <= now) {
                let (report, account) = talker.report(now);
                if let Some(account) = account {
                    account.encode(self.outbox.push(*device));
                }
                match talker.via() {
                    // [PROTO-9.8] A request for copies ends by itself when it is not repeated.
                    Some(_) if report.wanted_copies == 0 => {}
                    Some((relay, slot)) => {
                        ForwardedReport { slot, report }.encode(self.outbox.push(relay));
                    }
                    None => report.encode(self.outbox.push(*device)),
                }
            }
        }
    }

    /// Returns the next datagram to send, and its receiver. Call it until it returns `None`.
    pub fn poll_transmit(&mut self) -> Option<(DeviceId, &[u8])> {
        self.outbox.poll()
    }

    /// The cue that the start or the end of our talkspurt is due, once.
    pub fn poll_cue(&mut self) -> Option<Cue> {
        self.cue.take()
    }

    /// Returns the next event. Call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<VoiceEvent> {
        self.events.poll()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let talkers = self.talkers.values();
        let due = talkers.flat_map(|it| it.report_due().into_iter().chain(it.question_due()));
        let keys = !self.talkers.is_empty() || !self.rested.is_empty();
        due.chain(keys.then_some(self.erases)).min()
    }

    /// Whether our voice is being sent.
    pub fn is_transmitting(&self) -> bool {
        self.sender.transmitting_to().is_some()
    }

    /// Whether what is captured now is music for somebody, and to be left as it is.
    pub fn takes_music(&self) -> bool {
        self.sender.is_music()
    }

    /// Number of samples by which the sound that listeners hear lags behind the captured sound. The
    /// frame that must be complete and the time on the way come on top.
    pub fn lookahead(&self) -> usize {
        self.sender.lookahead()
    }

    /// The current counters.
    pub fn statistics(&self) -> VoiceStatistics {
        let (frames_sent, samples_sent, frames_failed) = self.sender.frames();
        let own = OwnStatistics {
            level_dbfs: self.sender.level_dbfs(),
            transmitting: self.sender.transmitting_to().is_some(),
            processing: hark_processing::ProcessingState::default(),
            target: self.sender.transmitting_to(),
            copies: self.sender.copies(),
            coding: self.sender.coding(),
            set: self.sender.coding_settings(),
            low_delay: self.sender.is_low_delay(),
            wait: self.wait,
            frames_sent,
            samples_sent,
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

    /// Takes a datagram of a kind that relays send. It counts only if we use the relay.
    fn handle_relayed(&mut self, arrived: Timestamp, relay: DeviceId, bytes: &[u8]) {
        if !self.slots.contains(relay) {
            return self.drop(DropReason::UnknownKind);
        }
        match FromRelay::parse(bytes) {
            Ok(FromRelay::Forwarded(forwarded)) => {
                self.handle_forwarded(arrived, relay, &forwarded);
            }
            Ok(FromRelay::Bundle(bundle)) => {
                bundle.iter().for_each(|it| self.handle_forwarded(arrived, relay, &it));
            }
            Ok(FromRelay::Introduction(Introduction { slot, device })) => {
                self.slots.introduce(relay, slot, device);
            }
            Ok(FromRelay::Seen(seen)) => self.sender.handle_seen(arrived, relay, &seen),
            Ok(FromRelay::Pulse(_)) => {}
            Ok(FromRelay::Tunnel(_) | FromRelay::Knock(_)) => self.drop(DropReason::UnknownKind),
            Err(reason) => self.drop(reason),
        }
    }

    fn handle_forwarded(&mut self, arrived: Timestamp, relay: DeviceId, forwarded: &Forwarded<'_>) {
        match self.slots.device(relay, forwarded.slot) {
            Some(device) => {
                let via = Some((relay, forwarded.slot));
                self.handle_voice(arrived, device, via, &forwarded.voice);
            }
            None => self.drop(DropReason::UnknownSlot),
        }
    }

    fn handle_voice(
        &mut self,
        arrived: Timestamp,
        from: DeviceId,
        via: Option<(DeviceId, Slot)>,
        voice: &Voice<'_>,
    ) {
        if let Some((relay, _)) = via {
            match self.shunned.handle_frame(arrived, from, relay) {
                Heard::Played => {}
                Heard::Dropped => return self.drop(DropReason::NotPermitted),
                Heard::Told(spoilt) => {
                    self.tell_spoilt(from, relay, voice.target_tag, spoilt);
                    return self.drop(DropReason::NotPermitted);
                }
            }
        }
        if self.talker(arrived, from).is_none() {
            return self.drop(DropReason::QueueFull);
        }
        let claimed = via.is_some_and(|(relay, _)| self.slots.is_members(relay));
        if let Some(talker) = self.talkers.get_mut(&from) {
            talker.handle_voice(arrived, via, claimed, voice, |reason| {
                *self.drops.entry(reason).or_default() += 1;
            });
        }
        if let Ok(Datagram::Proof(proof)) = Datagram::parse(voice.frames[0])
            && let Err(reason) = self.handle_proof(arrived, from, &proof)
        {
            self.drop(reason);
        }
    }

    /// A talk proof of `talker` has arrived. If a relay has brought what the talker did not sign,
    /// we stop hearing the talker by that relay, and tell the talker at once.
    fn handle_proof(
        &mut self,
        now: Timestamp,
        talker: DeviceId,
        proof: &Proof<'_>,
    ) -> Result<(), DropReason> {
        let heard = self.talkers.get_mut(&talker).ok_or(DropReason::UnknownTarget)?;
        let Some(relay) = heard.claims().handle_proof(talker, proof)? else { return Ok(()) };
        heard.claims().forget(relay);
        self.shunned.handle_forged(talker, relay);
        if let Heard::Told(spoilt) = self.shunned.handle_frame(now, talker, relay) {
            self.tell_spoilt(talker, relay, proof.target_tag, spoilt);
        }
        self.events.push(VoiceEvent::RelayForges { relay, talker });
        Ok(())
    }

    /// Tells a talker that a relay brings frames that must not be heard.
    fn tell_spoilt(&mut self, talker: DeviceId, relay: DeviceId, target_tag: [u8; 4], spoilt: u16) {
        let account =
            Account { relay, target_tag, highest_sequence: 0, received: 0, lost: 0, spoilt };
        account.encode(self.outbox.push(talker));
    }

    /// Returns the talker with this device, created if there is room. To make room, the talker that
    /// has been silent the longest is put to rest, of those that we know by epochs alone.
    fn talker(&mut self, now: Timestamp, device: DeviceId) -> Option<&mut Talker> {
        if !self.talkers.contains_key(&device) {
            if self.talkers.len() == TALKERS_MAX {
                self.rest_one()?;
            }
            let keyrings = self.rested.remove(&device);
            let keyrings = keyrings.unwrap_or_else(|| Keyrings::new(device));
            let mut talker = Talker::new(keyrings).ok()?;
            talker.set_wait(self.wait);
            for (target, epochs) in &self.epochs {
                let secrets = epochs.of(device);
                talker.set_epochs(now, *target, (epochs.tag, &epochs.heard), secrets);
            }
            self.talkers.insert(device, talker);
        }
        self.talkers.get_mut(&device)
    }

    /// Reduces one talker to its keys and the record of what they have opened, so that no frame is
    /// heard twice.
    fn rest_one(&mut self) -> Option<()> {
        let idle = self
            .talkers
            .iter()
            .filter(|(_, talker)| talker.is_idle() && !talker.keyrings().has_own_key());
        let (device, _) = idle.min_by_key(|(_, talker)| talker.keyrings().used())?;
        let device = *device;
        if self.rested.len() >= RESTED_MAX {
            return None;
        }
        let keyrings = self.talkers.remove(&device)?.into_keyrings();
        self.rest(device, keyrings);
        Some(())
    }

    fn rest(&mut self, device: DeviceId, keyrings: Keyrings) {
        if !keyrings.is_forgettable() {
            self.rested.insert(device, keyrings);
        }
    }

    fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }
}

/// Devices that are listened to: all that we have links to, and 32 others that speak at the same
/// time. Voice of further ones is dropped and counted.
pub const TALKERS_MAX: usize = 96;

/// Devices that have spoken and are not listened to now. If there are more, new devices are not
/// heard until some of these are forgotten. Devices whose link has ended come on top, until what
/// they said is forgotten.
const RESTED_MAX: usize = 1_024;

/// How often expired keys are looked for. A key is erased by at most this much later than it could
/// be.
const ERASE_INTERVAL: Duration = Duration::from_secs(1);
