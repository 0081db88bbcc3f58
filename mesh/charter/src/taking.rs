//! Decides whether an operation or a checkpoint is taken, and where it belongs. [sections 4 and 7
//! of docs/charter.md]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{Cosigned, DeviceId, MemberId, ObjectHash, Signed};

use super::{
    Change, Charter, Checkpoint, MemberCertificate, Operation, PieceError, Stale, certificate,
    certificates::{is_none, owns},
    content::Place,
    operation,
    replay::{Level, Taken},
    shared::Shared,
};

/// Where an operation belongs.
struct Placed {
    member: MemberId,
    /// The indices of its parents, and of its author's operation before it.
    parents: Vec<usize>,
    /// The index of its author's operation before it, if that is held.
    own: Option<usize>,
}

impl Charter {
    pub(super) fn is_welcome_certificate(&self, certificate: &MemberCertificate) -> bool {
        let known = is_none(&certificate.issuer_certificate)
            || self.certificates.certificate(&certificate.issuer_certificate).is_some();
        !known || self.certificates.is_good(certificate, &self.course.state, &self.roots)
    }

    /// Takes a certificate that all hold: of a root key, or listed by its issuer's member. Any
    /// other is known only here, if the issuer is a device of that member, and the member may
    /// admit. [CHARTER-3.7] [CHARTER-3.20]
    pub(super) fn take_certificate(
        &mut self,
        signed: Signed<MemberCertificate>,
    ) -> Result<bool, PieceError> {
        let certificate = signed.unverified();
        let (hash, above) = (certificate::hash_of(&signed), certificate.issuer_certificate);
        if self.certificates.is_held(&hash) {
            return Ok(false);
        }
        if is_none(&above) {
            let issuer = certificate.issuer;
            let listed = self.is_listed_here(hash, self.member_of(issuer));
            if !listed
                && !self.roots.vouches(certificate)
                && self.former_roots_issued() >= FORMER_MAX
            {
                return Err(PieceError::Full);
            }
            return self.certificates.take(signed, &self.roots);
        }
        let issuer = self.certificates.certificate(&above);
        let issuer = issuer.ok_or_else(|| PieceError::Missing(vec![above]))?;
        if self.is_listed_here(hash, issuer.member()) {
            return self.certificates.take(signed, &self.roots);
        }
        let state = &self.course.state;
        if !owns(issuer, state, certificate.issuer)
            || !self.certificates.is_good(certificate, state, &self.roots)
        {
            return Err(PieceError::Stranger);
        }
        self.certificates.show(signed, &self.roots)
    }

    /// How many certificates of former root keys nobody has listed.
    fn former_roots_issued(&self) -> usize {
        let former = self.certificates.iter().filter(|signed| {
            let it = signed.unverified();
            is_none(&it.issuer_certificate)
                && !self.roots.vouches(it)
                && !self.is_listed_here(certificate::hash_of(signed), self.member_of(it.issuer))
        });
        former.count()
    }

    pub(super) fn take_operation(
        &mut self,
        signed: Cosigned<Operation>,
        length: usize,
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
        let Placed { member, parents, own } = self.place(operation)?;
        if !self.settled_before && self.is_settled_void(operation, member) {
            return Err(PieceError::Late);
        }
        let room = self.room(operation, member, &parents, own, length);
        // An operation that a checkpoint covers is held whatever it costs: the checkpoint's signers
        // answer for it.
        let room = if self.settled_before { room.unwrap_or_default() } else { room? };
        if self.operations.len() - self.covered >= OPERATIONS_MAX {
            return Err(PieceError::Full);
        }
        if self.forks_known_to(&parents) > FORKS_MAX {
            return Err(PieceError::Malformed);
        }
        signed.verify()?;
        for change in operation.changes.iter() {
            if let Change::AddDevice { device, consent } = change
                && !operation::consents(self.organisation, member, *device, consent)
            {
                return Err(PieceError::Malformed);
            }
        }
        let certificate = self.certificates.certificate(&operation.certificate);
        let author = operation.author;
        let recovers = certificate.is_some_and(|it| it.device != author && it.recovers(author));
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        // None of the operations held before can name it as parent.
        let taken = Taken { signed, hash, member, recovers, parents, segment: 1, length, room };
        // Which devices belong to which member, and who has equivocated, is settled before
        // everything else.
        let stale = if self.hold(taken) { Stale::Everything } else { self.stale_since_last() };
        self.stale = self.stale.min(stale);
        self.hold_listed();
        Ok(true)
    }

    /// Adds an operation after those that are held. Returns whether the whole state must be
    /// computed again.
    pub(super) fn hold(&mut self, taken: Taken) -> bool {
        let operation = taken.operation();
        let number = (operation.author, operation.term, operation.sequence);
        let same = self.numbers.entry(number).or_default();
        *same += 1;
        let everything = *same > 1 || taken.is_about_devices();
        for parent in &taken.parents {
            self.heads.remove(&self.operations[*parent].hash);
        }
        self.heads.insert(taken.hash);
        let index = self.operations.len();
        self.index.insert(taken.hash, index);
        if taken.segment == 1 {
            self.sources.note(index, &taken);
        }
        self.operations.push(Arc::new(taken));
        everything
    }

    fn stale_since_last(&self) -> Stale {
        let last = self.operations.last();
        last.map_or(Stale::Nothing, |taken| Stale::Since(taken.position()))
    }

    /// From now on all hold the certificates that the newest operation lists, as far as they are
    /// known here.
    fn hold_listed(&mut self) {
        let Some(taken) = self.operations.last().map(Arc::clone) else { return };
        for change in taken.operation().changes.iter() {
            let Change::Admitted(certificates) = change else { continue };
            for hash in certificates.iter() {
                if let Some(certificate) = self.certificates.signed(hash).cloned()
                    && self.certificates.issuer(certificate.unverified()) == taken.member
                {
                    // A certificate whose issuer nobody has listed waits for that.
                    let _ = self.certificates.take(certificate, &self.roots);
                }
            }
        }
    }

    /// Whether the newest checkpoint says for good that an operation that it does not cover is
    /// void. [CHARTER-7.6] [CHARTER-7.25]
    pub(super) fn is_settled_void(&self, operation: &Operation, member: MemberId) -> bool {
        let Some(newest) = &self.newest else { return false };
        let (state, author) = (&newest.1, operation.author);
        if self.roots.knows(author) {
            return false;
        }
        let (term, sequence) = (operation.term, operation.sequence);
        let frozen = state.frozen.get(&(author, term)).is_some_and(|from| *from <= sequence);
        let device = state.devices.get(&member).and_then(|devices| devices.get(&author));
        let retired = device.and_then(|device| device.retired);
        let level = Level::of(state.rank(member, Place::Organisation)).0;
        let ended = state.ended.get(&(member, term));
        let certificate = self.certificates.certificate(&operation.certificate);
        frozen
            || retired.is_some_and(|retired| (term, sequence) > retired.last)
            || ended.is_some_and(|ended| ended.voids(author, sequence, level))
            || certificate.is_some_and(|it| it.admission < state.removals(member))
    }

    /// How many operations, besides the first of each number, an operation with these parents
    /// knows.
    fn forks_known_to(&self, parents: &[usize]) -> usize {
        let number = |place: usize| {
            let operation = self.operations[place].operation();
            (operation.author, operation.term, operation.sequence)
        };
        if self.numbers.len() == self.operations.len() {
            return 0;
        }
        let mut open = parents.to_vec();
        let mut seen = vec![false; self.operations.len()];
        let mut numbers = BTreeSet::new();
        let mut forks = 0;
        while let Some(place) = open.pop() {
            if !std::mem::replace(&mut seen[place], true) {
                forks +=
                    usize::from(self.numbers[&number(place)] > 1 && !numbers.insert(number(place)));
                open.extend(&self.operations[place].parents);
            }
        }
        forks
    }

    /// If an author has made many operations from the first number on that it has used twice,
    /// forgets them. It keeps the two that prove it, and those that others build upon.
    /// [CHARTER-8.6]
    pub(super) fn forget_forks(&mut self) {
        if self.numbers.len() == self.operations.len() {
            return;
        }
        let mut first: BTreeMap<(DeviceId, u32), u64> = BTreeMap::new();
        for ((author, term, sequence), count) in self.numbers.iter() {
            if *count > 1 {
                first.entry((*author, *term)).or_insert(*sequence);
            }
        }
        let mut tails: BTreeMap<(DeviceId, u32), Tail> = BTreeMap::new();
        for (place, taken) in self.operations.iter().enumerate() {
            let operation = taken.operation();
            let chain = (operation.author, operation.term);
            let frozen = first.get(&chain).is_some_and(|first| *first <= operation.sequence);
            if frozen && taken.segment == 1 {
                tails.entry(chain).or_default().push((operation.sequence, taken.hash, place));
            }
        }
        tails.retain(|_, tail| tail.len() > FORKS_MAX);
        if tails.is_empty() {
            return;
        }
        let mut needless = vec![false; self.operations.len()];
        for tail in tails.values_mut() {
            tail.sort_unstable();
            tail[PROOF..].iter().for_each(|(_, _, place)| needless[*place] = true);
        }
        let mut open: Vec<_> = (0..needless.len()).filter(|place| !needless[*place]).collect();
        let mut needed = vec![false; needless.len()];
        while let Some(place) = open.pop() {
            if !std::mem::replace(&mut needed[place], true) {
                open.extend(&self.operations[place].parents);
            }
        }
        self.keep_operations(&needed);
    }

    /// Keeps only some of the operations that are held, which include all that they know.
    fn keep_operations(&mut self, keep: &[bool]) {
        let held = std::mem::take(&mut self.operations);
        self.forget_places();
        self.settle_sources();
        let mut place = BTreeMap::new();
        for (index, taken) in held.iter().enumerate().filter(|(index, _)| keep[*index]) {
            let parents = taken.parents.iter().filter_map(|it| place.get(it).copied()).collect();
            place.insert(index, self.operations.len());
            self.hold(Taken { parents, ..(**taken).clone() });
        }
        self.covered = self.operations.iter().filter(|taken| taken.segment == 0).count();
        self.course.displace();
        self.stale = Stale::Everything;
    }

    /// Forgets the indices of operations, all of which will be held again.
    pub(super) fn forget_places(&mut self) {
        self.index = Shared::default();
        self.heads = Shared::default();
        self.numbers = Shared::default();
    }

    /// The author's member and the indices of the parents, if all that the operation names is here
    /// and its numbers fit. [CHARTER-4.1] [CHARTER-4.2]
    fn place(&self, operation: &Operation) -> Result<Placed, PieceError> {
        let mut missing = Vec::new();
        let by_root = is_none(&operation.certificate).then_some(operation.author);
        let mut root_keys = by_root.into_iter().chain(operation.cosigners.iter().copied());
        if !root_keys.all(|key| self.roots.knows(key)) {
            return Err(PieceError::Rootless);
        }
        if by_root.is_none() && !self.certificates.is_held(&operation.certificate) {
            missing.push(operation.certificate);
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
        // An author knows its own operations.
        parents.extend(own.filter(|own| !parents.contains(own)));
        let certificate = self.certificates.certificate(&operation.certificate);
        let member =
            certificate.map_or_else(|| self.member_of(operation.author), MemberCertificate::member);
        let same = |own: usize| self.operations[own].operation().certificate;
        let as_before = own.is_some_and(|own| same(own) == operation.certificate);
        let signs = |certificate| {
            self.may_sign(certificate, operation.author, &parents)
                && self.is_listed_to(&parents, &operation.certificate)
        };
        if !as_before && !certificate.is_none_or(signs) && !self.settled_before {
            return Err(PieceError::Stranger);
        }
        Ok(Placed { member, parents, own })
    }

    /// Whether `key` is one of the member's by its certificate, by what is settled, or by what an
    /// operation with these parents knows. [CHARTER-4.1] [CHARTER-4.20]
    fn may_sign(&self, certificate: &MemberCertificate, key: DeviceId, parents: &[usize]) -> bool {
        let member = certificate.member();
        certificate.names(key)
            || self.has_settled_device(member, key)
            || !self.additions_known_to(parents, member, key).is_empty()
    }

    /// Whether an operation comes from somebody who belongs now. The first proof that its author
    /// has equivocated is welcome; what follows is not.
    pub(super) fn is_welcome(&self, operation: &Operation) -> bool {
        let chain = (operation.author, operation.term);
        if self.course.state.frozen.get(&chain).is_some_and(|from| *from <= operation.sequence) {
            return false;
        }
        let Some(certificate) = self.certificates.certificate(&operation.certificate) else {
            // It is a root key's, or it waits for its certificate.
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
        // [CHARTER-7.2] The newest may give way to another of its number.
        let other = value.number == self.checkpoint() && value.previous == self.oldest_base();
        if !next && !other {
            return Err(PieceError::Late);
        }
        checkpoint.verify()?;
        if other && let Some(known) = &self.newest {
            let weight = |it: &Cosigned<Checkpoint>| {
                let version = it.unverified().root;
                let root = self.roots.version(version);
                let standing = root.map(|root| root.keys.standing(it.signers()));
                (Reverse((version, standing)), it.hash())
            };
            if weight(&known.0) < weight(&checkpoint) {
                return Ok(false);
            }
        }
        let segments = self.segments(value, next)?;
        // For each key and term that it covers, the checkpoint must state the last operation.
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
        let (state, lamport) = self.outcome_of(&segments, value, next);
        if !value.states(&state, &self.last_after(value)) || lamport != value.lamport {
            return Err(PieceError::OtherOutcome);
        }
        self.settle(checkpoint, state, &segments, next);
        Ok(true)
    }
}

/// Operations of a key and term, by number and hash, with their indices.
type Tail = Vec<(u64, ObjectHash, usize)>;

/// The most operations that the newest checkpoint does not cover; further ones are refused until
/// another checkpoint does. Those that it covers are not counted, or there would be no room for the
/// operations that the next one is to cover. One member comes nowhere near it: what a key may make
/// others hold is bounded.
pub const OPERATIONS_MAX: usize = 65_536;

/// The most operations of one key and term from the first number on that it has used twice, if
/// nobody else builds upon them. If there are more, all but the two that prove it are forgotten. An
/// operation that knows more such operations, besides the first of each number, is refused.
pub const FORKS_MAX: usize = 64;

/// Two operations of one number prove that their author has used it twice.
pub(super) const PROOF: usize = 2;

/// The most certificates of former root keys that nobody has listed; further ones are refused.
const FORMER_MAX: usize = 256;
