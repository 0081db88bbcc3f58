//! Keys that talk, from wherever the keyboard is.
//!
//! ```text
//! listeners ── KeyInput ──> thread "hark-keys" (bindings) ── press ──> node
//! ```
//!
//! The window takes no part in it: a window that is frozen keeps no key down, and none up.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use hark_commands::{How, NamedRequest, PresetRequest, Request};
use hark_hotkeys::{
    bindings::{Binding, BindingKind, Bindings, Fired, Talk},
    button::Chord,
    capture::Capture,
    platform::{KeyInput, KeyListener, ListenOptions, Listeners, Watch, listen},
    star_citizen,
};
use hark_node::{
    profile::ProfileAction,
    snapshot::{Command, MasterChange, NetChange, Snapshot, TalkTo},
};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Backend, KeyEdge, Repaint, Scene, WindowOrder},
    settings::{PlateOrder, Settings},
    view::stack::in_order,
};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "snake_case")]
pub enum KeyAction {
    /// Talks to what is talked to in the organisation in front.
    Talk,
    /// Talks to nets, people and roles of the organisation in front, all at once.
    TalkTo(TalkTo),
    /// Whispers to whoever called last in the organisation in front.
    LastCaller,
    /// Opens or closes the microphone.
    Mute,
    /// Opens or closes the loudspeaker.
    Deafen,
    /// Turns nets that are not talked to down, or up again.
    OthersDown,
    /// Talks to the net after the one that is talked to, in the order of the plates.
    NextNet,
    /// Talks to the net before.
    PreviousNet,
    /// Makes a net louder, or those that are talked to.
    Louder {
        /// The net's path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        net: Option<String>,
    },
    /// Makes a net softer, or those that are talked to.
    Softer {
        /// The net's path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        net: Option<String>,
    },
    /// Hears a net, or no longer.
    Hear {
        /// The net's path.
        net: String,
    },
    /// Uses another profile.
    Profile {
        /// Its name.
        name: String,
    },
    /// Puts a preset into force for all, or out of force.
    Preset {
        /// Its name.
        name: String,
    },
    /// Brings an organisation to the front, or the next one.
    Front {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        organisation: Option<String>,
    },
}

impl KeyAction {
    /// Talks to one net.
    pub fn net(net: &str) -> Self {
        Self::TalkTo(TalkTo::nets(vec![net.to_owned()]))
    }

    /// What it does, in words.
    pub fn describe(&self) -> String {
        let or_talked_to =
            |net: &Option<String>| net.clone().unwrap_or_else(|| "what I talk to".to_owned());
        match self {
            Self::Talk => "Talk".to_owned(),
            Self::TalkTo(to) => {
                let parts: Vec<_> = to.nets.iter().chain(&to.members).chain(&to.roles).collect();
                let parts: Vec<_> = parts.into_iter().map(String::as_str).collect();
                let how = if to.nets.is_empty() { "Whisper to" } else { "Talk to" };
                format!("{how} {}", parts.join(", "))
            }
            Self::LastCaller => "Whisper to the last caller".to_owned(),
            Self::Mute => "Mute my microphone".to_owned(),
            Self::Deafen => "Silence my loudspeaker".to_owned(),
            Self::OthersDown => "Turn the other nets down".to_owned(),
            Self::NextNet => "Talk to the next net".to_owned(),
            Self::PreviousNet => "Talk to the net before".to_owned(),
            Self::Louder { net } => format!("Louder: {}", or_talked_to(net)),
            Self::Softer { net } => format!("Softer: {}", or_talked_to(net)),
            Self::Hear { net } => format!("Hear {net}, or not"),
            Self::Profile { name } => format!("Use the profile {name}"),
            Self::Preset { name } => format!("Load the preset {name}, or unload it"),
            Self::Front { organisation: Some(name) } => format!("Bring {name} to the front"),
            Self::Front { organisation: None } => "The next organisation to the front".to_owned(),
        }
    }

    /// Whether it lasts while its key is held.
    pub fn talks(&self) -> bool {
        matches!(self, Self::Talk | Self::TalkTo(_) | Self::LastCaller)
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
    Set(Vec<KeySetting>, PlateOrder),
    Typing(bool),
    Capture(bool),
}

impl HotKeys {
    /// Listens for the keys of a person who talks by `backend`.
    pub fn start(backend: Arc<dyn Backend>, settings: &Settings, repaint: Repaint) -> Self {
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
            held: Vec::new(),
            order: PlateOrder::new(),
            chosen: Arc::clone(&chosen),
            backend,
            repaint,
        };
        std::thread::spawn(move || worker.run(&received));
        let started = Self { messages, listeners, chosen };
        started.set(settings);
        started
    }

    /// Binds the keys of these settings and nothing else.
    pub fn set(&self, settings: &Settings) {
        self.watch(&settings.keys);
        self.tell(Message::Set(settings.keys.clone(), settings.order.clone()));
    }

    fn watch(&self, keys: &[KeySetting]) {
        let buttons = keys.iter().flat_map(|key| key.chord.buttons()).cloned().collect();
        self.listeners.watch(Watch::Named(buttons));
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
            self.watch(keys);
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

/// A talk action whose key is held.
struct Talking {
    action: KeyAction,
    organisation: String,
    /// Whom it talks to. `None` is what the plain key talks to.
    to: Option<TalkTo>,
}

struct Worker {
    bindings: Bindings<KeyAction>,
    capture: Option<Capture>,
    /// Where each talk action has begun: it ends there, whatever is in front by then.
    held: Vec<Talking>,
    order: PlateOrder,
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
            Message::Set(keys, order) => {
                self.bindings.set(keys.into_iter().map(binding).collect());
                self.order = order;
            }
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
                Fired::Down(action) => self.begin(action),
                Fired::Up(action) => {
                    if let Some(at) = self.held.iter().position(|it| it.action == action) {
                        let Talking { organisation, to, .. } = self.held.swap_remove(at);
                        self.backend.press(&organisation, to.as_ref(), KeyEdge::UpAtOnce);
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

    fn begin(&mut self, action: KeyAction) {
        let scene = self.backend.scene();
        let Some(front) = scene.front() else { return };
        let to = match &action {
            KeyAction::TalkTo(to) => Some(to.clone()),
            KeyAction::LastCaller => match front.air.last_caller() {
                Some(name) => Some(TalkTo { members: vec![name.to_owned()], ..TalkTo::default() }),
                None => return self.backend.tell("nobody has called yet"),
            },
            _ => None,
        };
        let organisation = front.snapshot.organisation_id.clone();
        self.backend.press(&organisation, to.as_ref(), KeyEdge::Down);
        self.held.push(Talking { action, organisation, to });
    }

    fn once(&self, action: &KeyAction) {
        let scene = self.backend.scene();
        let Some(front) = scene.front() else { return };
        match order(action, &scene, &front.snapshot, &self.order) {
            Ok((organisation, order)) => self.backend.order(&organisation, order),
            Err(line) => self.backend.tell(&line),
        }
    }
}

/// What an action that does not last asks of which organisation, or in a line why it does nothing.
fn order(
    action: &KeyAction,
    scene: &Scene,
    own: &Snapshot,
    order: &PlateOrder,
) -> Result<(String, WindowOrder), String> {
    let nets = || in_order(&own.nets, &own.organisation_id, order);
    let net = |path: &str| {
        let found = own.nets.iter().find(|it| it.path == path);
        found.ok_or_else(|| format!("there is no net {path} in {}", own.organisation))
    };
    let command = match action {
        KeyAction::Talk | KeyAction::TalkTo(_) | KeyAction::LastCaller => {
            unreachable!("what lasts is pressed")
        }
        KeyAction::Mute => Command::Mute { on: !own.muted },
        KeyAction::Deafen => Command::Deafen { on: !own.deafened },
        KeyAction::OthersDown => {
            let others_down = Some(!own.master.others_down);
            Command::Master { change: MasterChange { others_down, ..MasterChange::default() } }
        }
        KeyAction::NextNet | KeyAction::PreviousNet => {
            let open: Vec<_> =
                nets().into_iter().filter(|net| net.listening && net.may_speak).collect();
            let count = open.len();
            if count == 0 {
                return Err("there is no net to talk to".to_owned());
            }
            let at = open.iter().position(|net| net.talked_to);
            let next = match (action, at) {
                (KeyAction::NextNet, Some(at)) => (at + 1) % count,
                (_, Some(at)) => (at + count - 1) % count,
                (_, None) => 0,
            };
            let to = TalkTo::nets(vec![open[next].path.clone()]);
            Command::TalkTo { to, keep: false }
        }
        KeyAction::Louder { net: path } | KeyAction::Softer { net: path } => {
            let step = if matches!(action, KeyAction::Louder { .. }) { 0.1 } else { -0.1 };
            let net = match path {
                Some(path) => net(path)?,
                None => nets()
                    .into_iter()
                    .find(|net| net.talked_to)
                    .ok_or_else(|| "no net is talked to".to_owned())?,
            };
            let volume = Some((net.volume + step).clamp(0.0, 2.0));
            let change = NetChange { volume, ..NetChange::default() };
            Command::Net { net: net.path.clone(), change }
        }
        KeyAction::Hear { net: path } => {
            let net = net(path)?;
            Command::Listen { net: net.path.clone(), on: !net.listening, keep: false }
        }
        KeyAction::Profile { name } => {
            Command::Profile { action: ProfileAction::Use, name: name.clone() }
        }
        KeyAction::Preset { name } => {
            let order = preset(name, !own.presets.contains(name));
            return Ok((own.organisation_id.clone(), order));
        }
        KeyAction::Front { organisation } => {
            let all = &scene.organisations;
            let at = match organisation {
                Some(name) => all.iter().position(|it| it.snapshot.organisation == *name),
                None => {
                    let front = all.iter().position(|it| it.snapshot.front);
                    front.map(|at| (at + 1) % all.len())
                }
            };
            let found = at.map(|at| all[at].snapshot.organisation_id.clone());
            let name = organisation.as_deref().unwrap_or("another");
            let found = found.ok_or_else(|| format!("the organisation {name} does not run"))?;
            return Ok((found, Command::Front.into()));
        }
    };
    Ok((own.organisation_id.clone(), command.into()))
}

/// Has a preset put into force, or out of force.
pub fn preset(name: &str, load: bool) -> WindowOrder {
    let request = NamedRequest { name: name.to_owned(), how: How::default() };
    let request = if load { PresetRequest::Load(request) } else { PresetRequest::Unload(request) };
    WindowOrder::Charter(Box::new(Request::Preset(request)))
}

fn binding(key: KeySetting) -> Binding<KeyAction> {
    let KeySetting { chord, action, talk } = key;
    let kind = if action.talks() { BindingKind::Talk(talk) } else { BindingKind::Once };
    Binding { chord, action, kind }
}

/// The keys of a net alone, or the plain ones for the empty path, as plates show them.
pub fn shown(keys: &[KeySetting], net: &str) -> Option<String> {
    let action = if net.is_empty() { KeyAction::Talk } else { KeyAction::net(net) };
    let keys = keys.iter().filter(|key| key.action == action);
    let all: Vec<_> = keys.map(|key| key.chord.to_string()).collect();
    (!all.is_empty()).then(|| all.join(" or "))
}

/// Gives an action the key `chord`. It takes the place of those in `instead_of`, and of the same
/// chord, if the action has it already; how the first of these talks stays.
pub fn give(keys: &mut Vec<KeySetting>, action: &KeyAction, chord: Chord, instead_of: &[Chord]) {
    let goes = |key: &KeySetting| {
        key.action == *action && (key.chord == chord || instead_of.contains(&key.chord))
    };
    let at = keys.iter().position(goes);
    let talk = at.map_or(USUAL_TALK, |at| keys[at].talk);
    keys.retain(|key| !goes(key));
    // A key that is added stands after the others of its action.
    let after = keys.iter().rposition(|key| key.action == *action).map(|at| at + 1);
    let at = at.or(after).unwrap_or(keys.len()).min(keys.len());
    keys.insert(at, KeySetting { chord, action: action.clone(), talk });
}

/// Inputs that wait.
const WAITING_MAX: usize = 1024;

/// Long enough to wait for nothing.
const FOREVER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Organisation,
        samples::{operation, snapshot},
    };

    #[test]
    fn keys_are_kept_as_text() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            keys: Vec<KeySetting>,
        }
        let mut file = File { keys: usual_keys() };
        file.keys.push(KeySetting {
            chord: "Left Ctrl + Mouse 4".parse().expect("a chord"),
            action: KeyAction::net("Flight/Alpha"),
            talk: Talk { latch: true, ..USUAL_TALK },
        });
        let text = toml::to_string(&file).expect("TOML");
        assert!(text.contains("chord = \"Right Ctrl\"\ndoes = \"talk\""), "{text}");
        assert_eq!(toml::from_str::<File>(&text).expect("read back"), file);
        assert_eq!(shown(&file.keys, "").as_deref(), Some("Right Ctrl"));
        assert_eq!(shown(&file.keys, "Flight/Alpha").as_deref(), Some("Left Ctrl + Mouse 4"));
        assert_eq!(shown(&file.keys, "Ground"), None);
    }

    #[test]
    fn a_second_key_of_an_action_replaced_the_first() {
        let mut keys = usual_keys();
        keys[0].talk.latch = true;
        let chord = |text: &str| text.parse::<Chord>().expect("a chord");
        give(&mut keys, &KeyAction::Talk, chord("Mouse 4"), &[]);
        assert_eq!(shown(&keys, "").as_deref(), Some("Right Ctrl or Mouse 4"));
        assert!(!keys[1].talk.latch, "a key of its own");
        give(&mut keys, &KeyAction::Talk, chord("Mouse 5"), &[chord("Right Ctrl")]);
        assert_eq!(shown(&keys, "").as_deref(), Some("Mouse 5 or Mouse 4"));
        assert!(keys[0].talk.latch, "it still latches");
        give(&mut keys, &KeyAction::Talk, chord("Mouse 4"), &[]);
        assert_eq!(shown(&keys, "").as_deref(), Some("Mouse 5 or Mouse 4"), "none is there twice");
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn actions_ask_for_what_they_say() {
        let own = operation();
        let scene = Scene::default();
        let plates = PlateOrder::new();
        let asked = |action: &KeyAction, own: &Snapshot| {
            order(action, &scene, own, &plates).map(|(_, order)| order)
        };
        let talk_to = |net: &str| {
            let to = TalkTo::nets(vec![net.to_owned()]);
            Ok(Command::TalkTo { to, keep: false }.into())
        };
        // Flight is talked to; Command may not be talked to, Logistics is not heard.
        assert_eq!(asked(&KeyAction::NextNet, &own), talk_to("Flight/Alpha"));
        assert_eq!(asked(&KeyAction::PreviousNet, &own), talk_to("Ground"), "the last one");
        let volume = |net: &str, volume| {
            let change = NetChange { volume: Some(volume), ..NetChange::default() };
            Ok(Command::Net { net: net.to_owned(), change }.into())
        };
        assert_eq!(asked(&KeyAction::Louder { net: None }, &own), volume("Flight", 1.1));
        let mut soft = own.clone();
        soft.nets[2].volume = 0.05;
        let softer = KeyAction::Softer { net: Some("Flight/Alpha".to_owned()) };
        assert_eq!(asked(&softer, &soft), volume("Flight/Alpha", 0.0));
        let hear = |net: &str| KeyAction::Hear { net: net.to_owned() };
        let listen = Command::Listen { net: "Logistics".to_owned(), on: true, keep: false };
        assert_eq!(asked(&hear("Logistics"), &own), Ok(listen.into()));
        let unknown = asked(&hear("Medics"), &own).expect_err("unknown");
        assert_eq!(unknown, "there is no net Medics in Kestrel Guard");
        let load = |presets: &[&str]| {
            let presets = presets.iter().map(|it| (*it).to_owned()).collect();
            let own = Snapshot { presets, ..own.clone() };
            asked(&KeyAction::Preset { name: "Raid".to_owned() }, &own)
        };
        assert_eq!(load(&[]), Ok(preset("Raid", true)));
        assert_eq!(load(&["Raid"]), Ok(preset("Raid", false)));
    }

    #[test]
    fn organisations_come_to_the_front_in_turn() {
        let organisation = |name: &str, front| Organisation {
            snapshot: Arc::new(Snapshot {
                organisation: name.to_owned(),
                organisation_id: format!("id-{name}"),
                front,
                ..snapshot()
            }),
            air: Arc::default(),
            history: Arc::default(),
        };
        let organisations = vec![organisation("Meridian", false), organisation("Guard", true)];
        let scene = Scene { organisations, ..Scene::default() };
        let front = |name: Option<&str>| {
            let action = KeyAction::Front { organisation: name.map(str::to_owned) };
            let own = &scene.organisations[1].snapshot;
            order(&action, &scene, own, &PlateOrder::new()).map(|(id, _)| id)
        };
        assert_eq!(front(None), Ok("id-Meridian".to_owned()));
        assert_eq!(front(Some("Guard")), Ok("id-Guard".to_owned()));
        let gone = front(Some("Falconry")).expect_err("it does not run");
        assert_eq!(gone, "the organisation Falconry does not run");
    }
}
