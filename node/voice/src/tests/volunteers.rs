//! Talkers that are heard by a member's relay, and what happens if one side lies.

use std::{sync::Arc, time::Duration};

use hark_keys::{
    DeviceId, DeviceKey, FrameNumber, KeySecret, SeededRandom, SenderKey, SenderKeyring, Timestamp,
};
use hark_mesh::{
    datagram::{Forward, Forwarded, FrameHeader, FromMember, KIND_PROOF, Question, Slot},
    topology::{Hop, Plan},
};

use super::party::{net, target};
use crate::{NetSettings, Pipeline, PipelineConfig, Transmit, VoiceCommand, VoiceEvent};

const TAG: [u8; 4] = [1; 4];

/// Talkers, a member that relays for them and holds their keys, and a listener.
struct Call {
    talkers: Vec<Talker>,
    relay: DeviceId,
    listener: Pipeline,
    own: DeviceId,
    now: Timestamp,
    /// The events of the listener's node, and when they came.
    events: Vec<(Timestamp, VoiceEvent)>,
    /// Whether the talkers' answers arrive.
    answers: bool,
    /// Number of questions that the relay asks each talker every 10 ms.
    floods: usize,
    /// Whether every tenth datagram of the relay is lost.
    loses: bool,
    /// How many times the listener has asked the relay for copies.
    asked: usize,
}

struct Talker {
    device: DeviceId,
    pipeline: Pipeline,
    slot: Slot,
    /// Opens the talker's frames, and makes other frames under their counters.
    opens: SenderKeyring,
    makes: SenderKey,
    frames: u64,
    events: Vec<(Timestamp, VoiceEvent)>,
}

/// What the relay brings of a talker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brings {
    /// Everything that was sent.
    All,
    /// Everything except the proofs.
    NoProofs,
    /// Other words in one frame of ten, and no proofs.
    Forged,
    /// Other words in one frame of ten, and the proofs.
    ForgedWithProofs,
}

impl Call {
    fn new(talkers: usize) -> Self {
        let random = SeededRandom::new(3);
        let [own, relay] = [(); 2].map(|()| DeviceKey::generate(&random).id());
        let now = Timestamp::from_millis(1_000);
        let pipeline = |device| {
            let config = PipelineConfig::new(device, false);
            Pipeline::new(PipelineConfig { transmit: Transmit::Open, ..config }).unwrap()
        };
        let mut listener = pipeline(own);
        let (settings, mut slots) = (NetSettings::default(), Vec::new());
        listener.handle_command(now, VoiceCommand::SetNet { net: net(1), settings });
        let talkers: Vec<_> = (1..=talkers as u16)
            .map(|number| {
                let key = Arc::new(DeviceKey::generate(&random));
                let (device, secret) = (key.id(), KeySecret::generate(1, &random));
                let mut talker = pipeline(device);
                let hop = Hop { relay, standby: None, devices: vec![own] };
                for command in [
                    VoiceCommand::SignWith(key),
                    VoiceCommand::SetSlots { relay, slots: Some(Vec::new()), is_members: true },
                    VoiceCommand::UseKey { target: target(1), tag: TAG, secret: secret.clone() },
                    VoiceCommand::SetListeners {
                        target: target(1),
                        plan: Plan { direct: Vec::new(), hops: vec![hop] },
                    },
                    VoiceCommand::SelectTarget { target: Some(target(1)), keyed: false },
                ] {
                    talker.handle_command(now, command);
                }
                slots.push((number, device));
                let (target, heard) = (target(1), vec![net(1)]);
                let mut opens = SenderKeyring::new(target, device);
                opens.install(now, &secret);
                let makes = SenderKey::new(target, device, &secret);
                listener.handle_command(
                    now,
                    VoiceCommand::InstallKey {
                        device,
                        target,
                        tag: TAG,
                        heard,
                        priority: false,
                        secret,
                    },
                );
                let slot = Slot::new(number).unwrap();
                Talker { device, pipeline: talker, slot, opens, makes, frames: 0, events: vec![] }
            })
            .collect();
        let slots = Some(slots);
        listener.handle_command(now, VoiceCommand::SetSlots { relay, slots, is_members: true });
        let events = Vec::new();
        Self {
            talkers,
            relay,
            listener,
            own,
            now,
            events,
            answers: true,
            floods: 0,
            loses: false,
            asked: 0,
        }
    }

    /// All talkers speak, and the relay forwards each as `brings` says.
    fn run(&mut self, milliseconds: u64, brings: &[Brings]) {
        for _ in 0..milliseconds / 10 {
            self.now = self.now + Duration::from_millis(10);
            let now = self.now;
            for (talker, brings) in self.talkers.iter_mut().zip(brings) {
                talker.pipeline.handle_capture(now, &[0.1; 480]);
                let mut forwarded = Vec::new();
                while let Some((to, bytes)) = talker.pipeline.poll_transmit() {
                    match FromMember::parse(bytes) {
                        Ok(FromMember::Forward(forward)) if to == self.relay => {
                            let mut forger = Forger {
                                opens: &mut talker.opens,
                                makes: &mut talker.makes,
                                frames: &mut talker.frames,
                                now,
                            };
                            let brought = bring(*brings, &forward, talker.slot, &mut forger);
                            forwarded.extend(brought);
                        }
                        _ if to == self.own && self.answers => {
                            self.listener.handle_datagram(now, talker.device, bytes);
                        }
                        _ => {}
                    }
                }
                for bytes in forwarded {
                    if self.loses && talker.frames.is_multiple_of(10) {
                        continue;
                    }
                    self.listener.handle_datagram(now, self.relay, &bytes);
                }
                let frame = FrameNumber { key: 1 << 31, counter: 256 };
                let mut question = Vec::new();
                Question { target_tag: TAG, frame }.encode(&mut question);
                for _ in 0..self.floods {
                    talker.pipeline.handle_datagram(now, self.relay, &question);
                }
                while let Some(event) = talker.pipeline.poll_event() {
                    talker.events.push((now, event));
                }
            }
            while self.listener.poll_timeout().is_some_and(|due| due <= now) {
                self.listener.handle_timeout(now);
            }
            while let Some((to, bytes)) = self.listener.poll_transmit() {
                if to == self.relay {
                    let report = FromMember::parse(bytes);
                    assert!(matches!(report, Ok(FromMember::Report(_))), "{report:?}");
                    self.asked += 1;
                }
                if let Some(talker) = self.talkers.iter_mut().find(|it| it.device == to) {
                    talker.pipeline.handle_datagram(now, self.own, bytes);
                }
            }
            self.listener.playout(now, &mut [0.0; 960]);
            while let Some(event) = self.listener.poll_event() {
                self.events.push((now, event));
            }
        }
    }

    fn received(&self, talker: usize) -> u64 {
        self.listener.statistics().talkers[&self.talkers[talker].device].frames_received
    }

    /// When the given event first came.
    fn told(events: &[(Timestamp, VoiceEvent)], wanted: &VoiceEvent) -> Option<Timestamp> {
        events.iter().find(|(_, event)| event == wanted).map(|(at, _)| *at)
    }
}

/// A relay that has the keys of a talker.
struct Forger<'a> {
    opens: &'a mut SenderKeyring,
    makes: &'a mut SenderKey,
    frames: &'a mut u64,
    now: Timestamp,
}

/// What the relay makes of a datagram of a talker.
fn bring(
    brings: Brings,
    forward: &Forward<'_>,
    slot: Slot,
    forger: &mut Forger<'_>,
) -> Option<Vec<u8>> {
    let voice = forward.voice;
    let is_proof = voice.frames[0][0] == KIND_PROOF;
    if is_proof && matches!(brings, Brings::NoProofs | Brings::Forged) {
        return None;
    }
    let mut newest = voice.frames[0].to_vec();
    if !is_proof {
        let (mut plaintext, mut other) = (Vec::new(), Vec::new());
        forger.opens.open(forger.now, &newest, &mut plaintext).unwrap();
        plaintext.truncate(FrameHeader::LENGTH);
        // An Opus packet of 10 ms without sound.
        plaintext.extend_from_slice(&[0xf0, 0xff, 0xfe]);
        forger.makes.seal(&plaintext, &mut other).unwrap();
        *forger.frames += 1;
        let forges = matches!(brings, Brings::Forged | Brings::ForgedWithProofs);
        if forges && *forger.frames % 10 == 5 {
            newest = other;
        }
    }
    let frames = std::iter::once(&newest[..]).chain(voice.frames[1..].iter().copied());
    let mut bytes = Vec::new();
    Forwarded::encode(slot, voice.target_tag, voice.sequence, frames, &mut bytes);
    Some(bytes)
}

/// [PROTO-9.8]
#[test]
fn a_relay_is_asked_for_copies_only_while_something_is_missing() {
    let mut call = Call::new(1);
    call.run(3_000, &[Brings::All]);
    assert_eq!(call.asked, 0);
    call.loses = true;
    call.run(3_000, &[Brings::All]);
    assert!((8..=13).contains(&call.asked), "{}", call.asked);
}

/// Regression: a relay that asked the talker 128 questions at the start of each second, before any
/// listener could, forged for as long as it liked. [PROTO-10.10] [PROTO-10.21]
#[test]
fn a_volunteer_that_forges_and_floods_questions_is_left_within_two_seconds() {
    let mut call = Call::new(1);
    call.floods = 100;
    call.run(3_000, &[Brings::NoProofs]);
    assert_eq!(call.received(0), 300, "all of it was asked about, and answered");
    let (begins, relay, talker) = (call.now, call.relay, call.talkers[0].device);
    call.run(2_000, &[Brings::Forged]);
    let found = Call::told(&call.events, &VoiceEvent::RelayForges { relay, talker });
    let found = found.expect("it is found out").saturating_duration_since(begins);
    assert!(found <= Duration::from_secs(1), "{found:?}");
    let left = VoiceEvent::RelayFails { relay, listener: call.own, for_good: true };
    let left = Call::told(&call.talkers[0].events, &left).expect("the talker is told");
    assert!(left.saturating_duration_since(begins) <= Duration::from_secs(1));
    let received = call.received(0);
    call.run(60_000, &[Brings::All]);
    assert_eq!(call.received(0), received, "nothing by it is heard any more");
}

/// Regression: if no answer came, forged frames were forgotten after three seconds, and the relay
/// was kept. [PROTO-10.10] [PROTO-10.23]
#[test]
fn a_relay_whose_frames_nobody_shows_to_be_the_talkers_is_left_within_two_seconds() {
    let mut call = Call::new(1);
    call.answers = false;
    let (begins, relay, talker) = (call.now, call.relay, call.talkers[0].device);
    call.run(2_000, &[Brings::Forged]);
    let unproven = Call::told(&call.events, &VoiceEvent::RelayUnproven { relay, talker });
    let unproven = unproven.expect("it is told").saturating_duration_since(begins);
    assert!(unproven < Duration::from_secs(2), "{unproven:?}");
    call.listener.handle_command(call.now, VoiceCommand::LeaveRelay { relay, talker });
    let received = call.received(0);
    call.run(9_980, &[Brings::All]);
    assert_eq!(call.received(0), received);
    let fails = VoiceEvent::RelayFails { relay, listener: call.own, for_good: false };
    assert!(Call::told(&call.talkers[0].events, &fails).is_some(), "the talker goes another way");
    let forges = VoiceEvent::RelayForges { relay, talker };
    assert_eq!(Call::told(&call.events, &forges), None, "nobody is accused");
    // After the pause it is heard again.
    call.answers = true;
    call.run(500, &[Brings::All]);
    assert!(call.received(0) > received + 40);
}

/// Regression: a talker that sent one frame and signed another made all its listeners leave an
/// honest relay for as long as they ran. [PROTO-10.10] [PROTO-10.22]
#[test]
fn what_a_talker_did_not_sign_costs_the_relay_no_other_talker() {
    let mut call = Call::new(2);
    // The listener cannot tell which of the two has made the other frame.
    call.run(2_000, &[Brings::ForgedWithProofs, Brings::All]);
    let (relay, talker) = (call.relay, call.talkers[0].device);
    let forges = VoiceEvent::RelayForges { relay, talker };
    assert!(Call::told(&call.events, &forges).is_some());
    let before = [call.received(0), call.received(1)];
    call.run(10_000, &[Brings::All, Brings::All]);
    assert_eq!(call.received(0), before[0]);
    assert_eq!(call.received(1), before[1] + 1_000);
    let told = call.talkers[1].events.iter();
    assert!(!told.clone().any(|(_, event)| matches!(event, VoiceEvent::RelayFails { .. })));
    let proofs = call.events.iter().filter(|(_, event)| *event == forges).count();
    assert_eq!(proofs, 1, "it is told once");
}

/// A listener asks no more than a talker answers.
#[test]
fn all_that_is_withheld_of_proofs_is_asked_about_in_time() {
    let mut call = Call::new(1);
    call.run(30_000, &[Brings::NoProofs]);
    assert_eq!(call.received(0), 3_000);
    let unproven = |event: &VoiceEvent| matches!(event, VoiceEvent::RelayUnproven { .. });
    assert!(!call.events.iter().any(|(_, event)| unproven(event)));
}
