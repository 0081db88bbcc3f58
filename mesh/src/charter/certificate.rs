use hark_keys::{DeviceId, DeviceKey, MemberId, OrganisationId, Signable, Signed};
use serde::{Deserialize, Serialize};

use super::Charter;
use crate::List;

/// Binds a device to a member of an organisation. [PROTO-4.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberCertificate {
    /// Where the member belongs.
    pub organisation: OrganisationId,
    /// The person.
    pub member: MemberId,
    /// The person's device.
    pub device: DeviceId,
    /// What the person is there.
    pub role: Role,
    /// Whose signature this carries.
    pub issuer: DeviceId,
}

impl Signable for MemberCertificate {
    const KIND: &'static str = "certificate";

    fn signer(&self) -> DeviceId {
        self.issuer
    }
}

/// What a member is in the organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Belongs, and may admit others.
    Member,
    /// Holds a root key.
    Founder,
}

/// Certificates that lead from a device to a root key: its own first, each issuer being the device
/// of the next one, and the last issuer a root key. [PROTO-4.2]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateChain(List<Signed<MemberCertificate>, CHAIN_MAX>);

impl CertificateChain {
    /// The certificate of the device itself; none in an empty chain, which proves nothing.
    pub fn leaf(&self) -> Option<&MemberCertificate> {
        self.0.first().map(Signed::unverified)
    }

    /// How many certificates it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Charter {
    /// The chain of a root key's own device: one certificate, which it issues to itself.
    pub fn found_chain(&self, key: &DeviceKey) -> Result<CertificateChain, IssueError> {
        if !self.is_root(key.id()) {
            return Err(IssueError::NotMember);
        }
        Ok(chain([self.certificate(key, key.id(), Role::Founder)]))
    }

    /// Admits `device`: its chain, by a certificate that the member with `key` and `own` issues.
    pub fn issue(
        &self,
        key: &DeviceKey,
        own: &CertificateChain,
        device: DeviceId,
    ) -> Result<CertificateChain, IssueError> {
        let role = if self.is_root(device) { Role::Founder } else { Role::Member };
        let certificate = self.certificate(key, device, role);
        if self.is_root(key.id()) {
            return Ok(chain([certificate]));
        }
        self.verify_chain(own, key.id()).map_err(|_| IssueError::NotMember)?;
        if own.len() >= CHAIN_MAX {
            return Err(IssueError::TooFar);
        }
        Ok(chain(std::iter::once(certificate).chain(own.0.iter().cloned())))
    }

    /// The member that `device` belongs to, if `chain` proves it. [PROTO-3.4] [PROTO-4.2]
    pub fn verify_chain(
        &self,
        chain: &CertificateChain,
        device: DeviceId,
    ) -> Result<MemberId, ChainError> {
        let mut expected = device;
        for certificate in chain.0.iter() {
            let certificate = certificate.unverified();
            if certificate.organisation != self.organisation() {
                return Err(ChainError::Organisation);
            }
            if certificate.device != expected {
                return Err(ChainError::Broken);
            }
            // Members have one device so far, and nobody makes others roots.
            if certificate.member != self.member_of(certificate.device)
                || (certificate.role == Role::Founder && !self.is_root(certificate.device))
            {
                return Err(ChainError::Claim);
            }
            expected = certificate.issuer;
        }
        if chain.is_empty() || !self.is_root(expected) {
            return Err(ChainError::Rootless);
        }
        // Signatures last, as they cost the most.
        for certificate in chain.0.iter() {
            certificate.verify().map_err(|_| ChainError::Signature)?;
        }
        Ok(self.member_of(device))
    }

    fn certificate(
        &self,
        issuer: &DeviceKey,
        device: DeviceId,
        role: Role,
    ) -> Signed<MemberCertificate> {
        let certificate = MemberCertificate {
            organisation: self.organisation(),
            member: self.member_of(device),
            device,
            role,
            issuer: issuer.id(),
        };
        Signed::sign(certificate, issuer)
    }
}

fn chain(certificates: impl IntoIterator<Item = Signed<MemberCertificate>>) -> CertificateChain {
    CertificateChain(List::truncated(certificates))
}

/// Why a chain of certificates proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It is of another organisation.
    #[error("certificate of another organisation")]
    Organisation,
    /// A certificate is not that of the device it should be of.
    #[error("certificate of another device")]
    Broken,
    /// It gives a device a member or a role that is not its own.
    #[error("certificate claims what its issuer cannot give")]
    Claim,
    /// It does not end at a root key.
    #[error("certificates lead to no root key")]
    Rootless,
    /// A signature is not its issuer's.
    #[error("certificate with a wrong signature")]
    Signature,
}

/// Why a device cannot admit another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// It does not belong itself.
    #[error("this device is no member")]
    NotMember,
    /// A chain through it would be too long.
    #[error("this device is too many invitations away from the founder to admit others")]
    TooFar,
}

/// Certificates of a chain; a device at its end cannot admit others, and longer ones are refused.
pub const CHAIN_MAX: usize = 8;
