//! Queries of a squad.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_charter::{
    Charter, NameKey,
    content::{Channel, ChannelName},
};
use hark_keys::{ChannelId, DeviceId, MemberId, TargetId};

use super::{Squad, is_infrastructure, names};
use crate::{Availability, Directory, hello::Presence, target::Target};

impl Squad {
    /// The charter in force.
    pub fn charter(&self) -> &Arc<Charter> {
        self.replication.charter()
    }

    /// The charter including what is not on disk yet. Edits build upon it.
    pub fn charter_taken(&self) -> &Charter {
        self.replication.taken()
    }

    /// The member whose device this is; `None` for an infrastructure relay.
    pub fn member(&self) -> Option<MemberId> {
        self.member
    }

    /// Whether nobody can be reached because this device may only use the charter's relays, and
    /// there are none.
    pub fn lacks_relays(&self) -> bool {
        let charter = self.charter();
        self.relay_only
            && !charter.state().relays().any(|relay| is_infrastructure(charter, relay.device))
    }

    /// What this device says of itself.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// All members whose records are known, including this device.
    pub fn directory(&self) -> &Directory {
        self.records.directory()
    }

    /// The channels that this device listens to.
    pub fn listening(&self) -> &BTreeSet<ChannelId> {
        self.nets.own()
    }

    /// The channels that a linked peer listens to, as far as this device may know.
    pub fn listening_of(&self, device: DeviceId) -> &BTreeSet<ChannelId> {
        self.nets.of(device)
    }

    /// The availability that a device has reported for its person. It is the default if there was
    /// no report, or the last one is too old. [PROTO-5.12]
    pub fn availability_of(&self, device: DeviceId) -> Availability {
        self.availabilities.of(device)
    }

    /// The member of a linked peer.
    pub fn member_of(&self, device: DeviceId) -> Option<MemberId> {
        self.links.get(&device)?.member
    }

    /// Whether a linked peer is an infrastructure relay.
    pub fn is_relay(&self, device: DeviceId) -> bool {
        self.links.get(&device).is_some_and(|link| link.member.is_none())
    }

    /// The id of the permitted part of a wanted target, if that part is keyed.
    pub fn target(&self, target: &Target) -> Option<TargetId> {
        self.targets.permitted(self.charter().state(), self.member?, target)
    }

    /// The keyed target with this id.
    pub fn target_of(&self, id: TargetId) -> Option<&Target> {
        self.targets.target(id)
    }

    /// The name of a channel that this device may know of.
    pub fn channel_name(&self, channel: &Channel) -> Option<String> {
        match &channel.name {
            ChannelName::Listed(name) => Some(name.clone()),
            ChannelName::Hidden(sealed) => {
                if !names::may_know(self.charter(), self.member?, channel.id) {
                    return None;
                }
                self.names.keys().get(&channel.id)?.open(channel.id, sealed)
            }
        }
    }

    /// The keys of hidden channels' names.
    pub fn names(&self) -> &BTreeMap<ChannelId, NameKey> {
        self.names.keys()
    }
}
