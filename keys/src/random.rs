use std::sync::Mutex;

/// The source of randomness: the operating system in the product, a seed in the simulator.
pub trait Random: Send + Sync {
    /// Fills all of `bytes`. A source that cannot do so must end the program rather than return.
    fn fill(&self, bytes: &mut [u8]);
}

/// The same bytes for the same seed: BLAKE3 as an extendable-output function.
///
/// For tests and simulations only; never a source of keys that matter.
pub struct SeededRandom(Mutex<blake3::OutputReader>);

impl SeededRandom {
    /// A stream that depends only on `seed`.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("hark 1 seeded random");
        hasher.update(&seed.to_be_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // A panic elsewhere cannot leave the reader half advanced.
        let mut reader = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        reader.fill(bytes);
    }
}
