//! Every command from end to end, with what it prints.

mod apply;
mod drafts;
mod edits;
mod people;
mod reading;
#[path = "../../../commands/tests/commands/world.rs"]
mod world;

use clap::Parser;
use hark_charter::{Charter, Piece, Recovery, content::ChannelName};
use hark_commands::{InputFile, OutputFile, sign_with};
use hark_keys::{ChannelId, DeviceKey, RecoverySecret, SeededRandom};

use self::world::{Line, NOW, Person, World, example};
use super::*;

/// What is printed for an outcome.
struct Answer {
    text: String,
    json: Value,
    file: Option<OutputFile>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self { text: text(&outcome), json: json(&outcome), file: outcome.file().cloned() }
    }
}

impl Person {
    fn told(&mut self, line: &str, file: &[u8]) -> Answer {
        self.with(line, file).into()
    }

    /// The text that a command prints.
    fn does(&mut self, line: &str) -> String {
        self.told(line, &[]).text
    }

    /// The JSON that a command prints.
    fn json(&mut self, line: &str) -> Value {
        self.told(line, &[]).json
    }

    /// The reason why a command is refused.
    fn cannot(&mut self, line: &str) -> String {
        self.refused(line, &[])
    }

    fn refused(&mut self, line: &str, file: &[u8]) -> String {
        self.cannot_with(line, file).to_string()
    }

    /// The text of a dry run. Checks that it changes nothing.
    fn would(&mut self, line: &str) -> String {
        let before = self.fingerprint();
        let text = self.does(&format!("{line} --dry-run"));
        let after = self.fingerprint();
        assert_eq!(after, before, "{line}: {text}");
        text
    }
}
