//! The choice of a microphone or loudspeaker.

use std::sync::Arc;

use eframe::egui::{ComboBox, Label, RichText, Ui};
use hark_node::{
    device::{DeviceInfo, DeviceList},
    event::Direction,
};

use crate::{
    settings::Settings,
    sound::{SoundDevices, devices_of, kind},
    tokens::{self, Colours},
};

/// Draws the choice of a microphone and of a loudspeaker beside each other.
pub fn choose_both(ui: &mut Ui, settings: &mut Settings, devices: &SoundDevices, width: f32) {
    let colours = settings.theme.colours();
    let half = (width - 20.0 - ui.spacing().item_spacing.x) / 2.0;
    let ends = [
        ("Microphone", Direction::Input, &mut settings.microphone),
        ("Loudspeaker", Direction::Output, &mut settings.loudspeaker),
    ];
    ui.horizontal_top(|ui| {
        for (name, direction, chosen) in ends {
            ui.vertical(|ui| {
                ui.set_width(half);
                ui.label(RichText::new(name).size(tokens::SMALL));
                ui.name_inputs(name, |ui| {
                    choose(ui, direction, chosen, devices, (colours, half));
                });
            });
        }
    });
}

/// Draws a box with the system's default and every device, and a line if there is no device.
pub fn choose(
    ui: &mut Ui,
    direction: Direction,
    chosen: &mut Option<String>,
    devices: &SoundDevices,
    (colours, width): (&Colours, f32),
) {
    let ctx = ui.ctx().clone();
    let list = devices.look(move || Arc::new(move || ctx.request_repaint()));
    let known: Option<Vec<&DeviceInfo>> =
        list.as_deref().map(|it: &DeviceList| devices_of(it, direction));
    let default = default_name(known.as_deref().unwrap_or_default());
    let shown = chosen.clone().unwrap_or_else(|| default.clone());
    let choice =
        ComboBox::from_id_salt(kind(direction)).selected_text(shown).width(width).truncate();
    choice.show_ui(ui, |ui| {
        ui.set_max_width(width);
        ui.selectable_value(chosen, None, default);
        for device in known.iter().flatten() {
            ui.selectable_value(chosen, Some(device.name.clone()), &device.name);
        }
        if known.is_none() {
            ui.weak("looking for devices …");
        }
    });
    if known.is_some_and(|known| known.is_empty()) {
        let line = format!("No {} was found.", kind(direction));
        let line = RichText::new(line).size(tokens::SMALL).color(colours.warning);
        ui.add(Label::new(line).wrap());
    }
}

/// The system's default, with the name of the device if it is known.
fn default_name(known: &[&DeviceInfo]) -> String {
    match known.iter().find(|it| it.default) {
        Some(device) => format!("Default: {}", device.name),
        None => "The system's default".to_owned(),
    }
}
