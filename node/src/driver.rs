//! The loop around a squad: its swarm, links and jobs, and the storage of its charter. It is the
//! same for a participant ([`network`](crate::network)) and for a relay.
//!
//! ```text
//!  links, swarm ── Network::next ──> Happened ──> the owner ── handle_…  ──> Squad
//!       ^                                                                      │
//!       └── messages, dials, verdicts ── Driver::poll ── Effect ──> the owner <┘
//!                 workers: jobs, charter, members ──┘
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hark_keys::{DeviceId, DeviceKey, OrganisationId, TargetId, Timestamp};
use hark_mesh::{
    Dial,
    squad::{self, DownReason, JobDone, Persist, Squad, SquadConfig, SquadTransmit},
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use crate::{
    clock::Clock,
    link::{Admission, Binder, Link, LinkDown, LinkEvent, Links},
    random::SystemRandom,
    relay::ForwardingRelay,
    store::{SquadStore, StoreError},
    swarm::{News, SwarmDriver, SwarmDriverConfig, SwarmError},
};

/// Runs work that waits for the disk, or takes long, away from the thread that decides. Work runs
/// in the order in which it is given.
pub type Worker = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Called with each message to a peer before it is sent, so that a test can check a whole squad. A
/// product sets none. The bytes may contain a key.
pub type Overhear = Arc<dyn Fn(DeviceId, &[u8]) + Send + Sync>;

/// The settings with which a network starts.
pub struct NetworkConfig {
    /// The key of this device.
    pub key: Arc<DeviceKey>,
    /// The organisation that the links are for.
    pub organisation: OrganisationId,
    /// Whether to look for members on the LAN.
    pub mdns: bool,
    /// The most links. Further ones are refused.
    pub links_max: u32,
    /// Whether members meet here that have no links to each other.
    pub is_hub: bool,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Decides who is admitted by the Hello.
    pub admission: Arc<dyn Admission>,
    /// All links.
    pub links: Arc<Links>,
    /// The events of the links.
    pub link_events: UnboundedReceiver<LinkEvent>,
    /// Forwards voice and tunnels for others.
    pub relay: Arc<ForwardingRelay>,
    /// Runs work that waits for the disk.
    pub worker: Worker,
    /// Called with each message to a peer.
    pub overhear: Option<Overhear>,
    /// The clock.
    pub clock: Clock,
}

/// The sockets, links and swarm of one device in one organisation, with or without a squad.
pub struct Network {
    /// libp2p's swarm.
    pub swarm: SwarmDriver,
    /// All links.
    pub links: Arc<Links>,
    /// Forwards voice and tunnels for others.
    pub relay: Arc<ForwardingRelay>,
    /// Runs work that waits for the disk.
    pub worker: Worker,
    /// The clock.
    pub clock: Clock,
    link_events: UnboundedReceiver<LinkEvent>,
    overhear: Option<Overhear>,
}

/// The result of [`Network::next`].
pub enum Happened {
    /// An event of a link. The owner passes it to [`Driver::handle_link`].
    Link(LinkEvent),
    /// News of the swarm. The squad has already been informed.
    News(News),
    /// A timer may have run out, or a worker is done.
    Due,
}

impl Network {
    /// Creates a network that listens nowhere yet. Fails if mDNS gets no socket. Call it on the
    /// tokio runtime that runs it.
    pub fn new(config: NetworkConfig) -> Result<Self, SwarmError> {
        let swarm = SwarmDriver::new(SwarmDriverConfig {
            key: config.key,
            organisation: config.organisation,
            mdns: config.mdns,
            links_max: config.links_max,
            is_hub: config.is_hub,
            binder: config.binder,
            admission: config.admission,
            links: Arc::clone(&config.links),
            clock: config.clock,
        })?;
        tokio::spawn(Arc::clone(&config.links).run_sender());
        tokio::spawn(Arc::clone(&config.relay).run());
        Ok(Self {
            swarm,
            links: config.links,
            relay: config.relay,
            worker: config.worker,
            clock: config.clock,
            link_events: config.link_events,
            overhear: config.overhear,
        })
    }

    /// Waits for the next event, at most until `until`. It is safe to cancel.
    pub async fn next(&mut self, squad: Option<&mut Squad>, until: Timestamp) -> Happened {
        let sleep = until.saturating_duration_since(self.clock.now());
        tokio::select! {
            biased;
            Some(event) = self.link_events.recv() => Happened::Link(event),
            news = self.swarm.next(squad) => Happened::News(news),
            () = tokio::time::sleep(sleep) => Happened::Due,
        }
    }
}

/// The settings with which a driver starts.
pub struct DriverConfig {
    /// The settings of the squad.
    pub squad: SquadConfig,
    /// Where charter and members are kept.
    pub store: Arc<dyn SquadStore>,
    /// The least time between two questions to the squad: when its next timer runs out, and whom to
    /// dial. If zero, the squad is asked at every turn. Each question costs a step for each device.
    pub ask_every: Duration,
}

/// A squad that runs on a [`Network`].
pub struct Driver {
    /// The state machine that decides.
    pub squad: Squad,
    store: Arc<dyn SquadStore>,
    ask_every: Duration,
    heard: BTreeMap<DeviceId, Timestamp>,
    /// When the squad's next timer runs out, as the squad said at `asked`.
    due: Option<Timestamp>,
    asked: Timestamp,
    may_dial: bool,
    sent: u32,
    records_changed: bool,
    done: UnboundedReceiver<WorkDone>,
    done_sender: UnboundedSender<WorkDone>,
}

/// The result of a worker's task for the squad.
enum WorkDone {
    Job(Box<JobDone>),
    Charter(u64, Result<(), StoreError>),
}

/// A task that [`Driver::poll`] leaves to its owner.
pub enum Effect {
    /// An event of the squad.
    Event(squad::SquadEvent),
    /// This generation of the key for a target must be on disk before the squad uses it.
    Generation(TargetId, u16),
    /// The squad wants to dial. The owner calls [`Driver::dial`], or refuses.
    Dial(Dial),
    /// Many messages were sent. Voice takes its turn before the next ones.
    Pause,
}

impl Driver {
    /// Creates a squad on a network.
    pub fn new(now: Timestamp, network: &Network, config: DriverConfig) -> Self {
        let squad = Squad::new(now, config.squad, Arc::new(SystemRandom));
        network.links.expect_from(squad.directory().addresses());
        let (done_sender, done) = unbounded_channel();
        Self {
            squad,
            store: config.store,
            ask_every: config.ask_every,
            heard: BTreeMap::new(),
            due: None,
            asked: now,
            may_dial: true,
            sent: 0,
            records_changed: false,
            done,
            done_sender,
        }
    }

    /// Waits for the next event, at most until the squad's next timer or `until`. It is safe to
    /// cancel.
    pub async fn next(&mut self, network: &mut Network, until: Timestamp) -> Happened {
        let until = self.next_timer(network.clock.now()).map_or(until, |due| due.min(until));
        tokio::select! {
            biased;
            Some(done) = self.done.recv() => {
                self.handle_done(network.clock.now(), done);
                Happened::Due
            }
            happened = network.next(Some(&mut self.squad), until) => happened,
        }
    }

    /// Handles what workers have done by now. The owner calls it before it lets anybody else act,
    /// so that a caller that asks again after an answer sees what is on disk by then.
    pub fn catch_up(&mut self, now: Timestamp) {
        while let Ok(done) = self.done.try_recv() {
            self.handle_done(now, done);
        }
    }

    /// When to look at the timers again.
    fn next_timer(&mut self, now: Timestamp) -> Option<Timestamp> {
        let ask_at = self.asked + self.ask_every;
        if now < ask_at {
            return Some(self.due.map_or(ask_at, |due| due.min(ask_at)));
        }
        self.asked = now;
        self.due = self.squad.poll_timeout();
        self.due
    }

    fn handle_done(&mut self, now: Timestamp, done: WorkDone) {
        match done {
            WorkDone::Job(job) => self.squad.handle_job(now, *job),
            WorkDone::Charter(number, Ok(())) => self.squad.handle_charter_persisted(now, number),
            WorkDone::Charter(number, Err(error)) => {
                tracing::warn!(%error, "the charter is not kept, and tried again");
                self.squad.handle_charter_unwritten(now, number);
            }
        }
    }

    /// Lets the squad act on the timers that have run out.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let is_due = self.due.take_if(|due| *due <= now).is_some();
        if is_due || self.ask_every.is_zero() {
            self.squad.handle_timeout(now);
            self.may_dial = true;
        }
    }

    /// Informs the squad and the relay of a link's event.
    pub fn handle_link(&mut self, now: Timestamp, network: &Network, event: &LinkEvent) {
        let (links, relay) = (&network.links, &network.relay);
        match event {
            LinkEvent::Up(link) => {
                self.heard.insert(link.device(), link.heard());
                let address = link.address().filter(|_| link.was_dialled());
                relay.renew_outlet(link.device(), links);
                self.squad.handle_link_up(now, link.hello().clone(), address);
                if let Some(best) = links.best(link.device()) {
                    self.squad.handle_path(now, best.device(), best.seen());
                }
            }
            LinkEvent::Changed(link) => {
                relay.renew_outlet(link.device(), links);
                self.squad.handle_path(now, link.device(), link.seen());
            }
            LinkEvent::Down(device, reason) => {
                self.heard.remove(device);
                let reason = match reason {
                    LinkDown::Left => DownReason::Left,
                    LinkDown::Unreachable => DownReason::Unreachable,
                    LinkDown::Restarted => DownReason::Restarted,
                    LinkDown::Closed => DownReason::Refused,
                };
                self.squad.handle_link_down(now, *device, reason);
            }
            LinkEvent::Visit(_) | LinkEvent::VisitEnded(_) => {}
        }
    }

    /// Updates what changes without an event: the date, signs of life and, if `paths`, the
    /// addresses from which peers' packets come. Returns the links.
    pub fn tick(&mut self, now: Timestamp, network: &Network, paths: bool) -> Vec<Arc<Link>> {
        self.squad.set_calendar(now, network.clock.unix());
        let links = network.links.all();
        if paths {
            links.iter().for_each(|link| self.squad.handle_path(now, link.device(), link.seen()));
        }
        for link in &links {
            let heard = link.heard();
            if self.heard.insert(link.device(), heard).is_none_or(|before| before < heard) {
                self.squad.handle_heard(heard, link.device());
            }
        }
        links
    }

    /// Does what the squad wants, and returns the next task that is left to the owner. `None` when
    /// nothing is left.
    pub fn poll(&mut self, now: Timestamp, network: &mut Network) -> Option<Effect> {
        let squad = &mut self.squad;
        loop {
            if let Some(event) = squad.poll_event() {
                self.records_changed |= matches!(event, squad::SquadEvent::RecordsChanged);
                return Some(Effect::Event(event));
            } else if let Some((number, result)) = squad.poll_verdict() {
                network.swarm.conclude(number, &result);
            } else if let Some(persist) = squad.poll_persist() {
                match persist {
                    Persist::Generation(target, generation) => {
                        return Some(Effect::Generation(target, generation));
                    }
                    Persist::Charter(number, charter) => {
                        let (store, done) = (Arc::clone(&self.store), self.done_sender.clone());
                        (network.worker)(Box::new(move || {
                            // The owner may have ended in the meantime.
                            let _ =
                                done.send(WorkDone::Charter(number, store.keep_charter(&charter)));
                        }));
                    }
                }
            } else if let Some(job) = squad.poll_job(now) {
                let done = self.done_sender.clone();
                (network.worker)(Box::new(move || {
                    let _ = done.send(WorkDone::Job(Box::new(job.run())));
                }));
            } else if self.sent == SENT_A_TURN {
                self.sent = 0;
                return Some(Effect::Pause);
            } else if let Some(transmit) = squad.poll_transmit() {
                if let (Some(overhear), SquadTransmit::Message { to, bytes, .. }) =
                    (&network.overhear, &transmit)
                {
                    overhear(*to, bytes);
                }
                network.swarm.transmit(now, transmit, squad);
                self.sent += 1;
            } else if let Some(dial) = self.may_dial.then(|| squad.poll_dial(now)).flatten() {
                return Some(Effect::Dial(dial));
            } else {
                self.may_dial = self.ask_every.is_zero();
                self.sent = 0;
                return None;
            }
        }
    }

    /// Dials for the squad.
    pub fn dial(&mut self, now: Timestamp, network: &mut Network, dial: Dial) {
        network.swarm.dial(now, dial, Some(&mut self.squad));
    }

    /// Has a worker write the records of members, if they have changed.
    pub fn keep_members(&mut self, network: &Network) {
        if !std::mem::take(&mut self.records_changed) {
            return;
        }
        network.links.expect_from(self.squad.directory().addresses());
        self.write_members(network);
    }

    fn write_members(&self, network: &Network) {
        let (store, snapshot) = (Arc::clone(&self.store), self.squad.directory().snapshot());
        (network.worker)(Box::new(move || {
            if let Err(error) = store.keep_members(&snapshot) {
                tracing::warn!(%error, "members are not remembered");
            }
        }));
    }

    /// Says goodbye to all peers. Returns when everything that must be kept is on disk.
    pub async fn leave(self, network: &mut Network) {
        self.write_members(network);
        // Pieces that were accepted while the last write was under way.
        let taken = self.squad.charter_taken();
        if taken.digest() != self.squad.charter().digest() {
            let (store, taken) = (Arc::clone(&self.store), taken.clone());
            (network.worker)(Box::new(move || {
                if let Err(error) = store.keep_charter(&taken) {
                    tracing::warn!(%error, "the newest of the charter is not kept");
                }
            }));
        }
        let (last, written) = oneshot::channel::<()>();
        (network.worker)(Box::new(move || drop(last)));
        network.swarm.leave().await;
        // The sender is dropped without a message.
        let _ = written.await;
    }
}

/// Messages that are sent for the squad before voice has its turn: some 100 µs.
const SENT_A_TURN: u32 = 32;
