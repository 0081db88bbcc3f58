//! The tree of channels, with the rights of this person.

use eframe::egui::{
    Align, Layout, RichText, Role, ScrollArea, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2,
};
use hark_node::snapshot::{Command, NetView, TalkTo};

use super::{
    Drawing,
    lamp::{Lamp, lock},
    plate::{fitted, toggle},
};
use crate::tokens::{ROW, SMALL};

/// Draws the tree.
pub fn show(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    if own.nets.is_empty() {
        ui.weak("No channel is within reach.");
        return;
    }
    ui.label(
        RichText::new("A double click hears and talks to a channel.")
            .size(SMALL)
            .color(view.colours.weak),
    );
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, ROW, own.nets.len(), |ui, rows| {
        for net in &own.nets[rows] {
            row(ui, view, net);
        }
    });
}

fn row(ui: &mut Ui, view: &mut Drawing, net: &NetView) {
    let own = view.snapshot();
    let colours = view.colours;
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    let rights = if net.may_speak { "you may speak" } else { "you may not speak" };
    let lamp = Lamp::of(net, own);
    let words = format!("{}, {}, {rights}, {} here", net.path, lamp.words(), net.members.len());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, net.listening, &words));
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(rect, 4.0, colours.hover);
    }
    let depth = net.path.matches('/').count() as f32;
    let left = rect.left() + 10.0 + depth * 14.0;
    lamp.paint(ui.painter(), pos2(left, rect.center().y), colours);
    let font = TextStyle::Body.resolve(ui.style());
    let ink = if net.listening { colours.text } else { colours.weak };
    let text = fitted(ui, &net.name, font, ink, rect.right() - left - 100.0);
    let end = left + 14.0 + text.size().x;
    ui.painter().galley(pos2(left + 14.0, rect.center().y - text.size().y / 2.0), text, ink);
    if !net.may_speak {
        lock(ui.painter(), pos2(end + 10.0, rect.center().y), colours.weak);
    }
    let builder = eframe::egui::UiBuilder::new().max_rect(rect).id_salt(("channel", &net.id));
    ui.scope_builder(builder, |ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if toggle(ui, "Hear", net.listening, &format!("Hear channel {}", net.path)).clicked() {
                let on = !net.listening;
                view.command(Command::Listen { net: net.path.clone(), on, keep: false });
            }
            if !net.members.is_empty() {
                ui.label(RichText::new(net.members.len().to_string()).size(SMALL));
            }
        });
    });
    if response.double_clicked() {
        view.command(Command::Listen { net: net.path.clone(), on: true, keep: false });
        let to = TalkTo::nets(vec![net.path.clone()]);
        view.command(Command::TalkTo { to, keep: false });
    }
    response.on_hover_text(match &net.members[..] {
        [] => format!("{rights}; nobody else is here"),
        members => format!("{rights}; here: {}", members.join(", ")),
    });
}
