//! Keys and mouse buttons of an X server by XInput2's raw events.
//!
//! Raw events come whoever has the focus, and selecting them takes nothing from anybody: this
//! never grabs. A thread with a connection of its own waits for them.
//!
//! Each event comes twice, for the device and for the master that it is attached to; those of
//! masters are dropped. `HIERARCHY` can only be selected for all devices, masters included.

use std::{
    collections::BTreeSet,
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use x11rb::{
    connection::{Connection, RequestConnection, SequenceNumber},
    errors::{ConnectError, ReplyError},
    protocol::{
        Event,
        screensaver::{self, ConnectionExt as _},
        xinput::{
            self, ConnectionExt as _, Device, DeviceClassData, DeviceType, EventMask,
            KeyEventFlags, XIEventMask,
        },
        xproto::ConnectionExt as _,
    },
    rust_connection::RustConnection,
};

use super::{
    CONFIRM_INTERVAL, KeyInput, KeyListener, Watch,
    joint::Gate,
    linux_codes, lock_of,
    thread::{Thread, Wake},
};
use crate::button::Button;

/// Listens to an X server.
pub(super) struct X11 {
    gate: Arc<Gate>,
    wake: Option<Arc<Wake>>,
    /// Why nothing is heard at the moment.
    trouble: Trouble,
    /// Whether the server is XWayland, which knows only of keys that its own windows get.
    for_wayland: bool,
    _thread: Option<Thread>,
}

type Trouble = Arc<Mutex<Option<String>>>;

impl X11 {
    /// Starts to listen to the server of `display`, `None` for the one of the environment.
    pub(super) fn start(gate: Arc<Gate>, display: Option<String>, for_wayland: bool) -> Self {
        let trouble = Trouble::default();
        let started = Wake::new().and_then(|wake| {
            let (stopper, waiter) = (wake.clone(), wake.clone());
            let (gate, trouble) = (gate.clone(), trouble.clone());
            let body = move || run(display.as_deref(), &gate, &waiter, &trouble);
            Ok((wake, Thread::start("hark-keys", move || stopper.stop(), body)?))
        });
        let (wake, thread) = match started {
            Ok((wake, thread)) => (Some(wake), Some(thread)),
            Err(error) => {
                *lock_of(&trouble) =
                    Some(format!("Keys and mouse buttons are not heard: {error}."));
                (None, None)
            }
        };
        Self { gate, wake, trouble, for_wayland, _thread: thread }
    }
}

impl KeyListener for X11 {
    fn watch(&self, watch: Watch) {
        self.gate.watch(watch);
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    fn limits(&self) -> Vec<String> {
        let mut limits = Vec::from_iter(lock_of(&self.trouble).clone());
        if self.for_wayland {
            limits.push(
                "On Wayland, keys and mouse buttons are only seen while a program for X11 has \
                 the focus, as many games are."
                    .into(),
            );
        }
        limits
    }
}

impl Drop for X11 {
    fn drop(&mut self) {
        self.gate.close();
    }
}

/// Listens until asked to end, over as many connections as that takes.
fn run(display: Option<&str>, gate: &Gate, wake: &Wake, trouble: &Trouble) {
    let mut pause = SHORTEST_PAUSE;
    while !wake.is_stopped() {
        let (was_open, ended) = match Session::open(display) {
            Ok(mut session) => {
                pause = SHORTEST_PAUSE;
                *lock_of(trouble) = None;
                (true, session.serve(gate, wake))
            }
            Err(error) => (false, Err(error)),
        };
        let Err(error) = ended else { return };
        tracing::debug!(%error, "the X server is not heard");
        *lock_of(trouble) = Some(format!("Keys and mouse buttons are not heard: {error}."));
        if was_open {
            // What was down on the old connection cannot be known any more.
            gate.tell(Instant::now(), KeyInput::AllUp);
        }
        if !wake.pause(pause) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection with what was selected on it.
struct Session {
    connection: RustConnection,
    masters: BTreeSet<u16>,
}

/// Why a connection cannot be had or has ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the X server does not answer: {0}")]
    Connect(#[from] ConnectError),
    #[error("the X server is gone: {0}")]
    Connection(#[from] x11rb::errors::ConnectionError),
    #[error("the X server refuses: {0}")]
    Reply(#[from] ReplyError),
    #[error("the X server has no XInput 2.2")]
    NoXInput,
    #[error("waiting failed: {0}")]
    Wait(#[from] std::io::Error),
}

impl Session {
    fn open(display: Option<&str>) -> Result<Self, Error> {
        let (connection, _) = x11rb::connect(display)?;
        if connection.extension_information(xinput::X11_EXTENSION_NAME)?.is_none() {
            return Err(Error::NoXInput);
        }
        // Before 2.2 raw events stop while another program holds a grab.
        let version = connection.xinput_xi_query_version(2, 2)?.reply()?;
        if (version.major_version, version.minor_version) < (2, 2) {
            return Err(Error::NoXInput);
        }
        let has_saver =
            connection.extension_information(screensaver::X11_EXTENSION_NAME)?.is_some();
        for screen in &connection.setup().roots {
            let mask = XIEventMask::RAW_KEY_PRESS
                | XIEventMask::RAW_KEY_RELEASE
                | XIEventMask::RAW_BUTTON_PRESS
                | XIEventMask::RAW_BUTTON_RELEASE
                | XIEventMask::HIERARCHY;
            let masks = [EventMask { deviceid: Device::ALL.into(), mask: vec![mask] }];
            connection.xinput_xi_select_events(screen.root, &masks)?.check()?;
            if has_saver {
                let mask = screensaver::Event::NOTIFY_MASK;
                if let Err(error) = connection.screensaver_select_input(screen.root, mask)?.check()
                {
                    tracing::debug!(%error, "the X server does not tell of its saver");
                }
            }
        }
        let mut session = Self { connection, masters: BTreeSet::new() };
        session.find_masters()?;
        Ok(session)
    }

    /// Tells what happens until asked to end.
    fn serve(&mut self, gate: &Gate, wake: &Wake) -> Result<(), Error> {
        // What is down from the start is told once, for a capture to know it.
        self.confirm(gate)?;
        let mut confirm_at: Option<Instant> = None;
        loop {
            // Answers to questions may have left events behind, which no wait would tell of.
            while let Some(event) = self.connection.poll_for_event()? {
                self.handle(event, gate)?;
            }
            if wake.is_stopped() {
                return Ok(());
            }
            let now = Instant::now();
            if !gate.holds() {
                confirm_at = None;
            } else if confirm_at.is_none() {
                confirm_at = Some(now + CONFIRM_INTERVAL);
            }
            if wake.clear() || confirm_at.is_some_and(|at| at <= now) {
                self.confirm(gate)?;
                confirm_at = Some(Instant::now() + CONFIRM_INTERVAL);
                continue;
            }
            let timeout = confirm_at.map(|at| at.saturating_duration_since(now));
            wake.wait(Some(self.connection.stream().as_fd()), timeout)?;
        }
    }

    fn handle(&mut self, event: Event, gate: &Gate) -> Result<(), Error> {
        let at = Instant::now();
        let input = match event {
            Event::XinputRawKeyPress(event) if self.is_device(event.deviceid) => {
                if event.flags.contains(KeyEventFlags::KEY_REPEAT) {
                    return Ok(());
                }
                key(event.detail).map(KeyInput::Pressed)
            }
            Event::XinputRawKeyRelease(event) if self.is_device(event.deviceid) => {
                key(event.detail).map(KeyInput::Released)
            }
            Event::XinputRawButtonPress(event) if self.is_device(event.deviceid) => {
                linux_codes::x11_mouse(event.detail).map(KeyInput::Pressed)
            }
            Event::XinputRawButtonRelease(event) if self.is_device(event.deviceid) => {
                linux_codes::x11_mouse(event.detail).map(KeyInput::Released)
            }
            Event::XinputHierarchy(_) => {
                self.find_masters()?;
                None
            }
            Event::ScreensaverNotify(event) if event.state == screensaver::State::ON => {
                Some(KeyInput::AllUp)
            }
            _ => None,
        };
        if let Some(input) = input {
            gate.tell(at, input);
        }
        Ok(())
    }

    /// Asks the server what is down and tells it in the right place among the events.
    fn confirm(&mut self, gate: &Gate) -> Result<(), Error> {
        let keys = self.connection.query_keymap()?;
        let asked = keys.sequence_number();
        let devices = self.connection.xinput_xi_query_device(Device::ALL)?;
        let keys = keys.reply()?.keys;
        let devices = devices.reply()?.infos;
        let mut down: BTreeSet<Button> = bits(&keys).filter_map(key).collect();
        // The buttons of a master are numbered as the person has swapped them, and those of the
        // core protocol end at five. Devices say all of theirs, as raw events number them.
        for device in devices.iter().filter(|device| !is_master(device.type_)) {
            for class in &device.classes {
                if let DeviceClassData::Button(buttons) = &class.data {
                    let state: Vec<u8> =
                        buttons.state.iter().flat_map(|word| word.to_le_bytes()).collect();
                    down.extend(bits(&state).filter_map(linux_codes::x11_mouse));
                }
            }
        }
        self.handle_before(asked, gate, KeyInput::Confirmed(down))
    }

    /// Handles what happened before the server answered, then tells `input`, then goes on.
    ///
    /// A press that came after the answer must not be thought up because the answer lacks it.
    fn handle_before(
        &mut self,
        asked: SequenceNumber,
        gate: &Gate,
        input: KeyInput,
    ) -> Result<(), Error> {
        let at = Instant::now();
        while let Some((event, number)) = self.connection.poll_for_event_with_sequence()? {
            if number >= asked {
                gate.tell(at, input);
                return self.handle(event, gate);
            }
            self.handle(event, gate)?;
        }
        gate.tell(at, input);
        Ok(())
    }

    fn find_masters(&mut self) -> Result<(), Error> {
        let devices = self.connection.xinput_xi_query_device(Device::ALL)?.reply()?.infos;
        self.masters = devices
            .into_iter()
            .filter(|device| is_master(device.type_))
            .map(|device| device.deviceid)
            .collect();
        Ok(())
    }

    fn is_device(&self, id: u16) -> bool {
        !self.masters.contains(&id)
    }
}

fn is_master(kind: DeviceType) -> bool {
    kind == DeviceType::MASTER_KEYBOARD || kind == DeviceType::MASTER_POINTER
}

/// The key that X11 numbers so: eight higher than evdev.
fn key(number: u32) -> Option<Button> {
    let code = u16::try_from(number.checked_sub(8)?).ok()?;
    linux_codes::key(code).map(Button::Key)
}

/// The numbers of the bits that are set.
fn bits(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let numbered = (0_u32..).zip(bytes);
    numbered.flat_map(|(at, byte)| {
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit)
    })
}

/// How long to wait before a server that is gone is tried again, at first and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
