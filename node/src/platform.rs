//! What each operating system says of a process in its own way.

use std::time::Duration;

#[cfg(unix)]
mod system {
    use super::Duration;

    pub(super) fn cpu_time() -> Duration {
        // SAFETY: a C structure of numbers, for which zero is valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a valid place for the result.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        [usage.ru_utime, usage.ru_stime]
            .iter()
            .map(|time| {
                Duration::from_secs(time.tv_sec.unsigned_abs())
                    + Duration::from_micros(time.tv_usec.unsigned_abs())
            })
            .sum()
    }
}

#[cfg(windows)]
mod system {
    use std::ffi::c_void;

    use super::Duration;

    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct FileTime {
        low: u32,
        high: u32,
    }

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetCurrentProcess() -> *mut c_void;
        fn GetProcessTimes(
            process: *mut c_void,
            creation: *mut FileTime,
            exit: *mut FileTime,
            kernel: *mut FileTime,
            user: *mut FileTime,
        ) -> i32;
    }

    pub(super) fn cpu_time() -> Duration {
        let mut times = [FileTime::default(); 4];
        let [creation, exit, kernel, user] = &mut times;
        // SAFETY: the pseudo handle of this process needs no closing, and all four places are valid.
        unsafe { GetProcessTimes(GetCurrentProcess(), creation, exit, kernel, user) };
        times[2..]
            .iter()
            .map(|time| u64::from(time.high) << 32 | u64::from(time.low))
            .map(|hundred_ns| Duration::from_nanos(hundred_ns * 100))
            .sum()
    }
}

/// Processor time that this process has taken, on all cores.
pub(crate) fn cpu_time() -> Duration {
    system::cpu_time()
}
