//! Whether an operation or a checkpoint is taken, and where it belongs.
//! [sections 4 and 7 of docs/charter.md]

use std::{collections::BTreeMap, sync::Arc};

use hark_keys::{Cosigned, MemberId};

use super::{
    Change, Charter, Checkpoint, MemberCertificate, Operation, PieceError, Stale,
    certificates::{is_none, owns},
    operation,
    replay::Taken,
};

impl Charter {
    pub(super) fn is_welcome_certificate(&self, certificate: &MemberCertificate) -> bool {
        let known = is_none(&certificate.issuer_certificate)
            || self.certificates.certificate(&certificate.issuer_certificate).is_some();
        !known || self.certificates.is_good(certificate, &self.course.state, &self.roots)
    }

    pub(super) fn take_operation(
        &mut self,
        signed: Cosigned<Operation>,
    ) -> Result<bool, PieceError> {
        let hash = signed.hash();
        if self.index.contains_key(&hash) {
            return Ok(false);
        }
        let operation = signed.unverified();
        if operation.organisation != self.organisation {
            return Err(PieceError::Organisation);
        }
        if !operation::is_sound(&signed, self.organisation) {
            return Err(PieceError::Malformed);
        }
        let settled = self.settled(operation.author, operation.term) >= operation.sequence;
        if !self.settled_before && (settled || !self.base_is_known(&operation.base)) {
            return Err(PieceError::Late);
        }
        let (member, parents) = self.place(operation)?;
        signed.verify()?;
        for change in operation.changes.iter() {
            if let Change::AddDevice { device, consent } = change
                && !operation::consents(self.organisation, member, *device, consent)
            {
                return Err(PieceError::Malformed);
            }
        }
        let (author, term, sequence) = (operation.author, operation.term, operation.sequence);
        let certificate = self.certificates.certificate(&operation.certificate);
        let recovers = certificate.is_some_and(|it| it.device != author && it.recovers(author));
        let same = self.numbers.get(&(author, term, sequence)).copied().unwrap_or(0);
        if self.operations.len() - self.covered >= OPERATIONS_MAX
            || sequence.saturating_sub(self.settled(author, term)) > CHAIN_OPERATIONS_MAX
            || self.surplus.get(&(author, term)).is_some_and(|surplus| *surplus >= VOID_MAX)
        {
            return Err(PieceError::Full);
        }
        self.numbers.insert((author, term, sequence), same + 1);
        if same > 0 {
            *self.surplus.entry((author, term)).or_default() += 1;
        }
        for parent in &parents {
            self.heads.remove(&self.operations[*parent].hash);
        }
        self.heads.insert(hash);
        let index = self.operations.len();
        self.index.insert(hash, index);
        // Of those that were there before it, none can name it as parent.
        let taken = Taken { signed, hash, member, recovers, parents, segment: 1 };
        // Whose device is whose, and who has equivocated, is settled before everything else.
        let stale = if same > 0 || taken.is_about_devices() {
            Stale::Everything
        } else {
            Stale::Since(taken.position())
        };
        self.stale = self.stale.min(stale);
        self.operations.push(Arc::new(taken));
        Ok(true)
    }

    /// The author's member and the places of the parents, if all that the operation names is here
    /// and its numbers fit. [CHARTER-4.1] [CHARTER-4.2]
    fn place(&self, operation: &Operation) -> Result<(MemberId, Vec<usize>), PieceError> {
        let mut missing = Vec::new();
        let signers = operation.cosigners.iter().map(|it| (it.key, it.certificate));
        for (key, certificate) in
            std::iter::once((operation.author, operation.certificate)).chain(signers)
        {
            if is_none(&certificate) {
                if !self.roots.knows(key) {
                    return Err(PieceError::Rootless);
                }
            } else if self.certificates.certificate(&certificate).is_none() {
                missing.push(certificate);
            }
        }
        let chain = (operation.author, operation.term);
        let mut own = None;
        let before = match operation.sequence {
            1 => Some(0),
            _ => match self.index.get(&operation.previous) {
                Some(index) => {
                    let previous = self.operations[*index].operation();
                    if (previous.author, previous.term) != chain
                        || previous.sequence + 1 != operation.sequence
                    {
                        return Err(PieceError::Malformed);
                    }
                    own = Some(*index);
                    Some(previous.lamport)
                }
                None if self.base.last.get(&chain)
                    == Some(&(operation.sequence - 1, operation.previous)) =>
                {
                    Some(0)
                }
                None => {
                    missing.push(operation.previous);
                    None
                }
            },
        };
        let mut parents = Vec::new();
        let mut largest = None;
        for parent in operation.parents.iter() {
            match self.index.get(parent) {
                Some(index) => {
                    largest = largest.max(Some(self.operations[*index].operation().lamport));
                    parents.push(*index);
                }
                None => missing.push(*parent),
            }
        }
        if self.settled_before {
            missing.retain(|hash| *hash == operation.certificate);
        }
        if !missing.is_empty() {
            return Err(PieceError::Missing(missing));
        }
        let largest = largest.unwrap_or(self.base_lamport(&operation.base));
        if (Some(operation.lamport) != largest.checked_add(1) && !self.settled_before)
            || before.is_some_and(|before| operation.lamport <= before)
        {
            return Err(PieceError::Malformed);
        }
        // Whoever makes an operation knows its own.
        parents.extend(own.filter(|own| !parents.contains(own)));
        let certificate = self.certificates.certificate(&operation.certificate);
        let member =
            certificate.map_or_else(|| self.member_of(operation.author), MemberCertificate::member);
        Ok((member, parents))
    }

    /// Whether an operation comes from somebody who belongs now. The first proof that its author
    /// has equivocated is welcome, what follows is not.
    pub(super) fn is_welcome(&self, operation: &Operation) -> bool {
        let chain = (operation.author, operation.term);
        if self.course.state.frozen.get(&chain).is_some_and(|from| *from <= operation.sequence) {
            return false;
        }
        let Some(certificate) = self.certificates.certificate(&operation.certificate) else {
            // Of a root key; or it waits for its certificate.
            return true;
        };
        // A recovery key may act when no device can.
        (certificate.names(operation.author)
            || owns(certificate, &self.course.state, operation.author))
            && self.certificates.is_good(certificate, &self.course.state, &self.roots)
    }

    pub(super) fn take_checkpoint(
        &mut self,
        checkpoint: Cosigned<Checkpoint>,
    ) -> Result<bool, PieceError> {
        let hash = checkpoint.hash();
        let value = checkpoint.unverified();
        if value.organisation != self.organisation || !value.covered.is_sorted_by(|a, b| a < b) {
            return Err(PieceError::Malformed);
        }
        let root = self.roots.version(value.root).ok_or(PieceError::Signatures)?;
        // The room for signatures is for those that count.
        if checkpoint.signers().len() < usize::from(root.threshold)
            || !checkpoint.signers().all(|key| root.keys.contains(key))
        {
            return Err(PieceError::Signatures);
        }
        if let Some(known) = &mut self.newest
            && known.0.hash() == hash
        {
            checkpoint.verify()?;
            return Ok(known.0.merge(&checkpoint));
        }
        let next = value.number == self.checkpoint() + 1 && value.previous == self.newest_base();
        // [CHARTER-7.2] the newest may give way to another of its number.
        let other = value.number == self.checkpoint() && value.previous == self.oldest_base();
        if !next && !other {
            return Err(PieceError::Late);
        }
        checkpoint.verify()?;
        if other && let Some(known) = &self.newest {
            let weight =
                |it: &Cosigned<Checkpoint>| (std::cmp::Reverse(it.signers().len()), it.hash());
            if weight(&known.0) < weight(&checkpoint) {
                return Ok(false);
            }
        }
        let segments = self.segments(value, next)?;
        // Of each key and term that it covers anything of it tells the last.
        let told: BTreeMap<_, _> = value.last().collect();
        let before = |taken: &Taken| next && taken.segment == 0;
        let covered = self.operations.iter().zip(&segments);
        let mut covered = covered.filter(|(taken, segment)| **segment == 0 && !before(taken));
        let whole = covered.all(|(taken, _)| {
            let operation = taken.operation();
            let last = told.get(&(operation.author, operation.term));
            last.is_some_and(|(last, _)| operation.sequence <= *last)
        });
        if !whole {
            return Err(PieceError::Malformed);
        }
        let (state, lamport) = self.outcome_of(&segments, value.root, next);
        if !value.states(&state, &self.last_after(value)) || lamport != value.lamport {
            return Err(PieceError::OtherOutcome);
        }
        self.settle(checkpoint, state, &segments, next);
        Ok(true)
    }
}

/// Operations that the newest checkpoint does not cover; further ones are refused until another one
/// does. Those that it covers are not counted, or there would be no room for what the next is about.
pub const OPERATIONS_MAX: usize = 16_384;

/// Operations of one key and term since the checkpoint before the newest; further ones are refused
/// until the next one.
pub const CHAIN_OPERATIONS_MAX: u64 = 4096;

/// Void operations of one key and term, and such as share a number with another; further ones of it
/// are refused, as nothing that counts needs them.
pub const VOID_MAX: usize = 256;
