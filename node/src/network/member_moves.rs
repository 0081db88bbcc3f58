//! Members whom this one moves between nets.

use super::host::RunningHost;
use crate::request::RequestError;
use hark_commands::Lookup;

/// Has a member moved, all named as people call them.
pub(super) fn order(
    host: RunningHost<'_>,
    person: &str,
    from: Option<&str>,
    to: &str,
) -> Result<(), RequestError> {
    let lookup = Lookup::new(&host);
    let from = from.map(|from| lookup.channel(from)).transpose()?;
    let (to, member) = (lookup.channel(to)?, lookup.person(person)?);
    let moved = host.squad.move_member(host.now, member, from, to);
    moved.map_err(|error| RequestError::Move { person: person.to_owned(), error })
}
