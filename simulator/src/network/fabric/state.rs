//! How packets move from stage to stage, over links and through gateways.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::mpsc::UnboundedSender;
use hark_keys::Timestamp;

use super::{FabricStatistics, PacketEvent, PacketWatcher};
use crate::network::{
    link::{Fate, LossCause, SimulatedLink},
    nat::{Firewall, Nat, NatDrop},
    router,
    socket::{Inbox, Sockets},
    topology::{self, NetworkId, address},
    traffic::{ACKNOWLEDGEMENT, Flow, SEGMENT},
};

pub(super) struct State {
    pub(super) networks: Vec<Network>,
    pub(super) hosts: Vec<Host>,
    pub(super) events: BinaryHeap<Reverse<Event>>,
    pub(super) packets: u64,
    pub(super) cuts: BTreeSet<(usize, usize)>,
    pub(super) flows: Vec<Flow>,
    /// Samples of each link's queueing delay: seconds of the run, milliseconds.
    pub(super) queues: Vec<Vec<(f64, f64)>>,
    pub(super) statistics: FabricStatistics,
    pub(super) watcher: Option<PacketWatcher>,
}

pub(super) struct Network {
    pub(super) parent: Option<NetworkId>,
    /// The gateway's address in the network above, if the gateway translates addresses.
    pub(super) external: Option<Ipv4Addr>,
    pub(super) nat: Option<Nat>,
    pub(super) firewall: Option<Firewall>,
    pub(super) up: SimulatedLink,
    pub(super) down: SimulatedLink,
    pub(super) name: String,
    /// How many addresses have been assigned so far.
    pub(super) addresses: usize,
    /// Packets that the gateway did not let through, by cause.
    pub(super) dropped: BTreeMap<String, u64>,
}

pub(super) struct Host {
    pub(super) name: String,
    pub(super) network: NetworkId,
    pub(super) address: Ipv4Addr,
    pub(super) up: SimulatedLink,
    pub(super) down: SimulatedLink,
    pub(super) sockets: Sockets,
    pub(super) next_port: u16,
    pub(super) interfaces: Option<UnboundedSender<(Ipv4Addr, bool)>>,
    pub(super) paused: bool,
    /// The packets that a paused machine sends when it resumes.
    pub(super) held: Vec<Packet>,
}

/// A packet under way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) origin: usize,
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
    pub(super) payload: Bytes,
    pub(super) hops: u8,
}

/// The next stage of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// The packet is in a network and moves on to a machine or a gateway.
    Switch(NetworkId),
    /// The packet has come down to the gateway of a network.
    Enter(NetworkId),
    /// The packet has reached a machine.
    Arrive(usize),
}

pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) sequence: u64,
    pub(super) stage: Stage,
    pub(super) packet: Packet,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl State {
    pub(super) fn next_address(&mut self, network: NetworkId) -> Ipv4Addr {
        let network_state = &mut self.networks[network];
        network_state.addresses += 1;
        address(network, network_state.addresses - 1)
    }

    /// All links, one entry for each direction, with their names.
    pub(super) fn links(&self) -> impl Iterator<Item = (String, &SimulatedLink)> {
        let networks = self.networks.iter().filter(|network| network.parent.is_some());
        let networks = networks.map(|network| (&network.name, &network.up, &network.down));
        let hosts = self.hosts.iter().map(|host| (&host.name, &host.up, &host.down));
        networks.chain(hosts).flat_map(|(name, up, down)| {
            [(format!("{name} up"), up), (format!("{name} down"), down)]
        })
    }

    pub(super) fn leave(&mut self, now: Duration, packet: Packet) {
        self.statistics.sent += 1;
        self.tell(now, &packet, None, None);
        let network = self.hosts[packet.origin].network;
        self.carry(now, Road::HostUp(packet.origin), packet, Stage::Switch(network));
    }

    pub(super) fn handle(&mut self, event: Event, readers: &mut Vec<Inbox>) {
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

    /// Moves on a packet that is in a network, to a machine or a gateway.
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
            // [RFC 4787, section 6] An inside host has sent it to the NAT's own external address.
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
        if let Some(nat) = nat
            && packet.destination == SocketAddrV4::new(topology::router(network), MAPPING_PORT)
        {
            if let Some(answer) = router::answer(nat, now, packet.source, &packet.payload) {
                (packet.source, packet.destination) = (packet.destination, packet.source);
                packet.payload = answer.into();
                self.push(at, Stage::Switch(network), packet);
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
        // The machine may have moved away while the packet was under way.
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

    /// Sends the segments that transfers may send now.
    pub(super) fn send_flows(&mut self, now: Duration) {
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

    /// Sends a segment, or its acknowledgement.
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
            // A gateway may have translated the source port.
            self.send_flow(at, index, segment, host, packet.source, ACKNOWLEDGEMENT);
        }
    }

    /// Whether the address lies within a network, seen from the network above.
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

    /// Counts a packet that a gateway does not let through, and drops it.
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
pub(super) enum Road {
    HostUp(usize),
    HostDown(usize),
    NetworkUp(NetworkId),
    NetworkDown(NetworkId),
}

pub(super) fn timestamp(at: Duration) -> Timestamp {
    Timestamp::from_duration(at)
}

/// The ports from here on belong to transfers, one each.
const FLOW_PORTS: u16 = 60_000;

/// How many ports there are for transfers. Further transfers use the same ports again.
const FLOWS_MAX: usize = 1_000;

/// The port at which gateways answer requests for mappings (RFC 6887, section 19).
const MAPPING_PORT: u16 = 5_351;

/// The most stages that a packet may pass. It is more than four NATs on each side need.
const HOPS_MAX: u8 = 32;
