//! Members that are whole squads, with charter, keys and epochs, but without sound.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_charter::{Charter, content::Change};
use hark_keys::{
    DeviceId, DeviceKey, EpochSecret, Invite, SenderKey, SenderKeyring, TargetId, Timestamp,
};
use hark_mesh::{
    Directory,
    datagram::{Forward, Forwarded, FromRelay, Slot},
    hello::Presence,
    message::Message,
    squad::{DownReason, Persist, Squad, SquadConfig, SquadEvent, SquadTransmit},
};
use hark_node::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    link::{LinkEvent, Links},
    random::SystemRandom,
    swarm::{SwarmDriver, SwarmDriverConfig},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    process::{Organisation, RunningRelay, start},
    sockets::{MemberSocket, OneSocket, Sweeper},
};

/// A relay, and squads that are linked only through it. The first is the founder's.
pub(crate) struct Squads {
    relay: RunningRelay,
    organisation: Organisation,
    target: TargetId,
    members: Vec<Member>,
    _sweeper: Sweeper,
}

/// One member of the squads.
struct Member {
    device: DeviceId,
    links: Arc<Links>,
    edits: UnboundedSender<Vec<Change>>,
    state: Arc<Mutex<State>>,
    sequence: u16,
}

/// The keys with which a member seals and opens frames.
#[derive(Default)]
struct State {
    seals: Option<SenderKey>,
    epoch: Option<[u8; 32]>,
    roster: Vec<DeviceId>,
    /// Whether a relay forwards what the member says to all.
    routed: bool,
    opens: Vec<EpochSecret>,
    talkers: BTreeSet<DeviceId>,
    slots: HashMap<Slot, DeviceId>,
    rings: HashMap<DeviceId, SenderKeyring>,
    ever: BTreeSet<[u8; 32]>,
    /// The number of frames that it has opened.
    opened: u64,
    /// The bytes of epochs that it has dealt.
    dealt: usize,
}

impl Squads {
    /// Starts the relay `program` in `home` and lets `count` members join.
    pub(crate) fn open((program, home): (&Path, &Path), count: usize) -> anyhow::Result<Self> {
        let (organisation, relay) = start(program, home, count - 1, |_| Ok(()))?;
        // The members use what the relay leaves of the machine.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        // The thread ends with the program.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        let sweeper = Sweeper::start();
        let charter = Arc::new(organisation.charter.clone());
        let target = TargetId::of_channel(organisation.channel);
        let mut members = Vec::new();
        let guard = handle.enter();
        for key in std::iter::once(&organisation.founder).chain(&organisation.members) {
            members.push(Member::start(key, &charter, (relay.key, target), &sweeper)?);
        }
        drop(guard);
        Ok(Self { relay, organisation, target, members, _sweeper: sweeper })
    }

    /// Waits until all members but those in `out` seal with one epoch that exactly these members
    /// hold. Returns how long that took.
    pub(crate) fn wait(&self, out: &[usize]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        while !self.is_settled(out) {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "not one epoch: {}", self.standing());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(begun.elapsed())
    }

    /// How many members have reached each state, for an error message.
    fn standing(&self) -> String {
        let states = || self.members.iter().map(Member::state);
        let count = |is: fn(&State) -> bool| states().filter(|state| is(state)).count();
        let epochs: BTreeSet<_> = states().filter_map(|state| state.epoch).collect();
        let rosters: BTreeSet<_> = states().map(|state| state.roster.len()).collect();
        format!(
            "{} open one, {} seal with one of {}, for {} it is forwarded; rosters of {rosters:?}",
            count(|state| !state.opens.is_empty()),
            count(|state| state.epoch.is_some()),
            epochs.len(),
            count(|state| state.routed),
        )
    }

    fn is_settled(&self, out: &[usize]) -> bool {
        let within = || self.members.iter().enumerate().filter(|(number, _)| !out.contains(number));
        let mut epochs = BTreeSet::new();
        for (_, member) in within() {
            let state = member.state();
            let held = state.epoch.is_some_and(|epoch| {
                epochs.insert(epoch);
                state.ever.contains(&epoch) && state.seals.is_some() && state.routed
            });
            if !held || state.roster.len() + 1 != within().count() || epochs.len() > 1 {
                return false;
            }
        }
        let epoch = epochs.pop_first();
        out.iter().all(|member| {
            let state = self.members[*member].state();
            epoch.is_some_and(|epoch| !state.ever.contains(&epoch))
        })
    }

    /// One member sends `frames` frames. Returns how many of them each member has opened.
    pub(crate) fn speak(&mut self, talker: usize, frames: u32) -> anyhow::Result<Vec<u64>> {
        let before: Vec<_> = self.members.iter().map(|member| member.state().opened).collect();
        let tag = self.organisation.charter.target_tag(self.target);
        let relay = self.relay.key;
        for _ in 0..frames {
            self.members[talker].say(relay, tag)?;
            std::thread::sleep(FRAME_EVERY);
        }
        std::thread::sleep(STRAGGLERS);
        let after = self.members.iter().map(|member| member.state().opened);
        Ok(after.zip(before).map(|(after, before)| after - before).collect())
    }

    /// The founder ends the membership of another member. Returns how long it took until all others
    /// had the next epoch, and how many bytes its steward has dealt.
    pub(crate) fn kick(&self, kicked: usize) -> anyhow::Result<(Duration, usize)> {
        let dealt = || self.members.iter().map(|member| member.state().dealt).collect::<Vec<_>>();
        let before = dealt();
        let member = self.organisation.charter.member_of(self.members[kicked].device);
        self.members[0].edits.send(vec![Change::Remove { member, admission: 1 }])?;
        let took = self.wait(&[kicked])?;
        let most = dealt().iter().zip(before).map(|(after, before)| after - before).max();
        Ok((took, most.unwrap_or(0)))
    }
}

impl Member {
    fn start(
        key: &DeviceKey,
        charter: &Arc<Charter>,
        (relay, target): (DeviceId, TargetId),
        sweeper: &Sweeper,
    ) -> anyhow::Result<Self> {
        let copy = || DeviceKey::from_secret(&key.secret());
        let socket = MemberSocket::new(true)?;
        sweeper.add(Arc::clone(&socket));
        let member = charter.member_of(key.id());
        let channel = charter.first_channel(member).context("no channel to hear")?.id;
        let presence = Presence {
            incarnation: 1,
            name: "Kestrel".to_owned(),
            addresses: Vec::new(),
            listening: vec![channel],
        };
        let counter = Box::new(NoTickets);
        let held = Arc::clone(charter);
        let door = Doorkeeper::member(copy(), held, member, presence.clone(), Clock, counter);
        let state = Arc::new(Mutex::new(State::default()));
        let (ears, device) = (Arc::clone(&state), key.id());
        let handler = Arc::new(move |now, _: DeviceId, datagram: bytes::Bytes| {
            lock(&ears).hear(now, target, &datagram);
        });
        let (link_events, happened) = unbounded_channel();
        let links = Links::new(device, Clock, link_events, handler);
        let key = Arc::new(copy());
        let wires = SwarmDriver::new(SwarmDriverConfig {
            key: Arc::clone(&key),
            organisation: charter.organisation(),
            mdns: false,
            links_max: 8,
            is_hub: false,
            binder: Box::new(OneSocket(socket)),
            admission: Arc::new(door),
            links: Arc::clone(&links),
            clock: Clock,
        })?;
        let config = SquadConfig {
            charter: Arc::clone(charter),
            key,
            member: Some(member),
            relay_only: false,
            presence,
            directory: Directory::default(),
            generations: BTreeMap::new(),
            names: BTreeMap::new(),
            calendar: Clock.unix(),
        };
        let squad = Squad::new(Clock.now(), config, Arc::new(SystemRandom));
        let (edits, orders) = unbounded_channel();
        let driver = Driver {
            device,
            links: Arc::clone(&links),
            squad,
            wires,
            relay,
            happened,
            orders,
            state: Arc::clone(&state),
        };
        tokio::spawn(driver.run());
        Ok(Self { device, links, edits, state, sequence: 0 })
    }

    fn say(&mut self, relay: DeviceId, tag: [u8; 4]) -> anyhow::Result<()> {
        let mut sealed = Vec::new();
        let mut state = lock(&self.state);
        state.seals.as_mut().context("it has no key")?.seal(b"a frame of speech", &mut sealed)?;
        drop(state);
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        Forward::encode(30, tag, self.sequence, [&sealed[..]], &mut datagram);
        self.links.outlet(relay).context("the link has ended")?.send(&datagram);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn hear(&mut self, now: Timestamp, target: TargetId, datagram: &[u8]) {
        match FromRelay::parse(datagram) {
            Ok(FromRelay::Introduction(it)) => drop(self.slots.insert(it.slot, it.device)),
            Ok(FromRelay::Forwarded(forwarded)) => self.open(now, target, &forwarded),
            Ok(FromRelay::Bundle(bundle)) => {
                bundle.iter().for_each(|forwarded| self.open(now, target, &forwarded));
            }
            // Nothing else that a relay sends needs a reaction here.
            _ => {}
        }
    }

    fn open(&mut self, now: Timestamp, target: TargetId, forwarded: &Forwarded<'_>) {
        let talker = self.slots.get(&forwarded.slot).filter(|it| self.talkers.contains(*it));
        let opened = talker.copied().is_some_and(|talker| {
            let fresh = || SenderKeyring::new(target, talker);
            let ring = self.rings.entry(talker).or_insert_with(fresh);
            ring.set_epochs(&self.opens);
            let mut frames = forwarded.voice.frames.iter();
            frames.next().is_some_and(|it| ring.open(now, it, &mut Vec::new()).is_ok())
        });
        self.opened += u64::from(opened);
    }

    fn handle(&mut self, device: DeviceId, event: SquadEvent) {
        match event {
            SquadEvent::OwnEpoch { target, secret, generation } => {
                self.epoch = Some(*secret.id());
                self.seals = Some(SenderKey::of_epoch(target, device, &secret, generation));
            }
            SquadEvent::NoKey(_) | SquadEvent::OwnKey { .. } => {
                (self.epoch, self.seals) = (None, None);
            }
            SquadEvent::EpochRoster { devices, .. } => self.roster = devices,
            SquadEvent::Epochs { secrets, talkers, .. } => {
                self.ever.extend(secrets.iter().map(|secret| *secret.id()));
                (self.opens, self.talkers) = (secrets, talkers.into_iter().collect());
            }
            SquadEvent::Listeners { plan, .. } => self.routed = !plan.hops.is_empty(),
            // The other events are for people and their sound.
            _ => {}
        }
    }
}

/// Does what a node does, except for sound and disk.
struct Driver {
    device: DeviceId,
    links: Arc<Links>,
    squad: Squad,
    wires: SwarmDriver,
    relay: DeviceId,
    happened: UnboundedReceiver<LinkEvent>,
    orders: UnboundedReceiver<Vec<Change>>,
    state: Arc<Mutex<State>>,
}

impl Driver {
    async fn run(mut self) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.carry_out();
            let now = Clock.now();
            let due =
                self.squad.poll_timeout().map_or(IDLE, |at| at.saturating_duration_since(now));
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(changes) = order else { return };
                    if let Err(error) = self.squad.edit(Clock.now(), changes) {
                        eprintln!("not changed: {error}");
                    }
                }
                Some(event) = self.happened.recv() => self.handle_link(event),
                _ = self.wires.next(Some(&mut self.squad)) => {}
                _ = turns.tick() => {
                    for link in self.links.all() {
                        self.squad.handle_heard(link.heard(), link.device());
                    }
                }
                () = tokio::time::sleep(due) => self.squad.handle_timeout(Clock.now()),
            }
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        let now = Clock.now();
        match event {
            LinkEvent::Up(link) => self.squad.handle_link_up(now, link.hello().clone(), None),
            LinkEvent::Changed(_) | LinkEvent::Visit(_) | LinkEvent::VisitEnded(_) => {}
            LinkEvent::Down(device, _) => {
                self.squad.handle_link_down(now, device, DownReason::Unreachable);
            }
        }
    }

    fn carry_out(&mut self) {
        let (now, squad) = (Clock.now(), &mut self.squad);
        loop {
            if let Some(event) = squad.poll_event() {
                lock(&self.state).handle(self.device, event);
            } else if let Some(transmit) = squad.poll_transmit() {
                if let SquadTransmit::Message { bytes, .. } = &transmit
                    && let Ok(Message::Epoch(_)) = Message::decode(bytes)
                {
                    lock(&self.state).dealt += bytes.len();
                }
                self.wires.transmit(now, transmit, squad);
            } else if let Some(dial) = squad.poll_dial(now) {
                // Members meet only through the relay.
                if dial.device == Some(self.relay) {
                    self.wires.dial(now, dial, Some(squad));
                } else {
                    squad.handle_dial_failed(now, &dial);
                }
            } else if let Some(job) = squad.poll_job(now) {
                squad.handle_job(now, job.run());
            } else if let Some((number, result)) = squad.poll_verdict() {
                self.wires.conclude(number, &result);
            } else if let Some(persist) = squad.poll_persist() {
                match persist {
                    Persist::Generation(target, number) => {
                        squad.handle_persisted(now, target, number);
                    }
                    Persist::Charter(number, _) => squad.handle_charter_persisted(now, number),
                }
            } else {
                return;
            }
        }
    }
}

/// Redeems no tickets, since nobody has one here.
struct NoTickets;

impl UseCounter for NoTickets {
    fn count(&self, _: &Invite, _: u8, _: DeviceId) -> std::io::Result<bool> {
        Ok(false)
    }
}

const FRAME_EVERY: Duration = Duration::from_millis(20);

/// How long to wait, after the last frame, for what is under way.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Nothing that succeeds takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often links are checked for signs of life.
const TURN: Duration = Duration::from_millis(500);

/// How long to wait when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
