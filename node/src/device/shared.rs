//! The state that other threads share with the voice thread.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, Thread},
};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use hark_keys::{DeviceId, Timestamp};
use hark_voice::{Line, VoiceCommand, VoiceStatistics};

use super::supervisor::Supervisor;

/// Datagrams that wait for the voice thread: a second of ten talkers. If there are more, the oldest
/// is dropped and counted.
const DATAGRAMS_MAX: usize = 1_024;
/// Commands that wait for the voice thread. Further ones are refused and counted.
const COMMANDS_MAX: usize = 1_024;

/// Controls a running voice thread, which stops when the last handle is dropped.
#[derive(Clone)]
pub struct VoiceHandle {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
    line: Line,
}

impl VoiceHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        thread: JoinHandle<()>,
        supervisor: Option<Supervisor>,
    ) -> Self {
        let owner =
            Owner { shared: shared.clone(), running: Mutex::new(Some((thread, supervisor))) };
        Self { shared, owner: Arc::new(owner), line: 0 }
    }

    /// The same handle for another line.
    #[must_use]
    pub fn on(&self, line: Line) -> Self {
        Self { line, ..self.clone() }
    }

    /// Has the line's pipeline carry out `command` within a few milliseconds. Returns `false` if
    /// the command is refused because 1,024 wait already.
    pub fn command(&self, command: VoiceCommand) -> bool {
        let accepted = self.shared.commands.push((self.line, command)).is_ok();
        if accepted {
            self.shared.waker.wake();
        } else {
            self.shared.commands_refused.fetch_add(1, Ordering::Relaxed);
        }
        accepted
    }

    /// Hands a datagram of voice to the thread. If 1,024 wait already, the oldest is dropped and
    /// counted.
    ///
    /// It does not wake the thread, which handles the datagram when the next block of sound is due.
    pub fn datagram(&self, arrived: Timestamp, from: DeviceId, bytes: Bytes) {
        let datagram = Datagram { arrived, line: self.line, from, bytes };
        if self.shared.datagrams.force_push(datagram).is_some() {
            self.shared.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters, which are at most some 100 ms old.
    pub fn statistics(&self) -> Arc<VoiceThreadStatistics> {
        self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops the thread: finishes the output file and releases the sound cards. Returns when that
    /// is done.
    pub fn stop(&self) {
        self.owner.stop();
    }
}

/// The counters of the voice thread and its ends.
#[derive(Clone, Debug, Default)]
pub struct VoiceThreadStatistics {
    /// The counters of each line.
    pub voice: Vec<VoiceStatistics>,
    /// The counters of the input end.
    pub input: EndStatistics,
    /// The counters of the output end.
    pub output: EndStatistics,
    /// Datagrams dropped because the voice thread had not handled them yet.
    pub datagrams_dropped: u64,
    /// Commands refused for the same reason.
    pub commands_refused: u64,
}

/// The counters of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndStatistics {
    /// Samples at 48 kHz that were handed on.
    pub samples: u64,
    /// Samples that were lost: a sound card's ring was full or empty (at the card's own rate), a
    /// disk was full, or the machine stood still.
    pub lost: u64,
    /// How often the sound card was opened.
    pub openings: u64,
}

/// A datagram that waits for the pipeline.
pub(super) struct Datagram {
    pub(super) arrived: Timestamp,
    pub(super) line: Line,
    pub(super) from: DeviceId,
    pub(super) bytes: Bytes,
}

/// The state that the voice thread and its handles share.
pub(super) struct Shared {
    pub(super) commands: ArrayQueue<(Line, VoiceCommand)>,
    pub(super) datagrams: ArrayQueue<Datagram>,
    pub(super) commands_refused: AtomicU64,
    pub(super) datagrams_dropped: AtomicU64,
    pub(super) stopping: AtomicBool,
    pub(super) statistics: Mutex<Arc<VoiceThreadStatistics>>,
    pub(super) waker: Waker,
}

impl Shared {
    pub(super) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            commands: ArrayQueue::new(COMMANDS_MAX),
            datagrams: ArrayQueue::new(DATAGRAMS_MAX),
            commands_refused: AtomicU64::new(0),
            datagrams_dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            statistics: Mutex::default(),
            waker,
        })
    }
}

/// Wakes the voice thread. It takes no lock and allocates nothing, so audio callbacks may use it.
#[derive(Clone, Default)]
pub struct Waker(Arc<OnceLock<Thread>>);

impl Waker {
    /// Sets the thread to wake. Before that, `wake` does nothing. Only the first call counts.
    pub fn set(&self, thread: Thread) {
        // A second call would mean a second thread for the same ends, which nobody starts.
        let _ = self.0.set(thread);
    }

    /// Ends the thread's pause, or skips its next one. That is an atomic swap, and a futex if the
    /// thread sleeps.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Stops the thread when the last handle is gone.
struct Owner {
    shared: Arc<Shared>,
    running: Mutex<Option<(JoinHandle<()>, Option<Supervisor>)>>,
}

impl Owner {
    fn stop(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((thread, supervisor)) = running.take() else { return };
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.waker.wake();
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the voice thread has panicked");
        }
        drop(supervisor);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}
