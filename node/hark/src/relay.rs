//! `hark relay …`: this device as a relay for others.

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use hark_node::control::{Client, ControlError};
use serde_json::json;

use crate::{
    HomeArguments,
    person::{choose, open_home, say},
};

#[derive(clap::Args)]
pub(crate) struct RelayArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    #[command(subcommand)]
    request: Request,
}

#[derive(Subcommand)]
enum Request {
    /// Forward the others' sealed voice where they are many, or cannot reach each other
    Volunteer {
        #[arg(value_enum)]
        state: State,
        /// Send at most so much for others, in kbit/s [default: any rate]
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        kbps: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    On,
    Off,
}

pub(crate) fn run(arguments: RelayArguments) -> anyhow::Result<()> {
    let Request::Volunteer { state, kbps } = arguments.request;
    let on = state == State::On;
    let home = open_home(&arguments.home)?;
    let store = choose(&home, arguments.org.as_deref())?;
    let running = match store.control()?.map(|description| Client::connect(&description)) {
        Some(Ok(client)) => Some(client),
        None | Some(Err(ControlError::NotRunning)) => None,
        Some(Err(error)) => return Err(error.into()),
    };
    match running {
        Some(mut client) => {
            client.request(json!({"command": "volunteer", "on": on, "kbps": kbps}))?;
        }
        None => store.keep_volunteer(on.then_some(kbps)).context("cannot keep that")?,
    }
    say(if on {
        "this device relays for the others while it runs"
    } else {
        "this device relays for nobody"
    });
    Ok(())
}
