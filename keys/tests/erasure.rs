//! No key that is left opens an earlier sentence: no base key of its step is anywhere on the heap,
//! not even where something was moved or freed. [PROTO-6.6]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

use hark_keys::{
    DeviceKey, EpochDealer, KeySecret, SeededRandom, SenderKey, SenderKeyring, TargetId, Timestamp,
    encode,
};

/// A heap that reuses no byte while this thread is watched, so that everything written stays there.
struct Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

static HEAP: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static USED: AtomicUsize = AtomicUsize::new(0);
const HEAP_BYTES: usize = 64 << 20;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: a block is a part of `HEAP` that nothing else uses, or comes from `System` and goes back
// to it.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !WATCHED.get() {
            // SAFETY: the caller vouches for `layout`.
            return unsafe { System.alloc(layout) };
        }
        let room = layout.size() + layout.align();
        let at = USED.fetch_add(room, Ordering::Relaxed);
        assert!(at + room <= HEAP_BYTES, "the test allocates less");
        let start = HEAP.load(Ordering::Relaxed).wrapping_add(at);
        start.wrapping_add(start.align_offset(layout.align()))
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let heap = HEAP.load(Ordering::Relaxed) as usize;
        if heap == 0 || !(heap..heap + HEAP_BYTES).contains(&(block as usize)) {
            // SAFETY: `block` is one of `alloc`, which took it from `System`.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

/// Runs `act` on the watched heap.
fn watched<T>(act: impl FnOnce() -> T) -> T {
    WATCHED.set(true);
    let done = act();
    WATCHED.set(false);
    done
}

/// How often these bytes occur on the watched heap.
fn found(bytes: &[u8]) -> usize {
    let heap = HEAP.load(Ordering::Relaxed);
    // SAFETY: `HEAP` was allocated with that many bytes, zeroed, and `USED` of them are in use.
    let heap = unsafe { std::slice::from_raw_parts(heap, USED.load(Ordering::Relaxed)) };
    heap.windows(bytes.len()).filter(|window| *window == bytes).count()
}

/// The base key, as it stands at the end of a key message.
fn base_key(secret: &KeySecret) -> Vec<u8> {
    encode(secret).split_off(encode(secret).len() - 32)
}

#[test]
fn two_minutes_after_a_sentence_no_key_of_it_is_left() {
    let layout = Layout::from_size_align(HEAP_BYTES, 4096).unwrap();
    // SAFETY: the size is not zero.
    HEAP.store(unsafe { System.alloc_zeroed(layout) }, Ordering::Relaxed);
    let random = SeededRandom::new(1);
    let device = DeviceKey::generate(&random).id();
    let target = TargetId::from_bytes([3; 16]);
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
    let epochs: Vec<_> = (0..4).map(|n| EpochDealer::generate(&random).secret([n; 32])).collect();
    let mut keyring = watched(|| SenderKeyring::new(target, device));
    let mut secret = watched(|| KeySecret::generate(1, &random));
    let mut spoken = Vec::new();
    // The talker says something under each step, for two generations; the last is said at 13 s.
    for second in 0..14 {
        spoken.push(base_key(&secret));
        watched(|| {
            let (mut sealed, mut out) = (Vec::new(), Vec::new());
            SenderKey::new(target, device, &secret).seal(b"words", &mut sealed).unwrap();
            keyring.install(at(second), &secret.clone());
            keyring.open(at(second), &sealed, &mut out).unwrap();
            keyring.set_epochs(&epochs[..second as usize % 4]);
            keyring.handle_timeout(at(second));
            secret = match secret.step {
                6 => KeySecret::generate(2, &random),
                _ => secret.ratcheted(),
            };
        });
    }
    assert!(found(&spoken[13]) >= 1, "what is in use is found");
    // The talker has gone to its next step; the listener has no sign of that.
    watched(|| (14..=133).for_each(|second| keyring.handle_timeout(at(second))));
    for (step, key) in spoken.iter().enumerate() {
        assert_eq!(found(key), 0, "step {step}");
    }
    assert!(keyring.has_own_key(), "what comes next opens");
}
