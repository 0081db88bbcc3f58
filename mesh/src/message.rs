//! Control messages between members: sender keys, member records, pieces of the charter.
//!
//! A message goes either as a request on a stream of the link, answered by an
//! [`Acknowledgement`], or (records and pieces alone) by gossip.

use std::net::SocketAddr;

use hark_charter::{Have, NameKey};
use hark_keys::{
    ChannelId, DecodeError, DeviceId, KeySecret, ObjectHash, Prekey, Random, Signable, Signed,
    decode, encode,
};
use serde::{Deserialize, Serialize};

use crate::{
    AvailabilityMessage, List, MemberRecord, Target,
    epoch::{Attendance, Confirmed, Confirming, EpochMessage, TalkersKey},
};

/// A control message. What it is made of is in docs/schema/protocol.json. [PROTO-12.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A sender's key for its listeners.
    Key(Signed<KeyMessage>),
    /// Records of members.
    Records(List<Signed<MemberRecord>, MESSAGE_RECORDS_MAX>),
    /// The channels that the sender listens to and the receiver may know of.
    Listening(Listening),
    /// Keys of the names of hidden channels that the receiver may join.
    Names(List<(ChannelId, NameKey), NAMES_MAX>),
    /// A hash over the sender's charter. [CHARTER-8.2]
    Digest(ObjectHash),
    /// What the sender has of the charter, for others to send what it lacks.
    Have(Have),
    /// Pieces of the charter, each after those that it needs; packed.
    Pieces(List<u8, MESSAGE_MAX_BYTES>),
    /// The receiver is to hear another channel. [PROTO-6.14]
    Move(Move),
    /// A part of what the sender's checkpoints have settled.
    Past(PastPart),
    /// To a relay: whose slots there the sender wants to know. [PROTO-10.2]
    Wanted(Wanted),
    /// Of a relay: the slots of those wanted. [PROTO-10.2]
    Roster(Roster),
    /// To a relay: whom a target is to be forwarded to. [PROTO-10.3]
    Route(Route),
    /// Of a relay: whether it takes no more on, as it is about to leave. [PROTO-10.6]
    Draining(bool),
    /// A member's offer to relay, by gossip. [PROTO-10.5]
    Offer(Signed<Offer>),
    /// Where the sender sees the receiver. [PROTO-5.7]
    Observed(SocketAddr),
    /// Where others see the sender, for both to dial at one time. [PROTO-5.7] [PROTO-5.23]
    Candidates(Candidates),
    /// To a relay: where the sender takes what is sealed to it. [PROTO-11.1]
    Prekey(Signed<Prekey>),
    /// Of a relay: who is on a channel that the receiver is the steward of. [PROTO-11.3]
    Attendance(Attendance),
    /// The key of all on a channel, to a relay or of one. [PROTO-11.5]
    Epoch(Box<EpochMessage>),
    /// Asks whether anybody can reach the sender at an address. [PROTO-5.9]
    Check(Check),
    /// To a relay: the sender could open its seal. [PROTO-11.12]
    Confirming(Confirming),
    /// Of a relay: who could. [PROTO-11.12]
    Confirmed(Confirmed),
    /// The sender's key in an epoch, to one who does not hold the epoch. [PROTO-11.13]
    TalkersKey(Box<TalkersKey>),
    /// Whether the sender's person hears and can answer, by gossip as well. [PROTO-5.12]
    Availability(Signed<AvailabilityMessage>),
}

/// What an organisation gossips about, each apart from the other. [PROTO-5.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Who is there, and where: much, which may take some seconds.
    Presence,
    /// New pieces of the charter: few, which all should have at once.
    Charter,
}

impl Topic {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Presence, Self::Charter];

    /// Where a message of these bytes is gossiped, if it is at all.
    pub fn of(message: &[u8]) -> Self {
        if message.first() == Some(&PIECES) { Self::Charter } else { Self::Presence }
    }
}

/// The first bytes of [`Message::Key`], [`Message::Pieces`], [`Message::Epoch`] and
/// [`Message::TalkersKey`].
const KEY: u8 = 0;
const PIECES: u8 = 6;
const EPOCH: u8 = 18;
const TALKERS_KEY: u8 = 22;

impl Message {
    /// The message of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MESSAGE_MAX_BYTES)
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = encode(self);
        debug_assert_eq!(
            Self::holds_key(&bytes),
            matches!(self, Self::Key(_) | Self::Epoch(_) | Self::TalkersKey(_))
        );
        bytes
    }

    /// Whether a message of these bytes holds what opens speech. [PROTO-2.13]
    pub fn holds_key(message: &[u8]) -> bool {
        matches!(message.first(), Some(&(KEY | EPOCH | TALKERS_KEY)))
    }

    /// Messages that hold all of a settled past. [CHARTER-7.5]
    pub fn of_past(past: &[u8]) -> Vec<Self> {
        let chunks = past.chunks(PAST_PART_BYTES);
        let parts = u16::try_from(chunks.len()).unwrap_or(0);
        let id = ObjectHash::from_bytes(blake3::hash(past).into());
        let part = |(part, chunk): (u16, &[u8])| {
            Self::Past(PastPart { id, part, parts, bytes: List::truncated(chunk.iter().copied()) })
        };
        (0..parts).zip(chunks).map(part).collect()
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

/// A part of a settled past, which is longer than a message may be. [CHARTER-7.5]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastPart {
    /// BLAKE3 of all of it.
    pub id: ObjectHash,
    /// Which part this is, from 0.
    pub part: u16,
    /// How many there are: at most [`PAST_PARTS_MAX`].
    pub parts: u16,
    /// The bytes.
    pub bytes: List<u8, PAST_PART_BYTES>,
}

/// What a peer listens to; the higher number replaces the lower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Counts from the sender's start.
    pub number: u64,
    /// In ascending order.
    pub channels: List<ChannelId, LISTENING_MAX>,
}

/// Where a peer that a relay leads to can perhaps be reached without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Whether this answers the receiver's own.
    pub answer: bool,
    /// Where others see the sender's socket.
    pub addresses: List<SocketAddr, CANDIDATES_MAX>,
}

/// Asks the receiver to send a nonce to where strangers would, and from where one would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is to be sent.
    pub nonce: CheckNonce,
    /// Where to; the host that the receiver sees the sender at.
    pub address: SocketAddr,
}

/// What arrives where somebody has asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckNonce([u8; 16]);

impl CheckNonce {
    /// A new one, for one check.
    pub fn generate(random: &dyn Random) -> Self {
        let mut nonce = [0; 16];
        random.fill(&mut nonce);
        Self(nonce)
    }

    /// The packet that brings it, beside those of QUIC and of the fast path.
    pub fn packet(self) -> [u8; CHECK_PACKET_BYTES] {
        let mut packet = [CHECK_KIND; CHECK_PACKET_BYTES];
        packet[1..].copy_from_slice(&self.0);
        packet
    }

    /// What `packet` brings, where it is such a packet.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        match packet.split_first()? {
            (&CHECK_KIND, nonce) => Some(Self(nonce.try_into().ok()?)),
            _ => None,
        }
    }
}

/// Where a member is moved to, by somebody who may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The channel to leave; none to leave none.
    pub from: Option<ChannelId>,
    /// The channel to hear and to talk to.
    pub to: ChannelId,
}

/// The devices that a member would reach through a relay; the higher number replaces the lower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Counts from the link's start.
    pub number: u64,
    /// In ascending order.
    pub devices: List<DeviceId, WANTED_MAX>,
}

/// The slots of those who are wanted and attached; the higher number replaces the lower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Counts from the link's start.
    pub number: u64,
    /// Each device with its slot, in ascending order of devices.
    pub slots: List<(DeviceId, u16), WANTED_MAX>,
}

/// Where frames of a member's target go from a relay; the higher number replaces the lower.
/// [PROTO-10.26]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Counts the sender's routes from the link's start.
    pub number: u64,
    /// What is talked to.
    pub target: Target,
    /// To whom of those who hear it; to all of them where none are named; to nobody any more where
    /// the list is empty.
    pub only: Option<List<DeviceId, RECIPIENTS_MAX>>,
}

/// What a member's node would carry for others, until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Whose node.
    pub device: DeviceId,
    /// The higher replaces the lower.
    pub number: u64,
    /// Seconds that it counts for, from when it came.
    pub lease_seconds: u16,
    /// What it may send, in kbit/s; 0 is any rate.
    pub rate_kbps: u32,
    /// Whether strangers reach it, as others have found. [PROTO-5.9]
    pub reachable: bool,
}

impl Signable for Offer {
    const KIND: &'static str = "offer";

    fn signer(&self) -> DeviceId {
        self.device
    }
}

/// The key that the sender's speech to a target is sealed with, and everybody who gets it.
/// [PROTO-6.4]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMessage {
    /// For what it is.
    pub target: Target,
    /// Whose key it is.
    pub sender: DeviceId,
    /// The key.
    pub secret: KeySecret,
    /// All who get it, in ascending order, none twice. [PROTO-12.9]
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

/// Bytes of a part of a settled past, which leaves room for what stands around them.
pub const PAST_PART_BYTES: usize = MESSAGE_MAX_BYTES - 64;

/// Parts of a settled past; nobody keeps those of a longer one.
pub const PAST_PARTS_MAX: u16 = 520;

/// Devices that get one sender's key; further ones are not given it and do not hear.
pub const RECIPIENTS_MAX: usize = 64;

/// Devices that a member wants to reach through a relay; further ones are not asked for.
pub const WANTED_MAX: usize = 256;

/// Channels that one device listens to; further ones are not heard.
pub const LISTENING_MAX: usize = 64;

/// Addresses at which others see a device; further ones are left out.
pub const CANDIDATES_MAX: usize = 8;

/// Bytes of the packet of a check: fewer than it takes to ask for one.
pub const CHECK_PACKET_BYTES: usize = 17;

/// Its first byte. [PROTO-8.1]
const CHECK_KIND: u8 = 0x25;

/// Name keys of one message; further ones go in the next.
const NAMES_MAX: usize = 256;

/// Records of one message; further ones go in the next.
pub const MESSAGE_RECORDS_MAX: usize = 256;

/// Bytes of the records of one message, which leaves room for what stands around them.
const RECORDS_BYTES: usize = MESSAGE_MAX_BYTES - 16;
