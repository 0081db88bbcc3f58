//! Keeps ALSA from writing to standard error: there it would tear a person's screen, and what it has
//! to say reaches us as an error anyway.

/// Silences ALSA for the rest of the process; cheap when it has happened already.
#[cfg(target_os = "linux")]
pub(super) fn hush() {
    use std::{
        ffi::{c_char, c_int},
        sync::Once,
    };

    /// The type of ALSA's error handlers: file, line, function, error number, format, and what
    /// belongs into the format.
    type Handler =
        unsafe extern "C" fn(*const c_char, c_int, *const c_char, c_int, *const c_char, ...);

    // cpal links the library that has it.
    unsafe extern "C" {
        fn snd_lib_error_set_handler(handler: Option<Handler>) -> c_int;
    }

    extern "C" fn ignore(
        _file: *const c_char,
        _line: c_int,
        _function: *const c_char,
        _error: c_int,
        _format: *const c_char,
    ) {
    }

    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let ignore = ignore as extern "C" fn(_, _, _, _, _);
        // SAFETY: Rust cannot define a function with variable arguments. By the C calling
        // conventions of Linux the caller cleans up, and the named arguments of such a call lie
        // where those of an ordinary one do; `ignore` reads none of them.
        let handler =
            unsafe { std::mem::transmute::<extern "C" fn(_, _, _, _, _), Handler>(ignore) };
        // SAFETY: the handler lives as long as the process. Replacing one cannot fail.
        unsafe { snd_lib_error_set_handler(Some(handler)) };
    });
}

/// Other systems have no ALSA.
#[cfg(not(target_os = "linux"))]
pub(super) fn hush() {}
