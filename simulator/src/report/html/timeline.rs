//! The drawing of who spoke when, and of what reached whom.
//!
//! Each member has a lane with its speech and, below it, what it heard: the level of all sound, and
//! one thin lane per talker in the talker's colour. Faults are lines across all lanes.

use std::fmt::{self, Write};

use super::{
    scale::{Px, TimeAxis},
    spans::{later, within, without},
    words::{Escaped, Palette, shortened},
};
use crate::{
    record::{EarRecord, EventRecord, Interval, MemberMeasures, RunRecord},
    report::text::{Milliseconds, Percent},
};

/// Writes the section with the timeline.
pub(super) fn write(out: &mut String, record: &RunRecord, palette: &Palette<'_>) -> fmt::Result {
    if record.members.is_empty() {
        return Ok(());
    }
    let axis = TimeAxis { left: LEFT, right: RIGHT, duration_s: record.duration_s };
    let (marks, rows) = place_marks(record, &axis);
    let top = AXIS_HEIGHT + rows as f64 * MARK_HEIGHT;
    let mut lanes = String::new();
    let mut y = top + MEMBER_GAP;
    for member in &record.members {
        y = write_member(&mut lanes, record, member, palette, &axis, y)?;
    }
    let height = y + AXIS_HEIGHT;
    out.push_str("<section class=\"whole\">\n<h2>Timeline</h2>\n");
    out.push_str(LEGEND);
    writeln!(
        out,
        "<div class=\"wide\"><svg class=\"timeline\" viewBox=\"0 0 {} {}\" \
         data-left=\"{LEFT}\" data-right=\"{RIGHT}\" data-top=\"{}\" data-duration=\"{}\" \
         role=\"img\" aria-label=\"Timeline of what was said and heard\">\n{PATTERNS}",
        Px(WIDTH),
        Px(height),
        Px(top),
        record.duration_s,
    )?;
    for tick in axis.ticks(TICKS) {
        let x = axis.x(tick);
        write!(out, "<path class=\"grid\" d=\"M{x},{}V{}\"/>", Px(top), Px(y))?;
        for y in [top - 5.0, height - 6.0] {
            write!(out, "<text class=\"tick\" x=\"{x}\" y=\"{}\">{} s</text>", Px(y), Px(tick))?;
        }
    }
    out.push_str(&lanes);
    for mark in &marks {
        mark.write_line(out, &axis, y)?;
    }
    // Labels are written last, so that they lie above the lines that cross them.
    for mark in &marks {
        mark.write_label(out, &axis)?;
    }
    out.push_str("</svg></div>\n");
    let unmarked = record.events.iter().filter(|event| event.fault).count() - marks.len();
    if unmarked > 0 {
        writeln!(out, "<p class=\"note\">{unmarked} more faults are in the list of events.</p>")?;
    }
    out.push_str("</section>\n");
    Ok(())
}

/// Draws all lanes of one member from `y` on and returns where they end.
fn write_member(
    out: &mut String,
    record: &RunRecord,
    member: &MemberMeasures,
    palette: &Palette<'_>,
    axis: &TimeAxis,
    y: f64,
) -> Result<f64, fmt::Error> {
    let (ears, left_out) = shown_ears(record, &member.name);
    let hears = y + SAYS_HEIGHT;
    let first_ear = hears + HEARS_HEIGHT;
    let note = if left_out > 0 { LANE_HEIGHT } else { 0.0 };
    let end = first_ear + ears.len() as f64 * LANE_HEIGHT + note;

    let class = palette.class(&member.name);
    write!(out, "<g class=\"m{class}\">")?;
    let panel = |out: &mut String, class: &str, from: Px, to: Px| {
        write!(
            out,
            "<rect class=\"{class}\" x=\"{from}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            Px(y),
            Px(to.0 - from.0),
            Px(end - y + PANEL_PADDING)
        )
    };
    panel(out, "panel", Px(LEFT), Px(RIGHT))?;
    let whole = [Interval { start_s: 0.0, end_s: record.duration_s }];
    for off in without(&whole, &member.running) {
        panel(out, "off", axis.x(off.start_s), axis.x(off.end_s))?;
    }
    write!(
        out,
        "<text class=\"name\" x=\"0\" y=\"{}\">{}</text>",
        Px(y + SAYS_HEIGHT / 2.0 + 5.0),
        Escaped(&shortened(&member.name, NAME_LENGTH)),
    )?;
    for (label, y) in [("says", y + SAYS_HEIGHT / 2.0), ("hears", hears + HEARS_HEIGHT / 2.0)] {
        write!(
            out,
            "<text class=\"what\" x=\"{}\" y=\"{}\">{label}</text>",
            LEFT - 8.0,
            Px(y + 4.0)
        )?;
    }
    write!(
        out,
        "<path class=\"spoke\" d=\"{}\"/><path class=\"says\" d=\"{}\"/>",
        axis.strokes(&member.speaking, y + SAYS_HEIGHT / 2.0),
        waveform(&member.spoken_level, axis, y + SAYS_HEIGHT / 2.0, SAYS_HEIGHT / 2.0 - 3.0),
    )?;
    write!(
        out,
        "<path class=\"output\" d=\"{}\"/></g>",
        waveform(&member.level, axis, hears + HEARS_HEIGHT / 2.0, HEARS_HEIGHT / 2.0 - 2.0)
    )?;
    for (lane, ear) in ears.iter().enumerate() {
        write_ear(out, record, ear, palette, axis, first_ear + lane as f64 * LANE_HEIGHT)?;
    }
    if left_out > 0 {
        write!(
            out,
            "<text class=\"lane\" x=\"{}\" y=\"{}\">{left_out} better ones left out</text>",
            LEFT - 8.0,
            Px(end - 2.0)
        )?;
    }
    out.push('\n');
    Ok(end + PANEL_PADDING + MEMBER_GAP)
}

/// Draws what one listener heard of one talker.
fn write_ear(
    out: &mut String,
    record: &RunRecord,
    ear: &EarRecord,
    palette: &Palette<'_>,
    axis: &TimeAxis,
    y: f64,
) -> fmt::Result {
    let member = |name| record.members.iter().find(|member| member.name == name);
    let spoken = member(ear.talker.as_str()).map_or(&[][..], |talker| &talker.speaking);
    let running = member(ear.listener.as_str()).map_or(&[][..], |listener| &listener.running);
    // Speech is due at the listener after its usual delay.
    let due = later(spoken, ear.delay_ms.map_or(0.0, |delay| delay.median / 1000.0));
    let mut unheard = within(&without(&due, &ear.heard), running);
    unheard.retain(|gap| gap.length_s() >= SHORTEST_GAP_S);
    let connected_gaps = within(&unheard, &ear.connected);
    let other_gaps = without(&unheard, &ear.connected);

    let middle = y + LANE_HEIGHT / 2.0;
    write!(
        out,
        "<g class=\"m{}\"><title>{} hears {}: {:.1} s, {} concealed, delay {}, {}</title>\
         <text class=\"lane\" x=\"{}\" y=\"{}\">{}</text>",
        palette.class(&ear.talker),
        Escaped(&ear.listener),
        Escaped(&ear.talker),
        ear.heard_s(),
        Percent(ear.concealed_percent),
        Milliseconds(ear.delay_ms.map(|delay| delay.median)),
        Escaped(&ear.path),
        LEFT - 8.0,
        Px(middle + 3.2),
        Escaped(&shortened(&ear.talker, NAME_LENGTH)),
    )?;
    for (class, intervals, y) in [
        ("link", &ear.connected, middle),
        ("heard", &ear.heard, middle),
        ("gap", &connected_gaps, middle),
        ("apart", &other_gaps, middle),
        // An underline: some of the frames at these times were concealed, but perhaps not all.
        ("concealed", &concealed(ear), y + LANE_HEIGHT - 2.0),
    ] {
        if !intervals.is_empty() {
            write!(out, "<path class=\"{class}\" d=\"{}\"/>", axis.strokes(intervals, y))?;
        }
    }
    out.push_str("</g>");
    Ok(())
}

/// The talkers that a listener's lanes show, in the members' order, and how many did not fit.
fn shown_ears<'a>(record: &'a RunRecord, listener: &str) -> (Vec<&'a EarRecord>, usize) {
    let spoke = |name: &str| {
        record.members.iter().any(|member| member.name == name && !member.speaking.is_empty())
    };
    let mut ears = record.worst_first();
    ears.retain(|ear| ear.listener == listener && (spoke(&ear.talker) || !ear.heard.is_empty()));
    let left_out = ears.len().saturating_sub(LANES_PER_LISTENER);
    ears.truncate(LANES_PER_LISTENER);
    let place = |ear: &EarRecord| record.members.iter().position(|it| it.name == ear.talker);
    ears.sort_by_key(|ear| place(ear));
    (ears, left_out)
}

/// The spans between samples in which frames were concealed; adjacent spans are joined.
pub(super) fn concealed(ear: &EarRecord) -> Vec<Interval> {
    let mut spans: Vec<Interval> = Vec::new();
    for pair in ear.series.windows(2) {
        let [before, sample] = pair else { continue };
        match spans.last_mut() {
            _ if sample.concealed == 0 => {}
            Some(last) if last.end_s == before.at_s => last.end_s = sample.at_s,
            _ => spans.push(Interval { start_s: before.at_s, end_s: sample.at_s }),
        }
    }
    spans
}

/// Upright strokes around `middle`, whose heights show the level.
fn waveform(levels: &[f32], axis: &TimeAxis, middle: f64, half_height: f64) -> String {
    let per_stroke = levels.len().div_ceil(WAVEFORM_STROKES).max(1);
    let stroke = |(index, levels): (usize, &[f32])| {
        let loudest = levels.iter().copied().fold(QUIETEST_DBFS, f32::max);
        let half = f64::from(1.0 - loudest / QUIETEST_DBFS).min(1.0) * half_height;
        let at_s = (index as f64 + 0.5) * per_stroke as f64 * LEVEL_INTERVAL_S;
        let path = || format!("M{},{}v{}", axis.x(at_s), Px(middle - half), Px(2.0 * half));
        (half > 0.0).then(path)
    };
    levels.chunks(per_stroke).enumerate().filter_map(stroke).collect()
}

/// The mark of a fault, and the place of its label.
struct Mark<'a> {
    event: &'a EventRecord,
    label: String,
    row: usize,
    /// Whether the label ends at the line instead of beginning there.
    before: bool,
}

/// Places the labels of the first faults in as few rows as they need.
fn place_marks<'a>(record: &'a RunRecord, axis: &TimeAxis) -> (Vec<Mark<'a>>, usize) {
    let mut taken_to = [f64::NEG_INFINITY; MARK_ROWS];
    let faults = record.events.iter().filter(|event| event.fault);
    let mark = |event: &'a EventRecord| {
        let text = match &event.member {
            Some(member) => format!("{member}: {}", event.text),
            None => event.text.clone(),
        };
        let mut label = shortened(&text, LABEL_LENGTH);
        let width = label.chars().count() as f64 * CHARACTER_WIDTH + 12.0;
        let x = axis.x(event.at_s).0;
        let before = x + width > WIDTH;
        let from = if before { x - width } else { x };
        let free = taken_to.iter().position(|to| *to <= from);
        let row = free.unwrap_or(MARK_ROWS - 1);
        match free {
            Some(row) => taken_to[row] = from + width,
            // There is no room for the label. The line stays, and shows the text when it is pointed
            // at.
            None => label.clear(),
        }
        Mark { event, label, row, before }
    };
    let marks: Vec<_> = faults.take(MARKS).map(mark).collect();
    let rows = marks.iter().map(|mark| mark.row + 1).max().unwrap_or(0);
    (marks, rows)
}

impl Mark<'_> {
    fn write_line(&self, out: &mut String, axis: &TimeAxis, bottom: f64) -> fmt::Result {
        writeln!(
            out,
            "<g class=\"fault\"><title>{:.2} s {} {}</title><path d=\"M{},{}V{}\"/></g>",
            self.event.at_s,
            Escaped(self.event.member.as_deref().unwrap_or_default()),
            Escaped(&self.event.text),
            axis.x(self.event.at_s),
            Px(self.top() + 2.0),
            Px(bottom),
        )
    }

    fn write_label(&self, out: &mut String, axis: &TimeAxis) -> fmt::Result {
        let (anchor, offset) = if self.before { ("end", -5.0) } else { ("start", 5.0) };
        writeln!(
            out,
            "<text class=\"mark\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            Px(axis.x(self.event.at_s).0 + offset),
            Px(self.top() + 12.0),
            Escaped(&self.label),
        )
    }

    fn top(&self) -> f64 {
        self.row as f64 * MARK_HEIGHT
    }
}

const LEGEND: &str = "<p class=\"legend\">\
    <span><i class=\"k says\"></i>speech, in its talker’s colour</span>\
    <span><i class=\"k concealed\"></i>frames concealed</span>\
    <span><i class=\"k gap\"></i>spoken, connected, not heard</span>\
    <span><i class=\"k apart\"></i>spoken, not connected</span>\
    <span><i class=\"k off\"></i>not running</span>\
    <span><i class=\"k fault\"></i>fault or change</span></p>\n";

/// The hatching for times when a member was not running.
const PATTERNS: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" \
    patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <path class=\"hatch\" d=\"M0,0V6\"/></pattern></defs>\n";

const WIDTH: f64 = 1170.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 1150.0;
const TICKS: usize = 12;
const AXIS_HEIGHT: f64 = 20.0;
const SAYS_HEIGHT: f64 = 34.0;
const HEARS_HEIGHT: f64 = 20.0;
const LANE_HEIGHT: f64 = 13.0;
const PANEL_PADDING: f64 = 4.0;
const MEMBER_GAP: f64 = 10.0;
const NAME_LENGTH: usize = 14;

/// The largest number of strokes of a waveform; more would run into each other.
const WAVEFORM_STROKES: usize = 300;
/// The level below which sound is drawn as silence.
const QUIETEST_DBFS: f32 = -60.0;
const LEVEL_INTERVAL_S: f64 = 0.1;

/// Missing speech shorter than this, in seconds, is the edge of a talkspurt rather than a gap.
const SHORTEST_GAP_S: f64 = 0.1;
/// The largest number of talkers shown below each listener. The worst are shown, so that large
/// squads stay readable.
const LANES_PER_LISTENER: usize = 8;

const MARK_HEIGHT: f64 = 16.0;
const MARK_ROWS: usize = 5;
const LABEL_LENGTH: usize = 44;
const CHARACTER_WIDTH: f64 = 6.2;
/// The largest number of faults drawn; later ones are only in the list.
const MARKS: usize = 60;
