//! The list of people: how each one is heard, and who they are.

use hark_command_line::news::plain_address;
use hark_node::{
    event::DeviceText,
    snapshot::{PeerView, Snapshot, Verification},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Margin, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState, Wrap},
};

use super::{
    ViewState,
    choice::{Pane, is_long_away},
    fit::fit,
    view::{BAR_CELLS, bar, more, rule, window},
};
use crate::person::words;

/// Rows that the people need, including the two lines above them: 0 if nobody was ever seen.
pub(super) fn wanted_height(snapshot: &Snapshot, state: &ViewState) -> u16 {
    match state.choice.people(snapshot).len() {
        0 if snapshot.peers.is_empty() => 0,
        count => u16::try_from(count).unwrap_or(u16::MAX).saturating_add(HEADER),
    }
}

/// Draws a row for each device, as many as there is room for around the chosen one. Returns how
/// many were drawn.
pub(super) fn draw(frame: &mut Frame, area: Rect, snapshot: &Snapshot, state: &ViewState) -> usize {
    if area.height == 0 {
        return 0;
    }
    let people = state.choice.people(snapshot);
    let chosen = state.choice.peer_index(&people);
    let has_header = area.height > HEADER;
    let above = if has_header { HEADER } else { 1 };
    let shown = window(people.len(), usize::from(area.height.saturating_sub(above)), chosen);
    let title = format!(" {} {}", heads(snapshot, state), more(people.len(), &shown));
    // On a narrow terminal the least important columns are left out.
    let columns = COLUMNS.iter().take_while(|column| column.from_width <= area.width);
    let columns: Vec<_> = columns.collect();
    let widths = columns.iter().map(|column| column.width);
    // The table divides its width in the same way, without the mark of the chosen row.
    let room = Rect { width: area.width.saturating_sub(MARK), height: 1, ..area };
    let cells = Layout::horizontal(widths).spacing(SPACING).split(room);
    let rows = people[shown.clone()].iter().map(|peer| {
        let style = if peer.reachable { Style::new() } else { Style::new().dim() };
        let lines = columns.iter().map(|column| (column.cell)(peer, snapshot));
        let lines = lines.zip(cells.iter()).map(|(line, cell)| Cell::from(fit(line, cell.width)));
        Row::new(lines).style(style)
    });
    let header = columns.iter().map(|column| {
        let title = Line::from(column.title);
        Cell::from(if column.is_number { title.right_aligned() } else { title })
    });
    let has_keys = state.choice.pane(snapshot) == Pane::People;
    let table = Table::new(rows, columns.iter().map(|column| column.width))
        .block(rule(title))
        .column_spacing(SPACING)
        .highlight_symbol(if has_keys { "› " } else { "  " })
        .row_highlight_style(if has_keys {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        });
    let table = if has_header { table.header(Row::new(header).dim()) } else { table };
    let selected = Some(chosen - shown.start).filter(|_| !shown.is_empty());
    let mut selection = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut selection);
    shown.len()
}

/// How many people are here, and how many have been away for long.
fn heads(snapshot: &Snapshot, state: &ViewState) -> String {
    let here = snapshot.peers.iter().filter(|peer| peer.reachable).count();
    let long_away = snapshot.peers.iter().filter(|peer| is_long_away(peer)).count();
    let mut text = format!("{} here", here + 1);
    if long_away > 0 && !state.choice.shows_long_away {
        text += &format!(" · {long_away} gone for long: a shows them");
    }
    text
}

/// Whether the person here has compared the words of this device.
pub(super) fn is_verified(snapshot: &Snapshot, device: DeviceText) -> bool {
    let peer = snapshot.peers.iter().find(|peer| peer.stats.device == device);
    peer.is_some_and(|peer| peer.verification == Verification::Verified)
}

/// Draws the page of one device: who it belongs to, and the words to compare.
pub(super) fn draw_person(frame: &mut Frame, area: Rect, device: DeviceText, snapshot: &Snapshot) {
    let peer = snapshot.peers.iter().find(|peer| peer.stats.device == device);
    let name = peer.map_or_else(|| device.0.short(), |peer| peer.name.clone());
    let block = rule(format!(" {name} "));
    let inner = block.inner(area).inner(Margin::new(1, 0));
    frame.render_widget(block, area);
    let verification = peer.map(|peer| peer.verification).unwrap_or_default();
    let known = match verification {
        Verification::Verified => {
            Line::from("✓ You have compared these words. n takes that back.").fg(Color::Green)
        }
        Verification::NewDevice => Line::from(format!(
            "! You have compared words of another device of {name}, not of this one."
        ))
        .fg(Color::Yellow),
        Verification::Unverified => Line::from("You have not compared these words yet."),
    };
    let title = |text: &'static str| Span::from(text).dim();
    let roles = peer.map(|peer| peer.roles.join(", ")).filter(|roles| !roles.is_empty());
    let mut lines = vec![
        Line::from(vec![title("words   "), Span::from(words(device.0)).fg(Color::Cyan).bold()]),
        Line::from(vec![title("device  "), Span::from(device.0.to_string())]),
    ];
    lines.extend(roles.map(|roles| Line::from(vec![title("roles   "), Span::from(roles)])));
    lines.push(known);
    if verification != Verification::Verified {
        lines.push(Line::from(format!(
            "Have {name} read out the words of `hark id`, by a way that you both trust. If they are \
             these, press y."
        )));
    }
    lines.push(Line::from(vec![
        title("your own words, for the other side  "),
        Span::from(words(snapshot.device.0)),
    ]));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), inner);
}

struct Column {
    title: &'static str,
    is_number: bool,
    width: Constraint,
    /// The column is shown on terminals of at least this width, in cells.
    from_width: u16,
    cell: fn(&PeerView, &Snapshot) -> Line<'static>,
}

const COLUMNS: [Column; 9] = [
    Column {
        title: "name",
        is_number: false,
        // On a wide terminal a wider column would let the eye lose the row.
        width: Constraint::Max(36),
        from_width: 0,
        cell: name,
    },
    Column {
        title: "voice",
        is_number: false,
        width: Constraint::Length(BAR_CELLS),
        from_width: 24,
        cell: |peer, _| bar(peer.level_dbfs, peer.talking),
    },
    Column {
        title: "path",
        is_number: false,
        width: Constraint::Length(7),
        from_width: 38,
        cell: |peer, _| Line::from(if peer.reachable { peer.stats.path.as_str() } else { "gone" }),
    },
    Column {
        title: "trip ms",
        is_number: true,
        width: Constraint::Length(7),
        from_width: 50,
        cell: |peer, _| number(peer, peer.stats.rtt_ms, 1),
    },
    Column {
        title: "loss %",
        is_number: true,
        width: Constraint::Length(6),
        from_width: 58,
        cell: |peer, _| number(peer, peer.stats.loss_percent, 1),
    },
    Column {
        title: "delay ms",
        is_number: true,
        width: Constraint::Length(8),
        from_width: 68,
        cell: |peer, _| number(peer, peer.stats.playout_delay_ms, 0),
    },
    Column {
        title: "volume",
        is_number: true,
        width: Constraint::Length(6),
        from_width: 76,
        cell: |peer, _| Line::from(format!("{:.0} %", peer.volume * 100.0)).right_aligned(),
    },
    Column {
        title: "roles",
        is_number: false,
        width: Constraint::Max(24),
        from_width: 106,
        cell: |peer, _| Line::from(peer.roles.join(", ")).dim(),
    },
    Column {
        title: "address",
        is_number: false,
        width: Constraint::Length(21),
        from_width: 132,
        cell: |peer, _| Line::from(plain_address(&peer.address)).dim(),
    },
];

/// The name, whether the device is verified, and the state of the person.
fn name(peer: &PeerView, snapshot: &Snapshot) -> Line<'static> {
    let mut line = Line::from(peer.name.clone());
    let device = peer.stats.device;
    let is_twin = |it: &&PeerView| it.name == peer.name && it.stats.device != device;
    if snapshot.peers.iter().any(|it| is_twin(&it)) {
        line.push_span(Span::from(format!(" ({})", device.0.short())).dim());
    }
    match peer.verification {
        Verification::Verified => line.push_span(Span::from(" ✓").fg(Color::Green)),
        Verification::NewDevice => line.push_span(Span::from(" !").fg(Color::Yellow).bold()),
        Verification::Unverified => {}
    }
    if peer.whispers {
        line.push_span(Span::from(" whispers").fg(Color::Magenta).bold());
    } else if peer.silenced {
        line.push_span(Span::from(" muted").fg(Color::Yellow));
    }
    // States that the person has chosen. To hear nobody matters more than to have the microphone
    // off.
    for (is_so, sign) in [(peer.away, " away"), (peer.deafened, " deaf"), (peer.muted, " mic off")]
    {
        if is_so && peer.reachable {
            line.push_span(Span::from(sign).fg(Color::Yellow).dim());
        }
    }
    line
}

fn number(peer: &PeerView, value: f64, digits: usize) -> Line<'static> {
    let text = if peer.reachable { format!("{value:.digits$}") } else { String::new() };
    Line::from(text).right_aligned()
}

/// Width of the mark of the chosen row, and of the gap between columns, in cells.
const MARK: u16 = 2;
const SPACING: u16 = 2;

/// Lines above the people.
const HEADER: u16 = 2;
