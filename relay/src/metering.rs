//! The traffic of an organisation, by day and month.

use std::collections::BTreeMap;

use hark_keys::UnixTime;
use serde::{Deserialize, Serialize};

/// Packets and bytes of forwarded datagrams, from devices and to devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteredTraffic {
    /// Packets from devices.
    pub packets_in: u64,
    /// Bytes of the packets from devices.
    pub bytes_in: u64,
    /// Packets to devices.
    pub packets_out: u64,
    /// Bytes of the packets to devices.
    pub bytes_out: u64,
}

impl MeteredTraffic {
    fn map(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            packets_in: combine(self.packets_in, other.packets_in),
            bytes_in: combine(self.bytes_in, other.bytes_in),
            packets_out: combine(self.packets_out, other.packets_out),
            bytes_out: combine(self.bytes_out, other.bytes_out),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.map(other, u64::saturating_add)
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.map(earlier, u64::saturating_sub)
    }
}

/// The traffic of an organisation on each day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metering {
    days: BTreeMap<String, MeteredTraffic>,
    /// The carrier's totals since its start when they were last counted.
    #[serde(skip)]
    counted: MeteredTraffic,
}

impl Metering {
    /// Adds what is new in the carrier's totals since its start to the day of `now`. Returns
    /// whether anything is new.
    pub fn count(&mut self, now: UnixTime, totals: MeteredTraffic) -> bool {
        let new = totals.since(self.counted);
        self.counted = totals;
        if new == MeteredTraffic::default() {
            return false;
        }
        let day = self.days.entry(day_of(now)).or_default();
        *day = day.plus(new);
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
        true
    }

    /// Prepares for another carrier, which counts from zero.
    pub fn restart(&mut self) {
        self.counted = MeteredTraffic::default();
    }

    /// The traffic by day, such as `2026-11-21`, the oldest first.
    pub fn days(&self) -> impl Iterator<Item = (&str, MeteredTraffic)> {
        self.days.iter().map(|(day, traffic)| (day.as_str(), *traffic))
    }

    /// The traffic by month, such as `2026-11`, the oldest first.
    pub fn months(&self) -> BTreeMap<&str, MeteredTraffic> {
        let mut months: BTreeMap<&str, MeteredTraffic> = BTreeMap::new();
        for (day, traffic) in self.days() {
            let month = months.entry(day.get(..7).unwrap_or(day)).or_default();
            *month = month.plus(traffic);
        }
        months
    }
}

/// The date in UTC, in the form of ISO 8601.
fn day_of(now: UnixTime) -> String {
    // Days are counted in eras of 400 years that begin on 1 March, so that a leap day is the last
    // day of its year.
    let days = now.as_secs() / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// How many days are kept: some three years. If there are more, the oldest are dropped.
const DAYS_MAX: usize = 1_100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn traffic(packets: u64) -> MeteredTraffic {
        MeteredTraffic {
            packets_in: packets,
            bytes_in: 100 * packets,
            packets_out: 9 * packets,
            bytes_out: 900 * packets,
        }
    }

    const DAY: u64 = 86_400;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (68_169_599, "1972-02-28"),
            (68_169_600, "1972-02-29"),
            (68_256_000, "1972-03-01"),
            (951_782_400, "2000-02-29"),
            (1_795_219_199, "2026-11-20"),
            (1_795_219_200, "2026-11-21"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day_of(UnixTime::from_secs(seconds)), date);
        }
    }

    #[test]
    fn what_is_new_counts_for_the_day_on_which_it_came() {
        let mut metering = Metering::default();
        let start = 1_795_219_200;
        assert!(metering.count(UnixTime::from_secs(start), traffic(10)));
        assert!(!metering.count(UnixTime::from_secs(start + 60), traffic(10)));
        assert!(metering.count(UnixTime::from_secs(start + DAY), traffic(25)));
        assert!(metering.count(UnixTime::from_secs(start + 10 * DAY), traffic(26)));
        let days: Vec<_> = metering.days().collect();
        assert_eq!(
            days,
            [("2026-11-21", traffic(10)), ("2026-11-22", traffic(15)), ("2026-12-01", traffic(1))]
        );
        let months: Vec<_> = metering.months().into_iter().collect();
        assert_eq!(months, [("2026-11", traffic(25)), ("2026-12", traffic(1))]);
    }

    #[test]
    fn a_carrier_that_starts_anew_counts_from_zero() {
        let mut metering = Metering::default();
        metering.count(UnixTime::from_secs(0), traffic(10));
        metering.restart();
        metering.count(UnixTime::from_secs(0), traffic(3));
        assert_eq!(metering.days().next(), Some(("1970-01-01", traffic(13))));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(
            counts in proptest::collection::vec((0_u64..4_000, 1_u64..1 << 40), 1..40),
        ) {
            let mut metering = Metering::default();
            let mut totals = MeteredTraffic::default();
            for (day, packets) in counts {
                totals = totals.plus(traffic(packets));
                metering.count(UnixTime::from_secs(day * DAY), totals);
            }
            let text = serde_json::to_string(&metering).expect("JSON");
            let mut read: Metering = serde_json::from_str(&text).expect("as it was written");
            read.counted = metering.counted;
            prop_assert_eq!(&read, &metering);
            let all = metering.days().fold(MeteredTraffic::default(), |all, (_, day)| all.plus(day));
            prop_assert_eq!(all, totals);
        }
    }

    #[test]
    fn the_oldest_days_go() {
        let mut metering = Metering::default();
        for day in 0..2_000 {
            metering.count(UnixTime::from_secs(day * DAY), traffic(day + 1));
        }
        assert_eq!(metering.days().count(), DAYS_MAX);
        assert_eq!(metering.days().last(), Some(("1975-06-23", traffic(1))));
    }
}
