//! Signals that ask the program to end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hark_node::signals::EndSignals;

/// Whether the program was asked to end by Ctrl-C, by SIGTERM or by the closing of its terminal.
#[derive(Clone, Debug)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Listens for the signals from now on. They no longer end the program by themselves.
    pub fn listen() -> anyhow::Result<Self> {
        Self::listen_and(|| {})
    }

    /// The same, and calls `wake` on another thread whenever one comes.
    pub fn listen_and(wake: impl Fn() + Send + 'static) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, listening) = std::sync::mpsc::channel();
        thread::Builder::new().name("hark-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let signals = EndSignals::listen();
                let _ = ready.send(signals.is_ok());
                if let Ok(mut signals) = signals {
                    loop {
                        signals.next().await;
                        flag.store(true, Ordering::Relaxed);
                        wake();
                    }
                }
            });
        })?;
        anyhow::ensure!(listening.recv() == Ok(true), "cannot listen to signals");
        Ok(Self(asked))
    }

    /// Whether one has come.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
