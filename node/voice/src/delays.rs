//! How long to wait for frames: the target delay, from how late they have come.
//!
//! A frame's delay is its arrival compared with the fastest arrival of the last seconds, by media
//! time. A histogram of the delays, which gradually forgets, gives the target: what 99.7 % of the
//! frames stay within, plus a margin. The histogram forgets slowly, so the target is also limited
//! to what the slowest frame of the last seconds needed. A line that is uneven at all has its rare
//! slow moments, so the target is not below a multiple of what its usual frames need.
//!
//! Three things come faster than statistics. A spike, one late burst, raises the target to its
//! length at once. A swell, delays that grow from frame to frame, keeps the target ahead of them.
//! Both end within a second or two. A frame that arrived as a copy arrived late, so copies raise
//! the target by themselves. While copies are announced, the target waits for the last of them.

use std::{fmt, str::FromStr, time::Duration};

use hark_keys::Timestamp;
use hark_mesh::redundancy::copies_within;

use super::window::WindowMinimum;

/// Between which bounds the target delay is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimits {
    /// 0 to 200 ms.
    least: Duration,
    /// 10 to 200 ms, and not below the least.
    most: Duration,
}

impl Default for WaitLimits {
    /// The network decides.
    fn default() -> Self {
        Self { least: Duration::ZERO, most: TARGET_MAX }
    }
}

impl WaitLimits {
    /// The target within these limits.
    pub fn clamp(self, target: Duration) -> Duration {
        target.clamp(self.least, self.most)
    }

    /// The number of copies, of frames of length `frame`, that may still come in time.
    pub fn copies(self, frame: Duration) -> u8 {
        let frames = self.most.as_micros() / frame.as_micros().max(1);
        copies_within(u8::try_from(frames).unwrap_or(u8::MAX))
    }
}

impl FromStr for WaitLimits {
    type Err = WaitError;

    /// Reads `auto`, or the least and the most in whole milliseconds with two dots between them.
    fn from_str(text: &str) -> Result<Self, WaitError> {
        if text == "auto" {
            return Ok(Self::default());
        }
        let ms = |digits: &str| digits.parse().ok().map(Duration::from_millis);
        let limits = text.split_once("..").and_then(|(least, most)| {
            let (least, most) = (ms(least)?, ms(most)?);
            let valid = (MOST_LEAST..=TARGET_MAX).contains(&most) && least <= most;
            valid.then_some(Self { least, most })
        });
        limits.ok_or_else(|| WaitError(text.to_owned()))
    }
}

impl fmt::Display for WaitLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("auto");
        }
        write!(f, "{}..{}", self.least.as_millis(), self.most.as_millis())
    }
}

/// Not limits of a wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the wait is auto, or the least and the most in ms: 20..120, from 0 to 200, the most at least \
     10; not {0}"
)]
pub struct WaitError(String);

/// Arrival statistics of one talker.
pub struct ArrivalDelays {
    /// Arrival minus media time, in microseconds.
    fastest: WindowMinimum,
    /// Weight of the delays in each millisecond. The last bin holds all longer ones.
    histogram: [f32; BINS],
    total: f32,
    /// Weight of the next entry. It grows, so that the others need not shrink.
    weight: f32,
    entries: u32,
    /// The latest arrivals of the last frames, relative to media time like `fastest`.
    latest: RecentMaximum,
    /// When a late burst came, and its length. The target falls from there.
    spike: Option<(Timestamp, Duration)>,
    /// The target while delays grow; zero otherwise.
    swell: Duration,
    /// The delay of the newest frame that was no copy.
    last: Duration,
    frame: Duration,
    /// How far back copies that are worth a wait reach, in frames.
    reach: u8,
    /// What the slowest frames need.
    late: Duration,
    jitter: Jitter,
}

impl Default for ArrivalDelays {
    /// Statistics without entries. Frames count as 10 ms long until the first one arrives.
    fn default() -> Self {
        Self {
            fastest: WindowMinimum::new(FASTEST_WINDOW),
            histogram: [0.0; BINS],
            total: 0.0,
            weight: 1.0,
            entries: 0,
            latest: RecentMaximum::default(),
            spike: None,
            swell: Duration::ZERO,
            last: Duration::ZERO,
            frame: Duration::from_millis(10),
            reach: 0,
            late: Duration::ZERO,
            jitter: Jitter::default(),
        }
    }
}

impl ArrivalDelays {
    /// Records a frame of length `frame`, spoken at `media_us`, that arrived for the first time.
    /// Copies of `reach` frames before it are worth a wait. The frame is `recovered` if it was itself a copy.
    pub fn handle_arrival(
        &mut self,
        arrived: Timestamp,
        media_us: i64,
        frame: Duration,
        reach: u8,
        recovered: bool,
    ) {
        let offset = micros(arrived) - media_us;
        let delay = duration(offset - self.fastest.update(arrived, offset));
        self.frame = frame;
        self.reach = reach;
        let mut weight = self.weight;
        let spike = self.spike.filter(|(since, _)| {
            arrived.saturating_duration_since(*since) < SPIKE_TOGETHER && delay >= frame
        });
        if let Some((since, level)) = spike {
            // A stall of the network is one event, however many frames waited in it.
            weight *= SPIKE_WEIGHT;
            self.spike = Some((since, level.max(delay.min(TARGET_MAX))));
        } else if delay > self.settled() + SPIKE_ABOVE {
            self.spike = Some((arrived, delay.min(TARGET_MAX).max(self.spike_level(arrived))));
        }
        if !recovered {
            self.follow_swell(delay);
        }
        // A frame later than anybody would wait does not raise the target. After a pause of the
        // talker's machine or of the path, such sound is of no use any more.
        if delay <= HOPELESS {
            self.count(delay, weight);
            self.latest.update(offset, frame);
        }
        // Compared with today's fastest arrival: if the path has become slower, what was late
        // before is not late now.
        let needed = duration(self.latest.maximum().saturating_sub(self.fastest.minimum()));
        let usual = self.quantile(USUAL_SHARE).saturating_sub(BIN);
        self.late = self
            .quantile(LATE_SHARE)
            .min(upper_edge(needed.as_millis() as u64))
            .max((usual * USUAL_FACTOR).min(USUAL_MAX).min((needed * 2).max(UNEVEN_MIN)));
        if !recovered {
            self.jitter.handle_arrival(offset);
        }
    }

    fn follow_swell(&mut self, delay: Duration) {
        let (times, of) = SWELL_FROM;
        let high = (self.settled() * times / of).max(SWELL_FROM_MIN);
        let grows = self.last > high && delay >= self.last;
        self.last = delay;
        let (times, of) = SWELL_FACTOR;
        let needed = delay * times / of + SWELL_AHEAD;
        let (times, of) = SWELL_FALL;
        let before = self.swell * times / of;
        self.swell = if grows {
            needed.max(before)
        } else if before > needed || delay > high {
            before
        } else {
            Duration::ZERO
        };
    }

    fn count(&mut self, delay: Duration, weight: f32) {
        let bin = (delay.as_millis() as usize).min(BINS - 1);
        self.histogram[bin] += weight;
        self.total += weight;
        self.weight *= 1.0 + GROWTH * counted(self.frame).as_micros() as f32;
        self.entries = self.entries.saturating_add(1);
        if self.weight > WEIGHT_MAX {
            let scale = self.weight.recip();
            self.histogram.iter_mut().for_each(|bin| *bin *= scale);
            self.total *= scale;
            self.weight = 1.0;
        }
    }

    /// Forgets everything, since the talker's media time has changed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How long after its fastest possible arrival a frame is played.
    pub fn target(&self, now: Timestamp) -> Duration {
        self.settled().max(self.spike_level(now)).max(self.swell).min(TARGET_MAX)
    }

    /// How long after its fastest possible arrival `now` is, for the frame spoken at `media_us`.
    /// The result is negative before that arrival.
    pub fn waited_us(&self, now: Timestamp, media_us: i64) -> i64 {
        micros(now).saturating_sub(media_us.saturating_add(self.fastest.minimum()))
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub fn jitter(&self) -> Duration {
        self.jitter.estimate()
    }

    /// The target without spikes.
    fn settled(&self) -> Duration {
        let covered = self.frame * u32::from(self.reach);
        let mut target = self.late.max(covered) + MARGIN;
        if self.entries < STARTING_ENTRIES {
            target = target.max(self.frame);
        }
        target.max(self.frame / 2)
    }

    fn spike_level(&self, now: Timestamp) -> Duration {
        let Some((at, level)) = self.spike else { return Duration::ZERO };
        level.saturating_sub(now.saturating_duration_since(at) / SPIKE_FALL)
    }

    /// The upper edge of the bin that all but `share` of the weight does not exceed.
    fn quantile(&self, share: f32) -> Duration {
        let allowed = self.total * share;
        let mut beyond = 0.0;
        for (bin, weight) in self.histogram.iter().enumerate().rev() {
            beyond += weight;
            if beyond > allowed {
                return upper_edge(bin as u64);
            }
        }
        Duration::ZERO
    }
}

/// The largest value of the last 5.4 to 7.2 s of speech in frames of at most 10 ms, or of as many
/// longer frames.
#[derive(Clone, Copy)]
struct RecentMaximum {
    /// The largest of 1.8 s of speech each, newest first.
    parts: [i64; 4],
    filled: Duration,
}

impl Default for RecentMaximum {
    fn default() -> Self {
        Self { parts: [i64::MIN; 4], filled: Duration::ZERO }
    }
}

impl RecentMaximum {
    fn update(&mut self, value: i64, frame: Duration) {
        if self.filled >= RECENT_PART {
            self.parts.rotate_right(1);
            (self.parts[0], self.filled) = (i64::MIN, Duration::ZERO);
        }
        self.parts[0] = self.parts[0].max(value);
        self.filled += counted(frame);
    }

    fn maximum(&self) -> i64 {
        self.parts.iter().copied().fold(i64::MIN, i64::max)
    }
}

/// Interarrival jitter (RFC 3550 section 6.4.1).
#[derive(Default)]
struct Jitter {
    last_offset: Option<i64>,
    /// The estimate, in sixteenths of a microsecond.
    estimate: i64,
}

impl Jitter {
    fn handle_arrival(&mut self, offset: i64) {
        if let Some(last) = self.last_offset.replace(offset) {
            let difference = (offset - last).abs().min(JITTER_STEP_MAX_US);
            self.estimate += difference - (self.estimate + 8) / 16;
        }
    }

    fn estimate(&self) -> Duration {
        duration(self.estimate / 16)
    }
}

/// The length that a frame counts as where delays are forgotten. A longer frame counts no more than
/// one of 10 ms: half as many arrivals in a second say half as much of the line.
fn counted(frame: Duration) -> Duration {
    frame.min(Duration::from_millis(10))
}

fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.as_duration().as_micros()).unwrap_or(i64::MAX)
}

/// The upper edge of a bin of the histogram.
fn upper_edge(bin: u64) -> Duration {
    Duration::from_millis(bin + 1)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The width of a bin of the histogram.
const BIN: Duration = Duration::from_millis(1);

/// Number of bins, one millisecond each. Longer delays count in the last one.
const BINS: usize = 256;

/// Half of the span in which the fastest arrival is looked for. A longer span holds on to a path
/// that no longer exists. A shorter one takes a slow second for a fast path.
const FASTEST_WINDOW: Duration = Duration::from_secs(2);

/// Share of the frames that may arrive after the target. A smaller share makes everyone wait
/// longer.
const LATE_SHARE: f32 = 0.003;

/// A quarter of the span in which the largest delay is looked for, in speech. In 7 s about two
/// frames of 10 ms are later than the permitted share. A shorter span would often miss them, and a
/// longer one would keep the delay longer.
const RECENT_PART: Duration = Duration::from_millis(1_800);

/// Added to the quantile: the delay that the machine itself adds before a frame is asked for.
const MARGIN: Duration = Duration::from_millis(2);

/// By how much each entry weighs more than the one before, for each microsecond of its frame. Half
/// is forgotten after 7 s of speech.
const GROWTH: f32 = 1e-7;

/// At this weight all weights are scaled back, long before they are too large for their type.
const WEIGHT_MAX: f32 = 1e6;

/// Until this many frames have arrived, the target is at least one whole frame.
const STARTING_ENTRIES: u32 = 50;

/// A delay this far above the target is a spike: it raises the target at once, but counts little
/// later.
const SPIKE_ABOVE: Duration = Duration::from_millis(20);

/// Spikes this close together count as one.
const SPIKE_TOGETHER: Duration = Duration::from_millis(100);

/// Weight of the second and all further frames of a spike.
const SPIKE_WEIGHT: f32 = 0.05;

/// A spike is forgotten in this many times its length.
const SPIKE_FALL: u32 = 3;

/// Two delays above this fraction of the target, and above the least, may be about to grow further.
const SWELL_FROM: (u32, u32) = (1, 2);
const SWELL_FROM_MIN: Duration = Duration::from_millis(15);

/// How far ahead of growing delays the target is, as a fraction of the newest one and in addition.
/// Sound is made longer by some 10 ms in 100 ms, so the target must be early.
const SWELL_FACTOR: (u32, u32) = (7, 5);
const SWELL_AHEAD: Duration = Duration::from_millis(30);

/// What is left of a swell after each frame.
const SWELL_FALL: (u32, u32) = (49, 50);

/// Share of the frames that are slower than usual.
const USUAL_SHARE: f32 = 0.1;

/// How many times the usual delay the target is at least, and up to which target this holds.
const USUAL_FACTOR: u32 = 6;
const USUAL_MAX: Duration = Duration::from_millis(27);

/// What an uneven line may be expected to need, even if it has not needed it lately: a message of
/// 800 bytes on an uplink of 1 Mbit/s delays the frames behind it so long.
const UNEVEN_MIN: Duration = Duration::from_millis(8);

/// The longest target, whatever the network does. What arrives later is lost.
const TARGET_MAX: Duration = Duration::from_millis(200);

/// The lowest that a person may set as the longest target. Below it, every frame would be late.
const MOST_LEAST: Duration = Duration::from_millis(10);

/// Longer delays do not count. This is twice the longest target, so waiting could not have helped.
const HOPELESS: Duration = Duration::from_millis(400);

/// A larger step is a pause of the machine, not jitter.
const JITTER_STEP_MAX_US: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The slowest frame was forgotten after half as many arrivals where frames are 20 ms long.
    #[test]
    fn long_frames_were_forgotten_after_half_as_many_arrivals() {
        let ms = Duration::from_millis;
        for (frame_ms, kept, gone) in [(5, 1_080, 1_440), (10, 540, 720), (20, 540, 720)] {
            let mut latest = RecentMaximum::default();
            latest.update(1, ms(frame_ms));
            (1..kept).for_each(|_| latest.update(0, ms(frame_ms)));
            assert_eq!(latest.maximum(), 1, "after {kept} frames of {frame_ms} ms");
            (kept..=gone).for_each(|_| latest.update(0, ms(frame_ms)));
            assert_eq!(latest.maximum(), 0, "after {gone} frames of {frame_ms} ms");
        }
    }

    #[test]
    fn limits_of_the_wait_are_read_as_they_are_shown() {
        let ms = Duration::from_millis;
        for (text, limits) in [("auto", (0, 200)), ("20..120", (20, 120)), ("0..10", (0, 10))] {
            let (least, most) = (ms(limits.0), ms(limits.1));
            assert_eq!(text.parse(), Ok(WaitLimits { least, most }));
            assert_eq!(text.parse::<WaitLimits>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "..", "20", "20..", "..20", "30..20", "0..9", "0..201", "-1..20", "1.5..20"]
        {
            assert_eq!(wrong.parse::<WaitLimits>(), Err(WaitError(wrong.to_owned())));
        }
        let limits: WaitLimits = "20..45".parse().unwrap();
        assert_eq!([5, 30, 90].map(|target| limits.clamp(ms(target))), [20, 30, 45].map(ms));
        assert_eq!((limits.copies(ms(10)), limits.copies(ms(20))), (4, 2));
        assert_eq!(limits.copies(Duration::ZERO), 5, "nothing has come yet");
    }

    #[test]
    fn a_long_bad_spell_is_forgotten_within_eight_seconds_of_speech() {
        let mut delays = ArrivalDelays::default();
        feed(&mut delays, 0, 1_200, |n| if n % 2 == 0 { 150 } else { 0 });
        feed(&mut delays, 1_200, 810, |_| 1);
        let now = Timestamp::from_millis(1_000_000);
        assert!(delays.target(now) < Duration::from_millis(15), "{:?}", delays.target(now));
    }

    #[test]
    fn a_path_that_becomes_slower_for_good_costs_no_delay_for_long() {
        let mut delays = ArrivalDelays::default();
        feed(&mut delays, 0, 500, |_| 0);
        feed(&mut delays, 500, 500, |_| 400);
        let now = Timestamp::from_millis(1_000_000);
        assert!(delays.target(now) < Duration::from_millis(15), "{:?}", delays.target(now));
    }

    /// Feeds frames of 10 ms with a delay of `delay(n)` ms, starting at frame `from`.
    fn feed(delays: &mut ArrivalDelays, from: i64, count: i64, delay: impl Fn(i64) -> u64) {
        for n in from..from + count {
            let arrived = Timestamp::from_millis(1_000 + 10 * n as u64 + delay(n));
            delays.handle_arrival(arrived, 10_000 * n, Duration::from_millis(10), 0, false);
        }
    }

    #[test]
    fn starts_with_a_frame_and_settles_on_what_the_line_needs() {
        let mut delays = ArrivalDelays::default();
        feed(&mut delays, 0, 10, |_| 5);
        let millis =
            |delays: &ArrivalDelays| delays.target(Timestamp::from_millis(99_999)).as_millis();
        assert_eq!(millis(&delays), 10);
        feed(&mut delays, 10, 500, |_| 5);
        assert_eq!(millis(&delays), 5, "a steady line: half a frame");
        feed(&mut delays, 510, 2_000, |n| (n * 7 % 20) as u64);
        assert_eq!(millis(&delays), 29, "what so uneven a line needs at least, and the margin");
        assert!(delays.jitter() > Duration::from_millis(1));
    }

    #[test]
    fn a_spike_is_covered_at_once_and_forgotten_in_seconds() {
        let mut delays = ArrivalDelays::default();
        feed(&mut delays, 0, 500, |_| 0);
        feed(&mut delays, 500, 8, |n| 80 - 10 * (n - 500) as u64);
        let at = |ms| delays.target(Timestamp::from_millis(ms)).as_millis();
        assert!((80..=83).contains(&at(6_080)), "{}", at(6_080));
        feed(&mut delays, 508, 150, |_| 0);
        let at = |ms| delays.target(Timestamp::from_millis(ms)).as_millis();
        // It came at 6.08 s, and loses a millisecond every three.
        assert!((39..=41).contains(&at(6_200)), "{}", at(6_200));
        assert!(at(7_580) <= 5, "{}", at(7_580));
    }

    #[test]
    fn copies_are_waited_for() {
        let mut delays = ArrivalDelays::default();
        let frame = Duration::from_millis(10);
        delays.handle_arrival(Timestamp::from_millis(5), 0, frame, 2, false);
        assert_eq!(delays.target(Timestamp::from_millis(5)), Duration::from_millis(22));
    }
}
