//! A relay for a server: many organisations' devices attach to it, and it forwards what it cannot
//! open.
//!
//! ```text
//!  configuration ─┐                      ┌─ carrier of one organisation: socket, identity, swarm
//!  admin API ─────┼─> Tenants ─ commands ┤
//!  signals ───────┘      └── snapshots ──┴─ carrier of another one
//! ```
//!
//! [`tenants`] keeps which organisations there are and what they may do; a [`carrier::Carrier`]
//! does the work of one of them. They share nothing but the process. `admin` is what an operator
//! sees of it over HTTP, [`home`] what is kept on disk.

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
