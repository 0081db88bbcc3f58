//! A rented relay: the real carrier of `hark-relay` on a simulated machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hark_charter::Charter;
use hark_keys::{DeviceId, DeviceKey, OrganisationId};
use hark_node::{relay::Egress, store::Files};
use hark_relay::{
    carrier::Assignment,
    home::TenantStore,
    runner::{self, Machine, Remote},
    state::Quotas,
};
pub(crate) use hark_relay::{carrier::CarrierCommand, event::RelayEvent};
use rand::RngCore;

use crate::{
    context,
    disk::MemoryDisk,
    malice::{self, Loot, People},
    network::Fabric,
    random::stream,
    scenario::ScenarioRelay,
    witness::Witness,
};

/// The parts of a relay's machine that outlive its processes, and the access to the process that
/// runs.
pub(crate) struct Station {
    name: String,
    quotas: Quotas,
    secret: [u8; 32],
    host: usize,
    fabric: Fabric,
    egress: Arc<dyn Egress>,
    /// The machine's disk.
    pub(crate) disk: MemoryDisk,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    organisation: Option<OrganisationId>,
    run: Option<Remote>,
    events: Vec<RelayEvent>,
    /// The hash of the charter that was read last.
    charter: Option<[u8; 32]>,
}

impl Station {
    /// A machine on which nothing runs yet.
    pub(crate) fn new(
        relay: &ScenarioRelay,
        (host, fabric): (usize, Fabric),
        (people, witness): (&People, &Witness),
        seed: u64,
    ) -> Arc<Self> {
        let name = relay.name.get_ref().clone();
        let mut secret = [0; 32];
        stream(seed, &format!("relay {name}")).fill_bytes(&mut secret);
        let quotas =
            Quotas { members: relay.members.into(), kbps: relay.kbps, ..Quotas::default() };
        let (disk, state) = (MemoryDisk::default(), Mutex::default());
        let told = (people, &Loot::default(), witness);
        let egress = malice::egress((host, &name), relay.malice.as_ref(), told, seed);
        Arc::new(Self { name, quotas, secret, host, fabric, egress, disk, state })
    }

    /// The relay's identity in the organisation.
    pub(crate) fn device(&self) -> DeviceId {
        DeviceKey::from_secret(&self.secret).id()
    }

    /// The address where the relay listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (self.fabric.address(self.host), PORT).into()
    }

    /// Sets the organisation that the relay serves from its next start on.
    pub(crate) fn assign(&self, organisation: OrganisationId) {
        self.lock().organisation = Some(organisation);
    }

    /// Sends a command to the relay; does nothing if it does not run.
    pub(crate) fn command(&self, command: CarrierCommand) {
        if let Some(run) = &self.lock().run {
            run.command(command);
        }
    }

    /// Makes the relay say goodbye and end.
    pub(crate) fn stop(&self) {
        if let Some(run) = &self.lock().run {
            run.stop("signal");
        }
    }

    /// Forgets the process, which has ended.
    pub(crate) fn clear(&self) {
        self.lock().run = None;
    }

    /// The charter on the machine's disk, if it differs from that at the last call.
    pub(crate) fn new_charter(&self) -> Option<Charter> {
        let file = self.disk.file("charter")?;
        let digest = *blake3::hash(&file).as_bytes();
        let before = self.lock().charter.replace(digest);
        if before == Some(digest) { None } else { Charter::restore(&file).ok() }
    }

    /// The events since the last call.
    pub(crate) fn take_events(&self) -> Vec<RelayEvent> {
        std::mem::take(&mut self.lock().events)
    }

    /// Runs one process from its start to its end.
    pub(crate) async fn live(self: Arc<Self>) {
        context::enter_host(&self.name);
        let Some(organisation) = self.lock().organisation else { return };
        let (remote, control) = runner::remote();
        self.lock().run = Some(remote);
        let station = Arc::clone(&self);
        let assignment = Assignment {
            organisation,
            key: DeviceKey::from_secret(&self.secret),
            store: TenantStore::new(Files(Arc::new(self.disk.clone())), PathBuf::from(FOLDER)),
            listen: vec![(Ipv4Addr::UNSPECIFIED, PORT).into()],
            quotas: self.quotas,
            banned: Default::default(),
            draining: false,
            tell: Arc::new(move |event| station.lock().events.push(event.clone())),
        };
        let machine = Machine {
            binder: Box::new(self.fabric.binder(self.host)),
            egress: Arc::clone(&self.egress),
            worker: Arc::new(|work| {
                tokio::spawn(async move { work() });
            }),
            may_gather: Arc::default(),
        };
        let ended = runner::carry(assignment, machine, control, |_| ()).await;
        let reason = ended.map_or_else(|error| format!("{error:#}"), |(_, reason)| reason);
        self.lock().events.push(RelayEvent::Stopped { reason });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The port where every relay listens.
const PORT: u16 = 4_870;

/// The folder of the organisation on the machine's disk.
const FOLDER: &str = "/var/lib/hark-relay";
