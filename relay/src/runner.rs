//! A carrier that carries: swarm, squad and forwarder of one organisation on a thread.
//!
//! ```text
//!  links ── datagrams ─> Relay (Forwarder) ─> links        each in the turn in which it comes
//!    └───── messages ──> Squad (member of nobody) ── who is attached, what each hears ─> Relay
//! ```

mod channels;
mod core;
mod gate;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use anyhow::Context;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::core::Core;
use crate::{
    carrier::{Assignment, Carrier, Command, Snapshot},
    event::Event,
    metering::Traffic,
};

/// What comes to the thread from others.
enum Order {
    Do(Command),
    /// The charter with this number is on disk, or could not be written.
    Persisted(u64, Result<(), String>),
    /// End, for this reason.
    Stop(String),
}

/// A running carrier.
struct Running {
    orders: UnboundedSender<Order>,
    shown: Shown,
    thread: JoinHandle<Traffic>,
}

/// The newest state.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Arc<Snapshot>>>);

impl Shown {
    fn set(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    fn get(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Carrier for Running {
    fn command(&self, command: Command) {
        // One that has ended shows that.
        let _ = self.orders.send(Order::Do(command));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.shown.get()
    }

    fn stop(self: Box<Self>, reason: &str) -> Traffic {
        let _ = self.orders.send(Order::Stop(reason.to_owned()));
        // A panic there has shown itself.
        self.thread.join().unwrap_or_default()
    }
}

/// Starts a carrier, and returns once it listens.
pub fn start(assignment: Assignment) -> anyhow::Result<Box<dyn Carrier>> {
    let (orders, received) = unbounded_channel();
    let (started, outcome) = sync_channel::<Result<(), String>>(1);
    let shown = Shown::default();
    let (to_core, to_show) = (orders.clone(), shown.clone());
    let thread = std::thread::Builder::new().name("hark-carrier".to_owned()).spawn(move || {
        let tell = Arc::clone(&assignment.tell);
        let traffic = run(assignment, to_core, received, to_show, started);
        let reason = traffic.as_ref().map_or_else(|error| format!("{error:#}"), |it| it.1.clone());
        if traffic.is_err() {
            tracing::error!("an organisation is not carried any more: {reason}");
        }
        tell(&Event::Stopped { reason });
        traffic.map(|it| it.0).unwrap_or_default()
    });
    let thread = thread.context("no thread for another organisation")?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(Box::new(Running { orders, shown, thread })),
        Ok(Err(error)) => Err(anyhow::Error::msg(error)),
        Err(_) => anyhow::bail!("the organisation's carrier has failed: its message stands above"),
    }
}

/// Carries until told to stop; gives what was carried, and why it has ended.
fn run(
    assignment: Assignment,
    orders: UnboundedSender<Order>,
    received: tokio::sync::mpsc::UnboundedReceiver<Order>,
    shown: Shown,
    started: SyncSender<Result<(), String>>,
) -> anyhow::Result<(Traffic, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut core = match Core::new(assignment, orders, received, shown.clone()) {
            Ok(core) => core,
            Err(error) => {
                let _ = started.send(Err(format!("{error:#}")));
                return Ok((Traffic::default(), "it did not start".to_owned()));
            }
        };
        core.settle_in().await;
        let _ = started.send(Ok(()));
        let ended = core.run().await;
        let (traffic, reason) = (
            core.traffic(),
            ended.as_ref().map_or_else(|error| format!("{error:#}"), String::clone),
        );
        shown.set(Snapshot { traffic, ended: Some(reason), ..Snapshot::default() });
        ended.map(|reason| (traffic, reason))
    })
}
