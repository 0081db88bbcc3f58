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
pub mod icon;
pub mod instance;
pub mod keys;
pub mod platform;
pub mod profile_file;
pub mod recovery;
pub mod report_file;
pub mod samples;
pub mod settings;
pub mod sound;
pub mod start;
pub mod tokens;
pub mod view;
pub mod window;

/// The name by which desktops know the window.
pub const APP_ID: &str = "org.hark.Hark";
