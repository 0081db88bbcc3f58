use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hark_keys::{DeviceId, MemberId, ObjectHash, Signed};

use super::{
    PieceError,
    certificate::{
        CHAIN_MAX, CertificateChain, MemberCertificate, content_hash, hash_of, member_of,
    },
    content::{Capabilities, Place},
    root::Roots,
    state::State,
};

/// All certificates that are known, by hash and by member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    by_hash: BTreeMap<ObjectHash, Arc<Known>>,
    by_member: BTreeSet<(MemberId, ObjectHash)>,
    /// The certificates that nobody has listed yet. They are not part of what all hold.
    /// [CHARTER-3.7]
    shown: BTreeMap<ObjectHash, Shown>,
    /// How many certificates were ever shown.
    shown_ever: u64,
}

/// A certificate, with its member, which would otherwise have to be computed again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    signed: Signed<MemberCertificate>,
    member: MemberId,
}

/// How a certificate that is not listed came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    /// The nearest member above it whose certificate all hold.
    by: MemberId,
    /// The order of arrival: it rises with each certificate that comes.
    number: u64,
}

impl Known {
    pub(super) fn certificate(&self) -> &MemberCertificate {
        self.signed.unverified()
    }
}

impl Certificates {
    /// Takes a certificate that all hold, if its issuer's is held. Returns whether it was new.
    /// [CHARTER-3.1]
    pub(super) fn take(
        &mut self,
        certificate: Signed<MemberCertificate>,
        roots: &Roots,
    ) -> Result<bool, PieceError> {
        let hash = hash_of(&certificate);
        if self.is_held(&hash) {
            return Ok(false);
        }
        let above = certificate.unverified().issuer_certificate;
        if !is_none(&above) && !self.is_held(&above) {
            return Err(PieceError::Missing(vec![above]));
        }
        self.check(&certificate, roots)?;
        if self.len() >= CERTIFICATES_MAX {
            return Err(PieceError::Full);
        }
        self.shown.remove(&hash);
        self.insert(hash, certificate);
        Ok(true)
    }

    /// Keeps a certificate that nobody has listed yet. Returns whether it was new. If there are too
    /// many, the oldest is dropped below the member below whom there are the most.
    pub(super) fn show(
        &mut self,
        certificate: Signed<MemberCertificate>,
        roots: &Roots,
    ) -> Result<bool, PieceError> {
        let hash = hash_of(&certificate);
        if self.by_hash.contains_key(&hash) {
            return Ok(false);
        }
        self.check(&certificate, roots)?;
        let above = certificate.unverified().issuer_certificate;
        let by = match self.shown.get(&above) {
            Some(shown) => shown.by,
            None => self.issuer(certificate.unverified()),
        };
        self.insert(hash, certificate);
        self.shown_ever += 1;
        self.shown.insert(hash, Shown { by, number: self.shown_ever });
        let below = self.shown.values().filter(|shown| shown.by == by).count();
        if below > SHOWN_EACH_MAX {
            self.forget_shown(by);
        } else if self.shown.len() > SHOWN_MAX {
            let mut each: BTreeMap<MemberId, usize> = BTreeMap::new();
            self.shown.values().for_each(|shown| *each.entry(shown.by).or_default() += 1);
            let most = each.into_iter().max_by_key(|(_, count)| *count);
            self.forget_shown(most.expect("there are some").0);
        }
        Ok(true)
    }

    /// Forgets the oldest certificate below a member, and all certificates below that one.
    fn forget_shown(&mut self, by: MemberId) {
        let shown = self.shown.iter().filter(|(_, shown)| shown.by == by);
        let oldest = shown.min_by_key(|(_, shown)| shown.number).map(|(hash, _)| *hash);
        let mut open: Vec<_> = oldest.into_iter().collect();
        while let Some(hash) = open.pop() {
            self.remove(&hash);
            let below = self.shown.keys().filter(|shown| {
                self.certificate(shown).is_some_and(|it| it.issuer_certificate == hash)
            });
            open.extend(below.copied().collect::<Vec<_>>());
        }
    }

    /// Forgets the certificates for which `keep` returns false, and all below them. `keep` is given
    /// the hash and whether the certificate was only shown.
    pub(super) fn retain(&mut self, keep: impl Fn(&ObjectHash, bool) -> bool) {
        let shown = |hash: &ObjectHash| self.shown.contains_key(hash);
        let gone = self.by_hash.keys().filter(|hash| !keep(hash, shown(hash)));
        for hash in gone.copied().collect::<Vec<_>>() {
            self.remove(&hash);
        }
        loop {
            let below = self.by_hash.iter().filter(|(_, known)| {
                let above = &known.certificate().issuer_certificate;
                !is_none(above) && !self.by_hash.contains_key(above)
            });
            let gone: Vec<_> = below.map(|(hash, _)| *hash).collect();
            if gone.is_empty() {
                return;
            }
            gone.iter().for_each(|hash| self.remove(hash));
        }
    }

    fn insert(&mut self, hash: ObjectHash, certificate: Signed<MemberCertificate>) {
        let member = certificate.unverified().member();
        self.by_member.insert((member, hash));
        self.by_hash.insert(hash, Arc::new(Known { signed: certificate, member }));
    }

    fn remove(&mut self, hash: &ObjectHash) {
        self.shown.remove(hash);
        if let Some(known) = self.by_hash.remove(hash) {
            self.by_member.remove(&(known.member, *hash));
        }
    }

    fn check(&self, signed: &Signed<MemberCertificate>, roots: &Roots) -> Result<(), PieceError> {
        let certificate = signed.unverified();
        if certificate.organisation != roots.organisation() {
            return Err(PieceError::Organisation);
        }
        if is_none(&certificate.issuer_certificate) {
            if !roots.knows(certificate.issuer) {
                return Err(PieceError::Rootless);
            }
        } else {
            let Some(issuer) = self.by_hash.get(&certificate.issuer_certificate) else {
                return Err(PieceError::Missing(vec![certificate.issuer_certificate]));
            };
            if self.depth(issuer.signed.unverified()) >= CHAIN_MAX {
                return Err(PieceError::Rootless);
            }
        }
        // The signatures are checked last, as this costs the most.
        signed.verify()?;
        if let Some(recovery) = &certificate.recovery {
            recovery.verify(certificate.organisation, certificate.device)?;
        }
        Ok(())
    }

    /// Whether a certificate is one of those that all hold.
    pub(super) fn is_held(&self, hash: &ObjectHash) -> bool {
        self.by_hash.contains_key(hash) && !self.shown.contains_key(hash)
    }

    pub(super) fn certificate(&self, hash: &ObjectHash) -> Option<&MemberCertificate> {
        self.by_hash.get(hash).map(|known| known.signed.unverified())
    }

    pub(super) fn known(&self, hash: &ObjectHash) -> Option<&Known> {
        self.by_hash.get(hash).map(|known| &**known)
    }

    /// The member of a certificate that is known.
    pub(super) fn member(&self, hash: &ObjectHash) -> Option<MemberId> {
        self.by_hash.get(hash).map(|known| known.member)
    }

    pub(super) fn signed(&self, hash: &ObjectHash) -> Option<&Signed<MemberCertificate>> {
        self.by_hash.get(hash).map(|known| &known.signed)
    }

    /// All known certificates, each after its issuer's.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Signed<MemberCertificate>> {
        let mut all: Vec<_> = self.by_hash.values().map(|known| &known.signed).collect();
        all.sort_by_cached_key(|certificate| self.depth(certificate.unverified()));
        all.into_iter()
    }

    /// The certificates that all hold, each after its issuer's.
    pub(super) fn held(&self) -> impl Iterator<Item = &Signed<MemberCertificate>> {
        self.iter().filter(|certificate| self.is_held(&hash_of(certificate)))
    }

    /// The certificates that nobody has listed yet, each after its issuer's.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Signed<MemberCertificate>> {
        self.iter().filter(|certificate| self.shown.contains_key(&hash_of(certificate)))
    }

    /// The hashes of the certificates that all hold.
    pub(super) fn hashes(&self) -> impl Iterator<Item = &ObjectHash> {
        self.by_hash.keys().filter(|hash| !self.shown.contains_key(*hash))
    }

    /// The number of certificates that all hold.
    pub(super) fn len(&self) -> usize {
        self.by_hash.len() - self.shown.len()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberId> {
        let mut last = None;
        let members = self.by_member.iter().map(|(member, _)| *member);
        members.filter(move |member| last.replace(*member) != Some(*member))
    }

    /// Whether any certificate of `member` is known.
    pub(super) fn knows(&self, member: MemberId) -> bool {
        self.of(member).next().is_some()
    }

    /// The certificates of a member, those with the lowest hashes first.
    fn of(&self, member: MemberId) -> impl Iterator<Item = &ObjectHash> {
        let [first, last] = [[0; 32], [u8::MAX; 32]].map(ObjectHash::from_bytes);
        self.by_member.range((member, first)..=(member, last)).map(|(_, hash)| hash)
    }

    /// The certificate by which somebody is a member at present. Of several good ones, one that all
    /// hold comes before any other, and then the one with the lowest hash.
    pub(super) fn good(
        &self,
        member: MemberId,
        state: &State,
        roots: &Roots,
    ) -> Option<ObjectHash> {
        let good =
            |hash: &&ObjectHash| self.is_known_good(hash, &self.by_hash[*hash], state, roots);
        let held = self.of(member).filter(|hash| self.is_held(hash)).find(good);
        held.or_else(|| self.of(member).filter(|hash| !self.is_held(hash)).find(good)).copied()
    }

    /// The chain of a known certificate.
    pub(super) fn chain(&self, hash: ObjectHash) -> CertificateChain {
        CertificateChain::of(
            std::iter::successors(self.signed(&hash), |certificate| {
                self.signed(&certificate.unverified().issuer_certificate)
            })
            .cloned(),
        )
    }

    /// The certificates that a member has issued, by hash. Each new link asks for them, so this is
    /// fast.
    pub(super) fn issued_by(
        &self,
        member: MemberId,
    ) -> impl Iterator<Item = &Signed<MemberCertificate>> {
        let own: BTreeSet<_> = self.of(member).copied().collect();
        let issued = move |signed: &&Signed<MemberCertificate>| {
            let certificate = signed.unverified();
            let by_key = is_none(&certificate.issuer_certificate)
                && member_of(certificate.organisation, certificate.issuer) == member;
            by_key || own.contains(&certificate.issuer_certificate)
        };
        self.by_hash.values().map(|known| &known.signed).filter(issued)
    }

    /// The member who has issued `certificate`.
    pub(super) fn issuer(&self, certificate: &MemberCertificate) -> MemberId {
        self.member(&certificate.issuer_certificate)
            .unwrap_or_else(|| member_of(certificate.organisation, certificate.issuer))
    }

    /// Whether somebody belongs by `certificate`, which need not be kept here. [CHARTER-3.2]
    pub(super) fn is_good(
        &self,
        certificate: &MemberCertificate,
        state: &State,
        roots: &Roots,
    ) -> bool {
        let hash = || content_hash(certificate);
        self.is_good_within(certificate, certificate.member(), hash, state, roots, CHAIN_MAX)
    }

    /// The same as [`Self::is_good`] for a known certificate with this hash.
    pub(super) fn is_known_good(
        &self,
        hash: &ObjectHash,
        known: &Known,
        state: &State,
        roots: &Roots,
    ) -> bool {
        self.is_known_good_within(hash, known, state, roots, CHAIN_MAX)
    }

    fn is_known_good_within(
        &self,
        hash: &ObjectHash,
        known: &Known,
        state: &State,
        roots: &Roots,
        depth: usize,
    ) -> bool {
        let certificate = known.certificate();
        self.is_good_within(certificate, known.member, || *hash, state, roots, depth)
    }

    fn is_good_within(
        &self,
        certificate: &MemberCertificate,
        member: MemberId,
        hash: impl Fn() -> ObjectHash,
        state: &State,
        roots: &Roots,
        depth: usize,
    ) -> bool {
        if certificate.admission != state.removals(member) || depth == 0 {
            return false;
        }
        if is_none(&certificate.issuer_certificate) && roots.vouches(certificate) {
            return true;
        }
        let everywhere = Place::Organisation;
        if state.grants(member).any(|(_, at)| at == everywhere)
            || (!state.listed.is_empty()
                && state.is_listed(hash(), self.issuer(certificate), member))
        {
            return true;
        }
        let issuer_certificate = &certificate.issuer_certificate;
        let Some(issuer) = self.by_hash.get(issuer_certificate) else { return false };
        owns(issuer.signed.unverified(), state, certificate.issuer)
            && self.is_known_good_within(issuer_certificate, issuer, state, roots, depth - 1)
            && state.allows(issuer.member, Capabilities::ADMIT, everywhere)
    }

    fn depth(&self, certificate: &MemberCertificate) -> usize {
        let issuer = |it: &&MemberCertificate| self.certificate(&it.issuer_certificate);
        std::iter::successors(Some(certificate), issuer).count()
    }
}

/// Whether `device` is one of the member's devices at present; the recovery key is not one.
pub(super) fn owns(certificate: &MemberCertificate, state: &State, device: DeviceId) -> bool {
    let member = certificate.member();
    let first = certificate.device == device && !state.is_retired(member, device);
    first || state.added_devices(member).any(|added| added == device)
}

pub(super) fn is_none(hash: &ObjectHash) -> bool {
    *hash == ObjectHash::from_bytes([0; 32])
}

/// The most certificates that all hold; further ones are refused until a checkpoint. [CHARTER-8.3]
const CERTIFICATES_MAX: usize = 32_768;

/// The most certificates below one member that nobody has listed. If there are more, the oldest is
/// forgotten.
const SHOWN_EACH_MAX: usize = 64;

/// The most certificates in all that nobody has listed. If there are more, the oldest below the
/// member below whom there are the most is forgotten.
const SHOWN_MAX: usize = 1024;
