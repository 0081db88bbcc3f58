//! What asks a program to end: Ctrl-C, SIGTERM, the closing of its terminal; and whether the
//! terminal is its own just now.

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

#[cfg(unix)]
mod platform {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    #[derive(Debug)]
    pub(super) struct Signals([Signal; 3]);

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [interrupt, terminate, hangup] = kinds.map(signal);
            Ok(Self([interrupt?, terminate?, hangup?]))
        }

        pub(super) async fn next(&mut self) {
            let [interrupt, terminate, hangup] = &mut self.0;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
    }
}

#[cfg(windows)]
mod platform {
    use std::io;

    use tokio::signal::windows::{CtrlC, CtrlClose, ctrl_c, ctrl_close};

    #[derive(Debug)]
    pub(super) struct Signals(CtrlC, CtrlClose);

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self(ctrl_c()?, ctrl_close()?))
        }

        pub(super) async fn next(&mut self) {
            tokio::select! {
                _ = self.0.recv() => {}
                _ = self.1.recv() => {}
            }
        }
    }
}
