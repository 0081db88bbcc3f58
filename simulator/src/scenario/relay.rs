//! Rented relays of a scenario.

use hark_commands::Request;
use serde::Deserialize;
use toml::Spanned;

use super::{Malice, Road, order};
use crate::units::Span;

/// A relay that the charter names from the start. The carrier of `hark-relay` runs on a machine of
/// its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioRelay {
    /// The relay's name, in the charter as well.
    pub name: Spanned<String>,
    /// The network that the relay is in; the internet if it is absent.
    pub(super) network: Option<Spanned<String>>,
    /// The link between the relay's machine and its network.
    pub(super) link: Option<Spanned<Road>>,
    /// When the relay starts. It does not start before the organisation is founded.
    #[serde(default)]
    pub start: Span,
    /// How many devices it serves at once; 0 is any number.
    #[serde(default)]
    pub members: u16,
    /// How much it may send, in kbit/s; 0 is any rate.
    #[serde(default)]
    pub kbps: u32,
    /// The harm that it does to those whom it serves.
    pub malice: Option<Malice>,
}

impl ScenarioRelay {
    /// The officer's request that names the relay in the charter, with its device and the address
    /// where it listens.
    pub(crate) fn named(&self, device: String, address: String) -> Box<Request> {
        let (members, kbps) = (self.members.to_string(), self.kbps.to_string());
        let name = self.name.get_ref();
        let words = ["charter", "relay", "add", name, &device, "--address", &address];
        let words = words.into_iter().chain(["--members", &members, "--kbps", &kbps]);
        order::charter(words).expect("the words are those of the command")
    }
}
