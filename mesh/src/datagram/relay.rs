//! The datagrams that a member and a relay send each other. [section 9 of docs/protocol.md]

use std::{fmt, num::NonZeroU16};

use hark_keys::DeviceId;

use super::{
    DropReason, KIND_BUNDLE, KIND_FORWARD, KIND_FORWARDED, KIND_FORWARDED_REPORT,
    KIND_INTRODUCTION, KIND_KNOCK, KIND_PULSE, KIND_SEEN, KIND_TUNNEL, Reader, Report, Voice,
};

/// The number by which a relay calls a device that is attached to it, from 1. [PROTO-9.1]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(NonZeroU16);

impl Slot {
    /// The slot with this number; `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number of the slot.
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DropReason> {
        Self::new(u16::from_be_bytes(reader.take()?)).ok_or(DropReason::UnknownSlot)
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number().to_be_bytes());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

/// The content of a datagram from a member to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromMember<'a> {
    /// Voice to be forwarded.
    Forward(Forward<'a>),
    /// A packet for another attached device.
    Tunnel(Tunnel<'a>),
    /// How well forwarded voice arrives.
    Report(ForwardedReport),
    /// The device that a newcomer wants to reach.
    Knock(Knock),
}

impl<'a> FromMember<'a> {
    /// Parses a datagram of kind 4, 6, 10 or 12.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.first() {
            Some(&KIND_FORWARD) => Forward::parse(bytes).map(Self::Forward),
            Some(&KIND_TUNNEL) => Tunnel::parse(bytes).map(Self::Tunnel),
            Some(&KIND_FORWARDED_REPORT) => ForwardedReport::parse(bytes).map(Self::Report),
            Some(&KIND_KNOCK) => Knock::parse(bytes).map(Self::Knock),
            Some(_) => Err(DropReason::UnknownKind),
            None => Err(DropReason::TooShort),
        }
    }
}

/// The content of a datagram from a relay to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromRelay<'a> {
    /// Voice of one talker.
    Forwarded(Forwarded<'a>),
    /// A packet from another attached device.
    Tunnel(Tunnel<'a>),
    /// Voice of several talkers.
    Bundle(Bundle<'a>),
    /// What arrived of the receiver's own voice.
    Seen(Seen),
    /// Which talkspurts continue.
    Pulse(Pulse<'a>),
    /// Which device has a talker's slot.
    Introduction(Introduction),
    /// A newcomer knocks, or the door at which it knocks is there.
    Knock(Knock),
}

impl<'a> FromRelay<'a> {
    /// Parses a datagram of kind 5 to 9, 11 or 12.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.first() {
            Some(&KIND_FORWARDED) => Forwarded::parse(bytes).map(Self::Forwarded),
            Some(&KIND_TUNNEL) => Tunnel::parse(bytes).map(Self::Tunnel),
            Some(&KIND_BUNDLE) => Bundle::parse(bytes).map(Self::Bundle),
            Some(&KIND_SEEN) => Seen::parse(bytes).map(Self::Seen),
            Some(&KIND_PULSE) => Pulse::parse(bytes).map(Self::Pulse),
            Some(&KIND_INTRODUCTION) => Introduction::parse(bytes).map(Self::Introduction),
            Some(&KIND_KNOCK) => Knock::parse(bytes).map(Self::Knock),
            Some(_) => Err(DropReason::UnknownKind),
            None => Err(DropReason::TooShort),
        }
    }
}

/// Voice that a relay is to forward. [PROTO-9.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    /// Loudness in -dBov (RFC 6464): 0 is the loudest, [`SILENCE`] is silence.
    pub level: u8,
    /// Target tag, number of the datagram on the way to this relay, and frames.
    pub voice: Voice<'a>,
}

impl<'a> Forward<'a> {
    /// Number of bytes before the part that a relay passes on unchanged.
    pub(crate) const BODY_AT: usize = 2;

    /// Parses a datagram of kind 4.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_FORWARD, bytes)?;
        if bytes.len() > FORWARD_MAX_BYTES {
            return Err(DropReason::TooMuch);
        }
        let [level] = reader.take()?;
        if level > SILENCE {
            return Err(DropReason::UnknownFlags);
        }
        let voice = Voice::take(&mut reader)?;
        reader.end()?;
        Ok(Self { level, voice })
    }

    /// Appends a datagram with `frames`, as [`Voice::encode`] does.
    pub fn encode<'f>(
        level: u8,
        target_tag: [u8; 4],
        sequence: u16,
        frames: impl IntoIterator<Item = &'f [u8]>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(&[KIND_FORWARD, level]);
        Voice::put(target_tag, sequence, frames, out);
    }
}

/// Voice that a relay has forwarded. [PROTO-9.3]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The talker's slot, as the relay says.
    pub slot: Slot,
    /// The voice as the talker sent it, perhaps with fewer copies.
    pub voice: Voice<'a>,
}

impl<'a> Forwarded<'a> {
    /// Position of the number of copies.
    pub(crate) const COPIES_AT: usize = 9;

    /// Number of bytes before the frames.
    pub(crate) const HEADER: usize = 10;

    /// Parses a datagram of kind 5.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        Self::take(Reader::of_kind(KIND_FORWARDED, bytes)?)
    }

    /// Parses what follows the kind, up to the end.
    fn take(mut reader: Reader<'a>) -> Result<Self, DropReason> {
        let slot = Slot::take(&mut reader)?;
        let voice = Voice::take(&mut reader)?;
        reader.end()?;
        Ok(Self { slot, voice })
    }

    /// Writes a datagram to `out` from what follows the level in a datagram of kind 4.
    pub(crate) fn begin(slot: Slot, body: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.push(KIND_FORWARDED);
        slot.put(out);
        out.extend_from_slice(body);
    }

    /// Appends a datagram with `frames`, as [`Voice::encode`] does.
    pub fn encode<'f>(
        slot: Slot,
        target_tag: [u8; 4],
        sequence: u16,
        frames: impl IntoIterator<Item = &'f [u8]>,
        out: &mut Vec<u8>,
    ) {
        out.push(KIND_FORWARDED);
        slot.put(out);
        Voice::put(target_tag, sequence, frames, out);
    }
}

/// A packet of a link between two attached devices. [PROTO-9.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel<'a> {
    /// On the way to the relay, the slot of the receiver; from there on, that of the sender.
    pub slot: Slot,
    /// Between 1 and [`TUNNEL_MAX_BYTES`] bytes.
    pub packet: &'a [u8],
}

impl<'a> Tunnel<'a> {
    /// Parses a datagram of kind 6.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_TUNNEL, bytes)?;
        let slot = Slot::take(&mut reader)?;
        match reader.bytes.len() {
            0 => Err(DropReason::TooShort),
            1..=TUNNEL_MAX_BYTES => Ok(Self { slot, packet: reader.bytes }),
            _ => Err(DropReason::TooMuch),
        }
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_TUNNEL);
        self.slot.put(out);
        out.extend_from_slice(self.packet);
    }
}

/// Voice of several talkers, or several frames of one, for one listener. [PROTO-9.5]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// Everything after the kind. Each part of it parses.
    parts: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Parses a datagram of kind 7 with all its parts.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_BUNDLE, bytes)?;
        let parts = reader.bytes;
        let mut count = 0;
        while count == 0 || !reader.bytes.is_empty() {
            if count == BUNDLE_FRAMES_MAX {
                return Err(DropReason::TooMuch);
            }
            Self::take(&mut reader)?;
            count += 1;
        }
        Ok(Self { parts })
    }

    fn take(reader: &mut Reader<'a>) -> Result<Forwarded<'a>, DropReason> {
        let length = usize::from(u16::from_be_bytes(reader.take()?));
        Forwarded::take(Reader { bytes: reader.slice(length)? })
    }

    /// The parts, in the order in which they came to the relay.
    pub fn iter(&self) -> impl Iterator<Item = Forwarded<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.parts };
        std::iter::from_fn(move || Self::take(&mut reader).ok())
    }

    /// Starts a datagram in `out`, which is empty.
    pub fn begin(out: &mut Vec<u8>) {
        out.push(KIND_BUNDLE);
    }

    /// Appends a datagram of kind 5 to the bundle in `out`. There must be room for it.
    pub fn put(forwarded: &[u8], out: &mut Vec<u8>) {
        let part = &forwarded[1..];
        let length = u16::try_from(part.len()).expect("a part fits a datagram");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(part);
    }
}

impl fmt::Debug for Bundle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A relay's report to a talker on what arrived. [PROTO-9.6]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Target of the newest datagram that arrived.
    pub target_tag: [u8; 4],
    /// Number of the newest datagram that arrived.
    pub highest_sequence: u16,
    /// How many arrived since the last such report.
    pub received: u16,
    /// How many of that time did not arrive.
    pub lost: u16,
    /// How many copies the relay, or its listeners, want: 0 to 5.
    pub wanted_copies: u8,
}

impl Seen {
    /// Parses a datagram of kind 8.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_SEEN, bytes)?;
        let target_tag = reader.take()?;
        let highest_sequence = u16::from_be_bytes(reader.take()?);
        let received = u16::from_be_bytes(reader.take()?);
        let lost = u16::from_be_bytes(reader.take()?);
        let [wanted_copies] = reader.take()?;
        reader.end()?;
        if usize::from(wanted_copies) >= super::FRAMES_MAX {
            return Err(DropReason::TooManyCopies);
        }
        Ok(Self { target_tag, highest_sequence, received, lost, wanted_copies })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_SEEN);
        out.extend_from_slice(&self.target_tag);
        out.extend_from_slice(&self.highest_sequence.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.lost.to_be_bytes());
        out.push(self.wanted_copies);
    }
}

/// The talkspurts that continue although nothing arrives of them. [PROTO-9.7]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pulse<'a> {
    /// Slot and highest sequence of each talkspurt. No slot is 0.
    talkspurts: &'a [u8],
}

impl<'a> Pulse<'a> {
    /// Parses a datagram of kind 9.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_PULSE, bytes)?;
        let [count] = reader.take()?;
        if usize::from(count) > PULSE_TALKSPURTS_MAX {
            return Err(DropReason::TooMuch);
        }
        let talkspurts = reader.bytes;
        for _ in 0..count {
            Self::take(&mut reader)?;
        }
        reader.end()?;
        Ok(Self { talkspurts })
    }

    fn take(reader: &mut Reader<'_>) -> Result<(Slot, u16), DropReason> {
        Ok((Slot::take(reader)?, u16::from_be_bytes(reader.take()?)))
    }

    /// The talker of each talkspurt, and the number of its newest datagram that arrived.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, u16)> + use<'a> {
        let mut reader = Reader { bytes: self.talkspurts };
        std::iter::from_fn(move || Self::take(&mut reader).ok())
    }

    /// Appends a datagram to `out`. If there are more than [`PULSE_TALKSPURTS_MAX`], the last ones
    /// are left out.
    pub fn encode(talkspurts: impl IntoIterator<Item = (Slot, u16)>, out: &mut Vec<u8>) {
        out.push(KIND_PULSE);
        let count_at = out.len();
        out.push(0);
        for (slot, sequence) in talkspurts.into_iter().take(PULSE_TALKSPURTS_MAX) {
            slot.put(out);
            out.extend_from_slice(&sequence.to_be_bytes());
            out[count_at] += 1;
        }
    }
}

impl fmt::Debug for Pulse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Announces which device has a talker's slot. It is sent before the talker's voice, and again from
/// time to time. [PROTO-9.15]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The talker's slot.
    pub slot: Slot,
    /// The device in that slot.
    pub device: DeviceId,
}

impl Introduction {
    /// Parses a datagram of kind 11.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_INTRODUCTION, bytes)?;
        let slot = Slot::take(&mut reader)?;
        let device = reader.device()?;
        reader.end()?;
        Ok(Self { slot, device })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_INTRODUCTION);
        self.slot.put(out);
        out.extend_from_slice(self.device.as_bytes());
    }
}

/// A newcomer at a relay wants to reach a door. The relay tells each of the two about the other.
/// [PROTO-9.16]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The slot of `device`, on the way from the relay; `None` on the way to the relay.
    pub slot: Option<Slot>,
    /// On the way to the relay, the door; from there on, the door or the newcomer.
    pub device: DeviceId,
}

impl Knock {
    /// Parses a datagram of kind 12.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_KNOCK, bytes)?;
        let slot = Slot::new(u16::from_be_bytes(reader.take()?));
        let device = reader.device()?;
        reader.end()?;
        Ok(Self { slot, device })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_KNOCK);
        out.extend_from_slice(&self.slot.map_or(0, Slot::number).to_be_bytes());
        out.extend_from_slice(self.device.as_bytes());
    }
}

/// A listener's report to a relay on a talker's forwarded voice. [PROTO-9.8]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedReport {
    /// The slot of the talker.
    pub slot: Slot,
    /// How well its voice arrives.
    pub report: Report,
}

impl ForwardedReport {
    /// Parses a datagram of kind 10.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_FORWARDED_REPORT, bytes)?;
        let slot = Slot::take(&mut reader)?;
        let report = Report::take(&mut reader)?;
        reader.end()?;
        Ok(Self { slot, report })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_FORWARDED_REPORT);
        self.slot.put(out);
        self.report.put(out);
    }
}

/// The level of silence, the highest value.
pub const SILENCE: u8 = 127;

/// Bytes of a datagram that is to be forwarded. With one more byte it is as long as the longest
/// datagram of a tunnel. A longer one is dropped.
pub const FORWARD_MAX_BYTES: usize = TUNNEL_MAX_BYTES + 2;

/// Bytes of a packet in a tunnel. A longer one is dropped.
pub const TUNNEL_MAX_BYTES: usize = 1_232;

/// Parts of a bundle. A bundle with more is dropped.
pub const BUNDLE_FRAMES_MAX: usize = 32;

/// Bytes of a bundle that a relay makes. What does not fit is sent in the next bundle.
pub const BUNDLE_MAX_BYTES: usize = 1_200;

/// Talkspurts in a pulse. A pulse with more is dropped.
pub const PULSE_TALKSPURTS_MAX: usize = 32;
