//! What outcomes are made of: things of the charter, by their names. Ids are text.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use hark_charter::content::{
    Capabilities, Channel, ChannelMode, ChannelName, ChannelSound, Relay, SanctionKind,
};
use hark_keys::UnixTime;
use serde::{Deserialize, Serialize};

use crate::{
    change::ChangeView,
    names::{counted, listed},
};

/// Where something holds: in a channel and below, by its path, or everywhere if it is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct At(pub Option<String>);

impl fmt::Display for At {
    /// `in Flight/Alpha`, or `everywhere`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("everywhere"),
            Some(path) => write!(f, "in {path}"),
        }
    }
}

/// Rights by their names, in the order of the charter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub Vec<String>);

impl From<Capabilities> for Rights {
    fn from(rights: Capabilities) -> Self {
        Self(rights.iter().map(|right| right.to_string()).collect())
    }
}

impl fmt::Display for Rights {
    /// `join, listen`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// When a mute or a ban ends, in seconds since 1970; `None` if it lasts until it is lifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Until(pub Option<u64>);

impl From<Option<UnixTime>> for Until {
    fn from(until: Option<UnixTime>) -> Self {
        Self(until.map(UnixTime::as_secs))
    }
}

impl fmt::Display for Until {
    /// `until 2026-11-22 21:40:00 UTC`, or `until it is lifted`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("until it is lifted"),
            Some(secs) => write!(f, "until {} UTC", UnixTime::from_secs(secs).written()),
        }
    }
}

/// What an officer takes from a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MuteOrBan {
    /// The voice.
    Mute,
    /// The place itself.
    Ban,
}

impl MuteOrBan {
    /// `mute`, `ban`
    pub fn verb(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Ban => "ban",
        }
    }

    /// `muted`, `banned`
    pub fn participle(self) -> &'static str {
        match self {
            Self::Mute => "muted",
            Self::Ban => "banned",
        }
    }
}

impl From<SanctionKind> for MuteOrBan {
    fn from(kind: SanctionKind) -> Self {
        match kind {
            SanctionKind::Mute => Self::Mute,
            SanctionKind::Ban => Self::Ban,
        }
    }
}

/// The organisation at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganisationView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The member who asks, by id.
    pub you: String,
    /// How many operations the charter holds since its checkpoint.
    pub operations: usize,
    /// The number of the last checkpoint; 0 before the first.
    pub checkpoint: u32,
    /// The root keys.
    pub root: RootView,
    /// Members, by name.
    pub members: Vec<MemberView>,
    /// Members who have no device any more, and can come back by their printed keys.
    pub left: Vec<LeftView>,
    /// Mutes and bans in force.
    pub sanctions: Vec<SanctionInForce>,
    /// Roles, the highest first.
    pub roles: Vec<RoleView>,
    /// Channels in the order of the tree.
    pub channels: Vec<ListedChannel>,
    /// Rules: those that hold everywhere first, then as the channels stand.
    pub rules: Vec<RuleView>,
    /// Presets.
    pub presets: Vec<PresetSummary>,
    /// Tickets that this device knows of.
    pub tickets: Vec<SeenTicket>,
    /// Relays.
    pub relays: Vec<RelayView>,
    /// Policies by name.
    pub policies: BTreeMap<String, u32>,
}

/// The root keys, and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// The number of the root document.
    pub version: u32,
    /// How many keys must sign.
    pub threshold: u8,
    /// The keys, the most senior last.
    pub keys: Vec<RootKeyView>,
    /// Whether the root keys have signed two documents of one version.
    pub forked: bool,
}

/// A root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootKeyView {
    /// The key.
    pub key: String,
    /// Whose it is.
    pub holder: Holder,
    /// Whether it is the key of the device that asks.
    pub this_device: bool,
}

impl RootKeyView {
    /// The end of the key, which tells it apart from others.
    pub fn short(&self) -> &str {
        ending(&self.key)
    }

    /// Whose it is: `a device of Wren, this device`.
    pub fn whose(&self) -> String {
        let own = if self.this_device { ", this device" } else { "" };
        match &self.holder {
            Holder::Device(person) => format!("a device of {person}{own}"),
            Holder::Printed(person) => format!("the printed recovery key of {person}"),
            Holder::Nobody => format!("no member's{own}"),
        }
    }
}

/// Whose a root key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// It is a device of this member.
    Device(String),
    /// It is the printed recovery key of this member.
    Printed(String),
    /// It is no member's.
    Nobody,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// What names it and no other.
    pub name: String,
    /// Its rank everywhere; 0 stands for the organisation.
    pub rank: u8,
    /// The roles that it holds.
    pub roles: Vec<HeldRole>,
    /// Its devices.
    pub devices: Vec<String>,
}

/// A role that a member holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRole {
    /// The role's name.
    pub role: String,
    /// Where.
    pub at: At,
}

/// A member who has no device any more, and can come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// Its id.
    pub id: String,
    /// What names it and no other.
    pub name: String,
    /// The roles that it comes back with.
    pub roles: Vec<HeldRole>,
}

/// A mute or a ban in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SanctionInForce {
    /// The member, by id.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Which.
    pub kind: MuteOrBan,
    /// Where.
    pub at: At,
    /// When it ends.
    pub until: Until,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// 1 to 250, the smaller the higher; 251 of the role that everybody has.
    pub rank: u8,
    /// What its holders may.
    pub can: Rights,
    /// Who holds it, but for the role that everybody has.
    pub held: Vec<Holding>,
}

/// Who holds a role, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The member, by id.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Where.
    pub at: At,
}

/// How a channel is talked on and seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// How many talk at once, if there is a floor.
    pub floor: Option<u8>,
    /// How many relays pass on, the loudest, if not all.
    pub loudest: Option<u8>,
    /// The bit rate in kbit/s if it is for music.
    pub music: Option<u8>,
    /// Whether that music is in stereo.
    #[serde(default)]
    pub stereo: bool,
    /// How many devices are on it at most; 0 is any number.
    pub limit: u16,
    /// Whether only those see it who may join it.
    pub hidden: bool,
}

impl From<&Channel> for Look {
    fn from(channel: &Channel) -> Self {
        let (floor, loudest) = match channel.mode {
            ChannelMode::Open => (None, None),
            ChannelMode::Floor(most) => (Some(most), None),
            ChannelMode::Loudest(most) => (None, Some(most)),
        };
        let hidden = matches!(channel.name, ChannelName::Hidden(_));
        let (music, stereo) = match channel.sound {
            ChannelSound::Speech => (None, false),
            ChannelSound::Music(kbps) => (Some(kbps), false),
            ChannelSound::Stereo(kbps) => (Some(kbps), true),
        };
        Self { floor, loudest, music, stereo, limit: channel.limit, hidden }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its name after those of all above it, with `/` between them.
    pub path: String,
    /// The path of the channel that it lies below, if it lies below one.
    pub under: Option<String>,
    /// How it is talked on and seen.
    #[serde(flatten)]
    pub look: Look,
    /// Where it stands among its siblings, the lowest first.
    pub order: u16,
}

/// A channel in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedChannel {
    /// The channel.
    #[serde(flatten)]
    pub channel: ChannelView,
    /// Paths of the channels that it is linked with.
    pub links: Vec<String>,
    /// The loaded preset that it came with.
    pub preset: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// `everyone`, `role NAME` or a person.
    pub subject: String,
    /// Where.
    pub at: At,
    /// What it allows.
    pub allow: Rights,
    /// What it denies.
    pub deny: Rights,
}

/// A preset in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresetSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Whether it is as it was loaded, if it is.
    pub current: bool,
    /// What it brings.
    pub brings: Brings,
}

/// How much a preset brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brings {
    /// Channels.
    pub channels: usize,
    /// Rules.
    pub rules: usize,
    /// Grants.
    pub grants: usize,
    /// Layouts.
    pub layouts: usize,
}

/// A preset with all that it brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresetView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Channels.
    pub channels: Vec<ChannelView>,
    /// Rules.
    pub rules: Vec<RuleView>,
    /// Roles that it gives.
    pub grants: Vec<GrantView>,
    /// What is heard, and what keys talk to.
    pub layouts: Vec<LayoutView>,
}

/// A role that a preset gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Which.
    pub role: String,
    /// Where.
    pub at: At,
    /// To whom.
    pub members: Vec<String>,
}

/// What somebody hears while a preset is loaded, and what each key talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutView {
    /// `everyone`, `role NAME` or a person.
    #[serde(rename = "for")]
    pub subject: String,
    /// What is heard.
    pub nets: Vec<PlannedNet>,
    /// The channels that each key talks to, the main key first.
    pub keys: Vec<Vec<String>>,
}

/// How a preset has a channel heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNet {
    /// The channel's path.
    pub channel: String,
    /// Higher ones turn lower ones down.
    pub priority: u8,
    /// In percent, -100 (left) to 100 (right).
    pub pan: i8,
    /// In percent, 100 being as sent.
    pub volume: u16,
}

/// A ticket that this device knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTicket {
    /// Its number.
    pub number: String,
    /// Its key.
    pub key: String,
    /// Who issued it, by id, unless that member is gone.
    pub issuer: Option<String>,
    /// The name of that member.
    pub issued_by: Option<String>,
    /// Whether the member who asks issued it.
    pub yours: bool,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// How many devices may join by it; 0 is any number.
    pub uses: u8,
    /// The role that comes with it, by id.
    pub role: Option<String>,
    /// The name of that role.
    pub role_name: Option<String>,
    /// Whether it adds a device to a member.
    pub for_device: bool,
    /// Whether newcomers are let in by hand.
    pub ask: bool,
    /// Who came in by it at this device.
    pub used_by: Vec<TicketUse>,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// A device that came in by a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketUse {
    /// The device.
    pub device: String,
    /// Its member's name, unless the device belongs no more.
    pub name: Option<String>,
}

/// A relay that the charter names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// Its device.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Devices that it serves at once; 0 is any number.
    pub members: u16,
    /// What it may send, in kbit/s; 0 is any rate.
    pub kbps: u32,
}

impl From<&Relay> for RelayView {
    fn from(relay: &Relay) -> Self {
        Self {
            device: relay.device.to_string(),
            name: relay.name.clone(),
            addresses: relay.addresses.iter().map(SocketAddr::to_string).collect(),
            members: relay.members_max,
            kbps: relay.rate_kbps,
        }
    }
}

impl fmt::Display for RelayView {
    /// Its name and what is known of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, addresses) = (ending(&self.device), self.addresses.join(", "));
        write!(f, "{} ({device}) at {addresses}", self.name)?;
        if self.members > 0 {
            write!(f, ", at most {}", counted(self.members.into(), "device"))?;
        }
        if self.kbps > 0 {
            write!(f, ", at most {} kbit/s", self.kbps)?;
        }
        Ok(())
    }
}

/// The devices of the member who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDevices {
    /// The member, by id.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Its devices.
    pub devices: Vec<OwnDevice>,
    /// Its printed recovery key, if it has one.
    pub recovery: Option<String>,
    /// The code by which another machine consents to be one of them.
    pub code: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDevice {
    /// The device.
    pub device: String,
    /// Whether it is the one that asks.
    pub this: bool,
    /// Whether it is the member's first.
    pub first: bool,
    /// Whether it is a root key.
    pub root: bool,
}

/// What a check of the whole charter has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharterCheck {
    /// Whether all holds. What does not is an error, and no outcome.
    pub holds: bool,
    /// The hash of the state that follows.
    pub digest: String,
    /// Root documents.
    pub roots: usize,
    /// Members' certificates.
    pub certificates: usize,
    /// Certificates that no operation lists yet.
    pub unlisted_certificates: usize,
    /// Operations.
    pub operations: usize,
    /// Operations that count for nothing.
    pub void: usize,
    /// Changes that were denied.
    pub denied: usize,
    /// The number of the last checkpoint; 0 before the first.
    pub checkpoint: u32,
    /// Whether the root keys have signed two documents of one version.
    pub forked: bool,
    /// Members who hold a root key.
    pub stand_for_the_organisation: usize,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEntry {
    /// The founding.
    Founded {
        /// The root document.
        id: String,
        /// Who founded.
        by: String,
        /// What there was from the start.
        changes: Vec<ChangeView>,
    },
    /// An operation.
    Operation(Box<LoggedOperation>),
}

/// An operation, as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOperation {
    /// Its hash.
    pub id: String,
    /// Who made it.
    pub author: String,
    /// The device that signed it.
    pub device: String,
    /// The author's term.
    pub term: u32,
    /// Its number in that term.
    pub sequence: u64,
    /// Its logical time.
    pub lamport: u64,
    /// The rank that it counts with: 0 for the organisation, 251 as a member; `None` if it is void.
    pub level: Option<u16>,
    /// Why it is void, in a line.
    pub void: Option<String>,
    /// Who signed along.
    pub cosigners: Vec<String>,
    /// Members whom it cuts off at what was known.
    pub cuts: Vec<String>,
    /// Its changes, as far as the asker may see them.
    pub changes: Vec<LoggedChange>,
}

/// A change of an operation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedChange {
    /// The change.
    pub change: ChangeView,
    /// Whether it was done.
    pub done: bool,
    /// Why it was denied.
    pub denied: Option<DenialView>,
}

/// Why a change was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialView {
    /// In a line.
    pub reason: String,
    /// Where a right was missing, if one was and the asker may see that place.
    pub at: Option<At>,
}

/// What decides about a right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyView {
    /// The member, by id.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Which right.
    pub right: String,
    /// Where.
    pub at: At,
    /// Whether the member has it.
    pub allowed: bool,
    /// What decides.
    pub decided_by: DecisionView,
    /// What made that so.
    pub source: Option<SourceView>,
    /// What was looked at, the nearest first; the last decides.
    pub chain: Vec<Step>,
}

/// What decides about a right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DecisionView {
    /// A root key, which may do everything but hear and talk.
    Root,
    /// A mute.
    Mute {
        /// Where.
        at: At,
        /// Until when.
        until: Until,
    },
    /// A ban.
    Ban {
        /// Where.
        at: At,
        /// Until when.
        until: Until,
    },
    /// A rule.
    Rule {
        /// Whether it allows.
        allows: bool,
        /// Where it stands.
        at: At,
        /// For whom: `everyone`, `role NAME` or a person.
        subject: String,
        /// The preset that it came with.
        preset: Option<String>,
    },
    /// A role.
    Role {
        /// Which.
        role: String,
        /// Where it is held.
        at: At,
        /// Whether it is the role that everybody has.
        everybody: bool,
    },
    /// Nothing gives the right.
    Nothing,
    /// There is no such channel any more.
    NoChannel,
}

/// What made something so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceView {
    /// The founding.
    Founded,
    /// An operation.
    Operation {
        /// Its hash.
        operation: String,
        /// Who made it.
        author: String,
        /// The rank that it counts with, as in [`LoggedOperation::level`].
        level: Option<u16>,
        /// Why it is void, in a line.
        void: Option<String>,
    },
    /// An operation that a checkpoint has settled.
    Settled {
        /// Its hash.
        operation: String,
    },
}

/// What was looked at on the way to a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The root keys: this member holds one.
    RootKeys(String),
    /// Mutes and bans, which no rule and no role gives back.
    Sanctions,
    /// The rules of a place.
    Place {
        /// Which.
        at: At,
        /// The rules that decide.
        deciding: Vec<RuleView>,
        /// Rules that are less particular than those.
        less_particular: Vec<RuleView>,
        /// Rules that do not count, by who set them.
        outranked: Vec<RuleView>,
    },
    /// The rules of a place, none of which binds this member, who does not stand below those who
    /// set them.
    Unbound {
        /// Which place.
        at: At,
        /// The member's name.
        name: String,
        /// The rules that speak of the right; with none, nothing was found there.
        rules: Vec<RuleView>,
    },
    /// The roles that are held there, each with whether it has the right.
    Roles(Vec<(String, bool)>),
}

/// The signatures that a draft still lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Those of these people.
    People(Vec<String>),
    /// So many root keys more.
    RootKeys(usize),
    /// All of these needs. One signature may meet several of them. [CHARTER-2.2]
    Needs(Vec<SignatureNeed>),
}

impl Missing {
    /// Each need in a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::People(people) => vec![format!("{} {} not", listed(people, "and"), has(people))],
            Self::RootKeys(count) => vec![format!("{} more", counted(*count, "root key"))],
            Self::Needs(needs) => needs.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

/// `has`, `have`
pub(crate) fn has<T>(people: &[T]) -> &'static str {
    if people.len() == 1 { "has" } else { "have" }
}

/// Signatures that a root document needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureNeed {
    /// So many of the root keys that there are.
    Present {
        /// How many.
        count: usize,
        /// Of which keys.
        of: Vec<RootKeyView>,
    },
    /// So many of the root keys that there shall be.
    Coming {
        /// How many.
        count: usize,
        /// Of which keys.
        of: Vec<RootKeyView>,
    },
    /// One of this key, or of one above it: no lower key does this alone.
    Senior(RootKeyView),
}

impl fmt::Display for SignatureNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |key: &RootKeyView| format!("{} ({})", key.short(), key.whose());
        let (which, count, of) = match self {
            Self::Present { count, of } => ("there are", count, of),
            Self::Coming { count, of } => ("there shall be", count, of),
            Self::Senior(key) => {
                let key = words(key);
                return write!(
                    f,
                    "as no lower key does this alone: 1 signature of {key} or a key above it"
                );
            }
        };
        let (count, keys) = (counted(*count, "signature"), of.iter().map(words));
        let keys = listed(&keys.collect::<Vec<_>>(), "or");
        write!(f, "of the root keys that {which}: {count} of {keys}")
    }
}

/// The last characters of a device's text, which tell it apart from others.
fn ending(device: &str) -> &str {
    device.get(device.len().saturating_sub(SHORT)..).unwrap_or(device)
}

/// Characters that tell devices apart.
const SHORT: usize = 6;
