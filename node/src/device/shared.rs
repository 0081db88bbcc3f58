//! What other threads hold of the voice thread.

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

/// Datagrams that wait for the voice thread: a second of ten talkers. Beyond it the oldest go,
/// counted.
const DATAGRAMS_MAX: usize = 1_024;
/// Commands that wait for the voice thread. Beyond it they are refused, counted.
const COMMANDS_MAX: usize = 1_024;

/// Steers a running voice thread. The last one that is dropped stops it.
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

    /// The same for another line.
    #[must_use]
    pub fn on(&self, line: Line) -> Self {
        Self { line, ..self.clone() }
    }

    /// Has the line's pipeline do `command` within a few milliseconds. False: refused, as over a
    /// thousand wait already.
    pub fn command(&self, command: VoiceCommand) -> bool {
        let accepted = self.shared.commands.push((self.line, command)).is_ok();
        if accepted {
            self.shared.waker.wake();
        } else {
            self.shared.commands_refused.fetch_add(1, Ordering::Relaxed);
        }
        accepted
    }

    /// Hands on a datagram of voice. When over a thousand wait, the oldest is dropped and counted.
    ///
    /// It wakes nobody: it is looked at when the next block of sound is due.
    pub fn datagram(&self, arrived: Timestamp, from: DeviceId, bytes: Bytes) {
        let datagram = Datagram { arrived, line: self.line, from, bytes };
        if self.shared.datagrams.force_push(datagram).is_some() {
            self.shared.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters, at most some 100 ms old.
    pub fn statistics(&self) -> Arc<VoiceThreadStatistics> {
        self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the talk: finishes the output file and gives the sound cards back. Returns when done.
    pub fn stop(&self) {
        self.owner.stop();
    }
}

/// How the voice thread and its ends are doing.
#[derive(Clone, Debug, Default)]
pub struct VoiceThreadStatistics {
    /// The counters of each line.
    pub voice: Vec<VoiceStatistics>,
    /// The end that speaks.
    pub input: EndStatistics,
    /// The end that is heard.
    pub output: EndStatistics,
    /// Datagrams dropped since the voice thread had not come round to them.
    pub datagrams_dropped: u64,
    /// Commands refused for the same reason.
    pub commands_refused: u64,
}

/// How one end is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndStatistics {
    /// Samples handed on, at 48 kHz.
    pub samples: u64,
    /// Samples that were not: a full or dry ring of a sound card (at its own rate), a full disk, a
    /// machine that stood still.
    pub lost: u64,
    /// Times that the sound card was opened.
    pub openings: u64,
}

/// A datagram on its way to the pipeline.
pub(super) struct Datagram {
    pub(super) arrived: Timestamp,
    pub(super) line: Line,
    pub(super) from: DeviceId,
    pub(super) bytes: Bytes,
}

/// What the voice thread and its handles have in common.
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

/// Wakes the voice thread. Takes no lock and allocates nothing, so audio callbacks may.
#[derive(Clone, Default)]
pub struct Waker(Arc<OnceLock<Thread>>);

impl Waker {
    /// Names the thread to wake; before that, `wake` does nothing. Only the first call counts.
    pub fn set(&self, thread: Thread) {
        // A second call would be a second thread for the same ends, which nobody starts.
        let _ = self.0.set(thread);
    }

    /// Ends the thread's pause, or skips the next one: an atomic swap, and a futex where it sleeps.
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
