//! A second node joins on the same machine by ticket: the time from its start until both hear each
//! other.

use std::path::Path;

use crate::{
    largest,
    node::{Node, Place, ms_between},
    quantile::median,
    speech,
    table::Table,
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let mut meetings = Meetings::default();
    for round in 0..ROUNDS {
        let folder = folder.join(round.to_string());
        std::fs::create_dir(&folder)?;
        let places = [Place::default(), Place::default()];
        meetings.found(&places, &folder, "--listen 127.0.0.1:0 --no-mdns")?;
    }
    meetings.tell(table, "by ticket, loopback", 500.0);
    Ok(())
}

/// How long it took from the start of the second node until both were connected, and until both
/// heard each other, in milliseconds.
#[derive(Default)]
pub(crate) struct Meetings {
    connected: Vec<f64>,
    heard: Vec<f64>,
}

impl Meetings {
    /// The first node founds a squad, the second joins by its ticket, and both talk. Returns both,
    /// still running.
    pub(crate) fn found(
        &mut self,
        places: &[Place; 2],
        folder: &Path,
        flags: &str,
    ) -> anyhow::Result<[Node; 2]> {
        let input = speech::write(folder, "speech.wav", 20.0)?;
        let flags = format!("{flags} --output null --input file:{}?loop", input.display());
        let mut first = Node::start(&places[0], folder, NAMES[0], None, &flags)?;
        let ticket = first.ticket()?;
        let second = Node::start(&places[1], folder, NAMES[1], Some(&ticket), &flags)?;
        let mut both = [first, second];
        self.note(&mut both)?;
        Ok(both)
    }

    /// Starts both nodes again. They know each other already.
    pub(crate) fn again(
        &mut self,
        places: &[Place; 2],
        folder: &Path,
        flags: &str,
    ) -> anyhow::Result<[Node; 2]> {
        let input = folder.join("speech.wav");
        let flags = format!("{flags} --output null --input file:{}?loop", input.display());
        let mut first = Node::start(&places[0], folder, NAMES[0], None, &flags)?;
        first.ready()?;
        let second = Node::start(&places[1], folder, NAMES[1], None, &flags)?;
        let mut both = [first, second];
        self.note(&mut both)?;
        Ok(both)
    }

    /// Adds rows with the results. The slowest must not take longer than `bar` milliseconds.
    pub(crate) fn tell(&self, table: &mut Table, how: &str, bar: f64) {
        table.held(&format!("{how}: connected, slowest"), largest(&self.connected), "ms", bar);
        table.shown(&format!("{how}: connected, median"), median(&self.connected), "ms", "");
        table.held(&format!("{how}: both heard, slowest"), largest(&self.heard), "ms", bar);
        table.shown(&format!("{how}: both heard, median"), median(&self.heard), "ms", "");
    }

    fn note(&mut self, both: &mut [Node; 2]) -> anyhow::Result<()> {
        let started = both[1].started_us;
        for (node, other) in both.iter_mut().zip(NAMES.iter().rev()) {
            let connected = node.told_of("peer_up", other, started)?;
            let heard = node.told_of("talk_started", other, started)?;
            self.connected.push(ms_between(started, connected));
            self.heard.push(ms_between(started, heard));
            // A node can be steered only once it is ready.
            node.ready()?;
        }
        Ok(())
    }
}

const NAMES: [&str; 2] = ["Kestrel", "Magpie"];

/// How many squads are founded.
const ROUNDS: usize = 10;
