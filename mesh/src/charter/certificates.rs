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
}

/// A certificate, and what else would have to be computed again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    signed: Signed<MemberCertificate>,
    member: MemberId,
}

impl Known {
    pub(super) fn certificate(&self) -> &MemberCertificate {
        self.signed.unverified()
    }
}

impl Certificates {
    /// Takes a certificate whose issuer's is known; says whether it was new. [CHARTER-3.1]
    pub(super) fn take(
        &mut self,
        certificate: Signed<MemberCertificate>,
        roots: &Roots,
    ) -> Result<bool, PieceError> {
        let hash = hash_of(&certificate);
        if self.by_hash.contains_key(&hash) {
            return Ok(false);
        }
        self.check(&certificate, roots)?;
        if self.by_hash.len() >= CERTIFICATES_MAX {
            return Err(PieceError::Full);
        }
        let member = certificate.unverified().member();
        self.by_member.insert((member, hash));
        self.by_hash.insert(hash, Arc::new(Known { signed: certificate, member }));
        Ok(true)
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
        // The signatures last, as they cost the most.
        signed.verify()?;
        if let Some(recovery) = &certificate.recovery {
            recovery.verify(certificate.organisation, certificate.device)?;
        }
        Ok(())
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

    /// All of them, each after its issuer's.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Signed<MemberCertificate>> {
        let mut all: Vec<_> = self.by_hash.values().map(|known| &known.signed).collect();
        all.sort_by_cached_key(|certificate| self.depth(certificate.unverified()));
        all.into_iter()
    }

    pub(super) fn hashes(&self) -> impl Iterator<Item = &ObjectHash> {
        self.by_hash.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberId> {
        let mut last = None;
        let members = self.by_member.iter().map(|(member, _)| *member);
        members.filter(move |member| last.replace(*member) != Some(*member))
    }

    /// Whether there is any certificate of a member.
    pub(super) fn knows(&self, member: MemberId) -> bool {
        self.of(member).next().is_some()
    }

    /// Certificates of a member, those with the lowest hashes first.
    fn of(&self, member: MemberId) -> impl Iterator<Item = &ObjectHash> {
        let [first, last] = [[0; 32], [u8::MAX; 32]].map(ObjectHash::from_bytes);
        self.by_member.range((member, first)..=(member, last)).map(|(_, hash)| hash)
    }

    /// The certificate by which somebody is a member at present: of good ones the one with the
    /// lowest hash.
    pub(super) fn good(
        &self,
        member: MemberId,
        state: &State,
        roots: &Roots,
    ) -> Option<ObjectHash> {
        let mut all = self.of(member);
        all.find(|hash| self.is_known_good(hash, &self.by_hash[hash], state, roots)).copied()
    }

    /// The chain of a certificate that is known.
    pub(super) fn chain(&self, hash: ObjectHash) -> CertificateChain {
        CertificateChain::of(
            std::iter::successors(self.signed(&hash), |certificate| {
                self.signed(&certificate.unverified().issuer_certificate)
            })
            .cloned(),
        )
    }

    /// The member who has issued a certificate.
    pub(super) fn issuer(&self, certificate: &MemberCertificate) -> MemberId {
        self.member(&certificate.issuer_certificate)
            .unwrap_or_else(|| member_of(certificate.organisation, certificate.issuer))
    }

    /// Whether somebody belongs by `certificate`, which may be one that is not kept. [CHARTER-3.2]
    pub(super) fn is_good(
        &self,
        certificate: &MemberCertificate,
        state: &State,
        roots: &Roots,
    ) -> bool {
        let hash = || content_hash(certificate);
        self.is_good_within(certificate, certificate.member(), hash, state, roots, CHAIN_MAX)
    }

    /// The same for one that is known, of this hash.
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
        let by_root = is_none(&certificate.issuer_certificate);
        if by_root && roots.newest().keys.contains(certificate.issuer) {
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

/// Whether `device` is one of the member's at present; the recovery key is none.
pub(super) fn owns(certificate: &MemberCertificate, state: &State, device: DeviceId) -> bool {
    let member = certificate.member();
    let first = certificate.device == device && !state.is_retired(member, device);
    first || state.added_devices(member).any(|added| added == device)
}

pub(super) fn is_none(hash: &ObjectHash) -> bool {
    *hash == ObjectHash::from_bytes([0; 32])
}

/// Certificates that are kept; further ones are refused.
const CERTIFICATES_MAX: usize = 32_768;
