//! What asks a program to end: Ctrl-C, SIGTERM, the closing of its terminal; and whether the
//! terminal is its own just now.

mod platform;

use std::io;

/// The signals that ask the program to end, from now on; they no longer end it by themselves.
#[derive(Debug)]
pub struct EndSignals(platform::Signals);

impl EndSignals {
    /// Listens to them. Fails where the operating system has no room for that.
    pub fn listen() -> io::Result<Self> {
        platform::Signals::listen().map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}

/// Whether this process may read from and draw on the terminal that is its standard input. It may
/// not where a shell runs it in the background (`hark talk &`): the kernel would stop it.
#[cfg(feature = "device")]
pub fn owns_terminal() -> bool {
    crate::platform::owns_terminal()
}
