//! The live screen of `talk`.

mod view;

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
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
    state: ViewState,
}

/// What the person asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// Something of the node.
    Command(Command),
    /// To end.
    Leave,
}

/// What the screen shows beside the node's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewState {
    /// Whether the invite ticket covers the screen.
    show_ticket: bool,
    /// Whether the terminal tells when a key is released. If not, space holds until pressed again.
    key_release: bool,
    /// Whether the push-to-talk key is down, or held by a press of space.
    talk_key: bool,
    /// The member that volume keys are for.
    selected: usize,
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
                Ok(Self { terminal, state: ViewState { key_release, ..ViewState::default() } })
            }
            Err(error) => {
                restore();
                Err(error).context(context)
            }
        }
    }

    /// Shows the state.
    pub(crate) fn draw(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.state.selected = self.state.selected.min(snapshot.peers.len().saturating_sub(1));
        self.terminal.draw(|frame| draw(frame, snapshot, &self.state))?;
        Ok(())
    }

    /// What the person presses within `patience`.
    pub(crate) fn wishes(
        &mut self,
        snapshot: &Snapshot,
        patience: Duration,
    ) -> anyhow::Result<Vec<Wish>> {
        let until = Instant::now() + patience;
        let mut wishes = Vec::new();
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) => wishes.extend(self.state.press(key, snapshot)),
                // A new size is drawn at once.
                Event::Resize(..) => break,
                _ => {}
            }
            // What was pressed shows at once, too.
            if !wishes.is_empty() {
                break;
            }
        }
        Ok(wishes)
    }
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
                self.show_ticket = !self.show_ticket;
                return None;
            }
            KeyCode::Esc => {
                self.show_ticket = false;
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
        Some(Wish::Command(Command::Ptt { down }))
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

const VOLUME_STEP: f32 = 0.1;
const VOLUME_MAX: f32 = 4.0;

#[cfg(test)]
mod tests;
