//! A relay for a server: devices of many organisations attach to it, and it forwards what it cannot
//! open.
//!
//! ```text
//!  configuration ─┐                      ┌─ carrier of one organisation: socket, identity, swarm
//!  admin API ─────┼─> Tenants ─ commands ┤
//!  signals ───────┘      └── snapshots ──┴─ carrier of another one
//! ```
//!
//! [`tenants`] keeps track of which organisations there are and what they may do; a
//! [`carrier::Carrier`] does the work of one of them. Carriers share nothing but the process.
//! `admin` is the operator's access over HTTP, and [`home`] is what is kept on disk.

#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
pub mod carrier;
pub mod config;
pub mod error;
pub mod event;
pub mod home;
pub mod metering;
pub mod program;
pub mod runner;
pub mod state;
pub mod tenants;
pub mod text;
