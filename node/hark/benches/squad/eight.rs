//! A squad of eight: load, memory, concealment, and the killing of a member.

use std::{path::Path, time::Duration};

use crate::{
    largest, mean,
    node::{Frames, Node, Place, ms_between, unix_us},
    quantile::median,
    speech,
    table::Table,
};

pub(crate) fn measure(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    let mut squad = Squad::gather(folder)?;
    squad.settle(8);

    let silent = squad.watch()?;
    table.held("silent squad of eight: a node", largest(&silent.cpu), CORE, 1.0);

    squad.speak(0..1)?;
    let one = squad.watch()?;
    table.held("eight, one talks: the talker", one.cpu[0], CORE, 4.0);
    table.held("eight, one talks: a listener", largest(&one.cpu[1..]), CORE, 2.0);
    table.shown("eight, one talks: listeners' mean", mean(&one.cpu[1..]), CORE, "");

    squad.speak(1..TALKERS)?;
    let three = squad.watch()?;
    table.held("eight, three talk: all together", three.cpu.iter().sum(), CORE, 60.0);
    let concealed = three.frames.concealed_percent();
    table.held("eight, three talk: concealed", concealed, "% of frames", 0.5);
    let pairs = squad.pairs_heard()? as f64;
    table.shown("eight, three talk: talker heard by listener", pairs, "pairs", "all are 21");

    let rss = squad.memory("VmRSS")?;
    table.held("resident memory of a node", largest(&rss), "MiB", 80.0);
    table.shown("resident memory at most", largest(&squad.memory("VmHWM")?), "MiB", "");

    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let (noticed, heard) = squad.kill_and_restart()?;
        gone.extend(noticed);
        back.extend(heard);
    }
    table.held("killed: shown unreachable, slowest", largest(&gone), "ms", 5_000.0);
    table.shown("killed: shown unreachable, median", median(&gone), "ms", "");
    table.held("restarted: heard again, slowest", largest(&back), "ms", 2_000.0);
    table.shown("restarted: heard again, median", median(&back), "ms", "");
    Ok(())
}

struct Squad {
    folder: std::path::PathBuf,
    nodes: Vec<Node>,
}

/// What a period has cost: percent of a core for each node, and the frames of all nodes.
struct Watched {
    cpu: Vec<f64>,
    frames: Frames,
}

impl Squad {
    /// Starts eight nodes and waits until all know each other. The first three have speech as
    /// input, but wait for their push-to-talk key, which is never pressed.
    fn gather(folder: &Path) -> anyhow::Result<Self> {
        let mut squad = Self { folder: folder.to_owned(), nodes: Vec::new() };
        let mut ticket = None;
        for place in 0..NAMES.len() {
            if place < TALKERS {
                speech::write(folder, &format!("{place}.wav"), 30.0 + 3.7 * place as f64)?;
            }
            let mut node = squad.start(place, ticket.as_deref(), "ptt")?;
            if ticket.is_none() {
                ticket = Some(node.ticket()?);
            }
            squad.nodes.push(node);
        }
        for (node, own) in squad.nodes.iter_mut().zip(NAMES) {
            for other in NAMES.iter().filter(|name| **name != own) {
                node.told_of("peer_up", other, 0)?;
            }
        }
        Ok(squad)
    }

    fn start(&self, place: usize, ticket: Option<&str>, transmit: &str) -> anyhow::Result<Node> {
        let input = if place < TALKERS {
            format!("file:{}?loop --transmit {transmit}", self.file(place))
        } else {
            "silence".to_owned()
        };
        let flags = format!("--listen 127.0.0.1:0 --no-mdns --output null --input {input}");
        Node::start(&Place::default(), &self.folder, NAMES[place], ticket, &flags)
    }

    fn file(&self, place: usize) -> String {
        self.folder.join(format!("{place}.wav")).display().to_string()
    }

    fn settle(&self, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    /// Makes these nodes talk by voice from now on, and waits until the others have adapted.
    fn speak(&mut self, places: std::ops::Range<usize>) -> anyhow::Result<()> {
        for place in places {
            self.nodes[place].control("transmit vad")?;
        }
        self.settle(3);
        Ok(())
    }

    fn watch(&mut self) -> anyhow::Result<Watched> {
        let frames_before = self.frames()?;
        let before = self.cpu()?;
        let since = unix_us();
        std::thread::sleep(WATCH);
        let after = self.cpu()?;
        let passed = ms_between(since, unix_us()) / 1_000.0;
        let percent = |(after, before): (&f64, &f64)| 100.0 * (after - before) / passed;
        let frames = self.frames()?.since(frames_before);
        Ok(Watched { cpu: after.iter().zip(&before).map(percent).collect(), frames })
    }

    fn cpu(&self) -> anyhow::Result<Vec<f64>> {
        self.nodes.iter().map(|node| Ok(node.cpu()?.as_secs_f64())).collect()
    }

    fn memory(&self, which: &str) -> anyhow::Result<Vec<f64>> {
        self.nodes.iter().map(|node| node.memory(which)).collect()
    }

    fn frames(&mut self) -> anyhow::Result<Frames> {
        let mut all = Frames::default();
        for node in &mut self.nodes {
            let frames = node.frames()?;
            all.received += frames.received;
            all.concealed += frames.concealed;
            all.recovered += frames.recovered;
        }
        Ok(all)
    }

    /// The number of pairs of a talker and another node in which that node heard the talker.
    fn pairs_heard(&mut self) -> anyhow::Result<usize> {
        let mut heard = 0;
        for (place, node) in self.nodes.iter_mut().enumerate() {
            for talker in (0..TALKERS).filter(|talker| *talker != place) {
                heard += usize::from(node.told_of("talk_started", NAMES[talker], 0).is_ok());
            }
        }
        Ok(heard)
    }

    /// Kills the third talker and starts it again. Returns the milliseconds until each other node
    /// reported it unreachable, and the milliseconds until each heard it again.
    fn kill_and_restart(&mut self) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let place = TALKERS - 1;
        let killed = self.nodes.remove(place).kill()?;
        let mut gone = Vec::new();
        for node in &mut self.nodes {
            let at = node.told_of("peer_down", NAMES[place], killed)?;
            gone.push(ms_between(killed, at));
        }
        let node = self.start(place, None, "vad")?;
        let started = node.started_us;
        let mut back = Vec::new();
        for other in &mut self.nodes {
            let at = other.told_of("talk_started", NAMES[place], started)?;
            back.push(ms_between(started, at));
        }
        self.nodes.insert(place, node);
        self.settle(2);
        Ok((gone, back))
    }
}

const NAMES: [&str; 8] =
    ["Kestrel", "Magpie", "Heron", "Osprey", "Plover", "Wren", "Dunlin", "Curlew"];

/// How many of the nodes talk: the first ones.
const TALKERS: usize = 3;

/// How long each measurement of the load lasts.
const WATCH: Duration = Duration::from_secs(20);

/// How often a member is killed.
const KILLS: usize = 3;

const CORE: &str = "% of a core";
