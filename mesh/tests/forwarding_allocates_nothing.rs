//! Once forwarding has run for a while, it allocates nothing for a frame.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use hark_charter::Charter;
use hark_keys::{DeviceKey, MemberId, SeededRandom, Timestamp};
use hark_mesh::{
    Target,
    datagram::{Forward, ForwardedReport, Report, Slot},
    forwarding::{ForwardRoute, Forwarder, Limits},
};

/// Counts the allocations of this thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every block comes from and goes back to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller vouches for `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is one of `alloc`, which took it from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Ten talkers, with copies for some listeners, pauses between talkspurts, and bundles.
#[test]
fn frames_are_forwarded_without_allocation() {
    let random = SeededRandom::new(1);
    let founder = DeviceKey::generate(&random);
    let charter = Charter::found("Squad", "Lobby", &founder, None, &random);
    let channel = charter.state().channels().next().unwrap().id;
    let mut forwarder = Forwarder::new(Limits::default());
    forwarder.set_state(charter.state());
    let mut now = Timestamp::from_millis(1_000);
    let mut slots = Vec::new();
    for number in 1..=50 {
        let device = DeviceKey::from_secret(&[number; 32]).id();
        let member = MemberId::from_bytes([number; 32]);
        let slot = forwarder.attach(now, device, Some(member)).unwrap();
        forwarder.set_listening(slot, [channel]);
        let target = Target::of_channel(channel);
        forwarder.set_route(slot, ForwardRoute { tag: [1; 4], target, only: None }).unwrap();
        slots.push(slot);
    }
    let mut bytes = Vec::with_capacity(2_000);
    let mut run = |seconds: u16, first: u16| {
        let mut sent = 0;
        for number in 0..seconds * 50 {
            now = now + Duration::from_millis(20);
            // Two seconds of speech and one of silence.
            for talker in &slots[..if number % 150 < 100 { 10 } else { 0 }] {
                bytes.clear();
                let frames = [&[1; 80][..], &[2; 80]];
                Forward::encode(9, [1; 4], first + number, frames, &mut bytes);
                forwarder.handle_datagram(now, *talker, &bytes).unwrap();
            }
            if number % 12 == 0 {
                report(
                    &mut forwarder,
                    now,
                    slots[40],
                    slots[usize::from(number / 12 % 10)],
                    &mut bytes,
                );
            }
            // Polled as by a driver: bundles are due between two frames.
            for _ in 0..4 {
                while forwarder.poll_transmit(now).is_some() {
                    sent += 1;
                }
                now = now + Duration::from_millis(3);
            }
        }
        sent
    };
    run(12, 0);
    let before = ALLOCATIONS.get();
    let sent = run(12, 600);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(sent > 10_000, "{sent} datagrams");
}

fn report(
    forwarder: &mut Forwarder,
    now: Timestamp,
    listener: Slot,
    slot: Slot,
    bytes: &mut Vec<u8>,
) {
    bytes.clear();
    let report = Report { wanted_copies: 1, ..Report::default() };
    ForwardedReport { slot, report }.encode(bytes);
    forwarder.handle_datagram(now, listener, bytes).expect("a report is taken");
}
