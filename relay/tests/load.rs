//! The load tool's members on a running relay: every member hears every talker.
#![cfg(target_os = "linux")]

#[path = "../benches/load/clock.rs"]
mod clock;
#[path = "../benches/load/member.rs"]
mod member;
#[expect(dead_code, reason = "the benchmark tells what it costs as well")]
#[path = "../benches/load/process.rs"]
mod process;
#[expect(dead_code, reason = "the benchmark tells what it costs as well")]
#[path = "../benches/load/room.rs"]
mod room;
#[expect(dead_code, reason = "the benchmark tells what it costs as well")]
#[path = "../benches/load/sockets.rs"]
mod sockets;
#[path = "../benches/load/squads.rs"]
mod squads;
#[path = "../benches/load/talk.rs"]
mod talk;

use std::{path::Path, time::Duration};

use room::Room;
use squads::Squads;
use talk::Speech;

#[test]
fn everyone_hears_every_talker_once() {
    let home = tempfile::tempdir().expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_hark-relay"));
    let mut room = Room::open((program, home.path()), 10, 2, |_| Ok(())).expect("a relay");
    room.fill(10).expect("members");
    let (mut expected, mut frames, mut whole) = (0, 0, false);
    // The relay drops what a busy machine delivers late, and it first has to find the fast path.
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
            // The sampled member talks itself, and does not hear its own frames.
            assert_eq!(delivery.ages.len(), 100);
            assert_eq!(delivery.packets, delivery.frames, "too few for bundles");
            break;
        }
    }
    assert!(whole, "{frames} of {expected} frames have come");
}

/// Forty squads with real keys share an epoch, since they are more than a talker gives its own key
/// to. When one is kicked, the others agree on another epoch without it.
#[test]
fn squads_hear_each_other_by_a_shared_key_until_one_is_kicked() {
    let home = tempfile::tempdir().expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_hark-relay"));
    let mut squads = Squads::open((program, home.path()), 40).expect("squads");
    squads.wait(&[]).expect("all share an epoch");
    assert!(hears_all(&mut squads, 1, 40), "all hear");
    let (_, dealt) = squads.kick(39).expect("another epoch");
    assert!((1_000..40_000).contains(&dealt), "{dealt} bytes");
    assert!(hears_all(&mut squads, 2, 39), "the others hear");
    assert_eq!(squads.speak(3, 20).expect("speech")[39], 0, "and it does not");
}

/// Whether the first `count` members open everything that one of them says, in at least one of
/// several tries.
fn hears_all(squads: &mut Squads, talker: usize, count: usize) -> bool {
    (0..TRIES).any(|_| {
        let opened = squads.speak(talker, 20).expect("speech");
        let others = opened[..count].iter().enumerate().filter(|(number, _)| *number != talker);
        others.into_iter().all(|(_, opened)| *opened == 20)
    })
}

/// How many talkspurts are tried; one of them must arrive completely.
const TRIES: usize = 20;
