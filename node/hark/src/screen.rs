//! The live screen of `talk`.

mod choice;
mod clipboard;
mod fit;
mod help;
mod nets;
mod news;
mod people;
mod view;
mod waiting;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hark_keys::Ticket;
use hark_node::{
    clock::{Clock, local},
    event::DeviceText,
    snapshot::{Command, NetChange, NetView, PeerView, Snapshot, TalkTo, TransmitMode},
};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor,
        event::{
            self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, KeyboardEnhancementFlags,
            PopKeyboardEnhancementFlags, PushKeyboardEnhancementFlags,
        },
        execute, terminal,
    },
};

use choice::{Choice, Pane};
use news::News;
use view::{Rooms, draw};

use crate::person::{lasting, span};

/// The terminal, which the screen has taken over until it is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    events: Receiver<Event>,
    state: ViewState,
    begun: Instant,
}

/// What the person wants to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// To carry out these commands in the organisation that is shown, in this order.
    Commands(Vec<Command>),
    /// To see a ticket for newcomers.
    Ticket,
    /// To copy the ticket that is shown, or a new one, to the clipboard.
    Copy,
    /// To be heard by the next organisation.
    NextOrganisation,
    /// To leave.
    Leave,
}

/// What the screen shows besides the node's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewState {
    /// The invite ticket that covers the screen.
    ticket: Option<ShownTicket>,
    /// The messages to the person.
    news: News,
    /// Time since the screen was opened.
    now: Duration,
    /// How many lines of each list had room when the screen was last drawn.
    rooms: Rooms,
    /// Whether the terminal reports the release of a key. If not, space holds until it is pressed
    /// again.
    key_release: bool,
    /// Whether the push-to-talk key is down, or held by a press of space.
    talk_key: bool,
    /// The channel and the person that keys apply to.
    choice: Choice,
    /// The page that is shown instead of channels and people.
    page: Option<Page>,
    /// How many organisations there are besides the one that is shown.
    other_organisations: usize,
}

/// A page that covers channels and people for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Page {
    /// All keys and signs, starting with this line.
    Help(usize),
    /// The messages, scrolled back by this many lines from the newest.
    News(usize),
    /// A device with its verification words.
    Person(DeviceText),
    /// A newcomer who waits to be let in.
    Waiting(DeviceText),
}

/// A ticket that the person has asked for.
#[derive(Clone, Debug)]
struct ShownTicket {
    /// The id of the organisation that it leads to, as text.
    organisation: String,
    text: String,
    /// How long it is valid, in words.
    lasting: String,
    /// Whether it was sent to the clipboard.
    copied: bool,
}

impl Screen {
    /// Takes over the terminal.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let context = "the terminal cannot be drawn on: pipe the output to get plain lines";
        terminal::enable_raw_mode().context(context)?;
        TAKEN.store(true, Ordering::Relaxed);
        let key_release = terminal::supports_keyboard_enhancement().unwrap_or(false);
        let opened = (|| {
            let mut out = io::stdout();
            execute!(out, terminal::EnterAlternateScreen, cursor::Hide)?;
            if key_release {
                let flags = KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES
                    | KeyboardEnhancementFlags::REPORT_EVENT_TYPES
                    | KeyboardEnhancementFlags::REPORT_ALTERNATE_KEYS
                    | KeyboardEnhancementFlags::REPORT_ALL_KEYS_AS_ESCAPE_CODES;
                execute!(out, PushKeyboardEnhancementFlags(flags))?;
                ENHANCED.store(true, Ordering::Relaxed);
            }
            Terminal::new(CrosstermBackend::new(out))
        })();
        match opened {
            Ok(terminal) => {
                let state = ViewState { key_release, ..ViewState::default() };
                Ok(Self { terminal, events: read_events()?, state, begun: Instant::now() })
            }
            Err(error) => {
                restore();
                Err(error).context(context)
            }
        }
    }

    /// Shows a message on the screen, as long as there is room.
    pub(crate) fn tell(&mut self, news: String) {
        self.state.now = self.begun.elapsed();
        self.state.tell(news);
    }

    /// Shows a ticket until the person closes it.
    pub(crate) fn show_ticket(&mut self, ticket: &Ticket) {
        let organisation = ticket.invite().organisation.to_string();
        let text = ticket.to_string();
        let lasting = span(lasting(ticket));
        self.state.ticket = Some(ShownTicket { organisation, text, lasting, copied: false });
    }

    /// Whether a ticket for the organisation of `snapshot` is on the screen.
    pub(crate) fn shows_ticket(&self, snapshot: &Snapshot) -> bool {
        self.state.shown_ticket(snapshot).is_some()
    }

    /// Sends the ticket on the screen to the terminal's clipboard. It arrives only if the terminal
    /// lets programs fill its clipboard.
    pub(crate) fn copy_ticket(&mut self) -> anyhow::Result<()> {
        if let Some(ticket) = &mut self.state.ticket {
            clipboard::copy(&mut io::stdout(), &ticket.text)?;
            ticket.copied = true;
        }
        Ok(())
    }

    /// Draws the state of the organisation that is shown, and one line for each of the `others`.
    pub(crate) fn draw(
        &mut self,
        snapshot: &Snapshot,
        others: &[Arc<Snapshot>],
    ) -> anyhow::Result<()> {
        self.state.other_organisations = others.len();
        self.state.now = self.begun.elapsed();
        let mut rooms = Rooms::default();
        self.terminal.draw(|frame| rooms = draw(frame, snapshot, others, &self.state))?;
        self.state.rooms = rooms;
        Ok(())
    }

    /// Waits for at most `patience` for a key, and returns what the person wants.
    pub(crate) fn wish(&mut self, snapshot: &Snapshot, patience: Duration) -> Option<Wish> {
        // A panic in another thread has restored the terminal, so there is nothing to draw on.
        if !TAKEN.load(Ordering::Relaxed) {
            return Some(Wish::Leave);
        }
        let until = Instant::now() + patience;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Key(key)) => {
                    // A wish is returned at once.
                    if let Some(wish) = self.state.press(key, snapshot) {
                        return Some(wish);
                    }
                }
                // After a change of size the screen is drawn again at once.
                Ok(Event::Resize(..)) | Err(RecvTimeoutError::Timeout) => return None,
                Ok(_) => {}
                // The terminal is gone, and so is the person.
                Err(RecvTimeoutError::Disconnected) => return Some(Wish::Leave),
            }
        }
    }
}

/// Reads events of the terminal on a thread of its own: once the terminal is gone, reading never
/// returns.
fn read_events() -> anyhow::Result<Receiver<Event>> {
    let (sender, events) = sync_channel(EVENTS_MAX);
    let read = move || {
        while let Ok(event) = event::read()
            && sender.send(event).is_ok()
        {}
    };
    std::thread::Builder::new().name("hark-keyboard".to_owned()).spawn(read)?;
    Ok(events)
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal. Does nothing if it was not taken over.
pub(crate) fn restore() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    // The program is ending, so errors can be reported to nobody.
    let mut out = io::stdout();
    if ENHANCED.swap(false, Ordering::Relaxed) {
        let _ = execute!(out, PopKeyboardEnhancementFlags);
    }
    let _ = execute!(out, terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
}

impl ViewState {
    /// The ticket on the screen. `None` if there is none, or if it is for another organisation.
    fn shown_ticket(&self, snapshot: &Snapshot) -> Option<&ShownTicket> {
        self.ticket.as_ref().filter(|ticket| ticket.organisation == snapshot.organisation_id)
    }

    /// Adds a message.
    fn tell(&mut self, news: String) {
        self.news.tell(self.now, local(Clock.unix()), news);
    }

    fn press(&mut self, key: KeyEvent, snapshot: &Snapshot) -> Option<Wish> {
        let released = key.kind == KeyEventKind::Release;
        let repeated = key.kind == KeyEventKind::Repeat;
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return (!released).then_some(Wish::Leave);
        }
        if !released && self.choice.type_key(key.code) {
            return None;
        }
        if key.code == KeyCode::Char(' ') {
            return self.press_talk_key(released, repeated, snapshot);
        }
        if released {
            return None;
        }
        match self.page {
            Some(Page::Help(from)) => return self.press_in_help(key.code, from, snapshot),
            Some(Page::News(back)) => return self.press_in_news(key.code, back),
            Some(Page::Person(device)) => return self.press_at_person(key.code, device, snapshot),
            Some(Page::Waiting(device)) => {
                return self.press_at_waiting(key.code, device, snapshot);
            }
            None => {}
        }
        let command = match key.code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Char('m') => Command::Mute { on: !snapshot.muted },
            KeyCode::Char('d') => Command::Deafen { on: !snapshot.deafened },
            KeyCode::Char('b') => Command::Away { on: !snapshot.away },
            KeyCode::Char('v') => {
                self.talk_key = false;
                Command::Transmit { mode: next_mode(snapshot.transmit) }
            }
            KeyCode::Char('t') => {
                let shown = self.shown_ticket(snapshot).is_some();
                self.ticket = None;
                return (!shown).then_some(Wish::Ticket);
            }
            KeyCode::Char('c') => return Some(Wish::Copy),
            KeyCode::Char('o') if self.other_organisations > 0 || !snapshot.front => {
                self.talk_key = false;
                return Some(Wish::NextOrganisation);
            }
            KeyCode::Char('?') => {
                self.page = Some(Page::Help(0));
                return None;
            }
            KeyCode::Char('n') => {
                self.page = Some(Page::News(0));
                return None;
            }
            KeyCode::Char('w') => {
                self.page = waiting::first(snapshot).map(Page::Waiting);
                return None;
            }
            KeyCode::Esc => {
                self.ticket = None;
                self.choice.forget_search();
                return None;
            }
            code if self.choice.move_by_key(code, snapshot, self.rooms) => return None,
            code => return self.press_for_chosen(code, snapshot),
        };
        Some(Wish::Commands(vec![command]))
    }

    /// Handles keys that apply to the chosen channel or person.
    fn press_for_chosen(&mut self, code: KeyCode, snapshot: &Snapshot) -> Option<Wish> {
        match self.choice.pane(snapshot) {
            Pane::Nets => {
                let net = self.choice.net(snapshot)?.clone();
                self.press_for_net(code, &net, snapshot)
            }
            Pane::People => {
                let peer = self.choice.peer(snapshot)?.clone();
                self.press_for_person(code, &peer)
            }
        }
    }

    fn press_for_net(&mut self, code: KeyCode, net: &NetView, snapshot: &Snapshot) -> Option<Wish> {
        let name = nets::handle(net, snapshot);
        let change =
            |change| Some(Wish::Commands(vec![Command::Net { net: name.clone(), change }]));
        match code {
            KeyCode::Enter | KeyCode::Char('h') => {
                let on = !net.listening;
                Some(Wish::Commands(vec![Command::Listen { net: name, on, keep: false }]))
            }
            KeyCode::Char('x' | 'X') if !net.may_speak => {
                self.tell(format!("you may not speak on {}", net.path));
                None
            }
            KeyCode::Char('x') => {
                self.talk_key = false;
                Some(talk_to_nets(vec![name.clone()], (!net.listening).then_some(name)))
            }
            KeyCode::Char('X') => {
                let talked_to = snapshot.nets.iter().filter(|it| it.talked_to && it.id != net.id);
                let mut all: Vec<_> = talked_to.map(|it| nets::handle(it, snapshot)).collect();
                if net.talked_to && all.is_empty() {
                    self.tell(format!("{} is all that you talk to: x chooses another", net.path));
                    return None;
                }
                self.talk_key = false;
                let hears = net.listening || net.talked_to;
                all.extend((!net.talked_to).then(|| name.clone()));
                Some(talk_to_nets(all, (!hears).then_some(name)))
            }
            KeyCode::Char('s') => {
                change(NetChange { muted: Some(!net.muted), ..NetChange::default() })
            }
            KeyCode::Char(sign @ ('+' | '-')) => {
                let volume = Some(next_volume(net.volume, sign));
                change(NetChange { volume, ..NetChange::default() })
            }
            _ => None,
        }
    }

    fn press_for_person(&mut self, code: KeyCode, peer: &PeerView) -> Option<Wish> {
        let device = peer.stats.device;
        let command = match code {
            KeyCode::Enter | KeyCode::Char('i') => {
                self.page = Some(Page::Person(device));
                return None;
            }
            KeyCode::Char('x') => {
                self.talk_key = false;
                let members = vec![device.0.to_string()];
                Command::TalkTo { to: TalkTo { members, ..TalkTo::default() }, keep: false }
            }
            KeyCode::Char(sign @ ('+' | '-')) => {
                let gain = next_volume(peer.volume, sign);
                Command::Volume { device: device.0.to_string(), gain }
            }
            _ => return None,
        };
        Some(Wish::Commands(vec![command]))
    }

    fn press_in_help(&mut self, code: KeyCode, from: usize, snapshot: &Snapshot) -> Option<Wish> {
        let room = self.rooms.page;
        let last = help::lines(snapshot, self.key_release).len().saturating_sub(room.max(1));
        self.page = match code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            code => scrolled(code, from, room).map(|from| Page::Help(from.min(last))),
        };
        None
    }

    /// Handles keys on the page of messages. The newest is at the bottom, so up moves back in time.
    fn press_in_news(&mut self, code: KeyCode, back: usize) -> Option<Wish> {
        let room = self.rooms.page;
        let last = self.news.len().saturating_sub(room.max(1));
        let code = match code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Up | KeyCode::Char('k') => KeyCode::Down,
            KeyCode::Down | KeyCode::Char('j') => KeyCode::Up,
            KeyCode::PageUp => KeyCode::PageDown,
            KeyCode::PageDown => KeyCode::PageUp,
            KeyCode::Home => KeyCode::End,
            KeyCode::End => KeyCode::Home,
            other => other,
        };
        self.page = scrolled(code, back.min(last), room).map(|back| Page::News(back.min(last)));
        None
    }

    fn press_at_person(
        &mut self,
        code: KeyCode,
        device: DeviceText,
        snapshot: &Snapshot,
    ) -> Option<Wish> {
        let verify = |on| {
            let device = device.0.to_string();
            Some(Wish::Commands(vec![Command::Verify { device, on }]))
        };
        match code {
            KeyCode::Char('y') => verify(true),
            KeyCode::Char('n') if people::is_verified(snapshot, device) => verify(false),
            KeyCode::Char('q') => Some(Wish::Leave),
            _ => {
                self.page = None;
                None
            }
        }
    }

    /// Space talks while it is held down. If the terminal does not report releases, one press talks
    /// until the next.
    fn press_talk_key(
        &mut self,
        released: bool,
        repeated: bool,
        snapshot: &Snapshot,
    ) -> Option<Wish> {
        if snapshot.transmit != TransmitMode::Ptt || repeated {
            return None;
        }
        let down = if self.key_release { !released } else { !self.talk_key };
        if released && !self.key_release || down == self.talk_key {
            return None;
        }
        self.talk_key = down;
        Some(Wish::Commands(vec![Command::Ptt {
            down,
            key: None,
            to: None,
            for_secs: None,
            tail_ms: None,
        }]))
    }
}

/// Where a page begins after a key, with `room` lines of it on the screen. `None` if the key closes
/// the page.
fn scrolled(code: KeyCode, from: usize, room: usize) -> Option<usize> {
    let page = room.max(1);
    Some(match code {
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => from + 1,
        KeyCode::PageUp => from.saturating_sub(page),
        KeyCode::PageDown => from + page,
        KeyCode::Home => 0,
        KeyCode::End => usize::MAX,
        _ => return None,
    })
}

/// Talks to `nets`, and first hears another one if `hear` names it.
fn talk_to_nets(nets: Vec<String>, hear: Option<String>) -> Wish {
    let hear = hear.map(|net| Command::Listen { net, on: true, keep: false });
    Wish::Commands(
        hear.into_iter().chain([Command::TalkTo { to: TalkTo::nets(nets), keep: false }]).collect(),
    )
}

fn next_volume(volume: f32, sign: char) -> f32 {
    let step = if sign == '+' { VOLUME_STEP } else { -VOLUME_STEP };
    (volume + step).clamp(0.0, VOLUME_MAX)
}

/// The next mode of the microphone. No single key leaves it open for good: that needs `hark ctl
/// transmit open`.
fn next_mode(mode: TransmitMode) -> TransmitMode {
    match mode {
        TransmitMode::Open | TransmitMode::Vad => TransmitMode::Ptt,
        TransmitMode::Ptt => TransmitMode::Vad,
    }
}

/// Whether the terminal is taken over, and whether it was asked to report releases. These are
/// statics because a panic in any thread restores the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);
static ENHANCED: AtomicBool = AtomicBool::new(false);

/// How many events may wait to be handled. Beyond them the terminal keeps what is typed.
const EVENTS_MAX: usize = 64;

const VOLUME_STEP: f32 = 0.1;
const VOLUME_MAX: f32 = 4.0;

#[cfg(test)]
mod tests;
