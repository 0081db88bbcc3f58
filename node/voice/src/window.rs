use std::time::Duration;

use hark_keys::Timestamp;

/// The smallest value in the last one to two windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowMinimum {
    window: Duration,
    started: Timestamp,
    current: i64,
    previous: i64,
}

impl WindowMinimum {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, started: Timestamp::ZERO, current: i64::MAX, previous: i64::MAX }
    }

    /// Adds `value` and returns the minimum, which is never larger than `value`.
    pub(crate) fn update(&mut self, now: Timestamp, value: i64) -> i64 {
        let age = now.saturating_duration_since(self.started);
        if age >= self.window {
            // After a long gap the earlier values mean nothing.
            self.previous = if age < 4 * self.window { self.current } else { i64::MAX };
            self.current = value;
            self.started = now;
        }
        self.current = self.current.min(value);
        self.minimum()
    }

    /// The current minimum; `i64::MAX` before the first value.
    pub(crate) fn minimum(&self) -> i64 {
        self.current.min(self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_two_windows() {
        let mut minimum = WindowMinimum::new(Duration::from_secs(1));
        let at = Timestamp::from_millis;
        assert_eq!(minimum.update(at(0), 5), 5);
        assert_eq!(minimum.update(at(500), 9), 5);
        assert_eq!(minimum.update(at(1_200), 9), 5);
        assert_eq!(minimum.update(at(2_300), 9), 9);
        assert_eq!(minimum.update(at(60_000), 20), 20);
    }
}
