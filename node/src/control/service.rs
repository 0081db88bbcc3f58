use std::{sync::Arc, thread::JoinHandle};

use tokio::sync::oneshot;

use super::{ControlServer, Controlled};
use crate::{
    random::SystemRandom,
    store::{OrganisationStore, StoreError},
};

/// The reason why the local API cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The system provides no thread, or no socket on the loopback interface.
    #[error("the local API does not open: {0}")]
    System(#[from] std::io::Error),
    /// The address cannot be written to the organisation's folder.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The local API of a node, on a thread of its own. Its address is in the organisation's folder for
/// as long as it runs. It ends when it is dropped.
pub struct ControlService {
    store: OrganisationStore,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ControlService {
    /// Opens the API of `node`, which runs the organisation of `store`.
    pub fn start(
        node: Arc<dyn Controlled>,
        store: OrganisationStore,
    ) -> Result<Self, ServiceError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = runtime.block_on(ControlServer::start(node, &SystemRandom))?;
        store.keep_control(&server.description())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread =
            std::thread::Builder::new().name("hark-control".to_owned()).spawn(move || {
                // The sender is only ever dropped.
                let _ = runtime.block_on(stopped);
                drop(server);
            })?;
        Ok(Self { store, running: Some((stop, thread)) })
    }
}

impl Drop for ControlService {
    fn drop(&mut self) {
        self.store.forget_control();
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // The panic hook has reported a panic of that thread; nothing is left to do here.
            let _ = thread.join();
        }
    }
}
