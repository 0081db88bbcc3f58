use std::sync::{
    Arc, Mutex, PoisonError,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use crate::{
    clock::Clock,
    event::{Event, StampedEvent},
    snapshot::Snapshot,
};

/// Hands events and snapshots to whoever wants them.
#[derive(Default)]
pub struct Publisher {
    clock: Clock,
    state: Mutex<State>,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    subscribers: Vec<SyncSender<StampedEvent>>,
    /// What happened before anybody listened.
    early: Vec<StampedEvent>,
    lost: u64,
}

impl Publisher {
    /// Nothing has happened yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, ..Self::default() })
    }

    /// All events from now on; for the first who asks, from the start. A subscriber that does not
    /// keep up loses the newest, which is counted.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        let (sender, receiver) = sync_channel(SUBSCRIPTION_LIMIT);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for event in std::mem::take(&mut state.early) {
            // Early events are fewer than there is room for.
            let _ = sender.try_send(event);
        }
        state.subscribers.push(sender);
        receiver
    }

    /// Tells everybody.
    pub fn publish(&self, event: Event) {
        let event = StampedEvent { at_us: self.clock.unix_micros(), event };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.subscribers.is_empty() && state.early.len() < SUBSCRIPTION_LIMIT {
            state.early.push(event.clone());
        }
        let mut lost = 0;
        state.subscribers.retain(|subscriber| match subscriber.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
        state.lost += lost;
    }

    /// The newest state; none until the node is in its organisation.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the node has ended, if not on purpose.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last word of a node that has run: why it ended, or what failed.
    pub fn end(&self, outcome: anyhow::Result<String>) {
        let reason = outcome.unwrap_or_else(|error| {
            let line = format!("{error:#}");
            self.set_failure(line.clone());
            line
        });
        self.publish(Event::Stopped { reason });
    }

    pub(crate) fn set_failure(&self, line: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    pub(super) fn set_snapshot(&self, snapshot: Snapshot) {
        let snapshot = Some(Arc::new(snapshot));
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// Events that wait for one subscriber.
pub const SUBSCRIPTION_LIMIT: usize = 1024;
