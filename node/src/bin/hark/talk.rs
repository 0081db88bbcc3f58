//! `hark talk`: a node in the foreground.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    control::Service,
    device::{InputSpec, OutputSpec},
    event::{Event, StampedEvent},
    node::{Node, NodeConfig},
    snapshot::TransmitMode,
    store::Home,
};

use crate::{
    HomeArguments,
    ctl::Mode,
    duration,
    person::{ask_passphrase, complain, home_path, open_home, say, shown_name},
    screen::{Screen, Wish},
    stop::StopSignal,
};

#[derive(clap::Args)]
pub(crate) struct TalkArguments {
    /// Join by this invite first
    ticket: Option<String>,
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// The name shown to others
    #[arg(long)]
    name: Option<String>,
    /// mic, mic:NAME, file:PATH, file:PATH?loop or silence
    #[arg(long, value_name = "SPEC", default_value = "mic")]
    input: InputSpec,
    /// speaker, speaker:NAME, file:PATH or null
    #[arg(long, value_name = "SPEC", default_value = "speaker")]
    output: OutputSpec,
    /// Listen here; repeatable [default: any address, any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// An address worth trying; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    peer: Vec<SocketAddr>,
    /// Do not look on the LAN
    #[arg(long)]
    no_mdns: bool,
    /// How the microphone opens
    #[arg(long, value_enum, default_value = "vad")]
    transmit: Mode,
    /// 5 ms frames, smallest buffers
    #[arg(long)]
    low_delay: bool,
    /// Stop by itself (30s, 2m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasting: Option<Duration>,
    /// Write events as JSON lines; - is standard output
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

impl From<Mode> for TransmitMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Open => Self::Open,
            Mode::Vad => Self::Vad,
            Mode::Ptt => Self::Ptt,
        }
    }
}

pub(crate) fn run(arguments: TalkArguments) -> anyhow::Result<()> {
    let ticket = arguments.ticket.as_deref().map(str::parse::<Ticket>).transpose()?;
    let home = open_home(&arguments.home)?;
    let to_stdout = arguments.events.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let journal = arguments.events.map(Journal::open).transpose()?;
    let until = arguments.lasting.map(|lasting| Instant::now() + lasting);
    let stop = StopSignal::listen()?;
    let node = Node::start(NodeConfig {
        home: home_path(&arguments.home)?,
        passphrase: ask_passphrase(),
        organisation: arguments.org,
        ticket,
        name: shown_name(arguments.name.as_deref(), &home)?,
        input: arguments.input,
        output: arguments.output,
        listen: arguments.listen,
        peers: arguments.peer,
        mdns: !arguments.no_mdns,
        transmit: arguments.transmit.into(),
        low_delay: arguments.low_delay,
    })?;
    let mut session =
        Session { events: node.subscribe(), journal, lines: !to_stdout, service: None, home };
    let on_screen = !to_stdout && io::stdout().is_terminal() && io::stdin().is_terminal();
    let reason = if on_screen {
        session.show(&node, &stop, until)?
    } else {
        session.print(&node, &stop, until)?
    };
    // Nobody is to steer a node that says goodbye.
    session.service = None;
    let ended = match reason {
        Some(reason) => node.stop(reason),
        None => node.wait(),
    };
    session.lines = session.lines && !on_screen;
    while let Ok(event) = session.events.try_recv() {
        session.handle(&event, None)?;
    }
    ended
}

/// One run of `talk`.
struct Session {
    events: Receiver<StampedEvent>,
    journal: Option<Journal>,
    /// Whether events are told as lines.
    lines: bool,
    service: Option<Service>,
    home: Home,
}

impl Session {
    /// Tells what happens as lines, until there is a reason to stop; none if the node has ended.
    fn print(
        &mut self,
        node: &Node,
        stop: &StopSignal,
        until: Option<Instant>,
    ) -> anyhow::Result<Option<&'static str>> {
        loop {
            if let Some(end) = end(node, stop, until) {
                return Ok(end);
            }
            match self.events.recv_timeout(TURN) {
                Ok(event) => self.handle(&event, Some(node))?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Draws on the terminal, until there is a reason to stop; none if the node has ended.
    fn show(
        &mut self,
        node: &Node,
        stop: &StopSignal,
        until: Option<Instant>,
    ) -> anyhow::Result<Option<&'static str>> {
        self.lines = false;
        let mut screen = Screen::open()?;
        loop {
            if let Some(end) = end(node, stop, until) {
                return Ok(end);
            }
            while let Ok(event) = self.events.try_recv() {
                self.handle(&event, Some(node))?;
            }
            let Some(snapshot) = node.snapshot() else {
                std::thread::sleep(TURN);
                continue;
            };
            screen.draw(&snapshot)?;
            for wish in screen.wishes(&snapshot, TURN)? {
                match wish {
                    Wish::Leave => return Ok(Some("quit")),
                    Wish::Command(command) => node.command(command),
                }
            }
        }
    }

    fn handle(&mut self, event: &StampedEvent, node: Option<&Node>) -> anyhow::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.write(event)?;
        }
        if let (Event::Ready { org, .. }, Some(node)) = (&event.event, node) {
            self.open_control(org, node);
        }
        if self.lines
            && let Some(line) = describe(&event.event)
        {
            say(&line);
        }
        Ok(())
    }

    /// A node that cannot be steered still talks.
    fn open_control(&mut self, organisation: &str, node: &Node) {
        let opened = (|| {
            let id = organisation.parse().context("an organisation's id")?;
            let store = self.home.find(id)?.context("its folder is gone")?;
            Service::start(Arc::new(node.handle()), store)
        })();
        match opened {
            Ok(service) => self.service = Some(service),
            Err(error) => complain(&format!("`hark ctl` will not work: {error:#}")),
        }
    }
}

/// Why the node is to stop now; `Some(None)` if it has ended by itself.
fn end(node: &Node, stop: &StopSignal, until: Option<Instant>) -> Option<Option<&'static str>> {
    if node.has_ended() {
        Some(None)
    } else if stop.is_asked() {
        Some(Some("signal"))
    } else if until.is_some_and(|until| Instant::now() >= until) {
        Some(Some("time"))
    } else {
        None
    }
}

/// The file of `--events`, each line of which is there as soon as it has happened.
struct Journal {
    path: PathBuf,
    out: Box<dyn Write>,
}

impl Journal {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(&path).with_context(|| path.display().to_string())?)
        };
        Ok(Self { path, out })
    }

    fn write(&mut self, event: &StampedEvent) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        self.out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.flush())
            .with_context(|| format!("events cannot be written: {}", self.path.display()))
    }
}

/// What a person is told of an event, if anything.
fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Ready { ticket, listen, .. } => {
            format!("ready at {}\nothers join by: hark talk {ticket}", listen.join(", "))
        }
        Event::PeerUp { name, path, address, .. } => {
            format!("{name} is here ({} {address})", path.as_str())
        }
        Event::PeerDown { name, reason, .. } => format!("{name} is gone ({reason})"),
        Event::TalkStarted { name, .. } => format!("{name} talks"),
        Event::TalkEnded { name, .. } => format!("{name} has spoken"),
        Event::AudioDevice { detail, .. } => detail.clone(),
        Event::Stopped { reason } => format!("stopped ({reason})"),
        _ => return None,
    })
}

/// How long a turn of the loop waits, and with it how often the screen is drawn.
const TURN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_json_as_soon_as_they_happen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        let mut journal = Journal::open(path.clone()).expect("opened");
        let event = Event::Stopped { reason: "time".to_owned() };
        let event = StampedEvent { at_us: 3, event };
        journal.write(&event).expect("written");
        let line = "{\"at_us\":3,\"event\":\"stopped\",\"reason\":\"time\"}\n";
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line);
        journal.write(&event).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line.repeat(2));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let Err(error) = Journal::open("/nowhere/events".into()) else { panic!("opened") };
        assert!(format!("{error:#}").starts_with("/nowhere/events: "), "{error:#}");
    }

    #[test]
    fn people_are_told_who_leaves_and_why_but_no_numbers() {
        let stopped = Event::Stopped { reason: "signal".to_owned() };
        assert_eq!(describe(&stopped).as_deref(), Some("stopped (signal)"));
        assert_eq!(describe(&Event::Stats { peers: Vec::new(), cpu_percent: 1.0 }), None);
    }
}
