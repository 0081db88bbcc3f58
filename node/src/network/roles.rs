//! Roles that tickets promise.

use hark_charter::{
    Charter, Piece,
    content::{Change, Grant, Place},
};
use hark_keys::{Invite, List, MemberId, RoleId, Timestamp};

use super::{Publisher, own_member, working::Working};
use crate::{admission::Promised, event::Event};

impl Working {
    /// Gives a newcomer the role of its ticket, everywhere, or says that it gets none. [PROTO-4.8]
    pub(super) fn give(
        &mut self,
        now: Timestamp,
        member: MemberId,
        name: &str,
        promised: Promised,
    ) {
        let squad = &mut self.driver.squad;
        let Promised { role, outdated } = promised;
        let called = name_of(squad.charter(), role);
        let without = format!("{name} has come in without the role {called} of the ticket");
        let tell = |publisher: &Publisher, why: &str| {
            publisher.publish(Event::Notice { text: format!("{without}: {why}") });
        };
        if outdated {
            tell(&self.base.publisher, "it was issued before the membership ended");
            return;
        }
        let at = Place::Organisation;
        let charter = squad.charter_taken();
        if charter.state().grants(member).any(|held| held == (role, at)) {
            return;
        }
        let change = Change::Grant(Grant { role, at, members: List::truncated([member]) });
        let given = charter.edit(&self.base.key, own_member(squad), vec![change]);
        let given = given
            .map_err(anyhow::Error::from)
            .and_then(|operation| Ok(squad.bring(now, vec![Piece::Operation(operation)])?));
        if let Err(error) = given {
            // It belongs without: a right may have been lost in the moment since the Hello.
            tell(&self.base.publisher, &error.to_string());
        }
    }

    /// Tells somebody who has just come in that the role of the ticket has not come. [PROTO-4.21]
    pub(super) fn miss_role(&self, invite: &Invite) {
        let squad = &self.driver.squad;
        let Some(role) = invite.role else { return };
        let (charter, own) = (squad.charter(), own_member(squad));
        let at = Place::Organisation;
        if !charter.is_member(own) || charter.state().grants(own).any(|held| held == (role, at)) {
            return;
        }
        let why = if charter.state().last_removal(own) > invite.removals {
            "it was issued before your membership ended"
        } else {
            "nobody there has given it"
        };
        let called = name_of(charter, role);
        let text = format!(
            "you have come in without the role {called} of your ticket: {why}: ask an officer"
        );
        self.base.publisher.publish(Event::Notice { text });
    }
}

fn name_of(charter: &Charter, role: RoleId) -> String {
    let known = charter.state().role(role);
    known.map_or_else(|| format!("#{}", role.short()), |role| role.name.clone())
}
