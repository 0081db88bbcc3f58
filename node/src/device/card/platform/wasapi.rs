//! Sound cards through WASAPI, in shared mode, with the shortest period that a card offers.
//!
//! cpal asks for the system's usual period, which is 10 ms. Since Windows 10, `IAudioClient3`
//! offers what the driver can, often less than 3 ms. Exclusive mode would silence every other
//! program, so it is never asked for. A card whose format is not 32-bit float goes by cpal.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use wasapi::{
    AudioClient, AudioClientProperties, Device, DeviceEnumerator, SampleType, StreamCategory,
    StreamMode, TimingMode, WasapiError, WaveFormat, initialize_mta,
};

use super::super::{
    CaptureCallback, CardFormat, DeviceInfo, Opened, Opening, PlayoutCallback, SoundSystem,
    capture, playout, portable::Portable,
};
use crate::{
    clock::Clock,
    event::Direction,
    platform::{Urgency, prefer_this_thread},
};

type WasapiRes<T> = Result<T, WasapiError>;

/// How long a card may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one wait for a card's event takes at most, in milliseconds. A card that was pulled out
/// signals no more, and says so only when it is asked.
const EVENT_TIMEOUT_MS: u32 = 200;
/// Periods that lie between our ring and the card: one that it plays, and one in reserve.
const PERIODS: u32 = 2;
/// Bytes per sample.
const SAMPLE: usize = 4;

/// The sound cards of this machine's WASAPI.
pub(super) struct Wasapi;

impl Wasapi {
    /// Returns `None` if the sound service does not run.
    pub(super) fn connect() -> Option<Self> {
        enumerator().inspect_err(|error| tracing::debug!(%error, "no WASAPI")).ok().map(|_| Self)
    }
}

impl SoundSystem for Wasapi {
    fn name(&self) -> String {
        "WASAPI".to_owned()
    }

    fn cards(&self, direction: Direction) -> Vec<DeviceInfo> {
        let default = self.default_id(direction);
        let list = || -> WasapiRes<Vec<DeviceInfo>> {
            let all = enumerator()?.get_device_collection(&wasapi_direction(direction))?;
            let devices = all.into_iter().flatten();
            Ok(devices.filter_map(|device| info(&device, default.as_deref())).collect())
        };
        list().unwrap_or_default()
    }

    fn default_id(&self, direction: Direction) -> Option<String> {
        default_device(direction).and_then(|device| device.get_id()).ok()
    }

    fn default_card(&self, direction: Direction) -> Option<DeviceInfo> {
        let id = self.default_id(direction)?;
        info(&default_device(direction).ok()?, Some(&id))
    }

    fn open(&self, card: &DeviceInfo, chosen: bool, opening: Opening) -> Result<Opened, String> {
        match CardThread::open(card.id.clone(), opening.direction) {
            Ok(thread) => Ok(thread.start(opening)),
            Err(reason) => {
                tracing::debug!(card = card.name, reason, "not by WASAPI itself");
                Portable::new().open(card, chosen, opening)
            }
        }
    }

    // Each question goes to the sound service anew.
    fn reconnect(&mut self) {}
}

fn wasapi_direction(direction: Direction) -> wasapi::Direction {
    match direction {
        Direction::Input => wasapi::Direction::Capture,
        Direction::Output => wasapi::Direction::Render,
    }
}

fn enumerator() -> WasapiRes<DeviceEnumerator> {
    // A window's thread has chosen another model before, which will do as well.
    let _ = initialize_mta();
    DeviceEnumerator::new()
}

fn default_device(direction: Direction) -> WasapiRes<Device> {
    enumerator()?.get_default_device(&wasapi_direction(direction))
}

fn info(device: &Device, default: Option<&str>) -> Option<DeviceInfo> {
    let id = device.get_id().ok()?;
    let name = device.get_friendlyname().unwrap_or_else(|_| id.clone());
    // It is opened at its own rate.
    Some(DeviceInfo { default: default == Some(&id), name, id, rate_hz: None })
}

/// The settings of a card that is open.
#[derive(Clone, Copy)]
struct Settings {
    format: CardFormat,
    /// Frames that the card delivers or takes at once.
    period: u32,
}

/// A card that is open and does not run yet, with a thread of its own.
struct CardThread {
    settings: Settings,
    start: mpsc::SyncSender<Work>,
    ending: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

/// What the thread does once the card runs.
struct Work {
    callback: Callback,
    latency: Arc<AtomicU64>,
    failed: Box<dyn Fn(String) + Send + Sync>,
}

enum Callback {
    Capture(CaptureCallback),
    Playout(PlayoutCallback),
}

impl CardThread {
    fn open(id: String, direction: Direction) -> Result<Self, String> {
        let (report, opened) = mpsc::sync_channel(1);
        let (start, work) = mpsc::sync_channel::<Work>(1);
        let ending = Arc::new(AtomicBool::new(false));
        let ends = ending.clone();
        let body = move || {
            let card = match Card::open(&id, direction) {
                Ok(card) => card,
                Err(error) => return drop(report.send(Err(error.to_string()))),
            };
            let _ = report.send(Ok(card.settings));
            let Ok(Work { callback, latency, failed }) = work.recv() else { return };
            prefer_this_thread(Urgency::Sound);
            if let Err(error) = card.run(callback, &latency, &ends) {
                failed(reason(&error));
            }
        };
        let thread = thread::Builder::new().name("hark-wasapi".to_owned()).spawn(body);
        let thread = thread.map_err(|error| error.to_string())?;
        let settings = opened.recv_timeout(OPEN_TIMEOUT).map_err(|_| "it does not answer")??;
        Ok(Self { settings, start, ending, thread })
    }

    fn start(self, opening: Opening) -> Opened {
        let Settings { format, period } = self.settings;
        let (callback, live, counters) = match opening.direction {
            Direction::Input => {
                let (callback, live, counters) = capture(format, &opening);
                (Callback::Capture(callback), live, counters)
            }
            Direction::Output => {
                let (callback, live, counters) = playout(format, period, &opening);
                (Callback::Playout(callback), live, counters)
            }
        };
        let Opening { latency, failed, .. } = opening;
        // If the thread has ended meanwhile, the card counts as one that stands still.
        let _ = self.start.send(Work { callback, latency, failed });
        let stream = Box::new(Running { ending: self.ending, thread: Some(self.thread) });
        Opened { stream: stream as Box<dyn Any>, live, format, counters }
    }
}

/// A card that runs until this is dropped.
struct Running {
    ending: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks at the flag after each period, or after the longest wait.
            let _ = thread.join();
        }
    }
}

/// A card on its own thread.
struct Card {
    client: AudioClient,
    settings: Settings,
}

impl Card {
    fn open(id: &str, direction: Direction) -> WasapiRes<Self> {
        let device = enumerator()?.get_device(id)?;
        let mixed = device.get_iaudioclient()?.get_mixformat()?;
        if mixed.get_subformat()? != SampleType::Float || mixed.get_bitspersample() != 32 {
            return Err(WasapiError::UnsupportedFormat);
        }
        let (client, period) = shortest(&device, &mixed).or_else(|error| {
            tracing::debug!(%error, "no IAudioClient3");
            usual(&device, &mixed, direction)
        })?;
        // Our session is not turned down when another program holds a call. That ours is chat of a
        // game already says that others are not to be turned down for it.
        if let Err(error) =
            client.get_audiosessioncontrol().and_then(|it| it.set_ducking_preference(true))
        {
            tracing::debug!(%error, "ducking stays as the system has it");
        }
        let channels = usize::from(mixed.get_nchannels().max(1));
        let format = CardFormat { rate: mixed.get_samplespersec(), channels };
        Ok(Self { client, settings: Settings { format, period } })
    }

    fn run(&self, callback: Callback, latency: &AtomicU64, ending: &AtomicBool) -> WasapiRes<()> {
        let event = self.client.set_get_eventhandle()?;
        let frames = self.client.get_buffer_size()? as usize;
        let mut buffer = Buffer::new(frames * self.settings.format.channels);
        match callback {
            Callback::Capture(mut callback) => {
                let service = self.client.get_audiocaptureclient()?;
                self.client.start_stream()?;
                while !ending.load(Ordering::Relaxed) {
                    let _ = event.wait_for_event(EVENT_TIMEOUT_MS);
                    while service.get_next_packet_size()?.is_some_and(|frames| frames > 0) {
                        let (frames, told) = service.read_from_device(&mut buffer.bytes)?;
                        let now_ns = Clock.monotonic_ns(Clock.now());
                        // The stamp is of the same clock, in units of 100 ns.
                        let age = now_ns.saturating_sub(told.timestamp.saturating_mul(100));
                        if !told.flags.timestamp_error && age < nanos(OPEN_TIMEOUT) {
                            latency.store(age, Ordering::Relaxed);
                        }
                        let age = Duration::from_nanos(latency.load(Ordering::Relaxed));
                        let samples = frames as usize * self.settings.format.channels;
                        callback.handle(buffer.read(samples, told.flags.silent), age);
                    }
                }
            }
            Callback::Playout(mut callback) => {
                let service = self.client.get_audiorenderclient()?;
                let wanted = (self.settings.period * PERIODS).min(frames as u32);
                let mut fill = || -> WasapiRes<()> {
                    let padding = self.client.get_current_padding()?;
                    let free = wanted.saturating_sub(padding) as usize;
                    if free == 0 {
                        return Ok(());
                    }
                    let delay = span(padding + self.settings.period, self.settings.format.rate);
                    latency.store(nanos(delay), Ordering::Relaxed);
                    let samples = free * self.settings.format.channels;
                    callback.handle(&mut buffer.samples[..samples], delay);
                    service.write_to_device(free, buffer.written(samples), None)
                };
                fill()?;
                self.client.start_stream()?;
                while !ending.load(Ordering::Relaxed) {
                    let _ = event.wait_for_event(EVENT_TIMEOUT_MS);
                    fill()?;
                }
            }
        }
        self.client.stop_stream()
    }
}

/// Opens a client with the shortest period of the card's driver, in frames.
fn shortest(device: &Device, format: &WaveFormat) -> WasapiRes<(AudioClient, u32)> {
    let mut client = chat_client(device)?;
    let period = client.get_shared_mode_engine_period(format)?.min;
    client.initialize_shared_audio_stream(format, TimingMode::Events, period)?;
    Ok((client, period))
}

/// Opens a client with the system's usual period, in frames.
fn usual(
    device: &Device,
    format: &WaveFormat,
    direction: Direction,
) -> WasapiRes<(AudioClient, u32)> {
    let mut client = chat_client(device)?;
    let (usual, _) = client.get_device_period()?;
    let mode = StreamMode::EventsShared { autoconvert: false, buffer_duration_hns: usual };
    client.initialize_client(format, &wasapi_direction(direction), &mode)?;
    let frames = usual * i64::from(format.get_samplespersec()) / 10_000_000;
    Ok((client, u32::try_from(frames).unwrap_or(480).max(1)))
}

fn chat_client(device: &Device) -> WasapiRes<AudioClient> {
    let client = device.get_iaudioclient()?;
    let chat = AudioClientProperties::new().set_category(StreamCategory::GameChat);
    // Before Windows 10 there is no such category.
    if let Err(error) = client.set_properties(chat) {
        tracing::debug!(%error, "the card does not know chat of a game");
    }
    Ok(client)
}

/// Room for what a card delivers or takes at once, made before it runs.
struct Buffer {
    samples: Vec<f32>,
    bytes: Vec<u8>,
}

impl Buffer {
    fn new(samples: usize) -> Self {
        Self { samples: vec![0.0; samples], bytes: vec![0; samples * SAMPLE] }
    }

    /// The first `count` samples that are there as bytes.
    fn read(&mut self, count: usize, silent: bool) -> &[f32] {
        let samples = &mut self.samples[..count];
        for (sample, bytes) in samples.iter_mut().zip(self.bytes.as_chunks().0) {
            *sample = if silent { 0.0 } else { f32::from_le_bytes(*bytes) };
        }
        samples
    }

    /// The bytes of the first `count` samples.
    fn written(&mut self, count: usize) -> &[u8] {
        for (bytes, sample) in self.bytes.as_chunks_mut().0.iter_mut().zip(&self.samples[..count]) {
            *bytes = sample.to_le_bytes();
        }
        &self.bytes[..count * SAMPLE]
    }
}

fn span(frames: u32, rate: u32) -> Duration {
    Duration::from_secs(1) * frames / rate.max(1)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The reason why a card has stopped, in words for a person.
fn reason(error: &WasapiError) -> String {
    /// `AUDCLNT_E_DEVICE_INVALIDATED` (audioclient.h).
    const INVALIDATED: u32 = 0x8889_0004;
    match error {
        WasapiError::Windows(error) if error.code().0.cast_unsigned() == INVALIDATED => {
            "it was unplugged, or another format was chosen for it".to_owned()
        }
        error => error.to_string(),
    }
}
