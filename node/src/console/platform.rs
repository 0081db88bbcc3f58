//! Consoles, as each operating system gives them to programs.

/// Every program has standard error.
#[cfg(not(windows))]
mod system {
    pub(crate) fn attach() {}

    pub(crate) fn has_standard_error() -> bool {
        true
    }

    pub(crate) fn show(_: &str) {}
}

#[cfg(windows)]
mod system {
    use std::ptr::null_mut;

    use windows_sys::Win32::{
        Foundation::INVALID_HANDLE_VALUE,
        System::Console::{ATTACH_PARENT_PROCESS, AttachConsole, GetStdHandle, STD_ERROR_HANDLE},
        UI::WindowsAndMessaging::{MB_ICONERROR, MB_OK, MessageBoxW},
    };

    pub(crate) fn attach() {
        if !has_standard_error() {
            // SAFETY: the argument is a number. It does not matter whether there is a console.
            unsafe { AttachConsole(ATTACH_PARENT_PROCESS) };
        }
    }

    pub(crate) fn has_standard_error() -> bool {
        // SAFETY: the argument is a number.
        let handle = unsafe { GetStdHandle(STD_ERROR_HANDLE) };
        !handle.is_null() && handle != INVALID_HANDLE_VALUE
    }

    pub(crate) fn show(line: &str) {
        let wide = |text: &str| text.encode_utf16().chain([0]).collect::<Vec<u16>>();
        // SAFETY: both texts end with zero and live until the person has closed the dialog.
        unsafe {
            MessageBoxW(
                null_mut(),
                wide(line).as_ptr(),
                wide("Hark").as_ptr(),
                MB_OK | MB_ICONERROR,
            )
        };
    }
}

pub(super) use system::{attach, has_standard_error, show};
