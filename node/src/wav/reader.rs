//! Reads a whole WAV file into memory, so that no disk can delay the voice thread.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use hark_voice::SAMPLE_RATE;
use hound::{SampleFormat, WavReader};
use rubato::{
    Async, FixedAsync, Resampler, SincInterpolationParameters, WindowFunction,
    audioadapter_buffers::direct::InterleavedSlice,
};

/// Longest file in frames: an hour at 48 kHz, 690 MB in memory. Longer ones are refused.
pub const MAX_FRAMES: usize = 3_600 * SAMPLE_RATE as usize;
/// The highest rate that converters use. A header that states a higher one counts as damaged.
const MAX_RATE: u32 = 768_000;
/// Points of the resampling filter.
const FILTER_POINTS: usize = 128;
/// Frames that the resampler takes at once. The sound is the same for any number.
const RESAMPLER_CHUNK: usize = 1_024;

/// The reason why a file cannot be an input. The messages complete "PATH …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is something else, or a WAV file with a damaged header.
    #[error("is no WAV file: {0}")]
    NotWav(&'static str),
    /// A coding other than plain integers of up to 32 bits or 32-bit floats.
    #[error("is a WAV file of a kind that Hark cannot play: convert it to 16-bit PCM")]
    Unsupported,
    /// The header promises more sound than the file holds.
    #[error("is cut off: its header promises {promised} samples and {found} are there")]
    CutOff {
        /// Samples that the header promises, over all channels.
        promised: u32,
        /// Samples that could be read.
        found: usize,
    },
    /// The file contains no sound.
    #[error("is a WAV file without sound")]
    Empty,
    /// The file is longer than [`MAX_FRAMES`].
    #[error("is longer than an hour: cut it into pieces")]
    TooLong,
}

/// Loads the sound of the file at `path`: the mean of its channels at 48 kHz, within [-1, 1].
///
/// Input frame k is at output sample k x 48,000 / rate exactly: the delay of the resampling filter
/// is removed.
pub fn load(path: &Path) -> Result<Vec<f32>, WavError> {
    read(open(path)?)
}

fn open(path: &Path) -> Result<BufReader<File>, WavError> {
    let file = File::open(path).map_err(WavError::Unreadable)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(WavError::Unreadable(io::ErrorKind::IsADirectory.into()));
    }
    Ok(BufReader::new(file))
}

/// Like [`load`], with half of what the left side differs from the right: empty, unless the file
/// has two channels that differ.
pub fn load_both(path: &Path) -> Result<(Vec<f32>, Vec<f32>), WavError> {
    read_both(open(path)?)
}

/// Reads the sound from a WAV file's bytes.
pub fn read(bytes: impl Read) -> Result<Vec<f32>, WavError> {
    read_both(bytes).map(|(mean, _)| mean)
}

fn read_both(bytes: impl Read) -> Result<(Vec<f32>, Vec<f32>), WavError> {
    let reader = WavReader::new(bytes).map_err(WavError::from)?;
    let spec = reader.spec();
    if spec.channels == 0 {
        return Err(WavError::NotWav("its header names no channel"));
    }
    if !(1..=MAX_RATE).contains(&spec.sample_rate) {
        return Err(WavError::NotWav("its header names an impossible rate"));
    }
    let promised = reader.len();
    let (mean, difference) = match (spec.sample_format, spec.bits_per_sample) {
        (SampleFormat::Float, 32) => mix(reader.into_samples::<f32>(), spec.channels, promised),
        (SampleFormat::Int, bits @ 1..=32) => {
            let scale = 1.0 / (1_u64 << (bits - 1)) as f32;
            let samples = reader.into_samples::<i32>();
            let samples = samples.map(|sample| sample.map(|value| value as f32 * scale));
            mix(samples, spec.channels, promised)
        }
        _ => Err(WavError::Unsupported),
    }?;
    if mean.is_empty() {
        return Err(WavError::Empty);
    }
    let differs = difference.iter().any(|sample| *sample != 0.0);
    let difference = if differs { resample(difference, spec.sample_rate)? } else { Vec::new() };
    Ok((resample(mean, spec.sample_rate)?, difference))
}

/// The mean of each frame's channels and, of two channels, half of what they differ.
fn mix(
    samples: impl Iterator<Item = hound::Result<f32>>,
    channels: u16,
    promised: u32,
) -> Result<(Vec<f32>, Vec<f32>), WavError> {
    let (mut mean, mut difference) = (Vec::new(), Vec::new());
    let (mut sum, mut first, mut filled) = (0.0, 0.0, 0);
    for (found, sample) in samples.enumerate() {
        let sample = sample.map_err(|error| match error {
            hound::Error::IoError(error) if is_short(&error) => {
                WavError::CutOff { promised, found }
            }
            error => error.into(),
        })?;
        let sample = if sample.is_finite() { sample } else { 0.0 };
        sum += sample;
        filled += 1;
        if filled == 1 {
            first = sample;
        }
        if filled == channels {
            if mean.len() == MAX_FRAMES {
                return Err(WavError::TooLong);
            }
            mean.push((sum / f32::from(channels)).clamp(-1.0, 1.0));
            if channels == 2 {
                difference.push((first - sum / 2.0).clamp(-1.0, 1.0));
            }
            (sum, filled) = (0.0, 0);
        }
    }
    Ok((mean, difference))
}

fn resample(mono: Vec<f32>, rate: u32) -> Result<Vec<f32>, WavError> {
    if rate == SAMPLE_RATE {
        return Ok(mono);
    }
    let ratio = f64::from(SAMPLE_RATE) / f64::from(rate);
    if mono.len() as f64 * ratio > MAX_FRAMES as f64 {
        return Err(WavError::TooLong);
    }
    let filter = SincInterpolationParameters::new(FILTER_POINTS, WindowFunction::BlackmanHarris2);
    let mut resampler =
        Async::<f32>::new_sinc(ratio, 1.0, &filter, RESAMPLER_CHUNK, 1, FixedAsync::Input)
            .expect("the rate is between 1 Hz and 768 kHz");
    // The resampler removes its delay in whole samples, and counts it one sample short. With
    // silence in front, chosen such that both delays are whole, the rest can be removed exactly.
    let (rate, delay) = (rate as usize, FILTER_POINTS / 2);
    let step = rate / greatest_common_divisor(rate, SAMPLE_RATE as usize);
    let silence = step - delay % step;
    let taken_out = (delay as f64 * ratio) as usize;
    let skip = (silence + delay) * SAMPLE_RATE as usize / rate - 1 - taken_out;
    let wanted = (mono.len() as f64 * ratio).round() as usize;
    let padded = [vec![0.0; silence], mono].concat();
    let input = InterleavedSlice::new(&padded, 1, padded.len()).expect("mono has one channel");
    let output = resampler
        .process_all(&input, padded.len(), None)
        .expect("the input has the channel and length that it was declared with");
    let mut samples: Vec<f32> = output.take_data().into_iter().skip(skip).take(wanted).collect();
    // At a steep edge, the filter rings beyond full scale.
    samples.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
    Ok(samples)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Whether the bytes ended too soon, for which hound returns an error of kind `Other`.
fn is_short(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::UnexpectedEof)
}

impl From<hound::Error> for WavError {
    fn from(error: hound::Error) -> Self {
        match error {
            hound::Error::IoError(error) if is_short(&error) => {
                Self::NotWav("it ends within its header")
            }
            hound::Error::IoError(error) => Self::Unreadable(error),
            hound::Error::FormatError(reason) => Self::NotWav(reason),
            hound::Error::Unsupported | hound::Error::InvalidSampleFormat => Self::Unsupported,
            hound::Error::TooWide => Self::Unsupported,
            hound::Error::UnfinishedSample => Self::NotWav("its last sample is incomplete"),
        }
    }
}
