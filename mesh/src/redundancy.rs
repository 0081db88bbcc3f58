//! How many copies of its frames a talker should send, as judged by their receiver. [PROTO-7.4]

use std::time::Duration;

use hark_keys::Timestamp;

use crate::datagram::FRAMES_MAX;

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
}
