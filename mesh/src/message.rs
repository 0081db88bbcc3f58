//! Control messages between members: sender keys and member records.
//!
//! A message goes either as a request on a stream of the link, answered by an
//! [`Acknowledgement`], or (records alone) by gossip.

use hark_keys::{ChannelId, DecodeError, DeviceId, KeySecret, Signable, Signed, decode, encode};
use serde::{Deserialize, Serialize};

use crate::{List, MemberRecord};

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A sender's key for its listeners.
    Key(Signed<KeyMessage>),
    /// Records of members.
    Records(List<Signed<MemberRecord>, MESSAGE_RECORDS_MAX>),
}

impl Message {
    /// The message of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MESSAGE_MAX_BYTES)
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Messages that hold all of `records`, none longer than a message may be.
    pub fn of_records<'a>(
        records: impl IntoIterator<Item = &'a Signed<MemberRecord>>,
    ) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut batch = Vec::new();
        let mut length = 0;
        for record in records {
            let record_length = encode(record).len();
            if length + record_length > RECORDS_BYTES || batch.len() == MESSAGE_RECORDS_MAX {
                messages.push(Self::Records(List::truncated(batch.drain(..))).encode());
                length = 0;
            }
            length += record_length;
            batch.push(record.clone());
        }
        if !batch.is_empty() {
            messages.push(Self::Records(List::truncated(batch)).encode());
        }
        messages
    }
}

/// The key that the sender's speech is sealed with, and everybody who gets it. [PROTO-6.4]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMessage {
    /// For which channel.
    pub channel: ChannelId,
    /// Whose key it is.
    pub sender: DeviceId,
    /// The key.
    pub secret: KeySecret,
    /// All who get it, in ascending order, none twice.
    pub recipients: List<DeviceId, RECIPIENTS_MAX>,
}

impl Signable for KeyMessage {
    const KIND: &'static str = "key";

    fn signer(&self) -> DeviceId {
        self.sender
    }
}

/// The answer to a message on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It was used, or was not needed any more.
    Taken,
    /// It was not used, and will not be if it is sent again as it is.
    Refused,
}

impl Acknowledgement {
    /// The one byte of it.
    pub fn encode(self) -> [u8; 1] {
        match self {
            Self::Taken => [0],
            Self::Refused => [1],
        }
    }

    /// The answer of these bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::Taken),
            [1] => Some(Self::Refused),
            _ => None,
        }
    }
}

impl<T, E> From<&Result<T, E>> for Acknowledgement {
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Taken } else { Self::Refused }
    }
}

/// Bytes of a control message; longer ones are refused. [PROTO-1.3]
pub const MESSAGE_MAX_BYTES: usize = 32 * 1024;

/// Devices that get one sender's key; further ones are not given it and do not hear.
pub const RECIPIENTS_MAX: usize = 64;

/// Records of one message; further ones go in the next.
pub const MESSAGE_RECORDS_MAX: usize = 256;

/// Bytes of the records of one message, which leaves room for what stands around them.
const RECORDS_BYTES: usize = MESSAGE_MAX_BYTES - 16;
