//! Every call to Windows, behind functions that are safe to call.

#![expect(unsafe_code, reason = "Windows has no other way in")]

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    marker::PhantomData,
    mem::{size_of, zeroed},
    ptr::{null, null_mut},
    time::Duration,
};

use windows_sys::Win32::{
    Foundation::{
        CloseHandle, ERROR_ACCESS_DENIED, GetLastError, HANDLE, HWND, LPARAM, LRESULT, WPARAM,
    },
    Security::{GetTokenInformation, TOKEN_ELEVATION, TOKEN_QUERY, TokenElevation},
    System::{
        LibraryLoader::GetModuleHandleW,
        RemoteDesktop::{
            NOTIFY_FOR_THIS_SESSION, WTSRegisterSessionNotification,
            WTSUnRegisterSessionNotification,
        },
        Threading::{
            CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateWaitableTimerExW, GetCurrentProcess,
            GetCurrentThreadId, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
            SetWaitableTimer, TIMER_ALL_ACCESS,
        },
    },
    UI::{
        Input::{
            GetRawInputData,
            KeyboardAndMouse::{
                GetAsyncKeyState, MAPVK_VK_TO_VSC_EX, MAPVK_VSC_TO_VK_EX, MapVirtualKeyW,
            },
            RAWINPUTDEVICE, RAWINPUTHEADER, RAWKEYBOARD, RAWMOUSE, RID_INPUT, RIDEV_DEVNOTIFY,
            RIDEV_INPUTSINK, RIDEV_REMOVE, RIM_TYPEHID, RIM_TYPEKEYBOARD, RIM_TYPEMOUSE,
            RegisterRawInputDevices,
            XboxController::{XINPUT_STATE, XInputGetState},
        },
        WindowsAndMessaging::{
            CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GIDC_REMOVAL,
            GetForegroundWindow, GetWindowThreadProcessId, HWND_MESSAGE, MSG, MWMO_INPUTAVAILABLE,
            MsgWaitForMultipleObjectsEx, PM_NOREMOVE, PM_REMOVE, PeekMessageW, PostThreadMessageW,
            QS_ALLINPUT, RegisterClassW, WM_APP, WM_INPUT, WM_INPUT_DEVICE_CHANGE,
            WM_WTSSESSION_CHANGE, WNDCLASSW, WTS_SESSION_LOCK, WTS_SESSION_UNLOCK,
        },
    },
};

mod devices;

pub(super) use devices::{PadDevice, Preparsed, pad_devices};

use super::super::windows_pads::XboxReport;

/// What came to the window.
pub(super) enum Message {
    /// A key, as the board sent it.
    Key { make_code: u16, flags: u16, virtual_key: u16 },
    /// What changed on a mouse.
    Mouse { buttons: u16 },
    /// Reports of a pad or a stick, one after another, each `size` bytes long.
    Reports { device: DeviceId, size: usize, bytes: Vec<u8> },
    /// A device came.
    Arrived,
    /// A device went.
    Removed(DeviceId),
    /// The session was locked or unlocked.
    Locked(bool),
    /// Nothing that matters here.
    Other,
}

/// A device, for as long as it is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceId(usize);

/// The numbers of a kind of devices: all are of the page "Generic Desktop".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Mouse = 2,
    Joystick = 4,
    Gamepad = 5,
    Keyboard = 6,
    MultiAxis = 8,
}

/// A window that nobody sees, for this thread's messages.
pub(super) struct Window {
    handle: HWND,
    /// A window belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

thread_local! {
    /// What the window procedure saw, which also runs inside calls of Windows.
    static SEEN: RefCell<VecDeque<Message>> = const { RefCell::new(VecDeque::new()) };
}

/// How many messages wait at most. They are taken after each dispatch, so there are one or two.
const MOST_SEEN: usize = 64;

impl Window {
    pub(super) fn new() -> io::Result<Self> {
        let name = wide("hark-hotkeys");
        // SAFETY: `name` outlives both calls, and the procedure has the type that Windows calls.
        // All else is null or zero, which stands for "none" in each of these fields.
        let handle = unsafe {
            let class = WNDCLASSW {
                lpfnWndProc: Some(procedure),
                hInstance: GetModuleHandleW(null()),
                lpszClassName: name.as_ptr(),
                ..zeroed()
            };
            // It fails if the class is there from before, which serves as well.
            RegisterClassW(&class);
            let (class, instance) = (name.as_ptr(), class.hInstance);
            CreateWindowExW(
                0,
                class,
                class,
                0,
                0,
                0,
                0,
                0,
                HWND_MESSAGE,
                null_mut(),
                instance,
                null(),
            )
        };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the window was just made by this thread.
        let told = unsafe { WTSRegisterSessionNotification(handle, NOTIFY_FOR_THIS_SESSION) };
        if told == 0 {
            let error = io::Error::last_os_error();
            tracing::debug!(%error, "Windows does not tell when the session is locked");
        }
        Ok(Self { handle, _not_send: PhantomData })
    }

    /// Receives the raw input of these devices from now on, or no more.
    pub(super) fn register(&self, class: Class, on: bool) -> io::Result<()> {
        let (flags, target) = if on {
            (RIDEV_INPUTSINK | RIDEV_DEVNOTIFY, self.handle)
        } else {
            (RIDEV_REMOVE, null_mut())
        };
        let device = RAWINPUTDEVICE {
            usUsagePage: GENERIC_DESKTOP,
            usUsage: class as u16,
            dwFlags: flags,
            hwndTarget: target,
        };
        // SAFETY: one device is passed, of the size that is named; the window is alive.
        match unsafe { RegisterRawInputDevices(&device, 1, size_of_u32::<RAWINPUTDEVICE>()) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// The next message, if there is any.
    pub(super) fn next(&self) -> Option<Message> {
        if let Some(message) = SEEN.with_borrow_mut(VecDeque::pop_front) {
            return Some(message);
        }
        // SAFETY: a MSG is made of numbers and pointers that Windows fills in; zero is valid.
        let mut message: MSG = unsafe { zeroed() };
        // SAFETY: `message` is valid to write to; no window stands for all of this thread.
        if unsafe { PeekMessageW(&mut message, null_mut(), 0, 0, PM_REMOVE) } == 0 {
            return None;
        }
        let raw = (message.message == WM_INPUT).then(|| read_raw(message.lParam)).flatten();
        // SAFETY: the message was just taken from the queue. Raw input is freed by this.
        unsafe { DispatchMessageW(&message) };
        let raw = raw.or_else(|| SEEN.with_borrow_mut(VecDeque::pop_front));
        Some(raw.unwrap_or(Message::Other))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the window is of this thread and alive until here.
        unsafe {
            WTSUnRegisterSessionNotification(self.handle);
            DestroyWindow(self.handle);
        }
    }
}

/// Notes what the window is told. It runs on the window's thread only.
unsafe extern "system" fn procedure(
    window: HWND,
    message: u32,
    first: WPARAM,
    second: LPARAM,
) -> LRESULT {
    let seen = match message {
        WM_INPUT_DEVICE_CHANGE if first == GIDC_REMOVAL as usize => {
            Some(Message::Removed(DeviceId(second as usize)))
        }
        WM_INPUT_DEVICE_CHANGE => Some(Message::Arrived),
        WM_WTSSESSION_CHANGE => match first as u32 {
            WTS_SESSION_LOCK => Some(Message::Locked(true)),
            WTS_SESSION_UNLOCK => Some(Message::Locked(false)),
            _ => None,
        },
        _ => None,
    };
    if let Some(seen) = seen {
        SEEN.with(|queue| {
            if let Ok(mut queue) = queue.try_borrow_mut()
                && queue.len() < MOST_SEEN
            {
                queue.push_back(seen);
            }
        });
    }
    // SAFETY: these are the arguments that Windows called with.
    unsafe { DefWindowProcW(window, message, first, second) }
}

/// Reads the raw input that a message stands for.
fn read_raw(handle: LPARAM) -> Option<Message> {
    // Words keep it aligned as Windows wants it.
    let mut buffer = [0_u64; LONGEST_INPUT / 8];
    let mut size = LONGEST_INPUT as u32;
    let header_size = size_of_u32::<RAWINPUTHEADER>();
    // SAFETY: the buffer has the size that is named. A handle that has ended is only an error.
    let read = unsafe {
        GetRawInputData(handle as _, RID_INPUT, buffer.as_mut_ptr().cast(), &mut size, header_size)
    };
    let read = usize::try_from(read).ok().filter(|read| *read <= LONGEST_INPUT)?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(read).collect();
    let header: RAWINPUTHEADER = read_at(&bytes, 0)?;
    let data = size_of::<RAWINPUTHEADER>();
    match header.dwType {
        RIM_TYPEKEYBOARD => {
            let key: RAWKEYBOARD = read_at(&bytes, data)?;
            Some(Message::Key { make_code: key.MakeCode, flags: key.Flags, virtual_key: key.VKey })
        }
        RIM_TYPEMOUSE => {
            let mouse: RAWMOUSE = read_at(&bytes, data)?;
            // SAFETY: both forms of this union are plain numbers.
            let buttons = unsafe { mouse.Anonymous.Anonymous.usButtonFlags };
            Some(Message::Mouse { buttons })
        }
        RIM_TYPEHID => {
            let [size, count]: [u32; 2] = read_at(&bytes, data)?;
            let size = usize::try_from(size).ok()?;
            let length = size.checked_mul(usize::try_from(count).ok()?)?;
            let reports = bytes.get(data + 8..)?.get(..length)?;
            let device = DeviceId(header.hDevice as usize);
            Some(Message::Reports { device, size, bytes: reports.to_vec() })
        }
        _ => None,
    }
}

/// A structure that Windows wrote at this place, `None` if it does not fit there.
fn read_at<T: Copy>(bytes: &[u8], at: usize) -> Option<T> {
    let bytes = bytes.get(at..)?.get(..size_of::<T>())?;
    // SAFETY: there are as many bytes as T has, unaligned reads are asked for, and all T that are
    // used here are numbers, raw pointers and unions of those: any bytes are valid.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// This thread, for [`wake`]. It makes the queue that wakes go to.
pub(super) fn this_thread() -> u32 {
    // SAFETY: a MSG of zeros is valid and valid to write to; nothing is removed from the queue.
    unsafe {
        let mut message: MSG = zeroed();
        PeekMessageW(&mut message, null_mut(), 0, 0, PM_NOREMOVE);
        GetCurrentThreadId()
    }
}

/// Wakes the thread of that number.
pub(super) fn wake(thread: u32) {
    // SAFETY: only numbers are passed. A thread that has ended is only an error.
    unsafe { PostThreadMessageW(thread, WM_APP, 0, 0) };
}

/// Waits for a message, for the timer's next beat, or for `timeout`.
pub(super) fn wait(timer: Option<&Timer>, timeout: Option<Duration>) {
    let milliseconds = timeout.map_or(u32::MAX, |timeout| {
        u32::try_from(timeout.as_millis().saturating_add(1)).unwrap_or(u32::MAX - 1)
    });
    let handle = timer.map_or(null_mut(), |timer| timer.0);
    // SAFETY: one handle is passed if there is a timer, which is alive, else none is read.
    unsafe {
        MsgWaitForMultipleObjectsEx(
            u32::from(timer.is_some()),
            &handle,
            milliseconds,
            QS_ALLINPUT,
            MWMO_INPUTAVAILABLE,
        )
    };
}

/// A timer that beats in a steady interval.
pub(super) struct Timer(HANDLE);

impl Timer {
    pub(super) fn new(interval: Duration) -> io::Result<Self> {
        let milliseconds = i32::try_from(interval.as_millis()).unwrap_or(i32::MAX);
        // In units of 100 ns; below zero is from now on.
        let first = -i64::from(milliseconds) * 10_000;
        // SAFETY: no name and no attributes are passed; `first` outlives the call.
        unsafe {
            // The finer kind exists since Windows 10 1803. The other beats at 64 Hz.
            let mut timer = CreateWaitableTimerExW(
                null(),
                null(),
                CREATE_WAITABLE_TIMER_HIGH_RESOLUTION,
                TIMER_ALL_ACCESS,
            );
            if timer.is_null() {
                timer = CreateWaitableTimerExW(null(), null(), 0, TIMER_ALL_ACCESS);
            }
            if timer.is_null() {
                return Err(io::Error::last_os_error());
            }
            let timer = Self(timer);
            match SetWaitableTimer(timer.0, &first, milliseconds, None, null(), 0) {
                0 => Err(io::Error::last_os_error()),
                _ => Ok(timer),
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is used no more.
        unsafe { CloseHandle(self.0) };
    }
}

/// Whether the key or mouse button of this virtual code is down, whoever has the focus.
pub(super) fn is_down(virtual_key: u16) -> bool {
    // SAFETY: only a number is passed.
    unsafe { GetAsyncKeyState(i32::from(virtual_key)) < 0 }
}

/// The virtual code of a scan code with its prefix in the upper byte, 0 if there is none.
pub(super) fn virtual_key(scan_code: u16) -> u16 {
    // SAFETY: only numbers are passed.
    let code = unsafe { MapVirtualKeyW(u32::from(scan_code), MAPVK_VSC_TO_VK_EX) };
    u16::try_from(code).unwrap_or(0)
}

/// The scan code of a virtual code, with its prefix in the upper byte, 0 if there is none.
pub(super) fn scan_code(virtual_key: u16) -> u16 {
    // SAFETY: only numbers are passed.
    let code = unsafe { MapVirtualKeyW(u32::from(virtual_key), MAPVK_VK_TO_VSC_EX) };
    u16::try_from(code).unwrap_or(0)
}

/// What an Xbox pad reports, `None` if there is none at this place.
pub(super) fn xbox_pad(place: u32) -> Option<XboxReport> {
    let mut state = XINPUT_STATE::default();
    // SAFETY: `state` is valid to write to.
    let found = unsafe { XInputGetState(place, &mut state) } == 0;
    let pad = state.Gamepad;
    found.then_some(XboxReport {
        buttons: pad.wButtons,
        triggers: (pad.bLeftTrigger, pad.bRightTrigger),
        left: (pad.sThumbLX, pad.sThumbLY),
        right: (pad.sThumbRX, pad.sThumbRY),
    })
}

/// Whether the program that has the focus runs as administrator and we do not.
pub(super) fn focus_is_elevated() -> bool {
    let mut process = 0;
    // SAFETY: `process` is valid to write to. A window that has ended leaves it at 0.
    unsafe { GetWindowThreadProcessId(GetForegroundWindow(), &mut process) };
    if process == 0 || is_elevated(None) == Some(true) {
        return false;
    }
    is_elevated(Some(process)).unwrap_or(false)
}

/// Whether a process runs as administrator, `None` if that cannot be told. Our own for `None`.
fn is_elevated(process: Option<u32>) -> Option<bool> {
    // SAFETY: each handle is checked before it is used and closed once; the answer has the size
    // that is named.
    unsafe {
        let handle = match process {
            None => GetCurrentProcess(),
            Some(id) => OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, id),
        };
        if handle.is_null() {
            return (GetLastError() == ERROR_ACCESS_DENIED).then_some(true);
        }
        let mut token = null_mut();
        let opened = OpenProcessToken(handle, TOKEN_QUERY, &mut token) != 0;
        let denied = !opened && GetLastError() == ERROR_ACCESS_DENIED;
        if process.is_some() {
            CloseHandle(handle);
        }
        if !opened {
            return denied.then_some(true);
        }
        let mut answer = TOKEN_ELEVATION { TokenIsElevated: 0 };
        let mut size = size_of_u32::<TOKEN_ELEVATION>();
        let into = (&raw mut answer).cast();
        let told = GetTokenInformation(token, TokenElevation, into, size, &mut size) != 0;
        CloseHandle(token);
        told.then_some(answer.TokenIsElevated != 0)
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The size of one of Windows' structures, as Windows wants it.
const fn size_of_u32<T>() -> u32 {
    size_of::<T>() as u32
}

/// The usage page of mice, keyboards and pads.
const GENERIC_DESKTOP: u16 = 1;

/// The longest raw input that is read. A longer one, which no pad sends, is passed over.
const LONGEST_INPUT: usize = 4096;
