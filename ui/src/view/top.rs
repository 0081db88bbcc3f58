//! The bar at the top: who hears this person, the microphone, and what is in use.

use eframe::egui::{
    Align, Button, Color32, FontId, Frame, Label, Layout, PopupCloseBehavior, Rect, RichText, Role,
    ScrollArea, Sense, Slider, Ui, WidgetInfo,
    containers::menu::{MenuButton, MenuConfig},
    vec2,
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
    tokens::{self, BUTTON, GAP, HEADING, SMALL, SPACE},
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

/// A part of the bar that goes into a menu where the window is too narrow for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Modes,
    OthersDown,
    Volume,
    Preset,
    Profile,
    Away,
    Invite,
    Mini,
    Keys,
}

impl Item {
    /// All of them, with those first that keep their place longest.
    const ALL: [Self; 9] = [
        Self::Modes,
        Self::Keys,
        Self::Invite,
        Self::Preset,
        Self::OthersDown,
        Self::Mini,
        Self::Volume,
        Self::Away,
        Self::Profile,
    ];

    /// The texts of its buttons. Empty if there is nothing to choose.
    fn texts(self, own: &Snapshot) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Self::Modes => MODES.iter().map(|(_, text, _)| (*text).to_owned()).collect(),
            Self::OthersDown => one("Others down"),
            Self::Volume => one("Volume"),
            Self::Preset if own.all_presets.is_empty() && own.presets.is_empty() => Vec::new(),
            Self::Preset => vec![preset_text(own)],
            Self::Profile if own.profiles.len() < 2 => Vec::new(),
            Self::Profile => vec![profile_text(own)],
            Self::Away => one("Away"),
            Self::Invite => one("Invite"),
            Self::Mini => one("Mini"),
            Self::Keys => one("Keys"),
        }
    }

    /// The width that it takes with the gap beside it.
    fn width(self, ui: &Ui, own: &Snapshot) -> f32 {
        self.texts(own).iter().map(|text| button_width(ui, text)).sum()
    }

    fn show(self, ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
        match self {
            Self::Modes => modes(ui, view, own),
            Self::OthersDown => others_down(ui, view, own),
            Self::Volume => {
                let master = own.master;
                let text = RichText::new("Volume").size(SMALL);
                let usual = (master.talked_to, master.others) == (1.0, 1.0);
                menu(ui, if usual { text } else { text.strong() }, |ui| masters(ui, view, own));
            }
            Self::Preset => {
                let mut text = RichText::new(preset_text(own)).size(SMALL);
                if !own.presets.is_empty() {
                    text = text.color(view.colours.armed);
                }
                menu(ui, text, |ui| presets(ui, view, own));
            }
            Self::Profile => {
                let text = RichText::new(profile_text(own)).size(SMALL);
                menu(ui, text, |ui| profiles(ui, view, own));
            }
            Self::Away => away(ui, view, own),
            Self::Invite => {
                let hint = "a ticket that lets others in";
                part(ui, view, ("Invite", "Invite somebody", hint), Part::Ticket);
            }
            Self::Mini => {
                part(ui, view, ("Mini", "Mini window", "live and armed nets alone"), Part::Mini);
            }
            Self::Keys => {
                part(ui, view, ("Keys", "Keys", "all keys and what they do"), Part::Keys);
            }
        }
    }

    /// Draws it within the menu of what has no place in the bar.
    fn show_in_menu(self, ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
        let heading = |ui: &mut Ui, text: &str| {
            ui.label(RichText::new(text).size(SMALL).color(ui.visuals().weak_text_color()));
        };
        match self {
            Self::Modes => {
                heading(ui, "What opens your microphone");
                ui.horizontal(|ui| self.show(ui, view, own));
            }
            Self::Preset => {
                heading(ui, "Presets");
                presets(ui, view, own);
            }
            Self::Profile => {
                heading(ui, "Profiles");
                profiles(ui, view, own);
            }
            Self::Volume => masters(ui, view, own),
            Self::Away | Self::OthersDown | Self::Invite | Self::Mini | Self::Keys => {
                self.show(ui, view, own);
            }
        }
        ui.add_space(GAP);
    }
}

/// What stands in the bar in `room`, and what goes into the menu.
fn divide(ui: &Ui, own: &Snapshot, room: f32) -> (Vec<Item>, Vec<Item>) {
    let there = |item: &Item| !item.texts(own).is_empty();
    let all: Vec<Item> = Item::ALL.into_iter().filter(there).collect();
    let width = |items: &[Item]| items.iter().map(|item| item.width(ui, own)).sum::<f32>();
    let more = button_width(ui, MORE);
    let mut count = all.len();
    while count > 0 && width(&all[..count]) + if count < all.len() { more } else { 0.0 } > room {
        count -= 1;
    }
    (all[..count].to_vec(), all[count..].to_vec())
}

/// The width of a small button with the gap beside it.
fn button_width(ui: &Ui, text: &str) -> f32 {
    let font = FontId::proportional(SMALL);
    let text = ui.painter().layout_no_wrap(text.to_owned(), font, Color32::WHITE).size().x;
    text + 2.0 * ui.spacing().button_padding.x + SPACE
}

/// Draws the buttons of the bar. What has no room goes into a menu.
pub fn bar(ui: &mut Ui, view: &mut Drawing) {
    let own = view.snapshot();
    ui.horizontal_centered(|ui| {
        let mut room = ui.available_width();
        let mic_text = if own.muted { "Mic muted" } else { "Mic on" };
        let sound_text = if own.deafened { "Sound off" } else { "Sound on" };
        for text in [mic_text, sound_text, "Settings"] {
            room -= button_width(ui, text);
        }
        let mic = toggle(ui, mic_text, own.muted, "Mute my microphone");
        if mic.on_hover_text("opens or closes your microphone for everybody (M)").clicked() {
            view.command(Command::Mute { on: !own.muted });
        }
        let width = (room - button_width(ui, MORE) - 2.0 * SPACE).clamp(METER_LEAST, METER);
        let (space, level) = ui.allocate_exact_size(vec2(width, 20.0), Sense::hover());
        let bar = Rect::from_center_size(space.center(), vec2(width, 6.0));
        meter(ui.painter(), bar, own.level_dbfs, view.colours);
        level.on_hover_text("the level of your microphone");
        let deaf = toggle(ui, sound_text, own.deafened, "Silence my loudspeaker");
        if deaf.on_hover_text("lets you hear everybody, or nobody (D)").clicked() {
            view.command(Command::Deafen { on: !own.deafened });
        }
        // The gap after the meter, and the line with the gaps beside it.
        let (in_bar, in_menu) = divide(ui, own, room - width - 4.0 * SPACE);
        let at_right = [Item::Keys, Item::Mini, Item::Invite];
        let shown = |item: &&Item| in_bar.contains(item);
        for item in [Item::Away].iter().filter(shown) {
            item.show(ui, view, own);
        }
        if in_bar.contains(&Item::Modes) {
            ui.separator();
        }
        let at_left = [Item::Modes, Item::Profile, Item::Preset, Item::Volume, Item::OthersDown];
        for item in at_left.iter().filter(shown) {
            item.show(ui, view, own);
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            part(ui, view, ("Settings", "Settings", ""), Part::Options);
            if !in_menu.is_empty() {
                menu(ui, RichText::new(MORE).size(SMALL), |ui| {
                    let room = ui.ctx().content_rect().height() - 90.0;
                    ScrollArea::vertical().max_height(room.max(60.0)).show(ui, |ui| {
                        for item in in_menu {
                            item.show_in_menu(ui, view, own);
                        }
                    });
                });
            }
            for item in at_right.iter().filter(shown) {
                item.show(ui, view, own);
            }
        });
    });
}

/// A button that opens a part of the window: its text, its name and a hint.
fn part(ui: &mut Ui, view: &mut Drawing, (text, name, hint): (&str, &str, &str), opens: Part) {
    let button = Button::new(RichText::new(text).size(SMALL)).small();
    let mut button = named(ui.add(button.min_size(vec2(0.0, BUTTON))), name);
    if !hint.is_empty() {
        button = button.on_hover_text(hint);
    }
    if button.clicked() {
        view.asked.push(Asked::Open(opens));
        ui.close();
    }
}

fn away(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    let away = toggle(ui, "Away", own.away, "Show the others that I am away");
    if away.on_hover_text("shows the others whether you are away").clicked() {
        view.command(Command::Away { on: !own.away });
    }
}

fn modes(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    ui.spacing_mut().item_spacing.x = 2.0;
    for (mode, text, hint) in MODES {
        let button = toggle(ui, text, own.transmit == mode, &format!("Talk by: {text}"));
        if button.on_hover_text(hint).clicked() {
            view.command(Command::Transmit { mode });
        }
    }
    ui.spacing_mut().item_spacing.x = SPACE;
}

fn profile_text(own: &Snapshot) -> String {
    format!("Profile: {}", shortened(&own.profile))
}

fn profiles(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    for name in &own.profiles {
        if ui.selectable_label(*name == own.profile, name).clicked() {
            let (action, name) = (ProfileAction::Use, name.clone());
            view.command(Command::Profile { action, name });
            ui.close();
        }
    }
}

/// A small button that opens a menu, which stays open until a click beside it.
fn menu(ui: &mut Ui, text: RichText, contents: impl FnOnce(&mut Ui)) {
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let button = Button::new(text).small().min_size(vec2(0.0, BUTTON));
    MenuButton::from_button(button).config(config).ui(ui, contents);
}

fn preset_text(own: &Snapshot) -> String {
    match &own.presets[..] {
        [] => "Preset: none".to_owned(),
        [one] => format!("Preset: {}", shortened(one)),
        [first, more @ ..] => format!("Preset: {} +{}", shortened(first), more.len()),
    }
}

/// A name that leaves room for others in the bar.
fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}

/// The presets, of which several can be in force.
fn presets(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    let text = "for everybody; takes the right to load presets";
    ui.label(RichText::new(text).size(SMALL).color(view.colours.weak));
    for name in &own.all_presets {
        let is_loaded = own.presets.contains(name);
        let verb = if is_loaded { "Unload" } else { "Load" };
        let button = ui.selectable_label(is_loaded, name);
        if named(button, &format!("{verb} the preset {name}")).clicked() {
            view.order(preset(name, !is_loaded));
            ui.close();
        }
    }
}

/// The volumes of all nets together.
fn masters(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    let master = own.master;
    for (name, volume) in [("Nets I talk to", master.talked_to), ("Other nets", master.others)] {
        ui.label(name);
        let mut percent = volume * 100.0;
        let chosen = ui.name_inputs(format!("Volume of: {name}"), |ui| {
            let slider = Slider::new(&mut percent, 0.0..=200.0).integer().suffix(" %");
            let slider = ui.add(slider);
            if slider.double_clicked() { Some(100.0) } else { slider.changed().then_some(percent) }
        });
        let Some(volume) = chosen.map(|percent| Some(percent / 100.0)) else { continue };
        let change = match name {
            "Nets I talk to" => MasterChange { talked_to: volume, ..MasterChange::default() },
            _ => MasterChange { others: volume, ..MasterChange::default() },
        };
        view.command(Command::Master { change });
    }
}

fn others_down(ui: &mut Ui, view: &mut Drawing, own: &Snapshot) {
    let down = own.master.others_down;
    let button = toggle(ui, "Others down", down, "Turn the other nets down");
    let hint = "nets that you do not talk to, by 18 dB, until it is off";
    if button.on_hover_text(hint).clicked() {
        let change = MasterChange { others_down: Some(!down), ..MasterChange::default() };
        view.command(Command::Master { change });
    }
}

/// What opens the microphone, as the bar says it.
const MODES: [(TransmitMode, &str, &str); 3] = [
    (TransmitMode::Ptt, "Key", "your microphone is open while a talk key is held"),
    (TransmitMode::Vad, "Voice", "your voice opens the microphone"),
    (TransmitMode::Open, "Open", "your microphone is always open"),
];

/// The menu of what has no room in the bar.
const MORE: &str = "More";

/// The width of the microphone's meter, and the least one in a narrow window.
const METER: f32 = 64.0;
const METER_LEAST: f32 = 12.0;

/// The letters of a name that are shown in the bar.
const NAME_MAX: usize = 18;

/// A microphone that is louder than this hears somebody talk.
const SPEECH_DBFS: f32 = -32.0;
