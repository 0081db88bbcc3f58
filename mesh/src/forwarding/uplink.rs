use std::time::Duration;

use hark_keys::Timestamp;

use crate::{
    datagram::{DropReason, Seen},
    redundancy::{Arrivals, Late, WantedCopies},
};

/// What has arrived of one talker's voice datagrams: which ones, how many are missing, and whether
/// it talks.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    target_tag: [u8; 4],
    highest: u16,
    arrivals: Arrivals,
    heard_at: Timestamp,
    /// Since the last `seen`: how many arrived, and up to which number.
    received: u16,
    told: u16,
    wanted: WantedCopies,
}

impl Uplink {
    /// Takes a voice datagram. [PROTO-9.10]
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        target_tag: [u8; 4],
        sequence: u16,
    ) -> Result<(), DropReason> {
        let step = sequence.wrapping_sub(self.highest) as i16;
        let pause = now.saturating_duration_since(self.heard_at);
        if self.arrivals.is_empty() || pause >= PAUSE || step.unsigned_abs() > STEP_MAX {
            *self = Self {
                arrivals: Arrivals::first(),
                received: 1,
                told: sequence.wrapping_sub(1),
                wanted: self.wanted,
                ..Self::default()
            };
            self.highest = sequence;
        } else if step > 0 {
            self.arrivals.advance(step.unsigned_abs());
            self.highest = sequence;
            self.received = self.received.saturating_add(1);
        } else {
            match self.arrivals.fill(step.unsigned_abs()) {
                Late::Missed => {}
                Late::Repeated => return Err(DropReason::Repeated),
                Late::TooOld => return Err(DropReason::TooOld),
            }
            self.received = self.received.saturating_add(1);
        }
        self.target_tag = target_tag;
        self.heard_at = now;
        Ok(())
    }

    /// The report to the talker, without what listeners want.
    pub(super) fn seen(&mut self, now: Timestamp) -> Seen {
        let expected = self.highest.wrapping_sub(self.told) as i16;
        let lost = i32::from(expected) - i32::from(self.received);
        let seen = Seen {
            target_tag: self.target_tag,
            highest_sequence: self.highest,
            received: self.received,
            lost: u16::try_from(lost).unwrap_or(0),
            wanted_copies: self.wanted.update(now, self.arrivals.copies_needed()),
        };
        self.received = 0;
        self.told = self.highest;
        seen
    }

    pub(super) fn highest(&self) -> u16 {
        self.highest
    }

    /// For how long nothing has arrived.
    pub(super) fn silence(&self, now: Timestamp) -> Duration {
        now.saturating_duration_since(self.heard_at)
    }
}

/// After this time without a datagram, a talker may have started a new count.
const PAUSE: Duration = Duration::from_secs(1);

/// A larger step of the sequence is not a loss but a new count.
const STEP_MAX: u16 = 1_000;
