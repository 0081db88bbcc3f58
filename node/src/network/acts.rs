//! What officers have done that people are told of: who was removed, and whose roles have changed.

use std::collections::{BTreeMap, BTreeSet};

use hark_charter::{
    Charter, Verdict,
    content::{Change, Place, Sanction, SanctionKind},
};
use hark_keys::{MemberId, RoleId, UnixTime};
use hark_mesh::squad::Squad;

use super::{radio, standing::member_name};
use crate::event::Event;

/// The last of the charter that was told.
#[derive(Debug, Default)]
pub(super) struct Acts {
    /// How often each member was removed.
    removed: BTreeMap<MemberId, u32>,
    /// Roles of this device's member.
    roles: BTreeSet<(RoleId, Place)>,
    /// Those of them that loaded presets give: nobody has given them by hand.
    by_presets: BTreeSet<(RoleId, Place)>,
}

impl Acts {
    /// Nothing of what `squad` knows already is news.
    pub(super) fn begin(squad: &Squad) -> Self {
        Self {
            removed: removed(squad.charter()),
            roles: roles(squad),
            by_presets: by_presets(squad),
        }
    }

    /// What has changed since the last call. Nobody is told of the end of somebody whose name was
    /// never known here: newcomers learn of everybody who was ever removed.
    pub(super) fn take(&mut self, squad: &Squad) -> Vec<Event> {
        let mut told = Vec::new();
        let charter = squad.charter();
        let removed = removed(charter);
        let own = squad.member();
        let ended = removed.iter().filter(|(member, count)| {
            Some(**member) != own && self.removed.get(*member).is_none_or(|known| known < *count)
        });
        for (member, _) in ended {
            let Some(name) = member_name(squad, *member) else { continue };
            let removes = |change: &Change| matches!(change, Change::Remove { member: it, .. } if it == member);
            let mut bans = charter.state().sanctions_on(*member);
            let ban = bans.find(|(it, _)| is_ban(it)).map(|(it, _)| it);
            told.push(Event::MemberRemoved {
                member: member.to_string(),
                name,
                by: author(squad, removes),
                banned: ban.is_some(),
                until: ban.and_then(|it| it.until).map(UnixTime::as_secs),
            });
        }
        self.removed = removed;
        let before = std::mem::replace(&mut self.roles, roles(squad));
        let by_presets_before = std::mem::replace(&mut self.by_presets, by_presets(squad));
        // Who is removed is told that, and not of each role.
        if own.is_some_and(|own| charter.is_member(own)) {
            let taken = before.difference(&self.roles).map(|it| (it, false, &by_presets_before));
            let given = self.roles.difference(&before).map(|it| (it, true, &self.by_presets));
            for (held, given, by_presets) in taken.chain(given) {
                told.extend(role_changed(squad, *held, given, by_presets.contains(held)));
            }
        }
        told
    }
}

fn role_changed(
    squad: &Squad,
    (role, at): (RoleId, Place),
    given: bool,
    by_preset: bool,
) -> Option<Event> {
    let (charter, own) = (squad.charter(), squad.member()?);
    let channel = match at {
        Place::Organisation => None,
        Place::Channel(channel) => Some(radio::path_of(squad, channel)?),
    };
    let changes = |change: &Change| match change {
        Change::Grant(it) if given => (it.role, it.at) == (role, at) && it.members.contains(&own),
        Change::Ungrant(it) if !given => {
            (it.role, it.at) == (role, at) && it.members.contains(&own)
        }
        Change::RemoveRole(it) => !given && *it == role,
        _ => false,
    };
    let by = if by_preset { None } else { author(squad, changes) };
    let name = charter.state().role(role).map(|it| it.name.clone());
    let role = name.or_else(|| name_of(charter, role))?;
    Some(Event::RoleChanged { role, channel, by, given })
}

/// What a role was called that is gone.
fn name_of(charter: &Charter, role: RoleId) -> Option<String> {
    let changes = charter.log().rev().flat_map(|(signed, _)| signed.unverified().changes.iter());
    let mut names = changes.filter_map(|change| match change {
        Change::Role(it) if it.id == role => Some(it.name.clone()),
        _ => None,
    });
    names.next()
}

/// Who has made the last change of this kind that had effect, where that is still known.
pub(super) fn author(squad: &Squad, is: impl Fn(&Change) -> bool) -> Option<String> {
    let charter = squad.charter();
    let mut made = charter.log().rev().filter(|(signed, verdict)| {
        let Verdict::Judged(_, judged) = verdict else { return false };
        let mut changes = signed.unverified().changes.iter().zip(&**judged);
        changes.any(|(change, verdict)| verdict.is_ok() && is(change))
    });
    member_name(squad, charter.owner(made.next()?.0.unverified().author)?)
}

fn removed(charter: &Charter) -> BTreeMap<MemberId, u32> {
    charter.state().removed().collect()
}

fn roles(squad: &Squad) -> BTreeSet<(RoleId, Place)> {
    let held = squad.member().map(|member| squad.charter().state().grants(member));
    held.into_iter().flatten().collect()
}

fn by_presets(squad: &Squad) -> BTreeSet<(RoleId, Place)> {
    let Some(own) = squad.member() else { return BTreeSet::new() };
    let grants = squad.charter().state().loaded().flat_map(|preset| preset.grants.iter());
    let own = grants.filter(|grant| grant.members.contains(&own));
    own.map(|grant| (grant.role, grant.at)).collect()
}

fn is_ban(sanction: &Sanction) -> bool {
    (sanction.kind, sanction.at) == (SanctionKind::Ban, Place::Organisation)
}
