//! What members do with the charter and their radios, and when.

use std::{path::Path, time::Duration};

use clap::{Parser, ValueEnum};
use hark_command_line::NetArguments;
use hark_commands::{Request, TalkTo, TicketsRequest};
use hark_node::snapshot::Command;
use serde::Deserialize;
use toml::Spanned;

use super::names::{Cast, Error};
use crate::{built_in, units::Span};

/// An order as it is written: when it is given, by whom, and its words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When the order is given.
    at: Span,
    /// The member that gives it.
    by: Spanned<String>,
    /// The words, as a person types them.
    #[serde(rename = "do")]
    words: Spanned<Vec<String>>,
    /// If present, the order must be refused, and the reason must contain these words.
    refused: Option<Spanned<String>>,
}

/// An order that has been checked and can be given.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// When the order is given.
    pub at: Duration,
    /// The member that gives it.
    pub member: usize,
    /// The words, as a person types them.
    pub text: String,
    /// The command that it gives.
    pub kind: InstructionKind,
    /// If present, the order must be refused, and the reason must contain these words.
    pub refused: Option<String>,
}

/// The command of an order.
#[derive(Clone, Debug)]
pub enum InstructionKind {
    /// A request about the charter, which is answered.
    Charter(Box<Request>),
    /// A command to the radio.
    Radio(Command),
}

impl Order {
    /// The order with its words parsed. Files that it reads lie in `folder`.
    pub(super) fn resolve(&self, cast: &Cast, folder: &Path) -> Result<Instruction, Error> {
        let member = cast.member(&self.by)?;
        let words = self.words.get_ref();
        let kind = instruction(words, folder).map_err(|text| (self.words.span(), text))?;
        Ok(Instruction {
            at: self.at.as_duration(),
            member,
            text: words.join(" "),
            kind,
            refused: self.refused.as_ref().map(|words| words.get_ref().clone()),
        })
    }
}

/// The words of an order. There is no help, since nobody would read it.
#[derive(Parser)]
#[command(
    name = "order",
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
enum Words {
    #[command(subcommand, disable_help_subcommand = true)]
    Charter(Box<Request>),
    #[command(subcommand, disable_help_subcommand = true)]
    Ticket(TicketsRequest),
    Listen {
        net: String,
    },
    Unlisten {
        net: String,
    },
    Net {
        net: String,
        #[command(flatten)]
        change: NetArguments,
    },
    TalkTo(TalkTo),
    Follow,
    Key {
        key: String,
        #[command(flatten)]
        to: TalkTo,
    },
    Move {
        person: String,
        net: String,
        #[arg(long)]
        from: Option<String>,
    },
    Press {
        key: String,
    },
    Release {
        key: String,
    },
    Volunteer {
        #[arg(value_enum, default_value_t = Switch::On)]
        state: Switch,
        #[arg(long, default_value_t = 0)]
        kbps: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Parses a request about the charter that reads no files.
pub(super) fn charter<'a>(words: impl Iterator<Item = &'a str>) -> Option<Box<Request>> {
    match Words::try_parse_from(words).ok()? {
        Words::Charter(request) => Some(request),
        _ => None,
    }
}

fn instruction(words: &[String], folder: &Path) -> Result<InstructionKind, String> {
    let command = match Words::try_parse_from(words).map_err(|error| brief(&error))? {
        Words::Charter(mut request) => {
            if let Some(input) = request.input() {
                let path = folder.join(&input.path);
                input.content = match (std::fs::read(&path), built_in::file(Path::new(&input.path)))
                {
                    (Ok(content), _) => content,
                    (Err(_), Some(content)) => content.as_bytes().to_vec(),
                    (Err(error), None) => {
                        return Err(format!("{} cannot be read: {error}", path.display()));
                    }
                };
            }
            return Ok(InstructionKind::Charter(request));
        }
        Words::Ticket(request) => {
            return Ok(InstructionKind::Charter(Box::new(Request::Tickets(request))));
        }
        Words::Listen { net } => Command::Listen { net, on: true, keep: false },
        Words::Unlisten { net } => Command::Listen { net, on: false, keep: false },
        Words::Net { net, change } => Command::Net { net, change: change.into() },
        Words::TalkTo(to) if to.is_empty() => {
            return Err("name a net, or a person with --whisper, or a role with --role".to_owned());
        }
        Words::TalkTo(to) => Command::TalkTo { to, keep: false },
        Words::Key { key, to } => Command::Key { key, to: (!to.is_empty()).then_some(to) },
        Words::Move { person, net, from } => Command::Move { person, from, to: net },
        Words::Follow => Command::Follow,
        Words::Press { key } => {
            Command::Ptt { down: true, key: Some(key), to: None, for_secs: None, tail_ms: None }
        }
        Words::Volunteer { state, kbps } => Command::Volunteer { on: state == Switch::On, kbps },
        Words::Release { key } => {
            Command::Ptt { down: false, key: Some(key), to: None, for_secs: None, tail_ms: None }
        }
    };
    Ok(InstructionKind::Radio(command))
}

/// The error and its tip, if there is one, in one line. The usage would fill a screen.
fn brief(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find(|text| text.trim_start().starts_with("tip:"));
    let words = first.split_whitespace().chain(tip.into_iter().flat_map(str::split_whitespace));
    let line = words.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
