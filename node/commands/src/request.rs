//! What can be asked of a charter, as it is typed and as it travels to a running node.

mod parts;

use std::str::FromStr;

use hark_charter::content::{Capabilities, RIGHTS};
use serde::{Deserialize, Serialize};

pub use parts::{
    ChannelLook, ChannelRequest, DeviceRequest, GrantRequest, LiftRequest, NamedRequest,
    PairRequest, PolicyRequest, PresetRequest, RelayRequest, RoleRequest, RootRequest, RuleRequest,
    SanctionRequest, TicketsRequest,
};

#[cfg(feature = "clap")]
use crate::document::{ORGANISATION_EXAMPLE, PRESET_EXAMPLE};
use crate::{UnknownRight, file::InputFile, names::nearest};

/// One command about the charter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Subcommand))]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The organisation at a glance
    Show,
    /// What was done, by whom, in the order in which it counts
    Log {
        /// Only the last N operations
        #[cfg_attr(feature = "clap", arg(short = 'n', long = "last", value_name = "N"))]
        #[serde(default)]
        last: Option<usize>,
    },
    /// Check all signatures and rights again
    Verify,
    /// Write all of the charter to a file
    Export {
        /// Where to
        file: String,
    },
    /// Take what an exported charter or a signed draft holds
    Import {
        /// Where from
        file: InputFile,
        /// Say what it would do, and change nothing
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        dry_run: bool,
    },
    /// Make the charter match a file: roles, channels, links, rules, presets, policies
    #[cfg_attr(feature = "clap", command(after_long_help = organisation_help()))]
    Apply {
        /// The organisation as TOML; --help shows one
        file: InputFile,
        /// Also remove, for good, what the file does not name
        #[cfg_attr(feature = "clap", arg(long))]
        #[serde(default)]
        prune: bool,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Channels: the tree, and who may talk at once
    #[cfg_attr(feature = "clap", command(subcommand))]
    Channel(ChannelRequest),
    /// Roles: bundles of rights with a rank
    #[cfg_attr(feature = "clap", command(subcommand))]
    Role(RoleRequest),
    /// Give a role to people
    Grant(GrantRequest),
    /// Take a role from people
    Revoke(GrantRequest),
    /// Allow or deny rights at a channel, on top of roles
    #[cfg_attr(feature = "clap", command(after_long_help = rights_help()))]
    Rule(RuleRequest),
    /// Take somebody's voice, whatever roles and rules allow
    Mute(SanctionRequest),
    /// Give a voice back
    Unmute(LiftRequest),
    /// Keep somebody out: of the organisation, or with --at of a channel
    Ban(SanctionRequest),
    /// Lift a ban: of the organisation, any ticket that is still good then lets them in again
    Unban(LiftRequest),
    /// End somebody's membership; any ticket that is still good lets them in again
    Kick {
        /// Names, name#id or devices
        #[cfg_attr(feature = "clap", arg(required = true, value_name = "PERSON"))]
        people: Vec<String>,
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Presets: plans for an operation, loaded and unloaded as one
    #[cfg_attr(feature = "clap", command(subcommand))]
    Preset(PresetRequest),
    /// Relays that the organisation names
    #[cfg_attr(feature = "clap", command(subcommand))]
    Relay(RelayRequest),
    /// Settings of the whole organisation
    #[cfg_attr(feature = "clap", command(subcommand))]
    Policy(PolicyRequest),
    /// Your own devices
    #[cfg_attr(feature = "clap", command(subcommand))]
    Device(DeviceRequest),
    /// The keys that stand for the organisation
    #[cfg_attr(feature = "clap", command(subcommand))]
    Root(RootRequest),
    /// `hark ticket list`, `hark ticket revoke`.
    #[cfg_attr(feature = "clap", command(skip))]
    Tickets(TicketsRequest),
    /// Put your signature under a draft
    Sign {
        /// The draft
        file: InputFile,
    },
    /// Settle what was done so far, so that history stays short
    Checkpoint {
        /// How it is made.
        #[cfg_attr(feature = "clap", command(flatten))]
        #[serde(flatten)]
        how: How,
    },
    /// Why somebody may or may not do something
    #[cfg_attr(feature = "clap", command(after_long_help = rights_help()))]
    Why {
        /// Name, name#id or device; me for yourself
        person: String,
        /// Such as speak
        right: Right,
        /// A channel, or everywhere
        #[cfg_attr(feature = "clap", arg(value_name = "CHANNEL|everywhere"))]
        place: String,
    },
}

/// How a change is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default)]
pub struct How {
    /// Say what it would do, and change nothing
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
    /// Write a draft for other root keys to sign instead of acting
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub draft: Option<String>,
    /// Whose root key signs the draft besides yours; repeatable
    #[cfg_attr(feature = "clap", arg(long, value_name = "PERSON", requires = "draft"))]
    pub cosigner: Vec<String>,
}

impl Request {
    /// The file that is to be read before the request is carried out, where there is one.
    pub fn input(&mut self) -> Option<&mut InputFile> {
        match self {
            Self::Import { file, .. }
            | Self::Apply { file, .. }
            | Self::Sign { file }
            | Self::Preset(PresetRequest::Add { file, .. })
            | Self::Root(RootRequest::Sign { file }) => Some(file),
            _ => None,
        }
    }
}

/// All rights with what each lets somebody do, for `--help`.
#[cfg(feature = "clap")]
pub(crate) fn rights_help() -> String {
    let longest = RIGHTS.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = RIGHTS.iter().map(|(name, phrase)| format!("\n  {name:longest$}  {phrase}"));
    format!(
        "Rights, separated by commas (all and none are names, too):{}",
        lines.collect::<String>()
    )
}

#[cfg(feature = "clap")]
fn organisation_help() -> String {
    format!(
        "The file is TOML; each part may be left out:\n\n{ORGANISATION_EXAMPLE}\nA [[preset]] with \
         its parts stands there as `hark charter preset add --help` shows it, each name with preset. \
         in front: [[preset.channel]].\n\n{}",
        rights_help()
    )
}

/// The preset file for `--help`.
#[cfg(feature = "clap")]
pub(crate) fn preset_help() -> String {
    format!("The file is TOML; each part but the name may be left out:\n\n{PRESET_EXAMPLE}")
}

/// One right by name, or several separated by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Right(pub Capabilities);

impl Right {
    /// All of several rights.
    pub(crate) fn all(rights: &[Self]) -> Capabilities {
        rights.iter().fold(Capabilities::NONE, |all, right| all | right.0)
    }

    fn named(text: &str) -> Result<Self, UnknownRight> {
        let name = text.trim().to_lowercase();
        match name.as_str() {
            "none" => return Ok(Self(Capabilities::NONE)),
            "all" => return Ok(Self(Capabilities::ALL)),
            _ => {}
        }
        Capabilities::named(&name).map(Self).ok_or_else(|| {
            let known = RIGHTS.map(|(name, _)| name);
            let near = nearest(&name, known);
            UnknownRight { name: text.to_owned(), near, known: known.to_vec() }
        })
    }
}

impl FromStr for Right {
    type Err = UnknownRight;

    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        let rights: Result<Vec<_>, _> = text.split(',').map(Self::named).collect();
        Ok(Self(Self::all(&rights?)))
    }
}

impl TryFrom<String> for Right {
    type Error = UnknownRight;

    fn try_from(text: String) -> Result<Self, UnknownRight> {
        text.parse()
    }
}

impl From<Right> for String {
    fn from(right: Right) -> Self {
        right.0.to_string()
    }
}
