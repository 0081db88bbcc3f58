//! The main loop of a carrier.

mod seconds;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hark_charter::Charter;
use hark_keys::{DeviceId, DeviceKey, OrganisationId, Random, Timestamp, UnixTime};
use hark_mesh::{
    Directory,
    forwarding::{Limits, Rate, Statistics},
    hello::Presence,
    squad::{self, DownReason, RELAY_LINKS_MAX, Service, SquadConfig},
};
use hark_node::{
    admission::Doorkeeper,
    clock::Clock,
    driver::{Driver, DriverConfig, Effect, Happened, Network, NetworkConfig},
    link::{Link, LinkEvent, Links},
    random::SystemRandom,
    relay::ForwardingRelay,
    store::{SquadStore, StoreError},
    swarm::News,
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};

use super::{Control, Machine, Order, Shown, channels::Channels, gate::Gate};
use crate::{
    carrier::{Assignment, CarrierCommand, Tell},
    error::RelayError,
    event::RelayEvent,
    home::TenantStore,
    metering::MeteredTraffic,
    state::Quotas,
    text::Text,
};

/// The carrier of one organisation.
pub(super) struct Core {
    organisation: OrganisationId,
    key: Arc<DeviceKey>,
    store: TenantStore,
    presence: Presence,
    network: Network,
    gate: Arc<Gate>,
    /// The driver of the squad; `None` until a member has brought the charter.
    driver: Option<Driver>,
    orders: UnboundedReceiver<Order>,
    may_gather: Arc<AtomicBool>,
    tell: Tell,
    shown: Shown,
    quotas: Quotas,
    channels: Channels,
    /// Attached devices, and the time since when each is attached.
    attached: BTreeMap<DeviceId, UnixTime>,
    draining_since: Option<Timestamp>,
    told_drained: bool,
    named: bool,
    /// For each limit, whether it is reached. An event is sent only when this becomes true.
    told: BTreeMap<&'static str, bool>,
    /// The forwarder's statistics when they were last read.
    counted: Statistics,
    next_tick: Timestamp,
    ticks: u64,
}

impl Core {
    /// Opens the sockets. Must be called on the runtime on which the carrier runs.
    pub(super) fn new(
        assignment: Assignment,
        Machine { binder, egress, worker, may_gather }: Machine,
        Control { orders, shown }: Control,
    ) -> Result<Self, RelayError> {
        let Assignment { organisation, key, store, listen, quotas, banned, draining, tell } =
            assignment;
        let clock = Clock;
        let mut incarnation = [0; 8];
        SystemRandom.fill(&mut incarnation);
        let presence = Presence {
            incarnation: u64::from_be_bytes(incarnation),
            name: NAME.to_owned(),
            addresses: Vec::new(),
            listening: Vec::new(),
        };
        let charter = store.charter()?.map(Arc::new);
        let doorkeeper = Doorkeeper::relay(
            DeviceKey::from_secret(&key.secret()),
            organisation,
            charter.clone(),
            presence.clone(),
            clock,
        );
        let gate = Arc::new(Gate::new(doorkeeper, banned));
        let relay = ForwardingRelay::new(clock, limits(quotas), egress);
        let (link_sender, link_events) = unbounded_channel();
        let (takes, gathers) = (Arc::clone(&relay), Arc::clone(&may_gather));
        let handler = Arc::new(move |now, device, datagram: axum::body::Bytes| {
            if ForwardingRelay::is_for_relays(&datagram) {
                gathers.store(false, Ordering::Relaxed);
                takes.handle(now, device, &datagram);
            }
        });
        let links = Links::new(key.id(), clock, link_sender, handler);
        links.serve_crowds();
        let key = Arc::new(key);
        let mut network = Network::new(NetworkConfig {
            key: Arc::clone(&key),
            organisation,
            mdns: false,
            links_max: CONNECTIONS_MAX,
            is_hub: true,
            binder,
            admission: Arc::clone(&gate) as _,
            links,
            link_events,
            relay,
            worker,
            overhear: None,
            clock,
        })?;
        for address in listen {
            let listens = network.swarm.listen(address, None);
            listens.map_err(|reason| RelayError::Listen { address, reason })?;
        }
        let now = clock.now();
        let mut core = Self {
            organisation,
            key,
            store,
            presence,
            network,
            gate,
            driver: None,
            orders,
            may_gather,
            tell,
            shown,
            quotas,
            channels: Channels::default(),
            attached: BTreeMap::new(),
            draining_since: None,
            told_drained: false,
            named: false,
            told: BTreeMap::new(),
            counted: Statistics::default(),
            next_tick: now,
            ticks: 0,
        };
        core.channels.set_max(quotas.channels as usize);
        if let Some(charter) = charter {
            let members = core.store.members()?;
            core.begin(now, charter, &members);
        }
        if draining {
            core.drain(now, true);
        }
        Ok(core)
    }

    /// Waits until the addresses where the carrier listens are known.
    pub(super) async fn settle_in(&mut self) -> Result<(), RelayError> {
        let first = self.network.clock.now() + READY_TIMEOUT;
        let mut until = first;
        while self.network.clock.now() < until {
            // The squad acts once the carrier runs: its timers wait until then.
            let squad = self.driver.as_mut().map(|driver| &mut driver.squad);
            match self.network.next(squad, until).await {
                Happened::Link(event) => self.handle_link(event).await?,
                Happened::News(News::Addresses { .. }) => {
                    until = first.min(self.network.clock.now() + ADDRESSES_SETTLE);
                    self.handle_addresses();
                }
                Happened::News(_) | Happened::Due => {}
            }
        }
        self.show();
        let listen = self.network.swarm.own_addresses().iter().map(ToString::to_string).collect();
        (self.tell)(&RelayEvent::Ready { device: Text(self.key.id()), listen });
        Ok(())
    }

    /// Works until the carrier is stopped, and returns the reason.
    pub(super) async fn run(&mut self) -> Result<String, RelayError> {
        loop {
            let until = self.next_tick;
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let now = self.network.clock.now();
                    match order {
                        Some(Order::Do(command)) => self.handle_command(now, command),
                        Some(Order::Stop(reason)) => return Ok(self.leave(reason).await),
                        None => return Ok(self.leave("the program has ended".to_owned()).await),
                    }
                }
                happened = next(&mut self.driver, &mut self.network, until) => match happened {
                    Happened::Link(event) => self.handle_link(event).await?,
                    Happened::News(News::Addresses { .. }) => self.handle_addresses(),
                    Happened::News(_) | Happened::Due => {}
                }
            }
            let now = self.network.clock.now();
            if now >= self.next_tick {
                self.tick(now);
            }
            if let Some(driver) = &mut self.driver {
                driver.handle_timeout(now);
            }
            // Voice would otherwise wait for five hundred heartbeats at once.
            while self.carry_out(now) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What was carried since the start.
    pub(super) fn traffic(&self) -> MeteredTraffic {
        traffic(&self.network.relay.statistics().total)
    }

    /// Starts the squad with the charter that was stored, or that a member has brought.
    fn begin(&mut self, now: Timestamp, charter: Arc<Charter>, members: &[u8]) {
        self.network.relay.set_charter(&charter);
        let squad = SquadConfig {
            key: Arc::clone(&self.key),
            member: None,
            relay_only: false,
            presence: Presence {
                addresses: self.network.swarm.own_addresses(),
                ..self.presence.clone()
            },
            directory: Directory::restore(&charter, members),
            generations: BTreeMap::new(),
            names: BTreeMap::new(),
            calendar: self.network.clock.unix(),
            charter,
        };
        let config =
            DriverConfig { squad, store: Arc::new(self.store.clone()), ask_every: ASK_EVERY };
        let driver = self.driver.insert(Driver::new(now, &self.network, config));
        driver.squad.set_draining(now, self.draining_since.is_some());
        self.handle_charter();
        self.carry_out(now);
    }

    fn handle_addresses(&self) {
        self.gate.doorkeeper.set_addresses(self.network.swarm.own_addresses());
    }

    async fn handle_link(&mut self, event: LinkEvent) -> Result<(), RelayError> {
        if self.driver.is_none()
            && let Some(charter) = self.gate.doorkeeper.take_begun()
        {
            let charter = Arc::new(charter);
            self.keep_first(&charter).await.map_err(|_| RelayError::Failed)??;
            self.begin(self.network.clock.now(), charter, &[]);
            tracing::info!(organisation = ?self.organisation, "a member has brought the charter");
        }
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let now = self.network.clock.now();
        driver.handle_link(now, &self.network, &event);
        match event {
            LinkEvent::Visit(device) => self.network.relay.lead(device, &self.network.links),
            LinkEvent::VisitEnded(device) => self.network.relay.lead_no_more(device),
            LinkEvent::Up(_) | LinkEvent::Changed(_) | LinkEvent::Down(..) => {}
        }
        self.carry_out(now);
        self.weigh_room();
        Ok(())
    }

    /// Has the first charter written to disk before it takes effect. [CHARTER-8.1]
    fn keep_first(&self, charter: &Arc<Charter>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (charter, store) = (Arc::clone(charter), self.store.clone());
        let (told, kept) = oneshot::channel();
        // The carrier may have ended in the meantime.
        (self.network.worker)(Box::new(move || drop(told.send(store.keep_charter(&charter)))));
        kept
    }

    fn handle_command(&mut self, now: Timestamp, command: CarrierCommand) {
        match command {
            CarrierCommand::SetQuotas(quotas) => {
                self.quotas = quotas;
                self.network.relay.set_limits(limits(quotas));
                let changed = self.channels.set_max(quotas.channels as usize);
                self.tell_listening(changed);
                self.weigh_room();
            }
            CarrierCommand::SetBans(banned) => {
                self.gate.set_banned(banned.clone());
                banned.iter().for_each(|device| self.network.links.close(*device));
            }
            CarrierCommand::Drain(on) => {
                self.drain(now, on);
                self.weigh_room();
            }
            CarrierCommand::Disconnect(device) => self.network.links.close(device),
        }
    }

    fn drain(&mut self, now: Timestamp, on: bool) {
        self.draining_since = on.then(|| self.draining_since.unwrap_or(now));
        self.told_drained = false;
        if let Some(driver) = &mut self.driver {
            driver.squad.set_draining(now, on);
        }
    }

    /// Whether other relays have taken over everything that this carrier carried.
    fn is_drained(&self, now: Timestamp) -> bool {
        let told = |since| now.saturating_duration_since(since) >= DRAIN_NOTICE;
        self.draining_since.is_some_and(told) && self.counted.talkers == 0
    }

    /// Carries out what the squad wants done, for one turn. Returns whether there is more to send.
    fn carry_out(&mut self, now: Timestamp) -> bool {
        loop {
            let Some(driver) = &mut self.driver else { return false };
            match driver.poll(now, &mut self.network) {
                Some(Effect::Event(event)) => self.handle_squad(now, event),
                // A relay belongs to no member, so it has no key to talk.
                Some(Effect::Generation(..)) => {}
                Some(Effect::Dial(dial)) => {
                    // A relay dials only other relays; members dial the relay.
                    let relays = driver.squad.charter().state();
                    if dial.device.is_some_and(|device| relays.relay(device).is_some()) {
                        driver.dial(now, &mut self.network, dial);
                    } else {
                        driver.squad.handle_dial_failed(now, &dial);
                    }
                }
                Some(Effect::Pause) => return true,
                None => return false,
            }
        }
    }

    fn handle_squad(&mut self, now: Timestamp, event: squad::SquadEvent) {
        let Some(Driver { squad, .. }) = &mut self.driver else { return };
        match event {
            squad::SquadEvent::Serve(Service::Listening { device, channels }) => {
                let changed = self.channels.set(device, channels.into_iter().collect());
                self.tell_listening(changed);
            }
            squad::SquadEvent::Serve(service) => {
                if let Service::Detach(device) = service {
                    let changed = self.channels.set(device, Default::default());
                    self.tell_listening(changed);
                }
                let Some(Driver { squad, .. }) = &mut self.driver else { return };
                let charter = Arc::clone(squad.charter());
                let Network { relay, links, .. } = &self.network;
                if let Some((device, slot)) = relay.serve(service, &charter, links) {
                    squad.handle_attached(now, device, slot);
                    self.handle_attached(device);
                }
            }
            squad::SquadEvent::CharterChanged => {
                self.gate.doorkeeper.set_charter(squad.charter());
                self.network.relay.set_charter(squad.charter());
                self.handle_charter();
            }
            squad::SquadEvent::PeerDown { device, reason }
            | squad::SquadEvent::RelayDown { device, reason } => {
                self.forget(device, reason);
            }
            squad::SquadEvent::Evicted { device } => self.network.links.close(device),
            // The other events of a squad are for devices that hear and talk.
            _ => {}
        }
    }

    fn handle_attached(&mut self, device: DeviceId) {
        // A link that replaces another belongs to the same session.
        let Entry::Vacant(vacant) = self.attached.entry(device) else { return };
        vacant.insert(self.network.clock.unix());
        let Some(link) = self.network.links.best(device) else { return };
        let member = link.hello().member.map(Text);
        let address = address_text(&link);
        (self.tell)(&RelayEvent::SessionUp { device: Text(device), member, address });
    }

    /// Shows at once the organisation's name, and whether its charter names this relay.
    fn handle_charter(&mut self) {
        self.show();
        let named = self.shown.get().named;
        if std::mem::replace(&mut self.named, named) != named {
            (self.tell)(&RelayEvent::Named { named });
        }
    }

    fn forget(&mut self, device: DeviceId, reason: DownReason) {
        if self.attached.remove(&device).is_some() {
            let reason = word(reason).to_owned();
            (self.tell)(&RelayEvent::SessionDown { device: Text(device), reason });
        }
    }

    /// Informs the forwarder of the carried channels that devices hear.
    fn tell_listening(&mut self, changed: BTreeMap<DeviceId, Vec<hark_keys::ChannelId>>) {
        let Some(Driver { squad, .. }) = &self.driver else { return };
        for (device, channels) in changed {
            let service = Service::Listening { device, channels };
            self.network.relay.serve(service, squad.charter(), &self.network.links);
        }
        self.reached("channels", self.channels.are_full());
    }

    /// Refuses further devices while there is no room for them.
    fn weigh_room(&mut self) {
        let max = self.quotas.members as usize;
        let full = max > 0 && self.attached.len() >= max;
        self.reached("members", full);
        let squad_full = self.driver.as_ref().is_some_and(|it| it.squad.is_full());
        let closed = full || squad_full || self.draining_since.is_some();
        self.gate.doorkeeper.set_full(closed.then(|| self.network.links.devices()));
    }

    /// Reports that a limit is reached, once.
    fn reached(&mut self, quota: &'static str, is: bool) {
        if self.told.insert(quota, is) != Some(is) && is {
            (self.tell)(&RelayEvent::QuotaReached { quota: quota.to_owned() });
        }
    }

    /// Says goodbye, and returns when everything that must be stored is on disk.
    async fn leave(&mut self, reason: String) -> String {
        match self.driver.take() {
            Some(driver) => driver.leave(&mut self.network).await,
            None => self.network.swarm.leave().await,
        }
        reason
    }
}

/// Waits for the next event, with a squad or before there is one.
async fn next(driver: &mut Option<Driver>, network: &mut Network, until: Timestamp) -> Happened {
    match driver {
        Some(driver) => driver.next(network, until).await,
        None => network.next(None, until).await,
    }
}

/// The limits of the forwarder for these quotas.
fn limits(quotas: Quotas) -> Limits {
    let most = u32::try_from(RELAY_LINKS_MAX).unwrap_or(u32::MAX);
    let sessions = if quotas.members == 0 { most } else { quotas.members.min(most) };
    Limits {
        sessions: u16::try_from(sessions).unwrap_or(u16::MAX),
        out: Rate { packets_per_second: quotas.packets, kbps: quotas.kbps },
        ..Limits::default()
    }
}

fn traffic(carried: &hark_mesh::forwarding::Traffic) -> MeteredTraffic {
    MeteredTraffic {
        packets_in: carried.datagrams_in,
        bytes_in: carried.bytes_in,
        packets_out: carried.datagrams_out,
        bytes_out: carried.bytes_out,
    }
}

/// The address from which a session's packets come. A device reaches a relay only at the relay's
/// own address, never through a tunnel.
fn address_text(link: &Link) -> String {
    link.address().map(|address| address.to_string()).unwrap_or_default()
}

fn word(reason: DownReason) -> &'static str {
    match reason {
        DownReason::Left => "left",
        DownReason::Unreachable => "unreachable",
        DownReason::Restarted => "restarted",
        DownReason::Refused | DownReason::Breach => "closed",
    }
}

/// The name by which a relay introduces itself. Its charter has another name for it.
const NAME: &str = "relay";

/// The largest number of connections: links, and connections that replace a link. Further ones are
/// refused.
const CONNECTIONS_MAX: u32 = 2 * RELAY_LINKS_MAX as u32;

/// The shortest time between two turns of the squad while it has something to do.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Addresses of several interfaces are found one by one. `ready` waits this long after each.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// `ready` waits at most this long in total.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it takes until all devices have been informed that they should move elsewhere.
const DRAIN_NOTICE: Duration = Duration::from_secs(1);
