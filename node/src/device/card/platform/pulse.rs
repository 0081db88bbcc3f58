//! Sound cards through PulseAudio's protocol, which PipeWire speaks too.
//!
//! cpal is not used for it: cpal asks for a record buffer of one period. If a source delivers
//! uneven pieces, the server then drops up to 40 %.

use std::{
    ffi::CString,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use futures::executor::block_on;
use hark_voice::{SAMPLE_RATE, SIDES};
use pulseaudio::{
    AsPlaybackSource, Client, ClientError, PlaybackStream, RecordStream,
    protocol::{
        ChannelMap, PlaybackStreamParams, RecordStreamParams, SampleFormat, SampleSpec,
        stream::{BufferAttr, StreamFlags},
    },
};

use super::super::{CardFormat, DeviceInfo, Opened, Opening, SoundSystem, capture, playout};
use crate::event::Direction;

/// How long the server may take to accept us.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a stream is checked: it reports its delay, or that it has ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Frames that a microphone delivers at once: 10 ms, or half of it for low delay.
const FRAGMENT_FRAMES: u32 = 480;
/// Frames that a speaker asks for at once: 5 ms, or half of it for low delay. The ring holds as
/// much more for each.
const REQUEST_FRAMES: u32 = 240;
/// Frames between our ring and the ear: 20 ms, or half of it for low delay. The server halves what
/// remains beside two requests, and gives that to the sound card as its period. A longer target
/// adds delay but no safety: two requests are what either process may be late by.
const TARGET_FRAMES: u32 = 960;
/// One input channel and two output channels, at our own rate: the server knows best how to convert
/// for its cards.
const CAPTURED: CardFormat = CardFormat { rate: SAMPLE_RATE, channels: 1 };
const PLAYED: CardFormat = CardFormat { rate: SAMPLE_RATE, channels: SIDES };
/// Bytes per sample.
const SAMPLE: u32 = 4;
/// Samples that are converted at once. It is a multiple of a frame.
const PIECE: usize = 1_024;

/// A connection to the server.
pub(super) struct Pulse(Client);

impl Pulse {
    /// Connects to the server of this session, if one answers.
    pub(super) fn connect() -> Option<Self> {
        let (sender, receiver) = mpsc::channel();
        // A server that hangs blocks this thread only.
        let connect = move || {
            // A server that is slow to accept may miss whose process we are, and refuse. So we try
            // twice.
            let client = Client::from_env(c"Hark").or_else(|_| Client::from_env(c"Hark"));
            let _ = sender.send(client);
        };
        thread::Builder::new().name("hark-pulse".to_owned()).spawn(connect).ok()?;
        let connected = receiver.recv_timeout(CONNECT_TIMEOUT).ok()?;
        connected.inspect_err(|error| tracing::debug!(%error, "no PulseAudio")).ok().map(Self)
    }
}

impl SoundSystem for Pulse {
    fn name(&self) -> String {
        "PulseAudio".to_owned()
    }

    fn cards(&self, direction: Direction) -> Vec<DeviceInfo> {
        let default = self.default_id(direction);
        let info = |id: CString, description: Option<CString>, spec: SampleSpec| {
            let id = id.to_string_lossy().into_owned();
            let name = description.map(|name| name.to_string_lossy().into_owned());
            let default = default.as_ref() == Some(&id);
            let rate_hz = Some(spec.sample_rate);
            DeviceInfo { name: name.unwrap_or_else(|| id.clone()), id, default, rate_hz }
        };
        match direction {
            Direction::Input => {
                let sources = block_on(self.0.list_sources()).unwrap_or_default();
                let sources = sources.into_iter();
                sources.map(|it| info(it.name, it.description, it.sample_spec)).collect()
            }
            Direction::Output => {
                let sinks = block_on(self.0.list_sinks()).unwrap_or_default();
                let sinks = sinks.into_iter();
                sinks.map(|it| info(it.name, it.description, it.sample_spec)).collect()
            }
        }
    }

    fn default_id(&self, direction: Direction) -> Option<String> {
        let server = block_on(self.0.server_info()).ok()?;
        let name = match direction {
            Direction::Input => server.default_source_name,
            Direction::Output => server.default_sink_name,
        };
        name.map(|name| name.to_string_lossy().into_owned())
    }

    fn default_card(&self, direction: Direction) -> Option<DeviceInfo> {
        self.cards(direction).into_iter().find(|card| card.default)
    }

    fn open(&self, card: &DeviceInfo, chosen: bool, opening: Opening) -> Result<Opened, String> {
        let id = CString::new(card.id.as_str()).map_err(|error| error.to_string())?;
        let flags = StreamFlags {
            start_corked: true,
            adjust_latency: true,
            no_move: chosen,
            ..StreamFlags::default()
        };
        match opening.direction {
            Direction::Input => self.record(id, flags, opening),
            Direction::Output => self.play(id, flags, opening),
        }
        .map_err(|error| error.to_string())
    }

    fn reconnect(&mut self) {
        // A connection that works is kept, since the thread of an abandoned one would stay for
        // ever. No other sound system is used in the meantime: it would take the card from a server
        // that comes back.
        if block_on(self.0.server_info()).is_err()
            && let Some(anew) = Self::connect()
        {
            *self = anew;
        }
    }
}

impl Pulse {
    fn record(
        &self,
        id: CString,
        flags: StreamFlags,
        opening: Opening,
    ) -> Result<Opened, ClientError> {
        let (mut callback, live, counters) = capture(CAPTURED, &opening);
        let params = RecordStreamParams {
            sample_spec: sample_spec(CAPTURED),
            channel_map: ChannelMap::mono(),
            source_name: Some(id),
            buffer_attr: BufferAttr {
                fragment_size: opening.shortened(FRAGMENT_FRAMES) * SAMPLE,
                ..BufferAttr::default()
            },
            flags,
            ..RecordStreamParams::default()
        };
        let latency = opening.latency.clone();
        let mut piece = [0.0; PIECE];
        let take = move |bytes: &[u8]| {
            let age = Duration::from_nanos(latency.load(Ordering::Relaxed));
            for samples in bytes.as_chunks().0.chunks(PIECE) {
                for (value, bytes) in piece.iter_mut().zip(samples) {
                    *value = f32::from_le_bytes(*bytes);
                }
                callback.handle(&piece[..samples.len()], age);
            }
        };
        let stream = block_on(self.0.create_record_stream(params, take))?;
        block_on(stream.uncork())?;
        let stream = Box::new(Watched::new(AnyStream::Record(stream), opening));
        Ok(Opened { stream, live, format: CAPTURED, counters })
    }

    fn play(
        &self,
        id: CString,
        flags: StreamFlags,
        opening: Opening,
    ) -> Result<Opened, ClientError> {
        let request = opening.shortened(REQUEST_FRAMES);
        let (mut callback, live, counters) = playout(PLAYED, request, &opening);
        let params = PlaybackStreamParams {
            sample_spec: sample_spec(PLAYED),
            channel_map: ChannelMap::stereo(),
            sink_name: Some(id),
            buffer_attr: BufferAttr {
                target_length: opening.shortened(TARGET_FRAMES) * frame_bytes(PLAYED),
                minimum_request_length: request * frame_bytes(PLAYED),
                ..BufferAttr::default()
            },
            flags,
            ..PlaybackStreamParams::default()
        };
        let latency = opening.latency.clone();
        let mut piece = [0.0_f32; PIECE];
        let give = move |bytes: &mut [u8]| {
            let delay = Duration::from_nanos(latency.load(Ordering::Relaxed));
            for samples in bytes.as_chunks_mut().0.chunks_mut(PIECE) {
                let values = &mut piece[..samples.len()];
                callback.handle(values, delay);
                for (bytes, value) in samples.iter_mut().zip(&*values) {
                    *bytes = value.to_le_bytes();
                }
            }
            bytes.len()
        };
        let stream = block_on(self.0.create_playback_stream(params, give.as_playback_source()))?;
        block_on(stream.uncork())?;
        let stream = Box::new(Watched::new(AnyStream::Playback(stream), opening));
        Ok(Opened { stream, live, format: PLAYED, counters })
    }
}

fn sample_spec(format: CardFormat) -> SampleSpec {
    let channels = format.channels as u8;
    SampleSpec { format: SampleFormat::Float32Le, channels, sample_rate: format.rate }
}

fn frame_bytes(format: CardFormat) -> u32 {
    format.channels as u32 * SAMPLE
}

#[derive(Clone)]
enum AnyStream {
    Record(RecordStream),
    Playback(PlaybackStream),
}

impl AnyStream {
    /// The delay from sound to us, or from us to sound. Fails if the stream has ended.
    fn latency(&self) -> Result<Duration, ClientError> {
        let (micros, queued, format) = match self {
            Self::Record(stream) => {
                let timing = block_on(stream.timing_info())?;
                (timing.source_usec, timing.write_offset - timing.read_offset, CAPTURED)
            }
            Self::Playback(stream) => {
                let timing = block_on(stream.timing_info())?;
                (timing.sink_usec, timing.write_offset - timing.read_offset, PLAYED)
            }
        };
        let queued = u64::try_from(queued).unwrap_or(0) / u64::from(frame_bytes(format));
        Ok(Duration::from_micros(micros + queued * 1_000_000 / u64::from(SAMPLE_RATE)))
    }
}

/// A stream and the thread that checks it. Both end when this is dropped.
struct Watched {
    /// Dropping it wakes the thread.
    running: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _stream: AnyStream,
}

impl Watched {
    fn new(stream: AnyStream, opening: Opening) -> Self {
        let (running, ended) = mpsc::channel::<()>();
        let watched = stream.clone();
        let Opening { latency, failed, .. } = opening;
        let failed = Arc::new(failed);
        let report = failed.clone();
        let watch = move || {
            loop {
                match watched.latency() {
                    Ok(span) => latency.store(span.as_nanos() as u64, Ordering::Relaxed),
                    Err(error) => return report(reason(&error)),
                }
                if ended.recv_timeout(WATCH_INTERVAL) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("hark-pulse".to_owned()).spawn(watch);
        if let Err(error) = &thread {
            failed(error.to_string());
        }
        Self { running: Some(running), thread: thread.ok(), _stream: stream }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // That takes at most a round trip to the server, and returns nothing.
            let _ = thread.join();
        }
    }
}

/// The reason why a stream has ended, in words for a person.
fn reason(error: &ClientError) -> String {
    match error {
        ClientError::ServerError(_) => "it was unplugged".to_owned(),
        error => format!("the sound system is gone: {error}"),
    }
}
