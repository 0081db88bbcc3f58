//! Reads the reports of pads and sticks of Windows. The caller gets them from the system.

use std::collections::BTreeSet;

use super::{
    KeyInput,
    pad::{Pad, Rests},
    windows_values as values,
};
use crate::button::{Button, DeviceName};

/// A pad or a stick with what is down on it. Its reports are those of the USB HID standard.
pub(super) struct HidPad {
    pub(super) pad: Pad,
    buttons: Vec<ButtonRange>,
    axes: Vec<Axis>,
    /// In the order in which the hats are counted.
    hats: Vec<Value>,
}

/// Buttons that are in the report of this number.
#[derive(Clone, Copy)]
pub(super) struct ButtonRange {
    pub(super) report: u8,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// An axis or a hat in reports.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) usage: u16,
    pub(super) minimum: i32,
    pub(super) maximum: i32,
    pub(super) bits: u16,
    pub(super) collection: u16,
}

/// One report, and how to read it.
pub(super) trait Report {
    /// The report's number, `None` if it is empty.
    fn number(&self) -> Option<u8>;

    /// The buttons that are down, `None` if the report is not about buttons.
    fn pressed<'a>(&mut self, into: &'a mut [u16; MOST_BUTTONS]) -> Option<&'a [u16]>;

    /// Where an axis or a hat stands, `None` if the report is not about it.
    fn value(&self, value: &Value) -> Option<u32>;
}

struct Axis {
    value: Value,
    number: u8,
    /// Whether its place is known. The first one says where it rests and is no press.
    seen: bool,
}

impl HidPad {
    /// A pad that has these buttons and values.
    pub(super) fn new(name: DeviceName, buttons: Vec<ButtonRange>, values: Vec<Value>) -> Self {
        let mut pad = Pad::new(name);
        let (mut axes, hats): (Vec<Value>, Vec<Value>) = values
            .into_iter()
            .filter(|value| (X..=HAT).contains(&value.usage))
            .partition(|value| value.usage != HAT);
        axes.sort_by_key(|value| value.usage);
        let axes: Vec<Axis> = (1..=u8::MAX)
            .zip(axes)
            .map(|(number, value)| Axis { value, number, seen: false })
            .collect();
        for axis in &axes {
            let (minimum, maximum) =
                values::ends(axis.value.minimum, axis.value.maximum, axis.value.bits);
            pad.add_axis(axis.number, minimum, maximum, Rests::Middle);
        }
        Self { pad, buttons, axes, hats }
    }

    /// Takes one report.
    pub(super) fn take(&mut self, mut report: impl Report, told: &mut dyn FnMut(KeyInput)) {
        let Some(number) = report.number() else { return };
        let here = |buttons: &&ButtonRange| buttons.report == number;
        let mut list = [0; MOST_BUTTONS];
        if let Some(pressed) = report.pressed(&mut list) {
            for range in self.buttons.iter().filter(here) {
                for button in (range.first..=range.last).take(MOST_BUTTONS) {
                    self.pad.button(button, pressed.contains(&button), told);
                }
            }
        }
        for axis in &mut self.axes {
            if let Some(raw) = report.value(&axis.value) {
                let value = values::number(raw, axis.value.minimum, axis.value.bits);
                if std::mem::replace(&mut axis.seen, true) {
                    self.pad.axis(axis.number, value, told);
                } else {
                    self.pad.axis(axis.number, value, &mut |_| {});
                }
            }
        }
        for (hat, number) in self.hats.iter().zip(1..=u8::MAX) {
            if let Some(raw) = report.value(hat) {
                let value = values::number(raw, hat.minimum, hat.bits);
                let (x, y) = values::hat_points(value, hat.minimum, hat.maximum);
                self.pad.hat(number, x, y, told);
            }
        }
    }
}

/// What an Xbox pad reports, in the numbers of XInput.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct XboxReport {
    pub(super) buttons: u16,
    /// Left and right, 0 at rest.
    pub(super) triggers: (u8, u8),
    /// To the right and up.
    pub(super) left: (i16, i16),
    /// To the right and up.
    pub(super) right: (i16, i16),
}

/// The pads of XInput, at most four.
pub(super) struct XboxPads {
    pads: [Option<Pad>; 4],
}

impl XboxPads {
    pub(super) const fn new() -> Self {
        Self { pads: [const { None }; 4] }
    }

    /// Takes what the pad at this place reports, `None` if there is none.
    pub(super) fn take(
        &mut self,
        place: usize,
        report: Option<XboxReport>,
        told: &mut dyn FnMut(KeyInput),
    ) {
        let Some(slot) = self.pads.get_mut(place) else { return };
        let Some(report) = report else {
            if let Some(pad) = slot.take() {
                told(KeyInput::Gone(pad.name().clone()));
            }
            return;
        };
        if let Some(pad) = slot {
            set(pad, &report, told);
            return;
        }
        // What is down from the start is no press.
        let mut pad = Pad::new(xbox_name(place));
        for axis in 1..=4 {
            pad.add_axis(axis, -32768, 32767, Rests::Middle);
        }
        for axis in 5..=6 {
            pad.add_axis(axis, 0, 255, Rests::Low);
        }
        set(&mut pad, &report, &mut |_| {});
        *slot = Some(pad);
    }

    /// Whether there was a pad at this place when it was last looked at.
    pub(super) fn has(&self, place: usize) -> bool {
        self.pads.get(place).is_some_and(Option::is_some)
    }

    pub(super) fn down(&self, into: &mut BTreeSet<Button>) {
        self.pads.iter().flatten().for_each(|pad| pad.down(into));
    }
}

/// Whether the button is of a pad of XInput.
pub(super) fn is_xbox(button: &Button) -> bool {
    match button {
        Button::Pad { device, .. } | Button::Hat { device, .. } | Button::Axis { device, .. } => {
            device.0.starts_with(XBOX)
        }
        Button::Key(_) | Button::Mouse(_) | Button::Portal(_) => false,
    }
}

fn xbox_name(place: usize) -> DeviceName {
    DeviceName(format!("{XBOX}{}", place + 1).into())
}

fn set(pad: &mut Pad, report: &XboxReport, told: &mut dyn FnMut(KeyInput)) {
    for (mask, button) in XBOX_BUTTONS {
        pad.button(button, report.buttons & mask != 0, told);
    }
    let held = |mask: u16| i32::from(report.buttons & mask != 0);
    let (x, y) = (held(8) - held(4), held(2) - held(1));
    pad.hat(1, x, y, told);
    // XInput counts up from below, all others down from above.
    let axes = [
        report.left.0.into(),
        -1 - i32::from(report.left.1),
        report.right.0.into(),
        -1 - i32::from(report.right.1),
        report.triggers.0.into(),
        report.triggers.1.into(),
    ];
    for (value, axis) in axes.into_iter().zip(1..) {
        pad.axis(axis, value, told);
    }
}

/// How the names of XInput's pads begin: it tells no better one.
const XBOX: &str = "Xbox pad ";

/// XInput's bits with the numbers of the same buttons on other systems: A, B, X, Y, the shoulder
/// buttons, Back, Start, and the two sticks pressed.
const XBOX_BUTTONS: [(u16, u16); 10] = [
    (0x1000, 1),
    (0x2000, 2),
    (0x4000, 3),
    (0x8000, 4),
    (0x0100, 5),
    (0x0200, 6),
    (0x0020, 7),
    (0x0010, 8),
    (0x0040, 9),
    (0x0080, 10),
];

/// The usages of the first axis and of hats; the other axes lie between.
const X: u16 = 0x30;
const HAT: u16 = 0x39;

/// How many buttons of a device are looked at.
pub(super) const MOST_BUTTONS: usize = 256;

#[cfg(test)]
mod tests;
