//! What must be true of a run.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error, ScenarioNames};
use crate::units::{Share, Span};

/// What listeners must hear of talkers, or how members must fare. Every limit that is given must
/// hold for every pair.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The members that this is about; all if it is absent.
    pub listener: Option<ScenarioNames>,
    /// The talkers that they hear; all members that speak if it is absent.
    pub talker: Option<ScenarioNames>,
    /// Only what happens from this time on counts.
    #[serde(default)]
    pub after: Span,
    /// Only what happens before this time counts.
    pub before: Option<Span>,
    /// The largest share of speech that may be concealed.
    pub concealed: Option<Share>,
    /// The largest median of the mouth-to-ear delay.
    pub delay: Option<Span>,
    /// The largest 99th percentile of the mouth-to-ear delay.
    pub delay_p99: Option<Span>,
    /// The longest time in which the talker speaks and the listener hears nothing of it. The delay
    /// at the beginning counts too.
    pub silence: Option<Span>,
    /// The smallest share of speech that must be heard, without concealed speech; 0 with
    /// `hears = false`.
    pub heard: Option<Share>,
    /// Whether the listener hears anything of the talker.
    pub hears: Option<bool>,
    /// The nets on which the talker is heard: exactly these.
    pub nets: Option<BTreeSet<String>>,
    /// The longest time for which the jitter buffer may hold frames at the end.
    pub buffer: Option<Span>,
    /// The longest time from the later start of the two until they are connected.
    pub connected_within: Option<Span>,
    /// The path in use at the end: this one, or one of these.
    pub path: Option<Spanned<Paths>>,
    /// The longest time from the later start of the two until such a path is in use.
    pub path_within: Option<Span>,
    /// Exactly the devices through which the talker is heard: relays, volunteers, and `"no relay"`
    /// if the talker sends to the listener itself.
    pub through: Option<BTreeSet<String>>,
    /// The largest number of the talker's frames that may not arrive. Frames that are under way at
    /// either end of the time count.
    pub lost: Option<u32>,
    /// The largest number of frames that the listener accepts as the talker's beyond those that the
    /// talker sent.
    pub forged: Option<u32>,
    /// By that time, the listener has detected that this member forges as a relay, and has accused
    /// nobody else.
    pub flags: Option<FlagExpectation>,
    /// Whether the listener could open all that the talker said (`true`), or nothing of it
    /// (`false`), with all keys that it was ever given and if everything had reached everybody.
    pub could_open: Option<bool>,
    /// Whether anybody sent the listener anything of the talker's.
    pub sent: Option<bool>,
    /// The net that `could_open` and `sent` are about, or "whisper"; all that the talker talks to
    /// if it is absent.
    pub on: Option<String>,
    /// How often the talker may send each of its frames, to members and relays, on average.
    pub uplink: Option<f64>,
    /// How often the listener may be sent each of the talker's frames, on average, if it hears
    /// nobody else.
    pub downlink: Option<f64>,
    /// By that time all members that run are connected to all others, and each key that one of them
    /// talks with is held by exactly those whom it reaches. Whom it reaches follows from the
    /// charter, as they hold it together, and from the nets that each listens to.
    pub converged: Option<Within>,
    /// By that time all of the listeners that run have the same charter.
    pub charter: Option<Within>,
    /// Whether those listeners know at the end that strangers reach them (`true`), or that
    /// strangers do not (`false`).
    pub reachable: Option<bool>,
    /// The nodes of those listeners ended, and the reason contains these words.
    pub ends_with: Option<String>,
}

/// One path, or several of which one must be in use.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// This path.
    One(String),
    /// Any of these paths.
    Any(Vec<String>),
}

impl Paths {
    /// All of the paths.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Any(paths) => paths,
        }
    }
}

/// A time by which something must be true.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// The time, from the start of the run.
    pub by: Span,
}

/// A relay that must be detected as forging, and by when.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagExpectation {
    /// The member that forges as a relay.
    pub relay: Spanned<String>,
    /// The time, from the start of the run.
    pub by: Span,
}

/// The paths by which packets between two members can travel.
const PATHS: [&str; 3] = ["direct", "punched", "relay"];

impl Expectation {
    /// Whether it can be judged only by the recorded sound.
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
