//! The charter: what an organisation is, and who belongs to it.
//!
//! Today it is one root document, which the founder signs and which names the first channel. It
//! grows by operations of officers; [`Charter::heads`] is what two members compare then.

mod certificate;

use hark_keys::{
    ChannelId, DecodeError, DeviceId, DeviceKey, MemberId, OrganisationId, Random, Signable,
    SignatureError, Signed, TargetId, decode, encode,
};
use serde::{Deserialize, Serialize};

pub use certificate::{
    CHAIN_MAX, CertificateChain, ChainError, IssueError, MemberCertificate, Role,
};

use crate::clean_name;

/// An organisation's charter, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter {
    root: Signed<RootDocument>,
    organisation: OrganisationId,
}

impl Charter {
    /// Founds an organisation whose root is the device of `key`. Names are cleaned.
    pub fn found(name: &str, channel_name: &str, key: &DeviceKey, random: &dyn Random) -> Self {
        let mut channel = [0; 16];
        random.fill(&mut channel);
        let document = RootDocument {
            version: 1,
            name: clean_name(name),
            root_keys: RootKeys(vec![key.id()]),
            threshold: 1,
            channel: Channel { id: ChannelId::from_bytes(channel), name: clean_name(channel_name) },
        };
        Self::of(Signed::sign(document, key))
    }

    /// The charter of a received root document, which its founder must have signed. Whoever learns
    /// an organisation this way compares [`Self::organisation`] with the one that it expects.
    pub fn verify(root: Signed<RootDocument>) -> Result<Self, CharterError> {
        let document = root.verify()?;
        let threshold = usize::from(document.threshold);
        if document.version != 1 {
            return Err(CharterError::Version);
        }
        // The founder's is the only signature, so more than that cannot be asked for.
        if threshold != 1 || document.name != clean_name(&document.name) {
            return Err(CharterError::Malformed);
        }
        if document.channel.name != clean_name(&document.channel.name) {
            return Err(CharterError::Malformed);
        }
        Ok(Self::of(root))
    }

    /// The charter of the bytes of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CharterError> {
        Self::verify(decode(bytes, ROOT_MAX_BYTES)?)
    }

    /// The charter for the disk and for others.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&self.root)
    }

    /// The root document with its signature.
    pub fn root(&self) -> &Signed<RootDocument> {
        &self.root
    }

    /// The organisation: the hash of its founding root document. [PROTO-4.1]
    pub fn organisation(&self) -> OrganisationId {
        self.organisation
    }

    /// What the organisation calls itself.
    pub fn name(&self) -> &str {
        &self.root.unverified().name
    }

    /// Its first channel.
    pub fn channel(&self) -> &Channel {
        &self.root.unverified().channel
    }

    /// Hashes of the newest objects of the charter, by which two members see whether they know
    /// the same.
    pub fn heads(&self) -> Vec<[u8; 32]> {
        vec![self.root.hash()]
    }

    /// Whether `device` is one of the root keys.
    pub fn is_root(&self, device: DeviceId) -> bool {
        self.root.unverified().root_keys.contains(device)
    }

    /// What the voice datagrams to `target` are marked with. [PROTO-7.1]
    pub fn target_tag(&self, target: TargetId) -> [u8; 4] {
        let mut hasher = blake3::Hasher::new_keyed(self.organisation.as_bytes());
        let hash = hasher.update(b"target").update(target.as_bytes()).finalize();
        let hash = hash.as_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The person whose first device is `device`.
    pub fn member_of(&self, device: DeviceId) -> MemberId {
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 member");
        hasher.update(self.organisation.as_bytes());
        hasher.update(device.as_bytes());
        MemberId::from_bytes(hasher.finalize().into())
    }

    fn of(root: Signed<RootDocument>) -> Self {
        let organisation = OrganisationId::from_bytes(root.hash());
        Self { root, organisation }
    }
}

/// What founds an organisation. [PROTO-4.1]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDocument {
    /// 1 for the founding document.
    pub version: u32,
    /// What the organisation calls itself.
    pub name: String,
    /// Devices that stand for the organisation; the founder's is the first.
    pub root_keys: RootKeys,
    /// How many of them must sign the next version.
    pub threshold: u8,
    /// Where members meet first.
    pub channel: Channel,
}

impl Signable for RootDocument {
    const KIND: &'static str = "root";

    fn signer(&self) -> DeviceId {
        self.root_keys.founder()
    }
}

/// A place to talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its number, drawn at random.
    pub id: ChannelId,
    /// What people call it.
    pub name: String,
}

/// Between one and fifteen devices, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "crate::List<DeviceId, ROOT_KEYS_MAX>", into = "Vec<DeviceId>")]
pub struct RootKeys(Vec<DeviceId>);

impl RootKeys {
    /// The first of them.
    pub fn founder(&self) -> DeviceId {
        self.0[0]
    }

    /// Whether `device` is one of them.
    pub fn contains(&self, device: DeviceId) -> bool {
        self.0.contains(&device)
    }
}

impl TryFrom<crate::List<DeviceId, ROOT_KEYS_MAX>> for RootKeys {
    type Error = CharterError;

    fn try_from(keys: crate::List<DeviceId, ROOT_KEYS_MAX>) -> Result<Self, CharterError> {
        let mut seen = std::collections::BTreeSet::new();
        if keys.is_empty() || !keys.iter().all(|key| seen.insert(*key)) {
            return Err(CharterError::Malformed);
        }
        Ok(Self(keys.into_vec()))
    }
}

impl From<RootKeys> for Vec<DeviceId> {
    fn from(keys: RootKeys) -> Self {
        keys.0
    }
}

/// Why a root document is no charter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CharterError {
    /// Not the encoding of a root document.
    #[error("root document: {0}")]
    Encoding(#[from] DecodeError),
    /// Not signed by its founder.
    #[error("root document: {0}")]
    Signature(#[from] SignatureError),
    /// A later version than this program understands.
    #[error("the root document is of a newer version: update hark")]
    Version,
    /// It says what no root document may say.
    #[error("root document is malformed")]
    Malformed,
}

/// Root keys of an organisation; a document with more is refused.
pub const ROOT_KEYS_MAX: usize = 15;

/// Bytes of an encoded, signed root document; a longer one is refused.
pub const ROOT_MAX_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
