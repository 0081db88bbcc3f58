use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{ChannelId, DeviceId, List, MemberId, ObjectHash, PresetId, RoleId, UnixTime};
use serde::{Deserialize, Serialize};

use super::{
    content::{
        Capabilities, Channel, ChannelMode, ChannelName, ChannelSound, Layout, MEMBER_ROLE, Place,
        Policy, Preset, Rank, Relay, Role, Sanction, SanctionKind, Subject,
    },
    introduction::Introduced,
    sanctions::{InForce, SanctionEntry},
    shared::Shared,
    tickets::Revocations,
};

/// The state of a charter at present: the outcome of all its pieces. Checkpoints state its
/// encoding, in which there are no empty lists or maps. [CHARTER-7.7] [CHARTER-7.20] [CHARTER-7.27]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) roles: Shared<BTreeMap<RoleId, Role>>,
    /// The operation or document that defined each role last.
    pub(super) defined: Shared<BTreeMap<RoleId, ObjectHash>>,
    pub(super) channels: Shared<BTreeMap<ChannelId, ChannelEntry>>,
    pub(super) links: Shared<BTreeSet<(ChannelId, ChannelId)>>,
    pub(super) grants: Shared<BTreeMap<MemberId, Shared<Grants>>>,
    pub(super) rules: Shared<BTreeMap<Place, Shared<Rules>>>,
    /// All versions of each preset since the last checkpoint, the latest in order last.
    pub(super) presets: Shared<BTreeMap<PresetId, Vec<PresetVersion>>>,
    /// Presets in force, as they were when they were loaded.
    pub(super) loads: Shared<BTreeMap<PresetId, Load>>,
    pub(super) sanctions: Shared<BTreeMap<MemberId, Vec<SanctionEntry>>>,
    pub(super) relays: Shared<BTreeMap<DeviceId, Relay>>,
    pub(super) policies: Policies,
    pub(super) removed: Shared<Removed>,
    pub(super) removals: Shared<BTreeMap<MemberId, Removals>>,
    /// How many removals there were, of any member.
    pub(super) removed_ever: u32,
    /// Certificates by the member who has listed them, each with the number of removals before.
    pub(super) listed: Shared<BTreeMap<MemberId, Shared<BTreeMap<ObjectHash, u32>>>>,
    /// Members whose one root key is enough to act as the organisation. [CHARTER-6.1]
    pub(super) roots: Shared<BTreeSet<MemberId>>,
    pub(super) devices: Shared<BTreeMap<MemberId, BTreeMap<DeviceId, DeviceEntry>>>,
    pub(super) ended: Shared<BTreeMap<(MemberId, u32), EndedTerm>>,
    pub(super) frozen: Shared<BTreeMap<(DeviceId, u32), u64>>,
    /// Tickets that no longer admit anybody.
    pub(super) revoked: Shared<Revocations>,
    /// Devices that are known before the operation that added them is taken. They differ between
    /// holders and are not part of the outcome. [CHARTER-3.6]
    #[serde(skip)]
    pub(super) introduced: Introduced,
    /// The sanctions in force by the clock of this device. They are not part of the outcome, and
    /// are empty while operations are replayed. [CHARTER-6.7]
    #[serde(skip)]
    pub(super) in_force: Shared<InForce>,
}

/// The roles of one member, each at its place.
pub(super) type Grants = BTreeMap<(Place, RoleId), Vec<GrantEntry>>;

/// The rules of one place.
pub(super) type Rules = BTreeMap<Subject, Vec<RuleEntry>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelEntry {
    pub(super) channel: Channel,
    /// The preset with which the channel came.
    pub(super) preset: Option<PresetId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GrantEntry {
    pub(super) granted: bool,
    /// The author's rank at the place.
    pub(super) rank: Rank,
    pub(super) preset: Option<PresetId>,
    pub(super) source: ObjectHash,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RuleEntry {
    pub(super) allow: Capabilities,
    pub(super) deny: Capabilities,
    /// The author's rank at the place.
    pub(super) rank: Rank,
    pub(super) preset: Option<PresetId>,
    pub(super) source: ObjectHash,
}

/// The version of a preset that one edit made. [CHARTER-5.10]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PresetVersion {
    pub(super) preset: Preset,
    pub(super) source: ObjectHash,
}

/// A preset in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) preset: Preset,
    /// The loader's rank everywhere.
    pub(super) rank: Rank,
}

/// How often a member was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removals {
    pub(super) count: u32,
    /// How many removals of any member there were, up to and including the last of these.
    pub(super) last: u32,
}

/// Roles, channels and presets that never come back. [CHARTER-5.7]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removed {
    /// Each with the level of the removal, and the operation that made it.
    pub(super) roles: BTreeMap<RoleId, (u16, ObjectHash)>,
    pub(super) channels: BTreeSet<ChannelId>,
    pub(super) presets: BTreeMap<PresetId, ObjectHash>,
}

/// A device that a member has added, or one of the member's other keys that was retired.
/// [CHARTER-7.28]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceEntry {
    pub(super) seniority: Seniority,
    pub(super) retired: Option<Retired>,
}

/// The end of a device. [CHARTER-3.21]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Retired {
    /// Term and number of the last operation that stands.
    pub(super) last: (u32, u64),
    /// The operation that ended it.
    pub(super) by: ObjectHash,
}

/// The seniority of a member's key: the smaller may end the larger. [CHARTER-3.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Seniority {
    /// The recovery key. There are several if the first device has named several.
    Recovery(DeviceId),
    First,
    /// The lamport of the operation that added the device, and the device.
    Added(u64, DeviceId),
}

/// A term that was cut. [CHARTER-5.2] [CHARTER-7.21]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndedTerm {
    /// The smallest lamport of the operations that cut it; 0 for a root document.
    pub(super) lamport: u64,
    /// The highest version of a root document that cut it; 0 if none did.
    pub(super) root: u32,
    /// What stands, by key, for operations of at least this level: 0 for a root document's cut, one
    /// more than the level of an operation's cut.
    pub(super) from: BTreeMap<u16, BTreeMap<DeviceId, u64>>,
}

impl EndedTerm {
    /// Whether an operation of this number and level is cut off.
    pub(super) fn voids(&self, author: DeviceId, sequence: u64, level: u16) -> bool {
        let mut endings = self.from.range(..=level);
        endings.any(|(_, last)| last.get(&author).is_none_or(|last| *last < sequence))
    }
}

/// Settings of the whole organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// The longest that an invite may last, in hours; 0 is any time.
    pub invite_hours_max: u32,
    /// How many operations of one author are taken from gossip in a day. [CHARTER-8.3]
    pub operations_per_day: u32,
}

impl Default for Policies {
    fn default() -> Self {
        Self { invite_hours_max: 0, operations_per_day: 200 }
    }
}

impl Policies {
    pub(super) fn set(&mut self, policy: Policy) {
        match policy {
            Policy::InviteHoursMax(hours) => self.invite_hours_max = hours,
            Policy::OperationsPerDay(operations) => self.operations_per_day = operations,
        }
    }
}

/// What decided about a right. [CHARTER-6.4]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The member is a root key's, which may do everything except hear and talk.
    Root,
    /// A mute or a ban takes the right.
    Sanction {
        /// Whether it is a mute or a ban.
        kind: SanctionKind,
        /// The place where it was set.
        at: Place,
        /// When it ends; `None` if it lasts until it is lifted.
        until: Option<UnixTime>,
        /// The operation that set it.
        source: ObjectHash,
    },
    /// A rule decides: the most particular of the nearest that concern the right.
    Rule {
        /// Whether it allows.
        allows: bool,
        /// The place where the rule stands.
        at: Place,
        /// The members whom the rule is for.
        subject: Subject,
        /// The preset with which the rule came.
        preset: Option<PresetId>,
        /// The operation or document that set it.
        source: ObjectHash,
    },
    /// A role has the right.
    Role {
        /// The role.
        role: RoleId,
        /// The place where it was granted.
        at: Place,
        /// The operation or document that granted it; `None` for the role that every member has.
        source: Option<ObjectHash>,
    },
    /// Nothing gives the right.
    Nothing,
    /// The channel does not exist.
    NoChannel,
}

impl Decision {
    /// Whether the member has the right.
    pub fn allows(&self) -> bool {
        match self {
            Self::Root | Self::Role { .. } => true,
            Self::Rule { allows, .. } => *allows,
            Self::Sanction { .. } | Self::Nothing | Self::NoChannel => false,
        }
    }
}

impl State {
    /// All channels, including those of loaded presets. A channel below one that is gone, for
    /// example with the preset with which that one came, is left out.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.keys().filter_map(|id| self.channel(*id))
    }

    /// All channels as the tree shows them: each before those below it, siblings in the order that
    /// officers gave them, and those of one order by name. Hidden channels, whose names not
    /// everybody knows, come after the others of their order.
    pub fn channels_in_order(&self) -> Vec<&Channel> {
        let mut channels: Vec<_> = self.channels().collect();
        channels.sort_by_cached_key(|channel| {
            let path = self.path(Place::Channel(channel.id)).filter_map(|at| match at {
                Place::Organisation => None,
                Place::Channel(id) => {
                    let Channel { order, name, .. } = self.channel(id)?;
                    let name = match name {
                        ChannelName::Listed(name) => (false, name.clone()),
                        ChannelName::Hidden(_) => (true, String::new()),
                    };
                    Some((*order, name, id))
                }
            });
            let mut path: Vec<_> = path.collect();
            path.reverse();
            path
        });
        channels
    }

    /// The channel of this id.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        let channel = &self.channels.get(&id)?.channel;
        let mut above = channel.parent;
        while let Place::Channel(parent) = above {
            above = self.channels.get(&parent)?.channel.parent;
        }
        Some(channel)
    }

    /// The preset with which a channel came.
    pub fn preset_of(&self, id: ChannelId) -> Option<PresetId> {
        self.channels.get(&id)?.preset
    }

    /// All roles.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// The role of this id.
    pub fn role(&self, id: RoleId) -> Option<&Role> {
        self.roles.get(&id)
    }

    /// The roles granted to `member`, and where.
    pub fn grants(&self, member: MemberId) -> impl Iterator<Item = (RoleId, Place)> {
        let grants = self.grants.get(&member).into_iter().flatten();
        let held = grants.filter(|((_, role), entries)| self.is_granted(*role, entries));
        held.map(|((at, role), _)| (*role, *at))
    }

    /// Members who hold any role.
    pub fn holders(&self) -> impl Iterator<Item = MemberId> {
        self.grants.keys().copied().filter(|member| self.grants(*member).next().is_some())
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = (Place, Subject, Capabilities, Capabilities)> {
        self.rules.iter().flat_map(|(at, subjects)| {
            subjects.iter().flat_map(|(subject, entries)| {
                entries.iter().map(|entry| (*at, *subject, entry.allow, entry.deny))
            })
        })
    }

    /// All presets.
    pub fn presets(&self) -> impl Iterator<Item = &Preset> {
        let there = self.presets.iter().filter(|(id, _)| !self.removed.presets.contains_key(id));
        there.filter_map(|(_, versions)| versions.last().map(|version| &version.preset))
    }

    /// Presets in force, as they were when they were loaded.
    pub fn loaded(&self) -> impl Iterator<Item = &Preset> {
        self.loads.values().map(|load| &load.preset)
    }

    /// The layouts of loaded presets that are for `member`.
    pub fn layouts(&self, member: MemberId) -> impl Iterator<Item = &Layout> {
        let roles: BTreeSet<_> = self.grants(member).map(|(role, _)| role).collect();
        self.loaded().flat_map(|preset| preset.layouts.iter()).filter(move |layout| {
            match layout.subject {
                Subject::Everyone => true,
                Subject::Role(role) => roles.contains(&role),
                Subject::Member(whose) => whose == member,
            }
        })
    }

    /// The relay with this device.
    pub fn relay(&self, device: DeviceId) -> Option<&Relay> {
        self.relays.get(&device)
    }

    /// All relays.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.relays.values()
    }

    /// The settings of the organisation.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Channels linked with `channel`.
    pub fn linked(&self, channel: ChannelId) -> impl Iterator<Item = ChannelId> {
        self.links.iter().filter_map(move |(a, b)| match (*a == channel, *b == channel) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        })
    }

    /// Whether everybody has the same rights at the same channels by `other`, and the channels are
    /// linked alike.
    pub fn permits_like(&self, other: &Self) -> bool {
        self.roots == other.roots
            && self.roles == other.roles
            && self.channels == other.channels
            && self.links == other.links
            && self.rules == other.rules
            && self.grants == other.grants
            && self.in_force == other.in_force
    }

    /// Whether this member has listed a certificate since the last removal of the certificate's
    /// member.
    pub(super) fn is_listed(&self, hash: ObjectHash, by: MemberId, of: MemberId) -> bool {
        let removed = self.removals.get(&of).map_or(0, |removals| removals.last);
        self.listed
            .get(&by)
            .and_then(|listed| listed.get(&hash))
            .is_some_and(|listed| *listed >= removed)
    }

    /// Whether this member has ever listed a certificate.
    pub(super) fn has_listed(&self, hash: ObjectHash, by: MemberId) -> bool {
        self.listed.get(&by).is_some_and(|listed| listed.contains_key(&hash))
    }

    /// The members who hold `role` everywhere.
    pub(super) fn holders_everywhere(&self, role: RoleId) -> impl Iterator<Item = MemberId> {
        let place = (Place::Organisation, role);
        let holds =
            move |grants: &Grants| grants.get(&place).is_some_and(|it| self.is_granted(role, it));
        self.grants.iter().filter(move |(_, grants)| holds(grants)).map(|(member, _)| *member)
    }

    /// The members to whom a preset in force gives a role everywhere.
    pub(super) fn holders_by(&self, preset: PresetId) -> impl Iterator<Item = MemberId> {
        let grants = self.loads.get(&preset).into_iter().flat_map(|load| load.preset.grants.iter());
        let everywhere = grants.filter(|grant| grant.at == Place::Organisation);
        everywhere.flat_map(|grant| grant.members.iter().copied())
    }

    /// Whether a state that somebody else has sent could have come from operations, as far as the
    /// code relies on that: each preset has a version, no channel lies below itself, and the count
    /// of removals has room to grow.
    pub(super) fn is_sound(&self) -> bool {
        let mut ends = BTreeSet::new();
        for channel in self.channels.keys() {
            let mut above = BTreeSet::new();
            let mut at = Place::Channel(*channel);
            while let Place::Channel(channel) = at {
                if ends.contains(&channel) {
                    break;
                }
                if !above.insert(channel) {
                    return false;
                }
                let entry = self.channels.get(&channel);
                at = entry.map_or(Place::Organisation, |entry| entry.channel.parent);
            }
            ends.append(&mut above);
        }
        self.removed_ever < u32::MAX / 2 && self.presets.values().all(|it| !it.is_empty())
    }

    /// Leaves out what only operations before a checkpoint can need, and tickets that had expired
    /// some time before it was made.
    pub(super) fn prune(&mut self, time: UnixTime) {
        if self.revoked.is_outdated(time) {
            self.revoked.forget(time);
        }
        for versions in self.presets.values_mut() {
            versions.drain(..versions.len() - 1);
        }
        self.presets.retain(|id, _| !self.removed.presets.contains_key(id));
    }

    /// All members who were ever removed, and how often.
    pub fn removed(&self) -> impl Iterator<Item = (MemberId, u32)> {
        self.removals.iter().map(|(member, removals)| (*member, removals.count))
    }

    /// How often `member` was removed.
    pub fn removals(&self, member: MemberId) -> u32 {
        self.removals.get(&member).map_or(0, |removals| removals.count)
    }

    /// How many removals there were, of any member.
    pub fn removals_ever(&self) -> u32 {
        self.removed_ever
    }

    /// How many removals of any member there were at the last one of `member`; 0 if it was never
    /// removed.
    pub fn last_removal(&self, member: MemberId) -> u32 {
        self.removals.get(&member).map_or(0, |removals| removals.last)
    }

    /// The member's present term. [CHARTER-5.3]
    pub fn term(&self, member: MemberId) -> u32 {
        let terms = self.ended.range((member, 0)..=(member, u32::MAX));
        (0..).zip(terms).take_while(|(term, ((_, ended), _))| term == ended).count() as u32
    }

    /// Devices that `member` has added and not retired.
    pub fn added_devices(&self, member: MemberId) -> impl Iterator<Item = DeviceId> {
        let devices = self.devices.get(&member).into_iter().flatten();
        let current = devices.filter(|(_, entry)| {
            entry.retired.is_none() && matches!(entry.seniority, Seniority::Added(..))
        });
        let introduced = self.introduced.get(&member).into_iter().flatten();
        current.map(|(device, _)| device).chain(introduced).copied()
    }

    /// Whether `device` was once one of the member's and no longer is.
    pub fn is_retired(&self, member: MemberId, device: DeviceId) -> bool {
        let entry = self.devices.get(&member).and_then(|devices| devices.get(&device));
        entry.is_some_and(|entry| entry.retired.is_some())
    }

    /// How high `member` stands at a place, by its roles there and above. At the organisation, only
    /// roles granted everywhere count.
    pub fn rank(&self, member: MemberId, at: Place) -> Rank {
        if self.roots.contains(&member) {
            return Rank::ROOT;
        }
        let Some(grants) = self.grants.get(&member) else { return Rank::LOWEST };
        let rank_at = |at: Place| {
            let there = grants.range((at, RoleId::from_bytes([0; 16]))..);
            let there = there.take_while(move |((place, _), _)| *place == at);
            let held = there.filter(|((_, role), entries)| self.is_granted(*role, entries));
            held.filter_map(|((_, role), _)| Some(self.roles.get(role)?.rank)).min()
        };
        self.path(at).filter_map(rank_at).min().unwrap_or(Rank::LOWEST)
    }

    /// What decides whether a member in good standing has a right at a place. [CHARTER-6.3]
    pub fn decide(&self, member: MemberId, right: Capabilities, at: Place) -> Decision {
        debug_assert_eq!(right.iter().count(), 1, "rights are asked for one by one");
        let mut path = vec![at];
        while let Some(Place::Channel(channel)) = path.last() {
            let Some(entry) = self.channels.get(channel) else { return Decision::NoChannel };
            path.push(entry.channel.parent);
        }
        if let Some((sanction, source)) = self.sanction_against(member, right, &path) {
            let Sanction { kind, at, until, .. } = *sanction;
            return Decision::Sanction { kind, at, until, source };
        }
        if self.roots.contains(&member) && !HEARD.contains(right) {
            return Decision::Root;
        }
        if path.iter().any(|place| self.rules.contains_key(place))
            && let Some(rule) = self.decide_by_rules(member, right, &path)
        {
            return rule;
        }
        let has = |(role, ..): &(RoleId, Place, Option<ObjectHash>)| {
            self.roles.get(role).is_some_and(|role| role.capabilities.contains(right))
        };
        match self.held(member, &path).find(has) {
            Some((role, at, source)) => Decision::Role { role, at, source },
            None => Decision::Nothing,
        }
    }

    /// The rule, among those at a place and above, that decides about a right. [CHARTER-6.3]
    /// [CHARTER-6.8]
    fn decide_by_rules(
        &self,
        member: MemberId,
        right: Capabilities,
        path: &[Place],
    ) -> Option<Decision> {
        let held: Vec<_> = self.held(member, path).collect();
        let rank = self.rank(member, path[0]);
        for (depth, place) in path.iter().enumerate() {
            let Some(rules) = self.rules.get(place) else { continue };
            let above = &path[depth..];
            let roles = held.iter().filter(|(_, at, _)| above.contains(at));
            let subjects = [Subject::Member(member), Subject::Everyone]
                .into_iter()
                .chain(roles.map(|(role, ..)| Subject::Role(*role)));
            let entries = subjects.flat_map(|subject| {
                let entries = rules.get(&subject).into_iter().flatten();
                entries.map(move |entry| (subject, entry))
            });
            let binding: Vec<_> = entries.filter(|(_, entry)| entry.rank < rank).collect();
            let denials = binding.iter().filter(|(_, entry)| entry.deny.contains(right));
            let highest = denials.map(|(_, entry)| entry.rank).min();
            let counting = binding.into_iter().filter_map(|(subject, entry)| {
                let denies = entry.deny.contains(right);
                // Nobody opens what somebody who stands higher has closed.
                let allows = entry.allow.contains(right)
                    && highest.is_none_or(|highest| entry.rank <= highest);
                (denies || allows).then_some((subject, entry, !denies))
            });
            let decides =
                counting.min_by_key(|(subject, _, allows)| (subject.particularity(), *allows));
            if let Some((subject, entry, allows)) = decides {
                let RuleEntry { preset, source, .. } = *entry;
                return Some(Decision::Rule { allows, at: *place, subject, preset, source });
            }
        }
        None
    }

    /// The roles that a member holds at a place: those granted there or above.
    fn held<'a>(
        &'a self,
        member: MemberId,
        path: &'a [Place],
    ) -> impl Iterator<Item = (RoleId, Place, Option<ObjectHash>)> + 'a {
        let granted = self.grants.get(&member).into_iter().flat_map(move |grants| {
            path.iter().flat_map(move |place| {
                let there = grants.range((*place, RoleId::from_bytes([0; 16]))..);
                there.take_while(move |((at, _), _)| at == place)
            })
        });
        let granted = granted.filter(|((_, role), entries)| {
            self.roles.contains_key(role) && self.is_granted(*role, entries)
        });
        let granted = granted
            .map(|((at, role), entries)| (*role, *at, entries.last().map(|entry| entry.source)));
        std::iter::once((MEMBER_ROLE, Place::Organisation, None)).chain(granted)
    }

    /// Whether the role is granted by grants and ungrants of which neither knew the other. A
    /// preset's grant stands beside what officers have set. An ungrant has no effect if the role's
    /// rank is now not below that of its author. [CHARTER-5.8]
    pub(super) fn is_granted(&self, role: RoleId, entries: &[GrantEntry]) -> bool {
        if entries.iter().any(|entry| entry.preset.is_some()) {
            return true;
        }
        let stands = self.roles.get(&role).map_or(Rank::LOWEST, |role| role.rank);
        let mut count =
            entries.iter().filter(|entry| entry.granted || entry.rank < stands).peekable();
        count.peek().is_some() && count.all(|entry| entry.granted)
    }

    /// The rights that somebody who stands higher than `member` denies anybody at a place. No rule
    /// that `member` sets there gives these rights to those who are denied them. [CHARTER-6.8]
    pub fn denied_from_above(&self, member: MemberId, at: Place) -> Capabilities {
        let rank = self.rank(member, at);
        let entries = self.rules.get(&at).into_iter().flat_map(|rules| rules.values().flatten());
        let above = entries.filter(|entry| entry.rank < rank);
        above.fold(Capabilities::NONE, |all, entry| all | entry.deny)
    }

    /// Whether a member in good standing has all of `rights` at a place.
    pub fn allows(&self, member: MemberId, rights: Capabilities, at: Place) -> bool {
        rights.iter().all(|right| self.decide(member, right, at).allows())
    }

    /// The place, the one above it, and so on up to the organisation.
    pub fn path(&self, at: Place) -> impl Iterator<Item = Place> {
        std::iter::successors(Some(at), |place| match place {
            Place::Organisation => None,
            Place::Channel(channel) => {
                Some(self.channels.get(channel).map_or(Place::Organisation, |it| it.channel.parent))
            }
        })
    }

    /// The channels below `channel`, and itself.
    pub(super) fn subtree(&self, channel: ChannelId) -> Vec<ChannelId> {
        let below =
            |id: &ChannelId| self.path(Place::Channel(*id)).any(|at| at == Place::Channel(channel));
        self.channels.keys().copied().filter(below).collect()
    }

    /// Puts a preset into force. Nothing in it reaches further than `rank` and `rights`, which the
    /// loader has everywhere.
    pub(super) fn load(
        &mut self,
        preset: Preset,
        rank: Rank,
        rights: impl Fn(&Self, Capabilities) -> bool,
        source: ObjectHash,
    ) {
        let id = preset.id;
        self.unload(id);
        let origin = Some(id);
        for channel in preset.channels.iter() {
            if !self.removed.channels.contains(&channel.id)
                && !self.channels.contains_key(&channel.id)
            {
                let entry = ChannelEntry { channel: channel.clone(), preset: origin };
                self.channels.insert(channel.id, entry);
            }
        }
        // A channel below one that does not exist, or in a cycle, is put below the organisation.
        for channel in preset.channels.iter() {
            if !self.reaches_the_organisation(channel.id)
                && let Some(entry) = self.channels.get_mut(&channel.id)
                && entry.preset == origin
            {
                entry.channel.parent = Place::Organisation;
            }
        }
        for rule in
            preset.rules.iter().filter(|rule| rights(self, rule.allow)).copied().collect::<Vec<_>>()
        {
            let entry =
                RuleEntry { allow: rule.allow, deny: rule.deny, rank, preset: origin, source };
            self.rules.entry(rule.at).or_default().entry(rule.subject).or_default().push(entry);
        }
        for grant in preset.grants.iter() {
            if self.roles.get(&grant.role).is_some_and(|role| rank < role.rank) {
                for member in grant.members.iter() {
                    let grants = self.grants.entry(*member).or_default();
                    let entry = GrantEntry { granted: true, rank, preset: origin, source };
                    grants.entry((grant.at, grant.role)).or_default().push(entry);
                }
            }
        }
        self.loads.insert(id, Load { preset, rank });
    }

    /// Removes everything that a preset has brought.
    pub(super) fn unload(&mut self, id: PresetId) {
        if self.loads.remove(&id).is_none() {
            return;
        }
        self.channels.retain(|_, entry| entry.preset != Some(id));
        self.rules.retain(|_, subjects| {
            subjects.retain(|_, entries| {
                entries.retain(|entry| entry.preset != Some(id));
                !entries.is_empty()
            });
            !subjects.is_empty()
        });
        self.grants.retain(|_, grants| {
            grants.retain(|_, entries| {
                entries.retain(|entry| entry.preset != Some(id));
                !entries.is_empty()
            });
            !grants.is_empty()
        });
    }

    fn reaches_the_organisation(&self, channel: ChannelId) -> bool {
        let mut at = channel;
        for _ in 0..=self.channels.len() {
            match self.channels.get(&at).map(|entry| entry.channel.parent) {
                Some(Place::Channel(parent)) => at = parent,
                Some(Place::Organisation) => return true,
                None => return false,
            }
        }
        false
    }
}

impl Channel {
    /// An open channel without a limit.
    pub fn open(id: ChannelId, name: &str) -> Self {
        Self {
            id,
            parent: Place::Organisation,
            name: ChannelName::Listed(name.to_owned()),
            mode: ChannelMode::Open,
            sound: ChannelSound::Speech,
            limit: 0,
            order: 0,
        }
    }
}

impl Preset {
    /// A preset with nothing in it.
    pub fn empty(id: PresetId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            channels: List::default(),
            rules: List::default(),
            grants: List::default(),
            layouts: List::default(),
        }
    }
}

/// Rights that root keys have by their roles alone. [CHARTER-6.1]
const HEARD: Capabilities = Capabilities::ALL_OF_SPEECH;
