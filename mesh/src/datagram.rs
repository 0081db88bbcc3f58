//! The datagrams of a link: voice, report, heartbeat, and those between a member and a relay.
//! [sections 7 and 8 of docs/protocol.md]
//!
//! They are parsed in place, without allocation. Frames stay sealed.

mod account;
mod proof;
mod relay;
mod report;
#[cfg(test)]
mod tests;
mod voice;

pub use account::Account;
pub use proof::{FrameHash, HASHES_MAX, Proof, Question, hash_of};
pub use relay::{
    BUNDLE_FRAMES_MAX, BUNDLE_MAX_BYTES, Bundle, FORWARD_MAX_BYTES, Forward, Forwarded,
    ForwardedReport, FromMember, FromRelay, Introduction, Knock, PULSE_TALKSPURTS_MAX, Pulse,
    SILENCE, Seen, Slot, TUNNEL_MAX_BYTES, Tunnel,
};
pub use report::{Heartbeat, Report};
pub use voice::{FrameHeader, Frames, Voice};

use hark_keys::DeviceId;

/// The content of a datagram from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Sealed speech.
    Voice(Voice<'a>),
    /// How well speech arrives on this link.
    Report(Report),
    /// A sign of life and nothing else.
    Heartbeat(Heartbeat),
    /// How well speech arrives by a relay.
    Account(Account),
    /// Asks whether a frame is the receiver's.
    Question(Question),
    /// Shows that frames are the sender's, or that one is not.
    Proof(Proof<'a>),
}

impl<'a> Datagram<'a> {
    /// Parses any datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.first() {
            Some(&KIND_VOICE) => Voice::parse(bytes).map(Self::Voice),
            Some(&KIND_REPORT) => Report::parse(bytes).map(Self::Report),
            Some(&KIND_HEARTBEAT) => Heartbeat::parse(bytes).map(Self::Heartbeat),
            Some(&KIND_ACCOUNT) => Account::parse(bytes).map(Self::Account),
            Some(&KIND_QUESTION) => Question::parse(bytes).map(Self::Question),
            Some(&KIND_PROOF) => Proof::parse(bytes).map(Self::Proof),
            Some(_) => Err(DropReason::UnknownKind),
            None => Err(DropReason::TooShort),
        }
    }
}

/// Reason why a datagram was not used. Such datagrams are counted; they are not errors. [PROTO-1.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// Ends before its last field.
    #[error("too short")]
    TooShort,
    /// Has bytes after its last field.
    #[error("bytes behind the end")]
    TooLong,
    /// Holds or requests more than five copies.
    #[error("more than five copies")]
    TooManyCopies,
    /// Holds a frame without content.
    #[error("empty frame")]
    EmptyFrame,
    /// Of a kind that this version does not know.
    #[error("unknown kind")]
    UnknownKind,
    /// A frame with flags that this version does not know.
    #[error("unknown flags")]
    UnknownFlags,
    /// About a target that we do not talk to or have heard nothing from, or for which the talker
    /// has declared no route.
    #[error("unknown target")]
    UnknownTarget,
    /// Sealed with a key that we have not been given, or not yet.
    #[error("unknown key")]
    UnknownKey,
    /// Does not open with the key that it names.
    #[error("forged")]
    Forged,
    /// Has come before, as copies usually have.
    #[error("seen before")]
    Repeated,
    /// Too far behind what has been heard.
    #[error("too old")]
    TooOld,
    /// A queue of ours was full, and its oldest entry was dropped.
    #[error("queue full")]
    QueueFull,
    /// Holds more than a datagram of its kind to or from a relay may hold.
    #[error("too much in one datagram")]
    TooMuch,
    /// Names a slot that no device has.
    #[error("unknown slot")]
    UnknownSlot,
    /// From a sender who may not speak there or is no member, or from a talker by a relay by which
    /// it is not heard.
    #[error("not permitted")]
    NotPermitted,
    /// More than its sender may send.
    #[error("rate limit")]
    RateLimited,
    /// More than the organisation may have sent for it.
    #[error("quota")]
    OverQuota,
    /// From a talker who is not among the loudest of the channel.
    #[error("not among the loudest")]
    NotLoudest,
    /// Too old when its turn to be sent came.
    #[error("late")]
    Late,
}

impl DropReason {
    /// Who is responsible.
    pub fn fault(self) -> Fault {
        match self {
            Self::TooShort
            | Self::TooLong
            | Self::TooManyCopies
            | Self::EmptyFrame
            | Self::TooMuch
            | Self::RateLimited
            | Self::Forged => Fault::Peer,
            Self::UnknownKind | Self::UnknownFlags => Fault::Version,
            Self::UnknownTarget
            | Self::UnknownKey
            | Self::UnknownSlot
            | Self::NotPermitted
            | Self::Repeated
            | Self::TooOld => Fault::Network,
            Self::QueueFull | Self::OverQuota | Self::NotLoudest | Self::Late => Fault::Ours,
        }
    }
}

/// Who is responsible for a datagram that was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The peer broke the protocol.
    Peer,
    /// The peer speaks another version.
    Version,
    /// The network: the datagram came early, late or twice.
    Network,
    /// We are: a limit of ours applied.
    Ours,
}

/// Takes fields off the front of a datagram.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn of_kind(kind: u8, bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.split_first() {
            Some((first, rest)) if *first == kind => Ok(Self { bytes: rest }),
            Some(_) => Err(DropReason::UnknownKind),
            None => Err(DropReason::TooShort),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DropReason> {
        let (field, rest) = self.bytes.split_first_chunk().ok_or(DropReason::TooShort)?;
        self.bytes = rest;
        Ok(*field)
    }

    fn device(&mut self) -> Result<DeviceId, DropReason> {
        DeviceId::from_bytes(self.take()?).map_err(|_| DropReason::UnknownSlot)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], DropReason> {
        let (field, rest) = self.bytes.split_at_checked(length).ok_or(DropReason::TooShort)?;
        self.bytes = rest;
        Ok(field)
    }

    fn end(self) -> Result<(), DropReason> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DropReason::TooLong) }
    }
}

/// First byte of a voice datagram.
pub const KIND_VOICE: u8 = 1;
/// First byte of a report.
pub const KIND_REPORT: u8 = 2;
/// First byte of a heartbeat.
pub const KIND_HEARTBEAT: u8 = 3;
/// First byte of voice that a relay is to forward.
pub const KIND_FORWARD: u8 = 4;
/// First byte of voice that a relay has forwarded.
pub const KIND_FORWARDED: u8 = 5;
/// First byte of a packet of a link that is tunnelled through a relay.
pub const KIND_TUNNEL: u8 = 6;
/// First byte of several forwarded datagrams in one.
pub const KIND_BUNDLE: u8 = 7;
/// First byte of a relay's report to a talker on what arrived.
pub const KIND_SEEN: u8 = 8;
/// First byte of a relay's notice to listeners which talkspurts continue.
pub const KIND_PULSE: u8 = 9;
/// First byte of a report on forwarded voice.
pub const KIND_FORWARDED_REPORT: u8 = 10;
/// First byte of an introduction.
pub const KIND_INTRODUCTION: u8 = 11;
/// First byte of a knock.
pub const KIND_KNOCK: u8 = 12;
/// First byte of a listener's account of a relay.
pub const KIND_ACCOUNT: u8 = 13;
/// First byte of a question to a talker.
pub const KIND_QUESTION: u8 = 14;
/// First byte of a talk proof, also in the place of a frame.
pub const KIND_PROOF: u8 = 15;

/// Most frames in a voice datagram: the frame and five copies. A datagram with more is dropped.
pub const FRAMES_MAX: usize = 6;
