//! The network between simulated machines: which packets reach which machine, by which way, and
//! when.
//!
//! ```text
//!  member ── up ──> network ── NAT ── up ──> network ── … ── down ── NAT ──> network ── down ──> member
//!  SimSocket  Link   Fabric     Nat   Link                                                SimSocket
//! ```
//!
//! A packet is an event that moves from stage to stage in virtual time. Links delay and lose it,
//! NATs translate its addresses, and faults block it.

mod fabric;
pub mod link;
pub mod nat;
mod router;
mod socket;
mod topology;
mod traffic;

pub use fabric::{Fabric, FabricStatistics, PacketEvent, PacketWatcher};
pub use socket::SimBinder;
pub use topology::{HostPlan, NetworkId, NetworkPlan, SitePlan};

#[cfg(test)]
mod tests;
