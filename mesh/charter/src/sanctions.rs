//! Mutes and bans: the state keeps them with their ends, and each device decides by its own clock
//! which are in force.
//!
//! ```text
//! operations ── replay ──> sanctions set (the same for all) ── clock ──> sanctions in force
//! ```
//!
//! The clock never enters the merge: while operations are replayed, no sanction is in force.
//! [CHARTER-6.7]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{DeviceId, MemberId, ObjectHash, UnixTime};
use serde::{Deserialize, Serialize};

use super::{
    Charter,
    content::{Capabilities, Place, Rank, Sanction, SanctionKind},
    shared::Shared,
    state::State,
};

/// A sanction that is set, with the rank of its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SanctionEntry {
    pub(super) sanction: Sanction,
    /// The author's rank at the place.
    pub(super) rank: Rank,
    pub(super) source: ObjectHash,
}

/// The sanctions in force at present, by the clock of this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InForce {
    sanctions: BTreeMap<MemberId, Vec<SanctionEntry>>,
    /// Devices that members who are banned everywhere have, or had.
    barred: BTreeSet<DeviceId>,
}

impl State {
    /// Mutes and bans in force, each with the operation that set it; those of one member by place.
    pub fn sanctions(&self) -> impl Iterator<Item = (&Sanction, ObjectHash)> {
        let entries = self.in_force.sanctions.values().flatten();
        entries.map(|entry| (&entry.sanction, entry.source))
    }

    /// The mutes and bans in force of one member.
    pub fn sanctions_on(&self, member: MemberId) -> impl Iterator<Item = (&Sanction, ObjectHash)> {
        let entries = self.in_force.sanctions.get(&member).into_iter().flatten();
        entries.map(|entry| (&entry.sanction, entry.source))
    }

    /// Whether a member is banned everywhere at present.
    pub fn is_banned(&self, member: MemberId) -> bool {
        self.sanctions_on(member)
            .any(|(it, _)| (it.kind, it.at) == (SanctionKind::Ban, Place::Organisation))
    }

    /// Whether a device is, or was, one of a member who is banned everywhere at present.
    pub fn is_barred(&self, device: DeviceId) -> bool {
        self.in_force.barred.contains(&device)
    }

    /// The sanction that takes a right at a place: the nearest, and of several there the one that
    /// lasts longest. `path` begins with the place and ends with the organisation.
    pub(super) fn sanction_against(
        &self,
        member: MemberId,
        right: Capabilities,
        path: &[Place],
    ) -> Option<(&Sanction, ObjectHash)> {
        let takes = |it: &Sanction| it.kind.takes(it.at).contains(right);
        let found = self.sanctions_on(member).filter(|(it, _)| takes(it));
        let found = found.filter_map(|(it, source)| {
            Some((path.iter().position(|place| *place == it.at)?, it, source))
        });
        let longest =
            |until: Option<UnixTime>| std::cmp::Reverse(until.map_or(u64::MAX, UnixTime::as_secs));
        let nearest = found.min_by_key(|(depth, it, source)| (*depth, longest(it.until), *source));
        nearest.map(|(_, it, source)| (it, source))
    }

    /// The rank of the highest officer who has set such a sanction; `None` if there is none.
    pub fn sanction_rank(&self, member: MemberId, kind: SanctionKind, at: Place) -> Option<Rank> {
        self.sanctions_set(member, kind, at).map(|it| it.rank).min()
    }

    /// The sanctions of this kind set on a member at a place, whether in force or not.
    pub(super) fn sanctions_set(
        &self,
        member: MemberId,
        kind: SanctionKind,
        at: Place,
    ) -> impl Iterator<Item = &SanctionEntry> {
        let entries = self.sanctions.get(&member).into_iter().flatten();
        entries.filter(move |it| (it.sanction.kind, it.sanction.at) == (kind, at))
    }

    /// Computes which sanctions bind at `now`: those that have not ended, on members who stand
    /// below whoever set them.
    fn bind(&mut self, now: UnixTime) {
        let mut in_force = InForce::default();
        for (member, entries) in self.sanctions.iter() {
            let binds = |it: &&SanctionEntry| {
                it.sanction.until.is_none_or(|until| now < until)
                    && it.rank < self.rank(*member, it.sanction.at)
            };
            let mut binding: Vec<_> = entries.iter().filter(binds).cloned().collect();
            binding.sort_by_key(|it| (it.sanction.at, it.sanction.kind, it.source));
            if binding.is_empty() {
                continue;
            }
            let banned = |it: &SanctionEntry| {
                (it.sanction.kind, it.sanction.at) == (SanctionKind::Ban, Place::Organisation)
            };
            if binding.iter().any(banned) {
                let devices = self.devices.get(member).into_iter().flat_map(|it| it.keys());
                in_force.barred.extend(devices.copied());
            }
            in_force.sanctions.insert(*member, binding);
        }
        self.in_force = Shared::new(in_force);
    }
}

impl Charter {
    /// Sets the calendar time by which mutes and bans end. Until this is called, none has ended.
    pub fn set_calendar(&mut self, now: UnixTime) {
        let changes = self.changes_by(now);
        self.calendar = now;
        if changes {
            self.settle_sanctions();
        }
    }

    /// Whether other sanctions are in force at `now` than at the time set last.
    pub fn changes_by(&self, now: UnixTime) -> bool {
        let set = self.course.state.sanctions.values().flatten();
        set.filter_map(|it| it.sanction.until).any(|until| (now < until) != (self.calendar < until))
    }

    /// The calendar time that was set last.
    pub fn calendar(&self) -> UnixTime {
        self.calendar
    }

    /// Computes again which sanctions are in force, after every change of the state.
    pub(super) fn settle_sanctions(&mut self) {
        self.course.state.bind(self.calendar);
    }
}
