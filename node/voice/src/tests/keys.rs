//! Keys that are taken away and come back, and keys whose time is over.

use std::time::Duration;

use hark_keys::EpochDealer;
use hark_mesh::{datagram::DropReason, topology::Plan};

use super::party::{Party, net, target};
use crate::VoiceCommand;

/// Regression: a relay could replay everything that was said under a key. It worked as soon as the
/// listener had left the channel and come back, or a right was taken and given again. [PROTO-6.7]
/// [PROTO-6.20]
#[test]
fn what_was_heard_is_not_heard_again_when_its_key_comes_back() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    party.key(0, 1, &[net(1)], false);
    // One frame is held back.
    party.delivers = |sent| sent != 20;
    party.talk(0, Some(1));
    party.run(500);
    party.talk(0, None);
    party.run(2_000);
    let (device, received) = (party.talkers[0].device, party.received(0));
    let said = party.talkers[0].datagrams.clone();
    let repeat = |party: &mut Party| {
        let now = party.now();
        said.iter().for_each(|bytes| party.listener.handle_datagram(now, device, bytes));
        party.received(0)
    };
    let heard = |heard: &[_]| VoiceCommand::SetHeard {
        device,
        target: target(1),
        heard: heard.to_vec(),
        priority: false,
    };
    party.command(heard(&[]));
    assert_eq!(repeat(&mut party), received, "nothing opens that is not heard");
    party.command(heard(&[net(1)]));
    assert_eq!(repeat(&mut party), received + 1, "what was not heard before");
    assert_eq!(repeat(&mut party), received + 1);
}

/// The same with epochs: the listener leaves and comes back, the talker loses its right and gets it
/// again, the epochs are taken away and come back, the link with the talker ends. [PROTO-6.7]
/// [PROTO-11.10]
#[test]
fn what_was_heard_is_not_heard_again_when_its_epoch_comes_back() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    let (device, own) = (party.talkers[0].device, party.own);
    let secret = EpochDealer::generate(&party.random).secret([7; 32]);
    let (now, tag, of) = (party.now(), [1; 4], target(1));
    let talker = &mut party.talkers[0].pipeline;
    let epoch = secret.clone();
    let using = VoiceCommand::UseEpoch { target: of, tag, secret: epoch, generation: 0 };
    talker.handle_command(now, using);
    let plan = Plan::from(vec![own]);
    talker.handle_command(now, VoiceCommand::SetListeners { target: of, plan });
    let epochs = |open: bool, talks: bool| VoiceCommand::SetEpochs {
        target: of,
        tag,
        heard: vec![net(1)],
        secrets: open.then(|| secret.clone()).into_iter().collect(),
        talkers: talks.then_some(device).into_iter().collect(),
    };
    party.command(epochs(true, true));
    party.talk(0, Some(1));
    party.run(500);
    let received = party.received(0);
    assert!(received >= 50);
    let said = party.talkers[0].datagrams.clone();
    for (open, talks) in [(false, true), (true, false), (false, false)] {
        party.command(epochs(open, talks));
        party.run(100);
        party.command(epochs(true, true));
        let now = party.now();
        let before = party.received(0);
        said.iter().for_each(|bytes| party.listener.handle_datagram(now, device, bytes));
        assert_eq!(party.received(0), before);
    }
    party.command(epochs(false, false));
    party.command(VoiceCommand::RemoveTalker(device));
    party.command(epochs(true, true));
    let now = party.now();
    said.iter().for_each(|bytes| party.listener.handle_datagram(now, device, bytes));
    assert_eq!(party.received(0), 0, "of the one who is heard anew");
}

/// [PROTO-6.6] One frame never arrives, and the device is seized two minutes later.
#[test]
fn two_minutes_after_a_sentence_its_listener_cannot_open_it() {
    let mut party = Party::new(&[1_000.0], 480);
    party.listen(net(1), 1.0, 0.0, 0);
    party.key(0, 1, &[net(1)], false);
    party.delivers = |sent| sent != 20;
    party.talk(0, Some(1));
    party.run(1_000);
    party.talk(0, None);
    party.run(500);
    let (begins, received) = (party.now(), party.received(0));
    let mut now = begins;
    while now < begins + Duration::from_secs(120) {
        party.listener.handle_timeout(now);
        let due = party.listener.poll_timeout().expect("keys are looked at");
        assert!(due > now);
        now = due;
    }
    let (device, kept) = (party.talkers[0].device, party.talkers[0].datagrams[19].clone());
    party.listener.handle_datagram(now, device, &kept);
    assert_eq!(party.received(0), received);
    assert!(party.listener.statistics().drops.contains_key(&DropReason::UnknownKey));
}
