//! What a relay tells programs: one JSON object each.

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

/// Something that happened, in the words that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RelayEvent {
    /// The program runs and its admin API answers.
    Started {
        /// Where the API is.
        admin: String,
        /// Of the program.
        version: String,
    },
    /// An organisation's devices can come.
    Ready {
        /// The relay's identity in the organisation.
        device: Text<DeviceId>,
        /// Where it listens, as `ADDR:PORT`.
        listen: Vec<String>,
    },
    /// The organisation's charter names this relay, as far as members have brought that; or does so
    /// no longer.
    Named {
        /// Which of the two.
        named: bool,
    },
    /// A device has attached.
    SessionUp {
        /// Which.
        device: Text<DeviceId>,
        /// Whose it is; none as long as the charter does not say.
        member: Option<Text<MemberId>>,
        /// Where its packets come from.
        address: String,
    },
    /// A device is gone.
    SessionDown {
        /// Which.
        device: Text<DeviceId>,
        /// `left`, `unreachable`, `restarted` or `closed`.
        reason: String,
    },
    /// A limit is reached; told once until it has been out of reach again.
    QuotaReached {
        /// `members`, `channels`, `kbps` or `packets`.
        quota: String,
    },
    /// Nothing is carried any more that could be carried elsewhere.
    Drained,
    /// An organisation's carrier has ended, or, without `org`, the program.
    Stopped {
        /// `signal`, `time`, `removed`, or what failed.
        reason: String,
    },
}

/// An event with when and for whom it happened.
#[derive(Clone, Debug, Serialize)]
struct Stamped<'a> {
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<Text<OrganisationId>>,
    #[serde(flatten)]
    event: &'a RelayEvent,
}

/// Hands events to whoever wants them, as lines of JSON.
pub struct Events {
    clock: Clock,
    listeners: broadcast::Sender<Arc<str>>,
    journal: Option<SyncSender<Arc<str>>>,
}

/// The thread that writes a file of events; see [`Events::new`].
pub struct Journal(JoinHandle<io::Result<()>>);

impl Events {
    /// Nobody listens yet but the file, where one is given; `-` is standard output. What the file
    /// holds is complete once the events are dropped and [`Journal::finish`] has returned.
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

    /// Tells everybody.
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
        // Nobody may listen.
        let _ = self.listeners.send(line);
    }

    /// Events from now on; who reads too slowly loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.listeners.subscribe()
    }
}

impl Journal {
    /// Waits until all is written.
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

/// Events on their way to one reader; a file loses the newest then, others the oldest.
const WAITING_MAX: usize = 1024;
