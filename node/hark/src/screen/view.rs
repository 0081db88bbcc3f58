use std::{collections::BTreeSet, ops::Range, sync::Arc};

use hark_node::snapshot::{Snapshot, TransmitMode};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Margin, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Wrap},
};

use super::{
    Page, ShownTicket, ViewState,
    choice::Pane,
    fit::{fit, fit_parts},
    help, nets, news, people, waiting,
};

/// How many lines of each list have room. The keys for pages move by this many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rooms {
    pub(super) nets: usize,
    pub(super) people: usize,
    /// Lines of the page that covers channels and people.
    pub(super) page: usize,
}

/// Draws everything, from nothing but its arguments.
pub(super) fn draw(
    frame: &mut Frame,
    snapshot: &Snapshot,
    others: &[Arc<Snapshot>],
    state: &ViewState,
) -> Rooms {
    let height = frame.area().height;
    let width = frame.area().width;
    let mut rooms = Rooms::default();
    let trouble = u16::from(snapshot.trouble.is_some());
    // On a low terminal, the lines about the own voice are kept the longest.
    let has_rule = height >= 9;
    let own = u16::from(has_rule) + if height >= 4 { 2 } else { 1 };
    let [title, background, body, own, trouble, help] = Layout::vertical([
        Constraint::Length(u16::from(height >= 7)),
        Constraint::Length(others.len().try_into().unwrap_or(u16::MAX)),
        Constraint::Min(0),
        Constraint::Length(own),
        Constraint::Length(trouble),
        Constraint::Length(u16::from(height >= 2)),
    ])
    .areas(frame.area());
    draw_title(frame, title, snapshot);
    draw_others(frame, background, others);
    if let Some(ticket) = state.shown_ticket(snapshot) {
        draw_ticket(frame, body, ticket);
    } else {
        match state.page {
            Some(Page::Help(from)) => {
                rooms.page = help::draw(frame, body, from, snapshot, state.key_release);
            }
            Some(Page::News(back)) => {
                rooms.page = news::draw_page(frame, body, &state.news, back);
            }
            Some(Page::Person(device)) => people::draw_person(frame, body, device, snapshot),
            Some(Page::Waiting(device)) => waiting::draw(frame, body, device, snapshot),
            None => rooms = draw_lists(frame, body, snapshot, state),
        }
    }
    let mut lines = vec![own_line(snapshot, state)];
    // The target of the voice is more important than its level.
    let at = usize::from(own.height >= 2);
    lines.insert(at, target_line(snapshot));
    let lines: Vec<_> = lines.into_iter().map(|line| fit(line, width)).collect();
    let own_lines = Paragraph::new(lines);
    let own_lines = if has_rule { own_lines.block(rule("")) } else { own_lines };
    frame.render_widget(own_lines, own);
    if let Some(text) = &snapshot.trouble {
        let line = Line::from(format!(" ! {text}")).fg(Color::Yellow).bold();
        frame.render_widget(fit(line, width), trouble);
    }
    frame.render_widget(fit(help_line(snapshot, state, width.into()), width), help);
    rooms
}

/// Draws channels and people, and the messages below them.
fn draw_lists(frame: &mut Frame, area: Rect, snapshot: &Snapshot, state: &ViewState) -> Rooms {
    let alone = !snapshot.peers.iter().any(|peer| peer.reachable);
    let wanted = (nets::wanted_height(snapshot, state), people::wanted_height(snapshot, state));
    let (nets, people) = shares(area.height, wanted, state.choice.pane(snapshot));
    let parts = [Constraint::Length(nets), Constraint::Length(people), Constraint::Min(0)];
    let [nets, people, below] = Layout::vertical(parts).areas(area);
    let rooms = Rooms {
        nets: nets::draw(frame, nets, snapshot, state),
        people: people::draw(frame, people, snapshot, state),
        page: 0,
    };
    // To a person who is alone, advice is more important than messages.
    if alone {
        draw_lonely(frame, below, snapshot);
    } else {
        news::draw(frame, below, &state.news, state.now);
    }
    rooms
}

/// How many of `height` lines the channels and the people get, by how many they want. If there is
/// no room for both, the list that keys apply to is shown.
fn shares(height: u16, (nets, people): (u16, u16), pane: Pane) -> (u16, u16) {
    // One line is kept for messages if there is room.
    let height = height - u16::from(height >= 12);
    if nets.saturating_add(people) <= height {
        return (nets, people);
    }
    if height < LISTS_MIN && nets > 0 && people > 0 {
        return match pane {
            Pane::Nets => (height, 0),
            Pane::People => (0, height),
        };
    }
    let nets = nets.min((height / 2).max(height.saturating_sub(people)));
    (nets, people.min(height - nets))
}

/// Which of `len` lines are shown in `room` lines, so that the chosen one is among them.
pub(super) fn window(len: usize, room: usize, chosen: usize) -> Range<usize> {
    let from = chosen.saturating_sub(room / 2).min(len.saturating_sub(room));
    from..len.min(from + room)
}

/// How many lines are hidden above and below the shown ones. Empty if none are.
pub(super) fn more(len: usize, shown: &Range<usize>) -> String {
    let mut text = String::new();
    if shown.start > 0 {
        text += &format!("↑ {} ", shown.start);
    }
    if shown.end < len {
        text += &format!("↓ {} ", len - shown.end);
    }
    text
}

fn draw_title(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    let mut left = Line::from(format!(" {}", snapshot.organisation).bold());
    if snapshot.nets.len() == 1 && snapshot.nets[0].name != snapshot.organisation {
        left.push_span(Span::from(format!("  {}", snapshot.nets[0].name)).dim());
    }
    if !snapshot.presets.is_empty() {
        let presets = format!("  preset {}", snapshot.presets.join(", "));
        left.push_span(Span::from(presets).fg(Color::Cyan));
    }
    let right = Line::from(format!("{} · {:.0} % CPU ", snapshot.name, snapshot.cpu_percent));
    if left.width() + right.width() < usize::from(area.width) {
        frame.render_widget(right.dim().right_aligned(), area);
    }
    frame.render_widget(fit(left, area.width), area);
}

/// Draws a line for each organisation that we hear but that does not hear us: who is there, and who
/// talks.
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
        fit(line, area.width)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// A line above a part of the screen, with its title.
pub(super) fn rule(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(Style::new().dim()).title(title)
}

/// The level of a talker.
pub(super) fn bar(level_dbfs: f32, active: bool) -> Line<'static> {
    let lit = if active { lit_cells(level_dbfs).max(1) } else { 0 };
    bar_of(lit, Style::new().fg(Color::Green))
}

/// How many cells are lit for a level, between the softest and the loudest that matter for speech.
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
    // The microphone's level is shown even while nothing is sent.
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
        spans.push(Span::from("  NOBODY HEARS YOU: o").fg(Color::Red).bold());
    }
    if snapshot.muted {
        spans.push(Span::from("  MUTED").fg(Color::Red).bold());
    }
    if snapshot.deafened {
        spans.push(Span::from("  DEAFENED").fg(Color::Red).bold());
    }
    if snapshot.away {
        spans.push(Span::from("  AWAY: b").fg(Color::Yellow).bold());
    }
    let processing = &snapshot.processing;
    let stages =
        [(processing.echo, "echo"), (processing.noise, "noise"), (processing.gain, "gain")];
    let running: Vec<_> = stages.iter().filter(|it| it.0.running).map(|it| it.1).collect();
    if !running.is_empty() {
        let text = format!("  {} +{:.0} ms", running.join("+"), processing.delay_ms);
        spans.push(Span::from(text).dim());
    }
    if snapshot.copies > 0 {
        spans.push(Span::from(format!("  copies {}", snapshot.copies)).dim());
    }
    Line::from(spans)
}

/// The line that shows the target of the voice at all times.
fn target_line(snapshot: &Snapshot) -> Line<'static> {
    let verb = match snapshot.transmit {
        TransmitMode::Ptt => " space talks to ",
        TransmitMode::Vad => " your voice goes to ",
        TransmitMode::Open => " all that is heard here goes to ",
    };
    let mut line = Line::from(verb);
    if snapshot.talk_to.is_empty() {
        line.push_span(Span::from("nobody").fg(Color::Red).bold());
    } else {
        line.push_span(Span::from(snapshot.talk_to.join(", ")).fg(Color::Cyan).bold());
    }
    if !snapshot.silenced.is_empty() {
        let text = format!("  YOU MAY NOT SPEAK ON {}", snapshot.silenced.join(", "));
        line.push_span(Span::from(text).fg(Color::Red).bold());
    } else if snapshot.unheard && !snapshot.talk_to.is_empty() {
        line.push_span(Span::from("  nobody is there to hear it").fg(Color::Yellow));
    }
    line
}

/// The keys that are most useful now, as many as there is room for.
fn help_line(snapshot: &Snapshot, state: &ViewState, width: usize) -> Line<'static> {
    if let Some(search) = state.choice.search() {
        let cursor = if search.typing { "█" } else { "" };
        let then = if search.typing { "enter keeps it" } else { "/ another" };
        let nothing = state.choice.finds_nothing(snapshot);
        let none = if nothing { "  nobody and no channel is called so" } else { "" };
        return Line::from(vec![
            Span::from(format!(" / {}{cursor}", search.text)).fg(Color::Cyan),
            Span::from(none).fg(Color::Yellow).bold(),
            Span::from(format!("  {then} · esc shows all")).fg(Color::Cyan),
        ]);
    }
    if let Some(page) = state.page {
        let text = match page {
            Page::Help(_) | Page::News(_) => " ↑↓ scroll · esc back",
            Page::Person(_) => " y these are the words · esc back",
            Page::Waiting(_) => " y lets in · n turns away · esc back",
        };
        return Line::from(text).dim();
    }
    // Each part with its worth, which decides when there is no room for all.
    let mut parts = vec![("? help", 9), ("q leave", 8)];
    parts.extend((!snapshot.waiting.is_empty()).then_some(("w who waits to be let in", 9)));
    parts.extend(match (snapshot.transmit, state.key_release) {
        (TransmitMode::Ptt, true) => Some(("space talk", 9)),
        (TransmitMode::Ptt, false) => Some(("space talk on/off", 9)),
        _ => None,
    });
    parts.push((if snapshot.muted { "m unmute" } else { "m mute" }, 7));
    parts.push((if snapshot.deafened { "d undeafen" } else { "d deafen" }, 4));
    parts
        .push((if snapshot.away { "b back" } else { "b away" }, if snapshot.away { 7 } else { 1 }));
    if state.other_organisations > 0 || !snapshot.front {
        parts.push(("o next organisation", 7));
    }
    match state.choice.pane(snapshot) {
        Pane::Nets => parts.extend([("x talk to", 6), ("h hear", 6), ("tab people", 3)]),
        Pane::People if snapshot.peers.is_empty() => {}
        Pane::People => {
            parts.extend([("i who", 5), ("x whisper", 6)]);
            parts.extend((snapshot.nets.len() > 1).then_some(("tab channels", 3)));
        }
    }
    match state.shown_ticket(snapshot) {
        Some(_) => parts.extend([("c copy ticket", 9), ("t back", 9)]),
        None => parts.push(("t ticket", 5)),
    }
    parts.extend([("n messages", 1), ("/ search", 2)]);
    let parts: Vec<_> = parts.into_iter().map(|(text, worth)| (text.to_owned(), worth)).collect();
    Line::from(format!(" {}", fit_parts(&parts, " · ", width.saturating_sub(1)))).dim()
}

/// Draws what a person who is alone can do.
fn draw_lonely(frame: &mut Frame, area: Rect, snapshot: &Snapshot) {
    // Members who were here and have gone do not count as silent: they can answer if they want to.
    let met: BTreeSet<_> = snapshot.peers.iter().map(|peer| &peer.member).collect();
    let silent = snapshot.other_members.saturating_sub(met.len());
    let (title, text) = match silent {
        0 => {
            let met = !snapshot.peers.is_empty();
            let title = if met { " nobody else is here " } else { " nobody else is here yet " };
            (title, "Press t for a ticket, by which others join.".to_owned())
        }
        others => {
            let who = match others {
                1 => "The other member does not answer".to_owned(),
                others => format!("Your {others} other members do not answer"),
            };
            let why = "they are away, or UDP does not reach them (`hark doctor`)";
            (" nobody else is here ", format!("{who}: {why}. Press t for a ticket for newcomers."))
        }
    };
    let block = rule(title);
    let inner = block.inner(area).inner(Margin::new(1, 0));
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).dim(), inner);
}

/// The ticket has no side borders, so that it can be selected and copied.
fn draw_ticket(frame: &mut Frame, area: Rect, ticket: &ShownTicket) {
    let block = rule(" invite ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let copied =
        if ticket.copied { "It is in your clipboard, if the terminal allows that. " } else { "" };
    let before = "Send this ticket to those who are to join, by a way that only they can read:";
    let after = format!(
        "{copied}They run `hark talk TICKET`. It is good for {}; c copies it.",
        ticket.lasting
    );
    let margin = Margin::new(1, 0);
    let narrow = inner.inner(margin).width;
    let heights = [(before, narrow), (&ticket.text, inner.width), (&after, narrow)]
        .map(|(text, width)| rows(text, usize::from(width.max(1))));
    // On a low terminal the ticket has priority, and is shown whole.
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

/// How many lines `text` takes when it is wrapped.
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

/// With fewer lines than this, channels and people are not both shown.
const LISTS_MIN: u16 = 7;
pub(super) const BAR_CELLS: u16 = 10;
const SOFTEST_DBFS: f32 = -60.0;
const LOUDEST_DBFS: f32 = -10.0;
