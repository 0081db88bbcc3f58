//! How fast a change of the charter spreads, and how fast two halves of a squad that edited apart
//! agree. Real nodes are played in simulated time, with many seeds.
//!
//! `cargo bench -p hark-simulator --bench replication` plays each scenario with ten seeds; a number
//! after `--` sets another count. Simulated times depend neither on the machine nor on the build.

#[path = "../../../node/benches/shared/quantile.rs"]
mod quantile;
#[path = "../../../node/benches/shared/table.rs"]
mod table;

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context, ensure};
use quantile::{median, quantile};
use serde::Deserialize;
use table::Table;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without `--bench`, cargo only checks that the bench builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let seeds = arguments.iter().find_map(|it| it.parse().ok()).unwrap_or(10);
    let mut table = Table::default();
    gossip(seeds, &mut table)?;
    halves(seeds, &mut table)?;
    table.print("The charter among members", "bar");
    Ok(())
}

/// Measures how long it takes until each of 31 other members acts on a new operation.
fn gossip(seeds: u64, table: &mut Table) -> anyhow::Result<()> {
    let mut delays = Vec::new();
    for run in play(GOSSIP, seeds)? {
        let told = run.charters();
        let (officer, others): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|(name, _)| *name == "Kestrel");
        let (_, made) = officer.first().context("Kestrel edits")?;
        let made: Vec<_> = made.iter().filter(|it| it.at_s >= QUIET_S).collect();
        ensure!(made.len() == CHANGES && others.len() == OTHERS, "not what the scenario says");
        for (place, change) in made.iter().enumerate() {
            for (_, heard) in &others {
                // A member that has a later operation has this one, too.
                let has = |it: &&Told<'_>| made[place..].iter().any(|made| made.text == it.text);
                let first = heard.iter().find(has);
                delays.push(first.map_or(f64::INFINITY, |it| it.at_s - change.at_s));
            }
        }
    }
    let within = |limit| {
        let count = delays.iter().filter(|delay| **delay <= limit).count();
        100.0 * count as f64 / delays.len() as f64
    };
    let measure = |what: &str| format!("a change among 32, 5 % lost: {what}");
    table.said(&measure("seeds"), &seeds.to_string(), "of the scenario");
    table.said(&measure("changes times nodes"), &delays.len().to_string(), "");
    table.shown(&measure("median"), median(&delays), "s", "");
    table.held(&measure("99 of 100 nodes"), quantile(&delays, 0.99), "s", 2.0);
    table.shown(&measure("nodes within 2 s"), within(2.0), "%", "99.0% at least");
    table.held(&measure("the slowest node"), quantile(&delays, 1.0), "s", 10.0);
    Ok(())
}

/// Cuts two halves, each with officers who edit, off from each other, and measures how long they
/// take to agree after they meet again.
fn halves(seeds: u64, table: &mut Table) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let runs = play(HALVES, 3 * seeds)?;
    for run in &runs {
        let told = run.charters();
        ensure!(told.len() == 6, "not what the scenario says");
        let last: Vec<_> = told.values().filter_map(|told| told.last()).collect();
        let agree = last.iter().all(|told| told.text == last[0].text);
        let ends = last.iter().map(|told| told.at_s).fold(MENDED_S, f64::max);
        times.push(if agree { ends - MENDED_S } else { f64::INFINITY });
    }
    let measure = |what: &str| format!("halves that edited apart: {what}");
    table.said(&measure("seeds"), &runs.len().to_string(), "of the scenario");
    table.shown(&measure("one charter after, median"), median(&times), "s", "");
    table.held(&measure("one charter after, slowest"), quantile(&times, 1.0), "s", 10.0);
    Ok(())
}

/// The part of a run's record that is evaluated here.
#[derive(Deserialize)]
struct Run {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    at_s: f64,
    member: Option<String>,
    kind: String,
    text: String,
}

/// A charter that a member acts on, and from when on.
struct Told<'a> {
    at_s: f64,
    text: &'a str,
}

impl Run {
    /// The charters that each member acted on, by member and in order of time.
    fn charters(&self) -> BTreeMap<&str, Vec<Told<'_>>> {
        let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.kind == "charter") {
            if let Some(member) = &event.member {
                let told = Told { at_s: event.at_s, text: &event.text };
                members.entry(member.as_str()).or_default().push(told);
            }
        }
        members
    }
}

/// Plays a scenario with the seeds from 1 to `seeds`, as many at a time as there are cores.
fn play(scenario: &str, seeds: u64) -> anyhow::Result<Vec<Run>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = Mutex::new(1..=seeds);
    let runs = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.lock().expect("nobody panics with it").next();
            let Some(seed) = seed else { return };
            eprintln!("{scenario}, seed {seed} …");
            let run = play_one(scenario, seed).with_context(|| format!("{scenario}, seed {seed}"));
            runs.lock().expect("nobody panics with it").push(run);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    runs.into_inner().expect("nobody panics with it").into_iter().collect()
}

fn play_one(scenario: &str, seed: u64) -> anyhow::Result<Run> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hark-sim"));
    command.args(["run", scenario, "--json", "--seed"]).arg(seed.to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    // Status 1 means that an expectation was not met. The run was still measured.
    ensure!(output.status.code().is_some_and(|code| code < 2), "it could not be played");
    Ok(serde_json::from_slice(&output.stdout)?)
}

const GOSSIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/replication/gossip.toml");

/// Of the scenario: when its members have settled and the changes begin (in seconds), how many
/// changes there are, and how many other members.
const QUIET_S: f64 = 12.0;
const CHANGES: usize = 12;
const OTHERS: usize = 31;

const HALVES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/scenarios/halves-that-edit-apart.toml");

/// When the scenario's halves meet again, in seconds.
const MENDED_S: f64 = 26.0;
