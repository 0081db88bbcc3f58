//! The nodes of the demo.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_command_line::StopSignal;
use hark_commands::TicketRequest;
use hark_demo::{MEMBERS, NAMES, on_this_machine};
use hark_keys::Ticket;
use hark_node::{
    device::{InputSpec, OutputSpec},
    event::{Direction, Event, StampedEvent},
    measure::Recording,
    node::{Node, NodeConfig},
    snapshot::Snapshot,
    wav::WavWriter,
};

use super::{
    progress::Progress,
    report::{Heard, Report},
    script::Script,
};

pub(super) struct Squad {
    script: Script,
    members: Vec<Member>,
    /// When the first word is spoken.
    begin: Instant,
}

struct Member {
    node: Node,
    events: Receiver<StampedEvent>,
    /// What it says. `spoken_ns` is the time at which the first sample of it was taken.
    track: Vec<f32>,
    spoken_ns: Option<u64>,
    heard: PathBuf,
    heard_ns: Option<u64>,
}

impl Squad {
    /// Starts the nodes: the first founds a squad, the others join it by its ticket.
    pub(super) fn gather(
        script: Script,
        scratch: &Path,
        out: &Path,
        stop: &StopSignal,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let begin = Instant::now() + GREETING;
        let mut squad = Self { script, members: Vec::new(), begin };
        let mut ticket = None;
        for (index, name) in NAMES.into_iter().enumerate() {
            check(stop)?;
            match index {
                0 => progress.doing(&format!("{name} founds a squad")),
                _ => progress.doing(&format!("{name} joins by the ticket")),
            }
            let asked = Instant::now();
            // The first words wait for members who join late: those members speak them.
            squad.begin = squad.begin.max(asked + GREETING);
            let lead = squad.begin - asked;
            let track = squad.script.track(index, lead);
            let home = scratch.join(name);
            let input = scratch.join(format!("{name}.wav"));
            let mut writer = WavWriter::create(&input, 1)?;
            writer.push(&track).and_then(|()| writer.flush())?;
            let heard = out.join(format!("heard-by-{}.wav", name.to_lowercase()));
            let node = Node::start(NodeConfig {
                ticket: ticket.clone(),
                input: InputSpec::File { path: input, looped: false },
                output: OutputSpec::File { path: heard.clone(), stereo: false },
                ..on_this_machine(home, name)
            })?;
            let events = node.subscribe();
            let mut member = Member { node, events, track, spoken_ns: None, heard, heard_ns: None };
            if ticket.is_none() {
                ticket = Some(member.wait_for_ticket()?);
                progress.done(&format!("{name} founded a squad and handed out a ticket"));
            } else {
                let ms = asked.elapsed().as_millis();
                progress.done(&format!("{name} joined by the ticket within {ms} ms"));
            }
            squad.members.push(member);
        }
        Ok(squad)
    }

    /// Lets the members talk until the script ends.
    pub(super) fn talk(&mut self, stop: &StopSignal, progress: &Progress) -> anyhow::Result<()> {
        progress.doing("everybody connects to everybody");
        let all_here = |snapshot: &Snapshot| {
            snapshot.peers.iter().filter(|peer| peer.reachable).count() == MEMBERS - 1
        };
        let mut connected = false;
        let mut last: &[usize] = &[];
        while self.begin.elapsed() < self.script.talking() + LAST_WORDS {
            check(stop)?;
            for (member, name) in self.members.iter_mut().zip(NAMES) {
                member.take_events();
                anyhow::ensure!(!member.node.has_ended(), "{name} has stopped unexpectedly");
            }
            let snapshots = self.snapshots();
            if !connected && snapshots.len() == MEMBERS && snapshots.iter().all(|s| all_here(s)) {
                connected = true;
                progress.done("all are connected to all, each pair by a link of its own");
            }
            if let Some(elapsed) = Instant::now().checked_duration_since(self.begin) {
                let speakers = self.script.speakers(elapsed);
                if !speakers.is_empty() {
                    let turn = turn(speakers);
                    let now = match listeners(&snapshots, speakers) {
                        0 => turn.clone(),
                        count => format!("{turn}, heard by {count}"),
                    };
                    progress.talking(elapsed, &now, (speakers != last).then_some(&turn));
                }
                last = speakers;
            }
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// Ends the nodes, and measures how each one heard each of the others.
    pub(super) fn finish(mut self) -> anyhow::Result<Report> {
        self.members.iter_mut().for_each(Member::take_events);
        let snapshots = self.snapshots();
        let mut spoken = Vec::new();
        let mut heard = Vec::new();
        for member in self.members {
            member.node.stop("quit")?;
            let starts = member.spoken_ns.zip(member.heard_ns);
            let (spoken_ns, heard_ns) = starts.context("a file of the demo was never opened")?;
            spoken.push(Recording { samples: member.track, start_ns: spoken_ns });
            let recording = Recording::read(&member.heard, heard_ns)
                .with_context(|| member.heard.display().to_string())?;
            heard.push((member.heard, recording));
        }
        let listeners = heard.iter().zip(NAMES).map(|((path, recording), listener)| {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.name == listener);
            let talkers = spoken.iter().zip(NAMES).filter(|(_, talker)| *talker != listener);
            let heard = talkers.map(|(spoken, talker)| {
                let peer = snapshot
                    .and_then(|snapshot| snapshot.peers.iter().find(|peer| peer.name == talker));
                Heard::new(talker, spoken, recording, peer.map(|peer| &peer.stats))
            });
            (listener, path.clone(), heard.collect())
        });
        Ok(Report::new(listeners.collect()))
    }

    fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.members.iter().filter_map(|member| member.node.snapshot()).collect()
    }
}

impl Member {
    fn wait_for_ticket(&mut self) -> anyhow::Result<Ticket> {
        let until = Instant::now() + READY;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.note(&event.event);
                    if let Event::Ready { .. } = event.event {
                        let node = self.node.handles().next().context("it runs")?;
                        return node.ticket(TicketRequest::default()).map_err(anyhow::Error::msg);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("the first node did not start listening")
                }
            }
        }
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.note(&event.event);
        }
    }

    fn note(&mut self, event: &Event) {
        if let Event::AudioStarted { direction, monotonic_ns } = *event {
            match direction {
                Direction::Input => self.spoken_ns = Some(monotonic_ns),
                Direction::Output => self.heard_ns = Some(monotonic_ns),
            }
        }
    }
}

fn turn(speakers: &[usize]) -> String {
    let names: Vec<_> = speakers.iter().map(|index| NAMES[*index]).collect();
    match names.as_slice() {
        [name] => format!("{name} speaks"),
        names => format!("{} speak at once", names.join(" and ")),
    }
}

/// How many listeners hear one of the speakers now.
fn listeners(snapshots: &[Arc<Snapshot>], speakers: &[usize]) -> usize {
    let spoken_by = |name: &str| speakers.iter().any(|index| NAMES[*index] == name);
    let hears = |snapshot: &&Arc<Snapshot>| {
        snapshot.peers.iter().any(|peer| peer.talking && spoken_by(&peer.name))
    };
    snapshots.iter().filter(hears).count()
}

fn check(stop: &StopSignal) -> anyhow::Result<()> {
    anyhow::ensure!(!stop.is_asked(), "the demo was stopped before its end");
    Ok(())
}

/// From the start of the last node to the first word: enough time to connect to all others.
const GREETING: Duration = Duration::from_millis(1_500);
/// How long the demo waits after the last word for sound that is still on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the first node may take to start listening.
const READY: Duration = Duration::from_secs(10);
/// How often the demo looks at its nodes.
const TURN: Duration = Duration::from_millis(50);
