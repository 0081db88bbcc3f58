//! The protocol of Hark as deterministic state machines.
//!
//! This crate contains the wire formats, the Hello that admits a peer, and two state machines. The
//! [`squad`] keeps track of who is present, who holds whose key and who sends to whom. The
//! [`forwarding`] serves a relay. The crate does no I/O: it has no socket, clock, thread, file or
//! async runtime. Time and randomness are arguments, and media passes as sealed bytes.

#![forbid(unsafe_code)]

mod address;
mod availability;
pub mod datagram;
mod dialling;
mod directory;
pub mod epoch;
pub mod forwarding;
pub mod hello;
mod liveness;
pub mod message;
pub mod pack;
pub mod redundancy;
#[cfg(test)]
mod schema;
mod sender_keys;
pub mod squad;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topology;

pub use address::AddressKind;
pub use availability::{Availability, AvailabilityMessage};
pub use dialling::{Dial, Way};
pub use directory::{ADDRESSES_MAX, Directory, DirectoryError, MemberRecord, RECORDS_MAX};
pub use hark_keys::List;
pub use target::Target;
