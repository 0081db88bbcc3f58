//! What each operating system reports about a process in its own way.

mod route;

use std::time::Duration;

pub(crate) use route::default_gateway;

#[cfg(unix)]
mod system {
    use super::Duration;
    #[cfg(feature = "device")]
    use super::Urgency;

    pub(super) fn cpu_time() -> Duration {
        // SAFETY: this is a C structure of numbers, for which zero is valid.
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

    #[cfg(all(feature = "device", target_os = "linux"))]
    pub(super) fn prefer_this_thread(urgency: Urgency) {
        if urgency == Urgency::Sound {
            let parameters = libc::sched_param { sched_priority: 1 };
            let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
            // SAFETY: thread 0 is the calling one, and the parameters live until the call returns.
            if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
                return;
            }
        }
        // SAFETY: the arguments are numbers, and id 0 is the calling thread. It does not matter
        // whether the call was permitted.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -11) };
    }

    #[cfg(feature = "device")]
    pub(super) fn owns_terminal() -> bool {
        // SAFETY: the arguments are numbers. The first result is -1 if standard input is no
        // terminal of ours.
        unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
    }

    // On other systems, `setpriority` applies to the whole process.
    #[cfg(all(feature = "device", not(target_os = "linux")))]
    pub(super) fn prefer_this_thread(_: Urgency) {}
}

#[cfg(windows)]
mod system {
    #[cfg(feature = "device")]
    use std::sync::Once;

    use windows_sys::Win32::{
        Foundation::FILETIME,
        System::Threading::{GetCurrentProcess, GetProcessTimes},
    };
    #[cfg(feature = "device")]
    use windows_sys::Win32::{
        Media::timeBeginPeriod,
        System::Threading::{
            AvSetMmThreadCharacteristicsW, GetCurrentThread, PROCESS_POWER_THROTTLING_STATE,
            ProcessPowerThrottling, SetProcessInformation, SetThreadPriority,
            THREAD_PRIORITY_HIGHEST, THREAD_PRIORITY_TIME_CRITICAL,
        },
    };

    use super::Duration;
    #[cfg(feature = "device")]
    use super::Urgency;

    pub(super) fn cpu_time() -> Duration {
        let mut times = [FILETIME::default(); 4];
        let [creation, exit, kernel, user] = &mut times;
        // SAFETY: the pseudo handle of this process needs no closing, and the places are valid.
        unsafe { GetProcessTimes(GetCurrentProcess(), creation, exit, kernel, user) };
        times[2..]
            .iter()
            .map(|time| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime))
            .map(|hundred_ns| Duration::from_nanos(hundred_ns * 100))
            .sum()
    }

    // Nothing takes a console away from a program that was started on it.
    #[cfg(feature = "device")]
    pub(super) fn owns_terminal() -> bool {
        true
    }

    #[cfg(feature = "device")]
    pub(super) fn prefer_this_thread(urgency: Urgency) {
        static PUNCTUAL: Once = Once::new();
        PUNCTUAL.call_once(wake_in_time);
        let sound = urgency == Urgency::Sound;
        if sound {
            // The scheduling class of multimedia, which a system under load keeps its time for.
            let class: Vec<u16> = "Pro Audio\0".encode_utf16().collect();
            let mut task = 0;
            // SAFETY: the name ends with zero and lives until the call returns; the place of the
            // answer is valid. The handle belongs to the thread, and ends with it.
            if !unsafe { AvSetMmThreadCharacteristicsW(class.as_ptr(), &raw mut task) }.is_null() {
                return;
            }
        }
        let priority = if sound { THREAD_PRIORITY_TIME_CRITICAL } else { THREAD_PRIORITY_HIGHEST };
        // SAFETY: the pseudo handle of this thread needs no closing. It does not matter whether the
        // call was permitted.
        unsafe { SetThreadPriority(GetCurrentThread(), priority) };
    }

    /// Has this process woken within a millisecond of its time, also while its window is hidden.
    /// The system's timer otherwise runs at 15.6 ms, and a process in the background is slowed.
    #[cfg(feature = "device")]
    fn wake_in_time() {
        /// `PROCESS_POWER_THROTTLING_CURRENT_VERSION` (processthreadsapi.h).
        const VERSION: u32 = 1;
        /// The speed of execution, and the resolution of timers.
        const BOTH: u32 = 0x1 | 0x4;
        let awake =
            PROCESS_POWER_THROTTLING_STATE { Version: VERSION, ControlMask: BOTH, StateMask: 0 };
        // SAFETY: the structure lives until the call returns, and its length is told. It does not
        // matter whether either call has an effect: older systems throttle nothing.
        unsafe {
            timeBeginPeriod(1);
            SetProcessInformation(
                GetCurrentProcess(),
                ProcessPowerThrottling,
                (&raw const awake).cast(),
                size_of_val(&awake) as u32,
            );
        }
    }
}

/// The processor time that this process has used, on all cores.
#[cfg_attr(not(feature = "voice"), expect(dead_code, reason = "only a running node asks"))]
pub(crate) fn cpu_time() -> Duration {
    system::cpu_time()
}

/// The kind of work that programs that only compute must not delay.
#[cfg(feature = "device")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Sound, which has a deadline every few milliseconds and takes little.
    Sound,
    /// Packets, which wait a moment without harm but may be many.
    Network,
}

/// Asks the system to run this thread before others, if the system permits. Otherwise a game on all
/// cores would delay speech by its time slices.
#[cfg(feature = "device")]
pub(crate) fn prefer_this_thread(urgency: Urgency) {
    system::prefer_this_thread(urgency);
}

/// Whether this process may read from and draw on the terminal that is its standard input. A shell
/// gives the terminal to one job at a time, and the kernel stops any other job that reads or draws.
#[cfg(feature = "device")]
pub(crate) fn owns_terminal() -> bool {
    system::owns_terminal()
}
