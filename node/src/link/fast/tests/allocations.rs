//! Once speech has run for a while, it is processed from the microphone's samples to the socket
//! without an allocation.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hark_keys::{ChannelId, KeySecret, TargetId};
use hark_voice::{Pipeline, PipelineConfig, Transmit, VoiceCommand};

use super::*;

thread_local! {
    /// Calls to the allocator by this thread. Other test threads may allocate as they like.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which also counts its calls.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every block comes from `System` and is returned to it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller guarantees that `layout` is valid.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` comes from `alloc`, which took it from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[tokio::test]
async fn speech_goes_from_the_microphone_to_the_socket_without_allocation() {
    let pair = Pair::new(UdpBinder, UdpBinder).await;
    pair.until_fast().await;
    let (links, listener) = (&pair.door.links, pair.guest.device);
    let config = PipelineConfig::new(pair.door.device, false);
    let mut talker = Pipeline::new(PipelineConfig { transmit: Transmit::Open, ..config }).unwrap();
    let target = TargetId::of_channel(ChannelId::from_bytes([3; 16]));
    let secret = KeySecret::generate(1, &SeededRandom::new(1));
    for command in [
        VoiceCommand::UseKey { target, tag: [4; 4], secret },
        VoiceCommand::SetListeners { target, plan: vec![listener].into() },
        VoiceCommand::SelectTarget { target: Some(target), keyed: false },
    ] {
        talker.handle_command(Timestamp::ZERO, command);
    }
    let samples: Vec<f32> = (0..480).map(|it| (it as f32 * 0.13).sin() * 0.3).collect();
    let mut sent = 0;
    let mut speak = |blocks: std::ops::Range<u64>| {
        for block in blocks {
            talker.handle_capture(Timestamp::from_millis(block * 10), &samples);
            while let Some((to, datagram)) = talker.poll_transmit() {
                links.send_or_push(to, datagram);
                sent += 1;
            }
            links.flush();
        }
    };
    speak(0..200);
    let before = CALLS.get();
    speak(200..500);
    assert_eq!(CALLS.get() - before, 0);
    assert!(sent >= 490, "{sent}");
    assert!(links.outlet(listener).unwrap().is_fast());
}
