//! The end of a Windows session: the person logs off, or the machine shuts down.
//!
//! Windows tells it to windows. A console's handler does not hear of it once a program has loaded
//! the library of windows, which sound does. So a window that nobody sees waits for it.

use std::{
    ptr::{null, null_mut},
    sync::Once,
    thread,
    time::Duration,
};

use tokio::sync::Notify;
use windows_sys::Win32::{
    Foundation::{HWND, LPARAM, LRESULT, WPARAM},
    UI::WindowsAndMessaging::{
        CreateWindowExW, DefWindowProcW, DispatchMessageW, GetMessageW, MSG, RegisterClassW,
        WM_ENDSESSION, WM_QUERYENDSESSION, WNDCLASSW,
    },
};

/// How long the end of the session waits for the goodbye. Windows waits 5 s at most.
const GOODBYE: Duration = Duration::from_secs(4);

static ENDING: Notify = Notify::const_new();

/// Ends when the session does.
pub(super) async fn ended() {
    ENDING.notified().await;
}

/// Starts to wait for the end of the session. Without a desktop there is none to wait for.
pub(super) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let thread = thread::Builder::new().name("hark-session".to_owned()).spawn(wait);
        if let Err(error) = thread {
            tracing::debug!(%error, "the end of the session is not seen");
        }
    });
}

fn wait() {
    let name: Vec<u16> = "hark-session\0".encode_utf16().collect();
    let class = WNDCLASSW {
        lpfnWndProc: Some(handle),
        lpszClassName: name.as_ptr(),
        ..WNDCLASSW::default()
    };
    let mut message = MSG::default();
    // SAFETY: the class and its name live for as long as this thread, which never shows the window.
    // The message's place is valid, and only this thread uses it.
    unsafe {
        RegisterClassW(&raw const class);
        let (parent, menu, instance, data) = (null_mut(), null_mut(), null_mut(), null());
        let name = name.as_ptr();
        let window = CreateWindowExW(0, name, name, 0, 0, 0, 0, 0, parent, menu, instance, data);
        if window.is_null() {
            return;
        }
        while GetMessageW(&raw mut message, null_mut(), 0, 0) > 0 {
            DispatchMessageW(&raw const message);
        }
    }
}

unsafe extern "system" fn handle(
    window: HWND,
    message: u32,
    ends: WPARAM,
    reason: LPARAM,
) -> LRESULT {
    match message {
        WM_QUERYENDSESSION => 1,
        WM_ENDSESSION => {
            if ends != 0 {
                ENDING.notify_one();
                // The process may be ended as soon as this returns.
                thread::sleep(GOODBYE);
            }
            0
        }
        // SAFETY: the arguments are those that the system has given.
        _ => unsafe { DefWindowProcW(window, message, ends, reason) },
    }
}
