//! The result of the model's run: facts, and questions about them.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Cut, Policies,
    content::{
        Capabilities, Channel, Grant, MEMBER_ROLE, Place, Preset, Rank, Relay, Role, Rule,
        Sanction, SanctionKind, Subject,
    },
};
use hark_keys::{ChannelId, DeviceId, MemberId, ObjectHash, PresetId, RoleId, Series, UnixTime};

use super::EVERYWHERE;

/// The state, as lists of facts.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) roles: BTreeMap<RoleId, (Role, ObjectHash)>,
    pub(super) gone_roles: BTreeMap<RoleId, (i32, ObjectHash)>,
    pub(crate) channels: BTreeMap<ChannelId, (Channel, Option<PresetId>)>,
    pub(super) gone_channels: BTreeSet<ChannelId>,
    pub(crate) links: BTreeSet<(ChannelId, ChannelId)>,
    pub(super) grants: Vec<GrantFact>,
    pub(crate) rules: Vec<RuleFact>,
    pub(super) presets: Vec<(Preset, ObjectHash)>,
    pub(super) gone_presets: BTreeMap<PresetId, ObjectHash>,
    pub(crate) loads: BTreeMap<PresetId, (Preset, u8)>,
    pub(crate) relays: BTreeMap<DeviceId, Relay>,
    pub(crate) policies: Policies,
    pub(crate) removals: BTreeMap<MemberId, u32>,
    /// Members removed so far, one after the other.
    pub(super) removed: Vec<MemberId>,
    pub(super) listed: BTreeMap<(ObjectHash, MemberId), usize>,
    pub(super) roots: BTreeSet<MemberId>,
    pub(crate) devices: BTreeMap<MemberId, Vec<Device>>,
    pub(super) cuts: Vec<CutFact>,
    pub(super) sanctions: Vec<SanctionFact>,
    /// Revocations since everybody's tickets were revoked: of one ticket by its key, or of all.
    pub(super) revoked: Vec<(MemberId, Option<DeviceId>, ObjectHash)>,
    pub(super) revoked_everyone: Option<ObjectHash>,
}

#[derive(Clone, PartialEq)]
pub(super) struct GrantFact {
    pub(super) member: MemberId,
    pub(super) at: Place,
    pub(super) role: RoleId,
    pub(super) granted: bool,
    pub(super) rank: u8,
    pub(super) preset: Option<PresetId>,
    pub(super) source: ObjectHash,
}

#[derive(Clone, PartialEq)]
pub(crate) struct RuleFact {
    pub(crate) rule: Rule,
    pub(super) rank: u8,
    pub(super) preset: Option<PresetId>,
    pub(super) source: ObjectHash,
}

#[derive(Clone, PartialEq)]
pub(super) struct SanctionFact {
    pub(super) sanction: Sanction,
    pub(super) rank: u8,
    pub(super) source: ObjectHash,
}

#[derive(Clone, PartialEq)]
pub(crate) struct Device {
    pub(crate) key: DeviceId,
    /// 0 for the recovery key, 1 for the first device, 2 for those added.
    pub(crate) kind: u8,
    pub(super) lamport: u64,
    pub(crate) retired: Option<((u32, u64), ObjectHash)>,
}

/// A cut that counts: by a root document of a version, or by an operation.
#[derive(Clone, PartialEq)]
pub(super) struct CutFact {
    pub(super) cut: Cut,
    pub(super) level: i32,
    pub(super) lamport: u64,
    pub(super) root: u32,
    pub(super) source: Option<ObjectHash>,
}

impl View {
    pub(super) fn device(&self, member: MemberId, key: DeviceId) -> Option<&Device> {
        self.devices.get(&member)?.iter().find(|device| device.key == key)
    }

    pub(crate) fn path(&self, at: Place) -> Vec<Place> {
        let mut path = vec![at];
        while let Some(Place::Channel(id)) = path.last() {
            path.push(self.channels.get(id).map_or(EVERYWHERE, |(channel, _)| channel.parent));
            assert!(path.len() <= self.channels.len() + 3, "channels lie in a ring");
        }
        path
    }

    pub(crate) fn is_there(&self, id: ChannelId) -> bool {
        self.path(Place::Channel(id)).iter().all(|at| match at {
            Place::Organisation => true,
            Place::Channel(id) => self.channels.contains_key(id),
        })
    }

    pub(crate) fn preset_list(&self) -> BTreeMap<PresetId, Preset> {
        let there = self.presets.iter().filter(|(it, _)| !self.gone_presets.contains_key(&it.id));
        there.map(|(preset, _)| (preset.id, preset.clone())).collect()
    }

    pub(super) fn is_granted(&self, member: MemberId, at: Place, role: RoleId) -> bool {
        let about = |fact: &&GrantFact| (fact.member, fact.at, fact.role) == (member, at, role);
        let (presets, officers): (Vec<_>, Vec<_>) =
            self.grants.iter().filter(about).partition(|fact| fact.preset.is_some());
        // [CHARTER-5.8]
        let stands = self.roles.get(&role).map_or(251, |(role, _)| role.rank.0);
        let officers: Vec<_> =
            officers.into_iter().filter(|fact| fact.granted || fact.rank < stands).collect();
        !presets.is_empty() || (!officers.is_empty() && officers.iter().all(|fact| fact.granted))
    }

    /// The roles that a member holds at a place, by grants there and above, each with its place.
    pub(crate) fn held(&self, member: MemberId, at: Place) -> BTreeSet<(RoleId, Place)> {
        let path = self.path(at);
        let here =
            self.grants.iter().filter(|fact| fact.member == member && path.contains(&fact.at));
        let held = here.filter(|fact| self.is_granted(member, fact.at, fact.role));
        held.map(|fact| (fact.role, fact.at)).collect()
    }

    pub(crate) fn all_held(&self, member: MemberId) -> BTreeSet<(RoleId, Place)> {
        let own = self.grants.iter().filter(|fact| fact.member == member);
        let held = own.filter(|fact| self.is_granted(member, fact.at, fact.role));
        held.map(|fact| (fact.role, fact.at)).collect()
    }

    pub(super) fn holders(&self, role: RoleId) -> BTreeSet<MemberId> {
        let members: BTreeSet<_> = self.grants.iter().map(|fact| fact.member).collect();
        members.into_iter().filter(|member| self.is_granted(*member, EVERYWHERE, role)).collect()
    }

    pub(crate) fn rank(&self, member: MemberId, at: Place) -> u8 {
        if self.roots.contains(&member) {
            return 0;
        }
        let held = self.held(member, at);
        let ranks = held.iter().filter_map(|(role, _)| Some(self.roles.get(role)?.0.rank.0));
        ranks.min().unwrap_or(Rank::LOWEST.0)
    }

    /// Whether a member is banned everywhere at a given time.
    pub(crate) fn is_banned(&self, now: UnixTime, member: MemberId) -> bool {
        self.binding(now, member)
            .any(|it| (it.kind, it.at) == (SanctionKind::Ban, Place::Organisation))
    }

    /// [CHARTER-6.6] [CHARTER-6.7]
    fn binding(&self, now: UnixTime, member: MemberId) -> impl Iterator<Item = &Sanction> {
        let facts = self.sanctions.iter().filter(move |fact| {
            let it = &fact.sanction;
            it.member == member
                && it.until.is_none_or(|until| now < until)
                && fact.rank < self.rank(member, it.at)
        });
        facts.map(|fact| &fact.sanction)
    }

    /// Whether a member has a right at a given time, whatever gives it.
    pub(crate) fn permits(
        &self,
        now: UnixTime,
        member: MemberId,
        right: Capabilities,
        at: Place,
    ) -> bool {
        let path = self.path(at);
        let spoken = Capabilities::SPEAK | Capabilities::PRIORITY | Capabilities::WHISPER;
        let heard = Capabilities::JOIN | Capabilities::LISTEN;
        let taken = self.binding(now, member).filter(|it| path.contains(&it.at)).any(|it| {
            match (it.kind, it.at) {
                (SanctionKind::Mute, _) => spoken.contains(right),
                (SanctionKind::Ban, Place::Organisation) => true,
                (SanctionKind::Ban, _) => (spoken | heard).contains(right),
            }
        });
        !taken && self.allows(member, right, at)
    }

    /// [CHARTER-9.3]
    pub(super) fn revoke(&mut self, issuer: MemberId, key: Option<DeviceId>, source: ObjectHash) {
        let one_by_one = self.revoked_of(issuer);
        let key = key.filter(|key| one_by_one.len() < 32 || one_by_one.contains(key));
        self.revoked.push((issuer, key, source));
    }

    /// The keys of a member's tickets that were revoked one by one since all of them were.
    pub(crate) fn revoked_of(&self, issuer: MemberId) -> BTreeSet<DeviceId> {
        let own = self.revoked.iter().rev().filter(|(member, ..)| *member == issuer);
        own.map_while(|(_, key, _)| *key).collect()
    }

    /// [CHARTER-9.2]
    pub(crate) fn series(&self, issuer: MemberId) -> Series {
        let mut all = self.revoked.iter().rev();
        let own = all.find(|(member, key, _)| *member == issuer && key.is_none());
        let sources = [self.revoked_everyone, own.map(|(.., source)| *source)];
        if sources == [None, None] {
            return Series::default();
        }
        let zero = ObjectHash::from_bytes([0; 32]);
        let bytes: Vec<u8> = sources.iter().flat_map(|it| *it.unwrap_or(zero).as_bytes()).collect();
        let hash = blake3::derive_key("hark 1 ticket series", &bytes);
        Series::from_bytes(*hash.first_chunk().unwrap())
    }

    pub(super) fn lift(
        &mut self,
        member: MemberId,
        kind: SanctionKind,
        at: Place,
        rank: u8,
        knew: impl Fn(&ObjectHash) -> bool,
    ) {
        self.sanctions.retain(|fact| {
            let it = &fact.sanction;
            (it.member, it.kind, it.at) != (member, kind, at)
                || fact.rank < rank
                || !knew(&fact.source)
        });
    }

    pub(crate) fn allows(&self, member: MemberId, right: Capabilities, at: Place) -> bool {
        if matches!(at, Place::Channel(id) if !self.is_there(id)) {
            return false;
        }
        if self.roots.contains(&member) && !Capabilities::ALL_OF_SPEECH.contains(right) {
            return true;
        }
        let rank = self.rank(member, at);
        for place in self.path(at) {
            let held = self.held(member, place);
            let mut about: [Vec<&RuleFact>; 3] = Default::default();
            for fact in self.rules.iter().filter(|it| it.rule.at == place && it.rank < rank) {
                let step = match fact.rule.subject {
                    Subject::Member(who) if who == member => 0,
                    Subject::Role(MEMBER_ROLE) | Subject::Everyone => 2,
                    Subject::Role(role)
                        if self.roles.contains_key(&role)
                            && held.iter().any(|(id, _)| *id == role) =>
                    {
                        1
                    }
                    Subject::Member(_) | Subject::Role(_) => continue,
                };
                about[step].push(fact);
            }
            let denies = |fact: &&&RuleFact| fact.rule.deny.contains(right);
            let above = about.iter().flatten().filter(denies).map(|fact| fact.rank).min();
            for step in &about {
                if step.iter().any(|fact| denies(&fact)) {
                    return false;
                }
                let mut allowing = step.iter().filter(|fact| fact.rule.allow.contains(right));
                if allowing.any(|fact| above.is_none_or(|above| above >= fact.rank)) {
                    return true;
                }
            }
        }
        let held = self.held(member, at);
        let roles = held.iter().map(|(role, _)| *role).chain([MEMBER_ROLE]);
        let mut known = roles.filter_map(|role| self.roles.get(&role));
        known.any(|(role, _)| role.capabilities.contains(right))
    }

    /// [CHARTER-5.8]
    pub(super) fn grant(
        &mut self,
        grant: &Grant,
        granted: bool,
        rank: u8,
        source: ObjectHash,
        knew: impl Fn(&ObjectHash) -> bool,
    ) {
        for member in grant.members.iter().copied() {
            let (at, role) = (grant.at, grant.role);
            self.grants.retain(|fact| {
                (fact.member, fact.at, fact.role) != (member, at, role)
                    || fact.preset.is_some()
                    || !knew(&fact.source)
            });
            self.grants.push(GrantFact { member, at, role, granted, rank, preset: None, source });
        }
    }

    pub(super) fn load(
        &mut self,
        preset: Preset,
        rank: u8,
        rights: impl Fn(&Self, Capabilities) -> bool,
        source: ObjectHash,
    ) {
        let id = Some(preset.id);
        for channel in preset.channels.iter() {
            if !self.gone_channels.contains(&channel.id) {
                self.channels.entry(channel.id).or_insert_with(|| (channel.clone(), id));
            }
        }
        for channel in preset.channels.iter() {
            let mut at = Place::Channel(channel.id);
            for _ in 0..=self.channels.len() {
                at = match at {
                    Place::Channel(one) => match self.channels.get(&one) {
                        Some((channel, _)) => channel.parent,
                        None => break,
                    },
                    Place::Organisation => break,
                };
            }
            if at != EVERYWHERE
                && let Some(entry) = self.channels.get_mut(&channel.id)
                && entry.1 == id
            {
                entry.0.parent = EVERYWHERE;
            }
        }
        let rules: Vec<_> = preset.rules.iter().filter(|it| rights(self, it.allow)).collect();
        for rule in rules {
            self.rules.push(RuleFact { rule: *rule, rank, preset: id, source });
        }
        for grant in preset.grants.iter() {
            if self.roles.get(&grant.role).is_some_and(|(role, _)| rank < role.rank.0) {
                for member in grant.members.iter().copied() {
                    let (at, role) = (grant.at, grant.role);
                    self.grants.push(GrantFact {
                        member,
                        at,
                        role,
                        granted: true,
                        rank,
                        preset: id,
                        source,
                    });
                }
            }
        }
        self.loads.insert(preset.id, (preset, rank));
    }

    pub(super) fn unload(&mut self, id: PresetId) {
        if self.loads.remove(&id).is_some() {
            self.channels.retain(|_, (_, preset)| *preset != Some(id));
            self.rules.retain(|fact| fact.preset != Some(id));
            self.grants.retain(|fact| fact.preset != Some(id));
        }
    }
}
