mod properties;

use rand::SeedableRng;

use super::*;
use crate::units::Span;

use NatBehaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

const BEHAVIOURS: [NatBehaviour; 3] =
    [EndpointIndependent, AddressDependent, AddressAndPortDependent];
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OTHER_EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const START: Timestamp = Timestamp::ZERO;

fn nat(model: NatModel) -> Nat {
    Nat::new(model, vec![EXTERNAL], ChaCha8Rng::seed_from_u64(7))
}

/// A NAT with these behaviours, random ports and otherwise the defaults.
fn plain(mapping: NatBehaviour, filtering: NatBehaviour) -> Nat {
    nat(NatModel { mapping, filtering, ports: PortAssignment::Random, ..NatModel::default() })
}

fn preset(name: &str) -> NatModel {
    NatModel::preset(name).unwrap()
}

fn inside(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, host), port)
}

fn outside(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, host), port)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn seconds(seconds: u32) -> Span {
    Span::from_millis(1_000 * seconds)
}

/// Section 4.1, and REQ-1: whether the mapping is shared with another port and with another
/// address.
#[test]
fn section_4_1_mapping_is_reused_as_defined() {
    for filtering in BEHAVIOURS {
        for (mapping, same_address, other_address) in [
            (EndpointIndependent, true, true),
            (AddressDependent, true, false),
            (AddressAndPortDependent, false, false),
        ] {
            let mut nat = plain(mapping, filtering);
            let first = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
            let mut shown = |to| nat.outbound(START, inside(2, 5000), to).unwrap();

            assert_eq!(first.ip(), &EXTERNAL);
            assert_eq!(shown(outside(1, 80)), first);
            assert_eq!(shown(outside(1, 81)) == first, same_address, "{mapping:?}");
            assert_eq!(shown(outside(2, 80)) == first, other_address, "{mapping:?}");
            assert_eq!(shown(outside(1, 80)), first);
            // Different inside endpoints never share a mapping, even those of the same host.
            assert_ne!(nat.outbound(START, inside(2, 5001), outside(1, 80)).unwrap(), first);
            assert_ne!(nat.outbound(START, inside(3, 5000), outside(1, 80)).unwrap(), first);
        }
    }
}

/// Section 5, and REQ-8: which senders get in besides the endpoint that was sent to.
#[test]
fn section_5_filtering_lets_in_as_defined() {
    for mapping in BEHAVIOURS {
        for (filtering, same_address, other_address) in [
            (EndpointIndependent, true, true),
            (AddressDependent, true, false),
            (AddressAndPortDependent, false, false),
        ] {
            let expected =
                |let_in| if let_in { Ok(inside(2, 5000)) } else { Err(NatDrop::Filtered) };
            let mut nat = plain(mapping, filtering);
            let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();

            assert_eq!(nat.inbound(START, outside(1, 80), shown), expected(true));
            assert_eq!(nat.inbound(START, outside(1, 81), shown), expected(same_address));
            assert_eq!(nat.inbound(START, outside(2, 80), shown), expected(other_address));
        }
    }
}

/// Section 5: a filter belongs to its mapping.
#[test]
fn section_5_sending_through_one_mapping_opens_no_other() {
    let mut nat = plain(AddressAndPortDependent, AddressDependent);
    let first = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    let second = nat.outbound(START, inside(2, 5000), outside(2, 80)).unwrap();
    assert_eq!(nat.inbound(START, outside(2, 80), first), Err(NatDrop::Filtered));
    assert_eq!(nat.inbound(START, outside(2, 99), second), Ok(inside(2, 5000)));
}

#[test]
fn nobody_gets_in_without_a_mapping() {
    let mut nat = nat(preset("full-cone"));
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    let unused = SocketAddrV4::new(EXTERNAL, shown.port() ^ 1);
    assert_eq!(nat.inbound(START, outside(1, 80), unused), Err(NatDrop::NoMapping));
}

/// RFC 2663, section 2.3: both directions are one session.
#[test]
fn answer_leaves_by_the_mapping_the_packet_came_in_by() {
    let mut nat = plain(AddressAndPortDependent, EndpointIndependent);
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    let busy = nat.outbound(START, inside(2, 5000), outside(3, 80)).unwrap();
    nat.inbound(START, outside(2, 80), shown).unwrap();
    nat.inbound(START, outside(3, 80), shown).unwrap();

    assert_eq!(nat.outbound(START, inside(2, 5000), outside(2, 80)), Ok(shown));
    // A flow that already has a mapping keeps it.
    assert_eq!(nat.outbound(START, inside(2, 5000), outside(3, 80)), Ok(busy));
    assert_ne!(busy, shown);
}

#[test]
fn section_4_2_1_port_is_preserved_unless_taken() {
    let mut nat = nat(preset("home"));
    let mut port = |host| nat.outbound(START, inside(host, 5000), outside(1, 80)).unwrap().port();
    assert_eq!([port(2), port(3), port(4), port(2)], [5000, 5001, 5002, 5000]);
}

#[test]
fn section_4_2_1_taken_ports_wrap_at_the_end() {
    let mut nat = nat(preset("home"));
    let mut port = |host| nat.outbound(START, inside(host, 65535), outside(1, 80)).unwrap().port();
    assert_eq!([port(2), port(3), port(4)], [65535, 1024, 1025]);
}

#[test]
fn section_4_2_1_sequential_ports_follow_each_other() {
    let mut nat = nat(preset("full-cone"));
    let mut port = |inside| nat.outbound(START, inside, outside(1, 80)).unwrap().port();
    let first = port(inside(2, 5000));
    let next = |port: u16| if port == u16::MAX { 1024 } else { port + 1 };
    assert_eq!(port(inside(2, 9000)), next(first));
    assert_eq!(port(inside(3, 5000)), next(next(first)));
}

/// Random ports are spread evenly over their range: the mean of 10,000 is within three standard
/// errors of the middle.
#[test]
fn section_4_2_1_random_ports_are_even() {
    let mut total = 0.0;
    for seed in 0..10_000 {
        let model = preset("symmetric");
        let mut nat = Nat::new(model, vec![EXTERNAL], ChaCha8Rng::seed_from_u64(seed));
        total += f64::from(nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap().port());
    }
    let width = f64::from(u16::MAX - FIRST_USER_PORT + 1);
    let standard_error = width / 12.0_f64.sqrt() / 100.0;
    let middle = f64::from(FIRST_USER_PORT) + (width - 1.0) / 2.0;
    assert!((total / 10_000.0 - middle).abs() < 3.0 * standard_error);
}

/// A well-known port gets a well-known port.
#[test]
fn req_3a_low_ports_stay_low() {
    for ports in [PortAssignment::Preserving, PortAssignment::Sequential, PortAssignment::Random] {
        let mut nat = nat(NatModel { ports, ..preset("home") });
        let mut port = |inside| nat.outbound(START, inside, outside(1, 80)).unwrap().port();
        assert!((1..1024).contains(&port(inside(2, 53))), "{ports:?}");
        assert!((1..1024).contains(&port(inside(3, 53))), "{ports:?}");
        assert!(port(inside(2, 5000)) >= 1024, "{ports:?}");
    }
}

/// No overloading: when all ports are taken, no port is shared.
#[test]
fn req_3_ports_run_out_rather_than_overload() {
    let mut nat = nat(NatModel { table_size: 2_000, ..preset("home") });
    for port in 1..=1023 {
        nat.outbound(START, inside(2, port), outside(1, 80)).unwrap();
    }
    let refused = nat.outbound(START, inside(3, 53), outside(1, 80));
    assert_eq!(refused, Err(NatDrop::NoPort));
    assert!(nat.outbound(START, inside(3, 5000), outside(1, 80)).is_ok());
    assert_eq!(nat.mappings(START).count(), 1_024);
}

#[test]
fn req_2_paired_pooling_keeps_a_host_on_one_address() {
    let addresses: Vec<_> = (1..=8).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    let used = |pooling, host| {
        let model = NatModel { pooling, ..preset("symmetric") };
        let mut nat = Nat::new(model, addresses.clone(), ChaCha8Rng::seed_from_u64(7));
        let mut used: Vec<_> = (0..40)
            .map(|n| *nat.outbound(START, inside(host, 5000), outside(1, 80 + n)).unwrap().ip())
            .collect();
        used.sort();
        used.dedup();
        used
    };
    assert_eq!(used(Pooling::Paired, 2).len(), 1);
    assert_eq!(used(Pooling::Arbitrary, 2).len(), 8);

    // Several hosts are still spread over the addresses.
    let mut nat = Nat::new(preset("home"), addresses.clone(), ChaCha8Rng::seed_from_u64(7));
    for host in 0..40 {
        nat.outbound(START, inside(host, 5000), outside(1, 80)).unwrap();
    }
    let mut spread: Vec<_> = nat.mappings(START).map(|mapping| *mapping.external.ip()).collect();
    spread.dedup();
    assert_eq!(spread, addresses);
}

/// REQ-5, REQ-6: a mapping expires after silence, and a packet from inside keeps it alive.
#[test]
fn req_6_outbound_refreshes() {
    let mut nat = nat(NatModel { timeout: seconds(30), ..preset("symmetric") });
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    assert_eq!(nat.outbound(at(29), inside(2, 5000), outside(1, 80)), Ok(shown));
    let mapping = nat.mappings(at(58)).next().unwrap();
    assert_eq!(
        mapping,
        Mapping { internal: inside(2, 5000), external: shown, explicit: false, expires_at: at(59) }
    );
    assert_eq!(nat.outbound(at(58), inside(2, 5000), outside(1, 80)), Ok(shown));
    assert_eq!(nat.mappings(at(88)).count(), 0);
    assert_eq!(nat.inbound(at(88), outside(1, 80), shown), Err(NatDrop::NoMapping));
    assert_ne!(nat.outbound(at(88), inside(2, 5000), outside(1, 80)), Ok(shown));
}

#[test]
fn req_6a_inbound_refreshes_where_asked_to() {
    for refresh_inbound in [true, false] {
        let mut nat = nat(NatModel { timeout: seconds(30), refresh_inbound, ..preset("home") });
        let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
        assert!(nat.inbound(at(20), outside(1, 80), shown).is_ok());
        assert_eq!(nat.inbound(at(40), outside(1, 80), shown).is_ok(), refresh_inbound);
    }
}

/// Packets that the filter drops do not keep a mapping alive.
#[test]
fn req_6a_filtered_packets_do_not_refresh() {
    let mut nat = nat(NatModel { timeout: seconds(30), ..preset("home") });
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    assert_eq!(nat.inbound(at(20), outside(2, 80), shown), Err(NatDrop::Filtered));
    assert_eq!(nat.mappings(at(29)).count(), 1);
    assert_eq!(nat.mappings(at(30)).count(), 0);
}

/// A sender that has fallen silent is no longer let in, even if another keeps the mapping alive.
#[test]
fn each_sender_is_let_in_for_the_timeout() {
    let mut nat = nat(NatModel { timeout: seconds(30), ..preset("home") });
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    nat.outbound(at(20), inside(2, 5000), outside(2, 80)).unwrap();
    assert_eq!(nat.inbound(at(31), outside(1, 80), shown), Err(NatDrop::Filtered));
    assert_eq!(nat.inbound(at(31), outside(2, 80), shown), Ok(inside(2, 5000)));
}

/// REQ-9a: the hairpinned packet shows the external endpoint of its source.
#[test]
fn req_9_hairpinning_shows_the_external_source() {
    let mut nat = nat(preset("home"));
    let ann = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    let bob = nat.outbound(START, inside(3, 6000), outside(1, 80)).unwrap();
    // A hairpinned packet is filtered like any other: Bob has not sent to Ann yet.
    assert_eq!(nat.hairpin(START, inside(2, 5000), bob), Err(NatDrop::Filtered));
    assert_eq!(nat.hairpin(START, inside(3, 6000), ann), Ok((bob, inside(2, 5000))));
    assert_eq!(nat.hairpin(START, inside(2, 5000), bob), Ok((ann, inside(3, 6000))));
    let nobody = SocketAddrV4::new(EXTERNAL, 7000);
    assert_eq!(nat.hairpin(START, inside(2, 5000), nobody), Err(NatDrop::NoMapping));
}

#[test]
fn req_9_hairpinning_can_be_absent() {
    let mut nat = nat(preset("full-cone"));
    let bob = nat.outbound(START, inside(3, 6000), outside(1, 80)).unwrap();
    assert_eq!(nat.hairpin(START, inside(2, 5000), bob), Err(NatDrop::NoHairpinning));
    assert_eq!(nat.mappings(START).count(), 1);
}

#[test]
fn rfc_6888_req_4_ports_of_a_host_are_limited() {
    let model = NatModel { ports_per_host: Some(3), timeout: seconds(30), ..preset("symmetric") };
    let mut nat = nat(model);
    for port in 0..3 {
        nat.outbound(START, inside(2, 5000), outside(1, port)).unwrap();
    }
    let refused = nat.outbound(START, inside(2, 5001), outside(1, 80));
    assert_eq!(refused, Err(NatDrop::HostLimit));
    assert!(nat.outbound(at(20), inside(2, 5000), outside(1, 2)).is_ok());
    assert!(nat.outbound(START, inside(3, 5000), outside(1, 80)).is_ok());
    assert!(nat.outbound(at(30), inside(2, 5001), outside(1, 80)).is_ok());
}

#[test]
fn rfc_6888_req_8_ports_rest_before_reuse() {
    let base = NatModel { timeout: seconds(30), ..preset("home") };
    let mut nat = nat(NatModel { reuse_after: seconds(120), ..base });
    let mut port =
        |now, host| nat.outbound(now, inside(host, 5000), outside(1, 80)).unwrap().port();
    assert_eq!(port(START, 2), 5000);
    assert_eq!(port(at(149), 3), 5001);
    assert_eq!(port(at(150), 4), 5000);
}

/// A port that rests does not count for the host that had it.
#[test]
fn rfc_6888_req_8_resting_ports_do_not_count() {
    let base = NatModel { timeout: seconds(30), ports_per_host: Some(1), ..preset("home") };
    let mut nat = nat(NatModel { reuse_after: seconds(120), ..base });
    for now in [at(0), at(30), at(60)] {
        assert!(nat.outbound(now, inside(2, 5000), outside(1, 80)).is_ok());
    }
}

/// RFC 6888, REQ-5: memory is bounded, and existing sessions are kept.
#[test]
fn full_table_refuses_new_sessions_only() {
    let mut nat = nat(NatModel { table_size: 3, timeout: seconds(30), ..preset("home") });
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    nat.outbound(at(10), inside(2, 5000), outside(2, 80)).unwrap();
    nat.outbound(at(10), inside(3, 5000), outside(1, 80)).unwrap();
    // The full table takes neither a new mapping nor a new remote endpoint of an existing mapping.
    for source in [inside(4, 5000), inside(2, 5000)] {
        assert_eq!(nat.outbound(at(10), source, outside(3, 80)), Err(NatDrop::TableFull));
    }
    assert_eq!(nat.mappings(at(10)).count(), 2);
    assert_eq!(nat.outbound(at(20), inside(2, 5000), outside(1, 80)), Ok(shown));
    assert_eq!(nat.inbound(at(20), outside(1, 80), shown), Ok(inside(2, 5000)));
    assert!(nat.outbound(at(40), inside(4, 5000), outside(3, 80)).is_ok());
}

/// An explicit mapping takes room before anybody uses it.
#[test]
fn full_table_refuses_explicit_mappings() {
    let mut nat = nat(NatModel { table_size: 2, port_mapping: true, ..preset("home") });
    let mut map = |port| nat.map_port(START, inside(2, port), 0, Duration::from_secs(60));
    assert!(map(5000).is_ok());
    assert!(map(5001).is_ok());
    assert_eq!(map(5002), Err(MapPortError::NoResources(NatDrop::TableFull)));
    assert!(map(5001).is_ok());
}

/// Packets from strangers cannot make the table grow without bound.
#[test]
fn packets_from_outside_take_bounded_room() {
    let mut nat = plain(AddressAndPortDependent, EndpointIndependent);
    nat.model.table_size = 10;
    let shown = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    for port in 1..1_000 {
        assert!(nat.inbound(START, outside(9, port), shown).is_ok());
    }
    assert_eq!(nat.flows.len(), 10);
}

#[test]
fn explicit_mapping_lets_anybody_in_until_it_expires() {
    let hour = Duration::from_secs(3_600);
    for model in ["home", "symmetric"] {
        let mut nat = nat(NatModel { port_mapping: true, ..preset(model) });
        let shown = nat.map_port(START, inside(2, 5000), 443, hour).unwrap();
        assert_eq!(shown, SocketAddrV4::new(EXTERNAL, 443));
        assert_eq!(nat.inbound(at(3_599), outside(9, 9), shown), Ok(inside(2, 5000)));
        // Packets that the host sends also show this endpoint, whatever their destination.
        assert_eq!(nat.outbound(START, inside(2, 5000), outside(1, 80)), Ok(shown));
        assert_eq!(nat.outbound(START, inside(2, 5000), outside(2, 80)), Ok(shown));
        let mapping = nat.mappings(at(3_599)).next().unwrap();
        assert!(mapping.explicit && mapping.expires_at == at(3_600));

        assert_eq!(nat.map_port(at(3_599), inside(2, 5000), 0, hour), Ok(shown));
        assert_eq!(nat.inbound(at(7_198), outside(9, 9), shown), Ok(inside(2, 5000)));
        assert_eq!(nat.inbound(at(7_199), outside(9, 9), shown), Err(NatDrop::NoMapping));
    }
}

#[test]
fn explicit_mapping_is_given_back() {
    let mut nat = nat(NatModel { port_mapping: true, ..preset("home") });
    let shown = nat.map_port(START, inside(2, 5000), 7000, Duration::from_secs(60)).unwrap();
    nat.outbound(at(1), inside(2, 5000), outside(1, 80)).unwrap();
    nat.unmap_port(at(2), inside(2, 5000));
    assert_eq!(nat.inbound(at(2), outside(9, 9), shown), Err(NatDrop::Filtered));
    assert_eq!(nat.inbound(at(2), outside(1, 80), shown), Ok(inside(2, 5000)));
}

/// RFC 6887, section 11: the port is a suggestion, and a dynamic mapping becomes explicit.
#[test]
fn explicit_mapping_gets_another_port_where_the_wanted_is_taken() {
    let hour = Duration::from_secs(3_600);
    let mut nat = nat(NatModel { port_mapping: true, ports_per_host: Some(2), ..preset("home") });
    let dynamic = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    assert_eq!(nat.map_port(START, inside(2, 5000), 7000, hour), Ok(dynamic));
    assert_eq!(nat.map_port(START, inside(3, 6000), 5000, hour).unwrap().port(), 5001);
    assert_eq!(nat.map_port(START, inside(3, 6001), 0, hour).unwrap().port(), 6001);
    assert_eq!(
        nat.map_port(START, inside(3, 6002), 0, hour),
        Err(MapPortError::NoResources(NatDrop::HostLimit))
    );
    nat.model.port_mapping = false;
    assert_eq!(nat.map_port(START, inside(4, 5000), 0, hour), Err(MapPortError::NotSupported));
}

#[test]
fn restart_forgets_everything() {
    let mut nat = nat(NatModel { port_mapping: true, ..preset("home") });
    let dynamic = nat.outbound(START, inside(2, 5000), outside(1, 80)).unwrap();
    let explicit = nat.map_port(START, inside(3, 6000), 0, Duration::from_secs(60)).unwrap();
    nat.forget();
    assert_eq!(nat.mappings(START).count(), 0);
    assert_eq!(nat.inbound(START, outside(1, 80), dynamic), Err(NatDrop::NoMapping));
    assert_eq!(nat.inbound(START, outside(1, 80), explicit), Err(NatDrop::NoMapping));
    assert_eq!(nat.outbound(START, inside(3, 5000), outside(1, 80)).unwrap().port(), 5000);
}

/// Two layers: a home router whose outside network is the inside network of a carrier-grade NAT.
#[test]
fn home_behind_carrier_grade() {
    let wan = Ipv4Addr::new(100, 64, 0, 9);
    let mut home = Nat::new(preset("home"), vec![wan], ChaCha8Rng::seed_from_u64(1));
    let carrier_external = vec![EXTERNAL, OTHER_EXTERNAL];
    let mut carrier =
        Nat::new(preset("carrier-grade"), carrier_external, ChaCha8Rng::seed_from_u64(2));
    let (ann, bob) = (inside(2, 5000), outside(1, 80));

    let middle = home.outbound(START, ann, bob).unwrap();
    assert_eq!(middle, SocketAddrV4::new(wan, 5000));
    let shown = carrier.outbound(START, middle, bob).unwrap();
    assert_eq!(carrier.inbound(START, bob, shown), Ok(middle));
    assert_eq!(home.inbound(START, bob, middle), Ok(ann));
    // The carrier's NAT lets strangers in, the home router does not.
    assert_eq!(carrier.inbound(START, outside(9, 9), shown), Ok(middle));
    assert_eq!(home.inbound(START, outside(9, 9), middle), Err(NatDrop::Filtered));

    // Two customers of the carrier reach each other by its hairpinning.
    let neighbour = SocketAddrV4::new(Ipv4Addr::new(100, 64, 0, 10), 6000);
    let neighbour_shown = carrier.outbound(START, neighbour, bob).unwrap();
    let middle = home.outbound(START, ann, neighbour_shown).unwrap();
    assert_eq!(carrier.hairpin(START, middle, neighbour_shown), Ok((shown, neighbour)));
    assert_eq!(carrier.hairpin(START, neighbour, shown), Ok((neighbour_shown, middle)));
    assert_eq!(home.inbound(START, neighbour_shown, middle), Ok(ann));
}
