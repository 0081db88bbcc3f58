use hark_node::snapshot::{PeerView, Snapshot, TransmitMode};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Padding, Paragraph, Row, Table, TableState, Wrap},
};

use super::ViewState;

/// Draws the state; nothing else is known here.
pub(super) fn draw(frame: &mut Frame, snapshot: &Snapshot, state: &ViewState) {
    let trouble = u16::from(snapshot.trouble.is_some());
    let [title, members, own, trouble, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(trouble),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, snapshot);
    if state.show_ticket {
        draw_ticket(frame, members, snapshot);
    } else {
        draw_members(frame, members, snapshot, state);
    }
    frame.render_widget(own_line(snapshot, state), own);
    if let Some(text) = &snapshot.trouble {
        frame.render_widget(Line::from(format!(" ! {text}")).fg(Color::Yellow).bold(), trouble);
    }
    frame.render_widget(help_line(snapshot, state), help);
}

fn draw_title(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    let left = Line::from(vec![
        Span::from(format!(" {}", snapshot.organisation)).bold(),
        Span::from(format!("  {}", snapshot.channel)).dim(),
    ]);
    let right = format!("{} · {:.0} % CPU ", snapshot.name, snapshot.cpu_percent);
    frame.render_widget(left, area);
    frame.render_widget(Line::from(right).dim().right_aligned(), area);
}

fn draw_members(frame: &mut Frame, area: Rect, snapshot: &Snapshot, state: &ViewState) {
    let here = snapshot.peers.iter().filter(|peer| peer.reachable).count();
    let block = Block::new()
        .borders(Borders::TOP | Borders::BOTTOM)
        .border_style(Style::new().dim())
        .title(format!(" {} here ", here + 1));
    if snapshot.peers.is_empty() {
        let text = "Nobody else is here yet. Press t for the ticket by which others join.";
        let block = block.padding(Padding::horizontal(1));
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
        return;
    }
    // What matters least goes first where the terminal is narrow.
    let columns = COLUMNS.iter().take_while(|column| column.from_width <= area.width);
    let columns: Vec<_> = columns.collect();
    let rows = snapshot.peers.iter().map(|peer| {
        let style = if peer.reachable { Style::new() } else { Style::new().dim() };
        Row::new(columns.iter().map(|column| (column.cell)(peer))).style(style)
    });
    let header = Row::new(columns.iter().map(|column| column.title)).dim();
    let widths = columns.iter().map(|column| column.width);
    let table = Table::new(rows, widths)
        .header(header)
        .block(block)
        .highlight_symbol("› ")
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD));
    let mut selection = TableState::new().with_selected(state.selected);
    frame.render_stateful_widget(table, area, &mut selection);
}

struct Column {
    title: &'static str,
    width: Constraint,
    /// Width of the terminal that shows it.
    from_width: u16,
    cell: fn(&PeerView) -> Cell<'static>,
}

const COLUMNS: [Column; 8] = [
    Column {
        title: "name",
        width: Constraint::Fill(1),
        from_width: 0,
        cell: |peer| Cell::from(peer.name.clone()),
    },
    Column {
        title: "voice",
        width: Constraint::Length(BAR_CELLS),
        from_width: 24,
        cell: |peer| Cell::from(bar(peer.level_dbfs, peer.talking)),
    },
    Column {
        title: "path",
        width: Constraint::Length(9),
        from_width: 38,
        cell: |peer| Cell::from(if peer.reachable { peer.stats.path.as_str() } else { "away" }),
    },
    Column {
        title: "trip ms",
        width: Constraint::Length(7),
        from_width: 48,
        cell: |peer| number(peer, peer.stats.rtt_ms, 1),
    },
    Column {
        title: "loss %",
        width: Constraint::Length(6),
        from_width: 56,
        cell: |peer| number(peer, peer.stats.loss_percent, 1),
    },
    Column {
        title: "delay ms",
        width: Constraint::Length(8),
        from_width: 66,
        cell: |peer| number(peer, peer.stats.playout_delay_ms, 0),
    },
    Column {
        title: "volume",
        width: Constraint::Length(6),
        from_width: 74,
        cell: |peer| Cell::from(format!("{:.0} %", peer.volume * 100.0)),
    },
    Column {
        title: "address",
        width: Constraint::Length(30),
        from_width: 110,
        cell: |peer| Cell::from(peer.address.clone()),
    },
];

fn number(peer: &PeerView, value: f64, digits: usize) -> Cell<'static> {
    let text = if peer.reachable { format!("{value:.digits$}") } else { String::new() };
    Cell::from(text)
}

/// A level between the softest and the loudest that matter for speech.
fn bar(level_dbfs: f32, active: bool) -> Line<'static> {
    let share = (level_dbfs - SOFTEST_DBFS) / (LOUDEST_DBFS - SOFTEST_DBFS);
    let lit = if active { (share.clamp(0.0, 1.0) * f32::from(BAR_CELLS)).round() } else { 0.0 };
    let lit = (lit as usize).max(usize::from(active));
    let unlit = usize::from(BAR_CELLS) - lit;
    Line::from(vec![
        Span::from("█".repeat(lit)).fg(Color::Green),
        Span::from("·".repeat(unlit)).dim(),
    ])
}

fn own_line(snapshot: &Snapshot, state: &ViewState) -> Line<'static> {
    let mode = match snapshot.transmit {
        TransmitMode::Open => "always open",
        TransmitMode::Vad => "by voice",
        TransmitMode::Ptt => "push to talk",
    };
    let mut spans = vec![Span::from(" you  ")];
    spans.extend(bar(snapshot.level_dbfs, snapshot.transmitting).spans);
    spans.push(Span::from(format!("  {mode}")));
    if snapshot.transmitting {
        spans.push(Span::from("  TALKING").fg(Color::Green).bold());
    }
    if state.talk_key && !state.key_release {
        spans.push(Span::from("  HELD: space ends").fg(Color::Yellow).bold());
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
    let ticket = if state.show_ticket { "t back" } else { "t ticket" };
    let text = format!(
        " q leave · m {} · d {}{space} · {ticket} · v mode · ↑↓ +- volume",
        if snapshot.muted { "unmute" } else { "mute" },
        if snapshot.deafened { "undeafen" } else { "deafen" },
    );
    Line::from(text).dim()
}

/// Without side borders, so that it can be marked and copied.
fn draw_ticket(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    let block = Block::new()
        .borders(Borders::TOP | Borders::BOTTOM)
        .border_style(Style::new().dim())
        .title(" others join within a day by: hark talk TICKET ");
    frame.render_widget(Clear, area);
    let ticket = Paragraph::new(snapshot.ticket.as_str()).wrap(Wrap { trim: true });
    frame.render_widget(ticket.block(block), area);
}

const BAR_CELLS: u16 = 10;
const SOFTEST_DBFS: f32 = -60.0;
const LOUDEST_DBFS: f32 = -10.0;
