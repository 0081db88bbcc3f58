//! Choosing a key by pressing it.

use eframe::egui::{Align2, Button, Label, RichText, Ui, Window};
use hark_hotkeys::{button::Chord, star_citizen::GameKeys};

use super::plate::named;
use crate::{
    keys::{KeyAction, KeySetting},
    tokens::{self, Colours},
};

/// What becomes of a key that is being chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// It is still being chosen.
    Waiting,
    /// It takes the place of these.
    Taken(Chord, Vec<Chord>),
    /// These keys do it no longer.
    Without(Vec<Chord>),
    /// Everything stays as it was.
    Cancelled,
}

/// Draws the question. `chosen` is what was pressed last. `old` is the key that is to be changed,
/// if it is a certain one.
pub fn show(
    ui: &mut Ui,
    (action, old): (&KeyAction, Option<&Chord>),
    chosen: Option<&Chord>,
    keys: &[KeySetting],
    limits: &[String],
    colours: &Colours,
) -> Choice {
    let mut choice = Choice::Waiting;
    let window = Window::new("Choose a key").collapsible(false).resizable(false);
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).default_width(380.0);
    window.show(ui.ctx(), |ui| {
        ui.label(action.describe());
        match chosen {
            None => {
                let text = "Press the key, the mouse button or the button of a pad now.";
                ui.label(RichText::new(text).text_style(tokens::strong()));
            }
            Some(chord) => {
                let text = RichText::new(chord.to_string()).size(20.0);
                ui.label(text.text_style(tokens::strong()));
                for warning in warnings(action, chord, keys) {
                    let text = RichText::new(warning).color(colours.warning);
                    ui.add(Label::new(text).wrap());
                }
            }
        }
        for limit in limits {
            let text = RichText::new(limit).size(tokens::SMALL).color(colours.weak);
            ui.add(Label::new(text).wrap());
        }
        ui.add_space(tokens::SPACE);
        ui.horizontal(|ui| {
            let bound = keys.iter().filter(|key| key.action == *action).map(|key| &key.chord);
            let bound: Vec<Chord> =
                bound.filter(|it| old.is_none_or(|old| old == *it)).cloned().collect();
            // The person says whether a key that is there stays.
            let asks = old.is_none() && !bound.is_empty();
            let words = match &bound[..] {
                _ if !asks => "Use it".to_owned(),
                [one] => format!("Instead of {one}"),
                _ => "Instead of the others".to_owned(),
            };
            let take = ui.add_enabled(chosen.is_some(), Button::new(&words));
            if named(take, &words).clicked()
                && let Some(chord) = chosen
            {
                choice = Choice::Taken(chord.clone(), bound.clone());
            }
            if asks {
                let as_well = chosen.filter(|chord| !bound.contains(chord));
                let add = ui.add_enabled(as_well.is_some(), Button::new("As well"));
                if named(add, "As well").clicked()
                    && let Some(chord) = as_well
                {
                    choice = Choice::Taken(chord.clone(), Vec::new());
                }
            }
            if !bound.is_empty() && named(ui.button("No key"), "No key").clicked() {
                choice = Choice::Without(bound);
            }
            if named(ui.button("Cancel"), "Cancel").clicked() {
                choice = Choice::Cancelled;
            }
        });
    });
    choice
}

/// What a person should know before this chord is used.
fn warnings(action: &KeyAction, chord: &Chord, keys: &[KeySetting]) -> Vec<String> {
    let others = keys.iter().filter(|key| key.action != *action);
    let mut warnings: Vec<String> = others
        .filter_map(|key| match () {
            () if key.chord == *chord => Some(format!("also does: {}", key.action.describe())),
            () if key.chord.contains(chord) => {
                Some(format!("does nothing while {} is held", key.chord))
            }
            () if chord.contains(&key.chord) => {
                Some(format!("holds back {}: {}", key.chord, key.action.describe()))
            }
            () => None,
        })
        .collect();
    if let Some(does) = GameKeys::star_citizen().taken(chord) {
        warnings.push(format!("Star Citizen uses it by default: {does}"));
    }
    if chord.types() {
        warnings.push("does not talk while you type in this window".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::usual_keys;

    #[test]
    fn what_a_key_gets_in_the_way_of_is_said() {
        let keys = usual_keys();
        let told = |chord: &str| {
            let action = KeyAction::net("Flight");
            warnings(&action, &chord.parse().expect("a chord"), &keys)
        };
        assert_eq!(told("Right Ctrl"), ["also does: Talk"]);
        assert_eq!(told("Right Ctrl + Mouse 4"), ["holds back Right Ctrl: Talk"]);
        assert_eq!(told("Mouse 5"), Vec::<String>::new());
        assert!(told("B")[0].contains("quantum drive"));
    }
}
