//! The operating system's randomness.

use hark_keys::Random;

/// The operating system's source of randomness. It ends the program if it fails: a key that is not
/// random is worse than none.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}
