//! Members whom this one moves between nets.

use hark_keys::Timestamp;
use hark_mesh::squad::Squad;

use super::radio::{channel_named, member_named};

/// Has a member moved, all named as people call them; fails with one line for the person.
pub(super) fn order(
    now: Timestamp,
    squad: &mut Squad,
    person: &str,
    from: Option<&str>,
    to: &str,
) -> Result<(), String> {
    let channel = |name: &str| {
        let found = channel_named(squad, name);
        found.ok_or_else(|| format!("no net is called {name:?}: `hark ctl status` shows them"))
    };
    let (from, to) = (from.map(channel).transpose()?, channel(to)?);
    let member = member_named(squad, person);
    let member = member.ok_or_else(|| {
        format!("nobody, or more than one, is called {person:?}: see `hark ctl status`")
    })?;
    squad.move_member(now, member, from, to).map_err(|error| format!("{person}: {error}"))
}
