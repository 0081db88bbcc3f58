//! How long packets take to travel.
//!
//! Logarithms and powers come from the libm crate. The last bit of those of the system's library
//! depends on its version and on the processor.

use std::time::Duration;

use hark_keys::Timestamp;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::units::{Span, from_value_or_table};

/// How long packets take to travel: `"40ms"`, or a table with one [`Distribution`] such as
/// `{ normal = { mean = "40ms", deviation = "5ms" } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Delay {
    /// The same delay for all packets.
    Fixed(Span),
    /// A delay that is drawn for each packet.
    Drawn(Distribution),
}

impl Delay {
    /// Draws the delay of the next packet.
    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> Duration {
        match self {
            Self::Fixed(span) => span.as_duration(),
            Self::Drawn(distribution) => distribution.draw(rng).min(LONGEST_DRAWN),
        }
    }
}

impl Default for Delay {
    fn default() -> Self {
        Self::Fixed(Span::default())
    }
}

impl From<Span> for Delay {
    fn from(span: Span) -> Self {
        Self::Fixed(span)
    }
}

impl From<Distribution> for Delay {
    fn from(distribution: Distribution) -> Self {
        Self::Drawn(distribution)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration such as \"40ms\", or a table with a distribution";
        from_value_or_table::<D, Span, Distribution, Self>(deserializer, expected)
    }
}

/// The distribution of delays. A drawn delay is never longer than ten minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Uniform between two spans.
    Uniform {
        /// The shortest delay.
        from: Span,
        /// The longest delay.
        to: Span,
    },
    /// A normal distribution, cut off at zero: a negative delay is drawn again.
    Normal {
        /// The mean.
        mean: Span,
        /// The standard deviation.
        deviation: Span,
    },
    /// `base` plus a gamma distributed part, of mean `shape * scale` and variance
    /// `shape * scale^2`.
    Gamma {
        /// The smallest delay.
        base: Span,
        /// The shape of the gamma distribution: 1 is exponential, large values approach a bell
        /// curve.
        shape: Shape,
        /// The scale of the gamma distribution.
        scale: Span,
    },
    /// `base` plus a part with a heavy tail (Pareto, type I): that part is longer than `x >= scale`
    /// for a share `(scale / x)^shape` of packets.
    Pareto {
        /// The constant part of the delay; the smallest delay is `base + scale`.
        base: Span,
        /// How light the tail is: with 2 or less the variance is infinite, with 1 or less the mean
        /// is too.
        shape: Shape,
        /// The smallest value of the drawn part.
        scale: Span,
    },
}

impl Distribution {
    fn draw(self, rng: &mut ChaCha8Rng) -> Duration {
        match self {
            Self::Uniform { from, to } => {
                let width = to.as_nanos().saturating_sub(from.as_nanos());
                from.as_duration() + nanoseconds(rng.random::<f64>() * width as f64)
            }
            Self::Normal { mean, deviation } => loop {
                let delay = mean.as_nanos() as f64 + normal(rng) * deviation.as_nanos() as f64;
                if delay >= 0.0 {
                    return nanoseconds(delay);
                }
            },
            Self::Gamma { base, shape, scale } => {
                base.as_duration() + nanoseconds(gamma(shape.0, rng) * scale.as_nanos() as f64)
            }
            Self::Pareto { base, shape, scale } => {
                let factor = libm::pow(positive(rng), -1.0 / shape.0);
                base.as_duration() + nanoseconds(factor * scale.as_nanos() as f64)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let mut named = [
            table.uniform.map(|Uniform { from, to }| Self::Uniform { from, to }),
            table.normal.map(|Normal { mean, deviation }| Self::Normal { mean, deviation }),
            table.gamma.map(|Tail { base, shape, scale }| Self::Gamma { base, shape, scale }),
            table.pareto.map(|Tail { base, shape, scale }| Self::Pareto { base, shape, scale }),
        ]
        .into_iter()
        .flatten();
        match (named.next(), named.next()) {
            (Some(Self::Uniform { from, to }), None) if to < from => {
                Err(de::Error::custom(format!("no delay lies from {from} to {to}: swap the two")))
            }
            (Some(distribution), None) => Ok(distribution),
            _ => Err(de::Error::custom(
                "a delay has one distribution: write uniform, normal, gamma or pareto",
            )),
        }
    }
}

/// The shape of a distribution: positive and finite.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Shape(f64);

impl Shape {
    /// The shape `value`; `None` unless it is positive and finite.
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value.is_finite()).then_some(Self(value))
    }
}

impl TryFrom<f64> for Shape {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("`{value}` is not a shape: it must be above 0"))
    }
}

/// Periods in which every packet takes longer, as while a radio changes cells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spikes {
    /// The average time from the start of one spike to the start of the next. At least 1 ms.
    pub every: Span,
    /// The delay that a spike adds.
    pub extra: Span,
    /// How long a spike lasts. A spike that starts within another prolongs it.
    pub lasting: Span,
    /// Whether spikes come at random or at even intervals.
    #[serde(default)]
    pub spacing: Spacing,
}

/// How the starts of spikes are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// At random, as in a Poisson process.
    #[default]
    Exponential,
    /// At even intervals.
    Fixed,
}

impl Spikes {
    fn gap(self, rng: &mut ChaCha8Rng) -> Duration {
        let gap = match self.spacing {
            Spacing::Fixed => self.every.as_duration(),
            Spacing::Exponential => {
                nanoseconds(-libm::log(positive(rng)) * self.every.as_nanos() as f64)
            }
        };
        gap.max(SHORTEST_GAP)
    }
}

/// The times when the last spike ends and when the next one begins.
#[derive(Debug, Default)]
pub(super) struct SpikeClock {
    next: Timestamp,
    until: Timestamp,
}

impl SpikeClock {
    /// The first spike comes one gap after `now`.
    pub(super) fn new(now: Timestamp, spikes: Option<Spikes>, rng: &mut ChaCha8Rng) -> Self {
        Self { next: now + spikes.map_or(Duration::ZERO, |spikes| spikes.gap(rng)), until: now }
    }

    /// The delay that a spike adds to a packet sent at `at`. Calls must come in order of `at`.
    pub(super) fn extra(
        &mut self,
        at: Timestamp,
        spikes: Option<Spikes>,
        rng: &mut ChaCha8Rng,
    ) -> Duration {
        let Some(spikes) = spikes else { return Duration::ZERO };
        while self.next <= at {
            self.until = self.next + spikes.lasting.as_duration();
            self.next = self.next + spikes.gap(rng);
        }
        if at < self.until { spikes.extra.as_duration() } else { Duration::ZERO }
    }
}

/// A delay in a file: exactly one of these keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    uniform: Option<Uniform>,
    normal: Option<Normal>,
    gamma: Option<Tail>,
    pareto: Option<Tail>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Uniform {
    from: Span,
    to: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Normal {
    mean: Span,
    deviation: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    #[serde(default)]
    base: Span,
    shape: Shape,
    scale: Span,
}

/// A standard normal number. G. E. P. Box and M. E. Muller, "A Note on the Generation of Random
/// Normal Deviates", 1958. The second number of the pair is discarded, so that no state is kept.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * libm::log(positive(rng))).sqrt();
    radius * libm::cos(std::f64::consts::TAU * rng.random::<f64>())
}

/// A gamma distributed number of scale 1. G. Marsaglia and W. W. Tsang, "A Simple Method for
/// Generating Gamma Variables", 2000; shapes below 1 are treated as in its section 6.
fn gamma(shape: f64, rng: &mut ChaCha8Rng) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * libm::pow(positive(rng), 1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let root = 1.0 + c * x;
        let v = root * root * root;
        if v > 0.0 && libm::log(positive(rng)) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

/// A random number above 0 and at most 1.
fn positive(rng: &mut ChaCha8Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

/// `count` nanoseconds, rounded, and limited to what a `u64` of nanoseconds holds.
fn nanoseconds(count: f64) -> Duration {
    Duration::from_nanos((count + 0.5) as u64)
}

/// The upper limit of a drawn delay. Without it, a tail with a shape near zero would exceed what a
/// timestamp holds.
const LONGEST_DRAWN: Duration = Duration::from_secs(600);

/// The shortest gap between spikes. With shorter gaps it would be expensive to catch up after a
/// long silence on the link.
const SHORTEST_GAP: Duration = Duration::from_millis(1);
