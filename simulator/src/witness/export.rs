//! Exports sealed frames with the keys that they were sealed with, so that other programs can open
//! them. The keys come from a simulation and are of no use to anybody else.

use std::{collections::BTreeMap, fmt::Write as _};

use hark_keys::{EpochKey, KeySecret, encode};
use serde::Serialize;

use super::Log;

/// A frame, its talker and target, and its key. Bytes are in hexadecimal.
#[derive(Serialize)]
pub struct SealedFrame {
    /// The id of the target.
    target: String,
    /// The id of the talker's device.
    device: String,
    /// The id by which the frame names the talker's key.
    #[serde(rename = "key id")]
    key_id: u64,
    /// The key itself. [PROTO-6.1] [PROTO-11.8]
    #[serde(rename = "base key")]
    base_key: String,
    sealed: String,
}

/// The first frames of each key that talkers have used.
pub(crate) fn frames(log: &Log) -> Vec<SealedFrame> {
    let mut counts: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    let mut exported = Vec::new();
    for frame in &log.frames {
        let count = counts.entry((frame.stream, frame.number.key)).or_default();
        *count += 1;
        if *count > EACH {
            continue;
        }
        let stream = log.streams[frame.stream];
        let Some(base_key) = base_key(log, frame.stream, frame.number.key) else { continue };
        exported.push(SealedFrame {
            target: hex(stream.target.as_bytes()),
            device: hex(log.devices[stream.talker].as_bytes()),
            key_id: frame.number.key,
            base_key: hex(&base_key),
            sealed: hex(log.sealed(frame)),
        });
    }
    exported
}

fn base_key(log: &Log, stream: usize, key: u64) -> Option<[u8; 32]> {
    let stream = log.streams[stream];
    let device = log.devices[stream.talker];
    if let Some(used) = log.used.get(&(stream.talker, stream.target))
        && let Some(secret) = used.iter().find(|it| is_named(it, key))
    {
        return encode(secret).last_chunk().copied();
    }
    // An epoch's tag is the first 20 bits of its id.
    let of_tag = |(id, _): &(&[u8; 32], _)| {
        u64::from(u32::from_be_bytes([0, id[0], id[1], id[2]]) >> 4) == key >> 8 & 0xf_ffff
    };
    let (_, given) = log.epochs.iter().filter(|_| key >> 32 != 0).find(of_tag)?;
    let generation = (key & 0xff) as u8;
    let key: EpochKey = given.secret.as_ref()?.key_of(stream.target, device, generation);
    encode(&key).last_chunk().copied()
}

fn is_named(secret: &KeySecret, key: u64) -> bool {
    key >> 32 == 0
        && (u64::from(secret.generation), u64::from(secret.step)) == (key >> 4 & 0xffff, key & 0xf)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How many frames are exported for each key. More would show nothing new.
const EACH: usize = 5;
