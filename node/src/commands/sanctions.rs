//! `hark charter mute`, `unmute`, `ban`, `unban`

use std::time::Duration;

use hark_charter::content::{Change, Place, Sanction, SanctionKind};
use hark_keys::{MemberId, UnixTime};

use super::{
    Answer, CommandError, Host, LiftRequest, SanctionRequest,
    edit::{Plan, perform},
    names::listed,
    overview::place,
    roles::ANY_TICKET,
    unchanged,
    view::View,
};
use crate::clock::utc;

/// Mutes or bans a member, until then or until it is lifted.
pub(super) fn set(
    host: &mut dyn Host,
    kind: SanctionKind,
    request: &SanctionRequest,
) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let member = view.find_person(&request.person)?;
    let at = view.find_place(request.at.as_deref())?;
    if member == host.member() {
        return Err(CommandError::Input(format!("nobody can {} themselves", verb(kind))));
    }
    let until = request.seconds.map(|seconds| host.now() + Duration::from_secs(seconds));
    let name = view.name(member);
    let mut plan = Plan::of([Change::Sanction(Sanction { member, kind, at, until, name })]);
    if (kind, at) == (SanctionKind::Ban, Place::Organisation) {
        let admission = view.state.removals(member) + 1;
        plan.changes.push(Change::Remove { member, admission });
    }
    plan.json.insert("member".to_owned(), member.to_string().into());
    plan.json.insert("at".to_owned(), place(&view, at));
    plan.json.insert("until".to_owned(), until.map(UnixTime::as_secs).into());
    perform(host, plan, &request.how)
}

/// Ends a mute or a ban before its time.
pub(super) fn lift(
    host: &mut dyn Host,
    kind: SanctionKind,
    request: &LiftRequest,
) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let member = view.find_sanctioned(&request.person, kind)?;
    let at = view.find_place(request.at.as_deref())?;
    let set = view.state.sanctions_on(member).filter(|(it, _)| it.kind == kind);
    let places: Vec<_> = set.map(|(it, _)| it.at).filter(|at| view.sees_place(*at)).collect();
    if !places.contains(&at) {
        let (person, done) = (view.person(member), participle(kind));
        let mut text = format!("{person} is not {done} {}: nothing to change", view.place(at));
        if !places.is_empty() {
            let places: Vec<_> = places.into_iter().map(|at| view.place(at)).collect();
            text += &format!("; {person} is {done} {}", listed(&places, "and"));
        }
        return Ok(unchanged(text));
    }
    let mut plan = Plan::of([Change::Lift { member, kind, at }]);
    if (kind, at) == (SanctionKind::Ban, Place::Organisation) {
        plan.notes.push(ANY_TICKET.to_owned());
    }
    perform(host, plan, &request.how)
}

impl View<'_> {
    /// The member of this name, or the one who is gone and was called so when banned.
    fn find_sanctioned(&self, text: &str, kind: SanctionKind) -> Result<MemberId, CommandError> {
        match (self.find_member(text), kind) {
            (Err(CommandError::Unknown { .. }), SanctionKind::Ban) => self.find_banned(text),
            (found, _) => found,
        }
    }
}

/// `mute`, `ban`
pub(super) fn verb(kind: SanctionKind) -> &'static str {
    match kind {
        SanctionKind::Mute => "mute",
        SanctionKind::Ban => "ban",
    }
}

/// `muted`, `banned`
pub(super) fn participle(kind: SanctionKind) -> &'static str {
    match kind {
        SanctionKind::Mute => "muted",
        SanctionKind::Ban => "banned",
    }
}

/// `until 2026-11-22 21:40:00 UTC`, or `until it is lifted`
pub(super) fn tell_until(until: Option<UnixTime>) -> String {
    match until {
        Some(until) => format!("until {}", utc(until)),
        None => "until it is lifted".to_owned(),
    }
}
