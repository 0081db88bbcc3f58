//! The window of Hark: a plate for each net, who talks there, and keys that work while a game has
//! the keyboard.
//!
//! The window draws a [`backend::Scene`] and sends [`backend::WindowOrder`]s. It knows nothing of
//! the protocol.

#![forbid(unsafe_code)]

pub mod air;
pub mod app;
pub mod backend;
pub mod history;
pub mod keys;
pub mod profile_file;
pub mod samples;
pub mod settings;
pub mod start;
pub mod tokens;
pub mod view;
pub mod window;
