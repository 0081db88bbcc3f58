use hark_keys::{DeviceId, DeviceKey, FrameNumber, Signature};

use super::{DropReason, KIND_PROOF, KIND_QUESTION, Reader};

/// Asks a talker whether it has sealed a frame. [PROTO-10.10] [PROTO-10.20]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Target of the frame.
    pub target_tag: [u8; 4],
    /// Key and counter of the frame.
    pub frame: FrameNumber,
}

impl Question {
    /// Parses a datagram of kind 14.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_QUESTION, bytes)?;
        let target_tag = reader.take()?;
        let frame = take_number(&mut reader)?;
        reader.end()?;
        Ok(Self { target_tag, frame })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_QUESTION);
        out.extend_from_slice(&self.target_tag);
        put_number(self.frame, out);
    }
}

/// A talker's signed statement about consecutive frames of one key: that it has sealed them, or
/// that it has sealed none from a given frame on. [PROTO-10.9] [PROTO-10.25]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof<'a> {
    /// Target of the frames.
    pub target_tag: [u8; 4],
    /// The first frame.
    pub first: FrameNumber,
    /// Number of frames; 0 if neither the first frame nor any later one was sealed.
    pub count: u8,
    /// Number of frames that share a hash. The last group may have fewer.
    pub group: u8,
    /// A hash for each group.
    hashes: &'a [u8],
    signed: &'a [u8],
    signature: [u8; SIGNATURE],
}

impl<'a> Proof<'a> {
    /// Parses a datagram of kind 15.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_PROOF, bytes)?;
        let target_tag = reader.take()?;
        let first = take_number(&mut reader)?;
        let [count, group] = reader.take()?;
        if group == 0 || usize::from(count.div_ceil(group)) > HASHES_MAX {
            return Err(DropReason::TooMuch);
        }
        let hashes = reader.slice(usize::from(count.div_ceil(group)) * HASH)?;
        let signature = reader.take()?;
        reader.end()?;
        let signed = &bytes[..bytes.len() - SIGNATURE];
        Ok(Self { target_tag, first, count, group, hashes, signed, signature })
    }

    /// Whether `talker` has signed the proof.
    pub fn is_of(&self, talker: DeviceId) -> bool {
        let signature = Signature::from_bytes(self.signature);
        talker.verify(KIND, self.signed, &signature).is_ok()
    }

    /// The groups: the first frame of each, its number of frames, and their hash.
    pub fn groups(&self) -> impl Iterator<Item = (FrameNumber, u8, [u8; HASH])> + use<'a> {
        let (first, count, group) = (self.first, self.count, self.group);
        self.hashes.as_chunks::<HASH>().0.iter().enumerate().map(move |(place, hash)| {
            let before = place as u16 * u16::from(group);
            let length = u16::from(count).saturating_sub(before).min(group.into()) as u8;
            let counter = first.counter.wrapping_add(before);
            (FrameNumber { counter, ..first }, length, *hash)
        })
    }

    /// Appends a datagram about `frames`, which are consecutive from `first` on, to `out`. If there
    /// are more than [`HASHES_MAX`] groups, the last ones are left out.
    pub fn encode(
        key: &DeviceKey,
        target_tag: [u8; 4],
        first: FrameNumber,
        group: u8,
        frames: &[FrameHash],
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let most = (HASHES_MAX * usize::from(group)).min(u8::MAX.into());
        let frames = &frames[..frames.len().min(most)];
        out.push(KIND_PROOF);
        out.extend_from_slice(&target_tag);
        put_number(first, out);
        out.extend_from_slice(&[frames.len() as u8, group]);
        for group in frames.chunks(group.into()) {
            out.extend_from_slice(&hash_of(group.iter()));
        }
        let signature = key.sign(KIND, &out[start..]);
        out.extend_from_slice(&signature.to_bytes());
    }
}

/// A hash that identifies a sealed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHash([u8; 16]);

impl FrameHash {
    /// The hash of these sealed bytes.
    pub fn of(sealed: &[u8]) -> Self {
        Self(*blake3::hash(sealed).as_bytes().first_chunk().expect("16 of 32 bytes"))
    }
}

/// The hash of a group of frames, in the order of their counters.
pub fn hash_of<'f>(frames: impl Iterator<Item = &'f FrameHash>) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    for frame in frames {
        hasher.update(&frame.0);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("8 of 32 bytes")
}

fn take_number(reader: &mut Reader<'_>) -> Result<FrameNumber, DropReason> {
    let mut key = [0; 8];
    key[3..].copy_from_slice(&reader.take::<5>()?);
    let (key, counter) = (u64::from_be_bytes(key), u16::from_be_bytes(reader.take()?));
    Ok(FrameNumber { key, counter })
}

fn put_number(number: FrameNumber, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.key.to_be_bytes()[3..]);
    out.extend_from_slice(&number.counter.to_be_bytes());
}

/// Hashes in a proof. A proof with more is dropped.
pub const HASHES_MAX: usize = 32;

/// Bytes of one hash.
const HASH: usize = 8;

const SIGNATURE: usize = 64;

/// The purpose of the signature.
const KIND: &str = "talk proof";
