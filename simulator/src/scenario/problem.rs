//! What is wrong with a scenario, with line and column.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use super::names::closest;

/// Why a scenario cannot be played.
#[derive(Debug)]
pub struct Problem {
    path: PathBuf,
    place: Option<(usize, usize)>,
    text: String,
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Problem {
    /// A problem with the file as a whole.
    pub(super) fn whole(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), place: None, text }
    }

    /// A problem at a place in the file's text.
    pub(super) fn at(path: &Path, source: &str, span: Range<usize>, text: String) -> Self {
        let before = source.get(..span.start).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Self { path: path.to_owned(), place: Some((line, column)), text }
    }

    pub(super) fn from_toml(path: &Path, source: &str, error: &toml::de::Error) -> Self {
        let text = with_suggestion(error.message());
        match error.span() {
            Some(span) => Self::at(path, source, span, text),
            None => Self::whole(path, text),
        }
    }
}

/// serde lists everything that it knows. Most people want only the name that is nearly what they
/// wrote.
fn with_suggestion(message: &str) -> String {
    let message = message.lines().collect::<Vec<_>>().join(" ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(word), true) = (quoted.next(), message.starts_with("unknown ")) else {
        return message;
    };
    match closest(word, quoted) {
        Some(close) => {
            let kind = message.split('`').next().unwrap_or_default().trim();
            format!("{kind} `{word}`: did you mean `{close}`?")
        }
        None => message,
    }
}
