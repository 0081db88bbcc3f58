//! `hark charter role …`, `grant`, `revoke`, `kick`

use hark_charter::{
    Denial,
    content::{Capabilities, Change, GRANT_MEMBERS_MAX, Grant, MEMBER_ROLE, Place, Rank, Role},
};
use hark_keys::{List, RoleId};

use crate::{
    CommandError, GrantRequest, Host, How, Mistake, Note, Outcome, RequestSubject, Right,
    RoleRequest, Wish,
    channels::{named, new_id},
    edit::{Plan, perform},
    lists,
    refusal::refuse_to,
    view::View,
};

pub(crate) fn execute(host: &mut dyn Host, request: RoleRequest) -> Result<Outcome, CommandError> {
    match request {
        RoleRequest::List => Ok(Outcome::Roles(lists::roles(&View::new(host)))),
        RoleRequest::Add { name, rank, can, how } => {
            let name = role_name(&name)?;
            if host.charter().state().roles().any(|role| role.name == name) {
                return Err(Mistake::Taken("role", name).into());
            }
            let id = RoleId::from_bytes(new_id(host));
            let role = Role { id, name, rank: Rank(rank), capabilities: Right::all(&can) };
            let mut plan = Plan::of([]);
            plan.notes.extend(what_it_adds(host, &role));
            plan.notes.extend(what_a_rank_does_not_give(host, &role));
            plan.changes.push(Change::Role(role));
            plan.about = Some(RequestSubject::Role(id.to_string()));
            perform(host, plan, &how)
        }
        RoleRequest::Edit { role, name, rank, can, how } => {
            let view = View::new(host);
            let id = view.find_role(&role)?;
            let Some(before) = view.state.role(id) else {
                return Err(crate::names::unknown("role", &role, []));
            };
            if id == MEMBER_ROLE && rank.is_some() {
                return Err(Mistake::MembersRank.into());
            }
            let mut after = before.clone();
            after.name = name.map_or(Ok(after.name), |name| role_name(&name))?;
            after.rank = rank.map_or(after.rank, Rank);
            after.capabilities = can.map_or(after.capabilities, |can| Right::all(&can));
            let mut plan = Plan::default();
            if *before != after {
                let other_rights = before.capabilities != after.capabilities;
                plan.notes.extend(other_rights.then(|| what_it_adds(host, &after)).flatten());
                plan.changes.push(Change::Role(after));
            }
            perform(host, plan, &how)
        }
        RoleRequest::Remove { role, how } => {
            let id = View::new(host).find_role(&role)?;
            if id == MEMBER_ROLE {
                return Err(Mistake::MembersRoleStays.into());
            }
            perform(host, Plan::of([Change::RemoveRole(id)]), &how)
        }
    }
}

/// What a role's holders may that not everybody may, and what everybody may anyway: a role without
/// a right takes it from nobody.
fn what_it_adds(host: &dyn Host, role: &Role) -> Option<Note> {
    let anyway = host.charter().state().role(MEMBER_ROLE)?.capabilities;
    let adds = role.capabilities - anyway;
    (role.id != MEMBER_ROLE).then(|| Note::RoleAdds { adds: adds.into(), anyway: anyway.into() })
}

/// Who stands above others may yet not act on them: which rights that takes and the role has not.
fn what_a_rank_does_not_give(host: &dyn Host, role: &Role) -> Option<Note> {
    let member = host.charter().state().role(MEMBER_ROLE);
    let has = member.map_or(role.capabilities, |it| it.capabilities | role.capabilities);
    let missing = (Capabilities::MUTE | Capabilities::BAN) - has;
    (!missing.is_empty()).then(|| Note::RankAlone(missing.into()))
}

/// A name that a role can have: `:` and `#` would make it look like something else.
pub(crate) fn role_name(name: &str) -> Result<String, CommandError> {
    let clean = named("role", name)?;
    if clean.contains([':', '#']) {
        return Err(Mistake::RoleName(clean).into());
    }
    Ok(clean)
}

/// The role of this name, if whoever acts may have others join with it. [PROTO-4.8]
pub(crate) fn role_to_give(host: &dyn Host, name: &str) -> Result<RoleId, CommandError> {
    let view = View::new(host);
    let role = view.find_role(name)?;
    if role == MEMBER_ROLE {
        return Err(Mistake::MembersRole.into());
    }
    let (admit, everywhere) = (Capabilities::ADMIT, Place::Organisation);
    let admits = host.charter().allows(host.member(), admit, everywhere);
    let (change, able) = if admits {
        let members = List::truncated([]);
        let grant = Grant { role, at: everywhere, members };
        (Change::Grant(grant), host.charter().may_give(host.member(), role))
    } else {
        (Change::Admitted(List::default()), Err(Denial::Right(admit, everywhere)))
    };
    let wish = Wish::InviteWith(view.role(role));
    able.map(|()| role).map_err(|denial| refuse_to(&view, wish, &change, denial))
}

/// Gives or takes a role.
pub(crate) fn grant(
    host: &mut dyn Host,
    request: &GrantRequest,
    given: bool,
) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let role = view.find_role(&request.role)?;
    if role == MEMBER_ROLE {
        return Err(Mistake::MembersRole.into());
    }
    let at = view.find_place(request.at.as_deref())?;
    let people = view.find_people(&request.people)?;
    let has = |member| view.state.grants(member).any(|held| held == (role, at));
    let mut plan = Plan::default();
    let (done, open): (Vec<_>, Vec<_>) =
        people.into_iter().partition(|member| has(*member) == given);
    for member in done {
        let (person, role, at) = (view.person(member), view.role(role), view.at(at));
        plan.notes.push(Note::HeldAlready { person, role, at, has: given });
    }
    plan.changes.extend(open.chunks(GRANT_MEMBERS_MAX).map(|members| {
        let grant = Grant { role, at, members: List::truncated(members.iter().copied()) };
        if given { Change::Grant(grant) } else { Change::Ungrant(grant) }
    }));
    let by_preset = |member: &hark_keys::MemberId| {
        view.state.loaded().any(|preset| {
            preset
                .grants
                .iter()
                .any(|grant| (grant.role, grant.at) == (role, at) && grant.members.contains(member))
        })
    };
    if !given && open.iter().any(by_preset) {
        plan.notes.push(Note::GivenByPreset);
    }
    perform(host, plan, &request.how)
}

/// Ends memberships.
pub(crate) fn kick(
    host: &mut dyn Host,
    people: &[String],
    how: &How,
) -> Result<Outcome, CommandError> {
    let view = View::new(host);
    let people = view.find_people(people)?;
    if people.contains(&host.member()) {
        return Err(Mistake::OwnMembership.into());
    }
    let removal = |member| {
        let admission = view.state.removals(member) + 1;
        Change::Remove { member, admission }
    };
    let mut plan = Plan::of(people.into_iter().map(removal));
    plan.notes.push(Note::AnyTicket { kicked: true });
    perform(host, plan, how)
}
