//! What the programs do alike on their command lines: errors for people and for scripts,
//! completions for shells, manual pages, arguments that several of them take, and the words for
//! what happens.

#![forbid(unsafe_code)]

mod nets;
pub mod news;
pub mod person;
mod stop;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use hark_commands::CommandError;
use hark_node::{console::complain, control::ControlError};
use serde_json::{Map, Value};

pub use hark_commands::duration;
pub use nets::NetArguments;
pub use stop::StopSignal;

/// A program, and how it says what went wrong.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    name: &'static str,
    json: bool,
}

/// What kind of error it is, for programs that read it. docs/api.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The command line, or the file it names, means nothing. Exit status 2.
    Usage,
    /// No node runs that could be steered.
    NotRunning,
    /// The running node or the charter says no: an unknown name, a right that is missing.
    Refused,
    /// Anything else.
    Failed,
    /// A mistake of the program's own.
    Internal,
}

impl ErrorCode {
    /// Of an error that ends a command.
    fn of(error: &anyhow::Error) -> Self {
        match (error.downcast_ref(), error.downcast_ref()) {
            (
                Some(
                    ControlError::NotRunning | ControlError::RunsElsewhere(_) | ControlError::Ended,
                ),
                _,
            ) => Self::NotRunning,
            (Some(ControlError::Refused(_)), _) => Self::Refused,
            (_, Some(CommandError::Host(_))) | (_, None) => Self::Failed,
            (_, Some(_)) => Self::Refused,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotRunning => "not_running",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Internal => "internal",
        }
    }
}

impl Program {
    /// The program of this name. Its errors are JSON if its arguments have `--json` among them,
    /// even if they mean nothing otherwise.
    pub fn new(name: &'static str) -> Self {
        Self { name, json: asks_for_json(std::env::args_os().skip(1)) }
    }

    /// The same with errors as JSON, too, if something else than its arguments asks for that.
    #[must_use]
    pub fn with_json(self, also: bool) -> Self {
        Self { json: self.json || also, ..self }
    }

    /// Its arguments; ends the process if they mean nothing, or after help was printed.
    pub fn parse<A: Parser>(self) -> A {
        A::try_parse().unwrap_or_else(|error| {
            if self.json && error.use_stderr() {
                complain(&usage(&error).to_string());
                std::process::exit(error.exit_code());
            }
            error.exit()
        })
    }

    /// Says what ended a command.
    pub fn fail(self, error: &anyhow::Error) -> ExitCode {
        self.complain(ErrorCode::of(error), &format!("{error:#}"));
        ExitCode::FAILURE
    }

    /// Says in one line on standard error what went wrong: for people, or as JSON.
    pub fn complain(self, code: ErrorCode, error: &str) {
        let error = error.replace('\n', " ");
        if self.json {
            complain(&object(code, &error, None).to_string());
        } else {
            complain(&format!("{}: {error}", self.name));
        }
    }
}

/// Whether `--json` is among these arguments, as a flag.
fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|it| it != "--").any(|it| it == "--json")
}

/// An error as docs/api.md shows it. `near` is what could be meant, if something is and the line
/// does not say so.
fn object(code: ErrorCode, error: &str, near: Option<String>) -> Value {
    let said = error.split_once("did you mean ").and_then(|(_, near)| near.split_once('?'));
    let near = near.or(said.map(|(near, _)| near.to_owned()));
    let mut object = Map::new();
    object.insert("ok".to_owned(), false.into());
    object.insert("error".to_owned(), error.into());
    object.insert("code".to_owned(), code.as_str().into());
    object.extend(near.map(|near| ("hint".to_owned(), near.into())));
    object.into()
}

/// What clap says of a command line, in one line and without its usage.
fn usage(error: &clap::Error) -> Value {
    let kinds =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let near = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(near) => Some(near.clone()),
        ContextValue::Strings(near) => (!near.is_empty()).then(|| near.join(" or ")),
        _ => None,
    });
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return object(ErrorCode::Usage, "a command is missing: `--help` lists them", near);
    }
    let text = error.to_string();
    let told = text.lines().map(str::trim);
    let told = told.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<_> = told.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    let told = told.join(" ");
    object(ErrorCode::Usage, told.strip_prefix("error: ").unwrap_or(&told), near)
}

/// Arguments of `completions`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl CompletionsArguments {
    /// Prints what has the shell complete the commands of program `A`.
    pub fn print<A: CommandFactory>(&self) {
        let mut command = A::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        print(&script);
    }
}

/// Arguments of `man`.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArguments {
    /// Write a page for each command into this folder, which is made if it is not there
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl ManArguments {
    /// Prints the manual page of program `A`, or writes those of all its commands into the folder.
    pub fn print<A: CommandFactory>(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            clap_mangen::Man::new(A::command()).render(&mut page)?;
            print(&page);
            return Ok(());
        };
        let context = || format!("{}: the manual pages cannot be written there", folder.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        clap_mangen::generate_to(A::command(), folder).with_context(context)
    }
}

/// Whoever has stopped reading is not told.
fn print(text: &[u8]) {
    let _ = io::stdout().write_all(text);
}

#[cfg(test)]
mod tests {
    use hark_commands::{HostError, Mistake};
    use serde_json::json;

    use super::*;

    /// A program to try things with.
    #[derive(Parser)]
    #[command(name = "radio")]
    struct Radio {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(clap::Subcommand)]
    enum Command {
        /// Hear a net.
        Listen {
            /// Its name.
            net: String,
            /// How loud.
            #[arg(long)]
            volume: Option<f32>,
        },
    }

    fn told(line: &str) -> Value {
        let Err(error) = Radio::try_parse_from(line.split(' ')) else { panic!("{line}") };
        usage(&error)
    }

    #[test]
    fn a_wrong_command_line_is_one_object_with_what_could_be_meant() {
        assert_eq!(
            told("radio lisen Flight"),
            json!({"ok": false, "error": "unrecognized subcommand 'lisen'", "code": "usage", "hint": "listen"})
        );
        assert_eq!(
            told("radio listen Flight --volum 1"),
            json!({"ok": false, "error": "unexpected argument '--volum' found", "code": "usage", "hint": "--volume"})
        );
        assert_eq!(
            told("radio listen Flight --volume loud"),
            json!({"ok": false, "error": "invalid value 'loud' for '--volume <VOLUME>': invalid float literal",
                "code": "usage"})
        );
        assert_eq!(
            told("radio listen"),
            json!({"ok": false, "error": "the following required arguments were not provided: <NET>",
                "code": "usage"})
        );
        let nothing = told("radio");
        assert_eq!(nothing["error"], "a command is missing: `--help` lists them");
    }

    #[test]
    fn errors_have_the_code_of_what_went_wrong() {
        let code = |error: anyhow::Error| ErrorCode::of(&error);
        assert_eq!(code(ControlError::NotRunning.into()), ErrorCode::NotRunning);
        assert_eq!(code(ControlError::Refused("no".to_owned()).into()), ErrorCode::Refused);
        let refused = anyhow::Error::from(CommandError::from(Mistake::OneRight));
        assert_eq!(code(refused.context("plan.toml")), ErrorCode::Refused);
        assert_eq!(
            code(CommandError::Host(HostError::disk(io::Error::other("full"))).into()),
            ErrorCode::Failed
        );
        assert_eq!(code(anyhow::anyhow!("no such file")), ErrorCode::Failed);
    }

    #[test]
    fn json_is_asked_for_by_the_flag_alone() {
        let asks = |line: &str| asks_for_json(line.split(' ').map(OsString::from));
        assert!(asks("charter show --json") && asks("--json dance"));
        assert!(!asks("charter show") && !asks("join -- --json") && !asks("new --name=--json"));
    }
}
