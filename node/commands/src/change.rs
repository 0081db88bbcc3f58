//! Changes with names in the place of ids.

use std::fmt;

use hark_charter::content::{
    Change, Channel, Grant, MEMBER_ROLE, Place, Policy, Role, Rule, SanctionKind,
};
use serde::{Deserialize, Serialize};

use crate::{
    names::{counted, listed},
    view::View,
    views::{At, Brings, Look, MuteOrBan, RelayView, Rights, RootKeyView, Until},
};

/// A change of the charter, done or to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeView {
    /// A role is defined or changed.
    Role {
        /// Whether there was no such role.
        new: bool,
        /// Its name.
        name: String,
        /// What it was called, if it is called otherwise now.
        was: Option<String>,
        /// Its rank; `None` of the role that everybody has.
        rank: Option<u8>,
        /// What its holders may.
        can: Rights,
    },
    /// The role of this name is removed.
    RemoveRole(String),
    /// A role is given.
    Grant {
        /// Which.
        role: String,
        /// Where.
        at: At,
        /// To whom.
        people: Vec<String>,
    },
    /// A role is taken.
    Ungrant {
        /// Which.
        role: String,
        /// Where.
        at: At,
        /// From whom.
        people: Vec<String>,
    },
    /// A rule is set, or removed if it neither allows nor denies anything.
    Rule {
        /// `everyone`, `role NAME` or a person.
        subject: String,
        /// Where.
        at: At,
        /// What it allows.
        allow: Rights,
        /// What it denies.
        deny: Rights,
    },
    /// A channel is made or changed.
    Channel {
        /// Whether there was no such channel.
        new: bool,
        /// Its path, as it was if it was there.
        path: String,
        /// What it is called now, if it was called otherwise.
        called: Option<String>,
        /// How it is talked on and seen.
        look: Look,
    },
    /// A channel is put elsewhere in the tree.
    MoveChannel {
        /// Its path.
        channel: String,
        /// The channel that it lies below from now on; `None` at the top.
        under: Option<String>,
    },
    /// The channel of this path is removed, with all below it.
    RemoveChannel(String),
    /// Two channels hear each other from now on.
    Link([String; 2]),
    /// Two channels hear each other no longer.
    Unlink([String; 2]),
    /// A preset is added or changed.
    Preset {
        /// Whether there was no such preset.
        new: bool,
        /// Its name.
        name: String,
        /// How much it brings.
        brings: Brings,
    },
    /// The preset of this name is removed.
    RemovePreset(String),
    /// The preset of this name comes into force.
    LoadPreset(String),
    /// The preset of this name goes out of force.
    UnloadPreset(String),
    /// A relay is named, or changed.
    Relay {
        /// Whether there was no such relay.
        new: bool,
        /// The relay.
        relay: RelayView,
    },
    /// The relay of this name is named no longer.
    RemoveRelay(String),
    /// A policy is set.
    Policy {
        /// Which.
        name: String,
        /// To what.
        value: u32,
    },
    /// The membership of this person ends.
    Remove(String),
    /// So many members are listed who were admitted.
    Admitted(usize),
    /// This device becomes one of its member's own.
    AddDevice(String),
    /// This device ends.
    RetireDevice(String),
    /// A member is muted or banned.
    Sanction {
        /// Who.
        person: String,
        /// Which.
        kind: MuteOrBan,
        /// Where.
        at: At,
        /// Until when.
        until: Until,
    },
    /// A mute or a ban ends.
    Lift {
        /// Whose.
        person: String,
        /// Which.
        kind: MuteOrBan,
        /// Where.
        at: At,
    },
    /// A ticket is revoked.
    RevokeTicket {
        /// Its number.
        number: String,
        /// Who issued it.
        of: String,
    },
    /// All tickets so far of this person are revoked, or of everybody if it is `None`.
    RevokeTickets(Option<String>),
}

impl ChangeView {
    /// What is done, to what: `make` and `channel Flight/Alpha`.
    pub fn words(&self) -> (&'static str, String) {
        let either = |new: &bool, one, other| if *new { one } else { other };
        match self {
            Self::Role { new, name, was, .. } => {
                let called = match was {
                    Some(was) => format!("role {was}, now called {name}"),
                    None => format!("role {name}"),
                };
                (either(new, "define", "change"), called)
            }
            Self::RemoveRole(role) => ("remove", format!("role {role} for good")),
            Self::Grant { role, at, people } => {
                ("give", format!("{} the role {role} {at}", listed(people, "and")))
            }
            Self::Ungrant { role, at, people } => {
                ("take", format!("the role {role} {at} from {}", listed(people, "and")))
            }
            Self::Rule { subject, at, allow, deny } => {
                let removed = allow.0.is_empty() && deny.0.is_empty();
                (either(&removed, "remove", "set"), format!("the rule for {subject} {at}"))
            }
            Self::Channel { new, path, .. } => {
                (either(new, "make", "change"), format!("channel {path}"))
            }
            Self::MoveChannel { channel, under: None } => {
                ("move", format!("channel {channel} to the top"))
            }
            Self::MoveChannel { channel, under: Some(parent) } => {
                ("move", format!("channel {channel} below {parent}"))
            }
            Self::RemoveChannel(path) => {
                ("remove", format!("channel {path} and all below it, for good"))
            }
            Self::Link([a, b]) => ("link", format!("{a} with {b}")),
            Self::Unlink([a, b]) => ("unlink", format!("{a} from {b}")),
            Self::Preset { new, name, .. } => {
                (either(new, "add", "change"), format!("preset {name}"))
            }
            Self::RemovePreset(name) => ("remove", format!("preset {name} for good")),
            Self::LoadPreset(name) => ("load", format!("preset {name}")),
            Self::UnloadPreset(name) => ("unload", format!("preset {name}")),
            Self::Relay { new, relay } => (either(new, "name", "change"), format!("relay {relay}")),
            Self::RemoveRelay(name) => ("drop", format!("relay {name}")),
            Self::Policy { name, value } => ("set", format!("{name} to {value}")),
            Self::Remove(person) => ("end", format!("the membership of {person}")),
            Self::Admitted(count) => ("list", counted(*count, "admitted member")),
            Self::AddDevice(device) => ("add", format!("device {device} as one of its own")),
            Self::RetireDevice(device) => ("retire", format!("device {device} for good")),
            Self::Sanction { person, kind, at, until } => {
                (kind.verb(), format!("{person} {at} {until}"))
            }
            Self::Lift { person, kind, at } => {
                let verb = match kind {
                    MuteOrBan::Mute => "unmute",
                    MuteOrBan::Ban => "unban",
                };
                (verb, format!("{person} {at}"))
            }
            Self::RevokeTicket { number, of } => ("revoke", format!("ticket {number} of {of}")),
            Self::RevokeTickets(of) => {
                let of = of.as_deref().unwrap_or("everybody");
                ("revoke", format!("all tickets of {of} so far"))
            }
        }
    }
}

impl fmt::Display for ChangeView {
    /// `make channel Flight/Alpha`, without what it is like.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, what) = self.words();
        write!(f, "{verb} {what}")
    }
}

/// What a new root document makes different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootChange {
    /// The organisation is called so.
    Name(String),
    /// This is a root key from now on.
    NewKey(RootKeyView),
    /// This is no root key any more.
    OldKey(RootKeyView),
    /// So many of so many keys must sign.
    Threshold {
        /// How many must.
        threshold: u8,
        /// How many there are.
        keys: usize,
    },
    /// So many root documents of a fork are joined.
    Joined(usize),
}

/// What a draft would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DraftContent {
    /// Changes.
    Changes(Vec<ChangeView>),
    /// Another root document.
    Root(Vec<RootChange>),
    /// A checkpoint of this number.
    Checkpoint(u32),
}

impl View<'_> {
    /// A change with names; `new` if what it is about was not there before. `None` if it is about
    /// something that the asker may not see.
    pub(crate) fn change(&self, change: &Change, new: bool) -> Option<ChangeView> {
        Some(match change {
            Change::Role(role) => self.role_change(role, new),
            Change::RemoveRole(id) => ChangeView::RemoveRole(self.role(*id)),
            Change::Grant(grant) => {
                let (role, at, people) = self.granted(grant)?;
                ChangeView::Grant { role, at, people }
            }
            Change::Ungrant(grant) => {
                let (role, at, people) = self.granted(grant)?;
                ChangeView::Ungrant { role, at, people }
            }
            Change::Rule(Rule { at, subject, allow, deny }) => ChangeView::Rule {
                subject: self.subject(*subject),
                at: self.seen_at(*at)?,
                allow: (*allow).into(),
                deny: (*deny).into(),
            },
            Change::Channel(channel) => self.channel_change(channel, new)?,
            Change::MoveChannel { channel, parent } => ChangeView::MoveChannel {
                channel: self.seen_channel(*channel)?,
                under: self.seen_at(*parent)?.0,
            },
            Change::RemoveChannel(id) => ChangeView::RemoveChannel(self.seen_channel(*id)?),
            Change::Link { a, b, linked } => {
                let mut pair = [self.seen_channel(*a)?, self.seen_channel(*b)?];
                pair.sort();
                if *linked { ChangeView::Link(pair) } else { ChangeView::Unlink(pair) }
            }
            Change::Preset(preset) => {
                ChangeView::Preset { new, name: preset.name.clone(), brings: self.brings(preset) }
            }
            Change::RemovePreset(id) => ChangeView::RemovePreset(self.preset(*id)),
            Change::LoadPreset(id) => ChangeView::LoadPreset(self.preset(*id)),
            Change::UnloadPreset(id) => ChangeView::UnloadPreset(self.preset(*id)),
            Change::Relay(relay) => ChangeView::Relay { new, relay: relay.into() },
            Change::RemoveRelay(device) => ChangeView::RemoveRelay(self.relay(*device)),
            Change::Policy(policy) => {
                let (name, value) = policy_of(*policy);
                ChangeView::Policy { name: name.to_owned(), value }
            }
            Change::Remove { member, .. } => ChangeView::Remove(self.person(*member)),
            Change::Admitted(certificates) => ChangeView::Admitted(certificates.len()),
            Change::AddDevice { device, .. } => ChangeView::AddDevice(device.to_string()),
            Change::RetireDevice { device, .. } => ChangeView::RetireDevice(device.to_string()),
            Change::Sanction(it) => ChangeView::Sanction {
                person: self.person(it.member),
                kind: it.kind.into(),
                at: self.seen_at(it.at)?,
                until: it.until.into(),
            },
            Change::Lift { member, kind, at } => self.lifted(*member, *kind, *at)?,
            Change::RevokeTicket(it) => {
                ChangeView::RevokeTicket { number: it.key.short(), of: self.person(it.issuer) }
            }
            Change::RevokeTickets(issuer) => {
                ChangeView::RevokeTickets(issuer.map(|it| self.person(it)))
            }
        })
    }

    fn role_change(&self, role: &Role, new: bool) -> ChangeView {
        let before = self.role(role.id);
        ChangeView::Role {
            new,
            name: role.name.clone(),
            was: (!new && before != role.name).then_some(before),
            rank: (role.id != MEMBER_ROLE).then_some(role.rank.0),
            can: role.capabilities.into(),
        }
    }

    fn granted(&self, grant: &Grant) -> Option<(String, At, Vec<String>)> {
        let people = self.people(grant.members.iter().copied());
        Some((self.role(grant.role), self.seen_at(grant.at)?, people))
    }

    fn channel_change(&self, channel: &Channel, new: bool) -> Option<ChangeView> {
        let before = self.seen_channel(channel.id)?;
        let name = self.channel_name(channel);
        let renamed = before.rsplit('/').next() != Some(name.as_str()) && !name.starts_with('#');
        let (path, called) = match (new, channel.parent) {
            (false, _) => (before, renamed.then_some(name)),
            (true, Place::Organisation) => (name, None),
            (true, Place::Channel(parent)) => (format!("{}/{name}", self.channel(parent)), None),
        };
        Some(ChangeView::Channel { new, path, called, look: channel.into() })
    }

    fn lifted(
        &self,
        member: hark_keys::MemberId,
        kind: SanctionKind,
        at: Place,
    ) -> Option<ChangeView> {
        let person = self.person(member);
        Some(ChangeView::Lift { person, kind: kind.into(), at: self.seen_at(at)? })
    }
}

/// A policy's name and value.
pub(crate) fn policy_of(policy: Policy) -> (&'static str, u32) {
    match policy {
        Policy::InviteHoursMax(hours) => ("invite-hours-max", hours),
        Policy::OperationsPerDay(operations) => ("operations-per-day", operations),
    }
}
