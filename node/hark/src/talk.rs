//! `hark talk`: a node in the foreground.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_command_line::duration;
use hark_commands::TicketRequest;
use hark_keys::{OrganisationId, RecoverySecret, Ticket, UnixTime};
use hark_node::{
    admission::WaitingState,
    clock::utc,
    control::ControlService,
    device::{InputSpec, OutputSpec},
    event::{Event, StampedEvent, StandingView, place_of},
    logbook::Logbook,
    network::{Flags, TellJoining},
    node::{Node, NodeConfig, NodeHandle},
    profile::{ProfileError, check_profile_name},
    random::SystemRandom,
    reach::names::PeerPlace,
    signals::owns_terminal,
    snapshot::{Command, TransmitMode},
    store::{Home, create_journal},
};

use crate::{
    HomeArguments,
    ctl::Mode,
    person::{
        ask_passphrase, complain, home_path, lasting, open_home, read_ticket, say, shown_name, span,
    },
    screen::{Screen, Wish},
    stop::StopSignal,
    summary::Summary,
};

#[derive(clap::Args)]
pub(crate) struct TalkArguments {
    /// Join by this invite first: the ticket, a file that holds it, or - for standard input
    ticket: Vec<String>,
    #[command(flatten)]
    home: HomeArguments,
    /// Which organisation, where there are several; repeatable, to be in several at once: the first
    /// hears you, until another comes to the front
    #[arg(long, value_name = "NAME")]
    org: Vec<String>,
    /// The name shown to others
    #[arg(long)]
    name: Option<String>,
    /// mic, mic:NAME, file:PATH, file:PATH?loop or silence
    #[arg(long, value_name = "SPEC", default_value = "mic")]
    input: InputSpec,
    /// speaker, speaker:NAME, file:PATH, file:PATH?stereo or null
    #[arg(long, value_name = "SPEC", default_value = "speaker")]
    output: OutputSpec,
    /// Listen here; repeatable [default: any address, any port, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// An address worth trying, or a host with its port, or a name whose DNS records (dnsaddr) name
    /// addresses; repeatable
    #[arg(long, value_name = "ADDR:PORT|NAME")]
    peer: Vec<PeerPlace>,
    /// Do not look on the LAN
    #[arg(long)]
    no_mdns: bool,
    /// Never reveal this device's address to members: be linked by the charter's relays alone
    #[arg(long, conflicts_with_all = ["listen", "peer"])]
    relay_only: bool,
    /// Do not ask the router for a port that the outside can reach
    #[arg(long)]
    no_port_mapping: bool,
    /// How the microphone opens [default: as chosen last, at first vad]
    #[arg(long, value_enum)]
    transmit: Option<Mode>,
    /// Go on with what was chosen in this profile, or begin it [default: the one used last]
    #[arg(long, value_name = "NAME", value_parser = profile_name)]
    profile: Option<String>,
    /// Hear this channel; repeatable [default: as chosen last, at first what the charter says]
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// Talk to this channel; repeatable [default: as chosen last, at first what the charter says]
    #[arg(long, value_name = "NAME")]
    talk_to: Vec<String>,
    /// 5 ms frames, smallest buffers
    #[arg(long)]
    low_delay: bool,
    /// No screen: a line for each thing that happens, for services
    #[arg(long)]
    headless: bool,
    /// Stop by itself (30s, 2m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    lasting: Option<Duration>,
    /// Keep nothing of this run in the log (`hark log`)
    #[arg(long)]
    no_log: bool,
    /// Write events as JSON lines; - is standard output
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

impl From<Mode> for TransmitMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Open => Self::Open,
            Mode::Vad => Self::Vad,
            Mode::Ptt => Self::Ptt,
        }
    }
}

pub(crate) fn run(arguments: TalkArguments) -> anyhow::Result<()> {
    let ticket = match arguments.ticket.as_slice() {
        [] => None,
        words => Some(read_ticket(words)?),
    };
    let home = open_home(&arguments.home)?;
    let mut journal = arguments.events.clone().map(Journal::open).transpose()?;
    let joins = ticket.as_ref().map(|ticket| ticket.invite().organisation);
    let belonged = belongs(&home, joins)?;
    let first = play(&arguments, ticket.clone(), &mut journal)?;
    match first.ended {
        // The member was removed while its device was away. It may have been let in again since, so
        // the ticket is tried.
        Err(why) if belonged && !first.met_anybody && !belongs(&home, joins)? => {
            let by_ticket = play(&arguments, ticket, &mut journal).and_then(|again| again.ended);
            by_ticket.map_err(|refused| anyhow::anyhow!("{why}; by the ticket: {refused}"))
        }
        ended => ended,
    }
}

/// Whether this home's member belongs to the organisation, by the charter that the home has stored.
fn belongs(home: &Home, organisation: Option<OrganisationId>) -> anyhow::Result<bool> {
    let store = organisation.map(|id| home.find(id)).transpose()?.flatten();
    Ok(store.is_some_and(|store| store.charter().is_member(store.member())))
}

/// How a run of a node ended.
struct Played {
    ended: anyhow::Result<()>,
    met_anybody: bool,
}

/// Runs a node until it ends. Fails if the node does not start.
fn play(
    arguments: &TalkArguments,
    ticket: Option<Ticket>,
    journal: &mut Option<Journal>,
) -> anyhow::Result<Played> {
    let home = open_home(&arguments.home)?;
    let to_stdout = arguments.events.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let until = arguments.lasting.map(|lasting| Instant::now() + lasting);
    let joins = ticket.as_ref().map(|ticket| ticket.invite().organisation);
    // A newcomer has no recovery key yet, so it makes one. A further machine of a member uses the
    // recovery key of that member.
    let recovery = RecoverySecret::generate(&SystemRandom);
    let tell: TellJoining = Arc::new(|news| say(&news.to_string()));
    let founds = ticket.is_none() && home.organisations()?.is_empty();
    if founds && !to_stdout {
        say(FOUNDS);
    }
    let node = Node::start(NodeConfig {
        home: home_path(&arguments.home)?,
        passphrase: ask_passphrase(),
        organisations: arguments.org.clone(),
        name: shown_name(arguments.name.as_deref(), &home, ticket.as_ref())?,
        recovery: ticket.as_ref().map(|_| recovery.key().id()),
        ticket,
        tell_joining: (!to_stdout).then_some(tell),
        input: arguments.input.clone(),
        output: arguments.output.clone(),
        listen: arguments.listen.clone(),
        peers: arguments.peer.clone(),
        mdns: !arguments.no_mdns,
        relay_only: arguments.relay_only,
        port_mapping: !arguments.no_port_mapping,
        transmit: arguments.transmit.map(Into::into),
        profile: arguments.profile.clone(),
        flags: Flags {
            channels: arguments.channel.clone(),
            talk_to: arguments.talk_to.clone(),
            to_come: false,
        },
        low_delay: arguments.low_delay,
    })?;
    let mut keeps_words = founds;
    if let Some(store) = joins.map(|joined| home.find(joined)).transpose()?.flatten() {
        let certificate = store.charter().certificate_of(store.member());
        if certificate.is_some_and(|it| it.unverified().recovers(recovery.key().id())) {
            home.keep_recovery(&store, &recovery, &SystemRandom)?;
            keeps_words = true;
        }
    }
    // Only now: while the node starts and waits for an answer, Ctrl-C ends the program at once.
    let stop = StopSignal::listen()?;
    let tell = if to_stdout { Tell::Nobody } else { Tell::Lines };
    let mut session = Session {
        events: node.subscribe(),
        journal,
        met_anybody: false,
        tell,
        services: BTreeMap::new(),
        names: BTreeMap::new(),
        summary: Summary::default(),
        keeps_log: !arguments.no_log,
        logbooks: BTreeMap::new(),
        home,
        founds,
        keeps_words,
    };
    let at_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    let wants_screen = !to_stdout && !arguments.headless && at_terminal;
    let on_screen = wants_screen && owns_terminal();
    let begun = Instant::now();
    let reason = if on_screen {
        session.show(&node, &stop, until)?
    } else {
        if wants_screen {
            say(IN_THE_BACKGROUND);
        }
        session.print(&node, &stop, until)?
    };
    // A node that is stopping takes no more commands.
    session.services.clear();
    let ended = match reason {
        Some(reason) => node.stop(reason),
        None => node.wait(),
    };
    while let Ok(event) = session.events.try_recv() {
        session.handle(&event, None)?;
    }
    // There is no summary for a run that was never let in.
    if on_screen && (ended.is_ok() || session.met_anybody) {
        say(&session.summary.describe(begun.elapsed()));
    }
    Ok(Played { ended: ended.map_err(anyhow::Error::from), met_anybody: session.met_anybody })
}

fn profile_name(text: &str) -> Result<String, ProfileError> {
    check_profile_name(text).map(|()| text.to_owned())
}

/// Where messages for the person are shown.
#[derive(Clone, Copy, PartialEq)]
enum Tell {
    /// As lines on standard output.
    Lines,
    /// On the screen.
    Screen,
    Nobody,
}

/// One run of `talk`.
struct Session<'a> {
    events: Receiver<StampedEvent>,
    journal: &'a mut Option<Journal>,
    met_anybody: bool,
    tell: Tell,
    /// The local API of each organisation.
    services: BTreeMap<String, ControlService>,
    /// What each organisation is called, where the node is in several.
    names: BTreeMap<String, String>,
    summary: Summary,
    keeps_log: bool,
    /// The log of each organisation, or `None` if it cannot be kept.
    logbooks: BTreeMap<String, Option<Logbook>>,
    home: Home,
    /// Whether this run founds the organisation, so that the person needs a first ticket.
    founds: bool,
    /// Whether the home keeps recovery words that the person has not written down yet.
    keeps_words: bool,
}

impl Session<'_> {
    /// Prints what happens as lines until there is a reason to stop. Returns the reason, or `None`
    /// if the node has ended.
    fn print(
        &mut self,
        node: &Node,
        stop: &StopSignal,
        until: Option<Instant>,
    ) -> anyhow::Result<Option<&'static str>> {
        loop {
            if let Some(end) = end(node, stop, until) {
                return Ok(end);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.events.recv_timeout(left.map_or(PATIENCE, |left| left.min(PATIENCE))) {
                Ok(event) => drop(self.handle(&event, Some(node))?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Draws on the terminal until there is a reason to stop. Returns the reason, or `None` if the
    /// node has ended.
    fn show(
        &mut self,
        node: &Node,
        stop: &StopSignal,
        until: Option<Instant>,
    ) -> anyhow::Result<Option<&'static str>> {
        self.tell = Tell::Screen;
        let mut screen = Screen::open()?;
        loop {
            if let Some(end) = end(node, stop, until) {
                return Ok(end);
            }
            while let Ok(event) = self.events.try_recv() {
                if let Some(news) = self.handle(&event, Some(node))? {
                    screen.tell(news);
                }
            }
            let handles: Vec<_> = node.handles().filter(NodeHandle::is_running).collect();
            let mut others: Vec<_> = handles.iter().filter_map(NodeHandle::snapshot).collect();
            if others.is_empty() {
                std::thread::sleep(TURN);
                continue;
            }
            // If the organisation in front has ended, no other one is in front.
            let shown = others.iter().position(|other| other.front).unwrap_or_default();
            let snapshot = others.remove(shown);
            screen.draw(&snapshot, &others)?;
            let own = |it: &NodeHandle| it.organisation() == Some(&*snapshot.organisation_id);
            let shown = handles.iter().position(own).unwrap_or_default();
            match screen.wish(&snapshot, TURN) {
                Some(Wish::Leave) => return Ok(Some("quit")),
                Some(Wish::Ticket) => show_ticket(&mut screen, &handles[shown]),
                Some(Wish::Copy) => {
                    if !screen.shows_ticket(&snapshot) {
                        show_ticket(&mut screen, &handles[shown]);
                    }
                    screen.copy_ticket()?;
                }
                Some(Wish::Commands(commands)) => {
                    for command in commands {
                        match handles[shown].command(command) {
                            Ok(done) => {
                                done.deaf.into_iter().for_each(|it| screen.tell(it.to_string()));
                            }
                            Err(error) => screen.tell(error.to_string()),
                        }
                    }
                }
                Some(Wish::NextOrganisation) => {
                    // If the organisation that is shown does not hear us, it is the next one.
                    let next = shown + usize::from(snapshot.front);
                    let next = &handles[next % handles.len()];
                    next.command(Command::Front).map_err(anyhow::Error::msg)?;
                }
                None => {}
            }
        }
    }

    /// Passes an event to the log, to the event file and to the person. Returns the text for the
    /// screen, if the screen is open.
    fn handle(
        &mut self,
        event: &StampedEvent,
        node: Option<&Node>,
    ) -> anyhow::Result<Option<String>> {
        // The node can be steered before anybody reads that it is ready.
        if let (Event::Stopped { .. }, Some(org)) = (&event.event, &event.org) {
            self.services.remove(org);
        }
        let trouble = match (&event.event, &event.org, node) {
            (Event::Ready { .. }, Some(org), Some(node)) => self.open_control(org, node).err(),
            _ => None,
        };
        let trouble = trouble.map(|error| format!("`hark ctl` will not work: {error:#}"));
        self.summary.note(event);
        self.log(event);
        self.met_anybody |= matches!(event.event, Event::PeerUp { .. });
        if let Some(journal) = self.journal {
            journal.write(event)?;
        }
        let line = match &event.event {
            Event::Ready { .. } => self.welcome(node),
            event => describe(event),
        };
        let name = event.org.as_deref().and_then(|org| self.names.get(org));
        let line = line.map(|line| match name {
            Some(name) => format!("{name}: {line}"),
            None => line,
        });
        match self.tell {
            Tell::Screen => return Ok(trouble.or(line)),
            Tell::Lines => line.iter().for_each(|line| say(line)),
            Tell::Nobody => {}
        }
        trouble.iter().for_each(|trouble| complain(trouble));
        Ok(None)
    }

    /// Writes an event to the log of its organisation, if a log is kept.
    fn log(&mut self, event: &StampedEvent) {
        let Some(org) = event.org.as_ref().filter(|_| self.keeps_log) else { return };
        if !self.logbooks.contains_key(org) {
            // A newcomer has no folder until it is let in.
            let store = org.parse().ok().and_then(|id| self.home.find(id).ok().flatten());
            let Some(store) = store else { return };
            let opened = Logbook::open(store.folder());
            let opened = opened.map_err(|error| tracing::error!(%error, "no log is kept"));
            self.logbooks.insert(org.clone(), opened.ok());
        }
        if let Some(Some(logbook)) = self.logbooks.get_mut(org) {
            logbook.note(event);
        }
    }

    /// The message when others can join. A member who has just founded the squad also gets a
    /// ticket.
    fn welcome(&mut self, node: Option<&Node>) -> Option<String> {
        let words = std::mem::take(&mut self.keeps_words).then_some(HOW_TO_RECOVER);
        let invitation = match self.tell {
            Tell::Nobody => return None,
            // A ticket is a secret, and others may see the screen: it is shown only when a key is
            // pressed.
            Tell::Screen => {
                let founded = std::mem::take(&mut self.founds).then_some(FOUNDED);
                let told: Vec<_> = founded.into_iter().chain(words).collect();
                return (!told.is_empty()).then(|| told.join(" "));
            }
            Tell::Lines => {
                let founded = node.filter(|_| std::mem::take(&mut self.founds));
                let ticket = founded
                    .and_then(|node| node.handles().next()?.ticket(TicketRequest::default()).ok());
                ticket.map(|ticket| invitation(&ticket))
            }
        };
        let invitation = invitation.unwrap_or_else(|| HOW_TO_INVITE.to_owned());
        Some(
            [Some(invitation.as_str()), words].into_iter().flatten().collect::<Vec<_>>().join("\n"),
        )
    }

    /// Starts the local API of one organisation. If that fails, the node still talks.
    fn open_control(&mut self, organisation: &str, node: &Node) -> anyhow::Result<()> {
        let id = organisation.parse().context("an organisation's id")?;
        let store = self.home.find(id)?.context("its folder is gone")?;
        let mut handles = node.handles();
        let handle = handles.find(|handle| handle.organisation() == Some(organisation));
        let handle = handle.context("the node is not in it")?;
        if node.handles().count() > 1 {
            self.names.insert(organisation.to_owned(), store.charter().name().to_owned());
        }
        let service = ControlService::start(Arc::new(handle), store)?;
        self.services.insert(organisation.to_owned(), service);
        Ok(())
    }
}

/// Asks for a ticket and shows it, or shows why there is none.
fn show_ticket(screen: &mut Screen, organisation: &NodeHandle) {
    match organisation.ticket(TicketRequest::default()) {
        Ok(ticket) => screen.show_ticket(&ticket),
        Err(reason) => screen.tell(reason.to_string()),
    }
}

/// Why the node stops now: `None` if it goes on, `Some(None)` if it has ended by itself.
fn end(node: &Node, stop: &StopSignal, until: Option<Instant>) -> Option<Option<&'static str>> {
    if node.has_ended() {
        Some(None)
    } else if stop.is_asked() {
        Some(Some("signal"))
    } else if until.is_some_and(|until| Instant::now() >= until) {
        Some(Some("time"))
    } else {
        None
    }
}

/// The file of `--events`. Each line is written as soon as its event has happened.
struct Journal {
    path: PathBuf,
    out: Box<dyn Write>,
}

impl Journal {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(create_journal(&path).with_context(|| path.display().to_string())?)
        };
        Ok(Self { path, out })
    }

    fn write(&mut self, event: &StampedEvent) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        self.out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.flush())
            .with_context(|| format!("events cannot be written: {}", self.path.display()))
    }
}

/// A message with the ticket alone on its line, so that it can be copied whole.
fn invitation(ticket: &Ticket) -> String {
    format!(
        "Others join with `hark talk TICKET`. Send them this ticket by a way that only they can \
         read; it is good for {}:\n\n{ticket}\n",
        span(lasting(ticket))
    )
}

/// The message about an event, if there is one. There is none about who speaks: that would be a
/// line every few seconds.
fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::PeerUp { name, path, address, looks_like, .. } => {
            let path = format!("({}, {})", path.as_str(), plain_address(address));
            match looks_like {
                None => format!("{name} is here {path}"),
                Some(other) => format!("beware: {name} is here, who is not {other} {path}"),
            }
        }
        Event::PeerDown { name, reason, .. } => match reason.as_str() {
            "left" => format!("{name} has left"),
            "left for good" => format!("{name} has left the organisation"),
            // The event `standing` names the officer.
            "removed" => return None,
            "unreachable" => format!("{name} is out of reach"),
            reason => format!("{name} is gone ({reason})"),
        },
        Event::Refused { name, reason, .. } => {
            format!("{name} does not let this device in: {reason}")
        }
        Event::AudioDevice { detail, .. } => detail.clone(),
        Event::PortTaken { port } => format!(
            "another program has port {port}, which this device had before: tickets of then do not \
             lead here from afar"
        ),
        Event::Moved { name, from: Some(from), to, .. } => {
            format!("{name} has moved you from {from} to {to}")
        }
        Event::Sanction { sanction, in_force: true, .. } => sanction.describe(),
        Event::Sanction { sanction, in_force: false, lifted_by } => {
            sanction.describe_end(lifted_by.as_deref())
        }
        Event::Standing { own, standing } => return describe_standing(*own, standing),
        Event::Moved { name, from: None, to, .. } => format!("{name} has moved you to {to}"),
        Event::Waiting { newcomer, state } => {
            let name = &newcomer.name;
            match state {
                // The command comes first, since the screen cuts the end of a line.
                WaitingState::Waiting => format!(
                    "{name} waits: `hark ctl admit {name}` or `refuse`; the words are {}",
                    newcomer.words.join(" ")
                ),
                WaitingState::Admitted => format!("{name} is let in"),
                WaitingState::Refused => format!("{name} was turned away"),
                WaitingState::Gone => format!("{name} does not wait any more"),
            }
        }
        Event::Notice(notice) => notice.to_string(),
        Event::Stopped { reason } => format!("stopped ({reason})"),
        _ => return None,
    })
}

/// The message about what an officer has done. A change of roles is shown only to the member
/// concerned, and the end of a membership only to the others. For a mute or a ban of this member,
/// the event `sanction` says more.
fn describe_standing(own: bool, standing: &StandingView) -> Option<String> {
    let StandingView { name, change, channel, by, until, .. } = standing;
    let (role, place) =
        (standing.role.as_deref().unwrap_or_default(), place_of(channel.as_deref()));
    let officer = by.as_deref().unwrap_or("an officer");
    Some(match (change.as_str(), own, by) {
        ("role_given", true, Some(by)) => format!("{by} gave you the role {role} {place}"),
        ("role_given", true, None) => format!("you have the role {role} {place} now"),
        ("role_taken", true, Some(by)) => format!("{by} took the role {role} {place} from you"),
        ("role_taken", true, None) => format!("you have the role {role} {place} no more"),
        ("removed", false, _) => format!("{officer} has ended the membership of {name}"),
        ("banned", false, _) if channel.is_none() => {
            let until = until.map(|until| utc(UnixTime::from_secs(until)));
            let until = until.unwrap_or_else(|| "it is lifted".to_owned());
            format!("{officer} has banned {name} until {until}")
        }
        _ => return None,
    })
}

/// The address and port of a multiaddr as people write them. Anything else is returned unchanged.
pub(crate) fn plain_address(multiaddr: &str) -> String {
    let mut parts = multiaddr.split('/').skip(1);
    let (family, ip, port) = (parts.next(), parts.next(), parts.nth(1));
    match (family, ip, port) {
        (Some("ip4"), Some(ip), Some(port)) => format!("{ip}:{port}"),
        (Some("ip6"), Some(ip), Some(port)) => format!("[{ip}]:{port}"),
        _ => multiaddr.to_owned(),
    }
}

/// Printed before everything else, even before trouble with the microphone: a person who wanted to
/// join another squad stops here.
const FOUNDS: &str = "This device is in no squad yet, so this founds one, called \"squad\", with you \
                      alone in it. To join somebody else's, stop this and say `hark talk TICKET`; \
                      `hark new NAME` founds one with a name.";

/// The same for the screen, which covers what was printed before.
const FOUNDED: &str = "You have founded a squad of your own: press t for a ticket, by which others \
                       join. To join somebody else's, leave and say `hark talk TICKET`.";

/// Printed when no ticket was made, because nobody is waiting for one.
const HOW_TO_INVITE: &str = "Others join by a ticket: `hark invite` prints one.";

/// Printed instead of opening the screen when the shell runs the program in the background.
const IN_THE_BACKGROUND: &str = "This runs in the background, without a screen. `hark ctl status` \
                                 shows who is here, `hark ctl quit` ends it.";

/// The words are shown only on demand: anybody who reads them can act for the member.
const HOW_TO_RECOVER: &str = "Should this device be lost, 24 words bring you back: `hark recovery` shows them, to be written down.";

/// How long one turn of the loop waits. The screen is drawn once a turn.
const TURN: Duration = Duration::from_millis(50);

/// Without a screen, a signal is noticed within this time.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use hark_keys::{DeviceKey, OrganisationId, Terms};
    use hark_node::clock::Clock;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn events_are_lines_of_json_as_soon_as_they_happen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        let mut journal = Journal::open(path.clone()).expect("opened");
        let event = Event::Stopped { reason: "time".to_owned() };
        let event = StampedEvent { at_us: 3, event, org: None };
        journal.write(&event).expect("written");
        let line = "{\"at_us\":3,\"event\":\"stopped\",\"reason\":\"time\"}\n";
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line);
        journal.write(&event).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), line.repeat(2));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let Err(error) = Journal::open("/nowhere/events".into()) else { panic!("opened") };
        assert!(format!("{error:#}").starts_with("/nowhere/events: "), "{error:#}");
    }

    #[test]
    fn people_are_told_who_leaves_and_why_but_no_numbers() {
        let stopped = Event::Stopped { reason: "signal".to_owned() };
        assert_eq!(describe(&stopped).as_deref(), Some("stopped (signal)"));
        assert_eq!(describe(&Event::Stats { peers: Vec::new(), cpu_percent: 1.0 }), None);
    }

    /// Nothing was printed about roles, and a kick did not name the officer.
    #[test]
    fn somebody_kicked_was_only_gone() {
        let by = Some("Vesper".to_owned());
        let told = |own, change: &str, channel: Option<&str>, by: &Option<String>, until| {
            let standing = StandingView {
                member: "m".to_owned(),
                name: "Wren".to_owned(),
                change: change.to_owned(),
                role: change.starts_with("role").then(|| "pilot".to_owned()),
                channel: channel.map(str::to_owned),
                by: by.clone(),
                until,
            };
            describe(&Event::Standing { own, standing })
        };
        let role = |by: &Option<String>, channel: Option<&str>, given| {
            let change = if given { "role_given" } else { "role_taken" };
            assert_eq!(told(false, change, channel, by, None), None, "others are not told");
            told(true, change, channel, by, None).expect("told")
        };
        assert_eq!(role(&by, None, true), "Vesper gave you the role pilot everywhere");
        let taken = role(&by, Some("Flight"), false);
        assert_eq!(taken, "Vesper took the role pilot in Flight from you");
        assert_eq!(role(&None, None, false), "you have the role pilot everywhere no more");
        let removed = |banned, until| {
            let change = if banned { "banned" } else { "removed" };
            assert_eq!(told(true, change, None, &by, until), None, "that one is told otherwise");
            told(false, change, None, &by, until).expect("told")
        };
        assert_eq!(removed(false, None), "Vesper has ended the membership of Wren");
        assert_eq!(removed(true, None), "Vesper has banned Wren until it is lifted");
        let banned = removed(true, Some(1_795_384_205));
        assert_eq!(banned, "Vesper has banned Wren until 2026-11-22 21:50:05 UTC");
    }

    #[test]
    fn the_ticket_stands_alone_on_its_line() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let terms = Terms::until(Clock.unix() + DAY);
        let organisation = OrganisationId::from_bytes([9; 32]);
        let ticket = Ticket::issue(&key, organisation, "Squad", terms, Vec::new(), &SystemRandom);
        let (text, line) = (invitation(&ticket), ticket.to_string());
        assert!(text.lines().any(|it| it == line), "{text}");
        assert!(text.contains("good for 24 h:"), "{text}");
    }

    #[test]
    fn addresses_are_told_as_people_write_them() {
        assert_eq!(plain_address("/ip4/192.0.2.7/udp/4000/quic-v1"), "192.0.2.7:4000");
        assert_eq!(plain_address("/ip6/2001:db8::7/udp/4000/quic-v1"), "[2001:db8::7]:4000");
        assert_eq!(plain_address("elsewhere"), "elsewhere");
    }
}
