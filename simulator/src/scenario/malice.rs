//! What a malicious relay of a scenario does to the voice that it should forward.

use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error};
use crate::units::{Share, Span};

/// What a malicious relay does to the voice datagrams for each listener, and from when on. It still
/// reports to talkers that everything has arrived.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malice {
    /// When the malice begins.
    #[serde(default)]
    pub from: Span,
    /// The share of datagrams that it does not send.
    #[serde(default = "none")]
    pub drops: Share,
    /// The delay that it adds to all datagrams.
    #[serde(default)]
    pub delays: Span,
    /// The share of datagrams that it sends twice.
    #[serde(default = "none")]
    pub duplicates: Share,
    /// The share of datagrams in which it inverts a bit of the newest frame. [PROTO-10.28]
    #[serde(default = "none")]
    pub alters: Share,
    /// The time after which it sends every datagram once more.
    #[serde(default)]
    pub replays: Span,
    /// The member whose datagrams it pretends all of them to be.
    pub misstamps: Option<Spanned<String>>,
    /// The member to whom it also sends all that it forwards to anybody, even after that member's
    /// membership has ended.
    pub leaks: Option<Spanned<String>>,
    /// The member whose words a volunteer forges, sealed with the key that it was given to hear
    /// this member with. It replaces what the member says, and adds words while the member says
    /// nothing.
    pub forges: Option<Spanned<String>>,
    /// How many questions a second about frames it asks that member besides. It then also withholds
    /// the member's proofs.
    #[serde(default)]
    pub drowns: u32,
}

impl Malice {
    pub(super) fn check(&self, cast: &Cast) -> Result<(), Error> {
        let mut names = [&self.misstamps, &self.leaks, &self.forges].into_iter().flatten();
        names.try_for_each(|name| cast.member(name).map(|_| ()))
    }
}

fn none() -> Share {
    Share::NONE
}
