//! Media keys: each device seals its own speech, RFC 9605 (SFrame) with sender keys that ratchet.
//!
//! A [`KeySecret`] is what travels to the devices that may hear. From it the sender makes a
//! [`SenderKey`], a receiver a [`SenderKeyring`]. A key belongs to one target: what is sealed for one
//! opens for no other. The key id says who, which generation and which ratchet step, so that no key
//! is ever tried in vain ([PROTO-6.1]).

use std::{collections::VecDeque, time::Duration};

use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use sframe::{
    CipherSuite,
    crypto::{Aead, DecryptionBufferView, EncryptionBufferView, Kdf},
    header::SframeHeader,
    key::{GenericDecryptionKey, GenericEncryptionKey},
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{DeviceId, EpochSecret, Random, TargetId, Timestamp};

/// What a device gives to those who may hear it: the key of one ratchet step.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct KeySecret {
    /// Which base key; a generation never comes back, also after a restart. [PROTO-6.3]
    pub generation: u16,
    /// How often the base key was ratcheted, modulo 16.
    pub step: u8,
    base_key: [u8; BASE_KEY_LENGTH],
}

impl KeySecret {
    /// A random key, at step 0.
    pub fn generate(generation: u16, random: &dyn Random) -> Self {
        let mut base_key = [0; BASE_KEY_LENGTH];
        random.fill(&mut base_key);
        Self { generation, step: 0, base_key }
    }

    /// The key one step on, from which this one cannot be found (RFC 9605, section 5.1; the sframe
    /// crate's own ratchet gives a longer key than the RFC says, and under another label).
    #[must_use]
    pub fn ratcheted(&self) -> Self {
        let extracted = Salt::new(HKDF_SHA256, b"").extract(&self.base_key);
        let mut base_key = [0; BASE_KEY_LENGTH];
        extracted
            .expand(&[b"SFrame 1.0 Ratchet"], HKDF_SHA256)
            .and_then(|key| key.fill(&mut base_key))
            .expect("the key has the length of the hash");
        Self { generation: self.generation, step: (self.step + 1) % STEPS, base_key }
    }

    /// Whether the step is one that a key id can name: check it on what a peer sends.
    pub fn is_valid(&self) -> bool {
        self.step < STEPS
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySecret({}.{})", self.generation, self.step)
    }
}

/// The step in use has sealed as many frames as it may. Ratchet, then go on. [PROTO-6.2]
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
    /// A key that has sealed nothing. Make it once only from each [`KeySecret`]: two would use one
    /// counter twice.
    pub fn new(target: TargetId, device: DeviceId, secret: &KeySecret) -> Self {
        Self::of(target, device, key_id(slot(target, device), secret), &secret.base_key)
    }

    /// The key of this device in an epoch. Make it once only for each generation. [PROTO-11.8]
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
    /// The sealed frame is [`SEALED_OVERHEAD`] bytes longer than the plaintext, one more by the key
    /// of an epoch.
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

    /// Whether anything was sealed with it.
    pub fn is_used(&self) -> bool {
        self.counter > FIRST_COUNTER
    }

    /// What has been sealed with it.
    pub fn sealed(&self) -> Sealed {
        Sealed { key: self.key.key_id(), end: self.counter }
    }
}

/// Which frame it is, of one sender and one target: its key's id and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameNumber {
    /// Id of the key, with its step.
    pub key: u64,
    /// Counter under that key.
    pub counter: u16,
}

impl FrameNumber {
    /// Of a sealed frame; none where that is no frame of this protocol.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        let header = SframeHeader::deserialize(sealed).ok()?;
        let (key, counter) = (header.key_id(), header.counter());
        Some(Self { key, counter: counter.try_into().ok()? })
            .filter(|_| [HEADER_LENGTH, EPOCH_HEADER_LENGTH].contains(&header.len()))
    }
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

    /// Whether the frame was sealed with it; none where it has another key that may have been used.
    /// Those of the steps ahead, or of later generations in an epoch, which whoever has this one can
    /// find, have not.
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

/// Why a frame was not opened. None of them changes what will open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFrameError {
    /// Sealed with a key that we have not, or have no more.
    #[error("no key for this frame")]
    UnknownKey,
    /// Sealed with the key of another sender, or for another target.
    #[error("another sender's frame")]
    OtherSender,
    /// Delivered before.
    #[error("frame was delivered before")]
    Replayed,
    /// Too far behind the newest to know.
    #[error("frame is too old")]
    TooOld,
    /// Not sealed by the holder of the key, or changed on its way.
    #[error("frame is forged")]
    Forged,
    /// Not an SFrame of this suite and key.
    #[error("malformed frame")]
    Malformed,
}

/// Opens the frames of one sender to one target.
pub struct SenderKeyring {
    target: TargetId,
    sender: DeviceId,
    slot: u32,
    metadata: Metadata,
    /// The newest step of each generation that we know, the newest generation last.
    chains: VecDeque<Chain>,
    epochs: Vec<Dealt>,
}

impl SenderKeyring {
    /// Opens nothing yet.
    pub fn new(target: TargetId, sender: DeviceId) -> Self {
        Self {
            target,
            sender,
            slot: slot(target, sender),
            metadata: metadata(target, sender),
            chains: VecDeque::new(),
            epochs: Vec::new(),
        }
    }

    /// Takes a key that the sender has given us. A step that we have already passed is ignored, as
    /// is an older generation than the newest: it would end the one in use.
    pub fn install(&mut self, now: Timestamp, secret: &KeySecret) {
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

    /// Opens what the sender seals with its keys in these epochs, and in no others.
    pub fn set_epochs(&mut self, epochs: &[EpochSecret]) {
        self.epochs.retain(|dealt| epochs.contains(&dealt.secret));
        for epoch in epochs {
            if !self.epochs.iter().any(|dealt| dealt.secret == *epoch) {
                self.epochs.push(Dealt { secret: epoch.clone(), keys: VecDeque::new() });
            }
        }
    }

    /// Forgets the keys that the sender has given us; those of epochs stay.
    pub fn forget_own_key(&mut self) {
        self.chains.clear();
    }

    /// Whether the sender has given us a key.
    pub fn has_own_key(&self) -> bool {
        !self.chains.is_empty()
    }

    /// Whether nothing will open.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.epochs.is_empty()
    }

    /// Opens `sealed` into `out`, whose earlier content is discarded; on failure nothing is left
    /// in it. [PROTO-6.7]
    pub fn open(
        &mut self,
        now: Timestamp,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenFrameError> {
        out.clear();
        self.forget(now);
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
        let chain = self
            .chains
            .iter_mut()
            .find(|chain| chain.newest.generation == generation)
            .ok_or(OpenFrameError::UnknownKey)?;
        let mut associated = [0; HEADER_LENGTH + METADATA_LENGTH];
        associated[..HEADER_LENGTH].copy_from_slice(&sealed[..HEADER_LENGTH]);
        associated[HEADER_LENGTH..].copy_from_slice(&self.metadata);
        if let Some(known) = chain.steps.iter_mut().find(|known| known.step == step) {
            known.window.check(counter)?;
            out.extend_from_slice(&sealed[HEADER_LENGTH..]);
            known.open(&mut associated, out, counter)?;
            known.window.record(counter);
            return Ok(());
        }
        // A step that we have not reached: go there, and stay only if the frame is genuine.
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
        reached.open(&mut associated, out, counter)?;
        reached.window.record(counter);
        // Frames of the steps between may still be under way.
        for secret in passed {
            chain.advance(now, self.slot, secret);
        }
        chain.push(now, reached, secret);
        Ok(())
    }

    /// Opens a frame that is sealed with the key of an epoch. Two epochs with one tag are told apart
    /// by their keys. [PROTO-11.8]
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
        let mut failure = OpenFrameError::UnknownKey;
        for dealt in self.epochs.iter_mut().filter(|dealt| dealt.secret.tag() == tag) {
            out.clear();
            out.extend_from_slice(&sealed[EPOCH_HEADER_LENGTH..]);
            let base = || *dealt.secret.base_key(self.target, self.sender, generation);
            match open_generation(
                &mut dealt.keys,
                (id, generation),
                base,
                &mut associated,
                out,
                counter,
            ) {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        out.clear();
        Err(failure)
    }

    /// [PROTO-6.6] Erases keys that a later one has replaced for long enough.
    fn forget(&mut self, now: Timestamp) {
        let expired = |since: Option<Timestamp>| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= KEPT_AFTER)
        };
        self.chains.retain(|chain| !expired(chain.superseded));
        for chain in &mut self.chains {
            chain.steps.retain(|step| !expired(step.superseded));
        }
    }
}

/// Opens `data` with a sender's key of one generation, derived when its first genuine frame comes.
fn open_generation(
    keys: &mut VecDeque<(u8, Step)>,
    (id, generation): (u64, u8),
    base_key: impl FnOnce() -> [u8; BASE_KEY_LENGTH],
    associated: &mut [u8],
    data: &mut Vec<u8>,
    counter: u64,
) -> Result<(), OpenFrameError> {
    if let Some((_, known)) = keys.iter_mut().find(|(known, _)| *known == generation) {
        known.window.check(counter)?;
        known.open(associated, data, counter)?;
        known.window.record(counter);
        return Ok(());
    }
    // What was delivered of a generation that is forgotten is not known any more.
    if keys.len() == DEALT_KEPT && keys.front().is_some_and(|(first, _)| generation < *first) {
        return Err(OpenFrameError::TooOld);
    }
    let base_key = Zeroizing::new(base_key());
    let mut reached = Step::of(0, id, &base_key);
    reached.open(associated, data, counter)?;
    reached.window.record(counter);
    if keys.len() == DEALT_KEPT {
        keys.pop_front();
    }
    let place = keys.partition_point(|(known, _)| *known < generation);
    keys.insert(place, (generation, reached));
    Ok(())
}

/// An epoch, and the keys of the sender in it, the newest generations in ascending order.
struct Dealt {
    secret: EpochSecret,
    keys: VecDeque<(u8, Step)>,
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
        // Sixteen steps later the same number comes back for another key.
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
    key: GenericDecryptionKey<Aead, Kdf>,
    window: ReplayWindow,
    superseded: Option<Timestamp>,
}

impl Step {
    fn new(slot: u32, secret: &KeySecret) -> Self {
        Self::of(secret.step, key_id(slot, secret), &secret.base_key)
    }

    fn of(step: u8, id: u64, base_key: &[u8; BASE_KEY_LENGTH]) -> Self {
        let key = GenericDecryptionKey::derive_from(SUITE, id, base_key)
            .expect("the suite is compiled in");
        Self { step, key, window: ReplayWindow::default(), superseded: None }
    }

    /// Opens `data`, cipher text and tag, in place.
    fn open(
        &self,
        associated: &mut [u8],
        data: &mut Vec<u8>,
        counter: u64,
    ) -> Result<(), OpenFrameError> {
        let buffer = DecryptionBufferView { aad: associated, data };
        if self.key.decrypt(buffer, counter).is_err() {
            data.clear();
            return Err(OpenFrameError::Forged);
        }
        data.truncate(data.len() - TAG_LENGTH);
        Ok(())
    }
}

/// The counters that were delivered, of the newest and the [`REPLAY_WINDOW`] before it. [PROTO-6.7]
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

/// Key ids that do not fit in so many bits are those of epochs.
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

/// The smallest counter of two bytes.
const FIRST_COUNTER: u64 = 1 << 8;

/// One more than the largest; then the key must ratchet.
const END_OF_COUNTERS: u64 = 1 << 16;

/// Steps until their number comes back.
const STEPS: u8 = 16;

/// Steps that a frame may be ahead of the newest that we know; frames further on are dropped until
/// the sender gives us its key again. [PROTO-6.6]
const STEPS_AHEAD: u8 = 7;

/// Counters behind the newest in which a late frame is still told from a replayed one.
const REPLAY_WINDOW: u64 = 1024;

/// One word more, so that the oldest counter of the window has a bit of its own.
const WINDOW_BITS: u64 = REPLAY_WINDOW + 64;

/// How long a replaced key still opens frames that were under way. [PROTO-6.6]
const KEPT_AFTER: Duration = Duration::from_secs(10);

/// Generations of one sender at a time; the oldest goes.
const GENERATIONS_KEPT: usize = 4;

/// Generations of one sender in one epoch; of more the oldest goes, and with it what it opened.
const DEALT_KEPT: usize = 2;

#[cfg(test)]
mod tests;
