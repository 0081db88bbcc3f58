//! The column of organisations: which is in front, and what happens in the others.

use eframe::egui::{
    Align2, Color32, FontId, Key, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2,
};
use hark_node::snapshot::{Command, Snapshot};

use super::{Asked, Drawing, lamp::triangle};
use crate::{
    backend::{Organisation, WindowOrder},
    tokens::{BADGES, SPACE},
};

/// Draws the badges.
pub fn show(ui: &mut Ui, view: &mut Drawing) {
    ui.spacing_mut().item_spacing.y = SPACE;
    for (at, organisation) in view.scene.organisations.iter().enumerate() {
        badge(ui, view, at, organisation);
    }
}

fn badge(ui: &mut Ui, view: &mut Drawing, at: usize, organisation: &Organisation) {
    let own = &organisation.snapshot;
    let colours = view.colours;
    let front = own.organisation_id == view.snapshot().organisation_id;
    let (rect, response) = ui.allocate_exact_size(vec2(40.0, 40.0), Sense::click());
    let state = state(own);
    let words = [own.organisation.as_str(), if front { "in front" } else { "" }, state.words()];
    let words = words.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", ");
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, front, &words));
    let colour = colour(view.scene.organisations.len(), at);
    let painter = ui.painter();
    let fill = if front { colour } else { colours.plate };
    painter.rect_filled(rect, 10.0, fill);
    if !front {
        painter.rect_stroke(rect, 10.0, Stroke::new(1.5, colour), StrokeKind::Inside);
    }
    if response.has_focus() {
        painter.rect_stroke(rect, 10.0, Stroke::new(2.5, colours.accent), StrokeKind::Outside);
    }
    let ink = if front { Color32::BLACK } else { colours.text };
    let font = FontId::new(15.0, eframe::egui::FontFamily::Name("strong".into()));
    painter.text(rect.center(), Align2::CENTER_CENTER, initials(&own.organisation), font, ink);
    let lamp = Rect::from_center_size(rect.right_bottom() - vec2(4.0, 4.0), vec2(14.0, 14.0));
    match state {
        State::OnAir => {
            painter.circle_filled(lamp.center(), 8.0, colours.transmit);
            painter.add(triangle(lamp.center(), 4.5, colours.on_transmit));
        }
        State::Talks => {
            painter.circle_filled(lamp.center(), 6.0, colours.ground);
            painter.circle_filled(lamp.center(), 4.5, colours.receive);
        }
        State::Alone => {
            painter.circle_filled(lamp.center(), 6.0, colours.ground);
            painter.circle_stroke(lamp.center(), 4.0, Stroke::new(1.5, colours.warning));
        }
        State::Quiet => {}
    }
    let digit = at + 1;
    let hint = format!("{words}\nCtrl+{digit} brings it to the front");
    let keyed = digit <= 9
        && ui.input_mut(|input| {
            let key = Key::from_name(&digit.to_string());
            key.is_some_and(|key| input.consume_key(eframe::egui::Modifiers::COMMAND, key))
        });
    if response.on_hover_text(hint).clicked() || keyed {
        let order = WindowOrder::Command(Command::Front);
        view.asked.push(Asked::WindowOrder(own.organisation_id.clone(), order));
    }
}

/// What matters most about an organisation that is not in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    OnAir,
    Talks,
    Alone,
    Quiet,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::OnAir => "you are on the air",
            Self::Talks => "somebody talks",
            Self::Alone => "nobody is here",
            Self::Quiet => "",
        }
    }
}

fn state(own: &Snapshot) -> State {
    match () {
        () if own.transmitting => State::OnAir,
        () if own.peers.iter().any(|peer| peer.talking) => State::Talks,
        () if !own.peers.iter().any(|peer| peer.reachable) => State::Alone,
        () => State::Quiet,
    }
}

/// The colour of an organisation: the same place has the same colour.
pub fn colour(count: usize, at: usize) -> Color32 {
    debug_assert!(at < count);
    BADGES[at % BADGES.len()]
}

/// At most two letters that stand for a name.
fn initials(name: &str) -> String {
    let letters: String = name
        .split_whitespace()
        .filter_map(|word| word.chars().find(|it| it.is_alphanumeric()))
        .take(2)
        .flat_map(char::to_uppercase)
        .collect();
    if letters.is_empty() { "?".to_owned() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_its_initials() {
        let names = [("Kestrel Guard", "KG"), ("squad", "S"), ("指揮 部隊", "指部"), ("★", "?")];
        for (name, letters) in names {
            assert_eq!(initials(name), letters);
        }
    }
}
