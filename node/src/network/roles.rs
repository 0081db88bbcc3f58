//! Roles that tickets promise.

use hark_charter::{
    Charter, Piece,
    content::{Change, Grant, Place},
};
use hark_keys::{List, MemberId, RoleId, Timestamp};

use super::{Publisher, Runner, own_member};
use crate::{admission::Promised, event::Event};

impl Runner {
    /// Gives a newcomer the role of its ticket, everywhere, or says that it gets none. [PROTO-4.8]
    pub(super) fn give(
        &mut self,
        now: Timestamp,
        member: MemberId,
        name: &str,
        promised: Promised,
    ) {
        let Some(squad) = &mut self.squad else { return };
        let Promised { role, outdated } = promised;
        let called = name_of(squad.charter(), role);
        let without = format!("{name} has come in without the role {called} of the ticket");
        let tell = |publisher: &Publisher, why: &str| {
            publisher.publish(Event::Notice { text: format!("{without}: {why}") });
        };
        if outdated {
            tell(&self.config.publisher, "it was issued before the membership ended");
            return;
        }
        let at = Place::Organisation;
        let charter = squad.charter_taken();
        if charter.state().grants(member).any(|held| held == (role, at)) {
            return;
        }
        let change = Change::Grant(Grant { role, at, members: List::truncated([member]) });
        let given = charter.edit(&self.config.key, own_member(squad), vec![change]);
        let given = given
            .map_err(anyhow::Error::from)
            .and_then(|operation| Ok(squad.bring(now, vec![Piece::Operation(operation)])?));
        if let Err(error) = given {
            // It belongs without: a right may have been lost in the moment since the Hello.
            tell(&self.config.publisher, &error.to_string());
        }
    }

    /// Tells somebody who has just come in that the role of the ticket has not come. [PROTO-4.21]
    pub(super) fn miss_role(&mut self) {
        let (Some(squad), Some(invite)) = (&self.squad, self.joined_by.take()) else { return };
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
        self.config.publisher.publish(Event::Notice { text });
    }
}

fn name_of(charter: &Charter, role: RoleId) -> String {
    let known = charter.state().role(role);
    known.map_or_else(|| format!("#{}", role.short()), |role| role.name.clone())
}
