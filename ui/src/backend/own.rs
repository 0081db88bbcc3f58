//! A node in the process of the window.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hark_command_line::StopSignal;
use hark_node::{
    event::{Event, StampedEvent},
    node::{Node, NodeConfig, NodeHandle},
    records::{EventFile, Records},
    snapshot::{Command, TalkTo, TransmitMode},
    store::Home,
};

use super::{Backend, KeyEdge, ORDERS_MAX, Repaint, Scene, Stage, WindowOrder};

/// A node in this process.
pub struct Own {
    stage: Arc<Stage>,
    handles: Vec<NodeHandle>,
    orders: SyncSender<(String, WindowOrder)>,
    /// The thread that carries out orders and keeps the records, until it is closed.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How a node in this process runs.
pub struct OwnConfig {
    /// The node.
    pub node: NodeConfig,
    /// Where its records are kept.
    pub home: Home,
    /// The file of events, if one is written.
    pub events: Option<EventFile>,
    /// When it stops by itself.
    pub until: Option<Instant>,
    /// Whether the program was asked to end.
    pub stop: StopSignal,
}

impl Own {
    /// Starts the node. Fails with one line if it does not start. Blocks while a newcomer waits to
    /// be let in.
    pub fn start(config: OwnConfig, repaint: Repaint) -> anyhow::Result<Arc<Self>> {
        let OwnConfig { node, home, events, until, stop } = config;
        let node = Node::start(node)?;
        let stage = Arc::new(Stage::new(repaint));
        let (orders, received) = sync_channel(ORDERS_MAX);
        let handles: Vec<_> = node.handles().collect();
        watch(&handles, &stage);
        let keeper = Keeper {
            received: node.subscribe(),
            orders: received,
            records: Records::new(home, true),
            events,
            stage: Arc::clone(&stage),
            handles: handles.clone(),
            until,
            stop,
            node: Some(node),
        };
        let thread = std::thread::Builder::new().name("hark-window".to_owned());
        let thread = Mutex::new(Some(thread.spawn(move || keeper.run())?));
        Ok(Arc::new(Self { stage, handles, orders, thread }))
    }

    /// Has a key open the microphone in all organisations.
    pub fn open_by_key(&self) {
        self.command(Command::Transmit { mode: TransmitMode::Ptt });
    }

    /// Closes the microphone.
    pub fn mute(&self) {
        self.command(Command::Mute { on: true });
    }

    /// Carries out a command that is common to all organisations.
    fn command(&self, command: Command) {
        if let Err(error) = self.handles[0].command(command) {
            self.tell(&error.to_string());
        }
    }

    fn of(&self, organisation: &str) -> Option<&NodeHandle> {
        self.handles.iter().find(|it| it.organisation() == Some(organisation))
    }
}

impl Backend for Own {
    fn scene(&self) -> Arc<Scene> {
        self.stage.scene()
    }

    fn order(&self, organisation: &str, order: WindowOrder) {
        if self.orders.try_send((organisation.to_owned(), order)).is_err() {
            self.stage.change(|scene| scene.tell("the node is busy".to_owned(), true));
        }
    }

    fn press(&self, organisation: &str, to: Option<&TalkTo>, edge: KeyEdge) {
        let Some(handle) = self.of(organisation) else { return };
        if let Err(error) = handle.command(edge.command(to)) {
            self.stage.change(|scene| scene.tell(error.to_string(), true));
        }
    }

    fn tell(&self, line: &str) {
        self.stage.change(|scene| scene.tell(line.to_owned(), true));
    }

    fn note(&self, line: &str) {
        self.stage.change(|scene| scene.tell(line.to_owned(), false));
    }

    fn outlives_window(&self) -> bool {
        false
    }

    fn close(&self) {
        // A keeper that has ended takes no order.
        let _ = self.orders.send((String::new(), Command::Quit.into()));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The panic hook has reported a panic of that thread.
            let _ = thread.join();
        }
    }
}

/// Has the newest snapshots put on the stage whenever they look different.
fn watch(handles: &[NodeHandle], stage: &Arc<Stage>) {
    let (handles, stage) = (handles.to_vec(), Arc::clone(stage));
    let mut changes = handles[0].changes();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return };
    std::thread::spawn(move || {
        let running = || handles.iter().any(NodeHandle::is_running);
        loop {
            let snapshots = handles.iter().filter_map(NodeHandle::snapshot);
            stage.change(|scene| scene.set_snapshots(Instant::now(), snapshots));
            if !running() || !runtime.block_on(changes.changed()) {
                return;
            }
        }
    });
}

/// Carries out orders and keeps the records until the node has ended.
struct Keeper {
    received: Receiver<StampedEvent>,
    orders: Receiver<(String, WindowOrder)>,
    records: Records,
    events: Option<EventFile>,
    stage: Arc<Stage>,
    handles: Vec<NodeHandle>,
    until: Option<Instant>,
    stop: StopSignal,
    node: Option<Node>,
}

impl Keeper {
    fn run(mut self) {
        let reason = loop {
            if self.node.as_ref().is_none_or(Node::has_ended) {
                break None;
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                break Some("time");
            }
            if self.stop.is_asked() {
                break Some("quit");
            }
            self.take_events();
            match self.orders.recv_timeout(PATIENCE) {
                Ok((_, WindowOrder::Command(Command::Quit))) => break Some("quit"),
                Ok((organisation, order)) => self.carry_out(&organisation, order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Some("quit"),
            }
        };
        self.records.close_control();
        let ended = self.node.take().map_or(Ok(()), |node| match reason {
            Some(reason) => node.stop(reason),
            None => node.wait(),
        });
        self.take_events();
        let why = ended.map_or_else(|error| error.to_string(), |()| String::new());
        self.stage.change(|scene| scene.ended = Some(why));
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.received.try_recv() {
            if let Err(error) = self.records.note(&event, self.node.as_ref()) {
                let line = format!("`hark ctl` will not work: {error}");
                self.stage.change(|scene| scene.tell(line, true));
            }
            if let Some(file) = &mut self.events
                && let Err(error) = file.write(&event)
            {
                self.events = None;
                self.stage.change(|scene| scene.tell(error.to_string(), true));
            }
            // Talk comes often, and snapshots show it.
            if !matches!(event.event, Event::Stats { .. } | Event::TalkStarted { .. }) {
                self.stage.change(|scene| scene.note(&event));
            }
        }
    }

    fn carry_out(&self, organisation: &str, order: WindowOrder) {
        let mut handles = self.handles.iter();
        let Some(handle) = handles.find(|it| it.organisation() == Some(organisation)) else {
            return;
        };
        match order {
            WindowOrder::Command(command) => match handle.command(command) {
                Ok(outcome) => {
                    if let Some(deaf) = outcome.deaf {
                        self.stage.change(|scene| scene.tell(deaf.to_string(), false));
                    }
                }
                Err(error) => self.stage.change(|scene| scene.tell(error.to_string(), true)),
            },
            WindowOrder::Charter(request) => {
                if let Err(error) = handle.charter(*request) {
                    self.stage.change(|scene| scene.tell(error.to_string(), true));
                }
            }
            WindowOrder::Ticket(request) => match handle.ticket(request) {
                Ok(ticket) => {
                    self.stage
                        .change(|scene| scene.ticket = Some((organisation.to_owned(), ticket)));
                }
                Err(error) => self.stage.change(|scene| scene.tell(error.to_string(), true)),
            },
        }
    }
}

/// Events wait for at most this time before they are recorded.
const PATIENCE: Duration = Duration::from_millis(50);
