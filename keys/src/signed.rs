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

    /// The value, whatever its signature is worth: for objects that were verified on arrival.
    pub fn unverified(&self) -> &T {
        &self.value
    }

    /// BLAKE3 of the encoded value.
    pub fn hash(&self) -> [u8; 32] {
        blake3::hash(&encode(&self.value)).into()
    }
}
