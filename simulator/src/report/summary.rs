//! A finished run as plain text, for the terminal.

use std::fmt::Write;

use crate::{
    record::{EarRecord, RunRecord},
    report::text::{Milliseconds, printable},
};

/// Describes in lines of at most `width` characters how a run went: the result of each expectation,
/// failures first, then the worst that each listener heard, and how to replay a run that failed.
pub fn summary(record: &RunRecord, width: usize) -> String {
    let mut lines = vec![headline(record)];
    if !record.expectations.is_empty() {
        lines.push(String::new());
    }
    for expectation in record.failures_first() {
        let mark = if expectation.holds { '✓' } else { '✗' };
        lines.push(format!("  {mark} {}: {}", expectation.text, expectation.measured));
    }
    if !record.ears.is_empty() {
        lines.push(String::new());
        lines.extend(listeners(record));
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&fit(&line, width));
        text.push('\n');
    }
    if record.failed() > 0 {
        // The line stays whole at any width, since it is there to be copied.
        let _ = writeln!(text, "\nreplay: {}", printable(&record.replay));
    }
    text
}

fn headline(record: &RunRecord) -> String {
    let (failed, all) = (record.failed(), record.expectations.len());
    let verdict = match (failed, all) {
        (_, 0) => "nothing was expected".to_owned(),
        (0, 1) => "the expectation is met".to_owned(),
        (0, _) => format!("all {all} expectations are met"),
        _ => format!("{failed} of {all} expectations not met"),
    };
    let RunRecord { scenario, seed, duration_s, .. } = record;
    format!("{scenario}, seed {seed}, {duration_s:.1} s: {verdict}")
}

/// The table: for each listener, the worst value over all talkers and the name of the worst talker.
fn listeners(record: &RunRecord) -> Vec<String> {
    let titles =
        ["listener", "heard", "delay", "99th", "concealed", "longest silence", "worst", "path"];
    let mut rows = vec![titles.map(str::to_owned)];
    let worst_first = record.worst_first();
    for member in &record.members {
        let ears = || worst_first.iter().filter(|ear| ear.listener == member.name);
        let Some(worst) = ears().next() else { continue };
        let largest = |value: fn(&EarRecord) -> Option<f64>| {
            ears().filter_map(|ear| value(ear)).max_by(f64::total_cmp)
        };
        rows.push([
            member.name.clone(),
            format!("{:.1} s", ears().fold(0.0, |sum, ear| sum + ear.heard_s())),
            Milliseconds(largest(|ear| ear.delay_ms.map(|delay| delay.median))).to_string(),
            Milliseconds(largest(|ear| ear.delay_ms.map(|delay| delay.p99))).to_string(),
            format!("{:.2} %", largest(|ear| Some(ear.concealed_percent)).unwrap_or(0.0)),
            Milliseconds(largest(|ear| Some(ear.longest_silence_ms))).to_string(),
            worst.talker.clone(),
            worst.path.clone(),
        ]);
    }
    aligned(&rows)
}

/// Rows with aligned columns: numbers to the right, words to the left.
fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                1..=5 => write!(line, "  {cell:>width$}"),
                _ => write!(line, "  {cell:<width$}"),
            };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The line without characters that would confuse a terminal, cut off at `width` characters.
fn fit(line: &str, width: usize) -> String {
    let line = printable(line);
    if line.chars().count() <= width {
        return line;
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ExpectationRecord, Interval, MeasuredSpread, MemberMeasures};

    fn ear(listener: &str, talker: &str, concealed_percent: f64, p99: f64) -> EarRecord {
        EarRecord {
            listener: listener.to_owned(),
            talker: talker.to_owned(),
            path: "10.0.0.2:4433".to_owned(),
            heard: vec![Interval { start_s: 1.0, end_s: 3.5 }],
            concealed_percent,
            delay_ms: Some(MeasuredSpread { median: 84.4, p99, max: 400.0 }),
            longest_silence_ms: 60.0,
            ..Default::default()
        }
    }

    fn record() -> RunRecord {
        let expectation = |text: &str, holds, measured: &str| ExpectationRecord {
            text: text.to_owned(),
            holds,
            measured: measured.to_owned(),
        };
        let member =
            |name: &str| MemberMeasures { name: name.to_owned(), ..MemberMeasures::default() };
        RunRecord {
            scenario: "bad_uplink".to_owned(),
            seed: 7,
            duration_s: 30.0,
            replay: "hark-sim run bad_uplink.toml --seed 7".to_owned(),
            expectations: vec![
                expectation("all connected within 2 s", true, "0.81 s"),
                expectation("at most 2 % concealed", false, "Wren of Heron: 4.31 %"),
            ],
            members: ["Wren", "Heron", "Kestrel"].map(member).into(),
            ears: vec![
                ear("Wren", "Heron", 4.31, 210.0),
                ear("Wren", "Kestrel", 0.0, 215.0),
                EarRecord {
                    delay_ms: None,
                    heard: vec![],
                    longest_silence_ms: 12_400.0,
                    path: String::new(),
                    ..ear("Kestrel", "Heron", 0.0, 0.0)
                },
            ],
            ..Default::default()
        }
    }

    #[test]
    fn the_text_of_a_failed_run() {
        let expected = "\
bad_uplink, seed 7, 30.0 s: 1 of 2 expectations not met

  ✗ at most 2 % concealed: Wren of Heron: 4.31 %
  ✓ all connected within 2 s: 0.81 s

  listener  heard  delay    99th  concealed  longest silence  worst  path
  Wren      5.0 s  84 ms  215 ms     4.31 %            60 ms  Heron  10.0.0.2:4433
  Kestrel   0.0 s      –       –     0.00 %         12400 ms  Heron

replay: hark-sim run bad_uplink.toml --seed 7
";
        assert_eq!(summary(&record(), 100), expected);
    }

    #[test]
    fn a_run_that_passed_need_not_be_replayed() {
        let mut record = record();
        record.expectations.remove(1);
        record.ears.clear();
        let expected = "\
bad_uplink, seed 7, 30.0 s: the expectation is met

  ✓ all connected within 2 s: 0.81 s
";
        assert_eq!(summary(&record, 100), expected);
    }

    #[test]
    fn a_run_without_expectations_is_one_line() {
        let text = summary(&RunRecord { scenario: "idle".to_owned(), ..Default::default() }, 80);
        assert_eq!(text, "idle, seed 0, 0.0 s: nothing was expected\n");
    }

    #[test]
    fn no_line_but_the_command_is_wider_than_asked() {
        let text = summary(&record(), 30);
        let (above, command) = text.split_once("\n\nreplay: ").unwrap();
        assert!(above.lines().all(|line| line.chars().count() <= 30), "{above}");
        assert!(above.contains("\n  ✗ at most 2 % concealed: Wr…\n"), "{above}");
        assert_eq!(command, "hark-sim run bad_uplink.toml --seed 7\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut record = record();
        record.scenario = "red\u{1b}[31m\nalert".to_owned();
        record.replay = "run \u{202e}gnp.exe".to_owned();
        let text = summary(&record, 200);
        assert!(text.starts_with("red\u{fffd}[31m\u{fffd}alert, seed 7"));
        assert!(text.ends_with("\nreplay: run \u{fffd}gnp.exe\n"));
    }
}
