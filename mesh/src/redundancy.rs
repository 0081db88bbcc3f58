//! How many copies of its frames a talker should send, as judged by their receiver. [PROTO-7.4]

use std::time::Duration;

use hark_keys::Timestamp;

use crate::datagram::FRAMES_MAX;

/// By how many frames the frames of a voice datagram are older than its newest, in their order.
///
/// The last copy leaves a gap, which reaches further back, since losses come in bursts: five repair
/// bursts of six. A longer reach would be a longer wait. The others have no gaps, so that what is
/// lost at random is repaired as soon as can be. [PROTO-7.2]
pub const AGES: [u8; FRAMES_MAX] = [0, 1, 2, 3, 4, 6];

/// By how many frames a datagram with so many copies reaches back.
pub fn reach(copies: u8) -> u8 {
    AGES[usize::from(copies).min(FRAMES_MAX - 1)]
}

/// The number of copies that reach back no further than `frames`.
pub fn copies_within(frames: u8) -> u8 {
    AGES.iter().skip(1).take_while(|age| **age <= frames).count() as u8
}

/// Which of the newest datagrams of a sequence have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Bit 0 is the newest datagram, bit 1 the one before.
    came: u128,
    /// How many of the bits are meaningful.
    known: u32,
}

/// What is learnt from a datagram that is not the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It had been counted as lost.
    Missed,
    /// It had already arrived.
    Repeated,
    /// It is more than 127 behind, so it may have arrived before.
    TooOld,
}

impl Arrivals {
    /// Starts with the first datagram.
    pub fn first() -> Self {
        Self { came: 1, known: 1 }
    }

    /// Whether no datagram has arrived yet.
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// A datagram arrived that is `step` ahead of the newest; `step` is at least 1.
    pub fn advance(&mut self, step: u16) {
        let step = u32::from(step);
        self.came = self.came.checked_shl(step).unwrap_or(0) | 1;
        self.known = (self.known + step).min(u128::BITS);
    }

    /// A datagram arrived that is `behind` the newest. With 0 the newest has arrived again.
    pub fn fill(&mut self, behind: u16) -> Late {
        let behind = u32::from(behind);
        let Some(bit) = 1_u128.checked_shl(behind) else { return Late::TooOld };
        if self.came & bit != 0 {
            return Late::Repeated;
        }
        self.came |= bit;
        self.known = self.known.max(behind + 1);
        Late::Missed
    }

    /// Share of the last datagrams that were lost. The very last ones are not judged yet.
    pub fn loss(&self) -> f32 {
        match self.judged().saturating_sub(REORDERED) {
            0 => 0.0,
            settled => self.lost().count_ones() as f32 / settled as f32,
        }
    }

    /// The longest run of datagrams that have not arrived.
    pub fn longest_burst(&self) -> u8 {
        let mut runs = self.missing();
        let mut longest = 0;
        while runs != 0 {
            runs &= runs >> 1;
            longest += 1;
        }
        longest
    }

    /// The fewest copies that leave at most one in 500 datagrams uncovered.
    ///
    /// A frame is lost if its datagram and all datagrams with copies of it are lost. With loss `p`,
    /// and chance `q` that a loss follows a loss, this is a share of `p q^copies`. A few losses say
    /// little about `q`. So some losses without a burst are assumed in addition, and `q` is never
    /// taken to be less than `p`.
    pub fn copies_needed(&self) -> u8 {
        let (loss, lost) = (self.loss(), self.lost());
        let pairs = (lost & (lost >> 1)).count_ones() as f32;
        let again = (pairs + loss * PRIOR_LOSSES) / (lost.count_ones() as f32 + PRIOR_LOSSES);
        let again = again.max(loss);
        let mut residual = loss;
        let mut copies = 0;
        while residual > RESIDUAL_LOSS && usize::from(copies) < FRAMES_MAX - 1 {
            residual *= again;
            copies += 1;
        }
        copies
    }

    fn judged(&self) -> u32 {
        self.known.min(WINDOW)
    }

    fn missing(&self) -> u128 {
        !self.came & ((1 << self.judged()) - 1)
    }

    fn lost(&self) -> u128 {
        self.missing() >> REORDERED
    }
}

/// The number of copies to ask for. It rises at once and falls by at most one each second, since
/// the loss may come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedCopies {
    copies: u8,
    /// When it was last confirmed or lowered.
    since: Timestamp,
}

impl WantedCopies {
    /// Returns the number to ask for now, if `needed` copies are needed.
    pub fn update(&mut self, now: Timestamp, needed: u8) -> u8 {
        if needed >= self.copies {
            *self = Self { copies: needed, since: now };
        } else if now.saturating_duration_since(self.since) >= LOWER_INTERVAL {
            *self = Self { copies: self.copies - 1, since: now };
        }
        self.copies
    }
}

/// Share of the frames that copies may leave uncovered. A smaller share costs bits, and a larger
/// one is audible.
const RESIDUAL_LOSS: f32 = 0.002;

/// Datagrams that loss is judged by: a second of 10 ms frames. A shorter window forgets, and a
/// longer one is slow.
const WINDOW: u32 = 100;

/// A datagram that this many later ones have overtaken counts as lost, not only as out of order.
const REORDERED: u32 = 3;

/// How many losses without a burst are assumed in addition to those seen.
const PRIOR_LOSSES: f32 = 2.0;

/// Wanted copies fall by at most one in this time.
const LOWER_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The bits agree with a list of the numbers that have arrived.
        #[test]
        fn arrivals_are_those_that_came(sequence in prop::collection::vec(0u16..400, 1..200)) {
            let mut arrivals = Arrivals::first();
            let (mut newest, mut came) = (sequence[0], vec![sequence[0]]);
            for number in &sequence[1..] {
                if *number > newest {
                    arrivals.advance(*number - newest);
                    newest = *number;
                } else {
                    let expected = match newest - *number {
                        128.. => Late::TooOld,
                        _ if came.contains(number) => Late::Repeated,
                        _ => Late::Missed,
                    };
                    prop_assert_eq!(arrivals.fill(newest - *number), expected);
                    if expected == Late::TooOld {
                        continue;
                    }
                }
                came.push(*number);
            }
            let oldest = *came.iter().min().unwrap();
            let judged = oldest.max(newest.saturating_sub(99))..=newest;
            let mut longest = 0;
            let mut run = 0;
            for number in judged {
                run = if came.contains(&number) { 0 } else { run + 1 };
                longest = longest.max(run);
            }
            prop_assert_eq!(arrivals.longest_burst(), longest);
        }
    }

    #[test]
    fn wanted_copies_rise_at_once_and_fall_in_stages() {
        let at = Timestamp::from_millis;
        let mut wanted = WantedCopies::default();
        let steps =
            [(0, 3, 3), (900, 1, 3), (1_000, 1, 2), (1_999, 1, 2), (2_000, 1, 1), (2_001, 5, 5)];
        for (now, needed, expected) in steps {
            assert_eq!(wanted.update(at(now), needed), expected, "at {now} ms");
        }
    }

    /// Datagrams that arrived and datagrams that were lost, in turn, one every 10 ms: half a minute
    /// of a call over a busy Wi-Fi in which libwebrtc sent 20 ms in each packet.
    const WI_FI: &[usize] = &[
        64, 4, 26, 2, 4, 2, 6, 4, 4, 2, 58, 4, 36, 4, 2, 2, 54, 2, 6, 2, 6, 8, 6, 4, 6, 6, 92, 2,
        48, 2, 78, 2, 22, 2, 14, 2, 18, 4, 2, 4, 30, 4, 20, 2, 54, 4, 18, 2, 28, 4, 80, 2, 18, 4,
        70, 2, 4, 2, 16, 2, 8, 4, 2, 2, 18, 6, 8, 2, 32, 2, 116, 8, 104, 4, 20, 6, 54, 6, 18, 2, 6,
        2, 4, 6, 20, 4, 4, 6, 2, 2, 54, 8, 36, 8, 8, 4, 40, 2, 16, 6, 20, 2, 4, 2, 2, 6, 56, 2, 58,
        8, 36, 2, 148, 2, 20, 4, 2, 4, 18, 2, 8, 4, 2, 2, 60, 4, 58, 2, 92, 2, 54, 2, 6, 2, 18, 2,
        14, 6, 28, 4, 76, 2, 42, 2, 10, 10, 66, 8, 38, 4, 16, 6, 30, 4, 30, 2, 12, 4, 18, 10, 8, 4,
        4, 2, 168, 2, 18,
    ];

    /// Whether each datagram is lost: as recorded, and at random, a share of `percent`.
    fn losses() -> [Vec<bool>; 3] {
        let turn = |(n, count): (usize, &usize)| std::iter::repeat_n(n % 2 == 1, *count);
        let mut state = 1_u32;
        let mut random = |percent: u32| {
            let mut roll = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) % 100 < percent
            };
            (0..6_000).map(&mut roll).collect()
        };
        [WI_FI.iter().enumerate().flat_map(turn).collect(), random(10), random(25)]
    }

    /// The share of the frames that no datagram brings.
    fn missing(losses: &[bool], ages: &[u8]) -> f32 {
        let count = losses.len() - 7;
        let lost = |n: &usize| ages.iter().all(|age| losses[n + usize::from(*age)]);
        (0..count).filter(lost).count() as f32 / count as f32
    }

    /// All choices of ages, of frames at most seven older, are tried on recorded losses: of as many
    /// copies that reach no further, none leaves clearly less.
    #[test]
    fn no_other_copies_are_clearly_better() {
        for losses in losses() {
            for copies in 1..FRAMES_MAX {
                let own = missing(&losses, &AGES[..=copies]);
                let others =
                    (0_u8..1 << AGES[copies]).filter(|set| set.count_ones() == copies as u32);
                let best = others.map(|set| {
                    let chosen = (0..7_u8).filter(|bit| set & (1 << bit) != 0).map(|bit| bit + 1);
                    missing(&losses, &std::iter::once(0).chain(chosen).collect::<Vec<_>>())
                });
                let best = best.fold(1.0, f32::min);
                assert!(own <= best + 0.002, "{copies} copies: {own} where {best} is possible");
            }
        }
    }

    /// What a talker sends who follows the reports, against each fixed number of copies: with no
    /// more copies in all, none leaves clearly less.
    #[test]
    fn no_fixed_number_of_copies_is_clearly_better() {
        for losses in losses() {
            let (mut arrivals, mut wanted) = (Arrivals::default(), WantedCopies::default());
            let (mut ahead, mut copies, mut sent) = (0, 0, Vec::new());
            for (n, lost) in losses.iter().enumerate() {
                sent.push(copies);
                ahead += 1;
                if !lost {
                    if arrivals.is_empty() {
                        arrivals = Arrivals::first();
                    } else {
                        arrivals.advance(ahead);
                    }
                    ahead = 0;
                }
                // A report every 250 ms.
                if n % 25 == 24 {
                    let now = Timestamp::from_millis(10 * n as u64);
                    copies = wanted.update(now, arrivals.copies_needed());
                }
            }
            let spent =
                sent.iter().map(|copies| f32::from(*copies)).sum::<f32>() / sent.len() as f32;
            let brings = |n: usize, age: &u8| {
                let by = n + usize::from(*age);
                !losses[by] && *age <= reach(sent[by])
            };
            let count = losses.len() - 7;
            let lost = (0..count).filter(|n| !AGES.iter().any(|age| brings(*n, age))).count();
            let own = lost as f32 / count as f32;
            for copies in 0..FRAMES_MAX {
                let fixed = missing(&losses, &AGES[..=copies]);
                assert!(
                    copies as f32 > spent || own <= fixed + 0.003,
                    "{own} with {spent} copies, where {copies} leave {fixed}"
                );
            }
            assert!(own < 0.02, "{own} with {spent} copies");
        }
    }

    /// The table in the protocol's description is what the code does.
    #[test]
    fn as_many_copies_are_needed_as_the_table_says() {
        let page = include_str!("../../docs/protocol.md");
        let rows = page.lines().skip_while(|line| !line.starts_with("| lost | ")).skip(2);
        let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 6);
        for row in rows {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let percent: usize = cells[1].trim_end_matches(" %").parse().unwrap();
            for (cell, burst) in cells[2..].iter().zip([1, 2, 3]) {
                if *cell == "–" {
                    continue;
                }
                let mut arrivals = Arrivals::first();
                // Bursts at even distances, none among the newest datagrams.
                let period = 100 * burst / percent;
                let mut ahead = 1;
                for n in 0..2 * usize::from(u8::MAX) {
                    if n % period < period - burst {
                        arrivals.advance(ahead);
                        ahead = 1;
                    } else {
                        ahead += 1;
                    }
                }
                assert_eq!(cell.parse(), Ok(arrivals.copies_needed()), "{percent} %, {burst}");
            }
        }
    }
}
