//! The thread that decides, in one of two phases.
//!
//! ```text
//!  Runner ─ has a ticket ─> Joining ── admitted ──> Working ── leave ──> the end
//!         └ belongs already ───────────────────────────^
//! ```
//!
//! A node that is `Joining` has a [`Network`](crate::driver::Network) and no squad. One that is
//! `Working` has a [`Driver`](crate::driver::Driver), a store and a voice side as well: what
//! happens goes to the squad, which decides, and the driver and this module carry out what it
//! wants. Voice passes by: its datagrams go from the links to the voice thread and back without a
//! stop.

mod base;
mod checks;
mod commands;
mod effects;
mod host;
mod joining;
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
mod working;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use hark_commands::{Outcome, Request};
use hark_keys::{DeviceKey, MemberId, OrganisationId, TargetId, Ticket};
use hark_mesh::{hello::Presence, message::CheckNonce, squad::Squad};
use hark_voice::{VoiceCommand, VoiceEvent, VoiceStatistics};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::joining::{JoinError, JoiningNews, TicketDevice};
pub use self::publisher::{Publisher, SUBSCRIPTION_LIMIT};
pub use self::standings::StandingChange;
use self::{
    base::Base,
    joining::{Joined, Joining},
    working::Working,
};
use crate::{
    admission::{Admitted, Doorkeeper},
    clock::Clock,
    driver::{Overhear, Worker},
    error::NodeError,
    event::{Direction, Event},
    link::{Binder, LinkEvent, Links},
    reach::{
        names::{Found, PeerNames},
        ports::{self, Surroundings},
    },
    relay::ForwardingRelay,
    request::{CommandOutcome, RequestError},
    snapshot::{Command, TicketRequest, TransmitMode},
    sound::Sound,
    store::{OrganisationStore, StoreError},
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
        ) -> Result<Box<dyn VoiceControl>, NodeError>
        + Send,
>;

/// Keeps an organisation that a ticket has led to.
pub type KeepAdmitted = Box<dyn FnOnce(&Admitted) -> Result<OrganisationStore, StoreError> + Send>;

/// Is told how far a newcomer has come, each piece of news once.
pub type TellJoining = Arc<dyn Fn(&JoiningNews) + Send + Sync>;

/// What comes in from other threads.
pub enum Input {
    /// A person or a program wants something, and may wait until it is done or refused.
    Command(Command, SyncSender<Result<CommandOutcome, RequestError>>),
    /// Something happened in the voice thread.
    Voice(VoiceEvent),
    /// Something to tell, as it is.
    Publish(Event),
    /// One end of the sound does not work, for this reason; none when it does again.
    Trouble(Direction, Option<String>),
    /// The microphone of this name was opened.
    Microphone(String),
    /// Something is on disk, or could not be written.
    Persisted(Persisted, Result<(), StoreError>),
    /// A new ticket is wanted.
    Ticket(TicketRequest, SyncSender<Result<Ticket, RequestError>>),
    /// What a new charter has changed for members.
    Standings(Vec<StandingChange>),
    /// Names lead there.
    Found(Vec<Found>),
    /// What has come of asking the router for a port.
    Router(ports::PortReport),
    /// A stranger's packet has come to a socket that listens, as was asked for.
    Checked(CheckNonce),
    /// Something is wanted of the charter.
    Charter(Box<Request>, SyncSender<Result<Outcome, RequestError>>),
    /// End, for this reason.
    Stop(String),
}

impl Input {
    /// A command, and where to wait until it is done.
    pub fn command(command: Command) -> (Self, Receiver<Result<CommandOutcome, RequestError>>) {
        let (told, done) = sync_channel(1);
        (Self::Command(command, told), done)
    }
}

/// What was written to disk.
#[derive(Clone, Copy, Debug)]
pub enum Persisted {
    /// A generation of the key for a target.
    Generation(TargetId, u16),
    /// The profiles.
    Profiles,
    /// The settings of sound.
    Sound,
    /// The devices that are known to be their owners'.
    Verified,
}

/// What the thread begins with.
pub struct RunnerConfig {
    /// This device.
    pub key: Arc<DeviceKey>,
    /// Which organisation the links are for.
    pub organisation: OrganisationId,
    /// How this device comes to belong to it.
    pub start: Start,
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
    pub names: Option<PeerNames>,
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
    pub relay: Arc<ForwardingRelay>,
    /// Makes sockets.
    pub binder: Box<dyn Binder>,
    /// Told of each message to a peer.
    pub overhear: Option<Overhear>,
    /// Does what waits for the disk.
    pub worker: Worker,
    /// Makes the voice side.
    pub start_voice: StartVoice,
    /// The settings of this device's sound.
    pub sound: Arc<Sound>,
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

/// The phase that a node starts in.
pub enum Start {
    /// The device belongs to the organisation already; this is its folder.
    Member(OrganisationStore),
    /// A ticket leads to the organisation.
    Newcomer {
        /// The ticket.
        ticket: Box<Ticket>,
        /// Makes the organisation's folder once a member has admitted this device.
        keep: KeepAdmitted,
        /// Is told what comes of the ticket.
        tell: Option<TellJoining>,
    },
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

/// One node, in its phase. Lives on the runtime of its thread.
pub struct Runner(Phase);

enum Phase {
    Joining(Box<Joining>),
    Working(Box<Working>),
}

impl Runner {
    /// Opens the sockets. Call it on the runtime that will [`run`](Self::run) it.
    pub fn new(
        config: RunnerConfig,
        inputs: UnboundedReceiver<Input>,
        input_sender: UnboundedSender<Input>,
    ) -> Result<Self, NodeError> {
        let (base, start, start_voice) = Base::new(config, inputs, input_sender)?;
        let phase = match start {
            Start::Member(store) => {
                let now = base.now();
                let mut working = Working::begin(now, base, store, start_voice)?;
                if !working.base.flags.to_come {
                    working.check_flags(now)?;
                }
                Phase::Working(Box::new(working))
            }
            Start::Newcomer { ticket, keep, tell } => {
                Phase::Joining(Box::new(Joining::new(base, *ticket, keep, tell, start_voice)))
            }
        };
        Ok(Self(phase))
    }

    /// Works until told to stop, and returns why it has.
    pub async fn run(self) -> Result<String, NodeError> {
        let working = match self.0 {
            Phase::Working(working) => working,
            Phase::Joining(joining) => match joining.run().await? {
                Joined::Admitted(working) => working,
                Joined::Stopped(reason) => return Ok(reason),
            },
        };
        working.run().await
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
