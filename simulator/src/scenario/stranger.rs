//! Machines of those who belong nowhere.

use serde::Deserialize;
use toml::Spanned;

use super::Road;
use crate::units::Span;

/// A machine that begins handshakes at all addresses of the founder's ticket, and goes on with
/// none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stranger {
    /// Its name.
    pub name: Spanned<String>,
    /// Where it is.
    pub(super) network: Option<Spanned<String>>,
    /// How it is connected there.
    pub(super) link: Option<Spanned<Road>>,
    /// From when it knocks.
    pub at: Span,
    /// How long.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// How long from one handshake with an address to the next.
    pub every: Span,
    /// Whether it shows that it is at its address where it is asked to.
    #[serde(default)]
    pub answers: bool,
}
