//! Who a device is, and how bytes are sealed for others.
//!
//! Identity, signed objects, the Noise session that is the handshake of a QUIC link, SFrame media
//! keys, invite tickets, the key file's format and verification words. Pure: no clock, socket,
//! file or thread; time and randomness are arguments.

mod encoding;
mod identity;
pub mod noise;
mod random;
mod signed;
mod time;

pub use encoding::{DecodeError, decode, encode};
pub use identity::{
    ChannelId, DeviceId, DeviceKey, IdError, MemberId, OrganisationId, Signature, SignatureError,
};
pub use random::{Random, SeededRandom};
pub use signed::{Signable, Signed};
pub use time::{Timestamp, UnixTime};
