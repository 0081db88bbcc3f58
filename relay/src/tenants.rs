//! The organisations of a relay: which there are, what they may do, what they carry.

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

/// Why something is not done, in a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantRefusal {
    /// What is meant is not here.
    #[error("{0}")]
    Unknown(String),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What is there already is in the way.
    #[error("{0}")]
    Conflict(String),
    /// It could not be done or kept.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for TenantRefusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a new organisation is added by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    id: Text<OrganisationId>,
    name: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    quotas: Quotas,
}

/// How an organisation stands, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Which.
    pub id: Text<OrganisationId>,
    /// What its operator, or else its charter, calls it.
    pub name: Option<String>,
    /// The relay's identity there.
    pub device: Text<DeviceId>,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Whether its charter names this relay; as far as members have brought that.
    pub named: bool,
    /// `running`, `draining`, `drained`, or why it has ended.
    pub status: String,
    /// How much it may use.
    pub quotas: Quotas,
    /// Devices attached.
    pub sessions: usize,
    /// Channels that are heard.
    pub channels: usize,
    /// Devices kept out.
    pub bans: usize,
    /// What was carried since it started.
    pub traffic: MeteredTraffic,
    /// Packets that were not, since then, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// What was carried, by day and month, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// By day, as `2026-11-21`.
    pub days: BTreeMap<String, MeteredTraffic>,
    /// By month, as `2026-11`.
    pub months: BTreeMap<String, MeteredTraffic>,
}

/// What the tenants are made of.
pub struct TenantsConfig {
    /// Where all is kept.
    pub home: RelayHome,
    /// What the configuration file says of organisations.
    pub organisations: BTreeMap<OrganisationId, OrganisationConfig>,
    /// Where to listen: the addresses, and the first port for those that have none of their own.
    pub listen: Vec<SocketAddr>,
    /// Makes carriers.
    pub start: StartCarrier,
    /// Takes what happens.
    pub events: Arc<Events>,
    /// Reads time.
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
    /// The disk does not have all of it.
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

    /// The organisation with this id, the only one whose id begins so, or the only one that is
    /// called so.
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

    /// All organisations, by id.
    pub fn list(&self) -> Vec<View> {
        let inner = self.lock();
        inner.running.keys().map(|id| self.view(&inner, *id)).collect()
    }

    /// One of them.
    pub fn show(&self, id: OrganisationId) -> Result<View, TenantRefusal> {
        let inner = self.lock();
        inner.tenant(id)?;
        Ok(self.view(&inner, id))
    }

    /// Serves another organisation from now on.
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

    /// Serves an organisation no longer. Its identity and its metering are kept.
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

    /// Changes that.
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

    /// Who is attached.
    pub fn sessions(&self, id: OrganisationId) -> Result<Vec<Session>, TenantRefusal> {
        Ok(self.lock().tenant(id)?.carrier.snapshot().sessions.clone())
    }

    /// What is heard.
    pub fn channels(&self, id: OrganisationId) -> Result<Vec<Occupancy>, TenantRefusal> {
        Ok(self.lock().tenant(id)?.carrier.snapshot().channels.clone())
    }

    /// Ends the link with a device, which may come back.
    pub fn disconnect(&self, id: OrganisationId, device: DeviceId) -> Result<(), TenantRefusal> {
        let inner = self.lock();
        let tenant = inner.tenant(id)?;
        if tenant.carrier.snapshot().sessions.iter().all(|session| session.device.0 != device) {
            return Err(TenantRefusal::Unknown(format!("{device} is not attached")));
        }
        tenant.carrier.command(CarrierCommand::Disconnect(device));
        Ok(())
    }

    /// Who is kept out, each until a time, or for good.
    pub fn bans(&self, id: OrganisationId) -> Result<Bans, TenantRefusal> {
        let inner = self.lock();
        inner.tenant(id)?;
        let entry = inner.state.organisations.get(&Text(id));
        Ok(entry.map(|entry| entry.bans.clone()).unwrap_or_default())
    }

    /// Keeps a device out, for a time or for good, and sends it away.
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

    /// Lets a device in again.
    pub fn unban(&self, id: OrganisationId, device: DeviceId) -> Result<(), TenantRefusal> {
        if !self.bans(id)?.contains_key(&Text(device)) {
            return Err(TenantRefusal::Unknown(format!("{device} is not banned")));
        }
        self.change(id, |entry| {
            entry.bans.remove(&Text(device));
        })
    }

    /// Has an organisation's devices go elsewhere, and takes nothing new; or no longer so.
    pub fn drain(&self, id: OrganisationId, on: bool) -> Result<(), TenantRefusal> {
        self.change(id, |entry| entry.draining = on)
    }

    /// The same for all.
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

    /// What was carried.
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

    /// To be called each minute: writes what was carried, and ends bans whose time is over.
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
            // They are over all the same, and are taken out of the file the next time.
            tracing::warn!(%error, "bans that are over are not forgotten");
        }
        for (id, banned) in over {
            if let Some(tenant) = inner.running.get(&id) {
                tenant.carrier.command(CarrierCommand::SetBans(banned));
            }
        }
    }

    /// Has all devices go elsewhere, for the end of the program: nothing of it is kept.
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

    /// Which carriers have ended by themselves.
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

    /// The identity that the next organisation gets, and the first port that is free for it.
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

    /// Starts the carrier of an organisation as `state` has it.
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

    /// Changes what holds for an organisation: on disk first, then in its carrier.
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

    /// Gives an organisation without a port the lowest that is free, for good: its charter names
    /// it.
    fn give_port(&self, id: OrganisationId, state: &mut RelayState) {
        let first = self.listen.first().map_or(0, SocketAddr::port);
        if first == 0 || self.port_in(state, id).is_some() {
            return;
        }
        let taken = self.taken_ports(state, id);
        let free = (first..=u16::MAX).find(|port| !taken.contains_key(port));
        state.organisations.entry(Text(id)).or_default().port = free;
    }

    /// The ports of all organisations but `id`, also of those that are not served now.
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
        // What is changed is changed by single assignments.
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

/// Letters of an id that name an organisation.
const PREFIX_MIN: usize = 6;

/// Devices of an organisation that are kept out at a time; another one is refused.
const BANS_MAX: usize = 10_000;
