//! Keys that talk, from wherever the keyboard is.
//!
//! ```text
//! listeners ── KeyInput ──> thread "hark-keys" (bindings) ── press ──> node
//! ```
//!
//! The window takes no part in it: a window that is frozen keeps no key down, and none up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use hark_hotkeys::{
    bindings::{Binding, BindingKind, Bindings, Fired, Talk},
    button::Chord,
    capture::Capture,
    platform::{KeyInput, KeyListener, ListenOptions, Listeners, Watch, listen},
    star_citizen,
};
use hark_node::snapshot::Command;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Repaint};

/// A key and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySetting {
    /// The buttons.
    pub chord: Chord,
    /// What they do.
    #[serde(flatten)]
    pub action: KeyAction,
    /// How a talk key behaves.
    #[serde(default)]
    pub talk: Talk,
}

/// What a key does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "snake_case")]
pub enum KeyAction {
    /// Talks to what is talked to in the organisation in front.
    Talk,
    /// Talks to one net of the organisation in front.
    TalkTo {
        /// The net's path.
        net: String,
    },
    /// Opens or closes the microphone.
    Mute,
    /// Opens or closes the loudspeaker.
    Deafen,
}

impl KeyAction {
    /// What it does, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Talk => "Talk".to_owned(),
            Self::TalkTo { net } => format!("Talk to {net}"),
            Self::Mute => "Mute my microphone".to_owned(),
            Self::Deafen => "Silence my loudspeaker".to_owned(),
        }
    }

    /// Whether it lasts while its key is held.
    pub fn talks(&self) -> bool {
        matches!(self, Self::Talk | Self::TalkTo { .. })
    }
}

/// The keys of a first start. None of them is taken by Star Citizen.
pub fn usual_keys() -> Vec<KeySetting> {
    [
        (star_citizen::TALK, KeyAction::Talk),
        (star_citizen::MUTE, KeyAction::Mute),
        (star_citizen::DEAFEN, KeyAction::Deafen),
    ]
    .into_iter()
    .filter_map(|(chord, action)| {
        let chord = chord.parse().ok()?;
        Some(KeySetting { chord, action, talk: USUAL_TALK })
    })
    .collect()
}

/// How talk keys behave unless a person says otherwise: last words are not cut off.
pub const USUAL_TALK: Talk = Talk { release_delay_ms: 150, start_delay_ms: 0, latch: false };

/// Listens to keys and carries out what they do.
pub struct HotKeys {
    messages: SyncSender<Message>,
    listeners: Listeners,
    chosen: Arc<Mutex<Option<Chord>>>,
}

enum Message {
    Input(Instant, KeyInput),
    Set(Vec<KeySetting>),
    Typing(bool),
    Capture(bool),
}

impl HotKeys {
    /// Listens for the keys of a person who talks by `backend`.
    pub fn start(backend: Arc<dyn Backend>, keys: &[KeySetting], repaint: Repaint) -> Self {
        let (messages, received) = sync_channel(WAITING_MAX);
        let sender = messages.clone();
        // If the thread falls so far behind that the queue is full, the newest input is lost. What
        // the system confirms a moment later mends that.
        let sink = Arc::new(move |at, input| drop(sender.try_send(Message::Input(at, input))));
        let listeners = listen(sink, ListenOptions::default());
        let chosen = Arc::new(Mutex::new(None));
        let worker = Worker {
            bindings: Bindings::default(),
            capture: None,
            held: BTreeMap::new(),
            chosen: Arc::clone(&chosen),
            backend,
            repaint,
        };
        std::thread::spawn(move || worker.run(&received));
        let started = Self { messages, listeners, chosen };
        started.set(keys);
        started
    }

    /// Binds these keys and nothing else.
    pub fn set(&self, keys: &[KeySetting]) {
        let buttons = keys.iter().flat_map(|key| key.chord.buttons()).cloned().collect();
        self.listeners.watch(Watch::Named(buttons));
        self.tell(Message::Set(keys.to_vec()));
    }

    /// Tells whether the person types into a field of the window.
    pub fn set_typing(&self, typing: bool) {
        self.tell(Message::Typing(typing));
    }

    /// Begins to wait for a chord, or ends that. Meanwhile no key does anything.
    pub fn capture(&self, on: bool, keys: &[KeySetting]) {
        self.tell(Message::Capture(on));
        if on {
            self.listeners.watch(Watch::Everything);
        } else {
            let buttons = keys.iter().flat_map(|key| key.chord.buttons()).cloned().collect();
            self.listeners.watch(Watch::Named(buttons));
        }
    }

    /// The chord that was pressed since, once.
    pub fn take_chosen(&self) -> Option<Chord> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What cannot be seen and why, in words for a person.
    pub fn limits(&self) -> Vec<String> {
        self.listeners.limits()
    }

    fn tell(&self, message: Message) {
        // The thread ends only with this.
        let _ = self.messages.send(message);
    }
}

struct Worker {
    bindings: Bindings<KeyAction>,
    capture: Option<Capture>,
    /// The organisation in which each talk action began: it ends there, whatever is in front then.
    held: BTreeMap<KeyAction, String>,
    chosen: Arc<Mutex<Option<Chord>>>,
    backend: Arc<dyn Backend>,
    repaint: Repaint,
}

impl Worker {
    fn run(mut self, received: &Receiver<Message>) {
        loop {
            let now = Instant::now();
            let due = self.bindings.poll_timeout();
            let wait = due.map_or(FOREVER, |due| due.saturating_duration_since(now));
            match received.recv_timeout(wait) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.bindings.set(Vec::new());
                    self.carry_out();
                    return;
                }
            }
            self.bindings.handle_timeout(Instant::now());
            self.carry_out();
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Input(at, input) => match &mut self.capture {
                Some(capture) => {
                    if let Some(chord) = capture.handle(at, input) {
                        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
                        *chosen = Some(chord);
                        drop(chosen);
                        (self.repaint)();
                    }
                }
                None => self.bindings.handle(at, input),
            },
            Message::Set(keys) => self.bindings.set(keys.into_iter().map(binding).collect()),
            Message::Typing(typing) => self.bindings.set_typing(typing),
            Message::Capture(on) => {
                self.bindings.suspend(on);
                self.capture = on.then(Capture::default);
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(fired) = self.bindings.poll_action() {
            match fired {
                Fired::Down(action) => {
                    let Some(organisation) = self.in_front() else { continue };
                    self.backend.press(&organisation, key_of(&action), true);
                    self.held.insert(action, organisation);
                }
                Fired::Up(action) => {
                    if let Some(organisation) = self.held.remove(&action) {
                        self.backend.press(&organisation, key_of(&action), false);
                    }
                }
                Fired::Once(action) => self.once(&action),
                Fired::EndsSoon(action) => self.backend.tell(&format!(
                    "{} ends in ten seconds: the desktop cannot say whether its key is still held",
                    action.describe()
                )),
            }
        }
    }

    fn once(&self, action: &KeyAction) {
        let scene = self.backend.scene();
        let Some(front) = scene.front() else { return };
        let own = &front.snapshot;
        let command = match action {
            KeyAction::Mute => Command::Mute { on: !own.muted },
            KeyAction::Deafen => Command::Deafen { on: !own.deafened },
            KeyAction::Talk | KeyAction::TalkTo { .. } => return,
        };
        self.backend.order(&own.organisation_id, command.into());
    }

    fn in_front(&self) -> Option<String> {
        Some(self.backend.scene().front()?.snapshot.organisation_id.clone())
    }
}

fn key_of(action: &KeyAction) -> Option<&str> {
    match action {
        KeyAction::TalkTo { net } => Some(net),
        KeyAction::Talk | KeyAction::Mute | KeyAction::Deafen => None,
    }
}

fn binding(key: KeySetting) -> Binding<KeyAction> {
    let KeySetting { chord, action, talk } = key;
    let kind = if action.talks() { BindingKind::Talk(talk) } else { BindingKind::Once };
    Binding { chord, action, kind }
}

/// The key of a net, or the plain one for the empty path, as plates show it.
pub fn shown(keys: &[KeySetting], net: &str) -> Option<String> {
    let found = keys.iter().find(|key| match &key.action {
        KeyAction::Talk => net.is_empty(),
        KeyAction::TalkTo { net: to } => to == net,
        KeyAction::Mute | KeyAction::Deafen => false,
    });
    found.map(|key| key.chord.to_string())
}

/// Inputs that wait.
const WAITING_MAX: usize = 1024;

/// Long enough to wait for nothing.
const FOREVER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_as_text() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            keys: Vec<KeySetting>,
        }
        let mut file = File { keys: usual_keys() };
        file.keys.push(KeySetting {
            chord: "Left Ctrl + Mouse 4".parse().expect("a chord"),
            action: KeyAction::TalkTo { net: "Flight/Alpha".to_owned() },
            talk: Talk { latch: true, ..USUAL_TALK },
        });
        let text = toml::to_string(&file).expect("TOML");
        assert!(text.contains("chord = \"Right Ctrl\"\ndoes = \"talk\""), "{text}");
        assert_eq!(toml::from_str::<File>(&text).expect("read back"), file);
        assert_eq!(shown(&file.keys, "").as_deref(), Some("Right Ctrl"));
        assert_eq!(shown(&file.keys, "Flight/Alpha").as_deref(), Some("Left Ctrl + Mouse 4"));
        assert_eq!(shown(&file.keys, "Ground"), None);
    }
}
