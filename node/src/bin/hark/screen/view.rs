use std::sync::Arc;

use hark_node::snapshot::{NetView, PeerView, Snapshot, TransmitMode};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Margin, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap},
};

use super::{ShownTicket, ViewState};
use crate::talk::plain_address;

/// Draws the state; nothing else is known here.
pub(super) fn draw(
    frame: &mut Frame,
    snapshot: &Snapshot,
    others: &[Arc<Snapshot>],
    state: &ViewState,
) {
    let trouble = u16::from(snapshot.trouble.is_some());
    let [title, background, members, own, trouble, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(others.len().try_into().unwrap_or(u16::MAX)),
        Constraint::Min(0),
        Constraint::Length(2),
        Constraint::Length(trouble),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, snapshot);
    draw_others(frame, background, others);
    let alone = !snapshot.peers.iter().any(|peer| peer.reachable);
    if let Some(ticket) = state.shown_ticket(snapshot) {
        draw_ticket(frame, members, ticket);
    } else if snapshot.peers.is_empty() {
        draw_lonely(frame, members);
    } else {
        let height = snapshot.peers.len().try_into().unwrap_or(u16::MAX).saturating_add(HEADER);
        let below = if alone { Constraint::Min(0) } else { Constraint::Min(1) };
        let nets = Constraint::Length(nets_height(snapshot));
        let parts = Layout::vertical([nets, Constraint::Length(height), below]);
        let [nets, members, below] = parts.areas(members);
        draw_nets(frame, nets, snapshot);
        draw_members(frame, members, snapshot, state);
        // Whoever is alone needs others more than the past.
        if alone {
            draw_lonely(frame, below);
        } else {
            draw_news(frame, below, state);
        }
    }
    let own_line = Paragraph::new(own_line(snapshot, state));
    frame.render_widget(own_line.block(rule("")), own);
    if let Some(text) = &snapshot.trouble {
        frame.render_widget(Line::from(format!(" ! {text}")).fg(Color::Yellow).bold(), trouble);
    }
    frame.render_widget(help_line(snapshot, state), help);
}

fn draw_title(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    let mut left = Line::from(format!(" {}", snapshot.organisation).bold());
    if snapshot.nets.len() == 1 && snapshot.nets[0].name != snapshot.organisation {
        left.push_span(Span::from(format!("  {}", snapshot.nets[0].name)).dim());
    }
    let right = format!("{} · {:.0} % CPU ", snapshot.name, snapshot.cpu_percent);
    frame.render_widget(left, area);
    frame.render_widget(Line::from(right).dim().right_aligned(), area);
}

/// A line for each organisation that is heard but does not hear us: who is there, and who talks.
fn draw_others(frame: &mut Frame, area: Rect, others: &[Arc<Snapshot>]) {
    let lines = others.iter().map(|other| {
        let here = other.peers.iter().filter(|peer| peer.reachable).count();
        let mut talking = other.peers.iter().filter(|peer| peer.talking).map(|peer| {
            let nets = peer.talking_on.join(", ");
            if nets.is_empty() { peer.name.clone() } else { format!("{} on {nets}", peer.name) }
        });
        let first = talking.next();
        let lamp = if other.transmitting {
            Span::from("●").fg(Color::Red)
        } else if first.is_some() {
            Span::from("●").fg(Color::Green)
        } else {
            Span::from("○").dim()
        };
        let name = Span::from(format!(" {:<20}", other.organisation)).dim();
        let mut line = Line::from(vec![Span::from(" "), lamp, name]);
        match first {
            Some(first) => {
                let all: Vec<_> = std::iter::once(first).chain(talking).collect();
                line.push_span(Span::from(format!(" {}", all.join("; "))).bold());
            }
            None => line.push_span(Span::from(format!(" {} here", here + 1)).dim()),
        }
        line
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// A line above that names what follows.
fn rule(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(Style::new().dim()).title(title)
}

/// The newest of what has happened, at the bottom of `area`.
fn draw_news(frame: &mut Frame, area: Rect, state: &ViewState) {
    let room = usize::from(area.height.saturating_sub(1));
    let shown = state.news.len().min(room);
    if shown == 0 {
        return;
    }
    let newest = state.news.iter().skip(state.news.len() - shown);
    let lines: Vec<_> = newest.map(|news| Line::from(format!("  {news}")).dim()).collect();
    let height = shown as u16;
    let bottom = Rect { y: area.bottom() - height, height, ..area };
    frame.render_widget(Paragraph::new(lines), bottom);
}

/// Rows of the nets: none where there is but one.
fn nets_height(snapshot: &Snapshot) -> u16 {
    let nets = shown_nets(snapshot).count();
    if snapshot.nets.len() < 2 { 0 } else { nets.try_into().unwrap_or(u16::MAX) }
}

/// Those that are heard first, then as many of the others as there is room for.
fn shown_nets(snapshot: &Snapshot) -> impl Iterator<Item = &NetView> {
    let heard = snapshot.nets.iter().filter(|net| net.listening);
    heard.chain(snapshot.nets.iter().filter(|net| !net.listening)).take(NETS_SHOWN)
}

/// One line a net: whether it is talked to, who is on it, and who is heard on it.
fn draw_nets(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    if area.height == 0 {
        return;
    }
    let lines = shown_nets(snapshot).map(|net| {
        let talks = snapshot.talk_to.contains(&net.name);
        let own = talks && snapshot.transmitting;
        let lamp = match (own, !net.talking.is_empty(), net.listening) {
            (true, ..) => Span::from("●").fg(Color::Red),
            (_, true, _) => Span::from("●").fg(Color::Green),
            (_, _, true) => Span::from("○"),
            (_, _, false) => Span::from("·").dim(),
        };
        let name = format!(" {:<20}", net.name);
        let name = if talks { Span::from(name).bold() } else { Span::from(name) };
        let name = if net.listening { name } else { name.dim() };
        let mut line = Line::from(vec![Span::from(" "), lamp, name]);
        if !net.talking.is_empty() {
            line.push_span(Span::from(format!(" {}", net.talking.join(", "))).bold());
        } else if net.listening {
            line.push_span(Span::from(format!(" {}", net.members.join(", "))).dim());
        }
        if net.muted {
            line.push_span(Span::from("  muted").fg(Color::Yellow));
        }
        line
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn draw_members(frame: &mut Frame, area: Rect, snapshot: &Snapshot, state: &ViewState) {
    let here = snapshot.peers.iter().filter(|peer| peer.reachable).count();
    let block = rule(format!(" {} here ", here + 1));
    // What matters least goes first where the terminal is narrow.
    let columns = COLUMNS.iter().take_while(|column| column.from_width <= area.width);
    let columns: Vec<_> = columns.collect();
    let rows = snapshot.peers.iter().map(|peer| {
        let style = if peer.reachable { Style::new() } else { Style::new().dim() };
        Row::new(columns.iter().map(|column| (column.cell)(peer))).style(style)
    });
    let header = columns.iter().map(|column| {
        let title = Line::from(column.title);
        Cell::from(if column.is_number { title.right_aligned() } else { title })
    });
    let header = Row::new(header).dim();
    let widths = columns.iter().map(|column| column.width);
    let table = Table::new(rows, widths)
        .header(header)
        .block(block)
        .column_spacing(2)
        .highlight_symbol("› ")
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD));
    let mut selection = TableState::new().with_selected(state.selected);
    frame.render_stateful_widget(table, area, &mut selection);
}

/// Nets on the screen; `hark ctl status` tells of the others.
const NETS_SHOWN: usize = 12;

struct Column {
    title: &'static str,
    is_number: bool,
    width: Constraint,
    /// Width of the terminal that shows it.
    from_width: u16,
    cell: fn(&PeerView) -> Cell<'static>,
}

const COLUMNS: [Column; 8] = [
    Column {
        title: "name",
        is_number: false,
        // No wider, or the eye loses the row on a wide terminal.
        width: Constraint::Max(28),
        from_width: 0,
        cell: |peer| Cell::from(peer.name.clone()),
    },
    Column {
        title: "voice",
        is_number: false,
        width: Constraint::Length(BAR_CELLS),
        from_width: 24,
        cell: |peer| Cell::from(bar(peer.level_dbfs, peer.talking)),
    },
    Column {
        title: "path",
        is_number: false,
        width: Constraint::Length(7),
        from_width: 38,
        cell: |peer| Cell::from(if peer.reachable { peer.stats.path.as_str() } else { "away" }),
    },
    Column {
        title: "trip ms",
        is_number: true,
        width: Constraint::Length(7),
        from_width: 50,
        cell: |peer| number(peer, peer.stats.rtt_ms, 1),
    },
    Column {
        title: "loss %",
        is_number: true,
        width: Constraint::Length(6),
        from_width: 58,
        cell: |peer| number(peer, peer.stats.loss_percent, 1),
    },
    Column {
        title: "delay ms",
        is_number: true,
        width: Constraint::Length(8),
        from_width: 68,
        cell: |peer| number(peer, peer.stats.playout_delay_ms, 0),
    },
    Column {
        title: "volume",
        is_number: true,
        width: Constraint::Length(6),
        from_width: 76,
        cell: |peer| {
            Cell::from(Line::from(format!("{:.0} %", peer.volume * 100.0)).right_aligned())
        },
    },
    Column {
        title: "address",
        is_number: false,
        width: Constraint::Length(21),
        from_width: 95,
        cell: |peer| Cell::from(plain_address(&peer.address)).dim(),
    },
];

fn number(peer: &PeerView, value: f64, digits: usize) -> Cell<'static> {
    let text = if peer.reachable { format!("{value:.digits$}") } else { String::new() };
    Cell::from(Line::from(text).right_aligned())
}

/// The level of a member who speaks.
fn bar(level_dbfs: f32, active: bool) -> Line<'static> {
    let lit = if active { lit_cells(level_dbfs).max(1) } else { 0 };
    bar_of(lit, Style::new().fg(Color::Green))
}

/// Cells for a level between the softest and the loudest that matter for speech.
fn lit_cells(level_dbfs: f32) -> usize {
    let share = (level_dbfs - SOFTEST_DBFS) / (LOUDEST_DBFS - SOFTEST_DBFS);
    (share.clamp(0.0, 1.0) * f32::from(BAR_CELLS)).round() as usize
}

fn bar_of(lit: usize, style: Style) -> Line<'static> {
    let unlit = usize::from(BAR_CELLS) - lit;
    Line::from(vec![Span::from("█".repeat(lit)).style(style), Span::from("─".repeat(unlit)).dim()])
}

fn own_line(snapshot: &Snapshot, state: &ViewState) -> Line<'static> {
    let mode = match snapshot.transmit {
        TransmitMode::Open => "always open",
        TransmitMode::Vad => "by voice",
        TransmitMode::Ptt => "push to talk",
    };
    let mut spans = vec![Span::from(" you  ")];
    // What the microphone hears is seen also while nobody is sent it.
    let colour = if snapshot.transmitting { Color::Green } else { Color::DarkGray };
    spans.extend(bar_of(lit_cells(snapshot.level_dbfs), Style::new().fg(colour)).spans);
    spans.push(Span::from(format!("  {mode}")));
    if snapshot.transmitting {
        spans.push(Span::from("  TALKING").fg(Color::Green).bold());
    }
    if state.talk_key && !state.key_release {
        spans.push(Span::from("  HELD: space ends").fg(Color::Yellow).bold());
    }
    if !snapshot.front {
        spans.push(Span::from("  NOBODY HEARS YOU: tab").fg(Color::Red).bold());
    }
    if snapshot.muted {
        spans.push(Span::from("  MUTED").fg(Color::Red).bold());
    }
    if snapshot.deafened {
        spans.push(Span::from("  DEAFENED").fg(Color::Red).bold());
    }
    if snapshot.copies > 0 {
        spans.push(Span::from(format!("  copies {}", snapshot.copies)).dim());
    }
    Line::from(spans)
}

fn help_line(snapshot: &Snapshot, state: &ViewState) -> Line<'static> {
    let space = match (snapshot.transmit, state.key_release) {
        (TransmitMode::Ptt, true) => " · space talk",
        (TransmitMode::Ptt, false) => " · space talk on/off",
        _ => "",
    };
    let ticket = match state.shown_ticket(snapshot) {
        Some(_) => "c copy ticket · t back",
        None => "t ticket",
    };
    let others = if state.other_organisations > 0 || !snapshot.front {
        " · tab next organisation"
    } else {
        ""
    };
    let text = format!(
        " q leave · m {} · d {}{space}{others} · {ticket} · v mode · ↑↓ +- volume",
        if snapshot.muted { "unmute" } else { "mute" },
        if snapshot.deafened { "undeafen" } else { "deafen" },
    );
    Line::from(text).dim()
}

/// What whoever is alone can do about it.
fn draw_lonely(frame: &mut Frame, area: Rect) {
    let block = rule(" nobody else is here yet ");
    let inner = block.inner(area).inner(Margin::new(1, 0));
    frame.render_widget(block, area);
    let text = "t makes a ticket for those who are to join.";
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).dim(), inner);
}

/// Without side borders, so that the ticket can be marked and copied.
fn draw_ticket(frame: &mut Frame, area: Rect, ticket: &ShownTicket) {
    let block = rule(" invite ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let copied =
        if ticket.copied { "It is in your clipboard, if the terminal allows that. " } else { "" };
    let before = "Send this ticket to those who are to join, by a way that only they can read:";
    let after =
        format!("{copied}They run `hark talk TICKET`. It is good for 24 hours; c copies it.");
    let margin = Margin::new(1, 0);
    let narrow = inner.inner(margin).width;
    let heights = [(before, narrow), (&ticket.text, inner.width), (&after, narrow)]
        .map(|(text, width)| rows(text, usize::from(width.max(1))));
    // Where the terminal is low the ticket comes first, whole.
    let spare = heights.iter().fold(inner.height, |left, rows| left.saturating_sub(*rows));
    let gap = u16::from(spare >= 2);
    let [top, _, middle, _, bottom] = Layout::vertical([
        Constraint::Max(heights[0]),
        Constraint::Length(gap),
        Constraint::Length(heights[1]),
        Constraint::Length(gap),
        Constraint::Max(heights[2]),
    ])
    .areas(inner);
    let wrapped = |text: &str| Paragraph::new(text.to_owned()).wrap(Wrap { trim: true });
    frame.render_widget(wrapped(before).dim(), top.inner(margin));
    frame.render_widget(wrapped(&ticket.text).fg(Color::Cyan), middle);
    frame.render_widget(wrapped(&after).dim(), bottom.inner(margin));
}

/// Lines that `text` takes when it is wrapped.
fn rows(text: &str, width: usize) -> u16 {
    let (mut rows, mut used) = (1, 0);
    for word in text.split_whitespace().map(str::len) {
        let space = usize::from(used > 0);
        if used + space + word <= width {
            used += space + word;
        } else {
            rows += usize::from(used > 0) + word.saturating_sub(1) / width;
            used = (word - 1) % width + 1;
        }
    }
    rows.try_into().unwrap_or(u16::MAX)
}

/// Lines of the members' table beside the members.
const HEADER: u16 = 2;
const BAR_CELLS: u16 = 10;
const SOFTEST_DBFS: f32 = -60.0;
const LOUDEST_DBFS: f32 = -10.0;
