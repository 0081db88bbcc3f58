//! The commands by which officers read and edit the charter.
//!
//! A [`Request`] is what a person typed. It is carried out on a stored charter, or travels as JSON
//! to a running node and is carried out there: both are a [`Host`], and [`execute`] is the same for
//! both. No file is touched: what a request reads is put into it before, what it writes is in the
//! [`Outcome`]. An outcome is data, with names in the place of ids as far as the asker may see
//! them. A program makes sentences of it; the only ones that are made here are those of errors.
//!
//! ```text
//! arguments ── clap ──> Request ── (JSON) ──> execute ── Host::commit ──> charter, disk, members
//!                          ^                     │
//!                       its file                 └──> Outcome ── (JSON) ──> words, a file to write
//! ```
//!
//! With the feature `clap` requests are arguments of a program.

#![forbid(unsafe_code)]

mod apply;
mod change;
mod channels;
mod devices;
mod document;
mod drafts;
pub mod duration;
mod edit;
mod error;
mod file;
mod history;
mod host;
mod invites;
mod lists;
mod lookup;
pub mod names;
mod outcome;
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
mod views;
mod why;

use hark_charter::content::SanctionKind;

pub use change::{ChangeView, DraftContent, RootChange};
pub use devices::consent;
pub use document::{ORGANISATION_EXAMPLE, PRESET_EXAMPLE};
pub use drafts::sign_with;
pub use error::{
    Able, CharterRefusal, CommandError, FileFault, Mistake, Need, ReadError, UnknownRight, Wish,
};
pub use file::{InputFile, OutputFile};
pub use host::{Host, HostError, KnownTicket};
pub use invites::{TicketRequest, find_waiting, issue_ticket, may_admit, relays_of};
pub use lookup::{Lookup, TalkTo};
pub use outcome::{CheckpointStep, Note, Outcome, RequestSubject, Unchanged, Undone};
pub use request::{
    ChannelLook, ChannelRequest, DeviceRequest, GrantRequest, How, LiftRequest, NamedRequest,
    PairRequest, PolicyRequest, PresetRequest, RelayRequest, Request, Right, RoleRequest,
    RootRequest, RuleRequest, SanctionRequest, TicketsRequest,
};
pub use views::{
    At, Brings, ChannelView, CharterCheck, DecisionView, DenialView, GrantView, HeldRole, Holder,
    Holding, LayoutView, LeftView, ListedChannel, LogEntry, LoggedChange, LoggedOperation, Look,
    MemberView, Missing, MuteOrBan, OrganisationView, OwnDevice, OwnDevices, PlannedNet,
    PresetSummary, PresetView, RelayView, Rights, RoleView, RootKeyView, RootView, RuleView,
    SanctionInForce, SeenTicket, SignatureNeed, SourceView, Step, TicketUse, Until, WhyView,
};

/// Carries out a request.
pub fn execute(host: &mut dyn Host, request: Request) -> Result<Outcome, CommandError> {
    match request {
        Request::Show => lists::show(host),
        Request::Log { last } => Ok(history::log(host, last)),
        Request::Verify => history::verify(host),
        Request::Export { file } => Ok(drafts::export(host, file)),
        Request::Import { file, dry_run } => drafts::import(host, file, dry_run),
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
