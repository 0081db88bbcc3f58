use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use hark_keys::OrganisationId;
use hark_voice::Line;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    error::NodeError,
    event::{Event, Notice, StampedEvent},
    snapshot::{Changes, Snapshot},
};

/// Hands events and snapshots of one organisation to whoever wants them.
#[derive(Default)]
pub struct Publisher {
    clock: Clock,
    shared: Arc<Shared>,
    line: Line,
    organisation: OnceLock<String>,
    snapshot: Mutex<Newest>,
    failure: Mutex<Option<NodeError>>,
}

/// The newest snapshot, and the one that those who look at it were woken for last.
#[derive(Default)]
struct Newest {
    snapshot: Option<Arc<Snapshot>>,
    shown: Option<Arc<Snapshot>>,
}

/// What the organisations of one node have in common.
#[derive(Default)]
struct Shared {
    front: AtomicUsize,
    changes: watch::Sender<()>,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    subscribers: Vec<SyncSender<StampedEvent>>,
    /// What happened before anybody listened.
    early: Vec<StampedEvent>,
    lost: u64,
}

impl Publisher {
    /// Nothing has happened yet. The first organisation of a node is in front.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, ..Self::default() })
    }

    /// The same for another organisation of the node: subscribers hear of both.
    pub fn beside(&self, line: Line) -> Arc<Self> {
        let shared = Arc::clone(&self.shared);
        Arc::new(Self { clock: self.clock, shared, line, ..Self::default() })
    }

    /// Tells of which organisation the events are.
    pub(super) fn set_organisation(&self, organisation: OrganisationId) {
        // It stays the same.
        let _ = self.organisation.set(organisation.to_string());
    }

    /// The id of the organisation, once it is known.
    pub fn organisation(&self) -> Option<&str> {
        self.organisation.get().map(String::as_str)
    }

    /// The organisation that hears what is said without a key of its own.
    pub fn front(&self) -> Line {
        self.shared.front.load(Ordering::Relaxed)
    }

    /// Whether it is this one.
    pub(super) fn is_in_front(&self) -> bool {
        self.front() == self.line
    }

    /// This organisation comes to the front; gives the one that was there.
    pub fn come_to_front(&self) -> Line {
        self.shared.front.swap(self.line, Ordering::Relaxed)
    }

    /// All events from now on; for the first who asks, from the start. A subscriber that does not
    /// keep up loses the newest, which is counted.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        let (sender, receiver) = sync_channel(SUBSCRIPTION_LIMIT);
        let mut state = self.subscriptions();
        for event in std::mem::take(&mut state.early) {
            // Early events are fewer than there is room for.
            let _ = sender.try_send(event);
        }
        state.subscribers.push(sender);
        receiver
    }

    /// Tells everybody.
    pub fn publish(&self, event: Event) {
        let org = self.organisation.get().cloned();
        let event = StampedEvent { at_us: self.clock.unix_micros(), event, org };
        let mut state = self.subscriptions();
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

    /// Tells the person something.
    pub(super) fn notify(&self, notice: Notice) {
        self.publish(notice.into());
    }

    /// The newest state; `None` until the node is in its organisation, and after its end.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.newest().snapshot.clone()
    }

    /// Tells when what a person sees of any organisation of the node has changed from now on.
    pub fn changes(&self) -> Changes {
        self.shared.changes.subscribe().into()
    }

    /// Why the node has ended, if not on purpose; the first caller gets it.
    pub fn take_failure(&self) -> Option<NodeError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The last word of a node that has run: why it ended, or what failed.
    pub fn end(&self, outcome: Result<String, NodeError>) {
        let reason = outcome.unwrap_or_else(|error| {
            let line = error.to_string();
            self.set_failure(error);
            line
        });
        *self.newest() = Newest::default();
        self.shared.changes.send_replace(());
        self.publish(Event::Stopped { reason });
    }

    pub(crate) fn set_failure(&self, failure: NodeError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    pub(crate) fn set_snapshot(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let mut newest = self.newest();
        let looks_the_same = newest.shown.as_ref().is_some_and(|it| snapshot.looks_like(it));
        newest.snapshot = Some(Arc::clone(&snapshot));
        if !looks_the_same {
            newest.shown = Some(snapshot);
            drop(newest);
            self.shared.changes.send_replace(());
        }
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, Newest> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscriptions(&self) -> std::sync::MutexGuard<'_, Subscriptions> {
        self.shared.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events that wait for one subscriber.
pub const SUBSCRIPTION_LIMIT: usize = 1024;
