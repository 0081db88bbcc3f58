use std::{mem, time::Duration};

use hark_keys::Timestamp;

use super::limits::Limits;
use crate::datagram::{BUNDLE_FRAMES_MAX, BUNDLE_MAX_BYTES, Bundle, KIND_FORWARDED, Slot};

/// What is being sent to one device. It is separate from the rest of the session, and small, since
/// a frame for a thousand listeners touches a thousand of these.
#[derive(Debug, Default)]
pub(super) struct EgressState {
    /// Slot of the device; `None` if the session is gone.
    pub(super) slot: Option<Slot>,
    pub(super) sent_at: Timestamp,
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) deliveries: u64,
    window_since: Timestamp,
    window_count: u32,
    bundling: bool,
    held: Held,
}

/// A bundle that is being filled.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    count: usize,
    oldest: Timestamp,
    due: Timestamp,
}

/// A bundle that is ready to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    /// Where it begins in its buffer. A single part is sent without the bundle's header.
    pub(super) start: usize,
    pub(super) count: usize,
    /// When its first part came to the relay.
    pub(super) oldest: Timestamp,
}

/// What happens to a datagram for a listener.
pub(super) enum Outcome {
    /// It is sent by itself.
    Alone,
    /// It waits. If it started a new bundle, that one is due at this time.
    Held(Option<Timestamp>),
    /// The previous bundle had no room for it and is sent. It waits in a new one that is due at
    /// this time.
    Filled(Full, Timestamp),
}

impl EgressState {
    /// Counts one more datagram for this listener. Returns whether there are so many that they are
    /// bundled.
    pub(super) fn count(&mut self, now: Timestamp, limits: &Limits) -> bool {
        let elapsed = now.saturating_duration_since(self.window_since);
        let threshold = limits.bundle_above / WINDOWS_PER_SECOND;
        if elapsed >= WINDOW {
            // Once bundling is on, it takes clearly fewer datagrams to turn it off.
            let least = if self.bundling { threshold / 4 * 3 } else { threshold };
            self.bundling = elapsed < 2 * WINDOW && self.window_count > least;
            self.window_since = now;
            self.window_count = 0;
        }
        self.window_count += 1;
        self.bundling |= self.window_count > threshold;
        self.bundling && !limits.bundle_hold.is_zero()
    }

    /// Adds a datagram of kind 5 that came at `arrived` to the bundle. A bundle without room for it
    /// is moved to `spare`, and the next bundle uses the buffer of `spare`.
    pub(super) fn hold(
        &mut self,
        now: Timestamp,
        hold: Duration,
        forwarded: &[u8],
        arrived: Timestamp,
        spare: &mut Vec<u8>,
    ) -> Outcome {
        let part = 2 + forwarded.len() - 1;
        if 1 + part > BUNDLE_MAX_BYTES {
            return Outcome::Alone;
        }
        let held = &mut self.held;
        let mut full = None;
        if held.bytes.len() + part > BUNDLE_MAX_BYTES || held.count == BUNDLE_FRAMES_MAX {
            full = held.take(spare);
        }
        let mut due = None;
        if held.count == 0 {
            held.bytes.clear();
            Bundle::begin(&mut held.bytes);
            held.oldest = arrived;
            held.due = now + hold;
            due = Some(held.due);
        }
        Bundle::put(forwarded, &mut held.bytes);
        held.count += 1;
        held.oldest = held.oldest.min(arrived);
        match (full, due) {
            (Some(full), Some(due)) => Outcome::Filled(full, due),
            (_, due) => Outcome::Held(due),
        }
    }

    /// Moves the bundle that is due at `due` to `spare`, and the next bundle uses the buffer of
    /// `spare`. Returns `None` if that bundle was already sent.
    pub(super) fn take_due(&mut self, due: Timestamp, spare: &mut Vec<u8>) -> Option<Full> {
        if self.held.due == due { self.held.take(spare) } else { None }
    }

    /// Makes this the state of another slot, or of none, and keeps the buffer.
    pub(super) fn reset(&mut self, slot: Option<Slot>) {
        let mut bytes = mem::take(&mut self.held.bytes);
        bytes.clear();
        *self = Self { slot, held: Held { bytes, ..Held::default() }, ..Self::default() };
    }
}

impl Held {
    fn take(&mut self, spare: &mut Vec<u8>) -> Option<Full> {
        let count = mem::take(&mut self.count);
        if count == 0 {
            return None;
        }
        mem::swap(&mut self.bytes, spare);
        // Kind and length precede the first part.
        let start = if count == 1 { 2 } else { 0 };
        if count == 1 {
            spare[start] = KIND_FORWARDED;
        }
        Some(Full { start, count, oldest: self.oldest })
    }
}

/// The span in which a listener's datagrams are counted for their rate.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOWS_PER_SECOND: u32 = 10;
