//! From the start of the program to a node that runs or is attached to.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use hark_command_line::{
    StopSignal,
    person::{fitting_name, login_name, shown_name},
};
use hark_keys::{RecoverySecret, Ticket};
use hark_node::{
    control::ControlError,
    device::{DeviceError, InputSpec, OutputSpec, list_devices},
    error::NodeError,
    event::Direction,
    launch::found,
    network::Flags,
    node::NodeConfig,
    random::SystemRandom,
    reach::names::PeerPlace,
    records::EventFile,
    snapshot::{ProcessingChange, TransmitMode},
    store::{AskPassphrase, Home},
};

use crate::{
    backend::{Attached, Backend, Own, OwnConfig, Repaint},
    sound::{ChosenDevices, kind},
};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The person's home.
    pub home: PathBuf,
    /// The organisations to run, by name or id. Empty stands for all of the home.
    pub organisations: Vec<String>,
    /// The name shown to others.
    pub name: Option<String>,
    /// Where sound comes from. `None` is what was chosen in the window.
    pub input: Option<InputSpec>,
    /// Where sound goes to. `None` is what was chosen in the window.
    pub output: Option<OutputSpec>,
    /// Where the node listens.
    pub listen: Vec<SocketAddr>,
    /// Addresses worth trying.
    pub peers: Vec<PeerPlace>,
    /// Whether peers are looked for on the LAN.
    pub mdns: bool,
    /// Whether the router is asked for a port that can be reached from outside.
    pub port_mapping: bool,
    /// The file of events.
    pub events: Option<PathBuf>,
    /// How long the node runs.
    pub lasting: Option<Duration>,
    /// What the person is told once the node runs.
    pub notes: Vec<String>,
}

/// What the person wants to begin with.
#[derive(Clone, Debug)]
pub enum Begin {
    /// The organisations that the home has.
    Stored,
    /// A new squad of this name.
    Found(String),
    /// Joining by a ticket.
    Join(Box<Ticket>),
}

/// What a thread that starts a node tells.
pub enum Progress {
    /// A line about how joining goes on.
    News(String),
    /// The node runs, or is attached to; or the reason why not.
    Done(Result<Arc<dyn Backend>, String>),
}

impl Options {
    /// Whether the home has organisations.
    pub fn has_organisations(&self) -> anyhow::Result<bool> {
        Ok(!self.open_home()?.organisations()?.is_empty())
    }

    /// The name that a newcomer is offered.
    pub fn usual_name(&self) -> String {
        let stored = self.open_home().ok().and_then(|home| home.name().ok().flatten());
        self.name.clone().or(stored).or_else(login_name).unwrap_or_default()
    }

    /// Starts a node by another thread, or attaches to the one that runs. If `muted`, a node that
    /// is started here begins with its microphone closed.
    pub fn begin(
        self,
        begin: Begin,
        chosen: ChosenDevices,
        muted: bool,
        stop: StopSignal,
        repaint: Repaint,
    ) -> Receiver<Progress> {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let told = sender.clone();
            let wake = Arc::clone(&repaint);
            let outcome = self.run(begin, (chosen, muted), stop, repaint, told);
            let outcome = outcome.map_err(|error| without_flags(&error));
            // A window that was closed asks no more.
            let _ = sender.send(Progress::Done(outcome));
            wake();
        });
        receiver
    }

    fn run(
        self,
        begin: Begin,
        (chosen, muted): (ChosenDevices, bool),
        stop: StopSignal,
        repaint: Repaint,
        news: Sender<Progress>,
    ) -> anyhow::Result<Arc<dyn Backend>> {
        let home = self.open_home()?;
        let is_first = home.organisations()?.is_empty();
        if let (Begin::Stored, Some(attached)) = (&begin, self.attach(&home, &repaint)?) {
            return Ok(attached);
        }
        let ticket = match &begin {
            Begin::Join(ticket) => Some((**ticket).clone()),
            Begin::Stored | Begin::Found(_) => None,
        };
        let name = shown_name(self.name.as_deref(), &home, ticket.as_ref())?;
        let recovery = RecoverySecret::generate(&SystemRandom);
        let mut organisations = self.organisations.clone();
        if let Begin::Found(squad) = &begin {
            let squad = fitting_name("a squad's name", squad)?;
            let store = found(&home, &squad, Some(recovery.key().id()))?;
            home.keep_recovery(&store, &recovery, &SystemRandom)?;
            organisations = vec![store.id().to_string()];
        } else if organisations.is_empty() {
            let all = home.organisations()?;
            // Those that another process runs stay there while this one joins one more.
            let ours = all.iter().filter(|store| ticket.is_none() || store.lock().is_ok());
            organisations = ours.map(|store| store.id().to_string()).collect();
        }
        let (input, output, gone) =
            chosen.ends(self.input.clone(), self.output.clone(), list_devices);
        let wake = Arc::clone(&repaint);
        let node = NodeConfig {
            home: self.home.clone(),
            passphrase: passphrase(),
            organisations,
            name,
            recovery: ticket.as_ref().map(|_| recovery.key().id()),
            ticket: ticket.clone(),
            tell_joining: Some(Arc::new({
                let news = std::sync::Mutex::new(news);
                move |line| {
                    let news = news.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    // A window that was closed asks no more.
                    let _ = news.send(Progress::News(line.to_string()));
                    wake();
                }
            })),
            input,
            output,
            listen: self.listen.clone(),
            peers: self.peers.clone(),
            mdns: self.mdns,
            relay_only: false,
            port_mapping: self.port_mapping,
            transmit: None::<TransmitMode>,
            profile: None,
            flags: Flags::default(),
            low_delay: false,
            coding: Default::default(),
            wait: Default::default(),
            processing: ProcessingChange::default(),
        };
        let events = self.events.as_deref().map(EventFile::open).transpose()?;
        let until = self.lasting.map(|lasting| Instant::now() + lasting);
        let own =
            Own::start(OwnConfig { node, home: self.open_home()?, events, until, stop }, repaint)?;
        if muted {
            // Whoever closed the microphone is not to be heard because the program was restarted.
            own.mute();
            own.note("your microphone is muted, as you left it");
        }
        self.notes.iter().chain(&gone).for_each(|line| own.tell(line));
        if is_first {
            // The first start promises a key: nobody is to be heard before it is pressed.
            own.open_by_key();
        }
        if ticket.is_some() || matches!(begin, Begin::Found(_)) {
            own.tell("a lost device costs your membership: see Recovery words in Settings");
        }
        if let Some(ticket) = ticket
            && let Some(store) = home.find(ticket.invite().organisation)?
        {
            let certificate = store.charter().certificate_of(store.member());
            if certificate.is_some_and(|it| it.unverified().recovers(recovery.key().id())) {
                home.keep_recovery(&store, &recovery, &SystemRandom)?;
            }
        }
        Ok(own)
    }

    /// Attaches to the node that runs for this home, if there is one.
    fn attach(&self, home: &Home, repaint: &Repaint) -> anyhow::Result<Option<Arc<dyn Backend>>> {
        let mut running = Vec::new();
        for store in home.organisations()? {
            let named =
                |it: &String| *it == store.charter().name() || *it == store.id().to_string();
            if !self.organisations.is_empty() && !self.organisations.iter().any(named) {
                continue;
            }
            let Some(description) = store.control()? else { continue };
            let organisation = (store.id().to_string(), description);
            // One that has ended without a word leaves its description behind.
            match Attached::connect(std::slice::from_ref(&organisation), Arc::new(|| {})) {
                Ok(_) => running.push(organisation),
                Err(ControlError::NotRunning) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if running.is_empty() {
            return Ok(None);
        }
        let attached: Arc<dyn Backend> = Attached::connect(&running, Arc::clone(repaint))?;
        Ok(Some(attached))
    }

    fn open_home(&self) -> anyhow::Result<Home> {
        Ok(Home::open(&self.home, passphrase())?)
    }
}

/// Why no node was started. The node's own words for a missing device name flags of the terminal,
/// which a window has no use for.
fn without_flags(error: &anyhow::Error) -> String {
    let voice = match error.downcast_ref() {
        Some(NodeError::Voice(error)) => error.downcast_ref(),
        _ => None,
    };
    match voice {
        Some(DeviceError::NoMicrophone) => missing(Direction::Input),
        Some(DeviceError::NoSpeaker) => missing(Direction::Output),
        _ => format!("{error:#}"),
    }
}

fn missing(direction: Direction) -> String {
    let kind = kind(direction);
    format!("there is no {kind}: connect one, or choose another one below, and start again")
}

pub(crate) fn passphrase() -> AskPassphrase {
    Box::new(|| std::env::var("HARK_PASSPHRASE").ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_not_told_of_flags() {
        for (error, kind) in
            [(DeviceError::NoMicrophone, "microphone"), (DeviceError::NoSpeaker, "loudspeaker")]
        {
            let told = without_flags(&NodeError::Voice(Box::new(error)).into());
            assert!(told.starts_with(&format!("there is no {kind}: ")), "{told}");
        }
        assert_eq!(
            without_flags(&anyhow::anyhow!("no way").context("it failed")),
            "it failed: no way"
        );
    }
}
