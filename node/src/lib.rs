//! One participant of Hark.
//!
//! `engine` decides, `voice` turns sound into frames and back, `link` is the libp2p transport on
//! QUIC, `device` is the sound card, `store` is the disk and `control` the local API. [`Node`] puts
//! them together; the program `hark` is a thin shell around it.

pub mod admission;
pub mod clock;
pub mod control;
pub mod event;
pub mod link;
#[cfg(feature = "voice")]
pub mod network;
mod platform;
pub mod random;
pub mod store;
pub mod snapshot;
#[cfg(feature = "voice")]
pub mod voice;
