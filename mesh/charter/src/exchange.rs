//! Compares two charters, and finds the pieces that one has and the other lacks. [section 8 of
//! docs/charter.md]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{Cosigned, DeviceId, List, ObjectHash};
use serde::{Deserialize, Serialize};

use super::{
    Change, Charter, Checkpoint, Piece, Taken, certificate::hash_of, certificates::is_none,
};

/// How much of a charter somebody has. It shows what they lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Root documents, each with its number of signatures.
    roots: List<(ObjectHash, u8), ROOTS_MAX>,
    /// The newest checkpoint's number.
    checkpoint: u32,
    /// How far the operations of each key and term are known.
    operations: List<Chain, CHAINS_MAX>,
    /// Sums of the hashes of certificates, one for each group by the first byte of the hash; empty
    /// if there are no certificates.
    certificates: List<u64, 256>,
}

/// How far the operations of one key in one term are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chain {
    key: DeviceId,
    term: u32,
    /// The number of the last operation.
    last: u64,
    /// The first bytes of its hash; the smallest if there are several of this number.
    tip: [u8; 8],
}

/// The number of an operation, and the first bytes of its hash.
type Tip = (u64, [u8; 8]);

/// The last operation of each key and term.
type Chains = BTreeMap<(DeviceId, u32), Tip>;

/// All operations of each key and term.
type Tips = BTreeSet<((DeviceId, u32), Tip)>;

impl Have {
    /// The number of the newest known checkpoint.
    pub(super) fn checkpoint(&self) -> u32 {
        self.checkpoint
    }
}

impl Charter {
    /// What this charter holds. [PROTO-12.6] [PROTO-12.8]
    pub fn have(&self) -> Have {
        let heaps = match self.certificates.len() {
            0 => 0,
            1..=64 => 16,
            _ => 256,
        };
        let roots = self.roots.documents().map(|it| (it.hash(), it.signers().len() as u8));
        let operations = self.chains().into_iter();
        Have {
            roots: List::truncated(roots),
            checkpoint: self.checkpoint(),
            operations: List::truncated(operations.map(|((key, term), (last, tip))| Chain {
                key,
                term,
                last,
                tip,
            })),
            certificates: List::truncated(self.heaps(heaps)),
        }
    }

    /// The pieces that somebody who has `have` lacks, each after those that it needs.
    ///
    /// If a sum of certificates differs, all certificates of its group are sent. A peer that is
    /// behind the checkpoint before the newest gets only root documents until it has taken
    /// [`Self::past`].
    pub fn lacking(&self, have: &Have) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let has_root = |hash: ObjectHash, signers: usize| {
            have.roots.iter().any(|(it, count)| *it == hash && usize::from(*count) >= signers)
        };
        let roots = self.roots.documents();
        let roots = roots.filter(|it| !has_root(it.hash(), it.signers().len()));
        pieces.extend(roots.cloned().map(Piece::Root));
        let heaps = have.certificates.len();
        let own = self.heaps(heaps);
        if self.tells_past(have) {
            return pieces;
        }
        let lacks_certificate = |hash: &ObjectHash| {
            heaps == 0 || {
                let heap = heap_of(hash, heaps);
                own[heap] != have.certificates[heap]
            }
        };
        let theirs: BTreeMap<_, _> =
            have.operations.iter().map(|chain| ((chain.key, chain.term), chain)).collect();
        let own = self.chains();
        let tips = self.tips();
        let lacks_operation = |taken: &Taken| {
            let operation = taken.operation();
            let chain = (operation.author, operation.term);
            // Two operations of one number are both sent, since together they prove something to a
            // peer that has only one.
            let frozen = self.course.state.frozen.get(&chain);
            frozen.is_some_and(|from| *from <= operation.sequence)
                || theirs.get(&chain).is_none_or(|theirs| {
                    theirs.last < operation.sequence || self.is_parted(theirs, &own, &tips)
                })
        };
        let newest = self.newest.as_ref().map(|newest| &newest.0);
        let newest = newest.filter(|newest| have.checkpoint < newest.unverified().number);
        self.append_in_order(&mut pieces, newest, lacks_certificate, lacks_operation);
        pieces
    }

    /// Appends certificates and operations that are held. `newest` comes between the operations
    /// that it covers and the others, which may name it as base. A certificate follows what lists
    /// it, and comes before what is signed with it.
    pub(super) fn append_in_order(
        &self,
        pieces: &mut Vec<Piece>,
        newest: Option<&Cosigned<Checkpoint>>,
        wants_certificate: impl Fn(&ObjectHash) -> bool,
        wants_operation: impl Fn(&Taken) -> bool,
    ) {
        // Each is looked at with every list, and hashed once.
        let held = self.certificates.held().map(|signed| (hash_of(signed), signed));
        let mut waiting: Vec<_> = held.collect();
        let mut told = BTreeSet::new();
        let mut listed: BTreeSet<_> = waiting
            .iter()
            // Operations that the newest checkpoint covers are included; what they list comes after
            // them.
            .filter(|(hash, signed)| {
                let issuer = self.certificates.issuer(signed.unverified());
                is_none(&signed.unverified().issuer_certificate)
                    || self.base.state.has_listed(*hash, issuer)
            })
            .map(|(hash, _)| *hash)
            .collect();
        let mut tell = |pieces: &mut Vec<Piece>, listed: &BTreeSet<ObjectHash>| {
            // Each certificate comes after its issuer's.
            waiting.retain(|(hash, signed)| {
                let above = &signed.unverified().issuer_certificate;
                let waits = !listed.contains(hash) || !(is_none(above) || told.contains(above));
                if !waits {
                    told.insert(*hash);
                    if wants_certificate(hash) {
                        pieces.push(Piece::Certificate((*signed).clone()));
                    }
                }
                waits
            });
        };
        tell(pieces, &listed);
        let mut newest = newest;
        let covered = |segment| self.operations.iter().filter(move |it| it.segment == segment);
        for taken in covered(0).chain(covered(1)) {
            if taken.segment == 1 {
                pieces.extend(newest.take().cloned().map(Piece::Checkpoint));
            }
            if wants_operation(taken) {
                pieces.push(Piece::Operation(taken.signed.clone()));
            }
            let lists = listed.len();
            for change in taken.operation().changes.iter() {
                if let Change::Admitted(certificates) = change {
                    listed.extend(certificates.iter());
                }
            }
            if listed.len() > lists {
                tell(pieces, &listed);
            }
        }
        pieces.extend(newest.take().cloned().map(Piece::Checkpoint));
    }

    /// Whether somebody who has `have` may have something that is missing here.
    pub fn lacks_of(&self, have: &Have) -> bool {
        let known = |(hash, signers): &(ObjectHash, u8)| {
            let mut documents = self.roots.documents();
            documents.any(|it| it.hash() == *hash && it.signers().len() >= usize::from(*signers))
        };
        let (own, tips) = (self.chains(), self.tips());
        let behind = |chain: &Chain| {
            own.get(&(chain.key, chain.term)).is_none_or(|(last, _)| *last < chain.last)
                || self.is_parted(chain, &own, &tips)
        };
        !have.roots.iter().all(known)
            || have.checkpoint > self.checkpoint()
            || have.operations.iter().any(behind)
            || *have.certificates != *self.heaps(have.certificates.len())
    }

    /// The last number of each key and term with its tip, forgotten operations included.
    fn chains(&self) -> Chains {
        let settled = self.base.last.iter();
        let mut chains: Chains =
            settled.map(|(chain, (last, hash))| (*chain, (*last, tip_of(hash)))).collect();
        for (chain, (sequence, tip)) in self.tips() {
            let last = chains.entry(chain).or_insert((sequence, tip));
            if sequence > last.0 || (sequence == last.0 && tip < last.1) {
                *last = (sequence, tip);
            }
        }
        chains
    }

    /// All operations that are held; any of them may be the last that somebody else has.
    fn tips(&self) -> Tips {
        let tips = self.operations.iter().map(|taken| {
            let operation = taken.operation();
            ((operation.author, operation.term), (operation.sequence, tip_of(&taken.hash)))
        });
        tips.collect()
    }

    /// Whether somebody has another operation of a number that is held here: its author has made
    /// two, and each side has one.
    fn is_parted(&self, theirs: &Chain, own: &Chains, tips: &Tips) -> bool {
        let chain = (theirs.key, theirs.term);
        let held = self.settled(theirs.key, theirs.term) + 1
            ..=own.get(&chain).map_or(0, |(last, _)| *last);
        held.contains(&theirs.last) && !tips.contains(&(chain, (theirs.last, theirs.tip)))
    }

    fn heaps(&self, count: usize) -> Vec<u64> {
        let mut sums = vec![0_u64; count];
        if count > 0 {
            for hash in self.certificates.hashes() {
                let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes hold 8");
                let sum = &mut sums[heap_of(hash, count)];
                *sum = sum.wrapping_add(u64::from_be_bytes(*first));
            }
        }
        sums
    }
}

fn tip_of(hash: &ObjectHash) -> [u8; 8] {
    *hash.as_bytes().first_chunk().expect("32 bytes hold 8")
}

fn heap_of(hash: &ObjectHash, count: usize) -> usize {
    usize::from(hash.as_bytes()[0]) % count
}

/// The most root documents that are compared; those after them are sent again in vain.
const ROOTS_MAX: usize = 64;

/// The most keys and terms that are compared; operations of further ones are sent again in vain.
const CHAINS_MAX: usize = 512;
