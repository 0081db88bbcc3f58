//! The primitives with which snow computes: its own, without the flaws that matter here.

use std::sync::Arc;

use curve25519_dalek::MontgomeryPoint;
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

/// Gives snow randomness from a [`crate::Random`], and primitives that wipe their keys.
pub(super) struct Resolver(pub(super) Arc<dyn crate::Random>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Source(Arc::clone(&self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        // The only one that a handshake of Hark names.
        matches!(choice, DHChoice::Curve25519).then(|| Box::<CheckedDh>::default() as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(WipedCipher(DefaultResolver.resolve_cipher(choice)?)))
    }
}

/// X25519 as the handshake uses it.
pub(crate) fn x25519() -> Box<dyn Dh> {
    Box::<CheckedDh>::default()
}

struct Source(Arc<dyn crate::Random>);

impl Random for Source {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// X25519 that refuses the points of low order, as RFC 7748 section 6.1 allows. With such points
/// the peer, or anyone in between, would decide the shared secret. It wipes its secret key. snow's
/// own can do that only by setting another key and computing its public key, which would be two
/// more for each handshake.
#[derive(Default)]
struct CheckedDh {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl CheckedDh {
    fn derive(&mut self) {
        self.public = MontgomeryPoint::mul_base_clamped(*self.secret).to_bytes();
    }
}

impl Dh for CheckedDh {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        self.public.len()
    }

    fn priv_len(&self) -> usize {
        self.secret.len()
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.derive();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        random.try_fill_bytes(&mut *self.secret)?;
        self.derive();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let shared = MontgomeryPoint(*public).mul_clamped(*self.secret);
        let shared = Zeroizing::new(shared.to_bytes());
        out[..shared.len()].copy_from_slice(&*shared);
        // [NOISE-16] No branch depends on a single byte: the time reveals only whether all are
        // zero.
        let any = shared.iter().fold(0, |any, byte| any | byte);
        if any == 0 { Err(Error::Dh) } else { Ok(()) }
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
