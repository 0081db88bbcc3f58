//! Recordings of real links: when they could send, and how their delay and loss went.

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
/// repeats with its last number as the period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opportunities {
    milliseconds: Vec<u32>,
    period: u32,
}

/// One opportunity of the endless repetition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Position {
    cycle: u64,
    index: usize,
}

impl Opportunities {
    /// When an opportunity comes, from the start of the recording.
    pub(super) fn time(&self, position: Position) -> Duration {
        let start = position.cycle.saturating_mul(self.period.into());
        Duration::from_millis(start.saturating_add(self.milliseconds[position.index].into()))
    }

    /// The first opportunity that is later than `elapsed` after the start.
    pub(super) fn after(&self, elapsed: Duration) -> Position {
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let (cycle, rest) = (elapsed / u64::from(self.period), elapsed % u64::from(self.period));
        // There is always one: the last is at the period, and the rest is less.
        let index = self.milliseconds.partition_point(|&time| u64::from(time) <= rest);
        Position { cycle, index }
    }

    /// The opportunity that follows.
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

/// How a link's delay and loss went: lines of `time_ms,delay_ms,loss`, the first perhaps with those
/// names, each later than the one before. A line holds until the next one does, the first also
/// before its time, and the last for good.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSeries {
    lines: Vec<(Span, Conditions)>,
}

/// What a link adds to a packet's delay, and its chance to be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The delay.
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
    /// Reads the file, where that has not happened yet, at its path relative to `folder`; one that
    /// is not there may have come with Hark.
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
    /// The file's path, as it was written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says.
    ///
    /// # Panics
    ///
    /// Panics where it is not loaded.
    pub(super) fn contents(&self) -> &Arc<T> {
        self.contents.as_ref().expect("recordings are loaded before a link uses them")
    }
}

impl<T> From<T> for TraceFile<T> {
    /// A recording that is at hand and needs no file.
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
    /// There is no line in it.
    #[error("the recording is empty")]
    Empty,
    /// Not a line of mahimahi's format.
    #[error("line {line}: `{text}` is not a whole number of milliseconds")]
    NotMilliseconds {
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// Time goes back.
    #[error("line {line}: the time is before that of the line above")]
    Backwards {
        /// The line, from 1.
        line: usize,
    },
    /// A recording that would repeat without end at one moment.
    #[error("line {line}: the last time is the period and cannot be 0")]
    NoPeriod {
        /// The line, from 1.
        line: usize,
    },
    /// Not a line of a series.
    #[error("line {line}: `{text}` is not time_ms,delay_ms,loss, such as 1500,42.5,0.01")]
    NotConditions {
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// Two lines for the same time, or time goes back.
    #[error("line {line}: the time is not after that of the line above")]
    NotLater {
        /// The line, from 1.
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
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not a recording.
    #[error("{}: {error}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TraceError,
    },
    /// The link would have two rates.
    #[error("the link's rate is recorded in {}: leave out rate, or opportunities", .0.display())]
    TwoRates(PathBuf),
}

/// What a line of a series says: the time, and what holds from then on.
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

/// Enough of a line to find it.
fn shortened(line: &str) -> String {
    line.chars().take(40).collect()
}

const HEADER: &str = "time_ms,delay_ms,loss";

/// Larger files are refused. An hour of a fast cellular link is a tenth of this.
const LARGEST_FILE: u64 = 16 << 20;
