//! What members do with the charter and their radios, and when.

use std::{path::Path, time::Duration};

use clap::Parser;
use hark_node::{
    commands::Request,
    snapshot::{Command, TalkTo},
};
use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error, closest};
use crate::units::Span;

/// An order as it is written: when, by whom, and the words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When.
    at: Span,
    /// Who gives it.
    by: Spanned<String>,
    /// The words, as a person types them.
    #[serde(rename = "do")]
    words: Spanned<Vec<String>>,
    /// It is refused, for a reason that has these words in it.
    refused: Option<Spanned<String>>,
}

/// An order that can be given.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// When.
    pub at: Duration,
    /// Who gives it.
    pub member: usize,
    /// As a person types it.
    pub text: String,
    /// What is asked for.
    pub kind: InstructionKind,
    /// It is refused, for a reason that has these words in it.
    pub refused: Option<String>,
}

/// What an order asks for.
#[derive(Clone, Debug)]
pub enum InstructionKind {
    /// Something of the charter, which is answered.
    Charter(Box<Request>),
    /// Something of the radio, which is not.
    Radio(Command),
}

impl Order {
    /// The order with its words understood; files that it reads lie in `folder`.
    pub(super) fn resolve(&self, cast: &Cast, folder: &Path) -> Result<Instruction, Error> {
        let member = cast.member(&self.by)?;
        let words = self.words.get_ref();
        let kind = match words.split_first() {
            Some((first, rest)) if first == CHARTER => charter(rest, folder),
            Some((first, rest)) => radio(first, rest).map(InstructionKind::Radio),
            None => Err("an order has words".to_owned()),
        };
        let kind = kind.map_err(|text| (self.words.span(), text))?;
        if let (InstructionKind::Radio(_), Some(refused)) = (&kind, &self.refused) {
            return Err((refused.span(), "a radio refuses nothing: only the charter".to_owned()));
        }
        Ok(Instruction {
            at: self.at.as_duration(),
            member,
            text: words.join(" "),
            kind,
            refused: self.refused.as_ref().map(|words| words.get_ref().clone()),
        })
    }
}

/// The words after `hark charter`, without help: nobody would read it.
#[derive(Parser)]
#[command(
    name = "charter",
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
struct CharterWords {
    #[command(subcommand)]
    request: Request,
}

fn charter(words: &[String], folder: &Path) -> Result<InstructionKind, String> {
    let parsed = CharterWords::try_parse_from(words).map_err(|error| brief(&error))?;
    let mut request = parsed.request;
    if let Some(input) = request.input() {
        let path = folder.join(&input.path);
        input.content = std::fs::read(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    }
    Ok(InstructionKind::Charter(Box::new(request)))
}

/// What is wrong, and the tip where there is one, in a line: usage fills a screen.
fn brief(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find(|text| text.trim_start().starts_with("tip:"));
    let words = first.split_whitespace().chain(tip.into_iter().flat_map(str::split_whitespace));
    let line = words.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn radio(verb: &str, words: &[String]) -> Result<Command, String> {
    let nets = |words: &[String]| TalkTo::nets(words.to_vec());
    Ok(match (verb, words) {
        ("listen" | "unlisten", [net]) => {
            Command::Listen { net: net.clone(), on: verb == "listen" }
        }
        ("talk-to", [_, ..]) => Command::TalkTo(nets(words)),
        ("key", [key, to @ ..]) => {
            Command::Key { key: key.clone(), to: (!to.is_empty()).then(|| nets(to)) }
        }
        ("press" | "release", [key]) => {
            Command::Ptt { down: verb == "press", key: Some(key.clone()) }
        }
        _ => {
            let usage = RADIO.iter().find(|usage| usage.split(' ').next() == Some(verb));
            if let Some(usage) = usage {
                return Err(format!("the order is: {usage}"));
            }
            let verbs = RADIO.iter().filter_map(|usage| usage.split(' ').next());
            let known = std::iter::once(CHARTER).chain(verbs);
            return Err(match closest(verb, known.clone()) {
                Some(close) => format!("no order is called {verb:?}: did you mean {close:?}?"),
                None => {
                    let known = known.collect::<Vec<_>>().join(", ");
                    format!("no order is called {verb:?}: there is {known}")
                }
            });
        }
    })
}

/// How orders about the charter begin.
const CHARTER: &str = "charter";

/// The words of a radio.
const RADIO: [&str; 6] =
    ["listen NET", "unlisten NET", "talk-to NET …", "key NAME NET …", "press KEY", "release KEY"];
