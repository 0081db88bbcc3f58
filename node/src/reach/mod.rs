//! Further ways to be reached and to find members.
//!
//! [`ports`] asks the router for a port that can be reached from outside. [`names`] finds members
//! through DNS names.

pub mod names;
pub mod ports;
