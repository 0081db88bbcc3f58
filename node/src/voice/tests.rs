//! Two pipelines and a network between them, in virtual time.

use std::collections::BTreeMap;

use hark_keys::{ChannelId, DeviceKey, KeySecret, SeededRandom, TargetId};
use hark_mesh::datagram::{Datagram, DropReason, KIND_REPORT, KIND_VOICE};
use proptest::{collection::vec, prelude::*};

use super::*;

const CHANNEL: ChannelId = ChannelId::from_bytes([3; 16]);
const NET: Net = Net::Channel(CHANNEL);
const TARGET: TargetId = TargetId::of_channel(CHANNEL);
const TAG: [u8; 4] = *b"targ";

fn use_key(secret: &KeySecret) -> VoiceCommand {
    VoiceCommand::UseKey { target: TARGET, tag: TAG, secret: secret.clone() }
}

fn install_key(device: DeviceId, secret: &KeySecret) -> VoiceCommand {
    VoiceCommand::InstallKey {
        device,
        target: TARGET,
        tag: TAG,
        heard: vec![NET],
        priority: false,
        secret: secret.clone(),
    }
}

/// A small generator, so that every run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

/// When each datagram arrives, in milliseconds after it was sent; twice, or never.
type Network = Box<dyn FnMut(u64) -> Vec<f64>>;

struct World {
    talker: Pipeline,
    listener: Pipeline,
    talker_id: DeviceId,
    listener_id: DeviceId,
    network: Network,
    /// By arrival: to the listener?, what.
    underway: BTreeMap<(Timestamp, u64), (bool, Vec<u8>)>,
    sent: u64,
    /// Samples of a block.
    block: usize,
    blocks: u64,
    captured: Vec<f32>,
    heard: Vec<f32>,
    /// Size of each voice datagram by its number of copies.
    sizes: BTreeMap<usize, Vec<usize>>,
    events: Vec<(u64, VoiceEvent)>,
    first_voice_at: Option<Timestamp>,
}

impl World {
    fn new(transmit: Transmit, low_delay: bool, network: Network) -> Self {
        let random = SeededRandom::new(7);
        let (talker_id, listener_id) =
            (DeviceKey::generate(&random).id(), DeviceKey::generate(&random).id());
        let config = |device| PipelineConfig { transmit, ..PipelineConfig::new(device, low_delay) };
        let mut talker = Pipeline::new(config(talker_id)).unwrap();
        let mut listener = Pipeline::new(config(listener_id)).unwrap();
        let secret = KeySecret::generate(1, &random);
        let now = Timestamp::ZERO;
        talker.handle_command(now, use_key(&secret));
        let devices = vec![listener_id];
        talker.handle_command(now, VoiceCommand::SetListeners { target: TARGET, devices });
        talker.handle_command(now, VoiceCommand::SelectTarget(Some(TARGET)));
        listener.handle_command(now, install_key(talker_id, &secret));
        let settings = NetSettings::default();
        listener.handle_command(now, VoiceCommand::SetNet { net: NET, settings });
        Self {
            talker,
            listener,
            talker_id,
            listener_id,
            network,
            underway: BTreeMap::new(),
            sent: 0,
            block: if low_delay { 120 } else { 240 },
            blocks: 0,
            captured: Vec::new(),
            heard: Vec::new(),
            sizes: BTreeMap::new(),
            events: Vec::new(),
            first_voice_at: None,
        }
    }

    fn block_us(&self) -> u64 {
        self.block as u64 * 1_000_000 / 48_000
    }

    /// Captures `sound`, and half a block after each of its blocks plays one.
    fn run(&mut self, sound: &[f32]) {
        for block in sound.chunks_exact(self.block) {
            self.blocks += 1;
            let at_us = 1_000_000 + self.blocks * self.block_us();
            self.deliver(Timestamp::from_micros(at_us));
            let now = Timestamp::from_micros(at_us);
            self.talker.handle_capture(now, block);
            self.captured.extend_from_slice(block);
            self.post(now);
            let now = Timestamp::from_micros(at_us + self.block_us() / 2);
            self.deliver(now);
            let mut out = vec![0.0; SIDES * self.block];
            self.listener.playout(now, &mut out);
            self.heard.extend(mix::mean(&out));
            for pipeline in [&mut self.talker, &mut self.listener] {
                while let Some(event) = pipeline.poll_event() {
                    self.events.push((self.blocks * self.block as u64 / 48, event));
                }
            }
        }
    }

    fn deliver(&mut self, until: Timestamp) {
        while let Some(entry) = self.underway.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((arrived, _), (to_listener, bytes)) = entry.remove_entry();
            if to_listener {
                self.listener.handle_datagram(arrived, self.talker_id, &bytes);
            } else {
                self.talker.handle_datagram(arrived, self.listener_id, &bytes);
            }
            self.post(arrived);
        }
        self.post(until);
    }

    fn post(&mut self, now: Timestamp) {
        while self.listener.poll_timeout().is_some_and(|due| due <= now) {
            self.listener.handle_timeout(now);
        }
        for to_listener in [true, false] {
            let pipeline = if to_listener { &mut self.talker } else { &mut self.listener };
            while let Some((_, bytes)) = pipeline.poll_transmit() {
                if to_listener {
                    self.first_voice_at.get_or_insert(now);
                    let sizes = self.sizes.entry(usize::from(bytes[7])).or_default();
                    sizes.push(bytes.len());
                }
                for delay_ms in (self.network)(self.sent) {
                    let at = now + Duration::from_secs_f64(delay_ms / 1e3);
                    self.sent += 1;
                    self.underway.insert((at, self.sent), (to_listener, bytes.to_vec()));
                }
            }
        }
    }

    fn talker_statistics(&self) -> TalkerStatistics {
        self.listener.statistics().talkers[&self.talker_id].clone()
    }

    /// By how many milliseconds playing lags behind capturing: where the two fit best.
    fn mouth_to_ear_ms(&self, from: usize, length: usize) -> f64 {
        let said = &self.captured[from..from + length];
        let fit = |lag: usize| -> f32 {
            let heard = &self.heard[from + lag..from + lag + length];
            said.iter().zip(heard).map(|(said, heard)| said * heard).sum()
        };
        let lag = (0..4_800).max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap();
        // A block is captured when it is complete, and played from half a block later on.
        lag as f64 / 48.0 + self.block_us() as f64 * 1.5 / 1e3
    }
}

fn lossless(delay_ms: f64) -> Network {
    Box::new(move |_| vec![delay_ms])
}

fn lossy(loss: f64) -> Network {
    let mut dice = Dice(99);
    Box::new(move |_| {
        let delay = 1.0 + dice.roll();
        if dice.roll() < loss { Vec::new() } else { vec![delay] }
    })
}

/// Voiced sound with syllables and pauses, a little noise under it.
fn speech(seconds: f64) -> Vec<f32> {
    let mut dice = Dice(5);
    let mut phase = 0.0;
    (0..(seconds * 48_000.0) as usize)
        .map(|n| {
            let time = n as f64 / 48_000.0;
            let pitch = 130.0 + 25.0 * (time * 1.7).sin() + 10.0 * (time * 11.0).sin();
            phase += pitch / 48_000.0;
            let harmonics: f64 = (1..14)
                .map(|k| {
                    let k = f64::from(k);
                    let formant =
                        |center: f64, width: f64| (-((k * pitch - center) / width).powi(2)).exp();
                    let shape = formant(500.0 + 200.0 * (time * 5.0).sin(), 250.0)
                        + 0.5 * formant(1_500.0 + 400.0 * (time * 3.0).sin(), 400.0)
                        + 0.02;
                    shape * (std::f64::consts::TAU * phase * k).sin()
                })
                .sum();
            let syllable = (time * 4.0 * std::f64::consts::PI).sin().max(0.0).sqrt();
            let phrase = if time % 3.7 < 2.9 { 1.0 } else { 0.0 };
            let noise = 0.000_3 * (dice.roll() * 2.0 - 1.0);
            (0.12 * harmonics * syllable * phrase + noise) as f32
        })
        .collect()
}

fn noise(samples: usize) -> Vec<f32> {
    let mut dice = Dice(3);
    let mut low = 0.0;
    (0..samples)
        .map(|_| {
            low += 0.2 * ((dice.roll() * 2.0 - 1.0) * 0.3 - low);
            low as f32
        })
        .collect()
}

/// A clean link conceals nothing, and delays by what is written down: one frame, the lookahead, and
/// a frame in the buffer (rounded up to when a block is played).
#[test]
fn a_clean_link_is_exact() {
    // Frames of 10 ms: 10 + 6.5 + 12.5, the buffer's 10 ms ending at the next block.
    // Of 5 ms: 5 + 2.5 + 6.25.
    for (low_delay, expected_ms) in [(false, 29.0), (true, 13.75)] {
        let mut world = World::new(Transmit::Open, low_delay, lossless(0.3));
        world.run(&noise(48_000 * 3));
        let statistics = world.talker_statistics();
        assert_eq!((statistics.frames_concealed, statistics.frames_late), (0, 0));
        assert!(statistics.frames_received > 290);
        assert_eq!(statistics.jitter_ms, 0.0);
        for from in [4_800, 48_000, 2 * 48_000] {
            let delay = world.mouth_to_ear_ms(from, 9_600);
            assert!((delay - expected_ms).abs() < 0.1, "{low_delay}: {delay}");
        }
        assert!(world.listener.statistics().drops.is_empty());
    }
}

/// Random loss of 10 % each way: two seconds later, less than 0.5 % of the frames are concealed,
/// and ten seconds after its end no copies are left. [PROTO-7.4]
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
            assert!(sizes.iter().all(|size| *size == sizes[0]), "one size for each redundancy");
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

/// The first loss of a clean call is answered with copies within half a second.
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

/// A stall of 80 ms each few seconds conceals no more than its length, and its delay goes again.
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

/// Datagrams out of order and twice make no difference but the wait for them.
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

/// Spurts begin and end as the voice does; silence costs no datagram.
#[test]
fn spurts_follow_the_voice() {
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

/// From the key to the first datagram is one frame at most; the spurt ends 150 ms after it.
#[test]
fn push_to_talk_is_prompt() {
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

/// Muted, nothing of the voice leaves, and the spurt ends at once.
#[test]
fn mute_ends_the_spurt_with_silence() {
    let mut world = World::new(Transmit::Open, false, lossless(1.0));
    world.run(&noise(48_000));
    world.talker.handle_command(Timestamp::from_millis(2_000), VoiceCommand::Mute(true));
    let sent = world.talker.statistics().own.frames_sent;
    world.run(&noise(24_000));
    assert_eq!(world.talker.statistics().own.frames_sent, sent + 1);
    assert!(!world.talker_statistics().talking);
    assert_eq!(world.talker_statistics().frames_concealed, 0);
}

/// Frames that came up to 200 ms before their key are held; without a key there is no sound.
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

/// Deafened nothing is heard; a volume scales one talker.
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

/// A talker that starts over, with another key and media time, is heard again within a quarter of
/// a second.
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

/// A device that asks for its blocks late now and then, and catches up, conceals nothing.
#[test]
fn the_playout_clock_is_the_earliest() {
    let mut clock = PlayoutClock::new();
    let late = [0, 0, 3, 0, 7, 2, 0];
    for (n, late) in late.iter().enumerate() {
        let now = Timestamp::from_millis(100 + 5 * n as u64 + late);
        assert_eq!(clock.tick(now, 240), Timestamp::from_millis(100 + 5 * n as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a peer sends ends in a counter, and what it makes us play stays within bounds.
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
