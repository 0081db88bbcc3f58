//! Durations, rates, sizes and shares as people write them in scenario files.
//!
//! `"150ms"`, `"2 Mbit/s"`, `"64 kB"` and `0.1` or `"10 %"`. Each type parses what it prints, and
//! an error says what to write instead. Decimals are exact: nothing is rounded when they are read.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::form::{from_text, from_value_or_table};

mod form;
#[cfg(test)]
mod tests;

/// A span of time in whole nanoseconds: `250us`, `150ms`, `1.5s`, `1m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// A span of `milliseconds` milliseconds.
    pub const fn from_millis(milliseconds: u32) -> Self {
        Self(milliseconds as u64 * 1_000_000)
    }

    /// A span of `nanoseconds` nanoseconds.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// The span as a [`Duration`].
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Its length in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.as_duration()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SPAN.write(self.0, f)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        SPAN.read(text).map(Self)
    }
}

/// How fast a link sends, in bits per second and never zero: `256 kbit/s`, `2 Mbit/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(NonZeroU64);

impl BitRate {
    /// A rate of `bits` in each second.
    pub const fn from_bits_per_second(bits: NonZeroU64) -> Self {
        Self(bits)
    }

    /// Bits in each second.
    pub const fn as_bits_per_second(self) -> u64 {
        self.0.get()
    }

    /// How long it takes to send `bytes` bytes, rounded up to a nanosecond.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanoseconds = (u128::from(bytes) * 8_000_000_000).div_ceil(self.0.get().into());
        Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX))
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RATE.write(self.0.get(), f)
    }
}

impl FromStr for BitRate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bits = NonZeroU64::new(RATE.read(text)?);
        bits.map(Self).ok_or_else(|| UnitError::ZeroRate(text.to_owned()))
    }
}

/// A number of bytes: `1500 B`, `64 kB`, `1 MB`, `1 MiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// A size of `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SIZE.write(self.0, f)
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        SIZE.read(text).map(Self)
    }
}

/// A part of a whole, from 0 to 1: `0.1` or `"10 %"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// No part: 0.
    pub const NONE: Self = Self(0.0);
    /// The whole: 1.
    pub const ALL: Self = Self(1.0);

    /// The share `value`; `None` unless it lies between 0 and 1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The share as a number from 0 to 1.
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let percent = text.trim().strip_suffix('%');
        let number = percent.unwrap_or(text).trim();
        let value: f64 = number.parse().map_err(|_| UnitError::NotAShare(text.to_owned()))?;
        let share = Self::new(if percent.is_some() { value / 100.0 } else { value });
        share.ok_or_else(|| match percent {
            None if value > 1.0 && value <= 100.0 => {
                UnitError::PercentMeant { text: text.to_owned(), share: value / 100.0 }
            }
            _ => UnitError::NotAShare(text.to_owned()),
        })
    }
}

/// Why a text is not the expected quantity, and what to write instead.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// The text is a number without a unit.
    #[error("`{text}` has no unit: write {text}{0}{1} or {text}{0}{2}", .measure.gap,
        .measure.usual[0], .measure.usual[1])]
    NoUnit {
        /// The text that was written.
        text: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// The unit is almost the right one.
    #[error("`{unit}` is not a unit of {0}: write {suggestion}", .measure.name)]
    AlmostUnit {
        /// The unit that was written.
        unit: String,
        /// The whole quantity with the right unit.
        suggestion: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// The unit belongs to another quantity.
    #[error("`{unit}` is not a unit of {0}: the units are {1}", .measure.name,
        .measure.unit_names())]
    UnknownUnit {
        /// The unit that was written.
        unit: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// There is no number, or none before the unit.
    #[error("`{text}` is not a {0}: write a number and a unit, such as 10{1}{2}", .measure.name,
        .measure.gap, .measure.usual[0])]
    NoNumber {
        /// The text that was written.
        text: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// The number has more digits than the smallest unit resolves.
    #[error("`{text}` is finer than 1{0}{1}", .measure.gap, .measure.units[0].name)]
    TooFine {
        /// The text that was written.
        text: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// The quantity is larger than its type can hold.
    #[error("`{text}` is too large for a {0}", .measure.name)]
    TooLarge {
        /// The text that was written.
        text: String,
        /// The quantity that was expected.
        measure: &'static Measure,
    },
    /// The rate is zero, so the link would never send.
    #[error("`{0}` would never send anything: for a dead link write loss = 1")]
    ZeroRate(String),
    /// The number is neither from 0 to 1 nor from 0 to 100 %.
    #[error("`{0}` is not a share: write 0.1 or \"10 %\"")]
    NotAShare(String),
    /// The number was probably meant as a percentage, but the percent sign is missing.
    #[error("`{text}` is more than 1: write {share} or \"{text} %\"")]
    PercentMeant {
        /// The text that was written.
        text: String,
        /// The share that it would be as a percentage.
        share: f64,
    },
}

/// One kind of quantity and its units.
#[derive(Debug, PartialEq)]
pub struct Measure {
    name: &'static str,
    /// The text between the number and the unit.
    gap: &'static str,
    /// The units from small to large. The first one counts 1.
    units: &'static [Unit],
    /// Two units to suggest to a person who wrote none.
    usual: [&'static str; 2],
}

#[derive(Debug, PartialEq)]
struct Unit {
    name: &'static str,
    size: u64,
    /// What people write when they mean this unit.
    mistaken: &'static [&'static str],
}

impl Measure {
    fn read(&'static self, text: &str) -> Result<u64, UnitError> {
        let measure = self;
        let owned = || text.to_owned();
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..end], trimmed[end..].trim());
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(UnitError::NoNumber { text: owned(), measure });
        }
        if unit.is_empty() {
            return Err(UnitError::NoUnit { text: number.to_owned(), measure });
        }
        let Some(Unit { size, .. }) = self.units.iter().find(|known| known.name == unit) else {
            return Err(self.unknown(number, unit));
        };
        let too_large = || UnitError::TooLarge { text: owned(), measure };
        let fraction = fraction.trim_end_matches('0');
        let scale =
            u32::try_from(fraction.len()).ok().and_then(|digits| 10u128.checked_pow(digits));
        let digits: Option<u128> = format!("{whole}{fraction}").parse().ok();
        let (Some(scale), Some(digits)) = (scale, digits) else { return Err(too_large()) };
        let value = digits.checked_mul((*size).into()).ok_or_else(too_large)?;
        if value % scale != 0 {
            return Err(UnitError::TooFine { text: owned(), measure });
        }
        u64::try_from(value / scale).map_err(|_| too_large())
    }

    fn write(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&Unit| value != 0 && value.is_multiple_of(unit.size);
        let unit = self.units.iter().rev().find(fits).unwrap_or(&self.units[0]);
        write!(f, "{}{}{}", value / unit.size, self.gap, unit.name)
    }

    fn unknown(&'static self, number: &str, unit: &str) -> UnitError {
        let meant = self.units.iter().find(|known| {
            let mut spellings = known.mistaken.iter().chain([&known.name]);
            known.mistaken.contains(&unit) || spellings.any(|name| name.eq_ignore_ascii_case(unit))
        });
        let unit = unit.to_owned();
        match meant {
            Some(known) => {
                let suggestion = format!("{number}{}{}", self.gap, known.name);
                UnitError::AlmostUnit { unit, suggestion, measure: self }
            }
            None => UnitError::UnknownUnit { unit, measure: self },
        }
    }

    fn unit_names(&self) -> String {
        self.units.iter().map(|unit| unit.name).collect::<Vec<_>>().join(", ")
    }
}

const fn unit(name: &'static str, size: u64, mistaken: &'static [&'static str]) -> Unit {
    Unit { name, size, mistaken }
}

static SPAN: Measure = Measure {
    name: "duration",
    gap: "",
    units: &[
        unit("ns", 1, &["nsec", "nanoseconds"]),
        unit("us", 1_000, &["µs", "μs", "usec", "microseconds"]),
        unit("ms", 1_000_000, &["msec", "millis", "milliseconds"]),
        unit("s", 1_000_000_000, &["sec", "secs", "second", "seconds"]),
        unit("m", 60_000_000_000, &["min", "mins", "minute", "minutes"]),
        unit("h", 3_600_000_000_000, &["hour", "hours"]),
    ],
    usual: ["ms", "s"],
};

static RATE: Measure = Measure {
    name: "rate",
    gap: " ",
    units: &[
        unit("bit/s", 1, &["bps", "b/s", "bit", "bits/s"]),
        unit("kbit/s", 1_000, &["kbps", "kb/s", "kbit", "kbits/s", "k"]),
        unit("Mbit/s", 1_000_000, &["mbps", "Mb/s", "Mbit", "Mbits/s", "M"]),
        unit("Gbit/s", 1_000_000_000, &["gbps", "Gb/s", "Gbit", "Gbits/s", "G"]),
    ],
    usual: ["kbit/s", "Mbit/s"],
};

static SIZE: Measure = Measure {
    name: "size",
    gap: " ",
    units: &[
        unit("B", 1, &["byte", "bytes"]),
        unit("kB", 1_000, &["k"]),
        unit("KiB", 1 << 10, &[]),
        unit("MB", 1_000_000, &["M"]),
        unit("MiB", 1 << 20, &[]),
        unit("GB", 1_000_000_000, &["G"]),
        unit("GiB", 1 << 30, &[]),
    ],
    usual: ["B", "kB"],
};

macro_rules! written_as_text {
    ($type:ty, $expected:literal) => {
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::units::from_text(from, $expected)
            }
        }
    };
}
pub(crate) use written_as_text;

written_as_text!(Span, "a duration such as \"10ms\"");
written_as_text!(BitRate, "a rate such as \"2 Mbit/s\"");
written_as_text!(Size, "a size such as \"64 kB\"");

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a share such as 0.1 or \"10 %\"")
    }
}
