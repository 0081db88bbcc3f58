//! A whole node: its threads, put together and taken apart.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use hark_keys::{DeviceId, Random, Ticket};
use hark_mesh::{charter::Charter, hello::Presence};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    device::{
        DatagramSink, InputSpec, OutputSpec, VoiceEnds, VoiceHandle, VoiceThread, VoiceThreadEvent,
    },
    event::{Event, StampedEvent},
    link::{LinkEvent, Links, UdpBinder},
    network::{
        self, Input, KeepAdmitted, Publisher, Runner, RunnerConfig, StartVoice, VoiceControl,
    },
    platform::{Urgency, prefer_this_thread},
    random::SystemRandom,
    snapshot::{Command, Snapshot, TransmitMode},
    store::{AskPassphrase, Home, Lock, OrganisationStore},
    voice::{Pipeline, PipelineConfig, VoiceCommand, VoiceStatistics},
};

/// What a node is to do.
pub struct NodeConfig {
    /// The person's folder.
    pub home: PathBuf,
    /// Asks for the passphrase of the key file, if it has one.
    pub passphrase: AskPassphrase,
    /// Which organisation, by name or id, where there are several.
    pub organisation: Option<String>,
    /// Join this one.
    pub ticket: Option<Ticket>,
    /// The name shown to others.
    pub name: String,
    /// Where own sound comes from.
    pub input: InputSpec,
    /// Where others' sound goes.
    pub output: OutputSpec,
    /// Addresses to listen on; none is any address, any port, IPv4 and IPv6.
    pub listen: Vec<SocketAddr>,
    /// Addresses worth trying.
    pub peers: Vec<SocketAddr>,
    /// Whether to look on the LAN.
    pub mdns: bool,
    /// How the microphone opens.
    pub transmit: TransmitMode,
    /// 5 ms frames and the smallest buffers.
    pub low_delay: bool,
}

/// A running node. Dropping it stops it.
pub struct Node {
    inputs: UnboundedSender<Input>,
    publisher: Arc<Publisher>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node: returns once it works in its organisation, or fails with one line for the
    /// person. Joining by a ticket takes until a member has admitted this device, at most 20 s.
    pub fn start(config: NodeConfig) -> anyhow::Result<Self> {
        let clock = Clock;
        let home = Home::open(&config.home, config.passphrase)?;
        let start = Start::find(&home, config.organisation.as_deref(), config.ticket, clock)?;
        let publisher = Publisher::new(clock);
        let (inputs, input_receiver) = network::inputs();
        let (started, outcome) = sync_channel(1);

        let mut incarnation = [0; 8];
        SystemRandom.fill(&mut incarnation);
        let presence = Presence {
            incarnation: u64::from_be_bytes(incarnation),
            name: config.name,
            addresses: Vec::new(),
        };
        let voice_slot = Arc::new(OnceLock::new());
        let device = start.device;
        let start_voice = voice_starter(VoicePlan {
            input: config.input,
            output: config.output,
            transmit: config.transmit,
            low_delay: config.low_delay,
            device,
            clock,
            slot: Arc::clone(&voice_slot),
            started,
        });
        let (listen, listen_if_possible) = if config.listen.is_empty() {
            let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            (vec![any4], vec![any6])
        } else {
            (config.listen, Vec::new())
        };
        let setup = Setup {
            start,
            home,
            presence,
            listen,
            listen_if_possible,
            peers: config.peers,
            mdns: config.mdns,
            transmit: config.transmit,
            start_voice,
            voice_slot,
        };
        let thread = {
            let publisher = Arc::clone(&publisher);
            let inputs = inputs.clone();
            std::thread::Builder::new()
                .name("hark-network".to_owned())
                .spawn(move || run(setup, clock, &publisher, inputs, input_receiver))?
        };
        let mut node = Self { inputs, publisher, thread: Some(thread) };
        // The sender is dropped when the thread ends early.
        if outcome.recv().is_err() {
            node.join();
            let failure = node.publisher.failure();
            anyhow::bail!(failure.unwrap_or_else(|| "the node did not start".to_owned()));
        }
        Ok(node)
    }

    /// The newest state, made ten times a second; none in the first moments.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.publisher.snapshot()
    }

    /// Does what a person or a program wants.
    pub fn command(&self, command: Command) {
        // A node that has ended does nothing.
        let _ = self.inputs.send(Input::Command(command));
    }

    /// Events from now on, and for the first who asks, from the start.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        self.publisher.subscribe()
    }

    /// A handle for other threads.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle { inputs: self.inputs.clone(), publisher: Arc::clone(&self.publisher) }
    }

    /// Whether the node has ended, by a command or a failure.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the node has ended; fails with one line where it did not end on purpose.
    pub fn wait(mut self) -> anyhow::Result<()> {
        self.join();
        match self.publisher.failure() {
            Some(failure) => anyhow::bail!(failure),
            None => Ok(()),
        }
    }

    /// Says goodbye, finishes files and ends.
    pub fn stop(self, reason: &str) -> anyhow::Result<()> {
        let _ = self.inputs.send(Input::Stop(reason.to_owned()));
        self.wait()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.publisher.set_failure("the node stopped by an internal error".to_owned());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.inputs.send(Input::Stop("quit".to_owned()));
        self.join();
    }
}

/// What other threads may ask of a node.
#[derive(Clone)]
pub struct NodeHandle {
    inputs: UnboundedSender<Input>,
    publisher: Arc<Publisher>,
}

impl NodeHandle {
    /// The newest state.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.publisher.snapshot()
    }

    /// Does what a person or a program wants, and returns when it is done: the next snapshot shows
    /// it.
    pub fn command(&self, command: Command) {
        let (told, settled) = sync_channel(1);
        // A node that has ended does nothing, and drops both.
        let _ = self.inputs.send(Input::Command(command));
        let _ = self.inputs.send(Input::Settled(told));
        let _ = settled.recv();
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Receiver<StampedEvent> {
        self.publisher.subscribe()
    }

    /// A new ticket for `uses` devices (0: any number) that lasts as long; none if the node has
    /// ended.
    pub fn ticket(&self, uses: u8, lasting: Duration) -> Option<Ticket> {
        let (sender, receiver) = sync_channel(1);
        self.inputs.send(Input::Ticket(uses, lasting, sender)).ok()?;
        receiver.recv().ok()
    }
}

/// Founds an organisation with one channel, whose root is this device.
pub fn found(home: &Home, name: &str) -> anyhow::Result<OrganisationStore> {
    let key = home.next_key(&SystemRandom)?;
    let charter = Charter::found(name, FIRST_CHANNEL, &key, &SystemRandom);
    let chain = charter.found_chain(&key)?;
    Ok(home.keep(&charter, &chain)?)
}

/// Where a node starts from.
struct Start {
    device: DeviceId,
    key: hark_keys::DeviceKey,
    organisation: hark_keys::OrganisationId,
    belongs: Option<(OrganisationStore, Lock)>,
    ticket: Option<Ticket>,
}

impl Start {
    fn find(
        home: &Home,
        organisation: Option<&str>,
        ticket: Option<Ticket>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let store = match &ticket {
            Some(ticket) => home.find(ticket.invite().organisation)?,
            None => match home.choose(organisation)? {
                Some(store) => Some(store),
                None => Some(found(home, FIRST_SQUAD)?),
            },
        };
        match (store, ticket) {
            // Whoever belongs already finds the addresses of the ticket useful, and no more.
            (Some(store), ticket) => {
                let lock = store.lock()?;
                let key = home.key(&store)?;
                Ok(Self {
                    device: key.id(),
                    key,
                    organisation: store.id(),
                    belongs: Some((store, lock)),
                    ticket,
                })
            }
            (None, Some(ticket)) => {
                let invite = ticket.invite();
                // [PROTO-4.6]
                if invite.expires <= clock.unix() {
                    anyhow::bail!("the ticket has expired: ask for a new one");
                }
                let key = home.next_key(&SystemRandom)?;
                Ok(Self {
                    device: key.id(),
                    key,
                    organisation: invite.organisation,
                    belongs: None,
                    ticket: Some(ticket),
                })
            }
            (None, None) => unreachable!("without a ticket there is an organisation"),
        }
    }
}

/// What the network thread begins with.
struct Setup {
    start: Start,
    home: Home,
    presence: Presence,
    listen: Vec<SocketAddr>,
    listen_if_possible: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    mdns: bool,
    transmit: TransmitMode,
    start_voice: StartVoice,
    voice_slot: Arc<OnceLock<VoiceHandle>>,
}

fn run(
    setup: Setup,
    clock: Clock,
    publisher: &Arc<Publisher>,
    inputs: UnboundedSender<Input>,
    input_receiver: tokio::sync::mpsc::UnboundedReceiver<Input>,
) {
    prefer_this_thread(Urgency::Network);
    let slot = Arc::clone(&setup.voice_slot);
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                let (config, _lock) = setup.into_runner(clock, publisher);
                Runner::new(config, input_receiver, inputs)?.run().await
            })
        });
    if let Some(voice) = slot.get() {
        voice.stop();
    }
    let reason = match outcome {
        Ok(reason) => reason,
        Err(error) => {
            let line = format!("{error:#}");
            publisher.set_failure(line.clone());
            line
        }
    };
    publisher.publish(Event::Stopped { reason });
}

impl Setup {
    fn into_runner(
        self,
        clock: Clock,
        publisher: &Arc<Publisher>,
    ) -> (RunnerConfig, Arc<OnceLock<Lock>>) {
        let Start { device, key, organisation, belongs, ticket } = self.start;
        let secret = key.secret();
        let own_key = || hark_keys::DeviceKey::from_secret(&secret);
        let held = Arc::new(OnceLock::new());
        let (link_sender, link_events) = unbounded_channel::<LinkEvent>();
        let slot = Arc::clone(&self.voice_slot);
        let links = Links::new(
            device,
            clock,
            link_sender,
            Arc::new(move |arrived, from, datagram| {
                if let Some(voice) = slot.get() {
                    voice.datagram(arrived, from, datagram);
                }
            }),
        );
        let mut peers = self.peers;
        let (store, doorkeeper, ticket) = match (belongs, ticket) {
            (Some((store, lock)), ticket) => {
                let _ = held.set(lock);
                if let Some(ticket) = ticket {
                    let addresses = ticket.doors.iter().flat_map(|door| &door.addresses);
                    peers.extend(addresses.copied());
                }
                let doorkeeper = Doorkeeper::member(
                    own_key(),
                    store.charter().clone(),
                    store.chain().clone(),
                    self.presence.clone(),
                    clock,
                    Box::new(store.use_counter(clock)),
                );
                (Some(store), doorkeeper, None)
            }
            (None, ticket) => {
                let ticket = ticket.expect("a node without an organisation has a ticket");
                let counter = Arc::new(OnceLock::new());
                let doorkeeper = Doorkeeper::newcomer(
                    own_key(),
                    ticket.clone(),
                    self.presence.clone(),
                    clock,
                    Box::new(LaterCounter(Arc::clone(&counter))),
                );
                let home = self.home;
                let held = Arc::clone(&held);
                let keep: KeepAdmitted = Box::new(move |admitted| {
                    let store = home.keep(&admitted.charter, &admitted.chain)?;
                    let _ = held.set(store.lock()?);
                    let _ = counter.set(Box::new(store.use_counter(clock)) as Box<dyn UseCounter>);
                    Ok(store)
                });
                (None, doorkeeper, Some((ticket, keep)))
            }
        };
        let config = RunnerConfig {
            key: Arc::new(key),
            organisation,
            store,
            ticket,
            presence: self.presence,
            doorkeeper: Arc::new(doorkeeper),
            listen: self.listen,
            listen_if_possible: self.listen_if_possible,
            peers,
            mdns: self.mdns,
            links,
            link_events,
            binder: Box::new(UdpBinder),
            start_voice: self.start_voice,
            publisher: Arc::clone(publisher),
            transmit: self.transmit,
            clock,
        };
        (config, held)
    }
}

/// Counts once there is a folder to count in: nobody redeems a ticket before.
struct LaterCounter(Arc<OnceLock<Box<dyn UseCounter>>>);

impl UseCounter for LaterCounter {
    fn count(
        &self,
        invite_key: DeviceId,
        expires: hark_keys::UnixTime,
        share: u8,
        device: DeviceId,
    ) -> std::io::Result<bool> {
        match self.0.get() {
            Some(counter) => counter.count(invite_key, expires, share, device),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// What the voice thread begins with, once the channel is known.
struct VoicePlan {
    input: InputSpec,
    output: OutputSpec,
    transmit: TransmitMode,
    low_delay: bool,
    device: DeviceId,
    clock: Clock,
    slot: Arc<OnceLock<VoiceHandle>>,
    started: std::sync::mpsc::SyncSender<()>,
}

fn voice_starter(plan: VoicePlan) -> StartVoice {
    Box::new(move |store, links, inputs| {
        let charter = store.charter();
        let channel = charter.channel().id;
        let cues = matches!(plan.input, InputSpec::Microphone(_))
            && matches!(plan.output, OutputSpec::Speaker(_));
        let config = PipelineConfig {
            transmit: plan.transmit.into(),
            cues,
            ..PipelineConfig::new(
                plan.device,
                channel,
                charter.channel_tag(channel),
                plan.low_delay,
            )
        };
        let ends = VoiceEnds { input: plan.input, output: plan.output, low_delay: plan.low_delay };
        let handle = VoiceThread::start(
            Pipeline::new(config)?,
            ends,
            plan.clock,
            Box::new(Sink(Arc::clone(links))),
            move |event| {
                let input = match event {
                    VoiceThreadEvent::Voice(event) => Input::Voice(event),
                    VoiceThreadEvent::AudioStarted { direction, monotonic_ns } => {
                        Input::Publish(Event::AudioStarted { direction, monotonic_ns })
                    }
                    VoiceThreadEvent::Device { direction, available, detail } => {
                        let trouble = (!available).then(|| detail.clone());
                        let _ = inputs.send(Input::Trouble(direction, trouble));
                        Input::Publish(Event::AudioDevice { direction, available, detail })
                    }
                };
                // The network thread may have ended first.
                let _ = inputs.send(input);
            },
        )?;
        let _ = plan.slot.set(handle.clone());
        // Whoever started the node waits for this.
        let _ = plan.started.send(());
        Ok(Box::new(Voice(handle)) as Box<dyn VoiceControl>)
    })
}

struct Sink(Arc<Links>);

impl DatagramSink for Sink {
    fn push(&self, to: DeviceId, datagram: &[u8]) {
        self.0.push(to, bytes::Bytes::copy_from_slice(datagram));
    }

    fn flush(&self) {
        self.0.flush();
    }
}

struct Voice(VoiceHandle);

impl VoiceControl for Voice {
    fn command(&self, command: VoiceCommand) {
        self.0.command(command);
    }

    fn statistics(&self) -> VoiceStatistics {
        self.0.statistics().voice.clone()
    }
}

/// What a squad is called that nobody gave a name.
const FIRST_SQUAD: &str = "squad";

/// And its only channel.
const FIRST_CHANNEL: &str = "squad";
