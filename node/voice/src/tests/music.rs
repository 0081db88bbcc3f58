//! Channels for music. [PROTO-7.12]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{TargetId, Timestamp};

use super::world::{TARGET, World, lossless, noise};
use crate::{CodingReason, Transmit, VoiceCommand, VoiceEvent, level_dbfs, rate::Coding};

const BPS: u32 = 128_000;

fn world(transmit: Transmit, music: bool) -> World {
    let mut world = World::new(transmit, false, lossless(0.3));
    set_music(&mut world, music);
    world
}

fn set_music(world: &mut World, music: bool) {
    let music: BTreeMap<_, _> = music.then_some((TARGET, BPS)).into_iter().collect();
    for pipeline in [&mut world.talker, &mut world.listener] {
        pipeline.handle_command(Timestamp::ZERO, VoiceCommand::SetMusic(music.clone()));
    }
}

#[test]
fn music_has_the_channels_bit_rate_in_datagrams_of_one_size() {
    let mut world = world(Transmit::Open, true);
    world.run(&noise(2 * 48_000));
    let state = world.talker.statistics().own.coding;
    let coding = Coding { frame_samples: 480, bitrate_bps: BPS, deep: false, music: true };
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
    let other = BTreeMap::from([(TargetId::from_bytes([9; 16]), BPS)]);
    world.talker.handle_command(Timestamp::ZERO, VoiceCommand::SetMusic(other));
    world.run(&noise(48_000));
    assert_eq!(world.talker.statistics().own.coding.reason, CodingReason::Usual);
    assert!(!world.talker.takes_music());
}
