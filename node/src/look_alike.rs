//! Recognises names that look the same but are not.

/// Reduces a name to its skeleton. The skeleton lacks everything that a quick eye does not see:
/// capitals, marks above and below letters, spaces and signs, and the script of letters that look
/// alike. Two names with the same skeleton may pass for each other (Unicode Technical Standard 39,
/// section 4, for the letters that look like Latin ones).
pub(crate) fn skeleton(name: &str) -> String {
    let letters = name.chars().flat_map(plain).collect::<String>();
    if letters.is_empty() {
        return name.to_lowercase();
    }
    // These pairs look like one letter.
    letters.replace("rn", "m").replace("vv", "w")
}

/// The letter that `character` looks like. `None` for a mark, a space or a sign.
fn plain(character: char) -> Option<char> {
    let narrow = match character {
        // Full-width letters have a fixed distance from the plain ones.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0)?,
        _ => character,
    };
    let lower = narrow.to_lowercase().next()?;
    let alike = ALIKE.iter().find(|(_, others)| others.contains(lower));
    match alike {
        Some((letter, _)) => Some(*letter),
        None if is_mark(lower) || !lower.is_alphanumeric() => None,
        None => Some(lower),
    }
}

fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{489}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

/// A Latin letter, and the characters that look like it: letters with marks, Cyrillic, Greek,
/// digits.
const ALIKE: [(char, &str); 24] = [
    ('a', "àáâãäåāăąǎаαɑ@"),
    ('b', "ЬьƅвβḃƀБ"),
    ('c', "çćĉċčсϲ"),
    ('d', "ďđḋԁ"),
    ('e', "èéêëēĕėęěеєε3"),
    ('f', "ƒḟϝ"),
    ('g', "ĝğġģǧɡ"),
    ('h', "ĥħһнη"),
    ('j', "ĵјϳ"),
    ('k', "ķкκĸ"),
    ('l', "ĺļľŀłiìíîïĩīĭįıіїιӏ1|!ǀ"),
    ('m', "мṁ"),
    ('n', "ñńņňŋпոν"),
    ('o', "òóôõöøōŏőоοσ0ө"),
    ('p', "рρṗ"),
    ('q', "ԛ"),
    ('r', "ŕŗřгя"),
    ('s', "śŝşšșѕ5$"),
    ('t', "ţťŧțтτ7"),
    ('u', "ùúûüũūŭůűųυцս"),
    ('w', "ŵѡωԝ"),
    ('x', "хχ×"),
    ('y', "ýÿŷуγỳ"),
    ('z', "źżžʐζ2"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_has_one_skeleton() {
        for (one, other) in [
            ("Sable", "sable"),
            ("Sable", "S\u{430}bl\u{435}"),
            ("Sable", "Sa\u{301}ble"),
            ("Sable", "Sáble"),
            ("Sable", "Ｓａｂｌｅ"),
            ("Sable", "Sab1e"),
            ("Sable", "SabIe"),
            ("Sable", "Sable_"),
            ("Wren", "VVren"),
            ("Marnie", "Mamie"),
            ("Heron", "Негоп"),
        ] {
            assert_eq!(skeleton(one), skeleton(other), "{one} {other}");
        }
        for (one, other) in [("Sable", "Heron"), ("Alpha", "Bravo"), ("Osprey 1", "Osprey 4")] {
            assert_ne!(skeleton(one), skeleton(other), "{one} {other}");
        }
        // Names in other scripts stay different.
        assert_ne!(skeleton("日本"), skeleton("中国"));
        assert_ne!(skeleton("\u{1f3a7}"), skeleton("\u{1f426}"));
    }
}
