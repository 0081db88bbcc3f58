//! The program `hark`: a thin shell around a node.

mod arguments;
mod organisation;
mod talk;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Verb};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let outcome = match arguments.verb {
        Verb::Id(arguments) => organisation::id(&arguments),
        Verb::New(arguments) => organisation::new(&arguments),
        Verb::Invite(arguments) => organisation::invite(&arguments),
        Verb::Join(arguments) => organisation::join(arguments),
        Verb::Talk(arguments) => talk::talk(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the cause says.
            let line = format!("{error:#}").replace('\n', " ");
            eprintln!("hark: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error what `HARK_LOG` asks for; by default, what was lost.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HARK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
