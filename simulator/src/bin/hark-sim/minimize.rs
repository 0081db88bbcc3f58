//! `hark-sim minimize`: finds the smallest scenario that still fails in the same way.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use toml::{Table, Value};

use crate::{MinimizeArguments, explore::child, play::find};

pub(crate) fn minimize(arguments: &MinimizeArguments) -> anyhow::Result<ExitCode> {
    let scenario = find(&arguments.scenario)?;
    let mut best: Table = scenario.text()?.parse().with_context(|| scenario.to_string())?;
    // The default is beside the scenario, since recordings are looked for from there. For a
    // built-in scenario it is the current folder.
    let beside = || Path::new(scenario.argument()).with_extension("min.toml");
    let result = arguments.output.clone().unwrap_or_else(beside);
    let attempt = Attempt { path: result.with_extension("trying.toml"), seed: arguments.seed };
    let Some(original) = attempt.failures(&best)? else {
        anyhow::bail!("{scenario} cannot be played");
    };
    if original.is_empty() {
        println!("{scenario} holds with seed {}: nothing to do", arguments.seed);
        return Ok(ExitCode::SUCCESS);
    }
    let mut tries = 1;
    while let Some(smaller) = smaller_still_failing(&best, &attempt, &original, &mut tries)? {
        best = smaller;
        std::fs::write(&result, toml::to_string(&best)?)?;
        println!("{tries} runs: {}", describe(&best));
    }
    std::fs::write(&result, toml::to_string(&best)?)?;
    println!("smallest: {}, {}", result.display(), describe(&best));
    println!("  replay: hark-sim run {} --seed {}", result.display(), arguments.seed);
    Ok(ExitCode::SUCCESS)
}

fn smaller_still_failing(
    table: &Table,
    attempt: &Attempt,
    original: &BTreeSet<String>,
    tries: &mut usize,
) -> anyhow::Result<Option<Table>> {
    for candidate in candidates(table) {
        *tries += 1;
        if attempt.failures(&candidate)?.is_some_and(|now| !now.is_disjoint(original)) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// All scenarios that are one step smaller; the largest steps come first.
fn candidates(table: &Table) -> Vec<Table> {
    let mut candidates = Vec::new();
    for key in ["members", "faults", "orders", "expect"] {
        let length = table.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        // From the end: later entries often depend on earlier ones.
        for index in (0..length).rev() {
            let mut smaller = table.clone();
            if let Some(Value::Array(entries)) = smaller.get_mut(key) {
                entries.remove(index);
            }
            candidates.push(smaller);
        }
    }
    candidates.extend(fewer_of_a_kind(table));
    candidates.extend(shorter(table));
    for (index, key) in member_settings(table) {
        let mut smaller = table.clone();
        if let Some(member) = member_mut(&mut smaller, index) {
            member.remove(&key);
        }
        candidates.push(smaller);
    }
    for key in ["link", "links", "networks"] {
        if table.contains_key(key) {
            let mut smaller = table.clone();
            smaller.remove(key);
            candidates.push(smaller);
        }
    }
    candidates
}

fn fewer_of_a_kind(table: &Table) -> impl Iterator<Item = Table> + '_ {
    let members = table.get("members").and_then(Value::as_array).map_or(0, Vec::len);
    (0..members).filter_map(|index| {
        let mut smaller = table.clone();
        let count = member_mut(&mut smaller, index)?.get_mut("count")?;
        let fewer = count.as_integer()? / 2;
        *count = Value::Integer(fewer.max(1));
        (fewer >= 1).then_some(smaller)
    })
}

fn shorter(table: &Table) -> Option<Table> {
    let text = table.get("duration")?.as_str()?;
    let span: hark_simulator::units::Span = text.parse().ok()?;
    let shorter_ms = span.as_duration().as_millis() * 3 / 4;
    let mut shorter = table.clone();
    shorter.insert("duration".to_owned(), Value::String(format!("{shorter_ms}ms")));
    (shorter_ms >= SHORTEST_MS).then_some(shorter)
}

fn member_settings(table: &Table) -> Vec<(usize, String)> {
    let members = table.get("members").and_then(Value::as_array).into_iter().flatten();
    let keys = members.enumerate().filter_map(|(index, member)| Some((index, member.as_table()?)));
    keys.flat_map(|(index, member)| member.keys().map(move |key| (index, key.clone())))
        .filter(|(_, key)| key != "name")
        .collect()
}

fn member_mut(table: &mut Table, index: usize) -> Option<&mut Table> {
    table.get_mut("members")?.as_array_mut()?.get_mut(index)?.as_table_mut()
}

fn describe(table: &Table) -> String {
    let count = |key| table.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let duration = table.get("duration").and_then(Value::as_str).unwrap_or_default();
    format!(
        "{} kinds of members, {} faults, {} expectations, {duration}",
        count("members"),
        count("faults"),
        count("expect"),
    )
}

/// Plays candidates.
struct Attempt {
    path: PathBuf,
    seed: u64,
}

impl Attempt {
    /// The texts of the expectations that do not hold; `None` if the scenario cannot be played.
    fn failures(&self, table: &Table) -> anyhow::Result<Option<BTreeSet<String>>> {
        std::fs::write(&self.path, toml::to_string(table)?)
            .with_context(|| self.path.display().to_string())?;
        let played = play(&self.path, self.seed);
        std::fs::remove_file(&self.path)?;
        played
    }
}

fn play(path: &Path, seed: u64) -> anyhow::Result<Option<BTreeSet<String>>> {
    let output = child(path.as_os_str(), seed)?.arg("--json").output()?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Ok(None);
    }
    let record: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let expectations = record["expectations"].as_array().into_iter().flatten();
    let failed = expectations.filter(|expectation| expectation["holds"] == false);
    Ok(Some(failed.filter_map(|it| it["text"].as_str().map(str::to_owned)).collect()))
}

/// The shortest duration of a candidate, in milliseconds: a shorter scenario shows little.
const SHORTEST_MS: u128 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_is_one_step_smaller() {
        let table: Table = r#"
            purpose = "p"
            duration = "20s"
            members = [{ name = "Kestrel" }, { name = "Wren", count = 8, start = "1s" }]
            faults = [{ at = "1s", quit = "Wren-1" }]
        "#
        .parse()
        .expect("it is TOML");
        let texts: Vec<_> =
            candidates(&table).iter().map(|t| toml::to_string(t).expect("TOML")).collect();
        assert!(texts.iter().all(|text| *text != toml::to_string(&table).expect("TOML")));
        assert!(texts.iter().any(|text| text.contains("count = 4")));
        assert!(texts.iter().any(|text| text.contains("15000ms")));
        assert!(texts.iter().any(|text| !text.contains("quit")));
        assert!(texts.iter().any(|text| !text.contains("Kestrel")));
        assert!(texts.iter().any(|text| text.contains("Wren") && !text.contains("start")));
    }
}
