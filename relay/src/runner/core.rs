//! The turns of a carrier's thread.

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
    squad::{self, DownReason, Persist, RELAY_LINKS_MAX, Service, Squad, SquadConfig},
};
use hark_node::{
    admission::Doorkeeper,
    clock::Clock,
    link::{Link, LinkDown, LinkEvent, Links},
    random::SystemRandom,
    relay::Relay,
    swarm::{News, SwarmDriver, SwarmDriverConfig},
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{Control, Machine, Order, Shown, Worker, channels::Channels, gate::Gate};
use crate::{
    carrier::{Assignment, Command, Tell},
    event::Event,
    home::TenantStore,
    metering::Traffic,
    state::Quotas,
    text::Text,
};

/// One organisation, carried.
pub(super) struct Core {
    organisation: OrganisationId,
    key: Arc<DeviceKey>,
    store: TenantStore,
    presence: Presence,
    clock: Clock,
    wires: SwarmDriver,
    links: Arc<Links>,
    link_events: UnboundedReceiver<LinkEvent>,
    gate: Arc<Gate>,
    relay: Arc<Relay>,
    /// None until a member has brought the charter.
    squad: Option<Squad>,
    orders: UnboundedReceiver<Order>,
    to_self: UnboundedSender<Order>,
    worker: Worker,
    may_gather: Arc<AtomicBool>,
    tell: Tell,
    shown: Shown,
    quotas: Quotas,
    channels: Channels,
    /// Attached devices, and since when.
    attached: BTreeMap<DeviceId, UnixTime>,
    heard: BTreeMap<DeviceId, Timestamp>,
    draining_since: Option<Timestamp>,
    told_drained: bool,
    named: bool,
    /// Whether a limit has been told to be reached, until it is out of reach again.
    told: BTreeMap<&'static str, bool>,
    /// What was carried when it was looked at last.
    counted: Statistics,
    records_changed: bool,
    next_tick: Timestamp,
    ticks: u64,
    /// When the squad has something to do, as it said last, and when it did.
    due: Option<Timestamp>,
    asked: Timestamp,
}

impl Core {
    /// Opens the sockets. To be called on the runtime that it runs on.
    pub(super) fn new(
        assignment: Assignment,
        Machine { binder, egress, worker, may_gather }: Machine,
        Control { orders, to_self, shown }: Control,
    ) -> anyhow::Result<Self> {
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
        let relay = Relay::new(clock, limits(quotas), egress);
        let (link_sender, link_events) = unbounded_channel();
        let (takes, gathers) = (Arc::clone(&relay), Arc::clone(&may_gather));
        let handler = Arc::new(move |now, device, datagram: axum::body::Bytes| {
            if Relay::is_for_relays(&datagram) {
                gathers.store(false, Ordering::Relaxed);
                takes.handle(now, device, &datagram);
            }
        });
        let links = Links::new(key.id(), clock, link_sender, handler);
        links.serve_crowds();
        let key = Arc::new(key);
        let mut wires = SwarmDriver::new(SwarmDriverConfig {
            key: Arc::clone(&key),
            organisation,
            mdns: false,
            links_max: CONNECTIONS_MAX,
            is_hub: true,
            binder,
            admission: Arc::clone(&gate) as _,
            links: Arc::clone(&links),
            clock,
        })?;
        for address in listen {
            wires.listen(address, None).map_err(|reason| {
                anyhow::anyhow!("cannot listen on {address}: {reason}: choose another port")
            })?;
        }
        tokio::spawn(Arc::clone(&links).run_sender());
        tokio::spawn(Arc::clone(&relay).run());
        let now = clock.now();
        let mut core = Self {
            organisation,
            key,
            store,
            presence,
            clock,
            wires,
            links,
            link_events,
            gate,
            relay,
            squad: None,
            orders,
            to_self,
            worker,
            may_gather,
            tell,
            shown,
            quotas,
            channels: Channels::default(),
            attached: BTreeMap::new(),
            heard: BTreeMap::new(),
            draining_since: None,
            told_drained: false,
            named: false,
            told: BTreeMap::new(),
            counted: Statistics::default(),
            records_changed: false,
            next_tick: now,
            ticks: 0,
            due: None,
            asked: now,
        };
        core.channels.set_max(quotas.channels as usize);
        if let Some(charter) = charter {
            core.begin(now, charter)?;
        }
        if draining {
            core.drain(now, true);
        }
        Ok(core)
    }

    /// Waits until it is known where we listen.
    pub(super) async fn settle_in(&mut self) {
        let first = self.clock.now() + READY_TIMEOUT;
        let mut until = first;
        loop {
            let left = until.saturating_duration_since(self.clock.now());
            tokio::select! {
                news = self.wires.next(self.squad.as_mut()) => {
                    if matches!(news, News::Addresses { .. }) {
                        until = first.min(self.clock.now() + ADDRESSES_SETTLE);
                    }
                    self.handle_news(&news);
                }
                () = tokio::time::sleep(left) => break,
            }
        }
        self.show();
        let listen = self.wires.own_addresses().iter().map(ToString::to_string).collect();
        (self.tell)(&Event::Ready { device: Text(self.key.id()), listen });
    }

    /// Works until told to stop, and returns why it has.
    pub(super) async fn run(&mut self) -> anyhow::Result<String> {
        loop {
            let now = self.clock.now();
            let ask_at = self.asked + ASK_EVERY;
            // Whatever happens may change it, and it asks about all devices.
            let due = if now >= ask_at {
                self.asked = now;
                self.due = self.squad.as_ref().and_then(Squad::poll_timeout);
                self.due
            } else {
                Some(self.due.map_or(ask_at, |due| due.min(ask_at)))
            };
            let wake_at = due.map_or(self.next_tick, |at| at.min(self.next_tick));
            let sleep = wake_at.saturating_duration_since(now);
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let now = self.clock.now();
                    match order {
                        Some(Order::Do(command)) => self.handle_command(now, command),
                        Some(Order::Persisted(number, kept)) => {
                            self.handle_persisted(now, number, kept);
                        }
                        Some(Order::Worked(done)) => {
                            if let Some(squad) = &mut self.squad {
                                squad.handle_job(now, *done);
                            }
                        }
                        Some(Order::Stop(reason)) => return Ok(self.leave(reason).await),
                        None => return Ok(self.leave("the program has ended".to_owned()).await),
                    }
                }
                Some(event) = self.link_events.recv() => self.handle_link(event)?,
                news = self.wires.next(self.squad.as_mut()) => self.handle_news(&news),
                () = tokio::time::sleep(sleep) => {}
            }
            let now = self.clock.now();
            if now >= self.next_tick {
                self.tick(now);
            }
            if self.due.take_if(|due| *due <= now).is_some()
                && let Some(squad) = &mut self.squad
            {
                squad.handle_timeout(now);
                self.dial(now);
            }
            // Five hundred heartbeats at once would have voice wait for them.
            while self.carry_out(now) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What was carried since the start.
    pub(super) fn traffic(&self) -> Traffic {
        traffic(&self.relay.statistics().total)
    }

    /// Goes to work with the charter that was kept, or brought.
    fn begin(&mut self, now: Timestamp, charter: Arc<Charter>) -> anyhow::Result<()> {
        let directory = Directory::restore(&charter, &self.store.members()?);
        self.relay.set_charter(&charter);
        let addresses = self.wires.own_addresses();
        let squad = SquadConfig {
            key: Arc::clone(&self.key),
            member: None,
            relay_only: false,
            presence: Presence { addresses, ..self.presence.clone() },
            directory,
            generations: BTreeMap::new(),
            names: BTreeMap::new(),
            calendar: self.clock.unix(),
            charter,
        };
        let mut squad = Squad::new(now, squad, Arc::new(SystemRandom));
        self.links.expect_from(squad.directory().addresses());
        squad.set_draining(now, self.draining_since.is_some());
        self.squad = Some(squad);
        self.handle_charter();
        self.carry_out(now);
        Ok(())
    }

    fn handle_news(&mut self, news: &News) {
        if matches!(news, News::Addresses { .. }) {
            self.gate.doorkeeper.set_addresses(self.wires.own_addresses());
        }
    }

    fn handle_link(&mut self, event: LinkEvent) -> anyhow::Result<()> {
        let now = self.clock.now();
        if self.squad.is_none()
            && let Some(charter) = self.gate.doorkeeper.take_begun()
        {
            // Before anything is done by it. [CHARTER-8.1]
            self.store.keep_charter(&charter)?;
            self.begin(now, Arc::new(charter))?;
            tracing::info!(organisation = ?self.organisation, "a member has brought the charter");
        }
        let Some(squad) = &mut self.squad else { return Ok(()) };
        match event {
            LinkEvent::Up(link) => {
                self.heard.insert(link.device(), link.heard());
                let address = link.address().filter(|_| link.was_dialled());
                self.relay.renew_outlet(link.device(), &self.links);
                squad.handle_link_up(now, link.hello().clone(), address);
                if let Some(best) = self.links.best(link.device()) {
                    squad.handle_path(now, best.device(), best.seen());
                }
            }
            LinkEvent::Changed(link) => {
                squad.handle_path(now, link.device(), link.seen());
                self.relay.renew_outlet(link.device(), &self.links);
            }
            LinkEvent::Down(device, reason) => {
                self.heard.remove(&device);
                let reason = match reason {
                    LinkDown::Left => DownReason::Left,
                    LinkDown::Unreachable => DownReason::Unreachable,
                    LinkDown::Restarted => DownReason::Restarted,
                    LinkDown::Closed => DownReason::Refused,
                };
                squad.handle_link_down(now, device, reason);
            }
            LinkEvent::Visit(device) => self.relay.lead(device, &self.links),
            LinkEvent::VisitEnded(device) => self.relay.lead_no_more(device),
        }
        self.carry_out(now);
        self.weigh_room();
        Ok(())
    }

    fn handle_command(&mut self, now: Timestamp, command: Command) {
        match command {
            Command::SetQuotas(quotas) => {
                self.quotas = quotas;
                self.relay.set_limits(limits(quotas));
                let changed = self.channels.set_max(quotas.channels as usize);
                self.tell_listening(changed);
                self.weigh_room();
            }
            Command::SetBans(banned) => {
                self.gate.set_banned(banned.clone());
                banned.iter().for_each(|device| self.links.close(*device));
            }
            Command::Drain(on) => {
                self.drain(now, on);
                self.weigh_room();
            }
            Command::Disconnect(device) => self.links.close(device),
        }
    }

    fn handle_persisted(&mut self, now: Timestamp, number: u64, kept: Result<(), String>) {
        let Some(squad) = &mut self.squad else { return };
        match kept {
            Ok(()) => squad.handle_charter_persisted(now, number),
            Err(error) => {
                tracing::warn!(%error, "the charter is not kept, and tried again");
                squad.handle_charter_unwritten(now, number);
            }
        }
    }

    fn drain(&mut self, now: Timestamp, on: bool) {
        self.draining_since = on.then(|| self.draining_since.unwrap_or(now));
        self.told_drained = false;
        if let Some(squad) = &mut self.squad {
            squad.set_draining(now, on);
        }
    }

    /// Whether others have moved all that we carried.
    fn is_drained(&self, now: Timestamp) -> bool {
        let told = |since| now.saturating_duration_since(since) >= DRAIN_NOTICE;
        self.draining_since.is_some_and(told) && self.counted.talkers == 0
    }

    /// Does what the squad wants done, for one turn; says whether there is more to send.
    fn carry_out(&mut self, now: Timestamp) -> bool {
        let mut sent = 0;
        loop {
            let Some(squad) = &mut self.squad else { return false };
            if let Some(event) = squad.poll_event() {
                self.handle_squad(now, event);
            } else if let Some((number, result)) = squad.poll_verdict() {
                self.wires.conclude(number, &result);
            } else if let Some(persist) = squad.poll_persist() {
                self.persist(persist);
            } else if let Some(job) = squad.poll_job(now) {
                let to_self = self.to_self.clone();
                (self.worker)(Box::new(move || {
                    // The carrier may have ended meanwhile.
                    let _ = to_self.send(Order::Worked(Box::new(job.run())));
                }));
            } else if sent == SENT_A_TURN {
                return true;
            } else if let Some(transmit) = squad.poll_transmit() {
                self.wires.transmit(now, transmit, squad);
                sent += 1;
            } else {
                return false;
            }
        }
    }

    /// Dials other relays; members come to us.
    fn dial(&mut self, now: Timestamp) {
        let Some(squad) = &mut self.squad else { return };
        while let Some(dial) = squad.poll_dial(now) {
            let relays = squad.charter().state();
            if dial.device.is_some_and(|device| relays.relay(device).is_some()) {
                self.wires.dial(now, dial, Some(squad));
            } else {
                squad.handle_dial_failed(now, &dial);
            }
        }
    }

    fn handle_squad(&mut self, now: Timestamp, event: squad::Event) {
        let Some(squad) = &mut self.squad else { return };
        match event {
            squad::Event::Serve(Service::Listening { device, channels }) => {
                let changed = self.channels.set(device, channels.into_iter().collect());
                self.tell_listening(changed);
            }
            squad::Event::Serve(service) => {
                if let Service::Detach(device) = service {
                    let changed = self.channels.set(device, Default::default());
                    self.tell_listening(changed);
                }
                let Some(squad) = &mut self.squad else { return };
                let charter = Arc::clone(squad.charter());
                if let Some((device, slot)) = self.relay.serve(service, &charter, &self.links) {
                    squad.handle_attached(now, device, slot);
                    self.handle_attached(device);
                }
            }
            squad::Event::CharterChanged => {
                self.gate.doorkeeper.set_charter(squad.charter());
                self.relay.set_charter(squad.charter());
                self.handle_charter();
            }
            squad::Event::PeerDown { device, reason }
            | squad::Event::RelayDown { device, reason } => {
                self.forget(device, reason);
            }
            squad::Event::Evicted { device } => self.links.close(device),
            squad::Event::RecordsChanged => self.records_changed = true,
            // What else a squad has to say is for those who hear and talk.
            _ => {}
        }
    }

    fn handle_attached(&mut self, device: DeviceId) {
        // A link that takes the place of another is the same session.
        let Entry::Vacant(vacant) = self.attached.entry(device) else { return };
        vacant.insert(self.clock.unix());
        let Some(link) = self.links.best(device) else { return };
        let member = link.hello().member.map(Text);
        let address = address_text(&link);
        (self.tell)(&Event::SessionUp { device: Text(device), member, address });
    }

    /// Shows at once what the organisation is called, and whether it is ours to serve.
    fn handle_charter(&mut self) {
        self.show();
        let named = self.shown.get().named;
        if std::mem::replace(&mut self.named, named) != named {
            (self.tell)(&Event::Named { named });
        }
    }

    fn forget(&mut self, device: DeviceId, reason: DownReason) {
        if self.attached.remove(&device).is_some() {
            let reason = word(reason).to_owned();
            (self.tell)(&Event::SessionDown { device: Text(device), reason });
        }
    }

    /// Tells the forwarder what devices hear of what is carried.
    fn tell_listening(&mut self, changed: BTreeMap<DeviceId, Vec<hark_keys::ChannelId>>) {
        let Some(squad) = &self.squad else { return };
        for (device, channels) in changed {
            let service = Service::Listening { device, channels };
            self.relay.serve(service, squad.charter(), &self.links);
        }
        self.reached("channels", self.channels.are_full());
    }

    /// Lets nobody in for whom there is no room.
    fn weigh_room(&mut self) {
        let max = self.quotas.members as usize;
        let full = max > 0 && self.attached.len() >= max;
        self.reached("members", full);
        let squad_full = self.squad.as_ref().is_some_and(Squad::is_full);
        let closed = full || squad_full || self.draining_since.is_some();
        self.gate.doorkeeper.set_full(closed.then(|| self.links.devices()));
    }

    /// Tells once that a limit is reached.
    fn reached(&mut self, quota: &'static str, is: bool) {
        if self.told.insert(quota, is) != Some(is) && is {
            (self.tell)(&Event::QuotaReached { quota: quota.to_owned() });
        }
    }

    fn persist(&self, persist: Persist) {
        match persist {
            Persist::Charter(number, charter) => {
                let (store, to_self) = (self.store.clone(), self.to_self.clone());
                (self.worker)(Box::new(move || {
                    let kept = store.keep_charter(&charter).map_err(|error| error.to_string());
                    // The carrier may have ended meanwhile.
                    let _ = to_self.send(Order::Persisted(number, kept));
                }));
            }
            // Who belongs to nobody has no key to talk.
            Persist::Generation(..) => {}
        }
    }

    /// Says goodbye.
    async fn leave(&mut self, reason: String) -> String {
        if let Some(squad) = &self.squad {
            // What is to be written already comes before what is written here.
            let (done, written) = oneshot::channel::<()>();
            (self.worker)(Box::new(move || drop(done)));
            let _ = written.await;
            if let Err(error) = self.store.keep_members(&squad.directory().snapshot()) {
                tracing::warn!(%error, "members are not remembered");
            }
            // What was learnt while the last write was under way.
            let taken = squad.charter_taken();
            if taken.digest() != squad.charter().digest()
                && let Err(error) = self.store.keep_charter(taken)
            {
                tracing::warn!(%error, "the newest of the charter is not kept");
            }
        }
        self.wires.leave().await;
        reason
    }
}

/// What the forwarder holds an organisation to.
fn limits(quotas: Quotas) -> Limits {
    let most = u32::try_from(RELAY_LINKS_MAX).unwrap_or(u32::MAX);
    let sessions = if quotas.members == 0 { most } else { quotas.members.min(most) };
    Limits {
        sessions: u16::try_from(sessions).unwrap_or(u16::MAX),
        out: Rate { packets_per_second: quotas.packets, kbps: quotas.kbps },
        ..Limits::default()
    }
}

fn traffic(carried: &hark_mesh::forwarding::Traffic) -> Traffic {
    Traffic {
        packets_in: carried.datagrams_in,
        bytes_in: carried.bytes_in,
        packets_out: carried.datagrams_out,
        bytes_out: carried.bytes_out,
    }
}

/// Where a session's packets come from; nothing leads to a relay but its own address.
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

/// What a relay calls itself; its charter has another name for it.
const NAME: &str = "relay";

/// Connections altogether: links, and those that replace one. More are refused.
const CONNECTIONS_MAX: u32 = 2 * RELAY_LINKS_MAX as u32;

/// How often the squad is asked, at most, when it has something to do.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What is sent for the squad before others have a turn: some 100 µs.
const SENT_A_TURN: u32 = 32;

/// Addresses of several interfaces come one by one; `ready` waits this long after one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// And no longer than this for the first.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it takes until all have been told that they are to go elsewhere.
const DRAIN_NOTICE: Duration = Duration::from_secs(1);
