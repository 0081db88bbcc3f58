use std::collections::BTreeSet;

use hark_keys::{Cosigned, DeviceId, DeviceKey, List, MemberId, ObjectHash, RoleId, Signed};

use super::{
    Charter, Cut, Denial, MemberCertificate, Operation, Piece, PieceError, Recovery, RootDocument,
    RootKeys, Verdict, VoidReason,
    certificate::{CHAIN_MAX, CertificateChain, hash_of},
    content::{Capabilities, Change, Place, Role, Rule, Subject},
    operation::{CUT_KEYS_MAX, CUTS_MAX, PARENTS_MAX},
    replay::Taken,
};

impl Charter {
    /// An operation that makes `changes`, with the cuts that they need, signed by the member's
    /// device with `key`. Fails if it would have no effect. The caller must write it to disk before
    /// anybody sees it, and then [`Self::take`] it. [CHARTER-8.1]
    pub fn edit(
        &self,
        key: &DeviceKey,
        member: MemberId,
        changes: Vec<Change>,
    ) -> Result<Cosigned<Operation>, EditError> {
        let draft = self.draft(key.id(), member, Vec::new(), changes)?;
        let signed = Cosigned::unsigned(draft).signed(key);
        self.try_out(&signed)?;
        Ok(signed)
    }

    /// The draft of such an operation, which other root keys can sign too. [`Self::try_out`] says
    /// what it does once they have.
    pub fn draft(
        &self,
        author: DeviceId,
        member: MemberId,
        mut cosigners: Vec<DeviceId>,
        changes: Vec<Change>,
    ) -> Result<Operation, EditError> {
        let certificate = self.good(member);
        let certificate = match certificate {
            Some(certificate) if self.certificates.is_held(&certificate) => certificate,
            None | Some(_) if self.is_root(author) => NO_CERTIFICATE,
            Some(_) => return Err(EditError::Unlisted),
            None => return Err(EditError::NotMember),
        };
        let term = self.course.state.term(member);
        if self.course.state.frozen.contains_key(&(author, term)) {
            return Err(EditError::Frozen);
        }
        let (sequence, previous) = self.last_of(author, term);
        let mut parents: Vec<_> = self.standing_heads().collect();
        parents.sort_by_key(|taken| std::cmp::Reverse(taken.operation().lamport));
        parents.truncate(PARENTS_MAX);
        let base = self.newest_base();
        // The author's own operation before it comes before it even if it is void or covered, and
        // therefore not a head.
        let own = self.index.get(&previous).map(|index| &*self.operations[*index]);
        if let Some(own) = own.filter(|own| own.segment == 1 || !parents.is_empty())
            && parents.first().is_none_or(|it| it.operation().lamport < own.operation().lamport)
            && !parents.iter().any(|taken| taken.hash == own.hash)
        {
            parents.truncate(PARENTS_MAX - 1);
            parents.insert(0, own);
        }
        let largest = parents.first().map(|taken| taken.operation().lamport);
        let lamport = largest.unwrap_or_else(|| self.base_lamport(&base)) + 1;
        let mut parents: Vec<_> = parents.into_iter().map(|taken| taken.hash).collect();
        parents.sort_unstable();
        cosigners.sort_unstable();
        let cuts = self.cuts(member, &changes)?;
        Ok(Operation {
            organisation: self.organisation,
            author,
            certificate,
            term,
            sequence: sequence + 1,
            previous,
            base,
            parents: List::truncated(parents),
            lamport,
            root: self.roots.newest().version,
            cosigners: List::truncated(cosigners),
            cuts: List::truncated(cuts),
            changes: List::truncated(changes),
        })
    }

    /// A cut that ends the present term of a member. What the member has done so far stands, and
    /// whatever its keys have done that is not known here is void. It also ends a freeze.
    /// [CHARTER-5.2]
    pub fn cut(&self, member: MemberId) -> Cut {
        let term = self.course.state.term(member);
        let mut last: Vec<(DeviceId, u64)> = Vec::new();
        for taken in self.operations.iter().filter(|taken| taken.member == member) {
            let operation = taken.operation();
            if operation.term == term {
                let frozen = self.course.state.frozen.get(&(operation.author, term));
                if frozen.is_none_or(|from| operation.sequence < *from) {
                    last.push((operation.author, operation.sequence));
                }
            }
        }
        let settled = self.base.last.iter().filter(|((key, settled), _)| {
            *settled == term && self.devices_of(member).contains(key)
        });
        last.extend(settled.map(|((key, _), (sequence, _))| (*key, *sequence)));
        last.sort_unstable_by_key(|(key, sequence)| (*key, std::cmp::Reverse(*sequence)));
        last.dedup_by_key(|(key, _)| *key);
        last.truncate(CUT_KEYS_MAX);
        Cut { member, term, last: List::truncated(last) }
    }

    /// The root document after the newest, with these keys, the most senior last. It ends the terms
    /// of the members whose keys it drops, after what they have done as far as that is known here.
    /// It also names the documents of a version that has several. [CHARTER-2.3] [CHARTER-2.5]
    pub fn next_root(&self, name: &str, keys: RootKeys, threshold: u8) -> RootDocument {
        let newest = self.roots.newest();
        let dropped = newest.keys.iter().filter(|key| !keys.contains(*key));
        let owners = dropped.flat_map(|key| [Some(self.member_of(key)), self.owner(key)]);
        let owners: BTreeSet<_> = owners.flatten().collect();
        RootDocument {
            version: newest.version + 1,
            previous: self.roots.newest_hash(),
            name: name.to_owned(),
            keys,
            threshold,
            merges: List::truncated(self.roots.branches()),
            cuts: List::truncated(owners.into_iter().map(|member| self.cut(member))),
            content: List::default(),
        }
    }

    /// Checks what would become of an operation. Fails if any of its changes would be denied.
    pub fn try_out(&self, signed: &Cosigned<Operation>) -> Result<(), EditError> {
        let mut trial = Self { tries_out: true, ..self.clone() };
        trial.take_all([Piece::Operation(signed.clone())]).remove(0)?;
        let hash = signed.hash();
        let mut log = trial.log().rev();
        let (_, verdict) = log.find(|(it, _)| it.hash() == hash).expect("it was taken");
        match verdict {
            Verdict::Void(reason) => Err(EditError::Void(*reason)),
            Verdict::Judged(_, judged) => match judged.iter().position(Result::is_err) {
                Some(place) => {
                    let denial = judged[place].expect_err("this one was denied");
                    Err(EditError::Denied(place, denial))
                }
                None => Ok(()),
            },
        }
    }

    /// Admits `device` with its printed `recovery` key: returns a certificate that the member's
    /// device with `key` issues.
    pub fn issue(
        &self,
        key: &DeviceKey,
        member: MemberId,
        device: DeviceId,
        recovery: Option<Recovery>,
    ) -> Result<Signed<MemberCertificate>, IssueError> {
        let issuer_certificate = if self.is_root(key.id()) {
            NO_CERTIFICATE
        } else {
            let hash = self.good(member);
            let hash = hash.ok_or(IssueError::NotMember)?;
            if !self.course.state.allows(member, Capabilities::ADMIT, Place::Organisation) {
                return Err(IssueError::Right);
            }
            if self.certificates.chain(hash).len() >= CHAIN_MAX {
                return Err(IssueError::TooFar);
            }
            hash
        };
        let certificate = MemberCertificate {
            organisation: self.organisation,
            device,
            recovery,
            admission: self.course.state.removals(self.member_of(device)),
            issuer: key.id(),
            issuer_certificate,
        };
        Ok(Signed::sign(certificate, key))
    }

    /// The chain of a certificate that is not kept yet.
    pub fn chain_with(&self, certificate: Signed<MemberCertificate>) -> CertificateChain {
        let above = self.certificates.chain(certificate.unverified().issuer_certificate);
        CertificateChain::of(std::iter::once(certificate).chain(above.iter().cloned()))
    }

    /// Certificates that `member` has issued and that no operation lists yet: they should be listed
    /// soon. Those of a root key are good without a listing, until another key takes its place.
    pub fn unlisted(&self, member: MemberId) -> Vec<ObjectHash> {
        let state = &self.course.state;
        let issued = self.certificates.issued_by(member).filter(|signed| {
            let certificate = signed.unverified();
            !state.is_listed(hash_of(signed), member, certificate.member())
                && self.certificates.is_good(certificate, state, &self.roots)
        });
        issued.map(hash_of).collect()
    }

    /// Operations since the newest checkpoint that stand and that no other standing operation
    /// names. A void operation is not named as parent, so that nobody needs it.
    fn standing_heads(&self) -> impl Iterator<Item = &Taken> {
        let standing = || {
            let judged = self.course.order.iter().zip(&self.course.verdicts);
            let standing = judged.filter(|(_, verdict)| matches!(verdict, Verdict::Judged(..)));
            standing.map(|(index, _)| (*index, &*self.operations[*index]))
        };
        let mut named = vec![false; self.operations.len()];
        for parent in standing().flat_map(|(_, taken)| &taken.parents) {
            named[*parent] = true;
        }
        let heads = standing().filter(move |(index, _)| !named[*index]);
        heads.map(|(_, taken)| taken).filter(|taken| taken.segment == 1)
    }

    /// The number and hash of the last operation of a key in a term. [CHARTER-8.4]
    fn last_of(&self, author: DeviceId, term: u32) -> (u64, ObjectHash) {
        let made = self.operations.iter().filter(|taken| {
            let operation = taken.operation();
            operation.author == author && operation.term == term
        });
        let last = made.max_by_key(|taken| taken.operation().sequence);
        match last {
            Some(taken) => (taken.operation().sequence, taken.hash),
            None => self.base.last.get(&(author, term)).copied().unwrap_or((0, NO_CERTIFICATE)),
        }
    }

    /// The cuts that belong to changes that lower somebody's rights. [CHARTER-5.6]
    fn cuts(&self, author: MemberId, changes: &[Change]) -> Result<Vec<Cut>, EditError> {
        let mut lowered = BTreeSet::new();
        for change in changes {
            match change {
                Change::Remove { member, .. } => {
                    lowered.insert(*member);
                }
                Change::Ungrant(grant) if self.administers(grant.role) => {
                    lowered.extend(grant.members.iter());
                }
                Change::RemoveRole(role) if self.administers(*role) => {
                    lowered.extend(self.holders_of(*role));
                }
                Change::Role(role) if self.lowers(role) => {
                    lowered.extend(self.holders_of(role.id));
                }
                Change::Rule(rule) if self.narrows(rule) => match rule.subject {
                    Subject::Member(member) => lowered.extend([member]),
                    Subject::Role(role) => lowered.extend(self.holders_of(role)),
                    Subject::Everyone => {}
                },
                _ => {}
            }
        }
        lowered.remove(&author);
        let rank = self.course.state.rank(author, Place::Organisation);
        lowered.retain(|member| rank < self.course.state.rank(*member, Place::Organisation));
        if lowered.len() > CUTS_MAX {
            return Err(EditError::TooMany);
        }
        Ok(lowered.into_iter().map(|member| self.cut(member)).collect())
    }

    fn administers(&self, role: RoleId) -> bool {
        let role = self.course.state.role(role);
        role.is_some_and(|it| !(it.capabilities - Capabilities::ALL_OF_SPEECH).is_empty())
    }

    fn lowers(&self, role: &Role) -> bool {
        self.course.state.role(role.id).is_some_and(|before| {
            let lost = before.capabilities - role.capabilities - Capabilities::ALL_OF_SPEECH;
            !lost.is_empty() || before.rank < role.rank
        })
    }

    /// Whether a rule denies rights other than those of speech, or no longer allows one of them.
    fn narrows(&self, rule: &Rule) -> bool {
        let rules = self.course.state.rules();
        let before = rules.filter(|(at, subject, ..)| (*at, *subject) == (rule.at, rule.subject));
        let allowed = before.fold(Capabilities::default(), |all, (_, _, allow, _)| all | allow);
        let lost = (allowed - rule.allow) | rule.deny;
        !(lost - Capabilities::ALL_OF_SPEECH).is_empty()
    }

    fn holders_of(&self, role: RoleId) -> Vec<MemberId> {
        let holds =
            |member: &MemberId| self.course.state.grants(*member).any(|(held, _)| held == role);
        self.course.state.holders().filter(holds).collect()
    }
}

/// Why an operation cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// This device does not belong, or no longer does.
    #[error("this device is no member, or not any more")]
    NotMember,
    /// The member has just joined, and is not listed yet.
    #[error(
        "the member who let you in has not listed you yet: try again in some seconds, while that \
         member is there"
    )]
    Unlisted,
    /// This device has signed two operations of one number.
    #[error(
        "this device is frozen, as its disk was once put back: somebody of higher rank can begin a \
         new term for it"
    )]
    Frozen,
    /// The change at this index would be denied.
    #[error("{1}")]
    Denied(usize, Denial),
    /// The operation would be void.
    #[error("it would be void: {}", .0.describe())]
    Void(VoidReason),
    /// The operation would be refused.
    #[error(transparent)]
    Refused(#[from] PieceError),
    /// It concerns more officers than one operation can cut.
    #[error("this lowers the rights of more than 32 members at once: take their role first")]
    TooMany,
}

/// Why a device cannot admit another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The device itself does not belong.
    #[error("this device is no member")]
    NotMember,
    /// The device's member does not have the right to admit.
    #[error("this member may not admit others")]
    Right,
    /// A chain through this device would be too long.
    #[error("this member is too many invitations away from the founder to admit others")]
    TooFar,
}

const NO_CERTIFICATE: ObjectHash = ObjectHash::from_bytes([0; 32]);
