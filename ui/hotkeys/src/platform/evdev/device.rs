//! Turns the events of one device into what is down. Takes bytes, opens nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use super::super::{
    KeyInput, linux_codes,
    pad::{self, Pad, Rests},
};
use crate::button::{Button, DeviceName};

/// What the kernel says of a device when it is opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Description {
    pub(super) vendor: u16,
    pub(super) product: u16,
    pub(super) name: String,
    pub(super) serial: String,
    /// The codes of its keys and buttons.
    pub(super) keys: BTreeSet<u16>,
    /// Its axes and hats with where they end.
    pub(super) axes: BTreeMap<u16, Range>,
    /// Whether it moves a pointer.
    pub(super) relative: bool,
    /// Whether it only measures how it is held, as the second device of many pads does.
    pub(super) accelerometer: bool,
}

/// The ends of an axis.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub(super) minimum: i32,
    pub(super) maximum: i32,
}

/// What is down now, and where the axes stand.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) keys: BTreeSet<u16>,
    pub(super) axes: BTreeMap<u16, i32>,
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All that was there is handled.
    Drained,
    /// There may be more.
    More,
    /// The kernel has thrown events away: ask it for the state and call [`Device::resync`].
    Lost,
    /// The device is gone.
    Ended,
}

/// An open device.
pub(super) struct Device {
    pad: Option<Pad>,
    /// The number of a pad's button by its code.
    buttons: BTreeMap<u16, u16>,
    /// The number of a pad's axis by its code.
    axes: BTreeMap<u16, u8>,
    keyboard: bool,
    /// The keys and mouse buttons that are down.
    keys: BTreeSet<u16>,
    /// The start of an event whose rest was not there yet.
    rest: Vec<u8>,
    /// Whether events are passed over up to the end of their packet.
    losing: bool,
}

impl Description {
    /// Whether it is a pad or a stick, or pedals, or a throttle.
    pub(super) fn is_pad(&self) -> bool {
        if self.accelerometer {
            return false;
        }
        let has = |codes: &[(u16, u16)]| {
            let within = |key: &u16| codes.iter().any(|(from, to)| (*from..=*to).contains(key));
            self.keys.iter().any(within)
        };
        if has(STICK_BUTTONS) {
            return true;
        }
        // Pedals have axes alone. So has a board of sensors, but that says what it is.
        let only_axes = self.keys.is_empty() && !self.relative;
        only_axes && self.axes.keys().any(|code| *code < ABS_HAT0X)
    }

    /// Whether it is a keyboard or a mouse, or both.
    pub(super) fn is_keyboard(&self) -> bool {
        self.keys.iter().any(|code| key_or_mouse(*code).is_some())
    }

    /// What it is called, so that it is known again. `equals` counts those of the same name.
    pub(super) fn device_name(&self, equals: usize) -> DeviceName {
        pad::device_name(self.vendor, self.product, [&self.name, &self.serial], equals)
    }
}

impl Device {
    /// A device as it stands. What is down already is known but never told as a press.
    pub(super) fn new(
        description: &Description,
        name: DeviceName,
        keyboard: bool,
        state: &State,
    ) -> Self {
        let mut device = Self {
            pad: description.is_pad().then(|| Pad::new(name)),
            buttons: BTreeMap::new(),
            axes: BTreeMap::new(),
            keyboard: keyboard && description.is_keyboard(),
            keys: BTreeSet::new(),
            rest: Vec::new(),
            losing: false,
        };
        if let Some(pad) = &mut device.pad {
            // As the kernel's joystick driver numbers them: those of sticks and pads come first.
            let (first, last): (Vec<u16>, Vec<u16>) = description
                .keys
                .iter()
                .filter(|code| **code >= BTN_MISC && key_or_mouse(**code).is_none())
                .partition(|code| **code >= BTN_JOYSTICK);
            device.buttons = first.into_iter().chain(last).zip(1..).collect();
            let axes = description.axes.iter().filter(|(code, _)| is_axis(**code));
            for ((code, range), number) in axes.zip(1..=u8::MAX) {
                let rest = state.axes.get(code).copied().unwrap_or_default();
                let rests = rests(*code, *range, rest);
                pad.add_axis(number, range.minimum, range.maximum, rests);
                device.axes.insert(*code, number);
            }
        }
        device.resync(state, &mut |_| {});
        device
    }

    /// Reads what is there and tells what it changes. Blocks as `source` does.
    pub(super) fn read(
        &mut self,
        source: &mut dyn Read,
        told: &mut dyn FnMut(KeyInput),
    ) -> io::Result<Progress> {
        let mut buffer = [0; EVENT_SIZE * EVENTS_AT_ONCE];
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok(Progress::Ended),
            Ok(read) => read.min(buffer.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Progress::Drained);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Progress::More),
            Err(error) => return Err(error),
        };
        Ok(self.take(&buffer[..read], told))
    }

    /// Takes bytes as the kernel gave them, cut anywhere.
    fn take(&mut self, mut bytes: &[u8], told: &mut dyn FnMut(KeyInput)) -> Progress {
        let mut lost = false;
        if !self.rest.is_empty() {
            let missing = (EVENT_SIZE - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.rest.len() == EVENT_SIZE {
                let whole = std::mem::take(&mut self.rest);
                lost |= self.event(&whole, told);
            }
        }
        let mut events = bytes.chunks_exact(EVENT_SIZE);
        for event in &mut events {
            lost |= self.event(event, told);
        }
        self.rest.extend_from_slice(events.remainder());
        if lost { Progress::Lost } else { Progress::More }
    }

    /// Handles one `input_event`. Whether the state must be asked for now.
    fn event(&mut self, event: &[u8], told: &mut dyn FnMut(KeyInput)) -> bool {
        let Some(event) = event.get(TIME_SIZE..EVENT_SIZE) else { return false };
        let kind = u16::from_ne_bytes([event[0], event[1]]);
        let code = u16::from_ne_bytes([event[2], event[3]]);
        let value = i32::from_ne_bytes([event[4], event[5], event[6], event[7]]);
        match (kind, code) {
            (EV_SYN, SYN_DROPPED) => self.losing = true,
            // The packet that was cut short ends here; what follows is whole again.
            (EV_SYN, SYN_REPORT) => return std::mem::take(&mut self.losing),
            _ if self.losing => {}
            // 2 is a repeat.
            (EV_KEY, code) if value == 0 || value == 1 => self.key(code, value == 1, told),
            (EV_ABS, code) => self.absolute(code, value, told),
            _ => {}
        }
        false
    }

    /// Tells what differs from what the kernel says is so now.
    pub(super) fn resync(&mut self, state: &State, told: &mut dyn FnMut(KeyInput)) {
        self.losing = false;
        let known: Vec<u16> = self.keys.iter().chain(self.buttons.keys()).copied().collect();
        for code in known.into_iter().filter(|code| !state.keys.contains(code)) {
            self.key(code, false, told);
        }
        for code in &state.keys {
            self.key(*code, true, told);
        }
        for (code, value) in &state.axes {
            self.absolute(*code, *value, told);
        }
    }

    /// Adds all that is down.
    pub(super) fn down(&self, into: &mut BTreeSet<Button>) {
        into.extend(self.keys());
        if let Some(pad) = &self.pad {
            pad.down(into);
        }
    }

    /// The keys and mouse buttons that are down: other devices may have the same.
    pub(super) fn keys(&self) -> impl Iterator<Item = Button> + '_ {
        self.keys.iter().filter_map(|code| key_or_mouse(*code))
    }

    /// Its name, if it is a pad or a stick.
    pub(super) fn name(&self) -> Option<&DeviceName> {
        self.pad.as_ref().map(Pad::name)
    }

    /// Whether it tells anything at all.
    pub(super) fn is_of_use(&self) -> bool {
        self.pad.is_some() || self.keyboard
    }

    fn key(&mut self, code: u16, down: bool, told: &mut dyn FnMut(KeyInput)) {
        if let (Some(number), Some(pad)) = (self.buttons.get(&code), &mut self.pad) {
            pad.button(*number, down, told);
            return;
        }
        if !self.keyboard {
            return;
        }
        let Some(button) = key_or_mouse(code) else { return };
        let changed = if down { self.keys.insert(code) } else { self.keys.remove(&code) };
        if changed {
            told(if down { KeyInput::Pressed(button) } else { KeyInput::Released(button) });
        }
    }

    fn absolute(&mut self, code: u16, value: i32, told: &mut dyn FnMut(KeyInput)) {
        let Some(pad) = &mut self.pad else { return };
        if let Some(number) = self.axes.get(&code) {
            pad.axis(*number, value, told);
        } else if let Some(place @ 0..8) = code.checked_sub(ABS_HAT0X) {
            let hat = place as u8 / 2 + 1;
            if place % 2 == 0 {
                pad.hat_x(hat, value, told);
            } else {
                pad.hat_y(hat, value, told);
            }
        }
    }
}

/// The key or mouse button with this code.
fn key_or_mouse(code: u16) -> Option<Button> {
    linux_codes::key(code).map(Button::Key).or_else(|| linux_codes::mouse(code))
}

/// Whether the code is an axis: no hat and no finger on a pad's touch plate.
fn is_axis(code: u16) -> bool {
    code < ABS_HAT0X || (ABS_PRESSURE..ABS_MT_SLOT).contains(&code)
}

/// Where an axis rests: a pad's triggers lie at their lower end when they are let go. Old pads
/// have their second stick on the same codes, and that stands in the middle.
fn rests(code: u16, range: Range, at_rest: i32) -> Rests {
    let width = i64::from(range.maximum) - i64::from(range.minimum);
    let place = i64::from(at_rest) - i64::from(range.minimum);
    let trigger = matches!(code, ABS_Z | ABS_RZ | ABS_GAS | ABS_BRAKE);
    if trigger && place * 10 <= width { Rests::Low } else { Rests::Middle }
}

/// The size of the two numbers of a time in an `input_event`: as wide as a `long` each.
const TIME_SIZE: usize = 2 * size_of::<usize>();

/// The size of an `input_event`: its time, type, code and value.
pub(super) const EVENT_SIZE: usize = TIME_SIZE + 8;

/// How many events are read at once. Fewer cost more calls for a fast mouse.
const EVENTS_AT_ONCE: usize = 64;

/// The first and last codes of what only pads, sticks, wheels and button boxes have.
const STICK_BUTTONS: &[(u16, u16)] = &[(BTN_JOYSTICK, 0x13f), (0x150, 0x15f), (0x2c0, 0x2ff)];

const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const EV_ABS: u16 = 3;
const SYN_REPORT: u16 = 0;
const SYN_DROPPED: u16 = 3;
const BTN_MISC: u16 = 0x100;
const BTN_JOYSTICK: u16 = 0x120;
const ABS_Z: u16 = 0x02;
const ABS_RZ: u16 = 0x05;
const ABS_GAS: u16 = 0x09;
const ABS_BRAKE: u16 = 0x0a;
const ABS_HAT0X: u16 = 0x10;
const ABS_PRESSURE: u16 = 0x18;
const ABS_MT_SLOT: u16 = 0x2f;

#[cfg(test)]
mod tests;
