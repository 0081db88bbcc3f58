//! Turns what is on disk into a running node, independent of its threads, sockets and sound.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use hark_charter::{Charter, Ending};
use hark_keys::{DeviceId, DeviceKey, Invite, OrganisationId, Random, RecoverySecret, Ticket};
use hark_mesh::{forwarding::Limits, hello::Presence};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    admission::{Doorkeeper, UseCounter},
    clock::Clock,
    driver::{Overhear, Worker},
    error::NodeError,
    link::{Binder, DatagramHandler, LinkEvent, Links},
    network::{
        Flags, Input, JoinError, KeepAdmitted, Publisher, Runner, RunnerConfig, Start, StartVoice,
        TellJoining,
    },
    random::SystemRandom,
    reach::{names::PeerNames, ports::Surroundings},
    relay::{Egress, ForwardingRelay},
    snapshot::TransmitMode,
    sound::Sound,
    store::{Home, Lock, OrganisationStore, StoreError},
};

/// A node that is ready to start: it knows its organisation, or has the ticket that leads there.
pub struct Launch {
    home: Arc<Home>,
    key: DeviceKey,
    organisation: OrganisationId,
    belongs: Option<(OrganisationStore, Lock)>,
    ticket: Option<Ticket>,
    presence: Presence,
    recovery: Option<DeviceId>,
    tell: Option<TellJoining>,
    clock: Clock,
}

/// The parts of a node besides its identity: the seams that the caller fills.
pub struct Parts {
    /// Addresses to listen on. The node fails if it cannot listen there.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on as well, if that works.
    pub listen_if_possible: Vec<SocketAddr>,
    /// Addresses and names at which members may be found.
    pub names: Option<PeerNames>,
    /// Whether to look for members on the LAN.
    pub mdns: bool,
    /// Whether to hide this device's address from members. The node then listens nowhere, and uses
    /// neither the LAN, nor `names`, nor the router.
    pub relay_only: bool,
    /// The network with the router to ask for a port. `None` if the router is not to be asked.
    pub port_mapping: Option<Box<dyn Surroundings>>,
    /// What opens the microphone. `None` takes the profile's setting.
    pub transmit: Option<TransmitMode>,
    /// The profile to use. `None` takes the one that was last used.
    pub profile: Option<String>,
    /// The flags of this run.
    pub flags: Flags,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Sends what this node relays.
    pub egress: Arc<dyn Egress>,
    /// Called with each message to a peer.
    pub overhear: Option<Overhear>,
    /// Runs work that waits for the disk.
    pub worker: Worker,
    /// The settings of this device's sound, which all organisations of a node share.
    pub sound: Arc<Sound>,
    /// Takes the datagrams of voice.
    pub datagrams: DatagramHandler,
    /// Starts the voice side.
    pub start_voice: StartVoice,
    /// Takes the events and snapshots.
    pub publisher: Arc<Publisher>,
}

impl Launch {
    /// Finds the organisation with this name or id, or the only one. Founds one if there is none
    /// and no ticket leads to another.
    pub fn prepare(
        home: Arc<Home>,
        organisation: Option<&str>,
        ticket: Option<Ticket>,
        name: String,
        clock: Clock,
    ) -> Result<Self, NodeError> {
        let store = match &ticket {
            Some(ticket) => home.find(ticket.invite().organisation)?,
            None => match home.choose(organisation)? {
                Some(store) => Some(store),
                None => {
                    let recovery = RecoverySecret::generate(&SystemRandom);
                    let store = found(&home, FIRST_SQUAD, Some(recovery.key().id()))?;
                    home.keep_recovery(&store, &recovery, &SystemRandom)?;
                    Some(store)
                }
            },
        };
        let mut incarnation = [0; 8];
        SystemRandom.fill(&mut incarnation);
        let incarnation = u64::from_be_bytes(incarnation);
        let (addresses, listening) = (Vec::new(), Vec::new());
        let presence = Presence { incarnation, name, addresses, listening };
        if let (Some(store), Some(_)) = (&store, &ticket) {
            let key = home.key(store)?;
            let ending = store.charter().ending(store.member(), key.id());
            // A member that was removed joins again as the same device.
            if matches!(ending, Some(Ending::Removed(_))) {
                let organisation = store.id();
                let (belongs, recovery, tell) = (None, None, None);
                return Ok(Self {
                    home,
                    key,
                    organisation,
                    belongs,
                    ticket,
                    presence,
                    recovery,
                    tell,
                    clock,
                });
            }
        }
        let (key, organisation, belongs, ticket) = match (store, ticket) {
            // For a member, only the addresses of the ticket are of use.
            (Some(store), ticket) => {
                let lock = store.lock()?;
                (home.key(&store)?, store.id(), Some((store, lock)), ticket)
            }
            (None, Some(ticket)) => {
                let invite = ticket.invite();
                // [PROTO-4.6]
                if invite.expires <= clock.unix() {
                    return Err(JoinError::Expired.into());
                }
                (home.next_key(&SystemRandom)?, invite.organisation, None, Some(ticket))
            }
            (None, None) => unreachable!("without a ticket there is an organisation"),
        };
        let (recovery, tell) = (None, None);
        Ok(Self { home, key, organisation, belongs, ticket, presence, recovery, tell, clock })
    }

    /// Has the newcomer admitted with a printed key, by which its membership can be restored.
    #[must_use]
    pub fn with_recovery(mut self, recovery: Option<DeviceId>) -> Self {
        self.recovery = recovery;
        self
    }

    /// Has the progress of a newcomer's ticket reported to `tell`, line by line.
    #[must_use]
    pub fn with_news(mut self, tell: Option<TellJoining>) -> Self {
        self.tell = tell;
        self
    }

    /// The device id in the organisation.
    pub fn device(&self) -> DeviceId {
        self.key.id()
    }

    /// Runs the node until it is told to stop, and returns the reason. Must run on a current-thread
    /// tokio runtime.
    pub async fn run(
        self,
        parts: Parts,
        inputs: UnboundedSender<Input>,
        input_receiver: UnboundedReceiver<Input>,
    ) -> Result<String, NodeError> {
        if parts.relay_only
            && self.belongs.is_none()
            && let Some(ticket) = &self.ticket
            && ticket.relays.is_empty()
        {
            return Err(JoinError::NoRelay(ticket.name.to_string()).into());
        }
        let (config, _lock) = self.into_runner(parts);
        Runner::new(config, input_receiver, inputs)?.run().await
    }

    /// The configuration, and the lock that is held for as long as the node runs. A newcomer's lock
    /// is taken at its admission.
    fn into_runner(self, parts: Parts) -> (RunnerConfig, Arc<OnceLock<Lock>>) {
        let Self { home, key, organisation, belongs, ticket, presence, recovery, tell, clock } =
            self;
        let secret = key.secret();
        let own_key = || DeviceKey::from_secret(&secret);
        let held = Arc::new(OnceLock::new());
        let (link_sender, link_events) = unbounded_channel::<LinkEvent>();
        let relay = ForwardingRelay::new(clock, Limits::default(), parts.egress);
        let (forwards, hears) = (Arc::clone(&relay), parts.datagrams);
        let handler: DatagramHandler = Arc::new(move |now, device, datagram| {
            if ForwardingRelay::is_for_relays(&datagram) {
                forwards.handle(now, device, &datagram);
            } else {
                hears(now, device, datagram);
            }
        });
        let links = Links::new(key.id(), clock, link_sender, handler);
        let mut peers = Vec::new();
        let (start, doorkeeper) = match (belongs, ticket) {
            (Some((store, lock)), ticket) => {
                let _ = held.set(lock);
                if let Some(ticket) = ticket {
                    let places = ticket.doors.iter().chain(&ticket.relays);
                    peers.extend(places.flat_map(|place| &place.addresses).copied());
                }
                let doorkeeper = Doorkeeper::member(
                    own_key(),
                    Arc::clone(store.charter()),
                    store.member(),
                    presence.clone(),
                    clock,
                    Box::new(store.use_counter(clock)),
                );
                (Start::Member(store), doorkeeper)
            }
            (None, ticket) => {
                let ticket = ticket.expect("a node without an organisation has a ticket");
                let counter = Arc::new(OnceLock::new());
                let doorkeeper = Doorkeeper::newcomer(
                    own_key(),
                    recovery,
                    ticket.clone(),
                    presence.clone(),
                    clock,
                    Box::new(LaterCounter(Arc::clone(&counter))),
                );
                let held = Arc::clone(&held);
                let keep: KeepAdmitted = Box::new(move |admitted| {
                    let store = home.keep(&admitted.charter, admitted.member)?;
                    let _ = held.set(store.lock()?);
                    let _ = counter.set(Box::new(store.use_counter(clock)) as Box<dyn UseCounter>);
                    Ok(store)
                });
                (Start::Newcomer { ticket: Box::new(ticket), keep, tell }, doorkeeper)
            }
        };
        let config = RunnerConfig {
            key: Arc::new(key),
            organisation,
            start,
            presence,
            doorkeeper: Arc::new(doorkeeper),
            listen: if parts.relay_only { Vec::new() } else { parts.listen },
            listen_if_possible: if parts.relay_only {
                Vec::new()
            } else {
                parts.listen_if_possible
            },
            peers,
            names: parts.names.filter(|_| !parts.relay_only),
            mdns: parts.mdns && !parts.relay_only,
            port_mapping: parts.port_mapping.filter(|_| !parts.relay_only),
            relay_only: parts.relay_only,
            links,
            link_events,
            relay,
            binder: parts.binder,
            overhear: parts.overhear,
            worker: parts.worker,
            start_voice: parts.start_voice,
            sound: parts.sound,
            publisher: parts.publisher,
            transmit: parts.transmit,
            profile: parts.profile,
            flags: parts.flags,
            clock,
        };
        (config, held)
    }
}

/// Founds an organisation with one channel. Its root keys are this device and a printed `recovery`
/// key.
pub fn found(
    home: &Home,
    name: &str,
    recovery: Option<DeviceId>,
) -> Result<OrganisationStore, StoreError> {
    let key = home.next_key(&SystemRandom)?;
    let charter = Charter::found(name, FIRST_CHANNEL, &key, recovery, &SystemRandom);
    home.keep(&charter, charter.member_of(key.id()))
}

/// Counts uses as soon as there is a folder to count in. Nobody redeems a ticket before that.
struct LaterCounter(Arc<OnceLock<Box<dyn UseCounter>>>);

impl UseCounter for LaterCounter {
    fn count(&self, invite: &Invite, share: u8, device: DeviceId) -> std::io::Result<bool> {
        match self.0.get() {
            Some(counter) => counter.count(invite, share, device),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// The name of a squad to which nobody gave a name.
const FIRST_SQUAD: &str = "squad";

/// The name of its only channel.
const FIRST_CHANNEL: &str = "squad";
