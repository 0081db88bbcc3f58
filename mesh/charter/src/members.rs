//! Who belongs, by which devices, and what they may do.

use hark_keys::{Cosigned, DeviceId, MemberId, ObjectHash, RoleId, Signed};

use super::{
    CertificateChain, Charter, Decision, Denial, MemberCertificate, Operation, Piece, PieceError,
    RootDocument,
    certificate::{self, member_of},
    certificates::{Certificates, owns},
    content::{self, Capabilities, Channel},
};

impl Charter {
    /// Whether `device` is one of the root keys at present.
    pub fn is_root(&self, device: DeviceId) -> bool {
        self.roots.newest().keys.contains(device)
    }

    /// The member whose first device is `device`.
    pub fn member_of(&self, device: DeviceId) -> MemberId {
        member_of(self.organisation, device)
    }

    /// Members whose certificates are good at present.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.certificates.members().filter(|member| self.is_member(*member))
    }

    /// Whether `member` belongs, or once did.
    pub fn is_known(&self, member: MemberId) -> bool {
        self.certificates.knows(member)
    }

    /// Whether `member` belongs at present, as far as is known here.
    pub fn is_member(&self, member: MemberId) -> bool {
        self.good(member).is_some()
    }

    /// The certificate by which `member` belongs; `None` if the member is banned. [CHARTER-6.9]
    pub(super) fn good(&self, member: MemberId) -> Option<ObjectHash> {
        if self.course.state.is_banned(member) {
            return None;
        }
        self.certificates.good(member, &self.course.state, &self.roots)
    }

    /// The devices of a member: the first and those that it has added.
    pub fn devices_of(&self, member: MemberId) -> Vec<DeviceId> {
        if self.course.state.is_banned(member) { Vec::new() } else { self.devices_held(member) }
    }

    /// The same whether the member is banned or not. A device believes of itself what the door that
    /// let it in has said, since it may be the last to learn that its ban was lifted.
    pub fn devices_held(&self, member: MemberId) -> Vec<DeviceId> {
        let good = self.certificates.good(member, &self.course.state, &self.roots);
        let Some(hash) = good else {
            return Vec::new();
        };
        let certificate = self.certificates.certificate(&hash).expect("a good one is known");
        let first =
            Some(certificate.device).filter(|it| !self.course.state.is_retired(member, *it));
        first.into_iter().chain(self.course.state.added_devices(member)).collect()
    }

    /// The member who belongs and whose printed recovery key is `key`.
    pub fn member_recovered_by(&self, key: DeviceId) -> Option<MemberId> {
        let mut members = self.members();
        members.find(|member| {
            let certificate = self.certificate_of(*member).map(Signed::unverified);
            certificate.is_some_and(|certificate| certificate.recovers(key))
        })
    }

    /// The certificate by which a member belongs at present.
    pub fn certificate_of(&self, member: MemberId) -> Option<&Signed<MemberCertificate>> {
        let hash = self.good(member)?;
        self.certificates.signed(&hash)
    }

    /// The chain of the certificate by which a member belongs at present, or would if it were not
    /// banned; empty if there is none.
    pub fn chain_of(&self, member: MemberId) -> CertificateChain {
        let good = self.certificates.good(member, &self.course.state, &self.roots);
        good.map(|hash| self.certificates.chain(hash)).unwrap_or_default()
    }

    /// What decides whether a member has a right at a place; `None` if it is not a member.
    /// [CHARTER-6.5]
    pub fn why(
        &self,
        member: MemberId,
        right: Capabilities,
        at: content::Place,
    ) -> Option<Decision> {
        self.is_member(member).then(|| self.course.state.decide(member, right, at))
    }

    /// Whether a member has all of `rights` at a place.
    pub fn allows(&self, member: MemberId, rights: Capabilities, at: content::Place) -> bool {
        self.is_member(member) && self.course.state.allows(member, rights, at)
    }

    /// Checks that a member may give a role, everywhere, to somebody who has none. The error says
    /// what is missing.
    pub fn may_give(&self, member: MemberId, role: RoleId) -> Result<(), Denial> {
        let (right, at) = (Capabilities::MANAGE_ROLES, content::Place::Organisation);
        let role = self.course.state.role(role).ok_or(Denial::Absent)?;
        if !self.allows(member, right, at) {
            Err(Denial::Right(right, at))
        } else if self.course.state.rank(member, at) < role.rank {
            Ok(())
        } else {
            Err(Denial::Rank)
        }
    }

    /// The member to whom `device` belongs, if `chain` proves it by what is known here. [PROTO-3.4]
    /// [CHARTER-3.2]
    pub fn verify_chain(
        &self,
        chain: &CertificateChain,
        device: DeviceId,
    ) -> Result<MemberId, ChainError> {
        self.verify_introduced(chain, device, &[])
    }

    /// The same for a device that operations have `added` which may not be here yet. [CHARTER-3.6]
    pub fn verify_introduced(
        &self,
        chain: &CertificateChain,
        device: DeviceId,
        added: &[Cosigned<Operation>],
    ) -> Result<MemberId, ChainError> {
        let signed = chain.leaf().ok_or(ChainError::Rootless)?;
        let leaf = signed.unverified();
        // The certificates of the chain are weighed with what is known, and not kept yet. If any of
        // them differs from the known one, even only in the signature, it is weighed too, since
        // others will be shown it.
        let weighed;
        let known = if self.certificates.chain(certificate::hash_of(signed)) == *chain {
            &self.certificates
        } else {
            weighed = self.weigh(chain, |issuer, device| self.owned(issuer, device))?;
            &weighed
        };
        if !owns(leaf, &self.course.state, device) && !self.is_introduced(leaf, device, added) {
            return Err(ChainError::Device);
        }
        let banned = self.is_kept_out(device) || self.course.state.is_banned(leaf.member());
        if banned || !known.is_good(leaf, &self.course.state, &self.roots) {
            return Err(ChainError::NotMember);
        }
        Ok(leaf.member())
    }

    /// The certificates of a chain, each checked to be signed by its issuer. `bound` says whether
    /// the issuer is a device of the member whose certificate follows.
    fn weigh(
        &self,
        chain: &CertificateChain,
        bound: impl Fn(&MemberCertificate, DeviceId) -> bool,
    ) -> Result<Certificates, ChainError> {
        let mut certificates = Certificates::default();
        for certificate in chain.iter().rev() {
            let value = certificate.unverified();
            if let Some(issuer) = certificates.certificate(&value.issuer_certificate)
                && !bound(issuer, value.issuer)
            {
                return Err(ChainError::Issuer);
            }
            certificates.take(certificate.clone(), &self.roots).map_err(|error| match error {
                PieceError::Organisation => ChainError::Organisation,
                PieceError::Signature(_) => ChainError::Signature,
                PieceError::Missing(_) => ChainError::Broken,
                _ => ChainError::Rootless,
            })?;
        }
        let leaf = chain.leaf().map(certificate::hash_of).ok_or(ChainError::Rootless)?;
        if certificates.chain(leaf) == *chain { Ok(certificates) } else { Err(ChainError::Broken) }
    }

    /// Whether `device` is, or was, one of the devices of a certificate's member.
    fn owned(&self, certificate: &MemberCertificate, device: DeviceId) -> bool {
        let settled = self.course.state.devices.get(&certificate.member());
        certificate.names(device)
            || settled.is_some_and(|devices| devices.contains_key(&device))
            || owns(certificate, &self.course.state, device)
    }

    /// The charter of root documents, the founding one first, as a newcomer gets them.
    pub fn of_roots(
        documents: impl IntoIterator<Item = Cosigned<RootDocument>>,
    ) -> Result<Self, PieceError> {
        let mut documents = documents.into_iter();
        let mut charter = Self::of(documents.next().ok_or(PieceError::Malformed)?)?;
        for result in charter.take_all(documents.map(Piece::Root)) {
            result?;
        }
        Ok(charter)
    }

    /// Whether nobody lets this device in at present: it is, or was, a device of a member who is
    /// banned. [CHARTER-6.6]
    pub fn is_kept_out(&self, device: DeviceId) -> bool {
        self.course.state.is_banned(self.member_of(device)) || self.course.state.is_barred(device)
    }

    /// The member of a chain of good signatures that leads to a root key, if `device` is one of its
    /// devices, also by operations that have `added` it. Only [`Self::verify_chain`] says, from all
    /// pieces, whether the member belongs at present. Each certificate must be issued by the first
    /// device of its issuer's member, as no more is known of devices here, unless the other end is
    /// `trusted` for another reason.
    pub fn rooted_chain(
        &self,
        chain: &CertificateChain,
        device: DeviceId,
        added: &[Cosigned<Operation>],
        trusted: bool,
    ) -> Result<MemberId, ChainError> {
        let leaf = chain.leaf().ok_or(ChainError::Rootless)?.unverified();
        self.weigh(chain, |issuer, device| trusted || self.owned(issuer, device))?;
        if leaf.device != device
            && !owns(leaf, &self.course.state, device)
            && !self.is_introduced(leaf, device, added)
        {
            return Err(ChainError::Device);
        }
        Ok(leaf.member())
    }

    /// Keeps the certificates of a chain that [`Self::rooted_chain`] has verified, before the rest
    /// of the charter says whether they count.
    pub fn show_chain(&mut self, chain: &CertificateChain) {
        for certificate in chain.iter().rev() {
            // One that does not fit is shown again, with the link or the record that needs it.
            let _ = self.certificates.show(certificate.clone(), &self.roots);
        }
        self.take_chain(chain);
    }

    /// Takes all that another copy of this charter holds, and what was shown to that copy.
    pub fn merge(&mut self, other: &Self) {
        self.take_all(other.pieces_in_order());
        for certificate in other.certificates.shown() {
            // One that does not fit is shown again, with the link or the record that needs it.
            let _ = self.certificates.show(certificate.clone(), &self.roots);
        }
        self.introduce(&other.introduced);
    }

    /// Takes the certificates of a chain. Returns whether any was new.
    pub fn take_chain(&mut self, chain: &CertificateChain) -> bool {
        let certificates = chain.iter().rev().cloned().map(Piece::Certificate);
        self.take_all(certificates).contains(&Ok(true))
    }

    /// The member to whom `device` belongs, as far as is known here.
    pub fn owner(&self, device: DeviceId) -> Option<MemberId> {
        let first = self.member_of(device);
        if self
            .certificate_of(first)
            .is_some_and(|it| owns(it.unverified(), &self.course.state, device))
        {
            return Some(first);
        }
        let introduced = self.course.state.introduced.keys();
        let mut owners = self.course.state.devices.keys().chain(introduced).copied();
        owners.find(|member| {
            self.is_member(*member)
                && self.course.state.added_devices(*member).any(|it| it == device)
        })
    }

    /// What a member who has chosen nothing hears and talks to: the first channel, in the order
    /// that officers gave them, that it may join. A channel of a preset is used only if there is no
    /// other.
    pub fn first_channel(&self, member: MemberId) -> Option<&Channel> {
        let rights = Capabilities::JOIN | Capabilities::LISTEN;
        let state = &self.course.state;
        let may = |it: &&Channel| state.allows(member, rights, content::Place::Channel(it.id));
        let preset = |it: &&Channel| state.preset_of(it.id).is_some();
        let mut channels: Vec<_> = state.channels_in_order();
        // A preset that does not mention the member does not move a member who has chosen nothing.
        channels.sort_by_key(preset);
        channels.into_iter().find(may)
    }
}

/// Why a chain of certificates proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It is of another organisation.
    #[error("certificate of another organisation")]
    Organisation,
    /// A certificate is not followed by its issuer's.
    #[error("certificates do not follow each other")]
    Broken,
    /// It does not end at a root key.
    #[error("certificates lead to no root key")]
    Rootless,
    /// A signature is not its issuer's.
    #[error("certificate with a wrong signature")]
    Signature,
    /// An issuer is not a device of the member by whose certificate it issues.
    #[error("certificate of an issuer that is no device of the member it names")]
    Issuer,
    /// The device is not one of the member's.
    #[error("the device is none of the member's")]
    Device,
    /// The member was removed, or was admitted by somebody without the right to admit.
    #[error("the member does not belong, or not any more")]
    NotMember,
}

impl ChainError {
    /// Whether the same chain may be valid once more of the charter is known.
    pub fn depends_on_charter(self) -> bool {
        match self {
            Self::Organisation | Self::Broken | Self::Signature => false,
            Self::Rootless | Self::Issuer | Self::Device | Self::NotMember => true,
        }
    }
}
