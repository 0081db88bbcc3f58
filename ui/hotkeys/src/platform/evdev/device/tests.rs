use proptest::prelude::*;

use super::*;
use crate::button::{HatDirection, Usage};

/// One event as a 64-bit kernel writes it: seconds, microseconds, type, code, value.
const fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT_SIZE] {
    let mut bytes = [0; EVENT_SIZE];
    let (kind, code, value) = (kind.to_ne_bytes(), code.to_ne_bytes(), value.to_ne_bytes());
    let mut at = 0;
    while at < 4 {
        if at < 2 {
            bytes[TIME_SIZE + at] = kind[at];
            bytes[TIME_SIZE + 2 + at] = code[at];
        }
        bytes[TIME_SIZE + 4 + at] = value[at];
        at += 1;
    }
    bytes
}

/// A trigger pulled and let go, as `cat /dev/input/event17` gives it on a 64-bit machine:
/// MSC_SCAN, BTN_TRIGGER, SYN_REPORT, twice.
#[cfg(all(target_pointer_width = "64", target_endian = "little"))]
#[rustfmt::skip]
const TRIGGER_PULLED: [u8; 144] = [
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x8a, 0x41, 0x07, 0, 0, 0, 0, 0, 4, 0, 4, 0, 1, 0, 9, 0,
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x8a, 0x41, 0x07, 0, 0, 0, 0, 0, 1, 0, 0x20, 1, 1, 0, 0, 0,
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x8a, 0x41, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x9e, 0x22, 0x0a, 0, 0, 0, 0, 0, 4, 0, 4, 0, 1, 0, 9, 0,
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x9e, 0x22, 0x0a, 0, 0, 0, 0, 0, 1, 0, 0x20, 1, 0, 0, 0, 0,
    0x3c, 0x9e, 0x21, 0x69, 0, 0, 0, 0, 0x9e, 0x22, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

const REPORT: [u8; EVENT_SIZE] = event(EV_SYN, SYN_REPORT, 0);

fn stick() -> Description {
    let range = Range { minimum: 0, maximum: 1023 };
    Description {
        vendor: 0x231d,
        product: 0x0200,
        name: "VKB  Gladiator (left)\n".into(),
        keys: (0x120..=0x12f).chain([0x2c0, 0x2c1]).collect(),
        axes: [(0, range), (1, range), (5, range), (0x10, range), (0x11, range)].into(),
        ..Description::default()
    }
}

fn keyboard() -> Description {
    Description {
        name: "Keyboard".into(),
        keys: (1..=127).chain([0x110, 0x113]).collect(),
        ..Description::default()
    }
}

fn open(description: &Description, state: &State) -> Device {
    Device::new(description, description.device_name(1), true, state)
}

fn centred() -> State {
    State { keys: BTreeSet::new(), axes: [(0, 512), (1, 512), (5, 512)].into() }
}

/// What the device tells of these events, read through a [`Read`].
fn told(device: &mut Device, bytes: &[u8]) -> (Vec<KeyInput>, Progress) {
    let mut inputs = Vec::new();
    let mut source = bytes;
    let mut progress = Progress::More;
    while !source.is_empty() {
        let now = device.read(&mut source, &mut |input| inputs.push(input)).unwrap();
        if progress != Progress::Lost {
            progress = now;
        }
    }
    (inputs, progress)
}

fn pad_button(device: &Device, button: u16) -> Button {
    Button::Pad { device: device.name().unwrap().clone(), button }
}

fn axis_end(device: &Device, axis: u8, upper: bool) -> Button {
    Button::Axis { device: device.name().unwrap().clone(), axis, upper }
}

fn hat_end(device: &Device, direction: HatDirection) -> Button {
    Button::Hat { device: device.name().unwrap().clone(), hat: 1, direction }
}

#[cfg(all(target_pointer_width = "64", target_endian = "little"))]
#[test]
fn a_trigger_is_button_one() {
    let mut device = open(&stick(), &centred());
    let trigger = pad_button(&device, 1);
    let expected = [KeyInput::Pressed(trigger.clone()), KeyInput::Released(trigger)];
    assert_eq!(told(&mut device, &TRIGGER_PULLED).0, expected);
    // The same bytes one by one.
    let mut inputs = Vec::new();
    for byte in TRIGGER_PULLED {
        inputs.append(&mut told(&mut device, &[byte]).0);
    }
    assert_eq!(inputs, expected);
}

#[test]
fn buttons_beyond_sixteen_count_on() {
    let mut device = open(&stick(), &centred());
    let bytes = [event(EV_KEY, 0x12f, 1), event(EV_KEY, 0x2c0, 1), REPORT].concat();
    let expected = [16, 17].map(|number| KeyInput::Pressed(pad_button(&device, number)));
    assert_eq!(told(&mut device, &bytes).0, expected);
}

#[test]
fn a_hat_that_goes_over_a_corner_holds_both_directions() {
    let mut device = open(&stick(), &centred());
    let bytes = [
        event(EV_ABS, 0x11, -1),
        REPORT,
        event(EV_ABS, 0x10, 1),
        REPORT,
        event(EV_ABS, 0x11, 0),
        REPORT,
        event(EV_ABS, 0x10, 0),
        REPORT,
    ];
    let (up, right) = (hat_end(&device, HatDirection::Up), hat_end(&device, HatDirection::Right));
    let expected = [
        KeyInput::Pressed(up.clone()),
        KeyInput::Pressed(right.clone()),
        KeyInput::Released(up),
        KeyInput::Released(right),
    ];
    assert_eq!(told(&mut device, &bytes.concat()).0, expected);
}

#[test]
fn an_axis_that_trembles_at_its_threshold_does_not_chatter() {
    let mut device = open(&stick(), &centred());
    let values = [700, 768, 760, 770, 766, 700, 600, 512, 200, 255, 300, 512];
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| [event(EV_ABS, 1, *value), REPORT].concat()).collect();
    let (upper, lower) = (axis_end(&device, 2, true), axis_end(&device, 2, false));
    let expected = [
        KeyInput::Pressed(upper.clone()),
        KeyInput::Released(upper),
        KeyInput::Pressed(lower.clone()),
        KeyInput::Released(lower),
    ];
    assert_eq!(told(&mut device, &bytes).0, expected);
}

#[test]
fn a_stick_on_the_codes_of_a_trigger_has_two_ends_and_a_trigger_one() {
    for (at_rest, ends) in [(512, 1), (0, 0)] {
        let state = State { axes: [(5, at_rest)].into(), ..State::default() };
        let mut device = open(&stick(), &state);
        let (inputs, _) = told(&mut device, &[event(EV_ABS, 5, 100), REPORT].concat());
        assert_eq!(inputs.len(), ends);
    }
}

#[test]
fn what_the_kernel_dropped_is_asked_for_and_told() {
    let mut device = open(&stick(), &centred());
    let bytes = [
        event(EV_KEY, 0x120, 1),
        REPORT,
        event(EV_SYN, SYN_DROPPED, 0),
        // The rest of a packet whose start is lost.
        event(EV_KEY, 0x121, 1),
        REPORT,
    ];
    let first = pad_button(&device, 1);
    let (inputs, progress) = told(&mut device, &bytes.concat());
    assert_eq!(inputs, [KeyInput::Pressed(first.clone())]);
    assert_eq!(progress, Progress::Lost);
    let mut inputs = Vec::new();
    let state = State { keys: [0x122].into(), axes: [(0, 1000), (0x10, -1)].into() };
    device.resync(&state, &mut |input| inputs.push(input));
    let expected = [
        KeyInput::Released(first),
        KeyInput::Pressed(pad_button(&device, 3)),
        KeyInput::Pressed(axis_end(&device, 1, true)),
        KeyInput::Pressed(hat_end(&device, HatDirection::Left)),
    ];
    assert_eq!(inputs, expected);
}

#[test]
fn a_switch_that_was_on_before_is_down_but_was_not_pressed() {
    let state = State { keys: [0x12a].into(), ..centred() };
    let mut device = open(&stick(), &state);
    let switch = pad_button(&device, 11);
    let mut down = BTreeSet::new();
    device.down(&mut down);
    assert_eq!(down, [switch.clone()].into());
    let (inputs, _) = told(&mut device, &[event(EV_KEY, 0x12a, 0), REPORT].concat());
    assert_eq!(inputs, [KeyInput::Released(switch)]);
}

#[test]
fn a_key_that_repeats_is_pressed_once() {
    let mut device = open(&keyboard(), &State::default());
    let bytes = [
        event(EV_KEY, 47, 1),
        REPORT,
        event(EV_KEY, 47, 2),
        event(EV_KEY, 47, 2),
        REPORT,
        event(EV_KEY, 0x113, 1),
        event(EV_KEY, 47, 0),
        REPORT,
    ];
    let v = Button::Key(Usage(0x19));
    let expected =
        [KeyInput::Pressed(v.clone()), KeyInput::Pressed(Button::Mouse(4)), KeyInput::Released(v)];
    assert_eq!(told(&mut device, &bytes.concat()).0, expected);
    assert_eq!(device.keys().collect::<Vec<_>>(), [Button::Mouse(4)]);
}

#[test]
fn a_keyboard_is_not_listened_to_unless_asked_for() {
    let description = keyboard();
    let name = description.device_name(1);
    let mut device = Device::new(&description, name, false, &State::default());
    assert!(!device.is_of_use());
    assert_eq!(told(&mut device, &[event(EV_KEY, 47, 1), REPORT].concat()).0, []);
}

#[test]
fn what_is_no_pad_is_none() {
    assert!(stick().is_pad() && !stick().is_keyboard());
    assert!(keyboard().is_keyboard() && !keyboard().is_pad());
    let sensors = Description { accelerometer: true, ..stick() };
    assert!(!sensors.is_pad());
    let pedals = Description { keys: BTreeSet::new(), ..stick() };
    assert!(pedals.is_pad());
    // A drawing tablet: BTN_TOOL_PEN, BTN_TOUCH, BTN_0 and axes.
    let tablet = Description { keys: [0x140, 0x14a, 0x100].into(), ..stick() };
    assert!(!tablet.is_pad() && !tablet.is_keyboard());
    assert!(!Description::default().is_pad());
}

#[test]
fn equal_devices_are_told_apart_and_names_fit_a_line() {
    assert_eq!(&*stick().device_name(1).0, "231d:0200 VKB Gladiator [left]");
    let named = Description { serial: "A1".into(), ..stick() };
    assert_eq!(&*named.device_name(2).0, "231d:0200 VKB Gladiator [left] A1 #2");
    assert_eq!(&*Description::default().device_name(1).0, "0000:0000");
}

#[test]
fn the_end_of_a_device_is_told() {
    let mut device = open(&stick(), &centred());
    assert_eq!(device.read(&mut io::empty(), &mut |_| {}).unwrap(), Progress::Ended);
}

proptest! {
    #[test]
    fn any_bytes_are_taken(chunks: Vec<Vec<u8>>) {
        let mut device = open(&stick(), &centred());
        let mut keys = open(&keyboard(), &State::default());
        for chunk in chunks {
            device.take(&chunk, &mut |_| {});
            keys.take(&chunk, &mut |_| {});
        }
    }

    #[test]
    fn any_events_leave_what_is_down_as_told(
        events in proptest::collection::vec((0_u16..4, 0_u16..0x140, -2000..2000), 0..100),
    ) {
        let mut device = open(&stick(), &centred());
        let mut expected = BTreeSet::new();
        for (kind, code, value) in events {
            device.take(&event(kind, code, value), &mut |input| match input {
                KeyInput::Pressed(button) => assert!(expected.insert(button)),
                KeyInput::Released(button) => assert!(expected.remove(&button)),
                other => panic!("{other:?}"),
            });
        }
        let mut down = BTreeSet::new();
        device.down(&mut down);
        prop_assert_eq!(down, expected);
    }
}
