//! What the window shows while no node runs: one is started, or one has ended.

use eframe::egui::{Align, Button, CentralPanel, Frame, Label, Layout, RichText, Ui, vec2};

use super::{plate::named, sound};
use crate::{
    settings::Settings,
    sound::SoundDevices,
    tokens::{self, CORNER, Colours, SPACE},
};

/// What a person wants when no node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEnd {
    /// The node is to be started.
    StartAgain,
    /// The window is to be closed.
    Quit,
}

/// Draws what is told while a node is started.
pub fn starting(ui: &mut Ui, news: &[String], colours: &Colours) {
    column(ui, 120.0, |ui| {
        title(ui, "Starting …");
        for line in news.iter().rev().take(NEWS_SHOWN).rev() {
            ui.add(Label::new(RichText::new(line).color(colours.weak)).wrap());
        }
    });
}

/// Draws why no node runs, and what can be done.
pub fn failed(
    ui: &mut Ui,
    why: &str,
    settings: &mut Settings,
    devices: &SoundDevices,
) -> Option<AfterEnd> {
    let colours = settings.theme.colours();
    let mut wish = None;
    column(ui, 260.0, |ui| {
        title(ui, "Hark does not run");
        let text = "Nobody hears you, and you hear nobody.";
        ui.label(RichText::new(text).color(colours.weak));
        ui.add_space(SPACE);
        let frame = Frame::new().fill(colours.plate).corner_radius(CORNER).inner_margin(12.0);
        frame.stroke((1.0, colours.warning)).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.add(Label::new(RichText::new(why).color(colours.warning)).wrap().selectable(true));
        });
        ui.add_space(SPACE * 2.0);
        // The reason may be a device that exists and cannot be used.
        sound::choose_both(ui, settings, devices, ui.available_width());
        ui.add_space(SPACE * 2.0);
        ui.horizontal(|ui| {
            let again = ui.add(Button::new("Start again").selected(true));
            if named(again, "Start again").clicked() {
                wish = Some(AfterEnd::StartAgain);
            }
            if named(ui.button("Quit"), "Quit").clicked() {
                wish = Some(AfterEnd::Quit);
            }
        });
    });
    wish
}

/// A column in the middle of the window, about `height` high.
fn column(ui: &mut Ui, height: f32, contents: impl FnOnce(&mut Ui)) {
    CentralPanel::default().show(ui, |ui| {
        let width = 460.0_f32.min(ui.available_width());
        ui.vertical_centered(|ui| {
            ui.add_space(((ui.available_height() - height) / 2.0).max(SPACE));
            ui.allocate_ui_with_layout(vec2(width, height), Layout::top_down(Align::Min), contents);
        });
    });
}

fn title(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).size(24.0).text_style(tokens::strong()));
}

/// Lines about the start that are shown.
const NEWS_SHOWN: usize = 12;
