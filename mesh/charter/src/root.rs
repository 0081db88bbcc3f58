use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use hark_keys::{Cosignable, Cosigned, DeviceId, List, ObjectHash, OrganisationId};
use serde::{Deserialize, Serialize};

use super::{
    MemberCertificate, PieceError,
    content::Change,
    operation::{CUTS_MAX, Cut},
};
use crate::clean_name;

/// Names the organisation and its root keys. [section 2 of docs/charter.md]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDocument {
    /// The version; 1 for the founding document.
    pub version: u32,
    /// Hash of the version before; zero for the first.
    pub previous: ObjectHash,
    /// The organisation's name.
    pub name: String,
    /// The keys that stand for the organisation, in ascending seniority: the founder's device is
    /// the first of version 1, and the key that prevails over all others is the last. [CHARTER-2.3]
    pub keys: RootKeys,
    /// How many of the keys must sign.
    pub threshold: u8,
    /// Documents of a version that has several, as far as this document knows them.
    pub merges: List<ObjectHash, MERGES_MAX>,
    /// The cuts that it makes: terms that it ends. [CHARTER-2.5]
    pub cuts: List<Cut, CUTS_MAX>,
    /// Changes that hold before any operation; only in version 1.
    pub content: List<Change, CONTENT_MAX>,
}

impl RootDocument {
    /// The key of the version `before` that must sign, or one senior to it, for this document to
    /// count. `None` if such a key is among the `signers`, or none is needed.
    ///
    /// If one key of the version before is enough, a document takes nothing from keys that are
    /// senior to all its signers. They stay, as senior as they were, and each of them is still
    /// enough. So a thief of a junior key cannot end the senior one. [CHARTER-2.7]
    pub fn lacks_senior(
        &self,
        before: &Self,
        signers: impl Iterator<Item = DeviceId>,
    ) -> Option<DeviceId> {
        let RootKeys(keys) = &before.keys;
        if before.threshold > 1 {
            return None;
        }
        let stay = |after: &usize| self.keys.0.ends_with(&keys[after + 1..]);
        let last = keys.len() - 1;
        let needed = if self.threshold > 1 { last } else { (0..last).find(stay).unwrap_or(last) };
        let most_senior = before.keys.standing(signers).first().copied();
        most_senior.is_none_or(|signer| signer < needed).then(|| keys[needed])
    }
}

impl Cosignable for RootDocument {
    const KIND: &'static str = "root";
}

/// One to fifteen keys, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "List<DeviceId, ROOT_KEYS_MAX>", into = "Vec<DeviceId>")]
pub struct RootKeys(Vec<DeviceId>);

impl RootKeys {
    /// The least senior key.
    pub fn first(&self) -> DeviceId {
        self.0[0]
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: DeviceId) -> bool {
        self.0.contains(&key)
    }

    /// All keys, the most senior last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DeviceId> + DoubleEndedIterator + Clone {
        self.0.iter().copied()
    }

    /// The places among the keys of those `signers` that are root keys, the most senior first. Of
    /// two sets of signers, the one with the larger list prevails. [CHARTER-2.3]
    pub(super) fn standing(&self, signers: impl Iterator<Item = DeviceId>) -> Vec<usize> {
        let mut places: Vec<_> =
            signers.filter_map(|signer| self.0.iter().position(|key| *key == signer)).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        places
    }
}

impl TryFrom<List<DeviceId, ROOT_KEYS_MAX>> for RootKeys {
    type Error = PieceError;

    fn try_from(keys: List<DeviceId, ROOT_KEYS_MAX>) -> Result<Self, PieceError> {
        let mut seen = BTreeSet::new();
        if keys.is_empty() || !keys.iter().all(|key| seen.insert(*key)) {
            return Err(PieceError::Malformed);
        }
        Ok(Self(keys.into_vec()))
    }
}

impl From<RootKeys> for Vec<DeviceId> {
    fn from(keys: RootKeys) -> Self {
        keys.0
    }
}

/// Root documents that count: those that are chosen, and some others with the same previous
/// version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    documents: BTreeMap<ObjectHash, Cosigned<RootDocument>>,
    /// The hash of version n is at n - 1.
    chosen: Vec<ObjectHash>,
    /// How many of the chosen versions a checkpoint has settled. They are chosen for good.
    /// [CHARTER-2.6]
    settled: usize,
}

impl Roots {
    /// The root documents when there is only the founding one. [CHARTER-2.1]
    pub(super) fn found(document: Cosigned<RootDocument>) -> Result<Self, PieceError> {
        let root = document.verify()?;
        let sound = root.version == 1
            && root.previous == ObjectHash::from_bytes([0; 32])
            && root.merges.is_empty()
            && root.cuts.is_empty()
            && root.content.iter().all(Change::is_sound)
            && is_sound(root);
        if !sound {
            return Err(PieceError::Malformed);
        }
        let founder = root.keys.first();
        if !document.signers().any(|key| key == founder) || !only_by(&document, &[root]) {
            return Err(PieceError::Signatures);
        }
        let hash = document.hash();
        Ok(Self { documents: BTreeMap::from([(hash, document)]), chosen: vec![hash], settled: 1 })
    }

    /// Takes a later version, or more signatures of a known one. Returns whether anything changed.
    /// [CHARTER-2.2]
    pub(super) fn take(&mut self, document: Cosigned<RootDocument>) -> Result<bool, PieceError> {
        let hash = document.hash();
        let root = document.verify()?;
        if let Some(known) = self.documents.get(&hash) {
            let before = self.documents.get(&known.unverified().previous);
            let before = before.map_or(root, Cosigned::unverified);
            if !only_by(&document, &[before, root]) {
                return Err(PieceError::Signatures);
            }
        }
        if let Some(known) = self.documents.get_mut(&hash) {
            let changed = known.merge(&document);
            self.choose();
            return Ok(changed);
        }
        // [CHARTER-2.6]
        if usize::try_from(root.version).is_ok_and(|version| version <= self.settled) {
            return Err(PieceError::Late);
        }
        if root.version < 2 || !root.content.is_empty() || !is_sound(root) {
            return Err(PieceError::Malformed);
        }
        let Some(previous) = self.documents.get(&root.previous) else {
            return Err(PieceError::Missing(vec![root.previous]));
        };
        let before = previous.unverified();
        let counts = |of: &RootDocument| {
            let signers = document.signers().filter(|key| of.keys.contains(*key)).count();
            signers >= usize::from(of.threshold)
        };
        if root.version != before.version + 1
            || !counts(before)
            || !counts(root)
            || !only_by(&document, &[before, root])
            || root.lacks_senior(before, document.signers()).is_some()
        {
            return Err(PieceError::Signatures);
        }
        // Documents that follow one that is not chosen are not held: they are taken when that one
        // is chosen.
        if !self.chosen.contains(&root.previous) {
            return Err(PieceError::Late);
        }
        if self.chosen.len() >= ROOTS_MAX {
            return Err(PieceError::Full);
        }
        self.documents.insert(hash, document);
        self.choose();
        if self.documents.contains_key(&hash) { Ok(true) } else { Err(PieceError::Late) }
    }

    /// Makes the choice up to `version` final: it has signed a checkpoint that counts.
    /// [CHARTER-2.6]
    pub(super) fn settle(&mut self, version: u32) {
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        self.settled = self.settled.max(version.min(self.chosen.len()));
        self.choose();
    }

    /// The founding document.
    pub(super) fn first(&self) -> &RootDocument {
        self.documents[&self.chosen[0]].unverified()
    }

    /// The newest chosen version.
    pub(super) fn newest(&self) -> &RootDocument {
        self.documents[self.chosen.last().expect("the founding document is chosen")].unverified()
    }

    /// The hash of the newest chosen version.
    pub(super) fn newest_hash(&self) -> ObjectHash {
        *self.chosen.last().expect("the founding document is chosen")
    }

    /// Documents of versions that have several, if no later document names them all.
    pub(super) fn branches(&self) -> Vec<ObjectHash> {
        if !self.is_forked() {
            return Vec::new();
        }
        let twins = |parent| {
            let children: Vec<_> = self.children(parent).map(|(hash, _)| *hash).collect();
            if children.len() > 1 { children } else { Vec::new() }
        };
        self.chosen.iter().flat_map(twins).collect()
    }

    /// The chosen document of a version.
    pub(super) fn version(&self, version: u32) -> Option<&RootDocument> {
        let hash = self.chosen.get(usize::try_from(version).ok()?.checked_sub(1)?)?;
        Some(self.documents[hash].unverified())
    }

    /// The root documents as they were chosen when `version` was the newest.
    pub(super) fn up_to(&self, version: u32) -> Self {
        let mut roots = self.clone();
        roots.chosen.truncate(usize::try_from(version).unwrap_or(usize::MAX));
        roots
    }

    /// All chosen documents, in order.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &RootDocument> {
        self.chosen.iter().map(|hash| self.documents[hash].unverified())
    }

    /// All documents with their signatures, the earlier versions first.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Cosigned<RootDocument>> {
        let mut all: Vec<_> = self.documents.values().collect();
        all.sort_by_key(|document| document.unverified().version);
        all.into_iter()
    }

    /// Whether `key` is a key of any document that counts, chosen or not. What is taken does not
    /// depend on what is chosen at the moment.
    pub(super) fn knows(&self, key: DeviceId) -> bool {
        self.documents.values().any(|document| document.unverified().keys.contains(key))
    }

    /// Whether a root key's signature is enough for a certificate: that of a key of the newest
    /// version, or of the founder for itself. The founder stays a member when its device is no
    /// longer a root key. [CHARTER-3.2]
    pub(super) fn vouches(&self, certificate: &MemberCertificate) -> bool {
        let founder = self.first().keys.first();
        self.newest().keys.contains(certificate.issuer)
            || (certificate.issuer == founder && certificate.device == founder)
    }

    /// Whether `key` acts as root in an operation that names `version`. It must be a key of that
    /// version. If a later document drops it, that document must let the operation stand; `listed`
    /// says whether its cuts do. [CHARTER-2.5]
    pub(super) fn acts(
        &self,
        version: u32,
        key: DeviceId,
        listed: impl Fn(&RootDocument) -> bool,
    ) -> bool {
        if !self.version(version).is_some_and(|root| root.keys.contains(key)) {
            return false;
        }
        let mut later = self.chosen().filter(|root| root.version > version);
        later.find(|root| !root.keys.contains(key)).is_none_or(listed)
    }

    pub(super) fn contains(&self, hash: &ObjectHash) -> bool {
        self.documents.contains_key(hash)
    }

    pub(super) fn organisation(&self) -> OrganisationId {
        OrganisationId::from_bytes(*self.chosen[0].as_bytes())
    }

    /// Whether there are several documents of one version that no later one names. [CHARTER-2.3]
    pub(super) fn is_forked(&self) -> bool {
        let named: BTreeSet<_> = self.chosen().flat_map(|root| root.merges.iter()).collect();
        self.chosen.iter().any(|parent| {
            let children: Vec<_> = self.children(parent).map(|(hash, _)| hash).collect();
            children.len() > 1 && !children.iter().all(|hash| named.contains(hash))
        })
    }

    fn children<'a>(
        &'a self,
        parent: &'a ObjectHash,
    ) -> impl Iterator<Item = (&'a ObjectHash, &'a Cosigned<RootDocument>)> {
        self.documents.iter().filter(|(_, document)| document.unverified().previous == *parent)
    }

    /// Chooses again from what is settled on. Forgets documents that are neither chosen nor among
    /// the [`SIBLINGS_MAX`] best of their version. Which those are does not depend on the order of
    /// arrival. [CHARTER-2.3] [CHARTER-2.6]
    fn choose(&mut self) {
        self.chosen.truncate(self.settled);
        let mut held: BTreeSet<_> = self.chosen.iter().copied().collect();
        while let Some(parent) = self.chosen.last() {
            // The author of a document names its keys, so the keys of the version before must
            // decide.
            let old = &self.documents[parent].unverified().keys;
            let mut children: Vec<_> = self
                .children(parent)
                .map(|(hash, document)| (Reverse(old.standing(document.signers())), *hash))
                .collect();
            children.sort_unstable();
            let mut children = children.into_iter().map(|(_, hash)| hash).peekable();
            let Some(next) = children.peek().copied() else { break };
            held.extend(children.take(SIBLINGS_MAX));
            self.chosen.push(next);
        }
        self.documents.retain(|hash, _| held.contains(hash));
    }
}

/// Whether only these documents' keys have signed: the room for signatures is for those that count.
fn only_by(document: &Cosigned<RootDocument>, roots: &[&RootDocument]) -> bool {
    document.signers().all(|key| roots.iter().any(|root| root.keys.contains(key)))
}

fn is_sound(root: &RootDocument) -> bool {
    let threshold = usize::from(root.threshold);
    (1..=root.keys.iter().len()).contains(&threshold)
        && !root.name.is_empty()
        && root.name == clean_name(&root.name)
}

/// The most root keys of an organisation; a document with more is refused.
pub const ROOT_KEYS_MAX: usize = 15;

/// Bytes of a signed root document; a longer one is refused. [CHARTER-1.1]
pub const ROOT_MAX_BYTES: usize = 16 * 1024;

/// The most documents that one names in `merges`.
pub(super) const MERGES_MAX: usize = 4;

/// The most changes of the founding document.
pub(super) const CONTENT_MAX: usize = 64;

/// The most versions of an organisation's root document; further ones are refused.
const ROOTS_MAX: usize = 256;

/// The most documents of one version that are held. If there are more, those that would be chosen
/// last are forgotten.
const SIBLINGS_MAX: usize = 4;
