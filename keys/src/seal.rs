//! Sealing one message with a key that is used once.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// The sealed bytes do not open: they are changed, cut, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed message does not open")]
pub struct OpenError;

/// Seals `plaintext`, bound to `associated`, by ChaCha20-Poly1305 (RFC 8439) with a zero nonce:
/// `key` must never seal anything else. The result is 16 bytes longer.
pub fn seal_once(key: &[u8; 32], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = plaintext.to_vec();
    aead(key)
        .seal_in_place_append_tag(zero_nonce(), Aad::from(associated), &mut sealed)
        .expect("messages are far shorter than the cipher's limit");
    sealed
}

/// Opens what [`seal_once`] has sealed with the same `key` and `associated`.
pub fn open_once(key: &[u8; 32], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut opened = sealed.to_vec();
    let length = aead(key)
        .open_in_place(zero_nonce(), Aad::from(associated), &mut opened)
        .map_err(|_| OpenError)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes");
    LessSafeKey::new(key)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_same_key_and_context_only() {
        let sealed = seal_once(&[7; 32], b"context", b"hello");
        assert_eq!(sealed.len(), 5 + 16);
        assert_eq!(open_once(&[7; 32], b"context", &sealed), Ok(b"hello".to_vec()));
        assert_eq!(open_once(&[8; 32], b"context", &sealed), Err(OpenError));
        assert_eq!(open_once(&[7; 32], b"other", &sealed), Err(OpenError));
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(open_once(&[7; 32], b"context", &changed), Err(OpenError));
        }
        assert_eq!(open_once(&[7; 32], b"context", &[]), Err(OpenError));
    }
}
