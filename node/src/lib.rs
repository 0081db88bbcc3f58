//! One participant of Hark.
//!
//! `swarm` adapts libp2p to what a squad needs. `network` decides and carries out. `voice` turns
//! sound into frames and back. `link` is the libp2p transport on QUIC. `device` is the sound card,
//! `store` the disk and `control` the local API. `launch` assembles what decides and what sends.
//! [`node::Node`] gives it threads, sockets and sound cards. The program `hark` is a thin shell
//! around that.

pub mod admission;
pub mod clock;
pub mod console;
pub mod control;
#[cfg(feature = "device")]
pub mod device;
pub mod driver;
#[cfg(feature = "voice")]
pub mod error;
pub mod event;
#[cfg(feature = "voice")]
pub mod launch;
pub mod link;
#[cfg(feature = "voice")]
pub mod logbook;
mod look_alike;
#[cfg(feature = "voice")]
pub mod measure;
#[cfg(feature = "voice")]
pub mod network;
#[cfg(feature = "device")]
pub mod node;
pub mod places;
mod platform;
pub mod profile;
pub mod random;
pub mod reach;
#[cfg(feature = "device")]
pub mod records;
pub mod recovery;
pub mod relay;
pub mod request;
pub mod signals;
pub mod snapshot;
#[cfg(feature = "voice")]
pub mod sound;
pub mod store;
pub mod swarm;
pub mod token;
#[cfg(feature = "voice")]
pub mod wav;
