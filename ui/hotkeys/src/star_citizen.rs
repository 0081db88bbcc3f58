//! The keys that Star Citizen uses by default, so that taking one of them can be warned of.
//!
//! Hark reads keys without taking them from the game, so a talk key that the game uses does both.

use std::{cmp::Reverse, sync::LazyLock};

use crate::button::Chord;

/// Keys and what they do in a game, the chords of most buttons first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GameKeys(Vec<(Chord, String)>);

/// A line that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct GameKeysError {
    line: usize,
    why: String,
}

impl GameKeys {
    /// The list that comes with Hark.
    pub fn star_citizen() -> &'static Self {
        static KEYS: LazyLock<GameKeys> = LazyLock::new(|| {
            GameKeys::parse(include_str!("star_citizen.txt")).expect("a test reads it")
        });
        &KEYS
    }

    /// Reads a list: each line is a key or a chord, an equals sign with a space on both sides, and
    /// what it does. A line in square brackets says where the lines after it hold. Lines that begin
    /// with `#` are notes.
    pub fn parse(text: &str) -> Result<Self, GameKeysError> {
        let mut keys: Vec<(Chord, String)> = Vec::new();
        let mut place = String::new();
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.starts_with('#'));
        for (text, line) in lines.filter(|(line, _)| !line.trim().is_empty()) {
            let wrong = |why: String| GameKeysError { line, why };
            // A key may be called `=` or `[` itself.
            let Some((chord, does)) = text.split_once(" = ") else {
                let title = text.trim().strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                let title = title
                    .ok_or_else(|| wrong("a key, an equals sign, and what it does".to_owned()))?;
                place = format!("{title}: ");
                continue;
            };
            let chord: Chord = chord.parse().map_err(|error| wrong(format!("{error}")))?;
            let does = format!("{place}{}", does.trim());
            match keys.iter_mut().find(|(known, _)| *known == chord) {
                Some((_, known)) => *known = format!("{known}; {does}"),
                None => keys.push((chord, does)),
            }
        }
        keys.sort_by_key(|(chord, _)| Reverse(chord.buttons().len()));
        Ok(Self(keys))
    }

    /// What the game does when the chord is pressed, if it does anything.
    ///
    /// The game sees every button of the chord. It does what it has for the most of them: if it has
    /// nothing for `Left Alt + V`, it does what it has for `V`. What `V` does is named rather than
    /// what the modifier does.
    pub fn taken(&self, chord: &Chord) -> Option<&str> {
        let place =
            |game: &Chord| chord.buttons().iter().position(|it| game.buttons().contains(it));
        let touched = self.0.iter().filter(|(game, _)| game == chord || chord.contains(game));
        let most = touched.max_by_key(|(game, _)| (game.buttons().len(), place(game)));
        most.map(|(_, does)| does.as_str())
    }
}

// The game uses nearly all letters, digits and signs, F1 to F12 except F3, both Alts, both Shifts,
// Left Ctrl and most of the keypad. A letter would also talk while a person writes in its chat. Of
// the rest:
// - Every board has Right Ctrl, it types nothing, and it does nothing alone.
// - The side buttons of the mouse lie under the thumb and are free.
// - Insert, Home, End and Num 9 are free unless the camera key F4 is held. Page Up and Page Down
//   set the range of sights, and the rest of the keypad signals, or raised shields earlier.
// - Pause and Scroll Lock are far away, as keys should be that are pressed once. Caps Lock and Num
//   Lock would switch what they are for, and most boards lack F13 and above.

/// The plain talk key that is offered first.
pub const TALK: &str = "Right Ctrl";

/// The talk keys that are offered for further nets, in this order.
pub const NETS: [&str; 6] = ["Mouse 5", "Mouse 4", "Insert", "Home", "End", "Num 9"];

/// The key that mutes the microphone.
pub const MUTE: &str = "Pause";

/// The key that silences the loudspeaker.
pub const DEAFEN: &str = "Scroll Lock";

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(chord: &str) -> Option<&'static str> {
        GameKeys::star_citizen().taken(&chord.parse().expect("a chord"))
    }

    #[test]
    fn no_default_takes_a_key_from_the_game() {
        for text in [TALK, MUTE, DEAFEN].into_iter().chain(NETS) {
            assert_eq!(taken(text), None, "{text}");
            let chord: Chord = text.parse().expect("a chord");
            assert!(!chord.buttons().iter().any(|it| it.types() && !text.starts_with("Num")));
        }
    }

    #[test]
    fn talk_keys_of_the_keypad_signalled_to_others_in_the_game() {
        assert!(taken("Num 1").expect("taken").contains("on foot: signal left"));
        assert!(taken("Num 3").expect("taken").contains("on foot: signal right"));
    }

    #[test]
    fn the_middle_and_the_right_button_of_the_mouse_were_mixed_up() {
        assert!(taken("Mouse 3").expect("taken").contains("aim"));
        assert!(taken("Mouse 2").expect("taken").contains("operator mode"));
    }

    #[test]
    fn only_the_last_button_of_a_chord_was_compared_with_the_game() {
        // The key stands before the button of the mouse, which the game leaves alone.
        assert_eq!(taken("L + Mouse 5"), Some("ship: headlights"));
        assert_eq!(taken("Left Shift + Mouse 5"), taken("Left Shift"));
        // With its modifier the key does something else than alone.
        assert_eq!(taken("Left Alt + C"), Some("ship: cruise"));
        assert_eq!(taken("Left Alt + C + Mouse 5"), Some("ship: cruise"));
        assert_eq!(taken("Left Ctrl + V"), Some("everywhere: paste"));
        assert_eq!(taken("Right Ctrl + V"), taken("V"));
        // What is named is what the key does, not that Left Ctrl lets the person crawl.
        assert_eq!(taken("Left Ctrl + B"), taken("B"));
        assert_eq!(taken("Left Alt + F13"), None, "the game has Left Alt only with other keys");
        assert_eq!(taken("Right Ctrl + Up"), Some("ship: scanned contact before"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = GameKeys::parse("# note\nW = walk\nWalk forward\n").expect_err("wrong");
        assert_eq!(error.to_string(), "line 3: a key, an equals sign, and what it does");
        let wrong = GameKeys::parse("Wub = walk\n").expect_err("wrong");
        assert!(wrong.to_string().starts_with("line 1: no button is called \"Wub\""));
        let keys = GameKeys::parse("= = more\n[a]\nW = x\n[b]\n[ = z\nW = y").expect("a list");
        let does = |key: &str| keys.taken(&key.parse().expect("a key")).map(str::to_owned);
        assert_eq!(does("W").as_deref(), Some("a: x; b: y"));
        assert_eq!(does("=").as_deref(), Some("more"));
        assert_eq!(does("[").as_deref(), Some("b: z"));
    }
}
