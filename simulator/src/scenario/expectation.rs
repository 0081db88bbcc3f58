//! What must be true of a run.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error, ScenarioNames};
use crate::units::{Share, Span};

/// What some listeners must hear of some talkers, or how some members must fare. Every limit that
/// is given must hold for every pair.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Whom this is about; everyone if not said.
    pub listener: Option<ScenarioNames>,
    /// Whom they hear; everyone who speaks if not said.
    pub talker: Option<ScenarioNames>,
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
    /// The path that is in use at the end: this, or one of these.
    pub path: Option<Spanned<Paths>>,
    /// The longest time from the later start of the two until such a path is in use.
    pub path_within: Option<Span>,
    /// Through whom the talker is heard, all of them and nobody else: relays, volunteers, and
    /// `"no relay"` where it sends to the listener itself.
    pub through: Option<BTreeSet<String>>,
    /// The most of the talker's frames that may not come. Such as are on their way at either end of
    /// the time count.
    pub lost: Option<u32>,
    /// The most frames that the listener takes for the talker's beyond those that the talker has
    /// sent.
    pub forged: Option<u32>,
    /// By that time the listener has found out that this member forges as a relay, and nobody else.
    pub flags: Option<FlagExpectation>,
    /// Whether all that the talker said could be opened by the listener, or nothing of it, with all
    /// keys that it was ever given, had everything come to everybody.
    pub could_open: Option<bool>,
    /// Whether the listener was sent anything of the talker's, by whomever.
    pub sent: Option<bool>,
    /// The net of which these two are asked, or "whisper"; all that the talker talks to if not
    /// said.
    pub on: Option<String>,
    /// How often the talker sends each of its frames on the average, to members and relays, at
    /// most.
    pub uplink: Option<f64>,
    /// How often the listener is sent each of the talker's frames on the average, at most, where it
    /// hears nobody else.
    pub downlink: Option<f64>,
    /// At that time all who run are connected to all, and each key that one of them talks with is
    /// held by exactly those whom it reaches: by the charter, as they hold it together, and by the
    /// nets that each listens to.
    pub converged: Option<Within>,
    /// At that time all of the listeners who run have the same charter.
    pub charter: Option<Within>,
    /// Whether those listeners know at the end that strangers reach them, or that these do not.
    pub reachable: Option<bool>,
    /// Those listeners' nodes ended, for a reason that has these words in it.
    pub ends_with: Option<String>,
}

/// One path, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// This one.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Paths {
    /// All of them.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Any(paths) => paths,
        }
    }
}

/// By when.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// By this time of the run.
    pub by: Span,
}

/// Who is found out, and by when.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagExpectation {
    /// The member whose relay it is.
    pub relay: Spanned<String>,
    /// By this time of the run.
    pub by: Span,
}

/// How packets between two can travel.
const PATHS: [&str; 3] = ["direct", "punched", "relay"];

impl Expectation {
    /// Whether it can only be judged by what was heard.
    pub fn needs_sound(&self) -> bool {
        self.delay.is_some() || self.delay_p99.is_some()
    }

    pub(super) fn check(&self, cast: &Cast) -> Result<(), Error> {
        for names in [&self.listener, &self.talker].into_iter().flatten() {
            names.check(cast)?;
        }
        if let Some(paths) = &self.path
            && let Some(wrong) = paths.get_ref().list().iter().find(|it| !PATHS.contains(&&***it))
        {
            let text = format!("no path is called {wrong:?}: there is {}", PATHS.join(", "));
            return Err((paths.span(), text));
        }
        if let Some(flags) = &self.flags {
            cast.member(&flags.relay)?;
        }
        for name in self.through.iter().flatten().filter(|name| *name != "no relay") {
            cast.machine(&Spanned::new(0..0, name.clone()))?;
        }
        Ok(())
    }
}
