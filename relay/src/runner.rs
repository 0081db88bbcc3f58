//! A carrier that carries: swarm, squad and forwarder of one organisation, on a thread or wherever
//! else time passes.
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
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, channel, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use hark_node::{
    driver::Worker,
    link::{Binder, UdpBinder},
    relay::{DirectEgress, Egress},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::core::Core;
use crate::{
    carrier::{Assignment, Carrier, CarrierCommand, CarrierSnapshot},
    error::RelayError,
    event::RelayEvent,
    metering::MeteredTraffic,
};

/// What comes to a carrier from others.
enum Order {
    Do(CarrierCommand),
    /// End, for this reason.
    Stop(String),
}

/// What a carrier asks of the machine that it runs on.
pub struct Machine {
    /// Makes its sockets.
    pub binder: Box<dyn Binder>,
    /// Hands on what it relays.
    pub egress: Arc<dyn Egress>,
    /// Writes.
    pub worker: Worker,
    /// Told whether it carries so little, from so many, that packets may gather for a moment before
    /// they are looked at: waking up for each heartbeat of hundreds costs more than the heartbeats.
    pub may_gather: Arc<AtomicBool>,
}

/// The way to a carrier, wherever it runs. Clones lead to the same one.
#[derive(Clone)]
pub struct Remote {
    orders: UnboundedSender<Order>,
    shown: Shown,
}

/// The carrier's end of it.
pub struct Control {
    orders: UnboundedReceiver<Order>,
    shown: Shown,
}

/// Both ends, for a carrier that is yet to run.
pub fn remote() -> (Remote, Control) {
    let (orders, received) = unbounded_channel();
    let shown = Shown::default();
    let control = Control { orders: received, shown: shown.clone() };
    (Remote { orders, shown }, control)
}

impl Remote {
    /// Has it do something soon.
    pub fn command(&self, command: CarrierCommand) {
        // One that has ended shows that.
        let _ = self.orders.send(Order::Do(command));
    }

    /// How it stands; at most a second old.
    pub fn snapshot(&self) -> Arc<CarrierSnapshot> {
        self.shown.get()
    }

    /// Has it say goodbye to all devices and end.
    pub fn stop(&self, reason: &str) {
        let _ = self.orders.send(Order::Stop(reason.to_owned()));
    }
}

/// A carrier on a thread.
struct Running {
    remote: Remote,
    thread: JoinHandle<MeteredTraffic>,
}

/// The newest state.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Arc<CarrierSnapshot>>>);

impl Shown {
    fn set(&self, snapshot: CarrierSnapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    fn get(&self) -> Arc<CarrierSnapshot> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Carrier for Running {
    fn command(&self, command: CarrierCommand) {
        self.remote.command(command);
    }

    fn snapshot(&self) -> Arc<CarrierSnapshot> {
        self.remote.snapshot()
    }

    fn stop(self: Box<Self>, reason: &str) -> MeteredTraffic {
        self.remote.stop(reason);
        // A panic there has shown itself.
        self.thread.join().unwrap_or_default()
    }
}

/// Starts a carrier on a thread of its own, and returns once it listens.
pub fn start(assignment: Assignment) -> Result<Box<dyn Carrier>, RelayError> {
    let (remote, control) = remote();
    let (started, outcome) = sync_channel::<Result<(), RelayError>>(1);
    let thread = std::thread::Builder::new().name("hark-carrier".to_owned()).spawn(move || {
        let tell = Arc::clone(&assignment.tell);
        let traffic = run(assignment, control, started);
        let reason = traffic.as_ref().map_or_else(ToString::to_string, |it| it.1.clone());
        if traffic.is_err() {
            tracing::error!("an organisation is not carried any more: {reason}");
        }
        tell(&RelayEvent::Stopped { reason });
        traffic.map(|it| it.0).unwrap_or_default()
    });
    let thread = thread?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(Box::new(Running { remote, thread })),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RelayError::Failed),
    }
}

/// Carries on a runtime of its own until told to stop.
fn run(
    assignment: Assignment,
    control: Control,
    started: SyncSender<Result<(), RelayError>>,
) -> Result<(MeteredTraffic, String), RelayError> {
    let may_gather = Arc::new(AtomicBool::new(false));
    let gathers = Arc::clone(&may_gather);
    let rest = move || {
        if gathers.load(Ordering::Relaxed) {
            std::thread::sleep(GATHERED_FOR);
        }
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().on_thread_park(rest).build()?;
    let machine = Machine {
        binder: Box::new(UdpBinder),
        egress: Arc::new(DirectEgress),
        worker: disk()?,
        may_gather,
    };
    // Whoever started it waits for that.
    let tell = move |outcome| drop(started.send(outcome));
    // As a task: what `block_on` polls itself is woken by way of the kernel.
    runtime.block_on(async {
        tokio::spawn(carry(assignment, machine, control, tell))
            .await
            .map_err(|_| RelayError::Failed)?
    })
}

/// Carries on this runtime until told to stop; gives what was carried, and why it has ended.
/// `started` is told once that it listens, or why it does not.
pub async fn carry(
    assignment: Assignment,
    machine: Machine,
    control: Control,
    started: impl FnOnce(Result<(), RelayError>),
) -> Result<(MeteredTraffic, String), RelayError> {
    let shown = control.shown.clone();
    let mut core = match Core::new(assignment, machine, control) {
        Ok(core) => core,
        Err(error) => {
            started(Err(error));
            return Ok((MeteredTraffic::default(), "it did not start".to_owned()));
        }
    };
    if let Err(error) = core.settle_in().await {
        started(Err(error));
        return Ok((MeteredTraffic::default(), "it did not start".to_owned()));
    }
    started(Ok(()));
    let ended = core.run().await;
    let (traffic, reason) =
        (core.traffic(), ended.as_ref().map_or_else(ToString::to_string, String::clone));
    shown.set(CarrierSnapshot { traffic, ended: Some(reason), ..CarrierSnapshot::default() });
    ended.map(|reason| (traffic, reason))
}

/// How long packets gather where they may. The first frame after a silence waits as long at most,
/// which is as long as the frame itself.
const GATHERED_FOR: Duration = Duration::from_millis(10);

/// A thread that writes one thing after the other: a later state of a file must not be overtaken by
/// an earlier one.
fn disk() -> Result<Worker, RelayError> {
    let (sender, work) = channel::<Box<dyn FnOnce() + Send>>();
    let thread = std::thread::Builder::new().name("hark-disk".to_owned());
    thread.spawn(move || work.into_iter().for_each(|work| work()))?;
    Ok(Arc::new(move |work| {
        // The thread ends only after this.
        let _ = sender.send(work);
    }))
}
