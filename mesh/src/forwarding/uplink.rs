use std::time::Duration;

use hark_keys::Timestamp;

use crate::datagram::{DropReason, FRAMES_MAX, Seen};

/// What comes of one talker's voice datagrams: which there were, how many are missing, whether it
/// talks.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    target_tag: [u8; 4],
    highest: u16,
    /// Which of the newest came: bit 0 is `highest`, bit 1 the one before.
    came: u128,
    /// How many of the bits mean something.
    known: u32,
    heard_at: Timestamp,
    /// Since `seen` was said last: how many came, and up to which number.
    received: u16,
    told: u16,
    wanted: u8,
    wanted_since: Timestamp,
}

impl Uplink {
    /// A voice datagram has come. [PROTO-9.10]
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        target_tag: [u8; 4],
        sequence: u16,
    ) -> Result<(), DropReason> {
        let step = sequence.wrapping_sub(self.highest) as i16;
        let pause = now.saturating_duration_since(self.heard_at);
        if self.known == 0 || pause >= PAUSE || step.unsigned_abs() > STEP_MAX {
            *self = Self {
                known: 1,
                came: 1,
                received: 1,
                told: sequence.wrapping_sub(1),
                wanted: self.wanted,
                wanted_since: self.wanted_since,
                ..Self::default()
            };
            self.highest = sequence;
        } else if step > 0 {
            let step = u32::from(step.unsigned_abs());
            self.came = self.came.checked_shl(step).unwrap_or(0) | 1;
            self.known = (self.known + step).min(u128::BITS);
            self.highest = sequence;
            self.received = self.received.saturating_add(1);
        } else {
            let behind = u32::from(step.unsigned_abs());
            let bit = 1_u128.checked_shl(behind).ok_or(DropReason::TooOld)?;
            if self.came & bit != 0 {
                return Err(DropReason::Repeated);
            }
            self.came |= bit;
            self.known = self.known.max(behind + 1);
            self.received = self.received.saturating_add(1);
        }
        self.target_tag = target_tag;
        self.heard_at = now;
        Ok(())
    }

    /// What the talker is told, but for what listeners want.
    pub(super) fn seen(&mut self, now: Timestamp) -> Seen {
        let expected = self.highest.wrapping_sub(self.told) as i16;
        let lost = i32::from(expected) - i32::from(self.received);
        let seen = Seen {
            target_tag: self.target_tag,
            highest_sequence: self.highest,
            received: self.received,
            lost: u16::try_from(lost).unwrap_or(0),
            wanted_copies: self.wanted_copies(now),
        };
        self.received = 0;
        self.told = self.highest;
        seen
    }

    pub(super) fn highest(&self) -> u16 {
        self.highest
    }

    /// Since when nothing has come.
    pub(super) fn silence(&self, now: Timestamp) -> Duration {
        now.saturating_duration_since(self.heard_at)
    }

    /// As a listener judges a direct link: the fewest copies that leave hardly a loss uncovered, and
    /// one fewer at most each second.
    fn wanted_copies(&mut self, now: Timestamp) -> u8 {
        let needed = self.copies_needed();
        if needed >= self.wanted {
            self.wanted = needed;
            self.wanted_since = now;
        } else if now.saturating_duration_since(self.wanted_since) >= LOWER_INTERVAL {
            self.wanted -= 1;
            self.wanted_since = now;
        }
        self.wanted
    }

    fn copies_needed(&self) -> u8 {
        let settled = self.known.saturating_sub(REORDERED);
        if settled == 0 {
            return 0;
        }
        let known = u128::MAX >> (u128::BITS - self.known);
        let missing = (!self.came & known) >> REORDERED;
        let lost = missing.count_ones() as f32;
        let loss = lost / settled as f32;
        let pairs = (missing & (missing >> 1)).count_ones() as f32;
        let again = ((pairs + loss * PRIOR_LOSSES) / (lost + PRIOR_LOSSES)).max(loss);
        let mut residual = loss;
        let mut copies = 0;
        while residual > RESIDUAL_LOSS && usize::from(copies) < FRAMES_MAX - 1 {
            residual *= again;
            copies += 1;
        }
        copies
    }
}

/// After so long without any, a talker may have begun to count anew.
const PAUSE: Duration = Duration::from_secs(1);

/// A larger step of the sequence is no loss but another count.
const STEP_MAX: u16 = 1_000;

/// Share of the datagrams that copies may leave uncovered.
const RESIDUAL_LOSS: f32 = 0.002;

/// A datagram that so many later ones have overtaken is lost, and not only out of order.
const REORDERED: u32 = 3;

/// How many losses without a burst are assumed besides those seen.
const PRIOR_LOSSES: f32 = 2.0;

/// Wanted copies fall by one at most this often: the loss might come back.
const LOWER_INTERVAL: Duration = Duration::from_secs(1);
