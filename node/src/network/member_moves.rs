//! Members whom this one moves between nets.

use super::host::RunningHost;
use hark_commands::{CommandError, Lookup};

/// Has a member moved, all named as people call them; fails with one line for the person.
pub(super) fn order(
    host: RunningHost<'_>,
    person: &str,
    from: Option<&str>,
    to: &str,
) -> Result<(), String> {
    let line = |error: CommandError| error.to_string();
    let lookup = Lookup::new(&host);
    let from = from.map(|from| lookup.channel(from)).transpose().map_err(line)?;
    let (to, member) = (lookup.channel(to).map_err(line)?, lookup.person(person).map_err(line)?);
    let moved = host.squad.move_member(host.now, member, from, to);
    moved.map_err(|error| format!("{person}: {error}"))
}
