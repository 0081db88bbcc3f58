//! Device identity, and how bytes are sealed for others.
//!
//! Identity, signed objects, the Noise session that is the handshake of a QUIC link, the sealing of
//! a link's fast packets, SFrame media keys, the epochs that a channel shares, invite tickets, the
//! key file's format and verification words. The crate is pure: no clock, socket, file or thread.
//! Time and randomness are arguments.

#![forbid(unsafe_code)]

mod bounded;
mod cosigned;
mod encoding;
mod epoch;
pub mod fast;
mod identity;
pub mod keystore;
pub mod media;
pub mod noise;
mod random;
mod seal;
mod signed;
mod ticket;
mod time;
mod wipe;
mod words;

pub use bounded::List;
pub use cosigned::{Cosignable, Cosigned, SIGNATURES_MAX};
pub use encoding::{DecodeError, decode, encode};
pub use epoch::{
    Confirmation, EPOCH_KEY_LIFETIME, EpochDealer, EpochKey, EpochSeal, EpochSecret,
    PREKEY_LIFETIME, Prekey, PrekeySecret,
};
pub use identity::{
    ChannelId, DeviceId, DeviceKey, IdError, MemberId, ObjectHash, OrganisationId, PresetId,
    RoleId, Signature, SignatureError, TargetId,
};
pub use keystore::KeyFileError;
pub use media::{FrameNumber, KeyExhausted, KeySecret, OpenFrameError, SenderKey, SenderKeyring};
pub(crate) use noise::x25519;
pub use random::{Random, SeededRandom};
pub use seal::{OpenError, open_once, seal_once};
pub use signed::{Signable, Signed};
pub use ticket::{Door, Invite, Redemption, RedemptionError, Series, Terms, Ticket, TicketError};
pub use time::{Timestamp, UnixTime};
pub use wipe::scrub_stack;
pub use words::{RecoverySecret, device_words, verification_words};
