use super::*;
use crate::button::HatDirection;

const UP: HatDirection = HatDirection::Up;
const LEFT: HatDirection = HatDirection::Left;

#[test]
fn an_xbox_pad_tells_buttons_triggers_and_its_end() {
    let mut pads = XboxPads::new();
    let mut told = Vec::new();
    let mut take = |report| pads.take(1, report, &mut |input| told.push(input));
    // Held from the start: no press.
    take(Some(XboxReport { buttons: 0x1000, ..Default::default() }));
    take(Some(XboxReport { buttons: 0x0101, triggers: (0, 200), ..Default::default() }));
    take(None);
    take(None);
    assert!(!pads.has(1));
    let device = xbox_name(1);
    assert_eq!(&*device.0, "Xbox pad 2");
    let button = |button| Button::Pad { device: device.clone(), button };
    let expected = [
        KeyInput::Released(button(1)),
        KeyInput::Pressed(button(5)),
        KeyInput::Pressed(Button::Hat { device: device.clone(), hat: 1, direction: UP }),
        KeyInput::Pressed(Button::Axis { device: device.clone(), axis: 6, upper: true }),
        KeyInput::Gone(device.clone()),
    ];
    assert_eq!(told, expected);
    assert!(is_xbox(&button(1)) && !is_xbox(&Button::Mouse(1)));
}

/// The bits are those of XINPUT_GAMEPAD, the numbers those of the same pad on Linux.
#[test]
fn each_button_of_an_xbox_pad_has_its_own_number() {
    let bits = [
        0x1000, 0x2000, 0x4000, 0x8000, // A, B, X, Y
        0x0100, 0x0200, // shoulders
        0x0020, 0x0010, // Back, Start
        0x0040, 0x0080, // sticks
    ];
    let mut pads = XboxPads::new();
    pads.take(0, Some(XboxReport::default()), &mut |input| panic!("{input:?}"));
    let device = xbox_name(0);
    for (buttons, number) in bits.into_iter().zip(1..) {
        let button = || Button::Pad { device: device.clone(), button: number };
        let mut told = Vec::new();
        for buttons in [buttons, buttons, 0, 0] {
            let report = XboxReport { buttons, ..Default::default() };
            pads.take(0, Some(report), &mut |input| told.push(input));
        }
        assert_eq!(told, [KeyInput::Pressed(button()), KeyInput::Released(button())]);
    }
}

/// XInput counts upwards from below. All others count from above, and so do bindings.
#[test]
fn an_xbox_stick_that_is_pushed_up_is_at_the_lower_end_of_its_axis() {
    let mut pads = XboxPads::new();
    pads.take(3, Some(XboxReport::default()), &mut |input| panic!("{input:?}"));
    let mut told = Vec::new();
    for report in [
        XboxReport { left: (0, 32767), ..Default::default() },
        XboxReport { left: (0, 0), right: (-32768, -32768), ..Default::default() },
    ] {
        pads.take(3, Some(report), &mut |input| told.push(input));
    }
    let axis = |axis, upper| Button::Axis { device: xbox_name(3), axis, upper };
    let expected = [
        KeyInput::Pressed(axis(2, false)),
        KeyInput::Released(axis(2, false)),
        KeyInput::Pressed(axis(3, false)),
        KeyInput::Pressed(axis(4, true)),
    ];
    assert_eq!(told, expected);
    let mut down = BTreeSet::new();
    pads.down(&mut down);
    assert_eq!(down, BTreeSet::from([axis(3, false), axis(4, true)]));
    assert!(pads.has(3) && !pads.has(0) && !pads.has(9));
    pads.take(9, Some(XboxReport::default()), &mut |input| panic!("no such place: {input:?}"));
}

/// The first bytes of a report of Sony's DualShock 4 by USB: its number, both sticks, hat and
/// buttons, both triggers.
#[derive(Clone, Copy)]
struct DualShock([u8; 10]);

impl DualShock {
    const REST: Self = Self([0x01, 0x80, 0x80, 0x80, 0x80, 0x08, 0x00, 0x00, 0x00, 0x00]);

    fn pad() -> HidPad {
        let byte = |usage| Value { usage, minimum: 0, maximum: 255, bits: 8, collection: 0 };
        // In the order of its descriptor: X, Y, Z, Rz, hat, Rx, Ry.
        let mut values: Vec<_> = [0x30, 0x31, 0x32, 0x35, HAT, 0x33, 0x34].map(byte).into();
        (values[4].maximum, values[4].bits) = (7, 4);
        let buttons = vec![ButtonRange { report: 1, first: 1, last: 14 }];
        HidPad::new(Self::name(), buttons, values)
    }

    fn name() -> DeviceName {
        DeviceName("054c:09cc Wireless Controller".into())
    }

    fn with(mut self, place: usize, byte: u8) -> Self {
        self.0[place] = byte;
        self
    }
}

impl Report for DualShock {
    fn number(&self) -> Option<u8> {
        Some(self.0[0])
    }

    fn pressed<'a>(&mut self, into: &'a mut [u16; MOST_BUTTONS]) -> Option<&'a [u16]> {
        if self.0[0] != 1 {
            return None;
        }
        // Fourteen bits that follow the hat.
        let bits = u32::from_le_bytes([self.0[5], self.0[6], self.0[7], 0]) >> 4;
        let mut count = 0;
        for button in (1..=14).filter(|button| bits & (1 << (button - 1)) != 0) {
            into[count] = button;
            count += 1;
        }
        Some(&into[..count])
    }

    fn value(&self, value: &Value) -> Option<u32> {
        assert_eq!(value.collection, 0);
        let place = match value.usage {
            0x30 => 1,
            0x31 => 2,
            0x32 => 3,
            0x35 => 4,
            HAT => 5,
            0x33 => 8,
            0x34 => 9,
            other => panic!("{other:#x} is not in its descriptor"),
        };
        (self.0[0] == 1).then(|| u32::from(self.0[place]) & ((1 << value.bits) - 1))
    }
}

#[test]
fn a_hid_pad_tells_buttons_hat_and_triggers_of_recorded_reports() {
    let mut pad = DualShock::pad();
    let rest = DualShock::REST;
    let mut told = Vec::new();
    for report in [
        rest,
        rest.with(5, 0x28),                           // Cross
        rest.with(5, 0x27),                           // Cross, hat up and left
        rest.with(5, 0x06),                           // hat left
        rest.with(6, 0x08).with(9, 0xff),             // right trigger, as button and as axis
        rest.with(7, 0x02),                           // touch pad
        DualShock([0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0]), // of another kind, not about buttons
        rest,
    ] {
        pad.take(report, &mut |input| told.push(input));
    }
    let device = DualShock::name();
    let button = |button| Button::Pad { device: device.clone(), button };
    let hat = |direction| Button::Hat { device: device.clone(), hat: 1, direction };
    // By their usages the axes are X, Y, Z, Rx, Ry, Rz: the right trigger is the fifth.
    let trigger = |upper| Button::Axis { device: device.clone(), axis: 5, upper };
    let expected = [
        KeyInput::Pressed(button(2)),
        KeyInput::Pressed(hat(UP)),
        KeyInput::Pressed(hat(LEFT)),
        KeyInput::Released(button(2)),
        KeyInput::Released(hat(UP)),
        KeyInput::Pressed(button(8)),
        KeyInput::Released(trigger(false)),
        KeyInput::Pressed(trigger(true)),
        KeyInput::Released(hat(LEFT)),
        KeyInput::Released(button(8)),
        KeyInput::Pressed(button(14)),
        KeyInput::Pressed(trigger(false)),
        KeyInput::Released(trigger(true)),
        KeyInput::Released(button(14)),
    ];
    assert_eq!(told, expected);
}

/// The first report says where levers stand: a throttle at its end is no press.
#[test]
fn what_a_hid_pad_rests_at_is_no_press() {
    let mut pad = DualShock::pad();
    pad.take(DualShock::REST.with(1, 0xff), &mut |input| panic!("{input:?}"));
    let mut down = BTreeSet::new();
    pad.pad.down(&mut down);
    let axis = |axis, upper| Button::Axis { device: DualShock::name(), axis, upper };
    assert_eq!(down, BTreeSet::from([axis(1, true), axis(4, false), axis(5, false)]));
}
