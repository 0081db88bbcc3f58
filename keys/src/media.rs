//! Media keys: each device seals its own speech by RFC 9605 (SFrame) with sender keys that ratchet.
//!
//! A [`KeySecret`] is what travels to the devices that may hear. From it the sender makes a
//! [`SenderKey`], and a receiver a [`SenderKeyring`]. A key belongs to one target: a frame sealed
//! for one target opens for no other. The key id states the sender, the generation and the ratchet
//! step, so that no key is ever tried in vain ([PROTO-6.1]).

use std::{collections::VecDeque, time::Duration};

use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use sframe::{
    CipherSuite,
    crypto::{Aead, DecryptionBufferView, EncryptionBufferView, Kdf},
    header::SframeHeader,
    key::{GenericDecryptionKey, GenericEncryptionKey},
};
use zeroize::Zeroize;

use crate::{DeviceId, EPOCH_KEY_LIFETIME, EpochKey, EpochSecret, Random, TargetId, Timestamp};

/// The key of one ratchet step, as a device gives it to those who may hear it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySecret {
    /// Number of the base key. A generation never comes back, even after a restart. [PROTO-6.3]
    pub generation: u16,
    /// How often the base key was ratcheted, modulo 16.
    pub step: u8,
    base_key: BaseKey,
}

/// A base key. It stays in one place on the heap while its owner is moved, so that no copy is left
/// behind, and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BaseKey(Box<[u8; BASE_KEY_LENGTH]>);

impl BaseKey {
    fn empty() -> Self {
        Self(Box::new([0; BASE_KEY_LENGTH]))
    }
}

impl Drop for BaseKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl KeySecret {
    /// Generates a random key, at step 0.
    pub fn generate(generation: u16, random: &dyn Random) -> Self {
        let mut base_key = BaseKey::empty();
        random.fill(&mut *base_key.0);
        Self { generation, step: 0, base_key }
    }

    /// The key of the next step, from which this one cannot be found (RFC 9605, section 5.1). The
    /// sframe crate's own ratchet gives a longer key than the RFC says, and under another label.
    #[must_use]
    pub fn ratcheted(&self) -> Self {
        let extracted = Salt::new(HKDF_SHA256, b"").extract(&*self.base_key.0);
        let mut base_key = BaseKey::empty();
        extracted
            .expand(&[b"SFrame 1.0 Ratchet"], HKDF_SHA256)
            .and_then(|key| key.fill(&mut *base_key.0))
            .expect("the key has the length of the hash");
        Self { generation: self.generation, step: (self.step + 1) % STEPS, base_key }
    }

    /// Whether a key id can name the step. The caller must check this for a key that a peer sends.
    pub fn is_valid(&self) -> bool {
        self.step < STEPS
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySecret({}.{})", self.generation, self.step)
    }
}

/// The step in use has sealed as many frames as it may. The caller must ratchet and try again.
/// [PROTO-6.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender key has sealed all the frames it may")]
pub struct KeyExhausted;

/// Seals the frames of this device with one ratchet step of its key.
pub struct SenderKey {
    key: GenericEncryptionKey<Aead, Kdf>,
    metadata: Metadata,
    counter: u64,
}

impl SenderKey {
    /// A key that has sealed nothing. Make it only once from each [`KeySecret`]: two would use one
    /// counter twice.
    pub fn new(target: TargetId, device: DeviceId, secret: &KeySecret) -> Self {
        Self::of(target, device, key_id(slot(target, device), secret), &secret.base_key.0)
    }

    /// The key of this device in an epoch. Make it only once for each generation. [PROTO-11.8]
    pub fn of_epoch(
        target: TargetId,
        device: DeviceId,
        epoch: &EpochSecret,
        generation: u8,
    ) -> Self {
        let id = epoch_key_id(slot(target, device), epoch.tag(), generation);
        Self::of(target, device, id, &epoch.base_key(target, device, generation))
    }

    fn of(target: TargetId, device: DeviceId, id: u64, base_key: &[u8; BASE_KEY_LENGTH]) -> Self {
        let key = GenericEncryptionKey::derive_from(SUITE, id, base_key)
            .expect("the suite is compiled in");
        Self { key, metadata: metadata(target, device), counter: FIRST_COUNTER }
    }

    /// Seals `plaintext` into `out`, whose earlier content is discarded, and returns its counter.
    /// The sealed frame is [`SEALED_OVERHEAD`] bytes longer than the plaintext; with the key of an
    /// epoch it is one byte longer still.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<u64, KeyExhausted> {
        if self.counter >= END_OF_COUNTERS {
            return Err(KeyExhausted);
        }
        let counter = self.counter;
        self.counter += 1;
        let header = SframeHeader::new(self.key.key_id(), counter);
        let length = header.len();
        let mut associated = [0; EPOCH_HEADER_LENGTH + METADATA_LENGTH];
        header.serialize(&mut associated[..length]).expect("the header has at most eight bytes");
        associated[length..][..METADATA_LENGTH].copy_from_slice(&self.metadata);
        out.clear();
        out.extend_from_slice(&associated[..length]);
        out.extend_from_slice(plaintext);
        out.resize(length + plaintext.len() + TAG_LENGTH, 0);
        let (cipher_text, tag) = out[length..].split_at_mut(plaintext.len());
        let aad = &mut associated[..length + METADATA_LENGTH];
        let buffer = EncryptionBufferView { aad, data: cipher_text, tag };
        self.key.encrypt(buffer, counter).expect("a frame is far shorter than the cipher's limit");
        Ok(counter)
    }

    /// Whether it has sealed anything.
    pub fn is_used(&self) -> bool {
        self.counter > FIRST_COUNTER
    }

    /// How far it has been used.
    pub fn sealed(&self) -> Sealed {
        Sealed { key: self.key.key_id(), end: self.counter }
    }
}

/// Identifies a frame of one sender and one target by its key's id and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameNumber {
    /// Id of the key, which includes its step.
    pub key: u64,
    /// Counter under that key.
    pub counter: u16,
}

impl FrameNumber {
    /// The number of a sealed frame; `None` if it is not a frame of this protocol.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        // Read by hand, once a frame: the library's parser allocates.
        let (config, rest) = sealed.split_first()?;
        let (key, rest) = header_field(config >> 4, rest)?;
        let (counter, rest) = header_field(*config, rest)?;
        let length = sealed.len() - rest.len();
        Some(Self { key, counter: counter.try_into().ok()? })
            .filter(|_| [HEADER_LENGTH, EPOCH_HEADER_LENGTH].contains(&length))
    }
}

/// A key id or counter of an SFrame header, and what follows it. The low four bits of `config` are
/// its value, or say in how many bytes it follows. [RFC 9605, section 4.3]
fn header_field(config: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    let low = config & 0b111;
    if config & 0b1000 == 0 {
        return Some((low.into(), rest));
    }
    let (bytes, rest) = rest.split_at_checked(usize::from(low) + 1)?;
    Some((bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
}

/// How far a key has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    key: u64,
    /// One more than the last counter.
    end: u64,
}

impl Sealed {
    /// Id of the key.
    pub fn key(self) -> u64 {
        self.key
    }

    /// `Some(true)` if the key has sealed the frame, `Some(false)` if it has not. `None` if the
    /// frame names another key that may have been used. Keys of the steps ahead, or of later
    /// generations in an epoch, have not been used, although the holder of this key can find them.
    pub fn has(self, frame: FrameNumber) -> Option<bool> {
        if frame.key == self.key {
            return Some(u64::from(frame.counter) < self.end);
        }
        if self.key >> EPOCH_KEY_BITS != 0 {
            return (frame.key >> 8 == self.key >> 8 && frame.key > self.key).then_some(false);
        }
        let ahead = steps_between((self.key & 0xf) as u8, (frame.key & 0xf) as u8);
        let is_ahead = frame.key >> 4 == self.key >> 4 && (1..=STEPS_AHEAD).contains(&ahead);
        is_ahead.then_some(false)
    }
}

/// Why a frame was not opened. A frame that fails does not change what will open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFrameError {
    /// It is sealed with a key that is not known here, or no longer.
    #[error("no key for this frame")]
    UnknownKey,
    /// It is sealed with the key of another sender, or for another target.
    #[error("another sender's frame")]
    OtherSender,
    /// It was delivered before.
    #[error("frame was delivered before")]
    Replayed,
    /// It is too far behind the newest to know.
    #[error("frame is too old")]
    TooOld,
    /// The holder of the key did not seal it, or it was changed on its way.
    #[error("frame is forged")]
    Forged,
    /// It is not an SFrame of this suite and key.
    #[error("malformed frame")]
    Malformed,
}

/// Opens the frames of one sender to one target, each of them once.
///
/// This holds even if a key is taken away and comes back. The keyring remembers which frames an
/// epoch has opened, and never again takes a key of the sender's own that it has forgotten.
/// [PROTO-6.7] [PROTO-6.20]
pub struct SenderKeyring {
    target: TargetId,
    sender: DeviceId,
    slot: u32,
    metadata: Metadata,
    /// The newest known step of each generation, the newest generation last.
    chains: VecDeque<Chain>,
    /// Whether nothing opens with these at present.
    closed: bool,
    /// Since when they are closed, measured at the first timeout after that.
    closed_since: Option<Timestamp>,
    /// The newest generation and step that were forgotten.
    forgotten: Option<(u16, u8)>,
    /// Epochs that open, and closed epochs of which the delivered frames are remembered, the oldest
    /// first.
    epochs: Vec<Dealt>,
    /// Keys of the sender in epochs that this device does not hold, the newest last.
    given: VecDeque<Given>,
}

impl SenderKeyring {
    /// A keyring that opens nothing yet.
    pub fn new(target: TargetId, sender: DeviceId) -> Self {
        Self {
            target,
            sender,
            slot: slot(target, sender),
            metadata: metadata(target, sender),
            chains: VecDeque::new(),
            closed: false,
            closed_since: None,
            forgotten: None,
            epochs: Vec::new(),
            given: VecDeque::new(),
        }
    }

    /// Takes a key from the sender. A step that was already passed or forgotten is ignored. So is a
    /// generation older than the newest, as it would end the one in use.
    pub fn install(&mut self, now: Timestamp, secret: &KeySecret) {
        if self.forgotten.is_some_and(|last| (secret.generation, secret.step) <= last) {
            return;
        }
        if let Some(chain) =
            self.chains.iter_mut().find(|chain| chain.newest.generation == secret.generation)
        {
            let ahead = steps_between(chain.newest.step, secret.step);
            if ahead > 0 && ahead <= STEPS_AHEAD {
                chain.advance(now, self.slot, secret.clone());
            }
            return;
        }
        if self.chains.back().is_some_and(|chain| chain.newest.generation > secret.generation) {
            return;
        }
        for chain in &mut self.chains {
            chain.superseded.get_or_insert(now);
        }
        if self.chains.len() == GENERATIONS_KEPT {
            self.chains.pop_front();
        }
        self.chains.push_back(Chain::new(self.slot, secret.clone()));
    }

    /// Takes a key of the sender's in an epoch that this device does not hold; for an epoch that it
    /// holds the key is not needed. If there are more than two, the first is dropped. [PROTO-11.13]
    pub fn install_epoch_key(&mut self, now: Timestamp, key: &EpochKey) {
        let id = epoch_key_id(self.slot, key.tag(), key.generation);
        if self.epochs.iter().any(|dealt| dealt.tag() == Some(key.tag())) {
            return;
        }
        let known = self.given.iter().position(|given| given.id == id);
        // A frame that a key has delivered is not delivered again when the key comes back.
        // [PROTO-6.7]
        let mut given = known.and_then(|place| self.given.remove(place)).unwrap_or_default();
        (given.id, given.until) = (id, now + EPOCH_KEY_LIFETIME);
        given.key = Some(decryption_key(id, key.base_key()));
        if self.given.len() == DEALT_KEPT {
            self.given.pop_front();
        }
        self.given.push_back(given);
    }

    /// From now on opens what the sender seals with its keys in these epochs, and in no others.
    /// Frames that the other epochs delivered are remembered for longer than an epoch lives.
    /// [PROTO-11.8]
    pub fn set_epochs(&mut self, epochs: &[EpochSecret]) {
        self.epochs.retain_mut(|dealt| {
            if let Some(epoch) = epochs.iter().find(|epoch| *epoch.id() == dealt.id) {
                dealt.open_again(epoch);
                return true;
            }
            let is_news = dealt.close();
            !is_news || !dealt.generations.is_empty()
        });
        for epoch in epochs {
            if !self.epochs.iter().any(|dealt| dealt.id == *epoch.id()) {
                self.epochs.push(Dealt::new(epoch));
            }
        }
        let closed = self.epochs.iter().filter(|dealt| dealt.secret.is_none()).count();
        let all_closed = self.epochs.iter_mut().filter(|dealt| dealt.secret.is_none());
        for dealt in all_closed.take(closed.saturating_sub(WINDOWS_KEPT)) {
            dealt.generations.clear();
        }
        for _ in REFUSED_MAX..closed {
            let first = self.epochs.iter().position(|dealt| dealt.secret.is_none());
            first.map(|place| self.epochs.remove(place));
        }
    }

    /// Sets whether frames open with the keys that the sender has given. Keys that open nothing for
    /// a minute are forgotten.
    pub fn set_own_key_open(&mut self, open: bool) {
        self.closed = !open;
        if open {
            self.closed_since = None;
        }
    }

    /// Forgets the keys that the sender has given, and takes none of them again. The keys of epochs
    /// stay.
    pub fn forget_own_key(&mut self) {
        let newest = self.chains.back().map(|chain| (chain.newest.generation, chain.newest.step));
        self.forgotten = self.forgotten.max(newest);
        self.chains.clear();
        self.given.iter_mut().for_each(|given| given.key = None);
    }

    /// The link with the sender has ended: nothing opens any more with the keys from it. A key
    /// given on the next link has sealed nothing before, whatever its number is. [PROTO-6.15]
    pub fn handle_link_end(&mut self) {
        self.chains.clear();
        self.given.iter_mut().for_each(|given| given.key = None);
        self.forgotten = None;
        self.set_own_key_open(true);
    }

    /// Erases what time has ended: keys that a later one has replaced, steps that are over though
    /// no later one came, keys that open nothing any more, and the record of epochs that nobody
    /// holds by now. [PROTO-6.6]
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.erase_keys(now);
        if self.closed && is_over(now, *self.closed_since.get_or_insert(now), CLOSED_FOR) {
            self.forget_own_key();
        }
        self.epochs.retain_mut(|dealt| {
            let closed = dealt.secret.is_none();
            !closed || !is_over(now, *dealt.closed_since.get_or_insert(now), REMEMBERED_FOR)
        });
    }

    /// Whether it has a key that the sender has given.
    pub fn has_own_key(&self) -> bool {
        !self.chains.is_empty() || self.given.iter().any(|given| given.key.is_some())
    }

    /// Whether it holds epochs, or remembers which frames they have opened.
    pub fn has_epochs(&self) -> bool {
        !self.epochs.is_empty() || !self.given.is_empty()
    }

    /// Whether no frame will open.
    pub fn is_empty(&self) -> bool {
        (!self.has_own_key() || self.closed)
            && self.epochs.iter().all(|dealt| dealt.secret.is_none())
    }

    /// Whether a new keyring would behave the same from now on: there are no keys, and no frames
    /// that must not be delivered again.
    pub fn is_forgettable(&self) -> bool {
        let remembers = self.forgotten.is_some() || self.has_epochs();
        self.chains.is_empty() && !remembers
    }

    /// Opens `sealed` into `out`, whose earlier content is discarded. On failure `out` is left
    /// empty. [PROTO-6.7]
    pub fn open(
        &mut self,
        now: Timestamp,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenFrameError> {
        out.clear();
        self.erase_keys(now);
        let header = SframeHeader::deserialize(sealed).map_err(|_| OpenFrameError::Malformed)?;
        let (id, counter) = (header.key_id(), header.counter());
        match header.len() {
            HEADER_LENGTH if sealed.len() >= HEADER_LENGTH + TAG_LENGTH => {}
            EPOCH_HEADER_LENGTH if sealed.len() >= EPOCH_HEADER_LENGTH + TAG_LENGTH => {
                return self.open_dealt(id, counter, sealed, out);
            }
            _ => return Err(OpenFrameError::Malformed),
        }
        if id >> 20 != u64::from(1 << 11 | self.slot) {
            return Err(OpenFrameError::OtherSender);
        }
        let generation = (id >> 4 & 0xffff) as u16;
        let step = (id & 0xf) as u8;
        let mut chains = self.chains.iter_mut().filter(|_| !self.closed);
        let chain = chains
            .find(|chain| chain.newest.generation == generation)
            .ok_or(OpenFrameError::UnknownKey)?;
        let mut associated = [0; HEADER_LENGTH + METADATA_LENGTH];
        associated[..HEADER_LENGTH].copy_from_slice(&sealed[..HEADER_LENGTH]);
        associated[HEADER_LENGTH..].copy_from_slice(&self.metadata);
        if let Some(known) = chain.steps.iter_mut().find(|known| known.step == step) {
            known.window.check(counter)?;
            out.extend_from_slice(&sealed[HEADER_LENGTH..]);
            open_with(&known.key, &mut associated, out, counter)?;
            known.window.record(counter);
            known.opened.get_or_insert(now);
            return Ok(());
        }
        // A step that was not reached before: advance to it, and stay there only if the frame is
        // genuine.
        let ahead = steps_between(chain.newest.step, step);
        if ahead == 0 || ahead > STEPS_AHEAD {
            return Err(OpenFrameError::UnknownKey);
        }
        let mut passed: Vec<KeySecret> = Vec::with_capacity(ahead.into());
        for _ in 0..ahead {
            let next = passed.last().unwrap_or(&chain.newest).ratcheted();
            passed.push(next);
        }
        let secret = passed.pop().expect("at least one step is ahead");
        let mut reached = Step::new(self.slot, &secret);
        out.extend_from_slice(&sealed[HEADER_LENGTH..]);
        open_with(&reached.key, &mut associated, out, counter)?;
        reached.window.record(counter);
        reached.opened = Some(now);
        // Frames of the steps between may still be under way.
        for secret in passed {
            chain.advance(now, self.slot, secret);
        }
        chain.push(now, reached, secret);
        Ok(())
    }

    /// Opens a frame that is sealed with the key of an epoch. If two epochs have one tag, both keys
    /// are tried. [PROTO-11.8] [PROTO-11.24]
    fn open_dealt(
        &mut self,
        id: u64,
        counter: u64,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenFrameError> {
        let (tag, generation) = ((id >> 8 & 0xf_ffff) as u32, id as u8);
        if id != epoch_key_id(self.slot, tag, generation) {
            return Err(OpenFrameError::UnknownKey);
        }
        let mut associated = [0; EPOCH_HEADER_LENGTH + METADATA_LENGTH];
        associated[..EPOCH_HEADER_LENGTH].copy_from_slice(&sealed[..EPOCH_HEADER_LENGTH]);
        associated[EPOCH_HEADER_LENGTH..].copy_from_slice(&self.metadata);
        // The epoch does not deliver again a frame that a key given by the sender has delivered.
        let mut given = self.given.iter_mut().find(|given| given.id == id);
        if let Some(given) = &mut given {
            given.window.check(counter)?;
            if let Some(key) = given.key.as_ref().filter(|_| !self.closed) {
                out.extend_from_slice(&sealed[EPOCH_HEADER_LENGTH..]);
                open_with(key, &mut associated, out, counter)?;
                given.window.record(counter);
                return Ok(());
            }
        }
        let mut failure = OpenFrameError::UnknownKey;
        let (target, sender) = (self.target, self.sender);
        for dealt in self.epochs.iter_mut().filter(|dealt| dealt.tag() == Some(tag)) {
            out.clear();
            out.extend_from_slice(&sealed[EPOCH_HEADER_LENGTH..]);
            match dealt.open((target, sender), id, &mut associated, out, counter) {
                Ok(()) => {
                    given.into_iter().for_each(|given| given.window.record(counter));
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        out.clear();
        Err(failure)
    }

    /// [PROTO-6.6] Erases keys that a later one has replaced for long enough. Advances to the next
    /// step if the sender must have gone there by now.
    fn erase_keys(&mut self, now: Timestamp) {
        let replaced =
            |since: Option<Timestamp>| since.is_some_and(|since| is_over(now, since, KEPT_AFTER));
        self.given.retain(|given| given.until > now);
        self.chains.retain(|chain| !replaced(chain.superseded));
        for chain in &mut self.chains {
            let opened = chain.steps.back().and_then(|newest| newest.opened);
            if opened.is_some_and(|first| is_over(now, first, STEP_OPENS)) {
                let next = chain.newest.ratcheted();
                chain.advance(now, self.slot, next);
            }
            chain.steps.retain(|step| !replaced(step.superseded));
        }
    }
}

fn is_over(now: Timestamp, since: Timestamp, after: Duration) -> bool {
    now.saturating_duration_since(since) >= after
}

/// An epoch, and the keys of the sender in it.
struct Dealt {
    id: [u8; 32],
    /// `None` if nothing opens with the epoch now. If no generations are remembered either, nothing
    /// ever will.
    secret: Option<EpochSecret>,
    /// The newest generations of which any frame was delivered, in ascending order.
    generations: VecDeque<Generation>,
    /// Since when nothing opens with it, measured at the first timeout after that.
    closed_since: Option<Timestamp>,
}

/// One of the sender's keys in an epoch, and which of its frames were delivered.
struct Generation {
    number: u8,
    /// `None` until it is needed again.
    key: Option<DecryptionKey>,
    window: ReplayWindow,
}

impl Dealt {
    fn new(secret: &EpochSecret) -> Self {
        Self {
            id: *secret.id(),
            secret: Some(secret.clone()),
            generations: VecDeque::new(),
            closed_since: None,
        }
    }

    /// Forgets the keys, but remembers which frames they have opened. Returns whether there were
    /// any keys.
    fn close(&mut self) -> bool {
        self.generations.iter_mut().for_each(|it| it.key = None);
        self.secret.take().is_some()
    }

    fn open_again(&mut self, secret: &EpochSecret) {
        if self.secret.is_none() && !self.generations.is_empty() {
            self.secret = Some(secret.clone());
            self.closed_since = None;
        }
    }

    /// The tag in the key ids of its frames, if it opens any.
    fn tag(&self) -> Option<u32> {
        self.secret.as_ref().map(EpochSecret::tag)
    }

    /// Opens `data`. The sender's key of a generation is derived when its first frame comes.
    fn open(
        &mut self,
        (target, sender): (TargetId, DeviceId),
        id: u64,
        associated: &mut [u8],
        data: &mut Vec<u8>,
        counter: u64,
    ) -> Result<(), OpenFrameError> {
        let number = id as u8;
        let secret = self.secret.as_ref().ok_or(OpenFrameError::UnknownKey)?;
        let derive = || decryption_key(id, &secret.base_key(target, sender, number));
        if let Some(known) = self.generations.iter_mut().find(|known| known.number == number) {
            known.window.check(counter)?;
            let key = known.key.get_or_insert_with(derive);
            open_with(key, associated, data, counter)?;
            known.window.record(counter);
            return Ok(());
        }
        // The delivered frames of a forgotten generation are no longer known.
        let full = self.generations.len() == DEALT_KEPT;
        if full && self.generations.front().is_some_and(|first| number < first.number) {
            return Err(OpenFrameError::TooOld);
        }
        let key = derive();
        open_with(&key, associated, data, counter)?;
        let mut window = ReplayWindow::default();
        window.record(counter);
        if full {
            self.generations.pop_front();
        }
        let place = self.generations.partition_point(|known| known.number < number);
        self.generations.insert(place, Generation { number, key: Some(key), window });
        Ok(())
    }
}

/// A key of the sender in an epoch that this device does not hold, and which of its frames were
/// delivered.
#[derive(Default)]
struct Given {
    id: u64,
    /// `None` if it was taken away.
    key: Option<DecryptionKey>,
    /// When it is erased.
    until: Timestamp,
    window: ReplayWindow,
}

/// One generation of a sender's key.
struct Chain {
    newest: KeySecret,
    steps: VecDeque<Step>,
    superseded: Option<Timestamp>,
}

impl Chain {
    fn new(slot: u32, secret: KeySecret) -> Self {
        let steps = VecDeque::from([Step::new(slot, &secret)]);
        Self { newest: secret, steps, superseded: None }
    }

    fn advance(&mut self, now: Timestamp, slot: u32, secret: KeySecret) {
        self.push(now, Step::new(slot, &secret), secret);
    }

    fn push(&mut self, now: Timestamp, step: Step, secret: KeySecret) {
        for old in &mut self.steps {
            old.superseded.get_or_insert(now);
        }
        // Sixteen steps later the same number means another key.
        while self.steps.len() > usize::from(STEPS_AHEAD) {
            self.steps.pop_front();
        }
        self.newest = secret;
        self.steps.push_back(step);
    }
}

/// One ratchet step, and which of its frames were delivered.
struct Step {
    step: u8,
    key: DecryptionKey,
    window: ReplayWindow,
    /// When its first frame was delivered.
    opened: Option<Timestamp>,
    superseded: Option<Timestamp>,
}

impl Step {
    fn new(slot: u32, secret: &KeySecret) -> Self {
        let key = decryption_key(key_id(slot, secret), &secret.base_key.0);
        let window = ReplayWindow::default();
        Self { step: secret.step, key, window, opened: None, superseded: None }
    }
}

type DecryptionKey = GenericDecryptionKey<Aead, Kdf>;

fn decryption_key(id: u64, base_key: &[u8; BASE_KEY_LENGTH]) -> DecryptionKey {
    GenericDecryptionKey::derive_from(SUITE, id, base_key).expect("the suite is compiled in")
}

/// Opens `data`, ciphertext and tag, in place.
fn open_with(
    key: &DecryptionKey,
    associated: &mut [u8],
    data: &mut Vec<u8>,
    counter: u64,
) -> Result<(), OpenFrameError> {
    let buffer = DecryptionBufferView { aad: associated, data };
    if key.decrypt(buffer, counter).is_err() {
        data.clear();
        return Err(OpenFrameError::Forged);
    }
    data.truncate(data.len() - TAG_LENGTH);
    Ok(())
}

/// The counters that were delivered: the newest and the [`REPLAY_WINDOW`] before it. [PROTO-6.7]
#[derive(Default)]
struct ReplayWindow {
    /// One more than the highest counter delivered.
    next: u64,
    delivered: [u64; WINDOW_BITS as usize / 64],
}

impl ReplayWindow {
    fn check(&self, counter: u64) -> Result<(), OpenFrameError> {
        if counter >= self.next {
            return Ok(());
        }
        if self.next - counter > REPLAY_WINDOW + 1 {
            return Err(OpenFrameError::TooOld);
        }
        let (word, bit) = place(counter);
        if self.delivered[word] & bit != 0 { Err(OpenFrameError::Replayed) } else { Ok(()) }
    }

    fn record(&mut self, counter: u64) {
        if counter >= self.next {
            let first_cleared = self.next.max(counter.saturating_sub(WINDOW_BITS - 1));
            for cleared in first_cleared..counter {
                let (word, bit) = place(cleared);
                self.delivered[word] &= !bit;
            }
            self.next = counter + 1;
        }
        let (word, bit) = place(counter);
        self.delivered[word] |= bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let position = counter % WINDOW_BITS;
    ((position / 64) as usize, 1 << (position % 64))
}

type Metadata = [u8; METADATA_LENGTH];

fn metadata(target: TargetId, device: DeviceId) -> Metadata {
    let mut metadata = [0; METADATA_LENGTH];
    metadata[..16].copy_from_slice(target.as_bytes());
    metadata[16..].copy_from_slice(device.as_bytes());
    metadata
}

fn slot(target: TargetId, device: DeviceId) -> u32 {
    let hash = blake3::hash(&metadata(target, device));
    let bytes = hash.as_bytes();
    u32::from(u16::from_be_bytes([bytes[0], bytes[1]]) >> 5)
}

/// [PROTO-6.1]
fn key_id(slot: u32, secret: &KeySecret) -> u64 {
    let id = 1 << 31 | slot << 20 | u32::from(secret.generation) << 4 | u32::from(secret.step);
    u64::from(id)
}

/// Key ids that do not fit into this many bits are those of epochs.
const EPOCH_KEY_BITS: u32 = 32;

/// [PROTO-11.8] A byte longer than other key ids, and so never one of them.
fn epoch_key_id(slot: u32, tag: u32, generation: u8) -> u64 {
    u64::from(1 << 11 | slot) << 28 | u64::from(tag) << 8 | u64::from(generation)
}

fn steps_between(from: u8, to: u8) -> u8 {
    to.wrapping_sub(from) % STEPS
}

/// Bytes by which a sealed frame is longer than its plaintext: header and tag.
pub const SEALED_OVERHEAD: usize = HEADER_LENGTH + TAG_LENGTH;

const SUITE: CipherSuite = CipherSuite::AesCtr128HmacSha256_80;

/// Config byte, four bytes of key id, two of counter: the same for every frame, as the key id's
/// top bit is set and counters have two bytes. [PROTO-6.2]
const HEADER_LENGTH: usize = 7;
/// The same with a key id of five bytes. [PROTO-11.8]
const EPOCH_HEADER_LENGTH: usize = 8;
const TAG_LENGTH: usize = 10;
const METADATA_LENGTH: usize = 16 + 32;

/// The suite's hash length, which is what ratcheting gives.
const BASE_KEY_LENGTH: usize = 32;

/// The smallest counter that takes two bytes.
const FIRST_COUNTER: u64 = 1 << 8;

/// One more than the largest counter; then the key must ratchet.
const END_OF_COUNTERS: u64 = 1 << 16;

/// The number of step numbers; after that many steps a number comes back.
const STEPS: u8 = 16;

/// How many steps a frame may be ahead of the newest known one. Frames further ahead are dropped
/// until the sender gives its key again. [PROTO-6.6]
const STEPS_AHEAD: u8 = 7;

/// How many counters behind the newest a late frame can still be distinguished from a replayed one.
const REPLAY_WINDOW: u64 = 1024;

/// One word more, so that the oldest counter of the window has a bit of its own.
const WINDOW_BITS: u64 = REPLAY_WINDOW + 64;

/// How long a replaced key still opens frames that were under way. [PROTO-6.6]
const KEPT_AFTER: Duration = Duration::from_secs(10);

/// How long a step opens frames after its first one if no later step is seen. A sender ends the
/// step after 60 s, and its machine may have been suspended for as long as a link survives that.
/// [PROTO-6.21]
const STEP_OPENS: Duration = Duration::from_secs(90);

/// How long a key that opens nothing is kept, in case it is to open again.
const CLOSED_FOR: Duration = Duration::from_secs(60);

/// How long it is remembered which frames an epoch has opened: longer than any device holds an
/// epoch. [PROTO-11.7]
const REMEMBERED_FOR: Duration = Duration::from_secs(12 * 60);

/// Closed epochs of which the delivered frames are remembered. Older ones never open again.
const WINDOWS_KEPT: usize = 16;

/// Epochs that never open again, those of [`WINDOWS_KEPT`] included. If there are more, the oldest
/// is forgotten: a device holds four of a channel, and takes none again that it has dropped.
const REFUSED_MAX: usize = 512;

/// Generations of one sender at a time. If there are more, the oldest is dropped.
const GENERATIONS_KEPT: usize = 4;

/// Generations of one sender in one epoch. If there are more, the oldest is dropped, and with it
/// the record of the frames that it opened.
const DEALT_KEPT: usize = 2;

#[cfg(test)]
mod tests;
