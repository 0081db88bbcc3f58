//! How many copies of its frames a talker ought to send, as who receives them judges it.
//! [PROTO-7.4]

use std::time::Duration;

use hark_keys::Timestamp;

use crate::datagram::FRAMES_MAX;

/// Which of the newest datagrams of a sequence came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Bit 0 is the newest, bit 1 the one before.
    came: u128,
    /// How many of the bits mean something.
    known: u32,
}

/// What a datagram that is not newer than all others says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It had counted as lost.
    Missed,
    /// It came before.
    Repeated,
    /// More than 127 behind: it may have come before.
    TooOld,
}

impl Arrivals {
    /// The first one has come.
    pub fn first() -> Self {
        Self { came: 1, known: 1 }
    }

    /// Whether none has come yet.
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// One came that is `step` ahead of the newest, at least 1.
    pub fn advance(&mut self, step: u16) {
        let step = u32::from(step);
        self.came = self.came.checked_shl(step).unwrap_or(0) | 1;
        self.known = (self.known + step).min(u128::BITS);
    }

    /// One came that is `behind` the newest, or that one again.
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

    /// Share of the last datagrams that got lost; of the very last ones that is not known yet.
    pub fn loss(&self) -> f32 {
        match self.judged().saturating_sub(REORDERED) {
            0 => 0.0,
            settled => self.lost().count_ones() as f32 / settled as f32,
        }
    }

    /// The longest run of datagrams that have not come.
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
    /// A frame is gone when its datagram and all that hold copies of it are: with loss `p`, and
    /// `q` the chance that a loss is followed by another, a share of `p q^copies`. So few losses
    /// say little of `q`: it counts as if some more had been seen that were no bursts, and never
    /// as less than `p`.
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

/// The number of copies that is asked for: it rises at once and falls by one at most each second,
/// as the loss might come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedCopies {
    copies: u8,
    /// When it was last confirmed or lowered.
    since: Timestamp,
}

impl WantedCopies {
    /// What to ask for now, where so many are needed.
    pub fn update(&mut self, now: Timestamp, needed: u8) -> u8 {
        if needed >= self.copies {
            *self = Self { copies: needed, since: now };
        } else if now.saturating_duration_since(self.since) >= LOWER_INTERVAL {
            *self = Self { copies: self.copies - 1, since: now };
        }
        self.copies
    }
}

/// Share of the frames that copies may leave uncovered. Lower costs bits, higher is heard.
const RESIDUAL_LOSS: f32 = 0.002;

/// Datagrams that loss is judged by: a second of 10 ms frames. Shorter forgets, longer is slow.
const WINDOW: u32 = 100;

/// A datagram that so many later ones have overtaken is lost, and not only out of order.
const REORDERED: u32 = 3;

/// How many losses without a burst are assumed besides those seen.
const PRIOR_LOSSES: f32 = 2.0;

/// Wanted copies fall by one at most this often.
const LOWER_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The bits say what a list of the numbers that came says.
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
