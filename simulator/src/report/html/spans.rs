//! Arithmetic with spans of time.

use crate::record::Interval;

/// The parts of `all` that lie outside `taken`. Both are in order, and no two of `taken` overlap.
pub(super) fn without(all: &[Interval], taken: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    for span in all {
        let mut start_s = span.start_s;
        let first = taken.partition_point(|taken| taken.end_s <= span.start_s);
        for taken in taken[first..].iter().take_while(|taken| taken.start_s < span.end_s) {
            left.push(Interval { start_s, end_s: taken.start_s });
            start_s = taken.end_s;
        }
        left.push(Interval { start_s, end_s: span.end_s });
    }
    left.retain(|span| span.length_s() > 0.0);
    left
}

/// The parts of `all` that lie within `frame`.
pub(super) fn within(all: &[Interval], frame: &[Interval]) -> Vec<Interval> {
    without(all, &without(all, frame))
}

/// All spans of `all`, moved to `delay_s` seconds later.
pub(super) fn later(all: &[Interval], delay_s: f64) -> Vec<Interval> {
    let shift =
        |span: &Interval| Interval { start_s: span.start_s + delay_s, end_s: span.end_s + delay_s };
    all.iter().map(shift).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans<const N: usize>(spans: [(f64, f64); N]) -> Vec<Interval> {
        spans.map(|(start_s, end_s)| Interval { start_s, end_s }).into()
    }

    #[test]
    fn taking_away_splits_cuts_and_removes() {
        let all = spans([(0.0, 10.0), (12.0, 14.0), (20.0, 21.0)]);
        let taken = spans([(-1.0, 1.0), (4.0, 5.0), (9.0, 13.0), (19.0, 22.0)]);
        let left = spans([(1.0, 4.0), (5.0, 9.0), (13.0, 14.0)]);
        assert_eq!(without(&all, &taken), left);
        let both = spans([(0.0, 1.0), (4.0, 5.0), (9.0, 10.0), (12.0, 13.0), (20.0, 21.0)]);
        assert_eq!(within(&all, &taken), both);
        assert_eq!(without(&all, &[]), all);
        assert_eq!(within(&all, &[]), []);
    }

    #[test]
    fn later_moves_both_ends() {
        assert_eq!(later(&spans([(1.0, 2.0)]), 0.5), spans([(1.5, 2.5)]));
    }

    /// Ordered spans that do not overlap, with ends at whole numbers.
    fn any_spans() -> impl Strategy<Value = Vec<Interval>> {
        prop::collection::btree_set(0_u8..40, 0..12).prop_map(|ends| {
            let ends: Vec<_> = ends.into_iter().map(f64::from).collect();
            let span = |ends: &[f64]| Interval { start_s: ends[0], end_s: ends[1] };
            ends.chunks_exact(2).map(span).collect()
        })
    }

    proptest! {
        #[test]
        fn a_moment_is_left_when_it_was_there_and_not_taken(
            all in any_spans(),
            taken in any_spans(),
        ) {
            let (left, both) = (without(&all, &taken), within(&all, &taken));
            for moment in (0..40).map(|second| f64::from(second) + 0.5) {
                let holds = |spans: &[Interval]| {
                    spans.iter().any(|span| span.start_s < moment && moment < span.end_s)
                };
                prop_assert_eq!(holds(&left), holds(&all) && !holds(&taken));
                prop_assert_eq!(holds(&both), holds(&all) && holds(&taken));
            }
        }
    }
}
