//! Two peers behind NATs with a volunteer between them, and how they come to each other.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// How one of the two peers came to the other.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Seconds from the moment when the later peer came to the relay until the link.
    pub(crate) linked_after: f64,
    /// The path at the end, and the seconds until the link took that path.
    pub(crate) path: String,
    pub(crate) path_after: f64,
}

/// Plays two peers with a volunteer between them, and returns how each came to the other. One peer
/// is in the network `north` and one in the network `south` of `networks`.
pub(crate) fn meet(folder: &Path, networks: &str) -> [End; 2] {
    let output = play(folder, &format!("{STORY}{networks}"));
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

/// Whether each of the nine kinds can punch with this one, according to the documented table. A
/// pair of which one side must send first counts too: a peer whose NAT lets anybody in is dialled
/// before it sends.
pub(crate) fn reachable(row: usize) -> Vec<bool> {
    let table = include_str!("../../src/network/nat/traversal.md");
    // The heading is indented, so it does not begin with a kind.
    let line = table.lines().find(|line| line.starts_with(&format!("{} ", SHORT[row])));
    let cells = line.expect("each kind has a row").split_whitespace().skip(1);
    let cells: Vec<_> = cells.map(|cell| cell != "-").collect();
    assert_eq!(cells.len(), KINDS.len());
    cells
}

/// The TOML of a network of this name behind a NAT of this kind, with further settings of the NAT
/// and of the network.
pub(crate) fn network(name: &str, kind: &str, nat: &str, more: &str) -> String {
    let (mapping, filtering) = kind.split_once(' ').expect("two behaviours");
    format!(
        "[networks.{name}]\n{more}\nnat = {{ mapping = {mapping:?}, filtering = {filtering:?}, \
         ports = \"random\", {nat} }}\n"
    )
}

/// Plays a scenario in this folder and writes its trace there.
pub(crate) fn play(folder: &Path, story: &str) -> Output {
    fs::write(folder.join("story.toml"), story).expect("written");
    Command::new(env!("CARGO_BIN_EXE_hark-sim"))
        .args(["run", "story.toml", "--seed", "1", "--trace", "trace"])
        .current_dir(folder)
        .output()
        .expect("it starts")
}

/// Mapping and filtering, in the words of scenarios and of the table.
pub(crate) const KINDS: [&str; 9] = [
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
/// Abbreviations of the same kinds, in the same order.
pub(crate) const SHORT: [&str; 9] =
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
