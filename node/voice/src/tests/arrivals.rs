//! Delay against concealment on uneven networks made from seeds.

use super::{
    Transmit,
    world::{Dice, Network, World, speech},
};

/// How long frames are held on average, and shares in percent: concealed, inserted and removed.
struct Outcome {
    held_ms: f64,
    concealed: f64,
    stretched: f64,
}

/// Talks for 40 s through a network that keeps the order of datagrams, and judges all but the first
/// five.
fn talk(mut delay_ms: impl FnMut(u64) -> f64 + 'static) -> Outcome {
    let mut last = 0.0_f64;
    let network: Network = Box::new(move |n| {
        let sent = n as f64 * 10.0;
        last = last.max(sent + delay_ms(n));
        vec![last - sent]
    });
    let mut world = World::new(Transmit::Open, false, network);
    world.run(&speech(5.0));
    let before = world.talker_statistics();
    let mut held = 0.0;
    for _ in 0..35 {
        world.run(&speech(1.0));
        held += f64::from(world.talker_statistics().playout_delay_ms) / 35.0;
    }
    let after = world.talker_statistics();
    let share = |count: u64, of: f64| 100.0 * count as f64 / of;
    let moved = |it: &crate::TalkerStatistics| it.samples_inserted + it.samples_removed;
    Outcome {
        held_ms: held,
        concealed: share(after.frames_concealed - before.frames_concealed, 3_500.0),
        stretched: share(moved(&after) - moved(&before), 35.0 * 48_000.0),
    }
}

/// The delay of a buffer that fills at 75 ms a second and empties twice as fast is followed by
/// making sound longer, so that next to nothing is missing.
#[test]
fn a_buffer_that_fills_is_followed_without_a_gap() {
    let mut dice = Dice(1);
    let outcome = talk(move |n| {
        let at = n % 1_000;
        let queue = if at < 200 { at } else { 200_u64.saturating_sub((at - 200) * 2) };
        5.0 * dice.roll() + 0.75 * queue as f64
    });
    assert!(outcome.concealed <= 0.3, "{} % concealed", outcome.concealed);
    assert!(outcome.held_ms < 160.0, "{} ms held", outcome.held_ms);
    assert!(outcome.stretched > 0.0 && outcome.stretched < 5.0, "{} %", outcome.stretched);
}

/// A steady line needs no stretching, and hardly any wait.
#[test]
fn a_steady_line_is_held_for_half_a_frame_and_a_block() {
    let mut dice = Dice(2);
    let outcome = talk(move |_| 1.0 + 0.2 * dice.roll());
    assert_eq!(outcome.concealed, 0.0);
    assert!(outcome.held_ms <= 12.0, "{} ms held", outcome.held_ms);
    assert!(outcome.stretched < 0.1, "{} %", outcome.stretched);
}
