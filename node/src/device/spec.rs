//! Parses what a person writes after `--input` and `--output`.

use std::{fmt, path::PathBuf, str::FromStr};

/// The source of the sound that others hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSpec {
    /// `mic`, or `mic:NAME`: a sound card, by name or the system's default one.
    Microphone(Option<String>),
    /// `file:PATH`, or `file:PATH?loop`: a WAV file in real time. Silence follows at its end, or
    /// the file starts again.
    File {
        /// The path of the file.
        path: PathBuf,
        /// Whether the file starts again at its end.
        looped: bool,
    },
    /// `silence`: silence, in real time.
    Silence,
}

/// The destination of the sound of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputSpec {
    /// `speaker`, or `speaker:NAME`: a sound card, by name or the system's default one.
    Speaker(Option<String>),
    /// `file:PATH`, or `file:PATH?stereo`: a 48 kHz WAV file in real time, silence included.
    File {
        /// The path of the file, whose former contents are lost.
        path: PathBuf,
        /// Whether the file gets both sides rather than their mean.
        stereo: bool,
    },
    /// `null`: sound is discarded, in real time.
    Null,
}

/// The text names no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text is none of the known forms of an input.
    #[error("`{0}` is no input: use mic, mic:NAME, file:PATH, file:PATH?loop or silence")]
    Input(String),
    /// The text is none of the known forms of an output.
    #[error("`{0}` is no output: use speaker, speaker:NAME, file:PATH, file:PATH?stereo or null")]
    Output(String),
    /// A colon announces a name or path that is missing.
    #[error("`{0}` ends at its colon: a name or path must follow")]
    Unfinished(String),
}

impl FromStr for InputSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match split(text)? {
            ("mic", name) => Ok(Self::Microphone(name.map(str::to_owned))),
            ("silence", None) => Ok(Self::Silence),
            ("file", Some(path)) => match path.strip_suffix("?loop") {
                Some("") => Err(SpecError::Unfinished(text.to_owned())),
                Some(path) => Ok(Self::File { path: path.into(), looped: true }),
                None => Ok(Self::File { path: path.into(), looped: false }),
            },
            _ => Err(SpecError::Input(text.to_owned())),
        }
    }
}

impl FromStr for OutputSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match split(text)? {
            ("speaker", name) => Ok(Self::Speaker(name.map(str::to_owned))),
            ("null", None) => Ok(Self::Null),
            ("file", Some(path)) => match path.strip_suffix("?stereo") {
                Some("") => Err(SpecError::Unfinished(text.to_owned())),
                Some(path) => Ok(Self::File { path: path.into(), stereo: true }),
                None => Ok(Self::File { path: path.into(), stereo: false }),
            },
            _ => Err(SpecError::Output(text.to_owned())),
        }
    }
}

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Microphone(None) => f.write_str("mic"),
            Self::Microphone(Some(name)) => write!(f, "mic:{name}"),
            Self::File { path, looped: false } => write!(f, "file:{}", path.display()),
            Self::File { path, looped: true } => write!(f, "file:{}?loop", path.display()),
            Self::Silence => f.write_str("silence"),
        }
    }
}

impl fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speaker(None) => f.write_str("speaker"),
            Self::Speaker(Some(name)) => write!(f, "speaker:{name}"),
            Self::File { path, stereo: false } => write!(f, "file:{}", path.display()),
            Self::File { path, stereo: true } => write!(f, "file:{}?stereo", path.display()),
            Self::Null => f.write_str("null"),
        }
    }
}

/// The word before the first colon, and the text after it if there is a colon. Paths keep their own
/// colons.
fn split(text: &str) -> Result<(&str, Option<&str>), SpecError> {
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, "")) => Err(SpecError::Unfinished(text.to_owned())),
        Some((word, rest)) => Ok((word, Some(rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_written() {
        for text in ["mic", "mic:USB: front", "file:a b.wav", "file:C:\\x.wav?loop", "silence"] {
            assert_eq!(text.parse::<InputSpec>().unwrap().to_string(), text);
        }
        for text in
            ["speaker", "speaker:Head set", "file:/tmp/x.wav", "file:a b.wav?stereo", "null"]
        {
            assert_eq!(text.parse::<OutputSpec>().unwrap().to_string(), text);
        }
        assert_eq!("file:/a?loop".parse(), Ok(InputSpec::File { path: "/a".into(), looped: true }));
        assert_eq!("mic:Desk".parse(), Ok(InputSpec::Microphone(Some("Desk".to_owned()))));
    }

    #[test]
    fn anything_else_gets_one_line_that_says_what_to_write() {
        for text in ["", "Mic", "null", "speaker", "file", "silence:x"] {
            let error = text.parse::<InputSpec>().unwrap_err();
            assert_eq!(error, SpecError::Input(text.to_owned()));
            assert!(error.to_string().contains("mic, mic:NAME, file:PATH"));
            assert_eq!(error.to_string().lines().count(), 1);
        }
        for text in ["", "mic", "silence", "file", "null:x"] {
            assert_eq!(text.parse::<OutputSpec>(), Err(SpecError::Output(text.to_owned())));
        }
        for text in ["mic:", "file:", "file:?loop"] {
            assert_eq!(text.parse::<InputSpec>(), Err(SpecError::Unfinished(text.to_owned())));
        }
        for text in ["file:", "file:?stereo"] {
            assert_eq!(text.parse::<OutputSpec>(), Err(SpecError::Unfinished(text.to_owned())));
        }
    }
}
