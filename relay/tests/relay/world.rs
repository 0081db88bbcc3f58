//! A relay without a network: everything except the carriers is the program's own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use hark_keys::{DeviceId, DeviceKey, OrganisationId, SeededRandom, UnixTime};
use hark_node::{clock::Clock, swarm::SwarmError};
use hark_relay::{
    admin::{Admin, AdminServer},
    carrier::{
        Assignment, Carrier, CarrierCommand, CarrierSnapshot, Occupancy, Session, StartCarrier,
    },
    config::OrganisationConfig,
    error::RelayError,
    event::{Events, RelayEvent},
    home::RelayHome,
    metering::MeteredTraffic,
    tenants::{Tenants, TenantsConfig},
    text::Text,
};
use serde_json::Value;

use crate::http::{self, Answer};

/// The fake carrier of one organisation: what it was commanded, and what it reports.
pub(crate) struct Fake {
    pub(crate) assignment: Assignment,
    pub(crate) commands: Mutex<Vec<CarrierCommand>>,
    pub(crate) snapshot: Mutex<CarrierSnapshot>,
    pub(crate) stopped: Mutex<Option<String>>,
}

struct FakeCarrier(Arc<Fake>);

impl Carrier for FakeCarrier {
    fn command(&self, command: CarrierCommand) {
        self.0.commands.lock().expect("unpoisoned").push(command);
    }

    fn snapshot(&self) -> Arc<CarrierSnapshot> {
        Arc::new(self.0.snapshot.lock().expect("unpoisoned").clone())
    }

    fn stop(self: Box<Self>, reason: &str) -> MeteredTraffic {
        *self.0.stopped.lock().expect("unpoisoned") = Some(reason.to_owned());
        self.0.snapshot.lock().expect("unpoisoned").traffic
    }
}

pub(crate) type Fakes = Arc<Mutex<BTreeMap<OrganisationId, Arc<Fake>>>>;

pub(crate) struct World {
    pub(crate) fakes: Fakes,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) events: Arc<Events>,
    pub(crate) token: String,
    pub(crate) address: SocketAddr,
    running: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
}

/// A port that is always in use.
pub(crate) const TAKEN: u16 = 9;

impl World {
    pub(crate) fn start(
        home: &Path,
        organisations: &[(OrganisationId, OrganisationConfig)],
    ) -> Self {
        let home = RelayHome::open(home, Box::new(|| None)).expect("a home");
        let token = home.token(&SeededRandom::new(1)).expect("a token");
        let audit = home.audit();
        let (events, _) = Events::new(Clock, None).expect("no file");
        let fakes = Fakes::default();
        let known = Arc::clone(&fakes);
        let start: StartCarrier = Box::new(move |assignment| {
            let listen = assignment.listen.clone();
            if listen.iter().any(|address| address.port() == TAKEN) {
                let reason = SwarmError::Listen("it is taken".to_owned());
                return Err(RelayError::Listen { address: listen[0], reason });
            }
            let organisation = assignment.organisation;
            let fake = Arc::new(Fake {
                assignment,
                commands: Mutex::default(),
                snapshot: Mutex::new(CarrierSnapshot { listen, ..CarrierSnapshot::default() }),
                stopped: Mutex::default(),
            });
            known.lock().expect("unpoisoned").insert(organisation, Arc::clone(&fake));
            Ok(Box::new(FakeCarrier(fake)))
        });
        let tenants = Tenants::start(TenantsConfig {
            home,
            organisations: organisations.iter().cloned().collect(),
            listen: vec!["192.0.2.1:7300".parse().expect("an address")],
            start,
            events: Arc::clone(&events),
            clock: Clock,
        });
        let tenants = Arc::new(tenants.expect("all start"));
        let text = token.text().to_owned();
        let admin = Admin::new(Arc::clone(&tenants), Arc::clone(&events), audit, token, Clock);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (sender, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let any = "127.0.0.1:0".parse().expect("an address");
                let server = AdminServer::start(admin, any).await.expect("a free port");
                sender.send(server.address()).expect("awaited");
                let _ = stopped.await;
            });
        });
        let address = address.recv().expect("started");
        let running = Some((stop, thread));
        Self { fakes, tenants, events, token: text, address, running }
    }

    /// Ends the relay as the program does.
    pub(crate) fn stop(mut self) {
        let (stop, thread) = self.running.take().expect("stopped once");
        drop(stop);
        thread.join().expect("ends well");
        self.tenants.stop("signal");
        // From here on another relay may use the home.
        let tenants = Arc::try_unwrap(self.tenants);
        assert!(tenants.is_ok(), "nobody holds the tenants any more");
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        http::ask(self.address, Some(&self.token), method, path, body)
    }

    /// Reads the path; the answer must be 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Makes a change; the answer must be 200.
    pub(crate) fn done(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn fake(&self, id: OrganisationId) -> Arc<Fake> {
        Arc::clone(&self.fakes.lock().expect("unpoisoned")[&id])
    }

    /// The commands to the carrier since the last call.
    pub(crate) fn commands(&self, id: OrganisationId) -> Vec<CarrierCommand> {
        std::mem::take(&mut *self.fake(id).commands.lock().expect("unpoisoned"))
    }

    pub(crate) fn publish(&self, id: OrganisationId, event: &RelayEvent) {
        self.events.publish(Some(id), event);
    }
}

pub(crate) fn organisation(number: u8) -> OrganisationId {
    OrganisationId::from_bytes([number; 32])
}

pub(crate) fn device(number: u8) -> DeviceId {
    DeviceKey::from_secret(&[number; 32]).id()
}

/// An organisation of the configuration file, with a name and nothing else.
pub(crate) fn named(number: u8, name: &str) -> (OrganisationId, OrganisationConfig) {
    let config =
        OrganisationConfig { name: Some(name.to_owned()), ..OrganisationConfig::default() };
    (organisation(number), config)
}

pub(crate) fn traffic(packets: u64) -> MeteredTraffic {
    MeteredTraffic {
        packets_in: packets,
        bytes_in: 100 * packets,
        packets_out: 3 * packets,
        bytes_out: 300 * packets,
    }
}

/// Puts two devices on one channel into a snapshot.
pub(crate) fn busy(snapshot: &mut CarrierSnapshot) {
    let channel = Text(hark_keys::ChannelId::from_bytes([5; 16]));
    snapshot.name = Some("Falcon".to_owned());
    snapshot.named = true;
    snapshot.sessions = [1, 2]
        .map(|number| Session {
            device: Text(device(number)),
            member: None,
            address: format!("192.0.2.{number}:40000"),
            since: UnixTime::from_secs(1_795_219_200),
            channels: vec![channel],
            traffic: traffic(number.into()),
            dropped: 7,
        })
        .to_vec();
    snapshot.channels = vec![Occupancy { channel, name: Some("Alpha".to_owned()), listeners: 2 }];
    snapshot.traffic = traffic(3);
    snapshot.dropped = BTreeMap::from([("late".to_owned(), 14)]);
}
