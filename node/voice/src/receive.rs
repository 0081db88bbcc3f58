//! From one talker's datagrams to samples.
//!
//! Some speech is on no net that we listen to, or only on muted ones. Such speech is opened and
//! held like any other, since delays and losses are learned from it and it may be wanted at any
//! moment. But it is neither decoded nor concealed.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use hark_keys::{
    DeviceId, EpochKey, EpochSecret, FrameNumber, KeySecret, OpenFrameError, TargetId, Timestamp,
};
use hark_mesh::{
    datagram::{Account, DropReason, FrameHeader, KIND_PROOF, Report, Slot, Voice},
    redundancy::reach,
};

use super::{
    CodecError, SAMPLE_RATE, SIDES, TalkerStatistics,
    codec::{Decoder, FRAME_SAMPLES_MAX, packet_samples},
    delays::WaitLimits,
    hearing::Hearing,
    jitter::{Frame, Inserted, JitterBuffer, Next},
    keyrings::Keyrings,
    level_dbfs,
    nets::{Net, NetRank, Nets, VOLUME_MAX},
    pcm::Pcm,
    proofs::Claims,
    report::Reception,
    stereo::{StereoDecoder, is_stereo},
    stretch,
};

/// One device whose voice we hear.
pub struct Talker {
    keyrings: Keyrings,
    jitter: JitterBuffer,
    decoder: Decoder,
    /// The decoder of both sides, once the talker has sent both.
    stereo: Option<StereoDecoder>,
    /// Whether the packet decoded last held both sides.
    is_stereo: bool,
    /// The decoder has missed frames that nobody was to hear.
    decoder_is_behind: bool,
    /// Whether the sound played last was made up.
    is_concealing: bool,
    /// Samples that were concealed and do not make a whole frame yet.
    concealed: usize,
    /// The same of samples that were rebuilt from what a later packet describes.
    rebuilt: usize,
    reception: Reception,
    /// What the next account will say of the relay that brings the talker.
    told: Told,
    /// The unproven frames that members' relays have brought.
    claims: Claims,
    /// The relay by which the talker is heard, and its slot there; `None` if it sends to us
    /// directly.
    via: Option<(DeviceId, Slot)>,
    /// When it last brought a frame that was new.
    fresh: Timestamp,
    /// Frames that wait for their key.
    keyless: VecDeque<SealedFrame<'static>>,
    plaintext: Vec<u8>,
    pcm: Pcm,
    hearing: Hearing,
    /// The loudest level of the talker lately.
    loudest_dbfs: f32,
    statistics: TalkerStatistics,
}

/// What came by a relay since the last account.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    reports: u32,
    received: u16,
    lost: u16,
    spoilt: u16,
}

/// A frame as it arrived.
struct SealedFrame<'a> {
    arrived: Timestamp,
    tag: [u8; 4],
    bytes: Cow<'a, [u8]>,
    /// Number of older frames in its datagram.
    copies: u8,
    /// The member's relay that has brought it, if any.
    relay: Option<DeviceId>,
    /// Whether it is itself such an older frame.
    recovered: bool,
}

impl Talker {
    /// Creates a talker with the keys that are known of it. Nothing has come of it yet.
    pub fn new(keyrings: Keyrings) -> Result<Self, CodecError> {
        Ok(Self {
            keyrings,
            jitter: JitterBuffer::default(),
            decoder: Decoder::new()?,
            stereo: None,
            is_stereo: false,
            is_concealing: false,
            concealed: 0,
            rebuilt: 0,
            decoder_is_behind: false,
            reception: Reception::default(),
            told: Told::default(),
            claims: Claims::default(),
            via: None,
            fresh: Timestamp::ZERO,
            keyless: VecDeque::new(),
            plaintext: Vec::new(),
            pcm: Pcm::new(),
            hearing: Hearing::default(),
            loudest_dbfs: QUIET_DBFS,
            statistics: TalkerStatistics::default(),
        })
    }

    /// Takes a key of the talker to `target`, whose datagrams are marked with `tag` and reach us
    /// through the nets `heard`. Frames that waited for the key are opened now.
    pub fn install_key(
        &mut self,
        now: Timestamp,
        target: TargetId,
        tag: [u8; 4],
        heard: Vec<Net>,
        priority: bool,
        secret: &KeySecret,
    ) {
        self.keyrings.install(now, target, tag, heard, priority, secret);
        self.open_keyless(now, tag);
    }

    /// Like [`Self::install_key`], with a key of the talker in an epoch.
    pub fn install_epoch_key(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (tag, heard): ([u8; 4], Vec<Net>),
        key: &EpochKey,
    ) {
        self.keyrings.install_epoch_key(now, target, (tag, heard), key);
        self.open_keyless(now, tag);
    }

    /// Opens what the talker says to `target` with these epochs as well, and with no other epochs.
    pub fn set_epochs(
        &mut self,
        now: Timestamp,
        target: TargetId,
        (tag, heard): ([u8; 4], &[Net]),
        epochs: &[EpochSecret],
    ) {
        self.keyrings.set_epochs(now, target, (tag, heard), epochs);
        self.open_keyless(now, tag);
    }

    /// Opens the frames that have waited for a key.
    fn open_keyless(&mut self, now: Timestamp, tag: [u8; 4]) {
        for frame in std::mem::take(&mut self.keyless) {
            if now.saturating_duration_since(frame.arrived) > KEYLESS_LIFETIME {
                continue;
            }
            if frame.tag == tag {
                // Frames of yet another key keep waiting. Frames that fail otherwise are of no use
                // to anyone.
                let _ = self.handle_frame(&frame);
            } else {
                self.keyless.push_back(frame);
            }
        }
    }

    /// Sets the nets on which the talker's speech to `target` is heard from now on. If there are
    /// none, it is not heard.
    pub fn set_heard(&mut self, target: TargetId, heard: Vec<Net>, priority: bool) {
        self.keyrings.set_heard(target, heard, priority);
    }

    /// Erases the keys whose time is over. [PROTO-6.6]
    pub fn erase_keys(&mut self, now: Timestamp) {
        self.keyrings.handle_timeout(now);
    }

    /// Forgets the keys to `target`. Speech to it is not heard any more.
    pub fn remove_key(&mut self, target: TargetId) {
        self.keyrings.remove(target);
    }

    /// A voice datagram arrived `via` a relay, or from the talker itself. The relay is a member's
    /// if `claimed`. `dropped` is called with the reason for each part that was not used.
    pub fn handle_voice(
        &mut self,
        arrived: Timestamp,
        via: Option<(DeviceId, Slot)>,
        claimed: bool,
        voice: &Voice<'_>,
        mut dropped: impl FnMut(DropReason),
    ) {
        let tag = voice.target_tag;
        // Each way has its own sequence numbers. While two ways bring the same speech, only one is
        // counted.
        let stale = arrived.saturating_duration_since(self.fresh) > STALE_AFTER;
        if via != self.via && (stale || self.reception.is_silent(arrived)) {
            self.via = via;
            self.told = Told::default();
            self.reception.begin_anew();
        }
        let ours = via == self.via;
        let expected = ours && self.reception.handle_datagram(arrived, tag, voice.sequence);
        if voice.frames[0][0] == KIND_PROOF {
            return;
        }
        let copies = voice.frames.len() as u8 - 1;
        let relay = via.filter(|_| claimed).map(|(relay, _)| relay);
        for (age, sealed) in voice.frames.iter().enumerate().rev() {
            let (bytes, recovered) = (Cow::Borrowed(*sealed), age > 0);
            match self.handle_frame(&SealedFrame { arrived, tag, bytes, copies, relay, recovered })
            {
                Ok(()) if ours && age == 0 => self.fresh = arrived,
                Ok(()) => {}
                // A copy of a frame that is already here is no error.
                Err(DropReason::Repeated) if age > 0 => {}
                Err(reason) => {
                    let again = matches!(reason, DropReason::Repeated | DropReason::TooOld);
                    // A link brings nothing twice and changes nothing, so this is the relay's
                    // doing. [PROTO-10.28]
                    if reason == DropReason::Forged || ours && again && !expected {
                        self.told.spoilt = self.told.spoilt.saturating_add(1);
                    }
                    dropped(reason);
                }
            }
        }
    }

    /// Adds the talker's next samples to both sides of `out`, a block that is played at `now`.
    /// Returns whether the nets it is heard on have changed since the previous block.
    pub fn mix_into(&mut self, now: Timestamp, nets: &Nets, out: &mut [f32]) -> bool {
        let out = out.as_chunks_mut::<SIDES>().0;
        self.hearing.begin_block(out.len(), &self.keyrings, nets);
        if !self.hearing.radio.is_silent() {
            self.hearing.radio.set_loss(self.reception.loss());
        }
        let mut filled = 0;
        while filled < out.len() {
            if self.pcm.is_empty() && !self.refill(now, filled, out.len(), nets) {
                let tail = self.hearing.radio.end();
                if tail == 0 {
                    break;
                }
                self.pcm.room().0[..tail].fill(0.0);
                self.pcm.push(tail);
            }
            let (played, difference) = self.pcm.play(out.len() - filled);
            self.hearing.mix(played, difference, &mut out[filled..]);
            filled += played.len();
        }
        let plays = self.plays();
        if !plays {
            self.statistics.level_dbfs = level_dbfs(&[]);
        }
        self.hearing.end_block(plays, &self.keyrings, nets)
    }

    /// Sets how long its frames are held.
    pub fn set_wait(&mut self, limits: WaitLimits) {
        self.jitter.set_limits(limits);
    }

    /// Sets how loud the talker is heard. 1 leaves it as sent; the maximum is [`VOLUME_MAX`].
    pub fn set_gain(&mut self, gain: f32) {
        self.hearing.gain = if gain.is_finite() { gain.clamp(0.0, VOLUME_MAX) } else { 1.0 };
    }

    /// Returns the report that is due, to the talker or to the relay that it is heard by. Every
    /// second report, or any report after spoilt frames, comes with an account of that relay for
    /// the talker. [PROTO-10.7]
    pub fn report(&mut self, now: Timestamp) -> (Report, Option<Account>) {
        let (jitter, copies) = (self.jitter.jitter(), self.jitter.copies_awaited());
        let report = self.reception.report(now, jitter, copies);
        let Some((relay, _)) = self.via else { return (report, None) };
        let told = &mut self.told;
        told.reports += 1;
        told.received = told.received.saturating_add(report.received);
        told.lost = told.lost.saturating_add(report.lost);
        if told.reports < ACCOUNT_REPORTS && told.spoilt == 0 {
            return (report, None);
        }
        let Told { received, lost, spoilt, .. } = std::mem::take(told);
        let Report { target_tag, highest_sequence, .. } = report;
        (report, Some(Account { relay, target_tag, highest_sequence, received, lost, spoilt }))
    }

    /// The unproven frames that members' relays have brought of the talker.
    pub(super) fn claims(&mut self) -> &mut Claims {
        &mut self.claims
    }

    /// Whether nothing is heard of the talker, nor will be unless it speaks again.
    pub fn is_idle(&self) -> bool {
        self.hearing.nets().is_empty() && !self.plays()
    }

    fn plays(&self) -> bool {
        self.jitter.is_playing() || !self.pcm.is_empty() || self.hearing.radio.has_tail()
    }

    /// The keys of the talker.
    pub fn keyrings(&self) -> &Keyrings {
        &self.keyrings
    }

    /// The keys of the talker, which is not heard any more.
    pub fn into_keyrings(self) -> Keyrings {
        self.keyrings
    }

    /// The relay by which the talker is heard, and its slot there; `None` if it sends to us
    /// directly.
    pub fn via(&self) -> Option<(DeviceId, Slot)> {
        self.via
    }

    /// When a question to the talker is due.
    pub(super) fn question_due(&self) -> Option<Timestamp> {
        self.claims.timeout()
    }

    /// When the next report to the talker is due.
    pub fn report_due(&self) -> Option<Timestamp> {
        self.reception.due()
    }

    /// The nets on which the talker speaks right now and that we listen to, muted ones included.
    pub fn nets(&self) -> &[Net] {
        self.hearing.nets()
    }

    /// The rank of what is heard of the talker right now.
    pub fn rank_heard(&self) -> Option<NetRank> {
        self.hearing.rank_heard()
    }

    /// The current counters.
    pub fn statistics(&self) -> TalkerStatistics {
        TalkerStatistics {
            jitter_ms: self.jitter.jitter().as_secs_f32() * 1e3,
            playout_delay_ms: self.jitter.playout_delay().as_secs_f32() * 1e3,
            loss_percent: self.reception.loss() * 100.0,
            via: self.via.map(|(relay, _)| relay),
            talking: !self.nets().is_empty(),
            nets: self.nets().to_vec(),
            ..self.statistics.clone()
        }
    }

    fn handle_frame(&mut self, sealed: &SealedFrame<'_>) -> Result<(), DropReason> {
        let &SealedFrame { arrived, tag, copies, recovered, .. } = sealed;
        if sealed.relay.is_some() && self.claims.is_full() {
            return Err(DropReason::RateLimited);
        }
        let opened = self.keyrings.open(arrived, tag, &sealed.bytes, &mut self.plaintext);
        let target = opened.map_err(|error| match error {
            OpenFrameError::UnknownKey => {
                self.keep_for_key(sealed);
                DropReason::UnknownKey
            }
            OpenFrameError::Replayed => DropReason::Repeated,
            OpenFrameError::TooOld => DropReason::TooOld,
            _ => DropReason::Forged,
        })?;
        if let Some(relay) = sealed.relay {
            self.claims.push(arrived, relay, tag, &sealed.bytes);
        }
        let (header, packet) = FrameHeader::parse(&self.plaintext)?;
        let samples = packet_samples(packet).map_err(|_| DropReason::UnknownFlags)?;
        if is_stereo(packet) && self.stereo.is_none() {
            // Without memory for it, both sides are heard as one.
            self.stereo = StereoDecoder::new().ok();
            self.pcm.keep_both();
        }
        let key = FrameNumber::of(&sealed.bytes).map_or(0, |number| number.key);
        self.statistics.frames_received += 1;
        let described = self.decoder.described_samples(packet);
        let described_frames = u8::try_from(described / samples).unwrap_or(u8::MAX);
        let reach = reach(copies).max(reach(self.reception.asked()).min(described_frames));
        let frame = Frame { header, packet, samples, key, target, reach, described, recovered };
        match self.jitter.insert(arrived, &frame) {
            Inserted::Held if recovered => self.statistics.frames_recovered += 1,
            Inserted::Held | Inserted::Repeated => {}
            Inserted::Late => self.statistics.frames_late += 1,
            Inserted::Stray => return Err(DropReason::TooOld),
        }
        Ok(())
    }

    fn keep_for_key(&mut self, frame: &SealedFrame<'_>) {
        if self.keyless.iter().any(|kept| kept.bytes == frame.bytes) {
            return;
        }
        if self.keyless.len() == KEYLESS_MAX {
            self.keyless.pop_front();
        }
        let &SealedFrame { arrived, tag, copies, relay, recovered, .. } = frame;
        let bytes = Cow::Owned(frame.bytes.to_vec());
        self.keyless.push_back(SealedFrame { arrived, tag, bytes, copies, relay, recovered });
    }

    /// Decodes or conceals what is next, or fills it with silence if nobody is to hear it. Returns
    /// false if there is nothing.
    fn refill(&mut self, now: Timestamp, filled: usize, block: usize, nets: &Nets) -> bool {
        let mut next = self.jitter.next(now, filled, block);
        let mut wanted = 0;
        loop {
            match next {
                Next::Idle => return false,
                Next::Missing { samples, concealed, later } => {
                    let unheard = self.decoder_is_behind || !self.hearing.fader.is_open();
                    let (room, difference) = self.pcm.room();
                    let room = &mut room[..samples];
                    let mut difference = difference.map(|room| &mut room[..samples]);
                    let rebuilt = later.filter(|_| !unheard).is_some_and(|later| {
                        let done = self.decoder.rebuild(later.packet, later.before, room);
                        done.unwrap_or(false)
                    });
                    let frame = self.jitter.frame_samples();
                    if rebuilt {
                        self.rebuilt += samples;
                        self.statistics.frames_recovered += (self.rebuilt / frame) as u64;
                        self.rebuilt %= frame;
                        self.pcm.push(samples);
                        self.is_concealing = false;
                        return true;
                    }
                    self.concealed += samples;
                    self.statistics.frames_concealed += (self.concealed / frame) as u64;
                    self.concealed %= frame;
                    // Deep concealment continues a word, but what it makes up soon means nothing.
                    let stereo = self.stereo.as_mut().filter(|_| self.is_stereo);
                    let rooms = (&mut *room, difference.as_deref_mut());
                    if unheard
                        || concealed >= CONCEALED_MAX_SAMPLES
                        || conceal(rooms, &mut self.decoder, stereo).is_err()
                    {
                        room.fill(0.0);
                        difference.into_iter().for_each(|it| it.fill(0.0));
                        self.decoder_is_behind |= unheard;
                    } else if concealed + samples > CONCEALED_MAX_SAMPLES - FADED_SAMPLES {
                        fade_out(room, concealed);
                        difference.into_iter().for_each(|it| fade_out(it, concealed));
                    }
                    self.pcm.push(samples);
                    self.is_concealing = true;
                    return true;
                }
                Next::Frame { packet, target, starts, stretch } => {
                    self.statistics.frames_played += 1;
                    wanted += stretch;
                    self.hearing.follow(target, starts, &self.keyrings, nets);
                    if starts {
                        self.pcm.begin();
                    }
                    let (room, difference) = self.pcm.room();
                    let mut samples = packet_samples(packet).unwrap_or(FRAME_SAMPLES_MAX);
                    self.statistics.samples_played += samples as u64;
                    if self.hearing.fader.is_open() {
                        if starts || std::mem::take(&mut self.decoder_is_behind) {
                            self.decoder.reset();
                            self.stereo.iter_mut().for_each(StereoDecoder::reset);
                        }
                        self.is_stereo = is_stereo(packet);
                        let decoded = match (&mut self.stereo, difference) {
                            (Some(stereo), Some(difference)) if self.is_stereo => {
                                stereo.decode(packet, room, difference)
                            }
                            _ => self.decoder.decode(packet, room),
                        };
                        // A packet that libopus refuses counts as lost.
                        samples = decoded.unwrap_or(samples);
                        let level = level_dbfs(&room[..samples]);
                        self.statistics.level_dbfs = level;
                        self.loudest_dbfs = level.max(self.loudest_dbfs - LOUDEST_FALL_DB);
                        self.hearing.leveler.handle_frame(level, self.loudest_dbfs, samples);
                    } else {
                        room[..samples].fill(0.0);
                        self.decoder_is_behind = true;
                        self.statistics.level_dbfs = level_dbfs(&[]);
                    }
                    self.pcm.push(samples);
                    if std::mem::take(&mut self.is_concealing) && !starts {
                        let removed = self.pcm.merge();
                        wanted += removed as isize;
                        self.statistics.samples_removed += removed as u64;
                    }
                }
            }
            // A long period can only be removed from more than one frame.
            if wanted <= -(stretch::LAG_MIN as isize)
                && self.pcm.waiting() < stretch::FADE_MIN + stretch::LAG_MAX
                && let Some(more) = self.jitter.following()
            {
                next = more;
                continue;
            }
            break;
        }
        let quiet = QUIET_DBFS.max(self.loudest_dbfs - QUIET_BELOW_DB);
        match self.pcm.stretch(wanted, self.statistics.level_dbfs < quiet) {
            by @ 0.. => self.statistics.samples_inserted += by.unsigned_abs() as u64,
            by => self.statistics.samples_removed += by.unsigned_abs() as u64,
        }
        true
    }
}

/// Fills `mean`, and `difference` where there is one, with made-up sound.
fn conceal(
    (mean, difference): (&mut [f32], Option<&mut [f32]>),
    decoder: &mut Decoder,
    stereo: Option<&mut StereoDecoder>,
) -> Result<(), CodecError> {
    match (stereo, difference) {
        (Some(stereo), Some(difference)) => stereo.conceal(mean, difference),
        _ => decoder.conceal(mean),
    }
}

/// Fades the last of the samples that are concealed in a row. Before `samples` were `concealed`.
fn fade_out(samples: &mut [f32], concealed: usize) {
    for (n, sample) in samples.iter_mut().enumerate() {
        let left = CONCEALED_MAX_SAMPLES.saturating_sub(concealed + n).min(FADED_SAMPLES);
        *sample *= left as f32 / FADED_SAMPLES as f32;
    }
}

/// Frames of a talker that wait for their key. If there are more, the oldest is dropped.
const KEYLESS_MAX: usize = 10;

/// A way that brought nothing new for several frames no longer counts as the current one.
const STALE_AFTER: Duration = Duration::from_millis(60);

/// Number of reports to a relay for each account of it: an account every half second.
const ACCOUNT_REPORTS: u32 = 2;

/// How long frames wait for their key [PROTO-7.9]. Older ones would only delay what follows.
const KEYLESS_LIFETIME: Duration = Duration::from_millis(200);

/// The longest continuous concealment, 100 ms. After it there is silence.
const CONCEALED_MAX_SAMPLES: usize = SAMPLE_RATE as usize / 10;

/// How much of it fades: the last 10 ms.
const FADED_SAMPLES: usize = SAMPLE_RATE as usize / 100;

/// Below this level every voice is quiet enough for a change of the delay.
const QUIET_DBFS: f32 = -60.0;

/// A frame this far below the loudest of the last seconds is quiet enough for a change of the
/// delay.
const QUIET_BELOW_DB: f32 = 30.0;

/// By how much the loudest level falls with each frame.
const LOUDEST_FALL_DB: f32 = 0.03;
