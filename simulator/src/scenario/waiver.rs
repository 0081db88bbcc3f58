//! The rules of every scenario, and waivers for scenarios in which one does not apply.

use serde::Deserialize;
use toml::Spanned;

use super::names::Error;

/// A rule that applies to every scenario, whatever else it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaiverRule {
    /// No device can open what the talker's charter withholds from it.
    Rights,
    /// No device can open what was said before it came.
    Newcomer,
    /// No device can open what is said after it has left a net, or the organisation.
    Leaver,
    /// No device can open a frame unless the talker names it as a holder of the key.
    Roster,
    /// No device is sent what the charter of the sender, talker or relay, withholds from it.
    SentByRight,
    /// No device is sent what it does not listen to.
    SentToListeners,
    /// No key is taken into use twice.
    SealedOnce,
    /// A device that accepts a frame can also open it: the witness has missed no key.
    AllKnown,
}

impl WaiverRule {
    /// All rules.
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

/// A rule that does not apply to a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The rule that does not apply.
    pub rule: Spanned<WaiverRule>,
    /// Why it does not apply.
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
