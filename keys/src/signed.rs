use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DeviceId, DeviceKey, Signature, SignatureError, encoding::encode};

/// A kind of object that a device signs.
pub trait Signable: Serialize + DeserializeOwned {
    /// Part of what is signed, so that a signature counts for this kind only. [PROTO-1.1]
    const KIND: &'static str;

    /// The device whose signature the object needs.
    fn signer(&self) -> DeviceId;
}

/// A value with the signature of the device that it names as its signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "T: Signable")]
pub struct Signed<T: Signable> {
    value: T,
    signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs `value` with `key`, which must be that of its signer.
    pub fn sign(value: T, key: &DeviceKey) -> Self {
        debug_assert_eq!(value.signer(), key.id(), "objects are signed by the signer they name");
        let signature = key.sign(T::KIND, &encode(&value));
        Self { value, signature }
    }

    /// The value, if its signature is good.
    pub fn verify(&self) -> Result<&T, SignatureError> {
        self.value.signer().verify(T::KIND, &encode(&self.value), &self.signature)?;
        Ok(&self.value)
    }

    /// The value, whether its signature is good or not: for objects that were verified on arrival.
    pub fn unverified(&self) -> &T {
        &self.value
    }

    /// BLAKE3 of the encoded value.
    pub fn hash(&self) -> [u8; 32] {
        blake3::hash(&encode(&self.value)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        by: DeviceId,
        text: String,
    }

    impl Signable for Note {
        const KIND: &'static str = "note";

        fn signer(&self) -> DeviceId {
            self.by
        }
    }

    /// The same fields under another kind.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order(Note);

    impl Signable for Order {
        const KIND: &'static str = "order";

        fn signer(&self) -> DeviceId {
            self.0.by
        }
    }

    /// [PROTO-1.1] [PROTO-1.2]
    #[test]
    fn counts_unchanged_and_for_its_own_kind_only() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let note = Note { by: key.id(), text: "hello".to_owned() };
        let signed = Signed::sign(note.clone(), &key);
        assert_eq!(signed.verify(), Ok(&note));
        assert_eq!(signed.hash(), *blake3::hash(&encode(&note)).as_bytes());

        let bytes = encode(&signed);
        assert_eq!(decode::<Signed<Note>>(&bytes, 200), Ok(signed));
        let order: Signed<Order> = decode(&bytes, 200).expect("the fields are the same");
        assert_eq!(order.verify(), Err(SignatureError));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let accepted =
                decode::<Signed<Note>>(&changed, 200).is_ok_and(|changed| changed.verify().is_ok());
            assert!(!accepted, "bit {bit}");
        }
    }
}
