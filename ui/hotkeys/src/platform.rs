//! What each operating system tells of keys, and the thread that reads it.
//!
//! A listener drops every button that nobody asked for before it leaves its thread, except while
//! a new binding is being chosen.
//!
//! ```text
//! x11, evdev, portal, windows ── Gate (what is watched) ──> Joint (one picture) ──> Sink
//! ```
//!
//! [`listen`] opens what this system has. Two listeners may see the same key; what leaves here is
//! one press and one release.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::button::{Button, DeviceName};

#[cfg(target_os = "linux")]
mod evdev;
mod joint;
#[cfg(any(target_os = "linux", windows, test))]
mod linux_codes;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(any(target_os = "linux", windows, test))]
mod pad;
#[cfg(target_os = "linux")]
mod portal;
#[cfg(all(test, target_os = "linux"))]
mod test_bus;
#[cfg(any(target_os = "linux", windows))]
mod thread;
#[cfg(windows)]
mod windows;
#[cfg(any(windows, test))]
mod windows_codes;
#[cfg(any(windows, test))]
mod windows_pads;
#[cfg(any(windows, test))]
mod windows_values;
#[cfg(target_os = "linux")]
mod x11;

use joint::Joint;

/// What a listener tells.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyInput {
    /// The button went down.
    Pressed(Button),
    /// The button went up.
    Released(Button),
    /// The device was unplugged: all its buttons are up.
    Gone(DeviceName),
    /// Everything is up: the session was locked, or the listener has begun anew.
    AllUp,
    /// Those buttons of the watched ones that the system says are down now, and the desktop's
    /// shortcuts whose release was not told yet. Any other that was thought to be down is up.
    ///
    /// It is told while a watched button is held, and once after [`KeyListener::watch`]. It may name
    /// a button whose press was never told, such as a switch that was down before: that is not a
    /// press.
    Confirmed(BTreeSet<Button>),
}

/// Which buttons a listener passes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Watch {
    /// The buttons that bindings name.
    Named(BTreeSet<Button>),
    /// Every button, while a person chooses a binding.
    #[default]
    Everything,
}

/// A thread that reads buttons. Dropping it ends the thread.
pub trait KeyListener: Send {
    /// Sets which buttons are passed on from now on.
    ///
    /// The release of a button that was passed on before follows even if it is no longer watched.
    fn watch(&self, watch: Watch);

    /// What this listener cannot see and why, in words for a person. Empty if it sees everything.
    fn limits(&self) -> Vec<String>;

    /// Whether [`KeyInput::Confirmed`] is the system's own word on this button.
    ///
    /// A desktop's portal never says what is down now: only a longest hold ends a shortcut whose
    /// release was lost.
    fn confirms(&self, button: &Button) -> bool {
        !matches!(button, Button::Portal(_))
    }
}

/// Takes what listeners tell, with the time at which it happened. Called on their threads, one
/// call at a time. It must return soon and must not drop the listeners.
pub type Sink = Arc<dyn Fn(Instant, KeyInput) + Send + Sync>;

/// What to open besides what every system gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenOptions {
    /// Whether keyboards and mice are read from `/dev/input` on Wayland, where this person may
    /// read them. Then every program of that person can read all keys: it is theirs to choose.
    pub keyboards: bool,
    /// The shortcuts to offer to the desktop on Wayland. More may follow with
    /// [`Listeners::offer`].
    pub shortcuts: Vec<Shortcut>,
}

/// A shortcut for the desktop's portal to keep. The person chooses its keys in the desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// The name by which [`Button::Portal`] tells of it.
    pub id: Arc<str>,
    /// What it does, in words for a person.
    pub description: String,
    /// The keys that we would like, such as `CTRL+F9`, in the words of the "shortcuts" XDG
    /// specification. The desktop may give others.
    pub preferred_trigger: Option<String>,
}

/// All listeners of this system. Dropping it ends their threads.
pub struct Listeners {
    listeners: Vec<Box<dyn KeyListener>>,
    #[cfg(target_os = "linux")]
    portal: Option<Arc<portal::Offer>>,
    #[cfg(target_os = "linux")]
    _lock: lock::Lock,
}

/// Opens what this system has.
///
/// - X11: pads by evdev, then keys and mouse buttons by XInput2.
/// - Wayland: pads by evdev, the desktop's portal, keyboards by evdev if `options` asks for them
///   and they can be read, else keys that XWayland sees as a last resort.
/// - Windows: Raw Input and XInput. There, call this after the window's event loop has begun:
///   only the last window of a process that registers for Raw Input receives it.
///
/// At first nothing is passed on: call [`KeyListener::watch`].
pub fn listen(sink: Sink, options: ListenOptions) -> Listeners {
    let joint = Joint::new(sink);
    #[cfg(target_os = "linux")]
    {
        listen_on_linux(&joint, options)
    }
    #[cfg(windows)]
    {
        let _ = options;
        Listeners { listeners: vec![Box::new(windows::Windows::start(joint.gate()))] }
    }
    #[cfg(not(any(target_os = "linux", windows)))]
    {
        let _ = (joint, options);
        Listeners { listeners: Vec::new() }
    }
}

#[cfg(target_os = "linux")]
fn listen_on_linux(joint: &Arc<Joint>, options: ListenOptions) -> Listeners {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let wayland = set("WAYLAND_DISPLAY");
    let keyboards = wayland && options.keyboards;
    let pads = evdev::Evdev::start(joint.gate(), keyboards);
    let sees_keyboards = keyboards && evdev::keyboard_is_readable();
    let mut listeners: Vec<Box<dyn KeyListener>> = vec![Box::new(pads)];
    let mut offer = None;
    if wayland {
        let portal = portal::Portal::start(joint.gate(), options.shortcuts);
        offer = Some(portal.offer());
        listeners.push(Box::new(portal));
    }
    if set("DISPLAY") && !sees_keyboards {
        listeners.push(Box::new(x11::X11::start(joint.gate(), None, wayland)));
    }
    Listeners { listeners, portal: offer, _lock: lock::Lock::start(joint) }
}

impl Listeners {
    /// Sets the shortcuts that the desktop's portal is asked to keep. Nothing happens where there
    /// is no portal.
    pub fn offer(&self, shortcuts: Vec<Shortcut>) {
        #[cfg(target_os = "linux")]
        if let Some(portal) = &self.portal {
            portal.set(shortcuts);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = shortcuts;
    }
}

impl KeyListener for Listeners {
    fn watch(&self, watch: Watch) {
        for listener in &self.listeners {
            listener.watch(watch.clone());
        }
    }

    fn limits(&self) -> Vec<String> {
        if self.listeners.is_empty() {
            return vec!["Hark cannot see keys on this system.".into()];
        }
        self.listeners.iter().flat_map(|listener| listener.limits()).collect()
    }
}

/// The lock, also after a panic elsewhere: what it guards stays valid between any two lines.
fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often the system is asked what is down, while anything is.
///
/// Lower ends a stuck key sooner and costs two questions to the system each time.
#[cfg(any(target_os = "linux", windows))]
const CONFIRM_INTERVAL: Duration = Duration::from_millis(250);
