//! Named random streams. If one is no longer used, the others stay as they were.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The stream that follows from `seed` and `name`.
pub(crate) fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 simulation stream");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn streams_differ_by_seed_and_by_name_and_by_nothing_else() {
        let first = |seed, name| stream(seed, name).next_u64();
        assert_eq!(first(1, "wren up"), first(1, "wren up"));
        assert_ne!(first(1, "wren up"), first(1, "wren down"));
        assert_ne!(first(1, "wren up"), first(2, "wren up"));
    }
}
