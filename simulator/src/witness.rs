//! The omniscient witness of a run. It records every frame that was sealed, every key that a device
//! was given, and what each device was sent.
//!
//! ```text
//!  Voice ───── keys in use and installed, nets, own datagrams ─┐
//!  overhear ── key messages and epochs, as they are sent ──────┼─> Witness ─> Evidence ─> rules
//!  Egress ──── what a relay sends, and to whom ────────────────┤
//!  World ───── links, rosters, charters ───────────────────────┘
//! ```
//!
//! The witness assumes the worst: a device has what was sent to it, whether or not it arrived and
//! was used there, and keeps it for ever; and every frame reaches everybody. It does not rely on
//! what nodes say. It tries with `hark_keys` whether a key opens a frame ([`opening`]).

pub(crate) mod export;
pub(crate) mod opening;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hark_charter::Charter;
use hark_keys::{
    ChannelId, DeviceId, EpochKey, EpochSecret, FrameNumber, KeySecret, ObjectHash, TargetId,
};
use hark_mesh::{
    Target,
    datagram::{Forward, FromRelay, KIND_FORWARD, KIND_VOICE, Voice},
    epoch::{EpochMessage, Holders},
    message::Message,
};
use hark_node::{event::TargetText, link::DatagramSender, relay::Egress};
use hark_voice::{Net, VoiceCommand};

use crate::{context, observation::CharterHeads};

/// Records what happens while a run lasts. Clones are the same witness.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Log>>);

/// A start and an end; `None` is the end of the run.
type Span = (Duration, Option<Duration>);

/// A time, and the devices that were said to hold a key from that time on.
type Roster = (Duration, BTreeSet<DeviceId>);

/// Everything that was recorded. Devices, streams and charters are referred to by their places
/// here.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) devices: Vec<DeviceId>,
    device_places: BTreeMap<DeviceId, usize>,
    pub(crate) streams: Vec<Stream>,
    stream_places: BTreeMap<(usize, [u8; 4]), usize>,
    pub(crate) frames: Vec<Frame>,
    /// The sealed bytes of all frames, in sequence.
    bytes: Vec<u8>,
    /// Frames by the last bytes of their authentication tag.
    frame_places: BTreeMap<[u8; 8], usize>,
    /// The number of frames for which there was no room.
    pub(crate) missed: u64,
    /// The talkers' own keys, by talker and target.
    pub(crate) own_keys: BTreeMap<(usize, TargetId), Vec<Given<KeySecret>>>,
    /// The keys in epochs that talkers gave to devices that do not hold the epoch, by talker.
    pub(crate) talkers_keys: BTreeMap<usize, Vec<Given<EpochKey>>>,
    /// Epochs by their ids. The secret is `None` until somebody has used it.
    pub(crate) epochs: BTreeMap<[u8; 32], Given<Option<EpochSecret>>>,
    /// Lists of holders, which are sent as changes of one another.
    holders: BTreeMap<ObjectHash, Holders>,
    /// The keys that talkers were commanded to seal with.
    used: BTreeMap<(usize, TargetId), Vec<KeySecret>>,
    used_epochs: BTreeSet<(usize, TargetId, [u8; 32], u8)>,
    /// The devices that were commanded twice to seal with the same key, and when.
    pub(crate) used_twice: Vec<(usize, Duration)>,
    /// When frames were sent: by the machine that sent, the device that was sent to, and the
    /// stream.
    pub(crate) sent: BTreeMap<(usize, usize, usize), Moments>,
    pub(crate) rosters: BTreeMap<(usize, TargetId), Vec<Roster>>,
    pub(crate) targets: BTreeMap<(usize, TargetId), (String, Target)>,
    /// When each device had its first link to another.
    pub(crate) first_links: BTreeMap<usize, Duration>,
    /// The spans of time in which a device listened to a net.
    pub(crate) listened: BTreeMap<(usize, ChannelId), Vec<Span>>,
    /// The spans of time in which a device was present.
    pub(crate) present: BTreeMap<usize, Vec<Span>>,
    pub(crate) charters: Vec<Charter>,
    charter_places: BTreeMap<CharterHeads, usize>,
    /// The charter of each machine, and from when on it had it; `None` if the charter could not be
    /// read.
    pub(crate) in_force: BTreeMap<usize, Vec<(Duration, Option<usize>)>>,
}

/// The speech of one talker to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The place of the talker's device.
    pub(crate) talker: usize,
    pub(crate) target: TargetId,
}

/// A sealed frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// When its talker first sent it to anybody.
    pub(crate) at: Duration,
    pub(crate) stream: usize,
    pub(crate) number: FrameNumber,
    from: usize,
    length: usize,
}

/// A secret, and the devices that were given it.
pub(crate) struct Given<T> {
    pub(crate) secret: T,
    pub(crate) holders: BTreeSet<usize>,
}

/// The stretches of [`MOMENT`] in which something happened.
#[derive(Default)]
pub(crate) struct Moments(Vec<u64>);

impl Moments {
    fn mark(&mut self, at: Duration) {
        let (word, bit) = place(at);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    /// The start of each stretch, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Duration> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(place, word)| {
            let bits = (0..64).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| MOMENT * u32::try_from(place * 64 + bit).unwrap_or(u32::MAX))
        })
    }
}

fn place(at: Duration) -> (usize, u64) {
    let number = usize::try_from(at.as_millis() / MOMENT.as_millis()).unwrap_or(usize::MAX);
    (number / 64, 1 << (number % 64))
}

impl Witness {
    /// Notes a command to the voice of a device.
    pub(crate) fn commanded(&self, device: DeviceId, command: &VoiceCommand) {
        let (now, mut log) = (context::now(), self.lock());
        let own = log.device(device);
        match command {
            VoiceCommand::UseKey { target, tag, secret } => {
                log.stream(own, *target, *tag);
                let used = log.used.entry((own, *target)).or_default();
                if used.contains(secret) {
                    log.used_twice.push((own, now));
                } else {
                    used.push(secret.clone());
                }
            }
            VoiceCommand::UseEpoch { target, tag, secret, generation } => {
                log.stream(own, *target, *tag);
                log.give_epoch(secret, own);
                if !log.used_epochs.insert((own, *target, *secret.id(), *generation)) {
                    log.used_twice.push((own, now));
                }
            }
            VoiceCommand::InstallKey { device, target, secret, .. } => {
                let talker = log.device(*device);
                log.give((talker, *target), secret, own);
            }
            VoiceCommand::InstallEpochKey { device, key, .. } => {
                let talker = log.device(*device);
                log.give_talkers_key(talker, key, own);
            }
            VoiceCommand::SetEpochs { secrets, .. } => {
                secrets.iter().for_each(|secret| log.give_epoch(secret, own));
            }
            VoiceCommand::SetNet { net: Net::Channel(channel), .. } => {
                let spans = log.listened.entry((own, *channel)).or_default();
                if spans.last().is_none_or(|(_, end)| end.is_some()) {
                    spans.push((now, None));
                }
            }
            VoiceCommand::RemoveNet(Net::Channel(channel)) => {
                if let Some((_, end)) =
                    log.listened.get_mut(&(own, *channel)).and_then(|spans| spans.last_mut())
                {
                    end.get_or_insert(now);
                }
            }
            _ => {}
        }
    }

    /// Notes a message that one device is about to send to another on their link.
    pub(crate) fn overheard(&self, from: DeviceId, to: DeviceId, message: &[u8]) {
        match Message::decode(message) {
            Ok(Message::Key(key)) => {
                let (mut log, key) = (self.lock(), key.unverified());
                let (talker, holder) = (log.device(key.sender), log.device(to));
                log.give((talker, key.target.id()), &key.secret, holder);
            }
            Ok(Message::Epoch(epoch)) => self.lock().deal(&epoch),
            Ok(Message::TalkersKey(given)) => {
                let mut log = self.lock();
                let (talker, holder) = (log.device(from), log.device(to));
                log.give_talkers_key(talker, &given.key, holder);
            }
            _ => {}
        }
    }

    /// Notes a datagram that a device sends of its own voice.
    pub(crate) fn spoke(&self, machine: usize, device: DeviceId, to: DeviceId, datagram: &[u8]) {
        let direct = datagram.first() == Some(&KIND_VOICE);
        let voice = match datagram.first() {
            Some(&KIND_VOICE) => Voice::parse(datagram),
            Some(&KIND_FORWARD) => Forward::parse(datagram).map(|forward| forward.voice),
            _ => return,
        };
        let Ok(voice) = voice else { return };
        let (now, mut log) = (context::now(), self.lock());
        let talker = log.device(device);
        let Some(stream) = log.stream_places.get(&(talker, voice.target_tag)).copied() else {
            return;
        };
        voice.frames.iter().rev().for_each(|frame| log.note_frame(now, stream, frame));
        if direct {
            let to = log.device(to);
            log.sent.entry((machine, to, stream)).or_default().mark(now);
        }
    }

    /// Notes a datagram that a relaying machine sends to a device on their link.
    pub(crate) fn forwarded(&self, machine: usize, to: DeviceId, datagram: &[u8]) {
        match FromRelay::parse(datagram) {
            Ok(FromRelay::Forwarded(one)) => self.note_forwarded(machine, to, [one.voice]),
            Ok(FromRelay::Bundle(bundle)) => {
                self.note_forwarded(machine, to, bundle.iter().map(|one| one.voice));
            }
            _ => {}
        }
    }

    fn note_forwarded<'a>(
        &self,
        machine: usize,
        to: DeviceId,
        voices: impl IntoIterator<Item = Voice<'a>>,
    ) {
        let (now, mut log) = (context::now(), self.lock());
        let to = log.device(to);
        for voice in voices {
            // The bytes of a frame show to whom it belongs, whatever the relay does. A frame that a
            // relay has made up belongs to nobody.
            let known = voice.frames.iter().find_map(|frame| log.frame_places.get(&end_of(frame)?));
            let Some(stream) = known.map(|frame| log.frames[*frame].stream) else { continue };
            log.sent.entry((machine, to, stream)).or_default().mark(now);
        }
    }

    /// Notes that two devices have a link to each other.
    pub(crate) fn linked(&self, at: Duration, devices: [DeviceId; 2]) {
        let mut log = self.lock();
        for device in devices {
            let device = log.device(device);
            log.first_links.entry(device).or_insert(at);
        }
    }

    /// Notes the holders of the key to a target, as the talker reports them.
    pub(crate) fn roster(
        &self,
        at: Duration,
        talker: DeviceId,
        (name, text): (&str, &TargetText),
        holders: BTreeSet<DeviceId>,
    ) {
        let (Ok(id), Some(target)) = (text.id.parse(), target_of(text)) else { return };
        let mut log = self.lock();
        let talker = log.device(talker);
        log.targets.insert((talker, id), (name.to_owned(), target));
        log.rosters.entry((talker, id)).or_default().push((at, holders));
    }

    /// Notes that a device is present.
    pub(crate) fn came(&self, at: Duration, device: DeviceId) {
        let mut log = self.lock();
        let device = log.device(device);
        let spans = log.present.entry(device).or_default();
        if spans.last().is_none_or(|(_, end)| end.is_some()) {
            spans.push((at, None));
        }
    }

    /// Notes that a device is no longer present; others cannot know before `known`.
    pub(crate) fn went(&self, known: Duration, device: DeviceId) {
        let mut log = self.lock();
        let own = log.device(device);
        let listened = log.listened.iter_mut().filter(|((device, _), _)| *device == own);
        let listened: Vec<_> = listened.filter_map(|(_, spans)| spans.last_mut()).collect();
        for (_, end) in listened {
            end.get_or_insert(known);
        }
        if let Some((_, end)) = log.present.get_mut(&own).and_then(|spans| spans.last_mut()) {
            end.get_or_insert(known);
        }
    }

    /// Notes that a machine has the charter with these heads from now on. `read` reads the charter
    /// if it is not known.
    pub(crate) fn charter(
        &self,
        at: Duration,
        machine: usize,
        heads: &CharterHeads,
        read: impl FnOnce() -> Option<Charter>,
    ) {
        let mut log = self.lock();
        if !log.charter_places.contains_key(heads)
            && let Some(charter) = read().filter(|charter| heads_of(charter) == *heads)
        {
            let place = log.charters.len();
            log.charters.push(charter);
            log.charter_places.insert(heads.clone(), place);
        }
        let place = log.charter_places.get(heads).copied();
        let course = log.in_force.entry(machine).or_default();
        if course.last().is_none_or(|(_, last)| *last != place) {
            course.push((at, place));
        }
    }

    /// Takes everything that was recorded. The log is empty afterwards.
    pub(crate) fn take(&self) -> Log {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// The sealed bytes of a frame.
    pub(crate) fn sealed(&self, frame: &Frame) -> &[u8] {
        &self.bytes[frame.from..frame.from + frame.length]
    }

    /// The name and the target of a stream; `None` if its talker has not reported them.
    pub(crate) fn target(&self, stream: usize) -> Option<&(String, Target)> {
        let stream = self.streams[stream];
        self.targets.get(&(stream.talker, stream.target))
    }

    fn device(&mut self, device: DeviceId) -> usize {
        let (devices, next) = (&mut self.devices, self.device_places.len());
        *self.device_places.entry(device).or_insert_with(|| {
            devices.push(device);
            next
        })
    }

    fn stream(&mut self, talker: usize, target: TargetId, tag: [u8; 4]) {
        let (streams, next) = (&mut self.streams, self.stream_places.len());
        self.stream_places.entry((talker, tag)).or_insert_with(|| {
            streams.push(Stream { talker, target });
            next
        });
    }

    fn note_frame(&mut self, at: Duration, stream: usize, sealed: &[u8]) {
        let (Some(number), Some(end)) = (FrameNumber::of(sealed), end_of(sealed)) else { return };
        if self.frame_places.contains_key(&end) {
            return;
        }
        if self.bytes.len() + sealed.len() > BYTES_MAX {
            self.missed += 1;
            return;
        }
        let (from, length) = (self.bytes.len(), sealed.len());
        self.bytes.extend_from_slice(sealed);
        self.frame_places.insert(end, self.frames.len());
        self.frames.push(Frame { at, stream, number, from, length });
    }

    fn give(&mut self, of: (usize, TargetId), secret: &KeySecret, holder: usize) {
        note_given(self.own_keys.entry(of).or_default(), secret, holder);
    }

    fn give_talkers_key(&mut self, talker: usize, key: &EpochKey, holder: usize) {
        note_given(self.talkers_keys.entry(talker).or_default(), key, holder);
    }

    fn give_epoch(&mut self, secret: &EpochSecret, holder: usize) {
        let given = self.epoch(*secret.id());
        given.secret.get_or_insert_with(|| secret.clone());
        given.holders.insert(holder);
    }

    /// Notes that each device with a seal of the epoch can have its secret.
    fn deal(&mut self, message: &EpochMessage) {
        let base = message.holders.base.and_then(|hash| self.holders.get(&hash));
        let Some(holders) = message.holders.apply(base) else { return };
        let id = message.header.hash();
        for (place, _) in message.seals.iter() {
            let Some(device) = holders.devices().get(usize::from(*place)) else { continue };
            let device = self.device(*device);
            self.epoch(id).holders.insert(device);
        }
        self.holders.insert(holders.hash(), holders);
    }

    fn epoch(&mut self, id: [u8; 32]) -> &mut Given<Option<EpochSecret>> {
        let unknown = || Given { secret: None, holders: BTreeSet::new() };
        self.epochs.entry(id).or_insert_with(unknown)
    }
}

fn note_given<T: Clone + PartialEq>(given: &mut Vec<Given<T>>, secret: &T, holder: usize) {
    let place = given.iter().rposition(|given| given.secret == *secret).unwrap_or_else(|| {
        given.push(Given { secret: secret.clone(), holders: BTreeSet::new() });
        given.len() - 1
    });
    given[place].holders.insert(holder);
}

/// An [`Egress`] that reports to the witness what it sends.
pub(crate) struct Overheard {
    pub(crate) machine: usize,
    pub(crate) witness: Witness,
}

impl Egress for Overheard {
    fn send(&self, to: DeviceId, outlet: &Arc<DatagramSender>, datagram: &[u8]) {
        self.witness.forwarded(self.machine, to, datagram);
        outlet.send(datagram);
    }
}

/// Version and heads of a charter, in the form in which its node reports them.
pub(crate) fn heads_of(charter: &Charter) -> CharterHeads {
    let hex = |bytes: &[u8; 32]| blake3::Hash::from_bytes(*bytes).to_hex().to_string();
    let mut heads: BTreeSet<_> = charter.heads().map(|head| hex(head.as_bytes())).collect();
    if heads.is_empty() {
        heads.insert(hex(charter.organisation().as_bytes()));
    }
    (charter.root().version, heads)
}

/// The target that a node's report describes.
pub(crate) fn target_of(text: &TargetText) -> Option<Target> {
    fn ids<T: std::str::FromStr>(texts: &[String]) -> Option<Vec<T>> {
        texts.iter().map(|text| text.parse().ok()).collect()
    }
    Some(Target::new(ids(&text.channels)?, ids(&text.members)?, ids(&text.roles)?))
}

/// Identifies a sealed frame: the end of its authentication tag.
fn end_of(sealed: &[u8]) -> Option<[u8; 8]> {
    sealed.last_chunk().copied()
}

/// The precision with which the time of sending is recorded.
pub(crate) const MOMENT: Duration = Duration::from_millis(20);

/// The largest number of bytes of sealed frames that are kept: some 700,000 frames of a usual
/// length. The index takes another 120 bytes for each frame. A run that seals more fails, since the
/// later frames were not judged.
const BYTES_MAX: usize = 128 << 20;
