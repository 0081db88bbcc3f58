//! What a pipeline says of itself, and when it wants to be called.

use hark_keys::{DeviceKey, KeySecret, SeededRandom, Timestamp};
use hark_mesh::datagram::DropReason;

use super::world::{NET, World, install_key, lossless, noise};
use crate::{
    NetSettings, OUTBOX_MAX, Pipeline, PipelineConfig, Transmit, VoiceCommand, VoiceEvent,
    level_dbfs,
    rate::{CodingChange, Redundancy},
};

/// A talker who leaves in the middle of a word ends its talk. One who leaves in silence ends
/// nothing.
#[test]
fn the_talk_of_somebody_who_leaves_is_ended_once() {
    let mut world = World::new(Transmit::PushToTalk, false, lossless(1.0));
    let device = world.talker_id;
    let now = Timestamp::from_millis(900);
    world.talker.handle_command(now, VoiceCommand::PushToTalk(true));
    world.run(&noise(24_000));
    world.events.clear();
    let now = Timestamp::from_millis(1_600);
    world.listener.handle_command(now, VoiceCommand::RemoveTalker(device));
    assert_eq!(world.listener.poll_event(), Some(VoiceEvent::TalkEnded { device }));
    assert_eq!(world.listener.poll_event(), None);

    let mut world = World::new(Transmit::PushToTalk, false, lossless(1.0));
    world.run(&noise(24_000));
    world.listener.handle_command(now, VoiceCommand::RemoveTalker(world.talker_id));
    assert_eq!(world.listener.poll_event(), None);
}

#[test]
fn the_own_level_is_that_of_the_newest_frame() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    let quiet: Vec<f32> = noise(4_800).iter().map(|sample| sample * 0.1).collect();
    for sound in [noise(4_800), quiet] {
        world.run(&sound);
        let level = world.talker.statistics().own.level_dbfs;
        assert!((level - level_dbfs(&sound[4_320..])).abs() < 0.01, "{level}");
    }
}

#[test]
fn a_pipeline_that_knows_nobody_sleeps_and_one_that_holds_keys_wakes_to_erase_them() {
    let random = SeededRandom::new(1);
    let [own, other] = [(); 2].map(|()| DeviceKey::generate(&random).id());
    let mut pipeline = Pipeline::new(PipelineConfig::new(own, false)).unwrap();
    assert_eq!(pipeline.poll_timeout(), None);
    let secret = KeySecret::generate(1, &random);
    pipeline.handle_command(Timestamp::ZERO, install_key(other, &secret));
    assert!(pipeline.poll_timeout().is_some());
}

/// Regression: the copies of a new frame length were put beside the longer frames of the talkspurt
/// that went on, and no datagram arrived for two seconds.
#[test]
fn datagrams_fit_a_packet_while_the_coding_changes() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    let change = |bitrate_bps, frame_samples| CodingChange {
        bitrate_bps: Some(bitrate_bps),
        frame_samples: Some(frame_samples),
        redundancy: Some(Some(Redundancy::Copies(5))),
    };
    for change in [change(Some(96_000), Some(960)), change(None, Some(480)), change(None, None)] {
        let now = Timestamp::from_micros(1_000_000 + world.blocks * world.block_us());
        world.talker.handle_command(now, VoiceCommand::ChangeCoding(change));
        world.run(&noise(48_000 * 12));
    }
    let longest = world.sizes.values().flatten().max();
    assert!(longest.is_some_and(|bytes| *bytes <= 1_228), "{longest:?}");
    assert_eq!(world.talker_statistics().frames_concealed, 0);
    let state = world.talker.statistics().own.coding;
    assert_eq!((state.coding.frame_samples, state.copies_max), (480, 5));
}

/// The listener alone has chosen it: the talker sounds as by a radio until the last of its tail.
#[test]
fn a_net_sounds_as_by_a_radio_for_who_wants_it() {
    let run = |radio| {
        let mut world = World::new(Transmit::PushToTalk, false, lossless(1.0));
        let settings = NetSettings { radio, ..NetSettings::default() };
        let now = Timestamp::from_millis(900);
        world.listener.handle_command(now, VoiceCommand::SetNet { net: NET, settings });
        world.talker.handle_command(now, VoiceCommand::PushToTalk(true));
        world.run(&noise(48_000));
        world.talker.handle_command(Timestamp::from_millis(2_000), VoiceCommand::PushToTalk(false));
        world.run(&[0.0; 48_000]);
        world.heard
    };
    let (plain, radio) = (run(false), run(true));
    let last = |heard: &[f32]| heard.iter().rposition(|it| it.abs() > 1e-4).unwrap_or(0);
    let longer = last(&radio) - last(&plain);
    assert!((2_400..=3_120).contains(&longer), "{longer} samples, a tail of 60 ms");
    let low = |heard: &[f32]| {
        // What is left over 20 ms is below the band of a radio.
        heard.chunks_exact(960).map(|it| it.iter().sum::<f32>().powi(2)).sum::<f32>()
    };
    assert!(low(&radio[..48_000]) < 0.1 * low(&plain[..48_000]));
}

/// The oldest datagrams give way, and each is counted.
#[test]
fn datagrams_that_nobody_sends_are_dropped_and_counted() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    for (block, sound) in noise(480 * 400).chunks_exact(480).enumerate() {
        let now = Timestamp::from_millis(1_000 + 10 * block as u64);
        world.talker.handle_capture(now, sound);
    }
    let statistics = world.talker.statistics();
    let dropped = statistics.drops[&DropReason::QueueFull];
    assert_eq!(dropped, statistics.own.frames_sent - OUTBOX_MAX as u64);
}
