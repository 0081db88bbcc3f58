//! Sound cards: lists them, opens them and tests them.

mod platform;
mod portable;

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hark_keys::Timestamp;
use hark_voice::level_dbfs;
use serde::Serialize;

use super::{
    DeviceError,
    callback::{CaptureCallback, CardCounters, CardFormat, PlayoutCallback, Waker},
    capture::LiveCapture,
    playout::LivePlayout,
};
use crate::{clock::Clock, event::Direction};

/// How long a sound card may go without a call before it counts as lost. A Bluetooth card needs
/// more than a second to wake.
const STALL: Duration = Duration::from_secs(4);
/// How often a self-test checks whether the card has called.
const SELF_TEST_LOOK: Duration = Duration::from_millis(20);
/// How long a self-test measures once the card has called.
const SELF_TEST: Duration = Duration::from_millis(600);
/// How many times it empties a microphone's ring in that time, so that the ring is never full.
const SELF_TEST_LOOKS: u32 = 6;
/// A sound card, as people choose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// The name of the card for people.
    pub name: String,
    /// The sound system's id of the card, which can be given in place of the name.
    pub id: String,
    /// Whether the card is used if no name is given.
    pub default: bool,
    /// Frames per second at which the card itself runs, if the sound system says so without opening
    /// it.
    pub rate_hz: Option<u32>,
}

impl DeviceInfo {
    /// Whether this is a sound card of the sound system `host`. ALSA also lists its plug-ins, of
    /// which only the default one may lead to a card.
    pub fn is_card(&self, host: &str) -> bool {
        host != "ALSA" || self.default || self.id.contains("CARD=")
    }
}

/// The sound cards of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceList {
    /// The sound system: PulseAudio, ALSA, WASAPI and so on.
    pub host: String,
    /// The cards that can record.
    pub microphones: Vec<DeviceInfo>,
    /// The cards that can play.
    pub speakers: Vec<DeviceInfo>,
}

/// The result of a sound card's self-test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfTest {
    /// The name of the card.
    pub name: String,
    /// Frames per second with which it was opened.
    pub rate_hz: u32,
    /// Frames per second at which the card itself runs, as far as the sound system says.
    pub card_rate_hz: u32,
    /// Samples per frame.
    pub channels: u16,
    /// How often it called within 0.6 s of its first call.
    pub callbacks: u64,
    /// The most frames that it delivered or took in one call, in milliseconds.
    pub period_ms: f64,
    /// Frames per second that it really delivered or took since its first call.
    pub measured_rate_hz: f64,
    /// Milliseconds from sound to the callback, or from the callback to sound, as the sound system
    /// estimates.
    pub latency_ms: f64,
    /// Level of what a microphone delivered, in dB below full scale; -120 means nothing but zeros.
    /// `None` for a speaker.
    pub level_dbfs: Option<f32>,
}

/// Lists the sound cards that exist now.
pub fn list_devices() -> DeviceList {
    let system = sound_system();
    DeviceList {
        microphones: system.cards(Direction::Input),
        speakers: system.cards(Direction::Output),
        host: system.name(),
    }
}

/// Opens a sound card, by name or the default one, and measures it for 0.6 s. A card that sleeps
/// gets as long to wake as when it is used. A speaker plays silence.
pub fn self_test(
    direction: Direction,
    name: Option<&str>,
    low_delay: bool,
) -> Result<SelfTest, DeviceError> {
    let latency = Arc::new(AtomicU64::new(0));
    let failure = Arc::new(Mutex::new(None));
    let noted = failure.clone();
    let failed = move |reason| *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    let opening = Opening {
        direction,
        low_delay,
        waker: Waker::default(),
        latency: latency.clone(),
        failed: Box::new(failed),
    };
    let mut opened = open(&*sound_system(), name, opening)?;
    let called = |counters: &CardCounters| counters.callbacks.load(Ordering::Relaxed) > 0;
    let begun = Clock.now();
    let has_failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    while !called(&opened.counters)
        && !has_failed()
        && Clock.now().saturating_duration_since(begun) < STALL
    {
        std::thread::sleep(SELF_TEST_LOOK);
    }
    let mut captured = Vec::new();
    for _ in 0..SELF_TEST_LOOKS {
        std::thread::sleep(SELF_TEST / SELF_TEST_LOOKS);
        if let Live::Capture(live) = &mut opened.live {
            live.take(&mut captured, &mut Vec::new());
        }
    }
    if let Some(reason) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(DeviceError::Unusable { direction, name: opened.name, reason });
    }
    let counters = &opened.counters;
    let since =
        Clock.monotonic_ns(Clock.now()).saturating_sub(counters.first_ns.load(Ordering::Relaxed));
    let frames = counters.frames.load(Ordering::Relaxed) as f64;
    Ok(SelfTest {
        rate_hz: opened.format.rate,
        card_rate_hz: opened.card_rate,
        channels: opened.format.channels as u16,
        callbacks: counters.callbacks.load(Ordering::Relaxed),
        period_ms: counters.largest.load(Ordering::Relaxed) as f64 * 1_000.0
            / f64::from(opened.format.rate),
        measured_rate_hz: frames * 1e9 / since.max(1) as f64,
        latency_ms: latency.load(Ordering::Relaxed) as f64 / 1e6,
        level_dbfs: (direction == Direction::Input).then(|| level_dbfs(&captured)),
        name: opened.name,
    })
}

/// Notices an open sound card that no longer calls.
#[derive(Default)]
pub(super) struct Watch {
    callbacks: u64,
    since: Option<Timestamp>,
}

impl Watch {
    /// Whether the card has not called for 4 s. It is reported once in that time.
    pub(super) fn stalled(&mut self, now: Timestamp, counters: &CardCounters) -> bool {
        let callbacks = counters.callbacks.load(Ordering::Relaxed);
        if callbacks != self.callbacks || self.since.is_none() {
            (self.callbacks, self.since) = (callbacks, Some(now));
        }
        let stalled = self.since.is_some_and(|since| now.saturating_duration_since(since) >= STALL);
        if stalled {
            self.since = Some(now);
        }
        stalled
    }
}

/// Finds and opens sound cards.
pub(super) trait SoundSystem {
    /// The name of the sound system: PulseAudio, ALSA, WASAPI and so on.
    fn name(&self) -> String;
    /// The cards of one direction. Empty if the sound system does not answer.
    fn cards(&self, direction: Direction) -> Vec<DeviceInfo>;
    /// The id of the default card, if it is known without opening the card.
    fn default_id(&self, direction: Direction) -> Option<String>;
    /// The card that is used if no name is given.
    fn default_card(&self, direction: Direction) -> Option<DeviceInfo>;
    /// Opens and starts a card, or returns the reason why it cannot. `chosen`: a person named it,
    /// so no other card will do.
    fn open(&self, card: &DeviceInfo, chosen: bool, opening: Opening) -> Result<Opened, String>;
    /// Connects to the sound system again if it answers: it may have been restarted.
    fn reconnect(&mut self);
}

/// The sound system of this machine.
pub(super) fn sound_system() -> Box<dyn SoundSystem> {
    platform::preferred().unwrap_or_else(|| Box::new(portable::Portable::new()))
}

/// The settings with which a card is opened.
pub(super) struct Opening {
    pub(super) direction: Direction,
    pub(super) low_delay: bool,
    pub(super) waker: Waker,
    /// The newest estimate of the card's delay, in nanoseconds.
    pub(super) latency: Arc<AtomicU64>,
    /// Called when the card stops working, from any thread.
    pub(super) failed: Box<dyn Fn(String) + Send + Sync>,
}

impl Opening {
    /// `span` frames, or half of them for low delay.
    fn shortened(&self, span: u32) -> u32 {
        span / if self.low_delay { 2 } else { 1 }
    }

    /// Frames per coded frame at `rate`: 10 ms, or 5 ms for low delay.
    fn coded_frame(&self, rate: u32) -> usize {
        self.shortened(rate / 100) as usize
    }
}

/// A card that was opened: its stream, and the voice thread's side.
pub(super) struct Opened {
    /// The stream runs until it is dropped.
    stream: Box<dyn Any>,
    live: Live,
    format: CardFormat,
    counters: Arc<CardCounters>,
}

/// An open sound card, which runs until it is dropped.
pub(super) struct OpenCard {
    pub(super) stream: Box<dyn Any>,
    pub(super) live: Live,
    pub(super) name: String,
    /// The sound system's id of the card.
    pub(super) id: String,
    /// Frames per second at which the card itself runs.
    card_rate: u32,
    format: CardFormat,
    counters: Arc<CardCounters>,
}

impl OpenCard {
    /// What a person should know of its sound, if anything.
    pub(super) fn warning(&self) -> Option<String> {
        has_telephone_quality(self.card_rate).then(|| {
            let khz = f64::from(self.card_rate) / 1_000.0;
            format!("{} has telephone quality now ({khz} kHz). {TELEPHONE_ADVICE}", self.name)
        })
    }
}

/// Whether a card that runs at this rate cannot carry more than a telephone does: 7 kHz at most.
/// Bluetooth headsets run at 8 or 16 kHz while their microphone is open (the codecs CVSD and mSBC
/// of the Hands-Free Profile).
pub fn has_telephone_quality(rate_hz: u32) -> bool {
    rate_hz <= 16_000
}

/// What helps then.
pub const TELEPHONE_ADVICE: &str = "A Bluetooth headset does this while its own microphone is in \
    use: choose another microphone, or a cable";

/// The voice thread's side of a sound card.
pub(super) enum Live {
    Capture(LiveCapture),
    Playout(LivePlayout),
}

/// Creates a microphone's callback and the voice thread's side of it.
fn capture(format: CardFormat, opening: &Opening) -> (CaptureCallback, Live, Arc<CardCounters>) {
    let wake_frames = opening.coded_frame(format.rate);
    let (callback, ring) = CaptureCallback::new(format, wake_frames, opening.waker.clone());
    let counters = ring.1.clone();
    (callback, Live::Capture(LiveCapture::new(format, ring)), counters)
}

/// Creates a speaker's callback and the voice thread's side of it.
fn playout(
    format: CardFormat,
    period: u32,
    opening: &Opening,
) -> (PlayoutCallback, Live, Arc<CardCounters>) {
    let (callback, ring) = PlayoutCallback::new(format, opening.waker.clone());
    let counters = ring.1.clone();
    let mut live = LivePlayout::new(format, period, Clock.now(), ring);
    live.prime();
    (callback, Live::Playout(live), counters)
}

/// Opens and starts the card called `name`, or the default one.
pub(super) fn open(
    system: &dyn SoundSystem,
    name: Option<&str>,
    opening: Opening,
) -> Result<OpenCard, DeviceError> {
    let direction = opening.direction;
    let card = match name {
        None => system.default_card(direction).ok_or(match direction {
            Direction::Input => DeviceError::NoMicrophone,
            Direction::Output => DeviceError::NoSpeaker,
        }),
        Some(name) => pick(system.cards(direction), direction, name, &system.name()),
    }?;
    match system.open(&card, name.is_some(), opening) {
        Ok(Opened { stream, live, format, counters }) => {
            let card_rate = card.rate_hz.unwrap_or(format.rate);
            let DeviceInfo { name, id, .. } = card;
            Ok(OpenCard { stream, live, name, id, card_rate, format, counters })
        }
        Err(reason) => Err(DeviceError::Unusable { direction, name: card.name, reason }),
    }
}

/// Finds the card of the sound system `host` that is called `wanted`. If no name matches exactly, a
/// card matches whose name contains `wanted`, if there is only one.
fn pick(
    mut cards: Vec<DeviceInfo>,
    direction: Direction,
    wanted: &str,
    host: &str,
) -> Result<DeviceInfo, DeviceError> {
    let lower = wanted.to_lowercase();
    let exact =
        cards.iter().position(|card| card.id == wanted || card.name.to_lowercase() == lower);
    let partial = || {
        let fits = |card: &DeviceInfo| card.name.to_lowercase().contains(&lower);
        let mut fitting = (0..cards.len()).filter(|k| fits(&cards[*k]));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    match exact.or_else(partial) {
        Some(index) => Ok(cards.swap_remove(index)),
        None => {
            cards.retain(|card| card.is_card(host));
            let known = cards.into_iter().map(|card| card.name).collect();
            Err(DeviceError::Unknown { direction, name: wanted.to_owned(), known })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, id: &str) -> DeviceInfo {
        DeviceInfo { name: name.to_owned(), id: id.to_owned(), default: false, rate_hz: None }
    }

    #[test]
    fn a_card_is_found_by_name_id_or_the_part_that_only_one_has() {
        let cards = || vec![card("Desk", "a.1"), card("Head set", "b.2"), card("Head", "c.3")];
        let found =
            |wanted| pick(cards(), Direction::Input, wanted, "PulseAudio").map(|card| card.id);
        assert_eq!(found("desk").expect("by name"), "a.1");
        assert_eq!(found("b.2").expect("by id"), "b.2");
        assert_eq!(found("head").expect("an exact name wins"), "c.3");
        assert_eq!(found("SET").expect("by part"), "b.2");
        for unknown in ["e", "Yeti"] {
            let line = found(unknown).expect_err("none or several").to_string();
            assert!(line.ends_with("there is `Desk`, `Head set`, `Head`"), "{line}");
        }
    }

    #[test]
    fn a_bluetooth_headset_turned_to_telephone_quality_without_a_word() {
        let opened = |card_rate| OpenCard {
            stream: Box::new(()),
            live: capture(FORMAT, &opening()).1,
            name: "Buds".to_owned(),
            id: String::new(),
            card_rate,
            format: FORMAT,
            counters: Arc::default(),
        };
        let line = opened(16_000).warning().expect("it is as a telephone");
        assert!(line.starts_with("Buds has telephone quality now (16 kHz). A Bluetooth"), "{line}");
        assert!(opened(8_000).warning().is_some());
        assert_eq!(opened(44_100).warning(), None);
    }

    const FORMAT: CardFormat = CardFormat { rate: 48_000, channels: 1 };

    fn opening() -> Opening {
        Opening {
            direction: Direction::Input,
            low_delay: false,
            waker: Waker::default(),
            latency: Arc::default(),
            failed: Box::new(|_| {}),
        }
    }

    #[test]
    fn plug_ins_were_named_as_microphones() {
        let cards = vec![card("Rate Converter Plugin", "speexrate"), card("Desk", "hw:CARD=1")];
        let error = pick(cards, Direction::Input, "Yeti", "ALSA").expect_err("no Yeti");
        assert_eq!(error.to_string(), "no microphone is called `Yeti`: there is `Desk`");
        let none = vec![card("Rate Converter Plugin", "speexrate")];
        let line = pick(none, Direction::Input, "Yeti", "ALSA").expect_err("none").to_string();
        assert!(!line.contains("Plugin"), "{line}");
    }
}
