//! Waits for room to send.

use std::{
    future::Future,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::UdpPoller;
use tokio::time::{Instant, Sleep, sleep};

/// Whether the last packet of a socket found no room to leave. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Full(Arc<AtomicBool>);

impl Full {
    /// Remembers if a packet found no room. Returns its outcome.
    pub(super) fn note(&self, sent: io::Result<()>) -> io::Result<()> {
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            self.0.store(true, Ordering::Relaxed);
        }
        sent
    }
}

/// Leaves a full socket alone for a moment. Being woken whenever there is room would cost a talker
/// a wake-up for each packet that has left.
#[derive(Debug)]
pub(super) struct Room {
    full: Full,
    pause: Pin<Box<Sleep>>,
    waits: bool,
}

impl Room {
    /// Waits for room at the socket to which `full` belongs.
    pub(super) fn of(full: &Full) -> Self {
        Self { full: full.clone(), pause: Box::pin(sleep(Duration::ZERO)), waits: false }
    }
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.waits && this.full.0.load(Ordering::Relaxed) {
            this.pause.as_mut().reset(Instant::now() + LOOK_AGAIN);
            this.waits = true;
        }
        if this.waits {
            ready!(this.pause.as_mut().poll(cx));
            this.waits = false;
            this.full.0.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a full socket is left alone. A network card sends some hundred packets in that time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
