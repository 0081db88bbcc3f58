//! The keys that Star Citizen uses by default, so that taking one of them can be warned of.

use crate::button::{Button, Chord};

/// Keys and what they do in a game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GameKeys(Vec<(Button, String)>);

/// A line that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct GameKeysError {
    line: usize,
    why: String,
}

impl GameKeys {
    /// The list that comes with Hark.
    pub fn star_citizen() -> Self {
        Self::parse(include_str!("star_citizen.txt")).expect("a test reads it")
    }

    /// Reads a list: each line is a key, an equals sign with a space on both sides, and what it
    /// does. Lines that begin with `#` are notes.
    pub fn parse(text: &str) -> Result<Self, GameKeysError> {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.starts_with('#'));
        let lines = lines.filter(|(line, _)| !line.trim().is_empty());
        let read = lines.map(|(text, line)| {
            let wrong = |why: String| GameKeysError { line, why };
            // A key may be called `=` itself.
            let (key, does) = text
                .split_once(" = ")
                .ok_or_else(|| wrong("a key, an equals sign, and what it does".to_owned()))?;
            let key = key.parse::<Button>().map_err(|error| wrong(error.to_string()))?;
            Ok((key, does.trim().to_owned()))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// What the game does when the chord is pressed, if it is one of the game's keys.
    pub fn taken(&self, chord: &Chord) -> Option<&str> {
        // A chord presses each of its keys in the game as well; the last one counts there.
        let pressed = chord.buttons().last()?;
        self.0.iter().find(|(key, _)| key == pressed).map(|(_, does)| does.as_str())
    }
}

/// The plain talk key that is offered first. The game leaves Right Ctrl alone, and no text is typed
/// with it.
pub const TALK: &str = "Right Ctrl";

/// The talk keys that are offered for further nets, in this order. Side buttons of the mouse are
/// free in the game, and so are the keys beyond F12, which many mice and decks can send.
pub const NETS: [&str; 6] = ["Mouse 4", "Mouse 5", "Num 1", "Num 3", "Num 7", "Num 9"];

/// The key that mutes the microphone.
pub const MUTE: &str = "Pause";

/// The key that silences the loudspeaker.
pub const DEAFEN: &str = "Scroll Lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_default_takes_a_key_from_the_game() {
        let game = GameKeys::star_citizen();
        let all = [TALK, MUTE, DEAFEN].into_iter().chain(NETS);
        for text in all {
            let chord: Chord = text.parse().expect("a chord");
            assert_eq!(game.taken(&chord), None, "{text}");
            assert!(!chord.buttons().iter().any(|it| it.types() && !text.starts_with("Num")));
        }
        assert_eq!(
            game.taken(&"V".parse().expect("a key")),
            Some("flight mode, or quantum and mining mode")
        );
        assert_eq!(game.taken(&"Left Ctrl + B".parse().expect("a chord")), Some("quantum drive"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = GameKeys::parse("# note\nW = walk\nWalk forward\n").expect_err("wrong");
        assert_eq!(error.to_string(), "line 3: a key, an equals sign, and what it does");
        assert!(GameKeys::parse("= = more\n").is_ok());
        assert!(
            GameKeys::parse("Wub = walk\n").expect_err("wrong").to_string().starts_with("line 1")
        );
    }
}
