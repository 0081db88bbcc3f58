//! What a peer is told until it has taken it.

use std::time::Duration;

use hark_keys::Timestamp;

/// Something that a peer is to be told, and again whenever it changes.
#[derive(Debug)]
pub(super) struct Announcement<T> {
    told: Option<T>,
    number: u64,
    again_at: Option<Timestamp>,
}

impl<T> Default for Announcement<T> {
    /// The peer was told nothing.
    fn default() -> Self {
        Self { told: None, number: 0, again_at: None }
    }
}

impl<T: PartialEq + Clone> Announcement<T> {
    /// The number under which the peer is to be told `wanted` now, if it is: the next of all that
    /// this device has told anybody, so that no peer takes what is new for something old, whichever
    /// links have come and gone meanwhile.
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

    /// The peer has taken, or not, what it was told under `number`; says whether that was this.
    pub(super) fn handle_answer(&mut self, now: Timestamp, number: u64, taken: bool) -> bool {
        if self.number != number {
            return false;
        }
        self.again_at = if taken { None } else { Some(now + RETRY_AFTER) };
        true
    }

    /// There is a new link: what the peer was told may be lost, or forgotten with the old one.
    pub(super) fn link_up(&mut self) {
        self.told = None;
    }

    /// When it is to be told again.
    pub(super) fn timeout(&self) -> Option<Timestamp> {
        self.again_at
    }

    /// What the peer was told last, whether or not it has taken it.
    pub(super) fn told(&self) -> Option<&T> {
        self.told.as_ref()
    }

    /// Whether the peer has taken what it was told last.
    pub(super) fn is_taken(&self) -> bool {
        self.told.is_some() && self.again_at.is_none()
    }
}

/// Wait before a peer that did not take it is told again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// A message of which nothing is heard by then is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
