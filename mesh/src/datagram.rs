//! The datagrams of a link: voice, report, heartbeat. [section 7 of docs/protocol.md]
//!
//! Parsed in place, without allocation; frames stay sealed.

use std::fmt;

/// What a received datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Sealed speech.
    Voice(Voice<'a>),
    /// How well speech arrives.
    Report(Report),
    /// Nothing but a sign of life.
    Heartbeat(Heartbeat),
}

impl<'a> Datagram<'a> {
    /// Parses any datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        match bytes.first() {
            Some(&KIND_VOICE) => Voice::parse(bytes).map(Self::Voice),
            Some(&KIND_REPORT) => Report::parse(bytes).map(Self::Report),
            Some(&KIND_HEARTBEAT) => Heartbeat::parse(bytes).map(Self::Heartbeat),
            Some(_) => Err(DropReason::UnknownKind),
            None => Err(DropReason::TooShort),
        }
    }
}

/// A sealed frame and copies of those before it. [PROTO-7.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice<'a> {
    /// Which target it is for. [PROTO-7.1]
    pub target_tag: [u8; 4],
    /// Number of the voice datagram on this link; wraps. [PROTO-7.3]
    pub sequence: u16,
    /// Between one and six sealed frames, the newest first.
    pub frames: Frames<'a>,
}

impl<'a> Voice<'a> {
    /// Parses a datagram of kind 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_VOICE, bytes)?;
        let target_tag = reader.take()?;
        let sequence = u16::from_be_bytes(reader.take()?);
        let [copies] = reader.take()?;
        let count = 1 + usize::from(copies);
        if count > FRAMES_MAX {
            return Err(DropReason::TooManyCopies);
        }
        let mut frames = Frames { frames: [&[]; FRAMES_MAX], count };
        for frame in &mut frames.frames[..count] {
            let length = usize::from(u16::from_be_bytes(reader.take()?));
            if length == 0 {
                return Err(DropReason::EmptyFrame);
            }
            *frame = reader.slice(length)?;
        }
        reader.end()?;
        Ok(Self { target_tag, sequence, frames })
    }

    /// Appends a datagram with `frames`, the newest first, to `out`. There must be one at least;
    /// of more than six the oldest are left out.
    pub fn encode<'f>(
        target_tag: [u8; 4],
        sequence: u16,
        frames: impl IntoIterator<Item = &'f [u8]>,
        out: &mut Vec<u8>,
    ) {
        out.push(KIND_VOICE);
        out.extend_from_slice(&target_tag);
        out.extend_from_slice(&sequence.to_be_bytes());
        let copies_at = out.len();
        out.push(0);
        let mut count: u8 = 0;
        for frame in frames.into_iter().take(FRAMES_MAX) {
            let length = u16::try_from(frame.len()).expect("a sealed frame fits a datagram");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(frame);
            count += 1;
        }
        out[copies_at] = count.checked_sub(1).expect("a voice datagram holds a frame");
    }
}

/// The sealed frames of a voice datagram, the newest first.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    frames: [&'a [u8]; FRAMES_MAX],
    count: usize,
}

impl<'a> std::ops::Deref for Frames<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &[&'a [u8]] {
        &self.frames[..self.count]
    }
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|frame| frame.len())).finish()
    }
}

impl PartialEq for Frames<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Frames<'_> {}

/// What a listener says of a talker's datagrams. [PROTO-7.4]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Target of the newest voice datagram that it counts.
    pub target_tag: [u8; 4],
    /// Newest voice datagram that came.
    pub highest_sequence: u16,
    /// How many came since the spurt's last report.
    pub received: u16,
    /// How many did not.
    pub lost: u16,
    /// The most that were lost in a row.
    pub longest_burst: u8,
    /// Interarrival jitter (RFC 3550, section 6.4.1) in 0.1 ms.
    pub jitter: u16,
    /// How many copies of earlier frames the listener wants with each frame, 0 to 5.
    pub wanted_copies: u8,
}

impl Report {
    /// Parses a datagram of kind 2.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_REPORT, bytes)?;
        let target_tag = reader.take()?;
        let highest_sequence = u16::from_be_bytes(reader.take()?);
        let received = u16::from_be_bytes(reader.take()?);
        let lost = u16::from_be_bytes(reader.take()?);
        let [longest_burst] = reader.take()?;
        let jitter = u16::from_be_bytes(reader.take()?);
        let [wanted_copies] = reader.take()?;
        reader.end()?;
        if usize::from(wanted_copies) >= FRAMES_MAX {
            return Err(DropReason::TooManyCopies);
        }
        Ok(Self {
            target_tag,
            highest_sequence,
            received,
            lost,
            longest_burst,
            jitter,
            wanted_copies,
        })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_REPORT);
        out.extend_from_slice(&self.target_tag);
        out.extend_from_slice(&self.highest_sequence.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.lost.to_be_bytes());
        out.push(self.longest_burst);
        out.extend_from_slice(&self.jitter.to_be_bytes());
        out.push(self.wanted_copies);
    }
}

/// A sign of life, sent each second on every link. [PROTO-2.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts the heartbeats of the sender; wraps.
    pub number: u32,
}

impl Heartbeat {
    /// Parses a datagram of kind 3.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_HEARTBEAT, bytes)?;
        let number = u32::from_be_bytes(reader.take()?);
        reader.end()?;
        Ok(Self { number })
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(KIND_HEARTBEAT);
        out.extend_from_slice(&self.number.to_be_bytes());
    }
}

/// What stands before the Opus packet inside a sealed frame. [PROTO-7.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// First frame of a spurt.
    pub first: bool,
    /// Last frame of a spurt.
    pub last: bool,
    /// The spurt's number, 0 to 15; wraps.
    pub spurt: u8,
    /// When it was spoken, in units of 120 samples at 48 kHz; wraps.
    pub media_time: u32,
}

impl FrameHeader {
    /// Bytes of the header.
    pub const LENGTH: usize = 5;

    /// The header of an opened frame and the Opus packet behind it.
    pub fn parse(plaintext: &[u8]) -> Result<(Self, &[u8]), DropReason> {
        let mut reader = Reader { bytes: plaintext };
        let [flags] = reader.take()?;
        let media_time = u32::from_be_bytes(reader.take()?);
        if flags & FLAGS_RESERVED != 0 {
            return Err(DropReason::UnknownFlags);
        }
        if reader.bytes.is_empty() {
            return Err(DropReason::EmptyFrame);
        }
        let header = Self {
            first: flags & FLAG_FIRST != 0,
            last: flags & FLAG_LAST != 0,
            spurt: flags >> 4,
            media_time,
        };
        Ok((header, reader.bytes))
    }

    /// The bytes of the header. Of the spurt's number the low four bits count.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut flags = self.spurt << 4;
        if self.first {
            flags |= FLAG_FIRST;
        }
        if self.last {
            flags |= FLAG_LAST;
        }
        let [a, b, c, d] = self.media_time.to_be_bytes();
        [flags, a, b, c, d]
    }
}

/// Why a datagram was not used. Counted, and no error. [PROTO-1.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// Ends before its fields do.
    #[error("too short")]
    TooShort,
    /// Has bytes behind its last field.
    #[error("bytes behind the end")]
    TooLong,
    /// Holds or wants more than five copies.
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
    /// About a target that we do not talk to.
    #[error("unknown target")]
    UnknownTarget,
    /// Sealed with a key that we have not been given, or not yet.
    #[error("unknown key")]
    UnknownKey,
    /// Does not open with the key that it names.
    #[error("forged")]
    Forged,
    /// Came before; copies do that all the time.
    #[error("seen before")]
    Repeated,
    /// Too far behind what has been heard.
    #[error("too old")]
    TooOld,
    /// A queue of ours was full, and the oldest went.
    #[error("queue full")]
    QueueFull,
}

impl DropReason {
    /// Whose doing it was.
    pub fn fault(self) -> Fault {
        match self {
            Self::TooShort
            | Self::TooLong
            | Self::TooManyCopies
            | Self::EmptyFrame
            | Self::Forged => Fault::Peer,
            Self::UnknownKind | Self::UnknownFlags => Fault::Version,
            Self::UnknownTarget | Self::UnknownKey | Self::Repeated | Self::TooOld => {
                Fault::Network
            }
            Self::QueueFull => Fault::Ours,
        }
    }
}

/// Whose doing it was that a datagram was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The peer broke the protocol.
    Peer,
    /// The peer speaks another version.
    Version,
    /// It came early, late or twice, as networks do it.
    Network,
    /// A limit of ours.
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

/// Frames of a voice datagram: the frame and five copies. One with more is dropped.
pub const FRAMES_MAX: usize = 6;

const FLAG_FIRST: u8 = 0b0001;
const FLAG_LAST: u8 = 0b0010;
const FLAGS_RESERVED: u8 = 0b1100;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn layouts_are_those_of_the_protocol() {
        let mut out = Vec::new();
        Voice::encode([1, 2, 3, 4], 0x0506, [&[7u8, 8][..], &[9]], &mut out);
        assert_eq!(out, [1, 1, 2, 3, 4, 5, 6, 1, 0, 2, 7, 8, 0, 1, 9]);
        let report = Report {
            target_tag: [1, 2, 3, 4],
            highest_sequence: 0x0506,
            received: 0x0708,
            lost: 0x090a,
            longest_burst: 11,
            jitter: 0x0c0d,
            wanted_copies: 5,
        };
        out.clear();
        report.encode(&mut out);
        assert_eq!(out, [2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 5]);
        out.clear();
        Heartbeat { number: 0x0102_0304 }.encode(&mut out);
        assert_eq!(out, [3, 1, 2, 3, 4]);
        let header = FrameHeader { first: true, last: false, spurt: 9, media_time: 0x0102_0304 };
        assert_eq!(header.to_bytes(), [0x91, 1, 2, 3, 4]);
    }

    #[test]
    fn what_breaks_the_layout_is_dropped_with_its_reason() {
        let parse = |bytes: &[u8]| Datagram::parse(bytes).unwrap_err();
        assert_eq!(parse(&[]), DropReason::TooShort);
        assert_eq!(parse(&[9, 1]), DropReason::UnknownKind);
        assert_eq!(DropReason::UnknownKind.fault(), Fault::Version);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 6]), DropReason::TooManyCopies);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), DropReason::EmptyFrame);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]), DropReason::TooShort);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]), DropReason::TooLong);
        assert_eq!(parse(&[3, 0, 0, 0, 0, 0]), DropReason::TooLong);
        assert_eq!(
            parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]),
            DropReason::TooManyCopies
        );
        assert_eq!(FrameHeader::parse(&[4, 0, 0, 0, 0, 1]), Err(DropReason::UnknownFlags));
        assert_eq!(FrameHeader::parse(&[1, 0, 0, 0, 0]), Err(DropReason::EmptyFrame));
    }

    proptest! {
        #[test]
        fn voice_comes_back(
            tag in any::<[u8; 4]>(),
            sequence in any::<u16>(),
            frames in vec(vec(any::<u8>(), 1..200), 1..=FRAMES_MAX),
        ) {
            let mut out = Vec::new();
            Voice::encode(tag, sequence, frames.iter().map(Vec::as_slice), &mut out);
            let Ok(Datagram::Voice(voice)) = Datagram::parse(&out) else {
                return Err(TestCaseError::fail("voice parses as voice"));
            };
            prop_assert_eq!((voice.target_tag, voice.sequence), (tag, sequence));
            prop_assert_eq!(voice.frames.to_vec(), frames);
        }

        #[test]
        fn headers_come_back(
            first in any::<bool>(),
            last in any::<bool>(),
            spurt in 0..16u8,
            media_time in any::<u32>(),
            packet in vec(any::<u8>(), 1..100),
        ) {
            let header = FrameHeader { first, last, spurt, media_time };
            let plaintext = [&header.to_bytes()[..], &packet].concat();
            prop_assert_eq!(FrameHeader::parse(&plaintext), Ok((header, &packet[..])));
        }

        #[test]
        fn any_bytes_parse_to_what_encodes_to_them(
            kind in 0..5u8,
            rest in vec(prop_oneof![0..4u8, any::<u8>()], 0..40),
        ) {
            let bytes = [&[kind], &rest[..]].concat();
            let mut out = Vec::new();
            match Datagram::parse(&bytes) {
                Ok(Datagram::Voice(voice)) => Voice::encode(
                    voice.target_tag,
                    voice.sequence,
                    voice.frames.iter().copied(),
                    &mut out,
                ),
                Ok(Datagram::Report(report)) => report.encode(&mut out),
                Ok(Datagram::Heartbeat(heartbeat)) => heartbeat.encode(&mut out),
                Err(_) => return Ok(()),
            }
            prop_assert_eq!(out, bytes);
        }
    }
}
