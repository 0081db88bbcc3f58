use hark_keys::{
    Cosignable, Cosigned, DeviceId, DeviceKey, List, MemberId, ObjectHash, OrganisationId,
    Signature, encode,
};
use serde::{Deserialize, Serialize};

use super::content::Change;

/// Changes that a member makes to the charter, signed by the author and all cosigners. [section 4
/// of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The organisation to which it belongs.
    pub organisation: OrganisationId,
    /// The key that makes it.
    pub author: DeviceId,
    /// Hash of the certificate of the author's member; zero if a root key acts by itself.
    pub certificate: ObjectHash,
    /// The author's term: how many of its member's terms were cut before. [CHARTER-5.3]
    pub term: u32,
    /// The number of the operation among the author's in the term, from 1.
    pub sequence: u64,
    /// The author's operation before it in the term; zero for the first.
    pub previous: ObjectHash,
    /// The newest checkpoint that the author knew; the organisation's id if there was none.
    pub base: ObjectHash,
    /// The heads that the author knew, in ascending order.
    pub parents: List<ObjectHash, PARENTS_MAX>,
    /// One more than the largest lamport of its parents, or than that of the base if it has none.
    pub lamport: u64,
    /// The version of the root document by which the author may act as root.
    pub root: u32,
    /// Further root keys that sign it, in ascending order.
    pub cosigners: List<DeviceId, COSIGNERS_MAX>,
    /// The cuts that it makes: terms that it ends. [CHARTER-5.2]
    pub cuts: List<Cut, CUTS_MAX>,
    /// The changes that it makes.
    pub changes: List<Change, CHANGES_MAX>,
}

impl Cosignable for Operation {
    const KIND: &'static str = "operation";
}

/// Ends a term of a member: what its keys did in the term stands up to the given numbers.
/// [CHARTER-5.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The member whose term ends.
    pub member: MemberId,
    /// The term.
    pub term: u32,
    /// The number of the last operation of each key that stands, in ascending order of keys.
    pub last: List<(DeviceId, u64), CUT_KEYS_MAX>,
}

impl Cut {
    /// The number up to which the operations of `key` in the term stand.
    pub fn last_of(&self, key: DeviceId) -> u64 {
        self.last.iter().find(|(known, _)| *known == key).map_or(0, |(_, last)| *last)
    }
}

/// Whether everything is in order that can be checked from the operation alone. [CHARTER-4.1]
/// [CHARTER-4.21] [CHARTER-4.6]
pub(super) fn is_sound(signed: &Cosigned<Operation>, organisation: OrganisationId) -> bool {
    let operation = signed.unverified();
    let mut signers = operation.cosigners.to_vec();
    let ascending = signers.is_sorted_by(|a, b| a < b) && !signers.contains(&operation.author);
    signers.push(operation.author);
    signers.sort_unstable();
    ascending
        && operation.organisation == organisation
        && signed.signers().eq(signers)
        && operation.sequence > 0
        && (operation.sequence == 1) == (operation.previous == ObjectHash::from_bytes([0; 32]))
        && operation.parents.is_sorted_by(|a, b| a < b)
        && operation.cuts.iter().all(|cut| cut.last.is_sorted_by(|a, b| a.0 < b.0))
        && operation.changes.iter().all(Change::is_sound)
}

/// The signature by which a device consents to become one of a member's. [CHARTER-3.3]
pub fn device_consent(
    organisation: OrganisationId,
    member: MemberId,
    device: &DeviceKey,
) -> Signature {
    device.sign(CONSENT_KIND, &encode(&(organisation, member)))
}

/// Whether `consent` is a signature as [`device_consent`] makes it. [CHARTER-3.3]
pub fn consents(
    organisation: OrganisationId,
    member: MemberId,
    device: DeviceId,
    consent: &Signature,
) -> bool {
    device.verify(CONSENT_KIND, &encode(&(organisation, member)), consent).is_ok()
}

const CONSENT_KIND: &str = "device consent";

/// Bytes of a signed operation; a longer one is refused. [CHARTER-1.1]
pub const OPERATION_MAX_BYTES: usize = 16 * 1024;

/// The most heads that an operation names.
pub(super) const PARENTS_MAX: usize = 8;

/// The most further root keys that sign an operation.
pub(super) const COSIGNERS_MAX: usize = 15;

/// The most terms that an operation ends.
pub(super) const CUTS_MAX: usize = 32;

/// The most keys of one cut: sixteen devices, those retired before, and the recovery key.
pub(super) const CUT_KEYS_MAX: usize = 64;

/// The most changes of one operation.
pub(super) const CHANGES_MAX: usize = 32;
