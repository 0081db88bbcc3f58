//! The connections of an API that are open at a time.
//!
//! Anybody who reaches the port can connect. A connection gets a lasting place only once its
//! program has proven that it may come in. Before that it waits among a limited number of others;
//! if one more comes, the oldest of them ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::AbortHandle};

/// The connections of one API.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    unproven_max: usize,
    proven_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The connections that have proven nothing yet, in the order in which they came.
    unproven: BTreeMap<u64, AbortHandle>,
    proven: BTreeSet<u64>,
}

/// The place of one connection, which is free again when this is dropped.
pub struct HeldPlace {
    number: u64,
    shared: Arc<Shared>,
}

impl Places {
    /// Allows `proven_max` connections that have proven themselves, beyond which further ones are
    /// refused, and `unproven_max` that have not.
    pub fn new(unproven_max: usize, proven_max: usize) -> Self {
        Self(Arc::new(Shared { unproven_max, proven_max, state: Mutex::default() }))
    }

    /// Serves a connection that has proven nothing yet, on a task of its own. Ends the oldest such
    /// connection if there are too many. Must run on a tokio runtime.
    pub fn serve<F>(&self, connection: impl FnOnce(HeldPlace) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.0.state().next_number();
        let served = connection(HeldPlace { number, shared: Arc::clone(&self.0) });
        // The task waits until it is registered; otherwise it could begin at once on another
        // thread.
        let (begin, begun) = oneshot::channel();
        let task = tokio::spawn(async move {
            if begun.await.is_ok() {
                served.await;
            }
        });
        let oldest = self.0.state().add(number, task.abort_handle(), self.0.unproven_max);
        if let Some(oldest) = oldest {
            oldest.abort();
        }
        // A task that was ended already receives nothing.
        let _ = begin.send(());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns the connection that must end for this one, if one must.
    fn add(&mut self, number: u64, task: AbortHandle, max: usize) -> Option<AbortHandle> {
        self.unproven.insert(number, task);
        if self.unproven.len() > max { Some(self.unproven.pop_first()?.1) } else { None }
    }
}

impl HeldPlace {
    /// The program at the other end has proven that it may come in, so that further connections no
    /// longer end this one. Returns whether there was room for it.
    pub fn prove(&self) -> bool {
        let mut state = self.shared.state();
        if state.proven.contains(&self.number) {
            return true;
        }
        // A connection that was told to end a moment ago has no place any more.
        state.proven.len() < self.shared.proven_max
            && state.unproven.remove(&self.number).is_some()
            && state.proven.insert(self.number)
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.unproven.remove(&self.number);
        state.proven.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that proves itself when it is told to, and reports whether there was room. It
    /// ends when the sender of `proves` is dropped.
    struct Connection {
        proves: Option<oneshot::Sender<()>>,
        came_in: oneshot::Receiver<bool>,
        _stays: oneshot::Sender<()>,
    }

    impl Connection {
        fn new(places: &Places) -> Self {
            let (proves, asked) = oneshot::channel();
            let (sender, came_in) = oneshot::channel();
            let (stays, gone) = oneshot::channel::<()>();
            places.serve(|place| async move {
                if asked.await.is_ok() {
                    let _ = sender.send(place.prove());
                    let _ = gone.await;
                }
            });
            Self { proves: Some(proves), came_in, _stays: stays }
        }

        /// Whether there was room. `None` if the connection was ended before.
        async fn prove(&mut self) -> Option<bool> {
            // A connection that has ended receives nothing.
            let _ = self.proves.take().expect("proves itself once").send(());
            (&mut self.came_in).await.ok()
        }
    }

    #[tokio::test]
    async fn who_has_proven_itself_is_not_ended_by_those_who_have_not() {
        let places = Places::new(2, 2);
        let mut first = Connection::new(&places);
        assert_eq!(first.prove().await, Some(true));
        let mut strangers: Vec<_> = (0..100).map(|_| Connection::new(&places)).collect();
        assert_eq!(strangers[97].prove().await, None, "the oldest of three was ended");
        assert_eq!(strangers[98].prove().await, Some(true));
        assert_eq!(strangers[99].prove().await, Some(false), "there is room for two");
        drop(first);
        let mut next = Connection::new(&places);
        while places.0.state().proven.len() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(next.prove().await, Some(true));
    }
}
