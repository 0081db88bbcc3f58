//! Plays a scenario by stepping all machines and the network through virtual time.

mod faults;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, TryRecvError, sync_channel},
    },
    time::Duration,
};

use hark_keys::{DeviceId, Ticket};
use hark_node::{
    event::{Event, StampedEvent},
    network::Input,
    request::{CommandOutcome, RequestError},
    snapshot::{Command, TicketRequest},
};
use turmoil::Sim;

use crate::{
    context::{self, HostClock},
    disk::{Contents, MemoryDisk},
    judge,
    malice::People,
    measured::Measured,
    member::Seat,
    network::{Fabric, PacketWatcher},
    observation::Observation,
    record::RunRecord,
    relay::{self, Station},
    rules::Evidence,
    scenario::{Cast, DiskFault, Expectation, FaultKind, InstructionKind, TwoWays},
    trace::Trace,
    voice::HeardSound,
    witness::{
        Witness,
        export::{self, SealedFrame},
        heads_of,
    },
};

/// The settings with which a scenario is played.
#[derive(Default)]
pub struct WorldOptions {
    /// The number that determines all random choices.
    pub seed: u64,
    /// Where to write the trace; it is hashed in any case.
    pub trace: Option<Box<dyn io::Write + Send>>,
    /// Called for every packet, in addition to the trace.
    pub packets: Option<PacketWatcher>,
    /// Called now and then with the share of the run that is done.
    pub progress: Option<Box<dyn FnMut(f64) + Send>>,
    /// Whether to measure what only the report shows.
    pub report: bool,
}

/// The results of a run.
pub struct PlayOutcome {
    /// Everything that was measured.
    pub record: RunRecord,
    /// The sound that each member heard, in the order of members.
    pub heard: Vec<Arc<Mutex<HeardSound>>>,
    /// Some of the sealed frames with their keys; empty without a report.
    pub frames: Vec<SealedFrame>,
}

/// Why a scenario could not be played to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The code that runs on a machine has failed.
    #[error("a machine failed: {0}")]
    Machine(String),
    /// The founder could not name a relay of the scenario.
    #[error("the founder cannot name a relay: {0}")]
    Naming(#[source] RequestError),
    /// The founder's node ended before it had named all relays.
    #[error("the founder has ended before it named all relays")]
    NamerEnded,
    /// The trace could not be written.
    #[error("the trace cannot be written: {0}")]
    Trace(#[from] io::Error),
}

/// Plays `cast`. A process may play only one simulation, since the clock and the randomness that it
/// replaces belong to the whole process.
pub fn play(cast: &Cast, options: WorldOptions) -> Result<PlayOutcome, WorldError> {
    context::begin(options.seed);
    let mut world = World::new(cast, options);
    world.run()?;
    world.finish()
}

struct World<'a> {
    cast: &'a Cast,
    /// The machines that have started, in the order of their first starts. Each has a turmoil of
    /// its own: turmoil looks through the pairs of its machines each turn, and the network between
    /// ours is the [`Fabric`].
    machines: Vec<(usize, Sim<'a>)>,
    elapsed: Duration,
    fabric: Fabric,
    seats: Vec<Arc<Seat>>,
    /// The machines of relays, which come after those of members.
    stations: Vec<Arc<Station>>,
    /// The pending answers to the founder's requests that name relays.
    naming: Vec<Receiver<Result<hark_commands::Outcome, RequestError>>>,
    /// The process of each machine.
    processes: Vec<Process>,
    tickets: Vec<Option<String>>,
    /// Pending tickets that members were asked for when they were ready.
    invites: BTreeMap<usize, Receiver<Result<Ticket, RequestError>>>,
    /// What is still to happen, by time and then by the order of planning.
    agenda: BTreeMap<(Duration, usize), Action>,
    planned: usize,
    backups: BTreeMap<(Duration, usize), Contents>,
    observation: Observation,
    devices: BTreeMap<DeviceId, usize>,
    people: People,
    witness: Witness,
    /// Orders whose answers are pending.
    asked: Vec<(usize, Asked)>,
    trace: Arc<Mutex<Trace>>,
    progress: Option<Box<dyn FnMut(f64) + Send>>,
    report: bool,
    seed: u64,
}

/// The state of a machine's process.
#[derive(Debug, Default)]
struct Process {
    running: bool,
    /// The member's device, once the process that runs has told it.
    device: Option<DeviceId>,
    /// Whether it is to start and waits for its ticket.
    waits: bool,
    /// The pending answer to the request for a limited ticket.
    asked: Option<Receiver<Result<Ticket, RequestError>>>,
}

/// Where the answer to an order arrives.
enum Asked {
    Radio(Receiver<Result<CommandOutcome, RequestError>>),
    Charter(Receiver<Result<hark_commands::Outcome, RequestError>>),
}

impl Asked {
    /// One line of the answer, if it has any, or why the order is refused.
    fn answer(&self) -> Result<Result<Option<String>, String>, TryRecvError> {
        match self {
            Self::Radio(receiver) => {
                let line = |done: CommandOutcome| done.deaf.map(|deaf| deaf.to_string());
                Ok(receiver.try_recv()?.map(line).map_err(|error| error.to_string()))
            }
            Self::Charter(receiver) => {
                let answer = receiver.try_recv()?.map_err(|error| error.to_string());
                Ok(answer.map(|outcome| first_change(&outcome)))
            }
        }
    }
}

/// The first change that an order has made, if it has made any.
fn first_change(outcome: &hark_commands::Outcome) -> Option<String> {
    match outcome {
        hark_commands::Outcome::Changed { changes, .. } => changes.first().map(ToString::to_string),
        _ => None,
    }
}

/// Something that is planned for a time.
#[derive(Clone, Debug)]
enum Action {
    Start(usize),
    Press {
        member: usize,
        key: Option<String>,
        down: bool,
    },
    Churn {
        member: usize,
        net: String,
        on: bool,
    },
    Order(usize),
    /// A stranger begins to knock, by its place among the strangers.
    Knock(usize),
    Fault(Box<FaultKind>),
    /// Sets links back to what they were.
    Relink {
        of: Result<usize, usize>,
        ways: Box<TwoWays>,
    },
    Mend(Vec<(usize, usize)>),
    Resume(usize),
    EmptyDisk(usize),
    EndDrain(usize),
    Backup {
        member: usize,
        at: Duration,
    },
    CheckConvergence(Duration),
    NoteCharters(Duration),
}

impl<'a> World<'a> {
    fn new(cast: &'a Cast, options: WorldOptions) -> Self {
        let WorldOptions { seed, trace, packets, progress, report } = options;
        let fabric = Fabric::new(seed, &cast.plan);
        let names: Vec<_> = cast.plan.hosts.iter().map(|host| host.name.clone()).collect();
        let trace = Arc::new(Mutex::new(Trace::new(trace, names)));
        let traced = Arc::clone(&trace);
        let mut packets = packets;
        fabric.watch(Box::new(move |event| {
            traced.lock().unwrap_or_else(PoisonError::into_inner).packet(event);
            if let Some(packets) = &mut packets {
                packets(event);
            }
        }));
        let keeps_sound = report || cast.scenario.expect.iter().any(Expectation::needs_sound);
        let (people, witness) = (People::default(), Witness::default());
        let seats: Vec<_> = cast
            .actors
            .iter()
            .enumerate()
            .map(|(host, actor)| {
                let told = (&people, &witness);
                Seat::new(actor.clone(), (host, fabric.clone()), keeps_sound, told, seed)
            })
            .collect();
        let relays = cast.scenario.relays.iter().zip(seats.len()..);
        let stations = relays.map(|(relay, host)| {
            let told = (&people, &witness);
            Station::new(relay, (host, fabric.clone()), told, seed)
        });
        let stations = stations.collect();
        let mut world = Self {
            cast,
            machines: Vec::new(),
            elapsed: Duration::ZERO,
            fabric,
            processes: cast.plan.hosts.iter().map(|_| Process::default()).collect(),
            stations,
            naming: Vec::new(),
            tickets: vec![None; seats.len()],
            invites: BTreeMap::new(),
            seats,
            agenda: BTreeMap::new(),
            planned: 0,
            backups: BTreeMap::new(),
            observation: Observation::new(cast),
            devices: BTreeMap::new(),
            people,
            witness,
            asked: Vec::new(),
            trace,
            progress,
            report,
            seed,
        };
        world.plan_agenda();
        world
    }

    fn plan_agenda(&mut self) {
        for (index, actor) in self.cast.actors.iter().enumerate() {
            let member = &actor.member;
            if member.clock_skew_ppm != 0.0 {
                let clock = HostClock { skew_ppm: member.clock_skew_ppm, ..HostClock::default() };
                context::set_clock(&actor.name, clock);
            }
            self.plan(member.start.as_duration(), Action::Start(index));
            for press in &member.presses {
                let (from, lasting) = (press.at.as_duration(), press.lasting.as_duration());
                let press = |down| Action::Press { member: index, key: press.key.clone(), down };
                self.plan(from, press(true));
                self.plan(from + lasting, press(false));
            }
        }
        for (index, actor) in self.cast.actors.iter().enumerate() {
            let Some(churn) = &actor.member.churns else { continue };
            let end = churn.at.as_duration() + churn.lasting.as_duration();
            let (mut at, mut on) = (churn.at.as_duration(), false);
            while at < end || !on {
                self.plan(at, Action::Churn { member: index, net: churn.net.clone(), on });
                (at, on) = (at + churn.every.as_duration(), !on);
            }
        }
        for (place, relay) in self.cast.scenario.relays.iter().enumerate() {
            let machine = self.cast.actors.len() + place;
            self.plan(relay.start.as_duration(), Action::Start(machine));
        }
        for (place, stranger) in self.cast.scenario.strangers.iter().enumerate() {
            self.plan(stranger.at.as_duration(), Action::Knock(place));
        }
        for (at, fault) in &self.cast.faults {
            if let FaultKind::Crash { member, disk: DiskFault::AsOf(at), .. } = fault {
                self.plan(*at, Action::Backup { member: *member, at: *at });
            }
            self.plan(*at, Action::Fault(Box::new(fault.clone())));
        }
        for (index, order) in self.cast.orders.iter().enumerate() {
            self.plan(order.at, Action::Order(index));
        }
        for expectation in &self.cast.scenario.expect {
            if let Some(converged) = expectation.converged {
                let by = converged.by.as_duration();
                self.plan(by, Action::CheckConvergence(by));
            }
            if let Some(charter) = expectation.charter {
                let by = charter.by.as_duration();
                self.plan(by, Action::NoteCharters(by));
            }
        }
    }

    fn plan(&mut self, at: Duration, action: Action) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), action);
    }

    fn run(&mut self) -> Result<(), WorldError> {
        let duration = self.cast.scenario.duration.as_duration();
        let mut ticks = 0_u32;
        loop {
            let now = self.elapsed;
            context::set_between(now);
            if now >= duration {
                return Ok(());
            }
            self.fabric.run_until(now);
            while let Some(entry) = self.agenda.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let action = entry.remove();
                self.act(now, action);
            }
            self.start_waiting(now);
            for (_, machine) in &mut self.machines {
                machine.step().map_err(|error| WorldError::Machine(error.to_string()))?;
            }
            self.elapsed += TICK;
            self.take_events(now);
            self.take_invites();
            self.take_relay_events(now);
            self.take_answers(now);
            self.take_naming()?;
            ticks += 1;
            if ticks.is_multiple_of(SAMPLE_TICKS) {
                self.observation.sample(&self.seats, &self.devices);
                self.note_relays(now);
            }
            if self.report && ticks.is_multiple_of(QUEUE_TICKS) {
                self.fabric.sample_queues(now);
            }
            if ticks.is_multiple_of(PROGRESS_TICKS)
                && let Some(progress) = &mut self.progress
            {
                progress(now.as_secs_f64() / duration.as_secs_f64());
            }
        }
    }

    fn act(&mut self, now: Duration, action: Action) {
        match action {
            Action::Start(member) => self.processes[member].waits = true,
            Action::Press { member, key, down } => {
                self.seats[member].send(
                    Input::command(Command::Ptt {
                        down,
                        key,
                        to: None,
                        for_secs: None,
                        tail_ms: None,
                    })
                    .0,
                );
            }
            Action::Churn { member, net, on } => {
                self.seats[member].send(Input::command(Command::Listen { net, on, keep: false }).0);
            }
            Action::Order(index) => self.order(now, index),
            Action::Knock(place) => self.knock(now, place),
            Action::Relink { of, ways } => self.relink(of, *ways),
            Action::Mend(pairs) => {
                pairs.iter().for_each(|(from, to)| self.fabric.set_cut(*from, *to, false));
                self.tell(now, None, "the cut is mended");
            }
            Action::Resume(member) => {
                self.fabric.set_paused(member, false);
                self.tell(now, Some(member), "goes on");
            }
            Action::EndDrain(relay) => {
                self.stations[relay].command(relay::CarrierCommand::Drain(false));
                self.tell(now, Some(self.seats.len() + relay), "takes others on again");
            }
            Action::EmptyDisk(member) => {
                self.seats[member].disk.set_full(false);
                self.tell(now, Some(member), "has room on its disk again");
            }
            Action::Backup { member, at } => {
                self.backups.insert((at, member), self.disk(member).contents());
            }
            Action::CheckConvergence(by) => self.observation.check_convergence(by, &self.seats),
            Action::NoteCharters(by) => self.observation.note_charters(by),
            Action::Fault(fault) => self.strike(now, *fault),
        }
    }

    fn order(&mut self, now: Duration, index: usize) {
        let order = &self.cast.orders[index];
        self.tell(now, Some(order.member), &order.text);
        if self.seats[order.member].voice().is_none() {
            let absent = "it is not in the organisation at that time".to_owned();
            return self.observation.answered(index, Err(absent));
        }
        let input = match &order.kind {
            InstructionKind::Radio(command) => {
                let (input, receiver) = Input::command(command.clone());
                self.asked.push((index, Asked::Radio(receiver)));
                input
            }
            InstructionKind::Charter(request) => {
                let (sender, receiver) = sync_channel(1);
                self.asked.push((index, Asked::Charter(receiver)));
                Input::Charter(request.clone(), sender)
            }
        };
        self.seats[order.member].send(input);
    }

    /// Takes the answers that have arrived. Nodes answer in their own turns, so nothing waits for
    /// them.
    fn take_answers(&mut self, now: Duration) {
        for (index, receiver) in std::mem::take(&mut self.asked) {
            let answer = match receiver.answer() {
                Ok(answer) => answer,
                Err(TryRecvError::Empty) => {
                    self.asked.push((index, receiver));
                    continue;
                }
                Err(TryRecvError::Disconnected) => Err("its node has ended".to_owned()),
            };
            let member = self.cast.orders[index].member;
            match &answer {
                Ok(None) => {}
                Ok(Some(line)) => self.tell(now, Some(member), &format!("is answered: {line}")),
                Err(reason) => self.tell(now, Some(member), &format!("is refused: {reason}")),
            }
            self.observation.answered(index, answer.map(|_| ()));
        }
    }

    /// Starts every machine that is to start and has a ticket, if it needs one.
    fn start_waiting(&mut self, now: Duration) {
        for machine in 0..self.processes.len() {
            let station = self.station(machine).cloned();
            let may_start = match &station {
                Some(station) => self.has_organisation(station),
                None => self.processes[machine].waits && self.has_ticket(machine),
            };
            if !self.processes[machine].waits || !may_start {
                continue;
            }
            self.processes[machine].waits = false;
            self.processes[machine].running = true;
            if station.is_none() {
                self.observation.started(now, machine);
            }
            self.tell(now, Some(machine), "starts");
            if let Some(turmoil) = self.machine(machine) {
                turmoil.bounce(HOST);
                continue;
            }
            let Some(station) = station else {
                let seat = Arc::clone(&self.seats[machine]);
                self.host(machine, move || Arc::clone(&seat).live());
                continue;
            };
            self.name_relay(machine);
            self.host(machine, move || Arc::clone(&station).live());
        }
    }

    /// Has turmoil run `live` on a machine each time that the machine starts.
    fn host<F: Future<Output = ()> + 'static>(
        &mut self,
        machine: usize,
        live: impl Fn() -> F + 'static,
    ) {
        let mut turmoil = turmoil::Builder::new()
            .tick_duration(TICK)
            .simulation_duration(FOREVER)
            .rng_seed(self.seed)
            .build();
        turmoil.host(HOST, move || {
            let living = live();
            async move {
                living.await;
                Ok(())
            }
        });
        self.machines.push((machine, turmoil));
    }

    /// The turmoil of a machine; `None` if the machine has not started yet.
    fn machine(&mut self, machine: usize) -> Option<&mut Sim<'a>> {
        self.machines.iter_mut().find(|(of, _)| *of == machine).map(|(_, turmoil)| turmoil)
    }

    /// The relay on a machine; `None` if the machine is a member's.
    fn station(&self, machine: usize) -> Option<&Arc<Station>> {
        self.stations.get(machine.checked_sub(self.seats.len())?)
    }

    fn disk(&self, machine: usize) -> &MemoryDisk {
        self.station(machine).map_or_else(|| &self.seats[machine].disk, |station| &station.disk)
    }

    /// Whether there is an organisation that a relay can serve. Assigns it to the relay.
    fn has_organisation(&self, station: &Station) -> bool {
        let ticket = self.tickets[0].as_ref().and_then(|ticket| ticket.parse::<Ticket>().ok());
        let organisation = ticket.map(|ticket| ticket.invite().organisation);
        organisation.is_some_and(|organisation| {
            station.assign(organisation);
            true
        })
    }

    /// Has the founder name a relay in the charter.
    fn name_relay(&mut self, machine: usize) {
        let place = machine - self.seats.len();
        let station = &self.stations[place];
        let (device, address) = (station.device().to_string(), station.address().to_string());
        let request = self.cast.scenario.relays[place].named(device, address);
        let (sender, receiver) = sync_channel(1);
        self.seats[0].send(Input::Charter(request, sender));
        self.naming.push(receiver);
    }

    /// Fails if the founder could not name a relay.
    fn take_naming(&mut self) -> Result<(), WorldError> {
        for answer in std::mem::take(&mut self.naming) {
            match answer.try_recv() {
                Ok(Ok(_)) => {}
                Ok(Err(reason)) => return Err(WorldError::Naming(reason)),
                Err(TryRecvError::Empty) => self.naming.push(answer),
                Err(TryRecvError::Disconnected) => return Err(WorldError::NamerEnded),
            }
        }
        Ok(())
    }

    fn has_ticket(&mut self, member: usize) -> bool {
        let actor = &self.cast.actors[member];
        let Some(door) = actor.joins else { return true };
        let (uses, lasts) = (actor.member.ticket_uses, actor.member.ticket_lasts);
        // The first ticket names no relay, since the charter named none when the ticket was made.
        if uses == 0 && lasts.is_none() && !actor.member.relay_only {
            let Some(ticket) = self.tickets[door].clone() else { return false };
            self.seats[member].set_ticket(ticket);
            return true;
        }
        // Members of one entry of the scenario share its ticket.
        let first = self
            .cast
            .actors
            .iter()
            .position(|other| other.member.name.get_ref() == actor.member.name.get_ref());
        let first = first.unwrap_or(member);
        if let Some(ticket) = self.observation.limited_ticket(first) {
            self.seats[member].set_ticket(ticket);
            return true;
        }
        match &self.processes[first].asked {
            None if self.tickets[door].is_some() => {
                let (sender, receiver) = sync_channel(1);
                let lasts = lasts.map_or(Duration::from_secs(3_600), Duration::from);
                let request =
                    TicketRequest { uses, lasting: Some(lasts), ..TicketRequest::default() };
                self.seats[door].send(Input::Ticket(request, sender));
                self.processes[first].asked = Some(receiver);
            }
            None => {}
            Some(receiver) => {
                if let Ok(Ok(ticket)) = receiver.try_recv() {
                    self.observation.keep_limited_ticket(first, ticket.to_string());
                }
            }
        }
        false
    }

    fn take_events(&mut self, now: Duration) {
        for member in 0..self.seats.len() {
            for StampedEvent { at_us, event, org } in self.seats[member].take_events() {
                let stamped = StampedEvent { at_us, event, org };
                let line = serde_json::to_string(&stamped).unwrap_or_default();
                self.lock_trace().event(now, Some(member), &line);
                let event = stamped.event;
                if let Event::Ready { device, .. } = &event {
                    self.devices.insert(device.0, member);
                    let (sender, receiver) = sync_channel(1);
                    let request = TicketRequest::default();
                    self.seats[member].send(Input::Ticket(request, sender));
                    self.invites.insert(member, receiver);
                    let first = self.tickets[member].is_none();
                    if first && self.cast.actors[member].member.volunteer {
                        let volunteer = Command::Volunteer { on: true, kbps: 0 };
                        self.seats[member].send(Input::command(volunteer).0);
                    }
                }
                self.tell_witness(now, member, &event);
                if let Event::Stopped { .. } = &event {
                    self.processes[member].running = false;
                    self.observation.stopped(now, member);
                }
                self.observation.handle(now, member, &event, &self.devices);
            }
            // A device is known from the start of its process, not only when its node is ready.
            let device = self.seats[member].device();
            let known = std::mem::replace(&mut self.processes[member].device, device);
            if let Some(device) = device.filter(|_| known != device) {
                self.devices.insert(device, member);
                self.witness.came(now, device);
                let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
                people.insert(self.cast.actors[member].name.clone(), device);
            }
        }
    }

    /// Takes the tickets that members have made since they were ready.
    fn take_invites(&mut self) {
        let tickets = &mut self.tickets;
        self.invites.retain(|member, made| match made.try_recv() {
            Ok(made) => {
                tickets[*member] = made.ok().map(|ticket| ticket.to_string());
                false
            }
            Err(error) => error == TryRecvError::Empty,
        });
    }

    fn tell_witness(&self, now: Duration, member: usize, event: &Event) {
        let seat = &self.seats[member];
        let Some(own) = seat.device() else { return };
        match event {
            Event::PeerUp { device, .. } => self.witness.linked(now, [own, device.0]),
            Event::RosterChanged { channel, target, devices, .. } => {
                let holders = devices.iter().map(|device| device.0).collect();
                self.witness.roster(now, own, (channel, target), holders);
            }
            Event::CharterChanged { version, heads } => {
                let heads = (*version, heads.iter().cloned().collect());
                self.witness.charter(now, member, &heads, || seat.charter());
            }
            Event::Stopped { .. } => self.witness.went(now, own),
            _ => {}
        }
    }

    /// Records which charters relays have.
    fn note_relays(&self, now: Duration) {
        for (station, machine) in self.stations.iter().zip(self.seats.len()..) {
            if let Some(charter) = station.new_charter() {
                let heads = heads_of(&charter);
                self.witness.charter(now, machine, &heads, || Some(charter));
            }
        }
    }

    fn take_relay_events(&mut self, now: Duration) {
        for (place, station) in self.stations.iter().enumerate() {
            let machine = self.seats.len() + place;
            for event in station.take_events() {
                if matches!(event, relay::RelayEvent::Stopped { .. }) {
                    self.processes[machine].running = false;
                }
                let line = serde_json::to_string(&event).unwrap_or_default();
                let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
                trace.event(now, Some(machine), &line);
            }
        }
    }

    fn tell(&mut self, now: Duration, member: Option<usize>, text: &str) {
        self.lock_trace().event(now, member, text);
        self.observation.fault(now, member, text);
    }

    fn describe(&self, pairs: &[(usize, usize)]) -> String {
        let name = |machine: usize| self.cast.plan.hosts[machine].name.as_str();
        let shown =
            pairs.iter().take(4).map(|(from, to)| format!("{} > {}", name(*from), name(*to)));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if pairs.len() > 4 {
            text.push_str(&format!(" and {} more", pairs.len() - 4));
        }
        text
    }

    fn lock_trace(&self) -> std::sync::MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self) -> Result<PlayOutcome, WorldError> {
        let digest = self.lock_trace().finish()?;
        let heard: Vec<_> = self.seats.iter().map(|seat| Arc::clone(&seat.heard)).collect();
        let log = self.witness.take();
        let frames = if self.report { export::frames(&log) } else { Vec::new() };
        let evidence = Evidence::new(log, &self.devices);
        let members = self.devices.iter().map(|(device, member)| (*device, *member));
        let relays = self.stations.iter().map(|station| station.device()).zip(self.seats.len()..);
        let name =
            |(device, machine): (_, usize)| (device, self.cast.plan.hosts[machine].name.clone());
        let machines = members.chain(relays).map(name).collect();
        let told = (machines, evidence);
        let measured = Measured::new(self.observation, self.cast, &heard, told, self.report);
        let mut record = measured.record(self.cast, self.seed, digest);
        record.links = self.fabric.link_records();
        record.nats = self.fabric.nat_records();
        record.expectations = judge::judge(self.cast, &measured);
        Ok(PlayOutcome { record, heard, frames })
    }
}

/// The name by which the turmoil of each machine knows it.
const HOST: &str = "machine";

/// The length of the turns that machines take; no packet travels faster than one turn.
const TICK: Duration = Duration::from_millis(1);

/// Voice is sampled every 20 ms.
const SAMPLE_TICKS: u32 = 20;

/// Queues are sampled ten times a simulated second.
const QUEUE_TICKS: u32 = 100;

/// Progress is reported ten times a simulated second.
const PROGRESS_TICKS: u32 = 100;

/// Longer than any scenario; the scenario itself decides when it ends.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);
