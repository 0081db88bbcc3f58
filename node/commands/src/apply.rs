//! `hark charter apply`: makes the charter match a file.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::content::{
    Capabilities, Change, Channel, Grant, MEMBER_ROLE, Place, Rank, Role, Rule, Subject,
};
use hark_keys::{ChannelId, List, RoleId};

use crate::{
    CharterRefusal, CommandError, Host, How, InputFile, Mistake, Note, Outcome, RequestSubject,
    Unchanged,
    channels::new_id,
    document::{OrganisationFile, RoleEntry, Source},
    edit::{Plan, perform},
    presets::note_loaded,
    resolve::Resolver,
    roles::role_name,
    rules::own_rule,
    settings::{current, policy_named},
};

/// Makes the charter match `file`; with `prune` it also loses what the file does not name.
pub(crate) fn apply(
    host: &mut dyn Host,
    file: &InputFile,
    prune: bool,
    how: &How,
) -> Result<Outcome, CommandError> {
    let source = Source::of(file)?;
    let wanted: OrganisationFile = source.parse()?;
    let mut plan = plan(host, source, &wanted, prune)?;
    if plan.changes.is_empty() {
        let why = Unchanged::Matches(file.path.clone());
        return Ok(Outcome::Unchanged { why, notes: plan.notes });
    }
    plan.about = Some(RequestSubject::File(file.path.clone()));
    perform(host, plan, how)
}

fn plan(
    host: &dyn Host,
    source: Source<'_>,
    wanted: &OrganisationFile,
    prune: bool,
) -> Result<Plan, CommandError> {
    if let Some(name) = &wanted.organisation
        && name.get_ref() != host.charter().name()
    {
        let this = host.charter().name().to_owned();
        return Err(source.wrong(name.span(), Mistake::OthersFile(name.get_ref().clone(), this)));
    }
    let mut applied = Applied { resolver: Resolver::new(host, source), plan: Plan::default() };
    let roles = applied.roles(wanted)?;
    let channels = applied.channels(wanted)?;
    let links = applied.links(wanted)?;
    let rules = applied.rules(wanted)?;
    let presets = applied.presets(wanted)?;
    applied.policies(wanted)?;
    applied.rest(prune, &roles, &channels, &links, &rules, &presets);
    applied.keep_author(file_roles(wanted, &applied.resolver))?;
    Ok(applied.plan)
}

/// The roles that the file names, in its order.
fn file_roles(wanted: &OrganisationFile, resolver: &Resolver<'_>) -> Vec<RoleId> {
    let id = |name: &str| resolver.roles.iter().find(|(_, known)| known == name).map(|(id, _)| *id);
    wanted.role.iter().filter_map(|entry| id(entry.name.get_ref())).collect()
}

struct Applied<'a> {
    resolver: Resolver<'a>,
    plan: Plan,
}

impl Applied<'_> {
    fn roles(&mut self, wanted: &OrganisationFile) -> Result<BTreeSet<RoleId>, CommandError> {
        let mut named = BTreeSet::from([MEMBER_ROLE]);
        for entry in &wanted.role {
            let role = self.role(entry)?;
            if !named.insert(role.id) && role.id != MEMBER_ROLE {
                let twice = Mistake::Twice("role", role.name);
                return Err(self.resolver.source.wrong(entry.name.span(), twice));
            }
            if self.resolver.view.state.role(role.id) != Some(&role) {
                self.plan.changes.push(Change::Role(role));
            }
        }
        Ok(named)
    }

    fn role(&mut self, entry: &RoleEntry) -> Result<Role, CommandError> {
        let source = self.resolver.source;
        let name = source.at(entry.name.span(), role_name(entry.name.get_ref()))?;
        let known = self.resolver.roles.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| RoleId::from_bytes(new_id(self.resolver.host)));
        if known.is_none() {
            self.resolver.roles.push((id, name.clone()));
        }
        let rank = match &entry.rank {
            None if id == MEMBER_ROLE => Rank::LOWEST,
            None => return Err(source.wrong(entry.name.span(), Mistake::NoRank)),
            Some(rank) if id == MEMBER_ROLE => {
                return Err(source.wrong(rank.span(), Mistake::RankOfAll));
            }
            Some(rank) if !(1..=250).contains(rank.get_ref()) => {
                return Err(source.wrong(rank.span(), Mistake::RankRange));
            }
            Some(rank) => Rank(*rank.get_ref()),
        };
        Ok(Role { id, name, rank, capabilities: self.resolver.rights(&entry.can)? })
    }

    fn channels(&mut self, wanted: &OrganisationFile) -> Result<BTreeSet<ChannelId>, CommandError> {
        let mut named = BTreeSet::new();
        let mut parents: Vec<Place> = Vec::new();
        for entry in &wanted.channel {
            let (parent, name) = self.resolver.split(entry, &[])?;
            let siblings = parents.iter().filter(|other| **other == parent).count();
            parents.push(parent);
            let path = entry.name.get_ref();
            let known = self.resolver.channels.iter().find(|(known, _)| known == path);
            let state = self.resolver.view.state;
            let before = known.and_then(|(_, id)| state.channel(*id));
            let order = u16::try_from(siblings).unwrap_or(u16::MAX);
            let channel =
                self.resolver.dress(&mut self.plan, entry, before, (parent, name, order))?;
            if !named.insert(channel.id) || before.is_none() && known.is_some() {
                let twice = Mistake::Twice("channel", path.clone());
                return Err(self.resolver.source.wrong(entry.name.span(), twice));
            }
            if known.is_none() {
                self.resolver.channels.push((path.clone(), channel.id));
            }
            if before != Some(&channel) {
                self.plan.changes.push(Change::Channel(channel));
            }
        }
        Ok(named)
    }

    fn links(
        &mut self,
        wanted: &OrganisationFile,
    ) -> Result<BTreeSet<(ChannelId, ChannelId)>, CommandError> {
        let mut named = BTreeSet::new();
        for entry in &wanted.link {
            let [a, b] = &entry.between;
            let (a, b) = (self.resolver.channel(a, &[])?, self.resolver.channel(b, &[])?);
            if a == b {
                let span = entry.between[1].span();
                return Err(self.resolver.source.wrong(span, Mistake::LinkedWithItself));
            }
            let (a, b) = (a.min(b), a.max(b));
            let linked = self.resolver.view.state.linked(a).any(|other| other == b);
            if named.insert((a, b)) && !linked {
                self.plan.changes.push(Change::Link { a, b, linked: true });
            }
        }
        Ok(named)
    }

    fn rules(
        &mut self,
        wanted: &OrganisationFile,
    ) -> Result<BTreeSet<(Place, Subject)>, CommandError> {
        let mut named = BTreeSet::new();
        for entry in &wanted.rule {
            let rule = self.resolver.rule(entry, &[])?;
            if !named.insert((rule.at, rule.subject)) {
                let span = entry.subject.span();
                return Err(self.resolver.source.wrong(span, Mistake::RuleTwice));
            }
            let before = own_rule(self.resolver.view.state, rule.at, rule.subject);
            if before != Some((rule.allow, rule.deny)) {
                self.plan.changes.push(Change::Rule(rule));
            }
        }
        Ok(named)
    }

    fn presets(&mut self, wanted: &OrganisationFile) -> Result<BTreeSet<String>, CommandError> {
        let mut named = BTreeSet::new();
        for entry in &wanted.preset {
            let preset = self.resolver.preset(&mut self.plan, entry)?;
            if !named.insert(preset.name.clone()) {
                let twice = Mistake::Twice("preset", preset.name);
                return Err(self.resolver.source.wrong(entry.name.span(), twice));
            }
            if self.resolver.view.state.presets().all(|known| *known != preset) {
                note_loaded(&mut self.plan, self.resolver.host, &preset);
                self.plan.changes.push(Change::Preset(Box::new(preset)));
            }
        }
        Ok(named)
    }

    fn policies(&mut self, wanted: &OrganisationFile) -> Result<(), CommandError> {
        let policies = [
            ("invite-hours-max", &wanted.policy.invite_hours_max),
            ("operations-per-day", &wanted.policy.operations_per_day),
        ];
        for (name, value) in policies {
            let Some(value) = value else { continue };
            let policy = policy_named(name, *value.get_ref());
            let policy = self.resolver.source.at(value.span(), policy)?;
            if !current(self.resolver.host).contains(&policy) {
                self.plan.changes.push(Change::Policy(policy));
            }
        }
        Ok(())
    }

    /// What the file does not name is removed, or only noted.
    fn rest(
        &mut self,
        prune: bool,
        roles: &BTreeSet<RoleId>,
        channels: &BTreeSet<ChannelId>,
        links: &BTreeSet<(ChannelId, ChannelId)>,
        rules: &BTreeSet<(Place, Subject)>,
        presets: &BTreeSet<String>,
    ) {
        let view = &self.resolver.view;
        let state = view.state;
        let mut rest: Vec<Change> = Vec::new();
        let lasting: Vec<_> = view.tree().into_iter().map(|(_, channel)| channel).collect();
        let gone: Vec<ChannelId> = lasting
            .iter()
            .map(|channel| channel.id)
            .filter(|id| state.preset_of(*id).is_none())
            .filter(|id| {
                let below = lasting.iter().filter(|other| {
                    state.path(Place::Channel(other.id)).any(|at| at == Place::Channel(*id))
                });
                // What lies above a channel that stays, stays.
                !below.clone().any(|other| channels.contains(&other.id))
            })
            .collect();
        let goes =
            |at: Place| state.path(at).any(|it| gone.iter().any(|id| it == Place::Channel(*id)));
        let unnamed: BTreeSet<_> = state
            .rules()
            .map(|(at, subject, ..)| (at, subject))
            .filter(|it| !rules.contains(it) && !goes(it.0) && view.sees_place(it.0))
            .filter(|(at, subject)| own_rule(state, *at, *subject).is_some())
            .collect();
        rest.extend(unnamed.into_iter().map(|(at, subject)| {
            let none = Capabilities::NONE;
            Change::Rule(Rule { at, subject, allow: none, deny: none })
        }));
        for channel in &lasting {
            let linked = state.linked(channel.id).filter(|other| channel.id < *other);
            let linked =
                linked.filter(|other| !links.contains(&(channel.id, *other)) && view.sees(*other));
            let kept = linked
                .filter(|other| !goes(Place::Channel(channel.id)) && !goes(Place::Channel(*other)));
            rest.extend(kept.map(|other| Change::Link { a: channel.id, b: other, linked: false }));
        }
        let above_goes = |id: &ChannelId| {
            state
                .path(Place::Channel(*id))
                .skip(1)
                .any(|at| gone.iter().any(|it| at == Place::Channel(*it)))
        };
        rest.extend(gone.iter().filter(|id| !above_goes(id)).map(|id| Change::RemoveChannel(*id)));
        let unnamed = state.roles().filter(|role| !roles.contains(&role.id));
        rest.extend(unnamed.map(|role| Change::RemoveRole(role.id)));
        let unnamed = state.presets().filter(|preset| !presets.contains(&preset.name));
        rest.extend(unnamed.map(|preset| Change::RemovePreset(preset.id)));
        let made = self.plan.changes.iter().filter_map(|change| match change {
            Change::Channel(channel) => Some((channel.id, channel.parent)),
            _ => None,
        });
        let made: BTreeMap<_, _> = made.collect();
        let parent = |id: &ChannelId| {
            state.channel(*id).map(|it| it.parent).or_else(|| made.get(id).copied())
        };
        let mut behind = Vec::new();
        for channel in lasting.iter().filter(|it| gone.contains(&it.id) && !prune) {
            // What the file names comes first, so that a default is never up to random numbers.
            let siblings = channels.iter().filter(|id| parent(id) == Some(channel.parent)).count();
            let kept =
                lasting.iter().filter(|it| it.parent == channel.parent && gone.contains(&it.id));
            let place = siblings + kept.take_while(|it| it.id != channel.id).count();
            let order = u16::try_from(place).unwrap_or(u16::MAX);
            if channel.order != order {
                behind.push(Change::Channel(Channel { order, ..(*channel).clone() }));
            }
        }
        self.plan.changes.extend(behind);
        if prune {
            self.plan.changes.extend(rest);
        } else if !rest.is_empty() {
            self.plan.notes.push(self.not_in_file(&rest));
        }
    }

    /// Who applies a file is not left deaf and mute by it: rules that somebody sets do not bind
    /// them, so that only a role lets them join, listen and speak. Without one they get the highest
    /// of the file that has these rights.
    fn keep_author(&mut self, named: Vec<RoleId>) -> Result<(), CommandError> {
        let (state, author) = (self.resolver.view.state, self.resolver.host.member());
        let mut roles: BTreeMap<RoleId, Role> =
            state.roles().map(|role| (role.id, role.clone())).collect();
        for change in &self.plan.changes {
            match change {
                Change::Role(role) => drop(roles.insert(role.id, role.clone())),
                Change::RemoveRole(id) => drop(roles.remove(id)),
                _ => {}
            }
        }
        let held = state.grants(author).filter(|(_, at)| *at == Place::Organisation);
        let held = held.map(|(role, _)| role).chain([MEMBER_ROLE]);
        let rights = held
            .filter_map(|role| roles.get(&role))
            .fold(Capabilities::NONE, |all, role| all | role.capabilities);
        if rights.contains(RADIO) {
            return Ok(());
        }
        let rank = state.rank(author, Place::Organisation);
        let fit = named.iter().filter_map(|id| roles.get(id)).filter(|role| {
            role.id != MEMBER_ROLE && role.capabilities.contains(RADIO) && rank < role.rank
        });
        let Some(highest) = fit.min_by_key(|role| role.rank) else {
            return Err(CharterRefusal::LeavesDeaf.into());
        };
        let members = List::truncated([author]);
        let grant = Grant { role: highest.id, at: Place::Organisation, members };
        self.plan.notes.push(Note::RoleForYou(highest.name.clone()));
        let last = self.plan.changes.iter().rposition(|change| matches!(change, Change::Role(_)));
        self.plan.changes.insert(last.map_or(0, |last| last + 1), Change::Grant(grant));
        Ok(())
    }

    fn not_in_file(&self, rest: &[Change]) -> Note {
        let view = &self.resolver.view;
        let (mut channels, mut roles, mut presets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rules, mut links) = (0, 0);
        for change in rest {
            match change {
                Change::RemoveChannel(id) => channels.push(view.channel(*id)),
                Change::RemoveRole(id) => roles.push(view.role(*id)),
                Change::RemovePreset(id) => presets.push(view.preset(*id)),
                Change::Rule(_) => rules += 1,
                Change::Link { .. } => links += 1,
                _ => {}
            }
        }
        Note::NotInFile { channels, roles, presets, rules, links }
    }
}

/// What it takes to take part.
pub(crate) const RADIO: Capabilities =
    Capabilities::JOIN.and(Capabilities::LISTEN).and(Capabilities::SPEAK);
