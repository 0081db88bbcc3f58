//! The charter as the asker may see it: things by their names, hidden channels left out.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter, State, clean_name,
    content::{
        Capabilities, Change, Channel, ChannelName, Place, Sanction, SanctionKind, SealedName,
        Subject,
    },
};
use hark_keys::{ChannelId, DeviceId, List, MemberId, PresetId, RoleId};

use crate::{
    At, CommandError, Host, Mistake,
    names::{Candidate, by_id, find, find_channel, unknown},
};

/// Names of all that the charter speaks of, or spoke of.
pub(crate) struct View<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) state: &'a State,
    channels: BTreeMap<ChannelId, Channel>,
    /// Of hidden channels, as whoever asks has just typed them.
    typed: BTreeMap<ChannelId, String>,
    roles: BTreeMap<RoleId, String>,
    presets: BTreeMap<PresetId, String>,
    relays: BTreeMap<DeviceId, String>,
    people: BTreeMap<MemberId, Candidate<MemberId>>,
    /// Members who have no device any more, and can come back by their printed keys.
    left: BTreeMap<MemberId, Candidate<MemberId>>,
}

impl<'a> View<'a> {
    /// The view of whoever acts through `host`.
    pub(crate) fn new(host: &'a dyn Host) -> Self {
        let charter = host.charter();
        let (people, left) = people(host);
        let mut view = Self {
            host,
            state: charter.state(),
            channels: BTreeMap::new(),
            typed: BTreeMap::new(),
            roles: BTreeMap::new(),
            presets: BTreeMap::new(),
            relays: BTreeMap::new(),
            people,
            left,
        };
        let founding = charter.roots().next().map(|document| &document.unverified().content);
        let changes = founding.into_iter().flat_map(|content| content.iter());
        let changes = changes
            .chain(charter.log().flat_map(|(operation, _)| operation.unverified().changes.iter()));
        changes.for_each(|change| view.learn(change, true));
        let state = charter.state();
        view.channels.extend(state.channels().map(|it| (it.id, it.clone())));
        view.roles.extend(state.roles().map(|it| (it.id, it.name.clone())));
        view.presets.extend(state.presets().map(|it| (it.id, it.name.clone())));
        view.relays.extend(state.relays().map(|it| (it.device, it.name.clone())));
        view
    }

    /// The same once `changes` are made; `typed` are the names of hidden channels among them.
    pub(crate) fn with(
        host: &'a dyn Host,
        changes: &[Change],
        typed: &BTreeMap<ChannelId, String>,
    ) -> Self {
        let mut view = Self::new(host);
        changes.iter().for_each(|change| view.learn(change, false));
        view.typed.clone_from(typed);
        view
    }

    fn learn(&mut self, change: &Change, replace: bool) {
        match change {
            Change::Channel(channel) => self.learn_channel(channel, replace),
            Change::Preset(preset) => {
                preset.channels.iter().for_each(|channel| self.learn_channel(channel, replace));
                if replace || !self.presets.contains_key(&preset.id) {
                    self.presets.insert(preset.id, preset.name.clone());
                }
            }
            Change::Role(role) if replace || !self.roles.contains_key(&role.id) => {
                self.roles.insert(role.id, role.name.clone());
            }
            Change::Relay(relay) if replace || !self.relays.contains_key(&relay.device) => {
                self.relays.insert(relay.device, relay.name.clone());
            }
            _ => {}
        }
    }

    fn learn_channel(&mut self, channel: &Channel, replace: bool) {
        if replace || !self.channels.contains_key(&channel.id) {
            self.channels.insert(channel.id, channel.clone());
        }
    }

    pub(crate) fn charter(&self) -> &'a Charter {
        self.host.charter()
    }

    /// Whether whoever asks may know that there is, or was, such a channel: a hidden one, and what
    /// lies below it, is for those who may join it or manage channels there.
    pub(crate) fn sees(&self, channel: ChannelId) -> bool {
        self.line(channel).into_iter().all(|id| self.sees_itself(id))
    }

    /// The same for a place.
    pub(crate) fn sees_place(&self, at: Place) -> bool {
        match at {
            Place::Organisation => true,
            Place::Channel(channel) => self.sees(channel),
        }
    }

    fn sees_itself(&self, id: ChannelId) -> bool {
        let Some(channel) = self.channels.get(&id) else { return self.typed.contains_key(&id) };
        match channel.name {
            ChannelName::Listed(_) => true,
            ChannelName::Hidden(_) if self.typed.contains_key(&id) => true,
            ChannelName::Hidden(_) => {
                let may = |right, at| self.charter().allows(self.host.member(), right, at);
                if self.state.channel(id).is_some() {
                    let at = Place::Channel(id);
                    may(Capabilities::JOIN, at) || may(Capabilities::MANAGE_CHANNELS, at)
                } else {
                    // Of a preset that is not loaded, or gone.
                    self.host.channel_name(channel).is_some()
                        || may(Capabilities::EDIT_PRESETS, Place::Organisation)
                }
            }
        }
    }

    /// The channel and what lies above it, itself first.
    fn line(&self, channel: ChannelId) -> Vec<ChannelId> {
        let mut line = vec![channel];
        while let Some(last) = line.last()
            && let Some(Place::Channel(parent)) = self.channels.get(last).map(|it| it.parent)
            && !line.contains(&parent)
        {
            line.push(parent);
        }
        line
    }

    /// What a channel itself is called.
    pub(crate) fn channel_name(&self, channel: &Channel) -> String {
        let name = match &channel.name {
            ChannelName::Listed(name) => Some(name.clone()),
            ChannelName::Hidden(sealed) if *sealed == unsealed() => {
                self.typed.get(&channel.id).cloned()
            }
            ChannelName::Hidden(_) => self.host.channel_name(channel).map(|name| clean_name(&name)),
        };
        name.unwrap_or_else(|| format!("#{}", channel.id.short()))
    }

    /// A channel by its path.
    pub(crate) fn channel(&self, id: ChannelId) -> String {
        let names = self.line(id).into_iter().rev().map(|id| match self.channels.get(&id) {
            Some(channel) => self.channel_name(channel),
            None => format!("#{}", id.short()),
        });
        names.collect::<Vec<_>>().join("/")
    }

    /// The same if the asker may see it.
    pub(crate) fn seen_channel(&self, id: ChannelId) -> Option<String> {
        self.sees(id).then(|| self.channel(id))
    }

    /// A place by its path.
    pub(crate) fn at(&self, at: Place) -> At {
        match at {
            Place::Organisation => At(None),
            Place::Channel(channel) => At(Some(self.channel(channel))),
        }
    }

    /// The same if the asker may see it.
    pub(crate) fn seen_at(&self, at: Place) -> Option<At> {
        self.sees_place(at).then(|| self.at(at))
    }

    pub(crate) fn role(&self, id: RoleId) -> String {
        self.roles.get(&id).cloned().unwrap_or_else(|| format!("#{}", id.short()))
    }

    pub(crate) fn preset(&self, id: PresetId) -> String {
        self.presets.get(&id).cloned().unwrap_or_else(|| format!("#{}", id.short()))
    }

    pub(crate) fn relay(&self, device: DeviceId) -> String {
        self.relays.get(&device).cloned().unwrap_or_else(|| device.short())
    }

    /// A person by what names nobody else.
    pub(crate) fn person(&self, member: MemberId) -> String {
        match self.people.get(&member).or_else(|| self.left.get(&member)) {
            Some(candidate) => candidate.unique.clone(),
            None => format!("{}#{}", self.name(member), member.short()),
        }
    }

    /// What a person is called, or was when muted or banned; empty where that is not known.
    pub(crate) fn name(&self, member: MemberId) -> String {
        if let Some(name) = self.host.name_of(member) {
            return clean_name(&name);
        }
        let named = self.state.sanctions_on(member).find(|(it, _)| !it.name.is_empty());
        named.map(|(it, _)| it.name.clone()).unwrap_or_default()
    }

    pub(crate) fn people(&self, members: impl IntoIterator<Item = MemberId>) -> Vec<String> {
        let mut people: Vec<_> = members.into_iter().map(|member| self.person(member)).collect();
        people.sort();
        people
    }

    /// Everybody who belongs, in the order of their names.
    pub(crate) fn members(&self) -> Vec<MemberId> {
        let mut members: Vec<_> = self.people.values().collect();
        members.sort_by(|a, b| a.unique.cmp(&b.unique));
        members.into_iter().map(|candidate| candidate.id).collect()
    }

    /// Members who have no device any more, and can come back by their printed keys.
    pub(crate) fn left(&self) -> impl Iterator<Item = MemberId> {
        self.left.keys().copied()
    }

    pub(crate) fn subject(&self, subject: Subject) -> String {
        match subject {
            Subject::Everyone => "everyone".to_owned(),
            Subject::Role(role) => format!("role {}", self.role(role)),
            Subject::Member(member) => self.person(member),
        }
    }

    /// Channels that whoever asks may know of, in the order of the tree, with their depth.
    pub(crate) fn tree(&self) -> Vec<(usize, &'a Channel)> {
        let mut all: Vec<_> = self.state.channels().filter(|it| self.sees(it.id)).collect();
        all.sort_by_key(|it| (it.order, self.channel_name(it), it.id));
        let mut tree = Vec::new();
        let mut open: Vec<(usize, &Channel)> = Vec::new();
        let below = |at: Place, depth| {
            all.iter().rev().filter(move |it| it.parent == at).map(move |it| (depth, *it))
        };
        open.extend(below(Place::Organisation, 0));
        while let Some((depth, channel)) = open.pop() {
            tree.push((depth, channel));
            open.extend(below(Place::Channel(channel.id), depth + 1));
        }
        tree
    }

    /// The channel of this name, path or #id.
    pub(crate) fn find_channel(&self, text: &str) -> Result<ChannelId, CommandError> {
        find_channel(text, &self.paths())
    }

    /// Channels that whoever asks may know of, with their paths.
    pub(crate) fn paths(&self) -> Vec<(ChannelId, String)> {
        self.tree().into_iter().map(|(_, it)| (it.id, self.channel(it.id))).collect()
    }

    /// The place of an `--at`: everywhere where it is left out.
    pub(crate) fn find_place(&self, text: Option<&str>) -> Result<Place, CommandError> {
        match text {
            None => Ok(Place::Organisation),
            Some(text) => self.find_channel(text).map(Place::Channel),
        }
    }

    /// The member of this name, name#id or device. Who is banned is said to be so.
    pub(crate) fn find_person(&self, text: &str) -> Result<MemberId, CommandError> {
        let found = self.find_member(text);
        if let (Err(CommandError::Unknown { .. }), Ok(banned)) = (&found, self.find_banned(text)) {
            let ban = self.state.sanctions_on(banned).find(|(it, _)| is_ban(it));
            let until = ban.and_then(|(it, _)| it.until).into();
            return Err(Mistake::Banned(self.person(banned), until).into());
        }
        found
    }

    /// The member of this name, name#id or device.
    pub(crate) fn find_member(&self, text: &str) -> Result<MemberId, CommandError> {
        if let Ok(device) = text.parse::<DeviceId>() {
            let owner = self.charter().owner(device).filter(|it| self.charter().is_member(*it));
            return owner.ok_or_else(|| unknown("member", text, []));
        }
        let by_name = |(id, candidate): (&MemberId, &Candidate<MemberId>)| {
            let (name, _) = text.rsplit_once('#').unwrap_or_default();
            (name.is_empty() || candidate.name == name).then(|| (*id, id.to_string()))
        };
        if let Some(id) = by_id(text, self.people.iter().chain(&self.left).filter_map(by_name)) {
            return Ok(id);
        }
        if text == "me" && self.people.values().all(|candidate| candidate.name != text) {
            return Ok(self.host.member());
        }
        let candidates: Vec<_> = self.people.values().map(copy).collect();
        let found = find(("member", "members"), text, &candidates);
        if !matches!(found, Err(CommandError::Unknown { .. })) {
            return found;
        }
        let left: Vec<_> = self.left.values().map(copy).collect();
        find(("member", "members"), text, &left).or(found)
    }

    /// Somebody who is banned from the organisation, by the name of then or by #id.
    pub(crate) fn find_banned(&self, text: &str) -> Result<MemberId, CommandError> {
        let banned: BTreeSet<_> = self.state.sanctions().map(|(it, _)| it.member).collect();
        let banned = banned.into_iter().filter(|member| self.state.is_banned(*member));
        let named = banned.map(|member| (member, self.name(member), member.to_string()));
        find_named(("banned member", "banned members"), text, named.collect())
    }

    pub(crate) fn find_people(&self, texts: &[String]) -> Result<Vec<MemberId>, CommandError> {
        let found: Result<Vec<_>, _> = texts.iter().map(|text| self.find_person(text)).collect();
        let mut found = found?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    pub(crate) fn find_role(&self, text: &str) -> Result<RoleId, CommandError> {
        let named =
            self.state.roles().map(|role| (role.id, role.name.clone(), role.id.to_string()));
        find_named(("role", "roles"), text, named.collect())
    }

    pub(crate) fn find_preset(&self, text: &str) -> Result<PresetId, CommandError> {
        let named = self.state.presets().map(|it| (it.id, it.name.clone(), it.id.to_string()));
        find_named(("preset", "presets"), text, named.collect())
    }

    pub(crate) fn find_subject(&self, text: &str) -> Result<Subject, CommandError> {
        if text == "everyone" {
            return Ok(Subject::Everyone);
        }
        match text.strip_prefix("role:") {
            Some(role) => self.find_role(role).map(Subject::Role),
            None => self.find_person(text).map(Subject::Member),
        }
    }
}

fn is_ban(sanction: &Sanction) -> bool {
    (sanction.kind, sanction.at) == (SanctionKind::Ban, Place::Organisation)
}

/// What stands for the sealed name of a hidden channel until it is certain that it will be needed.
pub(crate) fn unsealed() -> SealedName {
    SealedName { key_id: [0; 8], sealed: List::truncated([0]) }
}

type People = BTreeMap<MemberId, Candidate<MemberId>>;

/// Everybody who belongs, with names that tell them apart; and those who have left, and can come
/// back.
fn people(host: &dyn Host) -> (People, People) {
    let name = |member| host.name_of(member).map(|name| clean_name(&name)).unwrap_or_default();
    let charter = host.charter();
    let (there, left): (Vec<_>, Vec<_>) =
        charter.members().partition(|member| !charter.devices_of(*member).is_empty());
    // Who has neither a device nor a printed key cannot come back.
    let printed = |member: &MemberId| {
        let certificate = charter.certificate_of(*member).map(hark_keys::Signed::unverified);
        certificate.is_some_and(|it| it.recovery.is_some())
    };
    let names: BTreeMap<_, _> = there.into_iter().map(|member| (member, name(member))).collect();
    let left = left.into_iter().filter(printed).map(|id| {
        let name = name(id);
        let unique = format!("{name}#{}", id.short());
        (id, Candidate { id, name, unique })
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names.values() {
        *counts.entry(name).or_default() += 1;
    }
    let candidate = |(id, name): (&MemberId, &String)| {
        let alone = !name.is_empty() && counts[name.as_str()] == 1;
        let unique = if alone { name.clone() } else { format!("{name}#{}", id.short()) };
        (*id, Candidate { id: *id, name: name.clone(), unique })
    };
    (names.iter().map(candidate).collect(), left.collect())
}

fn copy(candidate: &Candidate<MemberId>) -> Candidate<MemberId> {
    Candidate { id: candidate.id, name: candidate.name.clone(), unique: candidate.unique.clone() }
}

/// Something by its name, told apart by ids where several have it.
pub(crate) fn find_named<T: Copy + PartialEq>(
    what: (&'static str, &'static str),
    text: &str,
    named: Vec<(T, String, String)>,
) -> Result<T, CommandError> {
    let candidate = |(id, name, text): &(T, String, String)| {
        let alone = named.iter().filter(|(_, other, _)| other == name).count() == 1;
        let unique = if alone { name.clone() } else { format!("{name}#{}", &text[..6]) };
        Candidate { id: *id, name: name.clone(), unique }
    };
    if let Some(id) = by_id(text, named.iter().map(|(id, _, text)| (*id, text.clone()))) {
        return Ok(id);
    }
    let candidates: Vec<_> = named.iter().map(candidate).collect();
    find(what, text, &candidates)
}
