//! Pads, sticks, and keyboards where a person lets us read them, from `/dev/input`.
//!
//! One thread waits for all devices with epoll, and for new ones with inotify. Nothing is ever
//! grabbed: the game keeps what it has. A device that vanishes ends nothing but itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use ::evdev::{PropType, raw_stream::RawDevice};
use rustix::{
    event::epoll,
    fs::{OFlags, inotify},
};

use super::{
    CONFIRM_INTERVAL, KeyInput, KeyListener, Watch,
    joint::Gate,
    lock_of,
    thread::{Thread, Wake, timespec},
};
use crate::button::{Button, DeviceName};

mod device;

use device::{Description, Device, Progress, Range, State};

/// Listens to devices of `/dev/input`.
pub(super) struct Evdev {
    gate: Arc<Gate>,
    limits: Limits,
    wake: Option<Arc<Wake>>,
    _thread: Option<Thread>,
}

type Limits = Arc<Mutex<Vec<String>>>;

/// Opens devices: the kernel's, or a test's.
trait Opener: Send {
    /// Opens a device. It must not block when it is read.
    fn open(&self, path: &Path) -> io::Result<Opened>;
}

/// A device that was just opened.
struct Opened {
    file: File,
    description: Description,
    probe: Box<dyn Probe>,
}

/// Asks the kernel what is down on a device.
trait Probe: Send {
    fn state(&self) -> io::Result<State>;
}

/// The devices of this machine.
struct Kernel;

impl Evdev {
    /// Starts to listen to pads and sticks, and to keyboards and mice if asked for.
    pub(super) fn start(gate: Arc<Gate>, keyboards: bool) -> Self {
        Self::start_with(gate, keyboards, DIRECTORY.into(), Box::new(Kernel))
    }

    fn start_with(
        gate: Arc<Gate>,
        keyboards: bool,
        directory: PathBuf,
        opener: Box<dyn Opener>,
    ) -> Self {
        let limits = Limits::default();
        let started = Wake::new().and_then(|wake| {
            let inner = Reader::new(gate.clone(), wake.clone(), keyboards, directory, opener)?;
            let (stopper, told_limits) = (wake.clone(), limits.clone());
            let thread = Thread::start(
                "hark-pads",
                move || stopper.stop(),
                move || inner.run(&told_limits),
            )?;
            Ok((wake, thread))
        });
        let (wake, thread) = match started {
            Ok((wake, thread)) => (Some(wake), Some(thread)),
            Err(error) => {
                *lock_of(&limits) = vec![format!("Pads and sticks cannot be read: {error}.")];
                (None, None)
            }
        };
        Self { gate, limits, wake, _thread: thread }
    }
}

impl KeyListener for Evdev {
    fn watch(&self, watch: Watch) {
        self.gate.watch(watch);
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    fn limits(&self) -> Vec<String> {
        lock_of(&self.limits).clone()
    }
}

impl Drop for Evdev {
    fn drop(&mut self) {
        self.gate.close();
    }
}

/// Whether this person may read a keyboard of `/dev/input`.
pub(super) fn keyboard_is_readable() -> bool {
    let readable = |path: PathBuf| {
        Kernel
            .open(&path)
            .is_ok_and(|opened| opened.description.is_keyboard() && !opened.description.is_pad())
    };
    event_files(Path::new(DIRECTORY)).into_iter().any(readable)
}

impl Opener for Kernel {
    fn open(&self, path: &Path) -> io::Result<Opened> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let raw = RawDevice::from_fd(OwnedFd::from(file.try_clone()?))?;
        let description = Description {
            vendor: raw.input_id().vendor(),
            product: raw.input_id().product(),
            name: raw.name().unwrap_or_default().into(),
            serial: raw.unique_name().unwrap_or_default().into(),
            keys: raw
                .supported_keys()
                .into_iter()
                .flat_map(|keys| keys.iter())
                .map(|k| k.0)
                .collect(),
            axes: raw
                .get_absinfo()?
                .map(|(axis, info)| {
                    (axis.0, Range { minimum: info.minimum(), maximum: info.maximum() })
                })
                .collect(),
            relative: raw.supported_relative_axes().is_some_and(|axes| axes.iter().count() > 0),
            accelerometer: raw.properties().contains(PropType::ACCELEROMETER),
        };
        Ok(Opened { file, description, probe: Box::new(raw) })
    }
}

impl Probe for RawDevice {
    fn state(&self) -> io::Result<State> {
        Ok(State {
            keys: self.get_key_state()?.iter().map(|key| key.0).collect(),
            axes: self.get_absinfo()?.map(|(axis, info)| (axis.0, info.value())).collect(),
        })
    }
}

/// What the thread owns.
struct Reader {
    gate: Arc<Gate>,
    wake: Arc<Wake>,
    keyboards: bool,
    directory: PathBuf,
    opener: Box<dyn Opener>,
    epoll: OwnedFd,
    inotify: OwnedFd,
    /// Whether the directory is watched, and not only what it would appear in.
    watching: bool,
    open: BTreeMap<u64, Open>,
    next_token: u64,
    /// Whether any device could not be opened for want of permission.
    refused: bool,
}

/// An open device with what belongs to it.
struct Open {
    path: PathBuf,
    file: File,
    device: Device,
    probe: Box<dyn Probe>,
    /// Its name without the count, and the count.
    name: (DeviceName, usize),
    is_keyboard: bool,
}

impl Reader {
    fn new(
        gate: Arc<Gate>,
        wake: Arc<Wake>,
        keyboards: bool,
        directory: PathBuf,
        opener: Box<dyn Opener>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&epoll, wake.as_fd(), epoll::EventData::new_u64(WAKE), readable)?;
        epoll::add(&epoll, &inotify, epoll::EventData::new_u64(NEW_DEVICE), readable)?;
        Ok(Self {
            gate,
            wake,
            keyboards,
            directory,
            opener,
            epoll,
            inotify,
            watching: false,
            open: BTreeMap::new(),
            next_token: FIRST_DEVICE,
            refused: false,
        })
    }

    fn run(mut self, limits: &Limits) {
        // The directory is watched before it is read: what appears in between is seen twice.
        self.watch_directory();
        for path in event_files(&self.directory) {
            self.open_device(&path);
        }
        *lock_of(limits) = self.limits();
        let mut confirm_at: Option<Instant> = None;
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        while !self.wake.is_stopped() {
            let now = Instant::now();
            if !self.gate.holds() {
                confirm_at = None;
            } else if confirm_at.is_none_or(|at| at <= now) {
                if confirm_at.is_some() {
                    self.confirm();
                }
                confirm_at = Some(now + CONFIRM_INTERVAL);
            }
            let timeout = confirm_at.map(|at| timespec(at.saturating_duration_since(now)));
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    *lock_of(limits) = vec![format!("Pads and sticks cannot be read: {error}.")];
                    break;
                }
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        self.wake.clear();
                        self.confirm();
                    }
                    NEW_DEVICE => {
                        self.handle_new_devices();
                        *lock_of(limits) = self.limits();
                    }
                    token => {
                        let before = self.open.len();
                        self.read(token);
                        if self.open.len() < before {
                            *lock_of(limits) = self.limits();
                        }
                    }
                }
            }
        }
        if !self.wake.is_stopped() {
            self.gate.tell(Instant::now(), KeyInput::AllUp);
        }
    }

    /// Watches the directory, or what it would appear in.
    fn watch_directory(&mut self) {
        // A device's file appears first and may be opened by us only a moment later (ATTRIB).
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::MOVED_TO;
        self.watching = inotify::add_watch(&self.inotify, &self.directory, flags).is_ok();
        if !self.watching
            && let Some(parent) = self.directory.parent()
            && let Err(error) = inotify::add_watch(&self.inotify, parent, flags)
        {
            tracing::debug!(%error, "new devices are not noticed");
        }
    }

    fn handle_new_devices(&mut self) {
        // Which files are new does not matter: there are few, and those that are open are known.
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        while reader.next().is_ok() {}
        if !self.watching {
            self.watch_directory();
        }
        self.refused = false;
        for path in event_files(&self.directory) {
            self.open_device(&path);
        }
    }

    fn open_device(&mut self, path: &Path) {
        if self.open.len() >= MOST_DEVICES || self.open.values().any(|open| open.path == path) {
            return;
        }
        let opened = match self.opener.open(path) {
            Ok(opened) => opened,
            Err(error) => {
                self.refused |= error.kind() == io::ErrorKind::PermissionDenied;
                return;
            }
        };
        let Opened { file, description, probe } = opened;
        let plain = description.device_name(1);
        let name = (plain.clone(), self.free_count(&plain));
        let state = probe.state().unwrap_or_default();
        let device_name = description.device_name(name.1);
        let device = Device::new(&description, device_name, self.keyboards, &state);
        if !device.is_of_use() {
            return;
        }
        let token = self.next_token;
        let data = epoll::EventData::new_u64(token);
        if let Err(error) = epoll::add(&self.epoll, &file, data, epoll::EventFlags::IN) {
            tracing::debug!(%error, "a device cannot be waited for");
            return;
        }
        self.next_token += 1;
        let is_keyboard = description.is_keyboard() && device.name().is_none();
        let path = path.to_owned();
        self.open.insert(token, Open { path, file, device, probe, name, is_keyboard });
    }

    /// The lowest count that no open device of the same name has.
    fn free_count(&self, name: &DeviceName) -> usize {
        let taken: BTreeSet<usize> = self
            .open
            .values()
            .filter(|open| open.name.0 == *name)
            .map(|open| open.name.1)
            .collect();
        (1..).find(|count| !taken.contains(count)).unwrap_or(1)
    }

    /// Reads a device until nothing is left.
    fn read(&mut self, token: u64) {
        let Some(mut open) = self.open.remove(&token) else { return };
        let at = Instant::now();
        let mut told = |input| self.tell(at, input);
        let ended = loop {
            match open.device.read(&mut &open.file, &mut told) {
                Ok(Progress::More) => {}
                Ok(Progress::Drained) => break false,
                Ok(Progress::Lost) => match open.probe.state() {
                    Ok(state) => open.device.resync(&state, &mut told),
                    Err(_) => break true,
                },
                Ok(Progress::Ended) | Err(_) => break true,
            }
        };
        if ended {
            self.end(open);
        } else {
            self.open.insert(token, open);
        }
    }

    /// Tells that a device is gone. It is not among the open ones any more.
    fn end(&self, open: Open) {
        let at = Instant::now();
        // What has ended for other reasons than unplugging must not wake the thread for ever.
        let _ = epoll::delete(&self.epoll, &open.file);
        for key in open.device.keys() {
            self.tell(at, KeyInput::Released(key));
        }
        if let Some(name) = open.device.name() {
            self.gate.tell(at, KeyInput::Gone(name.clone()));
        }
    }

    /// Tells what one device saw. A key is up when no other keyboard holds it.
    fn tell(&self, at: Instant, input: KeyInput) {
        if let KeyInput::Released(button @ (Button::Key(_) | Button::Mouse(_))) = &input
            && self.open.values().any(|open| open.device.keys().any(|held| held == *button))
        {
            return;
        }
        self.gate.tell(at, input);
    }

    /// Asks the kernel what is down and tells it.
    fn confirm(&mut self) {
        let tokens: Vec<u64> = self.open.keys().copied().collect();
        for token in tokens {
            // What is waiting comes first: asking for the state throws it away.
            self.read(token);
            let Some(mut open) = self.open.remove(&token) else { continue };
            let at = Instant::now();
            match open.probe.state() {
                Ok(state) => {
                    open.device.resync(&state, &mut |input| self.tell(at, input));
                    self.open.insert(token, open);
                }
                Err(_) => self.end(open),
            }
        }
        let mut down = BTreeSet::new();
        self.open.values().for_each(|open| open.device.down(&mut down));
        self.gate.tell(Instant::now(), KeyInput::Confirmed(down));
    }

    fn limits(&self) -> Vec<String> {
        if self.keyboards && !self.open.values().any(|open| open.is_keyboard) {
            let why = if self.refused {
                "this person is not in the group \"input\". Joining it lets every program of \
                 this person read all keys"
            } else {
                "there is none in /dev/input"
            };
            return vec![format!("No keyboard can be read while a game has it: {why}.")];
        }
        Vec::new()
    }
}

/// The event files of a directory, in the order of their numbers.
fn event_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("event")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

const DIRECTORY: &str = "/dev/input";

/// How many devices are open at most. Further ones are not listened to.
const MOST_DEVICES: usize = 64;

/// How many devices one wait tells of. The rest follow at once.
const EVENTS_AT_ONCE: usize = 16;

/// What epoll calls the wake, the notice of new devices, and the first device.
const WAKE: u64 = 0;
const NEW_DEVICE: u64 = 1;
const FIRST_DEVICE: u64 = 2;

#[cfg(test)]
mod tests;
