//! The program `hark-relay`, a thin wrapper around a relay.

#![forbid(unsafe_code)]

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use hark_command_line::{CompletionsArguments, ErrorCode, ManArguments, Program, duration};
use hark_relay::{
    config::{Config, LogFormat},
    home::RelayHome,
    program::{self, RelayOptions},
    runner,
};
use tracing_subscriber::EnvFilter;

/// Forwards the voice of organisations whose charters name this relay. It cannot open that voice.
#[derive(Parser)]
#[command(
    name = "hark-relay",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    /// Folder for identities, token, metering and audit log [default: the platform's data
    /// directory]
    #[arg(long, value_name = "DIR", env = "HARK_RELAY_HOME", hide_env_values = true)]
    home: Option<PathBuf>,
    /// Configuration file with organisations and their quotas [default: none but those added over
    /// the admin API]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address where organisations listen by UDP: the first on this port, others on those after it
    /// [default: any address, port 7300]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Address where the admin API listens [default: 127.0.0.1:7301]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// Write events as JSON lines; - is standard output
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Stop after this time (30s, 2m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasting: Option<Duration>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print a script with which a shell completes the options of hark-relay
    Completions(CompletionsArguments),
    /// Print the manual page, or write the pages of all commands
    Man(ManArguments),
}

fn main() -> ExitCode {
    let mut program = Program::new("hark-relay");
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let error = format!("internal error at {place}: please report it");
        program.complain(ErrorCode::Internal, &error);
    }));
    let arguments: Arguments = program.parse();
    let outcome = match &arguments.command {
        Some(Command::Completions(arguments)) => {
            arguments.print::<Arguments>();
            Ok(())
        }
        Some(Command::Man(arguments)) => arguments.print::<Arguments>(),
        None => run(arguments, &mut program),
    };
    outcome.map_or_else(|error| program.fail(&error), |()| ExitCode::SUCCESS)
}

fn run(arguments: Arguments, program: &mut Program) -> anyhow::Result<()> {
    let config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    *program = program.with_json(config.log == LogFormat::Json);
    start_log(config.log);
    let home = arguments.home.or_else(RelayHome::default_path);
    let to_stdout = arguments.events.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let options = RelayOptions {
        home: home.context("this account has no home directory: use --home")?,
        config,
        listen: arguments.listen,
        admin: arguments.admin,
        events: arguments.events,
        lasting: arguments.lasting,
        passphrase: Box::new(|| std::env::var("HARK_PASSPHRASE").ok()),
        say: if to_stdout { |_| () } else { say },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(program::run(options, Box::new(runner::start)))?)
}

/// Starts the log on standard error. `HARK_LOG` selects what it contains; by default, what an
/// operator should know.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("HARK_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,hark_relay=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Plain => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Prints one line on standard output. Errors are ignored, since they only mean that nobody reads
/// it any more.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
#[path = "../../tests/src/command_lines.rs"]
mod command_lines;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_what_scripts_rely_on() {
        Arguments::command().debug_assert();
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        for good in [
            "hark-relay",
            "hark-relay --home there --config relay.toml --listen 0.0.0.0:7300 \
             --admin 127.0.0.1:7301 --events - --for 30s",
            "hark-relay completions zsh",
            "hark-relay man man1",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["hark-relay --listen 7300", "hark-relay --for ever", "hark-relay start"] {
            let Err(error) = parse(bad) else { panic!("{bad}") };
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }

    /// Pages once showed commands and flags that do not exist.
    #[test]
    fn every_command_line_on_a_page_is_one_that_hark_relay_takes() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let untrue = command_lines::untrue(&Arguments::command(), root, 1);
        assert!(untrue.is_empty(), "{}", untrue.join("\n"));
    }
}
