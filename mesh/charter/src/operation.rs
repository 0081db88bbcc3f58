use hark_keys::{
    Cosignable, Cosigned, DeviceId, DeviceKey, List, MemberId, ObjectHash, OrganisationId,
    Signature, encode,
};
use serde::{Deserialize, Serialize};

use super::content::Change;

/// Something that a member does to the charter, signed by its author and all cosigners.
/// [section 4 of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Where it belongs.
    pub organisation: OrganisationId,
    /// The key that makes it.
    pub author: DeviceId,
    /// Hash of the certificate of the author's member; zero for a root key that acts as such.
    pub certificate: ObjectHash,
    /// The author's term: how many of its member's terms were cut before. [CHARTER-5.3]
    pub term: u32,
    /// Counts the author's operations in the term, from 1.
    pub sequence: u64,
    /// The author's operation before it in the term; zero for the first.
    pub previous: ObjectHash,
    /// The newest checkpoint that the author knew; the organisation's id where there was none.
    pub base: ObjectHash,
    /// The heads that the author knew, in ascending order.
    pub parents: List<ObjectHash, PARENTS_MAX>,
    /// One more than the largest of its parents'.
    pub lamport: u64,
    /// The version of the root document by which it may act as root.
    pub root: u32,
    /// Further root keys that sign it, in ascending order.
    pub cosigners: List<DeviceId, COSIGNERS_MAX>,
    /// Terms that it ends. [CHARTER-5.2]
    pub cuts: List<Cut, CUTS_MAX>,
    /// What it does.
    pub changes: List<Change, CHANGES_MAX>,
}

impl Cosignable for Operation {
    const KIND: &'static str = "operation";
}

/// Ends a term of a member: what its keys did in it stands up to the numbers given. [CHARTER-5.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Whose term.
    pub member: MemberId,
    /// Which.
    pub term: u32,
    /// The last operation of each key that stands, in ascending order of keys.
    pub last: List<(DeviceId, u64), CUT_KEYS_MAX>,
}

impl Cut {
    /// The number up to which what `key` did in the term stands.
    pub fn last_of(&self, key: DeviceId) -> u64 {
        self.last.iter().find(|(known, _)| *known == key).map_or(0, |(_, last)| *last)
    }
}

/// Whether what can be told from an operation alone is in order. [CHARTER-4.1] [CHARTER-4.21]
/// [CHARTER-4.6]
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

/// What a device signs to become one of a member's. [CHARTER-3.3]
pub fn device_consent(
    organisation: OrganisationId,
    member: MemberId,
    device: &DeviceKey,
) -> Signature {
    device.sign(CONSENT_KIND, &encode(&(organisation, member)))
}

/// Whether `consent` is what [`device_consent`] makes. [CHARTER-3.3]
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

/// Heads that an operation names.
pub(super) const PARENTS_MAX: usize = 8;

/// Further root keys that sign an operation.
pub(super) const COSIGNERS_MAX: usize = 15;

/// Terms that an operation ends.
pub(super) const CUTS_MAX: usize = 32;

/// Keys of one cut: sixteen devices, those retired before, and the recovery key.
pub(super) const CUT_KEYS_MAX: usize = 64;

/// Changes of one operation.
pub(super) const CHANGES_MAX: usize = 32;
