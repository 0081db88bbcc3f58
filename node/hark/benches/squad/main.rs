//! Whole nodes, as processes of the program `hark`: delay, load, memory, and how fast they meet.
//!
//! `cargo bench --bench squad` measures what one machine's loopback interface allows. The names of
//! measurements as arguments choose some of them. `ci/measure-network` makes network namespaces and
//! measures there.

mod delay;
mod eight;
mod flood;
mod join;
mod lan;
mod loss;
mod node;
mod push_to_talk;
#[path = "../../../benches/shared/quantile.rs"]
mod quantile;
#[path = "../../../benches/shared/speech.rs"]
mod recordings;
mod speech;
#[path = "../../../benches/shared/table.rs"]
mod table;
mod wire;

use std::path::Path;

use quantile::quantile;
use table::Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A part of a measurement that has to run in another namespace.
    if arguments.first().is_some_and(|first| first == flood::FLOODER) {
        if let Err(error) = flood::run(&arguments[1..]) {
            eprintln!("{error:#}");
        }
        return;
    }
    // Without `--bench`, cargo only checks that the benchmark builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let chosen: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let networks = std::env::var("HARK_NAMESPACES").ok();
    let all: &[(&str, Measure)] = if networks.is_some() {
        &[("lan", lan::measure), ("loss", loss::measure), ("flood", flood::measure)]
    } else {
        &[
            ("delay", delay::measure),
            ("low-delay", delay::measure_low),
            ("eight", eight::measure),
            ("join", join::measure),
            ("push-to-talk", push_to_talk::measure),
        ]
    };
    let mut table = Table::default();
    for (name, measure) in all {
        if !chosen.is_empty() && !chosen.contains(name) {
            continue;
        }
        eprintln!("{name} …");
        let outcome = tempfile::tempdir()
            .map_err(anyhow::Error::from)
            .and_then(|folder| measure(folder.path(), &mut table));
        if let Err(error) = outcome {
            table.said(name, "not measured", &format!("{error:#}"));
        }
    }
    table.print("Whole nodes", "bar");
}

/// A measurement: adds rows to the table. It has the folder to itself.
type Measure = fn(&Path, &mut Table) -> anyhow::Result<()>;

/// The largest value, or NaN if there are no values.
fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// The mean, or NaN if there are no values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
