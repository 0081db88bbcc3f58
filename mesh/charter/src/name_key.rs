//! The keys under which names of hidden channels are sealed.

use std::fmt;

use hark_keys::{ChannelId, List, Random, open_once, seal_once};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{clean_name, content::SealedName};

/// The key under which a hidden channel's name is sealed. [CHARTER-4.8]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct NameKey([u8; 32]);

impl NameKey {
    /// A new key, for one name.
    pub fn generate(random: &dyn Random) -> Self {
        let mut key = [0; 32];
        random.fill(&mut key);
        Self(key)
    }

    /// Seals the name of `channel`. A key must seal only once.
    pub fn seal(&self, channel: ChannelId, name: &str) -> SealedName {
        let sealed = seal_once(&self.0, channel.as_bytes(), clean_name(name).as_bytes());
        SealedName { key_id: self.id(), sealed: List::truncated(sealed) }
    }

    /// The name of `channel`, if this key opens it.
    pub fn open(&self, channel: ChannelId, name: &SealedName) -> Option<String> {
        if name.key_id != self.id() {
            return None;
        }
        let opened = open_once(&self.0, channel.as_bytes(), &name.sealed).ok()?;
        String::from_utf8(opened).ok().map(|name| clean_name(&name))
    }

    fn id(&self) -> [u8; 8] {
        let hash = blake3::derive_key("hark 1 name key", &self.0);
        *hash.first_chunk().expect("8 of 32 bytes")
    }
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey")
    }
}
