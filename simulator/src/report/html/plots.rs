//! Small plots of the quality of streams over time, one row for each pair of listener and talker.
//!
//! All rows have the same limits, so that they can be compared.

use std::fmt::{self, Write};

use super::{
    scale::{Px, TimeAxis, limit},
    timeline::concealed,
    words::{Escaped, Palette},
};
use crate::{
    record::{EarRecord, EarSample, RunRecord},
    report::text::{Milliseconds, Percent},
};

/// Writes the section with the plots of the worst pairs, if any pair had trouble.
pub(super) fn write(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    let mut ears = record.worst_first();
    ears.retain(|ear| eventful(ear));
    let eventful = ears.len();
    ears.truncate(PAIRS);
    let Some(quiet) = record.ears.len().checked_sub(eventful).filter(|_| eventful > 0) else {
        return Ok(());
    };
    out.push_str("<section>\n<h2>Streams over time</h2>\n<p class=\"note\">");
    match eventful - ears.len() {
        0 => write!(out, "The {eventful} pairs to which something happened, worst first")?,
        _ => write!(out, "The worst {} of {eventful} pairs to which something happened", PAIRS)?,
    }
    if quiet > 0 {
        write!(out, "; {quiet} more went without loss, concealment or silence")?;
    }
    out.push_str(
        ". Lines show the highest value of each moment, the bar below them concealment; rows share \
         their scales.</p>\n\
         <div class=\"wide\"><div class=\"plots\">\n<span></span>",
    );
    for kind in KINDS {
        write!(out, "<p class=\"kind\">{} <small>{}</small></p>", kind.title, kind.hint)?;
    }
    out.push('\n');
    let limits = KINDS.map(|kind| {
        let values = ears.iter().flat_map(|ear| kind.lines.iter().flat_map(|line| line(ear)));
        limit(values.map(|(_, value)| value).collect(), kind.floor)
    });
    for ear in ears {
        write!(
            out,
            "<div class=\"pair\"><p>{} hears<br>{}</p><small>{} concealed<br>{} longest silence\
             <br>{}</small></div>",
            palette.member(&ear.listener),
            palette.member(&ear.talker),
            Percent(ear.concealed_percent),
            Milliseconds(Some(ear.longest_silence_ms)),
            Escaped(&ear.path),
        )?;
        for (kind, limit) in KINDS.iter().zip(limits) {
            plot(out, record, ear, kind, limit, palette.class(&ear.talker))?;
        }
        out.push('\n');
    }
    out.push_str("</div></div>\n</section>\n");
    Ok(())
}

/// Whether anything happened to a stream that is worth a row.
fn eventful(ear: &EarRecord) -> bool {
    ear.frames_concealed > 0
        || ear.frames_late > 0
        || ear.longest_silence_ms >= NOTABLE_SILENCE_MS
        || ear.series.iter().any(|sample| sample.loss_percent > 0.0)
}

fn plot(
    out: &mut String,
    record: &RunRecord,
    ear: &EarRecord,
    kind: &Kind,
    limit: f64,
    class: usize,
) -> fmt::Result {
    let axis = TimeAxis { left: LEFT, right: RIGHT, duration_s: record.duration_s };
    write!(
        out,
        "<svg class=\"plot m{class}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" data-left=\"{LEFT}\" \
         data-right=\"{RIGHT}\" data-top=\"{TOP}\" data-bottom=\"{BOTTOM}\" data-limit=\"{limit}\" \
         data-duration=\"{}\" role=\"img\" aria-label=\"{}\">",
        record.duration_s, kind.title,
    )?;
    for share in [0.0, 0.5, 1.0] {
        let y = Px(height(share));
        write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT},{y}H{RIGHT}\"/>\
             <text class=\"value\" x=\"{}\" y=\"{}\">{}</text>",
            LEFT - 4.0,
            Px(y.0 + 3.5),
            Px(limit * share),
        )?;
    }
    for tick in axis.ticks(TICKS) {
        let x = axis.x(tick);
        write!(out, "<text class=\"tick\" x=\"{x}\" y=\"{}\">{}</text>", HEIGHT - 2.0, Px(tick))?;
    }
    for fault in record.events.iter().filter(|event| event.fault).take(FAULTS) {
        let x = axis.x(fault.at_s);
        write!(out, "<path class=\"fault\" d=\"M{x},{TOP}V{BOTTOM}\"/>")?;
    }
    for (line, values) in kind.lines.iter().enumerate() {
        let points = axis.peaks(values(ear), BUCKETS);
        write!(out, "<path class=\"line l{line}\" d=\"{}\"/>", path(&points, &axis, limit))?;
    }
    let concealed = axis.strokes(&concealed(ear), BOTTOM);
    write!(out, "<path class=\"concealed\" d=\"{concealed}\"/></svg>")
}

/// A line through the points. It is broken where there is no point for a while.
fn path(points: &[(f64, f64)], axis: &TimeAxis, limit: f64) -> String {
    let longest_step_s = LONGEST_STEP_S.max(axis.duration_s / BUCKETS as f64 * 2.5);
    let mut before = f64::NEG_INFINITY;
    let mut path = String::new();
    for &(at_s, value) in points {
        let command = if at_s - before > longest_step_s { 'M' } else { 'L' };
        path.push(command);
        path.push_str(&format!("{},{}", axis.x(at_s), Px(height((value / limit).min(1.0)))));
        before = at_s;
    }
    path
}

/// The vertical position of a share of the limit.
fn height(share: f64) -> f64 {
    BOTTOM - share.max(0.0) * (BOTTOM - TOP)
}

/// One column of plots.
struct Kind {
    title: &'static str,
    hint: &'static str,
    /// The smallest limit, so that small values look small.
    floor: f64,
    lines: &'static [Values],
}

/// Extracts the values of a line from a record, as (seconds, value).
type Values = fn(&EarRecord) -> Vec<(f64, f64)>;

const KINDS: [Kind; 4] = [
    Kind { title: "Mouth to ear, ms", hint: "", floor: 100.0, lines: &[|ear| ear.delays.clone()] },
    Kind {
        title: "Buffer, ms",
        hint: "<b class=\"l0\">delay</b> <b class=\"l1\">jitter</b>",
        floor: 50.0,
        lines: &[
            |ear| series(ear, |sample| sample.playout_delay_ms),
            |ear| series(ear, |sample| sample.jitter_ms),
        ],
    },
    Kind {
        title: "Loss, %",
        hint: "",
        floor: 5.0,
        lines: &[|ear| series(ear, |sample| sample.loss_percent)],
    },
    Kind {
        title: "Round trip, ms",
        hint: "",
        floor: 50.0,
        lines: &[|ear| series(ear, |sample| sample.rtt_ms)],
    },
];

fn series(ear: &EarRecord, value: fn(&EarSample) -> f64) -> Vec<(f64, f64)> {
    ear.series.iter().map(|sample| (sample.at_s, value(sample))).collect()
}

/// How many rows are drawn; the worst pairs come first.
const PAIRS: usize = 12;
/// How many faults are drawn as lines in each plot. More would hide the curve.
const FAULTS: usize = 20;
/// The shortest silence that is worth a row, in milliseconds.
const NOTABLE_SILENCE_MS: f64 = 200.0;
/// A line is broken between points further apart than this, in seconds, since nothing was measured
/// there.
const LONGEST_STEP_S: f64 = 1.2;
const BUCKETS: usize = 200;
const TICKS: usize = 4;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 104.0;
const LEFT: f64 = 30.0;
const RIGHT: f64 = 252.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 86.0;
