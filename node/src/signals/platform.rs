//! The signals that ask a program to end, on each operating system.

#[cfg(windows)]
mod session;

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    #[derive(Debug)]
    pub(crate) struct Signals([Signal; 3]);

    impl Signals {
        pub(crate) fn listen() -> io::Result<Self> {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [interrupt, terminate, hangup] = kinds.map(signal);
            Ok(Self([interrupt?, terminate?, hangup?]))
        }

        pub(crate) async fn next(&mut self) {
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
mod system {
    use std::io;

    use tokio::signal::windows::{CtrlC, CtrlClose, ctrl_c, ctrl_close};

    use super::session;

    #[derive(Debug)]
    pub(crate) struct Signals(CtrlC, CtrlClose);

    impl Signals {
        pub(crate) fn listen() -> io::Result<Self> {
            session::watch();
            Ok(Self(ctrl_c()?, ctrl_close()?))
        }

        pub(crate) async fn next(&mut self) {
            tokio::select! {
                _ = self.0.recv() => {}
                _ = self.1.recv() => {}
                () = session::ended() => {}
            }
        }
    }
}

pub(super) use system::Signals;
