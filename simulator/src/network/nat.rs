//! Network address translators and firewalls as tables, without a network.
//!
//! The vocabulary is that of RFC 4787 (UDP), RFC 7857 (its updates) and RFC 6888 (carrier-grade).
//! The caller passes each packet that reaches a [`Nat`] to it. The NAT answers with the translated
//! endpoints or a [`NatDrop`]. The caller also carries packets to it, and through several NATs in
//! series.
//!
//! ```text
//!   inside              Nat                 outside
//!   source      -->  outbound  -->  external endpoint, destination
//!   inside host <--  inbound   <--  source, external endpoint
//!   source      -->  hairpin   -->  external endpoint of the source, inside host
//! ```
//!
//! Where the RFCs leave a choice:
//!
//! - A filter belongs to its mapping (RFC 4787, section 5): a host that has sent to somebody
//!   through one mapping does not let them in through another.
//! - The answer to a packet that was let in leaves through the mapping by which the packet came in,
//!   unless the flow has one already: both directions are one session (RFC 2663, section 2.3).
//! - No external endpoint is shared (REQ-3), so a NAT that is not endpoint-independent can preserve
//!   the port for only one remote. Port overlapping (RFC 7857, section 3) is not modelled.
//!
#![doc = include_str!("nat/traversal.md")]

mod firewall;
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traversal;
mod word_or_table;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use hark_keys::Timestamp;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use self::model::ANYWHERE;
pub use self::{
    firewall::{Firewall, FirewallDrop, FirewallModel, FirewallPolicy},
    model::{NatBehaviour, NatModel, NatPreset, Pooling, PortAssignment},
};

/// A network address translator: its behaviour and its table.
#[derive(Clone, Debug)]
pub struct Nat {
    model: NatModel,
    external: Vec<Ipv4Addr>,
    rng: ChaCha8Rng,
    /// The port where [`PortAssignment::Sequential`] continues.
    next_port: u16,
    /// Mappings by external endpoint. Expired ones stay until a new session is opened.
    mappings: BTreeMap<SocketAddrV4, Entry>,
    /// The external endpoint for each inside endpoint and scope of remote endpoints. An explicit
    /// mapping, whose scope is [`ANYWHERE`], is used if there is none of the exact scope.
    flows: BTreeMap<(SocketAddrV4, SocketAddrV4), SocketAddrV4>,
    statistics: NatStatistics,
}

/// Counts of what a NAT did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStatistics {
    /// Mappings that were created.
    pub created: u64,
    /// Mappings that were found to have expired.
    pub expired: u64,
    /// The largest number of mappings in the table at once, including those that had expired but
    /// were not yet removed.
    pub peak: u64,
}

impl Nat {
    /// A NAT with an empty table that translates to the addresses `external`, of which there must
    /// be at least one.
    pub fn new(model: NatModel, external: Vec<Ipv4Addr>, mut rng: ChaCha8Rng) -> Self {
        debug_assert!(!external.is_empty(), "a NAT has an external address");
        let next_port = rng.random_range(FIRST_USER_PORT..=u16::MAX);
        Self {
            model,
            external,
            rng,
            next_port,
            mappings: BTreeMap::new(),
            flows: BTreeMap::new(),
            statistics: NatStatistics::default(),
        }
    }

    /// Translates a packet from inside, and returns the source that it shows outside.
    pub fn outbound(
        &mut self,
        now: Timestamp,
        source: SocketAddrV4,
        destination: SocketAddrV4,
    ) -> Result<SocketAddrV4, NatDrop> {
        let permit = self.model.filtering.scope(destination);
        let mapped = self.find(now, source, self.model.mapping.scope(destination));
        let known =
            mapped.is_some_and(|external| self.mappings[&external].permits.contains_key(&permit));
        if !known {
            self.make_room(now)?;
        }
        let external = match mapped {
            Some(external) => external,
            None => {
                let scope = self.model.mapping.scope(destination);
                let address = self.assign(now, source, None)?;
                self.open(now, address, source, scope);
                address
            }
        };
        let until = now + self.model.timeout.as_duration();
        let entry = self.mappings.get_mut(&external).expect("it was found or opened above");
        entry.permits.insert(permit, until);
        entry.idle_at = until;
        Ok(external)
    }

    /// Translates a packet from outside to one of the external addresses, and returns the inside
    /// endpoint that it is for.
    pub fn inbound(
        &mut self,
        now: Timestamp,
        source: SocketAddrV4,
        destination: SocketAddrV4,
    ) -> Result<SocketAddrV4, NatDrop> {
        let entry = self
            .mappings
            .get_mut(&destination)
            .filter(|entry| entry.expires_at() > now)
            .ok_or(NatDrop::NoMapping)?;
        let permit = entry.permits.get_mut(&self.model.filtering.scope(source));
        match permit.filter(|until| **until > now) {
            Some(until) if self.model.refresh_inbound => {
                *until = now + self.model.timeout.as_duration();
                entry.idle_at = *until;
            }
            Some(_) => {}
            None if entry.leased_until > now => {}
            None => return Err(NatDrop::Filtered),
        }
        let internal = entry.internal;

        // The answer to a packet that was let in leaves through the mapping that the packet came in
        // by. If there is no room to record this, the answer is a session of its own.
        let scope = self.model.mapping.scope(source);
        if self.find(now, internal, scope).is_none() && self.flows.len() < self.table_size() {
            self.flows.insert((internal, scope), destination);
        }
        Ok(internal)
    }

    /// Translates a packet from inside to an external address of this same NAT. Returns the source
    /// that it shows and the inside endpoint that it is for. It is filtered like a packet from
    /// outside.
    pub fn hairpin(
        &mut self,
        now: Timestamp,
        source: SocketAddrV4,
        destination: SocketAddrV4,
    ) -> Result<(SocketAddrV4, SocketAddrV4), NatDrop> {
        if !self.model.hairpinning {
            return Err(NatDrop::NoHairpinning);
        }
        let shown = self.outbound(now, source, destination)?;
        Ok((shown, self.inbound(now, shown, destination)?))
    }

    /// Whether inside hosts may ask for mappings.
    pub fn maps_ports(&self) -> bool {
        self.model.port_mapping
    }

    /// Handles the request of an inside host for a mapping that anybody may send to, and returns
    /// the external endpoint that it gets.
    ///
    /// As in PCP (RFC 6887, section 11) the wanted port is a suggestion, zero means none, and a
    /// repeated request renews the mapping. A dynamic mapping for every remote endpoint becomes an
    /// explicit one.
    pub fn map_port(
        &mut self,
        now: Timestamp,
        internal: SocketAddrV4,
        wanted_external_port: u16,
        lifetime: Duration,
    ) -> Result<SocketAddrV4, MapPortError> {
        if !self.model.port_mapping {
            return Err(MapPortError::NotSupported);
        }
        let external = match self.find(now, internal, ANYWHERE) {
            Some(external) => external,
            None => {
                self.make_room(now)?;
                let wanted = Some(wanted_external_port).filter(|port| *port != 0);
                let external = self.assign(now, internal, wanted)?;
                self.open(now, external, internal, ANYWHERE);
                external
            }
        };
        let entry = self.mappings.get_mut(&external).expect("it was found or opened above");
        entry.leased_until = now + lifetime;
        Ok(external)
    }

    /// Ends the mapping that an inside host asked for. Sessions that use it continue.
    pub fn unmap_port(&mut self, now: Timestamp, internal: SocketAddrV4) {
        let external = self.find(now, internal, ANYWHERE);
        if let Some(entry) = external.and_then(|external| self.mappings.get_mut(&external)) {
            entry.leased_until = now;
        }
    }

    /// Restarts the router: its table is lost, explicit mappings included.
    pub fn forget(&mut self) {
        self.mappings.clear();
        self.flows.clear();
    }

    /// The external addresses.
    pub fn external(&self) -> &[Ipv4Addr] {
        &self.external
    }

    /// The model that it follows.
    pub fn model(&self) -> &NatModel {
        &self.model
    }

    /// Counts of what it did so far.
    pub fn statistics(&self) -> NatStatistics {
        self.statistics
    }

    /// The live mappings, in the order of their external endpoints.
    pub fn mappings(&self, now: Timestamp) -> impl Iterator<Item = Mapping> {
        self.mappings.iter().filter(move |(_, entry)| entry.expires_at() > now).map(
            move |(external, entry)| Mapping {
                internal: entry.internal,
                external: *external,
                explicit: entry.leased_until > now,
                expires_at: entry.expires_at(),
            },
        )
    }

    /// Removes what has expired, and checks that one more session fits.
    fn make_room(&mut self, now: Timestamp) -> Result<(), NatDrop> {
        let hold = self.model.reuse_after.as_duration();
        let before = self.mappings.len();
        self.mappings.retain(|_, entry| {
            entry.permits.retain(|_, until| *until > now);
            entry.expires_at() + hold > now
        });
        self.statistics.expired += (before - self.mappings.len()) as u64;
        let mappings = &self.mappings;
        self.flows.retain(|_, external| {
            mappings.get(external).is_some_and(|entry| entry.expires_at() > now)
        });
        // An explicit mapping takes room before anybody uses it.
        let alive = mappings.values().filter(|entry| entry.expires_at() > now);
        let sessions: usize = alive.map(|entry| entry.permits.len().max(1)).sum();
        if sessions < self.table_size() { Ok(()) } else { Err(NatDrop::TableFull) }
    }

    /// Chooses an unused external endpoint for `internal`.
    fn assign(
        &mut self,
        now: Timestamp,
        internal: SocketAddrV4,
        wanted_port: Option<u16>,
    ) -> Result<SocketAddrV4, NatDrop> {
        let of_host =
            |entry: &&Entry| entry.internal.ip() == internal.ip() && entry.expires_at() > now;
        let limit = self.model.ports_per_host.map_or(usize::MAX, usize::from);
        if self.mappings.values().filter(of_host).count() >= limit {
            return Err(NatDrop::HostLimit);
        }
        let paired = match self.model.pooling {
            Pooling::Paired => self.mappings.iter().find(|(_, entry)| of_host(entry)),
            Pooling::Arbitrary => None,
        };
        let addresses = match paired {
            Some((external, _)) => vec![*external.ip()],
            None => {
                let mut addresses = self.external.clone();
                let first = self.rng.random_range(0..addresses.len());
                addresses.rotate_left(first);
                addresses
            }
        };
        let first = wanted_port.unwrap_or_else(|| self.first_choice(internal.port()));
        let range = if first < FIRST_USER_PORT {
            1..=FIRST_USER_PORT - 1
        } else {
            FIRST_USER_PORT..=u16::MAX
        };
        let external = addresses
            .into_iter()
            .flat_map(|address| {
                let upwards = (first..=*range.end()).chain(*range.start()..first);
                upwards.map(move |port| SocketAddrV4::new(address, port))
            })
            .find(|external| !self.mappings.contains_key(external))
            .ok_or(NatDrop::NoPort)?;
        let next = external.port().checked_add(1).unwrap_or(FIRST_USER_PORT);
        self.next_port = next.max(FIRST_USER_PORT);
        Ok(external)
    }

    /// The port that the model would give to a mapping of `internal_port`.
    fn first_choice(&mut self, internal_port: u16) -> u16 {
        // RFC 4787, REQ-3a: a well-known port, which may mean privilege, is mapped to a well-known
        // port.
        if internal_port < FIRST_USER_PORT {
            return match self.model.ports {
                PortAssignment::Random => self.rng.random_range(1..FIRST_USER_PORT),
                PortAssignment::Preserving | PortAssignment::Sequential => internal_port.max(1),
            };
        }
        match self.model.ports {
            PortAssignment::Preserving => internal_port,
            PortAssignment::Sequential => self.next_port,
            PortAssignment::Random => self.rng.random_range(FIRST_USER_PORT..=u16::MAX),
        }
    }

    /// Enters a mapping, which has no lifetime yet.
    fn open(
        &mut self,
        now: Timestamp,
        external: SocketAddrV4,
        internal: SocketAddrV4,
        scope: SocketAddrV4,
    ) {
        let entry = Entry { internal, permits: BTreeMap::new(), idle_at: now, leased_until: now };
        self.mappings.insert(external, entry);
        self.statistics.created += 1;
        self.statistics.peak = self.statistics.peak.max(self.mappings.len() as u64);
        self.flows.insert((internal, scope), external);
    }

    /// The external endpoint that packets from `internal` to `scope` show, if there is a mapping.
    fn find(
        &self,
        now: Timestamp,
        internal: SocketAddrV4,
        scope: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        [scope, ANYWHERE].into_iter().find_map(|scope| {
            let external = *self.flows.get(&(internal, scope))?;
            (self.mappings.get(&external)?.expires_at() > now).then_some(external)
        })
    }

    fn table_size(&self) -> usize {
        usize::try_from(self.model.table_size).unwrap_or(usize::MAX)
    }
}

/// One mapping as traces and reports show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The inside endpoint.
    pub internal: SocketAddrV4,
    /// The external endpoint.
    pub external: SocketAddrV4,
    /// Whether an inside host asked for it.
    pub explicit: bool,
    /// When it expires unless it is refreshed.
    pub expires_at: Timestamp,
}

/// Why a NAT dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NatDrop {
    /// No mapping has this external endpoint.
    #[error("no mapping for the destination")]
    NoMapping,
    /// The mapping does not let this sender in.
    #[error("the mapping does not let this sender in")]
    Filtered,
    /// The NAT does not hairpin.
    #[error("no hairpinning")]
    NoHairpinning,
    /// The inside address already holds as many external ports as it may.
    #[error("the host has no external ports left")]
    HostLimit,
    /// All external ports are in use.
    #[error("no external port is free")]
    NoPort,
    /// The table is full of live sessions.
    #[error("the table is full")]
    TableFull,
}

/// Why a NAT refused an explicit mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapPortError {
    /// The NAT grants no explicit mappings.
    #[error("port mapping is not supported")]
    NotSupported,
    /// The NAT has nothing left to grant.
    #[error("no resources for the mapping")]
    NoResources(#[from] NatDrop),
}

/// The state of one external endpoint.
#[derive(Clone, Debug)]
struct Entry {
    internal: SocketAddrV4,
    /// For each scope of senders, until when it is let in.
    permits: BTreeMap<SocketAddrV4, Timestamp>,
    /// When the last permit ends.
    idle_at: Timestamp,
    /// Until when every sender is let in, because the inside host asked for it.
    leased_until: Timestamp,
}

impl Entry {
    fn expires_at(&self) -> Timestamp {
        self.idle_at.max(self.leased_until)
    }
}

/// Ports below this are "well-known" (RFC 4787, REQ-3a).
const FIRST_USER_PORT: u16 = 1024;
