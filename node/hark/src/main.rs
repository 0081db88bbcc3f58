//! The program `hark`: a thin shell around a node.

#![forbid(unsafe_code)]

mod addresses;
mod charter;
mod ctl;
mod demo;
mod device;
mod doctor;
mod leaving;
mod log;
mod membership;
mod outcome;
mod person;
mod platform;
mod recover;
mod relay;
mod screen;
mod summary;
mod talk;
mod ticket;
mod verify;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hark_command_line::{CompletionsArguments, ErrorCode, ManArguments, Program};

/// Voice for groups that play together, with no server required.
#[derive(Parser)]
#[command(name = "hark", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A squad on this machine: real nodes, real sockets, recorded speech; prints a table, writes
    /// what each heard
    Demo(demo::DemoArguments),
    /// This device's identity and verification words; made on first use
    Id(membership::IdArguments),
    /// Found an organisation or squad, and print its first invite ticket
    New(membership::NewArguments),
    /// Print an invite ticket
    Invite(membership::InviteArguments),
    /// Join an organisation by its ticket
    Join(membership::JoinArguments),
    /// Your other machines: bring one in as yourself
    Device(device::DeviceArguments),
    /// Be yourself again on a new machine, by the 24 words of your recovery key
    Recover(recover::RecoverArguments),
    /// The 24 words that bring your membership back, where they were not printed yet
    Recovery(recover::RecoveryArguments),
    /// What a ticket says
    Ticket(ticket::TicketArguments),
    /// End your own membership, and remove the organisation from this device
    Leave(leaving::LeaveArguments),
    /// Remove an organisation from this device; others are not told
    Forget(leaving::ForgetArguments),
    /// Talk until stopped; join first if a ticket is given
    Talk(Box<talk::TalkArguments>),
    /// Steer a running node
    Ctl(ctl::CtlArguments),
    /// Who came, went, talked, was muted or given a role, and when
    Log(log::LogArguments),
    /// Show the words of a member's device, and remember that you have compared them
    Verify(verify::VerifyArguments),
    /// Read and change the organisation's charter
    Charter(Box<charter::CharterArguments>),
    /// Relay for others on this device
    Relay(relay::RelayArguments),
    /// Check sound devices, network, clock and home, and say what to do about each
    Doctor(doctor::DoctorArguments),
    /// Print what has a shell complete commands of hark
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(ManArguments),
}

/// Where the state of this device is.
#[derive(clap::Args)]
struct HomeArguments {
    /// State of this device [default: the platform's data directory]
    #[arg(long, value_name = "DIR", env = "HARK_HOME", hide_env_values = true, global = true)]
    home: Option<PathBuf>,
}

fn main() -> ExitCode {
    let program = Program::new("hark");
    std::panic::set_hook(Box::new(move |panic| {
        screen::restore();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let error = format!("internal error at {place}: please report it");
        program.complain(ErrorCode::Internal, &error);
    }));
    start_log();
    let outcome = match program.parse::<Arguments>().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Id(arguments) => membership::id(arguments),
        Command::New(arguments) => membership::new(arguments),
        Command::Invite(arguments) => membership::invite(arguments),
        Command::Join(arguments) => membership::join(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Recover(arguments) => recover::run(arguments),
        Command::Recovery(arguments) => recover::words(arguments),
        Command::Ticket(arguments) => ticket::run(arguments),
        Command::Leave(arguments) => leaving::leave(arguments),
        Command::Forget(arguments) => leaving::forget(arguments),
        Command::Talk(arguments) => talk::run(*arguments),
        Command::Ctl(arguments) => ctl::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Charter(arguments) => charter::run(*arguments),
        Command::Relay(arguments) => relay::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completions(arguments) => {
            arguments.print::<Arguments>();
            Ok(())
        }
        Command::Man(arguments) => arguments.print::<Arguments>(),
    };
    outcome.map_or_else(|error| program.fail(&error), |()| ExitCode::SUCCESS)
}

/// Logs to standard error at the levels that `HARK_LOG` names; without it, errors only.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HARK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
#[path = "../../../tests/src/command_lines.rs"]
mod command_lines;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_commands_fit_together() {
        Arguments::command().debug_assert();
        for good in [
            "hark talk",
            "hark talk hark1abc --input file:a.wav?loop --output null --for 30s --events -",
            "hark talk --listen 127.0.0.1:0 --listen [::1]:0 --peer 192.0.2.1:4000 --no-mdns",
            "hark talk --peer squad.example.org --peer relay.example.org:4000 --no-port-mapping",
            "hark doctor --peer /dnsaddr/squad.example.org --json",
            "hark invite --ask --uses 1",
            "hark ticket list --json",
            "hark ticket revoke abcdef",
            "hark ticket revoke all --of everyone --dry-run",
            "hark ctl waiting --json",
            "hark ctl admit Wren#ickswr",
            "hark invite --role Pilot --uses 3 --expires 24h --org Kestrel --json",
            "hark device invite --expires 5m --json",
            "hark ctl volume Bob 0.5",
            "hark ctl ptt down",
            "hark ctl away",
            "hark log --since 2h --of Wren --net Flight --json --org Kestrel",
            "hark log off",
            "hark verify Sable#ickswr --confirm --org Kestrel",
            "hark ctl net Command --volume 1.5 --pan -0.3 --mute true --priority 5",
            "hark ctl key medic --role medic --whisper Wren --priority",
            "hark ctl profile",
            "hark ctl profile copy pilot",
            "hark talk --profile pilot",
            "hark charter channel add Alpha --under Flight --floor 1 --json",
            "hark charter rule role:pilot --at Flight --allow speak,whisper --deny priority",
            "hark demo",
            "hark doctor --home there --json",
            "hark demo --seconds 9 --out there --json",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn wrong_usage_has_its_own_exit_status() {
        for bad in [
            "hark",
            "hark dance",
            "hark talk --transmit loud",
            "hark talk --input tape:3",
            "hark talk --for ever",
            "hark talk --profile ../pilot",
            "hark ctl profile use",
            "hark talk --listen nowhere",
            "hark invite --uses 256",
            "hark ctl ptt sideways",
            "hark charter channel move Alpha",
            "hark charter rule everyone --allow shout",
            "hark charter kick",
            "hark new",
            "hark ticket revoke",
            "hark ctl admit",
            "hark demo --seconds 4",
        ] {
            let Err(error) = parse(bad) else { panic!("{bad}") };
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }

    /// The help shows nothing that does not work yet.
    #[test]
    fn help_shows_only_what_is_there() {
        let mut command = Arguments::command();
        let mut help = command.render_long_help().to_string();
        for inner in command.get_subcommands_mut() {
            help += &inner.render_long_help().to_string();
        }
        assert!(!help.contains("--proximity"));
    }

    /// Pages showed commands and flags that did not exist.
    #[test]
    fn every_command_line_on_a_page_is_one_that_hark_takes() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let untrue = command_lines::untrue(&Arguments::command(), root, 120);
        assert!(untrue.is_empty(), "{}", untrue.join("\n"));
    }
}
