//! Spans of time as people write them.

use std::time::Duration;

/// A span of time as people write it: `30s`, `2m`, `24h`, `7d`, `500ms`; 1 ms to a year.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unreadable = || DurationError::Unreadable(text.to_owned());
    let range = || DurationError::Range(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(unreadable)?;
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(unreadable());
    }
    // Digits alone: it is too long for a number, if it is none.
    let number: u64 = number.parse().map_err(|_| range())?;
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(unreadable()),
    };
    let millis = number.checked_mul(factor_ms).filter(|millis| *millis <= LONGEST_MS);
    match millis {
        Some(0) | None => Err(range()),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

/// The same in whole seconds.
pub fn parse_secs(text: &str) -> Result<u64, DurationError> {
    let span = parse(text)?;
    match span.subsec_nanos() {
        0 => Ok(span.as_secs()),
        _ => Err(DurationError::Fraction(text.to_owned())),
    }
}

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// It is no number with a unit.
    #[error("`{0}` is no span of time: write for instance 30s, 2m or 24h")]
    Unreadable(String),
    /// It is too short or too long.
    #[error("`{0}` is out of range: 1ms to {days} days", days = LONGEST_MS / 86_400_000)]
    Range(String),
    /// It has a fraction of a second.
    #[error("`{0}` is not a number of whole seconds")]
    Fraction(String),
}

/// A year: longer spans are mistakes, and would overflow somewhere.
const LONGEST_MS: u64 = 366 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "s", "0s", "-3s", "1.5h", "3 s", "99999999999999999999s", "9999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        // It was said to be no span of time.
        for long in ["99999h", "0s", "99999999999999999999s"] {
            assert!(matches!(parse(long), Err(DurationError::Range(_))), "{long}");
        }
    }
}
