//! Carries packets from stage to stage in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt, io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use hark_keys::Timestamp;
use serde::Serialize;

use super::{
    link::{Fate, Link, LinkModel, LossCause},
    nat::{Firewall, Nat, NatDrop},
    socket::{Inbox, SimBinder, Sockets},
    topology::{NetworkId, Plan, address},
    traffic::{ACKNOWLEDGEMENT, Flow, SEGMENT},
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

struct State {
    networks: Vec<Network>,
    hosts: Vec<Host>,
    events: BinaryHeap<Reverse<Event>>,
    packets: u64,
    cuts: BTreeSet<(usize, usize)>,
    flows: Vec<Flow>,
    /// How long each link's queue was, in milliseconds, at each second that was looked at.
    queues: Vec<Vec<(f64, f64)>>,
    statistics: FabricStatistics,
    watcher: Option<PacketWatcher>,
}

/// Told of every packet that leaves a machine, arrives at one, or is lost.
pub type PacketWatcher = Box<dyn FnMut(&PacketEvent<'_>) + Send>;

/// Something that happened to a packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketEvent<'a> {
    /// When, in virtual time.
    pub at: Duration,
    /// The machine that sent it.
    pub origin: usize,
    /// The machine that it arrives at; none for a packet that leaves or is lost.
    pub arrived: Option<usize>,
    /// Why it is lost.
    pub lost: Option<&'static str>,
    /// Where it comes from, as written on it.
    pub source: SocketAddrV4,
    /// Where it goes, as written on it.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Packets, counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FabricStatistics {
    /// That left a machine.
    pub sent: u64,
    /// That arrived at a machine.
    pub arrived: u64,
    /// That did not arrive, by cause.
    pub lost: BTreeMap<&'static str, u64>,
}

struct Network {
    parent: Option<NetworkId>,
    /// Its gateway's address in the network above, where it translates.
    external: Option<Ipv4Addr>,
    nat: Option<Nat>,
    firewall: Option<Firewall>,
    up: Link,
    down: Link,
    name: String,
    /// Addresses given out so far.
    addresses: usize,
    /// Packets that its gateway did not let through, by cause.
    dropped: BTreeMap<String, u64>,
}

struct Host {
    name: String,
    network: NetworkId,
    address: Ipv4Addr,
    up: Link,
    down: Link,
    sockets: Sockets,
    next_port: u16,
    interfaces: Option<UnboundedSender<(Ipv4Addr, bool)>>,
    paused: bool,
    /// What a paused machine sends when it goes on.
    held: Vec<Packet>,
}

/// A packet under way.
#[derive(Clone, Debug)]
struct Packet {
    origin: usize,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: Bytes,
    hops: u8,
}

/// What becomes of a packet next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It is in a network and goes on to a machine or a gateway.
    Switch(NetworkId),
    /// It has come down to the gateway of a network.
    Enter(NetworkId),
    /// It has reached a machine.
    Arrive(usize),
}

struct Event {
    at: Duration,
    sequence: u64,
    stage: Stage,
    packet: Packet,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl Fabric {
    /// The planned network, at rest.
    pub fn new(seed: u64, plan: &Plan) -> Self {
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
                Link::new(model.clone(), stream(seed, &format!("network {} {way}", network.name)))
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
                Link::new(model.clone(), stream(seed, &format!("host {} {way}", host.name)))
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

    /// Has `watcher` told of every packet.
    pub fn watch(&self, watcher: PacketWatcher) {
        self.lock().watcher = Some(watcher);
    }

    /// Sockets for a machine.
    pub fn binder(&self, host: usize) -> SimBinder {
        SimBinder { fabric: self.clone(), host }
    }

    /// The address of a machine.
    pub fn address(&self, host: usize) -> Ipv4Addr {
        self.lock().hosts[host].address
    }

    /// Packets so far.
    pub fn statistics(&self) -> FabricStatistics {
        self.lock().statistics.clone()
    }

    /// What the links of a machine, or else of a network, do: up and down.
    pub fn models(&self, of: Result<usize, NetworkId>) -> (LinkModel, LinkModel) {
        let state = self.lock();
        let (up, down) = match of {
            Ok(host) => (&state.hosts[host].up, &state.hosts[host].down),
            Err(network) => (&state.networks[network].up, &state.networks[network].down),
        };
        (up.model().clone(), down.model().clone())
    }

    /// Notes how full every link's queue is.
    pub fn sample_queues(&self, now: Duration) {
        let mut state = self.lock();
        let waits: Vec<_> = state.links().map(|(_, link)| link.backlog(timestamp(now))).collect();
        state.queues.resize(waits.len(), Vec::new());
        for (queue, wait) in state.queues.iter_mut().zip(waits) {
            queue.push((now.as_secs_f64(), 1e3 * wait.as_secs_f64()));
        }
    }

    /// What every link has carried.
    pub fn link_records(&self) -> Vec<LinkRecord> {
        let mut state = self.lock();
        let mut queues = std::mem::take(&mut state.queues).into_iter();
        let queue = |queue: Vec<(f64, f64)>| {
            // A queue that was always empty says nothing.
            if queue.iter().any(|(_, ms)| *ms > 0.0) { queue } else { Vec::new() }
        };
        let links = state.links();
        let records = links
            .map(|(name, link)| link_record(name, link, queues.next().map_or(Vec::new(), queue)));
        records.collect()
    }

    /// What every gateway that translates has done.
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

    /// Carries packets on until `now`, and wakes who has something to read.
    pub fn run_until(&self, now: Duration) {
        let mut state = self.lock();
        let mut readers = Vec::new();
        while state.events.peek().is_some_and(|Reverse(event)| event.at <= now) {
            let Some(Reverse(event)) = state.events.pop() else { break };
            state.handle(event, &mut readers);
        }
        state.send_flows(now);
        drop(state);
        // Outside the lock: a woken task may run into it.
        readers.iter().for_each(Inbox::wake);
    }

    /// Changes the links of a machine from now on.
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

    /// Changes the uplink of a network from now on.
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

    /// Lets nothing of `from` reach `to` any more, or everything again.
    pub fn set_cut(&self, from: usize, to: usize, cut: bool) {
        let mut state = self.lock();
        if cut {
            state.cuts.insert((from, to));
        } else {
            state.cuts.remove(&(from, to));
        }
    }

    /// Has a machine send so many bytes to another, as fast as TCP would.
    pub fn transfer(&self, from: usize, to: usize, bytes: u64) {
        self.lock().flows.push(Flow::new(from, to, bytes));
    }

    /// Moves a machine to a network, where it gets a new address; in its own, too.
    pub fn roam(&self, host: usize, network: NetworkId) {
        let mut state = self.lock();
        let new = state.next_address(network);
        let host = &mut state.hosts[host];
        let old = std::mem::replace(&mut host.address, new);
        host.network = network;
        if let Some(interfaces) = &host.interfaces {
            // A node that has ended does not look any more.
            let _ = interfaces.unbounded_send((old, false));
            let _ = interfaces.unbounded_send((new, true));
        }
    }

    /// The gateway of a network starts anew: its table of addresses is lost.
    pub fn restart_gateway(&self, network: NetworkId) {
        if let Some(nat) = &mut self.lock().networks[network].nat {
            nat.forget();
        }
    }

    /// Holds what a machine sends and what comes to it, or lets it go on.
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

    /// Whether a machine stands still.
    pub fn is_paused(&self, host: usize) -> bool {
        self.lock().hosts[host].paused
    }

    /// Closes all that a machine has open: its process is gone.
    pub fn crash(&self, host: usize) {
        let mut state = self.lock();
        let host = &mut state.hosts[host];
        host.sockets.clear();
        host.interfaces = None;
        host.held.clear();
        host.paused = false;
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
        // Both ends are in our hands.
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

impl State {
    fn next_address(&mut self, network: NetworkId) -> Ipv4Addr {
        let network_state = &mut self.networks[network];
        network_state.addresses += 1;
        address(network, network_state.addresses - 1)
    }

    /// Every direction of every link with its name.
    fn links(&self) -> impl Iterator<Item = (String, &Link)> {
        let networks = self.networks.iter().filter(|network| network.parent.is_some());
        let networks = networks.map(|network| (&network.name, &network.up, &network.down));
        let hosts = self.hosts.iter().map(|host| (&host.name, &host.up, &host.down));
        networks.chain(hosts).flat_map(|(name, up, down)| {
            [(format!("{name} up"), up), (format!("{name} down"), down)]
        })
    }

    fn leave(&mut self, now: Duration, packet: Packet) {
        self.statistics.sent += 1;
        self.tell(now, &packet, None, None);
        let network = self.hosts[packet.origin].network;
        self.carry(now, Road::HostUp(packet.origin), packet, Stage::Switch(network));
    }

    fn handle(&mut self, event: Event, readers: &mut Vec<Inbox>) {
        let Event { at, stage, mut packet, .. } = event;
        packet.hops += 1;
        if packet.hops > HOPS_MAX {
            return self.lose(at, &packet, "goes in circles");
        }
        match stage {
            Stage::Switch(network) => self.switch(at, network, packet),
            Stage::Enter(network) => self.enter(at, network, packet),
            Stage::Arrive(host) => self.arrive(at, host, packet, readers),
        }
    }

    /// A packet is in a network: to whom does it go?
    fn switch(&mut self, at: Duration, network: NetworkId, mut packet: Packet) {
        let destination = *packet.destination.ip();
        if let Some(host) =
            self.hosts.iter().position(|h| h.network == network && h.address == destination)
        {
            return self.carry(at, Road::HostDown(host), packet, Stage::Arrive(host));
        }
        let below = (0..self.networks.len()).find(|id| {
            self.networks[*id].parent == Some(network) && self.leads_to(*id, destination)
        });
        if let Some(below) = below {
            return self.carry(at, Road::NetworkDown(below), packet, Stage::Enter(below));
        }
        let Network { parent, external, nat, firewall, .. } = &mut self.networks[network];
        let now = timestamp(at);
        if *external == Some(destination) {
            // [RFC 4787, section 6] To itself, from inside.
            let Some(nat) = nat else { return };
            match nat.hairpin(now, packet.source, packet.destination) {
                Ok((source, inside)) => {
                    (packet.source, packet.destination) = (source, inside);
                    self.push(at, Stage::Switch(network), packet);
                }
                Err(cause) => self.refuse(at, network, &packet, cause),
            }
            return;
        }
        let Some(parent) = *parent else { return self.lose(at, &packet, "no such address") };
        if let Some(firewall) = firewall
            && firewall.outbound(now, packet.source.into(), packet.destination.into()).is_err()
        {
            return self.lose(at, &packet, "firewall");
        }
        if let Some(nat) = nat {
            match nat.outbound(now, packet.source, packet.destination) {
                Ok(source) => packet.source = source,
                Err(cause) => return self.refuse(at, network, &packet, cause),
            }
        }
        self.carry(at, Road::NetworkUp(network), packet, Stage::Switch(parent));
    }

    fn enter(&mut self, at: Duration, network: NetworkId, mut packet: Packet) {
        let now = timestamp(at);
        let Network { nat, firewall, .. } = &mut self.networks[network];
        if let Some(nat) = nat {
            match nat.inbound(now, packet.source, packet.destination) {
                Ok(inside) => packet.destination = inside,
                Err(cause) => return self.refuse(at, network, &packet, cause),
            }
        }
        if let Some(firewall) = firewall
            && firewall.inbound(now, packet.source.into(), packet.destination.into()).is_err()
        {
            return self.lose(at, &packet, "firewall");
        }
        self.switch(at, network, packet);
    }

    fn arrive(&mut self, at: Duration, host: usize, packet: Packet, readers: &mut Vec<Inbox>) {
        if self.cuts.contains(&(packet.origin, host)) {
            return self.lose(at, &packet, "partition");
        }
        let machine = &self.hosts[host];
        // It may have moved away while the packet was under way.
        if machine.address != *packet.destination.ip() {
            return self.lose(at, &packet, "no such address");
        }
        if packet.destination.port() >= FLOW_PORTS {
            self.statistics.arrived += 1;
            self.tell(at, &packet, Some(host), None);
            return self.arrive_flow(at, host, &packet);
        }
        let inbox = machine.sockets.get(&packet.destination.port()).cloned();
        let Some(inbox) = inbox else { return self.lose(at, &packet, "nobody listens") };
        if !inbox.push(packet.source, packet.payload.clone()) {
            return self.lose(at, &packet, "receive buffer");
        }
        self.statistics.arrived += 1;
        if !machine.paused {
            readers.push(inbox);
        }
        self.tell(at, &packet, Some(host), None);
    }

    /// Sends what transfers may send now.
    fn send_flows(&mut self, now: Duration) {
        for index in 0..self.flows.len() {
            if self.flows[index].is_done() {
                continue;
            }
            self.flows[index].handle_timeout(now);
            while let Some(segment) = self.flows[index].poll_segment(now) {
                let Flow { from, to, .. } = self.flows[index];
                let port = FLOW_PORTS + (index % FLOWS_MAX) as u16;
                let destination = SocketAddrV4::new(self.hosts[to].address, port);
                self.send_flow(now, index, segment, from, destination, SEGMENT);
            }
        }
    }

    /// Puts a segment, or the answer to one, on its way.
    fn send_flow(
        &mut self,
        now: Duration,
        index: usize,
        segment: u64,
        origin: usize,
        destination: SocketAddrV4,
        length: usize,
    ) {
        let port = FLOW_PORTS + (index % FLOWS_MAX) as u16;
        let mut payload = vec![0; length];
        payload[..8].copy_from_slice(&segment.to_be_bytes());
        let packet = Packet {
            origin,
            source: SocketAddrV4::new(self.hosts[origin].address, port),
            destination,
            payload: payload.into(),
            hops: 0,
        };
        self.leave(now, packet);
    }

    fn arrive_flow(&mut self, at: Duration, host: usize, packet: &Packet) {
        let index = usize::from(packet.destination.port() - FLOW_PORTS);
        let Some(bytes) = packet.payload.first_chunk() else { return };
        let segment = u64::from_be_bytes(*bytes);
        let Some(flow) = self.flows.get_mut(index) else { return };
        if flow.from == host {
            flow.handle_acknowledgement(at, segment);
        } else {
            // A gateway may have written another port on it.
            self.send_flow(at, index, segment, host, packet.source, ACKNOWLEDGEMENT);
        }
    }

    /// Whether the address is inside a network, seen from the one above.
    fn leads_to(&self, network: NetworkId, destination: Ipv4Addr) -> bool {
        if let Some(external) = self.networks[network].external {
            return external == destination;
        }
        self.hosts.iter().any(|host| host.network == network && host.address == destination)
            || (0..self.networks.len()).any(|id| {
                self.networks[id].parent == Some(network) && self.leads_to(id, destination)
            })
    }

    fn carry(&mut self, at: Duration, road: Road, packet: Packet, next: Stage) {
        let link = match road {
            Road::HostUp(host) => &mut self.hosts[host].up,
            Road::HostDown(host) => &mut self.hosts[host].down,
            Road::NetworkUp(network) => &mut self.networks[network].up,
            Road::NetworkDown(network) => &mut self.networks[network].down,
        };
        let fate = link.transmit(timestamp(at), packet.payload.len());
        if let Fate::Lost(cause) = fate {
            let cause = match cause {
                LossCause::Mtu => "too long",
                LossCause::Queue => "queue full",
                LossCause::Link => "link",
            };
            return self.lose(at, &packet, cause);
        }
        for delivery in fate.deliveries() {
            let mut packet = packet.clone();
            if delivery.flipped_bit.is_some() {
                let mut payload = packet.payload.to_vec();
                delivery.corrupt(&mut payload);
                packet.payload = payload.into();
            }
            self.push(delivery.at.as_duration(), next, packet);
        }
    }

    fn push(&mut self, at: Duration, stage: Stage, packet: Packet) {
        self.packets += 1;
        self.events.push(Reverse(Event { at, sequence: self.packets, stage, packet }));
    }

    /// A gateway lets a packet not through.
    fn refuse(&mut self, at: Duration, network: NetworkId, packet: &Packet, cause: NatDrop) {
        *self.networks[network].dropped.entry(cause.to_string()).or_default() += 1;
        self.lose(at, packet, "gateway");
    }

    fn lose(&mut self, at: Duration, packet: &Packet, cause: &'static str) {
        *self.statistics.lost.entry(cause).or_default() += 1;
        self.tell(at, packet, None, Some(cause));
    }

    fn tell(
        &mut self,
        at: Duration,
        packet: &Packet,
        arrived: Option<usize>,
        lost: Option<&'static str>,
    ) {
        if let Some(watcher) = &mut self.watcher {
            watcher(&PacketEvent {
                at,
                origin: packet.origin,
                arrived,
                lost,
                source: packet.source,
                destination: packet.destination,
                payload: &packet.payload,
            });
        }
    }
}

/// One direction of one link.
#[derive(Clone, Copy, Debug)]
enum Road {
    HostUp(usize),
    HostDown(usize),
    NetworkUp(NetworkId),
    NetworkDown(NetworkId),
}

fn link_record(name: String, link: &Link, queue_ms: Vec<(f64, f64)>) -> LinkRecord {
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

fn timestamp(at: Duration) -> Timestamp {
    Timestamp::from_duration(at)
}

/// Ports are given out from the one after this, as many systems do.
const FIRST_PORT: u16 = 40_000;

/// Ports from here on are those of transfers, one each.
const FLOW_PORTS: u16 = 60_000;

/// Transfers that can be told apart.
const FLOWS_MAX: usize = 1_000;

/// Stages that a packet may pass: more than four NATs on each side need.
const HOPS_MAX: u8 = 32;
