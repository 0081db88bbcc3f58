//! Events of a relay for programs, one JSON object each.

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use hark_keys::{DeviceId, MemberId, OrganisationId};
use hark_node::{clock::Clock, store::create_journal};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::{error::RelayError, text::Text};

/// An event, in the words that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RelayEvent {
    /// The program runs and its admin API answers.
    Started {
        /// The address of the API.
        admin: String,
        /// The version of the program.
        version: String,
    },
    /// The organisation's devices can attach.
    Ready {
        /// The relay's identity in the organisation.
        device: Text<DeviceId>,
        /// The addresses where the relay listens, as `ADDR:PORT`.
        listen: Vec<String>,
    },
    /// The organisation's charter names this relay, or no longer names it, as far as members have
    /// brought the charter.
    Named {
        /// Whether the charter names this relay.
        named: bool,
    },
    /// A device has attached.
    SessionUp {
        /// The device's id.
        device: Text<DeviceId>,
        /// The member to whom the device belongs; `None` as long as the charter does not say.
        member: Option<Text<MemberId>>,
        /// The address from which its packets come.
        address: String,
    },
    /// A device is no longer attached.
    SessionDown {
        /// The device's id.
        device: Text<DeviceId>,
        /// Why: `left`, `unreachable`, `restarted` or `closed`.
        reason: String,
    },
    /// A limit is reached. The event is repeated only after usage has been below the limit again.
    QuotaReached {
        /// The limit: `members`, `channels`, `kbps` or `packets`.
        quota: String,
    },
    /// Nothing is carried any more that could be carried elsewhere.
    Drained,
    /// The carrier of an organisation has ended; without `org`, the program has ended.
    Stopped {
        /// Why: `signal`, `time`, `removed`, or the error.
        reason: String,
    },
}

/// An event with its time and organisation.
#[derive(Clone, Debug, Serialize)]
struct Stamped<'a> {
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<Text<OrganisationId>>,
    #[serde(flatten)]
    event: &'a RelayEvent,
}

/// Distributes events to all subscribers, as lines of JSON.
pub struct Events {
    clock: Clock,
    listeners: broadcast::Sender<Arc<str>>,
    journal: Option<SyncSender<Arc<str>>>,
}

/// The thread that writes a file of events; see [`Events::new`].
pub struct Journal(JoinHandle<io::Result<()>>);

impl Events {
    /// Makes a distributor of events and, if a `file` is given, starts to write them there; `-` is
    /// standard output. The file is complete once the events are dropped and [`Journal::finish`]
    /// has returned.
    pub fn new(
        clock: Clock,
        file: Option<&Path>,
    ) -> Result<(Arc<Self>, Option<Journal>), RelayError> {
        let (journal, thread) = match file {
            None => (None, None),
            Some(path) => {
                let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
                    Box::new(io::stdout())
                } else {
                    let failed = |error| RelayError::Journal { path: path.to_owned(), error };
                    Box::new(create_journal(path).map_err(failed)?)
                };
                let (sender, thread) = write_lines(out)?;
                (Some(sender), Some(thread))
            }
        };
        let (listeners, _) = broadcast::channel(WAITING_MAX);
        Ok((Arc::new(Self { clock, listeners, journal }), thread))
    }

    /// Sends an event to the file and to all subscribers.
    pub fn publish(&self, organisation: Option<OrganisationId>, event: &RelayEvent) {
        let at_us = self.clock.unix_micros();
        let stamped = Stamped { at_us, org: organisation.map(Text), event };
        let line = serde_json::to_string(&stamped).expect("text and numbers are JSON");
        let line: Arc<str> = line.into();
        if let Some(journal) = &self.journal
            && let Err(TrySendError::Full(_)) = journal.try_send(Arc::clone(&line))
        {
            tracing::warn!("the disk is too slow for the file of events: one is lost");
        }
        // There may be no subscribers.
        let _ = self.listeners.send(line);
    }

    /// Subscribes to all events from now on. A subscriber that reads too slowly loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.listeners.subscribe()
    }
}

impl Journal {
    /// Waits until all events are written.
    pub fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes has failed")))
    }
}

fn write_lines(mut out: Box<dyn Write + Send>) -> io::Result<(SyncSender<Arc<str>>, Journal)> {
    let (sender, lines) = sync_channel::<Arc<str>>(WAITING_MAX);
    let thread = std::thread::Builder::new().name("hark-events".to_owned()).spawn(move || {
        for line in lines {
            writeln!(out, "{line}").and_then(|()| out.flush())?;
        }
        Ok(())
    })?;
    Ok((sender, Journal(thread)))
}

/// How many events may wait for one reader. If there are more, a file loses the newest, a
/// subscriber the oldest.
const WAITING_MAX: usize = 1024;
