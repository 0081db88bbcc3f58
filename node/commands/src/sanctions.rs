//! `hark charter mute`, `unmute`, `ban`, `unban`

use std::time::Duration;

use hark_charter::content::{Change, Place, Sanction, SanctionKind};
use hark_keys::MemberId;

use crate::{
    CommandError, Host, LiftRequest, Mistake, Note, Outcome, RequestSubject, SanctionRequest,
    Unchanged,
    edit::{Plan, perform},
    view::View,
};

/// Mutes or bans a member, until then or until it is lifted.
pub(crate) fn set(
    host: &mut dyn Host,
    kind: SanctionKind,
    request: &SanctionRequest,
) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let member = view.find_person(&request.person)?;
    let at = view.find_place(request.at.as_deref())?;
    if member == host.member() {
        return Err(Mistake::OwnSanction(kind.into()).into());
    }
    let until = request.seconds.map(|seconds| host.now() + Duration::from_secs(seconds));
    let name = view.name(member);
    let mut plan = Plan::of([Change::Sanction(Sanction { member, kind, at, until, name })]);
    if (kind, at) == (SanctionKind::Ban, Place::Organisation) {
        let admission = view.state.removals(member) + 1;
        plan.changes.push(Change::Remove { member, admission });
    }
    let (member, at) = (member.to_string(), view.at(at));
    plan.about = Some(RequestSubject::Sanction { member, at, until: until.into() });
    perform(host, plan, &request.how)
}

/// Ends a mute or a ban before its time.
pub(crate) fn lift(
    host: &mut dyn Host,
    kind: SanctionKind,
    request: &LiftRequest,
) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let member = view.find_sanctioned(&request.person, kind)?;
    let at = view.find_place(request.at.as_deref())?;
    let set = view.state.sanctions_on(member).filter(|(it, _)| it.kind == kind);
    let places: Vec<_> = set.map(|(it, _)| it.at).filter(|at| view.sees_place(*at)).collect();
    if !places.contains(&at) {
        return Ok(Outcome::unchanged(Unchanged::NotInForce {
            person: view.person(member),
            kind: kind.into(),
            at: view.at(at),
            elsewhere: places.into_iter().map(|at| view.at(at)).collect(),
        }));
    }
    let mut plan = Plan::of([Change::Lift { member, kind, at }]);
    if (kind, at) == (SanctionKind::Ban, Place::Organisation) {
        plan.notes.push(Note::AnyTicket { kicked: false });
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
