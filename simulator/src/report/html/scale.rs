//! Maps measured values to positions in a drawing.

use std::fmt;

use crate::record::Interval;

/// Maps times of the run to horizontal positions in a drawing.
#[derive(Clone, Copy)]
pub(super) struct TimeAxis {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) duration_s: f64,
}

impl TimeAxis {
    pub(super) fn x(&self, at_s: f64) -> Px {
        let share = (at_s / self.duration_s.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        Px(self.left + share * (self.right - self.left))
    }

    /// About `count` times with round values.
    pub(super) fn ticks(&self, count: usize) -> impl Iterator<Item = f64> {
        let step = at_least(self.duration_s / count as f64, &TICKS);
        let last = (self.duration_s / step) as usize;
        (0..=last).map(move |tick| tick as f64 * step)
    }

    /// Horizontal strokes at height `y` over the given times.
    pub(super) fn strokes(&self, intervals: &[Interval], y: f64) -> String {
        let stroke = |interval: &Interval| {
            let (from, to) = (self.x(interval.start_s), self.x(interval.end_s));
            format!("M{from},{}h{}", Px(y), Px((to.0 - from.0).max(MIN_STROKE)))
        };
        intervals.iter().map(stroke).collect()
    }

    /// The points, thinned to the largest in each of `buckets` equal spans of the run.
    ///
    /// Values that are not finite are left out.
    pub(super) fn peaks(
        &self,
        points: impl IntoIterator<Item = (f64, f64)>,
        buckets: usize,
    ) -> Vec<(f64, f64)> {
        let mut largest: Vec<Option<(f64, f64)>> = vec![None; buckets];
        for (at_s, value) in points {
            let bucket = (at_s / self.duration_s * buckets as f64).max(0.0) as usize;
            let Some(bucket) = largest.get_mut(bucket.min(buckets - 1)) else { continue };
            if value.is_finite() && bucket.is_none_or(|(_, other)| value > other) {
                *bucket = Some((at_s, value));
            }
        }
        largest.into_iter().flatten().collect()
    }
}

/// A length in a drawing, written to a tenth of a unit.
#[derive(Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Adding zero turns negative zero into zero.
        write!(f, "{}", (self.0 * 10.0).round() / 10.0 + 0.0)
    }
}

/// The smallest of `steps` times a power of ten that is at least `value`.
fn at_least(value: f64, steps: &[f64]) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    // A step that is slightly too small through rounding still counts.
    let enough = |step: &&f64| **step * power >= value * (1.0 - 1e-9);
    steps.iter().find(enough).unwrap_or(&10.0) * power
}

/// A limit for a plot of `values`: at least `floor`, and above all values but rare outliers.
pub(super) fn limit(mut values: Vec<f64>, floor: f64) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let usual = values.get(values.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0.0);
    at_least(usual.max(floor), &LIMITS)
}

/// Steps that people use to count.
const TICKS: [f64; 3] = [1.0, 2.0, 5.0];
/// Limits whose half is short to write, too.
const LIMITS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];

/// The length of the shortest stroke; a shorter one would not be visible.
const MIN_STROKE: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    const AXIS: TimeAxis = TimeAxis { left: 100.0, right: 300.0, duration_s: 20.0 };

    #[test]
    fn moments_lie_between_left_and_right() {
        let xs = [-1.0, 0.0, 5.0, 20.0, 99.0].map(|at_s| AXIS.x(at_s).0);
        assert_eq!(xs, [100.0, 100.0, 150.0, 300.0, 300.0]);
        assert_eq!(AXIS.ticks(10).collect::<Vec<_>>().len(), 11);
        assert_eq!(AXIS.ticks(5).collect::<Vec<_>>(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let intervals = [(0.0, 2.0), (10.0, 10.0)];
        let intervals = intervals.map(|(start_s, end_s)| Interval { start_s, end_s });
        assert_eq!(AXIS.strokes(&intervals, 7.25), "M100,7.3h20M200,7.3h0.6");
    }

    #[test]
    fn a_run_of_no_length_can_be_drawn() {
        let axis = TimeAxis { duration_s: 0.0, ..AXIS };
        assert_eq!(axis.x(0.0).0, 100.0);
        assert_eq!(axis.ticks(10).collect::<Vec<_>>(), [0.0]);
        assert_eq!(axis.peaks([(0.0, 3.0)], 4), [(0.0, 3.0)]);
    }

    #[test]
    fn thinning_keeps_peaks() {
        let points = [(0.0, 1.0), (1.0, 9.0), (4.9, 2.0), (5.0, f64::NAN), (20.0, 4.0)];
        assert_eq!(AXIS.peaks(points, 4), [(1.0, 9.0), (20.0, 4.0)]);
    }

    #[test]
    fn limits_are_round_and_pass_over_the_odd_one() {
        let rounded =
            [0.0, 0.3, 1.0, 1.1, 3.0, 5.1, 200.0, 201.0].map(|value| at_least(value, &TICKS));
        assert_eq!(rounded, [1.0, 0.5, 1.0, 2.0, 5.0, 10.0, 200.0, 500.0]);
        let mut values = vec![80.0; 199];
        values.push(9000.0);
        assert_eq!(limit(values, 50.0), 80.0);
        assert_eq!(limit(vec![], 50.0), 50.0);
        assert_eq!(limit(vec![204.0], 50.0), 300.0);
    }

    #[test]
    fn lengths_are_short_to_write() {
        let written = [0.04, -0.04, 12.0, 2.34567].map(|length| Px(length).to_string());
        assert_eq!(written, ["0", "0", "12", "2.3"]);
    }
}
