//! Talkers that are known by an epoch, and by what a relay says of them.

use hark_keys::{
    DeviceId, DeviceKey, EpochDealer, EpochSecret, SeededRandom, SenderKey, Timestamp,
};
use hark_mesh::{
    datagram::{DropReason, Forward, Forwarded, FrameHeader, FromMember, Introduction, Slot},
    topology::{Hop, Plan},
};

use super::party::{Party, net, target};
use crate::{PipelineConfig, Transmit, VoiceCommand, pipeline::TALKERS_MAX};

fn epoch(random: &SeededRandom) -> EpochSecret {
    EpochDealer::generate(random).secret([7; 32])
}

fn use_epoch(secret: &EpochSecret, generation: u8) -> VoiceCommand {
    VoiceCommand::UseEpoch { target: target(1), tag: [1; 4], secret: secret.clone(), generation }
}

fn open(secrets: &[&EpochSecret], talkers: impl IntoIterator<Item = DeviceId>) -> VoiceCommand {
    VoiceCommand::SetEpochs {
        target: target(1),
        tag: [1; 4],
        heard: vec![net(1)],
        secrets: secrets.iter().map(|secret| (*secret).clone()).collect(),
        talkers: talkers.into_iter().collect(),
    }
}

/// [PROTO-11.8] [PROTO-11.24] [PROTO-11.9]
#[test]
fn a_talker_is_heard_by_the_epoch_that_both_hold_and_falls_silent_without() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    let (now, device, own) = (party.now(), party.talkers[0].device, party.own);
    let secret = epoch(&party.random);
    let plan = Plan::from(vec![own]);
    for command in [use_epoch(&secret, 0), VoiceCommand::SetListeners { target: target(1), plan }] {
        party.talkers[0].pipeline.handle_command(now, command);
    }
    party.talk(0, Some(1));
    party.run(50);
    assert_eq!(party.received(0), 0, "it is not known yet");
    party.command(open(&[&secret], [device]));
    assert_eq!(party.received(0), 5, "and waited for");
    party.run(100);
    assert_eq!(party.received(0), 15);
    // A key of the same epoch continues where the previous one ended.
    let now = party.now();
    party.talkers[0].pipeline.handle_command(now, use_epoch(&secret, 1));
    party.run(100);
    assert_eq!(party.received(0), 25);
    let now = party.now();
    party.talkers[0].pipeline.handle_command(now, VoiceCommand::DropKey(target(1)));
    party.run(100);
    assert_eq!(party.received(0), 25);
    // With a new key it continues to speak.
    let now = party.now();
    party.talkers[0].pipeline.handle_command(now, use_epoch(&secret, 2));
    party.run(100);
    assert!(party.received(0) >= 34);
    // A talker that may no longer speak is not heard.
    party.command(open(&[&secret], []));
    let received = party.received(0);
    party.run(100);
    assert_eq!(party.received(0), received);
}

/// [PROTO-11.13] A listener that got no seal is given the key of each talker that it has a link to.
#[test]
fn a_talker_is_heard_by_its_key_in_an_epoch_that_the_listener_does_not_hold() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    let (now, device, own) = (party.now(), party.talkers[0].device, party.own);
    let secret = epoch(&party.random);
    let plan = Plan::from(vec![own]);
    for command in [use_epoch(&secret, 0), VoiceCommand::SetListeners { target: target(1), plan }] {
        party.talkers[0].pipeline.handle_command(now, command);
    }
    party.talk(0, Some(1));
    party.run(50);
    assert_eq!(party.received(0), 0, "it is not known yet");
    let key = secret.key_of(target(1), device, 0);
    let (target, tag, heard) = (target(1), [1; 4], vec![net(1)]);
    party.command(VoiceCommand::InstallEpochKey { device, target, tag, heard, key });
    assert_eq!(party.received(0), 5, "and waited for");
    party.run(100);
    assert_eq!(party.received(0), 15);
    party.command(VoiceCommand::RemoveKey { device, target });
    party.run(100);
    assert_eq!(party.received(0), 15);
}

/// More talkers than can be listened to at once speak one after another. None of their frames opens
/// twice.
#[test]
fn of_very_many_who_take_turns_all_are_heard_and_none_twice() {
    let mut party = Party::new(&[], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    let relay = DeviceKey::generate(&party.random).id();
    let secret = epoch(&party.random);
    let count = TALKERS_MAX + 20;
    let devices: Vec<_> = (0..count).map(|_| DeviceKey::generate(&party.random).id()).collect();
    party.command(open(&[&secret], devices.iter().copied()));
    party.command(VoiceCommand::SetSlots { relay, slots: Some(Vec::new()), is_members: false });
    let mut said = Vec::new();
    for (number, device) in (1..).zip(&devices) {
        let slot = Slot::new(number).unwrap();
        let mut introduction = Vec::new();
        Introduction { slot, device: *device }.encode(&mut introduction);
        let header = FrameHeader { first: true, last: true, talkspurt: 1, media_time: 7 };
        // A packet of silence, as libopus encodes it.
        let plaintext = [&header.to_bytes()[..], &[0xf8, 0xff, 0xfe]].concat();
        let (mut sealed, mut datagram) = (Vec::new(), Vec::new());
        let mut key = SenderKey::of_epoch(target(1), *device, &secret, 0);
        key.seal(&plaintext, &mut sealed).unwrap();
        Forwarded::encode(slot, [1; 4], 1, [&sealed[..]], &mut datagram);
        let now = party.now();
        party.listener.handle_datagram(now, relay, &introduction);
        party.listener.handle_datagram(now, relay, &datagram);
        said.push(datagram);
        party.run(300);
    }
    let drops = party.listener.statistics().drops;
    assert!(drops.is_empty(), "{drops:?}");
    assert_eq!(party.listener.statistics().talkers.len(), TALKERS_MAX);
    // For a talker that was forgotten to make room, it is still known what was heard.
    let now = party.now();
    said.iter().for_each(|datagram| party.listener.handle_datagram(now, relay, datagram));
    let drops = party.listener.statistics().drops;
    assert_eq!(drops[&DropReason::Repeated], count as u64);
}

/// Regression: a relay took lower numbers than before for old datagrams. A talker that came back to
/// a relay was not heard for as long as it had talked by it before.
#[test]
fn a_way_that_is_taken_again_goes_on_with_its_numbers() {
    let random = SeededRandom::new(3);
    let [own, relay, other] = [(); 3].map(|()| DeviceKey::generate(&random).id());
    let config = PipelineConfig { transmit: Transmit::Open, ..PipelineConfig::new(own, false) };
    let mut pipeline = crate::Pipeline::new(config).unwrap();
    let now = Timestamp::from_millis(1_000);
    let by = |relay: Option<DeviceId>| {
        let hop = |relay| Hop { relay, standby: None, devices: vec![other] };
        let direct = if relay.is_none() { vec![other] } else { Vec::new() };
        let plan = Plan { direct, hops: relay.map(hop).into_iter().collect() };
        VoiceCommand::SetListeners { target: target(1), plan }
    };
    pipeline.handle_command(now, use_epoch(&epoch(&random), 0));
    let select = VoiceCommand::SelectTarget { target: Some(target(1)), keyed: false };
    pipeline.handle_command(now, select);
    let mut sequences = Vec::new();
    for way in [Some(relay), None, Some(relay)] {
        pipeline.handle_command(now, by(way));
        for _ in 0..5 {
            pipeline.handle_capture(now, &[0.1; 480]);
            while let Some((to, bytes)) = pipeline.poll_transmit() {
                if to == relay {
                    let Ok(FromMember::Forward(Forward { voice, .. })) = FromMember::parse(bytes)
                    else {
                        panic!("it is told nothing else")
                    };
                    sequences.push(voice.sequence);
                }
            }
        }
    }
    assert_eq!(sequences, (0..10).collect::<Vec<u16>>());
}
