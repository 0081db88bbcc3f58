//! The thread that decides: the swarm, the squad and everyone who wants something of them.
//!
//! Everything that happens comes in as an input of [`Squad`], which decides; what it wants done is
//! then carried out here. Voice passes by: its datagrams go from the links to the voice thread and
//! back without a stop.

mod checks;
mod commands;
mod dials;
mod effects;
mod host;
mod member_moves;
mod membership;
mod people;
mod profile_store;
mod publisher;
mod radio;
mod roles;
mod router;
mod standings;
mod view;
mod volunteering;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use hark_charter::Charter;
use hark_commands::{Outcome, Request};
use hark_keys::{
    DeviceId, DeviceKey, Invite, MemberId, OrganisationId, TargetId, Ticket, Timestamp,
};
use hark_mesh::{
    Directory,
    hello::{Presence, Refusal},
    message::CheckNonce,
    squad::{DownReason, JobDone, Squad, SquadConfig},
};
use hark_voice::{VoiceCommand, VoiceEvent, VoiceStatistics};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::publisher::{Publisher, SUBSCRIPTION_LIMIT};
pub use self::standings::StandingChange;
use self::view::View;
use self::{people::Verified, profile_store::PendingWrite, radio::Radio, router::Router};
use crate::{
    admission::{Admitted, Doorkeeper},
    clock::Clock,
    event::{Direction, Event},
    link::{Binder, Link, LinkDown, LinkEvent, Links},
    random::SystemRandom,
    reach::{
        names::{Found, Names},
        ports::{self, Surroundings},
    },
    relay::Relay,
    snapshot::{Command, TicketRequest, TransmitMode},
    store::OrganisationStore,
    swarm::{News, SwarmDriver, SwarmDriverConfig},
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

/// Told, line by line and for a person, what comes of joining by a ticket.
pub type TellJoining = Arc<dyn Fn(&str) + Send + Sync>;

/// Does work that waits for the disk, or takes long, away from the thread that decides, in the
/// order in which it comes.
pub type Worker = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Told of each message that goes to a peer on their link, before it goes: for whoever judges a
/// whole squad. A product has none. The bytes may hold a key.
pub type Overhear = Arc<dyn Fn(DeviceId, &[u8]) + Send + Sync>;

/// What comes in from other threads.
pub enum Input {
    /// A person or a program wants something, and may wait until it is done, perhaps with something
    /// to know of it, or refused in a line.
    Command(Command, SyncSender<Result<Option<String>, String>>),
    /// Something happened in the voice thread.
    Voice(VoiceEvent),
    /// Something to tell, as it is.
    Publish(Event),
    /// One end of the sound does not work, for this reason; none when it does again.
    Trouble(Direction, Option<String>),
    /// A worker has looked at what others have sent of the charter.
    Worked(Box<JobDone>),
    /// Something is on disk, or could not be written.
    Persisted(Persisted, Result<(), String>),
    /// A new ticket is wanted.
    Ticket(TicketRequest, SyncSender<Result<Ticket, String>>),
    /// What a new charter has changed for members.
    Standings(Vec<StandingChange>),
    /// Names lead there.
    Found(Vec<Found>),
    /// What has come of asking the router for a port.
    Router(ports::Report),
    /// A stranger's packet has come to a socket that listens, as was asked for.
    Checked(CheckNonce),
    /// Something is wanted of the charter.
    Charter(Box<Request>, SyncSender<Result<Outcome, String>>),
    /// End, for this reason.
    Stop(String),
}

impl Input {
    /// A command, and where to wait until it is done.
    pub fn command(command: Command) -> (Self, Receiver<Result<Option<String>, String>>) {
        let (told, done) = sync_channel(1);
        (Self::Command(command, told), done)
    }
}

/// What was written to disk.
#[derive(Clone, Copy, Debug)]
pub enum Persisted {
    /// A generation of the key for a target.
    Generation(TargetId, u16),
    /// The charter with this number.
    Charter(u64),
    /// The profiles.
    Profiles,
    /// The devices that are known to be their owners'.
    Verified,
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
    /// Told what comes of the ticket.
    pub tell_joining: Option<TellJoining>,
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
    /// Others, and names, which are looked up.
    pub names: Option<Names>,
    /// Whether to look on the LAN.
    pub mdns: bool,
    /// Whether no member is to learn where this device is.
    pub relay_only: bool,
    /// Where to ask the router for a port, if it is to be asked.
    pub port_mapping: Option<Box<dyn Surroundings>>,
    /// All links.
    pub links: Arc<Links>,
    /// Their comings and goings.
    pub link_events: UnboundedReceiver<LinkEvent>,
    /// Forwards for others, where this node relays.
    pub relay: Arc<Relay>,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Told of each message to a peer.
    pub overhear: Option<Overhear>,
    /// Does what waits for the disk.
    pub worker: Worker,
    /// Makes the voice side.
    pub start_voice: StartVoice,
    /// Where events and snapshots go.
    pub publisher: Arc<Publisher>,
    /// How the microphone opens; as the profile says where none is given.
    pub transmit: Option<TransmitMode>,
    /// The profile to use; the last one where none is given.
    pub profile: Option<String>,
    /// What this run begins with.
    pub flags: Flags,
    /// Reads time.
    pub clock: Clock,
}

/// What a person wants for one run.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Channels to hear, by name; what the charter says where none is given.
    pub channels: Vec<String>,
    /// Channels to talk to, by name; what the charter says where none is given.
    pub talk_to: Vec<String>,
    /// Whether they may be of a charter to come. If not, a member's node does not start with a name
    /// that is unknown. Newcomers, who know no charter before, are told of it.
    pub to_come: bool,
}

/// One node at work. Lives on the runtime of its thread.
pub struct Runner {
    wires: SwarmDriver,
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
    heard: BTreeMap<DeviceId, Timestamp>,
    router: Option<Router>,
    /// When `ready` is told, whatever addresses are still to come.
    ready_at: Option<Timestamp>,
    next_tick: Timestamp,
    ticks: u64,
    records_changed: bool,
    radio: Radio,
    keeping: PendingWrite,
    /// What is heard and talked to must be looked at again.
    unsettled: bool,
    generations: BTreeMap<TargetId, u16>,
    /// When a newcomer's flags are held against the charter.
    check_flags_at: Option<Timestamp>,
    /// The charter up to which it was told what has changed for members.
    compared: Option<Arc<Charter>>,
    /// When a newcomer has heard what has long been so, which is no news.
    joined_at: Option<Timestamp>,
    /// By what it has come.
    joined_by: Option<Invite>,
    /// This device does not belong any more.
    removed: bool,
    /// What those said last who refused this device.
    refusals: BTreeMap<DeviceId, Refusal>,
    /// The last of them who is nobody of the organisation, until it is clear whether the person has
    /// asked for the connection.
    stranger: Option<(DeviceId, Refusal)>,
    /// Revoked tickets that were tried here, and when the person was told.
    tried: BTreeMap<DeviceId, Timestamp>,
    view: View,
}

/// What of the configuration stays needed.
struct Kept {
    key: Arc<DeviceKey>,
    presence: Presence,
    doorkeeper: Arc<Doorkeeper>,
    relay: Arc<Relay>,
    relay_only: bool,
    peers: Vec<SocketAddr>,
    profile: Option<String>,
    flags: Flags,
    publisher: Arc<Publisher>,
    overhear: Option<Overhear>,
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
    report: dials::Report,
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
        let mut wires = SwarmDriver::new(SwarmDriverConfig {
            key: Arc::clone(&config.key),
            organisation: config.organisation,
            mdns: config.mdns,
            links_max: LINKS_MAX,
            is_hub: false,
            binder: config.binder,
            admission: Arc::clone(&config.doorkeeper) as _,
            links: Arc::clone(&config.links),
            clock,
        })?;
        let last_port = config.store.as_ref().and_then(OrganisationStore::port);
        for address in config.listen {
            let taken = wires.listen(address, last_port).map_err(|reason| {
                anyhow::anyhow!("cannot listen on {address}: {reason}: choose another --listen")
            })?;
            if let Some(port) = taken {
                config.publisher.publish(Event::PortTaken { port });
            }
        }
        for address in config.listen_if_possible {
            if let Err(error) = wires.listen(address, last_port) {
                tracing::info!(%address, %error, "not listening there");
            }
        }
        let joining = config.ticket.map(|(ticket, keep)| Joining {
            ticket,
            keep,
            next_dial: now,
            since: now,
            discovered: BTreeMap::new(),
            report: dials::Report::new(config.tell_joining),
        });
        let router = config
            .port_mapping
            .map(|surroundings| Router::ask(surroundings, config.clock, input_sender.clone()));
        if let Some(names) = config.names {
            let inputs = input_sender.clone();
            tokio::spawn(names.run(move |place, found| {
                let input = found.map_or_else(
                    |error| {
                        let text =
                            format!("--peer {place} leads to nobody: {error}; looking again");
                        Input::Publish(Event::Notice { text })
                    },
                    Input::Found,
                );
                // The node may have ended meanwhile.
                let _ = inputs.send(input);
            }));
        }
        let device = config.key.id();
        config.publisher.set_organisation(config.organisation);
        tokio::spawn(Arc::clone(&config.links).run_sender());
        let mut runner = Self {
            wires,
            squad: None,
            store: None,
            joining,
            start_voice: Some(config.start_voice),
            voice: None,
            links: config.links,
            link_events: config.link_events,
            inputs,
            input_sender,
            heard: BTreeMap::new(),
            router,
            ready_at: Some(now + READY_TIMEOUT),
            next_tick: now,
            ticks: 0,
            records_changed: false,
            radio: Radio::new(&config.flags.channels, &config.flags.talk_to, config.transmit),
            keeping: PendingWrite::default(),
            unsettled: true,
            generations: BTreeMap::new(),
            check_flags_at: None,
            compared: None,
            joined_at: None,
            joined_by: None,
            removed: false,
            refusals: BTreeMap::new(),
            stranger: None,
            tried: BTreeMap::new(),
            view: View::new(device, &config.presence.name),
            config: Kept {
                key: config.key,
                presence: config.presence,
                doorkeeper: config.doorkeeper,
                relay: config.relay,
                relay_only: config.relay_only,
                peers: config.peers,
                profile: config.profile,
                flags: config.flags,
                publisher: config.publisher,
                overhear: config.overhear,
                worker: config.worker,
                clock,
            },
        };
        if let Some(store) = config.store {
            runner.begin(now, store)?;
            if !runner.config.flags.to_come {
                runner.check_flags(now).map_err(anyhow::Error::msg)?;
            }
        }
        Ok(runner)
    }

    /// Works until told to stop, and returns why it has.
    pub async fn run(mut self) -> anyhow::Result<String> {
        tokio::spawn(Arc::clone(&self.config.relay).run());
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
                news = self.wires.next(self.squad.as_mut()) => self.handle_news(news),
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
            self.weigh_refusals();
            self.add_devices(now);
            self.note_redeemed();
            self.tell_tried(now);
            self.tell_waiting();
            self.carry_out(now);
            if self.removed {
                if self.has_retired_itself() {
                    // Nobody else says it.
                    self.wires.finish().await;
                }
                self.leave().await;
                anyhow::bail!(self.farewell());
            }
        }
    }

    /// Goes to work in an organisation that this device belongs to.
    fn begin(&mut self, now: Timestamp, store: OrganisationStore) -> anyhow::Result<()> {
        let charter = Arc::clone(store.charter());
        let directory = Directory::restore(&charter, &store.members()?);
        self.generations = store.generations()?;
        let squad = SquadConfig {
            key: Arc::clone(&self.config.key),
            member: Some(store.member()),
            relay_only: self.config.relay_only,
            presence: Presence {
                addresses: self.wires.own_addresses(),
                ..self.config.presence.clone()
            },
            directory,
            generations: self.generations.clone(),
            names: store.names()?,
            calendar: self.config.clock.unix(),
            charter,
        };
        let mut squad = Squad::new(now, squad, Arc::new(SystemRandom));
        self.links.expect_from(squad.directory().addresses());
        for address in &self.config.peers {
            squad.handle_discovered(now, None, &[*address]);
        }
        self.view.begin(&store);
        self.restore_profiles(&store, &squad)?;
        self.view.verified = Verified::restore(store.verified()?);
        let start_voice = self.start_voice.take().expect("a node begins once");
        self.voice = Some(start_voice(&store, &self.links, self.input_sender.clone())?);
        self.tell_voice([VoiceCommand::SignWith(Arc::clone(&self.config.key))]);
        squad.volunteer(now, store.volunteers());
        self.limit_relay(store.volunteers());
        self.compared = Some(Arc::clone(squad.charter()));
        self.squad = Some(squad);
        self.store = Some(store);
        Ok(())
    }

    fn handle_input(&mut self, input: Input) -> anyhow::Result<Option<String>> {
        let now = self.config.clock.now();
        match input {
            Input::Stop(reason) => return Ok(Some(reason)),
            Input::Command(Command::Quit, _) => return Ok(Some("quit".to_owned())),
            Input::Command(command, told) => {
                let done = self.handle_command(now, command);
                self.carry_out(now);
                self.show(now, false);
                // Whoever waited may have gone.
                let _ = told.try_send(done);
            }
            Input::Voice(VoiceEvent::KeyUsed { target }) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_talked(now, target);
                }
            }
            Input::Voice(VoiceEvent::RelaySilent { relay }) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_relay_silent(now, relay);
                }
            }
            Input::Voice(VoiceEvent::RelayFails { relay, listener, for_good }) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_relay_fails(now, relay, listener, for_good);
                }
            }
            Input::Voice(VoiceEvent::RelayForges { relay, talker }) => {
                self.config.publisher.publish(self.view.relay_forges(relay, talker));
            }
            Input::Voice(VoiceEvent::RelayUnproven { relay, talker }) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_relay_unproven(now, relay, talker);
                }
            }
            Input::Voice(event) => {
                match event {
                    VoiceEvent::OwnTalkStarted { .. } => self.radio.handle_talkspurt_started(),
                    VoiceEvent::OwnTalkEnded => {
                        self.radio.handle_talkspurt_ended();
                        self.unsettled = true;
                    }
                    _ => {}
                }
                if let Some(squad) = &self.squad
                    && let Some(event) = self.view.handle_voice(squad, event)
                {
                    self.config.publisher.publish(event);
                }
            }
            Input::Publish(event) => self.config.publisher.publish(event),
            Input::Trouble(end, trouble) => self.view.set_trouble(end, trouble),
            Input::Worked(done) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_job(now, *done);
                }
            }
            Input::Persisted(persisted, Ok(())) => match (&mut self.squad, persisted) {
                (Some(squad), Persisted::Generation(target, generation)) => {
                    squad.handle_persisted(now, target, generation);
                }
                (Some(squad), Persisted::Charter(number)) => {
                    squad.handle_charter_persisted(now, number);
                }
                (_, Persisted::Profiles) => self.handle_profiles_kept(Ok(())),
                (_, Persisted::Verified) | (None, _) => {}
            },
            // Without it no new key may be used, and the old ones would open to those who left.
            Input::Persisted(Persisted::Generation(..), Err(error)) => {
                anyhow::bail!("cannot keep the key's number: {error}")
            }
            Input::Persisted(Persisted::Profiles, kept) => self.handle_profiles_kept(kept),
            Input::Persisted(Persisted::Verified, Err(error)) => {
                tracing::error!(%error, "who is verified is not kept");
                self.view.forgetful = Some(format!("who is verified is not kept: {error}"));
            }
            Input::Persisted(Persisted::Charter(number), Err(error)) => {
                tracing::warn!(%error, "the charter is not kept, and tried again");
                if let Some(squad) = &mut self.squad {
                    squad.handle_charter_unwritten(now, number);
                }
            }
            Input::Charter(request, answer) => {
                // Whoever asked may have gone.
                let _ = answer.try_send(self.command_charter(now, *request));
                self.carry_out(now);
            }
            Input::Standings(changes) => self.tell_standings(&changes),
            Input::Found(found) => self.handle_found(now, found),
            Input::Router(report) => self.handle_router(now, report),
            Input::Checked(nonce) => {
                if let Some(squad) = &mut self.squad {
                    squad.handle_checked(now, nonce);
                }
            }
            Input::Ticket(request, answer) => {
                // Whoever asked may have gone.
                let _ = answer.try_send(self.wanted_ticket(now, &request));
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
            self.check_flags_at = (!self.config.flags.to_come).then_some(now + FLAGS_PATIENCE);
            self.joined_at = Some(now + CATCHES_UP_WITHIN);
            self.joined_by = Some(joining.ticket.invite().clone());
            let squad = self.squad.as_mut().expect("it has begun");
            for (device, addresses) in &joining.discovered {
                squad.handle_discovered(now, Some(*device), addresses);
            }
        }
        let Some(squad) = &mut self.squad else { return Ok(()) };
        match event {
            LinkEvent::Up(link) => {
                self.heard.insert(link.device(), link.heard());
                self.view.link_up(&link, &self.links);
                let address = link.address().filter(|_| link.was_dialled());
                let (device, member) = (link.device(), link.hello().member);
                self.config.relay.renew_outlet(device, &self.links);
                squad.handle_link_up(now, link.hello().clone(), address);
                if let Some(best) = self.links.best(device) {
                    self.handle_path(now, &best);
                }
                let promised = self.config.doorkeeper.take_promised(device);
                if let (Some(promised), Some(member)) = (promised, member) {
                    self.give(now, member, &link.hello().name, promised);
                }
            }
            LinkEvent::Changed(link) => {
                self.config.relay.renew_outlet(link.device(), &self.links);
                self.handle_path(now, &link);
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
            // A member is a door itself.
            LinkEvent::Visit(_) | LinkEvent::VisitEnded(_) => {}
        }
        Ok(())
    }

    /// Packets of a linked member come by this link.
    fn handle_path(&mut self, now: Timestamp, link: &Link) {
        if let Some(squad) = &mut self.squad {
            squad.handle_path(now, link.device(), link.seen());
        }
        if let Some(event) = self.view.link_used(link, &self.links) {
            self.config.publisher.publish(event);
        }
    }

    fn handle_news(&mut self, news: News) {
        let now = self.config.clock.now();
        match news {
            News::Addresses { new } => {
                if new {
                    self.ready_at = self.ready_at.map(|at| at.min(now + ADDRESSES_SETTLE));
                }
                if let Some(router) = &self.router {
                    router.set_listening(self.wires.listen_addresses());
                }
                self.config.doorkeeper.set_addresses(self.wires.own_addresses());
            }
            News::Discovered(found) => {
                let Some(joining) = &mut self.joining else { return };
                for (device, addresses) in found {
                    let is_named = self.config.doorkeeper.is_named(device);
                    if is_named || joining.discovered.len() < DISCOVERED_LIMIT {
                        joining.discovered.insert(device, addresses);
                        joining.next_dial = now;
                    }
                }
            }
            News::Refused(refusal) => self.handle_refused(refusal),
            News::Nothing => {}
        }
    }

    /// Ten times a second.
    fn tick(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.next_tick = now + TICK;
        self.ticks += 1;
        if let Some(squad) = &mut self.squad {
            squad.set_calendar(now, self.config.clock.unix());
        }
        self.join(now)?;
        if self.ready_at.is_some_and(|at| now >= at) && self.squad.is_some() {
            self.ready_at = None;
            for event in self.view.ready(self.wires.own_addresses()) {
                self.config.publisher.publish(event);
            }
        }
        let links = self.links.all();
        // A peer's address, and which of its links is silent, change without an event.
        links.iter().for_each(|link| self.handle_path(now, link));
        if let Some(squad) = &mut self.squad {
            for link in &links {
                let heard = link.heard();
                if self.heard.insert(link.device(), heard).is_none_or(|before| before < heard) {
                    squad.handle_heard(heard, link.device());
                }
            }
        }
        let second = self.ticks.is_multiple_of(TICKS_A_SECOND);
        self.release_overdue(now);
        if self.joined_at.take_if(|at| now >= *at).is_some() {
            self.miss_role();
        }
        if self.check_flags_at.take_if(|at| now >= *at).is_some()
            && let Err(text) = self.check_flags(now)
        {
            // Nobody is to be deaf for it; nor is anything said to others than those who were
            // meant.
            self.radio.drop_flags();
            self.unsettled = true;
            self.config.publisher.publish(Event::Notice { text });
        }
        self.keep_profiles(second);
        self.show(now, second);
        if second {
            self.config.relay.renew_outlets(&self.links);
            self.keep_records();
            links.iter().for_each(|link| link.nudge());
        }
        Ok(())
    }

    /// Publishes the state and, each second, the statistics.
    fn show(&mut self, now: Timestamp, second: bool) {
        let (Some(voice), Some(squad)) = (&self.voice, &self.squad) else { return };
        let (links, statistics) = (self.links.all(), voice.statistics());
        let mut snapshot = self.view.snapshot(now, squad, &self.radio, &links, &statistics, second);
        snapshot.checked = checks::views(now, squad);
        let waiting = self.config.doorkeeper.waiting();
        snapshot.waiting = waiting.into_iter().map(|(_, view)| view).collect();
        snapshot.router = self.router.as_ref().map(Router::report);
        if second {
            self.config.publisher.publish(self.view.stats_event(&snapshot));
        }
        snapshot.peers.retain(|peer| !peer.former);
        snapshot.front = self.config.publisher.is_in_front();
        if let Some(event) = self.view.self_changed(&snapshot) {
            self.config.publisher.publish(event);
        }
        self.config.publisher.set_snapshot(snapshot);
    }

    fn wake_at(&self) -> Timestamp {
        let squad = self.squad.as_ref().and_then(Squad::poll_timeout);
        squad.map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Says goodbye.
    async fn leave(&mut self) {
        // Our voice goes elsewhere, where there is another organisation.
        let target = None;
        self.tell_voice([
            VoiceCommand::PushToTalk(false),
            VoiceCommand::SelectTarget { target, keyed: false },
        ]);
        if let (Some(store), Some(squad)) = (&self.store, &self.squad)
            && let Err(error) = store.keep_members(&squad.directory().snapshot())
        {
            tracing::warn!(%error, "members are not remembered");
        }
        self.keep_last_profiles();
        self.keep_last_charter();
        let router = self.router.take();
        let router = async {
            if let Some(router) = router {
                router.leave().await;
            }
        };
        futures::future::join(self.wires.leave(), router).await;
    }
}

/// The member whose node this is.
fn own_member(squad: &Squad) -> MemberId {
    squad.member().expect("whose squad it is was settled when the node began")
}

/// An input's sender and receiver. Unbounded, as only this process fills it: with what one person
/// does, and some hundred events a second at most.
pub fn inputs() -> (UnboundedSender<Input>, UnboundedReceiver<Input>) {
    unbounded_channel()
}

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u64 = 10;

/// And no longer than this for the first.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// Addresses of several interfaces come one by one; `ready` waits this long after one.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(50);

/// A newcomer has the whole charter by then: those who let it in send what it lacks at once.
const FLAGS_PATIENCE: Duration = Duration::from_secs(2);

/// After this a newcomer is told what the charter changes for members as others are.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(5);

/// Devices on the LAN that a newcomer tries; further ones are left out.
const DISCOVERED_LIMIT: usize = 64;

/// Links altogether; more are refused.
const LINKS_MAX: u32 = 512;
