//! The one place that reads the machine's clocks.

mod platform;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hark_keys::{Timestamp, UnixTime};

/// The machine's monotonic clock: `CLOCK_MONOTONIC`, so that processes on one machine agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The present time. The call takes no lock and allocates nothing, so audio callbacks may use
    /// it.
    pub fn now(self) -> Timestamp {
        Timestamp::from_duration(platform::monotonic())
    }

    /// The present date, as the machine's clock is set.
    pub fn unix(self) -> UnixTime {
        UnixTime::from_secs(since_1970().as_secs())
    }

    /// The present date in microseconds since 1970.
    pub fn unix_micros(self) -> u64 {
        u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX)
    }

    /// The time of `moment` in nanoseconds, as scripts see it. It suffices for 584 years of uptime.
    pub fn monotonic_ns(self, moment: Timestamp) -> u64 {
        u64::try_from(moment.as_duration().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The inverse of [`monotonic_ns`](Self::monotonic_ns).
    pub fn timestamp(self, monotonic_ns: u64) -> Timestamp {
        Timestamp::from_duration(Duration::from_nanos(monotonic_ns))
    }
}

/// Formats a date for people: `2026-11-22 21:40:05 UTC`.
pub fn utc(date: UnixTime) -> String {
    format!("{} UTC", date.written())
}

/// Formats a date in the machine's own time zone for people: `2026-11-22 22:40:05`.
pub fn local(date: UnixTime) -> String {
    let offset = platform::offset_secs(date.as_secs());
    UnixTime::from_secs(date.as_secs().saturating_add_signed(offset)).written()
}

fn since_1970() -> Duration {
    // A date before 1970 is treated as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_and_timestamps_name_the_same_moment() {
        let moment = Timestamp::from_duration(Duration::new(12, 345_678_901));
        assert_eq!(Clock.monotonic_ns(moment), 12_345_678_901);
        assert_eq!(Clock.timestamp(12_345_678_901), moment);
    }

    #[test]
    fn dates_are_written_as_people_do() {
        let written = |secs| utc(UnixTime::from_secs(secs));
        assert_eq!(written(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(written(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(written(1_795_383_605), "2026-11-22 21:40:05 UTC");
    }

    #[test]
    fn local_time_is_utc_and_the_offset_of_the_zone() {
        for secs in [1_795_383_605, 951_782_400] {
            let offset = platform::offset_secs(secs);
            assert!(offset.abs() <= 14 * 3_600 && offset % 60 == 0, "{offset}");
            let shifted = utc(UnixTime::from_secs(secs.saturating_add_signed(offset)));
            assert_eq!(format!("{} UTC", local(UnixTime::from_secs(secs))), shifted);
        }
    }

    #[test]
    fn the_clock_never_runs_back() {
        let mut last = Clock.now();
        assert!(last > Timestamp::ZERO);
        for _ in 0..1_000 {
            let now = Clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
