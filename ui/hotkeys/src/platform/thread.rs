//! A thread that ends when its owner is dropped, and what wakes it.

use std::{sync::mpsc, thread::JoinHandle, time::Duration};

/// A running thread. Dropping it asks the thread to end and waits a little.
pub(super) struct Thread {
    stop: Box<dyn Fn() + Send>,
    ended: mpsc::Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts a thread. `stop` must make `body` return soon.
    pub(super) fn start(
        name: &str,
        stop: impl Fn() + Send + 'static,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        // Nothing is ever sent: the end of the thread drops the sender, also when it panics.
        let (alive, ended) = mpsc::sync_channel::<()>(0);
        let handle = std::thread::Builder::new().name(name.into()).spawn(move || {
            let _alive = alive;
            body();
        })?;
        Ok(Self { stop: Box::new(stop), ended, handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        (self.stop)();
        let waited = self.ended.recv_timeout(LONGEST_END);
        if let Some(handle) = self.handle.take()
            && waited == Err(mpsc::RecvTimeoutError::Disconnected)
            && handle.join().is_err()
        {
            tracing::debug!("a listener's thread has panicked");
        }
    }
}

/// How long dropping waits for a thread. One that hangs in the system, such as in a server that
/// does not answer, is left behind: the program's end ends it.
const LONGEST_END: Duration = Duration::from_secs(1);

#[cfg(target_os = "linux")]
pub(super) use wake::Wake;

#[cfg(target_os = "linux")]
mod wake {
    use std::{
        os::fd::{AsFd, BorrowedFd, OwnedFd},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::{Duration, Instant},
    };

    use rustix::{
        event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
        time::Timespec,
    };

    /// Wakes a thread that waits for a device or a server.
    pub(in super::super) struct Wake {
        event: OwnedFd,
        stopped: AtomicBool,
    }

    impl Wake {
        pub(in super::super) fn new() -> std::io::Result<Arc<Self>> {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Arc::new(Self { event, stopped: AtomicBool::new(false) }))
        }

        /// Wakes the thread.
        pub(in super::super) fn wake(&self) {
            // It can only fail if a wake of old is still unread, which serves as well.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }

        /// Asks the thread to end.
        pub(in super::super) fn stop(&self) {
            self.stopped.store(true, Ordering::Release);
            self.wake();
        }

        /// Forgets wakes. Whether there was any.
        pub(in super::super) fn clear(&self) -> bool {
            rustix::io::read(&self.event, &mut [0; 8]).is_ok()
        }

        /// Waits until something can be read from `other`, until a wake, or for `timeout`.
        pub(in super::super) fn wait(
            &self,
            other: Option<BorrowedFd<'_>>,
            timeout: Option<Duration>,
        ) -> std::io::Result<()> {
            let other = other.unwrap_or(self.event.as_fd());
            let mut both = [
                PollFd::new(&self.event, PollFlags::IN),
                PollFd::from_borrowed_fd(other, PollFlags::IN),
            ];
            let timeout = timeout.map(timespec);
            match poll(&mut both, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }

        /// Waits for `timeout`, less if asked to end. Whether to go on.
        pub(in super::super) fn pause(&self, timeout: Duration) -> bool {
            let end = Instant::now() + timeout;
            while !self.is_stopped() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || self.wait(None, Some(left)).is_err() {
                    return true;
                }
                self.clear();
            }
            false
        }

        pub(in super::super) fn is_stopped(&self) -> bool {
            self.stopped.load(Ordering::Acquire)
        }
    }

    impl AsFd for Wake {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.event.as_fd()
        }
    }

    /// A span for the system. Those of us are short; a longer one becomes an hour.
    pub(in super::super) fn timespec(span: Duration) -> Timespec {
        let span = span.min(Duration::from_secs(3600));
        Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(3600),
            tv_nsec: i64::from(span.subsec_nanos()),
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use wake::timespec;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn dropping_ends_a_waiting_thread() {
        let wake = Wake::new().unwrap();
        let (stopper, waiter) = (wake.clone(), wake);
        let thread = Thread::start(
            "test",
            move || stopper.stop(),
            move || {
                assert!(!waiter.pause(Duration::from_secs(60)));
            },
        );
        let begun = Instant::now();
        drop(thread.unwrap());
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
