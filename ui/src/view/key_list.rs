//! All keys and what they do, and what else a key can be given to.

use eframe::egui::{Align2, DragValue, Grid, Label, RichText, ScrollArea, Ui, Window};
use hark_node::snapshot::{Snapshot, TalkTo};

use super::{
    Asked, Drawing,
    plate::{named, toggle},
};
use crate::{
    keys::{KeyAction, KeySetting},
    tokens::{GAP, SMALL, SPACE},
};

/// Draws the keys. Returns whether they stay open.
pub fn show(ui: &mut Ui, view: &mut Drawing) -> bool {
    let mut open = true;
    let window = Window::new("Keys").open(&mut open).collapsible(false).resizable(false);
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).default_width(560.0);
    window.show(ui.ctx(), |ui| {
        let text = "Keys work while the game has the keyboard, and the game gets them as well.";
        ui.label(RichText::new(text).size(SMALL).color(view.colours.weak));
        let room = (ui.ctx().content_rect().height() - 240.0).clamp(80.0, 360.0);
        let area = ScrollArea::vertical().auto_shrink([false, true]).max_height(room);
        area.show(ui, |ui| {
            let mut removed = None;
            Grid::new("keys").spacing([SPACE, GAP]).show(ui, |ui| {
                for at in 0..view.settings.keys.len() {
                    let mut key = view.settings.keys[at].clone();
                    if row(ui, view, &mut key) {
                        removed = Some(at);
                    }
                    ui.end_row();
                    view.settings.keys[at].talk = key.talk;
                }
            });
            if let Some(at) = removed {
                view.settings.keys.remove(at);
            }
            if view.settings.keys.is_empty() {
                ui.weak("No key does anything.");
            }
        });
        ui.separator();
        ui.horizontal_wrapped(|ui| {
            ui.label("Add a key:");
            for (name, actions) in offers(view) {
                ui.menu_button(RichText::new(name).size(SMALL), |ui| {
                    for action in actions {
                        if ui.button(action.describe()).clicked() {
                            view.asked.push(Asked::Bind(action, None));
                            ui.close();
                        }
                    }
                });
            }
        });
    });
    open
}

/// Draws one key. Returns whether it is to be removed.
fn row(ui: &mut Ui, view: &mut Drawing, key: &mut KeySetting) -> bool {
    let mut what = key.action.describe();
    if view.settings.keys.iter().filter(|it| it.action == key.action).count() > 1 {
        what = format!("{what} ({})", key.chord);
    }
    ui.allocate_ui(eframe::egui::vec2(230.0, 22.0), |ui| {
        ui.set_min_width(230.0);
        ui.add(Label::new(key.action.describe()).truncate());
    });
    let chord = named(ui.button(key.chord.to_string()), &format!("Choose a key for: {what}"));
    if chord.on_hover_text("press to choose another key").clicked() {
        view.asked.push(Asked::Bind(key.action.clone(), Some(key.chord.clone())));
    }
    if key.action.talks() {
        let latch = toggle(ui, "Latch", key.talk.latch, &format!("Latch: {what}"));
        if latch.on_hover_text("a press begins, and the next one ends").clicked() {
            key.talk.latch = !key.talk.latch;
        }
        ui.name_inputs(format!("Tail of: {what}"), |ui| {
            let tail = DragValue::new(&mut key.talk.release_delay_ms).range(0..=1000).speed(5.0);
            ui.add(tail.suffix(" ms")).on_hover_text(
                "how long the microphone stays open after the key, so that no last word is cut off",
            );
        });
    } else {
        ui.label("");
        ui.label("");
    }
    named(ui.small_button("Remove"), &format!("Remove the key of: {what}")).clicked()
}

/// What a key can be added for, in groups.
fn offers(view: &Drawing) -> Vec<(&'static str, Vec<KeyAction>)> {
    let own = view.snapshot();
    let speaks: Vec<_> = own.nets.iter().filter(|net| net.may_speak).collect();
    let mut talk: Vec<_> = speaks.iter().map(|net| KeyAction::net(&net.path)).collect();
    let several: Vec<_> = speaks.iter().filter(|net| net.talked_to).collect();
    if several.len() > 1 {
        let nets = several.iter().map(|net| net.path.clone()).collect();
        talk.insert(0, KeyAction::TalkTo(TalkTo::nets(nets)));
    }
    let mut nets = vec![KeyAction::NextNet, KeyAction::PreviousNet];
    nets.extend([KeyAction::Louder { net: None }, KeyAction::Softer { net: None }]);
    for net in &own.nets {
        let path = || Some(net.path.clone());
        nets.push(KeyAction::Hear { net: net.path.clone() });
        nets.extend([KeyAction::Louder { net: path() }, KeyAction::Softer { net: path() }]);
    }
    let profiles = own.profiles.iter().map(|name| KeyAction::Profile { name: name.clone() });
    let presets = own.all_presets.iter().map(|name| KeyAction::Preset { name: name.clone() });
    let mut sets: Vec<_> = presets.chain(profiles).collect();
    if view.scene.organisations.len() > 1 {
        sets.push(KeyAction::Front { organisation: None });
        let names = view.scene.organisations.iter().map(|it| it.snapshot.organisation.clone());
        sets.extend(names.map(|name| KeyAction::Front { organisation: Some(name) }));
    }
    let all = [
        ("Talk to nets", talk),
        ("Whisper", whispers(own)),
        ("Nets", nets),
        ("Presets, profiles and organisations", sets),
        (
            "Microphone and sound",
            vec![KeyAction::Talk, KeyAction::Mute, KeyAction::Deafen, KeyAction::OthersDown],
        ),
    ];
    all.into()
}

/// People and roles that can be whispered to.
fn whispers(own: &Snapshot) -> Vec<KeyAction> {
    let mut people: Vec<_> = own.peers.iter().map(|peer| peer.name.clone()).collect();
    let mut roles: Vec<_> = own.peers.iter().flat_map(|peer| peer.roles.clone()).collect();
    for names in [&mut people, &mut roles] {
        names.sort();
        names.dedup();
        names.truncate(OFFERED_MAX);
    }
    let person = |name| KeyAction::TalkTo(TalkTo { members: vec![name], ..TalkTo::default() });
    let role = |name| KeyAction::TalkTo(TalkTo { roles: vec![name], ..TalkTo::default() });
    let all = roles.into_iter().map(role).chain(people.into_iter().map(person));
    [KeyAction::LastCaller].into_iter().chain(all).collect()
}

/// People, and roles, that the menu offers.
const OFFERED_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::operation;

    #[test]
    fn whispers_go_to_roles_people_and_the_last_caller() {
        let told: Vec<_> = whispers(&operation()).iter().map(KeyAction::describe).collect();
        assert_eq!(
            told[..3],
            ["Whisper to the last caller", "Whisper to Officer", "Whisper to Heron"]
        );
    }
}
