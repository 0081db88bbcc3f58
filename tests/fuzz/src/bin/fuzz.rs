//! The targets under libFuzzer, built and started by `ci/fuzz`. `HARK_FUZZ_TARGET` names the one
//! to run.

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

/// Refuses what nobody's bytes should lead to, which ends the run as a crash.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

// SAFETY: every block comes from and goes back to `System`; null means that there is none.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A panic's own report reads all of the program's symbols.
        if layout.size() > ALLOCATION_MAX && !std::thread::panicking() {
            return ptr::null_mut();
        }
        // SAFETY: the caller vouches for `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is one of `alloc`, which took it from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Bytes of one allocation: far more than the longest message.
const ALLOCATION_MAX: usize = 1 << 20;
