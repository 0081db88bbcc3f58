//! Moves packets from stage to stage in virtual time.

mod state;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt, io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use serde::Serialize;

use self::state::{Host, Network, Packet, State, timestamp};
use super::{
    link::{LinkModel, SimulatedLink},
    nat::{Firewall, Nat},
    socket::{Inbox, SimBinder, Sockets},
    topology::{NetworkId, SitePlan, router},
    traffic::Flow,
};
use crate::{
    context,
    random::stream,
    record::{LinkRecord, NatRecord},
};

/// The whole network. Clones are the same network.
#[derive(Clone)]
pub struct Fabric(Arc<Mutex<State>>);

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fabric")
    }
}

/// Called for every packet that leaves a machine, arrives at one, or is lost.
pub type PacketWatcher = Box<dyn FnMut(&PacketEvent<'_>) + Send>;

/// Something that happened to a packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketEvent<'a> {
    /// The virtual time since the start.
    pub at: Duration,
    /// The place of the machine that sent the packet.
    pub origin: usize,
    /// The machine at which the packet arrives; `None` if it leaves or is lost.
    pub arrived: Option<usize>,
    /// Why the packet is lost; `None` if it is not.
    pub lost: Option<&'static str>,
    /// The source address and port that the packet shows.
    pub source: SocketAddrV4,
    /// The destination address and port that the packet shows.
    pub destination: SocketAddrV4,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Counts of packets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FabricStatistics {
    /// Packets that left a machine.
    pub sent: u64,
    /// Packets that arrived at a machine.
    pub arrived: u64,
    /// Packets that did not arrive, by cause.
    pub lost: BTreeMap<&'static str, u64>,
}

impl Fabric {
    /// The network that `plan` describes, with no packet under way.
    pub fn new(seed: u64, plan: &SitePlan) -> Self {
        let mut state = State {
            networks: Vec::new(),
            hosts: Vec::new(),
            events: BinaryHeap::new(),
            packets: 0,
            cuts: BTreeSet::new(),
            flows: Vec::new(),
            queues: Vec::new(),
            statistics: FabricStatistics::default(),
            watcher: None,
        };
        for network in &plan.networks {
            let link = |model: &LinkModel, way| {
                SimulatedLink::new(
                    model.clone(),
                    stream(seed, &format!("network {} {way}", network.name)),
                )
            };
            let external = match (&network.nat, network.parent) {
                (Some(_), Some(parent)) => Some(state.next_address(parent)),
                _ => None,
            };
            let nat = network.nat.as_ref().zip(external).map(|(model, external)| {
                let random = stream(seed, &format!("nat {}", network.name));
                Nat::new(model.clone(), vec![external], random)
            });
            state.networks.push(Network {
                parent: network.parent,
                external,
                nat,
                firewall: network.firewall.clone().map(Firewall::new),
                up: link(&network.up, "up"),
                down: link(&network.down, "down"),
                name: network.name.clone(),
                addresses: 0,
                dropped: BTreeMap::new(),
            });
        }
        for host in &plan.hosts {
            let link = |model: &LinkModel, way| {
                SimulatedLink::new(
                    model.clone(),
                    stream(seed, &format!("host {} {way}", host.name)),
                )
            };
            let address = state.next_address(host.network);
            state.hosts.push(Host {
                name: host.name.clone(),
                network: host.network,
                address,
                up: link(&host.up, "up"),
                down: link(&host.down, "down"),
                sockets: Sockets::new(),
                next_port: FIRST_PORT,
                interfaces: None,
                paused: false,
                held: Vec::new(),
            });
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// Has `watcher` called for every packet.
    pub fn watch(&self, watcher: PacketWatcher) {
        self.lock().watcher = Some(watcher);
    }

    /// Opens sockets on a machine.
    pub fn binder(&self, host: usize) -> SimBinder {
        SimBinder { fabric: self.clone(), host }
    }

    /// The address of a machine.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.lock().hosts[host].address
    }

    /// The counts of packets so far.
    pub fn statistics(&self) -> FabricStatistics {
        self.lock().statistics.clone()
    }

    /// The models of the links of a machine (`Ok`) or of a network (`Err`): up and down.
    pub fn models(&self, of: Result<usize, NetworkId>) -> (LinkModel, LinkModel) {
        let state = self.lock();
        let (up, down) = match of {
            Ok(host) => (&state.hosts[host].up, &state.hosts[host].down),
            Err(network) => (&state.networks[network].up, &state.networks[network].down),
        };
        (up.model().clone(), down.model().clone())
    }

    /// Records the queueing delay of every link.
    pub fn sample_queues(&self, now: Duration) {
        let mut state = self.lock();
        let waits: Vec<_> = state.links().map(|(_, link)| link.backlog(timestamp(now))).collect();
        state.queues.resize(waits.len(), Vec::new());
        for (queue, wait) in state.queues.iter_mut().zip(waits) {
            queue.push((now.as_secs_f64(), 1e3 * wait.as_secs_f64()));
        }
    }

    /// What every link has carried so far.
    pub fn link_records(&self) -> Vec<LinkRecord> {
        let mut state = self.lock();
        let mut queues = std::mem::take(&mut state.queues).into_iter();
        let queue = |queue: Vec<(f64, f64)>| {
            // The samples of a queue that was always empty are omitted.
            if queue.iter().any(|(_, ms)| *ms > 0.0) { queue } else { Vec::new() }
        };
        let links = state.links();
        let records = links
            .map(|(name, link)| link_record(name, link, queues.next().map_or(Vec::new(), queue)));
        records.collect()
    }

    /// What every gateway that translates addresses has done so far.
    pub fn nat_records(&self) -> Vec<NatRecord> {
        let state = self.lock();
        let translating = state.networks.iter().filter_map(|network| {
            let (external, nat) = (network.external?, network.nat.as_ref()?);
            Some(NatRecord {
                name: network.name.clone(),
                external_address: external.to_string(),
                mapping: nat.model().mapping.to_string(),
                filtering: nat.model().filtering.to_string(),
                mappings_created: nat.statistics().created,
                mappings_expired: nat.statistics().expired,
                mappings_peak: nat.statistics().peak,
                dropped: network.dropped.clone(),
            })
        });
        translating.collect()
    }

    /// Moves packets on until `now`, and wakes the readers of sockets that have received some.
    pub fn run_until(&self, now: Duration) {
        let mut state = self.lock();
        let mut readers = Vec::new();
        while state.events.peek().is_some_and(|Reverse(event)| event.at <= now) {
            let Some(Reverse(event)) = state.events.pop() else { break };
            state.handle(event, &mut readers);
        }
        state.send_flows(now);
        drop(state);
        // Outside the lock: a task that is woken may take it.
        readers.iter().for_each(Inbox::wake);
    }

    /// Sets new models for the links of a machine from now on; `None` keeps a direction as it is.
    pub fn set_host_links(&self, host: usize, up: Option<LinkModel>, down: Option<LinkModel>) {
        let now = timestamp(context::now());
        let host = &mut self.lock().hosts[host];
        if let Some(up) = up {
            host.up.set_model(now, up);
        }
        if let Some(down) = down {
            host.down.set_model(now, down);
        }
    }

    /// Sets new models for a network's links to the network above; `None` keeps a direction as it
    /// is.
    pub fn set_network_links(&self, id: NetworkId, up: Option<LinkModel>, down: Option<LinkModel>) {
        let now = timestamp(context::now());
        let network = &mut self.lock().networks[id];
        if let Some(up) = up {
            network.up.set_model(now, up);
        }
        if let Some(down) = down {
            network.down.set_model(now, down);
        }
    }

    /// Blocks all packets from `from` to `to`, or lets them pass again.
    pub fn set_cut(&self, from: usize, to: usize, cut: bool) {
        let mut state = self.lock();
        if cut {
            state.cuts.insert((from, to));
        } else {
            state.cuts.remove(&(from, to));
        }
    }

    /// Has a machine send `bytes` bytes to another, as fast as TCP would.
    pub fn transfer(&self, from: usize, to: usize, bytes: u64) {
        self.lock().flows.push(Flow::new(from, to, bytes));
    }

    /// Moves a machine to a network, where it gets a new address. A machine that stays in its own
    /// network gets a new address too.
    pub fn roam(&self, host: usize, network: NetworkId) {
        let mut state = self.lock();
        let new = state.next_address(network);
        let host = &mut state.hosts[host];
        let old = std::mem::replace(&mut host.address, new);
        host.network = network;
        if let Some(interfaces) = &host.interfaces {
            // A node that has ended no longer receives this.
            let _ = interfaces.unbounded_send((old, false));
            let _ = interfaces.unbounded_send((new, true));
        }
    }

    /// Restarts the gateway of a network, which loses its table of addresses.
    pub fn restart_gateway(&self, network: NetworkId) {
        if let Some(nat) = &mut self.lock().networks[network].nat {
            nat.forget();
        }
    }

    /// Pauses a machine, which holds what it sends and what arrives at it, or resumes it.
    pub fn set_paused(&self, host: usize, paused: bool) {
        let mut state = self.lock();
        state.hosts[host].paused = paused;
        if paused {
            return;
        }
        let now = context::now();
        for packet in std::mem::take(&mut state.hosts[host].held) {
            state.leave(now, packet);
        }
        let waiting: Vec<_> =
            state.hosts[host].sockets.values().filter(|inbox| !inbox.is_empty()).cloned().collect();
        drop(state);
        waiting.iter().for_each(Inbox::wake);
    }

    /// Whether a machine is paused.
    pub fn is_paused(&self, host: usize) -> bool {
        self.lock().hosts[host].paused
    }

    /// Closes everything that a machine has open, since its process has ended.
    pub fn crash(&self, host: usize) {
        let mut state = self.lock();
        let host = &mut state.hosts[host];
        host.sockets.clear();
        host.interfaces = None;
        host.held.clear();
        host.paused = false;
    }

    /// The address where a machine asks the gateway of its network for a port; `None` if the
    /// gateway opens no ports.
    pub(crate) fn router(&self, host: usize) -> Option<Ipv4Addr> {
        let state = self.lock();
        let network = state.hosts[host].network;
        let gives = state.networks[network].nat.as_ref().is_some_and(Nat::maps_ports);
        gives.then(|| router(network))
    }

    pub(super) fn open(
        &self,
        host: usize,
        wanted: SocketAddrV4,
    ) -> io::Result<(SocketAddrV4, Inbox)> {
        let mut state = self.lock();
        let host = &mut state.hosts[host];
        let port = if wanted.port() != 0 {
            wanted.port()
        } else {
            host.next_port += 1;
            host.next_port
        };
        if host.sockets.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = Inbox::default();
        host.sockets.insert(port, inbox.clone());
        Ok((SocketAddrV4::new(*wanted.ip(), port), inbox))
    }

    pub(super) fn close(&self, host: usize, port: u16) {
        self.lock().hosts[host].sockets.remove(&port);
    }

    pub(super) fn interfaces(&self, host: usize) -> UnboundedReceiver<(Ipv4Addr, bool)> {
        let (sender, receiver) = unbounded();
        let mut state = self.lock();
        let host = &mut state.hosts[host];
        // The receiver exists, so this cannot fail.
        let _ = sender.unbounded_send((host.address, true));
        host.interfaces = Some(sender);
        receiver
    }

    pub(super) fn send(
        &self,
        host: usize,
        local: SocketAddrV4,
        destination: SocketAddrV4,
        payload: &[u8],
    ) {
        let mut state = self.lock();
        let source = SocketAddrV4::new(state.hosts[host].address, local.port());
        let payload = Bytes::copy_from_slice(payload);
        let packet = Packet { origin: host, source, destination, payload, hops: 0 };
        if state.hosts[host].paused {
            state.hosts[host].held.push(packet);
        } else {
            state.leave(context::now(), packet);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn link_record(name: String, link: &SimulatedLink, queue_ms: Vec<(f64, f64)>) -> LinkRecord {
    let statistics = link.statistics();
    let lost = [
        ("too long", statistics.lost_to_mtu.packets),
        ("queue full", statistics.lost_in_queue.packets),
        ("link", statistics.lost_on_link.packets),
    ];
    let lost = lost.into_iter().filter(|(_, packets)| *packets > 0);
    LinkRecord {
        name,
        offered: statistics.offered.packets,
        delivered: statistics.delivered.packets + statistics.duplicated.packets,
        lost: lost.map(|(cause, packets)| (cause.to_owned(), packets)).collect(),
        bytes: statistics.delivered.bytes,
        queue_ms,
    }
}

/// Ports are assigned from the one after this, as on many systems.
const FIRST_PORT: u16 = 40_000;
