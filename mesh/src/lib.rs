//! The protocol of Hark as deterministic state machines.
//!
//! Wire formats, the charter, the Hello that admits a peer, and the [`squad`] that keeps who is
//! there, who holds whose key and who sends to whom. Pure: no socket, clock, thread, file or async
//! runtime; time and randomness are arguments, and media passes as sealed bytes.

mod bounded;
pub mod charter;
pub mod datagram;
mod dialling;
mod directory;
mod liveness;
mod name;
pub mod topology;

pub use bounded::List;
pub use directory::{Directory, DirectoryError, MemberRecord};
pub use name::{NAME_MAX_BYTES, NAME_MAX_CHARACTERS, clean_name};
