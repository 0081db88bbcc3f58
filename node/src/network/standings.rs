//! What officers have done: who was given roles, muted, banned or removed, and whose tickets were
//! revoked, by the charter that was and the one that is.

use std::{collections::BTreeSet, sync::Arc};

use hark_charter::{
    Charter, State, Verdict,
    content::{Change, Place, SanctionKind},
};
use hark_keys::{DeviceId, MemberId, RoleId, UnixTime};
use hark_mesh::squad::Squad;

use super::{Input, membership::member_name, radio, working::Working};
use crate::event::{Event, StandingView, TicketView};

/// A role that somebody has got or lost, a mute or a ban that began or ended, a membership, or the
/// end of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingChange {
    member: MemberId,
    standing: Standing,
    /// Whether it holds now; else it holds no more.
    begins: bool,
    /// Who has done it, as far as the charter still tells; nobody where a preset does.
    by: Option<MemberId>,
    /// What the role was called, of one that is gone.
    role: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// After so many removals.
    Membership(u32),
    Role(RoleId, Place),
    Sanction(SanctionKind, Place, Option<UnixTime>),
    Revoked(Revoked),
}

/// Tickets that no door takes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Revoked {
    /// One of the member's.
    One(DeviceId),
    /// All of the member's so far.
    All,
    /// Those of everybody so far, by this member.
    Everyones,
}

impl StandingChange {
    /// Whether a newcomer is told, who learns what has long been so: of its own roles, and of the
    /// end of others, whom it has to know by name to be told.
    fn is_news_for(&self, newcomer: MemberId) -> bool {
        match self.standing {
            Standing::Role(..) => self.member == newcomer,
            Standing::Membership(_) => !self.begins,
            Standing::Sanction(kind, at, _) => {
                (kind, at) == (SanctionKind::Ban, Place::Organisation) && self.begins
            }
            Standing::Revoked(_) => false,
        }
    }
}

impl Working {
    /// Has a worker find what the charter in force has changed.
    pub(super) fn compare_standings(&mut self) {
        let squad = &self.driver.squad;
        let after = Arc::clone(squad.charter());
        let before = std::mem::replace(&mut self.compared, Arc::clone(&after));
        let newcomer = self.newcomer.as_ref().and(squad.member());
        let inputs = self.base.input_sender.clone();
        (self.base.network.worker)(Box::new(move || {
            let mut changes = changes(&before, &after);
            if let Some(own) = newcomer {
                changes.retain(|it| it.is_news_for(own));
            }
            if !changes.is_empty() {
                // The node may have ended meanwhile.
                let _ = inputs.send(Input::Standings(changes));
            }
        }));
    }

    /// Tells what has changed, as far as this device may know of the channels.
    pub(super) fn tell_standings(&self, changes: &[StandingChange]) {
        let squad = &self.driver.squad;
        let name = |member| {
            let known = self.view.name_of_member(squad, member);
            known.or_else(|| member_name(squad, member))
        };
        for change in changes {
            let told = match change.standing {
                Standing::Revoked(revoked) => Some(revoked_tickets(change, revoked, name)),
                _ => view(squad, change, name).map(|standing| {
                    let own = squad.member() == Some(change.member);
                    Event::Standing { own, standing }
                }),
            };
            told.into_iter().for_each(|event| self.base.publisher.publish(event));
        }
    }
}

/// What is different in `after`, the first [`CHANGES_MAX`] of it.
fn changes(before: &Charter, after: &Charter) -> Vec<StandingChange> {
    let (was, is) = (standings(before), standings(after));
    let ended = was.difference(&is).map(|it| (it, false));
    let begun = is.difference(&was).map(|it| (it, true));
    // Who is banned everywhere is no member; the ban says more. So does the end of a membership
    // than that of each role.
    let by_ban = |member| before.state().is_banned(member) != after.state().is_banned(member);
    let removals = |charter: &Charter, member| charter.state().removals(member);
    let told = |((member, standing), begins): &(&(MemberId, Standing), bool)| match standing {
        Standing::Membership(_) => !by_ban(*member),
        Standing::Role(..) => *begins || removals(before, *member) == removals(after, *member),
        Standing::Sanction(..) | Standing::Revoked(_) => true,
    };
    let changes = ended.chain(begun).filter(told).map(|(&(member, standing), begins)| {
        let by = match standing {
            // No officer has done it, or nobody by hand.
            Standing::Membership(_) if begins => None,
            Standing::Role(role, at) => {
                let state = if begins { after.state() } else { before.state() };
                let by_hand = !by_preset(state, member, role, at);
                by_hand.then(|| author(after, |it| does(it, member, standing, begins))).flatten()
            }
            _ => author(after, |it| does(it, member, standing, begins)),
        };
        let role = match standing {
            Standing::Role(role, _) => name_of_role(before, after, role),
            _ => None,
        };
        StandingChange { member, standing, begins, by, role }
    });
    let mut changes: Vec<_> = changes.collect();
    changes.extend(revocations(before, after));
    changes.truncate(CHANGES_MAX);
    changes
}

fn standings(charter: &Charter) -> BTreeSet<(MemberId, Standing)> {
    let state = charter.state();
    let members = charter.members();
    let members = members.map(|it| (it, Standing::Membership(state.removals(it))));
    let roles = state.holders().flat_map(|member| {
        state.grants(member).map(move |(role, at)| (member, Standing::Role(role, at)))
    });
    let sanctions =
        state.sanctions().map(|(it, _)| (it.member, Standing::Sanction(it.kind, it.at, it.until)));
    members.chain(roles).chain(sanctions).collect()
}

/// Tickets that operations have revoked which are not in `before`.
fn revocations(before: &Charter, after: &Charter) -> Vec<StandingChange> {
    let known: BTreeSet<_> = before.log().map(|(operation, _)| operation.hash()).collect();
    let mut found = Vec::new();
    for (operation, verdict) in after.log() {
        let Verdict::Judged(_, judged) = verdict else { continue };
        let Some(by) = after.owner(operation.unverified().author) else { continue };
        if known.contains(&operation.hash()) {
            continue;
        }
        let done = operation.unverified().changes.iter().zip(&**judged);
        for change in done.filter(|(_, verdict)| verdict.is_ok()).map(|(change, _)| change) {
            let (member, revoked) = match change {
                Change::RevokeTicket(it) => (it.issuer, Revoked::One(it.key)),
                Change::RevokeTickets(Some(issuer)) => (*issuer, Revoked::All),
                Change::RevokeTickets(None) => (by, Revoked::Everyones),
                _ => continue,
            };
            let (standing, by) = (Standing::Revoked(revoked), Some(by));
            found.push(StandingChange { member, standing, begins: true, by, role: None });
        }
    }
    found
}

/// Whether a change has this effect.
fn does(change: &Change, of: MemberId, standing: Standing, begins: bool) -> bool {
    match (change, standing) {
        (Change::Remove { member, .. }, Standing::Membership(_)) => !begins && *member == of,
        (Change::Grant(it), Standing::Role(role, at)) => {
            begins && (it.role, it.at) == (role, at) && it.members.contains(&of)
        }
        (Change::Ungrant(it), Standing::Role(role, at)) => {
            !begins && (it.role, it.at) == (role, at) && it.members.contains(&of)
        }
        (Change::RemoveRole(it), Standing::Role(role, _)) => !begins && *it == role,
        (Change::Sanction(it), Standing::Sanction(kind, at, until)) => {
            begins && (it.member, it.kind, it.at, it.until) == (of, kind, at, until)
        }
        (Change::Lift { member, kind: lifted, at: place }, Standing::Sanction(kind, at, _)) => {
            !begins && (*member, *lifted, *place) == (of, kind, at)
        }
        _ => false,
    }
}

/// Who has made the last change of this kind that had effect, where that is still known.
pub(super) fn author(charter: &Charter, is: impl Fn(&Change) -> bool) -> Option<MemberId> {
    let mut made = charter.log().rev().filter(|(signed, verdict)| {
        let Verdict::Judged(_, judged) = verdict else { return false };
        let mut changes = signed.unverified().changes.iter().zip(&**judged);
        changes.any(|(change, verdict)| verdict.is_ok() && is(change))
    });
    charter.owner(made.next()?.0.unverified().author)
}

fn by_preset(state: &State, member: MemberId, role: RoleId, at: Place) -> bool {
    let mut grants = state.loaded().flat_map(|preset| preset.grants.iter());
    grants.any(|it| (it.role, it.at) == (role, at) && it.members.contains(&member))
}

/// What a role is called, or was that is gone.
fn name_of_role(before: &Charter, after: &Charter, role: RoleId) -> Option<String> {
    let role = after.state().role(role).or_else(|| before.state().role(role));
    role.map(|role| role.name.clone())
}

fn revoked_tickets(
    change: &StandingChange,
    revoked: Revoked,
    name: impl Fn(MemberId) -> Option<String>,
) -> Event {
    let named = |member: MemberId| name(member).unwrap_or_else(|| member.short());
    let (number, of) = match revoked {
        Revoked::One(key) => (Some(key.short()), Some(named(change.member))),
        Revoked::All => (None, Some(named(change.member))),
        Revoked::Everyones => (None, None),
    };
    let by = change.by.map(named);
    Event::Ticket { ticket: TicketView { change: "revoked".to_owned(), number, of, by } }
}

fn view(
    squad: &Squad,
    change: &StandingChange,
    name: impl Fn(MemberId) -> Option<String>,
) -> Option<StandingView> {
    let channel = |at: Place| match at {
        Place::Organisation => Some(None),
        // One that this member may not know of is nothing to tell.
        Place::Channel(channel) => radio::path_of(squad, channel).map(Some),
    };
    let is_removed = squad.charter().state().removals(change.member);
    let (word, channel, until) = match (change.standing, change.begins) {
        (Standing::Membership(_), true) => ("joined", None, None),
        (Standing::Membership(removals), false) if removals < is_removed => ("removed", None, None),
        (Standing::Membership(_), false) => ("left", None, None),
        (Standing::Role(_, at), true) => ("role_given", channel(at)?, None),
        (Standing::Role(_, at), false) => ("role_taken", channel(at)?, None),
        (Standing::Sanction(kind, at, until), begins) => {
            let word = match (kind, begins) {
                (SanctionKind::Mute, true) => "muted",
                (SanctionKind::Mute, false) => "unmuted",
                (SanctionKind::Ban, true) => "banned",
                (SanctionKind::Ban, false) => "unbanned",
            };
            (word, channel(at)?, until.filter(|_| begins).map(UnixTime::as_secs))
        }
        (Standing::Revoked(_), _) => return None,
    };
    let known = name(change.member);
    // Who was never known here has not gone from here either.
    if known.is_none() && !squad.charter().is_member(change.member) {
        return None;
    }
    Some(StandingView {
        member: change.member.to_string(),
        name: known.unwrap_or_else(|| change.member.short()),
        change: word.to_owned(),
        role: change.role.clone(),
        channel,
        by: change.by.map(|by| name(by).unwrap_or_else(|| by.short())),
        until,
    })
}

/// Changes of one charter to the next that are told; of more, as when a large file is applied, the
/// rest is not told one by one: `hark charter log` has it.
const CHANGES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use hark_charter::{
        Piece,
        content::{Capabilities, Change, Grant, Rank, RevokedTicket, Role, Sanction},
    };
    use hark_keys::{DeviceKey, List, SeededRandom};

    use super::*;

    #[test]
    fn nobody_was_told_who_was_muted_or_given_a_role() {
        let random = SeededRandom::new(1);
        let (founder, other) = (DeviceKey::generate(&random), DeviceKey::generate(&random));
        let mut charter = Charter::found("Squad", "Voice", &founder, None, &random);
        let own = charter.member_of(founder.id());
        let member = charter.member_of(other.id());
        let founded = charter.clone();
        let certificate = charter.issue(&founder, own, other.id(), None).expect("issued");
        charter.take(Piece::Certificate(certificate)).expect("taken");
        let joined = charter.clone();
        let begun = |standing, by, role: Option<&str>| StandingChange {
            member,
            standing,
            begins: true,
            by,
            role: role.map(str::to_owned),
        };
        assert_eq!(changes(&founded, &joined), [begun(Standing::Membership(0), None, None)]);
        let id = RoleId::from_bytes([7; 16]);
        let at = Place::Organisation;
        let rank = Rank(200);
        let role = Role { id, name: "Pilot".to_owned(), rank, capabilities: Capabilities::SPEAK };
        let members = List::truncated([member]);
        let given = Grant { role: id, at, members };
        let kind = SanctionKind::Mute;
        let mute = Sanction { member, kind, at, until: None, name: "Sable".to_owned() };
        let ticket =
            RevokedTicket { issuer: own, key: other.id(), expires: UnixTime::from_secs(9) };
        for change in [
            Change::Role(role),
            Change::Grant(given),
            Change::Sanction(mute),
            Change::RevokeTicket(ticket),
        ] {
            let operation = charter.edit(&founder, own, vec![change]).expect("may");
            charter.take(Piece::Operation(operation)).expect("taken");
        }
        let muted = Standing::Sanction(kind, at, None);
        let told = changes(&joined, &charter);
        let given = begun(Standing::Role(id, at), Some(own), Some("Pilot"));
        assert!(told.contains(&given), "{told:?}");
        assert!(told.contains(&begun(muted, Some(own), None)), "{told:?}");
        let revoked = Standing::Revoked(Revoked::One(other.id()));
        assert_eq!(told.last().expect("a ticket").standing, revoked);
        assert_eq!(told.len(), 3);
        let ended: Vec<_> = changes(&charter, &joined);
        assert!(ended.iter().all(|it| !it.begins) && ended.len() == 2, "{ended:?}");
        assert_eq!(changes(&charter, &charter), []);
        // Of whoever is removed the roles are not told one by one, but by whom it was done.
        let removal = Change::Remove { member, admission: 1 };
        let operation = charter.edit(&founder, own, vec![removal]).expect("may");
        let before = charter.clone();
        charter.take(Piece::Operation(operation)).expect("taken");
        let told = changes(&before, &charter);
        let ends = |it: &&StandingChange| it.standing == Standing::Membership(0) && !it.begins;
        assert_eq!(told.iter().find(ends).and_then(|it| it.by), Some(own), "{told:?}");
        assert!(!told.iter().any(|it| matches!(it.standing, Standing::Role(..))), "{told:?}");
    }
}
