//! The listener's side of redundancy: which datagrams of a talker were lost, and how many copies
//! would have covered the loss. [PROTO-7.4]

use std::time::Duration;

use hark_keys::Timestamp;
use hark_mesh::{
    datagram::Report,
    redundancy::{Arrivals, Late, WantedCopies},
};

/// Counts one talker's voice datagrams by their link sequence.
pub struct Reception {
    /// The newest sequence number; `None` before the first datagram.
    highest: Option<u16>,
    /// The tag of that datagram.
    newest_tag: [u8; 4],
    arrivals: Arrivals,
    heard: Timestamp,
    reported: Timestamp,
    /// Where the last report ended, and what came after it.
    received: u16,
    lost: u16,
    wanted: WantedCopies,
    /// The copies that the last report asked for.
    asked: u8,
}

impl Default for Reception {
    /// For a talker of which nothing has come yet.
    fn default() -> Self {
        Self {
            highest: None,
            newest_tag: [0; 4],
            arrivals: Arrivals::default(),
            heard: Timestamp::ZERO,
            reported: Timestamp::ZERO,
            received: 0,
            lost: 0,
            wanted: WantedCopies::default(),
            asked: 0,
        }
    }
}

impl Reception {
    /// A datagram to the target with `tag` arrived. Returns whether its number is new and was to be
    /// expected. [PROTO-7.3]
    pub fn handle_datagram(&mut self, arrived: Timestamp, tag: [u8; 4], sequence: u16) -> bool {
        let step = match self.highest {
            Some(highest) => sequence.wrapping_sub(highest) as i16,
            None => i16::MAX,
        };
        let silent = arrived.saturating_duration_since(self.heard);
        let mut expected = true;
        if self.highest.is_none() || silent > MEMORY || !(-STEP_MAX..=STEP_MAX).contains(&step) {
            // The first datagram, or a link that has started over.
            expected = self.highest.is_none() || silent > MEMORY;
            self.begin_anew();
            (self.highest, self.newest_tag) = (Some(sequence), tag);
            (self.arrivals, self.received) = (Arrivals::first(), 1);
        } else if step > 0 {
            (self.highest, self.newest_tag) = (Some(sequence), tag);
            self.arrivals.advance(step.unsigned_abs());
            self.received = self.received.saturating_add(1);
            self.lost = self.lost.saturating_add(step.unsigned_abs() - 1);
        } else if self.arrivals.fill(step.unsigned_abs()) == Late::Missed {
            // It was counted as lost, but was only out of order.
            self.received = self.received.saturating_add(1);
            self.lost = self.lost.saturating_sub(1);
        } else {
            expected = false;
        }
        self.heard = arrived;
        expected
    }

    /// Whether nothing has arrived for so long that the talker's voice may now come another way.
    pub fn is_silent(&self, now: Timestamp) -> bool {
        self.highest.is_none() || now.saturating_duration_since(self.heard) > SILENT_AFTER
    }

    /// Forgets the numbers so far: the next datagram starts a new count.
    pub fn begin_anew(&mut self) {
        *self = Self { reported: self.reported, ..Self::default() };
    }

    /// When the next report is due; `None` while nobody is heard.
    pub fn due(&self) -> Option<Timestamp> {
        (self.received > 0).then(|| self.reported + REPORT_INTERVAL)
    }

    /// The report on what came since the last one. It asks for no more than `copies_max` copies.
    pub fn report(&mut self, now: Timestamp, jitter: Duration, copies_max: u8) -> Report {
        let wanted = self.wanted.update(now, self.arrivals.copies_needed());
        let report = Report {
            target_tag: self.newest_tag,
            highest_sequence: self.highest.unwrap_or(0),
            received: self.received,
            lost: self.lost,
            longest_burst: self.arrivals.longest_burst(),
            jitter: u16::try_from(jitter.as_micros() / 100).unwrap_or(u16::MAX),
            wanted_copies: wanted.min(copies_max),
        };
        (self.received, self.lost) = (0, 0);
        (self.reported, self.asked) = (now, report.wanted_copies);
        report
    }

    /// The number of copies that the last report asked for.
    pub fn asked(&self) -> u8 {
        self.asked
    }

    /// Share of the last datagrams that were lost. The very last ones are not judged yet.
    pub fn loss(&self) -> f32 {
        self.arrivals.loss()
    }
}

/// How often a listener reports while it hears a talker. [PROTO-7.4]
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// After this time what was heard before says nothing about the link any more.
const MEMORY: Duration = Duration::from_secs(10);

/// A larger step of the sequence is not a loss but a new count.
const STEP_MAX: i16 = 1_000;

/// Nothing has come for several frames.
const SILENT_AFTER: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers `count` datagrams, 10 ms apart, except those that `lost` selects.
    fn run(reception: &mut Reception, from: u32, count: u32, lost: impl Fn(u32) -> bool) -> Report {
        let mut report = None;
        for n in from..from + count {
            let now = Timestamp::from_millis(1_000 + u64::from(n) * 10);
            if !lost(n) {
                reception.handle_datagram(now, [1; 4], n as u16);
            }
            if reception.due().is_some_and(|due| due <= now) {
                report = Some(reception.report(now, Duration::ZERO, u8::MAX));
            }
        }
        report.expect("some reports are due")
    }

    #[test]
    fn a_clean_link_wants_nothing() {
        let mut reception = Reception::default();
        let report = run(&mut reception, 65_400, 500, |_| false);
        assert_eq!((report.lost, report.wanted_copies, report.longest_burst), (0, 0, 0));
        assert_eq!(report.received, 25, "four reports a second, and sequences wrap");
    }

    #[test]
    fn loss_asks_for_copies_and_its_end_takes_them_back_in_stages() {
        let mut reception = Reception::default();
        let report = run(&mut reception, 0, 300, |n| n % 10 == 3);
        assert_eq!(report.wanted_copies, 2, "one in ten, alone");
        assert!((24..=26).contains(&(report.lost + report.received)));
        let report = run(&mut reception, 300, 230, |_| false);
        assert!(report.wanted_copies < 2);
        let report = run(&mut reception, 530, 200, |_| false);
        assert_eq!(report.wanted_copies, 0);
    }

    #[test]
    fn bursts_ask_for_more_copies_than_their_length_needs() {
        let mut reception = Reception::default();
        let report = run(&mut reception, 0, 400, |n| n % 25 < 2);
        assert_eq!(report.longest_burst, 2);
        assert!(report.wanted_copies >= 4, "{}", report.wanted_copies);
    }

    #[test]
    fn copies_that_would_come_too_late_are_not_asked_for() {
        let mut reception = Reception::default();
        let mut lose = |n: u16| {
            if n % 25 >= 2 {
                reception.handle_datagram(Timestamp::from_millis(n.into()), [1; 4], n);
            }
        };
        (0..400).for_each(&mut lose);
        let now = Timestamp::from_millis(400);
        assert_eq!(reception.report(now, Duration::ZERO, 2).wanted_copies, 2);
        assert_eq!(reception.asked(), 2);
    }

    #[test]
    fn reordered_and_repeated_datagrams_are_not_lost() {
        let mut reception = Reception::default();
        for sequence in [1, 3, 2, 2, 5, 4] {
            reception.handle_datagram(Timestamp::from_millis(5), [sequence as u8; 4], sequence);
        }
        let report = reception.report(Timestamp::from_millis(9), Duration::ZERO, 2);
        assert_eq!((report.highest_sequence, report.received, report.lost), (5, 5, 0));
        assert_eq!(report.target_tag, [5; 4], "the newest, not the last to come");
        assert_eq!(reception.loss(), 0.0);
    }
}
