//! Further ways to be reached, and to meet.
//!
//! [`ports`] asks the router for a port that the outside can reach, [`names`] finds members by a
//! name of DNS.

pub mod names;
pub mod ports;
