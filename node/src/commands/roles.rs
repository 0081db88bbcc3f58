//! `hark charter role …`, `grant`, `revoke`, `kick`

use hark_charter::{
    Denial,
    content::{Capabilities, Change, GRANT_MEMBERS_MAX, Grant, MEMBER_ROLE, Place, Rank, Role},
};
use hark_keys::{List, RoleId};
use serde_json::json;

use super::{
    Answer, CommandError, GrantRequest, Host, How, Right, RoleRequest,
    channels::{named, new_id},
    edit::{Plan, perform},
    names::listed,
    overview,
    refusal::refuse_to,
    view::View,
    words::spaced,
};

pub(super) fn execute(host: &mut dyn Host, request: RoleRequest) -> Result<Answer, CommandError> {
    match request {
        RoleRequest::List => Ok(overview::roles(&View::new(host))),
        RoleRequest::Add { name, rank, can, how } => {
            let name = role_name(&name)?;
            if host.charter().state().roles().any(|role| role.name == name) {
                return Err(CommandError::Input(format!("there is a role {name} already")));
            }
            let id = RoleId::from_bytes(new_id(host));
            let role = Role { id, name, rank: Rank(rank), capabilities: Right::all(&can) };
            let mut plan = Plan::of([]);
            plan.notes.extend(what_it_adds(host, &role));
            plan.notes.extend(what_a_rank_does_not_give(host, &role));
            plan.changes.push(Change::Role(role));
            plan.json.insert("role".to_owned(), json!(id.to_string()));
            perform(host, plan, &how)
        }
        RoleRequest::Edit { role, name, rank, can, how } => {
            let view = View::new(host);
            let id = view.find_role(&role)?;
            let Some(before) = view.state.role(id) else {
                return Err(super::names::unknown("role", &role, []));
            };
            if id == MEMBER_ROLE && rank.is_some() {
                return Err(CommandError::Input(
                    "everybody has this role, and no rank by it".to_owned(),
                ));
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
                return Err(CommandError::Input("everybody has this role: it stays".to_owned()));
            }
            perform(host, Plan::of([Change::RemoveRole(id)]), &how)
        }
    }
}

/// What a role's holders may that not everybody may, and what everybody may anyway: a role without
/// a right takes it from nobody.
fn what_it_adds(host: &dyn Host, role: &Role) -> Option<String> {
    let everybody = host.charter().state().role(MEMBER_ROLE)?.capabilities;
    if role.id == MEMBER_ROLE {
        return None;
    }
    let anyway = match everybody {
        Capabilities::NONE => "by the role member nobody may anything".to_owned(),
        rights => format!("by the role member everybody may {} anyway", spaced(rights)),
    };
    Some(match role.capabilities - everybody {
        Capabilities::NONE => format!("it adds no right: {anyway}"),
        added => format!("it adds {}: {anyway}", spaced(added)),
    })
}

/// Who stands above others may yet not act on them: which rights that takes and the role has not.
fn what_a_rank_does_not_give(host: &dyn Host, role: &Role) -> Option<String> {
    let member = host.charter().state().role(MEMBER_ROLE);
    let has = member.map_or(role.capabilities, |it| it.capabilities | role.capabilities);
    let acts = [(Capabilities::MUTE, "mute"), (Capabilities::BAN, "kick or ban")];
    let missing = acts.into_iter().filter(|(right, _)| !has.contains(*right));
    let (rights, acts): (Vec<_>, Vec<_>) =
        missing.map(|(right, act)| (right.to_string(), act)).unzip();
    let plural = if rights.len() == 1 { "right" } else { "rights" };
    (!rights.is_empty()).then(|| {
        format!(
            "its rank alone lets nobody {}: that takes the {plural} {}",
            acts.join(", "),
            listed(&rights, "and")
        )
    })
}

/// A name that a role can have: `:` and `#` would make it look like something else.
pub(super) fn role_name(name: &str) -> Result<String, CommandError> {
    let clean = named("role", name)?;
    if clean.contains([':', '#']) {
        return Err(CommandError::Input(format!(
            "a role cannot be called {clean:?}: # and : mean something in names"
        )));
    }
    Ok(clean)
}

/// The role of this name, if whoever acts may have others join with it. [PROTO-4.8]
pub(super) fn role_to_give(host: &dyn Host, name: &str) -> Result<RoleId, CommandError> {
    let view = View::new(host);
    let role = view.find_role(name)?;
    if role == MEMBER_ROLE {
        return Err(CommandError::Input("every member has this role anyway".to_owned()));
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
    let what = format!("to invite with the role {}", view.role(role));
    able.map(|()| role).map_err(|denial| refuse_to(&view, &what, &change, denial))
}

/// Gives or takes a role.
pub(super) fn grant(
    host: &mut dyn Host,
    request: &GrantRequest,
    given: bool,
) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let role = view.find_role(&request.role)?;
    if role == MEMBER_ROLE {
        return Err(CommandError::Input("every member has this role anyway".to_owned()));
    }
    let at = view.find_place(request.at.as_deref())?;
    let people = view.find_people(&request.people)?;
    let has = |member| view.state.grants(member).any(|held| held == (role, at));
    let mut plan = Plan::default();
    let (done, open): (Vec<_>, Vec<_>) =
        people.into_iter().partition(|member| has(*member) == given);
    for member in done {
        let (person, role, place) = (view.person(member), view.role(role), view.place(at));
        let state = if given { "has" } else { "does not have" };
        plan.notes.push(format!("{person} {state} the role {role} {place}{}", {
            if given { " already" } else { "" }
        }));
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
        plan.notes
            .push("a loaded preset grants it, too: that stays until it is unloaded".to_owned());
    }
    perform(host, plan, &request.how)
}

/// Ends memberships.
pub(super) fn kick(
    host: &mut dyn Host,
    people: &[String],
    how: &How,
) -> Result<Answer, CommandError> {
    let view = View::new(host);
    let people = view.find_people(people)?;
    if people.contains(&host.member()) {
        return Err(CommandError::Input("nobody ends their own membership".to_owned()));
    }
    let removal = |member| {
        let admission = view.state.removals(member) + 1;
        Change::Remove { member, admission }
    };
    let mut plan = Plan::of(people.into_iter().map(removal));
    plan.notes.push(format!("{ANY_TICKET}, `hark charter ban` keeps them out"));
    perform(host, plan, how)
}

/// What lets somebody in again whose membership has ended.
pub(super) const ANY_TICKET: &str = "any ticket that is still good lets them in again: \
                                     `hark ticket revoke` ends those of before";
