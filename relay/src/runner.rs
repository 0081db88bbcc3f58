//! The carrier of one organisation, with its swarm, squad and forwarder. It runs on a thread, or in
//! the virtual time of a simulation.
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

/// An order that a carrier receives.
enum Order {
    Do(CarrierCommand),
    /// Ends the carrier, for this reason.
    Stop(String),
}

/// The parts of the machine that a carrier uses.
pub struct Machine {
    /// Makes the carrier's sockets.
    pub binder: Box<dyn Binder>,
    /// Sends what the carrier forwards.
    pub egress: Arc<dyn Egress>,
    /// Writes files.
    pub worker: Worker,
    /// Set by the carrier while it carries so little, from so many devices, that packets may gather
    /// for a moment before they are handled. To wake up for each heartbeat of hundreds of devices
    /// would cost more than the heartbeats themselves.
    pub may_gather: Arc<AtomicBool>,
}

/// Access to a carrier, wherever it runs. Clones lead to the same carrier.
#[derive(Clone)]
pub struct Remote {
    orders: UnboundedSender<Order>,
    shown: Shown,
}

/// The carrier's end of a [`Remote`].
pub struct Control {
    orders: UnboundedReceiver<Order>,
    shown: Shown,
}

/// Makes both ends, for a carrier that will run later.
pub fn remote() -> (Remote, Control) {
    let (orders, received) = unbounded_channel();
    let shown = Shown::default();
    let control = Control { orders: received, shown: shown.clone() };
    (Remote { orders, shown }, control)
}

impl Remote {
    /// Has the carrier carry out a command soon.
    pub fn command(&self, command: CarrierCommand) {
        // A carrier that has ended shows that in its snapshot.
        let _ = self.orders.send(Order::Do(command));
    }

    /// The state of the carrier, at most one second old.
    pub fn snapshot(&self) -> Arc<CarrierSnapshot> {
        self.shown.get()
    }

    /// Has the carrier say goodbye to all devices and end.
    pub fn stop(&self, reason: &str) {
        let _ = self.orders.send(Order::Stop(reason.to_owned()));
    }
}

/// A carrier that runs on a thread of its own.
struct Running {
    remote: Remote,
    thread: JoinHandle<MeteredTraffic>,
}

/// The newest snapshot.
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
        // A panic of that thread has reported itself.
        self.thread.join().unwrap_or_default()
    }
}

/// Starts a carrier on a thread of its own. Returns once the carrier listens.
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

/// Runs a carrier on a runtime of its own until it is stopped.
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
    // The thread that started the carrier waits for this.
    let tell = move |outcome| drop(started.send(outcome));
    // The carrier runs as a task, since a future that `block_on` polls itself is woken through the
    // kernel.
    runtime.block_on(async {
        tokio::spawn(carry(assignment, machine, control, tell))
            .await
            .map_err(|_| RelayError::Failed)?
    })
}

/// Runs a carrier on this runtime until it is stopped. Returns what was carried, and why the
/// carrier has ended. `started` is called once, when the carrier listens or with the reason why it
/// does not.
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

/// How long packets gather where they may. The first frame after a silence waits at most this long,
/// which is as long as the frame itself.
const GATHERED_FOR: Duration = Duration::from_millis(10);

/// A thread that writes one thing after another, so that an earlier state of a file never
/// overwrites a later one.
fn disk() -> Result<Worker, RelayError> {
    let (sender, work) = channel::<Box<dyn FnOnce() + Send>>();
    let thread = std::thread::Builder::new().name("hark-disk".to_owned());
    thread.spawn(move || work.into_iter().for_each(|work| work()))?;
    Ok(Arc::new(move |work| {
        // The thread ends only when all senders are dropped.
        let _ = sender.send(work);
    }))
}
