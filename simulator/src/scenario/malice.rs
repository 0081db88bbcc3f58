//! What a relay of a scenario does to the voice that it is to forward.

use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error};
use crate::units::{Share, Span};

/// From when on a relay means harm, and what it does then to the voice datagrams for each listener.
/// It goes on telling talkers that all has come.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malice {
    /// From when on.
    #[serde(default)]
    pub from: Span,
    /// This share is not sent.
    #[serde(default = "none")]
    pub drops: Share,
    /// All are sent so much later.
    #[serde(default)]
    pub delays: Span,
    /// This share is sent twice.
    #[serde(default = "none")]
    pub duplicates: Share,
    /// A bit of the newest frame of this share is turned over. [PROTO-10.28]
    #[serde(default = "none")]
    pub alters: Share,
    /// All are sent once more, so much later.
    #[serde(default)]
    pub replays: Span,
    /// All go out as if they were this member's.
    pub misstamps: Option<Spanned<String>>,
    /// All that it forwards to anybody goes to this member as well, also when that is no member any
    /// more.
    pub leaks: Option<Spanned<String>>,
    /// A volunteer puts other words into this member's mouth, sealed with the key that it was given
    /// to hear with: into what is said, and where nothing is.
    pub forges: Option<Spanned<String>>,
    /// Besides, it asks that member so many questions a second about frames, and withholds its
    /// proofs.
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
