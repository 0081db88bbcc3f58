//! `hark-sim`: plays network scenarios with the real node, in virtual time, from a seed.

mod interpose;
mod play;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

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
    /// The scenarios that come with Hark.
    List,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The scenario, a TOML file, or the name of one that `hark-sim list` shows.
    scenario: PathBuf,
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every packet and event here, a line each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a page to look at, what everyone heard, and the packets for Wireshark.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write all that was measured to standard output as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(arguments) => play::run(&arguments),
        Command::List => play::list(),
    }
}
