//! The load tool's members on a relay that runs: everyone hears every talker.
#![cfg(target_os = "linux")]
#![allow(dead_code, reason = "the benchmark uses more of what they share")]

#[path = "../benches/load/clock.rs"]
mod clock;
#[path = "../benches/load/member.rs"]
mod member;
#[path = "../benches/load/process.rs"]
mod process;
#[path = "../benches/load/room.rs"]
mod room;
#[path = "../benches/load/sockets.rs"]
mod sockets;
#[path = "../benches/load/talk.rs"]
mod talk;

use std::{path::Path, time::Duration};

use room::Room;
use talk::Speech;

#[test]
fn everyone_hears_every_talker_once() {
    let home = tempfile::tempdir().expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_hark-relay"));
    let mut room = Room::open((program, home.path()), 10, 2).expect("a relay");
    room.fill(10).expect("members");
    let (mut expected, mut frames, mut whole) = (0, 0, false);
    // The relay drops what a busy machine has made late, and has to find the fast path first.
    for round in 0..TRIES {
        let speech = Speech { talkers: 2, lasting: Duration::from_secs(2), at_once: false };
        let delivery = room.talk(speech).expect("speech");
        assert_eq!(delivery.expected, 2 * 100 * 9);
        expected += delivery.expected;
        frames += delivery.frames;
        assert!(frames <= expected, "something came twice");
        assert_eq!(room.downs(), 0);
        whole = round > 0 && delivery.frames == delivery.expected;
        if whole {
            // The one who looks at what it hears talks itself, and does not hear that.
            assert_eq!(delivery.ages.len(), 100);
            assert_eq!(delivery.packets, delivery.frames, "too few for bundles");
            break;
        }
    }
    assert!(whole, "{frames} of {expected} frames have come");
}

/// Spurts of which one must come whole.
const TRIES: usize = 20;
