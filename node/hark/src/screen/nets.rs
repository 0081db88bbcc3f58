//! The tree of channels: which ones are heard and talked to, and who is on each.

use std::collections::BTreeMap;

use hark_node::snapshot::{NetView, Snapshot};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Stylize},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    ViewState,
    choice::Pane,
    fit::fit,
    view::{more, rule, window},
};

/// Rows that the channels need, including the line above them: 0 if there is only one channel.
pub(super) fn wanted_height(snapshot: &Snapshot, state: &ViewState) -> u16 {
    match state.choice.nets(snapshot).len() {
        0 if snapshot.nets.len() < 2 => 0,
        count => u16::try_from(count + 1).unwrap_or(u16::MAX),
    }
}

/// Draws a line for each channel, as many as there is room for around the chosen one. Returns how
/// many were drawn.
pub(super) fn draw(frame: &mut Frame, area: Rect, snapshot: &Snapshot, state: &ViewState) -> usize {
    if area.height == 0 {
        return 0;
    }
    let nets = state.choice.nets(snapshot);
    let chosen = state.choice.net_index(&nets);
    let shown = window(nets.len(), usize::from(area.height - 1), chosen);
    let is_search = state.choice.search().is_some();
    let names = names(&nets, is_search);
    let longest = names.iter().map(|name| Span::from(name.as_str()).width()).max();
    let width = longest.unwrap_or_default().min(usize::from(area.width / 2));
    let has_keys = state.choice.pane(snapshot) == Pane::Nets;
    let lines: Vec<_> = shown
        .clone()
        .map(|index| {
            let cursor = if has_keys && index == chosen { "› " } else { "  " };
            let line = line(nets[index], &names[index], width, area.width, snapshot);
            let mut spans = vec![Span::from(cursor)];
            spans.extend(line.spans);
            let line = fit(Line::from(spans), area.width);
            if has_keys && index == chosen { line.add_modifier(Modifier::BOLD) } else { line }
        })
        .collect();
    let title = format!(" channels {}", more(nets.len(), &shown));
    frame.render_widget(Paragraph::new(lines).block(rule(title)), area);
    shown.len()
}

/// The name by which commands address a channel: its path if several channels have the same name.
pub(super) fn handle(net: &NetView, snapshot: &Snapshot) -> String {
    let same = snapshot.nets.iter().filter(|it| it.name.eq_ignore_ascii_case(&net.name)).count();
    if same > 1 { net.path.clone() } else { net.name.clone() }
}

/// The names of the channels as a tree. Each is indented below its parent. If the parent is not
/// listed above it, the whole path is shown instead.
fn names(nets: &[&NetView], is_search: bool) -> Vec<String> {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for net in nets {
        let above = net.parent.as_deref().and_then(|parent| depths.get(parent));
        match above {
            Some(above) if !is_search => {
                let depth = above + 1;
                depths.insert(&net.id, depth);
                names.push(format!("{}{}", "  ".repeat(depth), net.name));
            }
            _ => {
                depths.insert(&net.id, 0);
                names.push(net.path.clone());
            }
        }
    }
    names
}

fn line(
    net: &NetView,
    name: &str,
    width: usize,
    line_width: u16,
    snapshot: &Snapshot,
) -> Line<'static> {
    let lamp = match (net.talked_to && snapshot.transmitting, &net.talking[..], net.listening) {
        (true, ..) => Span::from("●").fg(Color::Red),
        (_, [_, ..], _) => Span::from("●").fg(Color::Green),
        (_, [], true) => Span::from("○"),
        (_, [], false) => Span::from("·").dim(),
    };
    let talks = match (net.talked_to, net.may_speak) {
        (true, _) => Span::from("→").fg(Color::Cyan).bold(),
        (false, true) => Span::from(" "),
        (false, false) => Span::from("×").dim(),
    };
    let name = Span::from(format!(" {}", padded(name, width)));
    let name = if net.talked_to { name.bold() } else { name };
    let name = if net.listening { name } else { name.dim() };
    let mut line = Line::from(vec![lamp, talks, name]);
    if net.muted {
        line.push_span(Span::from("  silenced").fg(Color::Yellow));
    } else if (net.volume - 1.0).abs() > 0.001 {
        line.push_span(Span::from(format!("  {:.0} %", net.volume * 100.0)).dim());
    }
    // Of these four, two are for the mark of the chosen channel.
    let room = usize::from(line_width).saturating_sub(line.width() + 4);
    people(&mut line, net, room);
    line
}

/// Adds the people on a channel, talkers first, and the number of those who have no room.
fn people(line: &mut Line<'static>, net: &NetView, room: usize) {
    let talking = net.talking.iter().map(|name| (name, true));
    let silent = net.members.iter().filter(|name| !net.talking.contains(name));
    let all: Vec<_> = talking.chain(silent.map(|name| (name, false))).collect();
    let mut used = 0;
    for (index, (name, talks)) in all.iter().enumerate() {
        let text = format!("{}{name}", if index == 0 { "  " } else { ", " });
        let text = Span::from(text);
        let left = all.len() - index;
        // After the last name no count is needed.
        let count = if left > 1 { COUNT_CELLS } else { 0 };
        if used + text.width() + count > room + 2 {
            line.push_span(Span::from(format!("  +{left}")).dim());
            return;
        }
        used += text.width();
        line.push_span(if *talks { text.fg(Color::Green).bold() } else { text.dim() });
    }
}

/// `name` padded or cut to exactly `width` cells.
fn padded(name: &str, width: usize) -> String {
    let line = fit(Line::from(name.to_owned()), width);
    let text: String = line.spans.iter().map(|span| &*span.content).collect();
    text + &" ".repeat(width.saturating_sub(line.width()))
}

/// Width of the number of people who have no room, in cells.
const COUNT_CELLS: usize = 5;
