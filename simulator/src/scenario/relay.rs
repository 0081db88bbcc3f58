//! Rented relays of a scenario.

use hark_commands::Request;
use serde::Deserialize;
use toml::Spanned;

use super::{Malice, Road, order};
use crate::units::Span;

/// A relay that the charter names from the start, with the carrier of `hark-relay` on a machine of
/// its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioRelay {
    /// Its name, in the charter too.
    pub name: Spanned<String>,
    /// Where it is.
    pub(super) network: Option<Spanned<String>>,
    /// How it is connected there.
    pub(super) link: Option<Spanned<Road>>,
    /// When it starts; not before the organisation is founded.
    #[serde(default)]
    pub start: Span,
    /// Devices that it serves at once; 0 is any number.
    #[serde(default)]
    pub members: u16,
    /// What it may send, in kbit/s; 0 is any rate.
    #[serde(default)]
    pub kbps: u32,
    /// What it does to those whom it serves.
    pub malice: Option<Malice>,
}

impl ScenarioRelay {
    /// What an officer does to name it in the charter: its device, and where it listens.
    pub(crate) fn named(&self, device: String, address: String) -> Box<Request> {
        let (members, kbps) = (self.members.to_string(), self.kbps.to_string());
        let name = self.name.get_ref();
        let words = ["charter", "relay", "add", name, &device, "--address", &address];
        let words = words.into_iter().chain(["--members", &members, "--kbps", &kbps]);
        order::charter(words).expect("the words are those of the command")
    }
}
