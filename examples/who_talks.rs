//! Prints who talks in a running node, as an overlay for a game would show it.
//!
//! Start `hark talk` in one terminal, then in another:
//!
//! ```sh
//! cargo run -p hark-examples --bin who-talks
//! ```
//!
//! With an argument, it looks in that home instead of the platform's data folder.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use hark_node::{
    control::{Client, ControlError},
    store::Home,
};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).or_else(Home::default_path);
    // Nothing that a passphrase protects is read.
    let home = Home::open(&path.context("which home?")?, Box::new(|| None))?;
    let store = home.choose(None)?.context("this device belongs to no organisation")?;
    let description = store.control()?.context("no node runs here: start `hark talk`")?;
    let mut client = Client::connect(&description)?;
    client.request(json!({"command": "subscribe"}))?;

    let mut talking = BTreeSet::new();
    loop {
        let event = match client.next_event() {
            Ok(event) => event,
            Err(ControlError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let name = event["name"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("talk_started") => talking.insert(name),
            Some("talk_ended") => talking.remove(&name),
            _ => continue,
        };
        let names: Vec<_> = talking.iter().map(String::as_str).collect();
        println!("{}", if names.is_empty() { "(silence)".to_owned() } else { names.join(", ") });
    }
}
