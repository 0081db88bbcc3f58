//! A ticket that lets others in.

use eframe::egui::{Align2, Label, RichText, Ui, Window};
use hark_node::snapshot::TicketRequest;

use super::{
    Asked, Drawing,
    plate::{copies, named},
};
use crate::{backend::WindowOrder, tokens};

/// Draws the ticket. Returns whether it stays open.
pub fn show(ui: &mut Ui, view: &mut Drawing) -> bool {
    let mut open = true;
    let colours = view.colours;
    let organisation = view.snapshot().organisation_id.clone();
    let title = format!("Invite to {}", view.snapshot().organisation);
    let window = Window::new(title).open(&mut open).collapsible(false).resizable(false);
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
    window.default_width(420.0).show(ui.ctx(), |ui| {
        let ticket = view.scene.ticket.as_ref().filter(|(of, _)| *of == organisation);
        match ticket {
            None => {
                let text = "Anybody who has a ticket can join for 24 hours, or for less where the \
                            charter says so. Send it by a way that only they can read.";
                ui.add(Label::new(text).wrap());
                let ask = named(ui.button("Make a ticket"), "Make a ticket");
                if ask.clicked() {
                    let order = WindowOrder::Ticket(TicketRequest::default());
                    view.asked.push(Asked::WindowOrder(organisation.clone(), order));
                }
            }
            Some((_, ticket)) => {
                let text = ticket.to_string();
                ui.label("Others join with this ticket: they paste it into Hark, or say");
                ui.label(RichText::new("hark talk TICKET").text_style(tokens::strong()));
                let shown = RichText::new(&text).monospace().size(10.0).color(colours.weak);
                ui.add(Label::new(shown).wrap().selectable(true));
                ui.horizontal(|ui| {
                    if copies(ui, "Copy", "Copy the ticket") {
                        view.asked.push(Asked::Copy(text));
                    }
                    if named(ui.button("Another one"), "Make another ticket").clicked() {
                        let order = WindowOrder::Ticket(TicketRequest::default());
                        view.asked.push(Asked::WindowOrder(organisation.clone(), order));
                    }
                });
            }
        }
    });
    open
}
