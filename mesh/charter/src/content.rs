//! What an organisation is made of besides its people: channels, roles, rules, presets, relays,
//! policies. [section 4 of docs/charter.md]

use std::{fmt, net::SocketAddr, ops};

use hark_keys::{ChannelId, DeviceId, List, MemberId, PresetId, RoleId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::clean_name;

/// One right or several, as bits. [section 6 of docs/charter.md]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capabilities(u16);

impl Capabilities {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// May be on a channel.
    pub const JOIN: Self = Self(1);
    /// May hear a channel.
    pub const LISTEN: Self = Self(1 << 1);
    /// May talk on a channel.
    pub const SPEAK: Self = Self(1 << 2);
    /// May talk over others.
    pub const PRIORITY: Self = Self(1 << 3);
    /// May talk to persons and roles.
    pub const WHISPER: Self = Self(1 << 4);
    /// May move others between channels, and keep those out of one who stand lower.
    pub const MOVE: Self = Self(1 << 5);
    /// May take others' right to speak on a channel, and give it back.
    pub const MUTE: Self = Self(1 << 6);
    /// May make, edit, move and remove channels.
    pub const MANAGE_CHANNELS: Self = Self(1 << 7);
    /// May define roles, grant them, and set rules.
    pub const MANAGE_ROLES: Self = Self(1 << 8);
    /// May admit members.
    pub const ADMIT: Self = Self(1 << 9);
    /// May edit, load and unload presets.
    pub const EDIT_PRESETS: Self = Self(1 << 10);
    /// May name relays.
    pub const APPOINT_RELAYS: Self = Self(1 << 11);
    /// May remove and ban members who stand lower, and let those who are banned in again.
    pub const BAN: Self = Self(1 << 12);
    /// What is about hearing and talking.
    pub const ALL_OF_SPEECH: Self = Self((1 << 5) - 1);
    /// Everything.
    pub const ALL: Self = Self((1 << RIGHTS.len()) - 1);

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether none are set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each right by itself.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        (0..RIGHTS.len()).map(|bit| Self(1 << bit)).filter(move |one| self.contains(*one))
    }

    /// The right that people call so, words joined by `-`.
    pub fn named(name: &str) -> Option<Self> {
        RIGHTS.iter().position(|(known, _)| *known == name).map(|bit| Self(1 << bit))
    }

    /// Only bits that mean something here.
    pub const fn is_known(self) -> bool {
        Self::ALL.contains(self)
    }
}

impl ops::BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl ops::BitOrAssign for Capabilities {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl ops::Sub for Capabilities {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The rights by name, separated by commas; `none` where there are none.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = RIGHTS.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        let names: Vec<_> = set.map(|(_, (name, _))| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The rights in the order of their bits: what each is called, and what its holder may do.
pub const RIGHTS: [(&str, &str); 13] = [
    ("join", "be on a channel"),
    ("listen", "hear a channel"),
    ("speak", "talk on a channel"),
    ("priority", "talk over others"),
    ("whisper", "talk to single persons and to roles"),
    ("move", "move people of lower rank between channels, and ban and unban them there"),
    ("mute", "mute and unmute people of lower rank"),
    ("manage-channels", "make, change and remove channels"),
    ("manage-roles", "make roles, give and take them, and set rules, all below the own rank"),
    ("admit", "invite and let in new members"),
    ("edit-presets", "make, load and unload presets"),
    ("appoint-relays", "name relays for everybody"),
    ("ban", "kick people of lower rank out of the organisation, and ban and unban them"),
];

/// How high somebody stands: the smaller, the higher. 0 is the root keys', [`Rank::LOWEST`] that
/// of members without any role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(pub u8);

impl Rank {
    /// Of the root keys.
    pub const ROOT: Self = Self(0);
    /// Of the highest role that there can be.
    pub const HIGHEST: Self = Self(1);
    /// Of everybody who has no role.
    pub const LOWEST: Self = Self(251);
}

/// Where a role, a rule or a right holds: there and in all channels below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Everywhere.
    Organisation,
    /// In this channel and below.
    Channel(ChannelId),
}

/// Whom a rule or a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// All members.
    Everyone,
    /// Those who hold a role at the place.
    Role(RoleId),
    /// One person.
    Member(MemberId),
}

impl Subject {
    /// The smaller, the more particular. Everybody has the role `member`. [CHARTER-6.8]
    pub fn particularity(self) -> u8 {
        match self {
            Self::Member(_) => 0,
            Self::Everyone | Self::Role(MEMBER_ROLE) => 2,
            Self::Role(_) => 1,
        }
    }
}

/// A bundle of rights with a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its number, drawn at random; zero is what every member has.
    pub id: RoleId,
    /// What people call it.
    pub name: String,
    /// 1 to 250; 251 for the role that every member has.
    pub rank: Rank,
    /// What its holders may.
    pub capabilities: Capabilities,
}

/// The role that every member has. [CHARTER-6.2]
pub const MEMBER_ROLE: RoleId = RoleId::from_bytes([0; 16]);

/// What the role that a founder is given is called at first.
pub const FOUNDER_ROLE: &str = "founder";

/// A place to talk, a net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its number, drawn at random.
    pub id: ChannelId,
    /// What lies above it.
    pub parent: Place,
    /// What people call it.
    pub name: ChannelName,
    /// Who may talk at once.
    pub mode: ChannelMode,
    /// Devices that may be on it at once; 0 is any number.
    pub limit: u16,
    /// Where it stands among its siblings.
    pub order: u16,
}

/// A name that all may read, or only those who may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelName {
    /// For everybody.
    Listed(String),
    /// Sealed: the channel is hidden from all who have not the key.
    Hidden(SealedName),
}

/// A name under a key that those get who may join the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedName {
    /// What the key is called: 8 bytes of its hash.
    pub key_id: [u8; 8],
    /// The sealed name.
    pub sealed: List<u8, SEALED_NAME_MAX>,
}

/// Who may talk at once on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelMode {
    /// Everybody.
    Open,
    /// At most so many, at least one; who comes later waits.
    Floor(u8),
    /// Everybody, and relays pass on the so many loudest, at least one. [PROTO-9.14]
    Loudest(u8),
}

/// What a subject may and may not at a place, on top of its roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where.
    pub at: Place,
    /// For whom.
    pub subject: Subject,
    /// Allowed.
    pub allow: Capabilities,
    /// Denied; wins over what is allowed at the same place.
    pub deny: Capabilities,
}

/// A plan for an operation, loaded and unloaded as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// Its number, drawn at random.
    pub id: PresetId,
    /// What people call it.
    pub name: String,
    /// Channels that are there while it is loaded.
    pub channels: List<Channel, PRESET_CHANNELS_MAX>,
    /// Rules that hold meanwhile.
    pub rules: List<Rule, PRESET_RULES_MAX>,
    /// Roles that are granted meanwhile.
    pub grants: List<Grant, PRESET_GRANTS_MAX>,
    /// Who hears and talks on what, at first.
    pub layouts: List<Layout, PRESET_LAYOUTS_MAX>,
}

/// A role for some members at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which role.
    pub role: RoleId,
    /// Where.
    pub at: Place,
    /// For whom.
    pub members: List<MemberId, GRANT_MEMBERS_MAX>,
}

/// The radio of those whom it is for: what they hear, and what their keys talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Whose.
    pub subject: Subject,
    /// What is heard.
    pub nets: List<NetLayout, LAYOUT_NETS_MAX>,
    /// What each key talks to, the first being the main one.
    pub keys: List<List<ChannelId, LAYOUT_NETS_MAX>, LAYOUT_KEYS_MAX>,
}

/// How one net is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetLayout {
    /// Which.
    pub channel: ChannelId,
    /// Higher ones turn lower ones down.
    pub priority: u8,
    /// -100 left to 100 right.
    pub pan_percent: i8,
    /// 0 to 400, 100 being as sent.
    pub volume_percent: u16,
}

/// A device that forwards or lets others meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Which device.
    pub device: DeviceId,
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub addresses: List<SocketAddr, RELAY_ADDRESSES_MAX>,
    /// Devices it serves at once; 0 is any number.
    pub members_max: u16,
    /// What it may send, in kbit/s; 0 is any rate.
    pub rate_kbps: u32,
}

/// What an officer takes from a member at a place and below. No rule and no role gives it back
/// until it is lifted, or ends. [CHARTER-6.6]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sanction {
    /// From whom.
    pub member: MemberId,
    /// What.
    pub kind: SanctionKind,
    /// Where.
    pub at: Place,
    /// When it ends, by the clock of each device that judges it; none where it lasts until it is
    /// lifted.
    pub until: Option<UnixTime>,
    /// What people called the member then, as a name of somebody who is gone is soon forgotten; may
    /// be empty.
    pub name: String,
}

/// A kind of sanction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SanctionKind {
    /// May not speak there.
    Mute,
    /// May neither be there, nor hear, nor speak; everywhere: is no member, and not let in again.
    Ban,
}

impl SanctionKind {
    /// The rights that it takes at a place and below.
    pub fn takes(self, at: Place) -> Capabilities {
        match (self, at) {
            (Self::Mute, _) => Capabilities::SPEAK | Capabilities::PRIORITY | Capabilities::WHISPER,
            (Self::Ban, Place::Organisation) => Capabilities::ALL,
            (Self::Ban, Place::Channel(_)) => Capabilities::ALL_OF_SPEECH,
        }
    }

    /// The right that it takes to set or to lift it there.
    pub fn needs(self, at: Place) -> Capabilities {
        match (self, at) {
            (Self::Mute, _) => Capabilities::MUTE,
            (Self::Ban, Place::Organisation) => Capabilities::BAN,
            (Self::Ban, Place::Channel(_)) => Capabilities::MOVE,
        }
    }
}

/// A ticket that shall admit nobody any more. [CHARTER-9.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTicket {
    /// The member who has issued it: a ticket of anybody else is not meant.
    pub issuer: MemberId,
    /// Its public invite key.
    pub key: DeviceId,
    /// When it expires, and needs to be remembered no longer.
    pub expires: UnixTime,
}

/// A setting of the whole organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Policy {
    /// The longest that an invite may last, in hours; 0 is any time.
    InviteHoursMax(u32),
    /// Operations of one author that are taken from gossip in a day.
    OperationsPerDay(u32),
}

/// One thing that an operation does. [section 4 of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Defines a role.
    Role(Role),
    /// Ends a role for good.
    RemoveRole(RoleId),
    /// Gives a role.
    Grant(Grant),
    /// Takes it.
    Ungrant(Grant),
    /// Sets what a subject may at a place; empty, it removes the rule.
    Rule(Rule),
    /// Makes or edits a channel.
    Channel(Channel),
    /// Puts a channel elsewhere in the tree.
    MoveChannel {
        /// Which.
        channel: ChannelId,
        /// Below what.
        parent: Place,
    },
    /// Ends a channel and all below it, for good.
    RemoveChannel(ChannelId),
    /// Who hears one of two channels hears the other, or no longer.
    Link {
        /// The one with the smaller id.
        a: ChannelId,
        /// The other.
        b: ChannelId,
        /// Whether they are linked.
        linked: bool,
    },
    /// Makes or edits a preset.
    Preset(Box<Preset>),
    /// Ends a preset for good.
    RemovePreset(PresetId),
    /// Puts a preset into force.
    LoadPreset(PresetId),
    /// Puts it out of force.
    UnloadPreset(PresetId),
    /// Names a relay.
    Relay(Relay),
    /// Names it no longer.
    RemoveRelay(DeviceId),
    /// Settles a policy.
    Policy(Policy),
    /// Ends a membership: certificates of an admission below this one are not good any more.
    Remove {
        /// Whose.
        member: MemberId,
        /// One more than that of the certificate that ends.
        admission: u32,
    },
    /// Lists certificates that the author's member has issued.
    Admitted(List<hark_keys::ObjectHash, ADMITTED_MAX>),
    /// Adds a device to the author's own.
    AddDevice {
        /// Which.
        device: DeviceId,
        /// Its signature over organisation and member.
        consent: hark_keys::Signature,
    },
    /// Ends one of the author's own devices.
    RetireDevice {
        /// Which.
        device: DeviceId,
        /// Its operations of this term stand,
        term: u32,
        /// up to this one.
        last: u64,
    },
    /// Mutes or bans a member.
    Sanction(Sanction),
    /// Ends that before its time.
    Lift {
        /// Whose.
        member: MemberId,
        /// Which.
        kind: SanctionKind,
        /// Where it was set.
        at: Place,
    },
    /// Has doors refuse one ticket.
    RevokeTicket(RevokedTicket),
    /// Has doors refuse all tickets that were issued so far: those of one member, or all.
    RevokeTickets(Option<MemberId>),
}

impl Change {
    /// Whether it makes sense by itself, whoever makes it: names are fit to be shown, numbers
    /// within their ranges, lists without repetition. [CHARTER-4.9] [CHARTER-4.22]
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Role(role) => {
                is_name(&role.name) && is_rank(role) && role.capabilities.is_known()
            }
            Self::RemoveRole(role) => *role != MEMBER_ROLE,
            Self::Grant(grant) | Self::Ungrant(grant) => is_grant(grant),
            Self::Rule(rule) => is_rule(rule),
            Self::Channel(channel) => is_channel(channel),
            Self::MoveChannel { channel, parent } => *parent != Place::Channel(*channel),
            Self::Link { a, b, .. } => a < b,
            Self::Preset(preset) => is_preset(preset),
            Self::Relay(relay) => is_name(&relay.name) && !relay.addresses.is_empty(),
            Self::Policy(Policy::OperationsPerDay(operations)) => *operations > 0,
            Self::Policy(Policy::InviteHoursMax(_))
            | Self::RemoveChannel(_)
            | Self::RemovePreset(_)
            | Self::LoadPreset(_)
            | Self::UnloadPreset(_)
            | Self::RemoveRelay(_)
            | Self::Admitted(_)
            | Self::AddDevice { .. }
            | Self::RetireDevice { .. }
            | Self::Lift { .. }
            | Self::RevokeTicket(_)
            | Self::RevokeTickets(_) => true,
            Self::Sanction(sanction) => sanction.name == clean_name(&sanction.name),
            Self::Remove { admission, .. } => *admission > 0,
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && *name == clean_name(name)
}

fn is_rank(role: &Role) -> bool {
    let member = role.id == MEMBER_ROLE;
    if member { role.rank == Rank::LOWEST } else { (1..Rank::LOWEST.0).contains(&role.rank.0) }
}

fn is_grant(grant: &Grant) -> bool {
    grant.role != MEMBER_ROLE && grant.members.is_sorted_by(|a, b| a < b)
}

fn is_rule(rule: &Rule) -> bool {
    rule.allow.is_known() && rule.deny.is_known()
}

fn is_channel(channel: &Channel) -> bool {
    let named = match &channel.name {
        ChannelName::Listed(name) => is_name(name),
        ChannelName::Hidden(name) => !name.sealed.is_empty(),
    };
    let nobody = matches!(channel.mode, ChannelMode::Floor(0) | ChannelMode::Loudest(0));
    named && !nobody && channel.parent != Place::Channel(channel.id)
}

fn is_preset(preset: &Preset) -> bool {
    let net =
        |net: &NetLayout| (-100..=100).contains(&net.pan_percent) && net.volume_percent <= 400;
    let mut ids: Vec<_> = preset.channels.iter().map(|channel| channel.id).collect();
    ids.sort_unstable();
    is_name(&preset.name)
        && preset.channels.iter().all(is_channel)
        && ids.is_sorted_by(|a, b| a < b)
        && preset.rules.iter().all(is_rule)
        && preset.grants.iter().all(is_grant)
        && preset.layouts.iter().flat_map(|layout| layout.nets.iter()).all(net)
}

/// Bytes of a sealed name: the longest name and its tag.
pub const SEALED_NAME_MAX: usize = crate::NAME_MAX_BYTES + 16;

/// Channels of a preset.
pub const PRESET_CHANNELS_MAX: usize = 64;

/// Rules of a preset.
pub const PRESET_RULES_MAX: usize = 64;

/// Grants of a preset.
pub const PRESET_GRANTS_MAX: usize = 32;

/// Layouts of a preset.
pub const PRESET_LAYOUTS_MAX: usize = 32;

/// Members of one grant; more take another.
pub const GRANT_MEMBERS_MAX: usize = 64;

/// Nets of a layout, and of one of its keys.
pub const LAYOUT_NETS_MAX: usize = 32;

/// Keys of a layout.
pub const LAYOUT_KEYS_MAX: usize = 16;

/// Addresses of a relay.
pub const RELAY_ADDRESSES_MAX: usize = 8;

/// Certificates that one change lists.
pub const ADMITTED_MAX: usize = 100;
