//! What each node heard, as a table and for scripts.

use std::{fmt::Write, path::PathBuf};

use hark_node::{
    event::PeerStats,
    measure::{Recording, delays, percentile},
};
use serde_json::{Value, json};

/// One entry for each listener.
pub(super) struct Report(Vec<Listener>);

struct Listener {
    name: &'static str,
    file: PathBuf,
    heard: Vec<Heard>,
}

/// How one listener heard one talker.
pub(super) struct Heard {
    talker: &'static str,
    /// Delays in milliseconds, in ascending order. Empty if nothing of the talker was recognised.
    delays: Vec<f64>,
    frames: u64,
    concealed: u64,
    path: Option<&'static str>,
}

impl Heard {
    pub(super) fn new(
        talker: &'static str,
        spoken: &Recording,
        heard: &Recording,
        stats: Option<&PeerStats>,
    ) -> Self {
        let concealed = stats.map_or(0, |stats| stats.frames_concealed);
        Self {
            talker,
            delays: sorted(delays(spoken, heard)),
            frames: stats.map_or(0, |stats| stats.frames_received) + concealed,
            concealed,
            path: stats.map(|stats| stats.path.as_str()),
        }
    }
}

impl Listener {
    fn delays(&self) -> Vec<f64> {
        sorted(self.heard.iter().flat_map(|heard| heard.delays.iter().copied()).collect())
    }

    fn concealed_percent(&self) -> f64 {
        let total = |count: fn(&Heard) -> u64| self.heard.iter().map(count).sum::<u64>();
        share_percent(total(|heard| heard.concealed), total(|heard| heard.frames))
    }

    fn row(&self) -> [String; 6] {
        let delays = self.delays();
        let names = self.heard.iter().filter(|heard| !heard.delays.is_empty());
        let mut paths: Vec<_> = self.heard.iter().filter_map(|heard| heard.path).collect();
        paths.sort_unstable();
        paths.dedup();
        [
            self.name.to_owned(),
            names.map(|heard| heard.talker).collect::<Vec<_>>().join(", "),
            milliseconds(percentile(&delays, 50.0)),
            milliseconds(percentile(&delays, 99.0)),
            format!("{:.1} %", self.concealed_percent()),
            paths.join(", "),
        ]
    }
}

impl Report {
    pub(super) fn new(listeners: Vec<(&'static str, PathBuf, Vec<Heard>)>) -> Self {
        let listeners = listeners.into_iter();
        Self(listeners.map(|(name, file, heard)| Listener { name, file, heard }).collect())
    }

    /// The first listener that did not hear a talker, and that talker. `None` if everybody heard
    /// everybody.
    pub(super) fn unheard(&self) -> Option<(&'static str, &'static str)> {
        let pairs = self
            .0
            .iter()
            .flat_map(|listener| listener.heard.iter().map(move |heard| (listener.name, heard)));
        pairs
            .filter(|(_, heard)| heard.delays.is_empty())
            .map(|(name, heard)| (name, heard.talker))
            .next()
    }

    pub(super) fn text(&self, seconds: u16) -> String {
        let mut text = format!(
            "\n{} nodes on this machine have talked for {seconds} s, each with its own key\n\
             and UDP socket, with no server between them.\n\n",
            self.0.len()
        );
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.0.iter().map(Listener::row));
        text += &table(&rows);
        text += "\n\
            delay: from mouth to ear without sound cards; the median and the 99th percentile\n\
            concealed: speech that was missing at its time and had to be made up\n\
            Every link was encrypted and authenticated (QUIC with Noise), and every frame of\n\
            speech once more, with keys that only the squad's members hold (SFrame).\n\n";
        text += "Listen to what each one heard:";
        for listener in &self.0 {
            let _ = write!(text, "\n  {}", listener.file.display());
        }
        text
    }

    pub(super) fn json(&self, seconds: u16) -> Value {
        let talker = |heard: &Heard| {
            json!({
                "name": heard.talker,
                "windows": heard.delays.len(),
                "delay_median_ms": percentile(&heard.delays, 50.0),
                "delay_99th_ms": percentile(&heard.delays, 99.0),
                "frames": heard.frames,
                "frames_concealed": heard.concealed,
                "concealed_percent": share_percent(heard.concealed, heard.frames),
                "path": heard.path,
            })
        };
        let listener = |listener: &Listener| {
            let delays = listener.delays();
            json!({
                "name": listener.name,
                "file": listener.file,
                "delay_median_ms": percentile(&delays, 50.0),
                "delay_99th_ms": percentile(&delays, 99.0),
                "concealed_percent": listener.concealed_percent(),
                "talkers": listener.heard.iter().map(talker).collect::<Vec<_>>(),
            })
        };
        json!({
            "seconds": seconds,
            "all_heard": self.unheard().is_none(),
            "listeners": self.0.iter().map(listener).collect::<Vec<_>>(),
        })
    }
}

/// Each column is as wide as its longest cell. Numbers are aligned to the right.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cell = |column: usize| {
            let (cell, width) = (&row[column], widths[column]);
            if NUMBERS.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        };
        let cells: [String; 6] = std::array::from_fn(cell);
        let _ = writeln!(text, "  {}", cells.join("   ").trim_end());
        if index == 0 {
            let _ = writeln!(text, "  {}", widths.map(|width| "─".repeat(width)).join("───"));
        }
    }
    text
}

fn milliseconds(delay: Option<f64>) -> String {
    delay.map_or_else(|| "–".to_owned(), |delay| format!("{delay:.0} ms"))
}

fn share_percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn sorted(mut delays: Vec<f64>) -> Vec<f64> {
    delays.sort_unstable_by(f64::total_cmp);
    delays
}

const HEADINGS: [&str; 6] = ["listener", "heard", "delay", "99th", "concealed", "path"];
const NUMBERS: [usize; 3] = [2, 3, 4];

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(talker: &'static str, delays: &[f64], concealed: u64) -> Heard {
        let path = Some("direct");
        Heard { talker, delays: delays.to_vec(), frames: 200, concealed, path }
    }

    fn report() -> Report {
        Report::new(vec![
            (
                "Kestrel",
                "out/heard-by-kestrel.wav".into(),
                vec![heard("Heron", &[40.2, 41.0, 55.0], 1), heard("Wren", &[38.0, 39.0], 0)],
            ),
            (
                "Wren",
                "out/heard-by-wren.wav".into(),
                vec![heard("Heron", &[], 200), heard("Kestrel", &[44.4], 0)],
            ),
        ])
    }

    #[test]
    fn the_table_has_a_line_a_listener() {
        let text = report().text(600);
        let lines: Vec<_> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains("listener")).expect("a table");
        assert_eq!(
            lines[at..at + 4],
            [
                "  listener   heard         delay    99th   concealed   path",
                "  ───────────────────────────────────────────────────────────",
                "  Kestrel    Heron, Wren   40 ms   55 ms       0.2 %   direct",
                "  Wren       Kestrel       44 ms   44 ms      50.0 %   direct",
            ]
        );
        assert_eq!(
            lines[lines.len() - 2..],
            ["  out/heard-by-kestrel.wav", "  out/heard-by-wren.wav"]
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn whoever_was_not_heard_is_found() {
        let mut report = report();
        assert_eq!(report.unheard(), Some(("Wren", "Heron")));
        report.0[1].heard[0].delays.push(40.0);
        assert_eq!(report.unheard(), None);
    }

    #[test]
    fn scripts_get_every_pair() {
        let value = report().json(9);
        assert_eq!(value["seconds"], 9);
        assert_eq!(value["all_heard"], false);
        assert_eq!(value["listeners"][0]["file"], "out/heard-by-kestrel.wav");
        let pair = &value["listeners"][0]["talkers"][0];
        assert_eq!(pair["name"], "Heron");
        assert_eq!(pair["delay_median_ms"], 41.0);
        assert_eq!(pair["concealed_percent"], 0.5);
        assert_eq!(value["listeners"][1]["talkers"][0]["delay_99th_ms"], Value::Null);
    }
}
