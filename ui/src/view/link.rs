//! A link to join by, which was opened while the window was open already.

use eframe::egui::{Align2, Label, RichText, Ui, Window};
use hark_keys::Ticket;

use super::plate::named;
use crate::{backend::Scene, tokens::Colours};

/// What the person says to it.
pub enum Answer {
    /// Nothing yet.
    Waiting,
    /// To join.
    Join(Box<Ticket>),
    /// Not to join.
    No,
}

/// Draws what the link leads to, and asks.
pub fn show(ui: &Ui, text: &str, scene: &Scene, colours: &Colours) -> Answer {
    let mut answer = Answer::Waiting;
    let mut open = true;
    let ticket = Ticket::find(text);
    let window = Window::new("A link was opened").open(&mut open).collapsible(false);
    let window = window.resizable(false).anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
    window.default_width(420.0).show(ui.ctx(), |ui| {
        let line = match &ticket {
            Ok(ticket) => {
                let from = if ticket.issued_by.is_empty() { "somebody" } else { &ticket.issued_by };
                RichText::new(format!("It leads to {}, issued by {from}.", ticket.name))
            }
            Err(error) => RichText::new(error.to_string()).color(colours.warning),
        };
        ui.add(Label::new(line).wrap());
        let Ok(ticket) = ticket else {
            if named(ui.button("Close"), "Close").clicked() {
                answer = Answer::No;
            }
            return;
        };
        let id = ticket.invite().organisation.to_string();
        if scene.organisations.iter().any(|it| it.snapshot.organisation_id == id) {
            ui.label("You are there already.");
            if named(ui.button("Close"), "Close").clicked() {
                answer = Answer::No;
            }
            return;
        }
        ui.add(Label::new("Nobody hears you for a moment while you join.").wrap());
        ui.horizontal(|ui| {
            if named(ui.button("Join"), "Join").clicked() {
                answer = Answer::Join(Box::new(ticket));
            } else if named(ui.button("Not now"), "Not now").clicked() {
                answer = Answer::No;
            }
        });
    });
    if open { answer } else { Answer::No }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use egui_kittest::{Harness, kittest::Queryable as _};

    use super::*;
    use crate::tokens::Theme;

    /// What a click on the button of this name answers.
    fn clicked(text: &'static str, button: &str) -> Answer {
        let answer = Rc::new(RefCell::new(Answer::Waiting));
        let given = Rc::clone(&answer);
        let mut harness = Harness::new_ui(move |ui| {
            let told = show(ui, text, &Scene::default(), Theme::Light.colours());
            if !matches!(told, Answer::Waiting) {
                *given.borrow_mut() = told;
            }
        });
        harness.get_by_label(button).click();
        harness.run();
        drop(harness);
        Rc::into_inner(answer).expect("the window has gone").into_inner()
    }

    #[test]
    fn nothing_is_joined_by_what_is_no_ticket() {
        assert!(matches!(clicked("hark:nothing", "Close"), Answer::No));
    }
}
