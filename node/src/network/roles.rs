//! Roles that tickets promise.

use hark_charter::{
    Charter, Piece,
    content::{Change, Grant, Place},
};
use hark_keys::{Invite, List, MemberId, RoleId, Timestamp};

use super::{own_member, working::Working};
use crate::{admission::Promised, event::Notice};

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
        let without = |error| {
            let (name, role) = (name.to_owned(), called);
            self.base.publisher.notify(Notice::CameWithoutRole { name, role, error });
        };
        if outdated {
            return without(None);
        }
        let at = Place::Organisation;
        let charter = squad.charter_taken();
        if charter.state().grants(member).any(|held| held == (role, at)) {
            return;
        }
        let change = Change::Grant(Grant { role, at, members: List::truncated([member]) });
        let given = charter.edit(&self.base.key, own_member(squad), vec![change]);
        let given = given.map_err(|error| error.to_string()).and_then(|operation| {
            let brought = squad.bring(now, vec![Piece::Operation(operation)]);
            brought.map_err(|error| error.to_string())
        });
        if let Err(error) = given {
            // It belongs without: a right may have been lost in the moment since the Hello.
            without(Some(error));
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
        let outdated = charter.state().last_removal(own) > invite.removals;
        let role = name_of(charter, role);
        self.base.publisher.notify(Notice::RoleMissing { role, outdated });
    }
}

fn name_of(charter: &Charter, role: RoleId) -> String {
    let known = charter.state().role(role);
    known.map_or_else(|| format!("#{}", role.short()), |role| role.name.clone())
}
