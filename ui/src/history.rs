//! How well the links of an organisation worked lately, for plots and reports.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hark_node::snapshot::Snapshot;

/// How well the links worked lately, the newest last. At most [`SAMPLES_MAX`] samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History(VecDeque<LinkSample>);

/// How well the links worked at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSample {
    /// When it was seen first.
    pub at: Instant,
    /// Devices that were reached.
    pub reached: usize,
    /// The longest round trip, in ms.
    pub rtt_ms: f32,
    /// The greatest loss, in percent.
    pub loss_percent: f32,
}

impl History {
    /// Takes in what a new snapshot shows. Snapshots that follow closer than [`EVERY`] count as
    /// one, with the worst of them.
    pub fn note(&mut self, now: Instant, snapshot: &Snapshot) {
        let here = || snapshot.peers.iter().filter(|peer| peer.reachable);
        let worst = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max) as f32;
        let sample = LinkSample {
            at: now,
            reached: here().count(),
            rtt_ms: worst(&mut here().map(|peer| peer.stats.rtt_ms)),
            loss_percent: worst(&mut here().map(|peer| peer.stats.loss_percent)),
        };
        match self.0.back_mut() {
            Some(last) if now.saturating_duration_since(last.at) < EVERY => {
                last.reached = last.reached.min(sample.reached);
                last.rtt_ms = last.rtt_ms.max(sample.rtt_ms);
                last.loss_percent = last.loss_percent.max(sample.loss_percent);
            }
            _ => {
                if self.0.len() == SAMPLES_MAX {
                    self.0.pop_front();
                }
                self.0.push_back(sample);
            }
        }
    }

    /// The samples of the time before `now`, the oldest first. Each holds until the next one.
    pub fn since(&self, now: Instant) -> impl Iterator<Item = &LinkSample> {
        let begin = now.checked_sub(SPAN);
        // What held when the time began counts as well.
        let first = self.0.iter().rposition(|it| begin.is_some_and(|begin| it.at <= begin));
        self.0.iter().skip(first.unwrap_or(0))
    }
}

/// Snapshots of this time make one sample.
pub const EVERY: Duration = Duration::from_secs(2);

/// The time that a plot shows.
pub const SPAN: Duration = Duration::from_secs(600);

/// The samples that are kept: those of [`SPAN`], and one that began before.
pub const SAMPLES_MAX: usize = 301;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::operation;

    #[test]
    fn samples_are_bounded_and_keep_the_worst() {
        let start = Instant::now();
        let mut history = History::default();
        let mut own = operation();
        history.note(start, &own);
        own.peers[0].stats.loss_percent = 30.0;
        history.note(start + Duration::from_secs(1), &own);
        own.peers[0].stats.loss_percent = 0.0;
        history.note(start + Duration::from_millis(1900), &own);
        assert_eq!(history.0.len(), 1);
        let only = history.0[0];
        assert_eq!((only.loss_percent, only.reached, only.rtt_ms), (30.0, 6, 71.0));
        for second in 1..2_000 {
            history.note(start + Duration::from_secs(second * 2), &own);
        }
        assert_eq!(history.0.len(), SAMPLES_MAX);
        let now = start + Duration::from_secs(4_000);
        let oldest = history.since(now).next().expect("samples").at;
        assert_eq!(now - oldest, SPAN, "no more than is shown");
    }
}
