//! Bounds what one member can make all others hold. [CHARTER-8.5] [CHARTER-8.20]
//!
//! Each key has an allowance of units from one checkpoint to the next, and its operations spend it.
//! A key that an operation brings in gets its allowance from that of the author. All of this is
//! computed from an operation and what it knows, so that every holder comes to the same result.

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{DeviceId, MemberId, ObjectHash};

use super::{
    Charter, MemberCertificate, Operation, PieceError,
    certificates::is_none,
    content::{
        Capabilities, Change, Grant, MEMBER_ROLE, Preset, RevokedTicket, Rule, Sanction, Subject,
    },
    replay::Taken,
    shared::Shared,
    state::State,
};

/// What a key may still do in a term after one of its operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Rights that the author may have. An officer counts as having all.
    rights: Capabilities,
    /// The units of the key in the term.
    limit: u32,
    /// The units that are spent.
    spent: u32,
}

/// What the newest checkpoint has settled, and what operations after it bring in.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// Rights that everybody may have by what is settled.
    everyone: Capabilities,
    /// Members who may have any right by what is settled.
    officers: BTreeSet<MemberId>,
    /// Operations that may give rights, by the member who gets them; `None` is everybody.
    rights: BTreeMap<Option<MemberId>, Vec<(usize, Capabilities)>>,
    /// Operations that add a device, by the device.
    devices: BTreeMap<(MemberId, DeviceId), Vec<usize>>,
    /// Operations that list a certificate, by the issuer's member and the certificate.
    listings: BTreeMap<(MemberId, ObjectHash), Vec<usize>>,
}

impl Sources {
    /// What the settled `state` has brought in, or the `founding` content if nothing is settled.
    pub(super) fn of<'a>(state: &State, founding: impl IntoIterator<Item = &'a Change>) -> Self {
        let mut sources = Self::default();
        let mut given = BTreeMap::new();
        for change in founding {
            gives(change, |to, rights| add(&mut given, to, rights));
        }
        if let Some(role) = state.role(MEMBER_ROLE) {
            add(&mut given, None, role.capabilities);
        }
        for (_, subject, allow, _) in state.rules() {
            by_rule(subject, allow, |to, rights| add(&mut given, to, rights));
        }
        for preset in state.presets().chain(state.loaded()) {
            by_preset(preset, |to, rights| add(&mut given, to, rights));
        }
        for member in state.holders() {
            add(&mut given, Some(member), Capabilities::ALL);
        }
        for (to, rights) in given {
            match to {
                None => sources.everyone = rights,
                Some(member) => drop(sources.officers.insert(member)),
            }
        }
        sources
    }

    /// Notes what an operation brings in.
    pub(super) fn note(&mut self, index: usize, taken: &Taken) {
        for change in taken.operation().changes.iter() {
            match change {
                Change::AddDevice { device, .. } => {
                    self.devices.entry((taken.member, *device)).or_default().push(index);
                }
                Change::Admitted(certificates) => {
                    for hash in certificates.iter() {
                        self.listings.entry((taken.member, *hash)).or_default().push(index);
                    }
                }
                change => gives(change, |to, rights| {
                    if !(rights - Capabilities::ALL_OF_SPEECH).is_empty() {
                        self.rights.entry(to).or_default().push((index, rights));
                    }
                }),
            }
        }
    }

    /// Whether an operation that is held lists the certificate.
    pub(super) fn lists(&self, issuer: MemberId, certificate: ObjectHash) -> bool {
        self.listings.contains_key(&(issuer, certificate))
    }
}

type Given = BTreeMap<Option<MemberId>, Capabilities>;

fn add(given: &mut Given, to: Option<MemberId>, rights: Capabilities) {
    if !(rights - Capabilities::ALL_OF_SPEECH).is_empty() {
        let held = given.entry(to).or_insert(Capabilities::NONE);
        *held |= rights;
    }
}

/// Calls `tell` with the rights that a change may give, and to whom: `None` is everybody.
fn gives(change: &Change, mut tell: impl FnMut(Option<MemberId>, Capabilities)) {
    match change {
        Change::Role(role) if role.id == MEMBER_ROLE => tell(None, role.capabilities),
        Change::Grant(grant) => by_grant(grant, tell),
        Change::Rule(Rule { subject, allow, .. }) => by_rule(*subject, *allow, tell),
        Change::Preset(preset) => by_preset(preset, tell),
        _ => {}
    }
}

fn by_grant(grant: &Grant, mut tell: impl FnMut(Option<MemberId>, Capabilities)) {
    grant.members.iter().for_each(|member| tell(Some(*member), Capabilities::ALL));
}

fn by_rule(
    subject: Subject,
    allow: Capabilities,
    mut tell: impl FnMut(Option<MemberId>, Capabilities),
) {
    match subject {
        Subject::Everyone => tell(None, allow),
        Subject::Role(role) if role == MEMBER_ROLE => tell(None, allow),
        Subject::Member(member) => tell(Some(member), allow),
        // The members who hold the role are known by its grants.
        Subject::Role(_) => {}
    }
}

fn by_preset(preset: &Preset, mut tell: impl FnMut(Option<MemberId>, Capabilities)) {
    for grant in preset.grants.iter() {
        by_grant(grant, &mut tell);
    }
    for rule in preset.rules.iter() {
        by_rule(rule.subject, rule.allow, &mut tell);
    }
}

/// Whether these rights are enough for an operation to have an effect.
fn suffice(rights: Capabilities, member: MemberId, operation: &Operation) -> bool {
    let has = |right| rights.contains(right);
    let may = |change: &Change| match change {
        Change::AddDevice { .. } | Change::RetireDevice { .. } => true,
        Change::Admitted(_) => has(Capabilities::ADMIT),
        Change::Remove { .. } => has(Capabilities::BAN),
        Change::Role(_)
        | Change::RemoveRole(_)
        | Change::Grant(_)
        | Change::Ungrant(_)
        | Change::Rule(_) => has(Capabilities::MANAGE_ROLES),
        Change::Channel(_)
        | Change::MoveChannel { .. }
        | Change::RemoveChannel(_)
        | Change::Link { .. } => has(Capabilities::MANAGE_CHANNELS),
        Change::Preset(_)
        | Change::RemovePreset(_)
        | Change::LoadPreset(_)
        | Change::UnloadPreset(_) => has(Capabilities::EDIT_PRESETS),
        Change::Relay(_) | Change::RemoveRelay(_) => has(Capabilities::APPOINT_RELAYS),
        Change::Policy(_) | Change::RevokeTickets(None) => has(Capabilities::ALL),
        Change::RevokeTicket(RevokedTicket { issuer, .. })
        | Change::RevokeTickets(Some(issuer)) => *issuer == member || has(Capabilities::ADMIT),
        Change::Sanction(Sanction { kind, at, .. }) | Change::Lift { kind, at, .. } => {
            has(kind.needs(*at))
        }
    };
    (operation.cuts.is_empty() || has(Capabilities::ALL)) && operation.changes.iter().all(may)
}

impl Charter {
    /// What the author has left after this operation; an error if the operation may not be held.
    ///
    /// `parents` are the indices of its parents, `own` is that of the author's operation before it
    /// if that is held, and `length` is its length in bytes.
    pub(super) fn room(
        &self,
        operation: &Operation,
        member: MemberId,
        parents: &[usize],
        own: Option<usize>,
        length: usize,
    ) -> Result<Room, PieceError> {
        if self.roots.knows(operation.author) {
            return Ok(Room { rights: Capabilities::ALL, limit: u32::MAX, spent: 0 });
        }
        let before = own.map(|own| &*self.operations[own]).filter(|own| own.segment == 1);
        let same = |before: &&Taken| before.operation().certificate == operation.certificate;
        let mut room = match before.filter(same) {
            Some(before) => before.room,
            None => {
                let (rights, limit) = self.allowance(operation, member, parents)?;
                // A key that now acts for another member continues with what is left.
                let spent = before.map_or(0, |before| before.room.spent);
                Room { rights, limit, spent }
            }
        };
        let spent = |room: &Room| room.spent.saturating_add(cost(operation, room.limit, length));
        if !suffice(room.rights, member, operation) || spent(&room) > room.limit {
            room = self.promoted(room, member, parents);
        }
        if !suffice(room.rights, member, operation) && !self.tries_out {
            return Err(PieceError::Stranger);
        }
        room.spent = spent(&room);
        if room.spent > room.limit { Err(PieceError::Full) } else { Ok(room) }
    }

    /// The rights and units with which a key begins a chain of operations.
    fn allowance(
        &self,
        operation: &Operation,
        member: MemberId,
        parents: &[usize],
    ) -> Result<(Capabilities, u32), PieceError> {
        let hash = operation.certificate;
        let certificate = self.certificates.certificate(&hash).ok_or(PieceError::Rootless)?;
        let author = operation.author;
        // The member of a root key is one with all of its devices. [CHARTER-6.1]
        let officer =
            self.sources.officers.contains(&member) || self.roots.knows(certificate.device);
        let rights = if officer { Capabilities::ALL } else { self.sources.everyone };
        let mut limit = if officer {
            OFFICER_UNITS
        } else if rights.contains(Capabilities::ADMIT) {
            DOOR_UNITS
        } else {
            MEMBER_UNITS
        };
        if !self.is_settled_certificate(&hash, certificate) {
            let known = self.listings_known_to(parents, &hash, certificate);
            let share = |place: usize| listed_share(self.operations[place].room.limit);
            limit = limit.min(known.into_iter().map(share).max().ok_or(PieceError::Stranger)?);
        }
        if !certificate.names(author) && !self.has_settled_device(member, author) {
            let known = self.additions_known_to(parents, member, author);
            let share = |place: usize| device_share(self.operations[place].room.limit);
            limit = limit.min(known.into_iter().map(share).max().ok_or(PieceError::Stranger)?);
        }
        let later = operation.term.saturating_sub(self.settled_state().term(member));
        Ok((rights, limit.checked_shr(later).unwrap_or(0)))
    }

    /// What an author has by all the rights that operations may have given, as far as the operation
    /// after `parents` knows them.
    fn promoted(&self, mut room: Room, member: MemberId, parents: &[usize]) -> Room {
        for to in [None, Some(member)] {
            let mut given: BTreeMap<usize, Capabilities> = BTreeMap::new();
            for (place, rights) in self.sources.rights.get(&to).into_iter().flatten() {
                let all = given.entry(*place).or_default();
                *all |= *rights;
            }
            for place in self.known_among(parents, given.keys().copied()) {
                // One right given by an officer counts as all rights: which right it is depends on
                // what a role was at the time.
                room.rights |= if to.is_some() { Capabilities::ALL } else { given[&place] };
                if to.is_some() && self.roots.knows(self.operations[place].operation().author) {
                    room.limit = room.limit.max(OFFICER_UNITS);
                }
            }
        }
        room
    }

    /// The state of the newest checkpoint; before the first, an empty state.
    fn settled_state(&self) -> &State {
        self.newest.as_ref().map_or(&self.base.state, |newest| &newest.1)
    }

    /// Whether a device is, or was, one of the member's by what is settled.
    pub(super) fn has_settled_device(&self, member: MemberId, device: DeviceId) -> bool {
        let devices = self.settled_state().devices.get(&member);
        devices.is_some_and(|devices| devices.contains_key(&device))
    }

    /// Whether a certificate is listed by what is settled, or was issued by a root key.
    pub(super) fn is_settled_certificate(
        &self,
        hash: &ObjectHash,
        certificate: &MemberCertificate,
    ) -> bool {
        is_none(&certificate.issuer_certificate)
            || self.settled_state().has_listed(*hash, self.certificates.issuer(certificate))
    }

    /// Whether the issuer's member lists a certificate, by what is settled or by a later operation.
    /// [CHARTER-3.7]
    pub(super) fn is_listed_here(&self, hash: ObjectHash, issuer: MemberId) -> bool {
        self.sources.lists(issuer, hash) || self.settled_state().has_listed(hash, issuer)
    }

    /// Whether an operation with these parents knows that a certificate, and those that lead from
    /// it to a root key, are among those that all hold.
    pub(super) fn is_listed_to(&self, parents: &[usize], hash: &ObjectHash) -> bool {
        let mut hash = *hash;
        while let Some(certificate) = self.certificates.certificate(&hash) {
            if !self.is_settled_certificate(&hash, certificate)
                && self.listings_known_to(parents, &hash, certificate).is_empty()
            {
                return false;
            }
            hash = certificate.issuer_certificate;
        }
        true
    }

    /// Operations that list a certificate and that an operation with these parents knows.
    fn listings_known_to(
        &self,
        parents: &[usize],
        hash: &ObjectHash,
        certificate: &MemberCertificate,
    ) -> BTreeSet<usize> {
        let issuer = self.certificates.issuer(certificate);
        let listings = self.sources.listings.get(&(issuer, *hash));
        self.known_among(parents, listings.into_iter().flatten().copied())
    }

    /// Operations that add `device` to the member's and that an operation with these parents knows.
    pub(super) fn additions_known_to(
        &self,
        parents: &[usize],
        member: MemberId,
        device: DeviceId,
    ) -> BTreeSet<usize> {
        let added = self.sources.devices.get(&(member, device));
        self.known_among(parents, added.into_iter().flatten().copied())
    }

    /// Those of the operations `wanted`, which no checkpoint covers, that an operation with these
    /// parents knows.
    fn known_among(
        &self,
        parents: &[usize],
        wanted: impl IntoIterator<Item = usize>,
    ) -> BTreeSet<usize> {
        let wanted: BTreeSet<_> = wanted.into_iter().collect();
        let lamport = |place: usize| self.operations[place].operation().lamport;
        let Some(first) = wanted.iter().map(|place| lamport(*place)).min() else {
            return wanted;
        };
        let mut open = parents.to_vec();
        let mut seen = vec![false; self.operations.len()];
        while let Some(place) = open.pop() {
            if lamport(place) >= first && !std::mem::replace(&mut seen[place], true) {
                open.extend(&self.operations[place].parents);
            }
        }
        wanted.into_iter().filter(|place| seen[*place]).collect()
    }

    /// Computes again what is settled, and what the operations after it bring in.
    pub(super) fn settle_sources(&mut self) {
        let settled = self.newest.is_some() || self.base.checkpoint.is_some();
        let founding = self.roots.first().content.iter().filter(|_| !settled);
        let mut sources = Sources::of(self.settled_state(), founding);
        let held = self.operations.iter().enumerate();
        for (index, taken) in held.filter(|(_, taken)| taken.segment == 1) {
            sources.note(index, taken);
        }
        self.sources = Shared::new(sources);
    }
}

/// The units that an operation of this length costs a key with this limit. [CHARTER-8.22]
fn cost(operation: &Operation, limit: u32, length: usize) -> u32 {
    let bytes = u32::try_from(length / UNIT_BYTES).unwrap_or(u32::MAX);
    let brings = operation.changes.iter().map(|change| match change {
        Change::AddDevice { .. } => device_share(limit),
        Change::Admitted(certificates) => {
            let count = u32::try_from(certificates.len()).unwrap_or(u32::MAX);
            count.saturating_mul(1 + listed_share(limit))
        }
        _ => 0,
    });
    brings.fold(1_u32.saturating_add(bytes), u32::saturating_add)
}

/// The units of a device, by the limit of the device that adds it.
fn device_share(limit: u32) -> u32 {
    limit.min(OFFICER_UNITS) / 32
}

/// The units of a member, by the limit of the device that lists it.
fn listed_share(limit: u32) -> u32 {
    (limit / 256).min(LISTED_UNITS)
}

/// Units of each key of a member who held a role by the newest checkpoint, or holds one by a root
/// key: one for each operation, or 17 for one of 16 KiB. What is beyond waits for a checkpoint.
pub(super) const OFFICER_UNITS: u32 = 4096;

/// Units of a member without a role if everybody may admit: enough for some 200 admissions.
pub(super) const DOOR_UNITS: u32 = 1024;

/// Units of a member who may change only its own devices.
pub(super) const MEMBER_UNITS: u32 = 64;

/// Units of a member who was listed since the newest checkpoint: it can add a device or two.
const LISTED_UNITS: u32 = 4;

/// The bytes of an operation for which it costs one more unit. [CHARTER-8.22]
const UNIT_BYTES: usize = 1024;
