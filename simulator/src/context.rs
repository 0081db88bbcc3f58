//! Time and randomness of a simulation, as the system calls of this process see them.
//!
//! libp2p, quinn and the standard library ask the operating system for the time and for random
//! bytes. The program `hark-sim` intercepts these calls (see its module `interpose`) and answers
//! from here: with the virtual time of the host whose turn it is, and with bytes of that host's own
//! random stream. The real system answers until [`begin`], and on threads without a simulation.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use tokio::runtime::{Handle, Id};

use crate::random::stream;

thread_local! {
    static SIMULATION: RefCell<Option<Simulation>> = const { RefCell::new(None) };
    /// Virtual time between the turns of hosts.
    static BETWEEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// The start of the simulation on tokio's clock.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether any host's clock differs from virtual time.
    static CLOCKS_DIFFER: Cell<bool> = const { Cell::new(false) };
}

struct Simulation {
    seed: u64,
    /// Random bytes for calls that belong to no host.
    process: ChaCha8Rng,
    hosts: Vec<Host>,
}

struct Host {
    name: String,
    runtime: Option<Id>,
    incarnation: u32,
    random: ChaCha8Rng,
    clock: HostClock,
}

/// How a host's clocks differ from virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostClock {
    /// Parts per million by which the monotonic clock runs fast.
    pub skew_ppm: f64,
    /// Seconds by which the calendar is ahead.
    pub calendar_ahead_s: i64,
}

/// From now on, calls to the system on this thread are answered by what follows from `seed`.
pub fn begin(seed: u64) {
    let process = stream(seed, "process");
    SIMULATION.set(Some(Simulation { seed, process, hosts: Vec::new() }));
    // From here on, this call asks the simulation, which is at its start.
    START.set(Some(Instant::now()));
}

/// Whether [`begin`] was called on this thread.
pub fn simulating() -> bool {
    SIMULATION.with(|simulation| simulation.try_borrow().map_or(true, |it| it.is_some()))
}

/// The virtual time between the turns of hosts.
pub fn set_between(now: Duration) {
    BETWEEN.set(now);
}

/// Makes the current tokio runtime that of the host's next incarnation.
pub fn enter_host(name: &str) {
    let runtime = Some(Handle::current().id());
    with_host(name, |seed, host| {
        host.incarnation += 1;
        host.random = stream(seed, &format!("host {name} {}", host.incarnation));
        host.runtime = runtime;
    });
}

/// Sets the clocks of a host.
pub fn set_clock(name: &str, clock: HostClock) {
    CLOCKS_DIFFER.set(true);
    with_host(name, |_, host| host.clock = clock);
}

fn with_host(name: &str, change: impl FnOnce(u64, &mut Host)) {
    SIMULATION.with_borrow_mut(|simulation| {
        let Some(simulation) = simulation else { return };
        let known = simulation.hosts.iter().position(|host| host.name == name);
        let index = known.unwrap_or_else(|| {
            simulation.hosts.push(Host {
                name: name.to_owned(),
                runtime: None,
                incarnation: 0,
                random: stream(simulation.seed, name),
                clock: HostClock::default(),
            });
            simulation.hosts.len() - 1
        });
        change(simulation.seed, &mut simulation.hosts[index]);
    });
}

/// Virtual time since the start: the current host's, or the simulation's between the turns of
/// hosts.
pub fn now() -> Duration {
    match START.get() {
        Some(start) if Handle::try_current().is_ok() => {
            tokio::time::Instant::now().into_std().saturating_duration_since(start)
        }
        _ => BETWEEN.get(),
    }
}

/// The time of CLOCK_MONOTONIC for the current host.
pub fn monotonic() -> Duration {
    let now = now();
    let skew_ppm = host_clock().skew_ppm;
    if skew_ppm == 0.0 {
        return MONOTONIC_START + now;
    }
    // A double represents the nanoseconds of a hundred days exactly.
    let skewed_ns = now.as_nanos() as f64 * (1.0 + skew_ppm * 1e-6);
    MONOTONIC_START + Duration::from_nanos(skewed_ns as u64)
}

/// The time of CLOCK_REALTIME for the current host.
pub fn calendar() -> Duration {
    let clock = host_clock();
    let now = CALENDAR_START + now();
    let ahead = Duration::from_secs(clock.calendar_ahead_s.unsigned_abs());
    if clock.calendar_ahead_s < 0 { now.saturating_sub(ahead) } else { now + ahead }
}

/// Fills `bytes` from the random stream of the current host.
pub fn fill(bytes: &mut [u8]) {
    let runtime = Handle::try_current().ok().map(|handle| handle.id());
    SIMULATION.with_borrow_mut(|simulation| {
        let Some(simulation) = simulation else { return };
        let hosts = &mut simulation.hosts;
        let host = runtime.and_then(|id| hosts.iter_mut().find(|host| host.runtime == Some(id)));
        match host {
            Some(host) => host.random.fill_bytes(bytes),
            None => simulation.process.fill_bytes(bytes),
        }
    });
}

fn host_clock() -> HostClock {
    if !CLOCKS_DIFFER.get() {
        return HostClock::default();
    }
    let Ok(handle) = Handle::try_current() else { return HostClock::default() };
    let id = Some(handle.id());
    SIMULATION.with(|simulation| {
        let Ok(simulation) = simulation.try_borrow() else { return HostClock::default() };
        let hosts = simulation.iter().flat_map(|simulation| &simulation.hosts);
        hosts.into_iter().find(|host| host.runtime == id).map(|host| host.clock).unwrap_or_default()
    })
}

/// The monotonic clock at the start, since machines have been up for a while.
const MONOTONIC_START: Duration = Duration::from_secs(1_000);

/// The calendar at the start: 1 January 2030.
const CALENDAR_START: Duration = Duration::from_secs(1_893_456_000);
