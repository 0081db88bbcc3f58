//! Two peers behind NATs with a volunteer between them, for every pair of RFC 4787 behaviours.
//!
//! Each test has one kind of NAT on one side and all nine on the other. Each simulation runs in a
//! process of its own.

#[path = "../benches/nat/pairs.rs"]
mod pairs;

use pairs::{KINDS, meet, network, play, reachable};

#[test]
fn endpoint_independent_with_endpoint_independent_filtering() {
    row(0);
}

#[test]
fn endpoint_independent_with_address_dependent_filtering() {
    row(1);
}

#[test]
fn endpoint_independent_with_address_and_port_dependent_filtering() {
    row(2);
}

#[test]
fn address_dependent_with_endpoint_independent_filtering() {
    row(3);
}

#[test]
fn address_dependent_with_address_dependent_filtering() {
    row(4);
}

#[test]
fn address_dependent_with_address_and_port_dependent_filtering() {
    row(5);
}

#[test]
fn address_and_port_dependent_with_endpoint_independent_filtering() {
    row(6);
}

#[test]
fn address_and_port_dependent_with_address_dependent_filtering() {
    row(7);
}

#[test]
fn address_and_port_dependent_with_address_and_port_dependent_filtering() {
    row(8);
}

/// [PROTO-5.6] [PROTO-5.7] Every pair talks through the relay within 1.5 s of coming to it, and
/// every pair that can have a direct path has one within 3 s.
fn row(first: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    for (second, can_go_direct) in reachable(first).into_iter().enumerate() {
        let [north, south] = [("north", first), ("south", second)]
            .map(|(name, kind)| network(name, KINDS[kind], PLAIN, ""));
        let ends = meet(folder.path(), &(north + &south));
        for end in &ends {
            let about = format!("{} with {}: {end:?}", KINDS[first], KINDS[second]);
            assert!(end.linked_after <= 1.5, "{about}");
            assert_eq!(end.path == "relay", !can_go_direct, "{about}");
            assert!(!can_go_direct || end.path_after <= 3.0, "{about}");
        }
        // A peer that is dialled before it dials has opened nothing, and calls its path direct.
        assert_eq!(ends.iter().any(|end| end.path == "punched"), can_go_direct, "{ends:?}");
    }
}

/// [PROTO-3.10] A founder is behind each kind of NAT, and newcomers are behind all nine. A newcomer
/// that cannot come in otherwise comes in by a relay that the charter names.
#[test]
fn newcomers_behind_all_kinds_come_in_to_a_door_behind_each() {
    let folder = tempfile::tempdir().expect("a folder");
    for door in KINDS {
        let mut story = JOINING.to_owned() + &network("door", door, PLAIN, "");
        for (number, kind) in KINDS.iter().enumerate() {
            story += &network(&format!("home{number}"), kind, PLAIN, "");
            story += &format!(
                "[[members]]\nname = \"Wren-{number}\"\nnetwork = \"home{number}\"\n\
                 start = \"3s\"\nticket_uses = 1\ntransmit = \"ptt\"\n"
            );
        }
        let output = play(folder.path(), &story);
        assert!(output.status.success(), "{door}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A gateway that does not hairpin.
const PLAIN: &str = "hairpinning = false";

const JOINING: &str = r#"
purpose = "Whoever has a ticket comes in, whatever NATs the newcomer and the door are behind."
duration = "5s"
link.both = { delay.normal = { mean = "15ms", deviation = "1ms" } }
[[relays]]
name = "Beacon"
[[members]]
name = "Kestrel"
network = "door"
transmit = "ptt"
[[expect]]
talker = "Kestrel"
connected_within = "2s"
"#;
