//! Which devices belong to which member: settled before everything else, member by member.
//! [CHARTER-3.5]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{DeviceId, MemberId};

use super::{
    content::Change,
    replay::{Pieces, Taken},
    state::{DeviceEntry, Retired, Seniority},
};

type Devices = BTreeMap<MemberId, BTreeMap<DeviceId, DeviceEntry>>;

/// Adds to `devices` what the operations say of them.
pub(super) fn settle(
    devices: &mut Devices,
    frozen: &BTreeMap<(DeviceId, u32), u64>,
    pieces: &Pieces<'_>,
) {
    let mut by_member: BTreeMap<MemberId, Vec<&Taken>> = BTreeMap::new();
    for taken in pieces.operations {
        let operation = taken.operation();
        let stands = frozen
            .get(&(operation.author, operation.term))
            .is_none_or(|from| operation.sequence < *from);
        // A root key that acts by itself has no devices.
        let member = pieces.certificates.certificate(&operation.certificate).is_some();
        if stands && member && taken.is_about_devices() {
            by_member.entry(taken.member).or_default().push(taken);
        }
    }
    for (member, mut operations) in by_member {
        operations.sort_by_key(|taken| (taken.segment, taken.operation().lamport, taken.hash));
        let known = devices.remove(&member).unwrap_or_default();
        let settled = settle_member(known, &operations, pieces);
        if !settled.is_empty() {
            devices.insert(member, settled);
        }
    }
}

fn settle_member(
    mut known: BTreeMap<DeviceId, DeviceEntry>,
    operations: &[&Taken],
    pieces: &Pieces<'_>,
) -> BTreeMap<DeviceId, DeviceEntry> {
    let mut waiting: BTreeMap<Seniority, DeviceId> =
        known.iter().map(|(device, entry)| (entry.seniority, *device)).collect();
    let mut from_the_start = BTreeSet::new();
    for taken in operations {
        let certificate = pieces.certificates.certificate(&taken.operation().certificate);
        let Some(certificate) = certificate else { continue };
        waiting.insert(Seniority::First, certificate.device);
        from_the_start.insert(certificate.device);
        if let Some(recovery) = certificate.recovery {
            waiting.insert(Seniority::Recovery(recovery.key), recovery.key);
            from_the_start.insert(recovery.key);
        }
    }
    // What senior keys say of devices whose turn has not come yet.
    let mut claims: BTreeMap<DeviceId, Vec<Retired>> = BTreeMap::new();
    while let Some((seniority, key)) = waiting.pop_first() {
        let mut entry =
            known.get(&key).copied().unwrap_or(DeviceEntry { seniority, retired: None });
        for claim in claims.remove(&key).unwrap_or_default() {
            retire(&mut entry, claim);
        }
        for taken in operations.iter().filter(|taken| taken.operation().author == key) {
            let operation = taken.operation();
            let number = (operation.term, operation.sequence);
            if operation.lamport <= seniority.lamport()
                || entry.retired.is_some_and(|retired| number > retired.last)
            {
                continue;
            }
            for change in operation.changes.iter() {
                match change {
                    Change::AddDevice { device, .. } => {
                        let new = !known.contains_key(device) && !from_the_start.contains(device);
                        let current = known.values().filter(|entry| {
                            entry.retired.is_none()
                                && matches!(entry.seniority, Seniority::Added(..))
                        });
                        // The first device counts as well.
                        if new && current.count() + 1 < DEVICES_MAX {
                            let seniority = Seniority::Added(operation.lamport, *device);
                            known.insert(*device, DeviceEntry { seniority, retired: None });
                            waiting.insert(seniority, *device);
                        }
                    }
                    Change::RetireDevice { device, term, last } if *device == key => {
                        retire(&mut entry, Retired { last: (*term, *last), by: taken.hash });
                    }
                    Change::RetireDevice { device, term, last } => {
                        let claim = Retired { last: (*term, *last), by: taken.hash };
                        claims.entry(*device).or_default().push(claim);
                    }
                    _ => {}
                }
            }
        }
        if entry.retired.is_some() || known.contains_key(&key) {
            known.insert(key, entry);
        }
    }
    known
}

/// Of several retirements, the one that leaves the least counts. [CHARTER-3.21]
fn retire(entry: &mut DeviceEntry, claim: Retired) {
    entry.retired = Some(entry.retired.map_or(claim, |retired| retired.min(claim)));
}

impl Seniority {
    /// The lamport of the operation that added the device; 0 for keys that were there from the
    /// start.
    pub(super) fn lamport(self) -> u64 {
        match self {
            Self::Recovery(_) | Self::First => 0,
            Self::Added(lamport, _) => lamport,
        }
    }
}

/// The most devices of a member at a time; further additions have no effect.
pub const DEVICES_MAX: usize = 16;
