//! Many nets at once, as a listener hears them.

use hark_keys::{KeySecret, SeededRandom, SenderKeyring, Timestamp};
use hark_mesh::datagram::{DropReason, FrameHeader, Voice};

use super::party::{Party, amplitude, decibels, near, net, target};
use crate::{
    Net, NetSettings, SIDES, VoiceCommand, VoiceEvent,
    codec::{Decoder, FRAME_SAMPLES_MAX},
};

#[test]
fn each_net_has_its_own_volume_and_side() {
    let hertz = [400.0, 600.0, 800.0, 1_000.0];
    let mut party = Party::new(&hertz, 480);
    party.listen(net(1), 0.5, -1.0, 0);
    party.listen(net(2), 2.0, 0.5, 0);
    party.listen(net(3), 1.0, 0.0, 0);
    for k in 0..4 {
        party.key(k, k as u8 + 1, &[net(k as u8 + 1)], false);
        party.talk(k, Some(k as u8 + 1));
    }
    let device = party.talkers[2].device;
    party.command(VoiceCommand::Volume { device, gain: 0.25 });
    party.run(600);
    let heard = |party: &Party| hertz.map(|hertz| party.amplitude(hertz, 200));
    let found = heard(&party);
    assert!(near(found[0], [0.0707, 0.0]), "{found:?}");
    assert!(near(found[1], [0.1414, 0.2449]), "{found:?}");
    assert!(near(found[2], [0.025, 0.025]), "{found:?}");
    assert!(near(found[3], [0.0, 0.0]), "nobody listens to its net: {found:?}");
    let muted = NetSettings { muted: true, ..NetSettings::default() };
    party.command(VoiceCommand::SetNet { net: net(1), settings: muted });
    party.command(VoiceCommand::RemoveNet(net(2)));
    party.listen(net(4), 1.0, 1.0, 0);
    let statistics = party.listener.statistics();
    party.run(600);
    let found = heard(&party);
    assert!(near(found[0], [0.0, 0.0]) && near(found[1], [0.0, 0.0]), "{found:?}");
    assert!(near(found[3], [0.0, 0.1414]), "{found:?}");
    // A muted net still shows who speaks; only the sound is missing.
    let nets = |k: usize| {
        let statistics = party.listener.statistics();
        let talker = &statistics.talkers[&party.talkers[k].device];
        (talker.talking, talker.nets.clone(), talker.level_dbfs <= -120.0)
    };
    assert_eq!(nets(0), (true, vec![net(1)], true));
    assert_eq!(nets(1), (false, vec![], true));
    assert_eq!(nets(3), (true, vec![net(4)], false));
    for talker in &party.talkers {
        let (before, after) = (
            &statistics.talkers[&talker.device],
            &party.listener.statistics().talkers[&talker.device],
        );
        assert_eq!(after.frames_played - before.frames_played, 60);
        assert_eq!(after.frames_concealed, 0);
    }
}

/// [PROTO-7.8] A listener that a target reaches through two nets gets each frame once. It is as
/// loud as the louder of the two nets.
#[test]
fn two_nets_of_one_target_are_one_copy() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 0.5, 0.0, 0);
    party.listen(net(2), 2.0, -1.0, 0);
    party.key(0, 9, &[net(1), net(2)], false);
    party.talk(0, Some(9));
    party.run(500);
    assert_eq!((party.sent, party.received(0)), (50, 50));
    assert!(near(party.amplitude(1_000.0, 200), [0.2828, 0.0]));
    let device = party.talkers[0].device;
    assert_eq!(party.events, [VoiceEvent::TalkStarted { device, nets: vec![net(1), net(2)] }]);
}

/// The gains of a net end and begin with its talkspurts, exact to the sample, wherever blocks
/// begin.
#[test]
fn a_switch_without_a_pause_keeps_nets_exact() {
    // In the last run everything that announces the end of the first talkspurt is lost.
    let lossy = |n| !(50..=52).contains(&n);
    for (block, delivers) in
        [(240, (|_| true) as fn(u64) -> bool), (480, |_| true), (960, |_| true), (300, lossy)]
    {
        let mut party = Party::new(&[1_000.0], block);
        party.delivers = delivers;
        party.listen(net(1), 1.0, -1.0, 0);
        party.listen(net(2), 1.0, 1.0, 0);
        party.key(0, 1, &[net(1)], false);
        party.key(0, 2, &[net(2)], false);
        party.talk(0, Some(1));
        party.run(500);
        party.talk(0, Some(2));
        party.run(500);
        let [mut first, mut second, mut between] = [0, 0, 0];
        for (n, [left, right]) in party.heard.iter().enumerate() {
            assert!(*left == 0.0 || *right == 0.0, "on both sides at {n}, blocks of {block}");
            if *right != 0.0 {
                second += 1;
            } else if *left != 0.0 {
                assert_eq!(second, 0, "back again at {n}, blocks of {block}");
                first += 1;
            } else if first > 0 && second == 0 {
                between += 1;
            }
        }
        // The silent last frame, less what the codec still plays, and no pause after it.
        assert!(between <= 480 || block == 300, "{between}");
        assert!(first > 20_000 && second > 20_000, "{first} {second}");
        let device = party.talkers[0].device;
        assert_eq!(
            party.events,
            [
                VoiceEvent::TalkStarted { device, nets: vec![net(1)] },
                VoiceEvent::TalkEnded { device },
                VoiceEvent::TalkStarted { device, nets: vec![net(2)] },
            ],
            "blocks of {block}"
        );
    }
}

/// Levels of a tone on both sides in windows of 5 ms, in decibels relative to its usual level.
fn levels(party: &Party, from: usize, hertz: f32) -> Vec<f32> {
    let windows = party.heard[from..].chunks_exact(240);
    windows.map(|window| decibels(amplitude(window, hertz)[0] / 0.1)).collect()
}

#[test]
fn a_higher_net_turns_the_lower_down_and_back() {
    let mut party = Party::new(&[1_000.0, 0.0], 240);
    party.listen(net(1), 1.0, 0.0, 3);
    party.listen(net(2), 1.0, 0.0, 4);
    party.key(0, 1, &[net(1)], false);
    party.key(1, 2, &[net(2)], false);
    party.talk(0, Some(1));
    party.run(1_000);
    let from = party.heard.len();
    party.talk(1, Some(2));
    party.run(1_000);
    let level = levels(&party, from, 1_000.0);
    // It starts as soon as the first frame of the other talker is played.
    let begins = level.iter().position(|level| *level < -0.5).unwrap();
    let down = level.iter().position(|level| *level < -17.5).unwrap();
    assert!(begins <= 6, "{begins}");
    assert!((8..=11).contains(&(down - begins)), "attack: {}", down - begins);
    assert!(level[down + 1..].iter().all(|level| (level + 18.0).abs() < 0.5), "{level:?}");
    let from = party.heard.len();
    party.talk(1, None);
    party.run(1_000);
    let level = levels(&party, from, 1_000.0);
    let begins = level.iter().position(|level| *level > -17.5).unwrap();
    let up = level.iter().position(|level| *level > -0.5).unwrap();
    assert!((72..=82).contains(&(up - begins)), "release: {}", up - begins);
    // A tone of 0.1 moves by at most 0.0131 a sample.
    let steps = party.heard[4_800..].windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs());
    assert!(steps.fold(0.0, f32::max) < 0.0145, "nothing clicks");
}

/// Tones of -14 and -38 dBFS.
#[test]
fn a_loud_and_a_quiet_talker_are_heard_within_4_db_after_three_seconds() {
    let mut party = Party::new(&[1_000.0, 600.0], 480);
    party.talkers[0].loudness = 0.282;
    party.talkers[1].loudness = 0.0178;
    party.listen(net(1), 1.0, 0.0, 3);
    for talker in [0, 1] {
        party.key(talker, 1, &[net(1)], false);
        party.talk(talker, Some(1));
    }
    let difference = |party: &Party| {
        let [loud, quiet] = [1_000.0, 600.0].map(|hertz| party.amplitude(hertz, 200)[0]);
        decibels(loud / quiet)
    };
    party.run(500);
    assert!((difference(&party) - 24.0).abs() < 0.5, "{}", difference(&party));
    party.command(VoiceCommand::SetLeveling(true));
    party.run(2_500);
    assert!((difference(&party) - 3.0).abs() < 0.5, "{}", difference(&party));
    party.command(VoiceCommand::SetLeveling(false));
    party.run(500);
    assert!((difference(&party) - 24.0).abs() < 0.5, "{}", difference(&party));
}

#[test]
fn ducking_follows_the_ranks() {
    // Each case: the net and its priority of a second talker beside one on net 1 of priority 3,
    // whether its target has priority over all, the ducking (1.0 for -6 dB, 2.0 for 0 dB), and how
    // far the first talker is turned down.
    let cases: [(Net, u8, bool, f32, f32); 6] = [
        (net(2), 4, false, 0.0, -18.0),
        (net(2), 3, false, 0.0, 0.0),
        (net(2), 0, true, 0.0, -18.0),
        (Net::Whisper, 0, false, 0.0, -18.0),
        (net(2), 4, false, 1.0, -6.0),
        (net(2), 4, false, 2.0, 0.0),
    ];
    for (number, (other, rank, priority, setting, expected)) in cases.into_iter().enumerate() {
        let mut party = Party::new(&[1_000.0, 0.0], 480);
        party.listen(net(1), 1.0, 0.0, 3);
        party.listen(other, 1.0, 0.0, rank);
        party.key(0, 1, &[net(1)], false);
        party.key(1, 2, &[other], priority);
        if setting == 1.0 {
            party.command(VoiceCommand::SetDucking(-6.0));
        } else if setting == 2.0 {
            party.command(VoiceCommand::SetDucking(0.0));
        }
        party.talk(0, Some(1));
        party.talk(1, Some(2));
        party.run(600);
        let level = decibels(party.amplitude(1_000.0, 200)[0] / 0.1);
        assert!((level - expected).abs() < 0.4, "case {number}: {level}");
        // A talker that is not heard turns nobody down.
        let settings = NetSettings { muted: true, priority: rank, ..NetSettings::default() };
        party.command(VoiceCommand::SetNet { net: other, settings });
        party.run(800);
        let level = decibels(party.amplitude(1_000.0, 200)[0] / 0.1);
        assert!(level.abs() < 0.4, "case {number}, muted: {level}");
    }
    // A whisper is not turned down, not even by a target that has priority over all.
    let mut party = Party::new(&[1_000.0, 0.0], 480);
    party.listen(Net::Whisper, 1.0, 0.0, 0);
    party.listen(net(2), 1.0, 0.0, 9);
    party.key(0, 1, &[Net::Whisper], false);
    party.key(1, 2, &[net(2)], true);
    party.talk(0, Some(1));
    party.talk(1, Some(2));
    party.run(600);
    assert!(near(party.amplitude(1_000.0, 200), [0.1, 0.1]));
}

/// Changes of volume and side are smooth within a talkspurt.
#[test]
fn changes_do_not_click() {
    let mut party = Party::new(&[200.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    party.key(0, 1, &[net(1)], false);
    party.talk(0, Some(1));
    party.run(400);
    let from = party.heard.len();
    for (volume, pan) in [(2.0, 1.0), (0.0, 0.0), (1.0, -1.0), (0.3, 0.2)] {
        party.listen(net(1), volume, pan, 0);
        party.run(100);
    }
    // A tone of 0.28, the loudest, moves by 0.0074 a sample, and a change over 10 ms adds 0.0006.
    for side in [0, 1] {
        let steps =
            party.heard[from..].windows(2).map(|pair| (pair[1][side] - pair[0][side]).abs());
        let steepest = steps.fold(0.0, f32::max);
        assert!(steepest < 0.0092, "{steepest}");
    }
}

/// On headphones a talker on the left is heard by both ears: by the right one as loud in the lows,
/// and much weaker in the highs.
#[test]
fn on_headphones_a_side_is_heard_around_the_head() {
    let hear = |hertz: f32, headphones: bool| {
        let mut party = Party::new(&[hertz], 480);
        party.command(VoiceCommand::SetHeadphones(headphones));
        party.listen(net(1), 1.0, -1.0, 0);
        party.key(0, 1, &[net(1)], false);
        party.talk(0, Some(1));
        party.run(600);
        party.amplitude(hertz, 200)
    };
    let [left, right] = hear(200.0, false);
    assert!((left - 0.141).abs() < 0.01 && right == 0.0, "{left} {right}");
    let [left, right] = hear(200.0, true).map(decibels);
    assert!((left - right).abs() < 3.0, "{left} {right} dB");
    let [left, right] = hear(4_000.0, true).map(decibels);
    assert!(left - right > 12.0, "{left} {right} dB");
}

/// Moves and the switch are smooth within a talkspurt.
#[test]
fn changes_on_headphones_do_not_click() {
    let mut party = Party::new(&[200.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    party.key(0, 1, &[net(1)], false);
    party.talk(0, Some(1));
    party.run(400);
    let from = party.heard.len();
    for (pan, headphones) in [(0.0, true), (1.0, true), (-1.0, true), (-1.0, false), (0.5, true)] {
        party.listen(net(1), 1.0, pan, 0);
        party.command(VoiceCommand::SetHeadphones(headphones));
        party.run(150);
    }
    for side in [0, 1] {
        let steps =
            party.heard[from..].windows(2).map(|pair| (pair[1][side] - pair[0][side]).abs());
        let steepest = steps.fold(0.0, f32::max);
        assert!(steepest < 0.0092, "{steepest}");
    }
}

/// Sound in the centre at the original volume is what the decoder gives, to the last bit. This
/// holds on both sides, and also in a file with one channel.
#[test]
fn a_centred_voice_is_played_bit_for_bit() {
    let mut party = Party::new(&[440.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    let secret = KeySecret::generate(1, &SeededRandom::new(9));
    party.key(0, 1, &[net(1)], false);
    let (device, tag) = (party.talkers[0].device, [1; 4]);
    let mut keyring = SenderKeyring::new(target(1), device);
    keyring.install(Timestamp::ZERO, &secret.ratcheted());
    let newer = VoiceCommand::UseKey { target: target(1), tag, secret: secret.ratcheted() };
    party.talkers[0].pipeline.handle_command(Timestamp::ZERO, newer);
    let (target, heard, secret) = (target(1), vec![net(1)], secret.ratcheted());
    party.command(VoiceCommand::RemoveKey { device, target });
    party.command(VoiceCommand::InstallKey { device, target, tag, heard, priority: false, secret });
    party.talk(0, Some(1));
    party.run(500);
    let (mut decoder, mut decoded, mut plaintext) =
        (Decoder::new().unwrap(), Vec::new(), Vec::new());
    for datagram in &party.talkers[0].datagrams {
        let voice = Voice::parse(datagram).unwrap();
        keyring.open(Timestamp::ZERO, voice.frames[0], &mut plaintext).unwrap();
        let (_, packet) = FrameHeader::parse(&plaintext).unwrap();
        let mut out = [0.0; FRAME_SAMPLES_MAX];
        let samples = decoder.decode(packet, &mut out).unwrap();
        decoded.extend_from_slice(&out[..samples]);
    }
    let begin = party.heard.iter().position(|sides| sides[0] != 0.0).unwrap();
    let silent = decoded.iter().position(|sample| *sample != 0.0).unwrap();
    let heard = &party.heard[begin - silent..];
    assert!(heard.len() > 22_000);
    let both = decoded.iter().map(|sample| [*sample; SIDES]);
    assert!(heard.iter().copied().zip(both).all(|(heard, decoded)| heard == decoded));
}

/// [PROTO-7.9] Frames to a target whose key is still on its way wait for that key, and for no
/// other.
#[test]
fn a_target_waits_for_its_own_key() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    party.listen(net(2), 1.0, 0.0, 0);
    party.key(0, 1, &[net(1)], false);
    party.key(0, 2, &[net(2)], false);
    let device = party.talkers[0].device;
    party.command(VoiceCommand::RemoveKey { device, target: target(2) });
    party.talk(0, Some(2));
    party.run(50);
    assert_eq!(party.received(0), 0);
    assert_eq!(party.listener.statistics().drops[&DropReason::UnknownKey], 5);
    let secret = KeySecret::generate(2, &party.random);
    let (target, tag) = (target(2), [2; 4]);
    let key = VoiceCommand::UseKey { target, tag, secret: secret.clone() };
    let now = party.now();
    party.talkers[0].pipeline.handle_command(now, key);
    party.run(50);
    // A key to another target changes nothing.
    party.key(0, 1, &[net(1)], false);
    assert_eq!(party.received(0), 0);
    let heard = vec![net(2)];
    party.command(VoiceCommand::InstallKey { device, target, tag, heard, priority: false, secret });
    assert_eq!(party.received(0), 5);
    party.run(200);
    assert!(near(party.amplitude(1_000.0, 100), [0.1, 0.1]));
    // A talker whose key is taken away is not heard any more, and its talk is reported as ended.
    party.command(VoiceCommand::RemoveKey { device, target });
    party.run(10);
    party.heard.clear();
    party.run(200);
    assert!(party.heard.iter().flatten().all(|sample| *sample == 0.0));
    assert_eq!(party.events.last(), Some(&VoiceEvent::TalkEnded { device }));
}
