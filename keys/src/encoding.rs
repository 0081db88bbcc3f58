use data_encoding::BASE32_NOPAD;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are more bytes than this kind of message may have.
    #[error("message of {length} bytes where {limit} are allowed")]
    TooLong {
        /// Bytes received.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes are not the encoding of such a message.
    #[error("malformed message")]
    Malformed,
    /// The bytes decode, but the value encodes to other bytes, so that its hash would be ambiguous.
    #[error("message is not in canonical form")]
    NotCanonical,
}

/// The postcard encoding of `value`. [PROTO-12.1] [PROTO-12.7]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Messages hold no maps of unknown length and no types that postcard cannot write.
    postcard::to_allocvec(value).expect("messages are made of types that postcard can write")
}

/// The value that `bytes` encode; at most `limit` bytes are accepted. [PROTO-1.2] [PROTO-1.3]
pub fn decode<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { length: bytes.len(), limit });
    }
    let value: T = postcard::from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// Lower-case base32 (RFC 4648) without padding.
pub(crate) fn to_base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The bytes whose base32 is exactly `text`. Capitals, padding and loose bits are refused.
pub(crate) fn from_base32(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [PROTO-1.2] One value has one encoding. [PROTO-12.1] [PROTO-12.7]
    #[test]
    fn refuses_what_does_not_encode_to_the_same_bytes() {
        assert_eq!(encode(&(1_u32, true)), [1, 1]);
        assert_eq!(decode::<(u32, bool)>(&[1, 1], 2), Ok((1, true)));
        // A varint with one group too many.
        assert_eq!(decode::<u32>(&[0x81, 0x00], 8), Err(DecodeError::NotCanonical));
        // Bytes after the end of the value.
        assert_eq!(decode::<u32>(&[1, 0], 8), Err(DecodeError::NotCanonical));
        assert_eq!(decode::<(u32, bool)>(&[1], 8), Err(DecodeError::Malformed));
        assert_eq!(decode::<bool>(&[2], 8), Err(DecodeError::Malformed));
    }

    /// [PROTO-1.3] A stated length costs nothing before the bytes are there.
    #[test]
    fn refuses_what_is_too_long() {
        let long = DecodeError::TooLong { length: 3, limit: 2 };
        assert_eq!(decode::<Vec<u8>>(&[2, 7, 7], 2), Err(long));
        let boundless = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        assert_eq!(decode::<Vec<[u64; 32]>>(&boundless, 8), Err(DecodeError::Malformed));
    }

    proptest! {
        #[test]
        fn base32_has_one_text_form(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = to_base32(&bytes);
            prop_assert_eq!(from_base32(&text), Some(bytes));
            let capitals = text.to_ascii_uppercase();
            prop_assert!(capitals == text || from_base32(&capitals).is_none());
        }

        #[test]
        fn text_that_is_base32_comes_back(text in "[a-z2-7]{0,12}") {
            if let Some(bytes) = from_base32(&text) {
                prop_assert_eq!(to_base32(&bytes), text);
            }
        }
    }
}
