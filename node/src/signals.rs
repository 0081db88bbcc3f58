//! Requests that ask a program to end: Ctrl-C, SIGTERM, and the closing of its terminal. Also shows
//! whether the terminal belongs to the program at present.

mod platform;

use std::io;

/// Receives the signals that ask the program to end. From now on they no longer end it by
/// themselves.
#[derive(Debug)]
pub struct EndSignals(platform::Signals);

impl EndSignals {
    /// Begins to receive the signals. Fails if the operating system has no resources for that.
    pub fn listen() -> io::Result<Self> {
        platform::Signals::listen().map(Self)
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}

/// Whether this process may read from and draw on the terminal that is its standard input. It may
/// not if a shell runs it in the background (`hark talk &`): the kernel would stop it.
#[cfg(feature = "device")]
pub fn owns_terminal() -> bool {
    crate::platform::owns_terminal()
}
