//! Speech to one target never reaches another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hark_keys::{
    DeviceId, DeviceKey, KeySecret, OpenFrameError, SeededRandom, SenderKeyring, TargetId,
    Timestamp,
};
use hark_mesh::{
    datagram::{FrameHeader, Voice},
    topology::Plan,
};
use proptest::{collection::vec, prelude::*};

use super::world::{Dice, noise};
use crate::{
    Pipeline, PipelineConfig, Transmit, VoiceCommand, VoiceEvent,
    codec::{Decoder, FRAME_SAMPLES_MAX},
    rate::{CodingSettings, Redundancy},
};

/// An action of a person or of the network between two blocks.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Select(Option<u8>),
    Key(bool),
    Mute(bool),
    Remove(u8),
    Restore(u8),
    Listeners(u8, bool),
}

/// The whole state that decides who may hear a block, kept separate from the code under test.
struct Model {
    selected: Option<u8>,
    there: BTreeSet<u8>,
    muted: bool,
    down: bool,
    released: Option<u64>,
}

impl Model {
    fn act(&mut self, act: Act, now_us: u64) {
        match act {
            Act::Nothing | Act::Listeners(..) => {}
            Act::Select(target) if target == self.selected => {}
            Act::Select(target) => (self.selected, self.released) = (target, None),
            Act::Key(true) => (self.down, self.released) = (true, None),
            Act::Key(false) if self.down => (self.down, self.released) = (false, Some(now_us)),
            Act::Key(false) => {}
            Act::Mute(muted) => self.muted = muted,
            Act::Remove(target) => drop(self.there.remove(&target)),
            Act::Restore(target) => drop(self.there.insert(target)),
        }
    }

    /// Whether `target` may hear a block in the current state.
    fn may_hear(&self, target: u8) -> bool {
        self.selected == Some(target) && self.there.contains(&target) && !self.muted
    }

    /// Whether the key lets the frame that is complete now be sent.
    fn is_open(&mut self, now_us: u64) -> bool {
        let open = self.down || self.released.is_some();
        // The time after the key is 150 ms.
        self.released = self.released.filter(|released| now_us < released + 150_000);
        open
    }
}

/// A talker, and everything it sends to each target.
struct Mouth {
    pipeline: Pipeline,
    random: SeededRandom,
    /// The listeners of each target. The last one hears all targets.
    listeners: Vec<DeviceId>,
    generation: u16,
    rings: Vec<SenderKeyring>,
    /// What each target was sent, decoded.
    heard: Vec<Vec<f32>>,
    decoders: Vec<Decoder>,
    /// What the packets to each target describe of the sound before them, rebuilt.
    described: Vec<Vec<f32>>,
    sequences: BTreeMap<DeviceId, u16>,
    events: Vec<VoiceEvent>,
    blocks: u64,
}

impl Mouth {
    fn new() -> Self {
        Self::coding(CodingSettings::default())
    }

    /// A talker whose packets describe the sound before them.
    fn deep() -> Self {
        let (frame_samples, redundancy) = (Some(960), Some(Redundancy::Deep));
        Self::coding(CodingSettings { bitrate_bps: Some(32_000), frame_samples, redundancy })
    }

    fn coding(coding: CodingSettings) -> Self {
        let random = SeededRandom::new(3);
        let device = DeviceKey::generate(&random).id();
        let config = PipelineConfig {
            transmit: Transmit::PushToTalk,
            coding,
            ..PipelineConfig::new(device, false)
        };
        let mut mouth = Self {
            pipeline: Pipeline::new(config).unwrap(),

            listeners: (0..=TARGETS).map(|_| DeviceKey::generate(&random).id()).collect(),
            random,
            generation: 0,
            rings: (0..TARGETS).map(|n| SenderKeyring::new(target(n), device)).collect(),
            heard: vec![Vec::new(); TARGETS.into()],
            decoders: (0..TARGETS).map(|_| Decoder::new().unwrap()).collect(),
            described: vec![Vec::new(); TARGETS.into()],
            sequences: BTreeMap::new(),
            events: Vec::new(),
            blocks: 0,
        };
        (0..TARGETS).for_each(|n| mouth.act(Act::Restore(n)));
        mouth
    }

    fn now_us(&self) -> u64 {
        1_000_000 + self.blocks * BLOCK_US
    }

    fn act(&mut self, act: Act) {
        let now = Timestamp::from_micros(self.now_us());
        let all = |n: u8| vec![self.listeners[usize::from(n)], self.listeners[TARGETS as usize]];
        let command = match act {
            Act::Nothing => return,
            Act::Select(choice) => {
                VoiceCommand::SelectTarget { target: choice.map(target), keyed: false }
            }
            Act::Key(down) => VoiceCommand::PushToTalk(down),
            Act::Mute(muted) => VoiceCommand::Mute(muted),
            Act::Remove(n) => VoiceCommand::RemoveTarget(target(n)),
            Act::Listeners(n, any) => VoiceCommand::SetListeners {
                target: target(n),
                plan: if any { all(n).into() } else { Plan::default() },
            },
            Act::Restore(n) => {
                self.generation += 1;
                let secret = KeySecret::generate(self.generation, &self.random);
                self.rings[usize::from(n)].install(now, &secret);
                let key = VoiceCommand::UseKey { target: target(n), tag: [n; 4], secret };
                self.pipeline.handle_command(now, key);
                VoiceCommand::SetListeners { target: target(n), plan: all(n).into() }
            }
        };
        // If the target does not exist, listeners would create a new one.
        self.pipeline.handle_command(now, command);
    }

    fn say(&mut self, block: &[f32]) {
        self.blocks += 1;
        let now = Timestamp::from_micros(self.now_us());
        self.pipeline.handle_capture(now, block);
        while let Some((to, bytes)) = self.pipeline.poll_transmit() {
            let voice = Voice::parse(bytes).unwrap();
            let n = voice.target_tag[0];
            let own = self.listeners[usize::from(n)];
            assert!(to == own || to == self.listeners[TARGETS as usize], "for another target");
            // All datagrams of one link are counted together, whatever they contain. [PROTO-7.3]
            let expected = self.sequences.get(&to).map_or(0, |last| last.wrapping_add(1));
            assert!(voice.sequence == expected || voice.sequence == 0);
            self.sequences.insert(to, voice.sequence);
            if to != own {
                continue;
            }
            let mut plaintext = Vec::new();
            for (other, ring) in self.rings.iter_mut().enumerate() {
                let opened = ring.open(now, voice.frames[0], &mut plaintext);
                if other != usize::from(n) {
                    assert!(opened.is_err(), "opens for another target");
                    continue;
                }
                if opened == Err(OpenFrameError::Replayed) {
                    // The end of a talkspurt is repeated.
                    continue;
                }
                assert_eq!(opened, Ok(()));
                let (header, packet) = FrameHeader::parse(&plaintext).unwrap();
                let decoder = &mut self.decoders[other];
                if header.first {
                    decoder.reset();
                }
                let mut out = [0.0; FRAME_SAMPLES_MAX];
                let mut hacker = Decoder::new().unwrap();
                // Before its first packet a decoder makes no sound.
                hacker.decode(packet, &mut out).unwrap();
                for before in (1..=hacker.described_samples(packet) / 480 + 2).rev() {
                    if hacker.rebuild(packet, before * 480, &mut out[..480]) == Ok(true) {
                        self.described[other].extend_from_slice(&out[..480]);
                    }
                }
                let samples = decoder.decode(packet, &mut out).unwrap();
                self.heard[other].extend_from_slice(&out[..samples]);
            }
        }
        while let Some(event) = self.pipeline.poll_event() {
            self.events.push(event);
        }
    }
}

/// 2.5 ms, so that commands come at any point within a frame.
const BLOCK: usize = 120;
const BLOCK_US: u64 = 2_500;
const TARGETS: u8 = 4;

fn target(n: u8) -> TargetId {
    TargetId::from_bytes([n; 16])
}

fn loud(dice: &mut Dice) -> Vec<f32> {
    (0..BLOCK).map(|_| (dice.roll() - 0.5) as f32).collect()
}

fn acts() -> impl Strategy<Value = Act> {
    let one = || 0..TARGETS;
    prop_oneof![
        30 => Just(Act::Nothing),
        4 => proptest::option::weighted(0.8, one()).prop_map(Act::Select),
        4 => any::<bool>().prop_map(Act::Key),
        1 => proptest::bool::weighted(0.3).prop_map(Act::Mute),
        1 => one().prop_map(Act::Remove),
        2 => one().prop_map(Act::Restore),
        1 => (one(), proptest::bool::weighted(0.7)).prop_map(|(n, any)| Act::Listeners(n, any)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// [PROTO-7.7] Actions select, press, remove and mute at any moment. While the chosen target
    /// may hear, the talker is silent; at all other times there is noise. All that the chosen
    /// target hears must be silence.
    #[test]
    fn no_target_hears_what_was_said_to_another(
        acts in vec(acts(), 400),
        chosen in 0..TARGETS,
    ) {
        let mut mouth = Mouth::new();
        let mut model = Model {
            selected: None,
            there: (0..TARGETS).collect(),
            muted: false,
            down: false,
            released: None,
        };
        let mut dice = Dice(7);
        for frame in acts.as_chunks::<4>().0 {
            let start_us = mouth.now_us();
            let mut may_hear = [false; 4];
            // The model runs a frame ahead, since only the end of a frame shows whether the key
            // lets it out.
            let mut done = [Act::Nothing; 4];
            for (n, act) in frame.iter().enumerate() {
                // A target that does not exist has no listeners.
                let known = !matches!(act, Act::Listeners(n, _) if !model.there.contains(n));
                done[n] = if known { *act } else { Act::Nothing };
                model.act(done[n], start_us + n as u64 * BLOCK_US);
                may_hear[n] = model.may_hear(chosen);
            }
            let open = model.is_open(start_us + 4 * BLOCK_US);
            for (act, may_hear) in done.into_iter().zip(may_hear) {
                mouth.act(act);
                let sound = loud(&mut dice);
                mouth.say(if may_hear && open { &[0.0; BLOCK] } else { &sound });
            }
        }
        let loudest = mouth.heard[usize::from(chosen)].iter().fold(0.0, |a: f32, b| a.max(b.abs()));
        prop_assert!(loudest < 1e-3, "{loudest}");
        let talks = mouth.events.iter().filter(|it| matches!(it, VoiceEvent::OwnTalkStarted { .. }));
        let ends = mouth.events.iter().filter(|it| matches!(it, VoiceEvent::OwnTalkEnded));
        prop_assert!((0..=1).contains(&(talks.count() - ends.count())));
    }
}

/// [PROTO-7.11] The key is held all the time, first for one target, then for another, then the
/// other gets another key. What packets describe never reaches back to what was said before, which
/// was loud.
#[test]
fn no_packet_describes_what_was_said_to_another_or_under_another_key() {
    let mut mouth = Mouth::deep();
    let sound = noise(24_000);
    let say = |mouth: &mut Mouth, samples: usize, gain: f32| {
        for block in sound[..samples].chunks_exact(BLOCK) {
            let block: Vec<f32> = block.iter().map(|sample| sample * gain).collect();
            mouth.say(&block);
        }
    };
    let energy = |sound: &[f32]| {
        sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32
    };
    mouth.act(Act::Key(true));
    mouth.act(Act::Select(Some(0)));
    say(&mut mouth, 24_000, 5.0);
    assert!(mouth.described[0].len() > 48_000);
    assert!(energy(&mouth.described[0]) > 0.01, "{}", energy(&mouth.described[0]));
    // The frame in which the target is selected is for nobody.
    mouth.act(Act::Select(Some(1)));
    say(&mut mouth, 960, 5.0);
    say(&mut mouth, 24_000, 0.05);
    assert!(mouth.described[1].len() > 48_000);
    let leaked = energy(&mouth.described[1]);
    assert!(leaked < 1e-4, "{leaked}");

    say(&mut mouth, 24_000, 5.0);
    // A frame that is whole when the key changes was sealed with the old one.
    mouth.act(Act::Restore(1));
    let (before, heard) = (mouth.described[1].len(), mouth.heard[1].len());
    say(&mut mouth, 24_000, 0.05);
    assert!(mouth.described[1].len() - before > 48_000);
    let leaked = energy(&mouth.described[1][before..]);
    assert!(leaked < 1e-4, "{leaked}");
    assert_eq!(mouth.heard[1].len() - heard, 24_000, "nothing is lost by it");
}

/// One target after another is selected while the key is held all the time. Each target hears its
/// whole part, except the frame in which another one was selected.
#[test]
fn a_talkspurt_follows_the_selection_without_a_pause() {
    let mut mouth = Mouth::new();
    let mut dice = Dice(1);
    mouth.act(Act::Key(true));
    for n in [0, 1, 2] {
        mouth.act(Act::Select(Some(n)));
        for _ in 0..40 {
            mouth.say(&loud(&mut dice));
        }
    }
    mouth.act(Act::Select(None));
    for _ in 0..40 {
        mouth.say(&loud(&mut dice));
    }
    // Each has a silent frame at its end. The next one lacks this frame at its beginning.
    assert_eq!([0, 1, 2].map(|n: usize| mouth.heard[n].len() / 480), [11, 10, 10]);
    for n in 0..3 {
        let heard = &mouth.heard[n];
        let energy: f32 = heard[960..4_320].iter().map(|sample| sample * sample).sum();
        assert!(energy / 3_360.0 > 0.02, "{n}");
    }
    use VoiceEvent::{KeyUsed, OwnTalkEnded, OwnTalkStarted};
    let expected: Vec<VoiceEvent> = [0, 1, 2]
        .map(target)
        .into_iter()
        .flat_map(|target| [OwnTalkStarted { target }, KeyUsed { target }, OwnTalkEnded])
        .collect();
    assert_eq!(mouth.events, expected);
}

/// The last words after the key are for the target that it was held for. They are cut if another
/// one is selected.
#[test]
fn the_tail_after_the_key_goes_nowhere_else() {
    let mut mouth = Mouth::new();
    let mut dice = Dice(1);
    mouth.act(Act::Select(Some(0)));
    mouth.act(Act::Key(true));
    (0..40).for_each(|_| mouth.say(&loud(&mut dice)));
    mouth.act(Act::Key(false));
    (0..20).for_each(|_| mouth.say(&loud(&mut dice)));
    mouth.act(Act::Select(Some(1)));
    (0..80).for_each(|_| mouth.say(&loud(&mut dice)));
    assert_eq!(mouth.heard[0].len() / 480, 10 + 5 + 1);
    assert!(mouth.heard[1].is_empty());
}

/// [PROTO-7.6] The end of a talkspurt is repeated to the listeners that do not hear the next one,
/// under the tag of the talkspurt that has ended.
#[test]
fn the_end_of_a_talkspurt_is_repeated_beside_the_next_one() {
    let mut mouth = Mouth::new();
    let mut dice = Dice(1);
    mouth.act(Act::Select(Some(0)));
    mouth.act(Act::Key(true));
    (0..8).for_each(|_| mouth.say(&loud(&mut dice)));
    mouth.act(Act::Select(Some(1)));
    let (first, both) = (mouth.listeners[0], mouth.listeners[TARGETS as usize]);
    let mut sent = Vec::new();
    for _ in 0..12 {
        mouth.blocks += 1;
        let now = Timestamp::from_micros(mouth.now_us());
        mouth.pipeline.handle_capture(now, &loud(&mut dice));
        while let Some((to, bytes)) = mouth.pipeline.poll_transmit() {
            let tag = Voice::parse(bytes).unwrap().target_tag[0];
            sent.push((to, tag));
        }
    }
    let to = |device: DeviceId| -> Vec<u8> {
        sent.iter().filter(|(to, _)| *to == device).map(|(_, tag)| *tag).collect()
    };
    assert_eq!(to(first), [0, 0], "the last frame, and again");
    assert_eq!(to(both), [0, 1, 1], "the next talkspurt tells it well enough");
    assert_eq!(mouth.pipeline.statistics().own.target, Some(target(1)));
}

/// If there are too many targets, further ones are refused and the others continue to work.
#[test]
fn too_many_targets_are_refused() {
    let mut mouth = Mouth::new();
    let devices = vec![mouth.listeners[0]];
    for n in TARGETS..100 {
        let now = Timestamp::ZERO + Duration::from_secs(1);
        let target = target(n);
        let secret = KeySecret::generate(1, &mouth.random);
        mouth.pipeline.handle_command(now, VoiceCommand::UseKey { target, tag: [n; 4], secret });
        let devices = devices.clone();
        mouth
            .pipeline
            .handle_command(now, VoiceCommand::SetListeners { target, plan: devices.into() });
    }
    let transmits = |mouth: &mut Mouth, n| {
        let command = VoiceCommand::SelectTarget { target: Some(target(n)), keyed: false };
        mouth.pipeline.handle_command(Timestamp::from_millis(1_000), command);
        (0..3).for_each(|_| {
            mouth.pipeline.handle_capture(Timestamp::from_millis(1_000), &[0.1; 480]);
        });
        mouth.pipeline.statistics().own.target == Some(target(n))
    };
    mouth.act(Act::Key(true));
    assert!(transmits(&mut mouth, 63) && !transmits(&mut mouth, 64) && transmits(&mut mouth, 0));
}
