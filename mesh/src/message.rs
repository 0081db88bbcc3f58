//! Control messages between members: sender keys, member records, pieces of the charter.
//!
//! A message is sent as a request on a stream of the link and answered by an [`Acknowledgement`].
//! Some messages, such as records and pieces, are also sent by gossip.

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

/// A control message. docs/schema/protocol.json describes its fields. [PROTO-12.2]
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
    /// What the sender has of the charter, so that others send what it lacks.
    Have(Have),
    /// Pieces of the charter, each after the pieces that it needs; packed.
    Pieces(List<u8, MESSAGE_MAX_BYTES>),
    /// Asks the receiver to hear another channel. [PROTO-6.14]
    Move(Move),
    /// A part of what the sender's checkpoints have settled.
    Past(PastPart),
    /// To a relay: the devices whose slots the sender wants to know. [PROTO-10.2]
    Wanted(Wanted),
    /// From a relay: the slots of the wanted devices. [PROTO-10.2]
    Roster(Roster),
    /// To a relay: the devices to which a target is to be forwarded. [PROTO-10.3]
    Route(Route),
    /// From a relay: whether it accepts nothing new since it is about to leave. [PROTO-10.6]
    Draining(bool),
    /// A member's offer to relay, sent by gossip. [PROTO-10.5]
    Offer(Signed<Offer>),
    /// The address at which the sender sees the receiver. [PROTO-5.7]
    Observed(SocketAddr),
    /// Addresses at which others see the sender, for both to dial at one time. [PROTO-5.7]
    /// [PROTO-5.23]
    Candidates(Candidates),
    /// To a relay: the prekey to which others can seal for the sender. [PROTO-11.1]
    Prekey(Signed<Prekey>),
    /// From a relay: which devices are on a channel of which the receiver is the steward.
    /// [PROTO-11.3]
    Attendance(Attendance),
    /// The epoch of all on a channel, sent to a relay or by one. [PROTO-11.5]
    Epoch(Box<EpochMessage>),
    /// Asks whether anybody can reach the sender at an address. [PROTO-5.9]
    Check(Check),
    /// To a relay: the sender could open its seal. [PROTO-11.12]
    Confirming(Confirming),
    /// From a relay: which devices could open theirs. [PROTO-11.12]
    Confirmed(Confirmed),
    /// The sender's key in an epoch, for a device that does not hold the epoch. [PROTO-11.13]
    TalkersKey(Box<TalkersKey>),
    /// Whether the sender's person hears and can answer; also sent by gossip. [PROTO-5.12]
    Availability(Signed<AvailabilityMessage>),
}

/// The topics that an organisation gossips about, kept apart from each other. [PROTO-5.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Who is present, and where. This is much, and may take some seconds.
    Presence,
    /// New pieces of the charter. These are few, and all devices should have them at once.
    Charter,
}

impl Topic {
    /// Both topics.
    pub const ALL: [Self; 2] = [Self::Presence, Self::Charter];

    /// The topic of a message with these bytes, if it is gossiped at all.
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
    /// Decodes a message from these bytes.
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

    /// Whether a message with these bytes holds secrets that open speech. [PROTO-2.13]
    pub fn holds_key(message: &[u8]) -> bool {
        matches!(message.first(), Some(&(KEY | EPOCH | TALKERS_KEY)))
    }

    /// Returns messages that hold all of a settled past. [CHARTER-7.5]
    pub fn of_past(past: &[u8]) -> Vec<Self> {
        let chunks = past.chunks(PAST_PART_BYTES);
        let parts = u16::try_from(chunks.len()).unwrap_or(0);
        let id = ObjectHash::from_bytes(blake3::hash(past).into());
        let part = |(part, chunk): (u16, &[u8])| {
            Self::Past(PastPart { id, part, parts, bytes: List::truncated(chunk.iter().copied()) })
        };
        (0..parts).zip(chunks).map(part).collect()
    }

    /// Returns messages that hold all of `records`. None exceeds the size limit of a message.
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

/// A part of a settled past, which does not fit one message. [CHARTER-7.5]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastPart {
    /// BLAKE3 hash of the whole settled past.
    pub id: ObjectHash,
    /// Number of this part, from 0.
    pub part: u16,
    /// Number of all parts, at most [`PAST_PARTS_MAX`].
    pub parts: u16,
    /// The bytes of this part.
    pub bytes: List<u8, PAST_PART_BYTES>,
}

/// The channels that a peer listens to. A higher number replaces a lower one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Number of the announcement, counted from the sender's start.
    pub number: u64,
    /// The channels, in ascending order.
    pub channels: List<ChannelId, LISTENING_MAX>,
}

/// Addresses at which a peer behind a relay can perhaps be reached without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Whether this answers the candidates of the receiver.
    pub answer: bool,
    /// Addresses at which others see the sender's socket.
    pub addresses: List<SocketAddr, CANDIDATES_MAX>,
}

/// Asks the receiver to send a nonce to an address that strangers would use, from a socket that
/// strangers would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The nonce that is to be sent.
    pub nonce: CheckNonce,
    /// The address to send it to. Its host is the one at which the receiver sees the sender.
    pub address: SocketAddr,
}

/// The nonce of a check. It arrives at the address for which the check was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckNonce([u8; 16]);

impl CheckNonce {
    /// Creates a new nonce for one check.
    pub fn generate(random: &dyn Random) -> Self {
        let mut nonce = [0; 16];
        random.fill(&mut nonce);
        Self(nonce)
    }

    /// The packet that carries the nonce, beside those of QUIC and of the fast path.
    pub fn packet(self) -> [u8; CHECK_PACKET_BYTES] {
        let mut packet = [CHECK_KIND; CHECK_PACKET_BYTES];
        packet[1..].copy_from_slice(&self.0);
        packet
    }

    /// The nonce in `packet`, if it is such a packet.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        match packet.split_first()? {
            (&CHECK_KIND, nonce) => Some(Self(nonce.try_into().ok()?)),
            _ => None,
        }
    }
}

/// A request by an authorised member that moves the receiver to another channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The channel to leave, if any.
    pub from: Option<ChannelId>,
    /// The channel to hear and to talk to.
    pub to: ChannelId,
}

/// The devices that a member wants to reach through a relay. A higher number replaces a lower one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Number of the list, counted from the link's start.
    pub number: u64,
    /// The devices, in ascending order.
    pub devices: List<DeviceId, WANTED_MAX>,
}

/// The slots of the wanted devices that are attached. A higher number replaces a lower one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Number of the list, counted from the link's start.
    pub number: u64,
    /// Each device with its slot, in ascending order of devices.
    pub slots: List<(DeviceId, u16), WANTED_MAX>,
}

/// Where a relay forwards the frames of a member's target. A higher number replaces a lower one.
/// [PROTO-10.26]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Number of the route, counted over all routes of the sender from the link's start.
    pub number: u64,
    /// The target of the frames.
    pub target: Target,
    /// If `Some`, the only listeners of the target that get its frames; if empty, the route ends.
    /// If `None`, all its listeners get them.
    pub only: Option<List<DeviceId, RECIPIENTS_MAX>>,
}

/// What a member's node would carry for others, until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The device that offers.
    pub device: DeviceId,
    /// Number of the offer. A higher one replaces a lower one.
    pub number: u64,
    /// How long the offer counts from its arrival, in seconds.
    pub lease_seconds: u16,
    /// The rate at which it may send, in kbit/s; 0 means unlimited.
    pub rate_kbps: u32,
    /// Whether strangers can reach it, as others have found. [PROTO-5.9]
    pub reachable: bool,
}

impl Signable for Offer {
    const KIND: &'static str = "offer";

    fn signer(&self) -> DeviceId {
        self.device
    }
}

/// The key that the sender's speech to a target is sealed with, and all devices that get it.
/// [PROTO-6.4]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMessage {
    /// The target that the key is for.
    pub target: Target,
    /// The device whose key it is.
    pub sender: DeviceId,
    /// The key itself.
    pub secret: KeySecret,
    /// All devices that get it, in ascending order, each once. [PROTO-12.9]
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
    /// The message was used, or was not needed any more.
    Taken,
    /// The message was not used, and would not be if it were sent again unchanged.
    Refused,
}

impl Acknowledgement {
    /// The single byte that encodes it.
    pub fn encode(self) -> [u8; 1] {
        match self {
            Self::Taken => [0],
            Self::Refused => [1],
        }
    }

    /// Decodes an answer from these bytes.
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

/// Bytes of a control message. Longer ones are refused. [PROTO-1.3]
pub const MESSAGE_MAX_BYTES: usize = 32 * 1024;

/// Bytes of a part of a settled past. The rest of the message is for what surrounds it.
pub const PAST_PART_BYTES: usize = MESSAGE_MAX_BYTES - 64;

/// Parts of a settled past. Nobody keeps the parts of a longer one.
pub const PAST_PARTS_MAX: u16 = 520;

/// Devices that get one sender's key. Further ones are not given it and do not hear.
pub const RECIPIENTS_MAX: usize = 64;

/// Devices that a member wants to reach through a relay. Further ones are not asked for.
pub const WANTED_MAX: usize = 256;

/// Channels that one device listens to. Further ones are not heard.
pub const LISTENING_MAX: usize = 64;

/// Addresses at which others see a device. Further ones are left out.
pub const CANDIDATES_MAX: usize = 8;

/// Bytes of the packet of a check. It is shorter than the request for it.
pub const CHECK_PACKET_BYTES: usize = 17;

/// First byte of that packet. [PROTO-8.1]
const CHECK_KIND: u8 = 0x25;

/// Name keys in one message. Further ones are sent in the next message.
const NAMES_MAX: usize = 256;

/// Records in one message. Further ones are sent in the next message.
pub const MESSAGE_RECORDS_MAX: usize = 256;

/// Bytes of the records in one message. The rest of the message is for what surrounds them.
const RECORDS_BYTES: usize = MESSAGE_MAX_BYTES - 16;
