//! A whole node: its threads, put together and taken apart.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use hark_keys::{DeviceId, Ticket};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    clock::Clock,
    commands::{Answer, Request},
    device::{
        DatagramSink, InputSpec, OutputSpec, VoiceEnds, VoiceHandle, VoiceThread, VoiceThreadEvent,
    },
    event::{Event, StampedEvent},
    launch::{Launch, Parts},
    link::{Links, UdpBinder},
    network::{self, Input, Publisher, StartVoice, VoiceControl},
    platform::{Urgency, prefer_this_thread},
    snapshot::{Command, Snapshot, TicketRequest, TransmitMode},
    store::{AskPassphrase, Home},
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
    /// How the microphone opens; as the profile says where none is given.
    pub transmit: Option<TransmitMode>,
    /// The profile to use; the last one where none is given.
    pub profile: Option<String>,
    /// Channels to hear, by name; what the charter says where none is given.
    pub channels: Vec<String>,
    /// Channels to talk to, by name; what the charter says where none is given.
    pub talk_to: Vec<String>,
    /// A newcomer's printed key, by which its membership can be restored.
    pub recovery: Option<DeviceId>,
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
        let launch = Launch::prepare(
            home,
            config.organisation.as_deref(),
            config.ticket,
            config.name,
            clock,
        )?
        .with_recovery(config.recovery);
        let publisher = Publisher::new(clock);
        let (inputs, input_receiver) = network::inputs();
        let (started, outcome) = sync_channel(1);

        let voice_slot = Arc::new(OnceLock::new());
        let start_voice = voice_starter(VoicePlan {
            input: config.input,
            output: config.output,
            transmit: config.transmit.unwrap_or_default(),
            low_delay: config.low_delay,
            device: launch.device(),
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
        let slot = Arc::clone(&voice_slot);
        let (work_sender, work) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        // One after the other: a later state of a file must not be overtaken by an earlier one.
        let disk = std::thread::Builder::new()
            .name("hark-disk".to_owned())
            .spawn(move || work.into_iter().for_each(|work| work()))?;
        let parts = Parts {
            listen,
            listen_if_possible,
            peers: config.peers,
            mdns: config.mdns,
            transmit: config.transmit,
            profile: config.profile,
            channels: config.channels,
            talk_to: config.talk_to,
            binder: Box::new(UdpBinder),
            worker: Arc::new(move |work| {
                // The thread ends only after the last of these has been dropped.
                let _ = work_sender.send(work);
            }),
            datagrams: Arc::new(move |arrived, from, datagram| {
                if let Some(voice) = slot.get() {
                    voice.datagram(arrived, from, datagram);
                }
            }),
            start_voice,
            publisher: Arc::clone(&publisher),
        };
        let thread = {
            let inputs = inputs.clone();
            std::thread::Builder::new().name("hark-network".to_owned()).spawn(move || {
                run(launch, parts, &voice_slot, inputs, input_receiver);
                if disk.join().is_err() {
                    tracing::error!("the thread that writes to disk has panicked");
                }
            })?
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

    /// Carries out what is wanted of the charter, or says in a line why not.
    pub fn charter(&self, request: Request) -> Result<Answer, String> {
        let (sender, receiver) = sync_channel(1);
        let ended = || "the node has ended".to_owned();
        self.inputs.send(Input::Charter(Box::new(request), sender)).map_err(|_| ended())?;
        receiver.recv().map_err(|_| ended())?
    }

    /// A new ticket, or in a line why there is none.
    pub fn ticket(&self, request: TicketRequest) -> Result<Ticket, String> {
        let (sender, receiver) = sync_channel(1);
        let ended = || "the node has ended".to_owned();
        self.inputs.send(Input::Ticket(request, sender)).map_err(|_| ended())?;
        receiver.recv().map_err(|_| ended())?
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
    Box::new(move |_, links, inputs| {
        let cues = matches!(plan.input, InputSpec::Microphone(_))
            && matches!(plan.output, OutputSpec::Speaker(_));
        let config = PipelineConfig {
            transmit: plan.transmit.into(),
            cues,
            ..PipelineConfig::new(plan.device, plan.low_delay)
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

fn run(
    launch: Launch,
    parts: Parts,
    voice: &OnceLock<VoiceHandle>,
    inputs: UnboundedSender<Input>,
    input_receiver: tokio::sync::mpsc::UnboundedReceiver<Input>,
) {
    prefer_this_thread(Urgency::Network);
    let publisher = Arc::clone(&parts.publisher);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(launch.run(parts, inputs, input_receiver)));
    if let Some(voice) = voice.get() {
        voice.stop();
    }
    publisher.end(outcome);
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
