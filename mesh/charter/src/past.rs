//! What checkpoints have settled, for devices that were not there: others have forgotten the
//! operations from which it was computed. [CHARTER-7.5] [CHARTER-7.22]

use std::collections::{BTreeMap, BTreeSet};

use hark_keys::{Cosigned, DecodeError, DeviceId, ObjectHash, Signed, decode, encode};
use serde::{Deserialize, Serialize};

use super::{
    Change, Charter, Checkpoint, Have, MemberCertificate, Operation, Piece, PieceError, Settled,
    certificate::hash_of, shared::Shared, state::State,
};

/// The number and hash of the last settled operation of each key and term.
pub(super) type Last = BTreeMap<(DeviceId, u32), (u64, ObjectHash)>;

/// What the checkpoint before the newest has settled, and all that the newest covers since.
#[derive(Serialize, Deserialize)]
struct Past {
    checkpoint: Cosigned<Checkpoint>,
    state: State,
    last: Last,
    newest: Cosigned<Checkpoint>,
    /// The certificates with which the operations are signed and those that lead from these to a
    /// root key, each after its issuer's.
    certificates: Vec<Signed<MemberCertificate>>,
    /// The covered operations, by lamport and hash.
    operations: Vec<Cosigned<Operation>>,
}

#[cfg(test)]
pub(super) fn describe(schema: &mut crate::schema::collector::Schema) {
    schema.add::<Past>("Past", PAST_MAX_BYTES);
}

impl Charter {
    /// Whether somebody who has `have` lacks operations that are forgotten here, and can be sent
    /// the settled past instead.
    pub fn tells_past(&self, have: &Have) -> bool {
        let Some(base) = &self.base.checkpoint else { return false };
        let told =
            |checkpoint: &Checkpoint, state: &State, last: &Last| checkpoint.states(state, last);
        have.checkpoint() < base.unverified().number
            && told(base.unverified(), &self.base.state, &self.base.last)
            && self.newest.as_ref().is_some_and(|newest| {
                let value = newest.0.unverified();
                value.root == self.roots.newest().version
                    && told(value, &newest.1, &self.last_after(value))
            })
    }

    /// The settled past, packed; `None` if nothing is forgotten, or if it is too long for a
    /// newcomer to take.
    pub fn past(&self) -> Option<Vec<u8>> {
        let covered = self.operations.iter().filter(|taken| taken.segment == 0);
        let mut covered: Vec<_> = covered.collect();
        covered.sort_by_key(|taken| (taken.operation().lamport, taken.hash));
        let signed = covered.iter().map(|taken| taken.operation().certificate);
        let signed: BTreeSet<_> = signed.collect();
        let chains = signed.into_iter().map(|hash| self.certificates.chain(hash));
        let needed: BTreeSet<_> =
            chains.flat_map(|chain| chain.iter().map(hash_of).collect::<Vec<_>>()).collect();
        let certificates = self.certificates.held();
        let certificates = certificates.filter(|it| needed.contains(&hash_of(it)));
        let past = Past {
            certificates: certificates.cloned().collect(),
            checkpoint: self.base.checkpoint.clone()?,
            state: self.base.state.clone(),
            last: self.base.last.clone(),
            newest: self.newest.as_ref()?.0.clone(),
            operations: covered.into_iter().map(|taken| taken.signed.clone()).collect(),
        };
        let bytes = encode(&past);
        if bytes.len() > PAST_MAX_BYTES {
            return None;
        }
        let packed = zstd::bulk::compress(&bytes, LEVEL).expect("memory is all that packing needs");
        Some(packed).filter(|packed| bytes.len() <= unpacked_max(packed))
    }

    /// Takes a settled past in place of what is held, if it is newer. Operations that it does not
    /// cover come too late, or come again. Root documents and certificates must come before it. The
    /// keys of the newest root document have signed all of it: the newest checkpoint, which names
    /// the one before and so its state, and, by their hashes, all operations since.
    pub fn take_past(&mut self, packed: &[u8]) -> Result<bool, PieceError> {
        let bytes = zstd::bulk::decompress(packed, unpacked_max(packed));
        let bytes = bytes.map_err(|_| DecodeError::Malformed)?;
        let Past { checkpoint, state, last, newest, certificates, operations } =
            decode(&bytes, PAST_MAX_BYTES)?;
        let (settled, newest_value) = (checkpoint.unverified(), newest.unverified());
        if settled.organisation != self.organisation {
            return Err(PieceError::Organisation);
        }
        if settled.number <= self.checkpoint() {
            return Ok(false);
        }
        // A key that is no longer a root key could otherwise tell newcomers anything.
        if newest_value.root != self.roots.newest().version {
            return Err(PieceError::Signatures);
        }
        if !state.is_sound() || settled.lamport > u64::MAX / 2 {
            return Err(PieceError::Malformed);
        }
        if newest_value.previous != checkpoint.hash()
            || Some(newest_value.number) != settled.number.checked_add(1)
        {
            return Err(PieceError::Malformed);
        }
        self.check_settled(&checkpoint, &state, &last)?;
        self.check_signed(&newest)?;
        // This comes before each signature is checked, which takes time.
        if !are_covered(&operations, newest.unverified()) {
            return Err(PieceError::Malformed);
        }
        let mut next = Self {
            certificates: self.certificates.clone(),
            base: Shared::new(Settled { checkpoint: Some(checkpoint), state, last }),
            introduced: self.introduced.clone(),
            settled_before: true,
            ..Self::blank(self.roots.clone())
        };
        next.settle_sources();
        let mut waiting = next.take_listed(certificates);
        for operation in operations {
            let lists = operation.unverified().changes.iter().any(is_listing);
            next.insert(Piece::Operation(operation))?;
            if lists {
                waiting = next.take_listed(waiting);
            }
        }
        next.settled_before = false;
        // The first operation of a key here follows what is forgotten without a gap; or it shares a
        // number with what is forgotten.
        let follows = next.operations.iter().all(|taken| {
            let operation = taken.operation();
            let chain = (operation.author, operation.term);
            let before = (operation.sequence - 1, operation.previous);
            let last = next.base.last.get(&chain).copied().unwrap_or((0, NOTHING));
            next.index.contains_key(&operation.previous)
                || last == before
                || operation.sequence <= last.0
        });
        if !follows {
            return Err(PieceError::Malformed);
        }
        next.take_checkpoint(newest)?;
        *self = next;
        Ok(true)
    }

    /// Takes those of the certificates that all hold by now; returns the others, which wait.
    fn take_listed(
        &mut self,
        certificates: Vec<Signed<MemberCertificate>>,
    ) -> Vec<Signed<MemberCertificate>> {
        let mut waiting = Vec::new();
        for certificate in certificates {
            let issuer = self.certificates.issuer(certificate.unverified());
            let hash = hash_of(&certificate);
            if self.is_settled_certificate(&hash, certificate.unverified())
                || self.is_listed_here(hash, issuer)
            {
                // If one is refused, what was signed with it is refused as well.
                let _ = self.take_certificate(certificate);
            } else {
                waiting.push(certificate);
            }
        }
        waiting
    }

    /// The last operation of each key and term that is settled after `checkpoint`: the newest,
    /// another of its number, or the next.
    pub(super) fn last_after(&self, checkpoint: &Checkpoint) -> Last {
        let newest = self.newest.as_ref().map(|newest| newest.0.unverified());
        let newest = newest.filter(|newest| newest.number < checkpoint.number);
        let covered = newest.into_iter().chain([checkpoint]).flat_map(Checkpoint::last);
        let mut last = self.base.last.clone();
        last.extend(covered);
        last
    }
}

impl Checkpoint {
    /// The last operation that it covers of each key and term.
    pub(super) fn last(&self) -> impl Iterator<Item = ((DeviceId, u32), (u64, ObjectHash))> + '_ {
        self.covered.iter().map(|it| ((it.key, it.term), (it.sequence, it.hash)))
    }
}

/// The most bytes to which a packed past may unpack, in proportion to its length: a few bytes must
/// not make room for millions. Ids, hashes and signatures hardly shrink.
fn unpacked_max(packed: &[u8]) -> usize {
    PAST_MAX_BYTES.min(packed.len().saturating_mul(EXPANSION_MAX))
}

/// Whether the checkpoint covers each of the operations, directly or because a covered one knows
/// it.
fn are_covered(operations: &[Cosigned<Operation>], checkpoint: &Checkpoint) -> bool {
    let held: BTreeMap<_, _> = operations.iter().map(|it| (it.hash(), it.unverified())).collect();
    let mut open: Vec<_> = checkpoint.covered.iter().map(|covered| covered.hash).collect();
    let mut covered = BTreeSet::new();
    while let Some(hash) = open.pop() {
        if let Some(operation) = held.get(&hash)
            && covered.insert(hash)
        {
            open.extend(operation.parents.iter());
            open.push(operation.previous);
        }
    }
    covered.len() == operations.len()
}

fn is_listing(change: &Change) -> bool {
    matches!(change, Change::Admitted(_))
}

const NOTHING: ObjectHash = ObjectHash::from_bytes([0; 32]);

/// The most bytes of a settled past. A longer one is neither sent nor taken, and newcomers get such
/// a charter as a file. With a checkpoint for each two thousand operations, it stays far below.
const PAST_MAX_BYTES: usize = 16 << 20;

/// How many times longer than its packed form the past may be.
const EXPANSION_MAX: usize = 32;

/// The compression level of zstd: the usual one.
const LEVEL: i32 = 3;
