//! Roles that tickets promise.

use hark_charter::{
    Piece,
    content::{Change, Grant, Place},
};
use hark_keys::{List, MemberId, RoleId, Timestamp};

use super::{Runner, own_member};

impl Runner {
    /// Gives a newcomer the role of its ticket, everywhere. [PROTO-4.8]
    pub(super) fn give(&mut self, now: Timestamp, member: MemberId, role: RoleId) {
        let Some(squad) = &mut self.squad else { return };
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
            tracing::error!(member = member.short(), %error, "a newcomer does not get the role of its ticket");
        }
    }
}
