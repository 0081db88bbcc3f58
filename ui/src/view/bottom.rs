//! The line at the bottom: what is wrong, and what happened last.

use eframe::egui::{Align, Button, Label, Layout, RichText, Ui};

use hark_node::snapshot::Command;

use super::{Drawing, plate::named};
use crate::{
    air::{ago, next_ago},
    tokens::SMALL,
};

/// Draws the line.
pub fn show(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    let colours = view.colours;
    ui.horizontal_centered(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let text = RichText::new(format!("{} · {}", own.organisation, own.name));
            ui.label(text.size(SMALL).color(colours.weak));
            waiting(ui, view);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                if let Some(trouble) = &own.trouble {
                    let text = RichText::new(format!("! {trouble}")).color(colours.warning);
                    ui.add(Label::new(text).truncate()).on_hover_text(trouble);
                    return;
                }
                let Some(last) = view.scene.news.back() else { return };
                let since = view.now.saturating_duration_since(last.at);
                view.change_at(view.now + next_ago(since));
                let colour = if last.is_trouble { colours.warning } else { colours.weak };
                let text = RichText::new(format!("{} ({})", last.text, ago(since))).color(colour);
                let all: Vec<_> =
                    view.scene.news.iter().rev().take(12).map(|it| it.text.as_str()).collect();
                ui.add(Label::new(text.size(SMALL)).truncate()).on_hover_text(all.join("\n"));
            });
        });
    });
}

/// Newcomers who wait to be let in, each with two buttons.
fn waiting(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    for newcomer in &own.waiting {
        let person = newcomer.device.clone();
        let refuse = format!("Turn {} away", newcomer.name);
        if named(ui.add(Button::new("Turn away").small()), &refuse).clicked() {
            let person = person.clone();
            view.command(Command::Refuse { person });
        }
        let admit = format!("Let {} in", newcomer.name);
        if named(ui.add(Button::new("Let in").small()), &admit).clicked() {
            view.command(Command::Admit { person });
        }
        let words = newcomer.words.join(" ");
        let text = RichText::new(format!("{} waits", newcomer.name)).color(view.colours.armed);
        ui.label(text).on_hover_text(format!("compare these words by voice: {words}"));
    }
}
