//! Pads and sticks whose reports Windows reads.

use super::{
    super::{
        KeyInput,
        windows_pads::{self, MOST_BUTTONS, Report, Value},
    },
    system::{PadDevice, Preparsed},
};
use crate::button::DeviceName;

/// A pad or a stick with how to read it.
pub(super) struct HidPad {
    pub(super) pad: windows_pads::HidPad,
    preparsed: Preparsed,
}

impl HidPad {
    /// How to read a device, `None` if it cannot be read.
    pub(super) fn open(device: &PadDevice, name: DeviceName) -> Option<Self> {
        let preparsed = Preparsed::of(device.id)?;
        let pad = windows_pads::HidPad::new(name, preparsed.buttons(), preparsed.values());
        Some(Self { pad, preparsed })
    }

    /// Takes one report.
    pub(super) fn take(&mut self, bytes: &mut [u8], told: &mut dyn FnMut(KeyInput)) {
        self.pad.take(ReadByWindows { preparsed: &self.preparsed, bytes }, told);
    }
}

struct ReadByWindows<'a> {
    preparsed: &'a Preparsed,
    bytes: &'a mut [u8],
}

impl Report for ReadByWindows<'_> {
    fn number(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn pressed<'a>(&mut self, into: &'a mut [u16; MOST_BUTTONS]) -> Option<&'a [u16]> {
        self.preparsed.pressed(self.bytes, into)
    }

    fn value(&self, value: &Value) -> Option<u32> {
        self.preparsed.value(value, self.bytes)
    }
}
