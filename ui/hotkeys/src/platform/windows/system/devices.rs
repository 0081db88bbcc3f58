//! What Windows says of pads and sticks, and what it reads from their reports.

use std::{
    mem::size_of_val,
    ptr::{null, null_mut},
};

use windows_sys::Win32::{
    Devices::HumanInterfaceDevice::{
        HIDP_BUTTON_CAPS, HIDP_CAPS, HIDP_STATUS_SUCCESS, HIDP_VALUE_CAPS, HidD_GetProductString,
        HidD_GetSerialNumberString, HidP_GetButtonCaps, HidP_GetCaps, HidP_GetUsageValue,
        HidP_GetUsages, HidP_GetValueCaps, HidP_Input,
    },
    Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE},
    Storage::FileSystem::{CreateFileW, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING},
    UI::Input::{
        GetRawInputDeviceInfoW, GetRawInputDeviceList, RAWINPUTDEVICELIST, RID_DEVICE_INFO,
        RIDI_DEVICEINFO, RIDI_DEVICENAME, RIDI_PREPARSEDDATA, RIM_TYPEHID,
    },
};

use super::{
    super::super::windows_pads::{ButtonRange, MOST_BUTTONS, Value},
    Class, DeviceId, GENERIC_DESKTOP, size_of_u32,
};

/// What Windows says of a pad or a stick.
pub(in super::super) struct PadDevice {
    pub(in super::super) id: DeviceId,
    pub(in super::super) path: String,
    pub(in super::super) vendor: u16,
    pub(in super::super) product: u16,
    pub(in super::super) name: String,
    pub(in super::super) serial: String,
}

/// The pads and sticks that are plugged in, without those of XInput.
pub(in super::super) fn pad_devices() -> Vec<PadDevice> {
    let mut list = vec![RAWINPUTDEVICELIST::default(); MOST_DEVICES];
    let mut count = MOST_DEVICES as u32;
    // SAFETY: the list has as many entries as are named, of the size that is named.
    let listed = unsafe {
        let size = size_of_u32::<RAWINPUTDEVICELIST>();
        GetRawInputDeviceList(list.as_mut_ptr(), &mut count, size)
    };
    list.truncate(usize::try_from(listed).ok().filter(|n| *n <= MOST_DEVICES).unwrap_or(0));
    list.iter().filter(|entry| entry.dwType == RIM_TYPEHID).filter_map(pad_device).collect()
}

fn pad_device(entry: &RAWINPUTDEVICELIST) -> Option<PadDevice> {
    let mut info =
        RID_DEVICE_INFO { cbSize: size_of_u32::<RID_DEVICE_INFO>(), ..Default::default() };
    let mut size = info.cbSize;
    // SAFETY: `info` has the size that is named.
    let read = unsafe {
        let into = (&raw mut info).cast();
        GetRawInputDeviceInfoW(entry.hDevice, RIDI_DEVICEINFO, into, &mut size)
    };
    if read == u32::MAX || info.dwType != RIM_TYPEHID {
        return None;
    }
    // SAFETY: the type says that this form of the union was written.
    let hid = unsafe { info.Anonymous.hid };
    let classes = [Class::Joystick, Class::Gamepad, Class::MultiAxis];
    if hid.usUsagePage != GENERIC_DESKTOP || classes.iter().all(|c| *c as u16 != hid.usUsage) {
        return None;
    }
    let mut path = [0_u16; LONGEST_PATH];
    let mut length = LONGEST_PATH as u32;
    // SAFETY: the buffer has as many characters as are named.
    let read = unsafe {
        let into = path.as_mut_ptr().cast();
        GetRawInputDeviceInfoW(entry.hDevice, RIDI_DEVICENAME, into, &mut length)
    };
    if read == u32::MAX {
        return None;
    }
    let (name, serial) = product_and_serial(&path);
    Some(PadDevice {
        id: DeviceId(entry.hDevice as usize),
        path: text(&path),
        vendor: hid.dwVendorId as u16,
        product: hid.dwProductId as u16,
        name,
        serial,
    })
}

/// What a device calls itself.
fn product_and_serial(path: &[u16; LONGEST_PATH]) -> (String, String) {
    let mut ended = *path;
    ended[LONGEST_PATH - 1] = 0;
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE;
    // SAFETY: the path ends with a zero. Without any access no device refuses to be opened.
    let file =
        unsafe { CreateFileW(ended.as_ptr(), 0, share, null(), OPEN_EXISTING, 0, null_mut()) };
    if file == INVALID_HANDLE_VALUE {
        return Default::default();
    }
    let mut product = [0_u16; LONGEST_STRING];
    let mut serial = [0_u16; LONGEST_STRING];
    let size = size_of_val(&product) as u32;
    // SAFETY: the handle is open, and both buffers have the size that is named.
    let (has_product, has_serial) = unsafe {
        let has_product = HidD_GetProductString(file, product.as_mut_ptr().cast(), size);
        let has_serial = HidD_GetSerialNumberString(file, serial.as_mut_ptr().cast(), size);
        CloseHandle(file);
        (has_product, has_serial)
    };
    let text = |has: bool, words: &[u16]| if has { text(words) } else { String::new() };
    (text(has_product, &product), text(has_serial, &serial))
}

/// How the reports of a device are to be read, as Windows has worked it out.
pub(in super::super) struct Preparsed(Vec<u64>);

impl Preparsed {
    pub(in super::super) fn of(device: DeviceId) -> Option<Self> {
        let handle = device.0 as HANDLE;
        let mut size = 0;
        // SAFETY: without a buffer only the size is written. A device that has gone is an error.
        unsafe { GetRawInputDeviceInfoW(handle, RIDI_PREPARSEDDATA, null_mut(), &mut size) };
        let words =
            usize::try_from(size).ok().filter(|size| (1..=LONGEST_PREPARSED).contains(size))?;
        let mut data = vec![0_u64; words.div_ceil(8)];
        // SAFETY: the buffer has at least the size that is named.
        let read = unsafe {
            let into = data.as_mut_ptr().cast();
            GetRawInputDeviceInfoW(handle, RIDI_PREPARSEDDATA, into, &mut size)
        };
        (read != u32::MAX && read > 0).then_some(Self(data))
    }

    fn caps(&self) -> Option<HIDP_CAPS> {
        let mut caps = HIDP_CAPS::default();
        // SAFETY: the data is what Windows gave, and `caps` is valid to write to.
        let status = unsafe { HidP_GetCaps(self.pointer(), &mut caps) };
        (status == HIDP_STATUS_SUCCESS).then_some(caps)
    }

    pub(in super::super) fn buttons(&self) -> Vec<ButtonRange> {
        let Some(caps) = self.caps() else { return Vec::new() };
        let mut count = caps.NumberInputButtonCaps;
        let mut list = vec![HIDP_BUTTON_CAPS::default(); usize::from(count)];
        // SAFETY: the list has as many entries as are named.
        let status = unsafe {
            HidP_GetButtonCaps(HidP_Input, list.as_mut_ptr(), &mut count, self.pointer())
        };
        if status != HIDP_STATUS_SUCCESS {
            return Vec::new();
        }
        list.truncate(usize::from(count));
        let buttons = list.iter().filter(|cap| cap.UsagePage == BUTTONS);
        buttons
            .map(|cap| {
                // SAFETY: both forms of the union are plain numbers; a range begins with its
                // first usage, and the other form with its only one.
                let range = unsafe { cap.Anonymous.Range };
                let last = if cap.IsRange { range.UsageMax } else { range.UsageMin };
                ButtonRange { report: cap.ReportID, first: range.UsageMin, last }
            })
            .collect()
    }

    pub(in super::super) fn values(&self) -> Vec<Value> {
        let Some(caps) = self.caps() else { return Vec::new() };
        let mut count = caps.NumberInputValueCaps;
        let mut list = vec![HIDP_VALUE_CAPS::default(); usize::from(count)];
        // SAFETY: the list has as many entries as are named.
        let status =
            unsafe { HidP_GetValueCaps(HidP_Input, list.as_mut_ptr(), &mut count, self.pointer()) };
        if status != HIDP_STATUS_SUCCESS {
            return Vec::new();
        }
        list.truncate(usize::from(count));
        let mut values = Vec::new();
        for cap in list.iter().filter(|cap| cap.UsagePage == GENERIC_DESKTOP) {
            // SAFETY: as for buttons.
            let range = unsafe { cap.Anonymous.Range };
            let last = if cap.IsRange { range.UsageMax } else { range.UsageMin };
            values.extend((range.UsageMin..=last).take(MOST_VALUES).map(|usage| Value {
                usage,
                minimum: cap.LogicalMin,
                maximum: cap.LogicalMax,
                bits: cap.BitSize,
                collection: cap.LinkCollection,
            }));
        }
        values
    }

    /// The buttons that are down in a report, `None` if it is not about buttons.
    pub(in super::super) fn pressed<'a>(
        &self,
        report: &mut [u8],
        into: &'a mut [u16; MOST_BUTTONS],
    ) -> Option<&'a [u16]> {
        let mut count = MOST_BUTTONS as u32;
        let length = u32::try_from(report.len()).ok()?;
        let (list, data, report) = (into.as_mut_ptr(), self.pointer(), report.as_mut_ptr());
        // SAFETY: the list and the report have the lengths that are named; Windows compares the
        // report's with the one that the data names.
        let status = unsafe {
            HidP_GetUsages(HidP_Input, BUTTONS, 0, list, &mut count, data, report, length)
        };
        let count = usize::try_from(count).ok()?;
        (status == HIDP_STATUS_SUCCESS).then(|| into.get(..count)).flatten()
    }

    /// Where an axis or a hat stands in a report, `None` if the report is not about it.
    pub(in super::super) fn value(&self, value: &Value, report: &[u8]) -> Option<u32> {
        let mut found = 0;
        let length = u32::try_from(report.len()).ok()?;
        // SAFETY: the report has the length that is named, and `found` is valid to write to.
        let status = unsafe {
            HidP_GetUsageValue(
                HidP_Input,
                GENERIC_DESKTOP,
                value.collection,
                value.usage,
                &mut found,
                self.pointer(),
                report.as_ptr(),
                length,
            )
        };
        (status == HIDP_STATUS_SUCCESS).then_some(found)
    }

    fn pointer(&self) -> isize {
        self.0.as_ptr() as isize
    }
}

/// The text up to the first zero.
fn text(words: &[u16]) -> String {
    let end = words.iter().position(|word| *word == 0).unwrap_or(words.len());
    String::from_utf16_lossy(&words[..end])
}

/// The usage page of buttons.
const BUTTONS: u16 = 9;

/// How much Windows may have worked out of one device. A device with more is not listened to.
const LONGEST_PREPARSED: usize = 1 << 20;

/// The longest path of a device, and the longest name that it may give itself.
const LONGEST_PATH: usize = 512;
const LONGEST_STRING: usize = 127;

/// How many raw input devices are looked at, and how many values of one of them.
const MOST_DEVICES: usize = 256;
const MOST_VALUES: usize = 32;
