//! Commands about one kind of thing each.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{How, Right};
#[cfg(feature = "clap")]
use super::{preset_help, rights_help};
#[cfg(feature = "clap")]
use crate::Mistake;
use crate::file::InputFile;

/// `hark charter channel …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum ChannelRequest {
    /// The tree
    List,
    /// Make a channel
    Add {
        /// What it is called
        name: String,
        /// The channel that it lies below
        #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
        #[serde(default)]
        under: Option<String>,
        /// Only holders of this role may join, listen and speak; repeatable
        #[cfg_attr(feature = "clap", arg(long, value_name = "ROLE"))]
        #[serde(default)]
        only: Vec<String>,
        /// What it is like.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        look: ChannelLook,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Change a channel
    Edit {
        /// Name, path or #id
        channel: String,
        /// Call it so from now on
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        name: Option<String>,
        /// Everybody may talk at once
        #[cfg_attr(feature = "clap", arg(long, conflicts_with_all = ["floor", "loudest"]))]
        #[serde(default)]
        open: bool,
        /// Everybody sees its name
        #[cfg_attr(feature = "clap", arg(long, conflicts_with = "hidden"))]
        #[serde(default)]
        listed: bool,
        /// It is for speech, no longer for music
        #[cfg_attr(feature = "clap", arg(long, conflicts_with_all = ["music", "stereo"]))]
        #[serde(default)]
        speech: bool,
        /// What it is like.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        look: ChannelLook,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Put a channel elsewhere in the tree
    #[cfg_attr(feature = "clap", command(group = clap::ArgGroup::new("where").required(true).args(["under", "top"])))]
    Move {
        /// Name, path or #id
        channel: String,
        /// Below this channel
        #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
        #[serde(default)]
        under: Option<String>,
        /// Below none
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        top: bool,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Remove a channel and all below it, for good
    Remove {
        /// Name, path or #id
        channel: String,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Let two channels hear each other
    Link(PairRequest),
    /// End that
    Unlink(PairRequest),
}

/// What a channel is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default)]
pub struct ChannelLook {
    /// At most N talk at once, others wait
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..)))]
    pub floor: Option<u8>,
    /// All may talk, and relays pass on the N loudest
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", conflicts_with = "floor"))]
    #[cfg_attr(feature = "clap", arg(value_parser = clap::value_parser!(u8).range(1..)))]
    pub loudest: Option<u8>,
    /// It is for music, which talkers send at 96 to 192 kbit/s
    #[cfg_attr(feature = "clap", arg(long, value_name = "KBPS", value_parser = clap::value_parser!(u8).range(96..=192)))]
    pub music: Option<u8>,
    /// The music is sent in stereo, and without this in mono
    #[cfg_attr(feature = "clap", arg(long, requires = "music"))]
    pub stereo: bool,
    /// At most N devices are on it; 0 is any number
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub limit: Option<u16>,
    /// Where it stands among its siblings, the lowest first [default of a new one: the last]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub order: Option<u16>,
    /// Only those see it who may join it
    #[cfg_attr(feature = "clap", arg(long))]
    pub hidden: bool,
}

/// Two channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct PairRequest {
    /// One
    pub a: String,
    /// The other
    pub b: String,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// `hark charter role …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum RoleRequest {
    /// All roles, the highest first
    List,
    /// Define a role
    #[cfg_attr(feature = "clap", command(after_long_help = rights_help()))]
    Add {
        /// What it is called
        name: String,
        /// 1 to 250, the smaller the higher
        #[cfg_attr(feature = "clap", arg(long, value_name = "N", value_parser = rank))]
        rank: u8,
        /// What its holders may, separated by commas; --help lists the rights
        #[cfg_attr(feature = "clap", arg(long, value_name = "RIGHTS", value_delimiter = ','))]
        #[serde(default)]
        can: Vec<Right>,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Change a role
    #[cfg_attr(feature = "clap", command(after_long_help = rights_help()))]
    Edit {
        /// Which
        role: String,
        /// Call it so from now on
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        name: Option<String>,
        /// 1 to 250, the smaller the higher
        #[cfg_attr(feature = "clap", arg(long, value_name = "N", value_parser = rank))]
        #[serde(default)]
        rank: Option<u8>,
        /// All that its holders may from now on, separated by commas; none for nothing; --help
        /// lists the rights
        #[cfg_attr(feature = "clap", arg(long, value_name = "RIGHTS", value_delimiter = ','))]
        #[serde(default)]
        can: Option<Vec<Right>>,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Remove a role for good
    Remove {
        /// Which
        role: String,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
}

/// A role for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct GrantRequest {
    /// Which role
    pub role: String,
    /// Names, name#id or devices; me for yourself
    #[cfg_attr(feature = "clap", arg(required = true, value_name = "PERSON"))]
    pub people: Vec<String>,
    /// Only in this channel and below
    #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
    #[serde(default)]
    pub at: Option<String>,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// What a subject may at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["allow", "deny", "unset", "clear"])))]
pub struct RuleRequest {
    /// everyone, role:NAME or a person
    pub subject: String,
    /// In this channel and below; everywhere if left out
    #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
    #[serde(default)]
    pub at: Option<String>,
    /// Rights to allow, separated by commas; --help lists them
    #[cfg_attr(feature = "clap", arg(long, value_name = "RIGHTS", value_delimiter = ','))]
    #[serde(default)]
    pub allow: Vec<Right>,
    /// Rights to deny
    #[cfg_attr(feature = "clap", arg(long, value_name = "RIGHTS", value_delimiter = ','))]
    #[serde(default)]
    pub deny: Vec<Right>,
    /// Rights of which the rule shall not speak any more
    #[cfg_attr(feature = "clap", arg(long, value_name = "RIGHTS", value_delimiter = ','))]
    #[serde(default)]
    pub unset: Vec<Right>,
    /// Forget what the rule said before
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default)]
    pub clear: bool,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// `hark charter mute`, `hark charter ban`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct SanctionRequest {
    /// Name, name#id or device
    pub person: String,
    /// Only in this channel and below
    #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
    #[serde(default)]
    pub at: Option<String>,
    /// How long, such as 10m, 24h or 7d; until it is lifted where this is left out
    #[cfg_attr(feature = "clap", arg(long = "for", value_name = "DURATION", value_parser = crate::duration::parse_secs))]
    #[serde(default)]
    pub seconds: Option<u64>,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// `hark charter unmute`, `hark charter unban`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct LiftRequest {
    /// Name, name#id or device
    pub person: String,
    /// The channel where it was set
    #[cfg_attr(feature = "clap", arg(long, value_name = "CHANNEL"))]
    #[serde(default)]
    pub at: Option<String>,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// `hark ticket list`, `hark ticket revoke`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum TicketsRequest {
    /// Tickets that this device has issued or let people in by, until they expire
    List,
    /// Have no door take a ticket any more; who came in by it stays
    Revoke {
        /// Its number in `hark ticket list`, the ticket itself, or all that were issued so far
        #[cfg_attr(feature = "clap", arg(value_name = "NUMBER|TICKET|all"))]
        ticket: String,
        /// With all: of this person, or of everyone [default: you]
        #[cfg_attr(feature = "clap", arg(long, value_name = "PERSON|everyone"))]
        #[serde(default)]
        of: Option<String>,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
}

/// How high a role stands.
#[cfg(feature = "clap")]
fn rank(text: &str) -> Result<u8, Mistake> {
    text.parse().ok().filter(|rank| (1..=250).contains(rank)).ok_or(Mistake::Rank)
}

/// `hark charter preset …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum PresetRequest {
    /// All presets
    List,
    /// What a preset brings
    Show {
        /// Which
        name: String,
    },
    /// Add a preset, or replace the one of its name
    #[cfg_attr(feature = "clap", command(after_long_help = preset_help()))]
    Add {
        /// The preset as TOML; --help shows one
        file: InputFile,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Put a preset into force
    Load(NamedRequest),
    /// Put it out of force
    Unload(NamedRequest),
    /// Remove a preset for good
    Remove(NamedRequest),
}

/// Something by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct NamedRequest {
    /// Which
    pub name: String,
    /// How it is made.
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub how: How,
}

/// `hark charter relay …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum RelayRequest {
    /// All relays
    List,
    /// Name a relay, or change what is known of it
    Add {
        /// What it is called
        name: String,
        /// Its device id, as `hark-relay` prints it
        device: String,
        /// Where it listens; repeatable
        #[cfg_attr(feature = "clap", arg(long, required = true, value_name = "ADDR:PORT"))]
        address: Vec<SocketAddr>,
        /// Devices that it serves at once; 0 is any number
        #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
        #[serde(default)]
        members: u16,
        /// What it may send, in kbit/s; 0 is any rate
        #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
        #[serde(default)]
        kbps: u32,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Name it no longer
    Remove(NamedRequest),
}

/// `hark charter policy …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum PolicyRequest {
    /// All settings
    List,
    /// Change one
    Set {
        /// Which, as `policy list` calls it
        name: String,
        /// A number
        value: u32,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
}

/// `hark charter device …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum DeviceRequest {
    /// Your devices, and the code by which another one consents
    List,
    /// On another machine: agree to be a device of whoever gave you this code
    Consent {
        /// What `device list` prints
        code: String,
    },
    /// Add a device
    Add {
        /// What `device consent` printed on it
        consent: String,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// End a device for good
    Retire {
        /// Its id, or the end of it
        device: String,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
}

/// `hark charter root …`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum RootRequest {
    /// The root keys, and how many of them must sign
    Show,
    /// Draft a new root document for the root keys to sign
    Propose {
        /// Devices that become root keys; repeatable
        #[cfg_attr(feature = "clap", arg(long, value_name = "DEVICE"))]
        #[serde(default)]
        add: Vec<String>,
        /// Root keys that end; repeatable
        #[cfg_attr(feature = "clap", arg(long, value_name = "DEVICE"))]
        #[serde(default)]
        drop: Vec<String>,
        /// How many of the keys must sign from then on
        #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
        #[serde(default)]
        threshold: Option<u8>,
        /// What the organisation calls itself from then on
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        name: Option<String>,
        /// Say what it would do, and write nothing
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        dry_run: bool,
        /// Where the draft goes
        file: String,
    },
    /// Put your signature under a draft
    Sign {
        /// The draft
        file: InputFile,
    },
}
