//! The thread that decides: the swarm, the squad and everyone who wants something of them.
//!
//! Everything that happens comes in as an input of [`Squad`], which decides; what it wants done is
//! then carried out here. Voice passes by: its datagrams go from the links to the voice thread and
//! back without a stop.

mod behaviour;
mod publisher;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use hark_keys::{DeviceId, DeviceKey, OrganisationId, Ticket, Timestamp};
use hark_mesh::{
    Dial, Directory,
    hello::{Presence, Refusal},
    message::Acknowledgement,
    squad::{self, DownReason, Squad, SquadConfig, Transmit},
};
use libp2p::{
    Swarm, gossipsub, mdns,
    request_response::{self, OutboundRequestId},
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts, dial_opts::PeerCondition},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::behaviour::{Behaviour, BehaviourEvent};
pub use self::publisher::{Publisher, SUBSCRIPTION_LIMIT};
use self::view::View;
use crate::{
    admission::{Admitted, Doorkeeper},
    clock::Clock,
    event::{Direction, Event},
    link::{Binder, LinkDown, LinkEvent, LinkTransport, Links, address_of, multiaddr_of},
    random::SystemRandom,
    snapshot::{Command, TransmitMode},
    store::OrganisationStore,
    voice::{VoiceCommand, VoiceEvent, VoiceStatistics},
};

/// The voice side of a node, wherever it runs.
pub trait VoiceControl: Send {
    /// Does it at the start of the next turn.
    fn command(&self, command: VoiceCommand);

    /// How everyone is heard, as of the last turns.
    fn statistics(&self) -> VoiceStatistics;
}

/// Makes the voice side once the organisation is known. What happens there goes into the channel.
pub type StartVoice = Box<
    dyn FnOnce(
            &OrganisationStore,
            &Arc<Links>,
            UnboundedSender<Input>,
        ) -> anyhow::Result<Box<dyn VoiceControl>>
        + Send,
>;

/// Keeps an organisation that a ticket has led to.
pub type KeepAdmitted = Box<dyn FnOnce(&Admitted) -> anyhow::Result<OrganisationStore> + Send>;

/// Does work that waits for the disk, away from the thread that decides.
pub type Worker = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// What comes in from other threads.
pub enum Input {
    /// A person or a program wants something.
    Command(Command),
    /// All that came before has been done, which the sender waits for.
    Settled(std::sync::mpsc::SyncSender<()>),
    /// Something happened in the voice thread.
    Voice(VoiceEvent),
    /// Something to tell, as it is.
    Publish(Event),
    /// One end of the sound does not work, for this reason; none when it does again.
    Trouble(Direction, Option<String>),
    /// A generation is on disk, or could not be written.
    Persisted(u16, Result<(), String>),
    /// A new ticket is wanted: uses, and how long it lasts.
    Ticket(u8, Duration, std::sync::mpsc::SyncSender<Ticket>),
    /// End, for this reason.
    Stop(String),
}

/// What the thread begins with.
pub struct RunnerConfig {
    /// This device.
    pub key: Arc<DeviceKey>,
    /// Which organisation the links are for.
    pub organisation: OrganisationId,
    /// Its folder, where this device belongs already.
    pub store: Option<OrganisationStore>,
    /// What leads there otherwise, with what is to be done then.
    pub ticket: Option<(Ticket, KeepAdmitted)>,
    /// What this device says of itself.
    pub presence: Presence,
    /// Decides about Hellos.
    pub doorkeeper: Arc<Doorkeeper>,
    /// Where to listen; these must work.
    pub listen: Vec<SocketAddr>,
    /// Where to listen, too, if that works.
    pub listen_if_possible: Vec<SocketAddr>,
    /// Addresses worth trying.
    pub peers: Vec<SocketAddr>,
    /// Whether to look on the LAN.
    pub mdns: bool,
    /// All links.
    pub links: Arc<Links>,
    /// Their comings and goings.
    pub link_events: UnboundedReceiver<LinkEvent>,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Does what waits for the disk.
    pub worker: Worker,
    /// Makes the voice side.
    pub start_voice: StartVoice,
    /// Where events and snapshots go.
    pub publisher: Arc<Publisher>,
    /// How the microphone opens at first.
    pub transmit: TransmitMode,
    /// Reads time.
    pub clock: Clock,
}

/// One node at work. Lives on the runtime of its thread.
pub struct Runner {
    swarm: Swarm<Behaviour>,
    config: Kept,
    squad: Option<Squad>,
    store: Option<OrganisationStore>,
    joining: Option<Joining>,
    start_voice: Option<StartVoice>,
    voice: Option<Box<dyn VoiceControl>>,
    links: Arc<Links>,
    link_events: UnboundedReceiver<LinkEvent>,
    inputs: UnboundedReceiver<Input>,
    input_sender: UnboundedSender<Input>,
    topic: gossipsub::IdentTopic,
    requests: BTreeMap<OutboundRequestId, (DeviceId, u64)>,
    dials: BTreeMap<ConnectionId, Dial>,
    heard: BTreeMap<DeviceId, Timestamp>,
    listen_addresses: BTreeSet<SocketAddr>,
    /// An address is gone, and none has come since.
    moved: bool,
    /// When `ready` is told, whatever addresses are still to come.
    ready_at: Option<Timestamp>,
    next_tick: Timestamp,
    ticks: u64,
    records_changed: bool,
    view: View,
}

/// What of the configuration stays needed.
struct Kept {
    key: Arc<DeviceKey>,
    presence: Presence,
    doorkeeper: Arc<Doorkeeper>,
    peers: Vec<SocketAddr>,
    publisher: Arc<Publisher>,
    worker: Worker,
    clock: Clock,
}

/// On the way in.
struct Joining {
    ticket: Ticket,
    keep: KeepAdmitted,
    next_dial: Timestamp,
    since: Timestamp,
    discovered: BTreeMap<DeviceId, Vec<SocketAddr>>,
}

impl Runner {
    /// Opens the sockets. Call on the runtime that will [`run`](Self::run) it.
    pub fn new(
        config: RunnerConfig,
        inputs: UnboundedReceiver<Input>,
        input_sender: UnboundedSender<Input>,
    ) -> anyhow::Result<Self> {
        let clock = config.clock;
        let now = clock.now();
        let behaviour = Behaviour::new(&config.key, config.organisation, config.mdns)?;
        let transport = LinkTransport::new(
            Arc::clone(&config.key),
            Arc::new(SystemRandom),
            config.binder,
            Arc::clone(&config.doorkeeper) as _,
            Arc::clone(&config.links),
        );
        let transport = libp2p::Transport::map(transport, |(peer, muxer), _| {
            (peer, libp2p::core::muxing::StreamMuxerBox::new(muxer))
        });
        let swarm_config =
            libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(FOREVER);
        let mut swarm = Swarm::new(
            libp2p::Transport::boxed(transport),
            behaviour,
            config.key.id().peer_id(),
            swarm_config,
        );
        // Others remember the port of the last run, and routers may be set to it.
        let last_port = config.store.as_ref().and_then(OrganisationStore::port);
        let mut listen_again = |address: &SocketAddr| {
            let same = last_port.filter(|_| address.port() == 0);
            same.is_some_and(|port| {
                swarm.listen_on(multiaddr_of(SocketAddr::new(address.ip(), port))).is_ok()
            })
        };
        let listen: Vec<_> = config.listen.iter().filter(|it| !listen_again(it)).collect();
        let listen_if_possible = config.listen_if_possible.iter();
        let listen_if_possible: Vec<_> =
            listen_if_possible.filter(|it| !listen_again(it)).collect();
        for address in listen {
            swarm.listen_on(multiaddr_of(*address)).map_err(|error| {
                let reason = deepest(&error);
                anyhow::anyhow!("cannot listen on {address}: {reason}: choose another --listen")
            })?;
        }
        for address in listen_if_possible {
            if let Err(error) = swarm.listen_on(multiaddr_of(*address)) {
                tracing::info!(%address, %error, "not listening there");
            }
        }
        let joining = config.ticket.map(|(ticket, keep)| Joining {
            ticket,
            keep,
            next_dial: now,
            since: now,
            discovered: BTreeMap::new(),
        });
        let device = config.key.id();
        tokio::spawn(Arc::clone(&config.links).forward());
        let mut runner = Self {
            swarm,
            squad: None,
            store: None,
            joining,
            start_voice: Some(config.start_voice),
            voice: None,
            links: config.links,
            link_events: config.link_events,
            inputs,
            input_sender,
            topic: behaviour::topic(config.organisation),
            requests: BTreeMap::new(),
            dials: BTreeMap::new(),
            heard: BTreeMap::new(),
            listen_addresses: BTreeSet::new(),
            moved: false,
            ready_at: Some(now + READY_TIMEOUT),
            next_tick: now,
            ticks: 0,
            records_changed: false,
            view: View::new(device, &config.presence.name),
            config: Kept {
                key: config.key,
                presence: config.presence,
                doorkeeper: config.doorkeeper,
                peers: config.peers,
                publisher: config.publisher,
                worker: config.worker,
                clock,
            },
        };
        runner.view.set_transmit(config.transmit);
        if let Some(store) = config.store {
            runner.begin(now, store)?;
        }
        Ok(runner)
    }

    /// Works until told to stop, and returns why it has.
    pub async fn run(mut self) -> anyhow::Result<String> {
        // Addresses come from now on, however long the voice side took to start.
        self.ready_at = self.ready_at.map(|_| self.config.clock.now() + READY_TIMEOUT);
        loop {
            let wake_at = self.wake_at();
            let sleep = wake_at.saturating_duration_since(self.config.clock.now());
            tokio::select! {
                biased;
                input = self.inputs.recv() => {
                    let Some(input) = input else { break Ok("the program has ended".to_owned()) };
                    if let Some(reason) = self.handle_input(input)? {
                        self.leave().await;
                        break Ok(reason);
                    }
                }
                Some(event) = self.link_events.recv() => self.handle_link(event)?,
                event = self.swarm.select_next_some() => self.handle_swarm(event)?,
                () = tokio::time::sleep(sleep) => {}
            }
            let now = self.config.clock.now();
            if now >= self.next_tick {
                self.tick(now)?;
            }
            if let Some(squad) = &mut self.squad {
                squad.handle_timeout(now);
                let full = squad.is_full();
                self.config.doorkeeper.set_full(full.then(|| self.links.devices()));
            }
            self.carry_out(now);
        }
    }

    /// Goes to work in an organisation that this device belongs to.
    fn begin(&mut self, now: Timestamp, store: OrganisationStore) -> anyhow::Result<()> {
        let charter = store.charter().clone();
        let directory = Directory::restore(&charter, &store.members()?);
        for record in directory.records() {
            self.config.doorkeeper.add_member(record.unverified().device);
        }
        let squad = SquadConfig {
            key: Arc::clone(&self.config.key),
            chain: store.chain().clone(),
            presence: Presence { addresses: self.own_addresses(), ..self.config.presence.clone() },
            directory,
            last_generation: store.generation()?,
            charter,
        };
        let mut squad = Squad::new(now, squad, Arc::new(SystemRandom));
        for address in &self.config.peers {
            squad.handle_discovered(now, None, &[*address]);
        }
        self.view.begin(&store);
        let start_voice = self.start_voice.take().expect("a node begins once");
        self.voice = Some(start_voice(&store, &self.links, self.input_sender.clone())?);
        self.squad = Some(squad);
        self.store = Some(store);
        Ok(())
    }

    fn handle_input(&mut self, input: Input) -> anyhow::Result<Option<String>> {
        let now = self.config.clock.now();
        match input {
            Input::Stop(reason) => return Ok(Some(reason)),
            Input::Command(Command::Quit) => return Ok(Some("quit".to_owned())),
            Input::Command(command) => {
                if let Some(command) = self.view.handle_command(command)
                    && let Some(voice) = &self.voice
                {
                    voice.command(command);
                }
                self.show(now, false);
            }
            Input::Settled(told) => {
                // Whoever waited may have gone.
                let _ = told.try_send(());
            }
            Input::Voice(VoiceEvent::KeyUsed) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_talked(now);
                }
            }
            Input::Voice(event) => {
                if let Some(event) = self.view.handle_voice(event) {
                    self.config.publisher.publish(event);
                }
            }
            Input::Publish(event) => self.config.publisher.publish(event),
            Input::Trouble(end, trouble) => self.view.set_trouble(end, trouble),
            Input::Persisted(generation, Ok(())) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_persisted(now, generation);
                }
            }
            // Without it no new key may be used, and the old ones would open to those who left.
            Input::Persisted(_, Err(error)) => {
                anyhow::bail!("cannot keep the key's number: {error}")
            }
            Input::Ticket(uses, lasting, answer) => {
                // Whoever asked may have gone.
                let _ = answer.try_send(self.issue_ticket(uses, lasting));
            }
        }
        Ok(None)
    }

    fn handle_link(&mut self, event: LinkEvent) -> anyhow::Result<()> {
        let now = self.config.clock.now();
        if let Some(joining) = self.joining.take_if(|_| matches!(event, LinkEvent::Up(_))) {
            let admitted = self.config.doorkeeper.take_admitted();
            let admitted = admitted.expect("a newcomer's first link comes by its admission");
            let store = (joining.keep)(&admitted)?;
            self.begin(now, store)?;
            let squad = self.squad.as_mut().expect("it has begun");
            for (device, addresses) in &joining.discovered {
                squad.handle_discovered(now, Some(*device), addresses);
            }
        }
        let Some(squad) = &mut self.squad else { return Ok(()) };
        match event {
            LinkEvent::Up(link) => {
                self.config.doorkeeper.add_member(link.device());
                self.heard.insert(link.device(), link.heard());
                self.view.link_up(&link);
                let address = link.was_dialled().then(|| link.address());
                squad.handle_link_up(now, link.hello().clone(), address);
            }
            LinkEvent::Down(device, reason) => {
                let reason = match reason {
                    LinkDown::Left => DownReason::Left,
                    LinkDown::Unreachable => DownReason::Unreachable,
                    LinkDown::Restarted => DownReason::Restarted,
                    LinkDown::Closed => DownReason::Refused,
                };
                squad.handle_link_down(now, device, reason);
            }
        }
        Ok(())
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) -> anyhow::Result<()> {
        let now = self.config.clock.now();
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(now, event),
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.insert(address);
                    self.ready_at = self.ready_at.map(|at| at.min(now + ADDRESSES_SETTLE));
                    self.handle_addresses(now);
                    if std::mem::take(&mut self.moved) {
                        self.redial_accepted();
                    }
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some((address, _)) = address_of(&address) {
                    self.listen_addresses.remove(&address);
                    self.handle_addresses(now);
                    self.moved = true;
                    if !self.listen_addresses.is_empty() {
                        self.redial_accepted();
                    }
                }
            }
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.dials.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                if let Some(dial) = self.dials.remove(&connection_id)
                    && let Some(squad) = &mut self.squad
                {
                    squad.handle_dial_failed(now, dial.device, &dial.addresses);
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "connection refused");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
        Ok(())
    }

    fn handle_behaviour(&mut self, now: Timestamp, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                let mut by_device: BTreeMap<DeviceId, Vec<SocketAddr>> = BTreeMap::new();
                for (peer, address) in found {
                    if let (Some(device), Some((address, _))) =
                        (DeviceId::from_peer_id(&peer), address_of(&address))
                    {
                        by_device.entry(device).or_default().push(address);
                    }
                }
                for (device, addresses) in by_device {
                    match (&mut self.squad, &mut self.joining) {
                        (Some(squad), _) => {
                            squad.handle_discovered(now, Some(device), &addresses);
                        }
                        (None, Some(joining)) if joining.discovered.len() < DISCOVERED_LIMIT => {
                            joining.discovered.insert(device, addresses);
                            joining.next_dial = now;
                        }
                        _ => {}
                    }
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let Some(squad) = &mut self.squad else { return };
                let acceptance = match squad.handle_gossip(now, &message.data) {
                    Ok(()) => gossipsub::MessageAcceptance::Accept,
                    Err(error) => {
                        tracing::debug!(%error, "gossip refused");
                        gossipsub::MessageAcceptance::Reject
                    }
                };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            BehaviourEvent::Messages(event) => self.handle_message(now, event),
            _ => {}
        }
    }

    fn handle_message(&mut self, now: Timestamp, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        let Some(squad) = &mut self.squad else { return };
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(device) = DeviceId::from_peer_id(&peer) else { return };
                    let result = squad.handle_message(now, device, &request);
                    if let Err(error) = &result {
                        tracing::debug!(?device, %error, "message refused");
                    }
                    let answer = Acknowledgement::from(&result).encode().to_vec();
                    // The stream may have ended meanwhile; the sender then sends again.
                    let _ = self.swarm.behaviour_mut().messages.send_response(channel, answer);
                }
                request_response::Message::Response { request_id, response } => {
                    let Some((device, id)) = self.requests.remove(&request_id) else { return };
                    if Acknowledgement::decode(&response) == Some(Acknowledgement::Taken) {
                        squad.handle_delivered(now, device, id);
                    } else {
                        squad.handle_failed(now, device, id);
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                tracing::debug!(%error, "message not delivered");
                if let Some((device, id)) = self.requests.remove(&request_id) {
                    squad.handle_failed(now, device, id);
                }
            }
            request_response::Event::InboundFailure { .. }
            | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn handle_addresses(&mut self, now: Timestamp) {
        let addresses = self.own_addresses();
        self.config.doorkeeper.set_addresses(addresses.clone());
        if let Some(squad) = &mut self.squad {
            squad.handle_addresses(now, addresses);
        }
    }

    /// Dials those who have dialled us, from another address than the one that is gone. [PROTO-2.10]
    fn redial_accepted(&mut self) {
        for (device, address) in self.links.forsake_accepted() {
            self.dial(Dial { device: Some(device), addresses: vec![address] });
        }
    }

    /// Where others can reach us: not by loopback, unless there is nothing else.
    fn own_addresses(&self) -> Vec<SocketAddr> {
        let useful = |address: &&SocketAddr| match address {
            SocketAddr::V4(address) => !address.ip().is_loopback(),
            SocketAddr::V6(address) => {
                !address.ip().is_loopback() && !address.ip().is_unicast_link_local()
            }
        };
        let outside: Vec<_> = self.listen_addresses.iter().filter(useful).copied().collect();
        if outside.is_empty() { self.listen_addresses.iter().copied().collect() } else { outside }
    }

    /// Ten times a second.
    fn tick(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.next_tick = now + TICK;
        self.ticks += 1;
        self.join(now)?;
        if self.ready_at.is_some_and(|at| now >= at) && self.squad.is_some() {
            self.ready_at = None;
            let ticket = self.issue_ticket(0, TICKET_LASTS);
            self.view.ticket = ticket.to_string();
            for event in self.view.ready(self.own_addresses()) {
                self.config.publisher.publish(event);
            }
        }
        let links = self.links.all();
        if let Some(squad) = &mut self.squad {
            for link in &links {
                let heard = link.heard();
                if self.heard.insert(link.device(), heard).is_none_or(|before| before < heard) {
                    squad.handle_heard(heard, link.device());
                }
            }
        }
        let second = self.ticks.is_multiple_of(TICKS_A_SECOND);
        self.show(now, second);
        if second {
            if self.ticks.is_multiple_of(10 * TICKS_A_SECOND) && self.ready_at.is_none() {
                // Members who can admit have come and gone.
                self.view.ticket = self.issue_ticket(0, TICKET_LASTS).to_string();
            }
            self.keep_records();
            links.iter().for_each(|link| link.nudge());
        }
        Ok(())
    }

    /// Publishes the state and, each second, the statistics.
    fn show(&mut self, now: Timestamp, second: bool) {
        let Some(voice) = &self.voice else { return };
        let snapshot = self.view.snapshot(now, &self.links.all(), &voice.statistics(), second);
        if second {
            self.config.publisher.publish(self.view.stats_event(&snapshot));
        }
        self.config.publisher.set_snapshot(snapshot);
    }

    /// Knocks at the doors of the ticket until one opens.
    fn join(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let refusal = self.config.doorkeeper.last_refusal();
        if let Some(refusal) = refusal
            && is_final(refusal)
        {
            anyhow::bail!("{refusal}");
        }
        let patience = if refusal.is_some() { JOIN_REFUSED_TIMEOUT } else { JOIN_TIMEOUT };
        if now >= joining.since + patience {
            match refusal {
                Some(refusal) => anyhow::bail!("{refusal}"),
                None => anyhow::bail!(
                    "nobody of {:?} answers: is one of its members running, and reachable from \
                     here? --peer ADDR:PORT tries another address",
                    joining.ticket.name
                ),
            }
        }
        if now < joining.next_dial {
            return Ok(());
        }
        joining.next_dial = now + JOIN_RETRY;
        let mut dials: Vec<_> = joining
            .ticket
            .doors
            .iter()
            .map(|door| (Some(door.device), door.addresses.clone()))
            .collect();
        dials.extend(self.config.peers.iter().map(|address| (None, vec![*address])));
        dials.extend(
            joining.discovered.iter().map(|(device, addresses)| (Some(*device), addresses.clone())),
        );
        for (device, addresses) in dials {
            self.dial(Dial { device, addresses });
        }
        Ok(())
    }

    /// Dials the addresses that are not under way already: one where nobody answers holds up no
    /// other. [PROTO-5.4]
    fn dial(&mut self, mut dial: Dial) {
        let under_way = |address: &SocketAddr| {
            let mut dials = self.dials.values();
            dials.any(|other| other.device == dial.device && other.addresses.contains(address))
        };
        dial.addresses = dial.addresses.iter().copied().filter(|a| !under_way(a)).collect();
        if dial.addresses.is_empty() {
            return;
        }
        let addresses = dial.addresses.iter().copied().map(multiaddr_of);
        let options: Vec<DialOpts> = match dial.device {
            Some(device) => vec![
                DialOpts::peer_id(device.peer_id())
                    .addresses(addresses.collect())
                    .condition(PeerCondition::Always)
                    .build(),
            ],
            None => addresses
                .map(|address| DialOpts::unknown_peer_id().address(address).build())
                .collect(),
        };
        for options in options {
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    self.dials.insert(id, dial.clone());
                }
                Err(error) => {
                    tracing::debug!(%error, "not dialled");
                    if let Some(squad) = &mut self.squad {
                        let now = self.config.clock.now();
                        squad.handle_dial_failed(now, dial.device, &dial.addresses);
                    }
                }
            }
        }
    }

    /// Does what the squad wants done.
    fn carry_out(&mut self, now: Timestamp) {
        loop {
            let Some(squad) = &mut self.squad else { return };
            if let Some(event) = squad.poll_event() {
                self.handle_squad(event);
            } else if let Some(transmit) = squad.poll_transmit() {
                self.transmit(now, transmit);
            } else if let Some(dial) = squad.poll_dial(now) {
                self.dial(dial);
            } else if let Some(generation) = squad.poll_persist() {
                self.persist(generation);
            } else {
                return;
            }
        }
    }

    fn transmit(&mut self, now: Timestamp, transmit: Transmit) {
        match transmit {
            Transmit::Message { to, id, bytes } => {
                let messages = &mut self.swarm.behaviour_mut().messages;
                let request = messages.send_request(&to.peer_id(), bytes.to_vec());
                self.requests.insert(request, (to, id));
                if self.requests.len() > REQUEST_LIMIT
                    && let Some((_, (device, id))) = self.requests.pop_first()
                    && let Some(squad) = &mut self.squad
                {
                    squad.handle_failed(now, device, id);
                }
            }
            Transmit::Gossip(bytes) => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                if let Err(error) = gossip.publish(self.topic.clone(), bytes) {
                    // Nobody there yet, or said already; records are exchanged on each new link.
                    tracing::debug!(%error, "not gossiped");
                }
            }
            Transmit::Datagram { to, bytes } => self.links.send(to, bytes.into()),
        }
    }

    fn handle_squad(&mut self, event: squad::Event) {
        let command = match event {
            squad::Event::OwnKey(secret) => Some(VoiceCommand::UseKey(secret)),
            squad::Event::TalkerKey { device, secret } => {
                Some(VoiceCommand::InstallKey { device, secret })
            }
            squad::Event::TalkerGone { device } => Some(VoiceCommand::RemoveTalker(device)),
            squad::Event::Listeners(devices) => Some(VoiceCommand::SetListeners(devices)),
            squad::Event::RecordsChanged => {
                self.records_changed = true;
                if let Some(squad) = &self.squad {
                    for record in squad.directory().records() {
                        self.config.doorkeeper.add_member(record.unverified().device);
                    }
                }
                None
            }
            event => {
                if let Some(event) = self.view.handle_squad(event, &self.links) {
                    self.config.publisher.publish(event);
                }
                None
            }
        };
        if let (Some(command), Some(voice)) = (command, &self.voice) {
            voice.command(command);
        }
    }

    fn persist(&self, generation: u16) {
        let Some(store) = self.store.clone() else { return };
        let inputs = self.input_sender.clone();
        (self.config.worker)(Box::new(move || {
            let kept = store.keep_generation(generation).map_err(|error| error.to_string());
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Persisted(generation, kept));
        }));
    }

    fn keep_records(&mut self) {
        if !std::mem::take(&mut self.records_changed) {
            return;
        }
        let (Some(store), Some(squad)) = (self.store.clone(), &self.squad) else { return };
        let snapshot = squad.directory().snapshot();
        let port = self.listen_addresses.first().map(SocketAddr::port);
        (self.config.worker)(Box::new(move || {
            let kept = store.keep_members(&snapshot).and_then(|()| store.keep_port(port));
            if let Err(error) = kept {
                tracing::warn!(%error, "members are not remembered");
            }
        }));
    }

    /// An invite by this device, with those who can admit, this device first.
    fn issue_ticket(&self, uses: u8, lasting: Duration) -> Ticket {
        let own = hark_keys::Door {
            device: self.config.key.id(),
            addresses: self.own_addresses().into_iter().take(6).collect(),
        };
        let others = self.links.all();
        let others = others.iter().filter(|_| uses == 0).map(|link| hark_keys::Door {
            device: link.device(),
            addresses: link.hello().addresses.iter().copied().take(3).collect(),
        });
        let doors = std::iter::once(own).chain(others).take(3).collect();
        Ticket::issue(
            &self.config.key,
            self.view.organisation(),
            self.view.organisation_name(),
            self.config.clock.unix() + lasting,
            uses,
            doors,
            &SystemRandom,
        )
    }

    fn wake_at(&self) -> Timestamp {
        let squad = self.squad.as_ref().and_then(Squad::poll_timeout);
        squad.map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Says goodbye.
    async fn leave(&mut self) {
        if let (Some(store), Some(squad)) = (&self.store, &self.squad)
            && let Err(error) = store.keep_members(&squad.directory().snapshot())
        {
            tracing::warn!(%error, "members are not remembered");
        }
        self.links.leave();
        // What is still queued leaves with the next turns of the sockets.
        let goodbye = async {
            loop {
                let _ = self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Whether another door would say the same. Not of an expired ticket: by this device's clock it is
/// good, so that door's clock may be wrong.
fn is_final(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TicketUsedUp | Refusal::TicketInvalid | Refusal::Version | Refusal::Certificate
    )
}

/// What really went wrong: the last of a chain of causes.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// An input's sender and receiver. Unbounded, as only this process fills it: with what one person
/// does, and some hundred events a second at most.
pub fn inputs() -> (UnboundedSender<Input>, UnboundedReceiver<Input>) {
    unbounded_channel()
}

/// Links end by their own rules, not by libp2p's idea of idleness.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u64 = 10;

/// Addresses of several interfaces come one by one; `ready` waits this long after one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// And no longer than this for the first.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a squad's ticket admits.
const TICKET_LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// A newcomer knocks this often, and gives up after that long.
const JOIN_RETRY: Duration = Duration::from_secs(1);
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// One that was refused at a door gives the other doors this long.
const JOIN_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);

/// Devices on the LAN that a newcomer tries; further ones are left out.
const DISCOVERED_LIMIT: usize = 64;

/// Messages under way; the oldest counts as lost.
const REQUEST_LIMIT: usize = 4096;

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(100);
