//! The charter of a running node, for the commands that read and edit it.

use std::sync::Arc;

use hark_charter::{
    Charter, NameKey, Piece,
    content::{Channel, SealedName},
};
use hark_commands::{Host, HostError, KnownTicket};
use hark_keys::{ChannelId, DeviceKey, MemberId, ObjectHash, Random, Timestamp, UnixTime};
use hark_mesh::{MemberRecord, squad::Squad};

use super::own_member;
use crate::{random::SystemRandom, store::OrganisationStore};

/// A squad and its store, while a command is carried out.
pub(super) struct RunningHost<'a> {
    pub(super) now: Timestamp,
    pub(super) squad: &'a mut Squad,
    pub(super) store: &'a OrganisationStore,
    pub(super) key: &'a Arc<DeviceKey>,
}

impl Host for RunningHost<'_> {
    fn charter(&self) -> &Charter {
        self.squad.charter_taken()
    }

    fn member(&self) -> MemberId {
        own_member(self.squad)
    }

    fn key(&self) -> &DeviceKey {
        self.key
    }

    fn now(&self) -> UnixTime {
        self.charter().calendar()
    }

    fn random(&self) -> &dyn Random {
        &SystemRandom
    }

    fn name_of(&self, member: MemberId) -> Option<String> {
        let own = |record: &&MemberRecord| self.charter().owner(record.device) == Some(member);
        let mut records = self.squad.directory().records().map(hark_keys::Signed::unverified);
        let name = records.find(own).map(MemberRecord::shown_name);
        name.or_else(|| self.squad.directory().former_name(member))
    }

    fn channel_name(&self, channel: &Channel) -> Option<String> {
        self.squad.channel_name(channel)
    }

    fn tickets(&self) -> Result<Vec<KnownTicket>, HostError> {
        self.store.tickets(self.now()).map_err(HostError::disk)
    }

    fn seal_name(&mut self, channel: ChannelId, name: &str) -> Result<SealedName, HostError> {
        let key = NameKey::generate(&SystemRandom);
        let sealed = key.seal(channel, name);
        // The squad tells of it before it asks for the charter to be written, so a worker writes the
        // name first.
        self.squad.keep_name(self.now, channel, key);
        Ok(sealed)
    }

    fn commit(&mut self, pieces: Vec<Piece>) -> Result<(), HostError> {
        self.squad.bring(self.now, pieces)?;
        Ok(())
    }

    fn root_signed(&self, version: u32) -> Result<Option<ObjectHash>, HostError> {
        self.store.root_signed(version).map_err(HostError::disk)
    }

    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> Result<(), HostError> {
        match self.root_signed(version)? {
            Some(known) if known == document => Ok(()),
            _ => Err(HostError::Unkept { version, document }),
        }
    }
}
