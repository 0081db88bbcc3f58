//! Sound cards through cpal, which supports those of every operating system.

use std::{sync::atomic::Ordering, time::Duration};

use cpal::{
    BufferSize, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize,
    SupportedStreamConfigRange,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};
use hark_voice::SAMPLE_RATE;

use super::{
    CardFormat, DeviceInfo, Opened, Opening, SoundSystem, capture, platform::Quiet, playout,
};
use crate::event::Direction;

/// How long the sound system may take to open a sound card.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Frames that cards are asked to deliver or take at once: 10 ms at 48 kHz, or half of it for low
/// delay. Never left to the sound system, which may choose many more.
const PERIOD_FRAMES: u32 = 480;

/// The sound system that cpal prefers on this machine.
pub(super) struct Portable {
    host: cpal::Host,
    _quiet: Quiet,
}

impl Portable {
    pub(super) fn new() -> Self {
        Self { _quiet: Quiet::new(), host: cpal::default_host() }
    }

    fn devices(&self, direction: Direction) -> Vec<cpal::Device> {
        let Ok(all) = self.host.devices() else { return Vec::new() };
        all.filter(|device| match direction {
            Direction::Input => device.supports_input(),
            Direction::Output => device.supports_output(),
        })
        .collect()
    }

    fn default_device(&self, direction: Direction) -> Option<cpal::Device> {
        let (device, works) = match direction {
            Direction::Input => {
                let device = self.host.default_input_device()?;
                let works =
                    device.supported_input_configs().is_ok_and(|mut it| it.next().is_some());
                (device, works)
            }
            Direction::Output => {
                let device = self.host.default_output_device()?;
                let works =
                    device.supported_output_configs().is_ok_and(|mut it| it.next().is_some());
                (device, works)
            }
        };
        // ALSA has a default even if there is no card at all.
        works.then_some(device)
    }
}

impl SoundSystem for Portable {
    fn name(&self) -> String {
        self.host.id().name().to_owned()
    }

    fn cards(&self, direction: Direction) -> Vec<DeviceInfo> {
        let default = self.default_device(direction);
        let devices = self.devices(direction);
        devices.iter().map(|device| info(device, default.as_ref() == Some(device))).collect()
    }

    fn default_id(&self, direction: Direction) -> Option<String> {
        let device = match direction {
            Direction::Input => self.host.default_input_device(),
            Direction::Output => self.host.default_output_device(),
        };
        device.as_ref().map(id)
    }

    fn default_card(&self, direction: Direction) -> Option<DeviceInfo> {
        self.default_device(direction).map(|device| info(&device, true))
    }

    fn open(&self, card: &DeviceInfo, chosen: bool, opening: Opening) -> Result<Opened, String> {
        let device = if chosen {
            let devices = self.devices(opening.direction);
            devices.into_iter().find(|device| id(device) == card.id)
        } else {
            self.default_device(opening.direction)
        };
        let device = device.ok_or("it is gone")?;
        start(&device, opening).map_err(|error| error.to_string())
    }

    fn reconnect(&mut self) {
        *self = Self::new();
    }
}

fn info(device: &cpal::Device, default: bool) -> DeviceInfo {
    // To ask for its rate, ALSA would open the card.
    DeviceInfo { name: device.to_string(), id: id(device), default, rate_hz: None }
}

fn id(device: &cpal::Device) -> String {
    device.id().map(|id| id.id().to_owned()).unwrap_or_default()
}

fn start(device: &cpal::Device, opening: Opening) -> Result<Opened, cpal::Error> {
    let (config, sample_format) = choose(device, &opening)?;
    match sample_format {
        SampleFormat::F32 => build::<f32>(device, config, opening),
        SampleFormat::I32 => build::<i32>(device, config, opening),
        SampleFormat::I16 => build::<i16>(device, config, opening),
        SampleFormat::U16 => build::<u16>(device, config, opening),
        SampleFormat::U8 => build::<u8>(device, config, opening),
        other => Err(cpal::Error::with_message(
            cpal::ErrorKind::UnsupportedConfig,
            format!("nothing is known of its sample format {other}"),
        )),
    }
}

/// Chooses the settings for `device`: 48 kHz if it can, floats if it can, and a short period.
fn choose(
    device: &cpal::Device,
    opening: &Opening,
) -> Result<(StreamConfig, SampleFormat), cpal::Error> {
    let (default, ranges): (_, Vec<SupportedStreamConfigRange>) = match opening.direction {
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
    let period = opening.shortened(PERIOD_FRAMES * best.sample_rate() / SAMPLE_RATE);
    let period = match *best.buffer_size() {
        SupportedBufferSize::Range { min, max } if min <= max => period.clamp(min, max),
        SupportedBufferSize::Range { .. } | SupportedBufferSize::Unknown => period,
    };
    let config = StreamConfig { buffer_size: BufferSize::Fixed(period), ..best.config() };
    Ok((config, best.sample_format()))
}

/// The rank of a sample format that can be opened; a lower one is better.
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

fn build<T: SizedSample + FromSample<f32> + Send>(
    device: &cpal::Device,
    config: StreamConfig,
    opening: Opening,
) -> Result<Opened, cpal::Error>
where
    f32: FromSample<T>,
{
    let format =
        CardFormat { rate: config.sample_rate, channels: usize::from(config.channels.max(1)) };
    let latency = opening.latency.clone();
    let note = move |span: Duration| {
        latency.store(span.as_nanos() as u64, Ordering::Relaxed);
        span
    };
    let timeout = Some(OPEN_TIMEOUT);
    let (stream, live, counters) = match opening.direction {
        Direction::Input => {
            let (mut callback, live, counters) = capture(format, &opening);
            let stream = device.build_input_stream::<T, _, _>(
                config,
                move |data, info| {
                    let time = info.timestamp();
                    let age = time.callback.saturating_duration_since(time.capture);
                    callback.handle(data, note(age));
                },
                on_error(opening),
                timeout,
            )?;
            (stream, live, counters)
        }
        Direction::Output => {
            let period = match config.buffer_size {
                BufferSize::Fixed(frames) => frames,
                BufferSize::Default => PERIOD_FRAMES,
            };
            let (mut callback, live, counters) = playout(format, period, &opening);
            let stream = device.build_output_stream::<T, _, _>(
                config,
                move |data, info| {
                    let time = info.timestamp();
                    let delay = time.playback.saturating_duration_since(time.callback);
                    callback.handle(data, note(delay));
                },
                on_error(opening),
                timeout,
            )?;
            (stream, live, counters)
        }
    };
    stream.play()?;
    Ok(Opened { stream: Box::new(stream), live, format, counters })
}

fn on_error(opening: Opening) -> impl Fn(cpal::Error) + Send + 'static {
    move |error| match error.kind() {
        // The card continues by itself, and the rings count what was lost.
        cpal::ErrorKind::Xrun
        | cpal::ErrorKind::DeviceChanged
        | cpal::ErrorKind::RealtimeDenied => {}
        _ => (opening.failed)(error.to_string()),
    }
}
