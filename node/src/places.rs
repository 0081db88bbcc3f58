//! The connections that an API has at a time.
//!
//! Anybody who reaches the port can connect. So a connection has a lasting place only once its
//! program has proven that it may come in; before that it waits among a bounded number of others,
//! of which the oldest ends when one more comes.

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
    /// In the order in which they came.
    unproven: BTreeMap<u64, AbortHandle>,
    proven: BTreeSet<u64>,
}

/// One connection's place, which is free again when this is dropped.
pub struct HeldPlace {
    number: u64,
    shared: Arc<Shared>,
}

impl Places {
    /// At most so many connections that have proven themselves, further ones of which are refused,
    /// and so many that have not.
    pub fn new(unproven_max: usize, proven_max: usize) -> Self {
        Self(Arc::new(Shared { unproven_max, proven_max, state: Mutex::default() }))
    }

    /// Serves a connection that has proven nothing yet, on a task of its own; ends the oldest such
    /// one if there are too many. Must run on a tokio runtime.
    pub fn serve<F>(&self, connection: impl FnOnce(HeldPlace) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.0.state().next_number();
        let served = connection(HeldPlace { number, shared: Arc::clone(&self.0) });
        // It waits until it can be found: it would begin at once on another thread.
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
        // One that was ended already hears nothing.
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

    /// Gives the one that has to end for it.
    fn add(&mut self, number: u64, task: AbortHandle, max: usize) -> Option<AbortHandle> {
        self.unproven.insert(number, task);
        if self.unproven.len() > max { Some(self.unproven.pop_first()?.1) } else { None }
    }
}

impl HeldPlace {
    /// The program at the other end has proven that it may come in: whoever else connects ends this
    /// connection no more. Says whether there was room for it.
    pub fn prove(&self) -> bool {
        let mut state = self.shared.state();
        if state.proven.contains(&self.number) {
            return true;
        }
        // One that was told to end a moment ago has no place any more.
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

    /// A connection that comes in when it is told to; gives whether there was room. It ends when
    /// the other end of `proves` is dropped.
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

        /// Whether there was room; none if it was ended before.
        async fn prove(&mut self) -> Option<bool> {
            // One that has ended hears nothing.
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
