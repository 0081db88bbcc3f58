//! Questions before a profile file replaces something.

use std::path::{Path, PathBuf};

use eframe::egui::{Align2, Button, Checkbox, Label, RichText, Role, Ui, WidgetInfo, Window};

use super::plate::named;
use crate::{
    profile_file::{ProfileFile, TakenParts},
    tokens::{Colours, SMALL, SPACE},
};

/// What is to be done with a profile file, once the person agrees.
#[derive(Clone, Debug, PartialEq)]
pub enum FileQuestion {
    /// The file is there already, and would be written over.
    Replace(PathBuf),
    /// What the file says would be taken over.
    Import {
        /// The file.
        path: PathBuf,
        /// What it says.
        file: Box<ProfileFile>,
        /// What of it is wanted.
        parts: TakenParts,
        /// The organisations of the file that run here, by name.
        here: Vec<String>,
    },
}

/// What the person says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Agreed,
    /// Everything stays as it was.
    Cancelled,
}

/// Draws the question. Returns the reply, once there is one.
pub fn show(
    ui: &mut Ui,
    question: &mut FileQuestion,
    keys: usize,
    colours: &Colours,
) -> Option<Reply> {
    let title = match question {
        FileQuestion::Replace(_) => "Replace the file?",
        FileQuestion::Import { .. } => "Take over what the file says?",
    };
    let mut reply = None;
    let window = Window::new(title).collapsible(false).resizable(false);
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).default_width(420.0);
    window.show(ui.ctx(), |ui| {
        let agree = match question {
            FileQuestion::Replace(path) => {
                line(ui, &format!("{} is there already.", path.display()), None);
                ("Replace it", true)
            }
            FileQuestion::Import { path, file, parts, here } => {
                contents(ui, path, file, parts, (here, keys), colours);
                ("Take it over", *parts != TakenParts::NONE)
            }
        };
        ui.add_space(SPACE);
        ui.horizontal(|ui| {
            let (text, enabled) = agree;
            if named(ui.add_enabled(enabled, Button::new(text)), text).clicked() {
                reply = Some(Reply::Agreed);
            }
            if named(ui.button("Cancel"), "Cancel").clicked() {
                reply = Some(Reply::Cancelled);
            }
        });
    });
    reply
}

/// What the file has, with a box for each part.
fn contents(
    ui: &mut Ui,
    path: &Path,
    file: &ProfileFile,
    parts: &mut TakenParts,
    (here, keys): (&[String], usize),
    colours: &Colours,
) {
    line(ui, &path.display().to_string(), Some(colours));
    let count = file.window.keys.len();
    let text = format!("Its keys ({count}) in place of those here ({keys})");
    part(ui, &mut parts.keys, &text);
    part(ui, &mut parts.looks, "Colours, sizes and the order of plates");
    if !here.is_empty() {
        let text = format!("How nets and people are heard in {}", here.join(", "));
        part(ui, &mut parts.organisations, &text);
        line(ui, "It becomes the profile \"imported\" there. The one in use stays.", Some(colours));
    }
    let others = file.organisations.iter().map(|it| &it.name);
    let others: Vec<_> = others.filter(|name| !here.contains(name)).map(String::as_str).collect();
    if !others.is_empty() {
        let text = format!("Not running here, so nothing is taken for {}", others.join(", "));
        line(ui, &text, Some(colours));
    }
}

fn part(ui: &mut Ui, wanted: &mut bool, text: &str) {
    let response = ui.add(Checkbox::new(wanted, text));
    let wanted = *wanted;
    response.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, wanted, text));
}

/// A line of text, small if it has colours.
fn line(ui: &mut Ui, text: &str, small: Option<&Colours>) {
    let text = match small {
        Some(colours) => RichText::new(text).size(SMALL).color(colours.weak),
        None => RichText::new(text),
    };
    ui.add(Label::new(text).wrap());
}
