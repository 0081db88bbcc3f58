//! A charter as bytes: for the disk, for a file, and for newcomers.

use std::sync::Arc;

use hark_keys::{Cosigned, DecodeError, decode, encode};
use serde::{Deserialize, Serialize};

use super::{
    Charter, Piece, PieceError, Settled, Stale, checkpoint::Checkpoint, past::Last, shared::Shared,
    state::State,
};

/// What remains of a settled past. [CHARTER-7.4]
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SettledState {
    checkpoint: Cosigned<Checkpoint>,
    state: State,
    last: Last,
}

#[cfg(test)]
pub(super) fn describe(schema: &mut crate::schema::collector::Schema) {
    schema.add::<SettledState>("SettledState", SNAPSHOT_MAX_BYTES);
}

impl Charter {
    /// All pieces, each after those that it needs.
    pub fn pieces_in_order(&self) -> impl Iterator<Item = Piece> {
        let mut pieces: Vec<_> = self.roots.documents().cloned().map(Piece::Root).collect();
        let newest = self.newest.as_ref().map(|newest| &newest.0);
        self.append_in_order(&mut pieces, newest, |_| true, |_| true);
        pieces.into_iter()
    }

    /// The whole charter, for the disk or a file. [CHARTER-10.1]
    pub fn snapshot(&self) -> Vec<u8> {
        let past = self.base.checkpoint.clone().map(|checkpoint| SettledState {
            checkpoint,
            state: self.base.state.clone(),
            last: self.base.last.clone(),
        });
        let mut bytes = SNAPSHOT_MAGIC.to_vec();
        append(&mut bytes, &encode(&past));
        append(&mut bytes, &encode(&self.newest.as_ref().map(|newest| &newest.1)));
        for piece in self.pieces_in_order() {
            append(&mut bytes, &piece.encode());
        }
        append(&mut bytes, KNOWN_HERE);
        let shown = self.certificates.shown().cloned().map(Piece::Certificate);
        let introduced = self.introduced.iter().cloned().map(Piece::Operation);
        for piece in shown.chain(introduced) {
            append(&mut bytes, &piece.encode());
        }
        bytes
    }

    /// The charter of a snapshot, with all signatures checked.
    pub fn restore(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let rest = snapshot.strip_prefix(SNAPSHOT_MAGIC).ok_or(SnapshotError::Foreign)?;
        let mut records = records(rest);
        let past: Option<SettledState> =
            decode(records.next().ok_or(SnapshotError::Damaged)??, SNAPSHOT_MAX_BYTES)?;
        let mut newest: Option<State> =
            decode(records.next().ok_or(SnapshotError::Damaged)??, SNAPSHOT_MAX_BYTES)?;
        let founding = Piece::decode(records.next().ok_or(SnapshotError::Damaged)??)?;
        let Piece::Root(founding) = founding else { return Err(SnapshotError::Damaged) };
        let mut charter = Self::of(founding).map_err(SnapshotError::Piece)?;
        let mut pieces = Vec::new();
        let mut known_here = Vec::new();
        while let Some(record) = records.next() {
            match record? {
                KNOWN_HERE => known_here.extend(records.by_ref().flatten()),
                piece => pieces.push(Piece::decode(piece)?),
            }
        }
        let roots = pieces.iter().take_while(|piece| matches!(piece, Piece::Root(_))).count();
        let rest = pieces.split_off(roots);
        for result in charter.take_all(pieces) {
            result.map_err(SnapshotError::Piece)?;
        }
        charter.settled_before = past.is_some();
        if let Some(past) = past {
            charter
                .check_settled(&past.checkpoint, &past.state, &past.last)
                .map_err(SnapshotError::Piece)?;
            let SettledState { checkpoint, state, last } = past;
            charter.roots.settle(checkpoint.unverified().root);
            charter.base = Shared::new(Settled { checkpoint: Some(checkpoint), state, last });
            charter.settle_sources();
            charter.stale = Stale::Everything;
        }
        for piece in rest {
            match piece {
                // Its outcome may not be computed again: a fork may since have let other roots be
                // chosen.
                Piece::Checkpoint(checkpoint) => {
                    let state = newest.take().ok_or(SnapshotError::Damaged)?;
                    let last = charter.last_after(checkpoint.unverified());
                    charter
                        .check_settled(&checkpoint, &state, &last)
                        .map_err(SnapshotError::Piece)?;
                    for taken in charter.operations.iter_mut() {
                        Arc::make_mut(taken).segment = 0;
                    }
                    charter.covered = charter.operations.len();
                    charter.roots.settle(checkpoint.unverified().root);
                    charter.newest = Some(Shared::new((checkpoint, state)));
                    charter.settle_sources();
                    charter.stale = Stale::Everything;
                }
                piece => drop(charter.insert(piece).map_err(SnapshotError::Piece)?),
            }
        }
        charter.settled_before = false;
        charter.settle_state();
        for piece in known_here {
            // The owner shows these pieces again: none of them is worth losing the charter for.
            match Piece::decode(piece) {
                Ok(Piece::Operation(operation)) => drop(charter.introduce(&[operation])),
                // This includes certificates shown to a newcomer that so far knows only root
                // documents.
                Ok(Piece::Certificate(certificate)) => {
                    drop(charter.certificates.show(certificate, &charter.roots));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(charter)
    }

    /// Checks that root keys have signed that a checkpoint leads to this state. [CHARTER-7.4]
    pub(super) fn check_settled(
        &self,
        checkpoint: &Cosigned<Checkpoint>,
        state: &State,
        last: &Last,
    ) -> Result<(), PieceError> {
        self.check_signed(checkpoint)?;
        let value = checkpoint.unverified();
        if value.organisation != self.organisation {
            return Err(PieceError::Organisation);
        }
        if !value.states(state, last) {
            return Err(PieceError::OtherOutcome);
        }
        Ok(())
    }

    /// Checks that enough root keys have signed a checkpoint, by any root document of the version
    /// that it names.
    pub(super) fn check_signed(&self, checkpoint: &Cosigned<Checkpoint>) -> Result<(), PieceError> {
        let value = checkpoint.verify()?;
        let signed = self.roots.documents().map(Cosigned::unverified).any(|root| {
            let signers = checkpoint.signers().filter(|key| root.keys.contains(*key)).count();
            root.version == value.root && signers >= usize::from(root.threshold)
        });
        if signed { Ok(()) } else { Err(PieceError::Signatures) }
    }
}

pub(super) fn append(bytes: &mut Vec<u8>, record: &[u8]) {
    let length = u32::try_from(record.len()).expect("a record is far shorter than 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(record);
}

fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], SnapshotError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            bytes = &[];
            return Some(Err(SnapshotError::Damaged));
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((record, rest)) = rest.split_at_checked(length) else {
            bytes = &[];
            return Some(Err(SnapshotError::Damaged));
        };
        bytes = rest;
        Some(Ok(record))
    })
}

/// Why a snapshot is not a valid charter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is something else, or of another version.
    #[error("this is no charter that this version of hark can read")]
    Foreign,
    /// It is cut off or changed.
    #[error("the charter is damaged")]
    Damaged,
    /// A piece cannot be decoded.
    #[error("the charter is damaged: {0}")]
    Encoding(#[from] DecodeError),
    /// A piece is refused.
    #[error("the charter holds what it may not: {0}")]
    Piece(PieceError),
}

/// The record between the pieces that all hold and those that are known only here: certificates
/// that nobody has listed, and operations that introduce devices. No piece is so short.
const KNOWN_HERE: &[u8] = &[];

const SNAPSHOT_MAGIC: &[u8] = b"hark charter 1\n";

/// The most bytes of a snapshot; a longer one is refused.
const SNAPSHOT_MAX_BYTES: usize = 32 << 20;
