//! The tables of a page: pairs, members, links, address translators and events.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::{
    scale::{Px, TimeAxis},
    words::{Escaped, Palette, RelativePath},
};
use crate::{
    record::{Interval, LinkRecord, MeasuredSpread, RunRecord},
    report::text::{Milliseconds, Percent},
};

/// Writes all tables that have rows.
pub(super) fn write(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    pairs(out, record, palette)?;
    members(out, record, palette)?;
    links(out, record)?;
    nats(out, record)?;
    events(out, record, palette)
}

/// One row for each pair of listener and talker, worst first.
fn pairs(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    let columns = "<th>Listener<th>Talker<th>Path<th class=n>Connected after<th class=n>Heard\
        <th class=n>Received<th class=n>Late<th class=n>Recovered<th class=n>Concealed\
        <th class=n>Share<th class=n>Delay\
        <th class=n>99th<th class=n>Longest<th class=n>Longest silence";
    let Some(left_out) = open(out, "All pairs", columns, record.ears.len(), PAIRS)? else {
        return Ok(());
    };
    for ear in record.worst_first().into_iter().take(PAIRS) {
        let delay = |value: fn(_) -> f64| Milliseconds(ear.delay_ms.map(value));
        writeln!(
            out,
            "<tr><td>{}<td>{}<td class=path>{}<td class=n>{}<td class=n>{:.1} s<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=n>{}<td class=\"n {}\">{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=\"n {}\">{}",
            palette.member(&ear.listener),
            palette.member(&ear.talker),
            Escaped(&ear.path),
            Milliseconds(ear.connect_ms),
            ear.heard_s(),
            ear.frames_received,
            ear.frames_late,
            ear.frames_recovered,
            ear.frames_concealed,
            severity(ear.concealed_percent, NOTABLE_CONCEALMENT),
            Percent(ear.concealed_percent),
            delay(|delay: MeasuredSpread| delay.median),
            delay(|delay| delay.p99),
            delay(|delay| delay.max),
            severity(ear.longest_silence_ms, NOTABLE_SILENCE_MS),
            Milliseconds(Some(ear.longest_silence_ms)),
        )?;
    }
    close(out, left_out)
}

fn members(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    let sound = record.members.iter().any(|member| member.sound.is_some());
    let columns = format!(
        "<th>Member<th>Addresses<th class=n>Ran<th class=n>Spoke{}",
        if sound { "<th>What it heard" } else { "" }
    );
    let Some(left_out) = open(out, "Members", &columns, record.members.len(), MEMBERS)? else {
        return Ok(());
    };
    let total = |spans: &[Interval]| spans.iter().fold(0.0, |sum, span| sum + span.length_s());
    for member in record.members.iter().take(MEMBERS) {
        write!(
            out,
            "<tr><td>{}<td class=path>{}<td class=n>{:.1} s<td class=n>{:.1} s",
            palette.member(&member.name),
            Escaped(&member.addresses.join(", ")),
            total(&member.running),
            total(&member.speaking),
        )?;
        if let Some(sound) = &member.sound {
            let source = RelativePath(sound);
            write!(out, "<td><audio controls preload=\"none\" src=\"{source}\"></audio>")?;
        } else if sound {
            out.push_str("<td>");
        }
        out.push('\n');
    }
    close(out, left_out)
}

fn links(out: &mut String, record: &RunRecord) -> fmt::Result {
    let columns = "<th>Link<th class=n>Offered<th class=n>Delivered<th class=n>Lost<th>Causes\
        <th class=n>Rate<th class=n>Longest queue<th>Queue over time";
    let Some(left_out) = open(out, "Links", columns, record.links.len(), LINKS)? else {
        return Ok(());
    };
    // All links share one scale, so that a bad one stands out.
    let longest = record.links.iter().map(longest_queue_ms).fold(MIN_QUEUE_SCALE_MS, f64::max);
    for link in record.links.iter().take(LINKS) {
        let lost: u64 = link.lost.values().sum();
        let lost_percent = lost as f64 / (link.offered as f64).max(1.0) * 100.0;
        let rate_kbps = link.bytes as f64 * 8.0 / 1000.0 / record.duration_s.max(0.001);
        writeln!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=\"n {}\">{}<td>{}\
             <td class=n>{rate_kbps:.0} kbit/s<td class=n>{}<td>{}",
            Escaped(&link.name),
            link.offered,
            link.delivered,
            severity(lost_percent, NOTABLE_LOSS),
            Percent(lost_percent),
            causes(&link.lost),
            Milliseconds(Some(longest_queue_ms(link))),
            sparkline(&link.queue_ms, record.duration_s, longest),
        )?;
    }
    close(out, left_out)
}

fn nats(out: &mut String, record: &RunRecord) -> fmt::Result {
    let columns = "<th>Translator<th>Address<th>Mapping<th>Filtering<th class=n>Mappings\
        <th class=n>Expired<th class=n>Most at once<th>Dropped";
    let Some(left_out) = open(out, "Address translators", columns, record.nats.len(), NATS)? else {
        return Ok(());
    };
    for nat in record.nats.iter().take(NATS) {
        writeln!(
            out,
            "<tr><td>{}<td class=path>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}\
             <td>{}",
            Escaped(&nat.name),
            Escaped(&nat.external_address),
            Escaped(&nat.mapping),
            Escaped(&nat.filtering),
            nat.mappings_created,
            nat.mappings_expired,
            nat.mappings_peak,
            causes(&nat.dropped),
        )?;
    }
    close(out, left_out)
}

/// The events in order of time. If there are too many, faults are kept first.
fn events(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    let columns = "<th>Time<th>Member<th>Event<th>What happened";
    let Some(left_out) = open(out, "Events", columns, record.events.len(), EVENTS)? else {
        return Ok(());
    };
    let faults = record.events.iter().filter(|event| event.fault).count();
    let (mut faults, mut others) = (faults.min(EVENTS), EVENTS - faults.min(EVENTS));
    for event in &record.events {
        let room = if event.fault { &mut faults } else { &mut others };
        let Some(less) = room.checked_sub(1) else { continue };
        *room = less;
        writeln!(
            out,
            "<tr{}><td>{:.3} s<td>{}<td>{}<td>{}",
            if event.fault { " class=fault" } else { "" },
            event.at_s,
            event.member.as_ref().map(|name| palette.member(name)).unwrap_or_default(),
            Escaped(&event.kind),
            Escaped(&event.text),
        )?;
    }
    close(out, left_out)
}

/// Begins a table that shows at most `shown` of `rows` rows and says how many it leaves out. Does
/// nothing if there are no rows. Long tables begin closed.
fn open(
    out: &mut String,
    title: &str,
    columns: &str,
    rows: usize,
    shown: usize,
) -> Result<Option<usize>, fmt::Error> {
    if rows == 0 {
        return Ok(None);
    }
    let state = if rows <= OPEN_ROWS { " open" } else { "" };
    writeln!(
        out,
        "<section>\n<details{state}><summary><h2>{title}</h2> <small>{rows}</small></summary>\n\
         <div class=\"wide\"><table>\n<thead><tr>{columns}\n<tbody>"
    )?;
    Ok(Some(rows.saturating_sub(shown)))
}

fn close(out: &mut String, left_out: usize) -> fmt::Result {
    out.push_str("</table></div>\n");
    if left_out > 0 {
        writeln!(out, "<p class=\"note\">{left_out} more are left out here.</p>")?;
    }
    out.push_str("</details>\n</section>\n");
    Ok(())
}

/// The class of a value that is harmless, notable or bad.
fn severity(value: f64, [notable, bad]: [f64; 2]) -> &'static str {
    match value {
        value if value >= bad => "bad",
        value if value >= notable => "warn",
        _ => "",
    }
}

fn causes(causes: &BTreeMap<String, u64>) -> String {
    let cause = |(cause, count): (&String, &u64)| {
        format!("<span class=\"cause\">{} <b>{count}</b></span>", Escaped(cause))
    };
    causes.iter().filter(|(_, count)| **count > 0).map(cause).collect()
}

fn longest_queue_ms(link: &LinkRecord) -> f64 {
    link.queue_ms.iter().map(|(_, queue_ms)| *queue_ms).fold(0.0, f64::max)
}

fn sparkline(points: &[(f64, f64)], duration_s: f64, longest: f64) -> String {
    let axis = TimeAxis { left: 0.0, right: SPARK_WIDTH, duration_s };
    let stroke = |(at_s, value): (f64, f64)| {
        let height = (value / longest * SPARK_HEIGHT).min(SPARK_HEIGHT);
        let visible = height >= 0.05;
        visible.then(|| format!("M{},{SPARK_HEIGHT}v{}", axis.x(at_s), Px(-height)))
    };
    let strokes: String =
        axis.peaks(points.iter().copied(), SPARK_STROKES).into_iter().filter_map(stroke).collect();
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}\"><path d=\"{strokes}\"/>\
         </svg>"
    )
}

// The largest number of rows shown of each table; further rows are only counted. Enough for squads
// of 32.
const PAIRS: usize = 1000;
const MEMBERS: usize = 100;
const LINKS: usize = 200;
const NATS: usize = 100;
const EVENTS: usize = 500;
/// Tables with more rows than this begin closed.
const OPEN_ROWS: usize = 40;

// The value from which on something is notable, and the value from which on it is bad.
const NOTABLE_CONCEALMENT: [f64; 2] = [1.0, 5.0];
const NOTABLE_SILENCE_MS: [f64; 2] = [200.0, 1000.0];
const NOTABLE_LOSS: [f64; 2] = [1.0, 10.0];

const SPARK_WIDTH: f64 = 160.0;
const SPARK_HEIGHT: f64 = 22.0;
const SPARK_STROKES: usize = 80;
/// The smallest full scale of queues, in milliseconds, so that short queues look short.
const MIN_QUEUE_SCALE_MS: f64 = 20.0;
