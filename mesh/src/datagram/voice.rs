use std::fmt;

use super::{DropReason, FRAMES_MAX, KIND_VOICE, Reader};

/// A sealed frame and copies of those before it. [PROTO-7.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice<'a> {
    /// Tag of the target that it is for. [PROTO-7.1]
    pub target_tag: [u8; 4],
    /// Number of the voice datagram on this link. It wraps. [PROTO-7.3]
    pub sequence: u16,
    /// Between one and six sealed frames, newest first.
    pub frames: Frames<'a>,
}

impl<'a> Voice<'a> {
    /// Parses a datagram of kind 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::of_kind(KIND_VOICE, bytes)?;
        let voice = Self::take(&mut reader)?;
        reader.end()?;
        Ok(voice)
    }

    /// Parses what follows the kind, or in datagrams of a relay the fields before it.
    pub(super) fn take(reader: &mut Reader<'a>) -> Result<Self, DropReason> {
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
        Ok(Self { target_tag, sequence, frames })
    }

    /// Appends a datagram with `frames`, newest first, to `out`. There must be at least one frame.
    /// If there are more than six, the oldest are left out.
    pub fn encode<'f>(
        target_tag: [u8; 4],
        sequence: u16,
        frames: impl IntoIterator<Item = &'f [u8]>,
        out: &mut Vec<u8>,
    ) {
        out.push(KIND_VOICE);
        Self::put(target_tag, sequence, frames, out);
    }

    /// Appends what follows the kind.
    pub(super) fn put<'f>(
        target_tag: [u8; 4],
        sequence: u16,
        frames: impl IntoIterator<Item = &'f [u8]>,
        out: &mut Vec<u8>,
    ) {
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

/// The sealed frames of a voice datagram, newest first.
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

/// The header in front of the Opus packet inside a sealed frame. [PROTO-7.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether it is the first frame of a talkspurt.
    pub first: bool,
    /// Whether it is the last frame of a talkspurt.
    pub last: bool,
    /// Number of the talkspurt, 0 to 15. It wraps.
    pub talkspurt: u8,
    /// When it was spoken, in units of 120 samples at 48 kHz. It wraps.
    pub media_time: u32,
}

impl FrameHeader {
    /// Bytes of the header.
    pub const LENGTH: usize = 5;

    /// Splits an opened frame into its header and the Opus packet behind it.
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
            talkspurt: flags >> 4,
            media_time,
        };
        Ok((header, reader.bytes))
    }

    /// The bytes of the header. Only the low four bits of the talkspurt's number are used.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut flags = self.talkspurt << 4;
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

const FLAG_FIRST: u8 = 0b0001;
const FLAG_LAST: u8 = 0b0010;
const FLAGS_RESERVED: u8 = 0b1100;
