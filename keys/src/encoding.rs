use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than this kind of message may have.
    #[error("message of {length} bytes where {limit} are allowed")]
    TooLong {
        /// Bytes received.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not the encoding of such a message.
    #[error("malformed message")]
    Malformed,
    /// Decodes, but encodes to other bytes, so that its hash would be ambiguous.
    #[error("message is not in canonical form")]
    NotCanonical,
}

/// The bytes of `value`: postcard.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Messages hold no maps of unknown length and no types that postcard cannot write.
    postcard::to_allocvec(value).expect("messages are made of types that postcard can write")
}

/// The value of `bytes`, of which at most `limit` are accepted. [PROTO-1.2] [PROTO-1.3]
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
