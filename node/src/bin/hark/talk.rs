//! `hark talk`: a node with a person, or a script, in front of it.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    event::{Event, StampedEvent},
    node::{Node, NodeConfig},
};

use super::arguments::{self, Talk};

pub(crate) fn talk(arguments: Box<Talk>) -> anyhow::Result<()> {
    let ticket = arguments.ticket.as_deref().map(str::parse::<Ticket>).transpose()?;
    let events = arguments.events.as_deref().map(EventLog::open).transpose()?;
    let to_stdout = arguments.events.as_deref() == Some(Path::new("-"));
    let interrupted = on_signal()?;
    let started = Instant::now();
    let node = Node::start(NodeConfig {
        home: arguments.home.path()?,
        passphrase: Box::new(arguments::ask_passphrase),
        organisation: arguments.org,
        ticket,
        name: arguments.who.get(),
        input: arguments.input,
        output: arguments.output,
        listen: arguments.network.listen,
        peers: arguments.network.peer,
        mdns: !arguments.network.no_mdns,
        transmit: arguments.transmit.into(),
        low_delay: arguments.low_delay,
    })?;
    let until = arguments.lasting.map(|lasting| started + lasting);
    let lines = !to_stdout;
    follow(node, events, lines, until, &interrupted)
}

/// Passes events on until the node ends, or its time is over, or somebody interrupts.
fn follow(
    node: Node,
    mut log: Option<EventLog>,
    lines: bool,
    until: Option<Instant>,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    let events = node.subscribe();
    loop {
        match events.recv_timeout(POLL) {
            Ok(event) => report(&event, &mut log, lines),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let reason = if interrupted.load(Ordering::Relaxed) {
            Some("signal")
        } else {
            until.is_some_and(|until| Instant::now() >= until).then_some("time")
        };
        if let Some(reason) = reason {
            let outcome = node.stop(reason);
            drain(&events, &mut log, lines);
            return outcome;
        }
        if node.has_ended() {
            break;
        }
    }
    let outcome = node.wait();
    drain(&events, &mut log, lines);
    outcome
}

fn drain(events: &Receiver<StampedEvent>, log: &mut Option<EventLog>, lines: bool) {
    while let Ok(event) = events.try_recv() {
        report(&event, log, lines);
    }
}

fn report(event: &StampedEvent, log: &mut Option<EventLog>, lines: bool) {
    if let Some(log) = log {
        log.write(event);
    }
    if lines && let Some(line) = describe(&event.event) {
        // Whoever read the lines may be gone; the talk goes on.
        let _ = writeln!(io::stdout(), "{line}");
        let _ = io::stdout().flush();
    }
}

/// What a person wants to read of an event.
fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Ready { ticket, .. } => format!(
            "Others join with:\n  hark talk {ticket}\nThe ticket admits for 24 hours."
        ),
        Event::PeerUp { name, path, .. } => format!("{name} is here ({})", path.as_str()),
        Event::PeerDown { name, reason, .. } => format!("{name} is gone ({reason})"),
        Event::TalkStarted { name, .. } => format!("{name} talks"),
        Event::TalkEnded { name, .. } => format!("{name} has ended"),
        Event::AudioDevice { detail, .. } => detail.clone(),
        _ => return None,
    })
}

/// JSON lines in a file or on standard output.
struct EventLog {
    out: Box<dyn Write>,
    failed: bool,
}

impl EventLog {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::create(path)
                .with_context(|| format!("events cannot be written to {}", path.display()))?;
            Box::new(file)
        };
        Ok(Self { out, failed: false })
    }

    fn write(&mut self, event: &StampedEvent) {
        if self.failed {
            return;
        }
        let mut line = serde_json::to_string(event).expect("events are plain data");
        line.push('\n');
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
        if let Err(error) = written {
            self.failed = true;
            eprintln!("hark: events are not written any more: {error}");
        }
    }
}

/// A flag that SIGINT and SIGTERM, or Ctrl-C, raise.
fn on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let flag = Arc::clone(&raised);
    std::thread::Builder::new().name("hark-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            wait_for_signal().await;
            flag.store(true, Ordering::Relaxed);
            // A second one means it.
            wait_for_signal().await;
            std::process::exit(1);
        });
    })?;
    Ok(raised)
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

/// How soon a signal or the end of the time is noticed.
const POLL: Duration = Duration::from_millis(50);

#[allow(dead_code)]
fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
