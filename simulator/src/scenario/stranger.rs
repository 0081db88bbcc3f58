//! Machines of strangers, who belong to no organisation.

use serde::Deserialize;
use toml::Spanned;

use super::Road;
use crate::units::Span;

/// A machine that begins handshakes at all addresses of the founder's ticket, and completes none of
/// them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stranger {
    /// The name of the machine.
    pub name: Spanned<String>,
    /// The network that the machine is in; the internet if it is absent.
    pub(super) network: Option<Spanned<String>>,
    /// The link between the machine and its network.
    pub(super) link: Option<Spanned<Road>>,
    /// When it begins to knock.
    pub at: Span,
    /// How long it knocks.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// The time from one handshake with an address to the next.
    pub every: Span,
    /// Whether it proves that it is at its address if it is asked to.
    #[serde(default)]
    pub answers: bool,
}
