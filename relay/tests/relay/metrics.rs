//! `/metrics`, parsed as a scraper does.

use std::collections::BTreeMap;

use crate::world::{World, busy, named, organisation};

/// Parses the samples by name and labels, after checking every line.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let word = comment.split(' ').next().expect("a word");
            assert!(["HELP", "TYPE", "UNIT", "EOF"].contains(&word), "{line}");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let name = key.split('{').next().expect("a name");
        assert!(name.starts_with("hark_relay_"), "{line}");
        assert!(name.chars().all(|it| it.is_ascii_lowercase() || it == '_'), "{line}");
        if let Some(labels) = key[name.len()..].strip_prefix('{') {
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("unclosed: {line}"));
            let unescaped = labels.replace("\\\\", "").replace("\\\"", "");
            assert_eq!(unescaped.matches('"').count() % 2, 0, "{line}");
        }
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(key.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[test]
fn metrics_say_what_is_carried_for_whom() {
    let home = tempfile::tempdir().expect("a folder");
    let world = World::start(home.path(), &[named(1, "Kes\"trel\\"), named(2, "Falcon")]);
    busy(&mut world.fake(organisation(1)).snapshot.lock().expect("unpoisoned"));
    let answer = world.ask("GET", "/metrics", "");
    assert!(answer.head.contains("content-type: application/openmetrics-text"), "{answer:?}");
    let samples = samples(&answer.text);
    let sample = |name: &str, number: u8, more: &str| {
        let called = if number == 1 { r#"Kes\"trel\\"# } else { "Falcon" };
        let id = organisation(number);
        let key = format!("hark_relay_{name}{{organisation=\"{id}\",name=\"{called}\"{more}}}");
        *samples.get(&key).unwrap_or_else(|| panic!("no {key} in {}", answer.text))
    };
    assert_eq!((sample("sessions", 1, ""), sample("sessions", 2, "")), (2.0, 0.0));
    assert_eq!((sample("channels", 1, ""), sample("named", 1, "")), (1.0, 1.0));
    assert_eq!((sample("running", 2, ""), sample("draining", 2, "")), (1.0, 0.0));
    assert_eq!(sample("packets_total", 1, ",direction=\"in\""), 3.0);
    assert_eq!(sample("packets_total", 1, ",direction=\"out\""), 9.0);
    assert_eq!(sample("traffic_bytes_total", 1, ",direction=\"out\""), 900.0);
    assert_eq!(sample("dropped_packets_total", 1, ",reason=\"late\""), 14.0);
    assert_eq!(sample("quota", 2, ",quota=\"members\""), 0.0);
    assert!(samples.contains_key("hark_relay_uptime_seconds"));
}
