use super::{DropReason, FRAMES_MAX, KIND_HEARTBEAT, KIND_REPORT, Reader};

/// A listener's report on a talker's datagrams. [PROTO-7.4]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Target of the newest voice datagram that the report covers.
    pub target_tag: [u8; 4],
    /// Number of the newest voice datagram that arrived.
    pub highest_sequence: u16,
    /// How many arrived since the last report.
    pub received: u16,
    /// How many did not arrive.
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
        let report = Self::take(&mut reader)?;
        reader.end()?;
        Ok(report)
    }

    /// Parses what follows the kind, or in a report to a relay the slot.
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, DropReason> {
        let target_tag = reader.take()?;
        let highest_sequence = u16::from_be_bytes(reader.take()?);
        let received = u16::from_be_bytes(reader.take()?);
        let lost = u16::from_be_bytes(reader.take()?);
        let [longest_burst] = reader.take()?;
        let jitter = u16::from_be_bytes(reader.take()?);
        let [wanted_copies] = reader.take()?;
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
        self.put(out);
    }

    /// Appends what follows the kind.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.target_tag);
        out.extend_from_slice(&self.highest_sequence.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.lost.to_be_bytes());
        out.push(self.longest_burst);
        out.extend_from_slice(&self.jitter.to_be_bytes());
        out.push(self.wanted_copies);
    }
}

/// A sign of life, sent each second on every link whose fast path does not provide one. [PROTO-2.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts the sender's heartbeats. It wraps.
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
