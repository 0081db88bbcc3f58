//! Determines by brute force which pairs of NATs two hosts can punch through.
//!
//! The oracle knows no tables, ports or time: it records what was sent and let in, and applies the
//! sentences of RFC 4787, sections 4.1 and 5, to that history. Two [`Nat`]s that are driven packet
//! by packet must agree with it.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
};

use hark_keys::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Nat, NatBehaviour, NatModel, PortAssignment};

/// All 81 pairs agree with the oracle, whichever host sends first.
#[test]
fn nats_punch_exactly_where_the_oracle_does() {
    for first in all_behaviours() {
        for second in all_behaviours() {
            for order in ORDERS {
                let expected = punches(&mut Oracle::new(first, second), order);
                for seed in 0..4 {
                    assert_eq!(
                        punches(&mut TwoNats::new(first, second, seed), order),
                        expected,
                        "{first:?} with {second:?}, order {order:?}, seed {seed}"
                    );
                }
            }
        }
    }
}

#[test]
fn documented_table_is_the_oracles() {
    assert_eq!(render(), include_str!("traversal.md"));
}

/// Ford, Srisuresh and Kegel, "Peer-to-Peer Communication Across Network Address Translators": the
/// results that the oracle must give for the four NATs of RFC 3489.
#[test]
fn oracle_agrees_with_the_literature() {
    use NatBehaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let full = (EndpointIndependent, EndpointIndependent);
    let restricted = (EndpointIndependent, AddressDependent);
    let port_restricted = (EndpointIndependent, AddressAndPortDependent);
    let symmetric = (AddressAndPortDependent, AddressAndPortDependent);
    let cones = [full, restricted, port_restricted];
    let cell = |first, second| punches(&mut Oracle::new(first, second), BOTH_AT_ONCE);

    assert!(cones.iter().all(|first| cones.iter().all(|second| cell(*first, *second))));
    assert!(cell(symmetric, full));
    assert!(cell(symmetric, restricted));
    assert!(!cell(symmetric, port_restricted));
    assert!(!cell(symmetric, symmetric));
}

/// A host, or the rendezvous server, by its place in arrays.
type Host = usize;

const A: Host = 0;
const B: Host = 1;
const SERVER: Host = 2;

/// For each round, the groups of hosts that send without waiting for each other.
type Order = &'static [&'static [Host]];

const BOTH_AT_ONCE: Order = &[&[A, B]];
const ORDERS: [Order; 3] = [BOTH_AT_ONCE, &[&[A], &[B]], &[&[B], &[A]]];

/// The number of rounds. No pair has ever succeeded after more rounds.
const ROUNDS: usize = 5;

/// Mapping and filtering of one NAT.
type Behaviours = (NatBehaviour, NatBehaviour);

const BEHAVIOURS: [NatBehaviour; 3] = [
    NatBehaviour::EndpointIndependent,
    NatBehaviour::AddressDependent,
    NatBehaviour::AddressAndPortDependent,
];

fn all_behaviours() -> impl Iterator<Item = Behaviours> {
    BEHAVIOURS.into_iter().flat_map(|mapping| BEHAVIOURS.map(|filtering| (mapping, filtering)))
}

/// Two hosts, each behind a NAT of its own.
trait Pair {
    /// An endpoint as seen between the NATs.
    type Endpoint: Copy + PartialEq;

    /// The rendezvous server's endpoint.
    fn server(&self) -> Self::Endpoint;

    /// `host` sends a packet. Returns the source that the packet shows.
    fn send(&mut self, host: Host, to: Self::Endpoint) -> Self::Endpoint;

    /// Whether the NAT of `host` lets a packet in.
    fn receive(&mut self, host: Host, from: Self::Endpoint, to: Self::Endpoint) -> bool;
}

/// Whether the hosts find a pair of endpoints that works both ways: the answer must come from where
/// the packet was sent to, as ICE (RFC 8445, section 7.2.5.2.1) and QUIC require.
///
/// A server tells each host the endpoint that it saw the other use. Both hosts send there again and
/// again, and to every source that they see.
fn punches<P: Pair>(pair: &mut P, order: Order) -> bool {
    let server = pair.server();
    let seen = [A, B].map(|host| pair.send(host, server));
    let mut targets = [vec![seen[B]], vec![seen[A]]];
    let mut delivered = Vec::new();
    for turn in (0..ROUNDS).flat_map(|_| order) {
        let mut in_flight = Vec::new();
        for host in *turn {
            for target in &targets[*host] {
                in_flight.push((1 - host, pair.send(*host, *target), *target));
            }
        }
        for (host, from, to) in in_flight {
            if pair.receive(host, from, to) {
                delivered.push((from, to));
                if !targets[host].contains(&from) {
                    targets[host].push(from);
                }
            }
        }
    }
    delivered.iter().any(|(from, to)| delivered.contains(&(*to, *from)))
}

/// Applies RFC 4787's definitions to the history of all packets.
struct Oracle {
    behaviours: [Behaviours; 2],
    history: Vec<Event>,
}

/// The `number`-th external endpoint of a host's NAT, whose only address is the host's number.
type Numbered = (Host, usize);

/// A packet that left a NAT (`sent`) or that a NAT let in.
struct Event {
    sent: bool,
    local: Numbered,
    remote: Numbered,
}

impl Oracle {
    fn new(first: Behaviours, second: Behaviours) -> Self {
        Self { behaviours: [first, second], history: Vec::new() }
    }

    fn of(&self, host: Host) -> impl Iterator<Item = &Event> {
        self.history.iter().filter(move |event| event.local.0 == host)
    }
}

/// Whether a NAT treats two remote endpoints alike.
fn alike(behaviour: NatBehaviour, one: Numbered, other: Numbered) -> bool {
    match behaviour {
        NatBehaviour::EndpointIndependent => true,
        NatBehaviour::AddressDependent => one.0 == other.0,
        NatBehaviour::AddressAndPortDependent => one == other,
    }
}

impl Pair for Oracle {
    type Endpoint = Numbered;

    fn server(&self) -> Numbered {
        (SERVER, 0)
    }

    /// Section 4.1: the mapping is reused for packets to the same remote endpoint, to the same
    /// remote address, or to any. A packet that was let in has also begun a session.
    fn send(&mut self, host: Host, to: Numbered) -> Numbered {
        let mapping = self.behaviours[host].0;
        let reused = self.of(host).find(|event| alike(mapping, event.remote, to));
        let fresh = self.of(host).map(|event| event.local.1 + 1).max().unwrap_or(0);
        let local = reused.map_or((host, fresh), |event| event.local);
        self.history.push(Event { sent: true, local, remote: to });
        local
    }

    /// Section 5: the mapping lets in the endpoints that it was used to send to, the addresses that
    /// it was used to send to, or anybody.
    fn receive(&mut self, host: Host, from: Numbered, to: Numbered) -> bool {
        let filtering = self.behaviours[host].1;
        let let_in = self
            .of(host)
            .any(|event| event.sent && event.local == to && alike(filtering, event.remote, from));
        if let_in {
            self.history.push(Event { sent: false, local: to, remote: from });
        }
        let_in
    }
}

/// The same two hosts behind two [`Nat`]s.
struct TwoNats([Nat; 2]);

impl TwoNats {
    fn new(first: Behaviours, second: Behaviours, seed: u64) -> Self {
        let mut host = 0;
        Self([first, second].map(|(mapping, filtering)| {
            host += 1;
            let ports = PortAssignment::Random;
            let model = NatModel { mapping, filtering, ports, ..NatModel::default() };
            let external = vec![Ipv4Addr::new(203, 0, 113, host)];
            Nat::new(model, external, ChaCha8Rng::seed_from_u64(seed * 2 + u64::from(host)))
        }))
    }
}

const INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 2), 5_000);

impl Pair for TwoNats {
    type Endpoint = SocketAddrV4;

    fn server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 3_478)
    }

    fn send(&mut self, host: Host, to: SocketAddrV4) -> SocketAddrV4 {
        self.0[host].outbound(Timestamp::ZERO, INSIDE, to).unwrap()
    }

    fn receive(&mut self, host: Host, from: SocketAddrV4, to: SocketAddrV4) -> bool {
        let received = self.0[host].inbound(Timestamp::ZERO, from, to);
        assert!(received.is_err() || received == Ok(INSIDE));
        received.is_ok()
    }
}

/// The table as the documentation displays it.
fn render() -> String {
    let label = |behaviour| match behaviour {
        NatBehaviour::EndpointIndependent => "EI",
        NatBehaviour::AddressDependent => "AD",
        NatBehaviour::AddressAndPortDependent => "APD",
    };
    let name = |(mapping, filtering)| format!("{}/{}", label(mapping), label(filtering));
    let mark =
        |first, second| match ORDERS.map(|order| punches(&mut Oracle::new(first, second), order)) {
            [true, true, true] => "yes",
            [false, true, false] => "row",
            [false, false, true] => "column",
            [false, false, false] => "-",
            other => panic!("{first:?} with {second:?} is a new kind of pair: {other:?}"),
        };
    let mut table = String::from(HEADING);
    let mut row = |head: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>7}")).collect();
        writeln!(table, "{head:<7}{cells}").unwrap();
    };
    row("", all_behaviours().map(name).collect());
    for first in all_behaviours() {
        row(&name(first), all_behaviours().map(|second| mark(first, second).to_owned()).collect());
    }
    table + "```\n"
}

const HEADING: &str = "\
# Which pairs can punch

Two hosts learn each other's external endpoints from a server and send to each other, each behind a
NAT with one address and unpredictable ports. Rows and columns are mapping/filtering:
endpoint-independent (EI), address-dependent (AD), address and port-dependent (APD). `yes`: always;
`row`, `column`: only if that side sends first and the other, which lets anybody in, just answers;
`-`: never.

```text
";
