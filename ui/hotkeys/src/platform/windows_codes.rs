//! Keys by the scan codes that Windows gives them.

use super::linux_codes;
use crate::button::Usage;

/// What came before a scan code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nothing.
    None,
    /// The byte E0: the keys that a PC's first board did not have.
    E0,
    /// The byte E1: only Pause.
    E1,
}

/// The key with this scan code, `None` if no board's key has it.
pub(super) fn key(scan_code: u16, prefix: Prefix) -> Option<Usage> {
    let table = match prefix {
        Prefix::None => {
            // Up to F12 evdev has kept the numbers of scan codes. 0x54 is Print Screen with Alt.
            if (0x01..=0x58).contains(&scan_code) && !matches!(scan_code, 0x54 | 0x55) {
                return linux_codes::key(scan_code);
            }
            PLAIN
        }
        Prefix::E0 => EXTENDED,
        Prefix::E1 => &[(0x1d, 0x48)],
    };
    table.iter().find(|(code, _)| *code == scan_code).map(|(_, usage)| Usage(*usage))
}

/// The scan code of a key, turned round from [`key`].
pub(super) fn scan_code(usage: Usage) -> Option<(u16, Prefix)> {
    // Pause is E1 1D on the wire, and its key code is found under that.
    if usage == Usage(0x48) {
        return Some((0x1d, Prefix::E1));
    }
    let plain = (0x01..=0xff).map(|code| (code, Prefix::None));
    let extended = EXTENDED.iter().map(|(code, _)| (*code, Prefix::E0));
    extended.chain(plain).find(|(code, prefix)| key(*code, *prefix) == Some(usage))
}

/// Scan codes without a prefix beyond F12: the keypad's =, F13 to F24, Japan's and Korea's keys.
#[rustfmt::skip]
const PLAIN: &[(u16, u16)] = &[
    (0x54, 0x46), (0x59, 0x67), (0x5c, 0x8c),
    (0x64, 0x68), (0x65, 0x69), (0x66, 0x6a), (0x67, 0x6b), (0x68, 0x6c), (0x69, 0x6d),
    (0x6a, 0x6e), (0x6b, 0x6f), (0x6c, 0x70), (0x6d, 0x71), (0x6e, 0x72), (0x76, 0x73),
    (0x70, 0x88), (0x71, 0x91), (0x72, 0x90), (0x73, 0x87), (0x77, 0x93), (0x78, 0x92),
    (0x79, 0x8a), (0x7b, 0x8b), (0x7d, 0x89), (0x7e, 0x85), (0xf1, 0x91), (0xf2, 0x90),
];

/// Scan codes after E0.
#[rustfmt::skip]
const EXTENDED: &[(u16, u16)] = &[
    // The keypad's Enter and /, the right Ctrl and Alt, Print Screen, Pause with Ctrl.
    (0x1c, 0x58), (0x35, 0x54), (0x1d, 0xe4), (0x38, 0xe6), (0x37, 0x46), (0x46, 0x48),
    // Home, Up, Page Up, Left, Right, End, Down, Page Down, Insert, Delete.
    (0x47, 0x4a), (0x48, 0x52), (0x49, 0x4b), (0x4b, 0x50), (0x4d, 0x4f), (0x4f, 0x4d),
    (0x50, 0x51), (0x51, 0x4e), (0x52, 0x49), (0x53, 0x4c),
    // Left and right Meta, Menu, Power, Sleep.
    (0x5b, 0xe3), (0x5c, 0xe7), (0x5d, 0x65), (0x5e, 0x66), (0x5f, 0xf8),
    // Mute, volume down and up, Previous, Next, Play, Stop, Calculator.
    (0x20, 0x7f), (0x2e, 0x81), (0x30, 0x80), (0x10, 0xea), (0x19, 0xeb), (0x22, 0xe8),
    (0x24, 0xe9), (0x21, 0xfb),
    // Web, Back, Forward, Refresh.
    (0x32, 0xf0), (0x6a, 0xf1), (0x69, 0xf2), (0x67, 0xfa),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_keys_have_their_usages() {
        for (code, prefix, usage) in [
            (0x1e, Prefix::None, 0x04),
            (0x2f, Prefix::None, 0x19),
            (0x1d, Prefix::None, 0xe0),
            (0x1d, Prefix::E0, 0xe4),
            (0x1d, Prefix::E1, 0x48),
            (0x45, Prefix::None, 0x53),
            (0x52, Prefix::None, 0x62),
            (0x52, Prefix::E0, 0x49),
            (0x57, Prefix::None, 0x44),
            (0x64, Prefix::None, 0x68),
        ] {
            assert_eq!(key(code, prefix), Some(Usage(usage)), "{code:#x}");
        }
        for code in [0, 0x55, 0xff, u16::MAX] {
            assert_eq!(key(code, Prefix::None), None);
        }
    }

    #[test]
    fn a_usage_leads_back_to_a_scan_code_of_the_same_key() {
        for usage in (0x04..=0xfb).map(Usage) {
            if let Some((code, prefix)) = scan_code(usage) {
                assert_eq!(key(code, prefix), Some(usage));
            }
        }
        assert_eq!(scan_code(Usage(0x19)), Some((0x2f, Prefix::None)));
        assert_eq!(scan_code(Usage(0xe4)), Some((0x1d, Prefix::E0)));
        assert_eq!(scan_code(Usage(0)), None);
    }
}
