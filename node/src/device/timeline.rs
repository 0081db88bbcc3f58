//! Computes when the samples of an end that is paced by the clock are spoken or heard.

use std::time::Duration;

use hark_keys::Timestamp;

/// Nanoseconds that three samples take at 48 kHz.
const THREE_SAMPLES_NS: u64 = 62_500;

/// A sequence of samples at 48 kHz, whose first sample has a known time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    start: Timestamp,
}

impl Timeline {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start }
    }

    /// When `sample` begins, rounded down: a sample that is ready by then is not late.
    pub(super) fn time_of(self, sample: u64) -> Timestamp {
        self.start + Duration::from_nanos(sample * THREE_SAMPLES_NS / 3)
    }

    /// When all samples before `sample` are over, rounded up: a reader that waits until then is not
    /// early.
    pub(super) fn end_of(self, sample: u64) -> Timestamp {
        self.start + Duration::from_nanos((sample * THREE_SAMPLES_NS).div_ceil(3))
    }

    /// How many samples have begun before `now`.
    pub(super) fn samples_before(self, now: Timestamp) -> u64 {
        let span = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(span * 3 / u128::from(THREE_SAMPLES_NS)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_k_lies_k_forty_eight_thousandths_after_the_start() {
        let timeline = Timeline::new(Timestamp::from_millis(5));
        assert_eq!(timeline.time_of(0), Timestamp::from_millis(5));
        assert_eq!(timeline.time_of(480), Timestamp::from_millis(15));
        assert_eq!(timeline.end_of(480), Timestamp::from_millis(15));
        assert_eq!(timeline.time_of(1).as_duration(), Duration::from_nanos(5_020_833));
        assert_eq!(timeline.end_of(1).as_duration(), Duration::from_nanos(5_020_834));
        // After a year of speech, times are as exact as in its first second.
        let year = 365 * 86_400;
        assert_eq!(
            timeline.time_of(year * 48_000).as_duration(),
            Duration::from_secs(year) + Duration::from_millis(5)
        );
    }

    #[test]
    fn samples_are_counted_once_they_have_begun() {
        let timeline = Timeline::new(Timestamp::from_millis(5));
        assert_eq!(timeline.samples_before(Timestamp::ZERO), 0);
        for k in [0, 1, 2, 3, 480, 48_001] {
            assert_eq!(timeline.samples_before(timeline.end_of(k)), k);
        }
    }
}
