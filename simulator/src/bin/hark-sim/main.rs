//! `hark-sim`: plays network scenarios with the real node, in virtual time, from a seed.

#[cfg(not(target_os = "linux"))]
compile_error!("hark-sim runs on Linux: leave it out with --exclude hark-simulator");

mod explore;
mod interpose;
mod minimize;
mod play;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use hark_command_line::{CompletionsArguments, ManArguments, Program};

/// Plays network scenarios with the real node, in virtual time, from a seed.
#[derive(Debug, Parser)]
#[command(name = "hark-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a scenario and judge it by its expectations.
    Run(RunArguments),
    /// List the scenarios that come with Hark.
    List,
    /// Play a scenario with many seeds, and stop at the first that fails.
    Explore(ExploreArguments),
    /// Make a failing scenario as small as it can be and still fail.
    Minimize(MinimizeArguments),
    /// Print a script with which a shell completes the commands of hark-sim.
    Completions(CompletionsArguments),
    /// Print the manual page, or write the pages of all commands.
    Man(ManArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The scenario: a TOML file, or a name that `hark-sim list` shows.
    scenario: PathBuf,
    /// The number that determines all random choices of the run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every packet and event to this file, one line each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a page with the results, the sound that everyone heard, and the packets for Wireshark.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write all that was measured to standard output as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExploreArguments {
    /// The scenario: a TOML file, or a name that `hark-sim list` shows.
    scenario: PathBuf,
    /// How many seeds to play.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many processes run side by side; by default as many as there are cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Continue after a failure, and count the failures.
    #[arg(long)]
    count: bool,
}

#[derive(Debug, Args)]
struct MinimizeArguments {
    /// A scenario that fails, as a TOML file or the name of one that `hark-sim list` shows.
    scenario: PathBuf,
    /// The seed with which it fails.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the smallest scenario. By default it is written beside the scenario, or into
    /// the current folder if the scenario comes with Hark.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    // As in other tools: a reader that closes the pipe early, such as `head`, has seen enough.
    // SAFETY: no other thread runs yet, and no handler is set.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let program = Program::new("hark-sim");
    let arguments: Arguments = program.parse();
    // The nodes' own logs have virtual times.
    let filter = tracing_subscriber::EnvFilter::try_from_env("HARK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match arguments.command {
        Command::Run(arguments) => play::run(&arguments, program),
        Command::List => Ok(play::list()),
        Command::Explore(arguments) => explore::explore(&arguments),
        Command::Minimize(arguments) => minimize::minimize(&arguments),
        Command::Completions(arguments) => {
            arguments.print::<Arguments>();
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(arguments) => arguments.print::<Arguments>().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| program.fail(&error))
}

#[cfg(test)]
#[path = "../../../../tests/src/command_lines.rs"]
mod command_lines;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Arguments::command().debug_assert();
    }

    /// Pages once showed commands and flags that do not exist.
    #[test]
    fn every_command_line_on_a_page_is_one_that_hark_sim_takes() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let untrue = command_lines::untrue(&Arguments::command(), root, 8);
        assert!(untrue.is_empty(), "{}", untrue.join("\n"));
    }
}
