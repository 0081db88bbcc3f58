//! An operation in which members talk on nets until it is dropped.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_commands::{How, InputFile, NamedRequest, PresetRequest, Request, TalkTo, TicketRequest};
use hark_keys::Ticket;
use hark_node::{
    device::InputSpec,
    launch::found,
    node::{Node, NodeConfig, NodeHandle},
    snapshot::Command,
    store::Home,
    wav::WavWriter,
};
use hark_voice::SAMPLE_RATE;
use tempfile::TempDir;

use crate::{MEMBERS, NAMES, on_this_machine, scratch, voices};

/// Members of an operation, each of whom talks on one net, in turns that never quite repeat. They
/// leave when it is dropped.
pub struct Speakers {
    nodes: Vec<Node>,
    /// Goes after the nodes.
    scratch: TempDir,
}

impl Speakers {
    /// Founds an operation with its nets, and has the members join it. Blocks until all have. The
    /// ticket lets another member in.
    pub fn gather() -> anyhow::Result<(Self, Ticket)> {
        let mut speakers = Self { nodes: Vec::new(), scratch: scratch()? };
        let mut ticket = None;
        for (((name, voice), net), pause) in NAMES.iter().zip(voices()?).zip(NETS).zip(PAUSES) {
            let home = speakers.home(name);
            let input = speakers.scratch.path().join(format!("{name}.wav"));
            let track = speech_and(pause, &voice);
            let mut writer = WavWriter::create(&input, 1)?;
            writer.push(&track).and_then(|()| writer.flush())?;
            if ticket.is_none() {
                found(&Home::open(&home, Box::new(|| None))?, OPERATION, None)?;
            }
            let node = Node::start(NodeConfig {
                ticket: ticket.clone(),
                input: InputSpec::File { path: input, looped: true },
                ..on_this_machine(home, name)
            })?;
            let handle = node.handles().next().context("a node has an organisation")?;
            if ticket.is_none() {
                set_up(&handle)?;
                ticket = Some(handle.ticket(TicketRequest::default())?);
            }
            talk_to(&handle, net)?;
            speakers.nodes.push(node);
        }
        Ok((speakers, ticket.context("somebody has founded")?))
    }

    /// The place for the home of one more member. It goes with the speakers.
    pub fn home(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// Brings the nets, and has everybody hear them.
fn set_up(founder: &NodeHandle) -> anyhow::Result<()> {
    let file = InputFile { path: "operation.toml".to_owned(), content: NETS_FILE.into() };
    let apply = Request::Apply { file, prune: true, how: How::default() };
    founder.charter(apply)?;
    let load = NamedRequest { name: "patrol".to_owned(), how: How::default() };
    founder.charter(Request::Preset(PresetRequest::Load(load)))?;
    Ok(())
}

/// Has a member talk to a net, of which a newcomer hears soon.
fn talk_to(member: &NodeHandle, net: &str) -> anyhow::Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let to = TalkTo::nets(vec![net.to_owned()]);
        match member.command(Command::TalkTo { to, keep: true }) {
            Err(_) if Instant::now() < until => std::thread::sleep(TURN),
            done => return Ok(done.map(drop)?),
        }
    }
}

/// The words, after silence of this many seconds.
fn speech_and(pause: f32, words: &[f32]) -> Vec<f32> {
    let mut track = vec![0.0; (pause * SAMPLE_RATE as f32) as usize];
    track.extend_from_slice(words);
    track
}

const OPERATION: &str = "Meridian Watch (demo)";
const NETS_FILE: &str = include_str!("operation.toml");
/// Whom each member talks to, in the order of [`NAMES`].
const NETS: [&str; MEMBERS] = ["Command", "Flight", "Flight", "Alpha", "Ground"];
/// The silence before each member's words, in seconds. Together with words of 4 to 7 s, the turns
/// of two members shift against each other.
const PAUSES: [f32; MEMBERS] = [6.0, 2.5, 11.0, 4.5, 8.0];
/// How long a newcomer may take to hear of the nets.
const SOON: Duration = Duration::from_secs(10);
/// How often it is asked whether it has.
const TURN: Duration = Duration::from_millis(20);
