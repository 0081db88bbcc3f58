//! The time, as each operating system reports it.

#[cfg(unix)]
mod system {
    use super::super::Duration;

    pub(crate) fn monotonic() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place for the answer, and the call keeps no pointer to it.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        assert_eq!(status, 0, "every Unix that Hark runs on has CLOCK_MONOTONIC");
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }

    /// Seconds by which local time is ahead of UTC at a Unix time.
    pub(crate) fn offset_secs(unix: u64) -> i64 {
        let Ok(unix) = libc::time_t::try_from(unix) else { return 0 };
        // SAFETY: this is a C structure of numbers and a pointer, for which zero is valid.
        let mut local: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both places are valid, and the call keeps no pointer to them.
        let told = unsafe { libc::localtime_r(&raw const unix, &raw mut local) };
        if told.is_null() { 0 } else { local.tm_gmtoff }
    }
}

#[cfg(windows)]
mod system {
    use std::ffi::c_void;

    use super::super::Duration;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn QueryPerformanceCounter(count: *mut i64) -> i32;
        fn QueryPerformanceFrequency(frequency: *mut i64) -> i32;
        fn FileTimeToSystemTime(time: *const [u32; 2], date: *mut [u16; 8]) -> i32;
        fn SystemTimeToTzSpecificLocalTime(
            zone: *const c_void,
            date: *const [u16; 8],
            local: *mut [u16; 8],
        ) -> i32;
        fn SystemTimeToFileTime(date: *const [u16; 8], time: *mut [u32; 2]) -> i32;
    }

    /// Seconds by which local time is ahead of UTC at a Unix time.
    pub(crate) fn offset_secs(unix: u64) -> i64 {
        // FILETIME counts from 1601, in 100 ns.
        let Some(ticks) =
            unix.checked_add(11_644_473_600).and_then(|it| it.checked_mul(10_000_000))
        else {
            return 0;
        };
        let time = [ticks as u32, (ticks >> 32) as u32];
        let (mut date, mut local, mut there) = ([0; 8], [0; 8], [0; 2]);
        // SAFETY: all places are valid and have the sizes of their structures, no call keeps a
        // pointer, and a null time zone stands for the one in use.
        let told = unsafe {
            FileTimeToSystemTime(&raw const time, &raw mut date) != 0
                && SystemTimeToTzSpecificLocalTime(
                    std::ptr::null(),
                    &raw const date,
                    &raw mut local,
                ) != 0
                && SystemTimeToFileTime(&raw const local, &raw mut there) != 0
        };
        let there = u64::from(there[1]) << 32 | u64::from(there[0]);
        if told { there.wrapping_sub(ticks).cast_signed() / 10_000_000 } else { 0 }
    }

    /// The time since the zero of the performance counter, which all processes share.
    pub(crate) fn monotonic() -> Duration {
        let (mut count, mut frequency) = (0_i64, 0_i64);
        // SAFETY: both pointers are valid for a write, and neither call keeps them. Since Windows
        // XP, neither call fails.
        unsafe {
            QueryPerformanceCounter(&raw mut count);
            QueryPerformanceFrequency(&raw mut frequency);
        }
        let (count, frequency) = (count.unsigned_abs(), frequency.unsigned_abs().max(1));
        let fraction = u128::from(count % frequency) * 1_000_000_000 / u128::from(frequency);
        Duration::new(count / frequency, u32::try_from(fraction).unwrap_or(0))
    }
}

pub(super) use system::{monotonic, offset_secs};
