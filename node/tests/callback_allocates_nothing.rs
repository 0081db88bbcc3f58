//! An audio callback never allocates memory, so the sound card never waits for the allocator.
#![cfg(feature = "device")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    thread,
    time::Duration,
};

use hark_node::device::callback::{CaptureCallback, CardFormat, PlayoutCallback, Waker};
use ringbuf::traits::{Consumer, Producer};

thread_local! {
    /// Calls to the allocator by this thread. Other test threads may allocate.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which also counts its calls.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps the same promises that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls_during(mut work: impl FnMut()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// The waker of a thread that sleeps most of the time, so that each wake is carried out in full.
fn sleeper() -> Waker {
    let waker = Waker::default();
    let thread = thread::spawn(|| {
        loop {
            thread::park_timeout(Duration::from_secs(1));
        }
    });
    waker.set(thread.thread().clone());
    waker
}

const STEREO: CardFormat = CardFormat { rate: 48_000, channels: 2 };

#[test]
fn the_allocator_is_counted() {
    assert!(calls_during(|| drop(std::hint::black_box(Box::new(1)))) >= 2);
}

#[test]
fn the_microphones_callback_allocates_nothing() {
    let (mut callback, (mut ring, _)) = CaptureCallback::new(STEREO, 480, sleeper());
    let calls = calls_during(|| {
        // The ring overflows for a while. Then it is emptied each time.
        for round in 0..200 {
            callback.handle(&[0.5_f32; 960], Duration::from_millis(5));
            callback.handle(&[1_000_i16; 240], Duration::from_millis(5));
            if round > 100 {
                ring.clear();
            }
        }
    });
    assert_eq!(calls, 0);
}

#[test]
fn the_speakers_callback_allocates_nothing() {
    let (mut callback, (mut ring, _)) = PlayoutCallback::new(STEREO, sleeper());
    let calls = calls_during(|| {
        // Every other call finds the ring empty.
        for _ in 0..100 {
            ring.push_slice(&[0.25; 960]);
            callback.handle(&mut [0.0_f32; 960], Duration::from_millis(5));
            callback.handle(&mut [0_i16; 960], Duration::from_millis(5));
        }
    });
    assert_eq!(calls, 0);
}
