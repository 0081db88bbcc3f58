//! `hark device`: further machines of the same person.

use std::time::Duration;

use anyhow::Context;
use hark_command_line::duration;
use hark_commands::TicketRequest;
use serde_json::json;

use crate::{
    HomeArguments,
    membership::{ask_running, check_lasting},
    person::{choose, open_home, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct DeviceArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME", global = true)]
    org: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(clap::Subcommand)]
enum DeviceCommand {
    /// Print a ticket by which one further machine joins as you, with your roles
    Invite {
        /// How long it is good for
        /// [default: 15m, or less where the charter's policy says so]
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
    },
}

pub(crate) fn run(arguments: DeviceArguments) -> anyhow::Result<()> {
    let DeviceCommand::Invite { expires } = arguments.command;
    check_lasting(expires)?;
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let request = TicketRequest { lasting: expires, device: true, ..TicketRequest::default() };
    let ticket = ask_running(&store, &request)?
        .context("this device lets the other one in: start `hark talk` here first")?;
    if arguments.json {
        say_json(&json!({
            "ticket": ticket.to_string(),
            "expires": ticket.invite().expires.as_secs(),
        }));
    } else {
        say(
            "Run this on your other machine while `hark talk` runs on this one. It makes one machine",
        );
        say("another device of yours, so show it to nobody else:\n");
        say(&format!("hark join {ticket}"));
    }
    Ok(())
}
