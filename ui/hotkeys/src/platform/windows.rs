//! Keys, mice, pads and sticks of Windows by Raw Input.
//!
//! Raw Input is read beside the chain of the game's own messages, also without the focus, and
//! nothing is taken from anybody. There are no hooks: anti-cheats ban them, and every key of the
//! machine would wait for us. Xbox pads tell their reports only to the focus, so they are asked
//! through XInput, and only while a watched button names one.
//!
//! A process has one window per kind of device, and the last one to register counts. The event
//! loop of a window toolkit registers for mouse and keyboard when it begins; each
//! [`KeyListener::watch`] registers anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use super::{
    CONFIRM_INTERVAL, KeyInput, KeyListener, Watch,
    joint::Gate,
    lock_of, pad,
    thread::Thread,
    windows_codes::{self, Prefix},
    windows_pads::{XboxPads, is_xbox},
};
use crate::button::{Button, DeviceName, Usage};

mod hid;
mod system;

use hid::HidPad;
use system::{Class, DeviceId, Message, Timer, Window};

/// Listens to Windows.
pub(super) struct Windows {
    gate: Arc<Gate>,
    trouble: Trouble,
    shared: Arc<Shared>,
    thread_id: Option<u32>,
    _thread: Option<Thread>,
}

type Trouble = Arc<Mutex<Option<String>>>;

/// What its owner asks of the thread. A wake says that it has changed.
#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    watch_changed: AtomicBool,
}

impl Windows {
    pub(super) fn start(gate: Arc<Gate>) -> Self {
        let (trouble, shared) = (Trouble::default(), Arc::new(Shared::default()));
        let (sender, receiver) = mpsc::sync_channel(1);
        let id = Arc::new(Mutex::new(None));
        let (stop_id, stop_shared) = (id.clone(), shared.clone());
        let stop = move || {
            stop_shared.stopped.store(true, Ordering::Release);
            if let Some(thread) = *lock_of(&stop_id) {
                system::wake(thread);
            }
        };
        let body = {
            let (gate, shared, trouble) = (gate.clone(), shared.clone(), trouble.clone());
            move || {
                let _ = sender.send(system::this_thread());
                match Window::new() {
                    Ok(window) => Reader::new(gate, shared, &trouble, window).run(),
                    Err(error) => say(&trouble, &error),
                }
            }
        };
        let thread = Thread::start("hark-keys", stop, body);
        if let Err(error) = &thread {
            say(&trouble, error);
        }
        // It sends before it does anything else, and if it cannot, it is gone.
        let thread_id = receiver.recv().ok();
        *lock_of(&id) = thread_id;
        Self { gate, trouble, shared, thread_id, _thread: thread.ok() }
    }
}

impl KeyListener for Windows {
    fn watch(&self, watch: Watch) {
        self.gate.watch(watch);
        self.shared.watch_changed.store(true, Ordering::Release);
        if let Some(thread) = self.thread_id {
            system::wake(thread);
        }
    }

    fn limits(&self) -> Vec<String> {
        let mut limits = Vec::from_iter(lock_of(&self.trouble).clone());
        if system::focus_is_elevated() {
            limits.push(
                "The program in front runs as administrator and Hark does not: keys are not seen \
                 while it has the focus."
                    .into(),
            );
        }
        limits
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.gate.close();
    }
}

fn say(trouble: &Trouble, error: &std::io::Error) {
    *lock_of(trouble) = Some(format!("Keys and mouse buttons are not heard: {error}."));
}

/// What the thread owns.
struct Reader<'a> {
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    trouble: &'a Trouble,
    window: Window,
    registered: BTreeSet<Class>,
    /// The keys that are down with their virtual codes. Their states are kept under those.
    keys: BTreeMap<Usage, u16>,
    mouse: BTreeSet<u8>,
    pads: BTreeMap<DeviceId, Open>,
    xbox: XboxPads,
    /// When places without an Xbox pad are looked at again: that takes long.
    look_for_xbox_at: Instant,
}

/// An open pad with the count that its name has.
struct Open {
    pad: HidPad,
    name: (DeviceName, usize),
}

impl<'a> Reader<'a> {
    fn new(gate: Arc<Gate>, shared: Arc<Shared>, trouble: &'a Trouble, window: Window) -> Self {
        Self {
            gate,
            shared,
            trouble,
            window,
            registered: BTreeSet::new(),
            keys: BTreeMap::new(),
            mouse: BTreeSet::new(),
            pads: BTreeMap::new(),
            xbox: XboxPads::new(),
            look_for_xbox_at: Instant::now(),
        }
    }

    fn run(mut self) {
        let mut confirm_at: Option<Instant> = None;
        let mut timer: Option<Timer> = None;
        while !self.shared.stopped.load(Ordering::Acquire) {
            while let Some(message) = self.window.next() {
                self.handle(message);
            }
            let watch_changed = self.shared.watch_changed.swap(false, Ordering::AcqRel);
            if watch_changed {
                self.register();
                let poll = self.gate.watches_any(is_xbox);
                timer = if poll { timer.or_else(|| Timer::new(XBOX_INTERVAL).ok()) } else { None };
            }
            if timer.is_some() {
                self.ask_xbox_pads();
            }
            let now = Instant::now();
            if !self.gate.holds() {
                confirm_at = None;
            } else if confirm_at.is_none() {
                confirm_at = Some(now + CONFIRM_INTERVAL);
            }
            if watch_changed || confirm_at.is_some_and(|at| at <= now) {
                self.confirm(watch_changed);
                confirm_at = self.gate.holds().then(|| now + CONFIRM_INTERVAL);
            }
            let timeout = confirm_at.map(|at| at.saturating_duration_since(now));
            system::wait(timer.as_ref(), timeout);
        }
        for class in std::mem::take(&mut self.registered) {
            let _ = self.window.register(class, false);
        }
    }

    /// Receives what is watched and nothing else: a fast mouse sends 8000 messages in a second.
    fn register(&mut self) {
        let key = self.gate.watches_any(|button| matches!(button, Button::Key(_)));
        let mouse = self.gate.watches_any(|button| matches!(button, Button::Mouse(_)));
        let pad = self.gate.watches_any(|button| {
            matches!(button, Button::Pad { .. } | Button::Hat { .. } | Button::Axis { .. })
                && !is_xbox(button)
        });
        let wanted = [
            (Class::Keyboard, key),
            (Class::Mouse, mouse),
            (Class::Joystick, pad),
            (Class::Gamepad, pad),
            (Class::MultiAxis, pad),
        ];
        let mut trouble = None;
        for (class, wanted) in wanted {
            if wanted {
                match self.window.register(class, true) {
                    Ok(()) => {
                        self.registered.insert(class);
                    }
                    Err(error) => trouble = Some(error),
                }
            } else if !self.gate.holds() && self.registered.remove(&class) {
                // While anything is held its release must still come.
                let _ = self.window.register(class, false);
            }
        }
        match trouble {
            Some(error) => say(self.trouble, &error),
            None => *lock_of(self.trouble) = None,
        }
        if pad {
            self.find_pads();
        } else if !self.registered.contains(&Class::Joystick) {
            self.pads.clear();
        }
    }

    fn handle(&mut self, message: Message) {
        let at = Instant::now();
        match message {
            Message::Key { make_code, flags, virtual_key } => {
                self.key(at, make_code, flags, virtual_key);
            }
            Message::Mouse { buttons } => self.mouse(at, buttons),
            Message::Reports { device, size, mut bytes } if size > 0 => {
                let gate = &self.gate;
                if let Some(open) = self.pads.get_mut(&device) {
                    for report in bytes.chunks_exact_mut(size) {
                        open.pad.take(report, &mut |input| gate.tell(at, input));
                    }
                }
            }
            Message::Arrived => self.find_pads(),
            Message::Removed(device) => {
                if let Some(open) = self.pads.remove(&device) {
                    self.gate.tell(at, KeyInput::Gone(open.pad.pad.pad.name().clone()));
                }
            }
            Message::Locked(locked) => {
                self.keys.clear();
                self.mouse.clear();
                self.gate.set_locked(at, locked);
            }
            Message::Reports { .. } | Message::Other => {}
        }
    }

    fn key(&mut self, at: Instant, make_code: u16, flags: u16, virtual_key: u16) {
        // Windows wraps some keys into others that nobody has pressed: those have no code.
        if make_code == OVERRUN || virtual_key == NO_KEY {
            return;
        }
        let (code, prefix) = if make_code == 0 {
            // Pressed by a program, which may leave the scan code out.
            let code = system::scan_code(virtual_key);
            (code & 0xff, if code >> 8 == 0xe0 { Prefix::E0 } else { Prefix::None })
        } else if flags & E1 != 0 {
            (make_code, Prefix::E1)
        } else {
            (make_code, if flags & E0 != 0 { Prefix::E0 } else { Prefix::None })
        };
        let Some(usage) = windows_codes::key(code, prefix) else { return };
        let button = Button::Key(usage);
        if flags & BREAK == 0 {
            self.keys.insert(usage, virtual_key);
            self.gate.tell(at, KeyInput::Pressed(button));
        } else {
            self.keys.remove(&usage);
            self.gate.tell(at, KeyInput::Released(button));
        }
    }

    fn mouse(&mut self, at: Instant, changes: u16) {
        for (place, button) in MOUSE_BUTTONS.into_iter().enumerate() {
            // Two bits for each button, down before up.
            if changes & (1 << (2 * place)) != 0 {
                self.mouse.insert(button);
                self.gate.tell(at, KeyInput::Pressed(Button::Mouse(button)));
            }
            if changes & (2 << (2 * place)) != 0 {
                self.mouse.remove(&button);
                self.gate.tell(at, KeyInput::Released(Button::Mouse(button)));
            }
        }
    }

    /// Opens pads that are not open yet.
    fn find_pads(&mut self) {
        let mut devices = system::pad_devices();
        // Of two equal ones the same is always the first.
        devices.sort_by(|a, b| a.path.cmp(&b.path));
        for device in devices {
            // Pads of XInput are in the list too, but report only to the focus.
            if device.path.to_ascii_uppercase().contains("IG_")
                || self.pads.contains_key(&device.id)
                || self.pads.len() >= MOST_PADS
            {
                continue;
            }
            let name = |count| {
                let words = [device.name.as_str(), device.serial.as_str()];
                pad::device_name(device.vendor, device.product, words, count)
            };
            let plain = name(1);
            let count = self.free_count(&plain);
            if let Some(pad) = HidPad::open(&device, name(count)) {
                self.pads.insert(device.id, Open { pad, name: (plain, count) });
            }
        }
    }

    /// The lowest count that no open pad of the same name has.
    fn free_count(&self, name: &DeviceName) -> usize {
        let taken: BTreeSet<usize> = self
            .pads
            .values()
            .filter(|open| open.name.0 == *name)
            .map(|open| open.name.1)
            .collect();
        (1..).find(|count| !taken.contains(count)).unwrap_or(1)
    }

    fn ask_xbox_pads(&mut self) {
        let now = Instant::now();
        let look = now >= self.look_for_xbox_at;
        if look {
            self.look_for_xbox_at = now + XBOX_SEARCH_INTERVAL;
        }
        for place in 0..4 {
            if look || self.xbox.has(place) {
                let report = system::xbox_pad(place as u32);
                let gate = &self.gate;
                self.xbox.take(place, report, &mut |input| gate.tell(now, input));
            }
        }
    }

    /// Asks Windows what is down and tells it. `all` also names what was down before it was
    /// watched.
    fn confirm(&mut self, all: bool) {
        let mut down = BTreeSet::new();
        let keypad_held = self.keys.keys().any(|usage| KEYPAD.contains(&usage.0));
        self.keys.retain(|usage, code| {
            // With Num Lock on, a key of the keypad lets Shift go for as long as it is held.
            let covered = keypad_held && matches!(usage.0, LEFT_SHIFT | RIGHT_SHIFT);
            covered || key_is_down(*usage, *code)
        });
        down.extend(self.keys.keys().map(|usage| Button::Key(*usage)));
        if all {
            for usage in (FIRST_KEY..=LAST_KEY).map(Usage) {
                if let Some((code, prefix)) = windows_codes::scan_code(usage) {
                    let prefix = match prefix {
                        Prefix::None => 0,
                        Prefix::E0 => 0xe000,
                        Prefix::E1 => 0xe100,
                    };
                    let code = system::virtual_key(code | prefix);
                    if code != 0 && key_is_down(usage, code) {
                        down.insert(Button::Key(usage));
                    }
                }
            }
        }
        for (button, code) in MOUSE_BUTTONS.into_iter().zip(MOUSE_CODES) {
            if (all || self.mouse.contains(&button)) && system::is_down(code) {
                down.insert(Button::Mouse(button));
            } else {
                self.mouse.remove(&button);
            }
        }
        // Pads say what is down with each report, and Windows keeps nothing else of them.
        self.pads.values().for_each(|open| open.pad.pad.pad.down(&mut down));
        self.xbox.down(&mut down);
        self.gate.tell(Instant::now(), KeyInput::Confirmed(down));
    }
}

/// Whether a key is down. Its virtual code is the one that Raw Input named: the one of the layout
/// of the program in front.
fn key_is_down(usage: Usage, code: u16) -> bool {
    match usage.0 {
        // Raw Input names both sides alike.
        LEFT_CONTROL..=RIGHT_META => {
            system::is_down(MODIFIER_CODES[usize::from(usage.0 - LEFT_CONTROL)])
        }
        // The keypad has other codes while Num Lock is on, which Raw Input does not name.
        KEYPAD_1..=KEYPAD_9 => system::is_down(code) || system::is_down(0x61 + usage.0 - KEYPAD_1),
        KEYPAD_0 => system::is_down(code) || system::is_down(0x60),
        KEYPAD_POINT => system::is_down(code) || system::is_down(0x6e),
        _ => system::is_down(code),
    }
}

/// How often Xbox pads are asked while one is watched: as late as a button may be seen.
const XBOX_INTERVAL: Duration = Duration::from_millis(10);

/// How often places without an Xbox pad are looked at.
const XBOX_SEARCH_INTERVAL: Duration = Duration::from_secs(2);

/// How many pads are open at most. Further ones are not listened to.
const MOST_PADS: usize = 32;

/// The mouse buttons in the order of Windows' bits: left, right, middle, and the side buttons.
const MOUSE_BUTTONS: [u8; 5] = [1, 3, 2, 4, 5];

/// Their virtual codes.
const MOUSE_CODES: [u16; 5] = [0x01, 0x02, 0x04, 0x05, 0x06];

/// The virtual codes of the modifiers in the order of their usages.
const MODIFIER_CODES: [u16; 8] = [0xa2, 0xa0, 0xa4, 0x5b, 0xa3, 0xa1, 0xa5, 0x5c];

/// Flags of a key: it went up, and what stood before its scan code.
const BREAK: u16 = 1;
const E0: u16 = 2;
const E1: u16 = 4;

/// A board that cannot tell which of too many keys are down, and a key that is none.
const OVERRUN: u16 = 0xff;
const NO_KEY: u16 = 0xff;

const FIRST_KEY: u16 = 0x04;
const LAST_KEY: u16 = 0xfb;
const KEYPAD_1: u16 = 0x59;
const KEYPAD_9: u16 = 0x61;
const KEYPAD_0: u16 = 0x62;
const KEYPAD_POINT: u16 = 0x63;
const KEYPAD: std::ops::RangeInclusive<u16> = KEYPAD_1..=KEYPAD_POINT;
const LEFT_CONTROL: u16 = 0xe0;
const LEFT_SHIFT: u16 = 0xe1;
const RIGHT_SHIFT: u16 = 0xe5;
const RIGHT_META: u16 = 0xe7;

#[cfg(test)]
mod tests;
