//! The live screen of `talk`.

mod clipboard;
mod view;

use std::{
    collections::VecDeque,
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
use hark_node::snapshot::{Command, Snapshot, TransmitMode};
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

use view::draw;

/// The terminal, taken over until this is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    events: Receiver<Event>,
    state: ViewState,
}

/// What the person asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// Something of the node.
    Command(Command),
    /// To see a ticket for others.
    Ticket,
    /// To have the ticket that is shown, or a new one, in the clipboard.
    Copy,
    /// To be heard by the next organisation.
    NextOrganisation,
    /// To end.
    Leave,
}

/// What the screen shows beside the node's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewState {
    /// The invite ticket that covers the screen.
    ticket: Option<ShownTicket>,
    /// What has happened, the newest last.
    news: VecDeque<String>,
    /// Whether the terminal tells when a key is released. If not, space holds until pressed again.
    key_release: bool,
    /// Whether the push-to-talk key is down, or held by a press of space.
    talk_key: bool,
    /// The member that volume keys are for.
    selected: usize,
    /// Organisations beside the one in front.
    other_organisations: usize,
}

/// A ticket that the person has asked for.
#[derive(Clone, Debug)]
struct ShownTicket {
    /// Where it leads, as ids are written.
    organisation: String,
    text: String,
    /// Whether it was handed to the clipboard.
    copied: bool,
}

impl Screen {
    /// Takes the terminal over.
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
                    | KeyboardEnhancementFlags::REPORT_ALL_KEYS_AS_ESCAPE_CODES;
                execute!(out, PushKeyboardEnhancementFlags(flags))?;
                ENHANCED.store(true, Ordering::Relaxed);
            }
            Terminal::new(CrosstermBackend::new(out))
        })();
        match opened {
            Ok(terminal) => {
                let state = ViewState { key_release, ..ViewState::default() };
                Ok(Self { terminal, events: read_events()?, state })
            }
            Err(error) => {
                restore();
                Err(error).context(context)
            }
        }
    }

    /// Has something that happened on the screen from now on, while there is room.
    pub(crate) fn tell(&mut self, news: String) {
        self.state.news.push_back(news);
        if self.state.news.len() > NEWS_MAX {
            self.state.news.pop_front();
        }
    }

    /// Shows a ticket until the person has seen enough of it.
    pub(crate) fn show_ticket(&mut self, ticket: &Ticket) {
        let organisation = ticket.invite().organisation.to_string();
        let text = ticket.to_string();
        self.state.ticket = Some(ShownTicket { organisation, text, copied: false });
    }

    /// Whether a ticket is on the screen.
    pub(crate) fn shows_ticket(&self, snapshot: &Snapshot) -> bool {
        self.state.shown_ticket(snapshot).is_some()
    }

    /// Hands the ticket on the screen to the terminal's clipboard, if it has one that programs may
    /// fill.
    pub(crate) fn copy_ticket(&mut self) -> anyhow::Result<()> {
        if let Some(ticket) = &mut self.state.ticket {
            clipboard::copy(&mut io::stdout(), &ticket.text)?;
            ticket.copied = true;
        }
        Ok(())
    }

    /// Shows the state of the organisation in front, and in a line each that of the `others`.
    pub(crate) fn draw(
        &mut self,
        snapshot: &Snapshot,
        others: &[Arc<Snapshot>],
    ) -> anyhow::Result<()> {
        self.state.selected = self.state.selected.min(snapshot.peers.len().saturating_sub(1));
        self.state.other_organisations = others.len();
        self.terminal.draw(|frame| draw(frame, snapshot, others, &self.state))?;
        Ok(())
    }

    /// What the person presses within `patience`.
    pub(crate) fn wish(&mut self, snapshot: &Snapshot, patience: Duration) -> Option<Wish> {
        // A panic in another thread has given the terminal back: there is nothing to go on with.
        if !TAKEN.load(Ordering::Relaxed) {
            return Some(Wish::Leave);
        }
        let until = Instant::now() + patience;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Key(key)) => {
                    // What was pressed shows at once.
                    if let Some(wish) = self.state.press(key, snapshot) {
                        return Some(wish);
                    }
                }
                // A new size is drawn at once, too.
                Ok(Event::Resize(..)) | Err(RecvTimeoutError::Timeout) => return None,
                Ok(_) => {}
                // The terminal is gone, and with it the person.
                Err(RecvTimeoutError::Disconnected) => return Some(Wish::Leave),
            }
        }
    }
}

/// Reads what happens at the terminal, on a thread of its own: of a terminal that is gone the
/// reading never returns.
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

/// Gives the terminal back as it was. Does nothing where it was not taken.
pub(crate) fn restore() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    // The program ends; there is nobody to tell what fails here.
    let mut out = io::stdout();
    if ENHANCED.swap(false, Ordering::Relaxed) {
        let _ = execute!(out, PopKeyboardEnhancementFlags);
    }
    let _ = execute!(out, terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
}

impl ViewState {
    /// The ticket on the screen; none if it is of another organisation.
    fn shown_ticket(&self, snapshot: &Snapshot) -> Option<&ShownTicket> {
        self.ticket.as_ref().filter(|ticket| ticket.organisation == snapshot.organisation_id)
    }

    fn press(&mut self, key: KeyEvent, snapshot: &Snapshot) -> Option<Wish> {
        let released = key.kind == KeyEventKind::Release;
        let repeated = key.kind == KeyEventKind::Repeat;
        if key.code == KeyCode::Char(' ') {
            return self.press_talk_key(released, repeated, snapshot);
        }
        if released {
            return None;
        }
        let command = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Some(Wish::Leave);
            }
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Char('m') => Command::Mute { on: !snapshot.muted },
            KeyCode::Char('d') => Command::Deafen { on: !snapshot.deafened },
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
            KeyCode::Tab if self.other_organisations > 0 || !snapshot.front => {
                self.talk_key = false;
                return Some(Wish::NextOrganisation);
            }
            KeyCode::Esc => {
                self.ticket = None;
                return None;
            }
            KeyCode::Up => {
                self.selected = self.selected.saturating_sub(1);
                return None;
            }
            KeyCode::Down => {
                self.selected = (self.selected + 1).min(snapshot.peers.len().saturating_sub(1));
                return None;
            }
            KeyCode::Char(sign @ ('+' | '-')) => {
                let peer = snapshot.peers.get(self.selected)?;
                let step = if sign == '+' { VOLUME_STEP } else { -VOLUME_STEP };
                let gain = (peer.volume + step).clamp(0.0, VOLUME_MAX);
                Command::Volume { device: peer.stats.device.0.to_string(), gain }
            }
            _ => return None,
        };
        Some(Wish::Command(command))
    }

    /// Space talks while it is down. Where the terminal does not tell when it is released, one
    /// press talks until the next.
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
        Some(Wish::Command(Command::Ptt { down, key: None }))
    }
}

fn next_mode(mode: TransmitMode) -> TransmitMode {
    match mode {
        TransmitMode::Open => TransmitMode::Vad,
        TransmitMode::Vad => TransmitMode::Ptt,
        TransmitMode::Ptt => TransmitMode::Open,
    }
}

/// Whether the terminal is in our hands, and told to report releases: known here, as a panic in
/// any thread gives it back.
static TAKEN: AtomicBool = AtomicBool::new(false);
static ENHANCED: AtomicBool = AtomicBool::new(false);

/// Keys that wait to be looked at. Beyond them the terminal keeps what is typed.
const EVENTS_MAX: usize = 64;
/// Events that the screen remembers: as many as a tall terminal shows. The oldest go.
const NEWS_MAX: usize = 50;

const VOLUME_STEP: f32 = 0.1;
const VOLUME_MAX: f32 = 4.0;

#[cfg(test)]
mod tests;
