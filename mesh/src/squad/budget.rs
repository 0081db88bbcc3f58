//! Limits what each peer may have this device do. [PROTO-5.11] [PROTO-5.25]
//!
//! Work is counted as time on one core of a small machine. The figures were measured once and are
//! fixed, so that the same messages always cost the same.

use std::{collections::BTreeMap, time::Duration};

use hark_keys::{DeviceId, Timestamp};

use crate::message::Message;

/// A purse for each device, filled by the clock. A device may spend while there is anything in its
/// purse. Spending beyond that becomes a debt.
pub(super) struct Purses {
    /// The amount that a purse gains each second.
    income: Duration,
    /// The amount in a full purse.
    limit: Duration,
    /// When each purse will be full, for those that are not.
    full_at: BTreeMap<DeviceId, Timestamp>,
}

impl Purses {
    /// Creates purses that are all full.
    pub(super) fn new(income: Duration, limit: Duration) -> Self {
        Self { income, limit, full_at: BTreeMap::new() }
    }

    /// Whether `device` may spend now.
    pub(super) fn is_open(&self, now: Timestamp, device: DeviceId) -> bool {
        self.opens_at(device).is_none_or(|at| at <= now)
    }

    /// When there will be something in the purse again; `None` if it was never used.
    pub(super) fn opens_at(&self, device: DeviceId) -> Option<Timestamp> {
        // One microsecond more than nothing, so that the purse is open then.
        let to_fill = self.time_for(self.limit.saturating_sub(Duration::from_micros(1)));
        let full_at = self.full_at.get(&device)?.as_duration();
        Some(Timestamp::from_duration(full_at.saturating_sub(to_fill)))
    }

    /// `device` has caused this cost.
    pub(super) fn spend(&mut self, now: Timestamp, device: DeviceId, cost: Duration) {
        let time = self.time_for(cost);
        if self.full_at.len() >= PURSES_MAX && !self.full_at.contains_key(&device) {
            self.full_at.retain(|_, at| *at > now);
            let fullest = self.full_at.iter().min_by_key(|(_, at)| **at);
            if self.full_at.len() >= PURSES_MAX
                && let Some(fullest) = fullest.map(|(device, _)| *device)
            {
                self.full_at.remove(&fullest);
            }
        }
        let full_at = self.full_at.entry(device).or_insert(now);
        *full_at = (*full_at).max(now) + time;
    }

    /// How long it takes to gain this amount.
    fn time_for(&self, cost: Duration) -> Duration {
        let income = self.income.as_micros().max(1);
        let micros = cost.as_micros().saturating_mul(1_000_000) / income;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// The cost of a message, or of bytes that are no message, for the thread that decides. Work for a
/// worker is counted there.
pub(super) fn cost_of(message: Option<&Message>) -> Duration {
    let Some(message) = message else { return MESSAGE };
    let more = match message {
        Message::Records(records) => RECORD * count(records.len()),
        Message::Attendance(said) => SIGNATURE * count(said.here.len()),
        // Everybody on the channel seals with new keys.
        Message::Epoch(epoch) => SIGNATURE + EPOCH + SEAL * count(epoch.seals.len()),
        Message::Key(_) | Message::Prekey(_) | Message::Offer(_) | Message::Availability(_) => {
            SIGNATURE
        }
        // Checking the confirmations of hundreds of holders takes as long.
        Message::Confirmed(_) => SIGNATURE,
        // All devices that only relays lead to are dialled again.
        Message::Observed(_) | Message::Candidates(_) => DIALS,
        Message::Listening(_) | Message::Roster(_) | Message::Names(_) | Message::TalkersKey(_) => {
            CHANGE
        }
        Message::Digest(_)
        | Message::Have(_)
        | Message::Pieces(_)
        | Message::Past(_)
        | Message::Move(_)
        | Message::Wanted(_)
        | Message::Route(_)
        | Message::Draining(_)
        | Message::Confirming(_)
        | Message::Check(_) => Duration::ZERO,
    };
    MESSAGE + more
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Purses that are kept. If there are more, full ones and then the fullest are forgotten.
const PURSES_MAX: usize = 8192;

/// What a peer may cost, per second, the thread that decides and also moves voice. Messages beyond
/// it are refused, and their sender repeats those that it needs accepted. With more, one peer could
/// disturb the speech of others. With less, devices that meet many at once would become slow.
pub(super) const THREAD_INCOME: Duration = Duration::from_millis(50);

/// The same at once: a newcomer is told everything at one time.
pub(super) const THREAD_LIMIT: Duration = Duration::from_millis(500);

/// What a peer may cost the workers per second. Messages beyond it wait, at most 128 KiB or 256
/// messages, and further ones are refused. With more, an attacker gets more of another core. With
/// less, a newcomer that has little in its purse waits for a large charter.
pub(super) const WORKER_INCOME: Duration = Duration::from_millis(100);

/// The same at once: ten thousand certificates, twice.
pub(super) const WORKER_LIMIT: Duration = Duration::from_secs(3);

/// What an author of records and offers gains per second for having others pass them on. More
/// frequent ones are neither accepted nor passed on.
pub(super) const AUTHORED_INCOME: Duration = Duration::from_secs(1);

/// What it has at once: enough for ten of them.
pub(super) const AUTHORED_LIMIT: Duration = Duration::from_secs(40);

/// The cost of a record or an offer for its author.
pub(super) const AUTHORED: Duration = Duration::from_secs(4);

/// Checking a signature.
pub(super) const SIGNATURE: Duration = Duration::from_micros(60);

/// Judging an operation of the charter again.
pub(super) const JUDGED: Duration = Duration::from_micros(6);

/// A piece or record that is already known.
pub(super) const RECORD: Duration = Duration::from_micros(5);

/// Taking 1 KiB of a settled past, mostly its signatures.
pub(super) const PAST_KIB: Duration = Duration::from_micros(400);

/// Packing and sending 1 KiB of the charter, even if it was packed before.
pub(super) const SENT_KIB: Duration = Duration::from_micros(100);

/// Any message, with its immediate consequences.
const MESSAGE: Duration = Duration::from_micros(50);

/// A change of who listens to what, or of slots: keys and plans are evaluated again.
const CHANGE: Duration = Duration::from_micros(200);

/// Starting dials.
const DIALS: Duration = Duration::from_millis(5);

/// Opening and using an epoch.
const EPOCH: Duration = Duration::from_millis(1);

/// Passing on one of its seals.
const SEAL: Duration = Duration::from_micros(2);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, SeededRandom};

    use super::*;

    #[test]
    fn a_purse_is_spent_at_once_and_filled_by_the_clock() {
        let random = SeededRandom::new(1);
        let device = DeviceKey::generate(&random).id();
        let mut purses = Purses::new(Duration::from_millis(50), Duration::from_millis(500));
        let at = Timestamp::from_millis;
        let ms = Duration::from_millis;
        let spend = |purses: &mut Purses, now| {
            let mut times = 0;
            while purses.is_open(now, device) {
                purses.spend(now, device, ms(5));
                times += 1;
            }
            times
        };
        assert_eq!(spend(&mut purses, at(1_000)), 100);
        assert!(purses.opens_at(device).is_some_and(|next| next > at(1_000)));
        assert_eq!(spend(&mut purses, at(2_000)), 10);
        // A debt is paid first. Another device has none.
        purses.spend(at(2_000), device, ms(100));
        assert!(!purses.is_open(at(3_990), device));
        assert!(purses.is_open(purses.opens_at(device).unwrap(), device));
        assert!(purses.is_open(at(2_000), DeviceKey::generate(&random).id()));
        assert_eq!(spend(&mut purses, at(60_000)), 100, "no more than a full one");
    }

    #[test]
    fn purses_are_bounded() {
        let random = SeededRandom::new(1);
        let mut purses = Purses::new(Duration::from_millis(50), Duration::from_millis(500));
        for number in 0..2 * PURSES_MAX {
            let now = Timestamp::from_millis(u64::try_from(number).unwrap());
            purses.spend(now, DeviceKey::generate(&random).id(), Duration::from_secs(9));
        }
        assert_eq!(purses.full_at.len(), PURSES_MAX);
    }
}
