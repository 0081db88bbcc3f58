//! What a talk talkspurt goes to, and who hears it through what.

use std::collections::BTreeSet;

use hark_charter::{
    State,
    content::{Capabilities, Place},
};
use hark_keys::{ChannelId, List, MemberId, RoleId, TargetId, encode};
use serde::{Deserialize, Serialize};

/// Channels, persons and roles that are spoken to at once. A talk talkspurt has one target from its
/// first frame to its last. [PROTO-6.12]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    channels: List<ChannelId, TARGET_CHANNELS_MAX>,
    members: List<MemberId, TARGET_MEMBERS_MAX>,
    roles: List<RoleId, TARGET_ROLES_MAX>,
    /// Whether others are to be turned down meanwhile.
    pub priority: bool,
}

/// How a listener is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hearing {
    /// The channels that it listens to, in ascending order.
    pub channels: Vec<ChannelId>,
    /// Whether it is spoken to as a person or by a role.
    pub whisper: bool,
    /// Whether the talker may talk over others there, and wants to.
    pub priority: bool,
}

impl Hearing {
    /// Whether the listener is reached at all.
    pub fn is_reached(&self) -> bool {
        self.whisper || !self.channels.is_empty()
    }
}

impl Target {
    /// One channel.
    pub fn of_channel(channel: ChannelId) -> Self {
        Self::new([channel], [], [])
    }

    /// Channels, persons and roles, in any order; what is too much of each is left out.
    pub fn new(
        channels: impl IntoIterator<Item = ChannelId>,
        members: impl IntoIterator<Item = MemberId>,
        roles: impl IntoIterator<Item = RoleId>,
    ) -> Self {
        Self {
            channels: ascending(channels),
            members: ascending(members),
            roles: ascending(roles),
            priority: false,
        }
    }

    /// All of one and of another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let channels = self.channels.iter().chain(other.channels.iter()).copied();
        let members = self.members.iter().chain(other.members.iter()).copied();
        let roles = self.roles.iter().chain(other.roles.iter()).copied();
        Self { priority: self.priority || other.priority, ..Self::new(channels, members, roles) }
    }

    /// What the target is called: one channel alone has its bytes. [PROTO-6.1] [PROTO-6.11]
    pub fn id(&self) -> TargetId {
        if let ([channel], [], [], false) =
            (&*self.channels, &*self.members, &*self.roles, self.priority)
        {
            return TargetId::of_channel(*channel);
        }
        let hash = blake3::derive_key("hark 1 target", &encode(self));
        TargetId::from_bytes(*hash.first_chunk().expect("16 of 32 bytes"))
    }

    /// The channels.
    pub fn channels(&self) -> &[ChannelId] {
        &self.channels
    }

    /// The persons.
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }

    /// The roles.
    pub fn roles(&self) -> &[RoleId] {
        &self.roles
    }

    /// Whether it reaches nobody.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.members.is_empty() && self.roles.is_empty()
    }

    /// Whether its lists are in order, so that it has one form.
    pub fn is_sound(&self) -> bool {
        !self.is_empty()
            && self.channels.is_sorted_by(|a, b| a < b)
            && self.members.is_sorted_by(|a, b| a < b)
            && self.roles.is_sorted_by(|a, b| a < b)
    }

    /// What of it `speaker`, a member in good standing, may speak to.
    #[must_use]
    pub fn permitted(&self, state: &State, speaker: MemberId) -> Self {
        let may = |right, channel| state.allows(speaker, right, Place::Channel(channel));
        let channels = self.channels.iter().copied();
        let channels = channels.filter(|it| may(Capabilities::SPEAK, *it));
        let whispers = state.allows(speaker, Capabilities::WHISPER, Place::Organisation);
        let persons = self.members.iter().copied().filter(|_| whispers);
        let permitted =
            Self::new(channels, persons, self.roles.iter().copied().filter(|_| whispers));
        let priority = self.priority
            && permitted.channels.iter().any(|channel| may(Capabilities::PRIORITY, *channel));
        Self { priority, ..permitted }
    }

    /// Whether `listener`, who has chosen to hear the channels `listening`, is reached by what is
    /// said to this target, all of which its speaker is permitted. [`Self::hearing`] says how.
    pub fn reaches(
        &self,
        state: &State,
        listener: MemberId,
        listening: &BTreeSet<ChannelId>,
    ) -> bool {
        let hears = |channel: ChannelId| {
            listening.contains(&channel) && state.allows(listener, LISTEN, Place::Channel(channel))
        };
        self.members.contains(&listener)
            || self.channels.iter().any(|it| hears(*it) || state.linked(*it).any(hears))
            || (!self.roles.is_empty()
                && state.grants(listener).any(|(role, _)| self.roles.contains(&role)))
    }

    /// How `listener`, who has chosen to hear the channels `listening`, hears what `speaker` says
    /// to this target; both are members in good standing.
    pub fn hearing(
        &self,
        state: &State,
        speaker: MemberId,
        listener: MemberId,
        listening: &BTreeSet<ChannelId>,
    ) -> Hearing {
        let permitted = self.permitted(state, speaker);
        let hears = |channel: &ChannelId| {
            listening.contains(channel) && state.allows(listener, LISTEN, Place::Channel(*channel))
        };
        let mut channels = BTreeSet::new();
        for channel in permitted.channels.iter() {
            let reached = std::iter::once(*channel).chain(state.linked(*channel));
            channels.extend(reached.filter(hears));
        }
        let by_role = || state.grants(listener).any(|(role, _)| permitted.roles.contains(&role));
        Hearing {
            whisper: permitted.members.contains(&listener) || by_role(),
            priority: permitted.priority && !channels.is_empty(),
            channels: channels.into_iter().collect(),
        }
    }
}

fn ascending<T: Ord, const MAX: usize>(items: impl IntoIterator<Item = T>) -> List<T, MAX> {
    List::truncated(items.into_iter().collect::<BTreeSet<_>>())
}

/// What it takes to hear a channel.
pub const LISTEN: Capabilities = Capabilities::JOIN.and(Capabilities::LISTEN);

/// Channels of a target; further ones are left out.
pub const TARGET_CHANNELS_MAX: usize = 32;

/// Persons of a target; further ones are left out.
pub const TARGET_MEMBERS_MAX: usize = 32;

/// Roles of a target; further ones are left out.
pub const TARGET_ROLES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// [PROTO-6.11]
    #[test]
    fn a_channel_alone_has_its_own_id_and_any_other_target_a_hash() {
        let [one, two] = [1, 2].map(|byte| ChannelId::from_bytes([byte; 16]));
        let alone = Target::of_channel(one);
        assert_eq!(alone.id(), TargetId::from_bytes([1; 16]));
        let urgent = Target { priority: true, ..alone.clone() };
        let both = Target::new([two, one, two], [], []);
        assert_eq!(both, Target::new([one, two], [], []), "a set has one order");
        let member = Target::new([], [MemberId::from_bytes([1; 32])], []);
        let role = Target::new([], [], [RoleId::from_bytes([1; 16])]);
        let ids: BTreeSet<_> = [&alone, &urgent, &both, &member, &role].map(Target::id).into();
        assert_eq!(ids.len(), 5, "each has an id of its own");
        let hash = blake3::derive_key("hark 1 target", &encode(&both));
        assert_eq!(both.id().as_bytes()[..], hash[..16]);
    }
}
