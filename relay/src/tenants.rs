//! The organisations of a relay: which there are, what they may do, and what they carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hark_keys::{DeviceId, OrganisationId, UnixTime};
use hark_node::{clock::Clock, random::SystemRandom, store::StoreError};
use serde::{Deserialize, Serialize};

use crate::{
    carrier::{
        Assignment, Carrier, CarrierCommand, CarrierSnapshot, Occupancy, Session, StartCarrier,
    },
    config::{ORGANISATIONS_MAX, OrganisationConfig, check_name},
    error::RelayError,
    event::Events,
    home::{RelayHome, TenantStore},
    metering::{MeteredTraffic, Metering},
    state::{Bans, QuotaChange, Quotas, RelayState, TenantEntry},
    text::Text,
};

/// Why something was not done, in one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantRefusal {
    /// The organisation or device is not known here.
    #[error("{0}")]
    Unknown(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Something that exists already stands in the way.
    #[error("{0}")]
    Conflict(String),
    /// It could not be done or stored.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for TenantRefusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The request to add an organisation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    id: Text<OrganisationId>,
    name: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    quotas: Quotas,
}

/// The state of an organisation, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// The organisation's id.
    pub id: Text<OrganisationId>,
    /// The operator's name for it, or else its name in the charter.
    pub name: Option<String>,
    /// The relay's identity in it.
    pub device: Text<DeviceId>,
    /// The addresses where it is served.
    pub listen: Vec<String>,
    /// Whether its charter names this relay, as far as members have brought the charter.
    pub named: bool,
    /// `running`, `draining`, `drained`, or the reason why it has ended.
    pub status: String,
    /// How much it may use.
    pub quotas: Quotas,
    /// How many devices are attached.
    pub sessions: usize,
    /// How many channels are heard.
    pub channels: usize,
    /// How many devices are banned.
    pub bans: usize,
    /// What was carried since its carrier started.
    pub traffic: MeteredTraffic,
    /// Packets that were not carried since then, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// What was carried, by day and month, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// The traffic by day, such as `2026-11-21`.
    pub days: BTreeMap<String, MeteredTraffic>,
    /// The traffic by month, such as `2026-11`.
    pub months: BTreeMap<String, MeteredTraffic>,
}

/// What [`Tenants`] needs to start.
pub struct TenantsConfig {
    /// The relay's folder.
    pub home: RelayHome,
    /// The organisations of the configuration file.
    pub organisations: BTreeMap<OrganisationId, OrganisationConfig>,
    /// The addresses to listen on. Organisations that have no port of their own get the ports from
    /// this port on.
    pub listen: Vec<SocketAddr>,
    /// Makes carriers.
    pub start: StartCarrier,
    /// Takes the events of all organisations.
    pub events: Arc<Events>,
    /// The source of time.
    pub clock: Clock,
}

/// All organisations of a relay.
pub struct Tenants {
    home: RelayHome,
    configured: BTreeMap<OrganisationId, OrganisationConfig>,
    listen: Vec<SocketAddr>,
    start: StartCarrier,
    events: Arc<Events>,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    state: RelayState,
    running: BTreeMap<OrganisationId, Tenant>,
}

struct Tenant {
    carrier: Box<dyn Carrier>,
    device: DeviceId,
    store: TenantStore,
    metering: Metering,
    /// Whether the disk lacks some of the metering.
    unkept: bool,
}

impl Tenants {
    /// Starts the carriers of all organisations. Fails if one of them does not start.
    pub fn start(config: TenantsConfig) -> Result<Self, RelayError> {
        let TenantsConfig { home, organisations, listen, start, events, clock } = config;
        let state = home.state()?;
        let inner = Mutex::new(Inner { state, running: BTreeMap::new() });
        let tenants = Self { home, configured: organisations, listen, start, events, clock, inner };
        let mut inner = tenants.lock();
        let added =
            inner.state.organisations.iter().filter(|(_, entry)| entry.served == Some(true));
        let added = added.map(|(id, _)| id.0);
        let all: BTreeSet<_> = tenants.configured.keys().copied().chain(added).collect();
        let mut state = inner.state.clone();
        for id in &all {
            let entry = state.organisations.entry(Text(*id)).or_default();
            entry.expire_bans(tenants.clock.unix());
            if entry.served != Some(false) {
                tenants.give_port(*id, &mut state);
            }
        }
        tenants.keep(&mut inner, state)?;
        for id in all {
            if inner.state.organisations[&Text(id)].served != Some(false) {
                let tenant = tenants.begin(id, &inner.state)?;
                inner.running.insert(id, tenant);
            }
        }
        drop(inner);
        Ok(tenants)
    }

    /// Finds the organisation with this id, the only one whose id begins with this text, or the
    /// only one with this name.
    pub fn find(&self, text: &str) -> Result<OrganisationId, TenantRefusal> {
        let inner = self.lock();
        let ids = || inner.running.keys().copied();
        let begins =
            |id: &OrganisationId| text.len() >= PREFIX_MIN && id.to_string().starts_with(text);
        let called = |id: &OrganisationId| self.view(&inner, *id).name.as_deref() == Some(text);
        let mut found: Vec<_> = ids().filter(begins).collect();
        if found.is_empty() {
            found = ids().filter(called).collect();
        }
        match found[..] {
            [id] => Ok(id),
            [] => Err(TenantRefusal::Unknown(format!("no organisation {text:?} is served here"))),
            _ => Err(TenantRefusal::Invalid(format!("several organisations are called {text:?}"))),
        }
    }

    /// All organisations, in the order of their ids.
    pub fn list(&self) -> Vec<View> {
        let inner = self.lock();
        inner.running.keys().map(|id| self.view(&inner, *id)).collect()
    }

    /// The state of one organisation.
    pub fn show(&self, id: OrganisationId) -> Result<View, TenantRefusal> {
        let inner = self.lock();
        inner.tenant(id)?;
        Ok(self.view(&inner, id))
    }

    /// Adds an organisation and starts to serve it.
    pub fn add(&self, addition: Addition) -> Result<View, TenantRefusal> {
        let Addition { id: Text(id), name, port, quotas } = addition;
        let name = name.as_deref().map(check_name).transpose().map_err(TenantRefusal::Invalid)?;
        let mut inner = self.lock();
        if inner.running.contains_key(&id) {
            return Err(TenantRefusal::Conflict(format!("{} is served here already", id.short())));
        }
        if inner.running.len() >= ORGANISATIONS_MAX {
            let full = format!("a relay serves at most {ORGANISATIONS_MAX} organisations");
            return Err(TenantRefusal::Conflict(full));
        }
        let mut state = inner.state.clone();
        let entry = state.organisations.entry(Text(id)).or_default();
        let (served, quotas) = (Some(true), Some(quotas));
        let bans = std::mem::take(&mut entry.bans);
        let configured = self.configured.get(&id).and_then(|it| it.port);
        if let (Some(configured), Some(port)) = (configured, port)
            && configured != port
        {
            let other = format!("the configuration file gives it port {configured}");
            return Err(TenantRefusal::Conflict(other));
        }
        let port = port.or(entry.port);
        *entry = TenantEntry { served, name, port, quotas, bans, draining: false };
        if let Some(port) = port
            && port != 0
            && let Some(other) = self.taken_ports(&state, id).get(&port)
        {
            let taken = format!("port {port} is {}'s: choose another one", other.short());
            return Err(TenantRefusal::Conflict(taken));
        }
        self.give_port(id, &mut state);
        let tenant = self.begin(id, &state);
        let tenant = tenant.map_err(|error| TenantRefusal::Conflict(format!("{error:#}")))?;
        if let Err(refusal) = self.keep(&mut inner, state) {
            tenant.carrier.stop("it could not be kept");
            return Err(refusal);
        }
        inner.running.insert(id, tenant);
        Ok(self.view(&inner, id))
    }

    /// Stops serving an organisation. Its identity and its metering are kept.
    pub fn remove(&self, id: OrganisationId) -> Result<(), TenantRefusal> {
        let mut inner = self.lock();
        inner.tenant(id)?;
        let mut state = inner.state.clone();
        let entry = state.organisations.entry(Text(id)).or_default();
        entry.served = Some(false);
        self.keep(&mut inner, state)?;
        let tenant = inner.running.remove(&id).expect("it was there");
        drop(inner);
        self.end(tenant, "removed");
        Ok(())
    }

    /// How much an organisation may use.
    pub fn quotas(&self, id: OrganisationId) -> Result<Quotas, TenantRefusal> {
        let inner = self.lock();
        inner.tenant(id)?;
        Ok(self.quotas_in(&inner.state, id))
    }

    /// Changes how much an organisation may use.
    pub fn set_quotas(
        &self,
        id: OrganisationId,
        change: QuotaChange,
    ) -> Result<Quotas, TenantRefusal> {
        let before = self.quotas(id)?;
        let after = change.apply(before);
        self.change(id, |entry| entry.quotas = Some(after))?;
        Ok(after)
    }

    /// The attached devices.
    pub fn sessions(&self, id: OrganisationId) -> Result<Vec<Session>, TenantRefusal> {
        Ok(self.lock().tenant(id)?.carrier.snapshot().sessions.clone())
    }

    /// The channels that are heard.
    pub fn channels(&self, id: OrganisationId) -> Result<Vec<Occupancy>, TenantRefusal> {
        Ok(self.lock().tenant(id)?.carrier.snapshot().channels.clone())
    }

    /// Ends the link with a device. The device may come back.
    pub fn disconnect(&self, id: OrganisationId, device: DeviceId) -> Result<(), TenantRefusal> {
        let inner = self.lock();
        let tenant = inner.tenant(id)?;
        if tenant.carrier.snapshot().sessions.iter().all(|session| session.device.0 != device) {
            return Err(TenantRefusal::Unknown(format!("{device} is not attached")));
        }
        tenant.carrier.command(CarrierCommand::Disconnect(device));
        Ok(())
    }

    /// The banned devices, each until a time, or without an end (`None`).
    pub fn bans(&self, id: OrganisationId) -> Result<Bans, TenantRefusal> {
        let inner = self.lock();
        inner.tenant(id)?;
        let entry = inner.state.organisations.get(&Text(id));
        Ok(entry.map(|entry| entry.bans.clone()).unwrap_or_default())
    }

    /// Bans a device for a time, or without an end (`None`), and disconnects it.
    pub fn ban(
        &self,
        id: OrganisationId,
        device: DeviceId,
        lasting: Option<Duration>,
    ) -> Result<(), TenantRefusal> {
        let until = lasting.map(|lasting| self.clock.unix() + lasting);
        let bans = self.bans(id)?;
        if bans.len() >= BANS_MAX && !bans.contains_key(&Text(device)) {
            let full = format!("at most {BANS_MAX} devices are kept out: end other bans first");
            return Err(TenantRefusal::Conflict(full));
        }
        self.change(id, |entry| {
            entry.bans.insert(Text(device), until);
        })
    }

    /// Ends the ban of a device.
    pub fn unban(&self, id: OrganisationId, device: DeviceId) -> Result<(), TenantRefusal> {
        if !self.bans(id)?.contains_key(&Text(device)) {
            return Err(TenantRefusal::Unknown(format!("{device} is not banned")));
        }
        self.change(id, |entry| {
            entry.bans.remove(&Text(device));
        })
    }

    /// Drains an organisation: its devices move elsewhere, and nothing new is accepted. With `on`
    /// false, ends that.
    pub fn drain(&self, id: OrganisationId, on: bool) -> Result<(), TenantRefusal> {
        self.change(id, |entry| entry.draining = on)
    }

    /// Drains all organisations, or ends that.
    pub fn drain_all(&self, on: bool) -> Result<(), TenantRefusal> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        for id in inner.running.keys() {
            state.organisations.entry(Text(*id)).or_default().draining = on;
        }
        self.keep(&mut inner, state)?;
        inner.running.values().for_each(|tenant| tenant.carrier.command(CarrierCommand::Drain(on)));
        Ok(())
    }

    /// What was carried for an organisation.
    pub fn metering(&self, id: OrganisationId) -> Result<Bill, TenantRefusal> {
        let now = self.clock.unix();
        let mut inner = self.lock();
        inner.tenant(id)?;
        let tenant = inner.running.get_mut(&id).expect("it was there");
        tenant.count(now);
        let text = |(day, traffic): (&str, MeteredTraffic)| (day.to_owned(), traffic);
        let days = tenant.metering.days().map(text).collect();
        Ok(Bill { days, months: tenant.metering.months().into_iter().map(text).collect() })
    }

    /// Writes what was carried, and ends bans whose time is over. To be called every minute.
    pub fn tick(&self) {
        let now = self.clock.unix();
        let mut inner = self.lock();
        for tenant in inner.running.values_mut() {
            tenant.count(now);
            tenant.keep_metering();
        }
        let mut state = inner.state.clone();
        let mut over = Vec::new();
        for (id, entry) in &mut state.organisations {
            if entry.expire_bans(now) {
                over.push((id.0, entry.banned()));
            }
        }
        if over.is_empty() {
            return;
        }
        if let Err(error) = self.keep(&mut inner, state) {
            // The bans have ended nevertheless, and are removed from the file the next time.
            tracing::warn!(%error, "bans that are over are not forgotten");
        }
        for (id, banned) in over {
            if let Some(tenant) = inner.running.get(&id) {
                tenant.carrier.command(CarrierCommand::SetBans(banned));
            }
        }
    }

    /// Has all devices move elsewhere before the program ends. This is not stored.
    pub fn retire(&self) {
        let inner = self.lock();
        inner
            .running
            .values()
            .for_each(|tenant| tenant.carrier.command(CarrierCommand::Drain(true)));
    }

    /// Whether nothing is carried any more.
    pub fn are_drained(&self) -> bool {
        let inner = self.lock();
        let mut snapshots = inner.running.values().map(|tenant| tenant.carrier.snapshot());
        snapshots.all(|snapshot| snapshot.drained || snapshot.ended.is_some())
    }

    /// The organisations whose carriers have ended by themselves.
    pub fn ended(&self) -> Vec<OrganisationId> {
        let inner = self.lock();
        let ended = inner.running.iter().filter(|(_, it)| it.carrier.snapshot().ended.is_some());
        ended.map(|(id, _)| *id).collect()
    }

    /// Ends all carriers, and writes what they have carried.
    pub fn stop(&self, reason: &str) {
        let running = std::mem::take(&mut self.lock().running);
        for tenant in running.into_values() {
            self.end(tenant, reason);
        }
    }

    /// The identity that the next organisation will get, and the first port that is free for it.
    pub fn next(&self) -> Result<(DeviceId, u16), TenantRefusal> {
        let mut state = self.lock().state.clone();
        let id = OrganisationId::from_bytes([0; 32]);
        self.give_port(id, &mut state);
        let port = self.port_in(&state, id).unwrap_or_default();
        Ok((self.home.next_device(&SystemRandom)?, port))
    }

    fn end(&self, tenant: Tenant, reason: &str) {
        let Tenant { carrier, store, mut metering, unkept, .. } = tenant;
        let new = metering.count(self.clock.unix(), carrier.stop(reason));
        if (new || unkept)
            && let Err(error) = store.keep_metering(&metering)
        {
            tracing::error!(%error, "what was carried last is not kept");
        }
    }

    /// Starts the carrier of an organisation with the settings in `state`.
    fn begin(&self, id: OrganisationId, state: &RelayState) -> Result<Tenant, RelayError> {
        let entry = &state.organisations[&Text(id)];
        let key = self.home.key(id, &SystemRandom)?;
        let (device, store) = (key.id(), self.home.tenant(id));
        let mut metering = store.metering()?;
        metering.restart();
        let port = self.port_in(state, id).unwrap_or_default();
        let listen = self.listen.iter().map(|base| SocketAddr::new(base.ip(), port));
        let events = Arc::clone(&self.events);
        let carrier = (self.start)(Assignment {
            organisation: id,
            key,
            store: store.clone(),
            listen: listen.collect(),
            quotas: self.quotas_in(state, id),
            banned: entry.banned(),
            draining: entry.draining,
            tell: Arc::new(move |event| events.publish(Some(id), event)),
        })?;
        Ok(Tenant { carrier, device, store, metering, unkept: false })
    }

    /// Changes the settings of an organisation, first on disk and then in its carrier.
    fn change(
        &self,
        id: OrganisationId,
        change: impl FnOnce(&mut TenantEntry),
    ) -> Result<(), TenantRefusal> {
        let mut inner = self.lock();
        inner.tenant(id)?;
        let mut state = inner.state.clone();
        let entry = state.organisations.entry(Text(id)).or_default();
        let before = (entry.banned(), entry.draining, self.quotas_in(&inner.state, id));
        change(entry);
        let (banned, draining) = (entry.banned(), entry.draining);
        self.keep(&mut inner, state)?;
        let quotas = self.quotas_in(&inner.state, id);
        let carrier = &inner.tenant(id)?.carrier;
        if banned != before.0 {
            carrier.command(CarrierCommand::SetBans(banned));
        }
        if draining != before.1 {
            carrier.command(CarrierCommand::Drain(draining));
        }
        if quotas != before.2 {
            carrier.command(CarrierCommand::SetQuotas(quotas));
        }
        Ok(())
    }

    fn keep(&self, inner: &mut Inner, state: RelayState) -> Result<(), TenantRefusal> {
        if state != inner.state {
            self.home.keep_state(&state)?;
            inner.state = state;
        }
        Ok(())
    }

    /// Gives an organisation without a port the lowest free port. It keeps this port for good,
    /// since its charter names it.
    fn give_port(&self, id: OrganisationId, state: &mut RelayState) {
        let first = self.listen.first().map_or(0, SocketAddr::port);
        if first == 0 || self.port_in(state, id).is_some() {
            return;
        }
        let taken = self.taken_ports(state, id);
        let free = (first..=u16::MAX).find(|port| !taken.contains_key(port));
        state.organisations.entry(Text(id)).or_default().port = free;
    }

    /// The ports of all organisations except `id`, including those that are not served now.
    fn taken_ports(&self, state: &RelayState, id: OrganisationId) -> BTreeMap<u16, OrganisationId> {
        let known = state.organisations.keys().map(|id| id.0);
        let all = known.chain(self.configured.keys().copied()).filter(|other| *other != id);
        all.filter_map(|other| Some((self.port_in(state, other)?, other))).collect()
    }

    fn port_in(&self, state: &RelayState, id: OrganisationId) -> Option<u16> {
        let configured = self.configured.get(&id).and_then(|it| it.port);
        configured.or_else(|| state.organisations.get(&Text(id))?.port)
    }

    fn quotas_in(&self, state: &RelayState, id: OrganisationId) -> Quotas {
        let changed = state.organisations.get(&Text(id)).and_then(|entry| entry.quotas);
        let configured = || self.configured.get(&id).map(|it| it.quotas);
        changed.or_else(configured).unwrap_or_default()
    }

    fn view(&self, inner: &Inner, id: OrganisationId) -> View {
        let tenant = &inner.running[&id];
        let snapshot = tenant.carrier.snapshot();
        let entry = inner.state.organisations.get(&Text(id));
        let chosen = entry.and_then(|entry| entry.name.clone());
        let configured = || self.configured.get(&id)?.name.clone();
        let draining = entry.is_some_and(|entry| entry.draining);
        let CarrierSnapshot { name, named, listen, sessions, channels, traffic, dropped, .. } =
            &*snapshot;
        View {
            id: Text(id),
            name: chosen.or_else(configured).or_else(|| name.clone()),
            device: Text(tenant.device),
            listen: listen.iter().map(SocketAddr::to_string).collect(),
            named: *named,
            status: match (&snapshot.ended, draining) {
                (Some(reason), _) => reason.clone(),
                (None, true) if snapshot.drained => "drained".to_owned(),
                (None, true) => "draining".to_owned(),
                (None, false) => "running".to_owned(),
            },
            quotas: self.quotas_in(&inner.state, id),
            sessions: sessions.len(),
            channels: channels.len(),
            bans: entry.map_or(0, |entry| entry.bans.len()),
            traffic: *traffic,
            dropped: dropped.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is a single assignment, so that a panic leaves the state consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tenant(&self, id: OrganisationId) -> Result<&Tenant, TenantRefusal> {
        let unknown = || TenantRefusal::Unknown(format!("{} is not served here", id.short()));
        self.running.get(&id).ok_or_else(unknown)
    }
}

impl Tenant {
    fn count(&mut self, now: UnixTime) {
        let new = self.metering.count(now, self.carrier.snapshot().traffic);
        self.unkept |= new;
    }

    fn keep_metering(&mut self) {
        if !self.unkept {
            return;
        }
        match self.store.keep_metering(&self.metering) {
            Ok(()) => self.unkept = false,
            Err(error) => {
                tracing::warn!(%error, "what was carried is not kept, and tried again");
            }
        }
    }
}

/// How many letters of an id are enough to name an organisation.
const PREFIX_MIN: usize = 6;

/// How many devices of an organisation may be banned at once; a further ban is refused.
const BANS_MAX: usize = 10_000;
