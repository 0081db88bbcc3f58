//! Keys that work while another program has the keyboard.
//!
//! ```text
//! platform listener (own thread, blocking) ── KeyInput ──> Bindings (pure) ── Fired ──> command to the node
//! ```
//!
//! A listener reads keys, mouse buttons, pads and sticks from the operating system. It reads only:
//! it never takes a key from the game. [`bindings::Bindings`] decides which actions are held. It
//! has no thread and no clock: input and time arrive as arguments. No key is ever logged.

#![deny(unsafe_code)]

pub mod bindings;
pub mod button;
pub mod capture;
pub mod platform;
pub mod star_citizen;
