//! `hark talk`: a node in the foreground.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use hark_command_line::{StopSignal, duration, news::describe};
use hark_commands::TicketRequest;
use hark_keys::{OrganisationId, RecoverySecret, Ticket};
use hark_node::{
    device::{InputSpec, OutputSpec},
    event::{Event, StampedEvent},
    network::{Flags, TellJoining},
    node::{Node, NodeConfig, NodeHandle},
    profile::{ProfileError, check_profile_name},
    random::SystemRandom,
    reach::names::PeerPlace,
    records::{EventFile, Records},
    signals::owns_terminal,
    snapshot::{Command, ProcessingChange, TransmitMode},
    store::Home,
};
use hark_voice::{
    CodingSettings, StageMode, Stages, WaitLimits,
    rate::{self, CodingError, Redundancy},
};

use crate::{
    HomeArguments,
    ctl::Mode,
    person::{
        ask_passphrase, complain, home_path, lasting, open_home, read_ticket, say, shown_name, span,
    },
    screen::{Screen, Wish},
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
    /// Frames of 2.5 or 5 ms, smallest buffers
    #[arg(long)]
    low_delay: bool,
    /// What is done to your voice before it is sent: echo=on|off|auto,noise=...,gain=... [default:
    /// as chosen for the microphone, at first auto; off with a file]
    #[arg(long, value_name = "LIST", value_parser = processing)]
    processing: Option<ProcessingChange>,
    /// Bit rate of your voice: auto, or 24 to 96 kbit/s [default: auto, as the way to the others
    /// allows]
    #[arg(long, value_name = "KBPS", value_parser = parse_bitrate, allow_hyphen_values = true)]
    bitrate: Option<Choice<u32>>,
    /// Length of its frames: auto, or 2.5, 5, 10 or 20 ms [default: auto]
    #[arg(long, value_name = "MS", value_parser = parse_frame, allow_hyphen_values = true)]
    frame: Option<Choice<usize>>,
    /// Against loss: auto, 0 to 5 copies of earlier frames in each datagram, or deep, which takes
    /// no more bits [default: auto, as each listener asks for]
    #[arg(long, value_name = "COPIES", value_parser = parse_redundancy, allow_hyphen_values = true)]
    redundancy: Option<Choice<Redundancy>>,
    /// How long to wait for the voices of others: auto, or the least and the most in ms, 0 to 200
    /// [default: auto, as long as each line needs]
    #[arg(long, value_name = "LEAST..MOST", allow_hyphen_values = true)]
    wait: Option<WaitLimits>,
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
    let mut journal = arguments.events.as_deref().map(EventFile::open).transpose()?;
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
    journal: &mut Option<EventFile>,
) -> anyhow::Result<Played> {
    let coding = CodingSettings {
        bitrate_bps: arguments.bitrate.and_then(|it| it.0),
        frame_samples: arguments.frame.and_then(|it| it.0),
        redundancy: arguments.redundancy.and_then(|it| it.0),
    };
    coding.check(arguments.low_delay)?;
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
        processing: arguments.processing.unwrap_or_default(),
        coding,
        wait: arguments.wait.unwrap_or_default(),
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
        names: BTreeMap::new(),
        summary: Summary::default(),
        records: Records::new(home, !arguments.no_log),
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
    session.records.close_control();
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

/// Parses `echo=MODE,noise=MODE,gain=MODE`, or some of these.
pub(crate) fn processing(text: &str) -> Result<ProcessingChange, String> {
    let mut stages = Stages::<Option<StageMode>>::default();
    for part in text.split(',') {
        let (stage, mode) = part.trim().split_once('=').ok_or(PROCESSING)?;
        let place = match stage {
            "echo" => &mut stages.echo,
            "noise" => &mut stages.noise,
            "gain" => &mut stages.gain,
            _ => return Err(format!("`{stage}` is no stage: use echo, noise or gain")),
        };
        let mode = mode.parse::<StageMode>().map_err(|error| error.to_string())?;
        if place.replace(mode).is_some() {
            return Err(format!("{stage} is named twice"));
        }
    }
    Ok(stages.into())
}

/// How `--processing` is written.
const PROCESSING: &str = "write echo, noise or gain, each with on, off or auto: noise=on,gain=off";

/// A setting; `None` leaves the choice to Hark.
#[derive(Clone, Copy)]
struct Choice<T>(Option<T>);

fn parse_bitrate(text: &str) -> Result<Choice<u32>, CodingError> {
    rate::parse_bitrate(text).map(Choice)
}

fn parse_frame(text: &str) -> Result<Choice<usize>, CodingError> {
    rate::parse_frame(text).map(Choice)
}

fn parse_redundancy(text: &str) -> Result<Choice<Redundancy>, CodingError> {
    rate::parse_redundancy(text).map(Choice)
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
    journal: &'a mut Option<EventFile>,
    met_anybody: bool,
    tell: Tell,
    /// What each organisation is called, where the node is in several.
    names: BTreeMap<String, String>,
    summary: Summary,
    records: Records,
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
        let trouble = self.records.note(event, node).err();
        let trouble = trouble.map(|error| format!("`hark ctl` will not work: {error}"));
        self.note_name(event, node);
        self.summary.note(event);
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

    /// Remembers what an organisation is called that has just begun, if the node is in several.
    fn note_name(&mut self, event: &StampedEvent, node: Option<&Node>) {
        if let (Event::Ready { .. }, Some(org), Some(node)) = (&event.event, &event.org, node)
            && node.handles().count() > 1
            && let Some(store) =
                org.parse().ok().and_then(|id| self.records.home().find(id).ok().flatten())
        {
            self.names.insert(org.clone(), store.charter().name().to_owned());
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

/// A message with the ticket alone on its line, so that it can be copied whole.
fn invitation(ticket: &Ticket) -> String {
    format!(
        "Others join with `hark talk TICKET`. Send them this ticket by a way that only they can \
         read; it is good for {}:\n\n{ticket}\n",
        span(lasting(ticket))
    )
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
    fn the_ticket_stands_alone_on_its_line() {
        let key = DeviceKey::from_secret(&[1; 32]);
        let terms = Terms::until(Clock.unix() + DAY);
        let organisation = OrganisationId::from_bytes([9; 32]);
        let ticket = Ticket::issue(&key, organisation, "Squad", terms, Vec::new(), &SystemRandom);
        let (text, line) = (invitation(&ticket), ticket.to_string());
        assert!(text.lines().any(|it| it == line), "{text}");
        assert!(text.contains("good for 24 h:"), "{text}");
    }
}
