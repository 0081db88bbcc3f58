//! What a talkspurt is sent to, and by what means its listeners are reached.

use std::collections::BTreeSet;

use hark_charter::{
    State,
    content::{Capabilities, Place},
};
use hark_keys::{ChannelId, List, MemberId, RoleId, TargetId, encode};
use serde::{Deserialize, Serialize};

/// Channels, persons and roles that are spoken to at once. A talkspurt has one target from its
/// first frame to its last. [PROTO-6.12]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    channels: List<ChannelId, TARGET_CHANNELS_MAX>,
    members: List<MemberId, TARGET_MEMBERS_MAX>,
    roles: List<RoleId, TARGET_ROLES_MAX>,
    /// Whether other talkers are to be turned down meanwhile.
    pub priority: bool,
}

/// The ways in which a listener is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hearing {
    /// The channels that reach it and that it listens to, in ascending order.
    pub channels: Vec<ChannelId>,
    /// Whether it is addressed as a person or by a role.
    pub whisper: bool,
    /// Whether the talker may have priority over others there, and wants to.
    pub priority: bool,
}

impl Hearing {
    /// Whether the listener is reached at all.
    pub fn is_reached(&self) -> bool {
        self.whisper || !self.channels.is_empty()
    }
}

impl Target {
    /// A target of one channel.
    pub fn of_channel(channel: ChannelId) -> Self {
        Self::new([channel], [], [])
    }

    /// A target of channels, persons and roles, in any order. Beyond the maximum of each kind,
    /// further ones are left out.
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

    /// A target of everything in both targets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let channels = self.channels.iter().chain(other.channels.iter()).copied();
        let members = self.members.iter().chain(other.members.iter()).copied();
        let roles = self.roles.iter().chain(other.roles.iter()).copied();
        Self { priority: self.priority || other.priority, ..Self::new(channels, members, roles) }
    }

    /// The id of the target. A target of one channel has the bytes of the channel's id. [PROTO-6.1]
    /// [PROTO-6.11]
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

    /// Whether its lists are in order, so that it has only one form.
    pub fn is_sound(&self) -> bool {
        !self.is_empty()
            && self.channels.is_sorted_by(|a, b| a < b)
            && self.members.is_sorted_by(|a, b| a < b)
            && self.roles.is_sorted_by(|a, b| a < b)
    }

    /// The part of the target that `speaker`, a member in good standing, may speak to.
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

    /// Whether `listener`, who has chosen to hear the channels `listening`, is reached by this
    /// target. The speaker must be permitted all of it. [`Self::hearing`] says in which way.
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
    /// to this target. Both are members in good standing.
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

/// The capabilities needed to hear a channel.
pub const LISTEN: Capabilities = Capabilities::JOIN.and(Capabilities::LISTEN);

/// Most channels in a target. Further ones are left out.
pub const TARGET_CHANNELS_MAX: usize = 32;

/// Most persons in a target. Further ones are left out.
pub const TARGET_MEMBERS_MAX: usize = 32;

/// Most roles in a target. Further ones are left out.
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
