//! How a membership or a device ended, and what proves it to those who were away. [PROTO-3.8]
//! [PROTO-3.26]

use std::collections::BTreeSet;

use hark_keys::{DeviceId, MemberId, ObjectHash};

use super::{Change, Charter, Piece, Verdict};

/// Why a device no longer belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its member was removed; by this member, if that is still known.
    Removed(Option<MemberId>),
    /// It was retired; by this key of the same member, if that is still known.
    Retired(Option<DeviceId>),
}

impl Charter {
    /// Why `device` no longer belongs to `member`; `None` if it does, or never did.
    pub fn ending(&self, member: MemberId, device: DeviceId) -> Option<Ending> {
        let was_there = self.member_of(device) == member
            || self
                .course
                .state
                .devices
                .get(&member)
                .is_some_and(|known| known.contains_key(&device));
        if !was_there {
            return None;
        }
        // A ban takes the rights of a member, but does not end the membership.
        let belongs = self.certificates.good(member, &self.course.state, &self.roots).is_some();
        if !belongs && self.course.state.removals(member) > 0 {
            let by = self.removal_of(member).map(|index| self.operations[index].member);
            return Some(Ending::Removed(by));
        }
        let retired = self.course.state.is_retired(member, device);
        retired.then(|| {
            let by = self.retirement_of(member, device);
            Ending::Retired(by.map(|index| self.operations[index].operation().author))
        })
    }

    /// The pieces that prove an ending to somebody who knows the operations `heads`, and what they
    /// know. They are the operation that ended `device`, after those that it builds upon and the
    /// certificates and checkpoint that these need, as far as they fit into `room` bytes. Nothing
    /// that came later is included. `None` if nothing ended, or if a checkpoint has settled it.
    pub fn proof_of_ending(
        &self,
        member: MemberId,
        device: DeviceId,
        heads: &[ObjectHash],
        room: usize,
    ) -> Option<Vec<Piece>> {
        let end = match self.ending(member, device)? {
            Ending::Removed(_) => self.removal_of(member)?,
            Ending::Retired(_) => self.retirement_of(member, device)?,
        };
        let known =
            self.with_ancestors(heads.iter().filter_map(|hash| self.index.get(hash).copied()));
        // Each operation comes after those that it builds upon.
        let lacking = self.with_ancestors([end]).into_iter().filter(|index| !known.contains(index));
        let mut left = room;
        let mut pieces = Vec::new();
        let mut told = BTreeSet::new();
        let mut settled = 0;
        let later = self.roots.documents().skip(1).cloned().map(Piece::Root);
        for piece in later {
            if !add(&mut pieces, &mut left, vec![piece]) {
                return Some(pieces);
            }
        }
        for index in lacking {
            let taken = &self.operations[index];
            let operation = taken.operation();
            let mut needed = Vec::new();
            if told.insert(operation.certificate) {
                let chain = self.certificates.chain(operation.certificate);
                needed.extend(chain.iter().rev().cloned().map(Piece::Certificate));
            }
            if taken.segment > settled {
                settled = taken.segment;
                let newest = self.newest.iter().map(|newest| newest.0.clone());
                needed.extend(newest.map(Piece::Checkpoint));
            }
            needed.push(Piece::Operation(taken.signed.clone()));
            if !add(&mut pieces, &mut left, needed) {
                break;
            }
        }
        Some(pieces)
    }

    /// The operation that last ended the membership of `member`, if it is still held.
    fn removal_of(&self, member: MemberId) -> Option<usize> {
        let judged = self.course.order.iter().zip(&*self.course.verdicts).rev();
        let mut removals = judged.filter(|(index, verdict)| {
            let Verdict::Judged(_, judged) = verdict else { return false };
            let changes = self.operations[**index].operation().changes.iter();
            changes.zip(&**judged).any(|(change, verdict)| {
                verdict.is_ok()
                    && matches!(change, Change::Remove { member: it, .. } if *it == member)
            })
        });
        removals.next().map(|(index, _)| *index)
    }

    /// The operation that retired a device, if it is still held.
    fn retirement_of(&self, member: MemberId, device: DeviceId) -> Option<usize> {
        let retired = self.course.state.devices.get(&member)?.get(&device)?.retired?;
        self.index.get(&retired.by).copied()
    }

    /// The given operations with all that they build upon.
    fn with_ancestors(&self, operations: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = operations.into_iter().collect();
        while let Some(index) = open.pop() {
            if found.insert(index) {
                open.extend(&self.operations[index].parents);
            }
        }
        found
    }
}

/// Adds pieces that belong together, if there is room. Returns whether there was.
fn add(pieces: &mut Vec<Piece>, left: &mut usize, more: Vec<Piece>) -> bool {
    let bytes: usize = more.iter().map(|piece| piece.encode().len()).sum();
    let fits = bytes <= *left && pieces.len() + more.len() <= PROOF_PIECES_MAX;
    if fits {
        *left -= bytes;
        pieces.extend(more);
    }
    fits
}

/// The most pieces of a proof; the rest follows the next time.
pub const PROOF_PIECES_MAX: usize = 128;
