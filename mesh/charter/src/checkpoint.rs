use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{
    Cosignable, Cosigned, DeviceId, List, ObjectHash, OrganisationId, UnixTime, encode,
};
use serde::{Deserialize, Serialize};

use super::{
    Charter, MemberCertificate, PieceError, Stale, Verdict,
    certificate::hash_of as hash_of_certificate,
    certificates::is_none,
    past::Last,
    replay::{Course, Pieces, Taken, replay},
    shared::Shared,
    state::State,
    taking::PROOF,
};

/// What the root keys have settled. [section 7 of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The organisation to which it belongs.
    pub organisation: OrganisationId,
    /// Its number, from 1.
    pub number: u32,
    /// Hash of the checkpoint before; the organisation's id for the first.
    pub previous: ObjectHash,
    /// The version of the root document whose keys sign it.
    pub root: u32,
    /// The last operation of each key and term since the checkpoint before, and those that prove an
    /// equivocation and on which none of these builds, in ascending order.
    pub covered: List<Covered, COVERED_MAX>,
    /// The largest lamport of the covered operations.
    pub lamport: u64,
    /// When it was made, by the clock of the device that drafted it. Revoked tickets that expired
    /// long before are left out of the state. [CHARTER-9.4]
    pub time: UnixTime,
    /// BLAKE3 of the encoded state after all of it, and of what is settled of each key.
    /// [CHARTER-7.1]
    pub state: ObjectHash,
}

/// How far the operations of one key in one term are covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Covered {
    /// The key.
    pub key: DeviceId,
    /// The term.
    pub term: u32,
    /// The number of the last covered operation.
    pub sequence: u64,
    /// The hash of that operation.
    pub hash: ObjectHash,
}

impl Cosignable for Checkpoint {
    const KIND: &'static str = "checkpoint";
}

/// Bytes of a signed checkpoint; a longer one is refused. [CHARTER-1.1]
pub const CHECKPOINT_MAX_BYTES: usize = 64 * 1024;

/// The most keys and terms that one checkpoint covers; the operations of further ones are left to
/// the next.
pub(super) const COVERED_MAX: usize = 512;

/// The segment of each operation held: 0 if the checkpoint covers it, otherwise 1.
pub(super) type Segments = Vec<u8>;

impl Charter {
    /// A checkpoint of all that is held, for the root keys to sign; `None` if nothing is new. If
    /// more keys have acted than one checkpoint can cover, it covers the first operations, and the
    /// next one covers the rest.
    pub fn draft_checkpoint(&self) -> Option<Checkpoint> {
        let mut covered: BTreeMap<(DeviceId, u32), (u64, ObjectHash)> = BTreeMap::new();
        let needed = self.worth_covering();
        let new = self.operations.iter().enumerate();
        let new = new.filter(|(at, taken)| taken.segment == 1 && needed[*at]).map(|(_, it)| it);
        let mut new: Vec<_> = new.map(|taken| (taken.position(), taken.hash, taken)).collect();
        // An operation comes after those that it knows.
        new.sort_unstable_by_key(|(position, hash, _)| (*position, *hash));
        // Nobody builds upon an operation that proves an equivocation, so it is named by itself.
        let mut proofs = BTreeSet::new();
        for (_, hash, taken) in new {
            let operation = taken.operation();
            let (key, term) = (operation.author, operation.term);
            let chain = (key, term);
            let proves = self.course.state.frozen.get(&chain) == Some(&operation.sequence);
            let more = usize::from(!covered.contains_key(&chain)) + usize::from(proves);
            if covered.len() + proofs.len() + more > COVERED_MAX {
                break;
            }
            if proves {
                proofs.insert(Covered { key, term, sequence: operation.sequence, hash });
            }
            let number = (operation.sequence, hash);
            let last = covered.entry(chain).or_insert(number);
            *last = number.max(*last);
        }
        if covered.is_empty() {
            return None;
        }
        let last = covered.into_iter().map(|((key, term), (sequence, hash))| Covered {
            key,
            term,
            sequence,
            hash,
        });
        proofs.extend(last);
        let before = self.newest.as_ref().map(|newest| newest.0.unverified().time);
        let mut checkpoint = Checkpoint {
            organisation: self.organisation,
            number: self.checkpoint() + 1,
            previous: self.newest_base(),
            root: self.roots.newest().version,
            covered: List::truncated(proofs),
            lamport: 0,
            time: before.map_or(self.calendar, |before| before.max(self.calendar)),
            state: ObjectHash::from_bytes([0; 32]),
        };
        let segments = self.segments(&checkpoint, true).ok()?;
        let (state, lamport) = self.outcome_of(&segments, &checkpoint, true);
        checkpoint.lamport = lamport;
        checkpoint.state = hash_of(&state, &self.last_after(&checkpoint));
        Some(checkpoint)
    }

    /// Which operations a checkpoint should cover: those that stand, all that they know, and, of
    /// the first number that a key has used twice, the two that prove it. It leaves the others to
    /// be forgotten. [CHARTER-7.6]
    fn worth_covering(&self) -> Vec<bool> {
        let judged = self.course.order.iter().zip(&self.course.verdicts);
        let standing = judged.filter(|(_, verdict)| matches!(verdict, Verdict::Judged(..)));
        let mut open: Vec<usize> = standing.map(|(index, _)| *index).collect();
        let mut twice: BTreeMap<(DeviceId, u32), Vec<(ObjectHash, usize)>> = BTreeMap::new();
        for (place, taken) in self.operations.iter().enumerate() {
            let operation = taken.operation();
            let chain = (operation.author, operation.term);
            if self.course.state.frozen.get(&chain) == Some(&operation.sequence) {
                twice.entry(chain).or_default().push((taken.hash, place));
            }
        }
        for mut proof in twice.into_values() {
            proof.sort_unstable();
            open.extend(proof.iter().take(PROOF).map(|(_, place)| *place));
        }
        let mut needed = vec![false; self.operations.len()];
        while let Some(place) = open.pop() {
            if !std::mem::replace(&mut needed[place], true) {
                open.extend(&self.operations[place].parents);
            }
        }
        needed
    }

    /// Whether `checkpoint`, a draft of the next, brings back covered operations that cuts and
    /// proofs of equivocation have made void. These no longer reach behind the newest checkpoint.
    /// [CHARTER-7.4]
    pub fn brings_back(&self, checkpoint: &Checkpoint) -> bool {
        let Ok(segments) = self.segments(checkpoint, true) else { return false };
        let everything = segments.iter().all(|segment| *segment == 0);
        let mut now = self.course.state.clone();
        now.introduced.clear();
        now.in_force = Shared::default();
        now.prune(checkpoint.time);
        everything && self.outcome_of(&segments, checkpoint, true).0 != now
    }

    /// The segments of the operations held once `checkpoint` counts: 0 for those that it covers. If
    /// it is the `next`, and not another of the newest's number, 0 also for those that the one
    /// before covers. [CHARTER-7.1]
    pub(super) fn segments(
        &self,
        checkpoint: &Checkpoint,
        next: bool,
    ) -> Result<Segments, PieceError> {
        let mut missing = Vec::new();
        let mut open = Vec::new();
        for covered in checkpoint.covered.iter() {
            let Some(index) = self.index.get(&covered.hash) else {
                missing.push(covered.hash);
                continue;
            };
            let operation = self.operations[*index].operation();
            let place = (operation.author, operation.term, operation.sequence);
            if place != (covered.key, covered.term, covered.sequence) {
                return Err(PieceError::Malformed);
            }
            open.push(*index);
        }
        if !missing.is_empty() {
            return Err(PieceError::Missing(missing));
        }
        let settled = |taken: &Taken| next && taken.segment == 0;
        let mut segments: Segments =
            self.operations.iter().map(|taken| u8::from(!settled(taken))).collect();
        // All that the covered operations know is covered as well.
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut segments[index], 0) == 1 {
                open.extend(&self.operations[index].parents);
            }
        }
        Ok(segments)
    }

    /// The state that `checkpoint` settles after the operations of segment 0, and their largest
    /// lamport.
    pub(super) fn outcome_of(
        &self,
        segments: &Segments,
        checkpoint: &Checkpoint,
        next: bool,
    ) -> (State, u64) {
        let mut place = BTreeMap::new();
        let mut operations: Vec<Arc<Taken>> = Vec::new();
        // The next one continues from what the newest says, as it does for all who take it: nothing
        // reaches behind that any more.
        let before = self.newest.as_ref().filter(|_| next);
        for (index, taken) in self.operations.iter().enumerate() {
            if segments[index] == 0 && (before.is_none() || taken.segment == 1) {
                place.insert(index, operations.len());
                let parents = taken.parents.iter().filter_map(|it| place.get(it).copied());
                let parents = parents.collect();
                operations.push(Arc::new(Taken { parents, segment: 1, ..(**taken).clone() }));
            }
        }
        let index = operations.iter().enumerate().map(|(at, taken)| (taken.hash, at)).collect();
        let pieces = Pieces {
            roots: &self.roots.up_to(checkpoint.root),
            certificates: &self.certificates,
            base: before.map_or(&self.base.state, |newest| &newest.1),
            operations: &operations,
            index: &index,
        };
        let lamport = operations.iter().map(|taken| taken.operation().lamport).max();
        let mut state = replay(&pieces, Course::default(), None).state;
        state.prune(checkpoint.time);
        (state, lamport.unwrap_or(0))
    }

    /// Makes `checkpoint` the newest. If it is the `next`, what the one before covers is forgotten,
    /// except its state. Otherwise it takes the newest's place.
    pub(super) fn settle(
        &mut self,
        checkpoint: Cosigned<Checkpoint>,
        state: State,
        segments: &Segments,
        next: bool,
    ) {
        self.roots.settle(checkpoint.unverified().root);
        let newest = Shared::new((checkpoint, state));
        let former = self.newest.replace(newest).filter(|_| next);
        if let Some(former) = former {
            let (former, state) = &*former;
            self.base.last.extend(former.unverified().last());
            self.base.checkpoint = Some(former.clone());
            self.base.state = state.clone();
        }
        let held = std::mem::take(&mut self.operations);
        self.forget_places();
        self.settle_sources();
        let mut place = BTreeMap::new();
        let mut late = BTreeSet::new();
        for (index, (taken, segment)) in held.iter().zip(segments).enumerate() {
            let operation = taken.operation();
            if next && taken.segment == 0 {
                // The checkpoint before has settled it; it is now forgotten.
                continue;
            }
            let parents: Vec<_> =
                taken.parents.iter().filter_map(|it| place.get(it).copied()).collect();
            let own = self.index.get(&operation.previous).copied();
            let length = usize::try_from(taken.length).unwrap_or(usize::MAX);
            let room = self.room(operation, taken.member, &parents, own, length);
            // [CHARTER-7.3] It is too late, and so is what comes after it.
            if *segment == 1
                && (taken.parents.iter().any(|parent| late.contains(parent))
                    || !self.base_is_known(&operation.base)
                    || self.is_settled_void(operation, taken.member)
                    || room.is_err())
            {
                late.insert(index);
                continue;
            }
            place.insert(index, self.operations.len());
            let room = room.unwrap_or_default();
            self.hold(Taken { parents, segment: *segment, room, ..(**taken).clone() });
        }
        self.covered = self.operations.iter().filter(|taken| taken.segment == 0).count();
        self.outdated_certificates = true;
        self.course.displace();
        self.stale = Stale::Everything;
        self.settle_state();
    }
}

impl Charter {
    /// Forgets certificates that the newest checkpoint makes worthless, except those with which an
    /// operation that is held was signed. [CHARTER-7.25]
    ///
    /// This must not happen before all that came with the checkpoint is taken: an operation of a
    /// removed member, which comes after it, needs the author's certificate.
    pub(super) fn forget_certificates(&mut self) {
        if !std::mem::take(&mut self.outdated_certificates) {
            return;
        }
        let Some(newest) = &self.newest else { return };
        let signed = self.operations.iter().map(|taken| taken.operation().certificate);
        let mut needed: BTreeSet<_> = signed.collect();
        let stands = |certificate: &MemberCertificate, hash| {
            certificate.admission >= newest.1.removals(certificate.member())
                && ((is_none(&certificate.issuer_certificate) && self.roots.vouches(certificate))
                    || self.is_listed_here(hash, self.certificates.issuer(certificate)))
        };
        for hash in self.certificates.hashes() {
            if let Some(certificate) = self.certificates.certificate(hash)
                && stands(certificate, *hash)
            {
                needed.insert(*hash);
            }
        }
        for hash in needed.clone() {
            let chain = self.certificates.chain(hash);
            needed.extend(chain.iter().map(hash_of_certificate));
        }
        let mut certificates = std::mem::take(&mut self.certificates);
        certificates.retain(|hash, shown| shown || needed.contains(hash));
        self.certificates = certificates;
    }
}

impl Checkpoint {
    /// Whether it states this state and these last operations.
    pub(super) fn states(&self, state: &State, last: &Last) -> bool {
        self.state == hash_of(state, last)
    }
}

/// [CHARTER-7.1] [CHARTER-7.26]
pub(super) fn hash_of(state: &State, last: &Last) -> ObjectHash {
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 settled");
    hasher.update(&encode(&(state, last)));
    ObjectHash::from_bytes(hasher.finalize().into())
}
