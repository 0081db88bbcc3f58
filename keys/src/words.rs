//! Words by which two people make sure that nobody stands between their devices.

use bip39::Language;

use crate::DeviceId;

/// Six words (66 bits) that both of two people see alike, in either order of the devices.
pub fn verification_words(one: DeviceId, other: DeviceId) -> [&'static str; 6] {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 verification words");
    hasher.update(first.as_bytes());
    hasher.update(second.as_bytes());
    words(hasher.finalize())
}

/// Six words (66 bits) for one device, to be read out by its owner.
pub fn device_words(device: DeviceId) -> [&'static str; 6] {
    let mut hasher = blake3::Hasher::new_derive_key("hark 1 device words");
    hasher.update(device.as_bytes());
    words(hasher.finalize())
}

fn words(hash: blake3::Hash) -> [&'static str; 6] {
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.as_bytes()[..16]);
    let bits = u128::from_be_bytes(bits);
    // BIP-39's English list has 2,048 words, told apart by their first four letters.
    std::array::from_fn(|word| {
        let index = (bits >> (117 - 11 * word)) & 0x7ff;
        Language::English.word_list()[index as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceKey;

    #[test]
    fn both_sides_see_the_same_words_and_others_do_not() {
        let [ann, bob, eve] = [1, 2, 3].map(|n| DeviceKey::from_secret(&[n; 32]).id());
        assert_eq!(verification_words(ann, bob), verification_words(bob, ann));
        assert_ne!(verification_words(ann, bob), verification_words(ann, eve));
        assert_ne!(device_words(ann), device_words(bob));
        assert!(device_words(ann).iter().all(|word| word.len() >= 3));
    }
}
