//! The stored charter of a node that is not running.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context;
use hark_charter::NameKey;
use hark_charter::clean_name;
use hark_charter::{
    Charter, Piece,
    content::{Channel, ChannelName, SealedName},
};
use hark_commands::{Host, HostError, KnownTicket};
use hark_keys::{
    ChannelId, DeviceId, DeviceKey, Door, MemberId, ObjectHash, Random, Ticket, UnixTime,
};
use hark_mesh::Directory;
use hark_node::{
    clock::Clock,
    random::SystemRandom,
    store::{Home, Lock, OrganisationStore, SquadStore as _},
};

/// A stored charter. The node passes on what is changed here when it runs again.
pub(super) struct StoredHost {
    store: OrganisationStore,
    /// Keeps the node from starting in the meantime.
    _lock: Lock,
    key: DeviceKey,
    charter: Charter,
    directory: Directory,
    own_name: Option<String>,
    names: BTreeMap<ChannelId, NameKey>,
}

impl StoredHost {
    pub(super) fn open(home: &Home, store: &OrganisationStore) -> anyhow::Result<Self> {
        let lock = store.lock()?;
        // Read again: the store may have changed before the lock was taken, by a node that has just
        // ended.
        let store = home.find(store.id())?.context("the organisation has gone from this home")?;
        let mut charter = Charter::clone(store.charter());
        charter.set_calendar(Clock.unix());
        Ok(Self {
            _lock: lock,
            key: home.key(&store)?,
            directory: Directory::restore(&charter, &store.members()?),
            own_name: home.name()?,
            names: store.names()?,
            charter,
            store,
        })
    }
}

impl StoredHost {
    /// The addresses at which a device was last reached.
    pub(super) fn addresses(&self, device: DeviceId) -> Vec<SocketAddr> {
        let record = self.directory.record(device);
        record.map(|record| record.addresses.to_vec()).unwrap_or_default()
    }

    /// Remembers an issued ticket.
    pub(super) fn keep_ticket(&self, ticket: &Ticket) -> anyhow::Result<()> {
        Ok(self.store.keep_ticket(Clock.unix(), ticket.invite())?)
    }

    /// Devices that may let newcomers in, with the addresses at which they were last reached.
    pub(super) fn doors(&self) -> impl Iterator<Item = Door> {
        let devices = self.directory.records().map(|record| record.unverified().device);
        devices.map(|device| Door { device, addresses: self.addresses(device) })
    }
}

impl Host for StoredHost {
    fn charter(&self) -> &Charter {
        &self.charter
    }

    fn member(&self) -> MemberId {
        self.store.member()
    }

    fn key(&self) -> &DeviceKey {
        &self.key
    }

    fn now(&self) -> UnixTime {
        Clock.unix()
    }

    fn random(&self) -> &dyn Random {
        &SystemRandom
    }

    fn name_of(&self, member: MemberId) -> Option<String> {
        if member == self.member()
            && let Some(name) = &self.own_name
        {
            return Some(clean_name(name));
        }
        let own = |device| self.charter.owner(device) == Some(member);
        let mut records = self.directory.records().map(hark_keys::Signed::unverified);
        let record = records.find(|record| own(record.device));
        let name = record.map(hark_mesh::MemberRecord::shown_name);
        name.or_else(|| self.directory.former_name(member))
    }

    fn channel_name(&self, channel: &Channel) -> Option<String> {
        match &channel.name {
            ChannelName::Listed(name) => Some(name.clone()),
            ChannelName::Hidden(name) => self.names.get(&channel.id)?.open(channel.id, name),
        }
    }

    fn tickets(&self) -> Result<Vec<KnownTicket>, HostError> {
        self.store.tickets(self.now()).map_err(HostError::disk)
    }

    fn seal_name(&mut self, channel: ChannelId, name: &str) -> Result<SealedName, HostError> {
        let key = NameKey::generate(&SystemRandom);
        let sealed = key.seal(channel, name);
        self.names.insert(channel, key);
        self.store.keep_names(&self.names).map_err(HostError::disk)?;
        Ok(sealed)
    }

    fn commit(&mut self, pieces: Vec<Piece>) -> Result<(), HostError> {
        let mut charter = self.charter.clone();
        for result in charter.take_all(pieces) {
            result?;
        }
        self.store.keep_charter(&charter).map_err(HostError::disk)?;
        self.charter = charter;
        Ok(())
    }

    fn root_signed(&self, version: u32) -> Result<Option<ObjectHash>, HostError> {
        self.store.root_signed(version).map_err(HostError::disk)
    }

    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> Result<(), HostError> {
        self.store.keep_root_signed(version, document).map_err(HostError::disk)
    }
}
