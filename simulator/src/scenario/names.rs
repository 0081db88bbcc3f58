//! Names in scenarios, and the errors about wrong ones.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

/// The place of a mistake in the text, and what is wrong.
pub(super) type Error = (Range<usize>, String);

/// The names of all machines and networks.
pub(super) struct Cast {
    pub(super) members: Vec<String>,
    pub(super) relays: Vec<String>,
    pub(super) networks: Vec<String>,
}

impl Cast {
    pub(super) fn member(&self, name: &Spanned<String>) -> Result<usize, Error> {
        let place = self.members.iter().position(|known| known == name.get_ref());
        place.ok_or_else(|| unknown("member", name, &self.members))
    }

    /// The place of a machine: members come first, then relays.
    pub(super) fn machine(&self, name: &Spanned<String>) -> Result<usize, Error> {
        match self.relays.iter().position(|known| known == name.get_ref()) {
            Some(place) => Ok(self.members.len() + place),
            None => self.member(name),
        }
    }

    /// The place of a rented relay among the relays.
    pub(super) fn relay(&self, name: &Spanned<String>) -> Result<usize, Error> {
        let place = self.relays.iter().position(|known| known == name.get_ref());
        place.ok_or_else(|| unknown("relay", name, &self.relays))
    }

    /// The number of machines.
    pub(super) fn machines(&self) -> usize {
        self.members.len() + self.relays.len()
    }

    /// The place of a machine (`Ok`), or of a network other than the internet (`Err`).
    pub(super) fn machine_or_network(
        &self,
        name: &Spanned<String>,
    ) -> Result<Result<usize, usize>, Error> {
        if let Some(place) = self.networks.iter().skip(1).position(|known| known == name.get_ref())
        {
            return Ok(Err(place + 1));
        }
        self.machine(name).map(Ok)
    }

    pub(super) fn network(&self, name: &Spanned<String>) -> Result<usize, Error> {
        let place = self.networks.iter().position(|known| known == name.get_ref());
        place.ok_or_else(|| unknown("network", name, &self.networks))
    }
}

/// Members by name, or all of them.
#[derive(Clone, Debug, Deserialize)]
pub struct ScenarioNames(Spanned<List>);

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum List {
    /// One name, or "all".
    One(String),
    Several(Vec<String>),
}

impl ScenarioNames {
    /// Their places among `members`; all places for "all". Unknown names are left out.
    pub fn places(&self, members: &[&str]) -> Vec<usize> {
        let wanted = |name: &str| self.list().iter().any(|known| known == name);
        let all = wanted(ALL);
        (0..members.len()).filter(|place| all || wanted(members[*place])).collect()
    }

    pub(super) fn check(&self, cast: &Cast) -> Result<Vec<usize>, Error> {
        self.resolve(cast, |name| cast.member(name))
    }

    /// The places of the machines of these members and relays.
    pub(super) fn machines(&self, cast: &Cast) -> Result<Vec<usize>, Error> {
        self.resolve(cast, |name| cast.machine(name))
    }

    fn resolve(
        &self,
        cast: &Cast,
        place: impl Fn(&Spanned<String>) -> Result<usize, Error>,
    ) -> Result<Vec<usize>, Error> {
        if self.list().iter().any(|name| name == ALL) {
            return Ok((0..cast.members.len()).collect());
        }
        self.list().iter().map(|name| place(&Spanned::new(self.0.span(), name.clone()))).collect()
    }

    fn list(&self) -> &[String] {
        match self.0.get_ref() {
            List::One(name) => std::slice::from_ref(name),
            List::Several(names) => names,
        }
    }
}

impl std::fmt::Display for ScenarioNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.list().join(", "))
    }
}

/// An error that says that there is no such thing, and what there is instead.
pub(super) fn unknown(kind: &str, name: &Spanned<String>, known: &[String]) -> Error {
    let text = match closest(name.get_ref(), known.iter().map(String::as_str)) {
        Some(close) => {
            format!("no {kind} is called {:?}: did you mean {close:?}?", name.get_ref())
        }
        None if known.is_empty() => format!("no {kind} is called {:?}", name.get_ref()),
        None => {
            format!("no {kind} is called {:?}: there is {}", name.get_ref(), known.join(", "))
        }
    };
    (name.span(), text)
}

/// The one of `known` that `word` most likely should have been.
pub(super) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (distance(word, known), known)).min()?;
    (near.0 <= 1 + word.chars().count() / 4).then_some(near.1)
}

/// How many characters must be inserted, deleted or changed to turn one into the other (Levenshtein
/// 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let change = diagonal + usize::from(a != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// The word that stands for all members.
const ALL: &str = "all";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["kestrel", "heron", "loss_in_bad"];
        assert_eq!(closest("kestral", known.into_iter()), Some("kestrel"));
        assert_eq!(closest("heorn", known.into_iter()), Some("heron"));
        assert_eq!(closest("osprey", known.into_iter()), None);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
