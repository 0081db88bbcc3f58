//! `hark doctor`: checks what talking needs from this machine, and says what to do about what is
//! missing.
//!
//! It reports only what it has tried here. The only others that it asks are this network's router,
//! and name servers about names that are given. Everything beyond stays unknown; it does not guess.

mod home;
mod machine;
mod network;
mod sound;

use std::io::{self, IsTerminal};

use hark_node::reach::names::PeerPlace;
use ratatui::crossterm::{style::Stylize, terminal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    HomeArguments,
    person::{home_path, say, say_json},
};

#[derive(clap::Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    home: HomeArguments,
    /// Look up where this name leads, as `hark talk` would; repeatable
    #[arg(long, value_name = "ADDR:PORT|NAME")]
    peer: Vec<PeerPlace>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// Talking works, but not as well as it could.
    Warning,
    /// Talking does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What the person should do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// The finding as numbers and names, for scripts.
    #[serde(skip_serializing_if = "Value::is_null")]
    values: Value,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { check, verdict: Verdict::Ok, found, advice: None, values: Value::Null }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { verdict: Verdict::Warning, advice, ..Self::ok(check, found) }
    }

    fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, found, advice) }
    }

    fn with(self, values: Value) -> Self {
        Self { values, ..self }
    }
}

pub(crate) fn run(arguments: DoctorArguments) -> anyhow::Result<()> {
    let path = home_path(&arguments.home)?;
    let areas: [(&str, &dyn Fn() -> Vec<Finding>); 4] = [
        ("sound", &sound::check),
        ("network", &|| network::check(&arguments.peer, &path)),
        ("machine", &machine::check),
        ("home", &|| home::check(&path)),
    ];
    let mut verdicts = Vec::new();
    let mut report = serde_json::Map::new();
    let layout = Layout::of_the_terminal();
    for (area, check) in areas {
        if !arguments.json {
            say(&layout.heading(area));
        }
        let findings = check();
        verdicts.extend(findings.iter().map(|finding| finding.verdict));
        if arguments.json {
            report.insert(area.to_owned(), json!(findings));
        } else {
            findings.iter().for_each(|finding| say(&layout.lines(finding)));
        }
    }
    let worst = verdicts.iter().copied().max().unwrap_or(Verdict::Ok);
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    if arguments.json {
        report.insert("verdict".to_owned(), json!(worst));
        say_json(&Value::Object(report));
    } else {
        match worst {
            Verdict::Ok => say("\nAll that talking needs is there."),
            Verdict::Warning => {
                let things = plural(count(Verdict::Warning), "thing");
                say(&format!("\nTalking works; {things} could be better."));
            }
            Verdict::Problem => {}
        }
    }
    anyhow::ensure!(
        worst < Verdict::Problem,
        "talking does not work here yet: see what to do about {} above",
        plural(count(Verdict::Problem), "problem"),
    );
    Ok(())
}

/// How findings are laid out.
struct Layout {
    /// Columns of text to fill.
    width: usize,
    colours: bool,
}

impl Layout {
    fn of_the_terminal() -> Self {
        let colours = io::stdout().is_terminal();
        let columns = if colours { terminal::size().ok() } else { None };
        let width = columns.map_or(WIDTH, |(columns, _)| usize::from(columns));
        Self { width: width.clamp(NARROWEST, WIDTH), colours }
    }

    fn heading(&self, area: &str) -> String {
        let mut letters = area.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        let heading: String = first.chain(letters).collect();
        let heading = if self.colours { heading.bold().to_string() } else { heading };
        // An empty line separates the areas.
        if area == "sound" { heading } else { format!("\n{heading}") }
    }

    fn lines(&self, finding: &Finding) -> String {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        };
        let padded = format!("{word:9}");
        let word = match finding.verdict {
            _ if !self.colours => padded,
            Verdict::Ok => padded.green().to_string(),
            Verdict::Warning => padded.yellow().to_string(),
            Verdict::Problem => padded.red().to_string(),
        };
        let room = self.width - INDENT;
        let mut text = String::new();
        for (index, line) in wrap(&finding.found, room).iter().enumerate() {
            if index == 0 {
                text = format!("  {word}{:16}{line}", finding.check);
            } else {
                text += &format!("\n{:INDENT$}{line}", "");
            }
        }
        for (index, line) in wrap(finding.advice.as_deref().unwrap_or(""), room - 2)
            .iter()
            .filter(|line| !line.is_empty())
            .enumerate()
        {
            let mark = if index == 0 { "→" } else { " " };
            text += &format!("\n{:INDENT$}{mark} {line}", "");
        }
        text
    }
}

/// Breaks `text` into lines of at most `width` characters, as far as its words allow. Returns at
/// least one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Columns before the text: two spaces, the verdict and the name of the check.
const INDENT: usize = 27;
/// Maximum width: wider lines are hard to read.
const WIDTH: usize = 100;
/// Minimum width: a narrower terminal wraps the lines itself.
const NARROWEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_never_lost() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("extraordinarily ab", 5), ["extraordinarily", "ab"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn a_finding_says_what_to_do_below_itself() {
        let layout = Layout { width: 60, colours: false };
        let finding = Finding::warning("loudspeaker", "is asleep", "wake it, kindly");
        assert_eq!(
            layout.lines(&finding),
            "  warning  loudspeaker     is asleep\n                           → wake it, kindly"
        );
        let finding = Finding::ok("clock", "a fact of many words that does not fit");
        assert_eq!(
            layout.lines(&finding),
            "  ok       clock           a fact of many words that does\n                           \
             not fit"
        );
    }

    #[test]
    fn scripts_get_the_verdict_in_a_word() {
        let finding = Finding::problem("UDP", "none", "ask").with(json!({"ipv4": false}));
        assert_eq!(
            json!(finding),
            json!({"check": "UDP", "verdict": "problem", "found": "none", "advice": "ask",
                "values": {"ipv4": false}})
        );
        assert_eq!(
            json!(Finding::ok("UDP", "both")),
            json!({"check": "UDP", "verdict": "ok", "found": "both"})
        );
        assert!(Verdict::Ok < Verdict::Warning && Verdict::Warning < Verdict::Problem);
    }
}
