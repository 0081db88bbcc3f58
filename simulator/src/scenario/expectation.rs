//! What must be true of a run.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error, Names};
use crate::units::{Share, Span};

/// What some listeners must hear of some talkers, or how some members must fare. Every limit that
/// is given must hold for every pair.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Whom this is about; everyone if not said.
    pub listener: Option<Names>,
    /// Whom they hear; everyone who speaks if not said.
    pub talker: Option<Names>,
    /// What happens before does not count.
    #[serde(default)]
    pub after: Span,
    /// Nor what happens from then on.
    pub before: Option<Span>,
    /// The largest share of speech that may be made up.
    pub concealed: Option<Share>,
    /// The largest delay from mouth to ear, median.
    pub delay: Option<Span>,
    /// The same, 99th percentile.
    pub delay_p99: Option<Span>,
    /// The longest time in which the talker speaks and the listener hears nothing of it, the delay
    /// at its beginning included.
    pub silence: Option<Span>,
    /// The smallest share of speech that must be heard, not counting what is made up; 0 with
    /// `hears = false`.
    pub heard: Option<Share>,
    /// Whether anything at all is heard.
    pub hears: Option<bool>,
    /// The nets that the talker is heard on: all of these, and no other.
    pub nets: Option<BTreeSet<String>>,
    /// The largest time that the jitter buffer may hold frames at the end.
    pub buffer: Option<Span>,
    /// The longest time from the later start of the two until they are connected.
    pub connected_within: Option<Span>,
    /// The path that is in use at the end.
    pub path: Option<Spanned<String>>,
    /// At that time all who run are connected to all, and each key that one of them talks with is
    /// held by exactly those whom it reaches: by the charter, as they hold it together, and by the
    /// nets that each listens to.
    pub converged: Option<Within>,
    /// At that time all of the listeners who run have the same charter.
    pub charter: Option<Within>,
    /// Those listeners' nodes ended, for a reason that has these words in it.
    pub ends_with: Option<String>,
}

/// By when.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// By this time of the run.
    pub by: Span,
}

impl Expectation {
    /// Whether it can only be judged by what was heard.
    pub fn needs_sound(&self) -> bool {
        self.delay.is_some() || self.delay_p99.is_some()
    }

    pub(super) fn check(&self, cast: &Cast) -> Result<(), Error> {
        for names in [&self.listener, &self.talker].into_iter().flatten() {
            names.check(cast)?;
        }
        Ok(())
    }
}
