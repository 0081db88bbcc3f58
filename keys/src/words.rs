//! Words by which two people make sure that nobody stands between their devices, and words that are
//! printed to recover a membership.

use std::fmt;

use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{DeviceId, DeviceKey, IdError, Random};

/// Six words (66 bits) that both people see alike, in either order of the devices. [PROTO-13.3]
pub fn verification_words(one: DeviceId, other: DeviceId) -> [&'static str; 6] {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 verification words");
    hasher.update(first.as_bytes());
    hasher.update(second.as_bytes());
    words(hasher.finalize())
}

/// Six words (66 bits) for one device, to be read out by its owner. [PROTO-13.3]
pub fn device_words(device: DeviceId) -> [&'static str; 6] {
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 device words");
    hasher.update(device.as_bytes());
    words(hasher.finalize())
}

/// The secret of a printed recovery key: 256 bits, in text 24 words of BIP-39's English list, the
/// last of which is also a checksum.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoverySecret([u8; 32]);

impl RecoverySecret {
    /// Generates a new one.
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        Self(secret)
    }

    /// The secret with these bits.
    pub fn from_bytes(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    /// The bits, which are worth as much as the words.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The device key that is derived from it. [PROTO-13.2]
    pub fn key(&self) -> DeviceKey {
        let mut seed = blake3::derive_key("hark 1 recovery key", &self.0);
        let key = DeviceKey::from_secret(&seed);
        seed.zeroize();
        key
    }
}

impl fmt::Display for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = Mnemonic::from_entropy(&self.0).expect("256 bits are 24 words");
        words.fmt(f)
    }
}

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoverySecret")
    }
}

impl std::str::FromStr for RecoverySecret {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > RECOVERY_TEXT_MAX {
            return Err(IdError);
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let words = Mnemonic::parse_in_normalized(Language::English, &text).map_err(|_| IdError)?;
        let (entropy, length) = words.to_entropy_array();
        Ok(Self(*entropy[..length].as_array().ok_or(IdError)?))
    }
}

fn words(hash: blake3::Hash) -> [&'static str; 6] {
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.as_bytes()[..16]);
    let bits = u128::from_be_bytes(bits);
    // BIP-39's English list has 2,048 words, which differ in their first four letters.
    std::array::from_fn(|word| {
        let index = (bits >> (117 - 11 * word)) & 0x7ff;
        Language::English.word_list()[index as usize]
    })
}

/// Longer text is refused unread: 24 words have at most eight letters each.
const RECOVERY_TEXT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    /// [PROTO-13.2]
    #[test]
    fn a_recovery_key_comes_back_from_its_words_alone() {
        let secret = RecoverySecret::generate(&SeededRandom::new(3));
        let text = secret.to_string();
        assert_eq!(text.split(' ').count(), 24);
        let typed = format!("  {}\n", text.to_uppercase().replace(' ', "  "));
        assert_eq!(typed.parse(), Ok(secret.clone()));
        let other = RecoverySecret::generate(&SeededRandom::new(4));
        assert_ne!(other.key().id(), secret.key().id());
        let mut words: Vec<_> = text.split(' ').collect();
        words.swap(0, 1);
        let swapped = words.join(" ").parse::<RecoverySecret>();
        assert!(swapped.is_err() || words[0] == words[1], "the check finds it");
        assert_eq!(words[..12].join(" ").parse::<RecoverySecret>(), Err(IdError));
        assert_eq!(format!("{secret:?}"), "RecoverySecret");
    }

    /// BIP-39, published vector of 256 zero bits.
    #[test]
    fn words_are_those_of_bip_39() {
        let expected = format!("{}art", "abandon ".repeat(23));
        assert_eq!(RecoverySecret([0; 32]).to_string(), expected);
    }

    /// [PROTO-13.3]
    #[test]
    fn both_sides_see_the_same_words_and_others_do_not() {
        let [ann, bob, eve] = [1, 2, 3].map(|n| DeviceKey::from_secret(&[n; 32]).id());
        assert_eq!(verification_words(ann, bob), verification_words(bob, ann));
        assert_ne!(verification_words(ann, bob), verification_words(ann, eve));
        assert_ne!(device_words(ann), device_words(bob));
        assert!(device_words(ann).iter().all(|word| word.len() >= 3));
    }
}
