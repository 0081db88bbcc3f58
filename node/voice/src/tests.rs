mod arrivals;
mod commands;
mod deep;
mod desk;
mod epochs;
mod keys;
mod leaks;
mod many;
mod music;
mod party;
mod volunteers;
mod world;

use hark_keys::{DeviceKey, FrameNumber, KeySecret, SeededRandom, TargetId};
use hark_mesh::datagram::{
    Account, Datagram, DropReason, KIND_REPORT, KIND_VOICE, Proof, Question,
};
use proptest::{collection::vec, prelude::*};

use self::world::{
    Dice, NET, TAG, TARGET, World, install_key, lossless, lossy, noise, speech, use_key,
};
use super::*;

/// A clean link conceals nothing. Its delay is as documented: one frame, the lookahead, and a frame
/// in the buffer (rounded up to the start of a played block).
#[test]
fn a_clean_link_is_exact() {
    // With frames of 10 ms: 10 + 6.5 + 12.5. The buffer's 10 ms end at the next block. With frames
    // of 2.5 ms: 2.5 + 2.5 + 3.75.
    for (low_delay, expected_ms) in [(false, [29.0; 3]), (true, [8.75; 3])] {
        let mut world = World::new(Transmit::Open, low_delay, lossless(0.3));
        world.run(&noise(48_000 * 3));
        let statistics = world.talker_statistics();
        assert_eq!((statistics.frames_concealed, statistics.frames_late), (0, 0));
        assert!(statistics.frames_received > 290);
        assert_eq!(statistics.jitter_ms, 0.0);
        for (from, expected_ms) in [4_800, 48_000, 2 * 48_000].into_iter().zip(expected_ms) {
            let delay = world.mouth_to_ear_ms(from, 9_600);
            assert!((delay - expected_ms).abs() < 0.1, "{low_delay}: {delay}");
        }
        assert!(world.listener.statistics().drops.is_empty());
    }
}

/// Random loss of 10 % each way: after two seconds less than 0.5 % of the frames are concealed. Ten
/// seconds after the loss ends, no copies are left. [PROTO-7.4]
#[test]
fn copies_cover_random_loss_and_end_with_it() {
    let sound = speech(62.0);
    for (transmit, low_delay) in
        [(Transmit::Open, false), (Transmit::Voice, false), (Transmit::Open, true)]
    {
        let mut world = World::new(transmit, low_delay, lossy(0.1));
        world.run(&sound[..105_600]);
        let before = (world.talker_statistics(), world.talker.statistics().own.frames_sent);
        world.run(&sound);
        let after = (world.talker_statistics(), world.talker.statistics().own.frames_sent);
        let concealed = after.0.frames_concealed - before.0.frames_concealed;
        let frames = after.1 - before.1;
        assert!(frames > 4_000);
        let share = concealed as f64 / frames as f64;
        assert!(share < 0.005, "{transmit:?} {low_delay}: {concealed} of {frames}");
        assert!(after.0.frames_recovered - before.0.frames_recovered > frames * 8 / 100);
        assert!((2.0..25.0).contains(&after.0.loss_percent));
        for sizes in world.sizes.values() {
            // With low delay the frames become longer while something is lost.
            let (mut known, lengths) = (sizes.clone(), if low_delay { 2 } else { 1 });
            known.sort_unstable();
            known.dedup();
            assert!(known.len() <= lengths, "one size for each redundancy and length");
        }
        assert!(after.0.playout_delay_ms < 60.0, "{}", after.0.playout_delay_ms);

        world.network = lossless(1.0);
        world.run(&sound[..475_200]);
        assert_eq!(world.talker.statistics().own.copies, 0);
        let quiet = world.talker_statistics();
        world.run(&sound[..480_000]);
        assert_eq!(world.talker_statistics().frames_concealed, quiet.frames_concealed);
        assert!(world.talker_statistics().playout_delay_ms < 25.0);
    }
}

/// The first loss of a clean call brings copies within half a second.
#[test]
fn copies_come_quickly() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&speech(5.0));
    world.network = lossy(0.1);
    world.run(&speech(0.7));
    assert!(world.talker.statistics().own.copies >= 1);
}

/// Uniform jitter of 0 to 20 ms costs little once its range is known.
#[test]
fn uniform_jitter_is_waited_for() {
    let mut dice = Dice(11);
    let mut world =
        World::new(Transmit::Open, false, Box::new(move |_| vec![5.0 + 20.0 * dice.roll()]));
    world.run(&speech(3.0));
    let before = world.talker_statistics();
    world.run(&speech(60.0));
    let after = world.talker_statistics();
    let concealed = after.frames_concealed - before.frames_concealed;
    assert!(concealed <= 30, "{concealed} of 6,000");
    assert!(after.playout_delay_ms < 35.0, "{}", after.playout_delay_ms);
    assert!(after.jitter_ms > 4.0 && after.jitter_ms < 10.0);
}

/// A stall of 80 ms every few seconds conceals no more than its length, and the delay that it adds
/// is removed again.
#[test]
fn stalls_are_bounded() {
    let mut world = World::new(
        Transmit::Open,
        false,
        Box::new(|n| {
            let phase = n % 400;
            vec![if phase < 8 { 81.0 - 10.0 * phase as f64 } else { 1.0 }]
        }),
    );
    world.run(&speech(60.0));
    let statistics = world.talker_statistics();
    let stalls = 15;
    assert!(statistics.frames_concealed <= stalls * 10, "{}", statistics.frames_concealed);
    world.network = lossless(1.0);
    world.run(&speech(12.0));
    assert!(world.talker_statistics().playout_delay_ms < 25.0);
}

/// Reordered and repeated datagrams only add the wait for them.
#[test]
fn reordering_and_repetition_do_no_harm() {
    let mut world = World::new(
        Transmit::Open,
        false,
        Box::new(|n| match n % 7 {
            0 => vec![16.0],
            1 => vec![1.0, 4.0],
            _ => vec![1.0],
        }),
    );
    world.run(&speech(3.0));
    let before = world.talker_statistics();
    world.run(&speech(10.0));
    let after = world.talker_statistics();
    assert_eq!(after.frames_concealed, before.frames_concealed);
    assert!((998..=1_002).contains(&(after.frames_received - before.frames_received)));
    assert_eq!(world.talker.statistics().own.copies, 0, "nothing was lost");
}

/// Talkspurts begin and end with the voice. Silence costs no datagram.
#[test]
fn talkspurts_follow_the_voice() {
    let mut world = World::new(Transmit::Voice, false, lossless(1.0));
    world.run(&vec![0.0; 48_000]);
    assert_eq!(world.first_voice_at, None);
    world.run(&noise(48_000));
    world.run(&vec![0.0; 48_000]);
    let device = world.talker_id;
    let kinds: Vec<VoiceEvent> = world.events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(
        kinds,
        [
            VoiceEvent::OwnTalkStarted { target: TARGET },
            VoiceEvent::KeyUsed { target: TARGET },
            VoiceEvent::TalkStarted { device, nets: vec![NET] },
            VoiceEvent::OwnTalkEnded,
            VoiceEvent::TalkEnded { device },
        ]
    );
    let times: Vec<u64> = world.events.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[0], 1_010);
    assert!(times[2] - times[0] <= 15 && (2_190..2_220).contains(&times[3]), "{times:?}");
    assert_eq!(world.talker_statistics().frames_concealed, 0);
    let tail = &world.heard[world.heard.len() - 20_000..];
    assert!(tail.iter().all(|sample| *sample == 0.0));
}

/// From the key to the first datagram takes at most one frame. The talkspurt ends 150 ms after the
/// key is released.
#[test]
fn push_to_talk_is_quick() {
    let mut world = World::new(Transmit::PushToTalk, false, lossless(1.0));
    world.run(&noise(24_000 + 240));
    assert_eq!(world.first_voice_at, None);
    let pressed = Timestamp::from_micros(1_000_000 + world.blocks * world.block_us());
    world.talker.handle_command(pressed, VoiceCommand::PushToTalk(true));
    world.run(&noise(24_000));
    let first = world.first_voice_at.unwrap();
    assert!(first.saturating_duration_since(pressed) <= Duration::from_millis(10));
    let released = Timestamp::from_micros(1_000_000 + world.blocks * world.block_us());
    world.talker.handle_command(released, VoiceCommand::PushToTalk(false));
    let before = world.talker.statistics().own.frames_sent;
    world.run(&noise(48_000));
    let tail = world.talker.statistics().own.frames_sent - before;
    assert!((15..=16).contains(&tail), "{tail}");
    assert_eq!(world.talker_statistics().frames_concealed, 0);
}

/// When muted, nothing of the voice is sent, and the talkspurt ends at once.
#[test]
fn mute_ends_the_talkspurt_with_silence() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&noise(48_000));
    world.talker.handle_command(Timestamp::from_millis(2_000), VoiceCommand::Mute(true));
    let sent = world.talker.statistics().own.frames_sent;
    world.run(&noise(24_000));
    assert_eq!(world.talker.statistics().own.frames_sent, sent + 1);
    assert!(!world.talker_statistics().talking);
    assert_eq!(world.talker_statistics().frames_concealed, 0);
}

/// What the person hears of cues of the key while talking to one target, then to another, then to
/// none: whether each brings the tone of a start, and that of an end.
fn cues_of_the_key(transmit: Transmit) -> [(bool, bool); 3] {
    let device = DeviceKey::generate(&SeededRandom::new(1)).id();
    let config = PipelineConfig { transmit, ..PipelineConfig::new(device, false) };
    let mut desk = Console::new(vec![Pipeline::new(config).unwrap()]);
    let now = Timestamp::ZERO;
    let cues = CueSettings { key: true, ..CueSettings::NONE };
    desk.handle_command(now, 0, VoiceCommand::SetCues(cues));
    desk.handle_command(now, 0, VoiceCommand::PushToTalk(true));
    for n in 0..2 {
        let (target, secret) =
            (TargetId::from_bytes([n; 16]), KeySecret::generate(1, &SeededRandom::new(2)));
        desk.handle_command(now, 0, VoiceCommand::UseKey { target, tag: [n; 4], secret });
        let devices = vec![device];
        let listeners = VoiceCommand::SetListeners { target, plan: devices.into() };
        desk.handle_command(now, 0, listeners);
    }
    [Some(0), Some(1), None].map(|choice| {
        let target = choice.map(|n| TargetId::from_bytes([n; 16]));
        desk.handle_command(now, 0, VoiceCommand::SelectTarget { target, keyed: false });
        let mut heard = Vec::new();
        for _ in 0..10 {
            desk.handle_capture(now, &[0.0; 480]);
            let mut out = [0.0; SIDES * 480];
            desk.playout(now, &mut out);
            heard.extend_from_slice(out.as_chunks().0);
        }
        let tone = |hertz| party::amplitude(&heard, hertz)[0] > 0.01;
        (tone(880.0), tone(587.0))
    })
}

/// A talker that turns to another target while speaking hears a cue for the start, and none for the
/// end.
#[test]
fn a_cue_tells_of_another_target() {
    let cues = cues_of_the_key(Transmit::PushToTalk);
    assert_eq!(cues, [(true, false), (true, false), (false, true)]);
}

/// Regression: a microphone that opens by voice, or is always open, gave a tone with each sentence.
#[test]
fn only_a_key_has_a_cue() {
    assert_eq!(cues_of_the_key(Transmit::Open), [(false, false); 3]);
    assert_eq!(cues_of_the_key(Transmit::Voice), [(false, false); 3]);
}

/// Frames that arrived up to 200 ms before their key are held. Without a key there is no sound.
#[test]
fn frames_wait_a_little_for_their_key() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&noise(9_600));
    let secret = KeySecret::generate(2, &SeededRandom::new(8));
    world.talker.handle_command(Timestamp::ZERO, use_key(&secret));
    world.run(&noise(960));
    let before = world.talker_statistics().frames_received;
    let device = world.talker_id;
    let now = Timestamp::from_micros(1_000_000 + world.blocks * world.block_us());
    world.listener.handle_command(now, install_key(device, &secret));
    assert_eq!(world.talker_statistics().frames_received, before + 2);
    assert_eq!(world.listener.statistics().drops[&DropReason::UnknownKey], 2);
    world.run(&noise(4_800));
    assert!(world.talker_statistics().talking);
}

/// When deafened, nothing is heard. A volume scales one talker.
#[test]
fn deafen_and_volume() {
    let energy = |samples: &[f32]| samples.iter().map(|sample| sample * sample).sum::<f32>();
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&noise(24_000));
    let full = energy(&world.heard[14_400..]);
    let device = world.talker_id;
    let command = VoiceCommand::Volume { device, gain: 0.5 };
    world.listener.handle_command(Timestamp::ZERO, command);
    world.heard.clear();
    world.run(&noise(24_000));
    let half = energy(&world.heard[14_400..]);
    assert!((half / full - 0.25).abs() < 0.05, "{}", half / full);
    world.listener.handle_command(Timestamp::ZERO, VoiceCommand::Deafen(true));
    world.heard.clear();
    world.run(&noise(24_000));
    assert_eq!(energy(&world.heard), 0.0);
}

/// A talker that starts over, with another key and media time, is heard again within a quarter of a
/// second.
#[test]
fn a_restarted_talker_is_heard() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&noise(48_000 * 5));
    let again = World::new(Transmit::Open, false, lossless(1.0));
    world.talker = again.talker;
    let secret = KeySecret::generate(2, &SeededRandom::new(8));
    let device = world.talker_id;
    world.talker.handle_command(Timestamp::ZERO, use_key(&secret));
    world.listener.handle_command(Timestamp::ZERO, install_key(device, &secret));
    world.run(&noise(12_000));
    world.heard.clear();
    let before = world.talker_statistics();
    world.run(&noise(48_000));
    let after = world.talker_statistics();
    assert_eq!(after.frames_concealed, before.frames_concealed);
    assert!(after.talking && world.heard.iter().any(|sample| sample.abs() > 0.01));
}

/// A device that sometimes asks for its blocks late, and catches up, conceals nothing.
#[test]
fn the_playout_clock_is_the_earliest() {
    let mut clock = PlayoutClock::new();
    let late = [0, 0, 3, 0, 7, 2, 0];
    for (n, late) in late.iter().enumerate() {
        let now = Timestamp::from_millis(100 + 5 * n as u64 + late);
        assert_eq!(clock.tick(now, 240), Timestamp::from_millis(100 + 5 * n as u64));
    }
}

/// Regression: questions, accounts and proofs about unknown things were not counted.
#[test]
fn what_asks_about_nothing_is_counted() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    let (frame, target_tag) = (FrameNumber { key: 1, counter: 1 }, TAG);
    let key = DeviceKey::from_secret(&[9; 32]);
    let mut question = Vec::new();
    Question { target_tag, frame }.encode(&mut question);
    let mut account = Vec::new();
    Account { relay: key.id(), target_tag, highest_sequence: 0, received: 9, lost: 0, spoilt: 0 }
        .encode(&mut account);
    let mut proof = Vec::new();
    Proof::encode(&key, TAG, frame, 1, &[], &mut proof);
    for (datagram, reason) in [
        (question, DropReason::UnknownKey),
        (account, DropReason::UnknownTarget),
        (proof, DropReason::UnknownTarget),
    ] {
        let count = |world: &World| world.listener.statistics().drops.get(&reason).copied();
        let before = count(&world).unwrap_or(0);
        world.listener.handle_datagram(Timestamp::from_millis(5), world.talker_id, &datagram);
        assert_eq!(count(&world), Some(before + 1), "{reason:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a peer sends ends in a counter, and the sound that it makes us play stays within
    /// bounds.
    #[test]
    fn hostile_datagrams_are_counted(
        datagrams in vec((vec(any::<u8>(), 0..200), any::<bool>()), 1..50),
    ) {
        let mut world = World::new(Transmit::Open, false, lossless(1.0));
        for (mut bytes, proper) in datagrams {
            if proper && bytes.len() > 5 {
                bytes[0] = if bytes[0] & 1 == 0 { KIND_VOICE } else { KIND_REPORT };
                bytes[1..5].copy_from_slice(&TAG);
            }
            let counted = |world: &World| world.listener.statistics().drops.values().sum::<u64>();
            let before = counted(&world);
            let report = matches!(Datagram::parse(&bytes), Ok(Datagram::Report(_)));
            world.listener.handle_datagram(Timestamp::from_millis(5), world.talker_id, &bytes);
            prop_assert!(counted(&world) > before || report);
        }
        world.run(&noise(4_800));
        prop_assert!(world.heard.iter().all(|sample| sample.abs() <= 1.0));
    }
}
