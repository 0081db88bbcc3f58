//! Erasing what ring and snow leave behind.
//!
//! Neither erases what it is done with. Its place in memory is therefore overwritten, without
//! `unsafe`, by something that is worth nothing; [`black_box`] keeps the compiler from leaving that
//! out. Whether it works is tested by looking for the secrets in this process's memory.

use std::hint::black_box;

use ring::aead;

/// Overwrites `key`, of the given algorithm, where it is.
pub(crate) fn wipe_key(key: &mut aead::LessSafeKey, algorithm: &'static aead::Algorithm) {
    let zero = aead::UnboundKey::new(algorithm, &[0; LONGEST_KEY][..algorithm.key_len()]);
    *key = aead::LessSafeKey::new(zero.expect("the key has the algorithm's length"));
    black_box(key);
}

/// Overwrites what functions that have returned to the caller have left on the stack. Makes sense
/// only where the caller's own frame, and those below it, hold no secret.
#[inline(never)]
pub fn scrub_stack() {
    black_box(&mut [0_u8; SCRUBBED]);
}

/// Of AES-256 and ChaCha20.
const LONGEST_KEY: usize = 32;

/// Bytes of stack that are overwritten: more than a Diffie-Hellman and the key schedules take.
const SCRUBBED: usize = 16 * 1024;
