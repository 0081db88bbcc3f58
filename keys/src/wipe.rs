//! Erases secrets that ring and snow leave behind.
//!
//! Neither of them erases a secret after use. So its place in memory is overwritten, without
//! `unsafe`, by something worthless; [`black_box`] keeps the compiler from leaving that out. A test
//! checks this by searching for the secrets in this process's memory.

use std::hint::black_box;

use ring::aead;

/// Overwrites `key`, of the given algorithm, in place.
pub(crate) fn wipe_key(key: &mut aead::LessSafeKey, algorithm: &'static aead::Algorithm) {
    let zero = aead::UnboundKey::new(algorithm, &[0; LONGEST_KEY][..algorithm.key_len()]);
    *key = aead::LessSafeKey::new(zero.expect("the key has the algorithm's length"));
    black_box(key);
}

/// Overwrites what functions that have returned to the caller have left on the stack. This helps
/// only if the caller's own frame, and those below it, hold no secret.
#[inline(never)]
pub fn scrub_stack() {
    black_box(&mut [0_u8; SCRUBBED]);
}

/// Bytes of the longest key: of AES-256 and ChaCha20.
const LONGEST_KEY: usize = 32;

/// Bytes of stack that are overwritten: more than a Diffie-Hellman and the key schedules take.
const SCRUBBED: usize = 16 * 1024;
