use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{nat::NatModel, *};
use crate::context;

const MS: Duration = Duration::from_millis(1);

/// Arrivals: the machine, the source that the packet shows, and the payload.
type Arrivals = Arc<Mutex<Vec<(usize, SocketAddrV4, Vec<u8>)>>>;

struct World {
    fabric: Fabric,
    now: Duration,
    arrivals: Arrivals,
    ports: Vec<u16>,
}

impl World {
    /// Hosts in networks. Each network lies within the one named, behind a NAT if there is one.
    fn new(networks: &[(usize, Option<&str>)], hosts: &[usize]) -> Self {
        let mut plan = SitePlan { networks: vec![NetworkPlan::default()], hosts: Vec::new() };
        plan.networks.extend(networks.iter().enumerate().map(|(n, (parent, nat))| NetworkPlan {
            name: format!("network {n}"),
            parent: Some(*parent),
            nat: nat.map(|preset| NatModel::preset(preset).expect("a preset")),
            ..NetworkPlan::default()
        }));
        plan.hosts.extend(hosts.iter().enumerate().map(|(n, network)| HostPlan {
            name: format!("host {n}"),
            network: *network,
            ..HostPlan::default()
        }));
        let fabric = Fabric::new(1, &plan);
        let arrivals = Arrivals::default();
        let seen = Arc::clone(&arrivals);
        fabric.watch(Box::new(move |event| {
            if let Some(host) = event.arrived {
                seen.lock().expect("one thread").push((host, event.source, event.payload.to_vec()));
            }
        }));
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let open = |host| fabric.open(host, any).expect("a free port").0.port();
        let ports = (0..hosts.len()).map(open).collect();
        context::set_between(Duration::ZERO);
        Self { fabric, now: Duration::ZERO, arrivals, ports }
    }

    fn address(&self, host: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.fabric.address(host), self.ports[host])
    }

    /// Sends from a host; returns which host received the packet and the source that it saw.
    fn send(&mut self, host: usize, to: SocketAddrV4) -> Option<(usize, SocketAddrV4)> {
        let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.ports[host]);
        self.fabric.send(host, local, to, b"hello");
        self.pass(MS)
    }

    fn pass(&mut self, time: Duration) -> Option<(usize, SocketAddrV4)> {
        self.now += time;
        context::set_between(self.now);
        self.fabric.run_until(self.now);
        let mut arrivals = self.arrivals.lock().expect("one thread");
        arrivals.drain(..).map(|(host, source, _)| (host, source)).next_back()
    }

    fn lost(&self, cause: &str) -> u64 {
        self.fabric.statistics().lost.get(cause).copied().unwrap_or_default()
    }
}

#[test]
fn machines_in_one_network_reach_each_other_by_their_addresses() {
    let mut world = World::new(&[], &[0, 0]);
    let (one, other) = (world.address(0), world.address(1));
    assert_eq!(world.send(0, other), Some((1, one)));
    assert_eq!(world.send(1, one), Some((0, other)));
}

#[test]
fn a_gateway_shows_its_own_address_and_lets_the_answer_in() {
    let mut world = World::new(&[(0, Some("home"))], &[0, 1]);
    let public = world.address(0);
    let (_, shown) = world.send(1, public).expect("it gets out");
    assert_ne!(shown.ip(), world.address(1).ip());
    assert_eq!(world.send(0, shown), Some((1, public)));
    // Nothing comes in from an endpoint to which nothing was sent.
    let mut world = World::new(&[(0, Some("home"))], &[0, 1, 0]);
    let (_, shown) = world.send(1, world.address(0)).expect("it gets out");
    assert_eq!(world.send(2, shown), None);
    assert_eq!(world.lost("gateway"), 1);
}

#[test]
fn an_inside_address_is_nowhere_outside() {
    let mut world = World::new(&[(0, Some("home"))], &[0, 1]);
    let inside = world.address(1);
    assert_eq!(world.send(0, inside), None);
    assert_eq!(world.lost("no such address"), 1);
}

#[test]
fn a_home_behind_a_carrier_is_translated_twice() {
    let mut world = World::new(&[(0, Some("carrier-grade")), (1, Some("home"))], &[0, 2]);
    let public = world.address(0);
    let (_, shown) = world.send(1, public).expect("it gets out");
    assert_eq!(shown.ip().octets()[..2], [198, 18], "the carrier's address");
    assert_eq!(world.send(0, shown), Some((1, public)));
}

#[test]
fn two_in_one_home_meet_by_the_address_outside() {
    let mut world = World::new(&[(0, Some("home"))], &[0, 1, 1]);
    let public = world.address(0);
    let (_, first) = world.send(1, public).expect("it gets out");
    let (_, second) = world.send(2, public).expect("it gets out");
    // Both must have sent before their gateways let the other in.
    world.send(1, second);
    assert_eq!(world.send(2, first), Some((1, second)));
}

#[test]
fn a_routed_network_without_translation_keeps_addresses() {
    let mut world = World::new(&[(0, None), (1, None)], &[0, 2]);
    let (public, deep) = (world.address(0), world.address(1));
    assert_eq!(world.send(0, deep), Some((1, public)));
    assert_eq!(world.send(1, public), Some((0, deep)));
}

#[test]
fn a_cut_works_in_its_direction_until_it_is_mended() {
    let mut world = World::new(&[], &[0, 0]);
    let (one, other) = (world.address(0), world.address(1));
    world.fabric.set_cut(0, 1, true);
    assert_eq!(world.send(0, other), None);
    assert_eq!(world.send(1, one), Some((0, other)));
    world.fabric.set_cut(0, 1, false);
    assert_eq!(world.send(0, other), Some((1, one)));
    assert_eq!(world.lost("partition"), 1);
}

#[test]
fn who_moves_has_another_address_and_is_gone_from_the_old_one() {
    let mut world = World::new(&[], &[0, 0]);
    let (one, old) = (world.address(0), world.address(1));
    world.fabric.roam(1, 0);
    let new = world.address(1);
    assert_ne!(old, new);
    assert_eq!(world.send(0, old), None);
    assert_eq!(world.send(0, new), Some((1, one)));
    assert_eq!(world.send(1, one), Some((0, new)));
}

#[test]
fn what_a_machine_at_a_standstill_sends_leaves_when_it_goes_on() {
    let mut world = World::new(&[], &[0, 0]);
    let other = world.address(1);
    world.fabric.set_paused(0, true);
    assert_eq!(world.send(0, other), None);
    world.fabric.set_paused(0, false);
    assert_eq!(world.pass(MS).map(|(host, _)| host), Some(1));
}

#[test]
fn a_gateway_that_starts_anew_knows_nobody() {
    let mut world = World::new(&[(0, Some("home"))], &[0, 1]);
    let (_, shown) = world.send(1, world.address(0)).expect("it gets out");
    world.fabric.restart_gateway(1);
    assert_eq!(world.send(0, shown), None);
}

#[test]
fn a_transfer_gets_out_of_a_home_and_its_answers_get_in() {
    let mut world = World::new(&[(0, Some("symmetric"))], &[0, 1]);
    world.fabric.transfer(1, 0, 140_000);
    for _ in 0..400 {
        world.pass(MS);
    }
    assert_eq!(world.fabric.statistics().arrived, 200, "a hundred segments and their answers");
}

#[test]
fn a_transfer_arrives_whole_and_fills_its_link() {
    let mut world = World::new(&[], &[0, 0]);
    let slow = link::LinkModel {
        rate: Some("8 Mbit/s".parse().expect("a rate")),
        delay: link::Delay::Fixed("10ms".parse().expect("a span")),
        ..link::LinkModel::default()
    };
    world.fabric.set_host_links(0, Some(slow), None);
    world.fabric.transfer(0, 1, 1_000_000);
    let mut took = 0;
    while world.fabric.statistics().arrived < 2 * 715 {
        world.pass(MS);
        took += 1;
        assert!(took < 5_000, "it must end");
    }
    // A megabyte with its headers takes 1.02 s on this link, and slow start adds some round trips.
    assert!((1_020..1_300).contains(&took), "{took} ms");
}
