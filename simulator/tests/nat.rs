//! Two behind NATs with a volunteer between them, for every pair of RFC 4787 behaviours.
//!
//! Each test has one kind of NAT on one side and all nine on the other. One simulation a process.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

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

/// [PROTO-5.6] [PROTO-5.7] Every pair talks by the relay within 1.5 s of coming to it, and every pair
/// that can go direct does within 3 s.
fn row(first: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    for (second, can_go_direct) in reachable(first).into_iter().enumerate() {
        let ends = run(folder.path(), first, second);
        for end in &ends {
            let about = format!("{} with {}: {end:?}", KINDS[first], KINDS[second]);
            assert!(end.linked_after <= 1.5, "{about}");
            assert_eq!(end.path == "relay", !can_go_direct, "{about}");
            assert!(!can_go_direct || end.path_after <= 3.0, "{about}");
        }
        // Whoever is dialled before it dials has opened nothing, and calls the path direct.
        assert_eq!(ends.iter().any(|end| end.path == "punched"), can_go_direct, "{ends:?}");
    }
}

/// [PROTO-3.10] A founder behind each kind of NAT, and newcomers behind all nine: each comes in by a relay
/// that the charter names, where it cannot otherwise.
#[test]
fn newcomers_behind_all_kinds_come_in_to_a_door_behind_each() {
    let folder = tempfile::tempdir().expect("a folder");
    for door in KINDS {
        let mut story = JOINING.to_owned() + &network("door", door);
        for (number, kind) in KINDS.iter().enumerate() {
            story += &network(&format!("home{number}"), kind);
            story += &format!(
                "[[members]]\nname = \"Wren-{number}\"\nnetwork = \"home{number}\"\n\
                 start = \"3s\"\nticket_uses = 1\ntransmit = \"ptt\"\n"
            );
        }
        let output = play(folder.path(), &story);
        assert!(output.status.success(), "{door}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Which of the nine kinds can punch with this one, as the documented table has it. That one side must
/// send first is no hindrance: whoever lets in anybody is dialled before it sends.
fn reachable(row: usize) -> Vec<bool> {
    let table = include_str!("../src/network/nat/traversal.md");
    // The heading is indented.
    let line = table.lines().find(|line| line.starts_with(&format!("{} ", SHORT[row])));
    let cells = line.expect("each kind has a row").split_whitespace().skip(1);
    let cells: Vec<_> = cells.map(|cell| cell != "-").collect();
    assert_eq!(cells.len(), KINDS.len());
    cells
}

/// How one of the two came to the other.
#[derive(Debug, Default)]
struct End {
    /// Seconds from the later one's coming to the relay until the link.
    linked_after: f64,
    /// The path at the end, and seconds until it was that.
    path: String,
    path_after: f64,
}

fn run(folder: &Path, first: usize, second: usize) -> [End; 2] {
    let (north, south) = (network("north", KINDS[first]), network("south", KINDS[second]));
    let output = play(folder, &format!("{STORY}{north}{south}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(folder.join("trace")).expect("a trace");

    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut ends = [End::default(), End::default()];
    let mut attached = None;
    for line in trace.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(at), Some(who), Some(event)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(event) = serde_json::from_str::<Value>(event) else { continue };
        let at: f64 = at.parse().expect("seconds");
        let (kind, device) = (event["event"].as_str(), event["device"].as_str());
        let (Some(kind), Some(device)) = (kind, device) else { continue };
        if let ("peer_up", Some(name)) = (kind, event["name"].as_str()) {
            names.insert(device.to_owned(), name.to_owned());
        }
        let other = names.get(device).map_or("", String::as_str);
        if (kind, who, other) == ("peer_up", "Wren", "Osprey") {
            attached.get_or_insert(at);
        }
        let end = match (who, other) {
            ("Heron", "Wren") => &mut ends[0],
            ("Wren", "Heron") => &mut ends[1],
            _ => continue,
        };
        let after = at - attached.expect("they meet by the relay");
        let path = match kind {
            "peer_up" => &event["path"],
            "path_changed" => &event["to"],
            _ => continue,
        };
        if end.path.is_empty() {
            end.linked_after = after;
        }
        let path = path.as_str().expect("a word");
        if path != end.path {
            (end.path, end.path_after) = (path.to_owned(), after);
        }
    }
    assert!(ends.iter().all(|end| !end.path.is_empty()), "they never met");
    ends
}

fn network(name: &str, kind: &str) -> String {
    let (mapping, filtering) = kind.split_once(' ').expect("two behaviours");
    let ports = "ports = \"random\", hairpinning = false";
    format!(
        "[networks.{name}]\nnat = {{ mapping = {mapping:?}, filtering = {filtering:?}, {ports} }}\n"
    )
}

fn play(folder: &Path, story: &str) -> Output {
    fs::write(folder.join("story.toml"), story).expect("written");
    Command::new(env!("CARGO_BIN_EXE_hark-sim"))
        .args(["run", "story.toml", "--seed", "1", "--trace", "trace"])
        .current_dir(folder)
        .output()
        .expect("it starts")
}

/// Mapping and filtering, as scenarios and as the table call them.
const KINDS: [&str; 9] = [
    "endpoint-independent endpoint-independent",
    "endpoint-independent address-dependent",
    "endpoint-independent address-and-port-dependent",
    "address-dependent endpoint-independent",
    "address-dependent address-dependent",
    "address-dependent address-and-port-dependent",
    "address-and-port-dependent endpoint-independent",
    "address-and-port-dependent address-dependent",
    "address-and-port-dependent address-and-port-dependent",
];
const SHORT: [&str; 9] =
    ["EI/EI", "EI/AD", "EI/APD", "AD/EI", "AD/AD", "AD/APD", "APD/EI", "APD/AD", "APD/APD"];

const STORY: &str = r#"
purpose = "Two behind NATs, who both come to a volunteer."
duration = "9s"
link.both = { delay.normal = { mean = "15ms", deviation = "1ms" } }
orders = [{ at = "500ms", by = "Osprey", do = ["volunteer"] }]
[[members]]
name = "Osprey"
transmit = "ptt"
[[members]]
name = "Heron"
network = "north"
start = "1s"
transmit = "ptt"
[[members]]
name = "Wren"
network = "south"
start = "4s"
transmit = "ptt"
"#;

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
