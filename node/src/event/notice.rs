//! Notices: what the person at this device should know and need not act on.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

use hark_commands::names::listed;

/// Something that the person at this device should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Somebody has tried to join here with a ticket that was revoked.
    RevokedTicketTried {
        /// The ticket's number.
        number: String,
    },
    /// A name that was given with `--peer` leads to no address yet.
    PeerUnknown {
        /// The name and port.
        place: String,
        /// The error of the name service.
        error: String,
    },
    /// A newcomer has joined without the role of its ticket.
    CameWithoutRole {
        /// The name of the newcomer.
        name: String,
        /// The name of the role.
        role: String,
        /// The reason why it was not given. `None` if the ticket was issued before a membership of
        /// the newcomer ended.
        error: Option<String>,
    },
    /// This device has joined without the role of its ticket.
    RoleMissing {
        /// The name of the role.
        role: String,
        /// Whether the ticket was issued before this member's last membership ended.
        outdated: bool,
    },
    /// A flag of this run names something that does not exist, so it has no effect.
    Flag(String),
    /// The person talks to nets and will not hear the answers there.
    Deaf(Deafness),
    /// The profile's file names a channel that does not exist.
    NoSuchChannel {
        /// The name in the file.
        name: String,
        /// An existing channel with a similar name.
        near: String,
    },
    /// A preset was loaded, and takes the place of what the person chose before.
    PresetLoaded {
        /// The names of the loaded presets.
        presets: Vec<String>,
    },
    /// The target that the person talked to no longer exists.
    TargetGone,
    /// The choice whether this device relays for others could not be stored, so a restart forgets
    /// it.
    VolunteerForgotten {
        /// The error of the disk.
        error: String,
    },
}

/// Nets that the person talks to but does not hear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deafness {
    /// The paths of the nets.
    pub nets: Vec<String>,
    /// Whether the member has no right to listen there. If not, the person has chosen not to
    /// listen.
    pub closed: bool,
}

impl fmt::Display for Deafness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.closed {
            true => "you may speak there, and not listen",
            false => "you do not listen to it (`hark ctl listen`)",
        };
        write!(f, "you will not hear answers on {}: {why}", listed(&self.nets, "and"))
    }
}

impl Notice {
    /// The word by which programs distinguish notices.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RevokedTicketTried { .. } => "revoked_ticket_tried",
            Self::PeerUnknown { .. } => "peer_unknown",
            Self::CameWithoutRole { .. } => "came_without_role",
            Self::RoleMissing { .. } => "role_missing",
            Self::Flag(_) => "flag",
            Self::Deaf(_) => "deaf_to_answers",
            Self::NoSuchChannel { .. } => "no_such_channel",
            Self::PresetLoaded { .. } => "preset_loaded",
            Self::TargetGone => "target_gone",
            Self::VolunteerForgotten { .. } => "volunteer_forgotten",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RevokedTicketTried { number } => {
                write!(f, "somebody has tried ticket {number} here, which is revoked")
            }
            Self::PeerUnknown { place, error } => {
                write!(f, "--peer {place} leads to nobody: {error}; looking again")
            }
            Self::CameWithoutRole { name, role, error } => {
                let why = error.as_deref().unwrap_or("it was issued before the membership ended");
                write!(f, "{name} has come in without the role {role} of the ticket: {why}")
            }
            Self::RoleMissing { role, outdated } => {
                let why = match outdated {
                    true => "it was issued before your membership ended",
                    false => "nobody there has given it",
                };
                write!(
                    f,
                    "you have come in without the role {role} of your ticket: {why}: ask an officer"
                )
            }
            Self::Flag(error) => f.write_str(error),
            Self::Deaf(deafness) => deafness.fmt(f),
            Self::NoSuchChannel { name, near } => {
                write!(f, "profiles.toml: no channel is called {name:?} now; did you mean {near}?")
            }
            Self::PresetLoaded { presets } => write!(
                f,
                "{} is loaded: you hear and talk to what it says for you, not what you chose \
                 before; --keep with `hark ctl listen` or `talk-to` keeps a choice",
                presets.join(", ")
            ),
            Self::VolunteerForgotten { error } => {
                write!(f, "that this device relays, or not, is forgotten with its end: {error}")
            }
            Self::TargetGone => f.write_str(
                "what you talked to is not there for you any more: your voice goes to nobody until \
                 you choose something else",
            ),
        }
    }
}

/// Serialises the word and the line: `{"notice": "target_gone", "text": "…"}`.
impl Serialize for Notice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("notice", self.kind())?;
        map.serialize_entry("text", &self.to_string())?;
        map.end()
    }
}
