//! What has happened: the newest for a while at the bottom of the screen, all of it on a page.

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
    /// When it came, as people write it.
    clock: String,
    /// When it came, since the screen was opened.
    at: Duration,
    text: String,
}

impl News {
    /// Remembers what has happened `now`, at a local date such as `2026-11-22 21:40:05`.
    pub(super) fn tell(&mut self, now: Duration, date: String, text: String) {
        // A message of several lines keeps them.
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

    /// How many are on the screen by themselves.
    fn lasting(&self, now: Duration) -> usize {
        self.0.iter().rev().take_while(|it| now.saturating_sub(it.at) < SHOWN_FOR).count()
    }

    #[cfg(test)]
    pub(super) fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|it| &*it.text).collect()
    }
}

impl Message {
    /// Its hour and minute.
    fn time(&self) -> &str {
        self.clock.get(11..16).unwrap_or_default()
    }

    fn day(&self) -> &str {
        self.clock.get(..10).unwrap_or_default()
    }
}

/// The newest at the bottom of `area`: plain at first, then dim, then gone.
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

/// All that is remembered, up to `back` lines before the newest. Returns the lines that there is
/// room for.
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

/// Messages that the screen remembers; the oldest go.
const NEWS_MAX: usize = 500;

/// How long a message is as bright as what holds now, and how long it is on the screen: what has
/// come and gone since would mislead.
const FRESH_FOR: Duration = Duration::from_secs(20);
const SHOWN_FOR: Duration = Duration::from_secs(180);
