//! Why something is refused, and who could do it.

use hark_charter::{
    Denial, EditError,
    content::{Capabilities, Change, Place, Rank, RevokedTicket, Sanction},
};
use hark_keys::MemberId;

use super::{
    CommandError,
    edit::is_new,
    names::{counted, listed},
    view::View,
    words::{spaced, tell},
};

/// The refusal of one of `changes`, in a line.
pub(super) fn refuse(view: &View<'_>, changes: &[Change], error: EditError) -> CommandError {
    let EditError::Denied(place, denial) = error else {
        return CommandError::Refused(format!("refused: {error}"));
    };
    let Some(change) = changes.get(place) else {
        return CommandError::Refused(format!("refused: {denial}"));
    };
    let what = match tell(view, change, is_new(view, change)) {
        Some(phrase) => format!("to {}", phrase.brief()),
        None => "for this".to_owned(),
    };
    refuse_to(view, &what, change, denial)
}

/// The refusal of `what` somebody wants, which takes what `change` would.
pub(super) fn refuse_to(
    view: &View<'_>,
    what: &str,
    change: &Change,
    denial: Denial,
) -> CommandError {
    let (need, who) = (need(view, change, denial), who(view, change, denial));
    CommandError::Refused(format!("{what}, {need}; {who}"))
}

/// What is missing.
fn need(view: &View<'_>, change: &Change, denial: Denial) -> String {
    match denial {
        Denial::Right(right, at) => {
            format!("you need the right {} {}", spaced(right), view.place(at))
        }
        Denial::Rank if let Some(why) = stands_higher(view, change) => why,
        Denial::Rank => match outranked(view, change) {
            Some(Rank(0)) => "nobody stands high enough".to_owned(),
            Some(rank) => format!("you need a rank above {}", rank.0),
            None => "you need a higher rank".to_owned(),
        },
        Denial::Excess(rights) => {
            format!(
                "you must yourself have the rights that it gives: {} is missing",
                spaced(rights)
            )
        }
        Denial::Absent => {
            "this is not possible: what it is about is not there, or gone for good".to_owned()
        }
        Denial::Cycle => "this is not possible: the channel would lie below itself".to_owned(),
        Denial::Root => {
            let root = view.charter().root();
            let keys = counted(root.threshold.into(), "root key");
            match root.threshold {
                1 => format!("you need {keys}"),
                _ => format!("you need {keys} to sign: write a draft with --draft and --cosigner"),
            }
        }
        _ => denial.to_string(),
    }
}

fn who(view: &View<'_>, change: &Change, denial: Denial) -> String {
    let able: Vec<_> = match denial {
        Denial::Absent | Denial::Cycle => return "nobody could".to_owned(),
        Denial::Root => {
            let charter = view.charter();
            let holds =
                |it: &MemberId| charter.devices_of(*it).iter().any(|key| charter.is_root(*key));
            view.members().into_iter().filter(holds).collect()
        }
        _ => view.members().into_iter().filter(|it| is_able(view, change, denial, *it)).collect(),
    };
    match able.as_slice() {
        [] => "no member could alone".to_owned(),
        some if some.len() > SHOWN => {
            let first = view.people(some[..SHOWN].iter().copied()).join(", ");
            format!("{first} and {} more could", some.len() - SHOWN)
        }
        some => format!("{} could", listed(&view.people(some.iter().copied()), "or")),
    }
}

/// Whether a member has the rights and the rank for a change.
fn is_able(view: &View<'_>, change: &Change, denial: Denial, member: MemberId) -> bool {
    // One's own tickets need nothing.
    if let Change::RevokeTicket(RevokedTicket { issuer, .. }) | Change::RevokeTickets(Some(issuer)) =
        change
        && *issuer == member
    {
        return true;
    }
    let Some((right, at)) = right(change) else { return false };
    let may = |right, at| view.charter().allows(member, right, at);
    let named = match denial {
        // Of a link, or a move, it may be the other end that is missing.
        Denial::Right(right, at) => may(right, at),
        _ => true,
    };
    let gives = match change {
        Change::Role(role) => (role.capabilities, Place::Organisation),
        Change::Rule(rule) => (rule.allow, rule.at),
        _ => (Capabilities::NONE, at),
    };
    let rank_at = match change {
        Change::Grant(grant) | Change::Ungrant(grant) => grant.at,
        Change::Sanction(_) | Change::Lift { .. } => at,
        _ => Place::Organisation,
    };
    let root = view.state.rank(member, Place::Organisation) == Rank::ROOT;
    may(right, at)
        && named
        && (root || may(gives.0, gives.1))
        && outranked(view, change).is_none_or(|rank| view.state.rank(member, rank_at) < rank)
}

/// The rank that whoever makes the change has to stand above.
fn outranked(view: &View<'_>, change: &Change) -> Option<Rank> {
    let role = |id| view.state.role(id).map(|role| role.rank);
    match change {
        Change::Role(new) => role(new.id).into_iter().chain([new.rank]).min(),
        Change::RemoveRole(id) => role(*id),
        Change::Grant(grant) | Change::Ungrant(grant) => role(grant.role),
        Change::Remove { member, .. }
        | Change::RevokeTicket(RevokedTicket { issuer: member, .. })
        | Change::RevokeTickets(Some(member)) => {
            Some(view.state.rank(*member, Place::Organisation))
        }
        Change::Sanction(it) => Some(view.state.rank(it.member, it.at)),
        Change::Lift { member, kind, at } => {
            let set = view.state.sanction_rank(*member, *kind, *at)?;
            // Who stands as high as whoever set it may lift it.
            Some(Rank(set.0.saturating_add(1)))
        }
        _ => None,
    }
}

/// Who stands too high for a mute, a ban or the end of a membership, or for its end.
fn stands_higher(view: &View<'_>, change: &Change) -> Option<String> {
    let (member, at) = match change {
        Change::Sanction(it) => (it.member, it.at),
        Change::Remove { member, .. }
        | Change::RevokeTicket(RevokedTicket { issuer: member, .. })
        | Change::RevokeTickets(Some(member)) => (*member, Place::Organisation),
        Change::Lift { .. } => return Some("you must not stand below whoever set it".to_owned()),
        _ => return None,
    };
    let [theirs, yours] = [member, view.host.member()].map(|it| view.state.rank(it, at));
    let how = if theirs < yours { "above you" } else { "as high as you" };
    let rank = match theirs {
        Rank::ROOT => "a root key".to_owned(),
        Rank::LOWEST => "no rank".to_owned(),
        rank => format!("rank {}", rank.0),
    };
    Some(format!("you must stand above {0}, who stands {how} ({rank})", view.person(member)))
}

/// The right that a change needs, and where.
fn right(change: &Change) -> Option<(Capabilities, Place)> {
    let everywhere = Place::Organisation;
    Some(match change {
        Change::Role(_) | Change::RemoveRole(_) => (Capabilities::MANAGE_ROLES, everywhere),
        Change::Grant(grant) | Change::Ungrant(grant) => (Capabilities::MANAGE_ROLES, grant.at),
        Change::Rule(rule) => (Capabilities::MANAGE_ROLES, rule.at),
        Change::Channel(channel) => (Capabilities::MANAGE_CHANNELS, channel.parent),
        Change::MoveChannel { channel, .. } | Change::RemoveChannel(channel) => {
            (Capabilities::MANAGE_CHANNELS, Place::Channel(*channel))
        }
        Change::Link { a, .. } => (Capabilities::MANAGE_CHANNELS, Place::Channel(*a)),
        Change::Preset(_)
        | Change::RemovePreset(_)
        | Change::LoadPreset(_)
        | Change::UnloadPreset(_) => (Capabilities::EDIT_PRESETS, everywhere),
        Change::Relay(_) | Change::RemoveRelay(_) => (Capabilities::APPOINT_RELAYS, everywhere),
        Change::Admitted(_) | Change::RevokeTicket(_) | Change::RevokeTickets(Some(_)) => {
            (Capabilities::ADMIT, everywhere)
        }
        Change::Remove { .. } => (Capabilities::BAN, everywhere),
        Change::Sanction(Sanction { kind, at, .. }) | Change::Lift { kind, at, .. } => {
            (kind.needs(*at), *at)
        }
        Change::Policy(_)
        | Change::RevokeTickets(None)
        | Change::AddDevice { .. }
        | Change::RetireDevice { .. } => return None,
    })
}

/// Names to give; more would not be read.
const SHOWN: usize = 5;
