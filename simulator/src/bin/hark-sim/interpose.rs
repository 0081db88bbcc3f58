//! Replaces the system's clock and randomness by those of the simulation.
//!
//! These functions take the place of those of the C library, so that everything in this program
//! calls them: the standard library, quinn, libp2p and all that they use. On threads without a
//! simulation they forward to the system.

use std::{
    cell::Cell,
    ffi::{c_int, c_long, c_uint, c_void},
    time::Duration,
};

use hark_simulator::context;

thread_local! {
    /// Set while a call is being answered, so that the answer itself may ask the system.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Answers by `simulated` if this thread runs a simulation, otherwise by `system`.
fn answer<T>(simulated: impl FnOnce() -> T, system: impl FnOnce() -> T) -> T {
    let inside = ANSWERING.try_with(|answering| answering.replace(true)).unwrap_or(true);
    if inside {
        return system();
    }
    let answer = if context::simulating() { simulated() } else { system() };
    ANSWERING.set(false);
    answer
}

/// Replaces clock_gettime(2).
///
/// # Safety
///
/// As for the system's function: `time` is valid for a write.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> c_int {
    let write = |now: Duration| {
        let (seconds, nanoseconds) = (now.as_secs() as libc::time_t, now.subsec_nanos().into());
        // SAFETY: the caller's promise.
        unsafe { *time = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds } };
        0
    };
    let simulated = || match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => write(context::calendar()),
        _ => write(context::monotonic()),
    };
    // SAFETY: the caller's promise, handed on.
    let system = || unsafe { forward(libc::SYS_clock_gettime, [clock as c_long, time as c_long]) };
    answer(simulated, system)
}

/// Replaces gettimeofday(2).
///
/// # Safety
///
/// As for the system's function: `time` is valid for a write. The time zone is ignored.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, _: *mut c_void) -> c_int {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer.
    let status = unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    // SAFETY: the caller's promise.
    unsafe { *time = libc::timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000 } };
    status
}

/// Replaces getrandom(2).
///
/// # Safety
///
/// As for the system's function: `buffer` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(
    buffer: *mut c_void,
    length: usize,
    flags: c_uint,
) -> isize {
    let simulated = || {
        // SAFETY: the caller's promise; bytes need no initial value to be written.
        context::fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) });
        length as isize
    };
    let arguments = [buffer as c_long, length as c_long, flags as c_long];
    // SAFETY: the caller's promise, handed on.
    let system = || unsafe { forward(libc::SYS_getrandom, arguments) as isize };
    answer(simulated, system)
}

/// Replaces syscall(2), by which some programs ask for randomness past the C library.
///
/// # Safety
///
/// As for the system's function.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == libc::SYS_getrandom {
        // SAFETY: the caller's promise, handed on.
        return unsafe { getrandom(a as *mut c_void, b as usize, c as c_uint) } as c_long;
    }
    if number == libc::SYS_clock_gettime {
        // SAFETY: the caller's promise, handed on.
        return unsafe { clock_gettime(a as libc::clockid_t, b as *mut libc::timespec) }.into();
    }
    // SAFETY: the caller's promise, handed on.
    unsafe { raw(number, [a, b, c, d, e, f]) }
}

/// Replaces getrusage(2), since a node's use of the processor differs from run to run.
///
/// # Safety
///
/// As for the system's function: `usage` is valid for a write.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrusage(who: c_int, usage: *mut libc::rusage) -> c_int {
    let simulated = || {
        // SAFETY: the caller's promise; it is a structure of numbers.
        unsafe { usage.write_bytes(0, 1) };
        0
    };
    // SAFETY: the caller's promise, handed on.
    let system = || unsafe { forward(libc::SYS_getrusage, [who as c_long, usage as c_long]) };
    answer(simulated, system)
}

/// The processor time that this process has used, whatever the simulation says.
pub(crate) fn real_cpu_time() -> Duration {
    real_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The real time since some fixed moment, whatever the simulation says.
pub(crate) fn real_elapsed() -> Duration {
    real_time(libc::CLOCK_MONOTONIC)
}

fn real_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let status =
        unsafe { forward(libc::SYS_clock_gettime, [clock as c_long, (&raw mut time) as c_long]) };
    assert_eq!(status, 0, "Linux has these clocks");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Makes the system call, and answers as the C library does.
///
/// # Safety
///
/// As for the system call.
unsafe fn forward<const N: usize>(number: c_long, arguments: [c_long; N]) -> c_int {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: the caller's promise, handed on.
    unsafe { raw(number, all) as c_int }
}

/// The bare system call; errors are stored in errno.
///
/// # Safety
///
/// As for the system call.
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result: c_long;
    // SAFETY: the kernel's calling convention; the call touches only the memory that it documents.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    errno(result)
}

/// The bare system call; errors are stored in errno.
///
/// # Safety
///
/// As for the system call.
#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let result: c_long;
    // SAFETY: the kernel's calling convention; the call touches only the memory that it documents.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    errno(result)
}

fn errno(result: c_long) -> c_long {
    if (-4095..0).contains(&result) {
        // SAFETY: errno is this thread's own.
        unsafe { *libc::__errno_location() = -result as c_int };
        return -1;
    }
    result
}
