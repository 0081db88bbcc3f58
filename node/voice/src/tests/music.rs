//! Channels for music. [PROTO-7.12]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{TargetId, Timestamp};

use super::world::{TARGET, World, lossless, lossy, noise};
use crate::{CodingReason, Music, Transmit, VoiceCommand, VoiceEvent, level_dbfs, rate::Coding};

const BPS: u32 = 128_000;

const MONO: Music = Music { bitrate_bps: BPS, stereo: false };

fn world(transmit: Transmit, music: bool) -> World {
    let mut world = World::new(transmit, false, lossless(0.3));
    set_music(&mut world, music);
    world
}

fn set_music(world: &mut World, music: bool) {
    let music: BTreeMap<_, _> = music.then_some((TARGET, MONO)).into_iter().collect();
    for pipeline in [&mut world.talker, &mut world.listener] {
        pipeline.handle_command(Timestamp::ZERO, VoiceCommand::SetMusic(music.clone()));
    }
}

#[test]
fn music_has_the_channels_bit_rate_in_datagrams_of_one_size() {
    let mut world = world(Transmit::Open, true);
    world.run(&noise(2 * 48_000));
    let state = world.talker.statistics().own.coding;
    let coding =
        Coding { frame_samples: 480, bitrate_bps: BPS, deep: false, music: true, stereo: false };
    assert_eq!((state.coding, state.reason), (coding, CodingReason::Music));
    // 160 bytes of Opus, and 32 of headers and tag.
    let sizes: BTreeSet<_> = world.sizes.values().flatten().collect();
    assert_eq!(sizes, BTreeSet::from([&192]));
    assert_eq!(world.talker_statistics().frames_concealed, 0);
}

/// Whoever talks while an officer changes the channel goes on in a new talkspurt at once.
#[test]
fn a_channel_turns_to_music_and_back_without_a_gap() {
    let mut world = world(Transmit::Open, false);
    world.run(&noise(48_000));
    set_music(&mut world, true);
    world.run(&noise(960));
    assert!(world.talker.statistics().own.coding.coding.music);
    set_music(&mut world, false);
    world.run(&noise(48_000));
    assert_eq!(world.talker.statistics().own.coding.reason, CodingReason::Usual);
    assert_eq!(world.talker_statistics().frames_concealed, 0);
    assert!(!world.events.iter().any(|(_, event)| *event == VoiceEvent::OwnTalkEnded));
}

/// A microphone that opens by voice would cut the quiet passages out.
#[test]
fn a_quiet_passage_does_not_end_it() {
    let ended = |music| {
        let mut world = world(Transmit::Voice, music);
        let loud = noise(48_000);
        let quiet: Vec<f32> = loud.iter().map(|sample| 0.03 * sample).collect();
        assert!((-59.0..-50.0).contains(&level_dbfs(&quiet)));
        for part in [&loud, &quiet, &quiet, &quiet, &loud] {
            world.run(part);
        }
        world.events.iter().any(|(_, event)| *event == VoiceEvent::OwnTalkEnded)
    };
    assert_eq!((ended(true), ended(false)), (false, true));
}

/// Leveling is made for voices: it would turn a quiet passage up.
#[test]
fn music_is_as_loud_as_it_is_sent() {
    let gain_db = |music| {
        let mut world = world(Transmit::Open, music);
        world.listener.handle_command(Timestamp::ZERO, VoiceCommand::SetLeveling(true));
        let quiet: Vec<f32> = noise(4 * 48_000).iter().map(|sample| 0.2 * sample).collect();
        world.run(&quiet);
        let last = 3 * 48_000;
        level_dbfs(&world.heard[last..]) - level_dbfs(&world.captured[last..])
    };
    assert!(gain_db(true).abs() < 0.5, "{} dB", gain_db(true));
    assert!(gain_db(false) > 6.0, "{} dB", gain_db(false));
}

/// Music on one channel does not change what is said on another.
#[test]
fn a_target_of_several_channels_is_for_speech() {
    let mut world = world(Transmit::Open, false);
    let other = BTreeMap::from([(TargetId::from_bytes([9; 16]), MONO)]);
    world.talker.handle_command(Timestamp::ZERO, VoiceCommand::SetMusic(other));
    world.run(&noise(48_000));
    assert_eq!(world.talker.statistics().own.coding.reason, CodingReason::Usual);
    assert!(!world.talker.takes_music());
}

/// What each side hears of a talker who plays `left` and `right`, where a datagram in five is lost
/// if it `loses`.
fn hear_both(stereo: bool, loses: bool, left: &[f32], right: &[f32]) -> ([Vec<f32>; 2], World) {
    let network = if loses { lossy(0.2) } else { lossless(0.3) };
    let mut world = World::new(Transmit::Open, false, network);
    let music = Music { bitrate_bps: BPS, stereo };
    let command = VoiceCommand::SetMusic(BTreeMap::from([(TARGET, music)]));
    world.talker.handle_command(Timestamp::ZERO, command);
    let mut heard = [const { Vec::new() }; 2];
    for (left, right) in left.chunks_exact(world.block).zip(right.chunks_exact(world.block)) {
        let both = left.iter().zip(right);
        let (mean, difference): (Vec<_>, Vec<_>) =
            both.map(|(left, right)| (0.5 * (left + right), 0.5 * (left - right))).unzip();
        for sides in world.run_both(&mean, &difference).as_chunks().0 {
            let sides: &[f32; 2] = sides;
            heard.iter_mut().zip(sides).for_each(|(heard, side)| heard.push(*side));
        }
    }
    (heard, world)
}

fn tone(hertz: f32) -> Vec<f32> {
    let step = std::f32::consts::TAU * hertz / 48_000.0;
    (0..3 * 48_000).map(|n| 0.2 * (step * n as f32).sin()).collect()
}

/// The amplitude of a tone in the last second.
fn amplitude(heard: &[f32], hertz: f32) -> f32 {
    let step = std::f32::consts::TAU * hertz / 48_000.0;
    let last = &heard[heard.len() - 48_000..];
    let part = |wave: fn(f32) -> f32| -> f32 {
        let products = last.iter().enumerate().map(|(n, it)| it * wave(step * n as f32));
        products.sum::<f32>() / 24_000.0
    };
    part(f32::sin).hypot(part(f32::cos))
}

#[test]
fn both_sides_of_music_arrive_on_their_sides() {
    let (left, right) = (tone(500.0), tone(3_000.0));
    for (stereo, loses) in [(true, false), (true, true), (false, false)] {
        let ([at_left, at_right], world) = hear_both(stereo, loses, &left, &right);
        assert_eq!(world.talker.statistics().own.coding.coding.stereo, stereo);
        let [own, other] = if stereo { [0.2, 0.0] } else { [0.1, 0.1] };
        for (heard, own_hertz, other_hertz) in
            [(&at_left, 500.0, 3_000.0), (&at_right, 3_000.0, 500.0)]
        {
            let found = [amplitude(heard, own_hertz), amplitude(heard, other_hertz)];
            let near = |at: usize, wanted: f32| (found[at] - wanted).abs() < 0.02;
            assert!(near(0, own) && near(1, other), "{stereo} {loses}: {found:?}");
        }
        if !loses {
            assert_eq!(world.talker_statistics().frames_concealed, 0);
        }
    }
}

/// A microphone with one side needs no bits for two.
#[test]
fn what_has_one_side_is_sent_as_one() {
    let mut world = World::new(Transmit::Open, false, lossless(0.3));
    let music = Music { bitrate_bps: BPS, stereo: true };
    let command = VoiceCommand::SetMusic(BTreeMap::from([(TARGET, music)]));
    world.talker.handle_command(Timestamp::ZERO, command);
    world.run(&noise(48_000));
    assert!(!world.talker.statistics().own.coding.coding.stereo);
    // Another one is chosen while the person talks.
    for block in noise(48_000).chunks_exact(world.block) {
        world.run_both(block, block);
    }
    assert!(world.talker.statistics().own.coding.coding.stereo);
    assert_eq!(world.talker_statistics().frames_concealed, 0);
}
