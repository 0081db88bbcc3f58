//! What is down on a pad or a stick, kept from what it reports.
//!
//! Numbers start at 1, as players know them. Nothing here reads a device.

use std::collections::{BTreeMap, BTreeSet};

use super::KeyInput;
use crate::button::{Button, DeviceName, HatDirection};

/// A pad or a stick with what is down on it.
pub(super) struct Pad {
    name: DeviceName,
    buttons: BTreeSet<u16>,
    hats: BTreeMap<u8, Hat>,
    axes: BTreeMap<u8, Axis>,
}

/// Where a hat points: each number is below, at or above zero, right and down being above.
#[derive(Clone, Copy, Default)]
struct Hat {
    x: i32,
    y: i32,
}

/// An axis with what its ends count as.
struct Axis {
    minimum: i32,
    maximum: i32,
    rests: Rests,
    lower: bool,
    upper: bool,
}

/// Where an axis stands when nobody touches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rests {
    /// At its lower end, as a trigger does. Only its upper end counts.
    Low,
    /// In the middle or anywhere, as a stick or a throttle does.
    Middle,
}

impl Pad {
    pub(super) fn new(name: DeviceName) -> Self {
        Self { name, buttons: BTreeSet::new(), hats: BTreeMap::new(), axes: BTreeMap::new() }
    }

    /// Adds an axis. Its ends count once it has told a value.
    pub(super) fn add_axis(&mut self, axis: u8, minimum: i32, maximum: i32, rests: Rests) {
        self.axes.insert(axis, Axis { minimum, maximum, rests, lower: false, upper: false });
    }

    /// The button is up or down now.
    pub(super) fn button(&mut self, button: u16, down: bool, told: &mut dyn FnMut(KeyInput)) {
        let changed = if down { self.buttons.insert(button) } else { self.buttons.remove(&button) };
        if changed {
            told(change(Button::Pad { device: self.name.clone(), button }, down));
        }
    }

    /// The hat points there now, seen from left to right.
    #[cfg(target_os = "linux")]
    pub(super) fn hat_x(&mut self, hat: u8, x: i32, told: &mut dyn FnMut(KeyInput)) {
        let y = self.hats.get(&hat).copied().unwrap_or_default().y;
        self.hat(hat, x, y, told);
    }

    /// The hat points there now, seen from the far end to the near one.
    #[cfg(target_os = "linux")]
    pub(super) fn hat_y(&mut self, hat: u8, y: i32, told: &mut dyn FnMut(KeyInput)) {
        let x = self.hats.get(&hat).copied().unwrap_or_default().x;
        self.hat(hat, x, y, told);
    }

    /// The hat points there now.
    pub(super) fn hat(&mut self, hat: u8, x: i32, y: i32, told: &mut dyn FnMut(KeyInput)) {
        let before = self.hats.insert(hat, Hat { x, y }).unwrap_or_default();
        // What goes up is told first: a turn through a diagonal holds at most two.
        for down in [false, true] {
            for direction in DIRECTIONS {
                let now = Hat { x, y }.points(direction);
                if now == down && before.points(direction) != now {
                    told(change(self.hat_button(hat, direction), down));
                }
            }
        }
    }

    /// The axis stands there now.
    pub(super) fn axis(&mut self, axis: u8, value: i32, told: &mut dyn FnMut(KeyInput)) {
        let Some(state) = self.axes.get_mut(&axis) else { return };
        let before = (state.lower, state.upper);
        state.set(value);
        let now = (state.lower, state.upper);
        for (upper, before, now) in [(false, before.0, now.0), (true, before.1, now.1)] {
            if before != now {
                told(change(Button::Axis { device: self.name.clone(), axis, upper }, now));
            }
        }
    }

    pub(super) fn name(&self) -> &DeviceName {
        &self.name
    }

    /// All that is down.
    pub(super) fn down(&self, into: &mut BTreeSet<Button>) {
        let device = || self.name.clone();
        into.extend(self.buttons.iter().map(|b| Button::Pad { device: device(), button: *b }));
        for (number, hat) in &self.hats {
            let held = DIRECTIONS.into_iter().filter(|direction| hat.points(*direction));
            into.extend(held.map(|direction| self.hat_button(*number, direction)));
        }
        for (number, axis) in &self.axes {
            let ends = [(axis.lower, false), (axis.upper, true)];
            let held = ends.into_iter().filter(|(down, _)| *down);
            into.extend(held.map(|(_, upper)| Button::Axis {
                device: device(),
                axis: *number,
                upper,
            }));
        }
    }

    fn hat_button(&self, hat: u8, direction: HatDirection) -> Button {
        Button::Hat { device: self.name.clone(), hat, direction }
    }
}

impl Hat {
    fn points(self, direction: HatDirection) -> bool {
        match direction {
            HatDirection::Up => self.y < 0,
            HatDirection::Right => self.x > 0,
            HatDirection::Down => self.y > 0,
            HatDirection::Left => self.x < 0,
        }
    }
}

impl Axis {
    fn set(&mut self, value: i32) {
        let width = i64::from(self.maximum) - i64::from(self.minimum);
        if width <= 0 {
            return;
        }
        let place = (i64::from(value) - i64::from(self.minimum)) * 1000 / width;
        let (on, off) = match self.rests {
            Rests::Low => TRIGGER_ON_AND_OFF,
            Rests::Middle => STICK_ON_AND_OFF,
        };
        self.upper = place >= if self.upper { off } else { on };
        self.lower =
            self.rests == Rests::Middle && place <= 1000 - if self.lower { off } else { on };
    }
}

/// What a device is called, so that it is known again: its numbers, its name and its serial number
/// if it has one, and the count among equal ones from the second on.
pub(super) fn device_name(
    vendor: u16,
    product: u16,
    name_and_serial: [&str; 2],
    equals: usize,
) -> DeviceName {
    let mut text = format!("{vendor:04x}:{product:04x}");
    for part in name_and_serial.map(cleaned).iter().filter(|part| !part.is_empty()) {
        text.push(' ');
        text.push_str(part);
    }
    if equals > 1 {
        text.push_str(&format!(" #{equals}"));
    }
    DeviceName(text.into())
}

/// A name as its device gives it, without what would break a line or a bracket of ours.
fn cleaned(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        '(' => '[',
        ')' => ']',
        c if c.is_control() || c.is_whitespace() => ' ',
        c => c,
    });
    let plain: String = plain.take(LONGEST_NAME).collect();
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn change(button: Button, down: bool) -> KeyInput {
    if down { KeyInput::Pressed(button) } else { KeyInput::Released(button) }
}

/// How many characters of a device's name or serial number count.
const LONGEST_NAME: usize = 60;

const DIRECTIONS: [HatDirection; 4] =
    [HatDirection::Up, HatDirection::Right, HatDirection::Down, HatDirection::Left];

/// Where a stick's axis counts as pushed and as let go, in thousandths from its lower end: half
/// of its way from the middle. The gap keeps a trembling hand from chattering.
const STICK_ON_AND_OFF: (i64, i64) = (750, 650);

/// The same for a trigger: half of its way from its rest.
const TRIGGER_ON_AND_OFF: (i64, i64) = (500, 400);

#[cfg(test)]
mod tests {
    use super::*;

    fn pad() -> Pad {
        Pad::new(DeviceName("231d:0200 Gladiator".into()))
    }

    fn axis(pad: &mut Pad, values: &[i32]) -> Vec<(bool, bool)> {
        let mut seen = Vec::new();
        for value in values {
            pad.axis(1, *value, &mut |input| match input {
                KeyInput::Pressed(Button::Axis { upper, .. }) => seen.push((upper, true)),
                KeyInput::Released(Button::Axis { upper, .. }) => seen.push((upper, false)),
                other => panic!("{other:?}"),
            });
        }
        seen
    }

    #[test]
    fn a_stick_counts_at_half_of_its_way_and_does_not_chatter() {
        let mut pad = pad();
        pad.add_axis(1, -32768, 32767, Rests::Middle);
        let seen = axis(&mut pad, &[0, 16000, 16500, 16300, 10000, 16500, 0, -20000, 0]);
        assert_eq!(seen, [(true, true), (true, false), (false, true), (false, false)]);
        let seen = axis(&mut pad, &[i32::MAX, i32::MIN, 0]);
        assert_eq!(seen, [(true, true), (false, true), (true, false), (false, false)]);
    }

    #[test]
    fn a_trigger_counts_at_half_of_its_way_and_has_one_end() {
        let mut pad = pad();
        pad.add_axis(1, 0, 255, Rests::Low);
        assert_eq!(axis(&mut pad, &[0, 127, 128, 110, 90, 0]), [(true, true), (true, false)]);
    }

    #[test]
    fn an_axis_without_a_width_tells_nothing() {
        let mut pad = pad();
        pad.add_axis(1, 7, 7, Rests::Middle);
        assert_eq!(axis(&mut pad, &[7, 0, i32::MAX, i32::MIN]), []);
        pad.axis(9, 0, &mut |_| panic!("there is no such axis"));
    }

    #[test]
    fn a_hat_that_turns_through_a_corner_holds_two_directions() {
        let mut pad = pad();
        let count = |pad: &mut Pad, x, y| {
            let mut seen = 0;
            pad.hat(1, x, y, &mut |_| seen += 1);
            let mut down = BTreeSet::new();
            pad.down(&mut down);
            (seen, down.len())
        };
        assert_eq!(count(&mut pad, 0, -1), (1, 1));
        assert_eq!(count(&mut pad, 1, -1), (1, 2));
        assert_eq!(count(&mut pad, 1, 0), (1, 1));
        assert_eq!(count(&mut pad, -1, 0), (2, 1));
        assert_eq!(count(&mut pad, 0, 0), (1, 0));
    }
}
