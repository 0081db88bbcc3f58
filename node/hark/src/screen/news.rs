//! Messages to the person: the newest appear for a while at the bottom of the screen, and all are
//! on a page.

use std::{collections::VecDeque, time::Duration};

use ratatui::{
    Frame,
    layout::Rect,
    style::Stylize,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    fit::fit,
    view::{more, rule},
};

/// Messages to the person, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct News(VecDeque<Message>);

#[derive(Clone, Debug)]
struct Message {
    /// The local date and time at which it came.
    clock: String,
    /// The time at which it came, since the screen was opened.
    at: Duration,
    text: String,
}

impl News {
    /// Adds a message at the time `now`, with a local date such as `2026-11-22 21:40:05`.
    pub(super) fn tell(&mut self, now: Duration, date: String, text: String) {
        // A message of several lines becomes several entries.
        for line in text.lines() {
            self.0.push_back(Message { clock: date.clone(), at: now, text: line.to_owned() });
        }
        while self.0.len() > NEWS_MAX {
            self.0.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many messages are recent enough to be shown below the lists.
    fn lasting(&self, now: Duration) -> usize {
        self.0.iter().rev().take_while(|it| now.saturating_sub(it.at) < SHOWN_FOR).count()
    }

    #[cfg(test)]
    pub(super) fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|it| &*it.text).collect()
    }
}

impl Message {
    /// The hour and minute at which it came.
    fn time(&self) -> &str {
        self.clock.get(11..16).unwrap_or_default()
    }

    fn day(&self) -> &str {
        self.clock.get(..10).unwrap_or_default()
    }
}

/// Draws the newest messages at the bottom of `area`: bright at first, then dim, then no more.
pub(super) fn draw(frame: &mut Frame, area: Rect, news: &News, now: Duration) {
    let room = usize::from(area.height.saturating_sub(1));
    let shown = news.lasting(now).min(room);
    if shown == 0 {
        return;
    }
    let lines: Vec<_> = news
        .0
        .iter()
        .skip(news.len() - shown)
        .map(|it| {
            let line = Line::from(vec![
                Span::from(format!("  {}  ", it.time())).dim(),
                Span::from(it.text.as_str()),
            ]);
            let line = fit(line, area.width);
            if now.saturating_sub(it.at) < FRESH_FOR { line } else { line.dim() }
        })
        .collect();
    let height = shown as u16;
    let bottom = Rect { y: area.bottom() - height, height, ..area };
    frame.render_widget(Paragraph::new(lines), bottom);
}

/// Draws the page of all messages, scrolled back by `back` lines from the newest. Returns how many
/// lines have room.
pub(super) fn draw_page(frame: &mut Frame, area: Rect, news: &News, back: usize) -> usize {
    let room = usize::from(area.height.saturating_sub(1));
    let back = back.min(news.len().saturating_sub(room));
    let end = news.len() - back;
    let shown = end.saturating_sub(room)..end;
    let title = match news.len() {
        0 => " messages: none yet ".to_owned(),
        len => format!(" messages {}", more(len, &shown)),
    };
    let today = news.0.back().map(|it| it.day().to_owned()).unwrap_or_default();
    let lines: Vec<_> = news
        .0
        .range(shown)
        .map(|it| {
            let day = if it.day() == today { "" } else { it.day() };
            let gap = if day.is_empty() { "" } else { " " };
            let time = format!("  {day}{gap}{}  ", it.time());
            fit(Line::from(vec![Span::from(time).dim(), Span::from(it.text.as_str())]), area.width)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(rule(title)), area);
    room
}

/// How many messages the screen remembers. If there are more, the oldest are dropped.
const NEWS_MAX: usize = 500;

/// How long a message is bright, and how long it is on the screen. An old message that looked
/// current would mislead.
const FRESH_FOR: Duration = Duration::from_secs(20);
const SHOWN_FOR: Duration = Duration::from_secs(180);
