//! Changes in plain words.

use std::net::SocketAddr;

use hark_charter::content::{
    Capabilities, Change, Channel, ChannelMode, ChannelName, Grant, MEMBER_ROLE, Place, Policy,
    Preset, Relay, Role, Rule, SanctionKind,
};

use super::{
    names::{counted, listed},
    sanctions::{participle, tell_until, verb},
    view::View,
};

/// A change in words, done or to be done.
pub(super) struct Phrase {
    to_do: &'static str,
    done: &'static str,
    what: String,
    /// More about it, for those who want to know.
    details: Option<String>,
}

impl Phrase {
    fn new(to_do: &'static str, done: &'static str, what: String) -> Self {
        Self { to_do, done, what, details: None }
    }

    fn detailed(self, details: String) -> Self {
        Self { details: Some(details), ..self }
    }

    /// `make channel Alpha`, whatever it is like
    pub(super) fn brief(&self) -> String {
        format!("{} {}", self.to_do, self.what)
    }

    /// `make channel Alpha: open`
    pub(super) fn to_do(&self) -> String {
        format!("{}{}", self.brief(), self.more())
    }

    /// `made channel Alpha: open`
    pub(super) fn done(&self) -> String {
        format!("{} {}{}", self.done, self.what, self.more())
    }

    fn more(&self) -> String {
        self.details.as_ref().map(|details| format!(": {details}")).unwrap_or_default()
    }
}

/// A change in words; `new` where what it is about was not there before. None where it is about
/// something that whoever asks may not see.
pub(super) fn tell(view: &View<'_>, change: &Change, new: bool) -> Option<Phrase> {
    let phrase = match change {
        Change::Role(role) => {
            let (to_do, done) = if new { ("define", "defined") } else { ("change", "changed") };
            let called = tell_role(view, role, new);
            let details = match role.id {
                MEMBER_ROLE => format!("everybody {}", may(role.capabilities)),
                _ => format!("rank {}, {}", role.rank.0, may(role.capabilities)),
            };
            Phrase::new(to_do, done, called).detailed(details)
        }
        Change::RemoveRole(id) => {
            Phrase::new("remove", "removed", format!("role {} for good", view.role(*id)))
        }
        Change::Grant(grant) => {
            let (role, at, people) = tell_grant(view, grant)?;
            Phrase::new("give", "gave", format!("{people} the role {role} {at}"))
        }
        Change::Ungrant(grant) => {
            let (role, at, people) = tell_grant(view, grant)?;
            Phrase::new("take", "took", format!("the role {role} {at} from {people}"))
        }
        Change::Rule(rule) => tell_rule_change(view, rule)?,
        Change::Channel(channel) => tell_channel_change(view, channel, new)?,
        Change::MoveChannel { channel, parent } => {
            if !view.sees(*channel) || !view.sees_place(*parent) {
                return None;
            }
            let to = match parent {
                Place::Organisation => "to the top".to_owned(),
                Place::Channel(parent) => format!("below {}", view.channel(*parent)),
            };
            Phrase::new("move", "moved", format!("channel {} {to}", view.channel(*channel)))
        }
        Change::RemoveChannel(id) => {
            let rest = format!("channel {} and all below it, for good", view.channel(*id));
            Phrase::new("remove", "removed", view.sees(*id).then_some(rest)?)
        }
        Change::Link { a, b, linked } => {
            let seen = view.sees(*a) && view.sees(*b);
            let (to_do, done, and) = match linked {
                true => ("link", "linked", "with"),
                false => ("unlink", "unlinked", "from"),
            };
            let mut pair = [view.channel(*a), view.channel(*b)];
            pair.sort();
            let rest = format!("{} {and} {}", pair[0], pair[1]);
            Phrase::new(to_do, done, seen.then_some(rest)?)
        }
        Change::Preset(preset) => {
            let (to_do, done) = if new { ("add", "added") } else { ("change", "changed") };
            Phrase::new(to_do, done, format!("preset {}", preset.name))
                .detailed(tell_preset(view, preset))
        }
        Change::RemovePreset(id) => {
            Phrase::new("remove", "removed", format!("preset {} for good", view.preset(*id)))
        }
        Change::LoadPreset(id) => {
            Phrase::new("load", "loaded", format!("preset {}", view.preset(*id)))
        }
        Change::UnloadPreset(id) => {
            Phrase::new("unload", "unloaded", format!("preset {}", view.preset(*id)))
        }
        Change::Relay(relay) => {
            let (to_do, done) = if new { ("name", "named") } else { ("change", "changed") };
            Phrase::new(to_do, done, format!("relay {}", tell_relay(relay)))
        }
        Change::RemoveRelay(device) => {
            Phrase::new("drop", "dropped", format!("relay {}", view.relay(*device)))
        }
        Change::Policy(policy) => {
            let (name, value) = policy_of(*policy);
            Phrase::new("set", "set", format!("{name} to {value}"))
        }
        Change::Remove { member, .. } => {
            Phrase::new("end", "ended", format!("the membership of {}", view.person(*member)))
        }
        Change::Admitted(certificates) => {
            let members = counted(certificates.len(), "admitted member");
            Phrase::new("list", "listed", members)
        }
        Change::AddDevice { device, .. } => {
            Phrase::new("add", "added", format!("device {device} as one of its own"))
        }
        Change::RetireDevice { device, .. } => {
            Phrase::new("retire", "retired", format!("device {device} for good"))
        }
        Change::Sanction(it) => {
            let (person, place) = (view.person(it.member), view.place(it.at));
            let what = format!("{person} {place} {}", tell_until(it.until));
            Phrase::new(verb(it.kind), participle(it.kind), view.sees_place(it.at).then_some(what)?)
        }
        Change::Lift { member, kind, at } => {
            let (to_do, done) = match kind {
                SanctionKind::Mute => ("unmute", "unmuted"),
                SanctionKind::Ban => ("unban", "unbanned"),
            };
            let what = format!("{} {}", view.person(*member), view.place(*at));
            Phrase::new(to_do, done, view.sees_place(*at).then_some(what)?)
        }
        Change::RevokeTicket(it) => {
            let (number, of) = (it.key.short(), view.person(it.issuer));
            Phrase::new("revoke", "revoked", format!("ticket {number} of {of}"))
        }
        Change::RevokeTickets(issuer) => {
            let of = issuer.map_or_else(|| "everybody".to_owned(), |it| view.person(it));
            Phrase::new("revoke", "revoked", format!("all tickets of {of} so far"))
        }
    };
    Some(phrase)
}

fn tell_role(view: &View<'_>, role: &Role, new: bool) -> String {
    let before = view.role(role.id);
    if new || before == role.name {
        format!("role {}", role.name)
    } else {
        format!("role {before}, now called {}", role.name)
    }
}

/// What a role gives, in words.
pub(super) fn may(rights: Capabilities) -> String {
    if rights.is_empty() { "no rights".to_owned() } else { format!("may {}", spaced(rights)) }
}

/// Rights as a list to read.
pub(super) fn spaced(rights: Capabilities) -> String {
    rights.to_string().replace(',', ", ")
}

fn tell_grant(view: &View<'_>, grant: &Grant) -> Option<(String, String, String)> {
    let people = view.people(grant.members.iter().copied());
    let told = (view.role(grant.role), view.place(grant.at), listed(&people, "and"));
    view.sees_place(grant.at).then_some(told)
}

fn tell_rule_change(view: &View<'_>, rule: &Rule) -> Option<Phrase> {
    if !view.sees_place(rule.at) {
        return None;
    }
    let place = view.place(rule.at);
    let subject = view.subject(rule.subject);
    if (rule.allow | rule.deny).is_empty() {
        return Some(Phrase::new("remove", "removed", format!("the rule for {subject} {place}")));
    }
    let does = tell_rule(rule.allow, rule.deny);
    Some(Phrase::new("set", "set", format!("the rule for {subject} {place}")).detailed(does))
}

/// What a rule does.
pub(super) fn tell_rule(allow: Capabilities, deny: Capabilities) -> String {
    let mut does = Vec::new();
    does.extend((!allow.is_empty()).then(|| format!("allows {}", spaced(allow))));
    does.extend((!deny.is_empty()).then(|| format!("denies {}", spaced(deny))));
    if does.is_empty() { "says nothing".to_owned() } else { does.join("; ") }
}

fn tell_channel_change(view: &View<'_>, channel: &Channel, new: bool) -> Option<Phrase> {
    if !view.sees(channel.id) {
        return None;
    }
    let (name, look) = (view.channel_name(channel), tell_channel(channel));
    if !new {
        let path = view.channel(channel.id);
        let renamed = path.rsplit('/').next() != Some(name.as_str()) && !name.starts_with('#');
        let called = if renamed { format!("called {name}, ") } else { String::new() };
        let details = format!("{called}{look}");
        return Some(Phrase::new("change", "changed", format!("channel {path}")).detailed(details));
    }
    let path = match channel.parent {
        Place::Organisation => name,
        Place::Channel(parent) => format!("{}/{name}", view.channel(parent)),
    };
    Some(Phrase::new("make", "made", format!("channel {path}")).detailed(look))
}

/// What a channel is like.
pub(super) fn tell_channel(channel: &Channel) -> String {
    let mut look = vec![match channel.mode {
        ChannelMode::Open => "open".to_owned(),
        ChannelMode::Floor(1) => "one talks at a time".to_owned(),
        ChannelMode::Floor(most) => format!("{most} talk at a time"),
        ChannelMode::Loudest(1) => "relays pass on the loudest".to_owned(),
        ChannelMode::Loudest(most) => format!("relays pass on the {most} loudest"),
    }];
    look.extend(
        (channel.limit > 0).then(|| format!("at most {}", counted(channel.limit.into(), "device"))),
    );
    let hidden = matches!(channel.name, ChannelName::Hidden(_));
    look.extend(hidden.then(|| "hidden".to_owned()));
    look.join(", ")
}

/// What a preset brings.
pub(super) fn tell_preset(view: &View<'_>, preset: &Preset) -> String {
    let seen = preset.channels.iter().filter(|channel| view.sees(channel.id)).count();
    let parts = [
        counted(seen, "channel"),
        counted(preset.rules.iter().filter(|rule| view.sees_place(rule.at)).count(), "rule"),
        counted(preset.grants.iter().filter(|it| view.sees_place(it.at)).count(), "grant"),
        counted(preset.layouts.len(), "layout"),
    ];
    listed(&parts, "and")
}

/// A relay by its name and what is known of it.
pub(super) fn tell_relay(relay: &Relay) -> String {
    let addresses: Vec<_> = relay.addresses.iter().map(SocketAddr::to_string).collect();
    let mut words =
        format!("{} ({}) at {}", relay.name, relay.device.short(), addresses.join(", "));
    if relay.members_max > 0 {
        words += &format!(", at most {}", counted(relay.members_max.into(), "device"));
    }
    if relay.rate_kbps > 0 {
        words += &format!(", at most {} kbit/s", relay.rate_kbps);
    }
    words
}

/// A policy's name and value.
pub(super) fn policy_of(policy: Policy) -> (&'static str, u32) {
    match policy {
        Policy::InviteHoursMax(hours) => ("invite-hours-max", hours),
        Policy::OperationsPerDay(operations) => ("operations-per-day", operations),
    }
}
