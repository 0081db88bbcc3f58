//! What a person can press: keys, mouse buttons, and what pads and sticks have.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

mod names;

/// A thing that is up or down. Its text form is what profiles keep and plates show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Button {
    /// A key, by its place on the board.
    Key(Usage),
    /// A mouse button. 1 is the left one, 2 the middle, 3 the right; 4 and 5 are the side buttons.
    Mouse(u8),
    /// A button of a pad or a stick, counted from 1.
    Pad {
        /// The pad or stick.
        device: DeviceName,
        /// The number of the button.
        button: u16,
    },
    /// One direction of a hat switch.
    Hat {
        /// The pad or stick.
        device: DeviceName,
        /// The number of the hat, counted from 1.
        hat: u8,
        /// The direction. A diagonal holds two of them down.
        direction: HatDirection,
    },
    /// An axis or a trigger that is pushed over half of its way.
    Axis {
        /// The pad or stick.
        device: DeviceName,
        /// The number of the axis, counted from 1.
        axis: u8,
        /// Whether it is pushed to its upper end.
        upper: bool,
    },
    /// A shortcut that the desktop's portal keeps, by its id.
    Portal(Arc<str>),
}

/// The place of a key: a usage of the page "Keyboard" (USB HID Usage Tables 1.5, section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Usage(pub u16);

/// A pad or stick, so that it is known again after it was unplugged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(pub Arc<str>);

/// A direction of a hat switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HatDirection {
    /// Away from the person.
    Up,
    /// To the right.
    Right,
    /// Towards the person.
    Down,
    /// To the left.
    Left,
}

impl HatDirection {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Up, "up"), (Self::Right, "right"), (Self::Down, "down"), (Self::Left, "left")];
}

impl Button {
    /// Whether the key types text or edits it, so that it means something else in a text field.
    pub fn types(&self) -> bool {
        // Letters, digits, Enter, Backspace, Tab, Space and signs; Delete and the arrows; the
        // keypad; both Shifts, since every capital letter needs one.
        let Self::Key(usage) = self else { return false };
        matches!(
            usage.0,
            0x04..=0x28 | 0x2a..=0x38 | 0x4c | 0x4f..=0x52 | 0x54..=0x64 | 0xe1 | 0xe5
        )
    }

    /// The pad or stick that has the button, if it is one of theirs.
    pub fn device(&self) -> Option<&DeviceName> {
        match self {
            Self::Pad { device, .. } | Self::Hat { device, .. } | Self::Axis { device, .. } => {
                Some(device)
            }
            Self::Key(_) | Self::Mouse(_) | Self::Portal(_) => None,
        }
    }
}

impl fmt::Display for Button {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(usage) => match names::of(*usage) {
                Some(name) => f.write_str(name),
                None => write!(f, "Key {:#04x}", usage.0),
            },
            Self::Mouse(button) => write!(f, "Mouse {button}"),
            Self::Pad { device, button } => write!(f, "Button {button} ({})", escape(&device.0)),
            Self::Hat { device, hat, direction } => {
                let mut all = HatDirection::ALL.iter();
                let name = all.find(|(it, _)| it == direction).map_or("up", |(_, name)| name);
                write!(f, "Hat {hat} {name} ({})", escape(&device.0))
            }
            Self::Axis { device, axis, upper } => {
                let end = if *upper { "upper" } else { "lower" };
                write!(f, "Axis {axis} {end} ({})", escape(&device.0))
            }
            Self::Portal(id) => write!(f, "{PORTAL}{}", escape(id)),
        }
    }
}

/// A text that names no button.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no button is called {text:?}{}", near.map(|it| format!("; did you mean {it:?}?")).unwrap_or_default())]
pub struct ButtonError {
    text: String,
    near: Option<&'static str>,
}

impl FromStr for Button {
    type Err = ButtonError;

    fn from_str(text: &str) -> Result<Self, ButtonError> {
        // Spaces at the end may belong to the id of a shortcut.
        if let Some(id) = text.trim_start().strip_prefix(PORTAL).filter(|id| !id.is_empty()) {
            return Ok(Self::Portal(unescape(id)));
        }
        let text = text.trim();
        let unknown = || ButtonError { text: text.to_owned(), near: names::near(text) };
        if let Some(usage) = names::usage(text) {
            return Ok(Self::Key(usage));
        }
        let (head, device) = match text.split_once(" (") {
            Some((head, rest)) => (head, rest.strip_suffix(')').map(|it| DeviceName(unescape(it)))),
            None => (text, None),
        };
        let words: Vec<&str> = head.split(' ').collect();
        let button = match (&words[..], device) {
            (["Key", number], None) => {
                let number = number.strip_prefix("0x").unwrap_or_default();
                u16::from_str_radix(number, 16).ok().map(|it| Self::Key(Usage(it)))
            }
            (["Mouse", button], None) => button.parse().ok().map(Self::Mouse),
            (["Button", button], Some(device)) => {
                button.parse().ok().map(|button| Self::Pad { device, button })
            }
            (["Hat", hat, direction], Some(device)) => {
                let named = HatDirection::ALL.iter().find(|(_, name)| name == direction);
                let hat = hat.parse().ok();
                hat.zip(named).map(|(hat, (direction, _))| Self::Hat {
                    device,
                    hat,
                    direction: *direction,
                })
            }
            (["Axis", axis, end @ ("upper" | "lower")], Some(device)) => {
                let upper = *end == "upper";
                axis.parse().ok().map(|axis| Self::Axis { device, axis, upper })
            }
            _ => None,
        };
        button.ok_or_else(unknown)
    }
}

/// Marks the plus signs of a name. A plus sign without a mark parts the buttons of a chord.
fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('+', "\\+")
}

/// Takes away the marks of [`escape`]. Other backslashes stay.
fn unescape(name: &str) -> Arc<str> {
    let mut plain = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let marked = letters.next_if(|next| letter == '\\' && matches!(next, '\\' | '+'));
        plain.push(marked.unwrap_or(letter));
    }
    plain.into()
}

/// What the text of a shortcut of the desktop begins with.
const PORTAL: &str = "Desktop ";

impl Serialize for Button {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Button {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// One to three buttons that are held together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Chord(Vec<Button>);

impl Chord {
    /// The most buttons of a chord.
    pub const MAX: usize = 3;

    /// These buttons together. `None` if there are none, too many, or one twice.
    pub fn new(mut buttons: Vec<Button>) -> Option<Self> {
        // Modifiers stand first, as people say them.
        buttons.sort_by_key(|it| (!matches!(it, Button::Key(Usage(0xe0..=0xe7))), it.clone()));
        let distinct = buttons.windows(2).all(|pair| pair[0] != pair[1]);
        ((1..=Self::MAX).contains(&buttons.len()) && distinct).then_some(Self(buttons))
    }

    /// The buttons.
    pub fn buttons(&self) -> &[Button] {
        &self.0
    }

    /// Whether all buttons of `other` are among these, and this has more.
    pub fn contains(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && other.0.iter().all(|it| self.0.contains(it))
    }

    /// Whether it is made only of keys that type, so that it is pressed while text is typed.
    ///
    /// A lone Shift types, for capital letters. A chord with Ctrl, Alt or Meta is a command, and
    /// nobody holds F13 or a side button of the mouse while typing.
    pub fn types(&self) -> bool {
        self.0.iter().all(Button::types)
    }
}

impl From<Button> for Chord {
    fn from(button: Button) -> Self {
        Self(vec![button])
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, button) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" + ")?;
            }
            button.fmt(f)?;
        }
        Ok(())
    }
}

/// A text that is no chord.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChordError {
    /// One of its buttons is unknown.
    #[error(transparent)]
    Button(#[from] ButtonError),
    /// It has no buttons, too many, or one twice.
    #[error("a key is one to three different buttons, such as Left Ctrl + V")]
    Count,
}

impl FromStr for Chord {
    type Err = ChordError;

    fn from_str(text: &str) -> Result<Self, ChordError> {
        let buttons: Result<Vec<Button>, _> = text.split(" + ").map(str::parse).collect();
        Self::new(buttons?).ok_or(ChordError::Count)
    }
}

impl Serialize for Chord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_button_is_read_back_from_its_text() {
        let device = DeviceName("231d:0200 VKB Gladiator (left) #2".into());
        let mut all: Vec<Button> = (0..=0xff).map(|it| Button::Key(Usage(it))).collect();
        all.extend((1..=9).map(Button::Mouse));
        all.push(Button::Pad { device: device.clone(), button: 31 });
        for (direction, _) in HatDirection::ALL {
            all.push(Button::Hat { device: device.clone(), hat: 2, direction });
        }
        for upper in [true, false] {
            all.push(Button::Axis { device: device.clone(), axis: 6, upper });
        }
        all.push(Button::Portal("talk key".into()));
        for button in all {
            assert_eq!(button.to_string().parse(), Ok(button));
        }
    }

    #[test]
    fn texts_are_those_that_people_know() {
        for (usage, text) in
            [(0x19, "V"), (0xe0, "Left Ctrl"), (0x62, "Num 0"), (0x39, "Caps Lock")]
        {
            assert_eq!(Button::Key(Usage(usage)).to_string(), text);
        }
        let chord: Chord = "V + Left Ctrl".parse().expect("a chord");
        assert_eq!(chord.to_string(), "Left Ctrl + V");
        let error = "Left Contrl".parse::<Button>().expect_err("unknown").to_string();
        assert_eq!(error, "no button is called \"Left Contrl\"; did you mean \"Left Ctrl\"?");
        for bad in ["", "V + V", "A + B + C + D", "Mouse 900", "Hat 1 sideways (x)"] {
            assert!(bad.parse::<Chord>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lone_shift_talked_while_a_capital_letter_was_typed() {
        for text in ["Left Shift", "Right Shift", "Left Shift + V"] {
            assert!(text.parse::<Chord>().expect("a chord").types(), "{text}");
        }
        for text in ["Left Ctrl", "Right Alt", "Left Shift + F13", "Left Shift + Mouse 4"] {
            assert!(!text.parse::<Chord>().expect("a chord").types(), "{text}");
        }
    }

    #[test]
    fn a_plus_sign_in_the_name_of_a_device_parted_the_chord() {
        let device = DeviceName("Throttle + Stick \\+ (X52)".into());
        let chord = Chord::new(vec![Button::Pad { device, button: 3 }, Button::Mouse(4)]);
        let chord = chord.expect("two buttons");
        assert_eq!(chord.to_string(), r"Mouse 4 + Button 3 (Throttle \+ Stick \\\+ (X52))");
        assert_eq!(chord.to_string().parse(), Ok(chord));
        // Names without marks are read as before.
        let old: Button = r"Button 3 (A+B\c)".parse().expect("a button");
        assert_eq!(old.device(), Some(&DeviceName(r"A+B\c".into())));
    }

    fn button() -> impl Strategy<Value = Button> {
        // Names are made mostly of what parts buttons, names and chords.
        let name = || "([ +()\\\\]|.){0,12}".prop_map(|name| DeviceName(name.into()));
        let direction = prop::sample::select(HatDirection::ALL.map(|(it, _)| it).to_vec());
        prop_oneof![
            any::<u16>().prop_map(|usage| Button::Key(Usage(usage))),
            any::<u8>().prop_map(Button::Mouse),
            (name(), any::<u16>()).prop_map(|(device, button)| Button::Pad { device, button }),
            (name(), any::<u8>(), direction).prop_map(|(device, hat, direction)| Button::Hat {
                device,
                hat,
                direction
            }),
            (name(), any::<u8>(), any::<bool>()).prop_map(|(device, axis, upper)| Button::Axis {
                device,
                axis,
                upper
            }),
            "([ +()\\\\]|.){1,12}".prop_map(|id| Button::Portal(id.into())),
        ]
    }

    proptest! {
        #[test]
        fn every_chord_is_read_back_from_its_text(
            buttons in prop::collection::vec(button(), 1..4),
        ) {
            if let Some(chord) = Chord::new(buttons) {
                prop_assert_eq!(chord.to_string().parse(), Ok(chord));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(chord) = text.parse::<Chord>() {
                prop_assert_eq!(chord.to_string().parse(), Ok(chord));
            }
        }
    }

    #[test]
    fn only_keys_that_type_mean_something_else_in_a_text_field() {
        let types = |text: &str| text.parse::<Chord>().expect("a chord").types();
        assert!(types("V") && types("Left Shift + V") && types("Space"));
        for text in ["F13", "Mouse 4", "Left Ctrl + V", "Right Ctrl", "V + Mouse 4", "Caps Lock"] {
            assert!(!types(text), "{text}");
        }
    }
}
