//! The scenarios that come with Hark, embedded in the program itself.

use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The names of all built-in scenarios, in alphabetical order.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|(name, _)| *name)
}

/// The name and the text of the scenario of this name; `None` if there is no such scenario.
pub fn scenario(name: &str) -> Option<(&'static str, &'static str)> {
    SCENARIOS.iter().find(|(known, _)| *known == name).copied()
}

/// The purpose that the scenario with this text states.
pub fn purpose(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("purpose")?.as_str()?.to_owned())
}

/// The text of the file that a built-in scenario names by this path.
pub(crate) fn file(path: &Path) -> Option<&'static str> {
    let found = NAMED.iter().find(|(known, _)| Path::new(known) == path);
    found.map(|(_, text)| *text)
}

/// The name that was probably meant, if there is no scenario of this name: the only one that begins
/// with it, or else one that differs in few letters.
pub fn nearest(name: &str) -> Option<&'static str> {
    let mut begin = names().filter(|known| !name.is_empty() && known.starts_with(name));
    if let (Some(only), None) = (begin.next(), begin.next()) {
        return Some(only);
    }
    let (distance, near) = names().map(|known| (distance(name, known), known)).min()?;
    (distance <= name.chars().count() / 3).then_some(near)
}

/// How many letters must be inserted, deleted or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<_> = other.chars().collect();
    let mut row: Vec<_> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut corner = line;
        row[0] = line + 1;
        for (column, known) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *known);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use super::*;

    #[test]
    fn every_file_that_a_scenario_names_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios");
        let mut found = 0;
        for (name, text) in SCENARIOS {
            let table: Table = text.parse().expect(name);
            let mut values = vec![Value::Table(table)];
            while let Some(value) = values.pop() {
                match value {
                    Value::Table(table) => values.extend(table.into_iter().map(|(_, it)| it)),
                    Value::Array(array) => values.extend(array),
                    Value::String(path) if folder.join(&path).is_file() => {
                        found += 1;
                        assert!(file(Path::new(&path)).is_some(), "{name}: {path}");
                    }
                    _ => {}
                }
            }
        }
        assert!(SCENARIOS.len() > 50 && found >= 3, "{found}");
    }

    #[test]
    fn a_name_that_was_mistyped_is_known() {
        assert_eq!(nearest("killed-mid-sentenc"), Some("killed-mid-sentence"));
        assert_eq!(nearest("hotelwifi"), Some("hotel-wifi"));
        assert_eq!(nearest("quite another thing"), None);
        assert_eq!(nearest(""), None);
    }
}
