//! The primitives that snow computes with: its own, with the gaps closed that matter here.

use std::sync::Arc;

use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};

/// Gives snow randomness from a [`crate::Random`], and primitives that wipe their keys.
pub(super) struct Resolver(pub(super) Arc<dyn crate::Random>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Source(Arc::clone(&self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(CheckedDh(DefaultResolver.resolve_dh(choice)?)))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(WipedCipher(DefaultResolver.resolve_cipher(choice)?)))
    }
}

struct Source(Arc<dyn crate::Random>);

impl Random for Source {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// X25519 that refuses the points of low order, as RFC 7748 section 6.1 allows: with them the
/// peer, or anyone between, would decide the shared secret. Wipes its secret key.
struct CheckedDh(Box<dyn Dh>);

impl Dh for CheckedDh {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, secret: &[u8]) {
        self.0.set(secret);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        self.0.generate(random)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.0.dh(public, out)?;
        // [NOISE-16] Without a branch on single bytes: what differs is only whether all are zero.
        let any = out[..self.dh_len()].iter().fold(0, |any, byte| any | byte);
        if any == 0 { Err(Error::Dh) } else { Ok(()) }
    }
}

impl Drop for CheckedDh {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}

struct WipedCipher(Box<dyn Cipher>);

impl Cipher for WipedCipher {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, associated: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, associated, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        associated: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.decrypt(nonce, associated, ciphertext, out)
    }
}

impl Drop for WipedCipher {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
    }
}
