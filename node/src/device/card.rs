//! Sound cards by cpal: which there are, and opening one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cpal::{
    BufferSize, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize,
    SupportedStreamConfigRange,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};
use hark_keys::Timestamp;
use serde::Serialize;

use super::{
    DeviceError, alsa,
    callback::{CaptureCallback, CardCounters, CardFormat, PlayoutCallback, Waker},
    capture::LiveCapture,
    playout::LivePlayout,
};
use crate::{
    clock::Clock,
    event::Direction,
    voice::{SAMPLE_RATE, level_dbfs},
};

/// How long the sound system may take to open a sound card.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a sound card may fail to call before it counts as lost. Bluetooth needs over a second
/// to wake.
const STALL: Duration = Duration::from_secs(4);
/// How long a self-test listens.
const SELF_TEST: Duration = Duration::from_millis(600);
/// How often it takes what a microphone gave: before the ring is full.
const SELF_TEST_LOOKS: u32 = 6;
/// Frames at once that cards are asked for: 10 ms at 48 kHz, half of it for low delay. Never left
/// to the sound system: PulseAudio would choose two seconds.
const PERIOD_FRAMES: u32 = 480;

/// A sound card, as people choose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// What it is called.
    pub name: String,
    /// What the sound system calls it; works as a name, too.
    pub id: String,
    /// Whether it is taken when no name is given.
    pub default: bool,
}

/// The sound cards of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceList {
    /// The sound system: PulseAudio, ALSA, WASAPI and so on.
    pub host: String,
    /// What can be spoken into.
    pub microphones: Vec<DeviceInfo>,
    /// What can be heard.
    pub speakers: Vec<DeviceInfo>,
}

/// What a sound card does when it is tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfTest {
    /// What it is called.
    pub name: String,
    /// Frames a second that it was opened with.
    pub rate_hz: u32,
    /// Samples a frame.
    pub channels: u16,
    /// Times that it called within 0.6 s.
    pub callbacks: u64,
    /// The most frames that it gave or took at once, in milliseconds.
    pub period_ms: f64,
    /// Frames a second that it really gave or took since its first call.
    pub measured_rate_hz: f64,
    /// From sound to the callback, or from the callback to sound, as the sound system believes.
    pub latency_ms: f64,
    /// Level of what a microphone gave, in dB below full scale; -120 is nothing but zeros.
    pub level_dbfs: Option<f32>,
}

/// The sound cards that there are now.
pub fn list_devices() -> DeviceList {
    let host = host();
    DeviceList {
        microphones: infos(&host, Direction::Input),
        speakers: infos(&host, Direction::Output),
        host: host.id().name().to_owned(),
    }
}

/// Opens a sound card for 0.6 s, by name or the default one, and says what it did. A speaker plays
/// silence.
pub fn self_test(
    direction: Direction,
    name: Option<&str>,
    low_delay: bool,
) -> Result<SelfTest, DeviceError> {
    let latency = Arc::new(AtomicU64::new(0));
    let failure = Arc::new(Mutex::new(None));
    let noted = failure.clone();
    let failed = move |reason| *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    let mut opened = open(direction, name, low_delay, Waker::default(), latency.clone(), failed)?;
    let mut captured = Vec::new();
    for _ in 0..SELF_TEST_LOOKS {
        std::thread::sleep(SELF_TEST / SELF_TEST_LOOKS);
        if let Live::Capture(live) = &mut opened.live {
            live.take(&mut captured);
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

/// Notices a sound card that is open but calls no more.
#[derive(Default)]
pub(super) struct Watch {
    callbacks: u64,
    since: Option<Timestamp>,
}

impl Watch {
    /// Whether it has not called for a while; said once a while.
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

/// A sound card that runs, until it is dropped.
pub(super) struct OpenCard {
    pub(super) stream: cpal::Stream,
    pub(super) live: Live,
    pub(super) name: String,
    format: CardFormat,
    counters: Arc<CardCounters>,
}

/// The voice thread's side of a sound card.
pub(super) enum Live {
    Capture(LiveCapture),
    Playout(LivePlayout),
}

/// Opens and starts the card called `name`, or the default one. `failed` is told, from any thread,
/// when it stops working. `latency` holds the newest belief about its delay, in nanoseconds.
pub(super) fn open(
    direction: Direction,
    name: Option<&str>,
    low_delay: bool,
    waker: Waker,
    latency: Arc<AtomicU64>,
    failed: impl Fn(String) + Send + 'static,
) -> Result<OpenCard, DeviceError> {
    let host = host();
    let device = find(&host, direction, name)?;
    let shown = device.to_string();
    let unusable = |error: cpal::Error| DeviceError::Unusable {
        direction,
        name: shown.clone(),
        reason: error.to_string(),
    };
    let (config, sample_format) = choose(&device, direction, low_delay).map_err(&unusable)?;
    // With so many more a coded frame is complete: 10 ms at any rate, 5 ms for low delay.
    let block_frames = (config.sample_rate / if low_delay { 200 } else { 100 }) as usize;
    let opening = Opening { device: &device, direction, config, block_frames, waker, latency };
    let (stream, live, counters) = match sample_format {
        SampleFormat::F32 => opening.build::<f32>(failed),
        SampleFormat::I32 => opening.build::<i32>(failed),
        SampleFormat::I16 => opening.build::<i16>(failed),
        SampleFormat::U16 => opening.build::<u16>(failed),
        SampleFormat::U8 => opening.build::<u8>(failed),
        other => Err(cpal::Error::with_message(
            cpal::ErrorKind::UnsupportedConfig,
            format!("nothing is known of its sample format {other}"),
        )),
    }
    .map_err(&unusable)?;
    stream.play().map_err(&unusable)?;
    Ok(OpenCard { stream, live, format: card_format(config), counters, name: shown })
}

/// The sound system that answers.
fn host() -> cpal::Host {
    alsa::hush();
    cpal::default_host()
}

/// The device called `name`, exactly or, where only one fits, in part.
fn find(
    host: &cpal::Host,
    direction: Direction,
    name: Option<&str>,
) -> Result<cpal::Device, DeviceError> {
    let Some(wanted) = name else {
        return match direction {
            Direction::Input => host.default_input_device().ok_or(DeviceError::NoMicrophone),
            Direction::Output => host.default_output_device().ok_or(DeviceError::NoSpeaker),
        };
    };
    let mut devices = devices(host, direction);
    let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    let lower = wanted.to_lowercase();
    let is_exact = |device: &cpal::Device| {
        device.to_string().to_lowercase() == lower || device.id().is_ok_and(|id| id.id() == wanted)
    };
    let exact = devices.iter().position(is_exact);
    let partial = || {
        let mut fitting = (0..names.len()).filter(|k| names[*k].to_lowercase().contains(&lower));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    match exact.or_else(partial) {
        Some(index) => Ok(devices.swap_remove(index)),
        None => Err(DeviceError::Unknown { direction, name: wanted.to_owned(), known: names }),
    }
}

fn infos(host: &cpal::Host, direction: Direction) -> Vec<DeviceInfo> {
    let default = match direction {
        Direction::Input => host.default_input_device(),
        Direction::Output => host.default_output_device(),
    };
    let info = |device: &cpal::Device| DeviceInfo {
        name: device.to_string(),
        id: device.id().map(|id| id.id().to_owned()).unwrap_or_default(),
        default: default.as_ref() == Some(device),
    };
    devices(host, direction).iter().map(info).collect()
}

/// The devices of one direction; none where the sound system does not answer.
fn devices(host: &cpal::Host, direction: Direction) -> Vec<cpal::Device> {
    let Ok(all) = host.devices() else { return Vec::new() };
    all.filter(|device| match direction {
        Direction::Input => device.supports_input(),
        Direction::Output => device.supports_output(),
    })
    .collect()
}

/// How to open `device`: at 48 kHz where it can, in floats where it can, with a short period.
fn choose(
    device: &cpal::Device,
    direction: Direction,
    low_delay: bool,
) -> Result<(StreamConfig, SampleFormat), cpal::Error> {
    let (default, ranges): (_, Vec<SupportedStreamConfigRange>) = match direction {
        Direction::Input => {
            (device.default_input_config()?, device.supported_input_configs()?.collect())
        }
        Direction::Output => {
            (device.default_output_config()?, device.supported_output_configs()?.collect())
        }
    };
    let best = ranges
        .iter()
        .filter(|range| range.channels() == default.channels())
        .filter(|range| range.contains_rate(SAMPLE_RATE))
        .filter_map(|range| Some((preference(range.sample_format())?, range)))
        .min_by_key(|(preference, _)| *preference)
        .map_or(default, |(_, range)| range.with_sample_rate(SAMPLE_RATE));
    let period = PERIOD_FRAMES * best.sample_rate() / SAMPLE_RATE / if low_delay { 2 } else { 1 };
    let period = match *best.buffer_size() {
        SupportedBufferSize::Range { min, max } if min <= max => period.clamp(min, max),
        SupportedBufferSize::Range { .. } | SupportedBufferSize::Unknown => period,
    };
    let config = StreamConfig { buffer_size: BufferSize::Fixed(period), ..best.config() };
    Ok((config, best.sample_format()))
}

/// Rank of a sample format that can be opened; lower is better.
fn preference(format: SampleFormat) -> Option<u8> {
    match format {
        SampleFormat::F32 => Some(0),
        SampleFormat::I32 => Some(1),
        SampleFormat::I16 => Some(2),
        SampleFormat::U16 => Some(3),
        SampleFormat::U8 => Some(4),
        _ => None,
    }
}

fn card_format(config: StreamConfig) -> CardFormat {
    CardFormat { rate: config.sample_rate, channels: usize::from(config.channels.max(1)) }
}

/// A sound card that is about to be opened.
struct Opening<'a> {
    device: &'a cpal::Device,
    direction: Direction,
    config: StreamConfig,
    block_frames: usize,
    waker: Waker,
    latency: Arc<AtomicU64>,
}

impl Opening<'_> {
    fn build<T: SizedSample + FromSample<f32> + Send>(
        self,
        failed: impl Fn(String) + Send + 'static,
    ) -> Result<(cpal::Stream, Live, Arc<CardCounters>), cpal::Error>
    where
        f32: FromSample<T>,
    {
        let Self { device, direction, config, block_frames, waker, latency } = self;
        let on_error = move |error: cpal::Error| match error.kind() {
            // The card goes on by itself; what was lost is counted by the rings.
            cpal::ErrorKind::Xrun
            | cpal::ErrorKind::DeviceChanged
            | cpal::ErrorKind::RealtimeDenied => {}
            _ => failed(error.to_string()),
        };
        let format = card_format(config);
        let timeout = Some(OPEN_TIMEOUT);
        let note = move |span: Duration| {
            latency.store(span.as_nanos() as u64, Ordering::Relaxed);
            span
        };
        match direction {
            Direction::Input => {
                let (mut callback, ring) = CaptureCallback::new(format, block_frames, waker);
                let counters = ring.1.clone();
                let stream = device.build_input_stream::<T, _, _>(
                    config,
                    move |data, info| {
                        let time = info.timestamp();
                        let age = time.callback.saturating_duration_since(time.capture);
                        callback.handle(data, note(age));
                    },
                    on_error,
                    timeout,
                )?;
                Ok((stream, Live::Capture(LiveCapture::new(format, ring)), counters))
            }
            Direction::Output => {
                let (mut callback, ring) = PlayoutCallback::new(format, waker);
                let counters = ring.1.clone();
                let mut live = LivePlayout::new(format, period(config), Clock.now(), ring);
                live.prime();
                let stream = device.build_output_stream::<T, _, _>(
                    config,
                    move |data, info| {
                        let time = info.timestamp();
                        let delay = time.playback.saturating_duration_since(time.callback);
                        callback.handle(data, note(delay));
                    },
                    on_error,
                    timeout,
                )?;
                Ok((stream, Live::Playout(live), counters))
            }
        }
    }
}

fn period(config: StreamConfig) -> u32 {
    match config.buffer_size {
        BufferSize::Fixed(frames) => frames,
        BufferSize::Default => PERIOD_FRAMES,
    }
}
