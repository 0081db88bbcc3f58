//! `hark device`: further machines of the same person.

use std::time::Duration;

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    admission::relays_of,
    clock::Clock,
    duration,
    random::SystemRandom,
    store::{Home, OrganisationStore},
};
use serde_json::json;

use crate::{
    HomeArguments,
    membership::ask_running,
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
        #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "15m")]
        expires: Duration,
    },
}

pub(crate) fn run(arguments: DeviceArguments) -> anyhow::Result<()> {
    let DeviceCommand::Invite { expires } = arguments.command;
    anyhow::ensure!(expires >= Duration::from_secs(1), "a ticket lasts at least 1s");
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let ticket = issue(&home, &store, expires)?;
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

fn issue(home: &Home, store: &OrganisationStore, expires: Duration) -> anyhow::Result<Ticket> {
    let (key, charter, member) = (home.key(store)?, store.charter(), store.member());
    let devices = charter.devices_of(member);
    anyhow::ensure!(
        devices.contains(&key.id()),
        "this device does not belong to {} any more",
        charter.name()
    );
    anyhow::ensure!(
        devices.len() < hark_mesh::charter::DEVICES_MAX,
        "you have {} devices, which is the most: `hark charter device retire` ends one",
        devices.len()
    );
    let running = ask_running(store, 1, expires, None)?
        .context("this device lets the other one in: start `hark talk` here first")?;
    // It knows where it can be reached.
    let addresses = running
        .doors
        .into_iter()
        .filter(|door| door.device == key.id())
        .flat_map(|door| door.addresses);
    let ticket = Ticket::for_device(
        &key,
        store.id(),
        charter.name(),
        Clock.unix() + expires,
        member,
        addresses.collect(),
        &SystemRandom,
    );
    Ok(ticket.led_by(relays_of(charter)))
}
