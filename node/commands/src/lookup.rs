//! What a person means who steers a radio: channels, people and roles by name, and whether they
//! may.

use hark_charter::content::{Capabilities, Place};
use hark_keys::{ChannelId, MemberId};
use serde::{Deserialize, Serialize};

use crate::{
    CharterRefusal, CommandError, Host, Mistake, Wish,
    names::{find_channel, unique_path, unknown},
    view::View,
};

/// What is talked to, by name: channels, persons, roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args), group(skip))]
pub struct TalkTo {
    /// Nets
    #[serde(default)]
    pub nets: Vec<String>,
    /// A person, by name or device; repeatable
    #[cfg_attr(feature = "clap", arg(long = "whisper", value_name = "PERSON"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// All who hold this role; repeatable
    #[cfg_attr(feature = "clap", arg(long = "role", value_name = "ROLE"))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Turn others down meanwhile, where the charter allows it
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub priority: bool,
}

impl TalkTo {
    /// Channels alone.
    pub fn nets(nets: Vec<String>) -> Self {
        Self { nets, ..Self::default() }
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty() && self.members.is_empty() && self.roles.is_empty()
    }
}

/// Finds by name what somebody may hear and talk to. A name that is unknown or stands for several
/// is refused, and so is what they have no right to.
pub struct Lookup<'a> {
    view: View<'a>,
    paths: Vec<(ChannelId, String)>,
}

impl<'a> Lookup<'a> {
    /// For whoever acts through `host`.
    pub fn new(host: &'a dyn Host) -> Self {
        let view = View::new(host);
        let paths = view.paths();
        Self { view, paths }
    }

    /// The channel of this name, path or path#id.
    pub fn channel(&self, text: &str) -> Result<ChannelId, CommandError> {
        find_channel(text, &self.paths)
    }

    /// The same, by what names it and no other.
    pub fn path(&self, text: &str) -> Result<String, CommandError> {
        self.channel(text).map(|id| self.unique(id))
    }

    /// The channel that is pressed by its name, by what names it and no other, where none of the
    /// `keys` is meant.
    pub fn key_or_net(&self, text: &str, keys: Vec<String>) -> Result<String, CommandError> {
        self.path(text).map_err(|error| {
            let CommandError::Unknown { .. } = error else { return error };
            let known = keys.iter().map(String::as_str);
            let error = unknown("key or channel", text, known.chain(self.paths()));
            let CommandError::Unknown { near, .. } = &error else { return error };
            if !near.is_empty() {
                return error;
            }
            Mistake::NoKey { name: text.to_owned(), keys }.into()
        })
    }

    /// The channel to be heard, by what names it and no other.
    pub fn to_hear(&self, text: &str) -> Result<String, CommandError> {
        let id = self.channel(text)?;
        let path = self.unique(id);
        self.need(Wish::Hear(path.clone()), HEAR, Place::Channel(id))?;
        Ok(path)
    }

    /// What is to be talked to, each by what names it and no other.
    pub fn to_talk_to(&self, to: &TalkTo) -> Result<TalkTo, CommandError> {
        let mut found = TalkTo { priority: to.priority, ..TalkTo::default() };
        for text in &to.nets {
            let id = self.channel(text)?;
            let (path, at) = (self.unique(id), Place::Channel(id));
            self.need(Wish::Talk(path.clone()), Capabilities::SPEAK, at)?;
            found.nets.push(path);
        }
        let whisper = |to: &str| {
            self.need(Wish::Whisper(to.to_owned()), Capabilities::WHISPER, Place::Organisation)
        };
        for text in &to.members {
            let member = self.view.find_person(text)?;
            let name = self.view.person(member);
            whisper(&name)?;
            // Whoever comes later under the same name is not meant.
            let name = name.split('#').next().unwrap_or_default();
            found.members.push(format!("{name}#{}", member.short()));
        }
        for text in &to.roles {
            let name = self.view.role(self.view.find_role(text)?);
            whisper(&name)?;
            found.roles.push(name);
        }
        Ok(found)
    }

    /// The member of this name, name#id or device.
    pub fn person(&self, text: &str) -> Result<MemberId, CommandError> {
        self.view.find_person(text)
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|(_, path)| path.as_str())
    }

    fn unique(&self, id: ChannelId) -> String {
        let path = self.paths.iter().find(|(known, _)| *known == id);
        path.map_or_else(|| self.view.channel(id), |(_, path)| unique_path(id, path, &self.paths))
    }

    fn need(&self, wish: Wish, rights: Capabilities, at: Place) -> Result<(), CommandError> {
        let member = self.view.host.member();
        if self.view.state.allows(member, rights, at) {
            return Ok(());
        }
        Err(CharterRefusal::Right { wish, rights: rights.into(), at: self.view.at(at) }.into())
    }
}

/// What it takes to hear a channel.
const HEAR: Capabilities = Capabilities::JOIN.and(Capabilities::LISTEN);
