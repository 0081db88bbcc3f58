//! The order in which reports show things.

use crate::record::{EarRecord, ExpectationRecord, RunRecord};

impl RunRecord {
    /// The expectations, with those that were not met first.
    pub(crate) fn failures_first(&self) -> Vec<&ExpectationRecord> {
        let mut sorted: Vec<_> = self.expectations.iter().collect();
        sorted.sort_by_key(|expectation| expectation.holds);
        sorted
    }

    /// The pairs of listener and talker, the worst first.
    pub(crate) fn worst_first(&self) -> Vec<&EarRecord> {
        let mut sorted: Vec<_> = self.ears.iter().collect();
        sorted.sort_by(|a, b| b.harm_ms().total_cmp(&a.harm_ms()));
        sorted
    }
}

impl EarRecord {
    /// For how long the listener played this talker, in seconds.
    pub(crate) fn heard_s(&self) -> f64 {
        self.heard.iter().fold(0.0, |sum, interval| sum + interval.length_s())
    }

    /// How much a listener suffered, as one number by which pairs are ordered: concealed and
    /// missing speech, and the delay of the slowest frames. The scale has no meaning beyond the
    /// order.
    fn harm_ms(&self) -> f64 {
        let concealed_ms = self.heard_s() * 10.0 * self.concealed_percent;
        let slowest_ms = self.delay_ms.map_or(0.0, |delay| delay.p99);
        concealed_ms + self.longest_silence_ms + slowest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Interval, MeasuredSpread};

    fn ear(talker: &str, concealed_percent: f64, longest_silence_ms: f64) -> EarRecord {
        EarRecord {
            talker: talker.to_owned(),
            heard: vec![Interval { start_s: 1.0, end_s: 3.0 }],
            concealed_percent,
            longest_silence_ms,
            ..Default::default()
        }
    }

    #[test]
    fn failures_come_first_and_keep_their_order() {
        let expectation = |(text, holds): (&str, bool)| ExpectationRecord {
            text: text.to_owned(),
            holds,
            measured: String::new(),
        };
        let expectations = [("a", true), ("b", false), ("c", true), ("d", false)];
        let record =
            RunRecord { expectations: expectations.map(expectation).into(), ..Default::default() };
        let texts: Vec<_> = record.failures_first().iter().map(|e| e.text.as_str()).collect();
        assert_eq!(texts, ["b", "d", "a", "c"]);
        assert_eq!(record.failed(), 2);
    }

    #[test]
    fn the_worst_pair_suffered_most() {
        let slow = MeasuredSpread { median: 100.0, p99: 400.0, max: 500.0 };
        let record = RunRecord {
            ears: vec![
                ear("fine", 0.0, 0.0),
                ear("rough", 10.0, 60.0),
                ear("gap", 0.0, 900.0),
                EarRecord { delay_ms: Some(slow), ..ear("slow", 0.0, 0.0) },
            ],
            ..Default::default()
        };
        let talkers: Vec<_> = record.worst_first().iter().map(|e| e.talker.as_str()).collect();
        assert_eq!(talkers, ["gap", "slow", "rough", "fine"]);
        // 2 s heard of which a tenth was concealed, and 60 ms of silence.
        assert_eq!(record.ears[1].harm_ms(), 260.0);
    }
}
