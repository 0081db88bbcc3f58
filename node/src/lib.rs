//! One participant of Hark.
//!
//! `engine` decides, `voice` turns sound into frames and back, `link` is the libp2p transport on
//! QUIC, `device` is the sound card, `store` is the disk and `control` the local API. [`Node`] puts
//! them together; the program `hark` is a thin shell around it.

pub mod clock;
#[cfg(feature = "device")]
pub mod device;
pub mod event;
pub mod snapshot;
#[cfg(feature = "voice")]
pub mod voice;
#[cfg(feature = "voice")]
pub mod wav;
