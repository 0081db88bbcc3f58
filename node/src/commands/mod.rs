//! The commands by which officers read and edit the charter.
//!
//! A [`Request`] is what a person typed. It is carried out on a stored charter, or travels as JSON
//! to a running node and is carried out there: both are a [`Host`], and [`execute`] is the same for
//! both. No file is touched: what a request reads is put into it before, what it writes is in the
//! [`Answer`].
//!
//! ```text
//! arguments ── clap ──> Request ── (JSON) ──> execute ── Host::commit ──> charter, disk, members
//!                          ^                     │
//!                       its file                 └──> Answer: text, JSON, a file to write
//! ```

mod apply;
mod channels;
mod devices;
mod document;
mod drafts;
mod edit;
mod file;
mod history;
mod invites;
mod lookup;
pub(crate) mod names;
mod overview;
mod presets;
mod refusal;
mod request;
mod resolve;
mod roles;
mod roots;
mod rules;
mod sanctions;
mod settings;
mod tickets;
mod view;
mod why;
mod words;

use hark_charter::{
    Charter, Piece,
    content::{Channel, SanctionKind, SealedName},
};
use hark_keys::{ChannelId, DeviceKey, MemberId, ObjectHash, Random, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::KnownTicket;

pub use devices::consent;
pub use drafts::sign_with;
pub use file::{InputFile, OutputFile};
pub use invites::{find_waiting, issue_ticket, may_admit};
pub use lookup::Lookup;
pub use request::{
    ChannelLook, ChannelRequest, DeviceRequest, GrantRequest, How, LiftRequest, NamedRequest,
    PairRequest, PolicyRequest, PresetRequest, RelayRequest, Request, Right, RoleRequest,
    RootRequest, RuleRequest, SanctionRequest, TicketsRequest,
};

/// What commands need of whoever holds the charter: a stored one, or a running node.
pub trait Host {
    /// The charter as it is.
    fn charter(&self) -> &Charter;

    /// Who acts.
    fn member(&self) -> MemberId;

    /// The key of this device, which signs.
    fn key(&self) -> &DeviceKey;

    /// What the calendar says, by which mutes and bans end.
    fn now(&self) -> UnixTime;

    /// Where ids of new things come from.
    fn random(&self) -> &dyn Random;

    /// The name that somebody chose, as far as it is known.
    fn name_of(&self, member: MemberId) -> Option<String>;

    /// The name of a channel: a hidden one's where its key is known here.
    fn channel_name(&self, channel: &Channel) -> Option<String>;

    /// Tickets that this device has issued or let somebody in by.
    fn tickets(&self) -> anyhow::Result<Vec<KnownTicket>>;

    /// Seals the name of a channel for those who may join it, now and later.
    fn seal_name(&mut self, channel: ChannelId, name: &str) -> anyhow::Result<SealedName>;

    /// Writes own pieces to disk, takes them all, in this order, and passes them on.
    fn commit(&mut self, pieces: Vec<Piece>) -> anyhow::Result<()>;

    /// The root document of this version that this device has signed, whatever became of it.
    /// [CHARTER-2.4]
    fn root_signed(&self, version: u32) -> anyhow::Result<Option<ObjectHash>>;

    /// Remembers for good, before it is signed, that this device signs a root document.
    fn keep_root_signed(&mut self, version: u32, document: ObjectHash) -> anyhow::Result<()>;
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For scripts.
    pub json: Value,
    /// To be written where the request was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<OutputFile>,
}

impl Answer {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, file: None }
    }
}

/// Why a request was not carried out. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// What was typed means nothing here.
    #[error("{0}")]
    Input(String),
    /// Nothing, or nothing that may be seen, is called so.
    #[error("{}", names::unknown_text(what, name, near))]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// What was typed.
        name: String,
        /// What is called nearly so.
        near: Vec<String>,
    },
    /// Several things are called so.
    #[error("several {what} are called {name:?}: {}", names::listed(candidates, "or"))]
    Ambiguous {
        /// What kind of things.
        what: &'static str,
        /// What was typed.
        name: String,
        /// How each can be named.
        candidates: Vec<String>,
    },
    /// Whoever asks may not do it.
    #[error("{0}")]
    Refused(String),
    /// The charter could not be kept.
    #[error("{0:#}")]
    Host(#[from] anyhow::Error),
}

/// Carries out a request.
pub fn execute(host: &mut dyn Host, request: Request) -> Result<Answer, CommandError> {
    match request {
        Request::Show => overview::show(host),
        Request::Log { last } => Ok(history::log(host, last)),
        Request::Verify => history::verify(host),
        Request::Export { file } => Ok(drafts::export(host, file)),
        Request::Import { file, dry_run } => drafts::import(host, &file, dry_run),
        Request::Apply { file, prune, how } => apply::apply(host, &file, prune, &how),
        Request::Channel(request) => channels::execute(host, request),
        Request::Role(request) => roles::execute(host, request),
        Request::Grant(request) => roles::grant(host, &request, true),
        Request::Revoke(request) => roles::grant(host, &request, false),
        Request::Rule(request) => rules::rule(host, &request),
        Request::Mute(request) => sanctions::set(host, SanctionKind::Mute, &request),
        Request::Unmute(request) => sanctions::lift(host, SanctionKind::Mute, &request),
        Request::Ban(request) => sanctions::set(host, SanctionKind::Ban, &request),
        Request::Unban(request) => sanctions::lift(host, SanctionKind::Ban, &request),
        Request::Kick { people, how } => roles::kick(host, &people, &how),
        Request::Preset(request) => presets::execute(host, request),
        Request::Relay(request) => settings::relay(host, request),
        Request::Policy(request) => settings::policy(host, request),
        Request::Device(request) => devices::execute(host, request),
        Request::Root(request) => roots::execute(host, request),
        Request::Tickets(request) => tickets::execute(host, request),
        Request::Sign { file } => drafts::sign(host, &file),
        Request::Checkpoint { how } => drafts::checkpoint(host, &how),
        Request::Why { person, right, place } => why::why(host, &person, right, &place),
    }
}

/// Nothing was to do.
fn unchanged(text: impl Into<String>) -> Answer {
    Answer::new(text, json!({"changed": false, "changes": []}))
}

#[cfg(test)]
mod tests;
