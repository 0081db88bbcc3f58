//! Deep redundancy: later packets rebuild what was lost before them.

use hark_keys::Timestamp;

use super::world::{Dice, Network, World, noise};
use crate::{
    Transmit, VoiceCommand,
    rate::{CodingChange, Redundancy},
};

/// [PROTO-7.11] A fifth of the datagrams is lost, two in a row on average, both ways.
#[test]
fn losses_in_bursts_are_rebuilt_without_more_bytes() {
    let run = |redundancy| {
        let mut world = World::new(Transmit::Open, false, in_bursts(0.2, 2.0));
        let change = CodingChange {
            bitrate_bps: Some(Some(24_000)),
            frame_samples: Some(Some(960)),
            redundancy: Some(Some(redundancy)),
        };
        world.talker.handle_command(Timestamp::ZERO, VoiceCommand::ChangeCoding(change));
        // In pauses packets describe nothing, so there are none.
        let sound = noise(36 * 48_000);
        world.run(&sound[..6 * 48_000]);
        let before = world.talker_statistics();
        world.run(&sound[6 * 48_000..]);
        let after = world.talker_statistics();
        let mut sizes = world.sizes.into_values().flatten();
        let size = sizes.next();
        assert!(sizes.all(|it| Some(it) == size), "all datagrams have one size");
        let recovered = after.frames_recovered - before.frames_recovered;
        let concealed = after.frames_concealed - before.frames_concealed;
        assert_eq!(
            world.talker.statistics().own.coding.coding.deep,
            redundancy == Redundancy::Deep
        );
        // 30 seconds have 1,500 frames.
        (size, recovered, concealed, after.playout_delay_ms)
    };
    let (size, recovered, concealed, _) = run(Redundancy::Copies(0));
    assert_eq!(recovered, 0);
    assert!((225..375).contains(&concealed), "{concealed} are lost");
    let (deep_size, recovered, concealed, delay_ms) = run(Redundancy::Deep);
    assert_eq!(deep_size, size);
    assert!(recovered > 225, "{recovered}");
    assert!(concealed < 30, "{concealed}, less than 2 %");
    assert!(delay_ms <= 130.0, "{delay_ms}");
}

/// Gilbert's model: `loss` of all datagrams is lost, `burst` in a row on average.
fn in_bursts(loss: f64, burst: f64) -> Network {
    let mut dice = Dice(7);
    let mut lost = false;
    Box::new(move |_| {
        let (ends, begins) = (1.0 / burst, loss / (1.0 - loss) / burst);
        lost = if lost { dice.roll() >= ends } else { dice.roll() < begins };
        if lost { Vec::new() } else { vec![20.0 + dice.roll()] }
    })
}
