//! A whole node: starts its threads, connects them and ends them.

mod handle;
mod sound;

use std::{
    cell::Cell,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use hark_keys::{DeviceId, Ticket};
use hark_voice::{CodingSettings, Line, WaitLimits};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

pub use self::handle::NodeHandle;
use self::{
    handle::OrganisationHandle,
    sound::{LinePlan, VoicePlan, voice_starter},
};
use crate::{
    clock::Clock,
    device::{InputSpec, OutputSpec},
    driver::Worker,
    error::NodeError,
    event::StampedEvent,
    launch::{Launch, Parts},
    link::UdpBinder,
    network::{self, Flags, Input, Publisher, TellJoining},
    platform::{Urgency, prefer_this_thread},
    reach::{
        names::{Dns, PeerNames, PeerPlace},
        ports::System,
    },
    relay::DirectEgress,
    request::{CommandOutcome, RequestError},
    snapshot::{Command, ProcessingChange, Snapshot, TransmitMode},
    sound::{RealDevices, Sound},
    store::{AskPassphrase, Home},
};

/// The settings with which a node starts.
pub struct NodeConfig {
    /// The path of the person's home.
    pub home: PathBuf,
    /// Asks for the passphrase of the key file, if it has one.
    pub passphrase: AskPassphrase,
    /// The organisations to run at once, by name or id. Empty stands for the only one, or for the
    /// one to which the ticket leads. The first is in front.
    pub organisations: Vec<String>,
    /// The ticket of an organisation to join, which is then in front.
    pub ticket: Option<Ticket>,
    /// Called with each line about the progress of that ticket.
    pub tell_joining: Option<TellJoining>,
    /// The name shown to others.
    pub name: String,
    /// The source of the sound that others hear.
    pub input: InputSpec,
    /// The destination of the sound of others.
    pub output: OutputSpec,
    /// Addresses to listen on. Empty stands for any address and any port, on IPv4 and IPv6. These
    /// addresses, `peers`, `profile` and `flags` apply to the first organisation only.
    pub listen: Vec<SocketAddr>,
    /// Addresses and names at which members may be found.
    pub peers: Vec<PeerPlace>,
    /// Whether to look for members on the LAN.
    pub mdns: bool,
    /// Whether to hide this device's address from members: the node is linked with them only
    /// through the charter's relays.
    pub relay_only: bool,
    /// Whether to ask the router for a port that can be reached from outside.
    pub port_mapping: bool,
    /// What opens the microphone. `None` takes the profile's setting.
    pub transmit: Option<TransmitMode>,
    /// The profile to use. `None` takes the one that was last used.
    pub profile: Option<String>,
    /// The flags of this run.
    pub flags: Flags,
    /// The key that a newcomer has printed, with which its membership can be restored.
    pub recovery: Option<DeviceId>,
    /// Whether to use frames of 2.5 or 5 ms and the smallest buffers.
    pub low_delay: bool,
    /// What is done to the microphone's sound before it is encoded, in this run. What is not set is
    /// as the person has chosen for the microphone.
    pub processing: ProcessingChange,
    /// What of bit rate, frame length and copies is set instead of chosen by the network.
    pub coding: CodingSettings,
    /// How long others' voices are waited for, in this run.
    pub wait: WaitLimits,
}

impl NodeConfig {
    /// The settings of a node that sends and plays no sound, looks for members on the LAN, and asks
    /// for neither a passphrase nor a port. A key opens its microphone.
    pub fn silent(home: PathBuf, name: &str) -> Self {
        Self {
            home,
            passphrase: Box::new(|| None),
            organisations: Vec::new(),
            ticket: None,
            tell_joining: None,
            name: name.to_owned(),
            input: InputSpec::Silence,
            output: OutputSpec::Null,
            listen: Vec::new(),
            peers: Vec::new(),
            mdns: true,
            relay_only: false,
            port_mapping: false,
            transmit: Some(TransmitMode::Ptt),
            profile: None,
            flags: Flags::default(),
            recovery: None,
            low_delay: false,
            processing: ProcessingChange::default(),
            coding: CodingSettings::default(),
            wait: WaitLimits::default(),
        }
    }
}

/// A running node, in one organisation or several at once. It stops when it is dropped.
pub struct Node {
    stations: Arc<[OrganisationHandle]>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node. Returns once it works in all its organisations, or fails with one line for
    /// the person. Joining by a ticket ends when a member has admitted this device, or fails after
    /// at most 20 s. The time in a door's waiting room does not count.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let home = Arc::new(Home::open(&config.home, config.passphrase)?);
        let launches = launches(
            &home,
            &config.organisations,
            config.ticket.as_ref(),
            &config.name,
            (config.recovery, config.tell_joining),
        )?;
        let first = Publisher::new(Clock);
        let (mut stations, mut receivers) = (Vec::new(), Vec::new());
        for line in 0..launches.len() {
            let (inputs, receiver) = network::inputs();
            let publisher = if line == 0 { Arc::clone(&first) } else { first.beside(line) };
            stations.push(OrganisationHandle { inputs, publisher });
            receivers.push(receiver);
        }
        let stations: Arc<[OrganisationHandle]> = stations.into();
        let (started, outcome) = sync_channel(launches.len());
        let real = RealDevices {
            microphone: matches!(config.input, InputSpec::Microphone(_)),
            loudspeaker: matches!(config.output, OutputSpec::Speaker(_)),
        };
        let sound = Arc::new(Sound::open(home, real, config.processing));
        let voice = Arc::new(VoicePlan {
            input: config.input,
            output: config.output,
            transmit: config.transmit.unwrap_or_default(),
            low_delay: config.low_delay,
            coding: config.coding,
            wait: config.wait,
            handle: OnceLock::new(),
            lines: launches
                .iter()
                .zip(&*stations)
                .map(|(launch, station)| LinePlan {
                    device: launch.device(),
                    inputs: station.inputs.clone(),
                    begun: OnceLock::new(),
                })
                .collect(),
        });
        let (work_sender, work) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        // Work is done in order, so that an earlier state of a file never replaces a later one.
        let disk = std::thread::Builder::new()
            .name("hark-disk".to_owned())
            .spawn(move || work.into_iter().for_each(|work| work()))?;
        let worker: Worker = Arc::new(move |work| {
            // The thread ends only after the last sender has been dropped.
            let _ = work_sender.send(work);
        });
        let mut runs = Vec::new();
        for (line, (launch, receiver)) in launches.into_iter().zip(receivers).enumerate() {
            // Settings for one organisation must not reach the others.
            let own = line == 0;
            let (listen, listen_if_possible) = sockets(&config.listen, own);
            let datagrams = Arc::clone(&voice);
            let parts = Parts {
                listen,
                listen_if_possible,
                names: (own && !config.peers.is_empty()).then(|| PeerNames {
                    places: config.peers.clone(),
                    source: Arc::new(Dns::default()),
                }),
                mdns: config.mdns,
                relay_only: config.relay_only,
                port_mapping: config.port_mapping.then(|| Box::new(System) as _),
                transmit: config.transmit,
                profile: config.profile.clone().filter(|_| own),
                flags: if own { config.flags.clone() } else { Flags::default() },
                binder: Box::new(UdpBinder),
                egress: Arc::new(DirectEgress),
                overhear: None,
                worker: Arc::clone(&worker),
                sound: Arc::clone(&sound),
                datagrams: Arc::new(move |arrived, from, datagram| {
                    if let Some((_, voice)) = datagrams.lines[line].begun.get() {
                        voice.datagram(arrived, from, datagram);
                    }
                }),
                start_voice: voice_starter(Arc::clone(&voice), line, started.clone()),
                publisher: Arc::clone(&stations[line].publisher),
            };
            runs.push((launch, parts, stations[line].inputs.clone(), receiver));
        }
        drop((started, worker));
        let thread =
            std::thread::Builder::new().name("hark-network".to_owned()).spawn(move || {
                run(runs, &voice);
                drop(voice);
                if disk.join().is_err() {
                    tracing::error!("the thread that writes to disk has panicked");
                }
            })?;
        let mut node = Self { stations, thread: Some(thread) };
        for _ in 0..node.stations.len() {
            // If an organisation ends early, its sender is dropped.
            if outcome.recv().is_err() {
                node.tell_all(|| Input::Stop("quit".to_owned()));
                node.join();
                return Err(node.take_failure().unwrap_or(NodeError::NotStarted));
            }
        }
        Ok(node)
    }

    /// The newest state of the organisation in front, made ten times a second. `None` in the first
    /// moments.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.front().snapshot()
    }

    /// Carries out a command for the organisation in front, or for all of them. Returns what else
    /// there is to know about it. Fails with one line if it cannot be done.
    pub fn command(&self, command: Command) -> Result<CommandOutcome, RequestError> {
        self.front().command(command)
    }

    /// A receiver of events from now on. The first receiver gets them from the start.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        self.handle(0).subscribe()
    }

    /// Handles for other threads, one for each organisation, in the order of the configuration.
    pub fn handles(&self) -> impl Iterator<Item = NodeHandle> {
        (0..self.stations.len()).map(|line| self.handle(line))
    }

    /// Whether the node has ended, on command or after a failure.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the node has ended. Fails with one line if it has ended after a failure.
    pub fn wait(mut self) -> Result<(), NodeError> {
        self.join();
        self.take_failure().map_or(Ok(()), Err)
    }

    /// Says goodbye to the peers, finishes files and ends the node.
    pub fn stop(self, reason: &str) -> Result<(), NodeError> {
        self.tell_all(|| Input::Stop(reason.to_owned()));
        self.wait()
    }

    fn front(&self) -> NodeHandle {
        self.handle(self.stations[0].publisher.front())
    }

    fn handle(&self, line: Line) -> NodeHandle {
        NodeHandle { stations: Arc::clone(&self.stations), line }
    }

    fn tell_all(&self, input: impl Fn() -> Input) {
        for station in &*self.stations {
            // An organisation that has ended takes no input.
            let _ = station.inputs.send(input());
        }
    }

    fn take_failure(&self) -> Option<NodeError> {
        self.stations.iter().find_map(|station| station.publisher.take_failure())
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.stations[0].publisher.set_failure(NodeError::Panicked);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tell_all(|| Input::Stop("quit".to_owned()));
        self.join();
    }
}

/// All organisations to run: the one to which the ticket leads, and those that are named.
fn launches(
    home: &Arc<Home>,
    wanted: &[String],
    ticket: Option<&Ticket>,
    name: &str,
    (recovery, tell): (Option<DeviceId>, Option<TellJoining>),
) -> Result<Vec<Launch>, NodeError> {
    let prepare = |organisation: Option<&str>, ticket| {
        let home = Arc::clone(home);
        Launch::prepare(home, organisation, ticket, name.to_owned(), Clock)
    };
    let mut organisations = Vec::new();
    for name in wanted {
        let id = home.choose(Some(name))?.map(|store| store.id());
        let joined = ticket.map(|ticket| ticket.invite().organisation);
        if id != joined && !organisations.contains(&id) {
            organisations.push(id);
        }
    }
    let first = ticket.is_some() || organisations.is_empty();
    let mut launches = Vec::new();
    if first {
        let launch = prepare(None, ticket.cloned())?;
        launches.push(launch.with_recovery(recovery).with_news(tell));
    }
    for id in organisations.into_iter().flatten() {
        launches.push(prepare(Some(&id.to_string()), None)?);
    }
    Ok(launches)
}

/// The addresses on which the node must listen, and those on which it listens if possible. The
/// addresses that a person has chosen are for one organisation; the others use ports of their own
/// at the same addresses.
fn sockets(chosen: &[SocketAddr], own: bool) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let any_port = |address: &SocketAddr| SocketAddr::new(address.ip(), 0);
    match chosen {
        [] => {
            let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            (vec![any4], vec![any6])
        }
        chosen if own => (chosen.to_vec(), Vec::new()),
        chosen => (chosen.iter().map(any_port).collect(), Vec::new()),
    }
}

type Run = (Launch, Parts, UnboundedSender<Input>, UnboundedReceiver<Input>);

/// Runs the node in all its organisations, until the last of them has ended.
fn run(runs: Vec<Run>, voice: &VoicePlan) {
    prefer_this_thread(Urgency::Network);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            for run in &runs {
                run.1
                    .publisher
                    .end(Err(std::io::Error::new(error.kind(), error.to_string()).into()));
            }
            return;
        }
    };
    let running = Cell::new(runs.len());
    let runs = runs.into_iter().map(async |(launch, parts, inputs, receiver)| {
        let publisher = Arc::clone(&parts.publisher);
        let outcome = launch.run(parts, inputs, receiver).await;
        running.set(running.get() - 1);
        if running.get() == 0
            && let Some(voice) = voice.handle.get()
        {
            voice.stop();
        }
        publisher.end(outcome);
    });
    runtime.block_on(futures::future::join_all(runs));
}
