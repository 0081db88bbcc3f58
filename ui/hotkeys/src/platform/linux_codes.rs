//! Keys and mouse buttons by the numbers that Linux gives them.
//!
//! X11 numbers a key eight higher than evdev does. The numbers of the main block are those of a
//! PC's first scan code set, so Windows uses this table too.

#[cfg(any(target_os = "linux", test))]
use crate::button::Button;
use crate::button::Usage;

/// The key with this evdev code, `None` if no board's key has it.
pub(super) fn key(code: u16) -> Option<Usage> {
    match BY_CODE.get(usize::from(code)) {
        None | Some(0) => None,
        Some(usage) => Some(Usage(*usage)),
    }
}

/// The mouse button with this evdev code: left, right, middle, side, extra, and then as they come.
#[cfg(any(target_os = "linux", test))]
pub(super) fn mouse(code: u16) -> Option<Button> {
    let number = match code {
        0x110 => 1,
        0x111 => 3,
        0x112 => 2,
        0x113..=0x11f => u8::try_from(code - 0x113 + 4).ok()?,
        _ => return None,
    };
    Some(Button::Mouse(number))
}

/// The mouse button with this number in X11, `None` for the wheel, which X11 counts as 4 to 7.
#[cfg(any(target_os = "linux", test))]
pub(super) fn x11_mouse(number: u32) -> Option<Button> {
    let number = match number {
        1..=3 => number,
        8.. => number - 4,
        _ => return None,
    };
    u8::try_from(number).ok().map(Button::Mouse)
}

/// The table turned round. The first usage of a code counts: 0x31 and 0x32 are the same key.
const BY_CODE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < KEYS.len() {
        let (usage, code) = KEYS[at];
        if table[code as usize] == 0 {
            table[code as usize] = usage;
        }
        at += 1;
    }
    table
};

/// USB usages of the page "Keyboard" with their evdev codes, as Linux's HID driver pairs them.
///
/// The page ends at 0xE7. From 0xE8 on stand the media keys, which some boards send on this page
/// although no standard says so; Linux knows them there.
#[rustfmt::skip]
const KEYS: &[(u16, u8)] = &[
    // A to Z.
    (0x04, 30), (0x05, 48), (0x06, 46), (0x07, 32), (0x08, 18), (0x09, 33), (0x0a, 34),
    (0x0b, 35), (0x0c, 23), (0x0d, 36), (0x0e, 37), (0x0f, 38), (0x10, 50), (0x11, 49),
    (0x12, 24), (0x13, 25), (0x14, 16), (0x15, 19), (0x16, 31), (0x17, 20), (0x18, 22),
    (0x19, 47), (0x1a, 17), (0x1b, 45), (0x1c, 21), (0x1d, 44),
    // 1 to 9 and 0.
    (0x1e, 2), (0x1f, 3), (0x20, 4), (0x21, 5), (0x22, 6), (0x23, 7), (0x24, 8), (0x25, 9),
    (0x26, 10), (0x27, 11),
    // Enter, Escape, Backspace, Tab, Space, - = [ ] \ # ; ' ` , . /
    (0x28, 28), (0x29, 1), (0x2a, 14), (0x2b, 15), (0x2c, 57), (0x2d, 12), (0x2e, 13),
    (0x2f, 26), (0x30, 27), (0x31, 43), (0x32, 43), (0x33, 39), (0x34, 40), (0x35, 41),
    (0x36, 51), (0x37, 52), (0x38, 53),
    // Caps Lock, F1 to F12.
    (0x39, 58), (0x3a, 59), (0x3b, 60), (0x3c, 61), (0x3d, 62), (0x3e, 63), (0x3f, 64),
    (0x40, 65), (0x41, 66), (0x42, 67), (0x43, 68), (0x44, 87), (0x45, 88),
    // Print Screen, Scroll Lock, Pause, Insert, Home, Page Up, Delete, End, Page Down, arrows.
    (0x46, 99), (0x47, 70), (0x48, 119), (0x49, 110), (0x4a, 102), (0x4b, 104), (0x4c, 111),
    (0x4d, 107), (0x4e, 109), (0x4f, 106), (0x50, 105), (0x51, 108), (0x52, 103),
    // The keypad: Num Lock / * - + Enter 1 to 9 0 .
    (0x53, 69), (0x54, 98), (0x55, 55), (0x56, 74), (0x57, 78), (0x58, 96), (0x59, 79),
    (0x5a, 80), (0x5b, 81), (0x5c, 75), (0x5d, 76), (0x5e, 77), (0x5f, 71), (0x60, 72),
    (0x61, 73), (0x62, 82), (0x63, 83),
    // The key beside the left Shift, Menu, Power, the keypad's =, F13 to F24.
    (0x64, 86), (0x65, 127), (0x66, 116), (0x67, 117), (0x68, 183), (0x69, 184), (0x6a, 185),
    (0x6b, 186), (0x6c, 187), (0x6d, 188), (0x6e, 189), (0x6f, 190), (0x70, 191), (0x71, 192),
    (0x72, 193), (0x73, 194),
    // Open, Help, Props, Front, Stop, Again, Undo, Cut, Copy, Paste, Find, mute, volume.
    (0x74, 134), (0x75, 138), (0x76, 130), (0x77, 132), (0x78, 128), (0x79, 129), (0x7a, 131),
    (0x7b, 137), (0x7c, 133), (0x7d, 135), (0x7e, 136), (0x7f, 113), (0x80, 115), (0x81, 114),
    // The keypad's comma, Ro, Katakana/Hiragana, Yen, Henkan, Muhenkan, Japan's keypad comma.
    (0x85, 121), (0x87, 89), (0x88, 93), (0x89, 124), (0x8a, 92), (0x8b, 94), (0x8c, 95),
    // Hangul, Hanja, Katakana, Hiragana, Zenkaku/Hankaku.
    (0x90, 122), (0x91, 123), (0x92, 90), (0x93, 91), (0x94, 85),
    // The keypad's brackets.
    (0xb6, 179), (0xb7, 180),
    // Left Ctrl, Shift, Alt, Meta, and the right ones.
    (0xe0, 29), (0xe1, 42), (0xe2, 56), (0xe3, 125), (0xe4, 97), (0xe5, 54), (0xe6, 100),
    (0xe7, 126),
    // Play, Stop, Previous, Next, Eject, Web, Back, Forward, scrolling, Edit, Sleep, Lock,
    // Refresh, Calculator.
    (0xe8, 164), (0xe9, 166), (0xea, 165), (0xeb, 163), (0xec, 161), (0xf0, 150), (0xf1, 158),
    (0xf2, 159), (0xf5, 177), (0xf6, 178), (0xf7, 176), (0xf8, 142), (0xf9, 152), (0xfa, 173),
    (0xfb, 140),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn well_known_keys_have_their_usages() {
        for (code, usage) in [(30, 0x04), (47, 0x19), (57, 0x2c), (42, 0xe1), (82, 0x62)] {
            assert_eq!(key(code), Some(Usage(usage)));
        }
        for code in [0, 84, 240, 255, 256, 0x110, u16::MAX] {
            assert_eq!(key(code), None);
        }
    }

    #[test]
    fn each_usage_stands_once_and_comes_back_from_its_code() {
        let usages: BTreeSet<u16> = KEYS.iter().map(|(usage, _)| *usage).collect();
        assert_eq!(usages.len(), KEYS.len());
        for (usage, code) in KEYS.iter().filter(|(usage, _)| *usage != 0x32) {
            assert_eq!(key(u16::from(*code)), Some(Usage(*usage)));
        }
    }

    #[test]
    fn the_wheel_is_no_button() {
        let seen: Vec<_> = (0..=10).filter_map(x11_mouse).collect();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6].map(Button::Mouse));
        assert_eq!(x11_mouse(u32::MAX), None);
        let seen: Vec<_> = (0x10f..=0x120).filter_map(mouse).collect();
        let expected = [1, 3, 2].into_iter().chain(4..=16).map(Button::Mouse);
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}
