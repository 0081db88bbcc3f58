//! Joins a squad, plays a WAV file to it once, and leaves: a node without a person.
//!
//! ```sh
//! cargo run -p hark-examples --bin announce -- TICKET FILE.wav
//! ```
//!
//! It forgets the squad afterwards, so each run needs a ticket that still admits.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    device::InputSpec,
    node::{Node, NodeConfig},
    snapshot::TransmitMode,
};
use hark_voice::SAMPLE_RATE;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(ticket), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: announce TICKET FILE.wav");
    };
    let file = PathBuf::from(file);
    let ticket: Ticket = Ticket::find(ticket.to_str().context("a ticket is plain text")?)?;
    let home = std::env::temp_dir().join(format!("hark-announce-{}", std::process::id()));
    let samples = hark_node::wav::load(&file).with_context(|| file.display().to_string())?;
    let length = Duration::from_secs(samples.len() as u64) / SAMPLE_RATE;
    let node = Node::start(NodeConfig {
        ticket: Some(ticket),
        input: InputSpec::File { path: file, looped: false },
        transmit: Some(TransmitMode::Open),
        ..NodeConfig::silent(home.clone(), "Announcer")
    })?;
    // The file begins to play when the node starts. Its end gets half a second to be heard
    // everywhere.
    std::thread::sleep(length + Duration::from_millis(500));
    node.stop("said")?;
    std::fs::remove_dir_all(home)?;
    Ok(())
}
