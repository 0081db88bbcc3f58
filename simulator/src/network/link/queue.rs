//! The queue before a link and what empties it: a rate, or a recording of opportunities.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use hark_keys::Timestamp;

use super::trace::{Opportunities, Position};
use crate::units::{BitRate, Size, Span, UnitError, written_as_text};

/// How much may wait for a link; a packet beyond that is dropped at the tail. A packet that is
/// being sent no longer waits, so an idle link takes any packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// In bytes of IP packets: `"64 kB"`.
    Size(Size),
    /// In time until the packet's first byte is sent: `"200ms"`.
    Time(Span),
    /// In packets: `"50 packets"`.
    Packets(u32),
}

impl QueueLimit {
    fn holds(self, packets: usize, bytes: u64, wait: Duration) -> bool {
        match self {
            Self::Size(size) => bytes <= size.as_bytes(),
            Self::Time(span) => wait <= span.as_duration(),
            Self::Packets(limit) => packets <= limit as usize,
        }
    }
}

impl Default for QueueLimit {
    /// The default of Linux for a network interface.
    fn default() -> Self {
        Self::Packets(1000)
    }
}

impl fmt::Display for QueueLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Time(span) => span.fmt(f),
            Self::Packets(1) => f.write_str("1 packet"),
            Self::Packets(packets) => write!(f, "{packets} packets"),
        }
    }
}

impl FromStr for QueueLimit {
    type Err = QueueLimitError;

    fn from_str(text: &str) -> Result<Self, QueueLimitError> {
        let trimmed = text.trim();
        let count = trimmed.strip_suffix("packets").or_else(|| trimmed.strip_suffix("packet"));
        let unknown = || QueueLimitError::Unknown(text.to_owned());
        if let Some(count) = count {
            return count.trim().parse().map(Self::Packets).map_err(|_| unknown());
        }
        match (trimmed.parse(), trimmed.parse()) {
            (Ok(size), _) => Ok(Self::Size(size)),
            (_, Ok(span)) => Ok(Self::Time(span)),
            // One of the two parsers has recognised what was meant.
            (Err(error @ UnitError::AlmostUnit { .. }), _)
            | (_, Err(error @ UnitError::AlmostUnit { .. })) => Err(error.into()),
            _ => Err(unknown()),
        }
    }
}

written_as_text!(QueueLimit, "a queue such as \"64 kB\", \"200ms\" or \"50 packets\"");

/// Why a text is not the limit of a queue.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueLimitError {
    /// The text is not a quantity of any of the three kinds.
    #[error("`{0}` is not a queue: write \"64 kB\", \"200ms\" or \"50 packets\"")]
    Unknown(String),
    /// The text is almost a quantity of one of the kinds.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// Sends packets one after another, and tracks which of them still wait.
#[derive(Debug, Default)]
pub(super) struct Transmitter {
    /// When the last of all bytes given to it is sent.
    free_at: Timestamp,
    recording: Option<(Arc<Opportunities>, Cursor)>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    /// When the packet's first byte is sent.
    start: Timestamp,
    bytes: u64,
}

impl Transmitter {
    /// Follows `recording` from `now` on. What waits already is sent first, as planned.
    pub(super) fn follow(&mut self, now: Timestamp, recording: Option<Arc<Opportunities>>) {
        self.recording = recording.map(|opportunities| {
            let mut cursor = Cursor::new(now);
            cursor.skip_to_after(self.free_at, &opportunities);
            (opportunities, cursor)
        });
    }

    /// How long a packet that arrives at `now` waits.
    pub(super) fn backlog(&self, now: Timestamp) -> Duration {
        self.free_at.saturating_duration_since(now)
    }

    /// Queues a packet of `bytes` and returns when its last byte is sent; `None` if the queue is
    /// full.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        bytes: u64,
        rate: Option<BitRate>,
        limit: QueueLimit,
    ) -> Option<Timestamp> {
        while let Some(sent) = self.waiting.pop_front_if(|packet| packet.start <= now) {
            self.waiting_bytes -= sent.bytes;
        }

        let mut cursor = self.recording.as_ref().map(|(_, cursor)| *cursor);
        let (start, end) = match (&self.recording, &mut cursor) {
            (Some((opportunities, _)), Some(cursor)) => {
                cursor.skip_to_after(now, opportunities);
                cursor.take(bytes, opportunities)
            }
            _ => {
                let start = now.max(self.free_at);
                (start, start + rate.map_or(Duration::ZERO, |rate| rate.time_for(bytes)))
            }
        };

        if start > now {
            let wait = start.saturating_duration_since(now);
            if !limit.holds(self.waiting.len() + 1, self.waiting_bytes + bytes, wait) {
                return None;
            }
            self.waiting.push_back(Waiting { start, bytes });
            self.waiting_bytes += bytes;
        }
        if let (Some((_, kept)), Some(cursor)) = (&mut self.recording, cursor) {
            *kept = cursor;
        }
        self.free_at = end;
        Some(end)
    }
}

/// The first opportunity with room for what comes next.
///
/// As in mahimahi's `LinkQueue` (R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for
/// HTTP", USENIX ATC 2015) an opportunity serves only packets that arrived before it. It may carry
/// the end of one packet and the start of the next. Whatever room is then left is lost.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// The time at which the recording starts.
    origin: Timestamp,
    position: Position,
    /// How many bytes the opportunity can still carry.
    left: u64,
}

impl Cursor {
    fn new(origin: Timestamp) -> Self {
        Self { origin, position: Position::default(), left: OPPORTUNITY }
    }

    /// Skips all opportunities up to and including `time`.
    fn skip_to_after(&mut self, time: Timestamp, opportunities: &Opportunities) {
        if self.time(opportunities) <= time {
            self.position = opportunities.after(time.saturating_duration_since(self.origin));
            self.left = OPPORTUNITY;
        }
    }

    /// Takes room for `bytes`; returns when the first and the last of them are sent.
    fn take(&mut self, mut bytes: u64, opportunities: &Opportunities) -> (Timestamp, Timestamp) {
        if self.left == 0 {
            self.advance(opportunities);
        }
        let start = self.time(opportunities);
        while bytes > self.left {
            bytes -= self.left;
            self.advance(opportunities);
        }
        self.left -= bytes;
        (start, self.time(opportunities))
    }

    fn advance(&mut self, opportunities: &Opportunities) {
        self.position = opportunities.next(self.position);
        self.left = OPPORTUNITY;
    }

    fn time(&self, opportunities: &Opportunities) -> Timestamp {
        self.origin + opportunities.time(self.position)
    }
}

/// How many bytes of IP packets one opportunity carries: one packet of the usual maximum length.
const OPPORTUNITY: u64 = 1500;
