//! Times that are the same for the kernel and for both processes.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; the kernel stamps packets in the same way.
pub(crate) fn stamp() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The same time in microseconds, cut to 32 bits, which are enough to compute an age.
pub(crate) fn short(stamp: u64) -> u32 {
    (stamp / 1_000) as u32
}

/// Microseconds from `sent` to `came`; 0 if the clock seems to have run backwards.
pub(crate) fn age_of(sent: u32, came: u64) -> u32 {
    let age = short(came).wrapping_sub(sent);
    if age > u32::MAX / 2 { 0 } else { age }
}
