//! The settings of the window, searchable.

use std::{
    ops::RangeInclusive,
    path::{MAIN_SEPARATOR, PathBuf},
};

use eframe::egui::{
    Align2, ComboBox, Grid, Id, RichText, ScrollArea, Slider, TextEdit, Ui, Window,
};
use hark_node::{
    event::Direction,
    snapshot::{
        Command, CuesChange, MasterChange, ProcessingChange, ProcessingMode, SettingText,
        VoiceChange,
    },
};

use super::{
    Asked, Drawing,
    plate::{named, toggle},
    sound,
};
use crate::{
    recovery::{KeptWords, RecoveryWish},
    settings::Density,
    tokens::{SMALL, SPACE, Theme},
};

/// A setting: what it is called, other words by which people look for it, and its controls.
type Setting = (&'static str, &'static str, fn(&mut Ui, &mut Drawing));

/// All settings, in the order in which they are shown.
const SETTINGS: [Setting; 14] = [
    ("Microphone", "input headset sound card device record", microphone),
    ("Loudspeaker", "speaker output headphones headset sound card device", loudspeaker),
    ("Your voice", "sound processing echo noise gain cancel suppress level microphone", voice),
    ("Tones", "sound cues beep click key mute join leave moved volume", cues),
    ("Hear yourself", "sound side tone sidetone own voice monitor", side_tone),
    ("Loudness of people", "leveling quiet loud volume talkers same", leveling),
    ("Around your head", "headphones 3d hrtf binaural spatial surround side pan", headphones),
    ("Line", "bit rate bitrate kbit frame redundancy copies loss wait delay jitter network", line),
    ("Colours", "theme dark light night contrast look", colours),
    ("Size of everything", "scale zoom text big small", scale),
    ("Plates", "density row card tile nets layout", density),
    ("Nets that are not heard", "hide show plates channels", unheard),
    ("Stay above other windows", "always on top front", on_top),
    (RECOVERY, "backup paper founder restore lost device key", recovery),
];

/// The setting that shows the recovery words.
const RECOVERY: &str = "Recovery words";
/// The field by which settings are found.
pub const FILTER: &str = "settings filter";

/// Draws the settings. Returns whether they stay open.
pub fn show(ui: &mut Ui, view: &mut Drawing, filter: &mut String) -> bool {
    let mut open = true;
    let window = Window::new("Settings").open(&mut open).collapsible(false).resizable(false);
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
    window.default_width(420.0).show(ui.ctx(), |ui| {
        ui.name_inputs("Find a setting", |ui| {
            let edit =
                TextEdit::singleline(filter).id(Id::unique(FILTER)).hint_text("Find a setting");
            ui.add(edit.desired_width(400.0));
        });
        let wanted = filter.to_lowercase();
        // The recovery words have the place to themselves: they are read from there for a while.
        let kept = view.recovery.shown(&view.snapshot().organisation_id);
        let alone = matches!(kept, Some(KeptWords::Words { .. }));
        let found = |(name, words, _): &&Setting| match alone {
            true => *name == RECOVERY,
            false => {
                wanted.is_empty()
                    || name.to_lowercase().contains(&wanted)
                    || words.contains(&wanted)
            }
        };
        ui.add_space(4.0);
        // What stands above and below stays in sight on a small window as well.
        let room = (ui.ctx().content_rect().height() - 310.0).max(80.0);
        let area = ScrollArea::vertical().auto_shrink([false, true]).max_height(room);
        area.show(ui, |ui| {
            let mut none = true;
            for (name, _, draw) in SETTINGS.iter().filter(found) {
                none = false;
                ui.horizontal(|ui| {
                    ui.allocate_ui(eframe::egui::vec2(180.0, 24.0), |ui| {
                        ui.set_min_width(180.0);
                        ui.label(*name);
                    });
                    ui.name_inputs(*name, |ui| draw(ui, view));
                });
            }
            if none {
                ui.weak("No setting is called so.");
            }
        });
        ui.separator();
        file(ui, view);
    });
    open
}

/// The file by which everything that was chosen goes to another machine.
fn file(ui: &mut Ui, view: &mut Drawing) {
    let text = "Keys, plates, looks and how each net is heard, as one file without secrets:";
    ui.label(RichText::new(text).size(SMALL).color(view.colours.weak));
    let held = ui.scope_id().with("profile file");
    let usual = || format!("~{MAIN_SEPARATOR}hark-profile.toml");
    let mut path = ui.data(|data| data.get_temp::<String>(held)).unwrap_or_else(usual);
    ui.name_inputs("Profile file", |ui| {
        if ui.add(TextEdit::singleline(&mut path).desired_width(400.0)).changed() {
            ui.data_mut(|data| data.insert_temp(held, path.clone()));
        }
    });
    ui.horizontal(|ui| {
        let path = expanded(path.trim());
        let export = named(ui.button("Export"), "Export to the profile file");
        if export.on_hover_text("writes what you have chosen to this file").clicked() {
            view.asked.push(Asked::Export(path.clone()));
        }
        let import = named(ui.button("Import"), "Import the profile file");
        let hint = "takes over what the file says; in each organisation it becomes the profile \
                    \"imported\", and the one in use now stays as it is";
        if import.on_hover_text(hint).clicked() {
            view.asked.push(Asked::Import(path));
        }
    });
}

/// The path that was typed. `~` at its beginning is the person's home.
fn expanded(typed: &str) -> PathBuf {
    let below = typed.strip_prefix('~').and_then(|rest| rest.strip_prefix(['/', '\\']));
    match (below, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(typed),
    }
}

fn microphone(ui: &mut Ui, view: &mut Drawing) {
    device(ui, view, Direction::Input);
}

fn loudspeaker(ui: &mut Ui, view: &mut Drawing) {
    device(ui, view, Direction::Output);
}

fn device(ui: &mut Ui, view: &mut Drawing, direction: Direction) {
    ui.vertical(|ui| {
        let chosen = match direction {
            Direction::Input => &mut view.settings.microphone,
            Direction::Output => &mut view.settings.loudspeaker,
        };
        sound::choose(ui, direction, chosen, view.devices, (view.colours, 240.0));
        // The node opens its devices once, when it starts.
        let line = RichText::new("A change counts from the next start.").size(SMALL);
        ui.label(line.color(view.colours.weak));
    });
}

/// The stages before the encoder: when each runs, whether it does now, and the delay.
fn voice(ui: &mut Ui, view: &mut Drawing) {
    let processing = view.snapshot().processing.clone();
    let weak = view.colours.weak;
    ui.vertical(|ui| {
        let stages = [
            ("No echo", processing.echo, Stage::Echo),
            ("No noise", processing.noise, Stage::Noise),
            ("Even level", processing.gain, Stage::Gain),
        ];
        for (name, now, stage) in stages {
            ui.horizontal(|ui| {
                for (word, mode) in [
                    ("auto", ProcessingMode::Auto),
                    ("on", ProcessingMode::On),
                    ("off", ProcessingMode::Off),
                ] {
                    let label = format!("{name}: {word}");
                    if toggle(ui, word, now.mode == mode, &label).clicked() {
                        view.command(Command::Processing { change: stage.set(mode) });
                    }
                }
                let runs = if now.running { ", runs now" } else { "" };
                ui.label(RichText::new(format!("{name}{runs}")).size(SMALL));
            });
        }
        let kept = match &processing.microphone {
            Some(name) => format!("kept for {name}"),
            None => "for this run".to_owned(),
        };
        let line = format!("Adds {:.0} ms; {kept}.", processing.delay_ms);
        ui.label(RichText::new(line).size(SMALL).color(weak));
    });
}

/// A stage before the encoder.
#[derive(Clone, Copy)]
enum Stage {
    Echo,
    Noise,
    Gain,
}

impl Stage {
    fn set(self, mode: ProcessingMode) -> ProcessingChange {
        let mut change = ProcessingChange::default();
        *match self {
            Self::Echo => &mut change.echo,
            Self::Noise => &mut change.noise,
            Self::Gain => &mut change.gain,
        } = Some(mode);
        change
    }
}

/// What of the voices on the line is set instead of chosen by the network.
fn line(ui: &mut Ui, view: &mut Drawing) {
    let coding = view.snapshot().coding.clone();
    let VoiceChange { bitrate, frame, redundancy, wait } = coding.set;
    let weak = view.colours.weak;
    let rows: [LineRow; 4] = [
        ("kbit/s", bitrate, &["auto", "24", "32", "48", "64", "96"], |it| &mut it.bitrate),
        ("ms in a frame", frame, &["auto", "2.5", "5", "10", "20"], |it| &mut it.frame),
        ("copies", redundancy, &["auto", "0", "1", "2", "3", "deep"], |it| &mut it.redundancy),
        ("ms of wait for others", wait, &["auto", "0..40", "80..200"], |it| &mut it.wait),
    ];
    ui.vertical(|ui| {
        for (name, now, choices, field) in rows {
            let now = match now {
                Some(SettingText::Number(number)) => number.to_string(),
                Some(SettingText::Word(word)) => word,
                None => "auto".to_owned(),
            };
            ui.horizontal(|ui| {
                for choice in choices {
                    if toggle(ui, choice, *choice == now, &format!("{choice} {name}")).clicked() {
                        let mut change = VoiceChange::default();
                        *field(&mut change) = Some(SettingText::Word((*choice).to_owned()));
                        view.command(Command::Voice { change });
                    }
                }
                // Scripts may set what stands on no button.
                let other = if choices.contains(&&*now) { String::new() } else { now + " " };
                ui.label(RichText::new(format!("{other}{name}")).size(SMALL));
            });
        }
        let (bitrate, frame) = (coding.bitrate_kbps, coding.frame_ms);
        let line = format!("Sends {bitrate} kbit/s in frames of {frame} ms. Set for this run.");
        ui.label(RichText::new(line).size(SMALL).color(weak));
    });
}

/// A setting of the line: its unit, what it is set to, what it can be set to, and its field.
type LineRow = (
    &'static str,
    Option<SettingText>,
    &'static [&'static str],
    fn(&mut VoiceChange) -> &mut Option<SettingText>,
);

fn cues(ui: &mut Ui, view: &mut Drawing) {
    let cues = view.snapshot().cues;
    let change = CuesChange::default();
    ui.vertical(|ui| {
        ui.horizontal(|ui| {
            for (text, name, on, change) in [
                (
                    "Key",
                    "Tones of the key",
                    cues.key,
                    CuesChange { key: Some(!cues.key), ..change },
                ),
                (
                    "Mute",
                    "Tones of mute",
                    cues.mute,
                    CuesChange { mute: Some(!cues.mute), ..change },
                ),
                (
                    "People",
                    "Tones of people who come and go",
                    cues.people,
                    CuesChange { people: Some(!cues.people), ..change },
                ),
                (
                    "Moved",
                    "Tones when you are moved",
                    cues.moved,
                    CuesChange { moved: Some(!cues.moved), ..change },
                ),
            ] {
                if toggle(ui, text, on, name).clicked() {
                    view.command(Command::Cues { change });
                }
            }
        });
        let volume = released(ui, "volume of tones", cues.volume, 0.0..=4.0, "");
        if let Some(volume) = volume {
            view.command(Command::Cues { change: CuesChange { volume: Some(volume), ..change } });
        }
    });
}

fn side_tone(ui: &mut Ui, view: &mut Drawing) {
    let now = view.snapshot().side_tone;
    ui.horizontal(|ui| {
        let toggle = toggle(ui, "On", now.on, "Hear yourself while you are sent");
        if toggle.on_hover_text("for headphones: your own voice while it is sent").clicked() {
            view.command(Command::SideTone { on: Some(!now.on), decibels: None });
        }
        if let Some(level) = released(ui, "side tone", now.decibels, -40.0..=0.0, " dB") {
            view.command(Command::SideTone { on: None, decibels: Some(level) });
        }
    });
}

/// A slider; returns what was chosen once the mouse lets go of it.
fn released(
    ui: &mut Ui,
    name: &str,
    now: f32,
    range: RangeInclusive<f32>,
    unit: &str,
) -> Option<f32> {
    let held = ui.scope_id().with(name);
    let mut chosen = ui.data(|data| data.get_temp(held)).unwrap_or(now);
    let response = ui.add(Slider::new(&mut chosen, range).step_by(0.1).suffix(unit));
    if response.dragged() {
        ui.data_mut(|data| data.insert_temp(held, chosen));
        return None;
    }
    ui.data_mut(|data| data.remove_temp::<f32>(held));
    (chosen != now && (response.changed() || response.drag_stopped())).then_some(chosen)
}

fn leveling(ui: &mut Ui, view: &mut Drawing) {
    let on = view.snapshot().master.leveling;
    let toggle = toggle(ui, "All as loud", on, "Bring people to one loudness");
    let hint = "turns up who is far too quiet, and down who is far too loud";
    if toggle.on_hover_text(hint).clicked() {
        let change = MasterChange { leveling: Some(!on), ..MasterChange::default() };
        view.command(Command::Master { change });
    }
}

fn headphones(ui: &mut Ui, view: &mut Drawing) {
    let on = view.snapshot().master.headphones;
    let toggle = toggle(ui, "On headphones", on, "Place nets around your head");
    let hint = "what is on one side reaches the other ear later and duller; for headphones alone";
    if toggle.on_hover_text(hint).clicked() {
        let change = MasterChange { headphones: Some(!on), ..MasterChange::default() };
        view.command(Command::Master { change });
    }
}

fn recovery(ui: &mut Ui, view: &mut Drawing) {
    let weak = view.colours.weak;
    let small = move |text: &str| RichText::new(text).size(SMALL).color(weak);
    ui.vertical(|ui| match view.recovery.shown(&view.snapshot().organisation_id) {
        None => {
            if named(ui.button("Show"), "Show the recovery words").clicked() {
                view.asked.push(Asked::Recovery(RecoveryWish::Show));
            }
            ui.label(small("They make a new machine yours again when this one is lost."));
        }
        Some(KeptWords::Line(line)) => {
            ui.label(small(&line));
        }
        Some(KeptWords::Words { founder, words }) => {
            let name = &view.snapshot().organisation;
            let (whose, acts) = if founder { ("Founder's", ", and for it") } else { ("Member's", "") };
            ui.label(small(&format!(
                "{whose} words for {name}. Write them down. Anybody who has them can act for you{acts}."
            )));
            Grid::new("recovery words").striped(true).show(ui, |ui| {
                for (at, word) in words.split(' ').enumerate() {
                    ui.label(format!("{} {word}", at + 1));
                    if at % 4 == 3 {
                        ui.end_row();
                    }
                }
            });
            let hide = named(ui.button("Hide"), "Hide the recovery words");
            if hide.clicked() {
                view.asked.push(Asked::Recovery(RecoveryWish::Hide));
            }
            ui.add_space(SPACE);
            // There is no way back.
            let sure = ui.scope_id().with("sure to forget");
            let is_sure = ui.data(|data| data.get_temp(sure)).unwrap_or(false);
            let text = match is_sure {
                false => "They are on paper: take them off this device",
                true => "Really? Nobody can show them again",
            };
            if ui.button(text).clicked() {
                ui.data_mut(|data| data.insert_temp(sure, !is_sure));
                if is_sure {
                    view.asked.push(Asked::Recovery(RecoveryWish::Forget));
                }
            }
        }
    });
}

fn colours(ui: &mut Ui, view: &mut Drawing) {
    let chosen = ComboBox::from_id_salt("theme").selected_text(view.settings.theme.name());
    chosen.show_ui(ui, |ui| {
        for theme in Theme::ALL {
            ui.selectable_value(&mut view.settings.theme, theme, theme.name());
        }
    });
}

fn scale(ui: &mut Ui, view: &mut Drawing) {
    // It is applied when the mouse lets go: the slider would flee from under it.
    let held = ui.scope_id().with("scale");
    let mut chosen = ui.data(|data| data.get_temp(held)).unwrap_or(view.settings.scale);
    let response = ui.add(Slider::new(&mut chosen, 0.75..=3.0).step_by(0.05));
    if response.dragged() {
        ui.data_mut(|data| data.insert_temp(held, chosen));
    } else {
        ui.data_mut(|data| data.remove_temp::<f32>(held));
        view.settings.scale = chosen;
    }
}

fn density(ui: &mut Ui, view: &mut Drawing) {
    for (density, name) in
        [(Density::Row, "Rows"), (Density::Card, "Cards"), (Density::Tile, "Tiles")]
    {
        ui.selectable_value(&mut view.settings.density, density, name);
    }
}

fn unheard(ui: &mut Ui, view: &mut Drawing) {
    let shown = view.settings.shows_unheard;
    if toggle(ui, "Shown", shown, "Show nets that are not heard").clicked() {
        view.settings.shows_unheard = !shown;
    }
}

fn on_top(ui: &mut Ui, view: &mut Drawing) {
    let on = view.settings.on_top;
    if toggle(ui, "On top", on, "Stay above other windows").clicked() {
        view.settings.on_top = !on;
    }
}
