//! Lines to a person from a program that may have no console.

mod platform;

use std::io::Write as _;

/// Has a program with a window print on the console that it was started on, where a system gives
/// such a program none by itself.
pub fn attach() {
    platform::attach();
}

/// Prints a line on standard error. If the program has none, a dialog shows the line.
pub fn complain(line: &str) {
    if platform::has_standard_error() {
        // There is nowhere else to complain.
        let _ = writeln!(std::io::stderr(), "{line}");
    } else {
        platform::show(line);
    }
}
