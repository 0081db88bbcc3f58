//! Newcomers who wait to be let in at this device, shown one at a time with their words.

use hark_keys::DeviceId;
use hark_node::{
    admission::WaitingView,
    event::DeviceText,
    snapshot::{Command, Snapshot},
};
use ratatui::{
    Frame,
    crossterm::event::KeyCode,
    layout::{Margin, Rect},
    style::{Color, Stylize},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

use super::{Page, ViewState, Wish, view::rule};

/// The newcomer who has waited the longest. `None` if nobody waits.
pub(super) fn first(snapshot: &Snapshot) -> Option<DeviceText> {
    snapshot.waiting.iter().find_map(device)
}

/// Draws a newcomer who waits, and what to do about it. A newcomer who has gone meanwhile is not
/// replaced by another: no key may decide about somebody whose words were not on the screen.
pub(super) fn draw(frame: &mut Frame, area: Rect, who: DeviceText, snapshot: &Snapshot) {
    let newcomer = snapshot.waiting.iter().find(|it| device(it) == Some(who));
    let name = newcomer.map_or_else(|| who.0.short(), |it| it.name.clone());
    let block = rule(format!(" {name} waits to be let in "));
    let inner = block.inner(area).inner(Margin::new(1, 0));
    frame.render_widget(block, area);
    let lines = match newcomer {
        Some(newcomer) => vec![
            Line::from(vec![
                Span::from("words   ").dim(),
                Span::from(newcomer.words.join(" ")).fg(Color::Cyan).bold(),
            ]),
            Line::from(vec![Span::from("device  ").dim(), Span::from(newcomer.device.clone())]),
            Line::from(format!(
                "Have {name} read out the words, by a voice that you know. If they are these, y lets \
                 them in; n turns them away."
            )),
        ],
        None => vec![Line::from("They do not wait here any more.")],
    };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), inner);
}

impl ViewState {
    /// After a decision the next newcomer is shown.
    pub(super) fn press_at_waiting(
        &mut self,
        code: KeyCode,
        who: DeviceText,
        snapshot: &Snapshot,
    ) -> Option<Wish> {
        let waits = snapshot.waiting.iter().any(|it| device(it) == Some(who));
        let person = who.0.to_string();
        let command = match code {
            KeyCode::Char('q') => return Some(Wish::Leave),
            KeyCode::Char('y') if waits => Some(Command::Admit { person }),
            KeyCode::Char('n') if waits => Some(Command::Refuse { person }),
            _ => None,
        };
        let others = snapshot.waiting.iter().filter_map(device).find(|it| *it != who);
        self.page = others.filter(|_| command.is_some()).map(Page::Waiting);
        command.map(|command| Wish::Commands(vec![command]))
    }
}

fn device(newcomer: &WaitingView) -> Option<DeviceText> {
    newcomer.device.parse::<DeviceId>().ok().map(DeviceText)
}
