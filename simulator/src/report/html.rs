//! A finished run as one HTML page that needs nothing but a browser.
//!
//! Style, script and drawings are in the page itself; only the sound files, if there are any, lie
//! beside it. Names and texts come from scenarios and are escaped. Drawings are thinned to what a
//! screen can show, and tables have a maximum length, so that the page of a large run still opens
//! at once.

mod plots;
mod scale;
mod spans;
mod tables;
mod timeline;
mod words;

use std::fmt::{self, Write};

use self::words::{Escaped, Palette};
use crate::{
    record::{EarRecord, RunRecord},
    report::text::{Milliseconds, Percent},
};

/// The page that shows `record`.
pub fn page(record: &RunRecord) -> String {
    let mut out = String::new();
    write_page(&mut out, record).expect("a String takes whatever is written");
    out
}

fn write_page(out: &mut String, record: &RunRecord) -> fmt::Result {
    let palette = Palette::new(&record.members);
    let mark = if record.failed() > 0 { "✗" } else { "✓" };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{mark} {}, seed {}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n",
        Escaped(&record.scenario),
        record.seed,
        Palette::STYLE,
    )?;
    header(out, record)?;
    out.push_str("<main>\n");
    expectations(out, record)?;
    timeline::write(out, record, &palette)?;
    plots::write(out, record, &palette)?;
    tables::write(out, record, &palette)?;
    write!(out, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

fn header(out: &mut String, record: &RunRecord) -> fmt::Result {
    let (failed, all) = (record.failed(), record.expectations.len());
    let (class, verdict) = match (failed, all) {
        (_, 0) => ("none", "Nothing was expected".to_owned()),
        (0, 1) => ("good", "✓ The expectation is met".to_owned()),
        (0, _) => ("good", format!("✓ All {all} expectations are met")),
        _ => ("bad", format!("✗ {failed} of {all} expectations not met")),
    };
    writeln!(
        out,
        "<header>\n<p class=\"product\">Hark simulator</p>\n<div class=\"title\"><h1>{}</h1>\
         <p class=\"verdict {class}\">{verdict}</p></div>\n<p class=\"purpose\">{}</p>",
        Escaped(&record.scenario),
        Escaped(&record.purpose),
    )?;
    let largest =
        |value: fn(&EarRecord) -> f64| record.ears.iter().map(value).max_by(f64::total_cmp);
    let slowest = largest(|ear| ear.delay_ms.map_or(f64::NEG_INFINITY, |delay| delay.p99));
    let concealed = largest(|ear| ear.concealed_percent);
    let facts = [
        ("Seed", record.seed.to_string()),
        ("Simulated", format!("{:.1} s", record.duration_s)),
        ("Members", record.members.len().to_string()),
        ("Worst 99th delay", Milliseconds(slowest).to_string()),
        ("Worst concealment", concealed.map_or("–".to_owned(), |worst| Percent(worst).to_string())),
        ("Worst silence", Milliseconds(largest(|ear| ear.longest_silence_ms)).to_string()),
    ];
    out.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    out.push_str("</dl>\n</header>\n");
    Ok(())
}

fn expectations(out: &mut String, record: &RunRecord) -> fmt::Result {
    out.push_str("<section>\n<h2>Expectations</h2>\n");
    if record.expectations.is_empty() {
        out.push_str("<p class=\"note\">The scenario states none.</p>\n");
    }
    out.push_str("<ul class=\"expectations\">");
    for expectation in record.failures_first() {
        let (class, mark) = if expectation.holds { ("good", "✓") } else { ("bad", "✗") };
        write!(
            out,
            "\n<li class=\"{class}\"><i>{mark}</i><span>{}</span><b>{}</b></li>",
            Escaped(&expectation.text),
            Escaped(&expectation.measured),
        )?;
    }
    out.push_str("</ul>\n");
    for (name, value) in [("Replay", &record.replay), ("Trace", &record.trace_digest)] {
        let value = Escaped(value);
        writeln!(out, "<p class=\"replay\"><span>{name}</span><code>{value}</code></p>")?;
    }
    out.push_str("</section>\n");
    Ok(())
}

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
