//! A member of the squad: the real node on a simulated machine.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
};

use hark_charter::Charter;
use hark_keys::{ChannelId, DeviceId};
use hark_node::{
    clock::Clock,
    error::NodeError,
    event::StampedEvent,
    launch::{self, Launch, Parts},
    network::{self, Flags, Input, Publisher},
    relay::Egress,
    snapshot::TransmitMode,
    sound::Sound,
    store::Home,
};
use hark_voice::{Pipeline, PipelineConfig};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    context,
    disk::MemoryDisk,
    malice::{self, Loot, People},
    network::Fabric,
    scenario::Actor,
    voice::{HeardSound, Told, Voice},
    witness::Witness,
};

/// The parts of a machine that outlive its processes, and the access to the process that runs.
pub(crate) struct Seat {
    /// The member at this machine.
    pub(crate) actor: Actor,
    /// The machine's place on the network.
    pub(crate) host: usize,
    /// The simulated network.
    pub(crate) fabric: Fabric,
    /// The machine's disk.
    pub(crate) disk: MemoryDisk,
    /// Whether to keep the sound that the member hears.
    keeps_sound: bool,
    egress: Arc<dyn Egress>,
    /// The keys that the member was given to hear others with.
    loot: Loot,
    witness: Witness,
    /// The sound that the member heard.
    pub(crate) heard: Arc<Mutex<HeardSound>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ticket: Option<String>,
    run: Option<Run>,
}

/// The access to the process that runs.
#[derive(Clone)]
struct Run {
    inputs: UnboundedSender<Input>,
    publisher: Arc<Publisher>,
    events: Arc<Mutex<Receiver<StampedEvent>>>,
    device: Option<DeviceId>,
    voice: Option<Voice>,
}

impl Seat {
    /// A seat where nothing runs yet.
    pub(crate) fn new(
        actor: Actor,
        (host, fabric): (usize, Fabric),
        keeps_sound: bool,
        (people, witness): (&People, &Witness),
        seed: u64,
    ) -> Arc<Self> {
        let loot = Loot::default();
        let malice = actor.member.malice.as_ref();
        Arc::new(Self {
            egress: malice::egress((host, &actor.name), malice, (people, &loot, witness), seed),
            loot,
            witness: witness.clone(),
            actor,
            host,
            fabric,
            disk: MemoryDisk::default(),
            keeps_sound,
            heard: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// The member's name.
    pub(crate) fn name(&self) -> &str {
        &self.actor.name
    }

    /// Sets the ticket with which the member joins.
    pub(crate) fn set_ticket(&self, ticket: String) {
        self.lock().ticket = Some(ticket);
    }

    /// Sends an input to the member's node; does nothing if none runs.
    pub(crate) fn send(&self, input: Input) {
        if let Some(run) = &self.lock().run {
            // The node may have ended.
            let _ = run.inputs.send(input);
        }
    }

    /// The member's device, while a process runs.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.lock().run.as_ref()?.device
    }

    /// The nets that the member listens to, while a process runs.
    pub(crate) fn listening(&self) -> BTreeSet<ChannelId> {
        let run = self.lock().run.clone();
        let Some(snapshot) = run.and_then(|run| run.publisher.snapshot()) else {
            return BTreeSet::new();
        };
        let nets = snapshot.nets.iter().filter(|net| net.listening);
        nets.filter_map(|net| net.id.parse().ok()).collect()
    }

    /// The charter on the machine's disk; `None` if there is none that can be read.
    pub(crate) fn charter(&self) -> Option<Charter> {
        Charter::restore(&self.disk.file("charter")?).ok()
    }

    /// The voice of the process that runs; `None` until its node has started the voice.
    pub(crate) fn voice(&self) -> Option<Voice> {
        self.lock().run.as_ref()?.voice.clone()
    }

    /// The events since the last call.
    pub(crate) fn take_events(&self) -> Vec<StampedEvent> {
        let Some(run) = self.lock().run.clone() else { return Vec::new() };
        let events = run.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.try_iter().collect()
    }

    /// Forgets the process, which has ended.
    pub(crate) fn clear(&self) {
        self.lock().run = None;
    }

    /// Runs one process from its start to its end. The process knows nothing but what is on the
    /// machine.
    pub(crate) async fn live(self: Arc<Self>) {
        context::enter_host(self.name());
        let publisher = Publisher::new(Clock);
        let (inputs, input_receiver) = network::inputs();
        self.lock().run = Some(Run {
            inputs: inputs.clone(),
            publisher: Arc::clone(&publisher),
            events: Arc::new(Mutex::new(publisher.subscribe())),
            device: None,
            voice: None,
        });
        let outcome = match self.prepare() {
            Ok(launch) => {
                if let Some(run) = &mut self.lock().run {
                    run.device = Some(launch.device());
                }
                let parts = self.parts(&launch, Arc::clone(&publisher));
                launch.run(parts, inputs, input_receiver).await
            }
            Err(error) => Err(NodeError::Voice(error.into())),
        };
        if let Some(run) = &mut self.lock().run {
            run.voice = None;
        }
        publisher.end(outcome);
    }

    fn prepare(&self) -> anyhow::Result<Launch> {
        let disk = Arc::new(self.disk.clone());
        let home = Home::open_on(disk, Path::new(HOME), Box::new(|| None))?;
        if let Some(name) = &self.actor.founds
            && home.choose(None)?.is_none()
        {
            launch::found(&home, name, None)?;
        }
        let ticket = self.lock().ticket.as_deref().map(str::parse).transpose()?;
        Ok(Launch::prepare(Arc::new(home), None, ticket, self.name().to_owned(), Clock)?)
    }

    fn parts(self: &Arc<Self>, launch: &Launch, publisher: Arc<Publisher>) -> Parts {
        let (seat, device) = (Arc::clone(self), launch.device());
        let start_voice: network::StartVoice = Box::new(move |_, links, inputs| {
            let config = PipelineConfig {
                transmit: seat.transmit().into(),
                ..PipelineConfig::new(device, seat.actor.member.low_delay)
            };
            let told = Told {
                heard: seat.keeps_sound.then(|| Arc::clone(&seat.heard)),
                loot: seat.loot.clone(),
                witness: seat.witness.clone(),
                machine: seat.host,
                device,
            };
            let pipeline = Pipeline::new(config).map_err(|error| NodeError::Voice(error.into()))?;
            let voice = Voice::new(pipeline, links, inputs, &seat.actor, context::now(), told);
            tokio::spawn(voice.clone().run(seat.fabric.clone(), seat.host));
            if let Some(run) = &mut seat.lock().run {
                run.voice = Some(voice.clone());
            }
            Ok(Box::new(voice))
        });
        let (seat, witness) = (Arc::clone(self), self.witness.clone());
        Parts {
            listen: vec![([0, 0, 0, 0], 0).into()],
            listen_if_possible: Vec::new(),
            names: None,
            mdns: false,
            relay_only: self.actor.member.relay_only,
            port_mapping: self
                .fabric
                .router(self.host)
                .map(|_| Box::new(self.fabric.binder(self.host)) as _),
            transmit: Some(self.transmit()),
            profile: None,
            flags: Flags {
                channels: self.actor.member.channels.clone(),
                talk_to: self.actor.member.talk_to.clone(),
                to_come: true,
            },
            binder: Box::new(self.fabric.binder(self.host)),
            egress: Arc::clone(&self.egress),
            overhear: Some(Arc::new(move |to, message| witness.overheard(device, to, message))),
            // A simulated disk answers at once, but must not do so within the call that asks.
            worker: Arc::new(|work| {
                tokio::spawn(async move { work() });
            }),
            datagrams: Arc::new(move |arrived, from, bytes| {
                if let Some(voice) = seat.voice() {
                    voice.datagram(arrived, from, &bytes);
                }
            }),
            start_voice,
            sound: Arc::new(Sound::recorded()),
            publisher,
        }
    }

    fn transmit(&self) -> TransmitMode {
        self.actor.member.transmit.unwrap_or(TransmitMode::Vad)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's folder on every simulated disk.
const HOME: &str = "/home/hark";
