//! The one clock of a node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hark_keys::{Timestamp, UnixTime};

use crate::platform;

/// Reads the machine's clocks. All of a node reads time here, once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Now, on CLOCK_MONOTONIC.
    pub fn now(self) -> Timestamp {
        Timestamp::from_duration(platform::monotonic())
    }

    /// The calendar's now.
    pub fn unix(self) -> UnixTime {
        UnixTime::from_secs(since_1970().as_secs())
    }

    /// The calendar's now in microseconds since 1970.
    pub fn unix_micros(self) -> u64 {
        u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A timestamp as nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.as_duration().as_nanos()).unwrap_or(u64::MAX)
}

fn since_1970() -> Duration {
    // A clock before 1970 is as good as one at 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
