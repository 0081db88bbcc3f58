//! The port that the router of this network gives to the node.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::JoinHandle,
};

use super::Input;
use crate::{
    clock::Clock,
    random::SystemRandom,
    reach::ports::{self, PortReport, Surroundings},
};

/// The router, asked beside all else.
pub(super) struct Router {
    listening: watch::Sender<Vec<SocketAddr>>,
    task: JoinHandle<()>,
    report: PortReport,
}

impl Router {
    /// Asks from now on; what comes of it arrives as inputs.
    pub(super) fn ask(
        surroundings: Box<dyn Surroundings>,
        clock: Clock,
        inputs: UnboundedSender<Input>,
    ) -> Self {
        let (listening, receiver) = watch::channel(Vec::new());
        let tell = move |report| {
            // The node may have ended meanwhile.
            let _ = inputs.send(Input::Router(report));
        };
        let random = Arc::new(SystemRandom);
        let task = tokio::spawn(ports::run(surroundings, receiver, random, clock, tell));
        Self { listening, task, report: PortReport::default() }
    }

    /// Where the node listens.
    pub(super) fn set_listening(&self, addresses: &BTreeSet<SocketAddr>) {
        self.listening.send_if_modified(|known| {
            let changed = !known.iter().eq(addresses);
            if changed {
                *known = addresses.iter().copied().collect();
            }
            changed
        });
    }

    /// What has come of it.
    pub(super) fn report(&self) -> PortReport {
        self.report
    }

    /// Takes a newer report; returns whether the outside reaches this device elsewhere now.
    pub(super) fn set_report(&mut self, report: PortReport) -> bool {
        let before = std::mem::replace(&mut self.report, report);
        if before.mapped() != report.mapped() {
            match report.mapped() {
                Some((by, external)) if report.is_double_nat() => tracing::info!(
                    %external, by, "the router gives a port and is behind another NAT itself"
                ),
                Some((by, external)) => tracing::info!(%external, by, "the router gives a port"),
                None => tracing::info!("the router gives no port any more"),
            }
        }
        before.reachable() != report.reachable()
    }

    /// Gives the port back.
    pub(super) async fn leave(self) {
        drop(self.listening);
        // A router that is slow to answer forgets the port by itself, later.
        let _ = tokio::time::timeout(GOODBYE, self.task).await;
    }
}

/// How long giving back a port may take.
const GOODBYE: Duration = Duration::from_millis(600);
