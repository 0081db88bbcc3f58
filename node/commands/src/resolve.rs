//! From names in a file to what the charter holds, or will hold once the file is applied.

use std::ops::Range;

use hark_charter::content::{
    Capabilities, Channel, ChannelMode, ChannelName, ChannelSound, GRANT_MEMBERS_MAX, Grant,
    LAYOUT_KEYS_MAX, LAYOUT_NETS_MAX, Layout, MUSIC_KBPS, NetLayout, PRESET_CHANNELS_MAX,
    PRESET_GRANTS_MAX, PRESET_LAYOUTS_MAX, PRESET_RULES_MAX, Place, Preset, Rule, Subject,
};
use hark_keys::{ChannelId, List, PresetId, RoleId};
use toml::Spanned;

use crate::{
    CommandError, Host, Mistake,
    channels::{channel_name, named, new_channel, new_id},
    document::{ChannelEntry, GrantEntry, LayoutEntry, NetEntry, PresetFile, RuleEntry, Source},
    edit::Plan,
    names::{Candidate, find, unknown},
    request::Right,
    view::{View, find_named},
};

/// Resolves names in a file.
pub(crate) struct Resolver<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) view: View<'a>,
    pub(crate) source: Source<'a>,
    /// Channels by their paths, those that the file makes among them.
    pub(crate) channels: Vec<(String, ChannelId)>,
    /// Roles by name, those that the file makes among them.
    pub(crate) roles: Vec<(RoleId, String)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(host: &'a dyn Host, source: Source<'a>) -> Self {
        let view = View::new(host);
        let lasting = |channel: &&Channel| view.state.preset_of(channel.id).is_none();
        let tree = view.tree().into_iter().map(|(_, channel)| channel).filter(lasting);
        let channels = tree.map(|it| (view.channel(it.id), it.id)).collect();
        let roles = view.state.roles().map(|role| (role.id, role.name.clone())).collect();
        Self { host, view, source, channels, roles }
    }

    pub(crate) fn role(&self, name: &Spanned<String>) -> Result<RoleId, CommandError> {
        self.role_called(name.span(), name.get_ref())
    }

    fn role_called(&self, span: Range<usize>, name: &str) -> Result<RoleId, CommandError> {
        let roles = self.roles.iter().map(|(id, name)| (*id, name.clone(), id.to_string()));
        self.source.at(span, find_named(("role", "roles"), name, roles.collect()))
    }

    pub(crate) fn rights(&self, names: &[Spanned<String>]) -> Result<Capabilities, CommandError> {
        let mut rights = Capabilities::NONE;
        for name in names {
            let right: Result<Right, _> = name.get_ref().parse();
            rights |= self.source.at(name.span(), right.map_err(Mistake::Right))?.0;
        }
        Ok(rights)
    }

    /// The channel of this name or path; `own` are those of the preset that speaks of it.
    pub(crate) fn channel(
        &self,
        name: &Spanned<String>,
        own: &[(String, ChannelId)],
    ) -> Result<ChannelId, CommandError> {
        let text = name.get_ref();
        let mut candidates = Vec::new();
        for (path, id) in own.iter().chain(&self.channels) {
            if path == text {
                return Ok(*id);
            }
            let ends = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
            candidates.extend(ends.map(|end| Candidate {
                id: *id,
                name: end.to_owned(),
                unique: path.clone(),
            }));
            candidates.push(Candidate { id: *id, name: path.clone(), unique: path.clone() });
        }
        self.source.at(name.span(), find(("channel", "channels"), text, &candidates))
    }

    fn place(
        &self,
        name: Option<&Spanned<String>>,
        own: &[(String, ChannelId)],
    ) -> Result<Place, CommandError> {
        match name {
            None => Ok(Place::Organisation),
            Some(name) => self.channel(name, own).map(Place::Channel),
        }
    }

    fn subject(&self, name: &Spanned<String>) -> Result<Subject, CommandError> {
        let text = name.get_ref();
        match text.strip_prefix("role:") {
            Some(role) => self.role_called(name.span(), role).map(Subject::Role),
            None => self.source.at(name.span(), self.view.find_subject(text)),
        }
    }

    pub(crate) fn rule(
        &self,
        entry: &RuleEntry,
        own: &[(String, ChannelId)],
    ) -> Result<Rule, CommandError> {
        let rule = Rule {
            at: self.place(entry.at.as_ref(), own)?,
            subject: self.subject(&entry.subject)?,
            allow: self.rights(&entry.allow)?,
            deny: self.rights(&entry.deny)?,
        };
        let both = rule.allow - (rule.allow - rule.deny);
        let wrong = |mistake| Err(self.source.wrong(entry.subject.span(), mistake));
        if !both.is_empty() {
            return wrong(Mistake::RuleContradicts(both.into()));
        }
        if (rule.allow | rule.deny).is_empty() {
            return wrong(Mistake::RuleEmpty);
        }
        Ok(rule)
    }

    /// What lies above a channel of a file, and its own name.
    pub(crate) fn split(
        &self,
        entry: &ChannelEntry,
        own: &[(String, ChannelId)],
    ) -> Result<(Place, String), CommandError> {
        let span = entry.name.span();
        let path = entry.name.get_ref();
        let (above, name) = match path.rsplit_once('/') {
            Some((above, name)) => (Some(above), name),
            None => (None, path.as_str()),
        };
        let name = self.source.at(span.clone(), channel_name(name))?;
        let Some(above) = above else { return Ok((Place::Organisation, name)) };
        let known = own.iter().chain(&self.channels);
        match known.clone().find(|(path, _)| path == above) {
            Some((_, parent)) => Ok((Place::Channel(*parent), name)),
            None => {
                let known = known.map(|(path, _)| path.as_str());
                let error = unknown("channel", above, known);
                Err(self.source.wrong(span, Mistake::UnknownParent(Box::new(error))))
            }
        }
    }

    /// A channel as an entry describes it. `before` is what it was; a hidden name that stays the
    /// same stays sealed as it is.
    pub(crate) fn dress(
        &self,
        plan: &mut Plan,
        entry: &ChannelEntry,
        before: Option<&Channel>,
        (parent, name, order): (Place, String, u16),
    ) -> Result<Channel, CommandError> {
        if entry.hidden
            && before.is_none()
            && let Some(other) = self.unreadable(parent)
        {
            return Err(self.source.wrong(entry.name.span(), Mistake::HiddenThere(other)));
        }
        let id = before.map_or_else(|| new_channel(self.host), |before| before.id);
        let kept = before.filter(|before| {
            let hidden = matches!(before.name, ChannelName::Hidden(_));
            hidden == entry.hidden && self.view.channel_name(before) == name
        });
        let mode = match (&entry.floor, &entry.loudest) {
            (None, None) => ChannelMode::Open,
            (Some(most), None) | (None, Some(most)) if *most.get_ref() == 0 => {
                return Err(self.source.wrong(most.span(), Mistake::NoTalkers));
            }
            (Some(most), None) => ChannelMode::Floor(*most.get_ref()),
            (None, Some(most)) => ChannelMode::Loudest(*most.get_ref()),
            (Some(_), Some(most)) => {
                return Err(self.source.wrong(most.span(), Mistake::FloorAndLoudest));
            }
        };
        let stereo = entry.stereo.as_ref().filter(|stereo| *stereo.get_ref());
        let sound = match (&entry.music, stereo) {
            (None, None) => ChannelSound::Speech,
            (None, Some(stereo)) => {
                return Err(self.source.wrong(stereo.span(), Mistake::StereoSpeech));
            }
            (Some(kbps), _) if !MUSIC_KBPS.contains(kbps.get_ref()) => {
                return Err(self.source.wrong(kbps.span(), Mistake::Music));
            }
            (Some(kbps), None) => ChannelSound::Music(*kbps.get_ref()),
            (Some(kbps), Some(_)) => ChannelSound::Stereo(*kbps.get_ref()),
        };
        let name = match kept {
            Some(kept) => kept.name.clone(),
            None => plan.name(id, &name, entry.hidden),
        };
        let order = entry.order.unwrap_or(order);
        Ok(Channel { id, parent, name, mode, sound, limit: entry.limit, order })
    }

    /// A hidden channel at a place whose name is not known here.
    fn unreadable(&self, parent: Place) -> Option<String> {
        let presets = self.view.state.presets().flat_map(|preset| preset.channels.iter());
        let mut hidden = self.view.state.channels().chain(presets).filter(|channel| {
            matches!(channel.name, ChannelName::Hidden(_))
                && channel.parent == parent
                && self.view.sees(channel.id)
        });
        let name = |channel: &Channel| self.view.channel_name(channel);
        hidden.find(|channel| name(channel).starts_with('#')).map(name)
    }

    /// A preset as a file describes it; what the charter has of this name keeps its ids.
    pub(crate) fn preset(
        &self,
        plan: &mut Plan,
        file: &PresetFile,
    ) -> Result<Preset, CommandError> {
        let name = self.source.at(file.name.span(), named("preset", file.name.get_ref()))?;
        let before = self.view.state.presets().find(|preset| preset.name == name);
        let mut own: Vec<(String, ChannelId)> = Vec::new();
        let mut channels: Vec<Channel> = Vec::new();
        for entry in &file.channel {
            let path = entry.name.get_ref();
            if own.iter().chain(&self.channels).any(|(known, _)| known == path) {
                let taken = Mistake::Taken("channel", path.clone());
                return Err(self.source.wrong(entry.name.span(), taken));
            }
            let (parent, name) = self.split(entry, &own)?;
            let siblings = channels.iter().filter(|channel| channel.parent == parent).count();
            let order = u16::try_from(siblings).unwrap_or(u16::MAX);
            let known = before.and_then(|before| {
                before
                    .channels
                    .iter()
                    .find(|it| it.parent == parent && self.view.channel_name(it) == name)
            });
            let channel = self.dress(plan, entry, known, (parent, name, order))?;
            own.push((path.clone(), channel.id));
            channels.push(channel);
        }
        channels.sort_by_key(|channel| channel.id);
        let rules = file.rule.iter().map(|rule| self.rule(rule, &own));
        let grants = file.grant.iter().map(|grant| self.grant(grant, &own));
        let layouts = file.layout.iter().map(|layout| self.layout(layout, &own));
        let (rules, grants, layouts): (Vec<_>, Vec<_>, Vec<_>) = (
            rules.collect::<Result<_, _>>()?,
            grants.collect::<Result<_, _>>()?,
            layouts.collect::<Result<_, _>>()?,
        );
        let id = match before {
            Some(before) => before.id,
            None => PresetId::from_bytes(new_id(self.host)),
        };
        let span = file.name.span();
        Ok(Preset {
            id,
            name,
            channels: self.bounded(span.clone(), "channels", channels, PRESET_CHANNELS_MAX)?,
            rules: self.bounded(span.clone(), "rules", rules, PRESET_RULES_MAX)?,
            grants: self.bounded(span.clone(), "grants", grants, PRESET_GRANTS_MAX)?,
            layouts: self.bounded(span, "layouts", layouts, PRESET_LAYOUTS_MAX)?,
        })
    }

    fn grant(
        &self,
        entry: &GrantEntry,
        own: &[(String, ChannelId)],
    ) -> Result<Grant, CommandError> {
        let people = entry
            .to
            .iter()
            .map(|person| self.source.at(person.span(), self.view.find_person(person.get_ref())));
        let mut people: Vec<_> = people.collect::<Result<_, _>>()?;
        people.sort_unstable();
        people.dedup();
        Ok(Grant {
            role: self.role(&entry.role)?,
            at: self.place(entry.at.as_ref(), own)?,
            members: self.bounded(entry.role.span(), "people", people, GRANT_MEMBERS_MAX)?,
        })
    }

    fn layout(
        &self,
        entry: &LayoutEntry,
        own: &[(String, ChannelId)],
    ) -> Result<Layout, CommandError> {
        let nets: Vec<_> =
            entry.net.iter().map(|net| self.net(net, own)).collect::<Result<_, _>>()?;
        let span = entry.subject.span();
        let mut keys = Vec::new();
        for key in &entry.keys {
            let nets: Vec<_> =
                key.iter().map(|channel| self.channel(channel, own)).collect::<Result<_, _>>()?;
            keys.push(self.bounded(span.clone(), "channels of a key", nets, LAYOUT_NETS_MAX)?);
        }
        Ok(Layout {
            subject: self.subject(&entry.subject)?,
            nets: self.bounded(span.clone(), "nets", nets, LAYOUT_NETS_MAX)?,
            keys: self.bounded(span, "keys", keys, LAYOUT_KEYS_MAX)?,
        })
    }

    fn net(
        &self,
        entry: &NetEntry,
        own: &[(String, ChannelId)],
    ) -> Result<NetLayout, CommandError> {
        if let Some(pan) = &entry.pan
            && !(-100..=100).contains(pan.get_ref())
        {
            return Err(self.source.wrong(pan.span(), Mistake::Pan));
        }
        if let Some(volume) = &entry.volume
            && *volume.get_ref() > 400
        {
            return Err(self.source.wrong(volume.span(), Mistake::Volume));
        }
        Ok(NetLayout {
            channel: self.channel(&entry.channel, own)?,
            priority: entry.priority,
            pan_percent: entry.pan.as_ref().map_or(0, |pan| *pan.get_ref()),
            volume_percent: entry.volume.as_ref().map_or(100, |volume| *volume.get_ref()),
        })
    }

    fn bounded<T, const MAX: usize>(
        &self,
        span: Range<usize>,
        what: &'static str,
        items: Vec<T>,
        limit: usize,
    ) -> Result<List<T, MAX>, CommandError> {
        if items.len() > limit.min(MAX) {
            return Err(self.source.wrong(span, Mistake::TooMany(limit, what)));
        }
        Ok(List::truncated(items))
    }
}
