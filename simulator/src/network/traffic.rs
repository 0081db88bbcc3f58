//! Other traffic on the same links: a transfer such as a browser or an update makes.
//!
//! The sender follows TCP Reno (RFC 5681): it has slow start, a window that grows by one segment
//! per round trip and is halved once for each round trip with a loss, and a timeout. Segments and
//! acknowledgements are packets like any others.

use std::{collections::BTreeMap, time::Duration};

/// One transfer and its sender's state. Sequence numbers count segments.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The number of segments of the whole transfer.
    segments: u64,
    next: u64,
    /// Unacknowledged segments, each with the time and the number of its last transmission.
    /// Transmissions of all segments are numbered in order.
    under_way: BTreeMap<u64, (Duration, u64)>,
    sendings: u64,
    lost: Vec<u64>,
    acknowledged: u64,
    window: f64,
    threshold: f64,
    round_trip: Duration,
    /// When the window was last reduced. The loss of a segment sent before then does not reduce it
    /// again.
    recovered_at: Duration,
}

impl Flow {
    pub(super) fn new(from: usize, to: usize, bytes: u64) -> Self {
        Self {
            from,
            to,
            segments: bytes.div_ceil(SEGMENT as u64),
            next: 0,
            under_way: BTreeMap::new(),
            sendings: 0,
            lost: Vec::new(),
            acknowledged: 0,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            round_trip: Duration::from_secs(1),
            recovered_at: Duration::ZERO,
        }
    }

    /// The next segment that may be sent now.
    pub(super) fn poll_segment(&mut self, now: Duration) -> Option<u64> {
        if self.under_way.len() as f64 >= self.window {
            return None;
        }
        let segment = self.lost.pop().or_else(|| {
            let next = self.next;
            (next < self.segments).then(|| {
                self.next += 1;
                next
            })
        })?;
        self.sendings += 1;
        self.under_way.insert(segment, (now, self.sendings));
        Some(segment)
    }

    /// Handles the acknowledgement of `segment`.
    pub(super) fn handle_acknowledgement(&mut self, now: Duration, segment: u64) {
        let Some((sent, sending)) = self.under_way.remove(&segment) else { return };
        self.acknowledged += 1;
        let sample = now.saturating_sub(sent);
        self.round_trip =
            if self.acknowledged == 1 { sample } else { (self.round_trip * 7 + sample) / 8 };
        self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
        // Three segments that were sent later have arrived.
        let overtaken = self
            .under_way
            .iter()
            .filter(|(_, (_, other))| other + REORDERING <= sending)
            .map(|(other, _)| *other);
        let overtaken: Vec<_> = overtaken.collect();
        if !overtaken.is_empty() {
            self.lose(now, sent, &overtaken, 0.5);
        }
    }

    /// Treats segments as lost that have been unacknowledged for too long.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        let timeout = (2 * self.round_trip).max(TIMEOUT_MIN);
        let overdue = self.under_way.iter().filter(|(_, (sent, _))| *sent + timeout <= now);
        let overdue: Vec<_> = overdue.map(|(segment, _)| *segment).collect();
        if !overdue.is_empty() {
            self.lose(now, now, &overdue, 0.0);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.acknowledged == self.segments
    }

    fn lose(&mut self, now: Duration, sent: Duration, segments: &[u64], factor: f64) {
        for segment in segments {
            self.under_way.remove(segment);
        }
        self.lost.extend(segments.iter().rev());
        if sent >= self.recovered_at {
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = (self.window * factor).max(if factor > 0.0 { 2.0 } else { 1.0 });
            self.recovered_at = now;
        }
    }
}

/// Bytes of payload in a segment.
pub(super) const SEGMENT: usize = 1_400;

/// Bytes of payload in an acknowledgement.
pub(super) const ACKNOWLEDGEMENT: usize = 24;

/// Segments in the initial window (RFC 6928).
const INITIAL_WINDOW: f64 = 10.0;

/// A segment counts as lost if one that was sent this many transmissions later is acknowledged.
const REORDERING: u64 = 3;

const TIMEOUT_MIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn burst(flow: &mut Flow, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| flow.poll_segment(now)).collect()
    }

    #[test]
    fn the_window_doubles_each_round_trip_until_something_is_lost() {
        let mut flow = Flow::new(0, 1, 1_000_000);
        let first = burst(&mut flow, Duration::ZERO);
        assert_eq!(first.len(), 10);
        first.iter().for_each(|segment| flow.handle_acknowledgement(100 * MS, *segment));
        let second = burst(&mut flow, 100 * MS);
        assert_eq!(second.len(), 20);
        // The first of them is lost: the acknowledgement of the fourth shows it, and the window is
        // halved once.
        second[1..].iter().for_each(|segment| flow.handle_acknowledgement(200 * MS, *segment));
        let third = burst(&mut flow, 200 * MS);
        assert_eq!(third[0], second[0], "what was lost goes first");
        // 20 and the two before that, halved once, and grown a little by the sixteen after.
        assert!((11..=14).contains(&third.len()), "{}", third.len());
    }

    #[test]
    fn all_arrives_though_nothing_is_answered_for_a_while() {
        let mut flow = Flow::new(0, 1, 30 * 1_400);
        let mut now = Duration::ZERO;
        let mut rounds = 0;
        while !flow.is_done() {
            rounds += 1;
            let sent = burst(&mut flow, now);
            now += 3_000 * MS;
            if rounds % 3 == 0 {
                sent.iter().for_each(|segment| flow.handle_acknowledgement(now, *segment));
            }
            flow.handle_timeout(now);
            assert!(rounds < 400, "it must end");
        }
    }
}
