//! Drives the program `hark` as people and scripts do: with real processes, real sockets and real
//! files.
//!
//! A [`Scene`] is a folder for the homes of some members. [`Scene::talk`] starts a member, whose
//! events are read as they happen: a story waits for what must happen and never sleeps. What a
//! member has heard is found in its output file by comparison with what the other has spoken.
//!
//! Every story has its own folder and free ports, so that all stories can run at the same time.
//! `.config/nextest.toml` limits how many do, since all of them work in real time.

#![forbid(unsafe_code)]
#![cfg(unix)]

mod binary;
mod events;
mod hub;
#[cfg(target_os = "linux")]
mod internet;
#[cfg(target_os = "linux")]
mod lan;
mod member;
mod relay;
mod scene;
mod screen;

pub use binary::{Outcome, Program, is_root};
pub use events::Event;
pub use hub::Hub;
#[cfg(target_os = "linux")]
pub use internet::{Internet, Nat};
#[cfg(target_os = "linux")]
pub use lan::Lan;
pub use member::Member;
pub use relay::{Direction, Relay};
pub use scene::{Scene, Talk, run, speech};
pub use screen::Screen;
