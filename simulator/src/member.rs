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

/// What of a machine outlives its processes, and the way in to the one that runs.
pub(crate) struct Seat {
    /// Who sits there.
    pub(crate) actor: Actor,
    /// Its machine on the network.
    pub(crate) host: usize,
    /// The network.
    pub(crate) fabric: Fabric,
    /// Its disk.
    pub(crate) disk: MemoryDisk,
    /// Whether what it hears is kept.
    keeps_sound: bool,
    egress: Arc<dyn Egress>,
    /// The keys that it was given.
    loot: Loot,
    witness: Witness,
    /// What it heard.
    pub(crate) heard: Arc<Mutex<HeardSound>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ticket: Option<String>,
    run: Option<Run>,
}

/// The process that runs.
#[derive(Clone)]
struct Run {
    inputs: UnboundedSender<Input>,
    publisher: Arc<Publisher>,
    events: Arc<Mutex<Receiver<StampedEvent>>>,
    device: Option<DeviceId>,
    voice: Option<Voice>,
}

impl Seat {
    /// An empty seat.
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

    /// Gives it the ticket that it joins with.
    pub(crate) fn set_ticket(&self, ticket: String) {
        self.lock().ticket = Some(ticket);
    }

    /// Has its node do something; nothing if none runs.
    pub(crate) fn send(&self, input: Input) {
        if let Some(run) = &self.lock().run {
            // It may have ended.
            let _ = run.inputs.send(input);
        }
    }

    /// Its device, while a process runs.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.lock().run.as_ref()?.device
    }

    /// The nets that it listens to, while a process runs.
    pub(crate) fn listening(&self) -> BTreeSet<ChannelId> {
        let run = self.lock().run.clone();
        let Some(snapshot) = run.and_then(|run| run.publisher.snapshot()) else {
            return BTreeSet::new();
        };
        let nets = snapshot.nets.iter().filter(|net| net.listening);
        nets.filter_map(|net| net.id.parse().ok()).collect()
    }

    /// The charter on its disk.
    pub(crate) fn charter(&self) -> Option<Charter> {
        Charter::restore(&self.disk.file("charter")?).ok()
    }

    /// Its voice, while a process runs that is in the squad.
    pub(crate) fn voice(&self) -> Option<Voice> {
        self.lock().run.as_ref()?.voice.clone()
    }

    /// What has happened since the last call.
    pub(crate) fn take_events(&self) -> Vec<StampedEvent> {
        let Some(run) = self.lock().run.clone() else { return Vec::new() };
        let events = run.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.try_iter().collect()
    }

    /// The process is gone.
    pub(crate) fn clear(&self) {
        self.lock().run = None;
    }

    /// A process, from its start to its end; what is on the seat's machine is all that it knows.
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
            // A simulated disk answers at once, but not within the call that asks.
            worker: Arc::new(|work| {
                tokio::spawn(async move { work() });
            }),
            datagrams: Arc::new(move |arrived, from, bytes| {
                if let Some(voice) = seat.voice() {
                    voice.datagram(arrived, from, &bytes);
                }
            }),
            start_voice,
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

/// Where the node's folder is on every simulated disk.
const HOME: &str = "/home/hark";
