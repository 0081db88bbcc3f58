//! `hark ticket list`, `hark ticket revoke`

use hark_charter::{
    TICKETS_MAX,
    content::{Capabilities, Change, Place, RevokedTicket},
};
use hark_keys::{DeviceId, Invite, MemberId, Ticket};
use serde_json::{Value, json};

use super::{
    Answer, CommandError, Host, TicketsRequest,
    edit::{Plan, perform},
    names::{Candidate, counted, find, listed},
    unchanged,
    view::View,
};
use crate::{clock::utc, store::KnownTicket};

pub(super) fn execute(
    host: &mut dyn Host,
    request: TicketsRequest,
) -> Result<Answer, CommandError> {
    match request {
        TicketsRequest::List => {
            let mut answer = list(host)?;
            if answer.json != json!([]) {
                let indented = answer.text.replace('\n', "\n  ");
                answer.text =
                    format!("tickets that this device issued or let people in by\n  {indented}");
            }
            Ok(answer)
        }
        TicketsRequest::Revoke { ticket, of, how } => {
            let plan = match (ticket.as_str(), of) {
                ("all", of) => revoke_all(host, of.as_deref())?,
                (_, None) => match revoke_one(host, &ticket)? {
                    Ok(plan) => plan,
                    Err(done) => return Ok(unchanged(done)),
                },
                (_, Some(_)) => {
                    let line = "--of goes with `all`: one ticket is known by its number";
                    return Err(CommandError::Input(line.to_owned()));
                }
            };
            perform(host, plan, &how)
        }
    }
}

/// What is known of tickets here.
pub(super) fn list(host: &dyn Host) -> Result<Answer, CommandError> {
    let (view, mut tickets) = (View::new(host), host.tickets()?);
    tickets.sort_by_key(|ticket| (ticket.invite.expires, ticket.invite.invite_key));
    let mut lines = Vec::new();
    let mut json = Vec::new();
    for KnownTicket { invite, devices } in &tickets {
        let issuer = host.charter().owner(invite.issuer);
        let revoked = issuer.is_some_and(|it| view.state.revokes(it, invite));
        let who: Vec<_> = devices.iter().map(|device| holder(&view, *device)).collect();
        lines.push(line(&view, invite, issuer, &who, revoked));
        json.push(json!({
            "number": invite.number(),
            "key": invite.invite_key.to_string(),
            "issuer": issuer.map(|it| it.to_string()),
            "issued_by": issuer.map(|it| view.person(it)),
            "expires": invite.expires.as_secs(),
            "uses": invite.uses,
            "role": invite.role.map(|role| role.to_string()),
            "for_device": invite.member.is_some(),
            "ask": invite.asks,
            "used_by": devices.iter().zip(&who).map(|(device, who)| json!({
                "device": device.to_string(),
                "name": who,
            })).collect::<Vec<_>>(),
            "revoked": revoked,
        }));
    }
    if lines.is_empty() {
        lines.push("this device knows of no ticket that is still good".to_owned());
    }
    Ok(Answer::new(lines.join("\n"), Value::Array(json)))
}

fn line(
    view: &View<'_>,
    invite: &Invite,
    issuer: Option<MemberId>,
    who: &[String],
    revoked: bool,
) -> String {
    let from = match issuer {
        Some(issuer) if issuer == view.host.member() => "yours".to_owned(),
        Some(issuer) => format!("of {}", view.person(issuer)),
        None => "of somebody who is gone".to_owned(),
    };
    let whom = match (invite.member, invite.uses) {
        (Some(_), _) => "for a further device".to_owned(),
        (None, 0) => "any number of uses".to_owned(),
        (None, uses) => counted(uses.into(), "use"),
    };
    let mut line = format!("{}  {from}, {whom}", invite.number());
    line.extend(invite.role.map(|role| format!(", role {}", view.role(role))));
    if invite.asks {
        line += ", newcomers are let in by hand";
    }
    line += &format!(", until {}", utc(invite.expires));
    if revoked {
        line += "; revoked";
    }
    if !who.is_empty() {
        line += &format!("; used here by {}", listed(who, "and"));
    }
    line
}

/// Whose device it is, or what it is called.
fn holder(view: &View<'_>, device: DeviceId) -> String {
    let owner = view.charter().owner(device);
    owner.map_or_else(|| format!("the device {}", device.short()), |owner| view.person(owner))
}

/// One ticket, by its number or as it was given out; a line where it is revoked already.
fn revoke_one(host: &dyn Host, text: &str) -> Result<Result<Plan, String>, CommandError> {
    let (view, charter) = (View::new(host), host.charter());
    let invite = match Ticket::find(text) {
        Ok(ticket) => ticket.invite().clone(),
        Err(_) => known(host, text)?,
    };
    if invite.organisation != charter.organisation() {
        let line = format!("this ticket is of another organisation than {}", charter.name());
        return Err(CommandError::Input(line));
    }
    let number = invite.number();
    let Some(issuer) = charter.owner(invite.issuer) else {
        return Ok(Err(format!("ticket {number} admits nobody: who issued it is gone")));
    };
    if view.state.revokes(issuer, &invite) {
        return Ok(Err(format!("ticket {number} is revoked already")));
    }
    let held = view.state.revoked_tickets().filter(|it| it.issuer == issuer).count();
    let revoked = RevokedTicket { issuer, key: invite.invite_key, expires: invite.expires };
    let mut plan = Plan::of([Change::RevokeTicket(revoked)]);
    if held >= TICKETS_MAX {
        plan.notes.push(format!(
            "with it all tickets of {} so far: the charter holds {TICKETS_MAX} one by one",
            view.person(issuer)
        ));
    }
    plan.json.insert("number".to_owned(), number.into());
    Ok(Ok(plan))
}

/// The ticket of this number, of those that are known here.
fn known(host: &dyn Host, number: &str) -> Result<Invite, CommandError> {
    let tickets = host.tickets()?;
    let candidate = |(id, ticket): (usize, &KnownTicket)| Candidate {
        id,
        name: ticket.invite.number(),
        unique: ticket.invite.invite_key.to_string(),
    };
    let candidates: Vec<_> = tickets.iter().enumerate().map(candidate).collect();
    match find(("ticket", "tickets"), number, &candidates) {
        Ok(place) => Ok(tickets[place].invite.clone()),
        Err(error @ CommandError::Ambiguous { .. }) => Err(error),
        Err(_) => {
            let line = format!(
                "no ticket with the number {number:?} is known here: give the ticket itself, or \
                 revoke all of its issuer's with `hark ticket revoke all --of PERSON`"
            );
            Err(CommandError::Input(line))
        }
    }
}

/// All tickets so far: one's own, a member's, or everybody's.
fn revoke_all(host: &dyn Host, of: Option<&str>) -> Result<Plan, CommandError> {
    let view = View::new(host);
    let own = host.member();
    let change = |member| Change::RevokeTickets(Some(member));
    match of {
        None => Ok(Plan::of([change(own)])),
        Some("everyone") if host.charter().is_root(host.key().id()) => {
            Ok(Plan::of([Change::RevokeTickets(None)]))
        }
        // Who stands as high keeps theirs.
        Some("everyone") => {
            let (admit, everywhere) = (Capabilities::ADMIT, Place::Organisation);
            let rank = view.state.rank(own, everywhere);
            let admitting = view.members().into_iter().filter(|member| {
                *member != own && view.charter().allows(*member, admit, everywhere)
            });
            let (below, above): (Vec<_>, Vec<_>) =
                admitting.partition(|member| rank < view.state.rank(*member, everywhere));
            let mut plan = Plan::of(std::iter::once(own).chain(below).map(change));
            if !above.is_empty() {
                let above = view.people(above);
                plan.notes.push(format!(
                    "tickets of {} stay good: you must stand above them to revoke theirs",
                    listed(&above, "and")
                ));
            }
            Ok(plan)
        }
        Some(person) => Ok(Plan::of([change(view.find_person(person)?)])),
    }
}
