//! Bit rate and frame length of our own voice: they follow the way to those who hear us.
//!
//! Nothing is sent to measure that way. Each report on our datagrams names the newest one that had
//! arrived. How long ago the next one was sent is about a round trip. If it grows above its least
//! value of the last seconds, datagrams wait in a queue. Then we send less: longer frames, whose
//! headers cost less, at a lower bit rate. Only the network decides, never what is said.
//! [PROTO-7.10]

use std::time::Duration;

use hark_keys::Timestamp;
use hark_mesh::{datagram::FRAMES_MAX, topology::DIRECT_FANOUT_MAX};

use super::{SAMPLE_RATE, WindowMinimum};

/// How our voice is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Samples in a frame: 120, 240, 480 or 960.
    pub frame_samples: usize,
    /// Bit rate of Opus in bits per second.
    pub bitrate_bps: u32,
}

impl Coding {
    /// Size of each packet, in bytes.
    pub fn packet_bytes(self) -> usize {
        self.bitrate_bps as usize * self.frame_samples / 8 / SAMPLE_RATE as usize
    }
}

/// What the person has set. `None` leaves the choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodingSettings {
    /// Bit rate in bits per second, 24,000 to 96,000.
    pub bitrate_bps: Option<u32>,
    /// Samples in a frame: 120, 240, 480 or 960.
    pub frame_samples: Option<usize>,
    /// Number of copies in each datagram, 0 to 5, whatever listeners ask for.
    pub copies: Option<u8>,
}

impl CodingSettings {
    /// Carries out a change.
    pub fn apply(&mut self, change: CodingChange) {
        let CodingChange { bitrate_bps, frame_samples, copies } = change;
        self.bitrate_bps = bitrate_bps.unwrap_or(self.bitrate_bps);
        self.frame_samples = frame_samples.unwrap_or(self.frame_samples);
        self.copies = copies.unwrap_or(self.copies);
    }
}

/// What is to change of the settings. `None` leaves a setting as it is, and `Some(None)` leaves the
/// choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodingChange {
    /// As in [`CodingSettings`].
    pub bitrate_bps: Option<Option<u32>>,
    /// As in [`CodingSettings`].
    pub frame_samples: Option<Option<usize>>,
    /// As in [`CodingSettings`].
    pub copies: Option<Option<u8>>,
}

/// Reads a bit rate: `auto`, or 24 to 96 kbit/s.
pub fn parse_bitrate(text: &str) -> Result<Option<u32>, CodingError> {
    let kbps = |kbps: &u32| (24..=96).contains(kbps);
    let number = || text.parse().ok().filter(kbps).ok_or(CodingError::Bitrate(text.to_owned()));
    choice(text, || number().map(|kbps| kbps * 1_000))
}

/// Reads a frame length: `auto`, or 2.5, 5, 10 or 20 ms.
pub fn parse_frame(text: &str) -> Result<Option<usize>, CodingError> {
    choice(text, || match text {
        "2.5" => Ok(120),
        "5" => Ok(240),
        "10" => Ok(480),
        "20" => Ok(960),
        _ => Err(CodingError::Frame(text.to_owned())),
    })
}

/// Reads a number of copies: `auto`, or 0 to 5.
pub fn parse_copies(text: &str) -> Result<Option<u8>, CodingError> {
    let fits = |copies: &u8| *copies <= COPIES_MAX;
    choice(text, || text.parse().ok().filter(fits).ok_or(CodingError::Copies(text.to_owned())))
}

fn choice<T>(
    text: &str,
    number: impl FnOnce() -> Result<T, CodingError>,
) -> Result<Option<T>, CodingError> {
    if text == "auto" { Ok(None) } else { number().map(Some) }
}

/// Reasons why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// Not a bit rate.
    #[error("the bit rate is auto or 24 to 96 kbit/s, not {0}")]
    Bitrate(String),
    /// Not a frame length.
    #[error("the frame is auto, 2.5, 5, 10 or 20 ms, not {0}")]
    Frame(String),
    /// Not a number of copies.
    #[error("redundancy is auto or 0 to 5 copies, not {0}")]
    Copies(String),
}

/// What is in force, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingState {
    /// How our voice is coded.
    pub coding: Coding,
    /// Most copies of earlier frames in a datagram.
    pub copies_max: u8,
    /// Why it is so.
    pub reason: CodingReason,
}

impl Default for CodingState {
    /// Before anything is measured.
    fn default() -> Self {
        let coding = Coding { frame_samples: 480, bitrate_bps: 48_000 };
        Self { coding, copies_max: COPIES_MAX, reason: CodingReason::Usual }
    }
}

/// Why a bit rate and frame length are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingReason {
    /// Nothing is in the way.
    Usual,
    /// We send to many listeners ourselves.
    ManyListeners,
    /// Our datagrams wait in a queue on the way, or did lately.
    Queue,
    /// Reports on our datagrams stayed away, or did lately.
    Unanswered,
}

/// The number of copies that a listener gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesRule {
    fixed: Option<u8>,
    most: u8,
}

impl CopiesRule {
    /// A listener gets what it asks for.
    pub const ASKED: Self = Self { fixed: None, most: COPIES_MAX };

    /// The number of copies for a listener that asks for `asked`.
    pub fn of(self, asked: u8) -> u8 {
        self.fixed.unwrap_or(asked).min(self.most)
    }
}

/// Chooses how our voice is coded.
pub(super) struct Rate {
    low_delay: bool,
    /// The bit rate if nothing is in the way.
    usual_bps: u32,
    settings: CodingSettings,
    /// Whether we send to many listeners ourselves.
    many: bool,
    /// The place in [`LEVELS`] that the network allows; 0 if nothing is in the way.
    level: usize,
    /// When the level last changed.
    changed: Option<Timestamp>,
    /// Since when nothing has waited.
    clear_since: Option<Timestamp>,
    /// How long nothing may wait before the level rises.
    patience: Duration,
    reason: CodingReason,
}

impl Rate {
    pub(super) fn new(low_delay: bool, usual_bps: u32, settings: CodingSettings) -> Self {
        Self {
            low_delay,
            usual_bps,
            settings,
            many: false,
            level: 0,
            changed: None,
            clear_since: None,
            patience: PATIENCE,
            reason: CodingReason::Usual,
        }
    }

    pub(super) fn change(&mut self, change: CodingChange) {
        self.settings.apply(change);
    }

    /// The next talkspurt goes to so many listeners directly.
    pub(super) fn set_direct_listeners(&mut self, count: usize) {
        self.many = count > DIRECT_FANOUT_MAX;
    }

    /// A frame's time has passed. `ways` are those that the talkspurt takes.
    pub(super) fn judge<'q>(
        &mut self,
        now: Timestamp,
        ways: impl Iterator<Item = &'q Queueing> + Clone,
    ) {
        let count = ways.clone().count();
        // One listener of many that hears badly does not lower the quality for all.
        let share = |bad: usize| bad > 0 && bad * DECIDING_SHARE >= count;
        let stalled = share(ways.clone().filter(|way| way.is_stalled(now)).count());
        let queued = share(ways.clone().filter(|way| way.is_queued(now)).count());
        let waits = share(ways.clone().filter(|way| way.queue > QUEUE_GONE).count());
        if stalled || queued || waits {
            self.clear_since = None;
        }
        let settled = self.changed.is_none_or(|at| now.saturating_duration_since(at) >= SETTLE);
        if !settled {
            return;
        }
        if stalled {
            self.lower(now, LEVELS.len(), CodingReason::Unanswered);
        } else if queued {
            let full = share(ways.clone().filter(|way| way.queue >= QUEUE_FULL).count());
            let level = if full { LEVELS.len() } else { self.level + 1 };
            self.lower(now, level, CodingReason::Queue);
        } else if self.level > 0 && !waits {
            let since = *self.clear_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.patience {
                self.level -= 1;
                self.changed = Some(now);
                self.clear_since = None;
            }
        } else if self.changed.is_some_and(|at| now.saturating_duration_since(at) > PATIENCE_MAX) {
            self.patience = PATIENCE;
        }
    }

    fn lower(&mut self, now: Timestamp, level: usize, reason: CodingReason) {
        self.reason = reason;
        if self.level == LEVELS.len() {
            return;
        }
        // What was tried and failed is tried again later each time.
        if self.changed.is_some() {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        self.level = level.min(LEVELS.len());
        self.changed = Some(now);
    }

    /// What the next talkspurt is to be coded by.
    pub(super) fn wanted(&self) -> CodingState {
        let floor = usize::from(self.many);
        let usual = Coding {
            frame_samples: if self.low_delay { 240 } else { 480 },
            bitrate_bps: self.usual_bps,
        };
        let level = self.level.max(floor);
        let mut coding = level.checked_sub(1).map_or(usual, |level| LEVELS[level].0);
        coding.bitrate_bps = self.settings.bitrate_bps.unwrap_or(coding.bitrate_bps);
        coding.frame_samples = self.settings.frame_samples.unwrap_or(coding.frame_samples);
        let reason = match (self.level, self.many) {
            (0, false) => CodingReason::Usual,
            (0, true) => CodingReason::ManyListeners,
            _ => self.reason,
        };
        let copies = self.level.checked_sub(1).map_or(COPIES_MAX, |level| LEVELS[level].1);
        let room = DATAGRAM_BYTES / (coding.packet_bytes() + FRAME_OVERHEAD) - 1;
        CodingState { coding, copies_max: copies.min(room as u8), reason }
    }

    /// The rule for copies while `state` is in force.
    pub(super) fn copies(&self, state: &CodingState) -> CopiesRule {
        CopiesRule { fixed: self.settings.copies, most: state.copies_max }
    }
}

/// What the reports on our datagrams say of the way that they take.
pub(super) struct Queueing {
    /// When the last datagrams were sent, by the lower bits of their sequence numbers.
    sent: Vec<(u16, Timestamp)>,
    /// The shortest time, in microseconds, between a datagram and a report that lacks it.
    shortest: WindowMinimum,
    /// How much longer that time was at the last report.
    queue: Duration,
    /// Since when reports have told of a queue.
    queued_since: Option<Timestamp>,
    /// When the last report came, while we talk.
    reported: Option<Timestamp>,
}

impl Default for Queueing {
    /// Nothing has been sent yet.
    fn default() -> Self {
        Self {
            sent: vec![(0, Timestamp::ZERO); SENT_KEPT],
            shortest: WindowMinimum::new(SHORTEST_WINDOW),
            queue: Duration::ZERO,
            queued_since: None,
            reported: None,
        }
    }
}

impl Queueing {
    /// A talkspurt begins: nothing of it has been reported yet.
    pub(super) fn begin(&mut self) {
        self.reported = None;
        self.queued_since = None;
        self.queue = Duration::ZERO;
    }

    pub(super) fn handle_sent(&mut self, now: Timestamp, sequence: u16) {
        self.sent[usize::from(sequence) % SENT_KEPT] = (sequence, now);
    }

    /// A report names the `highest` sequence number that had arrived.
    pub(super) fn handle_report(&mut self, now: Timestamp, highest: u16) {
        self.reported = Some(now);
        let next = highest.wrapping_add(1);
        let (Some(before), Some(sent)) = (self.sent_at(highest), self.sent_at(next)) else {
            return;
        };
        // After a pause, the report may have been on its way before the next datagram was.
        if sent.saturating_duration_since(before) > STEADY {
            return;
        }
        let took = now.saturating_duration_since(sent).as_micros() as i64;
        let queue = took - self.shortest.update(now, took);
        self.queue = Duration::from_micros(u64::try_from(queue).unwrap_or(0));
        if self.queue < QUEUE {
            self.queued_since = None;
        } else {
            self.queued_since.get_or_insert(now);
        }
    }

    fn sent_at(&self, sequence: u16) -> Option<Timestamp> {
        let (held, at) = self.sent[usize::from(sequence) % SENT_KEPT];
        (held == sequence && at > Timestamp::ZERO).then_some(at)
    }

    fn is_queued(&self, now: Timestamp) -> bool {
        let lasts = |since| now.saturating_duration_since(since) >= QUEUE_LASTS;
        self.queue >= QUEUE_FULL || self.queued_since.is_some_and(lasts)
    }

    fn is_stalled(&self, now: Timestamp) -> bool {
        self.reported.is_some_and(|at| now.saturating_duration_since(at) >= UNANSWERED)
    }
}

/// What is used while the network is in the way: less and less, each with the most copies.
const LEVELS: [(Coding, u8); 3] = [
    (Coding { frame_samples: 960, bitrate_bps: 32_000 }, 3),
    (Coding { frame_samples: 960, bitrate_bps: 24_000 }, 2),
    (Coding { frame_samples: 960, bitrate_bps: 16_000 }, 1),
];

/// The largest number of copies in a datagram.
const COPIES_MAX: u8 = FRAMES_MAX as u8 - 1;

/// Bytes of a datagram for frames. A relay takes 1,234 in all. [PROTO-9.2]
const DATAGRAM_BYTES: usize = 1_220;

/// Bytes of a frame in a datagram besides its packet: length, SFrame's header and tag, our header.
const FRAME_OVERHEAD: usize = 2 + 9 + 10 + 5;

/// The share of the ways, as its reciprocal, that decides for all.
const DECIDING_SHARE: usize = 5;

/// A change lasts for at least this time.
const SETTLE: Duration = Duration::from_secs(5);

/// How long nothing may wait before we send more again. Sooner would find the same queue again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest patience, after several tries that failed.
const PATIENCE_MAX: Duration = Duration::from_secs(80);

/// A queue of this length that lasts makes us send less. One stop of a mobile network makes as long
/// a queue, but it is gone at once.
const QUEUE: Duration = Duration::from_millis(80);

/// How long a queue lasts before we send less.
const QUEUE_LASTS: Duration = Duration::from_millis(400);

/// A queue of this length makes us send as little as we can, at once.
const QUEUE_FULL: Duration = Duration::from_millis(250);

/// A shorter queue is none.
const QUEUE_GONE: Duration = Duration::from_millis(40);

/// Reports come four times a second. If none comes for this time, nothing of ours arrives.
const UNANSWERED: Duration = Duration::from_secs(1);

/// Datagrams further apart are not of one talkspurt without a pause.
const STEADY: Duration = Duration::from_millis(45);

/// Send times that are remembered: those of more than a second, even with proofs between the
/// frames. A report that is older says nothing.
const SENT_KEPT: usize = 512;

/// Half of the span in which the shortest way is looked for.
const SHORTEST_WINDOW: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    /// A way on which datagrams of 10 ms take `delay_ms(n)` there and 20 ms back, with a report
    /// each 250 ms.
    struct Way {
        rate: Rate,
        queueing: Queueing,
        n: u64,
    }

    impl Way {
        fn new(settings: CodingSettings) -> Self {
            Self { rate: Rate::new(false, 48_000, settings), queueing: Queueing::default(), n: 0 }
        }

        fn run(&mut self, seconds: u64, delay_ms: impl Fn(u64) -> u64) -> Coding {
            let arrives = |n: u64| n * 10 + delay_ms(n);
            for n in self.n..self.n + seconds * 100 {
                let now = Timestamp::from_millis(1_000 + n * 10);
                self.queueing.handle_sent(now, n as u16);
                let made = (n * 10).saturating_sub(20);
                if n.is_multiple_of(25)
                    && let Some(highest) =
                        (n.saturating_sub(400)..n).rev().find(|k| arrives(*k) <= made)
                {
                    self.queueing.handle_report(now, highest as u16);
                }
                self.rate.judge(now, [&self.queueing].into_iter());
            }
            self.n += seconds * 100;
            self.rate.wanted().coding
        }
    }

    const USUAL: Coding = Coding { frame_samples: 480, bitrate_bps: 48_000 };

    #[test]
    fn a_long_way_is_no_queue_and_a_short_stop_lowers_nothing() {
        let mut way = Way::new(CodingSettings::default());
        assert_eq!(way.run(20, |n| 150 + n % 3 * 10), USUAL);
        // For 200 ms nothing passes, and then all at once.
        assert_eq!(way.run(2, |n| if n % 200 < 20 { 350 - n % 200 * 10 } else { 150 }), USUAL);
    }

    /// [PROTO-7.10]
    #[test]
    fn a_growing_queue_lowers_the_rate_step_by_step_and_its_end_raises_it_again() {
        let mut way = Way::new(CodingSettings::default());
        way.run(5, |_| 20);
        assert_eq!(way.run(2, |_| 140), LEVELS[0].0, "a queue of 120 ms that stays");
        assert_eq!(way.run(2, |_| 140), LEVELS[0].0, "at most one change in 5 s");
        assert_eq!(way.run(4, |_| 140), LEVELS[1].0);
        assert_eq!(way.rate.wanted().copies_max, 2);
        assert_eq!(way.rate.wanted().reason, CodingReason::Queue);
        assert_eq!(way.run(12, |_| 20), LEVELS[1].0);
        assert_eq!(way.run(40, |_| 20), USUAL);
        assert_eq!(way.rate.wanted().reason, CodingReason::Usual);
    }

    #[test]
    fn a_way_on_which_nothing_arrives_gets_as_little_as_can_be() {
        let mut way = Way::new(CodingSettings::default());
        way.run(5, |_| 20);
        assert_eq!(way.run(2, |_| 60_000), LEVELS[2].0);
    }

    #[test]
    fn settings_outside_their_range_are_refused_by_name() {
        assert_eq!(parse_bitrate("96"), Ok(Some(96_000)));
        assert_eq!(parse_frame("2.5"), Ok(Some(120)));
        assert_eq!(parse_copies("auto"), Ok(None));
        for text in ["23", "97", "-24", "24.5", "", "Auto"] {
            assert_eq!(parse_bitrate(text), Err(CodingError::Bitrate(text.to_owned())));
        }
        assert!(parse_frame("40").is_err() && parse_copies("6").is_err());
    }

    /// What the person has set stays, whatever the network does.
    #[test]
    fn what_is_set_stays() {
        let set =
            CodingSettings { bitrate_bps: Some(96_000), frame_samples: Some(960), copies: Some(5) };
        let mut way = Way::new(set);
        assert_eq!(way.run(10, |n| n * 10), Coding { frame_samples: 960, bitrate_bps: 96_000 });
        way.rate.level = 0;
        let state = way.rate.wanted();
        assert_eq!(way.rate.copies(&state).of(0), 3, "more do not fit a datagram");
    }

    #[test]
    fn one_listener_of_many_decides_nothing() {
        let mut rate = Rate::new(false, 48_000, CodingSettings::default());
        rate.set_direct_listeners(9);
        let wanted = rate.wanted();
        assert_eq!((wanted.coding, wanted.reason), (LEVELS[0].0, CodingReason::ManyListeners));
        rate.set_direct_listeners(8);
        let mut ways: Vec<_> = (0..6).map(|_| Queueing::default()).collect();
        ways[0].queue = Duration::from_secs(1);
        rate.judge(Timestamp::from_millis(9_000), ways.iter());
        assert_eq!(rate.wanted().coding, USUAL);
        ways[1].queue = Duration::from_secs(1);
        rate.judge(Timestamp::from_millis(9_000), ways.iter());
        assert_eq!(rate.wanted().coding, LEVELS[2].0);
    }
}
