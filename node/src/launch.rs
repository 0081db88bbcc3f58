//! From what is on disk to a running node, whatever threads, sockets and sound it gets.

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
    store::{Home, Lock, OrganisationStore, StoreError},
};

/// A node that knows its organisation, or the ticket that leads there.
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

/// What a node is made of besides its identity: the seams to whoever runs it.
pub struct Parts {
    /// Where to listen; these must work.
    pub listen: Vec<SocketAddr>,
    /// Where to listen, too, if that works.
    pub listen_if_possible: Vec<SocketAddr>,
    /// Addresses and names worth trying.
    pub names: Option<PeerNames>,
    /// Whether to look on the LAN.
    pub mdns: bool,
    /// Whether no member is to learn where this device is: it listens nowhere then, and does not
    /// look on the LAN.
    pub relay_only: bool,
    /// Where to ask the router for a port, if it is to be asked.
    pub port_mapping: Option<Box<dyn Surroundings>>,
    /// How the microphone opens; as the profile says where none is given.
    pub transmit: Option<TransmitMode>,
    /// The profile to use; the last one where none is given.
    pub profile: Option<String>,
    /// What this run begins with.
    pub flags: Flags,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Hands on what this node relays.
    pub egress: Arc<dyn Egress>,
    /// Told of each message to a peer.
    pub overhear: Option<Overhear>,
    /// Does what waits for the disk.
    pub worker: Worker,
    /// Takes the datagrams of voice.
    pub datagrams: DatagramHandler,
    /// Makes the voice side.
    pub start_voice: StartVoice,
    /// Where events and snapshots go.
    pub publisher: Arc<Publisher>,
}

impl Launch {
    /// Finds the organisation of this name or id, or the only one; founds one where there is none
    /// and no ticket leads elsewhere.
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
            // Whoever was removed comes in anew, as the same device.
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
            // Whoever belongs already finds the addresses of the ticket useful, and no more.
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

    /// Has a newcomer admitted with this printed key, by which it can be restored.
    #[must_use]
    pub fn with_recovery(mut self, recovery: Option<DeviceId>) -> Self {
        self.recovery = recovery;
        self
    }

    /// Has what comes of a newcomer's ticket told, line by line.
    #[must_use]
    pub fn with_news(mut self, tell: Option<TellJoining>) -> Self {
        self.tell = tell;
        self
    }

    /// This device in the organisation.
    pub fn device(&self) -> DeviceId {
        self.key.id()
    }

    /// Runs the node until it is told to stop, and returns why it has. Must run on a
    /// current-thread tokio runtime.
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

    /// The lock is held for as long as the node runs; a newcomer's comes with its admission.
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
            publisher: parts.publisher,
            transmit: parts.transmit,
            profile: parts.profile,
            flags: parts.flags,
            clock,
        };
        (config, held)
    }
}

/// Founds an organisation with one channel, whose roots are this device and a printed `recovery`
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

/// Counts once there is a folder to count in: nobody redeems a ticket before.
struct LaterCounter(Arc<OnceLock<Box<dyn UseCounter>>>);

impl UseCounter for LaterCounter {
    fn count(&self, invite: &Invite, share: u8, device: DeviceId) -> std::io::Result<bool> {
        match self.0.get() {
            Some(counter) => counter.count(invite, share, device),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// What a squad is called that nobody gave a name.
const FIRST_SQUAD: &str = "squad";

/// And its only channel.
const FIRST_CHANNEL: &str = "squad";
