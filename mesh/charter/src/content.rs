//! The content of an organisation besides its members: channels, roles, rules, presets, relays,
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
    /// May move others between channels, and keep members of lower standing out of one.
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
    /// May remove and ban members of lower standing, and let banned members in again.
    pub const BAN: Self = Self(1 << 12);
    /// The rights that concern hearing and talking.
    pub const ALL_OF_SPEECH: Self = Self((1 << 5) - 1);
    /// All rights.
    pub const ALL: Self = Self((1 << RIGHTS.len()) - 1);

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no right is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each right by itself.
    pub fn iter(self) -> impl Iterator<Item = Self> {
        (0..RIGHTS.len()).map(|bit| Self(1 << bit)).filter(move |one| self.contains(*one))
    }

    /// The right with this name, whose words are joined by `-`.
    pub fn named(name: &str) -> Option<Self> {
        RIGHTS.iter().position(|(known, _)| *known == name).map(|bit| Self(1 << bit))
    }

    /// Whether only bits with a meaning are set.
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

/// The names of the rights, separated by commas; `none` if there are none.
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

/// The rights in the order of their bits: the name of each, and what its holder may do.
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

/// How high somebody stands: the smaller, the higher. 0 is the rank of the root keys,
/// [`Rank::LOWEST`] that of members without any role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(pub u8);

impl Rank {
    /// The rank of the root keys.
    pub const ROOT: Self = Self(0);
    /// The rank of the highest possible role.
    pub const HIGHEST: Self = Self(1);
    /// The rank of everybody without a role.
    pub const LOWEST: Self = Self(251);
}

/// The place where a role, a rule or a right holds: there and in all channels below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Everywhere.
    Organisation,
    /// In this channel and below.
    Channel(ChannelId),
}

/// The members whom a rule or a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// All members.
    Everyone,
    /// The members who hold a role at the place.
    Role(RoleId),
    /// One member.
    Member(MemberId),
}

impl Subject {
    /// How particular a rule for the subject is: the smaller, the more particular. Everybody has
    /// the role `member`. [CHARTER-6.8]
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
    /// Its id, drawn at random; zero for the role that every member has.
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// Its rank, 1 to 250; 251 for the role that every member has.
    pub rank: Rank,
    /// The rights of its holders.
    pub capabilities: Capabilities,
}

/// The role that every member has. [CHARTER-6.2]
pub const MEMBER_ROLE: RoleId = RoleId::from_bytes([0; 16]);

/// The name that a founder's role has at first.
pub const FOUNDER_ROLE: &str = "founder";

/// A channel: a place to talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id, drawn at random.
    pub id: ChannelId,
    /// The place above it.
    pub parent: Place,
    /// Its name.
    pub name: ChannelName,
    /// How many may talk at once, and how.
    pub mode: ChannelMode,
    /// What it is for, by which talkers choose how they code.
    pub sound: ChannelSound,
    /// The most devices that may be on it at once; 0 is any number.
    pub limit: u16,
    /// Its position among its siblings.
    pub order: u16,
}

/// A name that everybody can read, or only members who may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelName {
    /// A name that everybody can read.
    Listed(String),
    /// A sealed name: the channel is hidden from all who do not have the key.
    Hidden(SealedName),
}

/// A name sealed under a key that members who may join the channel get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedName {
    /// The id of the key: 8 bytes of its hash.
    pub key_id: [u8; 8],
    /// The sealed name.
    pub sealed: List<u8, SEALED_NAME_MAX>,
}

/// Who may talk at once on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelMode {
    /// Everybody.
    Open,
    /// At most this many, at least one; later talkers wait.
    Floor(u8),
    /// Everybody; relays pass on the loudest, this many, at least one. [PROTO-9.14]
    Loudest(u8),
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelSound {
    /// Speech.
    #[default]
    Speech,
    /// Music at this bit rate in kbit/s, [`MUSIC_KBPS`].
    Music(u8),
    /// Music in stereo, at such a bit rate for both sides together.
    Stereo(u8),
}

/// The bit rates that a channel for music may have, in kbit/s.
pub const MUSIC_KBPS: ops::RangeInclusive<u8> = 96..=192;

/// The rights that a subject has and does not have at a place, in addition to its roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The place at which the rule stands.
    pub at: Place,
    /// The members whom it is for.
    pub subject: Subject,
    /// The rights that it allows.
    pub allow: Capabilities,
    /// The rights that it denies.
    pub deny: Capabilities,
}

/// A plan for an operation, loaded and unloaded as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// Its id, drawn at random.
    pub id: PresetId,
    /// Its name.
    pub name: String,
    /// Channels that are there while it is loaded.
    pub channels: List<Channel, PRESET_CHANNELS_MAX>,
    /// Rules that hold while it is loaded.
    pub rules: List<Rule, PRESET_RULES_MAX>,
    /// Roles that are granted while it is loaded.
    pub grants: List<Grant, PRESET_GRANTS_MAX>,
    /// What members hear and talk to at first.
    pub layouts: List<Layout, PRESET_LAYOUTS_MAX>,
}

/// A role for some members at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: RoleId,
    /// The place at which it is granted.
    pub at: Place,
    /// The members who get it.
    pub members: List<MemberId, GRANT_MEMBERS_MAX>,
}

/// The radio of the members whom it is for: what they hear, and what their keys talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The members whom it is for.
    pub subject: Subject,
    /// The nets that they hear.
    pub nets: List<NetLayout, LAYOUT_NETS_MAX>,
    /// The channels that each key talks to; the first key is the main one.
    pub keys: List<List<ChannelId, LAYOUT_NETS_MAX>, LAYOUT_KEYS_MAX>,
}

/// How one net is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetLayout {
    /// The channel of the net.
    pub channel: ChannelId,
    /// The priority; nets of higher priority turn down those of lower priority.
    pub priority: u8,
    /// The position in percent, from -100 (left) to 100 (right).
    pub pan_percent: i8,
    /// The volume in percent, 0 to 400; 100 is as sent.
    pub volume_percent: u16,
}

/// A device that forwards voice or lets others meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The relay's device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// The addresses at which it listens.
    pub addresses: List<SocketAddr, RELAY_ADDRESSES_MAX>,
    /// The most devices that it serves at once; 0 is any number.
    pub members_max: u16,
    /// The most that it may send, in kbit/s; 0 is any rate.
    pub rate_kbps: u32,
}

/// What an officer takes from a member at a place and below. No rule and no role gives it back
/// until it is lifted, or ends. [CHARTER-6.6]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sanction {
    /// The member.
    pub member: MemberId,
    /// What is taken from the member.
    pub kind: SanctionKind,
    /// The place at which it holds, and below.
    pub at: Place,
    /// When it ends, by the clock of each device that judges it; `None` if it lasts until it is
    /// lifted.
    pub until: Option<UnixTime>,
    /// The member's name at that time, since the name of a member who is gone is soon forgotten. It
    /// may be empty.
    pub name: String,
}

/// A kind of sanction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SanctionKind {
    /// The member may not speak there.
    Mute,
    /// The member may not be there, hear or speak. Everywhere: the banned person is not a member,
    /// and is not let in again.
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

    /// The right that is needed to set or to lift it there.
    pub fn needs(self, at: Place) -> Capabilities {
        match (self, at) {
            (Self::Mute, _) => Capabilities::MUTE,
            (Self::Ban, Place::Organisation) => Capabilities::BAN,
            (Self::Ban, Place::Channel(_)) => Capabilities::MOVE,
        }
    }
}

/// A ticket that shall no longer admit anybody. [CHARTER-9.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTicket {
    /// The member who has issued it. A ticket of another issuer is not affected.
    pub issuer: MemberId,
    /// Its public invite key.
    pub key: DeviceId,
    /// When it expires; after that it need not be remembered.
    pub expires: UnixTime,
}

/// A setting of the whole organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Policy {
    /// The longest that an invite may last, in hours; 0 is any time.
    InviteHoursMax(u32),
    /// How many operations of one author are taken from gossip in a day.
    OperationsPerDay(u32),
}

/// One change that an operation makes. [section 4 of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Defines or redefines a role.
    Role(Role),
    /// Ends a role for good.
    RemoveRole(RoleId),
    /// Gives a role.
    Grant(Grant),
    /// Takes a role away.
    Ungrant(Grant),
    /// Sets what a subject may do at a place; an empty rule removes it.
    Rule(Rule),
    /// Makes or edits a channel.
    Channel(Channel),
    /// Puts a channel elsewhere in the tree.
    MoveChannel {
        /// The channel to move.
        channel: ChannelId,
        /// The place below which it is put.
        parent: Place,
    },
    /// Ends a channel and all below it, for good.
    RemoveChannel(ChannelId),
    /// Links two channels, so that a listener of one hears the other; or unlinks them.
    Link {
        /// The channel with the smaller id.
        a: ChannelId,
        /// The other channel.
        b: ChannelId,
        /// Whether they are linked from now on.
        linked: bool,
    },
    /// Makes or edits a preset.
    Preset(Box<Preset>),
    /// Ends a preset for good.
    RemovePreset(PresetId),
    /// Puts a preset into force.
    LoadPreset(PresetId),
    /// Takes a preset out of force.
    UnloadPreset(PresetId),
    /// Names a relay.
    Relay(Relay),
    /// Removes a relay.
    RemoveRelay(DeviceId),
    /// Sets a policy.
    Policy(Policy),
    /// Ends a membership: certificates of an admission below this one are no longer good.
    Remove {
        /// The member to remove.
        member: MemberId,
        /// One more than the admission of the certificate that ends.
        admission: u32,
    },
    /// Lists certificates that the author's member has issued.
    Admitted(List<hark_keys::ObjectHash, ADMITTED_MAX>),
    /// Adds a device to those of the author's member.
    AddDevice {
        /// The new device.
        device: DeviceId,
        /// The new device's signature over organisation and member.
        consent: hark_keys::Signature,
    },
    /// Ends one of the devices of the author's member.
    RetireDevice {
        /// The device to retire.
        device: DeviceId,
        /// The term of its last operation that stands.
        term: u32,
        /// The number of that operation in the term.
        last: u64,
    },
    /// Mutes or bans a member.
    Sanction(Sanction),
    /// Ends a mute or a ban before its time.
    Lift {
        /// The member whose mute or ban ends.
        member: MemberId,
        /// Whether it is the mute or the ban.
        kind: SanctionKind,
        /// The place where it was set.
        at: Place,
    },
    /// Makes doors refuse one ticket.
    RevokeTicket(RevokedTicket),
    /// Makes doors refuse all tickets that were issued so far: those of one member, or of everybody
    /// if it is `None`.
    RevokeTickets(Option<MemberId>),
}

impl Change {
    /// Whether the change is sound by itself, whoever makes it: names are fit to be shown, numbers
    /// are within their ranges, and lists have no repetition. [CHARTER-4.9] [CHARTER-4.22]
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
    let coded = match channel.sound {
        ChannelSound::Speech => true,
        ChannelSound::Music(kbps) | ChannelSound::Stereo(kbps) => MUSIC_KBPS.contains(&kbps),
    };
    named && !nobody && coded && channel.parent != Place::Channel(channel.id)
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

/// The most bytes of a sealed name: the longest name and its tag.
pub const SEALED_NAME_MAX: usize = crate::NAME_MAX_BYTES + 16;

/// The most channels of a preset.
pub const PRESET_CHANNELS_MAX: usize = 64;

/// The most rules of a preset.
pub const PRESET_RULES_MAX: usize = 64;

/// The most grants of a preset.
pub const PRESET_GRANTS_MAX: usize = 32;

/// The most layouts of a preset.
pub const PRESET_LAYOUTS_MAX: usize = 32;

/// The most members of one grant; more need a further grant.
pub const GRANT_MEMBERS_MAX: usize = 64;

/// The most nets of a layout, and of one of its keys.
pub const LAYOUT_NETS_MAX: usize = 32;

/// The most keys of a layout.
pub const LAYOUT_KEYS_MAX: usize = 16;

/// The most addresses of a relay.
pub const RELAY_ADDRESSES_MAX: usize = 8;

/// The most certificates that one change lists.
pub const ADMITTED_MAX: usize = 100;
