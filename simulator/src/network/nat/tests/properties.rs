use proptest::{collection::vec, prelude::*};

use super::*;

fn models() -> impl Strategy<Value = NatModel> {
    let behaviour = || prop::sample::select(&BEHAVIOURS[..]);
    let ports = prop::sample::select(vec![
        PortAssignment::Preserving,
        PortAssignment::Sequential,
        PortAssignment::Random,
    ]);
    let pooling = prop::sample::select(vec![Pooling::Paired, Pooling::Arbitrary]);
    let flags = (any::<bool>(), 0..20_u32, 1..40_u32);
    (behaviour(), behaviour(), ports, pooling, flags).prop_map(
        |(mapping, filtering, ports, pooling, (refresh_inbound, rest, table_size))| NatModel {
            mapping,
            filtering,
            ports,
            pooling,
            refresh_inbound,
            timeout: seconds(10),
            reuse_after: seconds(rest),
            port_mapping: true,
            table_size,
            ..NatModel::default()
        },
    )
}

/// Steps of: seconds since the step before, inside host, its port, remote host, its port.
fn packets() -> impl Strategy<Value = Vec<(u64, u8, u16, u8, u16)>> {
    vec((0..4_u64, 2..5_u8, 5000..5003_u16, 1..4_u8, 80..83_u16), 1..200)
}

proptest! {
    /// No two inside endpoints ever show the same external endpoint at the same time. A packet that
    /// comes in reaches the inside endpoint whose packet opened the mapping.
    #[test]
    fn external_endpoints_are_never_shared(model in models(), packets in packets(), seed: u64) {
        let external = vec![EXTERNAL, OTHER_EXTERNAL];
        let mut nat = Nat::new(model, external, ChaCha8Rng::seed_from_u64(seed));
        let mut owners = BTreeMap::new();
        let mut now = START;
        for (pause, host, port, remote, remote_port) in packets {
            now = now + Duration::from_secs(pause);
            let (source, destination) = (inside(host, port), outside(remote, remote_port));
            let alive: Vec<_> = nat.mappings(now).map(|mapping| mapping.external).collect();
            owners.retain(|external, _| alive.contains(external));
            let shown = if remote_port == 82 && pause == 3 {
                nat.map_port(now, source, remote_port, Duration::from_secs(15)).ok()
            } else {
                nat.outbound(now, source, destination).ok()
            };
            if let Some(shown) = shown {
                prop_assert_eq!(*owners.entry(shown).or_insert(source), source);
                prop_assert_eq!(nat.inbound(now, destination, shown), Ok(source));
            }
            for (external, owner) in &owners {
                let received = nat.inbound(now, destination, *external);
                prop_assert!(matches!(received, Err(NatDrop::Filtered)) || received == Ok(*owner));
            }
            let sessions: usize = nat.mappings.values().map(|entry| entry.permits.len()).sum();
            prop_assert!(sessions <= nat.table_size());
        }
    }

    /// The same seed always gives the same ports.
    #[test]
    fn same_seed_same_endpoints(model in models(), packets in packets(), seed: u64) {
        let run = |seed| {
            let rng = ChaCha8Rng::seed_from_u64(seed);
            let mut nat = Nat::new(model.clone(), vec![EXTERNAL, OTHER_EXTERNAL], rng);
            let translate = |(_, host, port, remote, remote_port)| {
                nat.outbound(START, inside(host, port), outside(remote, remote_port))
            };
            packets.clone().into_iter().map(translate).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(seed), run(seed));
    }
}
