use hark_keys::{
    DeviceId, DeviceKey, List, MemberId, ObjectHash, OrganisationId, Signable, Signature,
    SignatureError, Signed, encode,
};
use serde::{Deserialize, Serialize};

/// Makes a device the first device of a member. [CHARTER-3.1] [PROTO-4.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberCertificate {
    /// The organisation to which the member belongs.
    pub organisation: OrganisationId,
    /// The member's first device.
    pub device: DeviceId,
    /// The member's printed recovery key, if it has one.
    pub recovery: Option<Recovery>,
    /// How often the member was removed before.
    pub admission: u32,
    /// The key that signs this certificate.
    pub issuer: DeviceId,
    /// Hash of the certificate of the issuer's member; zero if the issuer is a root key.
    pub issuer_certificate: ObjectHash,
}

impl MemberCertificate {
    /// The member whose first device it names.
    pub fn member(&self) -> MemberId {
        member_of(self.organisation, self.device)
    }

    /// Whether this certificate alone makes `key` one of the member's keys.
    pub fn names(&self, key: DeviceId) -> bool {
        self.device == key || self.recovers(key)
    }
}

impl MemberCertificate {
    /// Whether `key` is the member's recovery key by this certificate.
    pub fn recovers(&self, key: DeviceId) -> bool {
        self.recovery.is_some_and(|recovery| recovery.key == key)
    }
}

/// A member's recovery key, with the consent of the member's first device. Without the consent, an
/// issuer could name a key of their own and take the member over with it. [CHARTER-3.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The recovery key.
    pub key: DeviceId,
    /// The first device's signature over organisation and key.
    pub consent: Signature,
}

impl Recovery {
    /// The recovery key with the consent of `device`, for the issuer of its certificate.
    pub fn of(organisation: OrganisationId, key: DeviceId, device: &DeviceKey) -> Self {
        Self { key, consent: device.sign(RECOVERY_KIND, &encode(&(organisation, key))) }
    }

    pub(super) fn verify(
        &self,
        organisation: OrganisationId,
        device: DeviceId,
    ) -> Result<(), SignatureError> {
        device.verify(RECOVERY_KIND, &encode(&(organisation, self.key)), &self.consent)
    }
}

impl Signable for MemberCertificate {
    const KIND: &'static str = "certificate";

    fn signer(&self) -> DeviceId {
        self.issuer
    }
}

/// The member whose first device is `device`.
pub fn member_of(organisation: OrganisationId, device: DeviceId) -> MemberId {
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 member");
    hasher.update(organisation.as_bytes());
    hasher.update(device.as_bytes());
    MemberId::from_bytes(hasher.finalize().into())
}

pub(super) fn content_hash(certificate: &MemberCertificate) -> ObjectHash {
    ObjectHash::from_bytes(blake3::hash(&encode(certificate)).into())
}

pub(super) fn hash_of(certificate: &Signed<MemberCertificate>) -> ObjectHash {
    ObjectHash::from_bytes(certificate.hash())
}

/// Certificates that lead from a member to a root key: the member's own first, each followed by
/// that of the issuer's member. [CHARTER-3.1]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateChain(List<Signed<MemberCertificate>, CHAIN_MAX>);

impl CertificateChain {
    /// A chain of these certificates; [`super::Charter::verify_chain`] checks it.
    pub fn of(certificates: impl IntoIterator<Item = Signed<MemberCertificate>>) -> Self {
        Self(List::truncated(certificates))
    }

    /// The member's own certificate; `None` in an empty chain, which proves nothing.
    pub fn leaf(&self) -> Option<&Signed<MemberCertificate>> {
        self.0.first()
    }

    /// All certificates, the member's own first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Signed<MemberCertificate>> {
        self.0.iter()
    }

    /// The number of certificates.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no certificates.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The most certificates of a chain. A member at its end cannot admit others, and a longer chain is
/// refused.
pub const CHAIN_MAX: usize = 8;

/// Bytes of a signed certificate; a longer one is refused. [CHARTER-1.1]
pub const CERTIFICATE_MAX_BYTES: usize = 512;

const RECOVERY_KIND: &str = "recovery consent";
