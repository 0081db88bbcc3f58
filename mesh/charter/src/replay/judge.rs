//! Who may make which change, and what it then changes. [section 4 of docs/charter.md]

use hark_keys::{MemberId, ObjectHash, PresetId, RoleId};

use super::{Act, Author, Level, Run, Target, may};
use crate::{
    content::{
        Capabilities, Change, Grant, MEMBER_ROLE, Place, Preset, Rank, RevokedTicket, Role, Rule,
        Sanction, SanctionKind,
    },
    sanctions::SanctionEntry,
    state::{ChannelEntry, GrantEntry, PresetVersion, Removals, RuleEntry, State},
};

/// Why a change was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// The author does not have the right there.
    #[error("needs the right {0}")]
    Right(Capabilities, Place),
    /// The author does not stand above what is changed.
    #[error("needs a higher rank")]
    Rank,
    /// It gives rights that the author does not have.
    #[error("gives {0}, which its author has not")]
    Excess(Capabilities),
    /// Its subject does not exist, or no longer does.
    #[error("what it is about is not there")]
    Absent,
    /// The channel would lie below itself.
    #[error("the channel would lie below itself")]
    Cycle,
    /// Only the root keys set policies.
    #[error("needs the root keys")]
    Root,
    /// A recovery key makes only changes of its member's devices.
    #[error("a recovery key settles devices and nothing else")]
    Recovery,
}

impl Run<'_> {
    /// Checks that an author may make a change, by what holds before it.
    pub(super) fn permit(&mut self, by: Author, change: &Change) -> Result<(), Denial> {
        let Author { level, member: author, index, .. } = by;
        if let Some(index) = index
            && let Change::Grant(grant) = change
            && grant.at == Place::Organisation
            && may(&self.course.state, level, author, Capabilities::MANAGE_ROLES, grant.at)
        {
            let given = grant.members.iter().map(|member| (*member, grant.role, index));
            self.course.given.extend(given);
        }
        permit(&self.course.state, level, author, change)?;
        match change {
            // [CHARTER-5.7] An author who knew of the removal, or whose level is larger, does not
            // bring the role back.
            Change::Role(role) => {
                if let Some((by, removal)) = self.course.state.removed.roles.get(&role.id)
                    && (level.0 > *by || self.knew(index, removal))
                {
                    return Err(Denial::Absent);
                }
            }
            Change::LoadPreset(preset) if self.version(*preset, index).is_none() => {
                return Err(Denial::Absent);
            }
            _ => {}
        }
        let everywhere = Place::Organisation;
        // [CHARTER-5.11] Nothing is taken from those who stand as high.
        let met: Vec<MemberId> = match change {
            Change::Ungrant(grant) if grant.at == everywhere => grant.members.to_vec(),
            Change::Remove { member, .. } => vec![*member],
            Change::LoadPreset(preset) | Change::UnloadPreset(preset) => {
                self.outranks_load(level, author, *preset)?;
                self.course.state.holders_by(*preset).collect()
            }
            Change::Role(role) => {
                let before = self.course.state.roles.get(&role.id);
                let lowers = before.is_some_and(|before| {
                    before.rank < role.rank || !role.capabilities.contains(before.capabilities)
                });
                return if lowers { self.may_lower(level, author, role.id, index) } else { Ok(()) };
            }
            Change::RemoveRole(role) => return self.may_lower(level, author, *role, index),
            _ => Vec::new(),
        };
        if let Some(index) = index {
            for member in met.iter().filter(|member| **member != author) {
                let against = Target::Member(*member);
                self.course.acts.push(Act { index, level, against, cut: None });
            }
        }
        let removes = matches!(change, Change::Remove { .. });
        let may = |member: &MemberId| {
            self.may_meet(index, level, author, *member)
                // Not even from the author itself, which has a rank.
                && (!removes || !self.stands_as_high(*member, level))
        };
        if met.iter().all(may) { Ok(()) } else { Err(Denial::Rank) }
    }

    /// The version of a preset that the loader knew. [CHARTER-5.10]
    fn version(&self, preset: PresetId, index: Option<usize>) -> Option<&Preset> {
        let removal = self.course.state.removed.presets.get(&preset);
        if removal.is_some_and(|removal| self.knew(index, removal)) {
            return None;
        }
        let mut versions = self.course.state.presets.get(&preset)?.iter().rev();
        let known = versions.find(|version| self.knew(index, &version.source));
        known.map(|version| &version.preset)
    }

    /// Checks that an author stands no lower than whoever put a preset into force.
    fn outranks_load(
        &self,
        level: Level,
        author: MemberId,
        preset: PresetId,
    ) -> Result<(), Denial> {
        let rank = rank_at(&self.course.state, level, author, Place::Organisation);
        let load = self.course.state.loads.get(&preset);
        if load.is_none_or(|load| rank <= load.rank) { Ok(()) } else { Err(Denial::Rank) }
    }

    /// Checks that an author may take something from all who hold a role. [CHARTER-5.11]
    fn may_lower(
        &mut self,
        level: Level,
        author: MemberId,
        role: RoleId,
        index: Option<usize>,
    ) -> Result<(), Denial> {
        if level == Level(0) {
            return Ok(());
        }
        if role == MEMBER_ROLE {
            return Err(Denial::Root);
        }
        let against = Target::Role(role);
        if let Some(index) = index {
            self.course.acts.push(Act { index, level, against, cut: None });
            if self.course.shield.contains(&(index, against)) {
                return Err(Denial::Rank);
            }
        }
        let mut holders = self.course.state.holders_everywhere(role);
        if holders.all(|member| self.may_meet(None, level, author, member)) {
            Ok(())
        } else {
            Err(Denial::Rank)
        }
    }
}

fn permit(state: &State, level: Level, author: MemberId, change: &Change) -> Result<(), Denial> {
    let has = |right, at| {
        if may(state, level, author, right, at) { Ok(()) } else { Err(Denial::Right(right, at)) }
    };
    let everywhere = Place::Organisation;
    let rank = |at| rank_at(state, level, author, at);
    let within = |rights: Capabilities, at| {
        let excess = rights
            .iter()
            .filter(|right| !may(state, level, author, *right, at))
            .fold(Capabilities::NONE, |all, one| all | one);
        if excess.is_empty() { Ok(()) } else { Err(Denial::Excess(excess)) }
    };
    let exists = |at| match at {
        Place::Organisation => Ok(()),
        Place::Channel(channel) => state.channel(channel).map(|_| ()).ok_or(Denial::Absent),
    };
    let outranks = |role: &Role, at| if rank(at) < role.rank { Ok(()) } else { Err(Denial::Rank) };
    match change {
        Change::Role(role) => {
            has(Capabilities::MANAGE_ROLES, everywhere)?;
            outranks(role, everywhere)?;
            if let Some(before) = state.roles.get(&role.id) {
                outranks(before, everywhere)?;
            }
            within(role.capabilities, everywhere)
        }
        Change::RemoveRole(role) => {
            has(Capabilities::MANAGE_ROLES, everywhere)?;
            outranks(state.roles.get(role).ok_or(Denial::Absent)?, everywhere)
        }
        Change::Grant(grant) | Change::Ungrant(grant) => {
            exists(grant.at)?;
            has(Capabilities::MANAGE_ROLES, grant.at)?;
            outranks(state.roles.get(&grant.role).ok_or(Denial::Absent)?, grant.at)
        }
        Change::Rule(rule) => {
            exists(rule.at)?;
            has(Capabilities::MANAGE_ROLES, rule.at)?;
            within(rule.allow, rule.at)
        }
        Change::Channel(channel) => {
            if state.removed.channels.contains(&channel.id) {
                return Err(Denial::Absent);
            }
            let at = if state.channels.contains_key(&channel.id) {
                Place::Channel(channel.id)
            } else {
                channel.parent
            };
            exists(at)?;
            has(Capabilities::MANAGE_CHANNELS, at)
        }
        Change::MoveChannel { channel, parent } => {
            exists(Place::Channel(*channel))?;
            exists(*parent)?;
            has(Capabilities::MANAGE_CHANNELS, Place::Channel(*channel))?;
            has(Capabilities::MANAGE_CHANNELS, *parent)?;
            let below = state.path(*parent).any(|at| at == Place::Channel(*channel));
            if below { Err(Denial::Cycle) } else { Ok(()) }
        }
        Change::RemoveChannel(channel) => {
            exists(Place::Channel(*channel))?;
            has(Capabilities::MANAGE_CHANNELS, Place::Channel(*channel))
        }
        Change::Link { a, b, linked } => {
            let [a, b] = [a, b].map(|channel| Place::Channel(*channel));
            exists(a).and(exists(b))?;
            let at_a = has(Capabilities::MANAGE_CHANNELS, a);
            let at_b = has(Capabilities::MANAGE_CHANNELS, b);
            if *linked { at_a.and(at_b) } else { at_a.or(at_b) }
        }
        Change::Preset(preset) => {
            has(Capabilities::EDIT_PRESETS, everywhere)?;
            if state.removed.presets.contains_key(&preset.id) {
                Err(Denial::Absent)
            } else {
                Ok(())
            }
        }
        Change::RemovePreset(preset) => {
            has(Capabilities::EDIT_PRESETS, everywhere)?;
            let there =
                state.presets.contains_key(preset) && !state.removed.presets.contains_key(preset);
            if there { Ok(()) } else { Err(Denial::Absent) }
        }
        Change::LoadPreset(_) => has(Capabilities::EDIT_PRESETS, everywhere),
        Change::UnloadPreset(preset) => {
            has(Capabilities::EDIT_PRESETS, everywhere)?;
            state.loads.get(preset).map(|_| ()).ok_or(Denial::Absent)
        }
        Change::Relay(_) | Change::RemoveRelay(_) => has(Capabilities::APPOINT_RELAYS, everywhere),
        Change::Policy(_) | Change::RevokeTickets(None) => {
            if level == Level(0) {
                Ok(())
            } else {
                Err(Denial::Root)
            }
        }
        Change::Remove { member, admission } => {
            has(Capabilities::BAN, everywhere)?;
            let next = state.removals(*member).checked_add(1);
            if next == Some(*admission) { Ok(()) } else { Err(Denial::Absent) }
        }
        Change::Admitted(_) => has(Capabilities::ADMIT, everywhere),
        Change::Sanction(Sanction { member, kind, at, .. }) => {
            exists(*at)?;
            has(kind.needs(*at), *at)?;
            // [CHARTER-6.6] Nobody mutes or bans somebody who stands as high.
            if rank(*at) < state.rank(*member, *at) { Ok(()) } else { Err(Denial::Rank) }
        }
        Change::Lift { member, kind, at } => {
            has(kind.needs(*at), *at)?;
            let set = state.sanction_rank(*member, *kind, *at).ok_or(Denial::Absent)?;
            if rank(*at) <= set { Ok(()) } else { Err(Denial::Rank) }
        }
        // [CHARTER-9.1] Revoking one's own tickets needs no right. Nobody revokes those of somebody
        // who stands as high.
        Change::RevokeTicket(RevokedTicket { issuer, .. })
        | Change::RevokeTickets(Some(issuer)) => {
            if *issuer == author {
                return Ok(());
            }
            has(Capabilities::ADMIT, everywhere)?;
            if rank(everywhere) < state.rank(*issuer, everywhere) {
                Ok(())
            } else {
                Err(Denial::Rank)
            }
        }
        // They are judged before everything else. [CHARTER-3.5]
        Change::AddDevice { .. } | Change::RetireDevice { .. } => Ok(()),
    }
}

fn rank_at(state: &State, level: Level, author: MemberId, at: Place) -> Rank {
    if level == Level(0) { Rank::ROOT } else { state.rank(author, at) }
}

impl Run<'_> {
    /// Makes a permitted change.
    pub(super) fn perform(&mut self, by: Author, change: &Change) {
        let Author { level, member: author, source, index } = by;
        let state = &mut self.course.state;
        match change {
            Change::Role(role) => {
                state.removed.roles.remove(&role.id);
                state.roles.insert(role.id, role.clone());
                state.defined.insert(role.id, source);
            }
            Change::RemoveRole(role) => {
                state.roles.remove(role);
                state.defined.remove(role);
                state.removed.roles.insert(*role, (level.0, source));
            }
            Change::Grant(grant) => self.grant(grant, true, by),
            Change::Ungrant(grant) => self.grant(grant, false, by),
            Change::Rule(rule) => {
                let rank = rank_at(state, level, author, rule.at);
                self.rule(rule, rank, source, index);
            }
            Change::Channel(channel) => {
                let new = ChannelEntry { channel: channel.clone(), preset: None };
                let entry = state.channels.entry(channel.id).or_insert(new);
                let parent = entry.channel.parent;
                entry.channel.clone_from(channel);
                entry.channel.parent = parent;
            }
            Change::MoveChannel { channel, parent } => {
                if let Some(entry) = state.channels.get_mut(channel) {
                    entry.channel.parent = *parent;
                }
            }
            Change::RemoveChannel(channel) => {
                for channel in state.subtree(*channel) {
                    state.channels.remove(&channel);
                    state.removed.channels.insert(channel);
                    state.links.retain(|(a, b)| *a != channel && *b != channel);
                }
            }
            Change::Link { a, b, linked: true } => {
                state.links.insert((*a, *b));
            }
            Change::Link { a, b, linked: false } => {
                state.links.remove(&(*a, *b));
            }
            Change::Preset(preset) => {
                let preset = (**preset).clone();
                let versions = state.presets.entry(preset.id).or_default();
                versions.push(PresetVersion { preset, source });
            }
            Change::RemovePreset(preset) => {
                state.removed.presets.insert(*preset, source);
            }
            Change::LoadPreset(preset) => {
                let Some(preset) = self.version(*preset, index).cloned() else { return };
                let state = &mut self.course.state;
                let rank = rank_at(state, level, author, Place::Organisation);
                let may_allow = |state: &State, rights: Capabilities| {
                    may(state, level, author, rights, Place::Organisation)
                };
                state.load(preset, rank, may_allow, source);
            }
            Change::UnloadPreset(preset) => state.unload(*preset),
            Change::Relay(relay) => {
                state.relays.insert(relay.device, relay.clone());
            }
            Change::RemoveRelay(device) => {
                state.relays.remove(device);
            }
            Change::Policy(policy) => state.policies.set(*policy),
            Change::Remove { member, admission } => {
                state.removed_ever += 1;
                let removals = Removals { count: *admission, last: state.removed_ever };
                state.removals.insert(*member, removals);
                state.grants.remove(member);
            }
            Change::Admitted(certificates) if certificates.is_empty() => {}
            Change::Admitted(certificates) => {
                let now = state.removed_ever;
                let listed = &mut **state.listed.entry(author).or_default();
                let new = certificates.iter().map(|hash| (*hash, now));
                // Merging many into few is faster than inserting them one by one.
                if certificates.len() > listed.len() / 8 {
                    listed.append(&mut new.collect());
                } else {
                    listed.extend(new);
                }
            }
            Change::Sanction(sanction) => {
                let rank = rank_at(state, level, author, sanction.at);
                self.replace_sanction(sanction.member, sanction.kind, sanction.at, rank, index);
                let set = self.course.state.sanctions.entry(sanction.member).or_default();
                set.push(SanctionEntry { sanction: sanction.clone(), rank, source });
            }
            Change::Lift { member, kind, at } => {
                let rank = rank_at(state, level, author, *at);
                self.replace_sanction(*member, *kind, *at, rank, index);
            }
            Change::RevokeTicket(ticket) => state.revoked.revoke(ticket, source),
            Change::RevokeTickets(issuer) => state.revoked.revoke_all(*issuer, source),
            Change::AddDevice { .. } | Change::RetireDevice { .. } => {}
        }
    }

    /// Removes sanctions that an author of this rank may replace and that the operation knew.
    /// [CHARTER-5.22]
    fn replace_sanction(
        &mut self,
        member: MemberId,
        kind: SanctionKind,
        at: Place,
        rank: Rank,
        index: Option<usize>,
    ) {
        let mut entries = self.course.state.sanctions.remove(&member).unwrap_or_default();
        entries.retain(|it| {
            (it.sanction.kind, it.sanction.at) != (kind, at)
                || it.rank < rank
                || !self.knew(index, &it.source)
        });
        if !entries.is_empty() {
            self.course.state.sanctions.insert(member, entries);
        }
    }

    /// [CHARTER-5.8]
    fn grant(&mut self, grant: &Grant, granted: bool, by: Author) {
        let Author { level, member: author, source, index } = by;
        let place = (grant.at, grant.role);
        let rank = rank_at(&self.course.state, level, author, grant.at);
        for member in grant.members.iter() {
            let known =
                self.course.state.grants.get_mut(member).and_then(|grants| grants.remove(&place));
            let mut entries = known.unwrap_or_default();
            entries.retain(|entry| entry.preset.is_some() || !self.knew(index, &entry.source));
            entries.push(GrantEntry { granted, rank, preset: None, source });
            self.course.state.grants.entry(*member).or_default().insert(place, entries);
        }
    }

    /// [CHARTER-5.8] [CHARTER-5.22]
    fn rule(&mut self, rule: &Rule, rank: Rank, source: ObjectHash, index: Option<usize>) {
        let mut subjects = self.course.state.rules.remove(&rule.at).unwrap_or_default();
        let mut entries = subjects.remove(&rule.subject).unwrap_or_default();
        // What somebody of higher rank has set stays.
        entries.retain(|entry| {
            entry.preset.is_some() || entry.rank < rank || !self.knew(index, &entry.source)
        });
        let (allow, deny) = (rule.allow, rule.deny);
        if !(allow | deny).is_empty() {
            entries.push(RuleEntry { allow, deny, rank, preset: None, source });
        }
        if !entries.is_empty() {
            subjects.insert(rule.subject, entries);
        }
        if !subjects.is_empty() {
            self.course.state.rules.insert(rule.at, subjects);
        }
    }
}
