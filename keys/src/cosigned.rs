use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DeviceId, DeviceKey, List, ObjectHash, Signature, SignatureError, encoding::encode};

/// A kind of object that one or more keys sign.
pub trait Cosignable: Serialize + DeserializeOwned {
    /// Part of what is signed, so that a signature counts for this kind only. [PROTO-1.1]
    const KIND: &'static str;
}

/// A value with signatures, in the order of their keys. The signatures are not part of what the
/// object is: its hash is that of the value. [CHARTER-1.2]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "T: Cosignable")]
pub struct Cosigned<T: Cosignable> {
    value: T,
    signatures: List<(DeviceId, Signature), SIGNATURES_MAX>,
}

impl<T: Cosignable> Cosigned<T> {
    /// The value, not yet signed by anybody.
    pub fn unsigned(value: T) -> Self {
        Self { value, signatures: List::default() }
    }

    /// Adds the signature of `key`. If there is no room, the signature is left out.
    #[must_use]
    pub fn signed(mut self, key: &DeviceKey) -> Self {
        self.insert(key.id(), key.sign(T::KIND, &encode(&self.value)));
        self
    }

    /// The value, if all signatures are good and in order.
    pub fn verify(&self) -> Result<&T, SignatureError> {
        if !self.signatures.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(SignatureError);
        }
        let bytes = encode(&self.value);
        for (key, signature) in self.signatures.iter() {
            key.verify(T::KIND, &bytes, signature)?;
        }
        Ok(&self.value)
    }

    /// The value, whether its signatures are good or not: for objects that were verified on
    /// arrival.
    pub fn unverified(&self) -> &T {
        &self.value
    }

    /// The keys that have signed, in ascending order.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = DeviceId> + Clone {
        self.signatures.iter().map(|(key, _)| *key)
    }

    /// Takes the signatures of `other`, a copy of the same value; returns whether any was new.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.signatures.len();
        for (key, signature) in other.signatures.iter() {
            self.insert(*key, *signature);
        }
        self.signatures.len() > before
    }

    /// BLAKE3 of the encoded value.
    pub fn hash(&self) -> ObjectHash {
        ObjectHash::from_bytes(blake3::hash(&encode(&self.value)).into())
    }

    fn insert(&mut self, key: DeviceId, signature: Signature) {
        if let Err(place) = self.signatures.binary_search_by(|(known, _)| known.cmp(&key)) {
            let mut signatures = self.signatures.to_vec();
            signatures.insert(place, (key, signature));
            self.signatures = List::truncated(signatures);
        }
    }
}

/// The most signatures of one object. An object with more is refused.
pub const SIGNATURES_MAX: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, decode};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Order(u32);

    impl Cosignable for Order {
        const KIND: &'static str = "order";
    }

    /// [CHARTER-1.2]
    #[test]
    fn signatures_come_in_any_order_and_lie_in_one() {
        let keys = [1, 2, 3].map(|n| DeviceKey::from_secret(&[n; 32]));
        let order = Cosigned::unsigned(Order(7));
        let forth = order.clone().signed(&keys[0]).signed(&keys[1]).signed(&keys[2]);
        let mut back = order.clone().signed(&keys[2]).signed(&keys[2]);
        assert_eq!(back.signers().count(), 1);
        assert!(back.merge(&order.clone().signed(&keys[1]).signed(&keys[0])));
        assert!(!back.merge(&forth));
        assert_eq!(forth, back);
        assert_eq!((forth.verify(), forth.hash()), (Ok(&Order(7)), order.hash()));
        assert!(forth.signers().is_sorted());

        let bytes = encode(&forth);
        assert_eq!(decode::<Cosigned<Order>>(&bytes, 400), Ok(forth));
        // The first two signatures the other way round.
        let mut swapped = bytes.clone();
        swapped[2..98].copy_from_slice(&bytes[98..194]);
        swapped[98..194].copy_from_slice(&bytes[2..98]);
        let swapped: Cosigned<Order> = decode(&swapped, 400).expect("well formed");
        assert_eq!(swapped.verify(), Err(SignatureError));
        let mut changed = bytes;
        changed[0] = 8;
        let changed: Cosigned<Order> = decode(&changed, 400).expect("well formed");
        assert_eq!(changed.verify(), Err(SignatureError));
        let boundless = [&[7, SIGNATURES_MAX as u8 + 1][..], &[0; 99 * 31]].concat();
        assert_eq!(decode::<Cosigned<Order>>(&boundless, 9_999), Err(DecodeError::Malformed));
    }
}
