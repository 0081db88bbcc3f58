//! Connection ids that only their endpoint recognises. [NOISE-27]
//!
//! ```text
//! id = 8 random bytes || the first 8 bytes of BLAKE3(key of the endpoint, the random bytes)
//! ```
//!
//! To others both halves are random: ids of one endpoint have nothing in common, and nobody else
//! can make one that the endpoint takes for its own. quinn's own generator has neither property:
//! its tag is not cryptographic, and reveals the key.

use std::{sync::Arc, time::Duration};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use zeroize::Zeroizing;

use crate::Random;

/// Makes and recognises the connection ids of one endpoint.
pub(super) struct ConnectionIds {
    key: Zeroizing<[u8; 32]>,
    random: Arc<dyn Random>,
}

impl ConnectionIds {
    pub(super) fn new(key: Zeroizing<[u8; 32]>, random: Arc<dyn Random>) -> Self {
        Self { key, random }
    }

    fn tag(&self, nonce: &[u8]) -> [u8; TAG_LENGTH] {
        let hash = blake3::keyed_hash(&self.key, nonce);
        *hash.as_bytes().first_chunk().expect("a hash is longer than a tag")
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        let (nonce, tag) = id.split_at_mut(NONCE_LENGTH);
        self.random.fill(nonce);
        tag.copy_from_slice(&self.tag(nonce));
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (nonce, tag) = id.split_at_checked(NONCE_LENGTH).ok_or(InvalidCid)?;
        let tag: [u8; TAG_LENGTH] = tag.try_into().map_err(|_| InvalidCid)?;
        // The time that this takes does not reveal how much of a forged tag is right.
        let differs = u64::from_ne_bytes(tag) ^ u64::from_ne_bytes(self.tag(nonce));
        if differs == 0 { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Among 2^32 ids of one endpoint, the chance that two are alike is one half. Two alike ids reveal
/// nothing else.
const NONCE_LENGTH: usize = 8;

/// A forged id is accepted with a chance of 2^-64 per attempt.
const TAG_LENGTH: usize = 8;

/// The longest id with which a tunnelled packet of 1,200 bytes still fits into a packet of 1,252.
const LENGTH: usize = NONCE_LENGTH + TAG_LENGTH;
