//! Recordings of real links: when they could send, and how their delay and loss changed.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    built_in,
    units::{Share, Span},
};

/// The moments at which a link could send 1500 bytes, in the format of mahimahi (`mm-link`): one
/// whole number of milliseconds in each line, none smaller than the one before. The recording
/// repeats, and its last number is the period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opportunities {
    milliseconds: Vec<u32>,
    period: u32,
}

/// One opportunity of the endlessly repeated recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Position {
    cycle: u64,
    index: usize,
}

impl Opportunities {
    /// The time of an opportunity, from the start of the recording.
    pub(super) fn time(&self, position: Position) -> Duration {
        let start = position.cycle.saturating_mul(self.period.into());
        Duration::from_millis(start.saturating_add(self.milliseconds[position.index].into()))
    }

    /// The first opportunity that is later than `elapsed` after the start.
    pub(super) fn after(&self, elapsed: Duration) -> Position {
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let (cycle, rest) = (elapsed / u64::from(self.period), elapsed % u64::from(self.period));
        // There is always such an opportunity, since the last one is at the period and `rest` is
        // less.
        let index = self.milliseconds.partition_point(|&time| u64::from(time) <= rest);
        Position { cycle, index }
    }

    /// The next opportunity.
    pub(super) fn next(&self, position: Position) -> Position {
        match position.index + 1 {
            index if index < self.milliseconds.len() => Position { index, ..position },
            _ => Position { cycle: position.cycle + 1, index: 0 },
        }
    }
}

impl FromStr for Opportunities {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut milliseconds: Vec<u32> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let time = text
                .parse()
                .map_err(|_| TraceError::NotMilliseconds { line, text: shortened(text) })?;
            if milliseconds.last().is_some_and(|&before| time < before) {
                return Err(TraceError::Backwards { line });
            }
            milliseconds.push(time);
        }
        match milliseconds.last().copied() {
            None => Err(TraceError::Empty),
            Some(0) => Err(TraceError::NoPeriod { line: milliseconds.len() }),
            Some(period) => Ok(Self { milliseconds, period }),
        }
    }
}

/// How a link's delay and loss changed: lines of `time_ms,delay_ms,loss`, each later than the one
/// before. The first line may contain these names. A line holds until the next one does. The first
/// also holds before its time, and the last for ever.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSeries {
    lines: Vec<(Span, Conditions)>,
}

/// The delay that a link adds to a packet, and the probability that it loses the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The delay that is added.
    pub delay: Span,
    /// The share of packets lost.
    pub loss: Share,
}

impl RateSeries {
    /// The conditions `elapsed` after the start.
    pub fn at(&self, elapsed: Duration) -> Conditions {
        let following = self.lines.partition_point(|(time, _)| time.as_duration() <= elapsed);
        self.lines[following.saturating_sub(1)].1
    }
}

impl FromStr for RateSeries {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut lines: Vec<(Span, Conditions)> = Vec::new();
        let header = usize::from(text.lines().next().is_some_and(|first| first.trim() == HEADER));
        for (line, text) in (1..).zip(text.lines()).skip(header) {
            let (time, conditions) = conditions(text)
                .ok_or_else(|| TraceError::NotConditions { line, text: shortened(text) })?;
            if lines.last().is_some_and(|&(before, _)| time <= before) {
                return Err(TraceError::NotLater { line });
            }
            lines.push((time, conditions));
        }
        if lines.is_empty() { Err(TraceError::Empty) } else { Ok(Self { lines }) }
    }
}

/// A recording in a file. In a scenario it is the file's path.
#[derive(Clone, PartialEq)]
pub struct TraceFile<T> {
    path: PathBuf,
    contents: Option<Arc<T>>,
}

impl<T: FromStr<Err = TraceError>> TraceFile<T> {
    /// Reads the file, if that has not happened yet. Its path is relative to `folder`; if there is
    /// no such file, one that comes with Hark is used.
    pub fn load(&mut self, folder: &Path) -> Result<(), LoadError> {
        if self.contents.is_none() {
            let path = folder.join(&self.path);
            let text = match read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match built_in::file(&self.path) {
                        Some(text) => text.to_owned(),
                        None => return Err(LoadError::Read { path, error }),
                    }
                }
                Err(error) => return Err(LoadError::Read { path, error }),
            };
            match text.parse() {
                Ok(contents) => self.contents = Some(Arc::new(contents)),
                Err(error) => return Err(LoadError::Parse { path, error }),
            }
        }
        Ok(())
    }
}

impl<T> TraceFile<T> {
    /// The file's path, as the scenario gives it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parsed contents of the file.
    ///
    /// # Panics
    ///
    /// Panics if the file is not loaded.
    pub(super) fn contents(&self) -> &Arc<T> {
        self.contents.as_ref().expect("recordings are loaded before a link uses them")
    }
}

impl<T> From<T> for TraceFile<T> {
    /// A recording that needs no file.
    fn from(contents: T) -> Self {
        Self { path: PathBuf::new(), contents: Some(Arc::new(contents)) }
    }
}

impl<T> fmt::Debug for TraceFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl<T> Serialize for TraceFile<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for TraceFile<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PathBuf::deserialize(deserializer).map(|path| Self { path, contents: None })
    }
}

/// What is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file contains no line.
    #[error("the recording is empty")]
    Empty,
    /// A line is not in mahimahi's format.
    #[error("line {line}: `{text}` is not a whole number of milliseconds")]
    NotMilliseconds {
        /// The number of the line, counted from 1.
        line: usize,
        /// The text of the line.
        text: String,
    },
    /// A line's time is before that of the line above.
    #[error("line {line}: the time is before that of the line above")]
    Backwards {
        /// The number of the line, counted from 1.
        line: usize,
    },
    /// The recording would repeat endlessly at one moment, since its period is zero.
    #[error("line {line}: the last time is the period and cannot be 0")]
    NoPeriod {
        /// The number of the line, counted from 1.
        line: usize,
    },
    /// A line does not belong to a series.
    #[error("line {line}: `{text}` is not time_ms,delay_ms,loss, such as 1500,42.5,0.01")]
    NotConditions {
        /// The number of the line, counted from 1.
        line: usize,
        /// The text of the line.
        text: String,
    },
    /// A line's time is not after that of the line above.
    #[error("line {line}: the time is not after that of the line above")]
    NotLater {
        /// The number of the line, counted from 1.
        line: usize,
    },
}

/// Why a model's recordings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file is not a recording.
    #[error("{}: {error}", .path.display())]
    Parse {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        error: TraceError,
    },
    /// The link would have two rates, since it has this recording and `rate`.
    #[error("the link's rate is recorded in {}: leave out rate, or opportunities", .0.display())]
    TwoRates(PathBuf),
}

/// Parses a line of a series: the time, and the conditions from then on.
fn conditions(line: &str) -> Option<(Span, Conditions)> {
    let mut fields = line.split(',').map(str::trim);
    let (time, delay, loss) = (fields.next()?, fields.next()?, fields.next()?);
    let span = |milliseconds: &str| format!("{milliseconds}ms").parse().ok();
    let conditions = Conditions { delay: span(delay)?, loss: loss.parse().ok()? };
    fields.next().is_none().then_some((span(time)?, conditions))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(text)
}

/// The beginning of a line, long enough to find it.
fn shortened(line: &str) -> String {
    line.chars().take(40).collect()
}

const HEADER: &str = "time_ms,delay_ms,loss";

/// The largest file that is accepted, in bytes. An hour of a fast cellular link needs a tenth of
/// it.
const LARGEST_FILE: u64 = 16 << 20;
