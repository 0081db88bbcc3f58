//! Rules of every scenario, and why one does not count in some.

use serde::Deserialize;
use toml::Spanned;

use super::names::Error;

/// What is asked of every scenario, whatever else it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaiverRule {
    /// Nobody can open what the talker's charter keeps from it.
    Rights,
    /// Nobody can open what was said before it came.
    Newcomer,
    /// Nobody can open what is said after it has left a net, or altogether.
    Leaver,
    /// Nobody can open what the talker does not say that it can.
    Roster,
    /// Nobody is sent what the charter of the sender, talker or relay, keeps from it.
    SentByRight,
    /// Nobody is sent what it does not listen to.
    SentToListeners,
    /// No key is taken into use twice.
    SealedOnce,
    /// Whoever takes a frame can open it: the witness has missed no key.
    AllKnown,
}

impl WaiverRule {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rights,
        Self::Newcomer,
        Self::Leaver,
        Self::Roster,
        Self::SentByRight,
        Self::SentToListeners,
        Self::SealedOnce,
        Self::AllKnown,
    ];

    /// The rule in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Rights => "nobody can open what the talker's charter keeps from it",
            Self::Newcomer => "nobody can open what was said before it came",
            Self::Leaver => "nobody can open what is said after it has left",
            Self::Roster => "nobody can open a frame but whom the talker's roster names",
            Self::SentByRight => "nobody is sent what the sender's charter keeps from it",
            Self::SentToListeners => "nobody is sent what it does not listen to",
            Self::SealedOnce => "no key is taken into use twice",
            Self::AllKnown => "all that is heard opens with known keys",
        }
    }
}

/// A rule that does not count in a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Which.
    pub rule: Spanned<WaiverRule>,
    /// Why.
    pub reason: String,
}

impl Waiver {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.reason.trim().is_empty() {
            return Err((
                self.rule.span(),
                "say in `reason` why the rule does not count".to_owned(),
            ));
        }
        Ok(())
    }
}
