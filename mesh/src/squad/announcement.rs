//! Announcements to a peer, which are repeated until the peer has accepted them.

use std::time::Duration;

use hark_keys::Timestamp;

/// Something that a peer is to be told, and told again whenever it changes.
#[derive(Debug)]
pub(super) struct Announcement<T> {
    told: Option<T>,
    number: u64,
    again_at: Option<Timestamp>,
}

impl<T> Default for Announcement<T> {
    /// The peer has been told nothing.
    fn default() -> Self {
        Self { told: None, number: 0, again_at: None }
    }
}

impl<T: PartialEq + Clone> Announcement<T> {
    /// Returns the number under which the peer is to be told `wanted`, if that is due now. It is
    /// the next of all numbers that this device has used for any peer. So no peer mistakes news for
    /// something old, whatever links have come and gone meanwhile.
    pub(super) fn poll(&mut self, now: Timestamp, wanted: &T, numbers: &mut u64) -> Option<u64> {
        let due = self.again_at.is_some_and(|at| at <= now);
        if self.told.as_ref() == Some(wanted) && !due {
            return None;
        }
        self.told = Some(wanted.clone());
        self.again_at = Some(now + ANSWER_TIMEOUT);
        *numbers += 1;
        self.number = *numbers;
        Some(self.number)
    }

    /// The peer has accepted, or not, the announcement under `number`. Returns whether that was
    /// this one.
    pub(super) fn handle_answer(&mut self, now: Timestamp, number: u64, taken: bool) -> bool {
        if self.number != number {
            return false;
        }
        self.again_at = if taken { None } else { Some(now + RETRY_AFTER) };
        true
    }

    /// There is a new link: the peer may have missed or forgotten the last announcement.
    pub(super) fn link_up(&mut self) {
        self.told = None;
    }

    /// When it is to be sent again.
    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.again_at
    }

    /// What the peer was last told, whether or not it has accepted it.
    pub(super) fn told(&self) -> Option<&T> {
        self.told.as_ref()
    }

    /// Whether the peer has accepted what it was last told.
    pub(super) fn is_taken(&self) -> bool {
        self.told.is_some() && self.again_at.is_none()
    }
}

/// Delay before an announcement that was not accepted is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// A message without an answer is sent again after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
