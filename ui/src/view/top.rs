//! The bar at the top: who hears this person, the microphone, and what is in use.

use eframe::egui::{
    Align, Button, Frame, Label, Layout, Rect, RichText, Role, Sense, Slider, Ui, WidgetInfo,
    containers::menu::MenuButton, vec2,
};
use hark_node::{
    profile::ProfileAction,
    snapshot::{Command, MasterChange, Snapshot, TransmitMode},
};

use super::{
    Asked, Drawing, Part,
    lamp::{meter, triangle},
    plate::{named, toggle},
};
use crate::{
    keys::preset,
    tokens::{self, HEADING, SMALL, SPACE},
};

/// Draws the line that says who hears this person. It is red and filled while somebody does.
pub fn air(ui: &mut Ui, view: &mut Drawing) {
    let colours = view.colours;
    let on_air = view.scene.on_air();
    let own = view.snapshot();
    let live = !on_air.is_empty();
    let fill = if live { colours.transmit } else { colours.panel };
    let frame = Frame::new().fill(fill).inner_margin(vec2(12.0, 0.0));
    frame.show(ui, |ui| {
        ui.set_min_size(vec2(ui.available_width(), 34.0));
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            if let Some(text) = whispering(view) {
                let ink = if live { colours.on_transmit } else { colours.receive };
                ui.label(RichText::new(text).color(ink).text_style(tokens::strong()));
            }
            let text = if live {
                let (space, _) = ui.allocate_exact_size(vec2(16.0, 16.0), Sense::hover());
                ui.painter().add(triangle(space.center(), 7.0, colours.on_transmit));
                let text = format!("ON AIR: {}", on_air.join(", "));
                let ink = colours.on_transmit;
                RichText::new(text).size(HEADING).color(ink).text_style(tokens::strong())
            } else {
                idle(own, view)
            };
            let said = text.text().to_owned();
            let line = ui.add(Label::new(text).truncate());
            line.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
            if live && own.unheard {
                let ink = colours.on_transmit;
                ui.label(RichText::new("nobody is there to hear it").color(ink));
            }
        });
    });
}

/// Who whispers to this person now, in any organisation. A whisper is on no plate.
fn whispering(view: &Drawing) -> Option<String> {
    let snapshots = view.scene.organisations.iter().map(|it| &it.snapshot);
    let peers = snapshots.flat_map(|it| &it.peers).filter(|it| it.talking && it.whispers);
    let names: Vec<_> = peers.map(|peer| peer.name.as_str()).collect();
    match names[..] {
        [] => None,
        [name] => Some(format!("{name} whispers to you")),
        _ => Some(format!("{} whisper to you", names.join(", "))),
    }
}

/// What stands there while nobody hears this person.
fn idle(own: &Snapshot, view: &Drawing) -> RichText {
    let colours = view.colours;
    if talks_while_muted(own) {
        let text = "You talk, but your microphone is muted: nobody hears you";
        return RichText::new(text).color(colours.warning).text_style(tokens::strong());
    }
    if !own.silenced.is_empty() {
        let text = format!("You may not speak in {}", own.silenced.join(", "));
        return RichText::new(text).color(colours.warning);
    }
    if own.talk_to.is_empty() {
        return RichText::new("You talk to nobody: click a net").color(colours.warning);
    }
    let how = match own.transmit {
        TransmitMode::Ptt => match (view.keys)("") {
            Some(key) => format!("hold {key} to talk to"),
            None => "hold your talk key to talk to".to_owned(),
        },
        TransmitMode::Vad => "your voice goes to".to_owned(),
        TransmitMode::Open => "your open microphone goes to".to_owned(),
    };
    let mut text = format!("Quiet: {how} {}", own.talk_to.join(", "));
    if own.muted {
        text = "Your microphone is muted".to_owned();
    } else if own.unheard {
        text += ", where nobody hears you now";
    }
    RichText::new(text).color(colours.weak)
}

/// Whether the person seems to talk though the microphone is closed by the person.
pub fn talks_while_muted(own: &Snapshot) -> bool {
    let key = own.keys.iter().any(|key| key.down);
    own.muted && (key || own.level_dbfs > SPEECH_DBFS)
}

/// Draws the buttons of the bar.
pub fn bar(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    ui.horizontal_centered(|ui| {
        let text = if own.muted { "Mic muted" } else { "Mic on" };
        let mic = toggle(ui, text, own.muted, "Mute my microphone");
        if mic.on_hover_text("opens or closes your microphone for everybody (M)").clicked() {
            view.command(Command::Mute { on: !own.muted });
        }
        let (space, level) = ui.allocate_exact_size(vec2(64.0, 20.0), Sense::hover());
        let bar = Rect::from_center_size(space.center(), vec2(64.0, 6.0));
        meter(ui.painter(), bar, own.level_dbfs, view.colours);
        level.on_hover_text("the level of your microphone");
        let text = if own.deafened { "Sound off" } else { "Sound on" };
        let deaf = toggle(ui, text, own.deafened, "Silence my loudspeaker");
        if deaf.on_hover_text("lets you hear everybody, or nobody (D)").clicked() {
            view.command(Command::Deafen { on: !own.deafened });
        }
        let text = if own.away { "Away" } else { "Here" };
        let away = toggle(ui, text, own.away, "Show the others that I am away");
        if away.on_hover_text("shows the others whether you are away").clicked() {
            view.command(Command::Away { on: !own.away });
        }
        ui.separator();
        modes(ui, view, own);
        profiles(ui, view, own);
        presets(ui, view, own);
        masters(ui, view, own);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let small = |text: &str| RichText::new(text.to_owned()).size(SMALL);
            let options = named(ui.add(Button::new(small("Settings")).small()), "Settings");
            if options.clicked() {
                view.asked.push(Asked::Open(Part::Options));
            }
            let keys = named(ui.add(Button::new(small("Keys")).small()), "Keys");
            if keys.on_hover_text("all keys and what they do").clicked() {
                view.asked.push(Asked::Open(Part::Keys));
            }
            let mini = named(ui.add(Button::new(small("Mini")).small()), "Mini window");
            if mini.on_hover_text("live and armed nets alone").clicked() {
                view.asked.push(Asked::Open(Part::Mini));
            }
            let invite = named(ui.add(Button::new(small("Invite")).small()), "Invite somebody");
            if invite.on_hover_text("a ticket that lets others in").clicked() {
                view.asked.push(Asked::Open(Part::Ticket));
            }
        });
    });
}

fn modes(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    ui.spacing_mut().item_spacing.x = 2.0;
    for (mode, text, hint) in [
        (TransmitMode::Ptt, "Key", "your microphone is open while a talk key is held"),
        (TransmitMode::Vad, "Voice", "your voice opens the microphone"),
        (TransmitMode::Open, "Open", "your microphone is always open"),
    ] {
        let button = toggle(ui, text, own.transmit == mode, &format!("Talk by: {text}"));
        if button.on_hover_text(hint).clicked() {
            view.command(Command::Transmit { mode });
        }
    }
    ui.spacing_mut().item_spacing.x = SPACE;
}

fn profiles(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    if own.profiles.len() < 2 {
        return;
    }
    let text = RichText::new(format!("Profile: {}", own.profile)).size(SMALL);
    menu(ui, text, |ui| {
        for name in &own.profiles {
            if ui.selectable_label(*name == own.profile, name).clicked() {
                let (action, name) = (ProfileAction::Use, name.clone());
                view.command(Command::Profile { action, name });
                ui.close();
            }
        }
    });
}

/// A small button that opens a menu.
fn menu(ui: &mut Ui, text: RichText, contents: impl FnOnce(&mut Ui)) {
    MenuButton::from_button(Button::new(text).small()).ui(ui, contents);
}

/// The presets, of which several can be in force.
fn presets(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    if own.all_presets.is_empty() && own.presets.is_empty() {
        return;
    }
    let loaded = if own.presets.is_empty() { "none".to_owned() } else { own.presets.join(", ") };
    let mut text = RichText::new(format!("Preset: {loaded}")).size(SMALL);
    if !own.presets.is_empty() {
        text = text.color(view.colours.armed);
    }
    menu(ui, text, |ui| {
        ui.small("for everybody; takes the right to load presets");
        for name in &own.all_presets {
            let is_loaded = own.presets.contains(name);
            let verb = if is_loaded { "Unload" } else { "Load" };
            let button = ui.selectable_label(is_loaded, name);
            if named(button, &format!("{verb} the preset {name}")).clicked() {
                view.order(preset(name, !is_loaded));
                ui.close();
            }
        }
    });
}

/// The volumes of all nets together.
fn masters(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    let master = own.master;
    let change = |view: &mut Drawing, change| view.command(Command::Master { change });
    let text = RichText::new("Volume").size(SMALL);
    let text = if (master.talked_to, master.others) == (1.0, 1.0) { text } else { text.strong() };
    menu(ui, text, |ui| {
        for (name, volume) in [("Nets I talk to", master.talked_to), ("Other nets", master.others)]
        {
            ui.label(name);
            let mut percent = volume * 100.0;
            let chosen = ui.name_inputs(format!("Volume of: {name}"), |ui| {
                let slider = Slider::new(&mut percent, 0.0..=200.0).integer().suffix(" %");
                let slider = ui.add(slider);
                if slider.double_clicked() {
                    Some(100.0)
                } else {
                    slider.changed().then_some(percent)
                }
            });
            let Some(volume) = chosen.map(|percent| Some(percent / 100.0)) else { continue };
            let wanted = match name {
                "Nets I talk to" => MasterChange { talked_to: volume, ..MasterChange::default() },
                _ => MasterChange { others: volume, ..MasterChange::default() },
            };
            change(view, wanted);
        }
    });
    let down = toggle(ui, "Others down", master.others_down, "Turn the other nets down");
    if down.on_hover_text("nets that you do not talk to, by 18 dB, until it is off").clicked() {
        let others_down = Some(!master.others_down);
        change(view, MasterChange { others_down, ..MasterChange::default() });
    }
}

/// A microphone that is louder than this hears somebody talk.
const SPEECH_DBFS: f32 = -32.0;
