//! Runs the targets under libFuzzer; `ci/fuzz` builds and starts it. `HARK_FUZZ_TARGET` names the
//! target.

#![no_main]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::LazyLock,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    TARGET(bytes);
});

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let name = std::env::var("HARK_FUZZ_TARGET").unwrap_or_default();
    let target = hark_fuzz::TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("HARK_FUZZ_TARGET={name:?} is no target")).run
});

/// An allocator that refuses allocations to which no input should lead. That ends the run as a
/// crash.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

// SAFETY: every block comes from `System` and is returned to it; null means that there is none.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The report of a panic reads all symbols of the program, which needs more.
        if layout.size() > ALLOCATION_MAX && !std::thread::panicking() {
            return ptr::null_mut();
        }
        // SAFETY: the caller guarantees that `layout` is valid.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` was returned by `alloc`, which took it from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The largest allocation in bytes, which is far more than the longest message.
const ALLOCATION_MAX: usize = 1 << 20;
