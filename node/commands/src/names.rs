//! Finding what a person means by a name, and saying so where it is not clear.

use hark_keys::ChannelId;

use crate::CommandError;

/// Something that can be meant.
pub(crate) struct Candidate<T> {
    /// What it is.
    pub(crate) id: T,
    /// What it is called.
    pub(crate) name: String,
    /// What names it and nothing else.
    pub(crate) unique: String,
}

/// The only candidate that `text` can mean: by its unique name, by its name, by its name in other
/// letters.
pub(crate) fn find<T: Copy + PartialEq>(
    what: (&'static str, &'static str),
    text: &str,
    candidates: &[Candidate<T>],
) -> Result<T, CommandError> {
    let (one, several) = what;
    let by = |matches: &dyn Fn(&Candidate<T>) -> bool| {
        candidates.iter().filter(|it| matches(it)).collect::<Vec<_>>()
    };
    let lower = text.to_lowercase();
    let tries = [
        by(&|it| it.unique == text),
        by(&|it| it.name == text),
        by(&|it| it.unique.to_lowercase() == lower),
        by(&|it| it.name.to_lowercase() == lower),
    ];
    match tries.iter().find(|found| !found.is_empty()).map(Vec::as_slice) {
        // One thing may have several names.
        Some([first, rest @ ..]) if rest.iter().all(|it| it.id == first.id) => Ok(first.id),
        Some(found) => Err(CommandError::Ambiguous {
            what: several,
            name: text.to_owned(),
            candidates: found.iter().map(|it| it.unique.clone()).collect(),
        }),
        None => Err(unknown(one, text, candidates.iter().map(|it| it.unique.as_str()))),
    }
}

/// The channel that `text` means, of those that are known by their paths: by its path, its path#id,
/// or the end of its path where that is the end of no other.
pub fn find_channel(text: &str, paths: &[(ChannelId, String)]) -> Result<ChannelId, CommandError> {
    if let Some(id) = by_id(text, paths.iter().map(|(id, _)| (*id, id.to_string()))) {
        return Ok(id);
    }
    // A whole path wins over the end of a longer one.
    let mut whole = paths.iter().filter(|(_, path)| path == text);
    if let (Some((id, _)), None) = (whole.next(), whole.next()) {
        return Ok(*id);
    }
    let mut candidates = Vec::new();
    for (id, path) in paths {
        let unique = unique_path(*id, path, paths);
        let ends = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
        for name in std::iter::once(path.as_str()).chain(ends) {
            candidates.push(Candidate { id: *id, name: name.to_owned(), unique: unique.clone() });
        }
    }
    find(("channel", "channels"), text, &candidates)
}

/// What names the channel with this path and no other: the path or, where others have it, path#id.
pub fn unique_path(id: ChannelId, path: &str, paths: &[(ChannelId, String)]) -> String {
    if paths.iter().filter(|(_, other)| other == path).count() == 1 {
        path.to_owned()
    } else {
        format!("{path}#{}", id.short())
    }
}

/// What a text that ends in `#` and the beginning of an id means.
pub fn by_id<T>(text: &str, known: impl IntoIterator<Item = (T, String)>) -> Option<T> {
    let (_, prefix) = text.rsplit_once('#')?;
    if prefix.len() < ID_PREFIX_MIN {
        return None;
    }
    let mut found = known.into_iter().filter(|(_, id)| id.starts_with(prefix));
    let (id, _) = found.next()?;
    found.next().is_none().then_some(id)
}

/// Nothing is called `name`; `known` is.
pub fn unknown<'a>(
    what: &'static str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> CommandError {
    let near = nearest(name, known).into_iter().map(str::to_owned).collect();
    CommandError::Unknown { what, name: name.to_owned(), near }
}

pub(crate) fn unknown_text(what: &str, name: &str, near: &[String]) -> String {
    match near {
        [] => format!("there is no {what} called {name:?}"),
        near => format!("there is no {what} called {name:?}; did you mean {}?", listed(near, "or")),
    }
}

/// Those of `known` that somebody may have meant by `name`, the nearest first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let close = |known: &'a str| {
        let lower = known.to_lowercase();
        let last = lower.rsplit('/').next().unwrap_or(&lower);
        let distance = distance(&name, &lower).min(distance(&name, last));
        let length = name.chars().count();
        let near = distance <= 1 + length / 4 && distance < length
            || (length >= 3 && lower.starts_with(&name));
        near.then_some((distance, known))
    };
    let mut near: Vec<_> = known.into_iter().filter_map(close).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().map(|(_, known)| known).take(SUGGESTIONS_MAX).collect()
}

/// `a, b and c`.
pub fn listed<S: AsRef<str>>(items: &[S], last: &str) -> String {
    match items {
        [] => "nobody".to_owned(),
        [only] => only.as_ref().to_owned(),
        [first @ .., end] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} {last} {}", first.join(", "), end.as_ref())
        }
    }
}

/// `1 thing`, `2 things`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Characters to insert, drop, exchange or swap to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                least = least.min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Characters of an id that are enough to mean it.
const ID_PREFIX_MIN: usize = 4;

/// Names to suggest; more would not be read.
const SUGGESTIONS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["Flight/Alpha", "Flight/Bravo", "Command", "Ground"];
        assert_eq!(nearest("Alhpa", known), ["Flight/Alpha"]);
        assert_eq!(nearest("comand", known), ["Command"]);
        assert_eq!(nearest("gro", known), ["Ground"]);
        assert_eq!(nearest("Medical", known), [""; 0]);
        assert_eq!(nearest("x", known), [""; 0]);
    }

    #[test]
    fn lists_read_as_people_write_them() {
        assert_eq!(listed(&["a"], "or"), "a");
        assert_eq!(listed(&["a", "b", "c"], "and"), "a, b and c");
        assert_eq!(counted(1, "change"), "1 change");
    }
}
