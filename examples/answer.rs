//! A bot that answers: each time somebody has spoken, it plays a WAV file.
//!
//! ```sh
//! cargo run -p hark-examples --bin answer -- TICKET FILE.wav
//! ```
//!
//! It runs until its process is ended. It forgets the squad afterwards, so each run needs a ticket
//! that still admits.

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    device::InputSpec,
    event::Event,
    node::{Node, NodeConfig},
    snapshot::Command,
};
use hark_voice::SAMPLE_RATE;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(ticket), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: answer TICKET FILE.wav");
    };
    let file = PathBuf::from(file);
    let samples = hark_node::wav::load(&file).with_context(|| file.display().to_string())?;
    let length = Duration::from_secs(samples.len() as u64) / SAMPLE_RATE;
    anyhow::ensure!(!length.is_zero(), "{} is empty", file.display());
    let home = std::env::temp_dir().join(format!("hark-answer-{}", std::process::id()));
    let node = Node::start(NodeConfig {
        ticket: Some(Ticket::find(ticket.to_str().context("a ticket is plain text")?)?),
        // The file plays in a loop, as if somebody said it all the time into a closed microphone.
        input: InputSpec::File { path: file, looped: true },
        ..NodeConfig::silent(home.clone(), "Echo")
    })?;
    let begun = Instant::now();
    let key = |down| Command::Ptt { down, key: None, to: None, for_secs: None, tail_ms: None };
    for stamped in node.subscribe() {
        let Event::TalkEnded { name, .. } = stamped.event else { continue };
        println!("{name} has spoken; Echo answers.");
        // The microphone opens when the file begins again, so that the answer starts with its first
        // word.
        let passed = begun.elapsed().as_secs_f64() % length.as_secs_f64();
        sleep(length.saturating_sub(Duration::from_secs_f64(passed)));
        for down in [true, false] {
            node.command(key(down)).map_err(anyhow::Error::msg)?;
            if down {
                sleep(length);
            }
        }
    }
    node.wait()?;
    std::fs::remove_dir_all(home)?;
    Ok(())
}
