//! Who has been given roles, muted, banned or removed, by the charter that was and the one that is.

use std::{collections::BTreeSet, sync::Arc};

use hark_charter::{
    Charter,
    content::{Place, SanctionKind},
};
use hark_keys::{MemberId, RoleId, UnixTime};
use hark_mesh::squad::Squad;

use super::{Input, Runner, radio};
use crate::event::{Event, StandingView};

/// A role that somebody has got or lost, a mute or a ban that began or ended, or a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingChange {
    member: MemberId,
    standing: Standing,
    /// Whether it holds now; else it holds no more.
    begins: bool,
    /// Who has done it, as far as the charter still tells.
    by: Option<MemberId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Membership,
    Role(RoleId, Place),
    Sanction(SanctionKind, Place, Option<UnixTime>),
}

impl Runner {
    /// Has a worker find what the charter in force has changed for members.
    pub(super) fn compare_standings(&mut self) {
        let Some(squad) = &self.squad else { return };
        let after = Arc::clone(squad.charter());
        let before = self.compared.replace(Arc::clone(&after));
        // A newcomer learns what has long been so.
        let Some(before) = before.filter(|_| self.joined_at.is_none()) else { return };
        let inputs = self.input_sender.clone();
        (self.config.worker)(Box::new(move || {
            let changes = changes(&before, &after);
            if !changes.is_empty() {
                // The node may have ended meanwhile.
                let _ = inputs.send(Input::Standings(changes));
            }
        }));
    }

    /// Tells what has changed for members, as far as this device may know of the channels.
    pub(super) fn tell_standings(&self, changes: &[StandingChange]) {
        let Some(squad) = &self.squad else { return };
        for change in changes {
            if let Some(standing) = view(squad, change, |it| self.view.name_of_member(squad, it)) {
                self.config.publisher.publish(Event::Standing { standing });
            }
        }
    }
}

/// What is different for members in `after`, the first [`CHANGES_MAX`] of it.
fn changes(before: &Charter, after: &Charter) -> Vec<StandingChange> {
    let (was, is) = (standings(before), standings(after));
    let ended = was.difference(&is).map(|it| (it, false));
    let begun = is.difference(&was).map(|it| (it, true));
    // Who is banned everywhere is no member; the ban says more.
    let by_ban = |member| before.state().is_banned(member) != after.state().is_banned(member);
    let told =
        |(it, _): &(&(MemberId, Standing), bool)| it.1 != Standing::Membership || !by_ban(it.0);
    let changes = ended.chain(begun).filter(told).map(|(&(member, standing), begins)| {
        let by = match standing {
            Standing::Sanction(kind, at, _) if begins => setter(after, member, kind, at),
            _ => None,
        };
        StandingChange { member, standing, begins, by }
    });
    changes.take(CHANGES_MAX).collect()
}

fn standings(charter: &Charter) -> BTreeSet<(MemberId, Standing)> {
    let state = charter.state();
    let members = charter.members().map(|member| (member, Standing::Membership));
    let roles = state.holders().flat_map(|member| {
        state.grants(member).map(move |(role, at)| (member, Standing::Role(role, at)))
    });
    let sanctions =
        state.sanctions().map(|(it, _)| (it.member, Standing::Sanction(it.kind, it.at, it.until)));
    members.chain(roles).chain(sanctions).collect()
}

fn setter(charter: &Charter, member: MemberId, kind: SanctionKind, at: Place) -> Option<MemberId> {
    let mut sanctions = charter.state().sanctions_on(member);
    let (_, source) = sanctions.find(|(it, _)| (it.kind, it.at) == (kind, at))?;
    let (operation, _) = charter.log().find(|(operation, _)| operation.hash() == source)?;
    charter.owner(operation.unverified().author)
}

fn view(
    squad: &Squad,
    change: &StandingChange,
    name: impl Fn(MemberId) -> Option<String>,
) -> Option<StandingView> {
    let state = squad.charter().state();
    let channel = |at: Place| match at {
        Place::Organisation => Some(None),
        // One that this member may not know of is nothing to tell.
        Place::Channel(channel) => radio::path_of(squad, channel).map(Some),
    };
    let (word, role, channel, until) = match (change.standing, change.begins) {
        (Standing::Membership, true) => ("joined", None, None, None),
        (Standing::Membership, false) => ("removed", None, None, None),
        (Standing::Role(role, at), begins) => {
            let role = state.role(role)?.name.clone();
            let word = if begins { "role_given" } else { "role_taken" };
            (word, Some(role), channel(at)?, None)
        }
        (Standing::Sanction(kind, at, until), begins) => {
            let word = match (kind, begins) {
                (SanctionKind::Mute, true) => "muted",
                (SanctionKind::Mute, false) => "unmuted",
                (SanctionKind::Ban, true) => "banned",
                (SanctionKind::Ban, false) => "unbanned",
            };
            (word, None, channel(at)?, until.filter(|_| begins).map(UnixTime::as_secs))
        }
    };
    let by = change.by.map(|by| name(by).unwrap_or_else(|| by.short()));
    Some(StandingView {
        member: change.member.to_string(),
        name: name(change.member).unwrap_or_else(|| change.member.short()),
        change: word.to_owned(),
        role,
        channel,
        by,
        until,
    })
}

/// Changes of one charter to the next that are told; of more, as when a large file is applied, the rest
/// is not told one by one: `hark charter log` has it.
const CHANGES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use hark_charter::{
        Piece,
        content::{Capabilities, Change, Grant, Rank, Role, Sanction},
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
        let begun = |standing, by| StandingChange { member, standing, begins: true, by };
        assert_eq!(changes(&founded, &joined), [begun(Standing::Membership, None)]);
        let id = RoleId::from_bytes([7; 16]);
        let at = Place::Organisation;
        let rank = Rank(200);
        let role = Role { id, name: "Pilot".to_owned(), rank, capabilities: Capabilities::SPEAK };
        let members = List::truncated([member]);
        let given = Grant { role: id, at, members };
        let kind = SanctionKind::Mute;
        let mute = Sanction { member, kind, at, until: None, name: "Sable".to_owned() };
        for change in [Change::Role(role), Change::Grant(given), Change::Sanction(mute)] {
            let operation = charter.edit(&founder, own, vec![change]).expect("may");
            charter.take(Piece::Operation(operation)).expect("taken");
        }
        let muted = Standing::Sanction(kind, at, None);
        let told = changes(&joined, &charter);
        assert!(told.contains(&begun(Standing::Role(id, at), None)), "{told:?}");
        assert!(told.contains(&begun(muted, Some(own))), "{told:?}");
        assert_eq!(told.len(), 2);
        let ended: Vec<_> = changes(&charter, &joined);
        assert!(ended.iter().all(|it| !it.begins) && ended.len() == 2, "{ended:?}");
        assert_eq!(changes(&charter, &charter), []);
    }
}
