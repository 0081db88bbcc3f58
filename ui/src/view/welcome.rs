//! The first start: a name, and a squad to found or to join.

use eframe::egui::{
    Align, Button, CentralPanel, Key, Label, Layout, Response, RichText, TextEdit, Ui, vec2,
};
use hark_keys::Ticket;

use super::{plate::named, sound};
use crate::{
    settings::Settings,
    sound::SoundDevices,
    start::Begin,
    tokens::{self, HEADING, SPACE},
};

/// What the person has typed.
#[derive(Debug, Default)]
pub struct FirstStart {
    /// The name that others see.
    pub name: String,
    /// The ticket, or the name of a new squad.
    pub ticket: String,
    /// The name of the squad to found.
    pub squad: String,
    /// What was wrong with it.
    pub error: Option<String>,
    /// Whether the first field has got the keyboard.
    pub is_focused: bool,
    /// Whether the ticket was found on the clipboard.
    pub from_clipboard: bool,
}

impl FirstStart {
    /// Offers a ticket that was given as a link, or lies on the clipboard. A link that is none is
    /// shown as it is, with what is wrong with it; the clipboard may hold anything.
    pub fn offer(&mut self, text: &str, from_clipboard: bool) {
        if self.ticket.is_empty() && (!from_clipboard || Ticket::find(text).is_ok()) {
            self.ticket = text.trim().to_owned();
            self.from_clipboard = from_clipboard;
        }
    }
}

/// Draws it. Returns what the person wants to begin with.
pub fn show(
    ui: &mut Ui,
    welcome: &mut FirstStart,
    settings: &mut Settings,
    devices: &SoundDevices,
) -> Option<Begin> {
    let mut begin = None;
    CentralPanel::default().show(ui, |ui| {
        let width = 460.0_f32.min(ui.available_width());
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() / 2.0 - 220.0).max(SPACE));
            ui.allocate_ui_with_layout(vec2(width, 440.0), Layout::top_down(Align::Min), |ui| {
                begin = form(ui, welcome, settings, devices, width);
            });
        });
    });
    begin
}

fn form(
    ui: &mut Ui,
    welcome: &mut FirstStart,
    settings: &mut Settings,
    devices: &SoundDevices,
    width: f32,
) -> Option<Begin> {
    let colours = settings.theme.colours();
    let mut begin = None;
    ui.label(RichText::new("Talk with your squad").size(24.0).text_style(tokens::strong()));
    let what = "No account and no server: your voice goes straight to the others, and only they \
                can hear it.";
    ui.add(Label::new(RichText::new(what).color(colours.weak)).wrap());
    ui.add_space(SPACE * 2.0);
    let name = field(ui, "Your name, as the others see it", &mut welcome.name, "Wren", width);
    if !std::mem::replace(&mut welcome.is_focused, true) {
        name.request_focus();
    }
    ui.add_space(SPACE);
    sound::choose_both(ui, settings, devices, width);
    ui.add_space(SPACE * 2.0);

    heading(ui, "Join with a ticket");
    let pasted = field(ui, "Ticket", &mut welcome.ticket, "paste what somebody sent you", width);
    let ticket = Ticket::find(&welcome.ticket);
    match &ticket {
        Ok(ticket) => {
            let from = if ticket.issued_by.is_empty() { "somebody" } else { &ticket.issued_by };
            let whence = if welcome.from_clipboard { ", from the clipboard" } else { "" };
            let text = format!("leads to {}, issued by {from}{whence}", ticket.name);
            ui.label(RichText::new(text).color(colours.receive));
        }
        Err(error) if !welcome.ticket.trim().is_empty() => {
            ui.add(Label::new(RichText::new(error.to_string()).color(colours.warning)).wrap());
        }
        Err(_) => {}
    }
    let named_well = !welcome.name.trim().is_empty();
    let join = Button::new("Join").selected(ticket.is_ok());
    let join = ui.add_enabled(named_well && ticket.is_ok(), join);
    // Enter in any field does the evident: it joins if there is a ticket, and founds if not.
    let enters = |ui: &Ui, field: &Response| {
        field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) && named_well
    };
    let joins = named(join, "Join").clicked() || enters(ui, &name) || enters(ui, &pasted);
    if joins && let Ok(ticket) = ticket {
        begin = Some(Begin::Join(Box::new(ticket)));
    }
    ui.add_space(SPACE * 2.0);

    heading(ui, "Or found a squad of your own");
    let squad = field(ui, "Name of the squad", &mut welcome.squad, "squad", width);
    let founds = named(ui.add_enabled(named_well, Button::new("Found it")), "Found it").clicked();
    if !named_well {
        ui.label(RichText::new("Give your name first.").size(tokens::SMALL).color(colours.weak));
    }
    let nothing_pasted = welcome.ticket.trim().is_empty();
    if founds || enters(ui, &squad) || nothing_pasted && enters(ui, &name) {
        let name = welcome.squad.trim();
        begin = Some(Begin::Found(if name.is_empty() { "squad" } else { name }.to_owned()));
    }
    if let Some(error) = &welcome.error {
        ui.add_space(SPACE);
        ui.add(Label::new(RichText::new(error).color(colours.warning)).wrap());
    }
    begin
}

fn heading(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).size(HEADING).text_style(tokens::strong()));
}

fn field(ui: &mut Ui, name: &str, text: &mut String, hint: &str, width: f32) -> Response {
    ui.label(RichText::new(name).size(tokens::SMALL));
    ui.name_inputs(name, |ui| {
        let edit = TextEdit::singleline(text).hint_text(hint).desired_width(width - 20.0);
        ui.add(edit.char_limit(4096))
    })
}
