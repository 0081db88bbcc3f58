//! Why something is refused, and who could do it.

use hark_charter::{
    Denial, EditError,
    content::{Capabilities, Change, Place, Rank, RevokedTicket, Sanction},
};
use hark_keys::MemberId;

use crate::{Able, CharterRefusal, CommandError, Need, Wish, edit::is_new, view::View};

/// The refusal of one of `changes`.
pub(crate) fn refuse(view: &View<'_>, changes: &[Change], error: EditError) -> CommandError {
    let EditError::Denied(place, denial) = error else {
        return CharterRefusal::Edit(error).into();
    };
    let Some(change) = changes.get(place) else { return CharterRefusal::Edit(error).into() };
    let named = view.change(change, is_new(view, change));
    let wish = named.map_or(Wish::Unseen, |change| Wish::Change(Box::new(change)));
    refuse_to(view, wish, change, denial)
}

/// The refusal of what somebody wants, which takes what `change` would.
pub(crate) fn refuse_to(
    view: &View<'_>,
    wish: Wish,
    change: &Change,
    denial: Denial,
) -> CommandError {
    let (need, able) = (need(view, change, denial), able(view, change, denial));
    CharterRefusal::Denied { wish, need, able }.into()
}

/// What is missing.
fn need(view: &View<'_>, change: &Change, denial: Denial) -> Need {
    match denial {
        Denial::Right(right, at) => Need::Right(right.into(), view.at(at)),
        Denial::Rank => {
            stands_higher(view, change).unwrap_or_else(|| match outranked(view, change) {
                Some(Rank::ROOT) => Need::NoRank,
                Some(rank) => Need::RankAbove(rank.0),
                None => Need::HigherRank,
            })
        }
        Denial::Excess(rights) => Need::Own(rights.into()),
        Denial::Absent => Need::Absent,
        Denial::Cycle => Need::Cycle,
        Denial::Root => Need::RootKeys(view.charter().root().threshold),
        _ => Need::Other(denial),
    }
}

/// Who could do it.
fn able(view: &View<'_>, change: &Change, denial: Denial) -> Able {
    let charter = view.charter();
    let can = |member: &MemberId| match denial {
        Denial::Root => charter.devices_of(*member).iter().any(|key| charter.is_root(*key)),
        _ => is_able(view, change, denial, *member),
    };
    if matches!(denial, Denial::Absent | Denial::Cycle) {
        return Able::Nobody;
    }
    let able: Vec<_> = view.members().into_iter().filter(can).collect();
    let more = if able.len() > SHOWN { able.len() - SHOWN } else { 0 };
    Able::Members(view.people(able.into_iter().take(SHOWN)), more)
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
fn stands_higher(view: &View<'_>, change: &Change) -> Option<Need> {
    let (member, at) = match change {
        Change::Sanction(it) => (it.member, it.at),
        Change::Remove { member, .. }
        | Change::RevokeTicket(RevokedTicket { issuer: member, .. })
        | Change::RevokeTickets(Some(member)) => (*member, Place::Organisation),
        Change::Lift { .. } => return Some(Need::NotBelowSetter),
        _ => return None,
    };
    let [theirs, yours] = [member, view.host.member()].map(|it| view.state.rank(it, at));
    let person = view.person(member);
    Some(Need::Above { person, higher: theirs < yours, rank: theirs.0 })
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
