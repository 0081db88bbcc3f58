/// The most characters of a name that are shown. [PROTO-3.7]
pub const NAME_MAX_CHARACTERS: usize = 32;

/// The most bytes of a name's UTF-8. Longer names are cut at a character. [PROTO-3.7]
pub const NAME_MAX_BYTES: usize = 64;

/// The form in which a name that somebody chose is shown. Control characters, and those that change
/// the direction of the text around them, become `U+FFFD`. What is too long is cut. [PROTO-3.7]
pub fn clean_name(name: &str) -> String {
    let mut clean = String::new();
    for character in name.trim().chars().take(NAME_MAX_CHARACTERS) {
        let character =
            if upsets_text(character) { char::REPLACEMENT_CHARACTER } else { character };
        if clean.len() + character.len_utf8() > NAME_MAX_BYTES {
            break;
        }
        clean.push(character);
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// Line and paragraph separators, direction marks and invisible characters count as control
/// characters: with them one name could be made to look like another.
fn upsets_text(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// [PROTO-3.7]
    #[test]
    fn names_lose_what_would_upset_a_screen() {
        assert_eq!(clean_name("  Ann  "), "Ann");
        assert_eq!(clean_name("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(clean_name("nn\u{202e}a"), "nn\u{fffd}a");
        assert_eq!(clean_name(&"x".repeat(40)).len(), 32);
        // They have four bytes each: 16 of them are 64 bytes.
        assert_eq!(clean_name(&"\u{1f3a7}".repeat(40)).chars().count(), 16);
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_name(text in any::<String>()) {
            let name = clean_name(&text);
            prop_assert!(name.len() <= NAME_MAX_BYTES);
            prop_assert!(name.chars().count() <= NAME_MAX_CHARACTERS);
            prop_assert!(!name.chars().any(char::is_control));
            prop_assert_eq!(clean_name(&name), name);
        }
    }
}
