//! `hark ticket list`, `hark ticket revoke`

use hark_charter::{
    TICKETS_MAX,
    content::{Capabilities, Change, Place, RevokedTicket},
};
use hark_keys::{Invite, Ticket};

use crate::{
    CommandError, Host, KnownTicket, Mistake, Note, Outcome, RequestSubject, TicketsRequest,
    Unchanged,
    edit::{Plan, perform},
    lists,
    names::{Candidate, find},
    view::View,
};

pub(crate) fn execute(
    host: &mut dyn Host,
    request: TicketsRequest,
) -> Result<Outcome, CommandError> {
    match request {
        TicketsRequest::List => Ok(Outcome::Tickets(lists::tickets(host)?)),
        TicketsRequest::Revoke { ticket, of, how } => {
            let plan = match (ticket.as_str(), of) {
                ("all", of) => revoke_all(host, of.as_deref())?,
                (_, None) => match revoke_one(host, &ticket)? {
                    Ok(plan) => plan,
                    Err(done) => return Ok(Outcome::unchanged(done)),
                },
                (_, Some(_)) => return Err(Mistake::OneTicketOf.into()),
            };
            perform(host, plan, &how)
        }
    }
}

/// One ticket, by its number or as it was given out; or why there is nothing to revoke.
fn revoke_one(host: &dyn Host, text: &str) -> Result<Result<Plan, Unchanged>, CommandError> {
    let (view, charter) = (View::new(host), host.charter());
    let invite = match Ticket::find(text) {
        Ok(ticket) => ticket.invite().clone(),
        Err(_) => known(host, text)?,
    };
    if invite.organisation != charter.organisation() {
        return Err(Mistake::OthersTicket(charter.name().to_owned()).into());
    }
    let number = invite.number();
    let Some(issuer) = charter.owner(invite.issuer) else {
        return Ok(Err(Unchanged::IssuerGone(number)));
    };
    if view.state.revokes(issuer, &invite) {
        return Ok(Err(Unchanged::RevokedBefore(number)));
    }
    let held = view.state.revoked_tickets().filter(|it| it.issuer == issuer).count();
    let revoked = RevokedTicket { issuer, key: invite.invite_key, expires: invite.expires };
    let mut plan = Plan::of([Change::RevokeTicket(revoked)]);
    if held >= TICKETS_MAX {
        plan.notes.push(Note::AllTicketsOf(view.person(issuer)));
    }
    plan.about = Some(RequestSubject::Number(number));
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
        Err(_) => Err(Mistake::UnknownTicket(number.to_owned()).into()),
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
                plan.notes.push(Note::TicketsStay(view.people(above)));
            }
            Ok(plan)
        }
        Some(person) => Ok(Plan::of([change(view.find_person(person)?)])),
    }
}
